# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""An encoder without a model that counts what it is asked for, and pictures of noise."""

import hashlib

import numpy as np
from PIL import Image

from evaluation.encoder import BaseEncoder

WIDTH = 16


class CountingEncoder(BaseEncoder):
    """Vectors that depend on text, instruction and pixels alone; `encoded` holds what was asked for, in order."""

    def __init__(self):
        super().__init__()
        self.encoded = []

    def encode_batches(self, batches):
        for batch in batches:
            self.encoded += batch
            yield np.array([self.vector(example) for example in batch])

    @staticmethod
    def vector(example):
        picture = example.open()
        pixels = b"" if picture is None else picture.tobytes()
        content = f"{example.text}|{example.instruction}".encode() + pixels
        seed = int.from_bytes(hashlib.sha256(content).digest()[:8], "big")
        vector = np.random.default_rng(seed).normal(size=WIDTH)
        return (vector / np.linalg.norm(vector)).astype(np.float32)


def save_picture(path, seed, size=(12, 9)):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path
