"""What training does to a net: its gradient before and after, and the loss it reaches."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from .examination import controls, last_character, near_share, relative
from .net import CharNet, Progress, Setting, silent, train
from .statistics import Draws

RECENT = 20  # updates whose mean loss is the loss reached


@dataclass(frozen=True, eq=False)
class Course:
    """One net and its training.

    begins, ends   (steps,) nats of the gradient of the last character by lag, relative to lag 0, before and after training:
                   -inf where nothing is left, +inf where it is not finite. Without updates the two are equal
    losses         of every update, nats a character; the last one is not finite where training had to stop"""

    begins: np.ndarray = field(repr=False)
    ends: np.ndarray = field(repr=False)
    losses: list[float] = field(repr=False)

    @property
    def before(self) -> float:
        """Nats from the last step to the first, before training."""
        return float(self.begins[-1])

    @property
    def after(self) -> float:
        """Nats from the last step to the first, after training."""
        return float(self.ends[-1])

    @property
    def stopped(self) -> bool:
        """Whether training had to stop."""
        return bool(self.losses) and not np.isfinite(self.losses[-1])

    @property
    def loss(self) -> float:
        """The mean of the last 20 updates; +inf where training had to stop, nan without updates."""
        if not self.losses:
            return float("nan")
        return float("inf") if self.stopped else float(np.mean(self.losses[-RECENT:]))


@dataclass(frozen=True, eq=False)
class Trained:
    """The course of a plain RNN, and what its trained weights are compared with.

    seed           of the weights and of the windows it was trained on
    near           the share of dE/dW_hh that the nearest fifth of the lags makes, after training
    untied, tied   the nets of its trained entries in another order, as Findings has them"""

    seed: int
    course: Course
    near: float
    untied: Draws
    tied: Draws


def signal(model: CharNet, setting: Setting) -> np.ndarray:
    """(steps,) nats of the gradient of the last character by lag, relative to lag 0, on the windows of the setting."""
    return relative(last_character(model, model.net, setting.window()).gain())


def follow(model: CharNet, setting: Setting, seed: int, name: str = "", progress: Progress = silent) -> Course:
    """Train `model` on the windows of `seed`, and measure its gradient before and after."""
    before = signal(model, setting)
    if not setting.updates:
        return Course(before, before, [])
    losses = train(model, setting.text, steps=setting.steps, updates=progress(range(setting.updates), name), seed=seed)
    return Course(before, signal(model, setting), losses)


def compare(model: CharNet, setting: Setting, seed: int, course: Course, draws: int, progress: Progress = silent) -> Trained:
    """The trained RNN `model` beside `draws` shuffles of its entries of either kind."""
    window, rng = setting.window(), np.random.default_rng([setting.look, seed])
    near = near_share(last_character(model, model.net, window).grad_terms("net.weight_hh_l0"), setting.steps)
    return Trained(seed, course, near, *controls(model, window, rng, draws, False, progress))
