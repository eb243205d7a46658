# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""What becomes a negative: the options that `mine_hard_negatives` and the command share, named as in sentence-transformers."""

from dataclasses import dataclass, field
from typing import Literal

from unime.options import check_at_least


@dataclass
class MiningOptions:
    """Which candidates are left out, and which of the rest become negatives."""

    num_negatives: int = field(default=10, metadata={"help": "Negatives wanted for each row."})
    range_min: int = field(
        default=0, metadata={"help": "So many of the most similar candidates, of those not left out, are skipped."}
    )
    range_max: int | None = field(
        default=None,
        metadata={
            "help": "Last rank to take negatives from. Default: 50, as in UniME-V2, or more where num_negatives needs it."
        },
    )
    absolute_margin: float | None = field(
        default=-0.1,
        metadata={
            "help": "A candidate is left out when its cosine with the query exceeds the positive's less this. Below 0 it may "
            "be that much above the positive: UniME's rule for false negatives (Eq. 3); -2 switches the rule off."
        },
    )
    relative_margin: float | None = field(
        default=None,
        metadata={
            "help": "The same with a share of the positive's cosine: 0.05 leaves out what exceeds 95 %% of it. Default: none."
        },
    )
    max_score: float | None = field(
        default=None,
        metadata={"help": "A candidate with a greater cosine is left out, too (UniME-V2). Default: none."},
    )
    min_score: float | None = field(
        default=None, metadata={"help": "A candidate with a smaller cosine is too easy and left out. Default: none."}
    )
    sampling_strategy: Literal["top", "step", "random"] = field(
        default="step",
        metadata={
            "help": "Which of the ranks: the first (top), every step-th, beginning anew with the second when the end is "
            "reached (step), or a random choice."
        },
    )
    step: int = field(default=5, metadata={"help": "Distance of ranks in sampling_strategy step (5 in UniME-V2)."})
    seed: int = field(default=0, metadata={"help": "Of sampling_strategy random."})
    pool: Literal["all", "source"] = field(
        default="all", metadata={"help": "Search a row's negatives among the positives of all sources or of its own."}
    )
    judge_margin: float = field(
        default=0.01,
        metadata={"help": "A candidate is left out when the judge's score, 0 to 1, exceeds the positive's less this."},
    )

    def __post_init__(self) -> None:
        check_at_least(self, num_negatives=1, range_min=0, step=1, seed=0, judge_margin=0)
        if self.range_max is None:
            self.range_max = max(50, self.range_min + self.num_negatives)
        if self.range_max - self.range_min < self.num_negatives:
            raise ValueError(
                f"range_min {self.range_min} to range_max {self.range_max} are {max(self.range_max - self.range_min, 0)} ranks, "
                f"fewer than num_negatives, {self.num_negatives}"
            )
        for name in ("min_score", "max_score"):
            value = getattr(self, name)
            if value is not None and not -1 <= value <= 1:
                raise ValueError(f"{name} is a cosine and must be between -1 and 1, got {value}")
        if None not in (self.min_score, self.max_score) and self.min_score >= self.max_score:
            raise ValueError(f"min_score {self.min_score} is not below max_score {self.max_score}")
