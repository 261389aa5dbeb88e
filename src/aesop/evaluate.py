"""Measuring a network on test sets by the paper's protocol: `aesop test`, and validation during training."""

import csv
import json
import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from torch import Tensor, nn

from aesop.archs import AutoEncoder, build_network
from aesop.compare import (
    Answer,
    Best,
    Method,
    SetSummary,
    View,
    check_places,
    load_methods,
    plan_page,
    where_all_are,
    write_page,
)
from aesop.config import AutoEncoderOptions, Config, MetricOptions, PairedDataset
from aesop.data.images import ImageError, image_size, to_array, to_tensor, write_image
from aesop.data.pairs import MeasuredPairs
from aesop.data.resize import mod_crop
from aesop.device import autocast, is_out_of_memory
from aesop.engine.distributed import World, gathered, joined, share_of
from aesop.files import replacing
from aesop.inference import upscale_image
from aesop.metrics import (
    DISTS,
    LPIPS,
    METRIC_TYPES,
    METRICS,
    PYIQA,
    MetricInfo,
    PyIQA,
    ae_psnr,
    lr_psnr,
    metric_info,
    psnr,
    ssim,
)
from aesop.niqe import NIQE, check_size
from aesop.weights import (
    WeightsNotFound,
    find_file,
    has_pretrained,
    load_autoencoder,
    load_into,
    naming,
    read_state_dict,
)

Row = dict[str, str | float]
# What the demo measures where the weights are.
METRIC_WEIGHTS = {name: METRICS[name].weights for name in ("lpips", "dists")}


@dataclass(frozen=True)
class Metric:
    """An entry of `val.metrics`, ready to measure images (1, 3, H, W) in [0, 1]."""

    info: MetricInfo
    function: Callable[..., Tensor]

    def __call__(self, sr: Tensor, hr: Tensor | None = None) -> Tensor:
        """(1,). Without HR only where `info.needs_reference` is false."""
        return self.function(sr, hr) if self.info.needs_reference else self.function(sr)


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
    """What is wrong with a `val.metrics` section: unknown metrics, a channel they are not defined on, missing weights."""
    faults = []
    for name, entry in options.items():
        try:
            info = entry_info(name, entry)
        except ValueError as error:
            faults.append(str(error))
            continue
        missing = next((weights for weights in info.weights if not has_pretrained(weights)), None)
        if metric_kind(name, entry) == "aepsnr" and not (entry.autoencoder or has_autoencoder):
            faults.append(f"val.metrics.{name}.autoencoder: give the weight file of the auto-encoder to measure with")
        elif not info.either_channel and entry.test_y_channel not in (None, info.test_y_channel):
            measured = "on luma" if info.test_y_channel else "in colour"
            faults.append(f"val.metrics.{name}.test_y_channel: {info.label} is measured {measured}; leave it out")
        elif missing is not None:
            try:
                find_file(missing)
            except WeightsNotFound as error:
                faults.append(f"val.metrics.{name}: {error}")
    return faults


def metric_kind(name: str, entry: MetricOptions) -> str:
    """The METRICS key, or `pyiqa:NAME`, of an entry: its type (ours or a published name), else its own name."""
    return METRIC_TYPES.get(entry.type or name, entry.type or name)


def entry_info(name: str, entry: MetricOptions) -> MetricInfo:
    """What is known of an entry's metric; ValueError, naming the entry, when there is no such metric."""
    try:
        return metric_info(metric_kind(name, entry))
    except ValueError as error:
        raise ValueError(f"val.metrics.{name}: {error}") from error


def without_reference(options: Mapping[str, MetricOptions]) -> dict[str, MetricOptions]:
    """The entries of a `val.metrics` section that need no HR; ValueError for an unknown metric."""
    return {name: entry for name, entry in options.items() if not entry_info(name, entry).needs_reference}


