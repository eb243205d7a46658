# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Options of stage 2, hard negative enhanced instruction tuning."""

from dataclasses import dataclass, field, fields

from trainers.embedding_config import EmbeddingTrainingConfig
from unime.options import check_at_least

# Options of the other losses, by loss_type.
IGNORED = {
    "info_nce": ("num_hard_negatives", "false_negative_margin", "short_rows"),
    "soft_label": ("false_negative_margin", "short_rows"),
}


@dataclass
class HardNegativeConfig(EmbeddingTrainingConfig):
    """Options of [`HardNegativeTrainer`] (UniME, arXiv 2504.17432, section 3.3 and Eq. 4).

    Example::

        from trainers import HardNegativeConfig

        args = HardNegativeConfig(output_dir="my-model", num_hard_negatives=8, learning_rate=2e-5, use_cpu=True)
        vlm2vec = HardNegativeConfig(output_dir="baseline", loss_type="info_nce", use_cpu=True)

    An option that the `loss_type` does not use is refused.
    """

    loss_type: str = field(
        default="hard_negative",
        metadata={
            "help": "hard_negative: UniME's loss on the k hardest negatives. info_nce: all negatives, the VLM2Vec "
            "recipe. soft_label: a judge's scores of each row's own negatives, the UniME-V2 recipe.",
            "choices": ["hard_negative", "info_nce", "soft_label"],
        },
    )
    temperature: float = field(default=0.02, metadata={"help": "Temperature of the similarities."})
    num_hard_negatives: int = field(
        default=8,
        metadata={
            "help": "k: negatives kept per query, the most similar ones; with soft_label, the first of the row's own."
        },
    )
    false_negative_margin: float = field(
        default=0.1,
        metadata={
            "help": "beta: a candidate more similar to the query than the positive by over this much is dropped."
        },
    )
    short_rows: str = field(
        default="repeat",
        metadata={
            "help": "Queries with fewer than k negatives left: 'repeat' what is left up to k (the paper) or 'mask' "
            "the rest.",
            "choices": ["repeat", "mask"],
        },
    )
    use_row_negatives: bool = field(
        default=True,
        metadata={"help": "Add the rows' own negatives to the candidates of the batch; soft_label needs them."},
    )
    exclude_known_positives: bool = field(
        default=True,
        metadata={
            "help": "A query that several rows have: its positives of the other rows are never its negatives. "
            "false: the papers' plain rule, by which only copies of the row's own positive are left out."
        },
    )
    source_block_size: int = field(
        default=0,
        metadata={
            "help": "Rows of one source that stand together in a global batch: 0 mixes all rows, the global batch size "
            "gives batches of one source, and something between, which must divide it, interleaves them."
        },
    )
    keep_image_features: bool = field(
        default=True,
        metadata={
            "help": "With the gradient cache: keep what the frozen vision tower makes of each image for the second pass, "
            "instead of running it again. Takes tokens of the step's images x width of the LLM x 2 or 4 bytes."
        },
    )

    def __post_init__(self):
        super().__post_init__()
        if self.loss_type == "soft_label" and not self.use_row_negatives:
            raise ValueError("loss_type soft_label trains on the rows' own negatives: leave use_row_negatives true")
        check_at_least(self, num_hard_negatives=1, source_block_size=0)
        for entry in fields(self):
            value = getattr(self, entry.name)
            if entry.name in IGNORED.get(self.loss_type, ()) and value != entry.default:
                raise ValueError(
                    f"{entry.name} has no effect with loss_type {self.loss_type}: leave it out or at {entry.default}"
                )
