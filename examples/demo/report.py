# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Writes the demo's report, one HTML file that needs nothing else: `python -m examples.demo.report FOLDER`.

What the folder must hold: `data/` (see `examples.demo.scenes`), `models/` and `results/` with base, stage1, unime and
vlm2vec, `timings.json` and `summary.json`. Every number comes from these files or is computed from these models here.
"""

import argparse
from html import escape
from pathlib import Path

import numpy as np

from evaluation.encoder import Encoder
from evaluation.results_html import TEMPLATES, results_html
from examples.demo.report_charts import GREY, seconds
from examples.demo.report_data import MODELS, Demo, ReportError, read_demo
from examples.demo.report_gallery import SECTIONS, TOP, Query, gallery_section, load_queries
from examples.demo.report_similarity import evaluation_sentences, similarity_section
from examples.demo.report_style import STYLE
from examples.demo.report_training import training_section
from examples.demo.report_usage import usage_section
from trainers.teachers import SentenceTransformersTeacher, Teacher
from unime.data.bad_rows import DataError
from unime.data.example import Example
from unime.data.images import ImageError
from unime.files import write_atomically

TEACHER = "all-MiniLM-L6-v2"
TITLE = "UniME in miniature"
GALLERY_MODELS = ("base", "unime")
MATRIX_MODELS = ("base", "stage1")
TRAINING_TEXT = (
    "Each point is a mean over the steps since the point before. Point at a line to read its values; beside the names "
    "stand the first and the last one."
)
SIMILARITY_TEXT = (
    "Each square shows how similar two evaluation sentences are to a model (cosine of their vectors); dark is near. "
    "The sentences are the first ones of the file, ordered so that those the teacher finds similar are neighbours. "
    "Each map has its own scale: what counts is the pattern, and a student that learned shows the teacher’s."
)
GALLERY_TEXT = (
    f"The best {TOP} candidates of base and UniME, with their cosine. The right one has a green frame, a wrong one in "
    "first place a red one. Nothing was picked by hand: these are the first rows of each evaluation file (of the "
    "compositional one the first of each subset), with their full lists of candidates."
)


class Embedder:
    """Encodes with the demo's models, one of them in memory at a time."""

    def __init__(self, demo: Demo):
        self.demo = demo
        self.parameters = 0  # of the model that was loaded last

    def encode(self, key: str, sentences: list[str], queries: list[Query]) -> tuple[np.ndarray, list[np.ndarray]]:
        """Load a model and encode sentences, (N, D), and each query with its candidates, (1 + C, D), as in the evaluation."""
        encoder = Encoder.from_pretrained(self.demo.model(key))
        self.parameters = sum(parameter.numel() for parameter in encoder.model.parameters())
        texts = encoder.encode([Example(text) for text in sentences], description=f"report, {key}")  # (N, D)
        if not queries:
            return texts, []
        examples = [example for query in queries for example in query.examples]
        vectors = encoder.encode(examples, f"report, {key}")  # (sum of 1 + C, D)
        ends = np.cumsum([len(query.examples) for query in queries])
        return texts, np.split(vectors, ends[:-1])


def lead(demo: Demo, parameters: int) -> str:
    """What the reader sees here, in one paragraph."""
    return (
        "UniME turns a multimodal language model into one that gives vectors: for a text, a picture, or both "
        "together. Things that belong together get similar vectors, so that one model can search, classify, answer "
        f"and point. Here this was done with a tiny model ({parameters / 1e6:.3g} million parameters) and pictures of "
        f"coloured shapes that the program drew itself, in {seconds(demo.summary['total_seconds'])}. The base has "
        "learned to describe pictures but not to make vectors. Stage 1 teaches it, with sentences alone, what a text "
        "teacher finds similar; stage 2 teaches it tasks, with hard negatives. Beside them stands the base trained with plain "
        f"InfoNCE (the VLM2Vec recipe) for {demo.records['vlm2vec']['steps']} steps, where UniME’s stage 2 had "
        f"{demo.records['unime']['steps']}."
    )


def timings_section(demo: Demo) -> str:
    """The steps as bars, and the run in words."""
    bar, longest = TEMPLATES.get_template("charts.html").module.bar, max(demo.timings.values(), default=0.0)
    bars = (bar(name, seconds(value), GREY, value, full=longest) for name, value in demo.timings.items())
    facts = (
        f"Seed {demo.summary['seed']}, runs = 1, size “{demo.summary['size']}”. The whole demo took "
        f"{seconds(demo.summary['total_seconds'])} on {demo.hardware}."
    )
    return f'<p>{escape(facts)}</p><dl class="bars">{"".join(bars)}</dl>'


def write_report(folder: str | Path, exported: str = "models/unime", teacher: Teacher | None = None) -> Path:
    """Write `report.html` into a finished demo folder."""
    demo = read_demo(folder)
    sentences = evaluation_sentences(demo.data)
    chosen = [(section, load_queries(demo.data, section)) for section in SECTIONS]
    queries = [query for _, members in chosen for query in members]
    embedder = Embedder(demo)
    texts, found = {}, {}
    for key in dict.fromkeys((*MATRIX_MODELS, *GALLERY_MODELS)):
        texts[key], found[key] = embedder.encode(key, sentences, queries if key in GALLERY_MODELS else [])
    teacher = teacher or SentenceTransformersTeacher(TEACHER)
    similarity = similarity_section(
        sentences, teacher.encode(sentences), {MODELS[key]: texts[key] for key in MATRIX_MODELS}
    )
    teacher.unload()
    gallery = gallery_section(chosen, {MODELS[key]: found[key] for key in GALLERY_MODELS})
    more = [
        ("training", "Training", f"<p>{escape(TRAINING_TEXT)}</p>{training_section(demo)}"),
        ("similarity", "Who is near whom", f"<p>{escape(SIMILARITY_TEXT)}</p>{similarity}"),
        ("gallery", "What the models find", f"<p>{escape(GALLERY_TEXT)}</p>{gallery}"),
        ("use", "Use the model", usage_section(demo, exported)),
        ("time", "Where the time went", timings_section(demo)),
    ]
    content = results_html(demo.runs, TITLE, lead(demo, embedder.parameters), more, STYLE)
    path = demo.folder / "report.html"
    write_atomically(path, content)
    return path


def main(argv: list[str] | None = None) -> None:
    """Entry point of the command line."""
    parser = argparse.ArgumentParser(prog="python -m examples.demo.report", description=__doc__.partition(":")[0])
    parser.add_argument("folder", type=Path, help="folder that the demo wrote")
    arguments = parser.parse_args(argv)
    try:
        print(write_report(arguments.folder))
    except (ReportError, DataError, ImageError) as error:
        raise SystemExit(f"error: {error}") from error


if __name__ == "__main__":
    main()
