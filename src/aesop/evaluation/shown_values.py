"""Values as text beside pictures."""

import math
from collections.abc import Mapping

from aesop.evaluation.results import Metric


def shown_values(
    metrics: Mapping[str, Metric], values: Mapping[str, Mapping[str, float]]
) -> dict[str, list[tuple[str, bool]]]:
    """For each method the text of each of its values, and whether it reads like the best one.

    `values`: method -> metric. One that is missing or not finite is a dash.
    """
    shown: dict[str, list[tuple[str, bool]]] = {method: [] for method in values}
    for key, metric in metrics.items():
        finite = [row[key] for row in values.values() if math.isfinite(row.get(key, math.nan))]
        best = format((max if metric.best == "max" else min)(finite), metric.format) if finite else None
        for method, row in values.items():
            value = row.get(key, math.nan)
            text = format(value, metric.format) if math.isfinite(value) else "–"
            shown[method].append((text, text == best))
    return shown
