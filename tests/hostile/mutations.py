"""Hostile option files, images and weight files, each a pure function of (seed, number): a finding can be repeated.

A function returns the kind of mutation and the bytes, for images and weight files also a name for the file. What would run
code, if it were run, makes the file `canary` in the current folder.
"""

import copy
import io
import json
import os
import pickle
import struct
import tarfile
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import yaml
from numpy.random import Generator
from PIL import Image
from safetensors.torch import save

from aesop.archs import build_network
from published_lib import option_files as published_option_files

REPO = Path(__file__).resolve().parents[2]
CANARY = "canary"
EXTREMES = (0, 1, 2, 7, 8, 16, 255, 256, 1 << 15, (1 << 16) - 1, 1 << 24, (1 << 31) - 1, 1 << 31, (1 << 32) - 1)


def generator(seed: int, number: int) -> Generator:
    return np.random.default_rng((seed, number))


def pick(rng: Generator, choices: Sequence) -> Any:
    return choices[int(rng.integers(len(choices)))]


# --- any bytes ---------------------------------------------------------------------------------------------------------


def _place(data: bytes, rng: Generator) -> int:
    """Anywhere, the first bytes more often: there are the headers."""
    return int(rng.integers(max(1, min(len(data), 200) if rng.random() < 0.5 else len(data))))


def flipped(data: bytes, rng: Generator) -> bytes:
    out = bytearray(data)
    for _ in range(pick(rng, (1, 1, 2, 5, 50))):
        if out:
            out[_place(data, rng)] ^= 1 << int(rng.integers(8))
    return bytes(out)


def cut_short(data: bytes, rng: Generator) -> bytes:
    return data[: int(rng.integers(len(data) + 1))]


def removed(data: bytes, rng: Generator) -> bytes:
    start = _place(data, rng)
    return data[:start] + data[start + pick(rng, (1, 2, 4, 50)) :]


def repeated(data: bytes, rng: Generator) -> bytes:
    start = _place(data, rng)
    return data[: start + pick(rng, (1, 4, 100, 3000))] + data[start:]


def inserted(data: bytes, rng: Generator) -> bytes:
    start = _place(data, rng)
    return data[:start] + rng.bytes(pick(rng, (1, 4, 100))) + data[start:]


def extreme(data: bytes, rng: Generator) -> bytes:
    """A number of 1, 2, 4 or 8 bytes replaced by one at the end of its range."""
    size, start = pick(rng, (1, 2, 4, 8)), _place(data, rng)
    value = pick(rng, (*EXTREMES, 1 << 62, 1 << 63, (1 << 64) - 1)) % 256**size
    return data[:start] + value.to_bytes(size, pick(rng, ("big", "little"))) + data[start + size :]


BLIND = {
    "bits flipped": flipped,
    "cut short": cut_short,
    "bytes removed": removed,
    "bytes repeated": repeated,
    "bytes inserted": inserted,
    "numbers set to extremes": extreme,
}


def blind(data: bytes, rng: Generator) -> bytes:
    for _ in range(pick(rng, (1, 1, 1, 2, 3))):
        data = pick(rng, list(BLIND.values()))(data, rng)
    return data


# --- option files ------------------------------------------------------------------------------------------------------

TEXTS = (
    "",
    " ",
    "x" * 100_000,
    "größe-图像-😀",
    "e\u0301",
    "\u202etxt.exe",
    "a\x00b",
    "a\nb\x1b[31m",
    "\ud83d",
    "%s%n{0.__class__}",
    "$(touch canary)",
    "`touch canary`",
    "null",
    "5e3",
    "0x10",
    "1_000",
)
PATHS = (
    "../../x",
    "..",
    "a/../../../x",
    "/tmp/../tmp/x",
    "/proc/self/mem",
    "~/x",
    "~nobody/x",
    "..\\..\\x",
    "C:\\x",
    "-rf",
    "con",
    ".",
    "x/" * 300,
    "file:///etc/passwd",
    "//host/share",
)
NUMBERS = (0, -1, -(10**9), 10**9, 10**6, 10**30, 1e308, -1e308, 5e-324, 0.5, 3.5, float("nan"), float("inf"), -float("inf"))
OTHER_TYPES = (None, True, [], {}, [[]], [1, 2], "word", 7, 0.1, {"type": None}, [None], {"a": {"b": 1}}, [{}])
SIZES = (
    "num_feat",
    "num_block",
    "num_grow_ch",
    "num_in_ch",
    "scale",
    "upscale",
    "embed_dim",
    "depths",
    "nf",
    "nb",
    "window_size",
)


