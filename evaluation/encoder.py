# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""From examples to an embedding matrix: each distinct example once, in batches of similar cost.

`BaseEncoder` does what every encoder needs (distinct examples, order, progress, refusal of NaN); `Encoder` adds the
model and the processor.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader
from tqdm.auto import tqdm
from transformers import CONFIG_MAPPING, AutoModel, AutoProcessor

from evaluation.dual_encoder import DualEncoderModel, DualEncoderProcessor, is_dual_encoder
from modeling_unime import UniMEConfig, UniMEModel, UniMEProcessor
from modeling_unime.families import FAMILIES
from unime.data.example import Example
from unime.model_files import read_model_type


class EncodingError(ValueError):
    """An example got an unusable embedding, or cannot be encoded."""


def pick_device(device: str) -> torch.device:
    """The device that an option names; "auto" is the first accelerator, else the CPU."""
    if device != "auto":
        try:
            chosen = torch.device(device)
        except RuntimeError as error:
            raise EncodingError(f"device {device!r} is unknown: {error}") from error
        if chosen.type == "cuda" and not torch.cuda.is_available():
            raise EncodingError(f"device {device!r}: this machine has no CUDA device that torch can use")
        return chosen
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def pick_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """The type of the weights that an option names; "auto" is bfloat16 on CUDA and float32 elsewhere."""
    if dtype == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    return getattr(torch, dtype)


def pick_workers(num_workers: int | None, device: torch.device) -> int:
    """How many processes prepare batches; None is 4 beside an accelerator, and none, the main process itself, on the CPU."""
    if num_workers is not None:
        return num_workers
    return 0 if device.type == "cpu" else 4


class BaseEncoder(ABC):
    """Encodes each distinct example once, `batch_size` of them per forward pass."""

    modalities: tuple[str, ...] = ("text", "image")  # what it reads

    def __init__(self, batch_size: int = 32):
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        self.batch_size = batch_size

    @abstractmethod
    def encode_batches(self, batches: list[list[Example]]) -> Iterator[np.ndarray]:
        """(B, D) float32 for each of some non-empty batches."""

    def check(self, examples: Sequence[Example], description: str) -> None:
        """Refuse what cannot be encoded, by EncodingError, before time is spent on anything."""
        if not examples:
            raise EncodingError(f"{description}: there is nothing to encode")
        for number, example in enumerate(examples):
            if example.is_empty:
                raise EncodingError(f"{description}: example {number} has neither a text nor an image")
            if reason := self.refusal(example):
                raise EncodingError(f"{description}: {reason}")

    def refusal(self, example: Example) -> str | None:
        """Why this encoder does not take an example; None if it does."""
        return None

    def encode(self, examples: Sequence[Example], description: str = "encoding") -> np.ndarray:
        """Encode examples; equal ones (text, image, instruction) once.

        Args:
            examples: What to encode.
            description: Shown at the progress bar and in messages.

        Returns:
            (N, D) float32, in the order of the examples.

        Raises:
            EncodingError: There are no examples, one is empty, or its embedding is NaN, infinite or zero.
            ImageError: An image cannot be read.
        """
        self.check(examples, description)
        # The costliest first, so that memory runs out at once if it does: images together, then by length of the text.
        order = sorted(dict.fromkeys(examples), key=lambda example: example.cost, reverse=True)
        batches = [order[start : start + self.batch_size] for start in range(0, len(order), self.batch_size)]
        vectors = None
        done = 0
        with tqdm(total=len(order), desc=description, unit="example", disable=None, leave=False) as bar:
            for batch, output in zip(batches, self.encode_batches(batches), strict=True):
                if len(output) != len(batch):
                    raise EncodingError(f"{description}: {len(batch)} examples gave {len(output)} embeddings")
                for fault in unusable_rows(batch, output).values():
                    raise EncodingError(f"{description}: {fault}")
                if vectors is None:
                    vectors = np.empty((len(order), output.shape[1]), dtype=np.float32)  # (U, D)
                vectors[done : done + len(batch)] = output
                done += len(batch)
                bar.update(len(batch))
        position = {example: number for number, example in enumerate(order)}
        return vectors[[position[example] for example in examples]]  # (N, D)


def unusable_rows(batch: list[Example], output: np.ndarray) -> dict[int, str]:
    """By row of a batch, what is wrong with its embedding."""
    zero, finite = ~output.any(axis=1), np.isfinite(output).all(axis=1)  # (B,)
    return {
        int(row): f"the embedding of {batch[row].describe()} is {'all zero' if zero[row] else 'NaN or infinite'}; "
        "check the weights, or use --dtype float32 if half precision overflows"
        for row in np.flatnonzero(~finite | zero)
    }


