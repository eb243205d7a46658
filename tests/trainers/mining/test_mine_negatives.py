# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""The command as a whole: equal to mining by hand, resumed, shared, judged, trained with, and refused."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import unicodedata
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import trainers.mine_negatives
import trainers.train_stage2
from evaluation.encoder import Encoder
from trainers.data.mmeb import load_mmeb_train
from trainers.mine_negatives import MiningArguments, main
from trainers.mining.judge import JudgeOptions
from trainers.mining.options import MiningOptions
from trainers.mining.selection import sample
from unime.data.example import Example

COUNTS = set(
    "rows negatives short_rows rows_without_negatives replaced_negatives known_to_be_right too_similar "
    "below_min_score judged_right".split()
)
ROOT = Path(__file__).resolve().parents[3]


def command(model: Path, data: Path | list[Path], output: Path, cache: Path | None = None, **options) -> list[str]:
    places = data if isinstance(data, list) else [data]
    options = {"num_negatives": 3, "range_max": 9, "step": 2, "shard_size": 5, "device": "cpu", **options}
    argv = ["--model", str(model), "--output", str(output), "--data", *map(str, places)]
    if cache is not None:
        argv += ["--cache_folder", str(cache)]
    for name, value in options.items():
        argv += [f"--{name}", *map(str, value if isinstance(value, list) else [value])]
    return argv


def read(output: Path) -> dict[str, list[dict]]:
    """Rows by file name."""
    files = sorted(output.rglob("train_*.jsonl"))
    return {file.name: [json.loads(line) for line in file.read_text("utf-8").splitlines()] for file in files}


def record(output: Path) -> dict:
    return json.loads((output / "mining.json").read_text())


def negatives_of(row: dict) -> list[tuple[str, str]]:
    return list(zip(row["neg_text"], row["neg_image_path"], strict=True))


def mine_by_hand(model: Path, data: Path, sample, margin=0.1, largest=2.0, least=-2.0, ranks=(1, 9), by_source=False):
    """Negatives of each row, by text and image, from the whole matrix of similarities."""
    dataset = load_mmeb_train(str(data), progress=False)
    pairs = list(dataset)
    encoder = Encoder.from_pretrained(model, device="cpu")
    first = {}  # content -> first pair with this positive
    for pair in pairs:
        first.setdefault(pair.group, pair)
    vectors = dict(zip(first, encoder.encode([pair.positive for pair in first.values()]), strict=True))
    queries = encoder.encode([pair.query for pair in pairs])
    query_groups = dataset.table["query_group"].to_pylist()
    result = []
    for i, pair in enumerate(pairs):
        right = {other.group for j, other in enumerate(pairs) if query_groups[j] == query_groups[i]} | {
            query_groups[i]
        }
        sims = {group: float(queries[i] @ vector) for group, vector in vectors.items()}
        limit = min(sims[pair.group] + margin, largest)
        kept = [group for group, sim in sims.items() if group not in right and sim <= limit]
        if by_source:
            own = {other.group: other for other in reversed(pairs) if other.source == pair.source}
            kept = [group for group in kept if group in own]
        else:
            own = first
        kept = sorted(kept, key=lambda group: -sims[group])[: ranks[1]]
        kept = [group for group in kept[ranks[0] - 1 :] if sims[group] >= least]
        chosen = [own[kept[place]].positive for place in sample(len(kept), pair)]
        result.append([(example.text or "", example.image or "") for example in chosen])
    return result


def by_step(count, pair):
    return sample(count, MiningOptions(num_negatives=3, step=2))


def by_chance(count, pair):
    options = MiningOptions(num_negatives=3, sampling_strategy="random")
    return sample(count, options, (7, int("found" in pair.source), pair.place.line))


