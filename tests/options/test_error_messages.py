"""Faults of option files: all of a file at once, with line, nearest name and remedy."""

import re

import pytest
from option_texts import PSNR, faults, message


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
        "line 17: train.warp: unknown option; known: pixel_opt, .*total_iter",
        "line 20: val.metrics.psnr.crop_bordr: unknown option; did you mean crop_border?",
    ):
        assert any(re.match(expected, fault) for fault in found), (expected, found)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("network_g.type=RDBNet", "line 2: network_g: there is no network .RDBNet.; did you mean RRDBNet\\?"),
        (
            "network_g={num_feat: 8}",
            r"network_g.type: missing; known: RRDBNet, MSRResNet, EDSR, SPSRNet, AutoEncoder_RRDBNet",
        ),
        ("network_g=RRDBNet", "network_g: must hold options .*found 'RRDBNet'"),
        ("train=5", "train: must hold options .*found 5"),
        ("datasets.val=3", "datasets.val: must hold options .*found 3"),
        ("datasets.trian.dataroot_gt=hr", "datasets: unknown section trian: use train, val..., or test..."),
        ("datasets.train_2.dataroot_gt=hr", "datasets: unknown section train_2: use train, val"),
        ("datasets.train.filename_tmpl=x4", r"filename_tmpl: string should match pattern .*\{.*found 'x4'"),
        ("datasets.train.filename_tmpl='{name}x4'", "filename_tmpl: string should match pattern .*found '{name}x4'"),
        ("precision=fp16", "precision: 'fp16' is none of 'fp32' or 'bf16'"),
        ("scale=16", "scale: 16 is none of 1, 2, 3, 4 or 8$"),
        ("train.total_iter=2.5", "train.total_iter: .*integer.*found 2.5"),
        ("train.total_iter=0", "train.total_iter: .*greater than or equal to 1, found 0"),
        ("train.ema_decay=1", "train.ema_decay: .*less than 1"),
        ("train.accumulate=17", "train.accumulate: 17 does not divide the batch_size_per_gpu of 16"),
        ("train.scheduler={type: CosineAnnealingLR, T_max: 0}", "train.scheduler.T_max: .*greater than"),
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
    assert message(path) == f"option file {path} cannot be read: it holds no options (expected `key: value` lines)"


def test_invalid_yaml_names_file_and_line(write):
    path = write("name: a\ntrain: [1\nscale: 4\n")
    text = message(path)
    assert text.startswith(f"option file {path} cannot be read")
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


def test_a_wrong_choice_is_answered_with_the_nearest_one(write):
    (fault,) = faults(write(PSNR), "train.optim_g.type=Adamm")
    assert fault.endswith(
        "train.optim_g.type: 'Adamm' is none of 'Adam', 'AdamW', 'Adan' or 'AdamWScheduleFree'; did you mean Adam?"
    )
