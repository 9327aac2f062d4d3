"""Files of initial weights: what is none, or another network's, is said before anything runs."""

import numpy as np
import pytest
import safetensors.torch
import torch

from mfm.errors import UserError
from mfm.models.backbones import create_backbone
from mfm.models.facts import check_weights
from mfm.models.settings import Model
from mfm.models.sources import source_of
from mfm.models.weights import read_weights

TINY = Model(backbone="test_resnet")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def refusal(check, *arguments, **options):
    with pytest.raises(UserError) as caught:
        check(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("x.pth", b"", "holds no weights: it is empty; copy or download it again"),
        ("x.safetensors", b"", "it is empty"),
        ("x.pth", b"hello world\n" * 99, "it is a text; give a file that torch.save or"),
        ("x.safetensors", "höhe\n".encode(), "it is a text"),
        ("x.pth", b"<!DOCTYPE html>\xff", "it is a web page; download the file itself"),
        ("x.pth", b"version https://git-lfs.github.com/spec/v1\n", "'git lfs pull'"),
        ("x.safetensors", b"PK\x03\x04\0\0", "its name has to end in .pth"),
        ("x.pth", b"\x10\0\0\0\0\0\0\0{}", "its name has to end in .safetensors"),
    ],
)
def test_a_file_that_holds_no_weights_is_told_for_what_it_is(name, content, told, tmp_path):
    path = tmp_path / name
    path.write_bytes(content)
    for check in (source_of(str(path)).check, read_weights):
        message = refusal(check, str(path))
        assert message.startswith(f"{path} holds no weights: ")
        assert told in message


def test_folders_and_other_objects_are_told(tmp_path):
    (tmp_path / "x.pth").mkdir()
    assert "is a folder: give the file in it" in refusal(read_weights, str(tmp_path / "x.pth"))
    torch.save([1, 2], tmp_path / "list.pth")
    assert "holds a list, not names and tensors" in refusal(
        read_weights, str(tmp_path / "list.pth")
    )
    with open(tmp_path / "array.pth", "wb") as file:
        np.save(file, np.zeros(3))
    assert "array.pth" in refusal(read_weights, str(tmp_path / "array.pth"))


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize(
    ("backbone", "change", "told"),
    [
        ("test_resnet", lambda t: t, None),
        ("test_resnet", lambda t: t * float("nan"), "hold NaN or infinite numbers, in "),
        ("test_resnet", lambda t: t / 0, "hold NaN or infinite numbers, in "),
        ("resnet10t", lambda t: t, "are of another model: "),
    ],
    ids=["good", "nan", "inf", "other"],
)
def test_the_tensors_of_a_file_are_checked_once(
    suffix, backbone, change, told, tmp_path, monkeypatch
):
    state = create_backbone(Model(backbone=backbone), classes=5).state_dict()
    state = {n: change(t) if t.is_floating_point() else t for n, t in state.items()}
    path = tmp_path / f"w{suffix}"
    if suffix == ".pth":
        torch.save({"state_dict": state}, path)
    else:
        safetensors.torch.save_file(state, path)
    for _ in range(2):
        if told is None:
            check_weights(str(path), TINY, size=32)
        else:
            assert told in refusal(check_weights, str(path), TINY, size=32)
        monkeypatch.setattr("mfm.models.weights.read_weights", None)  # is remembered


@pytest.mark.parametrize(
    ("weights", "backbone", "fits"),
    [
        ("ResNet18_Weights.IMAGENET1K_V1", "resnet18", True),
        ("torchvision/ResNet50_Weights.DEFAULT", "resnet50", True),
        ("ResNet50_Weights.DEFAULT", "resnet50_gn", False),
        ("ResNet50_Weights.IMAGENET1K_V1", "resnet18", False),
        ("Wide_ResNet50_2_Weights.IMAGENET1K_V1", "resnet50", False),
        ("ResNeXt50_32X4D_Weights.IMAGENET1K_V1", "resnext50_32x4d", True),
        ("DenseNet121_Weights.IMAGENET1K_V1", "densenet121", True),
    ],
)
def test_names_of_other_networks_are_told_without_a_download(weights, backbone, fits):
    model = Model(backbone=backbone)
    if fits:
        check_weights(weights, model, size=32)
        return
    message = refusal(check_weights, weights, model, size=32)
    assert f"and model.backbone is {backbone}: give weights of that, or change it" in message


def test_a_header_of_any_length_is_no_other_format(tmp_path):
    """A file of safetensors begins with that length, whose first byte may be a pickle's."""
    path, starts = tmp_path / "x.safetensors", set()
    for length in range(0, 2048, 8):
        safetensors.torch.save_file({"a": torch.ones(1)}, path, metadata={"said": "x" * length})
        starts.add(path.read_bytes()[:1])
        source_of(str(path)).check(str(path))
    assert b"\x80" in starts
