import argparse
import contextlib
import errno
import functools
import hashlib
import json
import os
import pickle
import stat
import sys
import types
import urllib.error
from collections import Counter, OrderedDict

import pytest
import safetensors.torch
import timm
import torch
import torchvision
from torch import nn
from torch.nn import functional as F

from mfm.commands import fetch
from mfm.errors import UserError, explain
from mfm.experiment.jobs import PretrainJob
from mfm.experiment.settings import Experiment
from mfm.files.pickles import load_pickle
from mfm.models import weights
from mfm.models.backbones import create_backbone, has_fixed_size, last_map, stride
from mfm.models.facts import Facts, facts_of
from mfm.models.reconstruction import ReconstructionModel, create_reconstruction_model
from mfm.models.settings import Model
from mfm.models.sources import source_of
from mfm.settings.section import parse
from mfm.training.task import Task

TINY = "test_resnet"  # timm's own for tests: 0.4 million parameters
WEIGHTS = "ResNet18_Weights.IMAGENET1K_V1"
WEIGHTS_FILE = "resnet18-f37072fd.pth"
WEIGHTS_URL = f"https://download.pytorch.org/models/{WEIGHTS_FILE}"


def create(name, *, classes=10, drop_path=0.0):
    return create_backbone(Model(backbone=name, drop_path=drop_path), classes=classes)


@functools.cache
def ours_and_theirs(name):
    torch.manual_seed(1)
    ours = create(name, classes=1000)
    torch.manual_seed(2)
    return ours, getattr(torchvision.models, name)()


def refusal(function, *arguments, **options):
    with pytest.raises(UserError) as caught:
        function(*arguments, **options)
    return str(caught.value)


def check_weights(name):
    source_of(name).check(name)


def equal(ours, theirs):
    assert ours.keys() == theirs.keys()
    return all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_keys_and_shapes_are_torchvisions(name):
    ours, theirs = ours_and_theirs(name)
    shapes = [
        {key: (tensor.shape, tensor.dtype) for key, tensor in model.state_dict().items()}
        for model in (ours, theirs)
    ]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_initialisation_is_torchvisions(name):
    ours, theirs = ours_and_theirs(name)
    for (key, parameter), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        mine = parameter.detach()
        if mine.ndim > 1:
            # A sample's deviation is off by 1 / sqrt(2 n), both are: 5 times that is never.
            tolerance = 5 / mine.numel() ** 0.5
            assert (mine.std() / other.std()).item() == pytest.approx(1, abs=tolerance), key
            assert (mine.mean() / mine.std()).item() == pytest.approx(0, abs=tolerance), key
        elif key == "fc.bias":
            assert mine.abs().max() <= theirs.fc.in_features**-0.5
            assert (mine.std() / other.std()).item() == pytest.approx(1, abs=0.1)
        else:
            # batch norms, the last one of each block included
            assert torch.equal(mine, other), key
            assert mine.unique().item() == (1 if key.endswith("weight") else 0), key
    for (key, mine), other in zip(ours.named_buffers(), theirs.buffers(), strict=True):
        assert torch.equal(mine, other), key


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_same_weights_give_torchvisions_logits_to_the_bit(name):
    ours, theirs = ours_and_theirs(name)
    torch.manual_seed(3)
    images = torch.randn(2, 3, 64, 64)
    before = {key: tensor.clone() for key, tensor in ours.state_dict().items()}
    # running statistics that differ from their start, so that evaluation uses them
    state = {
        key: tensor + 0.1 * torch.rand_like(tensor) if "running" in key else tensor
        for key, tensor in theirs.state_dict().items()
    }
    theirs.load_state_dict(state)
    ours.load_state_dict(state)
    with torch.inference_mode():
        assert torch.equal(ours.eval()(images), theirs.eval()(images))
    ours.load_state_dict(before)


def test_no_classes_leave_the_classifier_out():
    names = create("resnet18", classes=0).state_dict()
    assert not [name for name in names if name.startswith("fc.")]
    assert len(names) == 120


def test_drop_path_reaches_the_backbone():
    rates = [m.drop_prob for m in create(TINY, drop_path=0.25).modules() if hasattr(m, "drop_prob")]
    assert max(rates) == 0.25


def test_no_drop_path_is_none():
    # timm's Swin has one where nothing is said
    with torch.device("meta"):
        model = create("swin_tiny_patch4_window7_224")
    rates = [m.drop_prob for m in model.modules() if hasattr(m, "drop_prob")]
    assert len(rates) > 10
    assert not any(rates)


def test_drop_path_where_the_backbone_has_none_is_a_user_error():
    assert "vgg11" in refusal(create, "vgg11", drop_path=0.1)


@pytest.mark.parametrize(("name", "near"), [("resnet81", "resnet18"), ("ResNet50", "resnet50")])
def test_an_unknown_backbone_suggests_the_near_one(name, near):
    message = refusal(create, name)
    assert message.startswith("model.backbone: ")
    assert f"'{name}'" in message
    assert f"did you mean '{near}'?" in message


