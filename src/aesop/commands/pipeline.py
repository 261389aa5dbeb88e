"""`aesop pipeline`: train psnr, autoencoder and adversarial one after the other, continuing where the last run stopped.

options/pipeline.py decides which stage starts from which weights.
"""

import logging
from pathlib import Path

from aesop.check.dry_run import dry_run_report
from aesop.options.changes import STARTS, Changes, changes, described
from aesop.options.config import TrainConfig
from aesop.options.pipeline import Steps
from aesop.options.read import recorded_config, with_former_behaviour
from aesop.system.distributed import World, init_distributed
from aesop.training.checkpoint import early_stop_note, states
from aesop.training.train import train
from aesop.weights.errors import WeightsError
from aesop.weights.read import read_state_dict

log = logging.getLogger("aesop")


def dry_run_pipeline(steps: Steps) -> tuple[list[str], list[str]]:
    """(description, faults) of all stages: what stands in the way of a later one shows before an earlier one is trained.

    Of the options, those that differ from the defaults.
    """
    lines: list[str] = []
    faults: list[str] = []
    made: list[Path] = []
    for stage, step in steps.items():
        lines.append(f"--- {stage}")
        if isinstance(step, Path):
            lines.append(f"skipped, uses {step}")
            continue
        made.append(step.final_model)
        try:
            if is_finished(step):
                lines.append(f"finished, uses {step.final_model}")
                continue
            refuse_other_start(stage, step)
        except ValueError as error:
            faults.append(f"{stage}: {error}")
            continue
        report, found = dry_run_report(step, made[:-1], resume=True)
        lines += [*step.to_yaml(defaults=False).splitlines(), *report]
        faults += [f"{stage}: {fault}" for fault in found]
    return lines, faults


def run_pipeline(steps: Steps) -> Path:
    """Run every unfinished stage, each from where it stopped. Returns the generator's weight file."""
    if faults := dry_run_pipeline(steps)[1]:
        raise ValueError("the pipeline cannot run:\n  " + "\n  ".join(faults))
    device = next((step.device for step in steps.values() if isinstance(step, TrainConfig)), "cpu")
    with init_distributed(device) as world:
        named = [(f"stage {k} of {len(steps)}, {stage}", step) for k, (stage, step) in enumerate(steps.items(), 1)]
        return [run_step(stage, step, world) for stage, step in named][-1]


def run_step(stage: str, step: TrainConfig | Path, world: World | None = None) -> Path:
    """Train one stage to its end unless it is finished or replaced by a weight file. Returns its weight file.

    `stage` is what the log calls it.
    """
    if isinstance(step, Path):
        log.info("%s: skipped, using %s", stage, step)
        return step
    if is_finished(step):
        note = early_stop_note(step.final_model)
        log.info("%s: already finished%s, using %s", stage, f" ({note})" if note else "", step.final_model)
        return step.final_model
    log.info("%s: %s", stage, "continuing" if states(step.run_folder / "state") else "starting")
    return train(step, resume=True, world=world)


def is_finished(config: TrainConfig) -> bool:
    """Whether a stage's weights exist; ValueError if options that decide the result have changed since."""
    final = config.final_model
    if not final.is_file():
        return False
    if changed := _changes_since(config, final):
        raise ValueError(
            f"{final} was trained with other options ({described(changed)}). To keep it, add "
            f"stages.{config.stage}.weights={final}; to train the stage again, choose another name, or move "
            f"{config.run_folder} away"
        )
    return True


def refuse_other_start(stage: str, config: TrainConfig) -> None:
    """Raise ValueError if a stage that has begun would go on from, or be judged by, other weights than before."""
    begun = states(config.run_folder / "state")
    if not begun:
        return
    changed = _changes_since(config, begun[-1] / "net_g.safetensors")
    if other := {option: values for option, values in changed.items() if option in STARTS}:
        raise ValueError(
            f"{config.run_folder} has begun from other weights ({described(other)}): to train the {stage} stage again, "
            f"choose another name, or move {config.run_folder} away; to keep the earlier stage, give its weights, "
            "stages.NAME.weights=FILE"
        )


def _changes_since(config: TrainConfig, file: Path) -> Changes:
    try:
        recorded = recorded_config(read_state_dict(file)[1].get("config", ""), str(file))
    except WeightsError:
        if file == config.final_model:
            raise
        return {}  # a damaged state: continuing passes over it, or reports it
    return changes(recorded, with_former_behaviour(config, recorded))
