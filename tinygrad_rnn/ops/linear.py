"""Products with a matrix."""

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
    return k.linear_vjp(g, x, w, needs)


matmul = Op("matmul", _matmul_shape, _matmul_forward, _matmul_vjp, kind="weights")
linear = Op("linear", _linear_shape, _linear_forward, _linear_vjp, kind="weights")
