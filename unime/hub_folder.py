# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""A trained model's folder as the Hub takes it: the model saved anew, for `unime export` and push_to_hub.

Nothing is copied but sentence-transformers' settings (prompts and the like): weights, code and processor are what this
package reads from the folder and writes again, so that no token, log, changed code or path of this machine goes along.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import PreTrainedConfig

from modeling_unime import UniMEModel, UniMEProcessor
from modeling_unime.saved_folder import digest_weight, read_digest
from unime.model_files import read_weights

USERS_FILE = "config_sentence_transformers.json"  # prompts by name, similarity: the same in both formats
SETTINGS = (USERS_FILE, "sentence_bert_config.json")  # what a user may have set there
NEEDED = ("processor_config.json", "tokenizer_config.json", "modules.json")
SHARD_SIZE = "5GB"  # of a file of weights: what is lost when an upload breaks


def adapters_beside(folder: Path) -> str:
    """What is wrong with adapters beside a model's weights: AutoModel would add them, silently; "" if there are none."""
    found = sorted(path.name for path in folder.glob("adapter_*"))
    return (
        f"{', '.join(found)} beside the model's weights: libraries would apply the adapter as well; remove these files "
        "if it is merged, or use `unime convert` if it is not"
        if found
        else ""
    )


def forget_origin(config: PreTrainedConfig) -> None:
    """Remove from a config, and from those inside it, where it was read from."""
    config.name_or_path = ""
    for value in vars(config).values():
        if isinstance(value, PreTrainedConfig):
            forget_origin(value)


def check_source(source: Path) -> None:
    """Refuse a folder that is not complete, or that holds more than a model: an adapter, or further modules."""
    for needed in NEEDED:
        if not (source / needed).is_file():
            raise FileNotFoundError(f"{source} has no {needed}; export a folder that a training command finished")
    if adapters := adapters_beside(source):
        raise ValueError(f"{source} has {adapters}")
    modules = json.loads((source / "modules.json").read_text(encoding="utf-8"))
    further = [module["type"] for module in modules[1:]]
    if further:
        raise ValueError(
            f"{source}/modules.json has further modules ({', '.join(further)}), which the exported model would lack; "
            "save it with SentenceTransformer.save_pretrained instead"
        )


def save_in_shards(model: UniMEModel, processor: UniMEProcessor, output: Path) -> None:
    """UniME's own format."""
    model.save_pretrained(output, max_shard_size=SHARD_SIZE)
    processor.save_pretrained(output)


def save_again(
    source: Path,
    output: Path,
    trust_remote_code: bool,
    save: Callable[[UniMEModel, UniMEProcessor, Path], None] = save_in_shards,
    settings: tuple[str, ...] = SETTINGS,
) -> dict[str, Any]:
    """Read model and processor with this package's own code and `save` them, with `settings` and no more of the folder.

    Returns what the card says of them (`unime.card.write_readme`).
    """
    check_source(source)
    model = UniMEModel.from_pretrained(source, dtype="auto", trust_remote_code=trust_remote_code)
    processor = UniMEProcessor.from_pretrained(source, trust_remote_code=False)
    forget_origin(model.config)
    save(model, processor, output)
    written = set((read_digest(output) or {}).values())
    changed = [name for name, tensor in read_weights(source) if digest_weight(tensor) not in written]
    if changed:
        raise ValueError(f"{output} is written, but must not be released: weights changed on the way: {changed[:5]}")
    for name in settings:
        if (source / name).is_file():
            shutil.copyfile(source / name, output / name)
    return {
        "family": model.config.family,
        "dimension": model.config.hidden_size,
        "max_length": processor.max_length or processor.tokenizer.model_max_length,
        "image_resolution": processor.image_resolution,
    }
