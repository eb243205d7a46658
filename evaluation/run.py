# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Evaluate a model: `python -m evaluation.run MODEL --suite NAME... --data FILE_OR_DIR... --output DIR`.

All rows and images are checked before the model is loaded. Each data set's result is written as soon as it is there;
started again, the program takes over what is finished and depends on nothing that changed since. A data set that cannot be
read, encoded or scored is reported as failed, and the others go on.
"""

import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from evaluation import report
from evaluation.arguments import EvaluationArguments
from evaluation.averages import Result
from evaluation.data_sets import DataSet, find_data_sets
from evaluation.dimensions import find_dimensions, score_cut
from evaluation.encoder import BaseEncoder, pick_device, pick_dtype
from evaluation.encoders import cut_counter, encoder_identity, find_model, image_sizes, make_encoder
from evaluation.fingerprint import fingerprint, stamps
from evaluation.kinds import kind_of, parse_patterns
from evaluation.outputs import write_outputs
from evaluation.parsers import load_data_set
from evaluation.row_values import read_rows, rows_file, write_rows
from evaluation.task import Task
from evaluation.vectors import Vectors
from unime.data.bad_rows import DataError
from unime.data.content import ContentIndex
from unime.data.images import ImageStore
from unime.distributed import check_world_size, join_processes, own_device, rank, world_size
from unime.files import write_atomically
from unime.options import one_line, parse_dataclasses, run_command
from unime.output_folder import only_writer

FAULTS = (ValueError, OSError)  # what a data set may fail by: DataError, ImageError, EncodingError, MetricError, ...


def read_finished(path: Path, expected: str) -> Result | None:
    """An earlier result, if it has the expected fingerprint and its images are as they were."""
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return None  # none, or written by something else; it is computed and replaced
    if result.get("fingerprint") != expected or result["skipped"]["count"]:  # what was bad may have been mended
        return None
    folders = result.get("image_folders")  # earlier versions had none
    return result if folders is not None and stamps(folders) == folders else None


class FailedSets(DataError):
    """Some data sets failed; the others are in the report, which the message names."""


def evaluate_one(
    task: Task, vectors: Vectors, mark: str, rows_file: Path | None = None, dimensions: Sequence[int] = ()
) -> Result:
    """Score one data set: the result, ready for JSON, without the kind; the values of its rows go into a file."""
    start = time.perf_counter()
    taken = vectors.take(task.index, task.name)
    score = task.score(taken)
    if rows_file is not None:
        write_rows(rows_file, score.values, score.misses, task.index.examples)
    return {
        "name": task.name,
        "form": task.form,
        "rows": len(task.queries),
        "skipped": {"count": len(task.skipped), "rows": task.skipped},
        "encoded": len(task.index.examples),
        "headline": list(task.headline),
        "metrics": score.metrics,
        "chance": score.chance,
        **score.details,
        **score_cut(task, taken, dimensions),
        "seconds": round(time.perf_counter() - start, 3),
        "fingerprint": mark,
    }


def evaluate(
    arguments: EvaluationArguments, encoder_maker: Callable[[EvaluationArguments], BaseEncoder] = make_encoder
) -> Path:
    """Run the evaluation; gives the path of results.json.

    `encoder_maker` loads the encoder, once in a process, after all checks, if something is left to encode.

    Raises:
        DataError: If model folder, output, suites or places of data cannot be used.
        FailedSets: If a data set failed, after all others are done and the report is written.
    """
    start = time.perf_counter()
    output = Path(arguments.output)
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"output {arguments.output!r} cannot be made: {error}") from error
    sizes = image_sizes(arguments)
    row_options = {name: getattr(arguments, name) for name in ("limit", "on_bad_row", "max_image_pixels")}
    identity = encoder_identity(arguments)
    dimensions = find_dimensions(arguments)
    common = {**identity, **row_options, **({"dimensions": dimensions} if dimensions else {})}
    data_sets: dict[str, DataSet] = {}
    results: dict[str, Result | None] = {}
    waiting: list[tuple[Task, str]] = []

    def fail(name: str, error: Exception) -> None:
        results[name] = {"name": name, "failed": one_line(str(error)).removeprefix(f"{name}: ")}
        print(f"{name}: failed: {results[name]['failed']}", flush=True)

    def collect() -> list[ContentIndex]:
        """Read and check what is left to do, on the first process."""
        for data_set in find_data_sets(arguments):
            name = data_set.name
            data_sets[name] = data_set
            try:
                mark = fingerprint_of(data_set, arguments.image_root, common)
                results[name] = read_finished(_result_path(output, name), mark)
                if results[name] is not None and read_rows(output, name).get("values"):
                    print(f"{name}: finished earlier", flush=True)
                    continue
                results[name] = None
                task = load_data_set(data_set, arguments, sizes)
            except FAULTS as error:
                fail(name, error)
                continue
            waiting.append((task, mark))
            skipped = f", {len(task.skipped)} skipped" if task.skipped else ""
            print(f"{name}: {len(task.queries)} rows{skipped}, {len(task.index.examples)} to encode", flush=True)
        return [task.index for task, _ in waiting]

    vectors = Vectors.of(arguments, identity)
    own = replace(arguments, device=own_device(arguments.device))
    vectors.encode(collect, lambda: encoder_maker(own))
    if rank() != 0:
        return output / "results.json"
    reused = [name for name, result in results.items() if result is not None and "failed" not in result]
    count_cut = cut_counter(arguments) if waiting else None
    while waiting:
        task, mark = waiting.pop(0)  # lets go of the task's memory
        try:
            result = evaluate_one(task, vectors, mark, rows_file(output, task.name), dimensions)
            result |= count_cut(task.index.examples)
            kept = {**result, "image_folders": stamps(task.index.folders)}
        except FAULTS as error:
            fail(task.name, error)
            continue
        results[task.name] = result
        write_atomically(_result_path(output, task.name), report.to_json(kept))
        shown = ", ".join(f"{metric} {result['metrics'][metric]:.4f}" for metric in task.headline)
        print(f"{task.name}: {shown} ({result['seconds']:.1f} s)", flush=True)
    for name, result in results.items():
        result.pop("image_folders", None)
        result.update(_place_of(data_sets[name], result, arguments))
    device = pick_device(arguments.device)
    facts = {
        "model": arguments.model,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "wall_seconds": round(time.perf_counter() - start, 1),
        "dtype": str(pick_dtype(arguments.dtype, device)).removeprefix("torch."),
        **report.environment(device),
        "options": vars(arguments),
        "training": report.read_training_record(find_model(arguments.model)),
        "reused": reused,
        "vectors": vectors.store.counts,
        "world_size": world_size(),
    }
    path = write_outputs(output, facts, list(results.values()), arguments.compare)
    failed = [result for result in results.values() if "failed" in result]
    if failed:
        raise FailedSets(
            f"{len(failed)} of {len(results)} data sets failed, the first: {failed[0]['name']}: {failed[0]['failed']} "
            f"(all are in {path})"
        )
    return path


def fingerprint_of(data_set: DataSet, image_root: str | None, common: dict[str, Any]) -> str:
    """What the result of a data set depends on."""
    if data_set.fault is not None:
        raise DataError(data_set.fault)
    benchmark, source, places = data_set.benchmark, data_set.files[0], data_set.places
    if benchmark is not None:
        facts = {**benchmark.options, "form": benchmark.form, "file": None}  # wherever it lies
        common = {**common, "benchmark": facts}
    elif image_root is not None or Path(source).exists():
        places = ImageStore.find(source, image_root).roots
    return fingerprint(data_set.files, places, common)


def _place_of(data_set: DataSet, result: Result, arguments: EvaluationArguments) -> Result:
    """What a result says of its place among others, which is no part of what is kept between runs."""
    benchmark = data_set.benchmark
    if benchmark is None:
        form = result.get("form")
        return {"kind": kind_of(data_set.name, parse_patterns(arguments.kinds)) if form == "mmeb" else form}
    place = {"suite": benchmark.suite, "form": benchmark.form, "kind": benchmark.task, "split": benchmark.split}
    expected = benchmark.options.get("rows") or benchmark.options.get("published_rows")
    wanted, found = benchmark.options.get("candidates"), result.get("candidates", {})
    if wanted and found and not found["min"] == found["max"] == wanted:
        place["partial"] = f"{found['min']} to {found['max']} instead of {wanted} candidates"
    if expected and result.get("rows", expected) != expected:
        place["partial"] = f"{result['rows']} of {expected} rows"
    elif expected is None and result.get("rows") == arguments.limit is not None:
        place["partial"] = f"the first {arguments.limit} rows"
    return place


def _result_path(output: Path, name: str) -> Path:
    return output / "results" / f"{name}.json"


def main(argv: list[str] | None = None, prog: str = "python -m evaluation.run") -> None:
    """Entry point of the command line."""
    argv = sys.argv[1:] if argv is None else list(argv)
    if argv and not argv[0].startswith("-") and not argv[0].endswith((".yaml", ".yml")):
        argv = ["--model", *argv]
    (arguments,) = parse_dataclasses(
        [EvaluationArguments], argv, prog=prog, description="Evaluate an embedding model."
    )
    join_processes()
    check_world_size(arguments.expected_world_size)
    try:
        with only_writer(arguments.output, "output", active=rank() == 0):
            path = evaluate(arguments)
    except FailedSets as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    if rank() == 0:
        print(path)


if __name__ == "__main__":
    run_command(main)
