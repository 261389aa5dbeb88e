"""The auto-encoder: shapes at every scale, published names in and out, any decoder; its variants."""

import copy

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from aesop.archs import build_network
from aesop.archs.autoencoder import AutoEncoder, BicubicAutoEncoder, ProbabilisticAutoEncoder
from aesop.archs.msrresnet import MSRResNet
from aesop.archs.rrdbnet import RRDBNet
from aesop.archs.spsr import SPSRNet
from aesop.weights.errors import WeightsError
from aesop.weights.load import load_into
from aesop.weights.tensor_names import published_names


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
    doubled = published_names(state)
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


@pytest.mark.parametrize("conflict", [False, True])
def test_published_doubled_names_load(conflict):
    truth, other, net = tiny(1), tiny(2), tiny(3)
    # With a conflict the short names have other values; PyTorch would fill the shared tensor twice, `encoder.*` last.
    mixed = {k: (other if conflict and k.startswith("encoder.") else truth).state_dict()[k] for k in truth.state_dict()}
    file = published(mixed, truth.state_dict())
    names = list(file)
    load_into(net, file, "test")
    assert list(file) == names, "the caller's dictionary is not touched"
    x = torch.rand(1, 3, 8, 8)
    with torch.no_grad():
        assert torch.equal(net(x), truth(x))
        assert not torch.equal(other(x), truth(x))


def test_a_file_with_only_the_short_names_is_refused():
    """It is a BicubicDown_RRDBNet's, whose encoder was never trained."""
    file = {k: v for k, v in published(tiny(1).state_dict()).items() if not k.startswith("encoder.")}
    with pytest.raises(WeightsError, match=r"missing \(encoder\.0\.0\.bias"):
        load_into(tiny(2), file, "test")


def test_a_missing_tensor_is_still_noticed():
    file = published(tiny(1).state_dict())
    del file["encoder.2.1.rdb3.conv5.weight"], file["body.1.rdb3.conv5.weight"]
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
    load_into(again, published_names(net.state_dict()), "test")
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


# --- variants ----------------------------------------------------------------------------------------------------------

TINY_RRDBNET = {"type": "RRDBNet", "num_feat": 16, "num_block": 2, "num_grow_ch": 4}
TINY_MSRRESNET = {"type": "MSRResNet", "num_feat": 8, "num_block": 1}
VARIANTS = {
    "AutoEncoder_RRDBNet": (AutoEncoder, TINY_RRDBNET),
    "AutoEncoder_MSRResNet": (AutoEncoder, TINY_MSRRESNET),
    "BicubicDown_RRDBNet": (BicubicAutoEncoder, TINY_RRDBNET),
    "ProbabilisticAutoEncoder_RRDBNet": (ProbabilisticAutoEncoder, TINY_RRDBNET),
}


def variant(name: str, seed: int = 0, **options) -> AutoEncoder:
    torch.manual_seed(seed)
    # The published files' encoder section holds a placeholder, and is otherwise ignored there.
    net = build_network({"type": name, "enc_opt": {"placeholder": 0}, "dec_opt": VARIANTS[name][1], **options})
    assert type(net) is VARIANTS[name][0]
    return net.eval()


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_survives_the_published_names(name):
    truth, net = variant(name, 1), variant(name, 2)
    x = torch.rand(1, 3, 8, 12)
    with torch.no_grad():
        assert not torch.equal(net(x), truth(x))
        load_into(net, published_names(truth.state_dict()), "test")
        assert torch.equal(net(x), truth(x))
        load_into(again := variant(name, 3), truth.state_dict(), "test")
        assert torch.equal(again(x), truth(x))


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_can_be_copied(name):
    net = variant(name)
    twin = copy.deepcopy(net)
    x = torch.rand(1, 3, 8, 12)
    with torch.no_grad():
        before = net(x)
        assert torch.equal(twin(x), before)
        for parameter in net.parameters():
            parameter.zero_()
        assert torch.equal(twin(x), before), "the copy has weights of its own"
        assert not torch.equal(net(x), before)


