# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Positives that other rows give the same query are not its negatives: against losses written out by hand."""

import json
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

import trainers.train_stage2
from modeling_unime import UniMEModel, UniMEProcessor
from trainers.chunks import ChunkLimits, RankSlice
from trainers.collators import PairCollator
from trainers.data.mmeb import load_mmeb_train

# Four positives of one query, two of another, one that two queries share, a query with one; and negatives of rows, two of
# which another row calls positives of the same query.
ROWS = [
    ("animals", "a dog", "a house"),
    ("animals", "a cat", "a dog"),
    ("animals", "a horse", ""),
    ("animals", "a whale", "a car"),
    ("vehicles", "a car", "a tractor"),
    ("vehicles", "a tractor", ""),
    ("things at sea", "a whale", "a house"),
    ("plants", "a tree", "a cat"),
]


def is_negative(row: int, candidate: str, exclude: bool) -> bool:
    """By the rows above, and by nothing else."""
    query, positive, _ = ROWS[row]
    known = {other for name, other, _ in ROWS if name == query} if exclude else {positive}
    return candidate not in known


def loss_by_hand(model, processor, loss_type: str, exclude: bool, k: int = 3) -> tuple[float, int]:
    """Mean loss, and how many pairs of a query and a candidate only the data tell to be no negatives."""
    candidates = [positive for _, positive, _ in ROWS] + [negative for _, _, negative in ROWS if negative]

    def embed(texts, instruction):
        with torch.no_grad():
            return model(**processor(text=texts, instruction=instruction)).embeddings

    cosines = embed([query for query, _, _ in ROWS], "") @ embed(candidates, "").T  # (N, M)
    losses, left_out = [], 0
    for row in range(len(ROWS)):
        negatives = [c for c, text in enumerate(candidates) if is_negative(row, text, exclude)]
        left_out += sum(is_negative(row, text, False) for text in candidates) - len(negatives)
        if loss_type == "hard_negative":
            negatives = sorted(negatives, key=lambda c: -cosines[row, c])[:k]
        logits = torch.stack([cosines[row, row], *cosines[row, negatives]]) / 0.1
        losses.append(-F.log_softmax(logits, dim=0)[0])
    return torch.stack(losses).mean().item(), left_out


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """The rows in the forms of stage 2, stage 1 and the judged rows of UniME-V2."""
    folder = tmp_path_factory.mktemp("positives")
    mmeb = [{"qry": query, "pos_text": positive, "neg_text": negative} for query, positive, negative in ROWS]
    (folder / "train_rows.jsonl").write_text("\n".join(map(json.dumps, mmeb)))
    nli = [{"sent0": query, "sent1": positive, "hard_neg": negative or None} for query, positive, negative in ROWS]
    (folder / "nli.jsonl").write_text("\n".join(map(json.dumps, nli)))
    return folder


COMMON = [
    "--max_steps",
    "1",
    "--per_device_train_batch_size",
    str(len(ROWS)),
    "--learning_rate",
    "0",
    "--use_cpu",
    "true",
]
COMMON += ["--temperature", "0.1", "--logging_steps", "1", "--report_to", "none", "--disable_tqdm", "true"]
COMMON += ["--save_strategy", "no", "--lora_rank", "0"]


def first_log(output: Path) -> dict:
    return json.loads((output / "training_record.json").read_text())["log_history"][0]


@pytest.mark.parametrize("exclude", [True, False])
@pytest.mark.parametrize("loss_type", ["hard_negative", "info_nce"])
@pytest.mark.parametrize("how", [[], ["--gradient_cache_chunk_size", "3"]], ids=["plain", "cached"])
def test_stage_2_trains_on_negatives_only(loss_type, exclude, how, backbones, data, tmp_path):
    backbone = backbones["llava_next"]
    options = ["--model", str(backbone), "--data", str(data / "train_rows.jsonl"), "--output_dir", str(tmp_path)]
    options += ["--loss_type", loss_type, *how] + ([] if exclude else ["--exclude_known_positives", "false"])
    if loss_type == "hard_negative":
        options += ["--num_hard_negatives", "3", "--false_negative_margin", "inf"]
    trainers.train_stage2.main([*COMMON, *options])
    model, processor = UniMEModel.from_backbone(backbone), UniMEProcessor.from_backbone(backbone)
    expected, left_out = loss_by_hand(model, processor, loss_type, exclude)
    entry = first_log(tmp_path)
    assert entry["loss"] == pytest.approx(expected, rel=1e-5)
    assert entry["other_positives"] == left_out == (25 if exclude else 0)


