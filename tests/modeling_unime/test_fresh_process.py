# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""A saved folder works in a process that does not have this package, through AutoModel and sentence-transformers."""

import os
import subprocess
import sys

import pytest
import torch

from modeling_unime import UniMEModel, UniMEProcessor

SCRIPT = """
import sys, torch

class Blocker:
    def find_spec(self, name, *args):
        if name.split(".")[0] in ("modeling_unime", "trainers", "evaluation"):
            raise ImportError(name + " is blocked")

sys.meta_path.insert(0, Blocker())
from PIL import Image
from sentence_transformers import SentenceTransformer
from transformers import AutoModel, AutoProcessor

for folder in sys.argv[1:]:
    images = [Image.open(f"{folder}/{index}.png") for index in range(2)]
    model = AutoModel.from_pretrained(folder, trust_remote_code=True)
    processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
    texts, pictures = ["hello world", None, "a red car"], [None, images[0], images[1]]
    with torch.no_grad():
        auto = model(**processor(text=texts, images=pictures)).embeddings
        instructed = model(**processor(text=["a"], instruction="Find it:")).embeddings
        bare = model(**processor(text=["a"], instruction="")).embeddings
    sentence = SentenceTransformer(folder, trust_remote_code=True, device="cpu")
    mixed = ["hello world", images[0], {"text": "a red car", "image": images[1]}]
    encoded = sentence.encode(mixed, convert_to_tensor=True)
    prompted = sentence.encode(["a"], prompt="Find it:", convert_to_tensor=True)
    unprompted = sentence.encode(["a"], prompt_name="bare", convert_to_tensor=True)
    torch.save({"auto": auto, "encoded": encoded, "instructed": instructed, "prompted": prompted,
                "bare": bare, "unprompted": unprompted}, f"{folder}/out.pt")
    assert sentence.get_embedding_dimension() == auto.shape[1]
    assert not [name for name in sys.modules if name.split(".")[0] == "modeling_unime"]
"""


def save_for_script(folder, backbone, pictures) -> torch.Tensor:
    """Write a Hub folder and two pictures into it; returns the embeddings that the script must find."""
    model, processor = UniMEModel.from_backbone(backbone), UniMEProcessor.from_backbone(backbone)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    for index in range(2):
        pictures[index].save(folder / f"{index}.png")
    inputs = processor(text=["hello world", None, "a red car"], images=[None, pictures[0], pictures[1]])
    with torch.no_grad():
        return model(**inputs).embeddings


def test_folders_without_the_package(backbones, pictures, tmp_path):
    """All families in one process, which takes most of its time to start."""
    pytest.importorskip("sentence_transformers")
    folders = {family: tmp_path / family for family in backbones}
    expected = {family: save_for_script(folder, backbones[family], pictures) for family, folder in folders.items()}
    environment = {**os.environ, "HF_MODULES_CACHE": str(tmp_path / "modules"), "PYTHONPATH": ""}
    command = [sys.executable, "-c", SCRIPT, *map(str, folders.values())]
    subprocess.run(command, check=True, cwd=tmp_path, env=environment, timeout=300)
    for family, folder in folders.items():
        result = torch.load(folder / "out.pt")
        for name in ("auto", "encoded"):
            difference = (result[name].cpu() - expected[family]).abs().max()
            assert difference < 1e-5, f"{family}: {name} is off by {difference}"
        torch.testing.assert_close(result["prompted"].cpu(), result["instructed"], atol=1e-5, rtol=0)
        torch.testing.assert_close(result["unprompted"].cpu(), result["bare"], atol=1e-5, rtol=0)
        assert (result["instructed"] - result["bare"]).abs().max() > 1e-3
