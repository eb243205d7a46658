# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""The model card: what the records and configs of trainings say of a model, and no more."""

import json
import re
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData, try_to_load_from_cache

from unime.output_folder import CONVERSION_FILE, OPTIONS_FILE, RECORD_FILE
from unime.public_names import is_local, public_name
from unime.shipped_files import shipped_file

LIMITS = "The licences of backbone, teacher and training data apply."
TAGS = ["unime", "multimodal-embedding"]
STAGES = {  # by the record's stage
    "stage1": "textual discriminative knowledge distillation (stage 1)",
    "stage1 (E5-V)": "contrastive training on text alone, the recipe of E5-V (arXiv 2407.12580)",
    "stage2": "hard negative enhanced instruction tuning (stage 2)",
}
TOLD = (  # of a run's options
    "learning_rate", "lr_scheduler_type", "warmup_steps", "weight_decay", "num_train_epochs", "temperature",
    "teacher_temperature", "loss_type", "num_hard_negatives", "false_negative_margin", "use_row_negatives",
    "lora_rank", "lora_alpha", "lora_dropout", "lora_type", "quantization", "dtype", "bf16", "fp16", "attention",
    "image_resolution", "max_length", "matryoshka_dims", "matryoshka_weights",
)  # fmt: skip
# What the recipes name; of others, the licence is read from their card, where that is on this machine.
LICENSES = {
    "all-MiniLM-L6-v2": "apache-2.0",
    "llava-hf/llava-v1.6-mistral-7b-hf": "apache-2.0",
    "microsoft/Phi-3.5-vision-instruct": "mit",
    "nvidia/NV-Embed-v2": "cc-by-nc-4.0",
    "Qwen/Qwen2-VL-2B-Instruct": "apache-2.0",
}
PERMISSIVE = ("mit", "apache-2.0", "bsd-2-clause", "bsd-3-clause", "cc0-1.0", "cc-by-4.0")


def read_stages(folder: Path) -> tuple[list[tuple[dict, dict]], str]:
    """Record and options of each training behind a folder, the first one first, and the name of what that began with."""
    stages, origin = [], ""
    while (folder / RECORD_FILE).is_file() and len(stages) < 9:  # a folder that names itself ends there
        files = (folder / RECORD_FILE, folder / OPTIONS_FILE)
        record, options = (json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {} for file in files)
        stages.insert(0, (record, options))
        origin = options.get("model") or record.get("model", "")
        folder = Path(origin or "nothing")
    if (folder / CONVERSION_FILE).is_file():
        report = json.loads((folder / CONVERSION_FILE).read_text(encoding="utf-8"))
        origin = report["base"] or report["source"]
    return stages, origin


def license_of(name: str) -> str | None:
    """The licence of a model or data set by its card, if that is here, or by what is known of it."""
    cards = [Path(name, "README.md")]
    if "/" in name and not is_local(name):
        cards += [try_to_load_from_cache(name, "README.md", repo_type=kind) for kind in ("model", "dataset")]
    for card in cards:
        if isinstance(card, str | Path) and Path(card).is_file():
            found = ModelCard(Path(card).read_text(encoding="utf-8"), ignore_metadata_errors=True).data.license
            if isinstance(found, str):
                return found
    return LICENSES.get(name.removeprefix("sentence-transformers/"))


def strictness(license: str) -> int:
    """An order of licences: permissive, share-alike, terms of their own, non-commercial."""
    ranks = (license in PERMISSIVE, "-sa" in license or "gpl" in license, "-nc" not in license)
    return next((rank for rank, found in enumerate(ranks) if found), len(ranks))


def hub_data_sets(options: dict) -> list[str]:
    """Names on the Hub of the data that a training read."""
    sources = [source for name in ("data", "texts") for source in options.get(name) or []]
    names = [re.match(r"[\w.-]+/[\w.-]+(?=:|$)", source) for source in sources if not is_local(source)]
    return [name[0] for name in names if name and not re.search(r"\.(jsonl?|csv|parquet)(\.gz)?$", name[0])]


def write_readme(
    output: Path,
    source: Path,
    repository: str,
    form: str,
    *,
    base_model: str = "",
    license: str = "",
    limits: str = LIMITS,
    results: str = "Not evaluated.",
    eval_results: list[EvalResult] | None = None,
    family: str = "",
    needed_packages: str = "",
    **more: Any,
) -> None:
    """README.md of a folder to publish.

    Args:
        output: the folder.
        source: folder that the training, or `unime convert`, wrote, with its records.
        repository: name on the Hub.
        form: "unime", "native" or "adapter".
        base_model, license, limits: what the user says; the first two are else what the records tell.
        results: the figures as Markdown.
        eval_results: the figures as the Hub reads them.
        family: name of the backbone's row in the adapter table, of a whole model.
        needed_packages: of the native form.
        more: `dimension`, `max_length` and `image_resolution` of a whole model.
    """
    stages, origin = read_stages(source)
    base = base_model or (origin if "/" in public_name(origin) else "")
    teachers = [options.get("teacher") or record["teacher"] for record, options in stages if "teacher" in record]
    data_sets = list(dict.fromkeys(name for _, options in stages for name in hub_data_sets(options)))
    parts = list(filter(None, dict.fromkeys([base or origin, *teachers, *data_sets])))
    licenses = {public_name(part): license_of(part) for part in parts}
    title = repository.rpartition("/")[2]
    data = ModelCardData(
        model_name=title,
        library_name="peft" if form == "adapter" else "sentence-transformers",
        pipeline_tag="feature-extraction",
        tags=[*TAGS, "lora"] if form == "adapter" else [*TAGS, "sentence-transformers", "transformers"],
        license=license or max((found or "other" for found in licenses.values()), key=strictness, default="other"),
        base_model=base or None,
        base_model_relation=("adapter" if form == "adapter" else "finetune") if base else None,
        datasets=data_sets or None,
        eval_results=eval_results,
    )
    card = ModelCard.from_template(
        data,
        template_path=shipped_file("model_card.md"),
        name=title,
        repository=repository,
        form=form,
        base=base,
        needed_packages=needed_packages,
        backbone=public_name(base or origin),
        family=family,
        stages=stages,
        titles=STAGES,
        told=TOLD,
        public_name=public_name,
        results=results,
        licenses=licenses,
        limits=limits,
        **more,
    )
    (output / "README.md").write_text(str(card) + "\n", encoding="utf-8")
