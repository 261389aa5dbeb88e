"""Tiny weight files as other projects save them, made by hand-written rules, for tests and benchmarks/checkpoint_table.py.

How each project names and shapes its tensors is written down here once more, independently of aesop.weights; where the
golden vectors are at hand, the tests hold it against their lists of published names.
"""

import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from aesop.archs import State, build_network
from aesop.commands.convert import convert
from aesop.weights.load import LoadedInfo, load_network
from aesop.weights.save import save_pth
from aesop.weights.tensor_names import published_names

SHARED = Path(os.environ.get("AESOP_SHARED") or Path(__file__).resolve().parents[2] / "shared")
GOLDEN = Path(os.environ.get("AESOP_GOLDEN") or SHARED / "golden")

GENERATOR = {
    "type": "RRDBNet",
    "num_in_ch": 3,
    "num_out_ch": 3,
    "scale": 4,
    "num_feat": 8,
    "num_block": 2,
    "num_grow_ch": 4,
}
ESRGAN = {**GENERATOR, "num_grow_ch": 32}  # spandrel's only growth
MSRRESNET = {"type": "MSRResNet", "num_in_ch": 3, "num_out_ch": 3, "num_feat": 8, "num_block": 3, "upscale": 4}
SWINIR = {
    "type": "SwinIR",
    "upscale": 4,
    "in_chans": 3,
    "img_size": 16,
    "window_size": 8,
    "depths": [2, 2],
    "embed_dim": 12,
    "num_heads": [2, 2],
    "mlp_ratio": 2,
    "upsampler": "pixelshuffle",
    "resi_connection": "1conv",
}
DRCT = {**SWINIR, "type": "DRCT", "depths": [6, 6], "gc": 4}
COMPACT = {"type": "Compact", "num_in_ch": 3, "num_out_ch": 3, "num_feat": 8, "num_conv": 2, "upscale": 4}


def autoencoder_options(
    scale: int = 4, num_feat: int = 16, kind: str = "AutoEncoder_RRDBNet", decoder: Mapping = GENERATOR
) -> dict:
    return {
        "type": kind,
        "scale": scale,
        "enc_opt": {"num_feat": num_feat, "num_grow_ch": 8},
        "dec_opt": {**decoder, "scale" if decoder["type"] == "RRDBNet" else "upscale": scale},
    }


def network(options: Mapping = GENERATOR, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    net = build_network(options)
    with torch.no_grad():  # unit gain, so that every tensor shows in the output
        for parameter in net.parameters():
            parameter.copy_(torch.randn(parameter.shape) / (parameter[0].numel() if parameter.ndim > 1 else 100) ** 0.5)
    return net.eval()


def save_basicsr(path: Path, weights: Mapping[str, State]) -> None:
    """Write a BasicSR `.pth`, {'params': ..., 'params_ema': ...}, with the published tensor names."""
    save_pth(path, {key: published_names(state) for key, state in weights.items()})


def output(net: nn.Module, side: int = 8) -> Tensor:
    with torch.no_grad():
        return net(torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(7)))


def _renamed(state: State, block: str, tops: Mapping[str, str]) -> State:
    renamed = {}
    for name, value in state.items():
        layer, kind = name.rsplit(".", 1)
        dense = re.fullmatch(r"body\.(\d+)\.rdb(\d)\.conv(\d)", layer)
        renamed[f"{block.format(*dense.groups()) if dense else tops[layer]}.{kind}"] = value
    return renamed


def first_generation(state: State) -> State:
    """Names of ESRGAN's first release (2018), the models of the old model zoo."""
    num_block = sum(name.endswith("rdb1.conv1.weight") for name in state)
    tops = {"conv_first": "model.0", "conv_body": f"model.1.sub.{num_block}", "conv_up1": "model.3"}
    if "conv_up2.weight" in state:
        tops |= {"conv_up2": "model.6", "conv_hr": "model.8", "conv_last": "model.10"}
    else:
        tops |= {"conv_hr": "model.5", "conv_last": "model.7"}
    return _renamed(state, "model.1.sub.{}.RDB{}.conv{}.0", tops)


def second_generation(state: State) -> State:
    """Names of ESRGAN's second release and of BSRGAN."""
    tops = {"conv_first": "conv_first", "conv_body": "trunk_conv", "conv_up1": "upconv1", "conv_up2": "upconv2"}
    return _renamed(state, "RRDB_trunk.{}.RDB{}.conv{}", {**tops, "conv_hr": "HRconv", "conv_last": "conv_last"})


