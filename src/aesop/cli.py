"""The command line: each verb passes its arguments on. A user's mistake prints one message and exits with 1.

Verbs import what they run themselves, so that `--version`, `--help` and shell completion start without PyTorch. Every verb
takes `--quiet` and `--verbose`, and those that report something `--json FILE`.
"""

import functools
import inspect
import io
import json
import os
import sys
import traceback
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text
from typer import Argument, Option
from typer.core import TyperGroup

import aesop
from aesop.commands import completion
from aesop.commands.json_report import STDOUT, json_report
from aesop.system import terminal
from aesop.system.exit_codes import ExitCode
from aesop.system.signals import Interrupted
from aesop.system.terminal import Note, console, set_verbosity, stdout_for_result

# What a user can cause: bad options, files, weights or images, a full disk, too little memory, a diverged training.
USER_ERRORS = (ValueError, OSError, FloatingPointError, MemoryError)
# What to say after an interrupt, by verb.
_TO_GO_ON = {
    "train": "; to continue a training from its last checkpoint, add --resume",
    "pipeline": "; the same command continues from the last checkpoint",
}


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
        try:
            return super().invoke(ctx)
        except typer.Exit:
            raise
        except USER_ERRORS as error:
            message, exit_code = Text.assemble(("error: ", "bold red"), _message(error)), ExitCode.FAILED
            if terminal.is_verbose() and _reports_errors():
                traceback.print_exc()
        except Interrupted as stop:
            message, exit_code = Text(str(stop)), stop.exit_code
        except KeyboardInterrupt as stop:
            go_on = _TO_GO_ON.get(ctx.invoked_subcommand, "")
            message, exit_code = Text(str(stop) or f"interrupted{go_on}"), ExitCode.INTERRUPTED
        except Exception:
            if _reports_errors():
                raise
            raise typer.Exit(ExitCode.FAILED) from None
        if _reports_errors():
            Console(stderr=True, soft_wrap=True).print(message)
        raise typer.Exit(exit_code)


Quiet = Annotated[
    bool, Option("--quiet", "-q", help="Print the result, warnings and errors only.", rich_help_panel="Common options")
]
Verbose = Annotated[
    bool,
    Option("--verbose", "-v", help="Print details, and tracebacks of errors.", rich_help_panel="Common options"),
]


class Program(typer.Typer):
    """A Typer whose verbs and callbacks take the options that all have in common: `aesop -q test` is `aesop test -q`."""

    def command(self, *args: Any, **options: Any) -> Callable[[Any], Any]:
        return lambda verb: super(Program, self).command(*args, **options)(_with_common_options(verb)) and verb

    def callback(self, *args: Any, **options: Any) -> Callable[[Any], Any]:
        return lambda verb: super(Program, self).callback(*args, **options)(_with_common_options(verb)) and verb


def _with_common_options(verb: Callable[..., None]) -> Callable[..., None]:
    """A function that also takes `quiet` and `verbose`, and sets them before it calls the verb."""

    @functools.wraps(verb)
    def run(*args: Any, quiet: bool, verbose: bool, **options: Any) -> None:
        if quiet and verbose:
            raise typer.BadParameter("--quiet and --verbose exclude each other: give one of them")
        if quiet or verbose or verb is main:  # the program's own options come first
            set_verbosity(quiet, verbose)
        verb(*args, **options)

    signature = inspect.signature(verb)
    common = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=kind)
        for name, kind in (("quiet", Quiet), ("verbose", Verbose))
    ]
    run.__signature__ = signature.replace(parameters=[*signature.parameters.values(), *common])  # ty: ignore
    run.__annotations__ = {**verb.__annotations__, "quiet": Quiet, "verbose": Verbose}
    return run


app = Program(
    cls=Verbs, help="AESOP: train, test and use super-resolution.", no_args_is_help=True, pretty_exceptions_enable=False
)
prepare = Program(no_args_is_help=True)
app.add_typer(prepare, name="prepare")
models = Program(help="List the models that `aesop upscale -m NAME` knows, describe one, or verify files.")
app.add_typer(models, name="models")

