"""Arrays to tensors and back."""

import numpy as np
import pytest
import torch

from aesop.images.tensors import to_array, to_tensor


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_arrays_and_tensors(dtype):
    top = np.iinfo(dtype).max
    array = np.arange(top + 1, dtype=dtype).reshape(16, -1)
    image = np.stack([array, array[::-1], array[:, ::-1]], -1)
    tensor = to_tensor(image)
    assert tensor.shape == (3, *array.shape)
    assert tensor.dtype == torch.float32
    assert tensor.min() == 0
    assert tensor.max() == 1
    torch.testing.assert_close(tensor[0], torch.from_numpy((array / top).astype(np.float32)), rtol=1e-7, atol=0)
    np.testing.assert_array_equal(to_array(tensor, dtype), image)
    assert to_tensor(array).shape == (1, *array.shape)


def test_to_array_clamps_and_rounds_halves_to_even():
    levels = torch.tensor([-3.0, 0.5, 1.5, 2.5, 254.5, 300.0], dtype=torch.float64)
    values = (levels / 255).float()
    assert ((values * 255).double() == levels).all(), "the halves must survive float32 for this test to mean anything"
    assert to_array(values.view(1, 1, -1)).ravel().tolist() == [0, 0, 2, 2, 254, 255]
    assert to_array(torch.rand(3, 4, 5, requires_grad=True)).shape == (4, 5, 3)
    assert to_array(torch.ones(1, 2, 2, dtype=torch.bfloat16)).max() == 255
