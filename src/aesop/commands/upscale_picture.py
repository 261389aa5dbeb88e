"""The way of one picture through `aesop upscale`: it is read, computed, and written, by different threads."""

import math
import os
import sys
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from threading import Event

from aesop.commands.upscale_models import Upscalers
from aesop.commands.upscale_plan import PIPE, PipedImage
from aesop.commands.upscale_progress import UpscaleProgress
from aesop.images.computed_rows import Abandoned, ComputedRows
from aesop.images.read import ImageFile
from aesop.inference.consistent import shortfall
from aesop.inference.final_size import FinalSize, sides_at
from aesop.inference.hallucination import HallucinationMap, read_map, write_map
from aesop.inference.suitable_model import VISIBLE_QUALITY
from aesop.inference.upscaler import Upscaler
from aesop.pictures.jpeg_quality import jpeg_quality
from aesop.pictures.kinds import kind_of
from aesop.pictures.picture import Frame, Metadata, Picture
from aesop.pictures.read import open_picture
from aesop.pictures.write import SaveOptions, check_writable, memory_to_write, takes_rows, write_picture
from aesop.system.device import available_memory
from aesop.system.wording import readable

LARGE = 64_000_000  # pixels; larger results are alone in memory, and their rows are written as they are computed


class Stopped(Exception):
    """Raised in the thread of a device, to end what it computes."""


@dataclass(frozen=True)
class Choices:
    """What holds for all pictures."""

    size: FinalSize
    network_scale: int
    options: SaveOptions
    overwrite: bool
    skip_existing: bool
    strip_metadata: bool


