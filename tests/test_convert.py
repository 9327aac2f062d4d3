"""Files as the public MFM codes publish them, built from their documented structure."""

import argparse
import sys
from collections import OrderedDict

import pytest
import safetensors.torch
import timm
import torch
import torchvision
from torch import nn

from mfm.__main__ import main
from mfm.errors import UserError
from mfm.files.pickles import load_pickle
from mfm.models import conversion, interchange, weights
from mfm.models.backbones import create_backbone
from mfm.models.settings import Model

BACKBONE = "resnet18"


@pytest.fixture(scope="module")
def resnet():
    """torchvision's own, with running statistics unlike new ones."""
    torch.manual_seed(4)
    model = torchvision.models.resnet18(num_classes=7)
    for name, buffer in model.named_buffers():
        if "running" in name:
            buffer.add_(0.2 * torch.rand_like(buffer))
    return model.eval()


def upstream_pretrained(model, path):
    """torchvision's names without a classifier, a decoder, and the options as a Namespace."""
    tensors = {n: t for n, t in model.state_dict().items() if not n.startswith("fc.")}
    tensors |= {"decoder.0.weight": torch.randn(1024, 512, 1, 1), "decoder.0.bias": torch.ones(1)}
    options = argparse.Namespace(model="resnet50", lr=0.0012)
    torch.save({"model": OrderedDict(tensors), "epoch": 299, "args": options}, path)
    return path


def upstream_finetuned(model, path):
    torch.save({"model": model.state_dict(), "args": argparse.Namespace(lr=0.012)}, path)
    return path


def paper_pretrained(backbone, path):
    tensors = {f"encoder.{name}": tensor for name, tensor in backbone.state_dict().items()}
    tensors |= {"decoder.0.weight": torch.randn(8, 4, 1, 1), "decoder.0.bias": torch.ones(8)}
    torch.save({"model": tensors, "max_accuracy": 0.0, "epoch": 299}, path)
    return path


def papers_vit(model, path, *, prefix=""):
    """timm's weights under the names of the paper's ViT, whose keys have no bias."""
    tensors = {}
    for name, tensor in model.state_dict().items():
        if name.endswith("attn.qkv.bias"):
            queries, keys, values = tensor.chunk(3)
            assert not keys.any()
            block = name.removesuffix("qkv.bias")
            tensors |= {f"{prefix}{block}q_bias": queries, f"{prefix}{block}v_bias": values}
        else:
            tensors[prefix + name] = tensor
    if prefix:
        tensors |= {"decoder.0.weight": torch.randn(8, 4, 1, 1), "decoder.0.bias": torch.ones(8)}
    torch.save({"model": tensors, "epoch": 99}, path)
    return path


def vit(**options):
    torch.manual_seed(2)
    model = timm.create_model("test_vit", **options)
    for block in model.blocks:
        bias = block.attn.qkv.bias
        with torch.no_grad():
            bias.normal_()
            bias.chunk(3)[1].zero_()
    return model.eval()


def run(path, out, *, source="upstream", target="torchvision", backbone=BACKBONE, **more):
    return conversion.convert(path, out, source=source, target=target, backbone=backbone, **more)


def read(path):
    if path.suffix == ".safetensors":
        return safetensors.torch.load_file(path)
    return torch.load(path, weights_only=True)


IMAGES = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def logits(model, images=IMAGES):
    with torch.inference_mode():
        return model.eval()(images)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("target", interchange.TARGETS)
def test_an_upstream_classifier_gives_its_logits_to_the_bit(tmp_path, resnet, target, suffix):
    out = tmp_path / f"out{suffix}"
    network = run(upstream_finetuned(resnet, tmp_path / "in.pth"), out, target=target)
    assert network.classes == 7
    create = torchvision.models.resnet18 if target == "torchvision" else plainly_timm
    model = create(num_classes=7)
    model.load_state_dict(read(out), strict=True)
    assert torch.equal(logits(model), logits(resnet))


def plainly_timm(**options):
    return timm.create_model(BACKBONE, **options)


def test_a_backbone_loads_strictly_where_there_is_no_classifier(tmp_path, resnet):
    source = upstream_pretrained(resnet, tmp_path / "in.pth")
    expected = logits(nn.Sequential(*list(resnet.children())[:-1], nn.Flatten()))
    for target in interchange.TARGETS:
        run(source, tmp_path / "out.pth", target=target)
        model = timm.create_model(BACKBONE, num_classes=0)
        if target == "torchvision":
            model = torchvision.models.resnet18()
            model.fc = nn.Identity()
        model.load_state_dict(read(tmp_path / "out.pth"), strict=True)
        assert torch.equal(logits(model), expected)


@pytest.mark.parametrize("target", interchange.TARGETS)
def test_a_new_classifier_lets_the_whole_plain_model_take_a_backbone(tmp_path, resnet, target):
    source = upstream_pretrained(resnet, tmp_path / "in.pth")
    run(source, tmp_path / "out.safetensors", target=target, new_classifier=1000)
    model = torchvision.models.resnet18() if target == "torchvision" else plainly_timm()
    model.load_state_dict(read(tmp_path / "out.safetensors"), strict=True)
    assert not logits(model).any()


