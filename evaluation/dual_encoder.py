# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""CLIP with the call signatures of UniME's model and processor, as a baseline of the same training and evaluation.

A text and an image are encoded by a tower each; an example with both is the sum of the two unit vectors, scaled to length 1
(UniIR's score fusion, arXiv 2311.17136). Texts go in as they are for any SentenceTransformer: without MMEB's image token,
after their instruction, without a prompt. What is saved is a plain CLIP folder.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch.nn import functional as F
from transformers import AutoProcessor, BatchFeature, CLIPConfig, CLIPModel, CLIPProcessor, PreTrainedConfig
from transformers.utils import logging

from evaluation.plain_text import plain_text
from modeling_unime.modeling_unime import UniMEOutput, WeightsMismatchError
from modeling_unime.pictures import read_picture
from modeling_unime.saved_folder import give_weights_the_usual_mode

logger = logging.get_logger(__name__)


def is_dual_encoder(path_or_repo: str | Path) -> bool:
    """Whether a folder or Hub id holds a CLIP model."""
    config, _ = PreTrainedConfig.get_config_dict(path_or_repo)
    return config.get("model_type") == CLIPConfig.model_type


class DualEncoderModel(CLIPModel):
    """A CLIP model that embeds texts, images, or both."""

    @classmethod
    def load(cls, path_or_repo: str | Path, **options) -> DualEncoderModel:
        """Load a CLIP folder or Hub id with the options of `from_pretrained`; missing weights are an error."""
        model, found = cls.from_pretrained(path_or_repo, output_loading_info=True, **options)
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
            unused = [self.vision_model, self.visual_projection]
            if input_ids is None:
                unused = [self.text_model, self.text_projection]
            embeddings = embeddings + 0 * sum(weight.sum() for module in unused for weight in module.parameters())
        return UniMEOutput(embeddings=embeddings)

    def save_pretrained(self, save_directory: str | Path, state_dict: dict | None = None, **options) -> None:
        """Write a plain CLIP folder; see `PreTrainedModel.save_pretrained`."""
        with torch.device("meta"):
            plain = CLIPModel(self.config)
        plain.load_state_dict(self.state_dict() if state_dict is None else state_dict, assign=True)
        plain.save_pretrained(save_directory, **options)
        give_weights_the_usual_mode(save_directory)


class DualEncoderProcessor:
    """The processor of a CLIP model, called as [`UniMEProcessor`] is."""

    def __init__(self, processor: CLIPProcessor, config: CLIPConfig):
        self.processor = processor
        self.tokenizer = processor.tokenizer
        self.max_length = config.text_config.max_position_embeddings
        self.image_tokens = (config.vision_config.image_size // config.vision_config.patch_size) ** 2 + 1

    @classmethod
    def load(cls, path_or_repo: str | Path) -> DualEncoderProcessor:
        """Read tokenizer and image processor of a CLIP folder or Hub id."""
        return cls(AutoProcessor.from_pretrained(path_or_repo), CLIPConfig.from_pretrained(path_or_repo))

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
        Texts of more than `max_length` tokens (default, and at most: CLIP's 77) lose their end, and a warning says so.
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
            limit = min(max_length or self.max_length, self.max_length)
            encoded = self.tokenizer(list(texts.values()), padding=True, truncation=True, max_length=limit)
            if any(encoding.overflowing for encoding in encoded.encodings):
                logger.warning_once(f"texts of more than {limit} tokens lose their end, which is all that CLIP reads")
            inputs |= {**encoded, "text_rows": list(texts)}
        if pictures:
            features = self.processor.image_processor(images=list(pictures.values()), return_tensors=return_tensors)
            inputs |= {"pixel_values": features["pixel_values"], "image_rows": list(pictures)}
        return BatchFeature(inputs, tensor_type=return_tensors)

    def count_image_tokens(self, width: int, height: int) -> int:
        """Patches of an image, whatever its size."""
        return self.image_tokens

    def check_image_size(
        self, width: int, height: int, max_length: int | None = None, instruction: str | None = ""
    ) -> int:
        """The same; every image is resized to one square, and no text stands beside it."""
        return self.image_tokens

    def save_pretrained(self, save_directory: str | Path) -> None:
        """Write the files of CLIP's own processor."""
        self.processor.save_pretrained(save_directory)
