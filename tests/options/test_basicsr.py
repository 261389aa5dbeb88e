"""Option files of the published code and its relatives, in their layout: what becomes of each of their peculiarities."""

import pytest
import yaml
from typer.testing import CliRunner

from aesop.check.dry_run import missing_roots
from aesop.cli import app
from aesop.options.basicsr import MODEL_TYPES, from_published
from aesop.options.config import TrainConfig
from aesop.options.datasets import PairedDataset
from aesop.options.error_messages import ConfigError
from aesop.options.read import build_config, load_config

NETWORK = {"type": "RRDBNet", "num_feat": 8, "num_block": 1, "num_grow_ch": 4}
# Real-ESRGAN's layout: part of the degradation at the top, part below datasets.train; usm flags at the top.
REAL = """
name: "real:world"
model_type: RealESRGANModel
scale: 4
num_gpu: 4
l1_gt_usm: True
gan_gt_usm: False
resize_prob: [0.1, 0.8, 0.1]
jpeg_range: [40, 90]
queue_size: 24
gt_size: 64
high_order_degradation: True
datasets:
  train:
    name: DF2K
    type: RealESRGANDataset
    dataroot_gt: YOUR_HR_PATH
    meta_info: ~
    io_backend: {type: disk}
    blur_sigma: [0.3, 2]
    final_sinc_prob: 0.5
    gt_size: 64
    use_hflip: False
    use_rot: False
    use_shuffle: true
    batch_size_per_gpu: 12
network_g: {type: RRDBNet, num_feat: 8, num_block: 1, num_grow_ch: 4}
network_d: {type: UNetDiscriminatorSN, num_in_ch: 3, num_feat: 4, skip_connection: True}
path: {pretrain_network_g: YOUR_NET_PATH}
train:
  total_iter: 10
  pixel_opt: {type: L1Loss}
  gan_opt: {type: GANLoss, gan_type: vanilla, loss_weight: !!float 1e-1}
"""


@pytest.fixture
def real(tmp_path):
    path = tmp_path / "real.yml"
    path.write_text(REAL)
    return path


def test_real_esrgans_layout_is_gathered_in_the_degradation_section(real):
    config, notes = load_config(real)
    degradation = config.degradation
    assert degradation is not None
    assert (degradation.resize_prob, degradation.jpeg_range, degradation.queue_size) == ((0.1, 0.8, 0.1), (40, 90), 24)
    assert (degradation.blur_sigma, degradation.final_sinc_prob) == ((0.3, 2), 0.5)
    assert (config.datasets.train.gt_size, config.datasets.train.use_flip) == (64, False)
    assert config.train.gan_opt is not None
    assert (config.stage, config.train.gan_opt.relativistic) == ("adversarial", False)
    # What the class decides where the file is silent: sharpened for the perceptual loss; the file's own word stays.
    assert (config.train.l1_gt_usm, config.train.percep_gt_usm, config.train.gan_gt_usm) == (True, True, False)
    assert {note.split()[0] for note in notes} == {"num_gpu", "high_order_degradation", "datasets.train.use_shuffle"}
    assert TrainConfig.model_validate(yaml.safe_load(config.to_yaml())) == config


def test_a_colon_in_a_name_does_not_reach_the_file_system(real):
    config, _ = load_config(real)
    assert config.name == "real:world"
    assert config.run_folder.name == config.results_folder.name == "real_world"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("jpeg_range=[90, 40]", r"degradation: jpeg_range must be \[smallest, largest\], found \[90"),
        ("resize_prob=[0.5, 0.2, 0.1]", r"resize_prob must sum to 1, sums to 0.8"),
        ("queue_size=25", r"line 10: degradation.queue_size: 25 is no multiple of the batch_size_per_gpu 12"),
        ("gt_size=32", r"line 11: gt_size: 32 at the top, 64 in datasets.train"),
        ("degradation.blur_kernel_size=20", r"the side of a kernel must be odd: use 19 or 21"),
        ("degradation.kernel_prob=[1]", r"kernel_prob has 1 numbers for the 6 of kernel_list"),
        ("degradation.crop_pad_size=40", r"crop_pad_size: 40 must be a multiple of the scale, and at least gt_size 64"),
        ("datasets.train.dataroot_lq=lr", r"datasets.train.dataroot_lq: LR images are made by the degradation"),
        (
            "datasets.train.type=PairedImageDataset",
            r"degradation: a degradation section .* RealESRGANDataset require each other",
        ),
        ("datasets.train.type=SingleImageDataset", r"type: SingleImageDataset is for tests"),
        ("blur_sigma=wide", r"degradation.blur_sigma"),
    ],
)
def test_faults_of_the_real_world_options_name_option_and_line(real, override, message):
    with pytest.raises(ConfigError, match=message):
        load_config(real, [override])


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_every_published_model_class_becomes_a_stage(model_type):
    raw, _ = from_published({"model_type": model_type, "train": {"gan_opt": {}}})
    assert raw["stage"] == ("autoencoder" if "AEModel" in model_type else "psnr" if "Net" in model_type else raw["stage"])
    plain = model_type == "SRGANModel" or "RealESRGAN" in model_type
    assert raw["train"]["gan_opt"].get("relativistic") == (False if plain else None)
    sharpened = model_type.replace("Aesop", "").startswith("RealESRGAN")
    assert raw["train"].get("percep_gt_usm") == (True if sharpened else None)


