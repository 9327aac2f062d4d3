"""Weights by name: timm's from the Hugging Face cache, torchvision's under timm's names."""

import hashlib
import json
import pickle

import huggingface_hub
import pytest
import safetensors.torch
import timm
import torch
import torchvision
from torchvision.models.convnext import CNBlockConfig
from torchvision.models.swin_transformer import PatchMergingV2, SwinTransformerBlockV2

from mfm.commands import fetch
from mfm.data.settings import IMAGENET_MEAN, IMAGENET_STD
from mfm.errors import UserError
from mfm.experiment import preflight
from mfm.experiment.resolve import finetune_job
from mfm.experiment.settings import Experiment
from mfm.experiment.variants import Runs
from mfm.models.backbones import create_backbone
from mfm.models.facts import check_weights
from mfm.models.fitting import fit_normalisation
from mfm.models.origin import in_words
from mfm.models.settings import Model
from mfm.models.sources import is_path, origin_of, source_of
from mfm.models.trained_on import words_of_tag, words_of_torchvision
from mfm.models.translation import to_timm
from mfm.models.weights import load_backbone, read_weights, weights_checksum
from mfm.numerics.pixels import normalise
from mfm.settings.section import parse

IMAGENET = (IMAGENET_MEAN, IMAGENET_STD)
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
REVISION = "0123456789abcdef0123456789abcdef01234567"
VIT, RESNET = "timm/test_vit.r160_in1k", "timm/test_resnet.r160_in1k"


@pytest.fixture(autouse=True)
def hub(tmp_path, monkeypatch):
    """A cache of the hub in which nothing is, and no network."""
    folder = tmp_path / "hub"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(folder))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return folder


def network(weights, **options):
    torch.manual_seed(5)
    model = timm.create_model(weights.removeprefix("timm/"), **options)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def put(hub, weights, state, *, name="model.safetensors", revision=REVISION):
    """Leave a file in the cache as huggingface_hub does; returns its SHA-256."""
    folder = hub / f"models--{weights.replace('/', '--')}"
    content = safetensors.torch.save(state) if isinstance(state, dict) else state
    digest = hashlib.sha256(content).hexdigest()
    snapshot = folder / "snapshots" / revision
    for each in (folder / "refs", folder / "blobs", snapshot):
        each.mkdir(parents=True, exist_ok=True)
    (folder / "refs/main").write_text(revision)
    (folder / "blobs" / digest).write_bytes(content)
    (snapshot / name).symlink_to(f"../../blobs/{digest}")
    return digest


