"""`dataset.md`, from the facts that `mfm.report.dataset` found."""

from __future__ import annotations

from typing import Any

from mfm.reporting.markdown import markdown_row

_SHOWN = 20
_TITLES = {
    "train": "train",
    "holdout": "holdout (set aside from train)",
    "val": "val",
    "pretrain": "pretrain (unlabelled)",
}
_CLIPPED = ("I;16", "I;16L", "I;16B", "I", "F")
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
_FEW = 2000  # images of val below which one of them moves top-1 by 0.05 points or more
Report = dict[str, Any]


def render(report: Report) -> str:
    """The whole report as Markdown."""
    warnings = _warnings(report)
    return "\n".join(
        [
            f"# Dataset {report['name']}",
            "",
            f"From {report['source']}. Counts are of all images; what needs pixels is measured on "
            "a sample.",
            "",
            "## To look at",
            "",
            *([f"- {line}" for line in warnings] or ["Nothing."]),
            "",
            *_images(report),
            *_classes(report),
            *_pixels(report),
            *_left_out(report),
            *_identical(report),
        ]
    )


def _warnings(report: Report) -> list[str]:
    lines = []
    for name, (what, why) in _IDENTICAL.items():
        if number := report["identical"]["across"].get(name):
            lines.append(f"**Images of {what}: {number:,}** ({why}).")
    if contradicting := report["identical"]["contradicting_in_train"]:
        lines.append(f"Training images that also lie in another class of train: {contradicting:,}.")
    for name, split in report["splits"].items():
        for modes, what, why in (
            (_CLIPPED, "more than 8 bits a pixel", "Pillow's conversion clips them at 255"),
            (_TRANSPARENT, "transparency", "it is dropped: hidden colours show"),
        ):
            if number := sum(split["modes"].get(mode, 0) for mode in modes):
                lines.append(
                    f"Images of {name} with {what}: {number:,} ({why}; convert them yourself if "
                    "that is wrong)."
                )
        if split["smaller"]:
            lines.append(
                f"Images of {name} with a side below {report['image_size']} pixels, to be "
                f"enlarged: {split['smaller']:,}."
            )
    if (number := report["splits"]["val"]["images"]) < _FEW:
        lines.append(
            f"val has only {number:,} images: each is {100 / number:.2g} points of top-1, so only "
            "large differences will show."
        )
    for name, sample in report["sample"].items():
        if sample["rotated_by_exif"]:
            lines.append(
                f"Sampled images of {name} that ask by EXIF to be turned: "
                f"{sample['rotated_by_exif']} of {sample['images']}; they are not, as in "
                "torchvision."
            )
    if number := report["misnamed"]["number"]:
        shown = ", ".join(report["misnamed"]["listed"][:3])
        lines.append(
            f"Files of another format than their name says: {number:,} ({shown}"
            f"{', ...' * (number > 3)}); they are read by their content."
        )
    unreadable = sum(
        number for kind, number in _left_out_kinds(report).items() if kind != "not an image"
    )
    if unreadable:
        lines.append(f"Unreadable images, left out (see below): {unreadable:,}.")
    return lines


def _left_out_kinds(report: Report) -> dict[str, int]:
    kinds: dict[str, int] = report["left_out"]["kinds"]
    return kinds


def _table(header: list[str], rows: list[list[str]]) -> list[str]:
    return [
        markdown_row(header),
        markdown_row(["---"] * len(header)),
        *(markdown_row(r) for r in rows),
        "",
    ]


def _images(report: Report) -> list[str]:
    rows = [
        [
            _TITLES[name],
            f"{split['images']:,}",
            f"{split['bytes'] / 1e6:,.1f} MB",
            _spread(split["width"]),
            _spread(split["height"]),
            _named_counts(split["modes"]),
            _named_counts(split["formats"]),
        ]
        for name, split in report["splits"].items()
    ]
    header = ["split", "images", "files", "width (px)", "height (px)", "modes", "formats"]
    return [
        "## Images",
        "",
        *_table(header, rows),
        "Widths and heights: smallest, 1%, median, 99%, largest. Modes are Pillow's (L is grey); "
        "every image is converted to RGB.",
        "",
    ]


