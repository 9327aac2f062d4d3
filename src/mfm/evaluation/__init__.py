"""Evaluations of finetuned models: the table's, and further ones, registered."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pydantic import Field, create_model, model_validator

from mfm.data.settings import OtherFolder
from mfm.errors import UserError
from mfm.evaluation import also
from mfm.evaluation.further import Further
from mfm.evaluation.settings import Classification, Shown
from mfm.settings.messages import nearest
from mfm.settings.section import Name, parse

# One line a further evaluation: a module beside this one, whose class `Settings` it is. Its name is
# its key below `evaluate:`.
EVALUATIONS = ("bands", "corruptions")


def _fits(settings: Evaluation) -> Evaluation:
    """The settings, if their further evaluations fit the images."""
    for name, further in further_evaluations(settings).items():
        try:
            further.check(settings)
        except ValueError as error:
            raise ValueError(f"{name}.{error}") from None
    return settings


class _Evaluation(Shown):
    also: dict[Name, OtherFolder] = Field(
        {},
        description="Other folders of evaluation images, by names of your own: the path of each, "
        "which holds <class>/<image> with the dataset's classes or some of them. {}: none.",
    )


if TYPE_CHECKING:
    Evaluation = _Evaluation
else:
    _settings = {name: import_module(f"{__name__}.{name}").Settings for name in EVALUATIONS}
    Evaluation = create_model(
        "Evaluation",
        __base__=_Evaluation,
        __doc__=Classification.__doc__,
        __validators__={"fits": model_validator(mode="after")(_fits)},
        **{
            name: (settings | None, Field(None, description=f"{settings.__doc__} null: off."))
            for name, settings in _settings.items()
        },
    )


def further_evaluations(evaluation: Evaluation) -> dict[str, Further]:
    """The further evaluations that are asked for, by name."""
    found = {name: getattr(evaluation, name) for name in EVALUATIONS}
    return {name: settings for name, settings in found.items() if settings is not None}


def also_evaluations(evaluation: Evaluation) -> dict[str, str]:
    """The evaluations on other images that are asked for, and what those are called."""
    return {also.evaluation_of(name): name for name in evaluation.also}


def parse_further(name: str, values: dict[str, Any]) -> Further:
    """The settings of a further evaluation, or of one on other images, from their plain values.

    Raises UserError for an unknown name, and for values that don't fit.
    """
    if name.startswith(f"{also.KEY}/"):
        return parse(also.Settings, values, where=name)
    if name not in EVALUATIONS:
        raise UserError(f"there is no evaluation '{name}'{nearest(name, list(EVALUATIONS))}")
    settings: type[Further] = import_module(f"{__name__}.{name}").Settings
    return parse(settings, values, where=name)


__all__ = [
    "EVALUATIONS",
    "Evaluation",
    "also_evaluations",
    "further_evaluations",
    "parse_further",
]
