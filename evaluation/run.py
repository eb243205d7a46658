# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Evaluate a model on data files: `python -m evaluation.run --model DIR --data FILE_OR_DIR... --output DIR`.

All rows and images are checked before the model is loaded. Each data set's result is written as soon as it is there;
started again, the program takes over what is finished and depends on nothing that changed since.
"""

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from transformers import PreTrainedConfig

from evaluation import report
from evaluation.arguments import EncoderArguments, EvaluationArguments
from evaluation.encoder import BaseEncoder, Encoder, pick_device, pick_dtype
from evaluation.fingerprint import code_identity, fingerprint, model_identity
from evaluation.kinds import kind_of, parse_patterns
from evaluation.load import load_task
from evaluation.modality_sum import ModalitySum
from evaluation.task import Task
from modeling_unime import UniMEConfig, UniMEProcessor
from modeling_unime.families import FAMILIES
from unime.data.data_files import DataError, data_set_name, find_data_files
from unime.data.image_sizes import ImageSizes
from unime.files import write_atomically
from unime.options import parse_dataclasses, run_command
from unime.output_folder import only_writer

BASELINE_PREFIX = "sentence-transformers:"


def find_model(name: str) -> Path:
    """Folder of the model that is to be evaluated.

    Args:
        name: The `model` option: a folder or a name on the Hub, with or without the baseline prefix.

    Returns:
        The folder; a model from the Hub is downloaded.

    Raises:
        DataError: If there is no such model, or what loads it is not installed.
    """
    if name.startswith(BASELINE_PREFIX) and find_spec("sentence_transformers") is None:
        raise DataError(
            f'model {name} needs the package sentence-transformers: pip install -c constraints.txt -e ".[st]"'
        )
    place = name.removeprefix(BASELINE_PREFIX)
    folder = Path(place)
    if not folder.is_dir():
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

        try:
            folder = Path(snapshot_download(place))
        except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
            raise DataError(f"model {place!r} is neither a folder nor can it be had from the Hub: {error}") from error
    needed = "modules.json" if name.startswith(BASELINE_PREFIX) else "config.json"
    if not (folder / needed).is_file():
        raise DataError(f"model folder {str(folder)!r} has no {needed}; give the folder that save_pretrained wrote")
    return folder


def make_encoder(arguments: EncoderArguments) -> BaseEncoder:
    """Load the encoder that the options name.

    Args:
        arguments: The options.

    Returns:
        The encoder.
    """
    options: dict[str, Any] = {
        "device": arguments.device,
        "dtype": arguments.dtype,
        "batch_size": arguments.batch_size,
        "max_length": arguments.max_length,
        "trust_remote_code": arguments.trust_remote_code,
    }
    folder = str(find_model(arguments.model))
    if arguments.model.startswith(BASELINE_PREFIX):
        from evaluation.baselines import SentenceTransformerEncoder

        encoder: BaseEncoder = SentenceTransformerEncoder.from_pretrained(folder, **options)
    else:
        encoder = Encoder.from_pretrained(folder, num_workers=arguments.num_workers, **options)
    return ModalitySum(encoder) if arguments.mixed == "sum" else encoder


def image_sizes(arguments: EncoderArguments) -> ImageSizes | None:
    """Which sizes of images the model's processor can take, for the check of the data; None: any, as far as is known.

    Args:
        arguments: The options.

    Returns:
        What asks the processor of a UniME model or of a multimodal LLM of a supported family.
    """
    if arguments.model.startswith(BASELINE_PREFIX):
        return None
    folder = find_model(arguments.model)
    model_type = PreTrainedConfig.get_config_dict(folder)[0].get("model_type")
    if model_type not in FAMILIES and model_type != UniMEConfig.model_type:
        return None
    return ImageSizes(lambda: UniMEProcessor.from_backbone(str(folder)), arguments.max_length)


def encoder_identity(arguments: EncoderArguments) -> dict[str, Any]:
    """What the embeddings depend on, apart from what is embedded.

    Args:
        arguments: The options.

    Returns:
        Ready for JSON.
    """
    device = pick_device(arguments.device)
    return {
        "model": model_identity(find_model(arguments.model)),
        "baseline": arguments.model.startswith(BASELINE_PREFIX),
        "code": code_identity(),
        "device": device.type,
        "dtype": str(pick_dtype(arguments.dtype, device)),
        "max_length": arguments.max_length,
        "mixed": arguments.mixed,
    }


def read_finished(path: Path, expected: str) -> report.Result | None:
    """An earlier result, if it was made under the same conditions.

    Args:
        path: Where it would lie.
        expected: Fingerprint it must have.

    Returns:
        The result, or `None`.
    """
    if not path.is_file():
        return None
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError:
        return None  # written by something else; it is computed again and replaced
    return result if result.get("fingerprint") == expected else None


def evaluate_one(name: str, mark: str, task: Task, encoder: BaseEncoder) -> report.Result:
    """Encode and score one data set.

    Args:
        name: Data set name.
        mark: Its fingerprint.
        task: The checked task.
        encoder: The encoder.

    Returns:
        The result, ready for JSON, without the kind.
    """
    start = time.perf_counter()
    score = task.evaluate(encoder)
    return {
        "name": name,
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
        encoder_maker: Loads the encoder; called once, after all checks, and only if something is left to encode.

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
    results: dict[str, report.Result] = {}
    waiting: dict[str, tuple[str, Task]] = {}
    files = find_data_files(arguments.data)
    for path in files:
        name = data_set_name(path)
        mark = fingerprint(path, arguments.image_root, common)
        finished = read_finished(_result_path(output, name), mark)
        if finished is not None:
            results[name] = finished
            print(f"{name}: finished earlier", flush=True)
            continue
        task = load_task(
            path,
            arguments.image_root,
            arguments.limit,
            arguments.on_bad_row,
            max_image_pixels=arguments.max_image_pixels,
            sizes=sizes,
        )
        waiting[name] = (mark, task)
        skipped = f", {len(task.skipped)} skipped" if task.skipped else ""
        print(f"{name}: {len(task.queries)} rows{skipped}, {len(task.index.examples)} to encode", flush=True)
    reused = list(results)
    if waiting:
        encoder = encoder_maker(arguments)
        for name, (_, task) in waiting.items():
            encoder.check(task.index.examples, name)
        for name in list(waiting):
            mark, task = waiting.pop(name)  # lets go of the task's memory
            results[name] = evaluate_one(name, mark, task, encoder)
            write_atomically(_result_path(output, name), report.to_json(results[name]))
            shown = ", ".join(f"{metric} {results[name]['metrics'][metric]:.4f}" for metric in task.headline)
            print(f"{name}: {shown} ({results[name]['seconds']:.1f} s)", flush=True)
    ordered = [results[data_set_name(path)] for path in files]
    return write_report(arguments, output, ordered, reused, time.perf_counter() - start)


def write_report(
    arguments: EvaluationArguments, output: Path, results: list[report.Result], reused: list[str], seconds: float
) -> Path:
    """Write results.json and results.md.

    Args:
        arguments: The options.
        output: Folder.
        results: Results in the order of the data files.
        reused: Names of those taken from an earlier run.
        seconds: Wall time of this run.

    Returns:
        Path of results.json.
    """
    patterns = parse_patterns(arguments.kinds)
    for result in results:
        # The kind is a matter of presentation, so it is no part of what is kept between runs.
        result["kind"] = kind_of(result["name"], patterns) if result["form"] == "mmeb" else result["form"]
    device = pick_device(arguments.device)
    content = {
        "model": arguments.model,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "wall_seconds": round(seconds, 1),
        "dtype": str(pick_dtype(arguments.dtype, device)).removeprefix("torch."),
        **report.environment(device),
        "options": vars(arguments),
        "training": report.read_training_record(Path(arguments.model)),
        "reused": reused,
        "summary": report.summarise(results),
        "data_sets": results,
    }
    path = output / "results.json"
    write_atomically(path, report.to_json(content))
    write_atomically(output / "results.md", report.results_page(content))
    return path


def _result_path(output: Path, name: str) -> Path:
    return output / "results" / f"{name}.json"


def main(argv: list[str] | None = None, prog: str = "python -m evaluation.run") -> None:
    """Entry point of the command line.

    Args:
        argv: Command line without the program. Default: that of this process.
    """
    (arguments,) = parse_dataclasses(
        [EvaluationArguments], argv, prog=prog, description="Evaluate an embedding model."
    )
    with only_writer(arguments.output, "output"):
        print(evaluate(arguments))


if __name__ == "__main__":
    run_command(main)
