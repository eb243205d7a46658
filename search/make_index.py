# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Index a folder for search: `unime index FOLDER --model MODEL --output INDEX`.

Started again, only what is new or has changed is encoded; killed, it goes on where it was.
"""

from dataclasses import fields
from typing import Any

from evaluation.arguments import EncoderArguments
from search.arguments import DEFAULT_INDEX, IndexArguments
from search.index import Changes, UniMEIndex
from unime.options import parse_dataclasses, run_command

SHOWN = 20  # files left out that are listed


def main(argv: list[str] | None = None, prog: str = "python -m search.make_index") -> None:
    """Entry point of the command line."""
    (arguments,) = parse_dataclasses(
        [IndexArguments], argv, positional=("folder",), prog=prog, description="Index a folder for search."
    )
    options: dict[str, Any] = {entry.name: getattr(arguments, entry.name) for entry in fields(EncoderArguments)}
    options |= {name: getattr(arguments, name) for name in ("document_instruction", "max_image_pixels")}
    index = UniMEIndex(arguments.output, **options)
    if arguments.factory is not None:
        index.use_approximate(None if arguments.factory == "exact" else arguments.factory, arguments.dimensions)
    changes = index.add(arguments.folder)
    print_changes(changes)
    print(", ".join(f"{count} {name}" for name, count in index.catalog.summary().items()) or "nothing to search")
    where = "" if arguments.output == DEFAULT_INDEX else f" --index {arguments.output}"
    print(f'unime search "what to look for"{where}')
    print(arguments.output)


def print_changes(changes: Changes) -> None:
    """Say what came of it, the files left out with their reasons."""
    names = ("new", "changed", "moved", "removed", "unchanged")
    print("files: " + ", ".join(f"{getattr(changes, name)} {name}" for name in names), f"({changes.encoded} encoded)")
    for path, reason in list(changes.left_out.items())[:SHOWN]:
        print(f"left out: {path!r}: {reason}")
    if len(changes.left_out) > SHOWN:
        print(f"left out: {len(changes.left_out) - SHOWN} more")


if __name__ == "__main__":
    run_command(main)
