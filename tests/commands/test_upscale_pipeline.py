"""What of `aesop upscale` goes on at the same time, and what stays in memory meanwhile."""

from collections.abc import Callable
from threading import Event, Lock
from typing import Any

import pytest

from aesop.commands.upscale_pipeline import in_turn

LONG = 20  # seconds, after which a test fails that waits for what never happens


class Fake:
    """A picture whose steps are recorded, and may wait for those of others."""

    def __init__(self, number: int, record: "Record", alone: bool = False):
        self.number, self.record, self.alone = number, record, alone

    def read(self) -> None:
        self.record.step("read", self.number)

    def compute(self, upscaler: Any, stop: Event) -> None:
        self.record.step("compute", self.number, upscaler, stop)

    def write(self) -> None:
        self.record.step("write", self.number)


class Record:
    """The steps that have begun and those that have ended, in order. `during` is called in each."""

    def __init__(self, during: Callable[..., None] = lambda *_: None):
        self.begun: list[tuple[str, int]] = []
        self.ended: list[tuple[str, int]] = []
        self._during, self._lock, self._changed = during, Lock(), Event()

    def step(self, kind: str, number: int, *more: Any) -> None:
        self.note(self.begun, (kind, number))
        self._during(self, kind, number, *more)
        self.note(self.ended, (kind, number))

    def note(self, where: list[tuple[str, int]], step: tuple[str, int]) -> None:
        with self._lock:
            where.append(step)
            self._changed.set()

    def wait(self, condition: Callable[[], bool]) -> None:
        for _ in range(LONG * 100):
            if condition():
                return
            self._changed.wait(0.01)
            self._changed.clear()
        raise AssertionError(f"it did not happen; begun: {self.begun}; ended: {self.ended}")


def count(steps: list[tuple[str, int]], kind: str) -> int:
    return sum(step[0] == kind for step in steps)


def test_the_next_is_read_and_the_last_written_while_one_is_computed():
    last = 4

    def during(record: Record, kind: str, number: int, *_: Any) -> None:
        if kind == "compute" and number < last:
            record.wait(lambda: ("read", number + 1) in record.ended)
        if kind == "write" and number < last:
            record.wait(lambda: ("compute", number + 1) in record.begun)

    record = Record(during)
    done = [work.number for work in in_turn([Fake(number, record) for number in range(last + 1)], ["cpu"])]
    assert done == list(range(last + 1))


def test_one_picture_ahead_and_one_behind_are_in_memory():
    held = []

    def during(record: Record, kind: str, number: int, *_: Any) -> None:
        if kind == "write" and number < 6:  # it takes long
            record.wait(lambda: ("read", number + 2) in record.ended)
        held.append(count(record.begun, "read") - count(record.ended, "write"))

    record = Record(during)
    for _ in in_turn([Fake(number, record) for number in range(8)], ["cpu"]):
        pass
    assert 2 <= max(held) <= 3  # how far ahead the reader is depends on the threads


def test_a_large_picture_is_alone():
    def during(record: Record, kind: str, number: int, *_: Any) -> None:
        if number == 2 and kind != "read":
            assert count(record.begun, "read") == 3
            assert count(record.ended, "write") == 2

    record = Record(during)
    works = [Fake(number, record, alone=number == 2) for number in range(5)]
    assert [work.number for work in in_turn(works, ["cpu"])] == list(range(5))


def test_devices_take_pictures_one_by_one_and_results_come_in_order():
    used = {}

    def during(record: Record, kind: str, number: int, *more: Any) -> None:
        if kind == "compute":
            used[number] = more[0]
            if number == 0:  # with it, the device may have read one more; the other device has the rest
                record.wait(lambda: count(record.ended, "write") >= 3)

    record = Record(during)
    works = (Fake(number, record) for number in range(5))
    assert [work.number for work in in_turn(works, ["a", "b"])] == list(range(5))
    assert sorted(used) == list(range(5))
    assert sum(device == used[0] for device in used.values()) <= 2


def test_ctrl_c_lets_what_is_computed_be_written():
    interrupted = Event()

    def during(record: Record, kind: str, number: int, *_: Any) -> None:
        if (kind, number) == ("compute", 1):
            record.wait(lambda: ("write", 0) in record.begun)
            interrupted.set()
            raise KeyboardInterrupt
        if kind == "write":
            assert interrupted.wait(LONG)

    record = Record(during)
    with pytest.raises(KeyboardInterrupt):
        list(in_turn([Fake(number, record) for number in range(4)], ["cpu"]))
    assert ("write", 0) in record.ended
    assert ("compute", 2) not in record.begun


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_error_on_one_device_stops_the_others(error):
    stopped = []

    def during(record: Record, kind: str, number: int, *more: Any) -> None:
        if kind != "compute":
            return
        if more[0] == "a":
            record.wait(lambda: count(record.begun, "compute") == 2)
            raise error
        assert more[1].wait(LONG), "nobody says that it should stop"
        stopped.append(number)
        raise ArithmeticError  # as Stopped does

    record = Record(during)
    with pytest.raises(error):
        list(in_turn((Fake(number, record) for number in range(9)), ["a", "b"]))
    assert len(stopped) == 1


def test_leaving_early_stops_all_threads():
    record = Record()
    works = in_turn((Fake(number, record) for number in range(1000)), ["a", "b"])
    next(works)
    works.close()
    assert count(record.begun, "read") < 1000
    assert count(record.ended, "write") == count(record.begun, "write")
