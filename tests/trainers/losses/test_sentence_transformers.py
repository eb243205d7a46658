# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Our losses under sentence-transformers: the losses and gradients of our trainers, cached or not, on ranks, and saving."""

import json

import numpy as np
import pytest
import torch
import torch.distributed as dist
from datasets import Dataset
from PIL import Image
from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from sentence_transformers.sentence_transformer.losses import MatryoshkaLoss
from tiny_models import save_unime
from torch import multiprocessing, nn

from trainers import DistillationConfig, DistillationTrainer, HardNegativeConfig, HardNegativeTrainer, losses
from trainers.losses.content_keys import content_keys
from trainers.losses.sentence_transformers import HardNegativeInfoNCE, SimilarityDistillation
from unime.distributed import gather_rows

FAMILIES = ("llava_next", "qwen2_vl")
HARD = {"temperature": 0.1, "num_hard_negatives": 3, "false_negative_margin": 0.05}


def picture(seed: int, height: int = 30, width: int = 40) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


# Two rows share a positive, two a query with another positive each, and a negative is another row's positive.
PAIRS = {
    "query": [picture(0), picture(1, 20, 50), picture(0), picture(3), picture(4), picture(5)],
    "positive": ["a dog", "a red cat", "two trees", "a dog", "the blue one", "a tree over a small cat"],
    "negative": ["a cat", "a dog", "green", "a red cat", "a large tree", "it sleeps"],
}
TEXTS = {
    "text": ["a dog", "a red cat", "two trees under the blue one", "green", "it sleeps"],
    "label": np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32),
}


@pytest.fixture(scope="module")
def folders(backbones, tmp_path_factory):
    root = tmp_path_factory.mktemp("st")
    return {family: save_unime(backbones[family], root / family) for family in FAMILIES}


@pytest.fixture
def load(folders):
    return lambda family="llava_next": SentenceTransformer(
        str(folders[family]), trust_remote_code=True, device="cpu"
    ).train()


def of_our_trainer(stage: str, folder, tmp_path) -> tuple[float, dict[str, torch.Tensor]]:
    """Loss and gradients of one step on all rows."""
    common = {"output_dir": str(tmp_path / "out"), "use_cpu": True, "lora_rank": 0, "report_to": "none"}
    if stage == "stage2":
        args = HardNegativeConfig(**common, **HARD, per_device_train_batch_size=6)
        rows = PAIRS | {"negatives": [[text] for text in PAIRS["negative"]]}
        rows.pop("negative")
        trainer = HardNegativeTrainer(str(folder), args, train_dataset=Dataset.from_dict(rows))
    else:
        args = DistillationConfig(**common, per_device_train_batch_size=5)
        data = Dataset.from_dict(TEXTS).rename_column("label", "vector")
        trainer = DistillationTrainer(str(folder), args, train_dataset=data, teacher="vector")
    trainer.current_gradient_accumulation_steps = 1  # as train() counts them
    trainer.model.double()  # so that no rounding hides a difference
    loss = trainer.training_step(trainer.model, next(iter(trainer.get_train_dataloader())))
    return loss.item(), {
        name: weight.grad for name, weight in trainer.model.named_parameters() if weight.requires_grad
    }


def features_of(model: SentenceTransformer, columns: dict) -> list[dict]:
    return [model.preprocess(rows) for name, rows in columns.items() if name != "label"]


@pytest.mark.parametrize("stage", ["stage1", "stage2"])
@pytest.mark.parametrize("family", FAMILIES)
def test_losses_and_gradients_are_those_of_our_trainer(stage, family, folders, load, tmp_path):
    expected, gradients = of_our_trainer(stage, folders[family], tmp_path)
    assert min(gradient.abs().max() for gradient in gradients.values()) > 1e-5, "a gradient of zero proves nothing"
    for size in (None, 2, 4):
        model = load(family).double()
        if stage == "stage2":
            value = HardNegativeInfoNCE(model, **HARD, mini_batch_size=size)(features_of(model, PAIRS), None)
        else:
            labels = torch.from_numpy(TEXTS["label"])
            value = SimilarityDistillation(model, mini_batch_size=size)(features_of(model, TEXTS), labels)
        value.backward()
        assert value.item() == pytest.approx(expected, abs=1e-6)
        found = dict(model.transformers_model.named_parameters())
        for name, gradient in gradients.items():
            torch.testing.assert_close(found[name].grad, gradient, atol=1e-6, rtol=0)


