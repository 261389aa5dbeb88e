"""`aesop card`: what the folder contains, where it comes from, and what is refused."""

import hashlib
import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from results_lib import method, results
from safetensors import safe_open
from safetensors.torch import load_file
from typer.testing import CliRunner

from aesop.archs import build_network
from aesop.cli import app
from aesop.images.read import ImageFile
from aesop.images.write import write_image
from aesop.inference.shipped_models import shipped_model
from aesop.inference.upscaler import Upscaler
from aesop.options.read import build_config
from aesop.publishing.card import write_card
from aesop.publishing.markdown_card import license_of_hub
from aesop.publishing.model import Model
from aesop.publishing.openmodeldb import Entry
from aesop.publishing.samples import SIDES, richest_part
from aesop.system.distributed import World
from aesop.system.files import sha256_of
from aesop.training.checkpoint import metadata
from aesop.weights.description import Description
from aesop.weights.errors import WeightsError
from aesop.weights.save import save_weights

pytestmark = pytest.mark.slow

NETWORK = {"type": "RRDBNet", "num_feat": 16, "num_block": 1, "num_grow_ch": 8, "scale": 4}
OURS = Description("Faces", "Jane Doe", "CC-BY-NC-4.0", ("photo", "dslr"), "For faces.", "2026-11-30")


@pytest.fixture
def photo(tmp_path) -> Path:
    """Noise in one corner of a flat picture."""
    image = np.full((200, 300, 3), 90, np.uint8)
    image[60:180, 100:260] = np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)
    write_image(tmp_path / "a photo.png", image)
    return tmp_path / "a photo.png"


def trained(folder: Path, *, start: str = "4x-Start.pth", processes: int = 2, **network: object) -> Path:
    """A model as a training with options that name folders of this machine leaves it."""
    raw = {
        "name": "run",
        "stage": "psnr",
        "network_g": NETWORK | network,
        "model": {"author": "Jane Doe", "tags": ["photo"], "description": "Tiny."},
        "datasets": {
            "train": {"dataroot_gt": [f"{folder}/DF2K", f"{folder}/faces.pack"], "gt_size": 64, "batch_size_per_gpu": 8},
            "val": {"dataroot_gt": str(folder / "Set14")},
        },
        "path": {"experiments_root": str(folder), "pretrain_network_g": f"{folder}/{start}"},
        "train": {"total_iter": 900, "pixel_opt": {"loss_weight": 0.5}, "perceptual_opt": {"vgg_path": f"{folder}/vgg.pth"}},
    }
    config, _ = build_config(raw, "test")
    torch.manual_seed(0)
    state = build_network(config.network_g.model_dump()).state_dict()
    file = folder / "run" / "models" / "net_g_00000700.safetensors"
    save_weights(file, state, metadata(config, 700, World(size=processes)))
    return file


def entry_in(folder: Path) -> Entry:
    (file,) = folder.glob("*.json")
    return Entry.model_validate_json(file.read_text())


def front_matter(card: str) -> dict:
    return yaml.safe_load(card.split("---\n")[1])


