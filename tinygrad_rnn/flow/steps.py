"""The steps of a recorded net and the states that each hands to the next, found from the edges and addresses of the graph.

Nothing here knows cells: a user's own cell has states because some node recorded at t is used by one recorded at t + 1."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from ..graph import Graph
from .cuts import Links, links
from .elements import SIGNAL, origins

Axis = Literal["t", "layer"]
LONGEST_DELAY = 100  # steps that a node may skip and still count as a state of those between


@dataclass(frozen=True, eq=False)
class Steps:
    """One way back through a net: the states of its steps, first to last.

    axis        "t" (time) or "layer" (depth)
    at          positions of the nodes that each step hands on
    coordinate  by position, the number of the step that a node belongs to; None where it belongs to none
    labels      the t or layer of each step as recorded; the number of the step where nothing was recorded
    name        which way this is, where a net has several: "forwards" or "backwards"
    skips       some edge leads past a step, so that a state also gets gradient beside the next one
    links       where values go on but gradients do not: a detached leaf by position, with its source"""

    axis: Axis
    at: tuple[tuple[int, ...], ...]
    coordinate: list[int | None]
    labels: tuple[int, ...]
    name: str = ""
    skips: bool = False
    links: Links = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.at)

    @property
    def unit(self) -> str:
        return "step" if self.axis == "t" else "layer"


def find_steps(graph: Graph, axis: Axis | None = None) -> list[Steps]:
    """The ways back along `axis`, one for each direction in time; unless given, time where the graph has it, else depth.

    Depth without addresses is counted by the matrix products on the longest path. Raises ValueError where no two steps are
    joined by a path that carries a gradient."""
    sources = links(graph)
    checked_axis(axis)
    chosen: list[Axis] = [axis] if axis else ["t", "layer"]
    for one in chosen:
        found = [s for s in _addressed(graph, one, sources) if len(s) > 1]
        if found:
            return found
    counted = _counted(graph, sources)
    if counted is not None and axis in (None, counted.axis):
        return [counted]
    what = "no two time steps" if axis == "t" else "no two layers"
    raise ValueError(
        f"{what} of this graph are joined by a gradient: the loss depends on one of them at the most, or they were recorded "
        f"without addresses; record them inside scope({axis or 't'}=...)"
    )


def checked_axis(axis: str | None) -> None:
    """Raise ValueError unless the axis is one."""
    if axis not in (None, "t", "layer"):
        raise ValueError(f'axis must be "t" (time) or "layer" (depth), got {axis!r}')


# ---- steps by address


def _addressed(graph: Graph, axis: Axis, sources: Links) -> list[Steps]:
    raw: list[int | None] = [getattr(a, axis) if graph.ops[i] else None for i, a in enumerate(graph.addresses)]
    if all(c is None for c in raw):
        return []
    backwards = _backward_layers(graph) if graph.steps > 2 else set()
    if not backwards:
        both = _directions_in_one_layer(graph) if axis == "t" and graph.steps > 2 else None
        if both is None:
            return [_one_way(graph, axis, raw, sources, "")]
        ahead, back = both
        mirrored = [c if c is None else graph.steps - 1 - c for c in raw]
        return [
            _one_way(graph, axis, [None if i in back else c for i, c in enumerate(raw)], sources, "forwards", back),
            _one_way(graph, axis, [None if i in ahead else c for i, c in enumerate(mirrored)], sources, "backwards", ahead),
        ]
    if axis == "layer":  # two directions are one layer, as nn.RNN numbers them
        return [_one_way(graph, axis, [c if c is None else c // 2 for c in raw], sources, "")]
    ways = []
    for name in ("forwards", "backwards"):
        inside = [(a.layer in backwards) == (name == "backwards") for a in graph.addresses]
        own = [c if ok else None for c, ok in zip(raw, inside, strict=True)]
        other = frozenset(i for i, ok in enumerate(inside) if not ok and graph.addresses[i].layer is not None)
        if name == "backwards":
            own = [c if c is None else graph.steps - 1 - c for c in own]
        ways.append(_one_way(graph, axis, own, sources, name, other))
    return ways


def _backward_layers(graph: Graph) -> set[int | None]:
    """Layers in which at least two nodes at t are used by nodes at t - 1, and none by nodes at t + 1."""
    back: dict[int | None, set[int]] = {}
    ahead: set[int | None] = set()
    for i, inputs in enumerate(graph.inputs_of):
        layer, v = graph.addresses[i]
        for j in inputs:
            below, u = graph.addresses[j]
            if u is None or v is None or below != layer or graph.ops[j] is None:
                continue
            if v == u - 1:
                back.setdefault(layer, set()).add(u)
            elif v == u + 1:
                ahead.add(layer)
    return {layer for layer, steps in back.items() if len(steps) > 1 and layer not in ahead}


def _directions_in_one_layer(graph: Graph) -> tuple[frozenset[int], frozenset[int]] | None:
    """The states that are handed on forwards and those that are handed on backwards, where a net has both in the same layer."""
    ahead: set[int] = set()
    back: set[int] = set()
    for i, inputs in enumerate(graph.inputs_of):
        v = graph.addresses[i].t
        for j in inputs:
            u = graph.addresses[j].t
            if u is not None and v is not None and graph.ops[j] is not None and graph.records[j].requires_grad:
                (ahead if v == u + 1 else back if v == u - 1 else set()).add(j)
    if len({graph.addresses[j].t for j in back}) < 2 or not ahead or ahead & back:
        return None
    return frozenset(ahead), frozenset(back)


def _one_way(
    graph: Graph, axis: Axis, raw: list[int | None], sources: Links, name: str, other: frozenset[int] = frozenset()
) -> Steps:
    """The steps along `raw`; other: nodes of the other direction, which belong to no step."""
    coordinate, free = _absolute(graph, raw, sources, other)
    live = _live(graph)
    origin = origins(graph)
    found, jumps, skips = _handed_on(graph, coordinate, raw, live, origin)
    if not any(found.values()) and any(free):  # a net without inputs: everything comes from parameters and constants
        found, jumps, skips = _handed_on(graph, coordinate, raw, live, [SIGNAL] * len(graph))
    if not found:  # every state may be cut off from the one before
        found = _linked(graph, coordinate, sources, live)
    delayed = {j: (u, v) for j, (u, v) in jumps.items() if v - u <= LONGEST_DELAY}
    skips = skips or len(delayed) < len(jumps)
    if not found:
        for j, (u, v) in delayed.items():
            for c in range(u, v):
                found.setdefault(c, set()).add(j)
    found = _recurrent_only(graph, found, sources) if found else found
    if not found:
        return Steps(axis, (), coordinate, (), name)
    states = {j for nodes in found.values() for j in nodes}
    after_state = graph.descendants(states)
    delayed = {j: span for j, span in delayed.items() if j in after_state}
    stride = 1 if len(found) < 2 else min(b - a for a, b in zip(sorted(found), sorted(found)[1:], strict=False))
    steps = _completed(graph, found, coordinate, raw, live, axis, stride)
    for j, (u, v) in delayed.items():
        if u in steps or any(c in steps for c in range(u, v)):
            for c in range(u, v):
                if c in steps:
                    steps[c].add(j)
        else:
            skips = True
    order = sorted(steps)
    if delayed:  # near the beginning there are fewer states than later on: the way ends where all are there
        widths = [len(steps[c]) for c in order]
        usual = max(set(widths), key=widths.count)
        while len(order) > 2 and len(steps[order[0]]) < usual:
            order = order[1:]
    label = {c: raw[i] for i, c in enumerate(coordinate) if c is not None and raw[i] is not None}
    labels = [label.get(c, c) for c in order]
    if name == "backwards":
        labels = [graph.steps - 1 - (c or 0) for c in labels]
    at = tuple(tuple(sorted(steps[c])) for c in order)
    number = {c: n for n, c in enumerate(order)}
    first = order[0]
    renumbered = [None if c is None else number.get(c, c - first) for c in coordinate]
    return Steps(axis, at, renumbered, tuple(int(c or 0) for c in labels), name, skips, sources)


def _live(graph: Graph) -> set[int]:
    """Positions that the loss reads from, where a gradient passes."""
    todo, seen = [graph.root], {graph.root}
    while todo:
        i = todo.pop()
        if i in graph.cut:
            continue
        for j in reads(graph, i):
            if j not in seen:
                seen.add(j)
                todo.append(j)
    return seen - graph.cut


def _absolute(
    graph: Graph, raw: list[int | None], sources: Links, other: frozenset[int]
) -> tuple[list[int | None], list[bool]]:
    """By position, the step counted through all nets in a row: a second net that starts again at t = 0 from the last state of
    a first one goes on counting. What was recorded without an address belongs to the latest step that it depends on."""
    coordinate: list[int | None] = [None] * len(graph)
    offset: list[int] = [0] * len(graph)
    free = [False] * len(graph)
    for i in range(len(graph)):
        v = raw[i]
        if i in other:
            continue
        before = [j for j in reads(graph, i) if coordinate[j] is not None]
        if i in sources:
            before = [sources[i]] if coordinate[sources[i]] is not None else []
        if v is None:
            if before:
                latest = max(before, key=lambda j: coordinate[j] or 0)
                coordinate[i], offset[i] = coordinate[latest], offset[latest]
            continue
        free[i] = not before
        shifts = [0]
        for j in before:
            at = (coordinate[j] or 0) - offset[j]
            shifts.append(offset[j] if v >= at else (coordinate[j] or 0) + 1 - v)
        offset[i] = max(shifts)
        coordinate[i] = v + offset[i]
    return coordinate, free


def reads(graph: Graph, i: int) -> tuple[int, ...]:
    """The nodes that node i reads from: where it picks one entry of a stack, that entry and not the stack."""
    op = graph.ops[i]
    if op is None or op.name != "index":
        return graph.inputs_of[i]
    index = graph.records[i].params["index"]
    index = index if isinstance(index, tuple) else (index,)
    picked = [a for a, k in enumerate(index) if isinstance(k, int)]
    if len(picked) != 1 or any(k is None or k is Ellipsis for k in index):
        return graph.inputs_of[i]
    axis, entry, at = picked[0], index[picked[0]], graph.inputs_of[i][0]
    while (below := graph.ops[at]) is not None and below.name in ("transpose", "index"):
        (source,) = graph.inputs_of[at]
        if below.name == "transpose":
            axis = graph.records[at].params["axes"][axis]
        else:  # a slice of the stack
            slices = graph.records[at].params["index"]
            slices = slices if isinstance(slices, tuple) else (slices,)
            if not all(isinstance(k, slice) for k in slices):
                return graph.inputs_of[i]
            if axis < len(slices):
                entry = range(*slices[axis].indices(graph.shape(source)[axis]))[entry]
        at = source
    if below is None or below.name != "stack" or graph.records[at].params["axis"] != axis:
        return graph.inputs_of[i]
    parts = graph.inputs_of[at]
    return (parts[entry],)


Found = dict[int, set[int]]


def _handed_on(
    graph: Graph, coordinate: list[int | None], raw: list[int | None], live: set[int], origin: list[int]
) -> tuple[Found, dict[int, tuple[int, int]], bool]:
    """Nodes of a step that the next one uses; nodes used by a step after that, with both steps; whether other edges skip."""
    found: Found = {}
    jumps: dict[int, tuple[int, int]] = {}
    skips = False
    for i in sorted(live):
        v = coordinate[i]
        if v is None or raw[i] is None:
            continue
        before = reads(graph, i)
        collects = len({coordinate[j] for j in before} - {v, None}) > 2  # a stack of many steps is no step's state
        for j in before:
            u = coordinate[j]
            if u is None or u >= v or j in graph.cut or not graph.records[j].requires_grad:
                continue
            if collects:
                skips = True
                continue
            direct = raw[j] is not None
            for k in [j] if direct else _recorded_before(graph, j, u, coordinate, raw):
                if origin[k] != SIGNAL:
                    continue
                if v == u + 1:
                    found.setdefault(u, set()).add(k)
                elif direct:
                    jumps[k] = (u, max(v, jumps.get(k, (u, v))[1]))
                else:
                    skips = True
    return found, jumps, skips


def _linked(graph: Graph, coordinate: list[int | None], sources: Links, live: set[int]) -> Found:
    """Nodes of a step whose values the next one uses without their gradient."""
    found: Found = {}
    for leaf, source in sources.items():
        u = coordinate[source]
        used_at = [coordinate[i] for i in graph.outputs_of[leaf] if i in live]
        if u is not None and u + 1 in used_at:
            found.setdefault(u, set()).add(source)
    return found


def _recorded_before(graph: Graph, at: int, step: int, coordinate: list[int | None], raw: list[int | None]) -> Iterable[int]:
    """The nodes of `step` that a node without an address depends on, the nearest ones."""
    todo, seen = [at], {at}
    while todo:
        for j in reads(graph, todo.pop()):
            if j in seen or coordinate[j] != step or j in graph.cut or not graph.records[j].requires_grad:
                continue
            seen.add(j)
            if raw[j] is None:
                todo.append(j)
            else:
                yield j


def _recurrent_only(graph: Graph, found: Found, sources: Links) -> Found:
    """Without nodes that come from no earlier state, such as an input projection that was computed in the first step: a state
    descends from the states before it."""
    after_state = [False] * len(graph)
    member = {j: c for c, nodes in sorted(found.items(), reverse=True) for j in nodes}
    first = min(found)
    kept: Found = {}
    for i in range(len(graph)):
        inputs = graph.inputs_of[i] if i not in sources else (sources[i],)
        after_state[i] = any(after_state[j] for j in inputs)
        c = member.get(i)
        if c is not None and (c == first or after_state[i]):
            kept.setdefault(c, set()).add(i)
            after_state[i] = True
    if len(kept) > 1:  # the first step's: those that play the part of a later state
        parts = _parts_played(graph, {i for nodes in kept.values() for i in nodes}, member)
        later = {parts[j] for c in kept if c != first for j in kept[c]}
        same = {j for j in kept[first] if parts[j] in later}
        if same:
            kept[first] = same
    return _without_sums(graph, kept) if kept else kept


def _without_sums(graph: Graph, found: Found) -> Found:
    """Without running sums, of losses or outputs: what is only added to on its way to the loss remembers nothing."""
    out = {}
    for c, nodes in found.items():
        sums = {j for j in nodes if _only_added(graph, j, found.get(c + 1, set()))} if c + 1 in found else set()
        out[c] = nodes - sums if sums < nodes else nodes
    last = max(found)
    if last - 1 in out and len(out[last - 1]) < len(found[last - 1]):  # the last step's play the parts of those before
        kinds = {(graph.ops[j], graph.records[j].name, graph.shape(j)) for j in out[last - 1]}
        same = {j for j in found[last] if (graph.ops[j], graph.records[j].name, graph.shape(j)) in kinds}
        out[last] = same or out[last]
    return out


def _only_added(graph: Graph, j: int, later: set[int]) -> bool:
    """Whether sums and views alone use node j until the next step, and one state there is made of it by them."""
    todo, reached, seen = [j], set(), {j}
    while todo:
        for i in graph.outputs_of[todo.pop()]:
            if i in seen:
                continue
            seen.add(i)
            op = graph.ops[i]
            if op is None or not (op.name == "add" or op.kind == "view"):
                return False
            if i in later:
                reached.add(i)
            else:
                todo.append(i)
    return len(reached) == 1 and graph.ops[reached.pop()] is graph.ops[j]


def _parts_played(graph: Graph, nodes: set[int], step: dict[int, int]) -> dict[int, tuple]:
    """(layer, op, name) of a node and how many of the kind came before it in its step: what it is within its step."""
    seen: dict[tuple, int] = {}
    out = {}
    for i in range(len(graph)):
        if i not in step:
            continue
        op = graph.ops[i]
        key = (step[i], graph.addresses[i], op.name if op else None, graph.records[i].name)
        if i in nodes:
            out[i] = (graph.addresses[i].layer, *key[2:], seen.get(key, 0))
        seen[key] = seen.get(key, 0) + 1
    return out


def _completed(
    graph: Graph, found: Found, coordinate: list[int | None], raw: list[int | None], live: set[int], axis: Axis, stride: int
) -> Found:
    """With the last step, which hands on nothing, and steps that hand on nothing because a gradient is cut there: their states
    are the nodes that play the part that states play in the steps around them. stride: how far the last step may be."""
    steps = {i: c for i, c in enumerate(coordinate) if c is not None and raw[i] is not None}
    by_step: dict[int, list[int]] = {}
    for i, c in steps.items():
        by_step.setdefault(c, []).append(i)
    ranks: dict[int, dict[int, tuple]] = {}

    def played(c: int) -> dict[int, tuple]:
        if c not in ranks:
            seen: dict[tuple, int] = {}
            ranks[c] = {}
            for i in by_step.get(c, ()):
                op, layer = graph.ops[i], graph.addresses[i].layer if axis == "t" else None
                name = graph.records[i].name  # what the code calls a state says more than the op that made it
                key = (layer, name, None if name or op is None else op.name)
                ranks[c][i] = (*key, seen.get(key, 0))
                seen[key] = seen.get(key, 0) + 1
        return ranks[c]

    done = dict(found)
    first, last = min(found), max(found)
    if first + 1 in done:  # a state that comes from parameters alone at first is a state all the same
        wanted = {played(first + 1)[j] for j in done[first + 1] if j in played(first + 1)}
        done[first] = done[first] | {i for i, part in played(first).items() if part in wanted and i in live}
    for c in range(first + 1, last + 1 + stride):
        if c in done:
            continue
        model = next(k for k in range(c - 1, first - 1, -1) if k in done)
        wanted = {played(model)[j] for j in done[model] if j in played(model)}
        final = {i for i, part in played(c).items() if part in wanted and i in live}
        if final:
            done[c] = final
    return done


# ---- depth without addresses


def _counted(graph: Graph, sources: Links) -> Steps | None:
    """Steps counted by matrix products: a node's step is how many of them lie on the longest way to it from the deepest node.
    Of the cuts between steps those with the fewest nodes are states: an inner step of a block is none."""
    live = _live(graph)
    origin = origins(graph)
    start = _deepest(graph, live, origin)
    below = graph.descendants([start]) & live
    coordinate: list[int | None] = [None] * len(graph)
    for i in sorted(below):
        earlier = [c for j in reads(graph, i) if (c := coordinate[j]) is not None]
        coordinate[i] = max(earlier) + crosses(graph, i, origin) if earlier else 0
    end = max((c for c in coordinate if c is not None), default=0)
    at: Found = {c: set() for c in range(end)}
    for i in below:
        v = coordinate[i] or 0
        before = reads(graph, i)
        if len({coordinate[j] for j in before} - {v, None}) > 2:
            continue  # a stack of many steps
        for j in before:
            u = coordinate[j]
            if u is not None and u < v and (graph.ops[j] is not None or graph.roles[j] == "input"):
                for c in range(u, v):
                    at[c].add(j)
    if not at:
        return None
    at = _without_sums(graph, at)
    widths = [len(nodes) for nodes in at.values()]
    common = [w for w in set(widths) if w and widths.count(w) >= max(2, len(widths) / 8)]
    if not common:
        return None
    order = [c for c in sorted(at) if len(at[c]) == min(common)]
    kinds = [{(graph.ops[i], graph.records[i].name) for i in at[c]} for c in order[:2]]
    if len(order) > 2 and kinds[0] != kinds[1]:
        order = order[1:]  # the input, not a state
    final = _last_alike(graph, at[order[-1]], [i for i in below if coordinate[i] == end])
    if final and order[-1] < end:
        at[end] = final
        order.append(end)
    number: dict[int, int] = {}
    for c in range(end + 1):
        number[c] = sum(1 for kept in order if kept < c)
    inner = [None if c is None else min(number[c], len(order) - 1) for c in coordinate]
    tied = _tied(graph, below, origin)
    return Steps(
        "t" if tied else "layer", tuple(tuple(sorted(at[c])) for c in order), inner, tuple(range(len(order))), "", True, sources
    )


def _last_alike(graph: Graph, model: set[int], nodes: list[int]) -> set[int]:
    """For each state of a step the last of `nodes` that has its op and name; none unless all are found."""
    kinds = [(graph.ops[i], graph.records[i].name) for i in model]
    found = {max((i for i in nodes if (graph.ops[i], graph.records[i].name) == kind), default=-1) for kind in kinds}
    return found if len(found) == len(model) and -1 not in found else set()


def crosses(graph: Graph, i: int, origin: list[int]) -> bool:
    """Whether node i is the product of a signal with a matrix of parameters or constants."""
    return graph.kind(i) == "weights" and sorted(origin[j] for j in graph.inputs_of[i][:2])[0] != SIGNAL


def _deepest(graph: Graph, live: set[int], origin: list[int]) -> int:
    """The start of the way with the most matrix products to the loss: an input, or the first node made from one."""
    longest = [-1] * len(graph)
    longest[graph.root] = 0
    for i in sorted(live, reverse=True):
        if longest[i] < 0:
            continue
        for j in reads(graph, i):
            if origin[j] == SIGNAL and j in live:
                longest[j] = max(longest[j], longest[i] + crosses(graph, i, origin))
    starts = [
        i
        for i in live
        if origin[i] == SIGNAL and not any(origin[j] == SIGNAL and graph.ops[j] is not None for j in reads(graph, i))
    ]
    users = [i for i in starts if longest[i] >= 0 and not (graph.ops[i] is None and _is_sliced(graph, i))]
    return max(users or [graph.root], key=lambda i: longest[i])


def _is_sliced(graph: Graph, leaf: int) -> bool:
    """Whether only indices read from an input, as a loop over its steps does."""
    users = graph.outputs_of[leaf]
    return bool(users) and all((op := graph.ops[i]) is not None and op.name in ("index", "transpose") for i in users)


def _tied(graph: Graph, below: set[int], origin: list[int]) -> bool:
    """Whether the matrix products of the way share a parameter, as the steps of a loop do."""
    uses = [j for i in below if crosses(graph, i, origin) for j in graph.inputs_of[i] if graph.roles[j] == "parameter"]
    return len(uses) > 2 and len(set(uses)) <= len(uses) / 2
