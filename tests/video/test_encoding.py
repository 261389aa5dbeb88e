"""Options of encoders."""

import pytest
from clips import make_clip

from aesop.video.clip import Clip
from aesop.video.encoding import choose_encoding


@pytest.mark.parametrize(
    ("extension", "quality", "crf"),
    [
        (".mp4", None, "17"),
        (".mp4", 67, "17"),
        (".mp4", 1, "50"),
        (".mkv", 100, "1"),
        (".webm", None, "21"),
        (".webm", 50, "32"),
    ],
)
def test_quality_is_a_part_of_the_range_of_crf(tmp_path, extension, quality, crf):
    clip = Clip(make_clip(tmp_path / "a.mp4", times=[0]))
    encoding, notes = choose_encoding(clip, (64, 64), extension, quality)
    assert dict(encoding.options)["crf"] == crf
    assert notes == []
