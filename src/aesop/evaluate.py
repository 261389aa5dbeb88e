"""Measuring a network on test sets by the paper's protocol: `aesop test`, and validation during training."""

import csv
import json
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from aesop.archs import AutoEncoder, build_network
from aesop.config import Config, MetricOptions, PairedDataset
from aesop.data.images import to_array, to_tensor, write_image
from aesop.data.pairs import MeasuredPairs
from aesop.device import autocast, pick_device
from aesop.files import replacing
from aesop.inference import upscale_image
from aesop.metrics import DISTS, LPIPS, METRIC_TYPES, METRICS, ae_psnr, lr_psnr, psnr, ssim
from aesop.weights import (
    WeightsNotFound,
    find_pretrained,
    has_pretrained,
    load_autoencoder,
    load_into,
    naming,
    read_state_dict,
)

Row = dict[str, str | float]
Metric = Callable[[Tensor, Tensor], Tensor]
# The known weights (see weights.py) that a metric needs.
METRIC_WEIGHTS = {"lpips": ("alexnet", "lpips_alex"), "dists": ("vgg16", "dists")}


def make_metrics(
    options: Mapping[str, MetricOptions], scale: int, device: torch.device, autoencoder: nn.Module | None = None
) -> dict[str, Metric]:
    """The metrics of a `val.metrics` section: name -> function of (SR, HR), (1, 3, H, W) in [0, 1] on `device`.

    Args:
        autoencoder: for aepsnr entries that name no auto-encoder of their own.

    Raises:
        ValueError: naming every entry that cannot be measured, and why.
    """
    faults = check_metrics(options, has_autoencoder=autoencoder is not None)
    if faults:
        raise ValueError("\n".join(faults))
    return {name: _make_metric(name, entry, scale, device, autoencoder) for name, entry in options.items()}


def check_metrics(options: Mapping[str, MetricOptions], has_autoencoder: bool) -> list[str]:
    """What is wrong with a `val.metrics` section: unknown metrics, missing weights."""
    faults = []
    for name, entry in options.items():
        kind = metric_kind(name, entry)
        if kind not in METRICS:
            faults.append(f"val.metrics.{name}: there is no metric {kind!r}; known: {', '.join(METRICS)}")
        elif kind == "aepsnr" and not (entry.autoencoder or has_autoencoder):
            faults.append(f"val.metrics.{name}.autoencoder: give the weight file of the auto-encoder to measure with")
        elif kind in METRIC_WEIGHTS and entry.test_y_channel:
            faults.append(f"val.metrics.{name}.test_y_channel: {kind} is measured in colour; leave it out")
        elif kind in METRIC_WEIGHTS and not has_pretrained(*METRIC_WEIGHTS[kind]):
            missing = next(weights for weights in METRIC_WEIGHTS[kind] if not has_pretrained(weights))
            try:
                find_pretrained(missing)
            except WeightsNotFound as error:
                faults.append(f"val.metrics.{name}: {error}")
    return faults


def metric_kind(name: str, entry: MetricOptions) -> str:
    """The METRICS key of an entry: its type (ours or a published name), else its own name."""
    return METRIC_TYPES.get(entry.type or name, entry.type or name)


def _make_metric(name: str, entry: MetricOptions, scale: int, device: torch.device, autoencoder: nn.Module | None) -> Metric:
    kind = metric_kind(name, entry)
    info = METRICS[kind]
    border = info.crop_border if entry.crop_border is None else entry.crop_border
    luma = info.test_y_channel if entry.test_y_channel is None else entry.test_y_channel
    if kind == "psnr":
        return lambda sr, hr: psnr(sr, hr, border, luma)
    if kind == "ssim":
        return lambda sr, hr: ssim(sr, hr, border, luma)
    if kind == "lrpsnr":
        return lambda sr, hr: lr_psnr(sr, hr, scale, border, luma)
    if kind == "aepsnr":
        with naming(f"val.metrics.{name}.autoencoder"):
            judge = load_autoencoder(entry.autoencoder).to(device) if entry.autoencoder else autoencoder
        assert judge is not None
        return lambda sr, hr: ae_psnr(sr, hr, judge, border, luma)
    distance = (LPIPS if kind == "lpips" else DISTS).from_weights().to(device)
    return lambda sr, hr: distance(sr, hr, border)


def predict(
    net: nn.Module, lq: np.ndarray, gt: np.ndarray, scale: int, device: torch.device, precision: str = "fp32"
) -> np.ndarray:
    """The network's 8-bit answer for a pair of uint8 images: SR from LR; an auto-encoder's estimate from HR."""
    if not isinstance(net, AutoEncoder):
        return upscale_image(net, lq, scale, tile=0, device=device, precision=precision)
    with torch.inference_mode(), autocast(device, precision):
        return to_array(net(to_tensor(gt)[None].to(device))[0].float().cpu())


