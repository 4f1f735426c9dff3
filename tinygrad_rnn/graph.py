"""The tape read as a graph: nodes found by address, edges both ways, paths counted.

A `Graph` is a snapshot: it keeps the values and cotangents of one forward and backward pass, whatever becomes of the model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from operator import index as as_int
from typing import Any

import numpy as np

from .backends import default
from .ops import Op
from .tape import Address, Node
from .writes import owner


class NodeView:
    """One node of a graph.

    op        name of the op, None for a leaf (a parameter, an input, a constant)
    name      its label: a parameter's dotted name, or what the code that recorded it said ("h", "z", "x")
    address   (layer, t), as the scopes said; a parameter has t=None
    value     the numpy array; `grad` its cotangent, None where the loss does not depend on it differentiably
    inputs    the nodes it was made from; `outputs` those made from it
    params    the op's static keywords
    position  its place in the graph's topological order"""

    __slots__ = ("_graph", "position")

    def __init__(self, graph: Graph, position: int) -> None:
        self._graph, self.position = graph, position

    @property
    def _node(self) -> Node:
        return self._graph.records[self.position]

    @property
    def op(self) -> str | None:
        op = self._graph.ops[self.position]
        return op.name if op else None

    @property
    def name(self) -> str | None:
        return self._graph.names.get(self.position, self._node.name)

    @property
    def role(self) -> str:
        """ "op", "parameter", "input" or "constant"."""
        return self._graph.roles[self.position]

    @property
    def address(self) -> Address:
        return self._graph.addresses[self.position]

    @property
    def layer(self) -> int | None:
        return self.address.layer

    @property
    def t(self) -> int | None:
        return self.address.t

    @property
    def shape(self) -> tuple[int, ...]:
        return self._graph.shape(self.position)

    @property
    def value(self) -> np.ndarray:
        return self._graph.values[self.position]

    @property
    def grad(self) -> np.ndarray | None:
        return self._graph.grads[self.position]

    @property
    def params(self) -> dict[str, Any]:
        return self._node.params

    @property
    def inputs(self) -> Nodes:
        return Nodes(NodeView(self._graph, i) for i in self._graph.inputs_of[self.position])

    @property
    def outputs(self) -> Nodes:
        return Nodes(NodeView(self._graph, i) for i in self._graph.outputs_of[self.position])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, NodeView) and other._graph is self._graph and other.position == self.position

    def __hash__(self) -> int:
        return hash((id(self._graph), self.position))

    @property
    def label(self) -> str:
        """Op and name, with the address: what one line needs to say which node this is."""
        what = self.op or self.name or self.role
        named = f" {self.name!r}" if self.op and self.name else ""
        return f"{what}{named} [{self.address}]" if any(a is not None for a in self.address) else f"{what}{named}"

    def __repr__(self) -> str:
        return f"<{self.label} {self.shape}>"

    def __str__(self) -> str:
        lines = [f"{self.label}  {self.value.dtype} {self.shape}"]
        lines.append(f"  value   {_numbers(self.value)}")
        lines.append(f"  grad    {self._grad_text()}")
        if self.params:
            lines.append("  params  " + ", ".join(f"{k}={short(v)}" for k, v in self.params.items()))
        for title, nodes in (("inputs ", self.inputs), ("outputs", self.outputs)):
            if nodes:
                shown = ", ".join(n.label for n in nodes[:4])
                lines.append(f"  {title} {shown}" + (f", and {len(nodes) - 4} more" if len(nodes) > 4 else ""))
        return "\n".join(lines)

    def _grad_text(self) -> str:
        """The numbers of the recorded cotangent, or, where they left the range of its dtype, the logarithm of its norm."""
        g = self.grad
        if g is None:
            return "none"
        largest = np.abs(g).max(initial=0)
        if np.finfo(g.dtype).tiny <= largest < np.inf:
            return _numbers(g)
        log_norm = self._graph.log_norm(self.position)
        if log_norm is None or not np.isfinite(log_norm):
            return _numbers(g)
        if not np.isfinite(largest):
            return f"overflowed: not finite in {g.dtype}, log norm {log_norm:.1f} nats"
        which = "subnormal" if largest else "0"
        return f"underflowed: all {which} in {g.dtype}, log norm {log_norm:.1f} nats"


