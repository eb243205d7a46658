# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Put several results.json side by side: `python -m evaluation.table A.json NAME=B.json --output X.md`.

With `--insert README.md --marker NAME` the table replaces what stands between the lines `<!-- NAME:begin -->` and
`<!-- NAME:end -->`, so that tables in documents are made, never typed.
"""

import json
from pathlib import Path
from typing import Any

from evaluation.kinds import KINDS
from evaluation.report import Result, count_sets, markdown_table, percent, summarise
from evaluation.sugarcrepe import GROUPS
from unime.files import write_atomically
from unime.options import CommandParser, run_command

METRIC_TITLES = {
    "precision@1": "P@1",
    "spearman": "Spearman x 100",
    "accuracy": "accuracy",
    "t2i_recall@1": "text to image R@1",
    "i2t_recall@1": "image to text R@1",
}
FORM_ORDER = ("mmeb", "captions", "sugarcrepe", "sts")
ABSENT = "–"


class TableError(ValueError):
    """Results cannot be put side by side, or a document has no place for the table."""


def read_columns(sources: list[str]) -> dict[str, dict[str, Result]]:
    """Read results files.

    Args:
        sources: `PATH` or `LABEL=PATH`; without a label the name of the model's folder is used.

    Returns:
        Label to (data set name to result).

    Raises:
        TableError: If a file cannot be read or a label occurs twice.
    """
    columns: dict[str, dict[str, Result]] = {}
    for source in sources:
        label, separator, place = source.rpartition("=")
        try:
            content = json.loads(Path(place).read_text(encoding="utf-8"))
            label = label if separator else _model_label(content)
            column = {result["name"]: result for result in content["data_sets"]}
        except (OSError, json.JSONDecodeError, KeyError, TypeError) as error:
            raise TableError(f"{place}: not a results.json of evaluation.run ({error!r})") from error
        if label in columns:
            raise TableError(f"two results are called {label!r}; tell them apart by LABEL=PATH")
        columns[label] = column
    return columns


def _model_label(content: dict[str, Any]) -> str:
    """Name of a column without a label: that of the model's folder."""
    return Path(content["model"].rpartition(":")[2]).name


def describe_runs(sources: list[str]) -> str:
    """What the reader of a table must know of each column: training, seed, time and machine.

    Args:
        sources: As for `read_columns`.

    Returns:
        A Markdown list.
    """
    lines = []
    for source in sources:
        label, separator, place = source.rpartition("=")
        content = json.loads(Path(place).read_text(encoding="utf-8"))
        machine, training = content["hardware"], content.get("training")
        trained = "not trained here"
        if training:
            trained = f"{training['stage']}, {training['steps']} steps, seed {training['seed']}"
            if training["seconds_since_start_or_resumption"] is not None:
                trained += f", {training['seconds_since_start_or_resumption']:.0f} s of training"
        lines.append(
            f"- {label if separator else _model_label(content)}: {trained}; evaluated in {content['dtype']} on {machine['device']} "
            f"({machine['cpu']}, {machine['cores']} cores), {content['created'][:10]}"
        )
    return "\n".join(lines) + "\n\nOne run of each.\n"


def check_comparable(columns: dict[str, dict[str, Result]]) -> None:
    """Refuse results of one data set that were measured on different rows.

    Args:
        columns: As `read_columns` gives them.

    Raises:
        TableError: Names data set and both columns.
    """
    seen: dict[str, tuple[str, Result]] = {}
    for label, column in columns.items():
        for name, result in column.items():
            first, other = seen.setdefault(name, (label, result))
            for key in ("form", "rows", "chance"):
                if result[key] != other[key]:
                    raise TableError(
                        f"{name}: {key} is {other[key]} in {first!r} but {result[key]} in {label!r}; "
                        "evaluate both on the same rows"
                    )


