# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""The list of faults that the tests must notice keeps up with the code; trying them takes minutes: `tests/mutants.py`."""

import mutants
import pytest


@pytest.mark.parametrize("mutant", mutants.MUTANTS, ids=lambda mutant: f"{mutant.file}: {mutant.what}"[:80])
def test_fault_can_be_put_in(mutant):
    assert (mutants.ROOT / mutant.file).is_file()
    assert (mutants.ROOT / mutant.file).read_text(encoding="utf-8").count(mutant.old) == 1, mutant.old
    assert all(mutants.is_there(mutants.ROOT, test) for test in mutant.tests), mutant.tests