def test_an_unknown_backbone_like_none_is_told_in_a_short_line():
    # timm knows more than 1,000 models
    assert len(refusal(create, "§§§§")) < 500


@pytest.mark.parametrize("out_channels", [1, 3])
@pytest.mark.parametrize(
    ("name", "size", "pixels"),
    [
        ("resnet18", (64, 96), 32),
        (TINY, (64, 64), 32),
        ("test_vit", (160, 160), 16),
        ("test_convnext", (96, 64), 32),
    ],
)
def test_a_prediction_for_every_pixel(name, size, pixels, out_channels):
    backbone = create(name, classes=0)
    model = ReconstructionModel(backbone, out_channels=out_channels)
    assert stride(backbone) == pixels
    assert model(torch.randn(2, 3, *size)).shape == (2, out_channels, *size)


@pytest.mark.parametrize("name", ["test_efficientnet", "test_efficientnet_gn"])
def test_a_last_map_of_other_width_than_the_classifiers_input_fits_the_head(name):
    model = ReconstructionModel(create(name, classes=0), out_channels=1)
    assert model(torch.randn(2, 3, 64, 64)).shape == (2, 1, 64, 64)


@pytest.mark.parametrize("out_channels", [1, 3])
def test_the_head_is_one_linear_layer_and_a_pixel_shuffle(out_channels):
    backbone = create("resnet18", classes=0)
    model = ReconstructionModel(backbone, out_channels=out_channels).eval()
    own = {name: p for name, p in model.named_parameters() if not name.startswith("backbone.")}
    shapes = Counter(tuple(parameter.shape) for parameter in own.values())
    channels = out_channels * 32**2
    assert shapes == {(channels, 512, 1, 1): 1, (channels,): 1}
    weight, bias = sorted(own.values(), key=lambda parameter: -parameter.ndim)
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        features = backbone.forward_features(images)
        expected = F.pixel_shuffle(F.conv2d(features, weight, bias), 32)
        torch.testing.assert_close(model(images), expected)


def test_the_head_starts_at_pytorchs_default():
    model = ReconstructionModel(create(TINY, classes=0), out_channels=3)
    weight = model.head[0].weight
    bound = weight.shape[1] ** -0.5
    assert weight.abs().max() <= bound
    assert weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.02)


@functools.cache
def trained():
    """A state unlike any fresh one."""
    torch.manual_seed(5)
    return {
        name: torch.randn_like(tensor) if tensor.is_floating_point() else tensor + 7
        for name, tensor in create(TINY, classes=0).state_dict().items()
    }


def backbone_of(model):
    return {name: t for name, t in model.state_dict().items() if not name.startswith("fc.")}


def test_own_weights_load_and_leave_the_classifier_new(tmp_path):
    source = create(TINY, classes=0)
    source.load_state_dict(trained())
    path = tmp_path / "backbone.safetensors"
    weights.save_weights(source, path, {})
    model = create(TINY)
    fc = model.fc.weight.clone()
    report = weights.load_backbone(model, weights.read_weights(str(path)), source=str(path))
    assert equal(backbone_of(model), trained())
    assert torch.equal(model.fc.weight, fc)
    assert report == weights.LoadReport(
        matched=len(trained()), new=("fc.weight", "fc.bias"), unused=()
    )


@pytest.mark.parametrize(
    "prefix", ["module.", "encoder.", "backbone.", "module.encoder.", "module.backbone."]
)
def test_prefixes_of_other_code_are_taken_off(prefix):
    model = create(TINY)
    tensors = {prefix + name: tensor for name, tensor in trained().items()}
    report = weights.load_backbone(model, tensors, source="file")
    assert equal(backbone_of(model), trained())
    assert report.matched == len(trained())


@pytest.mark.parametrize("classes", [10, 1000])
def test_a_classifier_and_a_decoder_in_the_file_are_ignored_and_told(classes):
    model = create(TINY)
    fc = {name: tensor.clone() for name, tensor in model.fc.state_dict().items()}
    features = model.fc.in_features
    more = {
        "fc.weight": torch.ones(classes, features),
        "fc.bias": torch.ones(classes),
        "decoder.0.weight": torch.ones(32**2, features, 1, 1),
    }
    report = weights.load_backbone(model, trained() | more, source="file")
    assert equal(backbone_of(model), trained())
    assert equal(dict(model.fc.state_dict()), fc)
    assert set(report.unused) == more.keys()
    assert report.new == ("fc.weight", "fc.bias")
    for name in more:
        assert name in str(report)
    assert f"{len(trained())} tensors matched" in str(report)


