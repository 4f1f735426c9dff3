"""Which directions of a gradient survive the way back, seen by a few random ones."""

from __future__ import annotations

import numpy as np

PROBES = 4


def kept_directions(way, probes: int = PROBES) -> np.ndarray:
    """Nats by which the singular values of random cotangents, side by side, change from the states of the last step to those of
    the first, largest first; medians over the batch. Where the second falls, all directions but one are lost.

    As many probes as the states have entries, four at the most."""
    graph, steps, rows = way.graph, way.steps, way.rows
    at = steps.at[way.last]
    probes = min(probes, sum(int(np.prod(graph.shape(i))) for i in at) // rows)
    rng = np.random.default_rng(0)
    signals = [{i: rng.standard_normal(graph.shape(i)) for i in at} for _ in range(probes)]
    first, scale = _singular_values(signals, way), np.zeros(rows)
    for n in range(way.last, way.first, -1):
        signals = [way.held(n, signal, way.walker.plain(n, signal)) for signal in signals]
        norms = np.sqrt(sum(way.walker.norms(signal) ** 2 for signal in signals))
        scale = scale + np.log(np.where(norms > 0, norms, 1.0))
        signals = [way.walker.scaled(signal, norms) for signal in signals]
    last = _singular_values(signals, way)
    both = min(first.shape[1], last.shape[1])
    with np.errstate(divide="ignore"):
        change = np.log(last[:, :both]) - np.log(first[:, :both]) + scale[:, None]
    return np.median(change, axis=0)


def _singular_values(signals: list[dict[int, np.ndarray]], way) -> np.ndarray:
    """(rows, probes), largest first."""
    flat = [np.concatenate([way.walker.by_state(g) for _, g in sorted(s.items())], axis=1) for s in signals]
    return np.linalg.svd(np.stack(flat, axis=1), compute_uv=False)
