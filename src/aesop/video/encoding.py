"""How a clip is encoded, and frames into packets."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from aesop.video.clip import Clip, ClipFrame
from aesop.video.colour import Colour, from_rgb
from aesop.video.errors import VideoError
from aesop.video.pyav import library

QUALITY = 67
"""Where none is asked for: CRF 17 of x264, CRF 21 of SVT-AV1, in which differences are hardly seen."""


@dataclass(frozen=True)
class Encoder:
    """An encoder of FFmpeg."""

    name: str
    worst: int
    """The highest CRF, which quality 0 would be."""
    options: tuple[tuple[str, str], ...] = ()
    states_aspect: bool = True
    """Whether its packets say which aspect ratio pixels have. PyAV cannot tell Matroska and WebM."""


H264 = Encoder("libx264", 51)
AV1 = Encoder("libsvtav1", 63, (("preset", "6"),), states_aspect=False)
ENCODERS = {".mp4": H264, ".m4v": H264, ".mov": H264, ".mkv": H264, ".webm": AV1}
"""By the extension of what is written."""


@dataclass(frozen=True)
class Packet:
    """An encoded frame; times are in units of the clip's time base."""

    data: bytes
    pts: int
    duration: int
    is_key: bool


@dataclass(frozen=True)
class Encoding:
    """All options of an encoder."""

    encoder: str
    options: tuple[tuple[str, str], ...]
    enlarged: tuple[int, int]
    """Width and height to which frames are enlarged."""
    width: int
    """What is encoded of it, from the left."""
    height: int
    """What is encoded of it, from the top."""
    bits: int
    step: tuple[int, int]
    time_base: Fraction
    rate: Fraction
    aspect: Fraction | None
    """Width of a pixel by its height."""
    colour: Colour

    @property
    def layout(self) -> str:
        """FFmpeg's name for the samples."""
        return _layout(self.step, self.bits)

    def describe(self) -> dict[str, Any]:
        """All of it as JSON values."""
        return {name: str(value) if isinstance(value, Fraction) else value for name, value in asdict(self).items()}

    def configure(self, context: Any) -> None:
        """Set what an `av.VideoCodecContext`, not open yet, encodes."""
        flags = library().codec.context.Flags
        context.width, context.height, context.pix_fmt = self.width, self.height, self.layout
        context.time_base, context.framerate = self.time_base, self.rate
        context.sample_aspect_ratio = self.aspect or Fraction(0)
        context.colorspace, context.color_range = self.colour.matrix, 2 if self.colour.full else 1
        context.color_primaries, context.color_trc = self.colour.primaries, self.colour.transfer
        context.flags |= flags.global_header | flags.frame_duration
        context.options = dict(self.options)

    def headers(self) -> str:
        """What the encoder writes once for all packets, in hexadecimal. VideoError says why it cannot encode this."""
        return (self._open().extradata or b"").hex()

    def encode(self, frames: Iterable[ClipFrame]) -> Iterator[Packet]:
        """Encode frames of the encoding's size, of which the first becomes a key frame; packets are in decoding order."""
        context = self._open()
        try:
            for frame in frames:
                yield from map(_packet, context.encode(self._picture(frame)))
            yield from map(_packet, context.encode(None))
        except library().FFmpegError as error:
            raise VideoError(f"{self.encoder} failed ({error.strerror}): choose another --ext, or a smaller size") from error

    def _open(self) -> Any:
        av = library()
        context = av.CodecContext.create(self.encoder, "w")
        self.configure(context)
        try:
            context.open()
        except av.FFmpegError as error:
            raise VideoError(
                f"{self.encoder} cannot encode {self.width}x{self.height} pixels of {self.layout} ({error.strerror}): "
                "choose another size or --ext"
            ) from error
        return context

    def _picture(self, frame: ClipFrame) -> Any:
        picture = library().VideoFrame(self.width, self.height, self.layout)
        planes = from_rgb(frame.pixels, self.bits, self.colour, self.step)
        for plane, samples in zip(picture.planes, planes, strict=True):
            stored = samples.astype("<u2" if self.bits > 8 else np.uint8, copy=False)
            np.frombuffer(plane, stored.dtype).reshape(plane.height, -1)[:, : plane.width] = stored
        picture.pts, picture.duration, picture.time_base = frame.pts, frame.duration, self.time_base
        picture.colorspace, picture.color_range = self.colour.matrix, 2 if self.colour.full else 1
        picture.color_primaries, picture.color_trc = self.colour.primaries, self.colour.transfer
        return picture


def choose_encoding(clip: Clip, size: tuple[int, int], extension: str, quality: int | None) -> tuple[Encoding, list[str]]:
    """Choose how a clip enlarged to `size` (width, height) is encoded; also notes on what is not as in the clip.

    Depth and subsampling of chroma stay, if the encoder has them, otherwise they become 10 or 8 bits, and 4:2:0. With
    subsampled chroma, sides must be even: an odd one loses its last pixel. Pixels become square if nothing could state their
    aspect ratio. `quality` is 1 to 100.
    """
    encoder = ENCODERS[extension]
    av = library()
    try:
        layouts = {layout.name for layout in av.Codec(encoder.name, "w").video_formats}
    except ValueError as error:
        raise VideoError(
            f"{extension} files need the encoder {encoder.name}, which this PyAV lacks: install the one "
            'that has it, pip install "aesop-sr[video]", or choose another --ext'
        ) from error
    notes = []
    step = next(step for step in (clip.step, (2, 2)) if _layout(step, 8) in layouts)
    if step != clip.step:
        notes.append(f"chroma is stored as 4:2:0: {encoder.name} cannot store that of the clip")
    bits = next(bits for bits in (min(clip.bits, 10), 8) if _layout(step, bits) in layouts)
    if bits < clip.bits:
        notes.append(f"{clip.bits} bits became {bits}: {encoder.name} has no more")
    aspect = clip.aspect
    if aspect not in (None, 1) and not encoder.states_aspect:
        size, aspect = (round(size[0] * aspect), size[1]), None
        notes.append(f"pixels became square: {extension} files do not state the aspect ratio of others here")
    width, height = (side - side % each for side, each in zip(size, step, strict=True))
    if (width, height) != size:
        notes.append(f"{size[0]}x{size[1]} pixels became {width}x{height}: with chroma of half the size, sides are even")
    if not width or not height:
        raise VideoError(f"{clip.path}: {size[0]}x{size[1]} pixels are too small for a video: choose a larger size")
    crf = max(1, round(encoder.worst * (100 - (QUALITY if quality is None else quality)) / 100))
    options = (("crf", str(crf)), *encoder.options)
    encoding = Encoding(
        encoder.name, options, size, width, height, bits, step, clip.time_base, clip.rate, aspect, clip.colour
    )
    return encoding, notes


def _layout(step: Sequence[int], bits: int) -> str:
    chroma = {(1, 1): "444", (2, 1): "422", (2, 2): "420"}.get(tuple(step))
    return f"yuv{chroma}p" + ("" if bits == 8 else f"{bits}le")


def _packet(packet: Any) -> Packet:
    return Packet(bytes(packet), packet.pts, packet.duration or 0, packet.is_keyframe)
