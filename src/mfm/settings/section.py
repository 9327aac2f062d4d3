"""Section of the settings: what every one is made of, and how it is read and written."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Self, TypeVar, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from mfm.errors import UserError
from mfm.settings.messages import explain, shown_value

ValueT = TypeVar("ValueT")


def _safe_name(name: str) -> str:
    """Names become folder names, so they are kept to what no shell or file system minds."""
    if not name or name[0] in ".-" or not all(c.isalnum() or c in "._-" for c in name):
        raise ValueError(
            f"name {shown_value(name)}: use letters, digits, '-', '_' and '.' only, and begin with "
            "none of '-' and '.'"
        )
    if len(name.encode()) > LONGEST_NAME:
        raise ValueError(
            f"name {shown_value(name)} has {len(name)} characters, too many for a file's name: use "
            "fewer"
        )
    return name


def _printable(path: str) -> str:
    if not path.isprintable():
        raise ValueError(f"{shown_value(path)} has a character that can't be printed: leave it out")
    try:
        Path(path).expanduser()
    except RuntimeError:
        raise ValueError(f"{shown_value(path)}: there is no such home folder") from None
    return path


def _plain_path(path: str) -> str:
    odd = sorted(set(path) & set('{}[]*?<>|"`\\$'))
    if odd:
        raise ValueError(
            f"{shown_value(path)} has {' '.join(odd)}, which stands for something else in the "
            "names of the workflow's files: use letters, digits, '-', '_', '.' and '/'"
        )
    return path


def different(values: list[ValueT]) -> list[ValueT]:
    """The values; raises ValueError where one stands twice."""
    if len(set(values)) != len(values):
        raise ValueError("give each value once")
    return values


# A file system takes 255 bytes, and files are named after names: .NAME.parquet.tmp-12345.
LONGEST_NAME = 200
Name = Annotated[str, AfterValidator(_safe_name)]
# Of a file or a folder that is only read; and of one that is named in the workflow's rules.
Text = Annotated[str, AfterValidator(_printable)]
PlainPath = Annotated[Text, AfterValidator(_plain_path)]
SEEDS = 2**31  # torch's generators take 32 bits of a seed, and two stages need seeds of their own
Seed = Annotated[int, Field(ge=0, lt=SEEDS)]
Seeds = Annotated[list[Seed], Field(min_length=1), AfterValidator(different)]
Positive = Annotated[float, Field(gt=0)]
# One number for each channel of the images, which are three unless dataset.channels says more.
PerChannel = Annotated[tuple[float, ...], Field(min_length=1)]
PositivePerChannel = Annotated[tuple[Positive, ...], Field(min_length=1)]
Range = tuple[float, float]


class Section(BaseModel):
    """A section of the configuration: unknown keys are errors, values never change later."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False
    )

    @model_validator(mode="before")
    @classmethod
    def _null(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        # `snakemake --config` gives null as a text.
        fields = {
            key: cls.model_fields.get(key) for key, given in values.items() if given == "null"
        }
        return values | {
            key: None
            for key, field in fields.items()
            if field is not None and NoneType in get_args(field.annotation)
        }

    @model_validator(mode="after")
    def _no_giants(self) -> Self:
        for name, value in self:
            if isinstance(value, int) and value >= SEEDS:
                raise ValueError(f"{name} should be less than {SEEDS}, not {shown_value(value)}")
        return self


SectionT = TypeVar("SectionT", bound=Section)


def parse(model: type[SectionT], values: object, *, where: str) -> SectionT:
    """Check `values` against `model`.

    Raises UserError with every problem, each with its key and, for an unknown key, the nearest
    valid name.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        problems = [explain(model, dict(problem)) for problem in error.errors()]
        raise UserError(f"{where}: " + "; ".join(problems)) from None


def read_json(path: Path) -> dict[str, Any]:
    """Plain values of a job's settings, as the workflow wrote them; UserError where it can't."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is not a readable configuration: {error}") from None
    if not isinstance(values, dict):
        raise UserError(f"{path} is not a readable configuration: it has no keys")
    return values


def load_json(model: type[SectionT], path: Path) -> SectionT:
    """Read a job's settings, as the workflow wrote them."""
    return parse(model, read_json(path), where=str(path))


def dumps(section: Section) -> str:
    """Canonical JSON of a section: equal sections give equal text."""
    return json.dumps(section.model_dump(mode="json"), indent=2, sort_keys=True)


def dumps_ordered(section: Section) -> str:
    """JSON of a section with keys, such as the arms, in the order they were given."""
    return json.dumps(section.model_dump(mode="json"))


def config_hash(section: Section) -> str:
    """First 12 hexadecimal digits of the SHA-256 of the canonical JSON."""
    return text_hash(dumps(section))


def text_hash(text: str) -> str:
    """The same of a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def differing_keys(ours: object, theirs: object, prefix: str = "") -> list[str]:
    """Dotted names of the keys in which two nested dicts differ."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return [
            name
            for key in sorted(ours.keys() | theirs.keys())
            for name in differing_keys(ours.get(key), theirs.get(key), f"{prefix}{key}.")
        ]
    return [] if ours == theirs else [prefix.rstrip(".")]
