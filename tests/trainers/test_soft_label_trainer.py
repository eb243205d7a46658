# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Stage 2 with a judge's scores: what is whose candidate in a batch, chunked runs, the command."""

import json

import pytest
import torch
from tiny_models import write_pairs
from torch.nn import functional as F

import trainers.train_stage2
from modeling_unime import UniMEModel, UniMEProcessor
from trainers.chunks import ChunkLimits, RankSlice
from trainers.collators import PairCollator
from trainers.data.mmeb import load_mmeb_train
from trainers.hard_negative_config import HardNegativeConfig
from trainers.hard_negative_trainer import HardNegativeTrainer, check_scores
from trainers.losses import SoftLabelLoss

TOKEN = "<|image_1|>\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """24 judged rows with 0 to 4 negatives, texts and images, many of them shared; and rows without scores beside them."""
    path = tmp_path_factory.mktemp("judged")
    write_pairs(path)
    labels = ["dog", "cat", "tree", "car", "house"]
    rows = []
    for number in range(24):
        is_image = number % 2
        negatives = [[label, ""] for label in labels if label != labels[number % 5]][: number % 5]
        if is_image:
            negatives = [
                [f"{TOKEN}Represent it\n", f"images/{(number + i) % 6}.png"] for i in range(1, number % 4 + 1)
            ]
        rows.append(
            {
                "query_text": f"Find number {number}" if is_image else f"{TOKEN}Identify the object\n",
                "query_image": "" if is_image else f"images/{number}.png",
                "pos_text": f"{TOKEN}Represent it\n" if is_image else labels[number % 5],
                "pos_image": f"images/{number}.png" if is_image else "",
                "query_pos_scores": 0.5 + number / 50,
                "hard_negatives": negatives,
                "hard_negatives_scores": [0.1 * (i + 1) for i in range(len(negatives))],
            }
        )
    (path / "judged.json").write_text(json.dumps(rows))
    return path


def load(folder, name="judged.json"):
    return load_mmeb_train(str(folder / name), progress=False)


def make_collator(backbone, folder, k, size=4, **share):
    processor = UniMEProcessor.from_backbone(backbone)
    return PairCollator(processor, ChunkLimits(size), num_own_negatives=k, **share), load(folder)


@pytest.mark.parametrize("k", [1, 3, 6])
def test_own_candidates_are_the_rows_own(backbones, folder, k):
    """Followed back from the embeddings' order to the texts: every number names the example that the row has there."""
    collator, dataset = make_collator(backbones["llava_next"], folder, k)
    pairs = [dataset[index] for index in (4, 9, 0, 14, 3, 4)]
    batch = collator(pairs)
    embedded = sorted_examples(pairs, k)
    assert len(embedded) == len(batch["global_order"])
    assert batch["own"].shape == batch["scores"].shape == (6, 1 + k)
    for row, pair in enumerate(pairs):
        expected = [pair.positive, *pair.negatives[:k]]
        numbers = batch["own"][row]
        assert numbers[len(expected) :].tolist() == [-1] * (1 + k - len(expected))
        positions = batch["candidate_positions"][numbers[: len(expected)]]
        assert [embedded[position] for position in positions] == expected
        torch.testing.assert_close(batch["scores"][row, : len(expected)], torch.tensor(pair.scores[: len(expected)]))
    used = sum(min(k, len(pair.negatives)) for pair in pairs)
    assert len(batch["candidate_positions"]) == len(batch["groups"]) == 6 + used
    assert len(embedded) < 12 + used, "nothing occurs twice, so de-duplication is not looked at"


def sorted_examples(pairs, k):
    """The distinct examples in the order in which a batch has them: by kind and length, first come first."""
    examples = [pair.query for pair in pairs] + [pair.positive for pair in pairs]
    examples += [negative for pair in pairs for negative in pair.negatives[:k]]
    return sorted(dict.fromkeys(examples), key=lambda e: (e.image is not None, len(e.text or "")))


def test_ranks_have_the_same_choices(backbones, folder):
    batches = []
    for rank in range(2):
        collator, dataset = make_collator(backbones["llava_next"], folder, 3, rank_slice=RankSlice(rank, 2))
        batches.append(collator([dataset[index] for index in range(8)]))
    for name in ("own", "scores", "candidate_positions", "global_order"):
        assert torch.equal(batches[0][name], batches[1][name])
    assert sum(len(batch["local_order"]) for batch in batches) == len(batches[0]["global_order"])


def build(backbone, folder, chunk, steps=3, **options):
    config = HardNegativeConfig(
        output_dir=str(folder / "run"),
        loss_type="soft_label",
        lora_rank=0,
        temperature=0.3,
        num_hard_negatives=3,
        per_device_train_batch_size=8,
        gradient_cache_chunk_size=chunk,
        max_steps=steps,
        learning_rate=1e-3,
        logging_steps=1,
        save_strategy="no",
        use_cpu=True,
        disable_tqdm=True,
        seed=5,
        **options,
    )
    return HardNegativeTrainer(str(backbone), config, train_dataset=load(folder))


