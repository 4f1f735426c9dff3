"""The reference backend: every function of the native backend in plain numpy, written to be obviously right.

It is the oracle of every kernel test.
Names, signatures and errors are those of `_native.pyx`; each function keeps the dtype of its inputs.
"""

import builtins
import math

import numpy as np


def _checked(name, *arrays):
    for x in arrays:
        if x.dtype not in (np.float32, np.float64):
            raise TypeError(f"{name}: expected float32 or float64, got {x.dtype}")
        if x.dtype != arrays[0].dtype:
            raise TypeError(f"{name}: {arrays[0].dtype} and {x.dtype} do not mix")


def _pointwise(name, f, *arrays):
    _checked(name, *arrays)
    try:
        with np.errstate(all="ignore"):
            return np.asarray(f(*arrays), arrays[0].dtype, order="C")
    except ValueError:
        raise ValueError(f"{name}: shapes {' and '.join(str(x.shape) for x in arrays)} do not broadcast") from None


def neg(x):
    return _pointwise("neg", np.negative, x)


def exp(x):
    return _pointwise("exp", np.exp, x)


def log(x):
    return _pointwise("log", np.log, x)


def sqrt(x):
    return _pointwise("sqrt", np.sqrt, x)


def relu(x):
    return _pointwise("relu", lambda x: np.maximum(x, 0), x)


def abs(x):
    return _pointwise("abs", np.abs, x)


def square(x):
    return _pointwise("square", np.square, x)


def reciprocal(x):
    return _pointwise("reciprocal", np.reciprocal, x)


def rsqrt(x):
    return _pointwise("rsqrt", lambda x: 1 / np.sqrt(x), x)


def sign(x):
    return _pointwise("sign", np.sign, x)


def floor(x):
    return _pointwise("floor", np.floor, x)


def ceil(x):
    return _pointwise("ceil", np.ceil, x)


def exp2(x):
    return _pointwise("exp2", np.exp2, x)


def expm1(x):
    return _pointwise("expm1", np.expm1, x)


def sinh(x):
    return _pointwise("sinh", np.sinh, x)


def cosh(x):
    return _pointwise("cosh", np.cosh, x)


def log1p(x):
    return _pointwise("log1p", np.log1p, x)


def log2(x):
    return _pointwise("log2", np.log2, x)


def log10(x):
    return _pointwise("log10", np.log10, x)


def logsigmoid(x):
    return _pointwise("logsigmoid", lambda x: -np.logaddexp(0, -x), x)


def arcsinh(x):
    return _pointwise("arcsinh", np.arcsinh, x)


def arccosh(x):
    return _pointwise("arccosh", np.arccosh, x)


def arctanh(x):
    return _pointwise("arctanh", np.arctanh, x)


def arcsin(x):
    return _pointwise("arcsin", np.arcsin, x)


def arccos(x):
    return _pointwise("arccos", np.arccos, x)


def arctan(x):
    return _pointwise("arctan", np.arctan, x)


def softsign(x):
    return _pointwise("softsign", lambda x: np.where(np.isinf(x), np.sign(x), x / (1 + np.abs(x))), x)


def sin(x):
    return _pointwise("sin", np.sin, x)


def cos(x):
    return _pointwise("cos", np.cos, x)


def tan(x):
    return _pointwise("tan", np.tan, x)


def log1p_dx(x):
    return _pointwise("log1p_dx", lambda x: 1 / (1 + x), x)


def arcsin_dx(x):
    return _pointwise("arcsin_dx", lambda x: 1 / np.sqrt((1 - x) * (1 + x)), x)


def arctan_dx(x):
    return _pointwise("arctan_dx", lambda x: 1 / np.hypot(1, x) ** 2, x)


def arcsinh_dx(x):
    return _pointwise("arcsinh_dx", lambda x: 1 / np.hypot(1, x), x)


def arccosh_dx(x):
    return _pointwise("arccosh_dx", lambda x: 1 / (np.sqrt(x - 1) * np.sqrt(x + 1)), x)


def arctanh_dx(x):
    return _pointwise("arctanh_dx", lambda x: 1 / ((1 - x) * (1 + x)), x)


def softsign_dx(x):
    return _pointwise("softsign_dx", lambda x: 1 / (1 + np.abs(x)) ** 2, x)


def tanh(x):
    def derivative(x):
        e = np.exp(-2 * np.abs(x.astype(np.float64)))
        return 4 * e / (1 + e) ** 2

    return _pointwise("tanh", np.tanh, x), _pointwise("tanh", derivative, x)


def sigmoid(x):
    def value(x):
        e = np.exp(-np.abs(x.astype(np.float64)))
        return np.where(x < 0, e, 1) / (1 + e)

    def derivative(x):
        e = np.exp(-np.abs(x.astype(np.float64)))
        return e / (1 + e) ** 2

    return _pointwise("sigmoid", value, x), _pointwise("sigmoid", derivative, x)


def _both(name, f, x):
    """(value, derivative) of f(float64 x) -> both."""
    return tuple(_pointwise(name, lambda x, i=i: f(x.astype(np.float64))[i], x) for i in range(2))


_erfc = np.vectorize(math.erfc, otypes=[np.float64])


