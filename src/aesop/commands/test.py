"""`aesop test`: measure a network, and methods to compare it with, on test sets."""

from rich.console import Console

from aesop.archs import AutoEncoderOptions, trained_channels
from aesop.data.measured_pairs import MeasuredPairs
from aesop.evaluation.cache import Cache
from aesop.evaluation.comparison_page import plan_views, write_comparison_page
from aesop.evaluation.evaluate import Evaluation, report
from aesop.evaluation.measure import SaveImage, image_saver
from aesop.evaluation.methods import check_result_names, load_methods
from aesop.evaluation.results import Results
from aesop.metrics.build import check_sizes, without_reference
from aesop.options.config import TestConfig
from aesop.system.device import float32_on_cuda
from aesop.system.distributed import World, init_distributed
from aesop.system.terminal import Note
from aesop.system.user_cache import cache_folder


@float32_on_cuda(tf32=False)
def test(config: TestConfig, console: Console, world: World | None = None) -> Results:  # noqa: PT028
    """Measure `path.pretrain_network_g` on every `test...` section, or else every `val...` section.

    Writes images, CSV and JSON; with `val.page` also a page. With `path.compare_with` or `val.page`, other models and
    bicubic are measured as well; the tested network is the last method. On a SingleImageDataset, which has no HR, only
    metrics without reference are measured. float32 is never TF32. The processes of torchrun share the images.
    """
    if world is None:
        with init_distributed(config.device) as world:
            return test(config, console, world)
    val, folder = config.val, config.results_folder
    sections = config.datasets.measured("test") or config.datasets.measured("val")
    if not sections:
        raise ValueError("datasets: give at least one test set, e.g. test_1: {dataroot_gt: ..., dataroot_lq: ...}")
    gray = trained_channels(config.network_g) == (1, 1)
    sets = {section: MeasuredPairs.find(data, section, config.scale, gray) for section, data in sections.items()}
    no_reference = without_reference(val.metrics)
    options = val.metrics if any(pairs.has_reference for pairs in sets.values()) else no_reference
    if not (options or val.save_img or val.page):
        raise ValueError("val: nothing to do: without HR images only metrics such as niqe can be measured; set save_img")
    check_sizes(options, sets.values(), config.scale, isinstance(config.network_g, AutoEncoderOptions))
    methods = load_methods(config, world.device)
    check_result_names(list(sets), methods)
    for pairs in sets.values():
        skipped = [] if pairs.has_reference else [name for name in val.metrics if name not in no_reference]
        if skipped:
            console.print(Note(f"{pairs.name}: {', '.join(skipped)} skipped: the set has no HR images"))
    counts = {section: len(pairs) for section, pairs in sets.items()}
    views, side = plan_views(counts, len(methods), config.scale) if val.page else ({}, 0)

    def savers(section: str) -> dict[str, SaveImage]:
        folders = {method.name: folder / "images" / method.result_name(section) for method in methods}
        return {name: image_saver(path, val.suffix) for name, path in folders.items()} if val.save_img else {}

    cache = Cache(cache_folder("measured")) if val.cache else None
    evaluation = Evaluation(config.name, methods, sets, options, cache, savers=savers, views=views, view_side=side)
    results, found = evaluation.run(world, console)
    if world.is_main:
        report(results, console, folder)
        if val.page:
            page = write_comparison_page(config, methods, list(found.values()), results.metrics)
            total, shown = sum(counts.values()), sum(views.values())
            console.print(Note(f"side by side: {page}{f' ({shown} of {total} images)' if shown < total else ''}"))
    return results
