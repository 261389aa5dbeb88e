"""Reading a clip: its frames as RGB, upright, with their exact time stamps."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from aesop.video.colour import HDR, MATRICES, UNKNOWN, Colour, Plane, likely_matrix, to_rgb
from aesop.video.errors import VideoError
from aesop.video.pyav import library, main_stream, opened

LOOKED_AT = 50  # frames at the start that must not be interlaced
_SUBSAMPLINGS = {(1, 1): "444", (2, 1): "422", (2, 2): "420", (1, 2): "440", (4, 1): "411", (4, 4): "410"}
_CENTRED = ("mjpeg", "mpeg1video")  # codecs whose chroma lies in the middle of four samples of luma


@dataclass(frozen=True)
class ClipFrame:
    """A frame of a clip."""

    pixels: Plane
    """(H, W, 3) RGB, uint8, or uint16 if the clip has more than 8 bits; upright."""
    pts: int
    """When it is shown, in units of the clip's time base."""
    duration: int
    """How long, in the same units; 0 if the file does not say."""


@dataclass(frozen=True)
class Samples:
    """How a decoder's frames store their samples."""

    plain: str
    """The planar format of FFmpeg with the same samples, into which others are repacked."""
    bits: int
    step: tuple[int, int]
    """Samples of luma for one of chroma, horizontally and vertically; (1, 1) for RGB."""
    is_rgb: bool
    has_alpha: bool

    @classmethod
    def of(cls, layout: Any) -> "Samples":
        """The samples of an `av.VideoFormat`; VideoError if they are of a kind that is not converted here."""
        colours = [part for part in layout.components if not part.is_alpha]
        bits = max(8, max(part.bits for part in colours))
        depth = "" if bits == 8 else f"{bits}le"
        has_alpha = len(colours) < len(layout.components)
        if layout.is_bayer or layout.name.startswith("xyz") or bits > 16:  # floats have 32
            raise VideoError(
                f"samples of the kind {layout.name} are not supported: convert them, ffmpeg -pix_fmt yuv444p10le"
            )
        if layout.is_rgb or layout.has_palette:
            return cls(f"gbrp{depth}", bits, (1, 1), True, has_alpha)
        if len(colours) == 1:
            return cls(f"gray{depth}", bits, (2, 2), False, has_alpha)
        step = 64 // layout.chroma_width(64), 64 // layout.chroma_height(64)
        return cls(f"yuv{_SUBSAMPLINGS[step]}p{depth}", bits, step, False, has_alpha)


@dataclass(frozen=True)
class Turn:
    """How stored frames are turned to be upright."""

    swaps: bool
    """Rows become columns, before the others."""
    mirrors: bool
    """Left and right are exchanged."""
    flips: bool
    """Top and bottom are exchanged."""

    @classmethod
    def of(cls, matrix: Any) -> "Turn | None":
        """The turn that a display matrix (9 numbers) describes; None if it is no multiple of a quarter."""
        a, b, c, d = (int(matrix[index]) for index in (0, 1, 3, 4))
        if a == d == 0 and b and c:
            return cls(True, c < 0, b < 0)
        return cls(False, a < 0, d < 0) if b == c == 0 and a and d else None

    def __call__(self, pixels: Plane) -> Plane:
        if self.swaps:
            pixels = pixels.swapaxes(0, 1)
        return np.ascontiguousarray(pixels[:: -1 if self.flips else 1, :: -1 if self.mirrors else 1])


