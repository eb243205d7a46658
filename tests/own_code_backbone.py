# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""A tiny LLaVA whose vision tower, or whose LLM, is of a type that only files beside its weights know."""

from pathlib import Path

from tiny_models import TEXT, make_tokenizer, save_backbone
from transformers import AutoModel, CLIPImageProcessorPil, CLIPVisionConfig, LlamaConfig, LlavaConfig
from transformers.dynamic_module_utils import get_class_from_dynamic_module

CODE = {
    "vision": {
        "configuration_tower.py": """
from transformers import PreTrainedConfig

class TowerConfig(PreTrainedConfig):
    model_type = "own_tower"

    def __init__(self, image_size=28, patch_size=7, hidden_size=16, **kwargs):
        self.image_size, self.patch_size, self.hidden_size = image_size, patch_size, hidden_size
        super().__init__(**kwargs)
""",
        "modeling_tower.py": """
from torch import nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from .configuration_tower import TowerConfig
from .scale_tower import SCALE

class TowerModel(PreTrainedModel):
    config_class = TowerConfig
    main_input_name = "pixel_values"

    def __init__(self, config):
        super().__init__(config)
        self.patches = nn.Conv2d(3, config.hidden_size, config.patch_size, config.patch_size)
        self.norm = nn.BatchNorm1d(config.hidden_size)
        self.post_init()

    def forward(self, pixel_values, **kwargs):
        features = self.norm(self.patches(pixel_values.to(self.dtype)).flatten(2)).transpose(1, 2) * SCALE
        return BaseModelOutput(last_hidden_state=features, hidden_states=(features, features))
""",
        "scale_tower.py": "SCALE = 1.0\n",
    },
    "text": {
        "modeling_llm.py": """
from transformers import LlamaConfig, LlamaModel

class OwnLlmConfig(LlamaConfig):
    model_type = "own_llm"

class OwnLlmModel(LlamaModel):
    config_class = OwnLlmConfig
""",
    },
}
MODEL = {"vision": "modeling_tower.TowerModel", "text": "modeling_llm.OwnLlmModel"}
CONFIG = {"vision": "configuration_tower.TowerConfig", "text": "modeling_llm.OwnLlmConfig"}


def make_llava_with_code(folder: Path, part: str = "vision") -> Path:
    """LLaVA whose `part`, "vision" or "text", brings its own code."""
    folder.mkdir(parents=True)
    for name, content in CODE[part].items():
        (folder / name).write_text(content, encoding="utf-8")
    model_class = get_class_from_dynamic_module(MODEL[part], str(folder))
    AutoModel.register(model_class.config_class, model_class, exist_ok=True)
    tokenizer = make_tokenizer(["<image>"], bos=True)
    classes = {"vision": CLIPVisionConfig, "text": LlamaConfig}
    values = {
        "vision": {"hidden_size": 16, "image_size": 28, "patch_size": 7},
        "text": {**TEXT, "vocab_size": len(tokenizer)},
    }
    classes[part] = model_class.config_class
    values[part]["auto_map"] = {"AutoConfig": CONFIG[part], "AutoModel": MODEL[part]}
    if part == "text":
        values["vision"] |= {"num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    config = LlavaConfig(
        vision_config=classes["vision"](**values["vision"]),
        text_config=classes["text"](**values["text"]),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=16,
        vision_feature_layer=-1,
        vision_feature_select_strategy="full" if part == "vision" else "default",
    )
    image_processor = CLIPImageProcessorPil(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28})
    return save_backbone(folder, config, tokenizer, image_processor, 0.0, 0)
