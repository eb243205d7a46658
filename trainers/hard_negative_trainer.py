# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Stage 2: hard negative enhanced instruction tuning (UniME, arXiv 2504.17432, section 3.3, Eq. 4), and its baselines."""

import contextlib
from collections import defaultdict
from typing import Any

import pyarrow.compute as pc
import torch
from torch import nn
from transformers.integrations import TensorBoardCallback
from transformers.utils import logging

from trainers.batch_sampler import GlobalBatchSampler
from trainers.collators import PairCollator
from trainers.data.held_rows import hold_rows
from trainers.data.pairs import PairDataset
from trainers.embedding_trainer import EmbeddingTrainer
from trainers.frozen_vision import FrozenVision
from trainers.hard_negative_config import HardNegativeConfig
from trainers.loading import picture_sizes
from trainers.losses import HardNegativeInfoNCELoss, InfoNCELoss, SoftLabelLoss
from trainers.metrics import SourceMeans, positive_ranks

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


def check_scores(dataset: PairDataset) -> None:
    """Make sure that every row has a judge's scores, and that there is something to tell apart."""
    unscored = dataset.table.filter(pc.is_null(dataset.table["scores"]))
    if len(unscored):
        source = dataset.sources[unscored["source"][0].as_py()]
        raise ValueError(
            f"loss_type soft_label needs a judge's scores, and the rows of {source.file} have none. Give rows in "
            "UniME-V2's form (query_pos_scores, hard_negatives_scores), or choose another loss_type."
        )
    if not pc.any(pc.greater(pc.list_value_length(dataset.table["negatives"]), 0)).as_py():
        raise ValueError("loss_type soft_label needs hard negatives, and no row has any. Choose another loss_type.")


