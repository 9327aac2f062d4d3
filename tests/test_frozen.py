"""Frozen features: their files, what is read from them, and the page of it."""

import re

import calls
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from conftest import ROOT
from finished import planted
from PIL import Image
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from sklearn.model_selection import StratifiedKFold
from sklearn.neighbors import KNeighborsClassifier
from threadpoolctl import threadpool_limits

from mfm.commands import features as extraction
from mfm.commands import frozen as command
from mfm.data.linking import link, manifest
from mfm.data.linking.selection import labelled_positions
from mfm.errors import UserError
from mfm.evaluation import looks
from mfm.evaluation.frozen import extract, features_file, probes
from mfm.experiment.demands import demands_of
from mfm.experiment.resolve import (
    experiment_hash,
    feature_starts,
    features_job,
    finetune_job,
    frozen_features,
    probe_job,
)
from mfm.experiment.settings import Experiment
from mfm.experiment.variants import Runs
from mfm.files.style import save
from mfm.models.backbones import create_backbone
from mfm.models.settings import Model
from mfm.models.weights import save_weights
from mfm.reporting import frozen as rows_of_frozen
from mfm.reporting import probe
from mfm.reporting.figures.probe import draw_probe
from mfm.reporting.render_markdown import to_markdown
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
    "frozen": {"images_per_class": [3], "knn": [3, 7]},
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


def features(kind, images, weights, tmp_path, *, ours=None, workers=0):
    """The features file of one set of weights, as the command leaves it."""
    ours = ours or experiment()
    start = next(iter(feature_starts(ours, kind).values()))
    return extracted(features_job(ours, kind, start), images, weights, tmp_path, workers=workers)


def extracted(job, images, weights, tmp_path, *, workers=0, name="features.parquet"):
    (tmp_path / "features.json").write_text(dumps(job))
    words = ["--config", tmp_path / "features.json", "--manifest", images, "--weights", weights]
    words += ["--features", tmp_path / name, "--workers", workers]
    extraction.main([str(word) for word in words])
    return tmp_path / name


def read(kind, images, files, tmp_path, *, ours=None):
    """The rows, as the command leaves them."""
    (tmp_path / "frozen.json").write_text(dumps(probe_job(ours or experiment(), kind)))
    words = ["--config", tmp_path / "frozen.json", "--manifest", images, "--features", *files]
    words += ["--csv", tmp_path / "f.csv", "--look", "1a2b", "results/x"]
    command.main([str(word) for word in words])
    return rows_of_frozen.read(tmp_path / "f.csv")


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    with threadpool_limits(limits=1):
        yield


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


def plain(path, split):
    """A split's positions, labels and features as anybody reads the file."""
    table = pq.read_table(path).to_pandas()
    part = table[table["split"] == split]
    matrix = np.stack(part["features"]).astype(np.float64)
    return part["position"].to_numpy(), part["label"].to_numpy(), matrix


def scikit_learn(path, positions, seed, *, neighbours):
    """What scikit-learn reads from the exported features: top-1 by method, and the chosen C."""
    places, labels, matrix = plain(path, "train")
    here = np.isin(places, positions)
    labels, mine = labels[here], matrix[here]
    _, truth, evaluated = plain(path, "val")
    mean, scale = mine.mean(axis=0), (mine - mine.mean(axis=0)).std()
    folds = StratifiedKFold(min(5, np.bincount(labels).min()), shuffle=True, random_state=seed)
    model = LogisticRegressionCV(
        Cs=[1e-4, 1e-3, 1e-2, 0.1, 1, 10, 100],
        cv=folds,
        scoring="neg_log_loss",
        max_iter=1000,
        l1_ratios=(0,),
        use_legacy_attributes=False,
    ).fit((mine - mean) / scale, labels)
    found = {"logistic": 100 * np.mean(model.predict((evaluated - mean) / scale) == truth)}
    for count in neighbours:
        near = KNeighborsClassifier(
            min(count, len(mine)),
            metric="cosine",
            algorithm="brute",
            weights=lambda distances: np.exp(-distances / 0.07),
        )
        found[f"knn{count}"] = 100 * near.fit(mine, labels).score(evaluated, truth)
    return found, model.C_


