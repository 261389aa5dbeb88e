"""The memory of living tensors, against what is known of each step."""

import torch

from aesop.system.tensor_memory import TensorMemory


def test_storages_count_once_and_until_they_die():
    memory = TensorMemory()
    a = torch.empty(1000)
    memory.hold(a)
    memory.hold(a[10:].view(-1, 10))  # a view has no memory of its own
    assert memory.bytes == memory.peak == 4000
    b = torch.empty(500, dtype=torch.float64)
    memory.hold(b)
    del a
    assert (memory.bytes, memory.peak) == (4000, 8000)
    memory.restart()
    assert memory.peak == 4000
    del b
    assert (memory.bytes, memory.peak) == (0, 4000)


def test_sizes_are_rounded_to_the_grain():
    memory = TensorMemory(grain=512)
    tensors = [torch.empty(1), torch.empty(129)]
    for tensor in tensors:
        memory.hold(tensor)
    assert memory.bytes == 512 + 1024
