"""Measuring a network on test sets by the paper's protocol: `aesop test`, and validation during training."""

import time

from rich.console import Console

from aesop.archs import build_network
from aesop.data.measured_pairs import MeasuredPairs
from aesop.evaluation.measure import Row, averages, measure_methods, predict
from aesop.evaluation.methods import check_places, load_methods
from aesop.evaluation.result_files import columns, summary_table, write_json, write_rows
from aesop.metrics.build import check_sizes, make_metrics, without_reference
from aesop.options.config import Config
from aesop.options.networks import AutoEncoderOptions
from aesop.system.distributed import World, init_distributed
from aesop.web.comparison_page import SetSummary, plan_page, where_all_are, write_page
from aesop.weights.errors import naming
from aesop.weights.load import load_into
from aesop.weights.read import read_state_dict


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
        with init_distributed(config.device) as world:
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
