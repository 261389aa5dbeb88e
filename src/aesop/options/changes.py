"""What differs between the options that a run recorded and those given now."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from aesop.options.config import TrainConfig

# The options, and sections of options, that decide which weights a training ends with, up to rounding.
DECISIVE = (
    *("stage", "scale", "manual_seed", "precision", "network_g", "network_d", "datasets.train", "degradation", "train"),
    *("path.pretrain_network_g", "path.param_key_g", "path.strict_load_g"),
    *("path.pretrain_network_d", "path.param_key_d", "path.strict_load_d"),
    *("path.pretrain_network_decoder", "path.param_key_decoder", "path.strict_load_decoder"),
    "val.early_stop",
)
_NOT_DECISIVE = (
    *("datasets.train.name", "datasets.train.num_worker_per_gpu", "datasets.train.cache", "datasets.train.bad_images"),
    *("train.max_skipped", "train.max_rollbacks", "train.accumulate", "train.gradient_compression"),
)
STARTS = (
    *("path.pretrain_network_g", "path.pretrain_network_d", "path.pretrain_network_decoder"),
    "train.aesop_opt.autoencoder_load.path",
)
"""Options that name the weights a training starts from, or is judged by."""
Changes = dict[str, tuple[Any, Any]]
"""Option -> its value then and now."""


def changes(then: TrainConfig, now: TrainConfig) -> Changes:
    """The options that decide the result and differ. Weights that lie below the experiments' folder may move with it."""
    before, after = _decisive(then), _decisive(now)
    return {
        option: (before.get(option), after.get(option))
        for option in {**before, **after}
        if before.get(option) != after.get(option)
    }


def described(changed: Changes, at_most: int = 4) -> str:
    """`train.total_iter: 8, now 10; ...`."""
    lines = [f"{option}: {json.dumps(then)}, now {json.dumps(now)}" for option, (then, now) in changed.items()]
    more = len(lines) - at_most
    return "; ".join(lines[:at_most]) + (f"; and {more} more" if more > 0 else "")


def _decisive(config: TrainConfig) -> dict[str, Any]:
    root = config.path.experiments_root.rstrip("/") + "/"
    options = {}
    for option, value in _flat(config.model_dump(mode="json")):
        if _below(option, DECISIVE) and not _below(option, _NOT_DECISIVE):
            options[option] = value.removeprefix(root) if option in STARTS and isinstance(value, str) else value
    return options


def _below(option: str, sections: tuple[str, ...]) -> bool:
    return any(option == section or option.startswith(f"{section}.") for section in sections)


def _flat(options: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Nested options by their dotted names; those that are not set are left out."""
    if isinstance(options, Mapping):
        for key, value in options.items():
            yield from _flat(value, f"{name}.{key}" if name else key)
    elif options is not None:
        yield name, options
