"""Results to make tables from, without measuring."""

import numpy as np

from aesop.evaluation.results import MethodResults, Metric, Results

METRICS = {
    "psnr": Metric(label="PSNR", best="max", format=".2f"),
    "lpips": Metric(label="LPIPS", best="min", format=".4f"),
}
PROTOCOL = {
    "scale": 4,
    "metrics": {
        "psnr": {"label": "PSNR", "type": "psnr", "channels": "luma", "crop_border": 4},
        "lpips": {"label": "LPIPS", "type": "lpips", "channels": "RGB", "crop_border": 0},
    },
    "versions": {"aesop": "0.1.0"},
}
SETS = {"Set5": 5, "Set14": 14, "Urban100": 60}


def method(name: str, gain: float = 0.0, sets: dict[str, int] | None = None, **fields) -> MethodResults:
    """`gain`: PSNR in dB above a method with gain 0, and a hundredth of it in LPIPS; each image with its own noise."""
    values = {}
    for number, (set_name, count) in enumerate((SETS if sets is None else sets).items()):
        difficulty = np.random.default_rng(number).normal(0, 3, count)
        noise = np.random.default_rng([number, *name.encode()]).normal(0, 0.1, (2, count))
        values[set_name] = {
            f"img_{k:03d}": {
                "psnr": 27 + difficulty[k] + gain + noise[0, k],
                "lpips": 0.4 + (difficulty[k] - gain + noise[1, k]) / 100,
            }
            for k in range(count)
        }
    return MethodResults(name=name, values=values, **fields)


def results(*methods: MethodResults, **fields) -> Results:
    given = {"name": "test", "scale": 4, "metrics": METRICS, "methods": methods, "protocol": PROTOCOL}
    return Results(**given | fields)


def changed(method: MethodResults, set_name: str, image: str, **values: float | None) -> MethodResults:
    """With other values of one image; None removes a value."""
    row = {k: v for k, v in {**method.values[set_name][image], **values}.items() if v is not None}
    images = {**method.values[set_name], image: row}
    return method.model_copy(update={"values": {**method.values, set_name: images}})


def without(method: MethodResults, set_name: str, *images: str) -> MethodResults:
    kept = {image: row for image, row in method.values[set_name].items() if image not in images}
    return method.model_copy(update={"values": {**method.values, set_name: kept}})
