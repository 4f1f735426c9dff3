"""The buffers that the passes left out of a program, computed when somebody reads them, by the calls of the capture."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from ..backends import native
from .instruction import Buffer, Instruction, Place

if TYPE_CHECKING:
    from .program import Program


class Elided:
    """The contents of elided buffers after one run of a program.

    captured   the calls that made them in the capture, in order
    limit      bytes that are kept; where more were computed, those of the last batch alone
    batches    how often calls were repeated

    A read that finds its buffer missing computes the next ones of the capture with it, as many as were read before. So reading
    all of them takes few batches, and reading a few computes few."""

    def __init__(self, captured: list[Instruction], limit: int) -> None:
        self._captured, self._limit = captured, limit
        self._writers: dict[Buffer, list[int]] = {}  # positions of the calls that write to a buffer
        self._order: list[Buffer] = []  # what is not there, by the first call that writes to it
        self._rank: dict[Buffer, int] = {}
        self.batches = 0
        self.forget()

    def forget(self) -> None:
        """Begin anew: what was computed belongs to an earlier run."""
        self._known: dict[Buffer, np.ndarray] = {}
        self._size = self._reads = self._last = 0

    def read(self, wanted: Buffer, program: Program) -> np.ndarray:
        """The bytes of a buffer that is not in the program's memory."""
        self._reads += 1
        if wanted not in self._known:
            if not self._writers:
                self._index(program)
            made = self._compute(self._batch(wanted), program)
            self._size += sum(a.nbytes for b, a in made.items() if b not in self._known)
            self._known |= made
            if self._size > self._limit:
                self._known, self._size = made, sum(a.nbytes for a in made.values())
        return self._known[wanted]

    def _index(self, program: Program) -> None:
        slots: dict[str, list[int]] = {}  # the pointers that a kernel writes to, whatever the sizes
        for at, i in enumerate(self._captured):
            if i.kernel not in slots:
                slots[i.kernel] = [slot for slot, region in enumerate(i.regions) if region.writes]
            for slot in slots[i.kernel]:
                place = i.places[slot]
                if place is not None:
                    self._writers.setdefault(place.buffer, []).append(at)
        self._order = [b for b in self._writers if not program.is_there(b)]
        self._rank = {b: n for n, b in enumerate(self._order)}

    def _batch(self, wanted: Buffer) -> list[Buffer]:
        """`wanted` and those that come next in the direction in which the reads go: away from what is known."""
        at = self._rank.get(wanted)
        if at is None:  # no call writes to it
            return [wanted]
        known = [b in self._known for b in self._order[max(at - 1, 0) : at + 2]]
        up = known[0] if known[0] != known[-1] else at >= self._last
        towards = range(at, len(self._order)) if up else range(at, -1, -1)
        self._last = at
        batch: list[Buffer] = []
        size = 0
        for n in towards:
            b = self._order[n]
            if b in self._known:
                break
            batch.append(b)
            size += b.size
            if len(batch) >= self._reads or size > self._limit // 2:
                break
        return batch

    def _compute(self, batch: Iterable[Buffer], program: Program) -> dict[Buffer, np.ndarray]:
        """Repeat the calls that the contents of some buffers rest on, back to what is there or known."""
        self.batches += 1
        needed: set[int] = set()
        scratch: dict[Buffer, np.ndarray] = {}
        todo = list(batch)
        while todo:
            buffer = todo.pop()
            if buffer in scratch:
                continue
            if buffer in self._known:
                scratch[buffer] = self._known[buffer]
                continue
            scratch[buffer] = np.empty(buffer.size, np.uint8)
            for at in self._writers.get(buffer, ()):
                if at not in needed:
                    needed.add(at)
                    i = self._captured[at]
                    todo += [p.buffer for p in i.places if p is not None and not program.is_there(p.buffer)]
                    # what it writes besides must not be written where it is there
                    todo += [p.buffer for p in i.writes()]
        addresses = {b: a.ctypes.data for b, a in scratch.items()}

        def address(place: Place | None) -> int:
            if place is None:
                return 0
            start = addresses.get(place.buffer)
            return program.address_before(place) if start is None else start + place.offset

        calls = [self._captured[at] for at in sorted(needed)]
        native.Replay([(i.kernel, i.dtype, tuple(map(address, i.places)), i.n, i.c) for i in calls]).run()
        return scratch
