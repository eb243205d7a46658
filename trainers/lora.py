# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Which weights are trained: the LLM's, whole or through LoRA. Vision tower and projector stay frozen."""

import re
from collections.abc import Mapping

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn

from modeling_unime import UniMEModel

from .public_names import is_local


def lora_pattern(model: UniMEModel) -> str:
    """Regular expression that matches the linear layers of the LLM and nothing else.

    Short names such as "q_proj", or peft's "all-linear", would also hit the vision tower.
    """
    root = f"model.{model.family.language_model}"
    names = [
        name for name, module in model.named_modules() if name.startswith(root + ".") and isinstance(module, nn.Linear)
    ]
    projections = sorted({name.rsplit(".", 1)[1] for name in names})
    return rf"{re.escape(root)}\..*\.({'|'.join(projections)})"


def prepare_for_training(
    model: UniMEModel,
    rank: int,
    alpha: int | None = None,
    dropout: float = 0.0,
    lora_type: str = "lora",
    init: str = "default",
) -> UniMEModel | PeftModel:
    """Freeze all but the LLM, or put LoRA on the LLM.

    Args:
        model: the model; changed in place.
        rank: LoRA rank; 0 trains the whole LLM.
        alpha: LoRA alpha (default: twice the rank).
        dropout: LoRA dropout (default 0).
        lora_type: "lora", or "dora" (arXiv 2402.09353): length and direction of the weights' rows apart (default "lora").
        init: of the first of the two matrices: "default" (peft's, uniform) or "gaussian". The second is zero.

    Returns:
        The model itself, or a `PeftModel` around it.
    """
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    if rank == 0:
        for parameter in model.language_model.parameters():
            parameter.requires_grad_(True)
        return model
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha or 2 * rank,
        lora_dropout=dropout,
        bias="none",
        target_modules=lora_pattern(model),
        use_dora=lora_type == "dora",
        init_lora_weights=True if init == "default" else init,
    )
    if is_local(model.name_or_path):
        model.name_or_path = ""  # a checkpoint's adapter and its card would tell the path
    return get_peft_model(model, config)


def hold_in_float32(model: nn.Module, whole: bool = False) -> None:
    """Bring the trained weights to float32, in place, whatever the type of the checkpoint.

    At usual learning rates most steps are smaller than half the distance of two numbers in bf16, and would be lost. What
    is computed in bf16 or fp16 is the business of `bf16` and `fp16`; the finished model has the checkpoint's type.

    Args:
        model: the model, with `requires_grad` set.
        whole: bring the frozen weights to float32, too (default False).
    """
    for parameter in model.parameters():
        if whole or parameter.requires_grad:
            parameter.data = parameter.data.float()


def put_trained(
    model: UniMEModel,
    trained: Mapping[str, torch.Tensor],
    rank: int,
    alpha: int | None = None,
    lora_type: str = "lora",
) -> UniMEModel:
    """The model with trained weights in place of its own, or with LoRA added to the weights it adapts.

    Args:
        model: the model that training started from, whole; changed in place.
        trained: the trained weights, by their names in what `prepare_for_training` returned.
        rank: LoRA rank, as for `prepare_for_training`.
        alpha: LoRA alpha, as for `prepare_for_training`.
        lora_type: "lora" or "dora", as for `prepare_for_training`.

    Raises:
        ValueError: when a trained weight is missing, unknown or of another shape; names them.
    """
    prepared = prepare_for_training(model, rank, alpha, lora_type=lora_type)
    copy_trained(prepared, trained)
    return prepared.merge_and_unload() if isinstance(prepared, PeftModel) else prepared


@torch.no_grad()
def copy_trained(model: nn.Module, trained: Mapping[str, torch.Tensor]) -> None:
    """Put trained weights in place of those of a model that require gradients.

    Raises:
        ValueError: when a trained weight is missing, unknown or of another shape; names them.
    """
    places = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    wrong = sorted(places.keys() ^ trained.keys())
    wrong += [name for name in places.keys() & trained.keys() if places[name].shape != trained[name].shape]
    if wrong:
        raise ValueError(f"the trained weights are not those of the model: {', '.join(wrong[:20])}")
    for name, place in places.items():
        place.copy_(trained[name])
