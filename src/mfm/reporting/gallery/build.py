"""Build of the gallery of the first comparison: the declared one, if a question was declared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from mfm.data.pictures.opening import shown_channels
from mfm.experiment.layout import locate
from mfm.experiment.settings import Experiment
from mfm.reporting.gallery import choose, predictions
from mfm.reporting.gallery.content import Gallery, Part, Row, Shown, Told
from mfm.reporting.gallery.predictions import ArmPredictions
from mfm.reporting.gallery.thumbnails import Thumbnails
from mfm.reporting.verdict import pairs, samples


def build(experiment: Experiment, results: pd.DataFrame, manifest: Path) -> Gallery:
    """From the stored predictions, and the images where they are as they were evaluated.

    Raises UserError for predictions of an earlier version.
    """
    compared = pairs(experiment, samples(experiment, results))
    if not compared:
        return Gallery(said=[], parts=[])
    arm, other = (predictions.read(name, _files(results, name)) for name in compared[0])
    images = Thumbnails(manifest, experiment.evaluate.split)
    show = _Show((arm, other), images)
    parts = [
        show.only_one(arm, other),
        show.only_one(other, arm),
        *(show.errors(each) for each in (arm, other)),
        *(show.classes(each) for each in (arm, other)),
    ]
    shown = [image for part in parts for row in part.rows for image in row.images]
    return Gallery(said=[*_said(experiment), *_missing(shown)], parts=parts)


def _files(results: pd.DataFrame, arm: str) -> list[Path]:
    found = []
    for checkpoint in results.loc[results["arm"] == arm, "checkpoint"]:
        model = locate(str(checkpoint))
        assert model is not None, checkpoint
        found.append(Path(model.evaluation.predictions))
    return found


def _said(experiment: Experiment) -> list[str]:
    side = experiment.evaluate.crop
    return [
        f"{choose.RULE} The same rule for both arms.",
        f"Thumbnails are of whole images; the networks see a crop of {side} pixels a side. "
        "Probabilities are means over seeds.",
        *filter(None, [shown_channels(experiment.dataset.channels or 3)]),
    ]


def _missing(images: Sequence[Shown]) -> list[str]:
    """A line on those that can't be shown; each of them says why in its place."""
    whole = {image.path: image.missing for image in images}
    why = Counter(reason for reason in whole.values() if reason)
    if not why:
        return []
    listed = "; ".join(f"{count:,}: {reason}" for reason, count in sorted(why.items()))
    return [f"{sum(why.values()):,} of {len(whole):,} images can't be shown ({listed})."]


class _Show:
    """Chosen images as a page tells of them."""

    def __init__(self, arms: tuple[ArmPredictions, ArmPredictions], images: Thumbnails) -> None:
        self._arms, self._images = arms, images

    def only_one(self, arm: ArmPredictions, other: ArmPredictions) -> Part:
        found = choose.only_one(arm, other)
        return Part(
            title=f"{arm.arm} gets them right, {other.arm} doesn't",
            said=[
                f"{found.total:,} of {len(arm.labels):,} images are right in more seeds of "
                f"{arm.arm}{_shown(found)}.",
                f"{_are(found.always)} right in every seed of {arm.arm}, in none of {other.arm}.",
            ],
            rows=[self._row(found.images)],
        )

    def errors(self, arm: ArmPredictions) -> Part:
        found = choose.confident_errors(arm)
        return Part(
            title=f"Surest errors of {arm.arm}",
            said=[
                f"{_are(found.total)} wrong in some seed{_shown(found)}.",
                f"{_are(found.always)} wrong in every seed.",
            ],
            rows=[self._row(found.images, [arm])],
        )

    def classes(self, arm: ArmPredictions) -> Part:
        rows = [
            self._row(
                each.images,
                [arm],
                title=f"{'Best' if best else 'Worst'}: {arm.classes[each.number]}",
                said=f"{each.recall:.1f}% of its {each.total:,} images are right.",
            )
            for best in (True, False)
            for each in choose.classes(arm, best=best)
        ]
        return Part(
            title=f"Best and worst classes of {arm.arm}",
            said=["Of the best, images that are surely right; of the worst, those surely wrong."],
            rows=rows,
        )

    def _row(
        self,
        positions: Iterable[int],
        arms: Sequence[ArmPredictions] = (),
        *,
        title: str = "",
        said: str = "",
    ) -> Row:
        return Row(
            title=title,
            said=said,
            images=[self._image(int(position), arms or self._arms) for position in positions],
        )

    def _image(self, position: int, arms: Sequence[ArmPredictions]) -> Shown:
        path = arms[0].paths[position]
        thumbnail = self._images[path]
        return Shown(
            path=(self._images.root / path).as_posix(),
            label=arms[0].classes[arms[0].labels[position]],
            told=[_told(arm, position) for arm in arms],
            source=thumbnail.source,
            width=thumbnail.width,
            height=thumbnail.height,
            missing=thumbnail.missing,
        )


def _are(count: int) -> str:
    return f"{count:,} image is" if count == 1 else f"{count:,} images are"


def _shown(found: choose.Chosen) -> str:
    return f"; the first {len(found.images)} are shown" if found.total > len(found.images) else ""


def _told(arm: ArmPredictions, position: int) -> Told:
    """The prediction of most seeds, of equally many the more probable one."""
    predicted, sure = arm.predicted[:, position], arm.of_predicted[:, position]
    means = {
        number: (int((predicted == number).sum()), float(sure[predicted == number].mean()))
        for number in np.unique(predicted)
    }
    most = max(means, key=lambda number: (*means[number], -number))
    return Told(
        arm=arm.arm,
        right=int(arm.right[position]),
        seeds=arm.seeds,
        prediction=arm.classes[most],
        agreeing=means[most][0],
        of_prediction=round(means[most][1], 4),
        of_label=round(float(arm.of_label[:, position].mean()), 4),
    )
