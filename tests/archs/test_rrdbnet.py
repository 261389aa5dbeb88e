"""RRDBNet against spandrel's independent ESRGAN, the published names, and its own checkpointed form."""

import copy

import pytest
import torch
from torch import nn

from aesop.archs.rrdbnet import RRDBNet


def lively(net: nn.Module, seed: int = 0) -> nn.Module:
    """Weights of unit gain: with the published x0.1 initialisation a fault inside the dense blocks would hardly show."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in net.parameters():
            fan_in = parameter[0].numel() if parameter.ndim > 1 else 100
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / fan_in**0.5)
    return net.eval()


def image(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("scale", "num_block", "unshuffle"), [(4, 2, True), (2, 1, True), (2, 1, False), (1, 1, True), (8, 1, True)]
)
def test_output_equals_spandrels_for_the_same_weights(scale, num_block, unshuffle):
    spandrel = pytest.importorskip("spandrel")
    # spandrel's ESRGAN has a growth of 32 and no other.
    net = lively(RRDBNet(scale=scale, num_feat=8, num_block=num_block, num_grow_ch=32, unshuffle=unshuffle))
    oracle = spandrel.ModelLoader().load_from_state_dict(net.state_dict())
    assert oracle.scale == scale
    x = image(1, 3, 12, 16)
    with torch.no_grad():
        ours, theirs = net(x), oracle.model.eval()(x)
        blocks_removed = copy.deepcopy(net)
        blocks_removed.body = nn.Sequential()
        without_blocks = blocks_removed(x)
    assert ours.shape == (1, 3, 12 * scale, 16 * scale)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    assert (without_blocks - theirs).abs().max() > 1e-2, "the comparison must see the dense blocks"


@pytest.mark.parametrize(("scale", "factor"), [(2, 2), (1, 4)])
def test_rows_and_columns_beyond_the_unshuffle_factor_are_ignored(scale, factor):
    net = lively(RRDBNet(scale=scale, num_feat=8, num_block=1, num_grow_ch=4))
    x = image(1, 3, 2 * factor + 1, 3 * factor + factor - 1)
    with torch.no_grad():
        assert torch.equal(net(x), net(x[..., : 2 * factor, : 3 * factor]))


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_state_names_are_basicsrs(scale):
    layers = ["conv_first"]
    layers += [f"body.{n}.rdb{r}.conv{c}" for n in range(3) for r in (1, 2, 3) for c in (1, 2, 3, 4, 5)]
    layers += ["conv_body", "conv_up1", "conv_up2", "conv_hr", "conv_last"]
    published = [f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")]
    net = RRDBNet(scale=scale, num_feat=8, num_block=3, num_grow_ch=4)
    assert list(net.state_dict()) == published


def test_bsrgans_x2_network_takes_the_image_as_it_is_and_enlarges_once():
    net = RRDBNet(scale=2, num_feat=8, num_block=1, num_grow_ch=4, unshuffle=False)
    names = set(RRDBNet(num_feat=8, num_block=1, num_grow_ch=4).state_dict())
    assert set(net.state_dict()) == names - {"conv_up2.weight", "conv_up2.bias"}
    assert net.conv_first.weight.shape == (8, 3, 3, 3)
    with torch.no_grad():
        assert net(image(1, 3, 5, 7)).shape == (1, 3, 10, 14)


@pytest.mark.parametrize("scale", [3, 4, 8])
def test_scales_that_never_unshuffle_accept_the_option(scale):
    a, b = (RRDBNet(scale=scale, num_feat=8, num_block=1, num_grow_ch=4, unshuffle=u).state_dict() for u in (True, False))
    assert {name: value.shape for name, value in a.items()} == {name: value.shape for name, value in b.items()}


def test_scale_1_refuses_to_go_without_unshuffle():
    with pytest.raises(ValueError, match="scale 1 without unshuffle does not exist"):
        RRDBNet(scale=1, unshuffle=False)


def test_published_size():
    # 702 tensors and 16 697 987 parameters: RealESRGAN_x4plus and ESRGAN's RRDB_PSNR_x4.
    with torch.device("meta"):
        net = RRDBNet()
    assert len(net.state_dict()) == 702
    assert sum(p.numel() for p in net.parameters()) == 16_697_987


@pytest.mark.parametrize(("scale", "ups"), [(3, 1), (8, 3)])
def test_scales_beyond_the_published_ones(scale, ups):
    net = lively(RRDBNet(scale=scale, num_feat=8, num_block=1, num_grow_ch=4))
    with torch.no_grad():
        assert net(image(2, 3, 5, 7)).shape == (2, 3, 5 * scale, 7 * scale)
    assert [f"conv_up{k}.weight" in net.state_dict() for k in range(1, ups + 2)] == [True] * ups + [False]


def test_other_channel_counts():
    net = lively(RRDBNet(num_in_ch=1, num_out_ch=1, scale=2, num_feat=8, num_block=1, num_grow_ch=4))
    with torch.no_grad():
        assert net(image(1, 1, 8, 6)).shape == (1, 1, 16, 12)


def test_wrong_scale_is_refused_with_the_ones_that_exist():
    with pytest.raises(ValueError, match=r"RRDBNet: scale 5 does not exist; use one of \[1, 2, 3, 4, 8\]"):
        RRDBNet(scale=5)


def test_initialisation_of_the_dense_blocks_is_a_tenth_of_kaimings():
    torch.manual_seed(0)
    net = RRDBNet(num_feat=32, num_block=2, num_grow_ch=16)
    for layer in (module for module in net.body.modules() if isinstance(module, nn.Conv2d)):
        kaiming_std = (2 / (layer.in_channels * 9)) ** 0.5
        # At least 32 * 9 * 16 = 4608 samples: a sample deviation is within 10 % with near certainty (9 sigma).
        assert layer.weight.std().item() == pytest.approx(0.1 * kaiming_std, rel=0.1)
        assert not layer.bias.any()


def test_checkpointing_changes_neither_output_nor_gradients():
    plain = lively(RRDBNet(num_feat=8, num_block=2, num_grow_ch=4)).train()
    frugal = RRDBNet(num_feat=8, num_block=2, num_grow_ch=4, use_checkpoint=True).train()
    frugal.load_state_dict(plain.state_dict())
    forwards = [0, 0]
    for k, net in enumerate((plain, frugal)):
        net.body[0].register_forward_pre_hook(lambda *_, k=k: forwards.__setitem__(k, forwards[k] + 1))
    outputs, inputs = [], []
    for net in (plain, frugal):
        x = image(1, 3, 6, 6).requires_grad_()
        y = net(x)
        y.square().mean().backward()
        outputs.append(y)
        inputs.append(x)
    assert forwards == [1, 2], "the checkpointed block runs a second time in the backward pass"
    assert torch.equal(*outputs)
    assert torch.equal(inputs[0].grad, inputs[1].grad)
    for (name, a), b in zip(plain.named_parameters(), frugal.parameters(), strict=True):
        assert a.grad.any(), name
        assert torch.equal(a.grad, b.grad), name
