# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""What the project uses of other libraries without their promise: nine things, each with a test that says what moved.

Beside the files of a Hub folder (modeling_unime/), whose classes must set what the library's model classes set, nothing
else that begins with an underscore is touched.
"""

import ast
import inspect

import accelerate
import peft
import pytest
import torch
import transformers
from accelerate.state import GradientState, PartialState
from accelerate.utils import DistributedType
from PIL import Image
from tiny_models import BACKBONES
from torch import nn
from torch.distributed.fsdp import FSDPModule
from transformers import Trainer
from transformers.integrations import TensorBoardCallback

from modeling_unime import UniMEModel, UniMEProcessor
from trainers.engines import give_own_class_name
from unime.options import PACKAGES

ALLOWED = {(f"trainers/{name}.py", "_prepare_inputs") for name in ("embedding_trainer", "evaluation_loop")}


def text_of(thing) -> str:
    return inspect.getsource(thing)


def test_trainer_moves_a_batch_to_its_device():
    """trainers/embedding_trainer.py, evaluation_loop.py: a batch is moved, and under DeepSpeed cast, as the library does it."""
    assert hasattr(Trainer, "_prepare_inputs"), "transformers renamed Trainer._prepare_inputs"
    assert list(inspect.signature(Trainer._prepare_inputs).parameters) == ["self", "inputs"]


def test_trainer_counts_the_batches_of_a_step():
    """trainers/embedding_trainer.py: the last step of an epoch may accumulate fewer batches than the option says."""
    counted = "self.current_gradient_accumulation_steps = len(batch_samples)"
    assert counted in text_of(Trainer), "transformers no longer counts the batches of a step in this attribute"


def test_trainer_runs_an_epoch_in_a_method():
    """trainers/embedding_trainer.py: none begins after the last step."""
    loop = text_of(Trainer._inner_training_loop)
    assert "self._run_epoch(\n                model=model" in loop, "transformers runs an epoch by something else"


def test_states_of_accelerate_can_be_told():
    """trainers/engines.py: FSDP2 on a CPU, and no step of DeepSpeed before the last chunk."""
    for state, name, value in (
        (PartialState(cpu=True), "distributed_type", DistributedType.MULTI_XPU),
        (GradientState(), "sync_gradients", False),
    ):
        before = getattr(state, name)
        setattr(state, name, value)
        told = getattr(type(state)(), name)
        setattr(state, name, before)
        assert told == value, f"accelerate's {type(state).__name__} no longer shares what is set on it"
    chosen = text_of(accelerate.state.AcceleratorState)
    assert "MULTI_XPU" in chosen and "DistributedType.FSDP" in chosen, "accelerate chooses FSDP by something else"
    reads = text_of(accelerate.Accelerator.backward)
    assert "sync_gradients" in reads, "accelerate no longer asks sync_gradients whether DeepSpeed steps"


def test_class_that_fsdp2_makes():
    """trainers/engines.py: of FSDPModule and of the model's own class, beside which the files to copy are."""

    class Own(nn.Linear):
        pass

    model = Own(2, 2)
    model.__class__ = type("FSDPOwn", (FSDPModule, Own), {})  # as torch does, without processes
    give_own_class_name(model)
    assert (type(model).__name__, type(model).__module__) == ("Own", __name__)


def test_files_of_a_checkpoint():
    """trainers/run.py: the state is written last, the random state of each rank before it."""
    written = text_of(Trainer._save_checkpoint)
    assert "TRAINER_STATE_NAME" in written and "_save_rng_state" in written, (
        "transformers writes checkpoints otherwise"
    )
    assert written.index("_save_rng_state") < written.index("save_to_json"), "the state is no longer written last"
    assert transformers.trainer.TRAINER_STATE_NAME == "trainer_state.json", "trainer_state.json has another name"
    assert '"rng_state.pth"' in text_of(Trainer._save_rng_state), "the files of random states have other names"
    assert "rng_state_{self.args.process_index}.pth" in text_of(Trainer._save_rng_state)


def test_tensorboard_callback_keeps_its_writer():
    """trainers/callbacks.py and hard_negative_trainer.py: our writer in its place, and histograms beside its scalars."""
    callback = TensorBoardCallback()
    assert callback.tb_writer is None and callback.logging_dir is None, "transformers keeps the writer elsewhere"


def test_a_model_in_four_bits_is_marked():
    """trainers/lora.py: what our own layers are, peft and the Trainer learn from an attribute of the model."""
    tells = "is_loaded_in_4bit"
    assert tells in text_of(peft.tuners.lora.model), "peft asks another attribute"


@pytest.mark.parametrize("family", sorted(BACKBONES))
def test_image_features_come_from_one_method(family, backbones, monkeypatch):
    """trainers/frozen_vision.py: it stands in the place of `get_image_features`."""
    model = UniMEModel.from_backbone(backbones[family])
    compute, calls = model.model.get_image_features, []
    monkeypatch.setattr(
        model.model,
        "get_image_features",
        lambda *args, **kwargs: calls.append(1) or compute(*args, **kwargs),
        raising=False,
    )
    processor = UniMEProcessor.from_backbone(backbones[family])
    with torch.no_grad():
        model(**processor(text=["a"], images=[Image.new("RGB", (64, 64))]))
    assert calls == [1], f"transformers no longer calls get_image_features of {family}, or calls it more than once"


def test_nothing_else_that_is_private_is_touched(repository):
    """Attributes with one underscore of objects that are not the project's."""
    trees = {
        file.relative_to(repository).as_posix(): ast.parse(file.read_text(encoding="utf-8"))
        for package in PACKAGES
        if package != "modeling_unime"
        for file in (repository / package).rglob("*.py")
    }
    own = {"_replace", "_asdict"}  # of named tuples, documented
    for tree in trees.values():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                own.add(node.name)
            elif (
                isinstance(node, ast.Attribute)
                and isinstance(node.ctx, ast.Store)
                and isinstance(node.value, ast.Name)
            ):
                own |= {node.attr} if node.value.id in ("self", "cls") else set()
    touched = {
        (file, node.attr)
        for file, tree in trees.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.endswith("__")
        if node.attr not in own
    }
    assert touched == ALLOWED
