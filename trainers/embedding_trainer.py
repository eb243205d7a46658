# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""What both stages' trainers share: the gradient-cached step, statistics in the logs, checkpoints one can rely on."""

import contextlib
import json
import time
from collections import defaultdict
from pathlib import Path

import torch
from accelerate import PartialState
from accelerate.utils import DistributedType
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, IntervalStrategy

from modeling_unime import UniMEModel
from modeling_unime.file_modes import give_weights_the_usual_mode
from trainers.aligned_chunks import align_chunks
from trainers.batch_sampler import GlobalBatchSampler
from trainers.gradient_cache import gradient_cached_step
from trainers.split_weights import set_up_fsdp2
from trainers.tensorboard import use_public_tensorboard
from unime.distributed import gather_rows, world_size


class LogAtCheckpoints(TrainerCallback):
    """Log at every checkpoint and at the last step, whatever the logging interval, unless nothing is logged.

    A logged loss is the mean since the log before. A window that reached over a checkpoint would lose its first part
    when the run is resumed there, and the log of a resumed run would differ from that of an unbroken one.
    """

    def on_step_end(self, args, state, control, **kwargs):
        if control.should_save or state.global_step >= state.max_steps:
            control.should_log = args.logging_strategy != IntervalStrategy.NO
        return control


class TellEpoch(TrainerCallback):
    """Tell the batch sampler, and a data set that wants to know, which epoch begins."""

    def __init__(self, trainer: "EmbeddingTrainer"):
        self.trainer = trainer

    def on_epoch_begin(self, args, state, control, **kwargs):
        for listener in (self.trainer.batch_sampler, self.trainer.train_dataset):
            if hasattr(listener, "set_epoch"):
                listener.set_epoch(int(state.epoch))


