"""trace(): run a model once, forward and backward, and keep everything as a graph that answers questions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..graph import Graph
from ..tape import Node, Tape, checked_seed, grad_mode, sweep
from ..tensor import ShapeError, Tensor
from ..writes import owner
from .copies import Call, remembered
from .gain import Gain
from .gain import gain as gain_of
from .log_norms import log_norms as log_norms_of
from .pullback import jacobian as jacobian_of
from .steps import Axis, checked_axis
from .terms import GradTerms
from .terms import grad_terms as grad_terms_of
from .verdict import Verdict
from .verdict import why as why_of
from .what_if import WhatIf, advice_for
from .what_if import remedies as remedies_of
from .what_if import what_if as what_if_of


class Trace(Graph):
    """A graph with its backward pass, which says where the gradient went. Made by `trace`.

    `output` is what the model returned, as recorded."""

    output: Any
    _call: Call | None = None
    _log_norms: tuple[Any, np.ndarray] | None = None

    def grad_terms(self, name: str, axis: Axis = "t") -> GradTerms:
        """dL/dW of parameter `name` by time step (or layer): norms, shares, and the terms themselves, whose sum is its grad."""
        checked_axis(axis)
        return grad_terms_of(self, name, axis)

    def jacobian(self, of: Any, wrt: Any) -> np.ndarray:
        """Exact d(of)/d(wrt) in float64, of.shape + wrt.shape; nodes or keys: graph.jacobian((0, -1, "h"), (0, 0, "h")). States
        (B, H) give (B, H, B, H), zero between different sequences: j[b, :, b] is the Jacobian of sequence b.

        A list of nodes or keys counts as one state, its entries side by side: graph.jacobian([(0, 9, "h"), (0, 9, "c")], [(0,
        0, "h"), (0, 0, "c")]) is that of an LSTM, (B, 2 H, B, 2 H).

        Zero where `of` does not depend on `wrt`. Costs one pullback for each entry of `of`."""
        return jacobian_of(self, *([self.view(k).position for k in (x if isinstance(x, list) else [x])] for x in (of, wrt)))

    def gain(self, of: Any = None, axis: Axis | None = None) -> Gain:
        """The signal from `of` (the loss) by lag, and the split of its decay into saturation and weights. See Gain."""
        return gain_of(self, None if of is None else self.view(of).position, axis)

    def log_norms(self) -> np.ndarray:
        """(len(self),) log |dL/dnode| of every node by position, in float64, followed below and above the range of the dtype
        that was recorded; -inf where no gradient arrives. Read-only, and computed once. See flow/log_norms.py."""
        if self._log_norms is None or self._log_norms[0] != self.version:
            norms = log_norms_of(self)
            norms.setflags(write=False)
            self._log_norms = self.version, norms
        return self._log_norms[1]

    def log_norm(self, position: int) -> float:
        return float(self.log_norms()[position])

    @property
    def version(self) -> Any:
        """A number that is another one when the values of the graph are: those of a trace stay."""
        return 0

    def horizon(self, name: str, eps: float | None = None) -> int:
        """The largest lag whose term changes an entry of dL/dW; with eps, whose norm exceeds eps |dL/dW|. See GradTerms."""
        return self.grad_terms(name).horizon(eps)

    def why(self, axis: Axis | None = None, advice: bool = True) -> Verdict:
        """Vanishing, healthy or exploding, with cause, place, numbers, and what helped. See Verdict.

        advice   try remedies on copies of the model with the same batch, where the graph came from `trace` and the net is sick;
                 each costs a trace"""
        return why_of(self, axis, self._advice if advice else None)

    def what_if(self, change: Any, train: Callable[[Any], Sequence[float]] | None = None) -> WhatIf:
        """The same batch through a changed copy of the model, which has the weights of the trace: gradient and loss before and
        after. The model itself is not touched.

        change   the name of a remedy (`remedies()` lists those that this net can have), or a function that is given the copy,
                 and changes it in place or returns another model
        train    train(model) -> losses: what training does, to a copy without the change and to one with it

        Raises ValueError for a remedy that this net cannot have, and where there is no model to copy: in a compiled graph, or
        where the traced function refers to no Module that holds its parameters."""
        return what_if_of(self, self._call, trace, change, train)

    def remedies(self) -> list[str]:
        """The names of the remedies that this net can have, which `what_if` takes and `why` tries."""
        if self._call is None:
            return []
        return [remedy.name for remedy in remedies_of(self, self._call, why_of(self))]

    def _advice(self, graph: Graph, verdict: Verdict) -> tuple[str, tuple]:
        if verdict.where == "one layer":  # lost on its way down, whatever happens in time
            verdict = why_of(self, "layer")
        return advice_for(self, self._call, trace, verdict)


def trace(model: Callable[..., Any], *inputs: Any, loss: Callable[..., Tensor] | None = None, target: Any = None) -> Trace:
    """Run `model(*inputs)`, its loss and the backward pass, and return the graph with every value and cotangent kept.

    model    a Module, or any function of tensors
    inputs   tensors or arrays; floating ones are recorded as inputs "x" ("x1", ... for the next) with a gradient of their own;
             integer arrays (indices) are passed on as they are
    loss     loss(output), or loss(output, target) when a target is given, returning a scalar. Where the model returns a
             tuple, as RNN does, it gets the first entry. May be left out where the output itself is a scalar

    The graph is a snapshot: later training does not change it, and neither the model nor its `.grad` are touched, apart from
    buffers that its forward pass updates (BatchNorm1d in training mode) and generators. Leaves that want a gradient are
    parameters, named as the model names them or by their own `name`. Raises ShapeError where the loss is not a scalar,
    RuntimeError where it depends on nothing differentiable."""
    names = {p.index: name for name, p in model.named_parameters()} if hasattr(model, "named_parameters") else {}
    leaves: list[Any] = []
    for i, x in enumerate(inputs):
        leaves.append(_leaf(x, f"x{i}" if i else "x", {leaf.name for leaf in leaves if isinstance(leaf, Tensor)}))
    call = remembered(model, tuple(x.value.copy() if isinstance(x, Tensor) else x for x in leaves), loss, target)
    with Tape() as tape, grad_mode(True):
        output = model(*leaves)
        root = output[0] if isinstance(output, tuple) and loss is not None else output
        if loss is not None:
            root = loss(root) if target is None else loss(root, target)
    if not isinstance(root, Tensor):
        raise TypeError(
            f"trace: the loss must be a Tensor, got {type(root).__name__}; pass loss=, for example "
            "loss=lambda output: output[-1].sum()"
        )
    if root.size != 1:
        raise ShapeError(
            f"trace: the loss must be a scalar, got shape {root.shape}; pass loss=, for example "
            "loss=lambda output: output[-1].sum()"
        )
    if root.op is not None and not root.kept:
        raise ValueError(
            "trace: the loss was computed before the trace began; compute it inside the model or the loss function"
        )
    _, cotangents = sweep(root, checked_seed(root, None), retain=True, every=True)
    copies = _detach_from_leaves(tape.nodes)
    graph = Trace(tape.nodes, root, cotangents, names, {x.index: str(x.name) for x in leaves if isinstance(x, Tensor)})
    graph.share(copies)
    graph.output, graph._call = output, call
    return graph


def _detach_from_leaves(nodes: list[Node]) -> list[np.ndarray]:
    """Give what the nodes saved for their vjp copies of the leaves' memory, so that training in place leaves the graph as it
    was, and return the copies. (The graph copies the values.)"""
    leaves = {id(owner(x.value)) for node in nodes for x in node.inputs if not x.kept}
    copies: dict[int, np.ndarray] = {}

    def detached(residual: Any) -> Any:
        if not isinstance(residual, np.ndarray) or id(owner(residual)) not in leaves:
            return residual
        return copies.setdefault(id(residual), residual.copy())

    for node in nodes:
        if node.residuals:
            node.residuals = tuple([detached(r) for r in node.residuals])
    return list(copies.values())


def _leaf(x: Any, name: str, taken: set[str | None]) -> Any:
    """A copy of an input: floating ones as leaves that want a gradient, other arrays as they are, anything else itself."""
    if isinstance(x, Tensor):
        own = x.name if x.name and x.name not in taken else name
        return Tensor(x.value.copy(), requires_grad=True, name=own)
    if isinstance(x, np.ndarray):
        return Tensor(x.copy(), requires_grad=True, name=name) if x.dtype.kind == "f" else x.copy()
    return x