@pytest.mark.parametrize(
    "options, by_hand",
    [
        ({}, {}),
        ({"sampling_strategy": "random", "seed": 7}, {"sample": by_chance}),
        (
            {"absolute_margin": -0.02, "range_min": 2, "pool": "source"},
            {"margin": 0.02, "ranks": (3, 9), "by_source": True},
        ),
        ({"max_score": 0.4, "min_score": 0.25}, {"largest": 0.4, "least": 0.25}),
    ],
    ids=lambda value: "-".join(map(str, value)) or "defaults" if isinstance(value, dict) else None,
)
def test_equals_mining_by_hand(options, by_hand, model, data, cache, tmp_path, capsys):
    main(command(model, data, tmp_path, cache, **options))
    assert capsys.readouterr().out.splitlines()[-1] == str(tmp_path)
    rows = [row for name in ("train_classes.jsonl", "train_found.jsonl") for row in read(tmp_path)[name]]
    expected = mine_by_hand(model, data, **{"sample": by_step, **by_hand})
    assert [negatives_of(row) for row in rows] == expected
    assert any(len(negatives) == 3 for negatives in expected)

    counts = record(tmp_path)["counts"]
    assert counts["rows"] == len(rows) == 22 and counts["negatives"] == sum(map(len, expected))
    assert counts["short_rows"] == sum(len(negatives) < 3 for negatives in expected)
    assert counts["rows_without_negatives"] == sum(not negatives for negatives in expected)
    assert counts["too_similar"] > 0
    if "max_score" in options:
        assert counts["below_min_score"] > 0 and counts["short_rows"] > 0


def test_rows_are_kept_and_read_again(model, data, cache, tmp_path):
    main(command(model, data, tmp_path, cache))
    sources = {file.name: [json.loads(line) for line in file.open(encoding="utf-8")] for file in data.glob("*.jsonl")}
    for name, rows in read(tmp_path).items():
        for mined, source in zip(rows, sources[name], strict=True):
            assert {**mined, "neg_text": "", "neg_image_path": ""} == {**source, "neg_text": ""}
    found = record(tmp_path)
    assert found["counts"]["replaced_negatives"] == 1 and found["counts"]["known_to_be_right"] == 3
    assert (found["distinct_queries"], found["distinct_candidates"]) == (20, 20)

    original, mined = (load_mmeb_train(str(place), progress=False) for place in (data, tmp_path))
    assert [(p.positive.text, p.positive.image) for p in mined] == [
        (p.positive.text, p.positive.image) for p in original
    ]
    for pair in mined:
        assert pair.group not in pair.negative_groups and len(set(pair.negative_groups)) == len(pair.negatives)
        [pair.open(example) for example in pair.examples]  # every image is found beside the mined file


def test_stage2_trains_with_what_was_mined(model, data, cache, tmp_path):
    main(command(model, data, tmp_path / "mined", cache))
    arguments = ["--model", str(model), "--data", str(tmp_path / "mined"), "--output_dir", str(tmp_path / "out")]
    arguments += ["--max_steps", "1", "--per_device_train_batch_size", "4", "--num_hard_negatives", "3", "--use_cpu"]
    trainers.train_stage2.main([*arguments, "--lora_rank", "4", "--disable_tqdm", "True"])
    steps = json.loads((tmp_path / "out" / "training_record.json").read_text())["log_history"]
    assert steps[0]["candidates"] > 4 + 3, "the mined negatives are among the candidates"


def test_candidates_and_a_limit_of_rows(model, data, cache, tmp_path):
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text("".join(json.dumps({"pos_text": f"corpus text {i}"}) + "\n" for i in range(8)))
    options = {"candidates": [corpus, data], "max_rows_per_source": 6, "absolute_margin": -2, "range_max": 30}
    main(command(model, data / "train_classes.jsonl", tmp_path / "out", cache, num_negatives=30, **options))
    ((name, rows),) = read(tmp_path / "out").items()
    assert name == "train_classes.jsonl" and len(rows) == 6
    texts = {text for row in rows for text, _ in negatives_of(row)}
    assert {f"corpus text {i}" for i in range(6)} <= texts and "corpus text 6" not in texts
    assert record(tmp_path / "out")["counts"]["short_rows"] == 6
    found = [len(row["neg_text"]) for row in rows]
    assert max(found) == 6 + 6 + 6 - 1  # labels, corpus, images; but not its own


def test_sources_with_images_of_their_own(model, zipped, cache, tmp_path):
    with pytest.raises(ValueError, match=r"lie in 2 places .*\(--pool source\), or bring all images into one"):
        main(command(model, zipped, tmp_path / "all", cache))
    main(command(model, zipped, tmp_path / "out", cache, pool="source", absolute_margin=-2))
    assert sorted(record(tmp_path / "out")["files"]) == ["one/train_found.jsonl", "two/train_found.jsonl"]
    assert (tmp_path / "out/two/images.zip").resolve() == zipped / "two/images.zip"
    mined = load_mmeb_train(str(tmp_path / "out"), progress=False)
    assert all(image is not None for pair in mined for image in [pair.open(example) for example in pair.examples][1:])
    assert {len(pair.negatives) for pair in mined} == {3}


