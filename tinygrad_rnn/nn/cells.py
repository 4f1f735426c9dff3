"""One step of a recurrent net: the parameters of a cell, what it computes, and the layers RNNCell, LSTMCell and GRUCell."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import functions as F
from ..tensor import ShapeError, Tensor, as_tensor
from .init import Init, checked_dtype, generator, resolve, uniform_bound
from .layers import Seed, nonlinearity_of, positive
from .module import Module, Parameter

CELL_PARAMETERS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
Parameters = tuple[Any, ...]  # of a cell, in that order; biases are None without bias
State = tuple[Tensor, ...]  # what a step hands to the next: (h,), of an LSTM (h, c)
Step = Callable[[Tensor, State, Parameters], State]


def cell_draws(
    input_size: int, hidden_size: int, bias: bool, init: Init, gates: int = 1
) -> dict[str, Callable[[np.random.Generator], np.ndarray]]:
    """For each parameter of one cell, a function of a generator that draws its initial value: uniform in +-1 / sqrt(H),
    PyTorch's default; `init` draws the recurrent matrix of every gate, (H, H), instead."""
    default = uniform_bound(1 / np.sqrt(hidden_size))
    recurrent = resolve(init, default)
    draws = {
        "weight_ih": lambda rng: default(rng, (gates * hidden_size, input_size)),
        "weight_hh": lambda rng: np.concatenate([recurrent(rng, (hidden_size, hidden_size)) for _ in range(gates)]),
    }
    if bias:
        draws["bias_ih"] = draws["bias_hh"] = lambda rng: default(rng, (gates * hidden_size,))
    return draws


def tensor_for(net: Any, what: str, x: Any) -> Tensor:
    """as_tensor(x), whose errors name the net and what was given to it."""
    try:
        return as_tensor(x)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{type(net).__name__}: {what}: {error}") from None


def _named(name: str, x: Tensor) -> Tensor:
    x.name = name
    return x


def rnn_step(phi: Callable[[Tensor], Tensor]) -> Step:
    """h' = phi(W_ih x + b_ih + W_hh h + b_hh); the pre-activation is named "z", the state "h"."""

    def step(x: Tensor, state: State, parameters: Parameters) -> State:
        w_ih, w_hh, b_ih, b_hh = parameters
        z = _named("z", F.linear(x, w_ih, b_ih) + F.linear(state[0], w_hh, b_hh))
        return (_named("h", phi(z)),)

    return step


def leaky_step(phi: Callable[[Tensor], Tensor], leak: float) -> Step:
    """h' = (1 - leak) h + leak phi(W_ih x + b_ih + W_hh h + b_hh)."""
    inner = rnn_step(phi)

    def step(x: Tensor, state: State, parameters: Parameters) -> State:
        (new,) = inner(x, state, parameters)
        new.name = None
        return (_named("h", state[0] * (1 - leak) + new * leak),)

    return step


def lstm_step(x: Tensor, state: State, parameters: Parameters) -> State:
    """z = W_ih x + b_ih + W_hh h + b_hh, in quarters i, f, g, o; c' = sigmoid(f) c + sigmoid(i) tanh(g), h' = sigmoid(o)
    tanh(c') (Hochreiter & Schmidhuber 1997; Gers et al. 2000). The gates are named "i", "f", "g" and "o", the states "c" and
    "h"."""
    h, c = state
    w_ih, w_hh, b_ih, b_hh = parameters
    z = _named("z", F.linear(x, w_ih, b_ih) + F.linear(h, w_hh, b_hh))
    gates, hidden = F.lstm_gates(z), h.shape[-1]
    i, f, g, o = [_named(name, gates[..., n * hidden : (n + 1) * hidden]) for n, name in enumerate("ifgo")]
    c = _named("c", F.lstm_state(i, f, g, c))
    return _named("h", o * F.tanh(c)), c


def gru_step(x: Tensor, state: State, parameters: Parameters) -> State:
    """r = sigmoid(W_ir x + b_ir + W_hr h + b_hr), z likewise, n = tanh(W_in x + b_in + r (W_hn h + b_hn)), h' = (1 - z) n + z
    h (Cho et al. 2014, with the reset after the product as in PyTorch). The gates are named "r", "z" and "n", the state "h"."""
    (h,) = state
    w_ih, w_hh, b_ih, b_hh = parameters
    hidden = h.shape[-1]
    from_x, from_h = F.linear(x, w_ih, b_ih), F.linear(h, w_hh, b_hh)
    gates = F.sigmoid(from_x[..., : 2 * hidden] + from_h[..., : 2 * hidden])
    r, z = _named("r", gates[..., :hidden]), _named("z", gates[..., hidden:])
    n = _named("n", F.tanh(F.addcmul(from_x[..., 2 * hidden :], r, from_h[..., 2 * hidden :])))
    return (_named("h", F.lerp(n, h, z)),)


