# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Suites from the files that people have to the averages, with the stand-in for a model."""

import io
import json
import zipfile
from functools import partial

import datasets
import huggingface_hub
import numpy as np
import pytest
from stub_hub import StubHub

from evaluation import run
from evaluation.arguments import EvaluationArguments
from evaluation.comparison import in_words, paired_differences, paired_page, published_page, with_published
from evaluation.runs import Run
from evaluation.suites import load_suites
from unime.data.bad_rows import DataError

ROWS = 4


@pytest.fixture
def model_folder(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "toy"}')
    return folder


@pytest.fixture
def start(tmp_path, model_folder, make_encoder):
    """Run suites; returns the report, and the error of data sets that failed."""

    def start(suite, *data, **options):
        suites, places = [str(name) for name in suite], [str(place) for place in data]
        output = tmp_path / "output"
        arguments = EvaluationArguments(str(model_folder), places, str(output), suite=suites, device="cpu", **options)
        error = None
        try:
            run.evaluate(arguments, lambda arguments: make_encoder())
        except run.FailedSets as failed:
            error = str(failed)
        return json.loads((output / "results.json").read_text()), error

    return start


@pytest.fixture
def mmeb_eval(tmp_path, write_image):
    """A folder in the layout of TIGER-Lab/MMEB-eval: a config per set, split test, and images.zip."""
    root = tmp_path / "MMEB-eval"
    root.mkdir()
    colors = ("red", "green", "blue", "white", "black")
    with zipfile.ZipFile(root / "images.zip", "w") as archive:
        for color in colors:
            write_image(f"{color}.png", color)
            archive.write(tmp_path / f"{color}.png", f"MMEB/{color}.png")
    for benchmark in load_suites(["mmeb"])[0].benchmarks:
        query, target = benchmark.options["query"], benchmark.options["target"]
        rows = []
        for number in range(ROWS):
            text = f"<|image_1|>\n{benchmark.name} {number}\n" if "image" in query else f"{benchmark.name} {number}"
            pictures = [
                f"MMEB/{color}.png" if "image" in target else "" for color in (*colors[number:], *colors[:number])
            ]
            rows.append(
                {
                    "qry_text": text,
                    "qry_img_path": f"MMEB/{colors[number]}.png" if "image" in query else "",
                    "tgt_text": ["<|image_1|>\nit\n" if "image" in target else color for color in colors],
                    "tgt_img_path": pictures,
                }
            )
        (root / benchmark.name).mkdir()
        datasets.Dataset.from_list(rows).to_parquet(root / benchmark.name / "test-00000-of-00001.parquet")
    return root


def test_mmeb_as_it_is_on_the_hub_gives_all_averages(start, mmeb_eval, capsys):
    report, error = start(["mmeb"], mmeb_eval)
    assert error is None and len(report["data_sets"]) == 36
    own = {result["name"]: result["metrics"]["precision@1"] for result in report["data_sets"]}
    averages = {average["name"]: average for average in report["summary"]["suites"]["mmeb"]["averages"]}
    counts = {name: average["data_sets"] for name, average in averages.items()}
    assert counts == {
        "classification": 10,
        "vqa": 10,
        "retrieval": 12,
        "grounding": 4,
        "in-distribution": 20,
        "out-of-distribution": 16,
        "mean of the 36 data sets": 36,
        "mean of the 4 meta-tasks": 36,
    }
    value = {name: average["metrics"]["precision@1"] for name, average in averages.items()}
    assert value["mean of the 36 data sets"] == pytest.approx(np.mean(list(own.values())))
    tasks = [value[name] for name in ("classification", "vqa", "retrieval", "grounding")]
    assert value["mean of the 4 meta-tasks"] == pytest.approx(np.mean(tasks))
    shown = capsys.readouterr().out
    for name, average in averages.items():
        low, high = average["intervals"]["precision@1"]
        assert low <= value[name] <= high
        assert f"mmeb, {name if name.startswith('mean') else f'mean: {name}'}: precision@1 " in shown
    # Four rows are not MMEB's thousand.
    assert not any(average["complete"] for average in averages.values())
    assert "incomplete: 10 of 10 sets" in shown and report["data_sets"][0]["partial"] == "4 of 1000 rows"


