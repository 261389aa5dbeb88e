"""What a weight file says of its model besides the network: title, author, licence, tags ..., by ModelSpec.

ModelSpec (github.com/Stability-AI/ModelSpec, version 1.0.1) is a set of keys in the metadata of safetensors files.
"""

from collections.abc import Mapping
from dataclasses import dataclass

PREFIX = "modelspec."


@dataclass(frozen=True, slots=True)
class Description:
    """What people want to know of a model. Empty where nothing is known."""

    title: str = ""
    author: str = ""
    license: str = ""
    """An SPDX identifier, e.g. CC-BY-4.0."""
    tags: tuple[str, ...] = ()
    description: str = ""
    date: str = ""
    """ISO 8601."""


def read_description(metadata: Mapping[str, str]) -> Description:
    """The description in a file's metadata; empty fields where there is none."""
    title, author, license, description, date = (
        metadata.get(PREFIX + name, "").strip() for name in ("title", "author", "license", "description", "date")
    )
    tags = tuple(tag.strip() for tag in metadata.get(f"{PREFIX}tags", "").split(",") if tag.strip())
    return Description(title, author, license, tags, description, date)
