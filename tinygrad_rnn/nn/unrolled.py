"""The deep MLP that an RNN over n steps is: n layers, an input at each, with the same weights in all of them or not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from ..tape import scope
from ..tensor import Tensor
from .cells import Parameters
from .init import generator
from .layers import Linear, Seed, nonlinearity_of, positive
from .module import Module, Parameter
from .sequence import arrange_input, arrange_output, initial_states

Draw = Literal["init", "shuffle", "copy"]


class InjectedLayer(Module):
    """A feed-forward layer with an input of its own: h' = phi(input(x) + hidden(h)), two Linear layers and an activation."""

    def __init__(self, input: Linear, hidden: Linear, activation: Callable[[Tensor], Tensor]) -> None:
        self.input, self.hidden = input, hidden
        self._activation = activation

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        z = self.input(x) + self.hidden(h)
        h = self._activation(z)
        z.name, h.name = "z", "h"
        return h


class UnrolledRNN(Module):
    """A feed-forward net of `steps` layers, each `num_layers` cells high, as deep as `rnn` over `steps` steps.

    It is built of Linear layers and lists alone and knows no recurrence; that it computes what the RNN computes is for
    `same_graph` to find out. As `rnn.unroll(steps)` makes it, all layers hold the parameters of `rnn` (tied); `untie`
    gives each its own. Takes and returns what the RNN does, for exactly `steps` steps; the cell of layer l at step t has
    the address (l, t) and is `layers[t][l]`."""

    _not_children = ("_rnn",)  # remembered for `untie`, not a part

    def __init__(self, rnn: Any, steps: int) -> None:
        positive(steps=steps)
        if rnn.bidirectional:
            raise ValueError("UnrolledRNN: a net of two directions is no MLP of one layer a step; expected bidirectional=False")
        self.input_size, self.hidden_size, self.num_layers = rnn.input_size, rnn.hidden_size, rnn.num_layers
        self.nonlinearity, self.batch_first = rnn.nonlinearity, rnn.batch_first
        self.steps, self.tied = steps, True
        self._rnn = rnn
        self._build([[rnn.cell_parameters(layer) for layer in range(rnn.num_layers)]] * steps)

    def _build(self, cells: list[list[Parameters]]) -> None:
        phi = nonlinearity_of(self.nonlinearity)
        self.layers = [
            [InjectedLayer(Linear.of(w_ih, b_ih), Linear.of(w_hh, b_hh), phi) for w_ih, w_hh, b_ih, b_hh in step]
            for step in cells
        ]

    def forward(self, input: Tensor, h_0: Tensor | None = None) -> tuple[Tensor, Tensor]:
        x = arrange_input(self, input)
        if len(x) != self.steps:
            raise ValueError(
                f"UnrolledRNN: this net has {self.steps} layers, so it takes {self.steps} steps; the input has {len(x)}"
            )
        states = initial_states(self, x, h_0, self.num_layers)
        below = []
        for t in range(self.steps):
            with scope(t=t):
                below.append(x[t])
        for layer in range(self.num_layers):
            (h,), above = states[layer], []
            for t, step in enumerate(self.layers):
                with scope(layer=layer, t=t):
                    h = step[layer](below[t], h)
                above.append(h)
            below, states[layer] = above, (h,)
        output, (h_n,) = arrange_output(self, below, states)
        return output, h_n

    def untie(self, seed: Seed = None, draw: Draw = "init") -> UnrolledRNN:
        """A net of the same shape in which every layer has weights of its own.

        draw   "init" draws them from the distribution that the RNN's initial weights came from; "shuffle" gives each layer
               the RNN's present entries in a random order of its own (same mean, variance and histogram, no structure);
               "copy" gives each the present values, so that the nets compute the same and only the gradients come apart"""
        if draw not in ("init", "shuffle", "copy"):
            raise ValueError(f"unknown draw {draw!r}; expected init, shuffle or copy")
        rng = generator(seed)

        def redraw(layer: int) -> tuple[Parameter | None, ...]:
            fresh = list(self._rnn._draws(layer).values())
            out: list[Parameter | None] = []
            for i, p in enumerate(self._rnn.cell_parameters(layer)):
                if p is None:
                    out.append(None)
                elif draw == "init":
                    out.append(Parameter(fresh[i](rng), p.dtype, p.name))
                else:
                    values = p.value.copy() if draw == "copy" else rng.permutation(p.value.reshape(-1)).reshape(p.shape)
                    out.append(Parameter(np.ascontiguousarray(values), name=p.name))
            return tuple(out)

        untied = UnrolledRNN.__new__(UnrolledRNN)
        vars(untied).update({k: v for k, v in vars(self).items() if k != "layers"})
        untied.tied = False
        untied._build([[redraw(layer) for layer in range(self.num_layers)] for _ in range(self.steps)])
        return untied

    def __repr__(self) -> str:
        tied = "tied" if self.tied else "untied"
        return (
            f"UnrolledRNN({self.input_size}, {self.hidden_size}, steps={self.steps}, num_layers={self.num_layers}, "
            f"nonlinearity={self.nonlinearity!r}, {tied})"
        )
