# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Options that both stages share."""

from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import torch
from transformers import TrainingArguments

from trainers.chunks import ChunkLimits, RankSlice
from trainers.inherited_options import check_inherited_options
from trainers.losses.matryoshka import sort_dims
from unime.options import check_at_least, read_yaml
from unime.shipped_files import find_recipe

PADDED_TOGETHER = 64  # inputs of a chunk without the gradient cache: a matter of speed only


@dataclass
class EmbeddingTrainingConfig(TrainingArguments):
    """`TrainingArguments` with the gradient cache and with defaults that suit embedding training.

    Other defaults than in `TrainingArguments`: `remove_unused_columns=False`, `dataloader_drop_last=True` (every rank
    needs batches of one size), `logging_steps=10`, `lr_scheduler_type="cosine"`, `warmup_steps=0.05` (a share of all
    steps), `save_steps=50`, `save_total_limit=2`, `restore_callback_states_from_checkpoint=True`, `hub_strategy="end"`,
    `do_train=True`.

    An inherited option that would have no effect is refused (`trainers.inherited_options`). Pickled, as beside every
    checkpoint, the options are without the token of the Hub.
    """

    # ---- the model
    dtype: str = field(
        default="auto",
        metadata={
            "help": "Type of the weights: auto (as stored), float32, bfloat16 or float16. Those that are trained are held in "
            "float32 meanwhile; bf16 and fp16 say what is computed in.",
            "choices": ["auto", "float32", "bfloat16", "float16"],
        },
    )
    trust_remote_code: bool = field(
        default=False,
        metadata={
            "help": "Run the Python files in the model folder if the type of its vision tower or LLM is not a known one. "
            "They go along into the finished model."
        },
    )
    attn_implementation: str | None = field(
        default=None, metadata={"help": "eager, sdpa, flash_attention_2, ... Default: the library's choice."}
    )
    attention: str | None = field(
        default=None,
        metadata={
            "help": "What a token of the LLM sees: those before it (causal) or all (bidirectional, as LLM2Vec, arXiv "
            "2404.05961). Default: causal, or what a UniME model was made with, which cannot be changed.",
            "choices": ["causal", "bidirectional"],
        },
    )
    image_resolution: int | None = field(
        default=None,
        metadata={
            "help": "Side in pixels of the square every image is resized to first (336 in the paper). Default: "
            "as the model's processor has it."
        },
    )
    lora_rank: int = field(default=16, metadata={"help": "Rank of LoRA on the LLM; 0 trains the whole LLM."})
    lora_alpha: int | None = field(default=None, metadata={"help": "LoRA alpha. Default: twice the rank."})
    lora_dropout: float = field(default=0.0, metadata={"help": "LoRA dropout."})
    lora_type: str = field(
        default="lora",
        metadata={"help": "lora, or dora (VLM2Vec): slower, learns rows' lengths apart.", "choices": ["lora", "dora"]},
    )
    lora_init: str = field(
        default="default",
        metadata={
            "help": "Start of LoRA's first matrix: default (uniform) or gaussian.",
            "choices": ["default", "gaussian"],
        },
    )
    quantization: str = field(
        default="none",
        metadata={
            "help": "4bit: hold the LLM's weights in 4 bits (NF4) while LoRA is trained on them (QLoRA); needs a GPU. The "
            "finished model has the precision of the source.",
            "choices": ["none", "4bit"],
        },
    )

    # ---- the step
    gradient_cache_chunk_size: int = field(
        default=0,
        metadata={
            "help": "Inputs that are embedded at a time. The loss still sees the whole batch, exactly; memory falls to "
            "that of one chunk at the cost of a second forward pass. 0: no gradient cache."
        },
    )
    gradient_cache_chunk_tokens: int = field(
        default=0,
        metadata={
            "help": "Tokens, images' and padding's included, that are embedded at a time: chunks then take the same memory "
            "whether they hold labels or pictures. Switches the gradient cache on. 0: chunks are counted in inputs."
        },
    )
    max_length: int | None = field(
        default=None,
        metadata={
            "help": "Tokens a row may have, image tokens included; longer texts lose their end. Default: the model's."
        },
    )
    matryoshka_dims: list[int] = field(
        default_factory=list,
        metadata={
            "help": "Widths at which vectors shall be usable, cut to their first components (Matryoshka): the loss is the sum "
            "of the losses at each, and the model's config names them. The full width is trained only if it is among "
            "them. Default: the full width alone."
        },
    )
    matryoshka_weights: list[float] = field(
        default_factory=list, metadata={"help": "Weight of the loss at each of matryoshka_dims. Default: 1 each."}
    )
    eval_tasks: list[str] = field(
        default_factory=list,
        metadata={
            "help": "Benchmark files and folders (as unime evaluate takes them as data), and suites by name or YAML file, which "
            "are looked for in the folders, that are scored at each evaluation, see eval_strategy: eval_<task>_<metric> and, over "
            "several, eval_tasks_<metric> and eval_<suite>_<metric>, which metric_for_best_model may name."
        },
    )
    eval_image_root: str | None = field(
        default=None,
        metadata={"help": "Folder or zip archive of the images of eval_tasks. Default: as unime evaluate has it."},
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
    restore_callback_states_from_checkpoint: bool = field(
        default=True, metadata={"help": "Continue early stopping, and other callbacks that can, where it stood."}
    )
    save_total_limit: int | None = field(default=2, metadata={"help": "Checkpoints kept; older ones are deleted."})
    warmup_steps: float = field(
        default=0.05, metadata={"help": "Steps of linear warm-up; below 1, a share of all steps."}
    )

    hub_strategy: str = field(
        default="end", metadata={"help": "end: push_to_hub pushes the finished model and its card, once."}
    )
    do_train: bool = field(default=True, metadata={"help": "Only true: the command trains."})
    resume_from_checkpoint: str | None = field(
        default=None,
        metadata={
            "help": "Checkpoint folder to start from. Default: the newest checkpoint in output_dir, if there is one; a run "
            "that was started from another folder's checkpoint continues from its own, too."
        },
    )

    @property
    def uses_gradient_cache(self) -> bool:
        """Whether chunks are embedded twice, for the memory of one, instead of all being held."""
        return bool(self.gradient_cache_chunk_size or self.gradient_cache_chunk_tokens)

    @property
    def chunk_limits(self) -> ChunkLimits:
        """How large a chunk may be: the gradient cache's, or else those padded together."""
        if self.gradient_cache_chunk_tokens:
            return ChunkLimits(self.gradient_cache_chunk_size or None, self.gradient_cache_chunk_tokens)
        return ChunkLimits(self.gradient_cache_chunk_size or PADDED_TOGETHER)

    @property
    def rank_slice(self) -> RankSlice:
        """Which part of each global batch this process embeds."""
        return RankSlice(self.process_index, self.world_size)

    @property
    def global_batch_size(self) -> int:
        """Rows of a batch of all ranks; gradient accumulation does not enlarge it."""
        return self.per_device_train_batch_size * self.world_size

    @property
    def order_seed(self) -> int:
        """Seed of the order of the rows."""
        return self.seed if self.data_seed is None else self.data_seed

    def __getstate__(self) -> dict:
        """What is pickled: all but the token, which would stand in clear beside every checkpoint."""
        return {**self.__dict__, "hub_token": None}

    def __post_init__(self):
        if str(self.fsdp).lower() in ("true", "false", "yes", "no"):  # the library reads only a bare --fsdp
            self.fsdp = str(self.fsdp).lower() in ("true", "yes")
        check_inherited_options(self)  # first: the library derives options from others below
        if isinstance(self.deepspeed, str) and self.deepspeed and not self.deepspeed.startswith("{"):
            if not Path(self.deepspeed).exists():
                self.deepspeed = str(find_recipe(self.deepspeed))  # the shipped file, outside a checkout
            read_yaml(Path(self.deepspeed))  # JSON is YAML; the library reads whatever is there
        if self.deepspeed and find_spec("deepspeed") is None:
            raise ImportError(
                'deepspeed: this recipe needs the package deepspeed: pip install -c constraints.txt -e ".[deepspeed]"'
            )
        for name in ("bf16", "fp16"):
            if getattr(self, name) and not self.use_cpu and not torch.accelerator.is_available():
                raise ValueError(
                    f"{name}: true is for a GPU, and this machine has none that torch can use; run it where there is one, "
                    f"or try it out on the CPU, with a small model, by --use_cpu true --{name} false --deepspeed= "
                    "--expected_world_size 1"
                )
        super().__post_init__()
        check_at_least(self, lora_rank=0, gradient_cache_chunk_size=0, gradient_cache_chunk_tokens=0)
        check_at_least(self, image_resolution=1, max_length=1)
        if self.matryoshka_dims:
            sort_dims(self.matryoshka_dims, self.matryoshka_weights)
        elif self.matryoshka_weights:
            raise ValueError("matryoshka_weights has no effect without matryoshka_dims: give both, or leave it out")
