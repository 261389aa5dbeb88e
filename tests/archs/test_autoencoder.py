"""The auto-encoder: shapes at every scale, published names in and out, any decoder."""

import pytest
import torch
from torch import Tensor, nn

from aesop.archs import AutoEncoder, RRDBNet, build_network
from aesop.archs.autoencoder import published_state_dict
from aesop.losses import AESOPLoss
from aesop.weights import WeightsError, load_into


def enlarger(scale: int) -> nn.Module:
    return nn.Sequential(nn.Upsample(scale_factor=scale), nn.Conv2d(3, 3, 3, 1, 1))


def tiny(seed: int = 0, num_block: int = 1) -> AutoEncoder:
    torch.manual_seed(seed)
    decoder = RRDBNet(num_feat=8, num_block=num_block, num_grow_ch=4)
    return AutoEncoder(decoder, 4, num_feat=16, num_grow_ch=4).eval()


def conv_names(prefix: str, layers: list[str]) -> list[str]:
    return [f"{prefix}{layer}.{kind}" for layer in layers for kind in ("weight", "bias")]


RRDB_LAYERS = [f"{n}.rdb{r}.conv{c}" for n in (0, 1) for r in (1, 2, 3) for c in (1, 2, 3, 4, 5)]


def published(state: dict[str, Tensor], encoder_values: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
    """A published file of `state`, built here from the rule of its names; `encoder_values` go under `encoder.*`."""
    file = {name: value for name, value in state.items() if name.startswith("decoder.")}
    for short, long in (("conv_first", "encoder.0"), ("body", "encoder.2"), ("conv_last", "encoder.3")):
        for name, value in state.items():
            if name.startswith(long + "."):
                file[short + name[len(long) :]] = value
                file[name] = (encoder_values or state)[name]
    return file


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
def test_shapes_and_bottleneck(scale):
    net = build_network(
        {
            "type": "AutoEncoder_RRDBNet",
            "scale": scale,
            "dec_opt": {"type": "RRDBNet", "num_feat": 16, "num_block": 1, "num_grow_ch": 4},
        }
    ).eval()
    x = torch.rand(2, 3, 2 * scale, 4 * scale)  # even LR sides: the x2 decoder unshuffles its input by 2
    with torch.no_grad():
        y, bottleneck = net(x, return_bottleneck=True)
        assert y.shape == x.shape
        assert bottleneck.shape == (2, 3, 2, 4)
        assert torch.equal(bottleneck, net.encode(x))
        assert torch.equal(y, net(x))
        assert torch.equal(y, net.decoder(bottleneck))


def test_the_encoder_is_the_described_one():
    """Section 3 of the method, spelled out in plain functions for one set of weights."""
    net = tiny(1)
    x = torch.rand(1, 3, 8, 12)
    blocks = net.encoder[2]
    with torch.no_grad():
        state = net.state_dict()

        def conv(y: Tensor, name: str) -> Tensor:
            return nn.functional.conv2d(y, state[f"encoder.{name}.weight"], state[f"encoder.{name}.bias"], padding=1)

        y = conv(conv(x, "0.0"), "0.1")
        y = nn.functional.pixel_unshuffle(nn.functional.pixel_unshuffle(y, 2), 2)
        y = blocks[1](blocks[0](y))
        y = conv(conv(y, "3.0"), "3.1")
        assert torch.equal(net.encode(x), y)


@pytest.mark.parametrize(("scale", "height", "width"), [(2, 8, 9), (3, 8, 9), (4, 8, 10), (8, 12, 16)])
def test_sides_that_are_no_multiple_of_the_scale_are_refused(scale, height, width):
    net = AutoEncoder(enlarger(scale), scale, num_feat=16, num_grow_ch=4)
    with pytest.raises(ValueError, match=rf"multiples of the scale {scale}, found {height}x{width}; crop"):
        net(torch.rand(1, 3, height, width))


def test_wrong_scale_and_width_are_refused():
    with pytest.raises(ValueError, match=r"scale 5 does not exist; use one of \[2, 3, 4, 8\]"):
        AutoEncoder(enlarger(5), 5)
    with pytest.raises(ValueError, match="multiple of 16 at scale 4, found 24"):
        AutoEncoder(enlarger(4), 4, num_feat=24)


def test_published_parameter_count():
    decoder = {"type": "RRDBNet", "num_feat": 32, "num_block": 2, "num_grow_ch": 16}
    net = build_network({"type": "AutoEncoder_RRDBNet", "dec_opt": decoder})
    assert sum(parameter.numel() for parameter in net.parameters()) == 768_964


def test_own_names_hold_every_tensor_once():
    decoder = ["conv_first", *(f"body.{n}" for n in RRDB_LAYERS[:15]), "conv_body", "conv_up1", "conv_up2", "conv_hr"]
    names = conv_names("decoder.", [*decoder, "conv_last"])
    names += conv_names("encoder.", ["0.0", "0.1", *(f"2.{n}" for n in RRDB_LAYERS), "3.0", "3.1"])
    assert list(tiny().state_dict()) == names


def test_published_state_dict_has_the_published_names_in_order():
    net = tiny()
    state = net.state_dict()
    doubled = published_state_dict(state)
    decoder = [name for name in state if name.startswith("decoder.")]
    short = conv_names(
        "", ["conv_first.0", "conv_first.1", *(f"body.{n}" for n in RRDB_LAYERS), "conv_last.0", "conv_last.1"]
    )
    long = conv_names("", ["0.0", "0.1", *(f"2.{n}" for n in RRDB_LAYERS), "3.0", "3.1"])
    assert list(doubled) == [*decoder, *short, *(f"encoder.{name}" for name in long)]
    for a, b in zip(short, long, strict=True):
        assert torch.equal(doubled[a], state[f"encoder.{b}"])
        assert torch.equal(doubled[f"encoder.{b}"], state[f"encoder.{b}"])
    assert all(torch.equal(doubled[name], state[name]) for name in decoder)


@pytest.mark.parametrize("load", [nn.Module.load_state_dict, lambda net, state: load_into(net, state, "test")])
@pytest.mark.parametrize("conflict", [False, True])
def test_published_doubled_names_load(load, conflict):
    truth, other, net = tiny(1), tiny(2), tiny(3)
    # With a conflict the short names carry other values: PyTorch fills the shared tensor twice, `encoder.*` last.
    mixed = {k: (other if conflict and k.startswith("encoder.") else truth).state_dict()[k] for k in truth.state_dict()}
    file = published(mixed, truth.state_dict())
    names = list(file)
    load(net, file)
    assert list(file) == names, "the caller's dictionary is not touched"
    x = torch.rand(1, 3, 8, 8)
    with torch.no_grad():
        assert torch.equal(net(x), truth(x))
        assert not torch.equal(other(x), truth(x))


def test_only_the_short_names_load_as_well():
    truth, net = tiny(1), tiny(2)
    file = {k: v for k, v in published(truth.state_dict()).items() if not k.startswith("encoder.")}
    net.load_state_dict(file)
    assert all(torch.equal(value, truth.state_dict()[name]) for name, value in net.state_dict().items())


def test_doubled_names_load_below_a_prefix():
    truth, loss = tiny(1), AESOPLoss(tiny(2))
    loss.load_state_dict({f"autoencoder.{name}": value for name, value in published(truth.state_dict()).items()})
    assert all(torch.equal(v, truth.state_dict()[k]) for k, v in loss.autoencoder.state_dict().items())


def test_a_missing_tensor_is_still_noticed():
    file = published(tiny(1).state_dict())
    del file["encoder.2.1.rdb3.conv5.weight"], file["body.1.rdb3.conv5.weight"]
    with pytest.raises(RuntimeError, match=r"Missing key.*encoder\.2\.1\.rdb3\.conv5\.weight"):
        tiny().load_state_dict(file)
    with pytest.raises(WeightsError, match=r"1 missing \(encoder\.2\.1\.rdb3\.conv5\.weight"):
        load_into(tiny(), file, "test")


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
def test_any_decoder_works(scale):
    net = AutoEncoder(enlarger(scale), scale, num_feat=16, num_grow_ch=4)
    x = torch.rand(1, 3, 2 * scale, 3 * scale)
    y = net(x)
    assert y.shape == x.shape
    y.mean().backward()
    assert all(parameter.grad is not None for parameter in net.parameters())
    again = AutoEncoder(enlarger(scale), scale, num_feat=16, num_grow_ch=4)
    again.load_state_dict(published_state_dict(net.state_dict()))
    with torch.no_grad():
        assert torch.equal(again(x), y)


def test_first_and_last_convolutions_start_small():
    torch.manual_seed(0)
    net = AutoEncoder(enlarger(4), 4, num_feat=64, num_grow_ch=4)
    for layer in (net.encoder[0][0], net.encoder[0][1], net.encoder[3][0], net.encoder[3][1]):
        kaiming_std = (2 / (layer.in_channels * 9)) ** 0.5
        # 108 samples in the smallest one: 30 % is 4.4 sigma of the sample deviation.
        assert layer.weight.std().item() == pytest.approx(0.1 * kaiming_std, rel=0.3)
        assert not layer.bias.any()