@pytest.mark.parametrize(("given", "expected"), [({}, True), ({"gt_usm": False}, False), ({"gt_usm": True}, True)])
def test_real_esrnet_compares_with_the_sharpened_hr_unless_told_otherwise(given, expected):
    raw, _ = from_published({"model_type": "RealESRNetModel", "train": {"pixel_opt": {}}, **given})
    assert raw["train"] == {"pixel_opt": {}, "l1_gt_usm": expected, "ema_warmup": False}
    assert raw["stage"] == "psnr"
    assert "gt_usm" not in raw


def test_what_the_file_says_itself_is_not_overruled_by_the_class():
    raw, _ = from_published({"model_type": "SRGANModel", "stage": "psnr", "train": {"gan_opt": {"relativistic": True}}})
    assert raw["stage"] == "psnr"
    assert raw["train"]["gan_opt"]["relativistic"] is True


def test_basicsrs_other_names():
    raw = {
        "network_d": {"type": "VGGStyleDiscriminator", "num_feat": 8},
        "datasets": {"train": {"meta_info_file": "list.txt", "use_hflip": False}},
        "train": {"ldl_opt": {"type": "L1Loss"}},
        "val": {"pbar": False, "metrics": {"psnr": {"better": "higher"}, "ssim": {"better": "higher", "crop_border": 4}}},
    }
    made, notes = from_published(raw)
    assert made["network_d"] == {"type": "VGGStyleDiscriminator128", "num_feat": 8}
    assert made["datasets"] == {"train": {"meta_info": "list.txt", "use_flip": False}}
    assert made["train"] == {"artifacts_opt": {"type": "L1Loss"}}
    assert made["val"] == {"metrics": {"psnr": {}, "ssim": {"crop_border": 4}}}
    assert {note.split()[0] for note in notes} == {"val.pbar", "val.metrics.psnr.better", "val.metrics.ssim.better"}
    larger = {"network_d": {"type": "VGGStyleDiscriminator", "input_size": 256}}
    assert from_published(larger)[0]["network_d"] == {"type": "VGGStyleDiscriminator256"}
    assert raw["network_d"]["type"] == "VGGStyleDiscriminator"  # what was given is not changed


@pytest.mark.parametrize("name", ["RRDBNet_LEGACY", "RRDB_BSRGANNet"])
def test_former_rrdbnets_are_todays(name):
    former = {"type": name, "in_nc": 3, "out_nc": 3, "nf": 8, "nb": 1, "gc": 4}
    config, _ = build_config({"name": "x", "network_g": former}, "x")
    assert config == build_config({"name": "x", "network_g": NETWORK}, "x")[0]


def test_bsrgans_x2_network_has_one_enlargement_and_no_unshuffle():
    former = {"type": "RRDB_BSRGANNet", "nf": 8, "nb": 1, "gc": 4, "sf": 2}
    config, _ = build_config({"name": "x", "scale": 2, "network_g": former}, "x")
    assert config.network_g.model_dump()["unshuffle"] is False
    assert build_config({"name": "x", "scale": 2, "network_g": NETWORK}, "x")[0].network_g.model_dump()["unshuffle"] is True


def test_the_probabilistic_loss_is_found_under_its_published_section():
    loss = {"type": "ProbabilisticAutoEncoderReverseKLDivergenceLoss", "criterion": "forward"}
    raw, _ = from_published({"train": {"prob_aesop_opt": loss}})
    assert raw["train"] == {"aesop_opt": loss}


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ({"aesop_opt": {"type": "AutoEncoderLoss", "criterion": "reverse"}}, "criterion of AutoEncoderLoss is l1 or l2"),
        (
            {"aesop_opt": {"type": "AutoEncoderBottleneckLoss", "range_guard": "clamp"}},
            "range_guard belong to AutoEncoderLoss",
        ),
        ({"artifacts_opt": {}}, "train.artifacts_opt: the psnr stage has no such loss, only adversarial; remove it"),
        ({"sigmabranch_opt": {}}, "train.sigmabranch_opt: the psnr stage has no such loss"),
    ],
)
def test_losses_where_they_have_no_effect_are_faults(train, message):
    raw = {"name": "x", "network_g": NETWORK, "datasets": {"train": {"dataroot_gt": "x"}}}
    with pytest.raises(ConfigError, match=message):
        build_config(raw | {"train": {"total_iter": 1, "pixel_opt": {}, **train}}, "x")


