"""Every op: values against numpy, gradients against numerical derivatives, both backends, dtypes, layouts and instruction sets."""

import inspect

import numpy as np
import pytest
from arrays import DTYPES, among_nans, broadcast_pairs, layouts, shapes, tolerance
from hypothesis import given
from hypothesis import strategies as st
from op_cases import CASES

import tinygrad_rnn as tr
from tinygrad_rnn.backends import BACKENDS, native, reference
from tinygrad_rnn.ops import TABLE
from tinygrad_rnn.tape import Tape, record
from tinygrad_rnn.tensor import _UFUNCS
from tinygrad_rnn.testing import check_grads

by_case = pytest.mark.parametrize("case", CASES, ids=str)


def leaves(arrays):
    return [tr.Tensor(a, requires_grad=True) for a in arrays]


def test_every_op_has_a_case_and_a_function():
    functions = {*tr.functions.__all__, "trace"}  # whose name the package gives to something else
    without_gradient = {"argmax", "argmin"}
    assert set(TABLE) | functions - without_gradient == {c.op for c in CASES} | {"keep"}
    # x[...] is index or take; tril and triu are keep; functions without an op are composed of others
    assert set(TABLE) - functions == {"index", "keep"}


@by_case
@pytest.mark.parametrize("dtype", DTYPES)
def test_value_is_numpys_in_every_layout(case, dtype, isa):
    rng = np.random.default_rng(0)
    for input_shapes in case.shapes:
        arrays = case.inputs(rng, input_shapes, dtype)
        expected = np.asarray(case.oracle(*[a.astype(np.float64) for a in arrays]))
        for i, a in enumerate(arrays):
            for name, laid_out in layouts(a):
                y = case.call(*[tr.Tensor(laid_out if j == i else b) for j, b in enumerate(arrays)])
                assert y.dtype == dtype
                assert y.shape == expected.shape, (name, input_shapes)
                np.testing.assert_allclose(y.value, expected, **tolerance(dtype), err_msg=f"{name} {input_shapes}")


@by_case
def test_gradient_is_the_derivative(case):
    rng = np.random.default_rng(1)
    for input_shapes in case.shapes:
        check_grads(case.call, *case.inputs(rng, input_shapes))


@by_case
@pytest.mark.parametrize("dtype", DTYPES)
def test_cotangents_of_the_backends_agree_in_every_layout(case, dtype, isa):
    rng = np.random.default_rng(2)
    for input_shapes in case.shapes:
        arrays = case.inputs(rng, input_shapes, dtype)
        with tr.use_backend("reference"):
            expected = leaves(arrays)
            y = case.call(*expected)
            g = rng.standard_normal(y.shape).astype(dtype)
            y.backward(g)
        for name, laid_out in layouts(g):
            inputs = leaves(arrays)
            case.call(*inputs).backward(laid_out)
            for t, e in zip(inputs, expected, strict=True):
                assert t.grad.dtype == dtype
                assert t.grad.shape == t.shape
                np.testing.assert_allclose(t.grad, e.grad, **tolerance(dtype), err_msg=f"{name} {input_shapes}")


@by_case
def test_shape_rule_foretells_the_shape(case):
    rng = np.random.default_rng(3)
    for input_shapes in case.shapes:
        with Tape() as tape:
            case.call(*leaves(case.inputs(rng, input_shapes)))
        for node in tape.nodes:
            assert node.op.shape(*[x.value.shape for x in node.inputs], **node.params) == node.value.shape


@pytest.mark.kernels
def test_backends_have_the_same_functions():
    def functions(module):
        return {
            name: str(inspect.signature(f)).replace(" ", "")
            for name, f in vars(module).items()
            if callable(f)
            and not inspect.isclass(f)
            and not name.startswith("_")
            and getattr(f, "__module__", "") == module.__name__
        }

    about_the_build = {
        *("isa", "isa_names", "supported_isa_names", "set_isa", "vector_bytes", "compiler", "cache_sizes", "multiply_adds"),
        *("get_num_threads", "set_num_threads", "threads_running", "set_allocator"),
        *("recorded", "signature", "panel_columns"),
    }
    ours = {n: s for n, s in functions(native).items() if n not in about_the_build}
    assert {n: [p.split("=")[0] for p in _names(native, n)] for n in ours} == {
        n: [p.split("=")[0] for p in _names(reference, n)] for n in functions(reference)
    }


def _names(module, name):
    return [p.rstrip("_") for p in inspect.signature(getattr(module, name)).parameters]


@by_case
@pytest.mark.parametrize("dtype", DTYPES)
def test_kernels_touch_nothing_beside_their_arrays(case, dtype, isa, sentinels):
    """Outputs lie between sentinels, inputs between NaNs, all off the alignment of vectors; inputs stay as they were."""
    rng = np.random.default_rng(4)
    for input_shapes in case.shapes:
        arrays = [among_nans(a) for a in case.inputs(rng, input_shapes, dtype)]
        before = [a.copy() for a in arrays]
        inputs = leaves(arrays)
        y = case.call(*inputs)
        assert np.all(np.isfinite(y.value)) or any(0 in s for s in input_shapes)
        y.backward(np.ones_like(y.value))
        for t, a, b in zip(inputs, arrays, before, strict=True):
            np.testing.assert_array_equal(a, b)
            assert np.all(np.isfinite(t.grad))


# ---- fused ops against the ops they stand for


def rnn_cell_rounding(arrays, g, projected=False, **params):
    """How far two orders of summation may lie apart, for the value and for each input's cotangent, in units of eps: two for
    every term that is summed, which is the same sum over absolute values, and four for f and f', which are 1 at most."""
    arrays, g = [np.abs(a.astype(np.float64)) for a in arrays], np.abs(g.astype(np.float64))
    x, h, *weights = arrays
    w_ih, w_hh, *b = (None, *weights) if projected else weights
    z = 2 * ((x if projected else x @ w_ih.T) + h @ w_hh.T + sum(b))
    gz = g * (z + 4)  # |f''| <= 1
    through = lambda a, b, exact: a @ b + 2 * exact @ b  # noqa: E731
    out = {"y": z + 4, "x": gz if projected else through(gz, w_ih, g), "h": through(gz, w_hh, g)}
    grads = [out["x"], out["h"], *([] if projected else [through(gz.T, x, g.T)]), through(gz.T, h, g.T)]
    return out["y"], [*grads, *[gz.sum(0) + 2 * g.sum(0)] * len(b)]


def products_rounding(arrays, g):
    """The same for sums of two products, or of a sum and a product, of numbers of at most 2: two units for every operation; and
    two for every term where a cotangent is summed back over axes that were broadcast."""

    def summed(shape):
        out, axes = 32 * np.abs(g.astype(np.float64)), range(g.ndim - len(shape), g.ndim)
        over = (*range(g.ndim - len(shape)), *(i for i, n in zip(axes, shape, strict=True) if n == 1))
        terms = np.prod([g.shape[i] for i in over])
        return (1 + terms) * out.sum(over, keepdims=True).reshape(shape)

    return 32.0, [summed(a.shape) for a in arrays]


def layer_norm_rounding(arrays, g, shape, eps, weighted):
    """The same for a normalisation: four for every mean and for each entry that is summed, which is a mean of absolute values,
    carried through 1 / sqrt(variance + eps) by its derivative."""
    x, *affine = [a.astype(np.float64) for a in arrays]
    axes = tuple(range(x.ndim - len(shape), x.ndim))
    mean = lambda v: v.mean(axes, keepdims=True) if v.size else v  # noqa: E731
    w, b = (np.abs(affine[0]) if weighted else np.ones(shape)), (affine[-1] if len(affine) > weighted else np.zeros(shape))
    d, g = x - mean(x), np.abs(g.astype(np.float64))
    of_d = 4 * mean(np.abs(x)) + np.abs(d)
    rstd = 1 / np.sqrt(mean(d * d) + eps)
    of_rstd = rstd * (4 + rstd**2 * mean(np.abs(d) * of_d))
    z = np.abs(d) * rstd
    of_z = of_d * rstd + np.abs(d) * of_rstd + 4 * z
    gw = g * w
    along = mean(gw * z)
    of_along = 4 * along + mean(gw * of_z)
    of_gx = rstd * (4 * (gw + mean(gw) + z * along) + of_z * along + z * of_along) + of_rstd * (gw + mean(gw) + z * along)
    over = tuple(range(x.ndim - len(shape)))
    of_affine = [(g * (of_z + 4 * z)).sum(over)] * weighted + [4 * g.sum(over)] * (len(affine) - weighted)
    return of_z * w + 4 * (z * w + np.abs(b)), [of_gx, *of_affine]


def cross_entropy_rounding(arrays, g, target, **params):
    """The same for logarithms of probabilities, which are as large as the spread of the logits and the log of their number."""
    (x,) = arrays
    size = 16 * (2 * np.abs(x).max(initial=0) + np.log(x.size + 1) + 1)
    return size * max(target.size, 1), [size * np.abs(g).max(initial=0)]


