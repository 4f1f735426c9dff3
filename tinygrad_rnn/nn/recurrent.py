"""Layers with time: RNN, LSTM, GRU and LeakyRNN, and the net whose top layer feeds the bottom one of the next step."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from .. import functions as F
from ..generator import Generator
from ..tape import scope
from ..tensor import ShapeError, Tensor
from .cells import CELL_PARAMETERS, Parameters, State, Step, cell_draws, gru_step, leaky_step, lstm_step, rnn_step, tensor_for
from .init import Init, checked_dtype, generator
from .layers import Seed, nonlinearity_of, positive
from .module import Module, Parameter
from .sequence import arrange_input, arrange_output, initial_states
from .unrolled import UnrolledRNN


class _Recurrent(Module):
    """As in every recurrent net here, with PyTorch's parameters, shapes, initial bounds and results:

    input     (T, B, input_size), (B, T, input_size) with batch_first, or (T, input_size) without a batch
    state     (D num_layers, B, hidden_size), or (D num_layers, hidden_size) without a batch, D being 2 where bidirectional and
              else 1; zero when None
    lengths   integers (B,) in 1..T where sequences of a batch end at different steps: what comes after an end is not looked
              at, the output there is 0, and the last state is that of the last step a sequence has (of the first, backwards);
              as packed sequences in PyTorch
    returns   output (T, B, D hidden_size), the states of the top layer (batch_first swaps T and B), and the last state of
              every layer

    num_layers     layers stacked on each other
    dropout        the probability with which each layer but the last drops entries of its output while training
    bidirectional  every layer also runs from the last step to the first, with weights of its own; outputs stand side by side
    init           the draw of weight_hh: a name ("default", PyTorch's, uniform in +-1 / sqrt(H); "orthogonal", "identity",
                   ...) or a function of tinygrad_rnn.nn.init
    seed           makes the initial weights, and what dropout drops, reproducible

    Nodes of layer l at step t have the address (l, t); of two directions, layer l has the addresses 2 l and 2 l + 1, the
    latter backwards. Parameters: weight_ih_l0 (G H, I), weight_hh_l0 (G H, H), bias_ih_l0 and bias_hh_l0 (G H,) for G gates,
    the same with _reverse for the other direction, and so on for l1, ..., whose inputs have D H features."""

    gates = 1
    states: tuple[str, ...] = ("h",)

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        init: Init = "default",
        dtype: Any = np.float32,
        seed: Seed = None,
    ) -> None:
        positive(input_size=input_size, hidden_size=hidden_size, num_layers=num_layers)
        if not 0 <= dropout <= 1:
            raise ValueError(f"dropout must be a probability in 0..1, got {dropout}")
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.bias, self.batch_first, self.dropout, self.bidirectional = bias, batch_first, dropout, bidirectional
        self.init, self.dtype = init, checked_dtype(dtype)
        rng = generator(seed)
        for layer in range(num_layers):
            for suffix in self._suffixes:
                draws = self._draws(layer)
                for name in CELL_PARAMETERS:
                    own = f"{name}_l{layer}{suffix}"
                    setattr(self, own, Parameter(draws[name](rng), self.dtype, own) if name in draws else None)
        self.generator = Generator(int(rng.integers(2**63))) if dropout else None

    @property
    def _suffixes(self) -> tuple[str, ...]:
        return ("", "_reverse") if self.bidirectional else ("",)

    def cell_parameters(self, layer: int, suffix: str = "") -> Parameters:
        """weight_ih, weight_hh, bias_ih and bias_hh of a layer, as they stand now; biases are None without bias."""
        return tuple(getattr(self, f"{name}_l{layer}{suffix}") for name in CELL_PARAMETERS)

    def _draws(self, layer: int) -> dict[str, Any]:
        features = self.hidden_size * len(self._suffixes) if layer else self.input_size
        return cell_draws(features, self.hidden_size, self.bias, self.init, self.gates)

    def _step(self) -> Step:
        raise NotImplementedError

    def _run(self, input: Any, state: Any, lengths: Any) -> tuple[Tensor, tuple[Tensor, ...]]:
        x, step, directions = arrange_input(self, input), self._step(), self._suffixes
        states = initial_states(self, x, state, self.num_layers * len(directions), self.states)
        if lengths is not None:
            lengths = self._checked_lengths(lengths, x)
        below = []
        for t in range(len(x)):
            with scope(t=t):
                # what comes after an end may be anything, nan too: even times a cotangent of 0 it would reach the weights
                below.append(x[t] if lengths is None else F.mask_steps(x[t], lengths, t))
        for layer in range(self.num_layers):
            if layer and self.dropout and self.training:
                assert self.generator is not None
                below = [F.dropout(h, self.dropout, generator=self.generator) for h in below]
            sides = []
            for side, suffix in enumerate(directions):
                at = layer * len(directions) + side
                with scope(layer=at):
                    outputs, states[at] = self._sweep(
                        step, below, states[at], self.cell_parameters(layer, suffix), lengths, backwards=side == 1
                    )
                sides.append(outputs)
            below = sides[0] if len(sides) == 1 else [F.concatenate(pair, axis=-1) for pair in zip(*sides, strict=True)]
        return arrange_output(self, below, states)

    @staticmethod
    def _sweep(
        step: Step, inputs: list[Tensor], state: State, parameters: Parameters, lengths: np.ndarray | None, backwards: bool
    ) -> tuple[list[Tensor], State]:
        """The output of one layer at every step, and its last state."""
        outputs: list[Any] = [None] * len(inputs)
        for t in reversed(range(len(inputs))) if backwards else range(len(inputs)):
            with scope(t=t):
                new = step(inputs[t], state, parameters)
                if lengths is None:
                    outputs[t] = new[0]
                else:
                    selected = tuple(F.select_steps(x, old, lengths, t) for x, old in zip(new, state, strict=True))
                    outputs[t] = F.mask_steps(selected[0], lengths, t)
                    for x, y in zip(new, selected, strict=True):  # the state is what is handed on
                        x.name, y.name = None, x.name
                    new = selected
                state = new
        return outputs, state

    def _checked_lengths(self, lengths: Any, x: Tensor) -> np.ndarray:
        lengths = np.asarray(lengths)
        if x.ndim != 3:
            raise ShapeError(f"{type(self).__name__}: lengths are for a batch; the input {x.shape} has none")
        if lengths.shape != x.shape[1:2] or lengths.dtype.kind not in "iu":
            raise ShapeError(
                f"{type(self).__name__}: expected integer lengths of shape {x.shape[1:2]}, got {lengths.dtype} {lengths.shape}"
            )
        if lengths.size and not 1 <= lengths.min() <= lengths.max() <= len(x):
            raise ValueError(f"{type(self).__name__}: lengths must lie in 1..{len(x)}, got {lengths.min()}..{lengths.max()}")
        return lengths

    def extra_repr(self) -> str:
        extra = f", num_layers={self.num_layers}" + (", bidirectional=True" if self.bidirectional else "")
        return f"{self.input_size}, {self.hidden_size}{extra}" + (f", dropout={self.dropout}" if self.dropout else "")


class RNN(_Recurrent):
    __doc__ = f"""A recurrent net over a sequence, as torch.nn.RNN: h' = phi(W_ih x + b_ih + W_hh h + b_hh).

    nonlinearity   phi: "tanh", "relu", or another of tinygrad_rnn.nn.layers.NONLINEARITIES
    returns        output, h_n

    {_Recurrent.__doc__}"""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        init: Init = "default",
        dtype: Any = np.float32,
        seed: Seed = None,
    ) -> None:
        nonlinearity_of(nonlinearity)
        self.nonlinearity = nonlinearity
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, init=init, dtype=dtype, seed=seed
        )

    def _step(self) -> Step:
        return rnn_step(nonlinearity_of(self.nonlinearity))

    def forward(self, input: Tensor, h_0: Tensor | None = None, *, lengths: Any = None) -> tuple[Tensor, Tensor]:
        output, (h_n,) = self._run(input, h_0, lengths)
        return output, h_n

    def unroll(self, steps: int) -> UnrolledRNN:
        """This net as the feed-forward net that it is over `steps` steps: one layer a step (num_layers cells in each), an
        input at every layer, and these very weights in all of them; without dropout. See UnrolledRNN. Of one direction only."""
        return UnrolledRNN(self, steps)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, nonlinearity={self.nonlinearity!r}"


class LeakyRNN(RNN):
    __doc__ = f"""A recurrent net of leaky units, h' = (1 - leak) h + leak phi(W_ih x + b_ih + W_hh h + b_hh) (Jaeger et al.
    2007): a path around the non-linearity, along which (1 - leak) of every signal survives a step.

    leak           in 0..1; 1 is the plain RNN
    nonlinearity   phi: "tanh", "relu", or another of tinygrad_rnn.nn.layers.NONLINEARITIES
    returns        output, h_n

    {_Recurrent.__doc__}"""

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1, leak: float = 0.1, **options: Any) -> None:
        if not 0 <= leak <= 1:
            raise ValueError(f"leak must lie in 0..1, got {leak}")
        self.leak = leak
        super().__init__(input_size, hidden_size, num_layers, **options)

    def _step(self) -> Step:
        return leaky_step(nonlinearity_of(self.nonlinearity), self.leak)

    def unroll(self, steps: int) -> UnrolledRNN:
        raise TypeError("LeakyRNN: only the plain RNN unrolls to an MLP")

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, leak={self.leak}"


class LSTM(_Recurrent):
    __doc__ = f"""A long short-term memory over a sequence, as torch.nn.LSTM; `nn.cells.lstm_step` has the formula. Gates are in
    the order i, f, g, o: `graph[layer, t, "f"]` is the forget gate, "c" the state of the cells, "h" the output.

    state     (h_0, c_0), each as below
    returns   output, (h_n, c_n)

    {_Recurrent.__doc__}"""

    gates = 4
    states = ("h", "c")

    def _step(self) -> Step:
        return lstm_step

    def forward(
        self, input: Tensor, state: tuple[Tensor, Tensor] | None = None, *, lengths: Any = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        output, (h_n, c_n) = self._run(input, state, lengths)
        return output, (h_n, c_n)


class GRU(_Recurrent):
    __doc__ = f"""A gated recurrent unit over a sequence, as torch.nn.GRU; `nn.cells.gru_step` has the formula. Gates are in the
    order r, z, n: `graph[layer, t, "z"]` is the update gate, "n" the candidate, "h" the state.

    returns   output, h_n

    {_Recurrent.__doc__}"""

    gates = 3

    def _step(self) -> Step:
        return gru_step

    def forward(self, input: Tensor, h_0: Tensor | None = None, *, lengths: Any = None) -> tuple[Tensor, Tensor]:
        output, (h_n,) = self._run(input, h_0, lengths)
        return output, h_n


class DeepTransitionRNN(Module):
    """A recurrent net whose step is `depth` layers deep, the top one feeding the bottom one of the next step (Pascanu et al.
    2014): over n steps a path of depth x n layers, where `RNN(num_layers=depth)` has paths of n + depth - 1.

        h = phi(W_ih x + b_ih + W_hh_l0 h_top + b_hh_l0), then h = phi(W_hh_l h + b_hh_l) for l = 1..depth - 1

    input     (T, B, input_size), (B, T, input_size) with batch_first, or (T, input_size)
    h_0       (B, hidden_size), or (hidden_size,) without a batch; zero when None
    returns   output (T, B, hidden_size), the states of the top layer (batch_first swaps T and B), and the last of them, as h_0

    Parameters: weight_ih_l0 (H, I), bias_ih_l0 (H,), and weight_hh_l (H, H), bias_hh_l (H,) for every layer; all start uniform
    in +-1 / sqrt(H), `init` draws the weight_hh instead. Nodes of layer l at step t have the address (l, t)."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        depth: int,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        *,
        init: Init = "default",
        dtype: Any = np.float32,
        seed: Seed = None,
    ) -> None:
        positive(input_size=input_size, hidden_size=hidden_size, depth=depth)
        nonlinearity_of(nonlinearity)
        self.input_size, self.hidden_size, self.depth = input_size, hidden_size, depth
        self.nonlinearity, self.bias, self.batch_first = nonlinearity, bias, batch_first
        rng, dtype = generator(seed), checked_dtype(dtype)
        draws = cell_draws(input_size, hidden_size, bias, init)
        for layer in range(depth):
            for name in CELL_PARAMETERS if layer == 0 else ("weight_hh", "bias_hh"):
                own = f"{name}_l{layer}"
                setattr(self, own, Parameter(draws[name](rng), dtype, own) if name in draws else None)

    def forward(self, input: Tensor, h_0: Tensor | None = None) -> tuple[Tensor, Tensor]:
        x, phi = arrange_input(self, input), nonlinearity_of(self.nonlinearity)
        h, outputs, expected = h_0, [], (*x.shape[1:-1], self.hidden_size)
        if h is None:
            h = Tensor(np.zeros(expected, x.dtype), name="h0")
        h = tensor_for(self, "the state", h)
        if h.shape != expected:
            raise ShapeError(f"DeepTransitionRNN: expected an initial state h_0 of shape {expected}, got {h.shape}")
        first, step = tuple(getattr(self, f"{name}_l0") for name in CELL_PARAMETERS), rnn_step(phi)
        for t in range(len(x)):
            with scope(t=t):
                below = x[t]
                with scope(layer=0):
                    (h,) = step(below, (h,), first)
                for layer in range(1, self.depth):
                    with scope(layer=layer):
                        z = F.linear(h, getattr(self, f"weight_hh_l{layer}"), getattr(self, f"bias_hh_l{layer}"))
                        h = phi(z)
                        z.name, h.name = "z", "h"
                outputs.append(h)
        output, (h_n,) = arrange_output(self, outputs, [(h,)])
        return output, h_n[0]

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}, depth={self.depth}, nonlinearity={self.nonlinearity!r}"


def truncated(net: Any, input: Any, steps: int, state: Any = None) -> Iterator[tuple[Tensor, Any]]:
    """Truncated backpropagation through time: run `net` over `input` in pieces of `steps` steps (the last may be shorter) and
    yield (output, state) of each. The state is carried over from piece to piece, its graph is not: call backward on a loss of
    each output.

        for output, state in tr.nn.truncated(rnn, x, 20): ...

    net      RNN, LSTM, GRU or another that takes (input, state) and returns (output, state); of one direction, since backwards
             the state comes from what follows. Raises ValueError for one of two
    input    array or tensor, as the net takes it"""
    positive(steps=steps)
    if getattr(net, "bidirectional", False):
        raise ValueError(f"truncated: {type(net).__name__} runs backwards, too, where no state can be carried over")
    x = tensor_for(net, "the input", input)
    axis = 1 if getattr(net, "batch_first", False) and x.ndim == 3 else 0
    for start in range(0, x.shape[axis], steps):
        piece = (slice(None),) * axis + (slice(start, start + steps),)
        output, state = net(x[piece], state)
        yield output, state
        state = tuple(s.detach() for s in state) if isinstance(state, tuple) else state.detach()
