"""Images that any program made, as methods to measure."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import partial

from aesop.data.find_pairs import Pair
from aesop.data.measured_pairs import MeasuredPairs, Sample
from aesop.evaluation.image_views import Image
from aesop.evaluation.methods import Method
from aesop.images.errors import ImageError
from aesop.images.read import ImageFile, as_rgb8, conversions
from aesop.images.resize import mod_crop
from aesop.system.wording import first_few

Files = Mapping[tuple[str, str], ImageFile]
"""By `Sample.key`."""
Size = tuple[int, int]
"""Width, height."""


def finished_images(name: str, source: str, files: Files) -> Method:
    """A method whose answers are files. Those that have the size of HR before it was cut are cut, too."""
    return Method(name, partial(_read, name, files), source, finished=files)


def _read(name: str, files: Files, sample: Sample) -> Image:
    file, scale = files.get(sample.key), sample.scale
    if file is None:
        raise ImageError("there is no image")
    pixels = file.pixels()
    height, width = pixels.shape[:2]
    if reason := misfit((width, height), sample.pair.source.size(), scale):
        raise ImageError(f"{file} {reason}")
    image = mod_crop(as_rgb8(pixels), scale)
    changes = [*conversions(pixels), *([f"cut to multiples of {scale}"] if image.shape[:2] != (height, width) else [])]
    sample.notes += [(name, change) for change in changes]
    return image


def check_files(methods: Iterable[Method], sets: Iterable[MeasuredPairs]) -> None:
    """Raise ImageError for HR and LR that cannot be read or do not fit, and SR that does not fit, from the headers.

    SR that cannot be read is left to `measure_methods`.
    """
    finished = [method.finished or {} for method in methods]
    faults = []
    for pairs in sets:
        for key, pair in zip(pairs.keys, pairs.pairs, strict=True):
            hr_size = pair.source.size()
            if isinstance(pair, Pair) and pair.lq:
                pair.check_sizes(hr_size, pair.lq.size(), pairs.scale)
            for file in (files[key] for files in finished if key in files):
                with suppress(ImageError):
                    reason = misfit(file.size(), hr_size, pairs.scale)
                    faults += [f"{file} {reason}"] if reason else []
    if faults:
        raise ImageError(first_few(faults, separator="\n"))


def misfit(size: Size, hr: Size, scale: int) -> str | None:
    """Say why an image is no result for HR, as far as the sizes tell. None for one of HR's size, whole or cut."""
    if size in (hr, _cut(hr, scale)):
        return None
    return f"({size[0]}x{size[1]}) does not have the size of HR ({hr[0]}x{hr[1]}): {_likely_cause(size, hr, scale)}"


def _cut(size: Size, scale: int) -> Size:
    width, height = size
    return width - width % scale, height - height % scale


def _likely_cause(size: Size, hr: Size, scale: int) -> str:
    sides = list(zip(size, hr, strict=True))
    if multiples := [str(other) for other in (2, 3, 4, 8) if size == _cut(hr, other)]:
        return f"HR was cut to multiples of {' or '.join(multiples)}; if this is the scale, give it with --scale"
    for factor in (2, 3, 4, 8):
        if all(abs(own * factor - side) < 2 * factor for own, side in sides):
            return f"it is {factor} times smaller: LR, or a result of another scale"
        if all(abs(own - side * factor) < 2 * factor * scale for own, side in sides):
            return f"it is {factor} times larger: a result of another scale"
    if size == hr[::-1]:
        return "width and height are swapped: one of them was turned"
    if all(own == -(-side // scale) * scale for own, side in sides):
        return (
            f"LR was made without cutting HR to multiples of {scale} first, so that pixels do not lie where those of HR do"
        )
    across, down = (side - own for own, side in sides)
    if across == down > 0 and across % 2 == 0:
        return f"a border of {across // 2} pixels was probably cut off: save whole images and give --crop-border"
    return "it belongs to another image, or was cut or resized"
