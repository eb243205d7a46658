# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""A multimodal chat model as judge of candidates (UniME-V2): does the candidate meet the query, Yes or No?

The score is the probability of "Yes" against "No" as the first token of the answer. Text and images reach the model through
`UniMEProcessor`, which puts images where they stand in the text and needs no processor class of the model's own.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader
from transformers import (
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    AutoConfig,
    AutoModelForImageTextToText,
    BatchFeature,
    PreTrainedModel,
)

from evaluation.encoder import pick_device, pick_dtype, pick_workers
from evaluation.encoders import find_model
from evaluation.fingerprint import code_identity, model_identity
from evaluation.plain_text import plain_text
from modeling_unime import UniMEProcessor
from modeling_unime.families import SUMMARY_TURNS, get_family
from modeling_unime.modeling_unime import STRICT_LOADING, check_loading
from unime.data.example import Example
from unime.options import check_at_least

# What precedes the query, stands between query and candidate, and follows the candidate (UniME-V2's prompt).
QUESTION = (
    "I will provide you with a query and a candidate. Please evaluate whether the candidate meets the requirements of the "
    "query. If it does, respond with 'Yes'; if it doesn't, respond with 'No'. Query:",
    ", Candidates:",
    ".",
)
ANSWERS = ("Yes", "No")
IMAGE = "<|image_1|>\n"  # the processor puts an image wherever one of these stands
NO_LIMIT = 1 << 30  # tokens: the processor would shorten a prompt from its end, where the answer is asked for

Pairs = Sequence[tuple[Example, Example]]  # of query and candidate


@dataclass
class JudgeOptions:
    """A chat model that says which candidates meet the query (UniME-V2)."""

    judge: str | None = field(
        default=None,
        metadata={
            "help": "Folder (or name on the Hub) of a multimodal chat model, which is asked whether a candidate meets the "
            "query; what it affirms nearly as much as the positive is left out. Default: no judge."
        },
    )
    judge_batch_size: int = field(default=8, metadata={"help": "Pairs that the judge reads at a time."})
    judge_max_text_tokens: int = field(
        default=1024, metadata={"help": "Tokens of a query's or candidate's text that the judge reads."}
    )
    judge_image_resolution: int | None = field(
        default=None, metadata={"help": "Resize images for the judge to squares of so many pixels. Default: do not."}
    )

    def __post_init__(self) -> None:
        check_at_least(self, judge_batch_size=1, judge_max_text_tokens=1, judge_image_resolution=1)


