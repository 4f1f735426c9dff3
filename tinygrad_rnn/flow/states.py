"""The states of a recorded net: what each step (or layer) hands to the next, found from the edges alone.

Nothing here knows cells: a user's own cell has states because some node recorded at t is used by one recorded at t + 1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..graph import Graph, NodeView
from .pullback import pull

Axis = Literal["t", "layer"]


@dataclass(frozen=True)
class States:
    """axis: "t" or "layer"; at[c]: positions of the nodes that step c hands on, for c = first..last."""

    axis: Axis
    first: int
    at: tuple[tuple[int, ...], ...]

    def __len__(self) -> int:
        return len(self.at)

    @property
    def last(self) -> int:
        return self.first + len(self.at) - 1


def find_states(graph: Graph, axis: Axis | None = None) -> States:
    """The states along `axis`; unless given, time where there are at least two steps, else depth.

    Raises ValueError where the graph has no two steps, where an edge jumps over one (then a single step's states do not
    determine the next), or where edges go back in time too."""
    if axis is None:
        axis = "t" if graph.steps > 1 else "layer"
    coordinate = [getattr(a, axis) for a in graph.addresses]
    live = graph.ancestors([graph.root], graph.cut)
    found: dict[int, set[int]] = {}
    for i in sorted(live - graph.cut):
        for j in graph.inputs_of[i]:
            u, v = coordinate[j], coordinate[i]
            if u is None or v is None or u == v or graph.values[j].dtype.kind != "f":
                continue
            if v == u - 1 and axis == "t":
                raise ValueError(
                    f"{NodeView(graph, j).label} is used by {NodeView(graph, i).label}: this net also runs backwards in time "
                    "(bidirectional), so there is no one direction to follow; trace a net of one direction"
                )
            if v != u + 1:
                raise ValueError(
                    f"{NodeView(graph, j).label} is used by {NodeView(graph, i).label}: an edge that does not go "
                    f"from one {axis} to the next, so the states of one do not determine those of the other"
                )
            found.setdefault(u, set()).add(j)
    if not found:
        what = "no two time steps" if axis == "t" else "no two layers"
        raise ValueError(f"{what} of this graph are joined; record them inside scope({axis}=...)")
    steps = sorted(found)
    if steps != list(range(steps[0], steps[-1] + 1)):
        raise ValueError(f"the steps {steps} that hand on a state are not consecutive")
    # the last step hands on nothing: its states are the nodes that play there the part that states play the step before
    parts = _parts_played(graph, live, coordinate)
    last = steps[-1] + 1
    wanted = {parts[j][1:] for j in found[steps[-1]]}
    final = {i for i in live if coordinate[i] == last and parts[i][1:] in wanted}
    if len(final) == len(found[steps[-1]]):
        found[last] = final
        steps.append(last)
    return States(axis, steps[0], tuple(tuple(sorted(found[c])) for c in steps))


def _parts_played(graph: Graph, live: set[int], coordinate: list[int | None]) -> dict[int, tuple]:
    """(step, other coordinate, op, how many such came before in the step): what a node is within its step."""
    seen: dict[tuple, int] = {}
    out = {}
    other = 1 if coordinate == [a.layer for a in graph.addresses] else 0
    for i in sorted(live):
        op = graph.ops[i]
        key = (coordinate[i], graph.addresses[i][other], op.name if op else None, graph.records[i].name)
        out[i] = (*key, seen.get(key, 0))
        seen[key] = seen.get(key, 0) + 1
    return out


def batch_rows(graph: Graph, states: States, last: int) -> int:
    """Number of sequences whose signals go back side by side from step `last` without touching each other: the length of the
    leading axis that all nodes on the way share, if rows that start at 0 stay at 0. Otherwise 1, and norms are over whole
    arrays. (A leading axis may just as well be the features of a column vector.)

    Tried out on the first and the last step of the way, from one half of the rows and from the other."""
    shapes = [graph.shape(i) for i in graph.between(states.at[last], states.at[0])]
    sizes = {s[0] if len(s) >= 2 else 0 for s in shapes}
    rows = sizes.pop() if len(sizes) == 1 else 0
    if rows < 2:
        return 1
    rng = np.random.default_rng(0)
    for c in {last, 1}:
        for start in range(2):
            seeds = {i: rng.standard_normal(graph.shape(i)) for i in states.at[c]}
            for g in seeds.values():
                g[start::2] = 0
            if any(g[start::2].any() for g in pull(graph, seeds, states.at[c - 1]).values()):
                return 1
    return rows


def row_norms(arrays: list[np.ndarray], rows: int) -> np.ndarray:
    """(rows,) joint 2-norm of each row over all arrays, without overflow or underflow of the squares."""
    if not arrays:
        return np.zeros(rows)
    flat = np.concatenate([a.reshape(rows, -1) for a in arrays], axis=1)
    scale = np.abs(flat).max(axis=1, initial=0, keepdims=True)
    safe = np.where((scale == 0) | ~np.isfinite(scale), 1.0, scale)
    return np.linalg.norm(flat / safe, axis=1) * safe[:, 0]
