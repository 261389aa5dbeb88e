"""The command line as a user meets it: every verb runs, and every mistake ends in one clear message and exit code 1."""

import csv
import json
import logging
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from typer.testing import CliRunner, Result

import aesop
from aesop.cli import app
from aesop.options.read import load_config
from aesop.weights.load import load_autoencoder, load_network
from aesop.weights.read import read_state_dict

REPO = Path(__file__).resolve().parents[1]
TINY = {"type": "RRDBNet", "num_feat": 16, "num_block": 1, "num_grow_ch": 4}
ITERATIONS = 4


def smooth(seed: int, height: int = 64, width: int = 64, channels: int = 3) -> np.ndarray:
    """A smooth random image (height, width, channels), 8 bit."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, channels), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).reshape(height, width, channels)


def write_rgb(path: Path, image: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)
    return path


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """Training images of every kind a folder of photographs may hold."""
    folder = tmp_path_factory.mktemp("photos")
    write_rgb(folder / "rgb.png", smooth(1))
    write_rgb(folder / "below" / "other.jpg", smooth(2, 70, 66))
    write_rgb(folder / "gray.png", smooth(3, channels=1)[..., 0])
    write_rgb(folder / "rgba.png", smooth(4, channels=4))
    sixteen = smooth(5).astype(np.uint16) * 257
    assert cv2.imwrite(str(folder / "sixteen.png"), sixteen)
    assert cv2.imwrite(str(folder / "gray16.png"), sixteen[..., 0])
    return folder


@pytest.fixture(scope="module")
def pairs(tmp_path_factory) -> Path:
    """Two test images of 48x40, in HR/ and LR/."""
    folder = tmp_path_factory.mktemp("pairs")
    for seed in (11, 12):
        hr = smooth(seed, 40, 48)
        write_rgb(folder / "HR" / f"img{seed}.png", hr)
        write_rgb(folder / "LR" / f"img{seed}.png", hr.reshape(10, 4, 12, 4, 3).mean((1, 3)).astype(np.uint8))
    return folder


def options(folder: Path, photos: Path, **changes) -> dict:
    """A tiny complete psnr stage writing below `folder`; a change `a__b=1` sets a.b."""
    raw: dict = {
        "name": "run",
        "stage": "psnr",
        "device": "cpu",
        "network_g": dict(TINY),
        "datasets": {"train": {"dataroot_gt": str(photos), "gt_size": 32, "batch_size_per_gpu": 2, "num_worker_per_gpu": 0}},
        "path": {"experiments_root": str(folder / "experiments"), "results_root": str(folder / "results")},
        "train": {"total_iter": ITERATIONS, "pixel_opt": {"type": "L1Loss"}},
        "val": {"val_freq": 0},
        "logger": {"print_freq": 1, "save_checkpoint_freq": 100, "use_tb_logger": False},
    }
    for key, value in changes.items():
        *parents, last = key.split("__")
        node = raw
        for name in parents:
            node = node.setdefault(name, {})
        node[last] = value
    return raw


def write_options(folder: Path, raw: dict, name: str = "options.yml") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(yaml.safe_dump(raw, sort_keys=False))
    return path


VERBS = [command.name or command.callback.__name__ for command in app.registered_commands if command.callback]


@pytest.fixture(autouse=True)
def _fresh_log():
    """The log's handler keeps the stdout of the first command of a process, which is another one in each test."""
    logging.getLogger("aesop").handlers.clear()
    yield
    logging.getLogger("aesop").handlers.clear()


def run(*arguments: object) -> Result:
    logging.getLogger("aesop").handlers.clear()
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def plain(text: str) -> str:
    """Without colours, which some CI machines force."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def succeeded(*arguments: object) -> str:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return plain(result.output)


def refused(*arguments: object) -> str:
    """The one message of a command that a user's mistake ends: no traceback, one paragraph, on stderr."""
    result = run(*arguments)
    assert result.exit_code == 1, (result.exit_code, result.output, result.exception)
    assert isinstance(result.exception, SystemExit)  # typer's exit, not an error that got through
    assert "Traceback" not in result.output
    text = plain(result.stderr).strip()
    assert text.startswith("error: "), text
    assert text.count("error:") == 1
    assert "\n\n" not in text
    return text.removeprefix("error: ")


