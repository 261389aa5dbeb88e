"""The pictures and results of one visitor of the page: their files, and the work on them."""

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from tempfile import mkdtemp
from threading import Event, Lock

from rich.console import Console

from aesop.commands.upscale import upscale_files
from aesop.commands.upscale_plan import find_images
from aesop.commands.upscale_results import Result
from aesop.images.write import write_image
from aesop.inference.final_size import FinalSize, sides_at
from aesop.inference.hallucination import overlaid, read_map
from aesop.pictures.preview import LONGEST_SIDE, shown, write_preview
from aesop.pictures.read import open_picture

MAX_MB = 100
"""Of a file that is dropped."""
MAX_MEGAPIXELS = 100
"""Of a picture that is dropped, all frames together."""
MAX_RESULT_MEGAPIXELS = 200  # larger ones are not read again, for the preview
_ELSEWHERE = "aesop upscale on the command line takes more"
_computing = Lock()  # one picture at a time, whoever asked for it


Sizes = tuple[tuple[int, int], ...]  # width and height of each frame


class Cancelled(Exception):
    """Raised between two tiles, to end the work."""


@dataclass(frozen=True)
class Wish:
    """What a visitor chose. `model` None is that of aesop's own which suits each picture, `texture` None the model's own."""

    model: Path | None
    size: FinalSize
    texture: float | None = None
    faithful_model: Path | None = None


class Session:
    """All files are below `folder`. Messages name pictures as the visitor does, without folders."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.pictures: dict[Path, Sizes] = {}
        self.results: list[Result] = []
        self._clears = self._runs = 0  # number the folders of pictures and of results
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
        """Forget the pictures that were added. Results stay, and until the next ones come also the files."""
        self.pictures.clear()
        self._clears += 1

    def upscale(self, wish: Wish, on_progress: Callable[[float], None]) -> None:
        """Upscale all pictures as `aesop upscale` does; `results` has one of each, also of those that fail.

        Raises:
            Cancelled: `cancel` was called; `results` has what was finished before the last picture.
            ValueError, OSError: nothing can be computed; earlier results stay.
        """
        stop = self._stop = Event()

        def report(part: float) -> None:
            if stop.is_set():
                raise Cancelled
            on_progress(part)

        with self._working, _computing:
            report(0)
            for path, sizes in self.pictures.items():
                _check_result(path.name, sizes, wish.size)
            if not self.pictures:
                raise ValueError("there are no pictures: drop some first")
            self.results = []
            self._runs += 1  # browsers keep what they loaded from the former folder
            for former in {*self.folder.iterdir()} - {self._pictures}:
                shutil.rmtree(former)
            for result in upscale_files(
                [*self.pictures],
                self._results,
                wish.model,
                size=wish.size,
                texture=wish.texture,
                faithful_model=wish.faithful_model,
                hallucination_map=True,
                progress=report,
                console=Console(quiet=True),
            ):
                self.results.append(result)

    def previews(self, number: int) -> tuple[Path, Path, Path]:
        """Pictures that browsers can show: an input, its result, and the map over it, by the number in `results`."""
        result = self.results[number]
        before, after, doubts = (self._results / "previews" / f"{number}_{side}.png" for side in ("before", "after", "map"))
        for source, target in ((result.source, before), (result.target, after)):
            if not target.exists():
                write_preview(source, target)
        if not doubts.exists():
            assert result.map
            levels, _ = read_map(result.map)
            write_image(doubts, overlaid(shown(result.target, LONGEST_SIDE), levels))
        return before, after, doubts

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
        return re.sub(rf"{re.escape(str(self.folder))}[/\\]\w+[/\\]", "", text)

    @property
    def _pictures(self) -> Path:
        return self.folder / f"pictures{self._clears}"

    @property
    def _results(self) -> Path:
        return self.folder / f"results{self._runs}"

    def _free(self, name: str) -> Path:
        path = self._pictures / name
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


def _checked(path: Path) -> Sizes:
    find_images([path], path.parent)  # names kinds that are not read, such as videos
    sizes = open_picture(path).sizes
    if (megapixels := _megapixels(sizes)) > MAX_MEGAPIXELS:
        raise ValueError(f"{path}: {megapixels:.0f} megapixels; this page takes {MAX_MEGAPIXELS}, {_ELSEWHERE}")
    return sizes


def _check_result(name: str, sizes: Sizes, size: FinalSize) -> None:
    final = tuple(sides_at(size.scale_of(*sides, network=1), *sides) for sides in sizes)
    if (megapixels := _megapixels(final)) > MAX_RESULT_MEGAPIXELS:
        limit = f"this page makes {MAX_RESULT_MEGAPIXELS}, {_ELSEWHERE}"
        raise ValueError(f"{name} would have {megapixels:.0f} megapixels: choose a smaller size ({limit})")


def _megapixels(sizes: Sizes) -> float:
    return sum(width * height for width, height in sizes) / 1e6
