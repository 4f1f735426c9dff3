"""Two recorded graphs compared: are they one graph, and if not, where do they first differ?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .graph import Graph, NodeView, short


@dataclass(frozen=True)
class SameGraph:
    """What `same_graph` found; true if the graphs are identical in structure.

    identical         same ops with the same static keywords and shapes, joined in the same way
    difference        the first place, in order of recording, where they differ; None if they do not
    nodes, edges      the counts, (a, b); without the parameters, because one tied parameter may stand for many
    parameters        for each parameter of a, the parameters of b in its places (several if b is not tied)
    addresses_agree   whether joined nodes also have the same (layer, t)
    value_difference  largest absolute difference over the values of all joined nodes
    grad_difference   the same for cotangents; a parameter's is compared with the sum over the parameters in its places
    """

    identical: bool
    difference: str | None
    nodes: tuple[int, int]
    edges: tuple[int, int]
    parameters: dict[str, list[str]]
    addresses_agree: bool
    value_difference: float
    grad_difference: float

    @property
    def tied(self) -> bool:
        """Whether every parameter of a has exactly one in b."""
        return all(len(names) == 1 for names in self.parameters.values())

    def __bool__(self) -> bool:
        return self.identical

    def __str__(self) -> str:
        lines = [
            f"{'identical' if self.identical else 'different'}: {self.nodes[0]} and {self.nodes[1]} nodes, "
            f"{self.edges[0]} and {self.edges[1]} edges"
        ]
        if self.difference:
            lines.append(f"first difference: {self.difference}")
        else:
            lines.append(f"largest difference of values {self.value_difference:g}, of gradients {self.grad_difference:g}")
        for name, names in self.parameters.items():
            lines.append(f"  {name} = {names[0]}" + (f" and {len(names) - 1} more (untied)" if len(names) > 1 else ""))
        return "\n".join(lines)


def same_graph(a: Graph, b: Graph) -> SameGraph:
    """Whether two recorded graphs are one graph. They are joined by walking both back from their ends, in step, which needs
    no names and no addresses and takes time linear in their size: two nodes are joined if they are used in the same place,
    and agree if op, static keywords, shape, dtype and number of inputs do. Joined nodes must correspond one to one, except
    parameters: one of `a` may stand where `b` has several (tied against untied)."""
    for g in (a, b):
        if not isinstance(g, Graph):
            raise TypeError(
                f"same_graph compares two traces, got {type(g).__name__}; pass what tr.trace(model, x, loss=...) returns"
            )
    joined, parameters, differences = _join(a, b)
    identical = not differences
    value_difference = grad_difference = float("nan")
    if identical:
        value_difference = _largest([_distance(a.values[i], b.values[j]) for i, j in joined.items()])
        gaps = [_distance(a.grads[i], b.grads[j]) for i, j in joined.items()]
        grad_difference = _largest(gaps + [_distance(a.grads[i], _summed(b, js)) for i, js in parameters.items()])
    return SameGraph(
        identical=identical,
        difference=None if identical else min(differences)[1],
        nodes=(_size(a), _size(b)),
        edges=(len(a.edges), len(b.edges)),
        parameters={a.names[i]: [b.names[j] for j in sorted(js)] for i, js in sorted(parameters.items())},
        addresses_agree=all(a.addresses[i] == b.addresses[j] for i, j in joined.items()),
        value_difference=value_difference,
        grad_difference=grad_difference,
    )


def _size(graph: Graph) -> int:
    return sum(role != "parameter" for role in graph.roles)


def _join(a: Graph, b: Graph) -> tuple[dict[int, int], dict[int, dict[int, None]], list[tuple[int, str]]]:
    """The node of b that stands where each node of a does, the parameters of b in the places of each parameter of a, and the
    differences met, each with its position in a."""
    ends_a, ends_b = ([i for i in range(len(g)) if g.roles[i] == "op" and not g.outputs_of[i]] for g in (a, b))
    differences: list[tuple[int, str]] = []
    if len(ends_a) != len(ends_b):
        differences.append((len(a), f"the first graph has {len(ends_a)} final nodes, the second {len(ends_b)}"))
    # from the last on, so that graphs of different length are laid end to end
    todo = [(a.root, b.root), *zip(reversed(ends_a), reversed(ends_b), strict=False)]
    joined: dict[int, int] = {}
    taken: set[int] = set()  # nodes of b that have a partner
    parameters: dict[int, dict[int, None]] = {}
    while todo:
        i, j = todo.pop()
        if a.roles[i] == b.roles[j] == "parameter":
            parameters.setdefault(i, {})[j] = None
            if a.values[i].shape != b.values[j].shape:
                differences.append((i, _differ(a, b, i, j, "shape", a.values[i].shape, b.values[j].shape)))
            continue
        if i in joined or j in taken:
            if joined.get(i) != j:
                label = NodeView(a, i).label
                differences.append((i, f"{label} is one node here and several in the other graph, or the reverse"))
            continue
        joined[i] = j
        taken.add(j)
        wrong = _first_disagreement(a, b, i, j)
        if wrong:
            differences.append((i, wrong))
        if len(a.inputs_of[i]) == len(b.inputs_of[j]):  # go on behind a difference: an earlier one tells more
            todo += zip(a.inputs_of[i], b.inputs_of[j], strict=True)
    claimed: dict[int, int] = {}
    for i, js in parameters.items():
        for j in js:
            if claimed.setdefault(j, i) != i:
                both = f"{NodeView(a, i).name} and {NodeView(a, claimed[j]).name}"
                differences.append((i, f"{NodeView(b, j).name} stands for both {both}"))
    alone = _size(a) - len(joined), _size(b) - len(joined)
    if not differences and any(alone):
        differences.append((len(a), f"{alone[0]} nodes of the first and {alone[1]} of the second have no partner"))
    return joined, parameters, differences


def _differ(a: Graph, b: Graph, i: int, j: int, what: str, x: Any, y: Any) -> str:
    return f"{NodeView(a, i).label} against {NodeView(b, j).label}: {what} {short(x)} against {short(y)}"


def _first_disagreement(a: Graph, b: Graph, i: int, j: int) -> str | None:
    """How two joined nodes differ, or None."""
    x, y = NodeView(a, i), NodeView(b, j)
    for what, p, q in (
        ("op", x.op, y.op),
        ("role", x.role, y.role),
        ("shape", x.shape, y.shape),
        ("dtype", x.value.dtype, y.value.dtype),
        ("number of inputs", len(a.inputs_of[i]), len(b.inputs_of[j])),
    ):
        if p != q:
            return _differ(a, b, i, j, what, p, q)
    if x.op and (
        x.params.keys() != y.params.keys()
        or not all(
            np.array_equal(x.params[k], y.params[k]) if isinstance(x.params[k], np.ndarray) else x.params[k] == y.params[k]
            for k in x.params
        )
    ):
        return _differ(a, b, i, j, "params", x.params, y.params)
    return None


def _summed(graph: Graph, positions: Iterable[int]) -> np.ndarray | None:
    """Sum of the cotangents, in the order in which the backward pass would have added them: last use first."""
    order = sorted(positions, key=lambda i: -max(graph.outputs_of[i]))
    total: Any = graph.grads[order[0]]
    for i in order[1:]:
        g = graph.grads[i]
        if total is None or g is None:
            return None
        total = total + g
    return total


def _distance(x: np.ndarray | None, y: np.ndarray | None) -> float:
    if x is None or y is None:
        return 0.0 if x is None and y is None else float("inf")
    with np.errstate(invalid="ignore"):
        gap = np.asarray(np.abs(x - y))
    gap[(x == y) | (np.isnan(x) & np.isnan(y))] = 0  # equal infinities, and NaN on both sides
    return float(np.max(gap, initial=0))


def _largest(distances: list[float]) -> float:
    return max(distances, default=0.0) if not any(d != d for d in distances) else float("inf")
