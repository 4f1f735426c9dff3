"""Optimizers, updating parameters in place with the kernels, under PyTorch's names and defaults."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import numpy as np

from ..nn.module import Parameter
from ..states import fitted
from ..tape import CaptureError, capturing, current_backend, forget_gradients, note_update
from ..writes import note_write


def _setting(name: str, what: str) -> property:
    """A setting as an attribute: a float, a bool, or a tuple of floats."""

    def get(self: Optimizer) -> Any:
        value = self._settings[self._layout[name]]
        return tuple(value.tolist()) if value.ndim else value.item()

    def change(self: Optimizer, value: Any) -> None:
        if capturing():
            raise CaptureError(
                f"{name} is set inside a compiled function, whose later calls would not; set it outside, before a call"
            )
        self._change({name: value})

    return property(get, change, doc=what)


class Optimizer:
    """Base of the optimizers: the parameters, the numbers of the update rule and what it remembers of each parameter.

    parameters   the parameters, each once
    lr           the learning rate. It and the other settings may be changed at any time, also between the calls of a compiled
                 step: the kernels read them from memory at every step

    Parameters without a gradient stay, and so does what is remembered of them. A subclass names its settings and where they
    lie in the array that its kernel reads (`_layout`), allocates states under PyTorch's names, and calls the kernel."""

    _layout: ClassVar[dict[str, int | slice]]
    _length: ClassVar[int]

    def __init__(self, parameters: Iterable[Parameter], states: Iterable[str], **settings: Any) -> None:
        self.parameters = list({id(p): p for p in parameters}.values())
        if not self.parameters:
            raise ValueError("optimizer: no parameters were given")
        for p in self.parameters:
            if not isinstance(p, Parameter):
                raise TypeError(f"optimizer: expected parameters, got {type(p).__name__}")
        # of each parameter; "step" counts the updates that it has seen
        self._state = [
            {n: np.zeros(()) if n == "step" else np.zeros(p.shape, p.dtype) for n in states} for p in self.parameters
        ]
        self._settings = np.zeros(self._length)
        self._change(settings)

    lr = _setting("lr", "The learning rate.")

    def _change(self, values: Mapping[str, Any]) -> None:
        """Set settings by name; raises ValueError, before anything is set, where one cannot be."""
        settings = self._settings.copy()
        for name, value in values.items():
            if np.shape(value) != np.shape(settings[self._layout[name]]):
                raise ValueError(f"{name}: expected shape {np.shape(settings[self._layout[name]])}, got {value}")
            settings[self._layout[name]] = value
        self._check({name: settings[at] for name, at in self._layout.items()})
        self._settings[...] = settings

    def _check(self, settings: dict[str, Any]) -> None:
        """Raise ValueError for settings that make no sense."""
        for name, value in settings.items():
            if name in ("alpha", "betas"):
                if not np.all((value >= 0) & (value < 1)):
                    raise ValueError(f"{name} must lie in [0, 1), got {value}")
            elif not value >= 0:
                raise ValueError(f"{name} must be at least 0, got {value}")
        if settings.get("momentum") and "momentum_buffer" not in self._state[0]:
            raise ValueError("momentum was 0 when this optimizer was made, and stays so: make another one")

    def _update(self, k: Any, w: np.ndarray, g: np.ndarray, state: dict[str, np.ndarray]) -> None:
        raise NotImplementedError

    def step(self) -> None:
        """Apply one update."""
        k = current_backend()
        note_update(self.parameters)
        for p, state in zip(self.parameters, self._state, strict=True):
            if p.grad is not None:
                note_write(p.value)
                self._update(k, p.value, p.grad, state)

    def zero_grad(self) -> None:
        """Forget the gradients."""
        forget_gradients(self.parameters)

    def _arrays(self) -> dict[str, np.ndarray]:
        """Settings by name and states by parameter, "0.exp_avg": the very memory that the kernels use."""
        settings = {
            name: self._settings[at, ...] if isinstance(at, int) else self._settings[at] for name, at in self._layout.items()
        }
        return settings | {f"{i}.{name}": x for i, state in enumerate(self._state) for name, x in state.items()}

    def state_dict(self) -> dict[str, np.ndarray]:
        """Copies of the settings, by name, float64, and of what is remembered of parameter i, as "i.exp_avg" and so on."""
        return {name: x.copy() for name, x in self._arrays().items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Write what `state_dict` gave into the settings and states, in place, so that a compiled step sees it.

        Raises KeyError on other names, ValueError on a wrong shape or a setting that makes no sense, TypeError on a wrong
        dtype; nothing is written unless everything fits."""
        own = self._arrays()
        given = fitted(f"load_state_dict of {type(self).__name__}", own, state)
        self._change({name: given[name] for name in self._layout})
        for name, array in given.items():
            own[name][...] = array

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={getattr(self, name)}" for name in self._layout)
        return f"{type(self).__name__}({len(self.parameters)} parameters, {settings})"


class SGD(Optimizer):
    """d = g + weight_decay w; v = momentum v + d; w -= lr v, or lr (d + momentum v) with `nesterov` (Sutskever et al. 2013, in
    PyTorch's form, without dampening).

    momentum   0 keeps no v, and cannot be changed afterwards"""

    _layout = {"lr": 0, "momentum": 1, "weight_decay": 2, "nesterov": 3}
    _length = 4

    def __init__(
        self,
        parameters: Iterable[Parameter],
        lr: float = 1e-3,
        momentum: float = 0.0,
        *,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ) -> None:
        states = ("momentum_buffer",) if momentum else ()
        super().__init__(parameters, states, lr=lr, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov)

    momentum = _setting("momentum", "How much of the velocity is kept.")
    weight_decay = _setting("weight_decay", "Added to the gradient, times the parameter.")
    nesterov = _setting("nesterov", "1.0 where the update looks ahead, else 0.0.")

    def _check(self, settings: dict[str, Any]) -> None:
        super()._check(settings)
        if settings["nesterov"] and not settings["momentum"]:
            raise ValueError("nesterov requires a momentum above 0")

    def _update(self, k: Any, w: np.ndarray, g: np.ndarray, state: dict[str, np.ndarray]) -> None:
        k.sgd(w, state.get("momentum_buffer"), g, self._settings)


class Adam(Optimizer):
    """Adam (Kingma & Ba 2015) with PyTorch's defaults and order of operations: d = g + weight_decay w; moving averages of d and
    d^2, each divided by what is missing from its weights; w -= lr average / (sqrt(average of squares) + eps)."""

    _layout = {"lr": 0, "betas": slice(1, 3), "eps": 3, "weight_decay": 4}
    _length = 6

    def __init__(
        self,
        parameters: Iterable[Parameter],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        states = ("step", "exp_avg", "exp_avg_sq")
        super().__init__(parameters, states, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)

    betas = _setting("betas", "How much of the averages of the gradient and of its square is kept.")
    eps = _setting("eps", "Added to the root of the average of squares.")
    weight_decay = _setting("weight_decay", "How much the parameters decay.")

    def _update(self, k: Any, w: np.ndarray, g: np.ndarray, state: dict[str, np.ndarray]) -> None:
        k.adam(w, state["exp_avg"], state["exp_avg_sq"], state["step"], g, self._settings)


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019): w -= lr weight_decay w first, and d = g."""

    _layout = Adam._layout | {"weight_decay": 5}

    def __init__(
        self,
        parameters: Iterable[Parameter],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
    ) -> None:
        super().__init__(parameters, lr, betas, eps, weight_decay)


class RMSprop(Optimizer):
    """d = g + weight_decay w; a moving average of d^2; u = d / (sqrt(average) + eps); w -= lr u (Tieleman & Hinton 2012, in
    PyTorch's form), or lr b with b = momentum b + u.

    momentum   0 keeps no b, and cannot be changed afterwards
    centered   subtract the square of a moving average of d, which leaves its variance (Graves 2013). Where rounding makes
               that negative it is 0; PyTorch's is NaN then"""

    _layout = {"lr": 0, "alpha": 1, "eps": 2, "weight_decay": 3, "momentum": 4}
    _length = 5

    def __init__(
        self,
        parameters: Iterable[Parameter],
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
    ) -> None:
        states = ["square_avg"] + ["grad_avg"] * bool(centered) + ["momentum_buffer"] * bool(momentum)
        super().__init__(parameters, states, lr=lr, alpha=alpha, eps=eps, weight_decay=weight_decay, momentum=momentum)

    alpha = _setting("alpha", "How much of the averages is kept.")
    eps = _setting("eps", "Added to the root of the average of squares.")
    weight_decay = _setting("weight_decay", "Added to the gradient, times the parameter.")
    momentum = _setting("momentum", "How much of the sum of updates is kept.")

    def _update(self, k: Any, w: np.ndarray, g: np.ndarray, state: dict[str, np.ndarray]) -> None:
        k.rmsprop(w, state["square_avg"], state.get("grad_avg"), state.get("momentum_buffer"), g, self._settings)
