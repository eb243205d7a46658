# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Folders with different versions of the code, loaded in one process by whichever way, each run their own."""

import json
import os
import subprocess
import sys

import pytest
from tiny_models import save_unime

# The file that is changed, with a line that tells which version runs. One that all of them need, and those of each class.
FILES = {
    "configuration_unime.py": "UniMEConfig",
    "modeling_unime.py": "UniMEModel",
    "processing_unime.py": "UniMEProcessor",
    "modeling_phi3v.py": "Phi3VModel",
    "configuration_phi3v.py": "Phi3VConfig",
    "image_processing_phi3v.py": "Phi3VImageProcessor",
}

SCRIPT = """
import json, sys
from transformers import AutoConfig, AutoModel, AutoProcessor
from sentence_transformers import SentenceTransformer

found = {}
for path in sys.argv[1:]:
    model = AutoModel.from_pretrained(path, trust_remote_code=True)
    processor = AutoProcessor.from_pretrained(path, trust_remote_code=True)
    config = AutoConfig.from_pretrained(path, trust_remote_code=True)
    sentence = SentenceTransformer(path, trust_remote_code=True, device="cpu")[0]
    config_again = config.__class__(**config.to_dict())
    objects = [model, model.config, model.model, model.config.backbone, processor, processor.image_processor, config,
               config.backbone, config_again.backbone, sentence.model, sentence.model.model, sentence.processor,
               sentence.processor.image_processor]
    found.setdefault(path, []).append([[type(entry).__name__, getattr(entry, "version", None)] for entry in objects])
    model.save_pretrained(path + "-saved")
    processor.save_pretrained(path + "-saved")
AutoModel.from_pretrained(sys.argv[1], trust_remote_code=True).save_pretrained("mixed")
AutoProcessor.from_pretrained(sys.argv[2], trust_remote_code=True).save_pretrained("mixed")
print(json.dumps(found))
"""


def add_version(folder, name):
    with open(folder / name, "a", encoding="utf-8") as file:
        file.write(f"\n\n{FILES[name]}.version = {name!r}\n")


def test_each_folder_runs_its_own_code(backbones, tmp_path):
    """Folders of the same name, in turn; each differs from the others in one file. Only phi3_v needs all of them."""
    pytest.importorskip("sentence_transformers")
    folders = {name: tmp_path / name / "model" for name in FILES}
    for name, folder in folders.items():
        save_unime(backbones["phi3_v"], folder)
        add_version(folder, name)
    environment = {**os.environ, "HF_MODULES_CACHE": str(tmp_path / "modules"), "PYTHONPATH": ""}
    order = [str(folder) for folder in (*folders.values(), folders["modeling_unime.py"])]
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT, *order],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert not result.returncode, result.stderr[-3000:]
    found = json.loads(result.stdout.splitlines()[-1])
    for name, folder in folders.items():
        for kind, version in (entry for objects in found[str(folder)] for entry in objects):
            assert version == (name if kind == FILES[name] else None), f"{kind} of the folder with another {name}"
        for file in folder.glob("*.py"):
            saved = folder.with_name("model-saved") / file.name
            assert saved.read_text() == file.read_text(), f"{file.name} saved from the folder with another {name}"
    _, second, *_ = folders.values()
    assert {file.name: file.read_text() for file in (tmp_path / "mixed").glob("*.py")} == {
        file.name: file.read_text() for file in second.glob("*.py")
    }, "a folder holds the code of one version, the last that was saved into it"
