"""The guide to other frameworks: its code blocks run as they are, against stand-ins with those frameworks' interfaces."""

import json
import re
import sys
import tomllib
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor, nn

from aesop import AESOPLoss
from aesop.archs import build_network
from aesop.weights.save import save_weights

GUIDE = Path(__file__).resolve().parents[1] / "docs" / "how-to" / "drop-in.md"
TEXT = GUIDE.read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"(?ms)^## (.*?)\n(.*?)(?=^## |\Z)", TEXT))
AE_OPTIONS = {
    "type": "AutoEncoder_RRDBNet",
    "scale": 4,
    "enc_opt": {"num_feat": 48, "num_grow_ch": 4},
    "dec_opt": {"type": "RRDBNet", "num_feat": 8, "num_block": 1, "num_grow_ch": 4},
}
AE_FILE = "weights/autoencoder.safetensors"  # what the guide's options name


def blocks(section: str, language: str) -> list[str]:
    return re.findall(rf"(?ms)^```{language}\n(.*?)^```", SECTIONS[section])


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    """A working folder with the weight files that the guide names; modules made by a test are gone after it."""
    torch.manual_seed(0)
    autoencoder = build_network(AE_OPTIONS)
    with torch.no_grad():  # unit gain, so that the output depends on the input
        for parameter in autoencoder.parameters():
            parameter.copy_(torch.randn(parameter.shape) / (parameter[0].numel() if parameter.ndim > 1 else 100) ** 0.5)
    (tmp_path / "weights").mkdir()
    for name in (AE_FILE, "autoencoder.safetensors"):
        save_weights(tmp_path / name, autoencoder.state_dict(), {"network": json.dumps(AE_OPTIONS)})
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def module(monkeypatch) -> Callable[..., ModuleType]:
    """Put a stand-in module, and the packages above it, where `import` finds them."""

    def add(name: str, **contents: Any) -> ModuleType:
        package = ""
        for part in name.split(".")[:-1]:
            package = f"{package}.{part}".lstrip(".")
            if package not in sys.modules:
                monkeypatch.setitem(sys.modules, package, ModuleType(package))
        made = ModuleType(name)
        made.__dict__.update(contents)
        monkeypatch.setitem(sys.modules, name, made)
        return made

    return add


class Registry:
    """What the LOSS_REGISTRY of BasicSR and neosr does for a class; traiNNer-redux's ignores case."""

    def __init__(self, spelling: Callable[[str], str] = str, taken: tuple[str, ...] = ()):
        self.spelling, self.classes = spelling, dict.fromkeys(taken)

    def register(self) -> Callable[[type], type]:
        def add(cls: type) -> type:
            name = self.spelling(cls.__name__)
            assert name not in self.classes, f"An object named '{name}' was already registered"
            self.classes[name] = cls
            return cls

        return add

    def build(self, options: dict[str, Any]) -> nn.Module:
        """Their build_loss: the options but `type` are the constructor's."""
        options = dict(options)
        return self.classes[self.spelling(options.pop("type"))](**options)


def images() -> tuple[Tensor, Tensor]:
    sr, hr = torch.rand(2, 2, 3, 16, 24, generator=torch.Generator().manual_seed(1))
    return sr.requires_grad_(), hr.requires_grad_()


def expected(sr: Tensor, hr: Tensor, **options) -> tuple[Tensor, Tensor]:
    """The loss computed directly, and its gradient."""
    sr = sr.detach().clone().requires_grad_()
    value = AESOPLoss.from_pretrained(AE_FILE, **options)(sr, hr)
    return value.detach(), torch.autograd.grad(value, sr)[0]


def assert_is_the_loss(value: Tensor, loss: nn.Module, sr: Tensor, hr: Tensor, weight: float = 1.0, **options) -> None:
    """`value` is `weight` times the loss, and its gradient reaches SR and nothing else."""
    right, gradient = expected(sr, hr, **options)
    assert value.item() == pytest.approx(weight * right.item(), rel=1e-6)
    assert abs(value.item() - (sr - hr).abs().mean().item()) > 0.01, "the pixel loss would differ"
    value.backward()
    torch.testing.assert_close(sr.grad, weight * gradient)
    assert hr.grad is None
    assert list(loss.parameters()), "the auto-encoder must be found by .to(device)"
    assert all(p.grad is None and not p.requires_grad for p in loss.parameters())


