# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Puts a finished folder on the Hub, for `unime push` and at the end of a training; only what a model consists of."""

import contextlib
import re
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

from huggingface_hub import CommitInfo, HfApi
from huggingface_hub.errors import HTTPError, OfflineModeIsEnabled  # the HTTP client's own, whichever it is

import modeling_unime
from unime.options import CommandError

ADAPTER_FILES = (".eval_results/*.yaml", "README.md", "adapter_config.json", "adapter_model.safetensors")
MODEL_FILES = (
    ".eval_results/*.yaml", "1_Pooling/config.json", "2_Normalize/config.json", "README.md", "added_tokens.json", "chat_template.jinja",
    "config.json", "config_sentence_transformers.json", "merges.txt", "model-?????-of-?????.safetensors",
    "model.safetensors", "model.safetensors.index.json", "modules.json", "processor_config.json",
    "sentence_bert_config.json", "special_tokens_map.json", "tokenizer.json", "tokenizer.model",
    "tokenizer_config.json", "unime.json", "vocab.json", "weights_digest.json",
    *sorted(path.name for path in Path(modeling_unime.__file__).parent.glob("*.py")),
)  # fmt: skip
SECRET = re.compile(r"\bhf_[A-Za-z0-9]{20,}")
LOCAL_PATH = re.compile(r"(?<![\w.:/])(/(home|Users|root|tmp)/[\w.-]+|[A-Za-z]:\\\\?\w)")


@contextlib.contextmanager
def one_sentence(what: str) -> Iterator[None]:
    """Says what failed and what to do, where the Hub says only why."""
    try:
        yield
    except (HTTPError, OfflineModeIsEnabled, RuntimeError) as error:
        cause = error.__cause__ or error  # an upload's fault stands behind a RuntimeError
        if not isinstance(cause, (HTTPError, OfflineModeIsEnabled)):
            raise
        raise CommandError(f"{what} ({' '.join(str(cause).split())})") from error


def make_repository(
    repository: str, token: str | None = None, revision: str | None = None, private: bool | None = None
) -> str:
    """Make the repository and its branch, or see that they are there; a wrong token shows at once."""
    api = HfApi(token=token)
    repository = api.create_repo(repository, private=private, exist_ok=True).repo_id
    if revision:
        api.create_branch(repository, branch=revision, exist_ok=True)
    return repository


def files_to_upload(folder: str | Path, adapter: bool = False, trust_remote_code: bool = False) -> list[str]:
    """Files of a folder that belong to a model, or to an adapter alone, by path; every other stays where it is.

    With `trust_remote_code`, code of the model's parts beside the package's own belongs to it, too.

    Raises:
        ValueError: one of them holds what looks like a token of the Hub, or a path of this machine.
    """
    folder, allowed = Path(folder), ADAPTER_FILES if adapter else MODEL_FILES
    allowed += ("*.py",) if trust_remote_code else ()
    paths = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    chosen = [path for path in paths if any(fnmatch(path, pattern) for pattern in allowed)]
    for path in chosen:
        if path == "README.md" or path.endswith("config.json"):
            content = (folder / path).read_text(encoding="utf-8")
            for pattern, name in ((SECRET, "a token"), (LOCAL_PATH, "a path of this machine")):
                if pattern.search(content):
                    raise ValueError(f"{folder / path} holds {name}; take it out before the folder is uploaded")
    return chosen


def upload(
    folder: str | Path,
    repository: str,
    files: list[str],
    token: str | None = None,
    revision: str | None = None,
    commit_message: str = "Finished model",
    create_pr: bool = False,
) -> CommitInfo:
    """Upload files of a folder; the Hub is not sent again what it has, so that the same call resumes a broken one."""
    return HfApi(token=token).upload_folder(
        repo_id=repository,
        folder_path=folder,
        revision=revision,
        commit_message=commit_message,
        allow_patterns=files,
        create_pr=create_pr or None,
    )
