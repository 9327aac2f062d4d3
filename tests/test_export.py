import csv
import json
import shutil

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
import torchvision
from scipy import stats
from torch import nn

from mfm.commands import export as command
from mfm.data.settings import IMAGENET_MEAN, Seen
from mfm.errors import UserError
from mfm.experiment.arms import FromWeights
from mfm.experiment.jobs import FinetuneJob, PretrainJob
from mfm.files import records
from mfm.models import weights
from mfm.models.backbones import create_backbone
from mfm.models.metadata import read_metadata
from mfm.models.settings import Model
from mfm.objectives.mfm.settings import MfmPretraining
from mfm.objectives.supervised.settings import Finetuning
from mfm.reporting import export
from mfm.settings.section import dumps
from mfm.training.provenance import provenance

MODEL = Model(backbone="resnet18")
DATASET = Seen(name="birds", image_size=64)
TOP1 = {0: 81.2, 1: 80.9, 2: 82.0}
IMAGES = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def pretraining(**more):
    training = MfmPretraining(task="mfm", recipe="paper", epochs=300, **more)
    return PretrainJob(
        name="masked", dataset=DATASET, model=MODEL, training=training, split="train"
    )


def finetuning(model=MODEL, seed=1):
    return FinetuneJob(
        arm="mfm",
        source=FromWeights(pretrain="masked"),
        seed=seed,
        dataset=DATASET,
        model=model,
        training=Finetuning(epochs=100, batch=64),
        curve="val",
    )


def save(run, model, path, **metadata):
    """What the stage leaves: the weights and its own configuration."""
    said = provenance(run, precision_asked="fp32", device=torch.device("cpu"))
    weights.save_weights(model, path, said | metadata)
    (path.parent / "config.json").write_text(dumps(run))
    records.write(read=[path.parent / "config.json"], left=[path])
    return path


@pytest.fixture
def backbone(tmp_path):
    run = pretraining()
    model = run.training.build(run.inputs_of(classes=5, rows=None)).backbone
    path = tmp_path / "results/pretrain/masked/seed0/backbone.safetensors"
    return save(run, model, path, epochs="300", seed="0")


def finetuned(tmp_path, run=None, classes=5, **facts):
    run = run or finetuning()
    model = run.training.build(run.inputs_of(classes=classes, rows=None)).model
    path = tmp_path / f"results/finetune/mfm/seed{run.seed}/model.safetensors"
    more = {"arm": run.arm, "classes": str(classes), "train_images": "1200"}
    start = "initialised from backbone.safetensors: 120 tensors matched"
    more |= {"epochs": str(run.training.epochs)} | facts
    save(run, model, path, seed=str(run.seed), initialised=start, **more)
    return path, model


def write_results(tmp_path, *, config_hash):
    with open(tmp_path / "results/results.csv", "w", newline="") as file:
        columns = ["arm", "pretraining", "pretraining_seed", "seed", "top1", "config_hash"]
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        for seed, top1 in TOP1.items():
            known = config_hash if seed == 1 else "0" * 12
            row = {"arm": "mfm", "pretraining": "masked", "pretraining_seed": 0}
            row |= {"seed": seed, "top1": top1, "config_hash": known}
            other = {"arm": "scratch", "pretraining": "-", "pretraining_seed": "-"}
            writer.writerows([row, row | other | {"config_hash": "0" * 12}])
        # from another pretraining of that name, which the backbone's card doesn't count
        writer.writerow(row | {"arm": "other", "pretraining_seed": 7, "top1": 1})
    records.write(read=[], left=[tmp_path / "results/results.csv"])


def logits(model, images=IMAGES):
    with torch.inference_mode():
        return model.eval()(images)


@pytest.mark.parametrize("target", ["torchvision", "timm"])
def test_a_classifier_loads_strictly_and_gives_its_logits_to_the_bit(tmp_path, target):
    path, model = finetuned(tmp_path)
    export.export(path, tmp_path / "out", target=target)
    other = (
        torchvision.models.resnet18(num_classes=5)
        if target == "torchvision"
        else timm.create_model("resnet18", num_classes=5)
    )
    tensors = safetensors.torch.load_file(tmp_path / "out/model.safetensors")
    other.load_state_dict(tensors, strict=True)
    assert torch.equal(logits(other), logits(model))


@pytest.mark.parametrize("target", ["torchvision", "timm"])
def test_a_backbone_loads_strictly(tmp_path, backbone, target):
    export.export(backbone, tmp_path / "out", target=target)
    tensors = safetensors.torch.load_file(tmp_path / "out/model.safetensors")
    saved = safetensors.torch.load_file(backbone)
    assert tensors.keys() == saved.keys()
    assert all(torch.equal(tensors[name], saved[name]) for name in saved)
    plain = timm.create_model("resnet18", num_classes=0)
    if target == "torchvision":
        plain = torchvision.models.resnet18()
        plain.fc = nn.Identity()
    plain.load_state_dict(tensors, strict=True)