@cache
def option_bases() -> list[dict[str, Any]]:
    own = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in sorted((REPO / "configs").glob("*.yml"))]
    return own + list(published_option_files().values())


def _places(value: Any, at: tuple = ()) -> list[tuple]:
    """The way to every option and group."""
    children = value.items() if isinstance(value, dict) else ()
    return [place for key, child in children for place in [(*at, key), *_places(child, (*at, key))]]


def _group(options: dict, place: tuple) -> dict:
    for key in place[:-1]:
        options = options[key]
    return options


def _replaced(choices: Sequence) -> Callable[[dict, Generator], None]:
    def change(options: dict, rng: Generator) -> None:
        for _ in range(pick(rng, (1, 1, 1, 3))):
            place = pick(rng, _places(options))
            _group(options, place)[place[-1]] = copy.deepcopy(pick(rng, choices))

    return change


def _deleted(options: dict, rng: Generator) -> None:
    place = pick(rng, _places(options))
    del _group(options, place)[place[-1]]


def _renamed(options: dict, rng: Generator) -> None:
    place = pick(rng, _places(options))
    group = _group(options, place)
    former = str(place[-1])
    group[pick(rng, (former[:-1], former + "s", former.upper(), 5, None, True, *TEXTS, *PATHS))] = group.pop(place[-1])


def _exchanged(options: dict, rng: Generator) -> None:
    one, other = pick(rng, _places(options)), pick(rng, _places(options))
    _group(options, one)[one[-1]] = copy.deepcopy(_group(options, other)[other[-1]])


def _named_elsewhere(options: dict, rng: Generator) -> None:
    where = pick(rng, ("name", "suffix", "section", "dataset"))
    if where == "name":
        options["name"] = pick(rng, PATHS)
    elif where == "suffix":
        options.setdefault("val", {})["suffix"] = pick(rng, PATHS)
    else:
        sections = options.setdefault("datasets", {})
        sections["val" + pick(rng, PATHS) if where == "section" else "val_1"] = {
            "dataroot_gt": "x",
            "name": pick(rng, PATHS),
        }


def _absurd_network(options: dict, rng: Generator) -> None:
    network = options.setdefault(pick(rng, ("network_g", "network_g", "network_d")), {})
    if isinstance(network, dict):
        own = [name for name, value in network.items() if isinstance(value, int | list)]
        network[pick(rng, own or SIZES)] = pick(rng, (10**9, 10**6, 0, -1, 3.5, "x", [10**6] * 6, 10**40, [6] * 5000))


STRUCTURAL: dict[str, Callable[[dict, Generator], None]] = {
    "option deleted": _deleted,
    "option renamed": _renamed,
    "options exchanged": _exchanged,
    "another type": _replaced(OTHER_TYPES),
    "number out of range": _replaced(NUMBERS),
    "odd text": _replaced(TEXTS),
    "path in place of a value": _replaced(PATHS),
    "name that leads elsewhere": _named_elsewhere,
    "network of absurd size": _absurd_network,
}


def _line(text: str, rng: Generator, changed: Callable[[str], str]) -> bytes:
    lines = text.splitlines()
    k = int(rng.integers(len(lines)))
    lines[k] = changed(lines[k])
    return "\n".join(lines).encode()


def _tagged(text: str, rng: Generator) -> bytes:
    tag = pick(
        rng,
        (
            f'!!python/object/apply:os.system ["touch {CANARY}"]',
            f"!!python/object/new:os.system [touch {CANARY}]",
            f'!!python/object/apply:builtins.open ["{CANARY}", "w"]',
            f"!!python/object/apply:subprocess.Popen [[touch, {CANARY}]]",
            f"!!python/object/apply:builtins.eval [\"open('{CANARY}', 'w')\"]",
            "!!python/name:os.system",
            "!!python/module:os",
            "!!python/object:collections.OrderedDict {}",
            "!!python/tuple [1, 2]",
            "!!binary aGFsbG8=",
            "!!set {a, b}",
            "!!timestamp 2001-01-01",
            "!!int x",
            '!!float ""',
            "!!bool word",
            "!unknown 1",
            "!!map [1]",
            "!!str {a: 1}",
        ),
    )
    return _line(text, rng, lambda line: f"{line.partition(':')[0]}: {tag}")


