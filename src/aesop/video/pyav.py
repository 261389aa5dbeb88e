"""PyAV, which reads and writes video files; it is imported when the first one is opened."""

import os
from collections.abc import Generator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from aesop.video.errors import VideoError

FORMATS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}
"""What FFmpeg calls the containers that are written, by extension."""

# A playlist names other files, and is no clip.
_CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,asf,flv,ogg,nut"


def library() -> Any:
    """The package `av`; VideoError says how to install it."""
    os.environ.setdefault("SVT_LOG", "0")  # the AV1 encoder prints its settings otherwise, and that it was interrupted
    try:
        return import_module("av")
    except ImportError as error:
        raise VideoError('videos need PyAV: pip install "aesop-sr[video]"') from error


@contextmanager
def opened(path: Path) -> Generator[Any]:
    """Open a clip for reading, as an `av.container.InputContainer`."""
    av = library()
    options = {"protocol_whitelist": "file", "format_whitelist": _CONTAINERS}
    try:
        container = av.open(f"file:{path}", container_options=options, metadata_errors="surrogateescape")
    except av.FFmpegError as error:
        raise VideoError(f"{path} cannot be read as a video ({error.strerror}): it is damaged, cut off, or none") from error
    with container:
        yield container


def main_stream(container: Any, path: Path) -> Any:
    """The first video stream that is no cover art."""
    attached = library().stream.Disposition.attached_pic
    found = [stream for stream in container.streams.video if not stream.disposition & attached]
    if not found:
        raise VideoError(f"{path} has no video stream: there is nothing to enlarge")
    if found[0].codec_context is None:
        raise VideoError(f"{path}: this PyAV has no decoder for its video stream; convert it to H.264 with ffmpeg first")
    return found[0]
