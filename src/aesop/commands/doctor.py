"""`aesop doctor`: what is wrong, or could be better, with this machine, an option file, its data, and its time and memory.

`aesop.check` measures and this module judges. Each result is a Finding, printed at once and part of the JSON report.
"""

import math
import os
import platform
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal

import cv2
import PIL
import torch
from rich.console import Console
from rich.text import Text

import aesop
from aesop.check.card_memory import memory_by_stage
from aesop.check.dry_run import dry_run_report, missing_roots
from aesop.check.image_audit import OTHERWISE, Audit, Item, audit
from aesop.check.time_and_memory import Estimate, estimate, small_convolution
from aesop.metrics import METRICS
from aesop.options.config import TestConfig, TrainConfig
from aesop.options.datasets import PairedDataset, TrainDataset
from aesop.options.error_messages import ConfigError
from aesop.options.pipeline import read_stages
from aesop.system.device import memory_of, pick_device, reason_against_bf16, usable_cores
from aesop.system.terminal import is_verbose, progress
from aesop.system.wording import duration, first_few, readable
from aesop.training.checkpoint import states
from aesop.training.out_of_memory import less_memory
from aesop.weights.errors import WeightsNotFound
from aesop.weights.pretrained import find_file, without_places

Mark = Literal["ok", "advice", "fault"]
Source = tuple[Path, list[str]]  # option file and overrides
Stages = Mapping[str, TrainConfig | TestConfig | Path]  # a stage that is given as weights is their file
COLOURS = {"ok": "green", "advice": "yellow", "fault": "bold red"}
SAMPLE = 200  # images per data set with --quick
EXTRAS = {"wandb": "wandb", "lmdb": "lmdb", "pyiqa": "iqa"}  # optional packages: name -> extra
SHARED_MEMORY = 1e9  # bytes; with a container's usual 64 MB, loader processes end with a bus error
DISK_SPACE = 5e9  # bytes
# What identifies a data set, apart from scale and degradation.
FILES = {"type", "dataroot_gt", "dataroot_lq", "filename_tmpl", "meta_info", "bad_images"}
SKIPPED = ("unreadable", "size", "too small")  # with datasets.train.bad_images: skip
WAITING = 0.1  # share of an iteration
FULL, EMPTY = 0.85, 0.4  # shares of a device's memory
LONG = 30 * 86400  # seconds
ON_GPU = "memory on a GPU"


@dataclass(frozen=True)
class Finding:
    mark: Mark  # advice: it works but could be better; fault: the command would fail, or the data are broken
    part: str  # environment, configuration, a data set or the estimate of a stage
    about: str  # one or two words that stay the same, for scripts
    text: str  # what was found and what to do
    details: dict[str, Any] = field(default_factory=dict)  # all files, or the figures


def judged(part: str, about: str, text: str, remedy: str | None = None, mark: Mark = "advice", **details: Any) -> Finding:
    """`ok`, or with a remedy `mark`."""
    return Finding(mark if remedy else "ok", part, about, f"{text}: {remedy}" if remedy else text, details)


def listed(mark: Mark, part: str, about: str, text: str, files: Sequence[object]) -> Finding:
    """A finding about several files. Its text names the first ones."""
    return Finding(mark, part, about, f"{text}: {first_few(files)}", {"files": list(map(str, files))})


def run(source: Source | None, console: Console, quick: bool, measure: bool) -> dict[str, Any]:
    """Print the findings; returns all of them, and how many are faults and advice. No source: the machine's.

    With an option file, what is in order about the machine is not printed. Without a GPU, it takes --verbose to print what
    fits on which one.
    """
    findings: list[Finding] = []
    hidden = set() if is_verbose() or torch.cuda.is_available() else {ON_GPU}
    part = None
    for finding in examine(source, quick, measure):
        findings.append(finding)
        if finding.about in hidden or (source is not None and finding.part == "environment" and finding.mark == "ok"):
            continue
        if part != finding.part:
            console.print(Text(("" if part is None else "\n") + finding.part, "bold"))
            part = finding.part
        mark = (f"{finding.mark:6}", COLOURS[finding.mark])
        console.print(Text.assemble("  ", mark, f"  {finding.about}: {finding.text}"))
    faults, advice = (sum(finding.mark == mark for finding in findings) for mark in ("fault", "advice"))
    verdict = "fix the faults first" if faults else "nothing is in the way"
    console.print(f"\n{_count(faults, 'fault')}, {_count(advice, 'piece')} of advice: {verdict}")
    return {"faults": faults, "advice": advice, "findings": findings}


