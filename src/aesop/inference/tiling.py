"""Run a generator on an image of any size, tile by tile."""

import math
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from aesop.images.tensors import to_array, to_tensor
from aesop.system.device import autocast, is_out_of_memory

OnTile = Callable[[int, int], None]  # is called with (tiles done, total number of tiles) after each tile
OnRows = Callable[[int, np.ndarray], None]  # is called with (number of the first row, rows), from the top
SMALLEST_TILE = 32  # in smaller tiles, most of the work is overlap
FADE = 8  # input pixels in which one tile replaces the next, at most
GRAIN = 4  # sides of tiles and overlaps are multiples of the largest input unshuffling


class NotFinite(ValueError):
    """A network computed NaN or infinity for a tile, in float32 too."""


@dataclass(frozen=True, slots=True)
class Axis:
    """The tiles along one side of an image: they start at `starts` and have `length` pixels."""

    length: int
    starts: tuple[int, ...]
    overlap: int

    @classmethod
    def cut(cls, side: int, tile: int, overlap: int, multiple: int) -> "Axis":
        """The fewest tiles of at most `tile` pixels that overlap by at least `overlap`, as short as that number allows.

        `side` must be a multiple of `multiple`, and all starts are: a network that unshuffles its input then groups the same
        pixels in every tile.
        """
        if side <= tile:
            return cls(side, (0,), overlap)
        count = math.ceil((side - overlap) / (tile - overlap))
        length = _round_up(math.ceil((side + (count - 1) * overlap) / count), GRAIN)
        starts = tuple((side - length) * i // (count - 1) // multiple * multiple for i in range(count))
        return cls(length, starts, overlap)

    def weights(self, scale: int) -> Tensor:
        """The weights (number of tiles, length*scale). At each output pixel, the weights of all tiles sum to one.

        Neighbouring tiles cross-fade in the middle of `overlap`, in at most half of it and FADE pixels. Further out, where
        the borders of tiles show most, the weight is 0 or 1.
        """
        pixels = torch.arange(self.length * scale) + 0.5
        width = max(min(self.overlap / 2, FADE) * scale, 1)  # 1: a hard cut between two pixels
        seams = [(a + self.length + b) / 2 for a, b in pairwise(self.starts)]

        def risen(start: int, seam: float) -> Tensor:
            return ((pixels + (start - seam) * scale) / width + 0.5).clamp(0, 1)

        fade_in = [torch.ones(len(pixels)), *map(risen, self.starts[1:], seams)]
        fade_out = [*map(risen, self.starts[:-1], seams), torch.zeros(len(pixels))]
        return torch.stack(fade_in) - torch.stack(fade_out)


def upscale_image(
    model: nn.Module,
    image: np.ndarray,
    scale: int,
    *,
    tile: int = 256,
    overlap: int = 16,
    device: torch.device,
    precision: str = "fp32",
    on_tile: OnTile | None = None,
    finite: bool = False,
) -> np.ndarray:
    """Upscale an image (H, W, C) of uint8, uint16, or float32 in [0, 1], to (H*scale, W*scale, C) of the same type.

    Several images (N, H, W, C) pass the network together, tile by tile. See `upscale_by_rows`.
    """
    _check_image(image)
    *several, height, width, channels = image.shape
    out = np.empty((*several, height * scale, width * scale, channels), image.dtype)

    def keep(top: int, rows: np.ndarray) -> None:
        out[..., top : top + rows.shape[-3], :, :] = rows

    upscale_by_rows(
        model,
        image,
        scale,
        keep,
        tile=tile,
        overlap=overlap,
        device=device,
        precision=precision,
        on_tile=on_tile,
        finite=finite,
    )
    return out


def upscale_by_rows(
    model: nn.Module,
    image: np.ndarray,
    scale: int,
    on_rows: OnRows,
    *,
    tile: int = 256,
    overlap: int = 16,
    device: torch.device,
    precision: str = "fp32",
    on_tile: OnTile | None = None,
    finite: bool = False,
) -> None:
    """Upscale an image as `upscale_image` does, and pass rows of the result on as soon as they are computed.

    The model takes and returns C channels. With `finite`, a tile that becomes NaN or infinite is computed again in float32,
    and NotFinite is raised if that does not help; without, NaN becomes black.

    The model, on `device` and in eval mode, sees tiles of at most `tile` x `tile` LR pixels that overlap by at least
    `overlap`. Only one strip of tiles (tile*scale x W*scale) is kept as floats, on the device. If that does not fit into
    memory, the image starts again from its top with tiles of half the size, down to 32. `tile=0` runs the network on the
    whole image. What is done for CUDA alone was checked without a GPU.
    """
    _check_image(image)
    check_tiling(tile, overlap)
    multiple = getattr(model, "size_multiple", 1)
    height, width = (_round_up(side, multiple) for side in image.shape[-3:-1])
    longest = max(height, width)
    whole = tile == 0
    tile = longest if whole or tile >= longest else tile - tile % GRAIN
    overlap = _round_up(overlap, GRAIN)
    # A network keeps the memory format of its input. Tensor cores compute 16-bit convolutions in channels_last.
    is_gpu = device.type == "cuda"
    is_faster = precision != "fp32" if is_gpu else device.type == "cpu" and getattr(model, "channels_last_on_cpu", False)
    memory_format = torch.channels_last if is_faster else torch.contiguous_format

    def run(patches: np.ndarray, network: nn.Module = model) -> Tensor:
        x = torch.stack([to_tensor(patch) for patch in patches])
        x = (x.pin_memory() if is_gpu else x).to(device, non_blocking=is_gpu)
        return network(x.contiguous(memory_format=memory_format))

    def run_exactly(patches: np.ndarray) -> Tensor:
        with torch.autocast(device.type, enabled=False):
            return run(patches, getattr(model, "original", model))

    while True:
        overlap = min(overlap, tile // 2 // GRAIN * GRAIN)
        rows, columns = (Axis.cut(side, tile, overlap, multiple) for side in (height, width))
        try:
            with _casting_once(model, device, precision):
                images = image.reshape(-1, *image.shape[-3:])
                pass_on = on_rows if image.ndim == 4 else lambda top, made: on_rows(top, made[0])
                _upscale_tiles(run, images, scale, rows, columns, device, pass_on, on_tile, run_exactly if finite else None)
                return
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if whole or tile <= SMALLEST_TILE:
                size = f"a whole image of {image.shape[-2]}x{image.shape[-3]}"
                part = f"{size}: use tiles of 256 pixels" if whole else f"tiles of {tile} pixels: close programs"
                raise ValueError(f"out of memory on {device} for {part} or use another device") from error
        torch.cuda.empty_cache()  # the error and the tensors of its frames are freed only after the except clause
        tile = max(SMALLEST_TILE, tile // 2 // GRAIN * GRAIN)


def _check_image(image: np.ndarray) -> None:
    if image.ndim not in (3, 4) or image.dtype not in (np.uint8, np.uint16, np.float32) or not image.size:
        found = f"{image.shape} of {image.dtype}"
        raise ValueError(f"expected an image (H, W, C) of uint8, uint16 or float32, found {found}")


def check_tiling(tile: int, overlap: int) -> None:
    """Raise ValueError unless `tile` is 0 or at least 32, and `overlap` at most half of it."""
    if tile and tile < SMALLEST_TILE:
        raise ValueError(f"tile must be 0 (the whole image at once) or at least {SMALLEST_TILE}, found {tile}")
    if overlap < 0 or (tile and overlap > tile // 2):
        raise ValueError(f"overlap must be between 0 and half of the tile size {tile}, found {overlap}")


@contextmanager
def _casting_once(model: nn.Module, device: torch.device, precision: str) -> Generator[None]:
    """Run all tiles in one autocast, which casts each weight once: outside inference mode, it keeps casts of weights that
    require gradients. For this time, all weights do.
    """
    if precision == "fp32":
        with torch.inference_mode():
            yield
        return
    frozen = [w for w in model.parameters() if w.is_floating_point() and not (w.requires_grad or w.is_inference())]
    try:
        with torch.no_grad(), autocast(device, precision):
            for weight in frozen:
                weight.requires_grad_(True)
            yield
    finally:
        for weight in frozen:
            weight.requires_grad_(False)


def _upscale_tiles(
    run: Callable[[np.ndarray], Tensor],
    images: np.ndarray,
    scale: int,
    rows: Axis,
    columns: Axis,
    device: torch.device,
    on_rows: OnRows,
    on_tile: OnTile | None,
    run_exactly: Callable[[np.ndarray], Tensor] | None,
) -> None:
    """Blend the tiles of `rows` x `columns` on the device, and cut off what exceeds the images.

    A tile that is not finite counts as zero until its strip is complete; then `run_exactly` computes it. So a GPU is asked
    once per strip.
    """
    count, channels = len(images), images.shape[3]
    height, width = (side * scale for side in images.shape[1:3])
    tile_h, tile_w = rows.length * scale, columns.length * scale
    strip = torch.zeros(count, channels, tile_h, columns.starts[-1] * scale + tile_w, device=device)
    row_weights, column_weights = (axis.weights(scale).to(device) for axis in (rows, columns))
    rounded = tile_w if device.type == "cpu" else width  # columns at once: rounding makes copies, and fetching waits

    def patches_at(y: int, x: int) -> np.ndarray:
        patches = images[:, y : y + rows.length, x : x + columns.length]
        missing = ((0, 0), (0, rows.length - patches.shape[1]), (0, columns.length - patches.shape[2]), (0, 0))
        return np.pad(patches, missing, mode="reflect")  # NumPy also reflects repeatedly, and repeats a single pixel

    def add(result: Tensor, i: int, j: int) -> None:
        x = columns.starts[j] * scale
        strip[..., x : x + tile_w] += result.float() * (row_weights[i][:, None] * column_weights[j])

    for i, y in enumerate(rows.starts):
        broken: list[Tensor] = []
        for j, x in enumerate(columns.starts):
            result = run(patches_at(y, x))
            if result.shape != (count, channels, tile_h, tile_w):
                made = f"{tuple(result.shape)} for {rows.length}x{columns.length} pixels"
                kind = {1: "a gray", 3: "an RGB"}.get(channels, f"a {channels}-channel")
                raise ValueError(f"the network returned {made}: not {kind} generator of scale {scale}")
            if run_exactly:
                broken.append(~torch.isfinite(result).all())
                result = torch.where(broken[-1], 0, result)
            add(result, i, j)
            if on_tile:
                on_tile(i * len(columns.starts) + j + 1, len(rows.starts) * len(columns.starts))
        if run_exactly:
            for j in torch.stack(broken).cpu().nonzero()[:, 0].tolist():
                result = run_exactly(patches_at(y, columns.starts[j]))
                if not torch.isfinite(result).all():
                    raise NotFinite(
                        f"the network computes NaN or infinity for the {columns.length}x{rows.length} pixels at "
                        f"({columns.starts[j]}, {y}), in float32 too: its weights are damaged, or do not suit this picture"
                    )
                add(result, i, j)
        # Rows above the start of the next strip are final. The rows below are carried over.
        top, bottom = y * scale, rows.starts[i + 1] * scale if i + 1 < len(rows.starts) else height
        made = np.empty((count, bottom - top, width, channels), images.dtype)
        for left in range(0, width, rounded):
            right = min(left + rounded, width)
            for image, part in zip(made, strip[..., : bottom - top, left:right], strict=True):
                image[:, left:right] = to_array(part, images.dtype)
        on_rows(top, made)
        if bottom < height:
            carried = strip[..., bottom - top :, :].clone()  # less than a second strip
            strip.zero_()[..., : carried.shape[-2], :] = carried


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple
