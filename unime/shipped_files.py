# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Files that are no code but belong to the commands: recipes, DeepSpeed's options, the model card's template.

A checkout keeps them where people look for them; a wheel carries copies inside this package (see setup.py).
"""

import difflib
from pathlib import Path

CARRIED = Path(__file__).resolve().parent / "shipped"
CHECKOUT = Path(__file__).resolve().parent.parent
RECIPES = "examples/recipes"


def shipped_file(name: str) -> Path:
    """Where a shipped file or folder lies, by its path in a checkout ("model_card.md"); it need not exist."""
    carried = CARRIED / name
    return carried if carried.exists() else CHECKOUT / name


def recipe_names() -> list[str]:
    """Names of the recipes, for example "qwen2-vl-2b/stage1"."""
    root = shipped_file(RECIPES)
    return sorted(path.relative_to(root).with_suffix("").as_posix() for path in root.glob("*/*.yaml"))


def find_recipe(name: str, stage: str = "") -> Path:
    """A file of the user's, or a recipe by its name, with or without `.yaml` and `examples/recipes/`.

    A command of one stage takes the name of a model's recipes, too: "qwen2-vl-2b".
    """
    path = Path(name)
    if path.is_file():
        return path
    short = path.as_posix().removeprefix(f"{RECIPES}/")
    root = shipped_file(RECIPES)
    for candidate in (root / short, root / f"{short}.yaml", root / short / f"{stage}.yaml"):
        if candidate.is_file() and candidate.resolve().is_relative_to(root.resolve()):
            return candidate
    near = difflib.get_close_matches(short.removesuffix(".yaml"), recipe_names(), n=1)
    hint = f"did you mean {near[0]!r}?" if near else "`unime recipe` lists the recipes"
    raise FileNotFoundError(f"{name}: neither a file nor a recipe; {hint}")