def twice_encoded(state: State) -> State:
    """The published auto-encoder names its encoder's parts a second time, as attributes of their own."""
    doubled = {}
    for name, value in state.items():
        for part, attribute in (("encoder.0.", "conv_first."), ("encoder.2.", "body."), ("encoder.3.", "conv_last.")):
            if name.startswith(part):
                doubled[attribute + name.removeprefix(part)] = value
    return state | doubled


def twice_hr(state: State) -> State:
    """SPSR's last trunk convolution has a second name."""
    return state | {f"HR_conv0_new.0.{kind}": state[f"model.8.{kind}"] for kind in ("weight", "bias")}


def linear_adjust(state: State) -> State:
    """The published DRCT mixes channels by linear layers where the official one has 1x1 convolutions."""
    return {name: value[..., 0, 0] if re.search(r"adjust\d\.weight", name) else value for name, value in state.items()}


def prefixed(prefix: str) -> Callable[[State], State]:
    return lambda state: {prefix + name: value for name, value in state.items()}


def params(state: State) -> dict:
    return {"params": state}


def params_ema(state: State) -> dict:
    return {"params_ema": state}


def both(state: State) -> dict:
    return {"params": {name: value + 1 for name, value in state.items()}, "params_ema": state}


@dataclass(frozen=True)
class Kind:
    """One kind of file: a network of ours, and how another project would have saved it.

    `named` gives the tensors that project's names, `wrapped` puts them below a key. `back`: with these options
    `aesop convert` writes the same tensors again; `altered`: what differs then. `golden`: the table of the published names.
    """

    name: str
    options: dict = field(default_factory=lambda: ESRGAN)
    named: Callable[[State], State] = dict
    wrapped: Callable[[State], dict] = dict
    form: str = "pth"  # or "old pth", "safetensors"
    back: dict = field(default_factory=dict)
    altered: str = ""
    golden: str = ""
    side: int = 16
    half: bool = False

    def network(self) -> nn.Module:
        net = network(self.options)
        return net.half().float() if self.half else net

    def tensors(self) -> State:
        return self.named({k: v.half() if self.half else v for k, v in self.network().state_dict().items()})

    def write(self, folder: Path) -> Path:
        file = folder / f"file.{self.form.rpartition(' ')[2]}"
        if self.form == "safetensors":
            save_file({name: value.contiguous() for name, value in self.tensors().items()}, file)
        else:
            torch.save(self.wrapped(self.tensors()), file, _use_new_zipfile_serialization=self.form == "pth")
        return file


