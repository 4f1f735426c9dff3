"""Optimizers against their formulas, step by step."""

import numpy as np
import pytest

import tinygrad_rnn as tr
from tinygrad_rnn.optim import SGD, Adam, clip_grad_norm_


def quadratic(make, steps=5):
    p = tr.nn.Parameter(np.array([1.0, -2.0, 3.0]))
    optimizer = make([p])
    trail = []
    for _ in range(steps):
        optimizer.zero_grad()
        (p * p * 0.5).sum().backward()
        optimizer.step()
        trail.append(p.value.copy())
    return np.array(trail)


def test_sgd_shrinks_a_quadratic_exactly():
    np.testing.assert_allclose(quadratic(lambda p: SGD(p, 0.1))[-1], np.array([1, -2, 3]) * 0.9**5, rtol=1e-14)


def test_momentum_is_the_recurrence():
    w, v, trail = np.array([1.0, -2.0, 3.0]), 0, []
    for _ in range(5):
        v = 0.9 * v + w
        w = w - 0.1 * v
        trail.append(w)
    np.testing.assert_allclose(quadratic(lambda p: SGD(p, 0.1, momentum=0.9)), trail, rtol=1e-13)


def test_adam_is_the_recurrence():
    w, m, v, trail = np.array([1.0, -2.0, 3.0]), 0, 0, []
    for n in range(1, 6):
        m, v = 0.9 * m + 0.1 * w, 0.999 * v + 0.001 * w * w
        w = w - 0.01 * (m / (1 - 0.9**n)) / (np.sqrt(v / (1 - 0.999**n)) + 1e-8)
        trail.append(w)
    np.testing.assert_allclose(quadratic(lambda p: Adam(p, 0.01)), trail, rtol=1e-12)


def test_parameters_without_gradient_stay():
    p = tr.nn.Parameter([1.0])
    for optimizer in (SGD([p], 0.1), Adam([p])):
        optimizer.step()
    assert p.value[0] == 1


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_clipping(dtype):
    ps = [tr.nn.Parameter(np.zeros(2), dtype), tr.nn.Parameter(np.zeros(1), dtype), tr.nn.Parameter(np.zeros(3), dtype)]
    ps[0].grad, ps[1].grad = np.array([3.0, 0.0], dtype), np.array([4.0], dtype)
    assert clip_grad_norm_(ps, 10.0) == 5
    np.testing.assert_array_equal(ps[1].grad, [4])
    assert clip_grad_norm_([*ps, ps[0]], 1.0) == 5
    np.testing.assert_allclose(np.concatenate([p.grad for p in ps[:2]]), [0.6, 0, 0.8], rtol=1e-5)
    ps[0].grad[0] = np.inf
    assert clip_grad_norm_(ps, 1.0) == np.inf
    assert np.isfinite(ps[1].grad).all()
    assert clip_grad_norm_([], 1.0) == 0


@pytest.mark.parametrize(
    "call",
    [
        lambda p: SGD([], 0.1),
        lambda p: SGD([p], -0.1),
        lambda p: SGD([p], float("nan")),
        lambda p: Adam([p], betas=(0.9, 1.0)),
        lambda p: SGD([tr.Tensor([1.0])], 0.1),
        lambda p: clip_grad_norm_([p], -1),
    ],
)
def test_wrong_settings_raise(call):
    with pytest.raises((ValueError, TypeError)):
        call(tr.nn.Parameter([1.0]))
