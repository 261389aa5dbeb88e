"""What is read of a clip, against how it was made."""

import io
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from clips import HEIGHT, JPEG, MPEG, WIDTH, av, make_clip, moving, packets, quadrants
from PIL import Image

from aesop.video.clip import Clip, Samples
from aesop.video.colour import Colour
from aesop.video.errors import VideoError


def pixels(clip: Clip) -> list[np.ndarray]:
    return [frame.pixels for frame in clip.frames()]


@pytest.mark.parametrize(
    ("matrix", "colour_range", "layout"),
    [(1, MPEG, "yuv444p"), (6, MPEG, "yuv444p"), (6, JPEG, "yuv444p"), (9, MPEG, "yuv444p"), (5, MPEG, "yuv444p10le")],
)
def test_frames_are_the_rgb_they_were_made_of(tmp_path, matrix, colour_range, layout):
    path = make_clip(tmp_path / "a.mkv", codec="ffv1", layout=layout, matrix=matrix, colour_range=colour_range)
    clip = Clip(path)
    assert clip.colour == Colour(matrix, colour_range == JPEG, 6, 6)
    assert clip.size == (WIDTH, HEIGHT)
    assert clip.bits == (10 if "10" in layout else 8)
    found = pixels(clip)
    assert len(found) == 6
    for index, frame in enumerate(found):
        assert frame.dtype == (np.uint8 if clip.bits == 8 else np.uint16)
        unit = 1 if clip.bits == 8 else 257
        # 8 bits of YUV keep RGB up to 2 levels; swscale makes 10 bits up to one level of 255 too dark.
        assert np.abs(frame / unit - moving(index)).max() <= 2.1
    assert clip.notes == []


@pytest.mark.parametrize(
    ("codec", "name", "layout"),
    [
        ("rawvideo", "a.avi", "bgr24"),
        ("rawvideo", "a.mkv", "uyvy422"),
        ("rawvideo", "a.mkv", "nv12"),
        ("ffv1", "a.mkv", "gbrp10le"),
        ("png", "a.mov", "rgb24"),
        ("qtrle", "a.mov", "rgb555be"),
        ("ffv1", "a.mkv", "gray"),
    ],
)
def test_other_layouts_of_samples(tmp_path, codec, name, layout):
    draw = (lambda index: moving(index).mean(2, keepdims=True).repeat(3, 2).astype(np.uint8)) if layout == "gray" else moving
    clip = Clip(
        make_clip(tmp_path / name, draw, codec=codec, layout=layout, colour_range=JPEG if layout == "gray" else MPEG)
    )
    # Mean, because subsampled chroma blurs edges, and 5 bits are coarse.
    bound = 4 if layout in ("rgb555be", "nv12", "uyvy422") else 1
    for index, frame in enumerate(pixels(clip)):
        scale = 1 if frame.dtype == np.uint8 else 257
        assert np.abs(frame / scale - draw(index)).mean() <= bound


def test_motion_jpeg_has_its_chroma_where_jpeg_has_it(tmp_path):
    path = make_clip(tmp_path / "a.avi", codec="mjpeg", layout="yuvj420p", colour_range=JPEG)
    for (data, _, _), frame in zip(packets(path, "video"), pixels(Clip(path)), strict=True):
        theirs = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
        assert np.abs(frame - theirs).mean() < 0.5  # 1.2 to 2.0 with chroma half a pixel further left


