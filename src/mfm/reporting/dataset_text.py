"""Text of the dataset's report, from the facts that `mfm.reporting.dataset` found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from mfm.data.folders.left_out import is_bad
from mfm.data.folders.tree import quoted
from mfm.data.pictures.headers import LOOSE
from mfm.data.pictures.opening import is_deep
from mfm.data.pictures.windows import in_words
from mfm.files.lines import shown
from mfm.reporting.document import (
    Block,
    Bold,
    Bullets,
    Code,
    Column,
    Paragraph,
    Section,
    Table,
    Text,
)
from mfm.reporting.render_markdown import to_markdown

_SHOWN = 20
_TITLES = {
    "train": "train",
    "holdout": "holdout (set aside from train)",
    "val": "val",
    "pretrain": "pretrain (unlabelled)",
}
_TRANSPARENT = ("RGBA", "LA", "PA", "La", "RGBa")
_IDENTICAL = {
    "val in train": ("val that are also in train", "their accuracy is remembered, not learned"),
    "val in holdout": ("val that are also in the holdout", "settings were chosen on them"),
    "val in pretrain": ("val that are also among the unlabelled images", "their look is known"),
    "holdout in train": ("the holdout that are also in train", "they don't choose well"),
    "holdout in pretrain": (
        "the holdout that are also among the unlabelled images",
        "their look is known",
    ),
}
_MOST = 0.6  # of val, above which top-1 says little of the other classes
_FEW = 2000  # images of val below which one of them moves top-1 by 0.05 points or more
Report = dict[str, Any]


def render(report: Report) -> str:
    """The whole report as Markdown."""
    return to_markdown(document(report))


def document(report: Report) -> Section:
    """The whole report."""
    lines = warnings(report)
    return Section(
        f"Dataset {report['name']}",
        [
            Paragraph(
                f"From {report['source']}. Counts are of all images; what needs pixels is measured "
                "on a sample."
            ),
            Section("To look at", [Bullets(lines) if lines else Paragraph("Nothing.")]),
            _images(report),
            _classes(report),
            _pixels(report),
            _left_out(report),
            _identical(report),
        ],
    )


def warnings(report: Report) -> list[Text]:
    """What may spoil a comparison; of a report without a sample of pixels what names say."""
    lines: list[Text] = []
    for name, (what, why) in _IDENTICAL.items():
        if number := report["identical"]["across"].get(name):
            lines.append((Bold(f"Images of {what}: {number:,}"), f" ({why})."))
    if contradicting := report["identical"]["contradicting_in_train"]:
        same = " = ".join(map(shown, report["identical"].get("contradicting", [])))
        lines.append(
            f"Training images that also lie in another class of train: {contradicting:,}"
            f"{f' ({same})' * bool(same)}."
        )
    lines += [*_of_looks(report), *_of_val(report)]
    turned = "they are" if report.get("exif") == "apply" else "they are not, as in torchvision"
    for name, sample in report.get("sample", {}).items():
        if sample["rotated_by_exif"]:
            lines.append(
                f"Sampled images of {name} that ask by EXIF to be turned: "
                f"{sample['rotated_by_exif']} of {sample['images']}; {turned} (dataset.exif)."
            )
        if several := sample.get("of_several_pictures"):  # facts of an earlier version lack it
            lines.append(
                f"Sampled images of {name} that are animated, or hold several pictures: "
                f"{several} of {sample['images']}; only the first one is "
                "used."
            )
    for key, what in (
        ("misnamed", "of another format than their name says"),
        ("without_ending", "whose name doesn't say that they are images"),
    ):
        if number := report.get(key, {"number": 0})["number"]:
            few = ", ".join(shown(path) for path in report[key]["listed"][:3])
            lines.append(
                f"Files {what}: {number:,} ({few}{', ...' * (number > 3)}); they are read by "
                "their content."
            )
    return [*lines, *_of_left_out(report)]


def _of_looks(report: Report) -> list[Text]:
    """What is unusual in each split's sizes and modes."""
    lines: list[Text] = []
    window, channels = report.get("window"), report.get("channels", 3)
    deep = "an earlier version clipped them at 255; set dataset.scale"
    if window:
        deep = f"{in_words(window)} become 0 to 255, and what is outside is cut off"
    transparent = "it is dropped: hidden colours show" if channels == 3 else "it is a channel"
    for name, split in report["splits"].items():
        if number := sum(n for mode, n in split["modes"].items() if is_deep(mode)):
            lines.append(f"Images of {name} with more than 8 bits a value: {number:,} ({deep}).")
        if number := sum(split["modes"].get(mode, 0) for mode in _TRANSPARENT):
            lines.append(
                f"Images of {name} with transparency: {number:,} ({transparent}; convert them "
                "yourself if that is wrong)."
            )
        if split["smaller"]:
            lines.append(
                f"Images of {name} with a side below {report['image_size']} pixels, to be "
                f"enlarged: {split['smaller']:,}."
            )
    return lines


