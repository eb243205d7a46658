# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Configuration of Phi-3.5-vision (model type `phi3_v`), which transformers does not have."""

import dataclasses

from transformers import CLIPVisionConfig, Phi3Config, PreTrainedConfig

CLIP_L_336 = {  # the published code holds these sizes as constants, so the published config.json lacks them
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "projection_dim": 768,
    "image_size": 336,
    "patch_size": 14,
}
# What the published `embd_layer` may say; anything else is another model.
SUPPORTED_EMBEDDING = {
    "embedding_cls": "image",
    "hd_transform_order": "sub_glb",
    "projection_cls": "mlp",
    "use_hd_transform": True,
    "with_learnable_separator": True,
}
LONGROPE_NAMES = ("su", "longrope")  # the published one, and the current library's
ROPE_CHOICES = ("row", "batch")


class Phi3VConfig(PreTrainedConfig):
    """Configuration of [`Phi3VModel`].

    Example::

        from modeling_unime import Phi3VConfig, Phi3VModel

        text = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4}
        vision = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 336, "patch_size": 14}
        model = Phi3VModel(Phi3VConfig(text_config=text, vision_config=vision))

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
        embd_layer, img_processor = embd_layer or {}, img_processor or {}
        if rope_choice not in ROPE_CHOICES:
            raise ValueError(f"rope_choice is {rope_choice!r}; use one of {', '.join(ROPE_CHOICES)}")
        for name, value in SUPPORTED_EMBEDDING.items():
            if embd_layer.get(name, value) != value:
                raise ValueError(f"embd_layer.{name} is {embd_layer[name]!r}; only {value!r} is supported")
        feature = img_processor.get("type_feature", "patch")
        if feature != "patch":
            raise ValueError(f"img_processor.type_feature is {feature!r}; only 'patch' is supported")
        if text_config is None:
            text_config = self._take_text_config(kwargs)
        self.text_config = Phi3Config(**text_config) if isinstance(text_config, dict) else text_config
        vision_config = CLIP_L_336 if vision_config is None else vision_config
        self.vision_config = CLIPVisionConfig(**vision_config) if isinstance(vision_config, dict) else vision_config
        published_layer = img_processor.get("layer_idx", -2)
        self.vision_feature_layer = published_layer if vision_feature_layer is None else vision_feature_layer
        self.image_token_id = image_token_id
        self.rope_choice = rope_choice
        super().__init__(**kwargs | {"tie_word_embeddings": False})

    @staticmethod
    def _take_text_config(flat: dict) -> dict:
        """Move the LLM's keys out of the flat form, `rope_scaling` in the form of the current library."""
        own = {field.name for field in dataclasses.fields(Phi3Config)}
        own -= {field.name for field in dataclasses.fields(PreTrainedConfig)}
        text = {name: flat.pop(name) for name in own & set(flat)}
        text["sliding_window"] = None  # published as 262144, more than any text has; None spares its masks
        rope = {"rope_type": "default", "rope_theta": flat.pop("rope_theta", 10000.0)}
        scaling = flat.pop("rope_scaling", None)
        if scaling:
            name = scaling.get("rope_type", scaling.get("type"))
            if name not in LONGROPE_NAMES:
                raise ValueError(
                    f"rope_scaling is of type {name!r}; Phi-3.5-vision uses one of {', '.join(LONGROPE_NAMES)}"
                )
            length = text.get("original_max_position_embeddings", Phi3Config.original_max_position_embeddings)
            rope |= {"rope_type": "longrope", "original_max_position_embeddings": length}
            rope |= {factors: list(scaling[factors]) for factors in ("short_factor", "long_factor")}
        text.setdefault("rope_parameters", rope)
        return text
