# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""What every command shares: options from a YAML file, the command line or both, and how an error ends it."""

import argparse
import difflib
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, NoReturn

import yaml
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import HfArgumentParser

from unime.shipped_files import find_recipe

PACKAGES = ("modeling_unime", "unime", "trainers", "evaluation", "release", "search")
OWN_FILES = tuple(Path(__file__).resolve().parents[1] / name for name in PACKAGES)
INTERRUPTED = 128 + 2  # what a shell expects of a program that SIGINT ended


class CommandError(RuntimeError):
    """What the user of a command can put right, where no more telling class of error fits."""


KNOWN_ERRORS = (CommandError, ValueError, OSError, ImportError, RecursionError, SafetensorError, StrictDataclassError)
# Where a library reads the files of a model: what goes wrong below is the files' fault, whatever its class.
READERS = ("from_pretrained", "get_config_dict")


def run_command(main: Callable[..., None], *arguments: Any, **options: Any) -> None:
    """Call the main function of a command; what its user can put right ends it with one line and exit code 2.

    Any other error is a fault of the program and keeps its trace, as every error does under `python -X dev`.
    """
    process = int(os.environ.get("RANK", 0))  # torchrun's
    try:
        main(*arguments, **options)
    except Exception as error:
        if sys.flags.dev_mode or not (isinstance(error, KNOWN_ERRORS) or _of_model_files(error)):
            raise
        where = "error" if process == 0 else f"error in process {process}"
        print(f"{where}: {_describe(error)}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        if process == 0:
            print("interrupted", file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None


def one_line(words: str) -> str:
    """Words without the line ends that libraries' messages have."""
    return " ".join(words.split())


def _of_model_files(error: BaseException) -> bool:
    return any(frame.name in READERS for frame in traceback.extract_tb(error.__traceback__))


def _describe(error: BaseException) -> str:
    """An error's words; of one that a library raised, also where, since its words may name neither file nor option."""
    words = one_line(str(error)) or type(error).__name__
    if not isinstance(error, KNOWN_ERRORS):
        words = f"the files of a model are damaged or of another kind: {words}"
    frames = traceback.extract_tb(error.__traceback__)
    origin = Path(frames[-1].filename).resolve()
    if isinstance(error, OSError) or any(origin.is_relative_to(folder) for folder in OWN_FILES):
        return words
    return f"{words} ({type(error).__name__} of {origin.name}, line {frames[-1].lineno})"


class _HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Adds the default to an option's help, unless there is none or the text speaks of it."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        says_it = "default" in (action.help or "").lower()
        if says_it or action.required or action.default is None or action.default == []:
            return action.help
        return super()._get_help_string(action)


class CommandParser(HfArgumentParser):
    """A parser whose errors look like those of `run_command`; options are not abbreviated."""

    def __init__(self, classes: Sequence[type] = (), **options: Any):
        super().__init__(list(classes), allow_abbrev=False, formatter_class=_HelpFormatter, **options)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {one_line(message)}\n")


def check_at_least(arguments: object, **limits: float) -> None:
    """Refuse values of options that are too small; None is let through."""
    for name, least in limits.items():
        value = getattr(arguments, name)
        if value is not None and value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")


class _Loader(yaml.SafeLoader):
    """YAML in which `no` and `yes` are words: `save_strategy: no`. To an option that is true or false they mean that."""


_Loader.yaml_implicit_resolvers = {
    first: [pair for pair in pairs if first not in "yYnN" or pair[0] != "tag:yaml.org,2002:bool"]
    for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def read_yaml(path: Path) -> dict[str, Any]:
    """The options that a YAML file holds, by name."""
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"{path}: cannot be read as YAML ({error})") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected 'option: value' lines, got {type(content).__name__}")
    return content


def _yaml_to_options(path: Path, known: Sequence[str], ignored: Sequence[str]) -> list[str]:
    """A YAML file as words of a command line, which checks types and choices; `null` and `[]` mean "not given"."""
    options: list[str] = []
    for name, value in read_yaml(path).items():
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
    required: Sequence[str] = (),
    stage: str = "",
    **parser_options: Any,
) -> tuple:
    """Read dataclasses of options: `[FILE.yaml] [--option value ...]`; the command line wins over the file.

    Args:
        classes: no two may have an option of one name.
        argv: command line without the program; None: that of this process.
        positional: options that may be given first, without their names, instead of a YAML file.
        ignored: dataclasses of another command, whose options a YAML file shared with it may hold.
        required: options that must be given although their dataclass, the library's, has a default for them.
        stage: which of a model's recipes is meant where only the model is named.
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    parser = CommandParser(
        classes,
        usage=f"%(prog)s {' '.join(map(str.upper, positional)) or '[FILE.yaml]'} [--option value ...]",
        epilog=None
        if positional
        else "A YAML file, or the name of a recipe, given first holds the same options by name; options after it win.",
        **parser_options,
    )
    try:
        if positional:
            count = next((index for index, entry in enumerate(argv) if entry.startswith("-")), len(argv))
            count = min(count, len(positional))
            named = zip(positional, argv[:count], strict=False)
            argv = [entry for name, value in named for entry in (f"--{name}", value)] + argv[count:]
        elif argv and not argv[0].startswith("-"):
            path = find_recipe(argv[0], stage)
            argv = _yaml_to_options(path, _option_names(classes), _option_names(ignored)) + argv[1:]
        given = vars(parser.parse_args(argv))
        if missing := [f"--{name}" for name in required if given[name] is None]:
            raise ValueError(f"the following arguments are required: {', '.join(missing)}")
        return parser.parse_dict(given)
    except (ValueError, OSError) as error:
        parser.error(str(error))
