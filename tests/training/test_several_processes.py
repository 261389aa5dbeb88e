"""Several processes: the step, the figures and the files are those of one process with the batch of all.

Started by torchrun as a script, this file is the several processes: `work` writes what a test then looks at.
"""

import copy
import json
import math
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import yaml
from safetensors.torch import load_file
from tiny_runs import AUTOENCODER, RRDB, options, run
from torch import nn

from aesop.archs import build_network
from aesop.losses import build_losses
from aesop.losses.aesop import AESOPLoss
from aesop.options.read import build_config
from aesop.options.training import TrainOptions
from aesop.system.distributed import (
    GradientExchange,
    SyncedBatchNorm2d,
    World,
    agreed,
    average_scalars,
    gathered,
    init_distributed,
    largest,
    synchronised,
)
from aesop.training.adversarial_stage import AdversarialStage
from aesop.training.autoencoder_stage import AutoEncoderStage
from aesop.training.build_stage import build_stage
from aesop.training.checkpoint import states
from aesop.training.progress import Progress
from aesop.training.stage import Stage
from aesop.training.validation import Validation

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
TORCHRUN = [sys.executable, "-m", "torch.distributed.run"]
UNET = {"type": "UNetDiscriminatorSN", "num_feat": 4}
VGG = {"type": "VGGStyleDiscriminator128", "num_feat": 2}
STEPS = 3


def torchrun(*command: str, check: bool = True, processes: int = 2) -> subprocess.CompletedProcess:
    ended = subprocess.run(
        [*TORCHRUN, "--standalone", f"--nproc-per-node={processes}", *command],
        check=False, env=ENVIRONMENT, timeout=300, capture_output=True, text=True,
    )  # fmt: skip
    assert not check or ended.returncode == 0, ended.stdout + ended.stderr
    return ended


# --- one step ----------------------------------------------------------------------------------------------------------

# Case -> (discriminator, training options); without a discriminator the psnr stage.
GANS = {
    "plain": (UNET, {"gan_opt": {"relativistic": False}}),
    "relativistic, UNet": (UNET, {"gan_opt": {}, "aesop_opt": {}, "artifacts_opt": {}}),
    "relativistic, VGG": (VGG, {"gan_opt": {}, "aesop_opt": {}, "artifacts_opt": {}}),
    "plain, VGG": (VGG, {"gan_opt": {"relativistic": False}, "pixel_opt": {}}),
    "lsgan": (UNET, {"gan_opt": {"gan_type": "lsgan"}, "net_d_published_passes": True}),
    "plain, in parts": (UNET, {"gan_opt": {"relativistic": False}, "pixel_opt": {}, "accumulate": 2, "net_d_iters": 2}),
}
# A clipped gradient is the same only if the average over the processes is clipped.
OPTIMIZERS = {
    f"psnr, {kind}, clipped": {"type": kind, "lr": 1e-3, "clip_norm": 1e-3} for kind in ("AdamWScheduleFree", "Adan")
}
CASES = [
    "psnr",
    "psnr with BatchNorm",
    "psnr, in parts",
    *OPTIMIZERS,
    "autoencoder",
    "autoencoder with a frozen decoder",
    *GANS,
]


def make_stage(case: str, world: World) -> Stage:
    torch.manual_seed(0)
    common = {"total_iter": STEPS, "optim_g": {"lr": 1e-3}, "optim_d": {"lr": 1e-3}}
    if case == "psnr with BatchNorm":
        net = nn.Sequential(
            nn.Conv2d(3, 6, 3, 1, 1, bias=False), nn.BatchNorm2d(6), nn.Conv2d(6, 3, 3, 1, 1), nn.Upsample(scale_factor=4)
        )
        return Stage(TrainOptions(**common, pixel_opt={}), net, world)
    if case == "psnr, in parts":
        net = build_network(RRDB | {"use_checkpoint": True})
        return Stage(TrainOptions(**common, pixel_opt={}, accumulate=2), net, world)
    net = build_network(AUTOENCODER if "autoencoder" in case else RRDB)
    if case in OPTIMIZERS:
        return Stage(TrainOptions(**common | {"optim_g": OPTIMIZERS[case]}, pixel_opt={}), net, world)
    if case == "psnr":
        return Stage(TrainOptions(**common, pixel_opt={}), net, world)
    if "autoencoder" in case:
        frozen = {"freeze_decoder": 1} if "frozen" in case else {}
        return AutoEncoderStage(TrainOptions(**common, pixel_opt={}, pixel_at_LR_opt={}, **frozen), net, world)
    discriminator, losses = GANS[case]
    train_options, net_d, autoencoder = (
        TrainOptions(**common, **losses),
        build_network(discriminator),
        build_network(AUTOENCODER),
    )
    ready = {"aesop_opt": AESOPLoss(autoencoder)}
    return AdversarialStage(train_options, net, net_d, world, losses=build_losses(train_options, world=world, ready=ready))


