# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Hard negatives for the rows of data files, written as files that stage 2 reads.

    python -m trainers.mine_negatives --model STAGE1 --data FOLDER --output OUT [--judge CHAT_MODEL]

Rows and images are checked before anything is encoded. Vectors and a judge's scores are kept in pieces, so that the same
command goes on where it was stopped; under torchrun several processes share the work.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Literal

from evaluation import report
from evaluation.arguments import EncoderArguments
from evaluation.encoder import pick_device
from evaluation.encoders import encoder_identity, image_sizes, make_encoder
from evaluation.fingerprint import model_identity
from trainers.data.row_arguments import TrainingRowArguments
from trainers.mining.judge import NO_LIMIT, Judge, JudgeOptions
from trainers.mining.mine import mine, open_stores
from trainers.mining.options import MiningOptions
from trainers.mining.output import plan_files, write_results
from trainers.mining.pool import Pool
from trainers.mining.selection import summarise
from trainers.run import record_options
from unime.data.image_sizes import ImageSizes
from unime.distributed import LongWaitGroup, check_world_size, join_processes, own_device, rank, world_size
from unime.files import write_atomically
from unime.options import check_at_least, parse_dataclasses, run_command
from unime.output_folder import check_writable, only_writer
from unime.store import digest

OPTIONS_FILE = "mining_options.json"  # written first; a run with other options does not write into the folder
RECORD_FILE = "mining.json"  # written last; its presence says that the folder is complete
# Options that change how a run goes, not what it finds.
FREE_OPTIONS = frozenset(
    "output cache_folder batch_size device num_workers shard_size judge_batch_size expected_world_size".split()
)


@dataclass(kw_only=True)
class MiningArguments(TrainingRowArguments, EncoderArguments):
    """The rows to be mined, whose positives are the candidates, and where the results go."""

    output: str = field(metadata={"help": "Folder to write: a data file for each source, and mining.json."})
    candidates: list[str] = field(
        default_factory=list,
        metadata={
            "help": "More sources of candidates, searched with every source: of their rows only pos_text and pos_image_path "
            "count, and only these columns are needed."
        },
    )
    format: Literal["mmeb", "unime_v2"] = field(
        default="mmeb",
        metadata={
            "help": "The rows as they are, with the negatives as lists in neg_text and neg_image_path (train_*.jsonl), or "
            "the fields in which UniME-V2's training data are published (*.json; needs --judge)."
        },
    )
    shard_size: int = field(
        default=4096, metadata={"help": "Examples or judged pairs of a piece: what a killed process loses at most."}
    )
    cache_folder: str | None = field(
        default=None,
        metadata={
            "help": "Folder of finished pieces, which several runs may share: they are found by what they depend on. "
            "Default: 'shards' in the output folder."
        },
    )
    expected_world_size: int = field(
        default=0, metadata={"help": "Refuse to run with another number of processes than this; 0 takes any."}
    )

    def __post_init__(self) -> None:
        EncoderArguments.__post_init__(self)
        TrainingRowArguments.__post_init__(self)
        check_at_least(self, shard_size=1, expected_world_size=0)


def mine_files(arguments: MiningArguments, options: MiningOptions, judge_options: JudgeOptions) -> None:
    """Mine the rows of files; all processes of a run call it, and the first one writes."""
    start, output = time.perf_counter(), Path(arguments.output)
    if arguments.format == "unime_v2" and judge_options.judge is None:
        raise ValueError("format unime_v2 holds a judge's scores: name one with --judge, or use --format mmeb")
    judge = None
    if judge_options.judge is not None:
        judge = Judge(judge_options, arguments.device, arguments.dtype, arguments.num_workers)
    identity = encoder_identity(arguments)
    groups = [arguments, options, judge_options]
    finished = (output / RECORD_FILE).exists()
    record_options(arguments.output, groups, rank() == 0, finished, OPTIONS_FILE, FREE_OPTIONS)

    sizes = image_sizes(arguments)
    if judge is not None:  # it reads the images, too
        sizes = ImageSizes(lambda: judge.processor, NO_LIMIT, beside=sizes)
    with LongWaitGroup() as ranks:  # one process reads and checks
        dataset, skipped = ranks.broadcast_from_main(
            lambda: arguments.load(arguments.output, candidates=arguments.candidates, sizes=sizes)
        )
    pool = Pool(dataset)
    link = arguments.image_root is None and rank() == 0
    files = plan_files(pool, options.pool == "source", output, arguments.format, link)
    vectors, scores = open_stores(arguments.cache_folder or output / "shards", identity, judge)
    load_encoder, size = partial(make_encoder, arguments), arguments.shard_size
    mined = mine(pool, load_encoder, options, arguments.device, judge, vectors, scores, size)
    if rank() != 0:
        return
    write_results(pool, mined, files, arguments.format, arguments.max_rows_per_source)
    counts = summarise(mined.counts)
    print(
        f"{counts['rows']} rows, {counts['negatives']} negatives; {counts['short_rows']} rows have fewer than "
        f"{options.num_negatives}, {counts['rows_without_negatives']} have none; {counts['replaced_negatives']} negatives "
        "that the rows had were replaced"
    )
    sources = pool.sources[mined.rows]
    record = {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "model": arguments.model,
        "model_fingerprint": digest(identity),
        "judge_fingerprint": None if judge is None else digest(model_identity(judge.folder)),
        "training": report.read_training_record(Path(arguments.model)),
        "options": {name: value for group in groups for name, value in asdict(group).items()},
        "distinct_queries": len(pool.queries),
        "distinct_candidates": len(pool.candidates),
        "skipped_rows": skipped,
        "counts": counts,
        "counts_by_source": {
            dataset.sources[number].name: summarise(mined.counts, sources == number) for number in files
        },
        "files": [str(file.relative_to(output)) for file in files.values()],
        "vectors": vectors.counts,
        "scores": scores.counts,
        "seconds": round(time.perf_counter() - start, 3),
        "world_size": world_size(),
        **report.environment(pick_device(arguments.device)),
    }
    write_atomically(output / RECORD_FILE, report.to_json(record))


def main(argv: Sequence[str] | None = None, prog: str = "python -m trainers.mine_negatives") -> None:
    """Mine; the last line printed is the folder written."""
    arguments, options, judge_options = parse_dataclasses(
        (MiningArguments, MiningOptions, JudgeOptions),
        argv,
        prog=prog,
        description="Find hard negatives for the rows of stage 2 among all positives.",
    )
    join_processes()
    check_world_size(arguments.expected_world_size)
    with only_writer(arguments.output, "output", active=rank() == 0):
        if arguments.cache_folder is not None:
            check_writable(arguments.cache_folder, "cache_folder")
        mine_files(replace(arguments, device=own_device(arguments.device)), options, judge_options)
    if rank() == 0:
        print(arguments.output)


if __name__ == "__main__":
    run_command(main)
