"""Nets of known truth: one row a net, with what a verdict on it has to say.

The truth of a row comes from its construction, or from its recorded cotangents and numpy (net_truth.py), never from the
package's own analyses. `test_nets.py` holds the table against numpy, `test_verdicts.py` holds the package against the table."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import net_models as m
import numpy as np
from net_models import (
    Loop,
    Pieces,
    Reads,
    Tower,
    TwoNets,
    attention_pooled,
    cut_before,
    every_step,
    gates,
    gru,
    gru_of_gates,
    last,
    last_unit,
    linear_rnn,
    linears,
    loop,
    lstm,
    lstm_of_gates,
    mean_pooled,
    orthogonal,
    rnn,
    series,
    total,
    with_bias,
)
from net_truth import in_order, lstm_states, named

import tinygrad_rnn as tr

LN2 = float(np.log(2))
LSTM_PARTS = {"gates", "carry", "recurrent"}  # the carry of an LSTM is a chain only where no signal is in h


@dataclass(frozen=True)
class Net:
    """One net of known truth.

    model     () -> a Module or a function of tensors
    inputs    () -> an array or a tuple of arrays, as `trace` takes them
    truth     a sentence: how the truth is known
    kind      the kind of the verdict; a set where the truth is at a border, or has a name of its own ("narrow": the size of the
              signal is kept, in one direction)
    loss      what `trace` gets as loss; target likewise
    part      the part that does most of it; a set where several are equally true, None where not checked
    where     "evenly", "one step", "read-out", "two phases" or "unevenly"; a set or None likewise
    at_t      the step of a cliff or of a change of phases
    cut       None where nothing is cut; the step at which the way back is cut, a set of them, or "any"; "free"
              where a cut beside the path may be named or not
    share     the share of the sequences that do it, each by itself
    nats      the exact total from lag 0 to the last lag
    rate      nats a step where padding, or a start, makes it another number than total / lags
    never     words that the cause must not use
    sides     the kinds of the two directions of a bidirectional net
    read      the reader of the states' cotangents (net_truth.py), None where construction alone says it
    by_norm   whether `kind` is that of the norm of the signal; False where the norm hides it
    chain     whether saturation and weights are compared with numpy's telescoping split"""

    name: str
    model: Callable[[], Any]
    inputs: Callable[[], Any]
    truth: str
    kind: str | set[str]
    loss: Callable[..., Any] | None = last
    target: Any = None
    part: str | set[str] | None = None
    where: str | set[str] | None = None
    at_t: int | set[int] | None = None
    cut: int | str | set[int] | None = None
    share: float | None = None
    nats: float | None = None
    rate: float | None = None
    never: tuple[str, ...] = ()
    sides: tuple[str, str] | None = None
    read: Callable[..., Any] | None = field(default=named("h"), repr=False)
    by_norm: bool = True
    chain: bool = False

    def build(self):
        """(model, inputs, keywords of trace), made anew."""
        inputs, given = self.inputs(), {"loss": self.loss, "target": self.target}
        inputs = inputs if isinstance(inputs, tuple) else (inputs,)
        return self.model(), inputs, {name: x for name, x in given.items() if x is not None}

    def trace(self):
        model, inputs, keywords = self.build()
        return tr.trace(model, *inputs, **keywords)


def x(steps=50, *args, **options):
    return lambda: series(steps, *args, **options)


def flat(features, batch=4, **options):
    return lambda: series(1, batch, features, **options)[0]


TELESCOPES = "the split of a chain telescopes: numpy's sums over the recorded cotangents of z and h"
BY_NORM = "norms of the recorded cotangents of the states"
POWER = "the Jacobian of a linear net is a power of its matrix"
GATES = "no recurrent weights: the way back is a product of known gates"
ISOMETRY = "every step keeps every length"


# ---- plain RNNs: one chain

