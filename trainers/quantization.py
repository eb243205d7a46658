# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""QLoRA (arXiv 2305.14314): the LLM's weights in 4 bits while LoRA is trained on them.

The model is loaded as always, whole and strictly, and its linear layers are replaced afterwards, so any source will do.
4 bits are for training only: the finished model has LoRA added to the weights of the source, in their own precision.
"""

import torch
from torch import nn

from modeling_unime import UniMEModel

# As in the paper: 4-bit NormalFloat, and the scales of its blocks quantised once more.
NF4 = {"quant_type": "nf4", "compress_statistics": True}


def quantize_llm(model: UniMEModel, compute_dtype: torch.dtype) -> None:
    """Put 4-bit layers in place of the LLM's linear ones; they become small when the model is moved to its device."""
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
