"""`aesop.Upscaler`: enlarging pictures in memory, whatever their kind, depth and channels."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from numbers import Real
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
import PIL.Image
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aesop.archs.rrdbnet import RRDBNet
from aesop.images.tensors import ImageArray
from aesop.inference.alpha import ALPHA_METHODS, enlarged_alpha, has_sharp_edges, mended_colours
from aesop.inference.consistent import made_consistent
from aesop.inference.final_size import sides_at
from aesop.inference.hallucination import HallucinationMap, expected_error, is_calibrated_for
from aesop.inference.models import find_faithful, find_model
from aesop.inference.runtimes import RUNTIMES, with_runtime
from aesop.inference.shipped_models import CLEAN
from aesop.inference.suitable_model import suitable_model
from aesop.inference.tiling import NotFinite, OnRows, check_tiling, upscale_by_rows, upscale_image
from aesop.inference.turned import EightWays
from aesop.pictures.picture import Frame
from aesop.system.device import Float32InThreads, fastest_precision, pick_device, threads_on_cpu
from aesop.system.files import sha256_of
from aesop.weights.blend import with_texture
from aesop.weights.load import load_picture_generator

Image = TypeVar("Image", np.ndarray, PIL.Image.Image, Tensor)
OnProgress = Callable[[float], None]  # is called with the part of a frame that is done, up to 1
_float32 = Float32InThreads()
PRECISIONS = ("auto", "fp32", "bf16", "fp16")
LUMA = (0.299, 0.587, 0.114)  # BT.601, as in JPEG files
# Tiles and their overlap, by the number of parameters from which they hold: larger networks look further. With these,
# pictures of the three measured networks differ from those without tiles by at most one level of 8 bits
# (benchmarks/tile_borders.py).
TILINGS = {10_000_000: (512, 152), 2_000_000: (512, 108), 0: (256, 24)}
FRAMES_ON_GPU = 4  # of a video at once; if memory does not suffice for their tiles together, tiles become smaller


class Upscaler:
    """Enlarges pictures with a network: `Upscaler()(image)`. The network is loaded once, when the object is made.

    Args:
        model: a weight file of any architecture that aesop knows, the name of a model in `AESOP_MODELS` or the user's
            data folder, `hf:owner/name`, which is downloaded, or one that comes with aesop: `clean` (x4), `web` (x4, for
            compressed pictures), or `x2` (for clean ones); default: `clean`.
        device: auto, cpu, cuda, cuda:N or mps.
        precision: how 8-bit pictures are computed: fp32, bf16, fp16 (GPUs only), or auto: for RRDBNet the fastest of them on
            this device, for other networks fp32. Other pictures are always computed in float32.
        tile: the longest side of the tiles that the network sees, in input pixels; 0: the whole picture; default: 256, or
            512 for large networks.
        overlap: how much tiles overlap, in input pixels; default: 24 to 152, by the size of the network.
        runtime: pytorch, openvino, or onnxruntime; networks that were converted are kept in the user's cache folder.
        alpha: how transparency is enlarged: network, bicubic, or auto, which uses the network for shapes with sharp edges.
        tta: whether to return the mean over the eight ways to turn and mirror the picture, which takes eight times as long.
        threads: how many threads compute on a CPU; default: PyTorch's number.
        texture: how much texture the network adds, from 0, the picture of `faithful_model`, over 1, that of `model`, to 1.5,
            by weights on the line through both; default: `model` alone.
        faithful_model: the PSNR network from which `model` was trained, as file or name; default: that of a model that comes
            with aesop.
        consistent: whether to change results as little as possible, so that they become the input when they are reduced by
            MATLAB's bicubic interpolation.

    Attributes:
        name: what the model is called.
        scale: how much the network enlarges.
        precision: how 8-bit pictures are computed: fp32, bf16, or fp16.
        weights: names the weights: the SHA-256 of the file; with `texture`, of both files, and the texture.
        lr_psnr: with `consistent`, the PSNR in dB between the input and the reduced result of the last picture, or the
            lowest, if it passed the network several times; otherwise infinite.
        notes: lines about what differs from what was asked for.

    Raises:
        WeightsError: the model is not found, or is none that can be used here.
        ValueError: another argument has no meaning on this machine.
    """

    def __init__(
        self,
        model: str | Path | None = None,
        device: str = "auto",
        precision: str = "auto",
        tile: int | None = None,
        overlap: int | None = None,
        runtime: str = "pytorch",
        alpha: str = "auto",
        tta: bool = False,
        threads: int | None = None,
        texture: float | None = None,
        faithful_model: str | Path | None = None,
        consistent: bool = False,
    ):
        if tile is not None:
            check_tiling(tile, overlap or 0)
        if alpha not in ALPHA_METHODS:
            raise ValueError(f"unknown method for alpha {alpha!r}: use {', '.join(ALPHA_METHODS)}")
        if precision not in PRECISIONS:
            raise ValueError(f"unknown precision {precision!r}: use {', '.join(PRECISIONS)}")
        if threads is not None and threads < 1:
            raise ValueError(f"threads must be at least 1, found {threads}")
        self.device, self.alpha, self.threads = pick_device(device), alpha, threads
        if faithful_model is not None and texture is None:
            raise ValueError("a faithful model has no meaning without a texture: give --texture, from 0 to 1.5")
        self.runtime, self.tta, self.texture, self.consistent = runtime, tta, texture, consistent
        self.lr_psnr = math.inf
        path = find_model(model)
        net, info, channels = load_picture_generator(path)
        self.weights = sha256_of(path)
        if texture is not None:
            faithful = find_faithful(faithful_model, path)
            net.load_state_dict(with_texture(str(faithful), str(path), texture))
            self.weights = f"{sha256_of(faithful)} {self.weights} {float(texture)!r}"
        self.name, self.scale = path.stem, info.scale
        if consistent and self.scale == 1:
            raise ValueError(f"{path.name} does not enlarge: a consistent result would be the input itself")
        usual_tile, usual_overlap = default_tiling(net)
        self.tile = usual_tile if tile is None else tile
        self.overlap = usual_overlap if overlap is None else overlap
        borders = None
        if overlap is None and 0 < self.tile < 2 * self.overlap:
            self.overlap = self.tile // 2
            borders = (
                f"tiles of {self.tile} pixels overlap by {self.overlap} instead of {usual_overlap}, so their borders may "
                f"show (not from --tile {2 * usual_overlap} on)"
            )
        check_tiling(self.tile, self.overlap)
        self.precision, fallback = _precision_for(net, precision, self.device, runtime)
        with threads_on_cpu(threads):
            net, line = with_runtime(net.to(self.device), runtime, self.device, self.precision, channels, self.weights)
        self.notes = tuple(note for note in (fallback, line, borders) if note)
        if tta:
            net = EightWays(net)
        self._takes_colour = channels == 3
        self._gray = _OnGray(net) if self._takes_colour else net
        self._network = net

    def __call__(self, image: Image, scale: float | None = None) -> Image:
        """Enlarge a picture; the result has its kind, type and channels, and gray pictures stay gray.

        Args:
            image: one of

                - a NumPy array of uint8, uint16, or floating point in [0, 1]: (H, W) gray, (H, W, 2) gray and alpha,
                  (H, W, 3) RGB, or (H, W, 4) RGB and alpha;
                - a Pillow image of mode L, LA, RGB, RGBA, I;16, F in [0, 1], or with a palette, which becomes RGB or RGBA.
                  It is not turned as its Exif orientation says, and its `info` (profile, Exif, ...) is kept;
                - a floating-point tensor in [0, 1], (C, H, W) or (N, C, H, W), of the same channels, on any device.

                Colours are not multiplied by alpha. All is computed in float32 (or bfloat16, see `precision`).
            scale: how much to enlarge; default: the network's scale. For more, the network runs repeatedly; what is then
                too large is reduced with antialiasing.

        Raises:
            ValueError: the image is none of these, has several frames, or has values outside [0, 1]; or the network makes
                NaN of it.
        """
        if scale is not None and not (isinstance(scale, Real) and 0 < scale < 1000):
            raise ValueError(f"scale must be a number above 0 and below 1000, found {scale!r}")
        kinds = ((PIL.Image.Image, self._of_pil), (Tensor, self._of_tensor), (np.ndarray, self._of_array))
        convert: Any = next((convert for kind, convert in kinds if isinstance(image, kind)), None)
        if convert is None:
            kind = type(image).__name__
            raise ValueError(
                f"expected a NumPy array, a Pillow image or a tensor, found a {kind}: open files with PIL.Image"
            )
        return convert(image, scale)

    def upscale_frame(self, frame: Frame, scale: float | None = None, on_progress: OnProgress | None = None) -> Frame:
        """Enlarge a frame of a picture; float32 values beyond [0, 1] stay in proportion.

        With alpha, the network sees colours in which those of invisible pixels are replaced by their neighbours'.
        """
        rows, columns = frame.pixels.shape[:2]
        wanted = list(sides_at(scale or self.scale, columns, rows))[::-1]
        self.lr_psnr = math.inf
        while True:
            frame = self._once(frame, on_progress)
            height, width = frame.pixels.shape[:2]
            if (height >= wanted[0] and width >= wanted[1]) or self.scale == 1:
                break
        if [height, width] != wanted:
            shrunk = [None if part is None else _shrunk(part, *wanted) for part in (frame.pixels, frame.alpha)]
            frame = replace(frame, pixels=shrunk[0], alpha=shrunk[1])
        return frame

    def can_go_by_rows(self, frame: Frame, scale: float) -> bool:
        """Whether `upscale_by_rows` can enlarge a frame: by the network's scale, without transparency, not `consistent`."""
        height, width = frame.pixels.shape[:2]
        if self.consistent or frame.alpha is not None or (frame.pixels.ndim == 3 and not self._takes_colour):
            return False  # a part goes another way than through the network, or needs the whole result
        return sides_at(scale, width, height) == (width * self.scale, height * self.scale)

    def upscale_by_rows(self, frame: Frame, on_rows: OnRows, on_progress: OnProgress | None = None) -> None:
        """Enlarge a frame for which `can_go_by_rows`, and pass rows of its pixels on as soon as they are computed."""
        image = frame.pixels
        low, high = _range(image)
        if (low, high) != (0, 1):
            image = (image - low) / (high - low)

        def pass_on(top: int, rows: ImageArray) -> None:
            rows = rows[..., 0] if image.ndim == 2 else rows
            on_rows(top, rows if (low, high) == (0, 1) else rows * (high - low) + low)

        def on_tile(tiles: int, total: int) -> None:
            if on_progress:
                on_progress(tiles / total)

        self._run(self._gray if image.ndim == 2 else self._network, np.atleast_3d(image), on_tile, pass_on)

    def hallucination_map(self, low: Frame | np.ndarray, made: Frame | np.ndarray) -> HallucinationMap:
        """Map the error to expect of a result.

        It is calibrated for the clean x4 model that comes with aesop, at its own scale, without `texture`, `consistent`, and
        `tta`, and for pictures without traces of compression.

        Args:
            low: the input, a frame or a NumPy array as the upscaler takes them.
            made: what this upscaler made of it, of the same kind.
        """
        low, made = (each if isinstance(each, Frame) else _frame(each) for each in (low, made))
        height, width = low.pixels.shape[:2]
        own_scale = made.pixels.shape[:2] == (height * self.scale, width * self.scale)
        colours = low.pixels if low.alpha is None else mended_colours(low.pixels, low.alpha)
        first, last = _range(colours)
        images = [colours, made.pixels]
        if (first, last) != (0, 1):
            images = [(image - first) / (last - first) for image in images]
        is_calibrated = is_calibrated_for(self.weights) and own_scale and not (self.consistent or self.tta)
        is_calibrated = is_calibrated and suitable_model(images[0], None) == CLEAN
        with threads_on_cpu(self.threads):
            return expected_error(images[0], images[1], self.device, is_calibrated)

    @property
    def at_once(self) -> int:
        """How many frames of a video to enlarge together. More than one gains nothing on a CPU."""
        return FRAMES_ON_GPU if self.device.type == "cuda" and self.tile else 1

    def upscale_video_frames(self, frames: Sequence[ImageArray], size: tuple[int, int]) -> list[ImageArray]:
        """Enlarge frames (H, W, 3) of one size, uint8 or uint16, to `size` (width, height), together."""
        width, height = size
        images = np.stack(frames)
        self.lr_psnr = math.inf
        while True:
            low = images
            if self._takes_colour:
                images = self._run(self._network, low, None)
            else:
                images = np.stack([self._through_network(image, None) for image in low])
            if self.consistent:
                images = np.stack([self._made_consistent(*pair) for pair in zip(images, low, strict=True)])
            rows, columns = images.shape[1:3]
            if (rows >= height and columns >= width) or self.scale == 1:
                break
        return list(images) if (rows, columns) == (height, width) else [_shrunk(image, height, width) for image in images]

    def memory_of(self, frame: Frame, scale: float) -> int:
        """How many bytes of main memory `upscale_frame` takes for arrays, its result included. The network's come on top."""
        height, width = frame.pixels.shape[:2]
        wanted_width, wanted_height = sides_at(scale, width, height)
        while True:
            mending = 60 * height * width if frame.alpha is not None else 0  # as floats, before the result is there
            height, width = height * self.scale, width * self.scale
            if (height >= wanted_height and width >= wanted_width) or self.scale == 1:
                break
        of_pixel = frame.pixels.dtype.itemsize * ((3 if frame.pixels.ndim == 3 else 1) + (frame.alpha is not None))
        made, area = height * width * of_pixel, height * width
        meanwhile = [0]
        if frame.alpha is not None:
            meanwhile.append(4 * frame.alpha.dtype.itemsize * area)
        if frame.pixels.ndim == 3 and not self._takes_colour:
            meanwhile.append(30 * area)  # chroma is enlarged as floats
        if self.consistent:
            meanwhile.append(of_pixel * area + 16 * area)  # a second result, and a channel as floats
        if (height, width) != (wanted_height, wanted_width):
            meanwhile.append(12 * area + wanted_height * wanted_width * of_pixel)
        return max(mending, made + max(meanwhile))

    def _once(self, frame: Frame, on_progress: OnProgress | None) -> Frame:
        colours, alpha = frame.pixels, frame.alpha
        by_network = alpha is not None and (
            self.alpha == "network" or (self.alpha == "auto" and alpha.min() < alpha.max() and has_sharp_edges(alpha))
        )
        passes = 2 if by_network else 1
        done = 0

        def on_tile(tiles: int, total: int) -> None:
            if on_progress:
                on_progress(min((done + tiles / total) / passes, 1))

        if alpha is not None:
            colours = mended_colours(colours, alpha)
        pixels = self._enlarged(colours, on_tile)
        done = 1
        if alpha is not None:
            method = "network" if by_network else "bicubic"
            alpha = enlarged_alpha(alpha, self.scale, method, lambda gray: self._enlarged(gray, on_tile))
        return replace(frame, pixels=pixels, alpha=alpha)

    def _enlarged(self, image: ImageArray, on_tile: Callable[[int, int], None] | None) -> ImageArray:
        """Enlarge (H, W) or (H, W, 3); float32 values are brought to [0, 1] and back."""
        low, high = _range(image)
        if (low, high) == (0, 1):
            return self._in_range(image, on_tile)
        return self._in_range((image - low) / (high - low), on_tile) * (high - low) + low

    def _in_range(self, image: ImageArray, on_tile: Callable[[int, int], None] | None) -> ImageArray:
        made = self._through_network(image, on_tile)
        return self._made_consistent(made, image) if self.consistent else made

    def _made_consistent(self, image: ImageArray, low: ImageArray) -> ImageArray:
        made, reached = made_consistent(image, low)
        self.lr_psnr = min(self.lr_psnr, reached)
        return made

    def _through_network(self, image: ImageArray, on_tile: Callable[[int, int], None] | None) -> ImageArray:
        if image.ndim == 2:
            return self._run(self._gray, image[..., None], on_tile)[..., 0]
        if self._takes_colour:
            return self._run(self._network, image, on_tile)
        most = 1.0 if image.dtype == np.float32 else float(np.iinfo(image.dtype).max)
        ycc = cv2.cvtColor(image.astype(np.float32) / np.float32(most), cv2.COLOR_RGB2YCrCb)
        size = (image.shape[1] * self.scale, image.shape[0] * self.scale)
        large = cv2.resize(ycc, size, interpolation=cv2.INTER_CUBIC)
        large[..., 0] = self._run(self._gray, ycc[..., :1], on_tile)[..., 0]
        rgb = np.clip(cv2.cvtColor(large, cv2.COLOR_YCrCb2RGB), 0, 1)
        return rgb if image.dtype == np.float32 else (rgb * most).round().astype(image.dtype)

    def _run(
        self,
        network: nn.Module,
        image: ImageArray,
        on_tile: Callable[[int, int], None] | None,
        on_rows: OnRows | None = None,
    ) -> ImageArray:
        is_coarse = image.dtype == np.uint8
        upscale: Any = partial(upscale_by_rows, on_rows=on_rows) if on_rows else upscale_image
        if not is_coarse and self.precision != "fp32":
            network = getattr(network, "original", network)  # of a network that was converted to bfloat16
        try:
            with _float32.using(tf32=is_coarse), threads_on_cpu(self.threads):
                return upscale(
                    network,
                    image,
                    self.scale,
                    tile=self.tile,
                    overlap=self.overlap,
                    device=self.device,
                    precision=self.precision if is_coarse else "fp32",
                    on_tile=on_tile,
                    finite=True,
                )
        except NotFinite as error:
            raise ValueError(f"{self.name}: {error}") from error

    def _of_array(self, image: np.ndarray, scale: float | None) -> np.ndarray:
        made = self.upscale_frame(_frame(image), scale)
        pixels = made.pixels
        if image.ndim == 3:
            pixels = np.dstack([part for part in (made.pixels, made.alpha) if part is not None])
        return pixels.astype(image.dtype.newbyteorder("="), copy=False)

    def _of_pil(self, image: Any, scale: float | None) -> Any:
        if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":  # a photograph with previews
            raise ValueError(
                f"the Pillow image has {image.n_frames} frames or pages: give one of them, as with image.copy(), or enlarge "
                "the file with `aesop upscale`"
            )
        key, source = image.info.get("transparency"), image
        if key is not None and (image.mode.startswith("I;16") or (image.mode == "RGB" and np.max(key) > 255)):
            raise ValueError("Pillow has no alpha of 16 bits, as this transparent colour needs: give an array (H, W, C)")
        if image.mode == "1" and key is not None:  # Pillow takes 1 for a value of 255
            source = image.convert("L")
            source.info["transparency"] = 255 * key
        if image.mode in ("1", "P", "PA") or (image.mode in ("L", "RGB") and key is not None):
            base = "L" if image.mode in ("1", "L") else "RGB"
            source = source.convert(base + ("A" if source.has_transparency_data else ""))
        if source.mode not in ("L", "LA", "RGB", "RGBA", "I;16", "I;16B", "F"):
            raise ValueError(f"Pillow images of mode {image.mode} are not supported: convert them to L, RGB or RGBA")
        made = PIL.Image.fromarray(self._of_array(np.asarray(source), scale))
        made.info = {name: value for name, value in image.info.items() if name != "transparency"}
        return made

    def _of_tensor(self, image: Tensor, scale: float | None) -> Tensor:
        if not image.is_floating_point():
            raise ValueError(f"expected a floating-point tensor in [0, 1], found {image.dtype}: divide it by its range")
        if image.ndim not in (3, 4) or not 1 <= image.shape[-3] <= 4 or 0 in image.shape[-2:]:
            shape = tuple(image.shape)
            raise ValueError(f"expected a tensor (C, H, W) or (N, C, H, W) with 1 to 4 channels, found the shape {shape}")
        if image.ndim == 4:
            width, height = sides_at(scale or self.scale, image.shape[3], image.shape[2])
            made = image.new_empty((*image.shape[:2], height, width))
            for i, one in enumerate(image):
                made[i] = self._of_tensor(one, scale)
            return made
        made = self._of_array(image.detach().float().permute(1, 2, 0).cpu().numpy(), scale)
        return torch.from_numpy(made).permute(2, 0, 1).contiguous().to(image)


