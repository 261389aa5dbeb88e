"""`aesop measure`: measure finished images of any method, networks, and interpolations against HR images."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from rich.console import Console

from aesop.data.find_pairs import Pair
from aesop.data.measured_pairs import MeasuredPairs
from aesop.evaluation.cache import Cache
from aesop.evaluation.cost import measure_costs
from aesop.evaluation.evaluate import Evaluation, report
from aesop.evaluation.finished_images import check_files, finished_images
from aesop.evaluation.methods import INTERPOLATIONS, RESERVED_NAMES, Method, method_names, network_file
from aesop.evaluation.pairing import Found, HRNames, add, match_folder
from aesop.evaluation.results import Results
from aesop.evaluation.tables.cost import cost_table
from aesop.images.errors import ImageError
from aesop.images.listing import list_images
from aesop.images.pack import is_pack
from aesop.images.read import ImageFile
from aesop.inference.models import find_model
from aesop.metrics import metric_info
from aesop.metrics.build import check_sizes
from aesop.options.config import DEFAULT_SCALE
from aesop.options.validation import MetricOptions
from aesop.system.device import float32_on_cuda
from aesop.system.distributed import World, init_distributed
from aesop.system.terminal import Note
from aesop.system.wording import first_few
from aesop.weights.errors import WeightsNotFound
from aesop.weights.pretrained import find_file, without_places

USUAL_METRICS = ("psnr", "ssim", "lpips", "dists", "niqe")
# Folders of HR images that do not name the test set: HR, GT, HRx3, GTmod12.
_HR_FOLDER = re.compile(r"(?i)(hr|gt|original)([\W_]?(x|mod)?\d+)?$")
Sets = Mapping[str, Sequence[Pair]]


@dataclass(frozen=True)
class Request:
    """The arguments of `aesop measure`. Inputs and folders of HR images may begin with `NAME=`."""

    inputs: Sequence[str]
    """Folders of finished images, weight files or models, and interpolations."""
    hr: Sequence[str]
    """The HR images: a folder for each test set."""
    lr: Sequence[str] = ()
    """Folders of LR images, in the order of `hr`; none: LR is made from HR."""
    metrics: str | None = None
    """Names with commas between them. None: USUAL_METRICS, as far as possible."""
    scale: int | None = None
    crop_border: int | None = None
    """Replaces the border of the metrics that leave one out by default."""
    rgb: bool = False
    """Measure PSNR and other metrics that are defined on both in colour instead of on luma."""
    autoencoder: str | None = None
    """Weight file for AE-PSNR."""
    output: Path | None = None
    overwrite: bool = False
    name: str | None = None
    device: str = "auto"
    tile: int = 0
    cost: bool = False
    """Also measure what networks cost on the largest image."""
    cache: Path | None = None
    """None: no cache."""


@float32_on_cuda(tf32=False)
def measure(request: Request, console: Console, world: World | None = None) -> Results:
    """Measure what is asked for, print a table, and write results.json and values.csv into `output`, if any.

    What cannot be paired or has another size is a ValueError before anything is computed. Finished images that are not there
    or cannot be read make the results partial: `Results.missing` names them. The processes of torchrun share the images.
    """
    if world is None:
        with init_distributed(request.device) as world:
            return measure(request, console, world)
    if request.output and not request.overwrite and (request.output / "results.json").exists():
        raise ValueError(f"{request.output}/results.json exists: give another folder, or --overwrite")
    sets = find_sets(request.hr, request.lr, console)
    methods, scale = find_methods(request, sets, world.device, console)
    if request.cost and not any(method.generator for method in methods):
        raise ValueError("--cost: none of the methods is a network; name weight files instead of folders of images")
    measured = {name: MeasuredPairs(name, scale, pairs) for name, pairs in sets.items()}
    check_files(methods, measured.values())
    metrics = choose_metrics(request, list(measured.values()), scale, console)
    name = request.name or (request.output.name if request.output else "") or "measured"
    cache = Cache(request.cache) if request.cache else None
    results, _ = Evaluation(name, methods, measured, metrics, cache, tolerant=True).run(world, console)
    if world.is_main:
        if request.cost:
            results = with_costs(results, methods, list(measured.values()), world.device, request.tile)
        report(results, console, request.output)
        if any(method.cost for method in results.methods):
            console.print(cost_table(results))
    return results


def with_costs(
    results: Results, methods: Sequence[Method], sets: Sequence[MeasuredPairs], device: torch.device, tile: int
) -> Results:
    """Results with the costs of the networks on the largest image of all sets."""
    nets = {method.name: method.generator for method in methods if method.generator is not None}
    pairs, index = max(((pairs, k) for pairs in sets for k in range(len(pairs))), key=lambda place: _pixels(*place))
    lq = pairs[index].lq
    costs = measure_costs(nets, [lq], results.scale, device, tile=tile)
    methods_with = tuple(each.model_copy(update={"cost": costs.get(each.name)}) for each in results.methods)
    return results.model_copy(update={"methods": methods_with})


def _pixels(pairs: MeasuredPairs, index: int) -> int:
    width, height = pairs.pairs[index].source.size()
    return width * height


def split_name(text: str) -> tuple[str | None, str]:
    """(NAME or None, the rest) of `NAME=REST`. A path that exists is never split."""
    name, equals, rest = text.partition("=")
    return (name, rest) if equals and name and rest and not Path(text).exists() else (None, text)


# --- HR and LR images --------------------------------------------------------------------------------------------------


def find_sets(hr: Sequence[str], lr: Sequence[str], console: Console) -> Sets:
    """The test sets by name, each with its pairs."""
    if lr and len(lr) != len(hr):
        raise ValueError(f"--lr: give a folder for each --hr, in the same order; found {len(lr)} for {len(hr)}")
    sets: dict[str, list[Pair]] = {}
    for number, text in enumerate(hr):
        given, folder = split_name(text)
        name = given or set_name(folder)
        if name.casefold() in map(str.casefold, sets):
            raise ValueError(f"--hr: two test sets would be called {name}: give --hr NAME={folder}")
        images = list_images(Path(folder).expanduser())
        partners = find_lr(images, Path(lr[number]).expanduser(), console) if lr else {}
        sets[name] = [Pair(image, partners.get(image), image.stem) for image in images]
    return sets


def set_name(folder: str) -> str:
    """The last part of a path that does not only say that HR images are in there: `Set5` of `data/Set5/HR`."""
    path = Path(os.path.abspath(Path(folder).expanduser()))
    parts = [*path.parts[:-1], path.stem if path.suffix in (".pack", ".lmdb") else path.name]
    return next((part for part in reversed(parts) if not _HR_FOLDER.match(part)), path.name)


def find_lr(hr: Sequence[ImageFile], folder: Path, console: Console) -> dict[ImageFile, ImageFile]:
    """The LR image of each HR image."""
    by_name, names = {image.stem: image for image in hr}, HRNames([image.stem for image in hr])
    partners: dict[ImageFile, ImageFile] = {}
    unused = []
    for image in list_images(folder):
        name = names.find(image)
        if name is None:
            unused.append(image)
        elif (other := partners.setdefault(by_name[name], image)) != image:
            raise ImageError(f"--lr: {other} and {image} both belong to {by_name[name]}: leave one")
    if missing := [image for image in hr if image not in partners]:
        raise ImageError(f"--lr: {len(missing)} of {len(hr)} HR images have no LR image in {folder}: {first_few(missing)}")
    _note_unused(unused, console)
    return partners


def _note_unused(unused: Sequence[ImageFile], console: Console) -> None:
    if unused:
        console.print(Note(f"note: {len(unused)} images belong to no HR image: {first_few(unused)}"))


# --- methods -----------------------------------------------------------------------------------------------------------


def find_methods(request: Request, sets: Sets, device: torch.device, console: Console) -> tuple[list[Method], int]:
    """The methods in the order of the inputs, and their scale."""
    inputs = [split_name(text) for text in request.inputs]
    finished = find_finished([(name, given) for name, given in inputs if _is_folder(given)], sets, console)
    weights = [(name, given) for name, given in inputs if not (_is_folder(given) or _is_interpolation(given))]
    files = [str(find_model(given)) for _, given in weights]
    loaded = [
        network_file(name or own, file, device, "fp32", request.tile)
        for (name, _), file, own in zip(weights, files, method_names(files), strict=True)
    ]
    scale = choose_scale(request.scale, {method.source: scale for method, scale in loaded}, sets, console)
    networks = iter(loaded)
    methods: list[Method] = []
    for name, given in inputs:
        if _is_folder(given):
            methods += finished.pop(given, [])
        elif _is_interpolation(given):
            method = INTERPOLATIONS[given.casefold()](scale)
            methods.append(replace(method, name=name or method.name))
        else:
            methods.append(next(networks)[0])
    _check_names(methods)
    return methods, scale


def _is_folder(given: str) -> bool:
    path = Path(given).expanduser()
    return path.is_dir() or is_pack(path)


def _is_interpolation(given: str) -> bool:
    return given.casefold() in INTERPOLATIONS and not Path(given).exists()


def _check_names(methods: Sequence[Method]) -> None:
    names = [method.name.casefold() for method in methods]
    for method in methods:
        if names.count(method.name.casefold()) > 1:
            raise ValueError(f"two methods are called {method.name}: give names, as in NAME={method.source or method.name}")
        if method.source and method.name in RESERVED_NAMES:
            raise ValueError(f"{method.source}: a method cannot be called {method.name}; give a name: NAME={method.source}")


def find_finished(folders: Sequence[tuple[str | None, str]], sets: Sets, console: Console) -> dict[str, list[Method]]:
    """The methods whose results are in folders (name or None, path), by the first folder with results of theirs."""
    hr = {name: HRNames([pair.name for pair in pairs]) for name, pairs in sets.items()}
    found: Found = {}
    sources: dict[str, list[str]] = {}
    for name, given in folders:
        root = Path(given).expanduser()
        images = list_images(root)
        matched, unused = match_folder(root, images, hr)
        if not matched:
            raise ImageError(
                f"{given}: none of its {len(images)} images belongs to an HR image: their names, such as {images[0].name}, "
                f"must contain those of HR images, such as {next(iter(sets.values()))[0].name}"
            )
        if name and len(matched) > 1:
            raise ImageError(f"{given} holds several methods ({', '.join(matched)}): give the folder of each a name")
        for own, results in matched.items():
            sources.setdefault(name or own, []).append(given)
            for key, image in results.items():
                add(found, name or own, key, image)
        _note_unused(unused, console)
    methods: dict[str, list[Method]] = {}
    for name, files in found.items():
        methods.setdefault(sources[name][0], []).append(finished_images(name, ", ".join(sources[name]), files))
    return methods


def choose_scale(given: int | None, networks: Mapping[str | None, int], sets: Sets, console: Console) -> int:
    """The scale that is given, or else that of the networks, or of the first LR image, or DEFAULT_SCALE."""
    known = {file: scale for file, scale in networks.items() if scale != (given or next(iter(networks.values())))}
    if known:
        file, scale = next(iter(known.items()))
        others = f"--scale {given}" if given else f"{next(iter(networks))} {next(iter(networks.values()))} times"
        raise ValueError(f"{file} enlarges {scale} times, but {others}: only methods of one scale can be compared")
    pair = next(iter(sets.values()))[0]
    if given or networks:
        return given or next(iter(networks.values()))
    if pair.lq:
        return max(1, round(pair.gt.size()[0] / pair.lq.size()[0]))
    console.print(Note(f"note: scale {DEFAULT_SCALE}; give --scale if it is another"))
    return DEFAULT_SCALE


# --- metrics -----------------------------------------------------------------------------------------------------------


def choose_metrics(
    request: Request, sets: Sequence[MeasuredPairs], scale: int, console: Console
) -> dict[str, MetricOptions]:
    """The metrics that are asked for, with their options. Of USUAL_METRICS, those that can be measured here."""
    names = [name.strip() for name in (request.metrics or ",".join(USUAL_METRICS)).split(",")]
    options = {name: metric_options(name, request) for name in names}
    for name, entry in list(options.items()):
        try:
            for weights in metric_info(name).weights:
                find_file(weights)
            check_sizes({name: entry}, sets, scale)
        except (WeightsNotFound, ImageError) as error:
            if request.metrics:
                raise
            del options[name]
            console.print(Note(f"note: {name} is left out: {without_places(str(error))}"))
    return options


def metric_options(name: str, request: Request) -> MetricOptions:
    info = metric_info(name)
    if info.needs_autoencoder and not request.autoencoder:
        raise ValueError(f"{name}: give the weight file of an auto-encoder with --autoencoder")
    return MetricOptions(
        crop_border=request.crop_border if info.crop_border else None,
        test_y_channel=False if request.rgb and info.channel == "either" else None,
        autoencoder=request.autoencoder if info.needs_autoencoder else None,
    )
