# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""The frame of a training run: options on record, resumption after a kill, the finished model folder."""

import dataclasses
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import torch
from transformers import PreTrainedModel, TrainingArguments
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
from transformers.utils import logging

from evaluation.atomic import write_atomically
from evaluation.command_line import CommandError
from evaluation.report import environment, to_json
from modeling_unime import UniMEModel, UniMEProcessor

from .distributed import check_world_size
from .embedding_trainer import EmbeddingTrainer
from .engines import QUANTIZATIONS, check_setup, engine_of, setup_of
from .language_model import load_language_model
from .lora import hold_in_float32, prepare_for_training, put_trained
from .public_names import public_name
from .push import prepare_repository, push_finished
from .quantization import quantize_llm
from .resumption import check_processes, checkpoint_to_continue
from .split_weights import gather_trained, split_for_zero3, whole_weights
from .start_checks import check_model, check_reports
from .stop_signal import TERMINATED, StopAtSigterm

logger = logging.get_logger(__name__)

OPTIONS_FILE = "training_options.json"  # written first; a run with other options does not continue this one
NAMES = ("model", "teacher")  # entries of the record that may be a path
RECORD_FILE = "training_record.json"  # written last; its presence says that the model in the folder is complete


@dataclass
class ModelArguments:
    """The model to train, and how."""

    model: str = field(
        metadata={
            "help": "Folder or Hub id: a UniME model (for stage 2: what stage 1 wrote), a multimodal LLM, or, as a baseline "
            "of stage 2, CLIP (with lora_rank 0)."
        }
    )
    dtype: str = field(
        default="auto",
        metadata={
            "help": "Type of the weights: auto (as stored), float32, bfloat16 or float16. Those that are trained are held in "
            "float32 meanwhile; bf16 and fp16 say what is computed in.",
            "choices": ["auto", "float32", "bfloat16", "float16"],
        },
    )
    attn_implementation: str | None = field(
        default=None, metadata={"help": "eager, sdpa, flash_attention_2, ... Default: the library's choice."}
    )
    attention: str | None = field(
        default=None,
        metadata={
            "help": "What a token of the LLM sees: those before it (causal) or all (bidirectional, as LLM2Vec, arXiv "
            "2404.05961). Default: causal, or what a UniME model was made with, which cannot be changed.",
            "choices": ["causal", "bidirectional"],
        },
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
    lora_type: str = field(
        default="lora",
        metadata={"help": "lora, or dora (VLM2Vec): slower, learns rows' lengths apart.", "choices": ["lora", "dora"]},
    )
    lora_init: str = field(
        default="default",
        metadata={
            "help": "Start of LoRA's first matrix: default (uniform) or gaussian.",
            "choices": ["default", "gaussian"],
        },
    )
    quantization: str = field(
        default="none",
        metadata={
            "help": "4bit: hold the LLM's weights in 4 bits (NF4) while LoRA is trained on them (QLoRA); needs a GPU. The "
            "finished model has the precision of the source.",
            "choices": list(QUANTIZATIONS),
        },
    )
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
    "teacher_device teacher_cache run_name local_rank ddp_timeout push_to_hub hub_model_id hub_token "
    "logging_dir resume_from_checkpoint hub_strategy hub_private_repo hub_revision project trackio_space_id "
    "trackio_bucket_id trackio_static_space_id log_level_replica log_on_each_node".split()
)


