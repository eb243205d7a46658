# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
import json
import re
from html import unescape
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from evaluation import published
from evaluation.charts import Series, histogram, radar, small_copy, thumbnail
from evaluation.figures import Run, difference
from evaluation.kinds import mmeb_set
from evaluation.misses import Miss, describe
from evaluation.report import percent, summarise
from evaluation.results_html import results_html
from evaluation.table import main
from unime.data.example import Example

HOSTILE = '<script>alert("1")</script><img src=x onerror=alert(1)>'
VOID = {"meta", "img", "wbr"}
ALL_SETS = tuple(published.by_data_set("UniME"))


def ranked(name, value, rows=40):
    kind = (mmeb_set(name) or ("retrieval",))[0]
    return {
        "name": f"mmeb/{name}",
        "form": "mmeb",
        "kind": kind,
        "rows": rows,
        "skipped": {"count": 0, "rows": []},
        "headline": ["precision@1"],
        "metrics": {"precision@1": value, "mrr": value + 0.0123},
        "chance": {"precision@1": 0.05},
        "cosines": {"rows": 40, "low": 0.1, "high": 0.9, "right": [0, 1, 3], "wrong": [30, 9, 1]},
    }


def captions(name, value):
    metrics = {f"{way}_recall@1": value + shift for way, shift in (("t2i", 0.0), ("i2t", 0.111))}
    return {**ranked(name, 0.0), "form": "captions", "kind": "captions"} | {
        "headline": list(metrics),
        "metrics": metrics,
        "chance": dict.fromkeys(metrics, 0.01),
    }


def write_run(folder, sets, failed=(), rows_files=True, model="models/tiny", limit=None):
    """A results.json with what lies beside it; returns its path."""
    (folder / "rows" / "mmeb").mkdir(parents=True)
    content = {
        "model": model,
        "created": "2026-11-25T10:00:00+00:00",
        "dtype": "float32",
        "hardware": {"cpu": "some <CPU>", "cores": 2, "threads": 2, "device": "cpu"},
        "training": None,
        "options": {"limit": limit},
        "summary": summarise(sets),
        "data_sets": [*sets, *({"name": name, "failed": reason} for name, reason in failed)],
    }
    (folder / "results.json").write_text(json.dumps(content))
    picture = small_copy(Image.new("RGB", (300, 200), "red"))
    side = {"text": "<|image_1|>\nWhat is it?", "image": "a.png", "thumbnail": picture}
    worst = {
        "row": 3,
        "query": side,
        "right": {"text": HOSTILE, "image": None},
        "wrong": {"text": "no", "image": "gone.png", "thumbnail": 'data:text/html,"><script>'},
        "right_score": -0.25,
        "wrong_score": 0.75,
    }
    for result in sets if rows_files else ():
        values = {
            metric: (np.arange(result["rows"]) < value * result["rows"]).astype(float).tolist()
            for metric, value in result["metrics"].items()
            if metric in result["headline"]
        }
        content = {"values": values, "failures": [worst] * 6}
        (folder / "rows" / f"{result['name']}.json").write_text(json.dumps(content))
    return folder / "results.json"


class Page(HTMLParser):
    """Checks that every element is closed and that nothing is loaded or run; collects the text."""

    def __init__(self, content):
        super().__init__()
        self.open, self.text, self.anchors, self.ids, self.tags = [], [], [], [], []
        self.feed(content)
        assert self.open == [] and sorted(self.anchors) == sorted(f"#{name}" for name in self.ids)
        self.text = " ".join(self.text)

    def handle_starttag(self, tag, attributes):
        assert tag not in ("script", "link", "iframe", "object", "base", "form")
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attributes:
            assert not name.startswith("on") and (name != "src" or value.startswith("data:image/jpeg;base64,"))
            self.anchors += [value] if name == "href" else []
            self.ids += [value] if name == "id" else []

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def page_of(*paths):
    runs = [Run(path.parent.name, json.loads(path.read_text()), path.parent, n) for n, path in enumerate(paths)]
    return results_html(runs)


@pytest.fixture
def some_sets():
    return [ranked("GQA", 0.5), ranked("ImageNet-1K", 0.75), ranked("NIGHTS", 0.25), captions("Flickr30K", 0.5)]


def test_one_run_holds_every_figure(tmp_path, some_sets):
    path = write_run(tmp_path / "run", some_sets, failed=[("mmeb/CIRR", f"no pictures {HOSTILE}")])
    content = page_of(path)
    page = Page(content)
    for result in some_sets:
        for value in (*result["metrics"].values(), *result["chance"].values()):
            assert f"{value:.6g}" in page.text
        for metric in result["headline"]:
            assert percent(result["metrics"][metric]) in page.text
    overall = json.loads(path.read_text())["summary"]["mmeb"]["overall"]["metrics"]["precision@1"]
    assert f"{overall:.6g}" in page.text and "mean: overall" in page.text
    low, high = re.search(r"75\.0 \(([\d.]+)–([\d.]+)\)", page.text).groups()
    assert 55 < float(low) < 70 and 80 < float(high) < 95
    assert "mmeb/CIRR" in page.text and "no pictures" in page.text and page.text.count("incomplete") >= 2
    assert HOSTILE in page.text and "<script" not in content and "onerror=" not in re.sub("&lt;.*?&gt;", "", content)
    style = content[content.index("<style>") : content.index("</style>")]
    assert "url(" not in style and "@import" not in style and "http" not in content
    assert "prefers-color-scheme: dark" in style and "max-width: 699px" in style


