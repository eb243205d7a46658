# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""A UniME folder, or any baseline of this harness, as a model of mteb (extra "mteb").

A plain SentenceTransformer given to mteb counts as one for texts alone: mteb then takes the pictures of an
image-text-to-text task away with no more than a line in the log, and the score looks plausible. Here pictures arrive or
the task is refused.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mteb.models.abs_encoder import AbsEncoder
from mteb.models.model_meta import ModelMeta, ScoringFunction
from mteb.types import PromptType

from evaluation.arguments import EncoderArguments
from evaluation.encoder import BaseEncoder
from evaluation.encoders import BASELINE_PREFIX, encoder_identity, make_encoder
from evaluation.similarities import Similarities
from unime.data.example import Example

PICTURES_AT_A_TIME = 256  # decoded pictures that are held in memory; texts are sorted by length over the whole set


class TaskRefused(ValueError):
    """A task of mteb asks for what the model, or this wrapper, cannot read."""


class UniMEModelMeta(ModelMeta):
    """What mteb wants to know of a model; `mteb.evaluate(model_meta(folder), tasks)` loads it when it is needed."""

    def load_model(self, device: str | None = None, **options: Any) -> "UniMEWrapper":
        """The model; mteb's own way asks for torchvision as soon as a model reads pictures, which ours do not need."""
        given = {**self.loader_kwargs, **options, **({} if device is None else {"device": device})}
        return UniMEWrapper(given.pop("model", self.name), self.revision, **given)


def model_meta(
    model: str | Path,
    revision: str | None = None,
    *,
    instructions: Mapping[str, str] | None = None,
    modalities: Sequence[str] = ("text", "image"),
    **options: Any,
) -> UniMEModelMeta:
    """The `ModelMeta` of a model, which is not loaded; the options are those of `UniMEWrapper`.

    `revision` is by default a digest of weights, code, options and instructions, since mteb takes over results of the same
    name and revision.
    """
    place = str(model).removeprefix(BASELINE_PREFIX)
    name = f"local/{Path(place).resolve().name}" if Path(place).is_dir() else place
    if revision is None:
        identity = [encoder_identity(EncoderArguments(str(model), **options)), dict(instructions or {})]
        revision = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
    return UniMEModelMeta.create_empty(
        {
            "loader": UniMEWrapper,
            "loader_kwargs": {"model": str(model), "instructions": instructions, **options},
            "name": name,
            "revision": revision,
            "framework": ["PyTorch"],
            "similarity_fn_name": ScoringFunction.COSINE,
            "use_instructions": True,
            "open_weights": True,
            "modalities": list(modalities),
        }
    )