class HardNegativeTrainer(EmbeddingTrainer):
    """Contrastive training on query-candidate pairs of texts and pictures.

    Example::

        from trainers import HardNegativeConfig, HardNegativeTrainer

        args = HardNegativeConfig(output_dir="my-stage2", max_steps=2, use_cpu=True, report_to="none")
        trainer = HardNegativeTrainer(model="my-stage1", args=args, train_dataset=dataset)
        trainer.train()
        trainer.save_model()

    Candidates of a query are the positives and row negatives of the whole batch of all ranks. Those that are identical in
    content to its positive, or a positive of the same query in another row, are never its negatives.

    Args:
        model: folder or Hub name of a UniME model or a multimodal LLM, or a [`UniMEModel`].
        args: a [`HardNegativeConfig`]; its `loss_type` chooses among UniME's loss, InfoNCE on all negatives (VLM2Vec, and
            E5-V on texts) and a judge's soft labels (UniME-V2).
        train_dataset: what `trainers.data.held_rows.hold_rows` takes: a `datasets.Dataset`, a `DatasetDict` by source,
            a list. A value is what `SentenceTransformer.encode` takes; MMEB's, SimCSE's and UniME-V2's columns are
            recognised.
        eval_dataset: the same, for `evaluate()`: `eval_loss`, and in batches of `per_device_eval_batch_size` rows
            `eval_accuracy@1` and `eval_mrr`.
        compute_metrics: gets `predictions`, the embeddings (N, D) of queries and of positives.
        options: see [`EmbeddingTrainer`] and `transformers.Trainer`.

    Raises:
        ValueError, TypeError: options or data cannot be used; names the option or row.
    """

    config_class = HardNegativeConfig

    def __init__(self, model=None, args: HardNegativeConfig | None = None, **options):
        super().__init__(model, args, **options)
        self._means = SourceMeans()
        self._similarities: dict[str, list[torch.Tensor]] = defaultdict(list)
        self._warned: set[str] = set()

    def make_trainable(self, source, args: HardNegativeConfig) -> nn.Module:
        model = super().make_trainable(source, args)
        self.vision = FrozenVision(model)
        return model

    def make_dataset(self, data: Any, name: str, args: HardNegativeConfig, processor) -> PairDataset:
        dataset = hold_rows(data, name, seed=args.seed, sizes=picture_sizes(processor, args))
        if args.loss_type == "soft_label":
            check_scores(dataset)
        return dataset

    def make_collator(self, args: HardNegativeConfig, processor) -> PairCollator:
        return PairCollator(
            processor,
            args.chunk_limits,
            args.use_row_negatives,
            args.max_length,
            args.rank_slice,
            args.num_hard_negatives if args.loss_type == "soft_label" else None,
            args.exclude_known_positives,
        )

    def make_loss(self, args: HardNegativeConfig) -> nn.Module:
        if args.loss_type == "info_nce":
            return InfoNCELoss(temperature=args.temperature)
        if args.loss_type == "soft_label":
            return SoftLabelLoss(temperature=args.temperature)
        return HardNegativeInfoNCELoss(
            temperature=args.temperature,
            num_hard_negatives=args.num_hard_negatives,
            false_negative_margin=args.false_negative_margin,
            short_rows=args.short_rows,
        )

    def make_batch_sampler(self, dataset, args: HardNegativeConfig) -> GlobalBatchSampler:
        block = args.source_block_size
        sources = dataset.source_indices if block else None
        return GlobalBatchSampler(len(dataset), args.global_batch_size, args.order_seed, sources, block)

    def batch_loss(self, embeddings: torch.Tensor, batch: dict) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        queries, candidates = embeddings[batch["query_positions"]], embeddings[batch["candidate_positions"]]
        others = batch.get("other_positives")  # (N, N + E)
        if self.args.loss_type == "soft_label":
            loss = self.loss(queries, candidates, batch["own"], batch["scores"])
        else:
            loss = self.loss(queries, candidates, group_ids=batch["groups"], duplicate_mask=others)
        return loss, {
            **self.loss.statistics,
            "other_positives": torch.tensor(0) if others is None else others.sum(),
            "effective_batch": torch.tensor(len(queries)),
            "candidates": torch.tensor(len(candidates)),
            "distinct_inputs": torch.tensor(len(embeddings)),
        }

    def score_batch(self, embeddings: torch.Tensor, batch: dict, loss: torch.Tensor):
        queries, candidates = embeddings[batch["query_positions"]], embeddings[batch["candidate_positions"]]
        others = None if self.args.loss_type == "soft_label" else batch.get("other_positives")
        ranks = positive_ranks(queries, candidates, batch["groups"], others)  # (N,)
        pair = (queries, candidates[: len(queries)])
        return self.loss.row_statistics["loss"], ranks, batch["sources"], pair

    def embed(self, model, chunk: dict) -> torch.Tensor:
        self.vision.freeze()
        keeps = model.training and self.args.uses_gradient_cache and self.args.keep_image_features
        with self.vision.keep(chunk) if keeps else contextlib.nullcontext():
            return super().embed(model, chunk)

    def training_step(self, model, inputs, num_items_in_batch=None) -> torch.Tensor:
        try:
            loss = super().training_step(model, inputs, num_items_in_batch)
        finally:
            self.vision.forget()
        rows = self.loss.row_statistics
        self._means.add(inputs["sources"], rows)
        for name in rows:
            if name.endswith("similarity"):
                self._similarities[name].append(rows[name][rows[name].isfinite()].float().cpu())
        return loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add what the sources look like, and say once when the negatives have nothing to teach."""
        if "loss" in logs:
            logs |= self._means.by_source()
            self._write_histograms()
            self._means = SourceMeans()
            self._similarities.clear()
        super().log(logs, start_time)
        # A small divergence from a judge says that the model agrees with it, not that negatives are easy.
        is_easy = self.args.loss_type != "soft_label" and logs.get("loss", 1.0) < EASY_LOSS
        self._warn_once("loss", is_easy, logs, EASY_ADVICE)
        self._warn_once("share_filtered", logs.get("share_filtered", 0.0) > MANY_FILTERED, logs, FILTERED_ADVICE)

    def _write_histograms(self) -> None:
        """Distributions of the similarities, where TensorBoard writes the log."""
        for callback in self.callback_handler.callbacks:
            if isinstance(callback, TensorBoardCallback) and callback.tb_writer is not None:
                for name, parts in self._similarities.items():
                    step = self.state.global_step
                    callback.tb_writer.add_histogram(f"train/{name}_histogram", torch.cat(parts), step)

    def _warn_once(self, name: str, applies: bool, logs: dict[str, float], advice: str) -> None:
        if applies and name not in self._warned and self.is_world_process_zero():
            self._warned.add(name)
            logger.warning(f"{name} is {logs[name]:.3g}: {advice} (Said once.)")
