"""What is published: both distributions are built from the tracked files, read, and the wheel is run on its own.

The lists are compared with git's, not with setuptools' rules. Building needs the packages build and setuptools, no network.
"""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest
import yaml
from PIL import Image

import aesop

REPO = Path(__file__).resolve().parents[2]
MAX_BYTES = 16_000_000  # docs/how-to/install.md states it; 13.5 MB are models
PROJECT = tomllib.loads((REPO / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LICENSES = PROJECT["license-files"]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (REPO / ".git").exists() or not shutil.which("git"), reason="needs git and a checkout"),
]


def tracked() -> list[str]:
    """Files of the checkout, those that are not committed yet included."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=REPO, check=True, capture_output=True, text=True).stdout.split("\0")
    return sorted(name for name in listed if name and (REPO / name).is_file())


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """A folder with the sdist, and the wheel that was built from the sdist."""
    pytest.importorskip("build")
    folder = tmp_path_factory.mktemp("release")
    for name in tracked():
        copy = folder / "checkout" / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPO / name, copy)
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder / "dist", folder / "checkout"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "dist"


@pytest.fixture(scope="module")
def wheel(built) -> Path:
    (file,) = built.glob("*.whl")
    return file


@pytest.fixture(scope="module")
def sdist(built) -> dict[str, int]:
    """Files of the sdist below its folder, and their sizes."""
    (file,) = built.glob("*.tar.gz")
    with tarfile.open(file) as archive:
        return {member.name.partition("/")[2]: member.size for member in archive if member.isfile()}


def read_metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return Parser().parsestr(archive.read(name).decode("utf-8"))


def test_names_and_sizes(built):
    version = aesop.__version__
    files = {file.name: file.stat().st_size for file in built.iterdir()}
    assert set(files) == {f"aesop_sr-{version}-py3-none-any.whl", f"aesop_sr-{version}.tar.gz"}
    assert max(files.values()) < MAX_BYTES, files


def test_the_wheel_holds_the_package_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    expected = {name.removeprefix("src/") for name in tracked() if name.startswith("src/aesop/")}
    assert "aesop/assets/models/aesop_compact_x4.safetensors" in expected
    assert names == expected


def test_the_sdist_holds_what_a_build_needs_and_the_option_files(sdist):
    at_root = {"CHANGELOG.md", "CITATION.cff", "LICENSE", "MANIFEST.in", "NOTICE", "README.md"}
    at_root |= {"constraints.txt", "pyproject.toml"}
    expected = {name for name in tracked() if name in at_root or name.startswith(("src/aesop/", "configs/"))}
    made = {name for name in sdist if name in ("PKG-INFO", "setup.cfg") or ".egg-info/" in name}
    assert set(sdist) - made == expected


def test_licences_are_included(wheel, sdist):
    with zipfile.ZipFile(wheel) as archive:
        (folder,) = {name.partition("/")[0] for name in archive.namelist() if ".dist-info/" in name}
        for license_file in LICENSES:
            assert archive.read(f"{folder}/licenses/{license_file}") == (REPO / license_file).read_bytes()
            assert license_file in sdist
    assert read_metadata(wheel).get_all("License-File") == LICENSES


def test_every_photograph_has_a_licence_that_the_metadata_names(wheel):
    with zipfile.ZipFile(wheel) as archive:
        credits = archive.read("aesop/assets/photos/CREDITS.md").decode("utf-8")
        names = [name.removeprefix("aesop/assets/photos/") for name in archive.namelist()]
    rows = dict(re.findall(r"^\| `(.+?)` \|(.+)$", credits, re.MULTILINE))
    assert sorted(rows) == sorted(name for name in names if name.startswith(("train/", "heldout/")))
    licences = {name: re.findall(r"\[(CC[\w.-]+|public domain)\]", row) for name, row in rows.items()}
    assert [name for name, found in licences.items() if not found] == []
    used = {"Apache-2.0", *(licence for found in licences.values() for licence in found)}
    assert used - {"public domain"} == set(read_metadata(wheel)["License-Expression"].split(" AND "))


def test_metadata(wheel):
    metadata = read_metadata(wheel)
    assert metadata["Name"] == "aesop-sr"
    assert metadata["Requires-Python"] == ">=3.11"
    citation = yaml.safe_load((REPO / "CITATION.cff").read_text(encoding="utf-8"))
    assert aesop.__version__ == citation["version"] == metadata["Version"]
    unbounded = [need for need in metadata.get_all("Requires-Dist") if not {*"<>=~"} & {*need.partition(";")[0]}]
    assert [need for need in unbounded if not need.startswith("aesop-sr[")] == []


def test_the_wheel_upscales_without_the_checkout(wheel, tmp_path):
    site = tmp_path / "site"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--target", site, wheel]
    subprocess.run(command, check=True)
    photograph = site / "aesop" / "assets" / "photos" / "heldout" / "astronaut.png"
    with Image.open(photograph) as image:
        small = image.resize((24, 16))
    small.save(tmp_path / "small.png")
    environment = os.environ | {"PYTHONPATH": str(site), "XDG_CACHE_HOME": str(tmp_path / "cache")}

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert run("-c", "import aesop; print(aesop.__file__)").strip() == str(site / "aesop" / "__init__.py")
    run("-m", "aesop", "upscale", "small.png", "-o", "larger")
    with Image.open(tmp_path / "larger" / "small_x4.png") as larger:
        assert larger.size == (96, 64)
