"""The graph of a program: the nodes of the captured run, with the values and cotangents of the last one."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from ..flow.trace import Trace
from ..tape import NOWHERE, Node
from .instruction import Buffer
from .program import Program, Slot

_EMPTY = np.empty(0, np.float32)


class Skeleton:
    """What is left of captured nodes when their arrays are gone: copies of the nodes, in the same order, and for each the slots
    of its value, its cotangent and its residuals."""

    def __init__(
        self, nodes: list[Node], root: Node, cotangents: dict[int, np.ndarray], slot: Callable[[np.ndarray], Slot]
    ) -> None:
        self._of: dict[int, Node] = {}
        self._slot = slot
        self.values: dict[int, Slot] = {}
        self.cotangents = {i: slot(g) for i, g in cotangents.items()}
        self.residuals: dict[int, tuple] = {}
        self.nodes = [self._copy(node, recorded=True) for node in nodes]
        self.root = self._copy(root, recorded=False)

    def _copy(self, node: Node, recorded: bool) -> Node:
        """recorded: on the tape; its inputs come before it. What was recorded elsewhere is a leaf here."""
        found = self._of.get(node.index)
        if found is None:
            found = self._of[node.index] = Node(_EMPTY, node.requires_grad, node.name)
            found.index, found.address = node.index, node.address
            found.op = node.op if recorded else None
            found.params, found.needs, found.kept = node.params, node.needs, node.kept
            found.inputs = tuple([self._copy(x, recorded=False) for x in node.inputs]) if recorded else ()
            found.residuals = ()
            self.values[node.index] = self._slot(node.value)
            self.residuals[node.index] = tuple(
                [self._slot(r) if isinstance(r, np.ndarray) else r for r in node.residuals or ()]
            )
        return found

    def _slots(self) -> Iterator[tuple[Node, str, Slot]]:
        for i, node in self._of.items():
            what = f"{node.op.name if node.op else 'leaf'}{f' {node.name!r}' if node.name else ''}"
            place = "" if node.address == NOWHERE else f" [{node.address}]"
            yield node, what + place, self.values[i]
            if i in self.cotangents:
                yield node, f"gradient of {what}{place}", self.cotangents[i]
            for r in self.residuals[i]:
                if isinstance(r, Slot):
                    yield node, f"residual of {what}{place}", r

    def parameters(self) -> dict[Buffer, None]:
        """Buffers from outside that hold leaves which want a gradient, in order."""
        places = [self.values[i].place for i, node in self._of.items() if node.op is None and node.requires_grad]
        return {p.buffer: None for p in places if p is not None and p.buffer.array is not None}

    def labels(self) -> dict[Buffer, list[tuple[int, str]]]:
        """What a buffer holds, by offset."""
        found: dict[Buffer, list[tuple[int, str]]] = {}

        # the first label of a place counts: leaves, values, gradients, residuals
        def rank(entry: tuple[Node, str, Slot]) -> int:
            node, what, _ = entry
            return 3 if what.startswith("residual") else 2 if what.startswith("gradient") else 1 if node.op else 0

        for _, what, slot in sorted(self._slots(), key=rank):
            if slot.place is not None:
                found.setdefault(slot.place.buffer, []).append((slot.place.offset, what))
        return found

    def steps(self) -> dict[Buffer, int]:
        """The time step of what buffers of the program hold, values and residuals, where it has one."""
        found = {}
        for node, what, slot in self._slots():
            place, t = slot.place, node.address.t
            if place is not None and place.buffer.array is None and t is not None and not what.startswith("gradient"):
                found[place.buffer] = t
        return found

    def cotangent_buffers(self) -> set[Buffer]:
        """Buffers of the program that hold cotangents."""
        return {s.place.buffer for s in self.cotangents.values() if s.place is not None and s.place.buffer.array is None}


class _Arrays(Sequence):
    """The arrays of slots, read when asked for: copies, which later runs leave alone."""

    def __init__(self, program: Program, slots: list[Slot | None], lock: Any) -> None:
        self._program, self._slots, self._lock = program, slots, lock

    def __len__(self) -> int:
        return len(self._slots)

    def __getitem__(self, i: Any) -> Any:
        if isinstance(i, slice):
            return _Arrays(self._program, self._slots[i], self._lock)
        slot = self._slots[i]
        if slot is None:
            return None
        with self._lock:
            return self._program.array(slot).copy()


def _of_one_call(method: Callable[..., Any]) -> Any:
    """A method of Trace during which no call of the function begins: all that it reads belongs to one."""

    @functools.wraps(method)
    def locked(self: LiveGraph, *arguments: Any, **keywords: Any) -> Any:
        with self._lock:
            return method(self, *arguments, **keywords)

    return locked


class LiveGraph(Trace):
    """A graph whose values and cotangents are those of the last run of a program, whenever they are read. What the passes left
    out is recomputed then.

    Where other threads call the function meanwhile, an array that is read, and an answer (`why()`), belong to one call;
    two that are read one after the other may not. `with graph.frozen():` makes calls wait until the block is left."""

    def __init__(
        self,
        program: Program,
        skeleton: Skeleton,
        parameter_names: dict[int, str],
        input_names: dict[int, str],
        lock: AbstractContextManager,
    ) -> None:
        self._program, self._skeleton, self._lock = program, skeleton, lock
        super().__init__(skeleton.nodes, skeleton.root, {}, parameter_names, input_names)
        self.grads: Any = _Arrays(program, [skeleton.cotangents.get(n.index) for n in self.records], lock)

    def frozen(self) -> AbstractContextManager:
        """`with graph.frozen():` no call of the function begins in another thread."""
        return self._lock

    def memory(self, position: int) -> Any:
        slot = self._skeleton.values[self.records[position].index]
        return (slot.place.resolved() if slot.place else id(slot)), slot.shape, slot.strides

    def _snapshot(self) -> Any:
        return _Arrays(self._program, [self._skeleton.values[n.index] for n in self.records], self._lock)

    @property
    def version(self) -> Any:
        return self._program.version

    def shape(self, position: int) -> tuple[int, ...]:
        return self._skeleton.values[self.records[position].index].shape

    def residuals(self, position: int) -> tuple:
        found = self._skeleton.residuals[self.records[position].index]
        with self._lock:
            return tuple([self._program.array(r).copy() if isinstance(r, Slot) else r for r in found])

    grad_terms = _of_one_call(Trace.grad_terms)
    jacobian = _of_one_call(Trace.jacobian)
    gain = _of_one_call(Trace.gain)
    log_norms = _of_one_call(Trace.log_norms)
    horizon = _of_one_call(Trace.horizon)
    why = _of_one_call(Trace.why)
    paths = _of_one_call(Trace.paths)
