"""Finding images: in a folder with its sub-folders, in a .pack or .lmdb store, or named one by one."""

import heapq
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from aesop.images.errors import ImageError
from aesop.images.lmdb_store import list_lmdb
from aesop.images.pack import is_pack, list_pack
from aesop.images.read import ImageFile

IMAGE_EXTENSIONS = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp")


def list_images(folder: str | os.PathLike, extensions: Sequence[str] = IMAGE_EXTENSIONS) -> list[ImageFile]:
    """List the images of a folder, its sub-folders and linked folders included, of a file NAME.pack or a folder NAME.lmdb.

    Hidden files and folders are left out. The order is natural (`img2` before `img10`), or that of packing in a pack. This
    is the only place that looks at what kind of store a folder is; the images returned know how to read themselves.
    """
    folder = Path(folder)
    if is_pack(folder):
        return [*list_pack(folder)]
    if not folder.exists():
        raise ImageError(f"image folder {folder} does not exist: check the path")
    if not folder.is_dir():
        raise ImageError(f"{folder} is a file: give the folder that holds the images")
    if folder.suffix == ".lmdb":
        return sorted(list_lmdb(folder), key=lambda image: natural_order(image.name))
    names = [name for name, _ in walk_files(folder) if os.path.splitext(name)[1].lower() in extensions]
    if not names:
        raise ImageError(f"no image in {folder}: it and its sub-folders hold no {' '.join(extensions)} file")
    return [ImageFile(folder / name, name) for name in sorted(names, key=natural_order)]


def walk_files(folder: Path, leave_out: str = "") -> Iterator[tuple[str, bool]]:
    """Yield the files below a folder, in no order: the name below it (`sub/img.png`), and whether a link leads to it.

    Linked folders are followed: of several links to one folder the shortest route, and none to a folder that it lies in.
    Hidden files and folders are left out, as are folders that cannot be read, and the one named `leave_out`. Folders of
    millions take no memory.
    """
    root = Path(os.path.realpath(folder))
    followed = {root}
    links: list[tuple[int, str]] = []  # a heap; they wait for all other folders, so the system's order decides nothing
    pending = [("", False)]
    while pending or links:
        if not pending:
            _, name = heapq.heappop(links)
            target = Path(os.path.realpath(folder / name))
            place = Path(os.path.realpath((folder / name).parent))
            if target not in followed and not any(each.is_relative_to(target) for each in (root, place)):
                followed.add(target)
                pending.append((f"{name}/", True))
            continue
        below, is_linked = pending.pop()
        with suppress(PermissionError, FileNotFoundError), os.scandir(folder / below) as entries:
            for entry in entries:
                name = below + entry.name
                if entry.name.startswith(".") or name == leave_out:
                    continue
                if entry.is_dir(follow_symlinks=False):
                    pending.append((f"{name}/", is_linked))
                elif entry.is_symlink() and os.path.isdir(entry):
                    heapq.heappush(links, (name.count("/"), name))
                elif _is_file(entry):
                    yield name, entry.is_symlink() or is_linked


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:  # a link to itself
        return False


def natural_order(name: str) -> tuple[str, str]:
    """Sorting by this takes digits as numbers and ignores case; the name itself decides between `img1` and `img01`."""
    folded = name.casefold()
    begins = "1" if re.match(r"\d", folded) else "0"
    return begins + re.sub(r"\d+", lambda digits: _sortable(int(digits[0])), folded), name


def _sortable(number: int) -> str:
    digits = str(number)
    return f"\0{chr(len(digits))}{digits}"  # before any text, as the shorter of two texts is


def collect_images(inputs: Iterable[str | os.PathLike], extensions: Sequence[str] = IMAGE_EXTENSIONS) -> list[ImageFile]:
    """Collect image files, and the images of folders and stores, in the given order. An image named twice appears once.

    An ImageError names all inputs that do not exist, are not images or hold none, each on a line.
    """
    found: list[ImageFile] = []
    faults = []
    for given in map(Path, inputs):
        try:
            if given.is_dir() or is_pack(given):
                found += list_images(given, extensions)
            elif not given.exists():
                faults.append(f"{given}: no such file or folder")
            elif given.suffix.lower() not in extensions:
                faults.append(f"{given}: not an image file (supported: {' '.join(extensions)})")
            else:
                found.append(ImageFile.at(given))
        except ImageError as error:
            faults.append(str(error))
    if faults or not found:
        raise ImageError("\n  ".join(faults or ["no image was named"]))
    return list(dict.fromkeys(found))


def by_name(named: Iterable[tuple[str, ImageFile]], where: str = "") -> dict[str, ImageFile]:
    """Map names to images. Raise an ImageError, whose message begins with `where`, if two images share a name."""
    found: dict[str, ImageFile] = {}
    for name, image in named:
        if name in found:
            raise ImageError(f"{where}{found[name]} and {image} are both named {name!r}: rename one, or its folder")
        found[name] = image
    return found
