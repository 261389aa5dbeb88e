"""Models of the Hugging Face hub without a hub: a stand-in for its API, and its cache."""

import json
import re
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from aesop.archs import build_network
from aesop.cli import app
from aesop.images.write import write_image
from aesop.inference import hub
from aesop.inference.models import find_model
from aesop.publishing.card import write_card
from aesop.publishing.hub import push_to_hub
from aesop.weights.description import Description, modelspec
from aesop.weights.errors import WeightsError
from aesop.weights.load import load_generator
from aesop.weights.save import save_weights

NETWORK = {"type": "RRDBNet", "num_feat": 16, "num_block": 1, "num_grow_ch": 8, "scale": 2}
ABOUT = Description("Faces", "Jane Doe", "CC0-1.0", ("photo",), "For faces.", "2026-11-30")


def model_in(folder: Path, about: Description = ABOUT) -> Path:
    torch.manual_seed(0)
    described = {**modelspec(about, NETWORK), "network": json.dumps(NETWORK)}
    save_weights(folder / "net.safetensors", build_network(NETWORK).state_dict(), described)
    return folder / "net.safetensors"


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("written")
    photo = folder / "photo.png"
    write_image(photo, np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8))
    return write_card(model_in(folder), folder / "card", urls=["hf:jane/faces"], samples=[photo], device="cpu")


@pytest.fixture
def card(written, tmp_path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "card"))


class Cache:
    """The cache of huggingface_hub, as it lies on the disk, of a machine that is offline."""

    def __init__(self, folder: Path):
        self.folder = folder

    def repository(self, name: str) -> Path:
        commit = "a" * 40
        folder = self.folder / f"models--{name.replace('/', '--')}"
        (folder / "refs").mkdir(parents=True, exist_ok=True)
        (folder / "refs" / "main").write_text(commit)
        return folder / "snapshots" / commit

    def add(self, name: str, *files: Path) -> None:
        snapshot = self.repository(name)
        snapshot.mkdir(parents=True, exist_ok=True)
        for file in files:
            shutil.copy(file, snapshot / file.name)


class Api:
    """What `push_to_hub` uses of HfApi: uploads go to the cache, from which they are loaded."""

    def __init__(self, cache: Cache, errors: SimpleNamespace, existing: dict[str, bool] | None = None):
        self.cache, self.errors = cache, errors
        self.private = existing or {}
        self.commits = []
        self.refusal: Exception | None = None

    def model_info(self, repository: str) -> SimpleNamespace:
        if repository not in self.private:
            answer = SimpleNamespace(headers={}, request=None)
            raise self.errors.RepositoryNotFoundError("404", response=answer)
        return SimpleNamespace(private=self.private[repository])

    def create_repo(self, repository: str, *, private: bool) -> None:
        if self.refusal:
            raise self.refusal
        self.private[repository] = private

    def upload_folder(self, *, repo_id: str, folder_path: Path, commit_message: str, ignore_patterns: str) -> None:
        assert repo_id in self.private
        files = [file.relative_to(folder_path).as_posix() for file in folder_path.rglob("*") if file.is_file()]
        chosen = pytest.importorskip("huggingface_hub.utils").filter_repo_objects(files, ignore_patterns=ignore_patterns)
        for file in chosen:
            target = self.cache.repository(repo_id) / file
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(folder_path / file, target)
        self.commits.append(commit_message)


@pytest.fixture
def library():
    return pytest.importorskip("huggingface_hub", reason="the extra hub")


@pytest.fixture
def cache(library, tmp_path, monkeypatch) -> Cache:
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return Cache(tmp_path / "hub")


@pytest.fixture
def api(cache, library) -> Api:
    return Api(cache, pytest.importorskip("huggingface_hub.errors"))


# --- loading -----------------------------------------------------------------------------------------------------------


