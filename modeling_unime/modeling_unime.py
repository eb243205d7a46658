# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""The UniME model: a multimodal LLM without its head, and the embedding of the last attended token.

The embedding is the final hidden state of the last token that the attention mask keeps, L2-normalised in float32
(UniME, arXiv 2504.17432, section 3.2.1). The last token belongs to the trailing prompt, "... in one word:", after which
the LLM holds its summary of what it read. The pooled position comes from the mask, so padding side and batch size do
not matter. The LM head is neither built nor run.
"""

import copy
from dataclasses import dataclass

from .needed_versions import NEEDED  # noqa: F401 isort: skip (older versions lack what follows)
import torch
from torch import nn
from transformers import AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.utils import ModelOutput

from .configuration_phi3v import Phi3VConfig
from .configuration_unime import UniMEConfig
from .families import get_family
from .modeling_phi3v import Phi3VModel
from .own_code import HUB_OPTIONS, check_no_stand_ins, read_backbone_config, run_code, save_code
from .pickling import PicklableModel
from .saved_folder import (
    digest_weights,
    give_weights_the_usual_mode,
    write_digests,
    write_sentence_transformers_files,
)

# Backbones of our own. As remote code they are found by model type: the library puts the files that a config needs and
# those that a model needs into two folders, so that the config's class is not the one this file imports.
OWN_BACKBONES = {Phi3VConfig.model_type: Phi3VModel}
AutoModel.register(Phi3VConfig, Phi3VModel, exist_ok=True)

# Weights that an embedding model has no use for; everything else that is not expected is an error.
DROPPED_WEIGHTS = (
    r"(^|\.)lm_head\.",
    r"(^|\.)vision_embed_tokens\.wte\.",  # Phi-3.5-vision: a second name of the text embedding
)
# Weights of another shape are let through the library so that check_loading can name them.
STRICT_LOADING = {"output_loading_info": True, "ignore_mismatched_sizes": True}
# Options of loading that an attribute of the config has the name of.
FOR_WEIGHTS = ("dtype", "torch_dtype", "quantization_config")


@dataclass
class UniMEOutput(ModelOutput):
    """Output of [`UniMEModel`].

    Example::

        output = model(**processor(text=["a dog", "a cat"]))
        similarities = output.embeddings @ output.embeddings.T

    Attributes:
        embeddings: (B, D) float32, unit length.
    """

    embeddings: torch.FloatTensor | None = None


class WeightsMismatchError(ValueError):
    """A checkpoint lacks weights of the model, has unexpected ones, or ones of another shape.

    Example::

        from modeling_unime import UniMEModel, WeightsMismatchError

        try:
            model = UniMEModel.from_pretrained(folder)
        except WeightsMismatchError as error:  # names the weights
            print(error)
    """


def pool_last_token(hidden_states: torch.Tensor, attention_mask: torch.Tensor | None) -> torch.Tensor:
    """State (B, D) of the last attended token of each row of (B, L, D), padded left or right."""
    if attention_mask is None:
        return hidden_states[:, -1]
    positions = torch.arange(attention_mask.shape[1], device=attention_mask.device)
    last = (positions * attention_mask.ne(0)).argmax(dim=1)  # (B,)
    return hidden_states[torch.arange(len(last), device=last.device), last.to(hidden_states.device)]


def normalise(vectors: torch.Tensor) -> torch.Tensor:
    """Unit length along the last axis, in float32 (float64 stays)."""
    return nn.functional.normalize(vectors.to(torch.promote_types(vectors.dtype, torch.float32)), dim=-1)


def check_loading(source: str, info: dict) -> None:
    """Raise unless a checkpoint fitted the model exactly, by the `output_loading_info` of `from_pretrained`."""
    faults = []
    for title, names in (
        ("missing", sorted(info["missing_keys"])),
        ("unexpected", sorted(info["unexpected_keys"])),
        ("of another shape", sorted(str(entry[0]) for entry in info["mismatched_keys"])),
        ("unreadable", [str(message) for message in info.get("error_msgs") or []]),
    ):
        if names:
            shown = ", ".join(names[:20]) + (f", and {len(names) - 20} more" if len(names) > 20 else "")
            faults.append(f"{len(names)} {title}: {shown}")
    if faults:
        raise WeightsMismatchError(
            f"the weights in {source} do not fit the model ({'; '.join(faults)}). Nothing was loaded: a model with "
            "random parts would give plausible but worthless embeddings. Use the complete checkpoint of this model."
        )


class UniMEModel(PicklableModel):
    """Universal multimodal embedding model.

    Example::

        from modeling_unime import UniMEModel, UniMEProcessor

        model = UniMEModel.from_backbone("Qwen/Qwen2-VL-2B-Instruct")
        processor = UniMEProcessor.from_backbone("Qwen/Qwen2-VL-2B-Instruct")
        vectors = model(**processor(text=["a dog", None], images=[None, image])).embeddings
        model.save_pretrained("my-own")
        processor.save_pretrained("my-own")

    Build one from any supported multimodal LLM with [`~UniMEModel.from_backbone`], or load a saved one with
    `from_pretrained` (also through `AutoModel`). Loading is strict: missing or unexpected weights other than an LM head
    raise [`WeightsMismatchError`].
    """

    config_class = UniMEConfig
    base_model_prefix = "model"
    main_input_name = "input_ids"
    input_modalities = ("image", "text")
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _keys_to_ignore_on_load_unexpected = list(DROPPED_WEIGHTS)

    def __init__(self, config: UniMEConfig):
        super().__init__(config)
        check_no_stand_ins(config.backbone, config.name_or_path)
        own = OWN_BACKBONES.get(config.family)
        # Private: `_from_config` is what AutoModel.from_config calls, with the config's attention and dtype.
        self.model = own._from_config(config.backbone) if own else AutoModel.from_config(config.backbone)
        self.family = get_family(config.family)
        if config.attention == "bidirectional":
            # Private: masks go by `config.is_causal`, kernels without a mask by each attention module's `is_causal`.
            for module in self.language_model.modules():
                if hasattr(module, "is_causal"):
                    module.is_causal = False
                if isinstance(module, PreTrainedModel):
                    module.config.is_causal = False
                    module.config.sliding_window = None  # a window hides tokens as well
        self.post_init()

    def _apply(self, fn, recurse: bool = True):
        """As torch's, which every cast and move goes through; what is computed when the model is built keeps its bits.

        `from_pretrained(dtype=...)` leaves the rotary frequencies of LLM and vision tower in float32, and so must
        `half()` and the like: rounded, they would turn far positions by whole radians.
        """
        before = [(module, dict(module.named_buffers(recurse=False))) for module in self.modules()]
        super()._apply(fn, recurse)
        for module, buffers in before:
            for name in module._non_persistent_buffers_set & buffers.keys():
                was, buffer = buffers[name], module.get_buffer(name)
                if was.is_floating_point() and buffer.dtype.itemsize < was.dtype.itemsize:
                    setattr(module, name, was.to(buffer.device))
        return self

    def get_input_embeddings(self) -> nn.Module:
        return self.model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.model.set_input_embeddings(value)

    @property
    def language_model(self) -> nn.Module:
        """The LLM part, the only one that training touches."""
        return self.model.get_submodule(self.family.language_model)

    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        truncate_dim: int | None = None,
        return_dict: bool | None = None,
        **backbone_inputs,
    ) -> UniMEOutput:
        """Embed a batch.

        Args:
            input_ids: (B, L) token ids with image placeholders, as [`UniMEProcessor`] makes them.
            attention_mask: (B, L), 0 on padding, which may be on either side.
            truncate_dim: keep the first so many dimensions (Matryoshka, arXiv 2205.13147) and bring them to unit length
                again (default: all). Good only for models trained for it.
            return_dict: False returns a tuple, as everywhere in transformers (default True).
            backbone_inputs: whatever else the backbone takes: `pixel_values`, `image_sizes`, `image_grid_thw`, ...

        Returns:
            [`UniMEOutput`] with `embeddings` (B, D) or (B, truncate_dim), unit length, float32.

        Raises:
            ValueError: `truncate_dim` is not between 1 and D.
        """
        if truncate_dim is not None and not 1 <= truncate_dim <= self.config.hidden_size:
            raise ValueError(f"truncate_dim is {truncate_dim}; it must be between 1 and {self.config.hidden_size}")
        if self.family.needs_token_types and input_ids is not None and "mm_token_type_ids" not in backbone_inputs:
            backbone_inputs["mm_token_type_ids"] = (input_ids == self.config.backbone.image_token_id).int()
        for name in self.family.not_for_backbone:
            backbone_inputs.pop(name, None)
        hidden_states = self.model(
            input_ids=input_ids, attention_mask=attention_mask, use_cache=False, return_dict=True, **backbone_inputs
        ).last_hidden_state  # (B, L, D)
        pooled = pool_last_token(hidden_states, attention_mask)[:, :truncate_dim]
        output = UniMEOutput(embeddings=normalise(pooled))
        return output if return_dict is None or return_dict else output.to_tuple()

    @classmethod
    def from_backbone(
        cls, path_or_repo: str, attention: str | None = None, trust_remote_code: bool = False, **kwargs
    ) -> "UniMEModel":
        """Make a UniME model from a multimodal LLM; its LM head is dropped.

        Args:
            path_or_repo: folder or Hub id of a checkpoint of a supported family.
            attention: "causal" or "bidirectional", see [`UniMEConfig`] (default: causal, or what a UniME folder has).
            trust_remote_code: run code beside the weights where the vision tower or the LLM is of a type that only this
                code knows. It goes along into every folder that the model is saved to.
            kwargs: passed to `from_pretrained`: `dtype` (default: as stored), `attn_implementation`, `device_map`,
                `revision`, ...

        Raises:
            ValueError: for a family that is not supported, a UniME folder of the other attention, or code that was not
                allowed to run.
            WeightsMismatchError: when a weight is missing or unexpected.
        """
        hub = {name: kwargs[name] for name in HUB_OPTIONS if name in kwargs}
        backbone_config = read_backbone_config(path_or_repo, trust_remote_code, **hub)
        if backbone_config.model_type == cls.config_class.model_type:
            if attention not in (None, backbone_config.attention):
                raise ValueError(
                    f"{path_or_repo} was made with {backbone_config.attention} attention and keeps it; leave "
                    f"attention={attention!r} out, or begin from the multimodal LLM"
                )
            return cls.from_pretrained(path_or_repo, trust_remote_code=trust_remote_code, **kwargs)
        family = get_family(backbone_config.model_type)
        config = UniMEConfig(
            backbone=backbone_config,
            attention=attention or "causal",
            matryoshka_dimensions=getattr(backbone_config, "matryoshka_dimensions", None),  # of a native folder
            dtype=backbone_config.dtype,
        )
        return cls.from_pretrained(path_or_repo, config=config, key_mapping=family.key_mapping, **kwargs)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *args, **kwargs):
        """Load a saved UniME model as `PreTrainedModel.from_pretrained` does, but strictly ([`WeightsMismatchError`]).

        With `trust_remote_code=True`, code of the backbone in the folder may run, see `from_backbone`.
        """
        wants_info = kwargs.pop("output_loading_info", False)
        if kwargs.pop("trust_remote_code", False):
            hub = {name: kwargs[name] for name in HUB_OPTIONS if name in kwargs}
            config = copy.deepcopy(kwargs.pop("config", None))
            if not isinstance(config, PreTrainedConfig):
                source = config or pretrained_model_name_or_path
                # What the library keeps from a config that it reads itself: "auto" is no dtype.
                options = {name: value for name, value in kwargs.items() if name not in FOR_WEIGHTS}
                config, unused = UniMEConfig.from_pretrained(source, return_unused_kwargs=True, **options)
                taken = options.keys() - unused.keys() - hub.keys()
                kwargs = {name: value for name, value in kwargs.items() if name not in taken}
            run_code(config.backbone, str(pretrained_model_name_or_path), **hub)
            kwargs["config"] = config
        model, info = super().from_pretrained(pretrained_model_name_or_path, *args, **{**kwargs, **STRICT_LOADING})
        check_loading(str(pretrained_model_name_or_path), info)
        return (model, info) if wants_info else model

    def save_pretrained(self, save_directory, *args, **kwargs):
        """Save weights under module names, in safetensors, with config, remote code, digest and other libraries' files.

        transformers would by default store the weights under the backbone's *published* names. `from_pretrained` maps
        those back, but a resuming Trainer reads the file directly and would silently keep the LLM it had.
        """
        kwargs.setdefault("save_original_format", False)
        is_main = kwargs.get("is_main_process", True)
        # Before the weights are written: that empties `state_dict`, and a model split over ranks has only parts itself.
        digests = digest_weights(kwargs.get("state_dict") or self.state_dict()) if is_main else {}
        super().save_pretrained(save_directory, *args, **kwargs)
        if is_main:
            save_code(self, save_directory)
            give_weights_the_usual_mode(save_directory)
            write_sentence_transformers_files(save_directory)
            write_digests(save_directory, digests)


UniMEModel.register_for_auto_class("AutoModel")
