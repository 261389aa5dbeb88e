"""How far a network looks: the input pixels on which an output pixel depends."""

import torch
from torch import Tensor, nn

SHARE = 0.99


def receptive_field(net: nn.Module, image: Tensor) -> int | None:
    """The side, in input pixels, of the smallest square around the middle of an image that holds 99 % of the gradient there.

    The gradient is that of the sum of the output pixels at the middle input pixel, by an image (1, C, side, side); its
    absolute values count. So the result holds for this image, and is at most its side. None for a network without a gradient
    in eval mode: RealPLKSR changes its features in place then.
    """
    image = image.clone().requires_grad_()
    side, middle = image.shape[-1], image.shape[-1] // 2
    made = net(image)
    scale = made.shape[-1] // side
    pixel = slice(middle * scale, (middle + 1) * scale)
    try:
        (gradient,) = torch.autograd.grad(made[..., pixel, pixel].sum(), image)
    except RuntimeError as error:
        if "inplace" not in str(error):
            raise
        return None
    seen = gradient.abs().sum((0, 1))
    for reach in range(middle):
        square = slice(middle - reach, middle + reach + 1)
        if seen[square, square].sum() >= SHARE * seen.sum():
            return 2 * reach + 1
    return side
