# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Which rows a command reads, and what it does about bad ones: options of stage 2 and of mining."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from trainers.data.mmeb import load_mmeb_train
from trainers.data.pairs import PairDataset
from unime.data.bad_rows import BadRows
from unime.data.row_arguments import RowArguments
from unime.options import check_at_least


@dataclass(kw_only=True)
class TrainingRowArguments(RowArguments):
    """The rows that are trained on or mined."""

    data: list[str] = field(
        metadata={
            "help": "Files with the columns query, positive and, if wanted, negatives; with MMEB-train's (qry, "
            "qry_image_path, pos_text, pos_image_path, neg_text, neg_image_path), globs, folders (every train_*.jsonl below) "
            "or names of data sets (TIGER-Lab/MMEB-train: all its sets; name:config:split: one), also of a local copy; with "
            "SimCSE's (sent0, sent1, hard_neg); with UniME-V2's (query_text, query_image, pos_text, pos_image, "
            "query_pos_scores, hard_negatives, hard_negatives_scores)."
        }
    )
    max_rows_per_source: int | None = field(
        default=None, metadata={"help": "First rows used of each file (50000 in the paper). Default: all."}
    )
    image_check: Literal["full", "exists"] = field(
        default="full",
        metadata={
            "help": "Before the model is loaded, decode every image once and ask the processor whether it can take it (full), "
            "or only look whether it is there (exists): then equal pictures under two paths are not known as such."
        },
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(self, max_rows_per_source=1)

    def load(self, output: str, **more: Any) -> tuple[PairDataset, int]:
        """The rows by `load_mmeb_train`, which takes `more`, and how many were left out, which are listed in `output`."""
        bad_rows = BadRows(self.on_bad_row)
        dataset = load_mmeb_train(
            self.data,
            image_root=self.image_root,
            max_rows_per_source=self.max_rows_per_source,
            on_bad_row=bad_rows,
            image_check=self.image_check,
            max_image_pixels=self.max_image_pixels,
            **more,
        )
        if len(bad_rows):
            bad_rows.write(Path(output, "bad_rows.json"))
        return dataset, len(bad_rows)
