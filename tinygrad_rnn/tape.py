"""The tape: what was computed, from what, where in layer and time, and the reversed walk that differentiates it.

A `Node` is one value: either a leaf (no op) or the application of an op to other nodes. Nodes refer to their inputs
only, so a graph that nobody refers to is freed at once. Every node carries an index that grows with time, which makes
any set of nodes topologically ordered by it: backward visits nodes by falling index and needs no recursion.

This room knows no op and no layer.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextvars import ContextVar
from heapq import heappop, heappush
from operator import index as as_int
from typing import Any, NamedTuple

import numpy as np

from . import writes
from .backends import BACKENDS, default, missing
from .ops.op import Op, ShapeError
from .writes import indices, written_since


class Address(NamedTuple):
    """Where a node was recorded: `layer` (depth) and `t` (time step), None where no scope said."""

    layer: int | None = None
    t: int | None = None

    def __str__(self) -> str:
        return ", ".join(f"{k}={v}" for k, v in zip(self._fields, self, strict=True) if v is not None) or "no address"


NOWHERE = Address()


class _State(NamedTuple):
    """What recording depends on. Each change makes another one, in a context variable: threads do not see each other's, and
    tasks of asyncio go on from the one they were made in."""

    backend: Any
    tape: Tape | None
    grad_enabled: bool
    address: Address


_NO_PARAMS: dict[str, Any] = {}
_START = _State(default, None, True, NOWHERE)
_variable: ContextVar[_State] = ContextVar("tinygrad_rnn", default=_START)
_state = _variable.get
_filled: Any = tuple.__new__
_ONE: tuple[tuple[bool, ...], ...] = ((False,), (True,))
_new = object.__new__


class Node:
    """One value of a graph.

    value          the numpy array
    grad           its cotangent, once a backward pass has been here (leaves; on a `Tape`, every node), else None
    op             the op that made it; None for a leaf
    inputs         the nodes it was made from
    residuals      what the op saved for its vjp; None once a backward pass has freed it
    params         the op's static keywords
    needs          which inputs want a cotangent
    requires_grad  whether a cotangent is wanted here
    index          position in time; inputs always have smaller ones
    address        where it was recorded
    name           an optional label, "h" or "weight_hh_l0"
    kept           recorded on a `Tape`: a backward pass leaves its residuals
    """

    __slots__ = (
        "value",
        "grad",
        "op",
        "inputs",
        "residuals",
        "params",
        "needs",
        "requires_grad",
        "index",
        "address",
        "name",
        "kept",
        "__weakref__",
    )

    value: np.ndarray
    grad: np.ndarray | None
    op: Op | None
    inputs: tuple[Node, ...]
    residuals: tuple | None
    params: dict[str, Any]
    needs: tuple[bool, ...]
    requires_grad: bool
    index: int
    address: Address
    name: str | None
    kept: bool

    def __init__(self, value: np.ndarray, requires_grad: bool = False, name: str | None = None) -> None:
        self.value = value
        self.grad = None
        self.op = None
        self.inputs = ()
        self.residuals = ()
        self.params = _NO_PARAMS
        self.needs = ()
        self.requires_grad = requires_grad
        self.index = next(indices)
        self.address = NOWHERE
        self.name = name
        self.kept = False

    def __reduce__(self) -> tuple:
        # a copy is another node: it needs an index of its own, which is what the walk knows nodes by
        if self.op is not None:
            raise TypeError(f"only leaves can be copied or pickled, not the result of {self.op.name!r}; use .detach() first")
        return _restored, (type(self), self.value, self.grad, self.requires_grad, self.name)


def _restored(cls: type[Node], value: np.ndarray, grad: np.ndarray | None, requires_grad: bool, name: str | None) -> Node:
    node = _new(cls)
    Node.__init__(node, value, requires_grad, name)
    node.grad = grad
    return node


def record(cls: type[Node], op: Op, inputs: tuple[Node, ...], params: dict[str, Any] = _NO_PARAMS) -> Any:
    """Apply `op` and return the result as a new node of type `cls`.

    Raises ShapeError or TypeError naming the op, the shapes and the address when the inputs do not fit."""
    k, tape, grad_enabled, address = _state()
    try:  # one and two inputs and no params are spelled out: a comprehension, * and ** cost as much as a small kernel
        if len(inputs) == 1:
            (x,) = inputs
            wanted = x.requires_grad
            needs = _ONE[wanted]
            value, residuals = op.forward(k, x.value, **params) if params else op.forward(k, x.value)
        elif len(inputs) == 2:
            x, y = inputs
            needs = x.requires_grad, y.requires_grad
            wanted = needs[0] or needs[1]
            value, residuals = op.forward(k, x.value, y.value, **params) if params else op.forward(k, x.value, y.value)
        else:
            needs = tuple([x.requires_grad for x in inputs])
            wanted = True in needs
            value, residuals = op.forward(k, *[x.value for x in inputs], **params)
    except (TypeError, ValueError, IndexError) as error:
        raise _explained(error, op, inputs, params, address) from None
    node = _new(cls)
    node.value = value
    node.grad = node.name = None
    node.index = next(indices)
    node.address = address
    node.requires_grad = wanted = wanted and grad_enabled
    node.kept = tape is not None
    if wanted or tape is not None:
        node.op = op
        node.inputs = inputs
        node.residuals = residuals
        node.params = params
        node.needs = needs
        if tape is not None:
            tape.nodes.append(node)
    else:
        node.op = None
        node.inputs = node.residuals = node.needs = ()
        node.params = _NO_PARAMS
    return node


def _explained(error: Exception, op: Op, inputs: tuple[Node, ...], params: dict[str, Any], address: Address) -> Exception:
    """The error of a rule, told in terms of the op, what it was given and where."""
    place = "" if address == NOWHERE else f", at {address}"
    given = ", ".join(f"{x.value.dtype} {x.value.shape}" + (f" {x.name!r}" if x.name else "") for x in inputs)
    if len({x.value.dtype for x in inputs}) > 1:
        return TypeError(
            f"{op.name}: dtypes do not mix; got {given}{place}. Convert one input first: nothing is cast silently."
        )
    try:
        op.shape(*[x.value.shape for x in inputs], **params)
    except (ValueError, IndexError) as reason:
        return type(reason)(f"{reason}{place}")
    message = str(error) if str(error).startswith(f"{op.name}:") else f"{op.name}: {error}"
    return type(error)(f"{message}; got {given}{place}")


def _refuse_overwritten(node: Node, name: str, residuals: tuple) -> None:
    """Raise where a residual of the node was written to after it was recorded."""
    for x in residuals:
        if isinstance(x, np.ndarray) and written_since(x, node.index):
            raise RuntimeError(
                f"backward reached {name!r} at {node.address}, which saved an array of shape {x.shape} "
                "that was written to in place afterwards (t[...] = value, an optimizer's step, load_state_dict). "
                "Write before recording, or after backward()"
            )


def sweep(
    root: Node, seed: np.ndarray, retain: bool = False, every: bool = False
) -> tuple[dict[int, Node], dict[int, np.ndarray]]:
    """Walk back from `root` by falling index and return the reached leaves, and cotangents, both by node index.

    seed     cotangent of root, shape and dtype of root.value
    retain   keep the residuals, so that the graph can be walked again
    every    return the cotangents of inner nodes as well

    Cotangents must not be written to: a rule may hand the same array to several inputs. Raises RuntimeError where an
    earlier walk has freed the graph, and where what a node saved has been written to."""
    k = _state().backend
    last_write = writes.last
    met = {root.index: (root, seed)}  # nodes not yet visited with what reached them so far; at the end, the leaves
    visited: dict[int, np.ndarray] = {}
    owned: set[int] = set()  # indices whose array was made here, so that it may be added to in place
    heap = [] if root.op is None else [-root.index]
    while heap:
        i = -heappop(heap)
        node, g = met.pop(i)
        op: Any = node.op
        residuals = node.residuals
        if residuals is None:
            raise RuntimeError(
                f"backward reached {op.name!r} at {node.address} a second time, after its residuals were freed; "
                "call backward(retain_graph=True) the first time, or record on a Tape"
            )
        if i < last_write:
            _refuse_overwritten(node, op.name, residuals)
        if every:
            visited[i] = g
        inputs = node.inputs
        params = node.params
        if op.scatter is not None:
            x = inputs[0]
            j = x.index
            if j not in owned:
                owned.add(j)
                if j in met:
                    met[j] = x, k.copy(met[j][1])
                else:
                    met[j] = x, k.zeros(x.value.shape, g.dtype)
                    if x.op is not None:
                        heappush(heap, -j)
            op.scatter(k, met[j][1], g, *residuals, **params)
        else:
            if params:
                parts = op.vjp(k, g, *residuals, node.needs, **params)
            elif len(residuals) == 1:  # spelled out, as in record
                parts = op.vjp(k, g, residuals[0], node.needs)
            elif len(residuals) == 2:
                parts = op.vjp(k, g, residuals[0], residuals[1], node.needs)
            else:
                parts = op.vjp(k, g, *residuals, node.needs)
            n = 0  # counted by hand: zip costs as much as a small kernel
            for gx in parts:
                x = inputs[n]
                n += 1
                if gx is None:
                    continue
                j = x.index
                have = met.get(j)
                if have is None:
                    met[j] = x, gx
                    if x.op is not None:
                        heappush(heap, -j)
                elif j in owned:
                    k.accumulate(have[1], gx)
                else:
                    met[j] = x, k.add(have[1], gx)
                    owned.add(j)
            parts = gx = None  # or they would live through the next rule
        if not (retain or node.kept):
            node.residuals = None
            node.inputs = ()
    return {i: x for i, (x, _) in met.items()}, visited | {i: g for i, (_, g) in met.items()}


def backward(root: Node, cotangent: np.ndarray | None = None, retain_graph: bool = False) -> None:
    """Add d(root)/d(leaf) to `.grad` of every leaf that requires it; on a `Tape`, set `.grad` of every node."""
    k, tape, _, _ = _state()
    nodes, cotangents = sweep(root, checked_seed(root, cotangent), retain_graph, tape is not None)
    for i, leaf in nodes.items():
        g = cotangents[i]
        # a leaf owns its gradient: the array of the walk may be shared with other nodes, or be a view
        if leaf.grad is None:
            leaf.grad = k.copy(g)
        else:
            k.accumulate(leaf.grad, g)
    if tape is not None:
        tape.root, tape.cotangents = root, cotangents
        for node in tape.nodes:
            node.grad = cotangents.get(node.index)


def forget_gradients(leaves: Iterable[Node]) -> None:
    """Set `.grad` of the leaves to None, so that the next backward pass starts their sums anew."""
    note = getattr(_state().backend, "forget", None)  # a capture has to know
    for leaf in leaves:
        if note is not None:
            note(leaf)
        leaf.grad = None


def note_mode(owner: Any, mode: bool | None) -> None:
    """Say that the mode of an object was looked up, or, with None, that it is about to be set: a capture has to know."""
    note = getattr(_state().backend, "look_up", None)
    if note is not None:
        note(owner, mode)


def note_update(leaves: Iterable[Node]) -> None:
    """Say that an update looks at the gradients of leaves, and perhaps writes to their values: a capture has to know."""
    if capturing():
        _state().backend.update(leaves)


def capturing() -> bool:
    """Whether kernel calls are written down here, for a compiled function."""
    return hasattr(_state().backend, "forget")


def refuse_in_capture(what: str, node: Node) -> None:
    """Raise where a capture is running and `node` is a value of it: what Python does with the number would not be repeated."""
    if capturing() and (node.op is not None or node.requires_grad):
        raise CaptureError(
            f"{what} inside a compiled function: its later calls repeat the kernels of this one, not the Python that would see "
            "the number. Return the tensor and look at it (log it, too) outside, or leave this function uncompiled"
        )


class CaptureError(RuntimeError):
    """A compiled function does what cannot be repeated without Python."""


def checked_seed(root: Node, cotangent: Any) -> np.ndarray:
    """The initial cotangent of `root` as an array; 1 for a scalar when None is given. Raises on the wrong shape or dtype."""
    if not root.requires_grad:
        raise RuntimeError(
            "backward: nothing that this value was made from requires a gradient (requires_grad=True), or a compiled function "
            "returned it: its results have no graph, so call backward inside"
        )
    if cotangent is None:
        if root.value.size != 1:
            raise ShapeError(
                f"backward: the value has shape {root.value.shape}; only a scalar needs no cotangent, so pass one of that shape"
            )
        return np.ones(root.value.shape, root.value.dtype)
    seed = np.asarray(cotangent, root.value.dtype if isinstance(cotangent, (int, float)) else None)
    if seed.shape != root.value.shape:
        raise ShapeError(f"backward: expected a cotangent of shape {root.value.shape}, got {seed.shape}")
    if seed.dtype != root.value.dtype:
        raise TypeError(f"backward: expected a cotangent of dtype {root.value.dtype}, got {seed.dtype}")
    return seed


class Tape:
    """`with Tape() as tape:` keeps every node recorded inside, in order, whether a gradient is wanted or not.

    A backward pass inside leaves the graph whole and every node's `.grad` set. Tapes nest: the inner one records.

    root, cotangents   where the last backward pass inside started, and the cotangents of all it met, by node index"""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.root: Node | None = None
        self.cotangents: dict[int, np.ndarray] = {}
        self._outer: list[Tape | None] = []

    def __enter__(self) -> Tape:
        if capturing():
            raise CaptureError("a Tape, or a trace, inside a compiled function, whose own graph keeps every node already")
        state = _state()
        self._outer.append(state.tape)
        _variable.set(state._replace(tape=self))
        return self

    def __exit__(self, *exc: object) -> None:
        _variable.set(_state()._replace(tape=self._outer.pop()))

    def __len__(self) -> int:
        return len(self.nodes)

    def __repr__(self) -> str:
        return f"<Tape of {len(self.nodes)} nodes>"


class scope:
    """`with scope(layer=l, t=t):` gives every node recorded inside these coordinates. Scopes nest; an inner one keeps the
    coordinates it does not name."""

    __slots__ = ("_address", "_outer")

    def __init__(self, layer: int | None = None, t: int | None = None) -> None:
        self._address = (layer if layer is None else as_int(layer), t if t is None else as_int(t))
        self._outer: Any = None  # (the state inside, the one outside, the same of an outer use of this scope)

    def __enter__(self) -> None:
        state = _state()
        backend, tape, grad_enabled, outer = state
        layer, t = self._address
        # what Address(...) and _State(...) do, in half the time: this runs at every step of every layer
        address = _filled(Address, (outer[0] if layer is None else layer, outer[1] if t is None else t))
        inner = _filled(_State, (backend, tape, grad_enabled, address))
        self._outer = inner, state, self._outer
        _variable.set(inner)

    def __exit__(self, *exc: object) -> None:
        inner, outer, self._outer = self._outer
        state = _state()
        _variable.set(outer if state is inner else state._replace(address=outer.address))


class grad_mode:
    """`with grad_mode(enabled):` says whether what is recorded inside may require a gradient. A `Tape` records it anyway."""

    __slots__ = ("_enabled", "_outer")

    def __init__(self, enabled: bool) -> None:
        self._enabled = enabled
        self._outer: list[bool] = []

    def __enter__(self) -> None:
        state = _state()
        self._outer.append(state.grad_enabled)
        _variable.set(state._replace(grad_enabled=self._enabled))

    def __exit__(self, *exc: object) -> None:
        _variable.set(_state()._replace(grad_enabled=self._outer.pop()))


def no_grad() -> grad_mode:
    """`with no_grad():` nothing recorded inside requires a gradient."""
    return grad_mode(False)


class use_backend:
    """`with use_backend("reference"):` runs every op, forward and backward, on the kernel backend of that name, or on the one
    given."""

    def __init__(self, backend: Any) -> None:
        if backend == "native" and missing:
            raise RuntimeError(f"the backend 'native' is not to be had: {missing}")
        if isinstance(backend, str) and backend not in BACKENDS:
            raise ValueError(f"unknown backend {backend!r}; expected one of {', '.join(BACKENDS)}")
        self._backend = BACKENDS[backend] if isinstance(backend, str) else backend
        self._outer: list[Any] = []

    def __enter__(self) -> None:
        state = _state()
        self._outer.append(state.backend)
        _variable.set(state._replace(backend=self._backend))

    def __exit__(self, *exc: object) -> None:
        _variable.set(_state()._replace(backend=self._outer.pop()))


def recording_mode() -> tuple[Any, Tape | None, bool]:
    """What is recorded with here: the kernel backend, the innermost tape, and whether gradients are wanted."""
    return _state()[:3]


def current_backend() -> Any:
    """The kernel backend that ops run on here."""
    return _state().backend
