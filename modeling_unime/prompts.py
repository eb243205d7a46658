# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""From texts to token ids: prompts with an image block for each picture, cut to a limit where the user's text stands.

Forms of a prompt:

- no instruction: the paper's "Summary above ... in one word:" (UniME, arXiv 2504.17432, section 3.1.2);
- an instruction: the MMEB form, `image`, newline, instruction, space, text, newline;
- a blank instruction: the text as it is. MMEB rows are such texts: they hold their instruction and `<|image_1|>`.

Image tokens in texts that come from outside are placed where a picture is meant, and removed elsewhere.
"""

import itertools
import re
from functools import cached_property
from typing import NamedTuple

from transformers.utils import logging

from .families import IMAGE_SLOT, TEXT_SLOT, Family

logger = logging.get_logger(__name__)

# MMEB stores every string with this token, whatever the backbone (VLM2Vec, arXiv 2410.05160).
MMEB_IMAGE_TOKEN = "<|image_1|>"
MMEB_PATTERN = r"<\|image_\d{1,9}\|>"


class Prompt(NamedTuple):
    """A prompt, and where the user's text begins and ends in it (in characters)."""

    string: str
    start: int
    end: int


class PromptBuilder:
    """Builds the prompts of one processor and tokenises them."""

    def __init__(self, tokenizer, family: Family, templates: dict[str, str]):
        self.tokenizer = tokenizer
        self.templates = templates
        self.image_block = family.image_block
        self.image_token_id = tokenizer.convert_tokens_to_ids(family.image_token)
        self.split_at_image = family.split_at_image
        tokens = "|".join([MMEB_PATTERN, re.escape(family.image_block), re.escape(family.image_token)])
        self._image_pattern = re.compile(f"(?:{tokens})[ \n]?")
        self._longest_match = max(len(family.image_block), len("<|image_123456789|>")) + 1

    def build(self, text: str | None, image_count: int, instruction: str | None) -> Prompt:
        """The prompt of one example."""
        image_block = "\n".join([self.image_block] * image_count)
        raw = text is not None and instruction is None and MMEB_IMAGE_TOKEN in text
        if instruction is not None:
            instruction = self.remove_image_tokens(instruction)
        if raw or (instruction is not None and not instruction.strip()):
            prompt = self._place_images(text or "", image_count) or "\n"  # a row needs a token
            return Prompt(prompt, 0, len(prompt))
        text = self.remove_image_tokens(text) if text else ""
        if instruction is not None:
            head = f"{image_block}\n{instruction}" if image_block else instruction
            if not text:
                return Prompt(f"{head}\n", 0, 0)
            return Prompt(f"{head} {text}\n", len(head) + 1, len(head) + 1 + len(text))
        modality = ("image_text" if text else "image") if image_count else "text"
        head, _, tail = self.templates[modality].partition(TEXT_SLOT)
        head, tail = head.replace(IMAGE_SLOT, image_block), tail.replace(IMAGE_SLOT, image_block)
        return Prompt(head + text + tail, len(head), len(head) + len(text))

    def remove_image_tokens(self, text: str) -> str:
        """A text without image tokens, nor ones that come about where another was taken out with the space behind it.

        The time is linear in the text: after a removal only the neighbourhood of the gap is looked at again.
        """
        kept, position = [], 0
        while match := self._image_pattern.search(text, position):
            kept.append(text[position : match.start()])
            position = match.end()
            while True:
                before = self._pop_end(kept)
                match = self._image_pattern.search(before + text[position : position + self._longest_match])
                if match is None or match.start() >= len(before):
                    kept.append(before)
                    break
                kept.append(before[: match.start()])
                position += match.end() - len(before)
        return "".join([*kept, text[position:]])

    def _pop_end(self, kept: list[str]) -> str:
        """Take the last characters, as many as a token may have, off a list of pieces."""
        end = ""
        while kept and len(end) < self._longest_match:
            end = kept.pop() + end
        if len(end) > self._longest_match:
            kept.append(end[: -self._longest_match])
            end = end[-self._longest_match :]
        return end

    def _place_images(self, text: str, count: int) -> str:
        """A text with its first `count` image tokens made blocks; missing ones stand in front, others are dropped."""
        found = list(itertools.islice(self._image_pattern.finditer(text), count))
        parts, end = [f"{self.image_block}\n"] * (count - len(found)), 0
        for match in found:
            separator = match.group()[-1] if match.group()[-1] in " \n" else ""
            parts += [self.remove_image_tokens(text[end : match.start()]), self.image_block + separator]
            end = match.end()
        return "".join([*parts, self.remove_image_tokens(text[end:])])

    def encode(self, prompts: list[Prompt], image_tokens: list[list[int]], limit: float) -> list[list[int]]:
        """Token ids of prompts, with as many placeholders as the images of each have tokens, and no more than `limit`."""
        prompts = [self._cut(prompt, limit) for prompt in prompts]
        token_ids = [ids for ids, _ in self.tokenize([prompt.string for prompt in prompts])]
        for row, (ids, counts) in enumerate(zip(token_ids, image_tokens, strict=True)):
            excess = len(ids) + sum(counts) - len(counts) - limit
            if excess > 0:
                ids = self._shorten(prompts[row], excess, limit, row)
            token_ids[row] = self._expand(ids, counts) if counts else ids
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

    def _cut(self, prompt: Prompt, limit: float) -> Prompt:
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
        remaining, expanded = iter(counts), []
        for token in ids:
            expanded += [token] * (next(remaining) if token == self.image_token_id else 1)
        return expanded
