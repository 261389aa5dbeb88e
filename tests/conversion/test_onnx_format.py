"""The ONNX file is a valid one, takes images of any size, and makes PyTorch's image (by onnx's own reference)."""

from importlib.util import find_spec

import numpy as np
import pytest
import torch

from aesop.archs import build_network
from aesop.conversion.onnx_format import to_onnx

pytestmark = pytest.mark.skipif(
    not (find_spec("onnx") and find_spec("onnxscript")), reason="needs onnx: pip install aesop-sr[cpu]"
)


def test_gray_images_of_any_size():
    import onnx
    from onnx.reference import ReferenceEvaluator

    torch.manual_seed(0)
    options = {
        "type": "RRDBNet",
        "num_in_ch": 1,
        "num_out_ch": 1,
        "scale": 3,
        "num_feat": 8,
        "num_block": 1,
        "num_grow_ch": 4,
    }
    net = build_network(options).eval()
    network = onnx.load_from_string(to_onnx(net, 1))
    onnx.checker.check_model(network, full_check=True)
    sides = network.graph.input[0].type.tensor_type.shape.dim
    assert (sides[0].dim_value, sides[1].dim_value) == (1, 1)
    assert [side.dim_param for side in sides[2:]] == ["height", "width"]
    enlarged = network.graph.output[0].type.tensor_type.shape.dim
    assert [side.dim_param for side in enlarged[2:]] == ["3*height", "3*width"]
    image = np.random.default_rng(0).random((1, 1, 37, 41), np.float32)
    (found,) = ReferenceEvaluator(network).run(None, {network.graph.input[0].name: image})
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(found), net(torch.from_numpy(image)), rtol=0, atol=1e-5)