def test_what_fails_is_shown_and_leaves_averages_incomplete(start, mmeb_eval, tmp_path):
    (mmeb_eval / "GQA" / "test-00000-of-00001.parquet").unlink()
    row = {"qry_text": "a", "qry_img_path": "gone.png", "tgt_text": ["a", "b"], "tgt_img_path": ["", ""]}
    datasets.Dataset.from_list([row]).to_parquet(mmeb_eval / "OVEN" / "test-00000-of-00001.parquet")
    (mmeb_eval / "EDIS" / "test-00000-of-00001.parquet").write_bytes(b"PAR1 no more")
    report, error = start(["mmeb"], mmeb_eval)
    assert error.startswith("3 of 36 data sets failed, the first: mmeb/")
    failed = {result["name"]: result["failed"] for result in report["data_sets"] if "failed" in result}
    assert (
        "no rows in" in failed["mmeb/GQA"] and "'gone.png'" in failed["mmeb/OVEN"] and "Parquet" in failed["mmeb/EDIS"]
    )
    suite = report["summary"]["suites"]["mmeb"]
    assert not suite["complete"] and set(suite["missing"]) == {"GQA", "EDIS", "OVEN"}
    averages = {average["name"]: average for average in suite["averages"]}
    assert (averages["vqa"]["data_sets"], averages["vqa"]["of"]) == (9, 10)
    page = (tmp_path / "output/results.md").read_text()
    assert "| mmeb/GQA | GQA: no rows in" in page and "incomplete: 9 of 10 sets" in page


def test_a_suite_of_ones_own_beside_files(start, tmp_path, write_rows, text_row):
    rows = [text_row("q", "a", "b"), text_row("r", "b", "a", "c")]
    write_rows(rows, "shop/shoes.jsonl"), write_rows(rows[:1], "shop/hats/test.jsonl")
    suite = tmp_path / "shop" / "shop.yaml"
    suite.write_text("form: mmeb\nsets:\n  shoes: {task: retrieval, rows: 2}\n  hats: {task: vqa}\n")
    report, error = start([suite], write_rows(rows, "one/eval_class.jsonl"))  # the suite's own folder is looked in
    assert error is None
    assert [result["name"] for result in report["data_sets"]] == ["one/class", "shop/shoes", "shop/hats"]
    averages = {average["name"]: average for average in report["summary"]["suites"]["shop"]["averages"]}
    assert list(averages) == ["retrieval", "vqa", "mean of the 2 data sets", "mean of the 2 meta-tasks"]
    assert all(average["complete"] for average in averages.values())
    assert report["summary"]["mmeb"]["overall"]["data_sets"] == 1
    suite.write_text("form: mmeb\nsets:\n  shoes: {task: retrieval, rows: 5}\n")
    report, error = start([suite])
    assert "has 2 rows, but the suite says 5" in error
    assert start([suite], limit=2)[1] is None
    suite.write_text(
        "form: mmeb\nsets:\n  shoes: {published_rows: 2, candidates: 2}\n  hats: {published_rows: 2, candidates: 5}\n"
    )
    report, error = start([suite])
    assert "row 2 of those that were read has 3 candidates, but the suite says 2; --limit 2" in error
    assert report["data_sets"][1]["partial"] == "1 of 2 rows", "a part of the set need not have all candidates"
    report, error = start([suite], limit=2)
    assert error is None and report["data_sets"][0]["partial"] == "2 to 3 instead of 2 candidates"
    suite.write_text("form: mmeb\nsets:\n  shoes: {published_rows: 1}\n")
    assert "has 2 rows, but the suite says 1" in start([suite])[1]


