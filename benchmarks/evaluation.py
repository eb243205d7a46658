# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""An evaluation end to end against the published way, and the time of scoring alone.

    python -m benchmarks.evaluation --output benchmarks/results/evaluation.json

The published way (VLM2Vec's script) goes set by set: distinct queries, then distinct candidates, in batches in the order of
their texts, padded to the longest, through the causal LM with the states of all layers. Ours encodes each content once over
all sets, in batches of like length, without head. Both load the same random weights, read the same files and score.

The suite is made: pairs of sets that share labels, answers, or pictures as candidates, under texts of very unlike length.
`unshared` is the same without the second set of each pair, where only batches and head differ.
"""

from __future__ import annotations

import contextlib
import io
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import LlavaNextForConditionalGeneration
from transformers.utils import logging

from benchmarks.measure import interleaved_seconds, median_ratio, settings_of, show_and_write
from benchmarks.step_model import StepModelArguments, save_step_model
from evaluation.arguments import EvaluationArguments
from evaluation.report import environment
from evaluation.run import evaluate
from evaluation.similarities import Similarities
from evaluation.tasks import CaptionTask, MMEBTask
from modeling_unime import UniMEProcessor
from modeling_unime.modeling_unime import normalise, pool_last_token
from unime.options import parse_dataclasses

IMAGE = "<|image_1|>\n"
WORDS = "red green blue old small bright dog cat tree house river child runs sleeps under over behind with many few".split()


@dataclass
class EvaluationBenchmarkArguments(StepModelArguments):
    """What to measure."""

    output: str = field(default="evaluation.json", metadata={"help": "JSON file to write."})
    vocab_size: int = field(default=4000, metadata={"help": "Tokens of the vocabulary."})
    hidden_size: int = field(default=256, metadata={"help": "Width of the LLM."})
    rows: int = field(default=120, metadata={"help": "Rows of a set."})
    batch_size: int = field(default=16, metadata={"help": "Examples of a forward pass of the published way."})
    rounds: int = field(default=3, metadata={"help": "Timed rounds, after one to warm up."})
    scored: int = field(
        default=1000, metadata={"help": "Queries, and own candidates of each; pictures are 5 times as many."}
    )
    dimension: int = field(default=1024, metadata={"help": "Of the vectors whose scoring is timed."})


def make_suite(folder: Path, rows: int, seed: int) -> None:
    """Two sets each of labels, answers and pictures as candidates, in `eval_*.jsonl`, with their pictures."""
    rng = np.random.default_rng(seed)

    def sentence(longest: int) -> str:
        return " ".join(rng.choice(WORDS, size=int(longest ** rng.random()) + 1))

    for number in range(rows):
        pixels = rng.integers(0, 255, (int(rng.integers(40, 160)), int(rng.integers(40, 160)), 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    pictures = [f"{number}.png" for number in range(rows)]
    labels = list(dict.fromkeys(f"{sentence(4)} {number}" for number in range(rows)))
    answers = list(dict.fromkeys(f"{sentence(60)} {number}" for number in range(4 * rows)))
    for half in ("one", "two"):
        sets: dict[str, list[dict]] = {"class": [], "vqa": [], "t2i": []}
        for number, picture in enumerate(pictures):
            image = {"qry_img_path": picture, "tgt_img_path": [""] * rows}
            sets["class"].append({"qry_text": f"{IMAGE}Name {half}.", "tgt_text": rotated(labels, number), **image})
            chosen = rotated(answers, 4 * number)[:rows]
            sets["vqa"].append({"qry_text": f"{IMAGE}{half} {sentence(40)}?", "tgt_text": chosen, **image})
            query = {"qry_text": f"Find {half} {sentence(150)} {number}", "qry_img_path": ""}
            tgt = {"tgt_text": [f"{IMAGE}Represent it."] * rows, "tgt_img_path": rotated(pictures, number)}
            sets["t2i"].append({**query, **tgt})
        for name, content in sets.items():
            lines = "".join(json.dumps(row) + "\n" for row in content)
            (folder / f"eval_{name}_{half}.jsonl").write_text(lines, encoding="utf-8")


def rotated(items: list[str], first: int) -> list[str]:
    """The items from one on, then those before it."""
    return items[first:] + items[:first]


def run_ours(model: Path, files: Sequence[Path]) -> dict[str, float]:
    """Precision@1 of each file; nothing is there from before."""
    with tempfile.TemporaryDirectory() as output, contextlib.redirect_stdout(io.StringIO()):
        path = evaluate(EvaluationArguments(str(model), list(map(str, files)), output, device="cpu"))
        result = json.loads(path.read_text(encoding="utf-8"))
    return {entry["name"].rpartition("/")[2]: entry["metrics"]["precision@1"] for entry in result["data_sets"]}


@torch.no_grad()
def run_published(model: Path, files: Sequence[Path], batch_size: int) -> dict[str, float]:
    """Precision@1 of each file, as VLM2Vec's script computes it."""
    causal = LlavaNextForConditionalGeneration.from_pretrained(model).eval()
    processor = UniMEProcessor.from_backbone(str(model))

    def encode(pairs: set[tuple[str, str]], folder: Path) -> dict[tuple[str, str], np.ndarray]:
        ordered, vectors = sorted(pairs), {}
        for start in range(0, len(ordered), batch_size):
            batch = ordered[start : start + batch_size]
            images = [Image.open(folder / path).convert("RGB") if path else None for _, path in batch]
            inputs = processor(text=[text for text, _ in batch], images=images, instruction="", return_tensors="pt")
            states = causal(**inputs, output_hidden_states=True, return_dict=True).hidden_states[-1]
            embeddings = normalise(pool_last_token(states, inputs["attention_mask"])).numpy()
            vectors |= dict(zip(batch, embeddings, strict=True))
        return vectors

    figures = {}
    for file in files:
        rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        queries = encode({(row["qry_text"], row["qry_img_path"]) for row in rows}, file.parent)
        targets = encode(
            {pair for row in rows for pair in zip(row["tgt_text"], row["tgt_img_path"], strict=True)}, file.parent
        )
        right = 0
        for row in rows:
            own = np.stack([targets[pair] for pair in zip(row["tgt_text"], row["tgt_img_path"], strict=True)])
            right += int(np.argmax(own @ queries[row["qry_text"], row["qry_img_path"]]) == 0)
        figures[file.stem.removeprefix("eval_")] = right / len(rows)
    return figures


def scoring_seconds(arguments: EvaluationBenchmarkArguments) -> dict[str, float]:
    """Seconds of scoring alone: queries with candidates of their own, and a caption set both ways."""
    rng, count = np.random.default_rng(arguments.seed), arguments.scored
    vectors = rng.normal(size=(30 * count, arguments.dimension)).astype(np.float32)
    own = MMEBTask("own candidates", "", None)
    own.queries = list(range(count))
    own.candidates = [rng.choice(np.arange(count, 21 * count), count, replace=False) for _ in range(count)]
    captions = CaptionTask("captions", "", None)
    captions.queries = list(range(5 * count))
    captions.candidates = [np.arange(5) + 5 * (count + number) for number in range(5 * count)]
    seconds = {}
    for task in (own, captions):
        task.labels = [None] * len(task.queries)
        start = time.perf_counter()
        task.measure(Similarities(vectors))
        seconds[task.name] = time.perf_counter() - start
    return {
        f"{count} x {count} own candidates": seconds["own candidates"],
        f"{5 * count} x {25 * count}, both ways": seconds["captions"],
    }


def run(arguments: EvaluationBenchmarkArguments) -> dict:
    """Everything measured, ready for JSON."""
    logging.set_verbosity_error()
    with tempfile.TemporaryDirectory() as place:
        model, data = Path(place, "model"), Path(place, "data")
        data.mkdir()
        make_suite(data, arguments.rows, arguments.seed)
        files = sorted(data.glob("eval_*.jsonl"))
        unshared = [file for file in files if file.stem.endswith("one")]
        texts = [line for file in files for line in file.read_text(encoding="utf-8").splitlines()[:20]]
        parameters = save_step_model(model, arguments, texts)
        figures = {"ours": run_ours(model, files), "published": run_published(model, files, arguments.batch_size)}
        actions = {
            "ours": lambda: run_ours(model, files),
            "published": lambda: run_published(model, files, arguments.batch_size),
            "ours_unshared": lambda: run_ours(model, unshared),
            "published_unshared": lambda: run_published(model, unshared, arguments.batch_size),
        }
        seconds = interleaved_seconds(actions, arguments.rounds, torch.device("cpu"))
    return {
        "settings": settings_of(arguments),
        **environment(torch.device("cpu")),
        "parameters": parameters,
        "precision@1": figures,
        "median_seconds": {way: statistics.median(values) for way, values in seconds.items()},
        "seconds": seconds,
        "published_over_ours": {
            "suite": median_ratio(seconds["published"], seconds["ours"]),
            "unshared": median_ratio(seconds["published_unshared"], seconds["ours_unshared"]),
        },
        "scoring_seconds": scoring_seconds(arguments),
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Measure; the last line printed is the file written."""
    (arguments,) = parse_dataclasses(
        (EvaluationBenchmarkArguments,),
        argv,
        prog="python -m benchmarks.evaluation",
        description=__doc__.partition("\n")[0],
    )
    shown = ("parameters", "precision@1", "median_seconds", "published_over_ours", "scoring_seconds")
    show_and_write(run(arguments), shown, arguments.output)


if __name__ == "__main__":
    main()