def test_the_module_runs_as_a_program():
    done = subprocess.run(
        [sys.executable, "-m", "aesop", "--version"],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(REPO / "src")},
        check=False,
    )
    assert (done.returncode, plain(done.stdout).strip(), done.stderr) == (0, aesop.__version__, "")


IMPORTED_LATER = ("torch", "numpy", "pydantic", "yaml", "cv2", "PIL", "aesop.archs", "aesop.losses", "aesop.options")


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["train", "--help"], ["doctor", "--help"]])
def test_version_and_help_start_without_pytorch(arguments):
    script = f"""
import sys
from aesop.cli import app
app({arguments!r}, standalone_mode=False)
print("imported:", *[name for name in {IMPORTED_LATER!r} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines()[-1].strip() == "imported:"


def test_the_shell_completes_verbs_without_pytorch():
    script = f"""
import atexit, sys
from aesop.cli import app
atexit.register(lambda: print("imported:", *[name for name in {IMPORTED_LATER!r} if name in sys.modules]))
app(prog_name="aesop")
"""
    asked = {"_AESOP_COMPLETE": "complete_bash", "COMP_WORDS": "aesop tr", "COMP_CWORD": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True, env=os.environ | asked
    )
    assert [line.strip() for line in done.stdout.splitlines()] == ["train", "imported:"]


def test_the_package_exports_its_classes():
    assert set(aesop.__all__) <= set(dir(aesop))
    for name in aesop.__all__:
        assert getattr(aesop, name) is not None
    assert aesop.RRDBNet.__module__ == "aesop.archs.rrdbnet"
    with pytest.raises(AttributeError, match="module 'aesop' has no attribute 'RRDBnet'"):
        getattr(aesop, "RRDBnet")  # noqa: B009 - a type checker would find it


def test_help_names_every_verb():
    text = succeeded("--help")
    verbs = {"train", "pipeline", "test", "upscale", "demo", "convert", "schema"}
    assert verbs <= set(VERBS)
    for verb in verbs:
        assert re.search(rf"\b{verb}\b", text)


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_a_verb(verb):
    text = succeeded(verb, "--help")
    assert f"{verb} [OPTIONS]" in text
    assert "--help" in text


def test_no_verb_prints_the_help():
    assert "Usage" in run().output


def test_the_schema_is_json_on_stdout_or_in_a_file(tmp_path):
    printed = json.loads(succeeded("schema"))
    assert printed["properties"]["name"]["description"]
    assert printed["else"]["required"] == ["name", "network_g"]  # unless it is a pipeline
    succeeded("schema", tmp_path / "schema.json")
    assert json.loads((tmp_path / "schema.json").read_text()) == printed


def test_a_missing_config(tmp_path, photos):
    write_options(tmp_path, options(tmp_path, photos), "psnr.yml")
    for verb in ("train", "test", "pipeline"):
        assert refused(verb, tmp_path / "pnsr.yml").endswith("pnsr.yml does not exist; did you mean psnr.yml?")


def test_a_misspelt_key(tmp_path, photos):
    path = write_options(tmp_path, options(tmp_path, photos, train__totl_iter=5))
    text = refused("train", path)
    assert f"{path}: 1 fault" in text
    assert re.search(r"line \d+: train.totl_iter: unknown option; did you mean total_iter\?", text)


def test_a_wrong_verb_for_a_file(tmp_path, photos, pairs):
    raw = options(tmp_path, photos)
    assert "aesop train" in refused("pipeline", write_options(tmp_path, raw))
    assert "aesop pipeline" in refused("train", write_options(tmp_path, {**raw, "stages": {"psnr": {}}}))
    assert "aesop test" in refused("train", write_options(tmp_path, {**raw, "train": None}))
    assert "datasets: give at least one test set" in refused("test", write_options(tmp_path, raw))


def test_a_wrong_dataset_path(tmp_path, photos):
    path = write_options(tmp_path, options(tmp_path, photos))
    text = refused("train", path, "datasets.train.dataroot_gt=/no/such/folder")
    assert text.endswith("datasets.train.dataroot_gt: /no/such/folder does not exist")
    assert text.startswith(f"{path} names files or folders that do not exist; set them in the file or append key=value")
    assert "datasets.train.dataroot_lq: nix does not exist" in refused("train", path, "datasets.train.dataroot_lq=nix")
    assert "datasets.val.dataroot_gt: nix does not exist" in refused(
        "train", path, "datasets.val.dataroot_gt=nix", "val.val_freq=1"
    )
    assert "datasets.train.dataroot_gt: give the folder" in refused("train", path, "datasets.train.dataroot_gt=[]")


def test_a_folder_without_images(tmp_path, photos):
    path = write_options(tmp_path, options(tmp_path, photos, datasets__train__dataroot_gt=str(tmp_path)))
    assert f"datasets.train.dataroot_gt: no image in {tmp_path}" in refused("train", path)


def test_an_image_smaller_than_the_crop(tmp_path, photos):
    write_rgb(tmp_path / "hr" / "small.png", smooth(1, 64, 31))
    write_rgb(tmp_path / "hr" / "large.png", smooth(2))
    text = refused("train", write_options(tmp_path, options(tmp_path, tmp_path / "hr")))
    assert "1 of 2 training images cannot be used: " in text
    assert "small.png (31x64) is smaller than the crop (gt_size 32)" in text
    assert f"{tmp_path}/hr/small.png (31x64)" in text
    assert "large.png" not in text
    assert "datasets.train.gt_size" in text


@pytest.mark.parametrize("workers", [0, 1])
def test_a_corrupt_training_image(tmp_path, workers):
    write_rgb(tmp_path / "hr" / "good.png", smooth(1))
    bad = write_rgb(tmp_path / "hr" / "bad [red].png", smooth(2))  # no markup
    bad.write_bytes(bad.read_bytes()[:-600])
    raw = options(tmp_path, tmp_path / "hr", datasets__train__num_worker_per_gpu=workers)
    text = refused("train", write_options(tmp_path, raw))
    assert text.startswith(f"image {bad} is truncated, damaged")
    assert "replace it" in text
    assert len(text.splitlines()) == 1


def test_a_training_image_that_is_none(tmp_path):
    write_rgb(tmp_path / "hr" / "good.png", smooth(1))
    (tmp_path / "hr" / "page.png").write_text("<html>not found</html>")
    text = refused("train", write_options(tmp_path, options(tmp_path, tmp_path / "hr")))
    assert f"{tmp_path}/hr/page.png is not a supported image" in text


def test_lr_and_hr_sizes_that_do_not_fit(tmp_path):
    write_rgb(tmp_path / "hr" / "a.png", smooth(1))
    write_rgb(tmp_path / "lr" / "a.png", smooth(1, 16, 17))
    raw = options(tmp_path, tmp_path / "hr", datasets__train__dataroot_lq=str(tmp_path / "lr"))
    text = refused("train", write_options(tmp_path, raw))
    assert f"{tmp_path}/hr/a.png (64x64" in text
    assert f"is not 4 times {tmp_path}/lr/a.png (17x16): wrong partner or wrong scale" in text


def test_missing_lr_partners(tmp_path, photos):
    write_rgb(tmp_path / "lr" / "rgb.png", smooth(1, 16, 16))
    raw = options(tmp_path, photos, datasets__train__dataroot_lq=str(tmp_path / "lr"))
    text = refused("train", write_options(tmp_path, raw))
    assert "datasets.train: 5 of 6 HR images have no LR image" in text
    assert "filename_tmpl" in text


def test_missing_weights(tmp_path, photos):
    missing = str(tmp_path / "nowhere.pth")
    absent = f"{missing} does not exist"
    path = write_options(tmp_path, options(tmp_path, photos))
    assert refused("train", path, f"path.pretrain_network_g={missing}").endswith(f"path.pretrain_network_g: {absent}")
    raw = options(tmp_path, photos, stage="autoencoder", path__pretrain_network_decoder=missing)
    raw["network_g"] = {"type": "AutoEncoder_RRDBNet", "dec_opt": TINY}
    assert refused("train", write_options(tmp_path, raw)).endswith(f"path.pretrain_network_decoder: {absent}")
    raw = adversarial(tmp_path, photos, missing, missing) | {"path": {"from_scratch": True}}
    assert refused("train", write_options(tmp_path, raw)).endswith(f"train.aesop_opt.autoencoder_load: {absent}")
    assert missing in refused("upscale", photos, "-o", tmp_path / "out", "-m", missing)
    assert missing in refused("convert", missing, tmp_path / "out.safetensors")


def test_weights_of_another_network(tmp_path, photos, trained):
    path = write_options(tmp_path, options(tmp_path, photos, network_g__num_feat=8))
    text = refused("train", path, f"path.pretrain_network_g={trained['psnr']}")
    assert f"the weights in {trained['psnr']} do not fit RRDBNet" in text
    assert '"num_feat": 16' in text


def test_a_psnr_net_in_place_of_the_autoencoder(tmp_path, photos, trained):
    raw = adversarial(tmp_path, photos, trained["psnr"], trained["psnr"])
    text = refused("train", write_options(tmp_path, raw))
    assert f"{trained['psnr']} contains RRDBNet, not an auto-encoder: train one first (stage: autoencoder)" in text


def test_missing_vgg_weights(tmp_path, photos, trained, monkeypatch):
    monkeypatch.setenv("AESOP_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    raw = adversarial(tmp_path, photos, trained["psnr"], trained["autoencoder"])
    raw["train"]["perceptual_opt"] = {"type": "PerceptualLoss"}
    text = refused("train", write_options(tmp_path, raw))
    assert text.startswith("no weights for vgg19 on this machine")
    assert "pip install torchvision" in text
    assert "AESOP_WEIGHTS" in text
    assert f"{tmp_path}/vgg19-dcbb9e9d.pth" in text
    assert f"{tmp_path}/torch/hub/checkpoints/vgg19-dcbb9e9d.pth" in text


def test_an_unknown_metric_device_or_best_metric(tmp_path, photos, pairs):
    raw = options(tmp_path, photos, datasets__val={"dataroot_gt": str(pairs / "HR")}, val={"val_freq": 1})
    path = write_options(tmp_path, raw)
    assert "val.metrics.pnsr: there is no metric 'pnsr'; known: psnr" in refused("train", path, "val.metrics.pnsr={}")
    assert "val.best_metric: 'lpips' is not in val.metrics (psnr)" in refused("train", path, "val.best_metric=lpips")
    assert "unknown device 'gpu': use auto, cpu" in refused("train", path, "device=gpu")


def test_a_batch_that_cannot_be_split(tmp_path, photos):
    raw = options(tmp_path, photos, train__accumulate=2, datasets__train__batch_size_per_gpu=3)
    assert "train.accumulate: 2 does not divide the batch_size_per_gpu of 3" in refused(
        "train", write_options(tmp_path, raw)
    )


def test_a_diverged_training_says_what_to_do(tmp_path, photos):
    raw = options(tmp_path, photos, train__optim_g={"lr": 1e30})
    text = refused("train", write_options(tmp_path, raw))
    assert "the last 3 steps were skipped" in text
    assert "train.optim_g.lr" in text


def test_an_interrupted_command_says_how_to_go_on(tmp_path, photos, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("aesop.training.train.train", interrupted)
    result = run("train", write_options(tmp_path, options(tmp_path, photos)))
    assert result.exit_code == 130
    assert "add --resume" in result.stderr
    monkeypatch.setattr("aesop.options.pipeline.plan", interrupted)
    result = run("pipeline", tmp_path / "pipeline.yml")
    assert result.exit_code == 130
    assert "interrupted; the same command continues" in result.stderr
    assert "--resume" not in result.stderr


def files_below(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


@pytest.mark.slow
def test_a_dry_run_tells_sizes_and_files_and_writes_nothing(tmp_path, photos, pairs, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = files_below(tmp_path)
    result = CliRunner().invoke(
        app,
        [
            "train",
            str(REPO / "configs" / "aesop_rrdb.yml"),
            f"datasets.train.dataroot_gt={pairs / 'HR'}",
            f"datasets.train.dataroot_lq={pairs / 'LR'}",
            f"datasets.val.dataroot_gt={photos}",
            "datasets.val.dataroot_lq=",
            "device=cpu",
            "--dry-run",
        ],
    )
    assert files_below(tmp_path) == before
    # The sizes of the published networks.
    assert "network_g: RRDBNet, 16,697,987 parameters" in result.output
    assert "network_d: VGGStyleDiscriminator128, 14,499,401 parameters" in result.output
    assert "datasets.val: 6 images, LR by bicubic 1/4" in result.output
    assert "device: cpu" in result.output
    assert "path.pretrain_network_g: experiments/psnr_rrdb/models/net_g_01000000.safetensors (MISSING)" in result.output
    assert "experiments/aesop_rrdb/models/net_g_00300000.safetensors" in result.output
    assert "total_iter: 300000" in result.output
    # All that is in the way, at once: too small images, missing weights.
    assert result.exit_code == 1
    for fault in ("smaller than the crop (gt_size 128)", "net_g_01000000.safetensors does not exist", "AESOP_WEIGHTS"):
        assert fault in result.output


@pytest.mark.usefixtures("no_count_of_memory")
def test_a_dry_run_finds_files_that_are_there(tmp_path, photos, trained):
    raw = adversarial(tmp_path, photos, trained["psnr"], trained["autoencoder"])
    text = succeeded("train", write_options(tmp_path, raw), "--dry-run")
    assert f"path.pretrain_network_g: {trained['psnr']} (found)" in text
    assert f"train.aesop_opt.autoencoder_load: {trained['autoencoder']} (found)" in text


@pytest.mark.slow
def test_a_dry_run_of_a_pipeline_shows_every_stage(tmp_path, photos, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = REPO / "configs" / "pipeline_compact.yml"
    folders = [f"datasets.{name}.dataroot_gt={photos}" for name in ("train", "val")]
    text = succeeded("pipeline", config, *folders, "datasets.train.gt_size=32", "--dry-run")
    assert files_below(tmp_path) == set()
    assert text.count("would write:") == 3
    assert text.count("(made by an earlier stage)") == 3
    assert "MISSING" not in text


@pytest.mark.usefixtures("no_count_of_memory")
def test_a_dry_run_checks_the_images(tmp_path, photos):
    path = write_options(tmp_path, options(tmp_path, photos))
    assert "datasets.train.dataroot_gt" in refused("train", path, "datasets.train.dataroot_gt=/no", "--dry-run")


def adversarial(folder: Path, photos: Path, generator: object, autoencoder: object) -> dict:
    raw = options(folder, photos, stage="adversarial", name="gan", path__pretrain_network_g=str(generator))
    raw["network_d"] = {"type": "UNetDiscriminatorSN", "num_feat": 4}
    raw["train"] = {
        "total_iter": ITERATIONS,
        "aesop_opt": {"autoencoder_load": {"path": str(autoencoder)}},
        "artifacts_opt": {"type": "L1Loss"},
        "gan_opt": {"type": "GANLoss"},
    }
    return raw


def scalars(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "scalars.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def trained(tmp_path_factory, photos) -> dict[str, Path]:
    """All three stages, each through the command line: stage -> weight file."""
    folder = tmp_path_factory.mktemp("trained")
    weights: dict[str, Path] = {}

    def train(stage: str, raw: dict) -> None:
        raw |= {"name": stage, "manual_seed": len(weights)}  # fresh weights of each stage are others
        output = succeeded("train", write_options(folder, raw, f"{stage}.yml"))
        weights[stage] = folder / "experiments" / stage / "models" / f"net_g_{ITERATIONS:08d}.safetensors"
        assert f"finished {stage}: {weights[stage]}" in output

    train("psnr", options(folder, photos))
    decoder = {"stage": "autoencoder", "path__pretrain_network_decoder": str(weights["psnr"])}
    raw = options(folder, photos, **decoder, train__pixel_at_LR_opt={"type": "L1Loss"}, train__freeze_decoder=2)
    train("autoencoder", {**raw, "network_g": {"type": "AutoEncoder_RRDBNet", "dec_opt": TINY}})
    train("adversarial", adversarial(folder, photos, weights["psnr"], weights["autoencoder"]))
    return weights


@pytest.mark.parametrize(
    ("stage", "losses"),
    [
        ("psnr", {"l_pix"}),
        ("autoencoder", {"l_pix", "l_pix_at_LR"}),
        (
            "adversarial",
            {"l_g_aesop", "l_g_artifacts", "l_g_gan", "l_d_real", "l_d_fake", "out_d_real", "out_d_fake"},
        ),
    ],
)
def test_training_leaves_figures_weights_and_the_configuration(trained, stage, losses):
    folder = trained[stage].parents[1]
    lines = scalars(folder)
    assert [line["iter"] for line in lines] == [1, 2, 3, 4]
    for line in lines:
        assert line.keys() == {"iter", "lr"} | losses
        assert all(math.isfinite(value) for value in line.values())
    config, notes = load_config(folder / "config.yml")
    assert (config.stage, config.name, notes) == (stage, stage, [])
    _, metadata = read_state_dict(trained[stage])
    assert metadata["stage"] == stage
    assert metadata["total_iter"] == str(ITERATIONS)
    assert "finished" in (folder / "train.log").read_text()
    net, info = load_network(trained[stage])
    assert info.scale == 4
    side = 8 if stage != "autoencoder" else 32
    with torch.inference_mode():
        assert net(torch.rand(1, 3, side, side)).shape == (1, 3, 32, 32)


def test_stages_start_from_the_weights_they_were_given(trained):
    psnr = read_state_dict(trained["psnr"])[0]
    gan = read_state_dict(trained["adversarial"])[0]
    decoder = load_autoencoder(trained["autoencoder"]).decoder.state_dict()
    for name, tensor in psnr.items():
        # In EMA steps of decay .999 and lr 1e-4 a weight moves by about 1e-6 at most; in the auto-encoder's, which warm up,
        # by as much as the steps themselves.
        torch.testing.assert_close(gan[name], tensor, rtol=0, atol=1e-5)
        torch.testing.assert_close(decoder[name], tensor, rtol=0, atol=1e-4 * ITERATIONS)
    assert any(not torch.equal(gan[name], tensor) for name, tensor in psnr.items())
    assert any(not torch.equal(decoder[name], tensor) for name, tensor in psnr.items())


def test_a_command_line_of_basicsrs_scripts_trains(tmp_path, photos):
    path = write_options(tmp_path, options(tmp_path, photos, train__total_iter=9))
    published = ["-opt", path, "--launcher", "pytorch", "--auto_resume", "--debug", "--local_rank", "0"]
    text = succeeded("train", *published, "--force_yml", "train:total_iter=2", "logger:print_freq=1")
    assert "note: --launcher pytorch has no effect" in text
    assert "note: --debug has no effect" in text
    assert [line["iter"] for line in scalars(tmp_path / "experiments" / "run")] == [1, 2]


def test_missing_weights_and_biases_are_noticed_before_the_networks_are_built(tmp_path, photos, monkeypatch):
    monkeypatch.setattr("aesop.training.run_logger.find_spec", lambda name: None)
    path = write_options(tmp_path, options(tmp_path, photos))
    assert "logger.wandb: Weights & Biases is missing" in refused("train", path, "logger.wandb.project=x")
    assert not (tmp_path / "experiments").exists()


def test_an_override_that_is_no_yaml_is_text(tmp_path, photos):
    path = write_options(tmp_path, options(tmp_path, photos))
    config, _ = load_config(path, ["datasets.train.filename_tmpl={}x4"])
    assert config.datasets.train.filename_tmpl == "{}x4"
    assert "total_iter" in refused("train", path, "train.total_iter=[1")


def test_training_on_an_existing_run_needs_resume(tmp_path, photos):
    path = write_options(tmp_path, options(tmp_path, photos, train__total_iter=2))
    succeeded("train", path)
    folder = tmp_path / "experiments" / "run"
    before = {file: file.stat().st_mtime_ns for file in files_below(folder / "models")}
    text = refused("train", path)
    assert text == f"{folder} already holds a run with checkpoints: add --resume to continue it, or choose another name"
    assert "finished" in succeeded("train", path, "--resume")  # nothing is left to do
    assert {file: file.stat().st_mtime_ns for file in files_below(folder / "models")} == before
    assert len(scalars(folder)) == 2
    assert f"continuing from {folder}/state/00000002" in succeeded("train", path, "train.total_iter=3", "--resume")
    assert [line["iter"] for line in scalars(folder)] == [1, 2, 3]
    assert (folder / "models" / "net_g_00000003.safetensors").is_file()


def test_validation_writes_images_and_keeps_the_best(tmp_path, photos, pairs):
    raw = options(tmp_path, photos, train__total_iter=2, datasets__val={"dataroot_gt": str(pairs / "HR")})
    raw["val"] = {"val_freq": 2, "metrics": {"psnr": {}, "ssim": {}}}
    output = succeeded("train", write_options(tmp_path, raw))
    folder = tmp_path / "experiments" / "run"
    figures = scalars(folder)[-1]
    assert figures.keys() == {"iter", "val/psnr", "val/ssim"}
    assert f"best psnr so far: {figures['val/psnr']:.4f}" in output
    assert (folder / "models" / "net_g_best.safetensors").is_file()
    images = {path.name for path in (folder / "visualization" / "00000002" / "val").iterdir()}
    assert images == {"img11.png", "img12.png"}


def test_a_pipeline_runs_all_stages_and_continues_where_it_stopped(tmp_path, photos):
    raw = options(tmp_path, photos, name="all")
    del raw["stage"], raw["train"]
    gan = adversarial(tmp_path, photos, "", "")
    psnr = {"train": {"total_iter": 2, "pixel_opt": {"type": "L1Loss"}}}
    gan["train"] |= {"aesop_opt": {}, "total_iter": 2}
    stages = {"psnr": psnr, "autoencoder": psnr, "adversarial": {name: gan[name] for name in ("network_d", "train")}}
    path = write_options(tmp_path, raw | {"stages": stages})
    folder = tmp_path / "experiments" / "all"
    models = [
        folder / stage / "models" / "net_g_00000002.safetensors" for stage in ("1_psnr", "2_autoencoder", "3_adversarial")
    ]

    output = succeeded("pipeline", path)
    assert f"finished: {models[2]}" in output
    config, _ = load_config(folder / "3_adversarial" / "config.yml")
    assert config.train
    assert config.train.aesop_opt
    assert config.train.aesop_opt.autoencoder_load
    assert config.train.aesop_opt.autoencoder_load.path == str(models[1])

    before = {file: file.stat().st_mtime_ns for file in files_below(folder)}
    output = succeeded("pipeline", path, "--resume")
    assert output.count("already finished") == 3
    assert {file: file.stat().st_mtime_ns for file in files_below(folder)} == before

    output = succeeded("pipeline", path, "stages.adversarial.train.total_iter=3")
    assert output.count("already finished") == 2
    assert f"continuing from {folder}/3_adversarial/state/00000002" in output
    assert models[2].with_name("net_g_00000003.safetensors").is_file()

    # A stage that is given as weights is not trained.
    stages["psnr"] = {"weights": str(models[0])}
    skipping = write_options(tmp_path, raw | {"name": "skipping", "stages": stages}, "skipping.yml")
    assert f"psnr: skipped, using {models[0]}" in succeeded("pipeline", skipping)
    assert {path.name for path in (tmp_path / "experiments" / "skipping").iterdir()} == {
        "2_autoencoder",
        "3_adversarial",
    }


def luma_psnr(sr: np.ndarray, hr: np.ndarray, border: int = 4) -> float:
    """By hand: Y of BT.601 in studio range, without the border; 1e-8 as in the published torch version."""
    a, b = (
        16 + (65.481 * x[..., 0] + 128.553 * x[..., 1] + 24.966 * x[..., 2]) / 255
        for x in (sr.astype(np.float64), hr.astype(np.float64))
    )
    error = np.mean(((a - b)[border:-border, border:-border] / 255) ** 2)
    return float(-10 * np.log10(error + 1e-8))


def test_testing_writes_one_row_per_image_that_matches_a_hand_computation(tmp_path, photos, pairs, trained):
    raw = options(tmp_path, photos, name="measured", path__pretrain_network_g=str(trained["psnr"]))
    del raw["train"], raw["datasets"]["train"], raw["stage"]
    odd = write_rgb(tmp_path / "odd" / "sub" / "odd.png", smooth(20, 43, 50))  # is cut to 40x48
    raw["datasets"] = {
        "test_1": {"name": "Pairs", "dataroot_gt": str(pairs / "HR"), "dataroot_lq": str(pairs / "LR")},
        "test_2": {"dataroot_gt": str(tmp_path / "odd")},
    }
    raw["val"] = {"save_img": True, "suffix": "tiny", "metrics": {"psnr": {}, "rgb": {"type": "psnr", "crop_border": 0}}}
    raw["val"]["metrics"]["rgb"]["test_y_channel"] = False
    output = succeeded("test", write_options(tmp_path, raw))
    assert "Pairs: 2 images" in output
    folder = tmp_path / "results" / "measured"
    results = json.loads((folder / "results.json").read_text())
    assert results["name"] == "measured"
    (tested,) = results["methods"]
    assert list(tested["values"]) == ["Pairs", "test_2"]
    with open(folder / "values.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows] == ["img11", "img12", "sub/odd"]

    hr_files = {
        "test_1": {"img11": pairs / "HR" / "img11.png", "img12": pairs / "HR" / "img12.png"},
        "test_2": {"sub/odd": odd},
    }
    for section, files in hr_files.items():
        name = "Pairs" if section == "test_1" else section
        values = tested["values"][name]
        assert list(values) == list(files)
        for image, row in values.items():
            (in_csv,) = [each for each in rows if (each["set"], each["image"]) == (name, image)]
            assert {metric: float(in_csv[metric]) for metric in row} == row
            sr = np.asarray(Image.open(folder / "images" / section / f"{image}_tiny.png"))
            hr = np.asarray(Image.open(files[image]))
            hr = hr[: hr.shape[0] // 4 * 4, : hr.shape[1] // 4 * 4]
            assert sr.shape == hr.shape
            assert row["psnr"] == pytest.approx(luma_psnr(sr, hr), abs=1e-4)
            error = np.mean(((sr.astype(np.float64) - hr) / 255) ** 2)
            assert row["rgb"] == pytest.approx(-10 * np.log10(error + 1e-8), abs=1e-4)
        average = np.mean([row["psnr"] for row in values.values()])
        assert f"{average:.2f}" in output


def test_testing_uses_the_lr_files_that_were_given(tmp_path, photos, pairs, trained):
    write_rgb(tmp_path / "lr" / "img11.png", np.zeros((10, 12, 3), np.uint8))
    write_rgb(tmp_path / "hr" / "img11.png", smooth(11, 40, 48))
    raw = options(tmp_path, photos, path__pretrain_network_g=str(trained["psnr"]))
    del raw["train"], raw["stage"]
    figures = []
    for lq in (tmp_path / "lr", None):
        raw["datasets"] = {"test": {"dataroot_gt": str(tmp_path / "hr"), "dataroot_lq": str(lq) if lq else None}}
        succeeded("test", write_options(tmp_path, raw))
        results = json.loads((tmp_path / "results" / "run" / "results.json").read_text())
        figures.append(np.mean([row["psnr"] for row in results["methods"][0]["values"]["test"].values()]))
    assert figures[0] != pytest.approx(figures[1], abs=0.01)  # the net is untrained: almost black either way


def test_testing_names_an_image_too_small_to_measure(tmp_path, photos, trained):
    write_rgb(tmp_path / "hr" / "tiny.png", smooth(1, 8, 8))
    raw = options(tmp_path, photos, path__pretrain_network_g=str(trained["psnr"]))
    del raw["train"], raw["stage"]
    raw["datasets"] = {"test": {"dataroot_gt": str(tmp_path / "hr")}}
    text = refused("test", write_options(tmp_path, raw))
    assert text == f"{tmp_path}/hr/tiny.png: a border of 4 leaves nothing of 8x8: lower crop_border"


def test_testing_without_weights_says_which_option_to_set(tmp_path, photos, pairs):
    raw = options(tmp_path, photos)
    del raw["train"]
    raw["datasets"] = {"test": {"dataroot_gt": str(pairs / "HR")}}
    path = write_options(tmp_path, raw)
    assert refused("test", path) == "path.pretrain_network_g: give the weights to test"
    assert refused("test", path, "path.pretrain_network_g=nix.pth").endswith(
        "path.pretrain_network_g: nix.pth does not exist"
    )


@pytest.mark.usefixtures("no_count_of_memory")
def test_notes_on_options_without_meaning_are_shown(tmp_path, photos):
    raw = options(tmp_path, photos, num_gpu=4, datasets__train__prefetch_mode="cuda")
    output = succeeded("train", write_options(tmp_path, raw), "--dry-run")
    assert "note: num_gpu is ignored" in output
    assert "note: datasets.train.prefetch_mode is ignored" in output
