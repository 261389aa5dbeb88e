"""What was measured: a value per method, test set, image, and metric, with the protocol they were measured by.

`results.json` is a `Results` object as JSON. Tables, statistics, and figures are made from it, and need no image.
"""

import math
from collections.abc import Mapping
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


class Cost(_Record):
    """What one image costs, on the machine that the protocol names."""

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

    def to_json(self) -> str:
        return self.model_dump_json(indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Raises pydantic's ValidationError, a ValueError."""
        return cls.model_validate_json(text)
