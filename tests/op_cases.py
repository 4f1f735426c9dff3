"""One declarative case per op. It drives the tests of values, gradients, dtypes, layouts, backends and instruction sets; a
test asserts that no op lacks one."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from arrays import PAIRS, SHAPES

import tinygrad_rnn as tr
from tinygrad_rnn.backends import reference


@dataclass(frozen=True)
class Case:
    """op         the op's name in ops.TABLE
    call       call(*tensors) -> tensor
    oracle     the same on float64 arrays, in numpy
    shapes     tuples of input shapes, edge cases included
    low, high  inputs are uniform in between
    smooth     whether random inputs stay clear of kinks, so that numerical derivatives are defined
    spread     inputs whose entries are a random permutation of well-separated numbers, where ties are kinks"""

    op: str
    call: Callable
    oracle: Callable
    shapes: tuple
    low: float = -2.0
    high: float = 2.0
    spread: bool = False
    label: str = ""

    def __str__(self):
        return self.op + (f"-{self.label}" if self.label else "")

    def inputs(self, rng, shapes, dtype=np.float64):
        out = []
        for s in shapes:
            x = rng.uniform(self.low, self.high, s)
            if self.spread:
                n = int(np.prod(s))
                x = (rng.permutation(n) - n / 2 + 0.3).reshape(s) * 0.37
            out.append(np.asarray(x, dtype))
        return out


ONE = tuple((s,) for s in SHAPES)
AXES = tuple((s,) for s in [(4,), (2, 3), (3, 4, 2), (1, 5), (17, 3), (2, 1)])
INDEX = np.array([[0, 2], [2, 1]])
TARGETS = {(3, 5): np.array([4, 0, 2]), (5,): np.array(3), (2, 4, 3): np.array([[0, 3, 1], [2, 2, 0]]), (1, 1): np.array([0])}


def np_clip(x, low, high):
    return x if low is None and high is None else np.clip(x, low, high)  # numpy 2.0 refuses None for both


def np_softmax(x, axis):
    e = np.exp(x - x.max(axis, keepdims=True, initial=-np.inf))
    return e / e.sum(axis, keepdims=True)


def np_logsumexp(x, axis=None, keepdims=False):
    with np.errstate(divide="ignore"):
        return np.log(np.exp(x).sum(axis, keepdims=keepdims))


def np_nll(x, target, reduction, ignore):
    axis = 1 if x.ndim > 1 else 0
    counts = target != ignore
    picked = np.take_along_axis(x, np.expand_dims(np.where(counts, target, 0), axis), axis).squeeze(axis)
    losses = np.where(counts, -picked, 0)
    return losses if reduction == "none" else losses.sum() / (counts.sum() if reduction == "mean" else 1)


def np_cross_entropy(x, target, reduction, ignore):
    return np_nll(np.log(np_softmax(x, 1 if x.ndim > 1 else 0)), target, reduction, ignore)


def of_classes(op, call, oracle):
    """A loss of classes, reduced in every way, and with targets of which some are ignored."""
    for r in ("mean", "sum", "none"):
        for ignore in (None, -100, 2):
            keywords = {} if ignore is None else {"ignore_index": ignore}
            target_of = lambda x, ignore=ignore: TARGETS[x.shape] if ignore is None else np.where(TARGETS[x.shape] == 2, ignore, TARGETS[x.shape])  # fmt: skip # noqa: E731
            yield one(
                op,
                lambda x, r=r, k=keywords, t=target_of: call(x, t(x), r, **k),
                lambda x, r=r, i=ignore, t=target_of: oracle(x, t(x), r, -100 if i is None else i),
                shapes=tuple((s,) for s in TARGETS),
                label=r if ignore is None else f"{r}, {ignore} ignored",
            )


def of_pairs(op, call, oracle, label="", **kw):
    """A loss of two equal shapes, reduced in every way."""
    for r, reduce in (("mean", np.mean), ("sum", np.sum), ("none", np.asarray)):
        yield two(
            op,
            lambda x, y, r=r: call(x, y, r),
            lambda x, y, reduce=reduce: reduce(oracle(x, y)),
            shapes=(((), ()), ((3,), (3,)), ((2, 4), (2, 4)), ((1, 17), (1, 17)), ((67,), (67,))),
            label=label + r,
            **kw,
        )


def np_huber(d, delta):
    return np.where(np.abs(d) <= delta, d * d / 2, delta * (np.abs(d) - delta / 2))


def np_norm(x, axes, eps):
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + eps)


LAYER_NORM = (((3, 4), (4,)), ((2, 3, 5), (5,)), ((2, 3, 4), (3, 4)), ((7,), (7,)), ((2, 1), (1,)), ((0, 3), (3,)), ((2, 0), (0,)),
              ((5, 33), (33,)), ((18, 129), (129,)), ((2, 1100), (1100,)))  # fmt: skip


def layer_norm(weighted, biased):
    eps = 1e-2  # rows of two near numbers would be ill-conditioned

    def call(x, *affine):
        shape = affine[0].shape if affine else x.shape[1:] if x.ndim > 1 else x.shape
        w, b = (affine[0] if weighted else None), (affine[-1] if biased else None)
        return tr.layer_norm(x, shape, w, b, eps)

    def oracle(x, *affine):
        n = affine[0].ndim if affine else max(x.ndim - 1, 1)
        z = np_norm(x, tuple(range(x.ndim - n, x.ndim)), eps) if x.size else x
        return z * (affine[0] if weighted else 1) + (affine[-1] if biased else 0)

    shapes = tuple((x, *[w] * (weighted + biased)) for x, w in LAYER_NORM)
    label = " and ".join(["weight"] * weighted + ["bias"] * biased) or "plain"
    return Case("layer_norm", call, oracle, shapes, label=label)


def batch_norm(training, weighted, biased, tracked=True):
    eps = 1e-2
    statistics = lambda n, dtype: (np.linspace(-1, 1, n, dtype=dtype), np.linspace(0.5, 2, n, dtype=dtype))  # noqa: E731

    def call(x, *affine):
        w, b = (affine[0] if weighted else None), (affine[-1] if biased else None)
        running = statistics(x.shape[1], x.dtype) if tracked else (None, None)
        return tr.batch_norm(x, *running, w, b, training, 0.1, eps, num_batches_tracked=np.zeros((), np.int64))

    def oracle(x, *affine):
        wide = lambda v: v.reshape(-1, *[1] * (x.ndim - 2))  # noqa: E731
        if training or not tracked:
            z = np_norm(x, (0, *range(2, x.ndim)), eps)
        else:
            mean, variance = map(wide, statistics(x.shape[1], np.float64))
            z = (x - mean) / np.sqrt(variance + eps)
        return z * (wide(affine[0]) if weighted else 1) + (wide(affine[-1]) if biased else 0)

    inputs = [(3, 4), (2, 1), (2, 3, 5), (1, 3, 2), (3, 1, 2), (4, 33), (40, 5), (2, 130, 3), (3, 0), (2, 3, 2, 2)]
    inputs += [] if training else [(0, 3), (1, 3), (2, 3, 0)]
    shapes = tuple((x, *[x[1:2]] * (weighted + biased)) for x in inputs)
    affine = " and ".join(["weight"] * weighted + ["bias"] * biased) or "plain"
    return Case("batch_norm", call, oracle, shapes, label=f"{'training' if training else 'evaluation'}, {affine}" + ("" if tracked else ", untracked"))  # fmt: skip


def dropout(p):
    """The generator begins anew in every call, so that each draws the same entries."""

    def oracle(x):
        return x * reference.keep_mask(x.shape, x.dtype, tr.Generator(7).state, p)

    return one("dropout", lambda x: tr.dropout(x, p, generator=tr.Generator(7)), oracle, label=f"p {p}")


def one(op, call, oracle, **kw):
    return Case(op, call, oracle, kw.pop("shapes", ONE), **kw)


def two(op, call, oracle, **kw):
    return Case(op, call, oracle, kw.pop("shapes", tuple(PAIRS)), **kw)


MATMUL = (
    ((2, 3), (3, 4)),
    ((1, 3), (3, 1)),
    ((1, 1), (1, 1)),
    ((0, 3), (3, 2)),
    ((2, 0), (0, 3)),
    ((1, 17), (17, 9)),
    ((9, 17), (17, 1)),
    ((7, 1), (1, 5)),
    ((13, 20), (20, 35)),
    ((2, 3, 4), (2, 4, 5)),
    ((2, 3, 4), (4, 5)),
    ((3, 4), (2, 4, 5)),
    ((2, 1, 3, 4), (5, 4, 2)),
    ((0, 2, 3), (3, 2)),
)
LINEAR = (((4, 3), (5, 3), (5,)), ((3,), (5, 3), (5,)), ((2, 4, 3), (5, 3), (5,)), ((0, 3), (5, 3), (5,)), ((1, 16), (33, 16), (33,)),
          ((7, 1), (1, 1), (1,)), ((19, 40), (21, 40), (21,)), ((2, 0), (3, 0), (3,)))  # fmt: skip

NP_ACTIVATIONS = {
    "tanh": np.tanh,
    "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
    "relu": lambda z: np.maximum(z, 0),
    "identity": lambda z: z,
}


def rnn_cell(activation, biases=True, projected=False):
    """Cells over batches and widths around the vector, 0 and 1 included."""
    sizes = ((2, 3, 4), (1, 1, 1), (0, 2, 3), (3, 0, 2), (1, 17, 9), (5, 4, 33), (19, 33, 17))

    def shapes(B, I, H):  # noqa: E741 (the sizes' usual letters)
        if projected:
            return ((B, H), (B, H), (H, H)) + (((H,),) if biases else ())
        return ((B, I), (B, H), (H, I), (H, H)) + (((H,), (H,)) if biases else ())

    def call(x, h, *w):
        return tr.rnn_cell(x, h, *((None, w[0], None, *w[1:]) if projected else w), activation=activation)

    def oracle(x, h, *w):
        w_ih, w_hh, *b = (np.eye(h.shape[1]), *w) if projected else w
        return NP_ACTIVATIONS[activation](x @ w_ih.T + h @ w_hh.T + sum(b))

    label = activation + ("" if biases else ", no bias") + (", projected" if projected else "")
    return Case("rnn_cell", call, oracle, tuple(shapes(*s) for s in sizes), low=-0.7, high=0.7, label=label)


GATES = ((4,), (2, 3), (1, 16), (3, 1), (0, 5), (2, 0), (5, 33), (2, 3, 4))
LENGTHS = np.array([3, 0, 2, 1])


def np_lstm_gates(z):
    i, f, g, o = np.split(z, 4, -1)
    return np.concatenate(
        [NP_ACTIVATIONS[name](x) for name, x in zip(("sigmoid", "sigmoid", "tanh", "sigmoid"), (i, f, g, o), strict=True)], -1
    )


def alike(count, shapes=GATES):
    return tuple((s,) * count for s in shapes)


def unlike(count):
    """So many shapes that broadcast: one differs, in each place, and all do."""
    pairs = (
        ((2, 3), (3,)),
        ((2, 3), (2, 1)),
        ((2, 3, 4), ()),
        ((1, 4), (5, 1)),
        ((0, 5), (5,)),
        ((2, 0, 1), (3,)),
        ((2, 1, 17), (4, 1)),
    )
    several = ((3, 1), (1, 4), (2, 1, 1), (1,))[:count]
    return (*(tuple(small if i == at else large for i in range(count)) for large, small in pairs for at in range(count)), several, several[::-1], ((),) * count)  # fmt: skip


CONDITION = np.array([[True], [False], [True]])[::-1]
CHOSEN = (((), ()), ((3, 2), (3, 2)), ((4,), (2, 1, 1)), ((2, 3, 5), (1,)), ((1,), (3, 17)), ((0,), (2, 3, 1)), ((3, 0), ()))


def each(setting, axes):
    return setting if isinstance(setting, tuple) else (setting,) * axes


def over_windows(axes, x, f, kernel, stride, sides, dilation, fill=0.0):
    """f(window) -> (N, O) for every window over the last axes of x, one by one, put together as an output."""
    pairs = lambda setting, neutral: (neutral,) * (2 - axes) + setting  # noqa: E731
    image = x.reshape((*(x.shape[: -axes - 1] or (1,)), x.shape[-axes - 1], *pairs(x.shape[-axes:], 1)))
    image = np.pad(image, [(0, 0), (0, 0), *pairs(sides, (0, 0))], constant_values=fill)
    places = []
    for length, k, s, d in zip(image.shape[2:], pairs(kernel, 1), pairs(stride, 1), pairs(dilation, 1), strict=True):
        span = d * (k - 1) + 1
        places.append([slice(start, start + span, d) for start in range(0, length - span + 1, s)])
    y = np.stack([np.stack([f(image[:, :, h, w]) for w in places[1]], -1) for h in places[0]], -2)
    y = y[:, :, 0] if axes == 1 else y
    return y if x.ndim == axes + 2 else y[0]


def conv(axes, *shapes, stride=1, padding=0, dilation=1, groups=1, sides=None):
    """A convolution over inputs and weights of the shapes with a bias, and over the first without. `sides` says what padding
    "same" stands for."""
    sides = sides or tuple((p, p) for p in each(0 if padding == "valid" else padding, axes))

    def oracle(x, w, b=0.0):
        weights = np.split(w.reshape(*w.shape[:2], *(1,) * (2 - axes), *w.shape[2:]), groups)

        def f(window):
            parts = zip(np.split(window, groups, 1), weights, strict=True)
            return np.concatenate([np.einsum("nchw,ochw->no", *part) for part in parts], 1) + b

        return over_windows(axes, x, f, w.shape[2:], each(stride, axes), sides, each(dilation, axes))

    settings = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    label = ", ".join(f"{k} {v}" for k, v in settings.items() if v not in (0, 1)) or "plain"
    function = getattr(tr, f"conv{axes}d")
    inputs = (*((x, w, w[:1]) for x, w in shapes), shapes[0])
    return Case(f"conv{axes}d", lambda *v: function(*v, **settings), oracle, inputs, low=-1, high=1, label=label)


def pool(kind, axes, *shapes, kernel_size, stride=None, padding=0, **more):
    windows = (
        each(kernel_size, axes),
        each(stride or kernel_size, axes),
        tuple((p, p) for p in each(padding, axes)),
        (1,) * axes,
    )

    def oracle(x):
        if kind == "max":
            return over_windows(axes, x, lambda w: w.max((2, 3)), *windows, fill=-np.inf)
        total = lambda v, fill=0.0: over_windows(axes, v, lambda w: w.sum((2, 3)), *windows, fill=fill)  # noqa: E731
        return total(x) / total(np.ones_like(x), float(more.get("count_include_pad", True)))

    function = getattr(tr, f"{kind}_pool{axes}d")
    label = f"{kernel_size}, {stride}, {padding}" + "".join(f", {k} {v}" for k, v in more.items())
    call = lambda x: function(x, kernel_size, stride, padding, **more)  # noqa: E731
    return Case(f"{kind}_pool{axes}d", call, oracle, tuple((s,) for s in shapes), spread=kind == "max", label=label)


# ---- reductions, and what is accumulated along an axis

NUMPY = {"norm": np.linalg.norm}
FULL = tuple(s for s in ONE if 0 not in s[0])
# uniform ones keep a product small and a root away from 0; spread ones keep ties apart
RANGES = {"min": {"spread": True}, "prod": {"low": 0.5, "high": 1.5}, "norm": {"low": 0.2}, "std": {"low": -4.0, "high": 4.0}}


def reductions(name):
    ours, theirs, how = getattr(tr, name), NUMPY.get(name, getattr(np, name, None)), RANGES.get(name, {})
    several = tuple(s for s in AXES if s[0][-1] > 1 and s[0] != (1, 5)) if name == "std" else AXES  # one entry has no spread
    yield one(name, ours, theirs, shapes=tuple(s for s in FULL if name != "std" or np.prod(s[0]) > 1), **how)
    yield one(name, lambda x: ours(x, axis=-1), lambda x: theirs(x, axis=-1), shapes=several, label="axis", **how)
    if name != "norm":  # numpy's takes two axes of a matrix only, and other norms of them
        axes = {"axis": (0, -1), "keepdims": True}
        yield one(name, lambda x: ours(x, **axes), lambda x: theirs(x, **axes), shapes=several[1:], label="axes", **how)
    else:
        shapes = (((3, 4, 2),), ((2, 3, 1, 2),))
        yield one(name, lambda x: ours(x, None, (0, 2), True), lambda x: np.sqrt(np.sum(x * x, (0, 2), keepdims=True)), shapes=shapes, label="axes", **how)  # fmt: skip
    if name in ("var", "std"):
        yield one(
            name, lambda x: ours(x, 0, ddof=1), lambda x: theirs(x, 0, ddof=1), shapes=(((3, 4),), ((5,),)), label="ddof", **how
        )


def norms():
    """Those of vectors and of matrices that numpy's ord names."""
    vectors, matrices = (((5,),), ((1,),), ((17,),)), (((3, 4),), ((1, 5),), ((4, 1),))
    for ord in (1, 2, 3, 0.5, -1.5, np.inf, -np.inf):
        how = {"low": -2.0, "high": 2.0, "spread": np.isinf(ord)}
        yield one("norm", lambda x, o=ord: tr.norm(x, o), lambda x, o=ord: np.linalg.norm(x, o), shapes=vectors, label=f"{ord}", **how)  # fmt: skip
        yield one("norm", lambda x, o=ord: tr.norm(x, o, 1, True), lambda x, o=ord: np.linalg.norm(x, o, 1, True), shapes=matrices, label=f"{ord} of axis 1", **how)  # fmt: skip
    for ord in ("fro", 1, -1, np.inf, -np.inf):
        yield one("norm", lambda x, o=ord: tr.norm(x, o), lambda x, o=ord: np.linalg.norm(x, o), shapes=matrices, label=f"{ord} of a matrix")  # fmt: skip
        axes = {"axis": (2, 0), "keepdims": True}
        yield one("norm", lambda x, o=ord: tr.norm(x, o, **axes), lambda x, o=ord: np.linalg.norm(x, o, **axes), shapes=(((3, 2, 4),),), label=f"{ord} of axes")  # fmt: skip


