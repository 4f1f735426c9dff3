"""The founding question as an experiment: train a character RNN on real text, and ask where its gradient goes, before and
after. The command (`cli.py`) prints and draws what `examine` finds; nothing here prints."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import functions as F
from .compare import SameGraph, same_graph
from .compiler import compile
from .data import Text
from .flow import Gain, GradTerms, Trace, Verdict, trace
from .graph import Paths
from .nn import RNN, Embedding, Linear, Module
from .optim import Adam, clip_grad_norm_
from .tensor import Tensor

EMBEDDING = 32  # features of a character
BATCH = 32  # windows in one update, and in an examination
CLIP = 1.0  # joint norm of the gradients in an update


class CharNet(Module):
    """Next-character logits: Embedding -> a net over the sequence (an RNN, or an MLP unrolled from one) -> Linear.

    Indices (T, B) -> logits (T, B, characters)."""

    def __init__(self, embedding: Embedding, net: Module, readout: Linear) -> None:
        self.embedding, self.net, self.readout = embedding, net, readout

    def forward(self, indices: np.ndarray) -> Tensor:
        output, _ = self.net(self.embedding(indices))
        return self.readout(output)


class LastCharacter(CharNet):
    """The same net, asked for the logits after the last character alone, (B, characters)."""

    def forward(self, indices: np.ndarray) -> Tensor:
        output, _ = self.net(self.embedding(indices))
        return self.readout(output[-1])


def build(text: Text, *, hidden: int, layers: int, nonlinearity: str, init: str, seed: int) -> CharNet:
    """A character RNN with reproducible weights."""
    rng = np.random.default_rng(seed)
    return CharNet(
        Embedding(len(text.alphabet), EMBEDDING, seed=rng),
        RNN(EMBEDDING, hidden, layers, nonlinearity, init=init, seed=rng),
        Linear(hidden, len(text.alphabet), seed=rng),
    )


def train(
    model: CharNet,
    text: Text,
    *,
    steps: int,
    updates: Iterable[int],
    seed: int,
    rate: float = 3e-3,
    report: Callable[[float], None] | None = None,
) -> list[float]:
    """Adam on random windows, cross-entropy over all steps, clipped. Returns the loss of every update, nats a character.

    Stops early if the loss is no longer finite: an exploded net has nothing more to learn. It keeps the weights of then."""
    rng = np.random.default_rng(seed)
    optimizer = Adam(model.parameters(), lr=rate)

    def update(x: np.ndarray, y: np.ndarray) -> Tensor:
        logits = model(x)
        loss = F.cross_entropy(logits.reshape(-1, len(text.alphabet)), y.reshape(-1))
        optimizer.zero_grad()
        loss.backward()
        clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        return loss

    update = compile(update)
    losses: list[float] = []
    for _ in updates:
        before = model.state_dict()
        losses.append(update(*text.windows(rng, steps, BATCH)).item())
        if not np.isfinite(losses[-1]):
            model.load_state_dict(before)
            break
        if report:
            report(losses[-1])
    return losses


@dataclass(frozen=True, eq=False)
class Findings:
    """What one examination found. The loss is that of the last character alone, E_T, so lag 0 is where it enters.

    gain       the signal of E_T by lag through the RNN, and its split
    terms      the summands of dE_T/dW_hh of layer 0 by lag
    same       the RNN's graph against its unrolled twin's
    twin       the same signal through the twin
    untied     (draws, steps) log |dE_T/dh| by lag through MLPs of equal depth with weights of their own
    tied       (draws, steps) the same through RNNs with other random weights, where they are drawn; None otherwise
    path       the paths from the first character to E_T
    verdict    in words
    loss       E_T, nats, mean over the batch"""

    gain: Gain
    terms: GradTerms
    same: SameGraph
    twin: Gain
    untied: np.ndarray
    tied: np.ndarray | None
    path: Paths
    verdict: Verdict
    loss: float

    def untied_band(self, q: float) -> np.ndarray:
        """(steps,) quantile q over the draws of log |dE_T/dh| through the untied MLPs, relative to lag 0. A drawn value, not
        an interpolated one: a signal may be lost entirely, and -inf has no neighbours."""
        return _quantile(self.untied - self.untied[:, :1], q)

    def tied_band(self, q: float) -> np.ndarray:
        """The same over RNNs with other random weights."""
        if self.tied is None:
            raise ValueError("no RNNs were drawn in this examination")
        return _quantile(self.tied - self.tied[:, :1], q)


def _quantile(draws: np.ndarray, q: float) -> np.ndarray:
    return np.sort(draws, axis=0)[round(q * (len(draws) - 1))]


def examine(model: CharNet, text: Text, *, steps: int, seed: int, draws: int, fresh: bool) -> Findings:
    """Unroll `steps` characters of a batch of windows and follow the gradient of the last prediction back through them.

    fresh   the weights are initial ones: compare with draws from their distribution. Otherwise (trained weights) the untied
            MLPs take the trained entries, shuffled for each layer"""
    rng = np.random.default_rng(seed)
    x, y = text.windows(rng, steps, BATCH)
    rnn: Any = model.net

    def traced(net: Module) -> Trace:
        return trace(LastCharacter(model.embedding, net, model.readout), x, loss=F.cross_entropy, target=y[-1])

    def signal(net: Module) -> np.ndarray:
        return traced(net).gain().log_norm

    graph = traced(rnn)
    twin_net = rnn.unroll(steps)
    twin = traced(twin_net)
    untied = np.stack([signal(twin_net.untie(rng, "init" if fresh else "shuffle")) for _ in range(draws)])
    tied = None
    if fresh:
        tied = np.stack(
            [
                signal(RNN(rnn.input_size, rnn.hidden_size, rnn.num_layers, rnn.nonlinearity, init=rnn.init, seed=rng))
                for _ in range(draws)
            ]
        )
    return Findings(
        gain=graph.gain(),
        terms=graph.grad_terms("net.weight_hh_l0"),
        same=same_graph(graph, twin),
        twin=twin.gain(),
        untied=untied,
        tied=tied,
        path=graph.paths(graph.loss, (None, 0, "index")),
        verdict=graph.why(),
        loss=graph.loss.value.item(),
    )
