# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Configuration of Phi-3.5-vision (model type `phi3_v`), which transformers does not have."""

from transformers import CLIPVisionConfig, Phi3Config, PreTrainedConfig

CLIP_L_336 = {  # the published code holds these sizes as constants, so the published config.json lacks them
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "projection_dim": 768,
    "image_size": 336,
    "patch_size": 14,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
}
# What the published `embd_layer` may say; anything else is another model.
SUPPORTED_EMBEDDING = {
    "embedding_cls": "image",
    "hd_transform_order": "sub_glb",
    "projection_cls": "mlp",
    "use_hd_transform": True,
    "with_learnable_separator": True,
}
LONGROPE_NAMES = ("su", "longrope")
ROPE_CHOICES = ("row", "batch")


def _rope_parameters(rope_scaling: dict | None, theta: float, original_length: int) -> dict:
    """The published `rope_scaling` in the form of the current library, which calls the type "su" longrope."""
    if not rope_scaling:
        return {"rope_type": "default", "rope_theta": theta}
    name = rope_scaling.get("rope_type", rope_scaling.get("type"))
    if name not in LONGROPE_NAMES:
        raise ValueError(f"rope_scaling is of type {name!r}; Phi-3.5-vision uses one of {', '.join(LONGROPE_NAMES)}")
    return {
        "rope_type": "longrope",
        "rope_theta": theta,
        "short_factor": list(rope_scaling["short_factor"]),
        "long_factor": list(rope_scaling["long_factor"]),
        "original_max_position_embeddings": original_length,
    }


def _check_published(embd_layer: dict, img_processor: dict) -> None:
    """Refuse variants of the architecture that this code does not compute."""
    for name, value in SUPPORTED_EMBEDDING.items():
        if embd_layer.get(name, value) != value:
            raise ValueError(f"embd_layer.{name} is {embd_layer[name]!r}; only {value!r} is supported")
    if img_processor.get("type_feature", "patch") != "patch":
        raise ValueError(f"img_processor.type_feature is {img_processor['type_feature']!r}; only 'patch' is supported")


class Phi3VConfig(PreTrainedConfig):
    """Configuration of [`Phi3VModel`].

    Takes the flat form of microsoft/Phi-3.5-vision-instruct, where the LLM's sizes stand at the top, and the nested form
    that it saves.

    Args:
        text_config (`dict` or `Phi3Config`, *optional*):
            The LLM. Default: made from the flat keys (`hidden_size`, `rope_scaling`, ...).
        vision_config (`dict` or `CLIPVisionConfig`, *optional*):
            The vision tower. Default: CLIP ViT-L/14 at 336 pixels, as published.
        embd_layer (`dict`, *optional*):
            As published; checked, not kept.
        img_processor (`dict`, *optional*):
            As published; its `layer_idx` becomes `vision_feature_layer`.
        vision_feature_layer (`int`, *optional*):
            Which hidden states of the tower are used. Default: -2, the output of the last layer but one.
        image_token_id (`int`, defaults to 32044):
            Id of `<|image|>`. Negative ids, as the published processor writes them, mark image tokens too.
        rope_choice (`str`, defaults to `"row"`):
            Whether the short or long rope factors are taken by the length of each "row", so that a row's embedding does
            not depend on its batch mates, or by that of the longest in the "batch", as the published code does.

    Raises:
        ValueError: for a variant of the architecture that is not supported.
    """

    model_type = "phi3_v"
    sub_configs = {"text_config": Phi3Config, "vision_config": CLIPVisionConfig}

    def __init__(
        self,
        text_config: dict | Phi3Config | None = None,
        vision_config: dict | CLIPVisionConfig | None = None,
        embd_layer: dict | None = None,
        img_processor: dict | None = None,
        vision_feature_layer: int | None = None,
        image_token_id: int = 32044,
        rope_choice: str = "row",
        **kwargs,
    ):
        if rope_choice not in ROPE_CHOICES:
            raise ValueError(f"rope_choice is {rope_choice!r}; use one of {', '.join(ROPE_CHOICES)}")
        _check_published(embd_layer or {}, img_processor or {})
        if text_config is None:
            text_config = self._take_text_config(kwargs)
        self.text_config = Phi3Config(**text_config) if isinstance(text_config, dict) else text_config
        vision_config = CLIP_L_336 if vision_config is None else vision_config
        self.vision_config = CLIPVisionConfig(**vision_config) if isinstance(vision_config, dict) else vision_config
        published_layer = (img_processor or {}).get("layer_idx", -2)
        self.vision_feature_layer = published_layer if vision_feature_layer is None else vision_feature_layer
        self.image_token_id = image_token_id
        self.rope_choice = rope_choice
        kwargs["tie_word_embeddings"] = False
        super().__init__(**kwargs)

    @staticmethod
    def _take_text_config(flat: dict) -> dict:
        """Move the LLM's keys out of the flat form."""
        own = set(Phi3Config.__dataclass_fields__) - set(PreTrainedConfig.__dataclass_fields__)
        text = {name: flat.pop(name) for name in own & set(flat)}
        theta, scaling = flat.pop("rope_theta", 10000.0), flat.pop("rope_scaling", None)
        if "rope_parameters" not in text:
            original = text.get("original_max_position_embeddings", Phi3Config.original_max_position_embeddings)
            text["rope_parameters"] = _rope_parameters(scaling, theta, original)
        text["sliding_window"] = None  # published as 262144, more than any text has; None spares its masks
        return text
