"""Initial values of parameters. A Draw makes an array of a shape from a numpy random generator.

`init=` of a layer takes a Draw, or the name of one in INITS. Every function here is a Draw and, called with its settings alone,
makes another: `init=tr.nn.init.orthogonal`, `init=tr.nn.init.orthogonal(gain=1.4)`. Weights have the shape (outputs, inputs,
...), a kernel's extent last, as PyTorch's."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from math import prod, sqrt
from typing import Any

import numpy as np

from ..tensor import Tensor
from .module import Parameter

Shape = tuple[int, ...]
Draw = Callable[[np.random.Generator, Shape], np.ndarray]
Init = str | Draw  # what layers take as init=


class _Draw:
    """f(rng, shape, **settings) with some settings: called with a generator and a shape it draws; called with more settings it
    returns the Draw that has them too."""

    def __init__(self, f: Callable[..., np.ndarray], settings: dict[str, Any] | None = None) -> None:
        self._f, self._settings = f, settings or {}
        self.__name__, self.__doc__, self.__wrapped__ = f.__name__, f.__doc__, f

    def __call__(self, *args: Any, **settings: Any) -> Any:
        if args and isinstance(args[0], np.random.Generator):
            return self._f(*args, **(self._settings | settings))
        self._refuse(x for x in (*args, *settings.values()) if isinstance(x, Tensor))
        bound = inspect.signature(self._f).bind_partial(None, None, *args, **settings).arguments
        given = dict(list(bound.items())[2:])
        self._refuse(x for name, x in given.items() if isinstance(x, np.ndarray) and x.ndim and name != "matrix")
        return _Draw(self._f, self._settings | given)

    def _refuse(self, written: Iterable[Any]) -> None:
        """Raise TypeError for what was given to be written to, as PyTorch's functions do: it would stay as it is."""
        for x in written:
            raise TypeError(
                f"init.{self.__name__}: got a {type(x).__name__} {x.shape}, but takes settings, or a random generator of numpy "
                f"and a shape; to write to a parameter use init.apply(parameter, init.{self.__name__}, seed)"
            )

    def __reduce__(self) -> tuple:
        return _named, (self.__name__, self._settings)  # the function's own name is that of its Draw

    def __repr__(self) -> str:
        settings = ", ".join(f"{k}={v!r}" for k, v in self._settings.items())
        return f"{self.__name__}({settings})" if settings else self.__name__


def _named(name: str, settings: dict[str, Any]) -> Draw:
    return globals()[name](**settings)


# ---- what bounds depend on


def fans(shape: Shape) -> tuple[int, int]:
    """How many inputs an output of a weight (outputs, inputs, ...) has, and how many outputs an input."""
    if len(shape) < 2:
        raise ValueError(f"init: expected a weight of at least 2 axes, (outputs, inputs, ...), got shape {shape}")
    return shape[1] * prod(shape[2:]), shape[0] * prod(shape[2:])


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """What keeps the size of a signal through that activation, as PyTorch has it: 1 for "identity", "linear" and "sigmoid", 5/3
    for "tanh", sqrt 2 for "relu", sqrt(2 / (1 + param^2)) for "leaky_relu" of slope `param` (0.01), 3/4 for "selu"."""
    slope = 0.01 if param is None else param
    gains = dict.fromkeys(("identity", "linear", "sigmoid"), 1.0) | {
        "tanh": 5 / 3,
        "relu": sqrt(2),
        "leaky_relu": sqrt(2 / (1 + slope**2)),
        "selu": 3 / 4,
    }
    if nonlinearity not in gains:
        raise ValueError(f"unknown nonlinearity {nonlinearity!r}; expected one of {', '.join(gains)}")
    return gains[nonlinearity]


def _kaiming_std(shape: Shape, a: float, mode: str, nonlinearity: str) -> float:
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f"unknown mode {mode!r}; expected fan_in or fan_out")
    return calculate_gain(nonlinearity, a) / sqrt(max(fans(shape)[mode == "fan_out"], 1))


def _xavier_std(shape: Shape, gain: float) -> float:
    return gain * sqrt(2 / max(sum(fans(shape)), 1))


# ---- independent entries


@_Draw
def uniform(rng: np.random.Generator, shape: Shape, a: float = 0.0, b: float = 1.0) -> np.ndarray:
    """Uniform in [a, b)."""
    return rng.uniform(a, b, shape)


