# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Phi-3.5-vision without its LM head, composed from the library's Phi3Model and CLIPVisionModel.

An image is shown to the tower as a whole and in crops. The tower's 24 x 24 features of each view are merged two by two,
the crops are put together to one picture, each row of it ends with a learned separator, and another one stands between
the crops' picture and the whole view. A two-layer MLP brings all of that to the width of the LLM.
"""

from collections.abc import Sequence

import torch
from torch import nn
from transformers import CLIPVisionModel, Phi3Model
from transformers.modeling_outputs import BaseModelOutputWithPast
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from .configuration_phi3v import Phi3VConfig
from .pickling import PicklableModel


class Phi3VRotaryEmbedding(nn.Module):
    """Longrope whose short or long factors are chosen by each row's length, or by the longest row of the batch.

    Private: the library, which chooses once per call, has no public way; its table of rope functions and the LLM's
    `rotary_emb` are used. Nothing is kept as a buffer: the 2 x 48 numbers come from the config.
    """

    def __init__(self, config: Phi3VConfig):
        super().__init__()
        self.text_config = config.text_config
        self.per_row = config.rope_choice == "row"
        self.original_length = self.text_config.rope_parameters["original_max_position_embeddings"]

    @torch.no_grad()
    def forward(self, x: torch.Tensor, position_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosines and sines (B, L, head_dim) of positions (B, L), with the dtype of `x`."""
        compute = ROPE_INIT_FUNCTIONS["longrope"]
        (short, scaling), (long, _) = (
            compute(self.text_config, position_ids.device, seq_len=length)
            for length in (self.original_length, self.original_length + 1)
        )
        lengths = position_ids.amax(dim=-1, keepdim=True) + 1  # (B, 1)
        lengths = lengths if self.per_row else lengths.amax().expand_as(lengths)
        frequencies = torch.where(lengths > self.original_length, long, short)  # (B, head_dim / 2)
        angles = position_ids[..., None].float() * frequencies[:, None].float()  # (B, L, head_dim / 2)
        angles = torch.cat((angles, angles), dim=-1)
        return (angles.cos() * scaling).to(x.dtype), (angles.sin() * scaling).to(x.dtype)