def erf(x):
    return _both("erf", lambda x: (np.vectorize(math.erf, otypes=[float])(x), 2 / np.sqrt(np.pi) * np.exp(-x * x)), x)


def gelu(x):
    def both(x):
        below = _erfc(-x / np.sqrt(2)) / 2
        return x * below, below + np.nan_to_num(x, nan=np.nan) * np.exp(-x * x / 2) / np.sqrt(2 * np.pi)

    return _both("gelu", both, x)


def _gated(x, w, dw):
    e = np.exp(-np.abs(w))
    s, other = np.where(w < 0, e, 1) / (1 + e), np.where(w < 0, 1, e) / (1 + e)
    return x * s, s * (1 + np.nan_to_num(x, nan=np.nan) * other * dw)


def gelu_tanh(x):
    def both(x):
        b = np.clip(x, -1e3, 1e3)
        return _gated(x, np.sqrt(8 / np.pi) * (b + 0.044715 * b**3), np.sqrt(8 / np.pi) * (1 + 3 * 0.044715 * b**2))

    return _both("gelu_tanh", both, x)


def silu(x):
    return _both("silu", lambda x: _gated(x, x, 1), x)


def softplus(x):
    return _pointwise("softplus", lambda x: np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x.astype(np.float64)))), x), sigmoid(x)[
        0
    ]


def elu(x, alpha):
    return _both("elu", lambda x: (np.where(x < 0, alpha * np.expm1(x), x), np.where(x > 0, 1, alpha * np.exp(x))), x)


def leaky_relu(x, negative_slope):
    return _both("leaky_relu", lambda x: (np.where(x > 0, x, negative_slope * x), np.where(x > 0, 1, negative_slope)), x)


def hardtanh(x, min_val, max_val):
    return _both("hardtanh", lambda x: (np.clip(x, min_val, max_val), (x > min_val) & (x < max_val)), x)


def huber(x, delta, factor):
    def both(x):
        inside = np.abs(x) <= delta
        return factor * np.where(inside, x * x / 2, delta * (np.abs(x) - delta / 2)), factor * np.clip(x, -delta, delta)

    return _both("huber", both, x)


def _relu_and_derivative(x):
    y = relu(x)
    return y, relu_vjp(np.ones_like(y), y)


def relu_vjp(g, y):
    if g.shape != y.shape:
        raise ValueError(f"relu_vjp: shapes {g.shape} and {y.shape} differ")
    return _pointwise("relu_vjp", lambda g, y: np.where(y > 0, g, 0), g, y)


def clip(x, low, high):
    low, high = -np.inf if low is None else low, np.inf if high is None else high  # numpy 2.0 refuses None for both
    return _pointwise("clip", lambda x: np.clip(x, low, high), x)


def clip_vjp(g, x, low, high):
    if g.shape != x.shape:
        raise ValueError(f"clip_vjp: shapes {g.shape} and {x.shape} differ")
    return _pointwise("clip_vjp", lambda g, x: np.where((x >= x.dtype.type(low)) & (x <= x.dtype.type(high)), g, 0), g, x)


def scale(x, factor):
    return _pointwise("scale", lambda x: x * x.dtype.type(factor), x)


def add(a, b):
    return _pointwise("add", np.add, a, b)


def sub(a, b):
    return _pointwise("sub", np.subtract, a, b)


def mul(a, b):
    return _pointwise("mul", np.multiply, a, b)


def mul_vjp(g, a, b, needs):
    return (
        sum_to(mul(g, b), a.shape) if needs[0] else None,
        sum_to(mul(g, a), b.shape) if needs[1] else None,
    )


def div(a, b):
    return _pointwise("div", np.divide, a, b)


def pow(a, b):
    return _pointwise("pow", np.power, a, b)


def pow_dbase(a, b):
    return _pointwise("pow_dbase", lambda a, b: np.where(b == 0, 0, b * np.power(a, b - 1)), a, b)


def pow_dexponent(a, b):
    return _pointwise("pow_dexponent", lambda a, b: np.where((a == 0) & (b >= 0), 0, np.power(a, b) * np.log(a)), a, b)


def maximum(a, b):
    return _pointwise("maximum", np.maximum, a, b)


def minimum(a, b):
    return _pointwise("minimum", np.minimum, a, b)


def maximum_da(a, b):
    return _pointwise("maximum_da", lambda a, b: np.where(a < b, 0, np.where(a == b, 0.5, 1)), a, b)


def logaddexp(a, b):
    return _pointwise("logaddexp", np.logaddexp, a, b)


def logaddexp_da(a, b):
    return _pointwise("logaddexp_da", lambda a, b: np.where(a == b, 0.5, 1 / (1 + np.exp(b - a))), a, b)


def arctan2(a, b):
    return _pointwise("arctan2", np.arctan2, a, b)


def hypot(a, b):
    return _pointwise("hypot", np.hypot, a, b)


def div_or_zero(a, b):
    return _pointwise("div_or_zero", lambda a, b: np.where(b == 0, 0, a / b), a, b)


def where(condition, x, y):
    _checked("where", x, y)
    if condition.dtype != np.bool_:
        raise TypeError(f"where: expected a condition of booleans, got {condition.dtype}")
    try:
        return np.asarray(np.where(condition, x, y))
    except ValueError:
        raise ValueError(f"where: shapes {condition.shape}, {x.shape} and {y.shape} do not broadcast") from None


