"""Option files: every fault at once with line and remedy, overrides, round trips, published files, pipelines, recipes."""

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from aesop.archs import AutoEncoderOptions
from aesop.archs.rrdbnet import RRDBNetOptions
from aesop.commands.pipeline import plan
from aesop.options.config import STAGES, Config
from aesop.options.error_messages import ConfigError
from aesop.options.read import build_config, load_config, load_pipeline
from aesop.training.train import final_model

REPO = Path(__file__).resolve().parents[2]
CONFIGS = sorted((REPO / "configs").glob("*.yml"))
GOLDEN = Path(os.environ.get("AESOP_GOLDEN") or REPO.parent / "shared" / "golden")

PSNR = """\
name: tiny
network_g: {type: RRDBNet, num_feat: 8, num_block: 1, num_grow_ch: 4}
datasets:
  train:
    dataroot_gt: hr
    gt_size: 32
train:
  total_iter: 5
  pixel_opt: {type: L1Loss}
"""
ADVERSARIAL = """\
name: tiny
stage: adversarial
network_g: {type: RRDBNet, num_feat: 8, num_block: 1, num_grow_ch: 4}
network_d: {type: VGGStyleDiscriminator128}
path: {pretrain_network_g: psnr.pth}
datasets: {train: {dataroot_gt: hr, gt_size: 128}}
train:
  total_iter: 5
  aesop_opt: {autoencoder_load: {path: ae.pth}}
  artifacts_opt: {type: L1Loss}
  gan_opt: {gan_type: vanilla}
"""
AUTOENCODER = """\
name: tiny
stage: autoencoder
network_g: {type: AutoEncoder_RRDBNet, dec_opt: {type: RRDBNet, num_feat: 16, num_block: 1}}
path: {pretrain_network_decoder: psnr.pth}
datasets: {train: {dataroot_gt: hr, gt_size: 32}}
train: {total_iter: 5, pixel_opt: {type: L1Loss}}
"""
PIPELINE = """\
name: run
network_g: {type: RRDBNet, num_feat: 16, num_block: 1, num_grow_ch: 4}
datasets:
  train: {dataroot_gt: hr, gt_size: 32}
path: {experiments_root: exp}
stages:
  psnr:
    train: {total_iter: 5, pixel_opt: {type: L1Loss}}
  autoencoder:
    train: {total_iter: 6, pixel_opt: {type: L1Loss}}
  adversarial:
    network_d: {type: UNetDiscriminatorSN}
    train: {total_iter: 7, gan_opt: {}, aesop_opt: {loss_weight: 2}}
"""


@pytest.fixture
def write(tmp_path):
    def write(text: str, name: str = "options.yml") -> Path:
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def resolved(path: Path, *overrides: str) -> Config:
    return load_config(path, overrides)[0]


def message(path: Path, *overrides: str, read=load_config) -> str:
    with pytest.raises(ConfigError) as error:
        read(path, overrides)
    return str(error.value)


def faults(path: Path, *overrides: str, read=load_config) -> list[str]:
    """The faults a file is refused for, one line each; the first line must name the file and count them."""
    heading, *lines = message(path, *overrides, read=read).splitlines()
    assert heading.startswith(f"{path}: {len(lines)} fault"), heading
    return [line.strip() for line in lines]


# --- faults ------------------------------------------------------------------------------------------------------------


