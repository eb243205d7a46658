# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Make a UniME folder from a checkpoint under the names people have, with a report of what went where.

    python -m release.convert SOURCE FOLDER
    python -m release.convert ADAPTER FOLDER --base MODEL

SOURCE is a multimodal LLM of a supported family, whole or in shards, saved by any transformers of the last years, a
UniME folder of either format, or a LoRA adapter alone (E5-V, VLM2Vec, UniME), which is merged into its base. A weight that is missing or
that nothing expects is an error.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from evaluation.report import to_json
from modeling_unime import UniMEModel, UniMEProcessor
from modeling_unime.modeling_unime import DROPPED_WEIGHTS
from modeling_unime.saved_folder import digest_weight
from release.adapters import CONFIG_FILE, common_end, is_adapter, merge_adapter, read_adapter_config
from release.native import is_native, read_native_processor
from unime.files import write_atomically
from unime.hub_folder import USERS_FILE
from unime.model_files import find_model_folder, read_weights
from unime.options import check_at_least, parse_dataclasses, run_command
from unime.output_folder import CONVERSION_FILE, check_writable
from unime.public_names import public_name

DOWNLOADED = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"]
DTYPES = ("auto", "float32", "bfloat16", "float16")


@dataclass
class ConvertArguments:
    """What to convert, and to what."""

    source: str = field(metadata={"help": "Folder or Hub name of a multimodal LLM, a UniME model or a LoRA adapter."})
    output: str = field(metadata={"help": "Folder to make."})
    base: str | None = field(
        default=None, metadata={"help": "Base model of an adapter. Default: what the adapter's own config names."}
    )
    processor: str | None = field(
        default=None, metadata={"help": "Folder or Hub name with tokenizer and image processor. Default: the model."}
    )
    dtype: str = field(default="auto", metadata={"help": f"Of the weights: {', '.join(DTYPES)}. auto: as stored."})
    chat_format: str | None = field(
        default=None, metadata={"help": "Prompt format, a name of families.CHAT_FORMATS. Default: what fits."}
    )
    image_resolution: int | None = field(
        default=None, metadata={"help": "Resize every image to a square of so many pixels first. Default: do not."}
    )
    image_options: str | None = field(
        default=None,
        metadata={
            "help": "Options of the image processor as JSON, for example '{\"num_crops\": 16}' (Phi-3.5-V; default 4) or "
            "'{\"max_pixels\": 1003520}' (Qwen-VL). Default: the family's and the checkpoint's own."
        },
    )
    trust_remote_code: bool = field(
        default=False,
        metadata={
            "help": "Run the code that the vision tower or the LLM brings, which the folder then holds; read it first."
        },
    )

    def __post_init__(self) -> None:
        check_at_least(self, image_resolution=1)
        if self.dtype not in DTYPES:
            raise ValueError(f"dtype must be one of {', '.join(DTYPES)}, not {self.dtype!r}")
        self.parsed_image_options()

    def parsed_image_options(self) -> dict:
        """`image_options` as a dict."""
        try:
            options = json.loads(self.image_options or "{}")
        except json.JSONDecodeError as error:
            raise ValueError(f"image_options is no JSON: {error}") from error
        if not isinstance(options, dict):
            raise ValueError(f"image_options must be a JSON object such as '{{\"num_crops\": 4}}', not {options!r}")
        return options


def trace_weights(folder: Path, model: UniMEModel) -> dict[str, dict[str, str] | list[str]]:
    """Where each stored weight went, found by content, not by what the renaming was meant to do.

    ``mapped`` from a stored name to the model's; ``dropped``, which an embedding model has no use for; ``transformed``,
    which the library holds in another shape. A weight that was cast to the model's dtype while loading is found too.
    """
    places: dict[str, list[str]] = {}
    for name, tensor in model.state_dict().items():
        places.setdefault(digest_weight(tensor), []).append(name)
    mapped, dropped, transformed = {}, [], []
    for name, tensor in read_weights(folder):
        if any(re.search(pattern, name) for pattern in DROPPED_WEIGHTS):
            dropped.append(name)
        elif found := places.get(digest_weight(tensor)) or places.get(digest_weight(tensor.to(model.dtype))):
            mapped[name] = max(found, key=lambda place, name=name: common_end(place, name))
        else:
            transformed.append(name)
    if not (mapped or dropped or transformed):
        raise FileNotFoundError(f"{folder} has no .safetensors file; pickled weights (.bin) are not read")
    return {"mapped": mapped, "dropped": dropped, "transformed": transformed}


