"""Validation during a training, and the best weights."""

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np

from aesop.data.measured_pairs import MeasuredPairs
from aesop.evaluation.measure import averages, image_saver, measure
from aesop.evaluation.methods import predict
from aesop.metrics.build import check_sizes, is_better, make_metrics
from aesop.options.config import TrainConfig
from aesop.system.distributed import World
from aesop.training.acceleration import for_many_sizes
from aesop.training.checkpoint import Progress, save_model
from aesop.training.stages import AdversarialStage, Stage

log = logging.getLogger("aesop")


class Validation:
    """Measures the network for use on every `val` section, keeps the images and the best weights."""

    def __init__(self, config: TrainConfig, stage: Stage, world: World, folder: Path):
        self.config, self.stage, self.world, self.folder = config, stage, world, folder
        sections = config.datasets.measured("val") if config.val.val_freq else {}
        self.sets = {name: MeasuredPairs(data, name, config.scale) for name, data in sections.items()}
        self.best_metric = config.val.best_metric or next(iter(config.val.metrics), None)
        judge = None
        if isinstance(stage, AdversarialStage) and stage.aesop_loss is not None:
            judge = stage.aesop_loss.autoencoder
        check_sizes(config.val.metrics, self.sets.values(), config.scale, config.stage == "autoencoder")
        self.metrics = make_metrics(config.val.metrics, config.scale, world.device, judge) if self.sets else {}

    def is_due(self, iteration: int) -> bool:
        val = self.config.val
        due = iteration % val.val_freq == 0 or iteration == self.config.train.total_iter if val.val_freq else False
        return bool(self.sets) and due and iteration >= val.val_start_iter

    def run(self, iteration: int, progress: Progress) -> dict[str, float]:
        """Figures named <section>/<metric>, the same in all processes, which take turns with the images.

        The first section that has the metric decides which weights are the best.
        """
        figures: dict[str, float] = {}
        net = self.stage.network_for_use.eval()
        for section, pairs in self.sets.items():
            saver = None
            if self.config.val.save_img:
                saver = _forgiving(
                    image_saver(self.folder / "visualization" / f"{iteration:08d}" / section, self.config.val.suffix)
                )
            with for_many_sizes(self.config):
                rows = measure(
                    lambda lq, gt: predict(
                        net, lq, gt, self.config.scale, self.world.device, self.config.precision, self.config.val.tile
                    ),
                    pairs,
                    self.metrics,
                    self.world.device,
                    saver,
                    self.world,
                )
            mean = averages(rows)
            figures |= {f"{section}/{name}": value for name, value in mean.items()}
            log.info("validation %s: %s", pairs.name, "  ".join(f"{k} {v:.4f}" for k, v in mean.items()))
        decisive = [value for name, value in figures.items() if name.partition("/")[2] == self.best_metric]
        if decisive:
            self._keep_best(iteration, progress, decisive[0])
        if net is self.stage.net_g:
            net.train()
        return figures

    def _keep_best(self, iteration: int, progress: Progress, value: float) -> None:
        assert self.best_metric is not None
        if is_better(self.config.val.metrics, self.best_metric, value, progress.best.get(self.best_metric)):
            if self.world.is_main:
                try:
                    save_model(self.folder / "models" / "net_g_best.safetensors", self.stage, self.config, iteration)
                except OSError as error:
                    log.error("the best weights of iteration %d could not be saved: %s", iteration, error)
                    return
            progress.best[self.best_metric] = value
            log.info("best %s so far: %.4f (models/net_g_best.safetensors)", self.best_metric, value)


def _forgiving(save: Callable[[str, np.ndarray], None]) -> Callable[[str, np.ndarray], None]:
    """An image that cannot be written is no reason to lose a training."""

    def attempt(name: str, image: np.ndarray) -> None:
        try:
            save(name, image)
        except OSError as error:
            log.error("the image of %s could not be written: %s", name, error)

    return attempt
