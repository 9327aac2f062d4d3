import csv
import dataclasses
import json
import sys

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
import torchvision
from PIL import Image
from torch import nn
from torch.nn import functional as F

from mfm.__main__ import main
from mfm.data.linking import link, manifest
from mfm.data.settings import IMAGENET_MEAN, IMAGENET_STD, Dataset, Seen
from mfm.data.sources import generated
from mfm.errors import UserError
from mfm.evaluation import classifier
from mfm.evaluation.job import EvaluateJob
from mfm.evaluation.metrics import METRICS as METRICS_OF
from mfm.evaluation.metrics import read_scores
from mfm.evaluation.results import COLUMNS
from mfm.evaluation.settings import Classification
from mfm.models import weights
from mfm.models.backbones import create_backbone
from mfm.models.settings import Model
from mfm.processes.ranks import Process
from mfm.settings.section import config_hash, dumps

CLASSES = 10  # top-5 of 4 classes is always right
ALONE = Process(rank=0, world=1, device=torch.device("cpu"))
SIZES = [(40, 40), (50, 33), (33, 47), (32, 64)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """50 validation images of 10 classes and several sizes."""
    folder = tmp_path_factory.mktemp("data")
    draw = np.random.default_rng(0)
    for label in range(CLASSES):
        for split, count in (("train", 1), ("val", 5)):
            (folder / split / f"class{label}").mkdir(parents=True)
            for number in range(count):
                width, height = SIZES[number % len(SIZES)]
                coarse = draw.integers(0, 256, (4, 4, 3), dtype=np.uint8)
                image = Image.fromarray(coarse).resize((width, height))
                image.save(folder / split / f"class{label}/{number}.png")
    manifest.write(folder)
    return folder


@pytest.fixture(scope="module")
def images(folder):
    return manifest.load(folder / "manifest.parquet", "val")


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return create_backbone(Model(backbone="resnet18"), classes=CLASSES).eval()


def evaluation(*, batch=16, resize=36, crop=32, interpolation="bilinear"):
    return EvaluateJob(
        dataset=Seen(name="fashion-mnist", image_size=32),
        model=Model(),
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        evaluation=Classification(
            resize=resize, crop=crop, batch=batch, interpolation=interpolation
        ),
    )


def predict(model, images, run=None, *, process=ALONE, workers=0):
    job = run or evaluation()
    return classifier.Subject(
        model=model, images=images, job=job, process=process, workers=workers
    ).predict(all_classes=True, among_present=True)


class CountsBatches(nn.Module):
    """Remembers what it's shown; its logits say which class is the image's brightest channel."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, images):
        self.seen.append(images.clone())
        return F.pad(images.mean(dim=(2, 3)), (0, CLASSES - 3), value=-9.0)


class Constant(nn.Module):
    def __init__(self, logits):
        super().__init__()
        self.logits = torch.tensor(logits)

    def forward(self, images):
        return self.logits.expand(len(images), -1)


@pytest.fixture(scope="module")
def directly(model, images):
    """The same by torchvision, one image at a time."""
    transform = torchvision.transforms.Compose(
        [
            torchvision.transforms.Resize(36),
            torchvision.transforms.CenterCrop(32),
            torchvision.transforms.ToTensor(),
            torchvision.transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD),
        ]
    )
    logits = []
    with torch.inference_mode():
        for position in range(len(images)):
            image = Image.open(images.path(position)).convert("RGB")
            logits.append(model(transform(image)[None])[0].double())
    return torch.stack(logits), torch.from_numpy(images.labels)


def test_metrics_are_those_of_a_direct_computation(model, images, directly):
    logits, labels = directly
    found = predict(model, images)
    best = logits.topk(5).indices
    assert found.top1 == pytest.approx(100 * (best[:, 0] == labels).double().mean().item())
    assert found.top5 == pytest.approx(
        100 * (best == labels[:, None]).any(dim=1).double().mean().item()
    )
    assert found.loss == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-5)
    assert 0 < found.top1 < found.top5 < 100


def test_each_image_has_its_own_prediction(model, images, directly):
    logits, labels = directly
    found = predict(model, images)
    np.testing.assert_array_equal(found.labels, labels)
    np.testing.assert_array_equal(found.predictions, logits.argmax(dim=1))
    of_label = logits.softmax(dim=1)[torch.arange(len(labels)), labels]
    np.testing.assert_allclose(found.probabilities, of_label, rtol=1e-4)
    losses = F.cross_entropy(logits, labels, reduction="none")
    np.testing.assert_allclose(found.losses, losses, rtol=1e-4)
    order = logits.argsort(dim=1, descending=True)
    places = (order == labels[:, None]).int().argmax(dim=1)
    np.testing.assert_array_equal(found.ranks, places)


@pytest.fixture(scope="module")
def by_7(model, images):
    return predict(model, images, evaluation(batch=7))


@pytest.mark.parametrize("batch", [1, 16, 48, 50, 64])
def test_the_batch_size_has_no_influence(model, images, by_7, batch):
    found = predict(model, images, evaluation(batch=batch))
    assert len(found.labels) == len(images) == 50
    assert (found.top1, found.top5) == (by_7.top1, by_7.top5)
    assert found.loss == pytest.approx(by_7.loss, rel=1e-6)
    np.testing.assert_array_equal(found.ranks, by_7.ranks)


@pytest.mark.parametrize("batch", [7, 16, 48])
def test_every_batch_has_one_shape(images, batch):
    model = CountsBatches()
    found = predict(model, images, evaluation(batch=batch))
    assert {tuple(seen.shape) for seen in model.seen} == {(batch, 3, 32, 32)}
    assert len(model.seen) == -(-50 // batch)
    assert len(found.predictions) == 50


def test_an_evaluation_repeats_to_the_bit(model, images, by_7):
    again = predict(model, images, evaluation(batch=7))
    for name, values in vars(by_7).items():
        np.testing.assert_array_equal(getattr(again, name), values)


def test_workers_have_no_influence(model, images, by_7):
    found = predict(model, images, evaluation(batch=7), workers=2)
    np.testing.assert_array_equal(found.losses, by_7.losses)
    np.testing.assert_array_equal(found.labels, by_7.labels)


class Gathered(Exception):  # noqa: N818
    pass


@pytest.mark.parametrize("world", [2, 3, 60])
def test_ranks_have_no_influence(images, monkeypatch, world):
    """Each rank's part in turn, then rank 0 with all of them."""
    parts = []

    def record(value, process):
        parts.append(value)
        raise Gathered

    def process(rank):
        return Process(rank=rank, world=world, device=torch.device("cpu"))

    monkeypatch.setattr(classifier, "gather_objects", record)
    for rank in range(world):
        with pytest.raises(Gathered):
            predict(CountsBatches(), images, process=process(rank))
    monkeypatch.setattr(classifier, "gather_objects", lambda value, process: parts)
    found = predict(CountsBatches(), images, process=process(0))
    monkeypatch.undo()
    alone = predict(CountsBatches(), images)
    positions = np.concatenate([positions for positions, _ in parts])
    assert sorted(positions) == list(range(50))
    for name, values in vars(alone).items():
        np.testing.assert_allclose(getattr(found, name), values, rtol=1e-6)


def test_a_subset_gives_the_same_images_the_same(model, images, by_7):
    positions = np.array([49, 3, 20])
    found = predict(model, images.take(positions), evaluation(batch=7))
    np.testing.assert_array_equal(found.labels, by_7.labels[positions])
    np.testing.assert_allclose(found.losses, by_7.losses[positions], rtol=1e-6)


def test_weights_and_running_statistics_are_left_alone(images):
    model = create_backbone(Model(backbone="resnet18"), classes=CLASSES).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    predict(model, images)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_a_labels_rank_counts_the_classes_above_it(images):
    # class k gets the k-th best logit
    found = predict(Constant([-float(k) for k in range(CLASSES)]), images)
    np.testing.assert_array_equal(found.ranks, images.labels)
    assert (found.top1, found.top5) == (10.0, 50.0)


def test_equal_logits_are_no_hits(images):
    # A dead network scores every class alike: 10% by its predictions, not 100%.
    found = predict(Constant([0.0] * CLASSES), images)
    assert found.top1 == 100 * (found.predictions == found.labels).mean()
    assert found.top1 == pytest.approx(10.0)
    assert found.top5 <= 50.0


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_logits_that_are_no_numbers_are_told_and_never_right(images, value):
    with pytest.raises(UserError, match=r"(?i)nan|finite"):
        predict(Constant([value] * CLASSES), images)


def test_an_unreadable_image_is_named(tmp_path, model):
    link.link(Dataset(name="tiny", source="generated"), tmp_path)
    images = manifest.load(tmp_path / "manifest.parquet", "val")
    images.path(5).write_bytes(b"torn since the scan")
    with pytest.raises(UserError, match=images.path(5).name):
        predict(model, images)


def test_predictions_are_saved_one_row_per_image(model, images, by_7, tmp_path):
    path = tmp_path / "deep/predictions.parquet"
    classifier.save_predictions(by_7, images, path, {"code_version": "1.0"})
    saved = pq.read_table(path)
    assert json.loads(saved.schema.metadata[b"mfm"]) == {"code_version": "1.0"}
    columns = ["path", "label", "prediction", "probability", "correct", "rank", "probabilities"]
    assert saved.column_names == columns
    assert saved["rank"].to_pylist() == by_7.ranks.tolist()
    assert json.loads(saved.schema.metadata[b"classes"]) == list(images.classes)
    assert saved["path"].to_pylist() == [
        str(images.path(k).relative_to(images.root)) for k in range(50)
    ]
    assert saved["label"].to_pylist() == [f"class{label}" for label in images.labels]
    assert saved["prediction"].to_pylist() == [f"class{label}" for label in by_7.predictions]
    np.testing.assert_array_equal(saved["probability"].to_numpy(), by_7.probabilities)
    correct = saved["correct"].to_pylist()
    assert correct == [
        ours == theirs
        for ours, theirs in zip(
            saved["label"].to_pylist(), saved["prediction"].to_pylist(), strict=True
        )
    ]
    assert 100 * np.mean(correct) == pytest.approx(by_7.top1)
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(("few", "kind"), [(CLASSES, np.float32), (CLASSES - 1, np.float16)])
def test_all_classes_probabilities_are_kept_and_read_again(
    model, images, directly, tmp_path, monkeypatch, few, kind
):
    monkeypatch.setattr(classifier, "FEW_CLASSES", few)
    found = predict(model, images)
    classifier.save_predictions(found, images, tmp_path / "all.parquet", {})
    read = read_scores(tmp_path / "all.parquet")
    logits, labels = directly
    assert read.probabilities.dtype == kind
    rounding = np.finfo(kind).eps
    np.testing.assert_allclose(read.probabilities, logits.softmax(dim=1), rtol=1e-4, atol=rounding)
    np.testing.assert_array_equal(read.labels, labels)
    np.testing.assert_array_equal(read.predictions, logits.argmax(dim=1))
    np.testing.assert_array_equal(read.ranks, found.ranks)
    # Not rounded: log loss is that of the row, and top-k too.
    np.testing.assert_array_equal(read.of_label, found.probabilities)
    assert METRICS_OF["log_loss"].value(read) == pytest.approx(found.loss, rel=1e-12)
    assert METRICS_OF["top_k"].value(read) == pytest.approx(found.top5, rel=1e-12)
    assert METRICS_OF["top1"].value(read) == pytest.approx(found.top1, rel=1e-12)


def test_predictions_of_an_earlier_version_are_told_with_the_command(by_7, images, tmp_path):
    path = tmp_path / "old.parquet"
    earlier = dataclasses.replace(by_7, all_probabilities=None)
    classifier.save_predictions(earlier, images, path, {})
    with pytest.raises(UserError, match=r"old\.parquet has no prob.* --forcerun evaluate_config"):
        read_scores(path)


METRICS = "epoch,images_per_second,seconds\n0,100.0,2.5\n1,300.0,1.5\n2,200.0,1.0\n"
METADATA = {
    "arm": "mfm",
    "seed": "2",
    "train_images": "1000",
    "code_version": "1.0+aaaaaaaaaa",
    "config_hash": "000000000012",
    "initial_seed": "7",
}


def test_a_result_row_says_where_it_comes_from(by_7, tmp_path):
    (tmp_path / "metrics.csv").write_text(METRICS)
    finetuned = tmp_path / "model.safetensors"
    row = classifier.result_row(by_7, finetuned=finetuned, weights=METADATA, pretraining="masked")
    assert tuple(row) == COLUMNS
    assert row == {
        "arm": "mfm",
        "pretraining": "masked",
        "pretraining_seed": "7",
        "seed": 2,
        "top1": round(by_7.top1, 4),
        "top5": round(by_7.top5, 4),
        "loss": round(by_7.loss, 6),
        "images": 50,
        "epochs": 3,
        "train_images": 1000,
        "images_per_second": 200.0,
        "seconds": 5.0,
        "code_version": "1.0+aaaaaaaaaa",
        "config_hash": "000000000012",
        "checkpoint": str(finetuned),
    }
    given = classifier.result_row(by_7, finetuned=finetuned, weights=METADATA, pretraining="-")
    assert given["pretraining_seed"] == "-", "a file's own is no pretraining of this workflow"


@pytest.fixture
def arguments(folder, model, tmp_path, monkeypatch):
    """A command line of the stage, run within this process."""
    monkeypatch.setattr("mfm.commands.evaluate.begin", lambda: None)
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    run = tmp_path / "finetune"
    weights.save_weights(model, run / "model.safetensors", METADATA)
    (run / "metrics.csv").write_text(METRICS)
    (tmp_path / "config.json").write_text(dumps(evaluation()))
    options = {
        "--config": tmp_path / "config.json",
        "--manifest": folder / "manifest.parquet",
        "--weights": run / "model.safetensors",
        "--pretraining": "masked",
        "--csv": tmp_path / "out/row.csv",
        "--predictions": tmp_path / "out/row.parquet",
        "--workers": "0",
    }
    monkeypatch.setattr(
        "sys.argv", ["mfm", "evaluate", *(str(word) for pair in options.items() for word in pair)]
    )
    return options


def test_the_command_line_leaves_a_row_and_predictions(arguments, images, by_7, capsys):
    main()
    with open(arguments["--csv"]) as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 1
    assert tuple(rows[0]) == COLUMNS
    assert float(rows[0]["top1"]) == pytest.approx(by_7.top1)
    assert rows[0]["config_hash"] == "000000000012"
    assert rows[0]["pretraining"] == "masked"
    saved = pd.read_parquet(arguments["--predictions"])
    assert 100 * saved["correct"].mean() == pytest.approx(by_7.top1)
    described = json.loads(pq.read_schema(arguments["--predictions"]).metadata[b"mfm"])
    assert described["stage"] == "evaluate"
    assert described["config_hash"] == config_hash(evaluation())
    assert {"code_version", "loader", "pillow", "torch", "precision", "hardware"} <= set(described)
    assert f"top-1 {by_7.top1:.2f} on 50 images of split 'val'" in capsys.readouterr().out


def test_by_hand_the_weights_say_which_pretraining_they_are_of(arguments, model, monkeypatch):
    given = sys.argv.index("--pretraining")
    monkeypatch.setattr("sys.argv", [*sys.argv[:given], *sys.argv[given + 2 :]])
    for said, pretraining, seed in (({"pretraining": "p"}, "p", "7"), ({}, "-", "-")):
        weights.save_weights(model, arguments["--weights"], METADATA | said)
        main()
        with open(arguments["--csv"]) as file:
            (row,) = csv.DictReader(file)
        assert (row["pretraining"], row["pretraining_seed"]) == (pretraining, seed)


def test_the_command_line_ends_on_weights_of_another_model(arguments, capsys):
    weights.save_weights(nn.Linear(2, 2), arguments["--weights"], METADATA)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith(f"mfm: error: weights {arguments['--weights']} ")
    assert not arguments["--csv"].exists()


def test_the_command_line_ends_on_weights_of_an_earlier_version(arguments, model, capsys):
    earlier = {key: value for key, value in METADATA.items() if key != "arm"} | {"init": "mfm"}
    weights.save_weights(model, arguments["--weights"], earlier)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "no finetuned model of this version: finetune it again" in capsys.readouterr().err


def test_the_generated_datasets_validation_images_are_all_counted(tmp_path, model):
    link.link(Dataset(name="tiny", source="generated"), tmp_path)
    images = manifest.load(tmp_path / "manifest.parquet", "val")
    found = predict(model, images)
    assert np.bincount(found.labels).tolist() == [12] * len(generated.CLASSES)


def test_a_converted_file_is_evaluated_without_a_training(arguments, model, by_7):
    # What `mfm convert --to safetensors` writes: of another code, without metrics.
    metadata = {"stage": "convert", "arm": "saved_model_bce_15", "seed": "0", "train_images": "0"}
    metadata |= {"code_version": "1.0+a", "config_hash": "-"}
    weights.save_weights(model, arguments["--weights"], metadata)
    (arguments["--weights"].parent / "metrics.csv").unlink()
    main()
    [row] = list(csv.DictReader(open(arguments["--csv"])))  # noqa: SIM115
    assert float(row["top1"]) == pytest.approx(by_7.top1)
    assert (row["arm"], row["epochs"], row["seconds"]) == ("saved_model_bce_15", "0", "0")
