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

folder = sys.argv[1]
images = [Image.open(f"{folder}/{index}.png") for index in range(2)]
model = AutoModel.from_pretrained(folder, trust_remote_code=True)
processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
texts, pictures = ["hello world", None, "a red car"], [None, images[0], images[1]]
with torch.no_grad():
    auto = model(**processor(text=texts, images=pictures)).embeddings
    instructed = model(**processor(text=["a"], instruction="Find it:")).embeddings
    bare = model(**processor(text=["a"], instruction="")).embeddings
sentence = SentenceTransformer(folder, trust_remote_code=True, device="cpu")
encoded = sentence.encode(["hello world", images[0], {"text": "a red car", "image": images[1]}], convert_to_tensor=True)
prompted = sentence.encode(["a"], prompt="Find it:", convert_to_tensor=True)
unprompted = sentence.encode(["a"], prompt_name="bare", convert_to_tensor=True)
torch.save({"auto": auto, "encoded": encoded, "instructed": instructed, "prompted": prompted,
            "bare": bare, "unprompted": unprompted}, f"{folder}/out.pt")
assert sentence.get_embedding_dimension() == auto.shape[1]
assert not [name for name in sys.modules if name.split(".")[0] == "modeling_unime"]
"""


@pytest.mark.parametrize("family", ["llava_next", "qwen2_vl"])
def test_folder_without_the_package(family, backbones, pictures, tmp_path):
    pytest.importorskip("sentence_transformers")
    model, processor = UniMEModel.from_backbone(backbones[family]), UniMEProcessor.from_backbone(backbones[family])
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    for index in range(2):
        pictures[index].save(tmp_path / f"{index}.png")
    with torch.no_grad():
        inputs = processor(text=["hello world", None, "a red car"], images=[None, pictures[0], pictures[1]])
        expected = model(**inputs).embeddings
    environment = {**os.environ, "HF_MODULES_CACHE": str(tmp_path / "modules"), "PYTHONPATH": ""}
    subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)], check=True, cwd=tmp_path, env=environment, timeout=300
    )
    result = torch.load(tmp_path / "out.pt")
    torch.testing.assert_close(result["auto"], expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(result["encoded"].cpu(), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(result["prompted"].cpu(), result["instructed"], atol=1e-5, rtol=0)
    torch.testing.assert_close(result["unprompted"].cpu(), result["bare"], atol=1e-5, rtol=0)
    assert (result["instructed"] - result["bare"]).abs().max() > 1e-3
