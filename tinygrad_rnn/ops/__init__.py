"""Every op, each defined in one place: its shape rule, forward and vjp.

To add one: write the two rules beside their family, bind an `Op` there, list it in TABLE, give it a function in
`functions.py` and a case in `tests/op_cases.py` (a test fails while any of them is missing).
"""

from .cells import addcmul, lerp, lstm_gates, lstm_state, rnn_cell
from .conv import avg_pool1d, avg_pool2d, conv1d, conv2d, max_pool1d, max_pool2d
from .elementary import (
    abs,
    arccos,
    arccosh,
    arcsin,
    arcsinh,
    arctan,
    arctanh,
    ceil,
    cos,
    cosh,
    exp2,
    expm1,
    floor,
    log1p,
    log2,
    log10,
    logsigmoid,
    reciprocal,
    rsqrt,
    sign,
    sin,
    sinh,
    softsign,
    square,
    tan,
)
from .lengths import mask_steps, select_steps
from .linear import linear, matmul
from .loss import (
    binary_cross_entropy_with_logits,
    cross_entropy,
    huber_loss,
    l1_loss,
    mse_loss,
    nll_loss,
    smooth_l1_loss,
)
from .norm import batch_norm, layer_norm, log_softmax, softmax
from .op import Op, ShapeError
from .pointwise import (
    add,
    arctan2,
    clip,
    div,
    dropout,
    elu,
    erf,
    exp,
    gelu,
    hardtanh,
    hypot,
    leaky_relu,
    log,
    logaddexp,
    maximum,
    minimum,
    mul,
    neg,
    pow,
    relu,
    sigmoid,
    silu,
    softplus,
    sqrt,
    sub,
    tanh,
    where,
)
from .reduce import cumprod, cumsum, logsumexp, max, mean, min, norm, prod, std, sum, var
from .shape import broadcast_to, concatenate, diagonal, embedding, index, keep, reshape, stack, take, transpose

TABLE: dict[str, Op] = {
    op.name: op
    for op in (
        *(add, sub, mul, div, neg, pow, exp, log, sqrt, tanh, sigmoid, relu, dropout),
        *(abs, square, reciprocal, rsqrt, sign, floor, ceil, exp2, expm1, log1p, log2, log10, logsigmoid, softsign),
        *(sin, cos, tan, arcsin, arccos, arctan, sinh, cosh, arcsinh, arccosh, arctanh),
        *(maximum, minimum, logaddexp, arctan2, hypot, where, clip),
        *(erf, leaky_relu, elu, gelu, silu, softplus, hardtanh),
        *(matmul, linear),
        *(rnn_cell, lstm_gates, lstm_state, addcmul, lerp),
        *(select_steps, mask_steps),
        *(conv1d, conv2d, max_pool1d, max_pool2d, avg_pool1d, avg_pool2d),
        *(sum, mean, max, min, prod, logsumexp, var, std, norm, cumsum, cumprod),
        *(reshape, transpose, index, broadcast_to, diagonal, keep, take, embedding, concatenate, stack),
        *(softmax, log_softmax, layer_norm, batch_norm),
        *(cross_entropy, nll_loss, mse_loss, l1_loss, huber_loss, smooth_l1_loss, binary_cross_entropy_with_logits),
    )
}

__all__ = ["TABLE", "Op", "ShapeError", *TABLE]
