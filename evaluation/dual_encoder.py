# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""CLIP and SigLIP with the call signatures of UniME's model and processor, as baselines of the same training and evaluation.

A text and an image are encoded by a tower each; an example with both is the sum of the two unit vectors, scaled to length 1
(UniIR's score fusion, arXiv 2311.17136). Texts go in as they are for any SentenceTransformer: without MMEB's image token,
after their instruction, without a prompt. What is saved is a plain CLIP or SigLIP folder.

SigLIP has learnt from lower-case texts that are padded to its 64 tokens and read whole, padding included.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch.nn import functional as F
from transformers import (
    AutoConfig,
    AutoProcessor,
    BatchFeature,
    CLIPConfig,
    CLIPModel,
    ProcessorMixin,
    SiglipConfig,
    SiglipModel,
)
from transformers.utils import logging

from evaluation.plain_text import plain_text
from modeling_unime.modeling_unime import UniMEOutput, WeightsMismatchError
from modeling_unime.pictures import read_picture
from modeling_unime.saved_folder import give_weights_the_usual_mode
from unime.model_files import read_model_type

logger = logging.get_logger(__name__)


def is_dual_encoder(path_or_repo: str | Path) -> bool:
    """Whether a folder or Hub id holds a CLIP or SigLIP model."""
    return read_model_type(path_or_repo) in (CLIPConfig.model_type, SiglipConfig.model_type)


class DualEncoderModel:
    """What is common to CLIP and SigLIP as models that embed texts, images, or both."""

    @classmethod
    def load(cls, path_or_repo: str | Path, **options) -> DualEncoderModel:
        """Load a CLIP or SigLIP folder or Hub id with the options of `from_pretrained`; missing weights are an error."""
        is_siglip = read_model_type(path_or_repo) == SiglipConfig.model_type
        model_class = SiglipDualEncoder if is_siglip else CLIPDualEncoder
        model, found = model_class.from_pretrained(path_or_repo, output_loading_info=True, **options)
        if found["missing_keys"]:
            raise WeightsMismatchError(
                f"{path_or_repo}: weights are missing: {', '.join(sorted(found['missing_keys']))}"
            )
        return model

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        text_rows: torch.Tensor | None = None,
        pixel_values: torch.Tensor | None = None,
        image_rows: torch.Tensor | None = None,
    ) -> UniMEOutput:
        """`embeddings` (B, D), float32, unit length, of a batch as [`DualEncoderProcessor`] makes it.

        T texts (T, L) and I images (I, 3, H, W) come with the numbers (T,) and (I,) of the examples that they belong to.
        """
        vectors, rows = [], []
        if input_ids is not None:
            vectors.append(self.get_text_features(input_ids, attention_mask).pooler_output)
            rows.append(text_rows)
        if pixel_values is not None:
            vectors.append(self.get_image_features(pixel_values).pooler_output)
            rows.append(image_rows)
        parts, rows = F.normalize(torch.cat(vectors).float(), dim=1), torch.cat(rows)  # (T + I, D), (T + I,)
        sums = parts.new_zeros(int(rows.max()) + 1, parts.shape[1]).index_add(0, rows, parts)  # (B, D)
        embeddings = F.normalize(sums, dim=1)
        if self.training and len(vectors) == 1:
            # Ranks exchange the gradient of every weight in each backward pass, also of the tower that had no input.
            unused = self.text_tower if input_ids is None else self.image_tower
            embeddings = embeddings + 0 * sum(weight.sum() for module in unused for weight in module.parameters())
        return UniMEOutput(embeddings=embeddings)

    def save_pretrained(self, save_directory: str | Path, state_dict: dict | None = None, **options) -> None:
        """Write a plain CLIP or SigLIP folder; see `PreTrainedModel.save_pretrained`."""
        with torch.device("meta"):
            plain = self.plain_class(self.config)
        plain.load_state_dict(self.state_dict() if state_dict is None else state_dict, assign=True)
        plain.save_pretrained(save_directory, **options)
        give_weights_the_usual_mode(save_directory)


class CLIPDualEncoder(DualEncoderModel, CLIPModel):
    """CLIP that embeds texts, images, or both."""

    plain_class = CLIPModel

    @property
    def text_tower(self) -> list[torch.nn.Module]:
        """The modules that only texts go through."""
        return [self.text_model, self.text_projection]

    @property
    def image_tower(self) -> list[torch.nn.Module]:
        """The modules that only images go through."""
        return [self.vision_model, self.visual_projection]


