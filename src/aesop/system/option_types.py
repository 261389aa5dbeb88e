"""The base class of all option sections, and the types of their fields."""

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field


def _whole(value: Any) -> Any:
    """Accept 5e3 for a count, which YAML reads as a string."""
    with suppress(ValueError):
        return float(value) if isinstance(value, str) else value
    return value


Count = Annotated[int, BeforeValidator(_whole), Field(ge=0)]
Positive = Annotated[int, BeforeValidator(_whole), Field(ge=1)]
Side = Annotated[Positive, Field(le=16_384)]
Weight = Annotated[float, Field(ge=0)]
# Largest sum of the numbers in a network's options. In the widest known networks they add up to half of it.
MAX_NETWORK_NUMBERS = 2048


def check_network_numbers(options: Any) -> None:
    """Raise ValueError if the numbers in a network's options, at any depth, are so large that building it never ends."""
    numbers = list(_numbers(options))
    if sum(size for size, _ in numbers) > MAX_NETWORK_NUMBERS:
        largest, name = max(numbers)
        allowed = f"the numbers in a network's options may add up to {MAX_NETWORK_NUMBERS}"
        raise ValueError(f"{name}: {largest:.6g} is too large: {allowed}, twice the sum of the widest known network")


def _numbers(value: Any, name: str = "") -> Iterator[tuple[float, str]]:
    if isinstance(value, Mapping | list | tuple):
        named = value.items() if isinstance(value, Mapping) else ((name, part) for part in value)
        for key, part in named:
            yield from _numbers(part, str(key))
    elif isinstance(value, int | float) and value == value:  # not NaN
        yield min(abs(value), 1e300), name


def name_below(value: str) -> str:
    """Accept the name of a file or folder, possibly in sub-folders, that stays inside the folder it is joined to."""
    if {"", ".", ".."} & set(re.split(r"[/\\]", value)) or value.startswith("~") or re.search(r"[\x00-\x1f\x7f]", value):
        rules = "it must not be empty, begin or end with /, begin with ~, contain control characters or have a part . or .."
        raise ValueError(f"{value[:100]!r} becomes part of a path: {rules}")
    return value


Name = Annotated[str, AfterValidator(name_below)]


class Options(BaseModel):
    """A section of options: immutable, without unknown names, documented by the docstrings of its fields."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, protected_namespaces=(), validate_default=True
    )
