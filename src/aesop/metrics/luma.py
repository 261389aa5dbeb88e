"""What metrics do to images before they compare them: rounding to 8 bit, cropping, luma."""

from torch import Tensor

# ITU-R BT.601, studio range: RGB in [0, 1] -> Y in 16..235.
LUMA_WEIGHTS, LUMA_OFFSET = (65.481, 128.553, 24.966), 16.0


def quantise(x: Tensor) -> Tensor:
    """Round images in about [0, 1] to 8 bit: float32 multiples of 1/255 in [0, 1]. Rounds half to even."""
    return x.float().mul(255).clamp(0, 255).round().div(255)


def rgb_to_y(x: Tensor) -> Tensor:
    """RGB (..., 3, H, W) in [0, 1] -> Y (..., 1, H, W): BT.601 studio range (16..235) divided by 255."""
    red, green, blue = (c * x[..., i : i + 1, :, :] for i, c in enumerate(LUMA_WEIGHTS))
    return (red + green + blue + LUMA_OFFSET) / 255


def as_batch(sr: Tensor, hr: Tensor) -> tuple[Tensor, Tensor]:
    """RGB images (N, 3, H, W) or (3, H, W) as (N, 3, H, W). ValueError if their shapes differ."""
    if sr.shape != hr.shape or sr.ndim not in (3, 4) or sr.shape[-3] != 3:
        shapes = f"found {tuple(sr.shape)} and {tuple(hr.shape)}"
        raise ValueError(f"a metric compares RGB images (N, 3, H, W) or (3, H, W) of one size; {shapes}: check the scale")
    return (sr, hr) if sr.ndim == 4 else (sr[None], hr[None])


def crop(x: Tensor, border: int) -> Tensor:
    """Cut `border` pixels off each side of (..., H, W). ValueError if that leaves nothing."""
    if border < 0 or min(x.shape[-2:]) <= 2 * border:
        raise ValueError(f"a border of {border} leaves nothing of {x.shape[-2]}x{x.shape[-1]}: lower crop_border")
    return x[..., border : x.shape[-2] - border, border : x.shape[-1] - border]


def cropped_channels(x: Tensor, crop_border: int, test_y_channel: bool) -> Tensor:
    """Cropped luma (N, 1, h, w) or RGB (N, 3, h, w) in float64."""
    x = crop(x, crop_border)
    x = (x.cpu() if x.device.type == "mps" else x).double()  # MPS has no float64
    return rgb_to_y(x) if test_y_channel else x