def test_what_the_file_says_becomes_the_card(tmp_path, photo, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = trained(tmp_path)
    before = model.read_bytes()
    folder = write_card(model, urls=["hf:jane/tiny", "https://example.org/tiny"], samples=[photo], device="cpu")
    assert folder == Path("4x-run_card")
    assert model.read_bytes() == before
    assert sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()) == [
        "4x-run.json",
        "4x-run.safetensors",
        "README.md",
        "images/1_a_photo_bicubic.webp",
        "images/1_a_photo_model.webp",
    ]
    weights = (folder / "4x-run.safetensors").read_bytes()
    images = [f"https://huggingface.co/jane/tiny/resolve/main/images/1_a_photo_{side}.webp" for side in ("bicubic", "model")]
    assert json.loads((folder / "4x-run.json").read_text()) == {
        "name": "run",
        "author": "jane-doe",
        "license": None,
        "tags": ["photo"],
        "description": "Tiny.",
        "date": entry_in(folder).date,
        "architecture": "esrgan",
        "size": ["16nf", "1nb"],
        "scale": 4,
        "inputChannels": 3,
        "outputChannels": 3,
        "resources": [
            {
                "platform": "pytorch",
                "type": "safetensors",
                "size": len(weights),
                "sha256": hashlib.sha256(weights).hexdigest(),
                "urls": ["https://huggingface.co/jane/tiny/resolve/main/4x-run.safetensors", "https://example.org/tiny"],
            }
        ],
        "trainingIterations": 700,
        "trainingBatchSize": 16,
        "trainingHRSize": 64,
        "trainingOTF": False,
        "dataset": "DF2K, faces",
        "pretrainedModelG": "4x-Start",
        "images": [{"type": "paired", "LR": images[0], "SR": images[1]}],
    }
    card = (folder / "README.md").read_text()
    assert front_matter(card) == {
        "tags": ["super-resolution", "photo"],
        "pipeline_tag": "image-to-image",
        "library_name": "aesop",
    }
    for text in ("# run", "Tiny.", "-m hf:jane/tiny", "| iterations | 700 |", "pixel 0.5, perceptual 1", "none given"):
        assert text in card
    for path in re.findall(r"\((images/[^)]*)\)", card):
        assert (folder / path).is_file()
    assert "pagoda" not in card


def test_the_published_file_tells_nothing_of_the_machine(tmp_path, photo):
    model = trained(tmp_path)
    folder = write_card(model, tmp_path / "card", OURS, urls=["hf:jane/tiny"], samples=[photo], device="cpu")
    assert str(tmp_path).encode() in model.read_bytes()
    for file in folder.rglob("*"):
        assert file.is_dir() or str(tmp_path).encode() not in file.read_bytes()
    (published,) = folder.glob("*.safetensors")
    with safe_open(published, "pt") as content:
        kept = content.metadata()
    assert {name: kept[f"modelspec.{name}"] for name in ("title", "author", "license", "tags", "description", "date")} == {
        "title": "Faces",
        "author": "Jane Doe",
        "license": "CC-BY-NC-4.0",
        "tags": "photo, dslr",
        "description": "For faces.",
        "date": "2026-11-30",
    }
    data = published.read_bytes()
    tensors = data[8 + int.from_bytes(data[:8], "little") :]
    assert kept["modelspec.hash_sha256"] == "0x" + hashlib.sha256(tensors).hexdigest()
    ours, theirs = load_file(model), load_file(published)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    # The published file has what a card needs, but for the address, and gives the same card again.
    again = write_card(published, tmp_path / "again", urls=["hf:jane/tiny"], samples=[photo], device="cpu")
    first, second = (entry_in(each).model_dump(exclude={"resources": {0: {"sha256"}}}) for each in (folder, again))
    assert first == second  # but for the order of the metadata, which safetensors leaves open
    assert entry_in(folder).tags == ["photo"]
    assert front_matter((folder / "README.md").read_text())["tags"] == ["super-resolution", "photo", "dslr"]


def test_other_weights_to_start_from_are_no_models_of_the_database(tmp_path, photo):
    model = trained(tmp_path, start="1.5_psnr/models/net_g_00000500.safetensors")
    folder = write_card(model, tmp_path / "card", OURS, urls=["hf:a/b"], samples=[photo], device="cpu")
    assert entry_in(folder).pretrainedModelG is None
    assert "| started from | 1.5_psnr net_g_00000500 |" in (folder / "README.md").read_text()


