"""The kernels below the ops: accuracy against the true function, bounds, threads, and equal bits."""

import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from arrays import DTYPES, LENGTHS
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_rnn as tr
from tinygrad_rnn.backends import native, reference


def ulps(got, true, dtype):
    """Largest error in units in the last place of the true value, over normal numbers."""
    true = true.astype(np.longdouble)
    normal = np.abs(true) >= np.finfo(dtype).tiny
    spacing = np.spacing(np.abs(true[normal]).astype(dtype)).astype(np.longdouble)
    return float(np.max(np.abs(got[normal].astype(np.longdouble) - true[normal]) / spacing, initial=0))


BOUNDS = {"tanh": 45.0, "sigmoid": 80.0, "exp": 80.0}


def true_values(name, x):
    x = x.astype(np.longdouble)
    if name == "tanh":
        e = np.exp(-2 * np.abs(x))
        return np.tanh(x), 4 * e / (1 + e) ** 2
    if name == "sigmoid":
        e = np.exp(-np.abs(x))
        return np.where(x < 0, e, 1) / (1 + e), e / (1 + e) ** 2
    return (np.exp(x),)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", BOUNDS)
def test_elementary_functions_to_the_last_bits(name, dtype, isa):
    # longdouble has 64 bits of mantissa: enough to judge both types
    bound = BOUNDS[name]
    rng = np.random.default_rng(0)
    x = np.concatenate([np.linspace(-bound, bound, 200_001), rng.standard_normal(100_000), 10.0 ** rng.uniform(-30, 0, 10_000)])
    x = x.astype(dtype)
    got = getattr(native, name)(x)
    for y, true in zip(got if isinstance(got, tuple) else (got,), true_values(name, x), strict=True):
        assert ulps(y, true, dtype) <= 4.5


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


@pytest.mark.parametrize("dtype", DTYPES)
def test_matmul_over_tails_and_blocks(dtype, isa):
    rng = np.random.default_rng(1)
    # around the register tile, the depth of a packed block (256), and its rows (96, 192)
    sizes = [
        (1, 1, 1),
        (6, 16, 8),
        (7, 17, 9),
        (5, 15, 257),
        (97, 33, 256),
        (13, 8, 511),
        (193, 31, 20),
        (2, 700, 300),
        (64, 64, 64),
    ]
    for m, n, k in sizes:
        a, b, bias = (rng.standard_normal(s).astype(dtype) for s in ((m, k), (k, n), (n,)))
        true = a.astype(np.float64) @ b.astype(np.float64)
        bound = 4 * np.finfo(dtype).eps * (np.abs(a).astype(np.float64) @ np.abs(b).astype(np.float64))
        for aa in (a, np.asfortranarray(a), np.repeat(a, 2, axis=0)[::2]):
            for bb in (b, np.asfortranarray(b), b[::-1].copy()[::-1]):
                assert np.all(np.abs(native.matmul(aa, bb) - true) <= bound), (m, n, k)
        y = native.linear(a, np.ascontiguousarray(b.T), bias)
        assert np.all(np.abs(y - true - bias) <= bound + np.finfo(dtype).eps * 4 * (np.abs(bias) + 1))


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 300), st.sampled_from(DTYPES))
def test_matmul_over_drawn_sizes(m, n, k, dtype):
    rng = np.random.default_rng(2)
    a, b = rng.standard_normal((m, k)).astype(dtype), rng.standard_normal((k, n)).astype(dtype)
    np.testing.assert_allclose(native.matmul(a, b), reference.matmul(a, b), atol=2000 * np.finfo(dtype).eps)


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


def guarded(shape, dtype):
    """An array with sentinels on both sides, and the function that checks them."""
    size = int(np.prod(shape))
    whole = np.full(size + 64, 12345.0, dtype)
    whole[32 : 32 + size] = np.arange(1, size + 1) % 7

    def intact():
        return np.all(whole[:32] == 12345) and np.all(whole[32 + size :] == 12345)

    return whole[32 : 32 + size].reshape(shape), intact


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", LENGTHS)
def test_in_place_kernels_stay_in_bounds(n, dtype, isa):
    g = np.ones(n, dtype)
    for call in (
        lambda w: native.accumulate(w, g),
        lambda w: native.scale_in_place(w, 0.5),
        lambda w: native.sgd(w, None, g, 0.1, 0.0),
        lambda w: native.sgd(w, np.zeros(n, dtype), g, 0.1, 0.9),
        lambda w: native.adam(w, np.zeros(n, dtype), np.zeros(n, dtype), g, 0.1, 0.9, 0.999, 1e-8, 0.03),
    ):
        w, intact = guarded((n,), dtype)
        twin = w.copy()
        call(w)
        assert intact()
        assert n == 0 or not np.array_equal(w, twin)
    w, intact = guarded((5, n), dtype)
    native.take_add(w, np.array([4, 0, 4]), np.ones((3, n), dtype))
    assert intact()


@pytest.mark.parametrize("dtype", DTYPES)
def test_updates_agree_with_the_reference(dtype, isa):
    rng = np.random.default_rng(4)
    for n in LENGTHS:
        w, m, v, g = (rng.uniform(0.1, 1, n).astype(dtype) for _ in range(4))
        for f, args in (
            ("sgd", lambda: (w.copy(), None, g, 0.1, 0.0)),
            ("sgd", lambda: (w.copy(), m.copy(), g, 0.1, 0.9)),
            ("adam", lambda: (w.copy(), m.copy(), v.copy(), g, 0.1, 0.9, 0.999, 1e-8, 0.5)),
        ):
            ours, theirs = args(), args()
            getattr(native, f)(*ours)
            getattr(reference, f)(*theirs)
            for x, y in zip(ours, theirs, strict=True):
                if isinstance(x, np.ndarray):
                    np.testing.assert_allclose(x, y, rtol=0, atol=8 * np.finfo(dtype).eps)


def test_sum_of_squares_does_not_overflow():
    assert native.sum_of_squares(np.full(3, 1e30, np.float32)) == pytest.approx(3e60, rel=1e-6)


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
        (lambda: native.sgd(d, None, d[:1], 0.1, 0), ValueError),
        (lambda: native.adam(d, d.copy(), d[:, ::2], d, 1, 0, 0, 0, 1), ValueError),
        (lambda: native.scale_in_place(d.T, 2.0), ValueError),
        (lambda: native.accumulate(np.broadcast_to(d, (2, 2, 3)), np.ones((2, 2, 3))), ValueError),
        (lambda: native.sum_to(d, (3, 3)), ValueError),
        (lambda: native.relu_vjp(d, d[:1]), ValueError),
    ):
        with pytest.raises(error):
            call()


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