class Nodes(list):
    """A list of nodes; `.value` and `.grad` stack theirs along a new first axis."""

    @property
    def value(self) -> np.ndarray:
        return self._stacked("value")

    @property
    def grad(self) -> np.ndarray:
        return self._stacked("grad")

    def __getitem__(self, i: Any) -> Any:
        return Nodes(super().__getitem__(i)) if isinstance(i, slice) else super().__getitem__(i)

    def _stacked(self, what: str) -> np.ndarray:
        arrays = [getattr(n, what) for n in self]
        missing = [n.label for n, a in zip(self, arrays, strict=True) if a is None]
        if missing:
            raise ValueError(f"no {what} at {', '.join(missing[:3])}")
        if len({a.shape for a in arrays}) > 1:
            raise ValueError(f"these {len(self)} nodes differ in shape and do not stack: {sorted({a.shape for a in arrays})}")
        return np.stack(arrays)

    def __repr__(self) -> str:
        return "\n".join([f"{len(self)} nodes"] + [f"  {n.label}  {n.shape}" for n in self[:12]] + ["  ..."] * (len(self) > 12))


# coordinates asked for; None stands for all, also for that of nodes without one
_Wanted = Collection[int | None] | None


class _ByAddress:
    """Positions of nodes by address.

    positions   all of them, rising
    by_layer    those at one address, by layer and then by t; by_step: the same lists, by t and then by layer"""

    __slots__ = ("by_layer", "by_step", "positions")

    def __init__(self) -> None:
        self.positions: list[int] = []
        self.by_layer: dict[int | None, dict[int | None, list[int]]] = {}
        self.by_step: dict[int | None, dict[int | None, list[int]]] = {}

    def add(self, position: int, address: Address) -> None:
        self.positions.append(position)
        layer, t = address
        at = self.by_layer.setdefault(layer, {}).setdefault(t, [])
        at.append(position)
        self.by_step.setdefault(t, {})[layer] = at

    def at(self, layers: _Wanted, steps: _Wanted) -> list[int]:
        """The positions at the given coordinates, rising, at a cost that does not grow with those elsewhere."""
        if layers is None and steps is None:
            return self.positions
        first, second, rows = (self.by_step, None, steps) if layers is None else (self.by_layer, steps, layers)
        found = [row[c] for r in _common(rows, first) for row in (first[r],) for c in _common(second, row)]
        return sorted(i for at in found for i in at)


def _common(wanted: _Wanted, known: Collection[int | None]) -> Collection[int | None]:
    """The coordinates in both: the shorter one is gone through, the other is looked up."""
    if wanted is None:
        return known
    if len(wanted) <= len(known):
        return [c for c in wanted if c in known]
    return [c for c in known if c is not None and c in wanted]


def _wanted(key: Any, size: int) -> _Wanted:
    """The coordinates that one key of graph[layer, t, what] stands for on an axis of `size` coordinates."""
    if isinstance(key, slice):
        return None if key == slice(None) else range(*key.indices(size))
    if key is None:
        return (None,)
    at = as_int(key)
    return (at + size if at < 0 else at,)


