"""Evaluation on other folders of images: their classes are the dataset's, or some of them."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from test_link import draw_image, make_folder
from torch import nn

from mfm.data.linking import link_other, manifest
from mfm.data.linking.link import link
from mfm.data.linking.other import SUMMARY, check, known_classes
from mfm.data.settings import Dataset, OtherImages, OtherImagesJob
from mfm.errors import UserError
from mfm.evaluation import also, looks
from mfm.evaluation.classifier import Subject
from mfm.experiment import preflight
from mfm.experiment.layout import Layout, other_images_folder
from mfm.experiment.resolve import evaluate_job, evaluated_names, experiment_hash, finetunings
from mfm.experiment.settings import Experiment
from mfm.experiment.variants import Runs
from mfm.files.records import record_of
from mfm.processes.ranks import Process
from mfm.reporting import also as page
from mfm.reporting.render_markdown import to_markdown
from mfm.settings.section import dumps, parse

CLASSES = ("ant", "bee", "cat", "dog")


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A linked dataset's manifest."""
    root = tmp_path_factory.mktemp("own")
    of_each = dict.fromkeys(CLASSES, 3)
    source = make_folder(root / "images", {"train": of_each, "val": of_each})
    link(Dataset(name="own", source=str(source)), root / "data")
    return root / "data" / manifest.NAME


def other(root, *names, images=2):
    for number, name in enumerate(names):
        for each in range(images):
            draw_image(root / name / f"{each}.png", seed=1000 + 10 * number + each)
    return root


def put(own, source, folder, *, on_bad_image="error", **more):
    job = OtherImagesJob(
        name="v2", images={"folder": str(source), **more}, on_bad_image=on_bad_image
    )
    return link_other.link(job, folder, dataset=own, read=[])


def complaint(source, **more):
    with pytest.raises(UserError) as caught:
        check(OtherImages(folder=str(source), **more), CLASSES)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_labels_are_the_datasets_also_where_classes_are_missing(own, tmp_path):
    source = other(tmp_path / "images", "bee", "dog")
    assert put(own, source, tmp_path / "v2") == []
    images = manifest.load(tmp_path / "v2" / manifest.NAME, "val")
    assert images.classes == CLASSES
    assert images.labels.tolist() == [1, 1, 3, 3]
    assert images.path(2).samefile(source / "dog/0.png")
    manifest.check_images(tmp_path / "v2" / manifest.NAME, "val")
    assert record_of(tmp_path / "v2" / manifest.NAME).exists()
    summary = json.loads((tmp_path / "v2" / SUMMARY).read_text())
    assert (summary["images"], summary["classes"], summary["of_classes"]) == (4, 2, 4)


def test_the_datasets_own_manifest_needs_no_list_of_classes(own):
    assert manifest.load(own, "val").classes == CLASSES


def test_folders_that_number_the_classes_are_put_under_their_names(own, tmp_path):
    classes = [f"n{number:02d}" for number in range(12)]
    names = [str(number) for number in range(12)]  # of which '10' and '11' sort before '2'
    source = other(tmp_path / "images", *names, images=1)
    found = check(OtherImages(folder=str(source), numbered=True), classes)
    assert [found[name] for name in names] == classes
    shutil.rmtree(source)
    other(source, "3", "1")
    for _ in range(2):  # again over what the first time left
        put(own, source, tmp_path / "v2", numbered=True)
    images = manifest.load(tmp_path / "v2" / manifest.NAME, "val")
    assert images.labels.tolist() == [1, 1, 3, 3]
    assert images.path(3).samefile(source / "3/1.png")


def test_a_folder_of_no_class_is_told_with_the_nearest_name(tmp_path):
    source = other(tmp_path / "images", "ant", "catt", "dog")
    text = complaint(source)
    assert (
        f"{source} has a folder that the dataset has no class of: 'catt' (did you mean 'cat'?)"
        in text
    )
    assert text.endswith("; rename it, or move it away")


