"""The Markdown card of a model, with the front matter of the Hugging Face hub."""

import re
from collections.abc import Mapping
from importlib import resources
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from aesop.publishing.training import Training
from aesop.weights.description import Description

PACKAGE = "aesop-sr"
# Licences that the hub knows by their SPDX identifiers in small letters. Others it shows by their names.
_LICENSES = (
    *("apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "isc", "unlicense", "wtfpl", "zlib", "mpl-2.0", "gpl-2.0"),
    *("gpl-3.0", "lgpl-2.1", "lgpl-3.0", "agpl-3.0", "cc0-1.0", "cc-by-2.0", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0"),
    *("cc-by-sa-4.0", "cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nd-4.0", "cc-by-nc-nd-4.0", "cc-by-nc-sa-3.0"),
    "cc-by-nc-sa-4.0",
)
_TEMPLATE = Environment(
    loader=FileSystemLoader(str(resources.files("aesop") / "assets")),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
).get_template("model_card.md")


def markdown_card(about: Description, training: Training, **parts: Any) -> str:
    """The card's text. `parts` are what else the template names."""
    front = {
        **license_of_hub(about.license),
        "tags": list(dict.fromkeys(["super-resolution", *about.tags])),
        "pipeline_tag": "image-to-image",
        "library_name": "aesop",
    }
    text = _TEMPLATE.render(
        about=about,
        front_matter=yaml.safe_dump(front, sort_keys=False, allow_unicode=True),
        training=_described(training),
        package=PACKAGE,
        **parts,
    )
    return re.sub(r"\n{3,}", "\n\n", text).rstrip() + "\n"


def license_of_hub(license: str) -> dict[str, str]:
    """The front matter of an SPDX identifier, or of any other name of a licence."""
    if not license:
        return {}
    known = re.sub(r"-(only|or-later)$", "", license.lower())
    return {"license": known} if known in _LICENSES else {"license": "other", "license_name": license}


def _described(training: Training) -> Mapping[str, Any]:
    losses = {name.removesuffix("_opt"): f"{weight:g}" for name, weight in (training.losses or {}).items()}
    rows = {
        "stage": training.stage,
        "iterations": training.iterations,
        "images per iteration": training.batch_size,
        "HR crops": training.hr_size and f"{training.hr_size} x {training.hr_size} pixels",
        "LR images": training.lr,
        "losses": ", ".join(f"{name} {weight}" for name, weight in losses.items()),
        "discriminator": training.discriminator,
        "data": training.dataset,
        "started from": training.start,
    }
    return {name: value for name, value in rows.items() if value}
