"""Weighted sums of networks of one kind: interpolation between two (DNI, Wang et al., CVPR 2019), averages of several."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from aesop.archs import State
from aesop.weights.errors import WeightsError
from aesop.weights.load import load_network


@dataclass(frozen=True)
class Parent:
    """A network that goes into a blend: its weights with our names in float32, and its options."""

    file: str
    state: State
    options: Mapping[str, Any]
    scale: int
    metadata: Mapping[str, str] = field(default_factory=dict)


def load_parents(files: Sequence[str]) -> list[Parent]:
    """The networks of weight files of any project. WeightsError names what of a file does not fit the first one."""
    parents = []
    for file in files:
        net, info = load_network(file)
        parents.append(Parent(file, net.state_dict(), info.options, info.scale, info.metadata))
        _check_fit(parents[0], parents[-1])
    return parents


def blend(parents: Sequence[Parent], shares: Sequence[float]) -> State:
    """The sum of the parents' weights, each times its share. The shares add up to 1.

    A parent without a share leaves no trace, so with one share of 1 the weights are that parent's, bit for bit. Whole
    numbers, such as BatchNorm's count of batches, are those of the first parent with a share.
    """
    if any(share < 0 for share in shares) or abs(sum(shares) - 1) > 1e-9 or len(shares) != len(parents):
        raise ValueError(f"{len(parents)} networks need as many shares from 0 on that add up to 1, found {list(shares)}")
    used = [(parent.state, share) for parent, share in zip(parents, shares, strict=True) if share]
    first, _ = used[0]
    if len(used) == 1:
        return dict(first)
    # In float64, so that the mean of equal weights is that weight.
    mixed = dict(first)
    for name, value in first.items():
        if value.is_floating_point():
            total = torch.zeros_like(value, dtype=torch.float64)
            for state, share in used:
                total += share * state[name].double()
            mixed[name] = total.to(value.dtype)
    return mixed


def _check_fit(first: Parent, other: Parent) -> None:
    """Raise WeightsError for another architecture, other options, or tensors of other shapes."""
    shared = first.options.keys() & other.options.keys()
    for name in ["type", "scale", *first.options]:
        if name in shared and first.options[name] != other.options[name]:
            here, there = (f"{each.file} has {name} {each.options[name]}" for each in (first, other))
            raise WeightsError(f"only networks of one kind can be blended: {here}, {there}{_first_difference(first, other)}")
    if difference := _first_difference(first, other):
        raise WeightsError(f"{first.file} and {other.file} cannot be blended{difference}")


def _first_difference(first: Parent, other: Parent) -> str:
    """Where the tensors of two networks differ first; "" if all have the same shapes."""
    for name in [*first.state, *other.state]:
        shapes = [tuple(each.state[name].shape) if name in each.state else "missing" for each in (first, other)]
        if shapes[0] != shapes[1]:
            return f" (the first tensor that differs is {name}: {shapes[0]} and {shapes[1]})"
    return ""