def nonzero(x):
    _checked("nonzero", x)
    return np.asarray(x != 0)


def booleans(x):
    return np.array(x, np.bool_, order="C")


def equal(a, b):
    return _pointwise("equal", np.equal, a, b)


def copy(x):
    _checked("copy", x)
    return np.array(x, order="C")


def accumulate(y, x):
    _checked("accumulate", y, x)
    if x.shape != y.shape:
        raise ValueError(f"accumulate: shapes {y.shape} and {x.shape} differ")
    y += x
    return y


def zeros(shape, dtype):
    return np.zeros(shape, dtype)


def reshape(x, shape):
    return x.reshape(shape)


def transpose(x, axes=None):
    return x.transpose(axes)


def slice(x, index):
    return x[index if Ellipsis in index else (*index, Ellipsis)]


def diagonal(x, offset, axis1, axis2):
    y = x.diagonal(offset, axis1, axis2)
    y.flags.writeable = x.flags.writeable
    return y


def broadcast_to(x, shape):
    return np.broadcast_to(x, shape)


def concatenate(parts, axis):
    _checked("concatenate", *parts)
    return np.concatenate(parts, axis)


def take(x, index):
    if not x.ndim:
        raise ValueError("take: a 0-d array has no rows")
    _check_index("take", x, index)
    return x[index]


def take_add(x, index, g):
    _check_index("take_add", x, index)
    _checked("take_add", x, g)
    np.add.at(x, index, g)
    return x


def integers(x):
    return np.array(x, np.int64, order="C")


def _check_index(name, x, index):
    if index.dtype != np.int64:
        raise TypeError(f"{name}: expected int64 indices, got {index.dtype}")
    if index.size and not 0 <= index.min() <= index.max() < len(x):
        raise IndexError(f"{name}: an index lies outside 0..{len(x) - 1}")


class Packed:
    """A right operand kept for many products; here, just the array."""

    def __init__(self, b):
        self.data, (self.k, self.n) = b, b.shape


def matmul(a, b):
    if isinstance(b, Packed):
        b = b.data
    _checked("matmul", a, b)
    if a.ndim < 2 or b.ndim < 2 or a.shape[-1] != b.shape[-2]:
        raise ValueError(f"matmul: shapes {a.shape} and {b.shape} do not fit (..., m, k) and (..., k, n)")
    return np.matmul(a, b)


def linear(x, w, b=None):
    if isinstance(w, Packed):
        w = w.data.T
    _checked("linear", *([x, w] if b is None else [x, w, b]))
    if w.ndim != 2 or x.ndim < 1 or x.shape[-1] != w.shape[1]:
        raise ValueError(f"linear: input {x.shape} and weight {w.shape} do not fit (..., I) and (O, I)")
    if b is not None and b.shape != w.shape[:1]:
        raise ValueError(f"linear: bias {b.shape} does not fit the weight {w.shape}; expected {w.shape[:1]}")
    y = np.asarray(x @ w.T)
    return y if b is None else y + b


def linear_vjp(g, x, w, needs):
    _checked("linear_vjp", g, x, w)
    if w.ndim != 2 or g.shape != (*x.shape[:-1], w.shape[0]) or x.shape[-1:] != w.shape[1:]:
        raise ValueError(
            f"linear_vjp: cotangent {g.shape}, input {x.shape} and weight {w.shape} do not fit (..., O), (..., I) and (O, I)"
        )
    gx, gw, gb = g @ w, np.tensordot(g, x, (range(g.ndim - 1),) * 2), g.sum(tuple(range(g.ndim - 1)))
    return tuple(gv if need else None for gv, need in zip((gx, gw, gb), needs, strict=False))


def matmul_add(y, a, b):
    _checked("matmul_add", y, a, b)
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[0] or y.shape != (a.shape[0], b.shape[1]):
        raise ValueError(f"matmul_add: shapes {y.shape}, {a.shape} and {b.shape} do not fit (m, n), (m, k) and (k, n)")
    y += a @ b
    return y


def pack(b):
    _checked("pack", b)
    if b.ndim != 2:
        raise ValueError(f"pack: expected (k, n), got shape {b.shape}")
    return Packed(b.copy())


_ACTIVATIONS = {"identity": lambda z: (z, np.ones_like(z)), "tanh": tanh, "sigmoid": sigmoid, "relu": _relu_and_derivative}


def _activation(name, activation):
    try:
        return _ACTIVATIONS[activation]
    except (KeyError, TypeError):
        raise ValueError(f"{name}: unknown activation {activation!r}; expected one of {', '.join(_ACTIVATIONS)}") from None


def linear_activation(x, w, b, activation):
    return _activation("linear_activation", activation)(linear(x, w, b))


def _check_cell(name, x, h, w_ih, w_hh):
    _checked(name, *([x, h, w_hh] if w_ih is None else [x, h, w_ih, w_hh]))
    if x.ndim != 2 or w_hh.ndim != 2 or w_hh.shape[0] != w_hh.shape[1]:
        raise ValueError(f"{name}: expected 2-D arrays, got an input {x.shape} and a recurrent weight {w_hh.shape}")
    H = len(w_hh)
    if h.shape != (len(x), H):
        raise ValueError(f"{name}: the state has shape {h.shape}, expected ({len(x)}, {H})")
    if w_ih is None and x.shape != h.shape:
        raise ValueError(f"{name}: the input projection has shape {x.shape}, expected {h.shape}")
    if w_ih is not None and w_ih.shape != (H, x.shape[1]):
        raise ValueError(f"{name}: weight_ih has shape {w_ih.shape}, expected ({H}, {x.shape[1]})")


