# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""What `modeling_unime` uses of libraries without a public way; each test says in words what a new release broke."""

import inspect

import torch
from tiny_models import TEXT
from transformers import CLIPVisionConfig, CLIPVisionModel, LlamaConfig, LlamaModel, Phi3Config, Phi3Model
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.pipelines.base import Pipeline
from transformers.utils import output_capturing

TOWER = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}


def test_hooks_for_hidden_states():
    """pickling.py takes these hooks off and tells the registry of classes anew."""
    model = CLIPVisionModel(CLIPVisionConfig(**TOWER, image_size=28, patch_size=14))
    model(torch.zeros(1, 3, 28, 28), output_hidden_states=True)
    hooks = [hook for module in model.modules() for hook in module._forward_hooks.values()]
    assert hooks and {hook.__module__ for hook in hooks} == {output_capturing.__name__}, (
        "transformers hooks layers from another module, or no longer: PicklableModel must find them"
    )
    marked = [module for module in model.modules() if "_output_capturing_hooks_installed" in module.__dict__]
    assert marked, "transformers marks a hooked model by another name: a copy would never be hooked again"
    assert output_capturing._CAN_RECORD_REGISTRY.get(model) == model._can_record_outputs, (
        "transformers moved the registry of what can be recorded: an unpickled model would give no hidden states"
    )


def test_rope_of_phi3():
    """modeling_phi3v.py computes its own angles from the library's table, in the library's place."""
    rope = {"rope_type": "longrope", "rope_theta": 1e4, "original_max_position_embeddings": 16}
    factors = {"short_factor": [1.0] * 4, "long_factor": [4.0] * 4}
    config = Phi3Config(**TEXT, vocab_size=40, rope_parameters=rope | factors)
    frequencies, scaling = ROPE_INIT_FUNCTIONS["longrope"](config, torch.device("cpu"), seq_len=17)
    assert frequencies.shape == (4,) and scaling == 1.0, "transformers changed what its rope functions return"
    calls, model = [], Phi3Model(config)
    model.rotary_emb.register_forward_hook(lambda module, given, angles: calls.append((given, angles)))
    model(input_ids=torch.ones(1, 3, dtype=torch.long))
    assert len(calls) == 1 and calls[0][1][0].shape == (1, 3, 8), (
        "transformers no longer asks the LLM's `rotary_emb` once for cosines and sines (B, L, head_dim)"
    )


@torch.no_grad()
def test_direction_of_attention():
    """modeling_unime.py makes attention bidirectional by two flags: one for masks, one for kernels without a mask."""
    model = LlamaModel(LlamaConfig(**TEXT, vocab_size=40)).eval()
    ids = torch.tensor([[5, 6, 7], [5, 6, 8]])
    assert [layer.self_attn.is_causal for layer in model.layers] == [True, True]
    first = model(ids).last_hidden_state[:, 0]
    assert torch.allclose(first[0], first[1])
    model.config.is_causal = False
    for layer in model.layers:
        layer.self_attn.is_causal = False
    first = model(ids).last_hidden_state[:, 0]
    assert not torch.allclose(first[0], first[1]), "transformers decides causality elsewhere than by `is_causal`"


def test_models_are_built_in_the_type_of_their_config():
    config = CLIPVisionConfig(**TOWER, dtype=torch.bfloat16)
    assert CLIPVisionModel._from_config(config).dtype == torch.bfloat16, (
        "transformers moved `_from_config`, by which UniMEModel builds the backbones that the library lacks"
    )


def test_what_a_pipeline_loads():
    loaded = {"processor", "image_processor", "video_processor", "feature_extractor", "tokenizer"}
    flags = {name.removeprefix("_load_") for name in vars(Pipeline) if name.startswith("_load_")}
    assert flags == loaded, "transformers' pipelines load other parts: feature_extraction.py must name them"


def test_casts_and_what_is_not_saved():
    """modeling_unime.py overrides `_apply` to keep the bits of buffers that are computed, not saved."""
    model = LlamaModel(LlamaConfig(**TEXT, vocab_size=40))
    assert "inv_freq" in model.rotary_emb._non_persistent_buffers_set, "transformers saves rotary frequencies now"
    assert "_apply" in inspect.getsource(torch.nn.Module.half), "torch casts modules without `_apply`"
