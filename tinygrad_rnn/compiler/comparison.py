"""Whether a run of a function did what a replay of its captured calls does, and if not, where they part."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import zip_longest
from typing import Any

import numpy as np

from ..tape import CaptureError, Node
from ..tensor import Tensor

CARRIED_OUT = "The call itself was carried out as usual"
_BESIDE = (
    "Something comes from numpy or Python, or is kept from one call to the next: use tr's functions, pass arrays as arguments "
    f"and return what the next call needs, or leave this function uncompiled. {CARRIED_OUT}"
)


def same_values(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two arrays have equal shapes and entries, NaN being equal to itself, and 0.0 not to -0.0."""
    if a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes():
        return True  # as a rule, and many times as fast
    if a.dtype.kind != "f" or b.dtype.kind != "f":
        return np.array_equal(a, b)
    return np.array_equal(a, b, equal_nan=True) and not np.any((np.signbit(a) != np.signbit(b)) & (a == 0))


def compare_nodes(replayed: list[Node], run: list[Node]) -> None:
    """Raise CaptureError at the first node of a run that is another one than in a replay, or has another value or gradient."""
    for n, (a, b) in enumerate(zip(replayed, run, strict=False)):
        if a.op is not b.op or a.value.shape != b.value.shape:
            raise CaptureError(
                f"compile: {_called(b, n)} is where this call takes another path than the first one did ({_called(a, n)}): "
                f"what Python branches or loops on has to be the same in every call. {CARRIED_OUT}"
            )
        if not same_values(a.value, b.value):
            for x, y in zip(a.inputs, b.inputs, strict=True):
                if x.op is None and not same_values(x.value, y.value):
                    raise CaptureError(
                        f"compile: a constant {y.value.dtype} {y.value.shape} that goes into {_called(b, n)} has other values "
                        "than in the first call. If numpy or Python makes it, from an argument, a counter, a random number or "
                        f"an attribute, make it outside and pass it as an argument, or use tr's functions. {CARRIED_OUT}"
                    )
            raise CaptureError(f"compile: {_called(b, n)} has another value than in a replay of the first call. {_BESIDE}")
    if len(replayed) != len(run):
        raise CaptureError(f"compile: the first call recorded {len(replayed)} nodes, this one {len(run)}. {_BESIDE}")
    for n, (a, b) in enumerate(zip(replayed, run, strict=True)):
        alike = a.grad is b.grad if a.grad is None or b.grad is None else same_values(a.grad, b.grad)
        if not alike:
            raise CaptureError(
                f"compile: the gradient of {_called(b, n)} is another than in a replay of the first call. {_BESIDE}"
            )


def _called(node: Node, n: int) -> str:
    what = node.op.name if node.op else "a leaf"
    return f"{what}{f' {node.name!r}' if node.name else ''}, node {n} at {node.address}"


def compare_outside(
    read: list[tuple[np.ndarray, np.ndarray]],
    written: list[tuple[np.ndarray, np.ndarray]],
    name_of: Callable[[np.ndarray], str],
) -> None:
    """Raise CaptureError where the function changed an array that its kernels only read, given with its values before, or left
    another value than a replay, given too, in one that they write to."""
    for array, before in read:
        if not same_values(array, before):
            raise CaptureError(
                f"compile: {name_of(array)} is written to with numpy, which a replay would not do; use tr.optim, or do it "
                f"outside. {CARRIED_OUT}"
            )
    for array, replayed in written:
        if not same_values(array, replayed):
            raise CaptureError(
                f"compile: {name_of(array)} ends up with other values than in a replay of the first call. What numpy does to "
                f"gradients or parameters belongs outside. {_BESIDE}"
            )


def compare_gradient(replayed: np.ndarray, left: np.ndarray | None, name: str | None) -> None:
    """Raise CaptureError where a call left another gradient in a parameter than a replay."""
    if left is None or not same_values(replayed, left):
        raise CaptureError(
            f"compile: the gradient of the parameter {name!r} ends up another one than in a replay of the first call. What "
            f"numpy does to gradients belongs outside. {_BESIDE}"
        )


def check_results(returned: Any) -> None:
    """Raise CaptureError unless a function returned what can be returned again from a program."""
    for x in _entries(returned):
        if x is not None and not isinstance(x, (Tensor, np.ndarray, np.generic, bool, int, float, complex, str, bytes)):
            raise CaptureError(
                f"compile: the function returned a {type(x).__name__}; a compiled one returns tensors, arrays, None, numbers "
                "and strings that are the same in every call, and tuples, lists and dictionaries of these"
            )


def compare_results(replayed: Any, returned: Any) -> None:
    """Raise CaptureError unless two structures of results hold the same."""
    for a, b in zip_longest(_entries(replayed), _entries(returned)):
        if not _same_result(a, b):
            number = not isinstance(a, (Tensor, np.ndarray))
            hint = "A number stays what it was in the first call: return the tensor that it comes from" if number else _BESIDE
            raise CaptureError(f"compile: the function returned {_shown(b)}, a replay would return {_shown(a)}. {hint}")


def _entries(x: Any) -> Iterator[Any]:
    if isinstance(x, (tuple, list)):
        for y in x:
            yield from _entries(y)
    elif type(x) is dict:
        for y in x.values():
            yield from _entries(y)
    else:
        yield x


def _same_result(a: Any, b: Any) -> bool:
    a, b = (x.value if isinstance(x, Tensor) else x for x in (a, b))
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return same_values(a, b)
    if isinstance(a, (int, float, complex, str, bytes, np.generic)):
        return type(a) is type(b) and bool(a == b or (a != a and b != b))
    return type(a) is type(b)


def _shown(x: Any) -> str:
    return f"a {x.dtype} {x.shape} array" if isinstance(x, (Tensor, np.ndarray)) else repr(x)
