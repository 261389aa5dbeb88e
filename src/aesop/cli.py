"""`aesop VERB`: verb -> function, no logic. User mistakes become one message and exit code 1."""

import io
import json
import logging
import os
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

import aesop
from aesop.system.signals import Interrupted

app = typer.Typer(
    help="AESOP: train, test and use perceptual super-resolution.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
# Of torchrun's processes the main one speaks.
console = Console(soft_wrap=True, quiet=os.environ.get("RANK", "0") != "0")
ConfigFile = Annotated[Path | None, typer.Argument(metavar="CONFIG.yml", help="Option file.")]
PublishedForm = Annotated[
    Path | None, typer.Option("-opt", metavar="CONFIG.yml", help="The option file, in BasicSR's form.")
]
Overrides = Annotated[list[str] | None, typer.Argument(metavar="[key.path=value]...", help="Options set over the file's.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print what would be done, and stop.")]
Resume = Annotated[
    bool, typer.Option("--resume", "--auto_resume", help="Continue from the newest state; start when there is none.")
]
# What users can bring about: bad options, files, weights, images, a full disk, too little memory, a diverged training.
USER_ERRORS = (ValueError, OSError, FloatingPointError, MemoryError)


def _says_why() -> bool:
    """Whether this process reports why it ends: alone it does, of torchrun's the first that ends."""
    if "RANK" not in os.environ:
        return True
    from aesop.system.distributed import first_to_fail

    return first_to_fail()


def reported(verb: Callable[..., None]) -> Callable[..., None]:
    """Show a user's mistake without a traceback, and of torchrun's processes once."""

    @wraps(verb)
    def run(*args: Any, **kwargs: Any) -> None:
        logger = logging.getLogger("aesop")
        if not logger.handlers:
            logger.addHandler(logging.StreamHandler(sys.stdout))
            logger.setLevel(logging.INFO)
        try:
            verb(*args, **kwargs)
        except USER_ERRORS as error:
            # An error from a loader process arrives with its traceback in the text; its last line is the message.
            text = str(error).strip()
            if text.startswith("Caught "):
                text = text.splitlines()[-1].partition(": ")[2] or text
            Console(stderr=True, soft_wrap=True, quiet=not _says_why()).print("[bold red]error:[/]", Text(text))
            raise typer.Exit(1) from error
        except Interrupted as stop:
            Console(stderr=True, soft_wrap=True, quiet=not _says_why()).print(str(stop), markup=False)
            raise typer.Exit(stop.exit_code) from None
        except KeyboardInterrupt:
            Console(stderr=True, quiet=not _says_why()).print(
                "interrupted; `--resume` continues a training from its last checkpoint"
            )
            raise typer.Exit(130) from None
        except Exception:
            if _says_why():
                raise
            raise typer.Exit(1) from None

    return run


def _option_file(config: Path | None, overrides: list[str] | None, opt: Path | None) -> tuple[Path, list[str]]:
    """`CONFIG.yml key=value ...` or `-opt CONFIG.yml key=value ...`, where the first word behind is an override as well."""
    given = ([str(config)] if config else []) + (overrides or [])
    if opt is None and not given:
        raise ValueError("give an option file: aesop train CONFIG.yml (or -opt CONFIG.yml)")
    return (opt, given) if opt else (Path(given[0]), given[1:])


@app.callback(invoke_without_command=True)
def main(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    for stream in (sys.stdout, sys.stderr):  # a file's name need not fit the terminal's encoding, nor any
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")
    if version:
        console.print(aesop.__version__)
        raise typer.Exit


@app.command()
@reported
def train(
    config: ConfigFile = None,
    overrides: Overrides = None,
    opt: PublishedForm = None,
    resume: Resume = False,
    dry_run: DryRun = False,
) -> None:
    """Train one stage: psnr, autoencoder or adversarial. Start it with torchrun for several devices."""
    from aesop.check.dry_run import check_inputs, dry_run_training
    from aesop.options.read import load_train_config
    from aesop.training.train import train as run

    file, changes = _option_file(config, overrides, opt)
    options, notes = load_train_config(file, changes)
    _tell(notes)
    if dry_run:
        lines, faults = dry_run_training(options)
        _show(options.to_yaml().splitlines() + lines, faults)
    else:
        check_inputs(options, file)
        run(options, resume)


@app.command()
@reported
def pipeline(
    config: ConfigFile = None, overrides: Overrides = None, opt: PublishedForm = None, dry_run: DryRun = False
) -> None:
    """Train psnr, autoencoder and adversarial in this order, handing the weights on; continues where it stopped."""
    from aesop.commands.pipeline import dry_run_pipeline, run_pipeline
    from aesop.options.config import TrainConfig
    from aesop.options.pipeline import plan

    steps = plan(*_option_file(config, overrides, opt))
    if dry_run:
        described, faults = dry_run_pipeline(steps)
        for stage, lines in described.items():
            step = steps[stage]
            options = step.to_yaml().splitlines() if isinstance(step, TrainConfig) else []
            _show([f"--- {stage}", *options, *lines], [])
        _show([], faults)
    else:
        console.print(f"finished: {run_pipeline(steps)}", markup=False)


def _tell(notes: list[str]) -> None:
    for note in notes:
        console.print(f"note: {note}", markup=False)


def _show(lines: list[str], faults: list[str]) -> None:
    """What a dry run found; faults make it fail."""
    for line in lines:
        console.print(line, markup=False, highlight=False)
    if faults:
        raise ValueError("this would not run:\n  " + "\n  ".join(faults))


@app.command()
@reported
def test(config: ConfigFile = None, overrides: Overrides = None, opt: PublishedForm = None, dry_run: DryRun = False) -> None:
    """Measure weights on test sets: a table here, CSV and JSON with one row per image."""
    from aesop.check.dry_run import check_inputs, dry_run_test
    from aesop.commands.test import test as run
    from aesop.options.read import load_test_config

    file, changes = _option_file(config, overrides, opt)
    options, notes = load_test_config(file, changes)
    _tell(notes)
    if dry_run:
        lines, faults = dry_run_test(options)
        _show(options.to_yaml().splitlines() + lines, faults)
    else:
        check_inputs(options, file)
        run(options, console)


@app.command()
@reported
def doctor(
    config: ConfigFile = None,
    overrides: Overrides = None,
    opt: PublishedForm = None,
    quick: Annotated[bool, typer.Option("--quick", help="Look at 200 images of each set at most.")] = False,
    no_run: Annotated[bool, typer.Option("--no-run", help="Without the short run that time and memory come from.")] = False,
    output: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write what was found for scripts.")] = None,
) -> None:
    """Check this machine, and an option file with its data, time and memory. Exit code: 1 with faults, else 0."""
    from aesop.commands.doctor import run

    if run(_option_file(config, overrides, opt) if config or opt else None, console, quick, not no_run, output):
        raise typer.Exit(1)


@app.command()
@reported
def bench(
    config: ConfigFile = None,
    overrides: Overrides = None,
    opt: PublishedForm = None,
    seconds: Annotated[float, typer.Option(min=0.1, help="About how long steps are made, and the parts of one.")] = 30.0,
    output: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the figures for scripts.")] = None,
) -> None:
    """Measure a training on this machine: images a second, memory, waiting for data, each network and loss."""
    from aesop.commands.bench import run
    from aesop.options.read import load_train_config

    file, changes = _option_file(config, overrides, opt)
    options, notes = load_train_config(file, changes)
    _tell(notes)
    run(options, seconds, output, console)


@app.command()
@reported
def upscale(
    inputs: Annotated[list[Path], typer.Argument(metavar="INPUT...", help="Images and folders.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="A folder, or a file for a single image.")] = Path(
        "upscaled"
    ),
    model: Annotated[
        Path | None,
        typer.Option(
            "--model",
            "-m",
            help="Weights; scale and architecture are found from the file. Default: the x4 model that comes with aesop.",
        ),
    ] = None,
    tile: Annotated[int, typer.Option(help="Side of the tiles in input pixels; 0: the whole image at once.")] = 256,
    overlap: Annotated[int, typer.Option(help="Overlap of the tiles in input pixels.")] = 16,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    precision: Annotated[str, typer.Option(help="fp32 or bf16.")] = "fp32",
    runtime: Annotated[
        str, typer.Option(help="pytorch, or openvino: on the CPU, for many tiles (converting takes a while).")
    ] = "pytorch",
    ext: Annotated[
        str | None, typer.Option(help="Format of the results: png, jpg, webp, tif; default: as the input.")
    ] = None,
    suffix: Annotated[str | None, typer.Option(help="Appended to the names; default: _x4 for a x4 network.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")] = False,
) -> None:
    """Upscale images and folders of images."""
    from aesop.commands.upscale import summary, upscale_files

    results = upscale_files(
        inputs,
        output,
        model,
        tile=tile,
        overlap=overlap,
        device=device,
        precision=precision,
        runtime=runtime,
        ext=ext,
        suffix=suffix,
        overwrite=overwrite,
    )
    console.print(summary(results), markup=False, highlight=False)
    if any(result.error for result in results):
        raise typer.Exit(1)


@app.command()
@reported
def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the demo's runs and page.")] = Path(
        "demo_output"
    ),
    quick: Annotated[bool, typer.Option("--quick", help="A few steps only: shows that everything works.")] = False,
) -> None:
    """The whole method on the photographs in the package: PSNR net, auto-encoder, two GANs, a table and a page."""
    from aesop.commands.demo import run

    run(output, console, quick)


@app.command()
@reported
def degrade(
    words: Annotated[
        list[str],
        typer.Argument(metavar="IMAGE|key.path=value", help="Images, folders, and options set over the file's."),
    ],
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="Option file with the recipe; default: Real-ESRGAN's values.")
    ] = None,
    count: Annotated[int, typer.Option("-n", help="Results of each image on the sheet.")] = 12,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="The sheet; default: degradations.png.")] = None,
    folder: Annotated[
        Path | None, typer.Option("--set", help="Write a validation set's pairs into this folder; a sheet only with -o.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Determines what is drawn.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a sheet or set that exists.")] = False,
) -> None:
    """Show what a real-world recipe makes of images, or write a fixed validation set of such pairs."""
    from aesop.commands.degrade import run

    run(words, config, count, output, folder, seed, overwrite, console)


