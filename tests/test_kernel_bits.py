"""The bits of an entry depend on that entry: not on its neighbours, its place, the length or the layout of its array."""

import numpy as np
import pytest
from arrays import DTYPES

from tinygrad_rnn.backends import native
from tinygrad_rnn.compiler.instruction import _SPECS

pytest.importorskip("tinygrad_rnn._native")

COUNT = 4000
LONGEST = 67  # four vectors of the widest instruction set, and a tail

# ---- each kernel that works element by element: a function of equally long flat arrays, which returns all that it writes

ONE = (
    *("neg", "exp", "log", "sqrt", "relu", "abs", "square", "reciprocal", "rsqrt", "sign", "floor", "ceil", "exp2", "expm1"),
    *("sinh", "cosh", "log1p", "log2", "log10", "logsigmoid", "arcsinh", "arccosh", "arctanh", "arcsin", "arccos", "arctan"),
    *("softsign", "sin", "cos", "tan", "log1p_dx", "arcsin_dx", "arctan_dx", "arcsinh_dx", "arccosh_dx", "arctanh_dx"),
    *("softsign_dx", "tanh", "sigmoid", "erf", "gelu", "gelu_tanh", "silu", "softplus", "nonzero"),
)
WITH_NUMBERS = {"scale": (0.3,), "clip": (-0.5, 0.7), "elu": (1.3,), "leaky_relu": (0.3,), "hardtanh": (-0.5, 0.7), "huber": (0.6, 1.7)}  # fmt: skip
TWO = (
    *("add", "sub", "mul", "div", "pow", "pow_dbase", "pow_dexponent", "equal", "maximum", "minimum", "maximum_da"),
    *("logaddexp", "logaddexp_da", "arctan2", "hypot", "div_or_zero"),
)
PAIRED = {"relu_vjp": (), "clip_vjp": (-0.5, 0.7), "bce_with_logits": ()}
ROWS = {"lstm_state": 4, "lstm_state_vjp": 5, "addcmul": 3, "addcmul_vjp": 3, "lerp": 3, "lerp_vjp": 4}
MOVED = {"copy", "fill"}  # no arithmetic


def in_place(f, written):
    """f on copies of its first arguments, which it writes to: (copies after it)."""

    def call(*arrays):
        made = [x.copy() for x in arrays[:written]]
        f(*made, *arrays[written:])
        return tuple(made)

    return call


def rows(name):
    def call(*arrays):
        out = getattr(native, name)(*[x[None] for x in arrays])
        return tuple(y[0] for y in (out if isinstance(out, tuple) else (out,)))

    return call


def settings(*numbers):
    return np.array(numbers)


def adam(w, m, v, g):
    native.adam(w, m, np.abs(v, out=v), np.array(3.0), g, settings(0.1, 0.9, 0.99, 1e-8, 0.01, 0.1))


def rmsprop(w, v, mean, b, g):
    native.rmsprop(w, np.abs(v, out=v), mean, b, g, settings(0.1, 0.9, 1e-8, 0.01, 0.5))


def each(f):
    return lambda *arrays: y if isinstance(y := f(*arrays), tuple) else (y,)


def with_numbers(f, numbers):
    return each(lambda *arrays: f(*arrays, *numbers))


# by kernel: the function, and how many arrays it takes
KERNELS = {
    **{name: (with_numbers(getattr(native, name), ()), 1) for name in ONE},
    **{name: (with_numbers(getattr(native, name), numbers), 1) for name, numbers in WITH_NUMBERS.items()},
    **{name: (with_numbers(getattr(native, name), ()), 2) for name in TWO},
    **{name: (with_numbers(getattr(native, name), numbers), 2) for name, numbers in PAIRED.items()},
    **{name: (rows(name), count) for name, count in ROWS.items()},
    "put_where_not": (each(lambda a, x, y: native.where(a > 0, x, y)), 3),
    "accumulate": (in_place(native.accumulate, 1), 2),
    "clip_to_value": (in_place(lambda x: native.clip_to_value(x, 0.6), 1), 1),
    "clip_to_norm": (in_place(lambda x: native.clip_to_norm(x, np.array(3.7), 1.3), 1), 1),
    "sgd": (in_place(lambda w, v, g: native.sgd(w, v, g, settings(0.1, 0.9, 0.01, 1)), 2), 3),
    "sgd plain": (in_place(lambda w, g: native.sgd(w, None, g, settings(0.1, 0, 0.01, 0)), 1), 2),
    "adam": (in_place(adam, 3), 4),
    "rmsprop": (in_place(rmsprop, 4), 5),
    "track_moments": (in_place(lambda m, v, x, y: native.track_moments(m, v, None, x, np.abs(y), 5, 0.1), 2), 4),
    "batch_norm": (each(lambda x, m, v, w, b: native.batch_norm(x[None], m, np.abs(v), w, b, 1e-5)[0]), 5),
}
# sums, products of matrices, what is drawn or moved from elsewhere; lstm_gates is sigmoid and tanh
NOT_BY_ELEMENT = MOVED | {
    *("matmul", "pack", "rnn_cell", "rnn_cell_vjp", "lstm_gates", "select_steps", "mask_steps", "conv2d", "conv2d_dx"),
    *("conv2d_dw", "max_pool2d", "avg_pool2d", "max_pool2d_vjp", "avg_pool2d_vjp", "sum", "max", "min", "prod", "logsumexp"),
    *("softmax", "log_softmax", "cumsum", "cumprod", "cumprod_vjp", "nll", "nll_vjp", "cross_entropy_vjp", "count_targets"),
    *("layer_norm", "layer_norm_vjp", "moments", "batch_norm_vjp", "take", "take_add", "add_norm", "keep_mask"),
}


