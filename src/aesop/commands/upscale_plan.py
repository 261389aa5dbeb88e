"""Which images `aesop upscale` reads, and where the results go."""

import mimetypes
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from aesop.images.errors import ImageError
from aesop.images.listing import collect_images
from aesop.images.read import ImageFile
from aesop.pictures.kinds import READABLE_PICTURES, kind_of_extension, named_kind
from aesop.pictures.read import open_picture
from aesop.pictures.write import LOSSLESS, WRITABLE
from aesop.system.wording import first_few

PIPE = Path("-")
Jobs = list[tuple[ImageFile, Path]]  # (source, target)
_EXTENSION = {"jpeg": ".jpg", "tiff": ".tif"}  # of formats that are not called like their files


@dataclass(frozen=True)
class PipedImage(ImageFile):
    """The picture that comes in on standard input."""

    data: bytes = field(repr=False)


def find_sources(inputs: Sequence[Path], output: Path) -> tuple[list[ImageFile], list[str]]:
    """Find the images to upscale, and notes on files in folders that look like images and are not read.

    If `output` lies in an input folder, the images in it, earlier results, are left out.
    """
    if PIPE in inputs:
        if len(inputs) > 1:
            raise ValueError("- stands for the one picture on standard input: give no other input with it")
        return [_piped()], []
    faults = [f"{path}: {kind}" for path in inputs if not path.is_dir() and (kind := named_kind(path.suffix))]
    if faults:
        raise ImageError("\n  ".join(faults))
    notes = _left_out(inputs)
    try:
        found = collect_images(inputs, READABLE_PICTURES)
    except ImageError as error:
        last = inputs[-1] if len(inputs) > 1 else None
        if last and not last.exists() and (last.suffix.lower() in READABLE_PICTURES or not last.suffix):
            raise ImageError(f"{error}\n  (to name the result, write -o {last})") from error
        raise ImageError("\n  ".join([str(error), *notes])) from error
    real = _real(output)

    def is_result(image: ImageFile) -> bool:
        listed = image.path.parents[image.name.count("/")]
        return _real(listed) in real.parents and real in _real(image.path).parents

    sources = [image for image in found if not is_result(image)]
    if not sources:
        raise ValueError(f"nothing was upscaled: all images are results in {output}")
    return sources, notes


def shard_of(jobs: Jobs, shard: str | None) -> Jobs:
    """Every eighth job from the third on where `shard` is `3/8`. There may be none."""
    if shard is None:
        return jobs
    number, _, count = shard.partition("/")
    if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise ValueError(f"--shard {shard}: write the number of the job and how many there are, such as 3/8")
    return jobs[int(number) - 1 :: int(count)]


def _piped() -> PipedImage:
    data = sys.stdin.buffer.read()
    path = Path("standard input")
    if not data:
        raise ImageError("standard input is empty: pipe a picture into it")
    kind = open_picture(path, data).format
    return PipedImage(path, f"stdin{_EXTENSION.get(kind, f'.{kind}')}", data)


def _left_out(inputs: Sequence[Path]) -> list[str]:
    """Name the files in folders that people may expect to be upscaled, by what is to be done with them."""
    by_kind: dict[str, list[str]] = {}
    for folder in filter(Path.is_dir, inputs):
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(folder).as_posix()
            if "/." not in f"/{name}" and (kind := named_kind(path.suffix)) and path.is_file():
                by_kind.setdefault(kind, []).append(name)
    return [f"left out {first_few(names, separator=', ')} ({kind})" for kind, names in by_kind.items()]


