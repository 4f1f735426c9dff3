"""Cotangents pulled back through part of a recorded graph, in float64.

The rules and kernels are those of the ops themselves; only the precision differs from the pass that trained."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from ..graph import Graph

Cotangents = dict[int, np.ndarray]


def pull(graph: Graph, seeds: Cotangents, wrt: Iterable[int]) -> Cotangents:
    """Pull the cotangents `seeds` (by position) back to the positions `wrt`; positions that none reaches are left out.

    The walk does not go behind `wrt`, so each of them counts as independent of the others."""
    stop = set(wrt)
    before = sorted(graph.ancestors(seeds, stop | graph.cut))
    on_path = set(stop.intersection(before))
    for i in before:
        if i not in graph.cut and any(j in on_path for j in graph.inputs_of[i]):
            on_path.add(i)
    frontier: Cotangents = {i: g.astype(np.float64) for i, g in seeds.items() if i in on_path}
    owned: set[int] = set()  # positions whose array was made here, so that it may be added to in place
    for i in reversed(before):
        if i not in on_path or i in stop or i in graph.cut:
            continue
        g = frontier.pop(i, None)
        if g is None:
            continue
        inputs, op = graph.inputs_of[i], graph.ops[i]
        if op is not None and op.scatter is not None:  # T reads of one array cost T pieces, not T arrays
            (j,) = inputs
            if j not in owned:
                owned.add(j)
                frontier[j] = frontier[j].copy() if j in frontier else np.zeros(graph.shape(j))
            graph.scatter(i, frontier[j], g)
            continue
        for j, gx in zip(inputs, graph.vjp(i, g, tuple(j in on_path for j in inputs)), strict=True):
            if gx is not None:
                frontier[j] = frontier[j] + gx if j in frontier else gx
                owned.discard(j)
    return frontier


def jacobian(graph: Graph, of: Sequence[int], wrt: Sequence[int]) -> np.ndarray:
    """d(of)/d(wrt) in float64, shape of.shape + wrt.shape, several nodes counting as one whose last axes are joined: one
    pullback for each entry of `of`. Raises ValueError where the nodes to join differ in their other axes."""
    of_shapes, wrt_shapes = ([graph.shape(i) for i in nodes] for nodes in (of, wrt))
    out = np.zeros(_joined(of_shapes) + _joined(wrt_shapes))
    start = 0
    for node, shape in zip(of, of_shapes, strict=True):
        for at in np.ndindex(shape):
            seed = np.zeros(shape)
            seed[at] = 1
            found = pull(graph, {node: seed}, wrt)
            parts = [found.get(j, np.zeros(s)) for j, s in zip(wrt, wrt_shapes, strict=True)]
            row = (*at[:-1], start + at[-1]) if at else ()
            out[row] = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-1)
        start += shape[-1] if shape else 0
    return out


def _joined(shapes: list[tuple[int, ...]]) -> tuple[int, ...]:
    """The shape of arrays joined along their last axis."""
    if len(shapes) == 1:
        return shapes[0]
    if not all(shapes) or len({s[:-1] for s in shapes}) != 1:
        raise ValueError(f"nodes of shapes {', '.join(map(str, shapes))} do not join along their last axis")
    return (*shapes[0][:-1], sum(s[-1] for s in shapes))