@pytest.mark.parametrize("kind", ["pixels", "random"])
def test_numbers_are_scikit_learns_on_the_exported_features(kind, images, tmp_path, monkeypatch):
    monkeypatch.setattr(probes, "AT_ONCE", 20)
    monkeypatch.setattr(features_file, "ROWS", 25)
    ours = experiment(seeds=[0], arms={"scratch": "scratch"})
    path = features(kind, images, "scratch", tmp_path, ours=ours)
    rows = read(kind, images, [path], tmp_path, ours=ours)
    assert list(rows.columns) == ["features", "seed", "amount", "images", "method", "C", "top1"]
    labelled = manifest.load(images, "train")
    for amount in (3, 6):
        part = rows[rows["amount"] == str(amount)].set_index("method")
        positions = labelled_positions(labelled.labels, labelled.classes, amount, seed=0)
        expected, chosen = scikit_learn(path, positions, 0, neighbours=[3, 7])
        assert part["top1"].to_dict() == {
            name: pytest.approx(top1, abs=1e-4) for name, top1 in expected.items()
        }
        assert part.loc["logistic", "C"] == chosen
        assert (part["images"] == len(positions)).all()
    assert len(set(rows["top1"])) > 2, "amounts and methods differ here"
    assert looks.count(images.parent, "val") == 1


def test_pixels_are_as_decoded_and_larger_images_are_shrunk(images, tmp_path):
    path = features("pixels", images, "scratch", tmp_path)
    for split in ("train", "val"):
        part = manifest.load(images, split)
        positions, labels, matrix = plain(path, split)
        assert positions.tolist() == list(range(len(part)))
        assert np.array_equal(labels, part.labels)
        assert np.array_equal(matrix, 255 * pixels(part).reshape(len(part), -1))
    table = pq.read_table(path)
    assert table["path"][0].as_py() == str(part.paths[0]).replace("val", "train")
    assert table["class"][0].as_py() == part.classes[0]
    large = torch.randint(256, (2, 3, 64, 64), dtype=torch.uint8)
    assert extract._pixels(large).shape == (2, 3 * 32 * 32)


def test_random_weights_are_those_that_scratch_begins_with(images, tmp_path):
    for seed in (0, 3):
        job = features_job(experiment(), "random", f"seed{seed}")
        path = extracted(job, images, "scratch", tmp_path)
        finetuning, mine = finetune_job(experiment(), "scratch", seed), labelled(seed, images)
        model = finetuning.training.build(finetuning.inputs(mine)).model.eval()
        for split in ("train", "val"):
            expected = reference_features(model, manifest.load(images, split))
            found = plain(path, split)[2]
            assert expected.std() > 0
            np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5 * expected.max())


def reference_features(model, part):
    """The mean of the last map, which is what this network's classifier reads."""
    mean, std = (
        np.array(each).reshape(3, 1, 1) for each in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    normalised = torch.from_numpy((pixels(part) - mean) / std).float()
    with torch.inference_mode():
        return model.forward_head(model.forward_features(normalised), pre_logits=True).numpy()


def test_an_arm_has_a_file_for_each_pretraining_that_its_seeds_start_from(images, files, tmp_path):
    starts = feature_starts(experiment(), "mfm")
    assert starts == {0: "seed5", 3: "seed7"}
    made = []
    for start, weights in zip(starts.values(), files, strict=True):
        job = features_job(experiment(), "mfm", start)
        made.append(extracted(job, images, weights, tmp_path, name=f"{start}.parquet"))
        model = create_backbone(Model(backbone="test_resnet"), classes=4)
        extract.load_backbone(model, extract.read_weights(weights), source=weights)
        expected = reference_features(model.eval(), manifest.load(images, "val"))
        found = plain(made[-1], "val")[2]
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5 * expected.max())
    rows = read("mfm", images, made, tmp_path)
    for seed, path in zip(starts, made, strict=True):
        mine = labelled(seed, images)  # of its finetuning, which has 6 a class
        where = np.isin(manifest.load(images, "train").rows, mine.rows)
        expected, _ = scikit_learn(path, np.flatnonzero(where), seed, neighbours=[3])
        part = rows[(rows["seed"] == seed) & (rows["amount"] == "6")].set_index("method")
        assert part["top1"]["knn3"] == pytest.approx(expected["knn3"], abs=1e-4)
        assert part["top1"]["logistic"] == pytest.approx(expected["logistic"], abs=1e-4)
    with pytest.raises(SystemExit):
        read("given", images, made, tmp_path)  # two for three seeds


