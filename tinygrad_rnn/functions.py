"""The ops as functions of tensors, under numpy's and PyTorch's names."""

from __future__ import annotations

from collections.abc import Sequence
from operator import index as as_int
from typing import Any, Literal

import numpy as np

from . import ops
from .generator import Generator
from .ops import ShapeError
from .ops.op import normal_axis
from .tape import current_backend, record
from .tensor import Tensor, as_axis, as_tensor, lift

Reduction = Literal["mean", "sum", "none"]
Activation = Literal["tanh", "relu", "sigmoid", "identity"]
Axis = int | tuple[int, ...] | None


def _pair(x: Any, y: Any) -> tuple[Tensor, Tensor]:
    if isinstance(x, Tensor) and isinstance(y, Tensor):
        return x, y
    like = x if isinstance(x, Tensor) else as_tensor(y)
    return lift(x, like), lift(y, like)


def add(x: Any, y: Any) -> Tensor:
    """x + y, broadcast."""
    return record(Tensor, ops.add, _pair(x, y))


def sub(x: Any, y: Any) -> Tensor:
    """x - y, broadcast."""
    return record(Tensor, ops.sub, _pair(x, y))


def mul(x: Any, y: Any) -> Tensor:
    """x * y, broadcast."""
    return record(Tensor, ops.mul, _pair(x, y))


def div(x: Any, y: Any) -> Tensor:
    """x / y, broadcast."""
    return record(Tensor, ops.div, _pair(x, y))


def pow(x: Any, y: Any) -> Tensor:
    """x ** y, broadcast. The gradient is 0 for x where y is 0, and for y where x is 0 and y >= 0."""
    return record(Tensor, ops.pow, _pair(x, y))


def neg(x: Any) -> Tensor:
    """-x"""
    return record(Tensor, ops.neg, (as_tensor(x),))


def exp(x: Any) -> Tensor:
    """e ** x"""
    return record(Tensor, ops.exp, (as_tensor(x),))


def log(x: Any) -> Tensor:
    """Natural logarithm."""
    return record(Tensor, ops.log, (as_tensor(x),))


def sqrt(x: Any) -> Tensor:
    """Square root."""
    return record(Tensor, ops.sqrt, (as_tensor(x),))


def tanh(x: Any) -> Tensor:
    """Hyperbolic tangent. Its derivative 4e / (1 + e)^2, e = exp(-2|x|), is computed from x and right in saturation."""
    return record(Tensor, ops.tanh, (as_tensor(x),))


def sigmoid(x: Any) -> Tensor:
    """1 / (1 + exp(-x)), with a derivative that is right in saturation."""
    return record(Tensor, ops.sigmoid, (as_tensor(x),))


def relu(x: Any) -> Tensor:
    """max(x, 0); the derivative at 0 is 0."""
    return record(Tensor, ops.relu, (as_tensor(x),))


def abs(x: Any) -> Tensor:
    """|x|; the derivative at 0 is 0."""
    return record(Tensor, ops.abs, (as_tensor(x),))


def square(x: Any) -> Tensor:
    """x * x"""
    return record(Tensor, ops.square, (as_tensor(x),))


def reciprocal(x: Any) -> Tensor:
    """1 / x"""
    return record(Tensor, ops.reciprocal, (as_tensor(x),))


def rsqrt(x: Any) -> Tensor:
    """1 / sqrt(x), as torch.rsqrt."""
    return record(Tensor, ops.rsqrt, (as_tensor(x),))


def sign(x: Any) -> Tensor:
    """-1, 0 or 1 as x is negative, zero or positive; NaN stays NaN. The gradient is zero."""
    return record(Tensor, ops.sign, (as_tensor(x),))


def floor(x: Any) -> Tensor:
    """The largest integer that is not above x. The gradient is zero."""
    return record(Tensor, ops.floor, (as_tensor(x),))


def ceil(x: Any) -> Tensor:
    """The smallest integer that is not below x. The gradient is zero."""
    return record(Tensor, ops.ceil, (as_tensor(x),))


