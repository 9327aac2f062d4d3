import html.parser
import json
import os
import re
from pathlib import Path

import finished
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from mfm.data.pictures.headers import content_of
from mfm.reporting.gallery import choose, content
from mfm.reporting.gallery.build import build
from mfm.reporting.gallery.predictions import ArmPredictions
from mfm.reporting.page.templates import closed, environment

CLASSES = ("coat", "shirt", "trouser", "dress", "bag")


def predictions(name="mfm", *, images=400, seeds=3, wrong=0.2, classes=CLASSES, seed=0):
    """An arm that gets most images right, and is surer of what it predicts than of the label."""
    draws = np.random.default_rng(seed)
    labels = np.arange(images) % len(classes)
    others = (labels + draws.integers(1, len(classes), (seeds, images))) % len(classes)
    predicted = np.where(draws.random((seeds, images)) < wrong, others, labels)
    sure = draws.uniform(0.5, 0.9, (seeds, images))
    return ArmPredictions(
        arm=name,
        classes=tuple(classes),
        paths=[f"val/{classes[label]}/{number}.png" for number, label in enumerate(labels)],
        labels=labels,
        predicted=predicted,
        of_label=np.where(predicted == labels, sure, (1 - sure) / 2),
        of_predicted=sure,
    )


def plant(arm, images, *, right, sure=0.7):
    """Make an arm's seeds all right, or all wrong, on some images."""
    arm.__dict__.pop("right", None)  # what it knew
    arm.predicted[:, images] = (arm.labels[images] + (not right)) % len(arm.classes)
    arm.of_predicted[:, images] = sure
    arm.of_label[:, images] = sure if right else (1 - sure) / 2


def test_images_that_one_arm_gets_wrong_are_all_found_and_come_first():
    ours, theirs = predictions(wrong=0.3, seed=1), predictions("scratch", wrong=0.3, seed=2)
    planted = np.array([399, 3, 77, 123, 200, 8, 50, 51, 52, 301])
    never = np.setdiff1d(np.arange(400), planted)
    plant(ours, never[ours.right[never] == 3], right=False)  # nowhere else in every seed
    plant(ours, planted, right=True)
    plant(theirs, planted, right=False)
    found = choose.only_one(ours, theirs)
    assert sorted(found.images[:10]) == sorted(planted)
    assert found.always == 10
    assert found.total == (ours.right > theirs.right).sum() > choose.ONLY == len(found.images)
    assert not set(planted) & set(choose.only_one(theirs, ours).images)
    # As the arm's own errors, surest first.
    plant(theirs, planted, right=False, sure=0.95)
    assert sorted(choose.confident_errors(theirs).images[:10]) == sorted(planted)


def test_the_rule_is_seeds_then_probabilities_then_path():
    ours = predictions(images=40, wrong=0)
    theirs = predictions("scratch", images=40, wrong=0)
    plant(theirs, [30, 10, 20, 5], right=False)
    theirs.of_label[:, 10] = 0.01  # further away
    ours.of_label[:, [5, 20, 30]] = 0.7  # equally far: by path
    theirs.predicted[0, 5] = theirs.labels[5]  # in two seeds only
    found = choose.only_one(ours, theirs).images.tolist()
    assert found == [10, *sorted((20, 30), key=lambda image: ours.paths[image]), 5]
    # Whatever order the images stand in.
    back = np.arange(40)[::-1]
    turned = [
        ArmPredictions(
            arm=arm.arm,
            classes=arm.classes,
            paths=[arm.paths[image] for image in back],
            labels=arm.labels[back],
            predicted=arm.predicted[:, back],
            of_label=arm.of_label[:, back],
            of_predicted=arm.of_predicted[:, back],
        )
        for arm in (ours, theirs)
    ]
    assert back[choose.only_one(*turned).images].tolist() == found


def test_arms_of_different_numbers_of_seeds_are_compared_by_their_shares():
    ours, theirs = predictions(images=20, wrong=0), predictions("s", images=20, wrong=0, seeds=2)
    assert choose.only_one(ours, theirs).total == 0  # 3 of 3 and 2 of 2
    plant(theirs, [7], right=False)
    theirs.predicted[0, 7] = theirs.labels[7]
    assert choose.only_one(ours, theirs).images.tolist() == [7]


