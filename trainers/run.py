# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""The frame of a training run: options on record, resumption after a kill, the finished model folder."""

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path

import torch
from transformers import TrainingArguments
from transformers.utils import logging

from evaluation.atomic import write_atomically
from evaluation.report import environment, to_json
from modeling_unime import UniMEModel, UniMEProcessor

from .distributed import check_world_size
from .embedding_trainer import EmbeddingTrainer, last_complete_checkpoint
from .lora import merge_lora, prepare_for_training

logger = logging.get_logger(__name__)

OPTIONS_FILE = "training_options.json"  # written first; a run with other options does not continue this one
RECORD_FILE = "training_record.json"  # written last; its presence says that the model in the folder is complete


@dataclass
class ModelArguments:
    """The model to train, and how."""

    model: str = field(
        metadata={"help": "Folder or Hub id: a UniME model (for stage 2: what stage 1 wrote) or a multimodal LLM."}
    )
    dtype: str = field(
        default="auto",
        metadata={
            "help": "Type of the weights: auto (as stored), float32, bfloat16 or float16.",
            "choices": ["auto", "float32", "bfloat16", "float16"],
        },
    )
    attn_implementation: str | None = field(
        default=None, metadata={"help": "eager, sdpa, flash_attention_2, ... Default: the library's choice."}
    )
    image_resolution: int | None = field(
        default=None,
        metadata={
            "help": "Side in pixels of the square every image is resized to first (336 in the paper). Default: "
            "as the model's processor has it."
        },
    )
    lora_rank: int = field(default=16, metadata={"help": "Rank of LoRA on the LLM; 0 trains the whole LLM."})
    lora_alpha: int | None = field(default=None, metadata={"help": "LoRA alpha. Default: twice the rank."})
    lora_dropout: float = field(default=0.0, metadata={"help": "LoRA dropout."})
    expected_world_size: int = field(
        default=0, metadata={"help": "Refuse to run with another number of processes than this; 0 takes any."}
    )

    def __post_init__(self):
        if self.lora_rank < 0:
            raise ValueError(f"lora_rank must be 0 or more, got {self.lora_rank}")


# Options that change how a run goes, not what it computes: a resumed run may have others.
FREE_OPTIONS = frozenset(
    "output_dir save_steps save_total_limit save_strategy logging_steps report_to disable_tqdm log_level "
    "dataloader_num_workers dataloader_prefetch_factor dataloader_pin_memory expected_world_size teacher_batch_size "
    "teacher_device teacher_cache run_name local_rank ddp_timeout push_to_hub hub_model_id hub_token image_check "
    "logging_dir".split()
)


def record_options(
    output_dir: str,
    arguments: list,
    is_main: bool,
    name: str = OPTIONS_FILE,
    free: frozenset[str] = FREE_OPTIONS,
) -> None:
    """Write the run's options, or compare them with those of the run that is to be continued.

    Args:
        output_dir: the run's folder.
        arguments: the dataclasses with its options.
        is_main: whether this process writes.
        name: of the file.
        free: options that are neither written nor compared.

    Raises:
        ValueError: names each option that differs from the run in the folder.
    """
    options = {}
    for group in arguments:
        for entry in dataclasses.fields(group):
            if entry.name not in free and entry.init:
                options[entry.name] = getattr(group, entry.name)
    options = json.loads(json.dumps(options, default=str, sort_keys=True))
    file = Path(output_dir, name)
    if file.exists():
        before = json.loads(file.read_text(encoding="utf-8"))
        changed = [
            f"{name}: {before.get(name)!r} there, {options.get(name)!r} now"
            for name in sorted(set(before) | set(options))
            if before.get(name) != options.get(name)
        ]
        if changed:
            raise ValueError(
                f"{output_dir} holds a run with other options ({'; '.join(changed)}). Continue it with its own "
                "options, or choose another folder."
            )
    elif is_main:
        write_atomically(file, to_json(options))


def check_sharding(config: TrainingArguments) -> None:
    """Refuse what splits the weights over ranks: merging LoRA and the strict final save need them whole.

    Raises:
        ValueError: for FSDP and DeepSpeed ZeRO-3.
    """
    plugin = config.deepspeed_plugin
    if config.fsdp or (plugin is not None and plugin.zero_stage == 3):
        raise ValueError(
            "FSDP and DeepSpeed ZeRO-3 are not supported yet. Use DDP (no option) or DeepSpeed ZeRO-2 "
            "(deepspeed: examples/recipes/deepspeed_zero2.json), with LoRA and the gradient cache for memory."
        )


def load_for_training(arguments: ModelArguments, config: TrainingArguments):
    """(model ready to train, processor); the model's weights are loaded strictly."""
    options = {} if arguments.attn_implementation is None else {"attn_implementation": arguments.attn_implementation}
    processor = UniMEProcessor.from_backbone(arguments.model)
    if arguments.image_resolution is not None:
        processor.image_resolution = arguments.image_resolution
    model = UniMEModel.from_backbone(arguments.model, dtype=arguments.dtype, **options)
    torch.manual_seed(config.seed)  # LoRA starts from random numbers
    trained = prepare_for_training(model, arguments.lora_rank, arguments.lora_alpha, arguments.lora_dropout)
    count = sum(parameter.numel() for parameter in trained.parameters() if parameter.requires_grad)
    total = sum(parameter.numel() for parameter in trained.parameters())
    logger.warning(f"training {count:,} of {total:,} parameters ({100 * count / total:.1f} %), all in the LLM")
    return trained, processor


def begin_run(model_arguments: ModelArguments, arguments, config: TrainingArguments) -> bool:
    """The checks and the record that every training command starts with.

    Args:
        model_arguments: the model and how it is trained.
        arguments: the stage's data.
        config: the stage's training options.

    Returns:
        Whether there is anything to do: False, with a word on it, when the folder holds the run's complete result.

    Raises:
        RuntimeError: when another number of processes runs than was asked for.
        ValueError: for options that are not supported, or differ from those of the run in the folder.
    """
    check_world_size(model_arguments.expected_world_size)
    check_sharding(config)
    record_options(config.output_dir, [model_arguments, arguments, config], is_main=config.process_index == 0)
    if Path(config.output_dir, RECORD_FILE).exists():
        print(f"already finished: {config.output_dir}")
        return False
    return True


def train_and_save(trainer: EmbeddingTrainer, processor: UniMEProcessor, stage: str, extra: dict) -> None:
    """Train, from the last complete checkpoint if there is one, and write the finished model folder.

    Args:
        trainer: ready to train.
        processor: saved beside the model.
        stage: "stage1" or "stage2", for the record.
        extra: what else the record should say (numbers of rows, skipped rows, ...).
    """
    output_dir = trainer.args.output_dir
    checkpoint = last_complete_checkpoint(output_dir)
    if checkpoint:
        logger.warning(f"continuing from {checkpoint}")
    trainer.train(resume_from_checkpoint=checkpoint)
    if not trainer.is_world_process_zero():
        return
    merge_lora(trainer.model).save_pretrained(output_dir)
    processor.save_pretrained(output_dir)
    history = [entry for entry in trainer.state.log_history if "loss" in entry]
    record = {
        "stage": stage,
        "steps": trainer.state.global_step,
        "final_loss": history[-1]["loss"] if history else None,
        "seconds_since_start_or_resumption": trainer.state.log_history[-1].get("train_runtime"),
        "seed": trainer.args.seed,
        "world_size": trainer.args.world_size,
        **environment(trainer.args.device),
        **extra,
        "log_history": trainer.state.log_history,
    }
    write_atomically(Path(output_dir, RECORD_FILE), to_json(record))
