# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""A multimodal chat model as judge of candidates (UniME-V2): does the candidate meet the query, Yes or No?

The score is the probability of "Yes" against "No" as the first token of the answer. Text and images reach the model through
`UniMEProcessor`, which puts images where they stand in the text and needs no processor class of the model's own.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset
from transformers import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING, AutoConfig, AutoModelForImageTextToText, BatchFeature

from evaluation.plain_text import plain_text
from modeling_unime import UniMEProcessor
from modeling_unime.families import SUMMARY_TURNS, get_family
from modeling_unime.modeling_unime import STRICT_LOADING, check_loading
from unime.data.example import Example
from unime.shards import MiningError

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


class Side(NamedTuple):
    """A query or a candidate as the judge reads it: its text with image token."""

    text: str
    example: Example


class JudgePrompt:
    """From pairs to the model inputs of a judge. Refuses early, before any weights are loaded.

    Args:
        folder: a chat model with configuration, tokenizer and image processor.
        max_text_tokens: tokens of a query's or candidate's text that are kept.
        image_resolution: side of the square to which images are resized; None leaves them.
        chat_format: a name of `families.CHAT_FORMATS`; None takes what fits.

    Raises:
        MiningError: the model cannot be a judge.
        ValueError: the family is not supported.
    """

    def __init__(
        self,
        folder: Path,
        max_text_tokens: int = 1024,
        image_resolution: int | None = None,
        chat_format: str | None = None,
    ):
        config = AutoConfig.from_pretrained(folder)
        if type(config) not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
            raise MiningError(
                f"transformers has no chat model of type {config.model_type!r}; a UniME folder has lost its "
                "head. Use a multimodal chat model, such as Qwen2.5-VL"
            )
        self.folder = folder
        self.processor = UniMEProcessor.from_backbone(
            str(folder), chat_format=chat_format, image_resolution=image_resolution
        )
        self.max_text_tokens = max_text_tokens
        self.turn = self.processor.prompts["text"].split(SUMMARY_TURNS["text"])  # what surrounds the user's words
        tokenizer = self.processor.tokenizer
        self.answer_ids = [tokenizer.encode(answer, add_special_tokens=False)[0] for answer in ANSWERS]
        if self.answer_ids[0] == self.answer_ids[1]:
            token = tokenizer.convert_ids_to_tokens(self.answer_ids[0])
            raise MiningError(f"Yes and No begin with the same token, {token!r}; its score says nothing")
        self.limit = min(tokenizer.model_max_length, config.get_text_config().max_position_embeddings)

    def side(self, example: Example) -> Side:
        """A query or a candidate; its image stands before its text, as in MMEB's strings."""
        text = plain_text(example.text, example.instruction)
        for token in (self.processor.image_block, self.processor.image_token):
            text = text.replace(token, "")  # a text must not claim the place of an image
        encoded = self.processor.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        if len(encoded["input_ids"]) > self.max_text_tokens:
            text = text[: encoded["offset_mapping"][self.max_text_tokens][0]]
        return Side(text if example.image is None else IMAGE + text, example)

    def text(self, query: Side, candidate: Side) -> str:
        """The whole prompt of a pair."""
        parts = [QUESTION[0], query.text, QUESTION[1], candidate.text, QUESTION[2]]
        return self.turn[0] + "".join(parts) + self.turn[1]

    def inputs(self, pairs: Sequence[tuple[Side, Side]]) -> BatchFeature:
        """Model inputs of some pairs of query and candidate, padded on the left.

        Raises:
            MiningError: a prompt is longer than the judge can read.
        """
        images = [[side.example.open() for side in pair if side.example.image is not None] for pair in pairs]
        texts = [self.text(*pair) for pair in pairs]
        inputs = self.processor(text=texts, images=images, instruction="", max_length=NO_LIMIT, padding_side="left")
        lengths = inputs["attention_mask"].sum(dim=1)
        if (longest := int(lengths.max())) > self.limit:
            query = pairs[int(lengths.argmax())][0].example
            raise MiningError(
                f"the judge reads {self.limit} tokens, but the question on the query {query.describe()} has {longest}; "
                "lower --judge_max_text_tokens or --judge_image_resolution, in a new output folder; with the --cache of this run "
                "nothing that was judged is lost"
            )
        if get_family(self.processor.family).needs_token_types:
            inputs["mm_token_type_ids"] = (inputs["input_ids"] == self.processor.image_token_id).int()
        return inputs


