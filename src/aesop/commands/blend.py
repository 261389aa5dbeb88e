"""`aesop blend`: interpolate between two weight files, or average several; measured, the best blend by a rule."""

import json
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

import aesop
from aesop.commands.candidates import Choosing, Chosen, Plan
from aesop.evaluation.methods import method_names
from aesop.inference.models import find_model
from aesop.options.read import load_config
from aesop.system.device import float32_on_cuda
from aesop.system.distributed import World, agreed, init_distributed
from aesop.system.files import sha256_of
from aesop.system.terminal import Note
from aesop.weights.blend import Parent, blend, load_parents
from aesop.weights.description import PREFIX, Description, modelspec, read_description
from aesop.weights.save import save_weights

SWEEP = "0,.1,...,1"
AVERAGE = "average"
Shares = Sequence[float]


@float32_on_cuda(tf32=False)
def blend_files(
    inputs: Sequence[str],
    alpha: str | None,
    config: Path | None,
    asked: Choosing,
    output: Path,
    overwrite: bool,
    console: Console,
    world: World | None = None,
) -> Chosen:
    """Write a blend of weight files to `output`. With images, several are measured, and `asked` chooses.

    Two files A and B give (1 - alpha) A + alpha B for each alpha, more files their average. Without images there is one
    blend: that of the given alpha, or else the average.
    """
    if world is None:
        with init_distributed(asked.device) as world:
            return blend_files(inputs, alpha, config, asked, output, overwrite, console, world)
    if output.exists() and not overwrite:
        raise ValueError(f"{output} exists: give another file with -o, or --overwrite")
    if output.suffix != ".safetensors":
        raise ValueError(f"{output}: a blend is written as .safetensors (aesop convert writes .pth)")
    if len(inputs) < 2:
        raise ValueError("give at least two weight files to blend")
    if alpha is not None and len(inputs) > 2:
        raise ValueError(f"--alpha interpolates between two files; {len(inputs)} files are averaged")
    files = [str(find_model(file)) for file in inputs]
    parents, is_measured = load_parents(files), bool(asked.hr or config)
    mixtures = _mixtures(files, alpha, is_measured)
    if not is_measured:
        if asked.best or asked.at_least or asked.at_most or asked.metrics:
            raise ValueError("to choose by measured values, give images: --hr FOLDER or --config FILE")
        (shares,) = mixtures.values()
        if world.is_main:
            _write(output, parents, shares)
            console.print(_formula(parents, shares))
            console.print(Note(f"written: {output}"))
        return Chosen(output, _formula(parents, shares))
    plan = Plan.make(asked, load_config(config)[0] if config else None, parents[0].scale, console)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(agreed(world, folder))
        blends = {name: root / f"{number}.safetensors" for number, name in enumerate(mixtures)}
        for name, shares in mixtures.items():
            if world.is_main:
                _write(blends[name], parents, shares)
        agreed(world, None)  # all are written
        results = plan.measure(output.stem, blends, world, console)
    chosen = plan.choose(results)
    formulas = {name: _formula(parents, shares) for name, shares in mixtures.items()}
    named = tuple(method.model_copy(update={"source": formulas[method.name]}) for method in results.methods)
    results = results.model_copy(update={"methods": named})
    if world.is_main:
        _write(output, parents, mixtures[chosen])
        plan.report(results, chosen, output.with_suffix(""), console)
        console.print(f"chosen ({plan.rule}): {formulas[chosen]}")
        console.print(Note(f"written: {output}"))
    return Chosen(output, chosen, str(plan.rule), results)


def _mixtures(files: Sequence[str], alpha: str | None, is_measured: bool) -> dict[str, Shares]:
    """The shares of each blend, by name."""
    average = [1 / len(files)] * len(files)
    if len(files) > 2 or not (alpha or is_measured):
        alone = zip(method_names(files), range(len(files)), strict=True) if is_measured else ()
        own = {name: [float(index == place) for place in range(len(files))] for name, index in alone}
        return {**own, AVERAGE: average}
    alphas = read_alphas(alpha or SWEEP)
    if len(alphas) > 1 and not is_measured:
        raise ValueError(
            f"--alpha {alpha}: to choose between {len(alphas)} blends, give images (--hr or --config), or one value"
        )
    return {f"{value:g}": [1 - value, value] for value in alphas}


def read_alphas(text: str) -> list[float]:
    """Numbers from 0 to 1 with commas between them; `0,.1,...,1` is a sequence with equal steps."""
    parts = [part.strip() for part in text.split(",")]
    try:
        if "..." in parts:
            first, second, dots, last = parts
            start, step, end = float(first), float(second) - float(first), float(last)
            count = round((end - start) / step) if dots == "..." and step > 0 else 0
            if count < 2 or count > 1000 or abs(start + count * step - end) > 1e-9:
                raise ValueError("no sequence")
            found = [round(start + number * step, 12) for number in range(count)] + [end]
        else:
            found = [float(part) for part in parts]
    except ValueError:
        raise ValueError(f"--alpha {text}: give numbers with commas between them, or a sequence such as {SWEEP}") from None
    if not all(0 <= value <= 1 for value in found):
        raise ValueError(f"--alpha {text}: the numbers must lie between 0 (the first file) and 1 (the second)")
    return list(dict.fromkeys(found))


def _formula(parents: Sequence[Parent], shares: Shares) -> str:
    return " + ".join(f"{share:.6g} {parent.file}" for parent, share in zip(parents, shares, strict=True) if share)


def _description(title: str, parents: Sequence[Parent]) -> Description:
    """Of a blend: the author, licence, and tags on which all its parents agree."""
    first, *others = [read_description(parent.metadata) for parent in parents]
    agreed_on = {
        name: getattr(first, name)
        for name in ("author", "license", "tags")
        if all(getattr(other, name) == getattr(first, name) for other in others)
    }
    return Description(title, **agreed_on, date=datetime.now(UTC).date().isoformat())


def _write(path: Path, parents: Sequence[Parent], shares: Shares) -> None:
    of = [
        {"file": Path(parent.file).name, "sha256": sha256_of(Path(parent.file)), "share": share}
        for parent, share in zip(parents, shares, strict=True)
    ]
    used = [parent for parent, share in zip(parents, shares, strict=True) if share]
    titles = [read_description(parent.metadata).title or Path(parent.file).stem for parent in used]
    described = {
        **modelspec(_description(path.stem, used), parents[0].options),
        f"{PREFIX}merged_from": ", ".join(titles),
        "network": json.dumps(parents[0].options),
        "blend": json.dumps(of),
        "written_by": f"aesop {aesop.__version__}",
    }
    save_weights(path, blend(parents, shares), described)
