# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Stage 1's own: a loss that says nothing is called so."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from trainers.chunks import WHOLE_BATCH
from trainers.distillation_config import DistillationConfig
from trainers.distillation_trainer import DistillationTrainer


class FixedStudent(nn.Module):
    """Embeds the texts of every batch as the same unlike vectors, as a trained student would."""

    def __init__(self):
        super().__init__()
        self.vectors = nn.Parameter(torch.randn(16, 64, generator=torch.Generator().manual_seed(0)))

    def forward(self, rows):
        return SimpleNamespace(embeddings=self.vectors[rows])


class Collator:
    """Numbers of rows as model inputs, with the teacher's vectors."""

    rank_slice = WHOLE_BATCH

    def __init__(self, teacher: torch.Tensor):
        self.teacher = teacher

    def __call__(self, rows: list[int]) -> dict:
        order = torch.arange(len(rows))
        chunks = [{"rows": torch.tensor(rows)}]
        return {"chunks": chunks, "local_order": order, "global_order": order, "teacher": self.teacher[rows]}


def train(folder, **options) -> list[dict]:
    """Four steps on 16 unlike vectors of student and teacher; returns what was logged."""
    teacher = torch.from_numpy(np.random.default_rng(1).normal(size=(16, 64)).astype(np.float32))
    config = DistillationConfig(
        output_dir=str(folder),
        per_device_train_batch_size=16,
        max_steps=4,
        logging_steps=1,
        learning_rate=1e-4,
        save_strategy="no",
        use_cpu=True,
        disable_tqdm=True,
        report_to="none",
        **options,
    )
    trainer = DistillationTrainer(
        model=FixedStudent(),
        args=config,
        train_dataset=list(range(16)),
        data_collator=Collator(teacher),
    )
    trainer.train()
    return [entry for entry in trainer.state.log_history if "loss" in entry]


@pytest.fixture
def warnings(caplog):
    """The warnings about rounding, so far."""
    return lambda: [record.getMessage() for record in caplog.records if "rounding" in record.getMessage()]


def test_a_loss_of_nothing_but_rounding_is_said_once_with_advice(tmp_path, warnings):
    entries = train(tmp_path, temperature=0.02, include_self=True)
    assert len(entries) == 4 and all(entry["loss"] < entry["resolution"] for entry in entries)
    (warning,) = warnings()
    assert "leave out the diagonal (include_self: false) or raise the temperature (0.02)" in warning


@pytest.mark.parametrize("options", [{}, {"temperature": 0.02}, {"bf16": True}])
def test_a_loss_that_tells_something_is_left_alone(tmp_path, warnings, options):
    entries = train(tmp_path, **options)
    assert all(entry["loss"] > 100 * entry["resolution"] > 0 for entry in entries)
    assert not warnings()


def test_half_precision_states_raise_the_resolution(tmp_path):
    assert train(tmp_path, bf16=True)[0]["resolution"] > 10 * train(tmp_path)[0]["resolution"]


def test_options_reach_the_loss(tmp_path):
    plain = train(tmp_path)[0]["loss"]
    values = {
        train(tmp_path, **options)[0]["loss"] for options in ({"teacher_temperature": 0.1}, {"direction": "symmetric"})
    }
    assert len(values | {plain}) == 3


@pytest.mark.parametrize("options", [{"temperature": 0.0}, {"teacher_temperature": -1.0}])
def test_bad_temperature_is_refused_before_anything_is_computed(tmp_path, options):
    (name,) = options
    with pytest.raises(ValueError, match=f"^{name} must be a finite number"):
        DistillationConfig(output_dir=str(tmp_path), **options)
