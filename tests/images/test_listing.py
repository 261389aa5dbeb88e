"""Finding images in folders and among the words of a command line."""

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aesop.images import pack
from aesop.images.errors import ImageError
from aesop.images.listing import by_name, collect_images, list_images, natural_order, walk_files
from aesop.images.read import ImageFile

RNG = np.random.default_rng(7)
RGB = RNG.integers(0, 256, (24, 37, 3), dtype=np.uint8)


def put(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def test_list_images(tmp_path):
    names = ["b/2.PNG", "b/10.jpeg", "a10.webp", "a2.TIF", "a02.bmp", ".hidden.png", "c/._junk.png", "notes.txt"]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = [image.name for image in list_images(tmp_path)]
    assert [image.path for image in list_images(tmp_path)] == [tmp_path / name for name in found]
    assert found == ["a02.bmp", "a2.TIF", "a10.webp", "b/2.PNG", "b/10.jpeg"]


def test_list_images_errors(tmp_path):
    with pytest.raises(ImageError, match="nowhere does not exist"):
        list_images(tmp_path / "nowhere")
    file = put(tmp_path / "notes.txt", b"x")
    with pytest.raises(ImageError, match=r"notes\.txt is a file"):
        list_images(file)
    with pytest.raises(ImageError, match=r"\.png \.jpg \.jpeg \.webp \.tif \.tiff \.bmp"):
        list_images(tmp_path)


def test_collected_images_come_in_the_given_order_and_once(tmp_path):
    for name in ("in/b.png", "in/sub/a.png", "c.JPG"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    pack.write(tmp_path / "x.pack", [("sub/d.png", RGB)])
    given = [tmp_path / name for name in ("c.JPG", "in", "x.pack", "in/b.png", "x.pack", "in/sub/a.png")]
    images = collect_images(given)
    assert [image.name for image in images] == ["c.JPG", "b.png", "sub/a.png", "sub/d.png", "a.png"]
    assert [image.stem for image in images[:3]] == ["c", "b", "sub/a"]
    np.testing.assert_array_equal(images[3].read(), RGB)
    assert list(by_name((image.stem, image) for image in images)) == ["c", "b", "sub/a", "sub/d", "a"]


def test_all_unusable_inputs_are_named(tmp_path):
    (tmp_path / "notes.txt").touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "x.pack").write_bytes(b"nothing")
    with pytest.raises(ImageError) as error:
        collect_images(tmp_path / name for name in ("gone.png", "notes.txt", "empty", "x.pack"))
    for text in ("gone.png: no such file", "notes.txt: not an image file", f"no image in {tmp_path}/empty", "is not a pack"):
        assert text in str(error.value)
    with pytest.raises(ImageError, match="no image was named"):
        collect_images([])


def test_two_images_of_one_name_are_both_named(tmp_path):
    images = [ImageFile(tmp_path / folder / "a.png", "a.png") for folder in ("one", "two")]
    with pytest.raises(ImageError, match=r"one/a\.png and .*two/a\.png are both named 'a': rename one, or its folder"):
        by_name((image.stem, image) for image in images)


def parts_of(name: str) -> tuple[list[tuple[int, str]], str]:
    """The natural order, part by part."""
    return [(int(digits or -1), text) for digits, text in re.findall(r"(\d+)|(\D+)", name.casefold())], name


@given(st.lists(st.text(st.sampled_from("ab/._0129٣ Zß-"), max_size=8)))
def test_natural_order(names):
    assert sorted(names, key=natural_order) == sorted(names, key=parts_of)


def test_walking_leaves_out_what_is_hidden(tmp_path):
    for name in ("a.png", "sub/b.txt", "sub/deep/c", ".hidden", ".git/d", "sub/.e", "out/f", "out2/g", "sub/out/h"):
        put(tmp_path / name, b"")
    (tmp_path / "to a file").symlink_to(tmp_path / "sub" / "b.txt")
    (tmp_path / "to nothing").symlink_to(tmp_path / "gone")
    (tmp_path / "to itself").symlink_to(tmp_path / "to itself")
    found = dict(walk_files(tmp_path, leave_out="out"))
    links = {"to a file"}
    assert found == {
        name: name in links for name in ("a.png", "sub/b.txt", "sub/deep/c", "out2/g", "sub/out/h", "to a file")
    }
    assert "out/f" in dict(walk_files(tmp_path))


def test_linked_folders_are_followed(tmp_path):
    """Their files have the names under which the folder shows them, also where two routes lead to one file."""
    for name in ("d/a/1.png", *(f"elsewhere/{k}.png" for k in range(7)), "elsewhere/sub/7.png"):
        put(tmp_path / name, b"")
    (tmp_path / "d" / "linked").symlink_to(tmp_path / "elsewhere")
    names = [image.name for image in list_images(tmp_path / "d")]
    assert names == ["a/1.png", *(f"linked/{k}.png" for k in range(7)), "linked/sub/7.png"]
    assert dict(walk_files(tmp_path / "d"))["linked/sub/7.png"]
    (tmp_path / "d" / "again").symlink_to("linked/sub")
    assert [image.name for image in list_images(tmp_path / "d")] == ["a/1.png", "again/7.png", *names[1:]]


def test_links_that_lead_back_have_an_end(tmp_path):
    """A link to a folder that it lies in is not followed."""
    for name in ("root/1.png", "root/deep/2.png", "one/3.png", "two/4.png"):
        put(tmp_path / name, b"")
    (tmp_path / "root" / "self").symlink_to(".")
    (tmp_path / "root" / "deep" / "up").symlink_to("../..")
    (tmp_path / "root" / "one").symlink_to(tmp_path / "one")
    (tmp_path / "one" / "two").symlink_to(tmp_path / "two")
    (tmp_path / "two" / "one").symlink_to(tmp_path / "one")
    (tmp_path / "two" / "root").symlink_to(tmp_path / "root")
    (tmp_path / "alias").symlink_to(tmp_path / "root")
    expected = ["deep/2.png", "one/3.png", "one/two/4.png", "1.png"]
    assert [image.name for image in list_images(tmp_path / "root")] == expected
    assert [image.name for image in list_images(tmp_path / "alias")] == expected


def test_folders_that_are_all_linked_to_one_another_are_listed_once(tmp_path):
    """Not once for each route, of which twenty folders have more than can be walked."""
    names = [f"{k:02d}" for k in range(20)]
    for name in names:
        put(tmp_path / "stores" / name / "x.png", b"")
        for other in names:
            if other != name:
                (tmp_path / "stores" / name / f"to {other}").symlink_to(tmp_path / "stores" / other)
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "first").symlink_to(tmp_path / "stores" / "00")
    found = [image.name for image in list_images(tmp_path / "root")]
    assert found == [*(f"first/to {name}/x.png" for name in names[1:]), "first/x.png"]