PublishedForm = Annotated[Path | None, Option("-opt", metavar="CONFIG.yml", help="Option file, as in BasicSR's scripts.")]
Words = Annotated[list[str] | None, Argument(metavar="CONFIG.yml key.path=value", help="Option file, options to change.")]
# Options of BasicSR's scripts.
Launcher = Annotated[str | None, Option("--launcher", hidden=True)]
Debug = Annotated[bool, Option("--debug", hidden=True)]
LocalRank = Annotated[int | None, Option("--local_rank", "--local-rank", hidden=True)]
ForceYml = Annotated[list[str] | None, Option("--force_yml", hidden=True)]
DryRun = Annotated[bool, Option("--dry-run", help="Print what the command would do, then stop.")]
Overwrite = Annotated[bool, Option("--overwrite", help="Replace existing files.")]
# Options of select and blend.
HrFolders = Annotated[
    list[str] | None,
    Option("--hr", metavar="[NAME=]FOLDER", help="HR images to measure on, once for each set; the first set decides."),
]
LrFolders = Annotated[
    list[str] | None, Option("--lr", metavar="FOLDER", help="LR images, in the order of --hr; default: bicubic of HR.")
]
Metrics = Annotated[str | None, Option(help="psnr,lpips,...; default: of the option file, else psnr and lpips.")]
Best = Annotated[
    str | None, Option("--best", metavar="METRIC", help="Choose the best by this metric; default: the knee of the front.")
]
AtLeast = Annotated[
    list[str] | None, Option("--at-least", metavar="METRIC=VALUE", help="Choose among those that reach it: psnr=25.8.")
]
AtMost = Annotated[
    list[str] | None, Option("--at-most", metavar="METRIC=VALUE", help="Choose among those that stay below: lpips=0.2.")
]
Device = Annotated[str, Option(help="auto, cpu, cuda, cuda:N or mps.", autocompletion=completion.devices)]
TileSide = Annotated[int, Option("--tile", help="Tile size in LR pixels; 0: of the option file, else whole images.")]
CacheFolder = Annotated[
    Path | None, Option("--cache", help="Folder that keeps SR images and values, up to 10 GB; default: user's.")
]
NoCache = Annotated[bool, Option("--no-cache", help="Compute everything.")]
JsonFile = Annotated[
    Path | None,
    Option("--json", metavar="FILE", help="Also write the results as JSON; -: to standard output, where nothing else goes."),
]


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


def _published_changes(changes: list[str], launcher: str | None, debug: bool, force_yml: list[str] | None) -> list[str]:
    """The overrides of a command line of BasicSR's scripts, in our form: --force_yml train:total_iter=9 ... Say what has no
    effect."""
    if launcher not in (None, "none"):
        console.print(Note(f"note: --launcher {launcher} has no effect: processes that torchrun started are recognised"))
    if debug:
        console.print(Note("note: --debug has no effect; to look at a training first, use --dry-run or logger.print_freq=1"))
    if not force_yml:
        return changes
    forced = (override.partition("=") for override in [*force_yml, *changes])
    return [option.replace(":", ".") + sign + value for option, sign, value in forced]


def _read(load: Callable[[Path, list[str]], tuple[Any, list[str]]], file: Path, overrides: list[str]) -> Any:
    """Read an option file and print its notes."""
    options, notes = load(file, overrides)
    for note in notes:
        console.print(Note(f"note: {note}"))
    return options


def _measured_in(cache: Path | None, no_cache: bool) -> Path | None:
    """The folder of SR images and values that were measured; None for no cache."""
    from aesop.system.user_cache import cache_folder

    return None if no_cache else cache or cache_folder("measured")


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
    launcher: Launcher = None,
    debug: Debug = False,
    local_rank: LocalRank = None,
    force_yml: ForceYml = None,
) -> None:
    """Train one stage: psnr, autoencoder or adversarial. To train on several devices, start it with torchrun."""
    from aesop.check.card_memory import memory_by_stage
    from aesop.check.dry_run import check_inputs, dry_run_report
    from aesop.options.read import load_train_config
    from aesop.training.train import train

    file, changes = _option_file(words, opt)
    changes = _published_changes(changes, launcher, debug, force_yml)
    options = _read(load_train_config, file, changes)
    if dry_run:
        lines, faults = dry_run_report(options, resume=resume)
        lines += [f"memory on a GPU: {text}" for _, text in memory_by_stage({options.stage: options})]
        _show(options.to_yaml().splitlines() + lines, faults)
    else:
        check_inputs(options, file, resume)
        train(options, resume)


