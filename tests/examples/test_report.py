# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
import json
import re
import shutil
from html import unescape
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import ImageColor
from tiny_models import save_unime

from evaluation.arguments import EvaluationArguments
from evaluation.pictures import readable
from evaluation.run import evaluate
from examples.demo import scenes
from examples.demo.report import write_report
from examples.demo.report_charts import heat_colour, heat_map, nice_ticks
from examples.demo.report_data import MODELS, TRAINED, ReportError, read_demo
from examples.demo.report_gallery import SECTIONS, load_queries, rank_candidates
from examples.demo.report_similarity import neighbour_order
from examples.demo.report_usage import usage_snippets

HARDWARE = "a <fast> CPU & nothing else"
VOID = {"meta", "img", "br", "wbr"}


class WordTeacher:
    """A teacher to whom texts with the same words are similar."""

    fingerprint = "words"

    def encode(self, texts):
        words = sorted({word for text in texts for word in text.lower().split()})
        return np.array([[float(word in text.lower().split()) for word in words] for text in texts], np.float32)

    def unload(self):
        pass


def history(kind):
    """A training log as the trainers write it."""
    logs = []
    for step in (5, 10, 15):
        entry = {"loss": 3.0 / step, "learning_rate": 1e-4, "step": step, "effective_batch": 16.0}
        if kind == "stage1":
            entry |= {"similarity_correlation": step / 20, "student_similarity": 0.5, "teacher_similarity": 0.25}
        else:
            entry |= {"positive_similarity": 0.5 + step / 100, "hardest_negative_similarity": 0.5 - step / 100}
        if kind == "unime":
            entry |= {"share_filtered": 0.0625 / step, "short_rows": 0.0}
        logs.append(entry)
    return [*logs, {"train_runtime": 12.5, "step": 15}]


@pytest.fixture(scope="module")
def demo_folder(tmp_path_factory, backbones):
    """A demo folder with a tiny random model in place of all four; only the results of two models differ."""
    folder = tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(scenes.SIZES, "least", scenes.DatasetSize(2, 1, 8, 4, 2, 6, 2, 12))
        scenes.write_dataset(folder / "data", "least")
    for key in MODELS:
        if key == "base":
            save_unime(backbones["llava_next"], folder / "models" / key)
            data = [str(folder / "data"), str(folder / "data" / "sts_eval.jsonl")]
            arguments = EvaluationArguments(
                str(folder / "models" / key), data, str(folder / "results" / key), device="cpu"
            )
            evaluate(arguments)
            continue
        shutil.copytree(folder / "models" / "base", folder / "models" / key)
        (folder / "results" / key).mkdir()
        results = json.loads((folder / "results" / "base" / "results.json").read_text())
        if key == "unime":
            for result in results["data_sets"]:
                result["metrics"]["precision@1"] = 0.875
        (folder / "results" / key / "results.json").write_text(json.dumps(results))
    for key in TRAINED:
        record = {"steps": 15, "final_loss": 0.2, "seconds_since_start_or_resumption": 75.0}
        content = json.dumps({**record, "log_history": history(key)})
        (folder / "models" / key / "training_record.json").write_text(content)
    (folder / "timings.json").write_text(json.dumps({"stage <1>": 20.0, "stage 2": 65.0}))
    summary = {"seed": 7, "size": "least", "hardware": HARDWARE, "total_seconds": 125.0}
    (folder / "summary.json").write_text(json.dumps(summary))
    found = [{"query": "A <red> circle.", "found": [{"picture": "images/eval_00000.png", "score": 0.25}]}]
    (folder / "search.json").write_text(json.dumps(found))
    return folder


@pytest.fixture(scope="module")
def page(demo_folder):
    path = write_report(demo_folder, teacher=WordTeacher())
    assert path == demo_folder / "report.html"
    return path.read_text(encoding="utf-8")


class Balance(HTMLParser):
    """Checks that every element is closed, and collects what the page would load."""

    def __init__(self):
        super().__init__()
        self.open, self.sources, self.anchors, self.ids = [], [], [], []

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if tag not in VOID:
            self.open.append(tag)
        self.sources += [attributes[name] for name in ("src", "srcset", "data") if name in attributes]
        self.anchors += [attributes["href"]] if "href" in attributes else []
        self.ids += [attributes["id"]] if "id" in attributes else []
        assert tag not in ("script", "link", "iframe", "object")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_page_is_whole_and_needs_nothing_else(page):
    parser = Balance()
    parser.feed(page)
    assert parser.open == []
    assert len(parser.sources) > 20 and all(source.startswith("data:image/") for source in parser.sources)
    assert len(parser.ids) == 10 and sorted(parser.anchors) == sorted(f"#{name}" for name in parser.ids)
    style = page[page.index("<style>") : page.index("</style>")]
    assert "url(" not in style and "@import" not in style and "http" not in page


def test_everything_from_files_is_escaped(page):
    assert "a &lt;fast&gt; CPU &amp; nothing else" in page and "<fast>" not in page
    assert "stage &lt;1&gt;" in page and "<1>" not in page
    assert "A &lt;red&gt; circle." in page and "<red>" not in page


def test_facts_stand_in_the_report(page):
    assert "Seed 7, runs = 1, size “least”." in page
    assert "The whole demo took 2 min 05 s" in page


