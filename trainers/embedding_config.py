# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Options that both stages share."""

from dataclasses import dataclass, field

from transformers import TrainingArguments


@dataclass
class EmbeddingTrainingConfig(TrainingArguments):
    """`TrainingArguments` with the gradient cache and with defaults that suit embedding training.

    Other defaults than in `TrainingArguments`: `remove_unused_columns=False`, `dataloader_drop_last=True` (every rank
    needs batches of one size), `logging_steps=10`, `lr_scheduler_type="cosine"`, `warmup_steps=0.05` (a share of all
    steps), `save_steps=50`, `save_total_limit=2`.
    """

    gradient_cache_chunk_size: int = field(
        default=0,
        metadata={
            "help": "Inputs that are embedded at a time. The loss still sees the whole batch, exactly; memory falls to "
            "that of one chunk at the cost of a second forward pass. 0: no gradient cache."
        },
    )
    length_bucket_size: int = field(
        default=64,
        metadata={
            "help": "Without the gradient cache: inputs of like length that are padded together. It changes the speed "
            "only, not the result."
        },
    )
    max_length: int | None = field(
        default=None,
        metadata={
            "help": "Tokens a row may have, image tokens included; longer texts lose their end. Default: the model's."
        },
    )
    loss_block_size: int = field(
        default=1024, metadata={"help": "Rows of the similarity matrix held at a time; lower it if the loss is large."}
    )
    remove_unused_columns: bool = field(
        default=False, metadata={"help": "Kept off: rows are texts and images, not model inputs."}
    )
    dataloader_drop_last: bool = field(
        default=True, metadata={"help": "Drop the last, smaller batch, so that all batches and ranks have equal size."}
    )
    logging_steps: float = field(default=10, metadata={"help": "Log every so many steps."})
    lr_scheduler_type: str = field(default="cosine", metadata={"help": "Learning-rate schedule after the warm-up."})
    save_steps: float = field(default=50, metadata={"help": "Write a checkpoint every so many steps."})
    save_total_limit: int | None = field(default=2, metadata={"help": "Checkpoints kept; older ones are deleted."})
    warmup_steps: float = field(
        default=0.05, metadata={"help": "Steps of linear warm-up; below 1, a share of all steps."}
    )

    @property
    def chunk_size(self) -> int:
        """Inputs per chunk of a batch: the gradient cache's, or else those padded together."""
        return self.gradient_cache_chunk_size or self.length_bucket_size

    def __post_init__(self):
        super().__post_init__()
        if self.gradient_cache_chunk_size < 0:
            raise ValueError(f"gradient_cache_chunk_size must be 0 or more, got {self.gradient_cache_chunk_size}")
        if self.length_bucket_size < 1:
            raise ValueError(f"length_bucket_size must be 1 or more, got {self.length_bucket_size}")
        if not self.dataloader_drop_last:
            raise ValueError("dataloader_drop_last must stay true: a smaller last batch would change the loss")