class _Cell(Module):
    """What cells share: one step x(batch, input_size), state(batch, hidden_size) -> state; without the batch axis as well. The
    state is zero where None.

    weight_ih (G H, I), weight_hh (G H, H), bias_ih and bias_hh (G H,), G being the number of gates, start uniform in +-1 /
    sqrt(H); `init` draws weight_hh, gate by gate, instead."""

    gates = 1
    states: tuple[str, ...] = ("h",)

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        *,
        init: Init = "default",
        dtype: Any = np.float32,
        seed: Seed = None,
    ) -> None:
        positive(input_size=input_size, hidden_size=hidden_size)
        self.input_size, self.hidden_size = input_size, hidden_size
        draws = cell_draws(input_size, hidden_size, bias, init, self.gates)
        rng, dtype = generator(seed), checked_dtype(dtype)
        for name in CELL_PARAMETERS:
            setattr(self, name, Parameter(draws[name](rng), dtype, name) if name in draws else None)

    def _step(self) -> Step:
        raise NotImplementedError

    def _stepped(self, x: Tensor, state: Any) -> State:
        x = tensor_for(self, "the input", x)
        if x.ndim not in (1, 2) or x.shape[-1] != self.input_size:
            raise ShapeError(
                f"{type(self).__name__}: expected an input (batch, {self.input_size}) or ({self.input_size},), got {x.shape}"
            )
        shape = (*x.shape[:-1], self.hidden_size)
        if state is None:
            state = [Tensor(np.zeros(shape, x.dtype), name=f"{name}0") for name in self.states]
        state = tuple(tensor_for(self, "the state", s) for s in (state if isinstance(state, (tuple, list)) else (state,)))
        if len(state) != len(self.states) or any(s.shape != shape for s in state):
            given = ", ".join(str(s.shape) for s in state)
            raise ShapeError(f"{type(self).__name__}: expected states {', '.join(self.states)} of shape {shape}, got {given}")
        return self._step()(x, state, tuple(getattr(self, name) for name in CELL_PARAMETERS))

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}"


class RNNCell(_Cell):
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
        init: Init = "default",
        dtype: Any = np.float32,
        seed: Seed = None,
    ) -> None:
        nonlinearity_of(nonlinearity)
        self.nonlinearity = nonlinearity
        super().__init__(input_size, hidden_size, bias, init=init, dtype=dtype, seed=seed)

    def _step(self) -> Step:
        return rnn_step(nonlinearity_of(self.nonlinearity))

    def forward(self, x: Tensor, h: Tensor | None = None) -> Tensor:
        return self._stepped(x, h)[0]

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, nonlinearity={self.nonlinearity!r}"


class LSTMCell(_Cell):
    """One step of an LSTM, as torch.nn.LSTMCell: (x, (h, c)) -> (h', c'), x(batch, input_size), h and c (batch, hidden_size);
    without the batch axis as well; (h, c) is zero when None. See `lstm_step` for the formula.

    weight_ih (4 H, I), weight_hh (4 H, H), bias_ih and bias_hh (4 H,), in the order i, f, g, o, start uniform in +-1 /
    sqrt(H); `init` draws the four (H, H) blocks of weight_hh instead."""

    gates = 4
    states = ("h", "c")

    def _step(self) -> Step:
        return lstm_step

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        h, c = self._stepped(x, state)
        return h, c


class GRUCell(_Cell):
    """One step of a GRU, as torch.nn.GRUCell: x(batch, input_size), h(batch, hidden_size) -> h'; without the batch axis as
    well; h is zero when None. See `gru_step` for the formula.

    weight_ih (3 H, I), weight_hh (3 H, H), bias_ih and bias_hh (3 H,), in the order r, z, n, start uniform in +-1 / sqrt(H);
    `init` draws the three (H, H) blocks of weight_hh instead."""

    gates = 3

    def _step(self) -> Step:
        return gru_step

    def forward(self, x: Tensor, h: Tensor | None = None) -> Tensor:
        return self._stepped(x, h)[0]
