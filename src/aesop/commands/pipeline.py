"""psnr -> autoencoder -> adversarial in one go: each stage's weights are handed to the next.

The hand-over is the whole knowledge of this file: the PSNR net becomes the auto-encoder's decoder and the generator's
start, the auto-encoder becomes the AESOP loss.
"""

import difflib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aesop.archs.autoencoder import NARROWEST_IN_COLOUR
from aesop.check.dry_run import preflight
from aesop.options.config import STAGES, Config
from aesop.options.error_messages import ConfigError
from aesop.options.networks import AUTOENCODERS
from aesop.options.read import build_config, load_pipeline, stage_nodes
from aesop.system.distributed import World, init_distributed
from aesop.training.checkpoint import sets_ema_warmup
from aesop.training.train import final_model, train
from aesop.weights.read import read_state_dict

log = logging.getLogger("aesop")


def plan(path: str | Path, overrides: Sequence[str] = ()) -> dict[str, Config | Path]:
    """Each stage's configuration with the hand-over filled in, or the weight file that replaces the stage.

    Raises:
        ConfigError: every fault of every stage, with line and remedy.
    """
    raw, nodes = load_pipeline(path, overrides)
    steps: dict[str, Config | Path] = {}
    weights: dict[str, str] = {}
    found: dict[str, list[str]] = {}  # fault -> the stages that have it: one in the shared part is told once
    for stage in STAGES:
        options = raw[stage]
        if "weights" in options:
            given = steps[stage] = Path(str(options["weights"])).expanduser()
            weights[stage] = str(given)
            if not given.is_file():
                found[f"stages.{stage}.weights: {given} does not exist"] = [stage]
            continue
        options["name"] = f"{options.get('name', Path(path).stem)}/{STAGES.index(stage) + 1}_{stage}"
        _hand_over(stage, options, weights)
        try:
            step, notes = build_config(options, str(path), stage_nodes(nodes, stage))
            if step.train is None:
                raise ConfigError(str(path), [f"stages.{stage}.train: missing; give at least total_iter and the losses"])
        except ConfigError as error:
            weights[stage] = f"(made by the {stage} stage)"
            for fault in error.faults:
                found.setdefault(fault, []).append(stage)
            continue
        steps[stage], weights[stage] = step, str(final_model(step))
        for note in notes:
            log.info(note)
    if found:
        raise ConfigError(str(path), [f"{fault} (stage {', '.join(stages)})" for fault, stages in found.items()])
    return steps


def _hand_over(stage: str, options: dict[str, Any], weights: dict[str, str]) -> None:
    """Fill in what the stages before made. Groups that are no groups are left to the check that follows."""
    path, network, train_options = (options.get(name) or {} for name in ("path", "network_g", "train"))
    if isinstance(path, dict):
        options["path"] = path
        if stage == "autoencoder":
            path["pretrain_network_decoder"] = weights["psnr"]
        elif stage == "adversarial":
            path["pretrain_network_g"] = weights["psnr"]
    if stage == "autoencoder" and not (isinstance(network, dict) and network.get("type") in AUTOENCODERS):
        # Unless told otherwise, the decoder is the PSNR net it starts from.
        options["network_g"] = {"type": "AutoEncoder_RRDBNet", "dec_opt": network}
        features = network.get("num_feat") if isinstance(network, dict) else None
        if options.get("scale", 4) == 4 and isinstance(features, int) and features < NARROWEST_IN_COLOUR:
            options["network_g"]["enc_opt"] = {"num_feat": NARROWEST_IN_COLOUR}
    if stage == "adversarial" and isinstance(train_options, dict) and isinstance(train_options.get("aesop_opt"), dict):
        train_options["aesop_opt"]["autoencoder_load"] = {"path": weights["autoencoder"]}


def preflight_pipeline(steps: dict[str, Config | Path]) -> tuple[dict[str, list[str]], list[str]]:
    """Each stage's description, and the faults of all of them: a missing VGG must not show after two stages of training."""
    described: dict[str, list[str]] = {}
    faults: list[str] = []
    made: list[Path] = []
    for stage, step in steps.items():
        if isinstance(step, Path):
            described[stage] = [f"skipped, uses {step}"]
            continue
        described[stage], found = preflight(step, made)
        faults += [f"{stage}: {fault}" for fault in found]
        made.append(final_model(step))
    return described, list(dict.fromkeys(faults))


def run_pipeline(steps: dict[str, Config | Path]) -> Path:
    """Run every stage that is not finished yet, each continuing where it stopped; returns the generator's weights.

    Raises:
        ValueError: before anything is trained, for whatever is missing in any of the stages.
    """
    faults = preflight_pipeline(steps)[1]
    if faults:
        raise ValueError("the pipeline cannot run:\n  " + "\n  ".join(faults))
    device = next((step.device for step in steps.values() if isinstance(step, Config)), "cpu")
    with init_distributed(device) as world:
        weights = [run_step(stage, step, world) for stage, step in steps.items()]
    return weights[-1]


def run_step(stage: str, step: Config | Path, world: World | None = None) -> Path:
    """Train a stage to its end, from where it was left, unless it is finished or its weights are given; returns these."""
    if isinstance(step, Path):
        log.info("%s: skipped, using %s", stage, step)
        return step
    if is_finished(step):
        log.info("%s: finished before, using %s", stage, final_model(step))
        return final_model(step)
    return train(step, resume=True, world=world)


def is_finished(config: Config) -> bool:
    """Whether a stage's weights are there, made with these very options.

    Raises:
        ValueError: when they were made with others, naming these.
    """
    if not final_model(config).is_file():
        return False
    made_with = read_state_dict(final_model(config))[1].get("config", "").splitlines()
    asked_for = config.to_yaml().splitlines()
    if not sets_ema_warmup(made_with):  # begun before there was this option
        asked_for = [line for line in asked_for if not sets_ema_warmup([line])]
    changed = [line for line in difflib.ndiff(made_with, asked_for) if line[0] in "+-"]
    if changed:
        raise ValueError(
            f"{final_model(config)} was made with other options ({'; '.join(changed[:4])}): remove {config.run_folder} to "
            "train that stage anew, or choose another name"
        )
    return True