prepare = typer.Typer(help="Prepare photographs for training.", no_args_is_help=True)
app.add_typer(prepare, name="prepare")


@prepare.command()
@reported
def pack(
    inputs: Annotated[list[Path], typer.Argument(metavar="FOLDER...", help="Folders of images.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="NAME.pack", help="The file to write.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a pack that exists.")] = False,
) -> None:
    """Decode images once into one file that training reads crops from: dataroot_gt=NAME.pack."""
    from aesop.commands.prepare import pack as run

    run(inputs, output, overwrite, console)


@app.command()
@reported
def convert(
    source: Annotated[Path, typer.Argument(help="A weight file, or a state folder (both params and params_ema).")],
    target: Annotated[Path, typer.Argument(help="*.safetensors (self-describing) or *.pth (BasicSR).")],
    key: Annotated[
        str | None,
        typer.Option(help="Take params or params_ema only, under this key of a .pth; none: a .pth without a key."),
    ] = None,
    names: Annotated[
        str | None,
        typer.Option(help="An RRDBNet's tensor names in a .pth: basicsr (the default), bsrgan or old-esrgan."),
    ] = None,
) -> None:
    """Convert weights between self-describing safetensors and the .pth files of BasicSR, BSRGAN and ESRGAN."""
    from aesop.commands.convert import convert as run

    console.print(run(source, target, key, names), markup=False)


@app.command()
@reported
def schema(output: Annotated[Path | None, typer.Argument(help="File to write; default: the terminal.")] = None) -> None:
    """The option file's JSON schema, for completion and checks in editors."""
    from aesop.options.config import OptionFile
    from aesop.system.files import replacing

    text = json.dumps(OptionFile.model_json_schema(), indent=1)
    if output is None:
        sys.stdout.write(text + "\n")
    else:
        with replacing(output) as temporary:
            temporary.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    app()
