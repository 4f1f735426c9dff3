"""Remedies that are applied, not only named: nets of the same width, trained on the same windows with the same updates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..nn import GRU, RNN, LeakyRNN, Module
from .course import Course, follow, signal
from .net import EMBEDDING, Progress, Setting, silent

SHOWN = 3  # remedies that are trained
LEAK = 0.1


@dataclass(frozen=True)
class Remedy:
    """A net that takes the place of the plain RNN.

    name   what it is, in two or three words
    code   how it is written
    make   makes it with weights from a generator"""

    name: str
    code: str
    make: Callable[[np.random.Generator], Module]


@dataclass(frozen=True, eq=False)
class Applied:
    """A remedy and its course with every seed."""

    remedy: Remedy
    courses: list[Course]


def known_remedies(setting: Setting) -> list[Remedy]:
    """The remedies that are no other name for the net that was asked for."""
    shape, phi, init = (EMBEDDING, setting.hidden, setting.layers), setting.nonlinearity, setting.init
    found = {
        "orthogonal": Remedy(
            "orthogonal start", 'init="orthogonal"', lambda rng: RNN(*shape, phi, init="orthogonal", seed=rng)
        ),
        "identity": Remedy(
            "relu from identity",
            'nonlinearity="relu", init="identity"',
            lambda rng: RNN(*shape, "relu", init="identity", seed=rng),
        ),
        "leaky": Remedy(
            "leaky units",
            f"nn.LeakyRNN(leak={LEAK:g})",
            lambda rng: LeakyRNN(*shape, LEAK, nonlinearity=phi, init=init, seed=rng),
        ),
        "gated": Remedy("gated units", "nn.GRU", lambda rng: GRU(*shape, seed=rng)),
    }
    if init == "orthogonal":
        del found["orthogonal"]
    if (phi, init) == ("relu", "identity"):
        del found["identity"]
    return list(found.values())


def choose_remedies(setting: Setting, seed: int) -> tuple[list[Remedy], int]:
    """The known remedies that leave the gradient nearest to its size before training, three at most, and how many are known.

    A remedy that leaves it further from its size than the plain RNN of that seed does is none."""
    known = known_remedies(setting)
    plain = abs(signal(setting.build(seed), setting)[-1])
    distance = [abs(signal(setting.build(seed, remedy.make), setting)[-1]) for remedy in known]
    better = sorted(i for i in range(len(known)) if distance[i] < plain)
    best = sorted(better, key=distance.__getitem__)[:SHOWN]
    return [known[i] for i in sorted(best)], len(known)


def apply_remedy(remedy: Remedy, setting: Setting, seeds: range, progress: Progress = silent) -> Applied:
    """Train the remedy's net with every seed, each on the windows that the plain RNN of that seed had."""
    courses = []
    for n, seed in enumerate(seeds, 1):
        model = setting.build(seed, remedy.make)
        courses.append(follow(model, setting, seed, f"training {remedy.name} {n}/{len(seeds)}", progress))
    return Applied(remedy, courses)
