"""Weight files of which one is chosen by measured values: what `aesop select` and `aesop blend` share."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import yaml
from rich.console import Console

from aesop.commands.figure import draw
from aesop.commands.measure import find_sets
from aesop.data.measured_pairs import MeasuredPairs
from aesop.evaluation import protocol_text
from aesop.evaluation.cache import Cache
from aesop.evaluation.choice import Axes, Rule
from aesop.evaluation.combine import combine
from aesop.evaluation.evaluate import Evaluation
from aesop.evaluation.front import front
from aesop.evaluation.methods import network_file
from aesop.evaluation.result_files import described, summary_table, write_results
from aesop.evaluation.results import Results
from aesop.metrics import metric_info
from aesop.metrics.build import check_sizes, entry_info
from aesop.options.config import TestConfig, TrainConfig
from aesop.options.validation import FrontOptions, MetricOptions
from aesop.system.distributed import World
from aesop.system.files import replacing
from aesop.system.terminal import Note

FRONT_METRICS = ("psnr", "lpips")


@dataclass(frozen=True)
class Choosing:
    """The arguments of both commands."""

    hr: Sequence[str] = ()
    """Folders of HR images, which may begin with `NAME=`. None: the sets of the option file."""
    lr: Sequence[str] = ()
    metrics: str | None = None
    """Names with commas between them. None: those of the option file, and FRONT_METRICS if they make no front."""
    best: str | None = None
    at_least: Sequence[str] = ()
    at_most: Sequence[str] = ()
    device: str = "auto"
    tile: int = 0
    cache: Path | None = None
    """None: no cache."""


@dataclass(frozen=True)
class Chosen:
    """What both commands report."""

    written: Path
    """The file with the chosen weights."""
    chosen: str
    """The candidate's name; of weights that were blended without images the formula."""
    rule: str | None = None
    """By which it was chosen. None: by nothing, as there was one candidate."""
    results: Results | None = None
    """The values of all candidates."""


@dataclass(frozen=True)
class Plan:
    """What candidates are measured on, and how one of them is chosen."""

    sets: Mapping[str, MeasuredPairs]
    metrics: Mapping[str, MetricOptions]
    axes: Axes
    rule: Rule
    precision: str = "fp32"
    tile: int = 0
    cache: Path | None = None

    @classmethod
    def make(cls, asked: Choosing, config: TrainConfig | TestConfig | None, scale: int, console: Console) -> "Plan":
        """ValueError for what is missing, or does not fit together, before anything is computed."""
        metrics, axes = _metrics(asked.metrics, config)
        rule = Rule.read(asked.best, asked.at_least, asked.at_most, described(metrics))
        if asked.hr:
            found = find_sets(asked.hr, asked.lr, console)
            sets = {name: MeasuredPairs(name, scale, pairs) for name, pairs in found.items()}
        else:
            sets = _sets(config, scale)
        check_sizes(metrics, sets.values(), scale)
        precision = config.precision if config else "fp32"
        return cls(sets, metrics, axes, rule, precision, asked.tile or (config.val.tile if config else 0), asked.cache)

    def measure(self, name: str, candidates: Mapping[str, Path], world: World, console: Console) -> Results:
        """The values of all candidates. They are loaded one after another, as a run may have a hundred.

        A candidate that makes NaN is left out with a note.
        """
        found: dict[str, Results] = {}
        for number, (candidate, file) in enumerate(candidates.items(), 1):
            method, scale = network_file(candidate, str(file), world.device, self.precision, self.tile)
            if scale != (wanted := next(iter(self.sets.values())).scale):
                raise ValueError(f"{file} enlarges {scale} times, but the images are for {wanted} times")
            cache = Cache(self.cache) if self.cache else None
            quiet = console if number == 1 else Console(quiet=True)  # notes on the images are the same each time
            results, _ = Evaluation(name, [method], self.sets, self.metrics, cache, tolerant=True).run(world, quiet)
            if results.missing:
                console.print(Note(f"note: {candidate} is left out: {results.missing[0]}"))
                continue
            found[candidate] = results
            means = _values(results, _deciding(results))[candidate]
            values = "  ".join(f"{metric} {value:.4f}" for metric, value in means.items())
            console.print(Note(f"{candidate} ({number} of {len(candidates)}): {values}"))
        if not found:
            raise ValueError("nothing could be measured; see the notes")
        return combine(found)[0]

    def choose(self, results: Results) -> str:
        """The name of the chosen candidate."""
        return self.rule.choose(_values(results, _deciding(results)), self.axes, results.metrics)

    def report(self, results: Results, chosen: str, folder: Path, console: Console) -> None:
        """Print a table for each set, and write results.json, values.csv, plane.yml, and the plane into a folder."""
        for name in dict.fromkeys(name for method in results.methods for name in method.values):
            values = _values(results, name)
            on_front = self._on_front(results, name)
            rows = []
            for candidate, row in values.items():
                marks = ["front"] * (candidate in on_front) + ["chosen"] * (candidate == chosen)
                rows.append((candidate + (f" ({', '.join(marks)})" if marks else ""), row))
            console.print(f"{name}:")
            console.print(summary_table(rows, results.metrics))
        console.print(protocol_text.caption(results.protocol))
        write_results(folder, results)
        labels = {method.name: "" for method in results.methods}
        labels |= {candidate: candidate for candidate in self._on_front(results, _deciding(results))}
        spec = {
            "kind": "plane",
            "results": str(folder / "results.json"),
            "x": self.axes.distortion,
            "y": self.axes.perception,
            "intervals": False,
            "labels": labels | {chosen: f"{chosen} (chosen)"},
        }
        with replacing(folder / "plane.yml") as temporary:
            temporary.write_text(yaml.safe_dump(spec, sort_keys=False), encoding="utf-8")
        console.print(Note(f"values per image: {folder}/values.csv and {folder}/results.json"))
        if find_spec("matplotlib"):
            draw(folder / "plane.yml", None, True, console)
        else:
            command = f"aesop figure {folder}/plane.yml"
            missing = 'note: the plane is not drawn without matplotlib: pip install "aesop-sr[figures]"'
            console.print(Note(f"{missing}, then {command}"))

    def about(self, results: Results, chosen: str) -> dict[str, object]:
        """How a candidate was chosen, for its metadata."""
        name = _deciding(results)
        values, record = _values(results, name), results.protocol["sets"][name]
        of = {"set": name, **{key: value for key, value in record.items() if key in ("images", "hr_sha256")}}
        return {"rule": str(self.rule), "of": len(values), "measured_on": of, "values": values[chosen]}

    def _on_front(self, results: Results, name: str) -> set[str]:
        values = _values(results, name)
        points = [self.axes.point(row) or (math.nan, math.nan) for row in values.values()]
        return {list(values)[index] for index in front(points, self.axes.best)}