def test_a_probabilistic_auto_encoder_needs_the_loss_of_its_scale():
    raw = {"name": "x", "stage": "autoencoder", "path": {"from_scratch": True}, "datasets": {"train": {"dataroot_gt": "x"}}}
    raw["network_g"] = {"type": "ProbabilisticAutoEncoder_RRDBNet", "dec_opt": NETWORK}
    with pytest.raises(ConfigError, match=r"train.sigmabranch_opt: a probabilistic auto-encoder learns its scale from it"):
        build_config(raw | {"train": {"total_iter": 1, "pixel_opt": {}}}, "x")


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ({"type": "SwinIIR"}, "there is no network 'SwinIIR'; did you mean SwinIR"),
        ({"type": "SwinIR", "embed_dims": 8}, "SwinIR has no option 'embed_dims'; did you mean embed_dim"),
        ({"type": "SwinIR", "upscale": 2}, "network_g.upscale: 2 differs from the file's scale 4"),
        ({"type": "NAFNet"}, "network_g.type: NAFNet keeps the size, which differs from the file's scale 4"),
        ({"type": "SPSRNet", "nb": 19}, r"network_g.nb: .*greater than or equal to 20"),
        ({"type": 5}, "network_g.type: missing"),
    ],
)
def test_faults_of_generators(network, message):
    with pytest.raises(ConfigError, match=message):
        build_config({"name": "x", "network_g": network}, "x")


def test_drcts_options_without_effect_get_a_line_each():
    options = {"compress_ratio": 3, "squeeze_factor": 30, "conv_scale": 0.01, "overlap_ratio": 0.5, "use_checkpoint": True}
    config, notes = build_config({"name": "x", "network_g": {"type": "DRCT", **options}}, "x")
    assert config.network_g.model_dump() == {"type": "DRCT", "use_checkpoint": True, "upscale": 4}
    assert len(notes) == 4


def invoke(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.mark.parametrize("verb", ["train", "test"])
def test_all_paths_to_fill_in_are_listed_at_once(real, verb, tmp_path):
    sets = "datasets.test_1={dataroot_gt: YOUR_SET, dataroot_lq: missing/LR}"
    result = invoke(verb, "-opt", real, sets, "path.experiments_root=" + str(tmp_path / "runs"))
    text = " ".join(result.output.split())
    assert result.exit_code == 1
    assert "path.pretrain_network_g: YOUR_NET_PATH has to be filled in" in text
    if verb == "train":
        assert "datasets.train.dataroot_gt: YOUR_HR_PATH has to be filled in" in text
    else:
        assert "datasets.test_1.dataroot_gt: YOUR_SET has to be filled in" in text
        assert "datasets.test_1.dataroot_lq: missing/LR does not exist" in text
    assert not (tmp_path / "runs").exists()


def test_a_set_is_left_out_with_null(real):
    config, _ = load_config(real, ["datasets.test_1={dataroot_gt: a}", "datasets.test_2={dataroot_gt: b}"])
    assert list(config.datasets.measured("test")) == ["test_1", "test_2"]
    config, _ = load_config(real, ["datasets.test_1={dataroot_gt: a}", "datasets.test_1=null"])
    assert not config.datasets.measured("test")


@pytest.mark.usefixtures("no_count_of_memory")
def test_the_published_form_of_the_command_takes_overrides_and_auto_resume(real):
    plain = invoke("train", real, "train.total_iter=7", "--dry-run")
    published = invoke("train", "-opt", real, "train.total_iter=7", "--auto_resume", "--dry-run")
    assert "total_iter: 7" in plain.output
    assert published.output == plain.output
    nothing = invoke("train")
    assert nothing.exit_code == 1
    assert "give an option file" in nothing.output


@pytest.mark.parametrize(("path", "expected"), [("YOUR_HR_PATH", True), ("YOUR_L`R_PATH", True), ("your_photos/HR", False)])
def test_placeholders(path, expected):
    (fault,) = missing_roots("train", PairedDataset(dataroot_gt=path))
    assert ("has to be filled in" in fault) == expected


@pytest.mark.parametrize(("given", "expected"), [({}, False), ({"unshuffle": True}, True)])
def test_bsrgans_x2_network_unless_told_otherwise(given, expected):
    raw, _ = from_published({"network_g": {"type": "RRDB_BSRGANNet", "sf": 2, **given}})
    assert raw["network_g"]["unshuffle"] is expected


def test_real_esrgans_recipe_for_given_pairs_is_a_training_without_degradation():
    raw, notes = from_published(
        {
            "model_type": "RealESRGANModel",
            "l1_gt_usm": True,
            "gan_gt_usm": False,
            "high_order_degradation": False,
            "datasets": {"train": {"type": "RealESRGANPairedDataset", "dataroot_gt": "a", "dataroot_lq": "b"}},
            "train": {"gan_opt": {}},
        }
    )
    assert raw["datasets"]["train"]["type"] == "PairedImageDataset"
    assert "degradation" not in raw
    assert raw["train"] == {"gan_opt": {"relativistic": False}, "l1_gt_usm": True, "percep_gt_usm": True,
                            "gan_gt_usm": False, "ema_warmup": False}  # fmt: skip
    assert any("high_order_degradation is ignored: " in note and "LR files" in note for note in notes)
