# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Stage 2: hard negative enhanced instruction tuning (UniME, arXiv 2504.17432, section 3.3, Eq. 4)."""

from transformers import TrainerCallback

from modeling_unime import UniMEProcessor
from modeling_unime.example import Example

from .contrastive_trainer import ContrastiveTrainer, contrastive_batch
from .data.pairs import Pair, PairDataset
from .hard_negative_config import HardNegativeConfig
from .losses import HardNegativeInfoNCELoss, InfoNCELoss


class PairCollator:
    """Query-candidate pairs to model inputs in chunks. What occurs twice in a batch is embedded once.

    Args:
        processor: makes the model inputs.
        dataset: opens the pairs' images.
        chunk_size: inputs (queries and candidates) per chunk.
        use_row_negatives: add the rows' own negatives to the candidates (default True).
        max_length: tokens an input may have (default: the processor's).
    """

    def __init__(
        self,
        processor: UniMEProcessor,
        dataset: PairDataset,
        chunk_size: int,
        use_row_negatives: bool = True,
        max_length: int | None = None,
    ):
        self.processor = processor
        self.dataset = dataset
        self.chunk_size = chunk_size
        self.use_row_negatives = use_row_negatives
        self.max_length = max_length

    def __call__(self, pairs: list[Pair]) -> dict:
        """See `contrastive_batch`."""
        negatives = [(pair, example) for pair in pairs for example in pair.negatives]
        negative_groups = [group for pair in pairs for group in pair.negative_groups]
        return contrastive_batch(
            [(pair, pair.query) for pair in pairs],
            [(pair, pair.positive) for pair in pairs],
            negatives if self.use_row_negatives else [],
            [pair.group for pair in pairs],
            negative_groups if self.use_row_negatives else [],
            key=_identity,
            cost=_cost,
            process=self._process,
            chunk_size=self.chunk_size,
        )

    def _process(self, part: list[tuple[Pair, Example]]) -> dict:
        return self.processor(
            text=[example.text for _, example in part],
            images=[self.dataset.open_image(pair, example) for pair, example in part],
            instruction=[example.instruction for _, example in part],
            max_length=self.max_length,
        )


def _identity(owner: tuple[Pair, Example]) -> tuple[int, Example]:
    """Paths of images mean the same in one store only."""
    pair, example = owner
    return pair.store, example


def _cost(owner: tuple[Pair, Example]) -> tuple[bool, int]:
    """Inputs of like cost stand together, so that a chunk holds little padding."""
    _, example = owner
    return example.image is not None, len(example.text or "")


class EpochOfPairs(TrainerCallback):
    """Tell the data set which epoch begins: with a fractional weight each epoch has other rows of a source.

    Accelerate tells only some samplers, and the data set only in runs of one process.
    """

    def __init__(self, dataset: PairDataset):
        self.dataset = dataset

    def on_epoch_begin(self, args, state, control, **kwargs):
        self.dataset.set_epoch(int(state.epoch))


class HardNegativeTrainer(ContrastiveTrainer):
    """Contrastive training on query-candidate pairs.

    Candidates of a query are the positives and row negatives of the whole batch of all ranks.

    Args:
        args: a [`HardNegativeConfig`].
        train_dataset: a [`PairDataset`].
        data_collator: a [`PairCollator`].
    """

    def __init__(self, model=None, args: HardNegativeConfig | None = None, **kwargs):
        super().__init__(model=model, args=args, **kwargs)
        self.add_callback(EpochOfPairs(self.train_dataset))
        if args.loss_type == "info_nce":
            self.loss = InfoNCELoss(temperature=args.temperature, block_size=args.loss_block_size)
        else:
            self.loss = HardNegativeInfoNCELoss(
                temperature=args.temperature,
                num_hard_negatives=args.num_hard_negatives,
                false_negative_margin=args.false_negative_margin,
                short_rows=args.short_rows,
                block_size=args.loss_block_size,
            )
