# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""The packages stand on each other in one order: none imports one that stands on it."""

import ast

import pytest

from unime.options import PACKAGES

BELOW = {"modeling_unime": 0, "unime": 1, "evaluation": 2, "trainers": 3, "release": 4, "search": 5}


@pytest.mark.parametrize("package", PACKAGES)
def test_no_package_imports_one_that_stands_on_it(package, repository):
    assert BELOW.keys() == set(PACKAGES)
    found = set()
    for file in (repository / package).rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            tops = {name.partition(".")[0] for name in names}
            above = {top for top in tops if BELOW.get(top, -1) > BELOW[package]}
            found |= {(file.relative_to(repository).as_posix(), top) for top in above}
    assert not found
