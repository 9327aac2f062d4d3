"""Frozen features: floors of raw pixels and random weights, and what arms start from."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from conftest import ROOT
from PIL import Image
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from mfm.commands import frozen as command
from mfm.data import link, manifest
from mfm.errors import UserError
from mfm.evaluation import looks
from mfm.evaluation.frozen import probes, run
from mfm.experiment.resolve import experiment_hash, finetune_job, frozen_features, frozen_job
from mfm.experiment.settings import Experiment
from mfm.models.backbones import create_backbone
from mfm.models.settings import Model
from mfm.models.weights import save_weights
from mfm.reporting import frozen as rows_of_frozen
from mfm.settings.section import dumps, parse

SIDE = 32
VALUES = {
    "seeds": [0, 3, 4],
    "dataset": {"name": "own", "source": "generated", "image_size": SIDE},
    "model": {"backbone": "test_resnet"},
    "pretrain": {"mfm": {"task": "mfm", "batch": 64, "seeds": [5, 7]}},
    "arms": {
        "scratch": "scratch",
        "mfm": {"pretrain": "mfm", "seeds": [0, 3]},
        "longer": {"as_long_as": "mfm"},
        "given": {"weights": "given.safetensors"},
    },
    "finetune": {"batch": 8, "images_per_class": 6},
    "evaluate": {"resize": SIDE, "crop": SIDE, "batch": 7},
    "frozen": {"knn": 3},
}


def experiment(**changes):
    return parse(Experiment, VALUES | changes, where="test")


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Path of the manifest of the drawn images."""
    folder = tmp_path_factory.mktemp("data") / "own"
    link.link(experiment().dataset, folder)
    return folder / manifest.NAME


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Weights of two pretrainings."""
    folder = tmp_path_factory.mktemp("weights")
    found = []
    for number in range(2):
        torch.manual_seed(50 + number)
        path = folder / f"{number}.safetensors"
        save_weights(create_backbone(Model(backbone="test_resnet"), classes=0), path, {})
        found.append(str(path))
    return found


def measure(features, images, weights, tmp_path, *, ours=None, workers=0):
    """The rows, as the command leaves them."""
    job = frozen_job(ours or experiment(), features)
    (tmp_path / "config.json").write_text(dumps(job))
    words = [
        "--config",
        tmp_path / "config.json",
        "--manifest",
        images,
        "--csv",
        tmp_path / "f.csv",
    ]
    words += ["--workers", workers, "--weights", *weights, "--look", "1a2b", "results/x"]
    command.main([str(word) for word in words])
    return (tmp_path / "f.csv").read_text()


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    with threadpool_limits(limits=1):
        yield


@pytest.fixture
def seen(monkeypatch):
    """What the probes were given: (features, labels, evaluated features) by seed."""
    found = []
    monkeypatch.setattr(
        run, "logistic", lambda *given: found.append(given) or probes.logistic(*given)
    )
    return found


def labelled(seed, images):
    """The images of the finetuning of that seed, as its subset.txt lists them."""
    return finetune_job(experiment(), "scratch", seed).images(images)


def pixels(part):
    """Images [n, 3, 32, 32] in [0, 1] as an evaluation sees them, read here."""
    read = [
        np.asarray(Image.open(part.path(k)).resize((SIDE, SIDE), Image.Resampling.BILINEAR))
        for k in range(len(part))
    ]
    return np.stack(read).transpose(0, 3, 1, 2) / 255


def logistic_top1(features, labels, evaluated, truth):
    """scikit-learn's own, on features in units of their common deviation."""
    scale = np.sqrt(features.var(axis=0).mean())
    model = LogisticRegression(max_iter=5000).fit(features / scale, labels)
    return 100 * model.score(evaluated / scale, truth)


def knn_top1(features, labels, evaluated, truth, *, neighbours):
    """By all cosines, one image at a time."""
    hits = 0
    for image, label in zip(evaluated, truth, strict=True):
        cosines = features @ image / np.linalg.norm(features, axis=1) / np.linalg.norm(image)
        votes = np.zeros(labels.max() + 1)
        for near in np.argsort(-cosines)[:neighbours]:
            votes[labels[near]] += np.exp(cosines[near] / 0.07)
        hits += votes.argmax() == label
    return 100 * hits / len(truth)