def _make_processor(arguments: ConvertArguments, model_folder: Path) -> UniMEProcessor:
    """A new processor, or the one that a folder of `unime export --format native` was made with."""
    folder = Path(arguments.processor or model_folder)
    if not is_native(folder):
        return UniMEProcessor.from_backbone(
            str(folder),
            chat_format=arguments.chat_format,
            image_resolution=arguments.image_resolution,
            image_options=arguments.parsed_image_options(),
            trust_remote_code=arguments.trust_remote_code,
        )
    fixed = [name for name in ("chat_format", "image_resolution", "image_options") if getattr(arguments, name)]
    if fixed:
        raise ValueError(f"{folder} keeps the processor that its model was trained with; leave {', '.join(fixed)} out")
    return read_native_processor(folder)


def convert(arguments: ConvertArguments) -> Path:
    """Write the UniME folder and its report; nothing is written where weights do not fit."""
    output = Path(arguments.output)
    if output.exists() and any(output.iterdir()):
        raise FileExistsError(f"{output} is not empty; choose another output or remove it")
    trusted = arguments.trust_remote_code
    download = {"allow_patterns": [*DOWNLOADED, *["*.py"] * trusted]}
    source = find_model_folder(arguments.source, **download)
    if (source / CONFIG_FILE).is_file() and not is_adapter(source):
        raise ValueError(
            f"{source} holds a whole model and an adapter beside it, which libraries would add once more; remove its "
            "adapter_* files if the adapter is merged already, or convert a folder with the adapter alone"
        )
    base = None
    if is_adapter(source):
        base = arguments.base or read_adapter_config(source).get("base_model_name_or_path")
        if not base:
            raise ValueError(f"{source} does not say what its base model is; give --base")
    elif arguments.base:
        raise ValueError(f"base is for a LoRA adapter alone, and {source} is a whole model; leave it out")
    model_folder = find_model_folder(base, **download) if base else source
    model = UniMEModel.from_backbone(str(model_folder), dtype="auto", trust_remote_code=trusted)
    traced = trace_weights(model_folder, model)
    merged = merge_adapter(model, source) if base else {}
    processor = _make_processor(arguments, model_folder)

    report = {
        "source": public_name(arguments.source),
        "base": public_name(base) if base else None,
        "family": model.config.family,
        **traced,
        "adapter_layers": merged,
    }
    if arguments.dtype != "auto":
        model.to(getattr(torch, arguments.dtype))
    model.save_pretrained(output)
    processor.save_pretrained(output)
    if is_native(model_folder) and (model_folder / USERS_FILE).is_file():
        shutil.copyfile(model_folder / USERS_FILE, output / USERS_FILE)
    write_atomically(output / CONVERSION_FILE, to_json(report))
    print(
        f"{arguments.source}: {len(traced['mapped'])} weights mapped, {len(traced['transformed'])} transformed, "
        f"{len(traced['dropped'])} dropped ({', '.join(traced['dropped']) or 'none'}), {len(merged)} layers changed by "
        f"the adapter; details in {CONVERSION_FILE}"
    )
    return output


def main(argv: Sequence[str] | None = None, prog: str = "python -m release.convert") -> None:
    """Convert; the last line printed is the folder."""
    (arguments,) = parse_dataclasses(
        (ConvertArguments,),
        argv,
        positional=("source", "output"),
        prog=prog,
        description=__doc__.partition("\n")[0],
    )
    check_writable(arguments.output, "output")
    print(convert(arguments))


if __name__ == "__main__":
    run_command(main)
