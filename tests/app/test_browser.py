"""The page in Chromium: dropping, upscaling, comparing, cancelling, downloading; odd files; two visitors at once."""

import base64
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from PIL import Image
from test_session import BOMB, picture

pytest.importorskip("gradio", reason="the page needs gradio")
playwright = pytest.importorskip("playwright.sync_api", reason="a browser is driven with playwright")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed: apt-get install chromium"),
]
LONG = 120_000  # milliseconds
_DROP = """([element, files]) => {
    const data = new DataTransfer();
    for (const [name, content] of files) {
        const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
        data.items.add(new File([bytes], name));
    }
    for (const kind of ["dragenter", "dragover", "drop"])
        element.dispatchEvent(new DragEvent(kind, {dataTransfer: data, bubbles: true, cancelable: true}));
}"""


class Server:
    """`aesop app` in a process of its own. Its files are in `folder`."""

    def __init__(self, temporary: Path):
        command = [sys.executable, "-m", "aesop", "app", "--port", "0"]
        environment = os.environ | {"TMPDIR": str(temporary), "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout
        line = self.process.stdout.readline()
        self.address = line.split(",")[0].split()[-1]
        (self.folder,) = temporary.glob("aesop_app_*")

    def sessions(self) -> list[Path]:
        return [*(self.folder / "sessions").iterdir()]

    def end(self, number: int) -> int:
        self.process.send_signal(number)
        return self.process.wait(30)


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("server"))
    yield server
    assert server.end(signal.SIGINT) == 0
    assert not server.folder.exists()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium, server) -> Iterator[Callable[[], Any]]:
    """Opens the page for a new visitor. It asks no other server, and no script fails."""
    contexts, asked, faults = [], set(), []

    def visit() -> Any:
        contexts.append(chromium.new_context())
        contexts[-1].on("request", lambda request: asked.add(request.url))
        page = contexts[-1].new_page()
        page.on("pageerror", lambda fault: faults.append(fault))
        page.goto(server.address)
        page.wait_for_selector("#start")
        return page

    yield visit
    for context in contexts:
        context.close()
    hosts = {urlsplit(url).netloc for url in asked if not url.startswith(("data:", "blob:"))}
    assert hosts == {urlsplit(server.address).netloc}
    assert not faults


def drop(page: Any, *files: Path) -> None:
    contents = [[path.name, base64.b64encode(path.read_bytes()).decode()] for path in files]
    page.evaluate(_DROP, [page.query_selector("#drop button"), contents])
    for path in files:
        page.wait_for_selector(f"#added li:has-text('{path.stem}')")


def upscale(page: Any) -> None:
    page.click("#start")
    page.wait_for_selector("#start", state="hidden")
    page.wait_for_selector("#start", state="visible", timeout=LONG)


def lines(page: Any, place: str) -> list[str]:
    return [" ".join(text.split()) for text in page.locator(f"{place} li").all_inner_texts()]


def downloaded(page: Any, name: str) -> bytes:
    with page.expect_download() as download:
        page.click(f"#downloads a:has-text('{name}')")
    assert download.value.suggested_filename == name
    return Path(download.value.path()).read_bytes()


def until(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.1)


def test_what_is_dropped_comes_back_as_the_command_line_makes_it(tmp_path, visit, server):
    files = [picture(tmp_path / "cat.png", 60, 40), picture(tmp_path / "my dog.jpg", 40, 60)]
    page = visit()
    drop(page, *files)
    page.click("#size label:has-text('Longer side')")
    page.fill("#longest input", "150")
    upscale(page)
    assert lines(page, "#status") == ["2 of 2 pictures done."]
    command = [sys.executable, "-m", "aesop", "upscale", *files, "--longest", "150", "-o", tmp_path / "command"]
    subprocess.run(command, check=True, capture_output=True)
    for name in ("cat_150px.png", "my dog_150px.jpg"):
        assert downloaded(page, name) == (tmp_path / "command" / name).read_bytes()

    images = page.locator("#slider img")
    until(lambda: images.first.evaluate("image => image.naturalWidth") == 60)
    assert images.nth(1).evaluate("image => image.naturalWidth") == 150
    before = page.locator("#slider").screenshot()
    handle, place = page.locator("#slider .handle-wrap, #slider .handle, #slider .outer").first, page.locator("#slider")
    box, whole = handle.bounding_box(), place.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(whole["x"] + whole["width"] * 0.2, whole["y"] + whole["height"] / 2, steps=5)
    page.mouse.up()
    assert page.locator("#slider").screenshot() != before
    assert handle.bounding_box()["x"] < box["x"] - 0.2 * whole["width"]

    page.click("#shown input")
    page.click("li[role=option]:has-text('my dog')")
    until(lambda: images.first.evaluate("image => image.naturalWidth") == 40)

    assert [path.name for path in server.folder.rglob("*.png") if "sessions" not in path.parts] == ["cat.png"]
    (folder,) = server.sessions()
    page.context.close()
    until(lambda: not folder.exists())


def test_work_is_cancelled_after_a_tile_and_can_begin_again(tmp_path, visit):
    page = visit()
    drop(page, picture(tmp_path / "large.png", 900, 700))
    page.click("#start")
    page.wait_for_selector("#status:has-text('%')")
    began = time.monotonic()
    page.click("#cancel")
    page.wait_for_selector("#status li:has-text('Cancelled.')", timeout=LONG)
    assert time.monotonic() - began < 20  # all tiles take longer
    assert not lines(page, "#downloads")
    page.click("#clear")
    drop(page, picture(tmp_path / "small.png"))
    upscale(page)
    assert lines(page, "#status") == ["1 of 1 picture done."]


