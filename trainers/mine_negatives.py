# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Offline mining of hard negatives for stage 2 (UniME-V2's way, with UniME's false-negative rule).

    python -m trainers.mine_negatives --model STAGE1 --data FOLDER --output OUT [--judge CHAT_MODEL]

Rows and images are checked before anything is encoded. Encoding, search and judging go in shards that are kept, so that the
same command goes on where it was stopped; under torchrun several processes share the work.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import cache
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np

from evaluation import report
from evaluation.encoder import BaseEncoder, pick_device, pick_dtype
from evaluation.fingerprint import code_identity, model_identity
from evaluation.run import encoder_identity, find_model, image_sizes, make_encoder
from trainers.data.mmeb import load_mmeb_train
from trainers.data.pairs import PairDataset
from trainers.mining.arguments import JudgeArguments, MiningArguments
from trainers.mining.judge import NO_LIMIT, Judge, JudgePrompt
from trainers.mining.judging import PairScores, judge_pairs
from trainers.mining.neighbours import RowNeighbours, find_neighbours
from trainers.mining.output import link_images, output_files, write_source
from trainers.mining.pool import Pool, Search
from trainers.mining.selection import Negatives, Selector, in_range, summarise
from trainers.mining.vectors import encode_contents
from trainers.run import record_options
from unime.data.bad_rows import BadRows
from unime.data.example import Example
from unime.data.image_sizes import AllImageSizes, ImageSizes
from unime.distributed import LongWaitGroup, check_world_size, join_processes, own_device, rank, world_size
from unime.files import write_atomically
from unime.options import parse_dataclasses, run_command
from unime.output_folder import check_writable, only_writer
from unime.shards import MiningError, Shards, digest

OPTIONS_FILE = "mining_options.json"  # written first; a run with other options does not write into the folder
RECORD_FILE = "mining.json"  # written last; its presence says that the folder is complete
# Options that change how a run goes, not what it finds.
FREE_OPTIONS = frozenset(
    "output cache batch_size device num_workers shard_size judge_batch_size expected_world_size".split()
)


