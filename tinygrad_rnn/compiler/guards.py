"""Whether what a compiled function reads beside its arguments is what it was when it was captured, and what the function leaves
there: a replay runs none of its Python."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from ..nn.module import CHANGES
from ..tape import CaptureError
from ..tensor import Tensor
from .comparison import CARRIED_OUT, same_values
from .reach import MISSING, Place, Reach, contents
from .shortcut import Watch

_NUMBERS = (bool, int, float, complex, str, bytes, type(None))
_EQUAL = frozenset({bool, int, str, bytes, slice, range})


def alike(a: Any, b: Any) -> bool:
    """Whether two values of a variable are the same to a function: the same object, or equal numbers, strings or tuples."""
    if a is b:
        return True
    if type(a) is not type(b):
        return False
    if isinstance(a, tuple):
        return len(a) == len(b) and all(map(alike, a, b))
    if isinstance(a, np.generic):
        return a.dtype == b.dtype and not a.dtype.hasobject and a.tobytes() == b.tobytes()
    if type(a) in (float, complex):
        return repr(a) == repr(b)  # 0.0 and -0.0 are equal, and nan is not
    return (type(a) in _EQUAL or isinstance(a, np.dtype)) and bool(a == b)


class Guards:
    """Made before the call that is captured; see seal().

    stores      (place, value) of the tensors and arrays that the function left in variables, attributes or containers
    outside     what has to be compared at every call
    of_modules  what has to be compared when an attribute of any module has changed"""

    def __init__(self, fn: Any, arguments: Iterable[Any]) -> None:
        reach = Reach(fn, arguments)
        self._before = [(place, place.read()) for place in reach.places]
        self._of_modules = [(place, place.read()) for place in reach.modules]
        self._arrays = [(label, array, array.copy()) for label, array in reach.arrays]
        self.stores: list[tuple[Place, Any]] = []
        self.outside = self.of_modules = Watch(alike, same_values, contents, MISSING, [])

    def seal(self, touched: Callable[[np.ndarray], bool]) -> None:
        """After the call: leave out what the function itself has changed, and the arrays that its kernels touch, which a replay
        reads where they are. Raises CaptureError where numpy wrote to an array, or a tensor went into a list."""
        self._arrays = [entry for entry in self._arrays if not touched(entry[1])]
        for label, array, before in self._arrays:
            if not same_values(array, before):
                raise CaptureError(
                    f"compile: the array {label} is written to with numpy, which a replay would not do; return what it is "
                    f"computed from, and write outside. {CARRIED_OUT}"
                )
        self._before = self._unchanged(self._before)
        self._of_modules = self._unchanged(self._of_modules)
        self._watch()

    def _watch(self) -> None:
        self.outside = Watch(
            alike, same_values, contents, MISSING, [(*place[:3], value) for place, value in self._before], self._arrays
        )
        self.of_modules = Watch(
            alike, same_values, contents, MISSING, [(*place[:3], value) for place, value in self._of_modules]
        )
        self._changes = CHANGES.attributes

    def settle(self, later: Guards) -> list[int]:
        """Take over what another run of the function, sealed too, has found unchanged: what the first run made, and all runs
        find, is watched as well. Returns the indices of the stores that such a run still makes."""
        made = {place.identity for place, _ in later.stores}
        if made <= {place.identity for place, _ in self.stores}:
            kept = [n for n, (place, _) in enumerate(self.stores) if place.identity in made]
        else:
            kept = list(range(len(self.stores)))
        self.stores = [self.stores[n] for n in kept]
        stored = {place.identity for place, _ in self.stores}
        self._before = [(place, value) for place, value in later._before if place.identity not in stored]
        self._of_modules = [(place, value) for place, value in later._of_modules if place.identity not in stored]
        self._arrays = later._arrays
        self._watch()
        return kept

    def _unchanged(self, places: list[tuple[Place, Any]]) -> list[tuple[Place, Any]]:
        kept = []
        for place, before in places:
            after = place.read()
            if alike(before, after):
                kept.append((place, before))
            elif place.kind != "contents":
                if _holds_values(after) and not place.ours:
                    self.stores.append((place, after))
            elif not place.ours:
                self._contents(place, before, after)
        return kept

    def _contents(self, place: Place, before: tuple, after: tuple) -> None:
        """Of a container that the function has changed, the entries that it has put tensors or arrays into."""
        x = place.holder
        if isinstance(x, (list, deque)) and len(before) == len(after):
            changed = [(n, new) for n, (old, new) in enumerate(zip(before, after, strict=True)) if not alike(old, new)]
        elif isinstance(x, dict):
            old = dict(before)
            changed = [(key, new) for key, new in after if not alike(old.get(key, MISSING), new)]
        else:
            changed = []
            if any(_holds_values(new) for new in after if not any(new is old for old in before)):
                raise CaptureError(
                    f"compile: a tensor or an array is put into the {type(x).__name__} {place.label}, which a replay would not "
                    f"do; return it, and put it there outside. {CARRIED_OUT}"
                )
        for key, new in changed:
            if _holds_values(new):
                self.stores.append((Place("entry", x, key, f"{place.label}[{key!r}]", False), new))

    def hold(self) -> bool:
        """Whether everything is what it was."""
        if self._changes != CHANGES.attributes:
            if not self.of_modules.same():
                return False
            self._changes = CHANGES.attributes
        return self.outside.same()

    def change(self) -> str | None:
        """What is not what it was, in words; None where everything is."""
        for place, before in (*self._before, *self._of_modules):
            now = place.read()
            if not alike(before, now):
                was = "" if place.kind == "contents" else f" from {_short(before)} to {_short(now)}"
                return f"{place.label} changed{was}"
        for label, array, before in self._arrays:
            if not same_values(array, before):
                return f"the array {label} was written to"
        return None


def _short(x: Any) -> str:
    text = repr(x) if isinstance(x, (*_NUMBERS, np.generic, type(MISSING))) else f"a {type(x).__name__}"
    return text if len(text) < 60 else f"{text[:57]}..."


def _holds_values(x: Any) -> bool:
    """Whether a value that a function has stored is a tensor, an array, or a structure with one."""
    if isinstance(x, (tuple, list)):
        return any(map(_holds_values, x))
    if type(x) is dict:
        return any(map(_holds_values, x.values()))
    return isinstance(x, (Tensor, np.ndarray))