def refusal(function, *arguments, **options):
    with pytest.raises(UserError) as caught:
        function(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def equal(ours, theirs):
    assert ours.keys() == theirs.keys()
    return all(torch.equal(ours[name], theirs[name]) for name in ours)


# timm's, from the cache


def test_a_cached_file_is_read_and_described(hub, tmp_path, capsys):
    state = network(VIT).state_dict()
    digest = put(hub, VIT, state)
    assert not is_path(VIT)
    assert equal(read_weights(VIT), state)
    fetch.fetch(VIT, tmp_path / "vit.json")
    said = json.loads((tmp_path / "vit.json").read_text())
    assert said.pop("file").endswith(f"snapshots/{REVISION}/model.safetensors")
    assert said == {
        "weights": VIT,
        "sha256": digest,
        "tensors": len(state),
        "trained_on": "ImageNet-1k labels",
        "normalisation": in_words(HALF),
        "image_size": "160",
        "revision": REVISION,
    }
    assert REVISION in capsys.readouterr().out


def test_a_revision_may_be_chosen(hub):
    old, new = network(RESNET).state_dict(), timm.create_model("test_resnet").state_dict()
    put(hub, RESNET, old)
    put(hub, RESNET, new, revision="f" * 40)
    assert equal(read_weights(RESNET), new)
    assert equal(read_weights(f"{RESNET}@{REVISION}"), old)
    assert origin_of(f"{RESNET}@{REVISION}").revision == REVISION


def test_without_a_network_the_message_names_the_file_and_what_to_do(hub, tmp_path):
    message = refusal(fetch.fetch, RESNET, tmp_path / "out.json")
    for part in (RESNET, "HF_HUB_OFFLINE", "fetch model.safetensors and config.json of", str(hub)):
        assert part in message
    assert "https://huggingface.co/timm/test_resnet.r160_in1k" in message
    assert "models--timm--test_resnet.r160_in1k" in message
    assert "give that file's path in place of the name" in message
    assert not (tmp_path / "out.json").exists()
    put(hub, RESNET, network(RESNET).state_dict())
    missing = "f" * 40
    assert f"at revision {missing}" in refusal(read_weights, f"{RESNET}@{missing}")


def test_files_that_are_damaged_or_would_run_code_are_refused(hub):
    class RunsCode:
        def __reduce__(self):
            return exec, ("raise SystemExit",)

    put(hub, RESNET, pickle.dumps({"a": RunsCode()}), name="pytorch_model.bin")
    assert "is refused" in refusal(read_weights, RESNET)
    digest = put(hub, VIT, network(VIT).state_dict())
    blob = hub / "models--timm--test_vit.r160_in1k/blobs" / digest
    blob.write_bytes(safetensors.torch.save({"a": torch.ones(1)}))
    assert "is damaged" in refusal(weights_checksum, VIT)
    assert "are not of timm's test_vit.r160_in1k" in refusal(read_weights, VIT)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("timm/resnet50", "of this network it has resnet50.a1_in1k, "),
        ("timm/vit_base_patch16_224.nothing", "vit_base_patch16_224.augreg_in1k"),
        ("timm/resnet05.a1_in1k", "did you mean 'timm/resnet50.a1_in1k'"),
        ("timm/efficientnet_b7.untrained", "no weight name of timm"),
    ],
)
def test_names_that_timm_does_not_know_are_told(name, told):
    message = refusal(source_of(name).check, name)
    assert f"'{name}' is no weight name of timm" in message
    assert told in message


def test_names_are_known_without_torch_and_every_one_of_timms_is():
    for name in timm.list_models(pretrained=True)[::100]:
        source_of(f"timm/{name}").check(f"timm/{name}")
    assert is_path("timm/model.pth")
    assert is_path("./timm/resnet50.a1_in1k")


def test_a_network_without_a_file_on_the_hub_names_what_to_fetch():
    assert "fetch https://" in refusal(read_weights, "timm/gcvit_base.in1k")


def test_a_folder_of_the_hub_is_read_as_the_name_is(hub, tmp_path):
    state = network(VIT).state_dict()
    put(hub, VIT, state)
    safetensors.torch.save_file(state, tmp_path / "model.safetensors")
    described = {"tag": "r160_in1k", "mean": HALF[0], "std": HALF[1], "input_size": [3, 160, 160]}
    (tmp_path / "config.json").write_text(
        json.dumps({"architecture": "test_vit", "pretrained_cfg": described})
    )
    path = str(tmp_path / "model.safetensors")
    assert equal(read_weights(path), read_weights(VIT))
    assert origin_of(path).facts().items() <= origin_of(VIT).facts().items()
    check_weights(path, Model(backbone="test_vit"), size=64, normalisation=IMAGENET)
    message = refusal(check_weights, path, Model(backbone="test_resnet"), size=64)
    assert "is of test_vit, and model.backbone is test_resnet" in message
    (tmp_path / "config.json").write_text("{}")  # as this package's own: it says nothing
    assert origin_of(path).facts() == {}


# Another size, another normalisation


