"""The command line: each verb passes its arguments on. A user's mistake prints one message and exits with 1.

Verbs import what they run themselves, so that `--version`, `--help` and shell completion start without PyTorch.
"""

import io
import json
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text
from typer import Argument, Option
from typer.core import TyperGroup

import aesop
from aesop.system.signals import Interrupted

# What a user can cause: bad options, files, weights or images, a full disk, too little memory, a diverged training.
USER_ERRORS = (ValueError, OSError, FloatingPointError, MemoryError)


class Verbs(TyperGroup):
    def get_params(self, ctx: Any) -> list[Any]:
        """Give flags like --help the default False. To convert None, typer would import pydantic, which takes 0.1 s."""
        params = super().get_params(ctx)
        for param in params:
            if param.default is None and getattr(param, "is_flag", False):
                param.default = False
        return params

    def invoke(self, ctx: Any) -> Any:
        """Turn a user's mistake into one message without a traceback, and an interrupted training into its exit code."""
        logger = logging.getLogger("aesop")
        if not logger.handlers:
            logger.addHandler(logging.StreamHandler(sys.stdout))
            logger.setLevel(logging.INFO)
        try:
            return super().invoke(ctx)
        except typer.Exit:
            raise
        except USER_ERRORS as error:
            message, exit_code = Text.assemble(("error: ", "bold red"), _message(error)), 1
        except Interrupted as stop:
            message, exit_code = Text(str(stop)), stop.exit_code
        except KeyboardInterrupt as stop:
            is_training = ctx.invoked_subcommand in ("train", "pipeline")
            go_on = "; to continue a training from its last checkpoint, add --resume" if is_training else ""
            message, exit_code = Text(str(stop) or f"interrupted{go_on}"), 130
        except Exception:
            if _reports_errors():
                raise
            raise typer.Exit(1) from None
        if _reports_errors():
            Console(stderr=True, soft_wrap=True).print(message)
        raise typer.Exit(exit_code)


app = typer.Typer(
    cls=Verbs, help="AESOP: train, test and use super-resolution.", no_args_is_help=True, pretty_exceptions_enable=False
)
prepare = typer.Typer(help="Prepare photographs for training.", no_args_is_help=True)
app.add_typer(prepare, name="prepare")
# Without markup, as messages contain names of files. Under torchrun, only rank 0 prints.
console = Console(soft_wrap=True, markup=False, highlight=False, quiet=os.environ.get("RANK", "0") != "0")

PublishedForm = Annotated[Path | None, Option("-opt", metavar="CONFIG.yml", help="Option file, as in BasicSR's scripts.")]
Words = Annotated[list[str] | None, Argument(metavar="CONFIG.yml key.path=value", help="Option file, options to change.")]
DryRun = Annotated[bool, Option("--dry-run", help="Print what the command would do, then stop.")]
Overwrite = Annotated[bool, Option("--overwrite", help="Replace existing files.")]
JsonFile = Annotated[Path | None, Option("--json", metavar="FILE", help="Also write the results to this JSON file.")]


def _message(error: Exception) -> str:
    text = str(error).strip()
    if text.startswith("Caught "):  # PyTorch puts the traceback of a loader process in front of its message
        return text.splitlines()[-1].partition(": ")[2] or text
    return text


def _reports_errors() -> bool:
    """Under torchrun, only the first process that fails reports why."""
    if "RANK" not in os.environ:
        return True
    from aesop.system.distributed import first_to_fail

    return first_to_fail()


def _option_file(words: list[str] | None, opt: Path | None) -> tuple[Path, list[str]]:
    """The file and the overrides of `CONFIG.yml key=value ...` or `-opt CONFIG.yml key=value ...`."""
    words = [*([str(opt)] if opt else []), *(words or [])]
    if not words:
        raise ValueError("give an option file: aesop train CONFIG.yml (or -opt CONFIG.yml)")
    return Path(words[0]), words[1:]


def _read(load: Callable[[Path, list[str]], tuple[Any, list[str]]], file: Path, overrides: list[str]) -> Any:
    """Read an option file and print its notes."""
    options, notes = load(file, overrides)
    for note in notes:
        console.print(f"note: {note}")
    return options


def _show(lines: list[str], faults: list[str]) -> None:
    """Print what a dry run found. Faults make it fail."""
    console.print("\n".join(lines))
    if faults:
        raise ValueError("this would not run:\n  " + "\n  ".join(faults))


@app.callback(invoke_without_command=True)
def main(version: Annotated[bool, Option("--version", help="Print the version.")] = False) -> None:
    for stream in (sys.stdout, sys.stderr):  # the terminal's encoding may lack characters of a file name
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")
    if version:
        console.print(aesop.__version__)
        raise typer.Exit