def _classes(report: Report) -> list[str]:
    rows = []
    for name, split in report["splits"].items():
        if "classes" in split:
            classes = split["classes"]
            equal = classes["per_class"]["min"] == classes["per_class"]["max"]
            smallest, largest = (_named_counts(classes[key]) for key in ("smallest", "largest"))
            rows.append(
                [
                    _TITLES[name],
                    f"{classes['number']:,}",
                    _spread(classes["per_class"]),
                    f"{classes['per_class']['max'] / classes['per_class']['min']:.3g}",
                    *(["all equal"] * 2 if equal else [smallest, largest]),
                    f"{100 * classes['largest_share']:.2f}%",
                ]
            )
    header = ["split", "classes", "images a class", "largest / smallest", "smallest", "largest"]
    return [
        "## Classes",
        "",
        *_table([*header, "share of the largest"], rows),
        "train and val have the same classes; linking stops where they differ. The share of the "
        "largest class in val is the accuracy of always answering it.",
        "",
    ]


def _pixels(report: Report) -> list[str]:
    lines = ["## Pixels, on a sample", ""]
    rows = [
        [f"{sample['images']} images of {name}", _triple(sample["mean"]), _triple(sample["std"])]
        for name, sample in report["sample"].items()
    ]
    rows += [
        [f"constants of `{name}`", _triple(constants["mean"]), _triple(constants["std"])]
        for name, constants in report["normalisations"].items()
    ]
    lines += _table(["values in [0, 1], by channel (R, G, B)", "mean", "standard deviation"], rows)
    rows = [
        [
            f"{recipe} ({name})",
            str(found["size"]),
            f"{found['radius']:.3g}",
            f"{found['scaled_radius']:.3g}",
            _percent(found["energy_inside"]),
            _percent(found["contrast_inside"]),
        ]
        for name, sample in report["sample"].items()
        for recipe, found in sample["recipes"].items()
    ]
    if rows:
        header = [
            "pretraining (images)",
            "size (px)",
            "radius",
            "16 at 224 px, scaled to this size",
        ]
        lines += _table([*header, "energy inside the radius", "without the mean"], rows)
        lines += [
            "Energy: of the recipe's target, the sum of squared magnitudes over frequencies, as a "
            "mean of the images' shares. Where nearly all of it lies inside the radius, the "
            "low-pass input leaves little to predict; where little does, the high-pass input.",
            "",
        ]
    return lines


def _left_out(report: Report) -> list[str]:
    left_out = report["left_out"]
    if not left_out["number"]:
        return ["## Files left out", "", "None: every file in the class folders is an image.", ""]
    listed = [
        f"- {row['path']}: {row['kind']}" + f" ({row['reason']})" * (row["reason"] != row["kind"])
        for row in left_out["listed"][:_SHOWN]
    ]
    if left_out["number"] > len(listed):
        listed.append(f"- and {left_out['number'] - len(listed):,} more, in dataset.json")
    return ["## Files left out", "", f"{_named_counts(left_out['kinds'])}.", "", *listed, ""]


def _identical(report: Report) -> list[str]:
    found = report["identical"]
    lines = ["## Files that are identical", "", "Byte for byte, by a hash of their content.", ""]
    across = found["across"].items()
    lines += [f"- copies within train, beside the first of each: {found['copies_in_train']:,}"]
    lines += [f"- {name.replace(' in ', ' that are also in ')}: {n:,}" for name, n in across]
    groups = found["groups"]
    for paths in groups["listed"][:_SHOWN]:
        lines.append(f"  - {' = '.join(paths[:4])}{' = ...' * (len(paths) > 4)}")
    if groups["number"] > _SHOWN:
        lines.append(f"  - and {groups['number'] - _SHOWN:,} more groups; see dataset.json")
    return [*lines, ""]


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