@pytest.mark.parametrize("size", [None, 2])
def test_shorter_vectors_by_our_option_and_by_their_loss(size, load):
    values, gradients = [], []
    for ours in (True, False):
        model = load()
        options = {"matryoshka_dims": [8, 32], "matryoshka_weights": [0.5, 1.0]} if ours else {}
        loss = HardNegativeInfoNCE(model, **HARD, mini_batch_size=size, **options)
        loss = loss if ours else MatryoshkaLoss(model, loss, [32, 8], [1.0, 0.5])
        values.append(loss(features_of(model, PAIRS), None))
        values[-1].backward()
        weights = model.transformers_model.language_model.parameters()
        gradients.append(torch.cat([weight.grad.flatten() for weight in weights]))
        named = getattr(model.transformers_model.config, "matryoshka_dimensions", None)
        assert named == ([8, 32] if ours else None)
    torch.testing.assert_close(values[0], values[1])
    torch.testing.assert_close(gradients[0], gradients[1], atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("size", [None, 2])
def test_their_trainer_trains_and_saves_the_whole_model(size, load, folders, tmp_path):
    for stage, columns in (("stage2", PAIRS), ("stage1", TEXTS)):
        model = load()
        model.prompts |= {"query": "Find: "}
        before = model.encode(["a dog"])
        loss = HardNegativeInfoNCE(model, **HARD, mini_batch_size=size) if stage == "stage2" else None
        loss = loss or SimilarityDistillation(model, mini_batch_size=size)
        args = SentenceTransformerTrainingArguments(
            str(tmp_path / stage), max_steps=2, per_device_train_batch_size=6, use_cpu=True, report_to="none",
            learning_rate=1e-3, logging_steps=1, save_strategy="no", disable_tqdm=True,
        )  # fmt: skip
        trainer = SentenceTransformerTrainer(model, args, train_dataset=Dataset.from_dict(columns), loss=loss)
        trainer.train()
        first = trainer.state.log_history[0]["loss"]
        assert first == pytest.approx(of_our_trainer(stage, folders["llava_next"], tmp_path)[0], abs=1e-4)
        model.save_pretrained(str(tmp_path / stage))
        again = SentenceTransformer(str(tmp_path / stage), trust_remote_code=True, device="cpu")
        assert again.prompts == {"query": "Find: ", "document": "", "bare": " "}
        assert again.similarity_fn_name == "cosine" and again.get_embedding_dimension() == 32
        vectors = again.encode(["a dog"])
        assert np.abs(vectors - model.eval().encode(["a dog"])).max() < 1e-6 < np.abs(vectors - before).max()
        card = (tmp_path / stage / "README.md").read_text()
        assert type(loss).__name__ in card and '"gather_across_devices": false' in card
        assert json.dumps(loss.get_config_dict())


def test_what_a_batch_lacks_is_said(load):
    model = load()
    with pytest.raises(ValueError, match=r"takes columns \(anchor, positive, negative, ...\), and got one column"):
        HardNegativeInfoNCE(model)(features_of(model, TEXTS), None)
    for columns, labels, said in ((TEXTS, None, "1 column.s. and no label"), (PAIRS, torch.ones(6, 2), "3 column.s.")):
        with pytest.raises(ValueError, match=f"one column of texts and a column `label` .* got {said}"):
            SimilarityDistillation(model)(features_of(model, columns), labels)
    with pytest.raises(ValueError, match="go beyond the model's 32 dimensions"):
        HardNegativeInfoNCE(model, matryoshka_dims=[64])


@pytest.mark.parametrize("family", ["llava_next", "llava_onevision", "qwen2_vl", "internvl", "smolvlm"])
def test_inputs_are_told_apart_by_tokens_and_pixels(family, backbones, tmp_path):
    """Texts, pictures and both in one column, and again in another, where a large picture brings more padding."""
    model = SentenceTransformer(str(save_unime(backbones[family], tmp_path)), trust_remote_code=True, device="cpu")
    both = [{"text": "a", "image": picture(seed)} for seed in (0, 1)]
    rows = ["a", picture(0), "a longer text", *both, picture(1), "a", picture(0), picture(2)]
    first = content_keys(model.preprocess(rows))
    assert first.unique(return_inverse=True)[1].unique().numel() == 7
    assert first[0] == first[6] and first[1] == first[7]
    second = content_keys(model.preprocess([picture(9, 90, 20), *rows, "a text that is the longest of all by far"]))
    assert torch.equal(second[1:-1], first)
    assert torch.equal(content_keys(model.preprocess(["a", "a longer text"])), first[[0, 2]])
    right = {"input_ids": torch.tensor([[5, 6, 0], [5, 0, 6], [6, 5, 0]]), "attention_mask": torch.ones(3, 3)}
    right["attention_mask"][[0, 2], 2] = right["attention_mask"][1, 1] = 0
    keys = content_keys(right)
    assert keys[0] == keys[1] != keys[2]
    assert content_keys({"input_ids": torch.arange(5), "cu_seq_lens_q": torch.tensor([0, 2, 5])}) is None


class Rows(nn.Module):
    """Stands for a SentenceTransformer: a table of weights, by token."""

    transformers_model = None

    def __init__(self):
        super().__init__()
        table = torch.randn(20, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        self.table = nn.Parameter(table)

    def forward(self, features: dict) -> dict:
        return {"sentence_embedding": self.table[features["input_ids"][:, 0]]}

    def get_embedding_dimension(self) -> int:
        return 8


TOKENS = torch.tensor([[0, 1, 2, 0], [4, 5, 6, 7], [8, 4, 10, 11]])  # query 0 twice; the positive 4 is a negative, too
TEACHER = torch.randn(4, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
DIMS = {"matryoshka_dims": [3, 8], "matryoshka_weights": [0.5, 2.0]}


def batch_of(rows: slice) -> list[dict]:
    return [{"input_ids": t[rows, None], "attention_mask": torch.ones_like(t[rows, None])} for t in TOKENS]


def of_both(rows: slice, **options) -> list[torch.Tensor]:
    """Values and gradients of both losses on some of the rows."""
    found = []
    for loss_class, labels, columns in ((HardNegativeInfoNCE, None, 3), (SimilarityDistillation, TEACHER[rows], 1)):
        for size in (None, 1):
            model = Rows()
            loss = loss_class(model, temperature=0.3, mini_batch_size=size, **DIMS, **options)
            value = loss(batch_of(rows)[-columns:], labels)
            value.backward()
            found += [value.detach(), model.table.grad]
    return found


def by_our_gathering(rank: int) -> list[torch.Tensor]:
    """Value and gradient of a rank's part of the whole batch, as our trainers take them."""
    model = Rows()
    rows = slice(2 * rank, 2 * rank + 2)
    queries, candidates = (
        torch.cat([gather_rows(model.table[t[rows]]) for t in part]) for part in (TOKENS[:1], TOKENS[1:])
    )
    groups = TOKENS[1:].flatten()
    known = (TOKENS[0][:, None, None] == TOKENS[0][None, :, None]) & (TOKENS[1][None, :, None] == groups)  # (N, N, M)
    loss = losses.MatryoshkaLoss(losses.HardNegativeInfoNCELoss(0.3), *DIMS.values())
    value = loss(queries, candidates, group_ids=groups, duplicate_mask=known.any(dim=1))
    (2 * value).backward()
    return [value.detach(), model.table.grad]


def on_two_ranks(rank: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    found = of_both(slice(2 * rank, 2 * rank + 2), gather_across_devices=True) + by_our_gathering(rank)
    for gradient in found[1::2]:
        dist.all_reduce(gradient)
        gradient /= 2  # as DistributedDataParallel does
    torch.save(found, f"{folder}/rank{rank}.pt")
    dist.destroy_process_group()


def test_two_ranks_have_the_loss_and_gradients_of_the_whole_batch(tmp_path):
    """In float64, at two widths, with copies on both ranks; equal to separate losses on vectors that were cut before."""
    whole = of_both(slice(0, 4))
    torch.testing.assert_close(whole[2:4] + whole[6:8], whole[:2] + whole[4:6], rtol=0, atol=1e-9)
    multiprocessing.spawn(on_two_ranks, (str(tmp_path),), nprocs=2)
    for rank in (0, 1):
        found = torch.load(tmp_path / f"rank{rank}.pt")
        torch.testing.assert_close(found, whole + whole[:2], rtol=0, atol=1e-9)
    table = Rows().table
    queries, candidates, groups = table[TOKENS[0]], table[TOKENS[1:].flatten()], TOKENS[1:].flatten()
    known = torch.zeros(4, 8, dtype=torch.bool)
    known[0, groups == 7] = known[3, groups == 4] = True
    separate = losses.HardNegativeInfoNCELoss(0.3)
    value = sum(
        weight * separate(queries[:, :dim], candidates[:, :dim], group_ids=groups, duplicate_mask=known)
        for dim, weight in zip(*DIMS.values(), strict=True)
    )
    (gradient,) = torch.autograd.grad(value, table)
    torch.testing.assert_close([value.detach(), gradient], whole[:2], rtol=0, atol=1e-9)
    assert gradient.abs().max() > 1e-2
