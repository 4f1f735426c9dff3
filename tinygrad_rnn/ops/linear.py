"""Products with a matrix."""

from math import prod

from .op import Op, ShapeError, broadcast


def _swapped(k, x):
    return k.transpose(x, (*range(x.ndim - 2), x.ndim - 1, x.ndim - 2))


def _matmul_shape(x, y):
    if len(x) < 2 or len(y) < 2 or x[-1] != y[-2]:
        raise ShapeError(f"matmul: shapes {x} and {y} do not multiply; expected (..., m, k) and (..., k, n)")
    return (*broadcast("matmul (batch axes)", x[:-2], y[:-2]), x[-2], y[-1])


def _matmul_forward(k, x, y):
    return k.matmul(x, y), (x, y)


def _matmul_vjp(k, g, x, y, needs):
    # out = x y: gx = g y^T, gy = x^T g
    return (
        k.sum_to(k.matmul(g, _swapped(k, y)), x.shape) if needs[0] else None,
        k.sum_to(k.matmul(_swapped(k, x), g), y.shape) if needs[1] else None,
    )


def _linear_shape(x, w, b=None):
    if len(w) != 2 or len(x) < 1 or x[-1] != w[1]:
        raise ShapeError(f"linear: input {x} does not fit weight {w}; expected (..., {w[-1] if w else '?'}) and a 2-D weight")
    if b is not None and b != w[:1]:
        raise ShapeError(f"linear: bias {b} does not fit weight {w}; expected {w[:1]}")
    return (*x[:-1], w[0])


def _linear_forward(k, x, w, b=None):
    return k.linear(x, w, b), (x, w)


def _linear_vjp(k, g, x, w, needs):
    # out = x w^T + b: gx = g w, gw = g^T x, gb = the sum of g over all rows
    if g.ndim != 2:
        rows = prod(x.shape[:-1])
        flat = _linear_vjp(k, k.reshape(g, (rows, w.shape[0])), k.reshape(x, (rows, w.shape[1])), w, needs)
        return (k.reshape(flat[0], x.shape) if needs[0] else None, *flat[1:])
    gx = k.matmul(g, w) if needs[0] else None
    gw = k.matmul(k.transpose(g), x) if needs[1] else None
    if len(needs) == 2:
        return gx, gw
    return gx, gw, k.sum(g, 0) if needs[2] else None


matmul = Op("matmul", _matmul_shape, _matmul_forward, _matmul_vjp, kind="weights")
linear = Op("linear", _linear_shape, _linear_forward, _linear_vjp, kind="weights")
