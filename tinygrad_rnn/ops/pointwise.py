"""Ops that work element by element; two inputs broadcast as numpy's do."""

from functools import partial

from .op import Op, broadcast


def _same(shape, **params):
    return shape


# ---- two inputs: cotangents are summed back over the axes that were broadcast


def _add_forward(k, x, y):
    return k.add(x, y), (x.shape, y.shape)


def _add_vjp(k, g, x_shape, y_shape, needs):
    return (k.sum_to(g, x_shape) if needs[0] else None, k.sum_to(g, y_shape) if needs[1] else None)


def _sub_forward(k, x, y):
    return k.sub(x, y), (x.shape, y.shape)


def _sub_vjp(k, g, x_shape, y_shape, needs):
    return (k.sum_to(g, x_shape) if needs[0] else None, k.neg(k.sum_to(g, y_shape)) if needs[1] else None)


def _mul_forward(k, x, y):
    return k.mul(x, y), (x, y)


def _mul_vjp(k, g, x, y, needs):
    return k.mul_vjp(g, x, y, needs)


def _div_forward(k, x, y):
    out = k.div(x, y)
    return out, (x.shape, y, out)


def _div_vjp(k, g, x_shape, y, out, needs):
    # d(x/y)/dx = 1/y, d(x/y)/dy = -(x/y)/y; the derivative is formed before g meets it: g/y may overflow where it is finite
    return (
        k.sum_to(k.div(g, y), x_shape) if needs[0] else None,
        k.neg(k.sum_to(k.mul(g, k.div(out, y)), y.shape)) if needs[1] else None,
    )


def _times_derivatives(k, g, x, y, needs, dx, dy):
    """g times the derivatives by x and by y, which dx() and dy() give in the shape of g."""
    return (
        k.sum_to(k.mul(g, dx()), x.shape) if needs[0] else None,
        k.sum_to(k.mul(g, dy()), y.shape) if needs[1] else None,
    )


def _pow_forward(k, x, y):
    return k.pow(x, y), (x, y)


def _pow_vjp(k, g, x, y, needs):
    return _times_derivatives(k, g, x, y, needs, lambda: k.pow_dbase(x, y), lambda: k.pow_dexponent(x, y))


def _maximum_forward(k, x, y):
    return k.maximum(x, y), (x, y)


def _maximum_vjp(k, g, x, y, needs):
    return _times_derivatives(k, g, x, y, needs, lambda: k.maximum_da(x, y), lambda: k.maximum_da(y, x))


def _minimum_forward(k, x, y):
    return k.minimum(x, y), (x, y)


def _minimum_vjp(k, g, x, y, needs):
    return _times_derivatives(k, g, x, y, needs, lambda: k.maximum_da(y, x), lambda: k.maximum_da(x, y))


def _logaddexp_forward(k, x, y):
    return k.logaddexp(x, y), (x, y)


def _logaddexp_vjp(k, g, x, y, needs):
    return _times_derivatives(k, g, x, y, needs, lambda: k.logaddexp_da(x, y), lambda: k.logaddexp_da(y, x))


def _arctan2_forward(k, y, x):
    return k.arctan2(y, x), (y, x)


def _arctan2_vjp(k, g, y, x, needs):
    # the angle changes by x/r^2 per dy and -y/r^2 per dx, r = hypot(x, y); at (0, 0) by nothing. The quotient of x or y,
    # at most 1, is taken first: g/r overflows beside a zero where the derivative is 0
    r = k.hypot(y, x)
    return (
        k.sum_to(k.div_or_zero(k.mul(g, k.div_or_zero(x, r)), r), y.shape) if needs[0] else None,
        k.neg(k.sum_to(k.div_or_zero(k.mul(g, k.div_or_zero(y, r)), r), x.shape)) if needs[1] else None,
    )


def _hypot_forward(k, x, y):
    out = k.hypot(x, y)
    return out, (x, y, out)


def _hypot_vjp(k, g, x, y, out, needs):
    return (
        k.sum_to(k.mul(g, k.div_or_zero(x, out)), x.shape) if needs[0] else None,
        k.sum_to(k.mul(g, k.div_or_zero(y, out)), y.shape) if needs[1] else None,
    )


def _where_shape(x, y, condition):
    return broadcast("where", condition.shape, x, y)


def _where_forward(k, x, y, condition):
    return k.where(condition, x, y), (x.shape, y.shape)