def test_all_faults_of_a_file_are_reported_at_once_with_line_and_nearest_name(write):
    found = faults(
        write("""\
name: broken
scale: 5
network_g: {type: RRDBNet, num_fat: 8}
network_d: {type: VGGStyleDiscrimnator128}
datasets:
  train:
    dataroot_gt: hr
    gt_size: large
  val:
    dataroot_lq: lr
train:
  totl_iter: 5
  optim_g:
    lr: 0
  scheduler:
    milestones: 5
  warp: 3
val:
  metrics:
    psnr: {crop_bordr: 4}
""")
    )
    assert len(found) == 11
    for expected in (
        "line 2: scale: 5 is none of 1, 2, 3, 4 or 8",
        "line 3: network_g.num_fat: unknown option; did you mean num_feat?",
        "line 4: network_d.type: 'VGGStyleDiscrimnator128' is none of .*; did you mean VGGStyleDiscriminator128?",
        "line 8: datasets.train.gt_size: .*valid integer.*found 'large'",
        "line 9: datasets.val: dataroot_gt is missing; without HR images use type: SingleImageDataset",
        "line 11: train.total_iter: missing",
        "line 12: train.totl_iter: unknown option; did you mean total_iter?",
        "line 14: train.optim_g.lr: .*greater than 0, found 0",
        "line 16: train.scheduler.milestones: .*valid list, found 5",
        "line 17: train.warp: unknown option; known: total_iter, .*gan_opt",
        "line 20: val.metrics.psnr.crop_bordr: unknown option; did you mean crop_border?",
    ):
        assert any(re.match(expected, fault) for fault in found), (expected, found)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("network_g.type=RDBNet", "line 2: network_g: there is no network .RDBNet.; did you mean RRDBNet\\?"),
        ("network_g={num_feat: 8}", r"network_g.type: missing; known: RRDBNet, MSRResNet, SPSRNet, AutoEncoder_RRDBNet"),
        ("network_g=RRDBNet", "network_g: must hold options .*found 'RRDBNet'"),
        ("train=5", "train: must hold options .*found 5"),
        ("datasets.val=3", "datasets.val: must hold options .*found 3"),
        ("datasets.trian.dataroot_gt=hr", "datasets: unknown section trian: use train, val..., or test..."),
        ("datasets.train_2.dataroot_gt=hr", "datasets: unknown section train_2: use train, val"),
        ("datasets.train.filename_tmpl=x4", "filename_tmpl: must have {} once.*found 'x4'"),
        ("datasets.train.filename_tmpl='{name}x4'", "filename_tmpl: must have {} once"),
        ("precision=fp16", "precision: 'fp16' is none of 'fp32' or 'bf16'; did you mean bf16"),
        ("scale=16", "scale: 16 is none of 1, 2, 3, 4 or 8$"),
        ("train.total_iter=2.5", "train.total_iter: .*integer.*found 2.5"),
        ("train.total_iter=0", "train.total_iter: .*greater than or equal to 1, found 0"),
        ("train.ema_decay=1", "train.ema_decay: .*less than 1"),
        ("train.accumulate=17", "train.accumulate: 17 does not divide the batch_size_per_gpu of 16"),
        ("train.scheduler.type=CosineAnnealingRestartLR", "train.scheduler: CosineAnnealingRestartLR needs periods"),
        ("train.scheduler.restarts=[0, 5]", "train.scheduler: restart_weights and restarts must be equally long"),
        ("model_type=EDVRModel", "model_type: .EDVRModel. is not supported; known: SRModel"),
        ("name=5", "name: .*valid string, found 5"),
    ],
)
def test_each_fault_names_the_option_and_what_it_should_be(write, override, expected):
    (fault,) = faults(write(PSNR), override)
    assert re.search(expected, fault), fault


def test_faults_of_several_groups_do_not_hide_one_another(write):
    found = faults(write(PSNR), "datasets.trian.dataroot_gt=x", "network_g.num_blok=3", "logger.print_freq=0")
    assert len(found) == 3


def test_repeated_options_are_named_with_their_lines(write):
    text = message(write("name: a\nname: b\ntrain:\n  optim_g: {lr: 1, lr: 2}\n"))
    assert "gives options twice" in text
    assert "line 2: name" in text
    assert "line 4: train.optim_g.lr" in text


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "just words\n", "5\n"])
def test_a_file_that_is_no_mapping(write, text):
    path = write(text)
    assert message(path) == f"{path} holds no options (expected `key: value` lines)"


