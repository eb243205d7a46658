# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""The table of the README, from the result files of the benchmarks.

python -m benchmarks.table --document README.md
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from evaluation.report import markdown_table
from evaluation.table import insert_between_markers
from unime.options import parse_dataclasses

RESULTS = Path(__file__).resolve().parent / "results"
HEADER = ["what", "compared with", "time", "memory"]
MARKER = "benchmarks"

# By result file: what was measured, and the other ways by their names in the file.
STEPS = {
    "stage1_step": (
        "a step of stage 1, {batch_size} texts",
        {
            "straightforward": "teacher in the loop, causal LM with all states, one padded batch",
            "sentence_transformers": "sentence-transformers' DistillKLDivLoss",
        },
    ),
    "stage2_step": (
        "a step of stage 2, {batch_size} rows",
        {
            "vlm2vec": "gradient cache as in VLM2Vec: causal LM with all states, every row embedded",
            "sentence_transformers": "sentence-transformers' CachedMultipleNegativesRankingLoss",
        },
    ),
}


@dataclass
class TableArguments:
    """Where from and where to."""

    document: str = field(default="README.md", metadata={"help": "Markdown file that gets the table."})
    results: str = field(default=str(RESULTS), metadata={"help": "Folder of the result files."})


def _ratio(value: float) -> str:
    return f"{value:.1f} x"


def make_table(folder: Path) -> str:
    """The table, with a line on the machine of each measurement.

    Args:
        folder: Of the result files.

    Raises:
        FileNotFoundError: A result file is missing.
    """
    rows, machines = [], []

    def read(name: str, title: str) -> dict:
        result = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        hardware = result["hardware"]
        machines.append(
            f"- {title.format_map(result['settings'])}: `benchmarks.{name}`; {hardware['cpu']}, {hardware['threads']} thread(s), "
            f"{hardware['device']}; torch {result['versions']['torch']}"
        )
        return result

    title = "embedding {batch_size} texts of {length} tokens, vocabulary {vocab_size}"
    result = read("embedding_forward", title)
    ratios = result["causal_lm_over_embedding"]
    rows.append(
        [title.format_map(result["settings"]), "causal LM", _ratio(ratios["seconds"]), _ratio(ratios["memory"])]
    )
    for name, (title, others) in STEPS.items():
        result = read(name, title)
        for way, label in others.items():
            ratios = result["over_ours"][way]
            rows.append(
                [title.format_map(result["settings"]), label, _ratio(ratios["seconds"]), _ratio(ratios["memory"])]
            )
    title = "exact search, {queries} x {candidates} vectors of {dimension}"
    result = read("mining_search", title)
    for way, share in result["share_of_the_speed_of_the_product"].items():
        if way != "ours":
            ratio = result["share_of_the_speed_of_the_product"]["ours"] / share
            rows.append([title.format_map(result["settings"]), way.replace("_", "-"), _ratio(ratio), ""])
    share = 100 * result["share_of_the_speed_of_the_product"]["ours"]
    machines[-1] += f"; {share:.0f} % of the speed of the bare matrix products"
    title = "an evaluation of MMEB's form, {rows} rows a set, vocabulary {vocab_size}"
    result = read("evaluation", title)
    for suite, ratio in result["published_over_ours"].items():
        shared = {"suite": "pairs of sets share candidates", "unshared": "no set shares any"}[suite]
        label = f"set by set, padded, causal LM with all states; {shared}"
        rows.append([title.format_map(result["settings"]), label, _ratio(ratio), ""])
    seconds = ", ".join(f"{what} in {value:.1f} s" for what, value in result["scoring_seconds"].items())
    machines[-1] += f"; scoring alone, {result['settings']['dimension']} wide: {seconds}"
    result = read("loss_memory", "memory of the hard-negative loss")
    largest = max(result["blocked"], key=lambda point: point["size"])
    size, memory = f"{largest['size']:,}", largest["bytes"] / 1e9
    machines[-1] += (
        f"; {memory:.2f} GB beside its inputs at {size} x {size}, {result['settings']['width']} wide, in bfloat16"
    )
    return markdown_table(HEADER, rows, text_columns=2) + "\n" + "\n".join(machines) + "\n"


def main(argv: Sequence[str] | None = None) -> None:
    """Write the table; the last line printed is the document."""
    (arguments,) = parse_dataclasses(
        (TableArguments,), argv, prog="python -m benchmarks.table", description=__doc__.partition("\n")[0]
    )
    insert_between_markers(Path(arguments.document), MARKER, make_table(Path(arguments.results)))
    print(arguments.document)


if __name__ == "__main__":
    main()
