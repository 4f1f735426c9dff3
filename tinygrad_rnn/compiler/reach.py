"""What a function can read beside its arguments: variables, attributes and containers, found from its code.

The function is not run, and no attribute is looked up that runs code. Names decide: an attribute of an object counts where code
that the function can reach names it.
"""

from __future__ import annotations

import functools
import gc
import importlib.util
import sys
import sysconfig
import types
import weakref
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence, Set, ValuesView
from inspect import getattr_static
from typing import Any, NamedTuple

import numpy as np

from ..generator import Generator
from ..nn.module import Buffer, Module, Parameter
from ..tensor import Tensor
from .reading import codes, names_in, reading

_MOST = 10_000  # entries of a container, which are compared at every call
_ARRAY_BYTES = 1 << 20  # the same, of an array


class _Missing:
    def __repr__(self) -> str:
        return "nothing"


MISSING = _Missing()


class Place(NamedTuple):
    """Where a value is found: the contents of a cell, an entry of a dictionary, an attribute, what the classes that an object's
    class inherits from have under a name, the class of an object, or all of a container.

    kind   "cell", "entry", "attribute", "static", "class" or "contents"
    label  in words
    ours   belongs to a module, an optimizer or another object of this library"""

    kind: str
    holder: Any
    key: Any
    label: str
    ours: bool

    @property
    def identity(self) -> tuple:
        return self.kind, id(self.holder), self.key

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
        if self.kind == "static":
            return _static(self.holder, self.key)
        return type(self.holder) if self.kind == "class" else contents(self.holder)

    def write(self, value: Any) -> None:
        """Put another value there; not for a class or a container."""
        if self.kind == "cell":
            self.holder.cell_contents = value
        elif self.kind == "entry":
            self.holder[self.key] = value
        else:
            setattr(self.holder, self.key, value)


def contents(x: Any) -> tuple:
    """The entries of a container, in their order; of a mapping, pairs."""
    if isinstance(x, Mapping):
        return tuple(x.items())
    return tuple(x.flat if isinstance(x, np.ndarray) else x)