def test_invalid_yaml_names_file_and_line(write):
    path = write("name: a\ntrain: [1\nscale: 4\n")
    text = message(path)
    assert text.startswith(f"{path} is no valid YAML")
    assert "line 3, column" in text
    assert "unicode string" not in text


def test_a_file_that_is_not_text(tmp_path):
    (tmp_path / "weights.yml").write_bytes(b"\x89PNG\xff\xfe")
    assert "weights.yml cannot be read" in message(tmp_path / "weights.yml")


def test_a_folder_in_place_of_a_file(tmp_path):
    assert f"{tmp_path} cannot be read" in message(tmp_path)


def test_a_missing_file_suggests_its_neighbour(write):
    path = write(PSNR, "psnr_rrdb.yml")
    assert message(path.with_name("psnr_rrbd.yml")).endswith("does not exist; did you mean psnr_rrdb.yml?")
    assert message(path.with_name("quite_different.yml")).endswith("does not exist")
    assert message(path.parent / "nowhere" / "a.yml").endswith("does not exist")


def test_a_key_that_is_no_word(write):
    assert faults(write("4: x\n" + PSNR)) == ["line 1: 4: keys should be strings, found 4"]


# --- overrides ---------------------------------------------------------------------------------------------------------


def test_overrides_are_read_as_yaml_of_every_type(write):
    config = resolved(
        write(PSNR),
        "name=other",
        "train.total_iter=5e3",
        "train.optim_g.lr=3e-4",
        "datasets.train.use_flip=false",
        "datasets.train.dataroot_gt=[a, b]",
        "datasets.train.dataroot_lq=",
        "train.scheduler={milestones: [2, 3], gamma: 0.5}",
        "val.suffix=a=b",
    )
    assert config.train
    assert config.datasets.train
    assert config.name == "other"
    assert config.train.total_iter == 5000
    assert config.train.optim_g.lr == 3e-4
    assert config.datasets.train.use_flip is False
    assert config.datasets.train.dataroot_gt == ["a", "b"]
    assert config.datasets.train.dataroot_lq is None
    assert config.train.scheduler.milestones == [2, 3]
    assert config.val.suffix == "a=b"
    assert config.network_g.num_feat == 8  # the rest stays


def test_overrides_make_groups_that_are_not_there(write):
    config = resolved(write(PSNR), "datasets.val_faces.dataroot_gt=faces", "val.metrics.ssim.crop_border=2")
    assert config.datasets.measured("val")["val_faces"].dataroot_gt == "faces"
    assert config.val.metrics["ssim"].crop_border == 2


@pytest.mark.parametrize("override", ["train.total_iter", "=5", ""])
def test_an_override_without_key_or_value_shows_the_form(write, override):
    assert message(write(PSNR), override) == (
        f"override {override!r} must look like key.path=value, e.g. train.total_iter=1000"
    )


def test_an_override_with_broken_yaml_is_named(write):
    assert message(write(PSNR), "train.total_iter=[1").startswith("override 'train.total_iter=[1'")


def test_an_unknown_override_is_named_with_the_nearest_option(write):
    assert faults(write(PSNR), "train.totl_iter=5") == ["option: train.totl_iter: unknown option; did you mean total_iter?"]


# --- what is read ------------------------------------------------------------------------------------------------------


def test_numbers_that_yaml_takes_for_words(write):
    # YAML 1.1 wants a dot and a sign: 1e-4 and 5e3 arrive as strings.
    text = PSNR.replace("total_iter: 5", "total_iter: 5e3\n  optim_g: {lr: 1e-4}\n  scheduler: {milestones: [1e3]}")
    assert yaml.safe_load(text)["train"]["total_iter"] == "5e3"
    config = resolved(write(text))
    assert config.train
    assert (config.train.total_iter, config.train.optim_g.lr) == (5000, 1e-4)
    assert config.train.scheduler.milestones == [1000]