def test_failures_show_query_winner_and_right_one(tmp_path, some_sets):
    content = page_of(write_run(tmp_path / "run", some_sets))
    assert content.count('class="pair"') == 4 * len(some_sets)
    card = content[content.index('class="pair"') :].partition("</article>")[0]
    assert card.count('src="data:image/jpeg;base64,') == 1 and "[gone.png]" in card and "What is it?" in card
    assert "✗ ranked first 0.750" in card and "✓ right one −0.250" in card


def test_several_runs_stand_side_by_side(tmp_path, some_sets):
    better = [ranked("GQA", 0.75), ranked("ImageNet-1K", 1.0), ranked("NIGHTS", 0.5), captions("Flickr30K", 0.75)]
    paths = [
        write_run(tmp_path / "base", some_sets),
        write_run(tmp_path / "more", better),
        write_run(tmp_path / "part", some_sets[:2], failed=[("mmeb/NIGHTS", "constant")], rows_files=False),
    ]
    target = tmp_path / "all.html"
    main([*(f"{path.parent.name}={path}" for path in paths), "--html", str(target)])
    assert target.read_text() == page_of(*paths)
    page = Page(target.read_text())
    assert "3 evaluations side by side" in page.text and "mmeb/NIGHTS  (part)" in page.text
    difference = re.search(r"\+25\.0 against the first, 95 % \+([\d.]+) to \+([\d.]+)", page.text)
    assert 10 < float(difference[1]) < 25 < float(difference[2]) < 45
    for name in ("base", "more", "part"):
        assert name in page.text
    assert page.tags.count("svg") == 1 + 4 + 4 + 2  # radar of what all have, and histograms


def test_published_rows_stand_only_beside_the_whole_of_mmeb(tmp_path, some_sets):
    whole = [ranked(name, value / 100) for name, value in published.by_data_set("UniME").items()]
    page = Page(page_of(write_run(tmp_path / "whole", whole)))
    for row in published.published()["mmeb"]:
        assert row["model"] in page.text and f"{row['overall']:.1f} printed" in page.text
    assert "MMEB, set by set" in page.text and "VLM2Vec (LLaVA-1.6, 336 px), fine-tuned" in page.text
    for name, change in (
        ("one missing", {"sets": whole[1:]}),
        ("limited", {"sets": whole, "limit": 40}),
        ("partial", {"sets": [{**whole[0], "partial": "40 of 1000 rows"}, *whole[1:]]}),
        ("failed", {"sets": whole[1:], "failed": [(whole[0]["name"], "no pictures")]}),
    ):
        page = Page(page_of(write_run(tmp_path / name, **change)))
        assert "printed" not in page.text and "VLM2Vec" not in page.text, name
    page = Page(page_of(write_run(tmp_path / "captions", some_sets)))
    assert "flickr30k t2i" in page.text and "VLM2Vec" in page.text and "MMEB, set by set" not in page.text


def test_without_rows_there_are_no_intervals_and_no_failures(tmp_path, some_sets):
    page = Page(page_of(write_run(tmp_path / "run", some_sets, rows_files=False)))
    assert "Hardest failures" not in page.text and not re.search(r"75\.0 \(", page.text)
    broken = write_run(tmp_path / "broken", some_sets)
    (broken.parent / "rows" / "mmeb" / "GQA.json").write_text("[]")
    (broken.parent / "rows" / "mmeb" / "NIGHTS.json").write_text("{")
    assert "Hardest failures" in Page(page_of(broken)).text
    everything = [(result["name"], "constant") for result in some_sets]
    assert "Failed data sets" in Page(page_of(write_run(tmp_path / "nothing", [], failed=everything))).text


def test_means_of_a_suite_are_compared_with_both_runs_resampled_together(tmp_path):
    def run(name, *values):
        sets = zip(("GQA", "OK-VQA", "NIGHTS"), values, strict=True)
        sets = [{**ranked(one, value), "suite": "mmeb", "split": "in-distribution"} for one, value in sets]
        path = write_run(tmp_path / name, sets)
        return Run(name, json.loads(path.read_text()), path.parent)

    one, other = run("one", 0.5, 0.25, 0.75), run("other", 0.75, 0.5, 1.0)
    names = {figure.name for figure in one.headline}
    assert names == {"mmeb, mean of the 3 data sets", "mmeb, mean of the 2 meta-tasks"}
    for figure in one.headline:
        low, high = difference(figure, other, one)
        assert 0.1 < low < 0.25 < high < 0.4
        assert difference(figure, one, one) == [0.0, 0.0]


def test_misses_are_kept_with_thumbnails():
    examples = [Example("q", Image.new("RGB", (500, 300))), Example("right"), Example("wrong", None)]
    (content,) = describe([Miss(0.5, 7, 0, 1, 2, 0.25, 0.75)], examples)
    assert thumbnail(content["query"]["thumbnail"], "q") and "thumbnail" not in content["right"]
    assert (content["row"], content["wrong"]["text"], content["wrong_score"]) == (7, "wrong", 0.75)


def test_charts():
    drawing = radar(["a<b", "c", "d"], [Series("x", "red", [0.5, 1.5, -1]), Series("y", "red", [0, 0, 0], True)], "l")
    assert "a&lt;b" in drawing and "x: a&lt;b 50.0" in unescape(drawing).replace("<b", "&lt;b")
    assert drawing.count("stroke-dasharray") == 1 and "NaN" not in drawing
    assert "nan" not in histogram([("none", "red", [0, 0]), ("some", "red", [1, 0])], 0.0, 1.0, "l")
    url = small_copy(Image.new("RGBA", (900, 30)))
    assert thumbnail(url, 'a"b').startswith('<img src="data:image/jpeg;base64,') and "a&quot;b" in thumbnail(
        url, 'a"b'
    )
    for bad in (None, 3, "", "x.png", "data:text/html;base64,AAAA", url + '" onload="x', "javascript:1"):
        assert thumbnail(bad, "name") == ""
