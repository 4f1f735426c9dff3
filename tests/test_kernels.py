"""The kernels below the ops: accuracy against the true function, bounds, threads, and equal bits."""

import contextlib
import functools
import itertools
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from arrays import DTYPES, LENGTHS, among_nans, guarded
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_rnn as tr
from tinygrad_rnn.backends import native, reference
from tinygrad_rnn.compiler.instruction import regions

pytestmark = pytest.mark.kernels


def ulps(got, true, dtype):
    """Largest error in units in the last place of the true value, over normal numbers."""
    true = true.astype(np.longdouble)
    normal = np.abs(true) >= np.finfo(dtype).tiny
    spacing = np.spacing(np.abs(true[normal]).astype(dtype)).astype(np.longdouble)
    return float(np.max(np.abs(got[normal].astype(np.longdouble) - true[normal]) / spacing, initial=0))


# what is promised of the value and of the derivative
ULPS = {
    **dict.fromkeys(("exp", "log"), (1,)),
    **dict.fromkeys(("tanh", "sigmoid"), (2, 4)),
    **dict.fromkeys(("exp2", "expm1", "sinh", "cosh", "log1p", "log2", "log10", "logsigmoid", "rsqrt", "softsign"), (2,)),
    **dict.fromkeys(("sin", "cos", "tan", "arcsin", "arccos", "arctan", "arcsinh", "arccosh", "arctanh"), (2,)),
    **dict.fromkeys(("log1p_dx", "arcsin_dx", "arctan_dx", "arcsinh_dx", "arccosh_dx", "arctanh_dx", "softsign_dx"), (4,)),
}

# The same of other activations, against 60 digits alone. None: the derivative has a zero, near which nothing but the absolute
# error is small
ACTIVATION_ULPS = {"erf": (2, 3), "gelu": (2, None), "silu": (2, None), "softplus": (2, 2), "elu": (1, 1)}
ARGUMENTS = {"elu": (1.0,)}

# up to where the results are normal numbers: a little further for those that underflow
RANGES = {
    np.float32: {
        **dict.fromkeys(("exp", "expm1"), (-90.0, 88.72)),
        **dict.fromkeys(("sinh", "cosh"), (-89.4, 89.4)),
        **dict.fromkeys(("sigmoid", "logsigmoid", "silu", "softplus", "elu"), (-90.0, 90.0)),
        "exp2": (-128.0, 127.99),
        "tanh": (-45.0, 45.0),
        "erf": (-9.4, 9.4),
        "gelu": (-13.2, 13.2),
    },
    np.float64: {
        **dict.fromkeys(("exp", "expm1"), (-710.0, 709.78)),
        **dict.fromkeys(("sinh", "cosh"), (-710.4, 710.4)),
        **dict.fromkeys(("sigmoid", "logsigmoid", "silu", "softplus", "elu"), (-710.0, 710.0)),
        "exp2": (-1024.0, 1023.99),
        "tanh": (-356.0, 356.0),
        "erf": (-26.7, 26.7),
        "gelu": (-37.7, 37.7),
    },
}


def elementary_points(name, dtype, n, rng):
    """About 5 n points: a grid over the whole range, one where most happens, random ones, and tiny ones."""
    info, name = np.finfo(dtype), name.removesuffix("_dx")
    sign, tiny = rng.choice([-1, 1], n), 2.0 ** rng.uniform(info.minexp, 0, n)
    close_to_0 = 2.0 ** rng.uniform(-info.nmant, -1, n)
    if name in ("log", "log2", "log10", "rsqrt"):
        small = info.smallest_subnormal * rng.integers(1, 2**info.nmant, n, dtype=np.int64).astype(dtype)
        grids = np.geomspace(info.tiny, info.max / 2, n), np.linspace(0.3, 3, n)
        x = *grids, rng.uniform(0.6, 1.6, n), 1 + sign * close_to_0, small
    elif name == "log1p":
        x = (
            np.geomspace(info.tiny, info.max / 2, n),
            np.linspace(-0.9, 3, n),
            rng.uniform(-0.5, 1, n),
            sign * tiny,
            close_to_0 - 1,
        )
        x = *x[:3], 0.999 * x[3], x[4]
    elif name in ("arcsin", "arccos", "arctanh"):
        x = np.linspace(-1, 1, n + 2)[1:-1], rng.uniform(-0.7, 0.7, n), sign * (1 - close_to_0), sign * tiny * 0.999
    elif name == "arccosh":
        x = np.geomspace(1.001, info.max / 2, n), np.linspace(1, 4, n + 1)[1:], 1 + close_to_0, rng.uniform(1.1, 2, n)
    elif name in ("sin", "cos", "tan"):
        zeros, huge = np.arange(1, min(n, 60_000)) * (np.pi / 2), np.geomspace(1e5, info.max / 2, n // 50)
        x = huge, zeros, np.linspace(-9e4, 9e4, n), np.linspace(-7, 7, n), rng.uniform(-100, 100, n), sign * tiny
    elif name in ("arctan", "arcsinh", "softsign"):
        # derivatives are to be normal numbers
        wide = sign * 2.0 ** rng.uniform(info.minexp / 2.1, -info.minexp / 2.1, n)
        x = wide, np.linspace(-4, 4, n), rng.standard_normal(n), rng.uniform(-30, 30, n), sign * tiny
    else:
        low, high = RANGES[dtype][name]
        x = np.linspace(low, high, n), np.linspace(-4, 4, n), rng.standard_normal(n), rng.uniform(low, high, n), sign * tiny
    x = np.concatenate(x).astype(dtype)
    if name in ("arcsin", "arccos", "arctanh"):
        return x[np.abs(x) < 1]
    return x[x > 1] if name == "arccosh" else x[x > -1] if name == "log1p" else x


# what numpy has no function for
TRUE = {
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "logsigmoid": lambda x: np.minimum(x, 0) - np.log1p(np.exp(-np.abs(x))),
    "softsign": lambda x: x / (1 + np.abs(x)),
    "log1p_dx": lambda x: 1 / (1 + x),
    "arcsin_dx": lambda x: 1 / np.sqrt((1 - x) * (1 + x)),
    "arctan_dx": lambda x: 1 / (1 + x * x),
    "arcsinh_dx": lambda x: 1 / np.sqrt(1 + x * x),
    "arccosh_dx": lambda x: 1 / np.sqrt((x - 1) * (x + 1)),
    "arctanh_dx": lambda x: 1 / ((1 - x) * (1 + x)),
    "softsign_dx": lambda x: 1 / (1 + np.abs(x)) ** 2,
}


def true_values(name, x):
    x = x.astype(np.longdouble)
    if name == "tanh":
        e = np.exp(-2 * np.abs(x))
        return np.tanh(x), 4 * e / (1 + e) ** 2
    if name == "sigmoid":
        e = np.exp(-np.abs(x))
        return np.where(x < 0, e, 1) / (1 + e), e / (1 + e) ** 2
    return ((TRUE.get(name) or getattr(np, name))(x),)


def elementary(name, x):
    y = getattr(native, name)(x, *ARGUMENTS.get(name, ()))
    return y if isinstance(y, tuple) else (y,)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ULPS)
def test_elementary_functions_to_the_last_bits(name, dtype, isa):
    # longdouble has 64 bits of mantissa: enough to judge both types
    x = elementary_points(name, dtype, 100_000, np.random.default_rng(0))
    for y, true, bound in zip(elementary(name, x), true_values(name, x), ULPS[name], strict=True):
        assert ulps(y, true, dtype) <= bound


@functools.cache
def values_in_60_digits(name, dtype):
    """Points, and what mpmath says of them, rounded once: to longdouble."""
    mpmath = pytest.importorskip("mpmath")
    tail = lambda x: 1 / (1 + mpmath.exp(abs(x)))  # noqa: E731
    sigmoid = lambda x: 1 / (1 + mpmath.exp(-x))  # noqa: E731
    functions = {
        "exp": (mpmath.exp,),
        "tanh": (mpmath.tanh, lambda x: mpmath.sech(x) ** 2),
        "sigmoid": (sigmoid, lambda x: tail(x) * (1 - tail(x))),
        "log": (mpmath.log,),
        "exp2": (lambda x: mpmath.power(2, x),),
        "log2": (lambda x: mpmath.log(x, 2),),
        "log10": (mpmath.log10,),
        "rsqrt": (lambda x: 1 / mpmath.sqrt(x),),
        "logsigmoid": (lambda x: -mpmath.log1p(mpmath.exp(-x)),),
        "softsign": (lambda x: x / (1 + abs(x)),),
        "log1p_dx": (lambda x: 1 / (1 + x),),
        "arcsin_dx": (lambda x: 1 / mpmath.sqrt(1 - x * x),),
        "arctan_dx": (lambda x: 1 / (1 + x * x),),
        "arcsinh_dx": (lambda x: 1 / mpmath.sqrt(1 + x * x),),
        "arccosh_dx": (lambda x: 1 / mpmath.sqrt(x * x - 1),),
        "arctanh_dx": (lambda x: 1 / (1 - x * x),),
        "softsign_dx": (lambda x: 1 / (1 + abs(x)) ** 2,),
        **{name: (getattr(mpmath, name),) for name in ("expm1", "sinh", "cosh", "log1p", "sin", "cos", "tan")},
        **{"arc" + name: (getattr(mpmath, "a" + name),) for name in ("sin", "cos", "tan", "sinh", "cosh", "tanh")},
        "erf": (mpmath.erf, lambda x: 2 / mpmath.sqrt(mpmath.pi) * mpmath.exp(-x * x)),
        "gelu": (lambda x: x * mpmath.ncdf(x), lambda x: mpmath.ncdf(x) + x * mpmath.npdf(x)),
        "silu": (lambda x: x * sigmoid(x), lambda x: sigmoid(x) * (1 + x * sigmoid(-x))),
        "softplus": (lambda x: mpmath.log1p(mpmath.exp(x)), sigmoid),
        "elu": (lambda x: x if x > 0 else mpmath.expm1(x), lambda x: mpmath.mpf(1) if x > 0 else mpmath.exp(x)),
    }
    x = elementary_points(name, dtype, 400, np.random.default_rng(6))
    with mpmath.workdps(60):
        true = [[mpmath.nstr(f(mpmath.mpf(float(v))), 30) for v in x] for f in functions[name]]
    return x, [np.array([np.longdouble(v) for v in values]) for values in true]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ULPS)