def examine(source: Source | None, quick: bool = False, measure: bool = True) -> Iterator[Finding]:
    """All findings: first the machine, then the options, the data, and time and memory."""
    yield from environment()
    if source is None:
        yield from known_weights()
        yield output_folder(Path("experiments"), "environment")
        return
    part = f"configuration {source[0]}"
    try:
        stages, notes = read_stages(*source)
    except ConfigError as error:
        yield from (Finding("fault", part, "option", text) for text in error.faults or [str(error)])
        return
    yield from (Finding("ok", part, "note", note) for note in notes)
    # Stages that share options and data sets have the same findings.
    reported: dict[tuple[str, str, str], Finding] = {}
    for finding in chain(configuration(stages, part), data(stages, SAMPLE if quick else None)):
        about = finding.about if finding.mark == "ok" else ""
        if reported.setdefault((finding.part, about, finding.text), finding) is finding:
            yield finding
    if measure:
        yield from durations(stages, [finding for finding in reported.values() if finding.mark == "fault"])


def environment() -> Iterator[Finding]:
    """Versions, devices, memory and optional packages."""
    ok, judge = partial(Finding, "ok", "environment"), partial(judged, "environment")
    yield ok("aesop", f"{aesop.__version__}, Python {platform.python_version()} on {platform.platform()}")
    yield ok("libraries", f"OpenCV {cv2.__version__}, Pillow {PIL.__version__}, spandrel {version('spandrel')}")
    yield ok("PyTorch", f"{torch.__version__}, built for CUDA: {torch.version.cuda or 'none'}")
    for index in range(torch.cuda.device_count()):
        device = torch.cuda.get_device_properties(index)
        bf16 = "bf16" if reason_against_bf16(torch.device("cuda", index)) is None else "no bf16"
        yield ok("device", f"cuda:{index}, {device.name}, {readable(device.total_memory)}, {bf16}")
    if torch.backends.mps.is_available():
        yield ok("device", f"mps, {readable(torch.mps.recommended_max_memory())}; precision: fp32")
    elif not torch.cuda.is_available():
        remedy = "enough for upscaling, testing and `aesop demo`; full recipes need a GPU"
        if torch.version.cuda:
            remedy += ". This PyTorch supports CUDA but finds no device: install or update the driver"
        elif shutil.which("nvidia-smi"):
            remedy += ". There is a CUDA driver, but this PyTorch is built without CUDA: install a build with CUDA"
        yield judge("device", "cpu only", remedy)
    cores, threads, total = usable_cores(), torch.get_num_threads(), memory_of(torch.device("cpu"))
    text = f"{_count(cores, 'core')}, {_count(threads, 'PyTorch thread')}, {readable(total) if total else 'unknown'} memory"
    yield judge("cpu", text, f"set OMP_NUM_THREADS={cores}" if threads > cores else None)
    if threads > 1:
        one, several = small_convolution(1), small_convolution(threads)
        text = f"a small convolution takes {1000 * one:.2g} ms on one and {1000 * several:.2g} ms on {threads}"
        remedy = "set OMP_NUM_THREADS=1 for small networks, or stop what else runs here"
        yield judge("threads", text, remedy if several > 1.5 * one else None)
    shared = Path("/dev/shm")
    if shared.is_dir() and (size := shutil.disk_usage(shared).total) < SHARED_MEMORY:
        remedy = "too little for loader processes; start the container with --shm-size 8g, or use num_worker_per_gpu=0"
        yield judge("shared memory", readable(size), remedy)
    for package, extra in EXTRAS.items():
        try:
            yield ok(package, version(package))
        except PackageNotFoundError:
            yield ok(package, f'not installed; to use it: pip install "aesop-sr[{extra}]"')


