"""The models of `aesop upscale` on one device."""

from collections.abc import Callable, Iterator
from pathlib import Path

from numpy.typing import NDArray

from aesop.inference.shipped_models import CLEAN, MODELS, WEB, clean_model, shipped_model
from aesop.inference.suitable_model import suitable_model
from aesop.inference.upscaler import Upscaler


class Upscalers:
    """The upscaler of one model, or one of each that comes with aesop, among which `suited_to` and `for_clean` choose.

    Args:
        load: makes the upscaler of a model.
        model: None: those that come with aesop.
        sized: a size is asked for, so pictures may be enlarged by less than the models do.
    """

    def __init__(self, load: Callable[[str | Path], Upscaler], model: str | Path | None, sized: bool = False):
        own = MODELS if sized else (CLEAN, WEB)
        files = {name: shipped_model(name) for name in own} if model is None else {"": model}
        self._loaded = {name: load(file) for name, file in files.items()}
        self.chooses = model is None
        """Whether pictures may get different models."""

    def __iter__(self) -> Iterator[Upscaler]:
        return iter(self._loaded.values())

    @property
    def scale(self) -> int:
        """How much they enlarge where no size is asked for."""
        return next(iter(self)).scale

    def suited_to(self, pixels: NDArray, jpeg_quality: int | None, scale: float) -> Upscaler:
        """The upscaler of a picture that becomes `scale` times as large: see `suitable_model`, and `for_clean`."""
        if not self.chooses or suitable_model(pixels, jpeg_quality) == CLEAN:
            return self.for_clean(scale)
        return self._loaded[WEB]

    def for_clean(self, scale: float) -> Upscaler:
        """The upscaler of what is clean and becomes `scale` times as large: see `clean_model`."""
        if not self.chooses:
            return next(iter(self))
        return self._loaded.get(clean_model(scale), self._loaded[CLEAN])  # x2 is loaded where a size is asked for
