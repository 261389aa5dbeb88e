"""`aesop figure`: draw a figure of a paper from its YAML file."""

from importlib import resources
from pathlib import Path
from typing import Any

from rich.console import Console

from aesop.evaluation.combine import combine, read_results
from aesop.evaluation.figures import crops, plane
from aesop.evaluation.figures.drawing import save
from aesop.evaluation.figures.spec import KINDS, CropsSpec, PlaneSpec, read_spec
from aesop.options.error_messages import ConfigError
from aesop.system.terminal import Note


def example(kind: str) -> str:
    """A YAML file to start from, with every key explained."""
    if kind not in KINDS:
        raise ValueError(f"--example {kind}: the kinds are {', '.join(KINDS)}")
    return (resources.files("aesop") / "assets" / "figures" / f"{kind}.yml").read_text(encoding="utf-8")


def draw(file: Path, output: Path | None, overwrite: bool, console: Console) -> dict[str, Any]:
    """Draw to `output`, or else to a PDF and a PNG file beside the YAML file. Prints and returns the files, and of crops the
    regions that are enlarged."""
    targets = [output] if output else [file.with_suffix(".pdf"), file.with_suffix(".png")]
    if not overwrite and (there := [str(path) for path in targets if path.exists()]):
        raise ValueError(f"{', '.join(there)} exists: choose another name with -o, or add --overwrite")
    spec = read_spec(file)
    regions: dict[str, list[int]] = {}
    try:
        if isinstance(spec, PlaneSpec):
            results, notes = combine({file: read_results(Path(file).expanduser()) for file in spec.results})
            for note in notes:
                console.print(Note(f"note: {note}"))
            panels = plane.panels(spec, results)
            metrics = [results.metrics[name] for name in (spec.x, spec.y)]
            paint = lambda is_pixels: plane.draw(spec, panels, *metrics)  # noqa: E731
        else:
            assert isinstance(spec, CropsSpec)
            blocks = crops.blocks(spec)
            for block in blocks:
                region = block.region
                regions[block.name] = [region.left, region.top, region.width, region.height]
                console.print(Note(f"{block.name}: {regions[block.name]}"))
            paint = lambda is_pixels: crops.draw(spec, blocks, is_pixels)  # noqa: E731
        for target in targets:
            save(paint, target)
            console.print(Note(f"written: {target}"))
    except ValueError as error:
        raise ConfigError(f"{file}: {error}") from error
    return {"files": targets, "regions": regions}
