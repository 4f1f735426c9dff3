"""A copy of what was traced: the model, its batch and its loss, with the weights, buffers and random numbers of then."""

from __future__ import annotations

import copy
import functools
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..generator import Generator
from ..graph import Graph
from ..nn import Module, Sequential
from ..nn.module import Buffer, Parameter
from ..tensor import Tensor


@dataclass(frozen=True, eq=False)
class Call:
    """What `trace` was called with, and what a forward pass may have changed since, as it was: buffers, generators, and what
    modules keep in attributes, such as the state of the last call."""

    model: Any
    inputs: tuple
    loss: Any
    target: Any
    buffers: tuple[tuple[Buffer, np.ndarray], ...]
    generators: tuple[tuple[Generator, np.ndarray], ...]
    kept: tuple[tuple[Module, str, Any], ...]


def remembered(model: Any, inputs: tuple, loss: Any, target: Any) -> Call:
    """The call, taken down before it is run."""
    parts: dict[int, Module] = {}
    for x in (model, loss):
        for root in _modules_of(x):
            parts |= {id(part): part for _, part in root.named_modules()}
    buffers = {id(b): b for part in parts.values() for _, b in part.named_buffers()}
    values = [(part, name, value) for part in parts.values() for name, value in vars(part).items()]
    generators = {id(value): value for _, _, value in values if isinstance(value, Generator)}
    return Call(
        model,
        inputs,
        loss,
        target,
        tuple((b, b.value.copy()) for b in buffers.values()),
        tuple((g, g.state.copy()) for g in generators.values()),
        tuple((part, name, _as_kept(value)) for part, name, value in values if _is_kept(value)),
    )


def _is_kept(x: Any) -> bool:
    """Whether an attribute is a plain value that a forward pass may replace."""
    return x is None or isinstance(x, (bool, int, float, str, np.ndarray)) or type(x) is Tensor


def _as_kept(x: Any) -> Any:
    if type(x) is Tensor:
        return Tensor(x.value.copy(), requires_grad=x.requires_grad and x.op is None, name=x.name)
    return x.copy() if isinstance(x, np.ndarray) else x


class Subject:
    """A copy to try changes on: `model` and `loss` with nothing shared but code, `value(name)` by the names of the graph.

    Raises ValueError where the model does not lead to a parameter of the graph, which would make a copy of another net, and
    where it holds what cannot be copied: a lock, an open file."""

    def __init__(self, graph: Graph, call: Call) -> None:
        memo: dict[int, Any] = {}
        for x in (call.model, call.loss):
            for root in _modules_of(x):
                for _, part in root.named_modules():  # results that a module keeps: copied without their graph
                    results = [v for v in vars(part).values() if isinstance(v, Tensor) and v.op is not None]
                    memo |= {id(v): Tensor(v.value.copy(), name=v.name) for v in results}
        try:
            self.model, self.loss = _copied(call.model, memo), _copied(call.loss, memo)
        except Exception as error:
            raise ValueError(f"what_if: the model cannot be copied: {error}") from None
        self.inputs, self.target = call.inputs, call.target
        self._parameters: dict[str, Parameter] = {}
        for i, role in enumerate(graph.roles):
            if role != "parameter":
                continue
            mine = memo.get(id(graph.records[i]))
            if mine is None:
                raise ValueError(
                    f"what_if: the parameter {graph.names[i]!r} is held by no Module that the traced function refers to, so it "
                    "cannot be copied; trace a Module"
                )
            mine.value = np.array(graph.values[i], order="C")
            self._parameters[graph.names[i]] = mine
        for buffer, value in call.buffers:
            if id(buffer) in memo:
                memo[id(buffer)].value[...] = value
        for generator, state in call.generators:
            if id(generator) in memo:
                memo[id(generator)].state[:] = state
        for module, name, value in call.kept:
            if id(module) in memo:
                vars(memo[id(module)])[name] = _as_kept(value)
        self.modules = [m for x in (self.model, self.loss) for root in _modules_of(x) for _, m in root.named_modules()]

    def expression(self, name: str) -> str:
        """How to write a parameter of the model `net`: net.layers[0].weight. Empty where there is no such way."""
        at, text = self.model, "net"
        for part in name.split("."):
            if isinstance(at, dict) and part in at:
                at, text = at[part], f"{text}[{part!r}]"
            elif isinstance(at, (list, tuple, Sequential)) and part.isdecimal() and int(part) < len(at):
                at, text = at[int(part)], f"{text}[{part}]"
            elif part.isidentifier() and hasattr(at, part):
                at, text = getattr(at, part), f"{text}.{part}"
            else:
                return ""
        return text if at is self._parameters.get(name) else ""

    def value(self, name: str) -> np.ndarray:
        """The array of a parameter, to be written to."""
        return self._parameters[name].value


