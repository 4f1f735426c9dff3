"""A program: a captured list of calls after its passes, with memory of its own, repeated in one C call."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from ..backends import native
from .elided import Elided
from .instruction import ALIGNMENT, Buffer, Instruction, Place, Region, aligned
from .listing import Listing

_KEPT_BYTES = 64 << 20  # of arrays that were computed for reading, at least


class Slot(NamedTuple):
    """Where the program has an array: shape and strides (in bytes) of one at a place; or, without a place, a constant."""

    place: Place | None
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: np.dtype
    constant: np.ndarray | None = None


class _View:
    """An array over memory at an address, which `holder` keeps alive, as numpy's array interface describes it."""

    def __init__(self, address: int, slot: Slot, holder: Any) -> None:
        self.holder = holder
        self.__array_interface__ = {
            "data": (address, False),
            "shape": slot.shape,
            "strides": slot.strides,
            "typestr": slot.dtype.str,
            "version": 3,
        }


def _bytes_of(array: np.ndarray) -> np.ndarray:
    low, high = np.lib.array_utils.byte_bounds(array)
    return np.asarray(_View(low, Slot(None, (high - low,), (1,), np.dtype(np.uint8)), array))


class Program:
    """A list of kernel calls that repeats what a function did.

    print(program)     the list, with what each call is for; program.explain() says what each pass did
    len(program)       number of calls
    program.bytes      memory that it allocated for itself; inputs and parameters are arrays beside it
    program.runs       how often it was run
    program.replay     the calls, ready to be repeated; run() is replay.run() with its errors"""

    def __init__(
        self,
        instructions: list[Instruction],
        kept: Iterable[Buffer],
        watched: Iterable[Buffer],
        labels: dict[Buffer, list[tuple[int, str]]],
        passes: Mapping[str, Callable[[Listing], str]],
    ) -> None:
        """kept: buffers that must be there after a run; watched: those of the outside that are wanted as they were when the run
        began; labels: what to call the contents of a buffer, by offset."""
        self._captured, self._labels = instructions, labels
        self._names: dict[Buffer, list[tuple[int, str]]] | None = None
        listing = Listing([i.copy() for i in instructions], kept)
        self.report: list[tuple[str, str, int]] = []
        for name, transform in passes.items():
            self.report.append((name, transform(listing), len(listing.instructions)))
        self._elided = listing.elided
        self._before: dict[Buffer, Buffer] = {}
        self._keep_old(listing, watched)
        self.instructions = listing.instructions
        self._allocate(listing)
        self.replay = native.Replay([self._call(i) for i in self.instructions])
        self._arrays: dict[Slot, np.ndarray] = {}  # those that were read and stay where they are
        self._elided_arrays = Elided(self._captured, max(_KEPT_BYTES, self.bytes))
        self._starts = 0
        self._read_in = self.version

    # ---- memory

    def _keep_old(self, listing: Listing, watched: Iterable[Buffer]) -> None:
        """Begin with copies of what is watched: parameters, as the forward pass sees them, whatever writes to them later."""
        copies = []
        for buffer in watched:
            old = self._before[buffer] = Buffer(buffer.size)
            n = (1, old.size // 4, 1, 1)
            copies.append(Instruction("copy", 0, (Place(old, 0), Place(buffer, 0)), n))
            listing.kept.add(old)
        listing.instructions = [*copies, *listing.instructions]

    def _allocate(self, listing: Listing) -> None:
        buffers = dict.fromkeys(p.buffer for i in self.instructions for p in i.places if p is not None)
        buffers |= dict.fromkeys(Place(b, 0).resolved().buffer for b in listing.kept)
        self._base: dict[Buffer, int] = {}
        total = 0
        for b in buffers:
            if b.array is None:
                self._base[b] = total
                total += aligned(b.size)
        self._arena = np.empty(total + ALIGNMENT, np.uint8)
        start = aligned(self._arena.ctypes.data)
        for b in self._base:
            self._base[b] += start
        self.bytes = self._arena.nbytes

    def _address(self, place: Place | None) -> int:
        if place is None:
            return 0
        buffer, offset = place.resolved()
        if buffer.array is not None and buffer not in self._base:
            self._base[buffer] = np.lib.array_utils.byte_bounds(buffer.array)[0]
        return self._base[buffer] + offset

    def _call(self, i: Instruction) -> tuple:
        return i.kernel, i.dtype, tuple([self._address(p) for p in i.places]), i.n, i.c

    def start_from(self, contents: Iterable[tuple[Buffer, np.ndarray]], before: dict[int, np.ndarray]) -> None:
        """Take over what the captured calls left in their arrays, so that a program that has not run yet can be read. before:
        what was in arrays from outside, by their id, before those calls wrote to them."""
        self._starts += 1
        for buffer, array in contents:
            if buffer.array is None and self.is_there(buffer):
                self._bytes(Place(buffer, 0), buffer.size)[...] = _bytes_of(array)
        for outside, old in self._before.items():
            assert outside.array is not None
            source = before.get(id(outside.array), outside.array)
            self._bytes(Place(old, 0), old.size)[...] = _bytes_of(source)

    def _bytes(self, place: Place, size: int) -> np.ndarray:
        slot = Slot(place, (size,), (1,), np.dtype(np.uint8))
        return np.asarray(_View(self._address(place), slot, self._arena))

    # ---- running and reading

    @property
    def runs(self) -> int:
        return self.replay.runs

    @property
    def version(self) -> tuple[int, int]:
        """A pair that is another one when the arrays of the program are those of another run."""
        return self._starts, self.runs

    def run(self) -> None:
        """Repeat the calls. Raises IndexError where a kernel met an index outside its axis."""
        done = self.replay.run()
        if done < self.replay.count:
            raise self.failure(done)

    def failure(self, done: int) -> Exception:
        """The error of a run that ended after so many calls."""
        return IndexError(f"{self._line(self.instructions[done])}: an index lies outside its axis")

    def array(self, slot: Slot) -> np.ndarray:
        """The array of a slot, in the program's own memory: the next run changes it."""
        if slot.place is None:
            assert slot.constant is not None
            return slot.constant
        found = self._arrays.get(slot)
        if found is not None:
            return found
        place = slot.place
        if self.is_there(place.buffer):
            old = self._before.get(place.buffer)
            if old is not None:
                place = Place(old, place.offset)
            view = _View(self._address(place), slot, (self._arena, place.resolved().buffer.array))
            return self._arrays.setdefault(slot, np.asarray(view))
        if self._read_in != self.version:
            self._elided_arrays.forget()
            self._read_in = self.version
        whole = self._elided_arrays.read(place.buffer, self)
        return np.asarray(_View(whole.ctypes.data + place.offset, slot, whole))

    def current(self, slot: Slot) -> np.ndarray:
        """The same, but of a parameter its present values, not those that the run began with."""
        if slot.place is not None and slot.place.buffer in self._before:
            return np.asarray(_View(self._address(slot.place), slot, slot.place.buffer.array))
        return self.array(slot)

    def is_there(self, buffer: Buffer) -> bool:
        """Whether a buffer holds after a run what it held in the capture."""
        if buffer.array is not None:
            return True
        while buffer not in self._elided:
            if buffer.alias_of is None:
                return buffer in self._base
            buffer = buffer.alias_of.buffer
        return False

    def address_before(self, place: Place) -> int:
        """The address of a place; of a parameter, that of the copy from before the run."""
        return self._address(Place(self._before.get(place.buffer, place.buffer), place.offset))

    # ---- printing

    def __len__(self) -> int:
        return len(self.instructions)

    def __iter__(self) -> Iterator[Instruction]:
        return iter(self.instructions)

    def explain(self) -> str:
        """What each pass did, in order, and how many calls it left."""
        lines = [f"{len(self._captured)} calls were captured"]
        lines += [f"  {name:<10} {said}; {left} left" for name, said, left in self.report]
        if self._before:
            lines.append(
                f"  {len(self._before)} copies keep the parameters as the graph has to show them, whatever writes to them"
            )
        lines.append(f"{len(self)} calls are replayed, in {self.bytes:,} bytes of memory")
        return "\n".join(lines)

    def __str__(self) -> str:
        shown = [f"{n:>6}  {self._line(i)}" for n, i in enumerate(self.instructions)]
        if len(shown) > 200:
            shown = [*shown[:100], f"        ... {len(shown) - 200} more ...", *shown[-100:]]
        return "\n".join([repr(self), *shown])

    def __repr__(self) -> str:
        return f"<Program of {len(self)} calls, {self.bytes:,} bytes>"

    def _line(self, i: Instruction) -> str:
        """kernel(shape) -> what it writes."""
        shape = ", ".join(map(str, i.regions[0].shape))
        made = [self._label(p, r) for p, r in zip(i.places, i.regions, strict=True) if p is not None and r.writes]
        return f"{i.kernel:<18} {f'({shape})':<16} -> {', '.join(dict.fromkeys(m for m in made if m)) or 'a temporary array'}"

    def _label(self, place: Place, region: Region) -> str:
        """What lies at a place: the first of what a node has there, and how many others follow it."""
        if self._names is None:
            found: dict[Buffer, dict[int, str]] = {}
            for outside, old in self._before.items():
                label = next((label for _, label in self._labels.get(outside, ())), "an array")
                found[old] = {0: f"{label}, as the program found it"}
            for buffer, contents in self._labels.items():
                for offset, label in contents:
                    at = Place(buffer, offset).resolved()
                    found.setdefault(at.buffer, {}).setdefault(at.offset, label)
            self._names = {b: sorted(labels.items()) for b, labels in found.items()}
        names = self._names.get(place.buffer, [])
        low = bisect_left(names, (place.offset,))
        high = bisect_left(names, (place.offset + region.high,))
        if low == high:
            return ""
        return names[low][1] + (f" and {high - low - 1} more" if high - low > 1 else "")