def make_table(columns: dict[str, dict[str, Result]]) -> str:
    """Build the table: data sets and means as rows, models as columns.

    Args:
        columns: As `read_columns` gives them.

    Returns:
        Markdown. Means are taken over the data sets that all columns have.

    Raises:
        TableError: See `check_comparable`.
    """
    check_comparable(columns)
    every = {name: result for column in columns.values() for name, result in column.items()}
    shared = [name for name in every if all(name in column for column in columns.values())]
    names = sorted(every, key=lambda name: _order(every[name]))
    rows = []
    for name in names:
        for metric in every[name]["headline"]:
            values = [column[name]["metrics"][metric] if name in column else None for column in columns.values()]
            rows.append(
                [name, _metric_title(every[name], metric), str(every[name]["rows"])]
                + [percent(every[name]["chance"][metric])]
                + [ABSENT if value is None else percent(value) for value in values]
            )
    rows += _mean_rows([summarise(column[name] for name in shared) for column in columns.values()])
    table = markdown_table(["data set", "metric", "rows", "chance", *columns], rows, text_columns=2)
    if len(shared) < len(every):
        table += f"\nMeans are over the {len(shared)} of {len(every)} data sets that every column has.\n"
    return table


def _order(result: Result) -> tuple[int, int, str]:
    kind = KINDS.index(result["kind"]) if result["kind"] in KINDS else 0
    return FORM_ORDER.index(result["form"]), kind, result["name"]


def _metric_title(result: Result, metric: str) -> str:
    title = METRIC_TITLES[metric]
    return f"{result['kind']}, {title}" if result["form"] == "mmeb" else title


def _mean_rows(summaries: list[dict[str, Any]]) -> list[list[str]]:
    first = summaries[0]
    rows = []
    for group, mean in first.get("mmeb", {}).items():
        cells = [f"**{percent(summary['mmeb'][group]['metrics']['precision@1'])}**" for summary in summaries]
        chance = percent(mean["chance"]["precision@1"])
        rows.append([f"**mean: {group}**", f"P@1, {count_sets(mean['data_sets'])}", "", chance, *cells])
    for collection, content in first.get("sugarcrepe", {}).items():
        for group in content["means"]:
            cells = [f"**{percent(summary['sugarcrepe'][collection]['means'][group])}**" for summary in summaries]
            subsets = "3 groups" if group == "overall" else f"{len(GROUPS[group])} subsets"
            rows.append([f"**{collection}, mean: {group}**", f"accuracy, {subsets}", "", "50.0", *cells])
    if first.get("sts", {"data_sets": 0})["data_sets"] > 1:
        cells = [f"**{percent(summary['sts']['metrics']['spearman'])}**" for summary in summaries]
        rows.append(["**mean: sts**", f"Spearman x 100, {count_sets(first['sts']['data_sets'])}", "", "0.0", *cells])
    return rows


def insert_between_markers(document: Path, marker: str, table: str) -> None:
    """Put a table between two marker lines of a document.

    Args:
        document: A Markdown file that has `<!-- marker:begin -->` and, after it, `<!-- marker:end -->`, once each.
        marker: Name of the place.
        table: What goes between them.

    Raises:
        TableError: If the document does not exist or its markers are missing, doubled or in the wrong order.
    """
    if not document.is_file():
        raise TableError(f"{document} does not exist")
    begin, end = f"<!-- {marker}:begin -->", f"<!-- {marker}:end -->"
    text = document.read_text(encoding="utf-8")
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(end) < text.index(begin):
        raise TableError(f"{document} must have the line {begin!r} and below it {end!r}, once each")
    before, rest = text.split(begin)
    write_atomically(document, f"{before}{begin}\n\n{table}\n{end}{rest.split(end)[1]}")


def main(argv: list[str] | None = None, prog: str = "python -m evaluation.table") -> None:
    """Entry point of the command line.

    Args:
        argv: Command line without the program. Default: that of this process.
    """
    parser = CommandParser(prog=prog, description="Put several results.json side by side.")
    parser.add_argument("results", nargs="+", metavar="[LABEL=]RESULTS.json", help="results.json of evaluation.run")
    parser.add_argument("--output", metavar="X.md", help="write the table to this file")
    parser.add_argument("--insert", metavar="DOCUMENT.md", help="put the table into this document (needs --marker)")
    parser.add_argument("--marker", metavar="NAME", help="name of the place in the document")
    arguments = parser.parse_args(argv)
    if (arguments.insert is None) != (arguments.marker is None):
        parser.error("--insert and --marker belong together")
    if arguments.output is None and arguments.insert is None:
        parser.error("give --output, --insert or both")
    table = make_table(read_columns(arguments.results)) + "\n" + describe_runs(arguments.results)
    if arguments.insert is not None:
        insert_between_markers(Path(arguments.insert), arguments.marker, table)
        print(arguments.insert)
    if arguments.output is not None:
        write_atomically(Path(arguments.output), table)
        print(arguments.output)


if __name__ == "__main__":
    run_command(main)
