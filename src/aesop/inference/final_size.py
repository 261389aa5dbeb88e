"""How large a picture becomes."""

from dataclasses import dataclass, fields
from math import sqrt

LARGEST_SCALE = 64


@dataclass(frozen=True)
class FinalSize:
    """At most one of these is given, or width and height, into which the picture fits; none: the network's scale."""

    scale: float | None = None
    width: int | None = None
    height: int | None = None
    longest: int | None = None
    """The longer side, in pixels."""
    megapixels: float | None = None

    def __post_init__(self) -> None:
        given = {f.name: value for f in fields(self) if (value := getattr(self, f.name)) is not None}
        for name, value in given.items():
            if not value > 0:
                raise ValueError(f"--{name} must be above 0, found {value}")
        if len(given) > 1 and set(given) != {"width", "height"}:
            raise ValueError(f"{' and '.join(f'--{name}' for name in given)} exclude each other: give one of them")
        if self.scale is not None and self.scale > LARGEST_SCALE:
            raise ValueError(f"--scale {self.scale:g} is too large: use at most {LARGEST_SCALE}")

    def scale_of(self, width: int, height: int, network: int) -> float:
        """What to enlarge a picture by; ValueError if it is too much."""
        if self.scale is not None:
            return self.scale
        sides = [side / own for side, own in ((self.width, width), (self.height, height)) if side is not None]
        if self.longest is not None:
            sides = [self.longest / max(width, height)]
        if self.megapixels is not None:
            sides = [sqrt(self.megapixels * 1e6 / (width * height))]
        scale = min(sides, default=float(network))
        if scale > LARGEST_SCALE:
            raise ValueError(
                f"{width} x {height} pixels would be enlarged {scale:.0f} times: at most {LARGEST_SCALE} are useful"
            )
        return scale

    def suffix(self, network: int) -> str:
        """What is added to the names of results."""
        if self.width or self.height:
            return "_" + "x".join(f"{name}{side}" for name, side in (("w", self.width), ("h", self.height)) if side)
        if self.longest:
            return f"_{self.longest}px"
        return f"_{self.megapixels:g}mp" if self.megapixels else f"_x{self.scale or network:g}"


def sides_at(scale: float, width: int, height: int) -> tuple[int, int]:
    """The sides of an enlarged picture, at least one pixel each."""
    return max(1, round(width * scale)), max(1, round(height * scale))