class SiglipDualEncoder(DualEncoderModel, SiglipModel):
    """SigLIP that embeds texts, images, or both."""

    plain_class = SiglipModel

    @property
    def text_tower(self) -> list[torch.nn.Module]:
        """The modules that only texts go through."""
        return [self.text_model]

    @property
    def image_tower(self) -> list[torch.nn.Module]:
        """The modules that only images go through."""
        return [self.vision_model]


class DualEncoderProcessor:
    """The processor of a CLIP or SigLIP model, called as [`UniMEProcessor`] is."""

    def __init__(self, processor: ProcessorMixin, config: CLIPConfig | SiglipConfig):
        self.processor = processor
        self.tokenizer = processor.tokenizer
        self.max_length = config.text_config.max_position_embeddings
        self.is_siglip = isinstance(config, SiglipConfig)
        patches = (config.vision_config.image_size // config.vision_config.patch_size) ** 2
        self.image_tokens = patches if self.is_siglip else patches + 1

    @classmethod
    def load(cls, path_or_repo: str | Path) -> DualEncoderProcessor:
        """Read tokenizer and image processor of a CLIP or SigLIP folder or Hub id."""
        return cls(AutoProcessor.from_pretrained(path_or_repo), AutoConfig.from_pretrained(path_or_repo))

    def __call__(
        self,
        text: Sequence[str | None],
        images: Sequence[Image.Image | None],
        instruction: str | Sequence[str | None] | None = None,
        max_length: int | None = None,
        return_tensors: str = "pt",
    ) -> BatchFeature:
        """`input_ids`, `attention_mask`, `text_rows`, `pixel_values` and `image_rows` of a batch, see the model.

        Each example has its element in `text` and `images`, None where it has none; an instruction is put before its text.
        Texts of more than `max_length` tokens (default, and at most: CLIP's 77, SigLIP's 64) lose their end, and a warning
        says so.
        """
        instructions = (
            [instruction] * len(text) if instruction is None or isinstance(instruction, str) else instruction
        )
        texts, pictures = {}, {}
        for row, (words, image, before) in enumerate(zip(text, images, instructions, strict=True)):
            if words is None and image is None:
                raise ValueError(f"row {row} of the batch has neither text nor image")
            joined = plain_text(words, before)
            if joined or image is None:
                texts[row] = joined
            if image is not None:
                pictures[row] = read_picture(image)
        inputs = {}
        if texts:
            inputs |= {**self._tokenise(list(texts.values()), max_length), "text_rows": list(texts)}
        if pictures:
            features = self.processor.image_processor(images=list(pictures.values()), return_tensors=return_tensors)
            inputs |= {"pixel_values": features["pixel_values"], "image_rows": list(pictures)}
        return BatchFeature(inputs, tensor_type=return_tensors)

    def _tokenise(self, texts: list[str], max_length: int | None) -> dict[str, list[list[int]]]:
        limit = min(max_length or self.max_length, self.max_length)
        ids = self._token_ids(texts, truncation=True, max_length=limit)
        if any(len(row) == limit for row in ids) and self.count_cut(texts, max_length):
            logger.warning_once(f"texts of more than {limit} tokens lose their end, which is all that the model reads")
        padding = {"padding": "max_length", "max_length": self.max_length} if self.is_siglip else {"padding": True}
        padded = self.tokenizer.pad({"input_ids": ids}, return_attention_mask=True, **padding)
        names = ("input_ids",) if self.is_siglip else ("input_ids", "attention_mask")
        return {name: padded[name] for name in names}

    def _token_ids(self, texts: list[str], **options) -> list[list[int]]:
        texts = [text.lower() for text in texts] if self.is_siglip else texts
        return self.tokenizer(texts, **options)["input_ids"]

    def count_cut(self, texts: list[str], max_length: int | None = None) -> int:
        """How many texts have more tokens than the model reads."""
        limit = min(max_length or self.max_length, self.max_length)
        return sum(len(row) > limit for row in self._token_ids(texts, verbose=False))

    def count_image_tokens(self, width: int, height: int) -> int:
        """Patches of an image, whatever its size."""
        return self.image_tokens

    def check_image_size(
        self, width: int, height: int, max_length: int | None = None, instruction: str | None = ""
    ) -> int:
        """The same; every image is resized to one square, and no text stands beside it."""
        return self.image_tokens

    def save_pretrained(self, save_directory: str | Path) -> None:
        """Write the files of the model's own processor."""
        self.processor.save_pretrained(save_directory)
