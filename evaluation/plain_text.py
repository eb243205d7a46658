# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""What is left of a text for models that know neither MMEB's image token nor UniME's prompts."""

from modeling_unime.example import MMEB_IMAGE


def plain_text(text: str | None, instruction: str | None = None) -> str:
    """The text without MMEB's image tokens and surrounding white space, after its instruction; may be empty."""
    return " ".join(filter(None, [(instruction or "").strip(), MMEB_IMAGE.sub("", text or "").strip()]))
