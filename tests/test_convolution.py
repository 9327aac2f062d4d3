import copy

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from mfm.numerics.convolution import SmallMapConv2d, use_products


def pair(**arguments):
    """A convolution and its copy that uses products."""
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(**arguments)).to(memory_format=torch.channels_last)
    ours = copy.deepcopy(plain)
    use_products(ours)
    return plain, ours


def outputs_and_gradients(model, images, upstream):
    images = images.clone().requires_grad_()
    outputs = model(images)
    outputs.backward(upstream[tuple(slice(side) for side in outputs.shape)].to(outputs.dtype))
    return [outputs, images.grad, *(parameter.grad for parameter in model.parameters())]


@given(
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    channels=st.sampled_from([3, 256]),  # few and many: other ways
    bias=st.booleans(),
    layout=st.sampled_from([torch.channels_last, torch.contiguous_format]),
    seed=st.integers(0, 99),
)
@settings(deadline=None, max_examples=150)
def test_any_convolution_and_its_gradients(
    kernel, stride, padding, size, channels, bias, layout, seed
):
    assume(all(s + 2 * p >= k for s, p, k in zip(size, padding, kernel, strict=True)))
    plain, ours = pair(
        in_channels=2,
        out_channels=channels,
        kernel_size=kernel,
        stride=stride,
        padding=padding,
        bias=bias,
        dtype=torch.float64,
    )
    assert type(ours[0]) is SmallMapConv2d
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(3, 2, *size, generator=generator, dtype=torch.float64)
    images = images.contiguous(memory_format=layout)
    upstream = torch.randn(3, channels, 16, 16, generator=generator, dtype=torch.float64)
    expected = outputs_and_gradients(plain, images, upstream)
    for found, wanted in zip(outputs_and_gradients(ours, images, upstream), expected, strict=True):
        assert found.shape == wanted.shape
        torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("size", [1, 2, 5])
@pytest.mark.parametrize("kernel", [1, 3])
def test_autocast_computes_in_bf16_and_trains_in_fp32(size, kernel):
    plain, ours = pair(in_channels=8, out_channels=256, kernel_size=kernel, padding=kernel // 2)
    images = torch.randn(4, 8, size, size).to(memory_format=torch.channels_last)
    upstream = torch.randn(4, 256, 9, 9)
    with torch.autocast("cpu", torch.bfloat16):
        expected = outputs_and_gradients(plain, images, upstream)
        found = outputs_and_gradients(ours, images, upstream)
    assert found[0].dtype == torch.bfloat16
    for ours_, theirs in zip(found, expected, strict=True):
        assert ours_.dtype == theirs.dtype
        # bf16 has 8 bits: sums in another order differ in the last one or two
        assert (ours_ - theirs).norm() <= 2**-7 * theirs.norm()


def test_the_state_is_that_of_the_model():
    plain, ours = pair(in_channels=3, out_channels=4, kernel_size=3)
    assert list(ours.state_dict()) == list(plain.state_dict())
    ours.load_state_dict(plain.state_dict())


@pytest.mark.parametrize(
    "arguments",
    [{"groups": 2}, {"dilation": 2}, {"padding": "same"}, {"padding_mode": "circular"}],
)
def test_other_convolutions_are_left_alone(arguments):
    _, ours = pair(in_channels=4, out_channels=4, kernel_size=3, **arguments)
    assert type(ours[0]) is nn.Conv2d


def test_frozen_weights_and_images_get_no_gradient():
    _, ours = pair(in_channels=3, out_channels=256, kernel_size=3, padding=1)
    ours[0].weight.requires_grad_(False)
    images = torch.randn(2, 3, 2, 2, requires_grad=True)
    ours(images).sum().backward()
    assert ours[0].weight.grad is None
    assert images.grad.isfinite().all()
    ours[0].weight.requires_grad_(True)
    ours(images.detach()).sum().backward()
    assert ours[0].weight.grad.isfinite().all()


@pytest.mark.parametrize("size", [1, 2, 7])
@pytest.mark.parametrize("kernel", [1, 3])
def test_gradients_are_laid_out_as_weights(size, kernel):
    # or DistributedDataParallel copies them into its buckets with a warning
    _, ours = pair(in_channels=3, out_channels=256, kernel_size=kernel, padding=kernel // 2)
    ours(torch.randn(2, 3, size, size).to(memory_format=torch.channels_last)).sum().backward()
    assert ours[0].weight.grad.stride() == ours[0].weight.stride()
