"""Registry of timm's pretrained models: what it says of weights, and its own reading of them.

timm is imported when something is asked.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mfm.errors import UserError, one_line
from mfm.settings.messages import closest

if TYPE_CHECKING:  # settings are read without importing torch
    from torch import Tensor, nn

_ENTRY = re.compile(r"""^\s+["'](\w+\.\w+)["']\s*:""", re.M)


def check(name: str, *, prefix: str) -> None:
    """Raise UserError for a name that has no weights; mostly without importing timm."""
    if name in _spelled() and not name.endswith(".untrained"):
        return
    if is_known(name):
        return
    import timm

    known = timm.list_models(pretrained=True)
    own = [each for each in known if each.split(".")[0] == name.split(".")[0]]
    more = " ..." if len(own) > 6 else ""
    listed = f"; of this network it has {', '.join(own[:6])}{more}" if own else ""
    near = None if own else closest(name, known)
    raise UserError(
        f"'{prefix}{name}' is no weight name of timm, such as {prefix}resnet50.a1_in1k"
        f"{f' (did you mean {prefix + near!r}?)' if near else ''}{listed}"
    )


@functools.cache
def _spelled() -> frozenset[str]:
    """Names as timm's files spell them; a few are put together in other ways."""
    package = importlib.util.find_spec("timm")
    assert package is not None
    assert package.origin is not None
    folder = Path(package.origin).parent / "models"
    texts = (file.read_text(encoding="utf-8") for file in sorted(folder.glob("*.py")))
    return frozenset(name for text in texts for name in _ENTRY.findall(text))


def is_known(name: str) -> bool:
    """Whether a name with its tag is one of timm's pretrained models."""
    import timm

    return "." in name and bool(timm.models.is_model_pretrained(name))


def described(name: str) -> dict[str, Any]:
    """What timm says of the weights of a name."""
    import timm

    found = timm.models.get_pretrained_cfg(name)
    return {} if found is None else dataclasses.asdict(found)


def shapes(name: str) -> dict[str, Tensor]:
    """The tensors of a name's own network, without numbers."""
    import timm

    return without_numbers(lambda: timm.create_model(name)).state_dict()


def without_numbers(make: Callable[[], nn.Module]) -> nn.Module:
    """A network on torch's device 'meta', which takes neither memory nor time."""
    import torch

    try:
        with torch.device("meta"):
            return make()
    except (NotImplementedError, RuntimeError, UserError):  # it computes while it is made
        return make().to("meta")


def adapted(tensors: dict[str, Tensor], name: str, *, source: str) -> dict[str, Tensor]:
    """A file's tensors as timm gives them to the name's own network.

    It knows files whose names or shapes are others. Raises UserError where they are not of it.
    """
    import timm
    import torch

    with torch.random.fork_rng(devices=[]):  # a training's random numbers are its own
        try:
            model = timm.create_model(
                name, pretrained=True, pretrained_cfg_overlay={"state_dict": tensors}
            )
        except (RuntimeError, KeyError) as error:
            raise UserError(
                f"weights {source} are not of timm's {name}: {one_line(error)[:200]}"
            ) from None
    state: dict[str, Tensor] = model.state_dict()
    return state