def measure(
    answer: Callable[[np.ndarray, np.ndarray], np.ndarray],
    pairs: MeasuredPairs,
    metrics: Mapping[str, Metric],
    device: torch.device,
    save: Callable[[str, np.ndarray], None] | None = None,
) -> list[Row]:
    """One row {image, metric: value, ...} per pair. `answer(lq, gt)` gives the 8-bit SR; `save(name, sr)` keeps it."""
    rows = []
    for index in range(len(pairs)):
        sample = pairs[index]
        sr = answer(sample["lq"], sample["gt"])
        images = [to_tensor(image)[None].to(device) for image in (sr, sample["gt"])]
        try:
            with torch.inference_mode():
                figures = {name: float(metric(*images).item()) for name, metric in metrics.items()}
        except ValueError as error:
            raise ValueError(f"{pairs.pairs[index].gt}: {error}") from error
        rows.append({"image": sample["name"], **figures})
        if save is not None:
            save(sample["name"], sr)
    return rows


def averages(rows: list[Row]) -> dict[str, float]:
    """Mean of every figure over the rows."""
    names = [name for name in rows[0] if isinstance(rows[0][name], float)]
    return {name: float(np.mean([row[name] for row in rows])) for name in names}


def is_better(options: Mapping[str, MetricOptions], name: str, value: float, than: float | None) -> bool:
    """Whether a figure of the metric `name` beats a former one; NaN never does."""
    if math.isnan(value):
        return False
    higher = METRICS[metric_kind(name, options[name])].higher_is_better
    return than is None or (value > than if higher else value < than)


# --- aesop test --------------------------------------------------------------------------------------------------------


def test(config: Config, console: Console) -> dict[str, list[Row]]:
    """Measure `path.pretrain_network_g` on every `test...` (else `val...`) section; write tables, CSV and JSON.

    Raises:
        ValueError: no test set, no weights, or weights that do not fit.
    """
    sections = config.datasets.measured("test") or config.datasets.measured("val")
    if not sections:
        raise ValueError("datasets: give at least one test set, e.g. test_1: {dataroot_gt: ..., dataroot_lq: ...}")
    if not config.path.pretrain_network_g:
        raise ValueError("path.pretrain_network_g: give the weights to test")
    sets = {name: MeasuredPairs(data, name, config.scale) for name, data in sections.items()}
    device = pick_device(config.device)
    net = build_network(config.network_g.model_dump())
    with naming("path.pretrain_network_g"):
        state, _ = read_state_dict(config.path.pretrain_network_g, config.path.param_key_g)
        load_into(net, state, config.path.pretrain_network_g, config.path.strict_load_g)
    net.eval().requires_grad_(False).to(device)
    metrics = make_metrics(config.val.metrics, config.scale, device)
    folder = Path(config.path.results_root).expanduser() / config.name
    results = {}
    for section, pairs in sets.items():
        begun = time.perf_counter()
        rows = measure(
            lambda lq, gt: predict(net, lq, gt, config.scale, device, config.precision),
            pairs,
            metrics,
            device,
            image_saver(folder / "images" / section, config.val.suffix) if config.val.save_img else None,
        )
        results[section] = rows
        console.print(f"{pairs.name}: {len(rows)} images in {time.perf_counter() - begun:.1f} s")
        write_rows(folder / f"{section}.csv", rows)
    with replacing(folder / "results.json") as temporary:
        described = {name: describe(sections[name], name, rows) for name, rows in results.items()}
        temporary.write_text(json.dumps({"name": config.name, "sets": described}, indent=1))
    console.print(summary_table({sets[name].name: averages(rows) for name, rows in results.items()}, config.val.metrics))
    console.print(f"rows per image: {folder}/*.csv and {folder}/results.json")
    return results


def describe(data: PairedDataset, section: str, rows: list[Row]) -> dict:
    return {"dataset": data.name or section, "average": averages(rows), "images": rows}


def image_saver(folder: Path, suffix: str | None) -> Callable[[str, np.ndarray], None]:
    return lambda name, image: write_image(folder / f"{name}{f'_{suffix}' if suffix else ''}.png", image)


def write_rows(path: Path, rows: list[Row]) -> None:
    """One CSV line per image, and the average at the end."""
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
        writer.writerow({"image": "average", **averages(rows)})


def summary_table(figures: Mapping[str, Mapping[str, float]], options: Mapping[str, MetricOptions]) -> Table:
    """One line per test set (or method), one column per metric."""
    table = Table()
    table.add_column("")
    infos = {}
    for name, entry in options.items():
        infos[name] = METRICS[metric_kind(name, entry)]
        table.add_column(f"{infos[name].label} {'↑' if infos[name].higher_is_better else '↓'}", justify="right")
    for label, row in figures.items():
        table.add_row(label, *(format(row[name], infos[name].format) for name in options))
    return table