def test_small_sets_of_a_folder_are_a_suite_by_kind(start, tmp_path, write_rows, text_row):
    rows = [text_row("q", "a", "b"), text_row("r", "b", "a", "c")]
    for name in ("one/eval_class", "two/eval_vqa", "three/eval_grounding", "four/eval_x"):
        write_rows(rows, f"small/{name}.jsonl")
    pairs = [{"sentence1": "a", "sentence2": text, "score": score} for score, text in enumerate("bcd")]
    write_rows(pairs, "small/five/eval_sts.jsonl"), write_rows(rows, "small/one/train_class.jsonl")
    report, error = start(["mmeb-mini"], tmp_path / "small")
    assert error is None and len(report["data_sets"]) == 5
    averages = [average["name"] for average in report["summary"]["suites"]["mmeb-mini"]["averages"]]
    assert averages[-2:] == ["mean of the 4 data sets", "mean of the 4 meta-tasks"]
    assert set(averages[:4]) == {"classification", "vqa", "retrieval", "grounding"}
    assert report["summary"]["sts"]["data_sets"] == 1


def test_captions_in_the_layouts_of_the_four_sets(start, tmp_path, write_image):
    home = tmp_path / "sets"
    for folder in ("Flickr30K", "ShareGPT4V/coco", "Urban1k/caption", "Urban1k/image"):
        (home / folder).mkdir(parents=True)
    colors = ("red", "green", "blue")
    for color in colors:
        write_image(f"{color}.png", color), write_image(f"sets/ShareGPT4V/coco/{color}.png", color)
        write_image(f"sets/Urban1k/image/{color}.png", color)
        (home / f"Urban1k/caption/{color}.txt").write_text(f"a {color} street\nmore\n")
    cells = [{"bytes": (tmp_path / f"{color}.png").read_bytes(), "path": None} for color in colors]
    texts = [[f"{color} {number}" for number in range(7)] for color in colors]
    features = datasets.Features({"image": datasets.Image(), "text": datasets.List(datasets.Value("string"))})
    table = datasets.Dataset.from_dict({"image": cells, "text": texts}, features)
    table.to_parquet(home / "Flickr30K" / "test-00000-of-00001.parquet")
    talk = [
        {"image": f"coco/{color}.png", "conversations": [{"value": "?"}, {"value": f"a\n{color} long"}]}
        for color in colors
    ]
    (home / "ShareGPT4V/share-captioner_coco_lcs_sam_1246k_1107.json").write_text(json.dumps(talk))
    report, error = start(["retrieval"], home, limit=3)
    assert "COCO: no rows in" in error and error.startswith("1 of 4")
    results = {result["name"]: result for result in report["data_sets"]}
    found = {name: (one["images"], one["captions"]) for name, one in results.items() if "failed" not in one}
    assert found == {"retrieval/Flickr30K": (3, 15), "retrieval/ShareGPT4V-1K": (3, 3), "retrieval/Urban1K": (3, 3)}
    rows = json.loads((tmp_path / "output/rows/retrieval/ShareGPT4V-1K.json").read_text())
    texts = {side["text"] for failure in rows["failures"] for side in (failure["query"], failure["right"])} - {None}
    assert texts <= {f"a {color} long" for color in colors}
    averages = {average["name"]: average for average in report["summary"]["suites"]["retrieval"]["averages"]}
    assert set(averages["long"]["metrics"]) == {"t2i_recall@1", "i2t_recall@1"}
    assert "has 3 rows, but the suite says 1000" in start(["retrieval"], home)[1]


