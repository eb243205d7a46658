# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Stage 2: hard negative enhanced instruction tuning (UniME, arXiv 2504.17432, section 3.3, Eq. 4)."""

import contextlib

import torch
from PIL import Image

from modeling_unime import UniMEProcessor
from modeling_unime.example import Example

from .batch_sampler import GlobalBatchSampler
from .chunks import ChunkLimits, cut_chunks
from .data.pairs import Pair, PairDataset
from .embedding_trainer import EmbeddingTrainer
from .frozen_vision import FrozenVision
from .hard_negative_config import HardNegativeConfig
from .losses import HardNegativeInfoNCELoss, InfoNCELoss
from .shares import places_after_gathering, share_of


class PairCollator:
    """Query-candidate pairs of a global batch to model inputs in chunks. What occurs twice in it is embedded once.

    Args:
        processor: makes the model inputs.
        dataset: opens the pairs' images.
        limits: how large a chunk of inputs (queries and candidates) may be.
        use_row_negatives: add the rows' own negatives to the candidates (default True).
        max_length: tokens an input may have (default: the processor's).
        rank: which share of the distinct inputs to make (default 0).
        world_size: number of shares (default 1).
    """

    def __init__(
        self,
        processor: UniMEProcessor,
        dataset: PairDataset,
        limits: ChunkLimits,
        use_row_negatives: bool = True,
        max_length: int | None = None,
        rank: int = 0,
        world_size: int = 1,
    ):
        self.processor = processor
        self.dataset = dataset
        self.limits = limits
        self.use_row_negatives = use_row_negatives
        self.max_length = max_length
        self.rank = rank
        self.world_size = world_size

    def __call__(self, pairs: list[Pair]) -> dict:
        """The batch: `chunks` of this rank's inputs, and where everything stands among the U distinct inputs of all."""
        queries = [(pair, pair.query) for pair in pairs]
        candidates = [(pair, pair.positive) for pair in pairs]
        groups = [pair.group for pair in pairs]
        if self.use_row_negatives:
            candidates += [(pair, example) for pair in pairs for example in pair.negatives]
            groups += [group for pair in pairs for group in pair.negative_groups]

        owners: dict[tuple, tuple[Pair, Example]] = {}
        for pair, example in queries + candidates:
            owners.setdefault((pair.store, example), (pair, example))
        ordered = sorted(owners.items(), key=lambda item: _cost(item[1][1]))
        position = {key: index for index, (key, _) in enumerate(ordered)}
        own = share_of([owner for _, owner in ordered], self.rank, self.world_size)

        def positions(entries: list[tuple[Pair, Example]]) -> torch.Tensor:
            return torch.tensor([position[pair.store, example] for pair, example in entries], dtype=torch.long)

        inputs = [(example.text, self.dataset.open_image(pair, example), example.instruction) for pair, example in own]
        chunks = list(cut_chunks([self._count_tokens(*entry) for entry in inputs], self.limits))
        return {
            "chunks": [self._process([inputs[index] for index in chunk]) for chunk in chunks],
            "own_places": torch.argsort(torch.tensor([index for chunk in chunks for index in chunk])),  # (n,)
            "places": places_after_gathering(len(ordered), self.world_size),  # (U,)
            "query_positions": positions(queries),  # (N,)
            "candidate_positions": positions(candidates),  # (M,), the positives first
            "groups": torch.tensor(groups, dtype=torch.long),  # (M,)
        }

    def _count_tokens(self, text: str | None, image: Image.Image | None, instruction: str | None) -> int:
        """About how many tokens an input has."""
        tokens = len(self.processor.tokenizer(f"{instruction or ''} {text or ''}")["input_ids"])
        tokens += 0 if image is None else self.processor.count_image_tokens(*image.size)
        return tokens if self.max_length is None else min(tokens, self.max_length)

    def _process(self, inputs: list[tuple[str | None, Image.Image | None, str | None]]) -> dict:
        texts, images, instructions = (list(column) for column in zip(*inputs, strict=True))
        return dict(self.processor(text=texts, images=images, instruction=instructions, max_length=self.max_length))


def _cost(example: Example) -> tuple[bool, int]:
    """What an input costs, as far as one can tell without its image: inputs of like cost are dealt to different ranks."""
    return example.image is not None, len(example.text or "")


class HardNegativeTrainer(EmbeddingTrainer):
    """Contrastive training on query-candidate pairs.

    Candidates of a query are the positives and row negatives of the whole batch of all ranks. Candidates identical in
    content to the query's positive are never its negatives.

    Args:
        args: a [`HardNegativeConfig`].
        train_dataset: a [`PairDataset`].
        data_collator: a [`PairCollator`].
    """

    def __init__(self, model=None, args: HardNegativeConfig | None = None, **kwargs):
        super().__init__(model=model, args=args, **kwargs)
        self.vision = FrozenVision(self.model)
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

    def make_batch_sampler(self) -> GlobalBatchSampler:
        return GlobalBatchSampler(
            len(self.train_dataset),
            self.global_batch_size,
            self.data_seed,
            self.train_dataset.source_indices,
            self.args.source_block_size,
        )

    def batch_loss(self, embeddings: torch.Tensor, batch: dict) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        queries, candidates = embeddings[batch["query_positions"]], embeddings[batch["candidate_positions"]]
        loss = self.loss(queries, candidates, group_ids=batch["groups"])
        return loss, {
            **self.loss.statistics,
            "effective_batch": torch.tensor(len(queries)),
            "candidates": torch.tensor(len(candidates)),
            "distinct_inputs": torch.tensor(len(embeddings)),
        }
