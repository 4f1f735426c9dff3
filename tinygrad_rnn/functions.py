"""The ops as functions of tensors, under numpy's and PyTorch's names."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from numbers import Real
from operator import index as as_int
from typing import Any, Literal

import numpy as np

from . import ops
from .algebra import dot, einsum, inner, outer, tensordot
from .generator import Generator
from .ops import ShapeError
from .ops.conv import per_axis, per_side
from .ops.op import normal_axis, reduced_axes
from .tape import current_backend, record
from .tensor import NUMPY_FUNCTIONS, Tensor, as_axis, as_tensor, lift, refuse_masked

Reduction = Literal["mean", "sum", "none"]
Activation = Literal["tanh", "relu", "sigmoid", "identity"]
Axis = int | tuple[int, ...] | None
Sizes = int | Sequence[int]  # for every axis the same, or one for each
Axes = int | Sequence[int]


def _pair(x: Any, y: Any) -> tuple[Tensor, Tensor]:
    if isinstance(x, Tensor) and isinstance(y, Tensor):
        return x, y
    return _together(x, y)


def _together(*arguments: Any) -> tuple[Any, ...]:
    """Arguments of one op as tensors: numbers take the dtype of the first tensor, or else the first array, among them."""
    for x in arguments:
        if not isinstance(x, Tensor):
            break
    else:
        return arguments
    like = next((x for x in arguments if isinstance(x, Tensor)), None)
    if like is None:
        like = as_tensor(next((x for x in arguments if not isinstance(x, Real)), arguments[0]))
    return tuple([lift(x, like) for x in arguments])


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


def clip(
    a: Any,
    a_min: float | None = None,
    a_max: float | None = None,
    *,
    min: float | None = None,
    max: float | None = None,
) -> Tensor:
    """a with what is below a_min set to it and what is above a_max set to that; None is no bound, NaN stays NaN.

    min and max are other names of the bounds. The gradient is that of a where a_min <= a <= a_max, and else 0, as that of
    torch.clamp. The bounds are numbers, in the dtype of a; for arrays or tensors, whose gradient is wanted or not, use
    minimum(maximum(a, a_min), a_max)."""
    if (a_min is not None and min is not None) or (a_max is not None and max is not None):
        raise TypeError("clip: a bound was given by both of its names")
    return as_tensor(a).clip(a_min if min is None else min, a_max if max is None else max)


def erf(x: Any) -> Tensor:
    """2 / sqrt(pi) times the integral of exp(-t^2) from 0 to x, within 2 units in the last place."""
    return record(Tensor, ops.erf, (as_tensor(x),))


def leaky_relu(x: Any, negative_slope: float = 0.01) -> Tensor:
    """x where x > 0, else negative_slope x; the derivative at 0 is negative_slope."""
    return record(Tensor, ops.leaky_relu, (as_tensor(x),), {"negative_slope": float(negative_slope)})


def elu(x: Any, alpha: float = 1.0) -> Tensor:
    """x where x > 0, else alpha (exp(x) - 1), without cancellation; the derivative at 0 is alpha."""
    return record(Tensor, ops.elu, (as_tensor(x),), {"alpha": float(alpha)})


def gelu(x: Any, approximate: Literal["none", "tanh"] = "none") -> Tensor:
    """x Phi(x), Phi being the normal distribution; with approximate="tanh" x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2.

    Value and derivative keep their digits in the tail to the left, of the approximation all but |x|^3 units in the last place,
    where PyTorch's are differences of numbers near 1. NaN at -inf, as PyTorch's. ValueError for another approximation."""
    if approximate not in ("none", "tanh"):
        raise ValueError(f"gelu: expected approximate 'none' or 'tanh', got {approximate!r}")
    return record(Tensor, ops.gelu, (as_tensor(x),), {"approximate": approximate})


def silu(x: Any) -> Tensor:
    """x sigmoid(x), also called swish; NaN at -inf, as PyTorch's."""
    return record(Tensor, ops.silu, (as_tensor(x),))


def softplus(x: Any) -> Tensor:
    """log(1 + exp(x)), within 2 units in the last place everywhere: PyTorch's with beta = 1, which above its threshold of 20
    leaves out the logarithm's rest, at most 2e-9."""
    return record(Tensor, ops.softplus, (as_tensor(x),))


