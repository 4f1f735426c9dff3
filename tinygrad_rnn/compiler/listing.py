"""The list that passes transform, and who uses which buffer in it."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from .instruction import Buffer, Instruction, Place, Region


class Listing:
    """Instructions in order.

    kept     buffers that have to hold at the end what they held in the capture: results, gradients
    elided   buffers that no longer do, because a pass found nobody in the program who reads them"""

    def __init__(self, instructions: list[Instruction], kept: Iterable[Buffer]) -> None:
        self.instructions = instructions
        self.kept = set(kept)
        self.elided: set[Buffer] = set()

    def is_temporary(self, buffer: Buffer) -> bool:
        """Whether nobody outside the program sees the buffer."""
        return buffer.array is None and buffer not in self.kept

    def resolve(self) -> None:
        """Let every place name the buffer that its own has become a part of."""
        kept = {Place(b, 0).resolved()[0] for b in self.kept}
        self.kept |= kept
        for i in self.instructions:
            i.places = tuple([p and p.resolved() for p in i.places])

    def replace(self, new: dict[int, list[Instruction]]) -> None:
        """Put the given instructions, any number of them, in the place of those at the given positions."""
        if new:
            out: list[Instruction] = []
            for at, i in enumerate(self.instructions):
                if at in new:
                    out += new[at]
                else:
                    out.append(i)
            self.instructions = out


class Access(NamedTuple):
    """One operand of one instruction: bytes low..high - 1 of a buffer, at position `at` in the list, pointer `slot`."""

    at: int
    slot: int
    reads: bool
    writes: bool
    low: int
    high: int


class Accesses:
    """The accesses to one buffer, found by position in the list and by bytes.

    writes   positions of those that write, in order; reads: how many read"""

    __slots__ = ("_indexed", "_lows", "_spans", "all", "reads", "writes")

    def __init__(self) -> None:
        self.all: list[Access] = []
        self.writes: list[int] = []
        self.reads = 0
        self._indexed = 0  # how many of `all` are in the index by bytes, which is made when it is asked for
        self._spans: dict[tuple[int, int], list[Access]] = {}
        self._lows: dict[int, list[int]] = {}  # for each length of a span, where spans begin, in order

    def add(self, access: Access) -> None:
        self.all.append(access)
        self.reads += access.reads
        if access.writes:
            insort(self.writes, access.at)

    def _index(self) -> None:
        for access in self.all[self._indexed :]:
            span = access.low, access.high
            if span not in self._spans:
                self._spans[span] = []
                insort(self._lows.setdefault(span[1] - span[0], []), span[0])
            self._spans[span].append(access)
        self._indexed = len(self.all)

    def overlapping(self, low: int, high: int) -> Iterator[Access]:
        """Those that touch any of the bytes low..high - 1, in no particular order."""
        if self._indexed < len(self.all):
            self._index()
        for length, lows in self._lows.items():
            for start in lows[bisect_right(lows, low - length) : bisect_left(lows, high)]:
                yield from self._spans[start, start + length]


class Uses:
    """Every access to every buffer of a listing, as it was when this was made."""

    def __init__(self, listing: Listing) -> None:
        self._listing = listing
        self.of: dict[Buffer, Accesses] = {}
        for at, i in enumerate(listing.instructions):
            for slot, (place, region) in enumerate(zip(i.places, i.regions, strict=True)):
                if place is not None:
                    buffer, offset = place
                    accesses = self.of.get(buffer)
                    if accesses is None:
                        accesses = self.of[buffer] = Accesses()
                    accesses.add(Access(at, slot, region.reads, region.writes, offset + region.low, offset + region.high))

    def move(self, buffer: Buffer, to: Place) -> None:
        """Make a buffer a part of another one; its accesses become that one's."""
        buffer.alias_of = to
        for a in self.of.pop(buffer).all:
            self.of[to.buffer].add(a._replace(low=a.low + to.offset, high=a.high + to.offset))

    def whole_writer(self, place: Place | None, size: int, temporary: bool = True) -> int | None:
        """Position of the instruction that writes the `size` bytes of a buffer, which begin at `place` and are all of it, and
        that nothing else writes; None where there is no such one, or where the buffer is not temporary but should be."""
        if place is None or place.offset or place.buffer.size != size or place.buffer.array is not None:
            return None
        if temporary and not self._listing.is_temporary(place.buffer):
            return None
        accesses = self.of[place.buffer]
        if len(accesses.writes) != 1:
            return None
        write = next(a for a in accesses.all if a.writes)
        return write.at if (write.low, write.high) == (0, size) else None

    def only_reader(self, buffer: Buffer) -> Access | None:
        """The one access that reads a buffer; None where there is none, or more."""
        accesses = self.of[buffer]
        return next(a for a in accesses.all if a.reads) if accesses.reads == 1 else None

    def touched(self, place: Place, size: int, start: int, end: int, writes: bool = False) -> bool:
        """Whether an instruction at positions start..end - 1 reads or writes (or, if so asked, writes) any of `size` bytes from
        a place on."""
        overlapping = self.of[place.buffer].overlapping(place.offset, place.offset + size)
        return any(start <= a.at < end and (a.writes or not writes) for a in overlapping)

    def last_writer(self, place: Place, size: int, before: int) -> int | None:
        """Position of the last instruction before `before` that writes any of `size` bytes from a place on, if it writes just
        them."""
        overlapping = self.of[place.buffer].overlapping(place.offset, place.offset + size)
        last = max((a for a in overlapping if a.writes and a.at < before), default=None)
        whole = last is not None and (last.low, last.high) == (place.offset, place.offset + size)
        return last.at if last is not None and whole else None

    def unchanged(self, instruction: Instruction, start: int, end: int) -> bool:
        """Whether nothing at positions start + 1..end - 1 writes to what an instruction reads."""
        for place, region in zip(instruction.places, instruction.regions, strict=True):
            if place is None or not region.reads:
                continue
            accesses = self.of.get(place.buffer)
            if accesses is None or bisect_right(accesses.writes, start) == bisect_left(accesses.writes, end):
                continue
            low, high = place.offset + region.low, place.offset + region.high
            if any(a.writes and start < a.at < end for a in accesses.overlapping(low, high)):
                return False
        return True


def whole(region: Region, place: Place | None) -> bool:
    """Whether a region is contiguous and all of its buffer."""
    return place is not None and place.offset == 0 and region.contiguous and place.buffer.size == region.size
