# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""NV-Embed-v2 (arXiv 2405.17428) on the current library: a Mistral without causal mask, and a latent-attention block.

The published remote code does not run on transformers 5. This reads the published weight names. The published weights
are under CC-BY-NC-4.0: for research only.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from transformers import MistralConfig, MistralModel
from transformers.utils import ModelOutput

from trainers.teachers.folder_teacher import find_teacher_folder
from unime.model_files import read_json_object, read_weights

EPS = 1e-5  # of the block's layer norms
FEED_FORWARD_FACTOR = 4


@dataclass
class NVEmbedOutput(ModelOutput):
    """Output of [`NVEmbedModel`].

    Attributes:
        embeddings: (B, D) float32, unit length.
    """

    embeddings: torch.FloatTensor | None = None


class CrossAttention(nn.Module):
    """Token states ask, the latents answer."""

    def __init__(self, width: int, latent_width: int, heads: int, head_width: int):
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(width, heads * head_width, bias=False)
        self.to_kv = nn.Linear(latent_width, 2 * heads * head_width, bias=False)
        self.to_out = nn.Linear(heads * head_width, width, bias=False)

    def forward(self, states: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
        """States (B, L, D) and latents (K, D) to mixtures of latent values (B, L, D)."""
        queries = self.to_q(states).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, H, L, d)
        keys, values = (
            part.unflatten(-1, (self.heads, -1)).transpose(0, 1).expand(len(states), -1, -1, -1)  # (B, H, K, d)
            for part in self.to_kv(latents).chunk(2, dim=-1)
        )
        mixed = nn.functional.scaled_dot_product_attention(queries, keys, values)
        return self.to_out(mixed.transpose(1, 2).flatten(2))


class GatedLinear(nn.Module):
    """The first half of the input times the GELU of the second."""

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        values, gates = states.chunk(2, dim=-1)
        return values * nn.functional.gelu(gates)


class FeedForward(nn.Module):
    """Linear, gate, linear."""

    def __init__(self, width: int):
        super().__init__()
        inner = FEED_FORWARD_FACTOR * width
        self.net = nn.Sequential(nn.Linear(width, 2 * inner), GatedLinear(), nn.Linear(inner, width))

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        return self.net(states)


class Normed(nn.Module):
    """A module behind a layer norm, with another norm for its second input; named as the published weights are."""

    def __init__(self, width: int, module: nn.Module, context_width: int | None = None):
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=EPS)
        self.norm_context = None if context_width is None else nn.LayerNorm(context_width, eps=EPS)
        self.fn = module

    def forward(self, states: torch.Tensor, *context: torch.Tensor) -> torch.Tensor:
        return self.fn(self.norm(states), *map(self.norm_context, context))


class LatentAttention(nn.Module):
    """The block between the LLM and the pooling.

    Args:
        config: The published `latent_attention_config`.
    """

    def __init__(self, config: dict):
        super().__init__()
        width, latent_width = config["hidden_dim"], config["latent_dim"]
        attention = CrossAttention(width, latent_width, config["num_cross_heads"], config["cross_dim_head"])
        self.latents = nn.Parameter(torch.empty(config["num_latents_value"], latent_width))
        self.cross_attend_blocks = nn.ModuleList(
            [Normed(width, attention, latent_width), Normed(width, FeedForward(width))]
        )

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """States (B, L, D) to states (B, L, D)."""
        attend, feed_forward = self.cross_attend_blocks
        states = states + attend(states, self.latents)
        return states + feed_forward(states)


class NVEmbedModel(nn.Module):
    """NV-Embed-v2 (arXiv 2405.17428): unit vectors of texts.

    Example::

        import torch
        from trainers.teachers import NVEmbedModel

        embedder = NVEmbedModel.from_pretrained("nvidia/NV-Embed-v2", dtype=torch.bfloat16)
        vectors = embedder(input_ids=torch.tensor([[1, 7, 2]]), attention_mask=torch.tensor([[1, 1, 1]])).embeddings

    Args:
        config: The content of the published config.json.
    """

    def __init__(self, config: dict):
        super().__init__()
        text = {
            key: value for key, value in config["text_config"].items() if key not in ("model_type", "architectures")
        }
        # The published code hides padding and nothing else: no causal mask, and never a window, at any length.
        text |= {"is_causal": False, "sliding_window": None, "use_cache": False}
        self.embedding_model = MistralModel(MistralConfig(**text))
        self.latent_attention_model = LatentAttention(config["latent_attention_config"])

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.latent_attention_model.latents.device

    @classmethod
    def from_pretrained(
        cls, path_or_repo: str | Path, dtype: torch.dtype = torch.float32, device: str | torch.device = "cpu"
    ) -> NVEmbedModel:
        """Load published weights, shard by shard, strictly.

        Args:
            path_or_repo: Folder, or name on the Hub.
            dtype: Of the weights in memory; float32 takes 31 GB for the published model.
            device: Where to put them.

        Raises:
            ValueError: It is no NV-Embed checkpoint, or a weight is missing, unexpected or of another shape; names it.
            FileNotFoundError: The folder has no safetensors file.
        """
        folder = find_teacher_folder(str(path_or_repo))
        config = read_json_object(folder / "config.json")
        if not {"text_config", "latent_attention_config"} <= set(config):
            raise ValueError(
                f"{folder} is no NV-Embed-v2: its config.json lacks text_config or latent_attention_config"
            )
        with torch.device("meta"):
            model = cls(config)
        expected = dict(model.named_parameters())
        weights = {name: tensor.to(dtype) for name, tensor in read_weights(folder, device)}
        if not weights:
            raise FileNotFoundError(f"{folder} has no .safetensors file")
        faults = [f"missing: {name}" for name in expected.keys() - weights.keys()]
        faults += [f"unexpected: {name}" for name in weights.keys() - expected.keys()]
        faults += [
            f"of another shape: {name}"
            for name in expected.keys() & weights
            if weights[name].shape != expected[name].shape
        ]
        if faults:
            raise ValueError(f"the weights in {folder} do not fit NV-Embed-v2 ({'; '.join(sorted(faults)[:20])})")
        model.load_state_dict(weights, assign=True)
        rotary = model.embedding_model.rotary_emb  # its buffers are computed, not stored
        model.embedding_model.rotary_emb = type(rotary)(model.embedding_model.config).to(device)
        return model.eval()

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, pool_mask: torch.Tensor | None = None
    ) -> NVEmbedOutput:
        """Embed a batch.

        Args:
            input_ids: (B, L).
            attention_mask: (B, L), 0 on padding. It cannot be derived from the ids: the padding token is also the end.
            pool_mask: (B, L), 0 on tokens that are read but not pooled, such as an instruction's (default: none).

        Returns:
            [`NVEmbedOutput`] with `embeddings` (B, D).

        Raises:
            ValueError: A row has nothing left to pool; names it.
        """
        pooled = attention_mask.ne(0) if pool_mask is None else attention_mask.ne(0) & pool_mask.ne(0)  # (B, L)
        empty = (~pooled.any(dim=1)).nonzero().flatten().tolist()
        if empty:
            raise ValueError(
                f"row {empty[0]} has no token to pool: its text is empty, or was cut with its instruction"
            )
        states = self.embedding_model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        states = self.latent_attention_model(states).float()  # (B, L, D)
        weights = pooled[..., None].float()
        means = (states * weights).sum(dim=1) / weights.sum(dim=1)
        return NVEmbedOutput(embeddings=nn.functional.normalize(means, dim=-1))