JUDGED = {"absolute_margin": -2, "num_negatives": 4, "range_max": 5, "judge_margin": 0.0001}


def test_judge_has_a_say(model, data, cache, backbones, tmp_path):
    judge = {"judge": backbones["qwen2_vl"], **JUDGED}
    main(command(model, data, tmp_path / "plain", cache, **{**JUDGED, "judge_margin": 0.01}))
    main(command(model, data, tmp_path / "mmeb", cache, **judge))
    main(command(model, data, tmp_path / "v2", cache, format="unime_v2", **judge))
    assert record(tmp_path / "v2")["scores"]["computed"] == 0, "the same pairs were judged for the other form"
    counts = record(tmp_path / "mmeb")["counts"]
    assert set(counts) - {"mean_positive_similarity", "mean_negative_similarity"} <= COUNTS
    assert counts["judged_right"] > 0 and counts["negatives"] < record(tmp_path / "plain")["counts"]["negatives"]

    published = {file.name: json.loads(file.read_text("utf-8")) for file in (tmp_path / "v2").rglob("train_*.json")}
    fields = "query_text query_image pos_text pos_image query_pos_scores hard_negatives hard_negatives_scores"
    for name, rows in read(tmp_path / "mmeb").items():
        for row, other in zip(rows, published[name.removesuffix("l")], strict=True):
            scores = row["hard_negatives_scores"]
            assert len(scores) == len(row["neg_text"])
            assert all(0 < score <= row["query_pos_scores"] - 0.0001 for score in scores)
            assert set(other) == set(fields.split())
            assert other["hard_negatives"] == [list(pair) for pair in negatives_of(row)]
            assert other["hard_negatives_scores"] == scores and other["query_pos_scores"] == row["query_pos_scores"]
            assert (other["query_text"], other["query_image"]) == (row["qry"], row["qry_image_path"])
            assert (other["pos_text"], other["pos_image"]) == (row["pos_text"], row["pos_image_path"])
    assert len(load_mmeb_train(str(tmp_path / "mmeb"), progress=False)) == 22


def shard_times(folder: Path) -> dict[str, int]:
    return {file.name: file.stat().st_mtime_ns for file in folder.glob("*/*.safetensors")}


def start(arguments: list[str], processes: int = 1) -> subprocess.Popen:
    launcher = ["torch.distributed.run", "--nproc_per_node", str(processes), "--rdzv_backend", "c10d"]
    launcher += ["--rdzv_endpoint", "localhost:0", "-m"]
    argv = [sys.executable, "-m", *(launcher if processes > 1 else []), "trainers.mine_negatives", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        argv, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )


def test_killed_run_goes_on_and_two_processes_share_the_work(model, data, backbones, tmp_path):
    """Killed while it judges; then finished by two processes, which repeat nothing; the result is that of one run."""
    options = {"judge": backbones["qwen2_vl"], "shard_size": 3, **JUDGED}
    process = start(command(model, data, tmp_path / "killed", **options))
    shards = tmp_path / "killed" / "shards"
    deadline = time.time() + 240
    while len({file.parent for file in shards.glob("*/*.safetensors")}) < 2:  # vectors, then scores
        assert process.poll() is None and time.time() < deadline, "the run ended before it could be killed"
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = shard_times(shards)
    assert not (tmp_path / "killed" / "mining.json").exists()

    both = start(command(model, data, tmp_path / "killed", **options, expected_world_size=2), processes=2)
    assert both.communicate(timeout=300)[0].splitlines()[-1] == str(tmp_path / "killed")
    after = shard_times(shards)
    assert {name: after[name] for name in before} == before and len(after) > len(before)
    found = record(tmp_path / "killed")
    assert found["world_size"] == 2 and found["vectors"]["computed"] == 0
    assert found["scores"]["found"] >= 3 and found["scores"]["computed"] >= 6

    main(command(model, data, tmp_path / "unbroken", **options))
    assert read(tmp_path / "unbroken") == read(tmp_path / "killed")
    names = shard_times(tmp_path / "unbroken" / "shards")
    assert set(names) == set(after), "the same work has the same names"
    main(command(model, data, tmp_path / "unbroken", **options))
    assert shard_times(tmp_path / "unbroken" / "shards") == names


