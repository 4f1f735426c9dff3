"""Where along the way a gradient changes: at one step, in the read-out, in two phases, or evenly."""

from __future__ import annotations

from dataclasses import dataclass
from math import log
from typing import Literal

import numpy as np

Where = Literal["evenly", "one step", "read-out", "two phases", "unevenly", ""]

WORTH_SAYING = log(10.0)  # nats: what changes by less than a factor of 10 has no place of its own
EVEN = 0.15  # of the whole change: how far a profile may lie off a straight line and still be called even


@dataclass(frozen=True)
class Place:
    """Where a profile of log norms by lag changes.

    where  "evenly" (one rate describes it), "one step", "read-out" (lag 0 to 1), "two phases", "unevenly", or "" where it
           changes by less than a factor of 10
    lag    of one step or the read-out, the lag before it; of two phases, the lag at which the second begins; else None
    nats   what changes there: at the one step; a step in each phase; in each half of the way, where it is uneven
    rate   nats a step, where one rate describes the profile, or what is left of it without the one step; else None"""

    where: Where
    lag: int | None
    nats: tuple[float, ...]
    rate: float | None


def place_of(profile: np.ndarray) -> Place:
    """profile (n + 1,) log norm by lag, relative to lag 0; what comes after the signal has become 0 is left out."""
    finite = np.isfinite(profile)
    end = len(profile) if finite.all() else int(np.argmin(finite))
    if end < len(profile):  # it becomes 0 at one step
        return Place("one step" if end > 1 else "read-out", end - 1, (float("-inf"),), None)
    steps = np.diff(profile)
    if not len(steps):
        return Place("", None, (), None)
    total, rate = float(profile[-1]), float(steps.mean())
    bend = float(np.abs(profile - rate * np.arange(end)).max())
    if max(abs(total), float(np.abs(profile).max())) < WORTH_SAYING:
        return Place("", None, (), rate if bend <= max(0.02, EVEN * abs(total)) else None)
    if len(steps) > 2:
        found = _one_step(steps, total)
        if found is not None:
            return found
    if bend <= max(0.5, EVEN * abs(total)):
        return Place("evenly", None, (), rate)
    half = len(steps) // 2
    return _two_phases(steps) or Place("unevenly", None, (float(steps[:half].sum()), float(steps[half:].sum())), None)


def _one_step(steps: np.ndarray, total: float) -> Place | None:
    """One step that changes more than all others together would lead to expect."""
    at = int(np.argmax(np.abs(steps - np.median(steps))))
    others = np.delete(steps, at)
    excess = float(steps[at] - np.median(others))
    usual = float(np.abs(others - np.median(others)).max())
    if abs(excess) < max(WORTH_SAYING, 0.4 * abs(total), 2.5 * usual):
        return None
    left = np.concatenate([[0], np.cumsum(others)])
    rate = float(others.mean())
    straight = np.abs(left - rate * np.arange(len(left))).max() <= max(0.5, EVEN * abs(float(left[-1])))
    return Place("read-out" if at == 0 else "one step", at, (float(steps[at]),), rate if straight else None)


def _two_phases(steps: np.ndarray) -> Place | None:
    """Two stretches of one rate each that together describe the profile much better than one."""
    n = len(steps)
    if n < 8:
        return None
    best, at = float("inf"), 0
    for m in range(3, n - 2):
        error = float(((steps[:m] - steps[:m].mean()) ** 2).sum() + ((steps[m:] - steps[m:].mean()) ** 2).sum())
        if error < best:
            best, at = error, m
    first, second = float(steps[:at].mean()), float(steps[at:].mean())
    whole = float(((steps - steps.mean()) ** 2).sum())
    if best > 0.35 * whole or abs(first - second) * min(at, n - at) < WORTH_SAYING:
        return None
    return Place("two phases", at, (first, second), None)
