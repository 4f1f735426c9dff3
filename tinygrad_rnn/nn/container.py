"""Modules made of others, and those that do nothing to the numbers."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

from ..ops.op import normal_axis
from ..tensor import ShapeError, Tensor, as_tensor
from .module import Module


class Sequential(Module):
    """Modules one after the other, each given what the one before returned. Their names are "0", "1", ..., as PyTorch's.

    len(net), net[i], net[i:j] (another Sequential of the same modules) and iteration are those of a list."""

    def __init__(self, *modules: Module) -> None:
        for i, module in enumerate(modules):
            if not isinstance(module, Module):
                raise TypeError(f"Sequential: expected modules, got {type(module).__name__} at {i}")
            vars(self)[str(i)] = module

    def _listed(self) -> list[Module]:
        return [module for name, module in vars(self).items() if name.isdecimal()]

    def __len__(self) -> int:
        return len(self._listed())

    def __iter__(self) -> Iterator[Module]:
        return iter(self._listed())

    def __getitem__(self, index: Any) -> Any:
        return Sequential(*self._listed()[index]) if isinstance(index, slice) else self._listed()[index]

    def forward(self, x: Any) -> Any:
        for module in self._listed():
            x = module(x)
        return x


class Residual(Module):
    """x + scale module(x): a path on which a gradient passes unchanged (He et al. 2016). Raises ShapeError unless the module
    keeps the shape of x."""

    def __init__(self, module: Module, scale: float = 1.0) -> None:
        self.module, self.scale = module, scale

    def forward(self, x: Tensor) -> Tensor:
        x = as_tensor(x)
        y = self.module(x)
        if y.shape != x.shape:
            raise ShapeError(f"Residual: {type(self.module).__name__} made {y.shape} of {x.shape}; expected the same shape")
        return x + (y if self.scale == 1 else y * self.scale)

    def extra_repr(self) -> str:
        return f"scale={self.scale}"


class Identity(Module):
    """x itself."""

    def forward(self, x: Tensor) -> Tensor:
        return as_tensor(x)


class Flatten(Module):
    """The axes start_dim..end_dim as one: (N, ...) -> (N, all else) unless told otherwise."""

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        self.start_dim, self.end_dim = start_dim, end_dim

    def forward(self, x: Tensor) -> Tensor:
        x = as_tensor(x)
        start, end = (normal_axis("Flatten", x.shape, axis) for axis in (self.start_dim, self.end_dim))
        if start > end:
            raise ShapeError(f"Flatten: axis {start} comes after axis {end} of shape {x.shape}")
        return x.reshape((*x.shape[:start], prod(x.shape[start : end + 1]), *x.shape[end + 1 :]))

    def extra_repr(self) -> str:
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"
