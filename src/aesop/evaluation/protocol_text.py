"""Protocols in words: for captions, and what differs between two. Without PyTorch, so that tables are made at once."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

LR_FILES, LR_MADE, LR_UNUSED = "files", "MATLAB's bicubic", "not used"
# What decides values. Versions and machines are on record but not compared: they change the last digits at most.
DECISIVE = ("scale", "images", "metrics", "sets", "networks")


def caption(protocol: Mapping[str, Any]) -> str:
    """The protocol in a few sentences, for the caption of a table; empty if it does not name metrics."""
    regions: dict[str, list[str]] = {}
    for name, record in protocol.get("metrics", {}).items():
        border = record.get("crop_border")
        edge = f" without a border of {border} pixels" if border else ""
        where = "on luma (Y of BT.601)" if record.get("channels") == "luma" else "on RGB"
        regions.setdefault(where + edge, []).append(record.get("label", name))
    if not regions:
        return ""
    made: dict[str, list[str]] = {}
    for name, record in protocol.get("sets", {}).items():
        made.setdefault(record.get("lr", LR_UNUSED), []).append(name)
    parts = [f"{_and(labels)} {where}" for where, labels in regions.items()]
    parts.append("images rounded to 8 bits, HR cut to multiples of the scale")
    for how, names in made.items():
        if how != LR_UNUSED:
            of = f" ({_and(names)})" if len(made) > 1 else ""
            parts.append(f"LR from files{of}" if how == LR_FILES else f"LR by {how}{of}")
    scale = f"Scale {protocol['scale']}. " if "scale" in protocol else ""
    return f"{scale}{'; '.join(parts)}.{_computed_with(protocol)}"


def _computed_with(protocol: Mapping[str, Any]) -> str:
    """A sentence with versions and the weights of metrics, by the first digits of their SHA-256; empty if none is known."""
    versions = [
        f"{name} {protocol['versions'][name]}" for name in ("aesop", "torch") if name in protocol.get("versions", {})
    ]
    weights = {
        f"{name} {sha256[:8]}": None
        for record in protocol.get("metrics", {}).values()
        for name, sha256 in record.get("weights", {}).items()
    }
    parts = [f"with {_and(versions)}"] * bool(versions) + [f"weights of metrics {', '.join(weights)}"] * bool(weights)
    return f" Computed {'; '.join(parts)}." if parts else ""


def differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """What differs between two protocols and decides values, a line each: `metrics.psnr.crop_border: 4 and 0`.

    Entries, such as metrics or test sets, that only one of them has are left out, and so are LR images if one used none.
    """
    first, second = ({name: protocol[name] for name in DECISIVE if name in protocol} for protocol in (a, b))
    return list(_differences(first, second))


def _differences(a: Any, b: Any, *path: str) -> Iterator[str]:
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        for key in [key for key in a if key in b]:
            yield from _differences(a[key], b[key], *path, key)
    elif a != b and LR_UNUSED not in (a, b) and path[-1] != "device":
        shown = [value[:12] if path[-1].endswith("sha256") or "weights" in path else value for value in (a, b)]
        yield f"{'.'.join(path)}: {shown[0]} and {shown[1]}"


def _and(words: Sequence[str]) -> str:
    """`a, b and c`."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if words[1:] else words)
