"""Weighted sums of networks of one kind: interpolation between two (DNI, Wang et al., CVPR 2019), averages of several.

Between a network and the one that it was trained from there are good networks, and a little beyond either. Between strangers
there are none, although all tensors fit; `distance` tells them apart.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from aesop.archs import State
from aesop.weights.errors import WeightsError
from aesop.weights.load import load_network

MOST_TEXTURE = 1.5
FAR = 1.0
"""The `distance` from which two networks do not descend from each other. docs/decisions.md lists what was measured."""


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
    """The sum of the parents' weights, each times its share. Shares add up to 1; with a negative one, the sum lies beyond.

    A parent without a share leaves no trace, so with one share of 1 the weights are that parent's, bit for bit. Whole
    numbers, such as BatchNorm's count of batches, are those of the first parent with a share.
    """
    if not abs(sum(shares) - 1) <= 1e-9 or len(shares) != len(parents):
        raise ValueError(f"{len(parents)} networks need as many shares that add up to 1, found {list(shares)}")
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


def distance(first: Parent, other: Parent) -> float:
    """The root mean square difference of two networks' weights, relative to their spread.

    0 for equal weights, 1.41 for independent ones of equal spread: the square is twice one minus their correlation. Of
    each tensor of two or more dimensions, the spread is around its own mean. Tensors that are equal, such as computed
    tables, and biases and gains, which are alike in networks of any descent, do not count.
    """
    difference = spread = 0.0
    for name, value in first.state.items():
        if value.is_floating_point() and value.ndim > 1 and not torch.equal(value, other.state[name]):
            pair = [each.state[name].double() for each in (first, other)]
            difference += (pair[0] - pair[1]).square().sum().item()
            spread += sum((weight - weight.mean()).square().sum().item() for weight in pair) / 2
    return math.sqrt(difference / spread) if difference else 0.0


def with_texture(faithful_file: str, model_file: str, texture: float) -> State:
    """The weights on the line from a faithful (PSNR) network, at 0, over the GAN trained from it, at 1, to 1.5.

    At 0 and 1 they are those of the files, bit for bit. WeightsError if the networks are of different kinds, are the same,
    or do not descend from each other.
    """
    if not 0 <= texture <= MOST_TEXTURE:
        ends = f"0 (the faithful network's picture) over 1 (the model's own) to {MOST_TEXTURE:g}"
        raise ValueError(f"texture goes from {ends}, found {texture:g}")
    model, faithful = load_parents([model_file, faithful_file])
    apart = distance(faithful, model)
    if apart == 0:
        raise WeightsError(
            f"{faithful_file} has the same weights as {model_file}: as the faithful network, give the PSNR network that the "
            "model was trained from"
        )
    if not apart < FAR:
        raise WeightsError(
            f"{model_file} was not trained from {faithful_file}, so there are no useful networks between them: their "
            f"weights differ by {apart:.2f} times their spread (a GAN and the network that it was trained from: below "
            f"{FAR:g}, independent trainings: 1.41). As the faithful network, give the one that the model was trained from"
        )
    return blend([faithful, model], [1 - texture, texture])


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