def test_other_options_read_no_shards_of_these(model, data, cache, tmp_path):
    main(command(model, data, tmp_path / "a", cache))
    main(command(model, data, tmp_path / "b", cache, max_length=400))
    assert record(tmp_path / "b")["vectors"]["found"] == 1, "a query that is a candidate, too"
    main(command(model, data, tmp_path / "c", cache, absolute_margin=-0.11))
    main(command(model, data, tmp_path / "d", cache, num_negatives=2, min_score=0.1))
    assert record(tmp_path / "d")["vectors"]["computed"] == 0


def test_changed_image_is_encoded_again(model, data, cache, tmp_path):
    folder = tmp_path / "set"
    (folder / "images").mkdir(parents=True)
    for file in data.rglob("*.*"):
        (folder / file.relative_to(data)).write_bytes(file.read_bytes())
    main(command(model, folder, tmp_path / "a", tmp_path / "shards"))
    for name in ("same", "changed"):
        os.utime(folder / "images/3.png", ns=(1, 1))
        if name == "changed":
            Image.new("RGB", (40, 40), "pink").save(folder / "images/3.png")
        main(command(model, folder, tmp_path / name, tmp_path / "shards"))
    computed = {name: record(tmp_path / name)["vectors"]["computed"] for name in ("same", "changed")}
    assert computed["same"] == 0 and 1 <= computed["changed"] < 4, computed


@pytest.fixture
def no_encoding(monkeypatch):
    """The command must stop before it loads a model."""
    monkeypatch.setattr(trainers.mine_negatives, "make_encoder", lambda arguments: pytest.fail("too late"))


@pytest.mark.parametrize(
    "options, message",
    [
        ({"range_max": 2}, "range_min 0 to range_max 2 are 2 ranks, fewer than num_negatives, 3"),
        ({"num_negatives": 0}, "num_negatives must be at least 1, got 0"),
        ({"max_score": 1.5}, "max_score is a cosine and must be between -1 and 1, got 1.5"),
        ({"min_score": 0.5, "max_score": 0.4}, "min_score 0.5 is not below max_score 0.4"),
        ({"shard_size": 0}, "shard_size must be at least 1, got 0"),
        ({"judge_margin": -1}, "judge_margin must be at least 0, got -1"),
        ({"sampling_strategy": "all"}, "invalid choice: 'all'"),
        ({"rank": 3}, "unrecognized arguments: --rank"),
    ],
)
def test_bad_options_are_named(options, message, model, data, tmp_path, no_encoding, capsys):
    with pytest.raises(SystemExit):
        main(command(model, data, tmp_path, **options))
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "options, message",
    [
        ({"format": "unime_v2"}, "unime_v2 holds a judge's scores: name one with --judge"),
        (
            {"range_min": 39, "range_max": 50},
            "20 distinct candidates, .* leave nothing after the first 39. Lower range_min",
        ),
        ({"model": "no/such/model"}, "model 'no/such/model' is neither a folder nor"),
        ({"judge": "no/such/judge"}, "judge no/such/judge: model 'no/such/judge' is neither a folder nor"),
        ({"judge": "MODEL"}, "judge .*: transformers has no chat model of type 'unime'"),
        ({"data": "DATA/images/0.png"}, "the kind of file is not known"),
        ({"data": "no/such/file.jsonl"}, "no/such/file.jsonl"),
        ({"candidates": "no/such/file.jsonl"}, "no/such/file.jsonl"),
        ({"image_root": "no/such/folder"}, "image root 'no/such/folder' does not exist"),
        ({"device": "cuda:7"}, "this machine has no CUDA device"),
    ],
)
def test_what_cannot_be_mined_is_refused_before_encoding(options, message, model, data, tmp_path, no_encoding):
    names = {"MODEL": str(model), "DATA/images/0.png": str(data / "images/0.png")}
    options = {name: names.get(value, value) for name, value in options.items()}
    places = options.pop("data", data)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        main(command(options.pop("model", model), Path(places), tmp_path, **options))


