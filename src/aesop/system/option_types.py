"""Types that every section of options is made of."""

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field


def _whole(value: Any) -> Any:
    """YAML reads 5e3 as a string; counts written like that are meant as whole numbers."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return value
    return int(value) if isinstance(value, float) and value.is_integer() else value


Count = Annotated[int, BeforeValidator(_whole), Field(ge=0)]
Positive = Annotated[int, BeforeValidator(_whole), Field(ge=1)]
Side = Annotated[Positive, Field(le=16_384)]
Weight = Annotated[float, Field(ge=0)]
# All numbers in the options of a network together; in the widest networks known they add up to half of this.
MAX_NETWORK_NUMBERS = 2048


def check_network_numbers(options: Any) -> None:
    """Raise ValueError for numbers in a network's options, at any depth, with which building it has no end."""
    numbers = list(_numbers(options))
    if sum(size for size, _ in numbers) > MAX_NETWORK_NUMBERS:
        largest, name = max(numbers)
        raise ValueError(
            f"{name}: {largest:.6g} is too large: the numbers of a network's options add up to {MAX_NETWORK_NUMBERS} at "
            "most, far more than those of any network known"
        )


def _numbers(value: Any, name: str = "") -> Iterator[tuple[float, str]]:
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield from _numbers(part, str(key))
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _numbers(part, name)
    elif isinstance(value, int | float) and value == value:  # not NaN
        yield min(abs(value), 1e300), name


def _name_below(value: str) -> str:
    """A name of a folder or file, or of one in sub-folders, that leads to no place outside the folder it is put in."""
    nowhere = {"", ".", ".."} & set(re.split(r"[/\\]", value))
    if nowhere or value.startswith("~") or re.search(r"[\x00-\x1f\x7f]", value):
        raise ValueError(
            f"{value[:100]!r} becomes a part of a path: it must not be empty, begin or end with /, begin with ~, have . or "
            ".. as a part, or control characters"
        )
    return value


Name = Annotated[str, AfterValidator(_name_below)]


class Options(BaseModel):
    """A section of options: immutable, without unknown names, documented by the docstrings of its fields."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, protected_namespaces=(), validate_default=True
    )
