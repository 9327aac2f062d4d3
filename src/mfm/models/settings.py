"""Network of an experiment."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from mfm.settings.section import Section


class Model(Section):
    """The network."""

    backbone: str = Field("resnet18", description="A timm model name, e.g. resnet18 or resnet50.")
    drop_path: float = Field(
        0.0, ge=0.0, lt=1.0, description="Stochastic depth rate, where the backbone has it."
    )
    zero_init_last: bool = Field(
        False,
        description="ResNets: the last batch norm of each block starts at zero (timm, paper) and "
        "not at one (torchvision, upstream).",
    )
    pooling: Literal["mean"] | None = Field(
        None,
        description="What a ViT's classifier reads: 'mean' is the mean of the patches, then a "
        "layer norm of its own (paper); null is timm's default. MFM has no classifier.",
    )