def test_no_more_is_extracted_than_asked_and_less_needs_no_extraction(images, tmp_path):
    some = experiment(
        finetune={"batch": 8, "images_per_class": 5},
        frozen={"images_per_class": [2, 4], "extract_per_class": 5, "knn": [3]},
    )
    path = features("pixels", images, "scratch", tmp_path, ours=some)
    train = manifest.load(images, "train")
    wanted = {
        position
        for seed in (0, 3, 4)
        for position in labelled_positions(train.labels, train.classes, 5, seed=seed)
    }
    assert set(plain(path, "train")[0]) == wanted
    assert len(wanted) < len(train)
    fewer = read("pixels", images, [path], tmp_path, ours=some)
    everything = features("pixels", images, "scratch", tmp_path)
    assert read("pixels", images, [everything], tmp_path, ours=some).equals(fewer)
    features("pixels", images, "scratch", tmp_path, ours=some)
    with pytest.raises(UserError, match=r"24 images of split 'train': raise frozen\.extr"):
        read("pixels", images, [path], tmp_path)  # 6 a class


def test_workers_change_no_bit_and_batches_next_to_nothing(images, tmp_path):
    one = pq.read_table(features("random", images, "scratch", tmp_path))
    path = features("random", images, "scratch", tmp_path, workers=2)
    assert pq.read_table(path).equals(one)
    other = experiment(evaluate={"resize": SIDE, "crop": SIDE, "batch": 48})
    found = plain(features("random", images, "scratch", tmp_path, ours=other), "val")[2]
    np.testing.assert_allclose(found, plain(path, "val")[2], rtol=1e-4, atol=1e-6)


def test_many_images_are_read_without_logistic_regression_where_it_is_told_so(images, tmp_path):
    ours = experiment(frozen={"images_per_class": [3, None], "knn": [2], "logistic_up_to": 50})
    path = features("pixels", images, "scratch", tmp_path, ours=ours)
    rows = read("pixels", images, [path], tmp_path, ours=ours)
    assert {amount: list(part["method"].unique()) for amount, part in rows.groupby("amount")} == {
        "3": ["logistic", "knn2"],
        "6": ["logistic", "knn2"],
        "all": ["knn2"],
    }
    page = to_markdown(probe.document(rows_of_frozen.Readings(experiment=ours, rows=rows)))
    assert "It is fitted to at most 50 labelled images (frozen.logistic_up_to)" in page


def block(features, labels):
    labels = np.array(labels)
    positions = np.arange(len(labels))
    return features_file.Block(positions=positions, labels=labels, features=np.array(features))


@pytest.mark.parametrize("factor", [1e-6, 1e6])
def test_a_networks_scale_makes_no_difference(factor):
    draws = np.random.default_rng(0)
    features, labels, evaluated = draws.random((40, 9)), np.arange(40) % 4, draws.random((99, 9))

    def logistic(mine, others):
        return probes.logistic(mine, labels, others, seed=0).predictions

    def nearest(mine, others):
        return probes.nearest([block(mine, labels)], others, neighbours=[5])[5]

    for method in (logistic, nearest):
        found = method(features, evaluated)
        assert len(set(found)) > 2
        assert np.array_equal(method(factor * features, factor * evaluated), found)


