"""Optimizers, updating parameters in place with the kernels, under PyTorch's names and defaults."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from .nn.module import Parameter
from .tape import CaptureError, capturing, current_backend, forget_gradients, note_update
from .tensor import Tensor


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


def _setting(index: int, what: str) -> property:
    """An entry of `_settings` as an attribute, at least 0."""

    def get(self: Any) -> float:
        return float(self._settings[index])

    def change(self: Any, value: float) -> None:
        _at_least(0, lr=value)
        if capturing():
            raise CaptureError(
                "lr is set inside a compiled function, whose later calls would not; set it outside, before a call"
            )
        self._settings[index] = value

    return property(get, change, doc=what)


class SGD:
    """w -= lr v with v = momentum v + g (Sutskever et al. 2013, in PyTorch's form). Parameters without gradient stay.

    `lr` may be changed at any time, also between the calls of a compiled step."""

    def __init__(self, parameters: Iterable[Parameter], lr: float, momentum: float = 0.0) -> None:
        _at_least(0, lr=lr, momentum=momentum)
        self.parameters = _listed(parameters)
        self._settings = np.array([lr, momentum])  # read by the kernel, at every step
        self._velocity = [np.zeros(p.shape, p.dtype) if momentum else None for p in self.parameters]

    lr = _setting(0, "The learning rate.")

    @property
    def momentum(self) -> float:
        """The momentum, fixed when the optimizer is made."""
        return float(self._settings[1])

    def step(self) -> None:
        """Apply one update."""
        k = current_backend()
        note_update(self.parameters)
        for p, velocity in zip(self.parameters, self._velocity, strict=True):
            if p.grad is not None:
                k.sgd(p.value, velocity, p.grad, self._settings)

    def zero_grad(self) -> None:
        """Forget the gradients."""
        forget_gradients(self.parameters)


class Adam:
    """Adam (Kingma & Ba 2015) with PyTorch's defaults and order of operations. Parameters without gradient stay.

    `lr` may be changed at any time, also between the calls of a compiled step."""

    def __init__(
        self, parameters: Iterable[Parameter], lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8
    ) -> None:
        _at_least(0, lr=lr, eps=eps)
        if not all(0 <= b < 1 for b in betas):
            raise ValueError(f"betas must lie in [0, 1), got {betas}")
        self.parameters = _listed(parameters)
        self._settings = np.array([lr, *betas, eps])  # read by the kernel, at every step
        # for each parameter: moving averages of the gradient and of its square, and how many steps it has taken
        self._state = [(np.zeros(p.shape, p.dtype), np.zeros(p.shape, p.dtype), np.zeros(())) for p in self.parameters]

    lr = _setting(0, "The learning rate.")

    def step(self) -> None:
        """Apply one update."""
        k = current_backend()
        note_update(self.parameters)
        for p, state in zip(self.parameters, self._state, strict=True):
            if p.grad is not None:
                k.adam(p.value, *state, p.grad, self._settings)

    def zero_grad(self) -> None:
        """Forget the gradients."""
        forget_gradients(self.parameters)


def clip_grad_norm_(parameters: Iterable[Parameter], max_norm: float) -> Tensor:
    """Scale all gradients in place so that their joint 2-norm is at most `max_norm`; return the norm before, float64 ().

    A norm that is not finite leaves the gradients as they are, and says so by its value."""
    _at_least(0, max_norm=max_norm)
    k = current_backend()
    own = list({id(p): p for p in parameters}.values())
    note_update(own)
    grads = [p.grad for p in own if p.grad is not None]
    total = k.zeros((), np.float64)
    for g in grads:
        k.add_sum_of_squares(total, g)
    for g in grads:
        k.clip_to_norm(g, total, max_norm)
    return Tensor(k.sqrt(total))
