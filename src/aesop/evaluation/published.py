"""Figures from publications, to be shown beside measured ones: `assets/published_figures.yml`."""

import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, model_validator

from aesop.evaluation.results import Results

Figures = Mapping[str, Mapping[str, str]]
"""Test set -> metric -> mean, with the digits of the publication."""
# One set under several names, without case and punctuation.
_ALIASES = {"div2kval": "div2k100", "div2kvalid": "div2k100", "b100": "bsd100", "bsds100": "bsd100"}


def _split(row: object) -> object:
    return row.split() if isinstance(row, str) else row


Row = Annotated[tuple[str, ...], BeforeValidator(_split)]
"""Figures in the file, as text with spaces between them."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Source(_Record):
    """A table of a publication: see the head of the file."""

    source: str
    short: str
    scale: int
    measured: Mapping[str, tuple[Literal["luma", "RGB"], int]]
    note: str
    metrics: tuple[str, ...]
    methods: Mapping[str, Mapping[str, Row]]

    @model_validator(mode="after")
    def _check(self) -> "_Source":
        for method, sets in self.methods.items():
            for name, values in sets.items():
                if len(values) != len(self.metrics):
                    raise ValueError(f"{method} on {name}: {len(values)} values for {len(self.metrics)} metrics")
                [float(value) for value in values]
        return self


class PublishedMethod(_Record):
    """Means as printed in a publication. Values per image are not known: no intervals, no tests."""

    name: str
    source: str
    """The publication, the place in it, and what must be known of its figures."""
    short: str
    """Its authors and year."""
    scale: int
    measured: Mapping[str, tuple[str, int]]
    """Metric -> its channels (luma, RGB) and border, as in protocols; what is not stated is absent."""
    figures: Figures

    def fitting(self, results: Results) -> dict[str, dict[str, str]]:
        """The figures of the test sets and metrics of `results` that were measured alike: scale, channels, and border.

        Sets are matched whatever their case and punctuation (`bsd100` is BSD100, `DIV2K-val` is DIV2K100).
        """
        if self.scale != results.scale:
            return {}
        records = {key: results.protocol.get("metrics", {}).get(key, {}) for key in results.metrics}
        kinds = {
            key: kind
            for key, record in records.items()
            if (kind := record.get("type", key)) in self.measured
            and (record.get("channels"), record.get("crop_border")) == self.measured[kind]
        }
        names = {_key(name): name for method in results.methods for name in method.values}
        return {
            names[_key(published)]: {key: row[kind] for key, kind in kinds.items() if kind in row}
            for published, row in self.figures.items()
            if _key(published) in names
        }


@cache
def published_methods() -> tuple[PublishedMethod, ...]:
    text = (resources.files("aesop") / "assets" / "published_figures.yml").read_text(encoding="utf-8")
    sources = [_Source.model_validate(entry) for entry in yaml.safe_load(text)]
    return tuple(
        PublishedMethod(
            name=name,
            source=f"{each.source}. {each.note}".rstrip("."),
            short=each.short,
            scale=each.scale,
            measured=each.measured,
            figures={test_set: dict(zip(each.metrics, values, strict=True)) for test_set, values in sets.items()},
        )
        for each in sources
        for name, sets in each.methods.items()
    )


def published_for(results: Results, names: Sequence[str] | None = None) -> list[tuple[PublishedMethod, Figures]]:
    """The published methods that have figures for these results: all, or those with the given names.

    Raises ValueError for a name that is not there.
    """
    known = published_methods()
    if unknown := [name for name in names or () if name not in {method.name for method in known}]:
        there = ", ".join(dict.fromkeys(method.name for method in known))
        raise ValueError(f"no figures of {unknown[0]!r} are published here, but of {there}")
    fitting = [(method, method.fitting(results)) for method in known if names is None or method.name in names]
    return [(method, figures) for method, figures in fitting if any(figures.values())]


def _key(test_set: str) -> str:
    plain = re.sub(r"[^a-z0-9]", "", test_set.lower())
    return _ALIASES.get(plain, plain)