def known_weights() -> Iterator[Finding]:
    """All pretrained weights. `configuration` reports on those that an option file needs."""
    users = {"vgg19": ["train.perceptual_opt"]}
    for metric, info in METRICS.items():
        for weights in info.weights:
            users.setdefault(weights, []).append(f"the metric {metric}")
    for weights, purposes in users.items():
        try:
            yield Finding("ok", "environment", f"weights {weights}", str(find_file(weights)))
        except WeightsNotFound as error:
            remedy = without_places(str(error))
            yield judged("environment", f"weights {weights}", f"needed by {' and '.join(purposes)}", remedy)


def configuration(stages: Stages, part: str) -> Iterator[Finding]:
    """What `--dry-run` finds, except for the images, and whether results can be written."""
    made: list[Path] = []
    for stage, step in stages.items():
        name = f"{stage} " if len(stages) > 1 else ""
        if isinstance(step, Path):
            yield Finding("ok", part, f"{name}weights", f"{step}, instead of a training")
            continue
        lines, faults = dry_run_report(step, made, images=False)
        if isinstance(step, TrainConfig):
            made.append(step.final_model)
        for line in lines:
            about, colon, text = line.strip().partition(": ")
            if colon and not text.endswith("(MISSING)"):
                mark: Mark = "advice" if about == "note" else "ok"
                yield Finding(mark, part, about if about == "device" else f"{name}{about}", text)
        yield from (Finding("fault", part, f"{name}options", without_places(fault)) for fault in faults)
    config = next((step for step in stages.values() if not isinstance(step, Path)), None)
    if isinstance(config, TestConfig):
        yield output_folder(config.results_folder, part)
    elif config is not None:
        folder = config.run_folder
        yield output_folder(folder if len(stages) == 1 else folder.parent, part)
        if len(stages) == 1 and states(folder / "state"):
            remedy = "--resume continues it; to start again, choose another name"
            yield judged(part, "former run", f"{folder} holds a run with checkpoints", remedy)


def output_folder(folder: Path, part: str) -> Finding:
    """Whether results can be written to a folder."""
    parent = _existing(folder)
    if not os.access(parent, os.W_OK):
        remedy = "set path.experiments_root, or for a test path.results_root"
        return judged(part, "output", f"{folder}: {parent} is not writable", remedy, "fault")
    free = shutil.disk_usage(parent).free
    return judged(part, "output", f"{folder}, {readable(free)} free", "free some space" if free < DISK_SPACE else None)


def _existing(folder: Path) -> Path:
    """The folder, or its nearest parent that exists."""
    return next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())


def data(stages: Stages, at_most: int | None = None) -> Iterator[Finding]:
    """Faults in the files of every data set, and images that are both trained and measured on."""
    parts: dict[str, str] = {}  # data sets that stages share are checked once: what identifies one -> its name
    audits: dict[str, Audit] = {}
    for stage, config in stages.items():
        if isinstance(config, Path):
            continue
        compare, sets = config.degradation is None, config.datasets.measured("val") | config.datasets.measured("test")
        if isinstance(config, TrainConfig):
            sets = {"train": config.datasets.train, **sets}
        for section, options in sets.items():
            identity = f"{section} {options.model_dump(include=FILES)} {config.scale} {compare}"
            name = f"datasets.{section}"
            part = parts.get(identity) or (f"{stage} {name}" if name in parts.values() else name)
            if identity not in parts:
                parts[identity] = part
                # A training does not read the test sets of its option file.
                mark: Mark = "advice" if "train" in sets and section.startswith("test") else "fault"
                if missing := missing_roots(section, options):
                    yield from (Finding(mark, part, "folder", text) for text in missing)
                    continue
                try:
                    audits[part] = audit(options, section, config.scale, compare, at_most)
                except ValueError as error:
                    yield Finding("fault", part, "folder", str(error))
            if part in audits:
                yield from images(part, config, options, audits[part])
    trained = [part for part in audits if part.endswith("datasets.train")]
    seen = {item.digest: item for part in trained for item in audits.pop(part).items if item.size}
    for part, looked in audits.items():
        shared = [f"{item.pair.source} is {seen[item.digest].pair.source}" for item in looked.items if item.digest in seen]
        if shared:
            text = f"{_count(len(shared), 'image')} also used for training, which makes its results meaningless"
            yield listed("fault", part, "in training", text, shared)


