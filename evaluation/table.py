# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Put several results.json side by side: `python -m evaluation.table A.json NAME=B.json --output X.md`.

With `--insert README.md --marker NAME` the table replaces what stands between the lines `<!-- NAME:begin -->` and
`<!-- NAME:end -->`, so that tables in documents are made, never typed.
"""

from pathlib import Path

from evaluation.comparison import paired_page
from evaluation.report import describe_run, make_table
from evaluation.results_html import results_html
from evaluation.runs import Run, TableError
from unime.files import write_atomically
from unime.options import CommandParser, run_command


def read_runs(sources: list[str]) -> list[Run]:
    """Runs of `PATH` or `LABEL=PATH`; without a label the name of the model's folder is used.

    Raises:
        TableError: If a file cannot be read or a label occurs twice.
    """
    runs: list[Run] = []
    for source in sources:
        label, _, place = source.rpartition("=")
        run = Run.read(place, label)
        if any(run.label == other.label for other in runs):
            raise TableError(f"two results are called {run.label!r}; tell them apart by LABEL=PATH")
        runs.append(run)
    return runs


def describe_runs(runs: list[Run]) -> str:
    """What the reader of a table must know of each column, as a list: training, seed, time and machine."""
    lines = [f"- {run.label}: {describe_run(run.content)}" for run in runs]
    return "\n".join(lines) + "\n\nOne run of each.\n"


def insert_between_markers(document: Path, marker: str, table: str) -> None:
    """Put a table between the lines `<!-- marker:begin -->` and `<!-- marker:end -->` of a Markdown document."""
    if not document.is_file():
        raise TableError(f"{document} does not exist")
    begin, end = f"<!-- {marker}:begin -->", f"<!-- {marker}:end -->"
    text = document.read_text(encoding="utf-8")
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(end) < text.index(begin):
        raise TableError(f"{document} must have the line {begin!r} and below it {end!r}, once each")
    before, rest = text.split(begin)
    write_atomically(document, f"{before}{begin}\n\n{table}\n{end}{rest.split(end)[1]}")


def main(argv: list[str] | None = None, prog: str = "python -m evaluation.table") -> None:
    """Entry point of the command line."""
    parser = CommandParser(prog=prog, description="Put several results.json side by side.")
    parser.add_argument("results", nargs="+", metavar="[LABEL=]RESULTS.json", help="results.json of evaluation.run")
    parser.add_argument("--output", metavar="X.md", help="write the table to this file")
    parser.add_argument("--html", metavar="X.html", help="write a page with charts, for the browser, to this file")
    parser.add_argument("--insert", metavar="DOCUMENT.md", help="put the table into this document (needs --marker)")
    parser.add_argument(
        "--paired",
        action="store_true",
        help="also say, with intervals, by how much the first run is better than each other",
    )
    parser.add_argument("--marker", metavar="NAME", help="name of the place in the document")
    arguments = parser.parse_args(argv)
    if (arguments.insert is None) != (arguments.marker is None):
        parser.error("--insert and --marker belong together")
    if arguments.output is None and arguments.insert is None and arguments.html is None and not arguments.paired:
        parser.error("give --output, --insert or --html")
    runs = read_runs(arguments.results)
    table = make_table(runs) + "\n" + describe_runs(runs)
    if arguments.paired:
        pages = "\n".join(paired_page(runs[0], other) for other in runs[1:])
        table += f"\n{pages}"
        print(pages)
    if arguments.insert is not None:
        insert_between_markers(Path(arguments.insert), arguments.marker, table)
        print(arguments.insert)
    if arguments.output is not None:
        write_atomically(Path(arguments.output), table)
        print(arguments.output)
    if arguments.html is not None:
        write_atomically(Path(arguments.html), results_html(runs))
        print(arguments.html)


if __name__ == "__main__":
    run_command(main)
