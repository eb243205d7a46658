# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Figures in words and in Markdown: the page of one run, and several runs side by side."""

import json
import os
import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from evaluation.averages import Result, accuracy_line, mean_lines, summarise
from evaluation.kinds import KINDS
from evaluation.runs import Run, check_comparable
from unime.output_folder import RECORD_FILE

PACKAGES = ("unime", "torch", "transformers", "sentence-transformers", "numpy", "pillow", "faiss-cpu")
FORM_TITLES = {
    "mmeb": "Ranking of each row's candidates",
    "captions": "Caption retrieval over the whole set",
    "sugarcrepe": "SugarCrepe",
    "sts": "Sentence similarity",
    "pages": "Visual documents: a question ranks all pages",
}
ABSENT = "–"


def to_json(content: Any) -> str:
    """JSON with indentation and a final newline."""
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def environment(device: torch.device) -> dict[str, Any]:
    """Versions and hardware of this run, ready for JSON."""
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


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def read_training_record(folder: Path) -> dict[str, Any] | None:
    """How a model was trained, as the training commands leave it in its folder; None if it was not trained here."""
    path = folder / RECORD_FILE
    if not path.is_file():
        return None
    record = json.loads(path.read_text(encoding="utf-8"))
    names = ("stage", "steps", "seed", "world_size", "seconds_since_start_or_resumption", "hardware")
    return {name: record.get(name) for name in names}


def percent(value: float) -> str:
    """A fraction as a percentage with one decimal."""
    return f"{100 * value:.1f}"


def percent_with_interval(line: Result, metric: str) -> str:
    """A figure of a result or of a mean, and its 95 % interval where it has one."""
    bounds = line.get("intervals", {}).get(metric)
    value = percent(line["metrics"][metric])
    return value if bounds is None else f"{value} ({percent(bounds[0])} to {percent(bounds[1])})"