def _bomb(text: str, rng: Generator) -> bytes:
    wide, deep = pick(rng, ((9, 9), (2, 40), (100, 5), (1000, 2)))
    mapping = rng.random() < 0.5
    lines = ["l0: &l0 " + ("{a: 1}" if mapping else "[lol]")]
    for k in range(1, deep):
        parts = ", ".join(f"k{n}: *l{k - 1}" if mapping else f"*l{k - 1}" for n in range(wide))
        lines.append(f"l{k}: &l{k} " + (f"{{{parts}}}" if mapping else f"[{parts}]"))
    return (pick(rng, ("", text)) + "\n" + "\n".join(lines)).encode()


def _nested(text: str, rng: Generator) -> bytes:
    opening, closing = pick(rng, (("[", "]"), ("{a: ", "}"), ("- ", ""), ("? ", ""), ("a:\n ", ""), ("!!seq [", "]")))
    depth = pick(rng, (100, 1000, 10_000))
    return (pick(rng, ("", text)) + "\nx: " + opening * depth + closing * pick(rng, (0, depth))).encode()


def _own_anchor(text: str, rng: Generator) -> bytes:
    own = ("&a [*a]", "&a {b: *a}", "&a {<<: *a}", "&a\n  <<: *a\n  b: 1", "*missing", "&a [&a [*a]]", "{? &a [*a] : 1}")
    return (text + "\nx: " + pick(rng, own)).encode()


def _merge_key(text: str, rng: Generator) -> bytes:
    return (
        text + pick(rng, ("\n<<: {name: x}", "\n<<: [1]", "\n<<: 5", "\n<<: [{a: 1}, {name: y}]", "\n? <<\n: {}"))
    ).encode()


def _copied_lines(text: str, rng: Generator) -> bytes:
    lines = text.splitlines()
    start = int(rng.integers(len(lines)))
    return "\n".join(lines + lines[start : start + int(rng.integers(1, 20))]).encode()


def _shuffled(text: str, rng: Generator) -> bytes:
    return "\n".join(rng.permutation(text.splitlines())).encode()


def _encoded(text: str, rng: Generator) -> bytes:
    form = pick(rng, ("utf-16", "utf-16-be", "utf-8-sig", "utf-32", "CRLF", "CR", "latin-1"))
    if form in ("CRLF", "CR"):
        return text.replace("\n", "\r\n" if form == "CRLF" else "\r").encode()
    return (text + "\n# ä").encode(form, errors="replace")


TEXTUAL: dict[str, Callable[[str, Generator], bytes]] = {
    "YAML tag": _tagged,
    "alias bomb": _bomb,
    "deep nesting": _nested,
    "anchor of its own": _own_anchor,
    "merge key": _merge_key,
    "lines twice": _copied_lines,
    "lines shuffled": _shuffled,
    "tabs": lambda text, rng: _line(text, rng, lambda line: "\t" + line),
    "control characters": lambda text, rng: _line(
        text, rng, lambda line: line + pick(rng, ("\0", "\x1b[2J", "\x85", "\ufeff"))
    ),
    "another encoding": _encoded,
    "binary": lambda text, rng: rng.bytes(pick(rng, (0, 1, 100, 250_000))),
    **{name: (lambda text, rng, damage=damage: damage(text.encode(), rng)) for name, damage in BLIND.items()},
}


def option_file(seed: int, number: int) -> tuple[str, bytes]:
    rng = generator(seed, number)
    options = copy.deepcopy(pick(rng, option_bases()))
    kind = pick(rng, [*STRUCTURAL, *TEXTUAL])
    if kind in STRUCTURAL:
        STRUCTURAL[kind](options, rng)
    text = yaml.safe_dump(options, sort_keys=False, allow_unicode=bool(rng.integers(2)))
    return kind, TEXTUAL[kind](text, rng) if kind in TEXTUAL else text.encode("utf-8", "surrogatepass")


# --- images ------------------------------------------------------------------------------------------------------------


