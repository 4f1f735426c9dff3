"""Everything that reaches the states of each step, from every loss along every path, at any size."""

from __future__ import annotations

from math import ldexp, log

import numpy as np

from ..graph import Graph
from .log_norms import Piece, Waiting
from .paths import Walker
from .rows import row_norms
from .steps import Steps

NOWHERE = -1  # the step that a path passed last, before any


def recorded_rows(graph: Graph, steps: Steps, walker: Walker, last: int) -> np.ndarray:
    """(last + 1, rows) log |dL/d states| from the last step to the first, the states of a step as independent variables.

    What comes to a state through another state of its own step (to an LSTM's c through its h) counts with the latter, as it
    does in a Jacobian. For nets of one state a step this is the recorded gradient."""
    member = {i: n for n in range(len(steps.at) - 1, -1, -1) for i in steps.at[n]}
    live = graph.ancestors([graph.root], graph.cut)
    useful = [False] * len(graph)
    for i in range(len(graph)):
        useful[i] = i in member or (i in live and i not in graph.cut and any(useful[j] for j in graph.inputs_of[i]))
    waiting = Waiting()  # by position and by the step whose states the path passed last
    waiting.add((graph.root, NOWHERE), np.ones(graph.shape(graph.root)), 0, False)
    passed: dict[int, set[int]] = {graph.root: {NOWHERE}}
    states: dict[int, list[tuple[int, Piece]]] = {}
    for i in range(graph.root, -1, -1):
        if not useful[i]:
            continue
        arrived = [(tag, piece) for tag in sorted(passed.pop(i, ())) for piece in waiting.pop((i, tag))]
        if i in member:
            states[i] = [(tag, Piece(piece.array, piece.exponent, False)) for tag, piece in arrived]
            for _, piece in arrived:
                waiting.add((i, member[i]), piece.array, piece.exponent, len(arrived) > 2)
            arrived = [(member[i], piece) for piece in waiting.pop((i, member[i]))]
        if graph.ops[i] is None or i in graph.cut:
            continue
        for tag, piece in arrived:
            _pull(graph, i, piece, tag, useful, waiting, passed)
    return np.stack([_row_norms(walker, steps, n, states) for n in range(last, -1, -1)])


def _pull(graph: Graph, i: int, piece: Piece, tag: int, useful: list[bool], waiting: Waiting, passed: dict) -> None:
    """Hand the cotangent of node i on to the inputs that lead to a state."""
    g, exponent, norm = piece.scaled()
    if norm == 0:
        return
    op, inputs = graph.ops[i], graph.inputs_of[i]
    if op is not None and op.scatter is not None:
        (j,) = inputs
        if useful[j]:
            passed.setdefault(j, set()).add(tag)
            whole = waiting.near((j, tag), exponent) or waiting.zeros((j, tag), graph.shape(j), exponent)
            whole.own()
            graph.scatter(i, whole.array, g * ldexp(1, exponent - whole.exponent))
        return
    for j, gx in zip(inputs, graph.vjp(i, g, tuple(useful[j] for j in inputs)), strict=True):
        if gx is not None:
            passed.setdefault(j, set()).add(tag)
            waiting.add((j, tag), gx, exponent, True)


def _row_norms(walker: Walker, steps: Steps, n: int, states: dict[int, list[tuple[int, Piece]]]) -> np.ndarray:
    """(rows,) log norm of what reaches the states of step n, but for what came through states of the step itself."""
    sums = Waiting()
    for i in steps.at[n]:
        for tag, piece in states.get(i, ()):
            if tag != n:
                sums.add(i, piece.array, piece.exponent, True)
    scales: dict[int, list[np.ndarray]] = {}
    for i in steps.at[n]:
        for piece in sums.pop(i):
            g, exponent, _ = piece.scaled()
            scales.setdefault(exponent, []).append(walker.by_state(g))
    out = np.full(walker.rows, -np.inf)
    with np.errstate(divide="ignore"):
        for exponent, arrays in scales.items():
            out = np.logaddexp(2 * out, 2 * (np.log(row_norms(arrays)) + exponent * log(2))) / 2
    return out