def test_elementary_functions_against_60_digits(name, dtype, isa):
    x, true_ = values_in_60_digits(name, dtype)
    for y, true, bound in zip(elementary(name, x), true_, ULPS[name], strict=True):
        assert ulps(y, true, dtype) <= bound


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["logaddexp", "arctan2", "hypot"])
def test_elementary_functions_of_two_numbers(name, dtype, isa):
    rng, info = np.random.default_rng(7), np.finfo(dtype)
    draws = [2.0 ** rng.uniform(info.minexp, info.maxexp - 1, 30_000), rng.uniform(0, 3, 30_000)]
    a, b = (np.concatenate(draws) * rng.choice([-1, 1], 60_000) for _ in range(2))
    a, b = np.concatenate([a, 3 + 0 * a, b]).astype(dtype), np.concatenate([rng.permutation(b), b, b * 1.01]).astype(dtype)
    if name == "logaddexp":
        a, b = np.abs(a), np.abs(b)  # elsewhere the sum may cancel
    true = getattr(np, name)(a.astype(np.longdouble), b.astype(np.longdouble))
    finite = np.abs(true) <= info.max
    assert ulps(getattr(native, name)(a, b)[finite], true[finite], dtype) <= 2


@pytest.mark.parametrize("dtype", DTYPES)
def test_powers(dtype, isa):
    rng, info, n = np.random.default_rng(7), np.finfo(dtype), 20_000
    scale = info.maxexp / 128
    draws = [
        (2.0 ** rng.uniform(-120 * scale, 120 * scale, n), rng.uniform(-2, 2, n)),
        (rng.uniform(0, 3, n), rng.uniform(-40, 40, n) * scale),
        (1 + rng.uniform(-1e-3, 1e-3, n), rng.uniform(-60_000, 60_000, n) * scale),
        (info.smallest_subnormal * rng.integers(1, 2**info.nmant, n), rng.uniform(-1, 2, n)),
        (rng.uniform(-3, 0, n), rng.integers(-30, 30, n)),
    ]
    a, b = (np.concatenate(part).astype(dtype) for part in zip(*draws, strict=True))
    with np.errstate(all="ignore"):
        true = np.power(a.astype(np.longdouble), b.astype(np.longdouble))
        finite = np.abs(true) <= info.max
        assert ulps(native.pow(a, b)[finite], true[finite], dtype) <= 1
        assert np.all(np.isinf(native.pow(a, b)[np.abs(true) > 1.001 * np.longdouble(info.max)]))
        for exponent in (1, 2, 3, -1, 0.5):  # one for all
            b = np.full((), exponent, dtype)
            true = np.power(a.astype(np.longdouble), b.astype(np.longdouble))
            finite = np.abs(true) <= info.max
            assert ulps(native.pow(a, b)[finite], true[finite], dtype) <= (1.5 if exponent == 3 else 1)  # two products


@pytest.mark.parametrize("dtype", DTYPES)
def test_powers_at_special_values(dtype, isa):
    """The cases of IEEE 754, which the C library's pow follows."""
    info = np.finfo(dtype)
    whole = [0, 1, 2, 3, 2.0**info.nmant, 2.0 ** (info.nmant + 1) - 1, 2.0 ** (info.nmant + 1), 2.0 ** (info.nmant + 2)]
    values = [
        *whole,
        0.5,
        2.5,
        0.9,
        1.2,
        2.7,
        3.3,
        2.0 ** (info.nmant - 1) + 0.5,
        1e30,
        info.tiny,
        info.smallest_subnormal,
        np.inf,
    ]
    values = np.array([*values, *(-v for v in values), np.nan], dtype)
    a, b = (v.ravel() for v in np.meshgrid(values, values))
    with np.errstate(all="ignore"):
        got, expected = native.pow(a, b), np.power(a, b)
    np.testing.assert_allclose(got, expected, rtol=2 * info.eps, atol=0)
    there = ~np.isnan(expected)
    np.testing.assert_array_equal(np.signbit(got[there]), np.signbit(expected[there]))
    for exponent in values:
        with np.errstate(all="ignore"):
            got, expected = native.pow(values, np.array(exponent)), np.power(values, np.full_like(values, exponent))
        np.testing.assert_allclose(got, expected, rtol=2 * info.eps, atol=0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ACTIVATION_ULPS)
def test_activations_against_60_digits(name, dtype, isa):
    x, true_ = values_in_60_digits(name, dtype)
    for y, true, bound in zip(elementary(name, x), true_, ACTIVATION_ULPS[name], strict=True):
        if bound is None:
            assert np.max(np.abs(y.astype(np.longdouble) - true)) <= 3 * np.finfo(dtype).eps
            tail = true[x < -3], y[x < -3]
            assert ulps(tail[1], tail[0], dtype) <= 20  # where both terms are small: no difference of numbers near 1
        else:
            assert ulps(y, true, dtype) <= bound


@pytest.mark.parametrize("dtype", DTYPES)
def test_silu_on_dense_grids(dtype, isa):
    x = np.concatenate([elementary_points("silu", dtype, 30_000, np.random.default_rng(8)), np.linspace(-2, 2, 300_000)])
    x = x.astype(dtype)
    wide = x.astype(np.longdouble)
    assert ulps(native.silu(x)[0], wide / (1 + np.exp(-wide)), dtype) <= 2


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_approximation_of_gelu(dtype, isa):
    x = np.linspace(-8, 8, 40_001).astype(dtype)
    y, dy = native.gelu_tanh(x)
    z = x.astype(np.longdouble)
    root = np.sqrt(8 / np.arccos(np.longdouble(-1)))
    w = root * (z + np.longdouble("0.044715") * z**3)
    s, other = 1 / (1 + np.exp(-w)), 1 / (1 + np.exp(w))
    bound = (4 + 2 * np.abs(w)) * np.finfo(dtype).eps
    assert np.all(np.abs(y - z * s) <= bound * np.abs(z * s))
    slope = s * (1 + z * other * root * (1 + 3 * np.longdouble("0.044715") * z**2))
    assert np.all(np.abs(dy - slope) <= bound * (np.abs(s) + np.abs(slope)))