def test_basicsr(module):
    registry = Registry()
    module("basicsr.utils.registry", LOSS_REGISTRY=registry)
    exec(blocks("BasicSR", "python")[0], {})
    (yml,) = blocks("BasicSR", "yaml")
    options = yaml.safe_load(yml)["train"]["pixel_opt"]
    loss, (sr, hr) = registry.build(options), images()
    assert_is_the_loss(loss(sr, hr), loss, sr, hr)

    heavier, (sr, hr) = registry.build({**options, "loss_weight": 0.25, "criterion": "l2"}), images()
    assert_is_the_loss(heavier(sr, hr), heavier, sr, hr, weight=0.25, criterion="l2")
    weight = torch.rand(2, 1, 16, 24)
    assert torch.equal(loss(sr, hr, weight=weight), AESOPLoss.from_pretrained(AE_FILE)(sr, hr, weight))


def test_basicsr_start_script(module, folder, monkeypatch):
    started = []
    registry = Registry()
    module("basicsr.utils.registry", LOSS_REGISTRY=registry)
    module("basicsr.train", train_pipeline=lambda root: started.append((root, list(registry.classes))))
    loss_file, script = blocks("BasicSR", "python")
    (folder / "aesop_loss.py").write_text(loss_file)
    monkeypatch.syspath_prepend(folder)
    exec(script, {"__file__": str(folder / "train.py")})
    sys.modules.pop("aesop_loss", None)
    assert started == [(str(folder), ["AESOPLoss"])]


def test_trainner_redux(module):
    registry = Registry(str.lower, taken=("aesoploss", "l1loss"))
    module("traiNNer.utils.registry", LOSS_REGISTRY=registry)
    exec(blocks("traiNNer-redux", "python")[0], {})
    (yml,) = blocks("traiNNer-redux", "yaml")
    (options,) = yaml.safe_load(yml)["train"]["losses"]
    assert "l_g_" + options["type"].replace("loss", "") in SECTIONS["traiNNer-redux"], "the name in its log"
    loss, (sr, hr) = registry.build({**options, "loss_weight": 0.5}), images()
    with torch.autocast("cpu", torch.bfloat16):  # as its step runs with use_amp
        value = loss(sr, hr) * abs(loss.loss_weight)
    assert_is_the_loss(value, loss, sr, hr, weight=0.5)


def test_neosr(module):
    registry = Registry()
    module("neosr.utils.registry", LOSS_REGISTRY=registry)
    exec(blocks("neosr", "python")[0], {})
    (toml,) = blocks("neosr", "toml")
    options = tomllib.loads(toml)["train"]["pixel_opt"]
    loss, (sr, hr) = registry.build({**options, "loss_weight": 0.5}), images()
    loss = loss.to("cpu", memory_format=torch.channels_last, non_blocking=True)
    with torch.autocast("cpu", torch.bfloat16):
        value = loss(sr, hr)
    assert_is_the_loss(value, loss, sr, hr, weight=0.5)


def test_kair(module):
    started = []

    class NoneDict(dict):
        def __missing__(self, key: str) -> None:
            return None

    class ModelGAN:
        device = torch.device("cpu")

        def define_loss(self) -> None:
            self.G_lossfn, self.D_lossfn = nn.L1Loss(), nn.MSELoss()

    module("main_train_gan", main=lambda: started.append(True))
    module("models.model_gan", ModelGAN=ModelGAN)
    (script,) = blocks("KAIR", "python")
    exec(script, {})
    assert started == [True]

    model = ModelGAN()
    model.opt_train = NoneDict(json.loads(blocks("KAIR", "json")[0])["train"])
    assert (model.opt_train["G_lossfn_type"], model.opt_train["G_lossfn_weight"]) == ("l1", 1.0)
    model.define_loss()
    sr, hr = images()
    assert_is_the_loss(model.G_lossfn(sr, hr), model.G_lossfn, sr, hr)
    assert isinstance(model.D_lossfn, nn.MSELoss), "KAIR's other losses stay"
    del model.opt_train["G_autoencoder"]
    with pytest.raises(AssertionError, match=r"train\.G_autoencoder must name"):
        model.define_loss()


