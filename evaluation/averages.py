# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""From the results of single data sets to means, each under its own name: of suites, and of files that belong to none.

Means are unweighted means over data sets, "overall" included, as in MMEB. (The UniME paper's own "Overall" column is
mostly the mean of the four kinds' means, which gives higher numbers; the two must not be compared.)
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from evaluation.intervals import interval, mean_of_sets
from evaluation.kinds import KINDS, SUGARCREPE_GROUPS, mmeb_set
from evaluation.suites import FORMS, SUITES, Benchmark, Suite, load_suites

Result = dict[str, Any]
Draws = Mapping[str, Mapping[str, np.ndarray]]  # of a data set and a metric, the resampled figure


def groups_of(suite: Suite) -> dict[str, list[list[str]]]:
    """Averages by name: means over the lists of means over each list, of results by their names."""
    sets = list(suite.benchmarks)
    tasks = list(dict.fromkeys(one.task for one in sets))
    splits = [split for split in dict.fromkeys(one.split for one in sets) if split]
    by_task = {task: [one for one in sets if one.task == task] for task in tasks}
    groups = {task: [members] for task, members in by_task.items()} if len(tasks) > 1 else {}
    groups |= {split: [[one for one in sets if one.split == split]] for split in splits}
    groups |= {f"mean of the {len(sets)} data sets" if len(sets) > 1 else "the only data set": [sets]}
    if len(tasks) > 1:
        word = "meta-tasks" if sets[0].form == "mmeb" else "tasks"
        groups |= {f"mean of the {len(tasks)} {word}": list(by_task.values())}
    return {name: [[one.result_name for one in members] for members in group] for name, group in groups.items()}


def mean_title(average: str, suite: str = "") -> str:
    """What tables call an average."""
    title = average if average.startswith("mean") else f"mean: {average}"
    return f"{suite}, {title}" if suite else title


def suites_of(results: Sequence[Result]) -> list[Suite]:
    """The suites that results belong to. One of the package has all its sets, whatever was run of it; of one's own each set has
    a result, that of one that failed says so."""
    members: dict[str, list[Benchmark]] = {}
    for result in results:
        if "suite" in result:
            name = result["name"].removeprefix(f"{result['suite']}/")
            headline = result.get("headline", [""])[0]
            benchmark = Benchmark(result["suite"], name, result["form"], headline, result["kind"], result["split"])
            members.setdefault(result["suite"], []).append(benchmark)
    suites = {name: Suite(name, name, tuple(benchmarks)) for name, benchmarks in members.items()}
    for known in load_suites([name for name in suites if name in SUITES]):
        if {one.name for one in members[known.name]} <= {one.name for one in known.benchmarks}:
            suites[known.name] = known
    return list(suites.values())


def suite_averages(suite: Suite, results: Sequence[Result], draws: Draws) -> dict[str, Any]:
    """The averages of a suite, ready for JSON.

    An average over less than all rows of all its sets is not `complete`.

    Args:
        suite: the suite.
        results: of its sets, those that failed included, and maybe of others.
        draws: see `Draws`; averages of sets that are not in it get no interval.
    """
    there = {result["name"]: result for result in results if "failed" not in result}
    averages = []
    for name, names in groups_of(suite).items():
        found = [kept for group in names if (kept := [member for member in group if member in there])]
        members = [there[member] for group in found for member in group]
        if not members:
            continue
        average = {
            "name": name,
            "data_sets": len(members),
            "of": sum(map(len, names)),
            "complete": len(members) == sum(map(len, names)) and not any("partial" in member for member in members),
        }
        figures = mean_figures(found, there, draws)
        if figures["metrics"]:
            averages.append({**average, "form": members[0]["form"], **figures})
    return {
        "form": suite.benchmarks[0].form,
        "complete": all(average["complete"] for average in averages) and bool(averages),
        "missing": [one.name for one in suite.benchmarks if one.result_name not in there],
        "averages": averages,
    }


def mean_figures(
    groups: Sequence[Sequence[str]], results: Mapping[str, Result], draws: Draws
) -> dict[str, dict[str, Any]]:
    """`metrics`, `chance` and `intervals` by headline metric: means over the groups of means over each, by name."""
    found: dict[str, dict[str, Any]] = {"metrics": {}, "chance": {}, "intervals": {}}
    for metric in shared_headline([results[member] for group in groups for member in group]):
        for field in ("metrics", "chance"):
            means = [np.mean([results[member][field][metric] for member in group]) for group in groups]
            found[field][metric] = float(np.mean(means))
        drawn = average_draws(groups, metric, draws)
        if drawn is not None:
            found["intervals"][metric] = interval(drawn)
    return found


def shared_headline(results: Sequence[Result]) -> list[str]:
    """The headline metrics that all results have: sets of one's own suite may be of several forms."""
    return [metric for metric in results[0]["headline"] if all(metric in other["headline"] for other in results)]


def average_draws(groups: Sequence[Sequence[str]], metric: str, draws: Draws) -> np.ndarray | None:
    """An average under resampling of the rows of all its sets; None where one of them was not resampled."""
    if any(metric not in draws.get(member, {}) for group in groups for member in group):
        return None
    return mean_of_sets([mean_of_sets([draws[member][metric] for member in group]) for group in groups])


def summarise(results: Iterable[Result], draws: Draws | None = None) -> dict[str, Any]:
    """Means over data sets: of each of the "suites"; over files that belong to none: "mmeb" per kind, per split and
    overall; "captions"; "sugarcrepe" by collection; "sts"."""
    results, draws = list(results), draws or {}
    suites = {suite.name: suite_averages(suite, results, draws) for suite in suites_of(results)}
    results = [result for result in results if "suite" not in result and "failed" not in result]
    by_form = {form: [result for result in results if result["form"] == form] for form in FORMS}
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


def accuracy_line(name: str, value: float, **more: Any) -> Result:
    """An accuracy on SugarCrepe in the fields of a result."""
    return {"form": "sugarcrepe", "name": name, "metrics": {"accuracy": value}, "chance": {"accuracy": 0.5}, **more}


def mean_lines(summary: dict[str, Any]) -> list[Result]:
    """The means of a summary in the fields of a result, with their `extent` in words; `over_all` sets of their form or not."""
    lines = [
        {"form": "mmeb", "name": mean_title(group), "extent": count_sets(mean["data_sets"]), **mean}
        | {"over_all": group == "overall"}
        for group, mean in summary.get("mmeb", {}).items()
    ]
    for suite, content in summary.get("suites", {}).items():
        for average in content["averages"]:
            extent = count_sets(average["data_sets"])
            if not average["complete"]:
                extent = f"incomplete: {average['data_sets']} of {count_sets(average['of'])}"
            line = {"form": content["form"], **average, "name": mean_title(average["name"], suite), "extent": extent}
            lines.append(line | {"over_all": average["name"].startswith("mean of")})
    for collection, content in summary.get("sugarcrepe", {}).items():
        for group, value in content["means"].items():
            extent = "3 groups" if group == "overall" else f"{len(SUGARCREPE_GROUPS[group])} subsets"
            name = f"{collection}, {mean_title(group)}"
            bounds = content.get("intervals", {}).get(group)
            more = {"intervals": {"accuracy": bounds}} if bounds else {}
            lines.append(accuracy_line(name, value, extent=extent, over_all=group == "overall", **more))
    if summary.get("sts", {"data_sets": 0})["data_sets"] > 1:
        extent = count_sets(summary["sts"]["data_sets"])
        lines.append({"form": "sts", "name": "mean: sts", "extent": extent, "over_all": True, **summary["sts"]})
    return lines


def count_sets(number: int) -> str:
    """ "1 set", "2 sets"."""
    return f"{number} set{'' if number == 1 else 's'}"
