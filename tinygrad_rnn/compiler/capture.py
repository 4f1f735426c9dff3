"""The capture backend: runs every kernel, and writes down which one was called on what."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from ..backends import native, reference
from ..tape import Node
from ..writes import owner
from .instruction import Buffer, Instruction, Place, regions


class Capture:
    """A kernel backend, to be used as `k`: it has the functions of the native one, and keeps a list of the calls they made.

    calls      (kernel name, dtype, addresses, sizes, constants) in order, addresses being valid as long as the capture is
    forgotten  leaves whose gradient was dropped meanwhile, with the gradient and the number of calls then, the first time
    updated    leaves that an optimizer or a clipping looked at
    changed    copies of arrays from outside, by their id, as they were before an update wrote to them
    modes      by the id of an object whose mode was looked up, the object and the mode; None where it was set before that"""

    def __init__(self, inputs: Iterable[np.ndarray] = ()) -> None:
        self.calls: list[tuple] = []
        self.updated: dict[Node, None] = {}
        self.forgotten: dict[Node, tuple[np.ndarray | None, int]] = {}
        self.modes: dict[int, tuple[Any, bool | None]] = {}
        self._owners: dict[int, np.ndarray] = {}
        self._made: set[int] = set()
        self.changed: dict[int, np.ndarray] = {}
        for x in inputs:
            self.hold(x)
        for name, f in vars(reference).items():
            if callable(f) and not isinstance(f, type) and not name.startswith("_"):
                setattr(self, name, self._recording(getattr(native, name)))
        self.integers, self.booleans = self._integers, self._booleans

    def _recording(self, f: Any) -> Any:
        updates = f.__name__ in ("sgd", "adam", "rmsprop")

        def call(*arguments: Any, **keywords: Any) -> Any:
            for x in arguments:
                self.hold(x)
            if updates and not self.made(arguments[0]):
                self.changed.setdefault(id(owner(arguments[0])), owner(arguments[0]).copy())
            result, calls, made = native.recorded(f, arguments, keywords)
            self.calls += calls
            for x in made:
                self.hold(x)
                self._made.add(id(owner(x)))
            return result

        call.__name__, call.__doc__ = f.__name__, f.__doc__
        return call

    def _integers(self, x: np.ndarray) -> np.ndarray:
        """As the native one; but int64 arrays, inputs among them, are read where they are again at every replay."""
        if x.dtype != np.int64:
            return native.integers(x)
        self.hold(x)
        if x.flags.c_contiguous and x.flags.aligned:
            return x
        # the kernel that moves float64 moves any 8 bytes
        copy = self._recording(native.copy)
        return copy(x.view(np.float64)).view(np.int64)

    def _booleans(self, x: np.ndarray) -> np.ndarray:
        """x itself, read where it is again at every replay."""
        self.hold(x)
        return x

    def hold(self, x: Any) -> None:
        """Keep the memory of an array, or of the arrays in a list or tuple, as long as this capture."""
        if isinstance(x, np.ndarray):
            whole = owner(x)
            self._owners[id(whole)] = whole
        elif isinstance(x, (list, tuple)):
            for y in x:
                self.hold(y)

    def update(self, leaves: Iterable[Node]) -> None:
        """Note that an optimizer looks at the gradients of leaves."""
        self.updated.update(dict.fromkeys(leaves))

    def forget(self, leaf: Node) -> None:
        """Note that a leaf is about to lose its gradient."""
        self.forgotten.setdefault(leaf, (leaf.grad, len(self.calls)))

    def look_up(self, owner: Any, mode: bool | None) -> None:
        """Note the mode that an object is in, or, with None, that the function itself sets it."""
        self.modes.setdefault(id(owner), (owner, mode))

    def made(self, array: np.ndarray) -> bool:
        """Whether the memory of an array was allocated for one of the calls."""
        return id(owner(array)) in self._made

    def used(self, array: np.ndarray, calls: int | None = None) -> bool:
        """Whether one of the (first so many) calls read or wrote an array."""
        low, high = np.lib.array_utils.byte_bounds(array)
        return any(low <= address < high for call in self.calls[:calls] for address in call[2])

    def memory(self) -> Memory:
        """The memory that the calls touch."""
        return Memory(self._owners.values(), self._made)

    def instructions(self, memory: Memory) -> list[Instruction]:
        """The calls, on places in memory; those that have nothing to write are left out."""
        out, nowhere = [], Buffer(64)
        shared: dict[tuple, tuple] = {}
        for kernel, dtype, addresses, n, c in self.calls:
            n = shared.setdefault(n, n)  # one tuple for all calls of the same sizes
            places: list[Place | None] = []
            written = False
            for address, region in zip(addresses, regions(kernel, dtype, n), strict=True):
                if not address:
                    places.append(None)
                elif region.high == region.low:
                    places.append(Place(nowhere, 0))
                else:
                    places.append(memory.place(address))
                    written |= region.writes
            if written:
                out.append(Instruction(kernel, dtype, tuple(places), n, c))
        return out


class Memory:
    """Buffers by address. Arrays whose memory overlaps, without one being a view of the other, share a buffer."""

    def __init__(self, owners: Iterable[np.ndarray], made: set[int]) -> None:
        spans = [(*np.lib.array_utils.byte_bounds(x), id(x) in made, x) for x in owners if x.size]
        self._starts: list[int] = []
        self._buffers: list[Buffer] = []
        self._places: dict[int, Place] = {}
        self._arrays: dict[Buffer, np.ndarray] = {}
        end = 0
        for low, high, is_made, array in sorted(spans, key=lambda span: span[:2]):
            if low < end:  # a second array over the memory of the last one
                self._buffers[-1].size = max(end, high) - self._starts[-1]
            else:
                self._starts.append(low)
                self._buffers.append(Buffer(high - low, None if is_made else array))
                self._arrays[self._buffers[-1]] = array
            end = max(end, high)

    def place(self, address: int) -> Place:
        """Where an address lies. Raises KeyError where it lies in no buffer."""
        found = self._places.get(address)
        if found is None:
            i = bisect_right(self._starts, address) - 1
            if i < 0 or address - self._starts[i] >= self._buffers[i].size:
                raise KeyError(f"address {address:#x} lies in no captured array")
            found = self._places[address] = Place(self._buffers[i], address - self._starts[i])
        return found

    def place_of(self, array: np.ndarray) -> Place | None:
        """Where an array begins; None for one that no captured memory holds, and for an empty one."""
        if not array.size:
            return None
        try:
            return self.place(array.ctypes.data)
        except KeyError:
            return None

    def contents(self) -> Iterator[tuple[Buffer, np.ndarray]]:
        """Buffers, and the arrays that they were in the capture."""
        return iter(self._arrays.items())
