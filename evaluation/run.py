# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Evaluate a model on data files: `python -m evaluation.run --model DIR --data FILE_OR_DIR... --output DIR`.

All rows and images are checked before the model is loaded. Each data set's result is written as soon as it is there;
started again, the program takes over what is finished and depends on nothing that changed since.
"""

import json
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from evaluation import report
from evaluation.arguments import EvaluationArguments
from evaluation.encoder import BaseEncoder, pick_device, pick_dtype
from evaluation.encoders import encoder_identity, find_model, image_sizes, make_encoder
from evaluation.fingerprint import fingerprint
from evaluation.kinds import kind_of, parse_patterns
from evaluation.load import load_task
from evaluation.score_files import write_score_files
from evaluation.task import Task
from evaluation.vectors import Vectors
from unime.data.bad_rows import DataError
from unime.data.content import ContentIndex
from unime.data.data_files import data_set_name, find_data_files
from unime.distributed import check_world_size, join_processes, own_device, rank, world_size
from unime.files import write_atomically
from unime.options import parse_dataclasses, run_command
from unime.output_folder import only_writer


def read_finished(path: Path, expected: str) -> report.Result | None:
    """An earlier result, if it has the expected fingerprint."""
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return None  # none, or written by something else; it is computed and replaced
    return result if result.get("fingerprint") == expected else None


def evaluate_one(task: Task, vectors: Vectors, mark: str) -> report.Result:
    """Score one data set: the result, ready for JSON, without the kind."""
    start = time.perf_counter()
    score = task.score(vectors.take(task.index, task.name))
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
        "seconds": round(time.perf_counter() - start, 3),
        "fingerprint": mark,
    }


def evaluate(
    arguments: EvaluationArguments, encoder_maker: Callable[[EvaluationArguments], BaseEncoder] = make_encoder
) -> Path:
    """Run the evaluation.

    Args:
        arguments: The options.
        encoder_maker: Loads the encoder; called once in a process, after all checks, if something is left to encode.

    Returns:
        Path of results.json.

    Raises:
        DataError: If model folder, data or output cannot be used.
        ImageError: If an image root cannot be used.
        EncodingError: If an example cannot be encoded. Finished data sets are kept.
        MetricError: If embeddings are NaN, zero or constant. Finished data sets are kept.
    """
    start = time.perf_counter()
    output = Path(arguments.output)
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"output {arguments.output!r} cannot be made: {error}") from error
    sizes = image_sizes(arguments)
    row_options = {name: getattr(arguments, name) for name in ("limit", "on_bad_row", "max_image_pixels")}
    common = {**encoder_identity(arguments), **row_options}
    results: dict[str, report.Result | None] = {}
    waiting: list[tuple[Task, str]] = []

    def collect() -> list[ContentIndex]:
        """Read and check what is left to do, on the first process."""
        for path in find_data_files(arguments.data):
            name = data_set_name(path)
            mark = fingerprint(path, arguments.image_root, common)
            results[name] = read_finished(_result_path(output, name), mark)
            if results[name] is not None:
                print(f"{name}: finished earlier", flush=True)
                continue
            task = load_task(path, arguments.image_root, sizes=sizes, **row_options)
            waiting.append((task, mark))
            skipped = f", {len(task.skipped)} skipped" if task.skipped else ""
            print(f"{name}: {len(task.queries)} rows{skipped}, {len(task.index.examples)} to encode", flush=True)
        return [task.index for task, _ in waiting]

    vectors = Vectors.of(arguments)
    own = replace(arguments, device=own_device(arguments.device))
    vectors.encode(collect, lambda: encoder_maker(own))
    if rank() != 0:
        return output / "results.json"
    reused = [name for name, result in results.items() if result is not None]
    while waiting:
        task, mark = waiting.pop(0)  # lets go of the task's memory
        results[task.name] = result = evaluate_one(task, vectors, mark)
        write_atomically(_result_path(output, task.name), report.to_json(result))
        shown = ", ".join(f"{metric} {result['metrics'][metric]:.4f}" for metric in task.headline)
        print(f"{task.name}: {shown} ({result['seconds']:.1f} s)", flush=True)
    return write_report(arguments, list(results.values()), reused, vectors.counts, time.perf_counter() - start)


def write_report(
    arguments: EvaluationArguments,
    results: list[report.Result],
    reused: list[str],
    counts: dict[str, int],
    seconds: float,
) -> Path:
    """Write results.json, whose path is returned, and results.md."""
    patterns = parse_patterns(arguments.kinds)
    for result in results:
        # The kind is a matter of presentation, so it is no part of what is kept between runs.
        result["kind"] = kind_of(result["name"], patterns) if result["form"] == "mmeb" else result["form"]
    write_score_files(Path(arguments.output, "vlm2vec"), results)
    device = pick_device(arguments.device)
    content = {
        "model": arguments.model,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "wall_seconds": round(seconds, 1),
        "dtype": str(pick_dtype(arguments.dtype, device)).removeprefix("torch."),
        **report.environment(device),
        "options": vars(arguments),
        "training": report.read_training_record(find_model(arguments.model)),
        "reused": reused,
        "vectors": counts,
        "world_size": world_size(),
        "summary": report.summarise(results),
        "data_sets": results,
    }
    path = Path(arguments.output, "results.json")
    write_atomically(path, report.to_json(content))
    write_atomically(path.with_suffix(".md"), report.results_page(content))
    return path


def _result_path(output: Path, name: str) -> Path:
    return output / "results" / f"{name}.json"


def main(argv: list[str] | None = None, prog: str = "python -m evaluation.run") -> None:
    """Entry point of the command line."""
    (arguments,) = parse_dataclasses(
        [EvaluationArguments], argv, prog=prog, description="Evaluate an embedding model."
    )
    join_processes()
    check_world_size(arguments.expected_world_size)
    with only_writer(arguments.output, "output", active=rank() == 0):
        path = evaluate(arguments)
    if rank() == 0:
        print(path)


if __name__ == "__main__":
    run_command(main)
