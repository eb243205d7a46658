# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""SIGTERM, which schedulers send before they kill: a training run ends after its step, with a checkpoint."""

import signal
import threading

from transformers import TrainerCallback

from unime.distributed import largest

TERMINATED = 128 + signal.SIGTERM  # what a shell expects of a program that SIGTERM ended


class StopAtSigterm(TrainerCallback):
    """Let the Trainer write a checkpoint and stop at the end of the step in which any process got SIGTERM.

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
        return control

    def on_train_end(self, args, state, control, **kwargs):
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)
