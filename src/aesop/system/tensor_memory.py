"""The memory of living tensors, followed without the help of an allocator: it works on fake tensors and on every device."""

import weakref

from torch import Tensor


class TensorMemory:
    """Bytes of the tensors that were passed to `hold` and still live, each storage once, and the most there ever were.

    Sizes are rounded up to multiples of `grain` bytes. Workspaces inside kernels are not tensors, and not counted.
    """

    def __init__(self, grain: int = 1) -> None:
        self.grain = grain
        self.bytes = self.peak = 0
        self._sizes: dict[int, int] = {}

    def hold(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._sizes:
            return
        self._sizes[key] = size = -(-storage.nbytes() // self.grain) * self.grain
        self.bytes += size
        self.peak = max(self.peak, self.bytes)
        weakref.finalize(storage, self._free, key)

    def restart(self) -> None:
        """The peak starts again from what is held now."""
        self.peak = self.bytes

    def _free(self, key: int) -> None:
        self.bytes -= self._sizes.pop(key)
