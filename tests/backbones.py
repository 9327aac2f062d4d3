"""Backbones that users are told of, as small as timm makes them: of the real names."""

from mfm.models.settings import Model

_RESNET = {"layers": [1, 1, 1, 1], "channels": [8, 16, 24, 32]}
_CONVNEXT = {"depths": [1, 1, 1, 1], "dims": [8, 16, 24, 32]}
_VIT = {"patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2}
_SWIN = {"patch_size": 2, "window_size": 4, "embed_dim": 8, "depths": [1, 1, 1, 1]}

SIZE = 32  # pixels
SMALL = {
    "resnet18": Model(backbone="resnet18", stem_stride=2, options=_RESNET),
    "resnet50": Model(backbone="resnet50", stem_stride=1, options=_RESNET),
    "convnext_atto": Model(backbone="convnext_atto", options=_CONVNEXT | {"output_stride": 16}),
    "convnext_tiny": Model(backbone="convnext_tiny", options=_CONVNEXT | {"patch_size": 1}),
    "vit_tiny": Model(backbone="vit_tiny_patch16_224", options=_VIT),
    "vit_small": Model(backbone="vit_small_patch16_224", options=_VIT | {"patch_size": 4}),
    "vit_base": Model(backbone="vit_base_patch16_224", options=_VIT),
    "swin_tiny": Model(
        backbone="swin_tiny_patch4_window7_224", options=_SWIN | {"num_heads": [1, 1, 2, 2]}
    ),
}
# Of each kind one.
KINDS = ("resnet18", "convnext_atto", "vit_tiny", "swin_tiny")
