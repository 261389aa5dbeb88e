import csv
import io
import math

import pytest
from results_lib import changed, method, results

from aesop.evaluation.comparison import compare
from aesop.evaluation.tables.csv_rows import to_csv


def test_reading_gives_every_number_back():
    methods = [method("a, b"), method("c", 1), *(method(f"run{k}", seed_of="ours") for k in range(2))]
    broken = changed(methods[1], "Set5", "img_000", psnr=math.nan)
    comparison = compare(results(methods[0], broken, *methods[2:]), "a, b")
    rows = list(csv.DictReader(io.StringIO(to_csv(comparison))))
    assert len(rows) == 3 * 3 * 2
    for row in rows:
        (each,) = (each for each in comparison.sets if each.name == row["set"])
        estimate = each.estimates[row["method"]][row["metric"]]
        numbers = {
            "mean": estimate.mean,
            "low": estimate.low,
            "high": estimate.high,
            "seed_deviation": estimate.seed_deviation,
        }
        if difference := estimate.difference:
            numbers |= {
                "difference": difference.mean,
                "p": difference.p,
                "wins": difference.wins,
                "losses": difference.losses,
            }
            assert row["significant"] == str(difference.significant)
        for name, number in numbers.items():
            expected = math.nan if number is None else number
            assert float(row[name] or "nan") == pytest.approx(expected, abs=0, nan_ok=True)
        assert int(row["images"]) == len(each.images)
        assert tuple(filter(None, row["better_than"].split("; "))) == estimate.better_than
    assert {row["trainings"] for row in rows if row["method"] == "ours"} == {"2"}
    assert {row["reference"] for row in rows if row["method"] == "a, b"} == {""}
