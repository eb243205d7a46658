# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Public names of a package that are imported at first use: the losses need none of the libraries of the trainers."""

import importlib
from collections.abc import Callable


def lazy_names(package: str, modules: dict[str, str]) -> tuple[Callable, list[str]]:
    """`__getattr__` and `__all__` of a package, from the names and the module that holds each."""

    def find(name: str):
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(modules[name]), name)

    return find, sorted(modules)
