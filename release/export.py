# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Make a Hub folder of a model that a training command, or `unime convert`, wrote: the model saved anew, and its card.

python -m release.export --model OUT --output FOLDER --repository me/my-unime --results results.json

Nothing is copied but sentence-transformers' settings (prompts and the like): weights, code and processor are what this
package reads from the folder and writes again, so that no token, log, changed code or path of this machine goes along.
"""

import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from transformers import PreTrainedConfig

from evaluation.report import make_table
from evaluation.stored_weights import read_weights
from evaluation.table import read_runs
from modeling_unime import UniMEModel, UniMEProcessor
from modeling_unime.saved_folder import digest_weight, read_digest
from release.check import check, check_adapters
from trainers.run import OPTIONS_FILE, RECORD_FILE
from unime.options import parse_dataclasses, run_command
from unime.output_folder import check_writable
from unime.public_names import is_local, public_name
from unime.shipped_files import shipped_file

HOW = {  # by the record's stage
    "stage1": "textual discriminative knowledge distillation (stage 1)",
    "stage1 (E5-V)": "contrastive training on text alone, the recipe of E5-V (arXiv 2407.12580)",
    "stage2": "hard negative enhanced instruction tuning (stage 2)",
}
NEEDED = ("processor_config.json", "tokenizer_config.json", "modules.json")
COPIED = ("config_sentence_transformers.json", "sentence_bert_config.json")  # what a user may have set there


@dataclass
class ExportArguments:
    """What to export, and what its card says."""

    model: str = field(metadata={"help": "Folder that a training command wrote."})
    output: str = field(metadata={"help": "Folder to make, empty or new; it can be uploaded to the Hub as it is."})
    repository: str = field(
        default="", metadata={"help": "Name on the Hub, for the card and its title. Default: the output folder."}
    )
    base_model: str = field(default="", metadata={"help": "Hub name of the multimodal LLM, for the card."})
    license: str = field(default="other", metadata={"help": "Licence of the weights; that of the backbone binds."})
    results: list[str] = field(
        default_factory=list, metadata={"help": "results.json files of evaluation.run (LABEL=PATH) for the card."}
    )
    check: bool = field(default=True, metadata={"help": "Run release.check on the folder, a fresh process included."})
    limits: str = field(
        default="The licences of backbone, teacher and training data apply.",
        metadata={"help": "What users must know: limits, licences of backbone, teacher and data."},
    )


def forget_origin(config: PreTrainedConfig) -> None:
    """Remove from a config, and from those inside it, where it was read from."""
    config._name_or_path = ""
    for value in vars(config).values():
        if isinstance(value, PreTrainedConfig):
            forget_origin(value)


def describe_training(record: dict | None, options: dict) -> str:
    """The card's words on how the model was trained, from the run's own files."""
    if record is None:
        return "Not trained: a multimodal LLM without its head."
    lines = [
        f"- {record['stage']}, {record['steps']} steps, seed {record['seed']}, {record['world_size']} process(es)"
    ]
    for name in ("hardware", "versions"):
        lines.append(f"- {name}: " + ", ".join(f"{key} {value}" for key, value in record[name].items()))
    if "teacher" in record:
        lines.append(f"- teacher: {public_name(record['teacher'])}")
    names = ("temperature", "num_hard_negatives", "false_negative_margin", "loss_type", "learning_rate")
    names += ("per_device_train_batch_size", "lora_rank")
    lines += [f"- {name}: {options[name]}" for name in names if name in options]
    return "\n".join(lines)


def check_source(source: Path) -> None:
    """Refuse a folder that cannot be exported whole.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: it holds more than a UniME model: an adapter, or further modules of sentence-transformers.
    """
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


def save_again(source: Path, output: Path) -> UniMEModel:
    """Read model and processor with this package's own code and write them, with nothing else of the folder.

    Raises:
        WeightsMismatchError: the weights do not fit; nothing is written then.
        ValueError: a weight was changed on the way, for example one of another type than the rest.
    """
    model = UniMEModel.from_pretrained(source, dtype="auto")
    processor = UniMEProcessor.from_pretrained(source, trust_remote_code=False)
    forget_origin(model.config)
    model.save_pretrained(output)
    processor.save_pretrained(output)
    written = set((read_digest(output) or {}).values())
    changed = [name for name, tensor in read_weights(source) if digest_weight(tensor) not in written]
    if changed:
        raise ValueError(f"{output} is written, but must not be released: weights changed on the way: {changed[:5]}")
    for name in COPIED:
        if (source / name).is_file():
            shutil.copyfile(source / name, output / name)
    return model


def write_card(model: UniMEModel, output: Path, arguments: ExportArguments) -> None:
    """Write the model card, from the options and from what the training command left in the folder."""
    source = Path(arguments.model)
    read = {
        name: json.loads((source / name).read_text(encoding="utf-8"))
        for name in (RECORD_FILE, OPTIONS_FILE)
        if (source / name).exists()
    }
    record = read.get(RECORD_FILE)
    repository = arguments.repository or output.name
    values = {
        "name": repository.rpartition("/")[2],
        "repository": repository,
        "base_model": arguments.base_model or model.config.family,
        "license": arguments.license,
        "dimension": str(model.config.hidden_size),
        "how": HOW.get(record["stage"] if record else "", HOW["stage2"]),
        "training": describe_training(record, read.get(OPTIONS_FILE, {})),
        "results": make_table(read_runs(arguments.results)) if arguments.results else "Not evaluated.",
        "limits": arguments.limits,
    }
    template = shipped_file("model_card.md").read_text(encoding="utf-8")
    card = re.sub("|".join(rf"\{{{name}\}}" for name in values), lambda slot: values[slot[0][1:-1]], template)
    (output / "README.md").write_text(card, encoding="utf-8")


def export(arguments: ExportArguments) -> Path:
    """Write the Hub folder.

    Raises:
        FileExistsError: the output holds something.
        FileNotFoundError: when the model folder is not complete.
        WeightsMismatchError: when its weights do not fit; nothing is written then.
        ValueError: when the folder holds more than a model, `base_model` is a path, or what was written does not pass
            release.check; names what failed.
    """
    source, output = Path(arguments.model), Path(arguments.output)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise FileExistsError(f"{output} is not empty; choose another output or remove it")
    if arguments.base_model and is_local(arguments.base_model):
        raise ValueError(
            f"base_model is for the public card: give the model's name on the Hub, not {arguments.base_model}"
        )
    check_source(source)
    write_card(save_again(source, output), output, arguments)
    left = sorted({path.name for path in source.iterdir()} - {path.name for path in output.iterdir()})
    if left:
        print(f"not exported: {', '.join(left)}")
    failed = [f"{item.name} ({item.note})" for item in (check(output) if arguments.check else []) if not item.sound]
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