@pytest.mark.parametrize(
    ("degrees", "mirrored"), [(0, False), (90, False), (180, False), (-90, False), (90, True), (0, True)]
)
def test_frames_are_upright(tmp_path, degrees, mirrored):
    """The matrix says to turn counter-clockwise, as `np.rot90` does, and to mirror then."""
    path = make_clip(
        tmp_path / "a.mp4",
        quadrants,
        layout="yuv444p",
        setup=lambda _, stream: (
            stream.set_display_rotation(degrees, hflip=mirrored),
            setattr(stream, "sample_aspect_ratio", Fraction(4, 3)),
        ),
    )
    clip = Clip(path)
    expected = np.rot90(quadrants(0), degrees // 90)
    expected = expected[:, ::-1] if mirrored else expected
    assert clip.size == (expected.shape[1], expected.shape[0])
    assert clip.aspect == (Fraction(3, 4) if degrees in (90, -90) else Fraction(4, 3))
    assert np.abs(pixels(clip)[0].astype(int) - expected).max() <= 2
    assert clip.notes == []


def test_a_matrix_that_is_not_stated_is_that_of_the_size(tmp_path):
    small = Clip(make_clip(tmp_path / "a.mkv", times=[0], codec="ffv1", layout="yuv444p", tagged=False))
    assert small.colour == Colour(6, False, 2, 2)
    assert np.abs(pixels(small)[0].astype(int) - moving(0)).max() <= 2
    large = make_clip(
        tmp_path / "b.mkv",
        lambda index: moving(index, 1280, 16),
        [0],
        codec="ffv1",
        layout="yuv444p",
        matrix=1,
        tagged=False,
    )
    assert Clip(large).colour.matrix == 1


@pytest.mark.parametrize(("transfer", "name"), [(16, "PQ"), (18, "HLG")])
def test_high_dynamic_range_is_refused_with_what_to_do(tmp_path, transfer, name):
    path = make_clip(tmp_path / "a.mkv", codec="ffv1", layout="yuv420p10le", matrix=9, tags=(9, transfer))
    with pytest.raises(VideoError, match=rf"a\.mkv has a high dynamic range \({name}\).*ffmpeg.*tonemap"):
        Clip(path)


def test_interlaced_clips_are_refused_with_what_to_do(tmp_path):
    options = {"x264-params": "tff=1", "qp": "0"}
    path = make_clip(tmp_path / "a.mkv", lambda index: moving(index, 32, 32), options=options)
    with pytest.raises(VideoError, match=r"a\.mkv is interlaced.*ffmpeg.*bwdif"):
        Clip(path)


def test_a_matrix_that_is_not_known_is_refused(tmp_path):
    def setup(_, stream):
        stream.codec_context.colorspace = 8  # YCgCo

    path = make_clip(tmp_path / "a.mkv", codec="ffv1", layout="yuv444p", setup=setup)
    with pytest.raises(VideoError, match="number 8"):
        Clip(path)


def test_time_stamps_without_an_order_are_filled_in(tmp_path):
    """AVI has none: with B-frames, the decoder guesses them."""
    path = make_clip(tmp_path / "a.avi", codec="mpeg4", time_base=Fraction(1, 25), times=range(12), options={"bf": "2"})
    clip = Clip(path)
    times = [frame.pts * clip.time_base for frame in clip.frames()]
    assert len(times) == 12
    assert {b - a for a, b in pairwise(times)} == {Fraction(1, 25)}


def test_frames_at_the_same_time_are_moved_by_a_tick(tmp_path):
    path = make_clip(tmp_path / "a.mkv", codec="ffv1", times=[0, 100, 200, 200, 300, 400], time_base=Fraction(1, 1000))
    clip = Clip(path)
    assert [frame.pts for frame in clip.frames()] == [0, 100, 200, 201, 300, 400]
    assert clip.notes == ["time stamps that were missing or did not increase, and were filled in: 1"]


@pytest.mark.parametrize("layout", ["xyz12le", "bayer_rggb8", "grayf32le"])
def test_samples_that_are_no_yuv_or_rgb_integers_are_refused(layout):
    with pytest.raises(VideoError, match=f"{layout} are not supported"):
        Samples.of(av.VideoFormat(layout, 64, 64))


def test_frames_from_a_number_on(tmp_path):
    clip = Clip(make_clip(tmp_path / "a.mp4"))
    all_of_them, later = list(clip.frames()), list(clip.frames(4))
    assert [frame.pts for frame in later] == [frame.pts for frame in all_of_them][4:]
    np.testing.assert_array_equal(later[0].pixels, all_of_them[4].pixels)
    assert clip.count == 6


@pytest.mark.parametrize(("begin", "left", "note"), [(0, 5, "damaged frames, left out: 1"), (26, 6, "mended them: 1")])
def test_damaged_frames_are_left_out_or_mended_with_a_note(tmp_path, begin, left, note):
    path = make_clip(tmp_path / "a.mkv", lambda index: moving(index, 96, 80))
    third, data = packets(path, "video")[2][0], path.read_bytes()
    assert data.count(third) == 1
    path.write_bytes(data.replace(third, third[:begin] + b"Z" * 26 + third[begin + 26 :]))
    clip = Clip(path)
    assert len(list(clip.frames())) == left
    assert clip.notes[0].endswith(note)


def test_a_clip_that_is_cut_off_is_read_as_far_as_it_goes(tmp_path):
    path = make_clip(tmp_path / "a.mkv", codec="ffv1", times=range(0, 100 * 512, 512))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    clip = Clip(path)
    read = len(list(clip.frames()))
    assert 20 < read < 80
    assert clip.notes[-1].startswith("the file is cut off or damaged; missing of its 4 seconds: ")


@pytest.mark.parametrize("content", [b"", b"no video", b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nother.ts\n"])
def test_what_is_no_video_is_an_error(tmp_path, content):
    (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(VideoError, match=r"a\.mp4 cannot be read as a video"):
        Clip(tmp_path / "a.mp4")


def test_sound_alone_is_an_error(tmp_path):
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=48000)
        frame = av.AudioFrame.from_ndarray(np.zeros((2, 2048), np.float32), format="fltp", layout="stereo")
        frame.sample_rate = 48000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(VideoError, match="no video stream"):
        Clip(tmp_path / "a.mp4")


def test_transparency_is_left_out_with_a_note(tmp_path):
    clip = Clip(make_clip(tmp_path / "a.mkv", times=[0], codec="ffv1", layout="bgra"))
    assert np.abs(pixels(clip)[0].astype(int) - moving(0)).max() <= 1
    assert clip.notes[0].startswith("transparency is left out")