def _of_val(report: Report) -> list[Text]:
    """What an accuracy on val doesn't say."""
    lines: list[Text] = []
    classes = report["splits"]["val"]["classes"]
    if (share := classes["largest_share"]) > _MOST:
        name = quoted(next(iter(classes["largest"])))
        lines.append(
            f"{_percent(share)} of the images of val are of class {name}: always answering it is "
            "right so often (question.metric: balanced_accuracy counts every class alike)."
        )
    if (number := report["splits"]["val"]["images"]) < _FEW:
        lines.append(
            f"val has only {number:,} images: each is {100 / number:.2g} "
            f"point{'s' * (number != 100)} of top-1, so only large differences will show."
        )
    if (groups := report["splits"]["val"].get("groups", number)) < number:
        lines.append(
            f"The {number:,} images of val are of {groups:,} groups: images of a group are not "
            "independent, so that they say less than as many of their own."
        )
    return lines


def _of_left_out(report: Report) -> list[Text]:
    """Images that are missing."""
    lines: list[Text] = []
    kinds: dict[str, int] = report["left_out"]["kinds"]
    unreadable = sum(number for kind, number in kinds.items() if is_bad(kind))
    if unreadable:
        first: dict[str, str] = {}  # of each kind
        for row in report["left_out"]["listed"]:
            if is_bad(row["kind"]):
                first.setdefault(row["kind"], f"{shown(row['path'])}: {row['reason']}")
        few = "; ".join(list(first.values())[:3])
        lines.append(f"Unreadable images, left out: {unreadable:,} ({few}).")
    if kinds.get(LOOSE):
        lines.append(
            f"Images beside the class folders, left out: {kinds[LOOSE]:,}; each "
            "belongs into its class's folder."
        )
    return lines


Split = tuple[str, Report]  # its name and its facts


def _splits(form: Callable[[Report], str]) -> Callable[[Split], str]:
    """A cell of a split's row."""
    return lambda split: form(split[1])


IMAGES: list[Column[Split]] = [
    Column("split", lambda split: _TITLES[split[0]]),
    Column("images", _splits(lambda split: f"{split['images']:,}")),
    Column("files", _splits(lambda split: f"{split['bytes'] / 1e6:,.1f} MB")),
    Column("width", _splits(lambda split: _spread(split["width"])), unit="px"),
    Column("height", _splits(lambda split: _spread(split["height"])), unit="px"),
    Column("modes", _splits(lambda split: _named_counts(split["modes"]))),
    Column("formats", _splits(lambda split: _named_counts(split["formats"]))),
]


_GROUPS: Column[Split] = Column("groups", _splits(lambda split: f"{split['groups']:,}"))


def _images(report: Report) -> Section:
    grouped = all("groups" in split for split in report["splits"].values())
    channels = report.get("channels", 3)
    becomes = (
        "is converted to RGB" if channels == 3 else f"has {channels} channel{'s' * (channels > 1)}"
    )
    return Section(
        "Images",
        [
            Table([*IMAGES, *[_GROUPS] * grouped], list(report["splits"].items())),
            Paragraph(
                "Widths and heights: smallest, 1%, median, 99%, largest. Modes are Pillow's (L is "
                f"grey); every image {becomes}."
            ),
        ],
    )


def _extreme(classes: Report, key: str) -> str:
    if classes["per_class"]["min"] == classes["per_class"]["max"]:
        return "all equal"
    return _named_counts(classes[key])


def _imbalance(classes: Report) -> str:
    return f"{classes['per_class']['max'] / classes['per_class']['min']:.3g}"


CLASSES: list[Column[Split]] = [
    Column("split", lambda split: _TITLES[split[0]]),
    Column("classes", _splits(lambda classes: f"{classes['number']:,}")),
    Column("images a class", _splits(lambda classes: _spread(classes["per_class"]))),
    Column("largest / smallest", _splits(_imbalance)),
    Column("smallest", _splits(lambda classes: _extreme(classes, "smallest"))),
    Column("largest", _splits(lambda classes: _extreme(classes, "largest"))),
    Column(
        "share of the largest", _splits(lambda classes: f"{100 * classes['largest_share']:.2f}%")
    ),
]


