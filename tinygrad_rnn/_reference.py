"""The reference backend: every function of the native backend in plain numpy, written to be obviously right.

It is the oracle of every kernel test.
Names, signatures and errors are those of `_native.pyx`; each function keeps the dtype of its inputs.
"""

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


def _relu_and_derivative(x):
    y = relu(x)
    return y, relu_vjp(np.ones_like(y), y)


def relu_vjp(g, y):
    if g.shape != y.shape:
        raise ValueError(f"relu_vjp: shapes {g.shape} and {y.shape} differ")
    return _pointwise("relu_vjp", lambda g, y: np.where(y > 0, g, 0), g, y)


def clip(x, low, high):
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
    return _pointwise("logaddexp_da", lambda a, b: np.where(a == b, 0.5, np.exp(a - np.logaddexp(a, b))), a, b)


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


def sum(x, axis=None, keepdims=False):
    _checked("sum", x)
    axis = _axes(axis, x.ndim)
    return np.asarray(np.sum(x, axis=axis, keepdims=keepdims))


def max(x, axis=None, keepdims=False):
    _checked("max", x)
    axis = _axes(axis, x.ndim)
    return np.asarray(np.max(x, axis=axis, keepdims=keepdims))


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
    return np.sum(g, axis=axes, keepdims=True).reshape(shape) if axes else g


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


def _check_rows(name, x, target, g=None):
    if target.dtype != np.int64:
        raise TypeError(f"{name}: expected int64 indices, got {target.dtype}")
    if x.ndim != 2 or target.shape != x.shape[:1] or (g is not None and g.shape != x.shape[:1]):
        raise ValueError(f"{name}: expected (rows, classes) and (rows,), got {x.shape} and {target.shape}")
    if target.size and not 0 <= target.min() <= target.max() < x.shape[1]:
        raise IndexError(f"{name}: an index lies outside 0..{x.shape[1] - 1}")


def nll(log_probability, target):
    _check_rows("nll", log_probability, target)
    return -log_probability[np.arange(len(target)), target]


def cross_entropy_vjp(g, log_probability, target):
    _check_rows("cross_entropy_vjp", log_probability, target, g)
    _checked("cross_entropy_vjp", g, log_probability)
    residual = np.exp(log_probability)
    residual[np.arange(len(target)), target] -= 1
    return g[:, None] * residual


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
