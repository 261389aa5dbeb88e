"""Rows that one thread computes and another writes."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event

import numpy as np
import pytest

from aesop.images.computed_rows import Abandoned, ComputedRows

IMAGE = np.random.default_rng(0).integers(0, 256, (50, 7, 3), np.uint8)


@contextmanager
def computing(rows: ComputedRows, heights: list[int]) -> Iterator[None]:
    """Put strips of IMAGE from another thread."""

    def put() -> None:
        top = 0
        for height in heights:
            rows.put(top, IMAGE[top : top + height])
            top += height

    with ThreadPoolExecutor(1) as thread:
        done = thread.submit(put)
        yield
        done.result(timeout=10)


@pytest.mark.parametrize("strips", [[50], [1] * 50, [20, 7, 23], [3, 40, 7]])
@pytest.mark.parametrize("step", [1, 8, 13, 50, 64])
def test_they_are_read_like_an_array(strips, step):
    rows = ComputedRows(IMAGE.shape, IMAGE.dtype)
    assert (rows.shape, rows.dtype, rows.ndim, rows.nbytes) == (IMAGE.shape, IMAGE.dtype, 3, IMAGE.nbytes)
    with computing(rows, strips):
        for top in range(0, 50, step):
            np.testing.assert_array_equal(rows[top : top + step], IMAGE[top : top + step])


def test_computing_waits_for_the_reader():
    rows, done = ComputedRows(IMAGE.shape, IMAGE.dtype), Event()

    def put() -> None:
        rows.put(0, IMAGE[:10])
        rows.put(10, IMAGE[10:20])
        done.set()

    with ThreadPoolExecutor(1) as thread:
        putting = thread.submit(put)
        assert not done.wait(0.2)
        rows[:5]
        putting.result(timeout=10)


def test_an_error_reaches_the_other_thread():
    rows = ComputedRows(IMAGE.shape, IMAGE.dtype)
    with ThreadPoolExecutor(1) as thread:
        reading = thread.submit(rows.__getitem__, slice(0, 50))
        rows.put(0, IMAGE[:10])
        rows.fail(ValueError("NaN"))
        with pytest.raises(Abandoned) as error:
            reading.result(timeout=10)
        assert isinstance(error.value.__cause__, ValueError)

        rows = ComputedRows(IMAGE.shape, IMAGE.dtype)
        rows.put(0, IMAGE[:10])
        putting = thread.submit(rows.put, 10, IMAGE[10:20])
        rows.abandon()
        with pytest.raises(Abandoned):
            putting.result(timeout=10)


def test_rows_are_neither_read_nor_computed_twice():
    rows = ComputedRows(IMAGE.shape, IMAGE.dtype)
    rows.put(0, IMAGE[:10])
    rows[:5]
    with pytest.raises(AssertionError, match="once"):
        rows[:5]
    with pytest.raises(ValueError, match="--tile"):
        rows.put(0, IMAGE[:10])
