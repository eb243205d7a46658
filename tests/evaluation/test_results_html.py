# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from evaluation import published
from evaluation.averages import summarise
from evaluation.comparison import paired_differences
from evaluation.intervals import interval
from evaluation.kinds import mmeb_set
from evaluation.pictures import is_small_copy, small_copy
from evaluation.report import percent
from evaluation.results_html import TEMPLATES, results_html
from evaluation.row_values import Miss, describe, draw
from evaluation.runs import Run
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


def write_run(folder, sets, failed=(), rows_files=True, model="models/tiny"):
    """A results.json with what lies beside it; returns its path."""
    folder.mkdir(parents=True)
    content = {
        "model": model,
        "created": "2026-11-25T10:00:00+00:00",
        "dtype": "float32",
        "hardware": {"cpu": "some <CPU>", "cores": 2, "threads": 2, "device": "cpu"},
        "training": None,
        "summary": {},
        "data_sets": [*sets, *({"name": name, "failed": reason} for name, reason in failed)],
    }
    by_name = {result["name"]: result for result in sets}
    for name, values in values_of(sets).items() if rows_files else ():
        by_name[name]["intervals"] = {metric: interval(drawn) for metric, drawn in draw(name, values).items()}
    content["summary"] = summarise(content["data_sets"])
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
    for name, values in values_of(sets).items() if rows_files else ():
        path = folder / "rows" / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"values": values, "failures": [worst] * 6}))
    return folder / "results.json"


def values_of(sets):
    return {
        result["name"]: {
            metric: (np.arange(result["rows"]) < result["metrics"][metric] * result["rows"]).astype(float).tolist()
            for metric in result["headline"]
        }
        for result in sets
    }


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
    return results_html([Run.read(path, path.parent.name) for path in paths])


def of_suite(suite, *results):
    """Results as a run of a suite gives them."""
    return [
        {**result, "name": f"{suite}/{name}", "suite": suite, "split": (mmeb_set(name) or (0, "other"))[1]}
        for result in results
        for name in [result["name"].rpartition("/")[2]]
    ]


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
    whole = of_suite("mmeb", *(ranked(name, value / 100) for name, value in published.by_data_set("UniME").items()))
    page = Page(page_of(write_run(tmp_path / "whole", whole)))
    for row in published.published()["mmeb"]:
        assert row["model"] in page.text and f"printed {row['overall']}" in page.text
        assert f"{row['model']}, {row['size']}" in page.text if "size" in row else True
    assert "mmeb, set by set" in page.text and "VLM2Vec (LLaVA-1.6, 336 px), fine-tuned" in page.text
    gone = {"name": whole[0]["name"], "failed": "no pictures", "suite": "mmeb", "form": "mmeb"}
    gone |= {name: whole[0][name] for name in ("kind", "split")}
    for name, sets in (
        ("partial", [{**whole[0], "partial": "40 of 1000 rows"}, *whole[1:]]),
        ("failed", whole[1:]),
    ):
        path = write_run(tmp_path / name, sets)
        content = json.loads(path.read_text())
        content["data_sets"] += [gone] if name == "failed" else []
        content["summary"] = summarise(content["data_sets"])
        path.write_text(json.dumps(content))
        page = Page(page_of(path))
        missing = whole[0]["name"].rpartition("/")[2]
        assert "printed" not in page.text and missing not in page.text.partition("set by set")[2].partition("Right")[0]
        assert "incomplete and therefore not compared: " in page.text and "mean of the 36 data sets" in page.text
    assert "printed" not in Page(page_of(write_run(tmp_path / "files", some_sets))).text  # of no suite
    captioned = of_suite("retrieval", captions("Flickr30K", 0.5))
    page = Page(page_of(write_run(tmp_path / "captions", captioned)))
    assert "Flickr30K, text to image R@1" in page.text and "VLM2Vec" in page.text


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
        return write_run(tmp_path / name, of_suite("mine", *(ranked(one, value) for one, value in sets)))

    paths = run("one", 0.5, 0.25, 0.75), run("other", 0.75, 0.5, 1.0)
    one, other = map(Run.read, paths)
    found = {entry["figure"]: entry["interval"] for entry in paired_differences(other, one)}
    for name in ("mine, mean of the 3 data sets", "mine, mean of the 2 meta-tasks"):
        low, high = found[name]
        assert 10 < low < 25 < high < 40
        assert {
            "figure": name,
            "metric": "precision@1",
            "difference": 0.0,
            "interval": [0.0, 0.0],
        } in paired_differences(one, one)
        assert f"+25.0 against the first, 95 % {low:+.1f} to {high:+.1f}" in Page(page_of(*paths)).text


def test_misses_are_kept_with_thumbnails():
    examples = [Example("q", Image.new("RGB", (500, 300))), Example("right"), Example("wrong", None)]
    (content,) = describe([Miss(0.5, 7, 0, 1, 2, 0.25, 0.75)], examples)
    assert is_small_copy(content["query"]["thumbnail"]) and "thumbnail" not in content["right"]
    assert (content["row"], content["wrong"]["text"], content["wrong_score"]) == (7, "wrong", 0.75)


def test_charts():
    charts = TEMPLATES.get_template("charts.html").module
    outlines = [{"name": "x", "colour": "red", "points": [0.5, 1.5, -1]}]
    outlines.append({"name": '"y>', "colour": "red", "points": [0, 0, 0], "dashed": True})
    drawing = charts.radar(["a<b", "c", "d"], outlines)
    assert "x: a&lt;b 50.0" in drawing and '"y' not in drawing
    assert drawing.count("stroke-dasharray") == 1 and "nan" not in drawing.lower()
    drawing = charts.histogram({"wrong": [0, 0], "right": [1, 0], "low": 0.0, "high": 1.0}, "l")
    assert "nan" not in drawing.lower() and "V4.0H160.0" in drawing
    for value, width in ((1.0, "50.00"), (-1.0, "0.00"), (3.0, "100.00")):
        assert f"width:{width}%" in charts.bar("x", "", "red", value, chance=0.5, full=2)


def test_only_small_copies_are_shown():
    url = small_copy(Image.new("RGBA", (900, 30)))
    assert is_small_copy(url)
    for bad in (None, 3, "", "x.png", "data:text/html;base64,AAAA", url + '" onload="x', "javascript:1"):
        assert not is_small_copy(bad)
