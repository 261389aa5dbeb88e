"""Reading golden vectors: cases, inputs, weights by the formula, error measures and a record of the deviations.

The folder is `AESOP_GOLDEN` (default `../shared/golden` beside the repository); its README.md defines the format.
Nothing here knows a case by its name: every seed, size and value comes from the folder, so another set works too.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn

from aesop.weights.tensor_names import own_names

REPO = Path(__file__).resolve().parents[2]
FOLDER = Path(os.environ.get("AESOP_GOLDEN") or REPO.parent / "shared" / "golden")

# The limits the README of the golden vectors suggests for a float32 implementation.
LIMITS = {
    "arch_output": 2e-5,
    "arch_scalar_train": 2e-4,
    "arch_grad": 1e-4,
    "arch_grad_full": 2e-3,
    "loss_value": 1e-5,
    "loss_grad": 1e-4,
    "loss_grad_kinks": 5e-3,
    "psnr": 1e-3,
    "ssim": 1e-5,
    "niqe": 1e-3,
    "data": 1e-5,
    "kernel": 1e-6,
    "step1": 1e-4,
}

# An auto-encoder's state names its encoder twice, for one storage: the later name is the one in effect.
_ENCODER_ALIASES = {"encoder.0.": "conv_first.", "encoder.2.": "body.", "encoder.3.": "conv_last."}


@cache
def _json(name: str) -> dict:
    return json.loads((FOLDER / name).read_text())


def cases(group: str) -> list[dict]:
    """All cases of one group ("A" ... "F") in the order of golden.json; none where there is no golden folder."""
    if not (FOLDER / "golden.json").is_file():
        return []
    return [case for case in _json("golden.json")["cases"] if case["group"] == group]


def params(group: str, keep: Callable[[dict], bool] = lambda case: True) -> list:
    """The cases as arguments of `pytest.mark.parametrize`, named by their id; a skipped one where there are none."""
    found = [pytest.param(case, id=case["id"]) for case in cases(group) if keep(case)]
    reason = f"no golden cases of this kind in {FOLDER} (set AESOP_GOLDEN)"
    return found or [pytest.param(None, id="none", marks=pytest.mark.skip(reason=reason))]


def tensor(case: Mapping, name: str) -> Tensor:
    """A stored float32 tensor: `name` is an output of the case, or a tensor's own name in the case's file."""
    output = case.get("outputs", {}).get(name)
    with safe_open(FOLDER / case["file"], framework="pt") as file:
        return file.get_tensor(output["tensor"] if output else name)


@cache
def _names(file: str) -> frozenset[str]:
    with safe_open(FOLDER / file, framework="pt") as opened:
        return frozenset(opened.keys())


def names(case: Mapping) -> frozenset[str]:
    """The names of all tensors stored in the case's file."""
    return _names(case["file"])


def make_input(spec: Mapping | str, case: Mapping | None = None, step: int = 0) -> np.ndarray:
    """The float32 array an input entry describes: a seeded draw, or (a string) the name of a stored tensor of `case`.

    `step` counts a trajectory's iterations from 1: it is added to the entry's `seed_base`.
    """
    if isinstance(spec, str):
        assert case is not None, "a stored input is looked up in its case's file"
        return tensor(case, spec).numpy()
    assert spec["kind"] == "rand", f"unknown kind of input: {spec['kind']}"
    seed = spec["seed_base"] + step if "seed_base" in spec else spec["seed"]
    values = np.random.RandomState(seed).rand(*spec["shape"]).astype(np.float32)
    if affine := spec.get("affine"):
        values = values * np.float32(affine["scale"]) + np.float32(affine["shift"])
    return values


def inputs(case: Mapping) -> dict[str, Tensor]:
    """Every input of a case as a tensor of its own (safe to write to, no gradient)."""
    return {name: torch.from_numpy(make_input(spec, case).copy()) for name, spec in case.get("inputs", {}).items()}


def formula(seed: int, gain: float, shape: list[int], rule: str) -> np.ndarray:
    """One tensor of the weight formula; `seed` is `seed_base + k`."""
    z = np.random.RandomState(seed).standard_normal(math.prod(shape)).astype(np.float32)
    values = z * np.float32(gain / math.sqrt(math.prod(shape[1:])) if rule == "matrix" else 0.01)
    if rule == "running_var":
        values = np.abs(values) + np.float32(1)
    elif rule == "norm_weight":
        values = values + np.float32(1)
    elif rule == "unit_vector":
        exact = values.astype(np.float64)
        values = (exact / np.sqrt((exact * exact).sum())).astype(np.float32)
    else:
        assert rule in ("matrix", "vector"), f"unknown rule of the weight formula: {rule}"
    return values.reshape(shape)