def test_numbers_on_pixels_are_those_of_the_references(images, tmp_path):
    rows = pd.read_csv(tmp_path / "f.csv") if measure("pixels", images, ["-"], tmp_path) else None
    assert list(rows.columns) == ["features", "seed", "method", "top1"]
    evaluated = manifest.load(images, "val")
    expected = []
    for seed in (0, 3, 4):
        mine = labelled(seed, images)
        whole = [pixels(part).reshape(len(part), -1) for part in (mine, evaluated)]
        given = (whole[0], mine.labels, whole[1], evaluated.labels)
        expected.append(("pixels", seed, "logistic", logistic_top1(*given)))
        expected.append(("pixels", seed, "knn", knn_top1(*given, neighbours=3)))
    assert list(rows.itertuples(index=False, name=None)) == [
        (*names, pytest.approx(top1, abs=1e-4)) for *names, top1 in expected
    ]
    assert len(set(rows["top1"])) > 2, "seeds and methods differ here"
    assert looks.count(images.parent, "val") == 1


def test_random_weights_are_those_that_scratch_begins_with(images, tmp_path, seen):
    rows = measure("random", images, ["scratch"], tmp_path)
    evaluated = manifest.load(images, "val")
    for seed, (features, labels, others) in zip((0, 3, 4), seen, strict=True):
        job, mine = finetune_job(experiment(), "scratch", seed), labelled(seed, images)
        model = job.training.build(job.inputs(mine)).model.eval()
        assert np.array_equal(labels, mine.labels)
        for part, found in ((mine, features), (evaluated, others)):
            expected = reference_features(model, part)
            assert expected.std() > 0
            np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5 * expected.max())
        top1 = knn_top1(features, labels, others, evaluated.labels, neighbours=3)
        assert f"random,{seed},knn,{round(top1, 4)}\n" in rows


def reference_features(model, part):
    """The mean of the last map, which is what this network's classifier reads."""
    mean, std = (
        np.array(each).reshape(3, 1, 1) for each in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    normalised = torch.from_numpy((pixels(part) - mean) / std).float()
    with torch.inference_mode():
        return model.forward_head(model.forward_features(normalised), pre_logits=True).numpy()


def test_an_arm_has_the_features_of_the_pretraining_that_each_seed_starts_from(
    images, files, tmp_path, seen
):
    measure("mfm", images, files, tmp_path)
    for seed, path, (features, _, _) in zip((0, 3), files, seen, strict=True):
        model = create_backbone(Model(backbone="test_resnet"), classes=4)
        run.load_backbone(model, run.read_weights(path), source=path)
        expected = reference_features(model.eval(), labelled(seed, images))
        np.testing.assert_allclose(features, expected, rtol=1e-3, atol=1e-5 * expected.max())
    assert not np.allclose(seen[0][2], seen[1][2], rtol=0.1)


def test_images_are_read_once_and_each_weights_seen_once(images, files, tmp_path, monkeypatch):
    read, made = [], []
    batches, extractor = run.evaluated_batches, run._extractor
    monkeypatch.setattr(
        run, "evaluated_batches", lambda part, *a, **k: read.append(part) or batches(part, *a, **k)
    )
    monkeypatch.setattr(run, "_extractor", lambda *a: made.append(a[1]) or extractor(*a))
    measure("given", images, files[:1], tmp_path)  # three seeds
    assert made == files[:1]
    different = {str(path) for seed in (0, 3, 4) for path in labelled(seed, images).paths}
    assert [len(part) for part in read] == [len(different), 48]


def test_neither_workers_nor_batches_change_a_bit(images, tmp_path):
    one = measure("random", images, ["scratch"], tmp_path)
    assert measure("random", images, ["scratch"], tmp_path, workers=2) == one
    other = experiment(evaluate={"resize": SIDE, "crop": SIDE, "batch": 48})
    assert measure("random", images, ["scratch"], tmp_path, ours=other) == one


@pytest.mark.parametrize("factor", [1e-6, 1e6])
def test_a_networks_scale_makes_no_difference(factor):
    draws = np.random.default_rng(0)
    features, labels, evaluated = draws.random((40, 9)), np.arange(40) % 4, draws.random((99, 9))
    for probe in (probes.logistic, lambda *given: probes.nearest(*given, neighbours=5)):
        found = probe(features, labels, evaluated)
        assert len(set(found)) > 2
        assert np.array_equal(probe(factor * features, labels, factor * evaluated), found)


def test_fewer_images_than_neighbours_all_vote():
    features = np.array([[1.0, 0.0], [0.0, 1.0], [0.1, 1.0]])
    found = probes.nearest(features, np.array([0, 1, 1]), np.array([[1.0, 0.1]]), neighbours=20)
    assert found.tolist() == [0], "the near one counts more than two that are not"


def test_bad_weights_are_told(images, files, tmp_path):
    path = tmp_path / "nan.safetensors"
    model = create_backbone(Model(backbone="test_resnet"), classes=0)
    model.load_state_dict({n: t * float("nan") for n, t in model.state_dict().items()})
    save_weights(model, path, {})
    with pytest.raises(UserError, match="hold NaN"):
        measure("given", images, [path], tmp_path)
    ours = experiment(model={"backbone": "resnet18"})
    with pytest.raises(UserError, match="of another model"):
        measure("given", images, files[:1], tmp_path, ours=ours)
    with pytest.raises(SystemExit):
        measure("given", images, files, tmp_path)  # two for three seeds
    assert not (tmp_path / "f.csv").exists()


def test_features_are_of_pixels_of_random_weights_and_of_weights_that_arms_start_from():
    ours = experiment()
    assert frozen_features(ours) == ["pixels", "random", "mfm", "given"]
    assert frozen_features(experiment(frozen=None)) == []
    seeds = [frozen_job(ours, name).seeds for name in frozen_features(ours)]
    assert seeds == [[0, 3, 4], [0, 3, 4], [0, 3], [0, 3, 4]]
    assert experiment_hash(ours) == experiment_hash(experiment(frozen=None))
    with pytest.raises(UserError, match=r"arms.pixels: .*take another"):
        experiment(arms={"scratch": "scratch", "pixels": {"weights": "x.pth"}})


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        ({"finetune": {"batch": 4, "epochs": 9, "images_per_class": 6}}, True),
        ({"finetune": {"batch": 8, "images_per_class": 5}}, False),
        ({"frozen": {"knn": 4}}, False),
        ({"evaluate": {"resize": 40, "crop": SIDE}}, False),
        ({"model": {"backbone": "test_resnet", "options": {"output_stride": 16}}}, False),
        ({"arms": VALUES["arms"] | {"more": {"pretrain": "mfm"}}}, True),
        ({"baseline": "mfm", "results": "elsewhere"}, True),
    ],
)
def test_what_determines_the_accuracies_is_in_the_job(changes, same):
    jobs = [dumps(frozen_job(ours, "given")) for ours in (experiment(), experiment(**changes))]
    assert (jobs[0] == jobs[1]) == same


