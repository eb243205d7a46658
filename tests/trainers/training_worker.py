# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Short runs of both stages, for the tests. Under torchrun it does a list of them (see test_engines.py):

training_worker.py RUNS.json RESULTS.json
"""

import gc
import importlib.util
import json
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState, PartialState
from datasets import Dataset

from trainers import DistillationConfig, DistillationTrainer, HardNegativeConfig, HardNegativeTrainer
from trainers.chunks import ChunkLimits
from trainers.data.mmeb import load_mmeb_train
from trainers.embedding_trainer import EmbeddingTrainer
from trainers.run import train_and_save
from unime.distributed import check_world_size

WORDS = "red green blue dog cat tree runs sleeps under over the a small large".split()


@dataclass
class Run:
    """One short run.

    Attributes:
        stage: "stage1", "e5v" or "stage2".
        backbone: folder of the model.
        folder: where the pairs are.
        batch: rows of all processes together.
        chunk: size of the gradient cache's chunks; 0 for none.
        padded_together: inputs of a chunk without the gradient cache; 0 for as many as always.
        steps: optimizer steps.
        lora_rank: 0 trains the LLM.
        pairs: file of the pairs in `folder`.
        finish: folder of a run that is also stopped in the middle, continued, and finished with a model folder.
        evaluates: whether it is evaluated, on its own rows, at every step and once more at the end.
        options: more training options.
    """

    stage: str
    backbone: str
    folder: str
    batch: int = 8
    chunk: int = 0
    padded_together: int = 0
    steps: int = 2
    lora_rank: int = 0
    pairs: str = "train_pairs.jsonl"
    finish: str | None = None
    evaluates: bool = False
    options: dict = field(default_factory=dict)


def make_texts(count: int) -> list[str]:
    rng = np.random.default_rng(0)
    return [" ".join(rng.choice(WORDS, size=rng.integers(2, 9))) + f" {index}" for index in range(count)]


def build(run: Run, processes: int = 1) -> EmbeddingTrainer:
    """The trainer of a run."""
    common = {
        "output_dir": str(Path(run.folder, "run")),
        "per_device_train_batch_size": run.batch // processes,
        "gradient_cache_chunk_size": run.chunk,
        "max_steps": run.steps,
        "learning_rate": 1e-3,
        "warmup_steps": 0,
        "logging_steps": 1,
        "save_strategy": "no",
        "use_cpu": True,
        "optim": "adamw_torch",
        "disable_tqdm": True,
        "report_to": "none",
        "seed": 5,
        "ddp_timeout": 120,  # ranks out of step fail, and do not wait for ever
        **(
            {"eval_strategy": "steps", "eval_steps": 1, "per_device_eval_batch_size": 6 // processes}
            if run.evaluates
            else {}
        ),
        **run.options,
    }
    if run.stage == "stage1":
        config = DistillationConfig(**common, lora_rank=run.lora_rank)
        vectors = np.random.default_rng(0).normal(size=(64, 12)).astype(np.float32)
        dataset = Dataset.from_dict({"text": make_texts(64), "vector": vectors})
        return DistillationTrainer(
            run.backbone,
            config,
            train_dataset=dataset,
            eval_dataset=dataset if run.evaluates else None,
            teacher="vector",
        )
    options = {"num_hard_negatives": 3} if run.stage == "stage2" else {"loss_type": "info_nce", "temperature": 0.05}
    config = HardNegativeConfig(**{**options, **common}, lora_rank=run.lora_rank)
    if run.stage == "e5v":
        # Positives that several rows share, also across ranks, and rows without a hard negative.
        texts = make_texts(64)
        dataset = [
            {"sent0": texts[row], "sent1": texts[40 + row % 10], "hard_neg": texts[50 + row % 14] if row % 3 else ""}
            for row in range(40)
        ]
    else:
        dataset = load_mmeb_train([str(Path(run.folder, run.pairs))], progress=False)
    return HardNegativeTrainer(
        run.backbone, config, train_dataset=dataset, eval_dataset=dataset if run.evaluates else None
    )


def history_of(trainer: EmbeddingTrainer) -> list[dict]:
    """What was logged at each step."""
    return [entry for entry in trainer.state.log_history if "loss" in entry]


def keep_deepspeed_from_compiling() -> None:
    """It would compile a faster all-reduce for CPUs first, for minutes; gloo has one."""
    if importlib.util.find_spec("deepspeed"):
        import deepspeed.ops

        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False


def do(run: Run, processes: int) -> dict:
    """Train, and say what was logged and what kind of engine it was."""
    AcceleratorState._reset_state()
    trainer = build(run, processes)
    check_world_size(processes)
    with pytest.raises(RuntimeError, match=f"expected_world_size is 3, but {processes} process"):
        check_world_size(3)
    if run.padded_together:
        trainer.data_collator.limits = ChunkLimits(run.padded_together)
    fillers = []
    if run.stage == "stage2":
        make_filler = trainer.data_collator.make_filler
        trainer.data_collator.make_filler = lambda with_image: fillers.append(with_image) or make_filler(with_image)
    trainer.train()
    if run.evaluates:
        trainer.evaluate()
    evaluations = [entry for entry in trainer.state.log_history if "eval_mrr" in entry]
    kind = type(trainer.model_wrapped).__name__ + (
        f" {trainer.deepspeed.zero_optimization_stage()}" if trainer.deepspeed else ""
    )
    gathered = [None] * processes
    torch.distributed.all_gather_object(gathered, fillers) if processes > 1 else None
    return {"history": history_of(trainer), "engine": kind, "fillers": gathered, "evaluations": evaluations}


def stop_and_continue(run: Run, processes: int) -> dict:
    """The same, and the log of a run that continues from the middle and ends with the finished model."""
    run.options = {**run.options, "save_strategy": "steps", "save_steps": run.steps // 2, "output_dir": run.finish}
    result = do(run, processes)
    if PartialState().is_main_process:
        Path(run.finish, f"checkpoint-{run.steps}", "trainer_state.json").unlink()  # as if killed while writing it
    PartialState().wait_for_everyone()
    AcceleratorState._reset_state()
    trainer = build(run, processes)
    train_and_save(trainer, run.stage, {})
    return {**result, "continued": history_of(trainer)}


def main() -> None:
    runs, results = map(Path, sys.argv[1:])
    processes = int(os.environ["WORLD_SIZE"])
    keep_deepspeed_from_compiling()
    gc.freeze()  # the Trainer collects after every run; the libraries' million objects stay anyway
    done = []
    for options in json.loads(runs.read_text()):
        run = Run(**options)
        done.append(stop_and_continue(run, processes) if run.finish else do(run, processes))
    if PartialState().is_main_process:
        results.write_text(json.dumps({"processes": processes, "results": done}))


if __name__ == "__main__":
    main()
