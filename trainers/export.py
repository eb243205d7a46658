# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Make a Hub folder from what a training command wrote: the model, without checkpoints and logs, and its card.

python -m trainers.export --model OUT --output FOLDER --repository me/my-unime --results results.json
"""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from evaluation.check import check
from evaluation.command_line import parse_dataclasses, run_command
from evaluation.output_folder import check_writable
from evaluation.shipped_files import shipped_file
from evaluation.table import make_table, read_columns
from modeling_unime import UniMEModel

from .run import OPTIONS_FILE, RECORD_FILE

HOW = {  # by the record's stage
    "stage1": "textual discriminative knowledge distillation (stage 1)",
    "stage1 (E5-V)": "contrastive training on text alone, the recipe of E5-V (arXiv 2407.12580)",
    "stage2": "hard negative enhanced instruction tuning (stage 2)",
}
LEFT_BEHIND = {OPTIONS_FILE, RECORD_FILE, "training_args.bin", "bad_rows.json"}


@dataclass
class ExportArguments:
    """What to export, and what its card says."""

    model: str = field(metadata={"help": "Folder that a training command wrote."})
    output: str = field(metadata={"help": "Folder to make; it can be uploaded to the Hub as it is."})
    repository: str = field(
        default="", metadata={"help": "Name on the Hub, for the card. Default: the output folder."}
    )
    base_model: str = field(default="", metadata={"help": "Hub name of the multimodal LLM, for the card."})
    license: str = field(default="other", metadata={"help": "Licence of the weights; that of the backbone binds."})
    results: list[str] = field(
        default_factory=list, metadata={"help": "results.json files of evaluation.run (LABEL=PATH) for the card."}
    )
    check: bool = field(
        default=True, metadata={"help": "Run evaluation.check on the folder, a fresh process included."}
    )
    limits: str = field(
        default="The licences of backbone, teacher and training data apply.",
        metadata={"help": "What users must know: limits, licences of backbone, teacher and data."},
    )


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
        lines.append(f"- teacher: {record['teacher']}")
    names = ("temperature", "num_hard_negatives", "false_negative_margin", "loss_type", "learning_rate")
    names += ("per_device_train_batch_size", "lora_rank")
    lines += [f"- {name}: {options[name]}" for name in names if name in options]
    return "\n".join(lines)


def export(arguments: ExportArguments) -> Path:
    """Write the Hub folder.

    Raises:
        FileNotFoundError: when the model folder is not complete.
        WeightsMismatchError: when its weights do not fit; nothing is written then.
        ValueError: when the folder does not pass evaluation.check; names what failed.
    """
    source, output = Path(arguments.model), Path(arguments.output)
    model = UniMEModel.from_pretrained(source)
    for needed in ("processor_config.json", "tokenizer_config.json", "modules.json"):
        if not (source / needed).is_file():
            raise FileNotFoundError(f"{source} has no {needed}; export a folder that a training command finished")
    read = {
        name: json.loads((source / name).read_text())
        for name in (RECORD_FILE, OPTIONS_FILE)
        if (source / name).exists()
    }
    output.mkdir(parents=True, exist_ok=True)
    for file in source.iterdir():
        if file.is_file() and file.name not in LEFT_BEHIND:
            shutil.copyfile(file, output / file.name)
    record = read.get(RECORD_FILE)
    values = {
        "name": output.name,
        "repository": arguments.repository or output.name,
        "base_model": arguments.base_model or model.config.family,
        "license": arguments.license,
        "dimension": str(model.config.hidden_size),
        "how": HOW.get(record["stage"] if record else "", HOW["stage2"]),
        "training": describe_training(record, read.get(OPTIONS_FILE, {})),
        "results": make_table(read_columns(arguments.results)) if arguments.results else "Not evaluated.",
        "limits": arguments.limits,
    }
    card = shipped_file("model_card.md").read_text(encoding="utf-8")
    for name, value in values.items():
        card = card.replace("{" + name + "}", value)
    (output / "README.md").write_text(card, encoding="utf-8")
    failed = [f"{item.name} ({item.note})" for item in (check(output) if arguments.check else []) if not item.sound]
    if failed:
        raise ValueError(f"{output} is written, but must not be released: {'; '.join(failed)}")
    return output


def main(argv: Sequence[str] | None = None, prog: str = "python -m trainers.export") -> None:
    """Export; the last line printed is the folder."""
    (arguments,) = parse_dataclasses(
        (ExportArguments,), argv, prog=prog, description="Make a Hub folder of a trained model."
    )
    check_writable(arguments.output, "output")
    print(export(arguments))


if __name__ == "__main__":
    run_command(main)
