"""Schedules of the learning rate: `step()` after every epoch, or after every update, sets `optimizer.lr`."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from ..states import fitted
from .optimizers import Optimizer


def _whole(name: str, value: Any) -> int:
    if int(value) != value:
        raise ValueError(f"{name} must be an integer, got {value}")
    return int(value)


def _within(low: float, high: float, **values: float) -> None:
    for name, value in values.items():
        if not low <= value <= high:
            raise ValueError(f"{name} must lie in {low}..{high}, got {value}")


class _Scheduled:
    """What schedules share: an optimizer and numbers of their own, which are saved and loaded."""

    _numbers: ClassVar[tuple[str, ...]]

    optimizer: Optimizer
    last_epoch: int

    def _check(self) -> None:
        """Raise ValueError for numbers that make no sense."""

    def state_dict(self) -> dict[str, np.ndarray]:
        """The numbers of this schedule by name, int64 () or float64 (). The optimizer's `lr` is in its own."""
        return {name: np.array(getattr(self, name)) for name in self._numbers}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take the numbers that `state_dict` gave. Raises KeyError on other names, ValueError on a wrong shape or a number that
        makes no sense, TypeError on a wrong dtype; nothing is taken unless everything fits."""
        loaded = copy.copy(self)
        for name, x in fitted(f"load_state_dict of {type(self).__name__}", self.state_dict(), state).items():
            setattr(loaded, name, x.item())
        loaded._check()
        vars(self).update(vars(loaded))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{n}={getattr(self, n)}' for n in self._numbers)})"


class Schedule(_Scheduled):
    """Base of schedules that are a function of the epoch: PyTorch's closed forms, so that no rounding adds up.

    base_lr      optimizer.lr when the schedule was made
    last_epoch   how many times `step` was called

    Every step sets `optimizer.lr` anew, whatever it was: of two schedules, the one that stepped last holds."""

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer, self.base_lr, self.last_epoch = optimizer, optimizer.lr, 0
        self._check()
        optimizer.lr = self.lr_at(0)

    def lr_at(self, epoch: int) -> float:
        """The learning rate after so many steps."""
        raise NotImplementedError

    def step(self) -> None:
        """Set the learning rate of the next epoch."""
        self.optimizer.lr = self.lr_at(self.last_epoch + 1)
        self.last_epoch += 1


class StepLR(Schedule):
    """base_lr gamma^(epoch // step_size)."""

    _numbers = ("base_lr", "last_epoch", "step_size", "gamma")

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1) -> None:
        self.step_size, self.gamma = _whole("step_size", step_size), float(gamma)
        super().__init__(optimizer)

    def _check(self) -> None:
        _within(1, math.inf, step_size=self.step_size)
        _within(0, math.inf, gamma=self.gamma)

    def lr_at(self, epoch: int) -> float:
        return self.base_lr * self.gamma ** (epoch // self.step_size)


class ExponentialLR(Schedule):
    """base_lr gamma^epoch."""

    _numbers = ("base_lr", "last_epoch", "gamma")

    def __init__(self, optimizer: Optimizer, gamma: float) -> None:
        self.gamma = float(gamma)
        super().__init__(optimizer)

    def _check(self) -> None:
        _within(0, math.inf, gamma=self.gamma)

    def lr_at(self, epoch: int) -> float:
        return self.base_lr * self.gamma**epoch


class CosineAnnealingLR(Schedule):
    """eta_min + (base_lr - eta_min) (1 + cos(pi epoch / T_max)) / 2 (Loshchilov & Hutter 2017, without restarts): eta_min after
    T_max steps, and up again after that."""

    _numbers = ("base_lr", "last_epoch", "T_max", "eta_min")

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0) -> None:
        self.T_max, self.eta_min = _whole("T_max", T_max), float(eta_min)
        super().__init__(optimizer)

    def _check(self) -> None:
        _within(1, math.inf, T_max=self.T_max)
        _within(0, math.inf, eta_min=self.eta_min)

    def lr_at(self, epoch: int) -> float:
        return self.eta_min + (self.base_lr - self.eta_min) * (1 + math.cos(math.pi * epoch / self.T_max)) / 2