@app.command()
def pipeline(
    words: Words = None,
    opt: PublishedForm = None,
    dry_run: DryRun = False,
    resume: Annotated[bool, Option("--resume", help="Continue where it stopped, as it always does.")] = True,
) -> None:
    """Train all stages in order: psnr, autoencoder, adversarial. Finished stages are skipped, others continue."""
    from aesop.check.card_memory import memory_by_stage
    from aesop.commands.pipeline import dry_run_pipeline, run_pipeline
    from aesop.options.pipeline import plan

    steps = plan(*_option_file(words, opt))
    if dry_run:
        lines, faults = dry_run_pipeline(steps)
        lines += [f"memory on a GPU, {stage}: {text}" for stage, text in memory_by_stage(steps)]
        _show(lines, faults)
    else:
        console.print(Note(f"finished: {run_pipeline(steps)}"))


@app.command()
def test(
    words: Words = None,
    opt: PublishedForm = None,
    dry_run: DryRun = False,
    launcher: Launcher = None,
    debug: Debug = False,
    local_rank: LocalRank = None,
    force_yml: ForceYml = None,
    output: JsonFile = None,
) -> None:
    """Measure weights on test sets. Prints a table and writes values per image as JSON and CSV."""
    from aesop.check.dry_run import check_inputs, dry_run_report
    from aesop.commands.test import test
    from aesop.options.read import load_test_config

    with json_report("test", output) as found:
        file, changes = _option_file(words, opt)
        changes = _published_changes(changes, launcher, debug, force_yml)
        options = _read(load_test_config, file, changes)
        if dry_run:
            lines, found["problems"] = dry_run_report(options)
            _show(options.to_yaml().splitlines() + lines, found["problems"])
            return
        check_inputs(options, file)
        found["results"] = results = test(options, console)
    if results.missing:
        raise typer.Exit(ExitCode.FAILED)


@app.command()
def measure(
    inputs: Annotated[
        list[str],
        Argument(
            metavar="[NAME=]SR...",
            help="Folders of finished images (one or several methods and test sets each), weight files, bicubic, lanczos.",
        ),
    ],
    hr: Annotated[list[str], Option("--hr", metavar="[NAME=]FOLDER", help="HR images. For each test set once.")],
    lr: Annotated[
        list[str] | None, Option("--lr", metavar="FOLDER", help="LR images, in the order of --hr; default: bicubic of HR.")
    ] = None,
    metrics: Annotated[
        str | None, Option(help="psnr,ssim,lpips,...; default: psnr, ssim, lpips, dists, niqe as far as weights are here.")
    ] = None,
    scale: Annotated[int | None, Option(min=1, max=8, help="Default: of the weights, or of --lr, or 4.")] = None,
    crop_border: Annotated[int | None, Option(min=0, help="Border that PSNR and SSIM leave out; default: 4.")] = None,
    rgb: Annotated[bool, Option("--rgb", help="PSNR and SSIM in colour instead of on luma.")] = False,
    autoencoder: Annotated[str | None, Option(help="Weight file for the metric aepsnr.")] = None,
    output: Annotated[Path | None, Option("--output", "-o", help="Folder for results.json and values.csv.")] = None,
    overwrite: Overwrite = False,
    name: Annotated[str | None, Option(help="Of the results; default: the output folder's.")] = None,
    device: Device = "auto",
    tile: Annotated[int, Option(help="Tile size of networks in LR pixels; 0: the whole image at once.")] = 0,
    cost: Annotated[
        bool, Option("--cost", help="Also parameters, operations, time and memory of networks, on the largest image.")
    ] = False,
    cache: Annotated[
        Path | None, Option(help="Folder that keeps SR images and values, up to 10 GB; default: user's.")
    ] = None,
    no_cache: Annotated[bool, Option("--no-cache", help="Compute everything.")] = False,
    json_file: JsonFile = None,
) -> None:
    """Measure finished images of any method, and networks, against HR images. Exits with 1 if something is missing."""
    from aesop.commands.measure import Request, measure

    request = Request(
        inputs=inputs,
        hr=hr,
        lr=lr or (),
        metrics=metrics,
        scale=scale,
        crop_border=crop_border,
        rgb=rgb,
        autoencoder=autoencoder,
        output=output,
        overwrite=overwrite,
        name=name,
        device=device,
        tile=tile,
        cost=cost,
        cache=_measured_in(cache, no_cache),
    )
    with json_report("measure", json_file) as found:
        found["results"] = results = measure(request, console)
    if results.missing:
        raise typer.Exit(ExitCode.FAILED)


