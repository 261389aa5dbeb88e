import multiprocessing
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _no_process_is_left() -> Iterator[None]:
    """A loader process that outlives its training keeps Python from ending: it ignores the signal that would end it."""
    before = set(multiprocessing.active_children())
    yield
    left = set(multiprocessing.active_children()) - before
    for process in left:
        process.kill()
    assert not left, f"left running: {left}"


@pytest.fixture
def no_count_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dry runs without the memory of a step, which takes half a minute to count at full size."""
    monkeypatch.setattr("aesop.check.card_memory.memory_by_stage", lambda stages: [])


@pytest.fixture(autouse=True, scope="session")
def _no_cache_of_the_user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield
