"""Measure a training stage with a few real steps: time per iteration, data loading, memory, and the parts of a step.

The steps run in a process of their own. Its peak memory is the training's alone, and `aesop doctor` survives when the system
kills a process that takes too much memory.
"""

import json
import logging
import re
import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from logging.handlers import BufferingHandler
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from aesop.archs import build_network
from aesop.archs.vgg import VGGFeatureExtractor
from aesop.check.dry_run import weight_files
from aesop.data.degradation.degrader import Degrader
from aesop.data.loader import Batch, batches, to_device
from aesop.data.training_crops import training_crops
from aesop.options.config import TrainConfig
from aesop.system.device import algorithms, is_out_of_memory, pick_device, synchronise, threads_on_cpu
from aesop.system.distributed import World
from aesop.training.acceleration import accelerate
from aesop.training.adversarial_stage import AdversarialStage
from aesop.training.build_stage import build_stage
from aesop.training.ema import update_ema
from aesop.training.stage import Mean, Stage, StepImages
from aesop.weights.pretrained import has_pretrained
from aesop.weights.save import save_weights

MAX_STEPS = 10


@dataclass(frozen=True)
class Estimate:
    """What one iteration of a training costs."""

    computing: float  # seconds of computation per step
    loading: float  # seconds per batch when the loader does nothing else
    workers: int  # loader processes
    images: int  # images per measured step; times are scaled to the whole batch
    memory: int | None  # peak in bytes; None if unknown, or if a whole batch takes too long to measure
    model: int  # bytes of a weight file
    state: int  # bytes of a resumable state
    parts: dict[str, float] = field(default_factory=dict)  # seconds of each part of a step, measured alone
    said: tuple[str, ...] = ()  # warnings that the training logged, such as options that do not work on this machine

    @property
    def seconds(self) -> float:
        """Per iteration. Worker processes load while the step computes."""
        return max(self.computing, self.loading) if self.workers else self.computing + self.loading

    @property
    def waiting(self) -> float:
        """The share of an iteration spent waiting for data."""
        return 1 - self.computing / self.seconds


def estimate(
    config: TrainConfig, autoencoder: Mapping[str, Any] | None = None, seconds: float = 30.0, with_parts: bool = False
) -> tuple[Estimate, list[str]]:
    """Measure a training stage for about `seconds`, and `with_parts` the parts of a step for as long again.

    Also returns the options whose missing weight files were replaced. `autoencoder` are the network options of one that is
    still to be trained, by default the published one. Raises whatever stops the training.
    """
    with TemporaryDirectory() as folder, ProcessPoolExecutor(1, get_context("spawn"), _collect_warnings) as process:
        runnable, replaced = with_stand_ins(config, Path(folder), autoencoder)
        try:
            return process.submit(_short_run, runnable, seconds, with_parts).result(), replaced
        except BrokenProcessPool:
            raise MemoryError("the system killed the process, as it does when memory runs out") from None
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise MemoryError(str(error).splitlines()[0]) from None
            raise


def with_stand_ins(
    config: TrainConfig, folder: Path, autoencoder: Mapping[str, Any] | None = None
) -> tuple[TrainConfig, list[str]]:
    """Replace missing weight files by untrained weights of the same size; returns the options that named them as well."""
    aesop, percep = config.train.aesop_opt, config.train.perceptual_opt
    replaced = [option for option, file in weight_files(config) if not Path(file).expanduser().is_file()]
    changes: dict[str, Any] = {option: None for option in replaced if option.startswith("path.")}
    changes |= {"path.resume_state": None, "path.from_scratch": True}
    if aesop and "train.aesop_opt.autoencoder_load" in replaced:
        kind = "ProbabilisticAutoEncoder_RRDBNet" if aesop.type.startswith("Probabilistic") else "AutoEncoder_RRDBNet"
        options = autoencoder or {"type": kind, "scale": config.scale, "dec_opt": {"type": "RRDBNet"}}
        file = folder / "autoencoder.safetensors"
        save_weights(file, build_network(options).state_dict(), {"network": json.dumps(options)})
        changes["train.aesop_opt.autoencoder_load.path"] = str(file)
    if percep and not percep.vgg_path and not has_pretrained(percep.vgg_type):
        replaced.append("train.perceptual_opt.vgg_path")
    if percep and "train.perceptual_opt.vgg_path" in replaced:
        file = folder / "vgg.safetensors"
        save_weights(file, VGGFeatureExtractor(list(percep.layer_weights), percep.vgg_type).state_dict(), {})
        changes["train.perceptual_opt.vgg_path"] = str(file)
    return config.derive(changes), replaced


