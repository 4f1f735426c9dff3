"""Numbers with standard errors: medians of draws, how a spread grows with the number of steps, means over trained nets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite, log

import numpy as np

RESAMPLES = 1000
FLAT = 0.01  # nats: draws that differ by less have no spread to speak of


# Student's t at 5 %, by degrees of freedom from 1: with few nets a mean must be further from 0 than two standard errors
STUDENT = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23)


@dataclass(frozen=True)
class Estimate:
    """A value and its standard error, which is nan where one observation alone gives none.

    needed   standard errors from 0 at which a value counts as clear

    Formats as "value ± error", both with the format that is asked for; as the value alone without an error."""

    value: float
    error: float = float("nan")
    needed: float = 2.0

    def __format__(self, spec: str) -> str:
        shown = format(self.value, spec)
        if isfinite(self.value) and not float(shown):
            shown = shown.replace("-", "+" if spec.startswith("+") else "")
        return f"{shown} ± {format(self.error, spec.replace('+', ''))}" if isfinite(self.error) else shown

    @property
    def clear(self) -> bool:
        """Whether the value is clearly not 0."""
        return isfinite(self.error) and abs(self.value) > self.needed * self.error

    @property
    def size(self) -> Estimate:
        """The value without its sign."""
        return Estimate(abs(self.value), self.error, self.needed)


def over_nets(values: list[float] | np.ndarray) -> Estimate:
    """The mean over independently trained nets, with the standard error of that mean. Where not all are finite: their common
    value, or nan."""
    x = np.asarray(values, np.float64)
    if not np.isfinite(x).all():
        return Estimate(float(x[0]) if (x == x[0]).all() else float("nan"))
    if len(x) == 1:
        return Estimate(float(x[0]))
    needed = STUDENT[len(x) - 2] if len(x) - 2 < len(STUDENT) else 2.0
    return Estimate(float(x.mean()), float(x.std(ddof=1) / np.sqrt(len(x))), needed)


def resampled(statistic: Callable[..., np.ndarray], *samples: np.ndarray) -> Estimate:
    """statistic(*samples) with its standard error: the standard deviation over resamples of the draws, each as large as the
    sample, with replacement.

    samples    arrays (..., n) of draws; those of one array are resampled together
    statistic  reduces the last axis of each, keeping any axes before it"""
    rng = np.random.default_rng(0)
    again = []
    for sample in samples:
        chosen = rng.integers(sample.shape[-1], size=(RESAMPLES, sample.shape[-1]))
        again.append(np.moveaxis(sample[..., chosen], -2, 0))
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = statistic(*again)
        return Estimate(float(statistic(*samples)), float(spread[np.isfinite(spread)].std(ddof=1)))


@dataclass(frozen=True, eq=False)
class Draws:
    """Nets of equal shape and other weights: their signal at each lag, relative to lag 0, in nats.

    log_gain  (draws, steps): -inf where nothing is left, +inf where it is not finite"""

    log_gain: np.ndarray

    @property
    def ends(self) -> np.ndarray:
        """(draws,) nats from the last step to the first."""
        return self.log_gain[:, -1]

    @property
    def whole(self) -> bool:
        """Whether every draw ends with a finite signal."""
        return bool(np.isfinite(self.ends).all())

    @property
    def kept(self) -> np.ndarray:
        """The ends that are finite."""
        return self.ends[np.isfinite(self.ends)]

    def band(self, q: float) -> np.ndarray:
        """(steps,) quantile q over the draws at each lag. A drawn value, not an interpolated one: -inf has no neighbours."""
        return np.sort(self.log_gain, axis=0)[self.rank(q)]

    def rank(self, q: float) -> int:
        """Which of the sorted draws stands for quantile q, from 0."""
        return round(q * (len(self.log_gain) - 1))

    @property
    def middle(self) -> float:
        """The median of the ends, which may be infinite; nan halfway between -inf and +inf."""
        with np.errstate(invalid="ignore"):
            return float(np.median(self.ends))

    def median(self) -> Estimate:
        """The median of the finite ends, with its standard error."""
        return resampled(_median, self.kept)

    @property
    def width(self) -> float:
        """The largest difference of two finite ends."""
        return float(np.ptp(self.kept)) if len(self.kept) else float("nan")

    def spread(self) -> float:
        """The standard deviation of the finite ends."""
        return float(self.kept.std(ddof=1)) if len(self.kept) > 1 else float("nan")


def gap(a: Draws, b: Draws) -> Estimate:
    """The median of the finite ends of `a` minus that of `b`."""
    return resampled(lambda x, y: _median(x) - _median(y), a.kept, b.kept)


def growth(draws: Draws) -> Estimate | None:
    """The power of the number of steps with which the standard deviation over the draws grows: 1/2 for luck that is
    independent from step to step, 1 for one luck that every step repeats.

    It is log(sd(n) / sd(m)) / log(n / m), n being all the steps back and m half of them. Both are of the same draws, which are
    resampled together: what a net has lost half way back counts in both.

    None where there are no two such lags, or nothing that differs."""
    n = draws.log_gain.shape[1] - 1
    m = n // 2
    both = draws.log_gain[:, [m, n]].T
    if m < 1 or both.shape[1] < 3 or not np.isfinite(both).all() or both.std(axis=1).min() < FLAT:
        return None
    return resampled(lambda x: np.log(x[..., 1, :].std(axis=-1) / x[..., 0, :].std(axis=-1)) / log(n / m), both)


def _median(x: np.ndarray) -> np.ndarray:
    return np.median(x, axis=-1)