@cache
def image_bases() -> dict[str, bytes]:
    """A valid file of each kind that is read."""
    noise = np.random.default_rng(3).integers(0, 256, (37, 24, 4), dtype=np.uint8)
    deep = np.random.default_rng(4).integers(0, 1 << 16, (37, 24, 4), dtype=np.uint16)
    exif = Image.Exif()
    exif[0x0112] = 6

    def by_pillow(form: str, mode: str = "RGB", **options: Any) -> bytes:
        stream = io.BytesIO()
        Image.fromarray(noise).convert(mode).save(stream, form, **options)
        return stream.getvalue()

    def by_opencv(extension: str, array: np.ndarray, *options: int) -> bytes:
        return cv2.imencode(extension, array, options)[1].tobytes()

    second = {"save_all": True, "append_images": [Image.fromarray(noise[::-1])]}
    return {
        "rgb.png": by_pillow("PNG"),
        "exif.png": by_pillow("PNG", "RGBA", exif=exif),
        "palette.png": by_pillow("PNG", "P"),
        "bits.png": by_pillow("PNG", "1"),
        "interlaced.png": interlaced_png(noise[..., 0]),
        "deep.png": by_opencv(".png", deep[..., :3]),
        "deep_gray.png": by_opencv(".png", deep[..., 0]),
        "animated.png": by_pillow("PNG", "RGBA", **second),
        "rgb.jpg": by_pillow("JPEG", exif=exif),
        "progressive.jpg": by_pillow("JPEG", progressive=True),
        "gray.jpg": by_pillow("JPEG", "L"),
        "cmyk.jpg": by_pillow("JPEG", "CMYK"),
        "none.tif": by_pillow("TIFF", "RGBA", exif=exif),
        "lzw.tif": by_pillow("TIFF", compression="tiff_lzw"),
        "deflate.tif": by_pillow("TIFF", "L", compression="tiff_adobe_deflate"),
        "jpeg.tif": by_pillow("TIFF", compression="jpeg"),
        "fax.tif": by_pillow("TIFF", "1", compression="group4"),
        "deep_none.tif": by_opencv(".tiff", deep[..., :3], cv2.IMWRITE_TIFF_COMPRESSION, 1),
        "deep_lzw.tif": by_opencv(".tiff", deep, cv2.IMWRITE_TIFF_COMPRESSION, 5),
        "deep_deflate.tif": by_opencv(".tiff", deep[..., 0], cv2.IMWRITE_TIFF_COMPRESSION, 8),
        "lossy.webp": by_pillow("WEBP", exif=exif),
        "lossless.webp": by_pillow("WEBP", "RGBA", lossless=True),
        "animated.webp": by_pillow("WEBP", "RGBA", **second),
        "rgb.bmp": by_pillow("BMP"),
        "palette.bmp": by_pillow("BMP", "P"),
        "alpha.bmp": by_opencv(".bmp", noise),
    }


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_file(width: int, height: int, pixels: bytes, bits: int = 8, colour: int = 0, interlaced: int = 0) -> bytes:
    """A PNG file of compressed scan lines, which need not be those of its size."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, interlaced)
    chunks = ((b"IHDR", header), (b"IDAT", pixels), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks)


def interlaced_png(gray: np.ndarray) -> bytes:
    passes = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
    parts = [gray[top::down, left::right] for top, left, down, right in passes]
    lines = b"".join(b"\0" + line.tobytes() for part in parts if part.size for line in part)
    return png_file(gray.shape[1], gray.shape[0], zlib.compress(lines), interlaced=1)


def _png(data: bytes, rng: Generator) -> bytes:
    """Chunks changed, dropped, repeated or exchanged, with checksums that are right."""
    chunks, at = [], 8
    while at + 12 <= len(data):
        size = struct.unpack_from(">I", data, at)[0]
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + size]))
        at += size + 12
    k = int(rng.integers(len(chunks)))
    kind, body = chunks[k]
    change = int(rng.integers(7))
    if change == 0:
        chunks[k] = kind, blind(body, rng)
    elif change == 1:
        del chunks[k]
    elif change == 2:
        chunks.insert(int(rng.integers(len(chunks) + 1)), (kind, body))
    elif change == 3:
        chunks = [chunks[i] for i in rng.permutation(len(chunks))]
    elif change == 4:
        pixels = zlib.decompress(b"".join(body for kind, body in chunks if kind == b"IDAT"))
        chunks = [chunk for chunk in chunks if chunk[0] != b"IDAT"]
        chunks.insert(1, (b"IDAT", zlib.compress(blind(pixels, rng))))
    elif change == 5:
        sides = [pick(rng, (*EXTREMES, 24, 37)) for _ in range(2)]
        rest = (pick(rng, (1, 2, 4, 8, 16, 3)), pick(rng, (0, 2, 3, 4, 6, 5)), 0, 0, pick(rng, (0, 1, 2)))
        chunks[0] = b"IHDR", struct.pack(">II", *sides) + bytes(rest)
    else:
        extra = pick(rng, (b"PLTE", b"tRNS", b"acTL", b"fcTL", b"fdAT", b"eXIf", b"iCCP", b"zTXt", b"gAMA", b"sBIT"))
        chunks.insert(int(rng.integers(len(chunks) + 1)), (extra, rng.bytes(pick(rng, (0, 1, 8, 26, 300)))))
    return data[:8] + b"".join(png_chunk(*chunk) for chunk in chunks)


def _tiff(data: bytes, rng: Generator) -> bytes:
    """Entries of the directory with another type, count or value, or another tag."""
    order = "<" if data[:2] == b"II" else ">"
    out = bytearray(data)
    start = struct.unpack_from(order + "I", data, 4)[0]
    count = struct.unpack_from(order + "H", data, start)[0]
    for _ in range(pick(rng, (1, 1, 2, 3))):
        at = start + 2 + 12 * int(rng.integers(count))
        field, code = pick(rng, ((0, "H"), (2, "H"), (4, "I"), (8, "I"), (8, "I"), (8, "H")))
        near = struct.unpack_from(order + code, out, at + field)[0] + pick(rng, (-1, 1))
        types = (0, 1, 2, 3, 4, 5, 6, 7, 9, 11, 12, 13, 16, 99)
        value = pick(rng, types if field == 2 else (*EXTREMES, near, *types))
        struct.pack_into(order + code, out, at + field, value % (1 << (16 if code == "H" else 32)))
    return bytes(out)


def _jpeg(data: bytes, rng: Generator) -> bytes:
    """Segments changed, dropped or repeated, with lengths that are right; the frame's sides set to extremes."""
    segments, at = [], 2
    while data[at + 1] != 0xDA:
        size = struct.unpack_from(">H", data, at + 2)[0]
        segments.append((data[at + 1], data[at + 4 : at + 2 + size]))
        at += size + 2
    scan = data[at:]
    k = int(rng.integers(len(segments)))
    kind, body = segments[k]
    change = int(rng.integers(6))
    if change == 0:
        segments[k] = kind, blind(body, rng)[:65000]
    elif change == 1:
        del segments[k]
    elif change == 2:
        segments.insert(int(rng.integers(len(segments) + 1)), (kind, body))
    elif change == 3:
        sides = struct.pack(">HH", pick(rng, EXTREMES) % 65536, pick(rng, EXTREMES) % 65536)
        segments = [(m, body[:1] + sides + body[5:] if 0xC0 <= m <= 0xC2 else body) for m, body in segments]
    elif change == 4:
        scan *= pick(rng, (2, 10, 500))
    else:
        scan = blind(scan, rng)
    return data[:2] + b"".join(struct.pack(">BBH", 0xFF, m, len(body) + 2) + body for m, body in segments) + scan


