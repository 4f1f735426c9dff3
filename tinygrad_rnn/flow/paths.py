"""One step back, path by path: what a cotangent of a step's states becomes at the states of the step before, and why."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..backends import default
from ..graph import Graph
from .classes import CARRY, TOGETHER, Class, Key, Layout, analysed, crossed
from .elements import constant_inside, is_padding, origins, part_of
from .rows import by_row, difference, log_joint, log_row_norms, row_axis, row_norms
from .steps import Steps


@dataclass(eq=False)
class StepBack:
    """What one step back does to cotangents of norm 1.

    arrived     by class and position, the cotangents of the states of the step before
    read, ends  by class, (rows,) the log norms of what it reads, and of what arrives
    parts       of chains, (rows,) nats by part"""

    arrived: dict[Class, dict[int, np.ndarray]]
    read: dict[Class, np.ndarray]
    ends: dict[Class, np.ndarray]
    parts: dict[Class, dict[str, np.ndarray]]


class Walker:
    """Walks back through the steps of a net, one at a time, in float64. Every method takes and gives cotangents by position."""

    def __init__(self, graph: Graph, steps: Steps) -> None:
        self.graph, self.steps = graph, steps
        self.rows, self.axis = 1, 0  # sequences that go back side by side, and the axis of the states that they lie along
        self._axes: dict[int, list[int | None]] = {}  # by layout, the same axis at every number
        self.origin = origins(graph, {i for at in steps.at for i in at})
        self._layouts: dict[tuple, Layout] = {}
        self._local: dict[int, tuple[list[int], Layout]] = {}

    # ---- structure

    def local(self, n: int) -> tuple[list[int], Layout]:
        """The positions of the ops between step n and step n - 1, states of both included, and their layout."""
        if n not in self._local:
            self._local[n] = self._located(n)
        return self._local[n]

    def joined(self, n: int) -> bool:
        """Whether any gradient passes from step n to step n - 1."""
        return bool(self.local(n)[1].classes)

    def positions(self, n: int) -> list[int]:
        """The ops between step n and step n - 1, the states of the latter left out."""
        order, layout = self.local(n)
        return order[: layout.count]

    def _located(self, n: int) -> tuple[list[int], Layout]:
        graph, coordinate = self.graph, self.steps.coordinate
        ends = set(self.steps.at[n - 1])
        states = [j for i in self.steps.at[n] for j in self._pieces(i, ends)]
        seen = set(states)
        todo = [i for i in seen if i not in ends]
        while todo:
            i = todo.pop()
            if i in graph.cut:
                continue
            for j in graph.inputs_of[i]:
                c = coordinate[j]
                if j in seen or not graph.records[j].requires_grad:
                    continue
                if j in ends or (c is not None and c >= n - 1):
                    seen.add(j)
                    if j not in ends:
                        todo.append(j)
        reach = set(ends)
        order = []
        for i in sorted(seen - ends):
            inputs = graph.inputs_of[i]
            if i not in graph.cut and any(j in reach and not is_padding(graph, i, slot) for slot, j in enumerate(inputs)):
                reach.add(i)
                order.append(i)
        order.reverse()
        stops = sorted(ends, reverse=True)
        everything = [*order, *stops]
        number = {i: k for k, i in enumerate(everything)}
        seeds = tuple(sorted({number[i] for i in states if i in number}))
        edges = []
        near = self._nearest(order, number, seeds)
        for i in order:
            found = []
            for slot, j in enumerate(graph.inputs_of[i]):
                if j in number and not is_padding(graph, i, slot):
                    part = part_of(graph, i, slot, self.origin)
                    read = near[number[j]] if part in ("weights", "step") else None
                    found.append((slot, number[j], read, part))
            edges.append(tuple(found))
        key = (tuple(id(graph.ops[i]) for i in order), tuple(edges), seeds, len(stops))
        layout = self._layouts.get(key)
        if layout is None:
            layout = Layout(edges, len(order), seeds, tuple(range(len(order), len(everything))))
            self._layouts[key] = analysed(layout, graph, order)
        return everything, self._layouts[key]

    def _pieces(self, i: int, ends: set[int]) -> list[int]:
        """The nodes that a state hands its cotangent to unchanged: the parts of a concatenation, what a view shows, and what is
        new in a padded batch. h and c side by side are two states in one array."""
        slots = self._open_slots(i)
        if i in ends or not slots:
            return [i]
        inputs = self.graph.inputs_of[i]
        return [k for slot in slots for k in self._pieces(inputs[slot], ends)]

    def _open_slots(self, i: int) -> range:
        op = self.graph.ops[i]
        if op is None or i in self.graph.cut:
            return range(0)
        if op.name in ("concatenate", "stack"):
            return range(len(self.graph.inputs_of[i]))
        return range(1 if op.name in ("select_steps", "mask_steps", "reshape", "transpose") else 0)

    def _in_pieces(self, n: int, signal: dict[int, np.ndarray]) -> dict[int, np.ndarray]:
        """Cotangents of the states of step n, handed on to their pieces."""
        ends = set(self.steps.at[n - 1])
        out: dict[int, np.ndarray] = {}
        todo = list(signal.items())
        while todo:
            i, g = todo.pop()
            slots = self._open_slots(i)
            if i in ends or not slots:
                out[i] = out[i] + g if i in out else g
                continue
            inputs = self.graph.inputs_of[i]
            pulled = self.graph.vjp(i, g, tuple(slot in slots for slot in range(len(inputs))))
            todo += [(inputs[slot], pulled[slot]) for slot in slots]
        return out

    def _nearest(self, order: list[int], number: dict[int, int], seeds: tuple[int, ...]) -> list[tuple]:
        """By number, the states that a node is made of without passing others: what a matrix there reads."""
        near: list[tuple] = [()] * len(number)
        for k in range(len(order), len(number)):
            near[k] = (len(order) - k - 1,)
        for k in range(len(order) - 1, -1, -1):
            if k in seeds:
                near[k] = (seeds.index(k),)
            else:
                below = {state for j in self.graph.inputs_of[order[k]] if j in number for state in near[number[j]]}
                near[k] = tuple(sorted(below))
        return near

    # ---- numbers

    def back(self, n: int, signal: dict[int, np.ndarray], carry_alone: bool = False) -> StepBack:
        """One step back from step n, class by class, or along the carry alone."""
        order, layout = self.local(n)
        axes, rows = self._axes_of(n), self.rows
        ragged = None in axes  # a node without rows of the batch is on the way: only what arrives can be told row by row
        whole, signal = signal, self._in_pieces(n, signal)
        seeds = {k: signal[order[k]] for k in layout.seeds if order[k] in signal}
        # to be measured: what is read ("seed"), what is there when a node's turn comes ("at"), what of it came from other nodes
        # ("came"), what a fused cell has inside ("inside"), what arrives ("end")
        arrays: dict[tuple, np.ndarray] = {}

        def measure(key: tuple, g: np.ndarray) -> None:
            if not ragged:
                arrays[key] = by_row(g, axes[key[1]] or 0, rows)

        for k, g in seeds.items():
            measure(("seed", k), g)
        frontier: dict[int, dict[Key, np.ndarray]] = {}
        for k in range(layout.count):
            entries = frontier.pop(k, {})
            own = seeds.get(k)
            if own is not None:
                came = entries.get(CARRY)
                if came is not None and (k, CARRY) in layout.wanted:
                    measure(("came", k, CARRY), came)
                entries[CARRY] = own if came is None else came + own
            for key, g in entries.items():
                if (k, key) in layout.wanted:
                    measure(("at", k, key), g)
                    if layout.edges[k][0][3] == "step":
                        measure(("inside", k, key), g * self.graph.residuals(order[k])[0])
            edges = layout.edges[k]
            if carry_alone:
                edges = tuple([e for e in edges if e[2] is None])
            if edges and entries:
                self._pull(order[k], entries, edges, frontier, layout.merged)
        arrived: dict[Class, dict[int, np.ndarray]] = {}
        for k in layout.ends:
            entries = frontier.get(k, {})
            own = seeds.get(k)
            if own is not None:
                entries[CARRY] = entries[CARRY] + own if CARRY in entries else own
            for key, g in entries.items():
                arrived[key, k] = {order[k]: g}
                arrays["end", k, key] = self.by_state(g)
        with np.errstate(divide="ignore", invalid="ignore"):
            read = np.log(self.norms(whole)) if ragged else None
            return self._measured(layout, order, arrived, log_row_norms(arrays), carry_alone, read)

    def _measured(
        self, layout: Layout, order: list[int], arrived: dict, logs: dict, carry_alone: bool, whole: np.ndarray | None
    ) -> StepBack:
        """Logarithms told by class; whole: the log norm of everything that is read, where classes cannot be told apart."""
        lost = np.full(self.rows, -np.inf)
        read, ends, parts = {}, {}, {}
        for one in layout.classes:
            key, end = one
            if carry_alone and key != CARRY:
                continue
            at = layout.ends if end == TOGETHER else (end,)
            ends[one] = log_joint([logs.get(("end", k, key), lost) for k in at], self.rows)
            if end == TOGETHER:
                arrived[one] = {i: g for k in at for i, g in arrived.pop((key, k), {}).items()}
            if whole is not None:
                read[one] = whole
                continue
            read[one] = log_joint([logs["seed", k] for k in layout.first[one] if ("seed", k) in logs], self.rows)
            if one in layout.chains:
                parts[one] = self._split(layout, one, order, logs, read[one], ends[one])
            elif one in layout.levels:
                parts[one] = self._by_level(layout.levels[one], logs, read[one], ends[one])
        return StepBack({one: found for one, found in arrived.items() if found}, read, ends, parts)

    def plain(self, n: int, signal: dict[int, np.ndarray], seen: dict[int, np.ndarray] | None = None) -> dict[int, np.ndarray]:
        """One step back from step n along all paths together. `seen` is filled with what arrives at every number."""
        order, layout = self.local(n)
        signal = self._in_pieces(n, signal)
        frontier: dict[int, dict[Key, np.ndarray]] = {}
        for k in (*layout.seeds, *layout.ends):
            if order[k] in signal:
                frontier[k] = {CARRY: signal[order[k]]}
        for k in range(layout.count):
            entries = frontier.pop(k, None)
            if entries:
                if seen is not None:
                    seen[k] = entries[CARRY]
                edges = tuple([(slot, j, None, part) for slot, j, _, part in layout.edges[k]])
                self._pull(order[k], entries, edges, frontier, False)
        if seen is not None:
            seen.update({k: frontier[k][CARRY] for k in layout.ends if k in frontier})
        return {order[k]: frontier[k][CARRY] for k in layout.ends if k in frontier}

    # ---- rows: sequences of a batch, whose signals go back side by side without touching each other

    def find_rows(self, last: int) -> None:
        """Look for the axis of the states along which sequences lie: entries that start at 0 stay at 0 along it, tried out on
        the first and the last step of the way. Without one, norms are over whole arrays. (A leading axis may just as well be
        the features of a column vector.)"""
        shapes = [self.graph.shape(i) for at in self.steps.at[: last + 1] for i in at]
        for axis in range(min(len(shape) for shape in shapes)):
            sizes = {shape[axis] for shape in shapes}
            if len(sizes) != 1 or min(len(shape) for shape in shapes) < 2 or max(sizes) < 2:
                continue
            self.rows, self.axis = sizes.pop(), axis
            if all(self._stay_apart(n) for n in {last, 1}) and all(self._row_axes(n) for n in range(1, last + 1)):
                return
            self._axes.clear()
        self.rows, self.axis = 1, 0
        self._axes.clear()

    def _seeded(self, n: int, rows: slice, rng: np.random.Generator) -> dict[int, np.ndarray]:
        seeds = {}
        for i in self.steps.at[n]:
            g = seeds[i] = np.zeros(self.graph.shape(i))
            at = (slice(None),) * self.axis + (rows,)
            g[at] = rng.standard_normal(g[at].shape)
        return seeds

    def _stay_apart(self, n: int) -> bool:
        rng, before = np.random.default_rng(0), (slice(None),) * self.axis
        for start in range(2):
            found = self.plain(n, self._seeded(n, slice(start, None, 2), rng))
            if any(g[(*before, slice(1 - start, None, 2))].any() for g in found.values()):
                return False
        return True

    def _row_axes(self, n: int) -> bool:
        """Find the axis of the rows at every number of the layout of step n, None at nodes that have none; False where the
        states have none."""
        order, layout = self.local(n)
        if id(layout) not in self._axes:
            seen: dict[int, np.ndarray] = {}
            self.plain(n, self._seeded(n, slice(0, 1), np.random.default_rng(1)), seen)
            axes = []
            for k, i in enumerate(order):
                shape = self.graph.shape(i)
                axes.append(row_axis(seen.get(k, np.zeros(shape)), self.rows, self.axis))
            if any(axes[k] is None for k in layout.ends) or (None in axes and not self._stay_apart(n)):
                return False
            self._axes[id(layout)] = axes
        return True

    def _axes_of(self, n: int) -> list[int | None]:
        return self._axes.get(id(self.local(n)[1])) or [0] * len(self.local(n)[0])

    def by_state(self, g: np.ndarray) -> np.ndarray:
        """(rows, entries) of an array of a state."""
        return by_row(g, self.axis, self.rows)

    def norms(self, signal: dict[int, np.ndarray]) -> np.ndarray:
        """(rows,) joint norm of cotangents of states."""
        return row_norms([self.by_state(g) for g in signal.values()]) if signal else np.zeros(self.rows)

    def scaled(self, signal: dict[int, np.ndarray], norms: np.ndarray) -> dict[int, np.ndarray]:
        """Every row divided by its norm; rows of norm 0 stay."""
        return {i: g / self.per_row(np.where(norms > 0, norms, 1.0), g.ndim) for i, g in signal.items()}

    def per_row(self, x: np.ndarray, ndim: int) -> np.ndarray:
        """A number a row, so that it broadcasts with an array of a state."""
        if self.rows == 1:
            return x.reshape(())
        return x.reshape((-1,) + (1,) * (ndim - 1 - self.axis))

    def _pull(self, i: int, entries: dict[Key, np.ndarray], edges, frontier, merged: bool) -> None:
        """Hand the cotangents of node i on to the inputs on the way, class by class."""
        needs = [False] * len(self.graph.inputs_of[i])
        for slot, *_ in edges:
            needs[slot] = True
        op = self.graph.ops[i]
        if len(entries) > 1 and op is not None and op.name == "linear" and needs[0] and sum(needs) == 1:
            pulled_all = self._through_matrix(i, list(entries.values()))
        else:
            pulled_all = [self.graph.vjp(i, g, tuple(needs)) for g in entries.values()]
        for key, pulled in zip(entries, pulled_all, strict=True):
            for slot, j, read, _ in edges:
                gx = pulled[slot]
                if gx is None:
                    continue
                to = key if read is None else crossed(key, read, merged)
                have = frontier.setdefault(j, {})
                have[to] = have[to] + gx if to in have else gx

    def _through_matrix(self, i: int, cotangents: list[np.ndarray]) -> list[tuple[np.ndarray]]:
        """Cotangents of several classes through one linear layer, in one product."""
        rows = np.concatenate([g.reshape(-1, g.shape[-1]) for g in cotangents])
        w = self.graph.wide_residuals(i)[1]
        x = np.broadcast_to(0.0, (len(rows), w.shape[1]))  # not looked at: the weight wants no cotangent
        found = default.linear_vjp(rows, x, w, (True, False))[0]
        return [(part,) for part in found.reshape(len(cotangents), *cotangents[0].shape[:-1], -1)]

    def _by_level(self, levels, logs: dict, read: np.ndarray, end: np.ndarray) -> dict[str, np.ndarray]:
        """Nats by part where several ways run side by side: norms of all of them together, part after part."""
        parts: dict[str, np.ndarray] = {}
        before = read
        for n, (part, _) in enumerate(levels):
            following = levels[n + 1][1] if n + 1 < len(levels) else None
            after = (
                end if following is None else log_joint([logs[c] for k in following if (c := ("at", *k)) in logs], self.rows)
            )
            nats = difference(after, before)
            parts[part] = parts[part] + nats if part in parts else nats
            before = after
        return parts

    def _split(
        self, layout: Layout, one: Class, order: list[int], logs: dict, read: np.ndarray, end: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Nats by part along a chain: log norms before and after each element, states that join later included."""
        lost = np.full(self.rows, -np.inf)
        parts: dict[str, np.ndarray] = {}
        waiting = [k for k in layout.first[one] if ("seed", k) in logs]
        before = read

        def count(part: str, after: np.ndarray) -> None:
            nonlocal before
            nats = difference(after, before)
            parts[part] = parts[part] + nats if part in parts else nats
            before = after

        chain = layout.chains[one]
        for n, element in enumerate(chain):
            start = element.start
            if start[0] in waiting:  # a state of this step joins what has come from others
                waiting.remove(start[0])
                if ("came", *start) in logs:
                    count("sums", log_joint([logs[("at", *start)], *[logs["seed", w] for w in waiting]], self.rows))
            after = end
            if n + 1 < len(chain):
                following = chain[n + 1].start
                came = logs.get(("came", *following))
                if came is None:
                    came = lost if following[0] in waiting else logs.get(("at", *following), lost)
                after = log_joint([came, *[logs["seed", w] for w in waiting]], self.rows)
            if element.part == "step":
                count("saturation", logs.get(("inside", *start), lost))
                count("weights", after)
                continue
            count(element.part, after)
            inside = 0.0
            if element.part == "gates" and len(layout.edges[start[0]]) == 1:
                inside = constant_inside(self.graph, order[start[0]], layout.edges[start[0]][0][0])
            if inside:
                parts["gates"] = parts["gates"] - inside
                parts["constants"] = parts.get("constants", np.zeros(self.rows)) + inside
        return parts
