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
    squares = np.vecdot(x, x)
    if squares.size and squares.min() > 1e-280 and squares.max() < 1e280:
        return np.sqrt(squares)
    scale = np.abs(x).max(axis=1, initial=0, keepdims=True)
    safe = np.where((scale == 0) | ~np.isfinite(scale), 1.0, scale)
    return np.linalg.norm(x / safe, axis=1) * safe[:, 0]


def log_row_norms(flat: dict) -> dict:
    """log of the 2-norm of each row of arrays (rows, entries) by any key, (rows,) each."""
    if not flat:
        return {}
    squares = np.array([np.vecdot(x, x) for x in flat.values()])
    with np.errstate(divide="ignore"):
        logs = dict(zip(flat, 0.5 * np.log(squares), strict=True))
        for key, square in zip(flat, squares, strict=True):
            if square.size and not (square.min() > 1e-280 and square.max() < 1e280):
                logs[key] = np.log(row_norms([flat[key]]))
    return logs


def log_joint(logs: list[np.ndarray], rows: int) -> np.ndarray:
    """(rows,) the log norm of vectors side by side, given theirs."""
    if len(logs) == 1:
        return logs[0]
    return 0.5 * np.logaddexp.reduce([2 * x for x in logs]) if logs else np.full(rows, -np.inf)


def difference(after: np.ndarray, before: np.ndarray) -> np.ndarray:
    """after - before of log norms; 0 where both signals are 0. To be called where invalid operations are no warning."""
    found = after - before
    if np.isnan(found.sum()):
        found = np.where(np.isneginf(after) & np.isneginf(before), 0.0, found)
    return found
