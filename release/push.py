# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Put a folder that `unime export` wrote, or a LoRA adapter alone, on the Hub.

    python -m release.push FOLDER org/name

The folder is checked first (`unime check`), then the files are listed that a model consists of; no other is uploaded. The
same command, given again, resumes a broken upload. What was uploaded is downloaded again and compared. The token is that
of `hf auth login` or of HF_TOKEN.
"""

import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from huggingface_hub import HfApi, constants, get_token, snapshot_download

from evaluation.report import markdown_table
from release.adapters import CONFIG_FILE, WEIGHTS_FILE, is_adapter, read_adapter_config
from release.card import CardArguments, write_card
from release.check import check
from unime.files import file_digest
from unime.hub import files_to_upload, make_repository, one_sentence, upload
from unime.options import CommandError, parse_dataclasses, run_command
from unime.output_folder import RECORD_FILE, check_writable
from unime.public_names import is_local


@dataclass
class PushArguments(CardArguments):
    """What to upload, and where to; what the card of an adapter alone says."""

    model: str = field(metadata={"help": "Folder of `unime export`, of either format, or of an adapter alone."})
    repository: str = field(metadata={"help": "Name on the Hub: org/name."})
    dry_run: str | None = field(
        default=None, metadata={"help": "Folder to copy the files to instead, empty or new. Default: upload them."}
    )
    public: bool = field(default=False, metadata={"help": "Whether a new repository is public. Default: private."})
    revision: str | None = field(default=None, metadata={"help": "Branch, made if need be. Default: main."})
    create_pr: bool = field(default=False, metadata={"help": "Open a pull request instead of writing to the branch."})
    adapter: bool = field(
        default=False, metadata={"help": "The folder is a LoRA adapter alone; its base model must be on the Hub."}
    )
    check: bool = field(default=True, metadata={"help": "Run release.check on the folder, a fresh process included."})
    trust_remote_code: bool = field(
        default=False,
        metadata={"help": "Check by, and upload, the code that a part of the model brings; read it first."},
    )
    verify: bool = field(default=True, metadata={"help": "Download what was uploaded and compare it."})

    def __post_init__(self) -> None:
        if self.create_pr and self.revision:
            raise ValueError("create_pr opens a pull request against main; leave revision out")
        if is_local(self.repository) or self.repository.count("/") != 1:
            raise ValueError(f"repository is a name on the Hub, org/name, not {self.repository}")
        super().__post_init__()
        told = [name for name, value in vars(CardArguments()).items() if getattr(self, name) != value]
        if told and not self.adapter:
            raise ValueError(f"{', '.join(told)}: only for the card of an adapter; that of a model is unime export's")


def stage_adapter(source: Path, folder: Path, arguments: PushArguments) -> None:
    """Copy an adapter with the public name of its base model, and write its card."""
    config = read_adapter_config(source)
    base = arguments.base_model or config.get("base_model_name_or_path") or ""
    if not base or is_local(base):
        raise ValueError(f"the base model of {source} is {base or 'not named'}; give its Hub name by --base_model")
    shutil.copyfile(source / WEIGHTS_FILE, folder / WEIGHTS_FILE)
    content = {**config, "base_model_name_or_path": base}
    (folder / CONFIG_FILE).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    trained = source if (source / RECORD_FILE).is_file() else source.parent  # of a checkpoint
    write_card(folder, trained, replace(arguments, base_model=base), arguments.repository, "adapter")


def stage(arguments: PushArguments, folder: Path) -> list[str]:
    """Copy what is to be uploaded, checked, into a folder of its own; returns the paths."""
    source = Path(arguments.model)
    if is_adapter(source) != arguments.adapter:
        word = "is" if is_adapter(source) else "is not"
        raise ValueError(
            f"{source} {word} a LoRA adapter alone; set --adapter accordingly, or merge it by unime convert"
        )
    if arguments.adapter:
        stage_adapter(source, folder, arguments)
        return files_to_upload(folder, adapter=True)
    if not (source / "README.md").is_file():
        raise FileNotFoundError(f"{source} has no model card, README.md; push a folder that unime export wrote")
    trusted = arguments.trust_remote_code
    findings = check(source, trust_remote_code=trusted) if arguments.check else []
    failed = [f"{item.name} ({item.note})" for item in findings if not item.sound]
    if failed:
        raise ValueError(f"{source} must not be released: {'; '.join(failed)}")
    files = files_to_upload(source, trust_remote_code=trusted)
    for path in files:
        (folder / path).parent.mkdir(exist_ok=True)
        shutil.copyfile(source / path, folder / path)
    left = sorted({path.name for path in source.iterdir()} - {path.partition("/")[0] for path in files})
    if left:
        print(f"not uploaded: {', '.join(left)}")
    return files


def push(arguments: PushArguments) -> str:
    """Upload the folder; returns the address of its page, or the folder of a dry run."""
    token, repository = get_token(), arguments.repository
    if arguments.dry_run is None and token is None:
        raise CommandError(f"there is no token to write {repository} with; run `hf auth login`, or set HF_TOKEN")
    if arguments.dry_run and Path(arguments.dry_run).exists() and any(Path(arguments.dry_run).iterdir()):
        raise FileExistsError(f"{arguments.dry_run} is not empty; choose another folder or remove it")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(arguments.dry_run or Path(scratch, "folder"))
        folder.mkdir(parents=True, exist_ok=True)
        files = stage(arguments, folder)
        sizes = {path: (folder / path).stat().st_size for path in files}
        print(markdown_table(["file", "bytes"], [[path, f"{size:,}"] for path, size in sizes.items()]))
        print(f"{len(files)} files, {sum(sizes.values()) / 1e6:,.1f} MB, for {repository}")
        if arguments.dry_run:
            return arguments.dry_run
        with one_sentence(f"there is no repository {repository} to push to, check the token and the name"):
            make_repository(repository, token, arguments.revision, private=not arguments.public)
            is_private = HfApi(token=token).model_info(repository).private
        print(f"{repository} is {'private' if is_private else 'public'}")
        with one_sentence(f"{repository} is not complete, give the same command again to resume the upload"):
            commit = upload(
                folder, repository, files, token, arguments.revision, "Upload model", create_pr=arguments.create_pr
            )
        if arguments.verify:
            with one_sentence(f"{repository} is uploaded, but could not be read back"):
                cache = Path(scratch, "cache")
                back = Path(snapshot_download(repository, revision=commit.oid, token=token, cache_dir=cache))
            wrong = [name for name in files if file_digest(back / name) != file_digest(folder / name)]
            if wrong:
                raise CommandError(f"{repository} holds other content in {', '.join(wrong)}; push once more")
    page = f"{constants.ENDPOINT}/{repository}"
    return commit.pr_url or (f"{page}/tree/{arguments.revision}" if arguments.revision else page)


def main(argv: Sequence[str] | None = None, prog: str = "python -m release.push") -> None:
    """Push; the last line printed is the page's address."""
    (arguments,) = parse_dataclasses(
        (PushArguments,),
        argv,
        positional=("model", "repository"),
        prog=prog,
        description=__doc__.partition("\n")[0],
    )
    if not Path(arguments.model).is_dir():
        raise FileNotFoundError(f"{arguments.model}: no such folder")
    if arguments.dry_run:
        check_writable(arguments.dry_run, "dry_run")
    print(push(arguments))


if __name__ == "__main__":
    run_command(main)