def test_the_scale_is_filled_into_the_networks(write):
    config = resolved(write(PSNR), "scale=2")
    assert config.network_g.scale == 2
    ae = resolved(write(AUTOENCODER), "scale=2").network_g
    assert isinstance(ae, AutoEncoderOptions)
    assert (ae.scale, ae.dec_opt.scale) == (2, 2)


def test_scales_that_differ_are_all_reported(write):
    assert faults(write(PSNR), "network_g.scale=2") == ["line 2: network_g.scale: 2 differs from the file's scale 4"]
    found = faults(write(AUTOENCODER), "network_g.scale=2", "network_g.dec_opt.scale=3")
    assert [fault.partition(": ")[2] for fault in found] == [
        "network_g.scale: 2 differs from the file's scale 4",
        "network_g.dec_opt.scale: 3 differs from the file's scale 4",
    ]


@pytest.mark.parametrize(
    ("model_type", "text"),
    [("SRModel", PSNR), ("AEModel", AUTOENCODER), ("AesopESRGANArtifactsDisModel", ADVERSARIAL)],
)
def test_published_model_types_give_the_stage(write, model_type, text):
    without_stage = re.sub(r"^stage: .*\n", "", text, flags=re.M)
    assert resolved(write(without_stage), f"model_type={model_type}").stage == resolved(write(text)).stage


# --- stage rules -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "overrides", "option", "remedy"),
    [
        (PSNR, ["train.pixel_opt="], "train.pixel_opt", "pixel_opt: {type: L1Loss}"),
        (PSNR, ["datasets.train="], "datasets.train", "dataroot_gt"),
        (PSNR, ["stage=autoencoder", "path.from_scratch=true"], "network_g.type", "AutoEncoder_RRDBNet"),
        (AUTOENCODER, ["stage=psnr"], "network_g.type", "a generator"),
        (AUTOENCODER, ["path={}"], "path.pretrain_network_decoder", "aesop pipeline"),
        (AUTOENCODER, ["path={}"], "path.pretrain_network_decoder", "path.from_scratch: true"),
        (AUTOENCODER, ["train.pixel_opt="], "train.pixel_opt", "pixel_opt: {type: L1Loss}"),
        (ADVERSARIAL, ["path={}"], "path.pretrain_network_g", "aesop pipeline"),
        (ADVERSARIAL, ["path={}"], "path.pretrain_network_g", "path.from_scratch: true"),
        (ADVERSARIAL, ["network_d="], "network_d", "needs both"),
        (ADVERSARIAL, ["train.gan_opt="], "train.gan_opt", "needs both"),
        (ADVERSARIAL, ["train.aesop_opt={}"], "train.aesop_opt.autoencoder_load", "{path: autoencoder.safetensors}"),
        (ADVERSARIAL, ["train.ema_decay=0"], "train.artifacts_opt", "set train.ema_decay > 0"),
        (ADVERSARIAL, ["datasets.train.gt_size=256"], "network_d.type", "UNetDiscriminatorSN"),
        (ADVERSARIAL, ["datasets.train.gt_size=28"], "network_d.type", "datasets.train.gt_size"),
        (ADVERSARIAL, ["network_d.type=UNetDiscriminatorSN", "datasets.train.gt_size=36"], "network_d.type", "of 8"),
        (PSNR, ["datasets.train.gt_size=30"], "datasets.train.gt_size", "no multiple of the scale 4"),
    ],
)
def test_stage_rules_name_the_option_and_the_remedy(write, text, overrides, option, remedy):
    path = write(text)
    resolved(path)  # fine without the overrides
    (fault,) = faults(path, *overrides)
    assert option in fault
    assert remedy in fault


@pytest.mark.parametrize("text", [AUTOENCODER, ADVERSARIAL])
def test_starting_from_scratch_must_be_asked_for(write, text):
    assert resolved(write(text), "path={from_scratch: true}").path.from_scratch