def test_rows_are_collected_with_names_as_they_are(tmp_path):
    for name in ("pixels", "007"):
        (tmp_path / name).write_text(f"features,seed,method,top1\n{name},0,knn,50.0\n")
    found = rows_of_frozen.collect([tmp_path / "pixels", tmp_path / "007"])
    assert found.values.tolist() == [["pixels", 0, "knn", 50.0], ["007", 0, "knn", 50.0]]


@pytest.mark.processes
def test_its_jobs_wait_for_pretrainings_alone(tmp_path):
    values = yaml.safe_load((ROOT / "configs/tiny.yaml").read_text()) | {"frozen": {}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(values))
    words = [Path(sys.executable).parent / "snakemake", "results/tiny/frozen.csv", "-n", "-p"]
    words += [
        "--cores",
        "2",
        "--snakefile",
        ROOT / "workflow/Snakefile",
        "--configfile",
        "mine.yaml",
    ]
    done = subprocess.run(
        [str(word) for word in words], cwd=tmp_path, capture_output=True, text=True, env=os.environ
    )
    assert done.returncode == 0, done.stderr
    counts = dict(re.findall(r"^(\w+) +(\d+)$", done.stdout, re.MULTILINE))
    assert counts.pop("total")
    assert counts["frozen_features"] == "4"
    assert counts["pretrain"] == "2"
    assert not {"finetune", "evaluate"} & counts.keys(), counts
    # What is to be known before anything is trained, once (tests/test_demands.py has its cases).
    assert done.stderr.count("mfm: note: pretrain.mfm: resnet10t's last map is 1x1") == 1
    # Two seeds from one pretraining, and what needs no weights.
    backbone = "results/tiny/pretrain/mfm/seed0/backbone.safetensors"
    assert f"--weights {backbone} {backbone} --csv results/tiny/frozen/mfm.csv" in done.stdout
    assert "--weights scratch --csv results/tiny/frozen/pixels.csv --look " in done.stdout
