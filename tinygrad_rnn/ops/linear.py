"""Products with a matrix."""

from .op import Op, ShapeError, broadcast


def _swapped(k, x):
    return k.transpose(x, (*range(x.ndim - 2), x.ndim - 1, x.ndim - 2))


def _matmul_shape(x, y):
    if not x or not y or x[-1] != (y[-2] if len(y) > 1 else y[0]):
        raise ShapeError(f"matmul: shapes {x} and {y} do not multiply; expected (..., m, k) or (k,), and (..., k, n) or (k,)")
    return (*broadcast("matmul (batch axes)", x[:-2], y[:-2]), *x[-2:-1], *(y[-1:] if len(y) > 1 else ()))


def _matrices(k, x, y):
    """numpy's rule for vectors: a row on the left, a column on the right; the product lacks that axis."""
    return k.reshape(x, (1, x.size)) if x.ndim == 1 else x, k.reshape(y, (y.size, 1)) if y.ndim == 1 else y


def _matmul_forward(k, x, y):
    if x.ndim > 1 and y.ndim > 1:
        return k.matmul(x, y), (x, y)
    return k.reshape(k.matmul(*_matrices(k, x, y)), _matmul_shape(x.shape, y.shape)), (x, y)


def _matmul_vjp(k, g, x, y, needs):
    if x.ndim < 2 or y.ndim < 2:
        rows, columns = _matrices(k, x, y)
        matrix = (*g.shape[: max(x.ndim, y.ndim, 2) - 2], rows.shape[-2], columns.shape[-1])
        gx, gy = _matmul_vjp(k, k.reshape(g, matrix), rows, columns, needs)
        return (k.reshape(gx, x.shape) if needs[0] else None, k.reshape(gy, y.shape) if needs[1] else None)
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
