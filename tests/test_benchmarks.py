"""The baselines of the benchmarks: that they compute what they stand for."""

import importlib
import itertools
import re
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "reproduction"))
sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import evidence
import precision
import training_step
import ways
from training_step import PublishedWork, Recipe, ours

TINY = {"type": "RRDBNet", "num_feat": 16, "num_block": 1, "num_grow_ch": 4}
AUTOENCODER = {"type": "AutoEncoder_RRDBNet", "dec_opt": TINY}
REPO = evidence.REPO
SCRIPTS = sorted([*REPO.glob("benchmarks/*.py"), *REPO.glob("reproduction/*.py")])
UNET = {"type": "UNetDiscriminatorSN", "num_feat": 4}


@pytest.mark.parametrize(
    "recipe",
    [Recipe(32, 1, TINY, UNET), Recipe(32, 1, TINY, UNET, 0.1, published=False), Recipe(32, 1, AUTOENCODER)],
    ids=["adversarial", "realworld", "autoencoder"],
)
def test_the_published_work_moves_the_generator_as_our_step_does(recipe, monkeypatch):
    monkeypatch.setattr(training_step, "AUTOENCODER", AUTOENCODER)
    plain, stage = PublishedWork(recipe, torch.device("cpu")), ours(recipe, "fp32", torch.device("cpu"))[0]
    nets = {"net_g": plain.net_g, "net_g_ema": plain.net_g_ema} | ({"net_d": plain.net_d} if recipe.network_d else {})
    for name, net in nets.items():
        stage.networks[name].load_state_dict(net.state_dict())
    if recipe.network_d is not None:
        stage.terms["aesop_opt"].loss.autoencoder.load_state_dict(plain.autoencoder.state_dict())
        stage.terms["perceptual_opt"].loss.vgg.load_state_dict(plain.vgg.state_dict())
    generator = torch.Generator().manual_seed(0)
    # Adam's first steps are the learning rate times the gradient's sign, whatever its size, but for a large epsilon.
    optimizers = [plain.optimizer_g, *([plain.optimizer_d] if recipe.network_d else []), *stage.optimizers.values()]
    for group in (group for optimizer in optimizers for group in optimizer.param_groups):
        group |= {"lr": 1e-3, "eps": 1e-3}
    before = [p.detach().clone() for p in plain.net_g.parameters()]
    for _ in range(2):
        lq, gt = torch.rand(1, 3, 8, 8, generator=generator), torch.rand(1, 3, 32, 32, generator=generator)
        plain.step(lq, gt)
        stage.step(lq, gt, 1)
    for name, net in list(nets.items())[:2]:
        for theirs, mine, start in zip(net.parameters(), stage.networks[name].parameters(), before, strict=True):
            moved = (theirs - start).abs().max()
            assert (mine - theirs).abs().max() <= 0.02 * moved + 1e-7


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_every_script_finds_what_it_imports(script):
    importlib.import_module(script.stem)


def test_the_dense_block_as_sums_is_the_dense_block():
    torch.manual_seed(0)
    block, x = ways.ResidualDenseBlock(16, 4), torch.rand(1, 16, 6, 6)
    with torch.no_grad():
        torch.testing.assert_close(ways.in_one_buffer(block, x), block(x))


def test_shares_within_the_range_of_others():
    runs = [{"loss": [value, 1.0]} for value in (1.0, 2.0, 3.0)]
    found = {"fp32": runs, "bf16": [{"loss": [2.5, 1.0]}, {"loss": [9.0, 1.0]}, {"loss": [0.0, 2.0]}]}
    rows = {row["way"]: row for row in precision.compare(found)}
    # In the second window all fp32 runs are equal; in the first only the middle one lies between the others.
    assert rows["fp32"]["within_two"] == pytest.approx(4 / 6)
    assert rows["bf16"]["within_three"] == pytest.approx(3 / 6)
    # Of three pairs, (1, 2), (1, 3) and (2, 3), two hold 2.5; none holds 9 or 0; 1.0 lies in all, 2.0 in none.
    assert rows["bf16"]["within_two"] == pytest.approx((2 + 3 + 3) / 18)


def test_every_page_of_the_evidence_says_how_it_is_made():
    pages = {path.stem for path in (REPO / "docs" / "evidence").glob("*.md")} - {"index"}
    assert set(evidence.SCRIPTS) | set(evidence.BY_HAND) == pages
    assert not set(evidence.SCRIPTS) & set(evidence.BY_HAND)


@pytest.mark.parametrize("command", [command for scripts in evidence.SCRIPTS.values() for command, _ in scripts])
def test_scripts_of_the_evidence_have_the_options_shown(command):
    script, *words = command.removeprefix("-m aesop").split()
    if command.startswith("-m"):
        script = "src/aesop/cli.py"
    text = (REPO / script).read_text(encoding="utf-8")
    for word, following in itertools.pairwise([*words, "--"]):
        if not word.startswith("-"):
            continue
        assert f'"{word}"' in text
        declared = re.search(rf'add_argument\((?:"-\w", )?"{word}".*', text)
        if declared is not None:  # not one of a test's or a command's
            assert ("store_true" in declared[0]) == following.startswith("-"), declared[0]


def test_a_need_that_is_missing_is_said():
    here, absent, given = evidence.Need("a", lambda: True), evidence.Need("b [c]", lambda: False), evidence.Need("d")
    assert "b \\[c]" in evidence.state([here, absent, given])
    assert evidence.state([here, given]).endswith("with d")


def test_every_benchmark_is_described():
    described = (REPO / "benchmarks" / "README.md").read_text(encoding="utf-8")
    helpers = {"record.py", "enlarged_photographs.py", "evidence.py"}
    for script in (REPO / "benchmarks").glob("*.py"):
        assert f"`{script.name}`" in described or script.name in helpers, script.name
