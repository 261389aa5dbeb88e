"""The finished parts of a clip that is being written, in a folder next to it: `clip.mp4.parts`.

A part holds the packets of PART_FRAMES frames, of which the first is a key frame. Parts do not depend on each other, so an
interrupted clip that goes on becomes what it would have been, bit by bit if the encoder repeats itself.
"""

import json
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save

from aesop.system.files import replacing
from aesop.video.encoding import Packet
from aesop.video.errors import VideoError

PART_FRAMES = 60  # what an interruption costs at most; key frames this far apart make a clip a few percent larger
_JOB = "job.json"


class Parts:
    """The folder of parts of one clip.

    Args:
        target: the clip that is being written.
        job: what decides the parts' content, as JSON values: parts of another job are not used.
    """

    def __init__(self, target: Path, job: dict[str, Any]):
        self.folder = target.with_name(f"{target.name}.parts")
        self._job = json.loads(json.dumps(job))

    def begin(self, overwrite: bool) -> int:
        """Make the folder, and return how many parts are there already.

        VideoError if it holds parts of another job; with `overwrite`, they are removed.
        """
        if self._finished():
            differences = self._differences()
            if differences and not overwrite:
                raise VideoError(
                    f"{self.folder} holds parts of this clip that were made differently ({', '.join(differences)}): to go "
                    "on with them, repeat the former command; to start over, add --overwrite or remove the folder"
                )
            if differences:
                self.remove()
        with replacing(self.folder / _JOB) as file:
            file.write_text(json.dumps(self._job, indent=1), encoding="utf-8")
        return next(number for number in range(10**6) if not self._is_whole(number))

    def save(self, number: int, packets: Iterable[Packet]) -> None:
        """Write a part, or nothing if `packets` fails."""
        kept = list(packets)
        with replacing(self._file(number)) as file:
            arrays = {
                "data": np.frombuffer(b"".join(packet.data for packet in kept), np.uint8),
                "size": np.array([len(packet.data) for packet in kept]),
                "pts": np.array([packet.pts for packet in kept]),
                "duration": np.array([packet.duration for packet in kept]),
                "key": np.array([packet.is_key for packet in kept], np.uint8),
            }
            file.write_bytes(save(arrays))

    def times(self, count: int) -> list[int]:
        """The pts of the packets of the first `count` parts."""
        times: list[int] = []
        for number in range(count):
            with safe_open(self._file(number), "np") as part:
                times += part.get_tensor("pts").tolist()
        return times

    def packets(self, count: int) -> Iterator[Packet]:
        """Read the packets of the first `count` parts."""
        for number in range(count):
            part = load_file(self._file(number))
            data, end = part["data"].tobytes(), 0
            for size, pts, duration, key in zip(
                *(part[name].tolist() for name in ("size", "pts", "duration", "key")), strict=True
            ):
                end += size
                yield Packet(data[end - size : end], pts, duration, bool(key))

    def remove(self) -> None:
        """Remove the folder with all that was written into it."""
        for file in (*self._finished(), *self.folder.glob(".*.tmp.*"), self.folder / _JOB):
            file.unlink(missing_ok=True)
        with suppress(OSError):  # it holds something else
            self.folder.rmdir()

    def remove_if_empty(self) -> None:
        """Remove the folder if no part was finished."""
        if not self._finished():
            self.remove()

    def _finished(self) -> list[Path]:
        return list(self.folder.glob("[0-9]*.safetensors"))

    def _file(self, number: int) -> Path:
        return self.folder / f"{number:06d}.safetensors"

    def _is_whole(self, number: int) -> bool:
        try:
            with safe_open(self._file(number), "np"):  # compares the file's length with its head
                return True
        except (OSError, SafetensorError):
            return False

    def _differences(self) -> list[str]:
        """Name what is not the same as in the job of the parts that are there."""
        try:
            there = json.loads((self.folder / _JOB).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return ["nothing says how"]
        return [name for name in {**self._job, **there} if self._job.get(name) != there.get(name)]
