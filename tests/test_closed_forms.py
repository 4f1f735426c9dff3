"""What is true about gradient flow, where it is known exactly. Sources are named beside each form."""

import numpy as np
import pytest

import tinygrad_rnn as tr
from tinygrad_rnn.nn.init import orthogonal

EULER = 0.57721566490153286061


def psi(x):
    """Digamma for positive multiples of 1/2 (Abramowitz & Stegun 6.3.2 to 6.3.4)."""
    n = round(2 * x)
    if n % 2 == 0:
        return -EULER + sum(1 / k for k in range(1, n // 2))
    return -EULER - 2 * np.log(2) + 2 * sum(1 / (2 * k - 1) for k in range(1, (n + 1) // 2))


def trigamma(x, terms=200_000):
    k = np.arange(terms)
    return float(np.sum(1 / (x + k) ** 2) + 1 / (x + terms))


def net(w, nonlinearity="tanh", **options):
    """An RNN with recurrent matrix w, no bias, and inputs that enter one to one."""
    n = len(w)
    rnn = tr.nn.RNN(n, n, nonlinearity=nonlinearity, bias=options.pop("bias", False), dtype="float64", seed=0, **options)
    rnn.weight_hh_l0.value[...] = w
    rnn.weight_ih_l0.value[...] = np.eye(n)
    return rnn


def last_sum(y):
    return y[-1].sum()


def temporal_jacobian(graph, of=-1, wrt=0):
    return graph.jacobian((0, of, "h"), (0, wrt, "h"))[0, :, 0]


# 1. linear, tied


@pytest.mark.parametrize("steps", [1, 5, 20])
def test_linear_jacobian_is_the_matrix_power(steps):
    rng = np.random.default_rng(0)
    w = rng.standard_normal((6, 6)) / np.sqrt(6)
    x = rng.standard_normal((steps + 1, 1, 6))
    j = temporal_jacobian(tr.trace(net(w, "identity"), x, loss=last_sum))
    expected = np.linalg.matrix_power(w, steps)
    np.testing.assert_allclose(j, expected, atol=1e-12 * np.linalg.norm(expected))
    symmetric = (w + w.T) / 2
    j = temporal_jacobian(tr.trace(net(symmetric, "identity"), x, loss=last_sum))
    singular = np.sort(np.linalg.svd(j, compute_uv=False))
    np.testing.assert_allclose(singular, np.sort(np.abs(np.linalg.eigvalsh(symmetric)) ** steps), atol=1e-12)


def test_orthogonal_linear_net_keeps_every_length():
    rng = np.random.default_rng(1)
    graph = tr.trace(net(orthogonal(rng, (8, 8)), "identity"), rng.standard_normal((200, 3, 8)), loss=last_sum)
    np.testing.assert_allclose(graph.gain().log_gain, 0, atol=1e-12)


# 2. spectral radius 0, and the gradient doubles every step


def test_nilpotent_jacobian_that_explodes():
    w = np.array([[8.0, 8.0], [-8.0, -8.0]])
    assert np.abs(np.linalg.eigvals(w)).max() < 1e-6
    fixed = np.array([0.0, np.arctanh(0.5)])  # x* = W tanh(x*) + b
    b = fixed - w @ np.tanh(fixed)
    # this net keeps pre-activations as its state: x' = W tanh(x) + b
    weight = tr.nn.Parameter(w)

    class Net(tr.nn.Module):
        def __init__(self):
            self.w = weight

        def forward(self, x):
            for t in range(21):
                with tr.scope(layer=0, t=t):
                    x = tr.linear(tr.tanh(x), self.w) + b
                    x.name = "x"
            return x

    graph = tr.trace(Net(), fixed, loss=lambda x: x[0])  # their sum is the one signal that J^T takes to 0
    np.testing.assert_allclose(graph[0, -1, "x"].value, fixed, atol=1e-6)  # an unstable fixed point: rounding grows as well
    np.testing.assert_allclose(graph.jacobian((0, 1, "x"), (0, 0, "x")), [[8, 6], [-8, -6]], rtol=1e-12)
    for lag in range(1, 8):
        norm = np.linalg.norm(graph.jacobian((0, lag, "x"), (0, 0, "x")), 2)
        assert norm == pytest.approx(np.sqrt(200) * 2.0 ** (lag - 1), rel=1e-12)
    assert graph.why().kind == "exploding"


def test_transient_growth_of_a_contraction():
    # rho = 0.9, and yet ||A^16|| = 1.0e4, ||A^128|| = 1.9e13: the numbers of the bidiagonal matrix, from its binomial powers
    a = 0.9 * (np.eye(16) + np.eye(16, k=1))
    graph = tr.trace(net(a, "identity"), np.zeros((129, 1, 16)), loss=last_sum)
    assert np.linalg.norm(temporal_jacobian(graph, of=16), 2) == pytest.approx(1.0e4, rel=0.05)
    assert np.linalg.norm(temporal_jacobian(graph, of=128), 2) == pytest.approx(1.9e13, rel=0.05)


# 3. untied Gaussian layers: mean and variance of the log gain


def test_untied_gaussian_log_gain():
    n, depth, draws = 16, 32, 300
    rng = np.random.default_rng(2)
    totals = []
    for _ in range(draws):
        mlp = tr.nn.MLP(depth + 1, n, nonlinearity="identity", bias=False, init="normal", dtype="float64", seed=rng)
        totals.append(tr.trace(mlp, np.zeros((1, n)), loss=lambda h: h[0, 0]).gain().total)
    mean = depth / 2 * (psi(n / 2) + np.log(2 / n))
    variance = depth / 4 * trigamma(n / 2)
    assert np.mean(totals) == pytest.approx(mean, abs=4 * np.sqrt(variance / draws))
    assert np.var(totals) == pytest.approx(variance, rel=4 * np.sqrt(2 / draws))


# 4. tied Gaussian: the rate tends to log rho(W)


def test_tied_gaussian_rate_is_the_log_spectral_radius():
    rng = np.random.default_rng(3)
    w = rng.standard_normal((16, 16)) / 4
    gain = tr.trace(net(w, "identity"), np.zeros((2000, 1, 16)), loss=last_sum).gain()
    rho = np.abs(np.linalg.eigvals(w)).max()
    assert (gain.log_gain[-1] - gain.log_gain[1000]) / 999 == pytest.approx(np.log(rho), abs=2e-3)


# 6. one unit: h = tanh(w h)


@pytest.mark.parametrize("w", [0.5, 0.9, 1.5, 3.0])
def test_scalar_net_at_its_fixed_point(w):
    h = 0.5
    for _ in range(5000):
        h = np.tanh(w * h)
    rnn = net(np.array([[w]]))
    graph = tr.trace(lambda x: rnn(x, np.full((1, 1, 1), h)), np.zeros((30, 1, 1)), loss=last_sum)
    slope = w * (1 - h * h)
    assert slope < 1  # below the pitchfork at w = 1 the origin attracts, above it one of two others: stable either way
    assert (abs(h) > 1e-3) == (w > 1)
    np.testing.assert_allclose(graph.gain().log_gain, np.arange(30) * np.log(slope), atol=1e-9)
    np.testing.assert_allclose(temporal_jacobian(graph), [[slope**29]], rtol=1e-9)
    # at the origin, unstable above the pitchfork, the gain is w itself
    origin = tr.trace(net(np.array([[w]])), np.zeros((30, 1, 1)), loss=last_sum).gain()
    np.testing.assert_allclose(origin.log_gain, np.arange(30) * np.log(w), atol=1e-12)


# 7. leaky linear units: eigenvalues 1 - a + a mu


@pytest.mark.parametrize("a", [0.1, 0.5, 1.0])
def test_leaky_linear_eigenvalues(a):
    rng = np.random.default_rng(4)
    w = tr.nn.Linear(5, 5, bias=False, dtype="float64", seed=rng)

    def model(h):
        for t in range(3):
            with tr.scope(layer=0, t=t):
                h = h * (1 - a) + w(h) * a
                h.name = "h"
        return h

    graph = tr.trace(model, rng.standard_normal((1, 5)), loss=lambda h: h.sum())
    eigenvalues = np.linalg.eigvals(temporal_jacobian(graph, of=1))
    expected = 1 - a + a * np.linalg.eigvals(w.weight.value)
    np.testing.assert_allclose(np.sort_complex(eigenvalues), np.sort_complex(expected), atol=1e-12)


# 11. orthogonal weights and small inputs: dynamical isometry


def test_orthogonal_weights_and_small_inputs_are_isometric():
    rng = np.random.default_rng(5)
    graph = tr.trace(net(orthogonal(rng, (16, 16))), 1e-4 * rng.standard_normal((100, 1, 16)), loss=last_sum)
    singular = np.linalg.svd(temporal_jacobian(graph), compute_uv=False)
    np.testing.assert_allclose(singular, 1, atol=2e-3)


# saturation: what the whole program measures must be right where it matters


def test_gain_of_a_saturated_float32_net_is_right():
    # one unit driven to z = 10: tanh' = 8.2e-9, where 1 - y*y in float32 is 0
    rnn = tr.nn.RNN(1, 1, bias=False)
    rnn.weight_ih_l0.value[...] = 1
    rnn.weight_hh_l0.value[...] = 1
    x = np.full((5, 1, 1), 9, np.float32)
    graph = tr.trace(rnn, x, loss=last_sum)
    z = graph[0, :, "z"].value.astype(np.float64).ravel()
    np.testing.assert_allclose(graph.gain().log_gain[1:], np.cumsum(np.log(1 / np.cosh(z[:0:-1]) ** 2)), rtol=1e-7)


# depth and time, tied and untied: fluctuations


def test_tied_fluctuations_grow_like_t_untied_like_its_root():
    n, draws = 12, 60
    rng = np.random.default_rng(6)
    spread = {}
    for steps in (9, 33):
        x = np.zeros((steps, 1, n))
        tied, untied = [], []
        for _ in range(draws):
            rnn = tr.nn.RNN(n, n, nonlinearity="identity", bias=False, init="normal", dtype="float64", seed=rng)
            tied.append(tr.trace(rnn, x, loss=lambda y: y[-1, 0, 0]).gain().total)
            untied.append(tr.trace(rnn.unroll(steps).untie(rng), x, loss=lambda y: y[-1, 0, 0]).gain().total)
        spread[steps] = np.std(tied), np.std(untied)
    assert spread[33][0] / spread[9][0] > 2.7  # 4, for T to infinity
    assert spread[33][1] / spread[9][1] == pytest.approx(2, rel=0.4)
    assert spread[33][1] == pytest.approx(np.sqrt(32 / 4 * trigamma(n / 2)), rel=4 / np.sqrt(2 * draws))
