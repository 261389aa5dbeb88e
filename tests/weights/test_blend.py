"""Weighted sums of networks: closed forms, and what does not fit together."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aesop.archs import build_network
from aesop.weights.blend import FAR, Parent, blend, distance, load_parents
from aesop.weights.errors import WeightsError
from aesop.weights.save import save_pth, save_weights

RRDB = {"type": "RRDBNet", "scale": 4, "num_feat": 8, "num_block": 1, "num_grow_ch": 4}


def parent(state: dict) -> Parent:
    return Parent("a", state, RRDB, 4)


def write(path, seed: int = 0, **options) -> str:
    torch.manual_seed(seed)
    described = RRDB | options
    save_weights(path, build_network(described).state_dict(), {"network": json.dumps(described)})
    return str(path)


values = st.lists(
    st.floats(width=32, allow_nan=False, allow_infinity=False, min_value=-(2.0**100), max_value=2.0**100),
    min_size=3,
    max_size=3,
)


@settings(max_examples=100, deadline=None)
@given(values, values)
def test_the_ends_are_the_parents_bit_for_bit(a, b):
    """Also where the other parent's weight is many orders of magnitude larger, and for -0."""
    first, second = (torch.tensor([*numbers, -0.0, 0.0]) for numbers in (a, b))
    parents = [parent({"w": first}), parent({"w": second})]
    for shares, expected in (([1, 0], first), ([0, 1], second)):
        assert torch.equal(blend(parents, shares)["w"].view(torch.int32), expected.view(torch.int32))


@settings(max_examples=60, deadline=None)
@given(values, st.integers(2, 12))
def test_the_average_of_equal_networks_is_that_network(numbers, count):
    weight = torch.tensor(numbers)
    assert torch.equal(blend([parent({"w": weight})] * count, [1 / count] * count)["w"], weight)


def test_a_blend_is_the_weighted_sum():
    a, b, c = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
    mixed = blend([parent({"w": w}) for w in (a, b, c)], [0.5, 0.2, 0.3])["w"]
    torch.testing.assert_close(mixed, 0.5 * a + 0.2 * b + 0.3 * c)
    assert mixed.dtype == torch.float32


def test_whole_numbers_are_those_of_the_first_parent_with_a_share():
    parents = [parent({"n": torch.tensor(k)}) for k in (3, 7, 9)]
    assert blend(parents, [0, 0.5, 0.5])["n"] == 7


def test_a_negative_share_goes_beyond_a_parent():
    a, b = torch.randn(2, 5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(blend([parent({"w": a}), parent({"w": b})], [-0.3, 1.3])["w"], b + 0.3 * (b - a))


def test_the_distance_is_twice_one_minus_the_correlation():
    generator = torch.Generator().manual_seed(0)
    a, noise = torch.randn(2, 64, 64, generator=generator, dtype=torch.float64)
    for share in (0.0, 0.3, 0.9, 1.0):
        b = (1 - share**2) ** 0.5 * a + share * noise
        b = (b - b.mean()) * (a.std() / b.std()) + a.mean()
        states = [{"w": w, "bias": torch.full((64,), k), "table": torch.eye(9)} for k, w in ((1.0, a), (9.0, b))]
        correlation = torch.corrcoef(torch.stack([a.ravel(), b.ravel()]))[0, 1].item()
        expected = max(2 * (1 - correlation), 0) ** 0.5
        assert distance(*map(parent, states)) == pytest.approx(expected, abs=1e-6)
    assert distance(*map(parent, states)) > FAR


@pytest.mark.parametrize("shares", [[0.5, 0.4], [1.5, -0.4], [1.0], [float("nan"), 0]])
def test_shares_must_add_up(shares):
    with pytest.raises(ValueError, match="shares that add up to 1"):
        blend([parent({"w": torch.zeros(1)})] * 2, shares)


def test_files_of_any_project_can_be_blended(tmp_path):
    first = write(tmp_path / "a.safetensors", 1)
    torch.manual_seed(2)
    other = build_network(RRDB).state_dict()
    save_pth(tmp_path / "b.pth", {"params_ema": other})
    parents = load_parents([first, str(tmp_path / "b.pth")])
    mixed = blend(parents, [0.25, 0.75])
    for name, value in parents[0].state.items():
        torch.testing.assert_close(mixed[name], 0.25 * value + 0.75 * other[name])


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        (
            {"num_feat": 12},
            r"a\.safetensors has num_feat 8, .*b\.safetensors has num_feat 12 .*conv_first\.weight: \(8, 3, 3, 3\)",
        ),
        (
            {"scale": 2},
            r"a\.safetensors has scale 4, .*b\.safetensors has scale 2 .*conv_first\.weight: \(8, 3, 3, 3\) and \(8, 12,",
        ),
        ({"num_block": 2}, r"has num_block 1, .*has num_block 2 .*first tensor that differs is body\.1\..*missing and"),
    ],
)
def test_what_does_not_fit_is_named(options, fault, tmp_path):
    files = [write(tmp_path / "a.safetensors"), write(tmp_path / "b.safetensors", **options)]
    with pytest.raises(WeightsError, match=fault):
        load_parents(files)


def test_another_architecture_is_named(tmp_path):
    described = {"type": "MSRResNet", "upscale": 4, "num_feat": 8, "num_block": 1}
    save_weights(tmp_path / "b.safetensors", build_network(described).state_dict(), {"network": json.dumps(described)})
    with pytest.raises(WeightsError, match=r"a\.safetensors has type RRDBNet, .*b\.safetensors has type MSRResNet"):
        load_parents([write(tmp_path / "a.safetensors"), str(tmp_path / "b.safetensors")])
