"""Which of several measured models is chosen: the axes of the front, and the rule."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aesop.evaluation.front import Directions, Point, knee
from aesop.evaluation.results import Metric
from aesop.metrics import METRIC_TYPES
from aesop.metrics.build import entry_info
from aesop.options.validation import FrontOptions, MetricOptions
from aesop.web.page import Best

DISTORTION = ("psnr", "lrpsnr")
PERCEPTION = ("lpips", "lpips_vgg", "dists")


@dataclass(frozen=True)
class Axes:
    """The two metrics of a front, by their names in `val.metrics`."""

    distortion: str
    perception: str
    best: Directions

    @classmethod
    def find(cls, options: FrontOptions, metrics: Mapping[str, MetricOptions]) -> "Axes | None":
        """The metrics that the options name; those that they do not name are the first ones of DISTORTION and PERCEPTION.

        None if there are none.
        """
        kinds = {name: METRIC_TYPES.get(entry.type or name, entry.type or name) for name, entry in metrics.items()}
        x = options.distortion or next((name for name, kind in kinds.items() if kind in DISTORTION), None)
        y = options.perception or next((name for name, kind in kinds.items() if kind in PERCEPTION), None)
        if x is None or y is None:
            return None
        best = entry_info(x, metrics[x]).best, entry_info(y, metrics[y]).best
        return cls(x, y, best)

    def point(self, values: Mapping[str, float]) -> Point | None:
        """The point of measured values, by metric; None where one is missing or not finite."""
        x, y = values.get(self.distortion, math.nan), values.get(self.perception, math.nan)
        return (x, y) if math.isfinite(x) and math.isfinite(y) else None


@dataclass(frozen=True)
class Rule:
    """How one of several measured models is chosen: the knee of the front, or the best value of a metric within limits."""

    best: str | None = None
    """The metric of which the best value wins. None: the knee."""
    at_least: Mapping[str, float] | None = None
    """Metric -> its smallest value, of metrics of which large values are better."""
    at_most: Mapping[str, float] | None = None
    """Metric -> its largest value, of metrics of which small values are better."""

    @classmethod
    def read(
        cls, best: str | None, at_least: Sequence[str], at_most: Sequence[str], metrics: Mapping[str, Metric]
    ) -> "Rule":
        """From `lpips` and limits such as `psnr=25.8`; ValueError for what the metrics do not allow."""
        if best is not None and best not in metrics:
            raise ValueError(f"--best {best}: not measured; measured are {', '.join(metrics)} (see --metrics)")
        return cls(best, _limits("--at-least", at_least, metrics, "max"), _limits("--at-most", at_most, metrics, "min"))

    def __str__(self) -> str:
        limits = [f"{name} at least {value:g}" for name, value in (self.at_least or {}).items()]
        limits += [f"{name} at most {value:g}" for name, value in (self.at_most or {}).items()]
        rule = f"best {self.best}" if self.best else "knee of the front"
        return f"{rule} with {' and '.join(limits)}" if limits else rule

    def choose(self, values: Mapping[str, Mapping[str, float]], axes: Axes, metrics: Mapping[str, Metric]) -> str:
        """The name of the chosen model; `values` are those of each model, by metric. Of equal ones the first."""
        allowed = {name: row for name, row in values.items() if self._allows(row)}
        if not allowed:
            nearest = {name: max((row[name] for row in values.values()), default=math.nan) for name in self.at_least or {}}
            nearest |= {name: min((row[name] for row in values.values()), default=math.nan) for name in self.at_most or {}}
            found = ", ".join(f"{name} {value:.4f}" for name, value in nearest.items())
            raise ValueError(f"none of the {len(values)} models has {str(self).partition(' with ')[2]}; best found: {found}")
        if self.best is None:
            names = [name for name, row in allowed.items() if axes.point(row)]
            return names[knee([axes.point(allowed[name]) or (math.nan, math.nan) for name in names], axes.best)]
        finite = {name: row[self.best] for name, row in allowed.items() if math.isfinite(row[self.best])}
        if not finite:
            raise ValueError(f"no model has a finite {self.best}")
        return (max if metrics[self.best].best == "max" else min)(finite, key=finite.__getitem__)

    def _allows(self, row: Mapping[str, float]) -> bool:
        enough = all(row[name] >= value for name, value in (self.at_least or {}).items())
        return enough and all(row[name] <= value for name, value in (self.at_most or {}).items())


def _limits(option: str, texts: Sequence[str], metrics: Mapping[str, Metric], best: Best) -> dict[str, float]:
    limits = {}
    for text in texts:
        name, _, number = text.partition("=")
        try:
            limits[name] = float(number)
        except ValueError:
            raise ValueError(f"{option} {text}: give METRIC=VALUE, such as psnr=25.8") from None
        if name not in metrics:
            raise ValueError(f"{option} {text}: {name} is not measured; measured are {', '.join(metrics)} (see --metrics)")
        if metrics[name].best != best:
            other = "--at-most" if option == "--at-least" else "--at-least"
            better = "small" if best == "max" else "large"
            raise ValueError(f"{option} {text}: {better} values of {name} are better; use {other}")
    return limits