def metric_title(name: str) -> str:
    """A metric's name as tables show it."""
    for short, shown in (
        ("t2i_", "text to image "),
        ("i2t_", "image to text "),
        ("precision@", "P@"),
        ("recall@", "R@"),
        ("ndcg@", "NDCG@"),
        ("mrr", "MRR"),
        ("spearman", "Spearman x 100"),
    ):
        name = name.replace(short, shown)
    return name


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]], text_columns: int = 1) -> str:
    """A Markdown table with a final newline; the first columns are aligned left, the others are numbers."""
    rule = ["---" if column < text_columns else "---:" for column in range(len(header))]
    lines = [header, rule, *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def order_of(result: Result) -> tuple[int, int, str]:
    """Where a result stands in tables: by form, kind and name."""
    kind = KINDS.index(result["kind"]) if result.get("kind") in KINDS else 0
    return list(FORM_TITLES).index(result["form"]), kind, result["name"]


def results_page(run: Run) -> str:
    """The Markdown page of one run."""
    report, hardware, summary = run.content, run.content["hardware"], run.content["summary"]
    place = hardware.get("accelerator", f"{hardware['cpu']}, {hardware['threads']} threads")
    parts = [
        f"# Evaluation of {report['model']}\n",
        f"{report['created']}; {report['wall_seconds']:.0f} s on {place} ({hardware['device']}, {report['dtype']}); "
        f"{len(report['reused'])} of {len(report['data_sets'])} data sets taken from an earlier run.\n",
        "All metrics in %, with 95 % intervals over rows. Means are unweighted over data sets or subsets. A tie with the "
        "right candidate counts as wrong.\n",
    ]
    for result in run.results.values():
        if (cut := result.get("cut", {})).get("inputs"):
            counts = f"{cut['inputs']} of {result['encoded']} inputs lost what is beyond {cut['tokens']} tokens"
            parts.append(f"{result['name']}: {counts}, which is all that the model reads.\n")
    if run.failed:
        parts += ["## Failed\n", markdown_table(["data set", "reason"], list(run.failed.items()), text_columns=2)]
    lines = sorted(run.results.values(), key=order_of)
    lines = [result for result in lines if result["form"] != "sugarcrepe" or "suite" in result]
    for collection, content in summary.get("sugarcrepe", {}).items():
        for subset, entry in content["subsets"].items():
            lines.append(accuracy_line(f"{collection}, {subset}", entry["accuracy"], rows=entry["rows"]))
    lines += mean_lines(summary)
    for form, title in FORM_TITLES.items():
        members = [line for line in lines if line["form"] == form]
        if members:
            metrics = list(members[0]["metrics"])
            header = ["data set", "kind", "rows", "skipped", "candidates", "chance", *map(metric_title, metrics)]
            rows = [_page_cells(line, metrics) for line in members]
            parts += [f"## {title}\n", markdown_table(header, rows, text_columns=2)]
    return "\n".join(parts)


def _page_cells(line: Result, metrics: list[str]) -> list[str]:
    counts, skipped = line.get("candidates"), line.get("skipped")
    if counts is None:
        span = f"{line['images']} images, {line['captions']} captions" if "images" in line else ""
    else:
        span = str(counts["max"]) if counts["min"] == counts["max"] else f"{counts['min']}-{counts['max']}"
    cells = [
        line["name"],
        line.get("kind", line.get("extent", "")),
        str(line.get("rows", "")),
        "" if skipped is None else str(skipped["count"]),
        span,
        " / ".join(map(percent, line["chance"].values())),
        *(percent_with_interval(line, name) if name in line["metrics"] else "" for name in metrics),
    ]
    return [f"**{cell}**" if cell and "extent" in line else cell for cell in cells]


def describe_run(run: dict[str, Any]) -> str:
    """How a model was trained and evaluated: steps, seed, time and machine, from the content of a results.json."""
    machine, training = run["hardware"], run.get("training")
    trained = "not trained here"
    if training:
        trained = f"{training['stage']}, {training['steps']} steps, seed {training['seed']}"
        if training["seconds_since_start_or_resumption"] is not None:
            trained += f", {training['seconds_since_start_or_resumption']:.0f} s of training"
    return (
        f"{trained}; evaluated in {run['dtype']} on {machine['device']} "
        f"({machine['cpu']}, {machine['cores']} cores), {run['created'][:10]}"
    )


def make_table(runs: Sequence[Run]) -> str:
    """Data sets and means as rows, runs as columns, in Markdown; means are taken over the data sets that all runs have.

    Raises:
        TableError: See `check_comparable`.
    """
    check_comparable(runs)
    columns = [run.results for run in runs]
    failed = {name: reason for run in runs for name, reason in run.failed.items()}
    every = {name: result for column in columns for name, result in column.items()}
    shared = [name for name in every if all(name in column for column in columns)]
    rows = []
    for result in sorted(every.values(), key=order_of):
        name, kind = result["name"], f"{result['kind']}, " if result["form"] == "mmeb" else ""
        for metric in result["headline"]:
            values = [percent(column[name]["metrics"][metric]) if name in column else ABSENT for column in columns]
            chance = percent(result["chance"][metric])
            rows.append([name, kind + metric_title(metric), str(result["rows"]), chance, *values])
    # A mean over less than all of a suite says so, hence a set that one column lacks is one that failed for all.
    entries = {entry["name"]: entry for run in runs for entry in run.content["data_sets"] if "failed" in entry}
    lacking = {name: {**every.get(name, {}), **entries.get(name, {}), "failed": ""} for name in (*every, *failed)}
    sides = [[column[name] if name in shared else entry for name, entry in lacking.items()] for column in columns]
    for means in zip(*(mean_lines(summarise(side)) for side in sides), strict=True):
        for metric, chance in means[0]["chance"].items():
            values = [f"**{percent(mean['metrics'][metric])}**" for mean in means]
            what = f"{metric_title(metric)}, {means[0]['extent']}"
            rows.append([f"**{means[0]['name']}**", what, "", percent(chance), *values])
    header = ["data set", "metric", "rows", "chance", *(run.label for run in runs)]
    table = markdown_table(header, rows, text_columns=2)
    for name, reason in failed.items():
        table += f"\n{name} failed: {reason}\n"
    if len(shared) < len(every):
        table += f"\nMeans are over the {len(shared)} of {len(every)} data sets that every column has.\n"
    return table