def test_the_papers_resnet_becomes_torchvisions(tmp_path, resnet):
    backbone = timm.create_model(BACKBONE, num_classes=0)
    backbone.load_state_dict({n: t for n, t in resnet.state_dict().items() if n[:3] != "fc."})
    source = paper_pretrained(backbone, tmp_path / "ckpt.pth")
    run(source, tmp_path / "out.pth", source="paper", target="torchvision")
    assert set(read(tmp_path / "out.pth")) == set(backbone.state_dict())


@pytest.mark.parametrize("pooled", [False, True])
def test_the_papers_vit_gives_timms_logits(tmp_path, pooled):
    options = {"num_classes": 5, "img_size": 64} | ({"global_pool": "avg"} if pooled else {})
    model = vit(**options)
    source = papers_vit(model, tmp_path / "ckpt.pth")
    network = run(source, tmp_path / "o.pth", source="paper", target="timm", backbone="test_vit")
    assert (network.classes, network.image_size) == (5, 64)
    other = timm.create_model("test_vit", **options)
    other.load_state_dict(read(tmp_path / "o.pth"), strict=True)
    assert torch.equal(logits(other), logits(model))


def test_the_papers_pretrained_vit_starts_a_finetuning(tmp_path):
    model = vit(num_classes=0, img_size=64)
    source = papers_vit(model, tmp_path / "ckpt.pth", prefix="encoder.")
    classifier = create_backbone(
        Model(backbone="test_vit", pooling="mean"), classes=3, image_size=64
    )
    weights.load_backbone(classifier, weights.read_weights(str(source)), source="ckpt.pth")
    for name, tensor in model.blocks.state_dict().items():
        assert torch.equal(classifier.blocks.state_dict()[name], tensor), name
    out = tmp_path / "o.safetensors"
    run(source, out, source="paper", target="safetensors", backbone="test_vit")
    again = create_backbone(Model(backbone="test_vit"), classes=0, image_size=64)
    weights.load_weights(again, out)
    assert torch.equal(logits(again), logits(model))


def test_safetensors_are_what_this_package_reads(tmp_path, resnet):
    source = upstream_finetuned(resnet, tmp_path / "saved_model_bce_15.pth")
    out = tmp_path / "o.safetensors"
    run(source, out, target="safetensors")
    model = create_backbone(Model(backbone=BACKBONE), classes=7)
    metadata = weights.load_weights(model, out)
    assert torch.equal(logits(model), logits(resnet))
    assert metadata["arm"] == "saved_model_bce_15"
    assert metadata["source_sha256"] == weights.weights_checksum(str(source))


def refusal(*arguments, **options):
    with pytest.raises(UserError) as caught:
        run(*arguments, **options)
    return str(caught.value)


def test_files_of_the_other_code_or_of_another_backbone_are_refused(tmp_path, resnet):
    pretrained = upstream_pretrained(resnet, tmp_path / "up.pth")
    finetuned = upstream_finetuned(resnet, tmp_path / "fine.pth")
    paper = paper_pretrained(timm.create_model(BACKBONE, num_classes=0), tmp_path / "paper.pth")
    out = tmp_path / "out.pth"
    assert "it is --from paper" in refusal(paper, out)
    assert "it is --from upstream" in refusal(pretrained, out, source="paper")
    assert "another model" in refusal(finetuned, out, backbone="resnet34")
    assert "--to safetensors" in refusal(finetuned, out, target="safetensors")
    assert "ends in" in refusal(finetuned, tmp_path / "out.bin")
    assert "has a classifier" in refusal(finetuned, out, new_classifier=9)
    assert not out.exists()
    source = papers_vit(vit(num_classes=3), tmp_path / "vit.pth")
    message = refusal(source, out, source="paper", backbone="test_vit")
    assert "--to timm" in message


def test_more_than_the_backbone_is_refused(tmp_path, resnet):
    tensors = resnet.state_dict() | {"projector.weight": torch.ones(2, 2)}
    torch.save({"model": tensors}, tmp_path / "in.pth")
    assert "projector.weight" in refusal(tmp_path / "in.pth", tmp_path / "out.pth")


def test_the_settings_in_a_file_are_not_executed(tmp_path, resnet):
    content = load_pickle(upstream_finetuned(resnet, tmp_path / "in.pth"))
    assert not isinstance(content["args"], argparse.Namespace)


def test_the_command_line_says_what_it_wrote(tmp_path, resnet, monkeypatch, capsys):
    source, out = upstream_finetuned(resnet, tmp_path / "in.pth"), tmp_path / "out.pth"
    words = [source, out, "--from", "upstream", "--to", "timm", "--backbone", BACKBONE]
    monkeypatch.setattr(sys, "argv", ["mfm", "convert", *map(str, words)])
    main()
    said = capsys.readouterr().out
    assert "7 classes" in said
    assert weights.weights_checksum(str(source)) in said
    monkeypatch.setattr(sys, "argv", ["mfm", "convert", *map(str, words[:-2])])
    with pytest.raises(SystemExit):  # a ResNet-18 is no ResNet-50
        main()
    assert "mfm: error: " in capsys.readouterr().err