class Graph:
    """Every node of one recorded computation, in topological order.

    graph[layer, t, what]   nodes at an address; `what` is an op ("tanh") or a name ("h"). Each of the three may be a
                            slice or be left out at the end; a plain `:` also takes nodes without that coordinate, None
                            takes only those. Negative numbers count from the last. One exact match is a NodeView,
                            anything else a Nodes list. Raises KeyError where nothing matches.
    graph["weight_hh_l0"]   a parameter or input by name, or all nodes of that op or name

    Analyses work on positions 0..len - 1 in these lists, one entry a node:

    records     the nodes of the tape; ops: their ops, None for a leaf
    inputs_of   positions of the inputs; outputs_of: of the nodes made from it
    values, grads, addresses, roles
    names       by position, of parameters and inputs; root: the position of the loss
    steps       number of time steps: the largest t, plus 1; layers: likewise
    cut         positions that were recorded where gradients were off: no signal passes behind them
    """

    def __init__(
        self,
        tape_nodes: Iterable[Node],
        root: Node,
        cotangents: Mapping[int, np.ndarray],
        parameter_names: Mapping[int, str],
        input_names: Mapping[int, str],
    ) -> None:
        self.records: list[Node] = []
        self.ops: list[Op | None] = []
        self.inputs_of: list[tuple[int, ...]] = []
        self.roles: list[str] = []
        self.names: dict[int, str] = {}
        self._position: dict[int, int] = {}
        taken: Counter[str] = Counter()  # names, and what comes before each # in them

        def place(node: Node, inputs: tuple[int, ...], role: str) -> None:
            self._position[node.index] = len(self.records)
            self.records.append(node)
            self.ops.append(node.op if role == "op" else None)
            self.inputs_of.append(inputs)
            self.roles.append(role)

        def place_leaf(x: Node) -> None:
            role = "input" if x.index in input_names else "parameter" if x.requires_grad else "constant"
            if role != "constant":
                given = input_names.get(x.index) or parameter_names.get(x.index) or x.name or "parameter"
                same = taken[given]
                name = self.names[len(self.records)] = f"{given}#{same + 1}" if same else given
                taken.update([name, *(name[:at] for at, c in enumerate(name) if c == "#")])
            place(x, (), role)

        for node in tape_nodes:
            for x in node.inputs:
                if x.index not in self._position:
                    place_leaf(x)
            place(node, tuple(self._position[x.index] for x in node.inputs), "op")
        if root.index not in self._position:
            place_leaf(root)
        self.root = self._position[root.index]
        self.outputs_of: list[list[int]] = [[] for _ in self.inputs_of]
        for i, of_one in enumerate(self.inputs_of):
            for j in dict.fromkeys(of_one):
                self.outputs_of[j].append(i)
        self.values = self._snapshot()
        self._single = any(n.value.dtype == np.float32 for n in self.records)
        self._shared: set[int] = set()  # ids of arrays that many nodes saved for their rules
        self._in_float64: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self.grads = [cotangents.get(n.index) for n in self.records]
        self.addresses = [n.address for n in self.records]
        for i, role in enumerate(self.roles):
            if role == "parameter":  # a parameter belongs to a layer if all its uses do, and to no time step
                layers = {self.addresses[j].layer for j in self.outputs_of[i]}
                self.addresses[i] = Address(layers.pop() if len(layers) == 1 else None, None)
        # where gradients were switched off (no_grad), no signal passes
        self.cut = {i for i, n in enumerate(self.records) if self.ops[i] and True in n.needs and not n.requires_grad}
        self.layers, self.steps = (max((c + 1 for a in self.addresses if (c := a[i]) is not None), default=0) for i in range(2))

    def _snapshot(self) -> list[np.ndarray]:
        """The values; those that live in a leaf's memory, which training writes to, as copies."""
        leaves = {id(owner(n.value)) for n, op in zip(self.records, self.ops, strict=True) if op is None}
        return [n.value.copy() if id(owner(n.value)) in leaves else n.value for n in self.records]

    def memory(self, position: int) -> Any:
        """What tells whether two nodes share their numbers: the memory in which the value lay when it was recorded."""
        value = self.records[position].value
        return value.__array_interface__["data"][0], value.shape, value.strides

    # ---- nodes

    @property
    def nodes(self) -> Nodes:
        """All nodes, inputs before what is made from them."""
        return Nodes(NodeView(self, i) for i in range(len(self)))

    @property
    def loss(self) -> NodeView:
        """The node that the backward pass started from."""
        return NodeView(self, self.root)

    @property
    def parameters(self) -> dict[str, NodeView]:
        """The parameters that were used, by name."""
        return {self.names[i]: NodeView(self, i) for i, role in enumerate(self.roles) if role == "parameter"}

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[NodeView]:
        return iter(self.nodes)

    @property
    def edges(self) -> list[tuple[NodeView, NodeView]]:
        """(from, to) for every use of a node as an input, in topological order of `to`."""
        return [(NodeView(self, j), NodeView(self, i)) for i, inputs in enumerate(self.inputs_of) for j in inputs]

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str):
            called = self._index.get(key)
            leaves = [i for i in called.positions if self.names.get(i) == key] if called else []
            if len(leaves) == 1:
                return NodeView(self, leaves[0])
            key = (slice(None), slice(None), key)
        key = key if isinstance(key, tuple) else (key,)
        if len(key) > 3:
            raise KeyError(f"graph[layer, t, what] takes at most three keys, got {len(key)}")
        exact = len(key) == 3 and isinstance(key[2], str) and not any(isinstance(k, slice) for k in key)
        layer, t, what = key + (slice(None),) * (3 - len(key))
        if not (what == slice(None) or isinstance(what, str)):
            raise KeyError(f"graph[layer, t, what]: `what` is the name of an op or a node, got {what!r}")
        for k in (layer, t):
            if not (k is None or isinstance(k, slice) or hasattr(k, "__index__")):
                raise KeyError(f"graph[layer, t, what]: layer and t are integers, slices or None, got {k!r}")
        called = self._index.get(what if isinstance(what, str) else None)
        found = called.at(_wanted(layer, self.layers), _wanted(t, self.steps)) if called else []
        if not found:
            raise KeyError(self._nothing_at(layer, t, what))
        return NodeView(self, found[0]) if exact and len(found) == 1 else Nodes(NodeView(self, i) for i in found)

    @cached_property
    def _index(self) -> dict[str | None, _ByAddress]:
        """By op and by name, and with None all of them: nodes by address. Made when a node is first asked for by key."""
        index: dict[str | None, _ByAddress] = {None: _ByAddress()}
        for i, (op, node, address) in enumerate(zip(self.ops, self.records, self.addresses, strict=True)):
            for key in {None, op.name if op else None, self.names.get(i, node.name)}:
                index.setdefault(key, _ByAddress()).add(i, address)
        return index

    def _nothing_at(self, layer: Any, t: Any, what: Any) -> str:
        known = sorted({v.op for v in self if v.op} | {v.name for v in self if v.name})
        if isinstance(what, str) and what not in known:
            return f"no node is called {what!r}; this graph has {', '.join(known)}"
        shown = f"graph[{layer!r}, {t!r}, {what!r}]".replace("slice(None, None, None)", ":")
        return (
            f"no node at {shown}; layers run over 0..{self.layers - 1} and steps over 0..{self.steps - 1}"
            if self.layers or self.steps
            else f"no node at {shown}; this graph was recorded without addresses"
        )

    def view(self, node: Any) -> NodeView:
        """The one node that `node` means: a NodeView of this graph, or a key of `graph[...]`."""
        if isinstance(node, NodeView):
            if node._graph is not self:
                raise ValueError(f"{node.label} belongs to another graph")
            return node
        found = self[node]
        if isinstance(found, NodeView):
            return found
        if len(found) == 1:
            return found[0]
        raise ValueError(f"{node!r} means {len(found)} nodes, expected one:\n{found!r}")

    def shape(self, position: int) -> tuple[int, ...]:
        """The shape of a node's value."""
        return self.values[position].shape

    def kind(self, position: int) -> str | None:
        """What the op at a position does to a signal (see ops.op.Kind); None for a leaf."""
        op = self.ops[position]
        return op.kind if op else None

    def vjp(self, position: int, g: np.ndarray, needs: tuple[bool, ...], exactly: bool = True) -> tuple[Any, ...]:
        """Cotangents of the inputs of a node, given its own; None where not needed. In float64, or, not `exactly`, in the
        precision of the pass that was recorded."""
        op, node = self.ops[position], self.records[position]
        if op is None:
            raise ValueError(f"{NodeView(self, position).label} has no rule to pull a cotangent back with")
        residuals = self.wide_residuals(position) if exactly else self.residuals(position)
        return op.vjp(default, g, *residuals, needs=needs, **node.params)

    def wide_residuals(self, position: int) -> tuple:
        """What the op at a position saved for its vjp, in float64."""
        residuals = self.residuals(position)
        return tuple([self._wide(r) for r in residuals]) if self._single else residuals

    def _wide(self, residual: Any) -> Any:
        """A residual in float64. Those of weights are kept: every step asks for them again."""
        if not (isinstance(residual, np.ndarray) and residual.dtype == np.float32):
            return residual
        if id(residual) not in self._shared:
            return residual.astype(np.float64)
        found = self._in_float64.get(id(residual))
        if found is None:
            found = self._in_float64[id(residual)] = (residual, residual.astype(np.float64))
        return found[1]

    def share(self, arrays: Iterable[np.ndarray]) -> None:
        """Say which arrays many nodes saved for their rules, weights above all: they are converted to float64 once."""
        self._shared = {id(x) for x in arrays}

    def scatter(self, position: int, into: np.ndarray, g: np.ndarray) -> None:
        """Add the cotangent of an input to `into`, given that of a node whose op has a rule for it; in float64."""
        op, node = self.ops[position], self.records[position]
        assert op is not None and op.scatter is not None
        op.scatter(default, into, g, *map(self._wide, self.residuals(position)), **node.params)

    def log_norm(self, position: int) -> float | None:
        """log |dL/dnode| of a node, however small or large; None where nobody follows it, as in a bare Graph."""
        return None

    def residuals(self, position: int) -> tuple:
        """What the op at a position saved for its vjp."""
        found = self.records[position].residuals
        if found is None:
            raise ValueError(f"{NodeView(self, position).label} was recorded without what its rule needs")
        return found

    # ---- reachability and paths

    def ancestors(self, of: Iterable[int], stop: Iterable[int] = ()) -> set[int]:
        """Positions that `of` depends on, itself included; the walk does not go behind `stop`."""
        return _reach(of, self.inputs_of, stop)

    def descendants(self, of: Iterable[int]) -> set[int]:
        """Positions that depend on `of`, itself included."""
        return _reach(of, self.outputs_of, ())

    def between(self, of: Iterable[int], wrt: Iterable[int]) -> list[int]:
        """Positions on any path from `wrt` to `of`, ends included, in topological order."""
        of, wrt = list(of), list(wrt)
        return sorted(self.ancestors(of, wrt) & self.descendants(wrt))

    def paths(self, of: Any, wrt: Any, through: tuple[str, ...] = ("linear", "matmul")) -> Paths:
        """The paths that a gradient of `of` takes to `wrt`: how many there are, and how many ops of `through` the longest
        and the shortest cross (matrix products unless told otherwise). An index into a stack is a path from the
        entries that it reads, not from the others."""
        end, start = self.view(of).position, self.view(wrt).position
        inputs = [self._read(i) for i in range(end + 1)]
        count: dict[int, int] = {start: 1}
        longest: dict[int, tuple[int, int]] = {start: (0, -1)}  # crossings, and where the path came from
        shortest: dict[int, int] = {start: 0}
        for i in sorted(_reach([end], inputs, ()) & self.descendants([start])):
            if i == start:
                continue
            crossing = int(NodeView(self, i).op in through)
            on_path = [j for j in inputs[i] if j in count]
            if not on_path:
                continue
            count[i] = sum(count[j] for j in on_path)
            best = max(on_path, key=lambda j: longest[j][0])
            longest[i] = (longest[best][0] + crossing, best)
            shortest[i] = min(shortest[j] for j in on_path) + crossing
        if end not in count:
            return Paths(0, 0, 0, Nodes())
        walk, at = [], end
        while at >= 0:
            walk.append(at)
            at = longest[at][1]
        return Paths(count[end], longest[end][0], shortest[end], Nodes(NodeView(self, i) for i in reversed(walk)))

    def _read(self, i: int) -> tuple[int, ...]:
        """The inputs that node i reads from: where it indexes a stack, the entries that it picks, not the stack."""
        if NodeView(self, i).op not in ("index", "take"):
            return self.inputs_of[i]
        at = i
        g: Any = np.ones(self.values[i].shape)
        while self.kind(at) == "view" or at == i:
            (g,) = self.vjp(at, g, (True,))
            (at,) = self.inputs_of[at]
        if NodeView(self, at).op not in ("stack", "concatenate"):
            return self.inputs_of[i]
        # sums of ones: a part is read exactly where its share of them is not 0
        parts = self.vjp(at, g, (True,) * len(self.inputs_of[at]))
        return tuple(j for j, part in zip(self.inputs_of[at], parts, strict=True) if part.any())

    # ---- printing

    def __repr__(self) -> str:
        roles = [self.roles.count(r) for r in ("op", "parameter", "input", "constant")]
        lines = [
            f"Graph of {len(self)} nodes ({roles[0]} ops, {roles[1]} parameters, {roles[2]} inputs, {roles[3]} constants) "
            f"and {sum(map(len, self.inputs_of))} edges"
        ]
        if self.values[self.root].size == 1:
            lines.append(f"loss {self.values[self.root].item():.6g}, {self.layers} layers, {self.steps} steps")
        lines += self._cell_lines()
        lines += [
            f"  {name:<28} {v.shape!s:<12} |value| {_norm(v.value):<11} |grad| {_norm(v.grad)}"
            for name, v in self.parameters.items()
        ]
        return "\n".join(lines)

    def _cell_lines(self) -> list[str]:
        """The ops of each address, first and last few, with the norms at its last op."""
        cells: dict[Address, list[int]] = {}
        for i, address in enumerate(self.addresses):
            if self.roles[i] == "op":
                cells.setdefault(address, []).append(i)
        lines = []
        for n, (address, members) in enumerate(cells.items()):
            if 4 <= n < len(cells) - 4:
                if n == 4:
                    lines.append(f"  ... {len(cells) - 8} more addresses ...")
                continue
            ops = " -> ".join(str(NodeView(self, i).op) for i in members[:7]) + (" -> ..." if len(members) > 7 else "")
            last = members[-1]
            place = "" if address == Address() else f"[{address}]"
            lines.append(f"  {place:<18} {ops:<44} |value| {_norm(self.values[last]):<11} |grad| {_norm(self.grads[last])}")
        return lines


