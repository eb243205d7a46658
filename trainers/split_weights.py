# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Weights that DeepSpeed ZeRO-3 or FSDP2 splits over processes: loading them whole, splitting, and putting them together.

The library would load a model split under ZeRO-3, but then does not tell of unexpected weights. So every process loads
the model whole on the CPU, strictly, as without an engine, and keeps its part of it.
"""

import contextlib
from collections.abc import Iterator

import torch
from accelerate import PartialState
from accelerate.utils import DistributedType
from peft import PeftModel
from torch import nn
from torch.distributed.fsdp import MixedPrecisionPolicy
from torch.distributed.tensor import DTensor
from transformers import TrainingArguments
from transformers.integrations.deepspeed import set_hf_deepspeed_config, unset_hf_deepspeed_config

from modeling_unime import UniMEModel


@contextlib.contextmanager
def whole_weights(config: TrainingArguments) -> Iterator[None]:
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

    It takes FSDP for accelerators only. Its state is told of another kind of device until it has chosen; torch itself splits
    weights over gloo as well.
    """
    state = PartialState()
    if state.distributed_type == DistributedType.MULTI_CPU:
        state._shared_state["distributed_type"] = DistributedType.MULTI_XPU


def set_up_fsdp2(plugin, model: UniMEModel | PeftModel, config: TrainingArguments) -> None:
    """What accelerate would choose otherwise.

    The LLM's layers are split one by one. All else, the vision tower with it, is gathered at the start of a forward: a
    layer that some batch does not use would break the sum of gradients. (The library's list of layers also names classes
    that this model does not have, at which accelerate stops.) Gradients are added up in float32, and the unit vectors
    that the model returns stay float32, whatever it computes in.

    Args:
        plugin: accelerate's FSDP plugin; changed in place.
        model: the model, not yet split.
        config: the training options.
    """
    if plugin.transformer_cls_names_to_wrap is None:
        base = model.get_base_model() if isinstance(model, PeftModel) else model
        present = {type(module).__name__ for module in base.language_model.modules()}
        plugin.transformer_cls_names_to_wrap = sorted(present.intersection(base._no_split_modules))
    if config.bf16:
        plugin.mixed_precision_policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)


def gather_trained(model: nn.Module, is_main: bool) -> dict[str, torch.Tensor]:
    """The trained weights, whole, on the CPU of the main process. All processes must call it.

    Args:
        model: the model as the engine holds it.
        is_main: whether this process gets them.

    Returns:
        By name, in float32 where the engine keeps such copies of weights that it computes with in bf16; empty on other
        processes.
    """
    weights = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            whole = _whole(parameter)
            if is_main:
                weights[name] = whole.detach().to("cpu", copy=True)
    return weights


def _whole(parameter: nn.Parameter) -> torch.Tensor:
    if isinstance(parameter, DTensor):
        return parameter.full_tensor()
    if hasattr(parameter, "ds_id") or hasattr(parameter, "_hp_mapping"):  # DeepSpeed's marks of what it manages
        from deepspeed.utils import safe_get_full_fp32_param

        return safe_get_full_fp32_param(parameter)
    return parameter
