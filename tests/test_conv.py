"""Convolution and pooling: drawn geometries, blocks of every size, special values, compiled nets, layers, and wrong input."""

import numpy as np
import pytest
from arrays import DTYPES, tolerance
from hypothesis import given
from hypothesis import strategies as st
from op_cases import conv, pool

import tinygrad_rnn as tr
from tinygrad_rnn.backends import native, reference
from tinygrad_rnn.testing import check_grads

few = st.integers(1, 3)


def pairs(values):
    return st.tuples(values, values)


@st.composite
def convolutions(draw):
    """(case, shapes) of one convolution that fits."""
    axes = draw(st.integers(1, 2))
    per_axis = lambda values: draw(st.tuples(*[values] * axes))  # noqa: E731
    groups, batch = draw(few), draw(st.integers(0, 2))
    inputs, outputs = (groups * draw(few) for _ in range(2))
    kernel, stride, dilation = per_axis(st.integers(1, 4)), per_axis(st.integers(1, 5)), per_axis(few)
    padding = per_axis(st.integers(0, 3))
    fits = [max(1, d * (k - 1) + 1 - 2 * p) for k, d, p in zip(kernel, dilation, padding, strict=True)]
    size = tuple(n + more for n, more in zip(fits, per_axis(st.integers(0, 9)), strict=True))
    x = (*draw(st.sampled_from([(), (batch,)])), inputs, *size)
    shapes = x, (outputs, inputs // groups, *kernel)
    return conv(axes, shapes, stride=stride, padding=padding, dilation=dilation, groups=groups)


@st.composite
def poolings(draw):
    axes = draw(st.integers(1, 2))
    per_axis = lambda values: draw(st.tuples(*[values] * axes))  # noqa: E731
    kernel, stride = per_axis(st.integers(1, 5)), per_axis(st.integers(1, 6))
    padding = tuple(draw(st.integers(0, k // 2)) for k in kernel)
    size = tuple(max(1, k - 2 * p) + draw(st.integers(0, 9)) for k, p in zip(kernel, padding, strict=True))
    x = (*draw(st.sampled_from([(), (0,), (2,)])), draw(few), *size)
    kind = draw(st.sampled_from(["max", "avg"]))
    more = {"count_include_pad": draw(st.booleans())} if kind == "avg" else {}
    return pool(kind, axes, x, kernel_size=kernel, stride=stride, padding=padding, **more)


@given(convolutions() | poolings(), st.integers(0, 2**32 - 1))
def test_any_geometry(case, seed):
    for shapes in case.shapes:
        arrays = case.inputs(np.random.default_rng(seed), shapes)
        y, expected = case.call(*map(tr.Tensor, arrays)), case.oracle(*arrays)
        assert y.shape == expected.shape
        np.testing.assert_allclose(y.value, expected, rtol=1e-11, atol=1e-11)
        check_grads(case.call, *arrays, seed=seed)


# N, C, (H, W), O, (KH, KW), stride, padding, dilation, groups: windows of more elements than a block has rows, more channels than
# a strip, more places than a tile, rows of all lengths around the vector, and what needs no unfolding
BLOCKS = [
    (2, 2, (40, 35), 3, (30, 29), (1, 1), ((3, 2), (0, 4)), (1, 1), 1),
    (1, 2, (1, 1300), 2, (1, 1201), (2, 3), ((0, 0), (5, 0)), (1, 1), 1),
    (2, 130, (9, 7), 5, (3, 2), (1, 1), ((1, 1), (1, 0)), (1, 1), 1),
    (2, 3, (61, 67), 4, (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 1),
    (1, 70, (33, 40), 66, (1, 1), (1, 1), ((0, 0), (0, 0)), (1, 1), 1),
    (2, 6, (50, 31), 4, (2, 4), (2, 1), ((0, 3), (2, 2)), (2, 3), 2),
    (3, 600, (1, 1), 2, (1, 1), (1, 1), ((0, 0), (0, 0)), (1, 1), 1),
    *((1, 1, (3, n), 2, (2, 3), (1, 1), ((1, 0), (0, 1)), (1, 1), 1) for n in range(2, 36)),
    # lines as long as those of the input: windows wider than it, all padding on one side, a tile that ends within a line
    *(
        (2, 2, (4, n), 3, (3, 5), (1, 1), ((1, 1), sides), (1, 2), 1)
        for n in range(1, 36)
        for sides in ((4, 4), (8, 0), (0, 8))
    ),
    (1, 3, (3, 5), 2, (7, 2), (1, 1), ((5, 0), (0, 1)), (1, 1), 1),
    (1, 3, (3, 5), 2, (7, 2), (1, 1), ((0, 5), (1, 0)), (1, 1), 1),
    (2, 40, (57, 35), 3, (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 1),
]


@pytest.mark.parametrize("dtype", DTYPES)
def test_blocks_of_every_size(dtype, isa, sentinels):
    rng = np.random.default_rng(0)
    for N, C, size, O, kernel, *settings in BLOCKS:  # noqa: E741 (the sizes' usual letters)
        shapes = (N, C, *size), (O, C // settings[-1], *kernel), (O,)
        x, w, b = (rng.standard_normal(s).astype(dtype) for s in shapes)
        y = native.conv2d(x, w, b, *settings)
        g = rng.standard_normal(y.shape).astype(dtype)
        ours = y, *native.conv2d_vjp(g, x, w, (True,) * 3, *settings)
        wide = [v.astype(np.float64) for v in (x, w, b, g)]
        theirs = (
            reference.conv2d(*wide[:3], *settings),
            *reference.conv2d_vjp(wide[3], *wide[:2], (True,) * 3, *settings),
        )
        for a, e in zip(ours, theirs, strict=True):
            assert a.shape == e.shape
            assert a.dtype == dtype
            np.testing.assert_allclose(a, e, rtol=0, atol=tolerance(dtype)["rtol"] * np.abs(e).max(initial=1))
        assert native.conv2d_vjp(g, x, w, (False, False), *settings) == (None, None)


def grad_of(f, x):
    t = tr.Tensor(np.array(x, np.float64), requires_grad=True)
    y = f(t)
    y.sum().backward()
    return y.value, t.grad


@pytest.mark.parametrize("backend", ["native", "reference"])
def test_maxima_that_are_equal_or_not_finite(backend):
    inf, nan = np.inf, np.nan
    with tr.use_backend(backend):
        for x, y, gx in (
            ([[5.0, 7, 7, 7]], [[7]], [[0, 1, 0, 0]]),
            ([[1.0, nan, 2, nan]], [[nan]], [[0, 0, 0, 1]]),
            ([[nan, inf, 2, -inf]], [[nan]], [[1, 0, 0, 0]]),
            ([[-inf, -inf, -inf, -inf]], [[-inf]], [[1, 0, 0, 0]]),
        ):
            for got, expected in zip(grad_of(lambda t: tr.max_pool1d(t, 4), x), (y, gx), strict=True):
                np.testing.assert_array_equal(got, expected)
        # padding is never the maximum
        y, gx = grad_of(lambda t: tr.max_pool2d(t, 2, padding=1), np.full((1, 2, 2), -inf))
        np.testing.assert_array_equal(y, np.full((1, 2, 2), -inf))
        np.testing.assert_array_equal(gx, np.ones((1, 2, 2)))
        y, gx = grad_of(lambda t: tr.avg_pool1d(t, 2), [[nan, 1, inf, 1, 2, 4]])
        np.testing.assert_array_equal(y, [[nan, inf, 3]])
        np.testing.assert_array_equal(gx, np.full((1, 6), 0.5))


def test_nan_reaches_every_window_that_holds_it(isa):
    x = np.ones((1, 1, 7, 9), np.float32)
    x[0, 0, 3, 4] = np.nan
    y = tr.conv2d(x, np.ones((2, 1, 3, 3), np.float32), padding=1).value
    assert np.all(np.isnan(y[0, :, 2:5, 3:6]))
    assert np.isnan(y).sum() == 18


class Net(tr.nn.Module):
    """Two convolutions, pooling between and after them, and a readout."""

    def __init__(self, dtype):
        self.first = tr.nn.Conv2d(1, 4, 3, padding="same", dtype=dtype, seed=0)
        self.pool = tr.nn.MaxPool2d(2)
        self.second = tr.nn.Conv2d(4, 6, (2, 3), stride=(1, 2), padding=(0, 1), groups=2, dtype=dtype, seed=1)
        self.mean = tr.nn.AvgPool2d((3, 2), stride=1)
        self.readout = tr.nn.Linear(6, 3, dtype=dtype, seed=2)

    def forward(self, x):
        h = self.pool(tr.relu(self.first(x)))
        h = self.mean(tr.tanh(self.second(h)))
        return self.readout(h.reshape(len(x), 6))


@pytest.mark.kernels
@pytest.mark.parametrize("passes", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_compiled_net_trains_as_the_eager_one(passes, dtype):
    rng = np.random.default_rng(1)
    nets = [Net(dtype), Net(dtype)]
    optimizers = [tr.optim.Adam(net.parameters(), lr=0.01) for net in nets]

    def update_of(net, optimizer):
        def update(x, y):
            loss = tr.cross_entropy(net(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return loss

        return update

    eager, compiled = (update_of(*both) for both in zip(nets, optimizers, strict=True))
    compiled = tr.compile(compiled, passes=passes)
    for _ in range(6):
        x, y = rng.standard_normal((5, 1, 8, 8)).astype(dtype), rng.integers(0, 3, 5)
        assert compiled(x, y).item() == pytest.approx(eager(x, y).item(), rel=1e-4 if dtype == np.float32 else 1e-10)
    for a, b in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
        np.testing.assert_allclose(a.value, b.value, **tolerance(dtype, single=1e-3, double=1e-9))
        if not passes:
            np.testing.assert_array_equal(a.value, b.value)
    assert {i.kernel for i in compiled.program} >= {"conv2d", "conv2d_dw", "conv2d_dx", "max_pool2d", "avg_pool2d_vjp"}


def test_compiled_sequences():
    w = tr.nn.Conv1d(2, 3, 4, stride=2, padding=1, dilation=2, dtype="float64", seed=0)
    rng = np.random.default_rng(2)

    @tr.compile
    def step(x):
        w.zero_grad()
        y = tr.max_pool1d(tr.avg_pool1d(w(x), 2, 1), 3, padding=1)
        y.sum().backward()
        return y

    for _ in range(4):
        x = rng.standard_normal((2, 2, 21))
        y = step(x)
        grads = [p.grad.copy() for p in w.parameters()]
        w.zero_grad()
        expected = tr.max_pool1d(tr.avg_pool1d(w(tr.Tensor(x)), 2, 1), 3, padding=1)
        expected.sum().backward()
        np.testing.assert_array_equal(y.value, expected.value)
        for p, g in zip(w.parameters(), grads, strict=True):
            np.testing.assert_allclose(p.grad, g, rtol=1e-12)


def test_layers_start_as_pytorchs_and_reproducibly():
    for layer, shape, fan in (
        (tr.nn.Conv2d(4, 60, (3, 5), groups=2, seed=0), (60, 2, 3, 5), 30),
        (tr.nn.Conv1d(10, 300, 4, seed=0), (300, 10, 4), 40),
    ):
        assert layer.weight.shape == shape
        assert [n for n, _ in layer.named_parameters()] == ["weight", "bias"]
        for p in layer.parameters():
            assert 0.9 / np.sqrt(fan) < np.abs(p.value).max() <= 1 / np.sqrt(fan)
    a, b = (tr.nn.Conv2d(3, 5, 3, seed=7).state_dict() for _ in range(2))
    for name, value in a.items():
        np.testing.assert_array_equal(value, b[name])
    # a kernel of size 1 is a linear layer, draws included
    one, linear = tr.nn.Conv1d(3, 5, 1, init="normal", seed=1), tr.nn.Linear(3, 5, init="normal", seed=1)
    np.testing.assert_array_equal(one.weight.value[..., 0], linear.weight.value)
    rows = tr.nn.Conv2d(3, 5, 2, init="orthogonal", dtype="float64", seed=0).weight.value.reshape(5, 12)
    np.testing.assert_allclose(rows @ rows.T, np.eye(5), atol=1e-12)
    assert tr.nn.Conv1d(3, 5, 2, bias=False).bias is None
    assert "kernel_size=(3, 3), padding='same', groups=2" in repr(tr.nn.Conv2d(4, 6, 3, padding="same", groups=2))
    assert "kernel_size=(3,), stride=(2,)" in repr(tr.nn.AvgPool1d(3, 2))


# ---- wrong input


def image(*shape):
    return tr.Tensor(np.ones(shape))


WRONG = {
    "channels": (lambda: tr.conv2d(image(2, 3, 8, 8), image(4, 2, 3, 3)), r"conv2d: input \(2, 3, 8, 8\) .* expected 2 channels"),
    "window": (lambda: tr.conv2d(image(2, 3, 8, 8), image(4, 3, 9, 3)), r"a window 9 wide does not fit an axis of 8 .* 1 to 8"),
    "dilated": (lambda: tr.conv1d(image(3, 8), image(4, 3, 3), dilation=4), "3 wide with dilation 4"),
    "far": (lambda: tr.conv1d(image(3, 8), image(4, 3, 3), dilation=2**62), "3 wide with dilation"),
    "same": (lambda: tr.conv1d(image(3, 8), image(4, 3, 3), stride=2, padding="same"), r"'same' is for stride 1, got \(2,\)"),
    "name": (lambda: tr.conv2d(image(3, 8, 8), image(4, 3, 3, 3), padding="full"), "unknown padding 'full'"),
    "bias": (lambda: tr.conv1d(image(3, 8), image(4, 3, 3), image(3)), r"bias \(3,\) does not fit .* expected \(4,\)"),
    "groups": (lambda: tr.conv1d(image(3, 8), image(4, 1, 3), groups=3), "expected a multiple of 3 output channels"),
    "no groups": (lambda: tr.conv1d(image(3, 8), image(4, 3, 3), groups=0), "groups must be an integer, 1 or more, got 0"),
    "axes": (lambda: tr.conv2d(image(3, 8), image(4, 3, 3, 3)), r"expected \(N, C, H, W\) or \(C, H, W\)"),
    "weight": (lambda: tr.conv2d(image(3, 8, 8), image(4, 3, 3)), r"weight \(4, 3, 3\) does not fit; expected \(O, C / groups, KH, KW\)"),
    "no window": (lambda: tr.conv1d(image(3, 8), image(4, 3, 0)), "a window 0 wide does not fit"),
    "no elements": (lambda: tr.conv1d(image(3, 0), image(4, 3, 1), padding=1), "does not fit an axis of 0"),
    "stride": (lambda: tr.conv2d(image(3, 8, 8), image(4, 3, 3, 3), stride=(1, 0)), r"stride must be one integer or 2, 1 or more, got \(1, 0\)"),
    "strides": (lambda: tr.conv1d(image(3, 8), image(4, 3, 3), stride=(1, 1)), "stride must be an integer, 1 or more"),
    "padding": (lambda: tr.conv1d(image(3, 8), image(4, 3, 3), padding=-1), "padding must be an integer, 0 or more, got -1"),
    "fraction": (lambda: tr.conv1d(image(3, 8), image(4, 3, 3), stride=1.5), "stride must be an integer, 1 or more, got 1.5"),
    "half": (lambda: tr.max_pool2d(image(2, 3, 8, 8), 3, padding=2), r"padding \(2, 2\) does not fit windows \(3, 3\); .* half"),
    "pool": (lambda: tr.avg_pool2d(image(3, 8, 8), 9), "a window 9 wide does not fit an axis of 8"),
    "pool axes": (lambda: tr.max_pool1d(image(8), 2), r"expected \(N, C, L\) or \(C, L\)"),
    "pool channels": (lambda: tr.max_pool1d(image(2, 0, 8), 2), "only N may be 0"),
    "pool kernel": (lambda: tr.avg_pool1d(image(2, 8), 0), "kernel_size must be an integer, 1 or more, got 0"),
    "pool stride": (lambda: tr.avg_pool1d(image(2, 8), 2, 0), "stride must be an integer, 1 or more, got 0"),
    "layer groups": (lambda: tr.nn.Conv1d(4, 6, 3, groups=4), "Conv1d: out_channels must be a multiple of groups=4, got 6"),
    "layer same": (lambda: tr.nn.Conv2d(4, 6, 3, (2, 1), "same"), "Conv2d: padding 'same' is for stride 1"),
    "layer kernel": (lambda: tr.nn.MaxPool2d((2, 2, 2)), r"MaxPool2d: kernel_size must be one integer or 2"),
    "layer channels": (lambda: tr.nn.Conv1d(0, 6, 3), "in_channels must be a positive integer, got 0"),
}  # fmt: skip


@pytest.mark.parametrize("backend", ["native", "reference"])
@pytest.mark.parametrize("name", WRONG)
def test_what_does_not_fit_is_told_plainly(name, backend):
    call, message = WRONG[name]
    with tr.use_backend(backend), pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("backend", ["native", "reference"])
def test_dtypes_do_not_mix(backend):
    x, w = np.ones((3, 8), np.float32), image(4, 3, 3)
    with tr.use_backend(backend):
        for call in (lambda: tr.conv1d(tr.Tensor(x), w), lambda: tr.conv1d(image(3, 8), w, tr.Tensor(np.ones(4, np.float32)))):
            with pytest.raises(TypeError, match="conv1d: dtypes do not mix"):
                call()


@pytest.mark.parametrize("k", [native, reference], ids=["native", "reference"])
def test_wrong_arguments_never_reach_a_kernel(k):
    x, w, plain = np.ones((2, 4, 5, 5)), np.ones((6, 2, 3, 3)), ((1, 1), ((0, 0), (0, 0)), (1, 1))
    y = np.ones((2, 6, 3, 3))
    for call, error in (
        (lambda: k.conv2d(x, w, None, *plain, 1), ValueError),
        (lambda: k.conv2d(x, w, None, *plain, 0), ValueError),
        (lambda: k.conv2d(x[0], w, None, *plain, 2), ValueError),
        (lambda: k.conv2d(x, w, np.ones(5), *plain, 2), ValueError),
        (lambda: k.conv2d(x, w, None, (1, 0), *plain[1:], 2), ValueError),
        (lambda: k.conv2d(x, w, None, (1, 1), ((0, 0), (-1, 0)), (1, 1), 2), ValueError),
        (lambda: k.conv2d(x, w, None, *plain[:2], (2**61, 1), 2), ValueError),
        (lambda: k.conv2d(x, w[:, :, :0], None, *plain, 2), ValueError),
        (lambda: k.conv2d(x, w.astype(np.float32), None, *plain, 2), TypeError),
        (lambda: k.conv2d(x, w, np.ones(6, np.float32), *plain, 2), TypeError),
        (lambda: k.conv2d_vjp(y[:, :, :2], x, w, (True, True), *plain, 2), ValueError),
        (lambda: k.conv2d_vjp(y.astype(np.float32), x, w, (True, True), *plain, 2), TypeError),
        (lambda: k.max_pool2d(x, (6, 1), (1, 1), (0, 0)), ValueError),
        (lambda: k.max_pool2d(x, (3, 1), (1, 1), (2, 0)), ValueError),
        (lambda: k.max_pool2d(x.astype(int), (3, 1), (1, 1), (0, 0)), TypeError),
        (lambda: k.max_pool2d_vjp(x, x, (3, 1), (1, 1), (0, 0)), ValueError),
        (lambda: k.avg_pool2d(x, (3, 1), (0, 1), (0, 0), True), ValueError),
        (lambda: k.avg_pool2d_vjp(x, x.shape, (3, 1), (1, 1), (0, 0), True), ValueError),
    ):
        with pytest.raises(error):
            call()
    assert k.conv2d(x, w, None, (2**62, 2**62), *plain[1:], 2).shape == (2, 6, 1, 1)
    assert k.max_pool2d(x, (2, 2), (2**62, 1), (1, 1)).shape == (2, 4, 1, 6)