def test_rules_are_reported_together(write):
    overrides = ["path={}", "train.aesop_opt={}", "train.ema_decay=0", "datasets.train.gt_size=30", "network_g.scale=2"]
    assert len(faults(write(ADVERSARIAL), *overrides)) == 6  # gt_size 30 fits neither the scale nor the discriminator


@pytest.mark.parametrize(
    ("text", "overrides", "expected"),
    [
        (PSNR, [], True),
        (AUTOENCODER, [], True),  # its decoder is trained, its encoder fresh
        (ADVERSARIAL, [], False),  # its generator is trained
        (PSNR, ["path.pretrain_network_g=net.pth"], False),
        (PSNR, ["model_type=SRModel"], False),
        (PSNR, ["train.ema_warmup=false"], False),
        (ADVERSARIAL, ["train.ema_warmup=true"], True),
        (PSNR, ["model_type=SRModel", "train.ema_warmup=true"], True),
    ],
)
def test_the_average_warms_up_where_weights_are_fresh(write, text, overrides, expected):
    config = resolved(write(text), *overrides)
    assert config.train.ema_warmup is expected
    assert f"ema_warmup: {str(expected).lower()}" in config.to_yaml()


# --- round trip --------------------------------------------------------------------------------------------------------

positive = st.floats(1e-12, 1e6)
words = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12)


@settings(max_examples=60, deadline=None)
@given(
    name=words.map(lambda word: "n" + re.sub(r"[./~\\]", "_", word)),
    roots=words | st.lists(words, min_size=1, max_size=3),
    lr=positive,
    ema=st.floats(0, 0.9999),
    milestones=st.lists(st.integers(0, 10**7), max_size=4),
    seed=st.integers(0, 2**40),
    key=st.none() | words,
    metrics=st.dictionaries(words, st.fixed_dictionaries({}, optional={"crop_border": st.integers(0, 9)}), max_size=3),
)
def test_the_resolved_file_reads_back_to_the_same_configuration(name, roots, lr, ema, milestones, seed, key, metrics):
    raw: dict[str, Any] = yaml.safe_load(ADVERSARIAL)
    raw |= {"name": name, "manual_seed": seed, "val": {"metrics": metrics}}
    raw["datasets"]["val_1"] = {"dataroot_gt": roots}
    raw["path"] |= {"param_key_g": key, "param_key_d": key, "param_key_decoder": key}
    raw["train"] |= {"optim_g": {"lr": lr}, "scheduler": {"milestones": milestones}, "artifacts_opt": None}
    raw["train"]["ema_decay"] = ema
    config, _ = build_config(raw, "generated")
    again, notes = build_config(yaml.safe_load(config.to_yaml()), "resolved")
    assert again == config
    assert notes == []
    assert again.train is not None
    assert again.train.optim_g.lr == lr


@pytest.mark.parametrize("text", [PSNR, AUTOENCODER, ADVERSARIAL])
def test_the_resolved_file_can_be_written_and_loaded(write, text):
    config = resolved(write(text))
    assert resolved(write(config.to_yaml(), "resolved.yml")) == config


# --- published files ---------------------------------------------------------------------------------------------------

PLACEHOLDER_NOTES = {
    "num_gpu",
    "dist_params",
    "datasets.train.prefetch_mode",
    "datasets.train.dataset_enlarge_ratio",
    "datasets.train.use_shuffle",
}


