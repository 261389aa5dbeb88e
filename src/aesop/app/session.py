"""The pictures and results of one visitor of the page: their files, and the work on them."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from tempfile import mkdtemp
from threading import Event, Lock

from rich.console import Console

from aesop.app.preview import write_preview
from aesop.commands.upscale import upscale_files
from aesop.commands.upscale_plan import find_images
from aesop.commands.upscale_results import Result
from aesop.inference.final_size import FinalSize, sides_at
from aesop.pictures.picture import Picture
from aesop.pictures.read import open_picture

MAX_MB = 100
"""Of a file that is dropped."""
MAX_MEGAPIXELS = 100
"""Of a picture that is dropped, all frames together."""
MAX_RESULT_MEGAPIXELS = 400
_COMMAND = "the command aesop upscale has no such limit"
_computing = Lock()  # one picture at a time, whoever asked for it


class Cancelled(Exception):
    """Raised between two tiles, to end the work."""


@dataclass(frozen=True)
class Wish:
    """What a visitor chose. `model` None is the model that comes with aesop."""

    model: str | None
    size: FinalSize


class Session:
    """All files are below `folder`. Messages name pictures as the visitor does, without folders."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.pictures: dict[Path, Picture] = {}
        self.results: list[Result] = []
        self._runs = 0
        self._stop = Event()
        self._working = Lock()

    def add(self, upload: Path) -> None:
        """Copy a file that was dropped. ValueError or OSError: it cannot be upscaled on this page."""
        path = self._free(upload.name)
        path.parent.mkdir(exist_ok=True)
        shutil.copyfile(upload, path)
        try:
            self.pictures[path] = _checked(path)
        except (ValueError, OSError):
            path.unlink()
            raise

    def clear(self) -> None:
        """Forget the pictures that were added; results stay."""
        for path in self.pictures:
            path.unlink(missing_ok=True)
        self.pictures.clear()

    def upscale(self, wish: Wish, on_progress: Callable[[float], None]) -> None:
        """Upscale all pictures as `aesop upscale` does; `results` has one of each, also of those that fail.

        Raises:
            Cancelled: `cancel` was called; what is finished is in `results`.
            ValueError, OSError: nothing can be computed.
        """
        stop = self._stop = Event()

        def report(part: float) -> None:
            if stop.is_set():
                raise Cancelled
            on_progress(part)

        with self._working, _computing:
            report(0)
            self.results = []
            shutil.rmtree(self._results, ignore_errors=True)
            self._runs += 1  # a new folder: browsers keep what they loaded from the former one
            for path, picture in self.pictures.items():
                _check_result(path.name, picture, wish.size)
            if not self.pictures:
                raise ValueError("there are no pictures: drop some first")
            for result in upscale_files(
                [*self.pictures], self._results, wish.model, size=wish.size, progress=report, console=Console(quiet=True)
            ):
                self.results.append(result)

    def previews(self, number: int) -> tuple[Path, Path]:
        """Pictures of one size of an input and its result, by the number in `results`, that browsers can show."""
        result = self.results[number]
        before, after = (self._results / "previews" / f"{number}_{side}.png" for side in ("before", "after"))
        for source, target in ((result.source, before), (result.target, after)):
            if not target.exists():
                write_preview(source, target)
        return before, after

    def cancel(self) -> None:
        """End the work, and return when it has ended: after the tile that is being computed."""
        self._stop.set()
        with self._working:
            pass

    def close(self) -> None:
        """End the work and remove all files."""
        self.cancel()
        shutil.rmtree(self.folder, ignore_errors=True)

    def line(self, error: Exception | str) -> str:
        """A message as a line for the page: without the folders of this machine."""
        text = " ".join(str(error).split()) or type(error).__name__
        return text.replace(f"{self._results}/", "").replace(f"{self._added}/", "")

    @property
    def _added(self) -> Path:
        return self.folder / "pictures"

    @property
    def _results(self) -> Path:
        return self.folder / f"results{self._runs}"

    def _free(self, name: str) -> Path:
        path = self._added / name
        names = (path.with_stem(f"{path.stem} {number}") for number in count(2))
        while path.exists():
            path = next(names)
        return path


class Sessions:
    """The sessions that are open, by a key that only their own browser knows; their folders lie in `folder`."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._open: dict[str, Session] = {}
        self._lock = Lock()

    def of(self, key: str) -> Session:
        with self._lock:
            if key not in self._open:
                self._open[key] = Session(Path(mkdtemp(dir=self.folder)))
            return self._open[key]

    def close(self, key: str) -> None:
        with self._lock:
            session = self._open.pop(key, None)
        if session:
            session.close()

    def close_all(self) -> None:
        for key in list(self._open):
            self.close(key)


def _checked(path: Path) -> Picture:
    find_images([path], path.parent)
    picture = open_picture(path)
    megapixels = sum(width * height for width, height in picture.sizes) / 1e6
    if megapixels > MAX_MEGAPIXELS:
        raise ValueError(f"{path}: {megapixels:.0f} megapixels; this page takes {MAX_MEGAPIXELS}, while {_COMMAND}")
    return picture


def _check_result(name: str, picture: Picture, size: FinalSize) -> None:
    final = [sides_at(size.scale_of(*sides, network=1), *sides) for sides in picture.sizes]
    megapixels = sum(width * height for width, height in final) / 1e6
    if megapixels > MAX_RESULT_MEGAPIXELS:
        raise ValueError(
            f"{name} would have {megapixels:.0f} megapixels; this page makes {MAX_RESULT_MEGAPIXELS}: choose a smaller "
            f"size, or {_COMMAND}"
        )