class PictureWork:
    """A picture to upscale into `target`, which may be PIPE; `ext` is the format there.

    `map_target` is where its hallucination map goes; None: nowhere.
    """

    def __init__(
        self,
        number: int,
        source: ImageFile,
        target: Path,
        ext: str,
        choices: Choices,
        shown: UpscaleProgress,
        map_target: Path | None = None,
    ):
        self.number, self.source, self.target, self.ext, self.map_target = number, source, target, ext, map_target
        self.choices, self.shown = choices, shown
        self.alone = False
        """Whether no other picture may be in memory: it is large, or has several frames. Known after `read`."""
        self.skipped = False
        self.error: str | None = None
        self.notes: list[str] = []
        self.size: tuple[int, int] | None = None
        """(width, height) of the first page of the result, which is known after `read`; None if there is an error."""
        self.model: str | None = None
        """Which of aesop's models suits it, after `compute`; None if the model was named, or there is an error."""
        self.map: Path | None = None
        """The hallucination map that is beside the result, of its first frame."""
        self._made_map: HallucinationMap | None = None
        self._jpeg_quality: int | None = None
        self._is_compressed = False
        self._picture: Picture | None = None  # until it is written, or there is an error
        self._reached = math.inf  # the lowest `lr_psnr` of the frames
        self._frame: Frame | None = None  # that was decoded, then that which was computed

    @contextmanager
    def _own_errors(self) -> Generator[None]:
        try:
            yield
        except (ValueError, OSError, MemoryError) as error:
            self.error, self.size, self.model = str(error) or type(error).__name__, None, None
            self._picture = self._frame = self._made_map = None

    def read(self) -> None:
        """Open the picture, check all that can be checked before it is computed, and decode it unless it is `alone`."""
        with self._own_errors():
            picture = _open(self.source)
            self.final = [sides_at(self._scale_of(*sides), *sides) for sides in picture.sizes]
            self.size = self.final[0]
            self.skipped = self._is_done()
            if self.skipped:
                self._find_map()
                return
            if self.map_target and os.path.exists(self.map_target) and not self.choices.overwrite:
                raise ValueError(f"{self.map_target} is where the map belongs: to replace it, add --overwrite")
            for width, height in dict.fromkeys(self.final):
                check_writable(self._file(), width, height, picture, self.choices.options)
            by_network = picture.size[0] * picture.size[1] * self.choices.network_scale**2
            width, height = self.final[0]
            self.alone = picture.count > 1 or max(width * height, by_network) > LARGE
            self._jpeg_quality = _quality_of(self.source)
            is_lossy = picture.format == "gif" or (picture.format != "jpeg" and not picture.lossless)
            self._is_compressed = is_lossy or (self._jpeg_quality or 100) <= VISIBLE_QUALITY
            if self.map_target and picture.count > 1:
                self.notes.append("the hallucination map is that of the first frame or page")
            if not self.alone:
                (self._frame,) = picture.frames()
            self._picture = picture

    def compute(self, upscalers: Upscalers, stop: Event) -> None:
        """Compute what was read by the upscaler that suits its first frame, and write it if it is `alone`.

        Raises Stopped soon after `stop` is set.
        """
        self.shown.begin(self.number, Path(self.source.name).name)
        if self._picture is None:
            return
        with self._own_errors():
            frames = iter([self._frame]) if self._frame else self._picture.frames()
            first = next(frames)
            if self._picture.count == 1:
                next(frames, None)  # closes the file, which the result may replace
            upscaler = upscalers.suited_to(first.pixels, self._jpeg_quality, self._scale_of(*self._picture.size))
            self.model = upscaler.name if upscalers.chooses else None
            if self._frame:
                self._frame = self._upscaled(upscaler, first, stop)
            elif self._picture.count == 1:
                self._compute_large(upscaler, self._picture, first, stop)
            else:
                numbered = enumerate(chain([first], frames))
                self._save(self._upscaled(upscaler, frame, stop, index) for index, frame in numbered)

    def write(self) -> None:
        """Write what was computed."""
        with self._own_errors():
            if self._frame:
                self._save(iter([self._frame]))
            if self.map_target and self._made_map:
                write_map(self.map_target, self._made_map)
                self.map = self.map_target
        self.shown.finish(self.number, self.error is None, not self.skipped)

    def _file(self) -> Path:
        return Path(gettempdir(), f"picture{self.ext}") if self.target == PIPE else self.target

    def _upscaled(self, upscaler: Upscaler, frame: Frame, stop: Event, index: int = 0) -> Frame:
        height, width = frame.pixels.shape[:2]
        made = upscaler.upscale_frame(frame, self._scale_of(width, height), partial(self._on_progress, stop, index))
        self._reached = min(self._reached, upscaler.lr_psnr)
        if self.map_target and index == 0:
            self._made_map = upscaler.hallucination_map(frame, made)
            if self._is_compressed:
                self._made_map = replace(self._made_map, is_calibrated=False)
        height, width = made.pixels.shape[:2]
        return replace(made, metadata=made.metadata and self._fitted(made.metadata, width, height))

    def _scale_of(self, width: int, height: int) -> float:
        return self.choices.size.scale_of(width, height, self.choices.network_scale)

    def _fitted(self, metadata: Metadata, width: int, height: int) -> Metadata:
        """The metadata of a page as it is in the result."""
        return (metadata.without_private() if self.choices.strip_metadata else metadata).resized(width, height)

    def _on_progress(self, stop: Event, index: int, part: float) -> None:
        if stop.is_set():
            raise Stopped
        count = self._picture.count if self._picture else 1
        self.shown.update(self.number, min((index + part) / count, 1))

    def _compute_large(self, upscaler: Upscaler, picture: Picture, frame: Frame, stop: Event) -> None:
        """Write rows while they are computed, if the format takes them so; otherwise compute all first."""
        by_rows = takes_rows(self._file()) and not self.map_target  # a map needs the whole result
        if not (by_rows and upscaler.can_go_by_rows(frame, self._scale_of(*picture.size))):
            self._state_memory(upscaler, frame)
            made = self._upscaled(upscaler, frame, stop)
            del frame
            self._save(iter([made]))
            return
        width, height = self.final[0]
        rows = ComputedRows((height, width, *frame.pixels.shape[2:]), frame.pixels.dtype)
        with ThreadPoolExecutor(1) as writer:
            writing = writer.submit(self._save_rows, rows)
            try:
                upscaler.upscale_by_rows(frame, rows.put, partial(self._on_progress, stop, 0))
            except Abandoned:
                pass  # what ended the writing is raised below
            except BaseException as error:
                rows.fail(error)
                raise
            writing.result()

    def _state_memory(self, upscaler: Upscaler, frame: Frame) -> None:
        """Say how much memory the picture needs. ValueError if that is not free: the system would end the program."""
        scale = self._scale_of(frame.pixels.shape[1], frame.pixels.shape[0])
        width, height = self.final[0]
        channels = (3 if frame.pixels.ndim == 3 else 1) + (frame.alpha is not None)
        made = width * height * channels * frame.pixels.itemsize
        writing = made + memory_to_write(self._file(), width, height)
        if self.map_target:
            writing += made + 6 * width * height  # the input is enlarged once more
        need, available = max(upscaler.memory_of(frame, scale), writing), available_memory()
        what = f"{self.source}: {width} x {height} pixels need about {readable(need)} of memory as {self.ext[1:]}"
        if available is not None and need > available:
            by_rows = (
                ""
                if frame.alpha is not None or upscaler.consistent or self.map_target
                else "; --ext png and --ext tif need little at the network's own scale"
            )
            raise ValueError(f"{what}, and {readable(available)} are free: close programs, or upscale parts of it{by_rows}")
        self.shown.say(what)

    def _save_rows(self, rows: ComputedRows) -> None:
        try:
            self._save(iter([Frame(rows)]))  # ty: ignore[invalid-argument-type]
        finally:
            rows.abandon()

    def _save(self, frames: Iterator[Frame]) -> None:
        """Write frames into the target, with all else that the picture has, and note what could not be kept."""
        picture, self._frame = self._picture, None
        assert picture is not None
        metadata = self._fitted(picture.metadata, *self.final[0])
        save = partial(write_picture, frames=frames, like=picture, metadata=metadata, options=self.choices.options)
        if self.target == PIPE:
            with TemporaryDirectory() as folder:
                file = Path(folder) / self._file().name
                notes = save(file)
                sys.stdout.buffer.write(file.read_bytes())
                sys.stdout.buffer.flush()
        else:
            notes = save(self.target)
        self.notes = [*picture.notes, *notes, *self.notes, *shortfall(self._reached)]
        self._picture = None

    def _find_map(self) -> None:
        """Of a result that was there: its map, or a note that it has none."""
        if self.map_target is None:
            return
        try:
            levels, _ = read_map(self.map_target)
            if levels.shape == self.final[0][::-1]:
                self.map = self.map_target
                return
        except (ValueError, OSError, SyntaxError):
            pass  # PNG's reader raises SyntaxError for other files
        self.notes.append("the result was there without its hallucination map: to have one, remove it, or add --overwrite")

    def _is_done(self) -> bool:
        """Whether the target is there and may stay. ValueError if it must not be replaced."""
        if self.target == PIPE or not os.path.exists(self.target):
            return False
        if not self.choices.skip_existing:
            if not self.choices.overwrite:
                raise ValueError(f"{self.target} exists, perhaps since a moment: to replace it, add --overwrite")
            return False
        there = _what_is_there(self.target, self.final)
        if there == "something else" and not self.choices.overwrite:
            raise ValueError(
                f"{self.target} exists, but is no picture, of another size, or has other frames: to replace it, "
                "add --overwrite"
            )
        return there == "the result"