@app.command()
def train(
    words: Words = None,
    opt: PublishedForm = None,
    resume: Annotated[bool, Option("--resume", "--auto_resume", help="Continue from the newest state, if any.")] = False,
    dry_run: DryRun = False,
) -> None:
    """Train one stage: psnr, autoencoder or adversarial. To train on several devices, start it with torchrun."""
    from aesop.check.card_memory import memory_by_stage
    from aesop.check.dry_run import check_inputs, dry_run_report
    from aesop.options.read import load_train_config
    from aesop.training.train import train

    file, changes = _option_file(words, opt)
    options = _read(load_train_config, file, changes)
    if dry_run:
        lines, faults = dry_run_report(options)
        lines += [f"memory on a GPU: {text}" for _, text in memory_by_stage({options.stage: options})]
        _show(options.to_yaml().splitlines() + lines, faults)
    else:
        check_inputs(options, file)
        train(options, resume)


@app.command()
def pipeline(words: Words = None, opt: PublishedForm = None, dry_run: DryRun = False) -> None:
    """Train all stages in order: psnr, autoencoder, adversarial. Finished stages are skipped."""
    from aesop.check.card_memory import memory_by_stage
    from aesop.commands.pipeline import dry_run_pipeline, run_pipeline
    from aesop.options.pipeline import plan

    steps = plan(*_option_file(words, opt))
    if dry_run:
        lines, faults = dry_run_pipeline(steps)
        lines += [f"memory on a GPU, {stage}: {text}" for stage, text in memory_by_stage(steps)]
        _show(lines, faults)
    else:
        console.print(f"finished: {run_pipeline(steps)}")


@app.command()
def test(words: Words = None, opt: PublishedForm = None, dry_run: DryRun = False) -> None:
    """Measure weights on test sets. Prints a table and writes CSV and JSON files with one row per image."""
    from aesop.check.dry_run import check_inputs, dry_run_report
    from aesop.commands.test import test
    from aesop.options.read import load_test_config

    file, changes = _option_file(words, opt)
    options = _read(load_test_config, file, changes)
    if dry_run:
        lines, faults = dry_run_report(options)
        _show(options.to_yaml().splitlines() + lines, faults)
    else:
        check_inputs(options, file)
        test(options, console)


@app.command()
def doctor(
    words: Words = None,
    opt: PublishedForm = None,
    quick: Annotated[bool, Option("--quick", help="Check at most 200 images of each data set.")] = False,
    no_run: Annotated[bool, Option("--no-run", help="Skip the short run that measures time and memory.")] = False,
    output: JsonFile = None,
) -> None:
    """Check this machine; with an option file also its data, time and memory. Exits with 1 if there are faults."""
    from aesop.commands.doctor import run

    if run(_option_file(words, opt) if words or opt else None, console, quick, not no_run, output):
        raise typer.Exit(1)


@app.command()
def bench(
    words: Words = None,
    opt: PublishedForm = None,
    seconds: Annotated[float, Option(min=0.1, help="How long to measure steps, and then the parts of one.")] = 30.0,
    output: JsonFile = None,
) -> None:
    """Measure a training on this machine: images per second, memory, data loading, each network and each loss."""
    from aesop.commands.bench import run
    from aesop.options.read import load_train_config

    run(_read(load_train_config, *_option_file(words, opt)), seconds, output, console)