@pytest.mark.parametrize("family", ["llava_next", "qwen2_vl"])
def test_chunked_run_equals_plain_run(family, backbones, folder):
    histories = []
    for chunk in (0, 5):
        trainer = build(backbones[family], folder, chunk)
        trainer.train()
        histories.append([entry for entry in trainer.state.log_history if "loss" in entry])
    for plain, chunked in zip(*histories, strict=True):
        assert chunked["loss"] == pytest.approx(plain["loss"], abs=1e-5)
        assert chunked["grad_norm"] == pytest.approx(plain["grad_norm"], rel=1e-3) and plain["grad_norm"] > 1e-3
    assert {"label_entropy", "prediction_positive", "accuracy", "effective_batch", "distinct_inputs"} <= set(plain)


def test_loss_of_a_batch_equals_that_of_rows_embedded_one_by_one(backbones, folder):
    trainer = build(backbones["llava_next"], folder, 0)
    dataset, processor, model = trainer.train_dataset, trainer.processing_class, trainer.model.eval()
    pairs = [dataset[index] for index in range(8)]

    def embed(pair, example):
        images = [pair.open(example)]
        return model(**processor([example.text], images, instruction=[""])).embeddings[0]

    divergences = []
    for pair in pairs:
        candidates = torch.stack([embed(pair, example) for example in (pair.positive, *pair.negatives[:3])])
        log_p = F.log_softmax(candidates @ embed(pair, pair.query) / 0.3, dim=0)
        log_q = F.log_softmax(torch.tensor(pair.scores[: len(candidates)]) / 0.3, dim=0)
        divergences.append(((log_p.exp() - log_q.exp()) * (log_p - log_q)).sum() / 2)
    batch = trainer.data_collator(pairs)
    with torch.no_grad():
        embeddings = torch.cat([model(**chunk).embeddings for chunk in batch["chunks"]])
        loss, _ = trainer.batch_loss(embeddings[batch["local_order"]][batch["global_order"]], batch)
    torch.testing.assert_close(loss, torch.stack(divergences).mean(), rtol=1e-4, atol=1e-6)


def test_agreement_with_the_judge_is_not_called_easy_negatives(backbones, folder, caplog):
    trainer = build(backbones["llava_next"], folder, 0)
    trainer.log({"loss": 1e-4})
    assert "too easy" not in caplog.text
    trainer.args.loss_type = "hard_negative"
    trainer.log({"loss": 1e-4})
    assert "too easy" in caplog.text


def test_rows_without_scores_or_negatives_are_refused(folder):
    dataset = load_mmeb_train([str(folder / "judged.json"), str(folder / "train_pairs.jsonl")], progress=False)
    with pytest.raises(ValueError, match=r"the rows of .*train_pairs\.jsonl have none"):
        check_scores(dataset)
    row = {**json.loads((folder / "judged.json").read_text())[1], "hard_negatives": [], "hard_negatives_scores": []}
    (folder / "bare.json").write_text(json.dumps([row]))
    with pytest.raises(ValueError, match="no row has any"):
        check_scores(load(folder, "bare.json"))


def test_options_that_contradict_each_other_are_refused(tmp_path):
    with pytest.raises(ValueError, match="leave use_row_negatives true"):
        HardNegativeConfig(output_dir=str(tmp_path), loss_type="soft_label", use_row_negatives=False, use_cpu=True)
    with pytest.raises(ValueError, match="num_hard_negatives must be at least 1"):
        HardNegativeConfig(output_dir=str(tmp_path), loss_type="soft_label", num_hard_negatives=0, use_cpu=True)


def test_command(backbones, folder, tmp_path, monkeypatch):
    seen = []
    forward = SoftLabelLoss.forward
    monkeypatch.setattr(SoftLabelLoss, "forward", lambda self, *inputs: seen.append(inputs) or forward(self, *inputs))
    options = ["--loss_type", "soft_label", "--num_hard_negatives", "2", "--per_device_train_batch_size", "6"]
    options += ["--max_steps", "2", "--logging_steps", "1", "--use_cpu", "True", "--disable_tqdm", "True"]
    paths = [
        "--model",
        str(backbones["qwen2_vl"]),
        "--data",
        str(folder / "judged.json"),
        "--output_dir",
        str(tmp_path),
    ]
    trainers.train_stage2.main([*options, *paths])
    record = json.loads((tmp_path / "training_record.json").read_text())
    assert record["rows"] == {f"{folder.name}/judged": 24} and record["steps"] == 2
    assert [inputs[2].shape for inputs in seen] == [(6, 3), (6, 3)]
    assert UniMEModel.from_pretrained(tmp_path).config.model_type == "unime"