@app.command()
def table(
    files: Annotated[list[Path], Argument(metavar="RESULTS.json...", help="Written by aesop measure or aesop test.")],
    form: Annotated[
        str | None,
        Option(
            "--format",
            "-f",
            help="terminal, markdown, latex, csv or json; default: by -o, else terminal.",
            autocompletion=completion.tables,
        ),
    ] = None,
    output: Annotated[
        Path | None, Option("--output", "-o", metavar="FILE", help="File to write: .md, .tex, .csv, .json.")
    ] = None,
    overwrite: Overwrite = False,
    against: Annotated[
        str | None, Option(metavar="METHOD", help="Also each method's difference to this one: interval, p, wins, losses.")
    ] = None,
    published: Annotated[
        bool, Option("--published", help="Also figures from publications that were measured alike (not in csv and json).")
    ] = False,
    mark: Annotated[str, Option(help="Best and second: significant, always or never.")] = "significant",
    intervals: Annotated[bool, Option(help="Intervals below means.")] = True,
    common_images: Annotated[
        bool, Option("--common-images", help="Means over the images that all methods have, if some lack images.")
    ] = False,
    seeds: Annotated[
        list[str] | None, Option(metavar="NAME=A,B,...", help="Methods that are trainings of one, with other seeds.")
    ] = None,
    methods: Annotated[list[str] | None, Option("--method", metavar="NAME", help="Only these, in this order.")] = None,
    sets: Annotated[list[str] | None, Option("--set", metavar="NAME", help="Only these test sets, in this order.")] = None,
    metrics: Annotated[list[str] | None, Option("--metric", metavar="NAME", help="Only these, in this order.")] = None,
    json_file: JsonFile = None,
) -> None:
    """Make a table with intervals and tests from results of methods, for the terminal, Markdown, LaTeX, CSV or JSON."""
    from aesop.commands.table import run

    if json_file == STDOUT and output is None and form not in (None, "terminal"):
        raise ValueError(f"the {form} table and --json - would both go to standard output: name a file for one of them")
    with json_report("table", json_file) as found:
        found["comparison"] = run(
            files,
            console,
            form=form,
            output=output,
            overwrite=overwrite,
            against=against,
            published=published,
            mark=mark,
            intervals=intervals,
            common_images=common_images,
            seeds=seeds or (),
            methods=methods or (),
            sets=sets or (),
            metrics=metrics or (),
        )


@app.command()
def select(
    run: Annotated[Path, Argument(metavar="RUN", help="Folder of a training, such as experiments/NAME.")],
    hr: HrFolders = None,
    lr: LrFolders = None,
    metrics: Metrics = None,
    best: Best = None,
    at_least: AtLeast = None,
    at_most: AtMost = None,
    output: Annotated[
        Path | None, Option("--output", "-o", metavar="FILE", help="Default: RUN/models/net_g_selected.safetensors.")
    ] = None,
    overwrite: Overwrite = False,
    device: Device = "auto",
    tile: TileSide = 0,
    cache: CacheFolder = None,
    no_cache: NoCache = False,
    json_file: JsonFile = None,
) -> None:
    """Measure the checkpoints of a training, draw their perception-distortion plane, and choose one by a rule."""
    from aesop.commands.candidates import Choosing
    from aesop.commands.select import select

    folder = _measured_in(cache, no_cache)
    asked = Choosing(hr or (), lr or (), metrics, best, at_least or (), at_most or (), device, tile, folder)
    with json_report("select", json_file) as found:
        found |= vars(select(run, asked, output, overwrite, console))


@app.command()
def blend(
    files: Annotated[list[str], Argument(metavar="A B [C...]", help="Weight files of networks of one kind.")],
    alpha: Annotated[
        str | None, Option(help="Share of B: a number, several, or a sequence; default: 0,.1,...,1 with images, else 0.5.")
    ] = None,
    config: Annotated[
        Path | None, Option("--config", "-c", metavar="CONFIG.yml", help="Option file whose validation sets are used.")
    ] = None,
    hr: HrFolders = None,
    lr: LrFolders = None,
    metrics: Metrics = None,
    best: Best = None,
    at_least: AtLeast = None,
    at_most: AtMost = None,
    output: Annotated[Path, Option("--output", "-o", metavar="FILE", help="The blend.")] = Path("blend.safetensors"),
    overwrite: Overwrite = False,
    device: Device = "auto",
    tile: TileSide = 0,
    cache: CacheFolder = None,
    no_cache: NoCache = False,
    json_file: JsonFile = None,
) -> None:
    """Interpolate between the weights of A and B, or average more files. With images, choose the best blend by a rule."""
    from aesop.commands.blend import blend_files
    from aesop.commands.candidates import Choosing

    folder = _measured_in(cache, no_cache)
    asked = Choosing(hr or (), lr or (), metrics, best, at_least or (), at_most or (), device, tile, folder)
    with json_report("blend", json_file) as found:
        found |= vars(blend_files(files, alpha, config, asked, output, overwrite, console))


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

    with json_report("doctor", output) as found:
        found |= run(_option_file(words, opt) if words or opt else None, console, quick, not no_run)
    if found["faults"]:
        raise typer.Exit(ExitCode.FAILED)


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

    with json_report("bench", output) as found:
        found |= run(_read(load_train_config, *_option_file(words, opt)), seconds, console)


