"""Backbones, each all the way with every pretraining task, and at small images."""

import pytest
import torch
from backbones import KINDS, SIZE, SMALL
from journey import Journey, tasks, write_images

from mfm.errors import UserError
from mfm.models.backbones import create_backbone, last_map, stride
from mfm.models.facts import Facts, facts_of, refusal
from mfm.models.settings import Model

# Tasks that are for some networks alone, by how those begin; other tasks are for all.
FOR = {"mae": ("vit",)}


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("images"), SIZE)


@pytest.fixture
def journey(request, images, tmp_path):
    return Journey(SMALL[request.param], size=SIZE, images=images, folder=tmp_path)


@pytest.mark.parametrize("task", tasks())
@pytest.mark.parametrize("journey", KINDS, indirect=True)
def test_every_task_pretrains_what_a_finetuning_starts_from(journey, task):
    backbone = journey.common["model"].backbone
    if not backbone.startswith(FOR.get(task, ("",))):
        with pytest.raises(UserError, match=backbone) as caught:
            journey.pretrain(task)
        assert "\n" not in str(caught.value)
        return
    assert journey.finetune(journey.pretrain(task), task).exists()


@pytest.mark.parametrize("journey", SMALL, indirect=True)
def test_a_network_is_evaluated_exported_and_the_same_in_timm(journey):
    weights = journey.finetune(journey.pretrain("mfm"), "mfm")
    assert float(journey.evaluate(weights)["top5"]) == 100  # of two classes
    ours, theirs = journey.reload(weights)
    assert len(set(ours.flatten().tolist())) == ours.numel()
    assert torch.equal(ours, theirs)


VIT, SWIN = "vit_{}_patch16_224", "swin_tiny_patch4_window7_224"
CNN = Facts(stride=32, fixed_size=False, patch=None, leaves_patches_out=False)
PLAIN_VIT = Facts(stride=16, fixed_size=True, patch=16, leaves_patches_out=True)
STANDARD = {
    **dict.fromkeys(("resnet18", "resnet50", "convnext_atto", "convnext_tiny"), CNN),
    **dict.fromkeys((VIT.format(size) for size in ("tiny", "small", "base")), PLAIN_VIT),
    SWIN: Facts(stride=32, fixed_size=True, patch=4, leaves_patches_out=False),
}


@pytest.mark.parametrize("name", STANDARD)
def test_the_standard_networks(name, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with torch.device("meta"):
        assert facts_of(Model(backbone=name)) == STANDARD[name]


@pytest.mark.parametrize(
    ("name", "size", "options", "side"),
    [
        ("resnet18", 32, {"stem_stride": 1}, 4),
        ("resnet50", 64, {"stem_stride": 2}, 4),
        ("convnext_atto", 32, {"patch_size": 1}, 4),
        ("convnext_tiny", 64, {"output_stride": 16}, 4),
        (VIT.format("tiny"), 32, {"patch_size": 4}, 8),
        (VIT.format("small"), 64, {"patch_size": 8}, 8),
        (VIT.format("base"), 64, {}, 4),
        (SWIN, 32, {"patch_size": 1, "window_size": 4}, 4),
        (SWIN, 64, {"patch_size": 2, "window_size": 4}, 4),
    ],
)
def test_small_images_have_positions_enough(name, size, options, side, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    stem = {"stem_stride": options["stem_stride"]} if "stem_stride" in options else {}
    model = Model(backbone=name, **(stem or {"options": options}))
    with torch.device("meta"):
        network = create_backbone(model, classes=0, image_size=size)
        found = last_map(network, torch.zeros(1, 3, size, size))
        assert refusal(model, size=size, images=2) is None
    assert size // stride(network) == found.shape[-1] == found.shape[-2] == side