def _classes(report: Report) -> Section:
    splits = report["splits"].items()
    return Section(
        "Classes",
        [
            Table(CLASSES, [(name, all_["classes"]) for name, all_ in splits if "classes" in all_]),
            Paragraph(
                "train and val have the same classes; linking stops where they differ. The share "
                "of the largest class in val is the accuracy of always answering it."
            ),
        ],
    )


Values = tuple[Text, Report]  # what values are of, their mean and standard deviation
PIXELS: list[Column[Values]] = [
    Column("values in [0, 1], by channel (R, G, B of three)", lambda values: values[0]),
    Column("mean", lambda values: _triple(values[1]["mean"])),
    Column("standard deviation", lambda values: _triple(values[1]["std"])),
]


def _pixels(report: Report) -> Section:
    rows: list[Values] = [
        (f"{sample['images']} images of {name}", sample)
        for name, sample in report["sample"].items()
    ]
    rows += [
        (("constants of ", Code(name)), constants)
        for name, constants in report["normalisations"].items()
    ]
    blocks: list[Block] = [Table(PIXELS, rows)]
    # Pretrainings that say the same things of images stand in one table.
    groups: dict[tuple[Any, ...], list[Split]] = {}
    for split, sample in report["sample"].items():
        for name, said in sample["pretrainings"].items():
            alike = (tuple(said["constants"]), tuple(said["shares"]), said["note"])
            groups.setdefault(alike, []).append((f"{name} ({split})", said))
    for (constants, shares, note), said in groups.items():
        blocks.append(Table(_columns_of(constants, shares), said))
        if note:
            blocks.append(Paragraph(note))
    return Section("Pixels, on a sample", blocks)


def _columns_of(constants: Sequence[str], shares: Sequence[str]) -> list[Column[Split]]:
    """Of what pretrainings say of a sample."""

    def constant(name: str) -> Column[Split]:
        return Column(name, lambda row: str(row[1]["constants"][name]))

    def share(name: str) -> Column[Split]:
        return Column(name, lambda row: _percent(row[1]["shares"][name]))

    return [
        Column("pretraining (images)", lambda row: row[0]),
        Column("size", lambda row: str(row[1]["size"]), unit="px"),
        *(constant(name) for name in constants),
        *(share(name) for name in shares),
    ]


def _left_out(report: Report) -> Section:
    left_out, title = report["left_out"], "Files left out"
    if not left_out["number"]:
        return Section(title, [Paragraph("None: every file in the class folders is an image.")])
    listed: list[Text | Bullets] = []
    for kind, number in left_out["kinds"].items():
        rows = [row for row in left_out["listed"] if row["kind"] == kind][:_SHOWN]
        few: list[Text] = [
            f"{shown(row['path'])}"
            + f" ({row['reason']})" * (is_bad(kind) and row["reason"] != kind)
            for row in rows
        ]
        if number > len(rows):
            few.append(f"and {number - len(rows):,} more, in left_out.csv")
        listed += [f"{kind}: {number:,}", Bullets(few)]
    return Section(title, [Bullets(listed)])


def _identical(report: Report) -> Section:
    found = report["identical"]
    groups = found["groups"]
    listed = [
        f"{' = '.join(shown(path) for path in paths[:4])}{' = ...' * (len(paths) > 4)}"
        for paths in groups["listed"][:_SHOWN]
    ]
    if groups["number"] > _SHOWN:
        listed.append(f"and {groups['number'] - _SHOWN:,} more groups; see dataset.json")
    counts: list[Text | Bullets] = [
        f"copies within train, beside the first of each: {found['copies_in_train']:,}"
    ]
    counts += [
        f"{name.replace(' in ', ' that are also in ')}: {number:,}"
        for name, number in found["across"].items()
    ]
    return Section(
        "Files that are identical",
        [
            Paragraph("Byte for byte, by a hash of their content."),
            Bullets([*counts, Bullets(listed)]),
        ],
    )


def _spread(values: dict[str, float]) -> str:
    if values["min"] == values["max"]:
        return f"{values['min']:,}"
    return " ".join(f"{value:,.0f}" for value in values.values())


def _named_counts(counts: dict[str, int]) -> str:
    shown = [f"{name} {number:,}" for name, number in list(counts.items())[:8]]
    return ", ".join(shown) + ", ..." * (len(counts) > 8)


def _triple(values: list[float]) -> str:
    return ", ".join(f"{value:.3f}" for value in values)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}%"