def rnn_cell(x, h, w_ih, w_hh, b_ih, b_hh, activation):
    f = _activation("rnn_cell", activation)
    _check_cell("rnn_cell", x, h, w_ih, w_hh)
    z = (x if w_ih is None else x @ w_ih.T) + h @ w_hh.T
    for b in (b_ih, b_hh):
        if b is not None:
            _checked("rnn_cell", x, b)
            if b.shape != w_hh.shape[:1]:
                raise ValueError(f"rnn_cell: a bias has shape {b.shape}, expected {w_hh.shape[:1]}")
            z = z + b
    return f(z)


def rnn_cell_vjp(g, dy, x, h, w_ih, w_hh, needs):
    _check_cell("rnn_cell_vjp", x, h, w_ih, w_hh)
    _checked("rnn_cell_vjp", x, g, dy)
    for what, v in (("cotangent", g), ("derivative", dy)):
        if v.shape != h.shape:
            raise ValueError(f"rnn_cell_vjp: the {what} has shape {v.shape}, expected {h.shape}")
    dz = g * dy
    return (
        (dz if w_ih is None else dz @ w_ih) if needs[0] else None,
        dz @ w_hh if needs[1] else None,
        dz.T @ x if needs[2] else None,
        dz.T @ h if needs[3] else None,
        dz.sum(0) if needs[4] else None,
    )


def lstm_gates(z):
    _checked("lstm_gates", z)
    if z.ndim != 2 or z.shape[1] % 4:
        raise ValueError(f"lstm_gates: pre-activations have shape {z.shape}, expected (B, 4 H)")
    parts = [f(part) for f, part in zip((sigmoid, sigmoid, tanh, sigmoid), np.split(z, 4, 1), strict=True)]
    return tuple(np.concatenate(arrays, 1) for arrays in zip(*parts, strict=True))


def _rows(name, f, *arrays):
    _checked(name, *arrays)
    for x in arrays:
        if x.ndim != 2:
            raise ValueError(f"{name}: an array has shape {x.shape}, expected (B, H)")
        if x.shape != arrays[0].shape:
            raise ValueError(f"{name}: shapes {arrays[0].shape} and {x.shape} differ")
    with np.errstate(all="ignore"):
        return f(*arrays)


def lstm_state(i, f, g, c):
    return _rows("lstm_state", lambda i, f, g, c: f * c + i * g, i, f, g, c)


def lstm_state_vjp(dy, i, f, g, c):
    return _rows("lstm_state_vjp", lambda dy, i, f, g, c: (dy * g, dy * c, dy * i, dy * f), dy, i, f, g, c)


def addcmul(x, a, b):
    return _rows("addcmul", lambda x, a, b: x + a * b, x, a, b)


def addcmul_vjp(g, a, b):
    return _rows("addcmul_vjp", lambda g, a, b: (g * b, g * a), g, a, b)


def lerp(a, b, w):
    return _rows("lerp", lambda a, b, w: (1 - w) * a + w * b, a, b, w)


def lerp_vjp(g, a, b, w):
    return _rows("lerp_vjp", lambda g, a, b, w: (g * (1 - w), g * w, g * (b - a)), g, a, b, w)


def _check_lengths(name, x, lengths):
    if lengths.shape != x.shape[:1]:
        raise ValueError(f"{name}: lengths {lengths.shape} do not fit {x.shape}; expected ({x.shape[0]},)")


def select_steps(x, old, lengths, t):
    def select(x, old):
        _check_lengths("select_steps", x, lengths)
        return np.where((t < lengths)[:, None], x, old)

    return _rows("select_steps", select, x, old)


def mask_steps(x, lengths, t, there):
    def mask(x):
        _check_lengths("mask_steps", x, lengths)
        return np.where(((t < lengths) == there)[:, None], x, 0).astype(x.dtype)

    return _rows("mask_steps", mask, x)


def _axes(axis, ndim):
    """Checked and non-negative: numpy itself lets axis 0 of a 0-d array pass."""
    return None if axis is None else np.lib.array_utils.normalize_axis_tuple(axis, ndim)


def _sum(x, axis, keepdims):
    """In float64: along a leading axis numpy adds one float32 after the other, which loses digits where they are many."""
    return np.asarray(np.sum(x, axis=axis, keepdims=keepdims, dtype=np.float64), x.dtype)


def sum(x, axis=None, keepdims=False):
    _checked("sum", x)
    axis = _axes(axis, x.ndim)
    return _sum(x, axis, keepdims)


def max(x, axis=None, keepdims=False):
    _checked("max", x)
    axis = _axes(axis, x.ndim)
    return np.asarray(np.max(x, axis=axis, keepdims=keepdims))


def min(x, axis=None, keepdims=False):
    _checked("min", x)
    axis = _axes(axis, x.ndim)
    return np.asarray(np.min(x, axis=axis, keepdims=keepdims))