def exp2(x: Any) -> Tensor:
    """2 ** x"""
    return record(Tensor, ops.exp2, (as_tensor(x),))


def expm1(x: Any) -> Tensor:
    """exp(x) - 1, right near 0."""
    return record(Tensor, ops.expm1, (as_tensor(x),))


def log1p(x: Any) -> Tensor:
    """log(1 + x), right near 0."""
    return record(Tensor, ops.log1p, (as_tensor(x),))


def log2(x: Any) -> Tensor:
    """Logarithm to base 2."""
    return record(Tensor, ops.log2, (as_tensor(x),))


def log10(x: Any) -> Tensor:
    """Logarithm to base 10."""
    return record(Tensor, ops.log10, (as_tensor(x),))


def sin(x: Any) -> Tensor:
    """Sine of radians."""
    return record(Tensor, ops.sin, (as_tensor(x),))


def cos(x: Any) -> Tensor:
    """Cosine of radians."""
    return record(Tensor, ops.cos, (as_tensor(x),))


def tan(x: Any) -> Tensor:
    """Tangent of radians."""
    return record(Tensor, ops.tan, (as_tensor(x),))


def arcsin(x: Any) -> Tensor:
    """Inverse sine, in -pi/2..pi/2; NaN outside -1..1."""
    return record(Tensor, ops.arcsin, (as_tensor(x),))


def arccos(x: Any) -> Tensor:
    """Inverse cosine, in 0..pi; NaN outside -1..1."""
    return record(Tensor, ops.arccos, (as_tensor(x),))


def arctan(x: Any) -> Tensor:
    """Inverse tangent, in -pi/2..pi/2."""
    return record(Tensor, ops.arctan, (as_tensor(x),))


def sinh(x: Any) -> Tensor:
    """Hyperbolic sine."""
    return record(Tensor, ops.sinh, (as_tensor(x),))


def cosh(x: Any) -> Tensor:
    """Hyperbolic cosine."""
    return record(Tensor, ops.cosh, (as_tensor(x),))


def arcsinh(x: Any) -> Tensor:
    """Inverse hyperbolic sine."""
    return record(Tensor, ops.arcsinh, (as_tensor(x),))


def arccosh(x: Any) -> Tensor:
    """Inverse hyperbolic cosine; NaN below 1."""
    return record(Tensor, ops.arccosh, (as_tensor(x),))


def arctanh(x: Any) -> Tensor:
    """Inverse hyperbolic tangent; NaN outside -1..1."""
    return record(Tensor, ops.arctanh, (as_tensor(x),))


def logsigmoid(x: Any) -> Tensor:
    """log(sigmoid(x)) = -log(1 + exp(-x)), right on both sides, as torch.nn.functional.logsigmoid."""
    return record(Tensor, ops.logsigmoid, (as_tensor(x),))


def softsign(x: Any) -> Tensor:
    """x / (1 + |x|), as torch.nn.functional.softsign; 1 and -1 at infinity."""
    return record(Tensor, ops.softsign, (as_tensor(x),))


def maximum(x: Any, y: Any) -> Tensor:
    """The larger of x and y, broadcast; NaN where either is. Ties share the gradient evenly."""
    return record(Tensor, ops.maximum, _pair(x, y))


def minimum(x: Any, y: Any) -> Tensor:
    """The smaller of x and y, broadcast; NaN where either is. Ties share the gradient evenly."""
    return record(Tensor, ops.minimum, _pair(x, y))


def logaddexp(x: Any, y: Any) -> Tensor:
    """log(exp(x) + exp(y)) without overflow, broadcast."""
    return record(Tensor, ops.logaddexp, _pair(x, y))


def arctan2(y: Any, x: Any) -> Tensor:
    """Angle of the point (x, y) with the axis of x > 0, in -pi..pi, broadcast; the gradient at (0, 0) is 0."""
    return record(Tensor, ops.arctan2, _pair(y, x))


