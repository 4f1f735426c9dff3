"""Every op, each defined in one place: its shape rule, forward and vjp.

To add one: write the two rules beside their family, bind an `Op` there, list it in TABLE, give it a function in
`functions.py` and a case in `tests/op_cases.py` (a test fails while any of them is missing).
"""

from .cells import addcmul, lerp, lstm_gates, lstm_state, rnn_cell
from .lengths import mask_steps, select_steps
from .linear import linear, matmul
from .loss import cross_entropy, mse_loss
from .norm import log_softmax, softmax
from .op import Op, ShapeError
from .pointwise import add, div, dropout, exp, log, mul, neg, pow, relu, sigmoid, sqrt, sub, tanh
from .reduce import cumprod, cumsum, logsumexp, max, mean, min, norm, prod, std, sum, var
from .shape import broadcast_to, concatenate, diagonal, embedding, index, keep, reshape, stack, take, transpose

TABLE: dict[str, Op] = {
    op.name: op
    for op in (
        *(add, sub, mul, div, neg, pow, exp, log, sqrt, tanh, sigmoid, relu, dropout),
        *(matmul, linear),
        *(rnn_cell, lstm_gates, lstm_state, addcmul, lerp),
        *(select_steps, mask_steps),
        *(sum, mean, max, min, prod, logsumexp, var, std, norm, cumsum, cumprod),
        *(reshape, transpose, index, broadcast_to, diagonal, keep, take, embedding, concatenate, stack),
        *(softmax, log_softmax),
        *(cross_entropy, mse_loss),
    )
}

__all__ = ["TABLE", "Op", "ShapeError", *TABLE]
