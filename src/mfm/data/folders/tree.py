"""Tree of a dataset's folder: its classes and files by their names, before any is opened."""

from __future__ import annotations

import math
import os
import time
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from mfm.data.folders.class_names import unknown
from mfm.data.folders.left_out import SYSTEM, is_systems
from mfm.data.folders.shards import Shards, tars_in
from mfm.data.folders.shards import read as read_shards
from mfm.data.pictures.contents import Member
from mfm.data.pictures.headers import Unread
from mfm.errors import UserError
from mfm.files.lines import few, shown

UNLABELLED = "pretrain"  # the split of images at any depth, without class folders
Counts = Counter[tuple[str, str]]  # of files or images, by split and class ('' where unlabelled)


class Found(NamedTuple):
    """One file of the folder, before it is read."""

    split: str
    path: str  # below the dataset's folder, with '/'
    label: int
    name: str  # of the class
    is_loose: bool = False  # beside the class folders
    group: str = ""  # of images that belong together
    member: Member | None = None  # of a shard, whose name begins with the split as the path does


@dataclass
class Tree:
    """The folder's classes, how many files each has, and what is wrong already."""

    roots: Mapping[str, Path]  # of each split
    classes: list[str]
    loose: list[tuple[str, str]]  # split and path of each file beside the class folders
    counts: Counts = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    closed: set[str] = field(default_factory=set)  # folders that can't be read
    # What a file of labels lists, in order, where it isn't the folders that say so.
    listed: Sequence[Found] | None = None
    has_groups: bool = False
    shards: Mapping[str, Shards] = field(default_factory=dict)  # of splits that lie in tars

    def at(self, path: str) -> Path:
        """Where a path, which begins with its split, lies."""
        split, _, rest = path.partition("/")
        return self.roots[split] / rest

    def shown(self, path: str) -> str:
        """Where it lies, for people: in their folder, and not in the one that links to it."""
        split, _, rest = path.partition("/")
        if rest and split in self.shards:
            return self.shards[split].shown(path)
        return shown(Path(os.path.realpath(self.roots[split]), rest))

    def files(self) -> Iterator[Found]:
        """Every file that is to be read, in the order of the splits, then of the path's parts.

        Those beside the class folders come first.
        """
        for split, path in self.loose:
            yield Found(split, path, -1, "", is_loose=True)
        for found, is_left in self.walk(self._raise, with_shards=True):
            if not is_left:
                yield found

    def _raise(self, start: str, fault: str) -> None:
        if start not in self.closed:  # and told of already
            raise UserError(f"{self.shown(start)} {fault}")

    def walk(
        self, tell: Callable[[str, str], None], *, with_shards: bool
    ) -> Iterator[tuple[Found, bool]]:
        """Every file or folder, and whether it is one that an operating system left.

        `tell` is called with a folder that can't be walked through, and why.
        """
        for found in self.listed or ():
            yield found, False
        for split in self.roots:
            if split not in self.shards:
                for label, name, start in self._starts(split):
                    for path, is_left in _walk(self, start, (), tell):
                        yield Found(split, path, label, name), is_left
            elif with_shards:
                for each in self._in_shards(split):
                    yield each, False

    def _in_shards(self, split: str) -> Iterator[Found]:
        labels = {name: label for label, name in enumerate(self.classes)}
        for path, name, member in self.shards[split].files():
            is_loose = split != UNLABELLED and not name
            yield Found(split, path, labels.get(name, -1), name, is_loose, member=member)

    def starts(self) -> Iterator[tuple[str, str, str]]:
        """(split, class, folder) of all that there is to walk through, in order."""
        for split in self.roots:
            for _, name, start in self._starts(split):
                yield split, name, start

    def _starts(self, split: str) -> Iterator[tuple[int, str, str]]:
        if split == UNLABELLED:
            yield -1, "", split
        elif self.listed is None:
            names = set(self.shards[split].classes) if split in self.shards else None
            for label, name in enumerate(self.classes):
                if name in names if names is not None else (self.roots[split] / name).is_dir():
                    yield label, name, f"{split}/{name}"


