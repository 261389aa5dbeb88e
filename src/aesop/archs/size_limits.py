"""Limits on the size of a network, for options and weight files that are wrong or hostile."""

from collections.abc import Generator
from contextlib import contextmanager

from torch import Tensor, nn
from torch.nn.modules.module import register_module_buffer_registration_hook, register_module_parameter_registration_hook

# Known networks have about ten million parameters in a few hundred tensors.
MAX_PARAMETERS = 500_000_000
MAX_TENSORS = 20_000


@contextmanager
def bounded() -> Generator[None]:
    """Raise ValueError in the construction of an oversized network, before the memory of its next tensor is touched."""
    parameters = tensors = 0

    def count(module: nn.Module, name: str, value: Tensor | None) -> None:
        nonlocal parameters, tensors
        if value is not None:
            parameters, tensors = parameters + value.numel(), tensors + 1
        if parameters > MAX_PARAMETERS or tensors > MAX_TENSORS:
            limits = f"{MAX_PARAMETERS / 1e6:g} million parameters or {MAX_TENSORS} tensors"
            raise ValueError(f"the network has more than {limits}; use smaller numbers in its options")

    with register_module_parameter_registration_hook(count), register_module_buffer_registration_hook(count):
        yield