def make_batch(case: str, step: int) -> list[torch.Tensor]:
    """Four LR and HR images of decreasing brightness, so that the processes' own means differ."""
    side = 32 if "VGG" in case else 8
    generator = torch.Generator().manual_seed(step)
    lq = torch.rand(4, 3, side, side, generator=generator) * torch.tensor([1.0, 0.9, 0.3, 0.1]).view(4, 1, 1, 1)
    return [lq, nn.functional.interpolate(lq, scale_factor=4, mode="bicubic").square()]


def take_steps(case: str, world: World) -> dict:
    stage = make_stage(case, world)
    start = copy.deepcopy({name: net.state_dict() for name, net in stage.networks.items()})
    scalars, gradients = [], {}
    for step in range(1, STEPS + 1):
        # Part k of one process's batch is then the processes' parts k.
        lq, gt = (images[world.rank :: world.size] for images in make_batch(case, step))
        scalars.append(average_scalars(world, stage.step(lq, gt, step)))
        if step == 1:
            trained = {name: net for name, net in stage.networks.items() if name != "net_g_ema"}
            gradients = {
                f"{name}.{k}": p.grad.clone()
                for name, net in trained.items() for k, p in net.named_parameters() if p.grad is not None
            }  # fmt: skip
    return {
        "scalars": scalars,
        "gradients": gradients,
        "start": start,
        "end": {name: net.state_dict() for name, net in stage.networks.items()},
    }


def work(folder: Path, photos: Path) -> None:
    with init_distributed("cpu") as world:
        with in_buckets_of(4096):
            result = {case: take_steps(case, world) for case in CASES}
            result["compressed"] = averaged(world, "bf16")
            result["uncompressed"] = averaged(world, "none")
        result["exchanged"] = exchanged(world)
        result["exchanged by a GAN"] = exchanged_by_a_gan(world)
        result["agreed"] = [
            str(agreed(world, Path(f"of {world.rank}"))),
            largest(world, world.rank),
            largest(world, 0),
        ]
        result["gathered"] = [gathered(world, list(range(world.rank, n, world.size))) for n in range(6)]
        result["validation"] = validate(world, photos, folder / "two")
        torch.save(result, folder / f"rank_{world.rank}.pt")