def _make_metric(name: str, entry: MetricOptions, scale: int, device: torch.device, autoencoder: nn.Module | None) -> Metric:
    info = entry_info(name, entry)
    border = info.crop_border if entry.crop_border is None else entry.crop_border
    luma = info.test_y_channel if entry.test_y_channel is None else entry.test_y_channel
    match metric_kind(name, entry):
        case "psnr":
            return Metric(info, lambda sr, hr: psnr(sr, hr, border, luma))
        case "ssim":
            return Metric(info, lambda sr, hr: ssim(sr, hr, border, luma))
        case "lrpsnr":
            return Metric(info, lambda sr, hr: lr_psnr(sr, hr, scale, border, luma))
        case "aepsnr":
            with naming(f"val.metrics.{name}.autoencoder"):
                judge = load_autoencoder(entry.autoencoder).to(device) if entry.autoencoder else autoencoder
            assert judge is not None
            return Metric(info, lambda sr, hr: ae_psnr(sr, hr, judge, border, luma))
        case "lpips":
            distance = LPIPS.from_weights("alex").to(device)
        case "lpips_vgg":
            distance = LPIPS.from_weights("vgg").to(device)
        case "dists":
            distance = DISTS.from_weights().to(device)
        case "niqe":
            distance = NIQE.from_weights()
        case kind:
            try:
                distance = PyIQA(kind.removeprefix(PYIQA), device)
            except ValueError as error:
                raise ValueError(f"val.metrics.{name}: {error}") from error
    return Metric(info, lambda *images: distance(*images, crop_border=border))


def predict(
    net: nn.Module,
    lq: np.ndarray,
    gt: np.ndarray | None,
    scale: int,
    device: torch.device,
    precision: str = "fp32",
    tile: int = 0,
) -> np.ndarray:
    """The network's 8-bit answer for a pair of uint8 images: SR from LR; an auto-encoder's estimate from HR.

    Without HR (`gt` None) `lq` is the image itself, which an auto-encoder gets cut to multiples of the scale.

    Args:
        tile: a generator sees tiles of at most so many LR pixels a side; 0, and for auto-encoders: whole images.
    """
    if not isinstance(net, AutoEncoder):
        return upscale_image(net, lq, scale, tile=tile, device=device, precision=precision)
    image = mod_crop(lq, scale) if gt is None else gt
    try:
        with torch.inference_mode(), autocast(device, precision):
            return to_array(net(to_tensor(image)[None].to(device))[0].float().cpu())
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        height, width = image.shape[:2]
        raise MemoryError(
            f"out of memory on {device}: an auto-encoder sees whole images, and {width}x{height} is too much; measure "
            "smaller ones, or set device=cpu"
        ) from error


def measure(
    answer: Answer,
    pairs: MeasuredPairs,
    metrics: Mapping[str, Metric],
    device: torch.device,
    save: Callable[[str, np.ndarray], None] | None = None,
    world: World = World(),  # noqa: B008
) -> list[Row]:
    """One row {image, metric: value, ...} per image; without HR of the metrics that need none.

    `answer(lq, gt)` gives the 8-bit SR (`gt` None where there is no HR); `save(name, sr)` keeps it. The processes of
    `world` take turns with the images, and each gets all rows.

    Raises:
        ValueError: naming the image that cannot be measured, and why.
    """
    rows = []
    for index in share_of(world, range(len(pairs))):
        sample = pairs[index]
        row, sr = measure_image(answer, sample, pairs.pairs[index].source, metrics, device)
        rows.append(row)
        if save is not None:
            save(sample["name"], sr)
    return gathered(world, rows)


def measure_image(
    answer: Answer, sample: Mapping[str, Any], source: Path, metrics: Mapping[str, Metric], device: torch.device
) -> tuple[Row, np.ndarray]:
    """`measure` for one sample of MeasuredPairs: (its row, its SR)."""
    measured = {n: m for n, m in metrics.items() if sample["gt"] is not None or not m.info.needs_reference}
    try:
        sr = answer(sample["lq"], sample["gt"])
        images = [to_tensor(image)[None].to(device) for image in (sr, sample["gt"]) if image is not None]
        with torch.inference_mode():
            figures = {name: float(metric(*images).item()) for name, metric in measured.items()}
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error
    return {"image": sample["name"], **figures}, sr


def averages(rows: list[Row]) -> dict[str, float]:
    """Mean of every figure over the rows."""
    names = [name for name in rows[0] if isinstance(rows[0][name], float)]
    return {name: float(np.mean([row[name] for row in rows])) for name in names}


def is_better(options: Mapping[str, MetricOptions], name: str, value: float, than: float | None) -> bool:
    """Whether a figure of the metric `name` beats a former one; NaN never does."""
    if math.isnan(value):
        return False
    higher = entry_info(name, options[name]).higher_is_better
    return than is None or (value > than if higher else value < than)