def _open(source: ImageFile) -> Picture:
    if isinstance(source, PipedImage):
        return open_picture(source.path, source.data)
    if type(source) is ImageFile:
        return open_picture(source.path)
    # A pack or LMDB store has pixels only.
    frames = partial(_stored_frame, source)
    return Picture("png", source.size(), 1, False, None, True, Metadata(), (), frames)


def _stored_frame(image: ImageFile) -> Iterator[Frame]:
    yield Frame(*image.read_with_alpha())


def _quality_of(source: ImageFile) -> int | None:
    if isinstance(source, PipedImage):
        return jpeg_quality(source.data)
    return jpeg_quality(source.path) if type(source) is ImageFile else None


def _what_is_there(target: Path, final: list[tuple[int, int]]) -> str:
    """Say whether a file that exists is `the result`, whose sizes are `final`, `a damaged picture`, or `something else`."""
    try:
        picture = open_picture(target)
        for _ in picture.frames():
            pass
    except (ValueError, OSError):
        data = target.read_bytes()
        return "a damaged picture" if not data or kind_of(data) else "something else"
    merged = picture.format == "webp" and picture.count > 1  # its encoder joins equal frames
    fits = [*picture.sizes] == final or (merged and {*picture.sizes} == {*final})
    return "the result" if fits else "something else"
