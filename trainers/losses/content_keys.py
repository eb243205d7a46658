# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Which rows of a tokenised batch are the same input: a number of each row, equal for equal tokens and pictures."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from trainers.losses.unit_rows import row_slices


def _mix(numbers: Tensor) -> Tensor:
    """A 64-bit multiplier for each number, as SplitMix64 makes them; what overflows wraps around."""
    mixed = (numbers + 1) * -7046029254386353131
    mixed = (mixed ^ (mixed >> 30)) * -4658895280553007687
    mixed = (mixed ^ (mixed >> 27)) * -7723592293110705685
    return mixed ^ (mixed >> 31)


def _hash_rows(values: Tensor) -> Tensor:
    """Hash of each row, (N,), of whole numbers (N, L), a sum that zeros at the end leave as it is."""
    return (_mix(torch.arange(values.shape[1], device=values.device)) * values).sum(dim=1)


def _hash_pictures(features: Mapping[str, Tensor], num_rows: int) -> Tensor | None:
    """Hash of the pictures of each row, (B,), 0 without any; None where the features do not say whose they are."""
    pixels = features["pixel_values"].float().flatten(1)  # (P, E) of pictures, or of patches
    counts = features.get("num_images_per_sample", torch.ones(num_rows, dtype=torch.long)).to(pixels.device)  # (B,)
    sizes = pixels.new_ones(int(counts.sum()), dtype=torch.long)  # (I,) rows of `pixels` that a picture has
    if len(sizes) != len(pixels) and "image_grid_thw" in features:
        sizes = features["image_grid_thw"].prod(dim=1)
    if len(counts) != num_rows or len(sizes) != int(counts.sum()) or int(sizes.sum()) != len(pixels):
        return None
    owner = torch.arange(num_rows, device=pixels.device).repeat_interleave(counts).repeat_interleave(sizes)  # (P,)
    of_rows = torch.bincount(owner, minlength=num_rows)  # (B,)
    place = torch.arange(len(pixels), device=pixels.device) - (of_rows.cumsum(0) - of_rows)[owner]  # (P,) in its row
    bits = pixels.contiguous().view(torch.int32)
    hashes = torch.cat([_hash_rows(bits[rows].long()) for rows in row_slices(*bits.shape)])  # (P,)
    return torch.zeros(num_rows, dtype=torch.long, device=pixels.device).index_add(0, owner, _mix(place) * hashes)


def content_keys(features: Mapping[str, Tensor]) -> Tensor | None:
    """A 64-bit number of each row, (B,), equal for equal tokens and pictures, however a batch is padded.

    None where the features do not say which token or picture is whose, as those of packed sequences.
    """
    tokens, mask = features.get("input_ids"), features.get("attention_mask")
    if tokens is None or mask is None or mask.dim() != 2 or tokens.shape != mask.shape:
        return None
    place = mask.long().cumsum(dim=1) - 1  # (B, L) among the attended tokens
    keys = (_mix(place) * (tokens + 1) * mask).sum(dim=1)  # (B,)
    if "pixel_values" not in features:
        return keys
    pictures = _hash_pictures(features, len(mask))
    return None if pictures is None else keys + pictures


def own_keys(rows: Tensor, rank: int) -> Tensor:
    """A number for each row, (B,), that no other row of any rank has."""
    return _mix(torch.arange(len(rows), device=rows.device) + (rank << 32))
