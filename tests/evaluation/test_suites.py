# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""The shipped suites have the sets, tasks and strings of the papers; one's own suite is a file."""

from collections import Counter

import pytest

from evaluation.suites import SUITES, SuiteError, find_rows, load_suites


def suite(name):
    return load_suites([name])[0]


def test_mmeb_has_its_36_sets_by_task_and_by_distribution():
    benchmarks = suite("mmeb").benchmarks
    assert len(benchmarks) == 36
    tasks = Counter(benchmark.task for benchmark in benchmarks)
    assert tasks == {"classification": 10, "vqa": 10, "retrieval": 12, "grounding": 4}
    assert Counter(b.split for b in benchmarks) == {"in-distribution": 20, "out-of-distribution": 16}
    assert {b.metric for b in benchmarks} == {"precision@1"}


@pytest.mark.parametrize(
    "name, query, target",
    [
        ("MSCOCO", 'Crop the image to to isolate the object labeled as "{label}"', "Represent the given cropped image of the object"),
        ("VisDial", "Represent the given dialogue about an image, which is used for image retrieval: {dialogue}", "Represent the given image"),
        ("CIRR", "Given an image, find a similar everyday image with the described changes: {text}", "Represent the given image."),
        ("RefCOCO", 'Select the portion of the image that follows the language expressions. "{expr}"', "Represent the given cropped image of the object"),
    ],
)  # fmt: skip
def test_instructions_of_mmeb_are_those_of_its_rows(name, query, target):
    options = next(b for b in suite("mmeb").benchmarks if b.name == name).options
    assert (options["query_instruction"], options["target_instruction"]) == (query, target)


def test_mmeb_v2_has_the_published_fields():
    images, pages = suite("mmeb-v2-image").benchmarks, suite("mmeb-v2-visdoc").benchmarks
    assert (len(images), len(pages)) == (36, 24)
    for benchmark in (*images, *pages):
        assert {"dataset_parser", "dataset_name", "image_root", "eval_type"} <= benchmark.options.keys()
    assert {b.options["eval_type"] for b in images} == {"local"} and {b.metric for b in pages} == {"ndcg@5"}


def test_five_retrieval_suites_and_similarity():
    assert [b.name for b in suite("retrieval").benchmarks] == ["Flickr30K", "COCO", "ShareGPT4V-1K", "Urban1K"]
    subsets = suite("sugarcrepe").benchmarks
    assert sum(b.options["rows"] for b in subsets) == 7511
    assert Counter(b.task for b in subsets) == {"replace": 3, "swap": 2, "add": 2}
    assert [b.name for b in suite("sts").benchmarks] == ["STS-B", "SICK-R"]
    assert [s.name for s in load_suites(["all"])] == list(SUITES)


@pytest.mark.parametrize(
    "layout",
    ["GQA/test-00000-of-00001.parquet", "GQA.jsonl", "eval_GQA.jsonl.gz", "GQA/test.json", "deeper/GQA.csv"],
)
def test_rows_are_found_in_the_layouts_people_have(tmp_path, layout):
    file = tmp_path / layout
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()
    (tmp_path / "other_GQA.jsonl").touch()
    benchmark = next(b for b in suite("mmeb").benchmarks if b.name == "GQA")
    assert find_rows(benchmark, [tmp_path, tmp_path / "deeper"]) == [file]


def test_rows_that_are_not_there_are_named(tmp_path):
    with pytest.raises(SuiteError, match=r"GQA: no rows in .*\(GQA/test-\*\.parquet or GQA\.jsonl\)"):
        find_rows(next(b for b in suite("mmeb").benchmarks if b.name == "GQA"), [tmp_path])


def test_a_suite_of_ones_own_is_a_file(tmp_path):
    file = tmp_path / "shop.yaml"
    file.write_text("title: Shop\nform: mmeb\nsets:\n  shoes: {task: retrieval, file: shoes/eval.jsonl}\n  hats:\n")
    (tmp_path / "shoes").mkdir()
    (tmp_path / "shoes/eval.jsonl").touch()
    own = suite(str(file))
    assert (own.name, own.title, [b.task for b in own.benchmarks]) == ("shop", "Shop", ["retrieval", "mmeb"])
    assert find_rows(own.benchmarks[0], [tmp_path]) == [tmp_path / "shoes/eval.jsonl"]


@pytest.mark.parametrize(
    "text, message",
    [
        ("form: mmeb\n", "expected a mapping with 'form' and 'sets'"),
        ("form: mmeb\nsets: {a: {taks: x}}\n", "set 'a': unknown field 'taks'"),
        ("sets: {a: {task: x}}\n", "set 'a' needs a form out of mmeb"),
        ("forms: mmeb\nsets: {a: {task: x}}\n", "unknown field 'forms'"),
        ("form: mmeb\nsets: {a: 3}\n", "set 'a' must be a mapping"),
        ("form: [\n", "cannot be read as YAML"),
    ],
)
def test_a_suite_that_cannot_be_read_is_refused_with_its_fault(tmp_path, text, message):
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    with pytest.raises(SuiteError, match=message):
        suite(str(file))


def test_an_unknown_suite_lists_the_known_ones():
    with pytest.raises(SuiteError, match="'mmebb' is neither a file nor one of mmeb, .*all"):
        suite("mmebb")
