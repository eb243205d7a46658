# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""The policies for rows that cannot be used."""

import json
import pickle

import pytest

from unime.data.bad_rows import BadRowError, BadRows, Place, as_bad_rows


def test_error_policy_names_file_line_reason_and_mend():
    with pytest.raises(BadRowError, match=r"^a\.jsonl line 3: no text\. Fill it\. .*on_bad_row=skip") as error:
        BadRows("error").add(Place("a.jsonl", 3), "no text", "Fill it.")
    assert isinstance(error.value, ValueError)
    with pytest.raises(BadRowError, match=r"^train_dataset row 3: no text\. Fill it\.$"):
        BadRows(has_option=False).add(Place("train_dataset", 3), "no text", "Fill it.")
    assert str(pickle.loads(pickle.dumps(error.value))) == str(error.value)  # it crosses process borders


@pytest.mark.parametrize("file, unit", [("a.csv.gz", "line"), ("a.parquet", "row"), ("a.json", "row"), ("x/y", "row")])
def test_place_counts_in_the_unit_of_the_file(file, unit):
    assert str(Place(file, 7)) == f"{file} {unit} 7"


def test_skip_policy_lists_all(tmp_path):
    bad_rows = BadRows("skip")
    for line in range(1, 31):
        bad_rows.add(Place("a.jsonl" if line % 3 else "b.parquet", line), f"fault {line}", "Mend it.")
    assert len(bad_rows) == 30
    report = bad_rows.report()
    assert "30 bad rows" in report and "20 of a.jsonl" in report and "10 of b.parquet" in report
    assert all((f"fault {line}. Mend it." in report) == (line <= 20) for line in range(1, 31))
    assert "and 10 more" in report

    path = bad_rows.write(tmp_path / "report" / "bad.json")
    rows = json.loads(path.read_text("utf-8"))
    assert len(rows) == 30
    assert rows[0] == {"file": "a.jsonl", "line": 1, "reason": "fault 1", "mend": "Mend it."}


def test_collector_is_passed_through_and_unknown_policy_refused():
    bad_rows = BadRows("skip")
    assert as_bad_rows(bad_rows) is bad_rows
    assert as_bad_rows("skip").policy == "skip"
    with pytest.raises(ValueError, match="'ignore'.*error, skip"):
        as_bad_rows("ignore")