def _webp(data: bytes, rng: Generator) -> bytes:
    """Chunks changed, dropped or repeated, with sizes that are right."""
    chunks, at = [], 12
    while at + 8 <= len(data):
        size = struct.unpack_from("<I", data, at + 4)[0]
        chunks.append((data[at : at + 4], data[at + 8 : at + 8 + size]))
        at += 8 + size + size % 2
    k = int(rng.integers(len(chunks)))
    kind, body = chunks[k]
    change = int(rng.integers(4))
    if change == 0:
        chunks[k] = kind, blind(body, rng)
    elif change == 1:
        chunks.insert(int(rng.integers(len(chunks) + 1)), (kind, body))
    elif change == 2:
        canvas = b"".join((pick(rng, EXTREMES) % (1 << 24)).to_bytes(3, "little") for _ in range(2))
        chunks.insert(0, (b"VP8X", bytes((pick(rng, (0, 2, 16, 255)), 0, 0, 0)) + canvas))
    else:
        extra = pick(rng, (b"ANIM", b"ANMF", b"ALPH", b"EXIF", b"ICCP"))
        chunks.insert(0, (extra, rng.bytes(pick(rng, (0, 6, 30)))))
    body = b"".join(kind + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2) for kind, body in chunks)
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def _bmp(data: bytes, rng: Generator) -> bytes:
    """Fields of the header set to extremes."""
    out = bytearray(data)
    for _ in range(pick(rng, (1, 2))):
        at, size = pick(rng, ((2, 4), (10, 4), (14, 4), (18, 4), (22, 4), (26, 2), (28, 2), (30, 4), (34, 4), (46, 4)))
        out[at : at + size] = (pick(rng, (*EXTREMES, 24, 32, 40, 3)) % 256**size).to_bytes(size, "little")
    return bytes(out)


