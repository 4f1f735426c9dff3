"""What a function can read beside its arguments: variables, attributes and containers, found from its code.

The function is not run, and no attribute is looked up that runs code. Names decide: an attribute of an object counts where code
that the function can reach names it.
"""

from __future__ import annotations

import dis
import functools
import sys
import sysconfig
import types
from collections import deque
from collections.abc import Iterable, Iterator
from inspect import getattr_static
from typing import Any, NamedTuple

import numpy as np

from ..generator import Generator
from ..nn.module import Buffer, Module, Parameter
from ..tensor import Tensor

_MOST = 10_000  # entries of a container, which are compared at every call
_ARRAY_BYTES = 1 << 20  # the same, of an array


class _Missing:
    def __repr__(self) -> str:
        return "nothing"


MISSING = _Missing()


class Place(NamedTuple):
    """Where a value is found: the contents of a cell, an entry of a dictionary, an attribute, or all of a container.

    kind   "cell", "entry", "attribute" or "contents"
    label  in words
    ours   belongs to a module, an optimizer or another object of this library"""

    kind: str
    holder: Any
    key: Any
    label: str
    ours: bool

    def read(self) -> Any:
        """The value; MISSING where there is none. Of a container, a copy of its structure."""
        if self.kind == "cell":
            try:
                return self.holder.cell_contents
            except ValueError:
                return MISSING
        if self.kind == "entry":
            return self.holder.get(self.key, MISSING) if isinstance(self.holder, dict) else self.holder[self.key]
        if self.kind == "attribute":
            return getattr(self.holder, self.key, MISSING)
        return tuple(self.holder.items()) if isinstance(self.holder, dict) else tuple(self.holder)

    def write(self, value: Any) -> None:
        """Put another value there; not for a container."""
        if self.kind == "cell":
            self.holder.cell_contents = value
        elif self.kind == "entry":
            self.holder[self.key] = value
        else:
            setattr(self.holder, self.key, value)


