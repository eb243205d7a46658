# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Mixed inputs as the sum of their parts."""

import numpy as np
import pytest

from evaluation.encoder import BaseEncoder, EncodingError
from evaluation.modality_sum import ModalitySum, split_modalities
from unime.data.example import Example

VECTORS = {
    ("red", None): [1.0, 0.0],
    (None, "a.png"): [0.0, 1.0],
    ("not a", None): [0.0, -1.0],
    ("x", None): [0.6, 0.8],
}


class Fixed(BaseEncoder):
    """Vectors from a table."""

    def encode_batches(self, batches):
        self.seen = [example for batch in batches for example in batch]
        for batch in batches:
            yield np.array([VECTORS[example.text, example.image] for example in batch], dtype=np.float32)


def test_sum_has_unit_length_and_single_modalities_stay():
    inner = Fixed()
    mixed = Example("<|image_1|>\nred", "a.png", "")
    vectors = ModalitySum(inner).encode([Example("x"), mixed, Example(image="a.png"), mixed])
    half = 2**-0.5
    np.testing.assert_allclose(vectors, [[0.6, 0.8], [half, half], [0, 1], [half, half]], atol=1e-6)
    assert len(inner.seen) == 3, "the image and the mixed example, given twice, are encoded once"


def test_parts_take_the_summary_prompts():
    assert split_modalities(Example("<|image_1|>\nWhat is it?\n", "a.png", "")) == [
        Example("What is it?"),
        Example(image="a.png"),
    ]
    assert split_modalities(Example("<|image_1|>\n", "a.png", "")) == [Example(image="a.png")]
    assert split_modalities(Example("text", None, "Find:")) == [Example("text", None, "Find:")]


def test_parts_that_cancel_out_are_named():
    with pytest.raises(EncodingError, match="'not a'.*cancel out"):
        ModalitySum(Fixed()).encode([Example("not a", "a.png")])
