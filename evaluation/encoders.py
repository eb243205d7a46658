# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Which encoder the options name: a saved model, any SentenceTransformer, or either with mixed inputs as sums."""

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from evaluation.arguments import EncoderArguments
from evaluation.dual_encoder import DualEncoderProcessor, is_dual_encoder
from evaluation.encoder import BaseEncoder, Encoder, pick_device, pick_dtype
from evaluation.fingerprint import code_identity, model_identity
from evaluation.modality_sum import ModalitySum, split_modalities
from evaluation.plain_text import plain_text
from evaluation.prompts import OWN, baseline_processor
from modeling_unime import UniMEConfig, UniMEProcessor
from modeling_unime.families import FAMILIES
from unime.data.bad_rows import DataError
from unime.data.example import Example
from unime.data.image_sizes import ImageSizes
from unime.model_files import find_model_folder, read_model_type

BASELINE_PREFIX = "sentence-transformers:"


def find_model(name: str) -> Path:
    """The folder that the `model` option names, with or without the baseline prefix; one on the Hub is downloaded."""
    if name.startswith(BASELINE_PREFIX) and find_spec("sentence_transformers") is None:
        raise DataError(
            f'model {name} needs the package sentence-transformers: pip install -c constraints.txt -e ".[st]"'
        )
    folder = find_model_folder(name.removeprefix(BASELINE_PREFIX))
    needed = "modules.json" if name.startswith(BASELINE_PREFIX) else "config.json"
    if not (folder / needed).is_file():
        raise DataError(f"model folder {str(folder)!r} has no {needed}; give the folder that save_pretrained wrote")
    return folder


def make_encoder(arguments: EncoderArguments) -> BaseEncoder:
    """Load the encoder that the options name; DataError if it cannot take their prompts."""
    names = ("device", "dtype", "batch_size", "max_length", "trust_remote_code")
    options = {name: getattr(arguments, name) for name in names}
    folder = find_model(arguments.model)
    _check_prompts(arguments, folder)
    if arguments.model.startswith(BASELINE_PREFIX):
        from evaluation.baselines import SentenceTransformerEncoder  # needs a package of the extra "st"

        encoder: BaseEncoder = SentenceTransformerEncoder.from_pretrained(folder, **options)
    else:
        encoder = Encoder.from_pretrained(folder, num_workers=arguments.num_workers, **options)
        if arguments.prompts != OWN:
            encoder.processor = baseline_processor(str(folder), arguments.prompts)
    return ModalitySum(encoder) if arguments.mixed == "sum" else encoder


def _check_prompts(arguments: EncoderArguments, folder: Path) -> None:
    is_baseline = arguments.model.startswith(BASELINE_PREFIX)
    if arguments.prompts != OWN and (is_baseline or read_model_type(folder) not in FAMILIES):
        raise DataError(
            f"--prompts {arguments.prompts} is for a multimodal LLM of a supported family, but {arguments.model} is none "
            "and keeps the prompts it was trained with; leave the option out"
        )


def image_sizes(arguments: EncoderArguments) -> ImageSizes | None:
    """Which sizes of images the model's processor can take, for the check of the data; None: any, as far as is known."""
    if arguments.model.startswith(BASELINE_PREFIX):
        return None
    folder = find_model(arguments.model)
    model_type = read_model_type(folder)
    if model_type not in FAMILIES and model_type != UniMEConfig.model_type:
        return None
    trusted = arguments.trust_remote_code
    return ImageSizes(
        lambda: UniMEProcessor.from_backbone(str(folder), trust_remote_code=trusted), arguments.max_length
    )


def cut_counter(arguments: EncoderArguments) -> Callable[[Sequence[Example]], dict[str, Any]]:
    """What says how many inputs lose their end to CLIP's 77 or SigLIP's 64 tokens, as a field of a result; none for other
    models."""
    if arguments.model.startswith(BASELINE_PREFIX) or not is_dual_encoder(folder := find_model(arguments.model)):
        return lambda examples: {}
    processor = DualEncoderProcessor.load(folder)
    tokens = min(arguments.max_length or processor.max_length, processor.max_length)

    def count(examples: Sequence[Example]) -> dict[str, Any]:
        if arguments.mixed == "sum":
            examples = [part for example in examples for part in split_modalities(example)]
        texts = list(filter(None, (plain_text(example.text, example.instruction) for example in examples)))
        return {"cut": {"inputs": processor.count_cut(texts, tokens) if texts else 0, "tokens": tokens}}

    return count


def encoder_identity(arguments: EncoderArguments) -> dict[str, Any]:
    """What the embeddings depend on, apart from what is embedded, ready for JSON."""
    device, folder = pick_device(arguments.device), find_model(arguments.model)
    _check_prompts(arguments, folder)  # before any data is read
    return {
        "model": model_identity(folder),
        "baseline": arguments.model.startswith(BASELINE_PREFIX),
        "code": code_identity(),
        "device": device.type,
        "dtype": str(pick_dtype(arguments.dtype, device)),
        "max_length": arguments.max_length,
        "mixed": arguments.mixed,
        "prompts": arguments.prompts,
    }
