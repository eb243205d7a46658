# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Options of `python -m trainers.mine_negatives`."""

from dataclasses import dataclass, field
from typing import Literal

from evaluation.arguments import EncoderArguments, check_at_least


@dataclass
class MiningArguments(EncoderArguments):
    """What is mined, which candidates are left out, and which of the rest become negatives."""

    data: list[str] = field(
        metadata={
            "help": "Rows to find negatives for: files with MMEB-train columns, globs, folders (every train_*.jsonl "
            "below) or names of data sets. All positives are candidates."
        }
    )
    output: str = field(metadata={"help": "Folder to write: a data file for each source, and mining.json."})
    candidates: list[str] = field(
        default_factory=list,
        metadata={
            "help": "More sources of candidates: of their rows only pos_text and pos_image_path count, and only these "
            "columns are needed."
        },
    )
    image_root: str | None = field(
        default=None,
        metadata={
            "help": "Folder (also with an images.zip in it) or zip of all images. Default: beside each data file, or "
            "images.zip beside it. Links in a folder are followed."
        },
    )
    max_rows_per_source: int | None = field(
        default=None, metadata={"help": "First rows used of each file. Default: all."}
    )
    image_check: Literal["full", "exists"] = field(
        default="full",
        metadata={
            "help": "Before encoding, decode every image once, so that equal pictures are known as such, and ask the "
            "processor whether it can take it (full), or only look whether it is there (exists): then pictures are told "
            "apart by their paths."
        },
    )
    on_bad_row: Literal["error", "skip"] = field(
        default="error",
        metadata={
            "help": "Rows with wrong fields, or with an image that is missing, damaged or cannot be processed: stop "
            "before encoding (error), or leave them out and list them in bad_rows.json (skip)."
        },
    )
    pool: Literal["all", "source"] = field(
        default="all",
        metadata={
            "help": "Search a row's negatives among the positives of all sources or of its own source; those of "
            "--candidates count in both."
        },
    )
    false_negative_margin: float = field(
        default=0.1,
        metadata={
            "help": "A candidate is a likely false negative when its cosine with the query exceeds the positive's by more "
            "than this (UniME, Eq. 3); 2 switches the rule off."
        },
    )
    max_similarity: float | None = field(
        default=None,
        metadata={"help": "A candidate with a greater cosine is left out, too (UniME-V2). Default: none."},
    )
    min_similarity: float | None = field(
        default=None, metadata={"help": "A candidate with a smaller cosine is too easy and left out. Default: none."}
    )
    num_negatives: int = field(default=10, metadata={"help": "Negatives wanted for each row."})
    rank_from: int = field(default=1, metadata={"help": "First rank, among what is not left out, to take them from."})
    rank_to: int = field(default=50, metadata={"help": "Last rank to take them from (50 in UniME-V2)."})
    sampling: Literal["step", "random"] = field(
        default="step",
        metadata={
            "help": "Which of these ranks: every step-th, beginning anew with the second when the end is reached, or a "
            "random choice."
        },
    )
    step: int = field(default=5, metadata={"help": "Distance of ranks in --sampling step (5 in UniME-V2)."})
    seed: int = field(default=0, metadata={"help": "Of --sampling random."})
    format: Literal["mmeb", "unime_v2"] = field(
        default="mmeb",
        metadata={
            "help": "The rows as they are, with the negatives as lists in neg_text and neg_image_path (train_*.jsonl), or "
            "the fields in which UniME-V2's training data are published (*.json; needs --judge)."
        },
    )
    shard_size: int = field(
        default=4096,
        metadata={"help": "Examples, rows or judged pairs of a shard: what a killed process loses at most."},
    )
    cache: str | None = field(
        default=None,
        metadata={
            "help": "Folder of finished shards, which several runs may share: they are found by what they depend on. "
            "Default: 'shards' in the output folder."
        },
    )
    expected_world_size: int = field(
        default=0, metadata={"help": "Refuse to run with another number of processes than this; 0 takes any."}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(self, max_rows_per_source=1, num_negatives=1, rank_from=1)
        check_at_least(self, step=1, shard_size=1, seed=0, false_negative_margin=-2, expected_world_size=0)
        ranks = self.rank_to - self.rank_from + 1
        if ranks < self.num_negatives:
            raise ValueError(
                f"rank_from {self.rank_from} to rank_to {self.rank_to} are {max(ranks, 0)} ranks, fewer than "
                f"num_negatives, {self.num_negatives}"
            )
        for name in ("min_similarity", "max_similarity"):
            value = getattr(self, name)
            if value is not None and not -1 <= value <= 1:
                raise ValueError(f"{name} is a cosine and must be between -1 and 1, got {value}")
        if None not in (self.min_similarity, self.max_similarity) and self.min_similarity >= self.max_similarity:
            raise ValueError(f"min_similarity {self.min_similarity} is not below max_similarity {self.max_similarity}")


@dataclass
class JudgeArguments:
    """A chat model that says which candidates meet the query (UniME-V2)."""

    judge: str | None = field(
        default=None,
        metadata={
            "help": "Folder (or name on the Hub) of a multimodal chat model, which is asked whether a candidate meets the "
            "query; what it affirms nearly as much as the positive is left out. Default: no judge."
        },
    )
    judge_margin: float = field(
        default=0.01,
        metadata={"help": "A candidate is left out when its score, 0 to 1, exceeds the positive's minus this."},
    )
    judge_batch_size: int = field(default=8, metadata={"help": "Pairs that the judge reads at a time."})
    judge_max_text_tokens: int = field(
        default=1024, metadata={"help": "Tokens of a query's or candidate's text that the judge reads."}
    )
    judge_image_resolution: int | None = field(
        default=None, metadata={"help": "Resize images for the judge to squares of so many pixels. Default: do not."}
    )

    def __post_init__(self) -> None:
        check_at_least(self, judge_margin=0, judge_batch_size=1, judge_max_text_tokens=1, judge_image_resolution=1)