def test_options_of_a_run_without_metadata(tmp_path, photo):
    """As after a conversion by another program: config.yml lies in the run folder."""
    model = trained(tmp_path)
    with safe_open(model, "pt") as content:
        (tmp_path / "run" / "config.yml").write_text(content.metadata()["config"])
    bare = model.with_name("bare.safetensors")
    save_weights(bare, load_file(model), {})
    entry = entry_in(write_card(bare, tmp_path / "card", OURS, urls=["hf:a/b"], samples=[photo], device="cpu"))
    assert (entry.trainingHRSize, entry.dataset) == (64, "DF2K, faces")
    assert entry.trainingIterations is entry.trainingBatchSize is None  # not those of the options: nobody knows


def test_sample_pictures_show_the_same_detail(tmp_path, photo):
    model = trained(tmp_path)
    folder = write_card(model, tmp_path / "card", OURS, urls=["hf:a/b"], samples=[photo], device="cpu")
    part = cv2.imread(str(photo))[60:180, 100:260, ::-1]  # the noise
    assert part.shape[1::-1] == SIDES
    pictures = {side: ImageFile.at(folder / "images" / f"1_a_photo_{side}.webp").read() for side in ("bicubic", "model")}
    expected = {
        "bicubic": cv2.resize(part, None, fx=4, fy=4, interpolation=cv2.INTER_CUBIC),
        "model": Upscaler(model, device="cpu")(np.ascontiguousarray(part)),
    }
    for side, picture in pictures.items():
        assert picture.shape == (480, 640, 3)
        alike = [np.corrcoef(picture.ravel(), expected[other].ravel())[0, 1] for other in expected]
        assert alike[list(expected).index(side)] == max(alike) > 0.9


def test_small_photographs_are_shown_whole():
    image = np.random.default_rng(0).integers(0, 256, (30, 500, 3), np.uint8)
    assert richest_part(image).shape == (30, SIDES[0], 3)


@pytest.mark.slow
def test_figures_are_those_of_this_file(tmp_path, photo):
    model = trained(tmp_path)
    own, other = method("net", 1.0, {"Set5": 5}, sha256=sha256_of(model)), method("other", 0.0, {"Set5": 5}, sha256="0" * 64)
    files = [tmp_path / "results.json", tmp_path / "others.json"]
    files[0].write_text(results(other, own).to_json())
    files[1].write_text(results(other).to_json())
    wanted = {"urls": ["hf:a/b"], "samples": [photo], "device": "cpu"}
    folder = write_card(model, tmp_path / "card", OURS, results=[files[0]], **wanted)
    mean = np.mean([row["psnr"] for row in own.values["Set5"].values()])
    row = next(line for line in (folder / "README.md").read_text().splitlines() if line.startswith("| Faces"))
    assert f"{mean:.2f}" in row
    with pytest.raises(ValueError, match=r"others\.json: no method was measured with this weight file.*only other"):
        write_card(model, tmp_path / "b", OURS, results=[files[1]], **wanted)
    assert not (tmp_path / "b").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("grow", "loads"), [(32, True), (8, False)])
def test_spandrel_is_named_only_where_it_makes_the_same_image(tmp_path, photo, grow, loads):
    model = trained(tmp_path, num_feat=64, num_grow_ch=grow)
    folder = write_card(model, tmp_path / "card", OURS, urls=["hf:a/b"], samples=[photo], device="cpu")
    text = (folder / "README.md").read_text()
    assert ("from spandrel import ModelLoader" in text) == loads
    assert ("do not load this file" in text) != loads


@pytest.mark.parametrize(
    ("license", "front"),
    [
        ("Apache-2.0", {"license": "apache-2.0"}),
        ("GPL-3.0-only", {"license": "gpl-3.0"}),
        ("", {}),
        ("Our-Own-1.0", {"license": "other", "license_name": "Our-Own-1.0"}),
    ],
)
def test_licences_of_the_hub(license, front):
    assert license_of_hub(license) == front


def invoke(*words: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(word) for word in words])
    return result.exit_code, " ".join(result.output.split())


