# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""How a run is spread over processes: what goes together, and the weights of engines that split them.

`tests/trainers/test_engines.py` runs every combination that is allowed here on two CPU processes, and keeps the table in
docs/scale.md. The library would load a model split under ZeRO-3, but then does not tell of unexpected weights. So every
process loads the model whole on the CPU, strictly, as without an engine, and keeps its part of it.
"""

import contextlib
import importlib.util
from collections.abc import Iterator

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import DistributedType
from peft import PeftModel
from torch import nn
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy
from torch.distributed.tensor import DTensor
from transformers import TrainingArguments
from transformers.integrations import set_hf_deepspeed_config, unset_hf_deepspeed_config

from modeling_unime import UniMEModel

ENGINES = ("ddp", "zero2", "zero3", "fsdp2")
SPLITS_WEIGHTS = ("zero3", "fsdp2")


def engine_of(config: TrainingArguments) -> str:
    """Which of `ENGINES` the training options ask for."""
    if config.fsdp:
        version = config.fsdp_plugin_args["fsdp_version"]
        if version != 2:
            raise ValueError(f"fsdp_config asks for version {version}; only version 2, the default, is supported")
        return "fsdp2"
    if config.deepspeed_plugin is None:
        return "ddp"
    stage = config.deepspeed_plugin.zero_stage
    if stage not in (2, 3):
        raise ValueError(
            f"{config.deepspeed} asks for ZeRO stage {stage}; use stage 2 or 3 "
            "(examples/recipes/deepspeed_zero2.json, deepspeed_zero3.json), or no deepspeed for DDP"
        )
    return f"zero{stage}"


def find_conflict(engine: str, lora: bool, precision: str, quantization: str, on_gpu: bool) -> str | None:
    """Why options do not go together, and which of them to change; None when they do.

    `precision` ("float32", "bf16", "fp16") is that of the computation, beside weights in their own type.
    """
    if quantization == "4bit" and not lora:
        return "weights in 4 bits cannot be trained themselves: set lora_rank above 0, or quantization: none"
    if quantization == "4bit" and engine in SPLITS_WEIGHTS:
        return "weights in 4 bits cannot be split over processes: use DDP or ZeRO-2, or quantization: none"
    if precision == "fp16" and engine == "fsdp2":
        return (
            "fp16 needs its gradients scaled, which is not done for those that FSDP2 splits: use bf16: true, or "
            "DeepSpeed ZeRO-3"
        )
    if precision == "fp16" and not on_gpu:
        return "fp16 needs a GPU: use bf16: true, or neither"
    if quantization == "4bit" and not on_gpu:
        return "weights in 4 bits need a GPU: use quantization: none"
    return None


def check_engine(config: TrainingArguments, lora: bool) -> None:
    """Refuse what cannot work before anything is computed."""
    precision = "fp16" if config.fp16 else "bf16" if config.bf16 else "float32"
    on_gpu = config.device.type == "cuda"
    conflict = find_conflict(engine_of(config), lora, precision, config.quantization, on_gpu)
    if conflict is not None:
        raise ValueError(f"{conflict} (docs/scale.md shows what goes together)")
    if config.quantization == "4bit" and importlib.util.find_spec("bitsandbytes") is None:
        raise ImportError('quantization: 4bit needs bitsandbytes: pip install -c constraints.txt -e ".[quant]"')


@contextlib.contextmanager
def without_sharding(config: TrainingArguments) -> Iterator[None]:
    """Within it models are loaded, changed and saved whole, by a process alone, whatever the engine of the run."""
    unset_hf_deepspeed_config()
    try:
        yield
    finally:
        if config.deepspeed_plugin is not None:
            set_hf_deepspeed_config(config.hf_deepspeed_config)


def split_for_zero3(model: nn.Module, config: TrainingArguments) -> None:
    """Keep this process's part of the weights, in place, before the whole of them goes to the GPU."""
    import deepspeed  # an optional extra

    deepspeed.init_distributed()  # else it takes itself for one process; on GPUs accelerate has done so
    deepspeed.zero.Init(module=model, config_dict_or_path=config.hf_deepspeed_config.config)


def allow_fsdp_on_cpu() -> None:
    """Keep accelerate from running DDP on a CPU where FSDP is asked for, without a word.

    It takes FSDP for accelerators only. Its state is told of another kind of device until it has chosen; torch itself
    splits weights over gloo as well.
    """
    state = PartialState()  # private: that its attributes can be set
    if state.distributed_type == DistributedType.MULTI_CPU:
        state.distributed_type = DistributedType.MULTI_XPU


def set_up_fsdp2(plugin, model: UniMEModel | PeftModel, config: TrainingArguments) -> None:
    """Choose what accelerate's FSDP plugin would choose otherwise.

    The LLM's layers are split one by one. All else, the vision tower with it, is gathered at the start of a forward: a
    layer that some batch does not use would break the sum of gradients. (The library's list of layers also names classes
    that this model does not have, at which accelerate stops.) Gradients are added up in float32, and the unit vectors
    that the model returns stay float32, whatever it computes in.
    """
    if plugin.transformer_cls_names_to_wrap is None:
        base = model.get_base_model() if isinstance(model, PeftModel) else model
        plugin.transformer_cls_names_to_wrap = [type(base.language_model.layers[0]).__name__]
    if config.bf16:
        plugin.mixed_precision_policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)


def give_own_class_name(model: nn.Module) -> None:
    """Give the class that FSDP2 makes of a model's own the name and module of that: files beside it are copied."""
    wrapped = type(model)
    own = next(kind for kind in wrapped.__mro__ if not issubclass(kind, FSDPModule))
    wrapped.__name__, wrapped.__module__ = own.__name__, own.__module__


@contextlib.contextmanager
def defer_synchronisation(accelerator: Accelerator, model: nn.Module) -> Iterator[None]:
    """Keep ranks from exchanging gradients, and DeepSpeed from stepping, before the last chunk."""
    if accelerator.distributed_type != DistributedType.DEEPSPEED:
        with accelerator.no_sync(model):
            yield
        return
    state = accelerator.gradient_state  # private: that DeepSpeed's wrapper asks it whether to step
    before, state.sync_gradients = state.sync_gradients, False
    try:
        yield
    finally:
        state.sync_gradients = before


def gather_trained(model: nn.Module, engine: str, is_main: bool) -> dict[str, torch.Tensor]:
    """The trained weights by name, whole, on the CPU of the main process, {} elsewhere. All processes must call it.

    They are in float32 where DeepSpeed keeps such copies of weights that it computes with in bf16.
    """
    weights = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        whole = parameter
        if isinstance(parameter, DTensor):
            whole = parameter.full_tensor()
        elif engine.startswith("zero"):
            from deepspeed.utils import safe_get_full_fp32_param  # an optional extra

            managed = safe_get_full_fp32_param(parameter)
            whole = parameter if managed is None else managed
        if is_main:
            weights[name] = whole.detach().to("cpu", copy=True)
    return weights
