"""Schedules of the learning rate: `step()` after every epoch, or after every update, sets `optimizer.lr`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from ..states import fitted
from .optimizers import Optimizer


def _check(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


class _Scheduled:
    """What schedules share: an optimizer and numbers of their own, which are saved and loaded."""

    _numbers: ClassVar[tuple[str, ...]]

    optimizer: Optimizer
    last_epoch: int

    def state_dict(self) -> dict[str, np.ndarray]:
        """The numbers of this schedule by name, int64 () or float64 (). The optimizer's `lr` is in its own."""
        return {name: np.array(getattr(self, name)) for name in self._numbers}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take the numbers that `state_dict` gave. Raises KeyError on other names, ValueError on a wrong shape, TypeError on a
        wrong dtype; nothing is taken unless everything fits."""
        for name, x in fitted(f"load_state_dict of {type(self).__name__}", self.state_dict(), state).items():
            setattr(self, name, x.item())

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{n}={getattr(self, n)}' for n in self._numbers)})"


class Schedule(_Scheduled):
    """Base of schedules that are a function of the epoch: PyTorch's closed forms, so that no rounding adds up.

    base_lr      optimizer.lr when the schedule was made
    last_epoch   how many times `step` was called

    Every step sets `optimizer.lr` anew, whatever it was: of two schedules, the one that stepped last holds."""

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer, self.base_lr, self.last_epoch = optimizer, optimizer.lr, 0
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
        _check(int(step_size) == step_size >= 1, f"step_size must be a positive integer, got {step_size}")
        _check(gamma >= 0, f"gamma must be at least 0, got {gamma}")
        self.step_size, self.gamma = int(step_size), float(gamma)
        super().__init__(optimizer)

    def lr_at(self, epoch: int) -> float:
        return self.base_lr * self.gamma ** (epoch // self.step_size)


class ExponentialLR(Schedule):
    """base_lr gamma^epoch."""

    _numbers = ("base_lr", "last_epoch", "gamma")

    def __init__(self, optimizer: Optimizer, gamma: float) -> None:
        _check(gamma >= 0, f"gamma must be at least 0, got {gamma}")
        self.gamma = float(gamma)
        super().__init__(optimizer)

    def lr_at(self, epoch: int) -> float:
        return self.base_lr * self.gamma**epoch


class CosineAnnealingLR(Schedule):
    """eta_min + (base_lr - eta_min) (1 + cos(pi epoch / T_max)) / 2 (Loshchilov & Hutter 2017, without restarts): eta_min after
    T_max steps, and up again after that."""

    _numbers = ("base_lr", "last_epoch", "T_max", "eta_min")

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0) -> None:
        _check(int(T_max) == T_max >= 1, f"T_max must be a positive integer, got {T_max}")
        _check(eta_min >= 0, f"eta_min must be at least 0, got {eta_min}")
        self.T_max, self.eta_min = int(T_max), float(eta_min)
        super().__init__(optimizer)

    def lr_at(self, epoch: int) -> float:
        return self.eta_min + (self.base_lr - self.eta_min) * (1 + math.cos(math.pi * epoch / self.T_max)) / 2


class LinearLR(Schedule):
    """base_lr times a factor that goes from start_factor to end_factor in total_iters steps and stays there: a warm-up."""

    _numbers = ("base_lr", "last_epoch", "start_factor", "end_factor", "total_iters")

    def __init__(
        self, optimizer: Optimizer, start_factor: float = 1 / 3, end_factor: float = 1.0, total_iters: int = 5
    ) -> None:
        _check(0 < start_factor <= 1, f"start_factor must lie in (0, 1], got {start_factor}")
        _check(0 <= end_factor <= 1, f"end_factor must lie in [0, 1], got {end_factor}")
        _check(int(total_iters) == total_iters >= 1, f"total_iters must be a positive integer, got {total_iters}")
        self.start_factor, self.end_factor, self.total_iters = float(start_factor), float(end_factor), int(total_iters)
        super().__init__(optimizer)

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
        _check(mode in ("min", "max"), f"unknown mode {mode!r}; expected min or max")
        _check(threshold_mode in ("rel", "abs"), f"unknown threshold_mode {threshold_mode!r}; expected rel or abs")
        _check(0 <= factor < 1, f"factor must lie in [0, 1), got {factor}")
        _check(int(patience) == patience >= 0, f"patience must be an integer of at least 0, got {patience}")
        _check(int(cooldown) == cooldown >= 0, f"cooldown must be an integer of at least 0, got {cooldown}")
        _check(min_lr >= 0, f"min_lr must be at least 0, got {min_lr}")
        self.optimizer, self.mode, self.threshold_mode = optimizer, mode, threshold_mode
        self.factor, self.threshold, self.min_lr, self.eps = float(factor), float(threshold), float(min_lr), float(eps)
        self.patience, self.cooldown = int(patience), int(cooldown)
        self.best = math.inf if mode == "min" else -math.inf
        self.last_epoch = self.num_bad_epochs = self.cooldown_counter = 0

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
