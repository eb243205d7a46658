# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Token ids of built prompts: shortened to a limit where the user's text stands, image placeholders expanded."""

from functools import cached_property
from typing import NamedTuple

from transformers.utils import logging

logger = logging.get_logger(__name__)


class Prompt(NamedTuple):
    """A prompt, and where the user's text begins and ends in it (in characters)."""

    string: str
    start: int
    end: int


class PromptTokenizer:
    """Prompts to token ids.

    Args:
        tokenizer: the backbone's.
        image_block: text that stands for one image.
        image_token_id: id of the placeholder in it.
        split_at_image: see `Family`.
    """

    def __init__(self, tokenizer, image_block: str, image_token_id: int, split_at_image: bool):
        self.tokenizer = tokenizer
        self.image_block = image_block
        self.image_token_id = image_token_id
        self.split_at_image = split_at_image

    def encode(self, prompts: list[Prompt], image_tokens: list[list[int]], limit: int) -> list[list[int]]:
        """Token ids of prompts, with as many placeholders as their images have tokens.

        Args:
            prompts: B prompts.
            image_tokens: tokens of each image of each prompt.
            limit: tokens a row may have; what is too long loses the end of the user's text.

        Returns:
            B lists of ids.

        Raises:
            ValueError: names the row that does not fit even without the user's text.
        """
        prompts = [self._cut(prompt, limit) for prompt in prompts]
        token_ids = [ids for ids, _ in self.tokenize([prompt.string for prompt in prompts])]
        for row, (ids, counts) in enumerate(zip(token_ids, image_tokens, strict=True)):
            excess = len(ids) + sum(counts) - len(counts) - limit
            if excess > 0:
                ids = self._shorten(prompts[row], excess, limit, row)
            token_ids[row] = self._expand(ids, counts)
        return token_ids

    def tokenize(self, prompts: list[str], with_spans: bool = False) -> list[tuple[list[int], list[tuple[int, int]]]]:
        """Token ids of prompts, one placeholder for an image, and where each token stands in the prompt."""
        if not self.split_at_image:
            encoded = self.tokenizer(prompts, return_offsets_mapping=with_spans)
            spans = encoded["offset_mapping"] if with_spans else [[]] * len(prompts)
            return list(zip(encoded["input_ids"], spans, strict=True))
        rows = []
        for prompt in prompts:
            ids, spans, start = [], [], 0
            for number, piece in enumerate(prompt.split(self.image_block)):
                if number:
                    ids.append(self.image_token_id)
                    spans.append((start - len(self.image_block), start))
                encoded = self.tokenizer(piece, return_offsets_mapping=with_spans)
                ids += encoded["input_ids"]
                spans += [(start + left, start + right) for left, right in encoded.get("offset_mapping", ())]
                start += len(piece) + len(self.image_block)
            rows.append((ids, spans))
        return rows

    @cached_property
    def _longest_token(self) -> int:
        """Characters of the longest token, at most."""
        return max(map(len, self.tokenizer.get_vocab()))

    def _cut(self, prompt: Prompt, limit: int) -> Prompt:
        """A prompt without what no row of `limit` tokens can reach, even if all its tokens were the longest there are.

        Twice that stays, and with it the tokens that are kept; image blocks in the text, which MMEB's have in front,
        stay too.
        """
        string, start, end = prompt
        if end - start <= 2 * limit:  # no need to ask for the longest token
            return prompt
        keep = max(2 * limit * self._longest_token, string.rfind(self.image_block, start, end) - start)
        keep += len(self.image_block)
        if end - start <= keep:
            return prompt
        return Prompt(string[: start + keep] + string[end:], start, start + keep)

    def _shorten(self, prompt: Prompt, excess: int, limit: int, row: int) -> list[int]:
        """Token ids of a prompt without the last `excess` tokens of the user's text."""
        string, start, end = prompt
        ((ids, spans),) = self.tokenize([string], with_spans=True)
        protected = set(self.tokenizer(self.image_block, add_special_tokens=False)["input_ids"])
        removable = [
            position
            for position, (left, right) in enumerate(spans)
            if start <= left < right <= end and ids[position] not in protected
        ]
        if excess >= len(removable):
            raise ValueError(
                f"row {row} needs {limit + excess} tokens, of which only {len(removable)} are the user's text, but "
                f"max_length is {limit}. Raise max_length: image tokens and the prompt are never cut."
            )
        logger.warning_once(
            f"Texts are longer than max_length = {limit} tokens; the end of the user's text is cut. (Said once.)"
        )
        dropped = set(removable[len(removable) - excess :])
        return [token for position, token in enumerate(ids) if position not in dropped]

    def _expand(self, ids: list[int], counts: list[int]) -> list[int]:
        """Replace the placeholder of each image by as many of them as the image has tokens."""
        if not counts:
            return ids
        remaining = iter(counts)
        return [
            token
            for token_id in ids
            for token in ([token_id] * next(remaining) if token_id == self.image_token_id else [token_id])
        ]
