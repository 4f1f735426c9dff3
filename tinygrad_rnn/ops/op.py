"""What an op is. The rules live beside this file, one family a module; nothing here knows any of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any, Literal

Shape = tuple[int, ...]

# What an op does to a signal that passes it, which is what the split of a decay asks:
#   "activation"  a function of one input, entry by entry: multiplies by phi'
#   "weights"     a product with a matrix
#   "gates"       products of two signals, and sums of them
#   "view"        the same numbers in another layout
#   "other"       anything else
Kind = Literal["activation", "weights", "gates", "view", "other"]


class ShapeError(ValueError):
    """Shapes that an op cannot take. The message names the op, the shapes, the place, and what was expected."""


@dataclass(frozen=True, eq=False, slots=True)
class Op:
    """One operation, as rules that do all arithmetic through a kernel backend `k`.

    name        what graphs print
    shape       shape(*input_shapes, **params) -> output shape; raises ShapeError
    forward     forward(k, *primals, **params) -> primal out, residuals (a tuple of what `vjp` needs)
    vjp         vjp(k, g, *residuals, needs, **params) -> one cotangent per input; None where needs[i] is False
    kind        see Kind
    scatter     only where a cotangent is mostly zeros: scatter(k, acc, g, *residuals, **params) adds it to `acc` in
                place, so that T reads of one array cost T pieces and not T whole arrays
    composed    only where an op stands for several others: composed(apply, *inputs, **params) -> output is the same in terms
                of those, apply(op, *inputs, **params) applying one, a number among the inputs being a constant (). It is the
                op's specification, and a test holds the two together, cotangents included
    """

    name: str
    shape: Callable[..., Shape]
    forward: Callable[..., tuple[Any, tuple]]
    vjp: Callable[..., tuple]
    kind: Kind = "other"
    scatter: Callable[..., Any] | None = None
    composed: Callable[..., Any] | None = None

    def __repr__(self) -> str:
        return f"<op {self.name}>"


def broadcast(name: str, *shapes: Shape) -> Shape:
    """The shape that numpy broadcasts the given ones to."""
    out: list[int] = []
    for i in range(-max(map(len, shapes), default=0), 0):
        sizes = {s[i] for s in shapes if len(s) >= -i} - {1}
        if len(sizes) > 1:
            raise ShapeError(
                f"{name}: shapes {' and '.join(map(str, shapes))} do not broadcast: axis {i} has "
                f"{' and '.join(map(str, sorted(sizes)))}"
            )
        out.append(sizes.pop() if sizes else 1)
    return tuple(out)


def reduced_shape(name: str, shape: Shape, axis: int | tuple[int, ...] | None, keepdims: bool) -> Shape:
    """`shape` without the reduced axes, or with length 1 in their place."""
    axes = reduced_axes(name, shape, axis)
    return tuple(1 if i in axes else s for i, s in enumerate(shape) if keepdims or i not in axes)


def reduced_axes(name: str, shape: Shape, axis: int | tuple[int, ...] | None) -> tuple[int, ...]:
    """The reduced axes as non-negative numbers; None means all."""
    if axis is None:
        return tuple(range(len(shape)))
    axes = tuple(normal_axis(name, shape, a) for a in (axis if isinstance(axis, tuple) else (axis,)))
    if len(set(axes)) != len(axes):
        raise ShapeError(f"{name}: axis {axis} names an axis twice")
    return axes


def normal_axis(name: str, shape: Shape, axis: int) -> int:
    """`axis` as a number in 0..ndim - 1."""
    if not -len(shape) <= axis < len(shape):
        raise ShapeError(f"{name}: axis {axis} is out of bounds for shape {shape} with {len(shape)} dimensions")
    return axis % len(shape)


# ---- arrays (N, channels, ...) as rows of channels, which kernels take


def as_rows(k: Any, x: Any) -> tuple[Any, Shape]:
    """x(N, channels, ...) or x(channels,) as (rows, channels), and its shape with the channels last."""
    last = k.transpose(x, (0, *range(2, x.ndim), 1)) if x.ndim > 2 else x
    channels = last.shape[-1]
    return k.reshape(last, (prod(last.shape[:-1]), channels)), last.shape


def from_rows(k: Any, rows: Any, last_shape: Shape) -> Any:
    """The inverse of as_rows."""
    n = len(last_shape)
    x = k.reshape(rows, last_shape)
    return k.transpose(x, (0, n - 1, *range(1, n - 1))) if n > 2 else x
