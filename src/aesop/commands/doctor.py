"""`aesop doctor`: what is wrong, or could be better, with this machine, an option file and its data; time and memory.

Everything found is a Finding: printed as it comes, and written as JSON for scripts. What is measured is elsewhere:
options and files in engine/preflight.py, images in data/audit.py, time and memory in engine/estimate.py. Here it is judged.
"""

import json
import math
import os
import platform
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import cv2
import PIL
import torch
from rich.console import Console
from rich.progress import track
from rich.text import Text

import aesop
from aesop.check.dry_run import dry_run_test, dry_run_training, missing_roots
from aesop.check.image_audit import OTHERWISE, Audit, Item, audit
from aesop.check.time_and_memory import Estimate, estimate
from aesop.options.config import TestConfig, TrainConfig
from aesop.options.datasets import PairedDataset, TrainDataset
from aesop.options.error_messages import ConfigError
from aesop.options.pipeline import plan
from aesop.options.read import load_config
from aesop.options.yaml_file import read_yaml
from aesop.system.device import memory_of, pick_device, reason_against_bf16, usable_cores
from aesop.system.files import replacing
from aesop.system.wording import duration, readable
from aesop.training.checkpoint import states
from aesop.training.out_of_memory import less_memory
from aesop.weights.errors import WeightsNotFound
from aesop.weights.pretrained import find_file

Mark = Literal["ok", "advice", "fault"]
Steps = Mapping[str, TrainConfig | TestConfig | Path]
COLOURS = {"ok": "green", "advice": "yellow", "fault": "bold red"}
SAMPLE = 200  # files of each set that --quick looks at
NAMED = 3  # files that a line names; the JSON file has all
# Known weights, and who wants them.
WEIGHTS = {
    "vgg19": "train.perceptual_opt",
    "vgg16": "the metrics dists and lpips_vgg",
    "alexnet": "the metric lpips",
    "lpips_alex": "the metric lpips",
    "lpips_vgg": "the metric lpips_vgg",
    "dists": "the metric dists",
    "niqe": "the metric niqe",
}
# Optional packages: their extra's name, and what they are for.
EXTRAS = {
    "wandb": ("wandb", "logger.wandb"),
    "lmdb": ("lmdb", "data sets in LMDB folders"),
    "pyiqa": ("iqa", "the metrics musiq, maniqa, clipiqa and others"),
}
SHARED_MEMORY = 1e9  # bytes; containers often have 64 MB, in which loader processes end with a bus error
ROOM = 5e9  # bytes free for experiments
# Cutting images up beforehand pays where they are large, and so many HR pixels are decoded for one that is trained on.
LARGE = 1.0  # megapixels
DECODED_IN_VAIN = 25
WAITING = 0.1  # share of the time
FULL, EMPTY = 0.85, 0.4  # shares of a device's memory
PATIENCE = 30 * 86400  # seconds


@dataclass(frozen=True)
class Finding:
    mark: Mark
    """advice: it works, and could be better or is worth a look; fault: it would not run, or the data are broken."""
    part: str
    """environment, configuration, a data set, or the estimate."""
    about: str
    """A word or two that stay the same, for scripts."""
    text: str
    """What was found, and what to do."""
    details: dict[str, Any] = field(default_factory=dict)
    """All files, or the figures."""


def run(
    source: tuple[Path, list[str]] | None,
    console: Console,
    quick: bool = False,
    measure: bool = True,
    output: Path | None = None,
) -> bool:
    """Print all findings, write them to `output` (JSON); whether there is any fault.

    Args:
        source: option file and overrides; None: the environment alone.
        quick: look at a sample of the images.
        measure: make a short run of every stage.
    """
    findings: list[Finding] = []
    for finding in examine(source, quick, measure):
        if not findings or findings[-1].part != finding.part:
            console.print(Text(("\n" if findings else "") + finding.part, "bold"))
        console.print(
            Text.assemble("  ", (f"{finding.mark:6}", COLOURS[finding.mark]), f"  {finding.about}: {finding.text}")
        )
        findings.append(finding)
    faults, advice = (sum(finding.mark == mark for finding in findings) for mark in ("fault", "advice"))
    verdict = "nothing is in the way" if not faults else "put the faults right first"
    console.print(f"\n{_count(faults, 'fault')}, {_count(advice, 'piece')} of advice: {verdict}", highlight=False)
    if output is not None:
        content = {"aesop": aesop.__version__, "faults": faults, "advice": advice, "findings": [asdict(f) for f in findings]}
        with replacing(output) as temporary:
            temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return faults > 0