def test_what_is_not_known_is_asked_for(tmp_path):
    bare = tmp_path / "bare.safetensors"
    save_weights(bare, build_network(NETWORK).state_dict(), {})
    code, output = invoke("card", bare, "-o", tmp_path / "card", "--tag", "dslr")
    assert code == 1
    for option in ("--author", "--description", "--tag", "--url", "general-upscaler"):
        assert option in output
    assert not (tmp_path / "card").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--url", "example.org/x"], "--url example.org/x: give an address"),
        (["--url", "hf:jane"], "--url hf:jane: give an address"),
        (["--url", "hf:a/b", "--date", "30.11.2026"], "--date 30.11.2026: write it as YYYY-MM-DD"),
        (["--url", "hf:a/b", "--title", "x4"], "--title x4: the title needs"),
        (["--url", "https://cdn.discordapp.com/x"], "OpenModelDB does not take urls.0 'https://cdn.discordapp.com/x'"),
        (["--url", "hf:a/b", "--samples", "none.png"], "image none.png cannot be read"),
        (["--url", "hf:a/b", "--results", "none.json"], "none.json"),
    ],
)
def test_wrong_options(tmp_path, photo, words, message):
    if "--samples" not in words:
        words = [*words, "--samples", photo]
    code, output = invoke("card", trained(tmp_path), "-o", tmp_path / "card", "--device", "cpu", *words)
    assert code == 1
    assert message in output
    assert {path.name for path in tmp_path.iterdir()} == {"a photo.png", "run"}


@pytest.mark.slow
def test_only_cards_are_replaced(tmp_path, photo):
    model, target = trained(tmp_path), tmp_path / "card"
    words = ["card", model, "-o", target, "--url", "hf:a/b", "--samples", photo, "--device", "cpu", "--license", "CC0-1.0"]
    code, output = invoke(*words)
    assert code == 0, output
    assert "4x-run.safetensors (" in output
    assert "note" not in output
    assert "exists" in invoke(*words)[1]
    code, output = invoke(*words, "--overwrite", "--title", "Other")
    assert (code, entry_in(target).name) == (0, "Other"), output
    (target / "notes.txt").touch()
    code, output = invoke(*words, "--overwrite")
    assert (code, entry_in(target).name) == (1, "Other")
    assert "not only a card" in output


@pytest.mark.slow
def test_the_card_of_the_shipped_model(tmp_path):
    """With the photographs that come with aesop, and their credits."""
    about = Description(
        author="AESOP", license="Apache-2.0", tags=("photo", "general-upscaler"), description="Clean photos."
    )
    folder = write_card(None, tmp_path / "card", about, urls=["hf:aesop/compact"], device="cpu")
    entry = entry_in(folder)
    assert (entry.trainingIterations, entry.size, len(entry.images)) == (7800, ["32nf", "6nb"], 4)
    card = (folder / "README.md").read_text()
    for name, author, licence in (
        ("astronaut", "NASA", "public domain"),
        ("dragonfly", "Bolly", "CC-BY-SA-4.0"),
        ("pagoda", "danielbuechele", "CC-BY-2.0"),
        ("two_dogs", "Aitzol Berasategi", "CC-BY-4.0"),
    ):
        assert re.search(rf"\* {name}: .*{author}.*{re.escape(licence)}", card)
    published = load_file(folder / "4x-aesop-compact.safetensors")
    shipped = load_file(shipped_model())
    assert all(torch.equal(published[name], value) and value.dtype == torch.float16 for name, value in shipped.items())


def test_the_options_in_a_file_cannot_fill_the_memory(tmp_path):
    lines = ["a0: &a0 [x]", *(f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 10)}]" for k in range(1, 12))]
    torch.manual_seed(0)
    save_weights(
        tmp_path / "bomb.safetensors",
        build_network(NETWORK).state_dict(),
        {"network": json.dumps(NETWORK), "config": "\n".join([*lines, "datasets: {train: {gt_size: *a11}}"])},
    )
    with pytest.raises(WeightsError, match="options of its training cannot be read: it holds more than 5000 values"):
        Model.find(tmp_path / "bomb.safetensors", Description())
