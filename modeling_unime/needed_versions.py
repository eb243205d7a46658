# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""The versions of other libraries that this code needs; importing this file raises where transformers is too old.

The files that transformers opens first import it before they import what older versions lack.
"""

import re
import sys

import transformers

# Older sentence-transformers load the model and hand pictures to it otherwise: the vectors would be wrong.
NEEDED = {"transformers": "5.23", "sentence-transformers": "6.0"}


def check_version(package: str, present: str) -> None:
    """Refuse a version whose first two numbers are below those of `NEEDED`."""
    found, needed = (re.findall(r"\d+", version)[:2] for version in (present, NEEDED[package]))
    if [int(number) for number in found] < [int(number) for number in needed]:
        raise ImportError(
            f"this UniME model needs {package}>={NEEDED[package]}, but {present} is installed; "
            f'run: pip install -U "{package}>={NEEDED[package]}"'
        )


def check_sentence_transformers() -> None:
    """Refuse a sentence-transformers that is too old, where this process uses it."""
    loaded = sys.modules.get("sentence_transformers")
    if hasattr(loaded, "__version__"):
        check_version("sentence-transformers", loaded.__version__)


check_version("transformers", transformers.__version__)
