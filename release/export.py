# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Make a Hub folder of a model that a training command, or `unime convert`, wrote: the model saved anew, and its card.

    python -m release.export --model OUT --output FOLDER --repository me/my-unime --results results.json

Nothing is copied but sentence-transformers' settings (prompts and the like): weights, code and processor are what this
package reads from the folder and writes again, so that no token, log, changed code or path of this machine goes along.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from release.card import CardArguments, write_card
from release.check import check
from release.native import save_native
from release.remote_code import package_code
from unime.hub_folder import USERS_FILE, save_again
from unime.options import parse_dataclasses, run_command
from unime.output_folder import check_writable

FORMATS = ("unime", "native")


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


def export(arguments: ExportArguments) -> Path:
    """Write the Hub folder; nothing is written where the model is not whole, or the output holds something."""
    source, output = Path(arguments.model), Path(arguments.output)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise FileExistsError(f"{output} is not empty; choose another output or remove it")
    native, trusted = arguments.format == "native", arguments.trust_remote_code
    ways = {"save": save_native, "settings": (USERS_FILE,)} if native else {}
    facts = save_again(source, output, trusted, **ways)
    write_card(output, source, arguments, arguments.repository or output.name, arguments.format, **facts)
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
