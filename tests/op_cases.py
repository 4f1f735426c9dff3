"""One declarative case per op. It drives the tests of values, gradients, dtypes, layouts, backends and instruction sets; a
test asserts that no op lacks one."""

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


def np_softmax(x, axis):
    e = np.exp(x - x.max(axis, keepdims=True, initial=-np.inf))
    return e / e.sum(axis, keepdims=True)


def np_logsumexp(x, axis=None, keepdims=False):
    with np.errstate(divide="ignore"):
        return np.log(np.exp(x).sum(axis, keepdims=keepdims))


def np_cross_entropy(x, reduction):
    target = TARGETS[x.shape]
    axis = 1 if x.ndim > 1 else 0
    log_p = np.log(np_softmax(x, axis))
    picked = -np.take_along_axis(log_p, np.expand_dims(target, axis), axis).squeeze(axis)
    return picked if reduction == "none" else picked.sum() if reduction == "sum" else picked.mean()


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


CONDITION = np.array([[True], [False], [True]])[::-1]
CHOSEN = (((), ()), ((3, 2), (3, 2)), ((4,), (2, 1, 1)), ((2, 3, 5), (1,)), ((1,), (3, 17)), ((0,), (2, 3, 1)), ((3, 0), ()))

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
        one("clip", lambda x, a=a, b=b: tr.clip(x, a, b), lambda x, a=a, b=b: np.clip(x, a, b), spread=True, label=f"{a}, {b}")
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
    Case("lstm_state", tr.lstm_state, lambda i, f, g, c: f * c + i * g, alike(4)),
    Case("addcmul", tr.addcmul, lambda x, a, b: x + a * b, alike(3)),
    Case("lerp", tr.lerp, lambda a, b, w: (1 - w) * a + w * b, alike(3)),
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
    *[
        one(
            "cross_entropy",
            lambda x, r=r: tr.cross_entropy(x, TARGETS[x.shape], r),
            lambda x, r=r: np_cross_entropy(x, r),
            shapes=tuple((s,) for s in TARGETS),
            label=r,
        )
        for r in ("mean", "sum", "none")
    ],
    *[
        two(
            "mse_loss",
            lambda x, y, r=r: tr.mse_loss(x, y, r),
            lambda x, y, r=r: {"mean": np.mean, "sum": np.sum, "none": np.asarray}[r]((x - y) ** 2),
            shapes=(((), ()), ((3,), (3,)), ((2, 4), (2, 4)), ((1, 17), (1, 17))),
            label=r,
        )
        for r in ("mean", "sum", "none")
    ],
)
