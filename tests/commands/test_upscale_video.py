"""`aesop upscale` for videos: what comes out is read back with PyAV, and colours with swscale."""

import io
import json
import re
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch.nn.functional as F
from clips import JPEG, MPEG, add_sound, av, make_clip, moving, packets, quadrants, seconds, shown
from PIL import Image
from rich.console import Console
from torch import Tensor, nn
from typer.testing import CliRunner

from aesop.cli import app
from aesop.commands.upscale import upscale_files
from aesop.commands.upscale_progress import COMPUTED, UpscaleProgress
from aesop.commands.upscale_results import Summary
from aesop.inference.final_size import FinalSize
from aesop.inference.upscaler import Upscaler
from aesop.video import encoding
from aesop.weights.load import LoadedInfo

VARYING = [0, 512, 1024, 1500, 4000, 4020, 4500, 9000, 9512]  # with B-frames between pauses


class Double(nn.Module):
    """Repeats each pixel, counts the frames it saw, and may be interrupted."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[int] = []
        self.interrupted_after: int | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.interrupted_after is not None and sum(self.batches) >= self.interrupted_after:
            raise KeyboardInterrupt
        self.batches.append(len(x))
        return F.interpolate(x, scale_factor=2, mode="nearest")


@pytest.fixture
def network(monkeypatch):
    """The network that `run` uses."""
    net = Double()
    load = lambda path: (net, LoadedInfo("RRDBNet", 2, {}, {}))  # noqa: E731
    monkeypatch.setattr("aesop.weights.load.load_generator", load)
    return net


@pytest.fixture
def run(network, tmp_path):
    """Upscale clips into a file or folder; the single result must be no error."""
    (tmp_path / "w.safetensors").touch()

    def call(inputs, output, fails=False, **options):
        inputs = inputs if isinstance(inputs, list) else [inputs]
        options = {"model": tmp_path / "w.safetensors", "console": Console(file=io.StringIO())} | options
        results = [*upscale_files(inputs, output, device="cpu", **options)]
        if not fails:
            assert [result.error for result in results] == [None] * len(results)
        return results[0]

    return call


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("extension", ["mp4", "mov", "mkv", "webm"])
def test_every_frame_is_there_at_its_exact_time(run, tmp_path, extension):
    unit = {"mkv": 1000, "webm": 1000}.get(extension, 12800)
    codec, options = ("libsvtav1", {"preset": "12"}) if extension == "webm" else ("libx264", None)
    times = [7 + time * unit // 12800 for time in VARYING]
    large = {"draw": lambda index: moving(index, 64, 64)} if extension == "webm" else {}
    exact = {"movie_timescale": "12800"} if unit == 12800 else None  # otherwise the clip would begin at 0
    clip = make_clip(
        tmp_path / f"a.{extension}",
        times=times,
        time_base=Fraction(1, unit),
        codec=codec,
        options=options,
        container_options=exact,
        **large,
    )
    result = run(clip, tmp_path / "out")
    assert result.target == tmp_path / "out" / f"a_x2.{extension}"
    assert result.notes == []
    assert seconds(result.target) == seconds(clip) == [Fraction(time, unit) for time in times]
    assert left_in(tmp_path / "out") == [f"a_x2.{extension}"]
    before, after = shown(clip), shown(result.target)
    assert after[0].shape == (2 * before[0].shape[0], 2 * before[0].shape[1], 3)
    for old, new in zip(before, after, strict=True):
        assert np.abs(new.astype(int) - old.repeat(2, 0).repeat(2, 1)).mean() < 4


def test_times_finer_than_the_container_are_rounded_with_a_note(run, tmp_path):
    clip = make_clip(tmp_path / "a.mp4", times=[0, 500, 1000, 1030])
    result = run(clip, tmp_path / "b.mkv")
    assert seconds(result.target) == [Fraction(ms, 1000) for ms in (0, 39, 78, 80)]
    assert result.notes == ["time stamps are rounded to 1/1000 seconds, the finest of this container"]


@pytest.mark.parametrize("degrees", [90, 180, -90])
def test_a_turned_clip_comes_out_upright(run, tmp_path, degrees):
    def setup(_, stream):
        stream.set_display_rotation(degrees)
        stream.sample_aspect_ratio = Fraction(16, 15)

    clip = make_clip(tmp_path / "a.mp4", quadrants, setup=setup)
    target = run(clip, tmp_path / "b.mp4").target
    upright = np.rot90(quadrants(0), degrees // 90)  # counter-clockwise, as the angle of a clip
    with av.open(str(target)) as container:
        frame = next(container.decode(video=0))
        assert frame.rotation == 0
        assert container.streams.video[0].sample_aspect_ratio == (Fraction(16, 15) if degrees == 180 else Fraction(15, 16))
    assert np.abs(shown(target)[0][::2, ::2].astype(int) - upright).mean() < 8
    assert np.abs(shown(target)[0][6, 6].astype(int) - upright[3, 3]).max() < 8


@pytest.mark.parametrize("extension", ["mp4", "mkv", "webm"])
@pytest.mark.parametrize(
    ("matrix", "colour_range", "tags"), [(1, MPEG, (1, 1)), (6, JPEG, (6, 6)), (5, MPEG, (5, 6)), (9, MPEG, (9, 14))]
)
def test_matrix_range_primaries_transfer_and_aspect_are_kept(run, tmp_path, extension, matrix, colour_range, tags):
    def wide(_, stream):
        stream.sample_aspect_ratio = Fraction(3, 2)

    draw = lambda index: moving(index, 64, 64)  # noqa: E731
    clip = make_clip(
        tmp_path / "a.mkv", draw, matrix=matrix, colour_range=colour_range, tags=tags, times=[0, 512], setup=wide
    )
    target = run(clip, tmp_path / f"b.{extension}").target
    with av.open(str(target)) as container:
        assert container.streams.video[0].sample_aspect_ratio == (1 if extension == "webm" else Fraction(3, 2))
        assert container.streams.video[0].width == (192 if extension == "webm" else 128)
        context = container.streams.video[0].codec_context
        found = (context.colorspace, context.color_range, (context.color_primaries, context.color_trc))
        frame = next(container.decode(video=0))
        in_frame = (frame.colorspace, frame.color_range, (frame.color_primaries, frame.color_trc))
    assert found == in_frame == (matrix, colour_range, tags)
    made = cv2.resize(shown(target)[0], (64, 64), interpolation=cv2.INTER_AREA)
    assert np.abs(made.astype(int) - shown(clip)[0]).mean() < 2.5


def test_a_guessed_matrix_is_stated_in_the_result(run, tmp_path):
    """What is small is BT.601; players would take the large result for BT.709 if it did not say."""
    clip = make_clip(tmp_path / "a.mp4", lambda index: moving(index, 64, 400), times=[0], tagged=False)
    target = run(clip, tmp_path / "b.mp4").target
    with av.open(str(target)) as container:
        assert container.streams.video[0].codec_context.colorspace == 6
    assert np.abs(shown(target)[0][::2, ::2].astype(int) - moving(0, 64, 400)).mean() < 3


@pytest.mark.parametrize(("extension", "layout", "made", "note"), [
    ("mkv", "yuv420p10le", "yuv420p10le", None),
    ("webm", "yuv420p10le", "yuv420p10le", None),
    ("mp4", "yuv422p10le", "yuv422p10le", None),
    ("mp4", "yuv444p", "yuv444p", None),
    ("mp4", "yuv420p12le", "yuv420p10le", "12 bits became 10"),
    ("webm", "yuv444p", "yuv420p", "chroma is stored as 4:2:0"),
    ("mp4", "gbrp10le", "yuv444p10le", None),
    ("mp4", "yuv410p", "yuv420p", "chroma is stored as 4:2:0"),
])  # fmt: skip
def test_depth_and_chroma_stay_as_far_as_the_encoder_has_them(run, tmp_path, extension, layout, made, note):
    draw = lambda index: moving(index, 64, 64)  # noqa: E731
    clip = make_clip(tmp_path / "a.mkv", draw, codec="ffv1", layout=layout, times=[0, 512])
    result = run(clip, tmp_path / f"b.{extension}")
    with av.open(str(result.target)) as container:
        assert container.streams.video[0].pix_fmt.replace("yuvj", "yuv") == made
    assert [note] if note else result.notes == [] or result.notes[0].startswith(note or "")
    if note:
        assert result.notes[0].startswith(note)
    assert np.abs(shown(result.target)[0][::2, ::2].astype(int) - shown(clip)[0]).mean() < 4


def test_ten_bits_pass_the_network(run, tmp_path):
    """A ramp over 384 levels of 10 bits, of which 8 bits would keep every fourth."""
    luma = (np.arange(24 * 32).reshape(24, 32) // 2 + 300).astype("<u2")

    def fill(frame):
        for plane, samples in zip(
            frame.planes, [luma, np.full((24, 32), 512, "<u2"), np.full((24, 32), 512, "<u2")], strict=True
        ):
            np.frombuffer(plane, "<u2").reshape(24, -1)[:, :32] = samples
        return frame

    clip = tmp_path / "a.mkv"
    with av.open(str(clip), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 32, 24, "yuv444p10le"
        stream.codec_context.color_range, stream.codec_context.colorspace = MPEG, 1
        container.mux([*stream.encode(fill(av.VideoFrame(32, 24, "yuv444p10le"))), *stream.encode(None)])
    target = run(clip, tmp_path / "b.mkv", quality=100).target
    with av.open(str(target)) as container:
        frame = next(container.decode(video=0))
        made = np.frombuffer(frame.planes[0], "<u2").reshape(48, -1)[:, :64]
    off = np.abs(made[::2, ::2].astype(int) - luma)
    assert off.mean() < 0.5  # 1.0 if the last two bits are lost
    assert len(np.unique(made)) > 300


@pytest.mark.parametrize(("extension", "codec"), [("mp4", "aac"), ("mov", "aac"), ("mkv", "libopus"), ("webm", "libopus")])
def test_sound_chapters_and_tags_are_copied(run, tmp_path, extension, codec):
    fills = []
    chapters = [
        {"id": 1, "start": 0, "end": 100, "time_base": Fraction(1, 1000), "metadata": {"title": "Anfang"}},
        {"id": 2, "start": 100, "end": 240, "time_base": Fraction(1, 1000), "metadata": {"title": "Schluß"}},
    ]

    def setup(container, stream):
        fills.append(add_sound(container, codec))
        container.metadata.update(title="Kürbis", comment="c", creation_time="2020-01-02T03:04:05.000000Z")
        container.set_chapters(chapters)

    draw = lambda index: moving(index, 64, 64)  # noqa: E731
    video = {"codec": "libsvtav1", "options": {"preset": "12"}} if extension == "webm" else {}
    clip = make_clip(tmp_path / f"a.{extension}", draw, setup=setup, fill=lambda container: fills[0](container), **video)
    result = run(clip, tmp_path / "out")
    assert result.notes == []
    assert packets(result.target, "audio") == packets(clip, "audio") != []
    assert seconds(result.target) == seconds(clip)
    with av.open(str(clip)) as before, av.open(str(result.target)) as after:
        assert after.streams.audio[0].language == before.streams.audio[0].language == (None if extension == "mov" else "deu")
        assert [(c["start"] * c["time_base"], c["end"] * c["time_base"], c["metadata"]) for c in after.chapters()] == [
            (Fraction(0), Fraction(1, 10), {"title": "Anfang"}),
            (Fraction(1, 10), Fraction(24, 100), {"title": "Schluß"}),
        ]
        for key in ("title", "comment", "creation_time"):
            assert {k.lower(): v for k, v in after.metadata.items()}[key] == {
                k.lower(): v for k, v in before.metadata.items()
            }[key]
        assert len(after.streams) == len(before.streams)


def subtitles(container, codec):
    """Add subtitles of two lines; the function returned writes them."""
    stream = container.add_mux_stream(codec)
    stream.time_base = Fraction(1, 1000)
    stream.metadata.update(language="eng", title="spoken")

    def fill(container):
        for start, text in ((0, b"Hello"), (120, b"world")):
            packet = av.Packet(len(text).to_bytes(2, "big") + text if codec == "mov_text" else text)
            packet.stream, packet.time_base = stream, Fraction(1, 1000)
            packet.pts = packet.dts = start
            packet.duration = 100
            container.mux(packet)

    return fill


def cover(container):
    """Add cover art, as MP4 has it; the function returned writes it."""
    data = io.BytesIO()
    Image.new("RGB", (16, 16), "red").save(data, "jpeg")
    stream = container.add_mux_stream("mjpeg", width=16, height=16)
    stream.time_base = Fraction(1, 90000)
    stream.disposition = av.stream.Disposition.attached_pic

    def fill(container):
        packet = av.Packet(data.getvalue())
        packet.stream, packet.pts, packet.dts, packet.is_keyframe = stream, 0, 0, True
        packet.time_base = Fraction(1, 90000)
        container.mux(packet)

    return fill, data.getvalue()


def test_subtitles_and_cover_art_of_mp4_are_copied(run, tmp_path):
    fills, art = [], []

    def setup(container, stream):
        fills.append(subtitles(container, "mov_text"))
        fill, data = cover(container)
        fills.append(fill)
        art.append(data)

    clip = make_clip(tmp_path / "a.mp4", setup=setup, fill=lambda container: [fill(container) for fill in fills])
    result = run(clip, tmp_path / "b.mp4")
    assert result.notes == []
    lines = [
        packet for packet in packets(result.target, "subtitles") if packet[0] != b"\0\0"
    ]  # with which the muxer fills gaps
    assert lines == [packet for packet in packets(clip, "subtitles") if packet[0] != b"\0\0"]
    with av.open(str(result.target)) as container:
        assert container.streams.subtitles[0].language == "eng"
        assert [stream.disposition & 1024 for stream in container.streams.video] == [0, 1024]
        assert bytes(next(container.demux(container.streams.video[1]))) == art[0]
    # Matroska has no mov_text, and takes cover art as an attachment.
    other = run(clip, tmp_path / "b.mkv")
    assert re.match(r"subtitles \(stream 1, mov_text\) left out: \.mkv files cannot hold this", other.notes[0])
    with av.open(str(other.target)) as container:
        assert bytes(next(container.demux(container.streams.video[1]))) == art[0]


def test_subtitles_fonts_and_cover_art_of_matroska_are_copied(run, tmp_path):
    fills = []
    art = io.BytesIO()
    Image.new("RGB", (16, 16), "blue").save(art, "png")

    def setup(container, stream):
        fills.append(subtitles(container, "subrip"))
        container.add_attachment("letters.ttf", "font/ttf", b"not really a font")
        container.add_attachment("cover.png", "image/png", art.getvalue())

    clip = make_clip(tmp_path / "a.mkv", setup=setup, fill=lambda container: fills[0](container))
    result = run(clip, tmp_path / "b.mkv")
    assert result.notes == []
    assert packets(result.target, "subtitles") == packets(clip, "subtitles")
    with av.open(str(result.target)) as container:
        kinds = {stream.type: stream for stream in container.streams}
        assert kinds["subtitle"].metadata["title"] == "spoken"
        assert (kinds["attachment"].name, kinds["attachment"].mimetype) == ("letters.ttf", "font/ttf")
        assert kinds["attachment"].data == b"not really a font"
        assert bytes(next(container.demux(container.streams.video[1]))) == art.getvalue()
    lost = run(clip, tmp_path / "b.mp4").notes
    assert lost[0].startswith("subtitles (stream 1, srt), attachment (stream 2, letters.ttf) left out: .mp4 files")


def test_time_stamps_of_copied_streams_that_do_not_increase_are_moved(run, tmp_path):
    """As recordings have them. Matroska takes them, MP4 does not."""
    streams = []

    def setup(container, stream):
        streams.append(container.add_stream("pcm_s16le", rate=48000))

    def fill(container):
        for start in (0, 20, 20, 40):
            packet = av.Packet(bytes(range(192)) * 10)
            packet.stream, packet.time_base = streams[0], Fraction(1, 1000)
            packet.pts = packet.dts = start
            container.mux(packet)

    clip = make_clip(tmp_path / "a.mkv", setup=setup, fill=fill)
    result = run(clip, tmp_path / "b.mov")
    assert result.notes == ["packets of audio (stream 1, pcm_s16le) whose time stamps did not increase, moved: 1"]
    sound = [b"".join(data for data, _, _ in packets(path, "audio")) for path in (clip, result.target)]
    assert sound[0] == sound[1]


def test_a_stream_of_a_kind_that_ffmpeg_does_not_know_is_left_out_with_a_note(run, tmp_path):
    fills = []
    clip = make_clip(
        tmp_path / "a.mkv",
        setup=lambda container, _: fills.append(add_sound(container)),
        fill=lambda container: fills[0](container),
    )
    data = clip.read_bytes()
    assert data.count(b"A_AAC") == 1
    clip.write_bytes(data.replace(b"A_AAC", b"A_XYZ"))
    result = run(clip, tmp_path / "b.mkv")
    assert result.notes[0].startswith("audio (stream 1, of an unknown kind) left out")
    assert seconds(result.target) == seconds(clip)


def test_a_second_video_stream_is_copied_with_a_note(run, tmp_path):
    def setup(container, stream):
        other = container.add_stream("libx264", rate=25)
        other.width, other.height, other.pix_fmt = 48, 32, "yuv420p"
        others.append(other)

    def fill(container):
        frame = av.VideoFrame.from_ndarray(moving(0, 48, 32))
        container.mux([*others[0].encode(frame), *others[0].encode(None)])

    others = []
    clip = make_clip(tmp_path / "a.mkv", setup=setup, fill=fill)
    result = run(clip, tmp_path / "b.mkv")
    assert result.notes == ["video (stream 1, h264) is copied as it is: only the first video stream is enlarged"]
    with av.open(str(result.target)) as container:
        assert [(stream.width, stream.height) for stream in container.streams.video] == [(64, 48), (48, 32)]


def test_a_time_code_and_tags_of_quicktime_are_kept(run, tmp_path):
    def setup(container, stream):
        stream.metadata["timecode"] = "01:02:03:04"
        container.metadata["com.apple.quicktime.make"] = "Maker"

    clip = make_clip(tmp_path / "a.mov", setup=setup, container_options={"movflags": "use_metadata_tags"})
    result = run(clip, tmp_path / "b.mov")
    assert result.notes == []
    with av.open(str(result.target)) as container:
        assert container.metadata["com.apple.quicktime.make"] == "Maker"
        assert [stream.metadata.get("timecode") for stream in container.streams] == ["01:02:03:04"] * 2


def test_tags_that_the_container_does_not_have_are_named(run, tmp_path):
    def setup(container, stream):
        container.metadata.update(title="kept", director="lost")

    clip = make_clip(tmp_path / "a.mkv", setup=setup)
    result = run(clip, tmp_path / "b.mp4")
    assert "tags left out, which this container does not have: DIRECTOR" in result.notes


def test_strip_metadata_keeps_languages_alone(run, tmp_path):
    fills = []

    def setup(container, stream):
        fills.append(add_sound(container))
        container.metadata["title"] = "private"
        stream.metadata["title"] = "private"
        container.add_attachment("letters.ttf", "font/ttf", b"not really a font")

    clip = make_clip(tmp_path / "a.mkv", setup=setup, fill=lambda container: fills[0](container))
    target = run(clip, tmp_path / "b.mkv", strip_metadata=True).target
    assert b"private" not in target.read_bytes()
    with av.open(str(target)) as container:
        assert container.streams.audio[0].language == "deu"
        assert container.streams[2].name == "letters.ttf"


def test_odd_sides_lose_a_pixel_where_chroma_is_subsampled(run, tmp_path):
    clip = make_clip(tmp_path / "a.mkv", lambda index: moving(index, 30, 26))
    result = run(clip, tmp_path / "b.mkv", size=FinalSize(scale=1.5))
    assert result.notes == ["45x39 pixels became 44x38: with chroma of half the size, sides are even"]
    assert shown(result.target)[0].shape == (38, 44, 3)
    full = make_clip(tmp_path / "c.mkv", lambda index: moving(index, 30, 26), layout="yuv444p")
    assert shown(run(full, tmp_path / "d.mkv", size=FinalSize(scale=1.5)).target)[0].shape == (39, 45, 3)


@pytest.mark.parametrize("size", [FinalSize(width=40), FinalSize(height=30), FinalSize(longest=40)])
def test_final_sizes(run, tmp_path, size):
    clip = make_clip(tmp_path / "a.mp4")
    result = run(clip, tmp_path, size=size)
    assert shown(result.target)[0].shape == (30, 40, 3)


@pytest.mark.parametrize(
    ("size", "model"),
    [(FinalSize(2), "aesop_compact_x2"), (FinalSize(width=64), "aesop_compact_x2"), (None, "aesop_compact_x4")],
)
def test_clips_get_the_bundled_model_for_their_size(tmp_path, size, model):
    clip = make_clip(tmp_path / "a.mp4", times=[0])
    results = upscale_files([clip], tmp_path / "b.mkv", size=size, device="cpu", console=Console(file=io.StringIO()))
    assert [(result.error, result.model) for result in results] == [(None, model)]


def test_avi_becomes_matroska(run, tmp_path):
    clip = make_clip(tmp_path / "a.avi", codec="mpeg4", time_base=Fraction(1, 25), times=range(8), options={"bf": "2"})
    result = run(clip, tmp_path)
    assert result.target == tmp_path / "a_x2.mkv"
    assert np.diff(seconds(result.target)).tolist() == [Fraction(1, 25)] * 7


def test_quality_decides_the_size_of_the_file(run, tmp_path):
    clip = make_clip(tmp_path / "a.mp4", lambda index: np.random.default_rng(index).integers(0, 256, (24, 32, 3), np.uint8))
    sizes = [run(clip, tmp_path / f"{quality}.mp4", quality=quality).target.stat().st_size for quality in (30, None, 95)]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[1] < sizes[2]


def test_equal_frames_are_computed_once(run, network, tmp_path):
    clip = make_clip(tmp_path / "a.mkv", lambda index: moving(index // 3), times=range(0, 9 * 512, 512))
    run(clip, tmp_path / "b.mkv")
    assert network.batches == [1, 1, 1]
    assert len(seconds(tmp_path / "b.mkv")) == 9


def test_batches_of_frames_make_the_same_clip(run, network, tmp_path, monkeypatch):
    clip = make_clip(tmp_path / "a.mkv", lambda index: moving(index // 2, 64, 64), times=range(0, 10 * 512, 512))
    run(clip, tmp_path / "b.webm")
    network.batches.clear()
    monkeypatch.setattr(Upscaler, "at_once", 3)
    run(clip, tmp_path / "c.webm")
    assert network.batches == [3, 2]
    assert packets(tmp_path / "c.webm", "video") == packets(tmp_path / "b.webm", "video")


@pytest.fixture
def short_parts(monkeypatch):
    monkeypatch.setattr("aesop.commands.upscale_video.PART_FRAMES", 4)


@pytest.mark.parametrize("extension", ["mp4", "webm"])
@pytest.mark.usefixtures("short_parts")
def test_an_interrupted_clip_goes_on_and_ends_bit_for_bit_like_an_undisturbed_one(
    run, network, tmp_path, monkeypatch, extension
):
    # x264's mbtree makes one of several results, uninterrupted too (docs/decisions.md).
    monkeypatch.setitem(encoding.ENCODERS, ".mp4", encoding.Encoder("libx264", 51, (("mbtree", "0"),)))
    fills = []

    def setup(container, stream):
        fills.append(add_sound(container))

    draw = lambda index: moving(index, 64, 64)  # noqa: E731
    clip = make_clip(tmp_path / "a.mkv", draw, range(0, 14 * 512, 512), setup=setup, fill=lambda c: fills[0](c))
    undisturbed = run(clip, tmp_path / f"whole.{extension}").target
    network.batches.clear()
    network.interrupted_after = 10
    target = tmp_path / f"b.{extension}"
    with pytest.raises(
        KeyboardInterrupt, match=r"8 of about 14 frames of a\.mkv are done, in .*b\.\w+\.parts; to go on, repeat the command"
    ):
        run(clip, target)
    assert not target.exists()
    parts = tmp_path / f"b.{extension}.parts"
    assert left_in(parts) == ["000000.safetensors", "000001.safetensors", "job.json"]
    network.interrupted_after = None
    network.batches.clear()
    said = io.StringIO()
    run(clip, target, console=Console(file=said, width=1000))
    assert "going on after 8 frames" in said.getvalue()
    assert sum(network.batches) == 6
    assert not parts.exists()
    assert packets(target, "video") == packets(undisturbed, "video")
    assert packets(target, "audio") == packets(undisturbed, "audio")
    assert [frame.tobytes() for frame in shown(target)] == [frame.tobytes() for frame in shown(undisturbed)]
    assert seconds(target) == seconds(undisturbed)


@pytest.mark.usefixtures("short_parts")
def test_an_interruption_before_the_first_part_leaves_nothing(run, network, tmp_path):
    clip = make_clip(tmp_path / "a.mkv")
    network.interrupted_after = 2
    with pytest.raises(KeyboardInterrupt, match="interrupted; to go on"):
        run(clip, tmp_path / "out" / "b.mkv")
    assert left_in(tmp_path / "out") == []


@pytest.mark.usefixtures("short_parts")
def test_parts_of_other_options_or_another_source_are_not_used(run, network, tmp_path):
    clip = make_clip(tmp_path / "a.mkv", times=range(0, 10 * 512, 512))
    network.interrupted_after = 6
    with pytest.raises(KeyboardInterrupt):
        run(clip, tmp_path / "b.mkv")
    network.interrupted_after = None
    failed = run(clip, tmp_path / "b.mkv", quality=90, fails=True)
    assert re.search(r"b\.mkv\.parts holds parts .* made differently \(encoding, headers\).*--overwrite", failed.error)
    make_clip(clip, quadrants, times=range(0, 10 * 512, 512))
    failed = run(clip, tmp_path / "b.mkv", fails=True)
    assert "(source)" in failed.error
    network.batches.clear()
    run(clip, tmp_path / "b.mkv", overwrite=True)
    assert sum(network.batches) == 3  # equal frames: one for each part
    assert left_in(tmp_path) == ["a.mkv", "b.mkv", "w.safetensors"]


def test_what_cannot_be_encoded_is_an_error_before_anything_is_computed(run, network, tmp_path):
    clip = make_clip(tmp_path / "a.mp4", lambda index: moving(index, 320, 24))
    failed = run(clip, tmp_path / "out" / "b.mp4", size=FinalSize(width=17600), fails=True)
    assert "libx264 cannot encode 17600x1320 pixels of yuv420p" in failed.error
    assert network.batches == []
    assert left_in(tmp_path / "out") == []


def test_an_encoder_that_is_missing_is_named(run, tmp_path, monkeypatch):
    monkeypatch.setitem(encoding.ENCODERS, ".mp4", encoding.Encoder("libnothing", 51))
    failed = run(make_clip(tmp_path / "a.mp4"), tmp_path / "b.mp4", fails=True)
    assert re.search(r"\.mp4 files need the encoder libnothing", failed.error)


def test_a_clip_that_fails_does_not_stop_the_others(run, tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"no video")
    good = make_clip(tmp_path / "b.mp4")
    (tmp_path / "w.safetensors").touch()
    results = [
        *upscale_files(
            [tmp_path / "a.mp4", good],
            tmp_path / "out",
            tmp_path / "w.safetensors",
            device="cpu",
            console=Console(file=io.StringIO()),
        )
    ]
    assert [bool(result.error) for result in results] == [True, False]
    text = Summary.of(results).text()
    assert "upscaled 1 of 2 videos" in text
    assert "failed: " in text
    assert "a.mp4 cannot be read as a video" in text
    assert left_in(tmp_path / "out") == ["b_x2.mp4"]


def test_existing_results(run, network, tmp_path):
    clip = make_clip(tmp_path / "a.mp4")
    target = run(clip, tmp_path).target
    with pytest.raises(ValueError, match=r"a_x2\.mp4 exists"):
        run(clip, tmp_path)
    network.batches.clear()
    assert run(clip, tmp_path, skip_existing=True).skipped
    assert network.batches == []
    make_clip(target, quadrants)
    assert "of another size" in run(clip, tmp_path, skip_existing=True, fails=True).error
    assert not run(clip, tmp_path, skip_existing=True, overwrite=True).skipped
    assert shown(target)[0].shape == (48, 64, 3)


def test_progress_of_a_clip(run, tmp_path):
    said = io.StringIO()
    run(make_clip(tmp_path / "a.mp4"), tmp_path, progress="json", console=Console(file=said, width=1000))
    lines = [json.loads(line) for line in said.getvalue().splitlines()]
    assert [line["percent"] for line in lines] == [0, 16, 33, 49, 66, 82, 99, 100]  # 1 % is for writing
    assert {line["image"] for line in lines} == {"a.mp4"}


def test_the_time_left_is_that_of_what_is_left(monkeypatch):
    clock = SimpleNamespace(perf_counter=iter([0.0, 10.0]).__next__)
    monkeypatch.setattr("aesop.commands.upscale_progress.time", clock)
    said = io.StringIO()
    with UpscaleProgress(Console(file=said, width=1000), 1, "json") as shown_progress:
        shown_progress.begin(0, "a.mp4")
        shown_progress.resume(0, 0.5)
        shown_progress.update(0, 0.75)
    done = 0.75 * COMPUTED  # of a clip, a quarter of it in these ten seconds
    left = json.loads(said.getvalue().splitlines()[-1])["seconds_left"]
    assert left == pytest.approx(10 * (1 - done) / (done - 0.5), abs=0.06)


def test_errors_of_the_command_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_clip(Path("a.mp4"))
    Image.new("RGB", (8, 8)).save("b.png")
    for words, message in (
        (["a.mp4", "b.png"], "a.mp4 is a video: upscale videos by themselves"),
        (["a.mp4", "-o", "-"], "a video is not written to standard output"),
        (["a.mp4", "--alpha", "network"], "--alpha and --lossless are for pictures"),
        (["a.mp4", "--ext", "png"], "--ext png: not a format that can be written (these can: mp4 m4v mov mkv webm)"),
        (["a.mp4", "-o", "b.png"], "cannot write .png files; use one of mp4 m4v mov mkv webm"),
        (["missing.mp4"], "missing.mp4: no such file"),
    ):
        shown = CliRunner().invoke(app, ["upscale", *words])
        assert shown.exit_code == 1
        assert message in shown.stderr
    assert left_in(tmp_path) == ["a.mp4", "b.png"]


def test_videos_in_folders_are_left_out_with_what_to_do(run, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    make_clip(folder / "a.mp4")
    Image.new("RGB", (8, 8)).save(folder / "b.png")
    said = io.StringIO()
    run(folder, tmp_path / "out", console=Console(file=said, width=1000))
    assert "left out a.mp4 (a video: name it by itself, aesop upscale FILE" in said.getvalue()
    assert left_in(tmp_path / "out") == ["b_x2.png"]