# ---- what a function refers to


def _modules_of(x: Any, depth: int = 0) -> Iterator[Module]:
    """Modules that an object is, or that a function or another object of the user's refers to."""
    if isinstance(x, Module):
        yield x
    elif depth < 8:
        for value in _referred(x):
            yield from _modules_of(value, depth + 1)


def _referred(f: Any) -> list[Any]:
    """What of its own a function, a container or an object refers to: by closure, default, attribute, or as globals."""
    if isinstance(f, functools.partial):
        found = [f.func, *f.args, *f.keywords.values()]
    elif isinstance(f, types.MethodType):
        found = [f.__self__]
    elif isinstance(f, (list, tuple)):
        found = list(f)
    elif isinstance(f, dict):
        found = list(f.values())
    elif isinstance(f, types.FunctionType):
        found = [_contents(cell) for cell in f.__closure__ or ()] + list(f.__defaults__ or ())
        found += [v for name in _names(f.__code__) if not isinstance(v := f.__globals__.get(name), types.FunctionType)]
    elif _is_object(f):
        found = list(vars(f).values())
    else:
        found = []
    return [v for v in found if _is_own(v)]


def _is_object(x: Any) -> bool:
    """Whether x is an object of a class that a user wrote in Python."""
    return hasattr(x, "__dict__") and not isinstance(x, (type, types.ModuleType, types.FunctionType, np.ndarray))


def _contents(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not yet assigned
        return None


def _names(code: types.CodeType) -> set[str]:
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= _names(constant)
    return names


def _is_own(x: Any, depth: int = 0) -> bool:
    """Whether a copy of a function needs its own copy of this: it holds parameters or random numbers, or is a function or an
    object that may refer to some."""
    if isinstance(x, (Module, Parameter, types.FunctionType, types.MethodType, functools.partial)):
        return True
    if isinstance(x, (Generator, np.random.Generator, np.random.RandomState)):
        return True
    if isinstance(x, Tensor):
        return x.op is None and x.requires_grad
    if depth > 2:
        return False
    if isinstance(x, (list, tuple)):
        return any(_is_own(v, depth + 1) for v in x)
    if isinstance(x, dict):
        return any(_is_own(v, depth + 1) for v in x.values())
    return _is_object(x) and any(_is_own(v, depth + 1) for v in vars(x).values())


# ---- copies


def _copied(x: Any, memo: dict[int, Any]) -> Any:
    """A copy of a model or function, sharing no parameter, buffer or generator with it."""
    if id(x) in memo:
        return memo[id(x)]
    if isinstance(x, types.FunctionType):
        return _copied_function(x, memo)
    if isinstance(x, functools.partial):
        parts = [_copied(v, memo) if _is_own(v) else v for v in x.args]
        keywords = {k: _copied(v, memo) if _is_own(v) else v for k, v in x.keywords.items()}
        return functools.partial(_copied(x.func, memo), *parts, **keywords)
    if isinstance(x, types.MethodType):
        return types.MethodType(x.__func__, _copied(x.__self__, memo))
    if _is_own(x) or not callable(x):
        return copy.deepcopy(x, memo)
    return x


def _copied_function(f: types.FunctionType, memo: dict[int, Any]) -> Callable:
    shared = {name: v for name in _names(f.__code__) if _is_own(v := f.__globals__.get(name))}
    shared = {name: v for name, v in shared.items() if not isinstance(v, types.FunctionType)}
    cells = [types.CellType() for _ in f.__closure__ or ()]
    own = types.FunctionType(f.__code__, f.__globals__, f.__name__, f.__defaults__, tuple(cells) if cells else None)
    memo[id(f)] = own  # before what it refers to, which may refer to it
    for cell, old in zip(cells, f.__closure__ or (), strict=True):
        cell.cell_contents = _copied_content(_contents(old), memo)
    if shared or f.__defaults__:
        fresh = {**f.__globals__, **{name: _copied(v, memo) for name, v in shared.items()}}
        defaults = tuple(_copied_content(v, memo) for v in f.__defaults__ or ()) or None
        own = types.FunctionType(f.__code__, fresh, f.__name__, defaults, tuple(cells) if cells else None)
        memo[id(f)] = own
    own.__kwdefaults__ = f.__kwdefaults__
    return own


def _copied_content(x: Any, memo: dict[int, Any]) -> Any:
    """A copy of what a function holds, if it is of its own or a container in which calls may hand something on."""
    if _is_own(x):
        return _copied(x, memo)
    if isinstance(x, (list, dict, set)):
        try:
            return copy.deepcopy(x, memo)
        except Exception:  # it holds results of a graph, or what cannot be copied
            return copy.copy(x)
    return x
