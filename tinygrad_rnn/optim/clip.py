"""Clipping gradients in place, between the backward pass and the optimizer's step."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ..nn.module import Parameter
from ..tape import current_backend, note_update
from ..tensor import Tensor


def _gradients(parameters: Parameter | Iterable[Parameter]) -> list[np.ndarray]:
    own = [parameters] if isinstance(parameters, Tensor) else list({id(p): p for p in parameters}.values())
    note_update(own)
    return [p.grad for p in own if p.grad is not None]


def clip_grad_norm_(parameters: Parameter | Iterable[Parameter], max_norm: float) -> Tensor:
    """Scale all gradients in place by min(max_norm / (norm + 1e-6), 1), norm being their joint 2-norm; return it, float64 ().

    As PyTorch's, an infinite norm makes finite gradients 0, and a norm that is NaN makes all NaN; but only a norm beyond the
    largest double is infinite, however large the squares are."""
    if not max_norm >= 0:
        raise ValueError(f"max_norm must be at least 0, got {max_norm}")
    k, grads = current_backend(), _gradients(parameters)
    norm = k.zeros((), np.float64)
    for g in grads:
        k.add_norm(norm, g)
    for g in grads:
        k.clip_to_norm(g, norm, max_norm)
    return Tensor(norm)


def clip_grad_value_(parameters: Parameter | Iterable[Parameter], clip_value: float) -> None:
    """Clip every entry of all gradients into -clip_value..clip_value in place; NaN stays."""
    if not clip_value >= 0:
        raise ValueError(f"clip_value must be at least 0, got {clip_value}")
    k = current_backend()
    for g in _gradients(parameters):
        k.clip_to_value(g, clip_value)
