"""Random arguments of every function of the native backend, for fuzz_native.py."""

import numpy as np

GUARD, GUARD_WORD = 64, 77  # elements on either side of an array, and what they hold

_SPECIAL = (0.0, -0.0, 1.0, -1.0, 0.5, 1e-30, -1e-30, 1e30, np.inf, -np.inf, np.nan, 88.0, -104.0)


class Draw:
    """Draws arguments: twice from one seed, the same arguments twice. `memory` holds whatever the arrays lie in."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.dtype = np.dtype((np.float32, np.float64)[self.rng.integers(2)])
        self.memory = []
        self.large = self.rng.random() < 0.004  # worth several threads

    def chance(self, p):
        return bool(self.rng.random() < p)

    def n(self, low=0, high=6):
        """A length: small as a rule, often around the size of a vector, seldom long."""
        kind = self.rng.random()
        if kind < 0.7:
            return int(self.rng.integers(low, high + 1))
        return int(max(low, self.rng.choice([0, 1, 7, 8, 9, 15, 16, 17, 31, 33, 64, 65, 100 if kind > 0.95 else 5])))

    def shape(self, least=0, most=4):
        if self.large and least < 2:
            return (int(self.rng.integers(700, 1100)), 1024)[: self.rng.integers(max(least, 1), 3)][::-1]
        return tuple(self.n() if self.chance(0.9) else 1 for _ in range(self.rng.integers(least, most + 1)))

    def broadcast(self, shape):
        """A shape that broadcasts to `shape`."""
        cut = int(self.rng.integers(0, len(shape) + 1)) if self.chance(0.4) else 0
        return tuple(1 if self.chance(0.25) else d for d in shape[cut:])

    def array(self, shape, dtype=None, low=-2.0, high=2.0, special=False, plain=False, whole=False, values=None):
        """An array between guard words: contiguous, reversed, strided, transposed, broadcast or read-only, unless plain."""
        shape, dtype = tuple(shape), self.dtype if dtype is None else np.dtype(dtype)
        kind = 0 if plain else int(self.rng.integers(0, 9))
        size = int(np.prod(shape, dtype=np.int64))
        if values is None:
            values = self.rng.integers(0, 2, size) if whole else self.rng.uniform(low, high, size)
            if special and size and self.chance(0.3):
                spots = self.rng.integers(0, size, 1 + size // 4)
                values[spots] = self.rng.choice(_SPECIAL, len(spots))
        step = 3 if kind == 1 else 1
        order = self.rng.permutation(len(shape)) if kind in (2, 3) else np.arange(len(shape))
        memory = np.full(size * step + 2 * GUARD, GUARD_WORD, dtype)
        x = memory[GUARD : GUARD + size * step : step].reshape([shape[i] for i in order]).transpose(np.argsort(order))
        if kind in (3, 4):
            x = x[(..., *(np.s_[::-1] if self.chance(0.5) else np.s_[:] for _ in shape))]
        with np.errstate(all="ignore"):
            x[...] = np.asarray(values).reshape(shape)
        self.memory.append(memory)
        if kind == 5 and x.size:  # an axis of stride 0
            x = np.broadcast_to(x.take([0], int(self.rng.integers(x.ndim))), x.shape) if x.ndim else x
        if kind == 6:
            x.flags.writeable = False
        return x

    def output(self, shape, **keywords):
        """An array that is written in place."""
        return self.array(shape, plain=True, **keywords)

    def index(self, shape, below, ignore=None):
        values = self.rng.integers(0, max(below, 1), int(np.prod(shape, dtype=np.int64)))
        if values.size and self.chance(0.05):
            values[self.rng.integers(values.size)] = self.rng.choice([-1, below, below + 7, -(2**62), 2**62])
        if ignore is not None and values.size and self.chance(0.4):
            values[self.rng.integers(0, values.size, 1 + values.size // 3)] = ignore
        return self.array(shape, dtype=np.int64, values=values)

    def axis(self, ndim):
        kind = self.rng.random()
        if kind < 0.3 or not ndim:
            return None
        if kind < 0.7:
            return int(self.rng.integers(-ndim, ndim))
        return tuple(int(i) for i in self.rng.permutation(ndim)[: self.rng.integers(0, ndim + 1)])

    def needs(self, n):
        return tuple(self.chance(0.7) for _ in range(n))


# ---- the arguments of each function


def _pointwise(count, special=True, positive=False, **constants):  # not special: the reference has no limits at infinity
    def arguments(d):
        shape = d.shape()
        shapes = [d.broadcast(shape) for _ in range(count)] if count > 1 else [shape]
        xs = [d.array(s, special=special, low=0.05 if positive else -2.5, high=2.5) for s in shapes]
        return [*xs, *(float(d.rng.uniform(*bounds)) for bounds in constants.values())]

    return arguments


def _equal_shapes(count, *constants, special=True):
    def arguments(d):
        shape = d.shape()
        return [
            *(d.array(shape, special=special) for _ in range(count)),
            *(float(d.rng.uniform(*bounds)) for bounds in constants),
        ]

    return arguments


def _rows(count):
    def arguments(d):
        shape = d.shape(2, 2)
        return [d.array(shape) for _ in range(count)]

    return arguments


def _reduction(d):
    x = d.array(d.shape())
    return [x, d.axis(x.ndim), d.chance(0.5)]


def _along(count, **keywords):
    def arguments(d):
        shape = d.shape(1)
        return [*(d.array(shape, **keywords) for _ in range(count)), int(d.rng.integers(-len(shape), len(shape)))]

    return arguments


def _product(d):
    m, k, n = (int(d.rng.integers(100, 260)) for _ in range(3)) if d.large else (d.n(), d.n(), d.n())
    return m, k, n


def _matmul(d):
    (m, k, n), batch = _product(d), d.shape(0, 2) if not d.large else ()
    left, right = (d.broadcast(batch), batch) if d.chance(0.5) else (batch, d.broadcast(batch))
    b = d.array((k, n)) if d.chance(0.15) else d.array((*right, k, n))
    return [d.array((*left, m, k)), Pack(b) if b.ndim == 2 and d.chance(0.4) else b]


class Pack:
    """An operand that each backend packs for itself."""

    def __init__(self, b):
        self.b = b


def _linear(d):
    m, k, n = _product(d)
    x = d.array((*(d.shape(0, 2) if not d.large else ()), m, k)) if d.chance(0.8) else d.array((k,))
    w = d.array((n, k))
    return [x, Pack(w.T) if d.chance(0.3) else w, d.array((n,)) if d.chance(0.5) else None]


def _linear_vjp(d):
    (m, k, n), lead = _product(d), d.shape(0, 2) if not d.large else ()
    return [d.array((*lead, m, n)), d.array((*lead, m, k)), d.array((n, k)), d.needs(2 + d.chance(0.5))]


def _matmul_add(d):
    m, k, n = _product(d)
    return [d.output((m, n)), d.array((m, k)), d.array((k, n))]


_ACTIVATIONS = ("identity", "tanh", "sigmoid", "relu")


def _linear_activation(d):
    return [*_linear(d), str(d.rng.choice(_ACTIVATIONS))]


def _cell(d):
    B, inputs, H = _product(d)
    w_ih = d.array((H, inputs)) if d.chance(0.7) else None
    x, h = d.array((B, inputs if w_ih is not None else H)), d.array((B, H))
    return x, h, w_ih, d.array((H, H)), B, H


def _rnn_cell(d):
    x, h, w_ih, w_hh, _, H = _cell(d)
    return [x, h, w_ih, w_hh, *(d.array((H,)) if d.chance(0.5) else None for _ in range(2)), str(d.rng.choice(_ACTIVATIONS))]


def _rnn_cell_vjp(d):
    x, h, w_ih, w_hh, B, H = _cell(d)
    needs = d.needs(5)
    return [d.array((B, H)), d.array((B, H)), x, h, w_ih, w_hh, needs if w_ih is not None else (*needs[:2], False, *needs[3:])]


def _pairs(d, low, high):
    return tuple(int(d.rng.integers(low, high + 1)) for _ in range(2))


def _convolution(d):
    groups = int(d.rng.integers(1, 4))
    kernel, stride, dilation = _pairs(d, 1, 4), _pairs(d, 1, 3), _pairs(d, 1, 3)
    padding = tuple(_pairs(d, 0, 3) for _ in range(2))
    size = [max(1, d.n(), e * (k - 1) + 1 - sum(p)) for k, e, p in zip(kernel, dilation, padding, strict=True)]
    out = [
        (n + sum(p) - e * (k - 1) - 1) // s + 1 for n, k, s, e, p in zip(size, kernel, stride, dilation, padding, strict=True)
    ]
    channels, outs, batch = int(d.rng.integers(0, 4)), int(d.rng.integers(0, 5)), int(d.rng.integers(0, 4))
    if d.large:
        channels, outs, batch = 8, 16, 4
    x, w = d.array((batch, channels * groups, *size)), d.array((outs * groups, channels, *kernel))
    return x, w, (batch, outs * groups, *out), (stride, padding, dilation, groups)


def _conv2d(d):
    x, w, out, how = _convolution(d)
    return [x, w, d.array((out[1],)) if d.chance(0.5) else None, *how]


def _conv2d_vjp(d):
    x, w, out, how = _convolution(d)
    return [d.array(out), x, w, d.needs(2 + d.chance(0.5)), *how]


def _pool(d):
    kernel, stride = _pairs(d, 1, 4), _pairs(d, 1, 4)
    padding = tuple(int(d.rng.integers(0, k // 2 + 1)) for k in kernel)
    size = [max(1, d.n(), k - 2 * p) for k, p in zip(kernel, padding, strict=True)]
    out = [(n + 2 * p - k) // s + 1 for n, k, s, p in zip(size, kernel, stride, padding, strict=True)]
    lead = (40, 30) if d.large else (d.n(0, 3), d.n(0, 3))
    return (*lead, *size), (*lead, *out), (kernel, stride, padding)


def _max_pool2d_vjp(d):
    size, out, how = _pool(d)
    return [d.array(out), d.array(size), *how]


def _avg_pool2d_vjp(d):
    size, out, how = _pool(d)
    return [d.array(out), size, *how, d.chance(0.5)]


def _pooled(*more):
    def arguments(d):
        size, _, how = _pool(d)
        return [d.array(size), *how, *(d.chance(0.5) for _ in more)]

    return arguments


def _classes(with_g, with_x):
    def arguments(d):
        rows, classes, ignore = d.n(), d.n(1), int(d.rng.choice([-100, 2, -1]))
        g = [d.array((rows,))] if with_g else []
        return [
            *g,
            *([d.array((rows, classes))] if with_x else []),
            d.index((rows,), classes, ignore),
            *([] if with_x else [classes]),
            ignore,
        ]

    return arguments


def _norm_parts(d, least=1):
    shape = (d.n(least), d.n(1))
    if d.large:
        shape = (900, 700)
    return shape, [d.array(shape[1:]) if d.chance(0.6) else None for _ in range(2)]


def _layer_norm(d):
    shape, parts = _norm_parts(d, 0)
    return [d.array(shape), *parts, 1e-2]


def _layer_norm_vjp(d):
    shape, (w, _) = _norm_parts(d, 0)
    g, x = d.array(shape), d.array(shape)
    return [g, x, x.mean(1, dtype=x.dtype), d.array(shape[:1], low=0.2), w, d.needs(3)]


def _batch_norm(d):
    shape, parts = _norm_parts(d)
    return [d.array(shape), d.array(shape[1:]), d.array(shape[1:], low=0.2), *parts, 1e-2]


def _batch_norm_vjp(d):
    shape, (w, _) = _norm_parts(d)
    return [d.array(shape), d.array(shape), d.array(shape[1:]), d.array(shape[1:], low=0.2), w, 1e-5, d.chance(0.5), d.needs(3)]


def _track_moments(d):
    shape = (d.n(),)
    batches = d.output((), dtype=np.int64, values=[3]) if d.chance(0.6) else None
    momentum = -1.0 if batches is not None and d.chance(0.4) else 0.1
    return [d.output(shape), d.output(shape), batches, d.array(shape), d.array(shape), int(d.rng.integers(2, 9)), momentum]


def _doubles(d, *values):
    return d.array((len(values),), dtype=np.float64, plain=True, values=values)


def _sgd(d):
    shape = d.shape()
    settings = _doubles(d, 0.1, d.rng.random(), 0.01 * d.chance(0.5), d.chance(0.5))
    return [d.output(shape), d.output(shape) if d.chance(0.6) else None, d.array(shape), settings]


def _adam(d):
    shape = d.shape()
    state = [
        d.output(shape),
        d.output(shape),
        d.output(shape, low=0.0),
        d.output((), dtype=np.float64, values=[float(d.rng.integers(9))]),
    ]
    return [*state, d.array(shape), _doubles(d, 0.1, 0.9, 0.99, 1e-3, 0.01 * d.chance(0.5), 0.01 * d.chance(0.5))]


def _rmsprop(d):
    shape = d.shape()
    mean, b = (d.output(shape, low=-0.1, high=0.1) if d.chance(0.5) else None for _ in range(2))
    return [
        d.output(shape),
        d.output(shape, low=0.5),
        mean,
        b,
        d.array(shape),
        _doubles(d, 0.1, 0.9, 1e-3, 0.01 * d.chance(0.5), 0.5),
    ]


def _accumulate(d):
    if d.chance(0.3):  # two views of one array, apart from each other or not
        n, shift = d.n(1), int(d.rng.integers(0, 4))
        whole = d.output((n + shift,))
        y, x = whole[shift:], whole[:n] if d.chance(0.7) else whole[:n][::-1]
        return [y, x] if d.chance(0.5) else [x, y]
    shape = d.shape()
    return [d.output(shape), d.array(shape)] if d.chance(0.7) else [d.output(shape[::-1]).T, d.array(shape)]


def _take(d):
    x = d.array((d.n(1), *d.shape(0, 2)))
    return [x, d.index(d.shape(0, 2) if not d.large else (3,), len(x))]


def _take_add(d):
    x = d.output((d.n(1), *((3,) if d.large else d.shape(0, 2))))
    i = d.index((5,) if d.large else d.shape(0, 2), len(x))
    return [x, i, d.array((*i.shape, *x.shape[1:]))]


def _concatenate(d):
    shape, axis = list(d.shape(1)), 0
    axis = int(d.rng.integers(len(shape)))
    parts = []
    for _ in range(d.rng.integers(1, 4)):
        shape[axis] = d.n()
        parts.append(d.array(shape))
    return [parts, axis]


def _slice(d):
    x = d.array(d.shape(1))
    index = tuple(
        np.s_[:: int(d.rng.choice([1, 2, -1]))] if d.chance(0.6) or not n else int(d.rng.integers(-n, n))
        for n in x.shape[: d.rng.integers(0, x.ndim + 1)]
    )
    return [x, (*index, None) if d.chance(0.2) else index]


def _diagonal(d):
    x = d.array(d.shape(2))
    a, b = (int(i) for i in d.rng.permutation(x.ndim)[:2])
    return [x, int(d.rng.integers(-3, 4)), a, b]


def _sum_to(d):
    shape = d.shape()
    return [d.array(shape), d.broadcast(shape)]


def _mul_vjp(d):
    shape = d.shape()
    a, b = shape, d.broadcast(shape)
    return [d.array(shape), *((d.array(a), d.array(b)) if d.chance(0.5) else (d.array(b), d.array(a))), d.needs(2)]


def _where(d):
    shape = d.shape()
    return [d.array(d.broadcast(shape), dtype=np.bool_, whole=True), d.array(d.broadcast(shape)), d.array(d.broadcast(shape))]


def _steps(*more):
    def arguments(d):
        shape = d.shape(2, 2) if not d.large else (800, 900)
        xs = [d.array(shape) for _ in range(1 if more else 2)]
        return [*xs, d.index(shape[:1], 9), int(d.rng.integers(-2, 11)), *(d.chance(0.5) for _ in more)]

    return arguments


def _cumprod_vjp(d):
    shape = tuple(min(n, 9) for n in d.shape(1, 3))
    axis = int(d.rng.integers(-len(shape), len(shape)))
    x = d.array(shape, low=-1.2, high=1.2)
    return [d.array(shape), x, np.cumprod(x, axis, dtype=x.dtype), axis]


def _keep_mask(d):
    state = d.output((2,), dtype=np.uint64, values=d.rng.integers(0, 2**63, 2))
    return [d.shape(), d.dtype, state, float(d.rng.choice([0.0, 0.3, 0.5, 1.0]))]


def _layout(make):
    return lambda d: [x := d.array(d.shape()), make(d, x)]


POSITIVE = ("log", "log2", "log10", "sqrt", "rsqrt")
# fmt: off
UNARY = (
    "neg", "exp", "relu", "abs", "square", "sign", "floor", "ceil", "exp2", "expm1", "sinh", "cosh", "log1p", "logsigmoid", "arcsinh",
    "arccosh", "arctanh", "arcsin", "arccos", "arctan", "softsign", "sin", "cos", "tan", "reciprocal", "log1p_dx", "arcsin_dx",
    "arctan_dx", "arcsinh_dx", "arccosh_dx", "arctanh_dx", "softsign_dx", "tanh", "sigmoid", "erf", "gelu", "silu",
    "softplus", "nonzero",
)
BINARY = (
    "add", "sub", "mul", "div", "pow_dbase", "pow_dexponent", "maximum", "minimum", "maximum_da", "logaddexp",
    "arctan2", "hypot", "div_or_zero", "equal",
)
# fmt: on

ARGUMENTS = {
    **dict.fromkeys(UNARY, _pointwise(1)),
    **dict.fromkeys(POSITIVE, _pointwise(1, positive=True)),
    **dict.fromkeys(BINARY, _pointwise(2)),
    "gelu_tanh": _pointwise(1, special=False),
    "logaddexp_da": _pointwise(2, special=False),
    "pow": _pointwise(2, special=False),  # numpy takes the root of -inf where the exponent is one number, .5
    "elu": _pointwise(1, alpha=(0.1, 2)),
    "leaky_relu": _pointwise(1, slope=(0, 1)),
    "hardtanh": _pointwise(1, low=(-2, 0), high=(0.1, 2)),
    "huber": _pointwise(1, delta=(0.1, 2), factor=(0.1, 2)),
    "clip": _pointwise(1, low=(-2, 0), high=(0.1, 2)),
    "scale": _pointwise(1, factor=(-2, 2)),
    "relu_vjp": _equal_shapes(2),
    "clip_vjp": _equal_shapes(2, (-2, 0), (0.1, 2)),
    "bce_with_logits": _equal_shapes(2, special=False),
    "copy": _equal_shapes(1),
    "mul_vjp": _mul_vjp,
    "where": _where,
    "booleans": lambda d: [d.array(d.shape(), dtype=np.bool_, whole=True)],
    "integers": lambda d: [d.array(d.shape(), dtype=np.int32)],
    "accumulate": _accumulate,
    "zeros": lambda d: [d.shape(), d.dtype],
    "reshape": _layout(lambda d, x: x.shape[::-1] if d.chance(0.5) else (-1,) if x.size else x.shape),
    "transpose": _layout(lambda d, x: None if d.chance(0.3) else tuple(int(i) for i in d.rng.permutation(x.ndim))),
    "slice": _slice,
    "diagonal": _diagonal,
    "broadcast_to": _layout(lambda d, x: (*(() if d.large else d.shape(0, 2)), *x.shape)),
    "concatenate": _concatenate,
    "take": _take,
    "take_add": _take_add,
    "pack": lambda d: [d.array(_product(d)[:2])],
    "matmul": _matmul,
    "matmul_add": _matmul_add,
    "linear": _linear,
    "linear_vjp": _linear_vjp,
    "linear_activation": _linear_activation,
    "rnn_cell": _rnn_cell,
    "rnn_cell_vjp": _rnn_cell_vjp,
    "lstm_gates": lambda d: [d.array((d.n(), 4 * d.n()))],
    "lstm_state": _rows(4),
    "lstm_state_vjp": _rows(5),
    "addcmul": _rows(3),
    "addcmul_vjp": _rows(3),
    "lerp": _rows(3),
    "lerp_vjp": _rows(4),
    "select_steps": _steps(),
    "mask_steps": _steps("there"),
    **dict.fromkeys(("sum", "max", "min", "prod", "logsumexp"), _reduction),
    "sum_to": _sum_to,
    "add_norm": lambda d: [d.output((), dtype=np.float64, low=0.0), d.array(d.shape())],
    **dict.fromkeys(("softmax", "log_softmax", "cumsum"), _along(1)),
    "cumprod": _along(1, low=-1.0, high=1.0),
    "cumprod_vjp": _cumprod_vjp,
    "nll": _classes(False, True),
    "nll_vjp": _classes(True, False),
    "cross_entropy_vjp": _classes(True, True),
    "count_targets": lambda d: [d.index(d.shape(), 5, 2), d.dtype, 2],
    "conv2d": _conv2d,
    "conv2d_vjp": _conv2d_vjp,
    "max_pool2d": _pooled(),
    "max_pool2d_vjp": _max_pool2d_vjp,
    "avg_pool2d": _pooled("count_include_pad"),
    "avg_pool2d_vjp": _avg_pool2d_vjp,
    "layer_norm": _layer_norm,
    "layer_norm_vjp": _layer_norm_vjp,
    "moments": lambda d: [d.array(_norm_parts(d)[0])],
    "batch_norm": _batch_norm,
    "batch_norm_vjp": _batch_norm_vjp,
    "track_moments": _track_moments,
    "keep_mask": _keep_mask,
    "clip_to_norm": lambda d: [d.output(d.shape()), d.array((), dtype=np.float64, low=0.5, plain=True), 1.0],
    "clip_to_value": lambda d: [d.output(d.shape()), float(d.rng.uniform(0, 2))],
    "sgd": _sgd,
    "adam": _adam,
    "rmsprop": _rmsprop,
}