BY_LAYOUT: dict[str, Callable[[bytes, Generator], bytes]] = {
    ".png": _png,
    ".tif": _tiff,
    ".jpg": _jpeg,
    ".webp": _webp,
    ".bmp": _bmp,
}


def _turned(data: bytes, rng: Generator) -> bytes:
    """An EXIF block of odd orientation: out of range, of another type, with a loop of directories."""
    value = pick(rng, (0, 1, 5, 8, 9, 255, 65535))
    kind, count = pick(rng, ((3, 1), (4, 1), (2, 1), (3, 0), (3, 1 << 31), (5, 1), (12, 1)))
    entry = struct.pack("<HHIHH", 0x0112, kind, count, value, 0)
    loop = pick(rng, (0, 8, (1 << 32) - 1))
    block = b"II*\0" + struct.pack("<IH", 8, 1) + entry + struct.pack("<I", loop)
    if data.startswith(b"\xff\xd8"):
        body = b"Exif\0\0" + block
        return data[:2] + struct.pack(">BBH", 0xFF, 0xE1, len(body) + 2) + body + data[2:]
    return data[:33] + png_chunk(b"eXIf", block) + data[33:]


IMAGE_KINDS = (
    "random bytes",
    "by the format's layout",
    "by layout, then blind",
    "two files joined",
    "odd orientation",
    *BLIND,
)


def image(seed: int, number: int) -> tuple[str, str, bytes]:
    rng = generator(seed, number)
    name = pick(rng, list(image_bases()))
    data, kind = image_bases()[name], pick(rng, (*IMAGE_KINDS[:3] * 2, *IMAGE_KINDS[3:]))
    if kind == "random bytes":
        data = pick(rng, (data[:8], b"")) + rng.bytes(pick(rng, (0, 1, 10, 1000, 50_000)))
    elif kind == "two files joined":
        data += pick(rng, list(image_bases().values()))
    elif kind == "odd orientation":
        name = pick(rng, [name for name in image_bases() if name.endswith((".png", ".jpg"))])
        data = _turned(image_bases()[name], rng)
    elif kind in BLIND:
        data = BLIND[kind](data, rng)
    else:
        data = BY_LAYOUT[Path(name).suffix](data, rng)
        if kind.endswith("blind"):
            data = blind(data, rng)
    if rng.random() < 0.2:  # what a file is shows in its content
        name = Path(name).stem + pick(rng, [*BY_LAYOUT, ".jpeg", ".TIFF", ".PNG"])
    return kind, name, data


# --- weight files ------------------------------------------------------------------------------------------------------

SMALL = {"type": "RRDBNet", "scale": 4, "num_feat": 8, "num_block": 1, "num_grow_ch": 4}


class Attack:
    """Runs code when it is unpickled without care."""

    def __init__(self, form: str):
        self.form = form

    def __reduce__(self) -> tuple:
        write = f"open({CANARY!r}, 'w').close()"
        return {
            "os.system": (os.system, (f"touch {CANARY}",)),
            "eval": (eval, (write,)),
            "exec": (exec, (write,)),
            "open": (open, (CANARY, "w")),
            "os.mkdir": (os.mkdir, (CANARY,)),
            "getattr": (getattr, (Attack("exec"), "x")),
            "import": (eval, (f"__import__('os').mkdir({CANARY!r})",)),
        }[self.form]


ATTACKS = ("os.system", "eval", "exec", "open", "os.mkdir", "getattr", "import")


@cache
def weights() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return dict(build_network(SMALL).state_dict())


def torch_file(content: Any, legacy: bool = False) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream, _use_new_zipfile_serialization=not legacy)
    return stream.getvalue()


@cache
def weight_bases() -> dict[str, bytes]:
    described = save(weights(), {"format": "pt", "network": json.dumps(SMALL)})
    wrapped = {"params": weights(), "params_ema": weights()}
    return {
        "described.safetensors": described,
        "bare.safetensors": save(weights()),
        "wrapped.pth": torch_file(wrapped),
        "bare.pth": torch_file(weights()),
        "legacy.pth": torch_file(wrapped, legacy=True),
    }


