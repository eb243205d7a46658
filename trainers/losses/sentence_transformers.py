# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""UniME's two losses for `SentenceTransformerTrainer`; needs the extra `st`.

They embed the columns of a batch and call the losses of `trainers.losses`, so values and gradients are those of our own
trainers: copies of the positive, and the other positives of a query that several rows of the batch have, are never negatives.
(Ours know the positives of all rows of the data set.) Copies are told by tokens and pixels.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.losses.gradcache import CachedLossMixin
from sentence_transformers.base.losses.merged_forward import embed_columns
from sentence_transformers.util import all_gather, all_gather_with_grad, get_rank
from torch import Tensor, nn

from trainers.losses.base import RowLoss
from trainers.losses.content_keys import content_keys, own_keys
from trainers.losses.hard_negative_info_nce import HardNegativeInfoNCELoss
from trainers.losses.matryoshka import MatryoshkaLoss, check_width
from trainers.losses.similarity_distillation import SimilarityDistillationLoss

__all__ = ["HardNegativeInfoNCE", "SimilarityDistillation"]


class _ColumnLoss(CachedLossMixin, nn.Module):
    """Embeddings of the columns, of all ranks if need be, and the numbers of their contents, to one of our losses."""

    option_names: tuple[str, ...]  # of our loss

    def __init__(
        self,
        model: SentenceTransformer,
        loss: RowLoss,
        mini_batch_size: int | None = None,
        gather_across_devices: bool = False,
        matryoshka_dims: Sequence[int] = (),
        matryoshka_weights: Sequence[float] = (),
    ) -> None:
        super().__init__()
        self.model = model
        self.mini_batch_size = mini_batch_size
        self.uses_gradient_cache = mini_batch_size is not None
        self.gather_across_devices = gather_across_devices
        self._config = {
            **{name: getattr(loss, name) for name in self.option_names},
            "mini_batch_size": mini_batch_size,
            "gather_across_devices": gather_across_devices,
        }
        if matryoshka_dims:
            check_width(matryoshka_dims, model.get_embedding_dimension() or max(matryoshka_dims))
            loss = MatryoshkaLoss(loss, matryoshka_dims, matryoshka_weights)
            self._config |= {"matryoshka_dims": loss.dims, "matryoshka_weights": loss.weights}
            if model.transformers_model is not None:
                model.transformers_model.config.matryoshka_dimensions = loss.dims  # goes into the saved folder
        self.row_loss = loss

    def forward(self, sentence_features: Iterable[dict[str, Tensor]], labels: Tensor | None = None) -> Tensor:
        """Loss of a batch, as `SentenceTransformerTrainer` asks for it."""
        features = list(sentence_features)
        keys = [content_keys(column) for column in features]  # before a module changes the features in place
        if self.uses_gradient_cache:
            return self.forward_cached(features, (labels, keys))
        return self._of_columns(embed_columns(self.model, features), labels, keys)

    def calculate_loss(self, reps: list[list[Tensor]], labels: tuple, *, with_backward: bool = False) -> Tensor:
        """The loss of embeddings in mini-batches; the library's gradient cache and its `MatryoshkaLoss` call it."""
        loss = self._of_columns([torch.cat(column) for column in reps], *labels)
        if with_backward:
            loss.backward()
        return loss.detach() if with_backward else loss

    def _of_columns(self, columns: list[Tensor], labels: Tensor | None, keys: list[Tensor | None]) -> Tensor:
        """The loss of the whole batch, the same on every rank where they gather."""
        keys = [
            own_keys(column, get_rank()) if own is None else own for column, own in zip(columns, keys, strict=True)
        ]
        if self.gather_across_devices:
            columns, keys = [all_gather_with_grad(column) for column in columns], [all_gather(own) for own in keys]
            labels = labels if labels is None else all_gather(labels)
        return self.compute(columns, labels, keys)

    def compute(self, columns: list[Tensor], labels: Tensor | None, keys: list[Tensor]) -> Tensor:
        """Our loss of the columns' embeddings, each (N, D), and of the numbers of their contents, each (N,)."""
        raise NotImplementedError

    def get_config_dict(self) -> dict[str, Any]:
        """What the library's model card says of the loss."""
        return self._config