def hypot(x: Any, y: Any) -> Tensor:
    """sqrt(x ** 2 + y ** 2) without overflow, broadcast; the gradient at (0, 0) is 0."""
    return record(Tensor, ops.hypot, _pair(x, y))


def where(condition: Any, x: Any, y: Any) -> Tensor:
    """x where the condition is true, else y; the three broadcast.

    condition   booleans, which may be an argument of a compiled function; or a tensor, true where it is not 0

    The branch that is not taken gets a gradient of 0, and nothing of it passes: not even NaN. Raises TypeError for another
    condition, ShapeError where shapes do not broadcast."""
    return record(Tensor, ops.where, _pair(x, y), {"condition": _booleans("where", condition)})


def clip(x: Any, min: float | None = None, max: float | None = None) -> Tensor:
    """x with what is below `min` set to it and what is above `max` set to that; None is no bound, NaN stays NaN.

    The gradient is that of x where min <= x <= max, and else 0, as torch.clamp's. The bounds are numbers, in the dtype of x;
    for arrays or tensors, whose gradient is wanted or not, use minimum(maximum(x, min), max)."""
    return as_tensor(x).clip(min, max)


def dropout(x: Any, p: float = 0.5, *, generator: Generator) -> Tensor:
    """x with every entry set to 0 with probability p and multiplied by 1 / (1 - p) otherwise, which keeps its mean (Srivastava
    et al. 2014, as PyTorch): for training; leave the call out for evaluation.

    x           any shape, float32 or float64, which draw the same entries
    p           in 0..1; with 0 the result is x itself and nothing is drawn, with 1 it is all zeros
    generator   a `Generator`, which advances by one position for every four entries

    NaN and infinite entries that are dropped become NaN. Raises ValueError for another p, TypeError for another generator."""
    if not 0 <= p <= 1:
        raise ValueError(f"dropout: expected a probability p in 0..1, got {p}")
    if not isinstance(generator, Generator):
        raise TypeError(f"dropout: expected a Generator, got {type(generator).__name__}")
    x = as_tensor(x)
    return x if p == 0 else record(Tensor, ops.dropout, (x,), {"p": float(p), "state": generator.state})


def matmul(x: Any, y: Any) -> Tensor:
    """x(..., m, k) @ y(..., k, n) -> (..., m, n); batch axes broadcast."""
    return record(Tensor, ops.matmul, _pair(x, y))