def images(part: str, config: TrainConfig | TestConfig, options: PairedDataset, looked: Audit) -> Iterator[Finding]:
    """Images that are broken, have no partner, do not fit, or occur twice, and LR that is not the bicubic of HR."""
    items, count, scale = looked.items, len(looked.items), config.scale
    sample = f"{count} of {looked.found} images" if count < looked.found else _count(count, "image")
    if sizes := [item.size for item in items if item.size]:
        width, height = (sum(sides) / len(sizes) for sides in zip(*sizes, strict=True))
        yield Finding("ok", part, "images", f"{sample}, {width:.0f}x{height:.0f} on average")
    # Before a degradation, smaller images are padded.
    least = options.gt_size if isinstance(options, TrainDataset) and config.degradation is None else 0
    sized = [(item.pair.source, *item.size) for item in items if item.size]
    small = [f"{image} ({w}x{h})" for image, w, h in sized if min(w, h) // scale * scale < least]
    ratios = {item.ratio for item in items if item.mismatch}
    ratio = ratios.pop() if len(ratios) == 1 else None
    hint = f" (all are x{ratio:.0f} pairs: should scale {scale} change?)" if ratio and ratio % 1 == 0 else ""
    first: dict[bytes, Item] = {}
    again = [item for item in items if item.size and first.setdefault(item.digest, item) is not item]
    problems: list[tuple[Mark, str, str, Sequence[object]]] = [
        ("fault", "unreadable", f"of {sample} cannot be read", ["; ".join(i.unreadable) for i in items if i.unreadable]),
        ("fault", "size", f"of {sample} do not match{hint}", [item.mismatch for item in items if item.mismatch]),
        ("fault", "pictures", f"of {sample} show other pictures in LR and HR", [i.unlike for i in items if i.unlike]),
        ("fault", "too small", f"of {sample} are smaller than the crop of {least} pixels", small),
        ("fault", "without LR", f"HR without an LR image named {options.filename_tmpl!r}", looked.missing),
        ("advice", "without HR", "LR without an HR image, which nothing reads", looked.unused),
        ("fault", "colours", f"of {sample} have different colours in LR and HR", [i.channels for i in items if i.channels]),
        ("advice", "twice", "here more than once", [f"{i.pair.source} is {first[i.digest].pair.source}" for i in again]),
    ]
    skips = isinstance(options, TrainDataset) and options.bad_images == "skip"
    for mark, about, text, files in problems:
        if about in SKIPPED and skips and len(files) < count:
            mark = "advice"
        if files:
            yield listed(mark, part, about, f"{len(files)} {text}", files)
    compared = sorted(((item.difference, item) for item in items if item.difference is not None), key=lambda pair: -pair[0])
    if not compared:
        return
    largest = compared[0][0]
    if others := [f"{item.pair.lq} ({difference:.2f})" for difference, item in compared if difference > OTHERWISE]:
        text = (
            f"{len(others)} of {_count(len(compared), 'LR image')} are not the bicubic of HR that the recipe expects (they "
            f"differ by up to {largest:.2f} grey levels; rounding explains {OTHERWISE}), so results do not compare with "
            "published ones. Leave out dataroot_lq to make LR from HR. The worst"
        )
        yield listed("advice", part, "downscaling", text, others)
    else:
        text = f"LR is the bicubic of HR that the recipe expects (it differs by {largest:.2f} grey levels or less)"
        yield Finding("ok", part, "downscaling", text, {"largest_difference": largest})


def durations(stages: Stages, faults: Sequence[Finding] = ()) -> Iterator[Finding]:
    """Time and memory of every stage, from a short run. `faults` have been reported already."""
    if any(fault.part.endswith("datasets.train") for fault in faults):
        yield Finding("advice", "estimate", "run", "skipped because of the faults in the training images")
        return
    encoder_stage = stages.get("autoencoder")
    autoencoder = encoder_stage.network_g.model_dump(mode="json") if isinstance(encoder_stage, TrainConfig) else None
    trained = {stage: config for stage, config in stages.items() if isinstance(config, TrainConfig)}
    on_gpu = iter(memory_by_stage(stages))  # in the same order
    seconds: list[float] = []
    for stage, config in trained.items():
        part = f"estimate of the {stage} stage"
        try:
            with progress.status(f"a short run of the {stage} stage"):
                measured, replaced = estimate(config, autoencoder)
        except MemoryError as error:
            yield Finding("fault", part, "memory", f"does not fit ({error}). To use less, set {less_memory(config)}")
        except (ValueError, OSError, RuntimeError) as error:
            if str(error) not in {fault.text for fault in faults}:
                yield Finding("fault", part, "run", str(error))
        else:
            if replaced:
                yield Finding("ok", part, "stand-ins", f"measured with untrained weights for {', '.join(replaced)}")
            seconds.append(measured.seconds * config.train.total_iter)
            yield from cost(part, config, measured)
        for _, text in islice(on_gpu, 1):
            yield Finding("ok", part, ON_GPU, text)
    if len(seconds) == len(trained) > 1:
        yield Finding("ok", "estimate", "all stages", _duration(sum(seconds)), {"seconds": sum(seconds)})


def cost(part: str, config: TrainConfig, measured: Estimate) -> Iterator[Finding]:
    """Time, data loading, memory, precision and disk space of a training."""
    judge = partial(judged, part)
    iterations, batch, device = config.train.total_iter, config.datasets.train.batch_size_per_gpu, pick_device(config.device)
    whole = measured.seconds * iterations
    scaled = f", scaled from {_count(measured.images, 'image')}" if measured.images < batch else ""
    text = (
        f"{_duration(1000 * measured.seconds)} for 1000 iterations, {_duration(whole)} for all {iterations}, without "
        f"validation ({measured.seconds:.3g} s for {batch} images on {device}{scaled})"
    )
    remedy = "use a GPU, or a smaller network and crop (configs/pipeline_compact.yml)"
    figures: dict[str, Any] = asdict(measured) | {"seconds": measured.seconds, "waiting": measured.waiting, "whole": whole}
    yield judge("time", text, remedy if device.type == "cpu" and whole > LONG else None, **figures)

    cores, workers, remedies = usable_cores(), measured.workers, []
    if workers > cores:
        text = f"{workers} loader processes on {_count(cores, 'core')}"
        yield judge("workers", text, f"set datasets.train.num_worker_per_gpu={cores}")
    if measured.waiting > WAITING:
        wanted = math.ceil(max(workers, 1) * measured.loading / measured.computing)
        if device.type != "cpu" and workers < cores:
            remedies.append(f"set datasets.train.num_worker_per_gpu={min(wanted, cores)}")
        if wanted > cores or not remedies:
            remedies.append("cut large images into parts, or set datasets.train.cache=true")
    yield judge("data", f"{measured.waiting:.0%} of the time is spent waiting for data", " and ".join(remedies))

    total, remedy = memory_of(device), None
    if measured.memory is None or not total:
        yield judge("memory", "not measured")
    else:
        share = measured.memory / total
        if share > FULL:
            remedy = f"to use less, set {less_memory(config)}"
        elif share < EMPTY and config.train.accumulate > 1 and device.type != "cpu":
            remedy = "enough for a smaller train.accumulate, which is faster"
        yield judge("memory", f"{readable(measured.memory)} of {readable(total)} at the peak", remedy)
    if config.precision == "fp32" and device.type == "cuda" and reason_against_bf16(device) is None:
        remedy = "precision=bf16 channels_last=true is probably faster and needs less memory; measure it with aesop bench"
        yield judge("precision", "fp32", remedy)

    saves, kept = math.ceil(iterations / config.logger.save_checkpoint_freq), config.logger.keep_states
    needed, free = saves * measured.model + kept * measured.state, shutil.disk_usage(_existing(config.run_folder)).free
    text = f"{readable(needed)} for {_count(saves, 'saved network')} and {_count(kept, 'state')}, {readable(free)} free"
    remedy = "raise logger.save_checkpoint_freq, or set path.experiments_root"
    yield judge("disk", text, remedy if needed > free else None)


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"


def _duration(seconds: float) -> str:
    return duration(seconds) if seconds < 2 * 86400 else f"{seconds / 86400:.1f} days"
