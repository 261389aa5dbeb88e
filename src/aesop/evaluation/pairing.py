"""Which image of a folder belongs to which HR image: by stem, with suffixes, prefixes, and folders of methods and test sets.

Programs save results as METHOD/img_x4.png, METHOD/SET/img.png, METHOD/visualization/SET/img_METHOD.png,
METHOD/SET/x4/img.png, SET/METHOD/img.png, and more.
"""

import os
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path, PurePosixPath

from aesop.images.errors import ImageError
from aesop.images.read import ImageFile

Key = tuple[str, str]
"""A test set, and an HR image by its name in it, such as `img_001` or `sub/img_001`."""
Found = dict[str, dict[Key, ImageFile]]
"""By method."""
# Where the stem of an HR image may end inside a longer one: before a separator, or before a scale as in 0801x4.
_END = re.compile(r"[\W_]|[xX]\d")
_START = re.compile(r"[\W_]")
# How HR images are called beyond what results are: baby_GT, img_001_SRF_4_HR, HR_baby.
_HR_MARK = re.compile(r"(?i)([\W_]SRF[\W_]\d)?[\W_](HR|GT)([\W_]?x\d)?$|^(HR|GT)[\W_]")
# Folders that name neither a method nor a test set.
_NEUTRAL = re.compile(r"(?i)(visualization|images|results|sr|x\d)$")


class HRNames:
    """The names of a test set's HR images, such as `img_001` or `sub/img_001`, to find those that others belong to."""

    def __init__(self, names: Sequence[str]):
        self._by_stem: dict[str, list[str]] = {}
        for name in names:
            self._by_stem.setdefault(PurePosixPath(name).name, []).append(name)
        bare = {stem: _HR_MARK.sub("", stem) for stem in self._by_stem}
        uses = Counter(bare.values())
        self._stems = {name: stem for stem, name in bare.items() if name and uses[name] == 1} | {stem: stem for stem in bare}

    def find(self, image: ImageFile) -> str | None:
        """The HR image whose stem an image's name contains; see `_find_stems`.

        Of HR images with one stem it is the one in the sub-folder where the image is, too. Raises ImageError if several fit.
        """
        path = PurePosixPath(image.stem)
        fitting = self._find_stems(path.name)
        if len(fitting) > 1:
            raise ImageError(f"{image}: does it belong to {' or to '.join(fitting)}? Rename or remove it")
        same = self._by_stem[fitting[0]] if fitting else []
        if len(same) < 2:
            return same[0] if same else None
        depth = {hr: len(PurePosixPath(hr).parts) - 1 for hr in same}
        inside = [hr for hr, below in depth.items() if PurePosixPath(hr).parts[:-1] == path.parts[-1 - below : -1]]
        if not inside:
            raise ImageError(f"{image}: does it belong to {' or to '.join(same)}? Put it into a sub-folder of the same name")
        return max(inside, key=depth.__getitem__)

    def _find_stems(self, stem: str) -> list[str]:
        """The HR stems that are a part of `stem` between separators: the longest at its start, or else those inside.

        `img_10_x4` belongs to `img_10`, and not to `img_1`.
        """
        ends = [len(stem), *sorted((found.start() for found in _END.finditer(stem)), reverse=True)]
        for end in ends:
            if stem[:end] in self._stems:
                return [self._stems[stem[:end]]]
        parts = {stem[start.end() : end] for start in _START.finditer(stem) for end in ends} & self._stems.keys()
        longest = {part for part in parts if not any(part != other and part in other for other in parts)}
        return sorted({self._stems[part] for part in longest})


def match_folder(root: Path, images: Sequence[ImageFile], sets: Mapping[str, HRNames]) -> tuple[Found, list[ImageFile]]:
    """Match the images below a folder with the HR images of test sets.

    Methods are called after the folders below `root` that are not called like a test set, joined by `-`, or else after the
    nearest such folder above. Images in a folder that is called like a test set belong to this set. If there are any, the
    others belong to none; otherwise an image may belong to any set.

    Returns:
        The results, and the images that belong to no HR image. Raises ImageError where a choice is not clear.
    """
    folded, above = {name.casefold(): name for name in sets}, Path(os.path.abspath(root)).parts
    folders = {image: PurePosixPath(image.name).parts[:-1] for image in images}

    def set_of(image: ImageFile) -> str | None:
        nearest = (folder.casefold() for folder in reversed([*above, *folders[image]]))
        return next((folded[folder] for folder in nearest if folder in folded), None)

    own = {image: set_of(image) for image in images}
    others = () if any(own.values()) else tuple(sets)
    results: Found = {}
    unused = []
    for image in images:
        which = own[image]
        found = {name: sets[name].find(image) for name in ((which,) if which else others)}
        keys = [(name, hr) for name, hr in found.items() if hr]
        if len(keys) > 1:
            several = " and ".join(name for name, _ in keys)
            raise ImageError(f"{image}: {several} have an image of this name: put results into folders called after them")
        if keys:
            ignored = {*folded, *map(str.casefold, PurePosixPath(keys[0][1]).parts)}
            add(results, _method_name(folders[image], above, ignored), keys[0], image)
        else:
            unused.append(image)
    return results, unused


def _method_name(below: Sequence[str], above: Sequence[str], ignored: Collection[str]) -> str:
    def naming(folders: Sequence[str]) -> list[str]:
        return [folder for folder in folders if folder.casefold() not in ignored and not _NEUTRAL.match(folder)]

    return "-".join(naming(below)) or naming(above)[-1]


def add(results: Found, method: str, key: Key, image: ImageFile) -> None:
    """Add a method's result. Raises ImageError if there is another one for this HR image."""
    other = results.setdefault(method, {}).setdefault(key, image)
    if other.path != image.path:
        advice = "leave one, or give its folder alone"
        raise ImageError(f"{other} and {image} are both results of {method} for {'/'.join(key)}: {advice}")