@app.command()
def diagnose(
    run: Annotated[
        Path, Argument(metavar="RUN", help="Run folder of a training, also in progress; or an auto-encoder's weight file.")
    ],
    data: Annotated[Path | None, Option(metavar="FOLDER", help="For an auto-encoder: HR images to try it with.")] = None,
    weights: Annotated[
        bool, Option("--weights", help="Print loss weights for the published recipe's balance instead.")
    ] = False,
    page: Annotated[
        Path | None, Option("--output", "-o", metavar="FILE.html", help="The page; default: RUN/diagnosis.html.")
    ] = None,
    output: JsonFile = None,
) -> None:
    """Say what is wrong with a training or an auto-encoder, by which evidence, and what to change."""
    from aesop.commands import diagnose

    if run.suffix in diagnose.WEIGHTS:
        if weights or page:
            raise ValueError(f"{run} is a weight file: --weights and -o are for the run folder of a training")
        if data is None:
            raise ValueError(f"{run} is a weight file: give HR images with --data FOLDER to try the auto-encoder with")
        with json_report("diagnose", output) as found:
            found |= diagnose.audit_autoencoder(run, data, console).to_json()
    elif data is not None:
        raise ValueError(f"--data is for an auto-encoder's weight file (.safetensors, .pth); {run} is none")
    else:
        with json_report("diagnose", output) as found:
            if weights:
                found |= vars(diagnose.print_weights(run, console))
            else:
                found |= diagnose.run(run, console, page=page).to_json()


