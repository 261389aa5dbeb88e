"""Which images `aesop upscale` reads, and where the results go.

A folder may hold millions of images. Its listing is a stream, from which a job keeps the names of its own images.
"""

import hashlib
import mimetypes
import os
import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from aesop.images.errors import ImageError
from aesop.images.listing import collect_images, natural_order, walk_files
from aesop.images.picture_kinds import READABLE_PICTURES, kind_of_extension, named_kind
from aesop.images.picture_read import open_picture
from aesop.images.picture_write import WRITABLE
from aesop.images.read import ImageFile
from aesop.system.wording import first_few

PIPE = Path("-")
_EXTENSION = {"jpeg": ".jpg", "tiff": ".tif"}  # of formats that are not called like their files
_KINDS = "|".join(extension[1:] for extension in READABLE_PICTURES)
_KIND_ENDINGS = re.compile(rf"([._]({_KINDS}))+$", re.IGNORECASE)
_MOST_FAULTS = 20


@dataclass(frozen=True)
class PipedImage(ImageFile):
    """The picture that comes in on standard input."""

    data: bytes = field(repr=False)


class Found(NamedTuple):
    """An image to upscale. It is small, as there may be millions; `image` is what reads it."""

    folder: Path
    """The folder or store that was listed; all of its images share it."""
    name: str
    """The image's path below it."""
    is_link: bool = True
    """Whether other names may lead to the same file."""
    stored: ImageFile | None = None
    """The image, if it is not a file of its own."""

    @property
    def image(self) -> ImageFile:
        return self.stored or ImageFile(self.folder / self.name, self.name)

    @property
    def stem(self) -> str:
        return os.path.splitext(self.name)[0]

    @property
    def extension(self) -> str:
        return os.path.splitext(self.name)[1]


@dataclass(frozen=True)
class Shard:
    """The images of one job of several. Which one takes an image follows from its name alone: files may come meanwhile."""

    number: int = 1
    count: int = 1

    @classmethod
    def parse(cls, text: str | None) -> "Shard":
        """Read `3/8`; None is the only job."""
        if text is None:
            return cls()
        number, _, count = text.partition("/")
        if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
            raise ValueError(f"--shard {text}: write the number of the job and how many there are, such as 3/8")
        return cls(int(number), int(count))

    def takes(self, name: str) -> bool:
        """Names that differ only in their kinds (`n.png`, `n.bmp`, `n_bmp.png`) belong to one job: results may collide."""
        if self.count == 1:
            return True
        key = _KIND_ENDINGS.sub("", name).casefold()
        return int.from_bytes(hashlib.sha256(os.fsencode(key)).digest()[:8]) % self.count == self.number - 1


@dataclass(frozen=True)
class Plan:
    """The images of a job, in order, and the names of their results."""

    found: Sequence[Found]
    output: Path
    ext: str | None
    """The extension of all results; None: that of each image."""
    suffix: str
    is_file: bool
    """Whether `output` is the result itself."""
    stems: dict[int, str] = field(default_factory=dict)
    """By the number of the image: the stem of its result, where its own was taken."""

    def __len__(self) -> int:
        return len(self.found)

    def extension(self, number: int) -> str:
        return self.ext or result_extension(self.found[number].name)

    def name(self, number: int) -> str:
        """The path of a result below `output`."""
        return f"{self.stems.get(number) or self.found[number].stem}{self.suffix}{self.extension(number)}"

    def target(self, number: int) -> Path:
        return self.output if self.is_file else self.output / self.name(number)

    @property
    def renamed(self) -> list[str]:
        """A note on images whose results are named by their kind, too."""
        names = [f"{self.found[number].name} becomes {self.target(number).name}" for number in self.stems]
        return [f"where images differ only in their kinds: {first_few(names, separator=', ')}"] if names else []


def find_images(inputs: Sequence[Path], output: Path, shard: Shard | None = None) -> tuple[list[Found], list[str]]:
    """Find the images to upscale, and notes on files in folders that look like images and are not read.

    If `output` lies in an input folder, the images in it, earlier results, are left out. With `shard`, there may be none.
    """
    if PIPE in inputs:
        if len(inputs) > 1:
            raise ValueError("- stands for the one picture on standard input: give no other input with it")
        piped = _piped()
        return [Found(piped.path.parent, piped.name, stored=piped)], []
    faults = [f"{path}: {kind}" for path in inputs if not path.is_dir() and (kind := named_kind(path.suffix))]
    if faults:
        raise ImageError("\n  ".join(faults))
    shard, own, others, all_found = shard or Shard(), [], _Others(), 0
    for given in inputs:
        total, mine = 0, []
        try:
            for found in _images_of(given, output, others):
                total += 1
                if shard.takes(found.name):
                    mine.append(found)
            if not total and not _results_below(given, output):
                faults.append(f"no image in {given}: it and its sub-folders hold no {' '.join(READABLE_PICTURES)} file")
        except ImageError as error:
            faults.append(str(error))
        all_found += total
        own += sorted(mine, key=lambda found: natural_order(found.name)) if _is_folder(given) else mine
    if faults or not inputs:
        last = inputs[-1] if len(inputs) > 1 else None
        if last and not last.exists() and (last.suffix.lower() in READABLE_PICTURES or not last.suffix):
            faults.append(f"(to name the result, write -o {last})")
        raise ImageError("\n  ".join([*(faults or ["no image was named"]), *others.notes]))
    if not all_found:
        raise ValueError(f"nothing was upscaled: all images are results in {output}")
    if len(inputs) > 1:
        once: dict[tuple[Path, str], Found] = {}
        for found in own:
            once.setdefault((found.folder, found.name), found)
        own = list(once.values())
    return own, others.notes


