"""A comparison as CSV: one row per test set, method, and metric."""

import csv
import io
import math

from aesop.evaluation.comparison import Comparison

COLUMNS = [
    *("set", "images", "method", "metric", "best", "mean", "low", "high", "trainings", "seed_deviation", "better_than"),
    *("reference", "difference", "difference_low", "difference_high", "p", "significant", "wins", "losses"),
]
"""`low` and `high`: the interval. Columns from `reference` on are empty without one."""


def to_csv(comparison: Comparison) -> str:
    """Numbers with all digits; empty where there is none. Names in `better_than` are separated by `; `."""
    trainings = {method.name: len(method.trainings) for method in comparison.methods}
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS)
    writer.writeheader()
    for each in comparison.sets:
        for method, columns in each.estimates.items():
            for key, estimate in columns.items():
                row = {
                    "set": each.name,
                    "images": len(each.images),
                    "method": method,
                    "metric": key,
                    "best": comparison.metrics[key].best,
                    "mean": estimate.mean,
                    "low": estimate.low,
                    "high": estimate.high,
                    "trainings": trainings[method],
                    "seed_deviation": estimate.seed_deviation,
                    "better_than": "; ".join(estimate.better_than),
                }
                if difference := estimate.difference:
                    row |= {
                        "reference": comparison.reference,
                        "difference": difference.mean,
                        "difference_low": difference.low,
                        "difference_high": difference.high,
                        "p": difference.p,
                        "significant": difference.significant,
                        "wins": difference.wins,
                        "losses": difference.losses,
                    }
                empty = {name: "" for name, value in row.items() if isinstance(value, float) and math.isnan(value)}
                writer.writerow(row | empty)
    return text.getvalue()
