# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""What both stages' trainers share: the gradient-cached step, checkpoints, the finished folder."""

import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig
from torch.utils.data import DataLoader
from transformers import PreTrainedModel
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from modeling_unime import UniMEModel
from modeling_unime.saved_folder import give_weights_the_usual_mode
from trainers.batch_sampler import GlobalBatchSampler
from trainers.callbacks import LogOnSaveCallback, SetEpochCallback, use_public_tensorboard
from trainers.embedding_config import EmbeddingTrainingConfig
from trainers.engines import (
    allow_fsdp_on_cpu,
    check_engine,
    defer_synchronisation,
    engine_of,
    gather_trained,
    give_own_class_name,
    set_up_fsdp2,
)
from trainers.evaluation_loop import EvaluatingTrainer
from trainers.gradient_cache import add_fillers, gradient_cached_step
from trainers.loading import FinishedModel, load_processor, prepare_model
from trainers.lora import lora_config
from trainers.losses.matryoshka import MatryoshkaLoss, check_width
from trainers.push import push_folder
from unime.distributed import gather_rows, world_size


class EmbeddingTrainer(EvaluatingTrainer):
    """Base of [`DistillationTrainer`] and [`HardNegativeTrainer`].

    The collator is given the rows of a whole global batch, on every rank, and makes a dict of it with `chunks`, a list of
    model inputs of this rank, their `local_order` and `global_order` (see `trainers.chunks.RankSlice`), and whatever
    `batch_loss` wants. The training loop and checkpoints are those of `transformers.Trainer`.

    Args:
        model: folder or Hub name of a UniME model or a multimodal LLM, or a [`UniMEModel`].
        args: the stage's options (default: all defaults).
        data_collator: makes batches of the rows as they are given (default: the rows are read and checked, and the
            stage's own collator makes the batches).
        processing_class: the model's processor (default: loaded from where `model` is).
        peft_config: LoRA other than `args` say; without target modules the LLM's linear layers.
        model_init: makes the model, instead of `model`, for every `train()` and every trial of a search.
        eval_tasks: benchmarks that `evaluate()` scores, too: files as `unime evaluate` takes them, or `Task`s (default: `args`').
        options: see `transformers.Trainer`.
    """

    config_class: type[EmbeddingTrainingConfig]

    def __init__(
        self,
        model: str | Path | PreTrainedModel | None = None,
        args: EmbeddingTrainingConfig | None = None,
        data_collator=None,
        train_dataset=None,
        eval_dataset=None,
        processing_class=None,
        model_init=None,
        peft_config: PeftConfig | None = None,
        eval_tasks=None,
        **options,
    ):
        args = self.config_class() if args is None else args
        if not isinstance(args, self.config_class):
            raise TypeError(f"args must be a {self.config_class.__name__}, got {type(args).__name__}")
        if options.get("compute_loss_func") is not None:
            raise ValueError(
                "compute_loss_func has no effect: the loss sees all embeddings of a batch, choose loss_type"
            )
        if (model is None) == (model_init is None):
            raise ValueError("give either model or model_init")
        rank_slice = getattr(data_collator, "rank_slice", args.rank_slice)
        if rank_slice != args.rank_slice:
            raise ValueError(
                f"the collator makes the inputs of process {rank_slice.rank} of {rank_slice.world_size}, but this is "
                f"{args.process_index} of {args.world_size}; give it rank_slice=args.rank_slice"
            )
        self.peft_config = lora_config(args) if peft_config is None else peft_config
        check_engine(args, lora=self.peft_config is not None)
        if processing_class is None and (data_collator is None or isinstance(model, str | Path)):
            processing_class = load_processor(model, args)
        self._takes_rows_as_they_are = data_collator is not None  # a caller's own collator gets the caller's rows
        # Rows are checked before the weights are loaded, which takes minutes.
        train_dataset = self._make_dataset(train_dataset, "train_dataset", args, processing_class)
        eval_dataset = self._make_dataset(eval_dataset, "eval_dataset", args, processing_class)
        self.hold_eval_tasks(eval_tasks, args, processing_class)
        if train_dataset is not None:
            self.make_batch_sampler(train_dataset, args)  # data that give no batch are refused
        super().__init__(
            model=None if model is None else self.make_trainable(model, args),
            args=args,
            data_collator=data_collator or self.make_collator(args, processing_class),
            train_dataset=self._finish_dataset(train_dataset, args),
            eval_dataset={}
            if eval_dataset is None and self.has_eval_tasks
            else self._finish_dataset(eval_dataset, args),
            processing_class=processing_class,
            model_init=model_init,
            **options,
        )
        if args.fsdp and not self.accelerator.is_fsdp2:
            raise ValueError("fsdp is asked for, but accelerate would not run it: FSDP2 needs several processes")
        if self.is_fsdp_enabled:
            set_up_fsdp2(self.accelerator.state.fsdp_plugin, self.model, self.args)
        self.model_accepts_loss_kwargs = False
        self.loss = self._make_loss(args)
        self.batch_sampler: GlobalBatchSampler | None = None
        use_public_tensorboard(self)
        self.add_callback(LogOnSaveCallback())
        self.add_callback(SetEpochCallback(self))
        self._statistics: dict[str, list[torch.Tensor]] = defaultdict(list)
        self._tokens, self._since = 0, time.monotonic()

    def make_trainable(self, source: str | Path | PreTrainedModel, args: EmbeddingTrainingConfig) -> torch.nn.Module:
        """The model, loaded if need be, with all frozen but what is trained."""
        self.finished_model = FinishedModel(source, args, self.peft_config)
        model = prepare_model(source, args, self.peft_config)
        if args.matryoshka_dims:
            # CLIP names its width otherwise; what names none is seen in a step.
            config = getattr(model, "config", None)
            width = getattr(config, "projection_dim", getattr(config, "hidden_size", None))
            check_width(args.matryoshka_dims, width or max(args.matryoshka_dims))
        return model

    def call_model_init(self, trial=None) -> torch.nn.Module:
        """A fresh model of `model_init`, ready to train: at first, at every `train()` and in every trial of a search."""
        return self.make_trainable(super().call_model_init(trial), self.args)

    def _make_dataset(self, data: Any, name: str, args: EmbeddingTrainingConfig, processor):
        return data if data is None or self._takes_rows_as_they_are else self.make_dataset(data, name, args, processor)

    def _finish_dataset(self, data: Any, args: EmbeddingTrainingConfig):
        return data if data is None or self._takes_rows_as_they_are else self.finish_dataset(data, args)

    def make_dataset(self, data: Any, name: str, args: EmbeddingTrainingConfig, processor):
        """The data set made of what the caller gave as `name`, after a look at every row."""
        raise NotImplementedError

    def finish_dataset(self, dataset: Any, args: EmbeddingTrainingConfig):
        """What takes long about a data set, and waits until the model is known to be sound."""
        return dataset

    def make_collator(self, args: EmbeddingTrainingConfig, processor):
        """The collator of a caller that gives none."""
        raise NotImplementedError

    def make_loss(self, args: EmbeddingTrainingConfig) -> torch.nn.Module:
        """The loss that the options ask for."""
        raise NotImplementedError

    def _make_loss(self, args: EmbeddingTrainingConfig) -> torch.nn.Module:
        loss = self.make_loss(args)
        return MatryoshkaLoss(loss, args.matryoshka_dims, args.matryoshka_weights) if args.matryoshka_dims else loss

    def make_batch_sampler(self, dataset, args: EmbeddingTrainingConfig) -> GlobalBatchSampler:
        """Which rows make up each global batch."""
        return GlobalBatchSampler(len(dataset), args.global_batch_size, args.order_seed)

    def batch_loss(self, embeddings: torch.Tensor, batch: dict) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Loss of the global batch, the same number on every rank, and scalars for the log.

        Args:
            embeddings: (U, D) of the distinct inputs of all ranks, in the collator's order. Gradient flows to this
                rank's own.
            batch: the batch without `chunks`.
        """
        raise NotImplementedError

    def score_batch(
        self, embeddings: torch.Tensor, batch: dict, loss: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, list[str], tuple[torch.Tensor, torch.Tensor]]:
        """What evaluation looks at, after `batch_loss` has returned `loss`.

        For each of N rows the loss (N,), the place of what is to be found (N,) and the name of its source; and what
        `compute_metrics` gets as predictions, a tuple of (N, D) tensors.
        """
        raise NotImplementedError

    def get_train_dataloader(self) -> DataLoader:
        """Whole global batches on every rank; the collator picks the rank's share, so nothing is divided here."""
        self.batch_sampler = self.make_batch_sampler(self.train_dataset, self.args)
        self.loss = self._make_loss(self.args)  # a trial of a search may have other options
        return self._make_loader(self.train_dataset, self.batch_sampler)

    def _run_epoch(self, **given) -> None:
        """A run that ended before its model was written is at its last step already; the library would take one more."""
        if self.state.global_step < self.state.max_steps:
            super()._run_epoch(**given)
        else:
            self.control.should_training_stop = True

    def get_eval_dataloader(self, eval_dataset=None) -> DataLoader:
        """All rows in batches that are the same at every evaluation."""
        if eval_dataset is None or isinstance(eval_dataset, str):
            name, dataset = eval_dataset, self.eval_dataset
            dataset = dataset if name is None else dataset[name]
        else:
            dataset = self._make_dataset(eval_dataset, "eval_dataset", self.args, self.processing_class)
            dataset = self._finish_dataset(dataset, self.args)
        if dataset is None or dataset == {}:
            raise ValueError("there is nothing to evaluate: give eval_dataset")
        size = self.args.per_device_eval_batch_size * world_size()
        sampler = GlobalBatchSampler(len(dataset), size, self.args.order_seed, drop_last=False)
        return self._make_loader(dataset, sampler)

    def get_test_dataloader(self, test_dataset) -> DataLoader:
        return self.get_eval_dataloader(test_dataset)

    def _make_loader(self, dataset, batch_sampler: GlobalBatchSampler) -> DataLoader:
        workers = self.args.dataloader_num_workers
        return DataLoader(
            dataset,
            batch_sampler=batch_sampler,
            collate_fn=self.data_collator,
            num_workers=workers,
            multiprocessing_context=self.args.dataloader_multiprocessing_context,
            pin_memory=self.args.dataloader_pin_memory,
            persistent_workers=workers > 0 and self.args.dataloader_persistent_workers,
            prefetch_factor=self.args.dataloader_prefetch_factor,
            # Its own: an iterator begins with a random number, which would move dropout's masks, and a resumed run begins
            # more of them than an unbroken one with persistent workers.
            generator=torch.Generator().manual_seed(self.args.order_seed),
        )

    def embed(self, model, chunk: dict) -> torch.Tensor:
        """Embeddings (n, D) of one chunk."""
        with self.compute_loss_context_manager():
            return model(**chunk).embeddings

    def training_step(self, model, inputs, num_items_in_batch=None) -> torch.Tensor:
        """One gradient-cached step; the gradient is that of the plain loss on the whole batch of all ranks."""
        model.train()
        # Private: moves a batch, and under DeepSpeed casts it, as the library does.
        batch = self._prepare_inputs(inputs)
        chunks = batch.pop("chunks")
        if len(batch["global_order"]) < world_size():
            raise ValueError(
                f"a batch of {len(batch['global_order'])} distinct inputs cannot be shared by {world_size()} processes; raise "
                "per_device_train_batch_size"
            )
        self._tokens += sum(int(chunk["attention_mask"].sum()) for chunk in chunks if "attention_mask" in chunk)
        chunks, is_filler = self._add_fillers(chunks)

        def loss_function(embeddings: torch.Tensor) -> torch.Tensor:
            loss, statistics = self.batch_loss(self._gather(embeddings, batch), batch)
            for name, value in statistics.items():
                self._statistics[name].append(torch.as_tensor(value).detach())
            return loss

        loss = gradient_cached_step(
            chunks,
            lambda chunk: self.embed(model, chunk),
            loss_function,
            backward=self._backward,
            defer_synchronisation=lambda: defer_synchronisation(self.accelerator, model),
            device=self.args.device,
            keep_graph=not self.args.uses_gradient_cache,
            is_filler=is_filler,
        )
        return loss / self.current_gradient_accumulation_steps

    def _add_fillers(self, chunks: list[dict]) -> tuple[list[dict], list[bool]]:
        """Chunks with those that keep ranks in step, and which of them do so."""
        if world_size() == 1:
            return chunks, [False] * len(chunks)

        def make_filler(with_image: bool) -> dict:
            return self._prepare_inputs(self.data_collator.make_filler(with_image))

        return add_fillers(chunks, make_filler, self.args.device)

    def _gather(self, embeddings: torch.Tensor, batch: dict) -> torch.Tensor:
        """Embeddings (U, D) of the distinct inputs of all ranks out of those of this rank's chunks, (n, D)."""
        return gather_rows(embeddings[batch["local_order"]])[batch["global_order"]]

    def _backward(self, loss: torch.Tensor) -> None:
        # Each rank's gradient covers its own rows only, and ranks are averaged: see gather_rows. Private: the number of
        # batches of a step, which are fewer at the end of an epoch.
        loss = loss * (world_size() / self.current_gradient_accumulation_steps)
        # scale_wrt_gas: DeepSpeed would divide by the accumulation steps once more.
        self.accelerator.backward(loss, **({"scale_wrt_gas": False} if self.is_deepspeed_enabled else {}))

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

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Write the finished, complete model folder: LoRA added, engine undone, processor beside it.

        A checkpoint, which the library writes through this method too, holds the weights as they are trained.

        Args:
            output_dir: the folder (default: that of the run).
        """
        output_dir = self.args.output_dir if output_dir is None else output_dir
        if Path(output_dir).name.startswith(f"{PREFIX_CHECKPOINT_DIR}-"):
            self._save_checkpoint_model(output_dir)
            return
        trained = gather_trained(self.model, engine_of(self.args), self.is_world_process_zero())
        if self.is_world_process_zero():
            finished = self.finished_model.build(self.accelerator.unwrap_model(self.model), trained)
            # As this run trained it, whatever the source says.
            if self.args.matryoshka_dims or hasattr(finished.config, "matryoshka_dimensions"):
                finished.config.matryoshka_dimensions = sorted(self.args.matryoshka_dims) or None
            finished.save_pretrained(output_dir)
            self.processing_class.save_pretrained(output_dir)
        self.accelerator.wait_for_everyone()
        if self.args.push_to_hub and not _internal_call:
            self.push_to_hub()

    def _save_checkpoint_model(self, folder: str) -> None:
        if self.is_fsdp_enabled and isinstance(self.model, UniMEModel):
            give_own_class_name(self.model)
        super().save_model(folder, _internal_call=True)
        if self.args.should_save:
            give_weights_the_usual_mode(folder)  # an adapter's are peft's to write

    def push_to_hub(
        self,
        commit_message: str = "Finished model",
        blocking: bool = True,
        token: str | None = None,
        revision: str | None = None,
        private: bool | None = None,
        **options,
    ):
        """Push the finished model folder and its card, once: no checkpoints, logs or options of the run.

        Args:
            commit_message: of the one commit.
            blocking: only True.
            token: of the Hub (default: `hub_token`).
            revision: branch (default: `hub_revision`, else main).
            private: whether a new repository is (default: `hub_private_repo`).

        Returns:
            The commit, on the main process.
        """
        if not blocking or options:
            raise ValueError(f"push_to_hub: {', '.join(options) or 'blocking=False'} has no effect here, leave it out")
        self.save_model(_internal_call=True)
        return (
            push_folder(self.args, token, revision, private, commit_message) if self.is_world_process_zero() else None
        )

    def create_accelerator_and_postprocess(self) -> None:
        if self.args.fsdp:
            allow_fsdp_on_cpu()
        super().create_accelerator_and_postprocess()

    def floating_point_ops(self, inputs: Mapping) -> int:
        """Not counted: a batch is several chunks, for which the library's estimate does not hold."""
        return 0
