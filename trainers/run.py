# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""The frame of a training command: options on record, resumption after a kill, the record of the finished model."""

import dataclasses
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from transformers import TrainingArguments
from transformers.integrations import INTEGRATION_TO_CALLBACK, get_available_reporting_integrations
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, IntervalStrategy
from transformers.utils import logging

from evaluation.dual_encoder import is_dual_encoder
from evaluation.report import environment, to_json
from trainers.callbacks import TERMINATED, StopAtSigterm
from trainers.embedding_config import EmbeddingTrainingConfig
from trainers.embedding_trainer import EmbeddingTrainer
from trainers.engines import check_engine
from trainers.loading import check_dual_encoder_options
from trainers.push import check_repository, push_folder
from unime.distributed import check_world_size, world_size
from unime.files import write_atomically
from unime.options import CommandError
from unime.output_folder import OPTIONS_FILE, RECORD_FILE
from unime.public_names import public_name

logger = logging.get_logger(__name__)

NAMES = ("model", "teacher")  # of the record, which are published without the path


@dataclass
class ModelArguments:
    """The model to train."""

    model: str = field(
        metadata={
            "help": "Folder or Hub id: a UniME model (for stage 2: what stage 1 wrote), a multimodal LLM, or, as a baseline "
            "of stage 2, CLIP (with lora_rank 0)."
        }
    )
    expected_world_size: int = field(
        default=0, metadata={"help": "Refuse to run with another number of processes than this; 0 takes any."}
    )