@app.command()
def upscale(
    inputs: Annotated[
        list[Path], Argument(metavar="INPUT...", help="Images, folders of images, or videos; -: standard input.")
    ],
    output: Annotated[
        Path | None, Option("--output", "-o", help="Folder; for one image a file or - (stdout); default: upscaled.")
    ] = None,
    model: Annotated[
        str | None,
        Option(
            "--model",
            "-m",
            help="Weight file, name, or hf:owner/name; default: one of the bundled models, by the picture.",
            autocompletion=completion.models,
        ),
    ] = None,
    tile: Annotated[int | None, Option(help="Tile size in input pixels; 0: all at once; default: by the network.")] = None,
    overlap: Annotated[int | None, Option(help="Overlap of the tiles in input pixels; default: by the network.")] = None,
    device: Annotated[
        str,
        Option(help="auto, cpu, cuda, cuda:N or mps; with commas: images in turn.", autocompletion=completion.devices),
    ] = "auto",
    precision: Annotated[
        str,
        Option(help="fp32, bf16, fp16 or auto: the fastest, near fp32; 8 bits only.", autocompletion=completion.precisions),
    ] = "auto",
    runtime: Annotated[
        str,
        Option(
            help="pytorch; for CPUs also openvino or onnxruntime, which convert once.", autocompletion=completion.runtimes
        ),
    ] = "pytorch",
    threads: Annotated[int | None, Option(min=1, help="Threads on a CPU; default: PyTorch's number.")] = None,
    ext: Annotated[
        str | None,
        Option(
            "--ext",
            "--format",
            help="png, jpg, webp, tif, avif, gif, bmp; mp4, mkv, webm, mov; default: the input's.",
            autocompletion=completion.image_formats,
        ),
    ] = None,
    suffix: Annotated[str | None, Option(help="Suffix of output names; default: _x4 for an x4 network.")] = None,
    overwrite: Overwrite = False,
    skip_existing: Annotated[bool, Option("--skip-existing", help="Leave results that are there and whole.")] = False,
    alpha: Annotated[str, Option(help="Transparency: network, bicubic, or auto: network for sharp edges.")] = "auto",
    strip_metadata: Annotated[bool, Option("--strip-metadata", help="Keep only the colour profile.")] = False,
    quality: Annotated[int | None, Option(min=1, max=100, help="Of JPEG, WebP, AVIF and video files.")] = None,
    lossless: Annotated[
        bool | None, Option(help="Of WebP files; default: as the input is. PNG, TIFF and BMP always are.")
    ] = None,
    progress: Annotated[
        str | None,
        Option(
            help="bar, plain or json; default: bar on a terminal, else plain.", autocompletion=completion.progress_styles
        ),
    ] = None,
    scale: Annotated[float | None, Option(help="Enlarge by this; default: by the network's scale.")] = None,
    width: Annotated[int | None, Option(help="Final width in pixels; with --height, fit into both.")] = None,
    height: Annotated[int | None, Option(help="Final height in pixels.")] = None,
    longest: Annotated[int | None, Option(help="Final length of the longer side in pixels.")] = None,
    megapixels: Annotated[float | None, Option(help="Final number of pixels in millions.")] = None,
    shard: Annotated[str | None, Option(metavar="K/N", help="Of N equal parts of the images, upscale the Kth.")] = None,
    tta: Annotated[bool, Option("--tta", help="Mean over eight turned and mirrored passes: 8 times slower.")] = False,
    texture: Annotated[
        float | None, Option(metavar="T", help="0: faithful, like --faithful-model; 1: as the model; between, to 1.5.")
    ] = None,
    faithful_model: Annotated[
        str | None, Option("--faithful-model", metavar="FILE", help="PSNR network that the model was trained from.")
    ] = None,
    consistent: Annotated[
        bool, Option("--consistent", help="Results that become the input when reduced; for clean inputs.")
    ] = False,
    hallucination_map: Annotated[
        bool, Option("--hallucination-map", help="Also write maps of what results show that their inputs did not determine.")
    ] = False,
    report_page: Annotated[
        Path | None, Option("--report", metavar="FILE.html", help="Write a page with sliders, maps and settings.")
    ] = None,
    json_file: JsonFile = None,
) -> None:
    """Upscale images, folders of images, and videos, with a weight file of any scale and architecture."""
    from aesop.commands.upscale import upscale_files
    from aesop.commands.upscale_results import kept, report
    from aesop.inference.final_size import FinalSize
    from aesop.system.device import keep_freed_memory

    keep_freed_memory()
    is_piped = output == STDOUT or (output is None and inputs == [STDOUT])
    if json_file == STDOUT and is_piped:
        raise ValueError("the picture and --json - would both go to standard output: name a file for one of them")
    with stdout_for_result() if is_piped else nullcontext(), json_report("upscale", json_file) as found:
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
            threads,
            texture,
            faithful_model,
            consistent,
            hallucination_map,
            report_page,
            terminal.progress,
        )
        done = report(kept(results, found) if json_file else results, console)
    if not done:
        raise typer.Exit(ExitCode.FAILED)


@app.command()
def export(
    model: Annotated[
        str,
        Argument(
            metavar="MODEL",
            help="Weight file of a generator, or a name that aesop models lists.",
            autocompletion=completion.models,
        ),
    ],
    to: Annotated[
        list[str],
        Option(
            "--to",
            metavar="FORMAT",
            help="onnx, openvino, torchscript or ncnn; several: once for each.",
            autocompletion=completion.exports,
        ),
    ],
    fp16: Annotated[bool, Option("--fp16", help="Half precision: half the size, and faster on GPUs.")] = False,
    pad: Annotated[
        bool, Option(help="Pad inside the network where it takes multiples of a size only, so that it takes any.")
    ] = True,
    output: Annotated[
        Path | None, Option("--output", "-o", help="File or folder; default: MODEL's name in the current folder.")
    ] = None,
    overwrite: Overwrite = False,
    json_file: JsonFile = None,
) -> None:
    """Write a network in the format of another program, run it there, and compare its images with PyTorch's."""
    from aesop.commands.export import export

    with json_report("export", json_file) as found:
        found["exported"] = export(model, to, console, half=fp16, pads=pad, output=output, overwrite=overwrite)


@app.command("app")
def serve_page(
    port: Annotated[int, Option(min=0, max=65535, help="Port of the page; 0: any free one.")] = 7860,
    open_browser: Annotated[bool, Option("--open", help="Open the page in the browser.")] = False,
) -> None:
    """Serve a page on this machine that upscales pictures in the browser, until Ctrl-C."""
    from aesop.app.server import serve

    serve(port, open_browser, console)