def test_numbers_for_names_are_told_with_what_to_write(tmp_path):
    source = other(tmp_path / "images", *"0123", images=1)
    text = complaint(source)
    assert "'0', '1', '2' and 1 more" in text
    assert text.endswith(f"say so: {{folder: {source}, numbered: true}}")
    other(source, "4", images=1)
    assert "has a folder '4'" in complaint(source, numbered=True)
    assert "numbers from 0 to 3" in complaint(source, numbered=True)
    shutil.rmtree(source / "4")
    other(source, "02", images=1)
    assert "one number twice" in complaint(source, numbered=True)


def test_folders_above_the_classes_own_are_told_with_one_to_name(tmp_path):
    for severity in "12":
        other(tmp_path / "images/noise" / severity, "ant", "bee", images=1)
    for source in (tmp_path / "images", tmp_path / "images/noise"):
        assert f"such as {tmp_path}/images/noise/1" in complaint(source)


def test_a_single_class_and_no_folder_are_refused(tmp_path):
    assert "a single class" in complaint(other(tmp_path / "images", "ant"))
    assert "there is no folder" in complaint(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert "has no class folders" in complaint(tmp_path / "empty")


def test_bad_images_and_images_of_the_dataset_are_told(own, tmp_path):
    source = other(tmp_path / "images", "ant", "bee")
    (source / "bee/bad.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"evaluate\.also\.v2: 1 unreadable image: .*bee/bad\.png"):
        put(own, source, tmp_path / "v2")
    shutil.copy(own.parent / "train/cat/0.png", source / "ant/copy.png")
    notes = put(own, source, tmp_path / "v2", on_bad_image="skip")
    assert notes[0].startswith("evaluate.also.v2: left out of ")
    assert notes[1:] == ["evaluate.also.v2: 1 of the 5 images is also in train, byte for byte."]


def test_what_is_read_again_is_what_changed(own, tmp_path, capsys):
    source = other(tmp_path / "images", "ant", "bee")
    put(own, source, tmp_path / "v2")
    images = (tmp_path / "v2/images.val.json").read_text()
    put(own, source, tmp_path / "v2")
    assert (tmp_path / "v2/images.val.json").read_text() == images
    draw_image(source / "ant/new.png", seed=77)
    put(own, source, tmp_path / "v2")
    assert (tmp_path / "v2/images.val.json").read_text() != images
    read = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert read == ["4", "0", "1"]


class Fixed(nn.Module):
    """Says the same of every image."""

    def __init__(self, *logits):
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(logits))

    def forward(self, images):
        return self.logits.expand(len(images), -1)


def test_top1_is_among_the_classes_that_there_are(own, tmp_path):
    put(own, other(tmp_path / "images", "bee", "dog", images=3), tmp_path / "v2")
    ours = experiment(tmp_path, v2=str(tmp_path / "images"))
    subject = Subject(
        model=Fixed(9.0, 2.0, 8.0, 1.0),
        images=manifest.load(tmp_path / "v2" / manifest.NAME, "val"),
        job=evaluate_job(ours, "also/v2"),
        process=Process(rank=0, world=1, device=torch.device("cpu")),
        workers=0,
    )
    found = also.Settings().measure(subject)
    assert found == {"top1": 50.0, "top1_all": 0.0, "images": 6, "classes": 2}
    # Of equal scores the first class is meant, as in the table.
    for logits, hit in (((0.0, 0, 0, 0), 1), ((0.0, 0, 0, 1), 3)):
        model = Fixed(*logits)
        ranks = Subject(**{**vars(subject), "model": model}).predict(among_present=True).ranks_among
        assert (ranks == 0).tolist() == (subject.images.labels == hit).tolist()


def experiment(folder, **folders):
    values = {
        "results": str(folder),
        "seeds": [0, 1, 2],
        "dataset": {"name": "own", "source": "generated", "holdout_per_class": 1},
        "pretrain": {"p": {"task": "mfm"}},
        "arms": {"scratch": "scratch", "mfm": {"pretrain": "p"}},
        "evaluate": {"split": "holdout", "also": folders},
    }
    return parse(Experiment, values, where="test")


def test_a_folder_more_or_another_one_changes_no_other_job(tmp_path):
    one, two = experiment(tmp_path, a="/a"), experiment(tmp_path, a="/other", b="/b")
    assert evaluated_names(two) == ["evaluate", "also/a", "also/b"]
    for name in evaluated_names(one):
        assert dumps(evaluate_job(one, name)) == dumps(evaluate_job(two, name))
    assert experiment_hash(one) == experiment_hash(two)
    job = evaluate_job(one, "also/a")
    assert job.evaluation.split == "val", "whatever split the table is of"
    assert len(Runs(two).evaluations("also/b")) == 6


def test_wrong_folders_are_told_before_any_job(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # data/ of another test has other classes
    source = other(tmp_path / "images", "discs", "ring", "stripes")
    runs = Runs(experiment(tmp_path / "results", a=str(source), b="/nowhere"))
    with pytest.raises(UserError) as caught:
        preflight.check(runs)
    assert "evaluate.also.a: " in str(caught.value)
    assert "'ring' (did you mean 'rings'?)" in str(caught.value)
    assert "evaluate.also.b: there is no folder '/nowhere'" in str(caught.value)


def test_the_datasets_classes_are_known_before_it_is_linked(own, tmp_path):
    source = own.parent.parent / "images"
    for dataset, folder in (
        (Dataset(name="own", source=str(source)), tmp_path),
        (Dataset(name="own", source="torchvision/CIFAR10"), own.parent),
    ):
        assert tuple(known_classes(dataset, folder)) == CLASSES
    assert known_classes(Dataset(name="c", source="torchvision/CIFAR10"), tmp_path) is None


def finish(ours):
    """Rows and summaries as the jobs would leave them: 'v2' has all classes, 'r' two of four."""
    draws = np.random.default_rng(0)
    for name, classes in (("v2", 4), ("r", 2)):
        for arm, seed in finetunings(ours):
            row = {"arm": arm, "seed": seed, "top1": 50 + 3 * seed + draws.normal()}
            row |= {"top1_all": 12.5, "images": 10, "classes": classes}
            path = Path(Layout(ours.results).evaluation(arm, seed, name=f"also/{name}").row)
            path.parent.mkdir(parents=True, exist_ok=True)
            pd.DataFrame([row]).to_csv(path, index=False)
        folder = other_images_folder("own", f"also/{name}")
        folder.mkdir(parents=True, exist_ok=True)
        said = {"folder": f"/{name}_*", "images": 10, "classes": classes, "of_classes": 4}
        said["overlap"] = {"train": 3, "pretrain": 1, "val": 0}
        (folder / SUMMARY).write_text(json.dumps(said))
    for hash_ in ("a", "b"):
        looks.note(folder, split="val", experiment=hash_, results="results")


def test_the_page_has_each_folder_with_differences_and_no_verdict(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ours = experiment(tmp_path / "results", v2="/v2", r="/r")
    finish(ours)
    rows = page.collect(ours)
    assert list(rows.columns) == ["also", "arm", "seed", "top1", "top1_all", "images", "classes"]
    found = page.document(ours, page.read(ours, rows))
    table = found.blocks[1]
    assert [column.head for column in table.columns] == [
        "images",
        "arm",
        "n",
        "top-1 (%)",
        "95% interval",
        "less scratch",
        "95% interval of it",
        "top-1 among all classes (%)",
    ]
    cells = table.cells()
    assert [row[1] for row in cells] == ["scratch", "mfm"] * 2
    for at, name in ((1, "v2"), (3, "r")):
        wide = rows[rows["also"] == name].pivot(index="seed", columns="arm", values="top1")
        gap = stats.ttest_rel(wide["mfm"], wide["scratch"]).confidence_interval()
        assert cells[at][5:7] == [
            f"{(wide['mfm'] - wide['scratch']).mean():+.2f}",
            f"{gap.low:+.2f} to {gap.high:+.2f}",
        ]
    assert [row[7] for row in cells] == ["-", "-", "12.50", "12.50"]
    text = to_markdown(found)
    assert (
        "**v2**: 10 images of all 4 classes. Folder `/v2_*`. 3 of the 10 images are also in "
        in text
    )
    assert "1 of the 10 images is also in the unlabelled ones, byte for byte." in text
    assert "10 images of 2 of the 4 classes: top-1 is that among these 2." in text
    assert "2 different experiments have looked at them." in text
    assert "better" not in text
