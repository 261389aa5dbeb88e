"""How results were measured: what decides their values, on record in `results.json` and in captions of tables.

A protocol is JSON: {scale, images, metrics: {name: record}, sets: {name: record}, networks, versions, machine}.
"""

import functools
import hashlib
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import PIL
import torch

import aesop
from aesop.data.measured_pairs import MeasuredPairs
from aesop.evaluation.measure import SetResults
from aesop.evaluation.methods import Method
from aesop.evaluation.protocol_text import LR_FILES, LR_MADE, LR_UNUSED
from aesop.metrics import METRIC_TYPES
from aesop.metrics.build import border, entry_info, on_luma
from aesop.metrics.pyiqa_metrics import PYIQA
from aesop.options.validation import MetricOptions
from aesop.system.files import sha256_of
from aesop.weights.pretrained import find_file

Protocol = Mapping[str, Any]
IMAGES = "8 bits per channel (16 are rounded), gray repeated to RGB, transparency left out, upright, profiles ignored"
# The packages of aesop that networks, images and metrics are computed with.
_COMPUTING = ("archs", "images", "inference", "losses", "metrics", "weights")


def build(
    scale: int,
    options: Mapping[str, MetricOptions],
    methods: Sequence[Method],
    sets: Mapping[str, tuple[MeasuredPairs, SetResults]],
) -> Protocol:
    """The protocol of results by test set. All networks must have been run alike."""
    networks = [method.settings for method in methods if method.settings]
    sees_lr = any(method.finished is None for method in methods)
    protocol = {
        "scale": scale,
        "images": f"{IMAGES}; HR cut to multiples of {scale}, at the bottom and at the right",
        "metrics": {name: metric_record(name, entry) for name, entry in options.items()},
        "sets": {name: _set_record(pairs, results, sees_lr) for name, (pairs, results) in sets.items()},
        "versions": {**versions(), "python": platform.python_version(), "code": code_version()},
        "machine": f"{platform.system()} {platform.machine()}",
    }
    return protocol | (
        {"networks": {name: networks[0][name] for name in ("precision", "tile", "device")}} if networks else {}
    )


def metric_record(name: str, entry: MetricOptions) -> dict[str, Any]:
    """What decides the values of an entry of `val.metrics`, with SHA-256 of the weight files that it reads."""
    info, kind = entry_info(name, entry), entry.type or name
    record: dict[str, Any] = {
        "label": info.label,
        "type": METRIC_TYPES.get(kind, kind),
        "crop_border": border(info, entry),
        "channels": "luma" if on_luma(info, entry) else "RGB",
    }
    files = {weights: find_file(weights) for weights in info.weights}
    if info.needs_autoencoder and entry.autoencoder:
        files["autoencoder"] = Path(entry.autoencoder).expanduser()
    if files:
        record["weights"] = {weights: _sha256_of(file) for weights, file in files.items()}
    if record["type"].startswith(PYIQA):
        record["version"] = f"pyiqa {version('pyiqa')}"
    return record


def _set_record(pairs: MeasuredPairs, results: SetResults, sees_lr: bool) -> dict[str, Any]:
    """How many images, how LR was made, and SHA-256 over the digests of all images: HR, and LR from files."""
    made = LR_FILES if pairs.pairs[0].lq else LR_MADE
    record: dict[str, Any] = {"images": len(pairs), "lr": made if sees_lr else LR_UNUSED}
    for kind in ["hr"] * pairs.has_reference + ["lr"] * (record["lr"] == LR_FILES):
        listed = [(pair.name, digests.get(kind)) for pair, digests in zip(pairs.pairs, results.digests, strict=True)]
        record[f"{kind}_sha256"] = hashlib.sha256(repr(sorted(listed)).encode()).hexdigest()
    return record


def versions() -> dict[str, str]:
    """The releases that figures depend on."""
    modules = {"aesop": aesop, "torch": torch, "numpy": np, "opencv": cv2, "pillow": PIL}
    return {name: str(module.__version__) for name, module in modules.items()} | {"spandrel": version("spandrel")}


@functools.cache
def code_version() -> str:
    """SHA-256 of aesop's code that networks, images and metrics are computed with."""
    root = Path(aesop.__file__).parent
    files = sorted(path for name in _COMPUTING for path in (root / name).rglob("*.py"))
    sums = [(path.relative_to(root).as_posix(), sha256_of(path)) for path in files]
    return hashlib.sha256(repr(sums).encode()).hexdigest()


def _sha256_of(path: Path) -> str:
    """SHA-256 of a file, which several metrics may share."""
    status = path.stat()
    return _sha256_at(path, status.st_size, status.st_mtime_ns)


@functools.lru_cache
def _sha256_at(path: Path, size: int, modified: int) -> str:
    return sha256_of(path)
