# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""The UniME processor: the one place where a prompt is built.

It joins an image processor and a tokenizer, builds the prompt of each example, and expands the image placeholder to
as many tokens as the image has. It does so by itself, from the family's row in the adapter table, because the
libraries' processors of some families cannot be built without torchvision.

Forms of a prompt:

- no instruction: the paper's "Summary above ... in one word:" (UniME, arXiv 2504.17432, section 3.1.2);
- an instruction: the MMEB form, `image`, newline, instruction, space, text, newline;
- a blank instruction: the text as it is. MMEB rows are such texts: they hold their instruction and `<|image_1|>`.
"""

import json
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .needed_versions import NEEDED  # noqa: F401 isort: skip (older versions lack what follows)
from PIL import Image
from transformers import AutoConfig, AutoImageProcessor, AutoTokenizer, BatchFeature, ProcessorMixin
from transformers.image_utils import load_image
from transformers.utils import logging

from .configuration_phi3v import Phi3VConfig
from .families import IMAGE_SLOT, TEXT_SLOT, build_prompts, choose_chat_format, get_family, read_geometry
from .image_processing_phi3v import Phi3VImageProcessor
from .rgb import to_rgb

if (
    TYPE_CHECKING
):  # all other files, as in configuration_unime: who saves a processor saves one version of the whole code
    from .configuration_unime import UniMEConfig  # noqa: F401
    from .file_modes import give_weights_the_usual_mode  # noqa: F401
    from .modeling_phi3v import Phi3VModel  # noqa: F401
    from .modeling_unime import UniMEModel  # noqa: F401
    from .pickling import PicklableModel  # noqa: F401
    from .sentence_transformers_files import write_sentence_transformers_files  # noqa: F401
    from .weights_digest import write_digests  # noqa: F401

logger = logging.get_logger(__name__)

# Image processors of our own, by family.
OWN_IMAGE_PROCESSORS = {Phi3VConfig.model_type: Phi3VImageProcessor}
AutoImageProcessor.register(Phi3VConfig, image_processor_classes={"pil": Phi3VImageProcessor}, exist_ok=True)

# MMEB stores every string with this token, whatever the backbone (VLM2Vec, arXiv 2410.05160).
MMEB_IMAGE_TOKEN = "<|image_1|>"


class UniMEProcessor(ProcessorMixin):
    """Text, images and instructions to model inputs.

    Args:
        image_processor: the backbone's image processor.
        tokenizer: the backbone's tokenizer; pads on the left unless told otherwise.
        family (`str`): name of the backbone's row in the adapter table.
        prompts (`dict[str, str]`): templates of the form without instruction, by modality ("text", "image",
            "image_text"), with the slots `{image}` and `{text}`.
        geometry (`dict`): sizes from the backbone's config that decide how many tokens an image takes.
        image_resolution (`int`, *optional*): side in pixels of the square to which every image is resized first,
            aspect ratio not kept (336 in the paper). Default: images stay as they are.
        max_length (`int`, *optional*): tokens a row may have, image tokens included. Default: the tokenizer's
            `model_max_length`.
        chat_template (`str`, *optional*): the same prompts as Jinja, for programs that render it themselves.
    """

    def __init__(
        self,
        image_processor=None,
        tokenizer=None,
        family: str | None = None,
        prompts: dict[str, str] | None = None,
        geometry: dict | None = None,
        image_resolution: int | None = None,
        max_length: int | None = None,
        chat_template: str | None = None,
    ):
        if family is None or prompts is None or geometry is None:
            raise ValueError("UniMEProcessor needs family, prompts and geometry; use UniMEProcessor.from_backbone")
        missing = {"text", "image", "image_text"} - set(prompts)
        if missing:
            raise ValueError(f"prompts lack {', '.join(sorted(missing))}")
        self.family = family
        self.prompts = prompts
        self.geometry = geometry
        self.image_resolution = image_resolution
        self.max_length = max_length
        adapter = get_family(family)
        self.image_token = adapter.image_token
        self.image_block = adapter.image_block
        self.image_token_id = tokenizer.convert_tokens_to_ids(adapter.image_token)
        if self.image_token_id is None or self.image_token_id == tokenizer.unk_token_id:
            raise ValueError(
                f"the tokenizer has no {adapter.image_token!r} token, which marks an image in family {family!r}"
            )
        placeholders = (re.escape(adapter.image_block), re.escape(adapter.image_token))
        self._placeholders = re.compile(rf"(?:<\|image_\d+\|>|{'|'.join(placeholders)})[ \n]?")
        self._image_tokens: dict[tuple[int, int], int] = {}
        chat_template = chat_template or render_chat_template(prompts, adapter.image_block)
        super().__init__(image_processor, tokenizer, chat_template=chat_template)

    @classmethod
    def from_args_and_dict(cls, args, processor_dict, **kwargs):
        """As the library's, with an image processor of this very code.

        The library finds it by its class's name, and so may take that of another folder, with another version of it.
        """
        image_processor, *others = args
        own = OWN_IMAGE_PROCESSORS.get(processor_dict.get("family"))
        if own is not None and not isinstance(image_processor, own):
            image_processor = own.from_dict(image_processor.to_dict())
        return super().from_args_and_dict([image_processor, *others], processor_dict, **kwargs)

    @classmethod
    def from_backbone(
        cls,
        path_or_repo: str,
        chat_format: str | None = None,
        prompts: dict[str, str] | None = None,
        image_resolution: int | None = None,
        max_length: int | None = None,
        image_options: dict | None = None,
        **kwargs,
    ) -> "UniMEProcessor":
        """Make a processor from the files of a multimodal LLM.

        Args:
            path_or_repo: folder or Hub id with config, tokenizer and image processor; or a UniME folder, of which only
                `image_resolution` and `max_length` can be set anew.
            chat_format: a name of `families.CHAT_FORMATS`; default: what fits tokenizer and LLM.
            prompts: templates of your own instead of a chat format's.
            image_resolution: see the class.
            max_length: see the class.
            image_options: options of the image processor instead of the family's and the checkpoint's own (`num_crops`
                of Phi-3.5-vision, `max_pixels` of Qwen-VL, ...); they decide how many tokens an image takes.
            kwargs: passed to the Auto classes (`revision`, `token`, `cache_dir`, ...).

        Raises:
            ValueError: for a family that is not supported, an unknown chat format, a tokenizer without pad and end
                token, or one that numbers the image token otherwise than the model.
        """
        config = AutoConfig.from_pretrained(path_or_repo, **kwargs)
        if config.model_type == "unime":
            fixed = {"chat_format": chat_format, "prompts": prompts, "image_options": image_options}
            given = [name for name, value in fixed.items() if value]
            if given:
                raise ValueError(
                    f"{path_or_repo} is a UniME folder, whose processor it was trained with: {', '.join(given)} cannot "
                    "be changed. Make another one from the multimodal LLM"
                )
            processor = cls.from_pretrained(path_or_repo, **kwargs)
            processor.image_resolution = image_resolution or processor.image_resolution
            processor.max_length = max_length or processor.max_length
            return processor
        family = get_family(config.model_type)
        # As the paper. The model pools by the mask, so either side gives the same; given here, it is also what gets saved.
        tokenizer = AutoTokenizer.from_pretrained(path_or_repo, padding_side="left", **kwargs)
        image_options = family.image_options | (image_options or {})
        image_processor = AutoImageProcessor.from_pretrained(path_or_repo, **image_options, **kwargs)
        if tokenizer.pad_token is None:
            if tokenizer.eos_token is None:
                raise ValueError(f"the tokenizer of {path_or_repo} has neither a pad nor an end token to pad with")
            tokenizer.pad_token = tokenizer.eos_token
        if prompts is None:
            chat_format = chat_format or family.chat_format
            if chat_format is None:
                chat_format = choose_chat_format(tokenizer.get_vocab(), config.get_text_config().model_type)
            prompts = build_prompts(chat_format)
        processor = cls(
            image_processor,
            tokenizer,
            family=config.model_type,
            prompts=prompts,
            geometry=read_geometry(family, config),
            image_resolution=image_resolution,
            max_length=max_length,
        )
        if processor.image_token_id != config.image_token_id:
            raise ValueError(
                f"{path_or_repo}: {family.image_token!r} is token {processor.image_token_id} of the tokenizer, but the "
                f"model's config says {config.image_token_id}; take tokenizer and config from the same checkpoint"
            )
        return processor

    def __call__(
        self,
        text: str | Sequence[str | None] | None = None,
        images: Image.Image | Sequence[Image.Image | None] | None = None,
        instruction: str | Sequence[str | None] | None = None,
        max_length: int | None = None,
        padding_side: str | None = None,
        pad_to_multiple_of: int | None = None,
        return_tensors: str = "pt",
    ) -> BatchFeature:
        """Model inputs of a batch; one element per example, None (or empty text) where a modality is absent.

        Args:
            text: B texts. A raw MMEB string, with `<|image_1|>`, is taken as it is; a stray image token in an example
                without an image is dropped.
            images: B PIL images, paths or URLs; a list of them where an example has several, which stand in the prompt
                in that order.
            instruction: one for all, or B of them. None: the paper's summary prompts. Blank: the text as it is.
            max_length: tokens a row may have (default: the processor's). What is too long loses the end of the user's
                text, never image tokens or the prompt.
            padding_side: "left" or "right" (default: the tokenizer's, left).
            pad_to_multiple_of: pad to a multiple of this many tokens (default: to the longest row).
            return_tensors: "pt".

        Returns:
            `input_ids` and `attention_mask` (B, L), and, when there are images, what the family's image processor
            gives (`pixel_values`, `image_sizes`, `image_grid_thw`, ...), images in row order.

        Raises:
            ValueError: names the row when it is empty or does not fit `max_length`, or when lengths disagree.
        """
        texts, pictures, instructions = self._align(text, images, instruction)
        rows = self._build_prompts(texts, pictures, instructions)
        image_inputs, image_counts = self._process_images([picture for row in pictures for picture in row])
        counts = iter(image_counts)
        row_counts = [[next(counts) for _ in row] for row in pictures]

        token_ids = self._encode(rows, row_counts, max_length)
        padded = self.pad(token_ids, padding_side, pad_to_multiple_of, return_tensors)
        return BatchFeature({**padded, **image_inputs}, tensor_type=return_tensors)

    def token_ids(
        self,
        text: str | Sequence[str],
        instruction: str | Sequence[str | None] | None = None,
        max_length: int | None = None,
    ) -> list[list[int]]:
        """Token ids of texts without padding: those of `__call__`, for callers that tokenise once and pad often.

        Args:
            text: B texts.
            instruction: see `__call__`.
            max_length: see `__call__`.

        Returns:
            B lists of ids, prompt included, for `pad`.

        Raises:
            ValueError: see `__call__`.
        """
        rows = self._build_prompts(*self._align(text, None, instruction))
        return self._encode(rows, [[]] * len(rows), max_length)

    def pad(
        self,
        token_ids: Sequence[Sequence[int]],
        padding_side: str | None = None,
        pad_to_multiple_of: int | None = None,
        return_tensors: str = "pt",
    ) -> BatchFeature:
        """Rows of token ids to model inputs.

        Args:
            token_ids: B rows of ids, from `token_ids`.
            padding_side: see `__call__`.
            pad_to_multiple_of: see `__call__`.
            return_tensors: "pt".

        Returns:
            `input_ids` and `attention_mask` (B, L).
        """
        padded = self.tokenizer.pad(
            {"input_ids": token_ids},
            padding_side=padding_side,
            pad_to_multiple_of=pad_to_multiple_of,
            return_attention_mask=True,
            return_tensors=return_tensors,
        )
        return BatchFeature(dict(padded))

    def apply_chat_template(self, conversation, chat_template=None, tokenize: bool = False, **kwargs):
        """Chat messages to model inputs, through the same prompts as `__call__`.

        A system message is the instruction, user messages hold the text and the image. This is how
        sentence-transformers calls the processor.

        Args:
            conversation: one conversation or a list of them; content is a string or a list of `{"type": "text",
                "text": ...}` and `{"type": "image", "image": ...}`.
            chat_template: not supported; prompts are the processor's.
            tokenize: False returns the prompts as strings.
            kwargs: `processor_kwargs` may hold `text_kwargs` with `max_length` and `padding_side`.

        Raises:
            ValueError: for a template of the caller's own, or a message with content that is neither text nor image.
        """
        if chat_template is not None:
            raise ValueError("UniME builds its prompts itself; change them with the processor's `prompts`")
        batched = bool(conversation) and isinstance(conversation[0], (list, tuple))
        examples = [_read_conversation(messages) for messages in (conversation if batched else [conversation])]
        texts, pictures, instructions = (list(column) for column in zip(*examples, strict=True))
        if not tokenize:
            prompts = [prompt for prompt, _, _ in self._build_prompts(texts, pictures, instructions)]
            return prompts if batched else prompts[0]
        nested = kwargs.get("processor_kwargs") or {}
        options = {**nested.get("text_kwargs", {}), **nested.get("common_kwargs", {})}
        options = {name: options[name] for name in ("max_length", "padding_side") if name in options}
        return self(text=texts, images=pictures, instruction=instructions, **options)

    def _align(self, text, images, instruction) -> tuple[list, list, list]:
        """The three inputs as lists of one length, with None for what is absent."""
        text = [text] if isinstance(text, str) else text
        images = [images] if isinstance(images, (str, Image.Image)) else images
        given = {"text": text, "images": images}
        if instruction is not None and not isinstance(instruction, str):
            given["instruction"] = instruction
        sizes = {name: len(values) for name, values in given.items() if values is not None}
        if not {"text", "images"} & set(sizes):
            raise ValueError("nothing to embed: give `text`, `images` or both")
        if len(set(sizes.values())) > 1:
            raise ValueError(f"one element per example is needed, got {sizes}; put None where a modality is absent")
        size = next(iter(sizes.values()))
        if size == 0:
            raise ValueError("nothing to embed: the batch is empty")
        instructions = list(instruction) if "instruction" in given else [instruction] * size
        texts = [None] * size if text is None else [value or None for value in text]
        pictures = [[]] * size if images is None else [_as_list(value) for value in images]
        return texts, pictures, instructions

    def _build_prompts(self, texts: list, pictures: list, instructions: list) -> list[tuple[str, int, int]]:
        """`_build_prompt` of every example of a batch."""
        examples = zip(texts, pictures, instructions, strict=True)
        return [self._build_prompt(*example, row) for row, example in enumerate(examples)]

    def _build_prompt(self, text: str | None, images: list, instruction: str | None, row: int) -> tuple[str, int, int]:
        """The prompt of one example, and where the user's text begins and ends in it (in characters)."""
        if text is None and not images:
            raise ValueError(f"row {row} of the batch has neither text nor image (an empty text counts as none)")
        image_block = "\n".join([self.image_block] * len(images))
        raw = text is not None and instruction is None and MMEB_IMAGE_TOKEN in text
        if raw or (instruction is not None and not instruction.strip()):
            prompt = self._place_images(text or "", len(images))
            return prompt, 0, len(prompt)
        text = self._placeholders.sub("", text) if text else ""
        if instruction is not None:
            head = f"{image_block}\n{instruction}" if image_block else instruction
            return (f"{head} {text}\n", len(head) + 1, len(head) + 1 + len(text)) if text else (f"{head}\n", 0, 0)
        if not text and not images:
            raise ValueError(f"row {row} of the batch holds nothing but image tokens, and there is no image")
        modality = ("image_text" if text else "image") if images else "text"
        head, _, tail = self.prompts[modality].partition(TEXT_SLOT)
        head, tail = head.replace(IMAGE_SLOT, image_block), tail.replace(IMAGE_SLOT, image_block)
        return head + text + tail, len(head), len(head) + len(text)

    def _place_images(self, text: str, count: int) -> str:
        """A bare text with its first `count` image tokens made blocks; missing ones stand in front, others are dropped."""
        found = list(self._placeholders.finditer(text))
        parts, end = [f"{self.image_block}\n"] * (count - len(found)), 0
        for number, match in enumerate(found):
            separator = match.group()[-1] if match.group()[-1] in " \n" else ""
            parts += [text[end : match.start()], self.image_block + separator if number < count else ""]
            end = match.end()
        return "".join(parts) + text[end:]

    def _process_images(self, pictures: list) -> tuple[dict, list[int]]:
        """Image processor output, and the number of placeholders of each image."""
        if not pictures:
            return {}, []
        loaded = [load_image(picture) if isinstance(picture, str) else to_rgb(picture) for picture in pictures]
        if self.image_resolution is not None:
            side = (self.image_resolution, self.image_resolution)
            loaded = [picture.resize(side, Image.Resampling.BICUBIC) for picture in loaded]
        features = dict(self.image_processor(images=loaded, return_tensors="pt"))
        family = get_family(self.family)
        counts = family.count_image_tokens(features, self.geometry)
        return {name: value for name, value in features.items() if name not in family.not_for_model}, counts

    def count_image_tokens(self, width: int, height: int) -> int:
        """Tokens that an image of so many pixels takes; it depends on nothing else, and is remembered."""
        key = (self.image_resolution, self.image_resolution) if self.image_resolution else (width, height)
        if key not in self._image_tokens:
            _, (self._image_tokens[key],) = self._process_images([Image.new("RGB", key)])
        return self._image_tokens[key]

    def _encode(
        self, rows: list[tuple[str, int, int]], row_counts: list[list[int]], max_length: int | None
    ) -> list[list[int]]:
        """Token ids of built prompts, cut to length, with as many placeholders as their images have tokens."""
        limit = max_length or self.max_length or self.tokenizer.model_max_length
        token_ids = [ids for ids, _ in self._tokenize([prompt for prompt, _, _ in rows])]
        for row, (ids, row_count) in enumerate(zip(token_ids, row_counts, strict=True)):
            excess = len(ids) + sum(row_count) - len(row_count) - limit
            if excess > 0:
                ids = self._shorten(rows[row], excess, limit, row)
            token_ids[row] = self._expand(ids, row_count)
        return token_ids

    def _tokenize(self, prompts: list[str], with_spans: bool = False) -> list[tuple[list[int], list[tuple[int, int]]]]:
        """Token ids of prompts, one placeholder for an image, and where each token stands in the prompt."""
        if not get_family(self.family).split_at_image:
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

    def _shorten(self, prompt: tuple[str, int, int], excess: int, limit: int, row: int) -> list[int]:
        """Token ids of a prompt without the last `excess` tokens of the user's text."""
        string, start, end = prompt
        ((ids, spans),) = self._tokenize([string], with_spans=True)
        removable = [
            position
            for position, (left, right) in enumerate(spans)
            if start <= left < right <= end and ids[position] not in self._protected_ids
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

    @property
    def _protected_ids(self) -> set[int]:
        """Ids that stay when a text is shortened: the image block's."""
        return set(self.tokenizer(self.image_block, add_special_tokens=False)["input_ids"])

    def _expand(self, ids: list[int], counts: list[int]) -> list[int]:
        """Replace the placeholder of each image by as many of them as the image has tokens."""
        remaining = iter(counts)
        return [
            token
            for token_id in ids
            for token in ([token_id] * next(remaining) if counts and token_id == self.image_token_id else [token_id])
        ]


def _as_list(images) -> list:
    """The images of one example: none, one or several."""
    if images is None:
        return []
    return list(images) if isinstance(images, (list, tuple)) else [images]


def _read_conversation(messages: list[dict]) -> tuple[str | None, list[Image.Image | str], str | None]:
    """(text, images, instruction) of one conversation."""
    texts, images, instruction = [], [], None
    for message in messages:
        content = message["content"]
        items = [{"type": "text", "text": content}] if isinstance(content, str) else content
        if message["role"] == "system":
            instruction = "".join(item["text"] for item in items)
            continue
        for item in items:
            if item["type"] not in ("text", "image"):
                raise ValueError(f"UniME embeds text and images, not {item['type']!r}")
            if item["type"] == "text":
                texts.append(item["text"])
            else:
                images.append(next(item[key] for key in ("image", "url", "path") if key in item))
    return "\n".join(texts) or None, images, instruction


def render_chat_template(prompts: dict[str, str], image_block: str) -> str:
    """The prompts as a Jinja chat template, for serving programs that render it instead of calling the processor.

    A system message is the instruction. The forms with and without instruction are covered; raw MMEB strings are the
    processor's business.
    """

    def literal(template: str) -> str:
        slots = {IMAGE_SLOT: "ns.images", TEXT_SLOT: "ns.text"}
        parts = re.split(f"({'|'.join(map(re.escape, slots))})", template)
        return " ~ ".join(slots.get(part) or json.dumps(part, ensure_ascii=False) for part in parts if part)

    return (
        "{%- set ns = namespace(text='', images='', instruction='') -%}"
        "{%- for message in messages -%}"
        "{%- set text = [{'type': 'text', 'text': message.content}] if message.content is string else [] -%}"
        "{%- for item in text or message.content -%}"
        "{%- if message.role == 'system' -%}{%- set ns.instruction = item.text -%}"
        "{%- elif item.type == 'text' -%}{%- set ns.text = item.text -%}"
        "{%- else -%}"
        f"{{%- set ns.images = (ns.images ~ '\n' if ns.images else '') ~ {json.dumps(image_block)} -%}}"
        "{%- endif -%}"
        "{%- endfor -%}{%- endfor -%}"
        "{%- if ns.instruction -%}"
        "{{- (ns.images ~ '\n' if ns.images else '') ~ ns.instruction ~ (' ' ~ ns.text if ns.text else '') ~ '\n' -}}"
        f"{{%- elif ns.images and ns.text -%}}{{{{- {literal(prompts['image_text'])} -}}}}"
        f"{{%- elif ns.images -%}}{{{{- {literal(prompts['image'])} -}}}}"
        f"{{%- else -%}}{{{{- {literal(prompts['text'])} -}}}}{{%- endif -%}}"
    )


UniMEProcessor.register_for_auto_class("AutoProcessor")
