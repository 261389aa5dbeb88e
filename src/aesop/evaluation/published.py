"""Figures from publications, to be shown below measured ones."""

from collections.abc import Mapping
from importlib import resources

import yaml
from pydantic import BaseModel, ConfigDict

from aesop.evaluation.results import Results

Figures = Mapping[str, Mapping[str, str]]
"""Test set -> metric -> mean, with the digits of the publication."""


class PublishedMethod(BaseModel):
    """Means as printed in a publication. Values per image are not known: no intervals, no tests."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    source: str
    channels: str
    """Of PSNR and SSIM, as in protocols: luma or RGB."""
    figures: Mapping[int, Figures]
    """By scale, which is also the border in pixels that was left out."""

    def fitting(self, results: Results) -> Figures:
        """The figures of the test sets and metrics of `results` that were measured alike: scale, channels, and border."""
        alike = {"channels": self.channels, "crop_border": results.scale}
        records = {key: results.protocol.get("metrics", {}).get(key, {}) for key in results.metrics}
        kinds = {key: record.get("type", key) for key, record in records.items() if alike.items() <= record.items()}
        names = {name.casefold(): name for method in results.methods for name in method.values}
        return {
            names[published.casefold()]: {key: row[kind] for key, kind in kinds.items() if kind in row}
            for published, row in self.figures.get(results.scale, {}).items()
            if published.casefold() in names
        }


def published_methods() -> list[PublishedMethod]:
    text = (resources.files("aesop") / "assets" / "published_figures.yml").read_text(encoding="utf-8")
    return [PublishedMethod.model_validate(entry) for entry in yaml.safe_load(text)]


def published_for(results: Results) -> list[tuple[PublishedMethod, Figures]]:
    """The bundled methods that have figures for the table of `results`."""
    fitting = [(method, method.fitting(results)) for method in published_methods()]
    return [(method, figures) for method, figures in fitting if any(figures.values())]
