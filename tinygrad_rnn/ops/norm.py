"""Normalisations along an axis."""

from functools import partial

from .op import Op, normal_axis


def _shape(name, x, axis):
    normal_axis(name, x, axis)
    return x


def _softmax_forward(k, x, axis):
    y = k.softmax(x, axis)
    return y, (y,)


def _softmax_vjp(k, g, y, needs, axis):
    # dy_i/dx_j = y_i (delta_ij - y_j)
    return (k.mul(y, k.sub(g, k.sum(k.mul(g, y), axis, True))),)


def _log_softmax_forward(k, x, axis):
    y = k.log_softmax(x, axis)
    return y, (y,)


def _log_softmax_vjp(k, g, y, needs, axis):
    # dy_i/dx_j = delta_ij - exp(y_j)
    return (k.sub(g, k.mul(k.exp(y), k.sum(g, axis, True))),)


softmax = Op("softmax", partial(_shape, "softmax"), _softmax_forward, _softmax_vjp)
log_softmax = Op("log_softmax", partial(_shape, "log_softmax"), _log_softmax_forward, _log_softmax_vjp)
