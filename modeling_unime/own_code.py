# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Backbones with a part, vision tower or LLM, of a model type that only code beside their weights knows.

Such a part has an `auto_map` in its config. Until running the code is allowed, the part's config is a stand-in.
"""

import copy
import sys
from pathlib import Path

from transformers import CONFIG_MAPPING, AutoConfig, AutoModel, PreTrainedConfig
from transformers.dynamic_module_utils import (
    custom_object_save,
    get_class_from_dynamic_module,
    get_relative_import_files,
)

HUB_OPTIONS = ("revision", "token", "cache_dir", "local_files_only")


class StandInConfig(PreTrainedConfig):
    """The values of a part whose code has not run.

    Known by `is_stand_in`: as remote code, config and model have this class twice (see OWN_BACKBONES in modeling_unime).
    """

    is_stand_in = True

    def __init__(self, **values):
        self.values = values
        super().__init__(**{name: value for name, value in values.items() if name != "model_type"})

    def to_dict(self) -> dict:
        return {"transformers_version": None, **copy.deepcopy(self.values)}


def _needs_code(value) -> bool:
    """Whether a value of a config is the config of a part that the library does not know."""
    if not isinstance(value, dict) or not {"AutoConfig", "AutoModel"} <= (value.get("auto_map") or {}).keys():
        return False
    model_type = value.get("model_type")
    return model_type not in CONFIG_MAPPING or not CONFIG_MAPPING[model_type].__module__.startswith("transformers.")


def with_stand_ins(values: dict) -> dict:
    """The values of a backbone's config, with stand-ins for the parts whose code has not run."""
    return {name: StandInConfig(**value) if _needs_code(value) else value for name, value in values.items()}


def stand_ins(backbone: PreTrainedConfig) -> dict[str, StandInConfig]:
    """The parts of a backbone's config whose code has not run, by name."""
    return {name: value for name, value in vars(backbone).items() if getattr(value, "is_stand_in", False)}


def check_no_stand_ins(backbone: PreTrainedConfig, source: str) -> None:
    """Refuse a backbone with a part whose code has not run."""
    for name, part in stand_ins(backbone).items():
        raise ValueError(
            f"{source}: its {name} is of type {part.values.get('model_type')!r}, which only code beside the weights "
            f"knows ({part.values['auto_map']['AutoModel']}); read that code, and give trust_remote_code=True to run it"
        )


def run_code(backbone: PreTrainedConfig, source: str, **hub) -> None:
    """Put the real configs in the place of stand-ins, in place, by running the code in a folder or Hub repository."""
    for name, part in stand_ins(backbone).items():
        references = {auto: reference.split("--")[-1] for auto, reference in part.values["auto_map"].items()}
        model_class = get_class_from_dynamic_module(part.values["auto_map"]["AutoModel"], source, **hub)
        # Not the class that AutoConfig names: the library loads it from the file of the config alone, which folders
        # with different models may share. The model's has its place beside the model.
        config_class = model_class.config_class
        _check_file_names(model_class, source)
        AutoModel.register(config_class, model_class, exist_ok=True)
        values = {key: value for key, value in part.values.items() if key not in ("model_type", "auto_map")}
        # Private: the property that tells what was asked for, which the library has set on the stand-in as well.
        attention = part._attn_implementation
        setattr(backbone, name, config_class(**values, auto_map=references, attn_implementation=attention))


def _files_of(model_class: type) -> list[Path]:
    file = sys.modules[model_class.__module__].__file__
    return [Path(path) for path in (file, *get_relative_import_files(file))]


def _check_file_names(model_class: type, source: str) -> None:
    """Refuse code that would take the place of ours in a saved folder, which holds both side by side."""
    own = {path.name for path in Path(__file__).parent.glob("*.py")}
    for path in _files_of(model_class):
        if path.name in own:
            raise ValueError(f"{source}: {path.name} has the name of a file of UniME's own code; rename it")


def read_backbone_config(source: str, trust_remote_code: bool = False, **hub) -> PreTrainedConfig:
    """The config of a folder or Hub repository; code of a part runs only if that is allowed."""
    values, _ = PreTrainedConfig.get_config_dict(source, **hub)
    if not any(map(_needs_code, values.values())):
        return AutoConfig.from_pretrained(source, **hub)
    backbone = AutoConfig.for_model(**with_stand_ins(values))
    if trust_remote_code:
        run_code(backbone, source, **hub)
    check_no_stand_ins(backbone, source)
    return backbone


def save_code(model, folder: str | Path) -> None:
    """Copy the code of a model's parts into a folder."""
    for part in model.modules():
        auto_map = getattr(getattr(part, "config", None), "auto_map", None) or {}
        if part is not model and auto_map.get("AutoModel", "").endswith("." + type(part).__name__):
            custom_object_save(part, folder)