class Reach:
    """places   all that can be read, each once
    modules  places that only change together with CHANGES.attributes
    arrays   (label, array) of numpy's arrays and of tensors that are no parameters, up to 1 MiB each"""

    def __init__(self, fn: Any, arguments: Iterable[Any]) -> None:
        roots = [(fn, "", False), *((x, "", False) for x in arguments)]
        self._names: set[str] = set()
        self._stored: set[str] = set()
        known = -1
        while known != len(self._names):  # an object is looked at once all names are known
            known = len(self._names)
            self._places: dict[tuple, Place] = {}
            self._of_modules: dict[tuple, Place] = {}
            self._arrays: dict[int, tuple[str, np.ndarray]] = {}
            self._seen: dict[int, Any] = {}
            self._roots = {_root(getattr(inner, "__module__", None)) for inner in (fn, getattr(fn, "__func__", None))}
            self._stack: list[tuple[Any, str, bool]] = roots[::-1]
            while self._stack:
                self._visit(*self._stack.pop())
        self.places = list(self._places.values())
        self.modules = list(self._of_modules.values())
        self.arrays = list(self._arrays.values())

    # ---- one thing, and what it leads to

    def _visit(self, x: Any, label: str, ours: bool) -> None:
        kind = type(x)
        if x is None or kind in _PLAIN or id(x) in self._seen:
            return
        self._seen[id(x)] = x
        if isinstance(x, types.FunctionType):
            self._function(x)
        elif isinstance(x, types.MethodType):
            self._stack += [(x.__func__, label, ours), (x.__self__, label, ours)]
        elif isinstance(x, functools.partial):
            self._stack += [(y, label, ours) for y in (x.func, *x.args, *x.keywords.values())]
        elif isinstance(x, (staticmethod, classmethod)):
            self._stack.append((x.__func__, label, ours))
        elif isinstance(x, property):
            self._stack += [(f, label, ours) for f in (x.fget, x.fset)]
        elif isinstance(x, np.ndarray):
            self._array(x, label, ours)
        elif isinstance(x, Tensor):
            if not isinstance(x, Parameter) and not ours:
                self._place("attribute", x, "value", f"{label}.value", ours)
                self._array(x.value, label, ours)
        elif isinstance(x, (Buffer, Generator, np.generic, np.dtype)):
            pass
        elif isinstance(x, types.ModuleType):
            if not self._foreign(x.__name__):
                self._entries(vars(x), label, ours, self._names & vars(x).keys())
        elif isinstance(x, type):
            self._class(x, label)
        elif isinstance(x, (list, tuple, dict, set, frozenset, deque)):
            self._container(x, label, ours)
        else:
            self._object(x, label, ours)

    def _function(self, f: types.FunctionType) -> None:
        if self._foreign(f.__module__):
            return
        variables: set[str] = set()
        for code in _codes(f.__code__):
            for i in dis.get_instructions(code):
                if i.opname == "STORE_ATTR":
                    self._stored.add(i.argval)
                elif "GLOBAL" in i.opname:
                    variables.add(i.argval)
                elif i.opname.startswith("LOAD") and i.argval in code.co_names:  # an attribute, a method, or one of a parent
                    self._names.add(i.argval)
            self._names.update(c for c in code.co_consts if isinstance(c, str) and c.isidentifier())  # getattr(x, "name")
        for name, cell in zip(f.__code__.co_freevars, f.__closure__ or (), strict=True):
            self._place("cell", cell, None, name, False)
        self._entries(f.__globals__, "", False, variables)
        self._stack += [(x, f.__name__, False) for x in (*(f.__defaults__ or ()), *(f.__kwdefaults__ or {}).values())]

    def _class(self, cls: type, label: str) -> None:
        for c in cls.__mro__:
            if self._foreign(c.__module__):
                continue
            self._roots.add(_root(c.__module__))
            for name, value in vars(c).items():
                if isinstance(value, (types.FunctionType, staticmethod, classmethod, property)):
                    if name in self._names or name == "forward" or (name[:2] == "__" and name != "__init__"):
                        self._stack.append((value, label, False))
                elif name in self._names and not hasattr(type(value), "__get__"):
                    self._place("attribute", c, name, f"{c.__name__}.{name}", False)

    def _container(self, x: Any, label: str, ours: bool) -> None:
        if isinstance(x, (list, dict, set, deque)) and len(x) <= _MOST:
            self._add(Place("contents", x, None, label, ours))
        entries = x.items() if isinstance(x, dict) else enumerate(x)
        self._stack += [(y, f"{label}[{n!r}]", ours) for n, y in list(entries)[:_MOST]]

    def _object(self, x: Any, label: str, ours: bool) -> None:
        kind = type(x)
        of_library = [c.__module__.startswith(_LIBRARY) for c in kind.__mro__]
        ours = of_library[0] or (ours and not any(of_library))
        attributes = getattr(x, "__dict__", None)
        if isinstance(attributes, dict):
            names = set(attributes)
            if not isinstance(x, Module):  # what is private in an optimizer is written in place
                names = {name for name in names if name[0] != "_"} if any(of_library) else names & self._names
            if not ours and not self._foreign(kind.__module__):
                # not there yet, but the function, or somebody else, may put it there, over what the class has
                absent = self._stored | {name for name in self._names if hasattr(kind, name)}
                names |= {name for name in absent if not hasattr(type(getattr_static(kind, name, None)), "__set__")}
            self._entries(attributes, label, ours, names, self._of_modules if isinstance(x, Module) else self._places)
            self._stack.append((attributes.get("__wrapped__"), label, ours))
        for c in kind.__mro__:
            slots = vars(c).get("__slots__", ())
            for name in (slots,) if isinstance(slots, str) else slots:
                if name in self._names and isinstance(vars(c).get(name), types.MemberDescriptorType):
                    self._place("attribute", x, name, f"{label}.{name}", ours)
        self._class(kind, label)

    # ---- places

    def _entries(self, holder: dict, label: str, ours: bool, names: Iterable[str], places: Any = None) -> None:
        """Entries of the attributes of an object, or of the variables of a module."""
        dot = f"{label}." if label else ""
        for name in names:
            if name != "_training":  # a mode has a program of its own, where it was looked up
                self._place("entry", holder, name, dot + name, ours, places)

    def _place(self, kind: str, holder: Any, key: Any, label: str, ours: bool, places: Any = None) -> None:
        place = Place(kind, holder, key, label, ours)
        self._add(place, places)
        self._stack.append((place.read(), label, ours))

    def _add(self, place: Place, places: Any = None) -> None:
        (self._places if places is None else places).setdefault((place.kind, id(place.holder), place.key), place)

    def _array(self, x: np.ndarray, label: str, ours: bool) -> None:
        if not ours and not x.dtype.hasobject and x.nbytes <= _ARRAY_BYTES:
            self._arrays.setdefault(id(x), (label, x))

    def _foreign(self, module: str | None) -> bool:
        """Whether code of a module is the library's, Python's, or of an installed package that the function is not from."""
        root = _root(module)
        return root not in self._roots and _installed(root)


_LIBRARY = __name__.split(".")[0]
_PLAIN = frozenset({bool, int, float, complex, str, bytes, _Missing, types.BuiltinFunctionType, slice, type(Ellipsis)})


def _root(module: str | None) -> str:
    return (module or "").split(".")[0]


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    """A code object and those of the functions defined in it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes(constant)


@functools.cache
def _installed(root: str) -> bool:
    if root == _LIBRARY or root in sys.stdlib_module_names:
        return root != "__main__"
    file = getattr(sys.modules.get(root), "__file__", None) or ""
    return any(file.startswith(sysconfig.get_path(name)) for name in ("purelib", "platlib"))
