"""The models of `aesop upscale` on one device."""

from collections.abc import Callable, Iterator
from pathlib import Path

from numpy.typing import NDArray

from aesop.inference.shipped_models import automatic_models
from aesop.inference.suitable_model import suitable_model
from aesop.inference.upscaler import Upscaler


class Upscalers:
    """The upscaler of one model, or one of each that comes with aesop, of which `suited_to` chooses by the picture.

    Args:
        load: makes the upscaler of a model.
        model: None: those that come with aesop.
        wanted: how much all pictures are enlarged; None: as much as the model does, or by their sides.
    """

    def __init__(self, load: Callable[[str | Path], Upscaler], model: str | Path | None, wanted: float | None = None):
        files = automatic_models(wanted) if model is None else {"": model}
        self._loaded = {name: load(file) for name, file in files.items()}
        self.chooses = model is None
        """Whether pictures may get different models."""

    def __iter__(self) -> Iterator[Upscaler]:
        return iter(self._loaded.values())

    @property
    def scale(self) -> int:
        """How much they enlarge: each as much as the others, unless another scale is `wanted`."""
        return next(iter(self)).scale

    def suited_to(self, pixels: NDArray, jpeg_quality: int | None) -> Upscaler:
        """See `suitable_model`."""
        if not self.chooses:
            return next(iter(self))
        return self._loaded[suitable_model(pixels, jpeg_quality)]