def uniform_bound(bound: float) -> Draw:
    """Uniform in [-bound, bound]: PyTorch's default for recurrent and linear layers, with bound 1 / sqrt(fan)."""
    return uniform(-bound, bound)


@_Draw
def normal(rng: np.random.Generator, shape: Shape, mean: float = 0.0, std: float | None = None) -> np.ndarray:
    """Gaussian. std is 1 / sqrt(fan_in) unless given, so that a linear layer keeps the mean square of its signal."""
    x = rng.standard_normal(shape)
    return mean + (x / sqrt(max(fans(shape)[0], 1)) if std is None else x * std)


@_Draw
def lecun_normal(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    """Gaussian of variance 1 / fan_in (LeCun et al. 1998), which is what `normal` is without settings."""
    return normal(rng, shape)


@_Draw
def xavier_uniform(rng: np.random.Generator, shape: Shape, gain: float = 1.0) -> np.ndarray:
    """Uniform of variance gain^2 2 / (fan_in + fan_out) (Glorot & Bengio 2010)."""
    return uniform_bound(sqrt(3) * _xavier_std(shape, gain))(rng, shape)


@_Draw
def xavier_normal(rng: np.random.Generator, shape: Shape, gain: float = 1.0) -> np.ndarray:
    """Gaussian of variance gain^2 2 / (fan_in + fan_out)."""
    return rng.standard_normal(shape) * _xavier_std(shape, gain)


@_Draw
def kaiming_uniform(
    rng: np.random.Generator, shape: Shape, a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu"
) -> np.ndarray:
    """Uniform of variance gain^2 / fan, fan being fan_in or fan_out (`mode`) and gain that of the nonlinearity; a is the slope
    of "leaky_relu" (He et al. 2015)."""
    return uniform_bound(sqrt(3) * _kaiming_std(shape, a, mode, nonlinearity))(rng, shape)


@_Draw
def kaiming_normal(
    rng: np.random.Generator, shape: Shape, a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu"
) -> np.ndarray:
    """Gaussian of variance gain^2 / fan, as kaiming_uniform."""
    return rng.standard_normal(shape) * _kaiming_std(shape, a, mode, nonlinearity)


@_Draw
def sparse(rng: np.random.Generator, shape: Shape, nonzeros: int = 15, std: float = 1.0) -> np.ndarray:
    """Every unit (row) has `nonzeros` inputs at random places, Gaussian with `std`, and 0 from the others (Martens 2010;
    Sutskever et al. 2013). Raises ValueError where it has fewer inputs than that."""
    fan_in = fans(shape)[0]
    if not 0 <= nonzeros <= fan_in:
        raise ValueError(f"sparse: nonzeros must lie in 0..{fan_in}, the inputs of a unit of shape {shape}, got {nonzeros}")
    x = np.zeros((shape[0], fan_in))
    for row in x:
        row[rng.permutation(fan_in)[:nonzeros]] = rng.standard_normal(nonzeros) * std
    return x.reshape(shape)


# ---- matrices


@_Draw
def orthogonal(rng: np.random.Generator, shape: Shape, gain: float = 1.0) -> np.ndarray:
    """gain times a matrix (outputs, all else) whose rows or columns, whichever are fewer, are orthonormal, Haar-distributed
    (Saxe et al. 2013; Mezzadri 2007 for the signs)."""
    columns, rows = fans(shape)[0], shape[0]
    q, r = np.linalg.qr(rng.standard_normal((max(rows, columns), min(rows, columns))))
    q = q * np.where(np.diag(r) < 0, -1.0, 1.0)
    return gain * (q if rows >= columns else q.T).reshape(shape)


@_Draw
def identity(rng: np.random.Generator, shape: Shape, gain: float = 1.0) -> np.ndarray:
    """gain on the diagonal (the IRNN of Le et al. 2015 when the activation is relu); of a kernel, at its centre, so that a
    convolution passes its channels on."""
    fans(shape)
    x = np.zeros(shape)
    diagonal = np.arange(min(shape[:2]))
    centre = tuple(extent // 2 for extent in shape[2:])
    x[(diagonal, diagonal) + centre] = gain
    return x


@_Draw
def spectral_radius(rng: np.random.Generator, shape: Shape, radius: float, matrix: Draw | np.ndarray = normal) -> np.ndarray:
    """A square matrix whose largest |eigenvalue| is `radius` (Jaeger 2001): `matrix`, an array or a Draw, times a number.

    Raises ValueError where the matrix has no eigenvalue but 0."""
    if len(shape) != 2 or shape[0] != shape[1]:
        raise ValueError(f"spectral_radius: expected a square matrix, got shape {shape}")
    if not 0 <= radius < np.inf:
        raise ValueError(f"spectral_radius: radius must be a number of at least 0, got {radius}")
    x = np.asarray(matrix(rng, shape) if callable(matrix) else matrix, np.float64)
    if x.shape != shape:
        raise ValueError(f"spectral_radius: the matrix has shape {x.shape}, the parameter {shape}")
    own = np.abs(np.linalg.eigvals(x)).max()
    if not own > 0:
        raise ValueError("spectral_radius: all eigenvalues of the matrix are 0")
    return x * (radius / own)


@_Draw
def zeros(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    """All zero."""
    return np.zeros(shape)


@_Draw
def ones(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    """All one."""
    return np.ones(shape)


# ---- biases of an LSTM, (4 H,): input, forget, cell, output gate. A cell adds two, bias_ih and bias_hh: draw one of them so,
# and the other from `zeros`.


def _gates(shape: Shape) -> int:
    if len(shape) != 1 or shape[0] % 4:
        raise ValueError(f"init: expected the bias of an LSTM, (4 H,), got shape {shape}")
    return shape[0] // 4


@_Draw
def forget_bias(rng: np.random.Generator, shape: Shape, value: float = 1.0) -> np.ndarray:
    """`value` for the forget gates, 0 for the others (Gers et al. 2000; Jozefowicz et al. 2015)."""
    h = _gates(shape)
    x = np.zeros(shape)
    x[h : 2 * h] = value
    return x


@_Draw
def chrono(rng: np.random.Generator, shape: Shape, t_max: float) -> np.ndarray:
    """log u for the forget gates and -log u for the input gates, u uniform in [1, t_max - 1], 0 for the others, so that a cell
    remembers for about u steps; t_max is the longest dependency expected (Tallec & Ollivier 2018)."""
    if not t_max >= 2:
        raise ValueError(f"chrono: t_max must be at least 2, got {t_max}")
    h = _gates(shape)
    x = np.zeros(shape)
    x[h : 2 * h] = np.log(rng.uniform(1, t_max - 1, h))
    x[:h] = -x[h : 2 * h]
    return x


# ---- names, and what layers make of them


# What `init=` of a layer may be, beside a Draw. "default" is the layer's own, PyTorch's.
INITS: dict[str, Draw | None] = {
    "default": None,
    "normal": normal,
    "orthogonal": orthogonal,
    "identity": identity,
    "zeros": zeros,
    "lecun_normal": lecun_normal,
    "xavier_uniform": xavier_uniform,
    "xavier_normal": xavier_normal,
    "kaiming_uniform": kaiming_uniform,
    "kaiming_normal": kaiming_normal,
}


def resolve(init: str | Draw, default: Draw | None) -> Draw:
    """The draw of that name, or that draw, its shape checked. Raises ValueError with the names there are."""
    if callable(init):
        return _checked(init)
    known = [name for name, draw in INITS.items() if draw or default]
    if not isinstance(init, str) or init not in known:
        raise ValueError(f"unknown init {init!r}; expected one of {', '.join(known)}, or a function of a generator and a shape")
    draw = INITS[init] or default
    assert draw is not None  # or it would not be known
    return draw


def _checked(draw: Draw) -> Draw:
    def checked(rng: np.random.Generator, shape: Shape) -> np.ndarray:
        x = np.asarray(draw(rng, shape))
        if x.shape != tuple(shape) or x.dtype.kind not in "fiu":
            raise ValueError(f"init: {draw!r} was asked for numbers of shape {tuple(shape)} and returned {x.dtype} {x.shape}")
        return x

    return checked


def apply(parameter: Parameter, draw: str | Draw, seed: int | np.random.Generator | None = None) -> None:
    """Write a draw, or the one of that name, into a parameter, in place: the same for the same seed."""
    parameter.value[...] = resolve(draw, None)(generator(seed), parameter.shape)


def generator(seed: int | np.random.Generator | None) -> np.random.Generator:
    """A random generator from a seed; a generator passes through, None draws a fresh seed."""
    return np.random.default_rng(seed)


def checked_dtype(dtype: Any) -> np.dtype:
    """float32 or float64 as numpy's dtype; raises TypeError for anything else."""
    out = np.dtype(dtype)
    if out not in (np.float32, np.float64):
        raise TypeError(f"expected dtype float32 or float64, got {out}")
    return out
