"""Networks that are run and not trained: no inputs kept for the gradients of weights, weights in bfloat16."""

import copy
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.grad import conv2d_input

from aesop.archs.mixed_precision import product_dtype
from aesop.archs.rrdbnet import rrdbs

Net = TypeVar("Net", bound=nn.Module)


def frozen(net: Net) -> Net:
    """Freeze a network in place for use in a loss: eval mode, no gradients of weights, no inputs kept."""
    return without_inputs(net).eval().requires_grad_(False)


def without_inputs(net: Net) -> Net:
    """Let the network's convolutions keep their input only while their weights need it; in place.

    Autograd keeps the input of every convolution for the gradient of its weight. A loss needs the gradient of the input
    alone, which takes the weight and the input's shape. The gradients are the same, bit for bit.
    """
    for module in net.modules():
        if type(module) is nn.Conv2d and module.padding_mode == "zeros" and not isinstance(module.padding, str):
            module.__class__ = LeanConv2d
    return net


def in_bf16(net: Net) -> Net:
    """Convert the weights to bfloat16 that autocast would convert at every use; in place.

    These are the convolutions and linear layers of its RRDBs, or else of the whole network. Under bfloat16 autocast the
    outputs are the same, bit for bit.
    """
    for part in rrdbs(net) or [net]:
        for module in part.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.to(torch.bfloat16)
    return net


class Bf16Copy:
    """A copy, `in_bf16`, of a network that is averaged elsewhere. It shares all other tensors and is never saved."""

    def __init__(self, net: nn.Module):
        self.copy = in_bf16(copy.deepcopy(net))
        self.copied: list[Tensor] = []
        self.masters: list[Tensor] = []
        for ours, theirs in zip(self.copy.modules(), net.modules(), strict=True):
            ours._buffers = theirs._buffers
            for name, parameter in ours._parameters.items():
                master = theirs._parameters[name]
                if parameter is not None and master is not None and parameter.dtype == torch.bfloat16:
                    self.copied.append(parameter)
                    self.masters.append(master)
                else:
                    ours._parameters[name] = master

    @torch.no_grad()
    def update(self) -> None:
        """Copy the network's weights of now."""
        # One type on each side: with several, PyTorch before 2.11 writes beyond the tensors on CUDA (pytorch#173383).
        torch._foreach_copy_(self.copied, self.masters)


class LeanConv2d(nn.Conv2d):
    def forward(self, input: Tensor) -> Tensor:
        weight, bias = self.weight, self.bias
        trained = weight.requires_grad or (bias is not None and bias.requires_grad)
        if trained or not (input.requires_grad and torch.is_grad_enabled()):
            return super().forward(input)
        dtype = product_dtype(input, weight)
        input, weight, bias = input.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
        return _InputGradient.apply(input, weight, bias, self.stride, self.padding, self.dilation, self.groups)


class _InputGradient(torch.autograd.Function):
    @staticmethod
    def forward(input: Tensor, weight: Tensor, bias: Tensor | None, *geometry: Any) -> Tensor:
        return torch.conv2d(input, weight, bias, *geometry)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        input, weight, _, *ctx.geometry = inputs
        ctx.save_for_backward(weight)
        ctx.shape = input.shape

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (weight,) = ctx.saved_tensors
        gradient = conv2d_input(ctx.shape, weight, grads[0], *ctx.geometry)
        return gradient, None, None, *(None for _ in ctx.geometry)