def test_a_file_without_batch_counters_is_accepted():
    # as from before PyTorch 0.4.1
    model = create(TINY)
    tensors = {name: t for name, t in trained().items() if "num_batches" not in name}
    assert len(tensors) < len(trained())
    weights.load_backbone(model, tensors, source="file")
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in tensors.items())


@pytest.mark.parametrize(
    ("tensors", "matching"),
    [
        (lambda state: {}, 0),
        (lambda state: {"a": torch.ones(1)}, 0),
        (lambda state: {f"student.{name}": tensor for name, tensor in state.items()}, 0),
        (lambda state: {n: t for n, t in state.items() if n != "layer3.0.conv2.weight"}, -1),
        (lambda state: state | {"layer3.0.conv2.weight": torch.ones(4, 4)}, -1),
    ],
    ids=["nothing", "unrelated", "unknown prefix", "one missing", "one of another shape"],
)
def test_a_file_that_does_not_fill_the_backbone_is_refused(tensors, matching):
    model = create(TINY)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    message = refusal(weights.load_backbone, model, tensors(trained()), source="some/file.pth")
    total = len(trained())
    # batch counters may be missing, and are counted as matching
    counters = sum(name.endswith("num_batches_tracked") for name in trained())
    number = counters if matching == 0 else total - 1
    assert "some/file.pth" in message
    assert f"{number} of {total} " in message
    if matching:
        assert "layer3.0.conv2.weight" in message
    assert equal(model.state_dict(), before)


@pytest.mark.parametrize(
    ("here", "there"),
    [("resnet18", "resnet50"), ("resnet34", "resnet18"), ("resnet18", "resnet34")],
)
def test_the_file_of_another_model_is_refused(here, there):
    # A shallower model's names and shapes are all in a deeper one's file.
    with torch.device("meta"):
        model, other = create(here), create(there)
    message = refusal(weights.load_backbone, model, other.state_dict(), source="other.pth")
    assert "other.pth" in message
    assert "another model" in message


class RunsCode:
    def __init__(self, proof):
        self.proof = proof

    def __reduce__(self):
        return os.system, (f"touch {self.proof}",)


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".bin", ".ckpt"])
@pytest.mark.parametrize(
    "write",
    [
        lambda content, path: torch.save(content, path),
        lambda content, path: torch.save(content, path, _use_new_zipfile_serialization=False),
        lambda content, path: path.write_bytes(pickle.dumps(content, protocol=2)),
    ],
    ids=["torch", "old torch", "pickle"],
)
def test_a_pickle_that_would_run_code_is_refused(tmp_path, write, suffix):
    path, proof = tmp_path / f"evil{suffix}", tmp_path / "proof"
    write({"model": {"a": torch.ones(1)}, "extra": RunsCode(proof)}, path)
    message = refusal(weights.read_weights, str(path))
    assert str(path) in message
    assert "refused" in message
    assert "run code" in message
    assert "safetensors" in message
    assert not proof.exists()
    # it really would have
    with contextlib.suppress(RuntimeError):  # of what remains without the pickle's torch format
        torch.load(path, weights_only=False)
    assert proof.exists()


def test_a_pickle_named_safetensors_is_refused(tmp_path):
    path, proof = tmp_path / "evil.safetensors", tmp_path / "proof"
    torch.save({"extra": RunsCode(proof)}, path)
    assert str(path) in refusal(weights.read_weights, str(path))
    assert not proof.exists()


STATE = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.count": torch.tensor(3)}


@pytest.mark.parametrize(
    "content",
    [
        STATE,
        {"model": STATE, "epoch": 3, "optimizer": {"state": {0: {"step": torch.ones(1)}}}},
        {"state_dict": STATE},
        {"model_state_dict": STATE},
        {"model": {"state_dict": STATE}},
        OrderedDict(STATE),
    ],
    ids=["plain", "model", "state_dict", "model_state_dict", "nested", "ordered"],
)
@pytest.mark.parametrize("new_format", [True, False])
def test_state_dicts_are_found_in_their_usual_wrappers(tmp_path, content, new_format):
    path = tmp_path / "x.pth"
    torch.save(content, path, _use_new_zipfile_serialization=new_format)
    assert equal(weights.read_weights(str(path)), STATE)


