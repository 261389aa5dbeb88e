"""Other ways to compute the same step: channels_last memory, compiled networks, CUDA graphs.

A compiler that fails and graphs that cannot be had are left out, with a line that says so. CUDA graphs have been tried with
a stand-in on the CPU only (docs/decisions.md, "Owed").
"""

import logging
from collections import Counter
from collections.abc import Callable, Generator, Hashable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from aesop.archs.rrdbnet import RRDB
from aesop.options.config import TrainConfig
from aesop.system.device import is_out_of_memory
from aesop.training.stages import AdversarialStage, Scalars, Stage

log = logging.getLogger("aesop")
WARM_UP = 3
"""Steps made as usual before one is recorded: in them libraries choose their algorithms and optimisers make their state."""


def accelerate(stage: Stage, channels_last: bool = False, compile: bool = False, cuda_graphs: bool = False) -> None:
    """Make a stage's steps in other ways. Its networks are in place; weights may still be loaded into them."""
    if channels_last:
        for net in all_networks(stage):
            net.to(memory_format=torch.channels_last)
    if compile:
        compiler = Compiler()
        for net in all_networks(stage):
            for part in parts_to_compile(net):
                part.forward = compiler.compiled(part.forward)
    if cuda_graphs:
        if reason := reason_against_graphs(stage):
            log.warning("cuda_graphs: left out, because %s", reason)
        else:
            stage.replayed = RecordedSteps(stage, Recorder(stage.world.device))


@contextmanager
def for_many_sizes(config: TrainConfig) -> Generator[None]:
    """While entered, nothing is prepared for the size of an image, which costs more than it gains when the next has another:
    networks run as they are written, with the convolutions at hand."""
    benchmark, torch.backends.cudnn.benchmark = torch.backends.cudnn.benchmark, False
    try:
        with torch.compiler.set_stance("force_eager") if config.compile else nullcontext():
            yield
    finally:
        torch.backends.cudnn.benchmark = benchmark


def all_networks(stage: Stage) -> Iterator[nn.Module]:
    """Those that are trained, and the frozen ones inside losses."""
    yield from stage.networks.values()
    if isinstance(stage, AdversarialStage):
        if stage.aesop_loss is not None:
            yield stage.aesop_loss.autoencoder
        if stage.perceptual_loss is not None:
            yield stage.perceptual_loss.vgg


def parts_to_compile(net: nn.Module) -> list[nn.Module]:
    """A network's RRDBs, which share one compilation (seconds instead of minutes); the whole of a network without any.

    Of an auto-encoder that is its encoder's, and its decoder's where that is an RRDBNet.
    """
    return [module for module in net.modules() if isinstance(module, RRDB)] or [net]


class Compiler:
    """Compiles forward passes when they are first called. From the first failure there on, all run as they are written."""

    def __init__(self) -> None:
        self.failed = False

    def compiled(self, plain: Callable[..., Any]) -> Callable[..., Any]:
        fast = torch.compile(plain)

        def forward(*args: Any, **options: Any) -> Any:
            if self.failed:
                return plain(*args, **options)
            try:
                return fast(*args, **options)
            except Exception as error:  # compilers raise anything
                if is_out_of_memory(error):
                    raise
                result = plain(*args, **options)  # raises what is no fault of the compiler
                self.failed = True
                reason = (str(error).strip().splitlines() or [""])[0][:200]
                log.warning("compile: left out, because it failed here (%s: %s)", type(error).__name__, reason)
                return result

        return forward


def reason_against_graphs(stage: Stage) -> str | None:
    """Why steps cannot be recorded here; None where they can."""
    if stage.world.device.type != "cuda":
        return f"they are for CUDA, and this is {stage.world.device}"
    if stage.world.size > 1:
        return "several processes exchange gradients in the step"
    return None


class Recording:
    """What `work` gives the GPU, as one CUDA graph. Recording computes nothing; each replay computes on the same memory."""

    def __init__(self, work: Callable[[], Scalars], stream: torch.cuda.Stream, pool: Any):
        self.graph = torch.cuda.CUDAGraph()
        # Other threads (of the loader, which pins memory) may use CUDA meanwhile.
        with torch.cuda.graph(self.graph, pool, stream, capture_error_mode="thread_local"):
            self.results = work()

    def replay(self) -> Scalars:
        self.graph.replay()
        return self.results


class Recorder:
    """Makes and records steps on a stream of their own: what one leaves for the next must not be on another."""

    def __init__(self, device: torch.device):
        self.device, self.stream, self.pool = device, torch.cuda.Stream(device), torch.cuda.graph_pool_handle()

    def make(self, work: Callable[[], Scalars]) -> Scalars:
        current = torch.cuda.current_stream(self.device)
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            results = work()
        current.wait_stream(self.stream)
        return results

    def record(self, work: Callable[[], Scalars]) -> Recording:
        return Recording(work, self.stream, self.pool)


class RecordedSteps:
    """A stage's steps, recorded once and replayed: one launch in place of thousands.

    There is a recording for each kind of step (its shapes; what is updated). The learning rates become tensors, so that a
    replay sees the current ones. When a step cannot be recorded, all go on as usual, with a line.
    """

    def __init__(self, stage: Stage, recorder: Recorder):
        self.stage, self.recorder = stage, recorder
        self.made: Counter[Hashable] = Counter()
        self.recordings: dict[Hashable, tuple[Recording, list[Tensor], Tensor]] = {}
        self.failed = False
        for optimizer in stage.optimizers.values():
            for group in optimizer.param_groups:
                group["capturable"] = True
                group["lr"] = torch.tensor(float(group["lr"]), device=stage.world.device)

    def __call__(self, lq: Tensor, gt: Tensor, iteration: int, gt_usm: Tensor | None) -> Scalars:
        if self.failed:
            return self.stage.whole_step(lq, gt, iteration, gt_usm)
        images = [image for image in (lq, gt, gt_usm) if image is not None]
        kind = (self.stage.kind_of_step(iteration), gt_usm is None, *(image.shape for image in images))
        self.made[kind] += 1
        if self.made[kind] <= WARM_UP:
            return self.recorder.make(lambda: self.stage.whole_step(lq, gt, iteration, gt_usm))
        if kind not in self.recordings and not self._recorded(kind, images, iteration, gt_usm is not None):
            return self.stage.whole_step(lq, gt, iteration, gt_usm)
        recording, inputs, skipped = self.recordings[kind]
        torch._foreach_copy_(inputs, images)
        scalars = recording.replay()
        self.stage.skipped = skipped.clone()  # the next replay writes over what this one gave
        return {name: value.clone() for name, value in scalars.items()}

    def _recorded(self, kind: Hashable, images: list[Tensor], iteration: int, sharpened: bool) -> bool:
        """Record the step on copies of the images; False, said once, where that fails."""
        inputs = [image.clone() for image in images]
        try:
            recording = self.recorder.record(
                lambda: self.stage.whole_step(inputs[0], inputs[1], iteration, inputs[2] if sharpened else None)
            )
        except RuntimeError as error:
            self.failed = True
            self.recordings.clear()
            first = error.__context__ or error  # the end of a recording that failed fails as well
            reason = (str(first).strip().splitlines() or [type(first).__name__])[0][:200]
            log.warning("cuda_graphs: left out, because a step cannot be recorded (%s)", reason)
            return False
        self.recordings[kind] = recording, inputs, self.stage.skipped
        return True

    def forget(self) -> None:
        """After the stage got other tensors, as it does from a checkpoint."""
        self.made.clear()
        self.recordings.clear()
