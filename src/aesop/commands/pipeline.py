"""`aesop pipeline`: train psnr, autoencoder and adversarial one after the other, continuing where the last run stopped.

options/pipeline.py decides which stage starts from which weights.
"""

import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from aesop.check.dry_run import dry_run_report
from aesop.options.config import TrainConfig
from aesop.options.pipeline import Steps
from aesop.options.read import recorded_config, with_former_behaviour
from aesop.system.distributed import World, init_distributed
from aesop.training.train import train
from aesop.weights.read import read_state_dict

log = logging.getLogger("aesop")


def dry_run_pipeline(steps: Steps) -> tuple[list[str], list[str]]:
    """(description, faults) of all stages, so that a missing VGG shows before two stages are trained."""
    lines: list[str] = []
    faults: list[str] = []
    made: list[Path] = []
    for stage, step in steps.items():
        lines.append(f"--- {stage}")
        if isinstance(step, Path):
            lines.append(f"skipped, uses {step}")
            continue
        described, found = dry_run_report(step, made)
        lines += [*step.to_yaml().splitlines(), *described]
        faults += [f"{stage}: {fault}" for fault in found]
        made.append(step.final_model)
    return lines, faults


def run_pipeline(steps: Steps) -> Path:
    """Run every unfinished stage, each from where it stopped. Returns the generator's weight file."""
    if faults := dry_run_pipeline(steps)[1]:
        raise ValueError("the pipeline cannot run:\n  " + "\n  ".join(faults))
    device = next((step.device for step in steps.values() if isinstance(step, TrainConfig)), "cpu")
    with init_distributed(device) as world:
        return [run_step(stage, step, world) for stage, step in steps.items()][-1]


def run_step(stage: str, step: TrainConfig | Path, world: World | None = None) -> Path:
    """Train one stage to its end unless it is finished or replaced by a weight file. Returns its weight file."""
    if isinstance(step, Path):
        log.info("%s: skipped, using %s", stage, step)
        return step
    if is_finished(step):
        log.info("%s: already finished, using %s", stage, step.final_model)
        return step.final_model
    return train(step, resume=True, world=world)


def is_finished(config: TrainConfig) -> bool:
    """Whether a stage's weights exist; ValueError if they were trained with other options."""
    final = config.final_model
    if not final.is_file():
        return False
    recorded = recorded_config(read_state_dict(final)[1].get("config", ""), str(final))
    asked_for = with_former_behaviour(config, recorded)
    then, now = (dict(_flat(options.model_dump(mode="json"))) for options in (recorded, asked_for))
    changed = [name for name in {**then, **now} if then.get(name) != now.get(name)]
    if changed:
        options = [f"{name}: {json.dumps(then.get(name))}, now {json.dumps(now.get(name))}" for name in changed[:4]]
        raise ValueError(
            f"{final} was trained with other options ({'; '.join(options)}): remove {config.run_folder} to train the "
            "stage again, or choose another name"
        )
    return True


def _flat(options: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Nested options by their dotted names."""
    if isinstance(options, Mapping):
        for key, value in options.items():
            yield from _flat(value, f"{name}.{key}" if name else key)
    else:
        yield name, options