def test_the_encoder_is_as_wide_as_an_rrdbnet_decoder_and_64_32_with_others():
    def widths(net: AutoEncoder) -> tuple[int, int]:
        conv = net.encoder[2][0].rdb1.conv1
        return conv.in_channels, conv.out_channels

    assert widths(variant("AutoEncoder_RRDBNet")) == (16, 4)
    assert widths(variant("AutoEncoder_MSRResNet")) == (64, 32)
    assert widths(variant("AutoEncoder_RRDBNet", dec_opt=TINY_MSRRESNET)) == (64, 32)
    assert widths(variant("AutoEncoder_MSRResNet", enc_opt={"num_feat": 48, "num_grow_ch": None})) == (48, 32)


@pytest.mark.parametrize(
    ("decoder", "kind", "scale"),
    [(TINY_MSRRESNET, MSRResNet, 2), (TINY_MSRRESNET, MSRResNet, 3), ({"type": "SPSRNet", "nf": 4, "nb": 20}, SPSRNet, 2)],
)
def test_our_decoders_get_the_autoencoders_scale(decoder, kind, scale):
    small = {"num_feat": 16, "num_grow_ch": 4}
    net = variant("AutoEncoder_RRDBNet", dec_opt={**decoder, "upscale": 4}, enc_opt=small, scale=scale)
    assert isinstance(net.decoder, kind)
    x = torch.rand(1, 3, 4 * scale, 5 * scale)
    with torch.no_grad():
        assert net(x).shape == x.shape