def examine(source: tuple[Path, list[str]] | None, quick: bool = False, measure: bool = True) -> Iterator[Finding]:
    """Every finding, in the order of a user's questions: this machine, the options, the data, the time."""
    yield from environment()
    if source is None:
        yield from _room(Path("experiments"), "environment")
        return
    part = f"configuration {source[0]}"
    try:
        steps, notes = _read(*source)
    except ConfigError as error:
        yield from (Finding("fault", part, "option", text) for text in error.faults or [str(error)])
        return
    yield from (Finding("ok", part, "note", note) for note in notes)
    faults: list[Finding] = []
    for finding in chain(configuration(steps, part), data(steps, SAMPLE if quick else None)):
        yield finding
        if finding.mark == "fault":
            faults.append(finding)
    if measure:
        yield from durations(steps, faults)


def _read(file: Path, overrides: list[str]) -> tuple[Steps, list[str]]:
    """The stages of an option file; a file without a train section is a test."""
    if isinstance(read_yaml(file)[0].get("stages"), Mapping):
        return plan(file, overrides), []
    config, notes = load_config(file, overrides)
    return {config.stage if isinstance(config, TrainConfig) else "test": config}, notes


def environment() -> Iterator[Finding]:
    """Versions, devices and their precision, memory, known weights, optional packages."""

    def found(mark: Mark, about: str, text: str) -> Finding:
        return Finding(mark, "environment", about, text)

    yield found("ok", "aesop", f"{aesop.__version__}, Python {platform.python_version()} on {platform.platform()}")
    libraries = {"OpenCV": cv2.__version__, "Pillow": PIL.__version__, "spandrel": version("spandrel")}
    yield found("ok", "libraries", ", ".join(f"{name} {number}" for name, number in libraries.items()))
    built = f"for CUDA {torch.version.cuda}" if torch.version.cuda else "without CUDA"
    yield found("ok", "PyTorch", f"{torch.__version__}, built {built}")
    yield from _devices(found)
    cores, threads = usable_cores(), torch.get_num_threads()
    memory = f", {readable(total)} of memory" if (total := memory_of(torch.device("cpu"))) else ""
    if threads > cores:
        yield found("advice", "cpu", f"{threads} threads on {_count(cores, 'core')}{memory}: set OMP_NUM_THREADS={cores}")
    else:
        yield found("ok", "cpu", f"{_count(cores, 'core')}, {_count(threads, 'thread')} of PyTorch{memory}")
    shared = Path("/dev/shm")
    if shared.is_dir() and (size := shutil.disk_usage(shared).total) < SHARED_MEMORY:
        remedy = "start the container with more (--shm-size 8g), or set datasets.train.num_worker_per_gpu=0"
        yield found("advice", "shared memory", f"{readable(size)}, too little for loader processes: {remedy}")
    yield from _weights(found)
    for package, (extra, purpose) in EXTRAS.items():
        missing = f'not installed; for {purpose}: pip install "aesop-sr[{extra}]"'
        yield found("ok", package, _version(package) if find_spec(package) else missing)


def _devices(found: Callable[[Mark, str, str], Finding]) -> Iterator[Finding]:
    for index in range(torch.cuda.device_count()):
        device = torch.cuda.get_device_properties(index)
        bf16 = "bf16" if reason_against_bf16(torch.device("cuda", index)) is None else "no bf16"
        yield found("ok", "device", f"cuda:{index}, {device.name}, {readable(device.total_memory)}, {bf16}")
    if torch.cuda.is_available():
        convolutions, products = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
        used = {True: "TF32", False: "full precision"}
        yield found("ok", "fp32", f"convolutions in {used[convolutions]}, matrix products in {used[products]}")
    elif torch.backends.mps.is_available():
        memory = memory_of(torch.device("mps"))
        yield found("ok", "device", f"mps, {readable(memory) if memory else 'memory unknown'}; precision: fp32")
    else:
        why = ""
        if torch.version.cuda:
            why = " This PyTorch could use a CUDA device, but sees none: is a driver installed, and new enough?"
        elif shutil.which("nvidia-smi"):
            why = " There is a CUDA driver, but this PyTorch is built without CUDA: install a build that has it."
        yield found(
            "advice", "device", "cpu only: enough to upscale, to test and for `aesop demo`; full recipes want a GPU." + why
        )


