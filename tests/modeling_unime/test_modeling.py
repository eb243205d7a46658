# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""UniMEModel: parity with other people's numbers, pooling, strict loading, saved names."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import BACKBONES
from transformers import AutoModelForImageTextToText, LlamaConfig
from transformers.trainer import Trainer
from transformers.training_args import TrainingArguments

from modeling_unime import UniMEConfig, UniMEModel, UniMEProcessor, WeightsMismatchError
from modeling_unime.families import get_family
from modeling_unime.modeling_unime import pool_last_token

FAMILIES = sorted(BACKBONES)
GOLDEN = ["llava_next", "qwen2_vl"]  # phi3_v has its own tests
TEXTS = ["hello world", None, "a red car", None, "x"]


@pytest.fixture(scope="module", params=FAMILIES)
def family(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def loaded(family, backbones):
    folder = backbones[family]
    return UniMEModel.from_backbone(folder), UniMEProcessor.from_backbone(folder)


def images_of(pictures):
    return [None, pictures[0], pictures[1], pictures[2], None]


@pytest.mark.parametrize("family", GOLDEN)
@pytest.mark.parametrize("case", ["text", "image"])
def test_golden_embeddings(golden_dir, family, case):
    folder = golden_dir / f"{family}_tiny"
    arrays = np.load(folder / "io.npz")
    names = ("input_ids", "attention_mask", "pixel_values", "image_sizes", "image_grid_thw")
    inputs = {name: torch.from_numpy(arrays[f"{case}.{name}"]) for name in names if f"{case}.{name}" in arrays.files}
    with torch.no_grad():
        embeddings = UniMEModel.from_backbone(folder)(**inputs).embeddings
    np.testing.assert_allclose(embeddings.numpy(), arrays[f"{case}.expected_norm"], atol=1e-5)


# Of phi3_v the library has nothing to compare with; test_phi3v.py takes the published code.
@pytest.mark.parametrize("family", [family for family in FAMILIES if family != "phi3_v"], indirect=True)
@torch.no_grad()
def test_embedding_is_the_library_state_of_the_last_token(family, backbones, loaded, pictures):
    model, processor = loaded
    inputs = processor(text=TEXTS, images=images_of(pictures))
    reference = AutoModelForImageTextToText.from_pretrained(backbones[family]).eval()
    token_types = (inputs["input_ids"] == processor.image_token_id).int()
    extra = {"mm_token_type_ids": token_types} if get_family(family).needs_token_types else {}
    states = reference(**inputs, **extra, output_hidden_states=True).hidden_states[-1][:, -1]
    expected = torch.nn.functional.normalize(states, dim=-1)
    torch.testing.assert_close(model(**inputs).embeddings, expected, atol=1e-5, rtol=0)


@torch.no_grad()
def test_padding_side_and_batch_size_do_not_matter(loaded, pictures):
    model, processor = loaded
    images = images_of(pictures)
    left = model(**processor(text=TEXTS, images=images)).embeddings
    inputs = processor(text=TEXTS, images=images, padding_side="right")
    assert (inputs["attention_mask"][:, -1] == 0).any(), "nothing is padded on the right, so the test says nothing"
    right = model(**inputs).embeddings
    alone = [
        model(**processor(text=[text], images=[image])).embeddings for text, image in zip(TEXTS, images, strict=True)
    ]
    torch.testing.assert_close(right, left, atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.cat(alone), left, atol=1e-5, rtol=0)
    assert (left[0] - left[2]).abs().max() > 1e-3, "different inputs must have different embeddings"


@torch.no_grad()
def test_a_call_does_not_depend_on_the_calls_before(loaded, pictures):
    model, processor = loaded
    texts = processor(text=["one", "a longer one"])
    before = model(**texts).embeddings
    model(**processor(images=pictures))
    torch.testing.assert_close(model(**texts).embeddings, before, atol=0, rtol=0)


def test_output_is_unit_length_float32_whatever_the_weights(family, backbones, loaded):
    _, processor = loaded
    model = UniMEModel.from_backbone(backbones[family], dtype=torch.bfloat16)
    embeddings = model(**processor(text=["a", "b"])).embeddings
    assert model.dtype == torch.bfloat16 and embeddings.dtype == torch.float32
    torch.testing.assert_close(embeddings.norm(dim=-1), torch.ones(2))


def test_a_dropped_head_alarms_nobody(backbones, caplog):
    UniMEModel.from_backbone(backbones["qwen2_vl"])
    assert "UNEXPECTED" not in caplog.text


def test_head_is_not_there(loaded):
    assert not [name for name, _ in loaded[0].named_parameters() if "lm_head" in name]


def test_pool_last_token():
    states = torch.arange(12.0).reshape(2, 3, 2)
    mask = torch.tensor([[1, 1, 0], [0, 1, 1]])
    assert pool_last_token(states, mask).tolist() == [[2.0, 3.0], [10.0, 11.0]]
    assert pool_last_token(states, None).tolist() == [[4.0, 5.0], [10.0, 11.0]]


def test_saved_folder_loads_bit_equal_under_module_names(loaded, tmp_path):
    model, _ = loaded
    model.save_pretrained(tmp_path)
    stored = load_file(tmp_path / "model.safetensors")
    assert set(stored) == set(model.state_dict()), "a resuming Trainer reads the file by these very names"
    again = UniMEModel.from_pretrained(tmp_path)
    for name, value in model.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


def test_trainer_resume_reads_what_was_saved(loaded, family, backbones, tmp_path):
    model, _ = loaded
    changed = UniMEModel.from_backbone(backbones[family])
    with torch.no_grad():
        for parameter in changed.parameters():
            parameter.add_(1.0)
    model.save_pretrained(tmp_path)
    trainer = Trainer(model=changed, args=TrainingArguments(output_dir=str(tmp_path / "trainer"), report_to="none"))
    trainer._load_from_checkpoint(str(tmp_path))
    for name, value in model.state_dict().items():
        assert torch.equal(value, changed.state_dict()[name]), name


@pytest.mark.parametrize("fault", ["missing", "unexpected", "shape"])
def test_loading_is_strict(loaded, tmp_path, fault):
    model, _ = loaded
    model.save_pretrained(tmp_path)
    stored = load_file(tmp_path / "model.safetensors")
    name = next(name for name in stored if name.endswith("layers.1.self_attn.o_proj.weight") and "vision" not in name)
    if fault == "missing":
        stored.pop(name)
    elif fault == "unexpected":
        name = "model.no_such_weight"
        stored[name] = torch.zeros(2)
    else:
        stored[name] = stored[name][:-1].clone()
    save_file(stored, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(WeightsMismatchError, match=name.replace(".", r"\.")):
        UniMEModel.from_pretrained(tmp_path)


def test_backbone_with_a_missing_weight_is_refused(family, backbones, tmp_path):
    for file in backbones[family].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    stored = load_file(tmp_path / "model.safetensors")
    name = next(name for name in stored if name.endswith("layers.0.mlp.down_proj.weight"))
    stored.pop(name)
    save_file(stored, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(WeightsMismatchError, match="down_proj"):
        UniMEModel.from_backbone(tmp_path)


def test_from_backbone_takes_a_unime_folder_too(loaded, tmp_path):
    model, processor = loaded
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    assert isinstance(UniMEModel.from_backbone(tmp_path), UniMEModel)
    assert UniMEProcessor.from_backbone(tmp_path).prompts == processor.prompts


def test_unsupported_family_is_named():
    with pytest.raises(ValueError, match="'llama' is not supported; supported are .*llava_next.*qwen2_vl"):
        UniMEConfig(backbone=LlamaConfig())
    with pytest.raises(ValueError, match="needs `backbone`"):
        UniMEConfig()


def test_sentence_transformers_files(loaded, tmp_path):
    loaded[0].save_pretrained(tmp_path)
    modules = json.loads((tmp_path / "modules.json").read_text())
    assert [module["path"] for module in modules] == [""], "one module: the model pools and normalises by itself"


def test_gradient_checkpointing_gives_the_same_gradients(family, backbones, loaded):
    _, processor = loaded
    inputs = processor(text=["one", "a longer one"])

    def gradients(checkpointing: bool) -> dict[str, torch.Tensor]:
        model = UniMEModel.from_backbone(backbones[family]).train()
        if checkpointing:
            model.gradient_checkpointing_enable()
        model(**inputs).embeddings[:, 0].sum().backward()
        return {name: value.grad for name, value in model.named_parameters() if value.grad is not None}

    plain, checkpointed = gradients(False), gradients(True)
    assert plain.keys() == checkpointed.keys() and plain
    for name, value in plain.items():
        torch.testing.assert_close(checkpointed[name], value, msg=name)


@torch.no_grad()
@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_attention_direction(family, backbones, tmp_path, implementation):
    """With bidirectional attention an early token sees a late one, with causal attention it does not."""
    processor = UniMEProcessor.from_backbone(backbones[family])
    inputs = processor(text=["abcd", "ab"])
    changed = {**inputs, "input_ids": inputs["input_ids"].clone()}
    changed["input_ids"][0, -1] = inputs["input_ids"][0, -2]
    for attention in ("causal", "bidirectional"):
        options = {"attention": attention, "attn_implementation": implementation}
        model = UniMEModel.from_backbone(backbones[family], **options)
        states = [model.model(**entry).last_hidden_state[0, 1] for entry in (inputs, changed)]
        assert ((states[0] - states[1]).abs().max() > 1e-4) == (attention == "bidirectional")
        first = model(**inputs).embeddings
        alone = model(**processor(text=["ab"])).embeddings
        torch.testing.assert_close(first[1:], alone, atol=1e-5, rtol=0)  # padding stays unseen
        model.save_pretrained(tmp_path / attention)
        again = UniMEModel.from_pretrained(tmp_path / attention, attn_implementation=implementation)
        torch.testing.assert_close(again(**inputs).embeddings, first, atol=1e-6, rtol=0)
        assert again.config.attention == attention


@torch.no_grad()
@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_attention_direction_without_padding(backbones, implementation):
    """Without a mask the kernel goes by the module's own flag."""
    inputs = UniMEProcessor.from_backbone(backbones["qwen2_vl"])(text=["abcd"])
    changed = {**inputs, "input_ids": inputs["input_ids"].clone()}
    changed["input_ids"][0, -1] = inputs["input_ids"][0, -2]
    for attention in ("causal", "bidirectional"):
        model = UniMEModel.from_backbone(
            backbones["qwen2_vl"], attention=attention, attn_implementation=implementation
        )
        states = [model.model(**entry).last_hidden_state[0, 1] for entry in (inputs, changed)]
        assert ((states[0] - states[1]).abs().max() > 1e-4) == (attention == "bidirectional")


def test_unknown_attention_is_named(backbones):
    with pytest.raises(ValueError, match="attention is 'both'; use one of causal, bidirectional"):
        UniMEModel.from_backbone(backbones["llava_next"], attention="both")


def test_attention_of_a_saved_model_cannot_be_changed(backbones, tmp_path):
    UniMEModel.from_backbone(backbones["llava_next"], attention="bidirectional").save_pretrained(tmp_path)
    for attention in (None, "bidirectional"):
        assert UniMEModel.from_backbone(tmp_path, attention).config.attention == "bidirectional"
    with pytest.raises(
        ValueError, match="was made with bidirectional attention and keeps it; leave attention='causal'"
    ):
        UniMEModel.from_backbone(tmp_path, "causal")


@torch.no_grad()
def test_truncated_embeddings_are_unit_length_again(backbones):
    model, processor = (cls.from_backbone(backbones["llava_next"]) for cls in (UniMEModel, UniMEProcessor))
    inputs = processor(text=["a dog", "a cat"])
    whole, short = model(**inputs).embeddings, model(**inputs, truncate_dim=8).embeddings
    torch.testing.assert_close(short, torch.nn.functional.normalize(whole[:, :8], dim=-1))
    for size in (0, 33):
        with pytest.raises(ValueError, match=f"truncate_dim is {size}"):
            model(**inputs, truncate_dim=size)
