"""Small clips made with PyAV; pixels are converted by swscale, not by `aesop.video.colour`."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

av = pytest.importorskip("av", reason='videos need PyAV: pip install "aesop-sr[video]"')

WIDTH, HEIGHT = 32, 24
MPEG, JPEG = 1, 2  # FFmpeg's numbers of the limited and the full range
Draw = Callable[[int], np.ndarray]


def moving(index: int, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """A ramp with a bright block that moves: (height, width, 3) RGB."""
    y, x = np.indices((height, width))
    image = np.dstack([x * 160 // width + 40, y * 160 // height + 40, np.full_like(x, 90)]).astype(np.uint8)
    left = index * 2 % (width - 8)
    image[8:16, left : left + 8] = (220, 200, 40)
    return image


def quadrants(index: int, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """Four colours, so that every turn and reflection looks different."""
    image = np.zeros((height, width, 3), np.uint8)
    image[: height // 2, : width // 2] = (200, 40, 40)
    image[: height // 2, width // 2 :] = (40, 200, 40)
    image[height // 2 :, : width // 2] = (40, 40, 200)
    image[height // 2 :, width // 2 :] = (200, 200, 200)
    return image


def make_clip(
    path: Path,
    draw: Draw = moving,
    times: Sequence[int] = range(0, 6 * 512, 512),
    time_base: Fraction = Fraction(1, 12800),
    codec: str = "libx264",
    layout: str = "yuv420p",
    options: dict[str, str] | None = None,
    matrix: int = 6,
    colour_range: int = MPEG,
    tags: tuple[int, int] = (6, 6),
    setup: Callable[[Any, Any], None] = lambda container, stream: None,
    fill: Callable[[Any], None] = lambda container: None,
    tagged: bool = True,
    container_options: dict[str, str] | None = None,
) -> Path:
    """Encode frames. `setup(container, stream)` is called before anything is written, `fill(container)` after the header."""
    first = draw(0)
    with av.open(str(path), "w", container_options=container_options) as container:
        stream = container.add_stream(codec, rate=25, options={"qp": "0"} if codec == "libx264" and not options else options)
        stream.width, stream.height, stream.pix_fmt = first.shape[1], first.shape[0], layout
        context = stream.codec_context
        context.time_base = time_base
        if tagged:
            context.colorspace, context.color_range = matrix, colour_range
            context.color_primaries, context.color_trc = tags
        setup(container, stream)
        container.start_encoding()
        fill(container)
        for index, time in enumerate(times):
            frame = picture(draw(index), layout, matrix, colour_range)
            frame.pts, frame.time_base = time, time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def picture(rgb: np.ndarray, layout: str, matrix: int = 6, colour_range: int = MPEG) -> Any:
    """An `av.VideoFrame` of an RGB image."""
    swscale = {1: "ITU709", 5: "ITU601", 6: "ITU601", 9: "BT2020"}
    frame = av.VideoFrame.from_ndarray(rgb)
    kind = av.video.reformatter.Interpolation
    flags = kind.BICUBIC | kind.ACCURATE_RND | kind.FULL_CHR_H_INT
    frame = frame.reformat(
        format=layout, dst_colorspace=swscale[matrix], dst_color_range=colour_range, interpolation=flags, threads=1
    )
    frame.colorspace, frame.color_range = matrix, colour_range
    return frame


def shown(path: Path) -> list[np.ndarray]:
    """The frames of a clip as RGB, as they are stored."""
    kind = av.video.reformatter.Interpolation
    flags = kind.BICUBIC | kind.ACCURATE_RND | kind.FULL_CHR_H_INT
    with av.open(str(path)) as container:
        frames = container.decode(video=0)
        return [f.to_ndarray(format="rgb24", dst_color_range=JPEG, interpolation=flags, threads=1) for f in frames]


def seconds(path: Path) -> list[Fraction]:
    """When the frames of a clip are shown."""
    with av.open(str(path)) as container:
        return [frame.pts * frame.time_base for frame in container.decode(video=0)]


def packets(path: Path, kind: str) -> list[tuple[bytes, Fraction, Fraction]]:
    """Content, time and duration of the packets of the streams of a kind: video, audio or subtitles."""
    with av.open(str(path)) as container:
        streams = [stream for stream in getattr(container.streams, kind)]
        found = [packet for packet in container.demux(streams) if packet.size]
        return [(bytes(p), p.pts * p.time_base, p.duration * p.time_base) for p in found]


def add_sound(container: Any, codec: str = "aac", seconds: float = 0.3) -> Callable[[Any], None]:
    """Add an audio stream; the function returned writes a sine into it."""
    stream = container.add_stream(codec, rate=48000)
    stream.layout = "mono"
    stream.metadata["language"] = "deu"

    def fill(container: Any) -> None:
        for start in range(0, int(48000 * seconds), 960):
            wave = np.sin(np.arange(start, start + 960) / 20).astype(np.float32)[None]
            frame = av.AudioFrame.from_ndarray(wave, format="fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = 48000, start, Fraction(1, 48000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))

    return fill
