"""`aesop export`: a network in the format of another program, compared there with PyTorch."""

import shutil
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from torch import nn

import aesop
from aesop.conversion.compare import largest_difference
from aesop.conversion.exported import Padded, needed_multiple
from aesop.conversion.targets import TARGETS
from aesop.inference.models import find_model
from aesop.system.files import replacing
from aesop.system.terminal import Note
from aesop.weights.description import read_description
from aesop.weights.load import LoadedInfo, load_picture_generator

SIZES = ((40, 48), (61, 75), (96, 64))  # (height, width) of the parts of a photograph that are compared
TOLERANCES = {False: 1 / 510, True: 1 / 255}  # of the largest difference, in float32 and in half precision


@dataclass(frozen=True, slots=True)
class Exported:
    target: str
    files: list[Path]
    difference: float
    """The largest from PyTorch's images, whose range is 1."""
    limit: float
    """Above which nothing is written."""


def export(
    model: str,
    targets: Sequence[str],
    console: Console,
    *,
    half: bool = False,
    pads: bool = True,
    output: Path | None = None,
    overwrite: bool = False,
) -> list[Exported]:
    """Write a generator in the given formats. Nothing is written that computes other images.

    Args:
        model: a weight file, or the name of a known model.
        targets: names of `TARGETS`.
        half: in half precision. Images come and go in float32 nevertheless.
        pads: whether a network that takes multiples of a size only is padded inside, so that it takes any size.
        output: a file with the target's extension, or a folder; default: the model's name in the current folder.
        overwrite: whether to replace existing files.

    Raises:
        WeightsError: the model is not found, or is no generator of RGB or gray pictures.
        ValueError: a target is unknown, lacks a package, cannot take the network, or computes other images; a file exists.
    """
    source = find_model(model)
    planned = {name: _planned(name, source, half, output) for name in dict.fromkeys(targets)}
    files = [file for paths in planned.values() for file in paths]
    if twice := [file for file in files if files.count(file) > 1]:
        raise ValueError(f"{twice[0]} would belong to two formats: give a folder with -o, or export one after the other")
    if existing := [file for file in files if file.exists() and not overwrite]:
        raise ValueError(f"{existing[0]} exists: give another name with -o, or --overwrite")
    for name in planned:
        TARGETS[name].check_packages(name)
    net, info, channels = load_picture_generator(source)
    net.requires_grad_(False)  # TorchScript would keep it
    multiple = needed_multiple(net)
    if multiple > 1 and pads:
        net, multiple = Padded(net, multiple, info.scale).eval(), 1
    elif multiple > 1:
        console.print(Note(f"note: without padding, the network takes images whose sides are multiples of {multiple}"))
    done = []
    for name, paths in planned.items():
        difference = _write(net, name, paths, info, channels, half, multiple)
        size, precision = sum(file.stat().st_size for file in paths) / 1e6, "fp16" if half else "fp32"
        console.print(
            f"{', '.join(map(str, paths))}: x{info.scale} {info.arch}, {precision}, {size:.1f} MB; its images differ from "
            f"PyTorch's by at most {difference:.1e} (limit {TOLERANCES[half]:.1e})"
        )
        done.append(Exported(name, paths, difference, TOLERANCES[half]))
    return done


def _planned(name: str, source: Path, half: bool, output: Path | None) -> list[Path]:
    """The target's files."""
    if name not in TARGETS:
        raise ValueError(f"--to {name}: there is no such format; use {', '.join(TARGETS)}")
    target = TARGETS[name]
    extension = target.extensions[0]
    if output and output.suffix == extension and not output.is_dir():
        return target.files(output)
    if output and output.suffix and not output.is_dir():
        raise ValueError(f"{output}: for {name}, give a file that ends in {extension}, or a folder")
    return target.files((output or Path()) / f"{source.stem}{'_fp16' if half else ''}{target.mark}{extension}")


def _write(
    net: nn.Module, name: str, files: list[Path], info: LoadedInfo, channels: int, half: bool, multiple: int
) -> float:
    """Write a target's files aside, compare, and rename them; returns the largest difference."""
    target = TARGETS[name]
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / f"network{target.extensions[0]}"
        try:
            target.write(net, channels, made, _metadata(info), half)
            sizes = [(height // multiple * multiple, width // multiple * multiple) for height, width in SIZES]
            difference = largest_difference(target.load(made), net, sizes, channels)
        except (OSError, MemoryError):
            raise
        except Exception as error:
            raise ValueError(f"{name} cannot take this {info.arch} ({_reason(error)})") from error
        if not difference <= TOLERANCES[half]:
            raise ValueError(
                f"{name} computes other images with this {info.arch}: up to {difference:.2g} from PyTorch's, where "
                f"{TOLERANCES[half]:.2g} are allowed{'; try it without --fp16' if half else ''}. Nothing was written"
            )
        _place(target.files(made), files)
    return difference


def _reason(error: BaseException) -> str:
    """What an exporter's error came from, in one line."""
    while error.__cause__:
        error = error.__cause__
    text = " ".join(str(error).split())[:400]
    return text if isinstance(error, ValueError) else f"{type(error).__name__}: {text}"


def _place(made: Sequence[Path], files: Sequence[Path]) -> None:
    """Copy files to where they belong: all of them, or none."""
    with ExitStack() as renamed:
        for source, file in zip(made, files, strict=True):
            shutil.copyfile(source, renamed.enter_context(replacing(file)))


def _metadata(info: LoadedInfo) -> dict[str, str]:
    """What a file says of its network, the most important first."""
    described = {name: value for name, value in asdict(read_description(info.metadata)).items() if value}
    described |= {"tags": ",".join(described["tags"])} if "tags" in described else {}
    return {"scale": str(info.scale), "architecture": info.arch, **described, "written_by": f"aesop {aesop.__version__}"}
