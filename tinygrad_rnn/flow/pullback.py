"""Cotangents pulled back through part of a recorded graph, in float64, on the reference backend.

The rules are those of the ops themselves; only the backend and the precision differ from the pass that trained."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from ..backends import BACKENDS
from ..graph import Graph

_K = BACKENDS["reference"]
Cotangents = dict[int, np.ndarray]


def as_float64(residuals: Iterable[Any]) -> tuple:
    """The saved values of a node with every float array in float64."""
    return tuple(r.astype(np.float64) if isinstance(r, np.ndarray) and r.dtype == np.float32 else r for r in residuals)


def vjp(graph: Graph, i: int, g: np.ndarray, needs: tuple[bool, ...]) -> tuple:
    """Cotangents of the inputs of node i, None where not needed."""
    node = graph._tape_nodes[i]
    return node.op.vjp(_K, g, *as_float64(node.residuals), needs=needs, **node.params)  # type: ignore[union-attr, arg-type]


def pull(
    graph: Graph, seeds: Cotangents, wrt: Iterable[int], observe: Callable[[int, Cotangents], None] | None = None
) -> Cotangents:
    """Pull the cotangents `seeds` (by position) back to the positions `wrt`; positions that none reaches are left out.

    The walk does not go behind `wrt`, so each of them counts as independent of the others. observe(i, frontier), if given,
    is called before the first node (with i = -1) and after each node i with all cotangents that are then on their way."""
    stop = set(wrt)
    on_path = graph.ancestors(seeds, stop) & graph.descendants(stop)
    frontier: Cotangents = {i: g.astype(np.float64) for i, g in seeds.items() if i in on_path}
    if observe:
        observe(-1, frontier)
    for i in sorted(on_path - stop, reverse=True):
        g = frontier.pop(i, None)
        if g is None:
            continue
        inputs = graph._inputs[i]
        for j, gx in zip(inputs, vjp(graph, i, g, tuple(j in on_path for j in inputs)), strict=True):
            if gx is not None:
                frontier[j] = frontier[j] + gx if j in frontier else gx
        if observe:
            observe(i, frontier)
    return frontier


def jacobian(graph: Graph, of: int, wrt: int) -> np.ndarray:
    """d(of)/d(wrt) in float64, shape of.shape + wrt.shape: one pullback for each entry of `of`."""
    shape = graph._values[of].shape
    out = np.zeros(shape + graph._values[wrt].shape)
    for at in np.ndindex(shape):
        seed = np.zeros(shape)
        seed[at] = 1
        found = pull(graph, {of: seed}, [wrt]).get(wrt)
        if found is not None:
            out[at] = found
    return out