class Reach:
    """places   all that can be read, each once
    modules  places that only change together with CHANGES.attributes
    arrays   (label, array) of numpy's arrays and of tensors that are no parameters, up to 1 MiB each"""

    def __init__(self, fn: Any, arguments: Iterable[Any]) -> None:
        roots = [(fn, "", False), *((x, "", False) for x in arguments)]
        own = fn, getattr(fn, "__func__", None)
        self._own = {id(inner) for inner in own}  # looked at wherever it is from
        self._names: set[str] = set()
        self._stored: set[str] = set()
        self._asked: set[str] = set()  # whether they are there is asked
        self._computed: set[Any] = set()  # classes of objects whose attributes are read by names that are computed
        known = -1
        while known != len(self._names) + len(self._asked) + len(self._computed):  # an object is looked at once all are known
            known = len(self._names) + len(self._asked) + len(self._computed)
            self._places: dict[tuple, Place] = {}
            self._of_modules: dict[tuple, Place] = {}
            self._arrays: dict[int, tuple[str, np.ndarray]] = {}
            self._seen: dict[int, Any] = {}
            self._classes: set[type] = set()
            self._roots = {_root(getattr(inner, "__module__", None)) for inner in own} - {_LIBRARY}
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
            self._stack += [(y, label, ours) for y in (x.func, x.args, x.keywords)]
        elif isinstance(x, weakref.ref):
            self._stack.append((x(), label, ours))
        elif isinstance(x, np.ndarray):
            self._array(x, label, ours)
        elif isinstance(x, Tensor):
            if "requires_grad" in self._names:
                self._place("attribute", x, "requires_grad", f"{label}.requires_grad", ours)
            if not isinstance(x, Parameter) and not ours:
                self._place("attribute", x, "value", f"{label}.value", ours)
                self._array(x.value, label, ours)
        elif isinstance(x, Buffer):  # setting another array counts as a change
            self._place("attribute", x, "value", f"{label}.value", True, self._of_modules)
        elif isinstance(x, (Generator, np.generic, np.dtype)):
            pass
        elif isinstance(x, types.ModuleType):
            if not self._foreign(x.__name__):
                self._entries(vars(x), label, ours, (self._names | {"__getattr__"}) & vars(x).keys())
        elif isinstance(x, type):
            self._class(x, label)
            self._class(type(x), label)  # a metaclass
            for name in ("__init__", "__new__"):
                if callable(made := _static(x, name)):
                    for part in _functions(made):
                        self._function(part, makes=True)
        elif issubclass(kind, _CONTAINERS) and self._iterates_itself(kind):  # isinstance() may run code of a user
            self._container(x, label, ours)
        else:
            self._object(x, label, ours)
            return
        if issubclass(kind, (np.ndarray, Tensor, *_CONTAINERS)) and not self._foreign(kind.__module__):
            self._object(x, label, ours)  # of a class of the user

    def _function(self, f: types.FunctionType, owner: type | None = None, makes: bool = False) -> None:
        """owner: the class that it is a method of. makes: whether it is called with an object that it makes, so that what it
        stores there is nothing that was there before."""
        if self._foreign(f.__module__) and id(f) not in self._own:
            if _root(f.__module__) != _LIBRARY:  # it calls what it was given
                self._stack += [(_content(cell), f.__name__, False) for cell in f.__closure__ or ()]
            return
        variables: set[str] = set()
        for code in map(reading, codes(f.__code__)):
            variables |= code.variables
            self._names |= code.names
            self._stored |= set() if makes else code.stored
            self._asked |= code.asked
            self._computed.update(object if owner is None or not of_self else owner for of_self in code.computed)
            for name, level in code.imports:
                self._imported(f, name, level)
        for name, cell in zip(f.__code__.co_freevars, f.__closure__ or (), strict=True):
            self._place("cell", cell, None, name, False)
        self._entries(f.__globals__, "", False, variables)
        if f.__defaults__:
            self._place("attribute", f, "__defaults__", f"the defaults of {f.__name__}", False)
        self._stack.append((f.__kwdefaults__, f"the defaults of {f.__name__}", False))
        self._entries(f.__dict__, f.__name__, False, self._names & f.__dict__.keys())

    def _imported(self, f: types.FunctionType, name: str, level: Any) -> None:
        """Visit the modules that code imports by a name."""
        if level:
            name = importlib.util.resolve_name("." * level + name, f.__globals__.get("__package__") or _root(f.__module__))
        while name:
            self._stack.append((sys.modules.get(name), name, False))
            name = name.rpartition(".")[0]

    def _class(self, cls: type, label: str) -> None:
        """What the classes of a user that a class inherits from have under the names that count."""
        if cls in self._classes:
            return
        self._classes.add(cls)
        names: dict[str, type] = {}
        for c in cls.__mro__:
            if self._foreign(c.__module__):
                continue
            self._roots.add(_root(c.__module__))
            if "__getattr__" in vars(c) or "__getattribute__" in vars(c):
                self._computed.add(c)
            every = not self._computed.isdisjoint(cls.__mro__)
            for name, value in vars(c).items():
                method = isinstance(value, (types.FunctionType, staticmethod, classmethod, property))
                if name[:2] == "__" == name[-2:]:
                    counts = (
                        method
                        and name not in ("__init__", "__new__")
                        or name in self._names
                        and not hasattr(type(value), "__get__")
                    )
                else:
                    counts = every or name in self._names or name == "forward"
                if counts:
                    names.setdefault(name, c)
                    for part in _functions(value):
                        self._seen[id(part)] = part
                        self._function(part, owner=c)
            for name in self._asked:
                names.setdefault(name, c)
        for name, c in names.items():
            self._place("static", cls, name, f"{c.__name__}.{name}", False)

    def _iterates_itself(self, kind: type) -> bool:
        """Whether no code of a user is run when the entries of such a container are looked at."""
        found = [_static(kind, name) for name in ("__iter__", "__getitem__", "__len__")]
        return not any(isinstance(f, types.FunctionType) and not self._foreign(f.__module__) for f in found)

    def _container(self, x: Any, label: str, ours: bool) -> None:
        try:
            entries = contents(x)
        except Exception:  # another library's
            return
        if len(entries) <= _MOST and not isinstance(x, _UNCHANGING):
            self._add(Place("contents", x, None, label, ours))
        entries = entries[:_MOST]
        if isinstance(x, Mapping):
            self._stack += [(key, label, ours) for key, _ in entries]
        else:
            entries = tuple(enumerate(entries))
        self._stack += [(y, f"{label}[{n!r}]", ours) for n, y in entries]
        if isinstance(x, defaultdict):
            self._place("attribute", x, "default_factory", f"{label}.default_factory", ours)

    def _object(self, x: Any, label: str, ours: bool) -> None:
        kind: Any = type(x)
        of_library = [c.__module__.startswith(_LIBRARY) for c in kind.__mro__]
        ours = of_library[0] or (ours and not any(of_library))
        every = not self._computed.isdisjoint(kind.__mro__)
        users = not ours and not self._foreign(kind.__module__)
        places = self._of_modules if isinstance(x, Module) else self._places
        attributes = getattr(x, "__dict__", None)
        if isinstance(attributes, dict):
            names = set(attributes)
            if isinstance(x, Module):
                names.add("forward")  # somebody may put it there, over that of the class
            else:  # what is private in an optimizer is written in place
                names = (
                    {name for name in names if name[0] != "_"}
                    if any(of_library)
                    else names
                    if users and every
                    else names & self._names
                )
            if users:
                # not there yet, but the function, or somebody else, may put it there, over what the class has
                absent = self._stored | self._asked | {name for name in self._names if hasattr(kind, name)}
                names |= {name for name in absent if not hasattr(type(getattr_static(kind, name, None)), "__set__")}
            self._entries(attributes, label, ours, names, places)
            if not any(of_library):
                self._stack += [(y, label, ours) for y in attributes.values() if isinstance(y, _CALLED)]
            self._stack.append((attributes.get("__wrapped__"), label, ours))
        elif not users:  # of Python's own objects, what they hold
            held = [y for y in (*gc.get_referents(x), getattr(x, "__self__", None)) if not isinstance(y, type)]
            self._names.update(name for y in held for name in names_in(y))  # attrgetter("name")
            self._stack += [(y, label, ours) for y in held]
        if users:
            self._add(Place("class", x, None, f"the class of {label}", ours), places)
        for name in _slots(kind):
            if name in self._names or (users and every):
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
        (self._places if places is None else places).setdefault(place.identity, place)

    def _array(self, x: np.ndarray, label: str, ours: bool) -> None:
        if x.dtype.hasobject:
            self._container(x, label, ours)
        elif not ours and x.nbytes <= _ARRAY_BYTES:
            self._arrays.setdefault(id(x), (label, x))

    def _foreign(self, module: str | None) -> bool:
        """Whether code of a module is the library's, Python's, or of an installed package that the function is not from."""
        root = _root(module)
        return root not in self._roots and _installed(root)


