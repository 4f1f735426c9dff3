"""Optimizers, updating parameters in place with the kernels, under PyTorch's names and defaults."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from .nn.module import Parameter
from .tape import current_backend


def _listed(parameters: Iterable[Parameter]) -> list[Parameter]:
    out = list({id(p): p for p in parameters}.values())
    if not out:
        raise ValueError("optimizer: no parameters were given")
    for p in out:
        if not isinstance(p, Parameter):
            raise TypeError(f"optimizer: expected parameters, got {type(p).__name__}")
    return out


def _at_least(bound: float, **values: float) -> None:
    for name, value in values.items():
        if not value >= bound:
            raise ValueError(f"{name} must be at least {bound}, got {value}")


class SGD:
    """w -= lr v with v = momentum v + g (Sutskever et al. 2013, in PyTorch's form). Parameters without gradient stay."""

    def __init__(self, parameters: Iterable[Parameter], lr: float, momentum: float = 0.0) -> None:
        _at_least(0, lr=lr, momentum=momentum)
        self.parameters, self.lr, self.momentum = _listed(parameters), lr, momentum
        self._velocity: dict[int, np.ndarray] = {}

    def step(self) -> None:
        """Apply one update."""
        k = current_backend()
        for i, p in enumerate(self.parameters):
            if p.grad is None:
                continue
            velocity = None
            if self.momentum:
                velocity = self._velocity.get(i)
                if velocity is None:
                    velocity = self._velocity[i] = k.zeros(p.shape, p.dtype)
            k.sgd(p.value, velocity, p.grad, self.lr, self.momentum)

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for p in self.parameters:
            p.grad = None


class Adam:
    """Adam (Kingma & Ba 2015) with PyTorch's defaults and order of operations. Parameters without gradient stay."""

    def __init__(
        self, parameters: Iterable[Parameter], lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8
    ) -> None:
        _at_least(0, lr=lr, eps=eps)
        if not all(0 <= b < 1 for b in betas):
            raise ValueError(f"betas must lie in [0, 1), got {betas}")
        self.parameters, self.lr, self.betas, self.eps = _listed(parameters), lr, betas, eps
        self._state: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self._steps = [0] * len(self.parameters)

    def step(self) -> None:
        """Apply one update."""
        k = current_backend()
        b1, b2 = self.betas
        for i, p in enumerate(self.parameters):
            if p.grad is None:
                continue
            if i not in self._state:
                self._state[i] = k.zeros(p.shape, p.dtype), k.zeros(p.shape, p.dtype)
            self._steps[i] += 1
            n = self._steps[i]
            k.adam(p.value, *self._state[i], p.grad, self.lr / (1 - b1**n), b1, b2, self.eps, (1 - b2**n) ** 0.5)

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for p in self.parameters:
            p.grad = None


def clip_grad_norm_(parameters: Iterable[Parameter], max_norm: float) -> float:
    """Scale all gradients in place so that their joint 2-norm is at most `max_norm`; return the norm before.

    A norm that is not finite leaves the gradients as they are, and says so by its value."""
    _at_least(0, max_norm=max_norm)
    k = current_backend()
    grads = [p.grad for p in {id(p): p for p in parameters}.values() if p.grad is not None]
    norm = sum(k.sum_of_squares(g) for g in grads) ** 0.5
    factor = max_norm / (norm + 1e-6)
    if np.isfinite(norm) and factor < 1:
        for g in grads:
            k.scale_in_place(g, factor)
    return norm