def test_neighbours_are_exact_in_any_blocks(monkeypatch):
    draws = np.random.default_rng(1)
    features, evaluated = draws.normal(size=(300, 6)), draws.normal(size=(70, 6))
    labels = draws.integers(0, 5, 300)
    model = KNeighborsClassifier(
        20, metric="cosine", algorithm="brute", weights=lambda found: np.exp(-found / 0.07)
    )
    expected = model.fit(features, labels).predict(evaluated)
    whole = probes.nearest([block(features, labels)], evaluated, neighbours=[10, 20])
    assert np.array_equal(whole[20], expected)
    assert not np.array_equal(whole[10], whole[20])
    monkeypatch.setattr(probes, "AT_ONCE", 32)
    cut = [block(features[k : k + 7], labels[k : k + 7]) for k in range(0, 300, 7)]
    parts = probes.nearest(iter(cut), evaluated, neighbours=[10, 20])
    assert all(np.array_equal(parts[k], whole[k]) for k in whole)


def test_fewer_images_than_neighbours_all_vote():
    mine = block([[1.0, 0.0], [0.0, 1.0], [0.1, 1.0]], [0, 1, 1])
    found = probes.nearest([mine], np.array([[1.0, 0.1], [0.0, 0.0]]), neighbours=[20])
    assert found[20].tolist() == [0, 1], "the near one counts more than two that are not"


def test_small_classes_mean_fewer_folds_and_one_image_none(monkeypatch):
    draws = np.random.default_rng(0)
    features, evaluated = draws.normal(size=(30, 4)), draws.normal(size=(9, 4))
    for smallest, folds in ((8, 5), (3, 3), (1, 1)):
        labels = np.array([0] * smallest + [1] * (30 - smallest))
        found = probes.logistic(features, labels, evaluated, seed=0)
        assert found.folds == folds
        assert folds > 1 or found.inverse_penalty == 1