def cumulations(name):
    ours, theirs, how = getattr(tr, name), getattr(np, name), {"low": -1.5, "high": 1.5}
    yield one(name, ours, theirs, **how)
    for axis in (0, -1):
        shapes = (*AXES, ((2, 0, 3),))
        yield one(
            name, lambda x, a=axis: ours(x, a), lambda x, a=axis: theirs(x, a), shapes=shapes, label=f"axis {axis}", **how
        )


# ---- what is composed of views and joins: tr's function, numpy's of the same name, and arguments for both


def rearranged(name, shapes, *arguments, **keywords):
    ours, theirs = getattr(tr.functions, name), getattr(np, name)
    label = ", ".join([*map(repr, arguments), *(f"{k} {v!r}" for k, v in keywords.items())])
    return one(
        name,
        lambda x: ours(x, *arguments, **keywords),
        lambda x: theirs(x, *arguments, **keywords),
        shapes=tuple((s,) for s in shapes),
        label=label,
    )


CUBES = ((2, 3, 4), (1, 3, 1), (2, 0, 3), (4, 1, 2))
SQUARES = ((3, 3), (2, 4), (5, 2), (1, 1), (0, 3), (3, 0))
REARRANGED = (
    rearranged("swapaxes", CUBES, 0, -1),
    rearranged("moveaxis", CUBES, 0, -1),
    rearranged("moveaxis", CUBES, (0, 1), (-1, 0)),
    rearranged("expand_dims", SHAPES, 0),
    rearranged("expand_dims", CUBES, (1, -1)),
    rearranged("squeeze", [*CUBES, (), (1,), (1, 1)]),
    rearranged("squeeze", [(1, 3, 1), (4, 1, 1)], -1),
    rearranged("broadcast_to", [(3,), (1, 3), (2, 1), (), (1,)], (4, 2, 3)),
    rearranged("broadcast_to", [(1,), (), (2, 1, 1), (1, 0)], (2, 3, 0)),
    rearranged("flip", [*SHAPES, *CUBES]),
    rearranged("flip", CUBES, (0, -1)),
    rearranged("roll", [*SHAPES, *CUBES], 2),
    rearranged("roll", CUBES, (1, -5), (0, 2)),
    rearranged("roll", CUBES, 1, axis=(0, 0, 1)),
    rearranged("repeat", [(), (3,), (0,), (2, 3)], 3),
    rearranged("repeat", CUBES, 2, axis=-2),
    rearranged("repeat", [(3,), (3, 2), (3, 0)], [2, 0, 3], axis=0),
    rearranged("tile", [(), (3,), (0,), (2, 3), (2, 1, 2)], 2),
    rearranged("tile", [(3,), (2, 3), (1, 2, 1, 2), ()], (2, 1, 3)),
    rearranged("pad", SHAPES, 1),
    rearranged("pad", SQUARES, ((1, 2), (0, 3)), constant_values=((1.5, -2), (3, 4))),
    rearranged("pad", SQUARES, (2, 0), mode="constant", constant_values=-1),
    *(rearranged("pad", [(4,), (2, 3), (3, 2, 2)], (2, 1), mode=m) for m in ("edge", "reflect", "symmetric", "wrap")),
    rearranged("pad", [(1, 2), (3, 5)], ((0, 3), (4, 0)), mode="reflect"),
    rearranged("tril", [*SQUARES, *CUBES, (4,), (1,), (0,)]),
    rearranged("tril", [*SQUARES, *CUBES], -1),
    rearranged("triu", [*SQUARES, *CUBES]),
    rearranged("triu", [*SQUARES, *CUBES], 1),
    rearranged("diagonal", [*SQUARES, *CUBES]),
    rearranged("diagonal", CUBES, -1, 2, 0),
    rearranged("diagonal", SQUARES, 9),
    rearranged("trace", [*SQUARES, *CUBES]),
    rearranged("trace", CUBES, 1, axis1=-1, axis2=1),
    rearranged("take", [(4,), (2, 3), (2, 2, 2)], [[3, 0], [-1, 3]]),
    rearranged("take", [(3, 4), (2, 3), (2, 0, 5)], [2, 0, -1, 2], axis=-1),
    rearranged("take", [(3, 4), (2, 2)], 1, axis=0),
    *[
        one(
            "split",
            lambda x, s=s, a=axis: tr.concatenate([p * (i + 1) for i, p in enumerate(tr.split(x, s, a))], a),
            lambda x, s=s, a=axis: np.concatenate([p * (i + 1) for i, p in enumerate(np.split(x, s, a))], a),
            shapes=tuple((shape,) for shape in shapes),
            label=f"{s!r}, {axis}",
        )
        for s, axis, shapes in (
            (2, 0, [(4,), (2, 3), (0, 2)]),
            ([1, 3], -1, [(4,), (2, 5), (2, 0), (3, 2)]),
            ([2, 1, -1], 0, [(4,)]),
        )
    ],
)