def _attacking(rng: Generator) -> tuple[str, bytes]:
    attack = Attack(pick(rng, ATTACKS))
    content = pick(
        rng,
        (
            attack,
            {"params": weights(), "extra": attack},
            {"params": OrderedDict(weights(), extra=[attack])},
            [[[attack]]],
            {attack.form: {"metadata": {"network": attack}}},
        ),
    )
    form = pick(rng, ("pickle", "pickle", "zip", "legacy", "tar"))
    if form == "pickle":
        return "attack.pth", pickle.dumps(content, protocol=int(rng.integers(6)))
    if form == "tar":
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w") as archive:
            for name in ("sys_info", "pickle", "tensors", "storages", pick(rng, ("x", "../../canary", CANARY))):
                body = pickle.dumps(attack, protocol=2)
                entry = tarfile.TarInfo(name)
                entry.size = len(body)
                archive.addfile(entry, io.BytesIO(body))
        return "attack.tar", stream.getvalue()
    return "attack.pth", torch_file(content, legacy=form == "legacy")


def _rezipped(rng: Generator) -> tuple[str, bytes]:
    """PyTorch's zip file with other entries, names or sizes."""
    stream = io.BytesIO()
    change = pick(rng, ("extra", "traversal", "bomb", "dropped", "attack", "twice", "compressed", "pickle"))
    with zipfile.ZipFile(io.BytesIO(weight_bases()["wrapped.pth"])) as old, zipfile.ZipFile(stream, "w") as new:
        names = old.namelist()
        victim = pick(rng, names)
        for name in names:
            body = old.read(name)
            if change == "dropped" and name == victim:
                continue
            if change == "attack" and name.endswith("data.pkl"):
                body = pickle.dumps(Attack(pick(rng, ATTACKS)), protocol=2)
            if change == "pickle" and name.endswith("data.pkl"):
                body = blind(body, rng)
            packed = zipfile.ZIP_DEFLATED if change == "compressed" else zipfile.ZIP_STORED
            if change == "bomb" and name == victim:
                body, packed = bytes(50_000_000), zipfile.ZIP_DEFLATED
            new.writestr("../../" + name if change == "traversal" and rng.random() < 0.5 else name, body, packed)
            if change == "twice" and name == victim:
                new.writestr(name + "_", pickle.dumps(Attack("exec")), packed)
        if change in ("extra", "traversal"):
            new.writestr(pick(rng, ("../../canary", "/tmp/../canary", CANARY, "archive/code/x.py")), b"import os")
    return "zip.pth", stream.getvalue()


def _forged_safetensors(rng: Generator) -> tuple[str, bytes]:
    """A header that is well-formed JSON, or nearly, and lies."""
    data = weight_bases()["described.safetensors"]
    length = int.from_bytes(data[:8], "little")
    header, body = json.loads(data[8 : 8 + length]), data[8 + length :]
    names = [name for name in header if name != "__metadata__"]
    name, change = pick(rng, names), pick(rng, ("length", "deep", "offsets", "overlap", "dtype", "twice", "shape", "meta"))
    entry = header[name]
    if change == "length":
        return "forged.safetensors", pick(rng, (1 << 60, (1 << 64) - 1, 1 << 31, 10**8 + 1, 0, 1)).to_bytes(
            8, "little"
        ) + data[8:]
    if change == "deep":
        text = b'{"a":' + b"[" * pick(rng, (200, 100_000)) + b"}"
        return "forged.safetensors", len(text).to_bytes(8, "little") + text
    if change == "offsets":
        entry["data_offsets"] = [pick(rng, (0, -1, 1 << 40, 1 << 63, 1.5, None, "0")) for _ in range(2)]
    elif change == "overlap":
        entry["data_offsets"] = header[pick(rng, names)]["data_offsets"]
    elif change == "dtype":
        entry["dtype"] = pick(rng, ("F64", "F16", "BF16", "I8", "BOOL", "F8_E4M3", "C64", "X", "", None, 5))
    elif change == "shape":
        sides = (-1, 0, 1 << 31, 1 << 62, 1 << 64, 1.5, None, 10**6)
        entry["shape"] = pick(rng, ([pick(rng, sides)] * 4, [], [pick(rng, sides)], [1] * 1000, [0, 1 << 62]))
    elif change == "meta":
        header["__metadata__"] = pick(rng, ({"network": "NaN"}, {"network": float("nan")}, [1], None, {"a": {"b": 1}}))
    text = json.dumps(header)
    if change == "twice":
        text = text[:-1] + f", {json.dumps(name)}: {json.dumps(entry)}" + "}"
    return "forged.safetensors", len(text).to_bytes(8, "little") + text.encode() + body


