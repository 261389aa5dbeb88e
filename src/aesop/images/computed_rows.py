"""An image that one thread computes while another writes it."""

from threading import Condition

import numpy as np

from aesop.images.tensors import ImageArray


class Abandoned(Exception):
    """The thread that reads the rows has given up; its own error says why."""


class ComputedRows:
    """Rows of an image, (H, W) or (H, W, C), that are computed while they are read. Two strips of them are held at most.

    One thread calls `put` with strips from the top; another slices the object like an array, from the top, each row once.
    Each waits for the other. If one stops, the other must not wait for it: `fail` and `abandon` say so.
    """

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype):
        self.shape, self.dtype, self.ndim = shape, dtype, len(shape)
        self.nbytes = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        self._put, self._taken = 0, 0
        self._strip: ImageArray | None = None  # that was put and is not taken
        self._held: ImageArray = np.empty((0, *shape[1:]), dtype)  # that was taken and is not read
        self._error: BaseException | None = None
        self._abandoned = False
        self._changed = Condition()

    def put(self, top: int, rows: ImageArray) -> None:
        """Pass on rows that begin at `top`. Raises Abandoned if nobody reads them."""
        if top != self._put:
            raise ValueError("memory ran out in the middle of the picture: use smaller tiles (--tile 128)")
        with self._changed:
            self._changed.wait_for(lambda: self._strip is None or self._abandoned)
            if self._abandoned:
                raise Abandoned
            self._strip = rows
            self._put += len(rows)
            self._changed.notify_all()

    def fail(self, error: BaseException) -> None:
        """No rows follow, because of an error. The thread that reads gets it."""
        with self._changed:
            self._error = error
            self._changed.notify_all()

    def abandon(self) -> None:
        """Nobody reads further rows."""
        with self._changed:
            self._abandoned = True
            self._changed.notify_all()

    def __getitem__(self, rows: slice) -> ImageArray:
        start, stop, step = rows.indices(self.shape[0])
        assert step == 1
        assert start == self._taken, "each row is read once, from the top"
        parts = []
        while (missing := stop - self._taken) > 0:
            if not len(self._held):
                self._held = self._next()
            parts.append(self._held[:missing])
            self._held = self._held[missing:]
            self._taken += len(parts[-1])
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _next(self) -> ImageArray:
        with self._changed:
            self._changed.wait_for(lambda: self._strip is not None or self._error is not None)
            if self._strip is None:
                raise Abandoned from self._error
            strip, self._strip = self._strip, None
            self._changed.notify_all()
            return strip
