"""One examination: a net unrolled over a batch of windows, its gradient by lag, and nets of equal shape to compare it with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import functions as F
from ..compare import SameGraph, same_graph
from ..data import Text
from ..flow import Gain, GradTerms, Trace, Verdict, trace
from ..graph import Paths
from ..nn import RNN, Module
from .net import BATCH, CharNet, LastCharacter, Progress, Window, silent
from .statistics import Draws


@dataclass(frozen=True, eq=False)
class Findings:
    """What one examination found. The loss is that of the last character alone, E, so lag 0 is where it enters.

    fresh      whether the weights are initial ones
    gain       the signal of E by lag through the RNN, and its split
    terms      the summands of dE/dW_hh of layer 0 by lag
    near       the share of dE/dW_hh that the nearest fifth of the lags makes
    same       the RNN's graph against its unrolled twin's
    twin       the same signal through the twin
    untied     the signal through MLPs of equal depth, every layer with weights of its own
    tied       the signal through RNNs of other weights, one set for all steps
    path       the paths from the first character to E
    verdict    in words
    loss       E, nats, mean over the batch

    Fresh weights are drawn anew for `untied` and `tied`, trained ones have their entries shuffled: for `untied` in every layer
    anew, for `tied` once for all steps. So the two differ in nothing but the tying."""

    fresh: bool
    gain: Gain
    terms: GradTerms
    near: float
    same: SameGraph
    twin: Gain
    untied: Draws
    tied: Draws
    path: Paths
    verdict: Verdict
    loss: float


def near_lags(steps: int) -> int:
    """How many lags count as the nearest fifth: at least one."""
    return max(steps // 5, 1)


def near_share(terms: GradTerms, steps: int) -> float:
    """The part of the sum that the terms of the nearest lags make."""
    return float(terms.shares[(terms.lags >= 0) & (terms.lags < near_lags(steps))].sum())


def last_character(model: CharNet, net: Module, window: Window) -> Trace:
    """The trace of E through `net` between the embedding and the readout of `model`; `window` is what Text.windows gives."""
    x, y = window
    return trace(LastCharacter(model.embedding, net, model.readout), x, loss=F.cross_entropy, target=y[-1])


def relative(gain: Gain) -> np.ndarray:
    """(steps,) the signal relative to lag 0: -inf where none is left, +inf where it is not finite."""
    with np.errstate(invalid="ignore"):
        found = np.full(len(gain.lags), -np.inf) if gain.log_norm[0] == -np.inf else gain.log_gain
    return np.where(np.isnan(found), np.inf, found)


def controls(
    model: CharNet,
    window: Window,
    rng: np.random.Generator,
    draws: int,
    fresh: bool,
    progress: Progress = silent,
) -> tuple[Draws, Draws]:
    """(untied, tied): MLPs and RNNs of the shape of `model`, as Findings says."""
    rnn: Any = model.net
    twin = rnn.unroll(len(window[0]))

    def signals(make: Any, name: str) -> Draws:
        found = [relative(last_character(model, make(), window).gain()) for _ in progress(range(draws), name)]
        return Draws(np.stack(found))

    untied = signals(lambda: twin.untie(rng, "init" if fresh else "shuffle"), "untied MLPs")
    return untied, signals(lambda: _redrawn(rnn, rng) if fresh else _shuffled(rnn, rng), "tied RNNs")


def _redrawn(rnn: Any, rng: np.random.Generator) -> RNN:
    return RNN(rnn.input_size, rnn.hidden_size, rnn.num_layers, rnn.nonlinearity, init=rnn.init, seed=rng)


def _shuffled(rnn: Any, rng: np.random.Generator) -> RNN:
    """An RNN with the entries of every parameter in a random order."""
    out = RNN(rnn.input_size, rnn.hidden_size, rnn.num_layers, rnn.nonlinearity, seed=0)
    state = rnn.state_dict()
    out.load_state_dict({name: rng.permutation(x.reshape(-1)).reshape(x.shape) for name, x in state.items()})
    return out


def examine(
    model: CharNet, text: Text, *, steps: int, seed: int, draws: int, fresh: bool, progress: Progress = silent
) -> Findings:
    """Unroll `steps` characters of a batch of windows and follow the gradient of the last prediction back through them.

    fresh   the weights are initial ones; see Findings for what is drawn then, and what otherwise"""
    rng = np.random.default_rng(seed)
    window = text.windows(rng, steps, BATCH)
    rnn: Any = model.net
    graph, twin = last_character(model, rnn, window), last_character(model, rnn.unroll(steps), window)
    untied, tied = controls(model, window, rng, draws, fresh, progress)
    terms = graph.grad_terms("net.weight_hh_l0")
    with np.errstate(invalid="ignore"):  # of windows whose loss sends no gradient at all
        verdict = graph.why()
    return Findings(
        fresh=fresh,
        gain=graph.gain(),
        terms=terms,
        near=near_share(terms, steps),
        same=same_graph(graph, twin),
        twin=twin.gain(),
        untied=untied,
        tied=tied,
        path=graph.paths(graph.loss, (None, 0, "index")),
        verdict=verdict,
        loss=graph.loss.value.item(),
    )