def _frame(image: np.ndarray) -> Frame:
    """The frame of an array as `Upscaler` takes them; ValueError if it is none."""
    image = image.astype(np.float32 if image.dtype.kind == "f" else image.dtype.newbyteorder("="), copy=False)
    if image.dtype not in (np.uint8, np.uint16, np.float32):
        kinds = "uint8, uint16 or floating point in [0, 1]"
        raise ValueError(f"expected an array of {kinds}, found {image.dtype}: convert it first")
    channels = image.shape[2] if image.ndim == 3 else 1
    if image.ndim not in (2, 3) or channels > 4 or not image.size:
        raise ValueError(f"expected an image (H, W), or (H, W, C) with 1 to 4 channels, found the shape {image.shape}")
    if image.dtype == np.float32:
        low, high = float(image.min()), float(image.max())  # NaN if there is one
        if not (low >= 0 and high <= 1):
            raise ValueError(f"floating-point images are in [0, 1], found {low:g} to {high:g}: divide or clip them")
    if image.ndim == 2:
        return Frame(image)
    alpha = np.ascontiguousarray(image[..., -1]) if channels in (2, 4) else None
    return Frame(np.ascontiguousarray(image[..., 0] if channels < 3 else image[..., :3]), alpha)


class _OnGray(nn.Module):
    """An RGB network that takes and returns gray images (N, 1, H, W): the luma of its result for three equal channels."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net
        self.size_multiple = getattr(net, "size_multiple", 1)
        self.channels_last_on_cpu = getattr(net, "channels_last_on_cpu", False)
        if isinstance(original := getattr(net, "original", None), nn.Module):
            self.original = _OnGray(original)

    def forward(self, x: Tensor) -> Tensor:
        y = self.net(x.expand(-1, 3, -1, -1))
        if y.shape[1] != 3:
            return y  # of another kind than RGB: the tiles refuse it
        return (y.float() * torch.tensor(LUMA, device=y.device).view(1, 3, 1, 1)).sum(1, keepdim=True)


def _precision_for(net: nn.Module, wanted: str, device: torch.device, runtime: str) -> tuple[str, str | None]:
    """Return the precision of 8-bit pictures, and a line if it is not the wanted one."""
    if wanted == "auto":
        # RRDBNet keeps its sums in float32. What others lose when every layer is rounded was not measured.
        fastest = fastest_precision(device) if isinstance(net, RRDBNet) else "fp32"
        supported = RUNTIMES[runtime].precisions if runtime in RUNTIMES else PRECISIONS
        return fastest if fastest in supported else "fp32", None
    if wanted == "fp16" and device.type == "cpu":
        return "fp32", "note: a CPU computes fp16 more slowly than fp32; using fp32"
    return wanted, None


def default_tiling(net: nn.Module) -> tuple[int, int]:
    """The side of tiles and their overlap, in input pixels."""
    parameters = sum(weight.numel() for weight in net.parameters())
    return next(tiling for least, tiling in TILINGS.items() if parameters >= least)


def _range(image: ImageArray) -> tuple[float, float]:
    """The least and the greatest value of a float32 image, at least [0, 1]; other types are taken as [0, 1]."""
    if image.dtype != np.float32:
        return 0, 1
    if not np.isfinite(image).all():
        raise ValueError("the picture has pixels that are NaN or infinite: replace them first")
    return min(float(image.min()), 0.0), max(float(image.max()), 1.0)


def _shrunk(image: ImageArray, height: int, width: int) -> ImageArray:
    """Reduce (H, W) or (H, W, C) with antialiasing, channel by channel: each takes four bytes per pixel, and more."""
    made = np.empty((height, width, *image.shape[2:]), image.dtype)
    least, most = (min(0, image.min()), max(1, image.max())) if image.dtype == np.float32 else (0, np.iinfo(image.dtype).max)
    for source, target in zip(np.moveaxis(np.atleast_3d(image), 2, 0), np.moveaxis(np.atleast_3d(made), 2, 0), strict=True):
        plane = torch.from_numpy(source.astype(np.float32))[None, None]
        reduced = F.interpolate(plane, (height, width), mode="bicubic", antialias=True)[0, 0]
        reduced.clamp_(float(least), float(most))  # bicubic overshoots at edges
        target[:] = (reduced if image.dtype == np.float32 else reduced.round_()).numpy()
    return made
