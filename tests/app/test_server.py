"""What keeps the page to its own machine, and what goes wrong before there is one; without a browser."""

import asyncio
import socket
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import aesop.app
from aesop.app.server import Guard, make_app
from aesop.app.session import Sessions
from aesop.cli import app


def asked(headers: dict[str, str]) -> tuple[int, dict[bytes, bytes]]:
    """Status and headers of the answer to a request."""
    sent: list[Any] = []

    async def page(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def send(message: Any) -> None:
        sent.append(message)

    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    asyncio.run(Guard(page)({"type": "http", "headers": raw}, None, send))
    return sent[0]["status"], dict(sent[0]["headers"])


@pytest.mark.parametrize("host", ["127.0.0.1:7860", "localhost:7860"])
def test_the_page_answers_its_own_requests_and_lets_browsers_ask_no_other_server(host):
    status, headers = asked({"host": host, "origin": f"http://{host}"})
    assert status == 200
    assert headers[b"content-security-policy"].startswith(b"default-src 'self'")
    assert b"http" not in headers[b"content-security-policy"]


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "127.0.0.1:7860", "origin": "https://elsewhere.example"},
        {"host": "127.0.0.1:7860", "origin": "null"},
        {"host": "127.0.0.1:7860", "origin": "http://127.0.0.1:9000"},
        {"host": "127.0.0.1:7860", "sec-fetch-site": "cross-site"},  # such as a picture on another page
        {"host": "elsewhere.example"},  # a name that leads to this machine
    ],
)
def test_other_pages_in_the_same_browser_are_refused(headers):
    assert asked(headers)[0] == 403


def test_a_port_in_use_is_one_line():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = CliRunner().invoke(app, ["app", "--port", str(port)])
    assert result.exit_code == 1
    assert result.output == f"error: --port {port}: Address already in use; choose another, or 0 for any free one\n"


def test_a_missing_package_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    for name in ("GRADIO_TEMP_DIR", "GRADIO_ANALYTICS_ENABLED"):
        monkeypatch.setenv(name, "")  # puts the former values back after the test
    result = CliRunner().invoke(app, ["app", "--port", "0"])
    assert (result.exit_code, result.output) == (1, 'error: the page needs gradio: pip install "aesop-sr[app]"\n')


class Addresses(HTMLParser):
    """All addresses that a browser loads for a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag != "a":
            self.found += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data", "action")]


@pytest.mark.slow  # gradio takes seconds to import
def test_the_page_loads_nothing_from_elsewhere_and_gradio_writes_nothing_into_the_package(tmp_path, monkeypatch):
    pytest.importorskip("gradio", reason="the page needs gradio")
    from fastapi.testclient import TestClient

    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    monkeypatch.setenv("GRADIO_ANALYTICS_ENABLED", "False")
    client = TestClient(make_app(Sessions(tmp_path)), base_url="http://127.0.0.1:7860")
    page = Addresses()
    page.feed(client.get("/").text)
    assert page.found
    assert not [address for address in page.found if "//" in address.removeprefix("http://127.0.0.1:7860")]
    config = client.get("/config").json()
    assert not config["analytics_enabled"]
    assert not config.get("run_history")
    assert "fonts.googleapis" not in client.get("/theme.css").text
    assert not [*Path(aesop.app.__file__).parent.glob("*.pyi")]
