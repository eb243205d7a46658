# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Run by test_training.py, alone or under torchrun: train a few steps and write the losses.

training_worker.py STAGE BACKBONE FOLDER BATCH CHUNK STEPS [key=value ...]
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from tiny_models import write_pairs

from modeling_unime import UniMEModel, UniMEProcessor
from trainers.data.mmeb import load_mmeb_train
from trainers.data.tokens import TokenizedTexts
from trainers.distillation_config import DistillationConfig
from trainers.distillation_trainer import DistillationCollator, DistillationTrainer, TextDataset
from trainers.hard_negative_config import HardNegativeConfig
from trainers.hard_negative_trainer import HardNegativeTrainer, PairCollator
from trainers.lora import prepare_for_training
from trainers.triplet_trainer import TripletCollator, TripletDataset, TripletTrainer

WORDS = "red green blue dog cat tree runs sleeps under over the a small large".split()


class RandomTeacher:
    """Vectors of a teacher, random but fixed."""

    def __init__(self, size: int):
        self.vectors = np.random.default_rng(0).normal(size=(size, 12)).astype(np.float32)

    def take(self, rows: np.ndarray) -> np.ndarray:
        return self.vectors[rows]


def make_texts(count: int) -> list[str]:
    rng = np.random.default_rng(0)
    return [" ".join(rng.choice(WORDS, size=rng.integers(2, 9))) + f" {index}" for index in range(count)]


def build(stage: str, backbone: str, folder: Path, batch: int, chunk: int, steps: int, **options):
    """A trainer of the stage on the tiny backbone."""
    common = {
        "output_dir": str(folder / "run"),
        "per_device_train_batch_size": batch,
        "gradient_cache_chunk_size": chunk,
        "max_steps": steps,
        "learning_rate": 1e-3,
        "logging_steps": 1,
        "save_strategy": "no",
        "use_cpu": True,
        "optim": "adamw_torch",
        "disable_tqdm": True,
        "seed": 5,
        **options,
    }
    processor = UniMEProcessor.from_backbone(backbone)
    torch.manual_seed(0)
    model = prepare_for_training(UniMEModel.from_backbone(backbone), rank=0)
    if stage == "stage1":
        config = DistillationConfig(**common)
        dataset = TextDataset(TokenizedTexts.of(processor, make_texts(64)))
        collator = DistillationCollator(processor, RandomTeacher(64), config.chunk_limits, config.share)
        return DistillationTrainer(model=model, args=config, train_dataset=dataset, data_collator=collator)
    if stage == "e5v":
        config = DistillationConfig(loss_type="contrastive", **common)
        # Positives that several rows share, also across ranks, and rows without a hard negative.
        rows = np.array([[row, 40 + row % 10, 50 + row % 14 if row % 3 else -1] for row in range(40)])
        dataset = TripletDataset(TokenizedTexts.of(processor, make_texts(64)), rows)
        collator = TripletCollator(processor, config.chunk_limits, config.share)
        return TripletTrainer(model=model, args=config, train_dataset=dataset, data_collator=collator)
    config = HardNegativeConfig(num_hard_negatives=3, **common)
    dataset = load_mmeb_train([str(folder / "train_pairs.jsonl")], progress=False)
    collator = PairCollator(processor, dataset, config.chunk_limits, share=config.share)
    return HardNegativeTrainer(model=model, args=config, train_dataset=dataset, data_collator=collator)


def main() -> None:
    stage, backbone, folder, batch, chunk, steps, *options = sys.argv[1:]
    folder = Path(folder)
    named = dict(option.split("=", 1) for option in options)
    out = folder / named.pop("out", "losses.json")
    if named.pop("write", None):
        write_pairs(folder)
    trainer = build(stage, backbone, folder, int(batch), int(chunk), int(steps), **named)
    trainer.train()
    if trainer.is_world_process_zero():
        history = [entry for entry in trainer.state.log_history if "loss" in entry]
        out.write_text(json.dumps({"world_size": trainer.args.world_size, "history": history}))


if __name__ == "__main__":
    main()
