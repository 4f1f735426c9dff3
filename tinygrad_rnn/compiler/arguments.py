"""The arguments and results of a compiled function: what calls have to agree in, and structures with their arrays replaced."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ..nn.module import Parameter
from ..tape import CaptureError, Node
from ..tensor import Tensor

_INTEGERS = "integers"  # of any dtype: a program holds them as int64
_INTEGER_NUMBERS = frozenset(np.dtype(code).num for code in np.typecodes["AllInteger"])


class _ByIdentity:
    """An object as a part of a key: equal to itself only."""

    __slots__ = ("object",)

    def __init__(self, object: Any) -> None:
        self.object = object

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ByIdentity) and other.object is self.object

    def __hash__(self) -> int:
        return id(self.object)


def key_of(x: Any, arrays: list[np.ndarray], tensors: list[Tensor]) -> Any:
    """What calls have to agree in to share a program; appends the arrays whose values may differ, and the tensors."""
    kind = type(x)
    if kind is np.ndarray:
        arrays.append(x)
        number = x.dtype.num  # a dtype itself takes long to hash
        return _INTEGERS if number in _INTEGER_NUMBERS else number, x.shape
    if kind is tuple or kind is list:
        return kind, tuple([key_of(y, arrays, tensors) for y in x])
    if isinstance(x, Tensor) and not isinstance(x, Parameter):
        if x.op is not None and x.requires_grad:
            raise CaptureError(
                f"compile: an argument is the result of {x.op.name!r} and wants a gradient, but no gradient passes a compiled "
                "function; pass x.detach(), or compute it inside"
            )
        arrays.append(x.value)
        tensors.append(x)
        return kind, x.dtype.num, x.shape, x.requires_grad, x.name
    if isinstance(x, np.ndarray):
        return kind, key_of(np.asarray(x), arrays, tensors)
    if isinstance(x, tuple):
        return kind, tuple([key_of(y, arrays, tensors) for y in x])
    if kind is dict:
        return kind, tuple([(name, key_of(y, arrays, tensors)) for name, y in x.items()])
    if x is None or kind in (bool, int, str, bytes):
        return kind, x
    if kind in (float, complex) or isinstance(x, np.generic):
        return kind, repr(x)  # 0.0 and -0.0 are equal, and nan is not
    return _ByIdentity(x)


def others(x: Any) -> Iterator[Any]:
    """The objects of an argument that are neither arrays nor tensors nor structures of these."""
    if isinstance(x, dict):
        x = tuple(x.values())
    if isinstance(x, (tuple, list)):
        for y in x:
            yield from others(y)
    elif not isinstance(x, np.ndarray) and (not isinstance(x, Tensor) or isinstance(x, Parameter)):
        yield x


def holds_others(x: Any) -> bool:
    """Whether an argument is more than an array, or an object that is equal to itself only."""
    return isinstance(x, (tuple, list, dict, np.ndarray)) and type(x) is not np.ndarray


def rebuilt(x: Any, arrays: Iterator[np.ndarray], leaves: list[Tensor]) -> Any:
    """`x` with its arrays replaced, and its tensors by new ones, which are appended to `leaves`."""
    kind = type(x)
    if isinstance(x, np.ndarray):
        return next(arrays)
    if isinstance(x, Tensor) and not isinstance(x, Parameter):
        leaves.append(Tensor(next(arrays), x.requires_grad, name=x.name))
        return leaves[-1]
    if isinstance(x, tuple) or kind is list:
        return like(x, [rebuilt(y, arrays, leaves) for y in x])
    if kind is dict:
        return {name: rebuilt(y, arrays, leaves) for name, y in x.items()}
    return x


def like(x: Any, entries: list) -> Any:
    """A list, tuple or named tuple with other entries."""
    return type(x)(*entries) if hasattr(x, "_fields") else type(x)(entries)


def mapped(x: Any, tensor: Callable[[Tensor], Any], array: Callable[[np.ndarray], Any]) -> Any:
    """A structure of results with its tensors and arrays replaced."""
    if isinstance(x, Tensor):
        return tensor(x)
    if isinstance(x, np.ndarray):
        return array(x)
    if isinstance(x, tuple) or type(x) is list:
        return like(x, [mapped(y, tensor, array) for y in x])
    if type(x) is dict:
        return {name: mapped(y, tensor, array) for name, y in x.items()}
    return x


def plain_tensor(value: np.ndarray) -> Tensor:
    tensor = Tensor.__new__(Tensor)  # checks nothing: it comes from a tensor
    Node.__init__(tensor, value)
    return tensor


def detached(x: Any) -> Any:
    """A structure of results with copies of its tensors and arrays, the tensors without their graphs."""
    return mapped(x, lambda t: plain_tensor(t.value.copy()), np.copy)