PLAIN = [
    Net("tanh, default", rnn, x(), TELESCOPES, "vanishing", part="weights", where="evenly", chain=True),
    Net("tanh, default, 8 steps", rnn, x(8), "as with 20 steps, cut short: -5 nats are at the border", {"fading", "vanishing"}, part="weights", where="evenly", chain=True),
    Net("tanh, default, 9 steps", rnn, x(9), "as with 20 steps, cut short: -5.7 nats", "vanishing", part="weights", where="evenly", chain=True),
    Net("tanh, default, 20 steps", rnn, x(20), TELESCOPES, "vanishing", part="weights", where="evenly", chain=True),
    Net("tanh, default, float32, 300 steps", lambda: rnn(dtype="float32"), x(300, dtype="float32"), "the same net in float64; float32 loses the gradient on the way", "vanishing", part="weights", where="evenly"),
    Net("tanh, orthogonal, small inputs", lambda: rnn(init="orthogonal", bias=False), x(scale=0.01), BY_NORM, "healthy", part=""),
    Net("tanh, orthogonal", lambda: rnn(init="orthogonal"), x(), "an orthogonal matrix keeps lengths, so phi' takes everything", "vanishing", part="saturation", where="evenly", chain=True),
    Net("tanh, orthogonal, driven by its inputs", lambda: driven(20), x(), "inputs of size 20 saturate every unit", "vanishing", part="saturation", chain=True),
    Net("tanh, small weights", lambda: rnn(w=0.3 * orthogonal(16)), x(), TELESCOPES, "vanishing", part="weights", where="evenly", chain=True),
    Net("tanh, large weights", lambda: rnn(w=3.0 * orthogonal(16)), x(), TELESCOPES, "exploding", part="weights", chain=True),
    Net("tanh, batch first", lambda: rnn(batch_first=True), lambda: series(50).transpose(1, 0, 2).copy(), "the net of the first row", "vanishing", loss=lambda y: y[:, -1].sum(), part="weights", where="evenly", chain=True),
    Net("tanh, no batch axis", rnn, lambda: series(50)[:, 0].copy(), "one sequence of the first row", "vanishing", part="weights", where="evenly", read=None),
    Net("relu, default", lambda: rnn(nonlinearity="relu"), x(), TELESCOPES, "vanishing", part="weights", chain=True),
    Net("relu, orthogonal", lambda: rnn(nonlinearity="relu", init="orthogonal"), x(), "an orthogonal matrix keeps lengths, so units that are off take everything", "vanishing", part="saturation", chain=True),
    Net("relu, identity, positive inputs", lambda: m.relu_switch(8), lambda: np.ones((50, 4, 1)), "all units are on and the matrix is 1", "healthy", part="", nats=0.0),
    Net("relu, all units off", lambda: dead_relu(), x(), "a bias of -10 switches every unit off at every step", "vanishing", part="saturation"),
    Net("relu, grows", lambda: rnn(8, 1, w=1.5 * np.eye(8), nonlinearity="relu"), lambda: np.full((50, 4, 1), 0.0) + 1, "all units are on and the matrix is 1.5", "exploding", part="weights"),
    Net("sigmoid, default", lambda: rnn(nonlinearity="sigmoid"), x(), TELESCOPES, "vanishing", part="saturation", where="evenly", chain=True),
    Net("sigmoid, phi' = 1/4", lambda: Reads(m.half_sigmoid_rnn(), lambda r: r[0], start=0.5), x(), "every pre-activation is 0, and a sigmoid's slope is at most 1/4: it is not saturated", "vanishing", part="saturation", where="evenly", nats=-49 * 2 * LN2, never=("saturated",)),
    Net("tanh, one unit", lambda: rnn(1, 1, w=np.array([[0.5]]), bias=False), lambda: np.zeros((50, 2, 1)), "the slope at 0 is 1 and w is 1/2", "vanishing", part="weights", where="evenly", nats=-49 * LN2, chain=True),
    Net("tanh, default, 2 steps", rnn, x(2), "one step back a factor of 1/2 is left", "healthy", part="", chain=True),
    Net("tanh, default, 1 step", rnn, x(1), "there is no step before the first: nothing to go back through", {"no signal", "healthy"}, read=None),
    Net("tanh, default, the model returns its loss", lambda: Reads(rnn(), lambda r: last(r[0])), x(), TELESCOPES, "vanishing", loss=None, part="weights", where="evenly"),
    Net("tanh, default, a target", rnn, x(), TELESCOPES, "vanishing", loss=lambda y, target: tr.mse_loss(y[-1], target), target=np.zeros((4, 16)), part="weights", where="evenly", chain=True),
    Net("linear, default", lambda: rnn(nonlinearity="identity"), x(), POWER, "vanishing", part="weights", where="evenly"),
    Net("linear, 0.9 times orthogonal", lambda: linear_rnn(orthogonal(16, gain=0.9)), x(), POWER, "vanishing", part="weights", where="evenly", nats=49 * np.log(0.9)),
    Net("linear, 0.93 times orthogonal", lambda: linear_rnn(orthogonal(16, gain=0.93)), x(), POWER, "fading", part="weights", where="evenly", nats=49 * np.log(0.93)),
    Net("linear, 0.98 times orthogonal", lambda: linear_rnn(orthogonal(16, gain=0.98)), x(), POWER, "healthy", part="", nats=49 * np.log(0.98)),
    Net("linear, orthogonal", lambda: linear_rnn(orthogonal(16)), x(100), ISOMETRY, "healthy", part="", nats=0.0),
    Net("linear, identity", lambda: linear_rnn(np.eye(16)), x(100), ISOMETRY, "healthy", part="", nats=0.0),
    Net("linear, 1.2 times orthogonal", lambda: linear_rnn(orthogonal(16, gain=1.2)), x(), POWER, "exploding", part="weights", where="evenly", nats=49 * np.log(1.2)),
    Net("linear, half the identity, float32", lambda: rnn(8, w=0.5 * np.eye(8), nonlinearity="identity", bias=False, dtype="float32"), x(300, dtype="float32"), "halves at every step, far below the smallest float32", "vanishing", part="weights", where="evenly", nats=-299 * LN2, read=None),
    Net("linear, one direction of 16 survives", lambda: linear_rnn(np.diag([1.0] + [0.6] * 15)), x(100), "the singular values of the way back are 1 and 15 times 0.6^99: one number in 16 is remembered", {"narrow", "vanishing", "fading"}, part="weights", by_norm=False),
    Net("linear, nilpotent", lambda: nilpotent(), lambda: np.zeros((11, 1, 2)), "J^2 = 2 J for J = [[8, 6], [-8, -6]], though the spectral radius of W is 0", "exploding", loss=last_unit, part="weights", nats=float(np.log(10) + 9 * LN2)),
    Net("linear, 0.98 times orthogonal, 400 steps", lambda: linear_rnn(orthogonal(6, gain=0.98)), x(400, 2), "2 % a step, for 400 steps", "vanishing", part="weights", where="evenly", nats=399 * np.log(0.98)),
    Net("linear, one sequence", lambda: linear_rnn(orthogonal(16, gain=0.9)), x(50, 1), POWER, "vanishing", part="weights", where="evenly", nats=49 * np.log(0.9)),
    Net("linear, a matrix made of a direction and a length", lambda: loop(weight_norm, v=orthogonal(8) * 3, g=np.full((8, 1), 0.9)), x(), "every row of the matrix is 0.9 times that of an orthogonal one", "vanishing", part="weights", where="evenly", nats=49 * np.log(0.9)),
    Net("linear, transient growth", lambda: linear_rnn(0.9 * (np.eye(16) + np.eye(16, k=1))), x(60), POWER, "exploding", part="weights"),
    Net("linear, grows and then decays", lambda: linear_rnn(0.8 * (np.eye(8) + np.eye(8, k=1))), x(150), POWER, "vanishing and exploding", part="weights", where={"two phases", "unevenly"}),
    Net("tanh, 2 layers", lambda: rnn(layers=2), x(), BY_NORM, "vanishing", part={"weights", "recurrent"}, where="evenly"),
    Net("tanh, 3 layers, orthogonal, small inputs", lambda: rnn(32, layers=3, init="orthogonal", bias=False), x(scale=0.01), BY_NORM, "healthy", part=""),
    Net("tanh, 4 layers", lambda: rnn(layers=4), x(), BY_NORM, "vanishing", part={"weights", "recurrent"}),
    Net("tanh, deep transition of 3", lambda: tr.nn.DeepTransitionRNN(3, 16, 3, dtype="float64", seed=0), x(20), BY_NORM, "vanishing", part="weights", where="evenly", read=named("h", layer=2)),
    Net("linear, deep transition of 2, orthogonal", lambda: tr.nn.DeepTransitionRNN(3, 16, 2, nonlinearity="identity", init="orthogonal", dtype="float64", seed=0), x(), ISOMETRY, "healthy", part="", nats=0.0, read=None),
    Net("diagonal recurrence of 0.9", lambda: indrnn(np.full(8, 0.9)), x(), "the state is multiplied by a vector of 0.9", "vanishing", part="weights", where="evenly", nats=49 * np.log(0.9)),
    Net("diagonal recurrence of exp(-exp a)", lambda: loop(lambda net, t, x, h: tr.linear(x, net.w_ih) + tr.exp(-tr.exp(net.a)) * h, a=np.full(8, np.log(-np.log(0.9)))), x(), "the state is multiplied by a vector of 0.9, which is learned", "vanishing", part="constants", where="evenly", nats=49 * np.log(0.9)),
    Net("diagonal recurrence of 1", lambda: indrnn(np.ones(8)), x(), ISOMETRY, "healthy", part="", nats=0.0),
    Net("diagonal recurrence of 1 and 0.5", lambda: indrnn(np.array([1.0] + [0.5] * 7)), x(100), "one of 8 units remembers", {"narrow", "vanishing", "fading"}, by_norm=False),
    Net("signs by Dale's law, columns of sum 0.9", lambda: dale(0.9), x(), "excitatory units only: every column of |W| sums to 0.9, so ones shrink by that", "vanishing", part="weights", where="evenly", nats=49 * np.log(0.9)),
    Net("signs by Dale's law, tanh, mixed", lambda: dale(1.0, inhibitory=3, phi=tr.tanh), x(), BY_NORM, "vanishing", part="weights"),
    Net("columns instead of rows", lambda: lambda h: columns(h), lambda: np.cos(np.arange(8.0))[:, None], POWER, "vanishing", loss=total, part="weights", where="evenly", read=None, nats=49 * np.log(0.8)),
    Net("a loop without addresses", lambda: loop(m.tanh_step, w_hh=0.5 * orthogonal(8), scoped=False), x(), BY_NORM, "vanishing", part="weights", where="evenly", read=in_order("tanh")),
    Net("a loop without addresses, 0.9 times orthogonal", lambda: loop(m.linear_step, w_hh=orthogonal(8, gain=0.9), scoped=False), x(), POWER, "vanishing", part="weights", where="evenly", nats=49 * np.log(0.9), read=in_order("h")),
    Net("a loop over RNNCell without addresses", lambda: CellLoop(tr.nn.RNNCell(3, 16, dtype="float64", seed=0)), x(), BY_NORM, "vanishing", part="weights", where="evenly", read=in_order("h")),
    Net("a loop over time alone in its addresses", lambda: CellLoop(tr.nn.RNNCell(3, 16, dtype="float64", seed=0), times=lambda t: t), x(), BY_NORM, "vanishing", part="weights", where="evenly"),
    Net("addresses from t = 5 on", lambda: CellLoop(cell_of_matrix(0.9), times=lambda t: t + 5), x(), POWER, "vanishing", part="weights", where="evenly", nats=49 * np.log(0.9)),
    Net("addresses at even t alone", lambda: CellLoop(cell_of_matrix(0.9), times=lambda t: 2 * t), x(), POWER, "vanishing", part="weights", where="evenly", nats=49 * np.log(0.9)),
    Net("addresses that count down", lambda: CellLoop(cell_of_matrix(0.9), times=lambda t: 49 - t), x(), POWER, "vanishing", part="weights", where="evenly", nats=49 * np.log(0.9), read=named("h", backwards=True)),
    Net("a loop over two RNNCells without addresses", lambda: CellLoop(tr.nn.RNNCell(3, 16, dtype="float64", seed=0), tr.nn.RNNCell(16, 16, dtype="float64", seed=1)), x(), BY_NORM, "vanishing", read=in_order("h")),
    Net("a loop without addresses, isometric", lambda: loop(m.linear_step, scoped=False), x(), ISOMETRY, "healthy", part="", nats=0.0, read=None),
]  # fmt: skip


