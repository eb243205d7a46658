# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""NV-Embed-v2 equals the published code, reads its names strictly, and pools what it should."""

import shutil
import weakref

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_teachers import make_nv_embed
from transformers import LlamaTokenizer

from trainers.teachers import NVEmbedModel, NVEmbedTeacher, nv_embed_model


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


@pytest.fixture
def sentencepiece_folder(folder):
    """The same with a tokenizer as Mistral has it: spaces are pieces of words, and one at the end stands alone."""
    letters = sorted(set("Instruct:Do this.\nQuery") - {" "})
    pieces = ["<unk>", "<s>", "</s>", "▁", *letters, "w", "▁w", "▁wh", "▁wha", "▁what", "a"]
    merges = [("▁", "w"), ("▁w", "h"), ("▁wh", "a"), ("▁wha", "t")]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    LlamaTokenizer(vocab=vocabulary, merges=merges, add_bos_token=True).save_pretrained(folder)
    return folder


def test_prompt_is_left_out_of_the_pooling_to_its_last_token(sentencepiece_folder, caplog):
    teacher = NVEmbedTeacher(str(sentencepiece_folder), prompt="Instruct: Do this.\nQuery: ", device="cpu")
    assert not caplog.text
    inputs = teacher.tokenize(["what", "what is"])

    def pieces(row, mask):
        return teacher.tokenizer.convert_ids_to_tokens(inputs["input_ids"][row][inputs[mask][row].bool()])

    assert pieces(0, "attention_mask")[:3] == ["<s>", "▁", "I"] and pieces(0, "attention_mask")[-3] == ":"
    assert pieces(0, "pool_mask") == ["▁what", "</s>"]
    assert pieces(1, "pool_mask") == ["▁what", "▁", "i", "s", "</s>"]

    states = {}
    model = NVEmbedModel.from_pretrained(sentencepiece_folder)
    model.latent_attention_model.register_forward_hook(lambda _, __, output: states.update(last=output))
    with torch.no_grad():
        model(inputs["input_ids"][:1], inputs["attention_mask"][:1])
    end = int(inputs["attention_mask"][0].sum())
    pooled = torch.nn.functional.normalize(states["last"][0, end - 2 : end].mean(0), dim=0)
    np.testing.assert_allclose(teacher.encode(["what"])[0], pooled.numpy(), atol=1e-6)

    teacher = NVEmbedTeacher(str(sentencepiece_folder), prompt="Instruct: Do this.\nQuery:")
    inputs = teacher.tokenize(["what"])
    assert pieces(0, "pool_mask")[0] == ":", "as the published code does without the last space"
    assert "does not end in a space" in caplog.text


def test_nobody_is_asked_to_run_the_published_code(folder, monkeypatch):
    asked = []
    monkeypatch.setattr("builtins.input", lambda question: asked.append(question) or "n")
    NVEmbedTeacher(str(folder), device="cpu").encode(["a"])
    assert "auto_map" in (folder / "config.json").read_text() and not asked


def test_eager_and_sdpa_attention_agree(folder):
    inputs = NVEmbedTeacher(str(folder), prompt="Do: ").tokenize(["short", "a much longer text than the other"])
    model = NVEmbedModel.from_pretrained(folder)
    vectors = []
    with torch.no_grad():
        for implementation in ("sdpa", "eager"):
            model.embedding_model.set_attn_implementation(implementation)
            assert model.embedding_model.config._attn_implementation == implementation
            vectors.append(model(**inputs).embeddings.numpy())
            vectors.append(model(**{name: row[:1, :9] for name, row in inputs.items()}).embeddings.numpy())  # unpadded
    np.testing.assert_allclose(vectors[0], vectors[2], atol=1e-6)
    np.testing.assert_allclose(vectors[1], vectors[3], atol=1e-6)


@pytest.mark.parametrize("dtype, tolerance", [("float16", 2e-3), ("bfloat16", 2e-2)])
def test_half_precision_on_the_cpu(folder, dtype, tolerance):
    texts = ["one", "a rather long text", "x"]
    whole, half = (NVEmbedTeacher(str(folder), device="cpu", dtype=name).encode(texts) for name in ("float32", dtype))
    assert 0 < np.abs(whole - half).max() < tolerance


def test_loading_holds_no_second_copy(folder, monkeypatch):
    """A stored weight is let go as soon as it has its final type."""
    alive: list[int] = []

    def watched(path, device):
        seen = []
        for name, tensor in read_weights(path, device):
            seen.append(weakref.ref(tensor))
            yield name, tensor
            del tensor
            alive.append(sum(reference() is not None for reference in seen))

    read_weights = nv_embed_model.read_weights
    monkeypatch.setattr(nv_embed_model, "read_weights", watched)
    model = NVEmbedModel.from_pretrained(folder, torch.bfloat16)
    assert len(alive) == len(list(model.parameters())) > 10 and max(alive) <= 1


def test_teacher_vectors_do_not_depend_on_the_batch(folder):
    texts = ["one", "a rather long text", "", "x"]
    one, many = (NVEmbedTeacher(str(folder), batch_size=size, device="cpu").encode(texts) for size in (1, 4))
    np.testing.assert_allclose(one, many, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(one, axis=1), 1, atol=1e-6)
    prompted = NVEmbedTeacher(str(folder), prompt="Do: ", device="cpu").encode(texts)
    assert np.abs(prompted - one).max() > 1e-3
