"""Normalisations: along an axis, over the last axes, and over the batch."""

from functools import partial
from math import prod

from .op import Op, ShapeError, as_rows, from_rows, normal_axis
from .pointwise import add, div, mul, sqrt, sub
from .reduce import mean


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


# ---- by mean and variance, then times a weight and plus a bias, each of which may be missing


def _operands(inputs, weighted):
    """(x, weight, bias) of the inputs, None for what is not there."""
    x, *rest = inputs
    weight = rest.pop(0) if weighted else None
    return x, weight, rest[0] if rest else None


def _given(cotangents, needs, weighted):
    """Those of (gx, gw, gb) that belong to the inputs."""
    gx, gw, gb = cotangents
    return (gx, gw, gb)[: len(needs)] if weighted else (gx, gb)[: len(needs)]


def _check_affine(name, expected, **given):
    for what, shape in given.items():
        if shape is not None and shape != expected:
            raise ShapeError(f"{name}: {what} {shape} does not fit; expected {expected}")


def _normalised(apply, x, axes, eps):
    difference = apply(sub, x, apply(mean, x, axis=axes, keepdims=True))
    variance = apply(mean, apply(mul, difference, difference), axis=axes, keepdims=True)
    return apply(div, difference, apply(sqrt, apply(add, variance, eps)))


def _affine(apply, z, weight, bias):
    z = z if weight is None else apply(mul, z, weight)
    return z if bias is None else apply(add, z, bias)


# of the last axes


def _layer_norm_shape(*shapes, shape, eps, weighted):
    x, weight, bias = _operands(shapes, weighted)
    if not shape or x[-len(shape) :] != shape:
        raise ShapeError(f"layer_norm: the last axes of input {x} are not the normalized shape {shape}")
    _check_affine("layer_norm", shape, weight=weight, bias=bias)
    return x


def _layer_norm_forward(k, *inputs, shape, eps, weighted):
    _layer_norm_shape(*[v.shape for v in inputs], shape=shape, eps=eps, weighted=weighted)
    x, weight, bias = _operands(inputs, weighted)
    size = prod(shape)
    rows = k.reshape(x, (prod(x.shape[: -len(shape)]), size))
    weight, bias = (None if v is None else k.reshape(v, (size,)) for v in (weight, bias))
    y, average, rstd = k.layer_norm(rows, weight, bias, eps)
    return k.reshape(y, x.shape), (rows, average, rstd, weight, x.shape)


def _layer_norm_vjp(k, g, rows, average, rstd, weight, x_shape, needs, shape, eps, weighted):
    wanted = tuple(map(bool, _operands(needs, weighted)))
    gx, gw, gb = k.layer_norm_vjp(k.reshape(g, rows.shape), rows, average, rstd, weight, wanted)
    gx = None if gx is None else k.reshape(gx, x_shape)
    gw, gb = (None if v is None else k.reshape(v, shape) for v in (gw, gb))
    return _given((gx, gw, gb), needs, weighted)


def _layer_norm_composed(apply, *inputs, shape, eps, weighted):
    x, weight, bias = _operands(inputs, weighted)
    axes = tuple(range(x.value.ndim - len(shape), x.value.ndim))
    return _affine(apply, _normalised(apply, x, axes, eps), weight, bias)


layer_norm = Op("layer_norm", _layer_norm_shape, _layer_norm_forward, _layer_norm_vjp, composed=_layer_norm_composed)


# of the batch: for each channel, over all else. running is None or (mean, variance), each (channels,), batches None or int64 ()


def _check_batch_norm(x, weight, bias, running, of_batch):
    if len(x) < 2:
        raise ShapeError(f"batch_norm: expected an input (N, channels, ...), got {x}")
    average, variance = (None, None) if running is None else (v.shape for v in running)
    _check_affine("batch_norm", x[1:2], weight=weight, bias=bias, running_mean=average, running_var=variance)
    if of_batch and prod(x[:1] + x[2:]) < 2:
        raise ShapeError(f"batch_norm: expected more than 1 value per channel when training, got an input {x}")


def _batch_norm_shape(*shapes, weighted, running, batches, of_batch, momentum, eps):
    _check_batch_norm(*_operands(shapes, weighted), running, of_batch)
    return shapes[0]


def _batch_norm_forward(k, *inputs, weighted, running, batches, of_batch, momentum, eps):
    x, weight, bias = _operands(inputs, weighted)
    _check_batch_norm(*(None if v is None else v.shape for v in (x, weight, bias)), running, of_batch)
    rows, last_shape = as_rows(k, x)
    if of_batch:
        average, variance = k.moments(rows)
        if running is not None:
            k.track_moments(*running, batches, average, variance, len(rows), momentum)
    else:
        average, variance = (k.copy(v) for v in running)  # as they are now, for the way back
    y = k.batch_norm(rows, average, variance, weight, bias, eps)
    return from_rows(k, y, last_shape), (rows, average, variance, weight, last_shape)


def _batch_norm_vjp(
    k, g, rows, average, variance, weight, last_shape, needs, weighted, running, batches, of_batch, momentum, eps
):
    wanted = tuple(map(bool, _operands(needs, weighted)))
    g_rows, _ = as_rows(k, g)
    gx, gw, gb = k.batch_norm_vjp(g_rows, rows, average, variance, weight, eps, of_batch, wanted)
    return _given((None if gx is None else from_rows(k, gx, last_shape), gw, gb), needs, weighted)


batch_norm = Op("batch_norm", _batch_norm_shape, _batch_norm_forward, _batch_norm_vjp)