class CellLoop(tr.nn.Module):
    """A user's loop over cells, each of which reads the state of the one below; returns the states of the last, (T, B, H).

    times   t -> the step of the addresses; no addresses where None"""

    def __init__(self, *cells, times=None):
        self.cells, self._times = cells, times

    def forward(self, x):
        states, outputs = [None] * len(self.cells), []
        for t in range(len(x)):
            with tr.scope(t=self._times(t)) if self._times else nullcontext():
                below = x[t]
                for k, cell in enumerate(self.cells):
                    states[k] = cell(below, states[k])
                    below = states[k][0] if isinstance(states[k], tuple) else states[k]
                outputs.append(below)
        return tr.stack(outputs)


def cell_of_matrix(size):
    """A linear cell h' = W h + W_ih x, W being `size` times an orthogonal matrix."""
    cell = tr.nn.RNNCell(3, 8, nonlinearity="identity", bias=False, dtype="float64", seed=0)
    cell.weight_hh.value[...] = orthogonal(8, gain=size)
    return cell


def driven(scale):
    net = rnn(init="orthogonal")
    net.weight_ih_l0.value[...] *= scale
    return net


def dead_relu():
    """Every unit is off before the last step: the input of the last step alone is large enough to switch units on."""
    net = rnn(8, nonlinearity="relu")
    net.bias_ih_l0.value[...] = -10
    net.bias_hh_l0.value[...] = 0
    return net


def nilpotent():
    w, fixed = np.array([[8.0, 8.0], [-8.0, -8.0]]), np.array([0.0, np.arctanh(0.5)])
    b = fixed - w @ np.tanh(fixed)
    return Loop(lambda net, t, x, h: tr.linear(tr.tanh(h), net.w_hh) + b, fixed, w_hh=w)


def indrnn(u):
    """Units that see themselves alone: h' = u h + W_ih x."""
    return loop(lambda net, t, x, h: tr.linear(x, net.w_ih) + net.w_hh * h, w_hh=u)


def weight_norm(net, t, x, h):
    """W = g v / |v|, row by row, as weight normalisation has it."""
    w = net.g * net.v / tr.sqrt((net.v * net.v).sum(1, keepdims=True))
    return tr.linear(x, net.w_ih) + tr.linear(h, w)


def dale(column_sum, inhibitory=0, phi=lambda z: z, hidden=8):
    """Weights |P| S: all weights that leave a unit have its sign (S), and each column sums to column_sum before it."""
    p = np.random.default_rng(0).uniform(0.1, 1, (hidden, hidden))
    p *= column_sum / p.sum(0)
    signs = np.where(np.arange(hidden) < hidden - inhibitory, 1.0, -1.0)
    return loop(lambda net, t, x, h: phi(tr.linear(x, net.w_ih) + tr.linear(h, tr.abs(net.w_hh) * signs)), w_hh=p)


COLUMN_WEIGHT = tr.nn.Parameter(orthogonal(8, gain=0.8))


def columns(h):
    for t in range(50):
        with tr.scope(t=t):
            h = COLUMN_WEIGHT @ h
    return h


# ---- gated and leaky cells: parallel paths

