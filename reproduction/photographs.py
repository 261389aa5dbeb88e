"""Free photographs from packages anyone can install, made into one training set: photographs.pack and its CREDITS.md.

    apt-get install mate-backgrounds lomiri-wallpapers-16.04 lomiri-wallpapers-20.04 plasma-workspace-wallpapers
    pip install ".[reproduction]"
    python reproduction/photographs.py -o datasets/reproduction

Without root, or on another system, unpack the Debian packages (`dpkg -x NAME.deb FOLDER`) and add `--root FOLDER`.
`--more FOLDER` adds the 22 photographs of MORE, which lie in FOLDER, and sets the ten of HELD_OUT aside: photographs.pack is
then the training set of lanes.yml, and heldout.pack, for choosing checkpoints and settings, is never trained on.

The photographs were chosen by eye and are listed by name. Left out: drawings and renderings (all of gnome-backgrounds 43,
most of plasma-workspace-wallpapers), motion blur, whatever has no clear licence (skimage's motorcycle, coins and Hubble
picture), and the four photographs the demo measures on. Author and licence are read from the packages' own files.
"""

import argparse
import gzip
import json
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from email.parser import HeaderParser
from fnmatch import fnmatch
from importlib import metadata, resources
from pathlib import Path

import numpy as np

from aesop.images import pack
from aesop.images.listing import list_images
from aesop.images.read import ImageFile
from aesop.images.resize import imresize, mod_crop
from aesop.system.files import replacing, sha256_of

# Debian's packages: where their pictures lie, what stands before a name in debian/copyright, and the chosen ones.
LOMIRI = "usr/share/backgrounds"
DEBIAN = {
    "lomiri-wallpapers-16.04": (
        LOMIRI,
        "16.04/",
        """aitzgorri_by_Aitzol_Berasategi Bridge_by_Sander_Klootwijk greentock_by_Peter_Nerlich life_by_Aitzol_Berasategi
        Picture_0B_by_freespace Picture_1A_by_freespace picosdeeuropa_by_Aitzol_Berasategi seeding_by_Clements_Engelhardt
        sunset_by_Aitzol_Berasategi Wine_by_Jakkub_Mede""",
    ),
    "lomiri-wallpapers-20.04": (LOMIRI, "20.04/", "Kleiber_by_Lukas_Baubkus"),
    "mate-backgrounds": (
        "usr/share/backgrounds/mate/nature",
        "nature/",
        "Aqua Blinds Dune FreshFlower Garden GreenMeadow LadyBird RainDrops TwoWings Wood YellowFlower",
    ),
}
# KDE's wallpapers are folders with a metadata.json each.
KDE = "plasma-workspace-wallpapers"
KDE_NAMES = "BytheWater ColdRipple ColorfulCups EveningGlow FallenLeaf Grey Kite OneStandsOut Path summer_1am"
# Of Python's packages: file, author, licence as stated in the documentation of skimage.data and sklearn's images/README.txt.
PYTHON = {
    ("scikit-image", "skimage", "data"): {
        "brick.png": ("CC0Textures, Bricks25", "CC0-1.0"),
        "camera.png": ("Lav Varshney", "CC0-1.0"),
        "chelsea.png": ("Stefan van der Walt", "CC0-1.0"),
        "coffee.png": ("Rachel Michetti", "CC0-1.0"),
        "grass.png": ("linolafett", "CC0-1.0"),
        "gravel.png": ("CC0Textures, Gravel04", "CC0-1.0"),
        "rocket.jpg": ("SpaceX", "public domain"),
    },
    ("scikit-learn", "sklearn", "datasets/images"): {
        "flower.jpg": ("vultilion (by its link; by its line danielbuechele)", "CC-BY-2.0"),
    },
}
# Free photographs from the repositories of desktop backgrounds, longest side 2048; file, author, source. All are CC0.
_BUDGIE = """beacon-street-sunset blue-periwinkle canyon-wren casa-mila high-trestle-trail lake-sherburne oakland-zoo-otters
perched-osprey roman-colosseum singaporean-cityscape tea-gardens the-spices-of-life"""
_POP = "Pop!_OS wallpapers (Unsplash, before June 2017)"
_ELEMENTARY = "elementary wallpapers"
MORE = {
    **{f"{name}.jpg": ("its contributors", "Budgie Backgrounds") for name in _BUDGIE.split()},
    "galen-crout-175291.jpg": ("Galen Crout", _POP),
    "jad-limcaco-183877.jpg": ("Jad Limcaco", _POP),
    "kait-herzog-8242.jpg": ("Kait Herzog", _POP),
    "nasa-45068.jpg": ("NASA", _POP),
    "samuel-zeller-337041.jpg": ("Samuel Zeller", _POP),
    "sean-afnan-244576.jpg": ("Sean Afnan", _POP),
    "ashim_dsilva.jpg": ("Ashim D'Silva", _ELEMENTARY),
    "photo_by_spacex.jpg": ("SpaceX", _ELEMENTARY),
    "sunset_by_the_pier.jpg": ("elementary", _ELEMENTARY),
    "mr_lee.jpg": ("Mr. Lee", _ELEMENTARY),
}
# For choosing checkpoints and settings: lettering, fur, feathers, a person, buildings, foliage, rock, water, things.
HELD_OUT = (
    "kait-herzog-8242.jpg",
    "chelsea.png",
    "perched-osprey.jpg",
    "camera.png",
    "roman-colosseum.jpg",
    "samuel-zeller-337041.jpg",
    "life_by_Aitzol_Berasategi.jpg",
    "picosdeeuropa_by_Aitzol_Berasategi.jpg",
    "EveningGlow.jpg",
    "coffee.png",
)
# As large as the photographs of the usual test sets.
HELD_OUT_SIDE = 480
# Licences that allow a picture to be used and changed by anybody for anything, under their conditions.
FREE = r"CC0-1\.0|public domain|CC-BY(-SA)?-[234]\.0|L?GPL-?v?[23](\.0)?\+?"
# A large photograph is there at several sizes: textures at all scales, and little of the softness of a camera's pixels.
LONGEST_SIDES = (1536, 1024, 683, 456)
# Of all scales that are trained with.
MULTIPLE = 24