def test_best_and_worst_classes():
    arm = predictions(images=100, wrong=0)
    for number, count in enumerate((0, 5, 1, 20, 3)):
        plant(arm, np.flatnonzero(arm.labels == number)[:count], right=False)
    best, worst = (choose.classes(arm, best=each) for each in (True, False))
    assert [CLASSES[each.number] for each in best] == ["coat", "trouser"]
    assert [CLASSES[each.number] for each in worst] == ["dress", "shirt"]
    assert [round(each.recall) for each in (*best, *worst)] == [100, 95, 0, 75]
    assert all((arm.right[each.images] == 3).all() for each in best)
    assert all((arm.right[each.images] == 0).all() for each in worst)


HOSTILE = (
    "\"'><script>alert(1)</script>".replace("/", "\N{FRACTION SLASH}"),
    "\N{RIGHT-TO-LEFT OVERRIDE}gnp.exe\N{RIGHT-TO-LEFT MARK}",
    "a\nb\r\tc",
    "x" * 250,
    "{{ 7 * 7 }} & &amp; **b**",
    "_ [l](javascript:alert(1))".replace("/", ""),
)


def store(folder, classes, per_class, *, make, seeds=2):
    """An experiment on images of its own, with predictions of two arms: odd ones are wrong."""
    os.chdir(folder)  # as the workflow does
    gains = {"scratch": (0.0,) * seeds, "mfm": (1.0,) * seeds}
    question = {"arm": "mfm", "baseline": "scratch"}
    more = {"results": str(folder / "results"), "dataset": {"name": "own", "source": "generated"}}
    ours, results = finished.plant(gains, question=question, **more)
    labels = np.repeat(np.arange(len(classes)), per_class)
    paths = [f"val/{classes[label]}/{n}{classes[0][:9]}.png" for n, label in enumerate(labels)]
    root = Path("data/own")
    contents = [make(root / path) for path in paths]
    columns = {"split": ["val"] * len(paths), "path": paths, "label": labels}
    columns |= {"class": [classes[label] for label in labels]}
    columns |= {"content": pa.array(contents, pa.uint64())}
    sizes = {key: [SIZE] * len(paths) for key in ("width", "height")}
    pq.write_table(pa.table(columns | sizes), root / "manifest.parquet")
    draws = np.random.default_rng(0)
    for row in results.to_dict("records"):
        shift = np.arange(len(labels)) % 2 if row["arm"] == "scratch" else 0 * labels
        predicted = (labels + shift) % len(classes)
        every = draws.uniform(0, 0.5 / len(classes), (len(labels), len(classes)))
        every[np.arange(len(labels)), predicted] = 0.5
        file = Path(str(row["checkpoint"]).replace("/finetune/", "/evaluate/")).parent
        file = file.with_name(f"{file.name}.parquet")
        file.parent.mkdir(parents=True, exist_ok=True)
        flat = pa.array(every.astype(np.float32).reshape(-1))
        saved = {
            "path": paths,
            "label": [classes[label] for label in labels],
            "prediction": [classes[each] for each in predicted],
            "probability": every[np.arange(len(labels)), labels],
            "correct": predicted == labels,
            "rank": pa.array(shift.astype(np.int32)),
            "probabilities": pa.FixedSizeListArray.from_arrays(flat, len(classes)),
        }
        said = {"classes": json.dumps(classes)}
        pq.write_table(pa.table(saved).replace_schema_metadata(said), file)
    return ours, results, root


SIZE = 120