def test_without_the_prefix_the_hub_is_not_asked(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(hub, "hub_library", lambda: asked.append(1) or pytest.fail("asked"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WeightsError, match=r"jane/faces does not exist.*hf:jane/faces downloads it"):
        find_model("jane/faces")
    with pytest.raises(WeightsError) as error:
        find_model("jane/faces.safetensors")
    assert "hf:" not in str(error.value)
    (tmp_path / "jane").mkdir()
    (tmp_path / "jane" / "faces").touch()
    assert find_model("jane/faces") == Path("jane/faces")
    assert not asked
    with pytest.raises(pytest.fail.Exception):
        find_model("hf:jane/faces")
    assert asked


def test_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ValueError, match=r'pip install "aesop-sr\[hub\]"'):
        find_model("hf:jane/faces")


@pytest.mark.parametrize("name", ["hf:", "hf:faces", "hf:/faces", "hf:jane/", "hf:../x", "hf:jane/ x"])
def test_names_that_are_none(name):
    with pytest.raises(WeightsError, match="write hf:owner/name"):
        find_model(name)


def test_the_only_weights_of_a_repository(cache, tmp_path):
    cache.add("jane/faces", model_in(tmp_path))
    (cache.repository("jane/faces") / "README.md").touch()
    assert load_generator(find_model("hf:jane/faces"))[1].scale == 2
    assert find_model("hf:jane/faces/net.safetensors") == find_model("hf:jane/faces")


def test_several_weights_are_listed(cache, tmp_path):
    other = tmp_path / "b.safetensors"
    shutil.copy(model_in(tmp_path), other)
    cache.add("jane/two", tmp_path / "net.safetensors", other)
    with pytest.raises(WeightsError, match=r"several weight files: add one of (b|net)\.safetensors, (b|net)\.safetensors"):
        find_model("hf:jane/two")
    assert find_model("hf:jane/two/b.safetensors").name == "b.safetensors"


def test_repositories_without_weights(cache, tmp_path):
    (tmp_path / "model.bin").touch()
    cache.add("jane/none", tmp_path / "model.bin")
    with pytest.raises(WeightsError, match=r"no \.safetensors file; it has model\.bin"):
        find_model("hf:jane/none")
    with pytest.raises(WeightsError, match=r"hf:jane/none/model\.bin: give a weight file"):
        find_model("hf:jane/none/model.bin")


def test_a_downloaded_pickle_is_read_safely(cache, tmp_path):
    torch.save({"params": {"x": torch.ones(1)}, "code": Path("x")}, tmp_path / "evil.pth")
    cache.add("jane/evil", tmp_path / "evil.pth")
    with pytest.raises(WeightsError, match="contains objects other than tensors"):
        load_generator(find_model("hf:jane/evil/evil.pth"))


@pytest.mark.parametrize("name", ["hf:jane/unknown", "hf:jane/unknown/net.safetensors"])
def test_what_is_not_in_the_cache_of_an_offline_machine(cache, name):
    with pytest.raises(OSError, match=f"{name} is not in the cache, and the Hugging Face hub is not reached"):
        find_model(name)


# --- pushing -----------------------------------------------------------------------------------------------------------


def test_what_is_pushed_can_be_loaded(api, card):
    for hidden in (card / ".DS_Store", card / "images" / ".DS_Store"):
        hidden.touch()
    said = str(push_to_hub(card, "jane/faces", api=api))
    assert not [*api.cache.repository("jane/faces").rglob(".DS_Store")]
    assert "https://huggingface.co/jane/faces (private" in said
    assert api.private == {"jane/faces": True}
    assert api.commits == ["Upload card"]
    here, there = (load_generator(file) for file in (card / "2x-Faces.safetensors", find_model("hf:jane/faces")))
    assert here[1] == there[1]
    assert all(torch.equal(a, b) for a, b in zip(here[0].parameters(), there[0].parameters(), strict=True))
    assert (api.cache.repository("jane/faces") / "README.md").read_bytes() == (card / "README.md").read_bytes()


@pytest.mark.parametrize(
    ("existing", "public", "private", "said"),
    [
        ({}, True, False, r"jane/faces \(public\)"),
        ({"jane/faces": True}, True, True, "is private and stays so"),
        ({"jane/faces": False}, True, False, r"\(public\)"),
        ({"jane/faces": True}, False, True, r"\(private"),
    ],
)
def test_visibility(api, card, existing, public, private, said):
    api.private = existing
    assert re.search(said, str(push_to_hub(card, "jane/faces", public=public, api=api)))
    assert api.private == {"jane/faces": private}


def test_the_report_of_an_upload(api, card, library, monkeypatch, tmp_path):
    monkeypatch.setattr(library, "HfApi", lambda: api)
    sizes = {file.relative_to(card).as_posix(): file.stat().st_size for file in card.rglob("*") if file.is_file()}
    (card / ".DS_Store").touch()  # is not uploaded
    result = CliRunner().invoke(app, ["push", str(card), "jane/faces", "--public", "--json", str(tmp_path / "a.json")])
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "a.json").read_text())
    assert report == {
        **report, "address": "https://huggingface.co/jane/faces", "uploaded": True, "public": True,
        "sizes": sizes,
    }  # fmt: skip
    assert len(api.commits) == 1