def test_a_vit_with_mean_pooling_loads_strictly_in_timm(tmp_path):
    run = finetuning(Model(backbone="test_vit", pooling="mean"))
    path, model = finetuned(tmp_path, run)
    export.export(path, tmp_path / "out", target="timm")
    other = timm.create_model("test_vit", num_classes=5, global_pool="avg", img_size=64)
    tensors = safetensors.torch.load_file(tmp_path / "out/model.safetensors")
    other.load_state_dict(tensors, strict=True)
    assert torch.equal(logits(other), logits(model))
    card = (tmp_path / "out/README.md").read_text()
    assert "num_classes=5, global_pool='avg', img_size=64" in card
    with pytest.raises(UserError, match="--to timm"):
        export.export(path, tmp_path / "other", target="torchvision")


@pytest.mark.parametrize("target", ["torchvision", "timm"])
def test_the_cards_code_loads_the_file(tmp_path, backbone, target, monkeypatch):
    for path in (backbone, finetuned(tmp_path)[0]):
        export.export(path, tmp_path / "out", target=target)
        monkeypatch.chdir(tmp_path / "out")
        card = (tmp_path / "out/README.md").read_text()
        code = card.split("```python\n")[1].split("```")[0]
        exec(code, {})  # strict, so it would raise


def cells(path):
    lines = [line for line in path.read_text().splitlines() if line.startswith("| ")]
    return dict(line.strip("| ").split(" | ") for line in lines[2:])


def test_the_card_of_a_classifier_says_what_it_is_and_how_good(tmp_path):
    path, _ = finetuned(tmp_path)
    metadata = read_metadata(path)
    write_results(tmp_path, config_hash=metadata["config_hash"])
    export.export(path, tmp_path / "out", target="timm")
    found = cells(tmp_path / "out/README.md")
    interval = stats.ttest_1samp(list(TOP1.values()), 0).confidence_interval(0.95)
    mean = np.mean(list(TOP1.values()))
    assert found["top-1"] == (
        f"{mean:.2f} %, mean of 3 seeds from 1 pretraining, 95% interval {interval.low:.2f} to "
        f"{interval.high:.2f}; this file 80.90 %"
    )
    assert found["network"] == "resnet18, 5 classes"
    assert found["epochs"] == "100, batch 64"
    assert found["seed of this file"] == "1"
    assert "birds" in found["data"]
    assert "1,200 labelled images" in found["data"]
    assert metadata["code_version"] in found["code version"]
    assert "120 tensors matched" in found["initial weights"]
    checksum = weights.weights_checksum(str(tmp_path / "out/model.safetensors"))
    assert checksum in found["weights"]
    assert "[0.485, 0.456, 0.406]" in (tmp_path / "out/README.md").read_text()


def test_the_card_of_a_backbone_says_the_recipe_and_what_came_of_it(tmp_path, backbone):
    write_results(tmp_path, config_hash="1" * 12)
    export.export(backbone, tmp_path / "out", target="torchvision", new_classifier=1000)
    found = cells(tmp_path / "out/README.md")
    assert "recipe 'paper'" in found["recipe"]
    assert "radius 4.57" in found["recipe"]  # 16 * 64 / 224
    assert "low-pass share 0.3" in found["recipe"]
    assert "mean of 3 seeds" in found["top-1"]
    assert "arm 'mfm'" in found["top-1"]
    assert "arm 'other'" not in found["top-1"]
    assert "zeros for 1000 classes" in found["network"]
    tensors = safetensors.torch.load_file(tmp_path / "out/model.safetensors")
    torchvision.models.resnet18().load_state_dict(tensors, strict=True)


def test_a_pretrainings_own_head_is_not_called_classes(tmp_path):
    path = tmp_path / "results/pretrain/turned/seed0/backbone.safetensors"
    save(pretraining(), create_backbone(MODEL, classes=4), path, epochs="300", seed="0")
    export.export(path, tmp_path / "out", target="timm")
    network = cells(tmp_path / "out/README.md")["network"]
    assert network.endswith("with this pretraining's own head: its 4 outputs are no classes")


def test_accuracies_of_other_runs_are_not_taken_for_this_ones(tmp_path):
    # the same arm with another amount of labels, whose rows are elsewhere
    path, _ = finetuned(tmp_path)
    write_results(tmp_path, config_hash="1" * 12)
    export.export(path, tmp_path / "out", target="timm")
    assert cells(tmp_path / "out/README.md")["top-1"].startswith("not known")


