"""`aesop app`: a page on this machine that upscales pictures, for people who use no command line."""

import os
import signal
import socket
import webbrowser
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console

from aesop.app.page import build_page
from aesop.app.session import MAX_MB, Sessions
from aesop.system.device import keep_freed_memory

HOST = "127.0.0.1"
_HEADERS = (
    # The page can only ask this server, whatever is on it.
    (b"content-security-policy", b"default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; frame-ancestors 'none'"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)


def serve(port: int, open_browser: bool, console: Console) -> None:
    """Serve the page until Ctrl-C. ValueError: gradio is missing, or the port is in use; port 0 takes any free one."""
    with TemporaryDirectory(prefix="aesop_app_", ignore_cleanup_errors=True) as folder, _listening(port) as sock:
        os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "GRADIO_TEMP_DIR": str(Path(folder, "uploads"))}
        sessions = Sessions(Path(folder, "sessions"))
        sessions.folder.mkdir()
        app = make_app(sessions)
        uvicorn = import_module("uvicorn")
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1))
        address = f"http://{HOST}:{sock.getsockname()[1]}"
        console.print(f"the page is at {address}, for this machine only; Ctrl-C ends it and removes its files")
        keep_freed_memory()
        if open_browser:
            webbrowser.open(address)
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # the server raises it again when it has ended
        if hasattr(signal, "SIGHUP"):  # the terminal is closed
            signal.signal(signal.SIGHUP, server.handle_exit)
        with suppress(KeyboardInterrupt):
            server.run(sockets=[sock])
        sessions.close_all()


def make_app(sessions: Sessions) -> Any:
    """The page as an ASGI application."""
    gr = _gradio()
    app = import_module("fastapi").FastAPI(openapi_url=None)
    theme = gr.themes.Default(primary_hue="teal", neutral_hue="slate", font="system-ui", font_mono="monospace")
    gr.mount_gradio_app(
        app,
        build_page(gr, sessions),
        "/",
        server_name=HOST,
        footer_links=[],
        run_history=False,
        allowed_paths=[str(sessions.folder)],
        max_file_size=f"{MAX_MB}mb",
        ssr_mode=False,
        mcp_server=False,
        theme=theme,
        css_paths=Path(__file__).with_name("page.css"),
    )
    return Guard(app)


class Guard:
    """Answers pages of this server only, so that other pages in the same browser cannot use it."""

    def __init__(self, app: Any):
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        headers = {name: value.decode("latin-1") for name, value in scope.get("headers", ())}
        host = headers.get(b"host", "")
        is_own = (
            host.partition(":")[0] in (HOST, "localhost")
            and headers.get(b"origin", f"http://{host}") == f"http://{host}"
            and headers.get(b"sec-fetch-site", "none") in ("none", "same-origin")
        )

        async def send_with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *_HEADERS]
            await send(message)

        if scope["type"] == "lifespan" or is_own:
            await self.app(scope, receive, send_with_headers)
            return
        await send_with_headers({"type": "http.response.start", "status": 403, "headers": []})
        await send({"type": "http.response.body", "body": b"type the address of this page: other pages may not use it\n"})


def _gradio() -> Any:
    try:
        return import_module("gradio")
    except ImportError as error:
        raise ValueError('the page needs gradio: pip install "aesop-sr[app]"') from error


def _listening(port: int) -> socket.socket:
    try:
        return socket.create_server((HOST, port))
    except OSError as error:
        raise ValueError(f"--port {port}: {os.strerror(error.errno or 0)}; choose another, or 0 for any free one") from error
