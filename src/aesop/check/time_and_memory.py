"""How long a training takes and how much memory: a few real steps on real batches, in a process of their own.

The process of its own makes the memory measured the training's alone, and survives what the system does to a process that
wants too much of it.
"""

import json
import logging
import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from aesop.archs import build_network
from aesop.archs.vgg import VGGFeatureExtractor
from aesop.data.degradation.degrader import Degrader
from aesop.data.loader import Batch, batches, to_device
from aesop.options.config import TrainConfig
from aesop.system.device import algorithms, is_out_of_memory, pick_device, synchronise
from aesop.system.distributed import World
from aesop.training.acceleration import accelerate
from aesop.training.build_stage import build_stage
from aesop.training.stage import Stage
from aesop.training.step_timing import time_parts
from aesop.training.training_images import training_images
from aesop.weights.pretrained import has_pretrained
from aesop.weights.save import save_weights

SECONDS = 30.0  # of steps; one step is made in any case
STEPS = 10


@dataclass(frozen=True)
class Estimate:
    computing: float
    """Seconds a step computes."""
    loading: float
    """Seconds the loader takes for a batch, when it does nothing else."""
    workers: int
    images: int
    """How many of a batch's images the steps had; the figures are scaled to all of them."""
    memory: int | None
    """Bytes at the peak; None where it is not known."""
    model: int
    """Bytes of a weight file."""
    state: int
    """Bytes of a state to resume from."""
    parts: dict[str, float] = field(default_factory=dict)
    """Seconds of each part of a step, alone."""
    said: tuple[str, ...] = ()
    """Warnings, such as of options that cannot be used here."""

    @property
    def seconds(self) -> float:
        """Of an iteration: workers load the next batches meanwhile."""
        return max(self.computing, self.loading) if self.workers else self.computing + self.loading

    @property
    def waiting(self) -> float:
        """The share of an iteration spent waiting for data."""
        return 1 - self.computing / self.seconds


def estimate(
    config: TrainConfig, autoencoder: Mapping[str, Any] | None = None, seconds: float = SECONDS, with_parts: bool = False
) -> tuple[Estimate, list[str]]:
    """Time and memory of a training stage, and what stood in for files that are not there. Nothing is left behind.

    Args:
        autoencoder: the options of an auto-encoder still to be trained; default: the published one.
        seconds: about how long steps are made; one is made in any case.
        with_parts: time the parts of a step as well, for as long again.

    Raises:
        MemoryError: it needs more than there is.
        ValueError, OSError, RuntimeError: it cannot run.
    """
    with TemporaryDirectory() as folder:
        runnable, notes = with_stand_ins(config, Path(folder), autoencoder)
        with ProcessPoolExecutor(1, get_context("spawn"), _quiet) as process:
            try:
                return process.submit(_short_run, runnable, seconds, with_parts).result(), notes
            except BrokenProcessPool:
                raise MemoryError("the system ended the process, as it does when memory runs out") from None


def with_stand_ins(
    config: TrainConfig, folder: Path, autoencoder: Mapping[str, Any] | None = None
) -> tuple[TrainConfig, list[str]]:
    """The configuration with something untrained of the same size for every weight file that is not there, and its names."""
    changes: dict[str, Any] = {"path.resume_state": None, "path.from_scratch": True}
    aesop, percep, notes = config.train.aesop_opt, config.train.perceptual_opt, []
    for option in ("pretrain_network_g", "pretrain_network_d", "pretrain_network_decoder"):
        file = getattr(config.path, option)
        if file and not Path(file).is_file():
            changes[f"path.{option}"] = None
            notes.append(f"path.{option}")
    if aesop and aesop.autoencoder_load and not Path(aesop.autoencoder_load.path).is_file():
        kind = "ProbabilisticAutoEncoder_RRDBNet" if aesop.type.startswith("Probabilistic") else "AutoEncoder_RRDBNet"
        options = autoencoder or {"type": kind, "scale": config.scale, "dec_opt": {"type": "RRDBNet"}}
        file = changes["train.aesop_opt.autoencoder_load.path"] = str(folder / "autoencoder.safetensors")
        state = build_network(options).state_dict()
        save_weights(file, state, {"network": json.dumps(options)})
        notes.append("train.aesop_opt.autoencoder_load")
    if percep and not (Path(percep.vgg_path).is_file() if percep.vgg_path else has_pretrained(percep.vgg_type)):
        file = changes["train.perceptual_opt.vgg_path"] = str(folder / "vgg.safetensors")
        save_weights(file, VGGFeatureExtractor(list(percep.layer_weights), percep.vgg_type).state_dict(), {})
        notes.append(f"train.perceptual_opt ({percep.vgg_type})")
    return config.derive(changes), notes


