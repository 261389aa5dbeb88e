"""What is known of a model's training, from its metadata or its run folder, without what belongs to one machine."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aesop.losses import LossTerms
from aesop.options.yaml_file import MAX_BYTES, parse_yaml

RECIPE_KEY = "recipe"
DEGRADED, BICUBIC, FILES = "made by random degradation", "made by bicubic interpolation", "given"


@dataclass(frozen=True)
class Training:
    """None, or empty, where a fact is not known."""

    stage: str = ""
    iterations: int | None = None
    batch_size: int | None = None
    """Of all processes together."""
    hr_size: int | None = None
    """Side of the HR crops, in pixels."""
    lr: str = ""
    """Where LR came from: DEGRADED, BICUBIC, or FILES."""
    losses: Mapping[str, float] | None = None
    """The option of each loss -> its weight."""
    discriminator: str = ""
    dataset: str = ""
    start: str = ""
    """The weights that the generator started from."""


def find_recipe(metadata: Mapping[str, str], file: Path) -> dict[str, Any]:
    """The options of a model's training without paths, from its metadata or the run folder around it; {} if unknown."""
    if text := metadata.get(RECIPE_KEY):
        return _parsed(text)
    text = metadata.get("config")
    if not text:
        recorded = (folder / "config.yml" for folder in list(file.absolute().parents)[:3])
        text = next((path.read_text(encoding="utf-8") for path in recorded if path.is_file()), "")
    return _recipe(_parsed(text))


def _parsed(text: str) -> dict[str, Any]:
    """The options in a text that may come from anybody; ValueError if they are none."""
    if len(text) > MAX_BYTES:
        raise ValueError(f"they are longer than {MAX_BYTES // 1000} kB")
    options = parse_yaml(text)[0] or {}
    if not isinstance(options, dict):
        raise ValueError("they are no options")
    return options


def _recipe(config: Mapping[str, Any]) -> dict[str, Any]:
    crops = config.get("datasets", {}).get("train")
    if not crops:
        return {}  # a test, or another program's file
    roots = crops.get("dataroot_gt") or []
    names = [Path(root).stem for root in ([roots] if isinstance(roots, str) else roots)]
    start = Path((config.get("path") or {}).get("pretrain_network_g") or "")
    run = f"{start.absolute().parents[1].name} " if start.stem.startswith("net_g_") else ""  # else the name says little
    kept = ("stage", "scale", "precision", "network_d", "degradation", "train")
    data = {name: crops[name] for name in ("gt_size", "batch_size_per_gpu") if name in crops}
    data |= {"name": crops.get("name") or ", ".join(names)}
    data |= {"lr": DEGRADED if config.get("degradation") else FILES if crops.get("dataroot_lq") else BICUBIC}
    options = {name: config[name] for name in kept if config.get(name)}
    return _without_paths({**options, "datasets": {"train": data}, "start": run + start.stem})


def _without_paths(value: Any) -> Any:
    """Nested options without those that are paths, and without the sections of weights to load."""
    if isinstance(value, Mapping):
        kept = {key: part for key, part in value.items() if not (_is_path(part) or key.endswith("_load"))}
        return {key: _without_paths(part) for key, part in kept.items()}
    return [part for part in value if not _is_path(part)] if isinstance(value, list) else value


def _is_path(value: Any) -> bool:
    return isinstance(value, str) and ("/" in value or "\\" in value)


def training_facts(recipe: Mapping[str, Any], metadata: Mapping[str, str]) -> Training:
    train, crops = recipe.get("train", {}), recipe.get("datasets", {}).get("train", {})
    processes, batch = metadata.get("processes"), crops.get("batch_size_per_gpu")
    losses = {name: train[name] for name in LossTerms.model_fields if isinstance(train.get(name), Mapping)}
    return Training(
        stage=recipe.get("stage") or metadata.get("stage", ""),
        iterations=int(metadata["total_iter"]) if "total_iter" in metadata else None,
        batch_size=batch * int(processes) if batch and processes else None,
        hr_size=crops.get("gt_size"),
        lr=crops.get("lr", ""),
        losses={name: loss.get("loss_weight", loss.get("perceptual_weight", 1.0)) for name, loss in losses.items()},
        discriminator=(recipe.get("network_d") or {}).get("type", ""),
        dataset=crops.get("name", ""),
        start=recipe.get("start", ""),
    )