def pillows(image: Tensor, scale: int) -> Tensor:
    """Pillow's bicubic, channel by channel in float32."""
    size = (image.shape[-1] // scale, image.shape[-2] // scale)
    small = [Image.fromarray(np.asarray(channel)).resize(size, Image.Resampling.BICUBIC) for channel in image]
    return torch.from_numpy(np.stack(small))


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
def test_the_bicubic_bottleneck_is_pillows(scale):
    net = BicubicAutoEncoder(enlarger(scale), scale, num_feat=16, num_grow_ch=4)
    x = torch.rand(2, 3, 6 * scale, 5 * scale)
    bottleneck = net.encode(x)
    assert bottleneck.shape == (2, 3, 6, 5)
    for ours, one in zip(bottleneck, x, strict=True):
        torch.testing.assert_close(ours, pillows(one, scale), rtol=0, atol=1e-6)


def test_the_bicubic_bottleneck_of_a_ramp_is_the_ramp_at_the_cells_centres():
    net = BicubicAutoEncoder(enlarger(4), num_feat=16, num_grow_ch=4)
    ramp = torch.arange(40.0).expand(1, 3, 24, 40)
    centres = 4 * torch.arange(10.0) + 1.5
    inside = net.encode(ramp)[..., 2:-2]  # the kernel is 16 pixels wide: further out it reaches beyond the border
    torch.testing.assert_close(inside, centres[2:-2].expand(1, 3, 6, 6), rtol=1e-6, atol=0)


def test_the_bicubic_variant_takes_any_size_and_rounds_down():
    net = variant("BicubicDown_RRDBNet")
    x = torch.rand(1, 3, 30, 37, requires_grad=True)
    y, bottleneck = net(x, return_bottleneck=True)
    assert bottleneck.shape == (1, 3, 7, 9)
    assert y.shape == (1, 3, 28, 36)
    y.sum().backward()
    assert x.grad.any()
    idle = {name.split(".")[0] for name, parameter in net.named_parameters() if parameter.grad is None}
    assert idle == {"conv_first", "body", "conv_last"}


def test_the_bicubic_variant_has_each_name_once_and_is_told_apart_by_them():
    learned, bicubic = variant("AutoEncoder_RRDBNet"), variant("BicubicDown_RRDBNet")
    doubled = published_names(learned.state_dict())
    assert list(bicubic.state_dict()) == [name for name in doubled if not name.startswith("encoder.")]
    assert published_names(bicubic.state_dict()).keys() == bicubic.state_dict().keys()
    for net, file in ((learned, bicubic.state_dict()), (bicubic, learned.state_dict()), (bicubic, doubled)):
        with pytest.raises(RuntimeError, match=r"(Missing|Unexpected) key"):
            net.load_state_dict(file)
        with pytest.raises(WeightsError, match=r"do not fit .*missing"):
            load_into(net, file, "test")
    assert bicubic.colour_channels == 3, "no colour is lost before the bottleneck"


def test_the_probabilistic_variant_returns_what_is_asked_for():
    net, plain = variant("ProbabilisticAutoEncoder_RRDBNet"), variant("AutoEncoder_RRDBNet", 1)
    plain.load_state_dict({k: v for k, v in net.state_dict().items() if not k.startswith("sigma_branch.")})
    x = torch.rand(2, 3, 8, 12)
    with torch.no_grad():
        image, bottleneck, sigma = net(x, return_bottleneck=True, return_sigma=True)
        assert torch.equal(image, plain(x))
        assert torch.equal(bottleneck, plain.encode(x))
        assert sigma.shape == x.shape
        assert torch.equal(net(x), image)
        for keywords, expected in (("return_bottleneck", bottleneck), ("return_sigma", sigma)):
            first, second = net(x, **{keywords: True})
            assert torch.equal(first, image)
            assert torch.equal(second, expected)


def test_sigma_starts_from_the_first_and_the_last_block_and_the_decoder_runs_once():
    net = variant("ProbabilisticAutoEncoder_RRDBNet")
    seen = {name: [] for name in ("body.0", "body.1", "conv_last")}
    for name, outputs in seen.items():
        net.decoder.get_submodule(name).register_forward_hook(lambda _, __, y, outputs=outputs: outputs.append(y))
    with torch.no_grad():
        _, sigma = net(torch.rand(1, 3, 8, 12), return_sigma=True)
        assert [len(outputs) for outputs in seen.values()] == [1, 1, 1]
        y = net.sigma_branch[1](net.sigma_branch[0](seen["body.0"][0] + seen["body.1"][0]))
        for k in (3, 6):
            larger = y.repeat_interleave(2, -1).repeat_interleave(2, -2)
            y = nn.functional.leaky_relu(net.sigma_branch[k](larger), 0.2)
        y = net.sigma_branch[10](nn.functional.leaky_relu(net.sigma_branch[8](y), 0.2))
        assert torch.equal(sigma, y)


def test_a_probabilistic_copy_is_independent_of_the_original():
    net = variant("ProbabilisticAutoEncoder_RRDBNet")
    twin = copy.deepcopy(net).double()
    x = torch.rand(1, 3, 8, 12)
    with torch.no_grad():
        before = net(x, return_sigma=True)[1]
        after = twin(x.double(), return_sigma=True)[1]
        torch.testing.assert_close(after.float(), before, rtol=1e-4, atol=1e-7)
        for parameter in net.parameters():
            parameter.zero_()
        assert torch.equal(twin(x.double(), return_sigma=True)[1], after)


@pytest.mark.parametrize(
    ("decoder", "scale", "found"),
    [
        (enlarger(4), 4, "Sequential of scale unknown, and scale 4"),
        (RRDBNet(scale=2, num_feat=8, num_block=1, num_grow_ch=4), 2, "RRDBNet of scale 2, and scale 2"),
    ],
)
def test_a_probabilistic_variant_of_another_decoder_is_refused(decoder, scale, found):
    with pytest.raises(ValueError, match=f"must be an RRDBNet of scale 4, found {found}; use an AutoEncoder"):
        ProbabilisticAutoEncoder(decoder, scale, num_feat=16, num_grow_ch=4)
