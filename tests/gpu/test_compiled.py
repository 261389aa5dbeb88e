"""What `compile` and `cuda_graphs` compile: machine code for four architectures, once per run, and no objection to graphs.

Only checked statically: the code was never started. Whether an input is overwritten, PyTorch's graphs look at only when they
run, so that is not seen here.
"""

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
# An RRDB of the generator; of the auto-encoder, which gives a gradient to its input alone; of the average, which gives none.
BLOCKS = [(architecture, "trained", "bf16") for architecture in (80, 86, 89, 90)] + [
    (80, "trained", "fp32"), (80, "frozen", "bf16"), (90, "frozen", "bf16"), (90, "averaged", "bf16"),
]  # fmt: skip


def compiled(architecture: int, net: nn.Module, x: Tensor, autocast: bool = False) -> tuple[list[tuple[str, int, int]], int]:
    """Compile a network's passes as one graph. Returns its kernels, and how often CUDA graphs are given up or divided."""
    from torch._dynamo.utils import counters
    from torch._inductor.compile_fx import compile_fx

    def backend(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> object:
        compile_fx(graph, inputs, config_patches=torch._inductor.list_mode_options()["reduce-overhead"])
        return graph.forward  # which fake tensors can run

    kernels = compile_for(architecture)
    torch._dynamo.reset()
    counters.clear()
    with torch.set_grad_enabled(x.requires_grad), torch.autocast("cuda", torch.bfloat16, enabled=autocast):
        torch.compile(net.forward, backend=backend, fullgraph=True)(x)
    return kernels, sum(counters["inductor"][kind] for kind in ("cudagraph_skips", "cudagraph_partitions"))


def rrdb(role: str, precision: str) -> tuple[nn.Module, Tensor, bool]:
    """A block, its input, and whether autocast is on; with bf16 all lies in channels_last."""
    with Device():
        net, x = RRDB(16, 8).to(CUDA), torch.rand(2, 16, 8, 8, device=CUDA)
        if role != "trained":
            in_bf16(frozen(net))
        if precision == "bf16":
            net, x = net.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
        return net, x.requires_grad_(role != "averaged"), precision == "bf16" and role != "frozen"


def all_blocks() -> dict[str, list]:
    return {str(block): compiled(block[0], *rrdb(*block[1:])) for block in BLOCKS}


@pytest.fixture(scope="module")
def blocks(tmp_path_factory) -> dict[str, list]:
    return elsewhere(tmp_path_factory.mktemp("code"), all_blocks)


@needs_code
@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_a_block_becomes_machine_code_and_a_graph(blocks, block):
    kernels, objections = blocks[str(block)]
    architecture, role, _ = block
    assert len(kernels) >= 5
    assert all(target == architecture and size > 1000 for _, target, size in kernels)
    assert any("backward" in name for name, *_ in kernels) == (role != "averaged")
    assert objections == 0


class OnTheCPU(nn.Module):
    """Has a tensor that was forgotten there."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch._guards.detect_fake_mode().from_tensor(torch.rand(8))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.weight.to(x.device)


def objections_to_a_planted_fault() -> int:
    with Device():
        net, x = OnTheCPU(), torch.rand(2, 16, 8, 8, device=CUDA)
    return compiled(90, net, x)[1]


@needs_code
def test_a_graph_with_a_tensor_on_the_cpu_is_found(tmp_path):
    assert elsewhere(tmp_path, objections_to_a_planted_fault) > 0


# The other cases compile the same networks.
COMPILED = [("adversarial, accumulate", "fp32")] + [
    (name, "bf16+channels_last")
    for name in (
        "psnr, checkpointing", "psnr, MSRResNet", "autoencoder, sigma", "adversarial, accumulate", "adversarial, VGG style",
        "adversarial, KL", "adversarial, SwinIR, other size", "adversarial, DRCT, checkpointing",
    )
]  # fmt: skip


@pytest.mark.parametrize(("name", "way"), COMPILED)
def test_networks_are_compiled_whole_and_in_the_first_step_only(name, way, monkeypatch, caplog):
    """On the CPU: what Dynamo guards does not depend on the device."""
    from torch._dynamo.utils import counters

    graphs = []

    def backend(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> object:
        graphs.append(graph)
        return graph.forward

    compile_with = torch.compile
    monkeypatch.setattr(acceleration.torch, "compile", lambda function, mode: compile_with(function, backend=backend))
    monkeypatch.setattr("aesop.system.device._pays", lambda device: True)
    torch._dynamo.reset()
    counters.clear()
    step = CASES[name].build(f"{way}+compile", torch.device("cpu"))
    step(1)
    in_first = len(graphs)
    for iteration in (2, 3):
        step(iteration)
    assert len(graphs) == in_first > 0
    assert not counters["graph_break"]
    assert "falling back" not in caplog.text