def _prepare(batch: list[Example], processor: Any, options: dict[str, Any]) -> dict[str, Any]:
    """Decoded images and tensors of a batch; runs in the workers of a DataLoader."""
    instructions = [example.instruction for example in batch]
    same = all(instruction == instructions[0] for instruction in instructions)
    inputs = processor(
        text=[example.text for example in batch],
        images=[example.open() for example in batch],
        instruction=instructions[0] if same else instructions,
        return_tensors="pt",
        **options,
    )
    return dict(inputs)


class Encoder(BaseEncoder):
    """A model with its processor, which turns examples into vectors.

    Example::

        from unime import Encoder
        from unime.data.example import Example

        encoder = Encoder.from_pretrained("my-model", batch_size=8)
        vectors = encoder.encode([Example("a dog"), Example(image="photos/dog.jpg")])
        assert vectors.shape[0] == 2

    Args:
        model: Called as `model(**inputs)`, gives `embeddings` (B, D).
        processor: Called with `text`, `images`, `instruction`, one element per example.
        batch_size: Examples per forward pass (default 32).
        device: Where to run. Default: where the model is.
        max_length: Token limit passed to the processor. Default: the processor's own.
        num_workers: Processes that decode images and build tensors ahead of the model. Default: 4 on an accelerator;
            0, the main process itself, on the CPU.
    """

    def __init__(
        self,
        model: nn.Module,
        processor: Any,
        batch_size: int = 32,
        device: str | torch.device | None = None,
        max_length: int | None = None,
        num_workers: int | None = None,
    ):
        super().__init__(batch_size)
        self.model = model if device is None else model.to(device)
        self.model.eval()  # which DeepSpeed's engines return nothing of
        self.processor = processor
        self.options = {} if max_length is None else {"max_length": max_length}
        parameter = next(self.model.parameters())
        self.device, self.dtype = parameter.device, parameter.dtype
        self.num_workers = pick_workers(num_workers, self.device)

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path,
        device: str = "auto",
        dtype: str = "auto",
        trust_remote_code: bool = False,
        **options: Any,
    ) -> "Encoder":
        """Load model and processor from a saved folder.

        Args:
            model: Folder or Hub name with configuration, weights and processor files; a multimodal LLM of a supported
                family is taken without its head, as the model that training starts from; CLIP and SigLIP with both towers added up.
            device: "auto", "cpu", "cuda", "cuda:1", ...
            dtype: "auto" (bfloat16 on CUDA, float32 elsewhere), "float32", "bfloat16" or "float16".
            trust_remote_code: Run the Python files in the folder, as far as neither this package nor transformers knows
                its model type, or that of its vision tower or LLM.
            options: `batch_size`, `max_length`, `num_workers`, see the class.
        """
        where = pick_device(device)
        type_of_weights = pick_dtype(dtype, where)
        model_type = read_model_type(model)
        if model_type in FAMILIES or model_type == UniMEConfig.model_type:
            loaded = UniMEModel.from_backbone(model, dtype=type_of_weights, trust_remote_code=trust_remote_code)
            processor = UniMEProcessor.from_backbone(model, trust_remote_code=trust_remote_code)
        elif is_dual_encoder(model):
            loaded = DualEncoderModel.load(model, dtype=type_of_weights)
            processor = DualEncoderProcessor.load(model)
        else:
            trusted = trust_remote_code and model_type not in CONFIG_MAPPING
            loaded = AutoModel.from_pretrained(model, dtype=type_of_weights, trust_remote_code=trusted)
            processor = AutoProcessor.from_pretrained(model, trust_remote_code=trusted)
        return cls(loaded, processor, device=where, **options)

    def encode_batches(self, batches: list[list[Example]]) -> Iterator[np.ndarray]:
        """See `BaseEncoder.encode_batches`."""
        loader = DataLoader(
            batches,
            batch_size=None,
            num_workers=min(self.num_workers, len(batches)),
            collate_fn=partial(_prepare, processor=self.processor, options=self.options),
            pin_memory=self.device.type == "cuda",
            generator=torch.Generator(),  # its own: an iterator begins with a random number, which would move dropout's masks
        )
        for inputs in loader:
            yield self.embed(inputs).float().cpu().numpy()  # (B, D)

    @torch.inference_mode()
    def embed(self, inputs: dict[str, Any]) -> torch.Tensor:
        """Embeddings (B, D) of the processor's output."""
        return self.model(**{name: self._move(value) for name, value in inputs.items()}).embeddings

    def _move(self, value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        return value.to(self.device, dtype=self.dtype if value.is_floating_point() else None, non_blocking=True)