def test_a_network_computes_the_same_of_images_that_are_normalised_otherwise(hub):
    theirs = network(VIT, num_classes=7).double()
    images = torch.rand(2, 3, 160, 160, dtype=torch.float64)
    model = create_backbone(Model(backbone="test_vit"), classes=7, image_size=160).eval().double()
    report = load_backbone(
        model,
        theirs.state_dict(),
        source=VIT,
        keep_classifier=True,
        origin=origin_of(VIT),
        normalisation=IMAGENET,
    )
    mean, std = HALF
    with torch.inference_mode():
        expected = theirs(normalise(images, mean=mean, std=std))
        found = model(normalise(images, mean=IMAGENET_MEAN, std=IMAGENET_STD))
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
        other = theirs(normalise(images, mean=IMAGENET_MEAN, std=IMAGENET_STD))
    assert (other - expected).abs().max() > 1e-3
    assert f"its own normalisation ({in_words(HALF)}) is in the first layer" in str(report)


@pytest.mark.parametrize("layer", [timm.layers.Conv2dSame, timm.layers.ScaledStdConv2d])
def test_a_first_layer_that_pads_by_itself_or_changes_its_weights_is_left_as_it_is(layer):
    model = torch.nn.Module()
    model.stem = layer(3, 4, kernel_size=3, padding=0, bias=True)
    model.pretrained_cfg = {"first_conv": "stem"}
    tensors = model.state_dict()
    before = {name: value.clone() for name, value in tensors.items()}
    done, [left] = fit_normalisation(model, tensors, own=HALF, given=IMAGENET)
    assert not done
    assert "can't take up" in left
    assert all(torch.equal(before[name], tensors[name]) for name in before)


def test_a_first_layer_that_pads_images_keeps_its_numbers_and_that_is_said(hub):
    tiny = Model(backbone="test_resnet")
    [line] = check_weights(RESNET, tiny, size=64, normalisation=IMAGENET)
    assert line.startswith(f"{RESNET} were trained on images normalised with {in_words(HALF)}, and")
    assert "can't take up" in line
    assert check_weights(RESNET, tiny, size=64, normalisation=HALF) == []
    named = experiment(model={"backbone": "test_resnet"}, weights=RESNET)
    [line] = preflight.remarks(Runs(named))
    assert line.startswith(f"arms.named.weights: {RESNET} were trained on images normalised with")
    assert "set finetune.mean and finetune.std to theirs" in line
    state = network(RESNET).state_dict()
    model = create_backbone(tiny, classes=3)
    report = load_backbone(
        model, state, source=RESNET, origin=origin_of(RESNET), normalisation=IMAGENET
    )
    assert torch.equal(model.conv1[0].weight, state["conv1.0.weight"])
    assert "can't take up" in report.facts()["fitted"]


def test_position_embeddings_are_resampled_as_timm_does(hub):
    state = network(VIT).state_dict()
    model = create_backbone(Model(backbone="test_vit"), classes=3, image_size=64)
    report = load_backbone(model, state, source=VIT)
    theirs = timm.create_model(
        "test_vit.r160_in1k",
        pretrained=True,
        num_classes=3,
        img_size=64,
        pretrained_cfg_overlay={"state_dict": dict(state)},
    )
    assert torch.equal(model.pos_embed, theirs.pos_embed)
    assert "position embeddings resampled from 10x10 to 4x4" in str(report)


SWIN = "swin_tiny_patch4_window7_224"
AT_160 = ("timm/swin_tiny_patch4_window7_224.ms_in1k", SWIN, 160)