def prod(x, axis=None, keepdims=False):
    _checked("prod", x)
    axis = _axes(axis, x.ndim)
    with np.errstate(all="ignore"):
        return np.asarray(np.prod(x, axis=axis, keepdims=keepdims))


def cumsum(x, axis):
    return _pointwise("cumsum", lambda x: np.cumsum(x, _axes(axis, x.ndim)[0]), x)


def cumprod(x, axis):
    return _pointwise("cumprod", lambda x: np.cumprod(x, _axes(axis, x.ndim)[0]), x)


def cumprod_vjp(g, x, y, axis):
    if not g.shape == x.shape == y.shape:
        raise ValueError(f"cumprod_vjp: shapes {g.shape}, {x.shape} and {y.shape} differ")

    def cotangent(g, x, y):
        gs, xs, dx = (np.moveaxis(v, axis, 0) for v in (g, x, np.zeros_like(x)))
        for i in range(len(xs)):
            for j in range(i + 1):  # y[i] is the product of x[j] and of the others up to i
                dx[j] += gs[i] * np.prod(np.delete(xs[: i + 1], j, 0), 0)
        return np.moveaxis(dx, 0, axis)

    return _pointwise("cumprod_vjp", cotangent, g, x, y)


def logsumexp(x, axis=None, keepdims=False):
    _checked("logsumexp", x)
    axis = _axes(axis, x.ndim)
    with np.errstate(all="ignore"):
        top = np.max(x, axis=axis, keepdims=True, initial=-np.inf)
        top = np.where(np.isinf(top), 0, top).astype(x.dtype)
        total = np.log(np.sum(np.exp(x - top), axis=axis, keepdims=True)) + top
    return np.asarray(total if keepdims else np.squeeze(total, axis=axis), x.dtype)


def sum_to(g, shape):
    _checked("sum_to", g)
    extra = g.ndim - len(shape)
    if extra < 0 or any(s != d and s != 1 for s, d in zip(shape, g.shape[extra:], strict=True)):
        raise ValueError(f"sum_to: {shape} does not broadcast to {g.shape}")
    axes = tuple(range(extra)) + tuple(i + extra for i, s in enumerate(shape) if s != g.shape[i + extra])
    return _sum(g, axes, True).reshape(shape) if axes else g


def add_norm(norm, x):
    _checked("add_norm", x)
    _doubles("add_norm", "the norm", norm, ())
    top = np.max(np.abs(x), initial=0).astype(np.float64)
    scale = top if 0 < top < np.inf else 1.0
    with np.errstate(over="ignore"):
        own = scale * np.sqrt(np.sum(np.square(x / scale, dtype=np.float64)))
        norm[...] = np.nan if np.isnan(own + norm) else np.hypot(norm, own)
    return norm


def _doubles(name, what, x, shape):
    if x.dtype != np.float64 or x.shape != shape:
        raise ValueError(f"{name}: {what} must be float64 {shape}, got {x.dtype} {x.shape}")


# ---- convolution and pooling: sums over the taps of the window, each a strided slice of the padded input