ROUNDING = {
    "cross_entropy": cross_entropy_rounding,
    "rnn_cell": rnn_cell_rounding,
    "layer_norm": layer_norm_rounding,
    "lstm_gates": lambda arrays, g: (4.0, [4 * np.abs(g)]),
    **dict.fromkeys(("lstm_state", "addcmul", "lerp"), products_rounding),
}


def composed(tensor):
    """The value of a fused node, recorded anew from its inputs through the ops it stands for."""

    def apply(op, *inputs, **params):
        lifted = [tr.Tensor(np.asarray(x, tensor.dtype)) if isinstance(x, float) else x for x in inputs]
        return record(tr.Tensor, op, tuple(lifted), params)

    return tensor.op.composed(apply, *tensor.inputs, **tensor.params)


@pytest.mark.parametrize("case", [c for c in CASES if c.op in TABLE and TABLE[c.op].composed], ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_fused_ops_equal_what_they_stand_for(case, dtype, isa):
    rng = np.random.default_rng(5)
    for input_shapes in case.shapes:
        arrays = case.inputs(rng, input_shapes, dtype)
        inputs = leaves(arrays)
        y = case.call(*inputs)
        g = np.asarray(rng.standard_normal(y.shape), dtype)
        z = composed(y)
        of_value, of_grads = ROUNDING[case.op](arrays, g, **y.params)
        eps = np.finfo(dtype).eps
        assert np.all(np.abs(y.value - z.value) <= eps * of_value)
        z.backward(g)
        expected = [t.grad for t in inputs]
        for t in inputs:
            t.grad = None
        y.backward(g)
        for t, e, bound in zip(inputs, expected, of_grads, strict=True):
            assert np.all(np.abs(t.grad - e) <= eps * bound), (input_shapes, t.shape)


def test_every_op_of_cells_has_a_composition_and_a_bound():
    cells = {name for name, op in TABLE.items() if op.forward.__module__.endswith(".cells")}
    assert cells <= {name for name, op in TABLE.items() if op.composed} == set(ROUNDING)


@given(st.integers(1, 6), st.integers(1, 9), st.integers(1, 20), st.sampled_from(["tanh", "relu", "sigmoid", "identity"]))
def test_a_fused_cell_over_drawn_sizes_steps_like_the_module(batch, features, hidden, activation):
    rng = np.random.default_rng(6)
    cell = tr.nn.RNNCell(features, hidden, nonlinearity=activation, dtype=np.float64, seed=0)
    x, h = (
        rng.standard_normal((4, batch, features)),
        tr.Tensor(rng.standard_normal((batch, hidden)), requires_grad=True),
    )
    slow = fast = h
    for step in x:
        slow = cell(tr.Tensor(step), slow)
        fast = tr.rnn_cell(step, fast, cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh, activation)
    np.testing.assert_allclose(fast.value, slow.value, rtol=1e-12, atol=1e-12)
    g, grads = rng.standard_normal(h.shape), []
    for last in (slow, fast):
        cell.zero_grad()
        h.grad = None
        last.backward(g)
        grads.append([h.grad, *(p.grad for p in cell.parameters())])
    for a, b in zip(*grads, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)


def test_rnn_cell_explains_what_does_not_fit():
    ones = lambda *shape: tr.Tensor(np.ones(shape))  # noqa: E731
    with pytest.raises(ValueError, match=r"rnn_cell: weight_hh \(3, 4\) does not fit state \(2, 3\); expected \(3, 3\)"):
        tr.rnn_cell(ones(2, 5), ones(2, 3), ones(3, 5), ones(3, 4))
    with pytest.raises(ValueError, match=r"input \(2, 5\) and state \(4, 3\) do not fit; expected \(B, I\) and \(B, H\)"):
        tr.rnn_cell(ones(2, 5), ones(4, 3), ones(3, 5), ones(3, 3))
    with pytest.raises(ValueError, match=r"input projection \(2, 5\) does not fit state"):
        tr.rnn_cell(ones(2, 5), ones(2, 3), None, ones(3, 3))
    with pytest.raises(TypeError, match="give both biases, or none"):
        tr.rnn_cell(ones(2, 5), ones(2, 3), ones(3, 5), ones(3, 3), ones(3))
    with pytest.raises(ValueError, match="unknown activation 'swish'; expected one of tanh"):
        tr.rnn_cell(ones(2, 5), ones(2, 3), ones(3, 5), ones(3, 3), activation="swish")
    with pytest.raises(
        ValueError, match=r"weight_ih \(3, 4\) does not fit input \(2, 5\) and state \(2, 3\); expected \(3, 5\)"
    ):
        tr.rnn_cell(ones(2, 5), ones(2, 3), ones(3, 4), ones(3, 3))
    with pytest.raises(TypeError, match="the state h is missing"):
        tr.rnn_cell(ones(2, 5), None, ones(3, 5), ones(3, 3))
    with pytest.raises(ValueError, match=r"unknown activation \['tanh'\]"):
        tr.rnn_cell(ones(2, 5), ones(2, 3), ones(3, 5), ones(3, 3), activation=["tanh"])
    with pytest.raises(TypeError, match="dtypes do not mix"):
        tr.rnn_cell(ones(2, 5), ones(2, 3), tr.Tensor(np.ones((3, 5), np.float32)), ones(3, 3))


# ---- what a person would not think of


def pointwise(inputs):
    """Cases of elementwise ops of one or two inputs, which are drawn in any shape."""
    of = (".pointwise", ".elementary")
    drawn = (c for c in CASES if c.op in TABLE and TABLE[c.op].forward.__module__.endswith(of))
    return {str(c): c for c in drawn if c.op not in ("dropout", "where") and len(c.shapes[0]) == inputs}


UNARY, BINARY = pointwise(1), pointwise(2)


@given(st.sampled_from(sorted(UNARY)), shapes, st.integers(0, 2**32 - 1))
def test_unary_ops_over_drawn_shapes(op, shape, seed):
    case = UNARY[op]
    (x,) = case.inputs(np.random.default_rng(seed), [shape])
    np.testing.assert_allclose(case.call(tr.Tensor(x)).value, case.oracle(x), rtol=1e-12, atol=1e-14)
    check_grads(case.call, x, seed=seed)


@given(st.sampled_from(sorted(BINARY)), broadcast_pairs(), st.integers(0, 2**32 - 1))
def test_binary_ops_broadcast_both_ways(op, pair, seed):
    case = BINARY[op]
    x, y = case.inputs(np.random.default_rng(seed), pair)
    np.testing.assert_allclose(case.call(tr.Tensor(x), tr.Tensor(y)).value, case.oracle(x, y), rtol=1e-12, atol=1e-14)
    check_grads(case.call, x, y, seed=seed)


@given(shapes, st.data())
def test_reductions_over_drawn_axes(shape, data):
    axes = data.draw(st.none() | st.sets(st.integers(0, max(len(shape) - 1, 0)), max_size=len(shape)).map(tuple))
    if axes and max(axes) >= len(shape):
        axes = None
    keepdims = data.draw(st.booleans())
    x = np.random.default_rng(4).permutation(int(np.prod(shape))).reshape(shape) * 0.1
    empty = 0 in [shape[a] for a in (range(len(shape)) if axes is None else axes)]
    for name in ("sum", "mean", "max"):
        if empty and name != "sum":
            continue
        f = getattr(tr, name)
        np.testing.assert_allclose(
            f(tr.Tensor(x), axes, keepdims).value, getattr(np, name)(x, axis=axes, keepdims=keepdims), rtol=1e-12
        )
        check_grads(lambda t, f=f: f(t, axes, keepdims), x)


@given(st.integers(0, 3), st.integers(1, 40), st.integers(1, 40), st.integers(1, 40), st.booleans(), st.booleans())
def test_matmul_of_transposed_views(batch, m, n, k, flip_a, flip_b):
    rng = np.random.default_rng(5)
    a, b = rng.standard_normal((batch, m, k)), rng.standard_normal((batch, k, n))
    if flip_a:
        a = np.ascontiguousarray(a.transpose(0, 2, 1)).transpose(0, 2, 1)
    if flip_b:
        b = np.ascontiguousarray(b.transpose(2, 1, 0)).transpose(2, 1, 0)
    np.testing.assert_allclose(tr.matmul(a, b).value, a @ b, rtol=1e-11, atol=1e-11)
    check_grads(tr.matmul, a, b)


# ---- corner cases


def grad_of(f, *values):
    inputs = [tr.Tensor(np.array(v, np.float64), requires_grad=True) for v in values]
    f(*inputs).sum().backward()
    return [t.grad for t in inputs]


def test_ties_of_a_maximum_share_the_gradient():
    np.testing.assert_array_equal(grad_of(lambda x: x.max(), [1.0, 3.0, 3.0])[0], [0, 0.5, 0.5])


def test_ties_of_a_minimum_share_the_gradient():
    np.testing.assert_array_equal(grad_of(lambda x: x.min(0), [[1.0, 3.0], [1.0, 2.0]])[0], [[0.5, 0], [0.5, 1]])


@pytest.mark.parametrize(
    ("x", "gradient"),
    [([2, 3, 4], [12, 8, 6]), ([0, 3, 4], [12, 0, 0]), ([2, 0, 4], [0, 8, 0]), ([0, 3, 0], [0, 0, 0]), ([5], [1]), ([], [])],
)
def test_products_at_zeros(x, gradient):
    np.testing.assert_array_equal(grad_of(tr.prod, x)[0], gradient)
    np.testing.assert_array_equal(grad_of(lambda x: tr.cumprod(x)[-1:], x)[0], gradient)
    twice = np.array([x, x], float).T
    np.testing.assert_array_equal(grad_of(lambda x: tr.prod(x, 0), twice)[0], np.array([gradient] * 2).T)


def test_bounds_have_two_names():
    x = tr.Tensor(np.array([-1.0, 0.2, 3.0]))
    np.testing.assert_array_equal(tr.clip(x, min=0, max=1).value, [0, 0.2, 1])
    if np.lib.NumpyVersion(np.__version__) >= "2.1.0":
        np.testing.assert_array_equal(np.clip(x, min=0.5).value, [0.5, 0.5, 3])
    with pytest.raises(TypeError, match="clip: a bound was given by both of its names"):
        tr.clip(x, 0, min=1)


@pytest.mark.parametrize("ord", [-2, 0.5, 1, 1.5, 2, 3, np.inf])
def test_norms_of_nothing_have_gradient_0(ord):
    x = tr.Tensor(np.zeros((2, 3)), requires_grad=True)
    y = tr.norm(x, ord, 1)
    np.testing.assert_array_equal(y.value, [0, 0])
    y.sum().backward()
    np.testing.assert_array_equal(x.grad, 0)
    assert tr.norm(tr.Tensor(np.array([3.0, 0, -1])), 0).item() == 2


@pytest.mark.parametrize("backend", ["native", "reference"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("ord", [-3, -1, -0.5, 0.3, 0.5, 0.99, 1, 1.01, 2, 2.5, 7, np.inf, -np.inf])
def test_norms_where_entries_are_0_large_and_small(ord, dtype, backend):
    """Against g sign(x) (|x| / norm)^(p - 1) in long double, 0 where x or the norm is."""
    rows = np.array([[0, 0, 0, 0], [0, 3, -4, 0.5], [0, 0, 2, 0], [1e-6, 2, -3e4, 1], [-2, 1e-4, 1e-4, 5], [1, 1, 1, 1]], dtype)
    x = tr.Tensor(rows, requires_grad=True)
    with tr.use_backend(backend):
        y = tr.norm(x, ord, 1)
        y.backward(np.arange(1, 7).astype(dtype))
    a = np.abs(rows.astype(np.longdouble))
    with np.errstate(all="ignore"):
        true = np.linalg.norm(a, ord, 1)
        if np.isinf(ord):
            slope = (a == true[:, None]) / (a == true[:, None]).sum(1, keepdims=True)
        else:
            slope = np.where((a == 0) | (true[:, None] == 0), 0, (a / true[:, None]) ** np.longdouble(ord - 1))
    np.testing.assert_allclose(y.value, true, rtol=200 * np.finfo(dtype).eps)
    expected = np.arange(1, 7)[:, None] * slope * np.sign(rows)
    np.testing.assert_allclose(x.grad, expected, rtol=200 * np.finfo(dtype).eps, atol=np.finfo(dtype).tiny)


@pytest.mark.parametrize("backend", ["native", "reference"])
@pytest.mark.parametrize("ord", [-1, 0.5, 2, 3])
def test_a_norm_of_nan_has_a_gradient_of_nan(ord, backend):
    x = tr.Tensor(np.array([[1.0, np.nan], [3.0, 4.0]]), requires_grad=True)
    with tr.use_backend(backend):
        tr.norm(x, ord, 1).sum().backward()
    assert np.all(np.isnan(x.grad) == [[True, True], [False, False]])


def test_a_count_of_entries_is_seen_by_replays():
    count = tr.compile(lambda x: tr.norm(x, 0, 1))
    for x in (np.eye(3), np.ones((3, 3)), np.zeros((3, 3)), np.full((3, 3), np.nan)):
        np.testing.assert_array_equal(count(x).value, np.linalg.norm(x, 0, 1))
        assert tr.norm(x.astype(np.float32), 0, 1, True).dtype == np.float32


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("f", [tr.std, tr.norm, lambda x: tr.std(x, 0, ddof=1)])
def test_roots_at_zero_have_no_gradient(f, dtype):
    x = tr.Tensor(np.zeros(3, dtype), requires_grad=True)
    f(x).backward()
    np.testing.assert_array_equal(x.grad, np.zeros(3))


@pytest.mark.parametrize("dtype", DTYPES)
def test_equal_entries_have_no_spread(dtype):
    x = tr.Tensor(np.full((2, 7), 0.1, dtype), requires_grad=True)  # whose mean, summed, is not 0.1
    y = tr.std(x, 1)
    y.sum().backward()
    np.testing.assert_array_equal(y.value, [0, 0])
    np.testing.assert_array_equal(x.grad, np.zeros((2, 7)))


def test_a_spread_far_from_zero():
    x = np.arange(5, dtype=np.float32) + np.float32(2**20)
    np.testing.assert_allclose(tr.var(x).value, 2, rtol=1e-6)


def test_spread_without_enough_entries_is_numpys():
    with np.errstate(all="ignore"), pytest.warns(RuntimeWarning):
        for x, ddof in ((np.ones((0, 2)), 0), (np.ones((1, 2)), 1), (np.array([[1.0, 2.0], [2.0, 2.0]]), 3)):
            np.testing.assert_array_equal(tr.var(x, 0, ddof).value, np.var(x, 0, ddof=ddof))


def test_cumulations_of_a_number_are_numpys():
    for f in (np.cumsum, np.cumprod):
        for axis in (None, 0, -1):
            np.testing.assert_array_equal(f(tr.Tensor(5.0), axis=axis).value, f(5.0, axis=axis))


def test_of_an_empty_axis():
    x = tr.Tensor(np.zeros((2, 0)))
    np.testing.assert_array_equal([x.prod(1).value, x.sum(1).value], [[1, 1], [0, 0]])
    np.testing.assert_array_equal(tr.logsumexp(x, 1).value, [-np.inf] * 2)
    assert np.all(np.isnan([x.mean(1).value, x.std(1).value]))
    assert tr.softmax(x).shape == tr.log_softmax(x, 0).shape == tr.cumsum(x, 1).shape == (2, 0)
    for f in (tr.argmax, tr.argmin):
        with pytest.raises(ValueError, match="empty"):
            f(x, 1)


@pytest.mark.parametrize("dtype", DTYPES)
def test_logsumexp_and_softmax_far_out(dtype):
    x = tr.Tensor(np.array([[1e30, -1e30, 0], [-np.inf, 0, -np.inf], [-1e30, -1e30, -np.inf]], dtype), requires_grad=True)
    y = tr.logsumexp(x, 1)
    y.backward(np.ones(3, dtype))
    np.testing.assert_array_equal(y.value, np.array([1e30, 0, -1e30], dtype))
    softmax = [[1, 0, 0], [0, 1, 0], [0.5, 0.5, 0]]
    np.testing.assert_array_equal(x.grad, softmax)
    np.testing.assert_array_equal(tr.softmax(x, 1).value, softmax)
    nothing = np.full(2, -np.inf, dtype)
    assert tr.logsumexp(nothing).value == -np.inf
    assert np.all(np.isnan(tr.softmax(nothing).value))  # 0 / 0, as PyTorch


def test_triangles_keep_out_what_they_do_not_keep():
    x = np.full((3, 3), np.nan)
    np.testing.assert_array_equal(tr.tril(x).value, np.tril(x))
    np.testing.assert_array_equal(np.signbit(tr.pad(np.array([-0.0]), 1).value), [False, True, False])


def test_argmax_and_argmin_are_numpys():
    x = np.array([[1.0, 3, 3], [0, -1, -1]])
    for f in (np.argmax, np.argmin):
        for axis, keepdims in ((None, False), (0, False), (-1, True)):
            ours = f(tr.Tensor(x), axis, keepdims=keepdims)
            np.testing.assert_array_equal(ours, f(x, axis, keepdims=keepdims))
            assert ours.dtype == np.intp


@pytest.mark.kernels
def test_argmax_inside_a_compiled_function_is_refused():
    with pytest.raises(tr.CaptureError, match=r"argmax\(\) inside a compiled function"):
        tr.compile(lambda x: x * float((x * 2).argmax()))(tr.Tensor([1.0, 3.0], requires_grad=True))


VIEWS = {
    "reshape": lambda m, x: m.reshape(x, (3, 2, 2)),
    "reshape of a view": lambda m, x: m.reshape(x[:, ::2], (3, 2, 1)),
    "transpose": lambda m, x: m.transpose(x),
    "swapaxes": lambda m, x: m.swapaxes(x, 0, 1),
    "moveaxis": lambda m, x: m.moveaxis(x, 0, -1),
    "expand_dims": lambda m, x: m.expand_dims(x, (0, -1)),
    "squeeze": lambda m, x: m.squeeze(x[:1]),
    "broadcast_to": lambda m, x: m.broadcast_to(x, (2, 3, 4)),
    "flip": lambda m, x: m.flip(x),
    "split": lambda m, x: m.split(x, 2, 1)[1],
    "diagonal": lambda m, x: m.diagonal(x, 1),
    "index": lambda m, x: x[None, ::-2, ..., 1:, None],
    "an entry": lambda m, x: x[..., 1, 2],
}


@pytest.mark.parametrize("name", VIEWS)
def test_views_share_the_memory_that_numpys_do(name):
    x = np.arange(12.0).reshape(3, 4)
    ours, theirs = VIEWS[name](tr, tr.Tensor(x)).value, VIEWS[name](np, x)
    assert ours.shape == theirs.shape
    if name == "reshape of a view" and np.lib.NumpyVersion(np.__version__) < "2.1.0":
        return  # ours is a copy: numpy's reshape has no copy=False yet
    assert np.shares_memory(ours, x)
    assert ours.__array_interface__["data"][0] == theirs.__array_interface__["data"][0]
    moves = [n > 1 for n in ours.shape]  # numpy may report any stride of an axis of length 1
    assert np.array_equal(np.array(ours.strides)[moves], np.array(theirs.strides)[moves])


INDICES = [
    np.zeros(5, bool), np.zeros((5, 4), bool), [], np.array([], int), (slice(None), np.zeros(4, bool)), (None, ..., None), (...,),
    slice(None, None, -2), (slice(None, None, -1), -1), (slice(4, 1, -1), None, slice(None, None, -3)), (0, ..., None, 1),
    ([0, -1, 0], slice(None, None, -1)), ([[0], [2]], [1, 1]), (None, [1, 1, 1]), (np.array([True, False, True, False, True]), 2),
    (np.int64(2),), (slice(5, 9),), (slice(0, 0), [0]), True, (None, True),
]  # fmt: skip


@pytest.mark.parametrize("index", INDICES, ids=repr)
def test_numpys_indexing(index):
    x = np.random.default_rng(8).standard_normal((5, 4))
    for laid_out in dict(layouts(x)).values():
        np.testing.assert_array_equal(tr.Tensor(laid_out)[index].value, x[index])
    check_grads(lambda t: t[index], x)


def test_indexing_a_number():
    x = tr.Tensor(np.array(3.0), requires_grad=True)
    for index, shape in (((), ()), (..., ()), (None, (1,)), ((..., None, None), (1, 1)), (True, (1,)), (False, (0,))):
        assert x[index].shape == np.array(3.0)[index].shape == shape
    with pytest.raises(tr.ShapeError, match="too many indices"):
        x[0]
    (x[None] * 2 + x[True]).sum().backward()
    assert x.grad == 3


def test_repeated_indices_add_up():
    np.testing.assert_array_equal(grad_of(lambda x: tr.take(x, [1, 1, -1, 0]), [1.0, 2.0])[0], [1, 3])
    np.testing.assert_array_equal(grad_of(lambda x: tr.repeat(x, [0, 3]), [1.0, 2.0])[0], [0, 3])


def test_numpy_functions_give_what_ours_do():
    x, y = (tr.Tensor(np.arange(4.0).reshape(2, 2) + i, requires_grad=True) for i in range(2))
    for result, expected in [
        (np.concatenate([x, y]), np.concatenate([x.value, y.value])),
        (np.concatenate([x, np.ones((1, 2))], axis=0), np.concatenate([x.value, np.ones((1, 2))])),
        (np.stack([np.ones((2, 2)), y], 1), np.stack([np.ones((2, 2)), y.value], 1)),
        (np.sum(x), np.sum(x.value)),
        (np.sum(a=x, axis=0, keepdims=True), np.sum(x.value, 0, keepdims=True)),
        (np.mean(x, (0, 1)), np.mean(x.value, (0, 1))),
        (np.var(x, 1, ddof=1), np.var(x.value, 1, ddof=1)),
        (np.reshape(x, -1), x.value.reshape(-1)),
        (np.transpose(x, (1, 0)), x.value.T),
        (np.einsum("ij,kj", x, y), np.einsum("ij,kj", x.value, y.value)),
        (np.matmul(x, np.ones(2)), x.value @ np.ones(2)),
        (np.dot(np.ones(2), y), np.ones(2) @ y.value),
        (np.linalg.norm(x, axis=1), np.linalg.norm(x.value, axis=1)),
        (np.linalg.norm(x, 1, 0), np.linalg.norm(x.value, 1, 0)),
        (np.linalg.norm(x, np.inf), np.linalg.norm(x.value, np.inf)),
        (np.clip(x, 0.5, a_max=1), np.clip(x.value, 0.5, 1)),
        (np.pad(x, 1, "edge"), np.pad(x.value, 1, "edge")),
        (np.trace(x), np.trace(x.value)),
        (np.pad(x, 1, constant_values=2), np.pad(x.value, 1, constant_values=2)),
        (np.take(x, [0, 0], 1), np.take(x.value, [0, 0], 1)),
        (np.float32(2) * x, 2 * x.value),
        (np.ones((2, 2)) * x, x.value),
    ]:
        assert type(result) is tr.Tensor
        assert result.requires_grad
        np.testing.assert_array_equal(result.value, expected)
    assert (np.shape(x), np.ndim(x), np.size(x), np.size(x, 0)) == ((2, 2), 2, 4, 2)
    for call, what in [
        (lambda: np.sum(x, 0, np.float32), "numpy.sum does not record on a Tensor with dtype; tinygrad_rnn.sum takes a, axis, keepdims"),
        (lambda: np.mean(x, out=np.zeros(())), "with out"),
        (lambda: np.max(x, where=x.value > 0), "with where"),
        (lambda: np.concatenate([x, y], dtype=np.float32), "with dtype"),
        (lambda: np.einsum("ij", x, optimize=True), "with optimize"),
        (lambda: np.median(x), "numpy.median does not record"),
        (lambda: np.take(x, [9], mode="clip"), "with mode"),
    ]:  # fmt: skip
        with pytest.raises(TypeError, match=what):
            call()


def test_pow_at_zero():
    gx, gy = grad_of(lambda x, y: x**y, [0.0, 0.0, 0.0], [0.0, 1.0, 2.0])
    np.testing.assert_array_equal(gx, [0, 1, 0])
    np.testing.assert_array_equal(gy, [0, 0, 0])


def test_pow_of_a_negative_base():
    np.testing.assert_allclose(grad_of(lambda x: x**3, [-2.0])[0], [12])


def test_pow_where_it_is_1_and_of_negative_bases():
    x, y = [0.0, np.nan, np.inf, -3.0, -2.0, -2.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0, 3.0, -1.0, -1.0, 0.5]
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal((tr.Tensor(np.array(x)) ** np.array(y)).value, np.power(x, y))
    gx, gy = grad_of(lambda x, y: x**y, x, y)
    np.testing.assert_array_equal(gx, [0, 0, 0, 0, 12, -0.25, -np.inf, np.inf])
    np.testing.assert_array_equal(gy, [0, np.nan, np.inf, np.nan, np.nan, np.nan, -np.inf, 0])


@pytest.mark.parametrize("backend", ["native", "reference"])
def test_maximum_and_minimum_share_ties_and_pass_nan(backend):
    x, y = [1.0, 2.0, 3.0, np.nan, 0.0, np.inf], [1.0, 3.0, 2.0, 0.0, np.nan, np.inf]
    with tr.use_backend(backend):
        for f, g, first in ((tr.maximum, np.maximum, [0.5, 0, 1, 1, 1, 0.5]), (tr.minimum, np.minimum, [0.5, 1, 0, 1, 1, 0.5])):
            np.testing.assert_array_equal(f(np.array(x), np.array(y)).value, g(x, y))
            gx, gy = grad_of(f, x, y)
            np.testing.assert_array_equal(gx, first)
            np.testing.assert_array_equal(gy[:3], 1 - gx[:3])


@pytest.mark.parametrize("backend", ["native", "reference"])
def test_nothing_passes_from_the_branch_that_where_does_not_take(backend):
    with tr.use_backend(backend):
        x, y = tr.Tensor([1.0, np.nan, -0.0], requires_grad=True), tr.Tensor([np.inf, 2.0, 3.0], requires_grad=True)
        out = tr.where(np.array([True, False, True]), tr.sqrt(x), y * y)
        np.testing.assert_array_equal(out.value, [1, 4, -0.0])
        assert np.signbit(out.value[2])
        out[:2].backward(np.array([np.inf, 1.0], np.float32))
        np.testing.assert_array_equal(x.grad[:1], [np.inf])
        np.testing.assert_array_equal(y.grad[1], 4)
        g = grad_of(lambda x, y: tr.where(np.array([True, False]), x, y), [np.nan, np.nan], [np.nan, np.nan])
        np.testing.assert_array_equal(g, [[1, 0], [0, 1]])
    with pytest.raises(TypeError, match="where: expected booleans or a tensor, got int64"):
        tr.where(np.array([1, 0]), x, y)
    with pytest.raises(ValueError, match=r"where: shapes \(2,\) and \(3,\) and \(3,\) do not broadcast"):
        tr.where(np.array([True, False]), x, y)


@pytest.mark.parametrize("backend", ["native", "reference"])
def test_derivatives_where_they_are_not_defined(backend):
    with tr.use_backend(backend):
        np.testing.assert_array_equal(grad_of(abs, [0.0, -0.0, -2.0, np.nan])[0], [0, 0, -1, np.nan])
        for f in (tr.sign, tr.floor, tr.ceil):
            np.testing.assert_array_equal(grad_of(f, [0.0, 2.0, -1.5, np.nan, np.inf])[0], np.zeros(5))
        for f in (tr.hypot, tr.arctan2):
            np.testing.assert_array_equal(grad_of(f, [0.0, -0.0], [0.0, -0.0]), np.zeros((2, 2)))
        np.testing.assert_allclose(grad_of(tr.hypot, [3e300, 3e-300], [4e300, -4e-300]), [[0.6, 0.6], [0.8, -0.8]])
        np.testing.assert_allclose(
            grad_of(tr.arctan2, [3e200, 0.0], [4e200, -2.0]), [[0.16e-200, -0.5], [-0.12e-200, 0]], rtol=1e-14
        )
        np.testing.assert_array_equal(grad_of(lambda x: tr.clip(x, -1, 1), [-2.0, -1.0, 0.0, 1.0, 2.0])[0], [0, 1, 1, 1, 0])


def test_clip_takes_numbers_or_none():
    x = np.array([-np.inf, -2, np.nan, 2, np.inf], np.float32)
    for low, high in ((None, 1), (-1, None), (None, None), (1, -1), (0.1, 0.3)):
        np.testing.assert_array_equal(tr.clip(x, low, high).value, np.clip(x, low, high) if (low, high) != (None, None) else x)
    np.testing.assert_array_equal(tr.Tensor(x).clip(max=0.5).value, np.clip(x, None, np.float32(0.5)))
    with pytest.raises(TypeError, match="clip: expected a number or None, got ndarray; for arrays use maximum, minimum"):
        tr.clip(x, x, 1)


@pytest.mark.parametrize("dtype", DTYPES)
def test_logaddexp_leaves_no_range(dtype, isa):
    inf = np.inf
    x, y = np.array(
        [[-inf, 0], [inf, 0], [-inf, -inf], [inf, inf], [inf, -inf], [1e30, -1e30], [1e30, 1e30], [-1e30, -1e30], [3, 3]], dtype
    ).T
    np.testing.assert_allclose(tr.logaddexp(x, y).value, [0, inf, -inf, inf, inf, 1e30, 1e30, -1e30, 3 + np.log(2)], rtol=1e-6)
    a, b = tr.Tensor(x, requires_grad=True), tr.Tensor(y, requires_grad=True)
    tr.logaddexp(a, b).sum().backward()
    np.testing.assert_array_equal(a.grad, [0, 1, 0.5, 0.5, 1, 1, 0.5, 0.5, 0.5])
    np.testing.assert_array_equal(b.grad, 1 - a.grad)


@pytest.mark.parametrize("dtype", DTYPES)
def test_functions_of_two_numbers_at_special_values(dtype, isa):
    info = np.finfo(dtype)
    values = np.array([0, 1, 3, np.inf, np.nan, info.max, info.tiny, info.smallest_subnormal], dtype)
    x, y = np.meshgrid(np.concatenate([values, -values]), np.concatenate([values, -values]))
    with np.errstate(all="ignore"):
        for name in ("arctan2", "hypot", "maximum", "minimum"):
            ours, true = getattr(tr, name)(x, y).value, getattr(np, name)(x.astype(np.longdouble), y).astype(dtype)
            np.testing.assert_allclose(ours, true, rtol=2 * info.eps, atol=info.smallest_subnormal, err_msg=name)
            if name == "arctan2":
                np.testing.assert_array_equal(np.signbit(ours)[~np.isnan(true)], np.signbit(true)[~np.isnan(true)])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("backend", ["native", "reference"])
def test_derivatives_beside_a_zero_and_a_subnormal(backend, dtype):
    # d(y/x)/dx = -y/x^2, and the angle of (x, y) turns by -y/r^2 per dx: both are 0 at y = 0, however small x is
    small = np.array([3 * np.finfo(dtype).smallest_subnormal, np.finfo(dtype).tiny / 2, 1], dtype)
    with tr.use_backend(backend), np.errstate(over="ignore"):  # 1/x, the other derivative, is beyond every number
        for f in (tr.div, tr.arctan2):
            y, x = leaves([np.zeros(3, dtype), small])
            f(y, x).backward(np.array([1, -2, 3], dtype))
            np.testing.assert_array_equal(x.grad, np.zeros(3))


def test_numpys_functions_record():
    x, y = tr.Tensor([0.3, 0.7], requires_grad=True), np.array([0.5, 0.5], np.float32)
    for ufunc, op in _UFUNCS.items():
        if ufunc is np.matmul:
            continue
        arguments = (x, y) if ufunc.nin == 2 else (x + 1 if ufunc is np.arccosh else x,)
        out = ufunc(*arguments)
        assert out.op is op and out.dtype == np.float32
        np.testing.assert_allclose(out.value, ufunc(*[np.asarray(a) for a in arguments]), rtol=1e-5)


def test_relu_of_nan_and_zero():
    np.testing.assert_array_equal(tr.relu(np.array([np.nan, -0.0, -1.0, np.inf])).value, [np.nan, 0, 0, np.inf])
    np.testing.assert_array_equal(grad_of(tr.relu, [0.0])[0], [0])


def test_softmax_of_huge_logits():
    x = np.array([[1e30, -1e30, 0.0], [-np.inf, 0.0, 0.0]])
    np.testing.assert_allclose(tr.softmax(x).value, [[1, 0, 0], [0, 0.5, 0.5]])
    assert tr.log_softmax(x).value[0, 0] == 0


@pytest.mark.parametrize("backend", ["native", "reference"])
@pytest.mark.parametrize("loss", [tr.cross_entropy, tr.nll_loss])
def test_ignored_targets_count_nothing(loss, backend):
    x = np.array([[0.5, -1.0], [np.nan, np.inf], [2.0, 3.0]])
    with tr.use_backend(backend):
        gx = grad_of(lambda x: loss(x, [0, -100, 1]), x)[0]
        kept = [0, 2]
        np.testing.assert_array_equal(gx[1], [0, 0])
        np.testing.assert_allclose(gx[kept], grad_of(lambda x: loss(x, [0, 1]), x[kept])[0], rtol=1e-15)
        assert loss(x, [0, -100, 1]).item() == pytest.approx(loss(x[kept], [0, 1]).item())
        none = [7, 7, 7]
        assert np.isnan(loss(x, none, ignore_index=7).item())
        assert loss(x, none, "sum", ignore_index=7).item() == 0
        for reduction in ("mean", "sum", "none"):
            np.testing.assert_array_equal(
                grad_of(lambda x, r=reduction: loss(x, none, r, ignore_index=7), x)[0], np.zeros((3, 2))
            )
        with pytest.raises(IndexError, match="target -100 lies outside the 2 classes"):
            loss(x, [0, -100, 1], ignore_index=5)


@pytest.mark.parametrize("dtype", DTYPES)
def test_binary_cross_entropy_in_saturation(dtype, isa):
    x = np.array([30, -30, 80, -80, np.inf, -np.inf, 0.5], dtype)
    for sign in (1, -1):  # confident and right: the loss and its slope are the tail itself, which a difference would lose
        a, t = tr.Tensor(sign * np.abs(x), requires_grad=True), np.full(7, sign > 0, dtype)
        loss = tr.binary_cross_entropy_with_logits(a, t, "none")
        loss.backward(np.ones(7, dtype))
        tail = np.exp(-np.abs(x.astype(np.longdouble)))
        np.testing.assert_allclose(loss.value, np.log1p(tail), rtol=4 * np.finfo(dtype).eps)
        np.testing.assert_allclose(a.grad, -sign * tail / (1 + tail), rtol=4 * np.finfo(dtype).eps)
    wrong = tr.binary_cross_entropy_with_logits(x, np.array([0, 1, 0, 1, 0, 1, 0], dtype), "none").value
    np.testing.assert_allclose(wrong[:6], np.abs(x[:6]), rtol=1e-14)


def test_slopes_at_kinks_are_pytorchs():
    x = [-1.0, 0.0, 1.0]
    np.testing.assert_array_equal(grad_of(lambda x: tr.l1_loss(x, np.zeros(3), "sum"), x)[0], [-1, 0, 1])
    np.testing.assert_array_equal(grad_of(lambda x: tr.smooth_l1_loss(x, np.zeros(3), "sum", 0), x)[0], [-1, 0, 1])
    np.testing.assert_array_equal(grad_of(tr.hardtanh, x)[0], [0, 1, 0])
    np.testing.assert_array_equal(grad_of(lambda x: tr.leaky_relu(x, 0.5), x)[0], [0.5, 0.5, 1])
    np.testing.assert_array_equal(grad_of(lambda x: tr.elu(x, 2.0), [0.0])[0], [2])


def test_losses_of_what_is_not_finite():
    x = np.array([np.nan, np.inf, -np.inf])
    for loss in (tr.l1_loss, tr.huber_loss, tr.smooth_l1_loss):
        np.testing.assert_array_equal(loss(x, np.zeros(3), "none").value, [np.nan, np.inf, np.inf])
        np.testing.assert_array_equal(grad_of(lambda x, f=loss: f(x, np.zeros(3), "none"), x)[0], [np.nan, 1, -1])
        assert np.isnan(loss(np.zeros(0), np.zeros(0)).item())


@pytest.mark.parametrize("dtype", DTYPES)
def test_normalising_what_lies_far_from_zero(dtype, isa):
    """Two passes: the variance of numbers near 1000 is not the difference of two numbers near a million."""
    x = (1000 + np.random.default_rng(0).standard_normal((40, 300))).astype(dtype)
    exact = x.astype(np.longdouble)
    for y, axis in ((tr.layer_norm(x, 300), 1), (tr.batch_norm(x, training=True), 0)):
        z = (exact - exact.mean(axis, keepdims=True)) / np.sqrt(exact.var(axis, keepdims=True) + 1e-5)
        np.testing.assert_allclose(y.value, z.astype(dtype), rtol=0, atol=5000 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("backend", ["native", "reference"])
def test_equal_entries_are_normalised_to_0(backend, dtype, isa):
    """However large they are, and however their mean is rounded; one entry alone has no gradient either."""
    rng = np.random.default_rng(3)
    for n in (1, 2, 3, 7, 33, 130, 513, 2000):
        values = np.array([0.1, -3.3, 1e8 / 3, 1e-20, 123.4567, 0], dtype)[:, None]
        x, w = (tr.Tensor(v, requires_grad=True) for v in (np.repeat(values, n, 1), rng.standard_normal(n).astype(dtype)))
        with tr.use_backend(backend):
            y = tr.layer_norm(x, n, w, np.full(n, 2, dtype))
            y.backward(rng.standard_normal(y.shape).astype(dtype))
            mean, var = np.zeros(6, dtype), np.ones(6, dtype)
            z = tr.batch_norm(np.repeat(values.T, n + 1, 0), mean, var, training=True, momentum=1)
        np.testing.assert_array_equal(y.value, 2, err_msg=f"{n}")
        np.testing.assert_array_equal(w.grad, 0)
        np.testing.assert_array_equal(z.value, 0)
        np.testing.assert_array_equal((mean, var), (values[:, 0], 0 * mean))
        if n == 1:
            np.testing.assert_array_equal(x.grad, 0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_nearly_equal_entries_are_normalised(dtype, isa):
    """Rows and columns whose entries differ in their last digits, some of them among others that differ in all."""
    rng = np.random.default_rng(4)
    steps = rng.integers(-3, 4, (40, 50))
    x = (1e8 + np.spacing(dtype(1e8)).astype(np.float64) * steps).astype(dtype)
    x[::3] = rng.standard_normal((14, 50))
    for y, v, axis in ((tr.layer_norm(x, 50), x, 1), (tr.batch_norm(x.T.copy(), training=True).T, x, 1)):
        exact = v.astype(np.longdouble)
        z = (exact - exact.mean(axis, keepdims=True)) / np.sqrt(exact.var(axis, keepdims=True) + 1e-5)
        np.testing.assert_allclose(y.value, z.astype(dtype), rtol=0, atol=0.35)  # a step is .5, the mean lies between two
        np.testing.assert_allclose(y.value[::3], z[::3].astype(dtype), rtol=0, atol=200 * np.finfo(dtype).eps)


@pytest.mark.parametrize("backend", ["native", "reference"])
def test_running_statistics(backend):
    rng = np.random.default_rng(1)
    mean, var, count = np.zeros(3), np.ones(3), np.zeros((), np.int64)
    batches = [rng.standard_normal((5, 3, 2)) for _ in range(3)]
    with tr.use_backend(backend):
        for x in batches:
            tr.batch_norm(x, mean, var, training=True, momentum=None, num_batches_tracked=count)
        np.testing.assert_allclose(mean, np.mean([x.mean((0, 2)) for x in batches], 0), rtol=1e-12)
        np.testing.assert_allclose(var, np.mean([x.var((0, 2), ddof=1) for x in batches], 0), rtol=1e-12)
        assert count == 3
        before = mean.copy(), var.copy()
        tr.batch_norm(batches[0], mean, var, training=True, momentum=0.25)
        np.testing.assert_allclose(mean, 0.75 * before[0] + 0.25 * batches[0].mean((0, 2)), rtol=1e-12)
        np.testing.assert_allclose(var, 0.75 * before[1] + 0.25 * batches[0].var((0, 2), ddof=1), rtol=1e-12)
        x, w = tr.Tensor(batches[0], requires_grad=True), tr.Tensor(np.ones(3), requires_grad=True)
        kept = mean.copy(), var.copy()
        y = tr.batch_norm(x, mean, var, w)
        np.testing.assert_array_equal((mean, var), kept)
        expected, g = y.value.copy(), rng.standard_normal(y.shape)
        mean += 1  # the way back is that of the statistics that the forward pass saw
        var *= 2
        y.backward(g)
        np.testing.assert_allclose(w.grad, (g * expected).sum((0, 2)), rtol=1e-12)
        np.testing.assert_allclose(x.grad, g / np.sqrt(kept[1] + 1e-5)[:, None], rtol=1e-12)
    assert count == 3


def test_cross_entropy_of_a_confident_wrong_answer():
    loss = tr.cross_entropy(tr.Tensor([[100.0, 0.0]], requires_grad=True), [1])
    assert loss.item() == pytest.approx(100)
    loss.backward()


def test_mean_of_nothing_is_nan():
    assert np.isnan(tr.Tensor(np.zeros((0, 2))).mean().item())
    assert np.isnan(tr.mse_loss(np.zeros(0), np.zeros(0)).item())


def test_sum_of_many_float32_is_accurate():
    x = np.full(10**6, 0.1, np.float32)
    assert tr.Tensor(x).sum().item() == pytest.approx(np.sum(x.astype(np.float64)), rel=3e-7)
    column = np.full((10**5, 3), 0.1, np.float32)
    np.testing.assert_allclose(tr.Tensor(column).sum(axis=0).value, np.sum(column.astype(np.float64), 0), rtol=3e-7)


@pytest.mark.parametrize("dtype", DTYPES)
def test_nan_and_infinity_pass_as_ieee_says(dtype, isa):
    x = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0] * 7, dtype)
    with np.errstate(all="ignore"):
        for f, g in ((tr.exp, np.exp), (tr.tanh, np.tanh), (tr.log, np.log), (tr.sqrt, np.sqrt)):
            y, e = f(x).value, g(x)
            np.testing.assert_array_equal(y, e)
            np.testing.assert_array_equal(np.signbit(y[~np.isnan(y)]), np.signbit(e[~np.isnan(e)]))
    np.testing.assert_array_equal(tr.sigmoid(x).value[:5], [np.nan, 1, 0, 0.5, 0.5])
    assert np.isnan(tr.Tensor(x).max().item())


@pytest.mark.parametrize("backend", ["native", "reference"])
def test_dropout_draws_anew_and_passes_the_gradient_of_what_it_kept(backend):
    generator, x = tr.Generator(1), tr.Tensor(np.ones((30, 7)), requires_grad=True)
    with tr.use_backend(backend):
        first, second = (tr.dropout(x, 0.25, generator=generator) for _ in range(2))
        assert set(np.unique(first.value)) == {0, 1 / 0.75}
        assert not np.array_equal(first.value, second.value)
        assert generator.state.tolist() == [1, 2 * 53]  # 210 entries use 52.5 blocks
        (first * 3).sum().backward()
        np.testing.assert_array_equal(x.grad, 3 * first.value)
        single = tr.dropout(np.ones((30, 7), np.float32), 0.25, generator=tr.Generator(1))
    np.testing.assert_array_equal(single.value > 0, first.value > 0)


def test_dropout_of_nothing_and_of_everything():
    generator, x = tr.Generator(2), tr.Tensor(np.ones(5), requires_grad=True)
    assert tr.dropout(x, 0, generator=generator) is x
    assert generator.state.tolist() == [2, 0]
    y = tr.dropout(x, 1, generator=generator)
    y.sum().backward()
    np.testing.assert_array_equal([y.value, x.grad], np.zeros((2, 5)))


def test_dropout_needs_a_generator():
    for wrong in (None, 0, np.random.default_rng(0)):
        with pytest.raises(TypeError, match=f"dropout: expected a Generator, got {type(wrong).__name__}"):
            tr.dropout(np.ones(3), 0.5, generator=wrong)
    with pytest.raises(TypeError, match="generator"):
        tr.dropout(np.ones(3), 0.5)


# ---- products of gates broadcast, and take numbers


@pytest.mark.parametrize("backend", ["native", "reference"])
@pytest.mark.parametrize(("op", "count"), [(tr.addcmul, 3), (tr.lerp, 3), (tr.lstm_state, 4)])
def test_gates_of_unrelated_shapes_are_refused(op, count, backend):
    """Shapes with as many rows, or entries, among them."""
    for shape in ((6, 4), (2, 12), (24,), (3, 2, 4), (2, 4, 3), (1, 2, 2, 4)):
        for at in range(count):
            arrays = [np.ones(shape if i == at else (2, 3, 4)) for i in range(count)]
            with tr.use_backend(backend), pytest.raises(tr.ShapeError, match=f"{op.__name__}: shapes .* do not broadcast"):
                op(*leaves(arrays))


@pytest.mark.parametrize("dtype", DTYPES)
def test_gates_take_numbers(dtype):
    a, b = np.array([[1, 2], [3, 4]], dtype), np.array([0.5, -1], dtype)
    for f in (lambda v: v, tr.Tensor):  # arrays, and tensors
        for y, expected in (
            (tr.lerp(f(a), f(b), 0.25), 0.75 * a + 0.25 * b),
            (tr.lerp(0, f(b), f(a)), a * b),
            (tr.addcmul(1, f(a), 2), 1 + 2 * a),
            (tr.addcmul(f(a), f(b), f(b), value=-3), a - 3 * b * b),
            (tr.lstm_state(0.5, f(a), 2, f(b)), a * b + 1),
            (tr.add(f(a), 1.5), a + 1.5),
            (tr.mul(2, f(a)), 2 * a),
        ):
            assert y.dtype == dtype
            np.testing.assert_array_equal(y.value, expected)
    assert tr.lerp(0, 1, 0.5).shape == ()
    with pytest.raises(TypeError, match="addcmul: expected a number as value, got Tensor; multiply tensor1 by it"):
        tr.addcmul(a, a, a, value=tr.Tensor(2.0))


@pytest.mark.kernels
def test_gates_of_equal_shapes_are_one_kernel_each_way():
    x = leaves([np.ones((2, 3))] * 4)
    for op, count in ((tr.addcmul, 3), (tr.lerp, 3), (tr.lstm_state, 4)):
        y = op(*x[:count])
        for call, name in (
            (lambda: op(*x[:count]), op.__name__),
            (lambda: y.backward(np.ones((2, 3)), retain_graph=True), f"{op.__name__}_vjp"),
        ):
            with tr.use_backend("native"):
                _, calls, _ = native.recorded(call, (), {})
            assert [c[0] for c in calls if c[0] not in ("copy", "accumulate")] == [name]


# ---- wrong input

WRONG = {
    "add": (lambda: tr.Tensor(np.ones((3, 4))) + np.ones((2, 4)), r"add: shapes \(3, 4\) and \(2, 4\) do not broadcast"),
    "matmul": (lambda: tr.matmul(np.ones((3, 4)), np.ones((3, 4))), r"matmul: shapes \(3, 4\) and \(3, 4\)"),
    "matmul 1-D": (lambda: tr.matmul(np.ones(3), np.ones((4, 3))), r"matmul: shapes \(3,\) and \(4, 3\) do not multiply"),
    "matmul 0-d": (lambda: tr.matmul(np.ones(()), np.ones(3)), r"matmul: shapes \(\) and \(3,\)"),
    "min empty": (lambda: tr.Tensor(np.ones((0, 3))).min(axis=0), "min: the minimum of an empty axis does not exist"),
    "cumsum axis": (lambda: tr.cumsum(np.ones((2, 3)), 2), "cumsum: axis 2 is out of bounds"),
    "cumprod 0-d": (lambda: tr.cumprod(np.ones(()), 1), "cumprod: axis 1 is out of bounds"),
    "norm axis": (lambda: tr.norm(np.ones((2, 3)), axis=(0, -2)), "norm: axis .* names an axis twice"),
    "swapaxes": (lambda: tr.swapaxes(np.ones((2, 3)), 0, 2), "swapaxes: axis 2 is out of bounds"),
    "moveaxis": (lambda: tr.moveaxis(np.ones((2, 3)), (0, 1), 0), "moveaxis: 2 axes cannot move to 1 places"),
    "expand_dims": (lambda: tr.expand_dims(np.ones(3), 3), "expand_dims: axis 3 is out of bounds"),
    "squeeze": (lambda: tr.squeeze(np.ones((2, 1)), 0), r"squeeze: axis 0 of shape \(2, 1\) has another length than 1"),
    "broadcast_to": (lambda: tr.broadcast_to(np.ones(3), (3, 2)), "broadcast_to: .* do not broadcast"),
    "broadcast_to less": (lambda: tr.broadcast_to(np.ones((2, 3)), (1, 3)), "broadcast_to: .* does not broadcast to"),
    "split": (lambda: tr.split(np.ones(5), 2), r"split: axis 0 of shape \(5,\) does not fall into 2 equal parts"),
    "roll": (lambda: tr.roll(np.ones((2, 3)), (1, 2), (0, 1, 0)), "roll: 2 shifts do not fit 3 axes"),
    "repeat": (lambda: tr.repeat(np.ones(3), [1, 2]), "repeat: expected one number"),
    "repeat less": (lambda: tr.repeat(np.ones(3), -1), "repeat: expected one number of at least 0"),
    "tile": (lambda: tr.tile(np.ones(3), -1), "tile: reps .* negative"),
    "pad": (lambda: tr.pad(np.ones((2, 3)), ((1, 2), (3, 4), (5, 6))), "pad: widths"),
    "pad less": (lambda: tr.pad(np.ones(3), -1), "pad: expected widths that are integers of at least 0"),
    "pad mode": (lambda: tr.pad(np.ones(3), 1, "mean"), "pad: expected mode 'constant', 'edge', .*, got 'mean'"),
    "pad nothing": (lambda: tr.pad(np.ones((2, 0)), 1, "edge"), "pad: axis 1 of shape .* is empty"),
    "tril": (lambda: tr.tril(np.ones(())), "tril: expected at least one axis"),
    "norm ord": (lambda: tr.norm(np.ones((2, 3)), 2), "norm: expected an ord of matrices: 'fro', 1, -1, inf or -inf; got 2"),
    "norm of three": (lambda: tr.norm(np.ones((2, 3, 1)), 1), "norm: expected an ord of one or two axes"),
    "diagonal": (lambda: tr.diagonal(np.ones(3)), "diagonal: axis 1 is out of bounds"),
    "diagonal twice": (lambda: tr.diagonal(np.ones((3, 3)), 0, 1, -1), "diagonal: axis1 1 and axis2 -1 .* are the same"),
    "take": (lambda: tr.take(np.ones((2, 3)), [0, 3], 1), "out of bounds"),
    "dot": (lambda: tr.dot(np.ones((2, 3)), np.ones((2, 3))), "matmul: shapes"),
    "inner": (lambda: tr.inner(np.ones((2, 3)), np.ones((2, 4))), "tensordot: axes .* do not fit"),
    "tensordot": (lambda: tr.tensordot(np.ones((2, 3)), np.ones((2, 3)), 1), "tensordot: axes .* do not fit"),
    "tensordot many": (lambda: tr.tensordot(np.ones(2), np.ones(2), 2), "tensordot: 2 axes do not fit shapes"),
    "einsum": (lambda: tr.einsum("ij,jk->ik", np.ones((2, 3)), np.ones((4, 5))), "axes 'j' .* have lengths 3 and 4"),
    "einsum count": (lambda: tr.einsum("ij,jk", np.ones((2, 3))), "names 2 operands, got 1"),
    "einsum axes": (lambda: tr.einsum("ij", np.ones((2, 3, 4))), r"'ij' of 'ij' does not fit shape \(2, 3, 4\)"),
    "einsum diagonal": (lambda: tr.einsum("ii", np.ones((2, 3))), r"the axes 'i' of 'ii' differ in shape \(2, 3\)"),
    "einsum result": (lambda: tr.einsum("i->ii", np.ones(3)), "names an axis twice"),
    "einsum unknown": (lambda: tr.einsum("i->j", np.ones(3)), "or one that no operand has"),
    "einsum dots": (lambda: tr.einsum("...i->i", np.ones((2, 3))), "lacks the ellipsis"),
    "einsum letters": (lambda: tr.einsum("i1", np.ones((2, 3))), "expected letters"),
    "matmul batch": (lambda: tr.matmul(np.ones((2, 3, 4)), np.ones((3, 4, 5))), "batch axes"),
    "linear": (lambda: tr.linear(np.ones((2, 3)), tr.Tensor(np.ones((4, 5)))), r"linear: input \(2, 3\) does not fit weight \(4, 5\)"),
    "linear bias": (lambda: tr.linear(np.ones((2, 3)), tr.Tensor(np.ones((4, 3))), tr.Tensor(np.ones(3))), r"bias \(3,\)"),
    "sum axis": (lambda: tr.Tensor(np.ones((2, 3))).sum(axis=2), "axis 2 is out of bounds"),
    "sum 0-d": (lambda: tr.Tensor(np.ones(())).sum(axis=0), "out of bounds"),
    "sum twice": (lambda: tr.Tensor(np.ones((2, 3))).sum(axis=(0, -2)), "twice"),
    "max empty": (lambda: tr.Tensor(np.ones((0, 3))).max(axis=0), "empty"),
    "reshape": (lambda: tr.Tensor(np.ones((2, 3))).reshape(4, 2), r"reshape: shape \(2, 3\) with 6 entries cannot become \(4, 2\)"),
    "reshape -1": (lambda: tr.Tensor(np.ones((2, 3))).reshape(4, -1), "cannot become"),
    "transpose": (lambda: tr.Tensor(np.ones((2, 3))).transpose(0, 0), "not a permutation"),
    "transpose far": (lambda: tr.Tensor(np.ones((2, 3))).transpose(0, 5), "do not fit"),
    "index": (lambda: tr.Tensor(np.ones((2, 3)))[5], "out of bounds"),
    "index deep": (lambda: tr.Tensor(np.ones(2))[0, 0], "too many indices"),
    "index array": (lambda: tr.Tensor(np.ones(2))[[5]], "out of bounds"),
    "concatenate": (lambda: tr.concatenate([np.ones((2, 3)), np.ones((3, 3))], axis=1), "differ beside axis 1"),
    "concatenate none": (lambda: tr.concatenate([]), "nothing to join"),
    "stack": (lambda: tr.stack([np.ones(2), np.ones(3)]), r"stack: shapes \(2,\) and \(3,\) differ"),
    "softmax": (lambda: tr.softmax(np.ones(3), axis=1), "axis 1 is out of bounds"),
    "softmax 0-d": (lambda: tr.softmax(np.ones(())), "out of bounds"),
    "mse": (lambda: tr.mse_loss(np.ones((3, 1)), np.ones(3)), "differ"),
    "mse reduction": (lambda: tr.mse_loss(np.ones(3), np.ones(3), "average"), "unknown reduction 'average'"),
    "cross_entropy": (lambda: tr.cross_entropy(np.ones((3, 4)), [0, 1]), r"logits \(3, 4\) and target \(2,\)"),
    "cross_entropy class": (lambda: tr.cross_entropy(np.ones((2, 4)), [0, 4]), r"target 4 lies outside the 4 classes"),
    "cross_entropy negative": (lambda: tr.cross_entropy(np.ones((2, 4)), [0, -1]), r"target -1 lies outside"),
    "nll_loss": (lambda: tr.nll_loss(np.ones((3, 4)), [0, 1]), r"nll_loss: log-probabilities \(3, 4\) and target \(2,\)"),
    "nll_loss class": (lambda: tr.nll_loss(np.ones((2, 4)), [0, 4]), r"nll_loss: target 4 lies outside the 4 classes"),
    "l1": (lambda: tr.l1_loss(np.ones((3, 1)), np.ones(3)), r"l1_loss: input \(3, 1\) and target \(3,\) differ"),
    "huber": (lambda: tr.huber_loss(np.ones((3, 1)), np.ones(3)), "huber_loss: input"),
    "huber delta": (lambda: tr.huber_loss(np.ones(3), np.ones(3), delta=0), "huber_loss: expected delta > 0, got 0"),
    "smooth_l1": (lambda: tr.smooth_l1_loss(np.ones((3, 1)), np.ones(3)), "smooth_l1_loss: input"),
    "smooth_l1 beta": (lambda: tr.smooth_l1_loss(np.ones(3), np.ones(3), beta=-1), "smooth_l1_loss: expected beta >= 0, got -1"),
    "bce": (lambda: tr.binary_cross_entropy_with_logits(np.ones(3), np.ones(2)), "binary_cross_entropy_with_logits: input"),
    "gelu": (lambda: tr.gelu(np.ones(3), "erf"), "gelu: expected approximate 'none' or 'tanh', got 'erf'"),
    "hardtanh": (lambda: tr.hardtanh(np.ones(3), 1, 1), "hardtanh: expected min_val < max_val, got 1 and 1"),
    "layer_norm": (lambda: tr.layer_norm(np.ones((2, 3)), 2), r"layer_norm: the last axes of input \(2, 3\) are not the normalized shape \(2,\)"),
    "layer_norm none": (lambda: tr.layer_norm(np.ones((2, 3)), ()), "normalized shape"),
    "layer_norm weight": (lambda: tr.layer_norm(np.ones((2, 3)), 3, np.ones(2)), r"layer_norm: weight \(2,\) does not fit; expected \(3,\)"),
    "batch_norm": (lambda: tr.batch_norm(np.ones(3)), r"batch_norm: expected an input \(N, channels, ...\), got \(3,\)"),
    "batch_norm bias": (lambda: tr.batch_norm(np.ones((4, 3)), bias=np.ones(4)), r"batch_norm: bias \(4,\) does not fit; expected \(3,\)"),
    "batch_norm running": (lambda: tr.batch_norm(np.ones((4, 3)), np.ones(3), np.ones(1)), r"batch_norm: running_var \(1,\) does not fit"),
    "batch_norm single": (lambda: tr.batch_norm(np.ones((1, 3)), training=True), "expected more than 1 value per channel when training"),
    "dropout": (lambda: tr.dropout(np.ones(3), 1.5, generator=tr.Generator(0)), r"dropout: expected a probability p in 0..1, got 1.5"),
    "dropout negative": (lambda: tr.dropout(np.ones(3), -0.1, generator=tr.Generator(0)), "got -0.1"),
    "dropout nan": (lambda: tr.dropout(np.ones(3), np.nan, generator=tr.Generator(0)), "got nan"),
    "embedding": (lambda: tr.embedding(tr.Tensor(np.ones((4, 2))), [1, 4]), "index 4 lies outside the 4 rows"),
}  # fmt: skip


@pytest.mark.parametrize("backend", ["native", "reference"])
@pytest.mark.parametrize("name", WRONG)
def test_wrong_shapes_are_told_plainly(name, backend):
    call, message = WRONG[name]
    with tr.use_backend(backend), pytest.raises((ValueError, IndexError), match=message):
        call()


def test_an_error_says_where():
    with pytest.raises(tr.ShapeError, match="layer=1, t=7"), tr.scope(layer=1, t=7):
        tr.Tensor(np.ones(3)) + np.ones(2)


@pytest.mark.parametrize("backend", ["native", "reference"])
def test_dtypes_do_not_mix(backend):
    x, y = tr.Tensor(np.ones(3, np.float32)), tr.Tensor(np.ones(3))
    for call in (lambda: x + y, lambda: tr.concatenate([x, y]), lambda: tr.linear(x, tr.Tensor(np.ones((2, 3)))),
                 lambda: tr.mse_loss(x, y), lambda: tr.layer_norm(x, 3, y), lambda: tr.batch_norm(np.ones((2, 3), "f4"), bias=y),
                 lambda: tr.binary_cross_entropy_with_logits(x, y), lambda: tr.matmul(np.ones((1, 1), np.float32), np.ones((1, 1)))):  # fmt: skip
        with tr.use_backend(backend), pytest.raises(TypeError, match="do not mix.*float32.*float64"):
            call()


def test_targets_must_be_integers():
    with pytest.raises(TypeError, match="cross_entropy: expected integers, got float64"):
        tr.cross_entropy(np.ones((2, 3)), [0.5, 1.0])


def test_weights_of_an_embedding_have_two_axes():
    for shape in ((), (3,), (2, 2, 2)):
        with pytest.raises(tr.ShapeError, match="expected a weight"):
            tr.embedding(tr.Tensor(np.ones(shape)), np.array([0]))
    for backend in BACKENDS.values():
        with pytest.raises(ValueError, match="0-d"):
            backend.take(np.ones(()), np.array([0]))


def test_an_unknown_reduction_is_refused():
    of_classes = [lambda r, f=f: f(np.ones((2, 3)), [0, 1], r) for f in (tr.cross_entropy, tr.nll_loss)]
    names = ("mse_loss", "l1_loss", "huber_loss", "smooth_l1_loss", "binary_cross_entropy_with_logits")
    for call in [*of_classes, *[lambda r, n=n: getattr(tr, n)(np.ones(2), np.ones(2), r) for n in names]]:
        with pytest.raises(ValueError, match="unknown reduction 'avg'; expected one of mean, sum, none"):
            call("avg")


def test_linear_takes_arrays():
    x, w, b = np.ones((2, 3), np.float32), np.ones((4, 3), np.float32), np.ones(4, np.float32)
    np.testing.assert_array_equal(tr.linear(x, w, b).value, np.full((2, 4), 4, np.float32))
