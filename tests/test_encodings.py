# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Text files are read and written as UTF-8 whatever the machine's locale: no source leaves the encoding open."""

import ast
import re
from pathlib import Path

import pytest

from unime.options import PACKAGES

FOLDERS = (*PACKAGES, "examples", "benchmarks")
MODE = re.compile(r"[rwxabt+]{1,3}")


def lacks_encoding(call: ast.Call) -> bool:
    """Whether a call opens text, or takes text from a process, in the locale's encoding."""
    given = {keyword.arg for keyword in call.keywords}
    if "encoding" in given:
        return False
    method = isinstance(call.func, ast.Attribute)
    name = call.func.attr if method else getattr(call.func, "id", "")
    if name in ("read_text", "write_text"):
        return not (name == "write_text" and len(call.args) > 1)
    if name in ("run", "Popen", "check_output"):
        return bool(given & {"text", "universal_newlines"})
    if re.search(r"\b(example|query|candidate)\.open$", ast.unparse(call.func)):  # of a picture
        return False
    if name != "open" or (method and call.args and not MODE.fullmatch(str(getattr(call.args[0], "value", "")))):
        return False  # another object's `open`, whose first argument is no mode
    modes = [argument for argument in call.args[0 if method else 1 :]] + [
        k.value for k in call.keywords if k.arg == "mode"
    ]
    return not any("b" in str(getattr(mode, "value", "")) for mode in modes)


def test_every_source_names_the_encoding(repository):
    files = [repository / "setup.py", *(file for folder in FOLDERS for file in (repository / folder).rglob("*.py"))]
    assert len(files) > 100
    found = [
        f"{file.relative_to(repository)}:{node.lineno}: {ast.unparse(node)}"
        for file in sorted(files)
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and lacks_encoding(node)
    ]
    assert not found


@pytest.mark.parametrize(
    "code, lacks",
    [
        ("open(p)", True),
        ("open(p, 'w')", True),
        ("open(p, 'rb')", False),
        ("open(p, mode='rb')", False),
        ("open(p, encoding='utf-8')", False),
        ("p.open()", True),
        ("p.open('a')", True),
        ("p.open('r+b')", False),
        ("store.open(p)", False),
        ("side.example.open()", False),
        ("Image.open('picture.png')", False),
        ("p.read_text()", True),
        ("p.write_text('x')", True),
        ("p.write_text('x', encoding='utf-8')", False),
        ("subprocess.run(c, text=True)", True),
        ("subprocess.run(c, encoding='utf-8')", False),
        ("subprocess.run(c, capture_output=True)", False),
    ],
)
def test_what_counts(code, lacks):
    assert lacks_encoding(ast.parse(code, mode="eval").body) == lacks


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
