# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""The versions of other libraries that this code needs; importing this file raises where transformers is too old.

The files that transformers opens first import it before they import what older versions lack.
"""

import re
import sys

import transformers

# Older sentence-transformers load the model and hand pictures to it otherwise: the vectors would be wrong.
NEEDED = {"transformers": "5.23", "sentence-transformers": "6.0"}


def _numbers(version: str) -> tuple[int, ...]:
    """The first two numbers of a version, which are all that `NEEDED` speaks of."""
    return tuple(int(number) for number in re.findall(r"\d+", version)[:2])


def check_version(package: str, present: str) -> None:
    """Refuse a version that is too old.

    Args:
        package: a name in `NEEDED`.
        present: its version here.

    Raises:
        ImportError: says what is needed and what is present.
    """
    if _numbers(present) < _numbers(NEEDED[package]):
        raise ImportError(
            f"this UniME model needs {package}>={NEEDED[package]}, but {present} is installed; "
            f'run: pip install -U "{package}>={NEEDED[package]}"'
        )


def check_sentence_transformers() -> None:
    """Refuse a sentence-transformers that is too old, where this process uses it.

    Raises:
        ImportError: says what is needed and what is present.
    """
    loaded = sys.modules.get("sentence_transformers")
    if loaded is not None and hasattr(loaded, "__version__"):
        check_version("sentence-transformers", loaded.__version__)


check_version("transformers", transformers.__version__)
