# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Texts for models that know neither MMEB's image token nor UniME's prompts."""

from collections.abc import Sequence

from unime.data.example import MMEB_IMAGE


def plain_text(text: str | None, instruction: str | None = None) -> str:
    """The text without MMEB's image tokens and surrounding white space, after its instruction; may be empty."""
    return " ".join(filter(None, [(instruction or "").strip(), MMEB_IMAGE.sub("", text or "").strip()]))


def as_texts(model, texts: Sequence[str]) -> list[str | dict[str, str]]:
    """Texts in the form in which a SentenceTransformer takes them for nothing but texts.

    A multimodal one reads a bare string that is the path of a file as that picture, and fetches an address.
    """
    return list(texts) if list(model.modalities) == ["text"] else [{"text": text} for text in texts]
