"""The size of every cotangent of a graph, however far below or above the range of floating-point numbers."""

from __future__ import annotations

from math import isnan, ldexp, log
from typing import Any

import numpy as np

from ..graph import Graph

# A cotangent is scaled to a norm near 1 where that has left 2^-NEAR..2^NEAR. A piece takes what is not more than 2^FAR times
# larger or smaller than what it began with.
NEAR, FAR = 32, 400


class Piece:
    """The part array * 2^exponent of a cotangent; owned: nobody else holds the array, so that it may be written to."""

    __slots__ = ("array", "exponent", "owned")

    def __init__(self, array: np.ndarray, exponent: int, owned: bool) -> None:
        self.array, self.exponent, self.owned = array, exponent, owned

    def scaled(self) -> tuple[np.ndarray, int, float]:
        """The array with a norm near 1, the exponent that goes with it, and that norm. No bit is lost: powers of two."""
        g, exponent, norm = self.array, self.exponent, _norm(self.array)
        if not ldexp(1, -NEAR) < norm < ldexp(1, NEAR):
            largest = float(np.abs(g).max(initial=0))
            if not 0 < largest < np.inf:
                return g, exponent, largest
            shift = int(np.frexp(largest)[1])
            g, exponent = np.ldexp(g, -shift), exponent + shift
            norm = _norm(g)
        return g, exponent, norm

    def own(self) -> None:
        if not self.owned:
            self.array, self.owned = self.array.copy(), True

    def add(self, gx: np.ndarray, exponent: int) -> None:
        """Add gx * 2^exponent, in units of the larger of the two."""
        ahead = exponent - self.exponent
        if abs(ahead) > FAR:
            self.array, self.exponent, norm = self.scaled()
            gx, exponent, _ = Piece(gx, exponent, False).scaled()
            if norm == 0:  # summands that cancelled have no size
                self.exponent = exponent
            ahead = exponent - self.exponent
        self.own()
        if ahead > 0:
            self.array *= _power(-ahead)
            self.exponent = exponent
        self.array += gx if ahead >= 0 else gx * _power(ahead)


class Waiting:
    """Cotangents on their way, by the position where they have arrived (or by any key): each a sum of pieces.

    One piece is enough as a rule. An array that is read entry by entry, or put together from parts, may hold cotangents of
    every size; then each size has a piece of its own."""

    def __init__(self) -> None:
        self._pieces: dict[Any, list[Piece]] = {}

    def pop(self, i: Any) -> list[Piece]:
        return self._pieces.pop(i, [])

    def near(self, j: Any, exponent: int) -> Piece | None:
        """The piece at j that takes cotangents of this size."""
        return next((p for p in self._pieces.get(j, ()) if abs(p.exponent - exponent) <= FAR), None)

    def add(self, j: Any, gx: np.ndarray, exponent: int, apart: bool) -> None:
        """Add gx * 2^exponent at j; apart: whatever else is there may lie in other entries of the array."""
        pieces = self._pieces.setdefault(j, [])
        piece = self.near(j, exponent)
        if piece is None and (apart or not pieces):
            pieces.append(Piece(gx, exponent, False))
        else:
            (piece or max(pieces, key=lambda p: p.exponent)).add(gx, exponent)

    def zeros(self, j: Any, shape: tuple[int, ...], exponent: int) -> Piece:
        """A new piece at j, still 0."""
        piece = Piece(np.zeros(shape), exponent, True)
        self._pieces.setdefault(j, []).append(piece)
        return piece


def log_norms(graph: Graph) -> np.ndarray:
    """log |dL/dnode| of every node by position, in nats: 2-norms over all entries. -inf where no gradient arrives, or where it
    is exactly 0.

    One walk back over the whole graph, in float64, along the inputs that wanted a gradient. A cotangent is held as an array
    times a power of two, so it neither underflows nor overflows, at any depth."""
    out = np.full(len(graph), -np.inf)
    seed = graph.grads[graph.root]
    waiting = Waiting()
    waiting.add(graph.root, np.ones(graph.shape(graph.root)) if seed is None else seed.astype(np.float64), 0, False)
    with np.errstate(all="ignore"):
        for i in range(graph.root, -1, -1):
            pieces = waiting.pop(i)
            for piece in pieces:
                g, exponent, norm = piece.scaled()
                if norm == 0:
                    continue
                size = norm if isnan(norm) else log(norm) + exponent * log(2)
                out[i] = size if len(pieces) == 1 else np.logaddexp(2 * out[i], 2 * size) / 2
                if graph.ops[i] is not None and i not in graph.cut:
                    _pull(graph, i, g, exponent, len(pieces) > 1, waiting)
    return out


def _pull(graph: Graph, i: int, g: np.ndarray, exponent: int, apart: bool, waiting: Waiting) -> None:
    """Hand the cotangent g * 2^exponent of node i on to the inputs of the node."""
    op, inputs = graph.ops[i], graph.inputs_of[i]
    if op is not None and op.scatter is not None:
        (j,) = inputs
        piece = waiting.near(j, exponent) or waiting.zeros(j, graph.shape(j), exponent)
        piece.own()
        ahead = exponent - piece.exponent
        graph.scatter(i, piece.array, g * ldexp(1, ahead) if ahead else g)
        return
    for j, gx in zip(inputs, graph.vjp(i, g, graph.records[i].needs), strict=True):
        if gx is not None and gx.any():
            waiting.add(j, gx, exponent, apart)


def _power(exponent: int) -> float:
    return ldexp(1, max(exponent, -1100))


def _norm(x: np.ndarray) -> float:
    flat = x.reshape(-1)
    return float(np.sqrt(flat @ flat))