@pytest.mark.parametrize(
    ("name", "stage", "meaningless"),
    [
        (
            "train/AESOP/train_Synthetic_AESOP_RRDB.yml",
            "adversarial",
            PLACEHOLDER_NOTES | {"train.aesop_opt.autoencoder_arch"},
        ),
        (
            "train/AutoEncoder/train_Synthetic_AE_RRDB_LRrecon1.yml",
            "autoencoder",
            PLACEHOLDER_NOTES | {"network_g.enc_opt.placeholder"},
        ),
        (
            "train/AutoEncoder/train_Realworld_AE_RRDB_DecoderFreeze.yml",
            "autoencoder",
            PLACEHOLDER_NOTES | {"network_g.enc_opt.placeholder", "find_unused_parameters"},
        ),
    ],
)
def test_published_training_files_resolve(write, name, stage, meaningless):
    if not (GOLDEN / "options.json").is_file():
        pytest.skip(f"no options.json in {GOLDEN} (set AESOP_GOLDEN)")
    published = json.loads((GOLDEN / "options.json").read_text())[name]["yaml"]
    config, notes = load_config(write(yaml.safe_dump(published)))
    assert config.stage == stage
    assert {note.partition(" ")[0] for note in notes} == meaningless
    assert all("has no meaning here: " in note for note in notes)
    # Every value that is left must have arrived: compare with the file itself, leaf by leaf.
    dumped = config.model_dump(mode="json") | {"model_type": published["model_type"]}
    for path, value in leaves(published):
        if not any(path == key or path.startswith(f"{key}.") for key in meaningless):
            assert look_up(dumped, path) == value, path
    assert load_config(write(config.to_yaml(), "resolved.yml")) == (config, [])


@pytest.mark.parametrize("name", ["test_Synthetic_AESOP_RRDB128.yml", "test_Synthetic_AESOP_RRDB256.yml"])
def test_published_test_files_resolve(write, name):
    if not (GOLDEN / "options.json").is_file():
        pytest.skip(f"no options.json in {GOLDEN} (set AESOP_GOLDEN)")
    published = json.loads((GOLDEN / "options.json").read_text())[f"test/AESOP/main/{name}"]["yaml"]
    config = resolved(write(yaml.safe_dump(published)))
    assert config.train is None
    assert [data.name for data in config.datasets.measured("test").values()] == [
        published["datasets"][section]["name"] for section in published["datasets"]
    ]


def leaves(node: Any, prefix: str = ""):
    if isinstance(node, dict) and node:
        for key, value in node.items():
            yield from leaves(value, f"{prefix}.{key}" if prefix else key)
    else:
        yield prefix, node


def look_up(node: Any, path: str) -> Any:
    for part in path.split("."):
        node = node[part]
    return node


# --- pipelines ---------------------------------------------------------------------------------------------------------


def configs_of(path: Path, *overrides: str) -> dict[str, Config]:
    steps = plan(path, overrides)
    assert list(steps) == list(STAGES)
    return {stage: step for stage, step in steps.items() if isinstance(step, Config)}


def test_each_stage_gets_the_weights_of_the_ones_before(write):
    steps = configs_of(write(PIPELINE))
    psnr, autoencoder, adversarial = (steps[stage] for stage in STAGES)
    assert [steps[stage].stage for stage in STAGES] == list(STAGES)
    assert [steps[stage].name for stage in STAGES] == ["run/1_psnr", "run/2_autoencoder", "run/3_adversarial"]
    assert final_model(psnr) == Path("exp/run/1_psnr/models/net_g_00000005.safetensors")
    assert autoencoder.path.pretrain_network_decoder == str(final_model(psnr))
    assert autoencoder.path.pretrain_network_g is None
    assert adversarial.path.pretrain_network_g == str(final_model(psnr))
    assert adversarial.train
    assert adversarial.train.aesop_opt
    assert adversarial.train.aesop_opt.autoencoder_load
    assert adversarial.train.aesop_opt.autoencoder_load.path == str(final_model(autoencoder))
    assert adversarial.train.aesop_opt.loss_weight == 2
    assert isinstance(autoencoder.network_g, AutoEncoderOptions)
    assert autoencoder.network_g.dec_opt == psnr.network_g == adversarial.network_g
    assert psnr.network_d is None


def test_an_autoencoder_of_its_own_keeps_its_options(write):
    own = "{type: AutoEncoder_RRDBNet, enc_opt: {num_feat: 32}, dec_opt: {type: RRDBNet, num_feat: 16, num_block: 1}}"
    network = configs_of(write(PIPELINE), f"stages.autoencoder.network_g={own}")["autoencoder"].network_g
    assert isinstance(network, AutoEncoderOptions)
    assert network.enc_opt.num_feat == 32
    assert network.dec_opt.num_grow_ch == 32  # a network of another type replaces the shared one whole


