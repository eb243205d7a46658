# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Make a Hub folder of a model that a training command, or `unime convert`, wrote: the model saved anew, and its card.

    python -m release.export --model OUT --output FOLDER --repository me/my-unime --results results.json

Nothing is copied but sentence-transformers' settings (prompts and the like): weights, code and processor are what this
package reads from the folder and writes again, so that no token, log, changed code or path of this machine goes along.
"""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from transformers import PreTrainedConfig

from evaluation.stored_weights import read_weights
from modeling_unime import UniMEModel, UniMEProcessor
from modeling_unime.saved_folder import digest_weight, read_digest
from release.card import CardArguments, write_card
from release.check import check, check_adapters
from release.native import SHARD_SIZE, USERS_FILE, save_native
from release.remote_code import package_code
from unime.options import parse_dataclasses, run_command
from unime.output_folder import check_writable

FORMATS = ("unime", "native")
NEEDED = ("processor_config.json", "tokenizer_config.json", "modules.json")
COPIED = (USERS_FILE, "sentence_bert_config.json")  # what a user may have set there


@dataclass
class ExportArguments(CardArguments):
    """What to export, and what its card says."""

    model: str = field(metadata={"help": "Folder that a training command wrote."})
    output: str = field(metadata={"help": "Folder to make, empty or new; it can be uploaded to the Hub as it is."})
    repository: str = field(
        default="", metadata={"help": "Name on the Hub, for the card and its title. Default: the output folder."}
    )
    format: str = field(
        default="unime",
        metadata={
            "help": "unime: loads with trust_remote_code, on any family. native: the backbone's own architecture and the "
            "library's processor, which need no remote code and which serving engines know."
        },
    )
    check: bool = field(default=True, metadata={"help": "Run release.check on the folder, a fresh process included."})
    trust_remote_code: bool = field(
        default=False,
        metadata={
            "help": "Run the code that the vision tower or the LLM brings, which the Hub folder then holds; read it first."
        },
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.format not in FORMATS:
            raise ValueError(f"format is {self.format!r}; use one of {', '.join(FORMATS)}")


def forget_origin(config: PreTrainedConfig) -> None:
    """Remove from a config, and from those inside it, where it was read from."""
    config.name_or_path = ""
    for value in vars(config).values():
        if isinstance(value, PreTrainedConfig):
            forget_origin(value)


def check_source(source: Path) -> None:
    """Refuse a folder that is not complete, or that holds more than a model: an adapter, or further modules."""
    for needed in NEEDED:
        if not (source / needed).is_file():
            raise FileNotFoundError(f"{source} has no {needed}; export a folder that a training command finished")
    adapters = check_adapters(source)
    if not adapters.sound:
        raise ValueError(f"{source} has {adapters.note}")
    modules = json.loads((source / "modules.json").read_text(encoding="utf-8"))
    further = [module["type"] for module in modules[1:]]
    if further:
        raise ValueError(
            f"{source}/modules.json has further modules ({', '.join(further)}), which the exported model would lack; "
            "save it with SentenceTransformer.save_pretrained instead"
        )


def save_again(
    source: Path, output: Path, trust_remote_code: bool, native: bool = False
) -> tuple[UniMEModel, UniMEProcessor]:
    """Read model and processor with this package's own code and write them, with nothing else of the folder."""
    model = UniMEModel.from_pretrained(source, dtype="auto", trust_remote_code=trust_remote_code)
    processor = UniMEProcessor.from_pretrained(source, trust_remote_code=False)
    forget_origin(model.config)
    if native:
        save_native(model, processor, output)
    else:
        model.save_pretrained(output, max_shard_size=SHARD_SIZE)
        processor.save_pretrained(output)
    written = set((read_digest(output) or {}).values())
    changed = [name for name, tensor in read_weights(source) if digest_weight(tensor) not in written]
    if changed:
        raise ValueError(f"{output} is written, but must not be released: weights changed on the way: {changed[:5]}")
    for name in COPIED[:1] if native else COPIED:
        if (source / name).is_file():
            shutil.copyfile(source / name, output / name)
    return model, processor


def export(arguments: ExportArguments) -> Path:
    """Write the Hub folder; nothing is written where the model is not whole, or the output holds something."""
    source, output = Path(arguments.model), Path(arguments.output)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise FileExistsError(f"{output} is not empty; choose another output or remove it")
    check_source(source)
    model, processor = save_again(source, output, arguments.trust_remote_code, arguments.format == "native")
    facts = {
        "dimension": model.config.hidden_size,
        "max_length": processor.max_length or processor.tokenizer.model_max_length,
    }
    facts["image_resolution"] = processor.image_resolution
    repository = arguments.repository or output.name
    write_card(output, source, arguments, repository, arguments.format, model.config.family, **facts)
    left = sorted(
        {path.name for path in source.iterdir()} - {path.name for path in output.iterdir()} - {*package_code()}
    )
    if left:
        print(f"not exported: {', '.join(left)}")
    findings = check(output, trust_remote_code=arguments.trust_remote_code) if arguments.check else []
    failed = [f"{item.name} ({item.note})" for item in findings if not item.sound]
    if failed:
        raise ValueError(f"{output} is written, but must not be released: {'; '.join(failed)}")
    return output


def main(argv: Sequence[str] | None = None, prog: str = "python -m release.export") -> None:
    """Export; the last line printed is the folder."""
    (arguments,) = parse_dataclasses(
        (ExportArguments,), argv, prog=prog, description="Make a Hub folder of a trained model."
    )
    check_writable(arguments.output, "output")
    print(export(arguments))


if __name__ == "__main__":
    run_command(main)