def table(name: str) -> list[list]:
    """Rows `[k, tensor name, shape, rule]` of one network in weights.json."""
    return _json("weights.json")["tables"][name]


def fill(
    table_name: str, seed_base: int, gain: float, add_after_fill: Mapping[str, float] | None = None
) -> dict[str, Tensor]:
    """State dict of a network by the weight formula, without the tensors that keep what the constructor gives.

    Both names of an auto-encoder's encoder get the values in effect (those of `encoder.*`), whichever a loader reads.
    """
    state = {
        name: torch.from_numpy(formula(seed_base + k, gain, shape, rule))
        for k, name, shape, rule in table(table_name)
        if rule not in ("untouched", "kept_constant")
    }
    for later, earlier in _ENCODER_ALIASES.items():
        for name in [name for name in state if name.startswith(later)]:
            state[earlier + name.removeprefix(later)] = state[name]
    for name, offset in (add_after_fill or {}).items():
        state[name] = state[name] + offset
    return state


def fill_case(weights: Mapping) -> dict[str, Tensor]:
    """`fill` for the `weights` entry of a case (or one network of a trajectory's entry)."""
    return fill(weights["table"], weights["seed_base"], weights["gain"], weights.get("add_after_fill"))


def load(module: nn.Module, weights: Mapping) -> nn.Module:
    """Fill `module` as a case's `weights` entry says; only tensors the formula leaves alone may be missing."""
    result = module.load_state_dict(own_names(fill_case(weights)), strict=False)
    left_alone = {name for _, name, _, rule in table(weights["table"]) if rule in ("untouched", "kept_constant")}
    assert not result.unexpected_keys, f"tensors the network does not have: {result.unexpected_keys}"
    assert set(result.missing_keys) <= left_alone, f"tensors left unfilled: {set(result.missing_keys) - left_alone}"
    return module


def _double(value: Tensor | np.ndarray | float) -> np.ndarray:
    if isinstance(value, Tensor):
        value = value.detach().cpu().numpy()
    return np.asarray(value, dtype=np.float64)


def _pair(a: Tensor | np.ndarray | float, b: Tensor | np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
    first, second = _double(a), _double(b)
    assert first.shape == second.shape, f"shapes differ: {first.shape} and {second.shape}"
    return first, second


def max_abs(a: Tensor | np.ndarray | float, b: Tensor | np.ndarray | float) -> float:
    """max|a - b|; equal infinities differ by 0."""
    first, second = _pair(a, b)
    with np.errstate(invalid="ignore"):  # inf - inf, where the equality decides
        return float(np.where(first == second, 0.0, np.abs(first - second)).max(initial=0.0))


def rel_max(a: Tensor | np.ndarray | float, b: Tensor | np.ndarray | float) -> float:
    """max|a - b| / max|b|, b being the reference; max|a - b| where the reference is all zero."""
    return max_abs(a, b) / (float(np.abs(_double(b)).max(initial=0.0)) or 1.0)


def rel_l2(a: Tensor | np.ndarray | float, b: Tensor | np.ndarray | float) -> float:
    """||a - b|| / ||b||, b being the reference; ||a - b|| where the reference is all zero."""
    first, second = _pair(a, b)
    return float(np.linalg.norm((first - second).ravel())) / (float(np.linalg.norm(second.ravel())) or 1.0)


def record(case_id: str, what: str, deviation: float, limit: float) -> None:
    """Append one measured deviation to the JSON-lines file `AESOP_GOLDEN_REPORT`, if that is set."""
    if path := os.environ.get("AESOP_GOLDEN_REPORT"):
        with open(path, "a") as report:
            report.write(json.dumps({"case": case_id, "what": what, "deviation": deviation, "limit": limit}) + "\n")


def check(case: Mapping, what: str, deviation: float, limit: float) -> None:
    """Record a deviation, then require it to be within its limit (NaN is not)."""
    record(case["id"], what, deviation, limit)
    assert deviation <= limit, f"{case['id']}, {what}: deviates by {deviation:.3g}, the limit is {limit:.3g}"
