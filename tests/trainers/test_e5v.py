# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""The E5-V baseline of stage 1, contrastive training on text triplets: its loss by hand, and its command."""

import json

import pytest
import torch

import trainers.train_stage2
from modeling_unime import UniMEModel, UniMEProcessor
from trainers import HardNegativeConfig, HardNegativeTrainer
from trainers.data.mmeb import load_mmeb_train
from trainers.lora import freeze_for_training

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
    model = freeze_for_training(UniMEModel.from_backbone(backbone))
    expected = loss_by_hand(lambda texts: model(**processor(text=texts)).embeddings, 0.07)
    gradients = torch.autograd.grad(expected, [p for p in model.parameters() if p.requires_grad])
    norm = torch.stack([gradient.norm() for gradient in gradients]).norm()

    config = HardNegativeConfig(
        output_dir=str(tmp_path / "out"),
        loss_type="info_nce",
        temperature=0.07,
        lora_rank=0,
        per_device_train_batch_size=5,
        gradient_cache_chunk_size=chunk,
        max_steps=1,
        logging_steps=1,
        save_strategy="no",
        use_cpu=True,
        disable_tqdm=True,
        report_to="none",
    )
    trainer = HardNegativeTrainer(str(backbone), config, train_dataset=load_mmeb_train(str(data), progress=False))
    batch = trainer.data_collator(list(trainer.train_dataset))
    assert sum(len(part["input_ids"]) for part in batch["chunks"]) == len(batch["global_order"]) == 10
    trainer.train()
    entry = trainer.state.log_history[0]
    assert entry["loss"] == pytest.approx(expected.item(), rel=1e-5)
    assert entry["grad_norm"] == pytest.approx(norm.item(), rel=1e-3)
    assert (entry["effective_batch"], entry["candidates"]) == (5, 9)


def test_command(backbones, data, tmp_path, capsys):
    command = ["--model", str(backbones["llava_next"]), "--data", str(data), "--output_dir", str(tmp_path / "out")]
    command += ["--loss_type", "info_nce", "--per_device_train_batch_size", "2", "--max_steps", "3"]
    command += ["--learning_rate", "1e-2", "--lora_rank", "2", "--use_cpu", "True", "--report_to", "none"]
    trainers.train_stage2.main(command)
    assert capsys.readouterr().out.splitlines()[-1] == str(tmp_path / "out")
    before, after = (UniMEModel.from_backbone(folder) for folder in (backbones["llava_next"], tmp_path / "out"))
    after = after.state_dict()
    assert any(not torch.equal(value, after[name]) for name, value in before.state_dict().items())
