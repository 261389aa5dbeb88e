"""Parts of a clip on disk: what is whole is used again, and nothing else."""

import json

import pytest

from aesop.video.encoding import Packet
from aesop.video.errors import VideoError
from aesop.video.parts import Parts

PACKETS = [Packet(b"one", 0, 10, True), Packet(b"", 20, 0, False), Packet(b"three", 10, 10, False)]


def test_parts_are_read_as_they_were_saved(tmp_path):
    parts = Parts(tmp_path / "a.mp4", {"size": (4, 2)})
    assert parts.begin(False) == 0
    parts.save(0, PACKETS)
    parts.save(1, PACKETS[:1])
    assert parts.times(2) == [0, 20, 10, 0]
    assert list(parts.packets(2)) == PACKETS + PACKETS[:1]
    assert Parts(tmp_path / "a.mp4", {"size": (4, 2)}).begin(False) == 2
    parts.remove()
    assert list(tmp_path.iterdir()) == []


def test_a_part_that_is_damaged_or_half_written_is_made_again(tmp_path):
    parts = Parts(tmp_path / "a.mp4", {})
    parts.begin(False)
    for number in range(3):
        parts.save(number, PACKETS)
    second = parts.folder / "000001.safetensors"
    second.write_bytes(second.read_bytes()[:-1])
    (parts.folder / ".000003.abc.tmp.safetensors").write_bytes(b"half")
    assert parts.begin(False) == 1
    parts.remove()
    assert list(tmp_path.iterdir()) == []


def test_what_fails_while_it_is_saved_leaves_nothing(tmp_path):
    def failing():
        yield PACKETS[0]
        raise RuntimeError

    parts = Parts(tmp_path / "a.mp4", {})
    parts.begin(False)
    with pytest.raises(RuntimeError):
        parts.save(0, failing())
    parts.remove_if_empty()
    assert list(tmp_path.iterdir()) == []


def test_parts_of_another_job_are_not_used_and_not_removed_unasked(tmp_path):
    Parts(tmp_path / "a.mp4", {"source": "x", "quality": 1}).begin(False)
    parts = Parts(tmp_path / "a.mp4", {"source": "x", "quality": 2})
    parts.save(0, PACKETS)
    with pytest.raises(VideoError, match=r"a\.mp4\.parts .*differently \(quality\).*--overwrite"):
        parts.begin(False)
    (parts.folder / "job.json").unlink()
    with pytest.raises(VideoError, match="nothing says how"):
        parts.begin(False)
    assert parts.begin(True) == 0
    assert json.loads((parts.folder / "job.json").read_text()) == {"source": "x", "quality": 2}


def test_a_folder_of_someone_else_is_left_alone(tmp_path):
    folder = tmp_path / "a.mp4.parts"
    folder.mkdir()
    (folder / "diary.txt").write_text("mine")
    parts = Parts(tmp_path / "a.mp4", {})
    parts.begin(False)
    parts.save(0, PACKETS)
    parts.remove()
    assert [file.name for file in folder.iterdir()] == ["diary.txt"]
