# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""A folder in the backbone's own architecture gives the vectors of UniMEModel without remote code, and can be read back."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from sentence_transformers import SentenceTransformer
from stub_torchvision import write_packages
from tiny_models import save_unime
from transformers import AutoConfig, AutoModelForImageTextToText

from modeling_unime import UniMEModel, UniMEProcessor
from modeling_unime.families import FAMILIES
from modeling_unime.saved_folder import read_digest
from release.check import check
from release.convert import ConvertArguments, convert
from release.export import ExportArguments, export
from release.findings import check_inputs
from release.native import NATIVE_FORMS
from release.remote_code import bare_environment
from unime.model_files import read_weights

ROOT = Path(__file__).resolve().parents[2]
EXPORTED = [family for family, form in NATIVE_FORMS.items() if not form.refused]
# Image processors that can say `image_resolution` in their own files, and what they end with in the tiny backbones.
SQUARED = {"llava": {}, "internvl": {}, "smolvlm": {"size": {"longest_edge": 28}}}
CASES = [*EXPORTED, *(f"{family} squared" for family in SQUARED)]
# One process for all families: what `unime check` starts for each, and a batch of unequal rows.
SCRIPT = """
import sys
from pathlib import Path
sys.path.append(sys.argv[1])
import check_fresh_process, torch
for folder in map(Path, sys.argv[3:]):
    scratch = Path(sys.argv[2], folder.parent.name)
    check_fresh_process.main(str(folder), str(scratch))
    from sentence_transformers import SentenceTransformer
    inputs = torch.load(Path(sys.argv[2], "inputs.pt"), weights_only=False)
    model = SentenceTransformer(str(folder), device="cpu")
    rows = [image if text is None else text for text, image, instruction in inputs if instruction is None]
    torch.save(model.encode(rows, convert_to_tensor=True), scratch / "batch.pt")
"""


@pytest.fixture(scope="module")
def trained(backbones, tmp_path_factory) -> dict[str, Path]:
    """UniME folders by family, with a prompt of the user's."""
    root = tmp_path_factory.mktemp("trained")
    folders = {case: save_unime(backbones[case.split()[0]], root / case) for case in CASES}
    for family, options in SQUARED.items():
        processor = UniMEProcessor.from_backbone(backbones[family], image_resolution=28, image_options=options)
        processor.save_pretrained(folders[f"{family} squared"])
    for folder in folders.values():
        file = folder / "config_sentence_transformers.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), "prompts": {"query": "Find: "}}))
        file = folder / "config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), "matryoshka_dimensions": [8, 32]}))
    return folders


