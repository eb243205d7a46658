# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Configuration of a UniME model: the configuration of the multimodal LLM it is made from."""

from typing import TYPE_CHECKING

from .needed_versions import check_sentence_transformers  # isort: skip (older versions lack what follows)
from transformers import AutoConfig, PreTrainedConfig

from .configuration_phi3v import Phi3VConfig
from .families import get_family
from .own_code import with_stand_ins

if TYPE_CHECKING:
    # As remote code, transformers finds the model of a config by the config's class, and tells folders of one name apart
    # by the files that this one names. With all of them named, folders with different code never share a class. (Older
    # versions copy what is named here and no further; they shall come as far as the words on needed versions.)
    from .chat_template import read_conversation  # noqa: F401
    from .feature_extraction import UniMEFeatureExtractionPipeline  # noqa: F401
    from .image_processing_phi3v import Phi3VImageProcessor  # noqa: F401
    from .modeling_phi3v import Phi3VModel  # noqa: F401
    from .modeling_unime import UniMEModel  # noqa: F401
    from .pickling import PicklableModel  # noqa: F401
    from .pictures import read_picture  # noqa: F401
    from .processing_unime import UniMEProcessor  # noqa: F401
    from .prompts import PromptBuilder  # noqa: F401
    from .saved_folder import write_digests  # noqa: F401

ATTENTION = ("causal", "bidirectional")
# Where this file is remote code, nothing else tells the library of the family that it lacks.
AutoConfig.register(Phi3VConfig.model_type, Phi3VConfig, exist_ok=True)


def _without_origin(values: dict) -> dict:
    """Values without `_name_or_path` at any depth; the library leaves out that of the outermost config only."""
    return {
        name: _without_origin(value) if isinstance(value, dict) else value
        for name, value in values.items()
        if name != "_name_or_path"
    }


class UniMEConfig(PreTrainedConfig):
    """Configuration of [`UniMEModel`].

    Example::

        from transformers import LlavaNextConfig
        from modeling_unime import UniMEConfig

        config = UniMEConfig(backbone=LlavaNextConfig())
        assert config.hidden_size == 4096  # of the embeddings

    Args:
        backbone (`dict` or `PreTrainedConfig`):
            Configuration of the multimodal LLM, of a family in `modeling_unime/families.py`.
        attention (`str`, defaults to `"causal"`):
            What a token of the LLM sees: those before it ("causal", as every backbone was trained), or all of them
            ("bidirectional", LLM2Vec, arXiv 2404.05961; the model must then be trained with it).
        matryoshka_dimensions (`list[int]`, *optional*):
            Widths to which the embeddings may be cut (`truncate_dim`), as trained; vLLM reads them, too. Default: none.

    Raises:
        ValueError: when the backbone is missing or of a family that is not supported, or `attention` is unknown.
        ImportError: when sentence-transformers is in use and too old.
    """

    model_type = "unime"
    sub_configs = {"backbone": AutoConfig}
    has_no_defaults_at_init = True

    def __init__(
        self,
        backbone: dict | PreTrainedConfig | None = None,
        attention: str = "causal",
        matryoshka_dimensions: list[int] | None = None,
        **kwargs,
    ):
        if attention not in ATTENTION:
            raise ValueError(f"attention is {attention!r}; use one of {', '.join(ATTENTION)}")
        check_sentence_transformers()
        if backbone is None:
            raise ValueError("UniMEConfig needs `backbone`, the configuration of a multimodal LLM")
        if isinstance(backbone, dict):
            # The family that the library lacks is this folder's own, whichever folder's it has registered last.
            own = backbone.get("model_type") == Phi3VConfig.model_type
            backbone = Phi3VConfig(**backbone) if own else AutoConfig.for_model(**with_stand_ins(backbone))
        get_family(backbone.model_type)
        self.backbone = backbone
        self.attention = attention
        self.matryoshka_dimensions = matryoshka_dimensions
        super().__init__(**kwargs)

    @property
    def custom_pipelines(self) -> dict:
        """Classes of `transformers.pipeline`; a new dictionary each time, for the library writes into it."""
        return {
            "feature-extraction": {"impl": "feature_extraction.UniMEFeatureExtractionPipeline", "pt": ["AutoModel"]}
        }

    @property
    def family(self) -> str:
        """Name of the backbone's row in the adapter table, its `model_type`."""
        return self.backbone.model_type

    @property
    def hidden_size(self) -> int:
        """Width of the embeddings."""
        return self.backbone.get_text_config().hidden_size

    def get_text_config(self, *args, **kwargs) -> PreTrainedConfig:
        """Configuration of the LLM part (other libraries read sizes from it)."""
        return self.backbone.get_text_config(*args, **kwargs)

    def to_dict(self) -> dict:
        """Plain values of the config, without where it and its parts were loaded from: a folder's path is private."""
        return _without_origin(super().to_dict())


UniMEConfig.register_for_auto_class()