class UniMEWrapper(AbsEncoder):
    """A model of this package for `mteb.evaluate`.

    Example::

        import mteb
        from evaluation.mteb_model import UniMEWrapper

        model = UniMEWrapper("runs/stage2/model", batch_size=8)
        results = mteb.evaluate(model, mteb.get_tasks(["CIRRIT2IRetrieval"]))

    The instruction of an input is, in this order: that of its row, `instructions`, the task's own prompt (one for both sides is
    taken for the queries alone: documents of MMEB are bare). Without any, the model's summary prompts are used.

    Args:
        model: Folder or Hub name, or `sentence-transformers:FOLDER`, as in `unime evaluate`.
        revision: See `model_meta`.
        device: "auto" (default), "cpu", "cuda", ...
        instructions: Your own by mteb's keys: a task's name, a task type, "query" or "document", or `NAME-query`.
        options: The other fields of `EncoderArguments`: `dtype`, `max_length`, `mixed`, ...; without a `batch_size`
            mteb's is used, which is 32 unless its `encode_kwargs` say otherwise.

    Raises:
        TaskRefused: While encoding, if a task has pictures and the model reads none, or an input has several pictures.
    """

    def __init__(
        self,
        model: str | Path,
        revision: str | None = None,
        *,
        device: str | None = None,
        instructions: Mapping[str, str] | None = None,
        **options: Any,
    ):
        options |= {} if device is None else {"device": device}
        self.encoder: BaseEncoder = make_encoder(EncoderArguments(str(model), **options))
        self.own_batch_size = options.get("batch_size")
        self.model_prompts = dict(instructions or {})
        self.mteb_model_meta = model_meta(
            model, revision, instructions=instructions, modalities=self.encoder.modalities, **options
        )

    def encode(
        self, inputs: Iterable[Mapping[str, list]], *, task_metadata, hf_split, hf_subset, prompt_type=None, **kwargs
    ) -> np.ndarray:
        """(N, D) float32 of mteb's batches; see `mteb.models.EncoderProtocol`."""
        check_modalities(self.mteb_model_meta, task_metadata)
        self.encoder.batch_size = self.own_batch_size or kwargs.get("batch_size", self.encoder.batch_size)
        instruction = self.instruction_for(task_metadata, prompt_type)
        vectors: list[np.ndarray] = []
        waiting: list[Example] = []
        for batch in inputs:
            waiting += read_batch(batch, instruction, task_metadata.name)
            if sum(example.image is not None for example in waiting) >= PICTURES_AT_A_TIME:
                vectors.append(self.encoder.encode(waiting, task_metadata.name))
                waiting = []
        if waiting:
            vectors.append(self.encoder.encode(waiting, task_metadata.name))
        return np.concatenate(vectors)

    def instruction_for(self, task_metadata, prompt_type: PromptType | None) -> str | None:
        """The instruction of inputs whose row has none; None: the summary prompts, "": texts are taken as they are."""
        name = self.get_prompt_name(task_metadata, prompt_type)
        if name is not None:
            return self.model_prompts[name]
        prompt = task_metadata.prompt
        if isinstance(prompt, Mapping):
            return prompt.get(prompt_type.value) if prompt_type else None
        return None if prompt_type == PromptType.document else prompt

    def similarity(self, embeddings1, embeddings2) -> np.ndarray:
        """Cosines (N, M); equal vectors have equal ones, as in our own runner."""
        first, second = (np.atleast_2d(np.asarray(side)) for side in (embeddings1, embeddings2))
        similarities = Similarities(np.concatenate([first, second]))
        candidates = np.arange(len(first), len(first) + len(second))
        return np.concatenate(list(similarities.blocks(np.arange(len(first)), candidates)))


def check_modalities(meta: ModelMeta, task_metadata) -> None:
    """Refuse a task with inputs of a kind that the model does not read; mteb would leave them out of mixed ones."""
    missing = [name for name in task_metadata.modalities if name not in meta.modalities]
    if missing:
        raise TaskRefused(
            f"task {task_metadata.name} has inputs of kind {', '.join(missing)}, but {meta.name} counts as a model for "
            f"{', '.join(meta.modalities)} alone; give mteb evaluation.mteb_model.UniMEWrapper(FOLDER) of a model that reads "
            "them, or leave the task out"
        )


def read_batch(batch: Mapping[str, list], instruction: str | None, name: str = "task") -> list[Example]:
    """The examples of one of mteb's batches: columns by name, whatever their order.

    mteb's `text` of a query has the row's instruction behind it, and white space is cut off documents; `query`, `body` and
    `instruction` are the parts. A document with a title is `text`, where mteb has joined the two.
    """
    column = "text" if "title" in batch else next((part for part in ("query", "body", "text") if part in batch), None)
    count = len(batch["image"] if column is None else batch[column])
    texts, images, own = (batch.get(part) or [None] * count for part in (column, "image", "instruction"))
    for image in images:
        if isinstance(image, list | tuple):
            raise TaskRefused(
                f"{name}: an input has {len(image)} pictures, and this wrapper reads one; leave the task out"
            )
    rows = zip(texts, images, own, strict=True)
    return [Example(text, image, of_row or instruction) for text, image, of_row in rows]
