"""The `sh` and `python` blocks of the README, "Get started", tutorials, and two guides run, each page from top to bottom.

A `yaml` block that begins with the name of a file, `# mine.yml`, is that file.
"""

import json
import re
import shutil
import subprocess
from pathlib import Path

import cv2
import pytest
import torch

import aesop
from aesop.archs import build_network
from aesop.weights.save import save_weights
from aesop.weights.tensor_names import published_names

REPO = Path(__file__).resolve().parents[2]
DOCS = REPO / "docs"
PHOTOS = Path(aesop.__file__).parent / "assets" / "photos"
TRAIN, FILES = DOCS / "how-to" / "train.md", DOCS / "how-to" / "bring-files.md"
PAGES = [
    REPO / "README.md",
    *sorted((DOCS / "get-started").glob("*.md")),
    *sorted((DOCS / "tutorials").glob("*.md")),
    TRAIN,
    FILES,
]

NETWORK = "installs packages over the network"
# Lines that are left out, with the reason.
CANNOT_RUN = {
    "make demo    # installs into .venv and shows the whole method on photographs: about 5 minutes on 2 CPU cores": NETWORK,
    "make test    # runs the tests": NETWORK,
    "pip install .": NETWORK,
    "aesop demo": "tests/commands/test_json_keys.py runs it, with --quick",
    "aesop app --open": "serves a page until Ctrl-C, in a browser; tests/app drives it",
    "aesop train configs/aesop_rrdb.yml --resume": "needs the training set of the paper and the weights of VGG19",
    "aesop select experiments/mine/3_adversarial --metrics psnr,lpips": "needs the weights of LPIPS; tests/commands runs it",
    "aesop train train_RealWorld_AESOP.yml --dry-run": "needs a file of another project; tests/options runs all of them",
    "aesop train -opt train_ESRGAN_x4.yml": "as the line before",
    "torchrun --nproc-per-node 4 -m aesop train configs/aesop_rrdb.yml": "needs four GPUs, and the files of the line before",
}
# What is shortened, or cannot be as it stands, with what stands in its place.
INSTEAD = {
    "docs/how-to/train.md": {
        "datasets.val.dataroot_gt=my/others": "datasets.val.dataroot_gt=my/others train.total_iter=2 network_g.num_block=1 "
        "datasets.train.gt_size=32 datasets.train.batch_size_per_gpu=2 datasets.train.num_worker_per_gpu=0 device=cpu",
        "configs/aesop_rrdb.yml --dry-run": "configs/aesop_rrdb.yml --dry-run || [ $? = 1 ]",  # names missing files
    },
    "docs/get-started/first-photograph.md": {"--longest 2000": "--longest 100"},
    "docs/tutorials/photographs.md": {
        "aesop doctor mine.yml": "aesop doctor mine.yml --no-run",
        "num_block: 3": "num_block: 1",
        "batch_size_per_gpu: 8, num_worker_per_gpu: 1": "batch_size_per_gpu: 2, num_worker_per_gpu: 0",
        "readings_freq: 20": "readings_freq: 1",
        **{f"total_iter: {length}": "total_iter: 2" for length in (3000, 1000, 600)},
        "net_g_00000600": "net_g_00000002",
        "net_g_00003000": "net_g_00000002",
    },
    "docs/how-to/bring-files.md": {
        "aesop train configs/aesop_rrdb.yml path": "aesop train configs/aesop_rrdb.yml --dry-run network_g.num_block=1 path",
        "network_g=ESRGAN_PSNR_SRx4.pth": "network_g=ESRGAN_PSNR_SRx4.pth || [ $? = 1 ]",  # others are missing
    },
    "docs/tutorials/realworld.md": {
        "aesop doctor real.yml": "aesop doctor real.yml --no-run",
        "num_block: 3": "num_block: 1",
        "queue_size: 160": "queue_size: 4",
        "batch_size_per_gpu: 8, num_worker_per_gpu: 1": "batch_size_per_gpu: 2, num_worker_per_gpu: 0",
        "readings_freq: 20": "readings_freq: 1",
        **{f"total_iter: {length}": "total_iter: 2" for length in (3000, 1000, 600)},
        "freeze_decoder: 1000": "freeze_decoder: 2",
        "net_g_00000600": "net_g_00000002",
        "net_g_00003000": "net_g_00000002",
    },
    "docs/tutorials/loop.md": {
        "net_g_00001000": "net_g_00000002",
        "net_g_00003000": "net_g_00000002",
        "range(20)": "range(2)",
    },
    "docs/tutorials/chainner.md": {
        "net_g_00000600": "net_g_00000002",
        "models verify 4x_mine.safetensors": "models verify 4x_mine.safetensors || [ $? = 1 ]",  # two steps make no image
    },
}


