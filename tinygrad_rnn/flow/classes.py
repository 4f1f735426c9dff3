"""The classes of paths through one step, from its structure alone, and which of them are chains.

Paths from one step's states to those before belong to classes, by the state that they arrive at: those that go through no
parameter and no matrix (the carry), and those that do, by the states that these multiply. A class whose ops follow one another
in every spelling of the step is a chain: its change of norm splits into parts, op by op. Of any other class only the whole
change is a property of the function."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..graph import Graph
from .elements import PASS

Key = tuple  # of a class: the states that the matrices on its paths read; () is the carry
Class = tuple[Key, int]  # and the number of the state that they arrive at
CARRY: Key = ()
TOGETHER = -1  # paths that arrive at all states by the same parts count as one class: a state may be one array or several
MOST_READS = 15  # where matrices read more than these, as in stacks of many layers, all paths through matrices are one class
PARTS: tuple[str, ...] = ("saturation", "weights", "gates", "constants", "other")


@dataclass(eq=False)
class Element:
    """One op, or several parallel ones of one effect, of a chain: from the copy of a node where it begins, to the next.

    part    see PARTS; "step" is a fused cell, an activation and a matrix product in one"""

    start: tuple[int, Key]
    part: str


@dataclass(eq=False)
class Layout:
    """The ops of one step, by number in the order of the walk back, the same for all steps of one structure.

    edges    by node: (input slot, number of the input, the states that a matrix reads there or None, part)
    classes  all classes of paths, the carry first; chains: the elements of those that are chains
    levels   of classes whose paths run side by side through the same parts: (part, copies of nodes where it begins)
    first    by class, the numbers of the states that it reads from"""

    edges: list[tuple[tuple[int, int, tuple | None, str], ...]]
    count: int
    seeds: tuple[int, ...]
    ends: tuple[int, ...]
    merged: bool = False
    classes: list[Class] = field(default_factory=list)
    chains: dict[Class, list[Element]] = field(default_factory=dict)
    levels: dict[Class, list[tuple[str, list[tuple[int, Key]]]]] = field(default_factory=dict)
    first: dict[Class, list[int]] = field(default_factory=dict)
    wanted: set[tuple[int, Key]] = field(default_factory=set)


def crossed(key: Key, read: tuple, merged: bool) -> Key:
    if merged:
        return ("all",)
    return key if read in key else tuple(sorted((*key, read)))


def analysed(layout: Layout, graph: Graph, order: list[int]) -> Layout:
    """The layout with its classes and chains found."""
    reads = {read for edges in layout.edges for *_, read, _ in edges if read is not None}
    layout.merged = len(reads) > MOST_READS
    present: list[set[Key]] = [set() for _ in range(layout.count + len(layout.ends))]
    for k in layout.seeds:
        present[k].add(CARRY)
    for k in range(layout.count):
        for key in present[k]:
            for _, j, read, _ in layout.edges[k]:
                present[j].add(key if read is None else crossed(key, read, layout.merged))
    found = {(key, k) for k in layout.ends for key in present[k]}
    for key in {key for key, _ in found}:
        ends = [k for own, k in found if own == key]
        if len(ends) > 1 and _levels(layout, _members(layout, present, (key, TOGETHER))) is not None:
            found -= {(key, k) for k in ends}
            found.add((key, TOGETHER))
    layout.classes = sorted(found, key=lambda one: (len(one[0]), str(one)))
    for one in layout.classes:
        copies = _members(layout, present, one)
        layout.first[one] = sorted(k for k, own in copies if own == CARRY and k in layout.seeds)
        chain = _chain(layout, copies, graph, order)
        if chain is not None:
            layout.chains[one] = chain
            layout.wanted |= {e.start for e in chain}
        elif (levels := _levels(layout, copies)) is not None:
            layout.levels[one] = levels
            layout.wanted |= {copy for _, at in levels for copy in at}
    return layout


Edges = dict[tuple[int, Key], list[tuple[int, Key, str]]]


def _members(layout: Layout, present: list[set[Key]], one: Class) -> Edges:
    """Copies (node, class so far) on paths that end in a class, with the edges among them."""
    key, end = one
    members: Edges = {(k, key): [] for k in layout.ends if k == end or (end == TOGETHER and key in present[k])}
    for k in range(layout.count - 1, -1, -1):
        for own in present[k]:
            edges = []
            for _, j, read, part in layout.edges[k]:
                to = (j, own if read is None else crossed(own, read, layout.merged))
                if to in members:
                    edges.append((*to, part))
            if edges:
                members[k, own] = edges
    return members


def _chain(layout: Layout, members: Edges, graph: Graph, order: list[int]) -> list[Element] | None:
    """The elements of a class one after the other, or None where its paths part for more than sums of one effect."""
    copies = sorted(members, key=lambda copy: (copy[0], len(copy[1])))
    number = {copy: n for n, copy in enumerate(copies)}
    total = len(copies)
    entered = {to[:2] for edges in members.values() for to in edges}
    if any(copy not in entered and n > 0 for n, copy in enumerate(copies)):
        return None  # a second state whose paths run beside those of the first
    elements: list[Element] = []
    far = 0
    block: list[tuple[int, Key]] = []
    for n, copy in enumerate(copies):
        if copy[0] >= layout.count:
            continue
        if n >= far and block:
            elements.append(Element(block[0], ""))
            part = _effect(layout, members, block, copies[n], graph, order)
            if part is None:
                return None
            elements[-1].part = part
            block = []
        block.append(copy)
        far = max(far, *[total if to[0] >= layout.count else number[to[:2]] for to in members[copy]])
    if block:
        part = _effect(layout, members, block, None, graph, order)
        if part is None:
            return None
        elements.append(Element(block[0], part))
    return _without_views(elements, layout.seeds)


def _levels(layout: Layout, members: Edges) -> list[tuple[str, list[tuple[int, Key]]]] | None:
    """The parts that all paths of a class cross, one after the other, with the copies where each begins; None where paths
    differ. Units that are computed one by one are a net like any other."""
    crossed: dict[tuple[int, Key], tuple[str, ...]] = {}
    begins: dict[int, list[tuple[int, Key]]] = {}
    ends: set[tuple[str, ...]] = set()
    entered = {to[:2] for edges in members.values() for to in edges}
    for copy in sorted(members, key=lambda c: (c[0], len(c[1]))):
        if copy not in entered:
            crossed[copy] = ()
        if copy[0] >= layout.count:
            ends.add(crossed[copy])
            continue
        if copy in entered and copy[0] in layout.seeds:
            return None
        starting = set()
        for j, own, part in members[copy]:
            mine = crossed[copy]
            if part == "step":
                return None
            if part != PASS and (not mine or mine[-1] != part):
                mine = (*mine, part)
                starting.add(len(mine))
            if crossed.setdefault((j, own), mine) != mine:
                return None
        if len(starting) > 1:
            return None
        for level in starting:
            begins.setdefault(level, []).append(copy)
    if len(ends) != 1:
        return None
    sequence = ends.pop()
    return [(part, begins[n + 1]) for n, part in enumerate(sequence)] if sequence else None


def _effect(layout: Layout, members: Edges, block: list, end, graph: Graph, order: list[int]) -> str | None:
    """The one part that a block of ops belongs to, None where it has no one."""
    found = {to[2] for copy in block for to in members[copy]} - {PASS}
    several = len(block) > 1 or len(members[block[0]]) > 1
    if not found:
        return "constants" if several else PASS
    if len(found) == 1 and not several:
        return found.pop()
    if found == {"constants"}:
        return "constants"
    if found <= {"weights", "constants"}:
        return "weights"
    if found <= {"gates", "constants"}:
        return "gates"
    if found <= {"saturation", "gates", "constants"} and end is not None and _pointwise(block, end, graph, order):
        return "saturation"
    return None


def _pointwise(block: list, end, graph: Graph, order: list[int]) -> bool:
    """Whether a block is a function of its last node alone, entry by entry: x sigmoid(x), or x / (1 + |x|)."""
    inside = {order[k] for k, _ in block} | {order[end[0]]}
    shape = graph.values[order[end[0]]].shape
    for k, _ in block:
        i = order[k]
        if graph.values[i].shape != shape:
            return False
        if any(j not in inside and graph.roles[j] != "constant" for j in graph.inputs_of[i]):
            return False
    return True


def _without_views(elements: list[Element], seeds: tuple[int, ...]) -> list[Element]:
    """Views and sums belong to the matrix beside them, else to the op before them on the way back, else to the one after."""
    real = [e.part for e in elements]
    for n, element in enumerate(elements):
        if element.part != PASS:
            continue
        before = next((p for p in reversed(real[:n]) if p != PASS), None)
        after = next((p for p in real[n + 1 :] if p != PASS), None)
        element.part = "weights" if "weights" in (before, after) else before or after or "constants"
    merged: list[Element] = []
    for element in elements:
        same = merged and merged[-1].part == element.part and element.part not in ("step", "gates")
        if same and element.start[0] not in seeds:
            continue
        merged.append(element)
    return merged