def _piped() -> PipedImage:
    data = sys.stdin.buffer.read()
    path = Path("standard input")
    if not data:
        raise ImageError("standard input is empty: pipe a picture into it")
    kind = open_picture(path, data).format
    return PipedImage(path, f"stdin{_EXTENSION.get(kind, f'.{kind}')}", data)


class _Others:
    """Files in folders that people may expect to be upscaled, by what is to be done with them."""

    def __init__(self) -> None:
        self._first: dict[str, list[str]] = {}
        self._count: Counter[str] = Counter()

    def add(self, kind: str, name: str) -> None:
        self._first[kind] = sorted([*self._first.get(kind, []), name])[:3]
        self._count[kind] += 1

    @property
    def notes(self) -> list[str]:
        return [f"left out {first_few(names, 3, ', ', self._count[kind])} ({kind})" for kind, names in self._first.items()]


def _images_of(given: Path, output: Path, others: _Others | None = None) -> Iterator[Found]:
    """Yield the images of a file, a store, or a folder, those of a folder in no order."""
    if not _is_folder(given):
        for image in collect_images([given], READABLE_PICTURES):
            is_file = type(image) is ImageFile
            yield Found(image.path.parent, image.name) if is_file else Found(given, image.name, stored=image)
        return
    results = _results_below(given, output)
    real_output = Path(os.path.realpath(output))
    for name, is_link in walk_files(given, results):
        extension = os.path.splitext(name)[1].lower()
        if kind_of_extension(extension) and (kind := named_kind(extension)):
            if others:
                others.add(kind, name)
        elif extension in READABLE_PICTURES:
            is_result = is_link and results and real_output in Path(os.path.realpath(given / name)).parents
            if not is_result:
                yield Found(given, name, is_link)


def _is_folder(path: Path) -> bool:
    return path.is_dir() and path.suffix != ".lmdb"


def _results_below(given: Path, output: Path) -> str:
    """The name of `output` below an input folder; empty if it is elsewhere, or the folder itself."""
    folder, results = Path(os.path.realpath(given)), Path(os.path.realpath(output))
    return results.relative_to(folder).as_posix() if folder in results.parents and results.is_dir() else ""


class _Places:
    """Names that are the same for two ways to one file, through links and where the system ignores case."""

    def __init__(self) -> None:
        self._folders: dict[tuple[Path, str], str] = {}

    def of(self, folder: Path, name: str, is_link: bool = False) -> str:
        """A link is followed if `is_link`. A link in the place of a target is replaced."""
        below, last = os.path.split(name)
        if (folder, below) not in self._folders:
            self._folders[folder, below] = os.path.realpath(
                folder / below
            )  # unlike Path.resolve it accepts a link to itself
        path = os.path.join(self._folders[folder, below], last)
        return os.path.normcase(os.path.realpath(path) if is_link else path)

    def of_image(self, found: Found) -> str:
        return self.of(found.folder, found.name, found.is_link)

    def of_target(self, plan: Plan, number: int) -> str:
        if plan.is_file:
            return self.of(plan.output.parent, plan.output.name)
        return self.of(plan.output, plan.name(number))


def check_output(output: Path, ext: str | None, suffix: str | None, sources: int) -> str | None:
    """Check -o, --ext and --suffix by themselves. Return the extension that --ext names, with its dot."""
    ext = ext and "." + ext.lower().lstrip(".")
    formats = " ".join(known[1:] for known in WRITABLE)
    if ext and ext not in WRITABLE:
        raise ValueError(f"--ext {ext[1:]}: not a format that can be written (these can: {formats})")
    if suffix is not None and Path(f"x{suffix}").name != f"x{suffix}":
        raise ValueError(f"--suffix {suffix!r} is a part of a file name: it must not contain folder separators")
    if output == PIPE:
        if sources > 1:
            raise ValueError(f"-o - writes one picture to standard output, but there are {sources} images: name a folder")
        return ext
    own = output.suffix.lower()
    if output.is_dir():
        return ext
    if own in WRITABLE:
        if sources > 1:
            raise ValueError(f"-o {output} is a file name, but there are {sources} images: name a folder instead")
        if ext and ext != own:
            raise ValueError(f"-o {output} and --ext {ext[1:]} disagree: leave out --ext")
    elif own in READABLE_PICTURES or kind_of_extension(own) or mimetypes.guess_type(f"x{own}")[0]:
        raise ValueError(f"-o {output}: cannot write {own} files; use one of {formats}, or name a folder")
    return ext


