# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""What can be known of a run before its data are read, or at least before its model is loaded."""

from pathlib import Path

from transformers import PreTrainedConfig, TrainingArguments
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK, get_available_reporting_integrations

from trainers.batch_sampler import GlobalBatchSampler


def check_reports(config: TrainingArguments) -> None:
    """Refuse to report where the package for it is missing.

    Raises:
        ValueError: there is no such place to report to.
        ImportError: its package is not installed.
    """
    available = get_available_reporting_integrations()
    for name in config.report_to:
        if name not in INTEGRATION_TO_CALLBACK:
            raise ValueError(f"report_to: {name} is not one of {', '.join(INTEGRATION_TO_CALLBACK)} or none")
        if name not in available:
            raise ImportError(f"report_to: {name} needs the package {name}; install it, or use --report_to none")


def check_model(name: str) -> None:
    """Refuse a model that is not there.

    Args:
        name: folder or name on the Hub.

    Raises:
        OSError: there is no such model, or it has no config.json.
    """
    folder = Path(name).expanduser()
    if not folder.is_dir() and (folder.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1):
        raise FileNotFoundError(f"model {name}: no such folder; give a folder or a name on the Hub")
    PreTrainedConfig.get_config_dict(name)


def check_batch(rows: int, config: TrainingArguments, sources=None, source_block_size: int = 0) -> None:
    """Refuse data that give no batch, before a model is loaded or a teacher encodes.

    Args:
        rows: rows that were read.
        config: the stage's training options.
        sources: see `GlobalBatchSampler`.
        source_block_size: see `GlobalBatchSampler`.

    Raises:
        ValueError: says how many rows a batch takes.
    """
    batch_size = config.per_device_train_batch_size * config.world_size
    GlobalBatchSampler(rows, batch_size, config.seed, sources, source_block_size)
