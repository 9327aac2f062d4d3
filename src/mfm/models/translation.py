"""Translation of other codes' parameter names, and of what stands in them, to timm's.

The networks compute the same: the same order of windows and of merged patches, GELU without an
approximation, and layer norms with the same epsilon (1e-6 in ViT and ConvNeXt, 1e-5 in Swin).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping

import torch
from torch import Tensor

Tensors = dict[str, Tensor]

_WRAPPER = "module."  # DistributedDataParallel's
_VIT = (
    (r"^conv_proj\.", "patch_embed.proj."),
    (r"^class_token$", "cls_token"),
    (r"^encoder\.pos_embedding$", "pos_embed"),
    (r"^encoder\.layers\.encoder_layer_(\d+)\.", r"blocks.\1."),
    (r"\.ln_(\d)\.", r".norm\1."),
    (r"\.self_attention\.in_proj_", ".attn.qkv."),  # queries, keys and values in one, as in timm
    (r"\.self_attention\.out_proj\.", ".attn.proj."),
    # Two numberings: that of torchvision's first files, and today's.
    (r"\.mlp\.(linear_1|0)\.", ".mlp.fc1."),
    (r"\.mlp\.(linear_2|3)\.", ".mlp.fc2."),
    (r"^encoder\.ln\.", "norm."),
    (r"^heads\.head\.", "head."),
)
_CONVNEXT = (
    (r"\.layer_scale$", ".gamma"),
    (r"\.block\.0\.", ".conv_dw."),
    (r"\.block\.2\.", ".norm."),
    (r"\.block\.3\.", ".mlp.fc1."),
    (r"\.block\.5\.", ".mlp.fc2."),
    (r"^classifier\.0\.", "head.norm."),
    (r"^classifier\.2\.", "head.fc."),
)
_SWIN = (
    (r"^features\.0\.0\.", "patch_embed.proj."),
    (r"^features\.0\.2\.", "patch_embed.norm."),
    (r"\.mlp\.0\.", ".mlp.fc1."),
    (r"\.mlp\.3\.", ".mlp.fc2."),
    (r"^head\.", "head.fc."),
)
# What both of torchvision's Swins keep in their files and timm computes anew.
_COMPUTED = (".relative_position_index", ".relative_coords_table")


def to_timm(tensors: Mapping[str, Tensor]) -> Tensors:
    """Tensors of torchvision's ViT, ConvNeXt and Swin, and of the paper code's ViT, as timm's.

    All others as they are.
    """
    plain = {name.removeprefix(_WRAPPER): tensor for name, tensor in tensors.items()}
    if "conv_proj.weight" in plain:
        return _renamed(plain, lambda name: _replaced(name, _VIT))
    if any(name.endswith(".layer_scale") for name in plain):
        return _torchvisions_convnext(plain)
    if "features.1.0.attn.relative_position_index" in plain:
        return _torchvisions_swin(plain)
    return _papers_vit(tensors)


def _torchvisions_convnext(tensors: Tensors) -> Tensors:
    """Its stem, stages and the steps between them are numbered in one row; gamma is a map there."""

    def name_of(name: str) -> str:
        name = _replaced(name, _CONVNEXT)
        place = re.match(r"^features\.(\d+)\.", name)
        if place is None:
            return name
        number, rest = int(place[1]), name[place.end() :]
        if number == 0:
            return f"stem.{rest}"
        stage = number // 2
        return f"stages.{stage}.{'blocks' if number % 2 else 'downsample'}.{rest}"

    found = _renamed(tensors, name_of)
    return {n: t.flatten() if n.endswith(".gamma") else t for n, t in found.items()}


def _torchvisions_swin(tensors: Tensors) -> Tensors:
    """Its stages and the steps between them are numbered in one row.

    Of version 2, torchvision's keys have a bias that it sets to zero, and timm's have none.
    """

    def name_of(name: str) -> str:
        name = _replaced(name, _SWIN)
        place = re.match(r"^features\.(\d+)\.", name)
        if place is None:
            return name
        number, rest = int(place[1]), name[place.end() :]
        stage = number // 2
        return f"layers.{stage}.{'blocks' if number % 2 else 'downsample'}.{rest}"

    found = _renamed(
        {name: tensor for name, tensor in tensors.items() if not name.endswith(_COMPUTED)}, name_of
    )
    for name in [each for each in found if each.endswith(".attn.logit_scale")]:
        attention = name.removesuffix("logit_scale")
        found |= _split(found.pop(f"{attention}qkv.bias"), attention)
    return found


def with_wanted_biases(tensors: Mapping[str, Tensor], wanted: Collection[str]) -> Tensors:
    """Attention with a bias of queries and one of values, where the network has these."""
    found = dict(tensors)
    for name in wanted:
        block = name.removesuffix("q_bias")
        if name.endswith(".attn.q_bias") and f"{block}qkv.bias" in found:
            found |= _split(found.pop(f"{block}qkv.bias"), block)
    return found


def _split(bias: Tensor, block: str) -> Tensors:
    queries, _, values = bias.chunk(3)
    return {f"{block}q_bias": queries, f"{block}v_bias": values}


def _papers_vit(tensors: Mapping[str, Tensor]) -> Tensors:
    """There, queries and values have a bias each and keys have none; in timm the three are one."""
    found = dict(tensors)
    for name in tensors:
        block = name.removesuffix("q_bias")
        if name.endswith(".attn.q_bias") and f"{block}v_bias" in found:
            queries, values = found.pop(name), found.pop(f"{block}v_bias")
            found[f"{block}qkv.bias"] = torch.cat([queries, torch.zeros_like(queries), values])
    return found


def _renamed(tensors: Tensors, name_of: Callable[[str], str]) -> Tensors:
    return {name_of(name): tensor for name, tensor in tensors.items()}


def _replaced(name: str, table: tuple[tuple[str, str], ...]) -> str:
    for pattern, name_there in table:
        name = re.sub(pattern, name_there, name)
    return name