@pytest.fixture
def made(tmp_path):
    """A file of noise, which is the largest that an image gets, at each path."""
    draws = np.random.default_rng(0)
    noise = Image.fromarray(draws.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8))
    noise.save(tmp_path / "noise.png")
    content = content_of((tmp_path / "noise.png").read_bytes())

    def make(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        os.link(tmp_path / "noise.png", path)
        return content

    before = Path.cwd()
    yield make
    os.chdir(before)


class Page(html.parser.HTMLParser):
    """Elements of a page, the texts in bdi of a path, and what is said in all."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.paths, self.text, self._in_path = [], [], "", False
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "code":
            self._in_path = True
            self.paths.append("")

    def handle_endtag(self, tag):
        self._in_path = self._in_path and tag != "code"

    def handle_data(self, data):
        self.text += data
        if self._in_path:
            self.paths[-1] += data


def images_of(gallery):
    return [image for part in gallery.parts for row in part.rows for image in row.images]


def rendered(gallery):
    text = environment().get_template("gallery.html.j2").render(gallery=gallery)
    return text, Page(text)


def test_names_are_text_and_paths_can_be_copied_as_they_are(tmp_path, made):
    ours, results, root = store(tmp_path, HOSTILE, 4, make=made)
    content.save(build(ours, results, root / "manifest.parquet"), tmp_path / "gallery.json")
    found = content.load(tmp_path / "gallery.json")
    text, page = rendered(found)
    # What a browser makes of a return that isn't escaped.
    assert "\r" not in text
    ours_alone = {"p", "h4", "h5", "div", "ul", "li", "img", "bdi", "code"}
    assert {tag for tag, _ in page.tags} <= ours_alone
    assert not [key for _, attrs in page.tags for key in attrs if key.startswith("on")]
    shown = images_of(found)
    assert page.paths == [image.path for image in shown]
    assert all(Path(path).is_file() for path in page.paths)
    images = [attrs for tag, attrs in page.tags if tag == "img"]
    assert len(images) == len(shown)
    assert all(each["src"].startswith("data:image/jpeg;base64,") for each in images)
    assert all(each["alt"] for each in images)
    assert all("<script>" in each["alt"] for each in images if HOSTILE[0] in each["alt"])
    only = found.parts[0]
    assert only.title == "mfm gets them right, scratch doesn't"
    assert only.said[0] == "12 of 24 images are right in more seeds of mfm."
    assert only.said[1] == "12 images are right in every seed of mfm, in none of scratch."
    (first, second) = only.rows[0].images[0].told
    assert (first.right, first.seeds, first.of_prediction) == (2, 2, 0.5)
    assert second.right == 0
    assert second.prediction == HOSTILE[(HOSTILE.index(only.rows[0].images[0].label) + 1) % 6]
    assert len(found.parts[1].rows[0].images) == 0


def test_a_name_in_a_line_ends_what_it_turns():
    opened, ended = "\N{LEFT-TO-RIGHT ISOLATE}", "\N{POP DIRECTIONAL ISOLATE}"
    assert closed(f"a{opened}b{opened}c{ended}d") == f"a{opened}b{opened}c{ended}d{ended}"
    assert closed(f"{ended}<a>{opened}b{ended}{ended}") == f"&lt;a&gt;{opened}b{ended}"


def test_images_that_are_gone_or_changed_leave_a_line(tmp_path, made):
    ours, results, root = store(tmp_path, CLASSES, 4, make=made)
    whole = build(ours, results, root / "manifest.parquet")
    gone, changed, broken = (whole.parts[0].rows[0].images[n].path for n in range(3))
    Path(gone).unlink()
    for path in (changed, broken):
        Path(path).unlink()
    Image.new("RGB", (SIZE, SIZE)).save(changed)
    Path(broken).write_bytes(b"no image")
    found = build(ours, results, root / "manifest.parquet")
    assert found.said[:-1] == whole.said
    number = len({image.path for image in images_of(found)})
    said = f"3 of {number} images can't be shown (2: it has changed since; 1: it is gone)."
    assert found.said[-1] == said
    text, page = rendered(found)
    assert "No image: it is gone." in page.text
    assert page.paths == rendered(whole)[1].paths  # nothing else changes
    assert re.sub(r"data:[^\"]*", "", text) != re.sub(r"data:[^\"]*", "", rendered(whole)[0])


def test_the_gallery_is_bounded_with_a_thousand_classes(tmp_path, made):
    names = [f"{n:04}{'&' * 100}{chr(0x4E00 + n)}" for n in range(1000)]
    ours, results, root = store(tmp_path, names, 2, make=made)
    found = build(ours, results, root / "manifest.parquet")
    content.save(found, tmp_path / "gallery.json")
    shown = images_of(found)
    assert len(shown) > 40
    largest = max(len(image.source) for image in shown)
    per_image = largest + 10_000  # every name as long as a file's may be, and escaped
    assert 120 * per_image < 5e6
    assert len(rendered(found)[0].encode()) < 5e6
    assert (tmp_path / "gallery.json").stat().st_size < 5e6


def test_without_two_arms_there_is_no_gallery(tmp_path):
    ours, results = finished.plant({"scratch": (0.0, 0.1)}, question=None)
    assert build(ours, results, tmp_path / "none.parquet").parts == []