# --- aesop test --------------------------------------------------------------------------------------------------------


def test(config: Config, console: Console, world: World | None = None) -> dict[str, list[Row]]:  # noqa: PT028
    """Measure `path.pretrain_network_g` on every `test...` (else `val...`) section; write images, tables, CSV and JSON.

    With `path.compare_with` or `val.page` other models and bicubic are measured beside it, and shown on a page. Of a
    SingleImageDataset, which has no HR, the images are saved and the metrics measured that need none.

    Args:
        world: the processes that share the images; default: those torchrun started, or this one alone.

    Returns:
        The tested network's rows by section.

    Raises:
        ValueError: no test set, no weights or ones that do not fit, metrics or images that cannot be measured.
    """
    if world is None:
        with joined(config.device) as world:
            return test(config, console, world)
    sections = config.datasets.measured("test") or config.datasets.measured("val")
    if not sections:
        raise ValueError("datasets: give at least one test set, e.g. test_1: {dataroot_gt: ..., dataroot_lq: ...}")
    if not config.path.pretrain_network_g:
        raise ValueError("path.pretrain_network_g: give the weights to test")
    sets = {name: MeasuredPairs(data, name, config.scale) for name, data in sections.items()}
    alone = without_reference(config.val.metrics)
    options = config.val.metrics if any(pairs.has_reference for pairs in sets.values()) else alone
    if not (options or config.val.save_img or config.val.page):
        raise ValueError("val: nothing to do: without HR images only metrics such as niqe can be measured; set save_img")
    check_sizes(options, sets.values(), config.scale, isinstance(config.network_g, AutoEncoderOptions))
    device = world.device
    net = build_network(config.network_g.model_dump())
    with naming("path.pretrain_network_g"):
        state, _ = read_state_dict(config.path.pretrain_network_g, config.path.param_key_g)
        load_into(net, state, config.path.pretrain_network_g, config.path.strict_load_g)
    net.eval().requires_grad_(False).to(device)
    methods = load_methods(
        config, lambda lq, gt: predict(net, lq, gt, config.scale, device, config.precision, config.val.tile), device
    )
    check_places(list(sets), methods)
    metrics = make_metrics(options, config.scale, device)
    counts = {section: len(pairs) for section, pairs in sets.items()}
    shown, side = plan_page(counts, len(methods), config.scale) if config.val.page else (dict.fromkeys(sets, 0), 0)
    folder = config.results_folder
    results: dict[str, dict[str, list[Row]]] = {}
    summaries = []
    for section, pairs in sets.items():
        left_out = [] if pairs.has_reference else [name for name in config.val.metrics if name not in alone]
        if left_out:
            console.print(f"{pairs.name}: {', '.join(left_out)} left out: it has no HR images to compare with", markup=False)
        begun = time.perf_counter()
        rows, views = measure_methods(methods, section, pairs, metrics, config, world, shown[section], side)
        results[section] = rows
        summaries.append(SetSummary(pairs.name, len(pairs), {name: averages(each) for name, each in rows.items()}, views))
        compared = f", {len(methods)} methods" if len(methods) > 1 else ""
        console.print(f"{pairs.name}: {len(pairs)} images{compared} in {time.perf_counter() - begun:.1f} s")
        for method in methods if world.is_main else []:
            write_rows(folder / f"{method.place(section)}.csv", rows[method.name])
    tested = {section: rows[methods[-1].name] for section, rows in results.items()}
    if not world.is_main:
        return tested
    write_json(folder / "results.json", config.name, sections, methods, results)
    if options:
        lines = {
            each.name + (f", {method}" if len(methods) > 1 else ""): means
            for each in summaries
            for method, means in each.means.items()
        }
        console.print(summary_table(lines, options))
    console.print(f"rows per image: {folder}/*.csv and {folder}/results.json")
    if config.val.page:
        page = write_page(config, methods, summaries, columns(options))
        total, some = sum(counts.values()), sum(shown.values())
        note = f" ({some} of {total} images; {where_all_are(config)})" if some < total else ""
        console.print(f"side by side: {page}{note}", markup=False)
    return tested


