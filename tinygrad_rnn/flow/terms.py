"""A parameter's gradient, taken apart: one summand for each use of it, gathered by time step (or layer)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np

from ..graph import Graph


@dataclass(frozen=True, eq=False)
class GradTerms:
    """The summands of dL/dW by step: G_t, whose sum is the gradient.

    A parameter that is used through a mask, an absolute value or any other function (Dale's law, weight norm) has one term a
    step too, not one in all: those of the array that the steps use, pulled back to the parameter.

    name    the parameter
    steps   (n,) the step of each summand, rising; -1 for uses outside any step
    norms   (n,) Frobenius norms |G_t|, computed without forming G_t where the use is a linear layer
    shares  (n,) <G_t, G> / <G, G>: the part of the gradient that the step contributes; they sum to 1
    lags    (n,) how many steps before the last one that contributes; -1 for uses outside any step
    total   the gradient itself

    len(), iteration, terms[i] and np.asarray(terms) give the summands themselves, (n, *W.shape)."""

    name: str
    steps: np.ndarray
    norms: np.ndarray
    shares: np.ndarray
    total: np.ndarray
    _graph: Graph
    _uses: tuple[tuple[tuple[int, int], ...], ...]  # for each step, its (node, input slot) pairs
    _way: frozenset[int]  # the parameter, and what is made from it before the uses

    @property
    def lags(self) -> np.ndarray:
        last = self.steps[self.norms > 0].max(initial=-1)
        return np.where(self.steps < 0, -1, (last if last >= 0 else self.steps.max(initial=0)) - self.steps)

    def __len__(self) -> int:
        return len(self.steps)

    def __getitem__(self, i: int) -> np.ndarray:
        """G of steps[i], in the dtype of the parameter, from the rule that made the gradient."""
        return _summed([_term(self._graph, *use, self._way) for use in reversed(self._uses[i])], self.total)

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        out = np.stack(list(self)) if len(self) else np.zeros((0, *self.total.shape), self.total.dtype)
        return out if dtype is None else out.astype(dtype)

    def sum(self) -> np.ndarray:
        """All summands added, the last step's first, as the backward pass adds them."""
        return _summed([self[i] for i in reversed(range(len(self)))], self.total)

    def horizon(self, eps: float | None = None) -> int:
        """The largest lag whose summand changes the sum: without the terms beyond it, every entry is the same. -1 where the
        gradient is 0.

        The summands are added in the dtype of the parameter, the last step's first, as the backward pass adds them.

        eps   asks for another quantity, by norms alone: the largest lag whose summand exceeds eps |G|. Small entries of G still
              change beyond it, so no eps stands for the rounding of a dtype"""
        if eps is None:
            return self._last_change
        above = self.norms > eps * np.linalg.norm(self.total.astype(np.float64))
        return int(self.lags[above].max(initial=-1))

    @cached_property
    def _last_change(self) -> int:
        lags, found = self.lags, -1
        sum_so_far = np.zeros_like(self.total)
        for i in reversed(range(len(self))):
            if lags[i] < 0 or self.norms[i] == 0:
                continue
            longer = sum_so_far + self[i]
            if not np.array_equal(longer, sum_so_far, equal_nan=True):
                found = max(found, int(lags[i]))
            sum_so_far = longer
        return found

    def __repr__(self) -> str:
        size = np.linalg.norm(self.total.astype(np.float64))
        return f"<GradTerms of {self.name}: {len(self)} steps, |sum| {size:.3e}, horizon {self.horizon()} steps>"


def grad_terms(graph: Graph, name: str, axis: str = "t") -> GradTerms:
    """The summands of the gradient of parameter `name`, gathered by the coordinate `axis`, "t" or "layer"."""
    if name not in graph.parameters:
        raise KeyError(f"no parameter is called {name!r}; this graph has {', '.join(graph.parameters) or 'none'}")
    view = graph.parameters[name]
    if view.grad is None:
        raise ValueError(f"the loss does not depend on {name!r}, so it has no gradient to take apart")
    by_step: dict[int, list[tuple[int, int]]] = {}
    found, way = _uses(graph, view.position, axis)
    for use in found:
        at = getattr(graph.addresses[use[0]], axis)
        by_step.setdefault(-1 if at is None else at, []).append(use)
    steps = sorted(by_step)
    uses = tuple(tuple(by_step[s]) for s in steps)
    total = view.grad
    squares = float(np.sum(np.square(total, dtype=np.float64)))
    norms, inner = [], []
    for step in uses:
        norm, dot = _norm_and_inner(graph, step, total, way)
        norms.append(norm)
        inner.append(dot)
    shares = np.array(inner) / squares if squares else np.zeros(len(steps))
    return GradTerms(name, np.array(steps, int), np.array(norms), shares, total, graph, uses, way)


def _uses(graph: Graph, position: int, axis: str) -> tuple[list[tuple[int, int]], frozenset[int]]:
    """(node, input slot) for every use of a parameter that carries gradient, and the positions of the parameter and of what is
    made from it on the way to these uses. A use through a view, or through what is made of parameters alone, counts as the
    uses of that."""
    made = _made_of_parameters(graph, axis)
    out, way, todo = [], {position}, [position]
    while todo:
        at = todo.pop()
        for user in graph.outputs_of[at]:
            if graph.grads[user] is None:
                continue
            if user != graph.root and (made[user] or graph.kind(user) == "view"):
                if user not in way:
                    way.add(user)
                    todo.append(user)
            else:
                out += [(user, slot) for slot, j in enumerate(graph.inputs_of[user]) if j == at]
    return sorted(out), frozenset(way)


def _made_of_parameters(graph: Graph, axis: str) -> list[bool]:
    """Whether each node is a parameter, or is made of parameters and constants alone, outside any step.

    What may be data ends this: the index of a lookup (embedding, take), a constant in a product with a matrix, and one that
    makes an array larger."""
    made = [role == "parameter" for role in graph.roles]
    constant = [role == "constant" for role in graph.roles]
    for i, op in enumerate(graph.ops):
        if op is None or getattr(graph.addresses[i], axis) is not None:
            continue
        inputs = graph.inputs_of[i]
        parts = [graph.shape(j) for j in inputs if made[j]]
        if not all(made[j] or constant[j] for j in inputs):
            continue
        if not parts:
            constant[i] = True
        elif op.scatter is None or op.kind == "view":
            larger = prod(graph.shape(i)) > max(map(prod, parts))
            made[i] = len(parts) == len(inputs) or not (larger or op.kind == "weights")
    return made


def _term(graph: Graph, user: int, slot: int, way: frozenset[int]) -> np.ndarray:
    """What one use adds to the gradient of the parameter, pulled back through what lies between them."""
    g: np.ndarray = graph.grads[user]  # type: ignore[assignment]  # uses without gradient are no terms
    inputs = graph.inputs_of[user]
    met = {inputs[slot]: graph.vjp(user, g, tuple(s == slot for s in range(len(inputs))), exactly=False)[slot]}
    while graph.ops[at := max(met)] is not None:
        inputs = graph.inputs_of[at]
        parts = graph.vjp(at, met.pop(at), tuple(j in way for j in inputs), exactly=False)
        for j, gx in zip(inputs, parts, strict=True):
            if gx is not None:
                met[j] = met[j] + gx if j in met else gx
    return met[at]


def _norm_and_inner(
    graph: Graph, uses: tuple[tuple[int, int], ...], total: np.ndarray, way: frozenset[int]
) -> tuple[float, float]:
    """|G| and <G, total> of one step. For a single linear(x, W) with rows d_b of the cotangent and x_b of the input,
    G = sum_b d_b x_b^T, so |G|^2 = sum over b, c of <d_b, d_c> <x_b, x_c> and <G, total> = sum_b d_b^T total x_b:
    no product of the size of W is formed."""
    if len(uses) == 1:
        (user, slot) = uses[0]
        op = graph.ops[user]
        if op is not None and op.name == "linear" and slot == 1 and graph.roles[graph.inputs_of[user][1]] == "parameter":
            x = graph.residuals(user)[0].reshape(-1, total.shape[1]).astype(np.float64)
            d = graph.grads[user].reshape(-1, total.shape[0]).astype(np.float64)  # type: ignore[union-attr]
            if len(x) <= min(total.shape):
                scale = np.abs(d).max(initial=0) or 1.0  # so that squares of tiny cotangents do not underflow
                squares = np.sum((d / scale @ d.T / scale) * (x @ x.T)) if len(x) else 0.0
                return float(np.sqrt(max(squares, 0.0)) * scale), float(np.sum((d @ total) * x))
    term = _summed([_term(graph, *use, way) for use in reversed(uses)], total).astype(np.float64)
    return float(np.linalg.norm(term)), float(np.sum(term * total))


def _summed(terms: list[np.ndarray], like: np.ndarray) -> np.ndarray:
    out = np.zeros_like(like)
    for i, term in enumerate(terms):
        out = term.copy() if i == 0 else out + term
    return out