def record_options(
    output_dir: str,
    arguments: list,
    is_main: bool,
    started: bool,
    name: str = OPTIONS_FILE,
    free: frozenset[str] = FREE_OPTIONS,
    uncompared: Mapping[str, object] = MappingProxyType({}),
) -> None:
    """Write the run's options, or compare them with those of the run that is to be continued.

    Args:
        output_dir: the run's folder.
        arguments: the dataclasses with its options.
        is_main: whether this process writes.
        started: whether the folder holds anything that the run could continue. A run that ended before it had any may be
            started again with other options.
        name: of the file.
        free: options that are neither written nor compared.
        uncompared: what is written beside the options and not compared.

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
    if started and file.exists():
        before = json.loads(file.read_text(encoding="utf-8"))
        changed = [
            f"{name}: {before.get(name)!r} there, {options.get(name)!r} now"
            for name in sorted((set(before) | set(options)) - set(uncompared))
            if before.get(name) != options.get(name)
        ]
        if changed:
            raise ValueError(
                f"{output_dir} holds a run with other options ({'; '.join(changed)}). Continue it with its own "
                "options, or choose another folder."
            )
    elif is_main:
        write_atomically(file, to_json({**options, **uncompared}))


def load_model(arguments: ModelArguments, language_model_only: bool = False) -> UniMEModel:
    """The model to train, whole or without its vision tower, on the CPU; its weights are loaded strictly."""
    options = {} if arguments.attn_implementation is None else {"attn_implementation": arguments.attn_implementation}
    load = load_language_model if language_model_only else UniMEModel.from_backbone
    return load(arguments.model, arguments.attention, dtype=arguments.dtype, **options)


def load_processor(arguments: ModelArguments) -> UniMEProcessor:
    """The processor of the model to train, as the options have it."""
    processor = UniMEProcessor.from_backbone(arguments.model)
    if arguments.image_resolution is not None:
        processor.image_resolution = arguments.image_resolution
    return processor


def load_for_training(arguments: ModelArguments, config: TrainingArguments, language_model_only: bool = False):
    """The model to train.

    Args:
        arguments: the model and how it is trained.
        config: the stage's training options.
        language_model_only: for training on texts: leave the vision tower out of memory (default False).

    Returns:
        (model ready to train, processor).

    Raises:
        WeightsMismatchError: when a weight is missing or unexpected, of the vision tower too.
    """
    processor = load_processor(arguments)
    with whole_weights(config):
        model = load_model(arguments, language_model_only)
        if arguments.quantization == "4bit":
            quantize_llm(model, torch.bfloat16 if config.bf16 else torch.float16 if config.fp16 else torch.float32)
            model.to(config.device)
        torch.manual_seed(config.seed)  # LoRA starts from random numbers
        trained = prepare_for_training(
            model,
            arguments.lora_rank,
            arguments.lora_alpha,
            arguments.lora_dropout,
            arguments.lora_type,
            arguments.lora_init,
        )
        hold_in_float32(trained, whole=arguments.lora_rank == 0 and model.family.one_dtype)
    count, total = trained.num_parameters(only_trainable=True), trained.num_parameters()
    logger.warning(f"training {count:,} of {total:,} parameters ({100 * count / total:.1f} %), all in the LLM")
    if engine_of(config) == "zero3":
        split_for_zero3(trained, config)
    return trained, processor


def check_run(model_arguments: ModelArguments, config: TrainingArguments) -> None:
    """Refuse a run whose processes or options do not go together, before anything is read.

    Raises:
        CommandError: when another number of processes runs than was asked for, or one process has several GPUs.
        ValueError: for options that are not supported together.
        ImportError: when a package is missing.
        OSError: when there is no such model.
    """
    check_world_size(model_arguments.expected_world_size)
    if config.n_gpu > 1:  # the library would copy the model to all of them and split every chunk
        raise CommandError(
            f"one process sees {config.n_gpu} GPUs; start one for each with examples/train_stage1.sh or train_stage2.sh "
            "(torchrun), or show it one by CUDA_VISIBLE_DEVICES"
        )
    setup = setup_of(config, model_arguments.lora_rank, model_arguments.quantization)
    check_setup(setup, on_gpu=config.device.type == "cuda")
    check_reports(config)
    check_model(model_arguments.model)


def begin_run(model_arguments: ModelArguments, arguments, config: TrainingArguments, *more) -> bool:
    """The checks and the record that every training command starts with.

    Args:
        model_arguments: the model and how it is trained.
        arguments: the stage's data.
        config: the stage's training options.
        more: further groups of options that the result depends on.

    Returns:
        Whether there is anything to do: False, with a word on it, when the folder holds the run's complete result.

    Raises:
        CommandError: see `check_run`.
        RuntimeError: see `trainers.push`.
        ValueError: for options that are not supported, or differ from those of the run in the folder; for another number of
            processes than its checkpoints are of; for files there that would change the finished model.
    """
    check_run(model_arguments, config)
    adapters = sorted(path.name for path in Path(config.output_dir).glob("adapter_*"))
    if adapters:
        raise ValueError(
            f"{config.output_dir} holds {', '.join(adapters)}, which AutoModel would apply to the finished model once more: "
            "remove it, or choose another output_dir"
        )
    finished = Path(config.output_dir, RECORD_FILE).exists()
    started = any(Path(config.output_dir).glob(f"{PREFIX_CHECKPOINT_DIR}-*"))
    options = Path(config.output_dir, OPTIONS_FILE)
    if started and not finished and options.exists():
        check_processes(config, json.loads(options.read_text(encoding="utf-8")).get("world_size"))
    record_options(
        config.output_dir,
        [model_arguments, arguments, config, *more],
        is_main=config.process_index == 0,
        started=finished or started,
        uncompared={"world_size": config.world_size},
    )
    if finished:
        print(f"already finished: {config.output_dir}")
        push_finished(config)
        return False
    checkpoint_to_continue(config)
    prepare_repository(config)
    return True


def whole_model(arguments: ModelArguments, trained: Mapping[str, torch.Tensor]) -> UniMEModel:
    """The model that training started from, read again, with the trained weights put in."""
    return put_trained(load_model(arguments), trained, arguments.lora_rank, arguments.lora_alpha, arguments.lora_type)


def train_and_save(
    trainer: EmbeddingTrainer,
    processor: UniMEProcessor,
    arguments: ModelArguments,
    stage: str,
    extra: dict,
    put_together: Callable[[ModelArguments, Mapping[str, torch.Tensor]], PreTrainedModel] = whole_model,
) -> None:
    """Train, from the last complete checkpoint if there is one, and write the finished model folder.

    However the weights were held while training, the finished model is the one that was loaded, read again on the CPU of
    the main process, with the trained weights put in.

    Args:
        trainer: ready to train.
        processor: saved beside the model.
        arguments: the model that is trained, and how.
        stage: "stage1" or "stage2", for the record.
        extra: what else the record should say (numbers of rows, skipped rows, ...).
        put_together: makes the finished model of the model's options and the trained weights, on the CPU.

    Raises:
        SystemExit: with 143 after SIGTERM, which ends the run with a checkpoint and no finished model.
    """
    output_dir = trainer.args.output_dir
    checkpoint = checkpoint_to_continue(trainer.args)
    if checkpoint:
        logger.warning(f"continuing from {checkpoint}")
    stop = StopAtSigterm()
    trainer.add_callback(stop)
    trainer.train(resume_from_checkpoint=checkpoint)
    if stop.stopped:
        if trainer.is_world_process_zero():
            step, steps = trainer.state.global_step, trainer.state.max_steps
            print(f"stopped by SIGTERM after step {step} of {steps}: the same command continues", file=sys.stderr)
        raise SystemExit(TERMINATED)
    trained = gather_trained(trainer.model, trainer.is_world_process_zero())
    if not trainer.is_world_process_zero():
        return
    with whole_weights(trainer.args):
        put_together(arguments, trained).save_pretrained(output_dir)
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
        **{name: public_name(value) if name in NAMES else value for name, value in extra.items()},
        "log_history": trainer.state.log_history,
    }
    write_atomically(Path(output_dir, RECORD_FILE), to_json(record))
    push_finished(trainer.args)
