"""What papers report, to be shown beside what was measured here: `assets/published_figures.yml`."""

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, model_validator

from aesop.options.yaml_file import parse_yaml

FILE = Path(__file__).parents[1] / "assets" / "published_figures.yml"
# One set under several names, without case and punctuation.
_ALIASES = {"div2kval": "div2k", "div2kvalid": "div2k", "div2k100": "div2k", "b100": "bsd100", "bsds100": "bsd100"}


class Source(BaseModel):
    """A table of a paper or README."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    """The publication, and the place in it."""
    short: str
    """Authors and year, for a row's label."""
    protocol: str
    """How it was measured, as far as the source says."""
    metrics: tuple[str, ...]
    """By our names."""
    methods: Mapping[str, Mapping[str, tuple[float, ...]]] = Field(repr=False)
    """Method -> test set -> values in the order of `metrics`."""

    @model_validator(mode="after")
    def _complete(self) -> "Source":
        for method, sets in self.methods.items():
            for name, values in sets.items():
                if len(values) != len(self.metrics):
                    raise ValueError(f"{method} on {name}: {len(values)} values for {len(self.metrics)} metrics")
        return self


@dataclass(frozen=True)
class ReportedFigure:
    """The mean over a test set that a source reports. There are no values of single images, and so no intervals."""

    method: str
    test_set: str
    metric: str
    value: float
    source: Source


@cache
def published_sources() -> tuple[Source, ...]:
    raw, _ = parse_yaml(FILE.read_text(encoding="utf-8"))
    return tuple(Source.model_validate(source) for source in raw["sources"])


def published_methods() -> list[str]:
    return list(dict.fromkeys(method for source in published_sources() for method in source.methods))


def reported_figures(methods: Iterable[str], test_sets: Iterable[str], metrics: Iterable[str]) -> list[ReportedFigure]:
    """What is reported of these methods for x4; combinations that no source reports are left out.

    Sets are matched whatever their case and punctuation (`bsd100` is BSD100, `DIV2K100` is DIV2K-val), and named as given.
    The first source that reports a method on a set counts. Raises ValueError for a method that no source reports.
    """
    known = published_methods()
    found = []
    for method in methods:
        if method not in known:
            near = difflib.get_close_matches(method, known, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
            raise ValueError(f"no figures of {method!r} are published here; {hint}")
        for test_set in test_sets:
            for source in published_sources():
                by_set = {_key(name): values for name, values in source.methods.get(method, {}).items()}
                if values := by_set.get(_key(test_set)):
                    of_metric = dict(zip(source.metrics, values, strict=True))
                    found += [
                        ReportedFigure(method, test_set, metric, of_metric[metric], source)
                        for metric in metrics
                        if metric in of_metric
                    ]
                    break
    return found


def _key(test_set: str) -> str:
    plain = re.sub(r"[^a-z0-9]", "", test_set.lower())
    return _ALIASES.get(plain, plain)
