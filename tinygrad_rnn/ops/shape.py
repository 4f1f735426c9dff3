"""Ops that rearrange: views where numpy makes views, and joins and picks of whole pieces."""

from math import prod

import numpy as np

from .op import Op, ShapeError, broadcast, normal_axis

# ---- views


def _reshape_shape(x, shape):
    if prod(shape) != prod(x):
        raise ShapeError(f"reshape: shape {x} with {prod(x)} entries cannot become {shape} with {prod(shape)}")
    return shape


def _reshape_forward(k, x, shape):
    return k.reshape(x, shape), (x.shape,)


def _reshape_vjp(k, g, x_shape, needs, shape):
    return (k.reshape(g, x_shape),)


def _transpose_shape(x, axes):
    if sorted(axes) != list(range(len(x))):
        raise ShapeError(f"transpose: axes {axes} are not a permutation of the {len(x)} axes of shape {x}")
    return tuple(x[i] for i in axes)


def _transpose_forward(k, x, axes):
    return k.transpose(x, axes), ()


def _transpose_vjp(k, g, needs, axes):
    inverse = sorted(range(len(axes)), key=axes.__getitem__)
    return (k.transpose(g, tuple(inverse)),)


def _index_shape(x, index):
    try:
        # a view of one byte, repeated: the shape rule of numpy itself, at no cost
        return np.broadcast_to(np.False_, x)[index].shape
    except IndexError as error:
        raise ShapeError(f"index: {error}; shape {x}, index {index}") from None


def _index_forward(k, x, index):
    return k.slice(x, index), (x.shape,)


def _index_scatter(k, acc, g, x_shape, index):
    k.accumulate(k.slice(acc, index), g)


def _index_vjp(k, g, x_shape, needs, index):
    acc = k.zeros(x_shape, g.dtype)
    _index_scatter(k, acc, g, x_shape, index)
    return (acc,)


def _broadcast_to_shape(x, shape):
    if broadcast("broadcast_to", x, shape) != shape:
        raise ShapeError(f"broadcast_to: shape {x} does not broadcast to {shape}")
    return shape


def _broadcast_to_forward(k, x, shape):
    return k.broadcast_to(x, shape), (x.shape,)


def _broadcast_to_vjp(k, g, x_shape, needs, shape):
    return (k.sum_to(g, x_shape),)


def _diagonal_shape(x, offset, axis1, axis2):
    first, second = normal_axis("diagonal", x, axis1), normal_axis("diagonal", x, axis2)
    if first == second:
        raise ShapeError(f"diagonal: axis1 {axis1} and axis2 {axis2} of shape {x} are the same")
    length = min(x[first], x[second] - offset) if offset >= 0 else min(x[first] + offset, x[second])
    return (*[s for i, s in enumerate(x) if i not in (first, second)], max(length, 0))


def _diagonal_forward(k, x, offset, axis1, axis2):
    return k.diagonal(x, offset, axis1, axis2), (x.shape,)


def _diagonal_scatter(k, acc, g, x_shape, offset, axis1, axis2):
    k.accumulate(k.diagonal(acc, offset, axis1, axis2), g)


def _diagonal_vjp(k, g, x_shape, needs, offset, axis1, axis2):
    acc = k.zeros(x_shape, g.dtype)
    _diagonal_scatter(k, acc, g, x_shape, offset, axis1, axis2)
    return (acc,)


reshape = Op("reshape", _reshape_shape, _reshape_forward, _reshape_vjp, kind="view")
transpose = Op("transpose", _transpose_shape, _transpose_forward, _transpose_vjp, kind="view")
index = Op("index", _index_shape, _index_forward, _index_vjp, kind="view", scatter=_index_scatter)
broadcast_to = Op("broadcast_to", _broadcast_to_shape, _broadcast_to_forward, _broadcast_to_vjp, kind="view")
diagonal = Op("diagonal", _diagonal_shape, _diagonal_forward, _diagonal_vjp, kind="view", scatter=_diagonal_scatter)


# ---- a constant mask


def _keep_shape(x, mask):
    if len(x) < mask.ndim or x[len(x) - mask.ndim :] != mask.shape:
        raise ShapeError(f"keep: mask {mask.shape} does not fit the last axes of shape {x}")
    return x


