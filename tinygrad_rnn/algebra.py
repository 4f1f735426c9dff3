"""Sums of products over chosen axes, made of transpose, reshape, matmul, mul and sum."""

from __future__ import annotations

from collections.abc import Hashable, Sequence, Set
from math import prod
from typing import Any

from .ops import ShapeError
from .ops.op import normal_axis
from .tensor import Tensor, as_tensor, lift

Labels = list[Hashable]  # the name of each axis of a tensor


def together(*values: Any) -> tuple[Tensor, ...]:
    """Values as tensors to compute with each other: numbers take the dtype of the first tensor among them."""
    like = next((v for v in values if isinstance(v, Tensor)), None)
    like = as_tensor(values[0]) if like is None else like
    return tuple(lift(v, like) for v in values)


def dot(a: Any, b: Any) -> Tensor:
    """The sum of products over the last axis of a and the last but one of b, or the only one, as numpy.dot: a(..., m, k) and
    b(..., k, n) give (..., m, ..., n). A number multiplies."""
    a, b = together(a, b)
    if not a.ndim or not b.ndim:
        return a * b
    return a @ b if b.ndim <= 2 else tensordot(a, b, (-1, -2))


Tensor.dot = dot  # type: ignore[attr-defined]  # a method of numpy's arrays too


def inner(a: Any, b: Any) -> Tensor:
    """The sum of products over the last axes of a(..., k) and b(..., k), which gives (..., ...). A number multiplies."""
    a, b = together(a, b)
    return tensordot(a, b, (-1, -1)) if a.ndim and b.ndim else a * b


def outer(a: Any, b: Any) -> Tensor:
    """a[i] b[j] for the entries of both, flattened: (m, n)"""
    a, b = together(a, b)
    return a.reshape(-1, 1) * b.reshape(-1)


def tensordot(a: Any, b: Any, axes: int | Sequence[Any] = 2) -> Tensor:
    """The sum of products over the last `axes` axes of a and the first of b, or over pairs of them, (axes of a, axes of b).

    What is left of a comes first. Raises ShapeError where lengths differ."""
    a, b = together(a, b)
    if isinstance(axes, int):
        if not 0 <= axes <= min(a.ndim, b.ndim):
            raise ShapeError(f"tensordot: {axes} axes do not fit shapes {a.shape} and {b.shape}")
        axes = range(a.ndim - axes, a.ndim), range(axes)
    of_a, of_b = ([v] if isinstance(v, int) else list(v) for v in axes)
    of_a = [normal_axis("tensordot", a.shape, i) for i in of_a]
    of_b = [normal_axis("tensordot", b.shape, i) for i in of_b]
    if [a.shape[i] for i in of_a] != [b.shape[i] for i in of_b] or len({*of_a}) < len(of_a) or len({*of_b}) < len(of_b):
        raise ShapeError(f"tensordot: axes {of_a} of shape {a.shape} and {of_b} of shape {b.shape} do not fit")
    labels_a: Labels = list(range(a.ndim))
    labels_b: Labels = list(range(a.ndim, a.ndim + b.ndim))
    for i, j in zip(of_a, of_b, strict=True):
        labels_b[j] = i
    return _product(a, labels_a, b, labels_b, {*labels_a, *labels_b}.difference(of_a))[0]


def einsum(subscripts: str, *operands: Any) -> Tensor:
    """The sum of products over all labels that the result does not name, as numpy.einsum: "ij,jk->ik", "...ii->...".

    Without "->" the result has the labels that appear once, in alphabetical order, after the axes of an ellipsis. A label that
    an operand has twice takes its diagonal. Lengths of 1 are broadcast. Operands are joined from left to right, two at a time.
    Raises ShapeError where labels and shapes do not fit, TypeError for anything else than a string and operands."""
    if not isinstance(subscripts, str) or not operands:
        raise TypeError("einsum: expected a string of subscripts, then at least one operand")
    tensors = together(*operands)
    terms, output = _parsed(subscripts, [t.shape for t in tensors])
    sizes: dict[Hashable, int] = {}
    for t, labels in zip(tensors, terms, strict=True):
        for label, n in zip(labels, t.shape, strict=True):
            if sizes.setdefault(label, n) == 1:
                sizes[label] = n
            elif n not in (1, sizes[label]):
                raise ShapeError(f"einsum: axes {label!r} of {subscripts!r} have lengths {sizes[label]} and {n}")
    result, at = _alone(tensors[0], terms[0], sizes, {*output}.union(*terms[1:]))
    for i, (t, labels) in enumerate(zip(tensors[1:], terms[1:], strict=True)):
        later = {*output}.union(*terms[i + 2 :])
        result, at = _product(result, at, *_alone(t, labels, sizes, later.union(at)), later)
    return _ordered(result, at, output)