def test_pages_are_ranked_by_graded_relevance(start, tmp_path, write_image):
    home = tmp_path / "docs"
    (home / "bills").mkdir(parents=True)
    colors = ("red", "green", "blue", "white", "black", "yellow", "gray")
    for color in colors:
        write_image(f"docs/bills/{color}.png", color)
    tables = {
        "corpus": [{"corpus-id": number, "image": f"{color}.png"} for number, color in enumerate(colors)],
        "queries": [{"query-id": number, "query": f"which {number}"} for number in range(4)],
        "qrels": [{"query-id": 0, "corpus-id": 1, "score": 1}, {"query-id": 0, "corpus-id": 2, "score": 3}]
        + [{"query-id": number, "corpus-id": number, "score": 2} for number in (1, 2)],
    }
    for name, rows in tables.items():
        (home / "bills" / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (home / "own.yaml").write_text("form: pages\nquery_instruction: Find\ntarget_instruction: Page\nsets: {bills: }\n")
    report, error = start([home / "own.yaml"])
    (result,) = report["data_sets"]
    assert error is None and result["rows"] == 3 and result["candidates"]["max"] == 7  # one query has no right page
    values = json.loads((tmp_path / "output/rows/own/bills.json").read_text())["values"]["ndcg@5"]
    assert result["metrics"]["ndcg@5"] == pytest.approx(np.mean(values)) and 0 < result["chance"]["ndcg@5"] < 1
    (home / "bills/red.png").unlink()
    assert "red.png" in start([home / "own.yaml"], limit=2)[1]


def test_two_runs_are_compared_on_the_same_rows(start, tmp_path, write_rows, text_row):
    generator = np.random.default_rng(0)
    for name in ("one/eval_class", "two/eval_vqa"):
        write_rows(
            [text_row(f"{name} {row}", *generator.permutation(list("abcde"))) for row in range(60)],
            f"small/{name}.jsonl",
        )
    start(["mmeb-mini"], tmp_path / "small")
    (tmp_path / "output").rename(tmp_path / "first")
    first = tmp_path / "first/results.json"
    report, _ = start(["mmeb-mini"], tmp_path / "small", compare=[str(first), "published"])
    assert {entry["difference"] for entry in report["paired"][str(first)]} == {0} and report["published"] == []
    rows = tmp_path / "output/rows/mmeb-mini/one/class.json"
    content, results = json.loads(rows.read_text()), json.loads((tmp_path / "output/results.json").read_text())
    content["values"]["precision@1"] = [1.0] * 60
    rows.write_text(json.dumps(content))
    results["data_sets"][0]["metrics"]["precision@1"] = 1.0
    (tmp_path / "output/results.json").write_text(json.dumps(results))
    runs = Run.read(tmp_path / "output/results.json"), Run.read(first)
    differences, page = paired_differences(*runs), paired_page(*runs)
    assert "| mmeb-mini/one/class | P@1 | better by " in page and "mean of the 2 data sets | P@1 | better by" in page
    entry = differences[0]
    low, high = entry["interval"]
    assert 0 < low < entry["difference"] < high
    assert in_words({"difference": 1.3, "interval": [0.4, 2.2]}) == "better by 1.3 (95 %: 0.4 to 2.2)"
    assert in_words({"difference": -1.3, "interval": [-2.2, -0.4]}) == "worse by 1.3 (95 %: 0.4 to 2.2)"
    assert in_words({"difference": 0.3, "interval": [-0.4, 1.1]}) == "no clear difference: +0.3 (95 %: -0.4 to 1.1)"


def test_published_figures_stand_beside_a_whole_suite_and_no_other(start, mmeb_eval):
    report, _ = start(["mmeb"], mmeb_eval, compare=["published"])
    assert report["published"] == []  # four rows are not MMEB's thousand
    for result in report["data_sets"]:
        del result["partial"]
    for average in report["summary"]["suites"]["mmeb"]["averages"]:
        average["complete"] = True
    entries = {(e["figure"], e["model"], e["training"]): e for e in with_published(Run(report))}
    meta = entries["mean of the 4 meta-tasks", "UniME (LLaVA-1.6)", "both stages"]
    sets = entries["mean of the 36 data sets", "UniME (LLaVA-1.6)", "both stages"]
    assert (meta["published"], sets["published"]) == (66.6, 63.6)
    assert entries["GQA", "UniME", "both stages"]["published"] == 63.6
    page = published_page(Run(report))
    lines = {line.split(" | ")[0].strip("| "): line for line in page.splitlines() if "arXiv 2510.13515" in line}
    assert "printed 60.1" in lines["VLM2Vec (Qwen2-VL), 2B"] and "printed 65.8" in lines["VLM2Vec (Qwen2-VL), 7B"]
    assert "printed 66.6" in page and "printed 70.7" in page


def zipped(files: dict[str, bytes]) -> bytes:
    """A zip archive of files by path."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for path, member in files.items():
            archive.writestr(path, member)
    return content.getvalue()


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """The Hub on the loopback address, as `snapshot_download` of this process sees it."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
    with StubHub() as hub:
        download = partial(huggingface_hub.snapshot_download, endpoint=hub.endpoint, cache_dir=tmp_path / "cache")
        monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
        yield hub


@pytest.fixture
def shop(tmp_path, write_image, text_row):
    """Files of a repository: rows as Parquet with pictures in images.zip, and a set in an archive of its name."""
    for color in ("red", "green", "blue"):
        write_image(f"{color}.png", color)
    pixels = {color: (tmp_path / f"{color}.png").read_bytes() for color in ("red", "green", "blue")}
    rows = [{**text_row("", "a", color), "qry_img_path": f"in/{color}.png"} for color in pixels]
    datasets.Dataset.from_list(rows).to_parquet(tmp_path / "rows.parquet")
    street = {f"Streets/{part}": member for part, member in _streets(pixels).items()}
    return {
        "shoes/test-00000-of-00001.parquet": (tmp_path / "rows.parquet").read_bytes(),
        "images.zip": zipped({f"in/{color}.png": member for color, member in pixels.items()}),
        "streets.zip": zipped(street),
    }


def _streets(pixels: dict[str, bytes]) -> dict[str, bytes]:
    captions = {f"caption/{color}.txt": f"a {color} street".encode() for color in pixels}
    return captions | {f"image/{color}.png": member for color, member in pixels.items()}


SHOP = """
sets:
  shoes: {form: mmeb, hub: me/shop, rows: 3}
  Streets: {form: captions, hub: me/shop, dataset_parser: urban1k, rows: 3}
  gone: {form: mmeb, hub: me/gone}
"""


def test_sets_come_from_the_hub_and_out_of_archives(start, hub, shop, tmp_path):
    hub.add("me/shop", shop, "datasets")
    suite = tmp_path / "suites" / "shop.yaml"  # nothing beside it
    suite.parent.mkdir()
    suite.write_text(SHOP)
    report, error = start([suite])
    assert "1 of 3 data sets failed, the first: shop/gone: data set 'me/gone' cannot be had from the Hub" in error
    assert [(result["rows"], result["encoded"]) for result in report["data_sets"][:2]] == [(3, 7), (3, 6)]
    averages = report["summary"]["suites"]["shop"]["averages"]
    assert [average["name"] for average in averages] == ["mmeb", "captions"], "sets of two forms have no common mean"
    assert len([path for _, path in hub.requests if path.endswith("/revision/main")]) == 2, "once a repository"


def test_an_archive_is_unpacked_and_again_when_it_changes(start, shop, tmp_path):
    place = tmp_path / "shop.zip"
    suite = tmp_path / "shop.yaml"
    suite.write_text(SHOP)
    place.write_bytes(zipped({f"shop/{path}": member for path, member in shop.items()}))
    report, error = start([suite], place)
    assert "1 of 3 data sets failed, the first: shop/gone" in error
    assert [result["rows"] for result in report["data_sets"][:2]] == [3, 3]
    place.write_bytes(zipped({"shop/gone.jsonl": json.dumps({"qry_text": "q", "tgt_text": ["a"], "bad": 1}).encode()}))
    assert "3 of 3 data sets failed, the first: shop/shoes: shoes: no rows" in start([suite], place)[1]
    place.write_bytes(place.read_bytes()[:60] + b"!" + place.read_bytes()[61:])
    assert "shop.zip: cannot be unpacked" in pytest.raises(DataError, start, [suite], place).value.args[0]
