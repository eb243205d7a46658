# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Which options of `transformers.TrainingArguments` the trainers honour, and why the others are refused at start.

Every option of the library stands here once; a test fails when a new version of it has one that is in neither table. An
option that moves from `REFUSED` to `WORKS` needs a test that it has an effect.
"""

from dataclasses import MISSING, fields

from transformers import TrainingArguments
from transformers.trainer_pt_utils import AcceleratorConfig

WORKS = frozenset(
    # length of the run and optimizer
    "output_dir per_device_train_batch_size gradient_accumulation_steps num_train_epochs max_steps learning_rate "
    "lr_scheduler_type lr_scheduler_kwargs warmup_steps optim optim_args weight_decay adam_beta1 adam_beta2 adam_epsilon "
    "max_grad_norm neftune_noise_alpha seed data_seed full_determinism "
    # computation
    "bf16 fp16 tf32 use_cpu activation_checkpointing activation_checkpointing_kwargs gradient_checkpointing "
    "gradient_checkpointing_kwargs fsdp fsdp_config deepspeed ddp_backend ddp_timeout ddp_find_unused_parameters "
    "ddp_bucket_cap_mb ddp_broadcast_buffers local_rank debug skip_memory_metrics "
    # data
    "dataloader_num_workers dataloader_pin_memory dataloader_persistent_workers "
    "dataloader_prefetch_factor dataloader_multiprocessing_context do_train "
    # log
    "logging_strategy logging_steps logging_first_step log_on_each_node logging_nan_inf_filter log_level "
    "log_level_replica disable_tqdm report_to run_name project trackio_space_id trackio_bucket_id "
    "trackio_static_space_id "
    # evaluation
    "eval_strategy eval_steps eval_delay eval_on_start per_device_eval_batch_size do_eval load_best_model_at_end "
    "metric_for_best_model greater_is_better "
    # checkpoints and the finished model
    "save_strategy save_steps save_total_limit resume_from_checkpoint ignore_data_skip "
    "restore_callback_states_from_checkpoint push_to_hub hub_token hub_private_repo hub_model_id hub_strategy "
    "hub_revision".split()
)

OWN_EVALUATION = "evaluation keeps a few numbers of each row, in the type that the model is trained in"
OWN_ORDER = "the order of the rows is that of the global batches (seed, data_seed and, in stage 2, source_block_size)"
NO_LABELS = "the loss compares embeddings, and there are no labels"
NO_KERNEL = "the kernels are chosen by the type of the model, and there are none for unime"
NO_COMPILE = "every chunk has another shape, for which compiling begins anew until torch gives it up"
NOT_DATA_PARALLEL = "the loss gathers embeddings over data-parallel processes only"
OWN_LOADER = "the batches do not come from accelerate's loader"
HUB_AT_END = "the finished model is pushed once, at the end"

REFUSED = {
    **dict.fromkeys(
        "prediction_loss_only eval_do_concat_batches eval_use_gather_object eval_accumulation_steps include_for_metrics "
        "batch_eval_metrics bf16_full_eval fp16_full_eval".split(),
        OWN_EVALUATION,
    ),
    "do_predict": "call predict() of the trainer",
    **dict.fromkeys(("train_sampling_strategy", "length_column_name", "dataloader_in_order"), OWN_ORDER),
    **dict.fromkeys(("label_smoothing_factor", "label_names"), NO_LABELS),
    **dict.fromkeys(("use_liger_kernel", "liger_kernel_config"), NO_KERNEL),
    **dict.fromkeys(("torch_compile", "torch_compile_backend", "torch_compile_mode"), NO_COMPILE),
    "parallelism_config": NOT_DATA_PARALLEL,
    "accelerator_config": OWN_LOADER,
    "hub_always_push": HUB_AT_END,
    "auto_find_batch_size": "a smaller batch is another loss: set gradient_cache_chunk_size to take less memory",
    "average_tokens_across_devices": "the loss is a mean over the rows of all processes, not over tokens",
    "dataloader_drop_last": "a smaller last batch would be another loss, and is always left out",
    "ddp_static_graph": "the number of chunks differs from step to step",
    "enable_jit_checkpoint": "a checkpoint is written after SIGTERM without it",
    "include_num_input_tokens_seen": "tokens are always counted, as tokens_per_second in the log",
    "optim_target_modules": "GaLore and APOLLO, which it is for, do not run with these trainers",
    "remove_unused_columns": "rows are texts and images, which no model input has a name for",
    "save_on_each_node": "all machines need one output_dir, or a stopped run could not be continued",
    "save_only_model": "such a checkpoint cannot be continued: set save_strategy to no to write none",
    "torch_empty_cache_steps": "the cache is left alone: set gradient_cache_chunk_size to take less memory",
    "use_cache": "an embedding takes one pass, and no keys and values are kept",
}


# Options of `WORKS` that may not have some values, or longer ones that begin so.
REFUSED_VALUES = {
    "do_train": (("False",), "this command trains: start evaluation.run to evaluate"),
    "lr_scheduler_type": (("greedy",), "it is not tested with these trainers"),
    "hub_strategy": (("every_save", "checkpoint", "all_checkpoints"), HUB_AT_END),
    "optim": (
        ("galore", "apollo", "lomo", "adalomo", "schedule_free"),
        "it steps inside the backward pass or keeps weights of its own, which the gradient cache does not allow",
    ),
}


def check_inherited_options(config: TrainingArguments) -> None:
    """Refuse options of the library that would have no effect, or a wrong one, before it derives further ones from them."""
    for entry in fields(config):
        name, value = entry.name, getattr(config, entry.name)
        default = entry.default if entry.default_factory is MISSING else entry.default_factory()
        text = str(getattr(value, "value", value))  # as it is written in a recipe
        values, why = REFUSED_VALUES.get(name, ((), ""))
        if text.startswith(values):
            raise ValueError(f"{name} {text} does not work here: {why}")
        # The library replaces some defaults by others of the same meaning once it has read them.
        if isinstance(value, AcceleratorConfig):
            left_alone = vars(value).items() <= vars(AcceleratorConfig()).items()
        else:
            left_alone = value == default or (value is False and default == "no")
        if name in REFUSED and not left_alone:
            raise ValueError(f"{name} does not work here: {REFUSED[name]}")