def plan_targets(
    found: Sequence[Found],
    inputs: Sequence[Path],
    output: Path,
    ext: str | None,
    suffix: str,
    overwrite: bool = False,
    skip_existing: bool = False,
) -> Plan:
    """Choose the target of each image and make the targets' folders; ValueError names targets that conflict.

    Where `n.png` and `n.bmp` would both become `n_x4.png`, the one that changes its kind becomes `n_bmp_x4.png`, whatever
    exists, so that every run chooses alike.
    """
    is_file = output == PIPE or (output.suffix.lower() in WRITABLE and not output.is_dir())
    plan = Plan(found, output, ext, suffix, is_file)
    if output == PIPE:
        return plan
    places = _Places()
    owners, faults = _owners(plan, places)
    faults += _conflicts(plan, owners, places, inputs, overwrite, skip_existing)
    if faults:
        raise ValueError("nothing was upscaled:\n  " + "\n  ".join(faults))
    for folder in _folders(plan):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(f"cannot make the folder {folder}: {error.strerror}; name another with -o") from error
    return plan


def result_extension(name: str) -> str:
    """The extension of a result where --ext names none."""
    own = os.path.splitext(name)[1]
    if own.lower() in (".jfif", ".jpe"):
        return ".jpg"
    return own if own.lower() in WRITABLE and own.lower() != ".bmp" else ".png"


def _owners(plan: Plan, places: _Places) -> tuple[dict[str, int], list[str]]:
    """Give every image a target of its own. Return the number of the image by its target's identity, and faults."""
    owners: dict[str, int] = {}
    faults = []
    changing = [found.extension.lower() != plan.extension(number).lower() for number, found in enumerate(plan.found)]
    for number in sorted(range(len(plan)), key=changing.__getitem__):  # those that keep their kind choose first
        found, kind = plan.found[number], plan.found[number].extension[1:].lower()
        while (owner := owners.setdefault(places.of_target(plan, number), number)) != number:
            if plan.found[owner].name == found.name:
                both = f"{plan.found[owner].image} and {found.image} would both become {plan.target(number)}"
                faults.append(f"{both}: upscale them into different folders")
                break
            plan.stems[number] = f"{plan.stems.get(number, found.stem)}_{kind}"
    return owners, _few(faults)


def _conflicts(
    plan: Plan, owners: dict[str, int], places: _Places, inputs: Sequence[Path], overwrite: bool, skip_existing: bool
) -> list[str]:
    """What stands in the way of the targets: folders, inputs, and files that must not be replaced."""
    present = {}  # the targets that are there, and whether they are folders
    for folder in _folders(plan):
        with suppress(FileNotFoundError, NotADirectoryError, PermissionError), os.scandir(folder) as entries:
            for entry in entries:
                if (place := places.of(folder, entry.name)) in owners:
                    present[place] = entry.is_dir()
    if not present:
        return []
    faults, existing = [], []
    for place in (places.of_image(image) for given in inputs for image in _images_of(given, plan.output)):
        if present.pop(place, None) is None:
            continue
        own, target = plan.found[owners[place]], plan.target(owners[place])
        if places.of_image(own) != place:
            faults.append(f"{own.image} would become {target}, which is another input: choose another -o or --suffix")
        elif not overwrite:
            existing.append(f"{target} is the input itself")
        elif not plan.is_file:
            faults.append(f"{target} is the input itself: to replace it, name it with -o; or choose another --suffix")
    for place, is_folder in present.items():
        own, target = plan.found[owners[place]], plan.target(owners[place])
        if is_folder:
            faults.append(f"{own.image} would become {target}, which is a folder: choose another -o or --suffix")
        elif not (overwrite or skip_existing):
            existing.append(f"{target} exists")
    if existing:
        hint = "to replace existing files add --overwrite, to leave them and go on --skip-existing; or choose another -o"
        existing = [*_few(existing), f"{hint} or --suffix"]
    return _few(faults) + existing


def _few(faults: list[str]) -> list[str]:
    more = len(faults) - _MOST_FAULTS
    return [*faults[:_MOST_FAULTS], f"and {more} more"] if more > 0 else faults


def _folders(plan: Plan) -> list[Path]:
    if plan.is_file:
        return [plan.output.parent]
    return [plan.output / below for below in sorted({os.path.dirname(found.name) for found in plan.found})]
