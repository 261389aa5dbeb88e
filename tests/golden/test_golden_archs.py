"""Golden parity, group A: outputs, input gradients and buffers of the networks."""

from pathlib import Path

import golden_lib as golden
import pytest
import torch
from torch import Tensor, nn

from aesop.archs import build_network
from aesop.archs.autoencoder import AutoEncoder, ProbabilisticAutoEncoder
from aesop.archs.rrdbnet import RRDBNet
from aesop.archs.vgg import VGGFeatureExtractor
from aesop.weights.load import load_into

FORMER_RRDBNETS = ("RRDBNet_LEGACY", "RRDB_BSRGANNet")  # RRDBNet under former names of its options and tensors
FORMER_NAMES = {"RRDB_trunk": "body", "RDB": "rdb", "trunk_conv": "conv_body", "upconv": "conv_up", "HRconv": "conv_hr"}


def build(case: dict) -> nn.Module:
    args = case["args"]
    if case["callable"] == "VGGFeatureExtractor":
        return VGGFeatureExtractor(**args)
    if case["callable"] in FORMER_RRDBNETS:
        return RRDBNet(args["in_nc"], args["out_nc"], args.get("sf", 4), args["nf"], args["nb"], args["gc"], unshuffle=False)
    return build_network({"type": case["callable"], **args})


def fill(case: dict, net: nn.Module) -> nn.Module:
    if isinstance(net, VGGFeatureExtractor):  # built only as deep as its deepest tap
        net.load_trunk(golden.fill_case(case["weights"]))
        return net
    if case["callable"] in FORMER_RRDBNETS:
        load_into(net, renamed(golden.fill_case(case["weights"])), case["id"])
        return net
    net.register_load_state_dict_pre_hook(linear_as_1x1_convolution)
    return golden.load(net, case["weights"])


def renamed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    for former, name in FORMER_NAMES.items():
        state = {key.replace(former, name): value for key, value in state.items()}
    return state


def linear_as_1x1_convolution(net: nn.Module, state: dict[str, Tensor], *_) -> None:
    """The published DRCT has linear layers where its other implementations have 1x1 convolutions: the same numbers."""
    for name, own in net.state_dict().items():
        if name in state and own.shape == (*state[name].shape, 1, 1):
            state[name] = state[name][:, :, None, None]


def forward(case: dict, net: nn.Module, x: Tensor) -> dict[str, Tensor]:
    if isinstance(net, VGGFeatureExtractor):
        return net(x)
    if isinstance(net, ProbabilisticAutoEncoder):
        return dict(zip(("y", "bottleneck", "sigma"), net(x, return_bottleneck=True, return_sigma=True), strict=True))
    if isinstance(net, AutoEncoder):
        return dict(zip(("y", "bottleneck"), net(x, return_bottleneck=True), strict=True))
    return {"y": net(x)}


def is_full_size(net: nn.Module) -> bool:
    return sum(p.numel() for p in net.parameters()) > 1e7


def test_weight_and_input_formulas_match_bit_for_bit():
    found = [case for case in golden.cases("A") if case["callable"] == "formula"]
    if not found:
        pytest.skip(f"no golden folder at {golden.FOLDER}")
    for case in found:
        base, gain = case["weights"]["seed_base"], case["weights"]["gain"]
        for name, spec in case["outputs"].items():
            stored = golden.tensor(case, name).numpy()
            if "rule" in spec:
                ours = golden.formula(base + spec["k"], gain, spec["shape"], spec["rule"])
            else:
                ours = golden.make_input(case["inputs"][name], case)
            assert (ours == stored).all(), name


@pytest.mark.parametrize("case", golden.params("A", lambda case: case["callable"] != "formula"))
def test_network(case):
    net = fill(case, build(case))
    if case["mode"] == "train" or "one forward of the same input in train mode" in case.get("before", ""):
        net.train()
    x = golden.inputs(case)["x"]
    if case.get("before"):
        with torch.no_grad():
            net(x)
    if case["mode"] == "eval":
        net.eval()
    if not isinstance(net, VGGFeatureExtractor):
        assert sum(p.numel() for p in net.parameters()) == case["n_parameters"]

    x.requires_grad_(True)
    outputs = forward(case, net, x)
    grad_limit = golden.LIMITS["arch_grad_full" if is_full_size(net) else "arch_grad"]
    for name, y in outputs.items():
        scalar_of_batch = case["mode"] == "train" and y.ndim == 2
        limit = golden.LIMITS["arch_scalar_train" if scalar_of_batch else "arch_output"]
        golden.check(case, name, golden.rel_max(y, golden.tensor(case, name)), limit)
        if f"grad_x_of_mean_{name}" in case["outputs"]:
            (grad,) = torch.autograd.grad(y.mean(), x, retain_graph=True)
            reference = golden.tensor(case, f"grad_x_of_mean_{name}")
            golden.check(case, f"grad of {name}", golden.rel_l2(grad, reference), grad_limit)
    if "grad_x_of_sum_of_means" in case["outputs"]:
        (grad,) = torch.autograd.grad(sum(y.mean() for y in outputs.values()), x)
        reference = golden.tensor(case, "grad_x_of_sum_of_means")
        golden.check(case, "grad of taps", golden.rel_l2(grad, reference), golden.LIMITS["arch_grad_full"])
    buffers = dict(net.named_buffers())
    for name in case["outputs"]:
        if name.startswith("buffer_after/"):
            ours = buffers[name.removeprefix("buffer_after/")]
            golden.check(case, name, golden.rel_max(ours, golden.tensor(case, name)), golden.LIMITS["arch_output"])

    expected_norm = case.get("param_grad_l2_of_mean_first_output", {})
    if exact := expected_norm.get("float64"):
        net.zero_grad()
        next(iter(outputs.values())).mean().backward()
        norm = torch.sqrt(sum(p.grad.double().pow(2).sum() for p in net.parameters() if p.grad is not None))
        limit = max(grad_limit, 2 * abs(expected_norm["float32"] / exact - 1))  # the reference's own rounding, doubled
        golden.check(case, "parameter gradient norm", abs(norm.item() / exact - 1), limit)


def test_report_is_written_where_asked(tmp_path: Path, monkeypatch):
    report = tmp_path / "report.jsonl"
    monkeypatch.setenv("AESOP_GOLDEN_REPORT", str(report))
    golden.record("some/case", "y", 1e-7, 2e-5)
    assert '"some/case"' in report.read_text()
