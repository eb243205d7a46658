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

from huggingface_hub import ModelCard, ModelCardData
from transformers import PreTrainedConfig

from evaluation.report import make_table
from evaluation.stored_weights import read_weights
from evaluation.table import read_runs
from modeling_unime import UniMEModel, UniMEProcessor
from modeling_unime.saved_folder import digest_weight, read_digest
from release.check import check, check_adapters
from release.native import NATIVE_FORMS, SHARD_SIZE, USERS_FILE, save_native
from release.remote_code import package_code
from trainers.run import OPTIONS_FILE, RECORD_FILE
from unime.options import parse_dataclasses, run_command
from unime.output_folder import check_writable
from unime.public_names import is_local, public_name
from unime.shipped_files import shipped_file

FORMATS = ("unime", "native")
TAGS = ["unime", "multimodal-embedding", "sentence-transformers", "transformers"]
HOW = {  # by the record's stage
    "stage1": "textual discriminative knowledge distillation (stage 1)",
    "stage1 (E5-V)": "contrastive training on text alone, the recipe of E5-V (arXiv 2407.12580)",
    "stage2": "hard negative enhanced instruction tuning (stage 2)",
}
TOLD = (  # of a run's options
    "temperature", "num_hard_negatives", "false_negative_margin", "loss_type", "learning_rate",
    "per_device_train_batch_size", "lora_rank",
)  # fmt: skip
NEEDED = ("processor_config.json", "tokenizer_config.json", "modules.json")
COPIED = (USERS_FILE, "sentence_bert_config.json")  # what a user may have set there


@dataclass
class ExportArguments:
    """What to export, and what its card says."""

    model: str = field(metadata={"help": "Folder that a training command wrote."})
    output: str = field(metadata={"help": "Folder to make, empty or new; it can be uploaded to the Hub as it is."})
    repository: str = field(
        default="", metadata={"help": "Name on the Hub, for the card and its title. Default: the output folder."}
    )
    base_model: str = field(
        default="",
        metadata={"help": "Hub name of the multimodal LLM, for the card. Default: the card does not name it."},
    )
    license: str = field(default="other", metadata={"help": "Licence of the weights; that of the backbone binds."})
    results: list[str] = field(
        default_factory=list, metadata={"help": "results.json files of evaluation.run (LABEL=PATH) for the card."}
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
    limits: str = field(
        default="The licences of backbone, teacher and training data apply.",
        metadata={"help": "What users must know: limits, licences of backbone, teacher and data."},
    )

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise ValueError(f"format is {self.format!r}; use one of {', '.join(FORMATS)}")


def forget_origin(config: PreTrainedConfig) -> None:
    """Remove from a config, and from those inside it, where it was read from."""
    config.name_or_path = ""
    for value in vars(config).values():
        if isinstance(value, PreTrainedConfig):
            forget_origin(value)


def describe_training(record: dict, options: dict, family: str) -> str:
    """The card's words on how the model was trained, from what the training command left; both may be empty."""
    lines = [f"- backbone: a model of the family {family}"]
    if not record:
        return "\n".join([*lines, "- training: not recorded"])
    lines.append(
        f"- {record['stage']}, {record['steps']} steps, seed {record['seed']}, {record['world_size']} process(es)"
    )
    for name in ("hardware", "versions"):
        lines.append(f"- {name}: " + (", ".join(f"{key} {value}" for key, value in record[name].items()) or "unknown"))
    if "teacher" in record:
        lines.append(f"- teacher: {public_name(record['teacher'])}")
    return "\n".join([*lines, *(f"- {name}: {options[name]}" for name in TOLD if name in options)])


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


def save_again(source: Path, output: Path, trust_remote_code: bool, native: bool = False) -> UniMEModel:
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
    return model


def write_card(model: UniMEModel, output: Path, arguments: ExportArguments) -> None:
    """Write the model card, from the options and from what the training command left in the folder."""
    files = (Path(arguments.model, name) for name in (RECORD_FILE, OPTIONS_FILE))
    record, options = (json.loads(file.read_text(encoding="utf-8")) if file.exists() else {} for file in files)
    repository = arguments.repository or output.name
    card = ModelCard.from_template(
        ModelCardData(
            library_name="sentence-transformers",
            pipeline_tag="feature-extraction",
            tags=TAGS,
            license=arguments.license,
            base_model=arguments.base_model or None,
        ),
        template_path=shipped_file("model_card.md"),
        name=repository.rpartition("/")[2],
        repository=repository,
        dimension=model.config.hidden_size,
        native=arguments.format == "native",
        needed_packages=" and ".join(NATIVE_FORMS[model.config.family].needed_packages),
        how=HOW.get(record.get("stage"), "how it was trained is not recorded"),
        training=describe_training(record, options, model.config.family),
        results=make_table(read_runs(arguments.results)) if arguments.results else "Not evaluated.",
        limits=arguments.limits,
    )
    (output / "README.md").write_text(str(card) + "\n", encoding="utf-8")


def export(arguments: ExportArguments) -> Path:
    """Write the Hub folder; nothing is written where the model is not whole, or the output holds something."""
    source, output = Path(arguments.model), Path(arguments.output)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise FileExistsError(f"{output} is not empty; choose another output or remove it")
    if arguments.base_model and is_local(arguments.base_model):
        raise ValueError(
            f"base_model is for the public card: give the model's name on the Hub, not {arguments.base_model}"
        )
    check_source(source)
    native = arguments.format == "native"
    write_card(save_again(source, output, arguments.trust_remote_code, native), output, arguments)
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
