"""What nets over a sequence share: how an input is laid out before the first step and the result after the last."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import functions as F
from ..tensor import ShapeError, Tensor, as_tensor


def arrange_input(rnn: Any, input: Tensor, h_0: Tensor | None) -> tuple[Tensor, list[Tensor]]:
    """The input with time first, and the initial state of every layer. Raises ShapeError where they do not fit `rnn`."""
    x = as_tensor(input)
    expected = "(B, T, {0}) or (T, {0})" if rnn.batch_first else "(T, B, {0}) or (T, {0})"
    if x.ndim not in (2, 3) or x.shape[-1] != rnn.input_size:
        raise ShapeError(f"RNN: expected an input {expected.format(rnn.input_size)}, got {x.shape}")
    if x.ndim == 3 and rnn.batch_first:
        x = x.transpose(1, 0, 2)
    if not len(x):
        raise ShapeError(f"RNN: expected at least one step, got an input {input.shape}")
    shape = (*x.shape[1:-1], rnn.hidden_size)
    if h_0 is None:
        return x, [Tensor(np.zeros(shape, x.dtype), name="h0") for _ in range(rnn.num_layers)]
    h_0 = as_tensor(h_0)
    if h_0.shape != (rnn.num_layers, *shape):
        raise ShapeError(f"RNN: expected an initial state {(rnn.num_layers, *shape)}, got {h_0.shape}")
    return x, [h_0[layer] for layer in range(rnn.num_layers)]


def arrange_output(rnn: Any, outputs: list[Tensor], states: list[Tensor]) -> tuple[Tensor, Tensor]:
    """(output, h_n) as torch.nn.RNN returns them."""
    output = F.stack(outputs)
    if rnn.batch_first and output.ndim == 3:
        output = output.transpose(1, 0, 2)
    return output, F.stack(states)
