# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Which weights are trained, and how they are held: the LLM's, whole or through LoRA; all others stay frozen."""

import copy
import re
from collections.abc import Mapping

import torch
from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model
from torch import nn

from modeling_unime import UniMEModel
from trainers.embedding_config import EmbeddingTrainingConfig
from unime.public_names import is_local

# As in the paper: 4-bit NormalFloat, and the scales of its blocks quantised once more.
NF4 = {"quant_type": "nf4", "compress_statistics": True}
INITIALISATIONS = (True, "gaussian")  # others change the weights that LoRA is added to, or need data


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


def lora_config(args: EmbeddingTrainingConfig) -> LoraConfig | None:
    """The LoRA that the options ask for; None trains the LLM whole."""
    if args.lora_rank == 0:
        return None
    return LoraConfig(
        r=args.lora_rank,
        lora_alpha=args.lora_alpha or 2 * args.lora_rank,
        lora_dropout=args.lora_dropout,
        use_dora=args.lora_type == "dora",
        init_lora_weights=True if args.lora_init == "default" else args.lora_init,
    )


def quantize_llm(model: UniMEModel, compute_dtype: torch.dtype) -> None:
    """Put 4-bit layers in place of the LLM's linear ones (QLoRA, arXiv 2305.14314), in a model that is loaded as always.

    They become small when the model is moved to its device. 4 bits are for training only: the finished model has LoRA added
    to the weights of the source, in their own precision.
    """
    import bitsandbytes  # an optional extra

    language_model = model.language_model
    for name, linear in list(language_model.named_modules()):
        if isinstance(linear, nn.Linear):
            small = bitsandbytes.nn.Linear4bit(
                linear.in_features,
                linear.out_features,
                bias=linear.bias is not None,
                compute_dtype=compute_dtype,
                device="meta",
                **NF4,
            )
            small.weight = bitsandbytes.nn.Params4bit(linear.weight.data, requires_grad=False, module=small, **NF4)
            small.bias = linear.bias
            language_model.set_submodule(name, small)
    model.is_loaded_in_4bit = True  # private: where peft and the Trainer look


def freeze_for_training(model: UniMEModel, config: PeftConfig | None = None) -> UniMEModel | PeftModel:
    """The model, changed in place, with all frozen but the LLM, or with LoRA, by default on all linear layers of the LLM."""
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    if config is None:
        for parameter in model.language_model.parameters():
            parameter.requires_grad_(True)
        return model
    if not isinstance(config, LoraConfig):
        raise ValueError(f"peft_config is a {type(config).__name__}; give a LoraConfig")
    if config.init_lora_weights not in INITIALISATIONS:
        raise ValueError(
            f"init_lora_weights is {config.init_lora_weights!r}, which changes the weights that LoRA is added to; use "
            f"one of {', '.join(map(repr, INITIALISATIONS))}"
        )
    if config.target_modules is None:
        config = copy.deepcopy(config)
        config.target_modules = lora_pattern(model)
    if is_local(model.name_or_path):
        model.name_or_path = ""  # a checkpoint's adapter and its card would tell the path
    return get_peft_model(model, config)


def hold_in_float32(model: nn.Module, whole: bool = False) -> None:
    """Bring the trained weights, or all of them, to float32, in place, whatever the type of the checkpoint.

    At usual learning rates most steps are smaller than half the distance of two numbers in bf16, and would be lost. What
    is computed in bf16 or fp16 is the business of `bf16` and `fp16`; the finished model has the checkpoint's type.
    """
    for parameter in model.parameters():
        if whole or parameter.requires_grad:
            parameter.data = parameter.data.float()


def merge_trained(
    model: UniMEModel, trained: Mapping[str, torch.Tensor], config: PeftConfig | None = None
) -> UniMEModel:
    """A whole model, changed in place, with trained weights in place of its own, or with LoRA added to its weights.

    `trained` has them by their names in what `freeze_for_training` returned for the same `config`.
    """
    prepared = freeze_for_training(model, config)
    copy_trained(prepared, trained)
    return prepared.merge_and_unload() if isinstance(prepared, PeftModel) else prepared


@torch.no_grad()
def copy_trained(model: nn.Module, trained: Mapping[str, torch.Tensor]) -> None:
    """Put trained weights in place of those of a model that require gradients: all of these, and no others."""
    places = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    wrong = sorted(places.keys() ^ trained.keys())
    wrong += [name for name in places.keys() & trained.keys() if places[name].shape != trained[name].shape]
    if wrong:
        raise ValueError(f"the trained weights are not those of the model: {', '.join(wrong[:20])}")
    for name, place in places.items():
        place.copy_(trained[name])