def _parsed(subscripts: str, shapes: list[tuple[int, ...]]) -> tuple[list[Labels], Labels]:
    """The labels of each operand's axes, and of the result's; axes of an ellipsis are numbered from the right: ..., -2, -1."""
    inputs, arrow, result = subscripts.replace(" ", "").partition("->")
    given = inputs.split(",")
    if len(given) != len(shapes):
        raise ShapeError(f"einsum: {subscripts!r} names {len(given)} operands, got {len(shapes)}")
    terms: list[Labels] = []
    widest = 0
    for term, shape in zip(given, shapes, strict=True):
        before, dots, after = _letters(subscripts, term)
        wide = len(shape) - len(before) - len(after)
        if wide < 0 or wide and not dots:
            raise ShapeError(f"einsum: {term!r} of {subscripts!r} does not fit shape {shape}")
        terms.append([*before, *range(-wide, 0), *after])
        for label in before + after:
            if len({n for n, at in zip(shape, terms[-1], strict=True) if at == label}) > 1:
                raise ShapeError(f"einsum: the axes {label!r} of {term!r} differ in shape {shape}")
        widest = max(widest, wide)
    letters = [label for term in terms for label in term if isinstance(label, str)]
    if not arrow:
        return terms, [*range(-widest, 0), *sorted(label for label in {*letters} if letters.count(label) == 1)]
    before, dots, after = _letters(subscripts, result)
    if widest and not dots:
        raise ShapeError(f"einsum: the result of {subscripts!r} lacks the ellipsis of its operands")
    if len({*before, *after}) < len(before + after) or not {*before, *after} <= {*letters}:
        raise ShapeError(f"einsum: the result of {subscripts!r} names an axis twice, or one that no operand has")
    return terms, [*before, *range(-widest, 0), *after]


def _letters(subscripts: str, term: str) -> tuple[str, str, str]:
    """What comes before the ellipsis of a term, the ellipsis, if there is one, and what comes after it."""
    before, dots, after = term.partition("...")
    if before + after and not ((before + after).isalpha() and (before + after).isascii()):
        raise ShapeError(f"einsum: {term!r} of {subscripts!r}: expected letters and at most one ellipsis")
    return before, dots, after


def _alone(x: Tensor, labels: Labels, sizes: dict[Hashable, int], keep: Set[Hashable]) -> tuple[Tensor, Labels]:
    """One operand, of which every label is left once, and only those to keep."""
    single = [n == 1 != sizes[label] for n, label in zip(x.shape, labels, strict=True)]
    if any(single):  # what is broadcast needs no axis
        x = x[tuple(0 if s else slice(None) for s in single)]
        labels = [label for label, s in zip(labels, single, strict=True) if not s]
    for label in dict.fromkeys(labels):
        while labels.count(label) > 1:
            i = labels.index(label)
            j = labels.index(label, i + 1)
            x, labels = x.diagonal(0, i, j), [*labels[:i], *labels[i + 1 : j], *labels[j + 1 :], label]
    return _summed(x, labels, keep)


def _summed(x: Tensor, labels: Labels, keep: Set[Hashable]) -> tuple[Tensor, Labels]:
    axes = tuple(i for i, label in enumerate(labels) if label not in keep)
    return (x.sum(axes), [label for label in labels if label in keep]) if axes else (x, labels)


def _product(x: Tensor, of_x: Labels, y: Tensor, of_y: Labels, keep: Set[Hashable]) -> tuple[Tensor, Labels]:
    """x y, summed over the labels that are not to keep; those of both come first, then those of x alone, then those of y."""
    x, of_x = _summed(x, of_x, keep | set(of_y))
    y, of_y = _summed(y, of_y, keep | set(of_x))
    batch = [label for label in of_x if label in of_y and label in keep]
    over = [label for label in of_x if label in of_y and label not in keep]
    rows = [label for label in of_x if label not in of_y]
    columns = [label for label in of_y if label not in of_x]
    size = {**dict(zip(of_x, x.shape, strict=True)), **dict(zip(of_y, y.shape, strict=True))}
    if not over:
        x = _shaped(_ordered(x, of_x, batch + rows), [size[label] for label in batch + rows] + [1] * len(columns))
        y = _shaped(
            _ordered(y, of_y, batch + columns), [*(size[b] for b in batch), *[1] * len(rows), *(size[c] for c in columns)]
        )
        return x * y, batch + rows + columns
    first = [size[label] for label in batch]
    m, n, k = (prod(size[label] for label in labels) for labels in (rows, columns, over))
    x = _shaped(_ordered(x, of_x, batch + rows + over), [*first, m, k])
    y = _shaped(_ordered(y, of_y, batch + over + columns), [*first, k, n])
    return _shaped(x @ y, first + [size[label] for label in rows + columns]), batch + rows + columns


def _ordered(x: Tensor, labels: Labels, wanted: Labels) -> Tensor:
    return x if labels == wanted else x.transpose([labels.index(label) for label in wanted])


def _shaped(x: Tensor, shape: list[int]) -> Tensor:
    return x if x.shape == tuple(shape) else x.reshape(shape)