def own_gradients(rank: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(10 + rank)
    sizes = 10.0 ** torch.arange(-3, 5)
    return [torch.randn(8, 50, generator=generator) * sizes[:, None], torch.randn(7, generator=generator)]


@contextmanager
def in_buckets_of(size: int) -> Generator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("aesop.system.distributed.BUCKET", size)
        yield


def averaged(world: World, compression: str) -> list[torch.Tensor]:
    net = nn.ParameterList([nn.Parameter(torch.zeros_like(g)) for g in own_gradients(0)])
    exchange = GradientExchange(world, net, compression)
    exchange.start()
    for parameter, gradient in zip(net, own_gradients(world.rank), strict=True):
        parameter.grad = gradient
    exchange.finish(torch.zeros(()))
    return [parameter.grad for parameter in net]


@contextmanager
def recorded() -> Generator[list]:
    """The number of elements of each all-reduce, when it starts."""
    events = []
    with pytest.MonkeyPatch.context() as patch:
        all_reduce = dist.all_reduce

        def recording(tensor: torch.Tensor, *arguments, **options):
            events.append(tensor.numel())
            return all_reduce(tensor, *arguments, **options)

        patch.setattr("torch.distributed.all_reduce", recording)
        yield events


def three_layers() -> nn.Sequential:
    """Layers of 224, 584 and 432 parameters, 5 parameters that nothing uses, and 7 that never need a gradient."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3, 1, 1), nn.Conv2d(8, 8, 3, 1, 1), nn.Conv2d(8, 48, 1), nn.PixelShuffle(4))
    net.register_parameter("unused", nn.Parameter(torch.ones(5)))
    net.register_parameter("frozen", nn.Parameter(torch.ones(7), requires_grad=False))
    return net


def exchanged(world: World) -> dict:
    """Steps in two parts with a bucket per layer. In the second step one process's loss is NaN, its gradients are not."""
    net, spoilt = three_layers(), torch.zeros(())
    found: dict = {"events": [], "weights": [], "skipped": []}

    def loss(sr: torch.Tensor, hr: torch.Tensor) -> torch.Tensor:
        return (sr - hr).abs().mean() + spoilt

    train_options = TrainOptions(total_iter=STEPS, pixel_opt={}, accumulate=2, ema_decay=0)
    stage = Stage(train_options, net, world, losses={"pixel_opt": loss})
    with in_buckets_of(1500), recorded() as events:
        net[0].weight.register_hook(lambda grad: events.append("the first layer"))
        for step in range(1, STEPS + 1):
            spoilt.fill_(math.nan if (step, world.rank) == (2, 1) else 0)
            stage.step(*(images[world.rank :: world.size] for images in make_batch("psnr", step)), step)
            found["events"].append(events.copy())
            found["weights"].append(copy.deepcopy(net.state_dict()))
            found["skipped"].append(stage.skipped.item())
            if step == 2:
                found["finite"] = all(p.grad.isfinite().all() for p in net[1].parameters())
            events.clear()
    found["without gradient"] = [name for name, p in net.named_parameters() if p.grad is None]
    found["without moments"] = [name for name, p in net.named_parameters() if p not in stage.optimizers["optimizer_g"].state]
    return found


def exchanged_by_a_gan(world: World) -> list[list[int]]:
    stage, counts = make_stage("plain, in parts", world), []
    for step in (1, 2):
        with recorded() as events:
            stage.step(*(images[world.rank :: world.size] for images in make_batch("plain", step)), step)
        counts.append(events)
    return counts


def validate(world: World, photos: Path, root: Path) -> dict:
    raw = options("psnr", photos, root, 4, "validated", ema_decay=0)
    raw["datasets"]["val_2"] = raw["datasets"]["val"] | {"name": "again"}
    raw["val"] |= {"save_img": True, "metrics": {"psnr": {}, "ssim": {}}}
    raw["val"] |= {"front": {"distortion": "psnr", "perception": "ssim"}, "early_stop": {"patience": 1}}
    config, _ = build_config(raw, "test")
    stage, progress = build_stage(config, world), Progress(iteration=2)
    validation = Validation(config, stage, world)
    figures = validation.run_if_due(progress)
    assert stage.net_g.training
    found = {
        "figures": figures,
        "best": progress.best,
        "front": [*progress.front],
        "reason": validation.stop_reason(progress),
    }
    progress.iteration = 4
    validation.run_if_due(progress)  # the same weights: no news
    return found | {"later": validation.stop_reason(progress), "still": progress.front == found["front"]}


@pytest.fixture(scope="module")
def several(tmp_path_factory) -> tuple[Path, Path, list[dict]]:
    """(folder, photographs, what each of two processes found)."""
    import cv2
    import numpy as np

    folder = tmp_path_factory.mktemp("several")
    photos = folder / "photos"
    photos.mkdir()
    rng = np.random.default_rng(1)
    for k in range(5):
        cv2.imwrite(str(photos / f"photo_{k}.png"), rng.integers(0, 256, (40, 48, 3), dtype=np.uint8))
    torchrun(__file__, str(folder), str(photos))
    return folder, photos, [torch.load(folder / f"rank_{rank}.pt") for rank in range(2)]


def test_the_main_process_decides_and_one_suffices_to_object(several):
    for found in several[2]:
        assert found["agreed"] == ["of 0", 1, 0]


def relative_distance(a: dict, b: dict, scale: dict | None = None) -> float:
    """||a - b|| / ||a - scale|| over the tensors of a network; without `scale` ||a - b|| / ||a||."""
    apart = sum((a[k].double() - b[k].double()).pow(2).sum().item() for k in a)
    size = sum((a[k].double() - (scale[k].double() if scale else 0)).pow(2).sum().item() for k in a)
    return math.sqrt(apart / size)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_two_processes_take_the_step_of_the_doubled_batch(case, several):
    one, (two, other) = take_steps(case, World()), [found[case] for found in several[2]]
    assert one["gradients"].keys() == two["gradients"].keys()
    for net in ("net_g", "net_d"):
        first = {k: g for k, g in one["gradients"].items() if k.startswith(f"{net}.")}
        if first:
            assert relative_distance(first, two["gradients"]) < 1e-4
    for a, b in zip(one["scalars"], two["scalars"], strict=True):
        if "relativistic" in case:
            # Only their difference matters: the discriminator's last bias has no gradient, and Adam steps by its rounding.
            for scalars in (a, b):
                scalars["out_d"] = scalars.pop("out_d_real") - scalars.pop("out_d_fake")
        assert a == pytest.approx(b, rel=1e-4, abs=1e-6)
    for name, end in one["end"].items():
        assert end.keys() == two["end"][name].keys()
        buffers = {k for k in end if k.endswith(("running_mean", "running_var", "num_batches_tracked"))}
        for key in buffers:
            torch.testing.assert_close(two["end"][name][key], end[key], rtol=1e-4, atol=1e-6)
        weights = {k: v for k, v in end.items() if k not in buffers}
        assert relative_distance(weights, two["end"][name], one["start"][name]) < 0.02
        for key in end:
            assert torch.equal(two["end"][name][key], other["end"][name][key]), "the processes drift apart"


@pytest.mark.slow
def test_compressed_gradients_lie_within_the_rounding_of_bfloat16(several):
    shares = [own_gradients(rank) for rank in range(2)]
    for found in several[2]:
        for k, (rounded, exact) in enumerate(zip(found["compressed"], found["uncompressed"], strict=True)):
            a, b = (share[k].double() for share in shares)
            torch.testing.assert_close(exact.double(), (a + b) / 2, rtol=1e-6, atol=1e-6)
            assert rounded.dtype == torch.float32
            # Both summands and their sum are rounded to 8 significant bits.
            bound = 2**-8 * (a.abs() + b.abs()) / 2 * (2 + 2**-8)
            error = (rounded.double() - (a + b) / 2).abs()
            assert (error <= bound).all()
            assert error.max() > 0


def test_gradients_travel_once_per_step_and_while_the_backward_pass_runs(several):
    """After the last part's gradients; the last layer first. The first layer is sent with those that nothing uses."""
    for found in several[2]:
        assert found["exchanged"]["events"] == [["the first layer", 432, 584, "the first layer", 224 + 5, 1]] * STEPS


def test_every_network_that_is_updated_sends_its_gradients_and_whether_it_skips(several):
    stage = make_stage("plain, in parts", World())
    g, d = (sum(p.numel() for p in net.parameters()) for net in (stage.net_g, stage.net_d))
    for found in several[2]:
        assert found["exchanged by a GAN"] == [[d, 1], [g, 1, d, 1]]


def test_parameters_without_gradient_keep_none(several):
    for found in several[2]:
        assert found["exchanged"]["without gradient"] == found["exchanged"]["without moments"] == ["unused", "frozen"]


def test_a_bad_loss_of_one_process_lets_all_skip(several):
    one, other = (found["exchanged"] for found in several[2])
    for found in (one, other):
        assert found["finite"]  # so that only the loss can tell
        assert found["skipped"] == [0, 1, 0]
        for key, value in found["weights"][1].items():
            assert torch.equal(value, found["weights"][0][key])
    assert not torch.equal(one["weights"][2]["0.weight"], one["weights"][1]["0.weight"])
    for key, value in one["weights"][2].items():
        assert torch.equal(value, other["weights"][2][key])


def test_one_process_has_no_hooks():
    def hooked(world: World) -> dict[str, bool]:
        stage = make_stage("plain", world)
        return {
            f"{name}.{k}": bool(p._post_accumulate_grad_hooks)
            for name, net in stage.networks.items() for k, p in net.named_parameters()
        }  # fmt: skip

    assert not any(hooked(World()).values())
    assert all(is_hooked != name.startswith("net_g_ema") for name, is_hooked in hooked(World(size=2)).items())


def test_buckets_leave_in_the_same_order_whatever_the_order_of_the_gradients(monkeypatch):
    sent = []
    monkeypatch.setattr("torch.distributed.all_reduce", lambda tensor, **_: sent.append(tensor.numel()))
    net = three_layers()
    exchange = GradientExchange(World(size=2), net)
    with in_buckets_of(1500):
        exchange.start()
    for layer, expected in ((1, []), (2, [432, 584]), (0, [432, 584])):
        sum(p.sum() for p in net[layer].parameters()).backward()
        assert sent == expected


def test_a_second_backward_pass_after_the_start_is_refused(monkeypatch):
    """It would change gradients that are on their way."""
    monkeypatch.setattr("torch.distributed.all_reduce", lambda *_, **__: None)
    net = nn.Linear(2, 2)
    exchange = GradientExchange(World(size=2), net)
    for _ in range(2):  # before the start any number is allowed
        net(torch.ones(2)).sum().backward()
    exchange.start()
    net(torch.ones(2)).sum().backward()
    with pytest.raises(AssertionError, match="only one backward pass"):
        net(torch.ones(2)).sum().backward()


@pytest.mark.slow
def test_a_process_that_fails_within_a_backward_pass_ends_although_gradients_are_on_their_way():
    ended = torchrun(__file__, "fail", check=False)
    assert ended.returncode != 0
    assert "the middle of a backward pass" in ended.stderr


def fail() -> None:
    with init_distributed("cpu") as world, in_buckets_of(1500), recorded() as events:
        stage = Stage(TrainOptions(total_iter=1, pixel_opt={}), three_layers(), world)

        def broken(grad: torch.Tensor) -> None:
            if world.rank == 1 and events == [432, 584]:
                raise ValueError("the middle of a backward pass")

        stage.net_g[0].weight.register_hook(broken)
        stage.step(*(images[world.rank :: world.size] for images in make_batch("psnr", 1)), 1)


@pytest.mark.slow
def test_what_the_processes_found_returns_in_order(several):
    for found in several[2]:
        assert found["gathered"] == [list(range(n)) for n in range(6)]


@pytest.mark.slow
def test_shared_validation_has_exactly_the_figures_and_images_of_one_process(several):
    folder, photos, found = several
    one = validate(World(), photos, folder / "one")
    assert one["figures"].keys() == {f"{section}/{metric}" for section in ("val", "val_2") for metric in ("psnr", "ssim")}
    assert found[0]["validation"] == found[1]["validation"] == one
    images = [sorted((folder / name / "validated" / "visualization").rglob("*.png")) for name in ("one", "two")]
    assert len(images[0]) == 20
    assert [path.read_bytes() for path in images[0]] == [path.read_bytes() for path in images[1]]
    for file in ("net_g_best.safetensors", "front/net_g_00000002.safetensors"):
        kept = [load_file(folder / name / "validated" / "models" / file) for name in ("one", "two")]
        assert all(torch.equal(kept[0][k], kept[1][k]) for k in kept[0])
    assert [entry["iteration"] for entry in one["front"]] == [2]
    assert (one["reason"], one["later"], one["still"]) == ("", "no new model on the front in 1 validations", True)


def test_batch_norm_is_replaced_in_place_and_only_for_several_processes():
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Sequential(nn.BatchNorm2d(4)))
    names, tensors = list(net.state_dict()), {id(t) for t in (*net.parameters(), *net.buffers())}
    assert type(synchronised(World(), net)[1][0]) is nn.BatchNorm2d
    assert type(synchronised(World(size=2), net)[1][0]) is SyncedBatchNorm2d
    assert list(net.state_dict()) == names
    assert {id(t) for t in (*net.parameters(), *net.buffers())} == tensors
    # Measuring looks at nobody else.
    plain = nn.BatchNorm2d(4).eval()
    torch.testing.assert_close(net.eval()[1](x := torch.rand(2, 4, 3, 3)), plain(x))