def _deciding(results: Results) -> str:
    """The first set, by whose values one is chosen."""
    return next(iter(results.methods[0].values))


def _values(results: Results, name: str) -> dict[str, dict[str, float]]:
    """Means over the images of a set, by candidate and metric."""
    rows = {method.name: list(method.values[name].values()) for method in results.methods}
    return {
        candidate: {metric: float(np.mean([row[metric] for row in images])) for metric in results.metrics}
        for candidate, images in rows.items()
    }


def _sets(config: TrainConfig | TestConfig | None, scale: int) -> dict[str, MeasuredPairs]:
    """The validation sets of a training, the test sets of a test."""
    data = config.datasets if config else None
    sections = data.measured("val") or data.measured("test") if data else {}
    sections = {name: section for name, section in sections.items() if section.type != "SingleImageDataset"}
    if not sections:
        raise ValueError("there is no validation set with HR images: give --hr FOLDER")
    return {name: MeasuredPairs.find(section, name, scale) for name, section in sections.items()}


def _metrics(given: str | None, config: TrainConfig | TestConfig | None) -> tuple[dict[str, MetricOptions], Axes]:
    """The metrics, with the options they have in the option file, and the front's axes."""
    known = dict(config.val.metrics) if config else {}
    names = [name.strip() for name in given.split(",")] if given else list(known)
    for name in names:
        if name not in known:
            metric_info(name)  # ValueError for an unknown one

    def needs_autoencoder(name: str, entry: MetricOptions) -> bool:
        return entry_info(name, entry).needs_autoencoder and entry.autoencoder is None

    own = config.val.front if config else FrontOptions()
    wanted = own if {own.distortion, own.perception} <= {None, *names} else FrontOptions()
    metrics = {name: known.get(name, MetricOptions()) for name in names}
    if not given and Axes.find(wanted, metrics) is None:
        metrics |= {name: known.get(name, MetricOptions()) for name in FRONT_METRICS}
    if isinstance(config, TrainConfig) and (loss := config.train.aesop_opt) and loss.autoencoder_load:
        trained_with = {"autoencoder": loss.autoencoder_load.path}
        metrics = {
            name: entry.model_copy(update=trained_with) if needs_autoencoder(name, entry) else entry
            for name, entry in metrics.items()
        }
    if (axes := Axes.find(wanted, metrics)) is None:
        raise ValueError(f"--metrics {given}: a front needs psnr or lrpsnr, and lpips, lpips_vgg or dists")
    return metrics, axes
