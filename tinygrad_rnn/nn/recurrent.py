"""Layers with time: RNNCell for one step, RNN for a sequence."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import functions as F
from ..tape import scope
from ..tensor import Tensor, as_tensor
from .init import checked_dtype, generator, resolve, uniform_bound
from .layers import Seed, nonlinearity_of, positive
from .module import Module, Parameter
from .sequence import arrange_input, arrange_output
from .unrolled import UnrolledRNN

CELL_PARAMETERS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


class RNNCell(Module):
    """One step h' = phi(W_ih x + b_ih + W_hh h + b_hh), with PyTorch's parameter names, shapes and initial bounds.

    x(batch, input_size), h(batch, hidden_size) -> h'(batch, hidden_size); without the batch axis as well. h is zero when
    None. weight_ih (H, I), weight_hh (H, H), bias_ih (H,) and bias_hh (H,) start uniform in +-1 / sqrt(H); `init` names
    another draw for weight_hh."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        *,
        init: str = "default",
        dtype: Any = np.float32,
        seed: Seed = None,
    ) -> None:
        positive(input_size=input_size, hidden_size=hidden_size)
        self.input_size, self.hidden_size, self.nonlinearity = input_size, hidden_size, nonlinearity
        nonlinearity_of(nonlinearity)
        draws = cell_draws(input_size, hidden_size, bias, init)
        rng, dtype = generator(seed), checked_dtype(dtype)
        self.weight_ih, self.weight_hh = (Parameter(draws[n](rng), dtype, n) for n in ("weight_ih", "weight_hh"))
        self.bias_ih, self.bias_hh = (Parameter(draws[n](rng), dtype, n) if bias else None for n in ("bias_ih", "bias_hh"))

    def forward(self, x: Tensor, h: Tensor | None = None) -> Tensor:
        x = as_tensor(x)
        if h is None:
            h = Tensor(np.zeros((*x.shape[:-1], self.hidden_size), x.dtype), name="h0")
        return rnn_step(nonlinearity_of(self.nonlinearity), x, h, self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh)

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}, nonlinearity={self.nonlinearity!r}"


def cell_draws(input_size: int, hidden_size: int, bias: bool, init: str) -> dict[str, Any]:
    """For each parameter of one cell, a function of a generator that draws its initial value."""
    default = uniform_bound(1 / np.sqrt(hidden_size))
    recurrent = resolve(init, default)
    draws: dict[str, Any] = {
        "weight_ih": lambda rng: default(rng, (hidden_size, input_size)),
        "weight_hh": lambda rng: recurrent(rng, (hidden_size, hidden_size)),
    }
    if bias:
        draws["bias_ih"] = draws["bias_hh"] = lambda rng: default(rng, (hidden_size,))
    return draws


def rnn_step(
    phi: Any, x: Tensor, h: Tensor, weight_ih: Any, weight_hh: Any, bias_ih: Tensor | None, bias_hh: Tensor | None
) -> Tensor:
    """phi(W_ih x + b_ih + W_hh h + b_hh), its pre-activation named "z" and its state "h"."""
    z = F.linear(x, weight_ih, bias_ih) + F.linear(h, weight_hh, bias_hh)
    z.name = "z"
    state = phi(z)
    state.name = "h"
    return state


class RNN(Module):
    """A recurrent net over a sequence, as torch.nn.RNN: same parameters, shapes, initial bounds and results.

    input     (T, B, input_size), (B, T, input_size) with batch_first, or (T, input_size) without a batch
    h_0       (num_layers, B, hidden_size), or (num_layers, hidden_size) without a batch; zero when None
    returns   output (T, B, hidden_size), the states of the top layer (batch_first swaps T and B), and
              h_n (num_layers, B, hidden_size), the last state of every layer

    nonlinearity  "tanh", "relu", "sigmoid", "identity", or another name in nn.layers.NONLINEARITIES
    init          names the draw of weight_hh: "default" (PyTorch's, uniform in +-1 / sqrt(H)), "orthogonal", "identity",
                  "normal" or "zeros"
    seed          makes the initial weights reproducible

    Nodes of layer l at step t have the address (l, t). Parameters: weight_ih_l0 (H, I), weight_hh_l0 (H, H), bias_ih_l0,
    bias_hh_l0 (H,), and so on for l1, ..., whose inputs have H features."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        *,
        init: str = "default",
        dtype: Any = np.float32,
        seed: Seed = None,
    ) -> None:
        positive(input_size=input_size, hidden_size=hidden_size, num_layers=num_layers)
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.nonlinearity, self.bias, self.batch_first = nonlinearity, bias, batch_first
        self.init, self.dtype = init, checked_dtype(dtype)
        nonlinearity_of(nonlinearity)
        rng = generator(seed)
        for layer in range(num_layers):
            draws = self._draws(layer)
            for name in CELL_PARAMETERS:
                value = Parameter(draws[name](rng), self.dtype, f"{name}_l{layer}") if name in draws else None
                setattr(self, f"{name}_l{layer}", value)

    def cell_parameters(self, layer: int) -> tuple[Parameter | None, ...]:
        """weight_ih, weight_hh, bias_ih and bias_hh of a layer, as they stand now; biases are None without bias."""
        return tuple(getattr(self, f"{name}_l{layer}") for name in CELL_PARAMETERS)

    def _draws(self, layer: int) -> dict[str, Any]:
        return cell_draws(self.hidden_size if layer else self.input_size, self.hidden_size, self.bias, self.init)

    def forward(self, input: Tensor, h_0: Tensor | None = None) -> tuple[Tensor, Tensor]:
        x, states = arrange_input(self, input, h_0)
        phi, cells = nonlinearity_of(self.nonlinearity), [self.cell_parameters(layer) for layer in range(self.num_layers)]
        outputs = []
        for t in range(len(x)):
            with scope(t=t):
                below = x[t]
                for layer, cell in enumerate(cells):
                    with scope(layer=layer):
                        below = states[layer] = rnn_step(phi, below, states[layer], *cell)
                outputs.append(below)
        return arrange_output(self, outputs, states)

    def unroll(self, steps: int) -> UnrolledRNN:
        """This net as the feed-forward net that it is over `steps` steps: one layer a step (num_layers cells in each), an
        input at every layer, and these very weights in all of them. See UnrolledRNN."""
        return UnrolledRNN(self, steps)

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}, num_layers={self.num_layers}, nonlinearity={self.nonlinearity!r}"
