# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Stage 2: hard negative enhanced instruction tuning (UniME, arXiv 2504.17432, section 3.3, Eq. 4)."""

import contextlib
from typing import NamedTuple

import torch
from PIL import Image
from transformers.utils import logging

from modeling_unime import UniMEProcessor
from trainers.batch_sampler import GlobalBatchSampler
from trainers.chunks import ChunkLimits
from trainers.contrastive_trainer import ContrastiveTrainer, contrastive_batch
from trainers.data.known_positives import KnownPositives
from trainers.data.pairs import Pair, PairDataset
from trainers.frozen_vision import vision_of
from trainers.hard_negative_config import HardNegativeConfig
from trainers.losses import HardNegativeInfoNCELoss, InfoNCELoss
from trainers.shares import WHOLE_BATCH, Share, chunks_of_share
from trainers.source_telemetry import SourceTelemetry
from unime.data.bad_rows import BadRowError
from unime.data.example import Example

logger = logging.get_logger(__name__)

EASY_LOSS = 0.01  # the positive has 99 % of the softmax
EASY_ADVICE = (
    "the negatives are too easy to teach anything. Take larger batches, batches of one source (source_block_size) or "
    "mined hard negatives (trainers.mine_negatives)."
)
MANY_FILTERED = 0.5
FILTERED_ADVICE = (
    "most negatives are dropped as false ones, so little is learnt. Raise false_negative_margin, or start from a model "
    "whose positives are more similar to their queries (stage 1, or warm up with loss_type info_nce)."
)


class OpenedExample(NamedTuple):
    """An example with its image in memory, and about how many tokens it has."""

    text: str | None
    image: Image.Image | None
    instruction: str | None
    tokens: int


class PairCollator:
    """Query-candidate pairs of a global batch to model inputs in chunks. What occurs twice in it is embedded once.

    Args:
        processor: makes the model inputs.
        dataset: opens the pairs' images.
        limits: how large a chunk of inputs (queries and candidates) may be.
        use_row_negatives: add the rows' own negatives to the candidates (default True).
        max_length: tokens an input may have (default: the processor's).
        share: which of the distinct inputs this rank embeds (default: all).
        exclude_known_positives: never take a query's positives of other rows for its negatives (default True).
    """

    def __init__(
        self,
        processor: UniMEProcessor,
        dataset: PairDataset,
        limits: ChunkLimits,
        use_row_negatives: bool = True,
        max_length: int | None = None,
        share: Share = WHOLE_BATCH,
        exclude_known_positives: bool = True,
    ):
        self.processor = processor
        self.dataset = dataset
        self.limits = limits
        self.use_row_negatives = use_row_negatives
        self.max_length = max_length
        self.share = share
        self.known_positives = None
        if exclude_known_positives:
            self.known_positives = KnownPositives(dataset.query_numbers, dataset.table["group"].to_numpy())

    def __call__(self, pairs: list[Pair]) -> dict:
        """See `contrastive_batch`; also `sources` (N,), the number of each row's source."""
        negatives = [(pair, example) for pair in pairs for example in pair.negatives]
        negative_groups = [group for pair in pairs for group in pair.negative_groups]
        batch = contrastive_batch(
            [(pair, pair.query) for pair in pairs],
            [(pair, pair.positive) for pair in pairs],
            negatives if self.use_row_negatives else [],
            [pair.group for pair in pairs],
            negative_groups if self.use_row_negatives else [],
            [pair.query_number for pair in pairs],
            self.known_positives,
            key=_identity,
            cost=_cost,
            make_chunks=self._make_chunks,
        )
        numbers = {source.name: number for number, source in enumerate(self.dataset.sources)}
        return {**batch, "sources": torch.tensor([numbers[pair.source] for pair in pairs])}

    def make_filler(self, with_image: bool) -> dict:
        """A chunk of one input, to keep ranks in step; see aligned_chunks.py."""
        return dict(self.processor(text=["a"], images=[Image.new("RGB", (64, 64)) if with_image else None]))

    def _make_chunks(self, owners: list[tuple[Pair, Example]]) -> dict:
        return chunks_of_share(
            owners,
            self.share,
            self.limits,
            prepare=self._open,
            length=lambda opened: opened.tokens,
            process=self._process,
            has_image=lambda opened: opened.image is not None,
        )

    def _open(self, owner: tuple[Pair, Example]) -> OpenedExample:
        pair, example = owner
        image = self.dataset.open_image(pair, example)
        tokens = len(self.processor.tokenizer(f"{example.instruction or ''} {example.text or ''}")["input_ids"])
        tokens += 0 if image is None else self._count_image_tokens(pair, example, image)
        tokens = tokens if self.max_length is None else min(tokens, self.max_length)
        return OpenedExample(example.text, image, example.instruction, tokens)

    def _count_image_tokens(self, pair: Pair, example: Example, image: Image.Image) -> int:
        try:
            return self.processor.check_image_size(*image.size, self.max_length, example.instruction)
        except ValueError as error:  # of an image that was not looked at before training (image_check: exists)
            raise BadRowError(f"{pair.place}: image {example.image!r}: {error}.") from error

    def _process(self, opened: list[OpenedExample]) -> dict:
        texts, images, instructions, _ = (list(column) for column in zip(*opened, strict=True))
        return dict(self.processor(text=texts, images=images, instruction=instructions, max_length=self.max_length))