def test_on_cuda_batch_norm_is_pytorchs_synchronised_one():
    """Checked without a GPU: what it is, and that outside of a process group it computes what BatchNorm does."""
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    net = copy.deepcopy(plain)
    tensors = {id(t) for t in (*net.parameters(), *net.buffers())}
    assert synchronised(World(size=2, device=torch.device("cuda")), net) is net
    built = nn.SyncBatchNorm(4)
    assert type(net[1]) is type(built)
    assert vars(net[1]).keys() == vars(built).keys()
    assert net[1].process_group is None
    assert list(net.state_dict()) == list(plain.state_dict())
    assert {id(t) for t in (*net.parameters(), *net.buffers())} == tensors
    x = torch.rand(2, 3, 5, 5)
    for mode in (True, False):
        torch.testing.assert_close(net.train(mode)(x), plain.train(mode)(x), rtol=0, atol=0)
    averaged = copy.deepcopy(net).eval()
    for other in (net, averaged, nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))):
        other.load_state_dict(plain.state_dict())
        torch.testing.assert_close(other.eval()(x), plain(x), rtol=0, atol=0)


AFTERWARDS = """
import os
from aesop.system.distributed import init_distributed
import torch
with init_distributed("cpu"):
    torch.distributed.all_reduce(torch.ones(1))
    torch.optim.Adam([torch.ones(1)]).step()
    import torch._dynamo
    during = len(os.listdir("/proc/self/task"))
print(during, len(os.listdir("/proc/self/task")))
"""


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs /proc to count threads")
def test_no_thread_outlives_the_group():
    """One that does can abort the process when Python exits ("terminate called without an active exception")."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    alone = {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    said = subprocess.run(
        [sys.executable, "-c", AFTERWARDS], env=ENVIRONMENT | alone, check=True, capture_output=True, text=True, timeout=120
    )
    during, after = map(int, said.stdout.split())
    assert during > 1
    assert after == 1


def test_a_process_that_fails_claims_the_report_before_the_others_see_it_leave(monkeypatch):
    """Two processes cannot show it: whose message comes first would be chance."""
    events = []
    for name, result in (("init_process_group", None), ("get_rank", 1), ("get_world_size", 2)):
        monkeypatch.setattr(f"torch.distributed.{name}", lambda *_, result=result, **__: result)
    monkeypatch.setattr("torch.distributed.destroy_process_group", lambda: events.append("left"))
    monkeypatch.setattr("aesop.system.distributed.first_to_fail", lambda: events.append("claimed"))
    for name, value in (("RANK", "1"), ("WORLD_SIZE", "2")):
        monkeypatch.setenv(name, value)
    with init_distributed("cpu"):
        pass
    assert events == ["left"]
    with pytest.raises(ValueError, match="mine"), init_distributed("cpu"):
        raise ValueError("mine")
    assert events == ["left", "claimed", "left"]


# --- whole commands ----------------------------------------------------------------------------------------------------


def write(raw: dict, path: Path) -> str:
    path.write_text(yaml.safe_dump(raw))
    return str(path)


def small(photos: Path, root: Path, total: int, name: str, batch: int) -> dict:
    raw = options("psnr", photos, root, total, name)
    raw["network_g"] = {"type": "RRDBNet", "num_feat": 8, "num_block": 1, "num_grow_ch": 4}
    raw["datasets"]["train"] |= {"gt_size": 16, "batch_size_per_gpu": batch}
    raw["val"]["val_freq"] = 0
    return raw


def moved_apart(one: Path, two: Path, start: Path) -> float:
    """How far the second weights are from the first, as a share of how far the first are from the start."""
    ends = [load_file(path) for path in (one, two)]
    return relative_distance(*ends, load_file(start))


@pytest.mark.slow
def test_compressed_training_goes_its_own_way_but_not_far(photos, tmp_path):
    ends = {}
    for compression in ("none", "bf16"):
        raw = small(photos, tmp_path, 6, compression, 2)
        raw["train"] |= {"gradient_compression": compression, "ema_decay": 0}
        torchrun("-m", "aesop", "train", write(raw, tmp_path / f"{compression}.yml"))
        ends[compression] = tmp_path / compression / "models" / "net_g_00000006.safetensors"
    apart = moved_apart(ends["none"], ends["bf16"], ends["none"].with_name("net_g_00000002.safetensors"))
    assert 0 < apart < 0.1


@pytest.mark.slow
def test_two_nodes_equal_one_process_with_the_doubled_batch(photos, tmp_path):
    one = run(small(photos, tmp_path, 4, "one", 4))
    config = write(small(photos, tmp_path, 4, "two", 2), tmp_path / "two.yml")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    nodes = [
        subprocess.Popen(
            [*TORCHRUN, "--nnodes=2", f"--node-rank={node}", "--nproc-per-node=1", "--master-addr=127.0.0.1",
             f"--master-port={port}", "-m", "aesop", "train", config],
            env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for node in range(2)
    ]  # fmt: skip
    try:
        outputs = [node.communicate(timeout=200)[0] for node in nodes]
    finally:
        for node in nodes:
            node.kill()
    assert [node.returncode for node in nodes] == [0, 0], outputs
    two = tmp_path / "two" / "models" / one.name
    assert moved_apart(one, two, one.with_name("net_g_00000002.safetensors")) < 0.03


@pytest.mark.slow
def test_resumed_on_more_processes_it_sees_the_same_samples(photos, tmp_path):
    whole = run(small(photos, tmp_path, 8, "whole", 4))
    run(small(photos, tmp_path, 4, "parts", 4))
    config = write(small(photos, tmp_path, 8, "parts", 2), tmp_path / "parts.yml")
    torchrun("-m", "aesop", "train", config, "--resume")
    rows = [(tmp_path / name / "scalars.jsonl").read_text().splitlines() for name in ("whole", "parts")]
    for a, b in zip(*([json.loads(line) for line in lines] for lines in rows), strict=True):
        assert a == pytest.approx(b, rel=1e-3)
    start = whole.with_name("net_g_00000004.safetensors")
    assert moved_apart(whole, tmp_path / "parts" / "models" / whole.name, start) < 0.03


@pytest.mark.slow
def test_testing_on_two_processes_writes_what_one_does(photos, tmp_path):
    (photos / "photo_5.png").unlink()
    weights = run(small(photos, tmp_path, 2, "trained", 2))
    raw = small(photos, tmp_path, 2, "tested", 2)
    raw = {"name": "tested", "device": "cpu", "network_g": raw["network_g"], "datasets": {"test_1": raw["datasets"]["val"]}}
    raw["path"] = {"pretrain_network_g": str(weights)}
    raw["val"] = {"metrics": {"psnr": {}, "ssim": {}}, "page": True, "save_img": True}
    config = write(raw, tmp_path / "test.yml")
    alone = [sys.executable, "-m", "aesop", "test", config, f"path.results_root={tmp_path / 'one'}"]
    said = subprocess.run(alone, check=True, env=ENVIRONMENT, timeout=120, capture_output=True, text=True).stdout
    shared = torchrun("-m", "aesop", "test", config, f"path.results_root={tmp_path / 'two'}").stdout
    assert shared.count("PSNR ↑") == said.count("PSNR ↑") == 1
    files = [{path.relative_to(tmp_path / name) for path in (tmp_path / name).rglob("*.*")} for name in ("one", "two")]
    assert files[0] == files[1]
    assert sum(path.suffix == ".png" for path in files[0]) == 10  # of bicubic and of the network
    for file in files[0]:
        first, second = ((tmp_path / name / file).read_bytes() for name in ("one", "two"))
        if file.suffix != ".html":  # it names its folder
            assert first == second, file
    pages = [(tmp_path / name / "tested" / "page.html").read_text() for name in ("one", "two")]
    assert pages[0].count("data:image") == pages[1].count("data:image") > 5


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["test", "train"])
def test_a_fault_of_one_process_ends_all_with_one_message(verb, photos, tmp_path):
    """The image that cannot be read is the second process's; the first waits for it meanwhile."""
    weights = run(small(photos, tmp_path, 2, "trained", 2))
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    for photo in photos.iterdir():
        content = photo.read_bytes()
        (damaged / photo.name).write_bytes(content[: len(content) // 2] if photo.name == "photo_1.png" else content)
    raw = small(photos, tmp_path, 4, "broken", 2)
    raw["datasets"]["val"] = {"dataroot_gt": str(damaged)}
    raw["val"]["val_freq"] = 1
    raw["path"] |= {"pretrain_network_g": str(weights), "results_root": str(tmp_path / "results")}
    begun = time.perf_counter()
    ended = torchrun("-m", "aesop", verb, write(raw, tmp_path / "broken.yml"), check=False)
    assert ended.returncode != 0
    assert time.perf_counter() - begun < 60
    said = ended.stdout + ended.stderr.partition("torch.distributed.elastic.multiprocessing.errors.ChildFailedError")[0]
    assert said.count("error:") == 1, said
    assert "photo_1.png" in said.split("error:")[1]
    assert "Connection closed" not in said


@pytest.mark.slow
def test_a_fault_of_all_processes_is_told_once(photos, tmp_path):
    raw = small(photos, tmp_path, 4, "broken", 2)
    raw["train"]["total_itre"] = 4
    ended = torchrun("-m", "aesop", "train", write(raw, tmp_path / "broken.yml"), check=False)
    assert ended.returncode != 0
    assert ended.stderr.count("error:") == 1
    assert "total_itre" in ended.stderr


@pytest.mark.slow
def test_torchrun_that_gets_sigterm_leaves_a_state_to_continue_from(photos, tmp_path):
    raw = small(photos, tmp_path, 10**6, "stopped", 2)
    raw["logger"]["save_checkpoint_freq"] = 10**6
    config = write(raw, tmp_path / "stopped.yml")
    command = [*TORCHRUN, "--standalone", "--nproc-per-node=2", "-m", "aesop", "train", config]
    process = subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        wait_for(tmp_path / "stopped" / "scalars.jsonl", '"iter": 5,', process)
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode != 0
    assert output.count("stopped by SIGTERM after iteration") == 1, output
    (state,) = states(tmp_path / "stopped" / "state")
    reached = int(state.name)
    assert reached >= 5
    raw["train"]["total_iter"] = reached + 2
    torchrun("-m", "aesop", "train", write(raw, tmp_path / "stopped.yml"), "--resume")
    assert (tmp_path / "stopped" / "models" / f"net_g_{reached + 2:08d}.safetensors").is_file()


SRUN = """#!{python}
import os, signal, subprocess, sys
words = sys.argv[1:]
while words[0].startswith("--"):
    words.pop(0)
environments = [dict(os.environ, SLURM_PROCID=str(task), SLURM_LOCALID=str(task)) for task in range(2)]
tasks = [subprocess.Popen(words, env=environment) for environment in environments]
signal.signal(signal.SIGUSR1, lambda number, frame: [task.send_signal(number) for task in tasks])
open("{folder}/srun.pid", "w").write(str(os.getpid()))
codes = [task.wait() for task in tasks]
sys.exit(max(code if code >= 0 else 128 - code for code in codes))
"""
SCONTROL = """#!/bin/bash
case $1 in show) echo 127.0.0.1 ;; *) echo "$@" >> {folder}/scontrol ;; esac
"""


def free_port(first: int, last: int) -> int:
    for port in range(first + os.getpid() % (last - first), last):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                return port
    raise AssertionError("no port is free")


@pytest.mark.slow
def test_the_slurm_script_of_the_documentation_requeues_and_finishes(photos, tmp_path):
    """The script as it stands, with two tasks of one machine; srun and scontrol are stand-ins."""
    text = (Path(__file__).parents[2] / "docs" / "how-to" / "scale-out.md").read_text()
    script = text.partition("```bash\n")[2].partition("```")[0]
    raw = small(photos, tmp_path, 10**6, "job", 2)
    raw["logger"]["save_checkpoint_freq"] = 10**6
    config = tmp_path / "job.yml"
    assert script.count("configs/aesop_rrdb.yml") == 1
    (tmp_path / "job.sh").write_text(script.replace("configs/aesop_rrdb.yml", write(raw, config)))
    programs = tmp_path / "bin"
    programs.mkdir()
    stand_ins = {"srun": SRUN, "scontrol": SCONTROL, "aesop": '#!/bin/bash\nexec {python} -m aesop "$@"\n'}
    for name, program in stand_ins.items():
        (programs / name).write_text(program.format(python=sys.executable, folder=tmp_path))
        (programs / name).chmod(0o755)
    job = str(free_port(20000, 30000) - 20000)
    environment = {name: value for name, value in ENVIRONMENT.items() if not name.startswith(("SLURM", "MASTER"))}
    environment |= {"PATH": f"{programs}:{os.environ['PATH']}", "SLURM_JOB_ID": job, "SLURM_NTASKS": "2"}

    def start() -> subprocess.Popen:
        command = ["bash", str(tmp_path / "job.sh")]
        return subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
        )

    def finish(process: subprocess.Popen) -> str:
        try:
            return process.communicate(timeout=120)[0]
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)

    interrupted = start()
    wait_for(tmp_path / "job" / "scalars.jsonl", '"iter": 3,', interrupted)
    os.kill(int((tmp_path / "srun.pid").read_text()), signal.SIGUSR1)
    output = finish(interrupted)
    assert output.count("stopped by SIGUSR1 after iteration") == 1, output
    assert (tmp_path / "scontrol").read_text() == f"requeue {job}\n"
    (state,) = states(tmp_path / "job" / "state")
    last = int(state.name) + 2
    raw["train"]["total_iter"] = last
    write(raw, config)
    requeued = start()
    output = finish(requeued)
    assert requeued.returncode == 0, output
    assert f"continuing from {state}" in output
    assert (tmp_path / "job" / "models" / f"net_g_{last:08d}.safetensors").is_file()
    raw["scale"] = 5
    write(raw, config)
    failed = start()
    output = finish(failed)
    assert failed.returncode == 1, output
    assert (tmp_path / "scontrol").read_text().count("requeue") == 1


def wait_for(file: Path, text: str, process: subprocess.Popen) -> None:
    for _ in range(1200):
        if process.poll() is not None or (file.exists() and text in file.read_text()):
            return
        time.sleep(0.05)
    raise AssertionError(f"{text} never appeared in {file}")


if __name__ == "__main__":
    fail() if sys.argv[1:] == ["fail"] else work(Path(sys.argv[1]), Path(sys.argv[2]))
