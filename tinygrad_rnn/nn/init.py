"""Initial values of weight matrices, by name. Every function returns an array (rows, columns) drawn from `rng`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Draw = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]
Init = str


def uniform_bound(bound: float) -> Draw:
    """Uniform in [-bound, bound]: PyTorch's default for recurrent and linear layers, with bound 1 / sqrt(fan)."""
    return lambda rng, shape: rng.uniform(-bound, bound, shape)


def normal(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Gaussian of variance 1 / columns, so that a linear layer keeps the mean square of its signal."""
    return rng.standard_normal(shape) / np.sqrt(shape[-1])


def orthogonal(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Rows or columns orthonormal, Haar-distributed (Saxe et al. 2013; Mezzadri 2007 for the signs)."""
    rows, columns = shape
    q, r = np.linalg.qr(rng.standard_normal((max(rows, columns), min(rows, columns))))
    q = q * np.where(np.diag(r) < 0, -1.0, 1.0)
    return q if rows >= columns else q.T


def identity(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Ones on the diagonal (the IRNN of Le et al. 2015 when the activation is relu)."""
    return np.eye(shape[0], shape[1])


def zeros(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """All zero."""
    return np.zeros(shape)


# What `init=` of a layer may be. "default" is the layer's own, PyTorch's.
INITS: dict[str, Draw | None] = {
    "default": None,
    "normal": normal,
    "orthogonal": orthogonal,
    "identity": identity,
    "zeros": zeros,
}


def resolve(init: str, default: Draw) -> Draw:
    """The draw of that name. Raises ValueError with the names there are."""
    if init not in INITS:
        raise ValueError(f"unknown init {init!r}; expected one of {', '.join(INITS)}")
    return INITS[init] or default


def generator(seed: int | np.random.Generator | None) -> np.random.Generator:
    """A random generator from a seed; a generator passes through, None draws a fresh seed."""
    return np.random.default_rng(seed)


def checked_dtype(dtype: Any) -> np.dtype:
    """float32 or float64 as numpy's dtype; raises TypeError for anything else."""
    out = np.dtype(dtype)
    if out not in (np.float32, np.float64):
        raise TypeError(f"expected dtype float32 or float64, got {out}")
    return out
