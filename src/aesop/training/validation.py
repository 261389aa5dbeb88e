"""Validation during a training: the best weights, the front, and the early stop."""

import itertools
import logging
from collections.abc import Mapping
from functools import partial

from aesop.archs.gray import is_gray
from aesop.data.measured_pairs import MeasuredPairs
from aesop.evaluation.image_views import Image
from aesop.evaluation.measure import averages, image_saver, measure
from aesop.evaluation.methods import Predictor, predict
from aesop.metrics.build import check_sizes, is_better, make_metrics
from aesop.options.config import TrainConfig
from aesop.system.distributed import World
from aesop.training.acceleration import for_any_size
from aesop.training.checkpoint import save_model
from aesop.training.full_disk import write_or_log
from aesop.training.heartbeat import Heartbeat
from aesop.training.kept_front import KeptFront, front_axes
from aesop.training.progress import Progress
from aesop.training.stage import Stage

log = logging.getLogger("aesop")


class Validation:
    """Measures the network for use on every `val` section and saves the images, the best weights, and the front."""

    def __init__(self, config: TrainConfig, stage: Stage, world: World):
        self.config, self.stage, self.world, self.folder = config, stage, world, config.run_folder
        sections = config.datasets.measured("val") if config.val.val_freq else {}
        gray = is_gray(stage.net_g)
        self.sets = {name: MeasuredPairs.find(data, name, config.scale, gray) for name, data in sections.items()}
        for pairs in self.sets.values():
            pairs.limit(config.val.max_images)
        self.best_metric = config.val.best_metric or next(iter(config.val.metrics), "")
        check_sizes(config.val.metrics, self.sets.values(), config.scale, config.stage == "autoencoder")
        aesop = stage.terms.get("aesop_opt")
        autoencoder = getattr(aesop.loss, "autoencoder", None) if aesop else None
        self.metrics = make_metrics(config.val.metrics, config.scale, world.device, autoencoder) if self.sets else {}
        axes = front_axes(config) if self.sets else None
        self.front = KeptFront(config, stage, world, axes) if axes else None

    def run_if_due(self, progress: Progress) -> dict[str, float]:
        """Figures named <section>/<metric>, the same in all processes, which share the images; none if none are due."""
        config, device, iteration = self.config, self.world.device, progress.iteration
        if not self.sets or progress.validated >= iteration or iteration < config.val.val_start_iter:
            return {}
        if iteration % config.val.val_freq and iteration != config.train.total_iter:
            return {}
        figures: dict[str, float] = {}
        net = self.stage.network_for_use.eval()
        for section, pairs in self.sets.items():
            save = image_saver(self.folder / "visualization" / f"{iteration:08d}" / section, config.val.suffix)
            saver = partial(write_or_log, "an image of the validation could not be written", save)
            run = partial(predict, net, scale=config.scale, device=device, precision=config.precision, tile=config.val.tile)
            run = _with_heartbeat(run, pairs.name, -(-len(pairs) // self.world.size))
            with for_any_size(config):
                rows = measure(run, pairs, self.metrics, self.world, saver if config.val.save_img else None)
            mean = averages(rows)
            figures |= {f"{section}/{name}": value for name, value in mean.items()}
            log.info("validation %s: %s", pairs.name, "  ".join(f"{k} {v:.4f}" for k, v in mean.items()))
        self._keep(progress, figures)
        if net is self.stage.net_g:
            net.train()
        progress.validated = iteration
        return figures

    def stop_reason(self, progress: Progress) -> str:
        """Why the training is to end now, before its last iteration; "" if it is not. Never while steps are skipped."""
        early = self.config.val.early_stop
        if early is None or progress.in_a_row:
            return ""
        if (count := progress.without_news.get(early.watch, 0)) < early.patience or progress.iteration < early.min_iter:
            return ""
        news = "model on the front" if early.watch == "front" else f"best {self.best_metric}"
        return f"no new {news} in {count} validations"

    def _keep(self, progress: Progress, figures: Mapping[str, float]) -> None:
        """Keep what a validation found: the first section that has the best metric decides, or has both of the front."""

        def first_with(*metrics: str) -> Mapping[str, float]:
            found = ({name: figures.get(f"{section}/{name}") for name in metrics} for section in self.sets)
            rows = ({name: value for name, value in row.items() if value is not None} for row in found)
            return next((row for row in rows if len(row) == len(metrics)), {})

        news = {"best": self._keep_best(progress, first_with(self.best_metric))}
        if self.front is not None:
            axes = self.front.axes
            news["front"] = self.front.add(progress, first_with(axes.distortion, axes.perception))
        counts = progress.without_news
        progress.without_news = {watched: 0 if is_new else counts.get(watched, 0) + 1 for watched, is_new in news.items()}

    def _keep_best(self, progress: Progress, measured: Mapping[str, float]) -> bool:
        """Keep the weights if they are the best ones; whether they are is the same in all processes."""
        metric = self.best_metric
        if not measured or not is_better(self.config.val.metrics, metric, measured[metric], progress.best.get(metric)):
            return False
        path = self.folder / "models" / "net_g_best.safetensors"
        failure = f"the best weights of iteration {progress.iteration} could not be saved"
        if not self.world.is_main or write_or_log(failure, save_model, path, self.stage, self.config, progress.iteration):
            progress.best[metric] = measured[metric]
            log.info("best %s so far: %.4f (models/net_g_best.safetensors)", metric, measured[metric])
        return True


def _with_heartbeat(run: Predictor, name: str, count: int) -> Predictor:
    """`run`, which shows a line now and then while it goes through `count` images."""
    heartbeat, number = Heartbeat(), itertools.count(1)

    def predicted(lq: Image, gt: Image | None) -> Image:
        if heartbeat.is_due():
            log.info("validation %s: image %d of %d", name, next(number), count)
            heartbeat.beat()
        else:
            next(number)
        return run(lq, gt)

    return predicted