BARE = {"key": "none"}
KINDS = [
    Kind("ESRGAN in BasicSR's names, bare", back=BARE, golden="rrdbnet_small_x4"),
    Kind("BasicSR, params", wrapped=params, back={"key": "params"}, golden="rrdbnet_small_x4"),
    Kind("LDL and AESOP, params and params_ema", wrapped=both, golden="rrdbnet_small_x4"),
    Kind("Real-ESRGAN x4, params_ema", wrapped=params_ema, golden="rrdbnet_small_x4"),
    Kind("Real-ESRGAN x2, params_ema", {**ESRGAN, "scale": 2}, wrapped=params_ema, golden="rrdbnet_small_x2"),
    Kind("Real-ESRGAN's code at x1, params_ema", {**ESRGAN, "scale": 1}, wrapped=params_ema, golden="rrdbnet_small_x1"),
    Kind("Real-ESRGAN general (Compact), params", COMPACT, wrapped=params, back={"key": "params"}),
    Kind("ESRGAN's first release", named=first_generation, back={**BARE, "names": "old-esrgan"}),
    Kind(
        "ESRGAN's first release, x2",
        {**ESRGAN, "scale": 2, "unshuffle": False},
        named=first_generation,
        back={**BARE, "names": "old-esrgan"},
    ),
    Kind("ESRGAN's second release", named=second_generation, back={**BARE, "names": "bsrgan"}, golden="rrdbnet_legacy_tiny"),
    Kind("BSRGAN x4", named=second_generation, back={**BARE, "names": "bsrgan"}, golden="rrdbnet_legacy_tiny"),
    Kind(
        "BSRGAN x2",
        {**ESRGAN, "scale": 2, "unshuffle": False},
        named=second_generation,
        back=BARE,
        golden="bsrgan_rrdb_tiny_x2",
    ),
    Kind("MSRResNet, params", MSRRESNET, wrapped=params, back={"key": "params"}, golden="msrresnet_x4"),
    Kind(
        "SPSR",
        {"type": "SPSRNet", "in_nc": 3, "out_nc": 3, "nf": 4, "nb": 20, "upscale": 4},
        named=twice_hr,
        back=BARE,
        golden="spsr_tiny",
        side=8,
    ),
    Kind("SwinIR, params", SWINIR, wrapped=params, back={"key": "params"}, golden="swinir_tiny_matched"),
    Kind(
        "SwinIR for the real world, params_ema",
        {**SWINIR, "upsampler": "nearest+conv", "resi_connection": "3conv", "embed_dim": 16},
        wrapped=params_ema,
        golden="swinir_tiny_nearest",
    ),
    Kind("DRCT, params", DRCT, wrapped=params, back={"key": "params"}),
    Kind(
        "DRCT as AESOP has it, params_ema",
        DRCT,
        named=linear_adjust,
        wrapped=params_ema,
        altered="its linear layers as 1x1 convolutions, which its code takes too",
        golden="drct_tiny_matched",
    ),
    Kind(
        "AESOP's auto-encoder, params",
        autoencoder_options(),
        twice_encoded,
        params,
        back={"key": "params"},
        golden="ae_small",
    ),
    Kind(
        "AESOP's auto-encoder, bicubic",
        autoencoder_options(kind="BicubicDown_RRDBNet"),
        wrapped=params_ema,
        golden="bicubicdown_small",
    ),
    Kind(
        "AESOP's auto-encoder, probabilistic",
        autoencoder_options(kind="ProbabilisticAutoEncoder_RRDBNet"),
        twice_encoded,
        params_ema,
        golden="prob_ae_small",
    ),
    Kind(
        "AESOP's auto-encoder with MSRResNet",
        autoencoder_options(kind="AutoEncoder_MSRResNet", decoder={**MSRRESNET, "num_block": 2}),
        twice_encoded,
        params_ema,
        golden="ae_msrresnet_small",
    ),
    Kind("our auto-encoder x2 with SwinIR, both", autoencoder_options(2, decoder=SWINIR), twice_encoded, both),
    Kind(
        "VGG-style discriminator, params",
        {"type": "VGGStyleDiscriminator128", "num_in_ch": 3, "num_feat": 4},
        wrapped=params,
        back={"key": "params"},
        golden="vggd128",
        side=128,
    ),
    Kind(
        "UNet discriminator, params",
        {"type": "UNetDiscriminatorSN", "num_in_ch": 3, "num_feat": 4},
        wrapped=params,
        back={"key": "params"},
        golden="unetsn",
    ),
    Kind("DistributedDataParallel, module.", named=prefixed("module."), wrapped=params_ema, altered="without the prefix"),
    Kind("torch.compile, _orig_mod.", named=prefixed("_orig_mod."), wrapped=params_ema, altered="without the prefix"),
    Kind(
        "MMagic, state_dict and generator.",
        named=prefixed("generator."),
        wrapped=lambda state: {"meta": {"epoch": 1}, "state_dict": state},
        altered="below params_ema, without the prefix",
    ),
    Kind("PyTorch before 1.6, not zipped", form="old pth", back=BARE),
    Kind("safetensors, bare names", form="safetensors", back=BARE),
    Kind("safetensors, float16", form="safetensors", back=BARE, half=True),
]


@dataclass(frozen=True)
class Result:
    """What became of a file that was loaded with nothing but its path, converted to safetensors and back."""

    info: LoadedInfo
    there: State  # the file's tensors
    back: State  # those of the `.pth` it became in the end
    difference: float  # the largest, of the three networks' outputs from the reference

    @property
    def identical(self) -> bool:
        return self.there.keys() == self.back.keys() and all(
            value.dtype == self.there[name].dtype and torch.equal(value, self.there[name])
            for name, value in self.back.items()
        )


def round_trip(file: Path, folder: Path, reference: Tensor, side: int = 16, back: Mapping[str, Any] | None = None) -> Result:
    """Load `file`, convert it to safetensors and that to a `.pth` in `folder`, and run all three networks on one image."""
    middle, last = folder / "middle.safetensors", folder / "last.pth"
    net, info = load_network(file)
    convert(file, middle)
    convert(middle, last, **(back or {}))
    outputs = [output(each, side) for each in (net, load_network(middle)[0], load_network(last)[0])]
    difference = torch.stack([(each - reference).abs().max() for each in outputs]).max().item()
    return Result(info, tensors_of(file), tensors_of(last), difference)


def tensors_of(file: Path) -> State:
    """A file's tensors as they are in it; of two sets, the averaged."""
    content = load_file(file) if file.suffix == ".safetensors" else torch.load(file, weights_only=True)
    return next((content[key] for key in ("params_ema", "params", "state_dict") if key in content), content)


def golden_table(name: str) -> list[tuple[str, list[int]]]:
    """Names and shapes of a published network; empty where there are no golden vectors."""
    file = GOLDEN / "weights.json"
    return [(row[1], row[2]) for row in json.loads(file.read_text())["tables"][name]] if file.is_file() else []
