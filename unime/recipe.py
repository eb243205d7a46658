# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""List the recipes that come with the package, or print one.

python -m unime.recipe [NAME]
"""

from collections.abc import Sequence

from unime.options import CommandParser, run_command
from unime.shipped_files import find_recipe, recipe_names


def main(argv: Sequence[str] | None = None, prog: str = "python -m unime.recipe") -> None:
    """Print the recipes' names, or one recipe, which may be written to a file and changed."""
    parser = CommandParser(
        prog=prog,
        description="List the recipes, whose names every command takes in the place of a YAML file, or print one.",
    )
    parser.add_argument("name", nargs="?", help="print this recipe; without it, list the names")
    name = parser.parse_args(argv).name
    print("\n".join(recipe_names()) if name is None else find_recipe(name).read_text(encoding="utf-8").rstrip())


if __name__ == "__main__":
    run_command(main)
