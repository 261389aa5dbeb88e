"""Where caches are."""

from pathlib import Path

import pytest

from aesop.system import user_cache
from aesop.system.user_cache import cache_folder


@pytest.mark.parametrize(
    ("platform", "environment", "folder"),
    [
        ("linux", {}, "home/.cache/aesop/x"),
        ("linux", {"XDG_CACHE_HOME": "other"}, "other/aesop/x"),
        ("darwin", {}, "home/Library/Caches/aesop/x"),
        ("darwin", {"XDG_CACHE_HOME": "other"}, "other/aesop/x"),
        ("win32", {"LOCALAPPDATA": "local"}, "local/aesop/x"),
        ("win32", {}, "home/AppData/Local/aesop/x"),
    ],
)
def test_folders_by_custom(monkeypatch, platform, environment, folder):
    monkeypatch.setattr(user_cache.sys, "platform", platform)
    monkeypatch.setattr(Path, "home", lambda: Path("home"))
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert cache_folder("x") == Path(folder)
