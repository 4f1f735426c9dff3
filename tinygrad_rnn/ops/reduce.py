"""Reductions over one axis, several, or all (axis None), and what is accumulated along one axis."""

from functools import partial
from math import inf, nan
from math import prod as product

from .op import Op, ShapeError, normal_axis, reduced_axes, reduced_shape


def _expand(k, g, x_shape, axis):
    """g of a reduction, repeated along the reduced axes."""
    return k.broadcast_to(k.reshape(g, reduced_shape("sum", x_shape, axis, True)), x_shape)


def _sum_forward(k, x, axis=None, keepdims=False):
    return k.sum(x, axis, keepdims), (x.shape,)


def _sum_vjp(k, g, x_shape, needs, axis=None, keepdims=False):
    return (_expand(k, g, x_shape, axis),)


def _count(name, shape, axis):
    """How many entries of an array of this shape are reduced to one."""
    return product(shape[i] for i in reduced_axes(name, shape, axis))


def _mean_forward(k, x, axis=None, keepdims=False):
    count = _count("mean", x.shape, axis)
    # numpy's answer for the mean of nothing is nan
    return k.scale(k.sum(x, axis, keepdims), 1 / count if count else nan), (x.shape, count)


def _mean_vjp(k, g, x_shape, count, needs, axis=None, keepdims=False):
    return (_expand(k, k.scale(g, 1 / count if count else nan), x_shape, axis),)


def _extremum_shape(name, x, axis=None, keepdims=False):
    if 0 in [x[i] for i in reduced_axes(name, x, axis)]:
        raise ShapeError(f"{name}: the {name}imum of an empty axis does not exist; shape {x}, axis {axis}")
    return reduced_shape(name, x, axis, keepdims)


def _extremum_forward(name, k, x, axis=None, keepdims=False):
    y = getattr(k, name)(x, axis, keepdims)
    return y, (x, y)


def _extremum_vjp(k, g, x, y, needs, axis=None, keepdims=False):
    # entries that tie for the maximum, or minimum, share the cotangent evenly
    kept = reduced_shape("max", x.shape, axis, True)
    ties = k.equal(x, k.reshape(y, kept))
    return (k.mul(ties, k.div(k.reshape(g, kept), k.sum(ties, axis, True))),)


def _logsumexp_forward(k, x, axis=None, keepdims=False):
    y = k.logsumexp(x, axis, keepdims)
    return y, (x, y)


def _logsumexp_vjp(k, g, x, y, needs, axis=None, keepdims=False):
    # y = log(sum(exp(x))): dy/dx = exp(x - y), the softmax; over its sum, which is not 1 where a large y was rounded
    kept = reduced_shape("logsumexp", x.shape, axis, True)
    softmax = k.exp(k.sub(x, k.reshape(y, kept)))
    return (k.mul(softmax, k.div(k.reshape(g, kept), k.sum(softmax, axis, True))),)


def _reduced(name, x, axis=None, keepdims=False, **params):
    return reduced_shape(name, x, axis, keepdims)


sum = Op("sum", partial(_reduced, "sum"), _sum_forward, _sum_vjp)
mean = Op("mean", partial(_reduced, "mean"), _mean_forward, _mean_vjp)
max = Op("max", partial(_extremum_shape, "max"), partial(_extremum_forward, "max"), _extremum_vjp)
min = Op("min", partial(_extremum_shape, "min"), partial(_extremum_forward, "min"), _extremum_vjp)
logsumexp = Op("logsumexp", partial(_reduced, "logsumexp"), _logsumexp_forward, _logsumexp_vjp)


# ---- spread. What a root is divided by where it is 0 would make nan of the cotangents: there they are 0


def _over_root(k, g, y, x_shape, axis):
    """g / y, or 0 where y is 0, with the reduced axes kept."""
    kept = reduced_shape("sum", x_shape, axis, True)
    return k.div_or_zero(k.reshape(g, kept), k.reshape(y, kept))


def _per_entry(shape, axis, ddof):
    """1 / (entries that are reduced to one - ddof), infinite where ddof leaves none of them."""
    left = _count("var", shape, axis) - ddof
    return 1 / left if left > 0 else inf


def _var_forward(k, x, axis=None, keepdims=False, ddof=0):
    count, axes = _count("var", x.shape, axis), reduced_axes("var", x.shape, axis)
    # distances from the first entry, and then from their mean: equal entries have none, whatever a mean of them is rounded to
    d = k.sub(x, k.slice(x, tuple(slice(0, 1) if i in axes else slice(None) for i in range(x.ndim))))
    d = k.sub(d, k.scale(k.sum(d, axis, True), 1 / count if count else nan))
    return k.scale(k.sum(k.mul(d, d), axis, keepdims), _per_entry(x.shape, axis, ddof)), (d,)