def test_nothing_becomes_public_without_being_asked_for(api, card):
    api.private = {"jane/faces": False}
    with pytest.raises(ValueError, match="jane/faces is public: add --public"):
        push_to_hub(card, "jane/faces", api=api)
    assert not api.commits


def test_who_is_not_logged_in_is_told_how(api, card):
    answer = SimpleNamespace(headers={}, request=None, status_code=401)
    for error in (api.errors.LocalTokenNotFoundError("no token"), api.errors.HfHubHTTPError("401 Client", response=answer)):
        api.refusal = error
        with pytest.raises(OSError, match=r"hf:jane/faces: .*hf auth login"):
            push_to_hub(card, "jane/faces", api=api)


def test_only_cards_are_uploaded(api, card):
    (card / "diary.txt").touch()
    with pytest.raises(ValueError, match="card is not a card and nothing else"):
        push_to_hub(card, "jane/faces", api=api)
    with pytest.raises(ValueError, match="faces: write the repository as owner/name"):
        push_to_hub(card, "faces", api=api)
    assert api.private == {}


def test_a_dry_run_asks_nobody(card, monkeypatch):
    monkeypatch.setattr(hub, "hub_library", lambda: pytest.fail("asked"))
    result = CliRunner().invoke(app, ["push", str(card), "jane/faces", "--dry-run"])
    assert result.exit_code == 0, result.output
    listed = {line.split(" (")[0] for line in result.output.splitlines()}
    assert {str(file.relative_to(card)) for file in card.rglob("*") if file.is_file()} <= listed
    assert "https://huggingface.co/jane/faces (private" in result.output


@pytest.mark.slow
def test_a_dry_run_of_a_model_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = model_in(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    result = CliRunner().invoke(app, ["push", str(model), "jane/faces", "--dry-run"])
    assert result.exit_code == 0, result.output
    assert "2x-Faces.safetensors (" in result.output
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.slow
def test_the_card_is_written_for_a_model(api, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    push_to_hub(model_in(tmp_path), "jane/faces", public=True, api=api)
    assert "hf:jane/faces" in (tmp_path / "2x-Faces_card" / "README.md").read_text()
    entry = json.loads((tmp_path / "2x-Faces_card" / "2x-Faces.json").read_text())
    (address,) = entry["resources"][0]["urls"]
    assert address == f"https://huggingface.co/jane/faces/resolve/main/{find_model('hf:jane/faces').name}"


def test_cards_are_as_the_hub_reads_them(library, card):
    data = library.ModelCard.load(card / "README.md").data
    assert (data.license, data.pipeline_tag, data.library_name) == ("cc0-1.0", "image-to-image", "aesop")
    assert data.tags == ["super-resolution", "photo"]