class _Heard(logging.Handler):
    """Keeps what is said instead of printing it."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


heard = _Heard()


def _quiet() -> None:
    logging.getLogger("aesop").addHandler(heard)
    logging.getLogger("aesop").propagate = False
    warnings.simplefilter("ignore")  # of more loader processes than cores: doctor says so


def _short_run(config: TrainConfig, seconds: float, with_parts: bool = False) -> Estimate:
    try:
        with algorithms(config.deterministic):
            return _measure(config, seconds, with_parts)
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise MemoryError(str(error).splitlines()[0]) from None
        raise


def _measure(config: TrainConfig, seconds: float, with_parts: bool) -> Estimate:
    train, crops, device = config.train, config.datasets.train, pick_device(config.device)
    peaks = [_peak(device, config.cuda_graphs)]
    stage = build_stage(config, World(device=device))
    make_step = accelerate(stage, config.channels_last, config.compile, config.cuda_graphs)
    if config.degradation is not None:
        # The pool hardly counts here, and takes whole batches only.
        config = config.derive({"degradation.queue_size": 0})
    step = _Step(config, stage, device, make_step)
    batch, parts = crops.batch_size_per_gpu, train.accumulate
    with batches(training_images(config), crops, 1, train.total_iter + 10_000, pin_memory=step.on_cuda) as source:
        loading = _time_of_a_batch(source, crops.num_worker_per_gpu, seconds / 10)
        step.start_up(source, parts)
        first = step(next(source), parts)  # one image in each part
        if first < seconds / 4:
            first = step(next(source), parts)  # the very first includes a start-up
        peaks.append(_peak(device, config.cuda_graphs))
        # On a CPU time is about proportional to the number of images, and a whole batch may take minutes.
        images = min(batch, parts * max(1, int(seconds / first))) if device.type == "cpu" or first > seconds else batch
        times = [first] if images == parts else []
        if not times:
            step.start_up(source, images)
        while not times or (sum(times) < seconds and len(times) <= STEPS):
            times.append(step(next(source), images))
        peaks.append(_peak(device, config.cuda_graphs))
        timed = time_parts(stage, *step.images(next(source), images), seconds) if with_parts else {}
    computing = statistics.median(times[1:] or times)
    networks = sum(_size(net) for net in stage.networks.values())
    trained = sum(_size(net) for name, net in stage.networks.items() if name != "net_g_ema")
    return Estimate(
        computing=computing * batch / images,
        loading=loading,
        workers=crops.num_worker_per_gpu,
        images=images,
        memory=_memory(peaks, parts, images, batch),
        model=_size(stage.network_for_use),
        state=networks + 2 * trained,  # Adam's two moments
        parts={name: spent * batch / images for name, spent in timed.items()},
        said=tuple(dict.fromkeys(heard.lines)),
    )


class _Step:
    """One step as the training loop makes it, timed."""

    def __init__(self, config: TrainConfig, stage: Stage, device: torch.device, make_step: Callable[..., object]):
        self.stage, self.device, self.on_cuda, self.make_step = stage, device, device.type == "cuda", make_step
        # CUDA graphs are recorded after a step that compiles and one that warms up.
        self.start_ups = 3 if config.cuda_graphs and self.on_cuda else int(config.compile)
        # The last iterations stand for all: nothing is frozen or waits for its turn any more.
        self.last, self.cycle, self.made = config.train.total_iter, config.train.net_d_iters, 0
        self.degrader = Degrader(config, rank=0) if config.degradation else None

    def __call__(self, batch: Batch, images: int) -> float:
        begun = time.perf_counter()
        self.made += 1
        lq, gt = self.images(batch, images)
        self.make_step(lq, gt, self.last - self.made % self.cycle)
        synchronise(self.device)
        return time.perf_counter() - begun

    def start_up(self, source: Iterator[Batch], images: int) -> None:
        """The steps that compile or record for so many images: the time they take is not a step's."""
        for _ in range(self.start_ups * self.cycle if self.on_cuda else self.start_ups):
            self(next(source), images)

    def images(self, batch: Batch, images: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The first LR and HR images of a batch, on the device."""
        gt = to_device(batch["gt"][:images], self.device)
        if self.degrader is None:
            return to_device(batch["lq"][:images], self.device), gt
        return self.degrader(gt, self.made)


def _time_of_a_batch(source: Iterator[Batch], workers: int, seconds: float) -> float:
    """With the loader alone at work, after its start: what was loaded ahead tells nothing."""
    for _ in range(max(1, workers)):
        next(source)
    begun, count = time.perf_counter(), 0
    while time.perf_counter() - begun < seconds or count < max(1, workers):
        next(source)
        count += 1
    return (time.perf_counter() - begun) / count


def _memory(peaks: list[int], parts: int, images: int, batch: int) -> int | None:
    """The peak with a whole batch, from those before the start, with `parts` images and with `images`."""
    before, least, most = peaks
    if not most or (images < batch and images == parts):
        return None
    grown = (most - least) * (batch - images) // (images - parts) if images < batch else 0
    return most - before + grown


def _size(net: torch.nn.Module) -> int:
    return sum(tensor.nbytes for tensor in net.state_dict().values())


def _peak(device: torch.device, recorded: bool = False) -> int:
    """Most memory in bytes that this process has had so far; 0 where that is not known."""
    if device.type == "cuda":
        # Recorded steps reserve memory that counts as allocated only while one is being recorded.
        return torch.cuda.max_memory_reserved(device) if recorded else torch.cuda.max_memory_allocated(device)
    if device.type == "mps":
        return torch.mps.driver_allocated_memory()
    status = Path("/proc/self/status")
    if not status.is_file():
        return 0
    # Not getrusage: it counts what the process that started this one had.
    found = [line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM")]
    return int(found[0]) * 1024 if found else 0