@pytest.mark.parametrize("content", [[1, 2], torch.ones(2), "text", 3])
def test_a_file_that_holds_no_dict_is_told(tmp_path, content):
    path = tmp_path / "x.pth"
    torch.save(content, path)
    message = refusal(weights.read_weights, str(path))
    assert str(path) in message
    assert type(content).__name__ in message


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize(
    "damage",
    [lambda data: b"", lambda data: data[: len(data) // 2], lambda data: b"<html>not found</html>"],
    ids=["empty", "half", "a web page"],
)
def test_a_damaged_file_is_told(tmp_path, suffix, damage):
    path = tmp_path / f"x{suffix}"
    (torch.save if suffix == ".pth" else safetensors.torch.save_file)(STATE, path)
    path.write_bytes(damage(path.read_bytes()))
    assert str(path) in refusal(weights.read_weights, str(path))


@pytest.mark.parametrize("name", ["x.pth", "x.safetensors", "folder/x"])
@pytest.mark.parametrize("check", [weights.read_weights, check_weights])
def test_a_missing_file_is_told(tmp_path, name, check):
    assert str(tmp_path / name) in refusal(check, str(tmp_path / name))


@pytest.mark.parametrize("check", [weights.read_weights, check_weights])
@pytest.mark.parametrize(
    "name",
    [
        "ResNet18_Weights.IMAGENET1K_V9",
        "ResNet99_Weights.IMAGENET1K_V1",
        "resnet18",
        "ResNet18_Weights",
        "a.b.c",
        "torchvision/ResNet18_Weights.IMAGENET1K_V9",
    ],
)
def test_a_name_torchvision_does_not_know_is_told(name, check):
    message = refusal(check, name)
    assert f"'{name}'" in message
    assert "ResNet50_Weights.IMAGENET1K_V1" in message


def test_a_known_name_needs_no_network_to_be_checked():
    check_weights(WEIGHTS)
    check_weights(f"torchvision/{WEIGHTS}")


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty cache of torch.hub, and no network."""

    def no_network(url, path, *arguments, **options):
        raise urllib.error.URLError("Name or service not known")

    assert torch.hub._hub_dir is None
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", no_network)
    folder = tmp_path / "hub/checkpoints"
    folder.mkdir(parents=True)
    return folder


@pytest.mark.parametrize("name", [WEIGHTS, f"torchvision/{WEIGHTS}"])
def test_torchvision_weights_come_from_its_cache(hub, name):
    torch.save(STATE, hub / WEIGHTS_FILE)
    assert equal(weights.read_weights(name), STATE)


def test_torchvision_weights_are_downloaded_with_their_hash(hub, monkeypatch):
    asked = []

    def download(url, path, hash_prefix=None, progress=True):
        asked.append((url, hash_prefix))
        torch.save(STATE, path)

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    assert equal(weights.read_weights(WEIGHTS), STATE)
    assert asked == [(WEIGHTS_URL, "f37072fd")]


def test_without_a_network_the_message_names_url_and_folder(hub):
    message = refusal(weights.read_weights, WEIGHTS)
    assert WEIGHTS in message
    assert WEIGHTS_URL in message
    assert str(hub) in message
    assert "Name or service not known" in message


def test_a_wrong_hash_is_told(hub, monkeypatch):
    def download(url, path, hash_prefix=None, progress=True):
        raise RuntimeError(f'invalid hash value (expected "{hash_prefix}", got "0123abcd")')

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    assert "invalid hash value" in refusal(weights.read_weights, WEIGHTS)


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", b"PK\x03\x04 torn"])
def test_a_damaged_file_in_the_cache_is_told(hub, content):
    (hub / WEIGHTS_FILE).write_bytes(content)
    message = refusal(weights.read_weights, WEIGHTS)
    assert WEIGHTS_FILE in message
    assert str(hub) in message


def test_a_file_in_the_cache_that_would_run_code_is_refused(hub, tmp_path):
    proof = tmp_path / "proof"
    torch.save({"a": torch.ones(1), "extra": RunsCode(proof)}, hub / WEIGHTS_FILE)
    message = refusal(weights.read_weights, WEIGHTS)
    assert WEIGHTS_FILE in message
    assert not proof.exists()


METADATA = {"stage": "finetune", "seed": "3", "classes": '["é", "a|b"]'}


def test_weights_and_their_metadata_make_a_round_trip(tmp_path):
    path = tmp_path / "deep/er/model.safetensors"
    source, target = create(TINY), create(TINY)
    weights.save_weights(source, path, METADATA)
    assert not equal(target.state_dict(), source.state_dict())
    assert weights.load_weights(target, path) == METADATA
    assert equal(target.state_dict(), source.state_dict())


def test_equal_models_leave_equal_files(tmp_path):
    model = create(TINY)
    written = []
    for number, items in enumerate((METADATA, dict(reversed(METADATA.items())))):
        path = tmp_path / f"{number}.safetensors"
        weights.save_weights(model, path, items)
        written.append(path.read_bytes())
    assert written[0] == written[1]


def test_weights_that_others_saved_are_not_taken_for_a_run(tmp_path):
    path, model = tmp_path / "model.safetensors", nn.Linear(2, 2)
    safetensors.torch.save_file(model.state_dict(), path, metadata={"format": "pt"})
    assert str(path) in refusal(weights.load_weights, model, path)


def test_channels_last_weights_make_a_round_trip(tmp_path):
    path = tmp_path / "model.safetensors"
    source, target = create(TINY).to(memory_format=torch.channels_last), create(TINY)
    weights.save_weights(source, path, {})
    weights.load_weights(target, path)
    assert equal(target.state_dict(), source.state_dict())


def test_saved_weights_load_in_timm(tmp_path):
    path = tmp_path / "model.safetensors"
    source = create(TINY)
    weights.save_weights(source, path, METADATA)
    other = timm.create_model(TINY, num_classes=10, checkpoint_path=str(path))
    assert equal(other.state_dict(), source.state_dict())


def test_saved_weights_have_the_rights_of_other_files(tmp_path):
    path = tmp_path / "model.safetensors"
    for umask, mode in ((0o077, 0o600), (0o002, 0o664), (0o022, 0o644)):
        before = os.umask(umask)
        weights.save_weights(nn.Linear(2, 2), path, METADATA)
        assert os.umask(before) == umask
        assert stat.S_IMODE(path.stat().st_mode) == mode


@pytest.mark.parametrize(
    "other", [nn.Linear(3, 2), nn.Linear(2, 2, bias=False), nn.Conv2d(2, 2, 1)]
)
def test_saved_weights_of_another_model_are_refused(tmp_path, other):
    path = tmp_path / "model.safetensors"
    weights.save_weights(other, path, METADATA)
    assert str(path) in refusal(weights.load_weights, nn.Linear(2, 2), path)


def test_damaged_or_missing_saved_weights_are_told(tmp_path):
    path = tmp_path / "model.safetensors"
    assert str(path) in refusal(weights.load_weights, nn.Linear(2, 2), path)
    weights.save_weights(nn.Linear(2, 2), path, METADATA)
    path.write_bytes(path.read_bytes()[:-3])
    assert str(path) in refusal(weights.load_weights, nn.Linear(2, 2), path)


@pytest.mark.parametrize(
    "error",
    [OSError(errno.ENOSPC, "No space left on device"), safetensors.SafetensorError("IoError")],
    ids=["system", "safetensors"],
)
def test_weights_that_cannot_be_written_leave_the_old_ones(tmp_path, monkeypatch, error):
    def full(tensors, path, metadata):
        path.write_bytes(b"half")
        raise error

    path = tmp_path / "model.safetensors"
    weights.save_weights(nn.Linear(2, 2), path, METADATA)
    before = path.read_bytes()
    monkeypatch.setattr(safetensors.torch, "save_file", full)
    with pytest.raises((OSError, UserError)) as raised:
        weights.save_weights(nn.Linear(2, 2), path, METADATA)
    message = explain(raised.value)
    assert str(path) in message
    assert "free" in message
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


# classifiers, checksums, files of the public codes


@pytest.mark.parametrize(("classes", "kept"), [(10, True), (11, False)])
def test_a_classifier_is_kept_where_asked_and_where_it_fits(classes, kept):
    model = create(TINY)
    before = {name: tensor.clone() for name, tensor in model.fc.state_dict().items()}
    features = model.fc.in_features
    fc = {"fc.weight": torch.randn(classes, features), "fc.bias": torch.randn(classes)}
    report = weights.load_backbone(model, trained() | fc, source="file", keep_classifier=True)
    assert report.kept_classifier == kept
    assert ("classifier kept" in str(report)) == kept
    expected = {name.removeprefix("fc."): tensor for name, tensor in fc.items()}
    assert equal(dict(model.fc.state_dict()), expected if kept else before)
    assert report.new == (() if kept else ("fc.weight", "fc.bias"))


def test_a_file_without_a_classifier_leaves_a_new_one():
    report = weights.load_backbone(create(TINY), trained(), source="file", keep_classifier=True)
    assert not report.kept_classifier


def test_the_checksum_is_the_files(hub, tmp_path):
    path = tmp_path / "w.pth"
    torch.save(STATE, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert weights.weights_checksum(str(path)) == digest
    # torchvision's files carry the first digits of theirs in their names
    (hub / WEIGHTS_FILE).write_bytes(path.read_bytes())
    message = refusal(weights.weights_checksum, WEIGHTS)
    for part in (WEIGHTS_FILE, digest[:8], "f37072fd", "remove it"):
        assert part in message


def upstream_file(path, tensors):
    """As upstream saves: the state dict among others, and its options as an argparse object."""
    options = argparse.Namespace(lr=0.0012, model="resnet50", device="cuda", milestones=[1, 2])
    torch.save({"model": tensors, "optimizer": {"state": {}}, "epoch": 299, "args": options}, path)


def test_settings_of_argparse_are_read_as_inert_objects(tmp_path):
    path = tmp_path / "model_300.pth"
    upstream_file(path, STATE)
    assert equal(weights.read_weights(str(path)), STATE)
    options = load_pickle(path)["args"]
    assert not isinstance(options, argparse.Namespace)
    assert options.model == "resnet50"


def test_settings_of_yacs_are_read_without_it(tmp_path, monkeypatch):
    path = tmp_path / "ckpt_epoch_299.pth"
    module = types.ModuleType("yacs.config")

    class CfgNode(dict):
        """A dict with attributes, pickled like yacs's."""

        def __init__(self, values):
            super().__init__(values)
            self.__dict__["__immutable__"] = True

    CfgNode.__module__, CfgNode.__qualname__ = "yacs.config", "CfgNode"
    module.CfgNode = CfgNode
    monkeypatch.setitem(sys.modules, "yacs", types.ModuleType("yacs"))
    monkeypatch.setitem(sys.modules, "yacs.config", module)
    settings = CfgNode({"MODEL": CfgNode({"TYPE": "vit"})})
    torch.save({"model": STATE, "config": settings, "epoch": 299}, path)
    monkeypatch.delitem(sys.modules, "yacs.config")
    monkeypatch.delitem(sys.modules, "yacs")
    assert equal(weights.read_weights(str(path)), STATE)
    assert load_pickle(path)["config"]["MODEL"]["TYPE"] == "vit"


@pytest.mark.parametrize("name", ["argparse.ArgumentParser", "yacs.config.load_cfg"])
def test_no_other_class_of_theirs_is_let_through(tmp_path, name):
    path = tmp_path / "x.pth"
    module, attribute = name.rsplit(".", 1)
    path.write_bytes(f"c{module}\n{attribute}\n(tR.".encode())
    torch.save({"a": torch.ones(1)}, tmp_path / "good.pth")
    assert str(path) in refusal(weights.read_weights, str(path))


def test_attention_biases_of_the_papers_vit_become_timms(tmp_path):
    queries, values = torch.randn(6), torch.randn(6)
    tensors = {"encoder.blocks.0.attn.q_bias": queries, "encoder.blocks.0.attn.v_bias": values}
    path = tmp_path / "x.pth"
    torch.save({"model": tensors}, path)
    found = weights.read_weights(str(path))
    assert list(found) == ["encoder.blocks.0.attn.qkv.bias"]
    expected = torch.cat([queries, torch.zeros(6), values])
    assert torch.equal(found["encoder.blocks.0.attn.qkv.bias"], expected)


def test_a_vit_with_mean_pooling_starts_from_one_without():
    # As in the paper: its norm is dropped, the one after the pooling starts new.
    source = create("test_vit", classes=0)
    model = create_backbone(Model(backbone="test_vit", pooling="mean"), classes=10, image_size=160)
    report = weights.load_backbone(model, source.state_dict(), source="file")
    assert torch.equal(model.pos_embed, source.pos_embed)
    assert set(report.unused) == {"norm.weight", "norm.bias"}
    assert {name.split(".")[0] for name in report.new} == {"fc_norm", "head"}


@pytest.mark.parametrize("settings", [{"backbone": "test_vit", "pooling": "mean"}, {}])
@pytest.mark.parametrize("there", [True, False])
def test_the_norm_before_the_classifier_is_taken_where_there_is_one(settings, there):
    settings = Model(**{"backbone": "test_convnext"} | settings)
    model = create_backbone(settings, classes=10, image_size=160)
    tensors = {name: torch.rand(tensor.shape) for name, tensor in model.state_dict().items()}
    names = {name for name in tensors if name.startswith(("fc_norm.", "head.norm."))}
    assert len(names) == 2
    before = {name: model.state_dict()[name].clone() for name in names}
    report = weights.load_backbone(
        model, {n: t for n, t in tensors.items() if there or n not in names}, source="file"
    )
    expected = tensors if there else before
    assert equal({n: model.state_dict()[n] for n in names}, {n: expected[n] for n in names})
    assert names.isdisjoint(report.new) == there
    assert {name.rsplit(".", 1)[0] for name in report.new} - {"fc_norm", "head.norm"} in (
        {"head"},
        {"head.fc"},
    )


@pytest.mark.parametrize(("name", "fixed"), [("test_vit", True), (TINY, False)])
def test_the_image_size_counts_for_models_of_one_size(name, fixed):
    model = create_backbone(Model(backbone=name), classes=2, image_size=64)
    assert has_fixed_size(name) == fixed
    assert model(torch.zeros(1, 3, 64, 64)).shape == (1, 2)
    if fixed:
        assert model.pos_embed.shape[1] == 1 + (64 // 16) ** 2


def test_zero_init_is_timms_and_for_resnets():
    settings = Model(backbone="resnet18", zero_init_last=True)
    model = create_backbone(settings, classes=2)
    reference = timm.create_model("resnet18", num_classes=2)
    for block in model.layer1:
        assert not block.bn2.weight.any()
    for (name, ours), theirs in zip(model.named_buffers(), reference.buffers(), strict=True):
        assert torch.equal(ours, theirs), name
    message = refusal(create_backbone, Model(backbone="test_vit", zero_init_last=True), classes=2)
    assert "zero_init_last" in message


# small stems and timm's own options

SLIM = {"layers": [1, 1, 1, 1], "channels": [8, 16, 32, 64]}


def network(classes=0, **settings):
    return create_backbone(Model(**settings), classes=classes, image_size=32)


@pytest.mark.parametrize("output_stride", [None, 16, 8])
@pytest.mark.parametrize("stem", [4, 2, 1])
def test_the_stride_of_each_map_is_the_real_one(stem, output_stride):
    options = SLIM | ({} if output_stride is None else {"output_stride": output_stride})
    model = network(backbone="resnet18", stem_stride=stem, options=options).eval()
    size = 64
    with torch.inference_mode():
        maps = model.forward_intermediates(torch.zeros(1, 3, size, size), intermediates_only=True)
    sides = [size // each.shape[-1] for each in maps]
    assert [stage["reduction"] for stage in model.feature_info] == sides
    assert stride(model) == sides[-1] == (output_stride or 32) * stem // 4
    assert last_map(model, torch.zeros(1, 3, size, size)).shape[1:] == maps[-1].shape[1:]


@pytest.mark.parametrize(("stem", "side"), [(4, 2), (2, 4), (1, 8)])
def test_a_small_stem_leaves_more_positions_at_32_pixels(stem, side):
    settings = Model(backbone="resnet18", stem_stride=stem, options=SLIM | {"output_stride": 16})
    model = create_reconstruction_model(settings, size=32, out_channels=3)
    images = torch.zeros(2, 3, 32, 32)
    assert last_map(model.backbone, images).shape == (2, 64, side, side)
    assert model(images).shape == images.shape


@pytest.mark.parametrize("name", ["resnet50", "resnext50_32x4d"])
def test_a_stem_is_for_all_of_torchvisions_resnets(name):
    with torch.device("meta"):
        ours = network(backbone=name, stem_stride=1, classes=1000)
        theirs = getattr(torchvision.models, name)()
    shapes = [
        {key: tensor.shape for key, tensor in model.state_dict().items()}
        for model in (ours, theirs)
    ]
    assert shapes[0].keys() == shapes[1].keys()
    other = {key for key in shapes[0] if shapes[0][key] != shapes[1][key]}
    assert other == {"conv1.weight"}
    assert stride(ours) == 8


def test_a_stem_of_stride_1_starts_as_torchvisions_first_layer_does():
    torch.manual_seed(1)
    weight = network(backbone="resnet18", stem_stride=1).conv1.weight
    assert weight.shape == (64, 3, 3, 3)
    # He et al. 2015 by the outputs of a 3x3 filter of 64 channels
    assert weight.std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.05)


def test_weights_of_the_standard_stem_fill_one_of_stride_2_and_not_one_of_stride_1():
    standard = network(backbone="resnet18", options=SLIM, classes=5).state_dict()
    model = network(backbone="resnet18", stem_stride=2, options=SLIM, classes=10)
    report = weights.load_backbone(model, standard, source="standard.pth")
    assert report.new == ("fc.weight", "fc.bias")
    assert equal(backbone_of(model), {n: t for n, t in standard.items() if "fc." not in n})
    model = network(backbone="resnet18", stem_stride=1, options=SLIM, classes=10)
    message = refusal(weights.load_backbone, model, standard, source="standard.pth")
    assert "(conv1.weight has shape (64, 3, 7, 7), not (64, 3, 3, 3))" in message
    assert "model.stem_stride" in message


@pytest.mark.parametrize("other", [{}, SLIM | {"channels": [8, 16, 32, 80]}])
def test_weights_of_other_options_are_refused(other):
    tensors = network(backbone="resnet18", options=other).state_dict()
    model = network(backbone="resnet18", options=SLIM, classes=10)
    message = refusal(weights.load_backbone, model, tensors, source="other.pth")
    assert "other.pth are of another model" in message
    assert "model.options" in message


@pytest.mark.parametrize("name", ["test_vit", "resnet10t", "test_convnext"])
def test_a_stem_where_there_is_none_is_a_user_error(name):
    message = refusal(network, backbone=name, stem_stride=2)
    assert message == f"model.stem_stride is for ResNets with one first layer, not for {name}"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"chanels": [8]}, "chanels"),
        ({"layers": 5}, "layers"),
        ({"output_stride": 5}, "output_stride"),
        ({"block": "basic"}, "block"),
        ({"layers": [1, 1, 1]}, "four layers"),
        ({"layers": [1, 1, 1, 1], "channels": [8, 16]}, "four layers and channels"),
        ({"features_only": True}, "no feature maps"),
    ],
)
def test_options_that_timm_does_not_take_end_in_one_line_that_names_them(options, told):
    message = refusal(network, backbone="resnet18", options=options)
    assert message.startswith("model.")
    assert told in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("key", "elsewhere"),
    [
        ("num_classes", "dataset's classes"),
        ("drop_path_rate", "model.drop_path"),
        ("in_chans", "dataset.channels"),
        ("pretrained", "arms"),
        ("checkpoint_path", "arms"),
    ],
)
def test_an_option_that_is_set_elsewhere_is_refused(key, elsewhere):
    values = {"model": {"options": {key: 1}}}
    message = refusal(parse, Experiment, values, where="mine.yaml")
    assert f"'{key}' is set by" in message
    assert elsewhere in message


