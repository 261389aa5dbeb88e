"""The page is read back with the standard library's parser, OpenCV's decoder and, where there is one, a browser."""

import base64
import json
import math
import os
import re
import shutil
import subprocess
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest

from aesop.web import page as toolkit
from aesop.web.page import MAX_POINTS, Chart, Figure, Page, Plane, PlanePoint

VOID = {"meta", "img", "input", "link", "br"}


class Tree(HTMLParser):
    """Checks that tags balance and keeps what the tests ask for."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open:
            self.texts.append((self.open[-1], data))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]


def image(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def decoded(src: str) -> np.ndarray:
    data = np.frombuffer(base64.b64decode(src.split(",", 1)[1]), np.uint8)
    return cv2.cvtColor(cv2.imdecode(data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def full_page(name: str = "AESOP") -> Page:
    page = Page(f"Title {name}", f"subtitle {name}")
    page.section(f"Text {name}")
    page.text(f"first {name}\n\nsecond")
    page.facts({name: f"fact {name}"})
    page.section(f"Table {name}")
    page.table(["method", name], [[name, 1.5]], best={name: "max"}, caption=name)
    page.section(f"Images {name}")
    page.slider(name, {"LR": image(8, 12), name: image(8, 12, 1)}, caption=name, mark=(3, 2, 6, 4))
    page.crops(name, {"LR": image(2, 2), name: image(8, 8)}, {name: [(name, True), ("0.5", False)]})
    page.gallery([Figure(image(8, 8), name, {name: name}), Figure(image(8, 8)[..., 0], "gray")], caption=name)
    page.section(f"Charts {name}")
    page.charts([Chart(name, {name: [(i, i + 1) for i in range(900)]}, name, name, log_y=True)], caption=name)
    page.planes([Plane(name, [PlanePoint(name, 1.0, 2.0, (0.5, 1.5), None, True, name)], [(1.0, 2.0)], name, name)], name)
    page.section(f"Config {name}")
    page.folded({name: f"name: {name}\n"})
    return page


def charts_of(page: Page) -> list[dict]:
    """What page.js draws."""
    texts = re.findall(r'<script type="application/json">(.*?)</script>', page.html(), re.DOTALL)
    return [json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON")) for text in texts]


def test_page_is_one_balanced_file_without_references(tmp_path):
    path = full_page().write(tmp_path / "out" / "page.html")
    text = path.read_text(encoding="utf-8")
    tree = Tree(text)
    assert [p.name for p in path.parent.iterdir()] == ["page.html"]  # no temporary file stays
    assert not re.search(r"https?:|@import|url\(", text)
    assert tree.all("link") == []
    assert all(attrs["src"].startswith("data:image/") and attrs["alt"] for attrs in tree.all("img"))
    assert all("src" not in attrs for attrs in tree.all("script"))
    anchors = [a["href"] for a in tree.all("a")]
    assert anchors == [f"#{attrs['id']}" for attrs in tree.all("section")]
    assert len(anchors) == 5
    (policy,) = (attrs["content"] for attrs in tree.all("meta") if "http-equiv" in attrs)
    assert policy.split(";")[:2] == ["default-src 'none'", " img-src data:"]
    assert "need JavaScript" in text[text.index("<noscript>") : text.index("</noscript>")]


def test_hostile_names_stay_text():
    hostile = "<script>alert('x')</script>\"><img src=x onerror=alert(1)>&"
    tree, plain = Tree(full_page(hostile).html()), Tree(full_page().html())
    assert [tag for tag, _ in tree.tags] == [tag for tag, _ in plain.tags]
    assert not any(key.startswith("on") for _, attrs in tree.tags for key in attrs)
    assert sum(hostile in data for _, data in tree.texts) >= 15
    chart, plane = charts_of(full_page(hostile))
    assert chart["series"][0]["name"] == chart["x_label"] == chart["y_label"] == hostile
    assert plane["points"][0]["label"] == plane["x_label"] == hostile


def test_images_round_trip():
    images = [image(5, 7, seed) for seed in range(5)]
    page = Page("t")
    page.section("s")
    page.slider("s", {"a": images[0], "b": images[1]})
    page.crops("c", {"a": images[2]})
    page.gallery([Figure(images[3], "a"), Figure(images[4][:, ::-1], "view")])
    sources = [attrs["src"] for attrs in Tree(page.html()).all("img")]
    for src, expected in zip(sources, [*images[:4], images[4][:, ::-1]], strict=True):
        assert src.startswith("data:image/png;")
        np.testing.assert_array_equal(decoded(src), expected)


def test_heavy_page_uses_jpeg_for_its_largest_images_only(monkeypatch):
    big, small, crop = image(200, 200), image(8, 8), image(220, 220)
    page = Page("t")
    page.section("s")
    page.crops("n", {"crop": crop})
    page.gallery([Figure(small, "small"), Figure(cv2.GaussianBlur(big, (0, 0), 1), "big")])
    assert "JPEG" not in page.html()
    monkeypatch.setattr(toolkit, "MAX_PAGE_BYTES", 250_000)
    text = page.html()
    kinds = {attrs["alt"]: attrs["src"][:16] for attrs in Tree(text).all("img")}
    assert kinds == {"n, crop": "data:image/png;b", "small": "data:image/png;b", "big": "data:image/jpeg;"}
    assert "1 of 3 images are JPEG" in text


def test_best_cells():
    page = Page("t")
    page.section("s")
    rows = [
        ["a", 20.004, 0.5, math.nan, 1],
        ["b", 31.001, 0.25, 7.0, 2],
        ["c", 31.0012, 0.25001, np.float32(3), 3],
        ["HR", math.inf, "none", 9.0, 4],
    ]
    page.table(["method", "PSNR", "LPIPS", "x", "n"], rows, best={"PSNR": "max", "LPIPS": "min", "x": "min"})
    text = page.html()
    assert re.findall(r'<td class="best">(.*?)</td>', text) == ["31.00", "0.2500", "31.00", "0.2500", "3.0000"]
    assert re.findall(r'scope="col">(.*?)<', text) == ["method", "PSNR ↑", "LPIPS ↓", "x ↓", "n"]
    assert [data for tag, data in Tree(text).texts if tag == "td"][-4:] == ["∞", "none", "9.0000", "4"]
    assert "–" in text


def test_crops_are_enlarged_by_whole_numbers_and_fit_the_page():
    for count, side, zoom in ((3, 48, 4), (7, 48, 3), (12, 48, 1), (30, 96, 1)):
        page = Page("t")
        page.section("s")
        page.crops("n", {"LR": image(side // 4, side // 4)} | {str(k): image(side, side) for k in range(count - 1)})
        assert f"--columns: {count}; --size: {zoom * side}px" in page.html()


ODD_POINTS = [
    [],
    [(0, math.nan), (1, math.inf), (math.nan, 1)],
    [(5, 2.0)],
    [(0, 0.0), (1, -1.0)],
    [(i, 3.0) for i in range(50)],
    [(i, 1 + 1e-5 * i) for i in range(50)],
    [(i, 10.0 ** (i - 40)) for i in range(80)],
    [(0, 1e300), (1, 1.0), (2, None)],
    [(i, math.nan if i % 3 else i) for i in range(5000)],
]


@pytest.mark.parametrize("log_y", [False, True])
@pytest.mark.parametrize("points", ODD_POINTS)
def test_charts_get_what_can_be_drawn_of_any_values(points, log_y):
    page = Page("t")
    page.section("s")
    page.charts([Chart("c", {"odd": points, "fine": [(1, 2.0), (0, 1.0)]}, "x", "y", log_y), Chart("none", {}, "x", "y")])
    chart, none = charts_of(page)
    odd, fine = chart["series"]
    assert (fine["x"], fine["y"], none["series"]) == ([0, 1], [1, 2], [])
    drawable = [
        (x, y) for x, y in points if y is not None and math.isfinite(x) and math.isfinite(y) and (y > 0 or not log_y)
    ]
    assert len(odd["x"]) == len(odd["y"]) == min(len(drawable), MAX_POINTS)
    if len(drawable) <= MAX_POINTS:
        assert odd["y"] == pytest.approx([y for _, y in drawable], rel=1e-5)
    else:
        assert odd["y"] == odd["x"]  # as in the points
        assert odd["x"][-1] > 4990


def drawn(page: Page, folder) -> str:
    """The page as a browser has it after its scripts ran."""
    path = page.write(folder / "page.html")
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
    command += ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--dump-dom"]
    command += ["--virtual-time-budget=5000", f"--user-data-dir={folder / 'profile'}", path.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


@pytest.mark.skipif(shutil.which("chromium") is None, reason="no chromium")
def test_a_browser_draws_any_values(tmp_path):
    page = Page("t")
    page.section("s")
    lines = [{"odd": points, "fine": [(0, 1.0), (1, 10.0), (2, 100.0)]} for points in ODD_POINTS]
    lines += [{"odd": points} for points in ODD_POINTS] + [{}]
    page.charts([Chart("c", series, "x", "y", log_y) for log_y in (False, True) for series in lines])
    page.slider("n", {"a": image(4, 4), "b": image(4, 4)})
    text = drawn(page, tmp_path)
    plots = re.findall(r"<svg role.*?</svg>", text, re.DOTALL)
    # Every chart but those without any point: 1 + 2 of a linear axis, 1 + 3 of a logarithmic one.
    assert len(plots) == 2 * 19 - 3 - 4
    numbers = r"-?\d+(\.\d+)?"
    for plot in plots:
        paths = re.findall(r' d="([^"]*)"', plot)
        assert paths
        assert all(re.fullmatch(rf"M{numbers} {numbers}([HLV]{numbers}( {numbers})?)*", path) for path in paths)
        assert not re.search(r"NaN|Infinity|undefined", plot)
        assert 2 <= plot.count('class="grid"') <= 8
    straight = re.search(r'class="c1" d="M([^"]*)"', plots[16])  # 1, 10, 100 on the first logarithmic axis
    assert straight
    heights = [float(point.split()[1]) for point in straight[1].split("L")]
    assert heights[0] > heights[1] > heights[2]
    assert heights[0] - heights[1] == pytest.approx(heights[1] - heights[2], abs=0.2)
    assert "aria-valuetext" in text  # the slider runs


@pytest.mark.skipif(shutil.which("chromium") is None, reason="no chromium")
def test_a_browser_draws_planes(tmp_path):
    random = np.random.default_rng(0)
    far, near = random.uniform(0, 1, (6, 2)), np.full((6, 2), 0.5)
    page = Page("t")
    page.section("s")
    for cloud in (far, near, far[:1]):
        points = [
            PlanePoint(f"method {k}", float(x), float(y), (float(x) - 0.1, float(x) + 0.1), None, hollow=k == 1)
            for k, (x, y) in enumerate(cloud)
        ]
        page.planes([Plane("p", points, [(points[0].x, points[0].y)], "PSNR", "LPIPS")])
    plots = re.findall(r"<svg role.*?</svg>", drawn(page, tmp_path), re.DOTALL)
    assert [plot.count("<circle") for plot in plots] == [6, 6, 1]
    for plot, cloud in zip(plots, (far, near, far[:1]), strict=True):
        assert not re.search(r"NaN|Infinity|undefined", plot)
        assert len(re.findall(r'class="c\d" d="M[-\d. ]*H', plot)) == len(cloud)  # the intervals
        assert plot.count(" hollow") == (len(cloud) > 1)
        centres = np.array(re.findall(r'cx="([^"]*)" cy="([^"]*)"', plot), float)
        assert np.all(np.argsort(centres[:, 0], kind="stable") == np.argsort(cloud[:, 0], kind="stable"))
        assert np.all(np.argsort(-centres[:, 1], kind="stable") == np.argsort(cloud[:, 1], kind="stable"))
    labels = [re.findall(r">(method \d)</text>", plot) for plot in plots]
    assert sorted(labels[0]) == [f"method {k}" for k in range(6)]
    assert 1 <= len(labels[1]) < 6  # the others find no room
    assert labels[2] == ["method 0"]


def test_values_and_the_mark_stand_where_they_belong():
    text = full_page("A").html()
    assert '<span class="values"><b>A</b> / 0.5</span>' in text
    assert 'class="mark" style="left: 25.0%; top: 25.0%; width: 50.0%; height: 50.0%"' in text


def test_slider_starts_with_the_pair_asked_for():
    page = Page("t")
    page.section("s")
    page.slider("n", {m: image(4, 4) for m in ("LR", "Bicubic", "SR", "HR")}, start=("Bicubic", "SR"))
    tree = Tree(page.html())
    assert [attrs.get("class") for attrs in tree.all("img")] == ["pixels", "left", "right", None]
    assert [attrs["value"] for attrs in tree.all("option") if "selected" in attrs] == ["1", "2"]


def test_write_replaces_whole_files(tmp_path, monkeypatch):
    path = Page("old").write(tmp_path / "p.html")

    def fail(*_):
        raise OSError("disk")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk"):
        Page("new").write(path)
    assert "<h1>old</h1>" in path.read_text()
    assert list(tmp_path.iterdir()) == [path]