def test_folds_are_the_same_for_all_features(monkeypatch):
    seen = []

    class Spied(LogisticRegressionCV):
        def fit(self, features, labels):
            seen.append([test.tolist() for _, test in self.cv])
            return super().fit(features, labels)

    monkeypatch.setattr(probes, "LogisticRegressionCV", Spied)
    draws, labels = np.random.default_rng(0), np.arange(30) % 3
    for width in (2, 50):
        probes.logistic(draws.normal(size=(30, width)), labels, np.ones((1, width)), seed=3)
    probes.logistic(draws.normal(size=(30, 2)), labels, np.ones((1, 2)), seed=4)
    assert seen[0] == seen[1] != seen[2]
    # Whole groups, with all classes on both sides; of few of them fewer folds, and of one none.
    for groups, folds in ((np.arange(30) // 3, 5), (np.arange(30) // 15, 2), (labels, 1)):
        seen.clear()
        found = probes.logistic(
            draws.normal(size=(30, 2)), labels, np.ones((1, 2)), groups=groups, seed=0
        )
        assert found.folds == folds
        for test in (test for each in seen for test in each):
            assert set(groups[test]).isdisjoint(np.delete(groups, test))


def test_more_features_than_images_are_rotated_to_the_same_answer():
    draws = np.random.default_rng(0)
    features, labels, evaluated = draws.random((40, 60)), np.arange(40) % 4, draws.random((200, 60))
    found = probes.logistic(features, labels, evaluated, seed=0)
    scale = (features - features.mean(axis=0)).std()
    model = LogisticRegression(C=found.inverse_penalty, max_iter=5000, tol=1e-8)
    model.fit((features - features.mean(axis=0)) / scale, labels)
    expected = model.predict((evaluated - features.mean(axis=0)) / scale)
    assert np.mean(expected == found.predictions) > 0.99


def test_bad_weights_are_told(images, files, tmp_path):
    path = tmp_path / "nan.safetensors"
    model = create_backbone(Model(backbone="test_resnet"), classes=0)
    model.load_state_dict({n: t * float("nan") for n, t in model.state_dict().items()})
    save_weights(model, path, {})
    with pytest.raises(UserError, match="hold NaN"):
        features("given", images, path, tmp_path)
    ours = experiment(model={"backbone": "resnet18"})
    with pytest.raises(UserError, match="of another model"):
        features("given", images, files[0], tmp_path, ours=ours)
    assert not (tmp_path / "features.parquet").exists()


def test_features_are_of_pixels_of_random_weights_and_of_weights_that_arms_start_from():
    ours = experiment()
    assert frozen_features(ours) == ["pixels", "random", "mfm", "given"]
    assert frozen_features(experiment(frozen=None)) == []
    seeds = [probe_job(ours, name).seeds for name in frozen_features(ours)]
    assert seeds == [[0, 3, 4], [0, 3, 4], [0, 3], [0, 3, 4]]
    assert set(feature_starts(ours, "given").values()) == {"all"}
    assert feature_starts(ours, "random") == {0: "seed0", 3: "seed3", 4: "seed4"}
    assert experiment_hash(ours) == experiment_hash(experiment(frozen=None))
    with pytest.raises(UserError, match=r"arms.pixels: .*take another"):
        experiment(arms={"scratch": "scratch", "pixels": {"weights": "x.pth"}})


@pytest.mark.parametrize(
    ("frozen", "told"),
    [
        ({"extract_per_class": 5}, "finetune.images_per_class asks for 6; raise it, or set it to"),
        ({"extract_per_class": 5, "images_per_class": [2, 7]}, "images_per_class asks for 7;"),
        ({"extract_per_class": 5, "images_per_class": [None]}, "asks for all images; raise it"),
        ({"images_per_class": [2, 2]}, "give each number once"),
        ({"knn": 5}, "frozen.knn"),
    ],
)
def test_wrong_amounts_are_told_before_anything_runs(frozen, told):
    with pytest.raises(UserError, match=re.escape(told)):
        experiment(frozen=frozen)


def test_more_labels_than_images_are_told_before_anything_is_trained():
    asked = demands_of(Runs(experiment(frozen={"images_per_class": [6, 400, None]}))).trainings
    mine = [demand for demand in asked if demand.key == "frozen"]
    assert [demand.images_per_class for demand in mine] == [400]


@pytest.mark.parametrize(
    ("changes", "features", "probe"),
    [
        ({"finetune": {"batch": 4, "epochs": 9, "images_per_class": 6}}, True, True),
        ({"frozen": {"images_per_class": [2], "knn": [3, 7]}}, True, False),
        ({"frozen": {"images_per_class": [3, 6], "knn": [4]}}, True, False),
        ({"frozen": VALUES["frozen"] | {"extract_per_class": 6}}, False, True),
        ({"evaluate": {"resize": 40, "crop": SIDE}}, False, True),
        ({"model": {"backbone": "test_resnet", "options": {"output_stride": 16}}}, False, True),
        ({"seeds": [0, 3, 4, 9]}, True, False),
        ({"arms": VALUES["arms"] | {"more": {"pretrain": "mfm"}}}, True, True),
        ({"baseline": "mfm", "results": "elsewhere"}, True, True),
    ],
)
def test_what_determines_features_and_accuracies_is_in_their_jobs(changes, features, probe):
    both = experiment(), experiment(**changes)
    jobs = [dumps(features_job(ours, "given", "all")) for ours in both]
    assert (jobs[0] == jobs[1]) == features
    jobs = [dumps(probe_job(ours, "given")) for ours in both]
    assert (jobs[0] == jobs[1]) == probe


def test_rows_are_collected_with_names_as_they_are(tmp_path):
    for name in ("pixels", "007"):
        text = f"features,seed,amount,images,method,C,top1\n{name},0,010,10,knn5,,50.0\n"
        (tmp_path / name).write_text(text)
    found = rows_of_frozen.collect([tmp_path / "pixels", tmp_path / "007"])
    assert found[["features", "amount"]].values.tolist() == [["pixels", "010"], ["007", "010"]]


def planted_rows():
    """Accuracies of four seeds: mfm 5 points above random weights, with 10 labels and with all."""
    gains = {"pixels": (20, 0), "random": (0, 0.5), "mfm": (5, 1)}  # mean, spread over seeds
    return pd.DataFrame(
        {
            "features": features,
            "seed": seed,
            "amount": amount,
            "images": images,
            "method": method,
            "C": 0.1 * 10**seed if method == "logistic" else None,
            "top1": round(50 + more + mean + spread * seed, 4),
        }
        for features, (mean, spread) in gains.items()
        for seed in range(4)
        for amount, images, more in (("all", 1000, 9), ("10", 100, 0))
        for method in ("logistic", "knn10")
    )


def test_the_page_has_every_amount_and_method_less_random_weights(tmp_path):
    gains = {"scratch": (0.0,) * 4, "mfm": (1.0,) * 4}
    found = planted(gains, pretrainings=4, frozen=planted_rows())
    numbers = probe.numbers(found.readings)
    row = numbers.set_index(["method", "amount", "features"]).loc["logistic", "10", "mfm"]
    differences = np.array([5, 5.5, 6, 6.5])
    assert row["less_random"] == pytest.approx(differences.mean())
    half = 3.182446 * differences.std(ddof=1) / 2
    assert row["less_random_low"] == pytest.approx(differences.mean() - half, abs=1e-3)
    assert row["top1"] == pytest.approx(56.5)
    assert (row["n"], row["units"], row["images"]) == (4, 4, 100)
    assert numbers["amount"].tolist()[:6] == ["10"] * 3 + ["all"] * 3, "from few labels on"
    (page,) = probe.pages(found)
    text = to_markdown(page)
    assert "| 10 | mfm | **56.50** (54.45 to 58.55) | +5.75 (+4.72 to +6.78) |" in text
    assert "| all | none: raw pixels | **79.00** (the same in every run) | - |" in text
    assert "raw pixels 0.1 to 100, random weights 0.1 to 100 and mfm 0.1 to 100" in text
    assert "Given a single pretraining" not in text
    single = to_markdown(probe.pages(planted(gains, frozen=planted_rows()))[0])
    assert "Given a single pretraining: mfm." in single
    assert probe.pages(planted(gains)) == []
    figure = draw_probe(found.readings)
    assert [panel.get_title(loc="left") for panel in figure.axes] == [
        "logistic regression",
        "10 nearest neighbours",
    ]
    save(figure, tmp_path / "probe.svg")
    assert "mfm, 10, top-1 in %: 56.50" in (tmp_path / "probe.svg").read_text()


def test_its_jobs_wait_for_pretrainings_alone(tmp_path):
    values = yaml.safe_load((ROOT / "configs/tiny.yaml").read_text()) | {"frozen": {}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(values))
    words = ("results/tiny/frozen.csv", "-n", "-p", "--cores", "2", "--configfile", "mine.yaml")
    words += ("--snakefile", ROOT / "workflow/Snakefile")
    done = calls.snakemake(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    counts = dict(re.findall(r"^(\w+) +(\d+)$", done.stdout, re.MULTILINE))
    assert counts.pop("total")
    assert counts["features"] == "5"  # one of pixels, one of each seed's random weights
    assert counts["frozen_features"] == "4"
    assert counts["pretrain"] == "2"
    assert not {"finetune", "evaluate"} & counts.keys(), counts
    # What is to be known before anything is trained, once (tests/test_demands.py has its cases).
    assert done.stderr.count("mfm: note: pretrain.mfm: resnet10t's last map is 1x1") == 1
    # Two seeds from one pretraining, and what needs no weights.
    backbone = "results/tiny/pretrain/mfm/seed0/backbone.safetensors"
    path = "results/tiny/features/mfm/seed0.parquet"
    assert f"--weights {backbone} --features {path} " in done.stdout
    assert f"--features {path} {path} --csv results/tiny/frozen/mfm.csv" in done.stdout
    assert "--weights scratch --features results/tiny/features/pixels/all.parquet" in done.stdout
