"""Everything that reaches the states of each step, from every loss along every path, at any size."""

from __future__ import annotations

import numpy as np

from ..backends import BACKENDS
from ..graph import Graph
from .paths import Walker
from .rows import row_norms
from .steps import Steps

Scaled = tuple[np.ndarray, float]  # an array and the logarithm of what it is to be multiplied by


def recorded_rows(graph: Graph, steps: Steps, walker: Walker, last: int) -> np.ndarray:
    """(last + 1, rows) log |dL/d states| from the last step to the first, the states of a step as independent variables.

    What comes to a state through another state of its own step (to an LSTM's c through its h) counts with the latter, as it
    does in a Jacobian. For nets of one state a step this is the recorded gradient. Rows that lie more than 700 nats below the
    largest one of their step come out as -inf."""
    member = {i: n for n in range(len(steps.at) - 1, -1, -1) for i in steps.at[n]}
    live = graph.ancestors([graph.root], graph.cut)
    wanted = set(member)
    useful = [False] * len(graph)
    for i in range(len(graph)):
        useful[i] = i in wanted or (i in live and i not in graph.cut and any(useful[j] for j in graph.inputs_of[i]))
    # by position and by the step whose states the path passed last, -1 before any
    frontier: dict[int, dict[int, Scaled]] = {graph.root: {-1: (np.ones(graph.shape_of(graph.root)), 0.0)}}
    states: dict[int, dict[int, Scaled]] = {}
    owned: set[tuple[int, int]] = set()  # sums that were made here, so that an index may add to them in place
    for i in range(graph.root, -1, -1):
        entries = frontier.pop(i, None)
        if entries is None or not useful[i]:
            continue
        if i in member:
            states[i] = entries
            entries = {member[i]: _sum(list(entries.values()))}
        op, inputs = graph.ops[i], graph.inputs_of[i]
        if op is None or i in graph.cut:
            continue
        for tag, (g, scale) in entries.items():
            g, scale = _normal(g, scale)
            if op.scatter is not None:
                (j,) = inputs
                if useful[j]:
                    have = frontier.setdefault(j, {})
                    if (j, tag) not in owned:
                        owned.add((j, tag))
                        old = have.get(tag, (np.zeros(graph.shape_of(j)), scale))
                        have[tag] = old[0].copy(), old[1]
                    have[tag] = _scattered(graph, i, (g, scale), have[tag])
                continue
            pulled = graph.vjp(i, g, tuple(useful[j] for j in inputs))
            for j, gx in zip(inputs, pulled, strict=True):
                if gx is not None:
                    have = frontier.setdefault(j, {})
                    have[tag] = _sum([have[tag], (gx, scale)]) if tag in have else (gx, scale)
                    owned.discard((j, tag))
    out = np.full((last + 1, walker.rows), -np.inf)
    for n in range(last + 1):
        found = []
        for i in steps.at[n]:
            parts = [e for tag, e in states.get(i, {}).items() if tag != n]
            if parts:
                found.append(_sum(parts))
        if found:
            top = max(scale for _, scale in found)
            norms = row_norms([walker.by_state(g * np.exp(scale - top)) for g, scale in found])
            with np.errstate(divide="ignore"):
                out[last - n] = np.log(norms) + top
    return out


def _normal(g: np.ndarray, scale: float) -> Scaled:
    size = float(np.abs(g).max(initial=0))
    if 1e-30 < size < 1e30 or not size or not np.isfinite(size):
        return g, scale
    return g / size, scale + float(np.log(size))


def _sum(parts: list[Scaled]) -> Scaled:
    if len(parts) == 1:
        return parts[0]
    top = max(scale for g, scale in parts)
    return sum(g if scale == top else g * np.exp(scale - top) for g, scale in parts), top


def _scattered(graph: Graph, i: int, cotangent: Scaled, into: Scaled) -> Scaled:
    """`into` with what an index sends back to the array that it read from added, in place."""
    (g, scale), (whole, top) = cotangent, into
    if scale > top + 300:
        whole *= np.exp(top - scale)
        top = scale
    op = graph.ops[i]
    assert op is not None and op.scatter is not None
    op.scatter(BACKENDS["native"], whole, g * np.exp(scale - top), *graph.residuals(i), **graph.records[i].params)
    return whole, top
