# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Averages of suites: by task, by distribution, over all sets, and over the tasks, each under its own name."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from evaluation.intervals import interval, mean_of_sets
from evaluation.suites import Benchmark, Suite

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
    """The suites that results belong to; each of their sets has a result, that of one that failed says so."""
    members: dict[str, list[Benchmark]] = {}
    for result in results:
        if "suite" in result:
            name = result["name"].removeprefix(f"{result['suite']}/")
            headline = result.get("headline", [""])[0]
            benchmark = Benchmark(result["suite"], name, result["form"], headline, result["kind"], result["split"])
            members.setdefault(result["suite"], []).append(benchmark)
    return [Suite(name, name, tuple(benchmarks)) for name, benchmarks in members.items()]


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
