"""Reading option files: overrides, pipelines, and all faults of a file at once with line and nearest valid name."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from aesop.options.basicsr import from_published
from aesop.options.config import STAGES, Config
from aesop.options.error_messages import ConfigError, _child, _describe, _shown, _with_lines, _without_union_echoes
from aesop.options.yaml_file import _merge, _parse, read_yaml


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> tuple[Config, list[str]]:
    """An option file with `key.path=value` overrides -> (configuration, notes on options without meaning here).

    Raises:
        ConfigError: listing every fault with its line and the nearest valid name.
    """
    raw, nodes = read_yaml(path)
    if isinstance(raw.get("stages"), Mapping):
        raise ConfigError(f"{path} describes several stages: run it with `aesop pipeline {path}`")
    apply_overrides(raw, overrides)
    return build_config(raw, str(path), nodes)


def load_pipeline(path: str | Path, overrides: Sequence[str] = ()) -> tuple[dict[str, dict[str, Any]], yaml.Node | None]:
    """A pipeline file: what all stages share, and below `stages` what each stage changes -> raw options per stage.

    A stage with `weights: FILE` is skipped, whatever else it says, and hands that file on. An override of a shared option
    (`train.total_iter=9`) holds for every stage, one of `stages.psnr.train.total_iter` for that stage.
    """
    raw, nodes = read_yaml(path)
    shared = [override for override in overrides if not override.startswith("stages.")]
    apply_overrides(raw, [override for override in overrides if override.startswith("stages.")])
    stages = raw.pop("stages", None)
    if not isinstance(stages, Mapping) or not stages:
        raise ConfigError(f"{path}: no `stages` section; for a single stage use `aesop train {path}`")
    unknown = [str(name) for name in stages if name not in STAGES]
    if unknown:
        raise ConfigError(f"{path}: unknown stage {', '.join(unknown)}; the stages are {', '.join(STAGES)}, in that order")
    merged = {}
    for stage in STAGES:
        own = stages.get(stage)
        if own is None:
            raise ConfigError(f"{path}: stages.{stage} is missing; give its options, or `weights: FILE` to skip it")
        if not isinstance(own, Mapping):
            raise ConfigError(f"{path}: stages.{stage} must be a mapping of options, found {_shown(own)}")
        if "weights" in own:
            merged[stage] = {"weights": own["weights"]}
        else:
            merged[stage] = {**_merge(raw, own), "stage": stage}
            apply_overrides(merged[stage], shared)
    return merged, nodes


def apply_overrides(raw: dict[str, Any], overrides: Sequence[str]) -> None:
    """Set `key.path=value` (the value read as YAML) in nested options."""
    for override in overrides:
        key, sign, value = override.partition("=")
        if not sign or not key:
            raise ConfigError(f"override {_shown(override)} must look like key.path=value, e.g. train.total_iter=1000")
        *parents, last = key.split(".")
        node = raw
        for name in parents:
            child = node.get(name)
            if not isinstance(child, dict):
                child = node[name] = {}
            node = child
        try:
            node[last] = _parse(value)[0]
        except ValueError as error:
            raise ConfigError(f"override {_shown(override)}: the value is no valid YAML") from error


def build_config(raw: Mapping[str, Any], source: str, nodes: yaml.Node | None = None) -> tuple[Config, list[str]]:
    """Check raw options; see `load_config`. `nodes` gives the faults their line numbers."""
    try:
        raw, notes = from_published(raw)
        return Config.model_validate(raw), notes
    except ValidationError as error:
        faults = [fault for entry in _without_union_echoes(error.errors()) for fault in _describe(entry, nodes)]
    except ValueError as error:
        faults = list(_with_lines(str(error), nodes))
    raise ConfigError(source, faults) from None


def stage_nodes(nodes: yaml.Node | None, stage: str) -> yaml.Node | None:
    """A pipeline file's node tree as one stage sees it: its own options over the shared ones."""
    own = _child(_child(nodes, "stages"), stage)
    return nodes if own is None else _merge_nodes(nodes, own)


def _merge_nodes(base: yaml.Node | None, over: yaml.Node) -> yaml.Node:
    if not (isinstance(base, yaml.MappingNode) and isinstance(over, yaml.MappingNode)):
        return over
    own = [(key, _merge_nodes(_child(base, key.value), value)) for key, value in over.value]
    names = {key.value for key, _ in own}
    return yaml.MappingNode(over.tag, own + [entry for entry in base.value if entry[0].value not in names])
