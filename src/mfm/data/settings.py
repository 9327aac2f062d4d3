"""Images of an experiment: where they come from, what reads and crops them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    Discriminator,
    Field,
    SerializerFunctionWrapHandler,
    Tag,
    field_validator,
    model_serializer,
    model_validator,
)

from mfm.settings.section import Name, Range, Section, Text

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

LoaderName = Literal["torchvision", "dali"]
LoaderChoice = Annotated[
    LoaderName,
    Field(
        description="What decodes and resizes images: 'torchvision' (Pillow's pixels) or 'dali' "
        "(NVIDIA DALI, for JPEGs: benchmarks/README.md). Order, crops and flips are the same."
    ),
]


MANIFEST = "manifest.parquet"
# Keys that earlier versions didn't have, as what they did.
_LATER: list[tuple[str, Any]] = [
    ("val_fraction", None),
    ("val_seed", 0),
    ("labels", None),
    ("labels_sha256", None),
    ("scale", None),
    ("exif", "ignore"),
    ("channels", None),
]
Scale = Literal["range", "percentile"] | Range


def images_file(manifest: Path, split: str) -> Path:
    """What says which images a split of the manifest has: jobs wait for this small file.

    It stays as it is, byte by byte, where a dataset is linked again and its images are the same.
    """
    return manifest.with_name(f"images.{split}.json")


class Dataset(Section):
    """Where the images come from."""

    name: Name = Field(
        "fashion-mnist", description="Name of the dataset; its files go below data/<name>/."
    )
    source: Text = Field(
        "fashion-mnist",
        min_length=1,
        description="'fashion-mnist', 'generated' (tiny drawn images, for tests), "
        "'torchvision/<name>' for a classification dataset of torchvision (torchvision/CIFAR10), "
        "or the path of a folder that holds train/<class>/ and val/<class>/ (with val_fraction: "
        "train/<class>/ alone, or <class>/; with labels: images at any place; instead of class "
        "folders, tars of them).",
    )
    labels: Text | None = Field(
        None,
        description="CSV file that says which images of the folder there are and of which class, "
        "in the place of class folders: columns path (below source) and label, and where wanted "
        "split (train or val) and group (a patient, a plant: never on both sides).",
    )
    val_fraction: float | None = Field(
        None,
        gt=0,
        le=0.5,
        description="For a folder without val/: this share of each class's images, drawn once by "
        "val_seed, is val and in no training; groups, and files with the same content, stay "
        "together. null: the source has a val/ of its own.",
    )
    val_seed: int = Field(0, ge=0, description="Seed of that draw, which is by files' contents.")
    unlabelled: Text | None = Field(
        None,
        description="Folder of unlabelled images, at any depth or in tars, for pretrainings that "
        "need no labels; null: they use the training images, without their labels.",
    )
    archives: Text | None = Field(
        None,
        description="Where the dataset's files are, if you have them already: the four .gz files "
        "of fashion-mnist, or a root of torchvision's datasets.",
    )
    image_size: int = Field(
        32, ge=8, le=1024, description="Side of a training image in pixels (pretraining default)."
    )
    holdout_per_class: int = Field(
        0,
        ge=0,
        description="Training images per class set aside as split 'holdout', in no training run; "
        "settings are chosen on them, never on val. Where images have groups, whole groups, and so "
        "nearly as many.",
    )
    on_bad_image: Literal["error", "skip"] = Field(
        "error",
        description="What a file does that is, or is named as, an image and can't be read: "
        "'error' stops before any training, 'skip' leaves it out. Both list it in "
        "data/<name>/left_out.csv.",
    )

    scale: Scale | None = Field(
        None,
        description="What becomes of values of more than 8 bits (16-bit, float), which are an "
        "error by default. 'range': 0 to 255 from the lowest to the highest of the training "
        "images; 'percentile': from the 0.5th to the 99.5th percentile of theirs; or [low, high]. "
        "What lies outside is cut off, and counted. Pictures of 8 bits stay as they are.",
    )
    exif: Literal["ignore", "apply"] = Field(
        "ignore", description="Whether pictures are turned as their EXIF data asks for."
    )
    channels: int | None = Field(
        None,
        ge=1,
        le=1024,
        description="Channels of every picture, in TIFFs and NumPy's .npy ([height, width, "
        "channels] or [channels, height, width]) too; null: RGB, as Pillow gives it.",
    )

    @field_validator("scale")
    @classmethod
    def _ascending(cls, value: Scale | None) -> Scale | None:
        if isinstance(value, tuple) and not value[0] < value[1]:
            raise ValueError("give [low, high] with low < high")
        return value

    @model_serializer(mode="wrap")
    def _without_later_defaults(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """As ever, less a key that came later, where it says what held before it: a dataset that an
        earlier version linked is known by this text, and stays so."""
        values: dict[str, Any] = write(self)
        return {key: values[key] for key in values if (key, values[key]) not in _LATER}

    @property
    def curve(self) -> Literal["val", "holdout"]:
        """The split that a finetuning's accuracy on its way is measured on."""
        return "holdout" if self.holdout_per_class else "val"

    @property
    def splits(self) -> list[str]:
        """The splits that its manifest has."""
        more = {"holdout": self.holdout_per_class, "pretrain": self.unlabelled is not None}
        return ["train", "val", *(split for split, there in more.items() if there)]


