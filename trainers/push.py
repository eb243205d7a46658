# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""push_to_hub: the finished model and its card go to the Hub, once, when training is over.

What goes there is what `unime export` would make of the run's folder: no checkpoints, logs or options of the run.
"""

import tempfile
from pathlib import Path

from huggingface_hub import CommitInfo
from transformers import TrainingArguments
from transformers.utils import logging

from unime.card import write_readme
from unime.hub import files_to_upload, make_repository, one_sentence, upload
from unime.hub_folder import save_again

logger = logging.get_logger(__name__)


def repository_name(config: TrainingArguments) -> str:
    """By the library's rule."""
    return config.hub_model_id or Path(config.output_dir).resolve().name


def check_repository(config: TrainingArguments) -> None:
    """Make the repository before anything long begins."""
    what = "push_to_hub: there is no repository to push to, check hub_token and hub_model_id: for"
    with one_sentence(f"{what} {repository_name(config)}"):
        make_repository(repository_name(config), config.hub_token, config.hub_revision, config.hub_private_repo)


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
    token, revision = token or config.hub_token, revision or config.hub_revision
    private = config.hub_private_repo if private is None else private
    what = f"push_to_hub: {config.output_dir} is finished but not pushed, start the command again for"
    with one_sentence(f"{what} {repository_name(config)}"), tempfile.TemporaryDirectory() as parent:
        repository = make_repository(repository_name(config), token, revision, private)
        folder = Path(parent, repository.rpartition("/")[2])
        source, trusted = Path(config.output_dir), config.trust_remote_code
        write_readme(folder, source, repository, "unime", **save_again(source, folder, trusted))
        files = files_to_upload(folder, trust_remote_code=trusted)
        commit = upload(folder, repository, files, token, revision, commit_message)
    logger.warning(f"pushed to {repository}: {commit.commit_url}")
    return commit