@models.callback(invoke_without_command=True)
def list_models(context: typer.Context, output: JsonFile = None) -> None:
    if context.invoked_subcommand is None:
        from aesop.commands.models import describe_models

        with json_report("models", output) as found:
            found |= describe_models(console)
    elif output:
        raise typer.BadParameter(f"give --json after {context.invoked_subcommand}")


@models.command()
def info(
    model: Annotated[
        str, Argument(metavar="FILE", help="Weight file, or the name of a model.", autocompletion=completion.models)
    ],
    output: JsonFile = None,
) -> None:
    """Describe a model: network, cost, receptive field, licence, training, and which programs load it."""
    from aesop.commands.model_info import model_info

    with json_report("models info", output) as found:
        facts, lines = model_info(model)
        found |= facts
        console.print("\n".join(lines))


@models.command()
def verify(
    files: Annotated[
        list[str], Argument(metavar="FILE...", help="Weight files, or names of models.", autocompletion=completion.models)
    ],
    output: JsonFile = None,
) -> None:
    """Check that weight files are safe to read, complete, finite, and make an image of a photograph."""
    from aesop.commands.model_verification import verify_models

    with json_report("models verify", output) as found:
        found["models"] = checked = verify_models(files)
        console.print("\n".join(map(str, checked)))
    if any(each.fault for each in checked):
        raise typer.Exit(ExitCode.FAILED)


@app.command()
def card(
    model: Annotated[
        str, Argument(metavar="MODEL", help="Weight file, name, or hf:owner/name.", autocompletion=completion.models)
    ],
    output: Annotated[
        Path | None, Option("--output", "-o", metavar="FOLDER", help="Default: <scale>x-<title>_card.")
    ] = None,
    title: Annotated[str, Option(help="Name of the model; default: of the file's metadata, else the file's name.")] = "",
    author: Annotated[str, Option(help="Who made it; with commas several.")] = "",
    license: Annotated[str, Option(help="SPDX identifier, such as CC-BY-4.0.")] = "",
    tags: Annotated[list[str] | None, Option("--tag", help="What it is for, in a word; repeat it: photo, faces.")] = None,
    description: Annotated[str, Option(help="What it is good at, and what not.")] = "",
    date: Annotated[str, Option(metavar="YYYY-MM-DD", help="Default: of the file's metadata, else today.")] = "",
    urls: Annotated[
        list[str] | None, Option("--url", help="Where the weights will be; hf:owner/name: on the Hugging Face hub.")
    ] = None,
    results: Annotated[
        list[Path] | None, Option("--results", metavar="results.json", help="Measured values of this weight file.")
    ] = None,
    samples: Annotated[
        list[Path] | None, Option("--samples", metavar="FILE", help="Photographs to enlarge; default: aesop's own.")
    ] = None,
    device: Device = "auto",
    overwrite: Overwrite = False,
    json_file: JsonFile = None,
) -> None:
    """Write a folder to publish a model: weights, a Markdown card, OpenModelDB's JSON, sample pictures."""
    from aesop.commands.card import card
    from aesop.weights.description import Description

    given = Description(title, author, license, tuple(tags or ()), description, date)
    with json_report("card", json_file) as found:
        found |= card(
            model,
            output,
            console,
            given=given,
            urls=urls or (),
            results=results or (),
            samples=samples or (),
            device=device,
            overwrite=overwrite,
        )


@app.command()
def push(
    model: Annotated[str, Argument(metavar="CARD|MODEL", help="Folder of aesop card; or a model, of which one is written.")],
    repository: Annotated[str, Argument(metavar="OWNER/NAME", help="Repository of the Hugging Face hub.")],
    public: Annotated[bool, Option("--public", help="Allow a public repository; a new one is private otherwise.")] = False,
    dry_run: DryRun = False,
    output: JsonFile = None,
) -> None:
    """Upload a model's card to the Hugging Face hub, from which -m hf:owner/name loads it."""
    from aesop.commands.push import push

    with json_report("push", output) as found:
        found |= push(model, repository, public, dry_run, console)


