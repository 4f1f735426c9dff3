"""The part that each parameter plays on the way back, found from the graph: which matrices the signal crosses, which bring the
input in, which biases move the gates of the carry. A cell that a user wrote has these roles as a layer of the package has."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from ..graph import Graph
from .elements import PASS, SIGNAL
from .paths import Walker
from .pullback import pull
from .steps import Steps


@dataclass(frozen=True)
class Gate:
    """Biases that move a factor of the carry: by name, the entries; sign is +1 where larger biases make it larger, else -1."""

    biases: dict[str, np.ndarray]
    sign: int


@dataclass(frozen=True)
class Roles:
    """Names of parameters by the part they play.

    crossed    matrices that a signal crosses on its way; recurrent: those that multiply a state of the step before
    inputs     matrices whose products are added to what is on the way, such as weight_ih
    biases     vectors that are added there
    gates      biases of the gates on the carry
    size       root mean square of what the input matrices add"""

    crossed: list[str]
    recurrent: list[str]
    inputs: list[str]
    biases: list[str]
    gates: list[Gate]
    size: float


def joined(several: list[Roles]) -> Roles:
    """The roles on all ways back, those of two directions for instance."""
    if len(several) == 1:
        return several[0]

    def names(part: str) -> list[str]:
        return sorted({name for roles in several for name in getattr(roles, part)}, key=_natural)

    gates = [gate for roles in several for gate in roles.gates]
    size = max(roles.size for roles in several)
    return Roles(names("crossed"), names("recurrent"), names("inputs"), names("biases"), gates, size)


def roles_of(graph: Graph, steps: Steps) -> Roles:
    walker = Walker(graph, steps)
    crossed: dict[str, None] = {}
    recurrent: dict[str, None] = {}
    inputs: dict[str, None] = {}
    biases: dict[str, None] = {}
    squares, count = 0.0, 0
    for n in range(1, len(steps)):
        order, layout = walker.local(n)
        inside = set(order)
        for i, edges in zip(order, layout.edges, strict=False):
            reads = [read for _, _, read, _ in edges if read is not None]
            on_way = {graph.inputs_of[i][slot] for slot, *_ in edges}
            for j in graph.inputs_of[i]:
                if j in on_way:
                    continue
                for p in _parameters(graph, j, walker.origin):
                    name = graph.names[p]
                    if len(graph.shape(p)) < 2:
                        biases.setdefault(name)
                    elif reads:
                        crossed.setdefault(name)
                        if min(min(read, default=0) for read in reads) < 0:
                            recurrent.setdefault(name)
                if walker.origin[j] == SIGNAL and j not in inside:
                    found = _input_product(graph, j)
                    for p in found:
                        (inputs if len(graph.shape(p)) > 1 else biases).setdefault(graph.names[p])
                    if found:
                        squares += float(np.sum(np.square(graph.values[j], dtype=np.float64)))
                        count += int(np.prod(graph.shape(j)))
    size = float(np.sqrt(squares / count)) if count else 0.0

    def in_order(found: dict[str, None]) -> list[str]:
        return sorted(found, key=_natural)

    lists = in_order(crossed), in_order(recurrent), in_order(inputs), in_order(biases)
    return Roles(lists[0], lists[1], lists[2], lists[3], _gates(graph, walker), size)


def _natural(name: str) -> list:
    """A key that puts layer 2 before layer 10."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)]


def _parameters(graph: Graph, j: int, origin: list[int]) -> list[int]:
    """Parameters that a node is made of, if it is made of parameters and constants alone."""
    if origin[j] == SIGNAL:
        return []
    todo, found = [j], []
    while todo:
        at = todo.pop()
        if graph.roles[at] == "parameter":
            found.append(at)
        todo += graph.inputs_of[at]
    return found


def _input_product(graph: Graph, j: int) -> list[int]:
    """Parameters of a product of the input with a matrix: its matrix, and its bias if it has one."""
    op = graph.ops[j]
    while op is not None and (op.kind == "view" or op.name == "add") and graph.inputs_of[j]:
        products = [k for k in graph.inputs_of[j] if graph.ops[k] is not None]
        if not products:
            return []
        j = products[0]
        op = graph.ops[j]
    if op is None or op.kind != "weights" or op.name == "embedding":
        return []
    return [k for k in graph.inputs_of[j] if graph.roles[k] == "parameter"]


def _gates(graph: Graph, walker: Walker) -> list[Gate]:
    """The biases that move each factor of the carry, as found at the last step."""
    n = len(walker.steps) - 1
    order, layout = walker.local(n)
    vectors = [i for i, role in enumerate(graph.roles) if role == "parameter" and len(graph.shape(i)) == 1]
    biases = [i for i in vectors if _is_added(graph, i)]
    others = [i for at in walker.steps.at[n - 1 : n + 1] for i in at]  # a gate of an upper layer also depends on the lower one
    found: list[Gate] = []
    straight = [k >= layout.count for k in range(len(order))]  # what leads to the states before through sums and views alone
    for k in range(layout.count - 1, -1, -1):
        straight[k] = any(part == PASS and straight[j] for _, j, _, part in layout.edges[k])
    for i, edges in zip(order, layout.edges, strict=False):
        for slot, k, read, part in edges:
            if part != "gates" or read is not None or not straight[k]:
                continue
            factor, sign = _factor(graph, i, slot)
            if factor is None:
                continue
            seeds = {factor: np.ones(graph.shape(factor))}
            pulled = pull(graph, seeds, [*biases, *others])
            mine = {graph.names[j]: np.flatnonzero(pulled[j]) for j in biases if j in pulled and pulled[j].any()}
            if mine:
                first = next(j for j in biases if j in pulled and pulled[j].any())
                way = sign * int(np.sign(np.median(pulled[first][pulled[first] != 0])))
                gate = Gate(mine, way)
                if not any(set(g.biases) == set(mine) and _same_entries(g.biases, mine) for g in found):
                    found.append(gate)
    return found


def _is_added(graph: Graph, position: int) -> bool:
    """Whether a vector is added wherever it is used, as a bias is."""
    for i in graph.outputs_of[position]:
        op = graph.ops[i]
        slots = [slot for slot, j in enumerate(graph.inputs_of[i]) if j == position]
        if op is None or not (op.name == "add" or (op.name in ("linear", "rnn_cell") and min(slots) >= 2)):
            return False
    return True


def _same_entries(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
    return all(np.array_equal(a[name], b[name]) for name in a)


def _factor(graph: Graph, i: int, slot: int) -> tuple[int | None, int]:
    """The node that a cotangent is multiplied by on its way from node i to an input, and the direction in which it counts."""
    name, inputs = graph.ops[i].name, graph.inputs_of[i]  # type: ignore[union-attr]
    if name == "mul":
        return inputs[1 - slot], 1
    if name == "lstm_state" and slot == 3:
        return inputs[1], 1
    if name == "lerp" and slot < 2:
        return inputs[2], 1 if slot == 1 else -1
    return None, 1
