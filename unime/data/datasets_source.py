# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Rows of a data set of the Hub, or of a folder that the `datasets` library wrote or can read."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import datasets
import yaml

from unime.data.bad_rows import SourceError


def _parse(source: str) -> tuple[str, list[str]]:
    """Split "name[:config][:split]", leaving alone a folder whose own name has a colon."""
    if Path(source).is_dir():
        return source, []
    name, *parts = source.split(":")
    return name, [part for part in parts if part]


def _is_saved(name: str) -> bool:
    """Whether a folder was written by `save_to_disk`."""
    return any(Path(name, file).is_file() for file in ("state.json", "dataset_dict.json"))


def _texts(value: object) -> Iterator[str]:
    """The strings of a nested value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, dict)):
        for member in value.values() if isinstance(value, dict) else value:
            yield from _texts(member)


def _leads_out(path: str) -> bool:
    """Whether a path or pattern is not below the folder that names it."""
    parts = path.replace("\\", "/").split("/")
    return ".." in parts or path.startswith(("/", "\\", "~")) or ":" in parts[0]


def _check_card(folder: Path) -> None:
    """Refuse a folder that names data files elsewhere: a data set from a stranger would have any file read."""
    for name in (datasets.config.REPOCARD_FILENAME, datasets.config.REPOYAML_FILENAME):
        if (folder / name).is_file():
            text = (folder / name).read_text(encoding="utf-8")
            if name == datasets.config.REPOCARD_FILENAME:
                header = re.match(r"\s*---\r?\n(.*?)\n---", text, flags=re.DOTALL)
                text = header[1] if header else ""
            try:
                card = yaml.safe_load(text)
            except yaml.YAMLError as error:
                raise ValueError(f"its {name} holds broken YAML: {error}") from error
            configs = card.get(datasets.config.METADATA_CONFIGS_FIELD) if isinstance(card, dict) else None
            for config in configs if isinstance(configs, list) else []:
                for field in ("data_files", "data_dir") if isinstance(config, dict) else ():
                    # "split" stands beside "path"; a name that leads nowhere does no harm to be looked at.
                    outside = next(filter(_leads_out, _texts(config.get(field))), None)
                    if outside is not None:
                        raise ValueError(f"its {name} names {field} outside of the folder: {outside!r}")


def _check_saved(folder: Path) -> None:
    """The same for a folder that `save_to_disk` wrote."""
    for name, field in (("state.json", "_data_files"), ("dataset_dict.json", "splits")):
        if (folder / name).is_file():
            state = json.loads((folder / name).read_text(encoding="utf-8"))
            outside = next(filter(_leads_out, _texts(state.get(field))), None)
            if outside is not None:
                raise ValueError(f"its {name} names {field} outside of the folder: {outside!r}")
            for split in state.get("splits", []):
                _check_saved(folder / split)


def _load(name: str, parts: list[str]) -> datasets.Dataset | datasets.DatasetDict:
    if _is_saved(name):
        _check_saved(Path(name))
        loaded = datasets.load_from_disk(name)
        if parts and not isinstance(loaded, datasets.DatasetDict):
            raise ValueError(f"this saved data set has no splits, so {parts[0]!r} cannot be chosen")
        return loaded[parts[0]] if parts else loaded
    _check_card(Path(name))
    config, split = (parts + [None, None])[:2]
    if len(parts) == 1 and config not in datasets.get_dataset_config_names(name):
        config, split = None, config
    return datasets.load_dataset(name, config, split=split)


def expand_configs(source: str, split: str) -> list[str]:
    """The configs of a data set that has several, as "name:config:split"; any other source as it is."""
    name, parts = _parse(source)
    # The last is a file of a kind that is not known, which its reader says.
    if parts or _is_saved(name) or Path(name).is_file():
        return [source]
    try:
        _check_card(Path(name))
        configs = datasets.get_dataset_config_names(name)
    except (datasets.exceptions.DatasetsError, OSError, ValueError) as error:
        hint = "Check the spelling of the file or data set, and the network."
        raise SourceError(f"{source}: neither a file here nor a loadable data set ({error}). {hint}") from error
    return [f"{name}:{config}:{split}" for config in configs] if len(configs) > 1 else [source]


def load_dataset(source: str) -> datasets.Dataset:
    """One split of "name[:config][:split]", of the Hub or a local folder; the only one or "train" where none is named.

    A single ending is a config if there is one of that name, else a split.
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
    return loaded
