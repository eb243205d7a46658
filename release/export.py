# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Make a Hub folder of a model that a training command, or `unime convert`, wrote: the model saved anew, and its card.

python -m release.export --model OUT --output FOLDER --repository me/my-unime --results results.json
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from evaluation.report import make_table
from evaluation.table import read_runs
from release.check import check
from release.native import NATIVE_FORMS, save_native
from release.remote_code import package_code
from unime.hub_folder import LIMITS, USERS_FILE, save_again, write_card
from unime.options import parse_dataclasses, run_command
from unime.output_folder import check_writable
from unime.public_names import is_local

FORMATS = ("unime", "native")


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
        default=LIMITS,
        metadata={"help": "What users must know: limits, licences of backbone, teacher and data."},
    )

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise ValueError(f"format is {self.format!r}; use one of {', '.join(FORMATS)}")


def export(arguments: ExportArguments) -> Path:
    """Write the Hub folder; nothing is written where the model is not whole, or the output holds something."""
    source, output = Path(arguments.model), Path(arguments.output)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise FileExistsError(f"{output} is not empty; choose another output or remove it")
    if arguments.base_model and is_local(arguments.base_model):
        raise ValueError(
            f"base_model is for the public card: give the model's name on the Hub, not {arguments.base_model}"
        )
    native, trusted = arguments.format == "native", arguments.trust_remote_code
    ways = {"save": save_native, "settings": (USERS_FILE,)} if native else {}
    model = save_again(source, output, trusted, **ways)
    write_card(
        model,
        source,
        output,
        arguments.repository or output.name,
        arguments.license,
        arguments.base_model,
        make_table(read_runs(arguments.results)) if arguments.results else "Not evaluated.",
        arguments.limits,
        native,
        " and ".join(NATIVE_FORMS[model.config.family].needed_packages) if native else "",
    )
    left = sorted(
        {path.name for path in source.iterdir()} - {path.name for path in output.iterdir()} - {*package_code()}
    )
    if left:
        print(f"not exported: {', '.join(left)}")
    findings = check(output, trust_remote_code=trusted) if arguments.check else []
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
