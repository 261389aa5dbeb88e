"""Writing a clip: the enlarged frames, and all else as the source has it."""

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any

from aesop.system.files import replacing
from aesop.video.clip import Clip
from aesop.video.encoding import Encoding, Packet
from aesop.video.errors import VideoError
from aesop.video.pyav import FORMATS, library, main_stream, opened

TRIED = 1000  # packets at the start of a source with which a container is tried
_OF_FILE = ("encoder", "major_brand", "minor_version", "compatible_brands")  # tags that describe the source's file
_OF_ENCODING = ("encoder", "vendor_id", "bps", "duration", "number_of_", "_statistics")  # how tags of its encoding begin


def streams_to_copy(path: Path, encoding: Encoding, extension: str) -> tuple[list[int], list[str]]:
    """Try which other streams of a clip the container can hold: their indices, and notes on those that it cannot."""
    av = library()
    with opened(path) as source:
        main = main_stream(source, path)
        others = [stream for stream in source.streams if stream.index != main.index and not _is_rebuilt(stream)]
        packets: dict[int, list[Any]] = {stream.index: [] for stream in others}
        with suppress(av.FFmpegError):  # damaged: what comes before is enough
            for _, packet in zip(range(TRIED), source.demux(), strict=False):
                if packet.size and packet.stream_index in packets:
                    packets[packet.stream_index].append(packet)
        fitting = [stream.index for stream in others if _fits(stream, packets[stream.index], encoding, extension)]
        lost = [_named(stream) for stream in others if stream.index not in fitting]
        others_shown = [_named(stream) for stream in others if stream.index in fitting and _is_shown(stream)]
    notes = [f"{', '.join(lost)} left out: {extension} files cannot hold this; others may (--ext mkv)"] if lost else []
    return fitting, notes + [f"{name} is copied as it is: only the first video stream is enlarged" for name in others_shown]


def join(
    clip: Clip,
    encoding: Encoding,
    copied: Sequence[int],
    times: Sequence[int],
    packets: Iterable[Packet],
    target: Path,
    keep_tags: bool = True,
) -> list[str]:
    """Write `target` from packets of enlarged frames, with the streams `copied`, chapters and tags of the clip.

    `packets` are in decoding order, and `times` are all their pts. Unless `keep_tags`, tags are left out, but for languages.
    Returns notes on what could not be kept.
    """
    av = library()
    try:
        with replacing(target) as file:
            with opened(clip.path) as source, _created(file, target.suffix.lower(), encoding, source.metadata) as out:
                coarse = _write(out, source, clip, encoding, copied, times, packets, keep_tags)
                tags, chapters = dict(out.metadata), len(source.chapters())
            return coarse + _lost(file, tags, chapters)
    except av.FFmpegError as error:
        raise VideoError(
            f"{target} cannot be written ({error.strerror}); its frames are kept: free space, or choose another --ext"
        ) from error


def decoding_times(times: Sequence[int]) -> list[int]:
    """When packets, in decoding order, are decoded, of when they are shown: increasing, and never later.

    The time stamps in order, moved by as many places as the encoder reordered frames.
    """
    shown = sorted(times)
    place = {time: index for index, time in enumerate(shown)}
    delay = max(index - place[time] for index, time in enumerate(times))
    step = shown[1] - shown[0] if delay else 0
    return [shown[0] - step * early for early in range(delay, 0, -1)] + shown[: len(shown) - delay]


def _write(
    out: Any,
    source: Any,
    clip: Clip,
    encoding: Encoding,
    copied: Sequence[int],
    times: Sequence[int],
    packets: Iterable[Packet],
    keep_tags: bool,
) -> list[str]:
    main = main_stream(source, clip.path)
    copies: dict[int, Any] = {}
    for stream in source.streams:
        if stream.index == main.index:
            video = _add_video(out, encoding)
            video.disposition = stream.disposition
            video.metadata.update({key: value for key, value in stream.metadata.items() if _describes_content(key)})
        elif stream.index in copied:
            copies[stream.index] = _add_copy(out, stream, clip.path)
    if keep_tags:
        out.metadata.update({key: value for key, value in source.metadata.items() if key.lower() not in _OF_FILE})
    else:
        for stream in out.streams:
            for key in stream.metadata.keys() - {"language", "filename", "mimetype"}:
                del stream.metadata[key]
    out.set_chapters(source.chapters())
    out.start_encoding()
    filled = {index: copy for index, copy in copies.items() if copy is not None}
    moved: Counter[str] = Counter()
    enlarged = _timed(_video_packets(packets, times, video, encoding))
    others = _timed(_increasing(_copied_packets(source, filled), moved))
    for _, packet in heapq.merge(enlarged, others, key=lambda item: item[0]):
        out.mux_one(packet)
    notes = [f"packets of {name} whose time stamps did not increase, moved: {count}" for name, count in moved.items()]
    if (encoding.time_base / video.time_base).denominator > 1:
        notes.append(f"time stamps are rounded to 1/{video.time_base.denominator} seconds, the finest of this container")
    return notes


def _created(file: Path | BytesIO, extension: str, encoding: Encoding, tags: dict[str, str]) -> Any:
    """Open a container for writing."""
    options = {}
    if FORMATS[extension] in ("mp4", "mov"):
        options["movie_timescale"] = str(encoding.time_base.denominator)  # when the first frame is shown is rounded to it
        if any(key.startswith("com.") for key in tags):
            options["movflags"] = "use_metadata_tags"  # the form of tags that has any name, but is read less often
    return library().open(
        f"file:{file}" if isinstance(file, Path) else file,
        "w",
        format=FORMATS[extension],
        container_options=options,
        metadata_errors="surrogateescape",
    )


