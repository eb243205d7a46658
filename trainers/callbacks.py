# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""What happens between the steps of every training run: logs, epochs, SIGTERM, and logs that can be published."""

import contextlib
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from transformers import Trainer, TrainerCallback
from transformers.integrations import TensorBoardCallback
from transformers.trainer_utils import IntervalStrategy

from unime.distributed import largest

TERMINATED = 128 + signal.SIGTERM  # what a shell expects of a program that SIGTERM ended


class LogOnSaveCallback(TrainerCallback):
    """Log at every checkpoint and at the last step, whatever the logging interval, unless nothing is logged.

    A logged loss is the mean since the log before. A window that reached over a checkpoint would lose its first part
    when the run is resumed there, and the log of a resumed run would differ from that of an unbroken one.
    """

    def on_train_begin(self, args, state, control, **kwargs):
        # A resumed run has the checkpoint's intervals, which would go before save_steps and logging_steps as they are now.
        state.compute_steps(args, state.max_steps)

    def on_step_end(self, args, state, control, **kwargs):
        if control.should_save or state.global_step >= state.max_steps:
            control.should_log = args.logging_strategy != IntervalStrategy.NO
        return control


class SetEpochCallback(TrainerCallback):
    """Tell the batch sampler, and a data set that wants to know, which epoch begins."""

    def __init__(self, trainer: Trainer):
        self.trainer = trainer

    def on_epoch_begin(self, args, state, control, **kwargs):
        for listener in (self.trainer.batch_sampler, self.trainer.train_dataset):
            if hasattr(listener, "set_epoch"):
                listener.set_epoch(int(state.epoch))


class StopAtSigterm(TrainerCallback):
    """Write a checkpoint and stop at the end of the step in which any process got SIGTERM, as schedulers send it.

    Attributes:
        stopped: whether it did.
    """

    def __init__(self):
        self.stopped = False
        self._received = False
        self._before = None

    def _receive(self, number, frame) -> None:
        self._received = True

    def on_train_begin(self, args, state, control, **kwargs):
        if threading.current_thread() is threading.main_thread():  # else Python lets nobody listen
            self._before = signal.signal(signal.SIGTERM, self._receive)

    def on_optimizer_step(self, args, state, control, **kwargs):
        """Before `on_step_end`, where other callbacks ask whether a checkpoint will be written."""
        (received,) = largest([int(self._received)], args.device)
        if received:
            self.stopped = control.should_save = control.should_training_stop = True
            if args.save_total_limit == 1:
                args.save_total_limit = (
                    2  # where another checkpoint is the best one, the library would delete this one
                )
        return control

    def on_train_end(self, args, state, control, **kwargs):
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)


class PublicTensorBoardCallback(TensorBoardCallback):
    """The library's callback, without the paths and the name of the machine that it writes."""

    def _open(self, args) -> None:
        if self.tb_writer is None:  # private: where the library's callback keeps it
            from torch.utils.tensorboard import SummaryWriter

            folder = self.logging_dir or Path(args.output_dir, "runs", time.strftime("%Y-%m-%d_%H-%M-%S"))
            with unnamed_host():
                self.tb_writer = SummaryWriter(folder)

    def on_log(self, args, state, control, **kwargs) -> None:
        if state.is_world_process_zero:
            self._open(args)  # an evaluation may come before training, or after it
            super().on_log(args, state, control, **kwargs)

    def on_train_begin(self, args, state, control, model=None, **kwargs) -> None:
        if not state.is_world_process_zero:
            return
        self._open(args)
        texts = {"args": args.to_dict()}
        if getattr(model, "config", None) is not None:
            texts["model_config"] = json.loads(model.config.to_json_string())
        for name, values in texts.items():
            self.tb_writer.add_text(name, json.dumps(without_paths(values), indent=2))


@contextlib.contextmanager
def unnamed_host() -> Iterator[None]:
    """Within it the machine has no name: TensorBoard puts it into the names of its files, and has no option not to."""
    known = socket.gethostname
    socket.gethostname = lambda: "host"
    try:
        yield
    finally:
        socket.gethostname = known


def without_paths(value: Any) -> Any:
    """Options, or a model's settings, with the last part only of what is a path of this machine."""
    if isinstance(value, dict):
        return {key: without_paths(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [without_paths(entry) for entry in value]
    if isinstance(value, str) and (os.path.isabs(value) or os.path.exists(value)):
        return Path(value).name
    return value


def use_public_tensorboard(trainer: Trainer) -> None:
    """Put `PublicTensorBoardCallback` in the place of the callback that `report_to` brought."""
    for callback in list(trainer.callback_handler.callbacks):
        if type(callback) is TensorBoardCallback and callback.tb_writer is None:
            trainer.remove_callback(callback)
            trainer.add_callback(PublicTensorBoardCallback())
