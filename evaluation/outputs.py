# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""The way of a run's results: intervals and means once, then results.json, results.md, results.html and score files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evaluation.averages import Result, mean_lines, summarise
from evaluation.comparison import paired_differences, paired_page, published_page, with_published
from evaluation.dimensions import cut_runs
from evaluation.intervals import interval
from evaluation.report import make_table, percent_with_interval, results_page, to_json
from evaluation.results_html import results_html
from evaluation.runs import Run, TableError
from evaluation.score_files import write_score_files
from unime.files import write_atomically


def write_outputs(folder: Path, facts: dict[str, Any], results: Sequence[Result], compare: Sequence[str] = ()) -> Path:
    """Write all that a run leaves in its folder, where the rows of its data sets lie already.

    Args:
        folder: the output folder.
        facts: what results.json says before the figures: `model`, `dtype`, ...
        results: of each data set, in their order.
        compare: "published", and paths of other runs' results.json.

    Returns:
        Path of results.json.
    """
    write_score_files(folder / "vlm2vec", results)
    run = Run({**facts, "summary": {}, "data_sets": results}, folder)
    for name, drawn in run.draws.items():
        run.results[name]["intervals"] = {metric: interval(values) for metric, values in drawn.items()}
    run.content["summary"] = summarise(results, run.draws)
    cut = cut_runs(run)
    if cut:
        run.content["dimensions"] = {one.label: summarise(one.content["data_sets"]) for one in cut}
    path = folder / "results.json"
    write_atomically(path, to_json(run.content))
    page, pages = results_page(run), []
    if cut:
        page += (
            f"\n## The same vectors, cut to so many dimensions\n\n{make_table([*cut, Run(run.content, label='all')])}"
        )
    for other in compare:
        if other == "published":
            run.content["published"] = with_published(run)
            pages.append(published_page(run))
            continue
        try:
            earlier = Run.read(other, label=other)
            run.content.setdefault("paired", {})[other] = paired_differences(run, earlier)
            pages.append(paired_page(run, earlier))
        except TableError as error:
            pages.append(f"Not compared with {other}: {error}.\n")
    if compare:
        write_atomically(path, to_json(run.content))
        print("\n".join(pages), flush=True)
    write_atomically(path.with_suffix(".md"), "\n".join([page, *pages]))
    write_atomically(path.with_suffix(".html"), results_html([run]))
    for line in mean_lines(run.content["summary"]):
        shown = ", ".join(f"{name} {percent_with_interval(line, name)}" for name in line["metrics"])
        print(f"{line['name']}: {shown} ({line['extent']})", flush=True)
    return path