def _weights(found: Callable[[Mark, str, str], Finding]) -> Iterator[Finding]:
    for name, purpose in WEIGHTS.items():
        try:
            yield found("ok", f"weights {name}", str(find_file(name)))
        except WeightsNotFound as error:
            remedy = str(error).partition("Either ")[2].partition(". Looked at")[0]
            yield found("advice", f"weights {name}", f"not found; for {purpose}: {remedy}")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "version unknown"


def configuration(steps: Steps, part: str) -> Iterator[Finding]:
    """What `--dry-run` says, but for the images; and where results would go."""
    made: list[Path] = []
    told: set[str] = set()
    for stage, step in steps.items():
        name = f"{stage} " if len(steps) > 1 else ""
        if isinstance(step, Path):
            yield Finding("ok", part, f"{name}weights", f"{step}, in place of a training")
            continue
        if isinstance(step, TrainConfig):
            lines, faults = dry_run_training(step, made, images=False)
        else:
            lines, faults = dry_run_test(step, images=False)
        for line in lines:
            about, colon, text = line.strip().partition(": ")
            if colon and line not in told and not text.endswith("(MISSING)"):
                yield Finding("ok", part, about if about == "device" else f"{name}{about}", text)
        for fault in faults:
            if fault not in told:
                yield Finding("fault", part, f"{name}options", fault.partition(" Looked at:")[0])
        told |= {*faults, *(line for line in lines if line.startswith("device"))}
        if isinstance(step, TrainConfig):
            made.append(step.final_model)
    config = next((step for step in steps.values() if not isinstance(step, Path)), None)
    if config is None:
        return
    is_training = isinstance(config, TrainConfig)
    folder = config.run_folder if is_training else config.results_folder
    yield from _room(folder if len(steps) == 1 else folder.parent, part)
    if is_training and len(steps) == 1 and states(folder / "state"):
        text = f"{folder} holds a run with checkpoints: --resume continues it, another name starts anew"
        yield Finding("advice", part, "former run", text)


def _room(folder: Path, part: str) -> Iterator[Finding]:
    """Whether results can be written where they would go."""
    there = _existing(folder)
    free = shutil.disk_usage(there).free
    if not os.access(there, os.W_OK):
        text = f"{folder}: {there} cannot be written to; set path.experiments_root (of a test: path.results_root)"
        yield Finding("fault", part, "output", text)
    elif free < ROOM:
        yield Finding("advice", part, "output", f"{folder}: only {readable(free)} free on its disk")
    else:
        yield Finding("ok", part, "output", f"{folder}, {readable(free)} free on its disk")


def _existing(folder: Path) -> Path:
    """The folder, or the nearest above it that is there."""
    return next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())


@dataclass
class DataSet:
    """A data set as it is looked at."""

    section: str
    options: PairedDataset
    scale: int
    degraded: bool
    """LR images are not meant to be bicubic ones."""
    needed: bool
    """Whether the command that the option file is for reads it."""
    crop: int = 0
    """Side of what is cut out of an HR image for training."""
    least: int = 0
    """Smallest side an HR image may have."""

    @property
    def skips(self) -> bool:
        return isinstance(self.options, TrainDataset) and self.options.bad_images == "skip"

    @property
    def files(self) -> tuple[Any, ...]:
        """What makes looking at two of them the same."""
        names = {"type", "dataroot_gt", "dataroot_lq", "filename_tmpl", "meta_info"}
        return self.section, self.options.model_dump(include=names), self.scale, self.degraded, self.needed, self.skips


def data_sets(steps: Steps) -> dict[str, DataSet]:
    """Every data set once, however many stages share it, by the name it is told under."""
    sets: dict[str, DataSet] = {}
    for stage, config in steps.items():
        for found in _sections(config) if not isinstance(config, Path) else ():
            same = next((former for former in sets.values() if former.files == found.files), None)
            if same is None:
                name = f"datasets.{found.section}"
                sets[f"{stage} {name}" if name in sets else name] = found
            else:
                same.crop, same.least = max(same.crop, found.crop), max(same.least, found.least)
    return sets


