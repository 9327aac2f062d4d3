"""Summary of a drafted experiment: what it is, takes and finds, in a dozen lines, and why."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from mfm.data.pictures.windows import in_words
from mfm.files.lines import shown
from mfm.planning import findings
from mfm.planning.budget import told
from mfm.planning.cost import Cost, cost_of
from mfm.planning.draft import SIZES, Draft, fitting_size
from mfm.planning.findings import Findings
from mfm.planning.speeds import Speeds
from mfm.reporting.words import duration, listed
from mfm.statistics.power import fewest

_SHOWN = 4  # remarks on the images


@dataclass(frozen=True, kw_only=True)
class Planned:
    """A draft with what was measured."""

    full: Draft  # before a budget
    draft: Draft
    speeds: Speeds
    budget: float | None  # seconds

    @property
    def cost(self) -> Cost:
        """Of the draft."""
        return cost_of(self.draft, self.speeds)


def lines(planned: Planned, command: str) -> list[tuple[str, str]]:
    """What each line is about, and what it says."""
    draft, cost = planned.draft, planned.cost
    found = [
        ("images", _images(draft)),
        *(("look at", line) for line in draft.pictures.remarks(draft.size)[:_SHOWN]),
        ("machine", f"{draft.machine}, {planned.speeds.pretrain.number_format}"),
        ("experiment", _experiment(draft)),
    ]
    cuts = told(planned.full, draft)
    if cuts:
        found.append(("cut", f"for --time: {listed(cuts)}"))
    stages = ", ".join(f"{name} {duration(each)}" for name, each in cost.stages.items())
    found += [
        ("time", f"about {duration(cost.seconds)}: {stages} (from steps timed here just now)"),
        ("disk", f"{_bytes(cost.disk)}, {_bytes(cost.most_disk)} while it runs"),
        ("finds", _finds(draft)),
        ("more", _more(planned)),
        *(("note", note) for note in _notes(planned)),
        ("run it", command),
    ]
    return found


def _images(draft: Draft) -> str:
    pictures = draft.pictures
    counts = pictures.per_class.values()
    spread = f"{min(counts)} to {max(counts)}" if min(counts) < max(counts) else f"{min(counts)}"
    val = f"{pictures.images['val']:,} for evaluation"
    if pictures.dataset.val_fraction is not None:
        whole = " in whole groups," * bool(pictures.groups)
        val += f" ({100 * pictures.dataset.val_fraction:.0f}% of each class,{whole} by seed)"
    if pictures.groups:
        val += f" of {pictures.groups:,} groups"
    labels = pictures.dataset.labels
    by = f", as {shown(Path(labels).name)} says" if labels is not None else ""
    more = f", {pictures.pretraining_images:,} without labels" * pictures.unlabelled
    shortest, longest = pictures.sides
    sides = f"{shortest} px" if shortest == longest else f"{shortest} to {longest} px"
    return (
        f"{pictures.images['train']:,} for training, of {len(counts)} classes of {spread}{by}; "
        f"{val}{more}; short sides {sides}, {pictures.kinds}"
    )


def _experiment(draft: Draft) -> str:
    experiment = draft.experiment
    mfm, finetune = experiment.pretrain["mfm"], experiment.finetune
    small = "A small " * bool(experiment.model.options)
    return (
        f"Is mfm better than scratch trained as long? {small}{experiment.model.backbone} at "
        f"{draft.size} px: {draft.pretrainings} pretrainings of {mfm.epochs} epochs, each "
        f"finetuned for {finetune.epochs}; as many from scratch, and as many for as long as both"
    )


def _finds(draft: Draft) -> str:
    found = Findings(pretrainings=draft.pretrainings, deviation=draft.deviation)
    kind = "" if found.clear else f", suggestive at most with fewer than {fewest()} pretrainings"
    val = draft.pictures.images["val"]
    chance = f", most of it chance on {val:,} evaluation images" * (
        draft.deviation > 2 * findings.RETRAINED
    )
    return (
        f"differences of {found.smallest:.1f} points and more, with a probability of 80%{kind}; "
        f"smaller ones most likely not (assumed: a standard deviation of {draft.deviation:g} "
        f"points a run{chance})"
    )


def _more(planned: Planned) -> str:
    draft = planned.draft
    double = replace(draft, pretrainings=2 * draft.pretrainings)
    found = Findings(pretrainings=double.pretrainings, deviation=draft.deviation)
    seconds = cost_of(double, planned.speeds).seconds
    text = f"{double.pretrainings} pretrainings find {found.smallest:.1f}, in {duration(seconds)}"
    needed = found.for_points(findings.POINTS)
    if needed is None or needed > double.pretrainings:
        count = "more than 1,000" if needed is None else f"{needed}"
        text += f"; {findings.POINTS:g} points take {count}, or more evaluation images"
    return text


def _notes(planned: Planned) -> list[str]:
    draft, cost, speed = planned.draft, planned.cost, planned.speeds.pretrain
    beside = planned.speeds.beside(draft.machine.cores)
    found = [beside] * bool(beside)
    if draft.pictures.groups and draft.pictures.groups < draft.pictures.images["val"]:
        found.append(
            "images of a group are not independent: chance may be larger than is assumed here"
        )
    if draft.pictures.dataset.exif == "apply":
        found.append("pictures that ask by EXIF to be turned will be (dataset.exif)")
    if speed.load > speed.compute and draft.pictures.side > 2 * draft.size:
        found.append(
            f"reading the files takes {100 * speed.load / speed.image:.0f}% of the time: copies "
            f"with a short side of about {max(256, 2 * draft.size)} px would be read faster"
        )
    # On a GPU they have been side by side in its own memory, or fewer images at once were tried.
    if not draft.gpu and cost.memory > 0.8 * draft.machine.memory:
        found.append(
            f"the runs side by side take {_bytes(cost.memory)} of memory, and there are "
            f"{_bytes(draft.machine.memory)}: give fewer --cores"
        )
    if cost.most_disk > draft.machine.free:
        found.append(f"the disk has {_bytes(draft.machine.free)} free: set results elsewhere")
    return found


def _bytes(number: float) -> str:
    return f"{number / 1e9:,.1f} GB" if number >= 1e9 else f"{max(1, number / 1e6):,.0f} MB"


def reasons(planned: Planned) -> dict[str, str]:
    """Why the choices are as they are, by key."""
    draft = planned.draft
    val, bad = draft.pictures.images["val"], draft.pictures.dataset.on_bad_image == "skip"
    flip = "0 where left and right differ (digits, text)."
    found = {
        "seeds": "as many as pretrainings, each of which is finetuned once.",
        "question": "is the pretraining worth its time? Scratch alone costs less.",
        "question.deviation": f"assumed: {findings.RETRAINED:g} points between trainings, and "
        f"chance on {100 * findings.UNDECIDED:.0f}% of {val:,} evaluation images.",
        "dataset.image_size": _why_size(draft),
        "dataset.on_bad_image": "some can't be read, which stand there already."
        if bad
        else "all files can be read.",
        "loader": _why_loader(draft),
        "model": _why_model(draft),
        "pretrain.mfm.radius": f"null is {16 * draft.size / 224:.2g}.",
        "pretrain.mfm.seeds": _why_pretrainings(draft),
        "pretrain.mfm.epochs": _why_epochs(draft, "pretrain"),
        "pretrain.mfm.precision": f"{planned.speeds.pretrain.number_format} on this machine.",
        "pretrain.mfm.crop.flip": flip,
        "arms": "no supervised arm, because a pretraining on the same labels says nothing new; no "
        "control such as autoencode (docs/rivals.md), which costs as much as mfm.",
        "arms.scratch-long": "the arm of equal cost, which the question is about.",
        "finetune.epochs": _why_epochs(draft, "finetune"),
        "finetune.images_per_class": "all of them: what you have is what you ask about.",
        "evaluate.batch": "no more than there are images: a last batch is filled up.",
        "frozen": "seconds on so many pixels."
        if draft.floors
        else "on so many pixels, logistic regression takes too long; {} turns it on.",
    }
    if draft.gpu:
        found |= {
            f"{key}.micro_batch": f"a step takes {speed.memory:,.0f} MB of the GPU's memory."
            for key, speed in {
                "pretrain.mfm": planned.speeds.pretrain,
                "finetune": planned.speeds.finetune,
            }.items()
        }
    if draft.pictures.dataset.exif == "apply":
        found["dataset.exif"] = "some ask for it, as telephones' pictures do."
    if isinstance(draft.pictures.dataset.scale, tuple):
        found["dataset.scale"] = (
            "only pictures that are not trained on with labels have more than 8 bits, and this is "
            "all that 16 bits can say."
        )
    elif draft.pictures.dataset.scale is not None:
        found["dataset.scale"] = (
            f"pictures have more than 8 bits, and {in_words(draft.pictures.report['window'])} are "
            "nearly all values of the training images; range leaves none out."
        )
    if draft.pictures.dataset.channels is not None:
        found["dataset.channels"] = "as the first NumPy file or TIFF of many channels has."
        if draft.experiment.model.channels != 3:
            found["finetune.mean"] = "of each channel, the mean of these three; std alike."
    if draft.pictures.dataset.val_fraction is not None:
        found["dataset.val_fraction"] = (
            f"{val:,} images; a fifth, or of few images more, so that chance decides less."
        )
    return found


def _why_size(draft: Draft) -> str:
    side = f"the images' short side is {draft.pictures.side} px (median)"
    if fitting_size(draft.pictures.side, gpu=True) > draft.size:
        return f"{side}, and there is time for less."
    return f"{side}; of {', '.join(map(str, SIZES))} the largest that hardly enlarges them."


def _why_model(draft: Draft) -> str:
    if draft.gpu:
        return "a standard network, which a GPU has time for."
    return (
        "one block a stage and half the channels: a CPU trains it about 8 times as fast as the "
        "standard network, and few images don't fill more."
    )


def _why_pretrainings(draft: Draft) -> str:
    wanted = findings.pretrainings(draft.pictures.images["val"])
    clear = f"{fewest()} or more, so that an answer can be clear"
    if draft.pretrainings < wanted:
        return f"{clear}; cut for the time."
    return f"{clear}; at most {findings.MOST_PRETRAININGS}, to find {findings.POINTS:g} points."


def _why_epochs(draft: Draft, stage: str) -> str:
    batch, epochs = draft.batch(stage), draft.epochs(stage)
    pictures = draft.pictures
    images = pictures.pretraining_images if stage == "pretrain" else pictures.images["train"]
    steps = images // batch * epochs
    return f"{steps:,} steps of {batch}, {images // batch} to a pass."


def _why_loader(draft: Draft) -> str:
    if draft.loader == "dali":
        return "faster than torchvision in the steps timed here."
    return "dali is for large JPEGs." if draft.pictures.jpegs < 0.9 else ""
