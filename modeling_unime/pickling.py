# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Models that can be pickled after they were used, and work where they are unpickled."""

from transformers import PreTrainedModel
from transformers.utils import output_capturing


class PicklableModel(PreTrainedModel):
    """A model that `pickle`, `copy.deepcopy`, `torch.save` and spawned processes can take, used or not.

    Private interface of transformers, which has no public way: at the first call that asks for the states of a vision
    tower's layers it puts hooks on them that cannot be pickled, and it knows what to hook only in processes in which a
    model of the class was built. The hooks stay behind here, and it puts them back at the next call that wants them.
    """

    def __getstate__(self) -> dict:
        for module in self.modules():
            for key, hook in list(module._forward_hooks.items()):
                if getattr(hook, "__module__", None) == output_capturing.__name__:
                    del module._forward_hooks[key]
            module.__dict__.pop("_output_capturing_hooks_installed", None)
        return super().__getstate__()

    def __setstate__(self, state: dict) -> None:
        super().__setstate__(state)
        for module in self.modules():
            if isinstance(module, PreTrainedModel):
                output_capturing._CAN_RECORD_REGISTRY[module] = module._can_record_outputs
