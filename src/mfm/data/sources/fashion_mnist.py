"""The built-in Fashion-MNIST: find or fetch its four files, export them as PNG class folders.

60,000 + 10,000 grey images of 28x28 pixels in 10 classes; Xiao, Rasul, Vollgraf 2017, MIT
licence, https://github.com/zalandoresearch/fashion-mnist
"""

from __future__ import annotations

import gzip
import hashlib
import shutil
import subprocess
import tempfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from mfm.errors import UserError, one_line
from mfm.processes.pool import map_in_processes

CLASSES = (
    "0-t-shirt-top",
    "1-trouser",
    "2-pullover",
    "3-dress",
    "4-coat",
    "5-sandal",
    "6-shirt",
    "7-sneaker",
    "8-bag",
    "9-ankle-boot",
)
DEBIAN_PACKAGE = "dataset-fashion-mnist"
TRAINING_IMAGES = 6000  # of each class
_DEBIAN_FOLDER = Path("usr/share/datasets/fashion-mnist")

# MD5 of the unpacked content: Debian packs the same bytes with another gzip header than the
# original archives, so the packed files' sums differ between the sources.
_MD5 = {
    "train-images-idx3-ubyte.gz": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
    "train-labels-idx1-ubyte.gz": "9018921c3c673c538a1fc5bad174d6f9",
    "t10k-images-idx3-ubyte.gz": "8181f5470baa50b63fa0f6fddb340f0a",
    "t10k-labels-idx1-ubyte.gz": "15d484375f8d13e6eb1aabb0c3f46965",
}
Contents = dict[str, bytes]


def read(folder: Path) -> Contents:
    """Unpacked content of the four files in `folder`, each with its MD5 checked.

    Raises UserError that names the file that is missing or damaged.
    """
    contents: Contents = {}
    for name, md5 in _MD5.items():
        try:
            contents[name] = gzip.decompress((folder / name).read_bytes())
        except FileNotFoundError:
            raise UserError(f"{folder} has no {name}") from None
        except (OSError, EOFError, zlib.error) as error:
            raise UserError(f"{folder / name} is damaged: {error}") from None
        found = hashlib.md5(contents[name], usedforsecurity=False).hexdigest()
        if found != md5:
            raise UserError(f"{folder / name} has MD5 {found} (unpacked), expected {md5}")
    return contents


def find_or_fetch(*, archives: str | None, downloads: Path) -> Contents:
    """The four files, from the first of four places that has them.

    A configured folder (which then has to be right), an installed Debian package, torchvision's
    downloader, and the Debian package fetched and unpacked without root.
    """
    if archives is not None:
        return read(Path(archives).expanduser())
    ways: list[tuple[str, Callable[[], Contents]]] = [
        (f"the installed Debian package {DEBIAN_PACKAGE}", lambda: read("/" / _DEBIAN_FOLDER)),
        ("torchvision's download", lambda: _from_torchvision(downloads)),
        (f"apt-get download {DEBIAN_PACKAGE}", lambda: _from_apt(downloads)),
    ]
    failures = []
    for name, way in ways:
        try:
            contents = way()
        except (UserError, OSError, RuntimeError, subprocess.SubprocessError) as error:
            failures.append(f"{name} ({one_line(error)[:160]})")
        else:
            print(f"Fashion-MNIST from {name}", flush=True)
            return contents
    raise UserError(
        "Fashion-MNIST is not here and could not be fetched. Set dataset.archives to a folder "
        f"with {', '.join(_MD5)}, or run 'apt-get install {DEBIAN_PACKAGE}', or give this machine "
        "a network for torchvision's download, or apt-get a Debian mirror. Tried: "
        + "; ".join(failures)
    )


def _from_torchvision(downloads: Path) -> Contents:
    folder = downloads / "FashionMNIST" / "raw"
    if not all((folder / name).exists() for name in _MD5):
        from torchvision.datasets import FashionMNIST  # takes seconds, and is seldom needed

        FashionMNIST(str(downloads), download=True)
    return read(folder)


def _from_apt(downloads: Path) -> Contents:
    """Fetch with apt's state in a folder of our own: needs no root and changes no system list."""
    for tool in ("apt-get", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise UserError(f"no {tool} on this machine")
    # The tools run in a folder of their own, where a relative path would mean another place.
    downloads = downloads.resolve()
    downloads.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=downloads) as name:
        folder = Path(name)
        options = []
        for key, subfolder in (("Dir::State::Lists", "lists"), ("Dir::Cache", "cache")):
            (folder / subfolder / "partial").mkdir(parents=True)
            options += ["-o", f"{key}={folder / subfolder}"]
        for command in (["update"], ["download", DEBIAN_PACKAGE]):
            _run(["apt-get", *options, *command], folder)
        packages = list(folder.glob(f"{DEBIAN_PACKAGE}_*.deb"))
        if not packages:
            raise UserError("apt-get left no package")
        _run(["dpkg-deb", "-x", str(packages[0]), str(folder / "unpacked")], folder)
        return read(folder / "unpacked" / _DEBIAN_FOLDER)


def _run(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600)
    if done.returncode:
        raise UserError(f"{command[0]} failed: {done.stderr.strip()}")


def export(contents: Contents, folder: Path) -> None:
    """Write train/<class>/<number>.png and val/<class>/<number>.png below `folder`.

    The number is the image's position in the original file.
    """
    for split, prefix in (("train", "train"), ("val", "t10k")):
        images = _idx(contents[f"{prefix}-images-idx3-ubyte.gz"], offset=16).reshape(-1, 28, 28)
        labels = _idx(contents[f"{prefix}-labels-idx1-ubyte.gz"], offset=8)
        paths = [
            folder / split / CLASSES[label] / f"{number:05d}.png"
            for number, label in enumerate(labels)
        ]
        write_pngs(paths, images, title=f"export {split}")


def write_pngs(paths: list[Path], images: Iterable[npt.NDArray[np.uint8]], *, title: str) -> None:
    """Write each array as a PNG, with a progress bar."""
    for parent in {path.parent for path in paths}:
        parent.mkdir(parents=True, exist_ok=True)

    map_in_processes(_write_png, list(zip(paths, images, strict=True)), title=title)


def _write_png(job: tuple[Path, npt.NDArray[np.uint8]]) -> None:
    Image.fromarray(job[1]).save(job[0], compress_level=1)


def _idx(content: bytes, *, offset: int) -> npt.NDArray[np.uint8]:
    return np.frombuffer(content, np.uint8, offset=offset)