class Phi3VImageProjection(nn.Module):
    """Features of views to image tokens: 2 x 2 merge, separators, MLP."""

    def __init__(self, config: Phi3VConfig):
        super().__init__()
        merged = 4 * config.vision_config.hidden_size
        self.row_separator = nn.Parameter(torch.empty(1, 1, 1, merged))  # shapes as published
        self.view_separator = nn.Parameter(torch.empty(1, 1, merged))
        self.linear_1 = nn.Linear(merged, config.text_config.hidden_size)
        self.linear_2 = nn.Linear(config.text_config.hidden_size, config.text_config.hidden_size)

    def _rows(self, picture: torch.Tensor) -> torch.Tensor:
        """(H, W, C) -> (H * (W + 1), C), each row ending with the separator."""
        separators = self.row_separator[0].expand(picture.shape[0], 1, -1)
        return torch.cat((picture, separators), dim=1).flatten(0, 1)

    def _merge(self, views: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
        """Views (1 + rows * columns, S, S, C) of one image, the whole first, then its crops row by row -> (tokens, 4 C)."""
        rows, columns = grid
        count, side, _, channels = views.shape
        half = side // 2
        merged = views.view(count, half, 2, half, 2, channels).permute(0, 1, 3, 2, 4, 5).flatten(3)  # (n, h, h, 4 C)
        crops = merged[1:].view(rows, columns, half, half, -1).permute(0, 2, 1, 3, 4)
        crops = crops.reshape(rows * half, columns * half, -1)
        return torch.cat((self._rows(crops), self.view_separator[0], self._rows(merged[0])))

    def forward(self, views: Sequence[torch.Tensor], grids: Sequence[tuple[int, int]]) -> list[torch.Tensor]:
        """Tokens (tokens, D) of each image. The MLP runs once for all, so that ranks that split it stay in step."""
        images = [self._merge(*image) for image in zip(views, grids, strict=True)]  # each (tokens, 4 C)
        tokens = self.linear_2(nn.functional.gelu(self.linear_1(torch.cat(images))))
        return list(tokens.split([len(image) for image in images]))


class Phi3VModel(PicklableModel):
    """Vision tower, projection and LLM of Phi-3.5-vision, without its head.

    Example::

        from modeling_unime import Phi3VConfig, Phi3VModel

        text = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4}
        vision = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 336, "patch_size": 14}
        model = Phi3VModel(Phi3VConfig(text_config=text, vision_config=vision))

    [`UniMEModel.from_backbone`] loads the published weights into it.
    """

    config_class = Phi3VConfig
    base_model_prefix = "model"
    input_modalities = ("image", "text")
    supports_gradient_checkpointing = True
    _no_split_modules = ["Phi3DecoderLayer", "CLIPEncoderLayer"]
    _skip_keys_device_placement = ["past_key_values"]
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True

    def __init__(self, config: Phi3VConfig):
        super().__init__(config)
        self.vision_tower = CLIPVisionModel(config.vision_config)
        self.image_projection = Phi3VImageProjection(config)
        self.language_model = Phi3Model(config.text_config)
        if config.text_config.rope_parameters["rope_type"] == "longrope":
            self.language_model.rotary_emb = Phi3VRotaryEmbedding(config)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, Phi3VImageProjection):
            for separator in (module.row_separator, module.view_separator):
                nn.init.normal_(separator, std=self.config.text_config.initializer_range)

    def get_input_embeddings(self) -> nn.Module:
        return self.language_model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.language_model.set_input_embeddings(value)

    def get_image_features(self, pixel_values: torch.Tensor, image_sizes: torch.Tensor) -> list[torch.Tensor]:
        """Image tokens (tokens, D) of each image; arguments as in `forward`, unused crops at the end are left out."""
        vision = self.config.vision_config
        grids = [(height // vision.image_size, width // vision.image_size) for height, width in image_sizes.tolist()]
        counts = [1 + rows * columns for rows, columns in grids]
        views = torch.cat([pixels[:count] for pixels, count in zip(pixel_values, counts, strict=True)])
        states = self.vision_tower(views.to(self.vision_tower.dtype), output_hidden_states=True).hidden_states
        features = states[self.config.vision_feature_layer][:, 1:]  # (views, patches, C) without the class token
        side = vision.image_size // vision.patch_size
        features = features.unflatten(1, (side, side)).split(counts)
        return self.image_projection(features, grids)

    def _embed(self, input_ids, pixel_values, image_sizes) -> torch.Tensor:
        """Token embeddings (B, L, D) with the image tokens in place, images in row order."""
        is_image = (input_ids < 0) | (input_ids == self.config.image_token_id)  # (B, L)
        embeddings = self.get_input_embeddings()(input_ids.masked_fill(is_image, 0))
        if pixel_values is None:
            if is_image.any():
                raise ValueError("input_ids hold image tokens, but there are no pixel_values")
            return embeddings
        tokens = torch.cat(self.get_image_features(pixel_values, image_sizes))
        if len(tokens) != is_image.sum():
            raise ValueError(
                f"input_ids hold {is_image.sum().item()} image tokens, but the images take {len(tokens)}: the image "
                "processor's num_crops and the text must belong together, and an image must not be cut by truncation"
            )
        return embeddings.masked_scatter(is_image[..., None], tokens.to(embeddings.dtype))

    def _positions(self, attention_mask: torch.Tensor | None, embeddings: torch.Tensor) -> torch.Tensor:
        """Positions (B, L). Per row they count its own tokens only, so that padding does not make a row long."""
        batch, length = embeddings.shape[:2]
        if self.config.rope_choice == "row" and attention_mask is not None and attention_mask.ndim == 2:
            return (attention_mask.ne(0).cumsum(-1) - 1).clamp(min=0)
        return torch.arange(length, device=embeddings.device).expand(batch, -1)

    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        pixel_values: torch.Tensor | None = None,
        image_sizes: torch.Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        **kwargs,
    ) -> BaseModelOutputWithPast:
        """Hidden states of the LLM.

        Args:
            input_ids: (B, L); image tokens are `image_token_id` or negative.
            attention_mask: (B, L), 0 on padding.
            pixel_values: (images, crops + 1, 3, H, W), the whole image first; None when no row has an image.
            image_sizes: (images, 2), height and width of each padded canvas, as [`Phi3VImageProcessor`] gives them.
            position_ids: (B, L); default: counted from the mask.
            inputs_embeds: (B, L, D) instead of `input_ids` and images.
            kwargs: passed to the LLM (`use_cache`, `output_hidden_states`, ...).

        Returns:
            The LLM's output; `last_hidden_state` is (B, L, D).
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give either input_ids or inputs_embeds")
        if inputs_embeds is None:
            inputs_embeds = self._embed(input_ids, pixel_values, image_sizes)
        if position_ids is None:
            position_ids = self._positions(attention_mask, inputs_embeds)
        return self.language_model(
            inputs_embeds=inputs_embeds, attention_mask=attention_mask, position_ids=position_ids, **kwargs
        )
