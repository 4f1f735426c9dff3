"""Layers over windows of sequences and images: Conv1d, Conv2d and pooling, with PyTorch's names, shapes and initial bounds."""

from __future__ import annotations

from math import prod
from typing import Any, Literal

import numpy as np

from .. import functions as F
from ..functions import Sizes
from ..ops.conv import per_axis, per_side
from ..tensor import Tensor
from .init import checked_dtype, generator, resolve, uniform_bound
from .layers import Seed, positive
from .module import Module, Parameter


class _Conv(Module):
    """What convolutions over `_axes` axes share."""

    _axes: int

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Sizes,
        stride: Sizes = 1,
        padding: Sizes | Literal["valid", "same"] = 0,
        dilation: Sizes = 1,
        groups: int = 1,
        bias: bool = True,
        *,
        init: str = "default",
        dtype: Any = np.float32,
        seed: Seed = None,
    ) -> None:
        positive(in_channels=in_channels, out_channels=out_channels, groups=groups)
        name = type(self).__name__
        for what, channels in (("in_channels", in_channels), ("out_channels", out_channels)):
            if channels % groups:
                raise ValueError(f"{name}: {what} must be a multiple of groups={groups}, got {channels}")
        self.in_channels, self.out_channels, self.groups, self.padding = in_channels, out_channels, groups, padding
        self.kernel_size = per_axis(name, "kernel_size", kernel_size, self._axes, 1)
        self.stride = per_axis(name, "stride", stride, self._axes, 1)
        self.dilation = per_axis(name, "dilation", dilation, self._axes, 1)
        per_side(name, padding, self.kernel_size, self.stride, self.dilation)  # raises here rather than in the first call
        rng, dtype = generator(seed), checked_dtype(dtype)
        shape = (out_channels, in_channels // groups, *self.kernel_size)
        matrix = (out_channels, prod(shape[1:]))
        default = uniform_bound(1 / np.sqrt(matrix[1]))
        self.weight = Parameter(resolve(init, default)(rng, matrix).reshape(shape), dtype, "weight")
        self.bias = Parameter(default(rng, (out_channels,)), dtype, "bias") if bias else None

    def extra_repr(self) -> str:
        settings = {"stride": (1,) * self._axes, "padding": 0, "dilation": (1,) * self._axes, "groups": 1}
        changed = [f", {n}={getattr(self, n)!r}" for n, usual in settings.items() if getattr(self, n) != usual]
        return f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}{''.join(changed)}"


class Conv1d(_Conv):
    """x(N, in_channels, L) -> (N, out_channels, L'), or without N, as torch.nn.Conv1d; the settings are those of
    `functions.conv1d`.

    weight (out_channels, in_channels / groups, kernel_size) and bias (out_channels,) start uniform in +-1 / sqrt(fan_in), where
    fan_in = in_channels / groups kernel_size; `init` names another draw for the weight as a matrix (out_channels, fan_in)."""

    _axes = 1

    def forward(self, x: Tensor) -> Tensor:
        return F.conv1d(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


class Conv2d(_Conv):
    """x(N, in_channels, H, W) -> (N, out_channels, H', W'), or without N, as torch.nn.Conv2d; the settings are those of
    `functions.conv2d`.

    weight (out_channels, in_channels / groups, KH, KW) and bias (out_channels,) start uniform in +-1 / sqrt(fan_in), where
    fan_in = in_channels / groups KH KW; `init` names another draw for the weight as a matrix (out_channels, fan_in)."""

    _axes = 2

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


class _Pool(Module):
    """What poolings over `_axes` axes share."""

    _axes: int

    def __init__(self, kernel_size: Sizes, stride: Sizes | None = None, padding: Sizes = 0) -> None:
        name = type(self).__name__
        self.kernel_size = per_axis(name, "kernel_size", kernel_size, self._axes, 1)
        self.stride = self.kernel_size if stride is None else per_axis(name, "stride", stride, self._axes, 1)
        self.padding = per_axis(name, "padding", padding, self._axes, 0)

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class MaxPool1d(_Pool):
    """The maximum of every window of x(N, C, L), as torch.nn.MaxPool1d; see `functions.max_pool2d`."""

    _axes = 1

    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool1d(x, self.kernel_size, self.stride, self.padding)


class MaxPool2d(_Pool):
    """The maximum of every window of x(N, C, H, W), as torch.nn.MaxPool2d; see `functions.max_pool2d`."""

    _axes = 2

    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool2d(x, self.kernel_size, self.stride, self.padding)


class _AvgPool(_Pool):
    def __init__(
        self, kernel_size: Sizes, stride: Sizes | None = None, padding: Sizes = 0, *, count_include_pad: bool = True
    ) -> None:
        super().__init__(kernel_size, stride, padding)
        self.count_include_pad = count_include_pad


class AvgPool1d(_AvgPool):
    """The mean of every window of x(N, C, L), as torch.nn.AvgPool1d; see `functions.avg_pool2d`."""

    _axes = 1

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool1d(x, self.kernel_size, self.stride, self.padding, count_include_pad=self.count_include_pad)


class AvgPool2d(_AvgPool):
    """The mean of every window of x(N, C, H, W), as torch.nn.AvgPool2d; see `functions.avg_pool2d`."""

    _axes = 2

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(x, self.kernel_size, self.stride, self.padding, count_include_pad=self.count_include_pad)
