# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""The published rows recompute to what is printed, by the average that the paper took."""

import numpy as np
import pytest

from evaluation.published import by_data_set, mean_of_data_sets, mean_of_meta_tasks, published


@pytest.mark.parametrize("row", published()["mmeb"], ids=lambda row: f"{row['model']}, {row['source'][:16]}")
def test_the_printed_overall_is_the_average_that_the_file_names(row):
    of_tasks, of_sets = mean_of_meta_tasks(row), mean_of_data_sets(row)
    printed, other = (of_tasks, of_sets) if row["overall_is"] == "4 meta-tasks" else (of_sets, of_tasks)
    assert printed == pytest.approx(row["overall"], abs=0.1)  # each part is rounded to 0.1
    if abs(of_tasks - of_sets) > 0.2:
        assert other != pytest.approx(row["overall"], abs=0.1)


def test_the_paper_averages_meta_tasks_but_for_llava_onevision():
    rows = [row for row in published()["mmeb"] if row["source"].startswith("arXiv 2504.17432")]
    assert len(rows) == 17
    assert [row["model"] for row in rows if row["overall_is"] == "36 data sets"] == ["UniME (LLaVA-OneVision)"]
    unime = next(row for row in rows if row["model"] == "UniME (LLaVA-1.6)" and row["training"] == "both stages")
    assert (unime["overall"], round(mean_of_data_sets(unime), 1)) == (66.6, 63.6)


def test_the_table_by_data_set_has_all_36_and_the_means_known_of_it():
    scores = by_data_set("UniME")
    assert len(scores) == 36
    assert np.mean(list(scores.values())) == pytest.approx(63.63, abs=0.01)
    retrieval = list(by_data_set("SigLIP").values())[20:32]
    assert np.mean(retrieval) == pytest.approx(44.1, abs=0.05)  # the paper prints 31.6
