"""What is kept of converted networks: whole or not at all, the latest, and nothing that stops an upscaling."""

import multiprocessing
import os
import stat
from pathlib import Path

import pytest

from aesop.inference import runtime_cache
from aesop.inference.runtime_cache import key_of, read, write

PARTS = {"weights": "a", "precision": "fp32", "runtime": "openvino 1", "exporter": "torch 1", "processor": "x"}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "aesop" / "networks"


def test_what_is_written_is_read(folder):
    assert read("a") is None
    write("a", b"first")
    write("b", b"")
    write("a", b"second")
    assert (read("a"), read("b"), read("c")) == (b"second", b"", None)
    assert sorted(file.name for file in folder.iterdir()) == ["a.onnx", "b.onnx"]


@pytest.mark.parametrize("part", PARTS)
def test_every_part_counts(part):
    assert key_of(**PARTS) == key_of(**dict(reversed(PARTS.items())))
    assert key_of(**PARTS | {part: "other"}) != key_of(**PARTS)


@pytest.mark.parametrize("damage", ["changed", "cut", "emptied", "a folder"])
def test_damaged_entries_are_none_and_made_again(folder, damage):
    write("a", b"content of some length")
    file = folder / "a.onnx"
    entry = bytearray(file.read_bytes())
    if damage == "a folder":
        file.unlink()
        file.mkdir()
    elif damage == "changed":
        entry[-3] ^= 1
        file.write_bytes(entry)
    else:
        file.write_bytes(entry[: -1 if damage == "cut" else 0])
    assert read("a") is None
    if damage != "a folder":
        write("a", b"whole")
        assert read("a") == b"whole"


def test_the_entries_that_were_not_used_for_longest_are_removed(folder, monkeypatch):
    for age, key in enumerate("cba"):
        write(key, bytes(100))
        os.utime(folder / f"{key}.onnx", (1000 + age, 1000 + age))
    assert read("c")  # which makes it the latest
    monkeypatch.setattr(runtime_cache, "MOST_BYTES", 4 * (32 + 100) - 1)
    write("d", bytes(100))
    assert (read("a"), read("b")) == (bytes(100), None)
    assert (read("c"), read("d")) == (bytes(100), bytes(100))


def _write_often(number: int) -> None:
    for _ in range(50):
        write("a", bytes([number]) * 50_000)


def test_several_processes_write_at_once(folder):
    """A reader sees one of their entries, whole, or before the first none."""
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_write_often, args=(number,)) for number in (1, 2, 3)]
    for process in processes:
        process.start()
    seen = set()
    while any(process.is_alive() for process in processes):
        content = read("a")
        seen.add(content if content is None else (content[0], len(content), len(set(content))))
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert seen <= {None, (1, 50_000, 1), (2, 50_000, 1), (3, 50_000, 1)}
    assert read("a")
    assert len(list(folder.iterdir())) == 1


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_only_may_be_read(folder):
    write("a", b"content")
    folder.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        assert read("a") == b"content"
        with pytest.raises(OSError, match="denied"):
            write("b", b"content")
    finally:
        folder.chmod(stat.S_IRWXU)