def name_of(page: Path) -> str:
    return page.relative_to(REPO).as_posix()


def blocks(page: Path) -> list[tuple[str, str]]:
    """The blocks of a page as they are run: kind and text."""
    text = page.read_text(encoding="utf-8")
    for line in CANNOT_RUN:
        text = re.sub(rf"(?m)^{re.escape(line)}( *#.*)?$", "", text)
    for shown, instead in INSTEAD.get(name_of(page), {}).items():
        text = text.replace(shown, instead)
    return re.findall(r"(?ms)^```(sh|python|yaml)\n(.*?)^```$", text)


def run(page: Path, kinds: tuple[str, ...] = ("sh", "python", "yaml")) -> dict:
    """Run a page's blocks in the current folder. Returns the variables of its Python blocks."""
    variables: dict = {}
    for kind, text in blocks(page):
        if kind not in kinds:
            continue
        if kind == "yaml" and (name := re.match(r"# (\w+\.yml)\n", text)):
            Path(name[1]).write_text(text)
        elif kind == "python":
            exec(text, variables)
        elif kind == "sh":
            finished = subprocess.run(["bash", "-euo", "pipefail", "-c", text], capture_output=True, text=True)
            assert finished.returncode == 0, f"{text}\n{finished.stdout[-2000:]}\n{finished.stderr[-2000:]}"
    return variables


def crop(source: Path, target: Path, side: int) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(target), cv2.imread(str(source))[:side, :side])


@pytest.fixture
def folder(tmp_path, monkeypatch, aesop_command):
    """The current folder, with photographs."""
    work = tmp_path / "work"
    for name in ("coffee_cup.jpg", "dandelion.jpg"):
        crop(PHOTOS / "train" / name, work / "photos" / name, 96)
    for name in ("pagoda.png", "astronaut.png"):
        crop(PHOTOS / "heldout" / name, work / "others" / name, 96)
    crop(PHOTOS / "train" / "chelsea_cat.jpg", work / "cat.jpg", 24)
    monkeypatch.chdir(work)
    return work


@pytest.fixture
def files_of_readme(folder):
    """What the README's commands find in the folder of their user, but for a training."""
    generator = {"type": "RRDBNet", "num_feat": 16, "num_block": 1, "num_grow_ch": 32}
    autoencoder = {"type": "AutoEncoder_RRDBNet", "scale": 4, "dec_opt": generator}
    for name, options in (("mine", generator), ("autoencoder", autoencoder)):
        save_weights(folder / f"{name}.safetensors", build_network(options).state_dict(), {"network": json.dumps(options)})
    for image in (folder / "others").iterdir():
        for target in ("Set5/HR", "results/HAT/Set5"):
            crop(image, folder / target / image.name, 48)


@pytest.fixture(scope="session")
def training(tmp_path_factory) -> Path:
    """Where the folder `experiments` of the first tutorial is kept for the others."""
    return tmp_path_factory.mktemp("tutorial")


@pytest.fixture
def trained(folder, training):
    if not (training / "experiments").exists():
        run(DOCS / "tutorials" / "photographs.md")
        shutil.copytree("experiments", training / "experiments")
        shutil.copy("mine.yml", training)
    shutil.copytree(training / "experiments", "experiments", dirs_exist_ok=True)
    shutil.copy(training / "mine.yml", "mine.yml")