def measure_methods(
    methods: Sequence[Method],
    section: str,
    pairs: MeasuredPairs,
    metrics: Mapping[str, Metric],
    config: Config,
    world: World,
    shown: int,
    side: int,
) -> tuple[dict[str, list[Row]], list[View]]:
    """Rows by method and views of the first images; writes the images themselves where `val.save_img` says so.

    The processes of `world` take turns with the images, and each gets everything.

    Args:
        shown, side: how many images to keep views of, and how large (see plan_page).
    """
    measured = []
    for index in share_of(world, range(len(pairs))):
        sample, rows, answers = pairs[index], {}, {}
        for method in methods:
            row, sr = measure_image(method.answer, sample, pairs.pairs[index].source, metrics, world.device)
            rows[method.name], answers[method.name] = row, sr
            if config.val.save_img:
                folder = config.results_folder / "images" / method.place(section)
                image_saver(folder, config.val.suffix)(sample["name"], sr)
        measured.append((rows, View.of(sample, answers, config.scale, side) if index < shown else None))
    measured = gathered(world, measured)
    by_method = {method.name: [rows[method.name] for rows, _ in measured] for method in methods}
    return by_method, [view for _, view in measured if view is not None]


def write_json(
    path: Path,
    name: str,
    sections: Mapping[str, PairedDataset],
    methods: Sequence[Method],
    results: Mapping[str, Mapping[str, list[Row]]],
) -> None:
    """results.json: the tested network's figures by section; those of the others, if any, below `compared_with`."""

    def described(method: Method) -> dict:
        return {section: describe(sections[section], section, rows[method.name]) for section, rows in results.items()}

    *others, tested = methods
    content: dict[str, Any] = {"name": name, "sets": described(tested)}
    if others:
        content["compared_with"] = {m.name: {"weights": m.weights, "sets": described(m)} for m in others}
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1))


def check_sizes(
    options: Mapping[str, MetricOptions], sets: Iterable[MeasuredPairs], scale: int, keeps_size: bool = False
) -> None:
    """Raise ImageError for an image on whose answer NIQE cannot be measured, from the files' headers.

    Args:
        keeps_size: the network is an auto-encoder, whose answer has its input's size.
    """
    borders = [entry.crop_border or 0 for name, entry in options.items() if metric_kind(name, entry) == "niqe"]
    for pair in (pair for pairs in sets for pair in pairs.pairs if borders):
        width, height = (side - side % scale if pair.gt or keeps_size else side * scale for side in image_size(pair.source))
        try:
            check_size(height - 2 * max(borders), width - 2 * max(borders))
        except ValueError as error:
            raise ImageError(f"{pair.source}: {error}") from error


def describe(data: PairedDataset, section: str, rows: list[Row]) -> dict:
    """A set's figures for results.json, which has no NaN: null."""

    def plain(figures: Mapping[str, str | float]) -> dict[str, str | float | None]:
        return {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in figures.items()}

    return {"dataset": data.name or section, "average": plain(averages(rows)), "images": [plain(row) for row in rows]}


def image_saver(folder: Path, suffix: str | None) -> Callable[[str, np.ndarray], None]:
    return lambda name, image: write_image(folder / f"{name}{f'_{suffix}' if suffix else ''}.png", image)


def write_rows(path: Path, rows: list[Row]) -> None:
    """One CSV line per image, and the average at the end."""
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
        writer.writerow({"image": "average", **averages(rows)})


def columns(options: Mapping[str, MetricOptions]) -> dict[str, tuple[str, Best]]:
    """Entry of `val.metrics` -> (the column's label, whether the largest or smallest figure is the best)."""
    infos = {name: entry_info(name, entry) for name, entry in options.items()}
    shared = Counter(info.label for info in infos.values())
    return {
        name: (info.label if shared[info.label] == 1 else name, "max" if info.higher_is_better else "min")
        for name, info in infos.items()
    }


def summary_table(figures: Mapping[str, Mapping[str, float]], options: Mapping[str, MetricOptions]) -> Table:
    """One line per test set (or method), one column per metric; empty where a metric was not measured."""
    table = Table()
    table.add_column("")
    for label, best in columns(options).values():
        table.add_column(f"{label} {'↑' if best == 'max' else '↓'}", justify="right")
    formats = {name: entry_info(name, entry).format for name, entry in options.items()}
    for label, row in figures.items():
        table.add_row(escape(label), *(format(row[name], formats[name]) if name in row else "" for name in options))
    return table