class _Batches(Dataset):
    """Opens images and builds model inputs, one item per batch; runs in the workers of a DataLoader."""

    def __init__(self, prompt: JudgePrompt, batches: list[list[tuple[Side, Side]]]):
        self.prompt = prompt
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, number: int) -> BatchFeature:
        return self.prompt.inputs(self.batches[number])


def _as_it_is(inputs: BatchFeature) -> BatchFeature:
    return inputs


class Judge:
    """A chat model that scores pairs.

    Args:
        prompt: names the model, whose weights must fit exactly, and makes its inputs.
        dtype: of the weights.
        device: where to run.
        batch_size: pairs per forward pass.
        num_workers: processes that prepare batches; None: 4 on an accelerator, none on the CPU.

    Raises:
        WeightsMismatchError: weights are missing or unexpected.
    """

    def __init__(
        self,
        prompt: JudgePrompt,
        dtype: torch.dtype,
        device: torch.device,
        batch_size: int = 8,
        num_workers: int | None = None,
    ):
        key_mapping = get_family(prompt.processor.family).key_mapping
        model, info = AutoModelForImageTextToText.from_pretrained(
            prompt.folder, dtype=dtype, key_mapping=key_mapping, **STRICT_LOADING
        )
        check_loading(str(prompt.folder), info)
        self.model = model.eval().to(device)
        self.prompt = prompt
        self.batch_size = batch_size
        self.num_workers = (0 if device.type == "cpu" else 4) if num_workers is None else num_workers

    def scores(self, pairs: Sequence[tuple[Side, Side]]) -> np.ndarray:
        """How surely each candidate meets its query.

        Args:
            pairs: queries and candidates.

        Returns:
            (N,) float32 between 0 and 1.

        Raises:
            MiningError: a score is NaN.
        """
        order = sorted(range(len(pairs)), key=lambda i: _cost(pairs[i]), reverse=True)
        batches = [order[start : start + self.batch_size] for start in range(0, len(order), self.batch_size)]
        scores = np.empty(len(pairs), np.float32)  # (N,)
        outputs = self._run([[pairs[i] for i in batch] for batch in batches])
        for batch, output in zip(batches, outputs, strict=True):
            scores[batch] = output
        for i in np.flatnonzero(np.isnan(scores)):
            query, candidate = (side.example.describe() for side in pairs[i])
            raise MiningError(
                f"the judge's score of query {query} and candidate {candidate} is NaN; use --dtype float32"
            )
        return scores

    def _run(self, batches: list[list[tuple[Side, Side]]]) -> Iterator[np.ndarray]:
        loader = DataLoader(
            _Batches(self.prompt, batches),
            batch_size=None,
            num_workers=min(self.num_workers, len(batches)),
            collate_fn=_as_it_is,
        )
        for inputs in loader:
            with torch.inference_mode():
                # Padded on the left, so that the answer follows the last position in every row.
                logits = self.model(**inputs.to(self.model.device, self.model.dtype), logits_to_keep=1).logits[:, -1]
            yield logits[:, self.prompt.answer_ids].float().softmax(dim=-1)[:, 0].cpu().numpy()  # (B,)


def _cost(pair: tuple[Side, Side]) -> tuple[int, int]:
    """Pairs of like cost go together: by images, then by length."""
    return sum(side.example.image is not None for side in pair), sum(len(side.text) for side in pair)