VECTORS = (((3,), (3,)), ((1,), (1,)), ((0,), (0,)))


def einsum(subscripts, *shapes):
    return Case("einsum", lambda *x: tr.einsum(subscripts, *x), lambda *x: np.einsum(subscripts, *x), shapes, label=subscripts)


PRODUCTS = (
    Case(
        "matmul",
        tr.matmul,
        np.matmul,
        (*VECTORS, ((3,), (3, 4)), ((2, 3), (3,)), ((3,), (5, 3, 2)), ((2, 4, 3), (3,)), ((0,), (0, 2)), ((2, 0), (0,))),
        label="vectors",
    ),
    Case(
        "dot",
        tr.dot,
        np.dot,
        (
            *VECTORS,
            ((), (2, 3)),
            ((4,), ()),
            ((2, 3), (3, 4)),
            ((2, 3), (3,)),
            ((3,), (2, 3, 4)),
            ((2, 4, 3), (5, 3, 2)),
            ((4, 3), (2, 3, 0)),
        ),
    ),  # fmt: skip
    Case(
        "inner",
        tr.inner,
        np.inner,
        (*VECTORS, ((), (2, 3)), ((4,), ()), ((2, 3), (4, 3)), ((2, 5, 3), (4, 3)), ((3,), (2, 3)), ((2, 0), (4, 0))),
    ),  # fmt: skip
    Case("outer", tr.outer, np.outer, (*VECTORS, ((), ()), ((2, 3), (4,)), ((1, 2), (0, 3)))),
    Case(
        "tensordot", tr.tensordot, np.tensordot, (((2, 3, 4), (3, 4, 5)), ((1, 1), (1, 1, 2)), ((2, 0, 3), (0, 3))), label="2"
    ),
    *[
        Case(
            "tensordot",
            lambda x, y, a=axes: tr.tensordot(x, y, a),
            lambda x, y, a=axes: np.tensordot(x, y, a),
            shapes,
            label=repr(axes),
        )
        for axes, shapes in (
            (0, (((2,), (3, 2)), ((), (2,)), ((), ()))),
            (((0, -1), (2, 1)), (((2, 3, 4), (5, 4, 2)), ((1, 0, 2), (3, 2, 1)))),
            ((1, 0), (((2, 3), (3,)), ((2, 3, 2), (3, 4)))),
        )
    ],
    einsum("ij,jk->ik", ((2, 3), (3, 4)), ((1, 17), (17, 5)), ((0, 3), (3, 2)), ((2, 0), (0, 2)), ((2, 1), (3, 2))),
    einsum("ij,jk", ((2, 3), (3, 4))),
    einsum("bij, bkj -> bik", ((2, 3, 4), (2, 5, 4)), ((1, 3, 4), (2, 5, 4))),
    einsum("...ij,...jk->...ik", ((5, 2, 3), (3, 4)), ((2, 1, 2, 3), (4, 3, 2)), ((2, 3), (3, 1))),
    einsum("i...,i...", ((3, 2), (3,)), ((3, 2, 4), (3, 1, 4))),
    einsum("ii", ((3, 3),), ((0, 0),), ((1, 1),)),
    einsum("ii->i", ((3, 3),), ((1, 1),)),
    einsum("iji->j", ((3, 2, 3),)),
    einsum("iij,jkk->ki", ((2, 2, 3), (3, 4, 4))),
    einsum("iii->i", ((3, 3, 3),)),
    einsum("ij->", ((2, 3),), ((0, 3),)),
    einsum("ba", ((2, 3),)),
    einsum("i,j->ji", ((2,), (3,)), ((0,), (3,)), ((1,), (1,))),
    einsum("i,i->i", ((3,), (3,)), ((1,), (3,))),
    einsum("i,i->", ((1,), (3,)), ((3,), (1,)), ((3,), (3,))),
    einsum("ij,k->i", ((2, 3), (4,))),
    einsum(",ij->ji", ((), (2, 3))),
    einsum("->", ((),)),
    einsum("ab,bc,cd->ad", ((2, 3), (3, 4), (4, 2)), ((2, 1), (3, 4), (1, 5))),
    einsum("ab,ab,bc,c->ac", ((2, 3), (2, 3), (3, 4), (4,))),
    einsum("bhqd,bhkd->bhqk", ((2, 2, 3, 4), (2, 2, 5, 4))),
)


