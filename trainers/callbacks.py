# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""What happens between the steps of every training run."""

from transformers import Trainer, TrainerCallback
from transformers.trainer_utils import IntervalStrategy


class LogOnSaveCallback(TrainerCallback):
    """Log at every checkpoint, evaluation and at the last step, whatever the logging interval, unless nothing is logged.

    A logged loss is the mean since the log before. A window that reached over a checkpoint would lose its first part
    when the run is resumed there, and the log of a resumed run would differ from that of an unbroken one.
    """

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