class Missing(ValueError):
    """A package, picture or licence that is not there; the message says how to get it."""

    @classmethod
    def files(cls, files: list[Path], packages: Iterable[str]) -> "Missing":
        return cls(
            f"missing: {', '.join(map(str, files))}. Another version of the package, or a damaged one: "
            f"install {' '.join(dict.fromkeys(packages))} again"
        )


@dataclass(frozen=True)
class Photograph:
    """A picture with its origin; `package` has its version, `licence` is several ("; ") where its sources disagree."""

    file: Path
    name: str
    author: str
    licence: str
    package: str


def debian(root: Path) -> Iterator[Photograph]:
    """The chosen photographs below `root`, `/` on a Debian system.

    Raises:
        Missing: naming all packages and pictures that are not there.
    """
    absent = [name for name in (*DEBIAN, KDE) if not (root / "usr/share/doc" / name / "copyright").is_file()]
    if absent:
        raise Missing(f"not installed below {root}: {', '.join(absent)}. Install them: apt-get install {' '.join(absent)}")
    for package, (folder, prefix, names) in DEBIAN.items():
        for name in names.split():
            author, licence = copyright_of(root / "usr/share/doc" / package / "copyright", f"{prefix}{name}.jpg")
            yield Photograph(root / folder / f"{name}.jpg", f"{name}.jpg", author, licence, version_of(root, package))
    described = {name: root / "usr/share/wallpapers" / name / "metadata.json" for name in KDE_NAMES.split()}
    if absent := [file for file in described.values() if not file.is_file()]:
        raise Missing.files(absent, [KDE])
    for name, file in described.items():
        image = f"{name}/contents/images/2560x1600.jpg"
        _, by_package = copyright_of(root / "usr/share/doc" / KDE / "copyright", image)
        try:
            about = json.loads(file.read_text(encoding="utf-8"))["KPlugin"]
            author = ", ".join(author["Name"] for author in about["Authors"])
            licence = "; ".join(dict.fromkeys((about["License"], by_package)))
        except KeyError as error:
            raise Missing(f"{file} does not state {error}: another version of the package {KDE}?") from error
        yield Photograph(root / "usr/share/wallpapers" / image, f"{name}.jpg", author, licence, version_of(root, KDE))


def python() -> Iterator[Photograph]:
    """The chosen photographs inside Python's packages.

    Raises:
        Missing: naming the package that is not installed.
    """
    absent = [package for package, *_ in PYTHON if not _installed(package)]
    if absent:
        raise Missing(f"not installed: {', '.join(absent)}. Install them: pip install {' '.join(absent)}")
    for (package, module, folder), chosen in PYTHON.items():
        for name, (author, licence) in chosen.items():
            file = Path(str(resources.files(module))) / folder / name
            yield Photograph(file, name, author, licence, f"{package} {metadata.version(package)}")


def more(folder: Path) -> Iterator[Photograph]:
    """The photographs of MORE in `folder`."""
    for name, (author, source) in MORE.items():
        yield Photograph(folder / name, name, author, "CC0-1.0", source)


def _installed(package: str) -> bool:
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True