_LIBRARY = __name__.split(".")[0]
_PLAIN = frozenset({bool, int, float, complex, str, bytes, _Missing, slice, range, type(Ellipsis), types.CodeType})
_CONTAINERS = (list, tuple, dict, set, frozenset, deque, Mapping, Sequence, Set, ValuesView)
_UNCHANGING = (tuple, frozenset, str, bytes, range)
_CALLED = (types.FunctionType, types.MethodType, staticmethod, classmethod, functools.partial)  # by the object that holds it


def _static(cls: type, name: str) -> Any:
    """What a class or the first of its bases has under a name, as it is there."""
    return next((vars(c)[name] for c in cls.__mro__ if name in vars(c)), MISSING)


@functools.lru_cache(1024)
def _slots(cls: Any) -> list[str]:
    """The names of the slots of a class and its bases."""
    named = [(name, x) for c in cls.__mro__ for name, x in vars(c).items() if isinstance(x, types.MemberDescriptorType)]
    return [name for name, _ in named if name[:2] != "__"]


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return None


def _functions(value: Any) -> list[types.FunctionType]:
    """The functions that an attribute of a class consists of."""
    parts = (value.fget, value.fset) if isinstance(value, property) else (getattr(value, "__func__", value),)
    return [f for f in parts if isinstance(f, types.FunctionType)]


def _root(module: str | None) -> str:
    return (module or "").split(".")[0]


@functools.cache
def _installed(root: str) -> bool:
    if root == _LIBRARY or root in sys.stdlib_module_names:
        return root != "__main__"
    file = getattr(sys.modules.get(root), "__file__", None) or ""
    return any(file.startswith(sysconfig.get_path(name)) for name in ("purelib", "platlib"))