def test_stage_options_go_over_shared_ones_and_overrides_over_both(write):
    path = write(PIPELINE.replace("psnr:\n", "psnr:\n    datasets: {train: {gt_size: 64}}\n"))
    steps = configs_of(path, "manual_seed=3", "stages.autoencoder.train.total_iter=9")
    sizes = [step.datasets.train.gt_size for step in steps.values() if step.datasets.train]
    assert sizes == [64, 32, 32]
    assert {step.manual_seed for step in steps.values()} == {3}
    assert [step.train.total_iter for step in steps.values() if step.train] == [5, 9, 7]


def test_weights_skip_a_stage_and_are_handed_on(write, tmp_path):
    weights = tmp_path / "published.pth"
    weights.touch()
    steps = plan(write(PIPELINE.replace("train: {total_iter: 5, pixel_opt: {type: L1Loss}}", f"weights: {weights}")))
    assert steps["psnr"] == weights
    autoencoder, adversarial = steps["autoencoder"], steps["adversarial"]
    assert isinstance(autoencoder, Config)
    assert isinstance(adversarial, Config)
    assert autoencoder.path.pretrain_network_decoder == str(weights)
    assert adversarial.path.pretrain_network_g == str(weights)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "    train: {total_iter: 5, pixel_opt: {type: L1Loss}}",
            "    weights: nowhere.pth",
            "stages.psnr.weights: nowhere.pth does not exist",
        ),
        (
            "  psnr:\n    train: {total_iter: 5, pixel_opt: {type: L1Loss}}\n",
            "",
            "stages.psnr is missing; give its options, or `weights: FILE` to skip it",
        ),
        ("  psnr:\n", "  pnsr:\n", "unknown stage pnsr; the stages are psnr, autoencoder, adversarial, in that order"),
        (
            "    train: {total_iter: 5, pixel_opt: {type: L1Loss}}",
            "    5",
            "stages.psnr must be a mapping of options, found 5",
        ),
        (
            "    train: {total_iter: 5, pixel_opt: {type: L1Loss}}",
            "    scale: 4",
            "stages.psnr.train: missing; give at least total_iter and the losses",
        ),
    ],
)
def test_what_is_wrong_with_the_stages(write, old, new, expected):
    assert PIPELINE.count(old) == 1
    path = write(PIPELINE.replace(old, new))
    text = message(path, read=plan)
    assert str(path) in text
    assert expected in text


def test_faults_of_all_stages_are_reported_together_with_their_lines(write):
    text = PIPELINE.replace("gt_size: 32", "gt_sise: 32").replace("total_iter: 6", "total_itr: 6")
    assert faults(write(text.replace("aesop_opt", "aesopopt")), read=plan) == [
        "line 4: datasets.train.gt_sise: unknown option; did you mean gt_size? (stage psnr, autoencoder, adversarial)",
        "line 10: train.total_iter: missing (stage autoencoder)",
        "line 10: train.total_itr: unknown option; did you mean total_iter? (stage autoencoder)",
        "line 13: train.aesopopt: unknown option; did you mean aesop_opt? (stage adversarial)",
    ]


@pytest.mark.parametrize("override", ["path=5", "network_g=RRDBNet", "stages.adversarial.train=[1]"])
def test_groups_that_are_no_groups_are_faults_too(write, override):
    found = faults(write(PIPELINE), override, read=plan)
    assert any("must hold options" in fault for fault in found)


def test_an_empty_path_group_gets_the_hand_over(write):
    steps = configs_of(write(PIPELINE.replace("path: {experiments_root: exp}", "path:")))
    assert steps["adversarial"].path.pretrain_network_g == str(final_model(steps["psnr"]))