class Clip:
    """A video file, of which the first frame was decoded.

    Attributes:
        path: the file.
        size: width and height in pixels, upright.
        count: about how many frames there are; 0 if unknown.
        time_base: the unit of time stamps, in seconds.
        rate: frames per second, on average.
        aspect: width of a pixel by its height, upright; None if not stated.
        colour: how samples are to be understood; the matrix is a guess if the file states none.
        bits: of a sample, at least 8.
        step: samples of luma for one of chroma, horizontally and vertically.

    Raises:
        VideoError: it cannot be decoded, is HDR or interlaced, or has a matrix that is not known here.
    """

    def __init__(self, path: Path):
        self.path = path
        with opened(path) as container:
            stream = main_stream(container, path)
            first = next(self._decoded(container, stream, Counter()), None)
            if first is None:
                raise VideoError(f"{path}: no frame of it can be decoded: it is damaged, or cut off at its start")
            self.time_base: Fraction = stream.time_base
            self.rate: Fraction = stream.average_rate or stream.guessed_rate or Fraction(25)
            self._length = _length_of(stream)
            self.count: int = stream.frames or round((self._length or (container.duration or 0) / 1e6) * self.rate)
            has_alpha = stream.metadata.get("alpha_mode") == "1"
            field_order, codec, aspect = stream.codec_context.field_order, stream.codec.name, stream.sample_aspect_ratio
        self._samples = Samples.of(first.format)
        self._centred = codec in _CENTRED
        self.bits, self.step = self._samples.bits, self._samples.step
        self.colour = self._colour_of(first)
        if field_order > 1 or first.interlaced_frame:
            raise self._interlaced()
        self._facts: list[str] = []
        if has_alpha or self._samples.has_alpha:
            self._facts.append("transparency is left out: frames that keep it are PNG files (ffmpeg -i FILE frame%06d.png)")
        self._turn = self._turn_of(first)
        self._stored = first.width, first.height
        self.size = self._stored[::-1] if self._turn.swaps else self._stored
        self.aspect: Any = aspect and (1 / aspect if self._turn.swaps else aspect)
        self._faults: Counter[str] = Counter()

    @property
    def notes(self) -> list[str]:
        """What reading changes, and what was damaged as far as frames were read."""
        return self._facts + [f"{what}: {count}" for what, count in self._faults.items()]

    def frames(self, start: int = 0) -> Iterator[ClipFrame]:
        """Yield the frames from number `start` on. What is damaged is left out, and said in `notes`."""
        self._faults.clear()
        repack = library().video.reformatter.VideoReformatter()
        before, step = None, max(1, round(1 / (self.rate * self.time_base)))
        with opened(self.path) as container:
            for index, frame in enumerate(self._decoded(container, main_stream(container, self.path), self._faults)):
                if frame.interlaced_frame:
                    if index < LOOKED_AT:
                        raise self._interlaced()
                    self._faults["interlaced frames, enlarged with the combs of their fields"] += 1
                if (frame.width, frame.height) != self._stored:
                    found = f"{frame.width}x{frame.height} pixels instead of {self._stored[0]}x{self._stored[1]}"
                    raise VideoError(
                        f"{self.path}: frame {index + 1} has {found}: cut the clip there and enlarge both parts"
                    )
                pts = frame.pts if frame.pts is not None else frame.dts
                if pts is None or (before is not None and pts <= before):
                    self._faults["time stamps that were missing or did not increase, and were filled in"] += 1
                    pts = 0 if before is None else before + (1 if pts == before else step)
                before = pts
                if index >= start:
                    yield ClipFrame(self._turn(self._rgb(frame, repack)), pts, frame.duration)
            begin = main_stream(container, self.path).start_time or 0
        missing = self._length - float(((before or 0) + step - begin) * self.time_base)
        if missing > 1:
            self._faults[f"the file is cut off or damaged; missing of its {self._length:.0f} seconds"] = round(missing)

    def _decoded(self, container: Any, stream: Any, faults: Counter[str]) -> Iterator[Any]:
        av = library()
        stream.thread_type = "AUTO"
        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets, None)
                if packet is None:
                    return
                decoded = packet.decode()
            except av.FFmpegError:
                faults["damaged frames, left out"] += 1
                continue
            for frame in decoded:
                if frame.is_corrupt:
                    faults["damaged frames, as the decoder mended them"] += 1
                yield frame

    def _colour_of(self, frame: Any) -> Colour:
        if frame.color_trc in HDR:
            raise VideoError(
                f"{self.path} has a high dynamic range ({HDR[frame.color_trc]}), for which networks are not made: convert "
                "it first, ffmpeg -i FILE -vf zscale=t=linear:npl=100,tonemap=hable,zscale=t=bt709:m=bt709:p=bt709:r=tv,"
                "format=yuv420p10le -c:a copy OUTPUT.mkv"
            )
        full = frame.color_range == 2 or frame.format.name.startswith("yuvj")
        if self._samples.is_rgb:
            return Colour(likely_matrix(frame.width, frame.height), False, frame.color_primaries, frame.color_trc)
        if self._samples.plain.startswith("gray"):
            full = frame.color_range != 1  # as FFmpeg takes it
        matrix = frame.colorspace
        if matrix == UNKNOWN:
            matrix = likely_matrix(frame.width, frame.height)
        if matrix not in MATRICES:
            raise VideoError(
                f"{self.path}: the colour matrix with the number {matrix} of ITU-T H.273 is not supported: convert the clip "
                "first, ffmpeg -i FILE -vf zscale=m=bt709 -c:a copy OUTPUT.mkv"
            )
        return Colour(matrix, full, frame.color_primaries, frame.color_trc)

    def _turn_of(self, frame: Any) -> Turn:
        data = frame.side_data.get("DISPLAYMATRIX")
        turn = Turn(False, False, False) if data is None else Turn.of(np.frombuffer(data, np.int32))
        if turn is None:
            self._facts.append(f"it is to be shown turned by {frame.rotation} degrees, no quarter turns: this is left out")
        return turn or Turn(False, False, False)

    def _rgb(self, frame: Any, repack: Any) -> Plane:
        plain, bits = self._samples.plain, self.bits
        if frame.format.name.replace("yuvj", "yuv") != plain:
            frame = repack.reformat(frame, format=plain)
        if self._samples.is_rgb:
            rgb = frame.to_ndarray()
            return rgb if bits == 8 else (rgb * (65535 / (2**bits - 1))).round().astype(np.uint16)
        kind = np.dtype(np.uint8 if bits == 8 else "<u2")
        rows = [np.frombuffer(plane, kind).reshape(plane.height, -1)[:, : plane.width] for plane in frame.planes]
        return to_rgb(rows, bits, self.colour, self._centred)

    def _interlaced(self) -> VideoError:
        return VideoError(
            f"{self.path} is interlaced, and enlarging would fix the combs of its fields in the picture: deinterlace it "
            "first, ffmpeg -i FILE -vf bwdif -c:v libx264 -crf 12 -c:a copy OUTPUT.mkv"
        )


def _length_of(stream: Any) -> float:
    """Seconds of a video stream; 0 if the file does not say. Matroska has a tag for it."""
    if stream.duration:
        return float(stream.duration * stream.time_base)
    tag = re.match(r"(\d+):(\d+):(\d+\.\d+)", stream.metadata.get("DURATION", ""))
    return sum(float(part) * unit for part, unit in zip(tag.groups(), (3600, 60, 1), strict=True)) if tag else 0.0
