"""Convolution and pooling over the last one or two axes, with PyTorch's shapes: (N, C, L) or (C, L), (N, C, H, W) or (C, H, W).
All of it is two-dimensional inside; a sequence is an image of height 1."""

from functools import partial
from operator import index

from .op import Op, ShapeError


def per_axis(name, what, value, axes, least):
    """An integer, or a sequence of one for each axis, as a tuple; raises ValueError for others and below `least`."""
    try:
        out = tuple(index(v) for v in (value if isinstance(value, (tuple, list)) else (value,) * axes))
    except TypeError:
        out = ()
    if len(out) != axes or min(out) < least:
        number = "an integer" if axes == 1 else f"one integer or {axes}"
        raise ValueError(f"{name}: {what} must be {number}, {least} or more, got {value!r}")
    return out


def per_side(name, padding, kernel, stride, dilation):
    """The zeros before and behind each axis: padding is an integer, one for each axis, "valid" for none or, with stride 1,
    "same" for an output as long as the input; of an odd number of zeros, as in PyTorch, the larger half lies behind."""
    if padding == "valid":
        padding = 0
    if padding != "same":
        if isinstance(padding, str):
            raise ValueError(f"{name}: unknown padding {padding!r}; expected integers, 'valid' or 'same'")
        return tuple((p, p) for p in per_axis(name, "padding", padding, len(kernel), 0))
    if any(s != 1 for s in stride):
        raise ValueError(f"{name}: padding 'same' is for stride 1, got {stride}")
    total = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
    return tuple((t // 2, t - t // 2) for t in total)


# ---- what is two-dimensional inside: _flat, a shape as (N, C, H, W), and _pairs, settings as pairs

_LAYOUTS = {1: "(N, C, L) or (C, L)", 2: "(N, C, H, W) or (C, H, W)"}


def _flat(shape, axes):
    batch, channels, size = shape[: -axes - 1] or (1,), shape[-axes - 1], shape[-axes:]
    return (*batch, channels, *(1,) * (2 - axes), *size)


def _pairs(setting, neutral):
    return (neutral,) * (2 - len(setting)) + setting


def _spatial(name, axes, x, kernel, stride, padding, dilation):
    """The sizes of the output of windows over the last axes of x, after checking x."""
    if len(x) not in (axes + 1, axes + 2):
        raise ShapeError(f"{name}: input {x} does not fit; expected {_LAYOUTS[axes]}")
    out = []
    for length, k, s, sides, d in zip(x[-axes:], kernel, stride, padding, dilation, strict=True):
        room = length + sum(sides) - d * (k - 1) - 1
        if length < 1 or k < 1 or room < 0:
            spread = f" {k} wide" if d == 1 else f" {k} wide with dilation {d}"
            raise ShapeError(
                f"{name}: a window{spread} does not fit an axis of {length} with padding {sides} in input {x}; expected 1 to "
                f"{length + sum(sides)} elements"
            )
        out.append(room // s + 1)
    return tuple(out)


# ---- convolution


def _conv_shape(axes, x, w, b=None, *, stride, padding, dilation, groups):
    name = f"conv{axes}d"
    if len(w) != axes + 2:
        raise ShapeError(f"{name}: weight {w} does not fit; expected (O, C / groups, {'K' if axes == 1 else 'KH, KW'})")
    if len(x) in (axes + 1, axes + 2) and x[-axes - 1] != w[1] * groups:
        raise ShapeError(f"{name}: input {x} does not fit weight {w} with groups={groups}; expected {w[1] * groups} channels")
    if w[0] % groups:
        raise ShapeError(f"{name}: weight {w} does not fit groups={groups}; expected a multiple of {groups} output channels")
    if b is not None and b != w[:1]:
        raise ShapeError(f"{name}: bias {b} does not fit weight {w}; expected {w[:1]}")
    return (*x[: -axes - 1], w[0], *_spatial(name, axes, x, w[2:], stride, padding, dilation))


def _conv_settings(stride, padding, dilation, groups):
    return _pairs(stride, 1), _pairs(padding, (0, 0)), _pairs(dilation, 1), groups


def _conv_forward(axes, k, x, w, b=None, **settings):
    shape = _conv_shape(axes, x.shape, w.shape, None if b is None else b.shape, **settings)
    flat_x, flat_w = k.reshape(x, _flat(x.shape, axes)), k.reshape(w, _flat(w.shape, axes))
    y = k.conv2d(flat_x, flat_w, b, *_conv_settings(**settings))
    return k.reshape(y, shape), (flat_x, flat_w, x.shape, w.shape)


def _conv_vjp(axes, k, g, flat_x, flat_w, x_shape, w_shape, needs, **settings):
    # y = x * w + b: gx = g spread back over the windows through w, gw = the windows weighted with g, gb = the sum of g
    g = k.reshape(g, _flat(g.shape, axes))
    gx, gw, *gb = k.conv2d_vjp(g, flat_x, flat_w, needs, *_conv_settings(**settings))
    return (k.reshape(gx, x_shape) if needs[0] else None, k.reshape(gw, w_shape) if needs[1] else None, *gb)


def _conv(axes):
    rules = (partial(rule, axes) for rule in (_conv_shape, _conv_forward, _conv_vjp))
    return Op(f"conv{axes}d", *rules, kind="weights")


conv1d, conv2d = _conv(1), _conv(2)


# ---- pooling


def _pool_shape(name, axes, x, kernel, stride, padding, **params):
    for k, p in zip(kernel, padding, strict=True):
        if 2 * p > k:
            raise ShapeError(f"{name}: padding {padding} does not fit windows {kernel}; expected at most half of them")
    if 0 in x[-axes - 1 :]:
        raise ShapeError(f"{name}: input {x} does not fit; expected {_LAYOUTS[axes]} of which only N may be 0")
    out = _spatial(name, axes, x, kernel, stride, [(p, p) for p in padding], (1,) * axes)
    return (*x[:-axes], *out)


def _pool_settings(kernel, stride, padding, **params):
    return _pairs(kernel, 1), _pairs(stride, 1), _pairs(padding, 0), *params.values()


def _max_pool_forward(name, axes, k, x, **params):
    shape = _pool_shape(name, axes, x.shape, **params)
    flat = k.reshape(x, _flat(x.shape, axes))
    return k.reshape(k.max_pool2d(flat, *_pool_settings(**params)), shape), (flat, x.shape)


def _max_pool_vjp(axes, k, g, flat, x_shape, needs, **params):
    return (k.reshape(k.max_pool2d_vjp(k.reshape(g, _flat(g.shape, axes)), flat, *_pool_settings(**params)), x_shape),)


def _avg_pool_forward(name, axes, k, x, **params):
    shape = _pool_shape(name, axes, x.shape, **params)
    return k.reshape(k.avg_pool2d(k.reshape(x, _flat(x.shape, axes)), *_pool_settings(**params)), shape), (x.shape,)


def _avg_pool_vjp(axes, k, g, x_shape, needs, **params):
    flat = k.reshape(g, _flat(g.shape, axes))
    return (k.reshape(k.avg_pool2d_vjp(flat, _flat(x_shape, axes), *_pool_settings(**params)), x_shape),)


def _pool(kind, axes, forward, vjp):
    name = f"{kind}_pool{axes}d"
    return Op(name, partial(_pool_shape, name, axes), partial(forward, name, axes), partial(vjp, axes))


max_pool1d, max_pool2d = (_pool("max", axes, _max_pool_forward, _max_pool_vjp) for axes in (1, 2))
avg_pool1d, avg_pool2d = (_pool("avg", axes, _avg_pool_forward, _avg_pool_vjp) for axes in (1, 2))