def _sections(config: TrainConfig | TestConfig) -> Iterator[DataSet]:
    degradation = config.degradation
    degraded = degradation is not None
    if isinstance(config, TrainConfig):
        train = config.datasets.train
        crop = degradation.crop_pad_size if degradation else train.gt_size
        least = 0 if degradation else train.gt_size  # for a degradation, smaller images are continued by reflection
        yield DataSet("train", train, config.scale, degraded, True, crop, least)
    for section, options in (config.datasets.measured("val") | config.datasets.measured("test")).items():
        needed = isinstance(config, TestConfig) or section.startswith("val")
        yield DataSet(section, options, config.scale, degraded, needed)


def data(steps: Steps, at_most: int | None = None) -> Iterator[Finding]:
    """What is wrong with the files of every data set, and what the sets have in common."""
    sets, looked_at = data_sets(steps), dict[str, Audit]()
    for part, data_set in sets.items():
        if missing := missing_roots(data_set.section, data_set.options):
            yield from (Finding("fault" if data_set.needed else "advice", part, "folder", text) for text in missing)
            continue
        progress = partial(_progress, part)
        try:
            looked = audit(data_set.options, data_set.section, data_set.scale, not data_set.degraded, at_most, progress)
        except ValueError as error:
            yield Finding("fault", part, "folder", str(error))
            continue
        looked_at[part] = looked
        yield from _files(part, data_set, looked)
        if data_set.crop:
            yield from _decoding(part, data_set, looked)
    trained = {part for part in looked_at if sets[part].section == "train"}
    seen = {item.digest: item for part in trained for item in looked_at[part].items if item.size}
    for part in (part for part in looked_at if part not in trained):
        shared = [
            f"{item.pair.source} is {seen[item.digest].pair.source}" for item in looked_at[part].items if item.digest in seen
        ]
        if shared:
            text = f"{_count(len(shared), 'image')} trained on as well: what is measured on them says nothing"
            yield _list("fault", part, "in training", text, shared)


def _progress(part: str, items: Iterable[Item], total: int) -> Iterable[Item]:
    console = Console(stderr=True)
    return track(items, part, total, console=console, transient=True, disable=not console.is_terminal)


def _files(part: str, data_set: DataSet, looked: Audit) -> Iterator[Finding]:
    """Files that cannot be used, or are not what they should be."""
    items, count = looked.items, len(looked.items)
    sample = f"{count} of {looked.found} images" if count < looked.found else _count(count, "image")
    sizes = [item.size for item in items if item.size]
    if sizes:
        width, height = (sum(sides) / len(sizes) for sides in zip(*sizes, strict=True))
        yield Finding("ok", part, "images", f"{sample}, {width:.0f}x{height:.0f} on average")

    def unusable(about: str, text: str, found: Sequence[str]) -> Iterator[Finding]:
        """A fault, unless training leaves such images out."""
        if found:
            mark: Mark = "advice" if data_set.skips and len(found) < count else "fault"
            yield _list(mark, part, about, f"{len(found)} of {sample} {text}", found)

    yield from unusable("unreadable", "cannot be read", ["; ".join(item.unreadable) for item in items if item.unreadable])
    if looked.missing:
        text = f"{_count(len(looked.missing), 'HR image')} without an LR image named {data_set.options.filename_tmpl!r}"
        yield _list("fault", part, "without LR", text, looked.missing)
    if looked.unused:
        text = f"{_count(len(looked.unused), 'LR image')} without an HR image, which nothing reads"
        yield _list("advice", part, "without HR", text, [str(path) for path in looked.unused])
    mismatched = [item for item in items if item.mismatch]
    ratios = {item.ratio for item in mismatched}
    ratio = ratios.pop() if len(ratios) == 1 else None
    hint = f" (all of them are x{ratio:.0f} pairs: is scale {data_set.scale} meant?)" if ratio and ratio % 1 == 0 else ""
    yield from unusable("size", f"do not match{hint}", [item.mismatch for item in mismatched if item.mismatch])
    small = [
        f"{item.pair.source} ({item.size[0]}x{item.size[1]})"
        for item in items
        if item.size and min(side - side % data_set.scale for side in item.size) < data_set.least
    ]
    yield from unusable("too small", f"are smaller than the crop of {data_set.least} pixels", small)
    if wrong := [item.channels for item in items if item.channels]:
        yield _list("fault", part, "colours", f"{len(wrong)} of {sample} have other colours in LR than in HR", wrong)
    yield from _bicubic(part, items)
    first: dict[bytes, Item] = {}
    again = [(item, first[item.digest]) for item in items if item.size and first.setdefault(item.digest, item) is not item]
    if again:
        text = f"{_count(len(again), 'image')} here more than once"
        yield _list("advice", part, "twice", text, [f"{a.pair.source} is {b.pair.source}" for a, b in again])


