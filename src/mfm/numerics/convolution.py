"""Convolutions of small feature maps, as matrix products where a CPU is faster with them.

The last stages of a network see maps of 7x7 positions or fewer: 1x1 for a ResNet at 32 px. There,
oneDNN's gradient of the weights takes several times as long as the same sums in a matrix product
(13 ms against 4 for 512 channels, 3x3, 1x1 positions, batch 128, bf16, one thread), its 1x1
convolutions are slower than a product too, and most taps of a 3x3 kernel meet nothing but padding.
The results differ from nn.Conv2d's by rounding only.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Sides of the output, and channels of it, from measurements of ResNet-18 at 32 px and ResNet-50 at
# 224 px. Copying the input once per tap has to pay for itself.
_LARGEST = 7
_ALWAYS = 2
_MANY_CHANNELS = 256


def use_products(model: nn.Module) -> None:
    """Let every nn.Conv2d of the model (none of a subclass) choose the faster way, in place.

    Parameters, their names and the state_dict stay as they are; a model on a GPU wholly.
    """
    if any(parameter.device.type != "cpu" for parameter in model.parameters()):
        return
    for module in model.modules():
        if type(module) is nn.Conv2d and _is_plain(module):
            module.__class__ = SmallMapConv2d


def _is_plain(convolution: nn.Conv2d) -> bool:
    return (
        convolution.groups == 1
        and convolution.dilation == (1, 1)
        and convolution.padding_mode == "zeros"
        and isinstance(convolution.padding, tuple)
    )


class SmallMapConv2d(nn.Conv2d):
    """nn.Conv2d that treats small outputs on their own; see the module's docstring."""

    def forward(self, input: Tensor) -> Tensor:
        """[N, C, H, W] to [N, K, H', W']."""
        height, width = (_used_taps(*axis) for axis in self._axes(input))
        if input.device.type != "cpu" or max(height.output, width.output) > _LARGEST:
            return super().forward(input)
        weight: Tensor = self.weight
        if (height.count, width.count) != self.kernel_size:
            weight = _Crop.apply(weight, height.slice, width.slice)
        padding = (height.padding, width.padding)
        if weight.shape[2:] == (1, 1) and padding == (0, 0):
            pixels = input[:, :, :: self.stride[0], :: self.stride[1]].permute(0, 2, 3, 1)
            # By way of channels_last, so that the gradient is laid out as the weight is.
            matrix = weight.permute(0, 2, 3, 1).flatten(1)
            return F.linear(pixels, matrix, self.bias).permute(0, 3, 1, 2)
        few = max(height.output, width.output) <= _ALWAYS
        if not (few or self.out_channels >= _MANY_CHANNELS):
            return F.conv2d(input, weight, self.bias, self.stride, padding)
        if torch.is_autocast_enabled(input.device.type):
            # What autocast does for a convolution; it knows nothing of this function.
            dtype = torch.get_autocast_dtype(input.device.type)
            input, weight = input.to(dtype), weight.to(dtype)
        output: Tensor = _Convolution.apply(input, weight, self.stride, padding)
        return output if self.bias is None else output + self.bias.to(output.dtype).view(-1, 1, 1)

    def _axes(self, input: Tensor) -> list[tuple[int, int, int, int]]:
        """(positions, kernel, stride, padding) along height and width."""
        assert not isinstance(self.padding, str)
        return list(zip(input.shape[2:], self.kernel_size, self.stride, self.padding, strict=True))


@dataclass(frozen=True, kw_only=True)
class _Taps:
    """The taps of a kernel, along one axis, that meet more than padding."""

    output: int  # positions
    first: int
    count: int
    padding: int  # that gives the same output with these taps alone

    @property
    def slice(self) -> slice:
        """Of the kernel."""
        return slice(self.first, self.first + self.count)


@functools.lru_cache(maxsize=256)
def _used_taps(positions: int, kernel: int, stride: int, padding: int) -> _Taps:
    output = (positions + 2 * padding - kernel) // stride + 1
    used = [
        tap
        for tap in range(kernel)
        if any(0 <= i * stride - padding + tap < positions for i in range(output))
    ]
    whole = _Taps(output=output, first=0, count=kernel, padding=padding)
    if not used:
        return whole
    first, count = used[0], used[-1] - used[0] + 1
    rest = padding - first
    # Padding is the same on both sides, so the fewer taps can't always give the same output.
    if rest < 0 or (positions + 2 * rest - count) // stride + 1 != output:
        return whole
    return _Taps(output=output, first=first, count=count, padding=rest)


class _Crop(torch.autograd.Function):
    """Some taps of a kernel [K, C, h, w]. The gradient has the memory layout of the whole.

    That of a plain slice would be contiguous, and copied once more for channels_last weights.
    """

    @staticmethod
    def forward(ctx: Any, weight: Tensor, rows: slice, columns: slice) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.rows, ctx.columns = rows, columns
        return weight[:, :, rows, columns]

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (weight,) = ctx.saved_tensors
        whole = torch.zeros_like(weight)
        whole[:, :, ctx.rows, ctx.columns] = gradient
        return whole, None, None


class _Convolution(torch.autograd.Function):
    """A convolution whose weights' gradient is one product of all patches with the gradient."""

    @staticmethod
    def forward(
        ctx: Any, input: Tensor, weight: Tensor, stride: tuple[int, int], padding: tuple[int, int]
    ) -> Tensor:
        ctx.save_for_backward(input, weight)
        ctx.stride, ctx.padding = stride, padding
        return F.conv2d(input, weight, None, stride, padding)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        input, weight = ctx.saved_tensors
        of_input = of_weight = None
        if ctx.needs_input_grad[0]:
            of_input = torch.ops.aten.convolution_backward(
                *(gradient, input, weight, None, ctx.stride, ctx.padding),
                *((1, 1), False, (0, 0), 1, (True, False, False)),
            )[0]
        if ctx.needs_input_grad[1]:
            of_weight = _weight_gradient(input, gradient, weight.shape[2:], ctx.stride, ctx.padding)
        return of_input, of_weight, None, None


def _weight_gradient(
    input: Tensor,
    gradient: Tensor,
    kernel: torch.Size,
    stride: tuple[int, int],
    padding: tuple[int, int],
) -> Tensor:
    """[N, C, H, W] and [N, K, H', W'] to [K, C, kernel], channels_last."""
    channels, (height, width) = input.shape[1], gradient.shape[2:]
    ends, sides = padding
    # [N, H, W, C], padded; then the patch of each output position, taken without copying.
    pixels = F.pad(input.permute(0, 2, 3, 1), (0, 0, sides, sides, ends, ends))
    n, row, column, channel = pixels.stride()
    patches = pixels.as_strided(
        (len(input), height, width, *kernel, channels),
        (n, row * stride[0], column * stride[1], row, column, channel),
    ).reshape(-1, kernel.numel() * channels)
    of_outputs = gradient.permute(0, 2, 3, 1).reshape(len(patches), -1)
    product = of_outputs.T @ patches
    return product.view(-1, *kernel, channels).permute(0, 3, 1, 2)
