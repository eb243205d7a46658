# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""TensorBoard logs that can be published: without the paths and the name of the machine that the library writes there."""

import contextlib
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from transformers import Trainer
from transformers.integrations import TensorBoardCallback


@contextlib.contextmanager
def _unnamed_host() -> Iterator[None]:
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


class PublicTensorBoardCallback(TensorBoardCallback):
    """The library's callback, with a folder named by the time alone, and options and settings without paths."""

    def _init_summary_writer(self, args) -> None:
        if self.logging_dir is None:
            self.logging_dir = os.path.join(args.output_dir, "runs", time.strftime("%Y-%m-%d_%H-%M-%S"))
        with _unnamed_host():
            super()._init_summary_writer(args)

    def on_train_begin(self, args, state, control, model=None, **kwargs) -> None:
        if not state.is_world_process_zero:
            return
        if self.tb_writer is None:
            self._init_summary_writer(args)
        texts = {"args": args.to_dict()}
        if getattr(model, "config", None) is not None:
            texts["model_config"] = json.loads(model.config.to_json_string())
        for name, values in texts.items():
            self.tb_writer.add_text(name, json.dumps(without_paths(values), indent=2))


def use_public_tensorboard(trainer: Trainer) -> None:
    """Put `PublicTensorBoardCallback` in the place of the callback that `report_to` brought."""
    for callback in list(trainer.callback_handler.callbacks):
        if type(callback) is TensorBoardCallback and callback.tb_writer is None:
            trainer.remove_callback(callback)
            trainer.add_callback(PublicTensorBoardCallback())
