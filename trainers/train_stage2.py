# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Stage 2 from the command line: contrastive instruction tuning on MMEB-form rows.

    python -m trainers.train_stage2 examples/recipes/tiny-cpu/stage2.yaml --model STAGE1 --data FOLDER --output_dir OUT

Started again with the same command after it was stopped, it continues.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from transformers.utils import logging

from evaluation.dual_encoder import is_dual_encoder
from trainers.data.mmeb import load_mmeb_train
from trainers.data.pairs import PairDataset
from trainers.hard_negative_config import HardNegativeConfig
from trainers.hard_negative_trainer import HardNegativeTrainer
from trainers.loading import load_processor
from trainers.run import ModelArguments, begin_run, train_and_save
from unime.data.bad_rows import BadRows
from unime.data.image_sizes import ImageSizes
from unime.data.images import DEFAULT_MAX_PIXELS, PIL_MAX_PIXELS, check_max_pixels
from unime.distributed import LongWaitGroup
from unime.options import parse_dataclasses, run_command
from unime.output_folder import only_writer

logger = logging.get_logger(__name__)


@dataclass
class Stage2Arguments:
    """The rows of stage 2."""

    data: list[str] = field(
        metadata={
            "help": "Files with the columns query, positive and, if wanted, negatives; with MMEB-train's (qry, "
            "qry_image_path, pos_text, pos_image_path, neg_text, "
            "neg_image_path), globs, folders (every train_*.jsonl below) or names of data sets (TIGER-Lab/MMEB-train: all "
            "its sets; name:config:split: one), also of a local copy; with SimCSE's (sent0, sent1, hard_neg); with UniME-V2's "
            "(query_text, "
            "query_image, pos_text, pos_image, query_pos_scores, hard_negatives, hard_negatives_scores)."
        }
    )
    split: str = field(
        default="original",
        metadata={"help": "Split of data sets named without one (MMEB-train: original or diverse_instruction)."},
    )
    instructions: list[str] | None = field(
        default=None,
        metadata={
            "help": "One per entry of data, put before its queries in MMEB's form; '' for none. Default: none, since MMEB's "
            "strings carry their own."
        },
    )
    weights: list[float] | None = field(
        default=None,
        metadata={"help": "One per entry of data: how often an epoch sees each of its rows. Default: 1 for all."},
    )
    image_root: str | None = field(
        default=None,
        metadata={
            "help": "Folder (also with an images.zip in it) or zip of all images. Default: beside each data file, or "
            "images.zip beside it. Links in a folder are followed."
        },
    )
    max_rows_per_source: int | None = field(
        default=None, metadata={"help": "First rows used of each file (50000 in the paper). Default: all."}
    )
    image_check: str = field(
        default="full",
        metadata={
            "help": "Before training, decode every image once and ask the processor whether it can take it (full), or "
            "only look whether it is there (exists): then equal pictures under two paths are not known as such.",
            "choices": ["full", "exists"],
        },
    )
    max_image_pixels: int = field(
        default=DEFAULT_MAX_PIXELS,
        metadata={
            "help": "Width times height above which an image is refused before it is decoded: a small file may claim all "
            f"memory. At most {PIL_MAX_PIXELS}."
        },
    )
    on_bad_row: str = field(
        default="error",
        metadata={
            "help": "Rows with wrong fields, or with an image that is missing, damaged or cannot be processed: stop "
            "before the model is loaded (error), or leave them out and list them (skip).",
            "choices": ["error", "skip"],
        },
    )

    def __post_init__(self):
        check_max_pixels(self.max_image_pixels)


def load_data(
    arguments: Stage2Arguments, config: HardNegativeConfig, sizes: ImageSizes | None
) -> tuple[PairDataset, int]:
    """The rows, and how many were left out; those are listed in `bad_rows.json`."""
    bad_rows = BadRows(arguments.on_bad_row)
    dataset = load_mmeb_train(
        arguments.data,
        image_root=arguments.image_root,
        weights=arguments.weights,
        max_rows_per_source=arguments.max_rows_per_source,
        on_bad_row=bad_rows,
        image_check=arguments.image_check,
        instructions=arguments.instructions,
        split=arguments.split,
        seed=config.seed,
        max_image_pixels=arguments.max_image_pixels,
        sizes=sizes,
    )
    if len(bad_rows):
        bad_rows.write(Path(config.output_dir, "bad_rows.json"))
    negatives, rows = dataset.count_negatives()
    if negatives and not config.use_row_negatives:
        logger.warning(
            f"use_row_negatives is false: {negatives} negatives that {rows} of {len(dataset.table)} rows carry are not used"
        )
    return dataset, len(bad_rows)


def main(argv: Sequence[str] | None = None, prog: str = "python -m trainers.train_stage2") -> None:
    """Run stage 2; the last line printed is the path of the model it wrote."""
    model_arguments, arguments, config = parse_dataclasses(
        (ModelArguments, Stage2Arguments, HardNegativeConfig),
        argv,
        required=("output_dir",),
        stage="stage2",
        prog=prog,
        description="Stage 2: hard negative enhanced instruction tuning (UniME, arXiv 2504.17432, section 3.3).",
    )
    with only_writer(config.output_dir, "output_dir", active=config.process_index == 0):
        train(model_arguments, arguments, config)


def train(model_arguments: ModelArguments, arguments: Stage2Arguments, config: HardNegativeConfig) -> None:
    """Train and save; the last line printed is the path of the model."""
    if not begin_run(model_arguments, arguments, config):
        return
    # CLIP resizes every image to one square.
    is_clip = is_dual_encoder(model_arguments.model)
    sizes = None if is_clip else ImageSizes(lambda: load_processor(model_arguments.model, config), config.max_length)
    with LongWaitGroup() as ranks:  # one process reads and checks what may be a million images
        dataset, skipped = ranks.broadcast_from_main(lambda: load_data(arguments, config, sizes))
    trainer = HardNegativeTrainer(model_arguments.model, config, train_dataset=dataset)
    record = {"rows": {source.name: source.rows for source in dataset.sources}, "skipped_rows": skipped}
    train_and_save(trainer, "stage2", {**record, "model": model_arguments.model})
    if config.process_index == 0:
        print(config.output_dir)


if __name__ == "__main__":
    run_command(main)