def test_weights_of_a_variant_have_the_accuracies_of_that_variant(tmp_path, backbone):
    write_results(tmp_path, config_hash="1" * 12)
    folder = tmp_path / "results/variants/size/0.1"
    path = folder / "pretrain/masked/seed0/backbone.safetensors"
    shutil.copytree(backbone.parent, path.parent)
    export.export(path, tmp_path / "out", target="timm")
    assert cells(tmp_path / "out/README.md")["top-1"].startswith("not known")
    rows = [f"{value},mfm,masked,0,0,{top1},{'0' * 12}" for value, top1 in (("0.1", 70), ("1", 60))]
    text = "\n".join(["value,arm,pretraining,pretraining_seed,seed,top1,config_hash", *rows])
    (tmp_path / "results/variants/size.csv").write_text(f"{text}\n")
    records.write(read=[], left=[tmp_path / "results/variants/size.csv"])
    export.export(path, tmp_path / "out", target="timm")
    found = cells(tmp_path / "out/README.md")["top-1"]
    assert found == "70.00 %, 1 seed from 1 pretraining, after finetuning as arm 'mfm'"


def test_a_run_that_made_up_for_a_pretraining_has_its_length_from_its_weights(tmp_path):
    values = finetuning().model_dump() | {
        "makes_up_for": {"name": "p", "split": "train", "batch": 1, "epochs": 1, "size": 8}
    }
    written = FinetuneJob.model_validate(values)
    longer = written.model_copy(
        update={"training": written.training.model_copy(update={"epochs": 123})}
    )
    path, _ = finetuned(tmp_path, longer)
    (path.parent / "config.json").write_text(dumps(written))
    records.write(read=[path.parent / "config.json"], left=[path])
    export.export(path, tmp_path / "out", target="timm")
    assert cells(tmp_path / "out/README.md")["epochs"] == "123, batch 64"


def test_what_is_no_run_of_this_package_is_refused(tmp_path, backbone):
    other = tmp_path / "other.safetensors"
    safetensors.torch.save_file({"a": torch.ones(1)}, other)
    for path in (other, tmp_path / "missing.safetensors"):
        with pytest.raises(UserError, match="mfm convert"):
            export.export(path, tmp_path / "out", target="timm")
    values = json.loads((backbone.parent / "config.json").read_text())
    values["training"]["epochs"] = 299
    (backbone.parent / "config.json").write_text(json.dumps(values))
    with pytest.raises(UserError, match="has changed since"):
        export.export(backbone, tmp_path / "out", target="timm")
    assert not (tmp_path / "out").exists()


SMALL = {"layers": [1, 1, 1, 1], "channels": [8, 16, 32, 64], "output_stride": 16}


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (
            {"stem_stride": 1, "options": SMALL},
            "3x3 stem of stride 1 without pooling, channels [8, ",
        ),
        ({"stem_stride": 2}, "stem of stride 2 without pooling"),
        ({"options": SMALL}, "channels [8, 16, 32, 64], layers [1, 1, 1, 1], output_stride 16"),
    ],
)
def test_a_network_that_is_not_the_standard_one_says_so_and_is_rebuilt(
    tmp_path, monkeypatch, capsys, model, said
):
    run = finetuning(Model(backbone="resnet18", **model))
    path, ours = finetuned(tmp_path, run)
    # Some have torchvision's names and shapes, and it would take them without a word.
    with pytest.raises(UserError, match=r"torchvision's resnet18 is another network.*--to timm"):
        export.export(path, tmp_path / "other", target="torchvision")
    command.main([str(path), str(tmp_path / "out")])
    (note,) = capsys.readouterr().err.splitlines()
    assert note.startswith("mfm: note: these weights are of resnet18 (not the standard one: ")
    card = (tmp_path / "out/README.md").read_text()
    assert note.removeprefix("mfm: note: ") in card
    assert f"| network | resnet18 (not the standard one: {said}" in card
    monkeypatch.chdir(tmp_path / "out")
    names = {}
    code = card.split("```python\n")[1].split("```")[0]
    exec(code, names)
    assert torch.equal(logits(names["model"]), logits(ours))
    # timm's model, the line of its stem if need be, and the weights
    made = [line for line in code.splitlines() if line.startswith("model")]
    assert len(made) == 2 + ("stem_stride" in model)


def test_a_network_of_other_channels_is_rebuilt_with_numbers_for_each(tmp_path, monkeypatch):
    run = finetuning(Model(backbone="resnet18", stem_stride=1, options=SMALL | {"in_chans": 4}))
    path, ours = finetuned(tmp_path, run, images_read="values from 0 to 4095 became 0 to 1")
    export.export(path, tmp_path / "out", target="timm")
    card = (tmp_path / "out/README.md").read_text()
    assert f"with mean {[sum(IMAGENET_MEAN) / 3] * 4}" in card
    assert "| images as they were read | values from 0 to 4095 became 0 to 1 |" in card
    monkeypatch.chdir(tmp_path / "out")
    names = {}
    exec(card.split("```python\n")[1].split("```")[0], names)
    images = torch.rand(2, 4, 64, 64)
    assert torch.equal(logits(names["model"], images), logits(ours, images))


def test_the_command_line(tmp_path, backbone, capsys):
    words = [backbone, tmp_path / "out", "--to", "timm"]
    command.main([str(word) for word in words])
    assert "README.md" in capsys.readouterr().out
    assert (tmp_path / "out/model.safetensors").exists()
