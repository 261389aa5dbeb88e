"""Which image belongs to which HR image, and to which method and test set, by names alone."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aesop.evaluation.pairing import HRNames, match_folder
from aesop.images.errors import ImageError
from aesop.images.read import ImageFile


def find(hr: list[str], image: str) -> str | None:
    return HRNames(hr).find(ImageFile(Path(f"/x/{image}.png"), f"{image}.png"))


SET5 = ["baby", "bird", "butterfly", "head", "woman"]


@pytest.mark.parametrize(
    ("hr", "image", "partner"),
    [
        (SET5, "baby", "baby"),
        (SET5, "baby_x4", "baby"),
        (SET5, "baby_HAT_SRx4_ImageNet-pretrain", "baby"),
        (SET5, "baby-out", "baby"),
        (SET5, "baby.sr", "baby"),
        (SET5, "baby (1)", "baby"),
        (SET5, "babyx4", "baby"),
        (SET5, "babyX4_rlt", "baby"),
        (SET5, "SR_baby", "baby"),
        (SET5, "x4_baby_out", "baby"),
        (SET5, "babysitter", None),
        (SET5, "crybaby", None),
        (SET5, "baby4", None),
        (SET5, "Baby", None),
        (SET5, "overview", None),
        (["img_1", "img_10", "img_100"], "img_1_x4", "img_1"),
        (["img_1", "img_10", "img_100"], "img_10_x4", "img_10"),
        (["img_1", "img_10", "img_100"], "img_100x4", "img_100"),
        (["img_1", "img_10", "img_100"], "out_img_10", "img_10"),
        (["img_1", "img_10", "img_100"], "img_1000", None),
        (["img_1", "img_1_2"], "img_1_2", "img_1_2"),
        (["img_1", "img_1_2"], "img_1_2_x4", "img_1_2"),
        (["img_1", "img_1_2"], "img_1_20", "img_1"),
        (["1", "2", "10"], "10_x4", "10"),
        (["1", "2", "10"], "1_2", "1"),  # the start counts
        (["0801", "0802"], "0801x4", "0801"),
        (["0801", "0802"], "0801x4d", "0801"),
        (["baby_GT", "bird_GT"], "baby", "baby_GT"),
        (["baby_GT", "bird_GT"], "baby_x4", "baby_GT"),
        (["baby_GT", "bird_GT"], "baby_GT_x4", "baby_GT"),
        (["baby", "baby_GT"], "baby_x4", "baby"),
        (["baby", "baby_GT"], "baby_GT", "baby_GT"),
        (["HR_baby", "HR_bird"], "SR_baby", "HR_baby"),
        (["img_001_SRF_4_HR", "img_002_SRF_4_HR"], "img_002_SRF_4_SRCNN", "img_002_SRF_4_HR"),
        (["img_001_SRF_4_HR", "img_002_SRF_4_HR"], "img_001", "img_001_SRF_4_HR"),
        (["_HR", "baby"], "_overview", None),
        (["a.b", "a"], "a.b_x4", "a.b"),
        (["a.b", "a"], "a.c", "a"),
        (["été", "naïve"], "été_x4", "été"),
        (["été", "naïve"], "étés", None),
        (["日本", "日本語"], "日本語_x4", "日本語"),
        (["sub/img", "sub/other"], "img_x4", "sub/img"),
        (["sub/img", "sub/other"], "sub/img", "sub/img"),
        (["a/img", "b/img"], "METHOD/b/img_x4", "b/img"),
        (["img", "b/img"], "METHOD/b/img", "b/img"),
        (["img", "b/img"], "METHOD/img", "img"),
    ],
)
def test_partners(hr, image, partner):
    assert find(hr, image) == partner


@pytest.mark.parametrize(
    ("hr", "image", "message"),
    [
        (SET5, "compare_baby_bird", "does it belong to baby or to bird"),
        (["a/img", "b/img"], "img", "does it belong to a/img or to b/img"),
        (["a/img", "b/img"], "c/img", "does it belong to a/img or to b/img\\? Put it into a sub-folder of the same name"),
    ],
)
def test_what_may_be_either_is_refused(hr, image, message):
    with pytest.raises(ImageError, match=rf"/x/{image}\.png: {message}"):
        find(hr, image)


WORD = st.text(st.sampled_from("abx014é日"), min_size=1, max_size=4)
STEM = st.lists(WORD, min_size=1, max_size=3).map("_".join)


@settings(deadline=None)
@given(st.lists(STEM, min_size=1, max_size=8, unique=True), st.data())
def test_every_hr_name_finds_itself_with_any_suffix(stems, data):
    stem = data.draw(st.sampled_from(stems))
    assert find(stems, stem) == stem
    assert find(stems, f"{stem}!4") == stem  # ! is in no name
    assert find(stems, f"{stem}!{data.draw(st.sampled_from(stems))}") == stem


@settings(deadline=None)
@given(st.lists(STEM, min_size=1, max_size=8, unique=True), STEM)
def test_a_partner_is_a_whole_part_of_the_name(stems, name):
    """Against a search through all HR names."""
    starts = [stem for stem in stems if name == stem or (name.startswith(stem) and ends_there(name[len(stem) :]))]
    found = None
    try:
        found = find(stems, name)
    except ImageError:
        assert not starts
    if starts:
        assert found == max(starts, key=len)
    elif found is not None:
        assert f"_{found}" in name


def ends_there(rest: str) -> bool:
    return rest.startswith("_") or (rest.startswith("x") and rest[1:2] in {"0", "1", "4"})


# Folders.


def match(root: str, names: list[str], sets: dict[str, list[str]]) -> tuple[dict, list[str]]:
    images = [ImageFile(Path(root) / name, name) for name in names]
    found, unused = match_folder(Path(root), images, {name: HRNames(hr) for name, hr in sets.items()})
    plain = {method: {"/".join(key): image.name for key, image in results.items()} for method, results in found.items()}
    return plain, [image.name for image in unused]


ONE = {"Set5": ["baby", "bird"]}
TWO = {"Set5": ["img_001"], "Set14": ["img_001", "img_002"]}


@pytest.mark.parametrize(
    ("root", "names", "sets", "methods"),
    [
        # A method's folder.
        ("/x/HAT", ["baby_x4.png", "bird_x4.png"], ONE, {"HAT": {"Set5/baby": "baby_x4.png", "Set5/bird": "bird_x4.png"}}),
        ("/x/HAT", ["Set5/baby.png"], ONE, {"HAT": {"Set5/baby": "Set5/baby.png"}}),
        ("/x/HAT", ["set5/x4/baby.png"], ONE, {"HAT": {"Set5/baby": "set5/x4/baby.png"}}),
        ("/x/HAT/visualization/Set5", ["baby_HAT.png"], ONE, {"HAT": {"Set5/baby": "baby_HAT.png"}}),
        (
            "/x/HAT",
            ["visualization/Set14/img_001_HAT.png", "visualization/Set5/img_001_HAT.png"],
            TWO,
            {
                "HAT": {
                    "Set14/img_001": "visualization/Set14/img_001_HAT.png",
                    "Set5/img_001": "visualization/Set5/img_001_HAT.png",
                }
            },
        ),
        # Several methods.
        (
            "/x/results",
            ["HAT/baby.png", "SwinIR/baby.png"],
            ONE,
            {"HAT": {"Set5/baby": "HAT/baby.png"}, "SwinIR": {"Set5/baby": "SwinIR/baby.png"}},
        ),
        (
            "/x/results",
            ["HAT/visualization/Set5/baby.png", "SwinIR/visualization/Set5/baby.png"],
            ONE,
            {
                "HAT": {"Set5/baby": "HAT/visualization/Set5/baby.png"},
                "SwinIR": {"Set5/baby": "SwinIR/visualization/Set5/baby.png"},
            },
        ),
        (
            "/x/BI",
            ["RCAN/Set5/x4/baby_RCAN_x4.png", "EDSR/Set5/x4/baby_EDSR_x4.png"],
            ONE,
            {
                "RCAN": {"Set5/baby": "RCAN/Set5/x4/baby_RCAN_x4.png"},
                "EDSR": {"Set5/baby": "EDSR/Set5/x4/baby_EDSR_x4.png"},
            },
        ),
        ("/x/out", ["Set5/HAT/baby.png"], ONE, {"HAT": {"Set5/baby": "Set5/HAT/baby.png"}}),
        ("/x/out", ["HAT/seed1/baby.png"], ONE, {"HAT-seed1": {"Set5/baby": "HAT/seed1/baby.png"}}),
        # A folder for each image, as in BasicSR's validation.
        ("/x/run", ["visualization/baby/baby_5000.png"], ONE, {"run": {"Set5/baby": "visualization/baby/baby_5000.png"}}),
        # Sub-folders of HR.
        ("/x/HAT", ["below/baby.png"], {"Set5": ["below/baby"]}, {"HAT": {"Set5/below/baby": "below/baby.png"}}),
        # The test set is above the folder.
        ("/x/Set14/HAT", ["img_001.png"], TWO, {"HAT": {"Set14/img_001": "img_001.png"}}),
        ("/x/HAT", ["img_002.png"], TWO, {"HAT": {"Set14/img_002": "img_002.png"}}),
    ],
)
def test_methods_and_sets_of_folders(root, names, sets, methods):
    assert match(root, names, sets) == (methods, [])


def test_images_of_other_sets_are_unused():
    found, unused = match("/x/HAT", ["Set5/baby.png", "Set14/baby.png", "baby.png", "page.png"], ONE)
    assert found == {"HAT": {"Set5/baby": "Set5/baby.png"}}
    assert unused == ["Set14/baby.png", "baby.png", "page.png"]


@pytest.mark.parametrize(
    ("names", "sets", "message"),
    [
        (["baby_x4.png", "baby_x2.png"], ONE, r"baby_x4\.png and /x/HAT/baby_x2\.png are both results of HAT for Set5/baby"),
        (["img_001.png"], TWO, r"/x/HAT/img_001\.png: Set5 and Set14 have an image of this name: put results into folders"),
        (["compare_bird_baby.png"], ONE, r"/x/HAT/compare_bird_baby\.png: does it belong to baby or to bird\?"),
    ],
)  # fmt: skip
def test_what_is_ambiguous_is_named(names, sets, message):
    with pytest.raises(ImageError, match=message):
        match("/x/HAT", names, sets)