_logged = BufferingHandler(capacity=10_000)


def _collect_warnings() -> None:
    """Collect log lines instead of printing them."""
    logging.getLogger("aesop").addHandler(_logged)
    warnings.simplefilter("ignore")  # PyTorch's, about more loader processes than cores: doctor reports that


def _short_run(config: TrainConfig, seconds: float, with_parts: bool = False) -> Estimate:
    crops, device, graphs = config.datasets.train, pick_device(config.device), config.cuda_graphs
    batch, workers, least = crops.batch_size_per_gpu, crops.num_worker_per_gpu, config.train.accumulate
    before = _peak_memory(device, graphs)
    loader = batches(training_crops(config), crops, 1, config.train.total_iter + 10_000, pin_memory=device.type == "cuda")
    with algorithms(config.deterministic), loader as source:
        stage = build_stage(config, World(device=device))
        step = accelerate(stage, config.channels_last, config.compile, graphs)
        loading = _loading_time(source, workers, seconds / 10)
        steps = _Steps(config, stage, step, source)
        # CUDA graphs are recorded after a step that compiles and one that warms up.
        warm_up = range(3 * config.train.net_d_iters if graphs and device.type == "cuda" else int(config.compile))
        for _ in warm_up:
            steps.time_one(least)
        first = steps.time_one(least)  # one image in each part of the batch
        # A CPU may take minutes for a whole batch, and its time is about proportional to the number of images.
        images = least if device.type == "cpu" and first * batch / least > seconds else batch
        for _ in warm_up if images > least else ():
            steps.time_one(images)
        times = [steps.time_one(images)]
        while sum(times) < seconds and len(times) <= MAX_STEPS:
            times.append(steps.time_one(images))
        memory = _peak_memory(device, graphs) - before if images == batch else 0
        parts = time_parts(stage, *steps.images(images), seconds) if with_parts else {}
    sizes = {name: sum(t.nbytes for t in net.state_dict().values()) for name, net in stage.networks.items()}
    trained = sum(size for name, size in sizes.items() if name != "net_g_ema")
    return Estimate(
        computing=statistics.median(times[1:] or times) * batch / images,
        loading=loading,
        workers=workers,
        images=images,
        memory=memory or None,
        model=sizes["net_g"],
        state=sum(sizes.values()) + 2 * trained,  # Adam keeps two moments
        parts={name: spent * batch / images for name, spent in parts.items()},
        said=tuple(dict.fromkeys(record.getMessage() for record in _logged.buffer)),
    )


class _Steps:
    """Steps of the training on the first images of each batch."""

    def __init__(self, config: TrainConfig, stage: Stage, step: Callable[..., object], source: Iterator[Batch]):
        self.config, self.step, self.source, self.device = config, step, source, stage.world.device
        # The pool of degraded pairs costs little, and takes only whole batches.
        self.degrader = Degrader(config.derive({"degradation.queue_size": 0}), 0) if config.degradation else None
        self.count = 0

    def images(self, count: int) -> tuple[Tensor, Tensor]:
        """The first LR and HR images of the next batch, on the device."""
        batch = next(self.source)
        gt = to_device(batch["gt"][:count], self.device)
        return self.degrader(gt, self.count) if self.degrader else (to_device(batch["lq"][:count], self.device), gt)

    def time_one(self, count: int) -> float:
        begun = time.perf_counter()
        self.count += 1
        # The last iterations represent the others: no network is frozen any more, and D has had its first iterations.
        iteration = self.config.train.total_iter - self.count % self.config.train.net_d_iters
        self.step(*self.images(count), iteration)
        synchronise(self.device)
        return time.perf_counter() - begun


