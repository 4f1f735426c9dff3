"""Gradient checks for everyone: is what backward computes the derivative of what forward computes?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .tensor import Tensor


def check_grads(
    fn: Callable[..., Any], *inputs: Any, seed: int = 0, rtol: float = 1e-6, atol: float = 1e-8, step: float = 1e-3
) -> None:
    """Compare the gradient of `fn` with a numerical derivative, for every input, and raise AssertionError where they differ.

    fn       a function of tensors that returns a tensor, or a tuple of them; it must compute the same every time
    inputs   arrays or tensors; checked in float64 (a layer inside `fn` needs dtype="float64" too), where `fn` must be smooth:
             no tie of a maximum, no kink
    rtol     allowed difference relative to the larger of the two, plus `atol`
    step     of the numerical derivative, relative to the largest entry of the input (at least 1); where the two differ, a
             step 16 times shorter has the last word

    Each output is weighted with a random cotangent and each input moved along a random direction of norm 1, so that every
    entry takes part and a transposed or misplaced one is seen. The derivative along the direction is the five-point
    difference, whose error is of order step^4."""
    rng = np.random.default_rng(seed)
    arrays = [np.array(x.value if isinstance(x, Tensor) else x, np.float64) for x in inputs]
    tensors = [Tensor(a, requires_grad=True) for a in arrays]
    outputs = _outputs(fn(*tensors))
    cotangents = [rng.standard_normal(y.shape) for y in outputs]
    for y, g in zip(outputs, cotangents, strict=True):
        if y.requires_grad:
            y.backward(g, retain_graph=True)
    for i, (x, t) in enumerate(zip(arrays, tensors, strict=True)):
        gradient = np.zeros(x.shape) if t.grad is None else t.grad
        if gradient.shape != x.shape or gradient.dtype != x.dtype:
            raise AssertionError(f"gradient of input {i} is {gradient.dtype} {gradient.shape}, the input {x.dtype} {x.shape}")
        direction = rng.standard_normal(x.shape)
        direction /= np.linalg.norm(direction) or 1.0
        longest = step * max(1.0, float(np.abs(x).max(initial=0)))

        def moved(by: float, i: int = i, x: np.ndarray = x, direction: np.ndarray = direction) -> float:
            """The weighted output with input i moved along its direction."""
            args = [Tensor(x + by * direction) if j == i else Tensor(a) for j, a in enumerate(arrays)]
            return float(sum(np.sum(y.value * g) for y, g in zip(_outputs(fn(*args)), cotangents, strict=True)))

        analytical = float(np.sum(gradient * direction))
        weight = sum(float(np.sum(np.abs(y.value * g))) for y, g in zip(outputs, cotangents, strict=True))
        differences = []
        # entries far apart in size are one step from where the function bends for the smallest: a second, shorter step
        for h in (longest, longest / 16):
            numerical = (8 * (moved(h) - moved(-h)) - (moved(2 * h) - moved(-2 * h))) / (12 * h)
            differences.append(abs(numerical - analytical))
            # rounding of the outputs, divided by the step, is the floor of what a difference can see
            floor = 1e-15 * weight / h
            if differences[-1] <= rtol * max(abs(numerical), abs(analytical)) + atol + 10 * floor:
                break
        else:
            raise AssertionError(
                f"input {i} of shape {x.shape}: the gradient gives {analytical:.12g} along a random direction, the numerical "
                f"derivative {numerical:.12g} (difference {differences[0]:.3g}, with a step 16 times shorter "
                f"{differences[1]:.3g})"
            )


def _outputs(y: Any) -> list[Tensor]:
    outputs = [y] if isinstance(y, Tensor) else list(y) if isinstance(y, (tuple, list)) else []
    if not outputs or not all(isinstance(o, Tensor) for o in outputs):
        raise TypeError(f"check_grads: fn must return a tensor or a tuple of them, got {type(y).__name__}")
    return outputs
