"""What the degradation copies between CPU and device, counted on the meta device, where tensors have no values.

No GPU is needed: a mode sees each operation and where its tensors lie. That CUDA's streams keep the order is tested with
stand-ins for them, so it is a reading of the code, not a measurement.
"""

from contextlib import contextmanager

import pytest
import torch
from judge import BLOCKING, SENT, Judge
from test_realworld import SIDE, configured, hr_batch, options

from aesop.data.degradation import jpeg, operations, random_degradation, transfer
from aesop.data.degradation.degrader import Degrader
from aesop.data.degradation.operations import usm_sharpen
from aesop.data.degradation.transfer import Transfer

CONSTANTS = 3 + 1  # cosines and two tables of JPEG, the blur of sharpening


class MetaGenerator(torch.Generator):
    """The meta device has no generators and draws nothing from this one."""

    device = torch.device("meta")


@pytest.fixture
def on_meta(monkeypatch):
    """Let noise be drawn on the meta device, and forget constants that are there."""

    def generator(device="cpu"):
        return MetaGenerator() if torch.device(device).type == "meta" else torch.Generator(device)

    monkeypatch.setattr(random_degradation, "Generator", generator)
    operations._gaussian_line.cache_clear()
    jpeg._constants.cache_clear()


def degrader(tmp_path, **degradation) -> Degrader:
    return Degrader(configured(options(tmp_path, tmp_path, **degradation)), 0)


@pytest.mark.parametrize(("per_sample", "queue_size", "steps"), [(False, 0, 6), (False, 8, 10), (True, 0, 3), (True, 8, 4)])
@pytest.mark.usefixtures("on_meta")
def test_a_step_makes_one_copy_and_never_waits(tmp_path, per_sample, queue_size, steps):
    make = degrader(tmp_path, per_sample=per_sample, queue_size=queue_size)
    gt = torch.empty(4, 3, SIDE, SIDE, device="meta")
    with Judge() as judge:
        usm_sharpen(make(gt, 1)[1])
        first = judge.take()
        assert sorted(first) == [BLOCKING] * CONSTANTS + [SENT] * 2  # this batch and the next
        for iteration in range(2, steps + 1):  # the pool of 8 pairs is full after 2 batches of 4
            lq, hr = make(gt, iteration)
            usm_sharpen(hr)
            assert judge.take() == [SENT]
            assert (lq.device.type, lq.shape, hr.shape) == ("meta", (4, 3, 8, 8), (4, 3, 32, 32))
        make.seed = 5  # a rollback
        make(gt, 3)
        assert judge.take() == [SENT, SENT]


@pytest.mark.usefixtures("on_meta")
def test_a_copy_that_waits_is_found(tmp_path, monkeypatch):
    def faulty(images, *args):
        return filter2d(images, *args) + torch.zeros(1).to(images)

    make, gt = degrader(tmp_path, queue_size=0), torch.empty(4, 3, SIDE, SIDE, device="meta")
    with Judge() as judge:
        make(gt, 1)
        judge.take()
        filter2d = random_degradation.filter2d
        monkeypatch.setattr(random_degradation, "filter2d", faulty)
        make(gt, 2)
        assert BLOCKING in judge.take()


def test_a_transfer_keeps_values_and_shapes():
    groups = [
        {"kernels": torch.rand(2, 5, 5), "gray": torch.tensor([True, False])},
        {},
        {"places": torch.tensor([3, 2**24, 0]), "strength": torch.rand(4, dtype=torch.float64)},
    ]
    received = Transfer(groups, torch.device("cpu")).receive()
    assert [list(group) for group in received] == [list(group) for group in groups]
    for sent, got in zip(groups, received, strict=True):
        for name, tensor in sent.items():
            assert got[name].dtype == torch.float32
            assert torch.equal(got[name].double(), tensor.float().double() if name == "strength" else tensor.double())


def test_on_cuda_the_copy_has_its_own_stream_and_its_user_waits_there(monkeypatch):
    events = []

    class Stream:
        def __init__(self, name):
            self.name = str(name)

        def record_event(self):
            events.append(f"{self.name} records")
            return "event"

        def wait_event(self, event):
            events.append(f"{self.name} waits for {event}")

    @contextmanager
    def within(stream):
        events.append(f"on {stream.name}")
        yield
        events.append(f"off {stream.name}")

    monkeypatch.setattr(transfer, "_copy_stream", Stream)
    monkeypatch.setattr(torch.cuda, "stream", within)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: Stream("current"))
    # The tensor stays on the CPU and notes what it is asked.
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: events.append("pins") or tensor)
    monkeypatch.setattr(
        torch.Tensor, "to", lambda tensor, device, non_blocking=False: events.append(f"to {device} {non_blocking}") or tensor
    )
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda tensor, stream: events.append(f"kept for {stream.name}"))
    moving = Transfer([{"a": torch.ones(2)}], torch.device("cuda:7"))
    assert events == ["on cuda:7", "pins", "to cuda:7 True", "cuda:7 records", "off cuda:7"]
    events.clear()
    assert torch.equal(moving.receive()[0]["a"], torch.ones(2))
    assert events == ["current waits for event", "kept for current"]


@pytest.mark.parametrize("per_sample", [False, True])
def test_a_draw_for_another_batch_is_thrown_away(tmp_path, per_sample):
    """After a rollback, a resume, or with other crops, batches are those of a degrader that begins there."""

    def begun(seed: int = 0) -> Degrader:
        make = degrader(tmp_path, queue_size=0, per_sample=per_sample)
        make.seed = seed
        return make

    gt = hr_batch(0)
    make = begun()
    make(gt, 7)
    for seed, iteration, images in ((0, 8, gt), (0, 3, gt), (5, 4, gt), (0, 5, gt), (0, 6, gt[:2]), (0, 7, gt[..., :40])):
        make.seed = seed
        lq, hr = make(images, iteration)
        expected_lq, expected_hr = begun(seed)(images, iteration)
        assert torch.equal(lq, expected_lq)
        assert torch.equal(hr, expected_hr)
