# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""The E5-V baseline of stage 1: its loss by hand, and the same command without a teacher."""

import json

import pytest
import torch

import trainers.train_stage1
from modeling_unime import UniMEModel, UniMEProcessor
from trainers.data.tokens import TokenizedTexts
from trainers.data.triplets import load_triplets
from trainers.distillation_config import DistillationConfig
from trainers.lora import prepare_for_training
from trainers.triplet_trainer import TripletCollator, TripletDataset, TripletTrainer

TRIPLETS = [
    ("a red dog runs", "a dog", "no dog"),
    ("two cats", "an animal", "a stone"),
    ("a cat sleeps on the old sofa", "an animal", ""),  # its positive is another row's as well
    ("green", "a colour", "an animal"),  # its hard negative is a positive of others
    ("a dog", "a pet", "a dog"),  # its hard negative is a positive, and its own query
]


@pytest.fixture
def data(tmp_path):
    file = tmp_path / "triplets.jsonl"
    names = ("sent0", "sent1", "hard_neg")
    file.write_text("".join(json.dumps(dict(zip(names, row, strict=True))) + "\n" for row in TRIPLETS))
    return file


def loss_by_hand(embed, temperature: float) -> torch.Tensor:
    """E5-V's loss; only a candidate that reads as the query's own positive is left out of the others."""
    queries, positives, negatives = zip(*TRIPLETS, strict=True)
    candidates = [*positives, *filter(None, negatives)]
    losses = []
    for row, query in enumerate(queries):
        others = [text for text in candidates if text != positives[row]]
        logits = embed([query]) @ embed([positives[row], *others]).T / temperature  # (1, 1 + others)
        losses.append(-logits.log_softmax(dim=1)[0, 0])
    return torch.stack(losses).mean()


@pytest.mark.parametrize("chunk", [0, 3])
def test_loss_and_gradient_are_those_of_the_formula(backbones, data, tmp_path, chunk):
    backbone = backbones["llava_next"]
    processor = UniMEProcessor.from_backbone(backbone)
    model = prepare_for_training(UniMEModel.from_backbone(backbone), rank=0)
    expected = loss_by_hand(lambda texts: model(**processor(text=texts)).embeddings, 0.07)
    gradients = torch.autograd.grad(expected, [p for p in model.parameters() if p.requires_grad])
    norm = torch.stack([gradient.norm() for gradient in gradients]).norm()

    texts, rows = load_triplets(str(data))
    config = DistillationConfig(
        output_dir=str(tmp_path / "out"),
        loss_type="contrastive",
        temperature=0.07,
        per_device_train_batch_size=5,
        gradient_cache_chunk_size=chunk,
        max_steps=1,
        logging_steps=1,
        save_strategy="no",
        use_cpu=True,
        disable_tqdm=True,
        report_to="none",
    )
    collator = TripletCollator(processor, config.chunk_limits)
    dataset = TripletDataset(TokenizedTexts.of(processor, texts), rows)
    batch = collator(list(dataset))
    assert sum(len(part["input_ids"]) for part in batch["chunks"]) == len(texts) == 10
    trainer = TripletTrainer(model=model, args=config, train_dataset=dataset, data_collator=collator)
    trainer.train()
    entry = trainer.state.log_history[0]
    assert entry["loss"] == pytest.approx(expected.item(), rel=1e-5)
    assert entry["grad_norm"] == pytest.approx(norm.item(), rel=1e-3)
    assert (entry["effective_batch"], entry["candidates"]) == (5, 9)


def test_same_command_without_a_teacher(backbones, data, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(trainers.train_stage1, "teacher_vectors", None)  # any use of it is an error
    command = ["--model", str(backbones["llava_next"]), "--texts", str(data), "--output_dir", str(tmp_path / "out")]
    command += ["--loss_type", "contrastive", "--per_device_train_batch_size", "2", "--max_steps", "3"]
    command += ["--learning_rate", "1e-2", "--lora_rank", "2", "--use_cpu", "True", "--report_to", "none"]
    trainers.train_stage1.main(command)
    assert capsys.readouterr().out.splitlines()[-1] == str(tmp_path / "out")
    record = json.loads((tmp_path / "out" / "training_record.json").read_text())
    assert record["stage"] == "stage1 (E5-V)" and record["triplets"] == 5 and record["texts"] == 10
    assert "teacher" not in record and not (tmp_path / "out" / "teacher_vectors").exists()
    before, after = (UniMEModel.from_backbone(folder) for folder in (backbones["llava_next"], tmp_path / "out"))
    after = after.state_dict()
    assert any(not torch.equal(value, after[name]) for name, value in before.state_dict().items())


@pytest.mark.parametrize(
    "options", [{"teacher_temperature": 0.1}, {"include_self": True}, {"direction": "symmetric"}], ids=str
)
def test_options_of_distillation_are_refused(tmp_path, options):
    (name,) = options
    with pytest.raises(ValueError, match=f"{name} is an option of loss_type distillation; leave it out"):
        DistillationConfig(output_dir=str(tmp_path), loss_type="contrastive", **options)