@pytest.mark.parametrize("exclude", [True, False])
def test_the_contrastive_baseline_of_stage_1_does_too(exclude, backbones, data, tmp_path):
    backbone = backbones["llava_next"]
    options = ["--model", str(backbone), "--data", str(data / "nli.jsonl"), "--output_dir", str(tmp_path)]
    options += ["--loss_type", "info_nce"] + ([] if exclude else ["--exclude_known_positives", "false"])
    trainers.train_stage2.main([*COMMON, *options])
    model, plain = UniMEModel.from_backbone(backbone), UniMEProcessor.from_backbone(backbone)
    expected, left_out = loss_by_hand(model, lambda text, instruction: plain(text=text), "info_nce", exclude)
    entry = first_log(tmp_path)
    assert entry["loss"] == pytest.approx(expected, rel=1e-5)
    assert entry["other_positives"] == left_out


def test_the_same_text_under_another_instruction_is_another_query(backbones, data, tmp_path):
    rows = [json.dumps({"qry": "animals", "pos_text": f"animal {number}"}) for number in range(4)]
    for number in range(2):
        (tmp_path / f"train_{number}.jsonl").write_text("\n".join(rows[2 * number : 2 * number + 2]))
    processor = UniMEProcessor.from_backbone(backbones["llava_next"])
    found = {}
    for instructions in (["Find one", "Find one"], ["Find one", "Find another"]):
        dataset = load_mmeb_train(
            [str(tmp_path / "train_0.jsonl"), str(tmp_path / "train_1.jsonl")],
            instructions=instructions,
            progress=False,
        )
        batches = [PairCollator(processor, ChunkLimits(), rank_slice=RankSlice(rank, 2)) for rank in range(2)]
        batches = [collator([dataset[row] for row in range(4)]) for collator in batches]
        assert torch.equal(batches[0]["other_positives"], batches[1]["other_positives"])
        found[instructions[1]] = batches[0]["other_positives"].int().tolist()
    assert found["Find one"] == [[0, 1, 1, 1], [1, 0, 1, 1], [1, 1, 0, 1], [1, 1, 1, 0]]
    assert found["Find another"] == [[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]]


@pytest.mark.parametrize("exclude", [True, False])
def test_a_judged_negative_that_another_row_calls_positive(exclude, backbones, tmp_path):
    """With soft labels: the first row's second negative is its query's positive in the second row."""
    entries = [
        ("animals", "a dog", ["a house", "a cat", "a tree"]),
        ("animals", "a cat", ["a house", "a car", "a cat"]),
    ]
    rows = [
        {
            "query_text": query,
            "query_image": "",
            "pos_text": positive,
            "pos_image": "",
            "query_pos_scores": 0.9,
            "hard_negatives": [[text, ""] for text in negatives],
            "hard_negatives_scores": [0.2, 0.8, 0.4],
        }
        for query, positive, negatives in entries
    ]
    (tmp_path / "judged.json").write_text(json.dumps(rows))
    backbone = backbones["llava_next"]
    options = [
        "--model",
        str(backbone),
        "--data",
        str(tmp_path / "judged.json"),
        "--output_dir",
        str(tmp_path / "out"),
    ]
    options += ["--loss_type", "soft_label", "--num_hard_negatives", "2", "--per_device_train_batch_size", "2"]
    trainers.train_stage2.main([*COMMON, *options] + ([] if exclude else ["--exclude_known_positives", "false"]))

    model, processor = UniMEModel.from_backbone(backbone), UniMEProcessor.from_backbone(backbone)
    used = [[0, 2], [0, 1]] if exclude else [[0, 1], [0, 1]]  # places of the negatives
    losses = []
    for (query, positive, negatives), places in zip(entries, used, strict=True):
        texts = [query, positive, *(negatives[place] for place in places)]
        with torch.no_grad():
            vectors = model(**processor(text=texts, instruction="")).embeddings
        p = (vectors[1:] @ vectors[0] / 0.1).log_softmax(dim=0)
        q = (torch.tensor([0.9, *([0.2, 0.8, 0.4][place] for place in places)]) / 0.1).log_softmax(dim=0)
        losses.append(((p.exp() * (p - q)).sum() + (q.exp() * (q - p)).sum()) / 2)
    entry = first_log(tmp_path / "out")
    assert entry["loss"] == pytest.approx(torch.stack(losses).mean().item(), rel=1e-4)
    assert entry["other_positives"] == (2 if exclude else 0)