def _where_vjp(k, g, x_shape, y_shape, needs, condition):
    # chosen, not multiplied: what was not taken may be infinite or NaN
    zero = k.zeros((), g.dtype)
    return (
        k.sum_to(k.where(condition, g, zero), x_shape) if needs[0] else None,
        k.sum_to(k.where(condition, zero, g), y_shape) if needs[1] else None,
    )


add = Op("add", partial(broadcast, "add"), _add_forward, _add_vjp)
sub = Op("sub", partial(broadcast, "sub"), _sub_forward, _sub_vjp)
mul = Op("mul", partial(broadcast, "mul"), _mul_forward, _mul_vjp)
div = Op("div", partial(broadcast, "div"), _div_forward, _div_vjp)
pow = Op("pow", partial(broadcast, "pow"), _pow_forward, _pow_vjp)
maximum = Op("maximum", partial(broadcast, "maximum"), _maximum_forward, _maximum_vjp)
minimum = Op("minimum", partial(broadcast, "minimum"), _minimum_forward, _minimum_vjp)
logaddexp = Op("logaddexp", partial(broadcast, "logaddexp"), _logaddexp_forward, _logaddexp_vjp)
arctan2 = Op("arctan2", partial(broadcast, "arctan2"), _arctan2_forward, _arctan2_vjp)
hypot = Op("hypot", partial(broadcast, "hypot"), _hypot_forward, _hypot_vjp)
where = Op("where", _where_shape, _where_forward, _where_vjp)


# ---- one input


def _neg_forward(k, x):
    return k.neg(x), ()


def _neg_vjp(k, g, needs):
    return (k.neg(g),)


def _exp_forward(k, x):
    y = k.exp(x)
    return y, (y,)


def _exp_vjp(k, g, y, needs):
    return (k.mul(g, y),)


def _log_forward(k, x):
    return k.log(x), (x,)


def _log_vjp(k, g, x, needs):
    return (k.div(g, x),)


def _sqrt_forward(k, x):
    y = k.sqrt(x)
    return y, (y,)


def _sqrt_vjp(k, g, y, needs):
    return (k.scale(k.div(g, y), 0.5),)


def _relu_forward(k, x):
    y = k.relu(x)
    return y, (y,)


def _relu_vjp(k, g, y, needs):
    return (k.relu_vjp(g, y),)


# the other activations keep their derivative, computed from x: recomputing it from y loses every digit in saturation


def _tanh_forward(k, x):
    y, dy = k.tanh(x)
    return y, (dy,)


def _sigmoid_forward(k, x):
    y, dy = k.sigmoid(x)
    return y, (dy,)


def _from_kernel(name):
    """The forward rule that a kernel of that name is, which takes the op's params."""

    def forward(k, x, **params):
        y, dy = getattr(k, name)(x, **params)
        return y, (dy,)

    return forward


def _gelu_forward(k, x, approximate):
    y, dy = k.gelu_tanh(x) if approximate == "tanh" else k.gelu(x)
    return y, (dy,)


def _derivative_vjp(k, g, dy, needs, **params):
    return (k.mul(g, dy),)


neg = Op("neg", _same, _neg_forward, _neg_vjp)
exp = Op("exp", _same, _exp_forward, _exp_vjp, kind="activation")
log = Op("log", _same, _log_forward, _log_vjp, kind="activation")
sqrt = Op("sqrt", _same, _sqrt_forward, _sqrt_vjp, kind="activation")
tanh = Op("tanh", _same, _tanh_forward, _derivative_vjp, kind="activation")
sigmoid = Op("sigmoid", _same, _sigmoid_forward, _derivative_vjp, kind="activation")
erf, silu, softplus, elu, leaky_relu, hardtanh = (
    Op(name, _same, _from_kernel(name), _derivative_vjp, kind="activation")
    for name in ("erf", "silu", "softplus", "elu", "leaky_relu", "hardtanh")
)
gelu = Op("gelu", _same, _gelu_forward, _derivative_vjp, kind="activation")
relu = Op("relu", _same, _relu_forward, _relu_vjp, kind="activation")


def _clip_forward(k, x, low, high):
    return k.clip(x, low, high), (x,)


def _clip_vjp(k, g, x, needs, low, high):
    return (k.clip_vjp(g, x, low, high),)


clip = Op("clip", _same, _clip_forward, _clip_vjp, kind="activation")


# ---- one input and chance


def _dropout_forward(k, x, p, state):
    mask = k.keep_mask(x.shape, x.dtype, state, p)
    return k.mul(x, mask), (mask,)


def _dropout_vjp(k, g, mask, needs, p, state):
    return (k.mul(g, mask),)


dropout = Op("dropout", _same, _dropout_forward, _dropout_vjp)
