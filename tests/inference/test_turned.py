"""The mean over eight turned and mirrored passes."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aesop import Upscaler
from aesop.inference.tiling import upscale_image
from aesop.inference.turned import EightWays
from aesop.weights.load import LoadedInfo

CPU = torch.device("cpu")


class Skewed(nn.Module):
    """A small network that sees what lies above and to the left."""

    def __init__(self, scale: int = 2):
        super().__init__()
        torch.manual_seed(0)
        self.scale, self.first, self.second = scale, nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 3 * scale**2, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return F.pixel_shuffle(self.second(F.leaky_relu(self.first(x), 0.1)), self.scale) + 0.5


class Enlarged(nn.Module):
    """The same for a picture that is turned."""

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=2, mode="bilinear")


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 65536, shape, np.uint16)


def reference(net: nn.Module, image: np.ndarray) -> np.ndarray:
    """Turn and mirror whole pictures as arrays, and take the mean in double precision."""
    results = []
    for turns in range(4):
        for mirrored in (False, True):
            turned = np.rot90(image[:, ::-1] if mirrored else image, turns).astype(np.float32) / 65535
            with torch.no_grad():
                made = net(torch.from_numpy(np.ascontiguousarray(turned.transpose(2, 0, 1)))[None])[0]
            back = np.rot90(made.numpy().transpose(1, 2, 0), -turns)
            results.append(back[:, ::-1] if mirrored else back)
    return (np.mean(results, 0, dtype=np.float64).clip(0, 1) * 65535).round()


def test_it_is_the_mean_over_the_turned_pictures():
    net, image = Skewed().eval(), noise(13, 22, 3)
    result = upscale_image(EightWays(net), image, 2, tile=0, device=CPU)
    assert np.abs(result - reference(net, image)).max() <= 1  # of 65535
    plain = upscale_image(net, image, 2, tile=0, device=CPU)
    assert np.abs(result.astype(int) - plain).max() > 100  # it is another picture


def test_tiles_make_the_same_as_the_whole():
    net, image = EightWays(Skewed().eval()), noise(70, 45, 3)
    whole = upscale_image(net, image, 2, tile=0, device=CPU)
    tiled = upscale_image(net, image, 2, tile=32, overlap=16, device=CPU)
    assert np.abs(whole.astype(int) - tiled).max() <= 1


def test_a_network_that_turns_with_its_input_stays_the_same():
    image = noise(21, 34, 3)
    plain, mean = (upscale_image(net, image, 2, tile=0, device=CPU) for net in (Enlarged(), EightWays(Enlarged())))
    assert np.abs(plain.astype(int) - mean).max() <= 1


@pytest.fixture
def upscalers(monkeypatch) -> tuple[Upscaler, Upscaler]:
    net = Skewed().eval()
    info = LoadedInfo("RRDBNet", 2, {"num_in_ch": 3, "num_out_ch": 3}, {})
    monkeypatch.setattr("aesop.weights.load.load_generator", lambda path: (net, info))
    return Upscaler(device="cpu"), Upscaler(device="cpu", tta=True)


def test_the_option_of_upscaler(upscalers):
    plain, mean = upscalers
    image = noise(13, 22, 3)
    assert np.abs(mean(image) - reference(Skewed().eval(), image)).max() <= 1
    assert np.abs(mean(image[:, ::-1])[:, ::-1].astype(int) - mean(image)).max() <= 1
    assert np.abs(plain(image[:, ::-1])[:, ::-1].astype(int) - plain(image)).max() > 100
    gray = noise(13, 22)
    assert mean(gray).shape == (26, 44)
    assert np.abs(mean(gray.T).T.astype(int) - mean(gray)).max() <= 1


def test_a_tile_that_is_not_finite_is_computed_by_the_original():
    class Broken(nn.Module):
        def __init__(self, original: nn.Module):
            super().__init__()
            self.original = original

        def forward(self, x: Tensor) -> Tensor:
            return self.original(x) * torch.nan

    net, image = Skewed().eval(), noise(13, 22, 3)
    result = upscale_image(EightWays(Broken(net)), image, 2, tile=0, device=CPU, finite=True)
    assert np.abs(result - reference(net, image)).max() <= 1