@pytest.mark.parametrize(
    ("weights", "backbone", "size", "options", "told"),
    [
        ("timm/resnet18.a1_in1k", "resnet18", 64, {}, None),
        ("timm/vit_tiny_patch16_224.augreg_in21k", "vit_tiny_patch16_224", 64, {}, None),
        (*AT_160, {}, "windows shrink with the image"),
        (*AT_160, {"always_partition": True}, None),
        (
            "timm/resnet18.a1_in1k",
            "resnet18",
            64,
            {"output_stride": 16, "layers": [1] * 4},
            "a lar",
        ),
        ("timm/convnext_atto.d2_in1k", "convnext_tiny", 64, {}, "is of convnext_atto, and model."),
        ("ResNet50_Weights.DEFAULT", "resnet50_gn", 64, {}, "is of resnet50, and model.backbone"),
        ("RegNet_Y_400MF_Weights.DEFAULT", "regnety_004", 64, {}, "are of another model"),
        ("ViT_B_16_Weights.IMAGENET1K_SWAG_E2E_V1", "vit_base_patch16_224", 160, {}, None),
        ("ViT_H_14_Weights.IMAGENET1K_SWAG_E2E_V1", "vit_huge_patch14_224", 224, {}, None),
        ("ViT_B_32_Weights.DEFAULT", "vit_base_patch16_224", 224, {}, "is of vit_base_patch32_224"),
        ("Swin_B_Weights.DEFAULT", "swin_base_patch4_window7_224", 224, {}, None),
        ("Swin_V2_S_Weights.DEFAULT", "swinv2_small_window8_256", 256, {}, None),
        ("ConvNeXt_Large_Weights.DEFAULT", "convnext_large", 224, {}, None),
    ],
)
def test_what_fits_is_told_before_anything_is_fetched(weights, backbone, size, options, told):
    model = Model(backbone=backbone, options=options)
    if told is None:
        check_weights(weights, model, size=size, normalisation=IMAGENET)
    else:
        assert told in refusal(check_weights, weights, model, size=size, normalisation=IMAGENET)


# torchvision's networks under timm's names


def vit():
    options = {"image_size": 224, "patch_size": 16, "num_layers": 2, "num_heads": 12}
    model = torchvision.models.VisionTransformer(**options, hidden_dim=768, mlp_dim=3072)
    return model, timm.create_model("vit_base_patch16_224", depth=2), 224


def convnext():
    stages = [CNBlockConfig(16, 32, 1), CNBlockConfig(32, 64, 2), CNBlockConfig(64, 96, 1)]
    model = torchvision.models.ConvNeXt([*stages, CNBlockConfig(96, None, 1)], layer_scale=0.5)
    options = {"depths": (1, 2, 1, 1), "dims": (16, 32, 64, 96)}
    return model, timm.create_model("convnext_tiny", **options), 96


def swin(version):
    window, size = (7, 224) if version == 1 else (8, 256)
    options = {"patch_size": [4, 4], "embed_dim": 24, "depths": [2, 2, 2, 2]}
    options |= {"num_heads": [1, 2, 4, 8], "window_size": [window, window]}
    if version == 2:
        options |= {"block": SwinTransformerBlockV2, "downsample_layer": PatchMergingV2}
    name = SWIN if version == 1 else "swinv2_tiny_window8_256"
    timms = {"embed_dim": 24, "depths": (2, 2, 2, 2), "num_heads": (1, 2, 4, 8)}
    return (
        torchvision.models.SwinTransformer(**options),
        timm.create_model(name, **timms),
        size,
    )


@pytest.mark.parametrize(
    "networks",
    [vit, convnext, lambda: swin(1), lambda: swin(2)],
    ids=["vit", "convnext", "swin", "swin v2"],
)
def test_torchvisions_networks_give_the_same_logits_in_timm(networks, tmp_path):
    torch.manual_seed(7)
    theirs, ours, size = networks()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    torch.save({f"module.{name}": t for name, t in theirs.state_dict().items()}, tmp_path / "x.pth")
    ours.load_state_dict(read_weights(str(tmp_path / "x.pth")), strict=True)
    images = torch.randn(2, 3, size, size)
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.float64, 1e-12)):
        with torch.inference_mode():
            expected = theirs.eval().to(dtype)(images.to(dtype))
            found = ours.eval().to(dtype)(images.to(dtype))
        scale = float(expected.abs().max())
        torch.testing.assert_close(found, expected, rtol=0, atol=tolerance * max(scale, 1))


