"""Numbers and lists in words, for log lines and messages."""

from collections.abc import Sequence


def readable(number: float) -> str:
    """Format a number of bytes: 3.2 GB, 120 MB, 2.3 MB, 12 kB."""
    if number >= 1e9:
        return f"{number / 1e9:.1f} GB"
    if number >= 1e6:
        return f"{number / 1e6:.{0 if number >= 1e7 else 1}f} MB"
    return f"{number / 1e3:.0f} kB"


def duration(seconds: float) -> str:
    """Format a duration: 3725 is 1:02:05."""
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}"


def first_few(items: Sequence[object], most: int = 3, separator: str = "; ", count: int | None = None) -> str:
    """Join the first of `count` items, by default all that are given, and count the others: `a; b; c; and 2 more`."""
    shown = [str(item) for item in items[:most]]
    more = (len(items) if count is None else count) - most
    return separator.join([*shown, f"and {more} more"] if more > 0 else shown)


def within_a_sentence(text: str) -> str:
    """The text with a small first letter, unless it begins with an abbreviation such as LR."""
    return text[:1].lower() + text[1:] if text[1:2].islower() else text