def hardtanh(x: Any, min_val: float = -1.0, max_val: float = 1.0) -> Tensor:
    """x cut off to min_val..max_val; the derivative is 0 at both. Raises ValueError unless min_val < max_val."""
    if not min_val < max_val:
        raise ValueError(f"hardtanh: expected min_val < max_val, got {min_val} and {max_val}")
    return record(Tensor, ops.hardtanh, (as_tensor(x),), {"min_val": float(min_val), "max_val": float(max_val)})


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
    """x(..., m, k) @ y(..., k, n) -> (..., m, n); batch axes broadcast. A vector (k,) is a row on the left and a column on the
    right, and the result lacks that axis."""
    return record(Tensor, ops.matmul, _pair(x, y))


def linear(x: Any, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x(..., I) weight(O, I)^T + bias(O) -> (..., O)"""
    x, weight = _pair(x, weight)
    return record(Tensor, ops.linear, (x, weight) if bias is None else (x, weight, as_tensor(bias)))


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
    """f c + i g, the next state of an LSTM's cells, broadcast."""
    return record(Tensor, ops.lstm_state, _together(i, f, g, c))


def addcmul(input: Any, tensor1: Any, tensor2: Any, *, value: float = 1) -> Tensor:
    """input + value tensor1 tensor2, broadcast, as torch.addcmul. Raises TypeError where value is not a number."""
    inputs = _together(input, tensor1, tensor2)
    if type(value) is not int or value != 1:
        if not isinstance(value, Real):
            raise TypeError(f"addcmul: expected a number as value, got {type(value).__name__}; multiply tensor1 by it instead")
        inputs = inputs[0], mul(inputs[1], value), inputs[2]
    return record(Tensor, ops.addcmul, inputs)


def lerp(input: Any, end: Any, weight: Any) -> Tensor:
    """(1 - weight) input + weight end, broadcast, as torch.lerp; the weight is a number or a tensor."""
    return record(Tensor, ops.lerp, _together(input, end, weight))


def select_steps(x: Any, old: Any, lengths: Any, t: int) -> Tensor:
    """x in the rows b that have a step t, t < lengths[b], and old in the others: x, old (B, H), lengths integers (B,)."""
    return record(Tensor, ops.select_steps, _pair(x, old), {"lengths": _integers("select_steps", lengths), "t": as_int(t)})


def mask_steps(x: Any, lengths: Any, t: int) -> Tensor:
    """x in the rows b that have a step t, t < lengths[b], and 0 in the others: x (B, H), lengths integers (B,)."""
    return record(Tensor, ops.mask_steps, (as_tensor(x),), {"lengths": _integers("mask_steps", lengths), "t": as_int(t)})


def conv1d(
    x: Any,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sizes = 1,
    padding: Sizes | Literal["valid", "same"] = 0,
    dilation: Sizes = 1,
    groups: int = 1,
) -> Tensor:
    """The cross-correlation of x(N, C, L) with weight(O, C / groups, K), + bias(O) -> (N, O, L'), as
    torch.nn.functional.conv1d; without the batch axis as well. The settings are those of conv2d, along one axis."""
    return _conv(ops.conv1d, 1, x, weight, bias, stride, padding, dilation, groups)


def conv2d(
    x: Any,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sizes = 1,
    padding: Sizes | Literal["valid", "same"] = 0,
    dilation: Sizes = 1,
    groups: int = 1,
) -> Tensor:
    """The cross-correlation of x(N, C, H, W) with weight(O, C / groups, KH, KW), + bias(O) -> (N, O, H', W'), as
    torch.nn.functional.conv2d; without the batch axis as well.

    y[n, o, i, j] = bias[o] + sum over c, k, l of weight[o, c, k, l] x[n, c, i stride + k dilation - padding, j ... + l ...]

    stride     steps between windows, an integer or one for each axis
    padding    zeros on both sides of each axis; "valid" is 0; "same", for stride 1, gives an output as large as the input
    dilation   steps between the elements of a window
    groups     the channels are cut into so many groups; each group of outputs sees its group of inputs alone

    H' = (H + 2 padding - dilation (KH - 1) - 1) // stride + 1. All of one dtype, float32 or float64. Raises ShapeError (a
    ValueError) where shapes do not fit, ValueError for other settings, TypeError for mixed dtypes."""
    return _conv(ops.conv2d, 2, x, weight, bias, stride, padding, dilation, groups)


def _conv(
    op: ops.Op, axes: int, x: Any, weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any, groups: Any
) -> Tensor:
    x, weight = _pair(x, weight)
    stride, dilation = (per_axis(op.name, n, v, axes, 1) for n, v in (("stride", stride), ("dilation", dilation)))
    (groups,) = per_axis(op.name, "groups", groups, 1, 1)
    kernel = weight.shape[2:] if weight.ndim == axes + 2 else (1,) * axes  # else the op says that the weight does not fit
    padding = per_side(op.name, padding, kernel, stride, dilation)
    settings = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    return record(Tensor, op, (x, weight) if bias is None else (x, weight, as_tensor(bias)), settings)


def max_pool1d(x: Any, kernel_size: Sizes, stride: Sizes | None = None, padding: Sizes = 0) -> Tensor:
    """The maximum of every window of x(N, C, L) -> (N, C, L'), or without N, as torch.nn.functional.max_pool1d; windows,
    gradient and errors are those of max_pool2d, along one axis."""
    return _pool(ops.max_pool1d, 1, x, kernel_size, stride, padding)


def max_pool2d(x: Any, kernel_size: Sizes, stride: Sizes | None = None, padding: Sizes = 0) -> Tensor:
    """The maximum of every window of x(N, C, H, W) -> (N, C, H', W'), or without N, as torch.nn.functional.max_pool2d.

    kernel_size   of a window, an integer or one for each axis
    stride        steps between windows; kernel_size where None
    padding       on both sides of each axis, at most half of the window; it is never the maximum

    The first of several maxima takes the gradient; NaN is larger than anything, and its last one takes the gradient.
    H' = (H + 2 padding - kernel_size) // stride + 1. Raises ShapeError (a ValueError) where shapes do not fit, ValueError for
    other settings."""
    return _pool(ops.max_pool2d, 2, x, kernel_size, stride, padding)


def avg_pool1d(
    x: Any, kernel_size: Sizes, stride: Sizes | None = None, padding: Sizes = 0, *, count_include_pad: bool = True
) -> Tensor:
    """The mean of every window of x(N, C, L) -> (N, C, L'), or without N, as torch.nn.functional.avg_pool1d; windows and errors
    are those of max_pool2d, along one axis, and count_include_pad is that of avg_pool2d."""
    return _pool(ops.avg_pool1d, 1, x, kernel_size, stride, padding, count_include_pad=bool(count_include_pad))


def avg_pool2d(
    x: Any, kernel_size: Sizes, stride: Sizes | None = None, padding: Sizes = 0, *, count_include_pad: bool = True
) -> Tensor:
    """The mean of every window of x(N, C, H, W) -> (N, C, H', W'), or without N, as torch.nn.functional.avg_pool2d: windows and
    errors are those of max_pool2d. With count_include_pad the zeros of the padding count as elements."""
    return _pool(ops.avg_pool2d, 2, x, kernel_size, stride, padding, count_include_pad=bool(count_include_pad))


def _pool(op: ops.Op, axes: int, x: Any, kernel_size: Any, stride: Any, padding: Any, **params: Any) -> Tensor:
    kernel = per_axis(op.name, "kernel_size", kernel_size, axes, 1)
    stride = kernel if stride is None else per_axis(op.name, "stride", stride, axes, 1)
    padding = per_axis(op.name, "padding", padding, axes, 0)
    return record(Tensor, op, (as_tensor(x),), {"kernel": kernel, "stride": stride, "padding": padding, **params})


def sum(a: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Sum over an axis, several, or all."""
    return as_tensor(a).sum(axis, keepdims)


def mean(a: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Mean over an axis, several, or all."""
    return as_tensor(a).mean(axis, keepdims)


def max(a: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Maximum over an axis, several, or all; ties share the gradient evenly."""
    return as_tensor(a).max(axis, keepdims)


def min(a: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Minimum over an axis, several, or all; ties share the gradient evenly."""
    return as_tensor(a).min(axis, keepdims)


def prod(a: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Product over an axis, several, or all; 1 for an empty axis. The gradient is right at zeros too, one or several."""
    return as_tensor(a).prod(axis, keepdims)


def var(a: Any, axis: Axis = None, ddof: float = 0, keepdims: bool = False) -> Tensor:
    """Variance over an axis, several, or all: the sum of squared distances from the mean over (the number of entries - ddof).
    torch.var has 1 there, numpy 0."""
    return as_tensor(a).var(axis, ddof, keepdims)


def std(a: Any, axis: Axis = None, ddof: float = 0, keepdims: bool = False) -> Tensor:
    """Standard deviation, the root of `var`. Where all entries are equal it has no derivative: the gradient there is 0."""
    return as_tensor(a).std(axis, ddof, keepdims)


def norm(x: Any, ord: float | str | None = None, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Norms of vectors along an axis, or of the matrices of two axes.

    ord    None: the root of the sum of squares over an axis, several, or all: the 2-norm of vectors, the Frobenius norm of
           matrices. Else, for one axis, or a tensor of one: inf or -inf, the largest or smallest magnitude; 0, how many are
           not 0 (without a gradient); p, (sum |x|^p)^(1/p). For two axes, or a tensor of two: 1 or -1, the largest or smallest
           sum of the magnitudes of a column; inf or -inf, of a row; "fro" as None
    Where a norm is 0 it has no derivative, and one of p < 1 none where an entry is 0: the gradient of those is 0, as PyTorch's,
    not infinite or nan. The sum is taken as it is: powers that over- or underflow make the norm infinite or 0. Raises
    ValueError for other norms, and for those of matrices that need singular values (2, -2, "nuc")."""
    x, axis = as_tensor(x), as_axis(axis)
    if ord is None:
        return record(Tensor, ops.norm, (x,), {"axis": axis, "keepdims": keepdims})
    axes = reduced_axes("norm", x.shape, axis)
    if len(axes) == 2 and ord == "fro":
        return record(Tensor, ops.norm, (x,), {"axis": axes, "keepdims": keepdims})
    if isinstance(ord, str) or len(axes) not in (1, 2) or (len(axes) == 2 and ord not in (1, -1, np.inf, -np.inf)):
        what = {1: "vectors: a number", 2: "matrices: 'fro', 1, -1, inf or -inf"}.get(len(axes), "one or two axes")
        raise ValueError(f"norm: expected an ord of {what}; got {ord!r} for {len(axes)} axes of shape {x.shape}")
    if len(axes) == 2:
        along, of = axes if ord in (1, -1) else axes[::-1]
        sums = abs(x).sum(along, keepdims=True)
        most = sums.max(of, keepdims=True) if ord > 0 else sums.min(of, keepdims=True)
        return most if keepdims else most.squeeze(axes)
    if ord in (np.inf, -np.inf):
        return abs(x).max(axes, keepdims) if ord > 0 else abs(x).min(axes, keepdims)
    if ord == 0:
        return where(x, Tensor(np.ones((), x.dtype)), Tensor(np.zeros((), x.dtype))).sum(axes, keepdims)
    if ord == 1:
        return abs(x).sum(axes, keepdims)
    if ord == 2:
        return record(Tensor, ops.norm, (x,), {"axis": axes, "keepdims": keepdims})
    exponents = tuple([np.array(p, x.dtype) for p in (ord, 1 / ord, ord - 1)])
    return record(Tensor, ops.norm, (x,), {"axis": axes, "keepdims": keepdims, "exponents": exponents})


def cumsum(a: Any, axis: int | None = None) -> Tensor:
    """Sums along the axis up to each entry; None is for the flattened tensor."""
    return as_tensor(a).cumsum(axis)


def cumprod(a: Any, axis: int | None = None) -> Tensor:
    """Products along the axis up to each entry; None is for the flattened tensor. The gradient is right at zeros too."""
    return as_tensor(a).cumprod(axis)


def argmax(a: Any, axis: int | None = None, keepdims: bool = False) -> Any:
    """Where the maximum is along the axis, or in the flattened tensor, the first of several: integers of numpy, which have no
    gradient. Refused where a compiled function would look at a value of its own."""
    return as_tensor(a).argmax(axis, keepdims)


def argmin(a: Any, axis: int | None = None, keepdims: bool = False) -> Any:
    """Where the minimum is along the axis, or in the flattened tensor, the first of several: as `argmax`."""
    return as_tensor(a).argmin(axis, keepdims)


def logsumexp(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """log(sum(exp(x))) over an axis, several (a tuple), or all (None), without overflow.

    keepdims leaves length 1 in the place of what is reduced. -inf for an empty axis. The gradient is the softmax of
    x; NaN where the result is infinite. float32 or float64, kept."""
    x = as_tensor(x)
    return record(Tensor, ops.logsumexp, (x,), {"axis": as_axis(axis), "keepdims": keepdims})


def reshape(a: Any, shape: int | Sequence[int]) -> Tensor:
    """Another shape of the same size; one entry may be -1. A view where numpy makes one."""
    return as_tensor(a).reshape(*_several(shape))


def transpose(a: Any, axes: Sequence[int] | None = None) -> Tensor:
    """Permuted axes; reversed by default. A view."""
    return as_tensor(a).transpose(*(() if axes is None else axes))


def swapaxes(a: Any, axis1: int, axis2: int) -> Tensor:
    """Two axes exchanged; a view."""
    return as_tensor(a).swapaxes(axis1, axis2)


def moveaxis(a: Any, source: Axes, destination: Axes) -> Tensor:
    """Axes moved from places to others, the rest in its order; a view."""
    a = as_tensor(a)
    old, new = (reduced_axes("moveaxis", a.shape, _several(v)) for v in (source, destination))
    if len(old) != len(new):
        raise ShapeError(f"moveaxis: {len(old)} axes cannot move to {len(new)} places")
    order = [i for i in range(a.ndim) if i not in old]
    for to, axis in sorted(zip(new, old, strict=True)):
        order.insert(to, axis)
    return a.transpose(order)


def expand_dims(a: Any, axis: Axes) -> Tensor:
    """With new axes of length 1, at these places of the result; a view."""
    a = as_tensor(a)
    places = _several(axis)
    new = reduced_axes("expand_dims", (1,) * (a.ndim + len(places)), places)
    return a[tuple(None if i in new else slice(None) for i in range(a.ndim + len(new)))]


def squeeze(a: Any, axis: Axis = None) -> Tensor:
    """Without the axes of length 1, or those of them that are named; a view."""
    return as_tensor(a).squeeze(axis)


def broadcast_to(array: Any, shape: int | Sequence[int]) -> Tensor:
    """Repeated along axes of length 1, and new ones in front, to the shape; a read-only view."""
    return record(Tensor, ops.broadcast_to, (as_tensor(array),), {"shape": tuple(map(as_int, _several(shape)))})


def flip(m: Any, axis: Axis = None) -> Tensor:
    """Backwards along an axis, several, or all; a view."""
    m = as_tensor(m)
    axes = reduced_axes("flip", m.shape, as_axis(axis))
    return m[tuple(slice(None, None, -1) if i in axes else slice(None) for i in range(m.ndim))]


def roll(a: Any, shift: int | Sequence[int], axis: Axis = None) -> Tensor:
    """Entries moved on by `shift` along the axis, those beyond its end to its beginning; along several axes, one by one; None
    is for the flattened tensor."""
    a = as_tensor(a)
    if axis is None:
        return roll(a.reshape(-1), shift, 0).reshape(a.shape)
    axes, shifts = _several(axis), _several(shift)
    if len(axes) != len(shifts) and 1 not in (len(axes), len(shifts)):
        raise ShapeError(f"roll: {len(shifts)} shifts do not fit {len(axes)} axes")
    count = builtins.max(len(axes), len(shifts))
    for i, by in zip(axes * (count // len(axes)), shifts * (count // len(shifts)), strict=True):
        i = normal_axis("roll", a.shape, i)
        cut = as_int(by) % (a.shape[i] or 1)
        if cut:
            whole = (slice(None),) * i
            a = concatenate([a[(*whole, slice(-cut, None))], a[(*whole, slice(None, -cut))]], i)
    return a


def split(ary: Any, indices_or_sections: int | Sequence[int], axis: int = 0) -> list[Tensor]:
    """Views of the parts along the axis: so many equal ones, or those between the given indices. Raises ShapeError where equal
    parts do not come out."""
    ary = as_tensor(ary)
    axis = normal_axis("split", ary.shape, axis)
    n = ary.shape[axis]
    if isinstance(indices_or_sections, (int, np.integer)):
        count = int(indices_or_sections)
        if count < 1 or n % count:
            raise ShapeError(f"split: axis {axis} of shape {ary.shape} does not fall into {count} equal parts")
        cuts = list(range(n // count, n, n // count)) if n else [0] * (count - 1)
    else:
        cuts = [as_int(i) for i in indices_or_sections]
    return [ary[(slice(None),) * axis + (slice(i, j),)] for i, j in zip([0, *cuts], [*cuts, n], strict=True)]


def repeat(a: Any, repeats: Any, axis: int | None = None) -> Tensor:
    """Every entry along the axis, or of the flattened tensor, as often as `repeats` says: one number, or one for each."""
    return as_tensor(a).repeat(repeats, axis)


def tile(A: Any, reps: int | Sequence[int]) -> Tensor:  # noqa: N803 (numpy's name)
    """The whole of A side by side, `reps` times along each axis; the shorter of A.shape and reps gets ones in front."""
    A = as_tensor(A)  # noqa: N806
    times = tuple(map(as_int, _several(reps)))
    times = (1,) * (A.ndim - len(times)) + times
    if builtins.min(times, default=1) < 0:
        raise ShapeError(f"tile: reps {times} has a negative number")
    shape = (1,) * (len(times) - A.ndim) + A.shape
    apart = A.reshape([n for s in shape for n in (1, s)])
    return broadcast_to(apart, [n for pair in zip(times, shape, strict=True) for n in pair]).reshape(
        [t * s for t, s in zip(times, shape, strict=True)]
    )


def pad(
    array: Any,
    pad_width: Any,
    mode: Literal["constant", "edge", "reflect", "symmetric", "wrap"] = "constant",
    constant_values: Any = 0,
) -> Tensor:
    """With more entries before and after each axis: a constant, or its own (the last; mirrored at it or with it; from the other
    end), whose gradients add up.

    pad_width         how many: a number; (before, after); or one such pair for each axis
    constant_values   numbers, in the same forms, for mode "constant" alone
    Raises ValueError for another mode, ShapeError where the widths do not fit."""
    array = as_tensor(array)
    if mode not in ("constant", "edge", "reflect", "symmetric", "wrap"):
        raise ValueError(f"pad: expected mode 'constant', 'edge', 'reflect', 'symmetric' or 'wrap', got {mode!r}")
    if isinstance(constant_values, Tensor):
        raise TypeError("pad: the constant is a number; join tensors with concatenate")
    try:
        widths = np.broadcast_to(np.asarray(pad_width), (array.ndim, 2))
        constants = np.broadcast_to(np.asarray(constant_values, array.dtype), (array.ndim, 2))
    except ValueError:
        raise ShapeError(f"pad: widths {pad_width} or constants {constant_values} do not fit shape {array.shape}") from None
    if widths.size and (widths.dtype.kind not in "iu" or widths.min() < 0):
        raise ShapeError(f"pad: expected widths that are integers of at least 0, got {pad_width}")
    for axis, (width, constant) in enumerate(zip(widths.tolist(), constants, strict=True)):
        if not any(width):
            continue
        if mode != "constant":
            if not array.shape[axis]:
                raise ShapeError(f"pad: axis {axis} of shape {array.shape} is empty: mode {mode!r} has nothing to repeat")
            array = array.take(np.pad(np.arange(array.shape[axis]), width, mode), axis)
            continue
        shapes = [(*array.shape[:axis], n, *array.shape[axis + 1 :]) for n in width]
        before, after = (Tensor(np.broadcast_to(c, s)) for c, s in zip(constant, shapes, strict=True))
        array = concatenate([before, array, after], axis)
    return array


def tril(m: Any, k: int = 0) -> Tensor:
    """The lower triangle of the last two axes, 0 above the k-th diagonal; one axis is the row of a square."""
    return _triangle("tril", m, k, False)


def triu(m: Any, k: int = 0) -> Tensor:
    """The upper triangle of the last two axes, 0 below the k-th diagonal; one axis is the row of a square."""
    return _triangle("triu", m, as_int(k) - 1, True)


def _triangle(name: str, m: Any, k: int, upper: bool) -> Tensor:
    m = as_tensor(m)
    if m.ndim == 0:
        raise ShapeError(f"{name}: expected at least one axis, got a tensor of one number")
    if m.ndim == 1:
        m = broadcast_to(m, (m.size, m.size))
    lower = np.tri(m.shape[-2], m.shape[-1], as_int(k), dtype=m.dtype)
    return record(Tensor, ops.keep, (m,), {"mask": 1 - lower if upper else lower})


def diagonal(a: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Tensor:
    """The diagonals over two axes, which go last; a view."""
    return as_tensor(a).diagonal(offset, axis1, axis2)


def trace(a: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Tensor:
    """The sums of the diagonals over two axes."""
    return as_tensor(a).trace(offset, axis1, axis2)


def take(a: Any, indices: Any, axis: int | None = None) -> Tensor:
    """The entries at integer indices (...) along the axis, or of the flattened tensor; repeated ones add up in the gradient.
    Negative ones count from the end; raises IndexError outside."""
    return as_tensor(a).take(indices, axis)


def _several(x: Any) -> tuple:
    """One number, or a sequence of them, as a tuple."""
    return tuple(x) if isinstance(x, (tuple, list, np.ndarray)) and np.ndim(x) else (x,)


def concatenate(arrays: Sequence[Any], axis: int | None = 0) -> Tensor:
    """Tensors joined along an existing axis; flattened first where it is None."""
    tensors = _tensors("concatenate", arrays)
    if axis is None:
        tensors, axis = tuple(t.reshape(-1) for t in tensors), 0
    return record(Tensor, ops.concatenate, tensors, {"axis": normal_axis("concatenate", tensors[0].shape, axis)})


def stack(arrays: Sequence[Any], axis: int = 0) -> Tensor:
    """Tensors of one shape joined along a new axis."""
    tensors = _tensors("stack", arrays)
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


def layer_norm(
    x: Any, normalized_shape: int | Sequence[int], weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    """(x - mean) / sqrt(variance + eps) weight + bias, mean and variance over the last axes of x, those of normalized_shape
    (Ba, Kiros & Hinton 2016, as PyTorch), in one node and one kernel.

    x(..., *normalized_shape), weight and bias (*normalized_shape) -> the shape of x; the variance is the mean of squares, not
    unbiased. Raises ShapeError where shapes do not fit, TypeError for mixed dtypes."""
    shape = (normalized_shape,) if isinstance(normalized_shape, (int, np.integer)) else normalized_shape
    return record(
        Tensor,
        ops.layer_norm,
        _with_affine(x, weight, bias),
        {"shape": tuple(map(int, shape)), "eps": float(eps), "weighted": weight is not None},
    )


def batch_norm(
    x: Any,
    running_mean: np.ndarray | None = None,
    running_var: np.ndarray | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float | None = 0.1,
    eps: float = 1e-5,
    *,
    num_batches_tracked: np.ndarray | None = None,
) -> Tensor:
    """(x - mean) / sqrt(variance + eps) weight + bias, for each channel of x(N, C, ...) on its own (Ioffe & Szegedy 2015, as
    PyTorch).

    training             mean and variance are those of the batch, and where running_mean and running_var (C,) are given, these
                         become (1 - momentum) running + momentum (mean, or unbiased variance), in place; otherwise they are the
                         mean and the variance. Without them, those of the batch are taken in any case
    momentum             None means 1 / num_batches_tracked: the mean over all batches
    num_batches_tracked  int64 (), which training adds 1 to

    Raises ShapeError (a ValueError) where shapes do not fit and for a single value per channel when training, TypeError for
    mixed dtypes."""
    if (running_mean is None) != (running_var is None):
        raise TypeError("batch_norm: give both running_mean and running_var, or neither")
    if momentum is None and num_batches_tracked is None and training:
        raise TypeError("batch_norm: momentum None needs num_batches_tracked")
    running = None if running_mean is None or running_var is None else (running_mean, running_var)
    params = {
        "weighted": weight is not None,
        "running": running,
        "batches": num_batches_tracked,
        "of_batch": bool(training) or running is None,
        "momentum": -1.0 if momentum is None else float(momentum),
        "eps": float(eps),
    }
    return record(Tensor, ops.batch_norm, _with_affine(x, weight, bias), params)


def _with_affine(x: Any, weight: Tensor | None, bias: Tensor | None) -> tuple[Tensor, ...]:
    return tuple([as_tensor(v) for v in (x, weight, bias) if v is not None])


def cross_entropy(x: Any, target: Any, reduction: Reduction = "mean", *, ignore_index: int = -100) -> Tensor:
    """-log softmax(x)[target] in nats, with PyTorch's shapes.

    x             logits (N, classes), (N, classes, ...) or (classes,)
    target        integers (N,), (N, ...) or (), each in 0..classes - 1 or ignore_index
    reduction     "mean" over the targets that are not ignored (nan where none is left), "sum", or "none"
    ignore_index  targets of this value count nothing: their loss and gradient are 0
    """
    return record(Tensor, ops.cross_entropy, (as_tensor(x),), _of_classes("cross_entropy", target, reduction, ignore_index))


def nll_loss(x: Any, target: Any, reduction: Reduction = "mean", *, ignore_index: int = -100) -> Tensor:
    """-x[target], x being log-probabilities; all else as in cross_entropy, which is nll_loss(log_softmax(x, 1), target)."""
    return record(Tensor, ops.nll_loss, (as_tensor(x),), _of_classes("nll_loss", target, reduction, ignore_index))


def _of_classes(name: str, target: Any, reduction: str, ignore_index: int) -> dict[str, Any]:
    return {"target": _integers(name, target), "reduction": reduction, "ignore_index": as_int(ignore_index)}


def mse_loss(x: Any, target: Any, reduction: Reduction = "mean") -> Tensor:
    """(x - target)^2 for equal shapes; "mean" over all entries, "sum", or "none"."""
    return record(Tensor, ops.mse_loss, _pair(x, target), {"reduction": reduction})


def l1_loss(x: Any, target: Any, reduction: Reduction = "mean") -> Tensor:
    """|x - target| for equal shapes; the derivative at 0 is 0; "mean" over all entries, "sum", or "none"."""
    return record(Tensor, ops.l1_loss, _pair(x, target), {"reduction": reduction})


def huber_loss(x: Any, target: Any, reduction: Reduction = "mean", delta: float = 1.0) -> Tensor:
    """d^2 / 2 where |d| <= delta, else delta (|d| - delta / 2), with d = x - target, for equal shapes; "mean" over all entries,
    "sum", or "none". Raises ValueError unless delta > 0."""
    if not delta > 0:
        raise ValueError(f"huber_loss: expected delta > 0, got {delta}")
    return record(Tensor, ops.huber_loss, _pair(x, target), {"reduction": reduction, "delta": float(delta)})


def smooth_l1_loss(x: Any, target: Any, reduction: Reduction = "mean", beta: float = 1.0) -> Tensor:
    """huber_loss with delta = beta, over beta; l1_loss where beta is 0. Raises ValueError unless beta >= 0."""
    if not beta >= 0:
        raise ValueError(f"smooth_l1_loss: expected beta >= 0, got {beta}")
    return record(Tensor, ops.smooth_l1_loss, _pair(x, target), {"reduction": reduction, "beta": float(beta)})


def binary_cross_entropy_with_logits(x: Any, target: Any, reduction: Reduction = "mean") -> Tensor:
    """-target log(sigmoid(x)) - (1 - target) log(sigmoid(-x)) for equal shapes, without overflow or cancellation for targets in
    0..1; "mean" over all entries, "sum", or "none". Its derivative by x, sigmoid(x) - target, is right in saturation."""
    return record(Tensor, ops.binary_cross_entropy_with_logits, _pair(x, target), {"reduction": reduction})


def embedding(weight: Tensor, index: Any) -> Tensor:
    """Rows of weight(V, D): index(...) of integers in 0..V - 1 -> (..., D)"""
    return record(Tensor, ops.embedding, (as_tensor(weight),), {"index": _integers("embedding", index)})


def _integers(name: str, x: Any) -> np.ndarray:
    refuse_masked(name, x)
    array = np.asarray(x)
    if array.dtype.kind not in "iu" and array.size:
        raise TypeError(f"{name}: expected integers, got {array.dtype}")
    return current_backend().integers(array)  # a copy: the backward pass needs what the forward pass saw


def _booleans(name: str, x: Any) -> np.ndarray:
    if isinstance(x, Tensor):
        return current_backend().nonzero(x.value)
    refuse_masked(name, x)
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
    "argmax",
    "argmin",
    "avg_pool1d",
    "avg_pool2d",
    "batch_norm",
    "binary_cross_entropy_with_logits",
    "broadcast_to",
    "ceil",
    "clip",
    "concatenate",
    "conv1d",
    "conv2d",
    "cos",
    "cosh",
    "cross_entropy",
    "cumprod",
    "cumsum",
    "diagonal",
    "div",
    "dot",
    "dropout",
    "einsum",
    "elu",
    "embedding",
    "erf",
    "exp",
    "exp2",
    "expand_dims",
    "expm1",
    "flip",
    "floor",
    "gelu",
    "hardtanh",
    "huber_loss",
    "hypot",
    "inner",
    "l1_loss",
    "layer_norm",
    "leaky_relu",
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
    "max_pool1d",
    "max_pool2d",
    "maximum",
    "mean",
    "min",
    "minimum",
    "moveaxis",
    "mse_loss",
    "mul",
    "neg",
    "nll_loss",
    "norm",
    "outer",
    "pad",
    "pow",
    "prod",
    "reciprocal",
    "relu",
    "repeat",
    "reshape",
    "rnn_cell",
    "roll",
    "rsqrt",
    "select_steps",
    "sigmoid",
    "sign",
    "silu",
    "sin",
    "sinh",
    "smooth_l1_loss",
    "softmax",
    "softplus",
    "softsign",
    "split",
    "sqrt",
    "square",
    "squeeze",
    "stack",
    "std",
    "sub",
    "sum",
    "swapaxes",
    "take",
    "tan",
    "tanh",
    "tensordot",
    "tile",
    "transpose",
    "tril",
    "triu",
    "var",
    "where",
]

NUMPY_FUNCTIONS |= {
    getattr(np, name): globals()[name] for name in __all__ if hasattr(np, name) and not isinstance(getattr(np, name), np.ufunc)
}
NUMPY_FUNCTIONS |= {np.linalg.norm: norm, np.trace: trace}  # tr.trace is another thing: trace is a method only
