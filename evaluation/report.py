# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""From the results of single data sets to means and to a Markdown page.

Means are unweighted means over data sets, "overall" included, as in MMEB. (The UniME paper's own "Overall" column is
mostly the mean of the four kinds' means, which gives higher numbers; the two must not be compared.)
"""

import json
import os
import platform
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from evaluation.kinds import KINDS, mmeb_set
from evaluation.sugarcrepe import GROUPS, group_means

Result = dict[str, Any]
PACKAGES = ("unime", "torch", "transformers", "sentence-transformers", "numpy", "pillow", "faiss-cpu")


def to_json(content: Any) -> str:
    """JSON with indentation and a final newline."""
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def environment(device: torch.device) -> dict[str, Any]:
    """Versions and hardware of this run.

    Args:
        device: Where the model runs.

    Returns:
        Ready for JSON.
    """
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    hardware = {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": str(device),
    }
    if device.type == "cuda":
        hardware["accelerator"] = torch.cuda.get_device_name(device)
    return {"versions": versions, "hardware": hardware}


def read_training_record(folder: Path) -> dict[str, Any] | None:
    """How a model was trained, as the training commands leave it in the model's folder.

    Args:
        folder: Model folder.

    Returns:
        Stage, steps, seed, seconds and hardware; `None` for a model that was not trained here.
    """
    path = folder / "training_record.json"
    if not path.is_file():
        return None
    record = json.loads(path.read_text(encoding="utf-8"))
    names = ("stage", "steps", "seed", "world_size", "seconds_since_start_or_resumption", "hardware")
    return {name: record.get(name) for name in names}


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def summarise(results: Iterable[Result]) -> dict[str, Any]:
    """Means over data sets.

    Args:
        results: Results of single data sets.

    Returns:
        Up to four parts, each only if there are such data sets: "mmeb" (per kind, per MMEB split, overall),
        "captions", "sugarcrepe" (Replace, Swap, Add for each collection) and "sts".
    """
    by_form: dict[str, list[Result]] = {}
    for result in results:
        by_form.setdefault(result["form"], []).append(result)
    summary: dict[str, Any] = {}
    if "mmeb" in by_form:
        summary["mmeb"] = _summarise_mmeb(by_form["mmeb"])
    for form in ("captions", "sts"):
        if form in by_form:
            summary[form] = _mean_of(by_form[form])
    if "sugarcrepe" in by_form:
        summary["sugarcrepe"] = _summarise_sugarcrepe(by_form["sugarcrepe"])
    return summary


def _mean_of(results: list[Result]) -> dict[str, Any]:
    names = results[0]["headline"]
    return {
        "data_sets": len(results),
        "metrics": {name: float(np.mean([result["metrics"][name] for result in results])) for name in names},
        "chance": {name: float(np.mean([result["chance"][name] for result in results])) for name in names},
    }


def _summarise_mmeb(results: list[Result]) -> dict[str, Any]:
    groups = {kind: [result for result in results if result["kind"] == kind] for kind in KINDS}
    for split in ("in-distribution", "out-of-distribution"):
        groups[split] = [result for result in results if (mmeb_set(result["name"]) or ("", ""))[1] == split]
    groups["overall"] = results
    return {name: _mean_of(members) for name, members in groups.items() if members}


def _summarise_sugarcrepe(results: list[Result]) -> dict[str, Any]:
    collections: dict[str, dict[str, Any]] = {}
    for result in results:
        # One file per subset: the folder is the collection. One file with several subsets: the file is.
        alone = len(result["subsets"]) == 1 and result["name"].rpartition("/")[2].lower() in result["subsets"]
        collection = result["name"].rpartition("/")[0] if alone else result["name"]
        collections.setdefault(collection, {}).update(result["subsets"])
    return {name: {"subsets": subsets, "means": group_means(subsets)} for name, subsets in collections.items()}


def percent(value: float) -> str:
    """A fraction as a percentage with one decimal."""
    return f"{100 * value:.1f}"


def count_sets(number: int) -> str:
    """ "1 set", "2 sets"."""
    return f"{number} set{'' if number == 1 else 's'}"


def markdown_table(header: list[str], rows: list[list[str]], text_columns: int = 1) -> str:
    """A Markdown table.

    Args:
        header: Column names.
        rows: Cells.
        text_columns: How many columns from the left are aligned left; the others are numbers.

    Returns:
        The table with a final newline.
    """
    rule = ["---" if column < text_columns else "---:" for column in range(len(header))]
    lines = [header, rule, *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def results_page(report: dict[str, Any]) -> str:
    """The Markdown page of one run.

    Args:
        report: Content of results.json.

    Returns:
        The page.
    """
    hardware = report["hardware"]
    place = hardware.get("accelerator", f"{hardware['cpu']}, {hardware['threads']} threads")
    parts = [
        f"# Evaluation of {report['model']}\n",
        f"{report['created']}; {report['wall_seconds']:.0f} s on {place} ({hardware['device']}, {report['dtype']}); "
        f"{len(report['reused'])} of {len(report['data_sets'])} data sets taken from an earlier run.\n",
    ]
    by_form: dict[str, list[Result]] = {}
    for result in report["data_sets"]:
        by_form.setdefault(result["form"], []).append(result)
    summary = report["summary"]
    if "mmeb" in by_form:
        parts += ["## Ranking of each row's candidates\n", _mmeb_table(by_form["mmeb"], summary["mmeb"])]
        parts.append("Means are unweighted over data sets. A tie with the right candidate counts as wrong.\n")
    if "captions" in by_form:
        parts += ["## Caption retrieval over the whole set\n", _captions_table(by_form["captions"])]
    if "sugarcrepe" in by_form:
        parts += ["## SugarCrepe\n", _sugarcrepe_table(summary["sugarcrepe"])]
        parts.append("Accuracy in %; chance is 50. Replace, Swap and Add are unweighted means over their subsets.\n")
    if "sts" in by_form:
        rows = [
            [r["name"], str(r["rows"]), str(r["skipped"]["count"]), percent(r["metrics"]["spearman"])]
            for r in by_form["sts"]
        ]
        parts += ["## Sentence similarity\n", markdown_table(["data set", "rows", "skipped", "Spearman x 100"], rows)]
    return "\n".join(parts)


def _mmeb_table(results: list[Result], means: dict[str, Any]) -> str:
    rows = []
    for result in sorted(results, key=lambda result: (KINDS.index(result["kind"]), result["name"])):
        counts = result["candidates"]
        span = str(counts["max"]) if counts["min"] == counts["max"] else f"{counts['min']}-{counts['max']}"
        numbers = [result["chance"]["precision@1"], *result["metrics"].values()]
        rows.append(
            [result["name"], result["kind"], str(result["rows"]), str(result["skipped"]["count"]), span]
            + [percent(number) for number in numbers]
        )
    for name, mean in means.items():
        numbers = [percent(mean["chance"]["precision@1"]), f"**{percent(mean['metrics']['precision@1'])}**"]
        rows.append([f"**mean: {name}**", count_sets(mean["data_sets"]), "", "", "", *numbers, "", "", ""])
    header = ["data set", "kind", "rows", "skipped", "candidates", "chance", "P@1", "R@5", "R@10", "MRR"]
    return markdown_table(header, rows, text_columns=2)


def _captions_table(results: list[Result]) -> str:
    names = [f"{direction}_recall@{k}" for direction in ("t2i", "i2t") for k in (1, 5, 10)]
    rows = [
        [r["name"], str(r["images"]), str(r["captions"]), str(r["skipped"]["count"])]
        + [percent(r["metrics"][name]) for name in names]
        for r in results
    ]
    titles = [name.replace("_recall", " R") for name in names]
    return markdown_table(["data set", "images", "captions", "skipped", *titles], rows)


def _sugarcrepe_table(collections: dict[str, Any]) -> str:
    rows = []
    for name, collection in collections.items():
        for subset in (subset for group in GROUPS.values() for subset in group if subset in collection["subsets"]):
            entry = collection["subsets"][subset]
            rows.append([name, subset, str(entry["rows"]), percent(entry["accuracy"])])
        for group, mean in collection["means"].items():
            rows.append([name, f"**mean: {group}**", "", f"**{percent(mean)}**"])
    return markdown_table(["collection", "subset", "rows", "accuracy"], rows, text_columns=2)
