"""`aesop test`: measure a network, and methods to compare it with, on test sets."""

import time

from rich.console import Console

from aesop.archs import AutoEncoderOptions, trained_channels
from aesop.data.measured_pairs import MeasuredPairs
from aesop.evaluation.comparison_page import plan_views, write_comparison_page
from aesop.evaluation.measure import Row, SetResults, image_saver, measure_methods
from aesop.evaluation.methods import check_result_names, load_methods
from aesop.evaluation.result_files import metric_columns, summary_table, write_csv, write_json
from aesop.metrics.build import check_sizes, make_metrics, without_reference
from aesop.options.config import TestConfig
from aesop.system.device import float32_on_cuda
from aesop.system.distributed import World, init_distributed


@float32_on_cuda(tf32=False)
def test(config: TestConfig, console: Console, world: World | None = None) -> dict[str, list[Row]]:  # noqa: PT028
    """Measure `path.pretrain_network_g` on every `test...` section, or else every `val...` section.

    Writes images, CSV and JSON; with `val.page` also a page. With `path.compare_with` or `val.page`, other models and
    bicubic are measured as well. On a SingleImageDataset, which has no HR, only metrics without reference are measured.
    float32 is never TF32. Returns the tested network's rows by section. The processes of torchrun share the images.
    """
    if world is None:
        with init_distributed(config.device) as world:
            return test(config, console, world)
    val, folder = config.val, config.results_folder
    sections = config.datasets.measured("test") or config.datasets.measured("val")
    if not sections:
        raise ValueError("datasets: give at least one test set, e.g. test_1: {dataroot_gt: ..., dataroot_lq: ...}")
    sets = {
        section: MeasuredPairs(data, section, config.scale, trained_channels(config.network_g) == (1, 1))
        for section, data in sections.items()
    }
    no_reference = without_reference(val.metrics)
    options = val.metrics if any(pairs.has_reference for pairs in sets.values()) else no_reference
    if not (options or val.save_img or val.page):
        raise ValueError("val: nothing to do: without HR images only metrics such as niqe can be measured; set save_img")
    check_sizes(options, sets.values(), config.scale, isinstance(config.network_g, AutoEncoderOptions))
    methods = load_methods(config, world.device)
    check_result_names(list(sets), methods)
    metrics = make_metrics(options, config.scale, world.device)
    counts = {section: len(pairs) for section, pairs in sets.items()}
    views, side = plan_views(counts, len(methods), config.scale) if val.page else ({}, 0)

    results: dict[str, SetResults] = {}
    for section, pairs in sets.items():
        skipped = [] if pairs.has_reference else [name for name in val.metrics if name not in no_reference]
        if skipped:
            console.print(f"{pairs.name}: {', '.join(skipped)} skipped: the set has no HR images")
        folders = {method.name: folder / "images" / method.result_name(section) for method in methods}
        savers = {name: image_saver(path, val.suffix) for name, path in folders.items()} if val.save_img else {}
        start = time.perf_counter()
        results[section] = measure_methods(methods, pairs, metrics, world, savers, views.get(section, 0), side)
        compared = f", {len(methods)} methods" if len(methods) > 1 else ""
        console.print(f"{pairs.name}: {len(pairs)} images{compared} in {time.perf_counter() - start:.1f} s")
        if world.is_main:
            for method in methods:
                write_csv(folder / f"{method.result_name(section)}.csv", results[section].rows[method.name])

    if world.is_main:
        write_json(folder / "results.json", config.name, methods, results)
        if options:
            means = {
                f"{each.name}, {method}" if len(methods) > 1 else each.name: values
                for each in results.values()
                for method, values in each.means.items()
            }
            console.print(summary_table(means, options))
        console.print(f"rows per image: {folder}/*.csv and {folder}/results.json")
        if val.page:
            page = write_comparison_page(config, methods, list(results.values()), metric_columns(options))
            total, shown = sum(counts.values()), sum(views.values())
            console.print(f"side by side: {page}{f' ({shown} of {total} images)' if shown < total else ''}")
    return {section: each.rows[methods[-1].name] for section, each in results.items()}