GATED = [
    Net("LSTM, f = 1/2, loss on c_n", lambda: Reads(lstm_of_gates(0.5), m.c_n), x(), GATES, "vanishing", loss=total, part="gates", where="evenly", nats=-49 * LN2, read=lstm_states),
    Net("LSTM, f = sigmoid 2, loss on c_n", lambda: Reads(lstm_of_gates(0.8807970779778823), m.c_n), x(), GATES, "vanishing", loss=total, part="gates", where="evenly", nats=49 * np.log(0.8807970779778823), read=lstm_states),
    Net("LSTM, f = sigmoid 5, loss on c_n", lambda: Reads(lstm_of_gates(0.9933071490757153), m.c_n), x(), GATES, "healthy", loss=total, part="", nats=49 * np.log(0.9933071490757153), read=lstm_states),
    Net("LSTM, f = 1/2, loss on h_n", lambda: Reads(lstm_of_gates(0.5), m.h_n), x(), "f o at the read-out, then products of f", "vanishing", loss=total, part="gates", where="evenly", nats=-50 * LN2, read=lstm_states),
    Net("LSTM, f = sigmoid 2, loss on h_n", lambda: Reads(lstm_of_gates(0.8807970779778823), m.h_n), x(), "f o at the read-out, then products of f", "vanishing", loss=total, part="gates", where="evenly", nats=49 * np.log(0.8807970779778823) - LN2, read=lstm_states),
    Net("LSTM, f = sigmoid 5, loss on h_n", lambda: lstm_of_gates(0.9933071490757153), x(), "f o at the read-out, then products of f", "healthy", part="", nats=49 * np.log(0.9933071490757153) - LN2, read=lstm_states),
    Net("LSTM, default", lstm, x(), BY_NORM, "vanishing", part=LSTM_PARTS, where="evenly", read=lstm_states),
    Net("LSTM, forget bias 5", lambda: remembering(lstm()), x(scale=0.5), BY_NORM, "healthy", part="", read=lstm_states),
    Net("LSTM, forget bias 5, other biases default", lambda: with_bias(lstm(), "bias_ih_l0", 1, 5), x(scale=0.1), "biases alone fill the cells, and tanh of them saturates at the read-out", "vanishing", where={"read-out", "unevenly", "two phases"}, read=lstm_states),
    Net("LSTM, forget bias 5, loss on c_n", lambda: Reads(with_bias(lstm(), "bias_ih_l0", 1, 5), m.c_n), x(), BY_NORM, "healthy", loss=total, part="", read=lstm_states),
    Net("LSTM, cells so full that tanh saturates", lambda: full_lstm(), x(), "cells grow to 6 by themselves; tanh' of that is 2e-5 at the read-out", "vanishing", part={"saturation", "carry"}, where="read-out", read=lstm_states),
    Net("LSTM, forget bias -3 in bias_ih", lambda: with_bias(lstm(), "bias_ih_l0", 1, -3), x(), BY_NORM, "vanishing", part=LSTM_PARTS, where="evenly", read=lstm_states),
    Net("LSTM, forget bias -3 in bias_hh", lambda: with_bias(lstm(), "bias_hh_l0", 1, -3), x(), BY_NORM, "vanishing", part=LSTM_PARTS, where="evenly", read=lstm_states),
    Net("LSTM, output gate shut", lambda: lstm_of_gates(0.9933071490757153, o=1e-6), x(), "f o at the read-out, o = 1e-6, then products of f", "vanishing", part={"gates", "carry"}, where="read-out", nats=49 * np.log(0.9933071490757153) + np.log(1e-6), read=lstm_states),
    Net("LSTM, forget gate shut at t = 30", lambda: Reads(lstm_shut_by_input(), m.c_n), lambda: pulse(50, 30), "the input shuts the forget gate at one step", "vanishing", loss=total, part="gates", where="one step", at_t=30, read=lstm_states),
    Net("LSTM, 2 layers", lambda: lstm(layers=2), x(), BY_NORM, "vanishing", where="evenly", read=named("h", "c")),
    Net("LSTM, 2 layers, forget bias 5", lambda: remembering(lstm(layers=2)), x(scale=0.5), BY_NORM, "healthy", part="", read=named("h", "c")),
    Net("LSTM, written by a user", lambda: Loop(m.lstm_step, (np.zeros(8), np.zeros(8)), **gates("ifgo")), x(), BY_NORM, "vanishing", part=LSTM_PARTS, where="evenly", read=named("h", "c")),
    Net("GRU, z = 1/2", lambda: gru_of_gates(0.5), x(), GATES, "vanishing", part="gates", where="evenly", nats=-49 * LN2),
    Net("GRU, z = sigmoid 2", lambda: gru_of_gates(0.8807970779778823), x(), GATES, "vanishing", part="gates", where="evenly", nats=49 * np.log(0.8807970779778823)),
    Net("GRU, z = sigmoid 5", lambda: gru_of_gates(0.9933071490757153), x(), GATES, "healthy", part="", nats=49 * np.log(0.9933071490757153)),
    Net("GRU, default", gru, x(), BY_NORM, "vanishing", part={"gates", "carry", "recurrent", "sums"}, where="evenly"),
    Net("GRU, biased to keep", lambda: with_bias(gru(), "bias_hh_l0", 1, 5), x(), BY_NORM, "healthy", part=""),
    Net("GRU, biased to forget", lambda: with_bias(gru(), "bias_hh_l0", 1, -4), x(), BY_NORM, "vanishing", part={"gates", "recurrent"}),
    Net("GRU, 2 layers", lambda: gru(layers=2), x(), BY_NORM, "vanishing", where="evenly"),
    Net("GRU, written by a user", lambda: Loop(m.gru_step, np.zeros(8), **gates("rzn")), x(), BY_NORM, "vanishing", part={"gates", "carry", "recurrent", "sums"}, where="evenly"),
    Net("LSTMCell in a loop without addresses, f = 1/2", lambda: CellLoop(cell_of(tr.nn.LSTMCell(3, 8, dtype="float64"), lstm_of_gates(0.5))), x(), "f o at the read-out, then products of f", "vanishing", part="gates", where="evenly", nats=-50 * LN2, read=None),
    Net("LSTMCell in a loop without addresses, default", lambda: CellLoop(tr.nn.LSTMCell(3, 8, dtype="float64", seed=0)), x(), BY_NORM, "vanishing", part=LSTM_PARTS, where="evenly", read=in_order("c")),
    Net("GRUCell in a loop without addresses, z = 1/2", lambda: CellLoop(cell_of(tr.nn.GRUCell(3, 8, dtype="float64"), gru_of_gates(0.5))), x(), GATES, "vanishing", part="gates", where="evenly", nats=-49 * LN2, read=in_order("h")),
    Net("leaky, 0.01", lambda: tr.nn.LeakyRNN(3, 16, leak=0.01, dtype="float64", seed=0), x(), BY_NORM, "healthy", part=""),
    Net("leaky, 0.1, 150 steps", lambda: tr.nn.LeakyRNN(3, 16, leak=0.1, dtype="float64", seed=0), x(150), BY_NORM, "vanishing", part={"constants", "carry"}, where="evenly"),
    Net("leaky, 0.1, 70 steps", lambda: tr.nn.LeakyRNN(3, 16, leak=0.1, dtype="float64", seed=0), x(70), BY_NORM, "fading", part={"constants", "carry"}, where="evenly"),
    Net("leaky, 0.5", lambda: tr.nn.LeakyRNN(3, 16, leak=0.5, dtype="float64", seed=0), x(), BY_NORM, "vanishing", where="evenly"),
    Net("leaky, 1: a plain RNN", lambda: tr.nn.LeakyRNN(3, 16, leak=1.0, dtype="float64", seed=0), x(), "leak 1 is the plain RNN", "vanishing", part="weights", where="evenly"),
    Net("leaky, 0.5, 2 layers", lambda: tr.nn.LeakyRNN(3, 8, 2, leak=0.5, dtype="float64", seed=0), x(), BY_NORM, "vanishing"),
    Net("leaky, 0.1, no recurrent weights", lambda: leaky(0.1, np.zeros((16, 16))), x(), "what is left of the state a step is 0.9", "vanishing", part="constants", where="evenly", nats=49 * np.log(0.9)),
    Net("leaky, 0.5, recurrent weights -1", lambda: leaky(0.5, -np.eye(16), nonlinearity="identity"), x(20), "two paths of 1/2 and -1/2 cancel", "vanishing"),
    Net("leaky, 0.2, a rotation of 90 degrees", lambda: leaky(0.2, np.kron(np.eye(8), np.array([[0.0, -1.0], [1.0, 0.0]])), nonlinearity="identity"), x(), "the eigenvalues are 0.8 +- 0.2 i", "vanishing", nats=49 * np.log(0.68) / 2, where="evenly"),
    Net("GRU, layer norm on the state", lambda: loop(lambda net, t, x, h: m.gru_step(net, t, x, tr.layer_norm(h, (8,))), **gates("rzn")), x(), BY_NORM, "vanishing"),
    Net("a state updated at every second step", lambda: loop(lambda net, t, x, h: tr.where(np.full((1, 8), t % 2 == 0), m.linear_step(net, t, x, h), h), w_hh=0.5 * orthogonal(8)), x(), "24 of the 49 steps multiply by half an orthogonal matrix", "vanishing", part="weights", where={"evenly", "unevenly"}, nats=-24 * LN2),
    Net("a state multiplied by 0.95", lambda: loop(lambda net, t, x, h: h * 0.95 + tr.linear(x, net.w_ih)), x(), "a constant factor a step", "fading", part="constants", where="evenly", nats=49 * np.log(0.95)),
    Net("a gate of its own, sigmoid 1", lambda: loop(lambda net, t, x, h: h * tr.sigmoid(tr.linear(x, net.w_hh) + 1.0), w_hh=np.zeros((8, 3)), start=1.0), x(), GATES, "vanishing", part="gates", where="evenly", nats=-49 * np.log1p(np.exp(-1))),
]  # fmt: skip