class Judge:
    """A chat model that scores pairs; its weights are loaded when the first pairs are asked about."""

    def __init__(
        self, options: JudgeOptions, device: str = "auto", dtype: str = "auto", num_workers: int | None = None
    ):
        self.options = options
        self.device = pick_device(device)
        self.dtype = pick_dtype(dtype, self.device)
        self.num_workers = pick_workers(num_workers, self.device)
        try:
            self.folder = find_model(options.judge)
            self._read_folder()
        except (OSError, ValueError) as error:  # what the libraries say of a folder that is not as it should be
            raise ValueError(f"judge {options.judge}: {error}") from error

    def _read_folder(self) -> None:
        config = AutoConfig.from_pretrained(self.folder)
        if type(config) not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
            raise ValueError(
                f"transformers has no chat model of type {config.model_type!r}; a UniME folder has lost its head. Use a "
                "multimodal chat model, such as Qwen2.5-VL"
            )
        resolution = self.options.judge_image_resolution
        self.processor = UniMEProcessor.from_backbone(str(self.folder), image_resolution=resolution)
        self.turn = self.processor.prompts["text"].split(SUMMARY_TURNS["text"])  # what surrounds the user's words
        tokenizer = self.processor.tokenizer
        self.answer_ids = [tokenizer.encode(answer, add_special_tokens=False)[0] for answer in ANSWERS]
        if self.answer_ids[0] == self.answer_ids[1]:
            token = tokenizer.convert_ids_to_tokens(self.answer_ids[0])
            raise ValueError(f"Yes and No begin with the same token, {token!r}; its score says nothing")
        self.limit = min(tokenizer.model_max_length, config.get_text_config().max_position_embeddings)

    @cached_property
    def model(self) -> PreTrainedModel:
        """The chat model, whose weights must fit exactly."""
        model, info = AutoModelForImageTextToText.from_pretrained(
            self.folder, dtype=self.dtype, key_mapping=get_family(self.processor.family).key_mapping, **STRICT_LOADING
        )
        check_loading(str(self.folder), info)
        return model.eval().to(self.device)

    def __getstate__(self) -> dict:
        """Without the weights: workers that prepare batches need none."""
        return {name: value for name, value in self.__dict__.items() if name != "model"}

    def identity(self) -> list:
        """What the scores depend on beside the pairs, ready for JSON."""
        asked = [QUESTION, self.turn, self.options.judge_max_text_tokens, self.options.judge_image_resolution]
        code = code_identity(Path(__file__).parent)
        return [model_identity(self.folder), *asked, self.device.type, str(self.dtype), code]

    def text(self, example: Example) -> str:
        """A query or a candidate as the judge reads it; its image stands before its text, as in MMEB's strings."""
        text = plain_text(example.text, example.instruction)
        for token in (self.processor.image_block, self.processor.image_token):
            text = text.replace(token, "")  # a text must not claim the place of an image
        encoded = self.processor.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        if len(encoded["input_ids"]) > self.options.judge_max_text_tokens:
            text = text[: encoded["offset_mapping"][self.options.judge_max_text_tokens][0]]
        return text if example.image is None else IMAGE + text

    def prompt(self, query: Example, candidate: Example) -> str:
        """The whole question on a pair."""
        parts = [QUESTION[0], self.text(query), QUESTION[1], self.text(candidate), QUESTION[2]]
        return self.turn[0] + "".join(parts) + self.turn[1]

    def inputs(self, pairs: Pairs) -> BatchFeature:
        """Model inputs of some pairs, padded on the left; refuses a question that is longer than the judge can read."""
        images = [[example.open() for example in pair if example.image is not None] for pair in pairs]
        texts = [self.prompt(*pair) for pair in pairs]
        inputs = self.processor(text=texts, images=images, instruction="", max_length=NO_LIMIT, padding_side="left")
        lengths = inputs["attention_mask"].sum(dim=1)
        if (longest := int(lengths.max())) > self.limit:
            query = pairs[int(lengths.argmax())][0]
            raise ValueError(
                f"the judge reads {self.limit} tokens, but the question on the query {query.describe()} has {longest}; "
                "lower --judge_max_text_tokens or --judge_image_resolution, in a new output folder"
            )
        if get_family(self.processor.family).needs_token_types:
            inputs["mm_token_type_ids"] = (inputs["input_ids"] == self.processor.image_token_id).int()
        return inputs

    def scores(self, pairs: Pairs) -> np.ndarray:
        """How surely each candidate meets its query, (N,) float32 between 0 and 1."""
        # Pairs of like cost go together: by images, then by length.
        costs = [tuple(map(sum, zip(query.cost, candidate.cost, strict=True))) for query, candidate in pairs]
        order = sorted(range(len(pairs)), key=costs.__getitem__, reverse=True)
        size = self.options.judge_batch_size
        batches = [order[start : start + size] for start in range(0, len(order), size)]
        scores = np.empty(len(pairs), np.float32)
        outputs = self._run([[pairs[i] for i in batch] for batch in batches])
        for batch, output in zip(batches, outputs, strict=True):
            scores[batch] = output
        for i in np.flatnonzero(np.isnan(scores)):
            query, candidate = (example.describe() for example in pairs[i])
            raise ValueError(
                f"the judge's score of query {query} and candidate {candidate} is NaN; use --dtype float32"
            )
        return scores

    def _run(self, batches: list[Pairs]) -> Iterator[np.ndarray]:
        # One item of the data set is a batch: workers open images and build model inputs.
        workers = min(self.num_workers, len(batches))
        for inputs in DataLoader(batches, batch_size=None, num_workers=workers, collate_fn=self.inputs):
            with torch.inference_mode():
                # Padded on the left, so that the answer follows the last position in every row.
                logits = self.model(**inputs.to(self.model.device, self.model.dtype), logits_to_keep=1).logits[:, -1]
            yield logits[:, self.answer_ids].float().softmax(dim=-1)[:, 0].cpu().numpy()  # (B,)
