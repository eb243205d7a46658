# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Text files are UTF-8 whatever the machine's locale is: Windows would read them in another encoding."""

import ast
from pathlib import Path

import pytest

FOLDERS = ("modeling_unime", "trainers", "evaluation", "examples", "benchmarks")
# Where the mode stands among the arguments; these open text unless it holds a "b".
MODE_POSITION = {"open": 1, "fdopen": 1, "NamedTemporaryFile": 0, "TemporaryFile": 0}


def without_encoding(source: str) -> list[int]:
    """Lines that read or write text without saying how it is encoded."""
    lines = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or any(keyword.arg == "encoding" for keyword in node.keywords):
            continue
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        is_builtin = isinstance(node.func, ast.Name)
        if name == "read_text" or name == "write_text":
            lines.append(node.lineno)
        elif name in MODE_POSITION and (is_builtin or name != "open"):
            modes = [keyword.value for keyword in node.keywords if keyword.arg == "mode"]
            modes += node.args[MODE_POSITION[name] :][:1]
            default = "r" if name in ("open", "fdopen") else "w+b"
            mode = modes[0].value if modes and isinstance(modes[0], ast.Constant) else default
            if "b" not in mode:
                lines.append(node.lineno)
    return lines


@pytest.mark.parametrize(
    "source, found",
    [
        ("Path('a').read_text()", [1]),
        ("Path('a').write_text('b', encoding='utf-8')", []),
        ("open('a')", [1]),
        ("open('a', 'rb')", []),
        ("open('a', mode='w')", [1]),
        ("os.fdopen(3, 'wb')", []),
        ("NamedTemporaryFile('w')", [1]),
        ("NamedTemporaryFile()", []),
        ("gzip.open('a')", []),
    ],
)
def test_what_is_found(source, found):
    assert without_encoding(source) == found


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_text_file_is_read_and_written_with_an_encoding(repository, folder):
    files = sorted(Path(repository, folder).rglob("*.py"))
    assert files
    found = {str(file.relative_to(repository)): without_encoding(file.read_text(encoding="utf-8")) for file in files}
    assert {file: lines for file, lines in found.items() if lines} == {}
