"""Option files -> checked options, with `key.path=value` overrides."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from aesop.options.basicsr import from_published
from aesop.options.config import TestConfig, TrainConfig, fill_in_defaults, set_option
from aesop.options.error_messages import ConfigError, Lines, describe, shown, with_lines
from aesop.options.yaml_file import parse_yaml, read_yaml

Checked = tuple[TrainConfig | TestConfig, list[str]]


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Checked:
    """An option file with overrides -> (its options, notes on ignored options). With a `train` section it is a training."""
    raw, lines = read_yaml(path)
    if isinstance(raw.get("stages"), Mapping):
        raise ConfigError(f"{path} describes several stages: run it with `aesop pipeline {path}`")
    apply_overrides(raw, overrides)
    return build_config(raw, str(path), lines)


def load_train_config(path: str | Path, overrides: Sequence[str] = ()) -> tuple[TrainConfig, list[str]]:
    """`load_config` for a file that must describe a training."""
    config, notes = load_config(path, overrides)
    if not isinstance(config, TrainConfig):
        raise ConfigError(f"{path} has no train section: add one to train it, or measure weights with `aesop test {path}`")
    return config, notes


def load_test_config(path: str | Path, overrides: Sequence[str] = ()) -> tuple[TestConfig, list[str]]:
    """`load_config` for a test. A training file is checked as a whole, then its test options are taken."""
    config, notes = load_config(path, overrides)
    return (config.for_testing() if isinstance(config, TrainConfig) else config), notes


def apply_overrides(raw: dict[str, Any], overrides: Sequence[str]) -> None:
    """Set `key.path=value` in raw options. The value is read as YAML, and taken as text if it is none, such as `{}x4`."""
    for override in overrides:
        option, sign, value = override.partition("=")
        if not sign or not option:
            raise ConfigError(f"override {shown(override)} must look like key.path=value, e.g. train.total_iter=1000")
        try:
            given = parse_yaml(value)[0]
        except ValueError:
            given = value
        set_option(raw, option, given)


def build_config(raw: Mapping[str, Any], source: str, lines: Lines | None = None) -> Checked:
    """Check raw options. See `load_config`; `lines` gives the faults their line numbers."""
    lines = lines or {}
    try:
        options, notes = from_published(raw)
        options = fill_in_defaults(options)
        if options.get("train") is not None:
            return TrainConfig.model_validate(options), notes
        options.pop("train", None)
        return TestConfig.model_validate(options), notes
    except ValidationError as error:
        faults = describe(error, options, lines)
    except ValueError as error:
        faults = with_lines(str(error).splitlines(), lines)
    raise ConfigError(source, faults) from None


def recorded_config(yaml_text: str, source: str = "the recorded options") -> TrainConfig:
    """The options that a run, possibly of an earlier version, recorded in its weight files (metadata `config`)."""
    try:
        raw, _ = parse_yaml(yaml_text)
        raw["train"].setdefault("ema_warmup", None)  # versions without this option had no warm-up
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ConfigError(f"{source} does not record the options of a training") from error
    config, _ = build_config(raw, source)
    assert isinstance(config, TrainConfig)
    return config


def with_former_behaviour(config: TrainConfig, recorded: TrainConfig) -> TrainConfig:
    """`config` as a run continues that recorded its options as `recorded`: new options keep their former behaviour."""
    return config.derive({"train.ema_warmup": None}) if recorded.train.ema_warmup is None else config
