"""Many pictures on several devices: while one is computed, the next is decoded and the last one encoded."""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from queue import Empty, Queue
from threading import Event, Lock

from aesop.commands.upscale_models import Upscalers
from aesop.commands.upscale_picture import PictureWork

_WAIT = 0.5  # seconds; on Windows, Ctrl-C does not end a wait without limit


def in_turn(works: Iterable[PictureWork], devices: Sequence[Upscalers]) -> Iterator[PictureWork]:
    """Hand pictures out to the devices one by one, and yield them in order when they are written.

    In memory are, for each device, at most one picture that is computed, one that is read ahead, and one that is written.
    A single device works in the calling thread, so that Ctrl-C stops it at once; several work in a thread each, and stop
    after a tile. In either case, pictures that are computed are written to their end.
    """
    stop = Event()
    if len(devices) == 1:
        yield from _one_after_another(iter(works), devices[0], stop)
        return
    source = _Shared(works, stop)
    done: Queue[PictureWork | BaseException | None] = Queue()

    def use(upscalers: Upscalers) -> None:
        try:
            for work in _one_after_another(source, upscalers, stop):
                done.put(work)
            done.put(None)
        except BaseException as error:  # noqa: BLE001 - is raised below
            done.put(error)

    with ThreadPoolExecutor(len(devices)) as threads:
        try:
            for upscalers in devices:
                threads.submit(use, upscalers)
            yield from _in_order(done, len(devices))
        finally:
            stop.set()


def _one_after_another(works: Iterator[PictureWork], upscalers: Upscalers, stop: Event) -> Iterator[PictureWork]:
    with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:

        def read_next() -> Future[PictureWork] | None:
            work = next(works, None)
            return None if work is None else reader.submit(_read, work)

        ahead, behind = read_next(), None
        while ahead:
            work = ahead.result()
            if work.alone and behind:
                yield behind.result()
                behind = None
            ahead = None if work.alone else read_next()
            work.compute(upscalers, stop)
            if behind:
                yield behind.result()
            behind = writer.submit(_write, work)
            if work.alone:
                yield behind.result()
                ahead, behind = read_next(), None
        if behind:
            yield behind.result()


def _read(work: PictureWork) -> PictureWork:
    work.read()
    return work


def _write(work: PictureWork) -> PictureWork:
    work.write()
    return work


def _in_order(done: Queue[PictureWork | BaseException | None], running: int) -> Iterator[PictureWork]:
    """Yield by their numbers what so many threads put; each puts None when it ends, or the error that ends all."""
    waiting: dict[int, PictureWork] = {}
    number = 0
    while running:
        try:
            item = done.get(timeout=_WAIT)
        except Empty:
            continue
        if isinstance(item, BaseException):
            raise item
        if item is None:
            running -= 1
        else:
            waiting[item.number] = item
        while number in waiting:
            yield waiting.pop(number)
            number += 1


class _Shared(Iterator[PictureWork]):
    """An iterator for several threads, which ends when `stop` is set."""

    def __init__(self, works: Iterable[PictureWork], stop: Event):
        self._works, self._stop, self._lock = iter(works), stop, Lock()

    def __next__(self) -> PictureWork:
        with self._lock:
            if self._stop.is_set():
                raise StopIteration
            return next(self._works)
