"""Cotangents pulled back through part of a recorded graph, in float64.

The rules and kernels are those of the ops themselves; only the precision differs from the pass that trained."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from ..graph import Graph

Cotangents = dict[int, np.ndarray]


def pull(
    graph: Graph, seeds: Cotangents, wrt: Iterable[int], observe: Callable[[int, Cotangents], None] | None = None
) -> Cotangents:
    """Pull the cotangents `seeds` (by position) back to the positions `wrt`; positions that none reaches are left out.

    The walk does not go behind `wrt`, so each of them counts as independent of the others. observe(i, frontier), if given,
    is called before the first node (with i = -1) and after each node i with all cotangents that are then on their way."""
    stop = set(wrt)
    on_path = graph.ancestors(seeds, stop | graph.cut) & graph.descendants(stop)
    frontier: Cotangents = {i: g.astype(np.float64) for i, g in seeds.items() if i in on_path}
    if observe:
        observe(-1, frontier)
    for i in sorted(on_path - stop - graph.cut, reverse=True):
        g = frontier.pop(i, None)
        if g is None:
            continue
        inputs = graph.inputs_of[i]
        for j, gx in zip(inputs, graph.vjp(i, g, tuple(j in on_path for j in inputs)), strict=True):
            if gx is not None:
                frontier[j] = frontier[j] + gx if j in frontier else gx
        if observe:
            observe(i, frontier)
    return frontier


def jacobian(graph: Graph, of: int, wrt: int) -> np.ndarray:
    """d(of)/d(wrt) in float64, shape of.shape + wrt.shape: one pullback for each entry of `of`."""
    shape = graph.values[of].shape
    out = np.zeros(shape + graph.values[wrt].shape)
    for at in np.ndindex(shape):
        seed = np.zeros(shape)
        seed[at] = 1
        found = pull(graph, {of: seed}, [wrt]).get(wrt)
        if found is not None:
            out[at] = found
    return out