def _window_sizes(name, size, kernel, stride, padding, dilation=(1, 1)):
    """(OH, OW)"""
    out = []
    for length, k, s, (first, last), d in zip(size, kernel, stride, padding, dilation, strict=True):
        room = length + first + last - d * (k - 1) - 1
        if builtins.min(length, k, s, d) < 1 or builtins.min(first, last, room) < 0:
            raise ValueError(
                f"{name}: windows of {k} with stride {s}, dilation {d} and padding {(first, last)} do not fit an axis "
                f"of {length}"
            )
        out.append(room // s + 1)
    return tuple(out)


def _padded(x, padding, value=0):
    return np.pad(x, [(0, 0), (0, 0), *padding], constant_values=value)


def _unpadded(x, padding):
    (top, bottom), (left, right) = padding
    return x[:, :, top : x.shape[2] - bottom, left : x.shape[3] - right]


def _taps(out, kernel, stride, dilation=(1, 1)):
    """(place in the window, index of what lies there in the last two axes, for all windows), row by row."""
    for at in np.ndindex(*kernel):
        starts = [i * d for i, d in zip(at, dilation, strict=True)]
        pieces = [np.s_[a : a + s * (n - 1) + 1 : s] for a, s, n in zip(starts, stride, out, strict=True)]
        yield at, (..., *pieces)


def _conv_sizes(name, x, w, stride, padding, dilation, groups):
    _checked(name, x, w)
    if x.ndim != 4 or w.ndim != 4 or groups < 1 or x.shape[1] != w.shape[1] * groups or w.shape[0] % groups:
        raise ValueError(
            f"{name}: input {x.shape}, weight {w.shape} and groups={groups} do not fit (N, C, H, W) and (O, C / groups, KH, KW)"
        )
    return _window_sizes(name, x.shape[2:], w.shape[2:], stride, padding, dilation)


def _grouped(x, groups, axis):
    """x with the axis of the channels split in two."""
    return x.reshape(*x.shape[:axis], groups, x.shape[axis] // groups, *x.shape[axis + 1 :])


def conv2d(x, w, b, stride, padding, dilation, groups):
    out = _conv_sizes("conv2d", x, w, stride, padding, dilation, groups)
    padded, weight = _grouped(_padded(x, padding), groups, 1), _grouped(w, groups, 0)
    y = np.zeros((len(x), *weight.shape[:2], *out), x.dtype)
    for at, index in _taps(out, w.shape[2:], stride, dilation):
        y += np.einsum("ngchw,goc->ngohw", padded[index], weight[(..., *at)])
    y = y.reshape(len(x), len(w), *out)
    if b is not None:
        _checked("conv2d", x, b)
        if b.shape != w.shape[:1]:
            raise ValueError(f"conv2d: bias {b.shape} does not fit the weight {w.shape}; expected {w.shape[:1]}")
        y += b[:, None, None]
    return y


def conv2d_vjp(g, x, w, needs, stride, padding, dilation, groups):
    out = _conv_sizes("conv2d_vjp", x, w, stride, padding, dilation, groups)
    _checked("conv2d_vjp", g, x)
    if g.shape != (len(x), len(w), *out):
        raise ValueError(f"conv2d_vjp: expected a cotangent of shape {(len(x), len(w), *out)}, got {g.shape}")
    padded, weight, cotangent = _grouped(_padded(x, padding), groups, 1), _grouped(w, groups, 0), _grouped(g, groups, 1)
    gx, gw = np.zeros_like(padded), np.zeros_like(weight)
    for at, index in _taps(out, w.shape[2:], stride, dilation):
        gx[index] += np.einsum("ngohw,goc->ngchw", cotangent, weight[(..., *at)])
        gw[(..., *at)] = np.einsum("ngohw,ngchw->goc", cotangent, padded[index])
    gx = _unpadded(gx.reshape(len(x), x.shape[1], *gx.shape[-2:]), padding)
    return tuple(v if need else None for v, need in zip((gx, gw.reshape(w.shape), g.sum((0, 2, 3))), needs, strict=False))


def _pool_sizes(name, size, kernel, stride, padding):
    """(OH, OW), and the padding of both sides"""
    if any(2 * pad > k for k, pad in zip(kernel, padding, strict=True)):
        raise ValueError(f"{name}: padding {padding} is more than half of the window {kernel}")
    both = [(pad, pad) for pad in padding]
    return _window_sizes(name, size, kernel, stride, both), both


def max_pool2d(x, kernel, stride, padding):
    _checked("max_pool2d", x)
    out, both = _pool_sizes("max_pool2d", x.shape[2:], kernel, stride, padding)
    padded = _padded(x, both, -np.inf)
    return np.max([padded[index] for _, index in _taps(out, kernel, stride)], 0)


def max_pool2d_vjp(g, x, kernel, stride, padding):
    _checked("max_pool2d_vjp", g, x)
    out, both = _pool_sizes("max_pool2d_vjp", x.shape[2:], kernel, stride, padding)
    if g.shape != (*x.shape[:2], *out):
        raise ValueError(f"max_pool2d_vjp: expected a cotangent of shape {(*x.shape[:2], *out)}, got {g.shape}")
    padded, inside = _padded(x, both, -np.inf), _padded(np.ones_like(x), both)
    taps = [index for _, index in _taps(out, kernel, stride)]
    windows = np.array([padded[index] for index in taps])
    maximal = (windows == windows.max(0)) & np.array([inside[index] > 0 for index in taps])
    last_nan = len(taps) - 1 - np.isnan(windows)[::-1].argmax(0)
    chosen = np.where(np.isnan(windows).any(0), last_nan, maximal.argmax(0))
    gx = np.zeros_like(padded)
    for i, index in enumerate(taps):
        gx[index] += np.where(chosen == i, g, 0)
    return _unpadded(gx, both)


def _divisor(shape, dtype, out, both, kernel, stride, count_include_pad):
    inside = np.pad(np.ones(shape[2:], dtype), both, constant_values=count_include_pad)
    return np.sum([inside[index] for _, index in _taps(out, kernel, stride)], 0)


def avg_pool2d(x, kernel, stride, padding, count_include_pad):
    _checked("avg_pool2d", x)
    out, both = _pool_sizes("avg_pool2d", x.shape[2:], kernel, stride, padding)
    padded = _padded(x, both)
    total = np.sum([padded[index] for _, index in _taps(out, kernel, stride)], 0)
    return total / _divisor(x.shape, x.dtype, out, both, kernel, stride, count_include_pad)


def avg_pool2d_vjp(g, shape, kernel, stride, padding, count_include_pad):
    _checked("avg_pool2d_vjp", g)
    out, both = _pool_sizes("avg_pool2d_vjp", shape[2:], kernel, stride, padding)
    if g.shape != (*shape[:2], *out):
        raise ValueError(f"avg_pool2d_vjp: expected a cotangent of shape {(*shape[:2], *out)}, got {g.shape}")
    gx = _padded(np.zeros(shape, g.dtype), both)
    share = g / _divisor(shape, g.dtype, out, both, kernel, stride, count_include_pad)
    for _, index in _taps(out, kernel, stride):
        gx[index] += share
    return _unpadded(gx, both)


def softmax(x, axis):
    def value(x):
        e = np.exp(x - np.max(x, axis=axis, keepdims=True, initial=-np.inf))
        return e / np.sum(e, axis=axis, keepdims=True)

    return _pointwise("softmax", value, x)


def log_softmax(x, axis):
    def value(x):
        shifted = x - np.max(x, axis=axis, keepdims=True, initial=-np.inf)
        return shifted - np.log(np.sum(np.exp(shifted), axis=axis, keepdims=True))

    return _pointwise("log_softmax", value, x)


def _check_rows(name, shape, target, ignore, g=None):
    """Which rows count. Raises unless shape is (rows, classes) and the other targets lie in 0..classes - 1."""
    if target.dtype != np.int64:
        raise TypeError(f"{name}: expected int64 indices, got {target.dtype}")
    if len(shape) != 2 or target.shape != shape[:1] or (g is not None and g.shape != shape[:1]):
        raise ValueError(f"{name}: expected (rows, classes) and (rows,), got {shape} and {target.shape}")
    counts = target != ignore
    if np.any(counts & ((target < 0) | (target >= shape[1]))):
        raise IndexError(f"{name}: an index lies outside 0..{shape[1] - 1}")
    return counts


def nll(log_probability, target, ignore=-100):
    _checked("nll", log_probability)
    rows = np.flatnonzero(_check_rows("nll", log_probability.shape, target, ignore))
    y = np.zeros(len(target), log_probability.dtype)
    y[rows] = -log_probability[rows, target[rows]]
    return y


def nll_vjp(g, target, classes, ignore=-100):
    _checked("nll_vjp", g)
    rows = np.flatnonzero(_check_rows("nll_vjp", (len(target), classes), target, ignore, g))
    gx = np.zeros((len(target), classes), g.dtype)
    gx[rows, target[rows]] = -g[rows]
    return gx


def cross_entropy_vjp(g, log_probability, target, ignore=-100):
    _checked("cross_entropy_vjp", g, log_probability)
    rows = np.flatnonzero(_check_rows("cross_entropy_vjp", log_probability.shape, target, ignore, g))
    gx = np.zeros_like(log_probability)
    gx[rows] = np.exp(log_probability[rows])
    gx[rows, target[rows]] -= 1
    gx[rows] *= g[rows, None]
    return gx


def count_targets(target, dtype, ignore=-100):
    return np.array(np.count_nonzero(target != ignore), dtype)


def bce_with_logits(x, target):
    _checked("bce_with_logits", x, target)
    if x.shape != target.shape:
        raise ValueError(f"bce_with_logits: shapes {x.shape} and {target.shape} differ")
    x64, t = x.astype(np.float64), target.astype(np.float64)
    with np.errstate(all="ignore"):
        wrong, e = np.where(x > 0, 1 - t, t), np.exp(-np.abs(x64))
        loss = np.where(wrong == 0, 0, np.abs(x64) * wrong) + np.log1p(e)
        dx = np.where(x > 0, (1 - t) - e / (1 + e), e / (1 + e) - t)
    return loss.astype(x.dtype), dx.astype(x.dtype)


def _check_norm(name, x, **vectors):
    _checked(name, x, *[v for v in vectors.values() if v is not None])
    if x.ndim != 2:
        raise ValueError(f"{name}: expected (rows, columns), got {x.shape}")
    for what, v in vectors.items():
        if v is not None and v.shape != x.shape[1:]:
            raise ValueError(f"{name}: {what} has shape {v.shape}, expected {x.shape[1:]}")


def _scaled(z, w, b):
    z = z if w is None else z * w
    return z if b is None else z + b


def _moments(x, axis):
    """The mean, made good by that of the differences from it, and the mean of their squares: equal entries have no variance."""
    n = x.dtype.type(x.shape[axis])
    mean = x.sum(axis, keepdims=True) / n
    mean = mean + (x - mean).sum(axis, keepdims=True) / n
    return mean.squeeze(axis), np.square(x - mean).sum(axis) / n


def layer_norm(x, w, b, eps):
    _check_norm("layer_norm", x, weight=w, bias=b)
    with np.errstate(all="ignore"):
        mean, variance = _moments(x, 1)
        rstd = 1 / np.sqrt(variance + x.dtype.type(eps))
    return _scaled((x - mean[:, None]) * rstd[:, None], w, b), mean, rstd


def _norm_vjp(g, z, rstd, w, axis, of_batch, needs):
    gz = g if w is None else g * w
    gx = gz
    if of_batch and g.size:
        gx = gz - gz.mean(axis, keepdims=True) - z * (gz * z).mean(axis, keepdims=True)
    return rstd * gx if needs[0] else None, (g * z).sum(0) if needs[1] else None, g.sum(0) if needs[2] else None


def layer_norm_vjp(g, x, mean, rstd, w, needs):
    _check_norm("layer_norm_vjp", x, weight=w)
    _checked("layer_norm_vjp", x, g, mean, rstd)
    if g.shape != x.shape or not mean.shape == rstd.shape == x.shape[:1]:
        raise ValueError(f"layer_norm_vjp: cotangent {g.shape}, mean {mean.shape} and input {x.shape} do not fit")
    return _norm_vjp(g, (x - mean[:, None]) * rstd[:, None], rstd[:, None], w, 1, True, needs)


def moments(x):
    _check_norm("moments", x)
    with np.errstate(all="ignore"):
        return _moments(x, 0)


def batch_norm(x, mean, variance, w, b, eps):
    _check_norm("batch_norm", x, mean=mean, variance=variance, weight=w, bias=b)
    with np.errstate(all="ignore"):
        return _scaled((x - mean) / np.sqrt(variance + x.dtype.type(eps)), w, b)


def batch_norm_vjp(g, x, mean, variance, w, eps, of_batch, needs):
    _check_norm("batch_norm_vjp", x, mean=mean, variance=variance, weight=w)
    _checked("batch_norm_vjp", x, g)
    if g.shape != x.shape:
        raise ValueError(f"batch_norm_vjp: cotangent {g.shape} and input {x.shape} do not fit")
    with np.errstate(all="ignore"):
        rstd = 1 / np.sqrt(variance + x.dtype.type(eps))
    return _norm_vjp(g, (x - mean) * rstd, rstd, w, 0, of_batch, needs)


def track_moments(running_mean, running_var, batches, mean, variance, rows, momentum):
    if rows < 2 or momentum < 0 and batches is None:
        raise ValueError(
            f"track_moments: expected at least 2 rows, got {rows}, and a number of batches for a negative momentum"
        )
    if batches is not None:
        batches += 1
    f = 1 / float(batches) if momentum < 0 else momentum
    for running, new in ((running_mean, mean), (running_var, variance * (rows / (rows - 1)))):
        running *= running.dtype.type(1 - f)
        running += running.dtype.type(f) * new.astype(running.dtype)
    return running_mean


def _philox(counter, key):
    """Philox 4x32-10 of Salmon et al. 2011: uint32 blocks (..., 4) from counters (..., 4) and a key (2,), low words first."""
    low = np.uint64(0xFFFFFFFF)
    x = [counter[..., i].astype(np.uint64) for i in range(4)]
    k = [int(word) for word in key]
    for _ in range(10):
        a, b = x[0] * np.uint64(0xD2511F53), x[2] * np.uint64(0xCD9E8D57)
        x = [(b >> 32) ^ x[1] ^ np.uint64(k[0]), b & low, (a >> 32) ^ x[3] ^ np.uint64(k[1]), a & low]
        k = [(k[0] + 0x9E3779B9) % 2**32, (k[1] + 0xBB67AE85) % 2**32]
    return np.stack(x, -1).astype(np.uint32)


def keep_mask(shape, dtype, state, p):
    if state.dtype != np.uint64 or state.shape != (2,):
        raise ValueError(f"keep_mask: the state must be a writeable uint64 (2,), got {state.dtype} {state.shape}")
    if not 0 <= p <= 1:
        raise ValueError(f"keep_mask: expected a probability in 0..1, got {p}")
    y = np.zeros(shape, dtype)
    _checked("keep_mask", y)
    key, start = (int(v) for v in state)
    blocks = -(-y.size // 4)
    at = state[1] + np.arange(blocks, dtype=np.uint64)
    counter = np.stack([at & np.uint64(0xFFFFFFFF), at >> 32, 0 * at, 0 * at], -1)
    words = _philox(counter, (key % 2**32, key // 2**32)).ravel()[: y.size].reshape(y.shape)
    y[words >= p * 2.0**32] = 1 / (1 - p) if p < 1 else 0
    state[1] = (start + blocks) % 2**64
    return y


def clip_to_norm(x, norm, max_norm):
    _doubles("clip_to_norm", "the norm", norm, ())
    x *= x.dtype.type(np.minimum(max_norm / (norm + 1e-6), 1))
    return x


def clip_to_value(x, limit):
    np.clip(x, -limit, limit, out=x)
    return x


def sgd(w, velocity, g, settings):
    _doubles("sgd", "settings", settings, (4,))
    rate, momentum, decay, nesterov = settings.astype(w.dtype)
    d = g + decay * w if decay else g
    if velocity is not None:
        velocity *= momentum
        velocity += d
        d = d + momentum * velocity if nesterov else velocity
    w -= rate * d
    return w


def adam(w, m, v, t, g, settings):
    _doubles("adam", "the count of steps", t, ())
    _doubles("adam", "settings", settings, (6,))
    real = w.dtype.type
    rate, beta1, beta2, eps, l2, decay = settings
    t += 1
    step, root = rate / (1 - beta1**t), (1 - beta2**t) ** 0.5
    w *= real(1 - rate * decay)
    d = g + real(l2) * w if l2 else g
    m *= real(beta1)
    m += real(1 - beta1) * d
    v *= real(beta2)
    v += real(1 - beta2) * (d * d)
    w -= real(step) * m / (np.sqrt(v) / real(root) + real(eps))
    return w


def rmsprop(w, v, mean, b, g, settings):
    _doubles("rmsprop", "settings", settings, (5,))
    rate, alpha, eps, decay, momentum = settings.astype(w.dtype)
    keep = w.dtype.type(1 - settings[1])
    d = g + decay * w if decay else g
    v *= alpha
    v += keep * (d * d)
    variance = v
    if mean is not None:
        mean *= alpha
        mean += keep * d
        variance = np.maximum(v - mean * mean, 0)
    u = d / (np.sqrt(variance) + eps)
    if b is not None:
        b *= momentum
        b += u
        u = b
    w -= rate * u
    return w
