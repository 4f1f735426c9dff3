"""What nets over a sequence share: how an input is laid out before the first step and the result after the last."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import functions as F
from ..tensor import ShapeError, Tensor
from .cells import State, tensor_for


def arrange_input(net: Any, input: Any) -> Tensor:
    """The input with time first. Raises ShapeError where it does not fit `net`."""
    x = tensor_for(net, "the input", input)
    expected = "(B, T, {0}) or (T, {0})" if net.batch_first else "(T, B, {0}) or (T, {0})"
    if x.ndim not in (2, 3) or x.shape[-1] != net.input_size:
        raise ShapeError(f"{type(net).__name__}: expected an input {expected.format(net.input_size)}, got {x.shape}")
    if not x.shape[1 if x.ndim == 3 and net.batch_first else 0]:
        raise ShapeError(f"{type(net).__name__}: expected at least one step, got an input {x.shape}")
    return x.transpose(1, 0, 2) if x.ndim == 3 and net.batch_first else x


def initial_states(net: Any, x: Tensor, given: Any, layers: int, parts: tuple[str, ...] = ("h",)) -> list[State]:
    """The state of every layer (and direction) before the first step: zeros where None is given, else the entries of tensors
    (layers, B, H), one for each part. Raises ShapeError where they do not fit."""
    shape = (*x.shape[1:-1], net.hidden_size)
    if given is None:
        return [tuple(Tensor(np.zeros(shape, x.dtype), name=f"{part}0") for part in parts) for _ in range(layers)]
    tensors = [tensor_for(net, "the state", s) for s in (given if isinstance(given, (tuple, list)) else (given,))]
    if len(tensors) != len(parts) or any(s.shape != (layers, *shape) for s in tensors):
        what = " and ".join(f"{part}_0" for part in parts)
        raise ShapeError(
            f"{type(net).__name__}: expected an initial state {what} of shape {(layers, *shape)}, got "
            f"{', '.join(str(s.shape) for s in tensors)}"
        )
    return [tuple(s[layer] for s in tensors) for layer in range(layers)]


def arrange_output(net: Any, outputs: list[Tensor], states: list[State]) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The output as PyTorch lays it out, and the last states, stacked over layers, one tensor for each part."""
    output = F.stack(outputs)
    if net.batch_first and output.ndim == 3:
        output = output.transpose(1, 0, 2)
    return output, tuple(F.stack(part) for part in zip(*states, strict=True))
