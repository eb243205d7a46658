# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""The UniME processor: an image processor, a tokenizer, and the prompts between them (`prompts.py`).

It expands the image placeholder by itself, from the family's row in the adapter table, because the libraries' processors
of some families cannot be built without torchvision.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .needed_versions import NEEDED  # noqa: F401 isort: skip (older versions lack what follows)
from PIL import Image
from transformers import AutoImageProcessor, AutoTokenizer, BatchFeature, ProcessorMixin

from .chat_template import drop_absent_parts, read_conversation, render_chat_template
from .configuration_phi3v import Phi3VConfig
from .families import build_prompts, choose_chat_format, get_family, read_geometry
from .feature_extraction import UniMEFeatureExtractionPipeline  # noqa: F401 - so that saved folders hold its file
from .image_processing_phi3v import Phi3VImageProcessor
from .own_code import HUB_OPTIONS, read_backbone_config
from .pictures import is_picture, read_picture
from .prompts import Prompt, PromptBuilder

# All other files, as in configuration_unime: who saves a processor saves one version of the whole code.
if TYPE_CHECKING:
    from .configuration_unime import UniMEConfig  # noqa: F401
    from .modeling_phi3v import Phi3VModel  # noqa: F401
    from .modeling_unime import UniMEModel  # noqa: F401
    from .pickling import PicklableModel  # noqa: F401
    from .saved_folder import write_digests  # noqa: F401

# Image processors of our own, by family.
OWN_IMAGE_PROCESSORS = {Phi3VConfig.model_type: Phi3VImageProcessor}
AutoImageProcessor.register(Phi3VConfig, image_processor_classes={"pil": Phi3VImageProcessor}, exist_ok=True)

# What the options may be, ours first.
PADDING = (None, True, "longest", "max_length", False, "do_not_pad")
TRUNCATION = (None, True, "longest_first", "only_first", False, "do_not_truncate")


def _align_inputs(text, images, instruction) -> tuple[list, list[list], list]:
    """One text, one list of pictures and one instruction for each row; None or an empty list where one is absent."""
    text = [text] if isinstance(text, str) else text
    images = [images] if images is not None and is_picture(images) else images
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
    texts = [None] * size if text is None else list(text)
    pictures = []
    for value in [None] * size if images is None else images:
        several = isinstance(value, Sequence) and not is_picture(value)
        pictures.append([image for image in (value if several else [value]) if image is not None])
    return texts, pictures, instructions


