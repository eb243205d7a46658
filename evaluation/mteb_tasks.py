# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Data sets in MMEB's form as tasks of mteb (extra "mteb"), which has none of MMEB's."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from datasets import Dataset, Features, Image, Value
from mteb.abstasks import AbsTaskRetrieval
from mteb.abstasks.retrieval_dataset_loaders import RetrievalSplitData
from mteb.abstasks.task_metadata import TaskMetadata

from evaluation.load import load_task
from evaluation.mteb_model import check_modalities
from evaluation.tasks import IMAGE_TOKEN, MMEBTask
from unime.data.bad_rows import DataError
from unime.data.data_files import source_digest
from unime.data.example import MMEB_IMAGE, Example

SPLIT = "test"


class MMEBFile(AbsTaskRetrieval):
    """A local data file of MMEB's form as a task of mteb: each query ranks the candidates of its own row.

    Example::

        import mteb
        from evaluation.mteb_model import UniMEWrapper
        from evaluation.mteb_tasks import MMEBFile

        task = MMEBFile("data/eval_GQA.jsonl", image_root="data/images.zip")
        results = mteb.evaluate(UniMEWrapper("runs/stage2/model"), [task])
        results.task_results[0].get_score()  # precision@1, as `unime evaluate` gives it

    Beside mteb's scores stand ours (`precision@1`, which is the main one, `recall@5`, `recall@10`, `mrr`), in which a tie
    with a wrong candidate counts against a row. Other models than ours get texts without MMEB's image token.

    Args:
        path: The data file, in either layout of MMEB's rows.
        image_root: Folder or zip archive of the images; default as in `ImageStore.find`.
        name: Name of the task and of mteb's result file. Default: the name of the data set.
        limit: Use the first so many rows (default: all).
        on_bad_row: "error" (default) or "skip".

    Raises:
        DataError: If the file is not of MMEB's form, or a row is bad.
        TaskRefused: While evaluating, if the model does not read all that the rows hold.
    """

    def __init__(
        self,
        path: str | Path,
        image_root: str | None = None,
        name: str | None = None,
        limit: int | None = None,
        on_bad_row: Literal["error", "skip"] = "error",
        **options: Any,
    ):
        self.rows = load_task(path, image_root, limit=limit, on_bad_row=on_bad_row)
        if type(self.rows) is not MMEBTask:
            raise DataError(f"{path}: is of the form {self.rows.form!r}; only MMEB's form becomes a task of mteb")
        self.k_values = (1, 5, 10, max(map(len, self.rows.candidates)))  # mteb drops candidates beyond the last
        self.name = name or self.rows.name.replace("/", "_")
        super().__init__(**options)

    @cached_property  # mteb takes an attribute of the object away when it unloads the data
    def metadata(self) -> TaskMetadata:
        """What mteb wants to know of a task."""
        sides = [self._modalities(numbers) for numbers in self._contents()]
        category = "2".join("".join(modality[0] for modality in side) for side in sides)
        return TaskMetadata(
            name=self.name,
            description=f"{len(self.rows.queries)} rows of MMEB's form, each with its own candidates.",
            dataset={"path": f"local/{self.name}", "revision": source_digest(self.rows.source)[:16]},
            type="Retrieval" if category == "t2t" else "Any2AnyRetrieval",
            category=category,
            modalities=sorted({modality for side in sides for modality in side}),
            eval_splits=[SPLIT],
            eval_langs=["eng-Latn"],
            main_score="precision@1",
            prompt={"query": "", "document": ""},  # texts are taken as they are; some rows have an instruction
        )

    def _contents(self) -> tuple[list[int], list[int]]:
        """Contents of the queries, one for each row, and of all candidates, each once."""
        return self.rows.queries, np.unique(np.concatenate(self.rows.candidates)).tolist()

    def _modalities(self, numbers: Sequence[int]) -> list[str]:
        examples = [self.rows.index.examples[number] for number in numbers]
        found = {
            "image": any(example.image is not None for example in examples),
            "text": any(example.text for example in examples),
        }
        return [modality for modality, is_there in found.items() if is_there]

    def load_data(self, num_proc: int | None = None, **options: Any) -> None:
        """Build mteb's tables; pictures in folders are read when they are needed, those in archives now."""
        if self.data_loaded:
            return
        queries, corpus = self._contents()
        names = [str(row) for row in range(len(queries))]
        self.dataset = {
            "default": {
                SPLIT: RetrievalSplitData(
                    queries=self._table(names, queries),
                    corpus=self._table([str(number) for number in corpus], corpus),
                    relevant_docs={
                        name: {str(own[0]): 1} for name, own in zip(names, self.rows.candidates, strict=True)
                    },
                    top_ranked={
                        name: [str(number) for number in dict.fromkeys(own.tolist())]
                        for name, own in zip(names, self.rows.candidates, strict=True)
                    },
                )
            }
        }
        self.data_loaded = True

    def _table(self, names: list[str], numbers: Sequence[int]) -> Dataset:
        examples = [self.rows.index.examples[number] for number in numbers]
        modalities = self._modalities(numbers)
        columns: dict[str, list] = {"id": names}
        features = {"id": Value("string")}
        if "text" in modalities:
            columns["text"] = [_text(example) for example in examples]
            features["text"] = Value("string")
        if any(example.instruction for example in examples):
            columns["instruction"] = [example.instruction or "" for example in examples]
            features["instruction"] = Value("string")
        if "image" in modalities:
            columns["image"] = [_image(example) for example in examples]
            features["image"] = Image()
        return Dataset.from_dict(columns, Features(features))

    def evaluate(self, model, *arguments, **options):
        """See `AbsTaskRetrieval.evaluate`."""
        check_modalities(model.mteb_model_meta, self.metadata)
        return super().evaluate(model, *arguments, **options)

    def task_specific_scores(self, scores, qrels, results, hf_split, hf_subset) -> dict[str, float]:
        """Our metrics of the similarities that mteb has got."""
        return self.rows.measure(_Found(self.rows, results)).metrics


class _Found:
    """The similarities in mteb's results, by the numbers of contents, as a task of ours asks for them."""

    def __init__(self, rows: MMEBTask, results: dict[str, dict[str, float]]):
        self.by_query: dict[int, dict[str, float]] = {}
        for row, query in enumerate(rows.queries):
            self.by_query.setdefault(query, {}).update(results[str(row)])

    def rows(self, queries: Sequence[int], candidates: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
        """See `Similarities.rows`."""
        for query, own in zip(queries, candidates, strict=True):
            yield np.array([self.by_query[query][str(number)] for number in own])


def _text(example: Example) -> str:
    """The text without MMEB's image token where our processor puts the image there anyway, or no image at all."""
    text = example.text or ""
    if example.image is None or example.instruction:
        return MMEB_IMAGE.sub("", text)
    return text.removeprefix(f"{IMAGE_TOKEN}\n")


def _image(example: Example) -> dict[str, Any] | None:
    """A picture in the form of `datasets.Image`: the path of a file, or the bytes in an archive."""
    if example.image is None:
        return None
    root, name = example.store.locate(example.image)
    if root.is_dir():
        return {"path": str(root.resolve() / name), "bytes": None}
    return {"path": None, "bytes": example.store.read_bytes(example.image)}
