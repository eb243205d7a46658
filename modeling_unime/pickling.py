# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Models that can be pickled after they were used, and work where they are unpickled.

At the first call that asks for the states of a vision tower's layers, the library puts hooks on them that cannot be
pickled, and it knows what to hook only in processes in which a model of the class was built. So the hooks stay behind,
and what it must know is written down again; it then puts the hooks back at the next call that wants them.
"""

from transformers import PreTrainedModel
from transformers.utils import output_capturing

_INSTALLED = "_output_capturing_hooks_installed"  # the library's mark on a model that has its hooks


class PicklableModel(PreTrainedModel):
    """A model that `pickle`, `copy.deepcopy`, `torch.save` and spawned processes can take, used or not."""

    def __getstate__(self) -> dict:
        for module in self.modules():
            hooks = module._forward_hooks
            for key in [
                k for k, hook in hooks.items() if getattr(hook, "__module__", None) == output_capturing.__name__
            ]:
                del hooks[key]
            module.__dict__.pop(_INSTALLED, None)
        return super().__getstate__()

    def __setstate__(self, state: dict) -> None:
        super().__setstate__(state)
        for module in self.modules():
            if isinstance(module, PreTrainedModel):
                output_capturing._CAN_RECORD_REGISTRY[module] = module._can_record_outputs