def test_a_networks_name_says_what_is_not_standard_in_any_order():
    assert Model(backbone="resnet18", drop_path=0.1).title == "resnet18"
    keys = [{"b": [1], "a": 2}, {"a": 2, "b": [1]}]
    titles = {Model(backbone="resnet18", stem_stride=2, options=each).title for each in keys}
    assert titles == {
        "resnet18 (not the standard one: stem of stride 2 without pooling, a 2, b [1])"
    }


def test_options_of_a_vit():
    model = network(backbone="test_vit", options={"patch_size": 4}, classes=3).eval()
    assert stride(model) == 4
    assert last_map(model, torch.zeros(1, 3, 32, 32)).shape[-2:] == (8, 8)


def test_fetched_weights_are_described(hub, tmp_path, monkeypatch, capsys):
    torch.save(STATE, hub / "x.pth")
    digest = hashlib.sha256((hub / "x.pth").read_bytes()).hexdigest()
    (hub / "x.pth").rename(hub / f"resnet18-{digest[:8]}.pth")
    known = torchvision.models.get_weight(WEIGHTS)
    url = f"https://download.pytorch.org/resnet18-{digest[:8]}.pth"
    enum = types.SimpleNamespace(url=url, name=known.name, transforms=known.transforms)
    monkeypatch.setattr("mfm.models.sources.torchvision._enum", lambda weights: enum)
    fetch.fetch(WEIGHTS, tmp_path / "out.json")
    found = json.loads((tmp_path / "out.json").read_text())
    assert found.pop("file") == str(hub / f"resnet18-{digest[:8]}.pth")
    assert found == {
        "weights": WEIGHTS,
        "sha256": digest,
        "tensors": len(STATE),
        "trained_on": "ImageNet-1k labels",
        "normalisation": "mean [0.485, 0.456, 0.406], std [0.229, 0.224, 0.225]",
        "image_size": "224",
    }
    assert digest in capsys.readouterr().out


