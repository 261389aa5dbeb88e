"""Protocols in words: for captions, and what differs between two."""

from collections.abc import Iterator, Mapping
from typing import Any

# What decides values. Versions and machines are on record but not compared: they change the last digits at most.
DECISIVE = ("scale", "images", "metrics", "sets", "networks")


def caption(protocol: Mapping[str, Any]) -> str:
    """How each metric was measured, in one sentence; empty if the protocol does not say."""
    regions: dict[str, list[str]] = {}
    for name, record in protocol.get("metrics", {}).items():
        border = record.get("crop_border")
        edge = f" without a border of {border} pixels" if border else ""
        regions.setdefault(f"{record.get('channels', 'RGB')}{edge}", []).append(record.get("label", name))
    return "; ".join(f"{', '.join(labels)} on {region}" for region, labels in regions.items()) + "." if regions else ""


def differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """What differs between two protocols and decides values, a line each: `metrics.psnr.crop_border: 4 and 0`.

    Entries, such as metrics or test sets, that only one of them has are left out.
    """
    first, second = ({key: protocol[key] for key in DECISIVE if key in protocol} for protocol in (a, b))
    return list(_differences(first, second))


def _differences(a: Any, b: Any, *path: str) -> Iterator[str]:
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        for key in (key for key in a if key in b):
            yield from _differences(a[key], b[key], *path, key)
    elif a != b:
        yield f"{'.'.join(path)}: {a} and {b}"