def test_single_stage_and_pipeline_files_point_to_each_other(write):
    path = write(PIPELINE)
    assert message(path) == f"{path} describes several stages: run it with `aesop pipeline {path}`"
    path = write(PSNR)
    assert message(path, read=plan).endswith(f"no `stages` section; for a single stage use `aesop train {path}`")


# --- recipes and schema ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_recipes_resolve_without_notes(path):
    text = path.read_text()
    verb = re.search(rf"^#   aesop (\w+) configs/{path.name}", text, re.M)
    assert verb, "the first lines of a recipe give its command"
    if verb[1] == "pipeline":
        steps = configs_of(path)
        assert len(steps) == 3
        assert all(step.train is not None for step in steps.values())
        return
    config, notes = load_config(path)
    assert notes == []
    assert (config.train is None) == (verb[1] == "test")
    assert config.path.pretrain_network_g or verb[1] != "test"


def test_there_are_recipes():
    names = {path.stem for path in CONFIGS}
    assert {"psnr_rrdb", "autoencoder_rrdb", "aesop_rrdb", "pipeline_compact", "test_rrdb"} <= names


@pytest.mark.parametrize(
    ("recipe", "published"),
    [
        ("aesop_rrdb", "train/AESOP/train_Synthetic_AESOP_RRDB.yml"),
        ("autoencoder_rrdb", "train/AutoEncoder/train_Synthetic_AE_RRDB_LRrecon1.yml"),
    ],
)
def test_recipes_train_as_the_published_files_do(write, recipe, published):
    if not (GOLDEN / "options.json").is_file():
        pytest.skip(f"no options.json in {GOLDEN} (set AESOP_GOLDEN)")
    theirs = json.loads((GOLDEN / "options.json").read_text())[published]["yaml"]
    theirs, _ = load_config(write(yaml.safe_dump(theirs)))
    ours, _ = load_config(REPO / "configs" / f"{recipe}.yml")
    assert ours.network_g == theirs.network_g
    assert ours.network_d == theirs.network_d
    assert ours.train
    assert theirs.train
    for config in (ours, theirs):  # where weights are, and a schedule whose factor is 1, make no difference
        assert config.train
        assert config.train.scheduler.gamma == 1 or not config.train.scheduler.milestones
        config.train.scheduler = type(config.train.scheduler)()
        if config.train.aesop_opt:
            config.train.aesop_opt.autoencoder_load = None
    theirs.train.ema_warmup = ours.train.ema_warmup  # only an average of ours warms up
    assert ours.train == theirs.train
    for name in ("gt_size", "batch_size_per_gpu", "use_flip", "use_rot"):
        assert getattr(ours.datasets.train, name) == getattr(theirs.datasets.train, name), name


def test_every_option_is_documented_in_the_schema():
    schema = Config.model_json_schema()
    groups = {**schema["$defs"], "Config": schema}
    assert len(groups) > 15
    undocumented = [
        f"{group}.{option}"
        for group, described in groups.items()
        for option, entry in described.get("properties", {}).items()
        if not entry.get("description", "").strip()
    ]
    assert undocumented == []


def test_the_schema_refuses_unknown_options():
    assert Config.model_json_schema()["additionalProperties"] is False


def test_raw_pipeline_options_do_not_share_groups(write):
    merged, _ = load_pipeline(write(PIPELINE))
    merged["psnr"]["datasets"]["train"]["gt_size"] = 7
    assert merged["autoencoder"]["datasets"]["train"]["gt_size"] == 32


def test_defaults_are_not_shared_between_files(write):
    first, second = resolved(write(PSNR)), resolved(write(PSNR), "scale=2")
    assert isinstance(first.network_g, RRDBNetOptions)
    assert (first.network_g.scale, second.network_g.scale) == (4, 2)
    first.val.metrics["extra"] = first.val.metrics["psnr"]
    first.path.param_key_g = "changed"
    third = resolved(write(PSNR))
    assert "extra" not in third.val.metrics
    assert third.path.param_key_g is None