@pytest.mark.parametrize("name", ["swinv2_tiny_window8_256", "beit_base_patch16_224"])
def test_networks_of_timm_with_two_biases_of_attention_take_their_own(name, tmp_path):
    with torch.device("meta"):
        model = timm.create_model(name, depths=(1, 1, 1, 1)) if "swin" in name else None
        model = model or timm.create_model(name, depth=1)
    report = load_backbone(model, to_timm(model.state_dict()), source="own", keep_classifier=True)
    assert report.new == report.unused == ()


# What is recorded


def experiment(model=None, **arm):
    values = {
        "dataset": {"name": "own", "source": "generated", "image_size": 64},
        "model": model or {"backbone": "test_vit"},
        "arms": {"scratch": "scratch", "named": arm},
        "finetune": {"batch": 8},
    }
    return parse(Experiment, values, where="test")


def test_a_finetuning_says_what_it_started_from(hub):
    digest = put(hub, VIT, network(VIT).state_dict())
    job = finetune_job(experiment(weights=VIT), "named", 0)
    task = job.training.build(job.inputs_of(classes=4, rows=None))
    before = torch.random.get_rng_state()
    initial = job.load(task, VIT)
    assert torch.equal(before, torch.random.get_rng_state())
    assert initial.checksum == digest
    assert initial.file.name == "model.safetensors"  # for the record of what was read
    assert initial.said == {
        "trained_on": "ImageNet-1k labels",
        "normalisation": in_words(HALF),
        "image_size": "160",
        "revision": REVISION,
        "fitted": "position embeddings resampled from 10x10 to 4x4; "
        f"its own normalisation ({in_words(HALF)}) is in the first layer",
    }
    for part in ("resampled from 10x10 to 4x4", "is in the first layer", digest):
        assert part in initial.text


@pytest.mark.parametrize(
    ("tag", "backbone", "words"),
    [
        ("a1_in1k", "resnet50", "ImageNet-1k labels"),
        ("augreg_in21k", "vit_base_patch16_224", "ImageNet-21k labels"),
        (
            "augreg2_in21k_ft_in1k",
            "vit_base_patch16_224",
            "ImageNet-21k labels, then ImageNet-1k labels",
        ),
        ("fb_in22k_ft_in1k_384", "convnext_tiny", "ImageNet-22k labels, then ImageNet-1k labels"),
        ("mae", "vit_base_patch16_224", "no labels (MAE)"),
        ("dino", "vit_base_patch16_224", "no labels (DINO)"),
        ("fcmae_ft_in1k", "convnextv2_atto", "no labels (FCMAE), then ImageNet-1k labels"),
        (
            "clip_laion2b_soup_ft_in12k_in1k_320",
            "convnext_large_mlp",
            "LAION-2B image-text pairs, then ImageNet-12k labels, then ImageNet-1k labels",
        ),
        # Not understood whole: images seen without labels, other data, a teacher.
        ("in22k_ft_in22k_in1k", "beit_base_patch16_224", "tag in22k_ft_in22k_in1k"),
        ("mim_in22k_ft_in1k", "eva02_base_patch14_448", "tag mim_in22k_ft_in1k"),
        ("ns_jft_in1k", "tf_efficientnet_b0", "tag ns_jft_in1k"),
        ("dist_in1k", "vit", "tag dist_in1k"),
        ("ours", "resnet50", "tag ours"),
    ],
)
def test_a_tag_is_put_into_words_or_shown(tag, backbone, words):
    assert words_of_tag(tag, backbone=backbone) == words


def test_torchvisions_names_are_put_into_words_too():
    assert words_of_torchvision("IMAGENET1K_V2") == "ImageNet-1k labels"
    assert words_of_torchvision("IMAGENET1K_SWAG_LINEAR_V1") == "Instagram hashtags (SWAG)"
    assert words_of_torchvision("IMAGENET1K_FEATURES") == "tag IMAGENET1K_FEATURES"
    found = origin_of("ViT_B_16_Weights.IMAGENET1K_SWAG_E2E_V1")
    assert found.image_size == 384
    assert found.trained_on == "Instagram hashtags (SWAG), then ImageNet-1k labels"
