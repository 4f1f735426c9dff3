"""Elementary functions of one input: each has the kernel of its name, and multiplies the cotangent by a derivative that is
computed from x or, where that loses nothing, from y."""

from collections.abc import Callable

from .op import Op


def _same(shape):
    return shape


def _of_input(name: str, vjp: Callable) -> Op:
    """y = kernel `name` of x; vjp(k, g, x) -> cotangent of x."""
    return Op(name, _same, lambda k, x: (getattr(k, name)(x), (x,)), lambda k, g, x, needs: (vjp(k, g, x),), "activation")


def _of_output(name: str, vjp: Callable) -> Op:
    """y = kernel `name` of x; vjp(k, g, y) -> cotangent of x."""

    def forward(k, x):
        y = getattr(k, name)(x)
        return y, (y,)

    return Op(name, _same, forward, lambda k, g, y, needs: (vjp(k, g, y),), "activation")


def _constant(name: str) -> Op:
    """y = kernel `name` of x, whose derivative is 0."""
    return Op(
        name, _same, lambda k, x: (getattr(k, name)(x), ()), lambda k, g, needs: (k.zeros(g.shape, g.dtype),), "activation"
    )


_LN_2, _LN_10 = 0.6931471805599453, 2.302585092994046

abs = _of_input("abs", lambda k, g, x: k.mul(g, k.sign(x)))
square = _of_input("square", lambda k, g, x: k.scale(k.mul(g, x), 2))
reciprocal = _of_output("reciprocal", lambda k, g, y: k.neg(k.mul(k.mul(g, y), y)))
rsqrt = _of_output("rsqrt", lambda k, g, y: k.scale(k.mul(k.mul(k.mul(g, y), y), y), -0.5))
sign = _constant("sign")
floor = _constant("floor")
ceil = _constant("ceil")

exp2 = _of_output("exp2", lambda k, g, y: k.scale(k.mul(g, y), _LN_2))
expm1 = _of_input("expm1", lambda k, g, x: k.mul(g, k.exp(x)))
log1p = _of_input("log1p", lambda k, g, x: k.mul(g, k.log1p_dx(x)))
log2 = _of_input("log2", lambda k, g, x: k.scale(k.div(g, x), 1 / _LN_2))
log10 = _of_input("log10", lambda k, g, x: k.scale(k.div(g, x), 1 / _LN_10))

sin = _of_input("sin", lambda k, g, x: k.mul(g, k.cos(x)))
cos = _of_input("cos", lambda k, g, x: k.neg(k.mul(g, k.sin(x))))
tan = _of_output("tan", lambda k, g, y: k.add(g, k.mul(k.mul(g, y), y)))
arcsin = _of_input("arcsin", lambda k, g, x: k.mul(g, k.arcsin_dx(x)))
arccos = _of_input("arccos", lambda k, g, x: k.neg(k.mul(g, k.arcsin_dx(x))))
arctan = _of_input("arctan", lambda k, g, x: k.mul(g, k.arctan_dx(x)))

sinh = _of_input("sinh", lambda k, g, x: k.mul(g, k.cosh(x)))
cosh = _of_input("cosh", lambda k, g, x: k.mul(g, k.sinh(x)))
arcsinh = _of_input("arcsinh", lambda k, g, x: k.mul(g, k.arcsinh_dx(x)))
arccosh = _of_input("arccosh", lambda k, g, x: k.mul(g, k.arccosh_dx(x)))
arctanh = _of_input("arctanh", lambda k, g, x: k.mul(g, k.arctanh_dx(x)))

logsigmoid = _of_input("logsigmoid", lambda k, g, x: k.mul(g, k.sigmoid(k.neg(x))[0]))
softsign = _of_input("softsign", lambda k, g, x: k.mul(g, k.softsign_dx(x)))
