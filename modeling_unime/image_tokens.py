# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Image tokens in texts that come from outside: where a picture is meant they are placed, elsewhere they are removed."""

import re

# MMEB stores every string with this token, whatever the backbone (VLM2Vec, arXiv 2410.05160).
MMEB_IMAGE_TOKEN = "<|image_1|>"
MMEB_PATTERN = r"<\|image_\d{1,9}\|>"


class ImageTokens:
    """The tokens that stand for an image: MMEB's, the family's placeholder, and its block.

    Args:
        image_block: text that stands for one image in a prompt.
        image_token: the placeholder in it.
    """

    def __init__(self, image_block: str, image_token: str):
        self.image_block = image_block
        self._pattern = re.compile(
            f"(?:{'|'.join([MMEB_PATTERN, re.escape(image_block), re.escape(image_token)])})[ \n]?"
        )
        self._longest = max(len(image_block), len("<|image_123456789|>")) + 1

    def remove(self, text: str) -> str:
        """A text without any image token, nor one that comes about where another was taken out.

        Each is taken out with the one space or newline behind it. The time is linear in the text: after a removal only
        the neighbourhood of the gap is looked at again.
        """
        kept, position = [], 0
        while match := self._pattern.search(text, position):
            kept.append(text[position : match.start()])
            position = match.end()
            while True:
                before = self._pop_end(kept)
                match = self._pattern.search(before + text[position : position + self._longest])
                if match is None or match.start() >= len(before):
                    kept.append(before)
                    break
                kept.append(before[: match.start()])
                position += match.end() - len(before)
        return "".join([*kept, text[position:]])

    def _pop_end(self, kept: list[str]) -> str:
        """Take the last characters, as many as a token may have, off a list of pieces."""
        end = ""
        while kept and len(end) < self._longest:
            end = kept.pop() + end
        if len(end) > self._longest:
            kept.append(end[: -self._longest])
            end = end[-self._longest :]
        return end

    def place(self, text: str, count: int) -> str:
        """A text with its first `count` image tokens made blocks; missing ones stand in front, others are dropped."""
        found = []
        for match in self._pattern.finditer(text):
            if len(found) == count:
                break
            found.append(match)
        parts, end = [f"{self.image_block}\n"] * (count - len(found)), 0
        for match in found:
            separator = match.group()[-1] if match.group()[-1] in " \n" else ""
            parts += [self.remove(text[end : match.start()]), self.image_block + separator]
            end = match.end()
        return "".join([*parts, self.remove(text[end:])])
