"""What `compile` and `cuda_graphs` compile: machine code for four architectures, once per run, and no objection to graphs.

Only checked statically: the code was never started. Whether an input is overwritten, PyTorch's graphs look at only when they
run, so that is not seen here.
"""

from collections import Counter

import pytest
import torch
from cases import CASES
from fake_cuda import CUDA, Device, elsewhere
from fake_triton import compile_for, reason_against_compiling
from torch import Tensor, nn

from aesop.archs.frozen import frozen, in_bf16
from aesop.archs.rrdbnet import RRDB
from aesop.training import acceleration

pytestmark = pytest.mark.slow
needs_code = pytest.mark.skipif(bool(against := reason_against_compiling()), reason=str(against))
ARCHITECTURES = (80, 86, 89, 90)
# An RRDB of the generator; of the auto-encoder, which gives a gradient to its input alone; of the average, which gives none.
WAYS = [("trained", "fp32"), ("trained", "bf16"), ("frozen", "bf16"), ("averaged", "bf16")]


def compiled(net: nn.Module, x: Tensor, autocast: bool = False, mode: str = "default") -> None:
    """Compile a network's forward and backward pass for the device, as one graph."""
    from torch._inductor.compile_fx import compile_fx

    def backend(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> object:
        compile_fx(graph, inputs, config_patches=torch._inductor.list_mode_options()[mode])
        return graph.forward  # which fake tensors can run

    torch._dynamo.reset()
    with torch.set_grad_enabled(x.requires_grad), torch.autocast("cuda", torch.bfloat16, enabled=autocast):
        torch.compile(net.forward, backend=backend, fullgraph=True)(x)


def rrdb(role: str, precision: str) -> tuple[nn.Module, Tensor, bool]:
    """A block, its input, and whether autocast is on; with bf16 all lies in channels_last."""
    with Device():
        net, x = RRDB(16, 8).to(CUDA), torch.rand(2, 16, 8, 8, device=CUDA)
        if role != "trained":
            in_bf16(frozen(net))
        if precision == "bf16":
            net, x = net.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
        return net, x.requires_grad_(role != "averaged"), precision == "bf16" and role != "frozen"


def machine_code() -> dict[str, list]:
    """By architecture and way: (kernel, architecture, bytes of its code)."""
    found = {}
    for architecture in ARCHITECTURES:
        for role, precision in WAYS:
            kernels = compile_for(architecture)
            compiled(*rrdb(role, precision))
            found[f"{architecture} {role} {precision}"] = kernels
    return found


@pytest.fixture(scope="module")
def code(tmp_path_factory) -> dict[str, list]:
    return elsewhere(tmp_path_factory.mktemp("code"), machine_code)


@needs_code
@pytest.mark.parametrize(("role", "precision"), WAYS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_block_becomes_machine_code(code, architecture, role, precision):
    kernels = code[f"{architecture} {role} {precision}"]
    assert len(kernels) >= 5
    assert all(target == architecture and size > 1000 for _, target, size in kernels)
    assert any("backward" in name for name, *_ in kernels) == (role != "averaged")


class OnTheCPU(nn.Module):
    """Has a tensor that was forgotten there."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.rand(8)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.weight.to(x.device)


def objections() -> dict[str, int]:
    """How often a graph is given up or divided."""
    from torch._dynamo.utils import counters

    compile_for(90)
    with Device():
        forgotten = OnTheCPU(), torch.rand(2, 16, 8, 8, device=CUDA)
    found = {}
    for name, parts in {"forgotten": forgotten, **{role: rrdb(role, "bf16") for role, _ in WAYS}}.items():
        counters.clear()
        try:
            compiled(*parts, mode="reduce-overhead")
        except RuntimeError:
            assert name == "forgotten"  # compiled, but fake tensors refuse to run it
        found[name] = sum(counters["inductor"][kind] for kind in ("cudagraph_skips", "cudagraph_partitions"))
    return found


@needs_code
def test_cuda_graphs_have_no_objection(tmp_path):
    found = elsewhere(tmp_path, objections)
    assert found.pop("forgotten") > 0
    assert found == {"trained": 0, "frozen": 0, "averaged": 0}


# The other cases compile the same networks.
COMPILED = [
    "psnr, checkpointing", "psnr, MSRResNet", "psnr, SPSRNet", "autoencoder, sigma", "adversarial, accumulate",
    "adversarial, VGG style", "adversarial, KL", "adversarial, SwinIR, other size", "adversarial, SwinIR, checkpointing",
    "adversarial, DRCT", "adversarial, DRCT, checkpointing",
]  # fmt: skip


@pytest.mark.parametrize("way", ["fp32+compile", "bf16+channels_last+compile"])
@pytest.mark.parametrize("name", COMPILED)
def test_networks_are_compiled_whole_and_in_the_first_step_only(name, way, monkeypatch, caplog):
    """On the CPU: what Dynamo guards does not depend on the device."""
    from torch._dynamo.utils import counters

    graphs = Counter[str]()

    def backend(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> object:
        graphs["made"] += 1
        return graph.forward

    compile_with = torch.compile
    monkeypatch.setattr(acceleration.torch, "compile", lambda function, mode: compile_with(function, backend=backend))
    monkeypatch.setattr("aesop.system.device._pays", lambda device: True)
    torch._dynamo.reset()
    counters.clear()
    step = CASES[name].build(way, torch.device("cpu"))
    step(1)
    in_first = graphs["made"]
    for iteration in (2, 3):
        step(iteration)
    assert in_first > 0
    assert graphs["made"] == in_first
    assert not counters["graph_break"]
    assert "falling back" not in caplog.text