def _bicubic(part: str, items: Sequence[Item]) -> Iterator[Finding]:
    """Published networks are trained and measured on LR images that MATLAB's bicubic made."""
    compared = sorted(((item.difference, item) for item in items if item.difference is not None), key=lambda pair: -pair[0])
    others = [f"{item.pair.lq} ({difference:.2f})" for difference, item in compared if difference > OTHERWISE]
    if others:
        text = (
            f"{len(others)} of {_count(len(compared), 'LR image')} are not the bicubic of HR that the recipe expects (they "
            f"differ from it by up to {compared[0][0]:.2f} grey levels; {OTHERWISE} could be rounding): figures on them "
            "compare with nothing published. Leave dataroot_lq out to have LR made from HR. The worst"
        )
        yield _list("advice", part, "downscaling", text, others)
    elif compared:
        text = f"LR is the bicubic of HR that the recipe expects (it differs by {compared[0][0]:.2f} grey levels or less)"
        yield Finding("ok", part, "downscaling", text, {"largest_difference": compared[0][0]})


def _decoding(part: str, data_set: DataSet, looked: Audit) -> Iterator[Finding]:
    """What reading costs, and whether most of it is for nothing."""
    items = [item for item in looked.items if item.size]
    if not items:
        return
    seconds, pixels = (sum(values) / len(items) for values in ([i.seconds for i in items], [i.megapixels for i in items]))
    large = [item.seconds for item in items if item.pair.source.path.suffix.lower() == ".png" and item.megapixels > LARGE]
    share = f", {sum(large) / (seconds * len(items)):.0%} of it in PNG files above {LARGE:g} megapixel" if large else ""
    text = f"{1000 * seconds:.1f} ms of a core for an image of {pixels:.2f} megapixels on average{share}"
    details = {"seconds": seconds, "megapixels": pixels}
    in_vain = pixels * 1e6 / data_set.crop**2
    is_cached = isinstance(data_set.options, TrainDataset) and data_set.options.cache
    if pixels > LARGE and in_vain > DECODED_IN_VAIN and not is_cached:
        text += (
            f", {in_vain:.0f} times the crop of {data_set.crop} pixels. If training waits for data, cut the images into "
            "overlapping parts of some 480 pixels once, or set datasets.train.cache=true "
            f"({readable(pixels * 3e6 * looked.found)} in each loader process)"
        )
        yield Finding("advice", part, "decoding", text, details)
    else:
        yield Finding("ok", part, "decoding", text, details)


def _list(mark: Mark, part: str, about: str, text: str, found: Sequence[str]) -> Finding:
    """A finding about several files; the line names the first."""
    more = f"; and {len(found) - NAMED} more" if len(found) > NAMED else ""
    return Finding(mark, part, about, f"{text}: {'; '.join(found[:NAMED])}{more}", {"files": list(found)})


def durations(steps: Steps, faults: Sequence[Finding] = ()) -> Iterator[Finding]:
    """What a short run of every stage tells; `faults` were told before."""
    if any(fault.part.endswith("datasets.train") for fault in faults):
        yield Finding("advice", "estimate", "run", "not made while there are faults in the images to train on")
        return
    coming = steps.get("autoencoder")
    autoencoder = coming.network_g.model_dump(mode="json") if isinstance(coming, TrainConfig) else None
    for stage, config in steps.items():
        if not isinstance(config, TrainConfig):
            continue
        part = f"estimate of the {stage} stage"
        try:
            with Console(stderr=True).status(f"a short run of the {stage} stage"):
                measured, missing = estimate(config, autoencoder)
        except MemoryError as error:
            yield Finding("fault", part, "memory", f"it does not fit ({error}). Less is needed with {less_memory(config)}")
        except (ValueError, OSError, RuntimeError) as error:
            if str(error) not in {fault.text for fault in faults}:
                yield Finding("fault", part, "run", str(error))
        else:
            if missing:
                text = f"measured with untrained weights in place of those not there yet: {', '.join(missing)}"
                yield Finding("ok", part, "stand-ins", text)
            yield from _judged(part, config, measured)


