"""The YAML file of a figure: what it shows, from which files, and how large it is in print."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, WithJsonSchema

from aesop.evaluation.image_views import Window
from aesop.options.error_messages import ConfigError, describe
from aesop.options.yaml_file import read_yaml
from aesop.system.option_types import Options, Positive

Centimetres = Annotated[float, Field(ge=2, le=60)]


def _region(given: Any) -> Window | None:
    if given == "auto":
        return None
    numbers = given if isinstance(given, list) else []
    if len(numbers) != 4 or any(type(number) is not int for number in numbers):
        raise ValueError("give auto, or [x, y, width, height] in pixels of the HR image")
    left, top, width, height = numbers
    if min(left, top) < 0 or min(width, height) < 1:
        raise ValueError("x and y must be at least 0, width and height at least 1")
    return Window(top, left, height, width)


_FOUR_NUMBERS = {"type": "array", "items": {"type": "integer"}, "minItems": 4, "maxItems": 4}
Region = Annotated[Window | None, BeforeValidator(_region), WithJsonSchema({"anyOf": [{"const": "auto"}, _FOUR_NUMBERS]})]


def _size(given: Any) -> Any:
    numbers = given if isinstance(given, list | tuple) else ()
    if len(numbers) != 2 or any(type(number) is not int or number < 1 for number in numbers):
        raise ValueError("give [width, height] in pixels of the HR image")
    return given


def _file_names(given: Any) -> Any:
    return [given] if isinstance(given, str) else given


def _some(given: Any) -> Any:
    if not given:
        raise ValueError("name at least one")
    return given


class FigureSpec(Options):
    """What all figures have in common. Paths are as on the command line."""

    width: Centimetres
    """In print, in cm. A column of a two-column page is 8.8 cm wide, both are 18."""
    dpi: Annotated[Positive, Field(ge=72, le=1200)] = 300
    """Resolution of the PNG file, and of photographs in both files."""
    labels: Mapping[str, str] = {}
    """Method or image -> its name in the figure. In the plane, those with an empty name are points without one."""

    def label(self, method: str) -> str:
        return self.labels.get(method, method)


class PlaneSpec(FigureSpec):
    """The perception-distortion plane: one panel for each test set, one point for each method."""

    kind: Literal["plane"]
    """What the file draws."""
    results: Annotated[list[str], BeforeValidator(_file_names), AfterValidator(_some)]
    """One results.json, or several."""
    x: str = "psnr"
    """Metric of the horizontal axis, by its name in the results."""
    y: str = "lpips"
    """Metric of the vertical axis."""
    sets: Annotated[list[str], AfterValidator(_some)] | None = None
    """Test sets. Default: all."""
    methods: Annotated[list[str], AfterValidator(_some)] | None = None
    """Methods, by their names in the results, or in `seeds`. Default: all."""
    seeds: Mapping[str, list[str]] = {}
    """Name -> the methods in the results that are its trainings with other seeds; together they are one point."""
    reported: list[str] = []
    """Methods whose published figures are shown as well, hollow and without intervals."""
    intervals: bool = True
    """Draw the 95 % interval of the mean along both axes."""
    front: bool = True
    """Join the methods that no other one beats in both metrics."""
    width: Centimetres = 8.8
    """In print, in cm: by default a column of a two-column page."""
    height: Centimetres = 6.5
    """Of one panel, in cm."""
    columns: Positive | None = None
    """Panels in a row. Default: all."""


class CropsSpec(FigureSpec):
    """One block for each image: the whole image with a rectangle, and its pixels there as each method renders them."""

    kind: Literal["crops"]
    """What the file draws."""
    hr: str
    """Folder of the HR images, or one HR image."""
    images: Annotated[Mapping[str, Region], AfterValidator(_some)]
    """Image -> the part to enlarge: `[x, y, width, height]` in HR pixels, or `auto`, where the methods differ most."""
    methods: Annotated[Mapping[str, str], AfterValidator(_some)]
    """Method -> folder of its images, or one image. LR images are shown with larger pixels."""
    metrics: list[str] = ["psnr"]
    """Shown below the crops, for the whole image; the best values are bold. `[]`: none."""
    results: str | None = None
    """A results.json from which the values are taken. Default: they are measured, by the usual protocol."""
    set: str | None = None
    """The test set of the images in `results`. Default: the one that has them."""
    size: Annotated[tuple[int, int], BeforeValidator(_size)] = (64, 48)
    """Width and height of an `auto` part, in HR pixels."""
    columns: Positive | None = None
    """Crops in a row. Default: all in two rows; in one row if there are few."""
    whole: bool = True
    """Show the whole image as well."""
    colour: Annotated[str, Field(pattern=r"^#[0-9a-fA-F]{6}$")] = "#e8112d"
    """Of the rectangle, as #rrggbb."""
    width: Centimetres = 18.0
    """In print, in cm: by default both columns of a two-column page."""


KINDS: dict[str, type[FigureSpec]] = {"plane": PlaneSpec, "crops": CropsSpec}


def read_spec(path: Path) -> FigureSpec:
    """The checked contents of a figure's YAML file. Raises ConfigError, which names all faults with their lines."""
    raw, lines = read_yaml(path)
    kind = raw.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        found = "is missing" if kind is None else f"is {kind!r}"
        raise ConfigError(
            f"{path}: kind {found}; give one of {', '.join(KINDS)} (aesop figure --example plane prints a file)"
        )
    try:
        return KINDS[kind].model_validate(raw)
    except ValidationError as error:
        raise ConfigError(str(path), describe(error, raw, lines, KINDS[kind])) from None
