# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""The benchmark programs run, at a size where their figures mean nothing."""

import json

import torch

import benchmarks.mining_search
from benchmarks.embedding_forward import main
from benchmarks.measure import interleaved_seconds, median_ratio


def test_embedding_forward(tmp_path):
    output = tmp_path / "result.json"
    sizes = ["--vocab_size", "500", "--hidden_size", "32", "--num_layers", "2", "--batch_size", "2", "--length", "8"]
    main(["--output", str(output), "--rounds", "1", "--device", "cpu", *sizes])
    result = json.loads(output.read_text())
    assert result["largest_difference_of_the_vectors"] < 1e-6
    assert result["causal_lm_over_embedding"]["flop"] > 1
    assert set(result["peak_extra_mib"]) == {"embedding", "causal_lm"}


def test_mining_search(tmp_path):
    output = tmp_path / "result.json"
    sizes = ["--queries", "300", "--candidates", "500", "--dimension", "16", "--k", "5", "--shard_size", "128"]
    ways = ["product", "ours", "sentence_transformers"]
    benchmarks.mining_search.main(
        ["--output", str(output), "--rounds", "1", "--device", "cpu", *sizes, "--ways", *ways]
    )
    result = json.loads(output.read_text())
    assert result["share_of_a_full_top_k_that_ours_found"] == 1
    assert set(result["share_of_the_speed_of_the_product"]) == set(ways[1:])


def test_alternatives_take_turns():
    calls = []
    seconds = interleaved_seconds(
        {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, rounds=2, device=torch.device("cpu")
    )
    assert calls == ["a", "b"] * 3 and [len(values) for values in seconds.values()] == [2, 2]
    assert median_ratio([2.0, 9.0, 4.0], [1.0, 3.0, 4.0]) == 2.0
