import pytest
import torch

from mfm.numerics.pixels import normalise


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_normalise_keeps_layout_dtype_and_bits(layout, dtype):
    images = torch.rand(2, 3, 5, 4, dtype=dtype).contiguous(memory_format=layout)
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)
    found = normalise(images, mean=mean, std=std)
    assert found.dtype == dtype
    assert found.stride() == images.stride()
    for channel in range(3):
        values = torch.tensor([mean[channel], std[channel]], dtype=dtype)
        assert torch.equal(found[:, channel], (images[:, channel] - values[0]) / values[1])