def linear(x: Any, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x(..., I) weight(O, I)^T + bias(O) -> (..., O)"""
    x, weight = _pair(x, weight)
    return record(Tensor, ops.linear, (x, weight) if bias is None else (x, weight, bias))


def rnn_cell(
    x: Any,
    h: Any,
    weight_ih: Tensor | None,
    weight_hh: Tensor,
    bias_ih: Tensor | None = None,
    bias_hh: Tensor | None = None,
    activation: Activation = "tanh",
) -> Tensor:
    """f(x(B, I) weight_ih(H, I)^T + bias_ih(H) + h(B, H) weight_hh(H, H)^T + bias_hh(H)) -> (B, H), as torch.nn.RNNCell, in one
    node and one pass over the output; f is "tanh", "relu", "sigmoid" or "identity".

    Where weight_ih is None, x(B, H) is the input projection itself, ready made (for a whole sequence in one product, say), and
    bias_ih must be None too; otherwise give both biases or none. `nn.RNNCell` and `nn.RNN` record the single ops instead, so
    that every node can be read; this is for cells of your own that have to be fast.

    All of one dtype, float32 or float64. Raises ShapeError (a ValueError) where shapes do not fit, ValueError for another
    activation, TypeError for mixed dtypes, a missing state or recurrent weight, or one bias without the other."""
    for name, value, hint in (("state h", h, "zeros (B, H) for a first step"), ("weight_hh", weight_hh, "an (H, H) tensor")):
        if value is None:
            raise TypeError(f"rnn_cell: the {name} is missing; expected {hint}")
    projected = weight_ih is None
    if (bias_ih is not None) if projected else ((bias_ih is None) != (bias_hh is None)):
        raise TypeError(f"rnn_cell: give {'bias_hh alone' if projected else 'both biases'}, or none")
    x, h = _pair(x, h)
    tensors = [as_tensor(v) for v in (x, h, weight_ih, weight_hh, bias_ih, bias_hh) if v is not None]
    return record(Tensor, ops.rnn_cell, tuple(tensors), {"activation": activation, "projected": projected})


def lstm_gates(z: Any) -> Tensor:
    """The gates i, f, g, o of an LSTM from its pre-activations z(..., 4 H), side by side in that order: sigmoid(i), sigmoid(f),
    tanh(g), sigmoid(o), with derivatives that are right in saturation."""
    return record(Tensor, ops.lstm_gates, (as_tensor(z),))


def lstm_state(i: Any, f: Any, g: Any, c: Any) -> Tensor:
    """f c + i g, the next state of an LSTM's cells; all (..., H)."""
    return record(Tensor, ops.lstm_state, (*_pair(i, f), *_pair(g, c)))


def addcmul(x: Any, a: Any, b: Any) -> Tensor:
    """x + a b for equal shapes (..., H), as torch.addcmul."""
    return record(Tensor, ops.addcmul, (*_pair(x, a), as_tensor(b)))


def lerp(a: Any, b: Any, weight: Any) -> Tensor:
    """(1 - weight) a + weight b for equal shapes (..., H), as torch.lerp."""
    return record(Tensor, ops.lerp, (*_pair(a, b), as_tensor(weight)))


def select_steps(x: Any, old: Any, lengths: Any, t: int) -> Tensor:
    """x in the rows b that have a step t, t < lengths[b], and old in the others: x, old (B, H), lengths integers (B,)."""
    return record(Tensor, ops.select_steps, _pair(x, old), {"lengths": _integers("select_steps", lengths), "t": as_int(t)})


def mask_steps(x: Any, lengths: Any, t: int) -> Tensor:
    """x in the rows b that have a step t, t < lengths[b], and 0 in the others: x (B, H), lengths integers (B,)."""
    return record(Tensor, ops.mask_steps, (as_tensor(x),), {"lengths": _integers("mask_steps", lengths), "t": as_int(t)})


def sum(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Sum over an axis, several, or all."""
    return as_tensor(x).sum(axis, keepdims)


def mean(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Mean over an axis, several, or all."""
    return as_tensor(x).mean(axis, keepdims)


def max(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Maximum over an axis, several, or all; ties share the gradient evenly."""
    return as_tensor(x).max(axis, keepdims)


def logsumexp(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """log(sum(exp(x))) over an axis, several (a tuple), or all (None), without overflow.

    keepdims leaves length 1 in the place of what is reduced. -inf for an empty axis. The gradient is the softmax of
    x; NaN where the result is infinite. float32 or float64, kept."""
    x = as_tensor(x)
    return record(Tensor, ops.logsumexp, (x,), {"axis": as_axis(axis), "keepdims": keepdims})


def reshape(x: Any, shape: Sequence[int]) -> Tensor:
    """Another shape of the same size; one entry may be -1."""
    return as_tensor(x).reshape(tuple(shape))


def transpose(x: Any, axes: Sequence[int] | None = None) -> Tensor:
    """Permuted axes; reversed by default."""
    return as_tensor(x).transpose(*(() if axes is None else axes))


def concatenate(parts: Sequence[Any], axis: int = 0) -> Tensor:
    """Tensors joined along an existing axis."""
    tensors = _tensors("concatenate", parts)
    return record(Tensor, ops.concatenate, tensors, {"axis": normal_axis("concatenate", tensors[0].shape, axis)})


def stack(parts: Sequence[Any], axis: int = 0) -> Tensor:
    """Tensors of one shape joined along a new axis."""
    tensors = _tensors("stack", parts)
    return record(Tensor, ops.stack, tensors, {"axis": normal_axis("stack", (*tensors[0].shape, 1), axis)})


def _tensors(name: str, parts: Sequence[Any]) -> tuple[Tensor, ...]:
    tensors = tuple(as_tensor(p) for p in parts)
    if not tensors:
        raise ShapeError(f"{name}: nothing to join; expected at least one tensor")
    return tensors


def softmax(x: Any, axis: int = -1) -> Tensor:
    """exp(x) / sum(exp(x)) along the axis."""
    x = as_tensor(x)
    return record(Tensor, ops.softmax, (x,), {"axis": normal_axis("softmax", x.shape, axis)})


def log_softmax(x: Any, axis: int = -1) -> Tensor:
    """x - log(sum(exp(x))) along the axis."""
    x = as_tensor(x)
    return record(Tensor, ops.log_softmax, (x,), {"axis": normal_axis("log_softmax", x.shape, axis)})


def cross_entropy(x: Any, target: Any, reduction: Reduction = "mean") -> Tensor:
    """-log softmax(x)[target] in nats, with PyTorch's shapes.

    x          logits (N, classes), (N, classes, ...) or (classes,)
    target     integers (N,), (N, ...) or (), each in 0..classes - 1
    reduction  "mean" over all targets, "sum", or "none"
    """
    return record(
        Tensor, ops.cross_entropy, (as_tensor(x),), {"target": _integers("cross_entropy", target), "reduction": reduction}
    )


def mse_loss(x: Any, target: Any, reduction: Reduction = "mean") -> Tensor:
    """(x - target)^2 for equal shapes; "mean" over all entries, "sum", or "none"."""
    return record(Tensor, ops.mse_loss, _pair(x, target), {"reduction": reduction})


def embedding(weight: Tensor, index: Any) -> Tensor:
    """Rows of weight(V, D): index(...) of integers in 0..V - 1 -> (..., D)"""
    return record(Tensor, ops.embedding, (as_tensor(weight),), {"index": _integers("embedding", index)})


def _integers(name: str, x: Any) -> np.ndarray:
    array = np.asarray(x)
    if array.dtype.kind not in "iu" and array.size:
        raise TypeError(f"{name}: expected integers, got {array.dtype}")
    return current_backend().integers(array)  # a copy: the backward pass needs what the forward pass saw


def _booleans(name: str, x: Any) -> np.ndarray:
    if isinstance(x, Tensor):
        return current_backend().nonzero(x.value)
    array = np.asarray(x)
    if array.dtype != np.bool_:
        raise TypeError(f"{name}: expected booleans or a tensor, got {array.dtype}")
    return current_backend().booleans(array)  # a copy, for the same reason


__all__ = [
    "abs",
    "add",
    "addcmul",
    "arccos",
    "arccosh",
    "arcsin",
    "arcsinh",
    "arctan",
    "arctan2",
    "arctanh",
    "ceil",
    "clip",
    "concatenate",
    "cos",
    "cosh",
    "cross_entropy",
    "div",
    "dropout",
    "embedding",
    "exp",
    "exp2",
    "expm1",
    "floor",
    "hypot",
    "lerp",
    "linear",
    "log",
    "log10",
    "log1p",
    "log2",
    "log_softmax",
    "logaddexp",
    "logsigmoid",
    "logsumexp",
    "lstm_gates",
    "lstm_state",
    "mask_steps",
    "matmul",
    "max",
    "maximum",
    "mean",
    "minimum",
    "mse_loss",
    "mul",
    "neg",
    "pow",
    "reciprocal",
    "relu",
    "reshape",
    "rnn_cell",
    "rsqrt",
    "select_steps",
    "sigmoid",
    "sign",
    "sin",
    "sinh",
    "softmax",
    "softsign",
    "sqrt",
    "square",
    "stack",
    "sub",
    "sum",
    "tan",
    "tanh",
    "transpose",
    "where",
]
