# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""From the results of single data sets to means and to Markdown: the page of one run, and several runs side by side.

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

from evaluation.averages import Draws, mean_figures, mean_title, suite_averages, suites_of
from evaluation.intervals import interval
from evaluation.kinds import KINDS, SUGARCREPE_GROUPS, mmeb_set

Result = dict[str, Any]
PACKAGES = ("unime", "torch", "transformers", "sentence-transformers", "numpy", "pillow", "faiss-cpu")
FORM_TITLES = {
    "mmeb": "Ranking of each row's candidates",
    "captions": "Caption retrieval over the whole set",
    "sugarcrepe": "SugarCrepe",
    "sts": "Sentence similarity",
    "pages": "Visual documents: a question ranks all pages",
}
ABSENT = "–"


class TableError(ValueError):
    """Results cannot be put side by side, or a document has no place for the table."""


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


def read_report(path: str | Path) -> dict[str, Any]:
    """The content of a results.json; TableError if it is none."""
    try:
        run = json.loads(Path(path).read_text(encoding="utf-8"))
        if not isinstance(run["model"], str) or not all("name" in result for result in run["data_sets"]):
            raise KeyError("name")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TableError(f"{path}: not a results.json of evaluation.run ({error!r})") from error
    return run


def label_of(run: dict[str, Any]) -> str:
    """What a run is called where nobody gives it a name: its model's folder."""
    return Path(run["model"].rpartition(":")[2]).name


def read_training_record(folder: Path) -> dict[str, Any] | None:
    """How a model was trained, as the training commands leave it in its folder; None if it was not trained here."""
    path = folder / "training_record.json"
    if not path.is_file():
        return None
    record = json.loads(path.read_text(encoding="utf-8"))
    names = ("stage", "steps", "seed", "world_size", "seconds_since_start_or_resumption", "hardware")
    return {name: record.get(name) for name in names}


def summarise(results: Iterable[Result], draws: Draws | None = None) -> dict[str, Any]:
    """Means over data sets: of each of the "suites"; over files that belong to none: "mmeb" per kind, per split and
    overall; "captions"; "sugarcrepe" by collection; "sts"."""
    results, draws = list(results), draws or {}
    suites = {suite.name: suite_averages(suite, results, draws) for suite in suites_of(results)}
    results = [result for result in results if "suite" not in result and "failed" not in result]
    by_form = {form: [result for result in results if result["form"] == form] for form in FORM_TITLES}
    summary: dict[str, Any] = {"suites": suites} if suites else {}
    if ranked := by_form["mmeb"]:
        groups = {kind: [result for result in ranked if result["kind"] == kind] for kind in KINDS}
        for split in ("in-distribution", "out-of-distribution"):
            groups[split] = [result for result in ranked if (mmeb_set(result["name"]) or ("", ""))[1] == split]
        groups["overall"] = ranked
        summary["mmeb"] = {name: _mean_of(members, draws) for name, members in groups.items() if members}
    for form in ("captions", "sts"):
        if by_form[form]:
            summary[form] = _mean_of(by_form[form], draws)
    for result in by_form["sugarcrepe"]:
        # One file per subset: the folder is the collection. One file with several subsets: the file is.
        alone = len(result["subsets"]) == 1 and result["name"].rpartition("/")[2].lower() in result["subsets"]
        collection = result["name"].rpartition("/")[0] if alone else result["name"]
        collections = summary.setdefault("sugarcrepe", {})
        collections.setdefault(collection, {"subsets": {}})["subsets"].update(result["subsets"])
        collections[collection].setdefault("draws", {}).update(draws.get(result["name"], {}))
    for collection in summary.get("sugarcrepe", {}).values():
        collection["means"] = group_means(collection["subsets"])
        drawn = collection.pop("draws")
        if drawn.keys() >= collection["subsets"].keys():
            by_draw = group_means({name: {"accuracy": drawn[name]} for name in collection["subsets"]})
            collection["intervals"] = {name: interval(values) for name, values in by_draw.items()}
    return summary