@app.command()
def upscale(
    inputs: Annotated[list[Path], Argument(metavar="INPUT...", help="Images and folders of images; -: standard input.")],
    output: Annotated[
        Path | None, Option("--output", "-o", help="Folder; for one image a file or - (stdout); default: upscaled.")
    ] = None,
    model: Annotated[str | None, Option("--model", "-m", help="Weight file or name; default: the bundled x4 model.")] = None,
    tile: Annotated[int | None, Option(help="Tile size in input pixels; 0: all at once; default: by the network.")] = None,
    overlap: Annotated[int | None, Option(help="Overlap of the tiles in input pixels; default: by the network.")] = None,
    device: Annotated[str, Option(help="auto, cpu, cuda, cuda:N or mps; with commas: images in turn.")] = "auto",
    precision: Annotated[str, Option(help="fp32 or bf16.")] = "fp32",
    runtime: Annotated[str, Option(help="pytorch, or openvino: converts slowly, then is faster on a CPU.")] = "pytorch",
    ext: Annotated[
        str | None, Option("--ext", "--format", help="png, jpg, webp, tif, avif, gif or bmp; default: the input's.")
    ] = None,
    suffix: Annotated[str | None, Option(help="Suffix of output names; default: _x4 for an x4 network.")] = None,
    overwrite: Overwrite = False,
    skip_existing: Annotated[bool, Option("--skip-existing", help="Leave results that are there and whole.")] = False,
    alpha: Annotated[str, Option(help="Transparency: network, bicubic, or auto: network for sharp edges.")] = "auto",
    strip_metadata: Annotated[bool, Option("--strip-metadata", help="Keep only the colour profile.")] = False,
    quality: Annotated[int | None, Option(min=1, max=100, help="Of JPEG, WebP and AVIF files.")] = None,
    lossless: Annotated[bool | None, Option(help="Of WebP files; default: as the input is.")] = None,
    progress: Annotated[str | None, Option(help="bar, plain or json; default: bar on a terminal, else plain.")] = None,
    scale: Annotated[float | None, Option(help="Enlarge by this; default: by the network's scale.")] = None,
    width: Annotated[int | None, Option(help="Final width in pixels; with --height, fit into both.")] = None,
    height: Annotated[int | None, Option(help="Final height in pixels.")] = None,
    longest: Annotated[int | None, Option(help="Final length of the longer side in pixels.")] = None,
    megapixels: Annotated[float | None, Option(help="Final number of pixels in millions.")] = None,
    shard: Annotated[str | None, Option(metavar="K/N", help="Of N equal parts of the images, upscale the Kth.")] = None,
    tta: Annotated[bool, Option("--tta", help="Mean over eight turned and mirrored passes: 8 times slower.")] = False,
) -> None:
    """Upscale images and folders of images, with a weight file of any scale and architecture."""
    from aesop.commands.upscale import upscale_files
    from aesop.commands.upscale_results import report
    from aesop.inference.final_size import FinalSize

    results = upscale_files(
        inputs,
        output,
        model,
        tile,
        overlap,
        device,
        precision,
        runtime,
        ext,
        suffix,
        overwrite,
        skip_existing,
        alpha,
        strip_metadata,
        quality,
        lossless,
        progress,
        FinalSize(scale, width, height, longest, megapixels),
        shard,
        tta,
    )
    if not report(results, console):
        raise typer.Exit(1)


@app.command()
def models() -> None:
    """List the models that `aesop upscale -m NAME` knows."""
    from aesop.commands.models import describe_models

    console.print("\n".join(describe_models()))


@app.command()
def demo(
    output: Annotated[Path, Option("--output", "-o", help="Folder for the runs and the page.")] = Path("demo_output"),
    quick: Annotated[bool, Option("--quick", help="Train for only a few steps, to see that it all works.")] = False,
) -> None:
    """Train every stage on the bundled photographs, then compare the results in a table and on a page."""
    from aesop.commands.demo import run

    run(output, console, quick)


@app.command()
def degrade(
    words: Annotated[list[str], Argument(metavar="IMAGE|key.path=value", help="Images, folders, and options to override.")],
    config: Annotated[Path | None, Option("--config", "-c", help="Option file; default: Real-ESRGAN's recipe.")] = None,
    count: Annotated[int, Option("-n", help="Degraded versions of each image on the sheet.")] = 12,
    output: Annotated[Path | None, Option("--output", "-o", help="The sheet; default: degradations.html.")] = None,
    folder: Annotated[Path | None, Option("--set", help="Write a validation set here, and a sheet only with -o.")] = None,
    seed: Annotated[int, Option(help="Seed of the random degradations.")] = 0,
    overwrite: Overwrite = False,
) -> None:
    """Show what a real-world recipe does to images, or write a fixed validation set of such pairs."""
    from aesop.commands.degrade import run

    run(words, config, count, output, folder, seed, overwrite, console)


@prepare.command()
def pack(
    inputs: Annotated[list[Path], Argument(metavar="FOLDER...", help="Folders of images.")],
    output: Annotated[Path, Option("--output", "-o", metavar="NAME.pack", help="File to write.")],
    overwrite: Overwrite = False,
) -> None:
    """Decode images once into one file, from which training reads crops: dataroot_gt=NAME.pack."""
    from aesop.commands.prepare import pack

    pack(inputs, output, overwrite, console)


@app.command()
def convert(
    source: Annotated[Path, Argument(help="Weight file, or state folder (for both params and params_ema).")],
    target: Annotated[Path, Argument(help="*.safetensors (self-describing) or *.pth (BasicSR).")],
    key: Annotated[str | None, Option(help="params or params_ema alone, under this key; none: without a key.")] = None,
    names: Annotated[str | None, Option(help="An RRDBNet's tensor names: basicsr, bsrgan or old-esrgan.")] = None,
) -> None:
    """Convert weights between self-describing safetensors and the .pth files of BasicSR, BSRGAN and ESRGAN."""
    from aesop.commands.convert import convert

    console.print(convert(source, target, key, names))


@app.command()
def schema(output: Annotated[Path | None, Argument(help="File to write; default: the terminal.")] = None) -> None:
    """Print the JSON schema of option files, which editors use for completion and checks."""
    from aesop.options.config import OptionFile
    from aesop.system.files import replacing

    text = json.dumps(OptionFile.model_json_schema(), indent=1) + "\n"
    if output is None:
        sys.stdout.write(text)
    else:
        with replacing(output) as temporary:
            temporary.write_text(text, encoding="utf-8")
