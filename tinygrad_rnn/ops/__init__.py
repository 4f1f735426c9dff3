"""Every op, each defined in one place: its shape rule, forward and vjp.

To add one: write the two rules beside their family, bind an `Op` there, list it in TABLE, give it a function in
`functions.py` and a case in `tests/op_cases.py` (a test fails while any of them is missing).
"""

from .cells import addcmul, lerp, lstm_gates, lstm_state, rnn_cell
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
from .loss import cross_entropy, mse_loss
from .norm import log_softmax, softmax
from .op import Op, ShapeError
from .pointwise import (
    add,
    arctan2,
    clip,
    div,
    dropout,
    exp,
    hypot,
    log,
    logaddexp,
    maximum,
    minimum,
    mul,
    neg,
    pow,
    relu,
    sigmoid,
    sqrt,
    sub,
    tanh,
    where,
)
from .reduce import logsumexp, max, mean, sum
from .shape import concatenate, embedding, index, reshape, stack, take, transpose

TABLE: dict[str, Op] = {
    op.name: op
    for op in (
        *(add, sub, mul, div, neg, pow, exp, log, sqrt, tanh, sigmoid, relu, dropout),
        *(abs, square, reciprocal, rsqrt, sign, floor, ceil, exp2, expm1, log1p, log2, log10, logsigmoid, softsign),
        *(sin, cos, tan, arcsin, arccos, arctan, sinh, cosh, arcsinh, arccosh, arctanh),
        *(maximum, minimum, logaddexp, arctan2, hypot, where, clip),
        *(matmul, linear),
        *(rnn_cell, lstm_gates, lstm_state, addcmul, lerp),
        *(select_steps, mask_steps),
        *(sum, mean, max, logsumexp),
        *(reshape, transpose, index, take, embedding, concatenate, stack),
        *(softmax, log_softmax),
        *(cross_entropy, mse_loss),
    )
}

__all__ = ["TABLE", "Op", "ShapeError", *TABLE]