CASES = (
    two("add", lambda x, y: x + y, np.add),
    two("sub", lambda x, y: x - y, np.subtract),
    two("mul", lambda x, y: x * y, np.multiply),
    two("div", lambda x, y: x / y, np.divide, low=0.5),
    two("pow", lambda x, y: x**y, np.power, low=0.3),
    one("neg", lambda x: -x, np.negative),
    one("exp", tr.exp, np.exp),
    one("log", tr.log, np.log, low=0.2),
    one("sqrt", tr.sqrt, np.sqrt, low=0.2),
    one("tanh", tr.tanh, np.tanh, low=-4, high=4),
    one("sigmoid", tr.sigmoid, lambda x: 1 / (1 + np.exp(-x)), low=-6, high=6),
    one("relu", tr.relu, lambda x: np.maximum(x, 0), spread=True),
    one("erf", tr.erf, np.vectorize(math.erf, otypes=[float]), low=-4, high=4),
    one("gelu", tr.gelu, lambda x: x * (1 + np.vectorize(math.erf, otypes=[float])(x / 2**0.5)) / 2, low=-4, high=4),
    one(
        "gelu",
        lambda x: tr.gelu(x, approximate="tanh"),
        lambda x: x * (1 + np.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x**3))) / 2,
        low=-4,
        high=4,
        label="tanh",
    ),
    one("silu", tr.silu, lambda x: x / (1 + np.exp(-x)), low=-6, high=6),
    one("softplus", tr.softplus, lambda x: np.logaddexp(0, x), low=-6, high=6),
    one("elu", tr.elu, lambda x: np.where(x > 0, x, np.expm1(x))),
    one("elu", lambda x: tr.elu(x, 1.5), lambda x: np.where(x > 0, x, 1.5 * np.expm1(x)), spread=True, label="alpha 1.5"),
    one("leaky_relu", tr.leaky_relu, lambda x: np.where(x > 0, x, 0.01 * x), spread=True),
    one("leaky_relu", lambda x: tr.leaky_relu(x, 0.3), lambda x: np.where(x > 0, x, 0.3 * x), spread=True, label="slope 0.3"),
    # scaled, or the spread inputs would come near -1
    one("hardtanh", lambda x: tr.hardtanh(x * 0.9), lambda x: np.clip(x * 0.9, -1, 1), spread=True),
    one("hardtanh", lambda x: tr.hardtanh(x, -0.5, 3), lambda x: np.clip(x, -0.5, 3), spread=True, label="-0.5..3"),
    *(dropout(p) for p in (0.3, 0.9, 1)),
    one("abs", abs, np.abs, spread=True),
    one("square", tr.square, np.square),
    one("reciprocal", tr.reciprocal, np.reciprocal, low=0.5),
    one("rsqrt", tr.rsqrt, lambda x: 1 / np.sqrt(x), low=0.2),
    one("sign", tr.sign, np.sign, spread=True),
    one("floor", lambda x: tr.floor(x / 0.37), lambda x: np.floor(x / 0.37), spread=True),  # inputs lie 0.37 apart
    one("ceil", lambda x: tr.ceil(x / 0.37), lambda x: np.ceil(x / 0.37), spread=True),
    *(one(op, getattr(tr, op), getattr(np, op)) for op in ("exp2", "expm1", "sin", "cos", "arctan", "sinh", "cosh", "arcsinh")),
    *(one(op, getattr(tr, op), getattr(np, op), low=0.2) for op in ("log1p", "log2", "log10")),
    *(one(op, getattr(tr, op), getattr(np, op), low=-0.9, high=0.9) for op in ("arcsin", "arccos", "arctanh", "tan")),
    one("arccosh", tr.arccosh, np.arccosh, low=1.1),
    one("logsigmoid", tr.logsigmoid, lambda x: -np.logaddexp(0, -x), low=-6, high=6),
    one("softsign", tr.softsign, lambda x: x / (1 + np.abs(x)), spread=True),
    *(two(op, getattr(tr, op), getattr(np, op), spread=True) for op in ("maximum", "minimum", "hypot", "arctan2")),
    two("logaddexp", tr.logaddexp, np.logaddexp),
    *(
        one("clip", lambda x, a=a, b=b: tr.clip(x, a, b), lambda x, a=a, b=b: np_clip(x, a, b), spread=True, label=f"{a}, {b}")
        for a, b in ((-0.5, 0.7), (None, 0.7), (-0.5, None), (None, None))
    ),
    two("where", lambda x, y: tr.where(CONDITION, x, y), lambda x, y: np.where(CONDITION, x, y), shapes=CHOSEN),
    two(
        "where",
        lambda x, y: tr.where(tr.relu(x.detach()), x, y),
        lambda x, y: np.where(x > 0, x, y),
        spread=True,
        label="tensor",
    ),
    Case("matmul", tr.matmul, np.matmul, MATMUL),
    Case("linear", tr.linear, lambda x, w, b: x @ w.T + b, LINEAR),
    Case("linear", tr.linear, lambda x, w: x @ w.T, tuple(s[:2] for s in LINEAR), label="no bias"),
    *(rnn_cell(activation) for activation in NP_ACTIVATIONS),
    *(rnn_cell("tanh", biases, projected) for biases, projected in ((False, False), (False, True), (True, True))),
    one("lstm_gates", tr.lstm_gates, np_lstm_gates, shapes=tuple(((*s[:-1], 4 * s[-1]),) for s in GATES), low=-4, high=4),
    *(
        case
        for shapes, label in ((alike, ""), (unlike, "broadcast"))
        for case in (
            Case("lstm_state", tr.lstm_state, lambda i, f, g, c: f * c + i * g, shapes(4), label=label),
            Case("addcmul", tr.addcmul, lambda x, a, b: x + a * b, shapes(3), label=label),
            Case("lerp", tr.lerp, lambda a, b, w: (1 - w) * a + w * b, shapes(3), label=label),
        )
    ),
    Case(
        "select_steps",
        lambda x, old: tr.select_steps(x, old, LENGTHS, 1),
        lambda x, old: np.where(LENGTHS[:, None] > 1, x, old),
        alike(2, ((4, 3), (4, 0), (4, 17))),
    ),
    Case(
        "mask_steps",
        lambda x: tr.mask_steps(x, LENGTHS, 1),
        lambda x: np.where(LENGTHS[:, None] > 1, x, 0),
        alike(1, ((4, 3), (4, 0), (4, 17))),
    ),
    conv(
        1, ((2, 3, 9), (4, 3, 3)), ((3, 4), (2, 3, 4)), ((0, 1, 5), (1, 1, 2)), ((1, 1, 1), (1, 1, 1)), ((2, 1, 70), (5, 1, 1))
    ),
    conv(1, ((2, 4, 20), (6, 2, 3)), ((4, 9), (2, 2, 1)), stride=2, padding=2, dilation=3, groups=2),
    conv(1, ((2, 3, 6), (4, 3, 4)), ((3, 1), (4, 3, 4)), padding="same", sides=((1, 2),)),
    conv(1, ((1, 2, 33), (2, 2, 2)), stride=5, padding="valid"),
    conv(
        2,
        ((2, 3, 5, 6), (4, 3, 3, 2)),
        ((2, 4, 3), (1, 2, 4, 3)),
        ((0, 2, 3, 3), (3, 2, 2, 2)),
        ((3, 17, 4, 9), (13, 17, 1, 1)),
    ),
    conv(2, ((2, 2, 7, 5), (3, 2, 3, 3)), ((1, 1, 2, 19), (2, 1, 3, 4)), padding=(1, 2)),
    conv(2, ((1, 4, 9, 8), (8, 1, 2, 3)), stride=(3, 2), padding=2, dilation=(2, 1), groups=4),
    conv(2, ((2, 2, 4, 18), (3, 2, 2, 3)), padding="same", dilation=(3, 2), sides=((1, 2), (2, 2))),
    pool("max", 1, (2, 3, 9), (1, 4), (0, 2, 5), kernel_size=3),
    pool("max", 1, (2, 1, 11), kernel_size=4, stride=3, padding=2),
    pool("max", 2, (2, 3, 6, 5), (3, 2, 2), (0, 2, 4, 4), (1, 2, 9, 17), kernel_size=2),
    pool("max", 2, (2, 2, 5, 7), kernel_size=(3, 2), stride=(1, 3), padding=(1, 0)),
    pool("avg", 1, (2, 3, 9), (1, 4), (0, 2, 5), kernel_size=3),
    pool("avg", 1, (2, 1, 11), kernel_size=4, stride=3, padding=2, count_include_pad=False),
    pool("avg", 2, (2, 3, 6, 5), (3, 2, 2), (0, 2, 4, 4), (1, 2, 9, 17), kernel_size=2),
    *(pool("avg", 2, (2, 2, 5, 7), kernel_size=(3, 2), stride=(1, 3), padding=1, count_include_pad=v) for v in (True, False)),
    one("sum", lambda x: x.sum(), np.sum),
    one("sum", lambda x: x.sum(axis=-1), lambda x: x.sum(-1), shapes=AXES, label="axis"),
    one(
        "sum",
        lambda x: x.sum(axis=(0, -1), keepdims=True),
        lambda x: x.sum((0, -1), keepdims=True),
        shapes=AXES[1:],
        label="axes",
    ),
    one("mean", lambda x: x.mean(), np.mean, shapes=tuple(s for s in ONE if 0 not in s[0])),
    one("mean", lambda x: x.mean(axis=0, keepdims=True), lambda x: x.mean(0, keepdims=True), shapes=AXES, label="axis"),
    one("logsumexp", tr.logsumexp, np_logsumexp, shapes=tuple(s for s in ONE if 0 not in s[0])),
    one("logsumexp", lambda x: tr.logsumexp(x, axis=-1), lambda x: np_logsumexp(x, -1), shapes=AXES, label="axis"),
    one(
        "logsumexp",
        lambda x: tr.logsumexp(x, axis=(0, -1), keepdims=True),
        lambda x: np_logsumexp(x, (0, -1), True),
        shapes=AXES[1:],
        label="axes",
    ),
    *[case for name in ("min", "prod", "var", "std", "norm") for case in reductions(name)],
    *norms(),
    *[case for name in ("cumsum", "cumprod") for case in cumulations(name)],
    one("max", lambda x: x.max(), np.max, shapes=tuple(s for s in ONE if 0 not in s[0]), spread=True),
    one("max", lambda x: x.max(axis=-1), lambda x: x.max(-1), shapes=AXES, spread=True, label="axis"),
    one(
        "max",
        lambda x: x.max(axis=0, keepdims=True),
        lambda x: x.max(0, keepdims=True),
        shapes=AXES,
        spread=True,
        label="keepdims",
    ),
    one("reshape", lambda x: x.reshape(-1), lambda x: x.reshape(-1)),
    one(
        "reshape",
        lambda x: x.reshape(3, -1),
        lambda x: x.reshape(3, -1),
        shapes=(((6,),), ((2, 3),), ((3, 4, 2),)),
        label="split",
    ),
    one("transpose", lambda x: x.T, lambda x: x.T),
    one(
        "transpose",
        lambda x: x.transpose(1, -1, 0),
        lambda x: x.transpose(1, -1, 0),
        shapes=(((2, 3, 4),), ((1, 0, 2),)),
        label="axes",
    ),
    one("index", lambda x: x[1], lambda x: x[1], shapes=AXES[1:3] + AXES[4:]),
    one("index", lambda x: x[-1, ..., ::-2, None], lambda x: x[-1, ..., ::-2, None], shapes=AXES[1:4], label="mixed"),
    one("index", lambda x: x[()], lambda x: x[()], label="whole"),
    one("take", lambda x: x[INDEX], lambda x: x[INDEX], shapes=(((3,),), ((4, 2),), ((3, 0),))),
    one("take", lambda x: x[:, [0, -1, 0]], lambda x: x[:, [0, -1, 0]], shapes=AXES[1:3] + AXES[3:5], label="repeated"),
    one("take", lambda x: x[x.value > 0], lambda x: x[x > 0], shapes=AXES, spread=True, label="mask"),
    *REARRANGED,
    *PRODUCTS,
    one("embedding", lambda w: tr.embedding(w, INDEX), lambda w: w[INDEX], shapes=(((3, 4),), ((5, 1),), ((3, 0),))),
    Case(
        "concatenate",
        lambda *p: tr.concatenate(p, axis=-1),
        lambda *p: np.concatenate(p, -1),
        (((2, 3), (2, 1)), ((3,), (0,), (2,)), ((2, 0, 1), (2, 0, 4)), ((1,),)),
    ),
    Case(
        "stack",
        lambda *p: tr.stack(p, axis=1),
        lambda *p: np.stack(p, 1),
        (((3,), (3,)), ((2, 3), (2, 3), (2, 3)), ((0, 2), (0, 2)), ((4,),)),
    ),
    one("softmax", tr.softmax, lambda x: np_softmax(x, -1), shapes=AXES + (((0, 3),), ((3, 0),))),
    one("softmax", lambda x: tr.softmax(x, axis=0), lambda x: np_softmax(x, 0), shapes=AXES, label="axis 0"),
    one("log_softmax", tr.log_softmax, lambda x: np.log(np_softmax(x, -1)), shapes=AXES + (((0, 3),), ((3, 0),))),
    one("log_softmax", lambda x: tr.log_softmax(x, axis=0), lambda x: np.log(np_softmax(x, 0)), shapes=AXES, label="axis 0"),
    *(layer_norm(weighted, biased) for weighted in (False, True) for biased in (False, True)),
    *(
        batch_norm(*kinds)
        for kinds in (
            (True, True, True),
            (True, False, True),
            (True, False, False, False),
            (False, True, True),
            (False, True, False),
        )
    ),
    *of_classes("cross_entropy", tr.cross_entropy, np_cross_entropy),
    *of_classes("nll_loss", tr.nll_loss, np_nll),
    *of_pairs("mse_loss", tr.mse_loss, lambda x, y: (x - y) ** 2),
    *of_pairs("l1_loss", tr.l1_loss, lambda x, y: np.abs(x - y)),
    *of_pairs("huber_loss", tr.huber_loss, lambda x, y: np_huber(x - y, 1)),
    *of_pairs("huber_loss", lambda x, y, r: tr.huber_loss(x, y, r, 0.3), lambda x, y: np_huber(x - y, 0.3), "delta 0.3, "),
    *of_pairs("smooth_l1_loss", tr.smooth_l1_loss, lambda x, y: np_huber(x - y, 1)),
    *of_pairs(
        "smooth_l1_loss", lambda x, y, r: tr.smooth_l1_loss(x, y, r, 0.3), lambda x, y: np_huber(x - y, 0.3) / 0.3, "beta 0.3, "
    ),
    *of_pairs("smooth_l1_loss", lambda x, y, r: tr.smooth_l1_loss(x, y, r, 0), lambda x, y: np.abs(x - y), "beta 0, "),
    *of_pairs(
        "binary_cross_entropy_with_logits",
        lambda x, t, r: tr.binary_cross_entropy_with_logits(x, t, r),
        lambda x, t: np.logaddexp(0, x) - x * t,
    ),
)
