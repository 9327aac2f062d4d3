"""Weights of timm, by their name: timm/resnet50.a1_in1k, a file of the Hugging Face hub.

A part after '@' is a revision of the repository; without it, the newest when it is fetched.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from mfm.errors import UserError, one_line
from mfm.models import registry
from mfm.models.origin import Origin, of_timm
from mfm.models.sources import file as files

if TYPE_CHECKING:  # settings are read without importing torch
    from torch import Tensor

PREFIX = "timm/"


def claims(weights: str) -> bool:
    """Names that begin with 'timm/', but for a file in a folder of that name."""
    return weights.startswith(PREFIX) and weights.count("/") == 1 and not files.has_ending(weights)


def file(weights: str) -> None:
    """It is fetched before any training, into the cache of huggingface_hub."""
    return None


def check(weights: str) -> None:
    """Raise UserError for a name that timm doesn't know; mostly without importing it."""
    registry.check(_name(weights), prefix=PREFIX)


def read(weights: str) -> dict[str, Tensor]:
    """Downloaded unless it is in the cache."""
    check(weights)
    tensors = files.tensors_of(_file(weights))
    return registry.adapted(tensors, _name(weights), source=weights)


def checksum(weights: str) -> str:
    """SHA-256 of the cached file, which is the name of what the hub's snapshot links to."""
    path = _file(weights)
    found = files.checksum(str(path))
    told = path.resolve().name
    if re.fullmatch(r"[0-9a-f]{64}", told) and told != found:
        raise UserError(
            f"{path.resolve()} is damaged: its SHA-256 is not the one that is its name; remove it "
            f"and {path}, and it is downloaded again"
        )
    return found


def origin(weights: str) -> Origin:
    """What timm's registry says of them; of a file that is here, also its revision."""
    check(weights)
    path = _in_cache(weights)
    return of_timm(
        registry.described(_name(weights)),
        backbone=_name(weights).split(".")[0],
        file=path,
        revision=None if path is None else path.parent.name,
    )


def expected(weights: str) -> dict[str, Tensor]:
    """What the file is to hold, without numbers."""
    check(weights)
    return registry.shapes(_name(weights))


def _name(weights: str) -> str:
    return weights.removeprefix(PREFIX).split("@")[0]


def _repository(weights: str) -> tuple[str, str | None]:
    described = registry.described(_name(weights))
    if not described.get("hf_hub_id"):
        raise UserError(
            f"timm has no file of {weights} on the Hugging Face hub: fetch "
            f"{described.get('url')} and give the file in place of the name"
        )
    _, _, revision = weights.partition("@")
    return described["hf_hub_id"], revision or None


def _in_cache(weights: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    repository, revision = _repository(weights)
    for name in files.OF_THE_HUB:
        path = try_to_load_from_cache(repository, name, revision=revision)
        if isinstance(path, str):
            return Path(path)
    return None


def _file(weights: str) -> Path:
    """The file in the cache, downloaded into it if need be."""
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.errors import RemoteEntryNotFoundError

    path = _in_cache(weights)
    if path is not None:
        return path
    repository, revision = _repository(weights)
    why = f"the repository has none of {', '.join(files.OF_THE_HUB)}"
    for name in files.OF_THE_HUB:
        try:
            return Path(hf_hub_download(repository, name, revision=revision))
        except RemoteEntryNotFoundError:
            continue
        except (OSError, ValueError) as error:  # among them all errors of the network
            why = one_line(error.__cause__ or error)[:200]
            break
    at = f" at revision {revision}" if revision else ""
    folder = f"models--{repository.replace('/', '--')}"
    raise UserError(
        f"weights {weights} could not be fetched ({why}); fetch {files.OF_THE_HUB[0]} and "
        f"config.json of https://huggingface.co/{repository}{at} elsewhere and give that file's "
        f"path in place of the name, or copy the folder {folder} of another machine's Hugging Face "
        f"cache into {constants.HF_HUB_CACHE}"
    )
