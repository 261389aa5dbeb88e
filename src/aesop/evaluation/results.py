"""What was measured: a value per method, test set, image, and metric, with the protocol they were measured by.

`results.json` is a `Results` object as JSON. Tables, statistics, and figures are made from it, and need no image.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict

Value = Annotated[float, BeforeValidator(lambda value: math.nan if value is None else value)]
"""JSON has no NaN: null."""
Values = Mapping[str, Mapping[str, Mapping[str, Value]]]
"""Test set -> image -> metric -> value."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Metric(_Record):
    """A column of tables."""

    label: str
    best: Literal["max", "min"]
    format: str
    """As in `format(value, ".4f")`."""


class CostRun(_Record):
    """The run that measured costs. Times of different runs do not compare, even on one machine."""

    started: str
    """UTC, ISO 8601."""
    lr: str
    """`WIDTHxHEIGHT` of the LR image."""
    device: str
    threads: int

    @property
    def machine(self) -> str:
        return f"{self.device}, {self.threads} thread{'' if self.threads == 1 else 's'}"


class Cost(_Record):
    """What one image costs."""

    run: CostRun

    parameters: int
    gflops: float
    """10^9 multiplications and additions, each counted as one, per megapixel of output."""
    seconds: float
    """Per megapixel of output."""
    peak_mib: float
    """Memory of activations beyond the weights, in MiB, for the largest image."""


class MethodResults(_Record):
    """The values of one method: a network, an interpolation, or a folder of finished images."""

    name: str
    values: Values
    source: str | None = None
    """Weight file or folder, as given; for reported figures the publication. None: an interpolation."""
    sha256: str | None = None
    """Of the weight file."""
    seed_of: str | None = None
    """The method of which this is one training with its own seed."""
    cost: Cost | None = None


@dataclass(frozen=True)
class SetImages:
    """The images of a test set over which methods are compared, and those that only some of them have."""

    common: Sequence[str]
    """Which all methods have, sorted."""
    lacking: Mapping[str, Sequence[str]]
    """Method -> the images that it lacks and others have; without methods that lack none."""

    @property
    def left_out(self) -> list[str]:
        return sorted({image for images in self.lacking.values() for image in images})


class Results(_Record):
    format: Literal[1] = 1
    name: str
    scale: int
    metrics: Mapping[str, Metric]
    """By the names in `val.metrics`."""
    methods: tuple[MethodResults, ...]
    protocol: Mapping[str, Any]
    """How it was measured: see `aesop.evaluation.protocol`."""
    missing: tuple[str, ...] = ()
    """What was asked for and could not be measured, a line each. Not empty: the result is partial."""

    @property
    def set_names(self) -> list[str]:
        return list(dict.fromkeys(name for method in self.methods for name, images in method.values.items() if images))

    def set_images(self, name: str) -> SetImages:
        """The images of a test set. Methods that have none of them do not count, unless another seed of theirs has."""
        having = {method.seed_of or method.name for method in self.methods if method.values.get(name)}
        there = {m.name: set(m.values.get(name, ())) for m in self.methods if (m.seed_of or m.name) in having}
        every = set().union(*there.values())
        common = every.intersection(*there.values())
        return SetImages(sorted(common), {m: sorted(every - images) for m, images in there.items() if every - images})

    def set_size(self, name: str) -> int:
        """How many images a test set has, as far as is known, measured or not."""
        images = self.set_images(name)
        recorded = self.protocol.get("sets", {}).get(name, {}).get("images", 0)
        return max(recorded, len(images.common) + len(images.left_out))

    def to_json(self) -> str:
        return self.model_dump_json(indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Raises pydantic's ValidationError, a ValueError."""
        return cls.model_validate_json(text)
