# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Chat messages: read by the processor, and the same prompts as a Jinja template for programs that render it.

A system message is the instruction, the other messages hold texts and images. Several parts are joined by newlines;
empty texts beside others and parts that are None count as absent.
"""

import json
import re

from .families import IMAGE_SLOT, TEXT_SLOT

PICTURE_KEYS = ("image", "url", "path", "base64")


def read_conversation(messages: list[dict]) -> tuple[str | None, list, str | None]:
    """(text, images, instruction) of one conversation; an image part without a picture gives ""."""
    texts, images, instructions = [], [], None
    for message in messages:
        content = message["content"]
        items = [{"type": "text", "text": content}] if isinstance(content, str) else content
        system = message["role"] == "system"
        if system:
            instructions = instructions or []
        for item in items or []:
            if item["type"] == "text":
                kept, value = instructions if system else texts, item["text"]
            elif item["type"] == "image":
                kept, value = images, _picture(item)
            else:
                raise ValueError(f"UniME embeds text and images, not {item['type']!r}")
            if value is not None:
                kept.append(value)
    text = "\n".join(filter(None, texts)) if texts else None
    return text, images, None if instructions is None else "\n".join(instructions)


def _picture(item: dict):
    key = next((key for key in PICTURE_KEYS if key in item), None)
    if key == "base64" and isinstance(item[key], str):
        return item[key] if item[key].startswith("data:") else f"data:image;base64,{item[key]}"
    return "" if key is None else item[key]


def drop_absent_parts(messages: list[dict]) -> None:
    """Take the parts that are None out of a conversation, in place."""
    # sentence-transformers counts the image parts of the messages that it has built, after we have read them, to cut a
    # batch into smaller ones; a part that is None would shift the images of the rows behind it.
    for message in messages:
        if isinstance(message["content"], list):
            present = [part for part in message["content"] if part.get(part.get("type"), "") is not None]
            message["content"][:] = present


def render_chat_template(prompts: dict[str, str], image_block: str) -> str:
    """The prompts as a Jinja chat template; it knows all forms, but leaves image tokens inside of texts alone."""

    def literal(template: str) -> str:
        slots = {IMAGE_SLOT: "ns.images", TEXT_SLOT: "ns.text"}
        parts = re.split(f"({'|'.join(map(re.escape, slots))})", template)
        return " ~ ".join(slots.get(part) or json.dumps(part, ensure_ascii=False) for part in parts if part)

    return (
        "{%- set ns = namespace(text='', images='', instruction='', parts=0, system=false) -%}"
        "{%- for message in messages -%}"
        "{%- if message.role == 'system' -%}{%- set ns.system = true -%}{%- endif -%}"
        "{%- set text = [{'type': 'text', 'text': message.content}] if message.content is string else [] -%}"
        "{%- for item in text or message.content or [] -%}"
        "{%- if item.type == 'text' and item.text is none -%}"
        "{%- elif item.type == 'text' and message.role == 'system' -%}"
        "{%- set ns.instruction = ns.instruction ~ ('\n' if ns.parts else '') ~ item.text -%}"
        "{%- set ns.parts = ns.parts + 1 -%}"
        "{%- elif item.type == 'text' -%}"
        "{%- set ns.text = ns.text ~ ('\n' if ns.text and item.text else '') ~ item.text -%}"
        "{%- elif item.image is not none -%}"
        f"{{%- set ns.images = ns.images ~ ('\n' if ns.images else '') ~ {json.dumps(image_block)} -%}}"
        "{%- endif -%}"
        "{%- endfor -%}{%- endfor -%}"
        "{%- if ns.system and not ns.instruction.strip() -%}"
        "{{- ns.images ~ ('\n' if ns.images else '') ~ ns.text or '\n' -}}"
        "{%- elif ns.system -%}"
        "{{- (ns.images ~ '\n' if ns.images else '') ~ ns.instruction ~ (' ' ~ ns.text if ns.text else '') ~ '\n' -}}"
        f"{{%- elif ns.images and ns.text -%}}{{{{- {literal(prompts['image_text'])} -}}}}"
        f"{{%- elif ns.images -%}}{{{{- {literal(prompts['image'])} -}}}}"
        f"{{%- else -%}}{{{{- {literal(prompts['text'])} -}}}}{{%- endif -%}}"
    )
