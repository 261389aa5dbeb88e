"""Networks that are run and not trained give the same numbers and gradients as they would otherwise."""

import copy

import pytest
import torch
from torch import Tensor, nn

from aesop.archs import build_network
from aesop.archs.frozen import Bf16Copy, LeanConv2d, frozen, in_bf16, without_inputs

GEOMETRIES = [
    dict(kernel_size=3, padding=1), dict(kernel_size=4, stride=2, padding=1, bias=False),
    dict(kernel_size=3, padding=2, dilation=2), dict(kernel_size=3, padding=(1, 0), groups=2), dict(kernel_size=1),
]  # fmt: skip


def gradient(net: nn.Module, x: Tensor, **autocast: bool) -> tuple[Tensor, Tensor]:
    x = x.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, **(autocast or {"enabled": False})):
        y = net(x)
    y.float().square().sum().backward()
    assert x.grad is not None
    return y.detach(), x.grad


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_outputs_and_gradients_are_those_of_a_plain_convolution(geometry, layout, bf16):
    plain = nn.Conv2d(4, 6, **geometry).to(memory_format=layout).requires_grad_(False)
    lean = frozen(copy.deepcopy(nn.Sequential(plain)))
    assert type(lean[0]) is LeanConv2d
    x = torch.randn(2, 4, 9, 8).to(memory_format=layout)
    for ours, theirs in zip(gradient(lean, x, enabled=bf16), gradient(plain, x, enabled=bf16), strict=True):
        assert torch.equal(ours, theirs)


def kept(net: nn.Module, x: Tensor) -> list[tuple[int, ...]]:
    """The shapes of the tensors that autograd keeps."""
    shapes = []

    def note(tensor: Tensor) -> Tensor:
        shapes.append(tuple(tensor.shape))
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        net(x.clone().requires_grad_())
    return shapes


def test_inputs_are_kept_only_while_weights_are_trained():
    net, x = without_inputs(nn.Sequential(nn.Conv2d(3, 5, 3))), torch.rand(1, 3, 8, 8)
    assert (1, 3, 8, 8) in kept(net, x)
    assert kept(net.requires_grad_(False), x) == [(5, 3, 3, 3)]
    assert (1, 3, 8, 8) in kept(net.requires_grad_(True), x)


def test_other_paddings_are_left_alone():
    net = frozen(nn.Sequential(nn.Conv2d(3, 3, 3, padding="same"), nn.Conv2d(3, 3, 3, padding=1, padding_mode="reflect")))
    assert [type(layer) for layer in net] == [nn.Conv2d, nn.Conv2d]


NETWORKS = {
    "rrdbnet": {"type": "RRDBNet", "num_feat": 8, "num_block": 1, "num_grow_ch": 4},
    "swinir": {"type": "SwinIR", "upscale": 4, "img_size": 16, "window_size": 8, "depths": [2], "embed_dim": 12,
               "num_heads": [2], "mlp_ratio": 2, "upsampler": "pixelshuffle", "resi_connection": "1conv"},
    "msrresnet": {"type": "MSRResNet", "num_feat": 8, "num_block": 1},
}  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
def test_bf16_weights_change_nothing_under_autocast(name):
    net = build_network(NETWORKS[name]).eval()
    copied, x = Bf16Copy(net), torch.rand(1, 3, 16, 16)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.01)
        copied.update()
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(copied.copy(x), net(x))
        # CUDA's kernel takes one type for all targets.
        assert {tensor.dtype for tensor in copied.copied} == {torch.bfloat16}
        assert {tensor.dtype for tensor in copied.masters} == {torch.float32}
    assert all(parameter.dtype == torch.float32 for parameter in net.parameters())


def test_only_convolutions_and_linear_layers_are_converted():
    net = in_bf16(nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.Linear(3, 3), nn.LayerNorm(3)))
    assert [next(layer.parameters()).dtype for layer in net] == [torch.bfloat16, torch.float32] * 2
