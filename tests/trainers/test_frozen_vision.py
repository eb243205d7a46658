# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""What a frozen vision tower makes of an image is kept from pass to pass, and nothing else changes."""

import sys
from pathlib import Path

import pytest
import torch
from tiny_models import BACKBONES, make_llava_next

from modeling_unime import UniMEModel
from trainers.frozen_vision import FrozenVision, modules_outside_the_llm
from trainers.lora import freeze_for_training

sys.path.insert(0, str(Path(__file__).parent))
from training_worker import Run, build  # noqa: E402


def gradients_and_runs(model, folder, **options):
    """Gradients of one step, with dropout in the LLM, and how often the vision tower ran in it."""
    trainer = build(Run("stage2", str(model), str(folder), batch=16, chunk=5, steps=1, options=options))
    counts = {"computed": 0, "asked": 0}

    def counted(name, function):
        def call(*args, **kwargs):
            counts[name] += 1
            return function(*args, **kwargs)

        return call

    trainer.vision._compute = counted("computed", trainer.vision._compute)
    trainer.model.model.get_image_features = counted("asked", trainer.model.model.get_image_features)
    batch = next(iter(trainer.get_train_dataloader()))
    trainer.current_gradient_accumulation_steps = 1
    torch.manual_seed(0)
    trainer.training_step(trainer.model, batch)
    assert not trainer.vision._kept, "features are freed when the step ends"
    return [weight.grad.clone() for weight in trainer.model.parameters() if weight.grad is not None], counts


def test_features_are_computed_once_for_each_chunk(tmp_path, folder):
    model = make_llava_next(tmp_path / "backbone", dropout=0.3)
    kept, once = gradients_and_runs(model, folder)
    anew, twice = gradients_and_runs(model, folder, keep_image_features=False)
    assert once["asked"] == twice["asked"] == twice["computed"] == 2 * once["computed"] > 2
    assert any(gradient.abs().max() > 1e-4 for gradient in kept)
    for a, b in zip(kept, anew, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("family", sorted(BACKBONES))
def test_modules_outside_the_llm(family, backbones):
    model = UniMEModel.from_backbone(backbones[family])
    outside = {weight for module in modules_outside_the_llm(model) for weight in module.parameters()}
    inside = set(model.language_model.parameters())
    own = {weight for weight in model.model.parameters(recurse=False)}  # LLaVA-NeXT's newline
    assert outside and not outside & inside
    assert outside | inside | own == set(model.parameters())


def test_a_trained_tower_is_refused(backbones):
    model = freeze_for_training(UniMEModel.from_backbone(backbones["llava_next"]))
    model.model.multi_modal_projector.linear_1.weight.requires_grad_(True)
    with pytest.raises(ValueError, match="linear_1.weight is trained"):
        FrozenVision(model)


def test_only_the_llm_is_in_training_mode_while_it_trains(backbones, folder):
    """Dropout in a frozen tower would make every picture another one, and other features in the second pass."""
    trainer = build(Run("stage2", str(backbones["llava_next"]), str(folder), batch=16, chunk=5, steps=1))
    modes = []

    def note(module, inputs, output):
        outside = modules_outside_the_llm(trainer.model)
        modes.append((module.training, any(part.training for whole in outside for part in whole.modules())))

    trainer.model.language_model.register_forward_hook(note)
    trainer.train()
    assert set(modes) == {(True, False)}