def copyright_of(file: Path, name: str) -> tuple[str, str]:
    """Authors, without addresses, and licence of the source file `name` by a debian/copyright in the format of DEP 5.

    Of several paragraphs that name it the last one holds.

    Raises:
        Missing: where none does.
    """
    found = None
    for paragraph in re.split(r"\n\s*\n", file.read_text(encoding="utf-8")):
        fields = HeaderParser().parsestr(paragraph)
        if any(fnmatch(name, pattern) for pattern in str(fields["Files"] or "").split()):
            authors = [re.sub(r"\s*<.*", "", line.strip()) for line in str(fields["Copyright"]).splitlines()]
            found = "; ".join(authors), str(fields["License"]).splitlines()[0]
    if found is None:
        raise Missing(
            f"{file} says nothing about {name}: another version of the package? See the list in {Path(__file__).name}"
        )
    return found


def version_of(root: Path, package: str) -> str:
    """`NAME VERSION (Debian)` from the package's changelog."""
    version = None
    file = root / "usr/share/doc" / package / "changelog.Debian.gz"
    if file.is_file():  # small images of Debian keep of the documents only the copyright
        with gzip.open(file, "rt", encoding="utf-8") as text:
            version = re.search(r"\((.*?)\)", text.readline())
    return f"{package} {version[1] if version else '(unknown version)'} (Debian)"


def sizes(photograph: np.ndarray, sides: Sequence[int] = LONGEST_SIDES) -> Iterator[np.ndarray]:
    """The photograph, uint8 (H, W, 3), with its longest side reduced to each of `sides`, which decrease, cut to multiples of
    MULTIPLE; once as it is where it is smaller than some."""
    longest = max(photograph.shape[:2])
    for side in sides:
        if side < longest:
            yield mod_crop(imresize(photograph, side / longest), MULTIPLE)
        elif side == next(s for s in reversed(sides) if s >= longest):
            yield mod_crop(photograph, MULTIPLE)


def build(output: Path, root: Path, more_from: Path | None = None) -> None:
    """Write photographs.pack and CREDITS.md into `output`, each aside and then renamed.

    Args:
        more_from: the folder of MORE's photographs; HELD_OUT then goes into heldout.pack.

    Raises:
        Missing, OSError: before anything is written.
    """
    photographs = [*debian(root), *python()]
    absent = [p for p in photographs if not p.file.is_file()]
    if absent:
        raise Missing.files([p.file for p in absent], [p.package.split()[0] for p in absent])
    if more_from is not None:
        photographs += more(more_from)
        absent = [p for p in photographs if not p.file.is_file()]
        if absent:
            raise Missing(f"missing: {', '.join(str(p.file) for p in absent)}")
    used = [p for p in photographs if all(re.fullmatch(FREE, licence) for licence in p.licence.split("; "))]
    for left_out in (p for p in photographs if p not in used):
        print(f"left out: {left_out.name}, whose licence is now {left_out.licence!r}")
    output.mkdir(parents=True, exist_ok=True)

    def write(file: Path, chosen: list[Photograph], sides: Sequence[int]) -> None:
        def images() -> Iterator[tuple[str, np.ndarray]]:
            for number, photograph in enumerate(chosen, 1):
                print(f"{number}/{len(chosen)} {photograph.name}", flush=True)
                for image in sizes(ImageFile.at(photograph.file).read_uint8(), sides):
                    yield f"{Path(photograph.name).stem}_{image.shape[1]}.png", image

        pack.write(file, images())
        print(f"{file}: {len(list_images(file))} images of {len(chosen)} photographs, SHA-256 {sha256_of(file)}")

    held_out = [p for p in used if more_from is not None and p.name in HELD_OUT]
    trained = [p for p in used if p not in held_out]
    if held_out:
        write(output / "heldout.pack", held_out, [HELD_OUT_SIDE])
    with replacing(output / "CREDITS.md") as temporary:
        temporary.write_text(credits(trained), encoding="utf-8")
    write(output / "photographs.pack", trained, LONGEST_SIDES)


def credits(photographs: list[Photograph]) -> str:
    """The credits file, in Markdown."""
    head = f"""# Credits

Photographs of other people, under the licences named here, reduced to several sizes each and cut to multiples of {MULTIPLE}
pixels by reproduction/photographs.py. Author and licence are as the packages state them; where a picture's own metadata and
the package's copyright file name different licences, both are given. Nobody named here endorses this project.

| photograph | author | licence | package |
| --- | --- | --- | --- |
"""
    return head + "".join(f"| {p.name} | {p.author} | {p.licence} | {p.package} |\n" for p in photographs)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=Path("datasets/reproduction"))
    parser.add_argument("--root", type=Path, default=Path("/"), help="where Debian's packages are unpacked")
    parser.add_argument("--more", type=Path, metavar="FOLDER", help="where the photographs of MORE are")
    arguments = parser.parse_args()
    try:
        build(arguments.output, arguments.root, arguments.more)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
