# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Stage 2 with the soft labels of a judge (UniME-V2, arXiv 2510.13515): each query against its own candidates."""

import pyarrow.compute as pc
import torch

from trainers.data.pairs import Pair, PairDataset
from trainers.hard_negative_config import HardNegativeConfig
from trainers.hard_negative_trainer import HardNegativeTrainer, PairCollator
from trainers.losses import SoftLabelLoss


def check_scores(dataset: PairDataset) -> None:
    """Make sure that every row has a judge's scores, and that there is something to tell apart.

    Raises:
        ValueError: names the first source whose rows have no scores; or no row has a negative.
    """
    unscored = dataset.table.filter(pc.is_null(dataset.table["scores"]))
    if len(unscored):
        source = dataset.sources[unscored["source"][0].as_py()]
        raise ValueError(
            f"loss_type soft_label needs a judge's scores, and the rows of {source.file} have none. Give rows in "
            "UniME-V2's form (query_pos_scores, hard_negatives_scores), or choose another loss_type."
        )
    if not pc.any(pc.greater(pc.list_value_length(dataset.table["negatives"]), 0)).as_py():
        raise ValueError("loss_type soft_label needs hard negatives, and no row has any. Choose another loss_type.")


class SoftLabelCollator(PairCollator):
    """A [`PairCollator`] that also says which candidates are a query's own, and how they were judged.

    Args:
        num_hard_negatives: negatives used of each row, the first ones; a row may have fewer. One that is a positive of its
            query in any row is none, unless `exclude_known_positives` is off.
        options: those of [`PairCollator`].

    Raises:
        ValueError: rows have no scores, or none has negatives.
    """

    def __init__(self, *options, num_hard_negatives: int, **more_options):
        super().__init__(*options, **more_options)
        check_scores(self.dataset)
        self.num_hard_negatives = num_hard_negatives

    def __call__(self, pairs: list[Pair]) -> dict:
        """The batch; `own` (N, 1 + K) numbers of candidates, -1 for none, and `scores` (N, 1 + K)."""
        k, given = self.num_hard_negatives, sum(len(pair.negatives) for pair in pairs)
        left_out = given - sum(len(self._negatives_of(pair)) for pair in pairs)
        pairs = [self._with_negatives(pair, self._negatives_of(pair)[:k]) for pair in pairs]
        own = torch.full((len(pairs), 1 + k), -1)  # (N, 1 + K)
        scores = torch.zeros(own.shape)  # (N, 1 + K)
        first = len(pairs)  # the candidates are all positives, then each row's negatives
        for row, pair in enumerate(pairs):
            count = len(pair.negatives)
            own[row, : 1 + count] = torch.tensor([row, *range(first, first + count)])
            scores[row, : 1 + count] = torch.tensor(pair.scores[: 1 + count])
            first += count
        batch = super().__call__(pairs)
        return {**batch, "own": own, "scores": scores, "other_positives": torch.tensor(left_out)}

    def _negatives_of(self, pair: Pair) -> list[int]:
        """Places of a row's negatives that are not known to be positives of its query."""
        known = set() if self.known_positives is None else {pair.group, *self.known_positives.of(pair.query_number)}
        return [place for place, group in enumerate(pair.negative_groups) if group not in known]

    @staticmethod
    def _with_negatives(pair: Pair, places: list[int]) -> Pair:
        return pair._replace(
            negatives=tuple(pair.negatives[place] for place in places),
            negative_groups=tuple(pair.negative_groups[place] for place in places),
            scores=(pair.scores[0], *(pair.scores[1 + place] for place in places)),
        )


class SoftLabelTrainer(HardNegativeTrainer):
    """Training on a judge's scores of every query's own candidates; no in-batch negatives.

    Args:
        args: a [`HardNegativeConfig`]; of the loss's options `temperature` and `num_hard_negatives` are used.
        train_dataset: a [`PairDataset`] with scores.
        data_collator: a [`SoftLabelCollator`].
    """

    easy_loss = 0.0  # a small divergence says that the model agrees with the judge, not that negatives are easy

    def __init__(self, model=None, args: HardNegativeConfig | None = None, **kwargs):
        super().__init__(model=model, args=args, **kwargs)
        self.loss = SoftLabelLoss(temperature=args.temperature)

    def apply_loss(self, queries: torch.Tensor, candidates: torch.Tensor, batch: dict) -> torch.Tensor:
        return self.loss(queries, candidates, batch["own"], batch["scores"])
