# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Paths of this machine become names; names on the Hub stay."""

import pytest

from unime.public_names import public_name


@pytest.mark.parametrize(
    "given, public",
    [
        ("", ""),
        ("nvidia/NV-Embed-v2", "nvidia/NV-Embed-v2"),
        ("all-MiniLM-L6-v2", "all-MiniLM-L6-v2"),
        ("/home/me/models/NV-Embed-v2/", "NV-Embed-v2"),
        ("~/models/teacher", "teacher"),
        ("./teacher", "teacher"),
        ("../a/teacher", "teacher"),
        ("models/text/teacher", "teacher"),
        ("C:\\\\models\\\\teacher", "teacher"),
    ],
)
def test_public_name(given, public):
    assert public_name(given) == public


def test_a_folder_that_is_there_is_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "me" / "model").mkdir(parents=True)
    assert public_name("me/model") == "model"
