"""Reductions over one axis, several, or all (axis None)."""

from functools import partial
from math import prod

from .op import Op, ShapeError, reduced_axes, reduced_shape


def _expand(k, g, x_shape, axis):
    """g of a reduction, repeated along the reduced axes."""
    return k.broadcast_to(k.reshape(g, reduced_shape("sum", x_shape, axis, True)), x_shape)


def _sum_forward(k, x, axis=None, keepdims=False):
    return k.sum(x, axis, keepdims), (x.shape,)


def _sum_vjp(k, g, x_shape, needs, axis=None, keepdims=False):
    return (_expand(k, g, x_shape, axis),)


def _mean_forward(k, x, axis=None, keepdims=False):
    count = prod(x.shape[i] for i in reduced_axes("mean", x.shape, axis))
    # numpy's answer for the mean of nothing is nan
    return k.scale(k.sum(x, axis, keepdims), 1 / count if count else float("nan")), (x.shape, count)


def _mean_vjp(k, g, x_shape, count, needs, axis=None, keepdims=False):
    return (_expand(k, k.scale(g, 1 / count if count else float("nan")), x_shape, axis),)


def _max_shape(x, axis=None, keepdims=False):
    if 0 in [x[i] for i in reduced_axes("max", x, axis)]:
        raise ShapeError(f"max: the maximum of an empty axis does not exist; shape {x}, axis {axis}")
    return reduced_shape("max", x, axis, keepdims)


def _max_forward(k, x, axis=None, keepdims=False):
    y = k.max(x, axis, keepdims)
    return y, (x, y)


def _max_vjp(k, g, x, y, needs, axis=None, keepdims=False):
    # entries that tie for the maximum share the cotangent evenly
    kept = reduced_shape("max", x.shape, axis, True)
    ties = k.equal(x, k.reshape(y, kept))
    return (k.mul(ties, k.div(k.reshape(g, kept), k.sum(ties, axis, True))),)


def _logsumexp_forward(k, x, axis=None, keepdims=False):
    y = k.logsumexp(x, axis, keepdims)
    return y, (x, y)


def _logsumexp_vjp(k, g, x, y, needs, axis=None, keepdims=False):
    # y = log(sum(exp(x))): dy/dx = exp(x - y), the softmax
    kept = reduced_shape("logsumexp", x.shape, axis, True)
    return (k.mul(k.exp(k.sub(x, k.reshape(y, kept))), k.reshape(g, kept)),)


def _reduced(name, x, axis=None, keepdims=False):
    return reduced_shape(name, x, axis, keepdims)


sum = Op("sum", partial(_reduced, "sum"), _sum_forward, _sum_vjp)
mean = Op("mean", partial(_reduced, "mean"), _mean_forward, _mean_vjp)
max = Op("max", _max_shape, _max_forward, _max_vjp)
logsumexp = Op("logsumexp", partial(_reduced, "logsumexp"), _logsumexp_forward, _logsumexp_vjp)