class UniMEProcessor(ProcessorMixin):
    """Text, images and instructions to model inputs.

    Example::

        from modeling_unime import UniMEProcessor

        processor = UniMEProcessor.from_backbone("llava-hf/llava-v1.6-mistral-7b-hf")
        inputs = processor(text=["a dog", None, "a red one"], images=[None, image, image])
        queries = processor(images=[image], instruction="Find a caption of the picture:")

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
        self._builder = PromptBuilder(tokenizer, adapter, prompts)
        self.image_token_id = self._builder.image_token_id
        if self.image_token_id is None or self.image_token_id == tokenizer.unk_token_id:
            raise ValueError(
                f"the tokenizer has no {adapter.image_token!r} token, which marks an image in family {family!r}"
            )
        self._image_token_counts: dict[tuple[int, int], int] = {}
        self._prompt_tokens: dict[str | None, int] = {}
        chat_template = chat_template or render_chat_template(prompts, adapter.image_block)
        super().__init__(image_processor, tokenizer, chat_template=chat_template)

    @classmethod
    def from_args_and_dict(cls, args, processor_dict, **kwargs):
        """As the library's, with an image processor of this very code, and not of another folder with the same name."""
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
        trust_remote_code: bool = False,
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
            trust_remote_code: as in [`UniMEModel.from_backbone`]; the Auto classes are told, too.
            kwargs: passed to the Auto classes (`revision`, `token`, `cache_dir`, ...).

        Raises:
            ValueError: for a family that is not supported, an unknown chat format, a tokenizer without pad and end
                token, or one that numbers the image token otherwise than the model; or code that was not allowed to run.
        """
        hub = {name: kwargs[name] for name in HUB_OPTIONS if name in kwargs}
        config = read_backbone_config(path_or_repo, trust_remote_code, **hub)
        kwargs["trust_remote_code"] = trust_remote_code
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
        tokenizer = AutoTokenizer.from_pretrained(path_or_repo, config=config, padding_side="left", **kwargs)
        image_options = family.image_options | (image_options or {})
        image_processor = AutoImageProcessor.from_pretrained(path_or_repo, **image_options, **kwargs)
        if tokenizer.pad_token is None:
            if tokenizer.eos_token is None:
                raise ValueError(f"the tokenizer of {path_or_repo} has neither a pad nor an end token to pad with")
            tokenizer.pad_token = tokenizer.eos_token
        if prompts is None:
            chat_format = chat_format or family.chat_format
            chat_format = chat_format or choose_chat_format(tokenizer.get_vocab(), config.get_text_config().model_type)
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
        padding: bool | str | None = None,
        truncation: bool | str | None = None,
        return_tensors: str = "pt",
    ) -> BatchFeature:
        """Model inputs of a batch; one element per example, None where a modality is absent.

        Args:
            text: B texts; an empty one is embedded with its prompt, beside an image it counts as absent. A raw MMEB
                string, with `<|image_1|>`, is taken as it is; a stray image token in an example without an image is
                dropped.
            images: B pictures: PIL images, paths, bytes, arrays, tensors, ... (`pictures.READABLE`; all forms of a
                picture give the same vector); a list of them where an example has several, which stand in the prompt
                in that order. Addresses are not fetched.
            instruction: one for all, or B of them. None: the paper's summary prompts. Blank: the text as it is.
            max_length: tokens a row may have (default: the processor's). What is too long loses the end of the user's
                text, never image tokens or the prompt.
            padding_side: "left" or "right" (default: the tokenizer's, left).
            pad_to_multiple_of: pad to a multiple of this many tokens (default: to the longest row).
            padding: True or "longest" (default), "max_length", or False, which a batch of unequal rows does not allow.
            truncation: True (default), or False, which leaves rows as long as they are.
            return_tensors: "pt".

        Returns:
            `input_ids` and `attention_mask` (B, L), and, when there are images, what the family's image processor
            gives (`pixel_values`, `image_sizes`, `image_grid_thw`, ...), images in row order.

        Raises:
            ValueError: names the row when it is empty, its picture cannot be read, or it does not fit `max_length`; or
                when lengths disagree or an option is unknown.
        """
        for name, value, known in (("padding", padding, PADDING), ("truncation", truncation, TRUNCATION)):
            if value not in known:
                raise ValueError(f"{name} is {value!r}; use one of {', '.join(repr(name) for name in known)}")
        texts, pictures, instructions = _align_inputs(text, images, instruction)
        rows = self._build_prompts(texts, pictures, instructions)
        image_inputs, image_counts = self._process_images(pictures)
        counts = iter(image_counts)
        row_counts = [[next(counts) for _ in row] for row in pictures]

        limit = self._limit(max_length)
        unlimited = truncation in (False, "do_not_truncate")
        token_ids = self._builder.encode(rows, row_counts, math.inf if unlimited else limit)
        padded = padding not in (False, "do_not_pad")
        if not padded and len(set(map(len, token_ids))) > 1 and return_tensors:
            raise ValueError("the rows of the batch have different numbers of tokens; leave padding=False out")
        options = {"padding": "max_length", "max_length": limit} if padding == "max_length" else {"padding": padded}
        text_inputs = self.pad(token_ids, padding_side, pad_to_multiple_of, return_tensors, **options)
        return BatchFeature({**text_inputs, **image_inputs}, tensor_type=return_tensors)

    def token_ids(
        self,
        text: str | Sequence[str],
        instruction: str | Sequence[str | None] | None = None,
        max_length: int | None = None,
    ) -> list[list[int]]:
        """Token ids of texts, prompt included, as `__call__` has them: for `pad`, if one tokenises once and pads often."""
        rows = self._build_prompts(*_align_inputs(text, None, instruction))
        return self._builder.encode(rows, [[]] * len(rows), self._limit(max_length))

    def pad(
        self,
        token_ids: Sequence[Sequence[int]],
        padding_side: str | None = None,
        pad_to_multiple_of: int | None = None,
        return_tensors: str = "pt",
        **options,
    ) -> BatchFeature:
        """Rows of token ids to `input_ids` and `attention_mask` (B, L); `options` go to the tokenizer's `pad`."""
        padded = self.tokenizer.pad(
            {"input_ids": token_ids},
            padding_side=padding_side,
            pad_to_multiple_of=pad_to_multiple_of,
            return_attention_mask=True,
            return_tensors=return_tensors,
            **options,
        )
        return BatchFeature(dict(padded))

    def apply_chat_template(self, conversation, chat_template=None, tokenize: bool = False, **kwargs):
        """Chat messages to model inputs, through the same prompts as `__call__`; how sentence-transformers calls it.

        Args:
            conversation: one conversation or a list of them, as `chat_template.py` describes them; parts that are None
                are taken out.
            chat_template: not supported; prompts are the processor's.
            tokenize: False returns the prompts as strings.
            kwargs: `max_length`, `padding`, `padding_side`, `truncation` and `return_tensors` as in `__call__`, by
                themselves or in the `text_kwargs` or `common_kwargs` of `processor_kwargs`.
        """
        if chat_template is not None:
            raise ValueError("UniME builds its prompts itself; change them with the processor's `prompts`")
        batched = bool(conversation) and isinstance(conversation[0], (list, tuple))
        conversations = conversation if batched else [conversation]
        for messages in conversations:
            drop_absent_parts(messages)
        examples = [read_conversation(messages) for messages in conversations]
        texts, pictures, instructions = (list(column) for column in zip(*examples, strict=True))
        if not tokenize:
            prompts = [prompt.string for prompt in self._build_prompts(texts, pictures, instructions)]
            return prompts if batched else prompts[0]
        nested = kwargs.get("processor_kwargs") or {}
        given = {**kwargs, **nested.get("text_kwargs", {}), **nested.get("common_kwargs", {})}
        names = ("max_length", "padding", "padding_side", "truncation", "return_tensors")
        options = {name: given[name] for name in names if given.get(name) is not None}
        return self(text=texts, images=pictures, instruction=instructions, **options)

    def clean(self, text: str) -> str:
        """A text as it goes into a prompt: without image tokens, for there is no image behind them."""
        return self._builder.remove_image_tokens(text)

    def count_image_tokens(self, width: int, height: int) -> int:
        """Tokens that an image of so many pixels takes, by arithmetic; remembered for each size."""
        size = (self.image_resolution, self.image_resolution) if self.image_resolution else (width, height)
        if size not in self._image_token_counts:
            family = get_family(self.family)
            try:
                measured = family.measure_image(self.image_processor, size[1], size[0])
            except ValueError as error:
                raise ValueError(
                    f"an image of {width} x {height} pixels cannot be processed: {error}; crop or pad it, or leave it out"
                ) from error
            (self._image_token_counts[size],) = family.count_image_tokens(measured, self.geometry)
        return self._image_token_counts[size]

    def check_image_size(
        self, width: int, height: int, max_length: int | None = None, instruction: str | None = ""
    ) -> int:
        """Tokens of an image of so many pixels; a ValueError says why an example with it alone could not be processed."""
        count = self.count_image_tokens(width, height)
        limit = self._limit(max_length)
        if instruction not in self._prompt_tokens:
            ((ids, _),) = self._builder.tokenize([self._builder.build(None, 1, instruction).string])
            self._prompt_tokens[instruction] = len(ids) - 1
        prompt = self._prompt_tokens[instruction]
        if count + prompt > limit:
            raise ValueError(
                f"an image of {width} x {height} pixels takes {count} tokens and its prompt {prompt}, but "
                f"max_length is {limit}; raise max_length, make the image smaller (image_resolution), or leave it out"
            )
        return count

    def _build_prompts(self, texts: list, pictures: list, instructions: list) -> list[Prompt]:
        prompts = []
        for row, (text, images, instruction) in enumerate(zip(texts, pictures, instructions, strict=True)):
            if text is None and not images:
                raise ValueError(f"row {row} of the batch has neither text nor image")
            prompts.append(self._builder.build(text, len(images), instruction))
        return prompts

    def _process_images(self, rows: list[list]) -> tuple[dict, list[int]]:
        """Image processor output for the pictures of all rows, and the number of placeholders of each."""
        pictures = []
        for row, values in enumerate(rows):
            try:
                pictures += [read_picture(value) for value in values]
            except ValueError as error:
                raise ValueError(f"row {row} of the batch: {error}") from error
        if not pictures:
            return {}, []
        if self.image_resolution is not None:
            side = (self.image_resolution, self.image_resolution)
            pictures = [picture.resize(side, Image.Resampling.BICUBIC) for picture in pictures]
        family = get_family(self.family)
        features = dict(self.image_processor(images=pictures, return_tensors="pt"))
        features = family.by_image(features) if family.by_image else features
        counts = family.count_image_tokens(features, self.geometry)
        return {name: value for name, value in features.items() if name not in family.not_for_model}, counts

    def _limit(self, max_length: int | None) -> int:
        """Tokens a row may have."""
        return max_length or self.max_length or self.tokenizer.model_max_length


UniMEProcessor.register_for_auto_class("AutoProcessor")
