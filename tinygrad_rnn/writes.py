"""What was written in place, and when: a walk back through a graph must not meet saved numbers that are others by now.

Time is the index that nodes are numbered by: a node with a larger one saw what was written.
"""

from __future__ import annotations

import itertools
import os
import threading
import weakref
from bisect import bisect_left, bisect_right
from typing import Any, NamedTuple

import numpy as np

indices = itertools.count()  # of nodes and of writes


def owner(array: np.ndarray) -> np.ndarray:
    """The array whose memory this one views; itself where it has its own."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


class Run:
    """The last run of a program, which writes to the same arrays every time: `index` is when that was."""

    __slots__ = ("__weakref__", "index")

    def __init__(self) -> None:
        self.index = -1


class Span(NamedTuple):
    """Bytes low..high - 1 of memory, and when they were written to last."""

    low: int
    high: int
    time: int


class _Written:
    """The writes to one array that owns its memory.

    spans   in order of their bytes; none overlap
    runs    (low, high, the program that writes there, its last run). The run outlives its program here"""

    def __init__(self, whole: np.ndarray, key: int) -> None:
        self.whole = weakref.ref(whole, lambda _: _written.pop(key, None))
        self.spans: list[Span] = []
        self.runs: list[tuple[int, int, weakref.ref, Run]] = []

    def add(self, low: int, high: int, index: int) -> None:
        """Note a write to low..high - 1, over what was noted there before."""
        i = bisect_right(self.spans, low, key=lambda span: span.high)
        j = bisect_left(self.spans, high, key=lambda span: span.low)
        left, right = [], []  # of the spans that this one cuts
        if i < j:
            first, last = self.spans[i], self.spans[j - 1]
            if first.low < low:
                left = [Span(first.low, low, first.time)]
            if last.high > high:
                right = [Span(high, last.high, last.time)]
        # no node lies between this write and the last one before, so that none can tell them apart
        if not left and i and self.spans[i - 1].high == low and self.spans[i - 1].time == index - 1:
            i -= 1
            low = self.spans[i].low
        elif not right and j < len(self.spans) and self.spans[j].low == high and self.spans[j].time == index - 1:
            high = self.spans[j].high
            j += 1
        self.spans[i:j] = [*left, Span(low, high, index), *right]

    def since(self, low: int, high: int, index: int) -> bool:
        """Whether any of low..high - 1 was written to after `index`."""
        spans = self.spans
        first = bisect_right(spans, low, key=lambda span: span.high)
        after = bisect_left(spans, high, key=lambda span: span.low)
        if any(spans[i].time > index for i in range(first, after)):
            return True
        return any(run.index > index and a < high and low < b for a, b, _, run in self.runs)


_written: dict[int, _Written] = {}  # by the id of the array that owns the memory
_lock: Any = threading.RLock()
last = -1  # the index of the last write of all: where no node is older, nothing has to be looked up


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_lock._at_fork_reinit)  # another thread of the parent may have held it


def _of(array: np.ndarray) -> _Written:
    whole = owner(array)
    key = id(whole)
    found = _written.get(key)
    if found is None:
        found = _written[key] = _Written(whole, key)
    return found


def note_write(array: np.ndarray) -> None:
    """Say that `array` is about to be written to, so that a walk back through what was recorded before, and saved any of it,
    raises."""
    global last
    low, high = np.lib.array_utils.byte_bounds(array)
    with _lock:
        last = index = next(indices)
        _of(array).add(low, high, index)


def note_program(program: object, array: np.ndarray, run: Run) -> None:
    """Say that `program` writes to `array` whenever note_run(run) is called."""
    low, high = np.lib.array_utils.byte_bounds(array)
    with _lock:
        written = _of(array)
        for a, b, of, old in written.runs:
            if of() is None and old.index >= 0:
                written.add(a, b, old.index)
        written.runs = [entry for entry in written.runs if entry[2]() is not None]
        written.runs.append((low, high, weakref.ref(program), run))


def note_run(run: Run) -> None:
    """Say that the arrays of a program are about to be written to."""
    global last
    last = run.index = next(indices)


def written_since(array: np.ndarray, index: int) -> bool:
    """Whether any entry of `array` was written to after the node with this index was recorded."""
    written = _written.get(id(owner(array)))
    return written is not None and bool(array.size) and written.since(*np.lib.array_utils.byte_bounds(array), index)
