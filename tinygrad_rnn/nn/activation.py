"""Activations as modules, for Sequential and the like: each is the function of its name with settings of its own."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, ClassVar

from .. import functions as F
from ..tensor import Tensor
from .module import Module


class Activation(Module):
    """f(x), element by element. A subclass says which f, `class Softsign(Activation, function=softsign)`, and takes what f does
    after x, in the same order, as `settings`."""

    _function: ClassVar[Callable[..., Tensor]]
    __signature__: ClassVar[inspect.Signature]

    def __init_subclass__(cls, function: Callable[..., Tensor] | None = None) -> None:
        if function is not None:
            cls._function = staticmethod(function)
            parameters = list(inspect.signature(function).parameters.values())
            cls.__signature__ = inspect.Signature(parameters[1:])

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        self.settings = self.__signature__.bind(*arguments, **keywords).arguments

    def forward(self, x: Tensor) -> Tensor:
        return self._function(x, **self.settings)

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={value!r}" for name, value in self.settings.items())


class Tanh(Activation, function=F.tanh):
    """Hyperbolic tangent."""


class Sigmoid(Activation, function=F.sigmoid):
    """1 / (1 + exp(-x))"""


class ReLU(Activation, function=F.relu):
    """max(x, 0)"""


class LeakyReLU(Activation, function=F.leaky_relu):
    """x where x > 0, else negative_slope x."""


class ELU(Activation, function=F.elu):
    """x where x > 0, else alpha (exp(x) - 1)."""


class GELU(Activation, function=F.gelu):
    """x Phi(x), Phi being the normal distribution, or its approximation by tanh."""


class SiLU(Activation, function=F.silu):
    """x sigmoid(x)"""


class Softplus(Activation, function=F.softplus):
    """log(1 + exp(x))"""


class Hardtanh(Activation, function=F.hardtanh):
    """x cut off to min_val..max_val."""
