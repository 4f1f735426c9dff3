"""The nets of the experiment: a character model around any recurrent net, and how it is trained."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import functions as F
from ..compiler import compile
from ..data import Text
from ..nn import RNN, Embedding, Linear, Module
from ..optim import Adam, clip_grad_norm_
from ..tensor import Tensor

EMBEDDING = 32  # features of a character
BATCH = 32  # windows in one update, and in an examination
CLIP = 1.0  # joint norm of the gradients in an update

Window = tuple[np.ndarray, np.ndarray]  # characters (steps, batch), and the one after each
Progress = Callable[[Iterable[Any], str], Iterable[Any]]  # the items of an iterable, while a bar of that name shows how many


def silent(items: Iterable[Any], name: str) -> Iterable[Any]:
    """The Progress that shows nothing."""
    return items


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


def build(
    text: Text,
    *,
    hidden: int,
    layers: int,
    nonlinearity: str,
    init: str,
    seed: int,
    make: Callable[[np.random.Generator], Module] | None = None,
) -> CharNet:
    """A character RNN with reproducible weights. `make`, if given, makes another net in place of its RNN."""
    rng = np.random.default_rng(seed)
    return CharNet(
        Embedding(len(text.alphabet), EMBEDDING, seed=rng),
        RNN(EMBEDDING, hidden, layers, nonlinearity, init=init, seed=rng) if make is None else make(rng),
        Linear(hidden, len(text.alphabet), seed=rng),
    )


@dataclass(frozen=True)
class Setting:
    """What all nets of one run have in common.

    text     to read
    hidden, layers, nonlinearity, init    of the plain RNN
    steps    characters to unroll
    updates  of a training
    look     seed of the windows on which gradients are measured: the same before and after training, for every net"""

    text: Text
    hidden: int
    layers: int
    nonlinearity: str
    init: str
    steps: int
    updates: int
    look: int

    def build(self, seed: int, make: Callable[[np.random.Generator], Module] | None = None) -> CharNet:
        """The plain RNN with the weights of that seed, or the net of `make` in its place."""
        return build(
            self.text,
            hidden=self.hidden,
            layers=self.layers,
            nonlinearity=self.nonlinearity,
            init=self.init,
            seed=seed,
            make=make,
        )

    def window(self) -> Window:
        """The batch of windows on which gradients are measured."""
        return self.text.windows(np.random.default_rng(self.look), self.steps, BATCH)


def train(model: CharNet, text: Text, *, steps: int, updates: Iterable[int], seed: int, rate: float = 3e-3) -> list[float]:
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
    return losses