def _mean_of(results: list[Result], draws: Draws) -> dict[str, Any]:
    by_name = {result["name"]: result for result in results}
    figures = mean_figures([list(by_name)], by_name, draws)
    return {"data_sets": len(results)} | {name: values for name, values in figures.items() if values}


def group_means(subsets: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Unweighted means of SugarCrepe's groups whose subsets are all there, and their mean as "overall" if all are."""
    means = {
        group: np.mean([subsets[name]["accuracy"] for name in names], axis=0)
        for group, names in SUGARCREPE_GROUPS.items()
        if subsets.keys() >= set(names)
    }
    if len(means) == len(SUGARCREPE_GROUPS):
        means["overall"] = np.mean(list(means.values()), axis=0)
    return {name: mean.tolist() for name, mean in means.items()}


def mean_lines(summary: dict[str, Any]) -> list[Result]:
    """The means of a summary in the fields of a result, with their extent in words."""
    lines = [
        {"form": "mmeb", "name": f"mean: {group}", "extent": count_sets(mean["data_sets"]), **mean}
        for group, mean in summary.get("mmeb", {}).items()
    ]
    for suite, content in summary.get("suites", {}).items():
        for average in content["averages"]:
            extent = count_sets(average["data_sets"])
            if not average["complete"]:
                extent = f"incomplete: {average['data_sets']} of {count_sets(average['of'])}"
            name = mean_title(average["name"], suite)
            lines.append({**average, "name": name, "extent": extent})
    for collection, content in summary.get("sugarcrepe", {}).items():
        for group, value in content["means"].items():
            extent = "3 groups" if group == "overall" else f"{len(SUGARCREPE_GROUPS[group])} subsets"
            bounds = content.get("intervals", {}).get(group)
            more = {"intervals": {"accuracy": bounds}} if bounds else {}
            lines.append(_accuracy_line(f"{collection}, mean: {group}", value, extent=extent, **more))
    if summary.get("sts", {"data_sets": 0})["data_sets"] > 1:
        extent = count_sets(summary["sts"]["data_sets"])
        lines.append({"form": "sts", "name": "mean: sts", "extent": extent, **summary["sts"]})
    return lines


def _accuracy_line(name: str, value: float, **more: Any) -> Result:
    return {"form": "sugarcrepe", "name": name, "metrics": {"accuracy": value}, "chance": {"accuracy": 0.5}, **more}


def percent(value: float) -> str:
    """A fraction as a percentage with one decimal."""
    return f"{100 * value:.1f}"


def percent_with_interval(line: Result, metric: str) -> str:
    """A figure of a result or of a mean, and its 95 % interval where it has one."""
    bounds = line.get("intervals", {}).get(metric)
    value = percent(line["metrics"][metric])
    return value if bounds is None else f"{value} ({percent(bounds[0])} to {percent(bounds[1])})"


def count_sets(number: int) -> str:
    """ "1 set", "2 sets"."""
    return f"{number} set{'' if number == 1 else 's'}"


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


def markdown_table(header: list[str], rows: list[list[str]], text_columns: int = 1) -> str:
    """A Markdown table with a final newline; the first columns are aligned left, the others are numbers."""
    rule = ["---" if column < text_columns else "---:" for column in range(len(header))]
    lines = [header, rule, *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def _order(result: Result) -> tuple[int, int, str]:
    return *order_of(result), result["name"]


def order_of(result: Result) -> tuple[int, int]:
    """Where the form and the kind of a result stand in tables."""
    kind = KINDS.index(result["kind"]) if result.get("kind") in KINDS else 0
    return list(FORM_TITLES).index(result["form"]), kind


def results_page(report: dict[str, Any]) -> str:
    """The Markdown page of one run, from the content of its results.json."""
    hardware, summary = report["hardware"], report["summary"]
    place = hardware.get("accelerator", f"{hardware['cpu']}, {hardware['threads']} threads")
    parts = [
        f"# Evaluation of {report['model']}\n",
        f"{report['created']}; {report['wall_seconds']:.0f} s on {place} ({hardware['device']}, {report['dtype']}); "
        f"{len(report['reused'])} of {len(report['data_sets'])} data sets taken from an earlier run.\n",
        "All metrics in %, with 95 % intervals over rows. Means are unweighted over data sets or subsets. A tie with the "
        "right candidate counts as wrong.\n",
    ]
    done = [result for result in report["data_sets"] if "failed" not in result]
    for result in done:
        if (cut := result.get("cut", {})).get("inputs"):
            counts = f"{cut['inputs']} of {result['encoded']} inputs lost what is beyond {cut['tokens']} tokens"
            parts.append(f"{result['name']}: {counts}, which is all that the model reads.\n")
    lines = [result for result in sorted(done, key=_order) if result["form"] != "sugarcrepe" or "suite" in result]
    if failed := [[result["name"], result["failed"]] for result in report["data_sets"] if "failed" in result]:
        parts += ["## Failed\n", markdown_table(["data set", "reason"], failed, text_columns=2)]
    for collection, content in summary.get("sugarcrepe", {}).items():
        for subset, entry in content["subsets"].items():
            lines.append(_accuracy_line(f"{collection}, {subset}", entry["accuracy"], rows=entry["rows"]))
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


def check_comparable(runs: dict[str, dict[str, Any]]) -> None:
    """Refuse runs, by label, that measured a data set on different rows."""
    seen: dict[str, tuple[str, Result]] = {}
    for label, run in runs.items():
        for result in (result for result in run["data_sets"] if "failed" not in result):
            first, other = seen.setdefault(result["name"], (label, result))
            for key in ("form", "rows", "chance"):
                if result[key] != other[key]:
                    raise TableError(
                        f"{result['name']}: {key} is {other[key]} in {first!r} but {result[key]} in {label!r}; "
                        "evaluate both on the same rows"
                    )


def make_table(runs: dict[str, dict[str, Any]]) -> str:
    """Data sets and means as rows, runs by label as columns, in Markdown.

    Means are taken over the data sets that all runs have.

    Args:
        runs: Label to the content of a results.json.

    Raises:
        TableError: See `check_comparable`.
    """
    check_comparable(runs)
    columns = [
        {result["name"]: result for result in run["data_sets"] if "failed" not in result} for run in runs.values()
    ]
    failed = {result["name"]: result for run in runs.values() for result in run["data_sets"] if "failed" in result}
    every = {name: result for column in columns for name, result in column.items()}
    shared = [name for name in every if all(name in column for column in columns)]
    rows = []
    for result in sorted(every.values(), key=_order):
        name, kind = result["name"], f"{result['kind']}, " if result["form"] == "mmeb" else ""
        for metric in result["headline"]:
            values = [percent(column[name]["metrics"][metric]) if name in column else ABSENT for column in columns]
            chance = percent(result["chance"][metric])
            rows.append([name, kind + metric_title(metric), str(result["rows"]), chance, *values])
    # A mean over less than all of a suite says so, hence a set that one column lacks is one that failed for all.
    lacking = {name: {**every.get(name, {}), **failed.get(name, {}), "failed": ""} for name in (*every, *failed)}
    sides = [[column[name] if name in shared else entry for name, entry in lacking.items()] for column in columns]
    for means in zip(*(mean_lines(summarise(side)) for side in sides), strict=True):
        for metric, chance in means[0]["chance"].items():
            values = [f"**{percent(mean['metrics'][metric])}**" for mean in means]
            what = f"{metric_title(metric)}, {means[0]['extent']}"
            rows.append([f"**{means[0]['name']}**", what, "", percent(chance), *values])
    table = markdown_table(["data set", "metric", "rows", "chance", *runs], rows, text_columns=2)
    for result in failed.values():
        table += f"\n{result['name']} failed: {result['failed']}\n"
    if len(shared) < len(every):
        table += f"\nMeans are over the {len(shared)} of {len(every)} data sets that every column has.\n"
    return table