class DatasetJob(Dataset):
    """Everything that determines how a dataset is linked, besides the images."""

    labels_sha256: str | None = Field(None, description="Of the file of labels; null: none.")


class OtherImages(Section):
    """A folder of other images of a dataset's classes, or of some of them."""

    folder: Text = Field(min_length=1, description="Folder that holds <class>/<image>.")
    numbered: bool = Field(
        False,
        description="Its class folders are not named as the dataset's, but number them from 0 on, "
        "in the order of their names (ImageNet-V2).",
    )


def _form(value: object) -> str | None:
    if isinstance(value, dict | OtherImages):
        return "section"
    return "path" if isinstance(value, str) else None


def _section(value: str | OtherImages) -> OtherImages:
    return OtherImages(folder=value) if isinstance(value, str) else value


if TYPE_CHECKING:
    OtherFolder = OtherImages
else:  # in a configuration, a path alone will do
    OtherFolder = Annotated[
        Annotated[Text, Field(min_length=1), Tag("path")] | Annotated[OtherImages, Tag("section")],
        Discriminator(
            _form,
            custom_error_type="other_images",
            custom_error_message="give the path of a folder, or {folder: PATH, numbered: true}",
        ),
        AfterValidator(_section),
    ]

OTHER_SPLIT = "val"  # of the manifest of other images


class OtherImagesJob(Section):
    """Everything that determines how other images are linked, besides the images."""

    stage: Literal["other_images"] = Field("other_images", description="Stage of the job.")
    name: Name = Field(description="Their name below evaluate.also.")
    images: OtherImages = Field(description="The folder.")
    on_bad_image: Literal["error", "skip"] = Field(description="The dataset's.")


class Seen(Section):
    """What a job sees of the dataset, beside the images of its split.

    Neither where the images lie nor what else was linked with them changes a job.
    """

    name: Name = Field(description="Name of the dataset.")
    image_size: int = Field(description="Side of a training image in pixels.")


class Crop(Section):
    """Random resized crop and flip of a training image."""

    size: int | None = Field(
        None, ge=8, le=1024, description="Side in pixels; null is dataset.image_size."
    )
    area: Range = Field((0.2, 1.0), description="Range of the crop's share of the image area.")
    aspect: Range = Field((0.75, 4 / 3), description="Range of width / height.")
    interpolation: Literal["bilinear", "bicubic"] = Field(
        "bilinear", description="Resampling (antialiased)."
    )
    flip: float = Field(0.5, ge=0.0, le=1.0, description="Probability of a horizontal flip.")

    @field_validator("area", "aspect")
    @classmethod
    def _ordered(cls, value: Range) -> Range:
        if not 0 < value[0] <= value[1]:
            raise ValueError("give [low, high] with 0 < low <= high")
        return value

    @field_validator("area")
    @classmethod
    def _share(cls, value: Range) -> Range:
        if value[1] > 1:
            raise ValueError("the crop's share of the image is at most 1")
        return value


class RandAugment(Section):
    """RandAugment on the cropped image: torchvision's, or timm's, which differs from it."""

    kind: Literal["torchvision", "timm"] = Field(
        "torchvision",
        description="'torchvision' (upstream), or 'timm' (paper): timm applies each operation with "
        "probability 0.5, has operations of its own, and no 'bins': magnitudes are 0 to 10.",
    )
    ops: int = Field(2, ge=1, le=10, description="Operations per image.")
    magnitude: int = Field(6, ge=0, description="Magnitude, in bins.")
    bins: int = Field(10, ge=2, description="Number of magnitude bins (torchvision).")
    magnitude_std: float = Field(
        0.0,
        ge=0,
        le=10,
        description="Standard deviation of each operation's magnitude (timm: 'mstd'); 0 is off.",
    )
    increasing: bool = Field(
        False,
        description="Only operations that are stronger at a larger magnitude (timm: 'inc1').",
    )

    @model_validator(mode="after")
    def _in_bins(self) -> Self:
        if self.kind == "torchvision":
            if self.magnitude >= self.bins:
                raise ValueError("magnitude counts from 0 and has to be below bins")
            if self.magnitude_std or self.increasing:
                raise ValueError("magnitude_std and increasing are for kind: timm")
        elif self.magnitude > 10:
            raise ValueError("timm's magnitudes are 0 to 10")
        elif self.bins != 10:
            raise ValueError("bins is for kind: torchvision")
        return self
