"""Every op: values against numpy, gradients against numerical derivatives, both backends, dtypes, layouts and instruction sets."""

import inspect

import numpy as np
import pytest
from arrays import DTYPES, among_nans, broadcast_pairs, layouts, shapes, tolerance
from hypothesis import given
from hypothesis import strategies as st
from op_cases import CASES

import tinygrad_rnn as tr
from tinygrad_rnn.backends import native, reference
from tinygrad_rnn.ops import TABLE
from tinygrad_rnn.tape import Tape, record
from tinygrad_rnn.tensor import _UFUNCS
from tinygrad_rnn.testing import check_grads

by_case = pytest.mark.parametrize("case", CASES, ids=str)


def leaves(arrays):
    return [tr.Tensor(a, requires_grad=True) for a in arrays]


def test_every_op_has_a_case_and_a_function():
    assert {c.op for c in CASES} == set(TABLE)
    indexing = {"index", "take"}  # spelled x[...]
    assert set(TABLE) - indexing == set(tr.functions.__all__)


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
    """The same for sums of two products, or of a sum and a product, of numbers of at most 2: two units for every operation."""
    return 32.0, [32 * np.abs(g)] * len(arrays)


ROUNDING = {
    "rnn_cell": rnn_cell_rounding,
    "lstm_gates": lambda arrays, g: (4.0, [4 * np.abs(g)]),
    **dict.fromkeys(("lstm_state", "addcmul", "lerp"), products_rounding),
}


def composed(tensor):
    """The value of a fused node, recorded anew from its inputs through the ops it stands for."""
    apply = lambda op, *inputs, **params: record(tr.Tensor, op, inputs, params)  # noqa: E731
    return tensor.op.composed(apply, *tensor.inputs, **tensor.params)


@pytest.mark.parametrize("case", [c for c in CASES if TABLE[c.op].composed], ids=str)
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
    assert cells == {name for name, op in TABLE.items() if op.composed} == set(ROUNDING)


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

POINTWISE = {c.op: c for c in CASES if TABLE[c.op].forward.__module__.endswith((".pointwise", ".elementary")) and not c.label}
BINARY = {name: c for name, c in POINTWISE.items() if len(c.shapes[0]) == 2 and name != "where"}
UNARY = {name: c for name, c in POINTWISE.items() if len(c.shapes[0]) == 1}


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


# ---- wrong input

WRONG = {
    "add": (lambda: tr.Tensor(np.ones((3, 4))) + np.ones((2, 4)), r"add: shapes \(3, 4\) and \(2, 4\) do not broadcast"),
    "matmul": (lambda: tr.matmul(np.ones((3, 4)), np.ones((3, 4))), r"matmul: shapes \(3, 4\) and \(3, 4\)"),
    "matmul 1-D": (lambda: tr.matmul(np.ones(3), np.ones((3, 4))), r"matmul: shapes \(3,\)"),
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
                 lambda: tr.mse_loss(x, y), lambda: tr.matmul(np.ones((1, 1), np.float32), np.ones((1, 1)))):  # fmt: skip
        with tr.use_backend(backend), pytest.raises(TypeError, match="do not mix.*float32.*float64"):
            call()


def test_targets_must_be_integers():
    with pytest.raises(TypeError, match="cross_entropy: expected integers, got float64"):
        tr.cross_entropy(np.ones((2, 3)), [0.5, 1.0])


def test_weights_of_an_embedding_have_two_axes():
    for shape in ((), (3,), (2, 2, 2)):
        with pytest.raises(tr.ShapeError, match="expected a weight"):
            tr.embedding(tr.Tensor(np.ones(shape)), np.array([0]))
    for backend in (native, reference):
        with pytest.raises(ValueError, match="0-d"):
            backend.take(np.ones(()), np.array([0]))


def test_an_unknown_reduction_is_refused():
    for call in (lambda r: tr.cross_entropy(np.ones((2, 3)), [0, 1], r), lambda r: tr.mse_loss(np.ones(2), np.ones(2), r)):
        with pytest.raises(ValueError, match="unknown reduction 'avg'; expected one of mean, sum, none"):
            call("avg")
