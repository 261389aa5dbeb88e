"""`aesop select`: measure the checkpoints of a run, draw the plane, and choose one by a rule."""

import hashlib
import json
from pathlib import Path

import torch
from rich.console import Console

from aesop.commands.candidates import Choosing, Chosen, Plan
from aesop.options.config import TrainConfig
from aesop.options.read import load_train_config
from aesop.system.device import float32_on_cuda
from aesop.system.distributed import World, init_distributed
from aesop.system.terminal import Note
from aesop.weights.description import Description, modelspec
from aesop.weights.errors import WeightsError
from aesop.weights.load import load_generator
from aesop.weights.read import State, read_state_dict
from aesop.weights.save import save_weights

SELECTED = "net_g_selected.safetensors"


@float32_on_cuda(tf32=False)
def select(
    run: Path, asked: Choosing, output: Path | None, overwrite: bool, console: Console, world: World | None = None
) -> Chosen:
    """Write the chosen weights to `output`, by default models/net_g_selected.safetensors, and the results to selection/.

    Measured are the files in models/ and models/front/ on the run's validation sets, or on those of `asked`; files with the
    same weights once. The processes of torchrun share the images.
    """
    if world is None:
        with init_distributed(asked.device) as world:
            return select(run, asked, output, overwrite, console, world)
    if output and output.exists() and not overwrite:
        raise ValueError(f"{output} exists: give another file, or --overwrite")
    candidates = find_candidates(run, console)
    plan = Plan.make(asked, _config_of(run, asked), load_generator(next(iter(candidates.values())))[1].scale, console)
    results = plan.measure(run.name, candidates, world, console)
    chosen = plan.choose(results)
    target = output or run / "models" / SELECTED
    if world.is_main:
        state, metadata = read_state_dict(candidates[chosen])
        options = load_generator(candidates[chosen])[1].options
        described = {**modelspec(Description(run.name), options), **metadata}  # older files do not describe the model
        about = {"file": candidates[chosen].relative_to(run).as_posix(), **plan.about(results, chosen)}
        save_weights(target, state, described | {"selected": json.dumps(about)})
        plan.report(results, chosen, run / "selection", console)
        console.print(f"chosen ({plan.rule}): {candidates[chosen]}")
        console.print(Note(f"written: {target}"))
    return Chosen(target, chosen, str(plan.rule), results)


def find_candidates(run: Path, console: Console) -> dict[str, Path]:
    """The different weights of a run, by iteration or by name; those that cannot be read are left out with a note."""
    models = run / "models"
    if not models.is_dir():
        stages = [path.parent.name for path in sorted(run.glob("*/models"))]
        hint = f"give the folder of one of its stages ({', '.join(stages)})" if stages else "give the folder of a training"
        raise ValueError(f"{run} has no folder models: {hint}, such as experiments/NAME")
    files = [*models.glob("net_g_*.safetensors"), *models.glob("front/net_g_*.safetensors")]
    found: dict[str, Path] = {}
    names: dict[str, str] = {}
    for file in sorted((file for file in files if file.name != SELECTED), key=_order):
        try:
            digest = _digest(read_state_dict(file)[0])
        except WeightsError as error:
            console.print(Note(f"note: left out: {error}"))
            continue
        name = _name(file)
        if digest in names:
            if name != names[digest]:
                console.print(Note(f"note: {file.name} has the weights of {names[digest]}"))
            continue
        # After a rollback, models of an iteration may differ.
        names[digest] = name = name if name not in found else f"{name} ({file.parent.name})"
        found[name] = file
    if not found:
        raise ValueError(f"{models} has no net_g_*.safetensors: has the training saved a checkpoint?")
    return found


def _name(file: Path) -> str:
    """The iteration, or `best`."""
    own = file.stem.removeprefix("net_g_")
    return str(int(own)) if own.isdigit() else own


def _order(file: Path) -> tuple[bool, int, bool, str]:
    """By iteration, then other names; of an iteration first the file in models/."""
    own = file.stem.removeprefix("net_g_")
    return not own.isdigit(), int(own) if own.isdigit() else 0, file.parent.name == "front", own


def _digest(state: State) -> str:
    """SHA-256 of tensors, whatever the metadata of their file."""
    found = hashlib.sha256()
    for name, value in sorted(state.items()):
        found.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        found.update(value.contiguous().flatten().view(torch.uint8).numpy().data)
    return found.hexdigest()


def _config_of(run: Path, asked: Choosing) -> TrainConfig | None:
    """The recorded options of the run."""
    file = run / "config.yml"
    if file.is_file():
        return load_train_config(file)[0]
    if not asked.hr:
        raise ValueError(f"{file} does not exist: give --hr FOLDER to measure on")
    return None