def _identity(owner: tuple[Pair, Example]) -> tuple[int, Example]:
    """Paths of images mean the same in one store only."""
    pair, example = owner
    return (-1 if example.image is None else pair.store), example


def _cost(owner: tuple[Pair, Example]) -> tuple[bool, int]:
    """What an input costs, as far as one can tell without its image."""
    _, example = owner
    return example.image is not None, len(example.text or "")


class HardNegativeTrainer(ContrastiveTrainer):
    """Contrastive training on query-candidate pairs.

    Candidates of a query are the positives and row negatives of the whole batch of all ranks.

    Args:
        args: a [`HardNegativeConfig`].
        train_dataset: a [`PairDataset`].
        data_collator: a [`PairCollator`].
    """

    easy_loss = EASY_LOSS

    def __init__(self, model=None, args: HardNegativeConfig | None = None, **kwargs):
        super().__init__(model=model, args=args, **kwargs)
        self.vision = vision_of(self.model)
        self.telemetry = SourceTelemetry([source.name for source in self.train_dataset.sources])
        self._warned: set[str] = set()
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

    def batch_loss(self, embeddings: torch.Tensor, batch: dict) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        result = super().batch_loss(embeddings, batch)
        self.telemetry.add(batch["sources"], self.loss.row_statistics)
        return result

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add what the sources look like, and say once when the negatives have nothing to teach."""
        if "loss" in logs:
            means, values = self.telemetry.take()
            logs |= means
            self._write_histograms(values)
        super().log(logs, start_time)
        self._warn_once("loss", logs.get("loss", 1.0) < self.easy_loss, logs, EASY_ADVICE)
        self._warn_once("share_filtered", logs.get("share_filtered", 0.0) > MANY_FILTERED, logs, FILTERED_ADVICE)

    def _write_histograms(self, values: dict[str, torch.Tensor]) -> None:
        """Distributions of the similarities, where TensorBoard writes the log."""
        for callback in self.callback_handler.callbacks:
            writer = getattr(callback, "tb_writer", None)
            if writer is not None:
                for name, similarities in values.items():
                    writer.add_histogram(f"train/{name}_histogram", similarities, self.state.global_step)

    def _warn_once(self, name: str, applies: bool, logs: dict[str, float], advice: str) -> None:
        if applies and name not in self._warned and self.is_world_process_zero():
            self._warned.add(name)
            logger.warning(f"{name} is {logs[name]:.3g}: {advice} (Said once.)")

    def make_batch_sampler(self) -> GlobalBatchSampler:
        return GlobalBatchSampler(
            len(self.train_dataset),
            self.global_batch_size,
            self.data_seed,
            self.train_dataset.source_indices,
            self.args.source_block_size,
        )

    def embed(self, model, chunk: dict) -> torch.Tensor:
        self.vision.freeze()
        keeps = self.args.uses_gradient_cache and self.args.keep_image_features
        with self.vision.keep(chunk) if keeps else contextlib.nullcontext():
            return super().embed(model, chunk)

    def training_step(self, *args, **kwargs) -> torch.Tensor:
        try:
            return super().training_step(*args, **kwargs)
        finally:
            self.vision.forget()