def cell_of(cell, net):
    """The cell, with the values of a net of one layer."""
    for name, p in cell.named_parameters():
        p.value[...] = getattr(net, f"{name}_l0").value
    return cell


def remembering(net):
    """The LSTM with forget biases of 5 and no others, so that its cells stay small."""
    for name, p in net.named_parameters():
        if name.startswith("bias"):
            p.value[...] = 0
    for layer in range(net.num_layers):
        with_bias(net, f"bias_ih_l{layer}", 1, 5)
    return net


def full_lstm():
    """Without recurrent weights, f = 0.999, i = 1/2, o = 1/2, and cells that grow by 0.12 a step."""
    net = lstm_of_gates(0.999)
    net.bias_ih_l0.value[16:24] = np.arctanh(0.24)
    return net


def lstm_shut_by_input():
    net = lstm_of_gates(0.9933071490757153)
    net.weight_ih_l0.value[8:16, 0] = -20
    return net


def pulse(steps, at, batch=4, features=3, size=1.0):
    """Inputs of 0, with the first feature `size` at one step."""
    out = np.zeros((steps, batch, features))
    out[at, :, 0] = size
    return out


def leaky(leak, w, **options):
    net = tr.nn.LeakyRNN(3, len(w), leak=leak, dtype="float64", seed=0, **options)
    net.weight_hh_l0.value[...] = w
    return net


# ---- depth

LAYERS = named("h", axis="layer")

DEPTH = [
    Net("MLP, tanh, default", lambda: tr.nn.MLP(40, 16, init="default", dtype="float64", seed=0), flat(16), BY_NORM, "vanishing", loss=total, part="weights", where="evenly", read=LAYERS),
    Net("MLP, linear, orthogonal", lambda: tr.nn.MLP(60, 16, nonlinearity="identity", init="orthogonal", dtype="float64", seed=0), flat(16), ISOMETRY, "healthy", loss=total, part="", nats=0.0, read=LAYERS),
    Net("MLP, tanh, orthogonal, small inputs", lambda: tr.nn.MLP(40, 16, init="orthogonal", dtype="float64", seed=0), flat(16, scale=0.01), BY_NORM, "healthy", loss=total, part="", read=LAYERS),
    Net("MLP, relu, He", lambda: tr.nn.MLP(20, 64, nonlinearity="relu", init=tr.nn.init.kaiming_normal, dtype="float64", seed=0), flat(64), BY_NORM, "healthy", loss=total, part="", read=LAYERS),
    Net("MLP, relu, default", lambda: tr.nn.MLP(30, 32, nonlinearity="relu", init="default", dtype="float64", seed=0), flat(32), BY_NORM, "vanishing", loss=total, part="weights", where="evenly", read=LAYERS),
    Net("MLP, relu, orthogonal", lambda: tr.nn.MLP(40, 32, nonlinearity="relu", init="orthogonal", dtype="float64", seed=0), flat(32), "orthogonal matrices keep lengths, so units that are off take everything", "vanishing", loss=total, part="saturation", read=LAYERS),
    Net("MLP, linear, 1.3 times orthogonal", lambda: tr.nn.MLP(40, 16, nonlinearity="identity", init=tr.nn.init.orthogonal(1.3), dtype="float64", seed=0), flat(16), POWER, "exploding", loss=total, part="weights", where="evenly", nats=39 * np.log(1.3), read=LAYERS),
    Net("Sequential, tanh, no addresses", lambda: sequential(30, tr.nn.Tanh), flat(16), BY_NORM, "vanishing", loss=total, part="weights", where="evenly", read=in_order("tanh")),
    Net("Sequential, sigmoid, no addresses", lambda: sequential(20, tr.nn.Sigmoid), flat(16), BY_NORM, "vanishing", loss=total, part="saturation", where="evenly", read=in_order("sigmoid")),
    Net("Sequential, orthogonal, small inputs", lambda: sequential(30, tr.nn.Tanh, init="orthogonal", bias=False), flat(16, scale=0.01), BY_NORM, "healthy", loss=total, part="", read=in_order("tanh")),
    Net("residual tower, own Module", lambda: Tower(linears(30, 16), lambda layer, h: h + tr.tanh(layer(h)) * 0.2), flat(16), BY_NORM, "healthy", loss=total, part="", read=LAYERS),
    Net("residual tower, Residual without addresses", lambda: tr.nn.Sequential(*residuals(30, 16, 0.1)), flat(16), BY_NORM, "healthy", loss=total, part="", read=in_order("add")),
    Net("residual tower, Residual, scale 1", lambda: tr.nn.Sequential(*residuals(30, 16, 1.0)), flat(16), BY_NORM, {"healthy"}, loss=total, part="", read=in_order("add")),
    Net("tower of linear, batch norm, tanh", lambda: Tower(normalised(60)), flat(16, 32), "backwards, batch norm undoes the scale of the weights and makes gradients grow by 1.2 a layer", "exploding", loss=lambda y: y[:, 0].sum(), read=LAYERS),
    Net("residual tower, Residual, scale 3", lambda: tr.nn.Sequential(*residuals(30, 16, 3.0)), flat(16, scale=0.01), BY_NORM, "exploding", loss=total, read=in_order("add")),
    Net("residual tower, own Module, scale 3", lambda: Tower(linears(30, 16, bias=False), lambda layer, h: h + tr.tanh(layer(h)) * 3.0), flat(16, scale=0.01), BY_NORM, "exploding", loss=total, read=LAYERS),
    Net("residual tower whose branches cancel", lambda: Tower(cancelling(20), lambda layer, h: h + layer(h)), flat(16), "every block is h - h / 2", "vanishing", loss=total, part={"sums", "recurrent", "weights"}, where="evenly", nats=-19 * LN2, read=LAYERS),
    Net("tower that halves and adds nothing", lambda: Tower(linears(20, 16), lambda layer, h: h * 0.5 + tr.tanh(layer(h)) * 0.0), flat(16), "a constant factor a layer", "vanishing", loss=total, part="constants", where="evenly", nats=-19 * LN2, read=LAYERS),
    Net("convolutions, tanh", lambda: Tower(convolutions(20), lambda layer, h: tr.tanh(layer(h))), lambda: np.random.default_rng(0).standard_normal((2, 4, 12)), BY_NORM, "vanishing", loss=total, part="weights", where="evenly", read=LAYERS),
    Net("convolutions in Sequential, no addresses", lambda: tr.nn.Sequential(*[layer for c in convolutions(20) for layer in (c, tr.nn.Tanh())]), lambda: np.random.default_rng(0).standard_normal((2, 4, 12)), BY_NORM, "vanishing", loss=total, part="weights", where="evenly", read=in_order("tanh")),
    Net("a tower with one layer of 1e-5", lambda: Tower(one_small(20, 7, 1e-5)), flat(16), "layers are orthogonal but for layer 7, which is 1e-5 times that", "vanishing", loss=total, part="weights", where="one step", at_t=7, nats=float(np.log(1e-5)), read=LAYERS),
]  # fmt: skip