def _loading_time(source: Iterator[Batch], workers: int, seconds: float) -> float:
    """Seconds per batch while nothing else runs, without the start-up and the batches loaded during it."""
    for _ in range(max(1, workers)):
        next(source)
    begun, count = time.perf_counter(), 0
    while time.perf_counter() - begun < seconds or count < max(1, workers):
        next(source)
        count += 1
    return (time.perf_counter() - begun) / count


def small_convolution(threads: int, limit: float = 0.3) -> float:
    """Seconds of a convolution as in a small network, forward and backward on the CPU: the median within `limit` seconds."""
    layer, image = torch.nn.Conv2d(16, 16, 3, padding=1), torch.rand(2, 16, 16, 16)
    times: list[float] = []
    with threads_on_cpu(threads):
        while len(times) < 3 or (sum(times) < limit and len(times) < 100):
            begun = time.perf_counter()
            layer(image).sum().backward()
            times.append(time.perf_counter() - begun)
    return statistics.median(times)


def _parts_of_step(stage: Stage, lq: Tensor, gt: Tensor) -> dict[str, Callable[[], Tensor | None]]:
    """The parts of a step on LR (N, 3, h, w) and HR (N, 3, H, W) images in [0, 1] on the device.

    Each returns the scalar to go backward from, if there is one. A loss includes the networks that it alone needs: the
    averaged generator, the discriminator.
    """
    batch = {"lq": lq, "gt": gt, "gt_usm": gt}
    images = StepImages(batch, stage.make_image)
    _ = images["sr"]
    made = dict(images)

    def generator() -> Tensor:
        images = StepImages(batch, stage.make_image)
        _ = images["sr"]
        return images.outputs["sr"].mean()

    parts: dict[str, Callable[[], Tensor | None]] = {"net_g": generator}
    for term in stage.terms.values():
        parts[term.name] = lambda term=term: stage.weighted_loss(term, StepImages(made, stage.make_image))
    if isinstance(stage, AdversarialStage):
        stage.net_d.requires_grad_(False)  # as in the generator's part of a step

        def discriminator() -> Tensor:
            stage.net_d.requires_grad_(True)
            return stage.discriminator_loss(made["sr"].detach(), gt, Mean(1))

        parts["net_d"] = discriminator

    def update() -> None:
        for optimizer in stage.optimizers.values():
            optimizer.step()
        if stage.net_g_ema is not None:
            update_ema(stage.net_g_ema, stage.net_g, decay=0.999)

    return parts | {"optimizers, EMA": update}


def time_parts(stage: Stage, lq: Tensor, gt: Tensor, seconds: float) -> dict[str, float]:
    """Seconds of each part, forward and backward: the fastest of the runs after the first, within about `seconds` in all."""
    parts, found = _parts_of_step(stage, lq, gt), {}
    for name, part in parts.items():
        times: list[float] = []
        while len(times) < 2 or sum(times) < seconds / len(parts):
            synchronise(stage.world.device)
            begun = time.perf_counter()
            if (scalar := part()) is not None:
                scalar.backward()
            synchronise(stage.world.device)
            times.append(time.perf_counter() - begun)
        found[name] = min(times[1:])
    return found


def _peak_memory(device: torch.device, cuda_graphs: bool) -> int:
    """Peak memory of this process in bytes; 0 if unknown."""
    if device.type == "cuda":
        # The memory of a CUDA graph counts as allocated only while it is recorded.
        return torch.cuda.max_memory_reserved(device) if cuda_graphs else torch.cuda.max_memory_allocated(device)
    if device.type == "mps":
        return torch.mps.driver_allocated_memory()
    # Not getrusage: its peak includes that of the parent process.
    status = Path("/proc/self/status")
    peak = re.search(r"VmHWM:\s*(\d+) kB", status.read_text()) if status.is_file() else None
    return int(peak[1]) * 1024 if peak else 0
