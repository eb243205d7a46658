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
def one_sentence(config: TrainingArguments, what: str) -> Iterator[None]:
    """Says what failed and what to do, where the Hub says only why."""
    try:
        yield
    except (HTTPError, OfflineModeIsEnabled) as error:
        reason = " ".join(str(error).split())
        raise CommandError(f"push_to_hub: {what} for {repository_name(config)} ({reason})") from error


def repository_name(config: TrainingArguments) -> str:
    """By the library's rule."""
    return config.hub_model_id or Path(config.output_dir).resolve().name


def make_repository(
    config: TrainingArguments, token: str | None = None, revision: str | None = None, private: bool | None = None
) -> str:
    """Make the repository and its branch, or see that they are there; a wrong token shows at once."""
    api, revision = HfApi(token=token or config.hub_token), revision or config.hub_revision
    private = config.hub_private_repo if private is None else private
    repository = api.create_repo(repository_name(config), private=private, exist_ok=True).repo_id
    if revision:
        api.create_branch(repository, branch=revision, exist_ok=True)
    return repository


def push_folder(
    config: TrainingArguments,
    token: str | None = None,
    revision: str | None = None,
    private: bool | None = None,
    commit_message: str = "Finished model",
) -> CommitInfo:
    """Push the finished model in a run's folder with its card; the Hub is not sent again what it has.

    What is given goes before the run's own token, branch and privacy.
    """
    from release.export import ExportArguments, export  # at the call: release stands on this package

    with (
        one_sentence(config, f"{config.output_dir} is finished but not pushed, start the command again"),
        tempfile.TemporaryDirectory() as parent,
    ):
        repository = make_repository(config, token, revision, private)
        folder = Path(parent, repository.rpartition("/")[2])
        export(
            ExportArguments(
                config.output_dir,
                str(folder),
                repository=repository,
                check=False,
                trust_remote_code=config.trust_remote_code,
            )
        )
        commit = HfApi(token=token or config.hub_token).upload_folder(
            repo_id=repository,
            folder_path=folder,
            revision=revision or config.hub_revision,
            commit_message=commit_message,
        )
    logger.warning(f"pushed to {repository}: {commit.commit_url}")
    return commit
