"""What a weight file says of its model besides the network: title, author, licence, tags ..., by ModelSpec.

ModelSpec (github.com/Stability-AI/ModelSpec, version 1.0.1) is a set of keys in the metadata of safetensors files.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aesop.archs import scale_option

PREFIX = "modelspec."
VERSION_KEY, VERSION = f"{PREFIX}sai_model_spec", "1.0.1"


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


def modelspec(about: Description, network: Mapping[str, Any]) -> dict[str, str]:
    """ModelSpec's keys for the weights of a network with these options; fields that are empty get none.

    `save_weights` adds the hash of the tensors.
    """
    scale = network.get(scale_option(network["type"]) or "")
    values = {
        "architecture": network["type"] + (f"-x{scale}" if scale else ""),
        "implementation": "aesop",
        "title": about.title,
        "author": about.author,
        "license": about.license,
        "tags": ", ".join(about.tags),
        "description": about.description,
        "date": about.date,
    }
    return {VERSION_KEY: VERSION} | {PREFIX + name: value for name, value in values.items() if value}