def sequential(depth, activation, **options):
    return tr.nn.Sequential(*[layer for linear in linears(depth, 16, **options) for layer in (linear, activation())])


def residuals(depth, width, scale):
    return [tr.nn.Residual(tr.nn.Sequential(layer, tr.nn.Tanh()), scale) for layer in linears(depth, width, bias=False)]


def normalised(depth):
    rng = np.random.default_rng(0)
    layers = linears(depth, 16, rng)
    return [tr.nn.Sequential(layer, tr.nn.BatchNorm1d(16, dtype="float64"), tr.nn.Tanh()) for layer in layers]


def cancelling(depth):
    layers = linears(depth, 16, bias=False)
    for layer in layers:
        layer.weight.value[...] = -0.5 * np.eye(16)
    return layers


def one_small(depth, at, size):
    layers = linears(depth, 16, init="orthogonal", bias=False)
    layers[at].weight.value[...] *= size
    return layers


def convolutions(depth):
    rng = np.random.default_rng(0)
    return [tr.nn.Conv1d(4, 4, 3, padding="same", dtype="float64", seed=rng) for _ in range(depth)]


# ---- losses, batches, lengths

MIXED = {"healthy", "vanishing", "fading"}  # the losses on the way feed every step; what the last step sends back vanishes

LOSSES = [
    Net("mean pooling, default", rnn, x(), "every step has a loss of its own: the recorded cotangents do not fall", MIXED, loss=mean_pooled, by_norm=False),
    Net("mean pooling, isometric", lambda: linear_rnn(orthogonal(16)), x(), ISOMETRY, "healthy", loss=mean_pooled, part="", by_norm=False),
    Net("attention pooling, default", rnn, x(), "every step has a loss of its own", MIXED, loss=attention_pooled, by_norm=False),
    Net("loss at every step, default", rnn, x(), "every step has a loss of its own", MIXED, loss=every_step, by_norm=False),
    Net("loss at every step, isometric", lambda: linear_rnn(orthogonal(16)), x(scale=0.1), ISOMETRY, "healthy", loss=every_step, part="", by_norm=False),
    Net("loss on step 20 of 50", rnn, x(), TELESCOPES, "vanishing", loss=m.at_step(20), part="weights", where="evenly"),
    Net("loss on step 20 of 50, isometric", lambda: linear_rnn(orthogonal(16)), x(), ISOMETRY, "healthy", loss=m.at_step(20), part="", nats=0.0),
    Net("loss on the first step alone", rnn, x(), "there is no step before the first: nothing to go back through", {"no signal", "healthy"}, loss=m.at_step(0), read=None),
    Net("loss without a gradient", rnn, x(), "the loss is a multiple of 0", "no signal", loss=lambda y: (y[-1] * 0.0).sum(), by_norm=False),
    Net("loss on relu of negative states", lambda: rnn(), x(), "relu(-2 + h) is 0, with slope 0", "no signal", loss=lambda y: tr.relu(y[-1] - 2.0).sum(), by_norm=False),
    Net("1 of 8 sequences dies", lambda: m.relu_switch(), lambda: switched(10, 8, dead=1), "relu is off in one sequence before the last step", "healthy", share=1 / 8, nats=0.0),
    Net("3 of 8 sequences die", lambda: m.relu_switch(), lambda: switched(10, 8, dead=3), "relu is off in three sequences before the last step", "vanishing", part="saturation", share=3 / 8),
    Net("7 of 8 sequences die", lambda: m.relu_switch(), lambda: switched(10, 8, dead=7), "relu is off in seven sequences before the last step", "vanishing", part="saturation", share=7 / 8),
    Net("sequences that diverge", lambda: multiplied([2.0, 2.0, 0.5, 0.5]), x(20, features=8), "two sequences double a step, two halve", "vanishing and exploding", share=0.5),
    Net("1 of 4 sequences decays", lambda: multiplied([1.0, 1.0, 1.0, 0.5]), x(20, features=8), "one sequence of four halves a step", "vanishing", part="constants", share=0.25),
    Net("1 of 10 sequences decays", lambda: multiplied([1.0] * 9 + [0.5]), x(20, 10, 8), "one sequence of ten halves a step", "healthy", share=0.1),
    Net("1 of 8 sequences has no loss", rnn, x(batch=8), "the loss leaves one sequence out", "vanishing", loss=lambda y: y[-1, 1:].sum(), part="weights", where="evenly"),
    Net("padded, default", lambda: Reads(rnn(), lambda r: r[1], lengths=np.array([100, 60, 40, 30])), x(100), "padding changes nothing: each sequence counts from its own end", "vanishing", loss=total, part="weights", where="evenly", rate=-0.73),
    Net("padded, short sequences in a long batch", lambda: Reads(rnn(), lambda r: r[1], lengths=np.array([20, 20, 20, 20])), x(100), "the 80 steps of padding are no steps: 19 lags at the rate of the net", "vanishing", loss=total, part="weights", where="evenly", rate=-0.75),
    Net("padded, masked mean of the outputs", lambda: Reads(rnn(), lambda r: r[0], lengths=np.array([50, 30, 20, 10])), x(), "every step has a loss of its own", MIXED, loss=lambda y: (y.sum(0) / np.array([50.0, 30.0, 20.0, 10.0])[:, None]).sum(), by_norm=False),
    Net("padded, isometric", lambda: Reads(linear_rnn(orthogonal(16)), lambda r: r[1], lengths=np.array([50, 30, 20, 10])), x(), ISOMETRY, "healthy", loss=total, part="", nats=0.0),
    Net("padded, batch first, GRU", lambda: Reads(gru(batch_first=True), lambda r: r[1], lengths=np.array([50, 45, 40, 35])), lambda: series(50).transpose(1, 0, 2).copy(), BY_NORM, "vanishing", loss=total),
    Net("cross entropy on the last step", lambda: TwoNets(rnn(), tr.nn.Linear(16, 5, dtype="float64", seed=0), lambda a, b, x: b(a(x)[0][-1])), x(), BY_NORM, "vanishing", loss=lambda y: tr.cross_entropy(y, np.array([0, 1, 2, 3])), part="weights", where="evenly"),
    Net("a mask of minus infinity", rnn, x(), "the softmax never sees the masked unit", "vanishing", loss=lambda y: tr.softmax(y[-1] + np.where(np.arange(16) == 3, -np.inf, 0.0))[:, 0].sum(), part="weights", where="evenly"),
]  # fmt: skip