@app.command()
def demo(
    output: Annotated[Path, Option("--output", "-o", help="Folder for the runs and the page.")] = Path("demo_output"),
    quick: Annotated[bool, Option("--quick", help="Train for only a few steps, to see that it all works.")] = False,
    json_file: JsonFile = None,
) -> None:
    """Train every stage on the bundled photographs, then compare the results in a table and on a page."""
    from aesop.commands.demo import run

    with json_report("demo", json_file) as found:
        found |= run(output, console, quick)


@app.command()
def degrade(
    words: Annotated[list[str], Argument(metavar="IMAGE|key.path=value", help="Images, folders, and options to override.")],
    config: Annotated[Path | None, Option("--config", "-c", help="Option file; default: Real-ESRGAN's recipe.")] = None,
    count: Annotated[int, Option("-n", help="Degraded versions of each image on the sheet.")] = 12,
    output: Annotated[Path | None, Option("--output", "-o", help="The sheet; default: degradations.html.")] = None,
    folder: Annotated[Path | None, Option("--set", help="Write a validation set here, and a sheet only with -o.")] = None,
    seed: Annotated[int, Option(help="Seed of the random degradations.")] = 0,
    overwrite: Overwrite = False,
    json_file: JsonFile = None,
) -> None:
    """Show what a real-world recipe does to images, or write a fixed validation set of such pairs."""
    from aesop.commands.degrade import run

    with json_report("degrade", json_file) as found:
        found |= run(words, config, count, output, folder, seed, overwrite, console)


@app.command()
def figure(
    spec: Annotated[Path | None, Argument(metavar="SPEC.yml", help="What the figure shows.")] = None,
    output: Annotated[
        Path | None, Option("--output", "-o", metavar="FILE.pdf", help="PDF or PNG; default: both, beside SPEC.yml.")
    ] = None,
    overwrite: Overwrite = False,
    example: Annotated[str | None, Option(metavar="plane|crops", help="Print a file to start from.")] = None,
    json_file: JsonFile = None,
) -> None:
    """Draw a figure of a paper: the perception-distortion plane, or zoomed crops of several methods."""
    from aesop.commands import figure

    if example and json_file:
        raise ValueError("--json reports a figure, and --example prints a file: give one of them")
    if example:
        sys.stdout.write(figure.example(example))
    elif spec:
        with json_report("figure", json_file) as found:
            found |= figure.draw(spec, output, overwrite, console)
    else:
        raise ValueError("name a file: aesop figure SPEC.yml; aesop figure --example plane prints one to start from")


@prepare.callback()
def prepare_photographs() -> None:
    """Prepare photographs for training."""


@prepare.command()
def pack(
    inputs: Annotated[list[Path], Argument(metavar="FOLDER...", help="Folders of images.")],
    output: Annotated[Path, Option("--output", "-o", metavar="NAME.pack", help="File to write.")],
    overwrite: Overwrite = False,
    json_file: JsonFile = None,
) -> None:
    """Decode images once into one file, from which training reads crops: dataroot_gt=NAME.pack."""
    from aesop.commands.prepare import pack

    with json_report("prepare pack", json_file) as found:
        found |= pack(inputs, output, overwrite, console)


@app.command()
def convert(
    source: Annotated[Path, Argument(help="Weight file or model name, or state folder (for both params and params_ema).")],
    target: Annotated[Path, Argument(help="*.safetensors (self-describing) or *.pth (BasicSR).")],
    key: Annotated[str | None, Option(help="params or params_ema alone, under this key; none: without a key.")] = None,
    names: Annotated[str | None, Option(help="An RRDBNet's tensor names: basicsr, bsrgan or old-esrgan.")] = None,
    portable: Annotated[
        bool, Option("--portable", help="So that chaiNNer, ComfyUI and InvokeAI load the network; checked with spandrel.")
    ] = False,
    json_file: JsonFile = None,
) -> None:
    """Convert weights between self-describing safetensors and the .pth files of BasicSR, BSRGAN and ESRGAN."""
    from aesop.commands.convert import convert

    with json_report("convert", json_file) as found:
        found |= vars(done := convert(source, target, key, names, portable))
        console.print(Note(str(done)))


@app.command()
def schema(output: Annotated[Path | None, Argument(help="File to write; default: the terminal.")] = None) -> None:
    """Print the JSON schema of option files, which editors use for completion and checks."""
    from aesop.options.file_schema import file_schema
    from aesop.system.files import replacing

    text = json.dumps(file_schema(), indent=1) + "\n"
    if output is None:
        sys.stdout.write(text)
    else:
        with replacing(output) as temporary:
            temporary.write_text(text, encoding="utf-8")