def _judged(part: str, config: TrainConfig, measured: Estimate) -> Iterator[Finding]:
    train, crops, device = config.train, config.datasets.train, pick_device(config.device)
    whole = measured.seconds * train.total_iter
    scaled = f", scaled from {_count(measured.images, 'image')}" if measured.images < crops.batch_size_per_gpu else ""
    text = (
        f"{_duration(1000 * measured.seconds)} for 1000 iterations, {_duration(whole)} for all {train.total_iter}, without "
        f"validation ({measured.seconds:.3g} s for {crops.batch_size_per_gpu} images on {device}{scaled})"
    )
    details = asdict(measured) | {"seconds": measured.seconds, "waiting": measured.waiting, "whole": whole}
    if device.type == "cpu" and whole > PATIENCE:
        text += ". It wants a GPU, or a smaller network and crop (configs/pipeline_compact.yml)"
        yield Finding("advice", part, "time", text, details)
    else:
        yield Finding("ok", part, "time", text, details)
    yield from _data_rate(part, config, measured, device)
    yield from _memory_use(part, config, measured, device)
    if config.precision == "fp32" and device.type == "cuda" and reason_against_bf16(device) is None:
        text = "precision=bf16 channels_last=true should be faster here and take less memory; aesop bench tells"
        yield Finding("advice", part, "precision", text)
    saves = math.ceil(train.total_iter / config.logger.save_checkpoint_freq)
    needed = saves * measured.model + config.logger.keep_states * measured.state
    free = shutil.disk_usage(_existing(config.run_folder)).free
    kept = f"{_count(saves, 'saved network')} and {config.logger.keep_states} states"
    text = f"{readable(needed)} for {kept}, {readable(free)} free"
    if needed > free:
        yield Finding("advice", part, "disk", f"{text}: raise logger.save_checkpoint_freq, or set path.experiments_root")
    else:
        yield Finding("ok", part, "disk", text)


def _data_rate(part: str, config: TrainConfig, measured: Estimate, device: torch.device) -> Iterator[Finding]:
    cores = usable_cores()
    if measured.workers > cores:
        text = (
            f"{measured.workers} loader processes on {_count(cores, 'core')}: set datasets.train.num_worker_per_gpu={cores}"
        )
        yield Finding("advice", part, "workers", text)
    text = f"{measured.waiting:.0%} of the time is spent waiting for it"
    if measured.waiting <= WAITING:
        yield Finding("ok", part, "data", text)
        return
    wanted = math.ceil(max(measured.workers, 1) * measured.loading / measured.computing)
    remedy = "cut large images into parts, or set datasets.train.cache=true"
    if device.type != "cpu" and measured.workers < wanted <= cores:
        remedy = f"set datasets.train.num_worker_per_gpu={wanted}"
    elif device.type != "cpu" and measured.workers < cores:
        remedy = f"set datasets.train.num_worker_per_gpu={cores}, and {remedy}"
    yield Finding("advice", part, "data", f"{text}: {remedy}")


def _memory_use(part: str, config: TrainConfig, measured: Estimate, device: torch.device) -> Iterator[Finding]:
    total = memory_of(device)
    if measured.memory is None or not total:
        yield Finding("ok", part, "memory", "not measured")
        return
    share = measured.memory / total
    text = f"{readable(measured.memory)} at the peak, of {readable(total)}"
    if share > FULL:
        yield Finding("advice", part, "memory", f"{text}: that is tight; less is needed with {less_memory(config)}")
    elif share < EMPTY and config.train.accumulate > 1 and device.type != "cpu":
        yield Finding("advice", part, "memory", f"{text}: there is room for a smaller train.accumulate, which is faster")
    else:
        yield Finding("ok", part, "memory", text)


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"


def _duration(seconds: float) -> str:
    return duration(seconds) if seconds < 2 * 86400 else f"{seconds / 86400:.1f} days"