@pytest.fixture(scope="module")
def native(trained, tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("native")
    for family, folder in trained.items():
        export(ExportArguments(str(folder), str(root / family / "model"), format="native", check=False))
    return {family: root / family / "model" for family in trained}


@pytest.fixture(scope="module")
def packages(tmp_path_factory) -> Path:
    return write_packages(tmp_path_factory.mktemp("packages"))


@pytest.fixture(scope="module")
def vectors(native, packages, tmp_path_factory) -> Path:
    """What a process without this package and with torchvision computes, by family."""
    scratch = tmp_path_factory.mktemp("scratch")
    for family in native:
        (scratch / family).mkdir()
        torch.save(check_inputs(), scratch / family / "inputs.pt")
    torch.save(check_inputs(), scratch / "inputs.pt")
    done = subprocess.run(
        [sys.executable, "-P", "-c", SCRIPT, str(ROOT / "release"), str(scratch), *map(str, native.values())],
        env=bare_environment(scratch) | {"PYTHONPATH": str(packages)},
        cwd=scratch,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return scratch


def test_every_family_has_a_verdict():
    assert NATIVE_FORMS.keys() == FAMILIES.keys()
    assert {family: form.refused for family, form in NATIVE_FORMS.items() if form.refused} == {
        "phi3_v": "transformers has no class of its architecture"
    }
    assert {family: form.needed_packages for family, form in NATIVE_FORMS.items()} == {
        **dict.fromkeys(("llava", "llava_next", "phi3_v"), ()),
        **dict.fromkeys(("glm4v", "internvl", "llava_onevision"), ("torchvision",)),
        **dict.fromkeys(("qwen2_vl", "qwen2_5_vl", "qwen3_vl"), ("torchvision",)),
        "smolvlm": ("torchvision", "num2words"),
    }


@pytest.mark.parametrize("family", CASES)
def test_the_vectors_are_those_of_our_model(family, trained, vectors):
    """Text, pictures of three shapes, both, and instructions; by AutoModel and sentence-transformers, alone and batched."""
    model = UniMEModel.from_pretrained(trained[family]).eval()
    processor = UniMEProcessor.from_pretrained(trained[family])
    texts, images, instructions = (list(column) for column in zip(*check_inputs(), strict=True))
    with torch.no_grad():
        expected = model(**processor(text=texts, images=images, instruction=instructions)).embeddings
    found = torch.load(vectors / family / "vectors.pt")
    assert len(found) == 2
    for name, values in found.items():
        torch.testing.assert_close(values, expected, rtol=0, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}")
    plain = [row for row, instruction in enumerate(instructions) if instruction is None]
    batch = torch.load(vectors / family / "batch.pt")
    torch.testing.assert_close(batch, expected[plain], rtol=0, atol=1e-5)


@pytest.mark.parametrize("family", CASES)
def test_it_is_published_as_the_backbone_and_read_back_bit_equal(family, backbones, trained, native, tmp_path):
    backbone = backbones[family.split()[0]]
    published = json.loads((backbone / "config.json").read_text())
    exported = json.loads((native[family] / "config.json").read_text())
    assert (exported["architectures"], exported["model_type"]) == (published["architectures"], published["model_type"])
    names = {name for name, _ in read_weights(backbone) if "lm_head" not in name}
    assert {name for name, _ in read_weights(native[family])} == names
    assert not list(native[family].rglob("*.py")) and "auto_map" not in (native[family] / "config.json").read_text()
    back = convert(ConvertArguments(str(native[family]), str(tmp_path / "back")))
    assert read_digest(back) == read_digest(trained[family])
    assert read_digest(back).keys() == {name for name, _ in read_weights(back)}
    for folder in (native[family], back):  # where vLLM looks
        assert json.loads((folder / "config.json").read_text())["matryoshka_dimensions"] == [8, 32]
    for name in (
        "processor_config.json",
        "config_sentence_transformers.json",
        "chat_template.jinja",
        "tokenizer.json",
    ):
        assert json_or_text(back / name) == json_or_text(trained[family] / name), name


def json_or_text(file: Path):
    text = file.read_text(encoding="utf-8")
    return json.loads(text) if file.suffix == ".json" else text


def test_a_processor_that_was_trained_with_is_kept(native, tmp_path):
    with pytest.raises(ValueError, match="keeps the processor .* leave chat_format out"):
        convert(ConvertArguments(str(native["llava"]), str(tmp_path / "back"), chat_format="plain"))
    assert not (tmp_path / "back").exists()


def test_tied_weights(backbones, tmp_path):
    backbone = shutil.copytree(backbones["qwen2_vl"], tmp_path / "backbone")
    config = AutoConfig.from_pretrained(backbone)
    config.tie_word_embeddings = config.text_config.tie_word_embeddings = True
    AutoModelForImageTextToText.from_config(config).save_pretrained(backbone)
    folder = save_unime(backbone, tmp_path / "trained")
    output = export(ExportArguments(str(folder), str(tmp_path / "native"), format="native", check=False))
    assert read_digest(convert(ConvertArguments(str(output), str(tmp_path / "back")))) == read_digest(folder)
    with_head = AutoModelForImageTextToText.from_pretrained(output)
    assert torch.equal(with_head.lm_head.weight, with_head.get_input_embeddings().weight)


def test_what_the_library_cannot_say_is_refused(backbones, trained, tmp_path):
    def refusal(name: str) -> str:
        with pytest.raises(ValueError, match="cannot be exported in its native form") as error:
            export(ExportArguments(str(tmp_path / name), str(tmp_path / "out"), format="native"))
        assert not (tmp_path / "out").exists()
        return str(error.value)

    save_unime(backbones["phi3_v"], tmp_path / "phi")
    assert "transformers has no class" in refusal("phi")
    UniMEModel.from_backbone(backbones["llava"], attention="bidirectional").save_pretrained(tmp_path / "both-ways")
    UniMEProcessor.from_backbone(backbones["llava"]).save_pretrained(tmp_path / "both-ways")
    assert "attention is bidirectional" in refusal("both-ways")
    for (
        family
    ) in EXPORTED:  # no image processor of the tiny backbones ends with this size, and most keep the aspect ratio
        folder = shutil.copytree(trained[family], tmp_path / family)
        UniMEProcessor.from_backbone(backbones[family], image_resolution=56).save_pretrained(folder)
        assert "a square of 56 pixels" in refusal(family)
    with pytest.raises(ValueError, match="use one of unime, native"):
        ExportArguments("a", "b", format="onnx")


def failed(folder: Path, **options) -> dict[str, str]:
    findings = check(folder, fresh_process=False, **options)
    return {item.name: item.note for item in findings if not item.sound}


def test_check_passes_and_compares_with_our_format(native, trained, monkeypatch, packages):
    monkeypatch.syspath_prepend(packages)  # they are found here, and used in the other process
    monkeypatch.setattr(
        "release.check.bare_environment", lambda scratch: bare_environment(scratch) | {"PYTHONPATH": str(packages)}
    )
    findings = {item.name: item for item in check(native["qwen2_vl"], against=trained["qwen2_vl"])}
    assert all(item.passed for item in findings.values()), findings
    assert {f"the same as {trained['qwen2_vl']}", "AutoModel without this package", "pooling"} <= findings.keys()


def test_check_says_which_package_is_missing(native):
    last = check(native["smolvlm"])[-1]
    assert last.passed is None and last.note == (
        "the library's processor of this family needs torchvision and num2words"
    )


@pytest.mark.parametrize(
    ("file", "old", "new", "name"),
    [
        ("chat_template.jinja", "in one word", "in two words", "chat template"),
        ("1_Pooling/config.json", "lasttoken", "cls_token", "pooling"),
        ("tokenizer_config.json", '"left"', '"right"', "padding side"),
        ("modules.json", "Normalize", "Dropout", "modules"),
        ("sentence_bert_config.json", "last_hidden_state", "hidden_states", "hidden states"),
    ],
)
def test_check_names_what_was_changed(native, trained, tmp_path, file, old, new, name):
    folder = shutil.copytree(native["llava_next"], tmp_path / "model")
    text = (folder / file).read_text(encoding="utf-8")
    assert old in text
    (folder / file).write_text(text.replace(old, new), encoding="utf-8")
    assert failed(folder).keys() == {name}


def test_check_against_another_model(native, trained):
    assert list(failed(native["llava"], against=trained["llava_next"])) == [f"the same as {trained['llava_next']}"]


def test_a_text_that_is_too_long_keeps_its_prompt(trained, tmp_path):
    """sentence-transformers cuts as our own processor does, at the length that this one was given."""
    processor = UniMEProcessor.from_pretrained(trained["llava_next"])
    processor.max_length = 80
    folder = shutil.copytree(trained["llava_next"], tmp_path / "trained")
    processor.save_pretrained(folder)
    output = export(ExportArguments(str(folder), str(tmp_path / "native"), format="native", check=False))
    model, short = UniMEModel.from_pretrained(folder).eval(), SentenceTransformer(str(output), device="cpu")
    for prompt in (None, "Find it:"):
        with torch.no_grad():
            expected = model(**processor(text=["many words " * 40], instruction=prompt)).embeddings
        found = short.encode(["many words " * 40], prompt=prompt, convert_to_tensor=True)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    back = convert(ConvertArguments(str(output), str(tmp_path / "back")))
    assert UniMEProcessor.from_pretrained(back).max_length == 80