def check_output(
    output: Path, ext: str | None, suffix: str | None, sources: int, lossless: bool | None = None
) -> str | None:
    """Check -o, --ext, --suffix and --lossless by themselves. Return the extension that --ext names, with its dot."""
    ext = ext and "." + ext.lower().lstrip(".")
    formats = " ".join(known[1:] for known in WRITABLE)
    if ext and ext not in WRITABLE:
        raise ValueError(f"--ext {ext[1:]}: not a format that can be written (these can: {formats})")
    own = "" if os.path.isdir(output) else output.suffix.lower()
    if lossless and (named := own if own in WRITABLE else ext) and named not in LOSSLESS:
        raise ValueError(f"--lossless: {named[1:]} files cannot be lossless; use png, tif or webp, or leave it out")
    if suffix is not None and Path(f"x{suffix}").name != f"x{suffix}":
        raise ValueError(f"--suffix {suffix!r} is a part of a file name: it must not contain folder separators")
    if output == PIPE:
        if sources > 1:
            raise ValueError(f"-o - writes one picture to standard output, but there are {sources} images: name a folder")
        return ext
    if own in WRITABLE:
        if sources > 1:
            raise ValueError(f"-o {output} is a file name, but there are {sources} images: name a folder instead")
        if ext and ext != own:
            raise ValueError(f"-o {output} and --ext {ext[1:]} disagree: leave out --ext")
    elif own in READABLE_PICTURES or kind_of_extension(own) or any(mimetypes.guess_type(f"x{own}")):
        raise ValueError(f"-o {output}: cannot write {own} files; use one of {formats}, or name a folder")
    return ext


def plan_targets(
    sources: Sequence[ImageFile],
    output: Path,
    ext: str | None,
    suffix: str,
    overwrite: bool = False,
    skip_existing: bool = False,
    shard: str | None = None,
) -> Jobs:
    """Choose the target of each source and make the targets' folders; ValueError names all targets that conflict.

    With `shard`, only its jobs are returned, and only their targets must not exist.
    """
    if output == PIPE:
        return [(sources[0], PIPE)]
    is_file = output.suffix.lower() in WRITABLE and not output.is_dir()
    if is_file:
        jobs = [(sources[0], output)]
    else:
        jobs = [(source, output / f"{source.stem}{suffix}{ext or result_extension(source)}") for source in sources]
    own = shard_of(jobs, shard)
    _check_targets(jobs, own, overwrite, skip_existing, is_file)
    for folder in {target.parent for _, target in own}:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(f"cannot make the folder {folder}: {error.strerror}; name another with -o") from error
    return own


def result_extension(source: ImageFile) -> str:
    """The extension of a result where --ext names none."""
    own = Path(source.name).suffix
    if own.lower() in (".jfif", ".jpe"):
        return ".jpg"
    return own if own.lower() in WRITABLE and own.lower() != ".bmp" else ".png"


def _check_targets(jobs: Jobs, own_jobs: Jobs, overwrite: bool, skip_existing: bool, is_named: bool) -> None:
    owners: dict[str, ImageFile] = {}
    due = {target for _, target in own_jobs}
    sources = {_identity(source.path) for source, _ in jobs}
    faults, existing = [], []
    for source, target in jobs:
        key, own = _identity(target), _identity(source.path)
        if key in owners:
            faults.append(f"{owners[key]} and {source} would both become {target}: upscale them into different folders")
        elif key in sources and key != own:
            faults.append(f"{source} would become {target}, which is another input: choose another -o or --suffix")
        elif os.path.isdir(target):  # unlike Path.is_dir it accepts a name that is too long
            faults.append(f"{source} would become {target}, which is a folder: choose another -o or --suffix")
        elif key == own and not (overwrite and is_named):
            if overwrite:
                faults.append(f"{target} is the input itself: to replace it, name it with -o; or choose another --suffix")
            else:
                existing.append(f"{target} is the input itself")
        elif target in due and os.path.exists(target) and not (overwrite or skip_existing):
            existing.append(f"{target} exists")
        owners.setdefault(key, source)
    if existing:
        hint = "to replace existing files add --overwrite, to leave them and go on --skip-existing; or choose another -o"
        faults += [*existing, f"{hint} or --suffix"]
    if faults:
        raise ValueError("nothing was upscaled:\n  " + "\n  ".join(faults))


def _identity(path: Path) -> str:
    """Return the same text for two names of one file, through links and where the system ignores case."""
    return os.path.normcase(_real(path))


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))  # unlike Path.resolve it accepts a link to itself
