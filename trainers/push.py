# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""push_to_hub: the finished model and its card go to the Hub, once, when training is over.

What goes there is what `release.export` makes of the run's folder: no checkpoints, logs or options of the run.
"""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from huggingface_hub import CommitInfo, HfApi
from huggingface_hub.errors import HTTPError, OfflineModeIsEnabled  # the HTTP client's own, whichever it is
from transformers import TrainingArguments
from transformers.utils import logging

from unime.options import CommandError

logger = logging.get_logger(__name__)


@contextlib.contextmanager
def _one_sentence(config: TrainingArguments, what: str) -> Iterator[None]:
    """Says what failed and what to do, where the Hub says only why."""
    try:
        yield
    except (HTTPError, OfflineModeIsEnabled) as error:
        reason = " ".join(str(error).split())
        raise CommandError(f"push_to_hub: {what} for {_name(config)} ({reason})") from error


def _name(config: TrainingArguments) -> str:
    """Of the repository, by the library's rule."""
    return config.hub_model_id or Path(config.output_dir).resolve().name


def prepare_repository(config: TrainingArguments) -> None:
    """Make the repository, or see that it is there, before anything is read: a wrong token shows at once.

    Raises:
        CommandError: the Hub refuses it, or cannot be reached.
    """
    if not config.push_to_hub or config.process_index != 0:
        return
    with _one_sentence(config, "there is no repository to push to, check hub_token and hub_model_id:"):
        _make_repository(HfApi(token=config.hub_token), config)


def _make_repository(
    api: HfApi, config: TrainingArguments, revision: str | None = None, private: bool | None = None
) -> str:
    private = config.hub_private_repo if private is None else private
    repository = api.create_repo(_name(config), private=private, exist_ok=True).repo_id
    if revision or config.hub_revision:
        api.create_branch(repository, branch=revision or config.hub_revision, exist_ok=True)
    return repository


def push_finished(config: TrainingArguments) -> None:
    """Push a run's finished model with its card. Files that are on the Hub as they are, are not sent again.

    Raises:
        CommandError: the Hub refuses it, or cannot be reached; the same command tries again.
    """
    if config.push_to_hub and config.process_index == 0:
        push_folder(config)


def push_folder(
    config: TrainingArguments,
    token: str | None = None,
    revision: str | None = None,
    private: bool | None = None,
    commit_message: str = "Finished model",
) -> CommitInfo:
    """Push the finished model in a run's folder with its card, and nothing else of the folder.

    Args:
        config: of the run.
        token: of the Hub (default: the run's, or that of the machine).
        revision: branch (default: the run's, or main).
        private: whether a new repository is (default: as the run has it).
        commit_message: of the one commit.

    Raises:
        CommandError: the Hub refuses it, or cannot be reached.
    """
    from release.export import ExportArguments, export  # imports run.py, which imports this

    api, revision = HfApi(token=token or config.hub_token), revision or config.hub_revision
    with (
        _one_sentence(config, f"{config.output_dir} is finished but not pushed, start the command again"),
        tempfile.TemporaryDirectory() as parent,
    ):
        repository = _make_repository(api, config, revision, private)
        folder = Path(parent, repository.rpartition("/")[2])
        export(ExportArguments(config.output_dir, str(folder), repository=repository, check=False))
        commit = api.upload_folder(
            repo_id=repository, folder_path=folder, revision=revision, commit_message=commit_message
        )
    logger.warning(f"pushed to {repository}: {commit.commit_url}")
    return commit
