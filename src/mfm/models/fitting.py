"""Fitting of weights to another image size and normalisation than they were trained with."""

from __future__ import annotations

from typing import Any

import torch
from timm.layers import resample_abs_pos_embed  # type: ignore[attr-defined]
from timm.models import adapt_input_conv
from torch import Tensor, nn

from mfm.models.origin import Normalisation, in_words

_POSITIONS = "pos_embed"


def fit_positions(model: nn.Module, tensors: dict[str, Tensor]) -> list[str]:
    """Resample a ViT's position embeddings, as timm does, where its patches are others, in place.

    Returns what was done, for the log.
    """
    network: Any = model
    wanted = getattr(model, _POSITIONS, None)
    found = tensors.get(_POSITIONS)
    patches = getattr(getattr(model, "patch_embed", None), "grid_size", None)
    if wanted is None or found is None or patches is None or found.shape == wanted.shape:
        return []
    alone = 0 if getattr(network, "no_embed_class", False) else network.num_prefix_tokens
    side = round(max(found.shape[1] - alone, 0) ** 0.5) if found.ndim == 3 else 0
    if side < 1 or side**2 + alone != found.shape[1] or found.shape[2] != wanted.shape[-1]:
        return []  # of another network, which is told of the shapes
    tensors[_POSITIONS] = resample_abs_pos_embed(
        found, new_size=list(patches), num_prefix_tokens=alone
    )
    return [f"position embeddings resampled from {side}x{side} to {patches[0]}x{patches[1]}"]


def fit_channels(model: nn.Module, tensors: dict[str, Tensor]) -> list[str]:
    """Make a first layer of RGB fit a network of other channels, as timm does, in place.

    Of one channel its weights are the sum of the three; of more they are repeated, in the order of
    the channels, and scaled by three over their number. Returns what was done, for the log.
    """
    first = getattr(model, "pretrained_cfg", {}).get("first_conv")
    layer: Any = model.get_submodule(first) if isinstance(first, str) else None
    weight = tensors.get(f"{first}.weight")
    wanted = getattr(layer, "in_channels", 3)
    if weight is None or weight.ndim != 4 or weight.shape[1] != 3 or wanted == 3:
        return []
    tensors[f"{first}.weight"] = adapt_input_conv(wanted, weight)
    return [f"first layer of RGB made for {wanted} channels, as timm does"]


def fit_normalisation(
    model: nn.Module,
    tensors: dict[str, Tensor],
    *,
    own: Normalisation | None,
    given: Normalisation | None,
    converted: bool = False,
) -> tuple[list[str], list[str]]:
    """Let the first layer take up that images are normalised otherwise than it knows, in place.

    The network computes the same of an image then. A layer that pads images with zeros, has no
    bias, or was `converted` from RGB, can't. Returns what was done, and what could not be.
    """
    if own is None or given is None or _alike(own, given):
        return [], []
    first = getattr(model, "pretrained_cfg", {}).get("first_conv")
    layer = model.get_submodule(first) if isinstance(first, str) else None
    weight, bias = tensors.get(f"{first}.weight"), tensors.get(f"{first}.bias")
    # None of a subclass: timm's pad by themselves, or standardise their weights.
    is_plain = type(layer) is nn.Conv2d and layer.padding == (0, 0) and layer.groups == 1
    if not is_plain or weight is None or bias is None or converted or len(given[0]) != 3:
        return [], [
            f"trained on images normalised with {in_words(own)}, and here they are normalised "
            f"with {in_words(given)}, which this network's first layer can't take up"
        ]
    (mean, std), (mean_here, std_here) = (
        [torch.tensor(each, dtype=torch.float64) for each in pair] for pair in (own, given)
    )
    exact = weight.double()
    shift = ((mean_here - mean) / std).to(exact.device)
    scale = (std_here / std).to(exact.device)
    tensors[f"{first}.bias"] = (
        bias.double() + (exact * shift[None, :, None, None]).sum(dim=(1, 2, 3))
    ).to(bias.dtype)
    tensors[f"{first}.weight"] = (exact * scale[None, :, None, None]).to(weight.dtype)
    return [f"its own normalisation ({in_words(own)}) is in the first layer"], []


def _alike(one: Normalisation, other: Normalisation) -> bool:
    ours, theirs = ((*each[0], *each[1]) for each in (one, other))
    return len(ours) == len(theirs) and all(
        abs(a - b) < 1e-4 for a, b in zip(ours, theirs, strict=True)
    )