def switched(steps, batch, dead):
    """Inputs for relu_switch: +1 where a sequence lives, -1 where it dies, and 30 at the last step, where all are on."""
    out = np.ones((steps, batch, 1))
    out[:, :dead] = -1
    out[-1] = 30
    return out


def multiplied(factors):
    """A state multiplied by one factor for each sequence."""
    return Loop(lambda net, t, x, h: h * np.array(factors)[:, None] + x * net.scale, np.zeros(8), scale=np.ones(8))


# ---- cuts

CUT = "construction: what came before the cut has no gradient at all"

CUTS = [
    Net("detach before step 50 of 100", lambda: loop(cut_before(50, m.detached)), x(100), CUT, "vanishing", part="cut", cut=50),
    Net("no_grad at step 50 of 100", lambda: loop(cut_before(50, m.without_gradients)), x(100), CUT, "vanishing", part="cut", cut=50),
    Net("state rebuilt from numpy at step 50", lambda: loop(cut_before(50, m.rebuilt)), x(100), CUT, "vanishing", part="cut", cut=50),
    Net("detach without addresses", lambda: loop(cut_before(30, m.detached, m.tanh_step), scoped=False), x(50), CUT, "vanishing", part={"cut", "saturation"}, cut="any", read=in_order("tanh")),
    Net("detach without addresses, isometric", lambda: loop(cut_before(30, m.detached), scoped=False), x(50), CUT, "vanishing", part="cut", cut="any", read=in_order("h")),
    Net("detach in a net that loses it anyway", lambda: loop(cut_before(50, m.detached, m.tanh_step), w_hh=0.5 * orthogonal(8)), x(100), CUT, "vanishing", part={"cut", "weights"}, cut=50),
    Net("detach before every step", lambda: loop(lambda net, t, x, h: m.tanh_step(net, t, x, h.detach())), x(20), CUT, {"vanishing", "no signal"}, part="cut", cut={19, 18}, by_norm=False),
    Net("truncated every 20 steps, loss on all", lambda: Pieces(rnn(w=orthogonal(16), nonlinearity="identity"), 20), x(100), "the state is handed over without its graph after every 20 steps", {"vanishing", "healthy"}, loss=mean_pooled, cut="any", by_norm=False),
    Net("truncated every 20 steps, loss on the last", lambda: Pieces(rnn(w=orthogonal(16), nonlinearity="identity"), 20), x(100), CUT, "vanishing", part="cut", cut="any", read=in_order("h")),
    Net("LSTM, c detached before every step", lambda: Loop(lambda net, t, x, s: m.lstm_step(net, t, x, (s[0], s[1].detach())), (np.zeros(8), np.zeros(8)), **gates("ifgo")), x(), "the carry is cut at every step, the way through h is left", "vanishing", part={"cut", "recurrent", "weights"}, cut="any", read=named("h")),
    Net("LSTM, h detached before every step", lambda: Loop(lambda net, t, x, s: m.lstm_step(net, t, x, (s[0].detach(), s[1])), (np.zeros(8), np.zeros(8)), **gates("ifgo")), x(), "the recurrent paths are cut at every step, the carry is left", "vanishing", part={"gates", "carry", "cut"}, cut="free", read=named("c")),
    Net("LSTM without recurrent weights, c detached at step 25", lambda: Loop(lambda net, t, x, s: m.lstm_step(net, t, x, (s[0], s[1].detach() if t == 25 else s[1])), (np.zeros(8), np.zeros(8)), **keeping_gates()), x(), CUT, "vanishing", part="cut", cut=25, read=named("c")),
    Net("a decoder started from a detached state", lambda: encoder_decoder(lambda state: state.detach()), x(25), CUT, "vanishing", part="cut", cut="any", read=in_order("h")),
    Net("own output fed back without its graph, isometric", lambda: loop(fed_back, start=0.1), x(), "the input is cut, the state is not: every step keeps every length", "healthy", cut="free", part=""),
    Net("straight-through rounding, isometric", lambda: loop(straight_through), x(), "the value is rounded, the gradient is that of the identity", "healthy", cut="free", part="", nats=0.0),
    Net("states of 0 and a constant of 0", lambda: loop(lambda net, t, x, h: m.linear_step(net, t, x, h) + tr.Tensor(np.zeros((4, 8)))), lambda: np.zeros((50, 4, 3)), "a constant equals every state, and is none", "healthy", part="", nats=0.0),
    Net("a constant that the state never leaves", lambda: loop(lambda net, t, x, h: h * 0.5 + tr.Tensor(np.full((4, 8), 0.5)) + tr.linear(x, net.w_ih), start=1.0), lambda: np.zeros((50, 4, 3)), "h' = h / 2 + 1 / 2 stays at 1, whose constant is none of its states", "vanishing", part="constants", where="evenly", nats=-49 * LN2),
    Net("statistics taken without gradients", lambda: loop(watched), x(), "what is computed under no_grad goes nowhere", "healthy", part="", nats=0.0),
    Net("rounded states", lambda: loop(lambda net, t, x, h: tr.floor(m.linear_step(net, t, x, h))), x(), "floor has slope 0", "vanishing", part={"saturation", "other", "cut"}, cut="free"),
]  # fmt: skip


def keeping_gates():
    """Gates of a user's LSTM without recurrent weights and with a forget bias of 5."""
    found = gates("ifgo")
    for name, layer in found.items():
        layer.bias.value[...] = 5.0 if name == "x_f" else 0.0
        layer.weight.value[...] *= 0.0 if name.startswith("h_") else 1.0
    return found


def encoder_decoder(hand_over, w=None):
    """Two RNNs over the same inputs, the second started from the last state of the first; the output of the second."""
    w = orthogonal(16) if w is None else w
    return TwoNets(linear_rnn(w), linear_rnn(w), lambda a, b, x: b(x, hand_over(a(x)[1]))[0])


def straight_through(net, t, x, h):
    h = m.linear_step(net, t, x, h)
    return h + (tr.floor(h) - h).detach()


def watched(net, t, x, h):
    with tr.no_grad():
        (h * h).mean()
    return m.linear_step(net, t, x, h)


def fed_back(net, t, x, h):
    return m.linear_step(net, t, h.detach()[:, :3] * 0.1, h)


