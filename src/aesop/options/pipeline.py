"""Pipeline files: the options of the three stages, each starting from the weights of the stages before it."""

import logging
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from aesop.archs.autoencoder import NARROWEST_IN_COLOUR, AutoEncoderOptions
from aesop.options.config import DEFAULT_SCALE, STAGES, TestConfig, TrainConfig
from aesop.options.error_messages import ConfigError, Lines, shown
from aesop.options.read import apply_overrides, build_config, load_config
from aesop.options.yaml_file import merged, read_yaml

log = logging.getLogger("aesop")
Steps = dict[str, TrainConfig | Path]


def plan(path: str | Path, overrides: Sequence[str] = ()) -> Steps:
    """Stage -> its options with the weights of earlier stages filled in, or the weight file that replaces the stage."""
    raw, lines = load_pipeline(path, overrides)
    steps: Steps = {}
    weights: dict[str, str] = {}
    # Fault -> the stages that have it, as shared options have theirs in every stage, and the lines it has there.
    found: dict[str, dict[str, str]] = {}
    for number, stage in enumerate(STAGES, 1):
        options = raw[stage]
        if "weights" in options:
            given = steps[stage] = Path(str(options["weights"])).expanduser()
            weights[stage] = str(given)
            if not given.is_file():
                found[f"stages.{stage}.weights: {given} does not exist"] = {stage: ""}
            continue
        options["name"] = f"{options.get('name', Path(path).stem)}/{number}_{stage}"
        own_lines = {option[2:]: line for option, line in lines.items() if option[:2] == ("stages", stage)}
        prefix = f"stages.{stage}."
        own_options = {".".join(option) for option in own_lines}
        own_options |= {o.partition("=")[0].removeprefix(prefix) for o in overrides if o.startswith(prefix)}
        _fill_in_weights(stage, options, weights, own_options)
        model = options.get("model")  # a shared title is that of the last stage's model
        if stage != STAGES[-1] and isinstance(model, dict) and model.get("title") and "model.title" not in own_options:
            options["model"] = {**model, "title": f"{model['title']} ({stage} stage)"}
        try:
            step, notes = build_config(options, str(path), {**lines, **own_lines})
            if not isinstance(step, TrainConfig):
                raise ConfigError(str(path), [f"stages.{stage}.train: missing; give at least total_iter and the losses"])
        except ConfigError as error:
            weights[stage] = f"(made by the {stage} stage)"
            for fault in error.faults:
                text = re.sub(r"^line \d+: ", "", fault)
                line = fault.removesuffix(text)
                if text.partition(":")[0] in own_options:
                    text = f"stages.{stage}.{text}"
                found.setdefault(text, {})[stage] = line
            continue
        steps[stage], weights[stage] = step, str(step.final_model)
        for note in notes:
            log.info(note)
    if found:
        faults = []
        for fault, stages in found.items():
            lines_there = set(stages.values())
            line = lines_there.pop() if len(lines_there) == 1 else ""
            where = "" if fault.startswith("stages.") else f" (stage {', '.join(stages)})"
            faults.append(f"{line}{fault}{where}")
        raise ConfigError(str(path), faults)
    return steps


def read_stages(path: Path, overrides: Sequence[str]) -> tuple[dict[str, TrainConfig | TestConfig | Path], list[str]]:
    """The stages of a pipeline file, or the training or test of any other file, and notes on ignored options."""
    if isinstance(read_yaml(path)[0].get("stages"), Mapping):
        return {**plan(path, overrides)}, []
    config, notes = load_config(path, overrides)
    return {config.stage if isinstance(config, TrainConfig) else "test": config}, notes


def load_pipeline(path: str | Path, overrides: Sequence[str] = ()) -> tuple[dict[str, dict[str, Any]], Lines]:
    """A pipeline file -> (the raw options of each stage, their lines).

    A stage's section below `stages` is merged over the shared options. The override `train.total_iter=9` changes every
    stage, `stages.psnr.train.total_iter=9` one, also if both are given.
    """
    raw, lines = read_yaml(path)
    shared = [override for override in overrides if not override.startswith("stages.")]
    of_stages = [override for override in overrides if override.startswith("stages.")]
    apply_overrides(raw, of_stages)
    stages = raw.pop("stages", None)
    if not isinstance(stages, Mapping) or not stages:
        raise ConfigError(f"{path}: no `stages` section; for a single stage use `aesop train {path}`")
    if unknown := [str(name) for name in stages if name not in STAGES]:
        raise ConfigError(f"{path}: unknown stage {', '.join(unknown)}; the stages are {', '.join(STAGES)}, in that order")
    options: dict[str, dict[str, Any]] = {}
    for stage in STAGES:
        own = stages.get(stage)
        if not isinstance(own, Mapping):
            raise ConfigError(f"{path}: stages.{stage} holds {shown(own)}; give its options, or `weights: FILE` to skip it")
        options[stage] = merged(raw, own) | {"stage": stage}
        apply_overrides(options[stage], shared)
        prefix = f"stages.{stage}."
        apply_overrides(options[stage], [o.removeprefix(prefix) for o in of_stages if o.startswith(prefix)])
    return options, lines


def _fill_in_weights(stage: str, raw: dict[str, Any], weights: Mapping[str, str], own: Collection[str]) -> None:
    """Fill in what the stages before this one made, unless its `own` options name another start.

    Sections of a wrong type are left for the checks.
    """
    path = raw["path"] = {} if raw.get("path") is None else raw["path"]
    network, train = raw.get("network_g"), raw.get("train")
    start = {"autoencoder": "pretrain_network_decoder", "adversarial": "pretrain_network_g"}.get(stage)
    if start and isinstance(path, dict) and f"path.{start}" not in own:
        path[start] = weights["psnr"]
    if stage == "autoencoder" and not (isinstance(network, dict) and network.get("type") in AutoEncoderOptions.type_names()):
        encoder = network.pop("enc_opt", None) if isinstance(network, dict) else None
        raw["network_g"] = {"type": "AutoEncoder_RRDBNet", "dec_opt": network}  # the decoder is the PSNR net
        features = network.get("num_feat") if isinstance(network, dict) else None
        if encoder is not None:
            raw["network_g"]["enc_opt"] = encoder
        elif raw.get("scale", DEFAULT_SCALE) == 4 and isinstance(features, int) and features < NARROWEST_IN_COLOUR:
            raw["network_g"]["enc_opt"] = {"num_feat": NARROWEST_IN_COLOUR}
    if stage == "adversarial" and isinstance(train, dict) and isinstance(train.get("aesop_opt"), dict):
        train["aesop_opt"]["autoencoder_load"] = {"path": weights["autoencoder"]}