def test_odd_files_are_one_line_each_and_the_page_goes_on(tmp_path, visit, server):
    text, bomb, damaged, whole = (tmp_path / name for name in ("text.png", "bomb.png", "damaged.png", "whole.png"))
    text.write_text("<script>document.title = 'taken over'</script>")
    bomb.write_bytes(BOMB)
    picture(damaged, 200, 200).write_bytes(damaged.read_bytes()[:60_000])
    picture(whole)
    moving, frames = tmp_path / "moving.gif", [Image.new("L", (30, 20), level) for level in (0, 100, 200)]
    frames[0].save(moving, save_all=True, append_images=frames[1:], duration=100)
    page = visit()
    drop(page, text, bomb, damaged, whole, moving)
    added = lines(page, "#added")
    assert [line.split()[0] for line in added[:3]] == ["damaged.png", "whole.png", "moving.gif"]
    assert added[3].startswith("text.png is ")
    assert added[4].startswith("image bomb.png has 50000 x 50000 pixels")
    upscale(page)
    status = lines(page, "#status")
    assert status[0] == "2 of 3 pictures done."
    assert status[1].startswith("image damaged.png")
    assert len(status) == 2
    assert Image.open(next(server.folder.rglob("moving_x4.gif"))).n_frames == 3
    assert page.title() == "AESOP"


def test_a_size_without_a_number_is_one_line(tmp_path, visit):
    page = visit()
    drop(page, picture(tmp_path / "cat.png"))
    page.click("#size label:has-text('Megapixels')")
    page.fill("#megapixels input", "0")
    upscale(page)
    assert lines(page, "#status") == ["Megapixels: give a number above 0"]


def test_a_file_that_is_too_large_is_refused(tmp_path, visit, server):
    large = tmp_path / "oversized.png"
    with large.open("wb") as file:
        file.truncate(110_000_000)
    page = visit()
    page.set_input_files("#drop input[type=file]", large)
    page.wait_for_selector("text=maximum allowed size", timeout=LONG)
    assert not [*server.folder.rglob("oversized*")]


def test_two_visitors_wait_for_each_other_and_see_only_their_own(tmp_path, visit, server):
    first, second = visit(), visit()
    drop(first, picture(tmp_path / "first.png", 500, 300))
    drop(second, picture(tmp_path / "second.png", 40, 40))
    first.click("#start")
    first.wait_for_selector("#status:has-text('%')")
    second.click("#start")
    second.wait_for_selector("#status:has-text('queue: 1/1')")
    for page in (first, second):
        page.wait_for_selector("#downloads a", timeout=LONG)
    assert [line.split()[0] for line in lines(first, "#downloads")] == ["first_x4.png"]
    assert [line.split()[0] for line in lines(second, "#downloads")] == ["second_x4.png"]
    content = downloaded(second, "second_x4.png")
    (path,) = server.folder.rglob("second_x4.png")
    assert content == path.read_bytes()
    assert path.parent.parent != next(server.folder.rglob("first_x4.png")).parent.parent


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_the_end_of_the_program_removes_all_files_and_stops_the_work(tmp_path, chromium, number):
    server = Server(tmp_path)
    with chromium.new_context() as context:
        page = context.new_page()
        page.goto(server.address)
        page.wait_for_selector("#start")
        drop(page, picture(tmp_path / "in" / "large.png", 900, 700))
        page.click("#start")
        page.wait_for_selector("#status:has-text('%')")
        assert server.sessions()
        assert server.end(number) == 0
        assert not server.folder.exists()


def test_the_slider_shows_the_map_and_the_texture_is_chosen(tmp_path, visit):
    page = visit()
    photo = picture(tmp_path / "cat.png", 60, 40)
    drop(page, photo)
    page.locator("#texture input[type=number]").fill("0")
    page.locator("#texture input[type=number]").press("Tab")
    upscale(page)
    command = [sys.executable, "-m", "aesop", "upscale", photo, "--texture", "0", "--hallucination-map"]
    subprocess.run([*command, "-o", tmp_path / "command"], check=True, capture_output=True)
    assert downloaded(page, "cat_x4.png") == (tmp_path / "command" / "cat_x4.png").read_bytes()
    with page.expect_download() as download:
        page.locator("#downloads a[download='cat_x4_map.png']").click()
    assert Path(download.value.path()).read_bytes() == (tmp_path / "command" / "cat_x4_map.png").read_bytes()

    right = page.locator("#slider img").nth(1)
    until(lambda: right.evaluate("image => image.naturalWidth") == 240)
    before = right.get_attribute("src")
    page.click("#compared label:has-text('What was invented')")
    until(lambda: (right.get_attribute("src") or before) != before)
    until(lambda: right.evaluate("image => image.naturalWidth") == 240)
    assert page.locator("#legend").is_visible()


def test_without_a_faithful_model_there_is_no_texture_to_choose(visit):
    page = visit()
    assert page.locator("#texture").is_visible()
    page.click("#partner input")
    page.click("#partner [role=option]:has-text('none')")
    until(lambda: not page.locator("#texture").is_visible())