# ---- profiles with a place

PHASES = [
    Net("two phases: decays before step 50", lambda: loop(two_weights, w_hh=orthogonal(8), w_2=0.7 * orthogonal(8, 1)), x(100), "the weights switch at step 50: 0.7 times orthogonal before, orthogonal after", "vanishing", part="weights", where="two phases", at_t={49, 50}, nats=49 * np.log(0.7)),
    Net("two phases: decays after step 50", lambda: loop(two_weights, w_hh=0.7 * orthogonal(8), w_2=orthogonal(8, 1)), x(100), "the weights switch at step 50: orthogonal before, 0.7 times orthogonal after", "vanishing", part="weights", where="two phases", at_t={49, 50}, nats=50 * np.log(0.7)),
    Net("one step multiplies by 1e-6", lambda: loop(one_cliff), x(60), "orthogonal but for a factor 1e-6 at step 30", "vanishing", part="constants", where="one step", at_t=30, nats=float(np.log(1e-6))),
    Net("one step multiplies by 1e6", lambda: loop(lambda net, t, x, h: m.linear_step(net, t, x, h * 1e6 if t == 30 else h)), x(60), "orthogonal but for a factor 1e6 at step 30", "exploding", part="constants", where="one step", at_t=30, nats=float(np.log(1e6))),
    Net("one step of zero weights", lambda: loop(lambda net, t, x, h: m.linear_step(net, t, x, h * 0.0 if t == 30 else h)), x(60), "the state is multiplied by 0 at step 30", "vanishing", part={"constants", "cut"}, where="one step", at_t=30, cut="free"),
    Net("tiny read-out of a good memory", lambda: Reads(Loop(read_out(1e-6), (np.zeros(8), np.zeros(8)), w_ih=0.3 * np.ones((8, 3)), w_hh=orthogonal(8)), lambda y: y), x(), "the loss sees 1e-6 times an isometric memory, which both are handed on", "vanishing", where="read-out", read=None),
    Net("saturated for 10 steps of 60", lambda: loop(m.tanh_step), lambda: driven_for(60, 30, 40), "an orthogonal net whose inputs are large at steps 30 to 39 alone", "vanishing", part="saturation", where={"unevenly", "two phases", "one step"}),
]  # fmt: skip


def two_weights(net, t, x, h):
    return tr.linear(x, net.w_ih) + tr.linear(h, net.w_2 if t < 50 else net.w_hh)


def one_cliff(net, t, x, h):
    return m.linear_step(net, t, x, h * 1e-6 if t == 30 else h)


def read_out(size):
    """A step of two states, (what is read, memory): memory' = W memory + W_ih x + 0.01 read, read' = size memory'."""

    def step(net, t, x, state):
        read, memory = state
        memory = tr.linear(memory, net.w_hh) + tr.linear(x, net.w_ih) + read * 0.01
        return memory * size, memory

    return step


def driven_for(steps, start, stop):
    inputs = series(steps, scale=0.01)
    inputs[start:stop] *= 1000
    return inputs


# ---- two directions, two nets

DOUBLE = [
    Net("bidirectional RNN, default", lambda: Reads(rnn(bidirectional=True), m.both_ends), x(), "each direction is a default RNN", "vanishing", loss=total, sides=("vanishing", "vanishing"), read=named("h", layer=0)),
    Net("bidirectional LSTM, default", lambda: Reads(lstm(bidirectional=True), m.both_ends), x(), "each direction is a default LSTM", "vanishing", loss=total, sides=("vanishing", "vanishing"), read=named("h", "c", layer=1, backwards=True)),
    Net("bidirectional GRU, 2 layers", lambda: Reads(gru(layers=2, bidirectional=True), m.both_ends), x(), "all four sweeps are default GRUs", "vanishing", loss=total, read=named("h", layer=2)),
    Net("bidirectional GRU, 2 layers, mean pooling", lambda: gru(layers=2, bidirectional=True), x(20), "every step has a loss of its own", MIXED, loss=mean_pooled, by_norm=False),
    Net("bidirectional, isometric", lambda: Reads(two_sided(orthogonal(16), orthogonal(16, 1)), m.both_ends), x(), ISOMETRY, "healthy", loss=total, part="", sides=("healthy", "healthy"), read=named("h", layer=0)),
    Net("bidirectional, backwards decays", lambda: Reads(two_sided(orthogonal(16), 0.5 * orthogonal(16, 1)), m.both_ends), x(), "forwards an isometry, backwards halves every step", "vanishing", loss=total, part={"weights", ""}, sides=("healthy", "vanishing"), read=named("h", layer=1, backwards=True)),
    Net("encoder and decoder, isometric", lambda: encoder_decoder(lambda state: state), x(25), ISOMETRY, "healthy", part="", nats=0.0, read=in_order("h")),
    Net("encoder and decoder, 0.8 times orthogonal", lambda: encoder_decoder(lambda state: state, orthogonal(16, gain=0.8)), x(25), POWER, "vanishing", part="weights", nats=49 * np.log(0.8), read=in_order("h")),
    Net("an RNN, then an MLP", lambda: TwoNets(rnn(), tr.nn.MLP(3, 16, dtype="float64", seed=0), lambda a, b, x: b(a(x)[0][-1])), x(), BY_NORM, "vanishing", loss=total, part="weights", where="evenly", read=named("h")),
    Net("an embedding, then a GRU biased to keep", lambda: TwoNets(tr.nn.Embedding(5, 3, dtype="float64", seed=0), with_bias(gru(), "bias_hh_l0", 1, 5), lambda a, b, x: b(a(x))[0]), lambda: np.random.default_rng(0).integers(0, 5, (50, 4)), BY_NORM, "healthy", part=""),
]  # fmt: skip


def two_sided(forwards, backwards):
    net = rnn(w=forwards, nonlinearity="identity", bidirectional=True)
    net.weight_hh_l0_reverse.value[...] = backwards
    return net


# ---- numbers that are not finite

BROKEN = [
    Net("an input is nan", rnn, lambda: with_nan(50, 10), "a nan enters at step 10 of sequence 1", "not finite", read=None),
    Net("a weight is nan", lambda: rnn(w=np.where(np.eye(16) > 0, np.nan, 0.1)), x(), "the recurrent matrix has a nan", "not finite", read=None),
    Net("grows beyond float32", lambda: rnn(8, w=1e6 * orthogonal(8), nonlinearity="identity", dtype="float32"), x(dtype="float32"), "a factor of 1e6 a step leaves float32 after 7 steps", "not finite", read=None),
    Net("the logarithm of 0 in the loss", rnn, x(), "log(h - h)", "not finite", loss=lambda y: tr.log(y[-1] - y[-1]).sum(), read=None),
]  # fmt: skip


def with_nan(steps, at):
    inputs = series(steps)
    inputs[at, 1, 0] = np.nan
    return inputs


NETS = PLAIN + GATED + DEPTH + LOSSES + CUTS + PHASES + DOUBLE + BROKEN
BY_NAME = {net.name: net for net in NETS}
