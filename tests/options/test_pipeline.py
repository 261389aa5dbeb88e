"""Pipeline files: what is shared, what each stage changes, and the weights it gets."""

from pathlib import Path

import pytest
from option_texts import PIPELINE, PSNR, faults, message

from aesop.archs import AutoEncoderOptions
from aesop.options.config import STAGES, TrainConfig
from aesop.options.pipeline import load_pipeline, plan


def configs_of(path: Path, *overrides: str) -> dict[str, TrainConfig]:
    steps = plan(path, overrides)
    assert list(steps) == list(STAGES)
    return {stage: step for stage, step in steps.items() if isinstance(step, TrainConfig)}


def test_each_stage_gets_the_weights_of_the_ones_before(write):
    steps = configs_of(write(PIPELINE))
    psnr, autoencoder, adversarial = (steps[stage] for stage in STAGES)
    assert [steps[stage].stage for stage in STAGES] == list(STAGES)
    assert [steps[stage].name for stage in STAGES] == ["run/1_psnr", "run/2_autoencoder", "run/3_adversarial"]
    assert psnr.final_model == Path("exp/run/1_psnr/models/net_g_00000005.safetensors")
    assert autoencoder.path.pretrain_network_decoder == str(psnr.final_model)
    assert autoencoder.path.pretrain_network_g is None
    assert adversarial.path.pretrain_network_g == str(psnr.final_model)
    assert adversarial.train.aesop_opt
    assert adversarial.train.aesop_opt.autoencoder_load
    assert adversarial.train.aesop_opt.autoencoder_load.path == str(autoencoder.final_model)
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


def test_the_encoder_of_the_autoencoder_can_be_set_alone(write):
    usual = configs_of(write(PIPELINE))["autoencoder"].network_g
    wider = configs_of(write(PIPELINE), "stages.autoencoder.network_g.enc_opt.num_feat=64")["autoencoder"].network_g
    assert isinstance(usual, AutoEncoderOptions)
    assert isinstance(wider, AutoEncoderOptions)
    assert wider.enc_opt.num_feat == 64 != usual.enc_opt.num_feat
    assert wider.dec_opt == usual.dec_opt


def test_stage_options_go_over_shared_ones_and_overrides_over_both(write):
    path = write(PIPELINE.replace("psnr:\n", "psnr:\n    datasets: {train: {gt_size: 64}}\n"))
    steps = configs_of(path, "manual_seed=3", "stages.autoencoder.train.total_iter=9")
    sizes = [step.datasets.train.gt_size for step in steps.values()]
    assert sizes == [64, 32, 32]
    assert {step.manual_seed for step in steps.values()} == {3}
    assert [step.train.total_iter for step in steps.values()] == [5, 9, 7]


def test_an_override_of_a_stage_beats_one_of_all_stages(write):
    steps = configs_of(write(PIPELINE), "stages.psnr.train.total_iter=24", "train.total_iter=20")
    assert [step.train.total_iter for step in steps.values()] == [24, 20, 20]


def test_a_misspelt_option_of_a_stage_is_named_as_it_was_typed(write):
    found = faults(write(PIPELINE), "stages.autoencoder.total_iter=3", read=plan)
    assert any(fault.startswith("stages.autoencoder.total_iter: unknown") for fault in found), found


def test_weights_skip_a_stage_and_are_handed_on(write, tmp_path):
    weights = tmp_path / "published.pth"
    weights.touch()
    steps = plan(write(PIPELINE.replace("train: {total_iter: 5, pixel_opt: {type: L1Loss}}", f"weights: {weights}")))
    assert steps["psnr"] == weights
    autoencoder, adversarial = steps["autoencoder"], steps["adversarial"]
    assert isinstance(autoencoder, TrainConfig)
    assert isinstance(adversarial, TrainConfig)
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
            "stages.psnr holds None; give its options, or `weights: FILE` to skip it",
        ),
        ("  psnr:\n", "  pnsr:\n", "unknown stage pnsr; the stages are psnr, autoencoder, adversarial, in that order"),
        (
            "    train: {total_iter: 5, pixel_opt: {type: L1Loss}}",
            "    5",
            "stages.psnr holds 5; give its options, or `weights: FILE` to skip it",
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
        "line 10: stages.autoencoder.train.total_itr: unknown option; did you mean total_iter?",
        "line 13: stages.adversarial.train.aesopopt: unknown option; did you mean aesop_opt?",
    ]


@pytest.mark.parametrize("override", ["path=5", "network_g=RRDBNet", "stages.adversarial.train=[1]"])
def test_groups_that_are_no_groups_are_faults_too(write, override):
    found = faults(write(PIPELINE), override, read=plan)
    assert any("must hold options" in fault for fault in found)


def test_an_empty_path_group_gets_the_hand_over(write):
    steps = configs_of(write(PIPELINE.replace("path: {experiments_root: exp}", "path:")))
    assert steps["adversarial"].path.pretrain_network_g == str(steps["psnr"].final_model)


def test_a_stage_may_name_another_start(write):
    text = PIPELINE.replace("path: {experiments_root: exp}", "path: {experiments_root: exp, pretrain_network_g: shared.pth}")
    given = "stages.adversarial.path.pretrain_network_g=own.pth"
    for overrides, start in (((), "exp/run/1_psnr/models/net_g_00000005.safetensors"), ((given,), "own.pth")):
        steps = configs_of(write(text), *overrides)
        assert steps["psnr"].path.pretrain_network_g == "shared.pth"
        assert steps["adversarial"].path.pretrain_network_g == start


def test_single_stage_and_pipeline_files_point_to_each_other(write):
    path = write(PIPELINE)
    assert message(path) == f"{path} describes several stages: run it with `aesop pipeline {path}`"
    path = write(PSNR)
    assert message(path, read=plan).endswith(f"no `stages` section; for a single stage use `aesop train {path}`")


def test_raw_pipeline_options_do_not_share_groups(write):
    merged, _ = load_pipeline(write(PIPELINE))
    merged["psnr"]["datasets"]["train"]["gt_size"] = 7
    assert merged["autoencoder"]["datasets"]["train"]["gt_size"] == 32


def test_a_fault_of_a_shared_override_is_reported_once(write):
    (fault,) = faults(write(PIPELINE), "train.max_skipped=0", read=plan)
    assert fault.startswith("train.max_skipped: ")
    assert fault.endswith("(stage psnr, autoencoder, adversarial)")
