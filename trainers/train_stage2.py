# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Stage 2 from the command line: contrastive instruction tuning on MMEB-form rows.

    python -m trainers.train_stage2 examples/recipes/tiny-cpu/stage2.yaml --model STAGE1 --data FOLDER --output_dir OUT

Started again with the same command after it was stopped, it continues.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from transformers.utils import logging

from evaluation.dual_encoder import is_dual_encoder
from trainers.data.pairs import PairDataset
from trainers.data.row_arguments import TrainingRowArguments
from trainers.hard_negative_config import HardNegativeConfig
from trainers.hard_negative_trainer import HardNegativeTrainer
from trainers.loading import load_processor
from trainers.run import ModelArguments, begin_run, train_and_save
from unime.data.image_sizes import ImageSizes
from unime.distributed import LongWaitGroup
from unime.options import parse_dataclasses, run_command
from unime.output_folder import only_writer

logger = logging.get_logger(__name__)


@dataclass(kw_only=True)
class Stage2Arguments(TrainingRowArguments):
    """The rows of stage 2."""

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


def load_data(
    arguments: Stage2Arguments, config: HardNegativeConfig, sizes: ImageSizes | None
) -> tuple[PairDataset, int]:
    """The rows, and how many were left out; those are listed in `bad_rows.json`."""
    dataset, skipped = arguments.load(
        config.output_dir,
        weights=arguments.weights,
        instructions=arguments.instructions,
        split=arguments.split,
        seed=config.seed,
        sizes=sizes,
    )
    negatives, rows = dataset.count_negatives()
    if negatives and not config.use_row_negatives:
        logger.warning(
            f"use_row_negatives is false: {negatives} negatives that {rows} of {len(dataset.table)} rows carry are not used"
        )
    return dataset, skipped


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
