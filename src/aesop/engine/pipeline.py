"""psnr -> autoencoder -> adversarial in one go: each stage's weights are handed to the next.

The hand-over is the whole knowledge of this file: the PSNR net becomes the auto-encoder's decoder and the generator's
start, the auto-encoder becomes the AESOP loss.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aesop.config import STAGES, Config
from aesop.engine.train import final_model, train
from aesop.option_file import build_config, load_pipeline

log = logging.getLogger("aesop")


def plan(path: str | Path, overrides: Sequence[str] = ()) -> dict[str, Config | Path]:
    """Each stage's configuration with the hand-over filled in, or the weight file that replaces the stage.

    Raises:
        ConfigError: every fault of every stage, with line and remedy.
    """
    raw, nodes = load_pipeline(path, overrides)
    steps: dict[str, Config | Path] = {}
    for stage in STAGES:
        options = raw[stage]
        if "weights" in options:
            given = Path(str(options["weights"])).expanduser()
            if not given.is_file():
                raise ValueError(f"{path}: stages.{stage}.weights: {given} does not exist")
            steps[stage] = given
            continue
        options["name"] = f"{options.get('name', Path(path).stem)}/{STAGES.index(stage) + 1}_{stage}"
        _hand_over(stage, options, raw, {name: str(_weights(step)) for name, step in steps.items()})
        steps[stage], notes = build_config(options, f"{path} (stage {stage})", nodes)
        for note in notes:
            log.info(note)
    return steps


def _hand_over(stage: str, options: dict[str, Any], raw: dict[str, Any], weights: dict[str, str]) -> None:
    path = options.setdefault("path", {})
    if stage == "autoencoder":
        path["pretrain_network_decoder"] = weights["psnr"]
        if (options.get("network_g") or {}).get("type") != "AutoEncoder_RRDBNet":
            # Unless told otherwise, the decoder is the PSNR net it starts from.
            options["network_g"] = {"type": "AutoEncoder_RRDBNet", "dec_opt": options.get("network_g")}
    elif stage == "adversarial":
        path["pretrain_network_g"] = weights["psnr"]
        aesop = (options.get("train") or {}).get("aesop_opt")
        if isinstance(aesop, dict):
            aesop["autoencoder_load"] = {"path": weights["autoencoder"]}


def _weights(step: Config | Path) -> Path:
    return step if isinstance(step, Path) else final_model(step)


def run_pipeline(steps: dict[str, Config | Path]) -> Path:
    """Run every stage that is not finished yet, each continuing where it stopped; returns the generator's weights."""
    for stage, step in steps.items():
        if isinstance(step, Path):
            log.info("%s: skipped, using %s", stage, step)
        elif final_model(step).is_file():
            log.info("%s: finished before, using %s", stage, final_model(step))
        else:
            train(step, resume=True)
    return _weights(steps["adversarial"])