def _add_video(out: Any, encoding: Encoding) -> Any:
    """Add the stream of enlarged frames. Its encoder writes the headers, and never gets a frame."""
    stream = out.add_stream(encoding.encoder, rate=encoding.rate)
    encoding.configure(stream.codec_context)
    stream.time_base = encoding.time_base
    return stream


def _add_copy(out: Any, stream: Any, path: Path) -> Any:
    """Add a stream like `stream` for its packets; None if it is an attachment, which has none."""
    if stream.type == "attachment":
        out.add_attachment(stream.name or "attachment", stream.mimetype or "application/octet-stream", stream.data)
        return None
    if _is_cover(stream) and out.format.name in ("matroska", "webm"):
        kind = {"mjpeg": "jpeg"}.get(stream.codec.name, stream.codec.name)
        name, mimetype = (stream.metadata.get(key) for key in ("filename", "mimetype"))
        out.add_attachment(name or f"cover.{kind}", mimetype or f"image/{kind}", _first_packet(path, stream.index))
        return None
    copy = out.add_stream_from_template(stream, opaque=True)
    copy.metadata.update(stream.metadata)
    copy.disposition = stream.disposition
    return copy


def _first_packet(path: Path, index: int) -> bytes:
    with opened(path) as source:
        return bytes(next(source.demux(source.streams[index])))


def _video_packets(packets: Iterable[Packet], times: Sequence[int], stream: Any, encoding: Encoding) -> Iterator[Any]:
    av = library()
    shown = sorted(times)
    following = dict(pairwise(shown))
    for packet, dts in zip(packets, decoding_times(times), strict=True):
        made = av.Packet(packet.data)
        made.stream, made.time_base = stream, encoding.time_base
        made.pts, made.dts, made.is_keyframe = packet.pts, dts, packet.is_key
        made.duration = following[packet.pts] - packet.pts if packet.pts in following else packet.duration
        yield made


def _copied_packets(source: Any, copies: dict[int, Any]) -> Iterator[Any]:
    if copies:
        for packet in source.demux([source.streams[index] for index in copies]):
            if packet.size:
                packet.stream = copies[packet.stream.index]
                yield packet


def _increasing(packets: Iterable[Any], moved: Counter[str]) -> Iterator[Any]:
    """Make the times of each stream's packets increase, as muxers demand; count in `moved` those that did not."""
    due: dict[int, int] = {}
    for packet in packets:
        index = packet.stream_index
        if packet.dts is None:
            packet.dts = due.get(index, 0) if packet.pts is None else packet.pts
        if packet.dts < due.get(index, packet.dts):
            packet.dts = due[index]
            moved[_named(packet.stream)] += 1
        packet.pts = packet.dts if packet.pts is None else max(packet.pts, packet.dts)
        due[index] = packet.dts + 1
        yield packet


def _timed(packets: Iterable[Any]) -> Iterator[tuple[float, Any]]:
    """Give packets the seconds by which they are ordered in the file."""
    for packet in packets:
        yield float(packet.dts * packet.time_base), packet


def _fits(stream: Any, packets: Sequence[Any], encoding: Encoding, extension: str) -> bool:
    """Whether a container takes a stream and the packets at its start."""
    av = library()
    if stream.type == "attachment" and FORMATS[extension] != "matroska":  # others ignore it
        return False
    out = _created(BytesIO(), extension, encoding, {})
    try:
        _add_video(out, encoding)
        copy = _add_copy(out, stream, Path(stream.container.name.removeprefix("file:")))
        out.start_encoding()
        for packet in _increasing(packets, Counter()) if copy is not None else ():
            packet.stream = copy
            out.mux_one(packet)
        out.close()
    except (ValueError, av.FFmpegError):
        return False
    finally:
        with suppress(ValueError, av.FFmpegError):
            out.close()
    return True


def _lost(file: Path, tags: dict[str, str], chapters: int) -> list[str]:
    with opened(file) as made:
        kept = {key.lower() for key in made.metadata}
        lost = [key for key in tags if key.lower() not in kept]
        notes = [f"tags left out, which this container does not have: {', '.join(lost)}"] if lost else []
        if len(made.chapters()) < chapters:
            notes.append("chapters left out, which this container does not have")
    return notes


def _is_rebuilt(stream: Any) -> bool:
    """Whether the muxer makes the stream itself: titles of chapters, and the time code, which is a tag of the video too."""
    hidden = stream.discard == library().stream.Discard.all
    return stream.type == "data" and (hidden or "timecode" in stream.metadata)


def _is_cover(stream: Any) -> bool:
    return bool(stream.disposition & library().stream.Disposition.attached_pic)


def _is_shown(stream: Any) -> bool:
    return stream.type == "video" and not _is_cover(stream)


def _named(stream: Any) -> str:
    kind = {"subtitle": "subtitles"}.get(stream.type, stream.type)
    what = "cover art" if _is_cover(stream) else kind
    name = getattr(stream, "name", None)  # a stream without a decoder has none
    return f"{what} (stream {stream.index}, {name or 'of an unknown kind'})"


def _describes_content(key: str) -> bool:
    return not key.lower().startswith(_OF_ENCODING)