def by_split(counts: Counts) -> dict[str, dict[str, int]]:
    """Numbers by split, then by class."""
    found: dict[str, dict[str, int]] = {}
    for (split, name), number in counts.items():
        found.setdefault(split, {})[name] = number
    return found


def survey(
    roots: Mapping[str, Path],
    leave_out: Callable[[str, Unread], None],
    *,
    classes: Sequence[str] | None = None,
    keep: Path | None = None,
    until: float = math.inf,
) -> Tree:
    """Look at the names below each split's root: <class>/ at any depth, and 'pretrain' without.

    Or in the tars of a split (`.shards`), of which what is read is kept in folder `keep`.
    `classes` are those that there may be, of which folders may lack some; None: the folders' own.
    Tells `leave_out` of what an operating system left there. Raises UserError for a missing folder,
    and TimeoutError where it takes longer than `until` (`time.monotonic`).
    """
    shards = read_shards(roots, unlabelled=UNLABELLED, keep=keep, until=until)
    tree = Tree(roots, classes=[], loose=[], shards=shards)
    names = {}
    for split in roots:
        if split in shards:
            names[split] = shards[split].class_names()
        elif split != UNLABELLED:
            names[split], beside, systems = _top(tree, split)
            tree.loose += ((split, path) for path in beside)
            for path in systems:
                leave_out(path, _SYSTEM_FILE)
    names.pop(UNLABELLED, None)
    if classes is None:
        tree.classes = sorted({name for each in names.values() for name in each})
        if len(names) > 1:
            both = f"{tree.shown('train')} and {tree.shown('val')}"
            tree.faults += differing(both, "classes" if shards else "class folders", names)
    else:
        tree.classes = list(classes)
        for split, each in names.items():
            tree.faults += unknown(Path(os.path.realpath(roots[split])), each, classes)
    count_files(tree, leave_out, until=until)
    return tree


def count_files(
    tree: Tree, leave_out: Callable[[str, Unread], None], *, until: float = math.inf
) -> None:
    """Count a tree's files by split and class, as `survey` does."""
    for split, shards in tree.shards.items():
        tree.counts += shards.counts()
        tree.faults += shards.faults
        beside, systems = shards.beside()
        tree.loose += ((split, f"{split}/{name}") for name in beside)
        for path in systems:
            leave_out(f"{split}/{path}", _SYSTEM_FILE)
    strange = [path for _, path in tree.loose if not _is_utf8(path)]

    def note(start: str, fault: str) -> None:
        tree.closed.add(start)
        tree.faults.append(f"{tree.shown(start)} {fault}")

    for found, is_left in tree.walk(note, with_shards=False):
        if time.monotonic() > until:
            raise TimeoutError
        if is_left:
            leave_out(found.path, _SYSTEM_FILE)
            continue
        tree.counts[found.split, found.name] += 1
        if not _is_utf8(found.path):
            strange.append(found.path)
    if strange:
        one = len(strange) == 1
        tree.faults.append(
            f"{few([tree.shown(path) for path in strange])}: the "
            f"{'name is' if one else 'names are'} not UTF-8; rename {'it' if one else 'them'}"
        )


_SYSTEM_FILE = Unread(SYSTEM, "hidden, or left there by an operating system")


def no_images(tree: Tree, counts: Counts, *, hint: str = "") -> list[str]:
    """A fault that names every class without any; the numbers may be of files or of images.

    `hint` says what else could be done.
    """
    starts = [
        (split, start)
        for split, name, start in tree.starts()
        if not counts[split, name] and start not in tree.closed
    ]
    if (UNLABELLED, UNLABELLED) in starts:
        return [f"{tree.shown(UNLABELLED)} has no images at any depth{hint}"]
    empty = [tree.shown(start) for _, start in starts]
    if not empty:
        return []
    one = len(empty) == 1
    where = " from train and val" * ({"train", "val"} <= tree.roots.keys())
    return [
        f"class folder{'s' * (not one)} {few(empty)} {'has' if one else 'have'} no images; add "
        f"some or remove {'it' if one else 'them'}{where}{hint}"
    ]


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _top(tree: Tree, split: str) -> tuple[list[str], list[str], list[str]]:
    """Names of a split's classes; paths of loose files, and of what an operating system left."""
    if not tree.at(split).is_dir():
        raise UserError(f"{tree.shown(split)} is missing: the dataset needs train/ and val/")
    classes, loose, systems = [], [], []
    try:
        with os.scandir(tree.at(split)) as entries:
            found = sorted((entry.name, _is_folder(entry)) for entry in entries)
    except OSError as error:
        raise UserError(f"{tree.shown(split)} can't be read: {error.strerror}") from None
    for name, is_folder in found:
        path = f"{split}/{name}"
        if is_systems(name):
            systems.append(f"{path}/" if is_folder else path)
        elif is_folder:
            classes.append(name)
        elif tree.at(path).is_symlink() and not os.path.exists(tree.at(path)):
            target = shown(os.readlink(tree.at(path)))
            tree.faults.append(
                f"{tree.shown(path)} is a link to {target}, which isn't there; mend or remove it"
            )
        else:
            loose.append(path)
    if not classes and not tree.faults:
        name = shown(os.path.basename(os.path.realpath(tree.roots[split])))
        raise UserError(
            f"{tree.shown(split)} has no class folders; put its images in {name}/<class>/<image>"
        )
    return classes, loose, systems


def differing(where: str, what: str, names: Mapping[str, Collection[str]]) -> list[str]:
    """A fault that names the classes that one split lacks, both sides of it."""
    train, val = (set(each) for each in names.values())
    if train == val:
        return []
    only = {"train": sorted(train - val), "val": sorted(val - train)}
    both = only["train"] + only["val"]
    # Names that look alike are told apart by their escapes.
    alike = len({unicodedata.normalize("NFC", name) for name in both}) < len(both)
    parts = [
        f"only {split} has {few([ascii(name) if alike else quoted(name) for name in each])}"
        for split, each in only.items()
        if each
    ]
    hint = " (the same letters in two Unicode forms, NFC and NFD)" if alike else ""
    return [f"{where} need the same {what}: {', '.join(parts)}{hint}"]


def quoted(name: str) -> str:
    """A class's name in quotation marks, so that a space at its end is seen."""
    return f"'{shown(name)}'"


def class_folders(root: Path) -> list[str]:
    """Names of the class folders of a folder that is no dataset's own."""
    if tars_in(root):
        raise UserError(f"{shown(root)} holds tars, and only a dataset's own may: unpack them")
    return _top(Tree({"val": root}, classes=[], loose=[]), "val")[0]


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads back to itself
        return False


def _walk(
    tree: Tree,
    start: str,
    above: tuple[tuple[int, int], ...],
    tell: Callable[[str, str], None],
) -> Iterator[tuple[str, bool]]:
    """Paths below `start` in the order of their parts, and whether a system left them there.

    Links are followed, as by torchvision's ImageFolder. One folder's names are in memory at once.
    """
    try:
        status = os.stat(tree.at(start))
        here = (status.st_dev, status.st_ino)
        if here in above:
            tell(start, "lies in itself by a link; remove that link")
            return
        with os.scandir(tree.at(start)) as entries:
            names = sorted((entry.name, _is_folder(entry)) for entry in entries)
    except OSError as error:
        tell(start, f"can't be read: {error.strerror}")
        return
    for name, is_folder in names:
        path = f"{start}/{name}"
        if is_systems(name):
            yield f"{path}/" if is_folder else path, True
        elif is_folder:
            yield from _walk(tree, path, (*above, here), tell)
        else:
            yield path, False