class HardNegativeInfoNCE(_ColumnLoss):
    """UniME's stage 2 loss for sentence-transformers: columns (anchor, positive, negative, ...).

    Example::

        from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer
        from trainers.losses.sentence_transformers import HardNegativeInfoNCE

        model = SentenceTransformer(folder, trust_remote_code=True)
        data = dataset.select_columns(["query", "positive"])
        loss = HardNegativeInfoNCE(model, num_hard_negatives=4, mini_batch_size=8)
        SentenceTransformerTrainer(model, train_dataset=data, loss=loss).train()

    Args:
        model: the `SentenceTransformer` that is trained.
        temperature, num_hard_negatives, false_negative_margin, short_rows: see [`HardNegativeInfoNCELoss`].
        mini_batch_size: inputs of a column that are embedded at a time, by the library's gradient cache (default: all,
            without it).
        gather_across_devices: take the candidates of all ranks; the loss is then that of the whole batch.
        matryoshka_dims, matryoshka_weights: see [`MatryoshkaLoss`] (default: the full width alone). The library's own
            `MatryoshkaLoss` around this loss gives the same.

    Raises:
        ValueError: an option is out of range, or a batch has no column of positives.
    """

    option_names = ("temperature", "num_hard_negatives", "false_negative_margin", "short_rows")

    def __init__(
        self,
        model: SentenceTransformer,
        temperature: float = 0.02,
        num_hard_negatives: int = 8,
        false_negative_margin: float = 0.1,
        short_rows: str = "repeat",
        **options,
    ) -> None:
        loss = HardNegativeInfoNCELoss(temperature, num_hard_negatives, false_negative_margin, short_rows)
        super().__init__(model, loss, **options)

    def compute(self, columns: list[Tensor], labels: Tensor | None, keys: list[Tensor]) -> Tensor:
        if len(columns) < 2:
            raise ValueError("HardNegativeInfoNCE takes columns (anchor, positive, negative, ...), and got one column")
        queries, candidates = columns[0], torch.cat(columns[1:])  # (N, D), (M, D)
        groups = torch.cat(keys[1:]).unique(return_inverse=True)[1]  # (M,)
        distinct, query_of_row = keys[0].unique(return_inverse=True)  # (Q,), (N,)
        others = None
        if len(distinct) < len(queries):
            positives = torch.zeros(len(distinct), int(groups.max()) + 1, dtype=torch.bool, device=groups.device)
            positives[query_of_row, groups[: len(queries)]] = True
            others = positives[query_of_row][:, groups]  # (N, M)
        return self.row_loss(queries, candidates, group_ids=groups, duplicate_mask=others)


class SimilarityDistillation(_ColumnLoss):
    """UniME's stage 1 loss for sentence-transformers: a column of texts, and the teacher's vectors as `label`.

    Example::

        from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer
        from trainers.losses.sentence_transformers import SimilarityDistillation

        model = SentenceTransformer(folder, trust_remote_code=True)
        data = texts.rename_column("vector", "label")
        loss = SimilarityDistillation(model)
        SentenceTransformerTrainer(model, train_dataset=data, loss=loss).train()

    Args:
        model: the `SentenceTransformer` that is trained.
        temperature, include_self, direction, teacher_temperature: see [`SimilarityDistillationLoss`].
        mini_batch_size, gather_across_devices: see [`HardNegativeInfoNCE`].
        matryoshka_dims, matryoshka_weights: see [`MatryoshkaLoss`] (default: the full width alone). The library's own
            `MatryoshkaLoss` would cut the teacher's vectors, too, where they are as wide as the model's.

    Raises:
        ValueError: an option is out of range, or a batch has more than one column of texts or no vectors.
    """

    option_names = ("temperature", "include_self", "direction", "teacher_temperature")

    def __init__(
        self,
        model: SentenceTransformer,
        temperature: float = 0.05,
        include_self: bool = False,
        direction: str = "teacher_to_student",
        teacher_temperature: float | None = None,
        **options,
    ) -> None:
        loss = SimilarityDistillationLoss(temperature, include_self, direction, teacher_temperature)
        super().__init__(model, loss, **options)

    def compute(self, columns: list[Tensor], labels: Tensor | None, keys: list[Tensor]) -> Tensor:
        if len(columns) != 1 or labels is None:
            raise ValueError(
                "SimilarityDistillation takes one column of texts and a column `label` with the teacher's vector of each, "
                f"and got {len(columns)} column(s) and {'no' if labels is None else 'a'} label"
            )
        groups = keys[0].unique(return_inverse=True)[1]  # (N,)
        return self.row_loss(columns[0], labels, group_ids=groups)
