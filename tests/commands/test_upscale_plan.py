"""Which images `aesop upscale` takes, in which job, and how their results are named."""

import tracemalloc
from collections import Counter
from pathlib import Path

import pytest

from aesop.commands.upscale_plan import Plan, Shard, find_images, plan_targets
from aesop.images.errors import ImageError


def make(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def planned(inputs: Path | list[Path], output: Path, shard: str | None = None, **options) -> Plan:
    inputs = inputs if isinstance(inputs, list) else [inputs]
    found, _ = find_images(inputs, output, Shard.parse(shard))
    options = {"ext": None, "suffix": "_x4"} | options
    return plan_targets(found, inputs, output, **options)


def targets(plan: Plan) -> dict[str, str]:
    return {found.name: plan.target(number).relative_to(plan.output).as_posix() for number, found in enumerate(plan.found)}


# --- names -----------------------------------------------------------------------------------------------------------


def test_images_that_differ_in_their_kinds_keep_apart(tmp_path):
    folder = make(tmp_path / "in", "n.bmp", "n.png", "n.gif", "m.heic", "m.png", "sub/n.bmp", "k.jpg", "k.jfif")
    plan = planned(folder, tmp_path / "out")
    assert targets(plan) == {
        "n.png": "n_x4.png",
        "n.bmp": "n_bmp_x4.png",
        "n.gif": "n_x4.gif",
        "m.png": "m_x4.png",
        "sub/n.bmp": "sub/n_x4.png",
        "k.jpg": "k_x4.jpg",
        "k.jfif": "k_jfif_x4.jpg",
    } | ({"m.heic": "m_heic_x4.png"} if any(found.name == "m.heic" for found in plan.found) else {})
    assert "n.bmp becomes n_bmp_x4.png" in plan.renamed[0]
    assert targets(planned(folder, tmp_path / "out", ext=".tif"))["n.bmp"] == "n_x4.tif"  # the first in order
    assert len(set(targets(planned(folder, tmp_path / "out", ext=".tif")).values())) == len(plan)


def test_names_stay_apart_even_if_those_with_kinds_are_taken(tmp_path):
    folder = make(tmp_path / "in", "n.bmp", "n.png", "n_bmp.png")
    assert targets(planned(folder, tmp_path / "out")) == {
        "n.png": "n_x4.png",
        "n_bmp.png": "n_bmp_x4.png",
        "n.bmp": "n_bmp_bmp_x4.png",
    }


def test_names_do_not_depend_on_what_is_done(tmp_path):
    folder = make(tmp_path / "in", "n.bmp", "n.png")
    first = targets(planned(folder, tmp_path / "out"))
    for done in ("n_x4.png", "n_bmp_x4.png"):
        make(tmp_path / "out", done)
        assert targets(planned(folder, tmp_path / "out", skip_existing=True)) == first


def test_one_name_in_two_folders_is_a_conflict_for_one_job(tmp_path):
    folders = [make(tmp_path / name, "n.png", "m.png") for name in ("1", "2")]
    for shards in ([None], ["1/2", "2/2"], ["1/3", "2/3", "3/3"]):
        messages = []
        for shard in shards:
            try:
                planned(folders, tmp_path / "out", shard)
            except ValueError as error:
                messages.append(str(error))
        text = "\n".join(messages)
        assert text.count("would both become") == 2
        assert "1/n.png" in text
        assert "2/m.png" in text


# --- conflicts with files --------------------------------------------------------------------------------------------


def test_an_input_of_another_job_is_not_replaced(tmp_path):
    """Whichever job has the image, its result would be an input that may belong to another job."""
    folder = make(tmp_path / "in", "n.png", "n_x4.png")
    for count in (1, 2, 5, 9):
        refused = []
        for number in range(1, count + 1):
            try:
                planned(folder, folder, f"{number}/{count}", overwrite=True)
            except ValueError as error:
                refused.append(str(error))
        assert len(refused) == 1
        assert "in/n.png would become" in refused[0]
        assert "another input" in refused[0]


def test_an_input_is_found_through_links(tmp_path):
    folder = make(tmp_path / "in", "n.png")
    make(tmp_path / "out", "n_x4.png")
    (folder / "linked.png").symlink_to(tmp_path / "out" / "n_x4.png")
    with pytest.raises(ValueError, match=r"n\.png would become .*another input"):
        planned(folder, tmp_path / "out", overwrite=True)
    (tmp_path / "same").symlink_to(folder)
    with pytest.raises(ValueError, match="is the input itself"):
        planned(folder, tmp_path / "same", suffix="", overwrite=True)


def test_a_link_in_the_place_of_a_result_does_not_lead_to_an_input(tmp_path):
    """It is replaced, and what it leads to stays."""
    folder = make(tmp_path / "in", "n.png")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "n_x4.png").symlink_to(folder / "n.png")
    with pytest.raises(ValueError, match=r"n_x4\.png exists"):
        planned(folder, tmp_path / "out")
    assert len(planned(folder, tmp_path / "out", overwrite=True)) == 1