class LinearLR(Schedule):
    """base_lr times a factor that goes from start_factor to end_factor in total_iters steps and stays there: a warm-up.
    Both lie in 0..1; start_factor may be 0, which PyTorch's cannot."""

    _numbers = ("base_lr", "last_epoch", "start_factor", "end_factor", "total_iters")

    def __init__(
        self, optimizer: Optimizer, start_factor: float = 1 / 3, end_factor: float = 1.0, total_iters: int = 5
    ) -> None:
        self.start_factor, self.end_factor = float(start_factor), float(end_factor)
        self.total_iters = _whole("total_iters", total_iters)
        super().__init__(optimizer)

    def _check(self) -> None:
        _within(0, 1, start_factor=self.start_factor, end_factor=self.end_factor)
        _within(1, math.inf, total_iters=self.total_iters)

    def lr_at(self, epoch: int) -> float:
        done = min(epoch, self.total_iters) / self.total_iters
        return self.base_lr * (self.start_factor + (self.end_factor - self.start_factor) * done)


class ReduceLROnPlateau(_Scheduled):
    """Multiplies the learning rate by `factor` when a measured number has not become better for more than `patience` steps.

    mode        "min" if less is better, "max" if more is
    threshold   how much better it has to be: in units of the best one with threshold_mode "rel", absolutely with "abs"
    cooldown    so many steps after a reduction are not counted
    min_lr      the rate does not fall below; eps: nor by less than this"""

    _numbers = (
        *("last_epoch", "best", "num_bad_epochs", "cooldown_counter"),
        *("factor", "patience", "threshold", "cooldown", "min_lr", "eps"),
    )

    def __init__(
        self,
        optimizer: Optimizer,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: float = 0.0,
        eps: float = 1e-8,
    ) -> None:
        if mode not in ("min", "max"):
            raise ValueError(f"unknown mode {mode!r}; expected min or max")
        if threshold_mode not in ("rel", "abs"):
            raise ValueError(f"unknown threshold_mode {threshold_mode!r}; expected rel or abs")
        self.optimizer, self.mode, self.threshold_mode = optimizer, mode, threshold_mode
        self.factor, self.threshold, self.min_lr, self.eps = float(factor), float(threshold), float(min_lr), float(eps)
        self.patience, self.cooldown = _whole("patience", patience), _whole("cooldown", cooldown)
        self.best = math.inf if mode == "min" else -math.inf
        self.last_epoch = self.num_bad_epochs = self.cooldown_counter = 0
        self._check()

    def _check(self) -> None:
        if not 0 <= self.factor < 1:
            raise ValueError(f"factor must lie in [0, 1), got {self.factor}")
        _within(0, math.inf, patience=self.patience, cooldown=self.cooldown, min_lr=self.min_lr)

    def _better(self, metric: float) -> bool:
        sign = 1 if self.mode == "max" else -1
        by = sign * self.threshold
        return sign * metric > sign * (self.best * (1 + by) if self.threshold_mode == "rel" else self.best + by)

    def step(self, metric: Any) -> None:
        """Take a number, or a Tensor of one, into account."""
        metric = float(metric)
        self.last_epoch += 1
        better = self._better(metric)
        self.best = metric if better else self.best
        self.num_bad_epochs = 0 if better or self.cooldown_counter else self.num_bad_epochs + 1
        self.cooldown_counter = max(self.cooldown_counter - 1, 0)
        if self.num_bad_epochs > self.patience:
            lr = max(self.optimizer.lr * self.factor, self.min_lr)
            if self.optimizer.lr - lr > self.eps:
                self.optimizer.lr = lr
            self.cooldown_counter, self.num_bad_epochs = self.cooldown, 0
