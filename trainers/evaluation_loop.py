# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""What a trainer's `evaluate()` gives: loss and retrieval inside the batches of a data set, and benchmark tasks.

Of the tasks all processes encode, and the first one scores. Their figures, `eval_<task>_<metric>` and over several tasks
`eval_tasks_<metric>` (over a suite's, `eval_<suite>_<metric>`), stand in the log beside the loss, and
`metric_for_best_model` may name one.
"""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch.utils.data import DataLoader
from transformers import EvalPrediction, Trainer
from transformers.trainer_utils import EvalLoopOutput
from transformers.utils import logging

from evaluation.arguments import EvaluationArguments
from evaluation.data_sets import find_data_sets
from evaluation.encoder import Encoder, EncodingError
from evaluation.parsers import load_data_set
from evaluation.similarities import MetricError
from evaluation.suites import is_suite
from evaluation.task import Task
from evaluation.vectors import Vectors
from trainers.embedding_config import EmbeddingTrainingConfig
from trainers.loading import picture_sizes
from trainers.metrics import SourceMeans
from unime.distributed import LongWaitGroup

logger = logging.get_logger(__name__)


class EncoderInTraining(Encoder):
    """The model between two steps of a trainer, under its engine."""

    def __init__(self, trainer: Trainer):
        args = trainer.args
        super().__init__(
            trainer.evaluation_model(),
            trainer.processing_class,
            args.per_device_eval_batch_size,
            max_length=args.max_length,
            num_workers=args.dataloader_num_workers,
        )
        self.trainer = trainer

    def embed(self, inputs: dict[str, Any]) -> torch.Tensor:
        """See `Encoder.embed`; not in inference mode, whose tensors would stay behind in weights that engines gather."""
        with torch.no_grad(), self.trainer.accelerator.autocast():
            return self.trainer.embed(self.model, {name: self._move(value) for name, value in inputs.items()})


class EvaluatingTrainer(Trainer):
    """The evaluation of an [`EmbeddingTrainer`], with tasks that only its first process needs to hold."""

    has_eval_tasks = False

    def hold_eval_tasks(
        self, given: Sequence[str | Path | Task] | None, args: EmbeddingTrainingConfig, processor
    ) -> None:
        """Keep tasks, and read those that are files or suites; the first process does, and checks rows and images."""
        given = args.eval_tasks if given is None else given
        self.has_eval_tasks = bool(given)
        self.eval_tasks = [source for source in given if isinstance(source, Task)]
        sizes = picture_sizes(processor, args)

        def read() -> None:
            sources = [str(source) for source in given if not isinstance(source, Task)]
            suites = [source for source in sources if is_suite(source)]
            data = [source for source in sources if source not in suites]
            arguments = EvaluationArguments("", data, args.output_dir, suite=suites, image_root=args.eval_image_root)
            for data_set in find_data_sets(arguments) if sources else []:
                self.eval_tasks.append(load_data_set(data_set, arguments, sizes))

        with LongWaitGroup() as ranks:
            ranks.broadcast_from_main(read)

    def evaluate(self, eval_dataset=None, ignore_keys=None, metric_key_prefix: str = "eval") -> dict[str, float]:
        """See `transformers.Trainer.evaluate`; a data set given here is evaluated by itself, without the tasks."""
        if eval_dataset is None and self.has_eval_tasks:
            self.task_figures = self._score_tasks(metric_key_prefix)
            if self.eval_dataset == {}:
                figures = self._take_task_figures()
                self.log(figures)
                self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, figures)
                return figures
        return super().evaluate(eval_dataset, ignore_keys, metric_key_prefix)

    def evaluation_loop(
        self,
        dataloader: DataLoader,
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        """Loss and retrieval inside the batches, of all rows and by source.

        The library's own loop takes a batch for one model input and gives each rank rows of its own.
        """
        model = self.evaluation_model()
        model.eval()
        means, predictions, count = SourceMeans(), [], 0
        for inputs in dataloader:
            batch = self._prepare_inputs(inputs)
            with torch.no_grad(), self.accelerator.autocast():
                chunks, is_filler = self._add_fillers(batch.pop("chunks"))
                embedded = [self.embed(model, chunk) for chunk in chunks]
                own = [part for part, filler in zip(embedded, is_filler, strict=True) if not filler]
                # A rank without a row of its own, in the last batch, has fillers only.
                embeddings = self._gather(torch.cat(own) if own else embedded[0][:0], batch)  # (U, D)
                loss, _ = self.batch_loss(embeddings, batch)
                losses, ranks, sources, pair = self.score_batch(embeddings, batch, loss)
            means.add(sources, {"loss": losses, "accuracy@1": (ranks == 1).double(), "mrr": 1 / ranks.double()})
            count += len(losses)
            if self.compute_metrics is not None or description == "Prediction":
                predictions.append([part.float().cpu() for part in pair])
            self.control = self.callback_handler.on_prediction_step(self.args, self.state, self.control)
        output = tuple(torch.cat(parts).numpy() for parts in zip(*predictions, strict=True)) if predictions else None
        found = means.of_all()
        if len(means.by_source()) > len(found):  # there are several
            found |= means.by_source()
        if self.compute_metrics is not None:
            found |= self.compute_metrics(EvalPrediction(predictions=output, label_ids=None))
        found = {f"{metric_key_prefix}_{name}": value for name, value in found.items()} | self._take_task_figures()
        return EvalLoopOutput(predictions=output, label_ids=None, metrics=found, num_samples=count)

    def evaluation_model(self) -> torch.nn.Module:
        """The model to call between steps, as a callback may: without DDP around it, whose forward would wait for the other ranks."""
        if not (self.is_deepspeed_enabled or self.is_fsdp_enabled):
            return self.accelerator.unwrap_model(self.model)
        if self.optimizer is None:
            raise ValueError(
                "DeepSpeed and FSDP2 evaluate while or after training, which splits the weights: call train()"
            )
        return self.model_wrapped

    def _take_task_figures(self) -> dict[str, float]:
        """The figures of the tasks, once: they belong to the first data set that is evaluated after them."""
        figures, self.task_figures = getattr(self, "task_figures", {}), {}
        return figures

    def _score_tasks(self, prefix: str) -> dict[str, float]:
        encoder = EncoderInTraining(self)
        vectors = Vectors(batch_size=encoder.batch_size)
        vectors.encode(lambda: [task.index for task in self.eval_tasks], lambda: encoder)
        with LongWaitGroup() as ranks:
            return ranks.broadcast_from_main(lambda: task_figures(self.eval_tasks, vectors, prefix))


def task_figures(tasks: Sequence[Task], vectors: Vectors, prefix: str = "eval") -> dict[str, float]:
    """The headline metrics of each task, and their means where several tasks have them; NaN where a task has none.

    The sets of a suite, `SUITE/NAME`, have means of their own, too: `eval_SUITE_<metric>`.
    """
    figures, by_metric = {}, defaultdict(list)
    for task in tasks:
        try:
            metrics = task.score(vectors.take(task.index, task.name)).metrics
        except (EncodingError, MetricError) as error:  # a model that has collapsed for now; the training goes on
            logger.warning(f"{task.name} has no figures: {error}")
            metrics = {}
        for metric in task.headline:
            value = metrics.get(metric, float("nan"))
            figures[f"{prefix}_{task.name}_{metric}"] = value
            for group in ("tasks", task.suite) if task.suite else ("tasks",):
                by_metric[group, metric].append(value)
    means = {
        f"{prefix}_{group}_{metric}": fmean(values) for (group, metric), values in by_metric.items() if len(values) > 1
    }
    return figures | means
