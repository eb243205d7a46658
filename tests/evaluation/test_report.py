# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
import pytest

from evaluation.averages import summarise
from evaluation.report import markdown_table


def ranking(name, kind, value, chance=0.1):
    score, luck = {"precision@1": value}, {"precision@1": chance}
    return {
        "name": name,
        "form": "mmeb",
        "kind": kind,
        "headline": ["precision@1"],
        "metrics": score,
        "chance": luck,
    }


def sugarcrepe(name, subsets):
    subsets = {subset: {"rows": 10, "accuracy": accuracy} for subset, accuracy in subsets.items()}
    return {"name": name, "form": "sugarcrepe", "kind": "sugarcrepe", "subsets": subsets}


def test_overall_is_the_mean_over_data_sets_and_not_over_kinds():
    results = [
        ranking("a/class", "classification", 0.9),
        ranking("b/class", "classification", 0.7),
        ranking("GQA/test", "vqa", 0.1),
        ranking("ChartQA/test", "vqa", 0.2),
        ranking("c/x", "retrieval", 0.6, chance=0.5),
    ]
    means = summarise(results)["mmeb"]
    assert means["classification"]["metrics"]["precision@1"] == pytest.approx(0.8)
    assert means["overall"]["metrics"]["precision@1"] == pytest.approx(0.5)
    assert means["overall"]["chance"]["precision@1"] == pytest.approx(0.18)
    assert means["in-distribution"] == {
        "data_sets": 1,
        "metrics": {"precision@1": 0.2},
        "chance": {"precision@1": 0.1},
    }
    assert "grounding" not in means


def test_a_suite_of_the_package_is_incomplete_without_all_its_sets():
    part = [
        {**ranking(f"mmeb/{name}", "vqa", 0.5), "suite": "mmeb", "split": split}
        for name, split in (("GQA", "out-of-distribution"), ("OK-VQA", "in-distribution"))
    ]
    suite = summarise(part)["suites"]["mmeb"]
    averages = {average["name"]: average for average in suite["averages"]}
    assert not suite["complete"] and len(suite["missing"]) == 34
    assert not any(average["complete"] for average in averages.values())
    assert (averages["vqa"]["of"], averages["mean of the 36 data sets"]["data_sets"]) == (10, 2)
    own = summarise([{**result, "name": result["name"].replace("mmeb", "mine"), "suite": "mine"} for result in part])
    assert own["suites"]["mine"]["complete"]


def test_sugarcrepe_files_of_a_folder_belong_together():
    files = {"replace_obj": 0.9, "replace_att": 0.8, "replace_rel": 0.7, "swap_obj": 0.5, "swap_att": 0.6}
    results = [sugarcrepe(f"sugarcrepe/{name}", {name: value}) for name, value in files.items()]
    results.append(sugarcrepe("coco_tiny/sugarcrepe", {"add_obj": 1.0, "add_att": 0.5}))
    summary = summarise(results)["sugarcrepe"]
    assert summary["sugarcrepe"]["means"] == pytest.approx({"replace": 0.8, "swap": 0.55})
    assert summary["coco_tiny/sugarcrepe"]["means"] == pytest.approx({"add": 0.75})


def test_markdown_table():
    assert markdown_table(["a", "b"], [["x|y", "1"]]) == "| a | b |\n| --- | ---: |\n| x\\|y | 1 |\n"
