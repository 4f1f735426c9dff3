"""Rows: the sequences of a batch, whose signals go back side by side, and their norms."""

from __future__ import annotations

import numpy as np


def by_row(g: np.ndarray, axis: int, rows: int) -> np.ndarray:
    """(rows, entries): the axis of the rows first."""
    return (np.moveaxis(g, axis, 0) if axis else g).reshape(rows, -1)


def row_axis(g: np.ndarray, rows: int, usual: int) -> int | None:
    """The axis of `rows` along which only the first entry is not 0; the usual one where it will do."""
    order = [usual, *[a for a in range(g.ndim) if a != usual]]
    for axis in order:
        if axis < g.ndim and g.shape[axis] == rows and not np.moveaxis(g, axis, 0)[1:].any():
            return axis
    flat = g.reshape(rows, -1) if g.size % rows == 0 else None  # rows joined with what follows them
    return 0 if flat is not None and not flat[1:].any() else None


def row_norms(flat: list[np.ndarray]) -> np.ndarray:
    """(rows,) joint 2-norm of each row over arrays (rows, entries), without overflow or underflow of the squares."""
    x = flat[0] if len(flat) == 1 else np.concatenate(flat, axis=1)
    squares = np.einsum("ij,ij->i", x, x)
    if squares.size and squares.min() > 1e-280 and squares.max() < 1e280:
        return np.sqrt(squares)
    scale = np.abs(x).max(axis=1, initial=0, keepdims=True)
    safe = np.where((scale == 0) | ~np.isfinite(scale), 1.0, scale)
    return np.linalg.norm(x / safe, axis=1) * safe[:, 0]


def joint(norms: list[np.ndarray], rows: int) -> np.ndarray:
    """(rows,) the norm of vectors side by side, given theirs."""
    if len(norms) == 1:
        return norms[0]
    return np.hypot.reduce(norms) if norms else np.zeros(rows)


def log_ratio(after: np.ndarray, before: np.ndarray) -> np.ndarray:
    """log(after / before); 0 where both are 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        change = np.log(after) - np.log(before)
    return np.where((after == 0) & (before == 0), 0.0, change)