# Options that change how a run goes, not what it computes: a resumed run may have others.
FREE_OPTIONS = frozenset(
    "output_dir save_steps save_total_limit save_strategy logging_steps report_to disable_tqdm log_level "
    "dataloader_num_workers dataloader_prefetch_factor dataloader_pin_memory expected_world_size trust_remote_code teacher_batch_size "
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
    """Write the run's options, or refuse those that differ from the run's that is to be continued.

    A run that ended before it had anything to continue (`started`) may be started again with other options. `free` options
    are neither written nor compared; what is `uncompared` is only written.
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


def check_run(model_arguments: ModelArguments, config: EmbeddingTrainingConfig) -> None:
    """Refuse a run whose processes or options do not go together, before anything is read."""
    check_world_size(model_arguments.expected_world_size)
    if config.n_gpu > 1:  # the library would copy the model to all of them and split every chunk
        raise CommandError(
            f"one process sees {config.n_gpu} GPUs; start one for each with examples/train_stage1.sh or train_stage2.sh "
            "(torchrun), or show it one by CUDA_VISIBLE_DEVICES"
        )
    check_engine(config, lora=config.lora_rank > 0)
    evaluates = config.eval_strategy != IntervalStrategy.NO or config.eval_on_start
    if evaluates != bool(config.eval_tasks):
        raise ValueError(
            "eval_strategy and eval_tasks go together: one says when, the other what is evaluated (from Python, a trainer also "
            "takes rows, as eval_dataset)"
        )
    for name in config.report_to:
        if name not in INTEGRATION_TO_CALLBACK:
            raise ValueError(f"report_to: {name} is not one of {', '.join(INTEGRATION_TO_CALLBACK)} or none")
        if name not in get_available_reporting_integrations():
            raise ImportError(f"report_to: {name} needs the package {name}; install it, or use --report_to none")
    model = model_arguments.model
    folder = Path(model).expanduser()
    if not folder.is_dir() and (folder.is_absolute() or model.startswith((".", "~")) or model.count("/") > 1):
        raise FileNotFoundError(f"model {model}: no such folder; give a folder or a name on the Hub")
    if is_dual_encoder(model):
        check_dual_encoder_options(config, name=model)
        if config.push_to_hub:
            raise ValueError(f"push_to_hub: {model} is CLIP, a baseline for which there is no model card")


def find_fault(checkpoint: Path) -> str | None:
    """Why a checkpoint cannot be continued, None if it was written to its end by as many processes as run now.

    `trainer_state.json` is the last file the Trainer writes into a checkpoint; a process killed while saving leaves a
    folder without it or with a part of it. Each rank saves its random state beside it. Private: both files' names.
    """
    try:
        json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError):
        return (
            "is no complete checkpoint (trainer_state.json cannot be read): give a folder named checkpoint-STEP, or leave "
            "the option out to continue from the newest one in output_dir"
        )
    ranks = len(list(checkpoint.glob("rng_state*.pth")))
    if ranks != world_size():
        return f"was written by {ranks} process(es), and {world_size()} run: start as many"
    return None


def last_complete_checkpoint(output_dir: str) -> str | None:
    """Newest checkpoint of a run that can be continued."""
    steps = [folder.name.rpartition("-")[2] for folder in Path(output_dir).glob(f"{PREFIX_CHECKPOINT_DIR}-*")]
    for step in sorted((int(step) for step in steps if step.isdigit()), reverse=True):
        folder = Path(output_dir, f"{PREFIX_CHECKPOINT_DIR}-{step}")
        if find_fault(folder) is None:
            return str(folder)
    return None


def checkpoint_to_continue(config: TrainingArguments) -> str | None:
    """The checkpoint that training starts from, or None.

    It is the newest one in the run's own folder. Where there is none it is the one that `resume_from_checkpoint` names,
    and also where that lies in the run's own folder: the run then goes back to it.
    """
    own, named = last_complete_checkpoint(config.output_dir), config.resume_from_checkpoint
    if named is None:
        return own
    goes_back = Path(named).resolve().parent == Path(config.output_dir).resolve()
    if own is not None and not goes_back:
        return own
    fault = find_fault(Path(named))
    if fault is not None:
        raise ValueError(f"resume_from_checkpoint {named} {fault}")
    return named


def begin_run(model_arguments: ModelArguments, arguments, config: EmbeddingTrainingConfig, *more) -> bool:
    """The checks and the record that every training command starts with; `more` are options the result depends on.

    Returns whether there is anything to do: False, and why is printed, when the folder holds the run's complete result.
    """
    check_run(model_arguments, config)
    output, is_main = Path(config.output_dir), config.process_index == 0
    adapters = sorted(path.name for path in output.glob("adapter_*"))
    if adapters:
        raise ValueError(
            f"{output} holds {', '.join(adapters)}, which AutoModel would apply to the finished model once more: remove "
            "it, or choose another output_dir"
        )
    finished = (output / RECORD_FILE).exists()
    started = any(output.glob(f"{PREFIX_CHECKPOINT_DIR}-*"))
    if started and not finished and (output / OPTIONS_FILE).exists():
        before = json.loads((output / OPTIONS_FILE).read_text(encoding="utf-8")).get("world_size", config.world_size)
        if before != config.world_size:  # its checkpoints would not be found, and overwritten
            raise ValueError(
                f"{output} holds checkpoints of a run of {before} process(es), and {config.world_size} run now: start "
                f"{before}, or choose another output_dir"
            )
    record_options(
        config.output_dir,
        [model_arguments, arguments, config, *more],
        is_main=is_main,
        started=finished or started,
        uncompared={"world_size": config.world_size},
    )
    if finished:
        print(f"already finished: {output}")
        if config.push_to_hub and is_main:
            push_folder(config)
        return False
    checkpoint_to_continue(config)
    if config.push_to_hub and is_main:
        check_repository(config)
    return True


def train_and_save(trainer: EmbeddingTrainer, stage: str, extra: dict) -> None:
    """Train, from the checkpoint to continue if there is one, and write the finished model folder and its record.

    After SIGTERM the process ends with exit code 143, a checkpoint and no finished model. `extra` is what else the record
    says (numbers of rows, skipped rows, ...).
    """
    args = trainer.args
    checkpoint = checkpoint_to_continue(args)
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
    trainer.save_model(_internal_call=True)
    if not trainer.is_world_process_zero():
        return
    history = [entry for entry in trainer.state.log_history if "loss" in entry]
    record = {
        "stage": stage,
        "steps": trainer.state.global_step,
        "final_loss": history[-1]["loss"] if history else None,
        "seconds_since_start_or_resumption": trainer.state.log_history[-1].get("train_runtime"),
        "seed": args.seed,
        "world_size": args.world_size,
        **environment(args.device),
        **{name: public_name(value) if name in NAMES else value for name, value in extra.items()},
        "log_history": trainer.state.log_history,
    }
    write_atomically(Path(args.output_dir, RECORD_FILE), to_json(record))
    if args.push_to_hub:
        push_folder(args)