def _misdescribed(rng: Generator) -> tuple[str, bytes]:
    """Good tensors, and options of a network that is another one, enormous, or none."""
    network: Any = dict(SMALL)
    change = pick(rng, ("size", "type", "form", "spandrel", "depth"))
    if change == "size":
        sizes = (10**9, 10**6, 5000, -1, 0, 2.5, None, "x", [8], float("nan"), float("inf"), 10**400)
        network[pick(rng, list(SMALL)[1:])] = pick(rng, sizes)
    elif change == "type":
        network["type"] = pick(
            rng, ("os.system", "", None, [], "AutoEncoder_RRDBNet", "VGGStyleDiscriminator128", "x" * 10**5)
        )
    elif change == "form":
        network = pick(rng, ([], 5, "x", None, {}, {"type": "AutoEncoder_RRDBNet", "dec_opt": 5, "enc_opt": 5}))
    elif change == "spandrel":
        numbers = pick(rng, (10**9, 16_000, [6] * 100, [10**6] * 4, -1, 0, "x"))
        network = {"type": pick(rng, ("SwinIR", "DRCT", "HAT", "Compact", "SPAN")), "upscale": 4}
        network[
            pick(rng, ("embed_dim", "depths", "window_size", "img_size", "num_conv", "num_feat", "feature_channels"))
        ] = numbers
    text = "[" * 100_000 if change == "depth" else json.dumps(network)
    return "described.safetensors", save(weights(), {"network": text})


def _claiming(rng: Generator) -> tuple[str, bytes]:
    """Small files whose tensors or names claim very large networks."""
    state = dict(weights())
    change = pick(rng, ("stride", "sparse", "block", "dims", "meta", "digits", "bytes"))
    if change == "stride":
        for name in list(state):
            state[name] = torch.zeros(1).expand(pick(rng, ((10**6,), (10**5, 64, 3, 3), (1 << 20, 1 << 20))))
    elif change == "sparse":
        state["conv_first.weight"] = torch.sparse_coo_tensor(torch.zeros(2, 1, dtype=torch.long), [1.0], (1 << 31, 1 << 31))
    elif change == "block":
        blocks = pick(rng, (10**4 - 1, 10**6, 10**12))
        state = {name.replace("body.0", f"body.{blocks}"): value for name, value in state.items()} | state
    elif change == "dims":
        state = {name: torch.zeros(pick(rng, (20_000, 5000)), 1, 1, 1) for name in state}
    elif change == "meta":
        state["conv_first.weight"] = torch.empty(1 << 20, 1 << 20, device="meta")
    elif change == "digits":
        state["layers." + "9" * 5000 + ".weight"] = torch.zeros(1)
    else:
        grown = b"\x80\x02cbuiltins\nbytearray\nJ\xff\xff\xff\x7f\x85R."
        doubled = b"\x80\x02c_codecs\nencode\n" * 40 + b"X\1\0\0\0aX\6\0\0\0latin1\x86R" + b"X\3\0\0\0hex\x86R" * 39 + b"."
        return "claims.pth", pick(rng, (grown, doubled))
    return "claims.pth", torch_file(state, legacy=bool(rng.integers(2)) and change != "meta")


WEIGHT_KINDS: dict[str, Callable[[Generator], tuple[str, bytes]]] = {
    "pickle that runs code": _attacking,
    "zip of other entries": _rezipped,
    "forged safetensors header": _forged_safetensors,
    "forged description": _misdescribed,
    "claims of size": _claiming,
}


def weight_file(seed: int, number: int) -> tuple[str, str, bytes]:
    rng = generator(seed, number)
    kind = pick(rng, [*WEIGHT_KINDS, *WEIGHT_KINDS, *BLIND])
    if kind in WEIGHT_KINDS:
        return kind, *WEIGHT_KINDS[kind](rng)
    name = pick(rng, list(weight_bases()))
    return kind, name, BLIND[kind](weight_bases()[name], rng)
