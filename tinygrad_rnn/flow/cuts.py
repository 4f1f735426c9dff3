"""Where values go on and gradients do not: detach, no_grad, a state rebuilt from its numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..graph import Graph, NodeView

if TYPE_CHECKING:
    from .steps import Steps

Links = dict[int, int]  # a constant leaf by position, with the position of the node that its values come from


@dataclass(frozen=True)
class Cut:
    """A place between two steps where values go on and gradients do not.

    t       the step that gets the values, as recorded
    op      "detach", "no_grad" or "copy" (a constant made of the same numbers)
    source  the node before the cut, in words
    whole   no gradient passes between the two steps at all; otherwise another state or path still carries one
    times   how many steps have a cut like it"""

    t: int
    op: str
    source: str
    whole: bool
    times: int


def links(graph: Graph) -> Links:
    """Constant leaves whose values are those of a recorded node: they share its memory, or repeat its numbers."""
    leaves = [i for i, role in enumerate(graph.roles) if role == "constant" and graph.values[i].dtype.kind == "f"]
    if not leaves:
        return {}
    found: Links = {}
    by_memory: dict[object, int] = {}
    for i, op in enumerate(graph.ops):
        if op is not None:
            by_memory.setdefault(graph.memory(i), i)
    unknown = []
    for i in leaves:
        at = by_memory.get(graph.memory(i))
        if at is not None:
            found[i] = at
        elif graph.values[i].size > 1 and np.ptp(graph.values[i]) > 0:
            unknown.append(i)
    if unknown:
        shapes = {graph.values[i].shape for i in unknown}
        by_bytes: dict[tuple, int] = {}
        for i, op in enumerate(graph.ops):
            if op is not None and op.kind != "view" and (x := graph.values[i]).shape in shapes:
                by_bytes.setdefault((x.shape, x.dtype, hash(x.tobytes())), i)
        for i in unknown:
            x = graph.values[i]
            at = by_bytes.get((x.shape, x.dtype, hash(x.tobytes())))
            if at is not None and np.array_equal(x, graph.values[at]):
                found[i] = at
    return found


def find_cuts(graph: Graph, steps: Steps, joined: list[bool]) -> list[Cut]:
    """The cuts on the way, last step first; joined[n]: a gradient passes from step n + 1 to step n. Cuts of one kind that other
    paths go round count as one."""
    places: dict[tuple[int, str], list[int]] = {}  # (step, op) with the nodes before it
    coordinate, live = steps.coordinate, graph.ancestors([graph.root])
    addressed = any(a[steps.axis == "t"] is not None for a in graph.addresses)
    for leaf, source in steps.links.items():
        u = coordinate[source]
        after = [
            c for i in graph.outputs_of[leaf] if i in live and (c := _step_of(graph, coordinate, i, addressed)) is not None
        ]
        if after and leaf in live and (u is not None or min(after) <= 0):
            op = "detach" if graph.memory(leaf) == graph.memory(source) else "copy"
            places.setdefault((min(after), op), []).append(source)
    for i in sorted(graph.cut & live):
        v = coordinate[i]
        before = [j for j in graph.inputs_of[i] if graph.records[j].requires_grad and coordinate[j] is not None]
        if v is not None and before and not any(j in graph.cut for j in graph.inputs_of[i]):
            places.setdefault((v, "no_grad"), []).extend(before)
    if not any(op == "no_grad" for _, op in places):  # what is recorded without gradients from the start on
        for k in sorted(live - graph.cut):
            v = coordinate[k]
            if v is None or not graph.records[k].requires_grad:
                continue
            for j in graph.inputs_of[k]:
                u = coordinate[j]
                if u is not None and u < v and _comes_from_cut(graph, j):
                    places.setdefault((v, "no_grad"), []).append(j)
    whole: list[Cut] = []
    partial: dict[tuple, Cut] = {}
    for (v, op), before in sorted(places.items(), reverse=True):
        at = steps.labels[v] if 0 <= v < len(steps.labels) else steps.labels[0] + v
        label = NodeView(graph, _named(graph, before)).label
        across = any(coordinate[i] != v or _is_piece(graph, steps, i, v) for i in before)
        if (v <= 0 and across) or (1 <= v <= len(joined) and not joined[v - 1]):
            whole.append(Cut(at, op, label, True, 1))
        elif across:
            name = graph.records[_named(graph, before)].name
            times = partial[op, name].times + 1 if (op, name) in partial else 1
            partial[op, name] = Cut(at, op, label, False, times)
    return [*whole, *partial.values()]


def _comes_from_cut(graph: Graph, j: int) -> bool:
    """Whether node j was computed without gradients from a node that was recorded with them off."""
    while graph.ops[j] is not None and not graph.records[j].requires_grad:
        if j in graph.cut:
            return True
        j = graph.inputs_of[j][-1]
    return False


def _is_piece(graph: Graph, steps: Steps, i: int, v: int) -> bool:
    """Whether node i shows a part of a state of the step before, by views alone."""
    while graph.kind(i) == "view" and graph.inputs_of[i]:
        (i,) = graph.inputs_of[i]
        if 1 <= v <= len(steps.at) and i in steps.at[v - 1]:
            return True
    return False


def _step_of(graph: Graph, coordinate: list[int | None], i: int, addressed: bool) -> int | None:
    """The step of node i, or the first step that uses it. Where nodes have addresses, those without one belong to no step."""
    todo, seen = [i], {i}
    while todo:
        at = todo.pop()
        if coordinate[at] is not None and (not addressed or any(a is not None for a in graph.addresses[at])):
            return coordinate[at]
        for j in graph.outputs_of[at]:
            if j not in seen:
                seen.add(j)
                todo.append(j)
    return coordinate[i]


def _named(graph: Graph, nodes: list[int]) -> int:
    """The node to speak of: one that has a name or an address, looking through views and stacks to the last entry."""
    at = nodes[0]
    while graph.addresses[at].t is None and graph.ops[at] is not None and graph.inputs_of[at]:
        at = graph.inputs_of[at][-1]
    return at if graph.ops[at] is not None else nodes[0]
