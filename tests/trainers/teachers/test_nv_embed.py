# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""NV-Embed-v2 equals the published code, reads its names strictly, and pools what it should."""

import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_teachers import make_nv_embed

from trainers.teachers import NVEmbedModel, NVEmbedTeacher, SentenceTransformersTeacher, load_teacher


@pytest.fixture
def folder(tmp_path):
    return make_nv_embed(tmp_path)


@pytest.mark.parametrize("case", ["passage", "query"])
def test_golden_embeddings(golden_dir, case):
    folder = golden_dir / "nvembed_tiny"
    io = np.load(folder / "io.npz")
    inputs = [torch.from_numpy(io[name]) for name in ("input_ids", "attention_mask", f"{case}.pool_mask")]
    model = NVEmbedModel.from_pretrained(folder)
    with torch.no_grad():
        embeddings = model(*inputs).embeddings.numpy()
        if case == "passage":
            without = model(*inputs[:2]).embeddings.numpy()
            np.testing.assert_array_equal(without, embeddings)
    assert np.abs(embeddings - io[f"{case}.expected_norm"]).max() < 1e-5


def test_golden_states_of_the_latent_block(golden_dir):
    folder = golden_dir / "nvembed_tiny"
    io = np.load(folder / "io.npz")
    model = NVEmbedModel.from_pretrained(folder)
    mask = torch.from_numpy(io["attention_mask"])
    with torch.no_grad():
        states = model.embedding_model(input_ids=torch.from_numpy(io["input_ids"]), attention_mask=mask)[0]
        latent = model.latent_attention_model(states) * mask[..., None]
    assert np.abs(latent.numpy() - io["latent_output"]).max() < 1e-4  # the erf GELU shows here, not in the embedding


def test_shards_and_strictness(folder, tmp_path):
    weights = load_file(folder / "model.safetensors")
    whole = NVEmbedModel.from_pretrained(folder).state_dict()
    names = sorted(weights)
    (folder / "model.safetensors").unlink()
    for number, part in enumerate((names[:5], names[5:])):
        save_file({name: weights[name] for name in part}, folder / f"model-{number}.safetensors")
    sharded = NVEmbedModel.from_pretrained(folder).state_dict()
    assert all(torch.equal(value, whole[name]) for name, value in sharded.items())
    broken = tmp_path / "broken"
    shutil.copytree(folder, broken, ignore=shutil.ignore_patterns("broken"))
    save_file({name: weights[name] for name in names[:4]}, broken / "model-0.safetensors")
    with pytest.raises(ValueError, match=f"missing: {names[4]}"):
        NVEmbedModel.from_pretrained(broken)


def test_a_row_with_nothing_to_pool_is_named(folder):
    ids = torch.tensor([[1, 5, 2], [1, 6, 2]])
    with pytest.raises(ValueError, match="row 1 has no token to pool"):
        NVEmbedModel.from_pretrained(folder)(ids, torch.ones_like(ids), torch.tensor([[0, 1, 1], [0, 0, 0]]))


def test_other_checkpoints_are_refused(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="no NV-Embed-v2"):
        NVEmbedModel.from_pretrained(tmp_path)


def test_teacher_appends_the_end_and_masks_the_prompt(folder):
    teacher = NVEmbedTeacher(str(folder), prompt="Do: ", max_length=9)
    inputs = teacher.tokenize(["ab", "a much longer text"])
    end = teacher.tokenizer.eos_token_id
    assert inputs["input_ids"].shape == (2, 9)
    assert inputs["input_ids"][0, 7] == end == inputs["input_ids"][1, 8], "a text that is cut keeps its end"
    assert inputs["attention_mask"].sum(1).tolist() == [8, 9]
    assert inputs["pool_mask"][0].tolist() == [0] * 4 + [1] * 4 + [0]
    with pytest.raises(ValueError, match="leaves nothing"):
        NVEmbedTeacher(str(folder), prompt="Do: ", max_length=6).tokenize(["a"])


def test_teacher_vectors_do_not_depend_on_the_batch(folder):
    texts = ["one", "a rather long text", "", "x"]
    one, many = (NVEmbedTeacher(str(folder), batch_size=size, device="cpu").encode(texts) for size in (1, 4))
    np.testing.assert_allclose(one, many, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(one, axis=1), 1, atol=1e-6)
    prompted = NVEmbedTeacher(str(folder), prompt="Do: ", device="cpu").encode(texts)
    assert np.abs(prompted - one).max() > 1e-3


def test_the_fitting_class_is_chosen(folder, tmp_path):
    teacher = load_teacher(str(folder), prompt="Do: ")
    assert isinstance(teacher, NVEmbedTeacher) and "nv-embed" in teacher.fingerprint
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text('{"model_type": "bert"}')
    assert isinstance(load_teacher(str(other)), SentenceTransformersTeacher)
