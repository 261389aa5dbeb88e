"""Faults of a figure's YAML file, all in one message with their lines."""

from pathlib import Path

import pytest

from aesop.commands.figure import example
from aesop.evaluation.figures.spec import KINDS, CropsSpec, PlaneSpec, read_spec
from aesop.evaluation.image_views import Window
from aesop.options.error_messages import ConfigError

CROPS = "kind: crops\nhr: HR\nmethods: {a: A}\nimages: {img: auto}\n"


def read(tmp_path: Path, text: str):
    path = tmp_path / "figure.yml"
    path.write_text(text, encoding="utf-8")
    return read_spec(path)


def test_defaults(tmp_path):
    plane = read(tmp_path, "kind: plane\nresults: r.json\n")
    assert isinstance(plane, PlaneSpec)
    assert (plane.results, plane.x, plane.y, plane.width) == (["r.json"], "psnr", "lpips", 8.8)
    crops = read(tmp_path, CROPS + "labels: {a: Ours}\n")
    assert isinstance(crops, CropsSpec)
    assert crops.images == {"img": None}
    assert (crops.label("a"), crops.label("b"), crops.width) == ("Ours", "b", 18.0)


def test_regions(tmp_path):
    spec = read(tmp_path, CROPS.replace("auto", "[10, 20, 64, 48]"))
    assert spec.images == {"img": Window(top=20, left=10, height=48, width=64)}


@pytest.mark.parametrize("region", ["[1, 2, 3]", "[1, 2, 3, 4.5]", "somewhere", "[-1, 0, 8, 8]", "[0, 0, 0, 8]", "null"])
def test_regions_that_are_none(tmp_path, region):
    with pytest.raises(ConfigError, match=r"line 4: images\.img: (give auto, or \[x, y, width, height\]|x and y)"):
        read(tmp_path, CROPS.replace("auto", region))


def test_all_faults_with_their_lines(tmp_path):
    text = "kind: plane\nresults: r.json\nwidht: 9\nheight: 900\nsets: []\ndpi: many\n"
    with pytest.raises(ConfigError) as error:
        read(tmp_path, text)
    message = str(error.value)
    assert "4 faults" in message
    assert "line 3: widht: unknown option; did you mean width?" in message
    assert "line 4: height: input should be less than or equal to 60" in message
    assert "line 5: sets: name at least one" in message
    assert "line 6: dpi: " in message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("results: r.json\n", r"kind is missing; give one of plane, crops"),
        ("kind: plan\nresults: r.json\n", r"kind is 'plan'; give one of plane, crops"),
        ("kind: [plane]\n", r"kind is \['plane'\]"),
        ("kind: plane\n", r"results: missing"),
        ("kind: plane\nresults: []\n", r"line 2: results: name at least one"),
        (CROPS + "colour: red\n", r"line 5: colour: .*found 'red'"),
        (CROPS + "size: [64]\n", r"line 5: size: give \[width, height\]"),
        ("kind: !!python/object/apply:os.getcwd []\n", r"cannot be read"),
        ("kind: plane\nkind: crops\n", r"gives options twice"),
        ("- plane\n", r"holds no options"),
    ],
)
def test_faults(tmp_path, text, message):
    with pytest.raises(ConfigError, match=message):
        read(tmp_path, text)


@pytest.mark.parametrize("kind", KINDS)
def test_examples_show_and_explain_every_key(tmp_path, kind):
    text = example(kind)
    spec = read(tmp_path, text)
    assert spec.model_fields_set == set(KINDS[kind].model_fields)
    keys = [line for line in text.splitlines() if line and line[0] not in "# "]
    assert all("#" in line for line in keys if not line.startswith(("kind", "y:", "labels")))


def test_there_is_no_other_example():
    with pytest.raises(ValueError, match="the kinds are plane, crops"):
        example("../demo")
