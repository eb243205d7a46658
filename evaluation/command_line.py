# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Options of every command: dataclasses, filled from a YAML file, the command line, or both."""

import argparse
import difflib
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml
from transformers import HfArgumentParser


class _Loader(yaml.SafeLoader):
    """YAML in which `no` and `yes` are words: `save_strategy: no`. To an option that is true or false they mean that."""


_Loader.yaml_implicit_resolvers = {
    first: [pair for pair in pairs if first not in "yYnN" or pair[0] != "tag:yaml.org,2002:bool"]
    for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def yaml_to_options(path: Path, known: Sequence[str], ignored: Sequence[str] = ()) -> list[str]:
    """Turn a YAML file into command-line options, so that types and choices are checked in one place.

    Args:
        path: The file: a mapping of option names to values or lists of values; `null` and `[]` mean "not given".
        known: Names of the options.
        ignored: Names that may stand in the file, too, and have no effect.

    Returns:
        `--name=value`, or `--name value value` for lists.

    Raises:
        ValueError: If the file cannot be read or is no mapping, an option is unknown, or a value is nested.
    """
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{path}: cannot be read as YAML ({error})") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected 'option: value' lines, got {type(content).__name__}")
    options: list[str] = []
    for name, value in content.items():
        if name in ignored and name not in known:
            continue
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else "see --help for the options"
            raise ValueError(f"{path}: unknown option {name!r}; {hint}")
        if value is None or value == []:
            continue
        entries = value if isinstance(value, list) else [value]
        if any(isinstance(entry, dict | list) for entry in entries):
            raise ValueError(f"{path}: option {name!r} must be a value or a list of values")
        options += [f"--{name}", *map(str, entries)] if isinstance(value, list) else [f"--{name}={value}"]
    return options


def _option_names(classes: Sequence[type]) -> list[str]:
    return [entry.name for arguments_class in classes for entry in fields(arguments_class) if entry.init]


def parse_dataclasses(
    classes: Sequence[type],
    argv: Sequence[str] | None = None,
    positional: Sequence[str] = (),
    ignored: Sequence[type] = (),
    **parser_options: Any,
) -> tuple:
    """Read dataclasses of options: `[FILE.yaml] [--option value ...]`; the command line wins over the file.

    Args:
        classes: The dataclasses; no two may have an option of one name.
        argv: Command line without the program. Default: that of this process.
        positional: Options that may be given first, without their names, instead of a YAML file.
        ignored: Dataclasses of another command, whose options a YAML file shared with it may hold.
        **parser_options: Passed to the parser (`prog`, `description`, ...).

    Returns:
        The filled dataclasses. Wrong options end the program with a message that names them.
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    parser = HfArgumentParser(
        list(classes),
        allow_abbrev=False,
        usage=f"%(prog)s {' '.join(map(str.upper, positional)) or '[FILE.yaml]'} [--option value ...]",
        epilog=None if positional else "A YAML file given first holds the same options by name; options after it win.",
        **parser_options,
    )
    try:
        if positional:
            count = next((index for index, entry in enumerate(argv) if entry.startswith("-")), len(argv))
            count = min(count, len(positional))
            named = zip(positional, argv[:count], strict=False)
            argv = [entry for name, value in named for entry in (f"--{name}", value)] + argv[count:]
        elif argv and not argv[0].startswith("-"):
            argv = yaml_to_options(Path(argv[0]), _option_names(classes), _option_names(ignored)) + argv[1:]
        namespace: argparse.Namespace = parser.parse_args(argv)
        return tuple(
            arguments_class(
                **{entry.name: getattr(namespace, entry.name) for entry in fields(arguments_class) if entry.init}
            )
            for arguments_class in classes
        )
    except ValueError as error:
        parser.error(str(error))