def test_what_is_left_out_or_shortened_is_on_a_page():
    texts = {name_of(page): page.read_text(encoding="utf-8") for page in PAGES}
    for line in CANNOT_RUN:
        assert any(re.search(rf"(?m)^{re.escape(line)}( *#.*)?$", text) for text in texts.values()), line
    for page, shown in ((page, shown) for page, changes in INSTEAD.items() for shown in changes):
        assert shown in texts[page], f"{page} does not contain {shown}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_blocks_are_well_formed(page):
    for kind, text in blocks(page):
        if kind == "python":
            compile(text, name_of(page), "exec")
        elif kind == "sh":
            subprocess.run(["bash", "-n"], input=text, text=True, check=True)


def test_python_of_the_readme(files_of_readme):
    variables = run(REPO / "README.md", ("python",))
    assert torch.isfinite(variables["loss"])


def test_python_of_the_first_photograph(folder):
    variables = run(DOCS / "get-started" / "first-photograph.md", ("python",))
    assert variables["larger"].size == (96, 96)


@pytest.mark.slow
def test_readme(trained, files_of_readme, folder):
    run(REPO / "README.md")
    assert {path.name for path in (folder / "upscaled").rglob("*.jpg")} == {
        "cat_x4.jpg",
        "coffee_cup_x4.jpg",
        "dandelion_x4.jpg",
    }
    assert (folder / "4x_mine.safetensors").exists()


@pytest.mark.slow
def test_train(folder):
    (folder / "configs").symlink_to(REPO / "configs")
    shutil.copytree(folder / "photos", folder / "my" / "photos")
    shutil.copytree(folder / "others", folder / "my" / "others")
    run(TRAIN)
    assert list((folder / "experiments/compact/3_adversarial/models").glob("*.safetensors"))


@pytest.mark.slow
def test_install(folder):
    run(DOCS / "get-started" / "install.md")


@pytest.mark.slow
def test_first_photograph(folder):
    run(DOCS / "get-started" / "first-photograph.md")
    assert cv2.imread("upscaled/cat_x4.jpg").shape == (96, 96, 3)
    assert cv2.imread("poster.png").shape == (100, 100, 3)


@pytest.mark.slow
def test_photographs(trained, folder):
    # The page itself ran in the fixture, or for another test before.
    assert (folder / "experiments/mine/3_adversarial/models/net_g_00000002.safetensors").exists()


@pytest.mark.slow
def test_files_of_other_projects(files_of_readme, folder):
    (folder / "configs").symlink_to(REPO / "configs")
    state = build_network({"type": "RRDBNet", "num_feat": 16, "num_block": 1, "num_grow_ch": 32}).state_dict()
    for name in ("RealESRGAN_x4plus.pth", "ESRGAN_PSNR_SRx4.pth"):
        torch.save({"params_ema": published_names(state)}, folder / name)
    run(FILES)
    for name in ("mine.pth", "4x.safetensors", "upscaled/cat_x4.jpg"):
        assert (folder / name).exists()


@pytest.mark.slow
def test_realworld(folder):
    run(DOCS / "tutorials" / "realworld.md")
    assert (folder / "degradations.html").exists()
    assert "Bicubic" in (folder / "real_measured" / "results.json").read_text()
    assert "<html" in (folder / "report.html").read_text()


@pytest.mark.slow
def test_reading(trained, folder):
    readings = run(DOCS / "tutorials" / "reading.md")["readings"]
    assert [line["iter"] for line in readings] == [1, 2]
    assert (folder / "experiments/mine/3_adversarial/diagnosis.html").exists()


@pytest.mark.slow
def test_loop(trained):
    variables = run(DOCS / "tutorials" / "loop.md")
    assert torch.isfinite(variables["loss"])
    assert variables["loss"].requires_grad


@pytest.mark.slow
def test_paper(folder):
    pytest.importorskip("matplotlib")
    run(DOCS / "tutorials" / "paper.md")
    results = json.loads((folder / "compared" / "results.json").read_text())
    assert "bicubic" in json.dumps(results)
    assert r"\toprule" in (folder / "table.tex").read_text()
    assert {"plane.pdf", "crops.pdf"} <= {path.name for path in folder.iterdir()}


@pytest.mark.slow
def test_chainner(trained, folder):
    variables = run(DOCS / "tutorials" / "chainner.md")
    assert variables["model"].architecture.name == "ESRGAN"
    assert tuple(variables["larger"].shape) == (1, 3, 256, 256)
    assert any((folder / "card").glob("*.safetensors"))