def test_folders_in_the_way_and_many_results(tmp_path):
    folder = make(tmp_path / "in", *(f"{number}.png" for number in range(50)))
    (tmp_path / "out" / "7_x4.png").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"7\.png would become .*which is a folder"):
        planned(folder, tmp_path / "out", overwrite=True)
    make(tmp_path / "full", *(f"{number}_x4.png" for number in range(50)))
    with pytest.raises(ValueError, match="exists") as error:
        planned(folder, tmp_path / "full")
    assert str(error.value).count("exists") == 20
    assert "and 30 more" in str(error.value)


# --- listing and shards ----------------------------------------------------------------------------------------------


def test_results_below_an_input_are_no_inputs(tmp_path):
    folder = make(tmp_path / "in", "n.png", "out/n_x4.png", "out/deep/m_x4.png", "outer/k.png")
    (folder / "link.png").symlink_to(folder / "out" / "n_x4.png")
    found, _ = find_images([folder], folder / "out")
    assert [image.name for image in found] == ["n.png", "outer/k.png"]
    with pytest.raises(ValueError, match="all images are results in"):
        find_images([make(tmp_path / "done", "out/n.png")], tmp_path / "done" / "out")
    with pytest.raises(ImageError, match="no image in"):
        find_images([folder, make(tmp_path / "none", "notes.txt")], folder / "out")


def test_results_behind_a_linked_folder_are_no_inputs(tmp_path):
    folder = make(tmp_path / "in", "n.png", "out/n_x4.png", "out/deep/m_x4.png")
    make(tmp_path / "more", "k.png")
    (folder / "linked").symlink_to(tmp_path / "more")
    (folder / "former").symlink_to(folder / "out" / "deep")
    found, _ = find_images([folder], folder / "out")
    assert [image.name for image in found] == ["linked/k.png", "n.png"]


def test_inputs_keep_their_order_and_appear_once(tmp_path):
    folder = make(tmp_path / "in", "img10.png", "img9.png", "IMG1.png")
    found, _ = find_images([folder / "img9.png", folder, folder], tmp_path / "out")
    assert [image.name for image in found] == ["img9.png", "IMG1.png", "img10.png"]
    assert [image.image.path for image in found] == [folder / name for name in ("img9.png", "IMG1.png", "img10.png")]


def test_every_image_belongs_to_one_job_whatever_comes_meanwhile(tmp_path):
    folder = make(tmp_path / "in", *(f"sub{k % 3}/photo {k}.jpg" for k in range(400)), *(f"{k}.png" for k in range(40)))
    taken = Counter()
    for number in range(1, 9):
        plan = planned(folder, folder / "out", f"{number}/8")
        taken.update(found.name for found in plan.found)
        assert 440 / 8 * 0.5 < len(plan) < 440 / 8 * 1.5
        for index in range(len(plan)):
            plan.target(index).touch()  # a result
        make(folder, f"late {number}.png")
    late = {name for name in taken if name.startswith("late")}
    assert set(taken.values()) == {1}
    assert len(taken) - len(late) == 440


def test_images_whose_results_may_collide_belong_to_one_job():
    for count in (2, 3, 100):
        for number in range(1, count + 1):
            shard = Shard(number, count)
            for group in (["n.png", "n.bmp", "N.JPG", "n_bmp.png", "n.jpg.png"], ["a/1.tif", "a/1.tiff", "a/1_tif.gif"]):
                assert len({shard.takes(name) for name in group}) == 1


def test_a_job_keeps_little_of_the_images_of_others(tmp_path):
    folder = make(tmp_path / "in", *(f"an image with a long name {number:06}.png" for number in range(1000)))

    def peak(shard: str | None) -> int:
        tracemalloc.start()
        plan = planned(folder, tmp_path / "out", shard)
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert len(plan) > 0
        return size

    whole, part = peak(None), peak("3/50")
    assert part < whole / 4