def test_plain_pytorch(folder, monkeypatch):
    (code,) = blocks("A plain PyTorch loop", "python")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    names: dict[str, Any] = {}
    exec(code, names)
    right, gradient = expected(names["sr"].float(), names["hr"])
    assert names["loss"].item() == pytest.approx(right.item(), rel=1e-6)
    assert gradient.abs().sum() > 0
    assert all(p.grad.abs().sum() > 0 for p in names["generator"].parameters())
    assert all(p.grad is None for p in names["aesop_loss"].parameters())
    optimised = [id(p) for group in names["optimizer"].param_groups for p in group["params"]]
    assert optimised == [id(p) for p in names["generator"].parameters()]
    saved = torch.load(folder / "generator.pth", weights_only=True)
    assert saved.keys() == names["generator"].state_dict().keys()


def test_lightning(module, monkeypatch):
    if find_spec("lightning") is None:

        class LightningModule(nn.Module):
            device = torch.device("cpu")

        module("lightning", LightningModule=LightningModule)
    names: dict[str, Any] = {"__name__": "guide"}
    exec(blocks("Lightning", "python")[0], names)
    generator = nn.Sequential(nn.Conv2d(3, 48, 1), nn.PixelShuffle(4))
    model = names["SuperResolution"](generator, AE_FILE)
    logged = {}
    monkeypatch.setattr(model, "log", logged.__setitem__, raising=False)
    model.on_fit_start()
    lr, hr = torch.rand(2, 3, 4, 6), torch.rand(2, 3, 16, 24)
    with torch.autocast("cpu", torch.bfloat16):  # as precision="bf16-mixed" does
        value = model.training_step((lr, hr), 0)
        sr = generator(lr)
    assert value.item() == pytest.approx(expected(sr.float(), hr)[0].item(), rel=1e-6)
    assert logged == {"l_g_aesop": value}
    value.backward()
    assert all(p.grad.abs().sum() > 0 for p in generator.parameters())
    (aesop_loss,) = model.frozen
    assert all(p.grad is None for p in aesop_loss.parameters())
    # Neither in checkpoints nor in the optimiser.
    assert set(model.state_dict()) == {f"generator.{name}" for name in generator.state_dict()}
    optimised = [id(p) for group in model.configure_optimizers().param_groups for p in group["params"]]
    assert optimised == [id(p) for p in generator.parameters()]


def test_bad_input_gets_the_answers_in_the_guide(folder):
    generator = {"type": "RRDBNet", "num_feat": 8, "num_block": 1, "num_grow_ch": 4}
    torch.save({"params": build_network(generator).state_dict()}, folder / "psnr.pth")
    loss = AESOPLoss.from_pretrained(AE_FILE)
    faults: list[Callable[[], object]] = [
        lambda: AESOPLoss.from_pretrained("nothing.safetensors"),
        lambda: AESOPLoss.from_pretrained("psnr.pth"),
        lambda: loss(torch.rand(1, 3, 66, 66), torch.rand(1, 3, 66, 66)),
        lambda: AESOPLoss.from_pretrained(AE_FILE, criterion="charbonnier"),
    ]
    answers = []
    for fault in faults:
        with pytest.raises(ValueError) as caught:
            fault()
        answers.append(f"{caught.type.__name__}: {caught.value}")
    assert "".join(blocks("Bad input", "text")).splitlines() == answers


@pytest.mark.slow
def test_a_compiled_loss_is_the_same():
    """What the guide says of torch.compile, without the minutes that generating code takes."""
    assert "`aesop_loss.compile()`" in SECTIONS["What to watch"]
    loss, (sr, hr) = AESOPLoss.from_pretrained(AE_FILE), images()
    loss.compile(backend="eager", fullgraph=True)
    assert_is_the_loss(loss(sr, hr), loss, sr, hr)


def test_every_framework_of_the_table_has_a_section_with_short_code():
    anchors = re.findall(r"\| \[[^]]+\]\(#([\w-]+)\)", TEXT)
    sections = {re.sub(r"[^\w -]", "", name).lower().replace(" ", "-"): name for name in SECTIONS}
    assert len(anchors) == 6
    for anchor in anchors:
        code = blocks(sections[anchor], "python")
        assert code, anchor
        assert all(len(block.splitlines()) <= 25 for block in code), anchor
    prose = re.sub(r"(?ms)^```.*?^```", "", TEXT)
    for link in re.findall(r"\]\((?!#)([^)]+)\)", prose):
        assert (GUIDE.parent / link).exists(), link
    assert not re.search(r"(?<![\w.])/(tmp|work|home|root)\b", TEXT), "a path of the machine it was written on"
