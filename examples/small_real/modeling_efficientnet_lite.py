# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""EfficientNet-Lite0 as the vision tower of a LLaVA-shaped model: a picture becomes a grid of feature vectors.

Lite networks (google-research's EfficientNet-Lite) have no squeeze-and-excitation and ReLU6 throughout, so that they
run on phones, and on CPUs here. This file is copied beside the weights.
"""

import torch
from torch import nn
from torch.nn import functional
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

# Repeats, kernel, stride, expansion, channels in and out of the stages of Lite0.
STAGES = (
    (1, 3, 1, 1, 32, 16),
    (2, 3, 2, 6, 16, 24),
    (2, 5, 2, 6, 24, 40),
    (3, 3, 2, 6, 40, 80),
    (3, 5, 1, 6, 80, 112),
    (4, 5, 2, 6, 112, 192),
    (1, 3, 1, 6, 192, 320),
)


class EfficientNetLiteConfig(PreTrainedConfig):
    """Configuration of [`EfficientNetLiteModel`].

    Args:
        image_size: Pixels a side.
        patch_size: Pixels a side of what one feature vector stands for, after pooling: 56 gives 4 x 4 vectors.
        hidden_size: Channels of the last layer.
    """

    model_type = "efficientnet_lite"

    def __init__(self, image_size: int = 224, patch_size: int = 56, hidden_size: int = 1280, **kwargs):
        self.image_size = image_size
        self.patch_size = patch_size
        self.hidden_size = hidden_size
        super().__init__(**kwargs)


class SameConv(nn.Conv2d):
    """A convolution padded as TensorFlow's "same": where the padding is odd, one more on the right and bottom."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        kernel, stride = self.kernel_size[0], self.stride[0]
        missing = [max((-(size // -stride) - 1) * stride + kernel - size, 0) for size in pixels.shape[-2:]]
        top, left = missing[0] // 2, missing[1] // 2
        padded = functional.pad(pixels, (left, missing[1] - left, top, missing[0] - top))
        return functional.conv2d(padded, self.weight, self.bias, self.stride, groups=self.groups)


def norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)


class InvertedResidual(nn.Module):
    """Widen, filter each channel, narrow; what comes in is added where the shape allows."""

    def __init__(self, kernel: int, stride: int, expansion: int, channels: int, out_channels: int):
        super().__init__()
        wide = channels * expansion
        if expansion > 1:
            self._expand_conv = nn.Conv2d(channels, wide, 1, bias=False)
            self._bn0 = norm(wide)
        self._depthwise_conv = SameConv(wide, wide, kernel, stride, groups=wide, bias=False)
        self._bn1 = norm(wide)
        self._project_conv = nn.Conv2d(wide, out_channels, 1, bias=False)
        self._bn2 = norm(out_channels)
        self.expands = expansion > 1
        self.adds = stride == 1 and channels == out_channels

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        wide = functional.relu6(self._bn0(self._expand_conv(features))) if self.expands else features
        wide = functional.relu6(self._bn1(self._depthwise_conv(wide)))
        narrow = self._bn2(self._project_conv(wide))
        return narrow + features if self.adds else narrow


class EfficientNetLiteModel(PreTrainedModel):
    """The network without its classifier; `hidden_states` holds the pooled grid, row by row, twice.

    Batch statistics never move: the network sees a few thousand pictures here, and saw a million before.
    """

    config_class = EfficientNetLiteConfig
    base_model_prefix = "efficientnet_lite"
    main_input_name = "pixel_values"
    input_modalities = ("image",)
    supports_gradient_checkpointing = False

    def __init__(self, config: EfficientNetLiteConfig):
        super().__init__(config)
        self._conv_stem = SameConv(3, 32, 3, 2, bias=False)
        self._bn0 = norm(32)
        self._blocks = nn.ModuleList(
            InvertedResidual(kernel, stride if number == 0 else 1, expansion, before if number == 0 else after, after)
            for repeats, kernel, stride, expansion, before, after in STAGES
            for number in range(repeats)
        )
        self._conv_head = nn.Conv2d(STAGES[-1][-1], config.hidden_size, 1, bias=False)
        self._bn1 = norm(config.hidden_size)
        self.post_init()

    def train(self, mode: bool = True) -> "EfficientNetLiteModel":
        """In training mode, too, normalisation is by the statistics of ImageNet."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self

    def forward(self, pixel_values: torch.Tensor, **kwargs) -> BaseModelOutput:
        """(B, 3, H, W) pixels to (B, (image_size / patch_size)^2, hidden_size) features."""
        # Channels last is what depthwise convolutions are twice as fast with on a CPU.
        pixels = pixel_values.to(self.dtype).contiguous(memory_format=torch.channels_last)
        features = functional.relu6(self._bn0(self._conv_stem(pixels)))
        for block in self._blocks:
            features = block(features)
        features = functional.relu6(self._bn1(self._conv_head(features)))  # (B, D, 7, 7) of 224 pixels
        side = self.config.image_size // self.config.patch_size
        grid = functional.adaptive_avg_pool2d(features, side).flatten(2).transpose(1, 2)  # (B, side * side, D)
        return BaseModelOutput(last_hidden_state=grid, hidden_states=(grid, grid))


EfficientNetLiteConfig.register_for_auto_class()
EfficientNetLiteModel.register_for_auto_class("AutoModel")