class Clock:
    """Seconds of this run by what they were spent on."""

    def __init__(self):
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Count the time of a block."""
        start = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - start, 3)


def load_rows(arguments: MiningArguments, prompt: JudgePrompt | None) -> tuple[PairDataset, int]:
    """The data set and how many bad rows were left out; those are listed in `bad_rows.json`.

    Args:
        arguments: where the rows are, and the model that encodes them.
        prompt: of the judge, who has to read the images, too; None: no judge.

    Raises:
        MiningError: what the loader says of options, files, rows and images.
    """
    bad_rows = BadRows(arguments.on_bad_row)
    judged = None if prompt is None else ImageSizes(lambda: prompt.processor, NO_LIMIT)
    try:
        dataset = load_mmeb_train(
            arguments.data,
            image_root=arguments.image_root,
            max_rows_per_source=arguments.max_rows_per_source,
            on_bad_row=bad_rows,
            image_check=arguments.image_check,
            candidates=arguments.candidates,
            max_image_pixels=arguments.max_image_pixels,
            sizes=AllImageSizes(image_sizes(arguments), judged),
        )
    except ValueError as error:
        raise MiningError(str(error)) from error
    if len(bad_rows):
        bad_rows.write(Path(arguments.output, "bad_rows.json"))
    return dataset, len(bad_rows)


def encode_pool(
    pool: Pool, arguments: MiningArguments, identity: object, shards: Shards
) -> tuple[np.ndarray, np.ndarray]:
    """Vectors of the queries and of the candidates. The model is loaded if some are missing, and let go of afterwards."""

    @cache
    def get_encoder() -> BaseEncoder:
        encoder = make_encoder(arguments)
        for kind, contents in (("queries", pool.queries), ("candidates", pool.candidates)):
            encoder.check(contents, kind)
        return encoder

    def encode(kind: str, contents: list, digests: list[str]) -> np.ndarray:
        return encode_contents(kind, contents, digests, identity, shards, arguments.shard_size, get_encoder)

    return (
        encode("queries", pool.queries, pool.query_digests),
        encode("candidates", pool.candidates, pool.candidate_digests),
    )


def judge_neighbours(
    pool: Pool,
    found: Sequence[RowNeighbours],
    arguments: MiningArguments,
    judge_arguments: JudgeArguments,
    prompt: JudgePrompt,
    code: str,
    shards: Shards,
) -> PairScores:
    """The judge's scores of all neighbours that may become negatives, and of the positives.

    Args:
        pool: queries and candidates.
        found: the neighbours.
        arguments: device and type of the weights.
        judge_arguments: the judge.
        prompt: how it is asked.
        code: digest of the code that asks.
        shards: where scores are kept.
    """
    device = pick_device(arguments.device)
    dtype = pick_dtype(arguments.dtype, device)

    @cache
    def get_judge() -> Judge:
        return Judge(prompt, dtype, device, judge_arguments.judge_batch_size, arguments.num_workers)

    pairs = []
    for part in found:
        queries = pool.query_of_row[part.rows]
        rows, columns = np.nonzero(in_range(part, arguments))
        pairs.append(np.stack([queries[rows], part.candidates[rows, columns]], axis=1))
        pairs.append(np.stack([queries, pool.positive_of_row[part.rows]], axis=1))
    identity = [code, device.type, str(dtype)]
    return judge_pairs(pool, np.concatenate(pairs), prompt, identity, shards, arguments.shard_size, get_judge)


def make_prompt(judge_arguments: JudgeArguments) -> JudgePrompt:
    """How the judge is asked.

    Raises:
        MiningError: the model cannot be a judge.
    """
    try:
        return JudgePrompt(
            find_model(judge_arguments.judge),
            judge_arguments.judge_max_text_tokens,
            judge_arguments.judge_image_resolution,
        )
    except (OSError, ValueError) as error:  # what the libraries say of a folder that is not as it should be
        raise MiningError(f"judge {judge_arguments.judge}: {error}") from error


class Plan(NamedTuple):
    """What is to be done, all of it checked.

    Attributes:
        pool: queries and candidates.
        searches: they mine all rows.
        files: the file of each source that is mined, by the source's number.
        skipped: how many bad rows were left out.
    """

    pool: Pool
    searches: list[Search]
    files: dict[int, Path]
    skipped: int


def make_plan(arguments: MiningArguments, prompt: JudgePrompt | None) -> Plan:
    """Read the data, and see that it can be mined as asked.

    Raises:
        MiningError: too few candidates, or images in several places.
    """
    with LongWaitGroup() as ranks:  # one process reads and checks
        dataset, skipped = ranks.broadcast_from_main(lambda: load_rows(arguments, prompt))
    pool = Pool(dataset)
    searches = list(pool.searches(by_source=arguments.pool == "source"))
    stores: dict[int, int] = {}  # where the images of each mined source are
    for search in searches:
        sources = np.unique(pool.sources[search.rows]).tolist()
        if len(search.candidates) <= arguments.rank_from:
            raise MiningError(
                f"{dataset.sources[sources[0]].file}: {len(search.candidates)} distinct candidates, a row's own positive "
                f"among them, leave nothing from rank {arguments.rank_from} on. Lower --rank_from, add --candidates, "
                "search --pool all, or leave the source out."
            )
        stores |= dict.fromkeys(sources, pool.image_store(search))
    mined = [dataset.sources[source] for source in stores]
    paths = output_files(mined, list(stores.values()), Path(arguments.output), arguments.format)
    if arguments.image_root is None and rank() == 0:
        for path, store in zip(paths, stores.values(), strict=True):
            if store >= 0:
                link_images(path.parent, dataset.stores[store], pool.images_in(store))
    return Plan(pool, searches, dict(zip(stores, paths, strict=True)), skipped)


def write_results(
    plan: Plan, found: Sequence[Sequence[RowNeighbours]], selector: Selector, arguments: MiningArguments
) -> None:
    """Choose the negatives of all rows, and write a file for each source.

    Args:
        plan: rows and files.
        found: what each search found.
        selector: chooses.
        arguments: the form.
    """
    pool, dataset = plan.pool, plan.pool.dataset
    lines = dataset.table["line"].to_numpy()
    for search, parts in zip(plan.searches, found, strict=True):
        chosen: dict[int, dict[int, Negatives]] = {}  # by source, then by line
        for part in parts:
            for row, negatives in zip(part.rows, selector.select(part), strict=True):
                chosen.setdefault(int(pool.sources[row]), {})[int(lines[row])] = negatives

        @cache
        def example_of(number: int, search: Search = search) -> Example:
            return pool.positive(search.places[np.searchsorted(search.candidates, number)])

        for source, by_line in chosen.items():
            write_source(
                plan.files[source],
                arguments.format,
                dataset.sources[source],
                arguments.max_rows_per_source,
                by_line,
                example_of,
            )


def mine(arguments: MiningArguments, judge_arguments: JudgeArguments) -> Path:
    """Mine hard negatives. All processes of a run call it; the first one writes.

    Args:
        arguments: what and how.
        judge_arguments: whether a judge has a say.

    Returns:
        The folder written.

    Raises:
        MiningError, DataError, FileNotFoundError: options, model folders, rows or images cannot be used; before anything is
            encoded.
        EncodingError, ImageError, WeightsMismatchError: a model cannot do its work, or an image has changed meanwhile.
            What was finished is kept.
    """
    output, clock = Path(arguments.output), Clock()
    if arguments.format == "unime_v2" and judge_arguments.judge is None:
        raise MiningError("format unime_v2 holds a judge's scores: name one with --judge, or use --format mmeb")
    prompt = None if judge_arguments.judge is None else make_prompt(judge_arguments)
    code = code_identity(Path(__file__).parent / "mining")
    identity = [encoder_identity(arguments), code]
    try:
        finished = (output / RECORD_FILE).exists()
        record_options(output, [arguments, judge_arguments], rank() == 0, finished, OPTIONS_FILE, FREE_OPTIONS)
    except ValueError as error:
        raise MiningError(str(error)) from error

    with clock("checks"):
        plan = make_plan(arguments, prompt)
    pool = plan.pool
    shards = Shards(Path(arguments.cache or output / "shards"))
    with clock("encoding"):
        vectors = encode_pool(pool, arguments, identity, shards)
    with clock("search"):
        found = [list(find_neighbours(pool, search, vectors, identity, arguments, shards)) for search in plan.searches]
    scores = None
    if prompt is not None:
        with clock("judging"):
            scores = judge_neighbours(pool, list(chain(*found)), arguments, judge_arguments, prompt, code, shards)
    if rank() != 0:
        return output
    selector = Selector(pool, arguments, scores, judge_arguments.judge_margin)
    with clock("writing"):
        write_results(plan, found, selector, arguments)
    counts = summarise(selector.total())
    print(
        f"{counts['rows']} rows, {counts['negatives']} negatives; {counts['short_rows']} rows have fewer than "
        f"{arguments.num_negatives}, {counts['rows_without_negatives']} have none; {counts['replaced_negatives']} negatives "
        "that the rows had were replaced"
    )
    record = {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "model": arguments.model,
        "model_fingerprint": digest(identity),
        "judge_fingerprint": None if prompt is None else digest(model_identity(prompt.folder)),
        "training": report.read_training_record(Path(arguments.model)),
        "options": asdict(arguments) | asdict(judge_arguments),
        "distinct_queries": len(pool.queries),
        "distinct_candidates": len(pool.candidates),
        "skipped_rows": plan.skipped,
        "counts": counts,
        "counts_by_source": {name: summarise(own) for name, own in selector.counts.items() if own},
        "files": [str(file.relative_to(output)) for file in plan.files.values()],
        "shards": shards.counts,
        "seconds": clock.seconds,
        "world_size": world_size(),
        **report.environment(pick_device(arguments.device)),
    }
    write_atomically(output / RECORD_FILE, report.to_json(record))
    return output


def main(argv: Sequence[str] | None = None, prog: str = "python -m trainers.mine_negatives") -> None:
    """Mine; the last line printed is the folder written."""
    arguments, judge_arguments = parse_dataclasses(
        (MiningArguments, JudgeArguments),
        argv,
        prog=prog,
        description="Find hard negatives for the rows of stage 2 among all positives.",
    )
    join_processes()
    check_world_size(arguments.expected_world_size)
    with only_writer(arguments.output, "output", active=rank() == 0):
        if arguments.cache is not None:
            check_writable(arguments.cache, "cache")
        output = mine(replace(arguments, device=own_device(arguments.device)), judge_arguments)
    if rank() == 0:
        print(output)


if __name__ == "__main__":
    run_command(main)
