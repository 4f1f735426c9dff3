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
from ..nn import Module
from ..nn.module import Buffer, Parameter
from ..tensor import Tensor


@dataclass(frozen=True, eq=False)
class Call:
    """What `trace` was called with, and what a forward pass may have changed since: buffers and generators as they were."""

    model: Any
    inputs: tuple
    loss: Any
    target: Any
    buffers: tuple[tuple[Buffer, np.ndarray], ...]
    generators: tuple[tuple[Generator, np.ndarray], ...]


def remembered(model: Any, inputs: tuple, loss: Any, target: Any) -> Call:
    """The call, taken down before it is run."""
    modules = [m for x in (model, loss) for m in _modules_of(x)]
    buffers = {id(b): b for m in modules for _, b in m.named_buffers()}
    found = {
        id(g): g for m in modules for _, part in m.named_modules() for g in vars(part).values() if isinstance(g, Generator)
    }
    return Call(
        model,
        inputs,
        loss,
        target,
        tuple((b, b.value.copy()) for b in buffers.values()),
        tuple((g, g.state.copy()) for g in found.values()),
    )


class Subject:
    """A copy to try changes on: `model` and `loss` with nothing shared but code, `parameter(name)` by the names of the graph.

    Raises ValueError where the model does not lead to a parameter of the graph: a copy would be of another net."""

    def __init__(self, graph: Graph, call: Call) -> None:
        memo: dict[int, Any] = {}
        self.model, self.loss = _copied(call.model, memo), _copied(call.loss, memo)
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
        self.modules = [m for x in (self.model, self.loss) for root in _modules_of(x) for _, m in root.named_modules()]

    def parameter(self, name: str) -> Parameter:
        return self._parameters[name]

    def value(self, name: str) -> np.ndarray:
        """The array of a parameter, to be written to."""
        return self._parameters[name].value


def _modules_of(x: Any) -> Iterator[Module]:
    """Modules that an object is, or that a function refers to."""
    if isinstance(x, Module):
        yield x
    for value in _referred(x):
        yield from _modules_of(value) if not isinstance(value, Module) else [value]


def _referred(f: Any) -> list[Any]:
    """Modules, functions and containers of modules that a function refers to, by closure, default, or as globals."""
    if isinstance(f, functools.partial):
        return [f.func, *[v for v in (*f.args, *f.keywords.values()) if _is_own(v)]]
    if isinstance(f, types.MethodType):
        return [f.__self__] if _is_own(f.__self__) else []
    if isinstance(f, (list, tuple)):
        return [v for v in f if _is_own(v)]
    if isinstance(f, dict):
        return [v for v in f.values() if _is_own(v)]
    if not isinstance(f, types.FunctionType):
        return []
    found = [c for cell in f.__closure__ or () if _is_own(c := _contents(cell))]
    found += [
        v for name in _names(f.__code__) if _is_own(v := f.__globals__.get(name)) and not isinstance(v, types.FunctionType)
    ]
    return found + [v for v in (f.__defaults__ or ()) if _is_own(v)]


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
    """Whether a copy of a function needs its own copy of this: it holds parameters, or is a function that may refer to some."""
    if isinstance(x, (Module, Parameter, types.FunctionType, types.MethodType, functools.partial)):
        return True
    if isinstance(x, Tensor):
        return x.op is None and x.requires_grad
    if isinstance(x, (list, tuple)) and depth < 3:
        return any(_is_own(v, depth + 1) for v in x)
    if isinstance(x, dict) and depth < 3:
        return any(_is_own(v, depth + 1) for v in x.values())
    return False


def _copied(x: Any, memo: dict[int, Any]) -> Any:
    """A copy of a model or function, sharing no parameter, buffer or generator with it."""
    if id(x) in memo:
        return memo[id(x)]
    if isinstance(x, types.FunctionType):
        return _copied_function(x, memo)
    if isinstance(x, functools.partial):
        parts = [_copied(v, memo) if _is_own(v) else v for v in x.args]
        return functools.partial(
            _copied(x.func, memo), *parts, **{k: _copied(v, memo) if _is_own(v) else v for k, v in x.keywords.items()}
        )
    if isinstance(x, types.MethodType):
        return types.MethodType(x.__func__, _copied(x.__self__, memo))
    return copy.deepcopy(x, memo) if _is_own(x) or not callable(x) else x


def _copied_function(f: types.FunctionType, memo: dict[int, Any]) -> Callable:
    shared = {name: v for name in _names(f.__code__) if _is_own(v := f.__globals__.get(name))}
    shared = {name: v for name, v in shared.items() if not isinstance(v, types.FunctionType)}
    cells = [types.CellType() for _ in f.__closure__ or ()]
    own = types.FunctionType(f.__code__, f.__globals__, f.__name__, f.__defaults__, tuple(cells) if cells else None)
    memo[id(f)] = own  # before what it refers to, which may refer to it
    for cell, old in zip(cells, f.__closure__ or (), strict=True):
        value = _contents(old)
        cell.cell_contents = _copied(value, memo) if _is_own(value) else value
    if shared or f.__defaults__:
        fresh = {**f.__globals__, **{name: _copied(v, memo) for name, v in shared.items()}}
        defaults = tuple(_copied(v, memo) if _is_own(v) else v for v in f.__defaults__ or ()) or None
        own = types.FunctionType(f.__code__, fresh, f.__name__, defaults, tuple(cells) if cells else None)
        memo[id(f)] = own
    own.__kwdefaults__ = f.__kwdefaults__
    return own