def _var_vjp(k, g, d, needs, axis=None, keepdims=False, ddof=0):
    # y = sum(d^2) / n, d = x - mean(x): gx = 2 g d / n; what passes the mean is a sum of d, which is 0
    kept = reduced_shape("var", d.shape, axis, True)
    return (k.mul(k.scale(k.reshape(g, kept), 2 * _per_entry(d.shape, axis, ddof)), d),)


def _std_forward(k, x, axis=None, keepdims=False, ddof=0):
    variance, (d,) = _var_forward(k, x, axis, keepdims, ddof)
    y = k.sqrt(variance)
    return y, (d, y)


def _std_vjp(k, g, d, y, needs, axis=None, keepdims=False, ddof=0):
    # y = sqrt(sum(d^2) / n): gx = g d / (n y)
    return (k.mul(k.scale(_over_root(k, g, y, d.shape, axis), _per_entry(d.shape, axis, ddof)), d),)


def _norm_forward(k, x, axis=None, keepdims=False, exponents=None):
    # exponents p, 1 / p and p - 1, arrays (), of another norm than p = 2
    if exponents is None:
        y = k.sqrt(k.sum(k.mul(x, x), axis, keepdims))
    else:
        y = k.pow(k.sum(k.pow(k.abs(x), exponents[0]), axis, keepdims), exponents[1])
    return y, (x, y)


def _norm_vjp(k, g, x, y, needs, axis=None, keepdims=False, exponents=None):
    if exponents is None:  # y = sqrt(sum(x^2)): gx = g x / y
        return (k.mul(_over_root(k, g, y, x.shape, axis), x),)
    # y = (sum |x|^p)^(1/p): gx = g sign(x) (|x| / y)^(p - 1), whose quotient lies on one side of 1, its power below 1 but for
    # 0 < p < 1; 0 where x or y is, though the slope of a root at 0 is infinite
    kept = reduced_shape("norm", x.shape, axis, True)
    part = k.div_or_zero(k.abs(x), k.reshape(y, kept))
    slope = k.where(k.nonzero(part), k.pow(part, exponents[2]), k.zeros((), x.dtype))
    return (k.mul(k.mul(k.reshape(g, kept), slope), k.sign(x)),)


var = Op("var", partial(_reduced, "var"), _var_forward, _var_vjp)
std = Op("std", partial(_reduced, "std"), _std_forward, _std_vjp)
norm = Op("norm", partial(_reduced, "norm"), _norm_forward, _norm_vjp)


# ---- products, and what is accumulated along one axis


def _prod_forward(k, x, axis=None, keepdims=False):
    return k.prod(x, axis, keepdims), (x,)


def _prod_vjp(k, g, x, needs, axis=None, keepdims=False):
    # the product is the last one of cumprod, over one axis in the place of all that are reduced
    axes = reduced_axes("prod", x.shape, axis)
    order = (*[i for i in range(x.ndim) if i not in axes], *axes)
    rows = k.reshape(k.transpose(x, order), (g.size, _count("prod", x.shape, axis)))
    g_rows = k.zeros(rows.shape, g.dtype)
    if rows.size:
        k.accumulate(k.slice(g_rows, (slice(None), -1)), k.reshape(g, (g.size,)))
    gx = k.cumprod_vjp(g_rows, rows, k.cumprod(rows, 1), 1)
    inverse = sorted(range(x.ndim), key=order.__getitem__)
    return (k.transpose(k.reshape(gx, tuple(x.shape[i] for i in order)), tuple(inverse)),)


def _along(name, x, axis):
    normal_axis(name, x, axis)
    return x


def _cumsum_forward(k, x, axis):
    return k.cumsum(x, axis), ()


def _cumsum_vjp(k, g, needs, axis):
    # y[i] = the sum of x up to i: gx[i] = the sum of g from i on
    back = (slice(None),) * (axis % g.ndim) + (slice(None, None, -1),)
    return (k.slice(k.cumsum(k.slice(g, back), axis), back),)


def _cumprod_forward(k, x, axis):
    y = k.cumprod(x, axis)
    return y, (x, y)


def _cumprod_vjp(k, g, x, y, needs, axis):
    return (k.cumprod_vjp(g, x, y, axis),)


prod = Op("prod", partial(_reduced, "prod"), _prod_forward, _prod_vjp)
cumsum = Op("cumsum", partial(_along, "cumsum"), _cumsum_forward, _cumsum_vjp)
cumprod = Op("cumprod", partial(_along, "cumprod"), _cumprod_forward, _cumprod_vjp)
