"""A picture with all that its file holds: every frame or page, transparency, colour profile, and metadata."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from aesop.images.tensors import ImageArray
from aesop.pictures.metadata import resized_exif, resized_xmp


@dataclass(frozen=True)
class Metadata:
    """What describes a picture. None or empty: the file does not say."""

    icc: bytes | None = None
    """The colour profile of the pixels as they are in the frames; gray pixels have a gray profile."""
    exif: bytes | None = None
    """A TIFF structure, without the head `Exif\\0\\0`. Orientation is 1, and there is no thumbnail."""
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None
    """Pixels per inch, horizontally and vertically."""
    text: dict[str, str] = field(default_factory=dict)
    """Texts with their keywords, as PNG has them; `Comment` is the comment of a JPEG or GIF."""

    def resized(self, width: int, height: int) -> "Metadata":
        """The metadata of the picture at another size: Exif and XMP state it."""
        exif = None if self.exif is None else resized_exif(self.exif, width, height)
        return replace(self, exif=exif, xmp=None if self.xmp is None else resized_xmp(self.xmp, width, height))

    def without_private(self) -> "Metadata":
        """Only what the pixels need to be shown rightly: the colour profile."""
        return Metadata(icc=self.icc)


@dataclass(frozen=True)
class Frame:
    """A frame of an animation, a page, or the only image of a file; upright."""

    pixels: ImageArray
    """(H, W) gray or (H, W, 3) RGB; uint8, uint16, or float32, which is [0, 1] and may exceed it."""
    alpha: ImageArray | None = None
    """(H, W), of the same type: 0 is transparent. Colours are not multiplied by it."""
    duration: float | None = None
    """Milliseconds that a frame of an animation is shown."""
    metadata: Metadata | None = None
    """What describes this page, if the file has several; None: what describes the picture."""


@dataclass(frozen=True)
class Picture:
    """A file that was opened: what its header says, and the frames, which are decoded one by one."""

    format: str
    """png, jpeg, webp, tiff, bmp, gif, avif, or heic."""
    size: tuple[int, int]
    """Width and height of the first frame, upright."""
    count: int
    """Frames or pages."""
    animated: bool
    """Whether they are frames of an animation, not pages."""
    loop: int | None
    """How often an animation is shown: 0 for ever; None: the file does not say."""
    lossless: bool
    """Whether the file's own format keeps every pixel: not JPEG, nor lossy WebP and AVIF."""
    metadata: Metadata
    """Of the first page, if there are several."""
    notes: tuple[str, ...]
    """What reading changes, such as `CMYK was converted to sRGB through its profile`."""
    frames: Callable[[], Iterator[Frame]]
    """Decodes every frame, in order. Pages may differ in size and type. ImageError names a damaged one."""
    page_sizes: tuple[tuple[int, int], ...] = ()
    """Empty: all have the same size."""

    @property
    def sizes(self) -> tuple[tuple[int, int], ...]:
        """Width and height of every frame or page, upright."""
        return self.page_sizes or (self.size,) * self.count