def _keep_forward(k, x, mask):
    return k.relu_vjp(x, k.broadcast_to(mask, x.shape)), ()  # x where mask > 0, else 0, whatever x is there


def _keep_vjp(k, g, needs, mask):
    return (k.relu_vjp(g, k.broadcast_to(mask, g.shape)),)


keep = Op("keep", _keep_shape, _keep_forward, _keep_vjp)


# ---- picks: numpy's integer and boolean indexing, given as positions in the flattened array


def _take_shape(x, positions):
    if positions.size and not 0 <= positions.min() <= positions.max() < prod(x):
        raise IndexError(f"take: positions reach outside shape {x} with {prod(x)} entries")
    return positions.shape


def _take_forward(k, x, positions):
    return k.take(k.reshape(x, (x.size,)), positions), (x.shape,)


def _take_scatter(k, acc, g, x_shape, positions):
    k.take_add(k.reshape(acc, (acc.size,)), positions, g)


def _take_vjp(k, g, x_shape, needs, positions):
    acc = k.zeros(x_shape, g.dtype)
    _take_scatter(k, acc, g, x_shape, positions)
    return (acc,)


def _two_axes(weight):
    if len(weight) != 2:
        raise ShapeError(f"embedding: expected a weight (rows, features), got {weight}")


def _embedding_shape(weight, index):
    _two_axes(weight)
    if index.size and not 0 <= index.min() <= index.max() < weight[0]:
        raise IndexError(
            f"embedding: index {index.min() if index.min() < 0 else index.max()} lies outside the "
            f"{weight[0]} rows of the weight"
        )
    return (*index.shape, weight[1])


def _embedding_forward(k, weight, index):
    _two_axes(weight.shape)
    return k.take(weight, index), (weight.shape,)


def _embedding_scatter(k, acc, g, weight_shape, index):
    k.take_add(acc, index, g)


def _embedding_vjp(k, g, weight_shape, needs, index):
    return (k.take_add(k.zeros(weight_shape, g.dtype), index, g),)


take = Op("take", _take_shape, _take_forward, _take_vjp, scatter=_take_scatter)
embedding = Op("embedding", _embedding_shape, _embedding_forward, _embedding_vjp, kind="weights", scatter=_embedding_scatter)


# ---- joins, of at least one part along an axis >= 0


def _piece(axis, start, stop):
    return (slice(None),) * axis + (slice(start, stop),)


def _concatenate_shape(*shapes, axis):
    for s in shapes[1:]:
        if len(s) != len(shapes[0]) or s[:axis] != shapes[0][:axis] or s[axis + 1 :] != shapes[0][axis + 1 :]:
            raise ShapeError(f"concatenate: shapes {shapes[0]} and {s} differ beside axis {axis}")
    return (*shapes[0][:axis], sum(s[axis] for s in shapes), *shapes[0][axis + 1 :])


def _concatenate_forward(k, *parts, axis):
    return k.concatenate(parts, axis), (tuple(p.shape[axis] for p in parts),)


def _concatenate_vjp(k, g, sizes, needs, axis):
    out, start = [], 0
    for size, need in zip(sizes, needs, strict=True):
        out.append(k.slice(g, _piece(axis, start, start + size)) if need else None)
        start += size
    return tuple(out)


def _same_shapes(shapes):
    for s in shapes[1:]:
        if s != shapes[0]:
            raise ShapeError(f"stack: shapes {shapes[0]} and {s} differ")


def _stack_shape(*shapes, axis):
    _same_shapes(shapes)
    return (*shapes[0][:axis], len(shapes), *shapes[0][axis:])


def _stack_forward(k, *parts, axis):
    _same_shapes([p.shape for p in parts])
    shape = parts[0].shape
    expanded = (*shape[:axis], 1, *shape[axis:])
    return k.concatenate([k.reshape(p, expanded) for p in parts], axis), ()


def _stack_vjp(k, g, needs, axis):
    return tuple(k.slice(g, (slice(None),) * axis + (i,)) if need else None for i, need in enumerate(needs))


concatenate = Op("concatenate", _concatenate_shape, _concatenate_forward, _concatenate_vjp)
stack = Op("stack", _stack_shape, _stack_forward, _stack_vjp)