INF, NAN = np.inf, np.nan
GATED = [(NAN, NAN, NAN), (INF, INF, 1.0), (0.0, 0.0, 0.5), (-0.0, -0.0, 0.5), ("max", "max", 1.0), ("-max", -0.0, -0.0)]
SPECIAL = {
    "exp": [(NAN, NAN), (INF, INF), (-INF, 0.0), (0.0, 1.0), (-0.0, 1.0), ("tiny", 1.0), ("-tiny", 1.0), ("max", INF)],
    "exp2": [
        (NAN, NAN),
        (INF, INF),
        (-INF, 0.0),
        (-0.0, 1.0),
        (3.0, 8.0),
        (-3.0, 0.125),
        ("tiny", 1.0),
        ("max", INF),
        ("-max", 0.0),
    ],
    "expm1": [(NAN, NAN), (INF, INF), (-INF, -1.0), (0.0, 0.0), (-0.0, -0.0), ("tiny", "tiny"), ("max", INF), ("-max", -1.0)],
    "log1p": [(NAN, NAN), (INF, INF), (-1.0, -INF), (-INF, NAN), (-2.0, NAN), (0.0, 0.0), (-0.0, -0.0), ("-tiny", "-tiny")],
    "log2": [
        (NAN, NAN),
        (INF, INF),
        (0.0, -INF),
        (-0.0, -INF),
        (1.0, 0.0),
        (-1.0, NAN),
        (8.0, 3.0),
        (0.125, -3.0),
        (-INF, NAN),
    ],
    "log10": [(NAN, NAN), (INF, INF), (0.0, -INF), (-0.0, -INF), (1.0, 0.0), (-1.0, NAN), (1000.0, 3.0), (10.0, 1.0)],
    "sinh": [(NAN, NAN), (INF, INF), (-INF, -INF), (-0.0, -0.0), ("-tiny", "-tiny"), ("max", INF), ("-max", -INF)],
    "cosh": [(NAN, NAN), (INF, INF), (-INF, INF), (-0.0, 1.0), ("max", INF), ("-max", INF)],
    "sin": [(NAN, NAN), (INF, NAN), (-INF, NAN), (0.0, 0.0), (-0.0, -0.0), ("tiny", "tiny"), ("-tiny", "-tiny")],
    "cos": [(NAN, NAN), (INF, NAN), (-INF, NAN), (0.0, 1.0), (-0.0, 1.0), ("tiny", 1.0)],
    "tan": [(NAN, NAN), (INF, NAN), (-INF, NAN), (0.0, 0.0), (-0.0, -0.0), ("tiny", "tiny"), ("-tiny", "-tiny")],
    "arcsin": [(NAN, NAN), (INF, NAN), (1.5, NAN), (-0.0, -0.0), ("-tiny", "-tiny"), (1.0, np.pi / 2), (-1.0, -np.pi / 2)],
    "arccos": [(NAN, NAN), (INF, NAN), (-1.5, NAN), (1.0, 0.0), (-1.0, np.pi), (-0.0, np.pi / 2), ("tiny", np.pi / 2)],
    "arctan": [
        (NAN, NAN),
        (INF, np.pi / 2),
        (-INF, -np.pi / 2),
        (-0.0, -0.0),
        ("-tiny", "-tiny"),
        (1.0, np.pi / 4),
        ("max", np.pi / 2),
    ],
    "arcsinh": [(NAN, NAN), (INF, INF), (-INF, -INF), (-0.0, -0.0), ("-tiny", "-tiny")],
    "arccosh": [(NAN, NAN), (INF, INF), (1.0, 0.0), (0.5, NAN), (-INF, NAN)],
    "arctanh": [(NAN, NAN), (1.0, INF), (-1.0, -INF), (1.5, NAN), (-INF, NAN), (-0.0, -0.0), ("-tiny", "-tiny")],
    "logsigmoid": [(NAN, NAN), (INF, 0.0), (-INF, -INF), ("-max", "-max")],
    "softsign": [(NAN, NAN), (INF, 1.0), (-INF, -1.0), ("max", 1.0), (-0.0, -0.0), ("-tiny", "-tiny")],
    "rsqrt": [(NAN, NAN), (INF, 0.0), (0.0, INF), (-1.0, NAN), (4.0, 0.5)],
    "abs": [(NAN, NAN), (-INF, INF), (-0.0, 0.0), ("-tiny", "tiny")],
    "sign": [(NAN, NAN), (-INF, -1.0), (INF, 1.0), (0.0, 0.0), ("-tiny", -1.0), ("tiny", 1.0)],
    "floor": [(NAN, NAN), (-INF, -INF), (-0.0, -0.0), ("-tiny", -1.0), (2.5, 2.0), (-2.5, -3.0), ("max", "max")],
    "ceil": [(NAN, NAN), (-INF, -INF), (-0.0, -0.0), ("tiny", 1.0), (2.5, 3.0), (-2.5, -2.0), (-0.5, -0.0), ("max", "max")],
    "arctan_dx": [(NAN, NAN), (INF, 0.0), (-INF, 0.0), (0.0, 1.0)],
    "arcsinh_dx": [(NAN, NAN), (INF, 0.0), (-INF, 0.0), (0.0, 1.0)],
    "arccosh_dx": [(NAN, NAN), (INF, 0.0), (1.0, INF), (0.5, NAN)],
    "softsign_dx": [(NAN, NAN), (INF, 0.0), (-INF, 0.0), (0.0, 1.0)],
    "tanh": [
        (NAN, NAN, NAN),
        (INF, 1.0, 0.0),
        (-INF, -1.0, 0.0),
        (0.0, 0.0, 1.0),
        (-0.0, -0.0, 1.0),
        ("tiny", "tiny", 1.0),
        ("-tiny", "-tiny", 1.0),
        ("max", 1.0, 0.0),
        ("-max", -1.0, 0.0),
    ],
    "sigmoid": [
        (NAN, NAN, NAN),
        (INF, 1.0, 0.0),
        (-INF, 0.0, 0.0),
        (0.0, 0.5, 0.25),
        (-0.0, 0.5, 0.25),
        ("tiny", 0.5, 0.25),
        ("-tiny", 0.5, 0.25),
        ("max", 1.0, 0.0),
        ("-max", 0.0, 0.0),
    ],
    "log": [
        (NAN, NAN),
        (INF, INF),
        (-INF, NAN),
        (0.0, -INF),
        (-0.0, -INF),
        (1.0, 0.0),
        (-1.0, NAN),
        ("-tiny", NAN),
        ("-max", NAN),
    ],
    "erf": [
        (NAN, NAN, NAN),
        (INF, 1.0, 0.0),
        (-INF, -1.0, 0.0),
        (0.0, 0.0, 2 / np.pi**0.5),
        (-0.0, -0.0, 2 / np.pi**0.5),
        ("tiny", "tiny", 2 / np.pi**0.5),
        ("-tiny", "-tiny", 2 / np.pi**0.5),
        ("max", 1.0, 0.0),
        ("-max", -1.0, 0.0),
    ],
    # -inf times 0
    "gelu": [*GATED[:-1], ("-max", -0.0, 0.0), (-INF, NAN, 0.0)],
    "gelu_tanh": [*GATED, (-INF, NAN, -0.0)],
    "silu": [*GATED, (-INF, NAN, -0.0)],
    "softplus": [
        (NAN, NAN, NAN),
        (INF, INF, 1.0),
        (-INF, 0.0, 0.0),
        ("max", "max", 1.0),
        ("-max", 0.0, 0.0),
        ("tiny", np.log(2), 0.5),
    ],
    "elu": [
        (NAN, NAN, NAN),
        (INF, INF, 1.0),
        (-INF, -1.0, 0.0),
        (0.0, 0.0, 1.0),
        (-0.0, -0.0, 1.0),
        ("-tiny", "-tiny", 1.0),
        ("max", "max", 1.0),
        ("-max", -1.0, 0.0),
    ],
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", SPECIAL)
def test_elementary_functions_at_special_values(name, dtype, isa):
    info = np.finfo(dtype)
    # "tiny" is the smallest number there is, a subnormal one
    named = {"tiny": info.smallest_subnormal, "-tiny": -info.smallest_subnormal, "max": info.max, "-max": -info.max}
    rows = [[named.get(v, v) for v in row] for row in SPECIAL[name]]
    for repeat in (1, 37):  # mixed in one vector, and through whole vectors and their tails
        columns = [np.repeat(np.array(column, dtype), repeat) for column in zip(*rows, strict=True)]
        for y, true in zip(elementary(name, columns[0]), columns[1:], strict=True):
            np.testing.assert_array_equal(y, true)
            np.testing.assert_array_equal(np.signbit(y[~np.isnan(y)]), np.signbit(true[~np.isnan(true)]))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", sorted({**ULPS, **ACTIVATION_ULPS}))
def test_bits_depend_neither_on_neighbours_nor_on_length(name, dtype, isa):
    """A vector that holds huge values, or the end of an array, may take another way."""
    rng = np.random.default_rng(3)
    x = rng.permutation(elementary_points(name, dtype, 100, rng))[:231]
    x[::11] = np.resize([5, 7.9, -17, 40, -90, 1e5, 1e30, np.inf, -np.inf, np.nan], 21)
    alone = [np.concatenate(v) for v in zip(*[elementary(name, x[i : i + 1]) for i in range(x.size)], strict=True)]
    for together, one_by_one in zip(elementary(name, x), alone, strict=True):
        np.testing.assert_array_equal(together, one_by_one)


@pytest.mark.parametrize("dtype", DTYPES)
def test_derivatives_underflow_gradually(dtype, isa):
    tiny = np.finfo(dtype).smallest_subnormal
    for name, factor in (("tanh", 2.0), ("sigmoid", 1.0), ("softplus", -1.0), ("elu", -1.0)):
        x = np.linspace(*((87.0, 106.0) if dtype == np.float32 else (708.0, 748.0)), 20_001).astype(dtype) / dtype(factor)
        dy = elementary(name, x)[1]
        true = true_values(name, x)[1] if factor > 0 else np.exp(x.astype(np.longdouble))
        subnormal = true < np.finfo(dtype).tiny
        assert np.max(np.abs(dy.astype(np.longdouble) - true)[subnormal]) <= tiny
        assert dy[0] > 0 and dy[-1] == 0


def test_tanh_derivative_in_saturation(isa):
    x = np.linspace(-40, 40, 400_001).astype(np.float32)
    _, dy = native.tanh(x)
    true = 1 / np.cosh(x.astype(np.float64)) ** 2
    assert np.max(np.abs(dy - true) / true) < 1e-6
    # what a derivative from the rounded y would be
    y = np.tanh(np.float32(8.0))
    assert abs((1 - y * y) * np.cosh(8.0) ** 2 - 1) > 0.05


def test_exp_over_and_underflows_gradually(isa):
    assert np.all(native.exp(np.array([88.8, 100, np.inf], np.float32)) == np.inf)
    x = np.array([88.7, -87.5, -100, -104, -np.inf], np.float32)
    np.testing.assert_allclose(native.exp(x), np.exp(x.astype(np.longdouble)), rtol=2e-7, atol=1.5e-45)
    x = np.array([709.9, np.inf, -708.5, -740, -750], np.float64)
    with np.errstate(over="ignore", under="ignore"):
        np.testing.assert_allclose(native.exp(x), np.exp(x), rtol=4e-16, atol=5e-324)


# ---- matrix products: paths, epilogues, packed operands

# rows, columns, depth: the tails of every tile, both sides of every choice of a path, of a block's depth and rows (256 and 320
# with caches of 32 and 512 KB)
PRODUCTS = [
    *[(m, n, 5) for m in (1, 2, 3, 4, 5, 6, 7, 12, 13, 64, 65) for n in (1, 3, 4, 7, 8, 9, 15, 16, 17, 31, 33)],
    *[(m, 20, k) for m in (1, 3, 4, 16, 23) for k in (1, 2, 255, 256, 257, 520)],
    *[(m, 130, 40) for m in (319, 321, 650)],
    *[(m, n, k) for m in (2, 16, 40) for n, k in ((129, 700), (300, 513))],
    *[(0, 3, 2), (3, 0, 2), (3, 2, 0), (0, 0, 0), (1, 1, 1), (97, 33, 256), (193, 31, 20), (2, 700, 300)],
]


def product_bound(a, b, dtype, *added):
    """Rounding of a product and of what is added to it: a few units of the sum over absolute values."""
    a, b = np.abs(a.astype(np.float64)), np.abs(b.astype(np.float64))
    return 4 * np.finfo(dtype).eps * (a @ b + sum(np.abs(x) for x in added))


@pytest.mark.parametrize("dtype", DTYPES)
def test_products_of_every_path_and_layout_stay_in_bounds(dtype, isa, sentinels):
    rng = np.random.default_rng(1)
    for m, n, k in PRODUCTS:
        a, b = (rng.standard_normal(s).astype(dtype) for s in ((m, k), (k, n)))
        true, bound = a.astype(np.float64) @ b.astype(np.float64), product_bound(a, b, dtype)
        for left in (among_nans(a), among_nans(a.T.copy()).T, np.repeat(a, 2, axis=1)[:, ::2]):
            for right in (among_nans(b), among_nans(b.T.copy()).T, np.repeat(b, 3, axis=1)[:, ::-3][:, ::-1]):
                assert np.all(np.abs(native.matmul(left, right) - true) <= bound), (m, n, k)
        if m and n and k:  # one row, one column, one number, repeated without being copied
            rows, columns = np.broadcast_to(among_nans(a[:1]), a.shape), np.broadcast_to(among_nans(b[:, :1]), b.shape)
            one = np.broadcast_to(among_nans(a[:1, :1]), a.shape)
            for left in (rows, one, a):
                for right in (columns, np.broadcast_to(among_nans(b[:1]), b.shape), b):
                    exact = left.astype(np.float64) @ right.astype(np.float64)
                    # equal terms: their rounding errors have one sign and add up
                    bound = product_bound(left, right, dtype) * (1 + k / 8)
                    assert np.all(np.abs(native.matmul(left, right) - exact) <= bound), (m, n, k)


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_follows_a_product(dtype, isa, sentinels):
    """Bias, activation and derivative in the epilogue, y += product, and a packed operand, against the single kernels."""
    rng = np.random.default_rng(2)
    for m, n, k in PRODUCTS:
        a, w, b = (3 * rng.standard_normal(s).astype(dtype) for s in ((m, k), (n, k), (n,)))
        w = (w / (k + 1) ** 0.5).astype(dtype)  # sums of about 10: the activations saturate in part
        a, w, b = map(among_nans, (a, w, b))
        z = native.linear(a, w, b)
        true = a.astype(np.float64) @ w.T.astype(np.float64) + b
        assert np.all(np.abs(z - true) <= product_bound(a, w.T, dtype, b)), (m, n, k)
        for activation in ("identity", "tanh", "sigmoid", "relu"):
            y, dy = native.linear_activation(a, w, b, activation)
            single = {"identity": lambda z: (z, np.ones_like(z)), "relu": lambda z: (native.relu(z), (z > 0).astype(dtype))}
            e, de = single.get(activation, getattr(native, activation, None))(z)
            np.testing.assert_allclose(y, e, rtol=2 * np.finfo(dtype).eps, err_msg=f"{m, n, k} {activation}")
            np.testing.assert_allclose(dy, de, rtol=4 * np.finfo(dtype).eps, atol=np.finfo(dtype).tiny)
        packed = native.pack(w.T)
        again = native.linear(a, packed, b)
        assert np.all(np.abs(again - true) <= product_bound(a, w.T, dtype, b)), (m, n, k)
        if m > 3:  # both paths that pack sum alike
            np.testing.assert_array_equal(again, z)
        assert np.all(np.abs(native.matmul(a, packed) - (true - b)) <= product_bound(a, w.T, dtype, b)), (m, n, k)
        y = rng.standard_normal((m, n)).astype(dtype)
        added = native.matmul_add(y.copy(), a, w.T)
        assert np.all(np.abs(added - (true - b + y)) <= product_bound(a, w.T, dtype, b, y)), (m, n, k)


@pytest.mark.parametrize("dtype", DTYPES)
def test_cells_with_many_rows_and_any_layout(dtype, isa, sentinels):
    """Both kinds of cell and their vjp against the reference in float64, beyond one block of rows and columns."""
    rng = np.random.default_rng(3)
    for B, I, H in ((1, 3, 200), (40, 30, 140), (700, 20, 70)):  # noqa: E741 (the sizes' usual letters)
        draw = lambda *s: among_nans(rng.standard_normal(s).astype(dtype))  # noqa: E731
        x, h, b_ih, b_hh, g, u = draw(I, B).T, draw(2 * B, H)[::2], draw(H), draw(H), draw(B, H), draw(B, H)
        w_ih, w_hh = draw(I, H).T / dtype(I**0.5), draw(H, H).T / dtype(H**0.5)
        for projected in (False, True):
            inputs = (u, h, None, w_hh, None, b_hh) if projected else (x, h, w_ih, w_hh, b_ih, b_hh)
            exact = [v if v is None else v.astype(np.float64) for v in inputs]
            needs = (True, True, not projected, True, True)
            y, dy = native.rnn_cell(*inputs, "tanh")
            ours = [y, dy, *native.rnn_cell_vjp(g, dy, *inputs[:4], needs)]
            y, dy = reference.rnn_cell(*exact, "tanh")
            true = [y, dy, *reference.rnn_cell_vjp(g.astype(np.float64), dy, *exact[:4], needs)]
            for a, e in zip(ours, true, strict=True):
                if e is not None:
                    np.testing.assert_allclose(a, e, rtol=0, atol=80 * np.finfo(dtype).eps * B**0.5)


def call(kernel, dtype, arrays, n):
    """One call of a kernel on arrays, None for NULL, as a program makes it."""
    addresses = tuple(0 if x is None else x.ctypes.data for x in arrays)
    assert native.Replay([(kernel, int(dtype == np.float64), addresses, tuple(n), ())]).run() == 1


ACTIVATED = [lambda z: (z, np.ones_like(z)), reference.tanh, reference.sigmoid, lambda z: (np.maximum(z, 0), (z > 0) * 1.0)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows", [1, 2, 5, 16, 17, 65])
def test_all_that_a_product_may_be_followed_by(rows, dtype, isa):
    """An addend with rows of any distance, y itself among them, a bias, an activation, a packed operand, a second product."""
    rng = np.random.default_rng(rows)
    for columns, k in itertools.product((1, 7, 16, 33, 64, 130), (1, 5, 40)):
        for by_columns, packed, biased, added, derivative, scale in itertools.product(
            (False, True), (False, True), (False, True), (None, "y", "apart"), (False, True), (False, True)
        ):
            if rng.random() < 0.85:  # a sample of the combinations, another one for each shape
                continue
            activation = int(rng.integers(0, 4)) if derivative or rng.random() < 0.5 else 0
            a, b = (among_nans(rng.standard_normal(s).astype(dtype)) for s in ((rows, k), (k, columns)))
            b = among_nans(b.T).T if by_columns else b
            bias = among_nans(rng.standard_normal(columns).astype(dtype)) if biased else None
            whole = rng.standard_normal((rows, columns + 3)).astype(dtype)
            times = among_nans(rng.standard_normal((rows, columns)).astype(dtype))
            (y, y_intact), (dy, dy_intact), (scaled, scaled_intact) = (guarded((rows, columns), dtype) for _ in range(3))
            base = {None: None, "y": y, "apart": whole[:, :columns]}[added]
            if added == "y":
                y[...] = whole[:, :columns]
            z = a.astype(np.float64) @ b + (bias if biased else 0) + (whole[:, :columns] if added else 0)
            n = [1, rows, columns, k, 0, k, 1, 0, *((1, k) if by_columns else (columns, 1)), columns + 3 * (added == "apart")]
            arrays = [y, dy if derivative else None, a, b, bias, native.pack(b).data if packed else None, base]
            call("matmul", dtype, [*arrays, scaled if scale else None, times if scale else None], [*n, activation])
            value, slope = ACTIVATED[activation](z)
            bound = {"rtol": 0, "atol": 40 * (k + 4) ** 0.5 * np.finfo(dtype).eps}
            np.testing.assert_allclose(y, value, **bound)
            if derivative and activation < 3:  # relu's jumps where z is 0 to rounding
                np.testing.assert_allclose(dy, slope, **bound)
            if scale:
                np.testing.assert_array_equal(scaled, y * times)
            assert y_intact() and dy_intact() and scaled_intact()


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_cell_takes_its_weight_packed(dtype, isa):
    rng = np.random.default_rng(0)
    for rows, features, hidden in itertools.product((1, 3, 16, 33), (1, 5), (1, 16, 21, 70)):
        x, h, w, v = (
            rng.standard_normal(s).astype(dtype) * 0.3
            for s in ((rows, features), (rows, hidden), (hidden, features), (hidden, hidden))
        )
        (y, intact), (dy, dy_intact) = guarded((rows, hidden), dtype), guarded((rows, hidden), dtype)
        n = [rows, features, hidden, 1, features, 1, features, 1, hidden, 1, hidden, 1]
        call("rnn_cell", dtype, [y, dy, x, w, None, h, v, None, native.pack(v.T).data], n)
        value, slope = reference.rnn_cell(*(u.astype(np.float64) for u in (x, h, w, v)), None, None, "tanh")
        bound = {"rtol": 0, "atol": 20 * (features + hidden) ** 0.5 * np.finfo(dtype).eps}
        np.testing.assert_allclose(y, value, **bound)
        np.testing.assert_allclose(dy, slope, **bound)
        assert intact() and dy_intact()


@pytest.mark.parametrize("dtype", DTYPES)
def test_vjps_of_mul_and_linear(dtype, isa, sentinels):
    """Against the reference in float64, for any number of axes, any layout, and any choice of what is needed."""
    rng = np.random.default_rng(5)
    draw = lambda *s: among_nans(rng.standard_normal(s).astype(dtype))  # noqa: E731
    linears = [(draw(*s, 5), draw(*s, 3), draw(5, 3)) for s in ((), (1,), (7,), (0,), (2, 7), (2, 0, 3))]
    linears += [(draw(5, 7).T, draw(14, 3)[::2], draw(3, 5).T), (draw(7, 1), draw(7, 1), draw(1, 1))]
    linears.append((np.broadcast_to(draw(5), (4, 7, 5)), draw(3, 7, 4).T, draw(5, 6)[:, ::2]))
    muls = [(draw(4, 3), draw(*a), draw(*b)) for a, b in (((4, 3), (4, 3)), ((3,), (4, 1)), ((), (4, 3)), ((4, 3), (1, 1)))]
    for name, operands, count in [("linear_vjp", o, n) for o in linears for n in (2, 3)] + [("mul_vjp", o, 2) for o in muls]:
        for needs in itertools.product((False, True), repeat=count):
            ours = getattr(native, name)(*operands, needs)
            true = getattr(reference, name)(*(v.astype(np.float64) for v in operands), needs)
            assert [v is not None for v in ours] == list(needs)
            for a, e in zip(ours, true, strict=True):
                if e is not None:
                    assert a.dtype == dtype and a.shape == e.shape
                    np.testing.assert_allclose(a, e, rtol=0, atol=100 * np.finfo(dtype).eps)


def test_nan_passes_every_epilogue(isa):
    x, w = np.full((5, 3), np.nan, np.float32), np.ones((4, 3), np.float32)
    for activation in ("identity", "tanh", "sigmoid", "relu"):
        assert np.all(np.isnan(native.linear_activation(x, w, None, activation)[0])), activation


def test_products_of_nothing_and_of_shared_memory():
    y = np.ones((4, 4))
    with pytest.raises(ValueError, match="may not share memory"):
        native.matmul_add(y, y, y)
    line = np.ones(6)
    native.accumulate(line[1:], line[:-1])
    np.testing.assert_array_equal(line, [1, 2, 2, 2, 2, 2])
    native.set_allocator(lambda shape, dtype: np.zeros(int(np.prod(shape)) + 1, dtype)[1:].reshape(shape))
    try:
        assert native.matmul(np.zeros((4, 5, 3, 4))[:2, :0], np.ones((2, 0, 4, 5))).shape == (2, 0, 3, 5)
    finally:
        native.set_allocator(None)
    odd = np.zeros(1, dtype=[("v", "f8", (8,)), ("c", "i1")])["v"]  # one row, whose stride is not a multiple of 8
    assert native.matmul(odd, np.ones((8, 3))).shape == (1, 3)
    with pytest.raises(TypeError, match="made by pack"):
        native.Packed()
    with pytest.raises(ValueError, match="expected five booleans"):
        native.rnn_cell_vjp(y, y, y, y, None, y, (True,) * 5)


@pytest.mark.parametrize("dtype", DTYPES)
def test_sums_are_pairwise(dtype, isa):
    rng = np.random.default_rng(4)
    for shape in ((300_000, 1), (300_000, 2), (100_000,), (5000, 131)):
        x = (0.3 + 1e-3 * rng.random(shape)).astype(dtype)
        exact = x.astype(np.longdouble)
        for ours, true in (
            (native.sum(x, 0), exact.sum(0)),
            (native.logsumexp(x, 0), np.log(np.exp(exact).sum(0))),
        ):
            assert np.max(np.abs(ours - true) / np.abs(true)) <= 4 * np.finfo(dtype).eps, shape


def test_a_packed_operand_is_for_one_instruction_set():
    a, b = np.ones((2, 3), np.float32), np.ones((3, 4), np.float32)
    packed = native.pack(b)
    assert "(3, 4) float32" in repr(packed)
    np.testing.assert_array_equal(native.matmul(np.ones((5, 2, 3), np.float32), packed), np.full((5, 2, 4), 3))
    for call, error, text in (
        (lambda: native.matmul(a[:, :2], packed), ValueError, "expected (..., 3)"),
        (lambda: native.matmul(a.astype(np.float64), packed), TypeError, "do not mix"),
        (lambda: native.linear(a, packed, np.ones(3, np.float32)), ValueError, "expected (4,)"),
        (lambda: native.pack(np.ones(3, np.float32)), ValueError, "expected (k, n)"),
        (lambda: native.matmul_add(b.T, b.T, np.ones((3, 3), np.float32)), ValueError, "contiguous and writeable"),
        (lambda: native.matmul_add(a, a, b), ValueError, "do not fit (m, n), (m, k) and (k, n)"),
        (lambda: native.linear_activation(a, b.T, None, "swish"), ValueError, "unknown activation 'swish'"),
    ):
        with pytest.raises(error, match=re.escape(text)):
            call()
    others = [name for name in native.supported_isa_names() if name != native.isa()]
    before = native.isa()
    for name in others:
        native.set_isa(name)
        try:
            with pytest.raises(ValueError, match=f"was packed for {before}, but {name} is in use"):
                native.matmul(a, packed)
        finally:
            native.set_isa(before)


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 300), st.sampled_from(DTYPES))
def test_matmul_over_drawn_sizes(m, n, k, dtype):
    rng = np.random.default_rng(2)
    a, b = rng.standard_normal((m, k)).astype(dtype), rng.standard_normal((k, n)).astype(dtype)
    assert np.all(np.abs(native.matmul(a, b) - reference.matmul(a, b)) <= product_bound(a, b, dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_equal_inputs_give_equal_bits(dtype, isa):
    rng = np.random.default_rng(3)
    a, b = rng.standard_normal((70, 300)).astype(dtype), rng.standard_normal((300, 50)).astype(dtype)
    first = native.matmul(a, b)
    shifted = np.zeros(a.size + 1, dtype)[1:].reshape(a.shape)  # another alignment
    shifted[...] = a
    np.testing.assert_array_equal(native.matmul(a, b), first)
    np.testing.assert_array_equal(native.matmul(shifted, b), first)
    np.testing.assert_array_equal(native.sum(shifted), native.sum(a))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", LENGTHS)
def test_in_place_kernels_stay_in_bounds(n, dtype, isa):
    g = np.ones(n, dtype)
    for call in (
        lambda w: native.accumulate(w, g),
        lambda w: native.clip_to_norm(w, np.array(20.0), 0.5),
        lambda w: native.clip_to_value(w, 0.5),
        lambda w: native.sgd(w, None, g, np.array([0.1, 0, 0, 0])),
        lambda w: native.sgd(w, np.zeros(n, dtype), g, np.array([0.1, 0.9, 0.1, 1])),
        lambda w: native.adam(w, *np.zeros((2, n), dtype), np.zeros(()), g, np.array([0.1, 0.9, 0.999, 1e-8, 0.1, 0.1])),
        lambda w: native.rmsprop(w, np.zeros(n, dtype), None, None, g, np.array([0.1, 0.9, 1e-8, 0, 0])),
        lambda w: native.rmsprop(w, *np.zeros((3, n), dtype), g, np.array([0.1, 0.9, 1e-8, 0.1, 0.9])),
    ):
        w, intact = guarded((n,), dtype)
        w[...] = np.arange(1, n + 1) % 7
        twin = w.copy()
        call(w)
        assert intact()
        assert n == 0 or not np.array_equal(w, twin)
    w, intact = guarded((5, n), dtype)
    w[...] = 0
    native.take_add(w, np.array([4, 0, 4]), np.ones((3, n), dtype))
    assert intact()
    w, intact = guarded((n, 5), dtype)
    w[...] = 0
    native.matmul_add(w, np.ones((n, 3), dtype), np.ones((3, 5), dtype))
    assert intact() and np.all(w == 3)


@pytest.mark.parametrize("dtype", DTYPES)
def test_updates_agree_with_the_reference(dtype, isa):
    rng = np.random.default_rng(4)
    for n in LENGTHS:
        w, m, v, b, g = (rng.uniform(0.1, 1, n).astype(dtype) for _ in range(5))
        v += 1  # the mean of squares is not below the square of the mean, m
        for f, args in (
            *(("sgd", lambda s=s: (w.copy(), None, g, np.array(s))) for s in ([0.1, 0, 0, 0], [0.1, 0, 0.3, 0])),
            *(("sgd", lambda s=s: (w.copy(), m.copy(), g, np.array([0.1, 0.9, *s]))) for s in ([0, 0], [0.3, 0], [0.3, 1])),
            *(
                ("adam", lambda s=s: (w.copy(), m.copy(), v.copy(), np.array(6.0), g, np.array([0.1, 0.9, 0.999, 1e-8, *s])))
                for s in ([0, 0], [0.3, 0], [0, 0.3])
            ),
            *(
                (
                    "rmsprop",
                    lambda x=x, y=y, s=s: (
                        w.copy(),
                        v.copy(),
                        *(z if z is None else z.copy() for z in (x, y)),
                        g,
                        np.array([0.1, 0.9, 1e-8, *s]),
                    ),
                )
                for x in (None, m)
                for y in (None, b)
                for s in ([0, 0.9], [0.3, 0.9])
            ),
            *(("clip_to_norm", lambda norm=norm: (g.copy(), np.array(norm), 2.5)) for norm in (3.0, 2.0, INF, NAN)),
            ("clip_to_value", lambda: (g - dtype(0.5), 0.25)),
            ("clip_to_value", lambda: (np.where(g > 0.5, dtype(NAN), g * dtype(INF)), 0.25)),
            *(("add_norm", lambda norm=norm: (np.array(norm), g)) for norm in (0.0, 0.5, INF, NAN)),
        ):
            ours, theirs = args(), args()
            getattr(native, f)(*ours)
            getattr(reference, f)(*theirs)
            for x, y in zip(ours, theirs, strict=True):
                if isinstance(x, np.ndarray):
                    np.testing.assert_allclose(x, y, rtol=8 * np.finfo(dtype).eps, atol=8 * np.finfo(dtype).eps)


@pytest.mark.parametrize("backend", [native, reference], ids=["native", "reference"])
def test_norms_leave_no_range(backend):
    norm = lambda x, before=0.0: float(backend.add_norm(np.array(before), x))  # noqa: E731
    assert norm(np.full(3, 1e30, np.float32), 1e30) == pytest.approx(2e30, rel=1e-6)
    for size in (1e-320, 1e-300, 1e-160, 1e-140, 1.0, 1e150, 1e154, 1e200, 5e307):
        rtol = 1e-3 if size == 1e-320 else 1e-15
        np.testing.assert_allclose(norm(np.full(9, size), 0.0), 3 * size, rtol=rtol)
        np.testing.assert_allclose(norm(np.array([3 * size, 0.0, 1e-3 * size]), 0.0), 3 * size, rtol=1e-3)
        np.testing.assert_allclose(norm(np.array([3 * size / 2]), 2 * size), 2.5 * size, rtol=rtol)
    tiny = np.finfo(np.float64).smallest_subnormal
    assert norm(np.array([tiny])) == norm(np.array([0.0]), tiny) == tiny
    assert norm(np.full(4, 1.7e308)) == INF  # it truly is beyond
    assert norm(np.zeros(0)) == norm(np.zeros(3)) == 0
    for dtype in DTYPES:
        assert norm(np.array([1, -INF], dtype)) == norm(np.ones(1, dtype), INF) == INF
        for values, before in (([1, NAN], 0.0), ([INF, NAN], 0.0), ([INF], NAN), ([1], NAN), ([NAN], INF)):
            assert np.isnan(norm(np.array(values, dtype), before))


# ---- random numbers


def state(*words):
    return np.array(words, np.uint64)


# counter, key and block of Philox 4x32-10: kat_vectors of the Random123 distribution (https://github.com/DEShawResearch/random123)
KNOWN = [
    ([0] * 4, [0] * 2, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
    ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
    (
        [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
        [0xA4093822, 0x299F31D0],
        [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
    ),
]
# counters whose high word matters, carries while blocks are drawn side by side, and runs over
STATES = [(0, 0), (1, 2), (0x299F31D0A4093822, 0x85A308D3243F6A88), (2**64 - 1, 2**32 - 3), (2**63, 2**64 - 2)]


def test_philox_gives_the_known_answers():
    for counter, key, block in KNOWN:
        np.testing.assert_array_equal(reference._philox(np.array(counter, np.uint32), key), block)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_kernel_draws_every_bit_of_philox(dtype, isa):
    """A word is the largest p 2^32 at which its element is kept."""
    for key, counter in STATES:
        for i in range(5):
            at = (counter + i) % 2**64
            block = reference._philox(np.array([at % 2**32, at >> 32, 0, 0], np.uint32), [key % 2**32, key >> 32])
            for j, word in enumerate(block.tolist()):
                kept = [native.keep_mask((20,), dtype, state(key, counter), w / 2**32)[4 * i + j] > 0 for w in (word, word + 1)]
                assert kept == [True, False]
    np.testing.assert_array_equal(reference._philox(np.zeros(4, np.uint32), [0, 0]), KNOWN[0][2])  # STATES[0], i = 0


@pytest.mark.parametrize("dtype", DTYPES)
def test_masks_have_the_bits_of_the_reference(dtype, isa, sentinels):
    """At edge lengths, at probabilities up to where no 32-bit number is large enough; nothing beside y and state is written."""
    for n in (*LENGTHS, 63, 64, 65, 127, 1001):
        for p in (0, 1e-12, 0.1, 0.5, 0.9, 1 - 2.0**-32, 1 - 2.0**-33, 1):
            for words in STATES:
                whole, theirs = np.full(6, 77, np.uint64), state(*words)
                ours = whole[2:4]
                ours[:] = theirs
                y, e = native.keep_mask((n,), dtype, ours, p), reference.keep_mask((n,), dtype, theirs, p)
                assert y.dtype == e.dtype == dtype and y.tobytes() == e.tobytes(), (n, p, words)
                assert ours.tolist() == theirs.tolist() == [words[0], (words[1] + -(-n // 4)) % 2**64]
                assert np.all(whole[[0, 1, 4, 5]] == 77)
                assert p not in (0, 1) or np.all(y == 1 - p)
    y = native.keep_mask((3, 0, 2), dtype, state(1, 2), 0.5), native.keep_mask((), dtype, state(1, 2), 0.0)
    assert [v.shape for v in y] == [(3, 0, 2), ()]


def test_both_dtypes_draw_the_same_mask(isa):
    single, double = (native.keep_mask((100, 101), dtype, state(5, 6), 0.37) for dtype in DTYPES)
    np.testing.assert_array_equal(single, double.astype(np.float32))


def correlation(x, y):
    return float(np.corrcoef(x, y)[0, 1])


@pytest.mark.parametrize("p", [0.01, 0.3, 0.5, 0.9])
def test_masks_have_their_mean_and_variance_and_are_independent(p, isa):
    """Bounds of five standard deviations; the draws are fixed."""
    n, s = 400_000, state(11, 0)
    first, second = native.keep_mask((n,), np.float64, s, p), native.keep_mask((n,), np.float64, s, p)
    other = native.keep_mask((n,), np.float64, state(12, 0), p)  # the next key, from the same counter
    bound = 5 / n**0.5
    for y in (first, second, other):
        z = (y - 1) * ((1 - p) / p) ** 0.5  # mean 0, variance 1 and fourth moment (1 - 3p + 3p^2) / (p (1 - p))
        assert abs(z.mean()) < bound
        assert abs((z * z).mean() - 1) < bound * ((1 - 3 * p + 3 * p * p) / (p * (1 - p)) - 1) ** 0.5 + 1e-12
        for lag in (1, 2, 3, 4, 5, 8, 16, 64, 1000):
            assert abs(correlation(y[lag:], y[:-lag])) < bound
    assert abs(correlation(first, second)) < bound
    assert abs(correlation(first, other)) < bound


def test_a_replayed_mask_is_a_fresh_one(isa):
    s, x = state(3, 0), np.arange(1.0, 50)
    y, calls, made = native.recorded(lambda: native.mul(x, native.keep_mask(x.shape, x.dtype, s, 0.5)), (), {})
    assert [c[0] for c in calls] == ["keep_mask", "mul"] and made[1] is y
    seen, twin, replay = [y.copy()], state(3, 0), native.Replay(calls)
    for _ in range(3):
        assert replay.run() == 2
        seen.append(y.copy())
    for drawn in seen:
        np.testing.assert_array_equal(drawn, x * reference.keep_mask(x.shape, x.dtype, twin, 0.5))
    assert s.tolist() == twin.tolist() == [3, 4 * 13]
    assert len({drawn.tobytes() for drawn in seen}) == 4
    for dtype, item in ((0, 4), (1, 8)):
        touched = [(r.low, r.high, r.reads, r.writes) for r in regions("keep_mask", dtype, (49,))]
        assert touched == [(0, 49 * item, False, True), (0, 16, True, True)]


# ---- threads


def large_jobs(dtype):
    """Calls that are worth several threads, through every path and family that shares its work."""
    rng = np.random.default_rng(7)
    draw = lambda *s: rng.standard_normal(s).astype(dtype)  # noqa: E731
    a, w, x, v = draw(700, 300), draw(300, 410), draw(40, 1000), draw(900, 1000)
    many, elements, h, u = draw(50, 60, 70), draw(300_001), draw(40, 900), draw(900, 900)
    row, wide, tall, bias = draw(1, 1500), draw(1500, 2011), draw(2011, 1500), draw(900)
    packed = native.pack(v.T)
    images, filters, bigger = draw(3, 40, 37, 50), draw(24, 20, 3, 3), draw(3, 24, 18, 24)
    pooled = draw(3, 24, 36, 48)
    windows = (2, 2), ((0, 1), (0, 0)), (1, 1), 2
    return {
        "straight": lambda: native.matmul(a, w),
        "columns": lambda: native.matmul(w.T, a.T),
        "transposed": lambda: native.linear_activation(x, v, bias, "tanh"),
        "packed": lambda: native.linear(x, packed, bias),
        "one row": lambda: native.matmul(row, wide),
        "one row, dots": lambda: native.matmul(row, tall.T),
        "batch": lambda: native.matmul(many, many.transpose(0, 2, 1)),
        "cell": lambda: native.rnn_cell(x, h, v, u, bias, bias, "sigmoid"),
        "projected cell": lambda: native.rnn_cell(h[:, ::-1], h, None, u, None, bias, "tanh"),
        "cell vjp": lambda: native.rnn_cell_vjp(h, h, x, h, v, u, (True,) * 5),
        "tanh": lambda: native.tanh(elements),
        "exp": lambda: native.exp(elements),
        "log": lambda: native.log(np.abs(elements)),
        "softmax": lambda: native.softmax(many, 2),
        "log_softmax": lambda: native.log_softmax(many, 1),
        "conv2d": lambda: native.conv2d(images, filters, bias[:24], *windows),
        "conv2d, one image": lambda: native.conv2d(images[:1], filters, bias[:24], *windows),
        "conv2d vjp": lambda: native.conv2d_vjp(bigger, images, filters, (True,) * 3, *windows),
        "max_pool2d": lambda: native.max_pool2d(images, (3, 2), (2, 3), (1, 0)),
        "max_pool2d vjp": lambda: native.max_pool2d_vjp(bigger, pooled, (2, 2), (2, 2), (0, 0)),
        "avg_pool2d": lambda: native.avg_pool2d(images, (3, 2), (2, 3), (1, 0), False),
        "avg_pool2d vjp": lambda: native.avg_pool2d_vjp(bigger, (3, 24, 36, 48), (2, 2), (2, 2), (0, 0), True),
        **{
            name: lambda name=name, constants=constants: getattr(native, name)(elements, *constants)
            for name, constants in (("gelu", ()), ("softplus", ()), ("elu", (1.0,)), ("hardtanh", (-1.0, 0.5)))
        },
        "layer_norm": lambda: native.layer_norm(wide, wide[0], None, 1e-5),
        "layer_norm vjp": lambda: native.layer_norm_vjp(wide, wide, wide[:, 0], wide[:, 1], wide[0], (True,) * 3),
        "moments": lambda: native.moments(wide),
        "batch_norm": lambda: native.batch_norm(wide, wide[0], np.abs(wide[1]), wide[2], wide[3], 1e-5),
        "batch_norm vjp": lambda: native.batch_norm_vjp(wide, wide, wide[0], np.abs(wide[1]), wide[2], 1e-5, True, (True,) * 3),
        "keep_mask": lambda: native.keep_mask((300_001,), dtype, state(3, 5), 0.3),
    }


def bits(results):
    return [r.tobytes() for r in (results if isinstance(results, tuple) else (results,))]


@pytest.mark.parametrize("dtype", DTYPES)
def test_any_number_of_threads_gives_the_same_bits(dtype, isa):
    jobs, before = large_jobs(dtype), native.get_num_threads()
    try:
        native.set_num_threads(1)
        expected = {name: bits(job()) for name, job in jobs.items()}
        for n in (2, 3, 7):
            native.set_num_threads(n)
            for name, job in jobs.items():
                for _ in range(3):
                    assert bits(job()) == expected[name], (name, n)
    finally:
        native.set_num_threads(before)


def test_slices_of_a_product_have_the_bits_of_the_whole(isa):
    rng = np.random.default_rng(8)
    a, b = rng.standard_normal((50, 300)).astype(np.float32), rng.standard_normal((300, 200)).astype(np.float32)
    whole = native.matmul(a, b)
    for i, j in ((0, 64), (16, 128), (32, 0)):
        np.testing.assert_array_equal(native.matmul(a[i:], b[:, j:]), whole[i:, j:])


def helpers():
    """Helper threads of this process, where the system shows them."""
    count, tasks = 0, Path("/proc/self/task")
    for task in tasks.iterdir() if tasks.is_dir() else ():
        with contextlib.suppress(OSError):  # another thread ended meanwhile
            count += task.joinpath("comm").read_text().strip() == "tgr-helper"
    return count


def test_python_threads_share_one_pool():
    """Kernels called from several Python threads at once: right results, and never more threads inside a kernel than the
    callers and one pool of helpers."""
    before, callers, limit = native.get_num_threads(), 4, 3
    try:
        jobs = list(large_jobs(np.float32).values())
        native.set_num_threads(7)
        jobs[0]()  # starts more helpers than may work below
        deadline = time.monotonic() + 20
        while Path("/proc/self/task").is_dir() and helpers() < 6 and time.monotonic() < deadline:
            time.sleep(1e-3)  # one has no name before it has been scheduled
        helpers_before = helpers()
        native.set_num_threads(limit)
        expected = [bits(job()) for job in jobs]
        wrong, most, stop = [], [0], threading.Event()

        def work(first):
            i, deadline = 0, time.monotonic() + 20
            # how many work at once is a matter of chance, above all on a busy machine: go on until it was seen
            while i < 30 or most[0] < 2 and time.monotonic() < deadline:
                at = (first + i) % len(jobs)
                if bits(jobs[at]()) != expected[at]:
                    wrong.append(at)
                i += 1

        def watch():
            while not stop.is_set():
                most[0] = max(most[0], native.threads_running())
                time.sleep(1e-4)

        watcher = threading.Thread(target=watch)
        threads = [threading.Thread(target=work, args=(i,)) for i in range(callers)]
        for t in [watcher, *threads]:
            t.start()
        for t in threads:
            t.join()
        stop.set()
        watcher.join()
        assert not wrong
        assert 1 < most[0] <= limit
        assert native.threads_running() == 0
        assert helpers() == helpers_before
    finally:
        native.set_num_threads(before)


FORK = """
import os, sys, threading
import numpy as np
from tinygrad_rnn.backends import native

native.set_num_threads(2)
a = np.random.default_rng(0).standard_normal((400, 400)).astype(np.float32)
first = native.matmul(a, a)
stop = threading.Event()


def busy():
    while not stop.is_set():
        native.matmul(a, a)


other = threading.Thread(target=busy)  # the fork may find the pool at work for a thread that does not come along
other.start()
failed = 0
for _ in range(20):
    child = os.fork()
    if child == 0:
        same = all(np.array_equal(native.matmul(a, a), first) for _ in range(3))
        tasks = "/proc/self/task"  # a helper that has been started is there, though perhaps not scheduled and named yet
        helped = not os.path.isdir(tasks) or len(os.listdir(tasks)) == 2
        os._exit((not same) + 2 * (not helped) + 4 * (native.get_num_threads() != 2))
    failed |= os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    failed |= 8 * (not np.array_equal(native.matmul(a, a), first))
stop.set()
other.join()
print("forked", failed)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_has_threads_of_its_own():
    run = subprocess.run([sys.executable, "-W", "ignore", "-c", FORK], capture_output=True, text=True, timeout=120)
    assert run.stdout.strip() == "forked 0", run.stderr


def test_the_number_of_threads():
    with pytest.raises(ValueError, match="expected at least 1, got 0"):
        tr.set_num_threads(0)
    with pytest.raises(TypeError):
        tr.set_num_threads(2.5)
    before = tr.get_num_threads()
    try:
        tr.set_num_threads(5)
        assert tr.get_num_threads() == 5 == tr.build_info()["threads"]
        tr.set_num_threads(10**12)
        assert tr.get_num_threads() == 256
    finally:
        tr.set_num_threads(before)
    code = "import tinygrad_rnn as tr; print(tr.get_num_threads())"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    for value, expected in (("3", 3), ("2,1", 2), ("", cores), ("many", cores), ("-4", 1)):
        env = {**os.environ, "OMP_NUM_THREADS": value}
        run = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
        assert run.stdout.strip() == str(expected), (value, run.stderr)


def test_kernels_run_in_many_threads_at_once():
    rng = np.random.default_rng(5)
    jobs = [
        (rng.standard_normal((80 + i, 90)).astype(np.float32), rng.standard_normal((90, 70)).astype(np.float32))
        for i in range(8)
    ]
    expected = [native.matmul(a, b) for a, b in jobs]
    wrong = []

    def work(i):
        for _ in range(50):
            if not np.array_equal(native.matmul(*jobs[i]), expected[i]):
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(jobs))]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def test_the_gil_is_released_while_a_large_kernel_runs():
    a = np.ones((1500, 1500))
    running, ticks = threading.Event(), []

    def tick():
        running.wait()
        while running.is_set():
            ticks.append(1)
            time.sleep(1e-5)  # lets the lock go, so that the main thread gets it back

    other = threading.Thread(target=tick)
    other.start()
    interval = sys.getswitchinterval()
    sys.setswitchinterval(100)  # the interpreter itself will not switch: only a released lock lets the other run
    try:
        running.set()
        before = len(ticks)
        native.matmul(a, a)
        after = len(ticks)
    finally:
        sys.setswitchinterval(interval)
        running.clear()
        other.join()
    assert after > before


def read_only(x):
    x = x.copy()
    x.flags.writeable = False
    return x


def test_wrong_arguments_never_reach_c():
    f, d, i = np.ones((2, 3), np.float32), np.ones((2, 3)), np.ones((2, 3), np.int64)
    for call, error in (
        (lambda: native.add(f, d), TypeError),
        (lambda: native.tanh(i), TypeError),
        (lambda: native.tanh([1.0]), TypeError),
        (lambda: native.add(f, None), TypeError),
        (lambda: native.tanh(f.astype(">f4")), (TypeError, ValueError)),
        (lambda: native.take(f, np.array([2])), IndexError),
        (lambda: native.take(f, np.array([-1])), IndexError),
        (lambda: native.take(f, np.array([0.0])), TypeError),
        (lambda: native.take_add(f, np.array([0, 5]), f), IndexError),
        (lambda: native.take_add(f, np.array([0]), f), ValueError),
        (lambda: native.nll(d, np.array([0, 3])), IndexError),
        (lambda: native.nll(d, np.array([0])), ValueError),
        (lambda: native.sgd(d, None, d[:1], np.zeros(4)), ValueError),
        (lambda: native.sgd(d, None, d, np.zeros(2)), ValueError),
        (lambda: native.sgd(d, 3, d, np.zeros(4)), TypeError),
        (lambda: native.sgd(f, None, d, np.zeros(4)), ValueError),
        (lambda: native.sgd(read_only(d), None, d, np.zeros(4)), ValueError),
        (lambda: native.sgd(d, read_only(d), d, np.zeros(4)), ValueError),
        (lambda: native.adam(d, d.copy(), d[:, ::2], np.zeros(()), d, np.zeros(6)), ValueError),
        (lambda: native.adam(d, d.copy(), d.copy(), np.zeros((), np.float32), d, np.zeros(6)), ValueError),
        (lambda: native.rmsprop(d, d.copy(), d[:1], None, d, np.zeros(5)), ValueError),
        (lambda: native.rmsprop(d, d.copy(), None, [1.0], d, np.zeros(5)), TypeError),
        (lambda: native.rmsprop(d, None, None, None, d, np.zeros(5)), TypeError),
        (lambda: native.rmsprop(d, d.copy(), None, None, d, np.zeros(4)), ValueError),
        (lambda: native.clip_to_value(d.T, 1.0), ValueError),
        (lambda: native.clip_to_value(i, 1.0), TypeError),
        (lambda: native.clip_to_value(read_only(d), 1.0), ValueError),
        (lambda: native.clip_to_norm(d.T, np.zeros(()), 2.0), ValueError),
        (lambda: native.clip_to_norm(d, np.zeros(1), 2.0), ValueError),
        (lambda: native.add_norm(np.zeros((), np.float32), d), ValueError),
        (lambda: native.accumulate(np.broadcast_to(d, (2, 2, 3)), np.ones((2, 2, 3))), ValueError),
        (lambda: native.sum_to(d, (3, 3)), ValueError),
        (lambda: native.relu_vjp(d, d[:1]), ValueError),
        (lambda: native.mul_vjp(d, d, d, (True,)), ValueError),
        (lambda: native.linear_vjp(d, d, d, (True, True)), ValueError),
        (lambda: native.linear_vjp(d[0], d, np.ones((3, 3)), (True, True)), ValueError),
        (lambda: native.linear_vjp(d, d, np.ones((3, 3)), (True,)), ValueError),
        (lambda: native.linear_vjp(d, d.astype(np.float32), np.ones((3, 3)), (True, True)), TypeError),
        (lambda: native.nll_vjp(d[0], np.array([0, 3, 1]), 3), IndexError),
        (lambda: native.nll_vjp(d[0], np.array([0, 1]), 3), ValueError),
        (lambda: native.nll_vjp(d[0], np.array([0, 1, 1]), -1), ValueError),
        (lambda: native.cross_entropy_vjp(d[0, :2], d, np.array([0, -1])), IndexError),
        (lambda: native.count_targets(np.array([0.5]), np.float64), TypeError),
        (lambda: native.count_targets(np.array([0]), np.int64), TypeError),
        (lambda: native.bce_with_logits(d, d[:1]), ValueError),
        (lambda: native.bce_with_logits(d, f), TypeError),
        (lambda: native.layer_norm(d[0], None, None, 1e-5), ValueError),
        (lambda: native.layer_norm(d, d[0, :2], None, 1e-5), ValueError),
        (lambda: native.layer_norm(d, None, f[0], 1e-5), TypeError),
        (lambda: native.layer_norm_vjp(d, d, d[0], d[0], None, (True,) * 3), ValueError),
        (lambda: native.layer_norm_vjp(d[:1], d, d[:, 0], d[:, 0], None, (True,) * 3), ValueError),
        (lambda: native.layer_norm_vjp(d, d, d[:, 0], d[:, 0], None, (True,) * 2), ValueError),
        (lambda: native.batch_norm(d, d[:, 0], d[0], None, None, 1e-5), ValueError),
        (lambda: native.batch_norm_vjp(d, d, d[0], d[0], d, 1e-5, True, (True,) * 3), ValueError),
        (lambda: native.track_moments(d[0].copy(), d[0].copy(), None, d[0], d[0], 1, 0.1), ValueError),
        (lambda: native.track_moments(d[0].copy(), d[0].copy(), None, d[0], d[0], 2, -1.0), ValueError),
        (lambda: native.track_moments(d[0].copy(), d[0].copy(), np.zeros(()), d[0], d[0], 2, 0.1), ValueError),
        (lambda: native.track_moments(d[0].copy(), d[0, :2].copy(), None, d[0], d[0], 2, 0.1), ValueError),
        (lambda: native.track_moments(np.broadcast_to(1.0, 3), d[0].copy(), None, d[0], d[0], 2, 0.1), ValueError),
        (lambda: native.keep_mask((3,), np.int64, state(0, 0), 0.5), TypeError),
        (lambda: native.keep_mask((-1,), np.float32, state(0, 0), 0.5), ValueError),
        (lambda: native.keep_mask((3,), np.float32, state(0, 0), 1.5), ValueError),
        (lambda: native.keep_mask((3,), np.float32, state(0, 0), NAN), ValueError),
        (lambda: native.keep_mask((3,), np.float32, np.zeros(2, np.int64), 0.5), ValueError),
        (lambda: native.keep_mask((3,), np.float32, state(0, 0).astype(">u8"), 0.5), ValueError),
        (lambda: native.keep_mask((3,), np.float32, state(0), 0.5), ValueError),
        (lambda: native.keep_mask((3,), np.float32, state(0, 0, 0)[::2], 0.5), ValueError),
        (lambda: native.keep_mask((3,), np.float32, np.broadcast_to(state(1), (2,)), 0.5), ValueError),
        (lambda: native.keep_mask((3,), np.float32, None, 0.5), TypeError),
    ):
        with pytest.raises(error):
            call()


def test_instruction_sets_are_those_of_the_processor():
    try:
        with open("/proc/cpuinfo") as file:
            flags = set(re.search(r"^flags\s*:(.*)$", file.read(), re.M)[1].split())
    except (OSError, TypeError):
        pytest.skip("the system does not say what the processor runs")
    avx2, avx512 = {"avx2", "fma"}, {"avx512f", "avx512dq", "avx512bw", "avx512vl", "avx2", "fma"}
    assert tr.build_info()["isa_supported"] == ["baseline"] + ["avx2"] * (avx2 <= flags) + ["avx512"] * (avx512 <= flags)


def test_build_info_and_the_choice_of_instruction_set():
    info = tr.build_info()
    assert info["isa"] in info["isa_supported"]
    assert info["isa_compiled"][0] == "baseline"
    assert set(info["isa_supported"]) <= set(info["isa_compiled"])
    with pytest.raises(ValueError, match="unknown instruction set 'mmx'"):
        native.set_isa("mmx")
    code = "import tinygrad_rnn as tr; print(tr.build_info()['isa'])"
    run = lambda isa: subprocess.run([sys.executable, "-c", code], env={"TGR_ISA": isa}, capture_output=True, text=True)  # noqa: E731
    assert run("baseline").stdout.strip() == "baseline"
    assert "unknown instruction set 'sse9'; this build has baseline" in run("sse9").stderr
    for isa in set(info["isa_compiled"]) - set(info["isa_supported"]):
        assert "is not supported by this CPU" in run(isa).stderr