def test_bad_rows_are_refused_or_listed(model, data, cache, tmp_path, monkeypatch):
    lines = (data / "train_classes.jsonl").read_text("utf-8").splitlines()
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "images").symlink_to(data / "images")
    bad = json.dumps({**json.loads(lines[0]), "qry_image_path": "images/none.png"})
    (folder / "train_bad.jsonl").write_text("\n".join([lines[0], bad, *lines[1:]]) + "\n", "utf-8")
    with monkeypatch.context() as patch:
        patch.setattr(trainers.mine_negatives, "make_encoder", lambda arguments: pytest.fail("too late"))
        with pytest.raises(ValueError, match="train_bad.jsonl line 2: image 'images/none.png' is missing"):
            main(command(model, folder, tmp_path / "error", cache))
    main(command(model, folder, tmp_path / "out", cache, on_bad_row="skip"))
    assert [entry["line"] for entry in json.loads((tmp_path / "out/bad_rows.json").read_text())] == [2]
    assert record(tmp_path / "out")["skipped_rows"] == 1 and len(read(tmp_path / "out")["train_bad.jsonl"]) == len(
        lines
    )


def test_result_of_other_options_is_not_overwritten(model, data, cache, tmp_path):
    main(command(model, data, tmp_path, cache))
    with pytest.raises(ValueError, match="holds a run with other options .num_negatives: 3 there, 2 now"):
        main(command(model, data, tmp_path, cache, num_negatives=2))
    main(command(model, data, tmp_path, cache, batch_size=7, shard_size=4))  # these change nothing of the result


def test_commands_of_the_documentation_have_these_options():

    text = (ROOT / "docs" / "mining.md").read_text("utf-8")
    known = {entry.name for group in (MiningArguments, MiningOptions, JudgeOptions) for entry in fields(group)} | {
        "nproc_per_node"
    }
    blocks = re.findall(r"```bash\n(.*?)```", text, flags=re.DOTALL)
    commands = [line.split() for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    mining = [words for words in commands if words[0] == "examples/mine_negatives.sh" or words[1] == "mine-negatives"]
    assert len(mining) == 3 and os.access(ROOT / "examples" / "mine_negatives.sh", os.X_OK)
    for words in mining:
        assert {word[2:] for word in words if word.startswith("--")} <= known
    assert set(re.findall(r"`--(\w+)", text)) <= known
    counted = set(re.findall(r"`(\w+)`", "".join(line.split("|")[1] for line in text.splitlines() if line[:1] == "|")))
    assert counted == COUNTS


def test_console_script_and_launcher():
    from unime.cli import COMMANDS
    from unime.launch import build_command

    assert COMMANDS["mine-negatives"][0] == "trainers.mine_negatives"
    argv = build_command(["mine_negatives", "--nproc_per_node", "2", "--data", "x"], gpus=0)
    assert "trainers.mine_negatives" in argv and argv[-2:] == ["--expected_world_size", "2"]


def test_examples_with_equal_queries_are_one_query(model, data):
    """What the pool says about the rows, in small."""
    from trainers.mining.pool import Pool

    pool = Pool(load_mmeb_train(str(data), progress=False))
    first, other = pool.query_of_row[[0, 6]]
    assert first == other and pool.query_of_row[1] == pool.query_of_row[7] and len(set(pool.query_of_row)) == 20
    assert set(pool.known(0)) == set(pool.positive_of_row[[0, 6]]) == set(pool.known(6))
    assert pool.candidates[pool.positive_of_row[7]] == Example("cat", None, "")
    assert set(pool.known(8)) == {pool.positive_of_row[8], pool.positive_of_row[0]}, "its query 'dog' is a candidate"
    assert np.all(np.diff(pool.known(0)) > 0)


def test_links_lead_to_images_under_whatever_spelling(model, data, cache, tmp_path):
    """The folder's name is stored in another Unicode normal form than the rows have, and in Windows' way."""
    stored, named = (unicodedata.normalize(form, "bücher") for form in ("NFD", "NFC"))
    shutil.copytree(data / "images", tmp_path / "set" / stored)
    rows = [json.loads(line) for line in (data / "train_found.jsonl").read_text(encoding="utf-8").splitlines()[:6]]
    for row in rows:
        row["pos_image_path"] = row["pos_image_path"].replace("images/", f"{named}\\")
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "set/train_found.jsonl").write_text(lines, encoding="utf-8")
    main(command(model, tmp_path / "set", tmp_path / "out", cache, num_negatives=2, range_max=4, step=1))
    mined = load_mmeb_train(str(tmp_path / "out/set"), progress=False)
    assert len(mined) == 6 and all(len(pair.negatives) == 2 for pair in mined)
    assert all(image is not None for image in [mined[0].open(example) for example in mined[0].examples][1:])
