"""Network of an experiment."""

from __future__ import annotations

from typing import Any, Literal

import yaml
from pydantic import Field, field_validator

from mfm.settings.section import Section

# What timm is told of by other keys.
_ELSEWHERE = {
    "model_name": "model.backbone",
    "checkpoint_path": "arms",
    "num_classes": "the dataset's classes",
    "pretrained": "arms",
    "img_size": "the size of the images",
    "drop_path_rate": "model.drop_path",
    "global_pool": "model.pooling",
    "zero_init_last": "model.zero_init_last",
}


IN_CHANNELS = "in_chans"  # timm's option, which an experiment sets by dataset.channels


def _typed(value: Any) -> Any:
    """Numbers and truth values of texts: `snakemake --config` gives those in braces as texts."""
    if isinstance(value, dict):
        return {key: _typed(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_typed(each) for each in value]
    return yaml.safe_load(value) if isinstance(value, str) else value


class Model(Section):
    """The network."""

    backbone: str = Field("resnet18", description="A timm model name, e.g. resnet18 or resnet50.")
    stem_stride: Literal[1, 2, 4] = Field(
        4,
        description="Stride of a ResNet's first layers. 4: a 7x7 convolution of stride 2 and "
        "pooling; 2, for images of about 64 px: no pooling; 1, as for CIFAR: a 3x3 convolution and "
        "no pooling. A pretraining that predicts images needs a last map of several positions.",
    )
    options: dict[str, Any] = Field(
        {},
        description="Further options of timm's model, such as {layers: [1, 1, 1, 1], channels: "
        "[32, 64, 128, 256]} of a ResNet or {patch_size: 4} of a ViT.",
    )
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

    @property
    def channels(self) -> int:
        """Channels of the images that the first layer is made for."""
        return int(self.options.get(IN_CHANNELS, 3))

    @property
    def title(self) -> str:
        """'resnet18', or 'resnet18 (not the standard one: ...)' with what is not."""
        stems = {1: "3x3 stem of stride 1 without pooling", 2: "stem of stride 2 without pooling"}
        parts = [stems[self.stem_stride]] if self.stem_stride in stems else []
        parts += [f"{key} {value}" for key, value in sorted(self.options.items())]
        return self.backbone + f" (not the standard one: {', '.join(parts)})" * bool(parts)

    _from_texts = field_validator("stem_stride", "options", mode="before")(_typed)

    @field_validator("options")
    @classmethod
    def _own_keys(cls, value: dict[str, Any]) -> dict[str, Any]:
        for key in value:
            if key in _ELSEWHERE:
                raise ValueError(f"'{key}' is set by {_ELSEWHERE[key]}")
        return value
