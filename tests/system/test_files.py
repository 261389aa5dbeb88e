"""Replacing a file: all of it or nothing."""

import os
from pathlib import Path

import pytest

from aesop.system.files import replacing, replacing_folder


def test_the_file_appears_only_when_it_is_whole(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with replacing(target) as temporary:
        temporary.write_text("new")
        assert temporary.parent == target.parent, "a rename across file systems would not be atomic"
        assert temporary.suffix == ".txt"
        assert temporary.name.startswith("."), "hidden from `ls` and from globs of a folder's images"
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    assert list(tmp_path.iterdir()) == [target]


def test_missing_folders_are_made_and_strings_are_paths(tmp_path):
    with replacing(str(tmp_path / "new" / "folder" / "a.txt")) as temporary:
        temporary.write_text("x")
    assert (tmp_path / "new" / "folder" / "a.txt").read_text() == "x"


@pytest.mark.parametrize("error", [RuntimeError, OSError, KeyboardInterrupt])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, error):
    target = tmp_path / "a.txt"
    target.write_text("old")

    def write_half():
        with replacing(target) as temporary:
            temporary.write_text("ha")
            raise error("the disk is full")

    with pytest.raises(error, match="the disk is full"):
        write_half()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_failed_rename_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    target = tmp_path / "a.txt"
    target.write_text("old")

    def refuse(*_):
        raise PermissionError("the file is in use")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(PermissionError, match="in use"), replacing(target) as temporary:
        temporary.write_text("new")
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_block_that_writes_nothing_is_an_error(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(FileNotFoundError), replacing(target):
        pass
    assert target.read_text() == "old"


def test_a_name_of_the_longest_length_works(tmp_path):
    target = tmp_path / ("n" * 251 + ".txt")  # 255 bytes, what common file systems allow
    with replacing(target) as temporary:
        temporary.write_text("x")
    assert list(tmp_path.iterdir()) == [target]


def test_two_files_of_one_folder_at_once(tmp_path):
    with replacing(tmp_path / "a.txt") as a, replacing(tmp_path / "b.txt") as b, replacing(tmp_path / "a.pth") as c:
        for temporary in (a, b, c):
            temporary.write_text(temporary.name)
        assert len({a, b, c}) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.pth", "a.txt", "b.txt"]


def test_a_file_that_its_writer_closed_to_others_gets_the_usual_permissions(tmp_path):
    """safetensors makes files that only their owner can read, which hurts on shared machines."""
    with replacing(tmp_path / "a.bin") as temporary:
        temporary.write_bytes(b"x")
        temporary.chmod(0o600)
    (tmp_path / "b.bin").write_bytes(b"x")
    assert (tmp_path / "a.bin").stat().st_mode == (tmp_path / "b.bin").stat().st_mode


def test_a_folder_is_replaced_as_a_whole_or_not_at_all(tmp_path, monkeypatch):
    folder = tmp_path / "card"
    for content in ("old", "new"):
        with replacing_folder(folder) as temporary:
            (temporary / content).touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["card", "new"]

    def fails(self: Path, target: Path) -> None:
        if (self / "newest").exists():
            raise OSError("no space")
        os.rename(self, target)

    monkeypatch.setattr(Path, "rename", fails)
    with pytest.raises(OSError, match="no space"), replacing_folder(folder) as temporary:
        (temporary / "newest").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["card", "new"]
