# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""UniME models and processors; importing this package registers them with the Auto classes of transformers."""

from .needed_versions import NEEDED  # noqa: F401 isort: skip (older versions lack what follows)
from transformers import AutoConfig, AutoModel, AutoProcessor

from .configuration_phi3v import Phi3VConfig
from .configuration_unime import UniMEConfig
from .image_processing_phi3v import Phi3VImageProcessor
from .modeling_phi3v import Phi3VModel
from .modeling_unime import UniMEModel, UniMEOutput, WeightsMismatchError
from .processing_unime import UniMEProcessor

AutoConfig.register(UniMEConfig.model_type, UniMEConfig)
AutoModel.register(UniMEConfig, UniMEModel)
AutoProcessor.register(UniMEConfig, UniMEProcessor)

__all__ = [
    "Phi3VConfig",
    "Phi3VImageProcessor",
    "Phi3VModel",
    "UniMEConfig",
    "UniMEModel",
    "UniMEOutput",
    "UniMEProcessor",
    "WeightsMismatchError",
]
