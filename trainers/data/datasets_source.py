# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Rows of a data set of the Hub, or of a folder that the `datasets` library wrote or can read."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import datasets

from evaluation.raw_rows import batch_rows
from trainers.data.bad_rows import BadRows, Place
from trainers.data.columns import SourceError, check_columns


def _parse(source: str) -> tuple[str, list[str]]:
    """Split "name[:config][:split]", leaving alone a folder whose own name has a colon."""
    if Path(source).is_dir():
        return source, []
    name, *parts = source.split(":")
    return name, [part for part in parts if part]


def _is_saved(name: str) -> bool:
    """Whether a folder was written by `save_to_disk`."""
    return any(Path(name, file).is_file() for file in ("state.json", "dataset_dict.json"))


def _load(name: str, parts: list[str]) -> datasets.Dataset | datasets.DatasetDict:
    if _is_saved(name):
        loaded = datasets.load_from_disk(name)
        if parts and not isinstance(loaded, datasets.DatasetDict):
            raise ValueError(f"this saved data set has no splits, so {parts[0]!r} cannot be chosen")
        return loaded[parts[0]] if parts else loaded
    config, split = (parts + [None, None])[:2]
    if len(parts) == 1 and config not in datasets.get_dataset_config_names(name):
        config, split = None, config
    return datasets.load_dataset(name, config, split=split)


def expand_configs(source: str, split: str) -> list[str]:
    """The configs of a data set that has several, as "name:config:split"; any other source as it is.

    Args:
        source: "name[:config][:split]" of a data set of the Hub, or a local copy of its repository.
        split: of every config.

    Raises:
        SourceError: the data set is not to be had.
    """
    name, parts = _parse(source)
    # The last is a file of a kind that is not known, which its reader says.
    if parts or _is_saved(name) or Path(name).is_file():
        return [source]
    try:
        configs = datasets.get_dataset_config_names(name)
    except (datasets.exceptions.DatasetsError, OSError, ValueError) as error:
        hint = "Check the spelling of the file or data set, and the network."
        raise SourceError(f"{source}: neither a file here nor a loadable data set ({error}). {hint}") from error
    return [f"{name}:{config}:{split}" for config in configs] if len(configs) > 1 else [source]


def read_datasets_source(
    source: str, columns: Sequence[str] | None, bad_rows: BadRows
) -> Iterator[tuple[int, dict | None]]:
    """Read rows through `datasets`.

    Args:
        source: "name[:config][:split]" of a data set of the Hub, or a local folder with the same endings. A single
            ending is a config if there is one of that name, else a split. Without a split, a data set that has
            only one, or one named "train", gives that.
        columns: read these only; None reads all.
        bad_rows: told of rows that cannot be read.

    Yields:
        The row's number from 1 and its columns; None for a row that was reported as bad. Media columns stay undecoded.

    Raises:
        SourceError: the data set cannot be loaded, lacks a column, or a split must be chosen.
    """
    name, parts = _parse(source)
    if len(parts) > 2:
        raise SourceError(f"{source}: more than name:config:split. Leave out what follows.")
    try:
        loaded = _load(name, parts)
    except (datasets.exceptions.DatasetsError, OSError, ValueError, KeyError) as error:
        hint = "Check the spelling of the file or data set, its config and split, and the network."
        raise SourceError(f"{source}: neither a file here nor a loadable data set ({error}). {hint}") from error
    if isinstance(loaded, datasets.DatasetDict):
        splits = list(loaded)
        if len(splits) > 1 and "train" not in splits:
            raise SourceError(f"{source}: choose one of its splits {splits}, as {name}:{splits[0]}.")
        loaded = loaded["train" if "train" in splits else splits[0]]
    check_columns(loaded.column_names, columns or (), source)
    if columns:
        loaded = loaded.select_columns(list(columns))
    line = 0
    for table in loaded.with_format("arrow").iter(batch_size=1024):
        for values, fault in batch_rows(table):
            line += 1
            if fault:
                bad_rows.add(Place(source, line), fault, "Mend or remove the row.")
            yield line, values