def test_models_stand_side_by_side(page):
    text = unescape(re.sub("<[^>]+>", " ", page))
    for name in MODELS.values():
        assert f"{name}:" in text or f"{name} :" in text
    assert re.search(r"UniME \(stage 1 \+ 2\)\s+\d+\.\d", text) and "against the first" in text
    assert "(the VLM2Vec recipe)" in text and "87.5" in text


def test_statistics_of_the_losses_are_shown(page):
    assert "similarity_correlation" not in page  # in words, not by field name
    assert "correlation of cosines <b>0.250 → 0.750</b>" in page
    assert page.count("positive <b>0.550 → 0.650</b>") == 2
    assert "negatives dropped <b>1.2 % → 0.4 %</b>" in page
    assert "15 steps, 1 min 15 s, last logged loss 0.200, batch 16." in page


def test_similarity_matrices(page):
    assert page.count('class="heat"') == 3
    assert len(re.findall(r"Spearman with the teacher <b>[−\d.]+</b>, correlation <b>[−\d.]+</b>", page)) == 2


def test_neighbours_stand_together():
    vectors = np.array([[1, 0, 0.1], [0, 1, 0], [1, 0, 0], [0, 1, 0.1]], np.float32)
    order = neighbour_order(vectors).tolist()
    assert {frozenset(order[:2]), frozenset(order[2:])} == {frozenset((0, 2)), frozenset((1, 3))}


def test_gallery_shows_the_first_rows(demo_folder, page):
    gallery = page[page.index('id="gallery"') : page.index('id="use"')]
    queries = [query for section in SECTIONS for query in load_queries(demo_folder / "data", section)]
    assert gallery.count('<article class="card">') == len(queries) == 4 + 4 + 2 + 2 + 2 + 4 + 4
    first = json.loads((demo_folder / "data" / "eval_vqa.jsonl").read_text().splitlines()[0])
    assert queries[4].query.image == first["qry_img_path"]
    assert [candidate.text for candidate in queries[4].candidates] == first["tgt_text"]
    # Of each query and model: a first hit that is right or wrong; the right one is marked wherever it is among the 5.
    firsts = re.findall(r'<ol class="hits (?:pictures|texts)"><li class="(\w+)">', gallery)
    assert len(firsts) == 2 * len(queries) and set(firsts) <= {"right", "wrong"}
    assert firsts.count("wrong") == gallery.count('<li class="wrong">')
    assert firsts.count("right") == gallery.count("right one first of")
    subsets = {json.loads(line)["subset"] for line in open(demo_folder / "data" / "eval_compositional.jsonl")}
    assert len(subsets) == 4


def test_ranking_follows_the_tie_rule():
    tied = rank_candidates(np.array([[1, 0], [1, 1], [1, 1], [0, 1]], np.float32))
    assert tied.order == [1, 0, 2] and tied.rank == 2  # a tie counts against the right one
    clear = rank_candidates(np.array([[1, 0], [1, 0.1], [1, 1]], np.float32))
    assert clear.order == [0, 1] and clear.rank == 1


def test_readable():
    assert readable("<|image_1|>\nWhat <is> it?\n") == "What <is> it?"


def test_the_code_in_the_report_runs(demo_folder, page, monkeypatch):
    search, sentences = usage_snippets(demo_folder / "data", "models/unime")
    assert search in unescape(page) and sentences in unescape(page)
    monkeypatch.chdir(demo_folder)
    names = {}
    exec(search, names)
    assert names["scores"].shape == (1, 3)
    compile(sentences, "sentences", "exec")
    query = load_queries(demo_folder / "data", SECTIONS[2])[0]
    assert names["names"][0] == query.candidates[0].image and names["caption"] == query.query.text


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("summary.json", lambda content: content.pop("seed"), "summary.json has no field seed"),
        ("results/unime/results.json", lambda content: content["data_sets"].pop(), "different data sets"),
        (
            "results/unime/results.json",
            lambda content: content["data_sets"][0].update(rows=99),
            "evaluate both on the same rows",
        ),
        ("models/vlm2vec/training_record.json", None, "training_record.json is missing"),
    ],
)
def test_incomplete_folders_are_named(demo_folder, file, change, message):
    path = demo_folder / file
    before = path.read_text()
    content = json.loads(before)
    if change is None:
        path.unlink()
    else:
        change(content)
        path.write_text(json.dumps(content))
    try:
        with pytest.raises(ReportError, match=message):
            read_demo(demo_folder)
    finally:
        path.write_text(before)


def test_ticks_cover_the_range():
    assert nice_ticks(0.13, 0.87) == [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert nice_ticks(3.0, 3.0) == [2.5, 2.75, 3.0, 3.25, 3.5]
    for low, high in ((-1.5, 2.25), (0.001, 0.0013), (0, 740)):
        ticks = nice_ticks(low, high)
        assert ticks[0] <= low and ticks[-1] >= high and 3 <= len(ticks) <= 7


def test_heat_map_spans_what_is_off_the_diagonal():
    matrix = np.array([[1, 0.2, 0.4], [0.2, 1, 0.6], [0.4, 0.6, 1]])
    drawing = heat_map(matrix, "a < b")
    assert "a &lt; b" in drawing and ">0.200<" in drawing and ">0.600<" in drawing
    fills = re.findall(r'fill="(#\w{6})"', drawing)
    assert fills[1] == heat_colour(0) and fills[5] == heat_colour(1) and fills[0] not in (fills[1], fills[5])
    brightness = [sum(ImageColor.getrgb(heat_colour(step / 10))) for step in range(11)]
    assert brightness == sorted(brightness, reverse=True)
