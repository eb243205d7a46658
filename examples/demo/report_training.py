# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Loss curves and loss statistics of the three trainings, from their training records."""

from html import escape
from typing import Any

from evaluation.results_html import colour_of
from examples.demo.report_charts import GREY, PLAIN, SHARE, Line, Scale, line_chart, seconds
from examples.demo.report_data import MODELS, TRAINED, Demo, ReportError

TITLES = {
    "stage1": "Stage 1: learn from a text teacher",
    "unime": "Stage 2, UniME: filtered hard negatives",
    "vlm2vec": "Stage 2, VLM2Vec recipe: plain InfoNCE",
}
TEXTS = {
    "stage1": "Sentences only. The student copies which sentences the teacher finds similar. Its loss is the distance "
    "between the two distributions of similarity.",
    "unime": "Starts from stage 1. A query is pulled to its positive and pushed from the hardest candidates of the "
    "batch; candidates that look like further right answers are left out first.",
    "vlm2vec": "Starts from the base. Every other candidate of the batch is a negative. Its negatives are not "
    "UniME’s, so the two losses cannot be compared.",
}
VIOLET = "var(--run3)"
POSITIVE, HARDEST = "positive_similarity", "hardest_negative_similarity"

# Panels below the loss: title, statistics with their name, colour and whether the line is dashed, scale.
# A colour of None is that of the model.
Panel = tuple[str, tuple[tuple[str, str, str | None, bool], ...], Scale]
CONTRAST: Panel = (
    "Cosine with positive and hardest negative",
    ((POSITIVE, "positive", None, False), (HARDEST, "hardest negative kept", GREY, True)),
    PLAIN,
)
PANELS: dict[str, tuple[Panel, ...]] = {
    "stage1": (
        (
            "Agreement with the teacher inside a batch",
            (("similarity_correlation", "correlation of cosines", None, False),),
            PLAIN,
        ),
        (
            "Mean cosine between different sentences",
            (("student_similarity", "student", None, False), ("teacher_similarity", "teacher", GREY, True)),
            PLAIN,
        ),
    ),
    "unime": (
        CONTRAST,
        (
            "What the false-negative filter does",
            (
                ("share_filtered", "negatives dropped", None, False),
                ("short_rows", "rows with too few negatives left", VIOLET, True),
            ),
            SHARE,
        ),
    ),
    "vlm2vec": (CONTRAST,),
}


def training_section(demo: Demo) -> str:
    """Charts of the three trainings side by side."""
    histories = {key: [entry for entry in demo.records[key]["log_history"] if "loss" in entry] for key in TRAINED}
    for key, history in histories.items():
        if not history:
            raise ReportError(f"{demo.model(key)}: the training record has no loss in its log_history")
    contrast = [
        entry[name] for key in ("unime", "vlm2vec") for entry in histories[key] for name in (POSITIVE, HARDEST)
    ]
    columns = []
    for key, history in histories.items():
        charts = [_chart(key, history, "Loss", (("loss", "loss", None, False),), PLAIN)]
        for title, statistics, scale in PANELS[key]:
            span = (min(contrast), max(contrast)) if title == CONTRAST[0] else None
            charts.append(_chart(key, history, title, statistics, scale, span))
        columns.append(
            f'<div class="column"><h3 style="border-color:{colour_of(list(MODELS).index(key))}">{escape(TITLES[key])}</h3>'
            f'<p>{escape(TEXTS[key])}</p><p class="note">{escape(_facts(demo.records[key]))}</p>'
            f"{''.join(charts)}</div>"
        )
    return f'<div class="columns aligned">{"".join(columns)}</div>'


def _chart(
    key: str,
    history: list[dict[str, Any]],
    title: str,
    statistics: tuple[tuple[str, str, str | None, bool], ...],
    scale: Scale,
    span: tuple[float, float] | None = None,
) -> str:
    lines = [
        Line(
            name,
            colour or colour_of(list(MODELS).index(key)),
            [(entry["step"], entry[field]) for entry in history],
            dashed,
        )
        for field, name, colour, dashed in statistics
    ]
    if scale is SHARE:  # from zero, and not so near that a share of next to nothing looks like much
        span = (0.0, max(0.01, *(value for line in lines for _, value in line.points)))
    return line_chart(lines, title, span, scale)


def _facts(record: dict[str, Any]) -> str:
    facts = [f"{record['steps']} steps"]
    if record.get("seconds_since_start_or_resumption") is not None:
        facts.append(seconds(record["seconds_since_start_or_resumption"]))
    if record.get("final_loss") is not None:
        facts.append(f"last logged loss {PLAIN.value(record['final_loss'])}")
    batches = [entry["effective_batch"] for entry in record["log_history"] if "effective_batch" in entry]
    if batches:
        facts.append(f"batch {batches[0]:.0f}")
    return ", ".join(facts) + "."