class EmbeddingTrainer(Trainer):
    """Base of [`DistillationTrainer`] and [`HardNegativeTrainer`].

    The collator is given the rows of a whole global batch, on every rank, and makes a dict of it with `chunks`, a list of
    model inputs of this rank's share, and whatever `batch_loss` wants. A subclass supplies `batch_loss`; the training
    loop, checkpoints and everything else are those of `transformers.Trainer`.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        if self.data_collator.share != self.args.share:
            raise ValueError(
                f"the collator makes the share of process {self.data_collator.share.rank} of "
                f"{self.data_collator.share.world_size}, but this is {self.args.share.rank} of "
                f"{self.args.share.world_size}; give it share=args.share"
            )
        if self.args.fsdp and not self.accelerator.is_fsdp2:
            raise ValueError("fsdp is asked for, but accelerate would not run it: FSDP2 needs several processes")
        if self.is_fsdp_enabled:
            set_up_fsdp2(self.accelerator.state.fsdp_plugin, self.model, self.args)
        self.model_accepts_loss_kwargs = False
        self.batch_sampler: GlobalBatchSampler | None = None
        use_public_tensorboard(self)
        self.add_callback(LogAtCheckpoints())
        self.add_callback(TellEpoch(self))
        self._statistics: dict[str, list[torch.Tensor]] = defaultdict(list)
        self._tokens, self._since = 0, time.monotonic()

    def create_accelerator_and_postprocess(self) -> None:
        """As the library does, and with FSDP2 on a CPU too.

        accelerate takes FSDP for accelerators only and would run DDP on a CPU, without a word. Its state is told of
        another kind of device until it has chosen; torch itself splits weights over gloo as well.
        """
        state = PartialState()
        if self.args.fsdp and state.distributed_type == DistributedType.MULTI_CPU:
            state._shared_state["distributed_type"] = DistributedType.MULTI_XPU
        super().create_accelerator_and_postprocess()

    def make_batch_sampler(self) -> GlobalBatchSampler:
        """Which rows make up each global batch."""
        return GlobalBatchSampler(len(self.train_dataset), self.global_batch_size, self.data_seed)

    @property
    def global_batch_size(self) -> int:
        """Rows of a batch of all ranks; gradient accumulation does not enlarge it."""
        return self.args.per_device_train_batch_size * world_size()

    @property
    def data_seed(self) -> int:
        """Seed of the order of the rows."""
        return self.args.seed if self.args.data_seed is None else self.args.data_seed

    def get_train_dataloader(self) -> DataLoader:
        """Whole global batches on every rank; the collator picks the rank's share, so nothing is divided here."""
        self.batch_sampler = self.make_batch_sampler()
        workers = self.args.dataloader_num_workers
        return DataLoader(
            self.train_dataset,
            batch_sampler=self.batch_sampler,
            collate_fn=self.data_collator,
            num_workers=workers,
            multiprocessing_context=self.args.dataloader_multiprocessing_context,
            pin_memory=self.args.dataloader_pin_memory,
            persistent_workers=workers > 0 and self.args.dataloader_persistent_workers,
            prefetch_factor=self.args.dataloader_prefetch_factor,
            # Its own: an iterator begins with a random number, which would move dropout's masks, and a resumed run begins
            # more of them than an unbroken one with persistent workers.
            generator=torch.Generator().manual_seed(self.data_seed),
        )

    def batch_loss(self, embeddings: torch.Tensor, batch: dict) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Loss of the global batch and its statistics.

        Args:
            embeddings: (U, D) of the distinct inputs of all ranks, in the collator's order. Gradient flows to this
                rank's own.
            batch: the batch without `chunks`.

        Returns:
            Scalar loss over all ranks' rows (the same number on every rank) and scalars for the log.
        """
        raise NotImplementedError

    def embed(self, model, chunk: dict) -> torch.Tensor:
        """Embeddings (n, D) of one chunk."""
        with self.compute_loss_context_manager():
            return model(**chunk).embeddings

    def training_step(self, model, inputs, num_items_in_batch=None) -> torch.Tensor:
        """One gradient-cached step; the gradient is that of the plain loss on the whole batch of all ranks."""
        model.train()
        batch = self._prepare_inputs(inputs)
        chunks = batch.pop("chunks")
        self._tokens += sum(int(chunk["attention_mask"].sum()) for chunk in chunks if "attention_mask" in chunk)
        is_filler = [False] * len(chunks)
        if world_size() > 1:
            chunks, is_filler = align_chunks(chunks, self._make_filler, self.args.device)

        def loss_function(embeddings: torch.Tensor) -> torch.Tensor:
            own = embeddings[batch["own_places"]]  # (n, D) in the order of the share
            everything = gather_rows(own)[batch["places"]]  # (U, D)
            loss, statistics = self.batch_loss(everything, batch)
            for name, value in statistics.items():
                self._statistics[name].append(torch.as_tensor(value).detach())
            return loss

        loss = gradient_cached_step(
            chunks,
            lambda chunk: self.embed(model, chunk),
            loss_function,
            backward=self._backward,
            defer_synchronisation=lambda: self._defer_synchronisation(model),
            # Each rank's gradient covers its own rows only, and ranks are averaged: see gather_rows.
            scale=world_size() / self.current_gradient_accumulation_steps,
            device=self.args.device,
            keep_graph=not self.args.uses_gradient_cache,
            is_filler=is_filler,
        )
        return loss / self.current_gradient_accumulation_steps

    def _make_filler(self, with_image: bool) -> dict:
        return self._prepare_inputs(self.data_collator.make_filler(with_image))

    def _backward(self, loss: torch.Tensor) -> None:
        # scale_wrt_gas: DeepSpeed would divide by the accumulation steps once more.
        is_deepspeed = self.accelerator.distributed_type == DistributedType.DEEPSPEED
        self.accelerator.backward(loss, **({"scale_wrt_gas": False} if is_deepspeed else {}))

    @contextlib.contextmanager
    def _defer_synchronisation(self, model):
        """Keep ranks from exchanging gradients, and DeepSpeed from stepping, before the last chunk."""
        if self.accelerator.distributed_type != DistributedType.DEEPSPEED:
            with self.accelerator.no_sync(model):
                yield
            return
        state = self.accelerator.gradient_state
        before = state.sync_gradients
        state._set_sync_gradients(False)
        try:
            yield
        finally:
            state._set_sync_gradients(before)

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        """Write a checkpoint's model under its own class, whose files the library copies beside it, not FSDP2's."""
        if self.is_fsdp_enabled and isinstance(self.model, UniMEModel):
            wrapped = type(self.model)
            _, own = wrapped.__bases__
            wrapped.__name__, wrapped.__module__ = own.__name__, own.__module__
        super()._save(output_dir, state_dict)
        if self.args.should_save:
            give_weights_the_usual_mode(output_dir or self.args.output_dir)  # an adapter's are peft's to write

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the mean of each statistic since the last log."""
        if "loss" in logs:
            for name, values in self._statistics.items():
                logs[name] = torch.stack([value.float() for value in values]).mean().item()
            self._statistics.clear()
            now = time.monotonic()
            # All ranks have nearly the same share of the tokens; each is counted once, however often it is embedded.
            logs["tokens_per_second"] = self._tokens * world_size() / (now - self._since)
            self._tokens, self._since = 0, now
        super().log(logs, start_time)

    def floating_point_ops(self, inputs) -> int:
        """Not counted: a batch is several chunks, for which the library's estimate does not hold."""
        return 0


def last_complete_checkpoint(output_dir: str) -> str | None:
    """Newest checkpoint of a run that was written to its end, or None.

    `trainer_state.json` is the last file the Trainer writes into a checkpoint; a process killed while saving leaves a
    folder without it or with a part of it. Other ranks save their random state beside it.

    Args:
        output_dir: the run's folder.
    """
    found = []
    for folder in Path(output_dir).glob(f"{PREFIX_CHECKPOINT_DIR}-*"):
        number = folder.name.rsplit("-", 1)[1]
        if not number.isdigit():
            continue
        try:
            json.loads((folder / "trainer_state.json").read_text(encoding="utf-8"))
        except (OSError, json.JSONDecodeError):
            continue
        ranks = len(list(folder.glob("rng_state*.pth")))
        if ranks == world_size():
            found.append((int(number), str(folder)))
    return max(found)[1] if found else None
