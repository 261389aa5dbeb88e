"""Cost against closed forms, PyTorch's own counter, and memory that was planted."""

import numpy as np
import pytest
import torch
from results_lib import method, results
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from aesop.archs import build_network
from aesop.evaluation import cost
from aesop.evaluation.comparison import compare
from aesop.evaluation.cost import measure_costs
from aesop.evaluation.published import published_for
from aesop.evaluation.results import Cost, CostRun
from aesop.evaluation.tables.build import means_table
from aesop.evaluation.tables.cost import with_costs
from aesop.evaluation.tables.table import NONE

CPU = torch.device("cpu")
HEIGHT, WIDTH, SCALE = 12, 20, 4
MEGAPIXELS = HEIGHT * WIDTH * SCALE**2 / 1e6


def image(height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


class Small(nn.Module):
    """A convolution, and a linear layer over channels; `planted` floats live for a moment, `times` times."""

    def __init__(self, planted: int = 0, times: int = 1):
        super().__init__()
        self.planted, self.times = planted, times
        self.conv, self.linear = nn.Conv2d(3, 48, 3, padding=1), nn.Linear(48, 48)
        self.shuffle = nn.PixelShuffle(SCALE)

    def forward(self, x):
        for _ in range(self.times if self.planted else 0):
            torch.zeros(self.planted)
        return self.shuffle(self.linear(self.conv(x).movedim(1, 3)).movedim(3, 1))


def of(*nets: nn.Module) -> list:
    named = {str(index): net.eval() for index, net in enumerate(nets)}
    return list(measure_costs(named, [image(), image(8, 8)], SCALE, CPU, rounds=1).values())


def test_operations_and_parameters_of_a_convolution_and_a_linear_layer():
    (found,) = of(Small())
    assert found.parameters == 48 * 27 + 48 + 48 * 48 + 48
    assert found.gflops == pytest.approx(2 * HEIGHT * WIDTH * (48 * 27 + 48 * 48) / 1e9 / MEGAPIXELS)
    assert found.seconds > 0


@pytest.mark.parametrize(
    "options",
    [
        {"type": "RRDBNet", "scale": SCALE, "num_feat": 16, "num_block": 1, "num_grow_ch": 8},
        {
            "type": "SwinIR", "upscale": SCALE, "img_size": 16, "window_size": 4, "depths": [1], "embed_dim": 12,
            "num_heads": [2], "mlp_ratio": 2, "upsampler": "pixelshuffle",
        },
    ],
    ids=lambda options: options["type"],
)  # fmt: skip
def test_operations_as_pytorch_counts_them(options):
    net = build_network(options).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        net(torch.rand(1, 3, HEIGHT, WIDTH))
    (found,) = of(net)
    assert found.gflops == pytest.approx(counter.get_total_flops() / 1e9 / MEGAPIXELS)


def test_memory_that_lives_for_a_moment_is_found_and_counts_once():
    plain, planted, often = of(Small(), Small(planted=2**20), Small(planted=2**20, times=5))
    assert 4 <= planted.peak_mib < 4 + plain.peak_mib
    assert often.peak_mib == planted.peak_mib
    # At least the convolution's output, and not the weights, which have 15 KB.
    assert 48 * HEIGHT * WIDTH * 4 <= plain.peak_mib * 2**20 < 6 * 48 * HEIGHT * WIDTH * 4


def cost_of(device: str) -> Cost:
    run = CostRun(started="2026-01-01T00:00:00+00:00", lr="10x8", device=device, threads=1)
    return Cost(run=run, parameters=1_234_567, gflops=890.4, seconds=1.5, peak_mib=321.4)


def test_costs_of_several_runs_are_named_as_such():
    comparison = compare(results(method("a", cost=cost_of("CPU")), method("b", cost=cost_of("GPU")), method("c")))
    assert comparison.warnings[0].startswith("costs are of 2 runs, so their times do not compare: a (CPU, 1 thread, ")
    table = with_costs(means_table(comparison), comparison)
    assert table.groups[-1].detail == "2 runs"
    assert "Cost: LR of 10x8 pixels, CPU, 1 thread; LR of 10x8 pixels, GPU, 1 thread; MP:" in table.caption[-1]
    assert not compare(results(method("a", cost=cost_of("CPU")), method("b", cost=cost_of("CPU")))).warnings


def test_columns_of_tables():
    """Methods without a network have dashes; rows of intervals and of published figures stay empty."""
    net = method("net", cost=cost_of("CPU"))
    measured = results(net, method("bicubic"))
    comparison = compare(measured)
    plain = means_table(comparison, published=published_for(measured, ["DRCT"]))
    table = with_costs(plain, comparison)
    assert [column.label for column in table.groups[-1].columns] == ["parameters (M)", "GFLOPs/MP", "s/MP", "MiB"]
    shown = {row.label: [cell.text for cell in row.cells[-4:]] for row in table.rows}
    assert shown["net"] == ["1.23", "890", "1.50", "321"]
    assert shown["bicubic"] == [NONE] * 4
    assert {tuple(texts) for label, texts in shown.items() if label not in ("net", "bicubic")} == {("",) * 4}
    assert all(len(row.cells) == len(table.columns) for row in table.rows)
    assert "Cost: LR of 10x8 pixels, CPU, 1 thread; MP:" in table.caption[-1]
    without = compare(results(method("bicubic")))
    assert with_costs(means_table(without), without) == means_table(without)


def test_methods_take_turns_on_every_image(monkeypatch):
    calls = []

    def enlarge(net, lr, *_, **__):
        calls.append((net, lr.shape[0]))
        return lr

    monkeypatch.setattr(cost, "upscale_image", enlarge)
    a, b = Small(), Small()
    measure_costs({"a": a, "b": b}, [image(), image(8, 8)], SCALE, CPU, rounds=2)
    each_round = [(a, HEIGHT), (b, HEIGHT), (a, 8), (b, 8)]
    assert calls == [(a, HEIGHT), (b, HEIGHT), *each_round, *each_round]