def test_weights_that_cannot_be_fetched_leave_nothing(hub, tmp_path):
    message = refusal(fetch.fetch, WEIGHTS, tmp_path / "out.json")
    assert WEIGHTS_URL in message
    assert str(hub) in message
    assert not (tmp_path / "out.json").exists()


@pytest.mark.parametrize("channels", [1, 3])
def test_a_pretraining_goes_on_from_a_published_one(tmp_path, channels):
    # upstream's decoder predicts one channel
    torch.manual_seed(6)
    source = ReconstructionModel(create(TINY, classes=0), out_channels=1)
    tensors = dict(source.backbone.state_dict())
    tensors |= {f"decoder.{name}": tensor for name, tensor in source.head.state_dict().items()}
    upstream_file(tmp_path / "saved_model_15.pth", tensors)
    model = ReconstructionModel(create(TINY, classes=0), out_channels=channels)
    training = {"task": "mfm"}
    seen = {"name": "d", "image_size": 32}
    job = PretrainJob(
        name="p", dataset=seen, model={"backbone": TINY}, training=training, split="train"
    )
    task = Task(model=model, backbone=model.backbone, objective=None)
    said = job.load(task, str(tmp_path / "saved_model_15.pth")).text
    assert equal(model.backbone.state_dict(), source.backbone.state_dict())
    assert equal(model.head.state_dict(), source.head.state_dict()) == (channels == 1)
    assert ("the head is loaded too" in said) == (channels == 1)


def test_numbers_of_the_command_line_are_numbers():
    """`snakemake --config 'model={...}'` gives those in braces as texts."""
    options = {"layers": ["1", "1", "1", "1"], "channels": ["8", "16", "32", "64"]}
    model = Model(stem_stride="2", options=options)
    assert model == Model(stem_stride=2, options={"layers": [1] * 4, "channels": [8, 16, 32, 64]})


def test_facts_are_remembered_and_those_of_a_bad_network_are_not(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    model = Model(backbone="resnet10t", stem_stride=4)
    first = facts_of(model)
    assert first == Facts(stride=32, fixed_size=False, patch=None, leaves_patches_out=False)
    (file,) = (tmp_path / "mfm/networks").iterdir()
    monkeypatch.setattr("mfm.models.backbones.create_backbone", None)  # not built again
    assert facts_of(model) == first
    file.write_text("torn")
    with pytest.raises(TypeError):  # unreadable: built again
        facts_of(model)
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    with pytest.raises(UserError):
        facts_of(Model(backbone="resnet10t", options={"no_such_option": 1}))
    assert not (tmp_path / "other").exists()
