"""An image of any size through a generator, tile by tile."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from aesop.images.tensors import to_array, to_tensor
from aesop.system.device import autocast, is_out_of_memory

OnTile = Callable[[int, int], None]  # (tiles done, tiles in all)
SMALLEST_TILE = 32  # below it most of what is computed is overlap
GRAIN = 4  # sides of tiles and overlaps are multiples of it: the largest unshuffling of an input


@dataclass(frozen=True, slots=True)
class Axis:
    """How one side of an image is cut: tiles of `length` pixels beginning at `starts`."""

    length: int
    starts: tuple[int, ...]

    @classmethod
    def cut(cls, side: int, tile: int, overlap: int, multiple: int) -> "Axis":
        """The fewest tiles of at most `tile` pixels that share at least `overlap`, all as short as that number allows.

        Starts are multiples of `multiple`, as `side` must be: so an unshuffling network groups the same pixels in each.
        """
        if side <= tile:
            return cls(side, (0,))
        count = math.ceil((side - overlap) / (tile - overlap))
        length = _round_up(math.ceil((side + (count - 1) * overlap) / count), GRAIN)
        last = side - length
        return cls(length, tuple(last * i // (count - 1) // multiple * multiple for i in range(count)))

    def weights(self, scale: int, overlap: int) -> list[Tensor]:
        """One (length*scale,) weight per tile; at each output pixel the weights of all tiles sum to one.

        Neighbours are cross-faded around the centre of what they share, over half of `overlap`: the outer quarters,
        where a tile's own border shows most, have weight 0.
        """
        pixels = torch.arange(self.length * scale) + 0.5
        width = max(overlap * scale / 2, 1)  # 1: a hard cut between two pixels
        seams = [(a + self.length + b) / 2 for a, b in pairwise(self.starts)]

        def risen(start: int, seam: float) -> Tensor:
            return ((pixels + (start - seam) * scale) / width + 0.5).clamp(0, 1)

        fade_in = [torch.ones(len(pixels)), *map(risen, self.starts[1:], seams)]
        fade_out = [*map(risen, self.starts[:-1], seams), torch.zeros(len(pixels))]
        return [a - b for a, b in zip(fade_in, fade_out, strict=True)]


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
) -> np.ndarray:
    """RGB image (H, W, 3), uint8 or uint16 -> (H*scale, W*scale, 3) of the same type.

    The model, which must already be on `device` and in eval mode, sees tiles of at most `tile` x `tile` LR pixels that
    overlap by at least `overlap`; float memory is one strip of tiles (tile*scale x W*scale). `tile=0` is the whole
    image at once: what the bare network makes of it, rounded. Where memory does not suffice for tiles they are halved,
    down to 32, and the image begun again. `on_tile(done, total)` is called after each tile.

    Raises:
        ValueError: for an image, tile or overlap of the wrong kind; when the whole image, or tiles of 32, do not fit; when
            the network's output is not `scale` times its input.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype not in (np.uint8, np.uint16) or not image.size:
        raise ValueError(f"expected an RGB image (H, W, 3) of uint8 or uint16, found {image.shape} of {image.dtype}")
    check_tiling(tile, overlap)
    multiple = getattr(model, "size_multiple", 1)
    height, width = (_round_up(side, multiple) for side in image.shape[:2])
    longest = max(height, width)
    whole = tile == 0
    tile = longest if whole or tile >= longest else tile - tile % GRAIN
    overlap = _round_up(overlap, GRAIN)
    while True:
        overlap = min(overlap, tile // 2 // GRAIN * GRAIN)
        rows, columns = (Axis.cut(side, tile, overlap, multiple) for side in (height, width))
        try:
            return _upscale_tiles(model, image, scale, rows, columns, overlap, device, precision, on_tile)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if whole:
                raise ValueError(
                    f"out of memory on {device} for a whole image of {image.shape[1]}x{image.shape[0]}: use tiles "
                    "(upscale: --tile 256, tests and validation: val.tile=256), or another device"
                ) from error
            if tile <= SMALLEST_TILE:
                raise ValueError(
                    f"out of memory on {device} even with --tile {tile}: close other programs or use another --device"
                ) from error
        # Only here, after the except clause, are the error and the tensors of its frames gone.
        if device.type == "cuda":
            torch.cuda.empty_cache()
        tile = max(SMALLEST_TILE, tile // 2 // GRAIN * GRAIN)


def check_tiling(tile: int, overlap: int) -> None:
    """Raises ValueError unless `tile` is 0 or at least 32 and `overlap` at most half of it."""
    if tile and tile < SMALLEST_TILE:
        raise ValueError(f"--tile must be 0 (the whole image at once) or at least {SMALLEST_TILE}, found {tile}")
    if overlap < 0 or (tile and overlap > tile // 2):
        raise ValueError(f"--overlap must lie between 0 and half of --tile {tile}, found {overlap}")


@torch.inference_mode()
def _upscale_tiles(
    model: nn.Module,
    image: np.ndarray,
    scale: int,
    rows: Axis,
    columns: Axis,
    overlap: int,
    device: torch.device,
    precision: str,
    on_tile: OnTile | None,
) -> np.ndarray:
    """The tiles of `rows` x `columns`, blended; where the grid exceeds the image, the excess is cut off again."""
    height, width = (side * scale for side in image.shape[:2])
    tile_h, tile_w = rows.length * scale, columns.length * scale
    out = np.empty((height, width, 3), image.dtype)
    strip = torch.zeros(3, tile_h, columns.starts[-1] * scale + tile_w)
    row_weights, column_weights = rows.weights(scale, overlap), columns.weights(scale, overlap)
    total = len(rows.starts) * len(columns.starts)
    # The CPU's convolutions are faster with a pixel's channels side by side; a network keeps the layout of its input.
    pays = device.type == "cpu" and getattr(model, "channels_last_on_cpu", False)
    layout = torch.channels_last if pays else torch.contiguous_format

    for i, y in enumerate(rows.starts):
        for j, x in enumerate(columns.starts):
            patch = _cut(image, y, x, rows.length, columns.length)
            with autocast(device, precision):
                result = model(to_tensor(patch).unsqueeze(0).to(device, memory_format=layout))
            if result.shape != (1, 3, tile_h, tile_w):
                raise ValueError(
                    f"the network made {tuple(result.shape)} out of {rows.length}x{columns.length} pixels: "
                    f"not an RGB generator of scale {scale}"
                )
            weight = row_weights[i][:, None] * column_weights[j]
            strip[:, :, x * scale : x * scale + tile_w] += result[0].float().cpu() * weight
            if on_tile:
                on_tile(i * len(columns.starts) + j + 1, total)
        # No later strip reaches above its own start: those rows are final, and the few below are carried over.
        top, bottom = y * scale, rows.starts[i + 1] * scale if i + 1 < len(rows.starts) else height
        for left in range(0, width, tile_w):  # by tiles, since rounding takes copies
            right = min(left + tile_w, width)
            out[top:bottom, left:right] = to_array(strip[:, : bottom - top, left:right], image.dtype)
        carried = strip[:, bottom - top :].clone()
        strip.zero_()
        strip[:, : carried.shape[1]] = carried
    return out


def _cut(image: np.ndarray, y: int, x: int, height: int, width: int) -> np.ndarray:
    """Rows y..y+height and columns x..x+width of an (H, W, 3) image, reflected beyond its bottom and right border."""
    patch = image[y : y + height, x : x + width]
    missing = (height - patch.shape[0], width - patch.shape[1])
    if any(missing):  # NumPy reflects as often as it takes, and repeats a single pixel
        patch = np.pad(patch, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="reflect")
    return np.ascontiguousarray(patch)


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple
