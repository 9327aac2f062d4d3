"""Packing of folders of images into shards: plain tars, of the same bytes each time."""

from __future__ import annotations

import os
import shutil
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from mfm.data.folders.shards import tars_in
from mfm.data.folders.tree import UNLABELLED, Tree, count_files
from mfm.errors import UserError, several
from mfm.files.atomic import sync_folder
from mfm.files.lines import shown

_SPLITS = ("train", "val")
_BLOCK = 512


def pack(folder: Path, out: Path, *, size: int) -> dict[str, tuple[int, int]]:
    """Write the files of a folder to out/000000.tar, ...; how many files and tars, by split.

    Of a folder that holds train/, its train/ and val/ to tars each. Every file below is packed, as
    <class>/<image> or whatever its path is, but for what operating systems leave; no tar is larger
    than `size` bytes unless it has a single file. Raises UserError for what can't be packed, and
    for an `out` that is there.
    """
    if not folder.is_dir():
        raise UserError(f"there is no folder {shown(folder)}")
    if out.is_symlink() or (out.exists() and not (out.is_dir() and not any(out.iterdir()))):
        raise UserError(f"{shown(out)} is there, and nothing is overwritten: name a new folder")
    if out.resolve().is_relative_to(folder.resolve()):
        raise UserError(f"{shown(out)} lies in {shown(folder)}, and would be one of its classes")
    splits = [split for split in _SPLITS if (folder / split).is_dir()]
    roots = {split: folder / split for split in splits} if "train" in splits else {"": folder}
    trees = {split: _tree(root) for split, root in roots.items()}
    temporary = out.with_name(f".{out.name}.tmp-{os.getpid()}")
    try:
        found = {split: _pack(tree, temporary / split, size) for split, tree in trees.items()}
        os.replace(temporary, out)
        sync_folder(out.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return found


def _tree(root: Path) -> Tree:
    """All files below a folder."""
    if tars_in(root):
        raise UserError(f"{shown(root)} holds tars already")
    tree = Tree({UNLABELLED: root}, classes=[], loose=[])
    count_files(tree, lambda path, unread: None)
    if tree.faults:
        raise several(tree.faults)
    if not tree.counts.total():
        raise UserError(f"{shown(root)} has no files at any depth")
    return tree


def _pack(tree: Tree, out: Path, size: int) -> tuple[int, int]:
    out.mkdir(parents=True)
    files, tars, tar, room = 0, 0, None, 0
    count = tree.counts.total()
    with tqdm(total=count, desc="pack", mininterval=2) as bar:
        for name, path in _files(tree):
            with open(path, "rb") as file:
                member = _member(name, os.fstat(file.fileno()).st_size)
                taken = _size(member)
                if tar is None or taken > room:
                    if tar is not None:
                        _close(tar)
                    # Open until it is full, over many files.
                    tar = tarfile.open(  # noqa: SIM115
                        out / f"{tars:06d}.tar", "w", format=tarfile.PAX_FORMAT, encoding="utf-8"
                    )
                    tars, room = tars + 1, size - tarfile.RECORDSIZE
                tar.addfile(member, file)
            # A million of them would fill the memory; the library's types don't know the list.
            tar.members.clear()  # type: ignore[attr-defined]
            files, room = files + 1, room - taken
            bar.update()
    assert tar is not None
    _close(tar)
    return files, tars


def _files(tree: Tree) -> Iterator[tuple[str, str]]:
    """Each file's name in a tar, and its path."""
    for found in tree.files():
        path = str(tree.at(found.path))
        try:
            kind = os.stat(path).st_mode
        except OSError as error:
            raise UserError(
                f"{tree.shown(found.path)} can't be read: {error.strerror}; mend or remove it"
            ) from None
        if not stat.S_ISREG(kind):
            raise UserError(f"{tree.shown(found.path)} is no file; remove it")
        yield found.path.removeprefix(f"{UNLABELLED}/"), path


def _member(name: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size = size
    return member


def _size(member: tarfile.TarInfo) -> int:
    """Bytes that a member takes in a tar."""
    header = _BLOCK
    if len(member.name) > tarfile.LENGTH_NAME or not member.name.isascii():
        header = len(member.tobuf(tarfile.PAX_FORMAT, "utf-8"))
    return header + -(-member.size // _BLOCK) * _BLOCK


def _close(tar: tarfile.TarFile) -> None:
    """Write a tar's end, to the disk."""
    tar.close()
    with open(str(tar.name), "rb+") as file:
        os.fsync(file.fileno())