def test_every_kernel_is_here():
    assert {name.split()[0] for name in KERNELS} | NOT_BY_ELEMENT == set(_SPECS)


def arguments(name, count, dtype):
    """Arrays of numbers of all sizes, and of those where most functions change their way."""
    rng = np.random.default_rng(11)

    def draw():
        parts = [
            rng.uniform(-1, 1, COUNT),
            rng.uniform(-9, 9, COUNT // 2),
            rng.standard_normal(COUNT),
            2.0 ** rng.uniform(-30, 30, COUNT // 4) * rng.choice([-1, 1], COUNT // 4),
            rng.uniform(-100, 100, COUNT // 4),
            [0.0, -0.0, 1.0, -1.0, 0.5, -0.5, np.inf, -np.inf, np.nan, 1e5, 1e30] * 3,
        ]
        return rng.permutation(np.concatenate(parts))[:COUNT].astype(dtype)

    arrays = [draw() for _ in range(count)]
    if name.startswith("pow"):
        arrays[0][: COUNT // 2] = np.abs(arrays[0][: COUNT // 2])
    return arrays


def assert_same_bits(got, expected, what):
    for y, true in zip(got, expected, strict=True):
        np.testing.assert_array_equal(y, true, err_msg=what)
        there = ~np.isnan(true)  # NaNs may differ in sign, zeros not
        np.testing.assert_array_equal(np.signbit(y[there]), np.signbit(true[there]), err_msg=what)


def one_by_one(call, arrays, stop=COUNT):
    each_ = [call(*[x[i : i + 1] for x in arrays]) for i in range(stop)]
    return [np.concatenate(parts) for parts in zip(*each_, strict=True)]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", KERNELS)
def test_an_entry_alone_and_among_others(name, dtype, isa):
    call, count = KERNELS[name]
    arrays = arguments(name, count, dtype)
    alone = one_by_one(call, arrays)
    assert_same_bits(call(*arrays), alone, "one array of all")
    at, found = 0, []
    while at < COUNT:  # lengths of 1, 2, .. LONGEST, each from another alignment on
        found.append(call(*[x[at : at + len(found) % LONGEST + 1] for x in arrays]))
        at += len(found[-1][0])
    assert_same_bits([np.concatenate(parts) for parts in zip(*found, strict=True)], alone, "in pieces")


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", TWO)
def test_an_entry_in_any_layout(name, dtype, isa):
    """Kernels of two arrays read them with gaps, and one entry for all."""
    call, _ = KERNELS[name]
    arrays = arguments(name, 2, dtype)
    alone = one_by_one(call, arrays)
    apart = [np.repeat(x, 2)[::2] for x in arrays]
    for a, b in ((apart[0], apart[1]), (apart[0], arrays[1]), (arrays[0], apart[1])):
        assert_same_bits(call(a, b), alone, "with gaps")
    for i in (3, 77, 500, 1234):
        for place in (0, 1):
            pair = [x[i] if j == place else x for j, x in enumerate(arrays)]
            for length in (LONGEST, 300):
                wide = [np.full(length, x, dtype) if np.ndim(x) == 0 else x[:length] for x in pair]
                given = [np.asarray(x) if np.ndim(x) == 0 else x[:length] for x in pair]
                expected = one_by_one(call, wide, length)
                if name == "pow" and place == 1 and pair[1] in (1, 2, 3):  # products, where the exponent is one for all
                    continue
                assert_same_bits(call(*given), expected, f"one entry for all, {pair[place]}")
