"""SPSRNet: its image gradient against PyTorch's, the published names, what of them is doubled, and its limits."""

import pytest
import torch

from aesop.archs import build_network
from aesop.archs.spsr import ImageGradient, SPSRNet
from aesop.weights.load import load_into
from aesop.weights.tensor_names import published_names


def tiny(seed: int = 0, **options) -> SPSRNet:
    torch.manual_seed(seed)
    return SPSRNet(**{"nf": 4, "nb": 20, **options}).eval()


def test_image_gradient_is_the_length_of_central_differences():
    x = torch.rand(2, 3, 6, 8, dtype=torch.float64)
    ours = ImageGradient().double()(x)
    v, h = (2 * g for g in torch.gradient(x, dim=(2, 3)))  # PyTorch halves them
    assert ours.shape == x.shape
    inside = (..., slice(1, -1), slice(1, -1))
    torch.testing.assert_close(ours[inside], torch.sqrt(v**2 + h**2 + 1e-6)[inside], rtol=1e-12, atol=0)
    # Beyond the border lies zero: in a corner both differences are a neighbour's value.
    corner = torch.sqrt(x[..., 0, 1] ** 2 + x[..., 1, 0] ** 2 + 1e-6)
    torch.testing.assert_close(ours[..., 0, 0], corner, rtol=1e-12, atol=0)


def test_image_gradients_kernels_are_never_trained():
    net = ImageGradient().requires_grad_(True)
    x = torch.rand(1, 3, 5, 5, requires_grad=True)
    net(x).sum().backward()
    assert x.grad.any()
    assert net.weight_h.grad is None
    assert net.weight_v.grad is None


@pytest.mark.parametrize("upscale", [2, 3, 4, 8])
def test_shapes(upscale):
    net = build_network({"type": "SPSRNet", "in_nc": 1, "nf": 4, "nb": 20, "upscale": upscale}).eval()
    with torch.no_grad():
        assert net(torch.rand(2, 1, 5, 6)).shape == (2, 3, 5 * upscale, 6 * upscale)


@pytest.mark.parametrize(("part", "taps"), [("model.1.sub.19", True), ("model.1.sub.20", False)])
def test_the_gradient_branch_taps_the_twentieth_block_and_none_after(part, taps):
    net = tiny(nb=21)
    branches = []
    net.b_module.register_forward_hook(lambda _, __, output: branches.append(output))
    x = torch.rand(1, 3, 5, 6)
    with torch.no_grad():
        before = net(x)
        for parameter in net.get_submodule(part).parameters():
            parameter.add_(0.1)
        assert not torch.equal(net(x), before)
    assert torch.equal(*branches) is not taps


def test_every_tensor_but_the_gradient_maps_takes_part():
    net = tiny()
    net(torch.rand(1, 3, 5, 6)).square().mean().backward()
    idle = {name for name, parameter in net.named_parameters() if parameter.grad is None}
    assert idle == {"get_g_nopadding.weight_h", "get_g_nopadding.weight_v", "conv_w.0.weight", "conv_w.0.bias"}


def test_growth_is_fixed_as_published():
    assert [v.shape for v in tiny(gc=8).state_dict().values()] == [v.shape for v in tiny().state_dict().values()]


def test_published_size():
    with torch.device("meta"):
        parameters = sum(p.numel() for p in SPSRNet().parameters())
    assert round(parameters / 1e6, 1) == 24.8  # what comparisons of methods print for SPSR


@pytest.mark.parametrize("upscale", [2, 4])
def test_published_names_go_out_and_come_back(upscale):
    truth, net = tiny(1, upscale=upscale), tiny(2, upscale=upscale)
    published = published_names(truth.state_dict())
    # The published class adds the convolution after the last upsampling as an attribute of its own, before the others.
    last = {2: "model.5", 4: "model.8"}[upscale]
    assert list(published) == ["HR_conv0_new.0.weight", "HR_conv0_new.0.bias", *truth.state_dict()]
    assert torch.equal(published["HR_conv0_new.0.weight"], published[f"{last}.weight"])
    assert f"model.{int(last[-1]) + 1}.weight" not in published
    published["HR_conv0_new.0.weight"] = torch.zeros(4, 4, 3, 3)  # PyTorch fills the shared tensor twice, `model` last
    load_into(net, published, "test")
    x = torch.rand(1, 3, 5, 6)
    with torch.no_grad():
        assert torch.equal(net(x), truth(x))


def test_wrong_options_are_refused():
    with pytest.raises(ValueError, match=r"nb must be at least 20 .*taps blocks \(5, 10, 15, 20\).*, found 19"):
        SPSRNet(nb=19)
    with pytest.raises(ValueError, match=r"SPSRNet: upscale 5 does not exist; use one of \[2, 3, 4, 8\]"):
        SPSRNet(upscale=5)
