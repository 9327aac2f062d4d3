"""Export any classification dataset of torchvision to class folders.

The dataset's own class tells what it needs: how its training and evaluation images are asked for
(`train=` or `split=`), whether it downloads, and whether it reads its files through a `loader`.
Where it does, the files themselves are linked; otherwise its Pillow images are written as PNGs.
"""

from __future__ import annotations

import inspect
import os
import re
import shutil
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from mfm.data.sources.torchvision_names import SPLITS, TORCHVISION
from mfm.errors import UserError, one_line
from mfm.processes.pool import stream_in_processes

_LINKED = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
_PNG_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")
_FAILURES = (OSError, RuntimeError, ImportError, EOFError, tarfile.TarError, zipfile.BadZipFile)
Sample = str | Image.Image


def export(source: str, root: Path, folder: Path) -> None:
    """Write folder/{train,val}/<number>-<class>/<number>.<suffix>, in the dataset's own order.

    `root` is where torchvision keeps the dataset, and downloads it to. 'val' is the dataset's
    'val' split if it has one, and else its 'test' split.

    Raises UserError for a dataset that isn't there and can't be downloaded, one without splits of
    its own, and one whose items aren't an image and a class.
    """
    from torchvision import datasets  # takes seconds, and is seldom needed

    kind = getattr(datasets, source.removeprefix(TORCHVISION))
    for split in ("train", "val"):
        dataset = _create(source, kind, split, root)
        for done in stream_in_processes(
            _write,
            _samples(source, dataset, folder / split),
            count=len(dataset),
            title=f"export {split}",
        ):
            del done


def _create(source: str, kind: type, split: str, root: Path) -> Any:
    """The dataset object of one of our two splits."""
    own = inspect.signature(kind).parameters
    options: dict[str, Any] = {"root": str(root)}
    if "download" in own:
        options["download"] = True
    passes_on = any(p.kind is p.VAR_KEYWORD for p in own.values())
    if "loader" in own or (passes_on and _inherits(kind, "loader")):
        options["loader"] = str  # leaves the path of the file that would be read
    if "train" in own or (passes_on and _inherits(kind, "train")):
        choices: list[dict[str, Any]] = [{"train": split == "train"}]
    elif "split" in own:
        choices = [{"split": name} for name in SPLITS[split]]
    else:
        choices = []
    refusals = []
    root.mkdir(parents=True, exist_ok=True)
    for choice in choices:
        try:
            return kind(**options, **choice)
        except (TypeError, ValueError) as error:
            if isinstance(error, ValueError) and "for argument" not in str(error):
                # It knows the split, and has other objections.
                raise UserError(_unavailable(source, kind, {**options, **choice}, error)) from None
            refusals.append(one_line(error))
        except _FAILURES as error:
            raise UserError(_unavailable(source, kind, {**options, **choice}, error)) from None
    raise UserError(
        f"dataset.source: {source} has no {' or '.join(SPLITS[split])} split of its own"
        f"{f' ({refusals[-1]})' if refusals else ''}; export it into train/<class>/ and "
        "val/<class>/ yourself"
    )


def _inherits(kind: type, name: str) -> bool:
    return any(name in inspect.signature(base).parameters for base in kind.__mro__[1:-1])


def _unavailable(source: str, kind: type, options: dict[str, Any], error: BaseException) -> str:
    reason = f"{type(error).__name__}: {one_line(error)}"[:200]
    if isinstance(error, ImportError):
        return f"dataset.source: {source} needs another package ({reason}); install it"
    words = [
        f"{name}={value!r}" for name, value in options.items() if name not in ("root", "loader")
    ]
    call = f"datasets.{kind.__name__}({', '.join(['root', *words])})"
    how = (
        f"it is downloaded once, so this machine needs a network; or make {call} of torchvision "
        "where there is one"
        if "download" in options
        else f"torchvision does not download it: prepare a root for which {call} works"
    )
    return (
        f"dataset.source: {source} is neither in {options['root']} nor could it be fetched "
        f"({reason}); {how}, and set dataset.archives to a copy of that root"
    )


def _samples(source: str, dataset: Any, folder: Path) -> Iterator[tuple[Sample, Path]]:
    """Each image, and its file to write without the suffix."""
    names = getattr(dataset, "classes", None)
    digits = len(str(len(dataset) - 1))
    for index in range(len(dataset)):
        sample, label = dataset[index]
        try:
            label = label.__index__()
        except (AttributeError, TypeError):
            raise UserError(
                f"dataset.source: {source} labels an image with {type(label).__name__} and not "
                "with one class; choose a classification dataset"
            ) from None
        if not isinstance(sample, str | Image.Image):
            raise UserError(
                f"dataset.source: {source} gives {type(sample).__name__} and not images"
            )
        yield sample, folder / _class_folder(label, names) / f"{index:0{digits}d}"


def _class_folder(label: int, names: Any) -> str:
    """Sorts as the labels do, and says the class where the dataset does."""
    if names is None:
        return f"{label:04d}"
    name = names[label]
    name = name if isinstance(name, str) else name[0]  # several names of one class
    words = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    return f"{label:0{len(str(len(names) - 1))}d}-{words}"


def _write(job: tuple[Sample, Path]) -> None:
    sample, target = job
    target.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(sample, str):
        suffix = Path(sample).suffix.lower()
        if suffix in _LINKED:
            _link(Path(sample), target.with_name(target.name + suffix))
            return
        with Image.open(sample) as image:
            image.load()
        sample = image
    if sample.mode not in _PNG_MODES:
        sample = sample.convert("RGB")
    sample.save(target.with_name(target.name + ".png"), "PNG", compress_level=1)


def _link(file: Path, target: Path) -> None:
    try:
        os.link(file.resolve(), target)
    except OSError:  # another file system, or one without links
        shutil.copyfile(file, target)
