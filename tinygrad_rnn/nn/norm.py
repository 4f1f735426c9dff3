"""Layers that normalise by mean and variance, with PyTorch's names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import functions as F
from ..tensor import ShapeError, Tensor, as_tensor
from .init import checked_dtype
from .layers import positive
from .module import Buffer, Module, Parameter


class LayerNorm(Module):
    """(x - mean) / sqrt(variance + eps) weight + bias over the last axes of x(..., *normalized_shape), as torch.nn.LayerNorm.

    weight starts at 1, bias at 0, both (*normalized_shape); with elementwise_affine False there are none, with bias False no
    bias."""

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        *,
        dtype: Any = np.float32,
    ) -> None:
        shape = (normalized_shape,) if isinstance(normalized_shape, (int, np.integer)) else tuple(normalized_shape)
        positive(**{f"normalized_shape[{i}]": n for i, n in enumerate(shape)})
        dtype = checked_dtype(dtype)
        self.normalized_shape, self.eps = shape, eps
        self.weight = Parameter(np.ones(shape), dtype, "weight") if elementwise_affine else None
        self.bias = Parameter(np.zeros(shape), dtype, "bias") if elementwise_affine and bias else None

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}"


class BatchNorm1d(Module):
    """(x - mean) / sqrt(variance + eps) weight + bias for each channel of x(N, C) or (N, C, L), as torch.nn.BatchNorm1d.

    In training mode mean and variance are those of the batch, and move the buffers running_mean and running_var (C,) by
    `momentum` towards themselves (None: these are the means over all batches), while num_batches_tracked counts; in evaluation
    mode the buffers are taken. With track_running_stats False there are none, and the batch's own are taken always.

    Raises ShapeError (a ValueError) for another shape, and for a single value per channel in training mode."""

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        *,
        dtype: Any = np.float32,
    ) -> None:
        positive(num_features=num_features)
        dtype = checked_dtype(dtype)
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.weight = Parameter(np.ones(num_features), dtype, "weight") if affine else None
        self.bias = Parameter(np.zeros(num_features), dtype, "bias") if affine else None
        tracked = track_running_stats
        self.running_mean = Buffer(np.zeros(num_features, dtype)) if tracked else None
        self.running_var = Buffer(np.ones(num_features, dtype)) if tracked else None
        self.num_batches_tracked = Buffer(np.zeros((), np.int64)) if tracked else None

    def forward(self, x: Tensor) -> Tensor:
        x = as_tensor(x)
        if x.ndim not in (2, 3) or x.shape[1] != self.num_features:
            raise ShapeError(
                f"BatchNorm1d: expected an input (N, {self.num_features}) or (N, {self.num_features}, L), got {x.shape}"
            )
        mean, var, batches = (
            None if b is None else b.value for b in (self.running_mean, self.running_var, self.num_batches_tracked)
        )
        return F.batch_norm(
            x, mean, var, self.weight, self.bias, self.training, self.momentum, self.eps, num_batches_tracked=batches
        )

    def extra_repr(self) -> str:
        return f"{self.num_features}, eps={self.eps}, momentum={self.momentum}"