def _reach(start: Iterable[int], edges: list[Any], stop: Iterable[int]) -> set[int]:
    seen, todo, stop = set(start), list(start), set(stop)
    while todo:
        at = todo.pop()
        if at in stop:
            continue
        for j in edges[at]:
            if j not in seen:
                seen.add(j)
                todo.append(j)
    return seen


@dataclass(frozen=True)
class Paths:
    """count: number of distinct paths; longest, shortest: ops crossed (matrix products unless `through` said otherwise);
    nodes: those of one longest path."""

    count: int
    longest: int
    shortest: int
    nodes: Nodes = field(repr=False)


# ---- text


def _norm(x: np.ndarray | None) -> str:
    return "none" if x is None else f"{np.linalg.norm(x.astype(np.float64)):.3e}"


def _numbers(x: np.ndarray) -> str:
    if x.size == 1:
        return f"{x.item():.6g}"
    if not x.size:
        return "empty"
    if x.size <= 6:
        return np.array2string(x, precision=4, separator=", ").replace("\n", " ")
    return f"norm {_norm(x)}, mean {x.mean():.3e}, smallest {x.min():.3e}, largest {x.max():.3e}"


def short(x: Any) -> str:
    """A value in a few words."""
    if isinstance(x, np.ndarray):
        return f"{x.dtype} {x.shape}" if x.size > 8 else np.array2string(x, separator=", ").replace("\n", " ")
    text = str(x)
    return text if len(text) <= 60 else text[:57] + "..."
