"""The perception-distortion front of a training: which models join it. See front_files.py for when their files go."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path

from aesop.evaluation.choice import Axes
from aesop.evaluation.front import kept
from aesop.options.config import TrainConfig
from aesop.system.distributed import World, agreed
from aesop.training.checkpoint import flush, metadata
from aesop.training.front_files import front_file
from aesop.training.full_disk import write_or_log
from aesop.training.progress import Progress
from aesop.training.stage import Stage
from aesop.weights.save import save_weights

log = logging.getLogger("aesop")


def front_axes(config: TrainConfig) -> Axes | None:
    """The metrics of the front; None if there is to be none. ValueError if options ask for one that cannot be measured."""
    options, early = config.val.front, config.val.early_stop
    if not options.keep:
        return None
    axes = Axes.find(options, config.val.metrics)
    if axes is None and (options.distortion or options.perception or (early and early.watch == "front")):
        asks = "val.front" if options.distortion or options.perception else "val.early_stop.watch"
        raise ValueError(f"{asks}: a front needs two val.metrics, one of distortion (psnr) and one of perception (lpips)")
    return axes


class KeptFront:
    """Adds models to the front, `Progress.front`, whose files are in models/front/."""

    def __init__(self, config: TrainConfig, stage: Stage, world: World, axes: Axes):
        self.config, self.stage, self.world, self.axes = config, stage, world, axes

    def add(self, progress: Progress, values: Mapping[str, float]) -> bool:
        """Keep the network for use if it joins the front; whether it does is the same in all processes.

        A file that cannot be written costs this model only: the front stays as it was.
        """
        measured = {name: values[name] for name in (self.axes.distortion, self.axes.perception) if name in values}
        if self.axes.point(measured) is None:
            return False
        candidates = [entry for entry in progress.front if self.axes.point(entry["values"])]
        candidates.append({"iteration": progress.iteration, "values": measured})
        points = [self.axes.point(entry["values"]) or (0.0, 0.0) for entry in candidates]
        front = [candidates[index] for index in kept(points, self.axes.best, self.config.val.front.keep)]
        if candidates[-1] not in front:
            return False
        if agreed(self.world, self.world.is_main and self._write(progress.iteration, measured)):
            progress.front = front
            log.info("on the front, of %d models: %s", len(front), front_file(Path("models"), progress.iteration))
        return True

    def _write(self, iteration: int, measured: Mapping[str, float]) -> bool:
        described = metadata(self.config, iteration, self.world) | {"measured": json.dumps(measured)}
        failure = f"the model of iteration {iteration} could not be added to the front"
        path, weights = front_file(self.config.run_folder / "models", iteration), self.stage.network_for_use.state_dict()

        def save() -> None:
            save_weights(path, weights, described)
            flush(path)  # before a state names it

        return write_or_log(failure, save)
