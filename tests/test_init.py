"""Initial values: exact properties, moments, seeds, and what layers take as `init=`."""

import copy
import pickle

import numpy as np
import pytest

import tinygrad_rnn as tr
from tinygrad_rnn.nn import init

SHAPES = [(1, 1), (3, 5), (5, 3), (8, 8), (4, 3, 2), (3, 4, 3, 3), (16, 2, 5, 5), (2, 3, 2, 2, 2)]
WITHOUT_SETTINGS = {
    "uniform": init.uniform,
    "normal": init.normal,
    "lecun_normal": init.lecun_normal,
    "xavier_uniform": init.xavier_uniform,
    "xavier_normal": init.xavier_normal,
    "kaiming_uniform": init.kaiming_uniform,
    "kaiming_normal": init.kaiming_normal,
    "sparse": init.sparse(nonzeros=1),
    "orthogonal": init.orthogonal,
    "identity": init.identity,
    "zeros": init.zeros,
    "ones": init.ones,
}


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("draw", WITHOUT_SETTINGS.values(), ids=WITHOUT_SETTINGS)
def test_shapes_and_seeds(draw):
    for shape in SHAPES:
        x = draw(rng(), shape)
        assert x.shape == shape and x.dtype == np.float64
        np.testing.assert_array_equal(x, draw(rng(), shape))
        constant = draw in (init.identity, init.zeros, init.ones)
        assert shape == (1, 1) or constant == np.array_equal(x, draw(rng(1), shape))


@pytest.mark.parametrize("gain", [1.0, 0.5, 2**0.5])
@pytest.mark.parametrize("shape", SHAPES)
def test_orthogonal_is_orthonormal(shape, gain):
    w = init.orthogonal(gain=gain)(rng(), shape).reshape(shape[0], -1)
    small = w @ w.T if w.shape[0] <= w.shape[1] else w.T @ w
    np.testing.assert_allclose(small, gain**2 * np.eye(len(small)), atol=1e-14)


def test_orthogonal_has_no_preferred_sign():
    diagonal = np.array([np.diag(init.orthogonal(rng(seed), (4, 4))) for seed in range(400)])
    assert np.abs(diagonal.mean(0)).max() < 4 / 20 / 2  # standard error of the mean: 1/2 / 20


@pytest.mark.parametrize("size", [1, 2, 5, 40])
@pytest.mark.parametrize("radius", [0.0, 0.9, 1.0, 1.25])
def test_spectral_radius_is_exact(size, radius):
    for matrix in (init.normal, init.orthogonal, init.uniform(-1, 2), rng(5).standard_normal((size, size))):
        w = init.spectral_radius(radius, matrix)(rng(), (size, size))
        assert abs(np.abs(np.linalg.eigvals(w)).max() - radius) <= 1e-12
    w = init.spectral_radius(0.5, init.sparse(min(3, size)))(rng(3), (size, size))
    assert abs(np.abs(np.linalg.eigvals(w)).max() - 0.5) <= 1e-12
    assert np.all((w != 0).sum(1) == min(3, size))


def moments(draw, shape, mean, variance, kurtosis):
    """Mean and variance within 4 standard errors; kurtosis is the fourth moment over the variance squared."""
    x = draw(rng(7), shape)
    n = x.size
    assert abs(x.mean() - mean) <= 4 * np.sqrt(variance / n)
    assert abs(((x - mean) ** 2).mean() - variance) <= 4 * variance * np.sqrt((kurtosis - 1) / n)


@pytest.mark.parametrize("shape", [(300, 200), (200, 300), (40, 50, 5, 5)])
def test_moments(shape):
    rest = int(np.prod(shape[2:]))
    fan_in, fan_out = shape[1] * rest, shape[0] * rest
    for draw, variance in (
        (init.normal, 1 / fan_in),
        (init.lecun_normal, 1 / fan_in),
        (init.normal(std=0.3), 0.09),
        (init.xavier_normal, 2 / (fan_in + fan_out)),
        (init.xavier_normal(gain=2.0), 8 / (fan_in + fan_out)),
        (init.kaiming_normal, 2 / fan_in),
        (init.kaiming_normal(mode="fan_out", nonlinearity="relu"), 2 / fan_out),
        (init.kaiming_normal(nonlinearity="tanh"), 25 / 9 / fan_in),
    ):
        moments(draw, shape, 0, variance, 3)
    moments(init.normal(5.0, 0.1), shape, 5, 0.01, 3)
    moments(init.uniform(1, 3), shape, 2, 4 / 12, 9 / 5)
    moments(init.xavier_uniform, shape, 0, 2 / (fan_in + fan_out), 9 / 5)
    moments(init.kaiming_uniform, shape, 0, 2 / fan_in, 9 / 5)


def test_sparse_gives_every_unit_so_many_inputs():
    for shape, nonzeros in (((30, 40), 15), ((30, 15), 15), ((7, 4, 3, 3), 5), ((3, 3), 0)):
        w = init.sparse(nonzeros=nonzeros)(rng(), shape).reshape(shape[0], -1)
        assert np.all((w != 0).sum(1) == nonzeros)
    w = init.sparse(10, std=0.1)(rng(), (2000, 20))
    values, places = w[w != 0], (w != 0).mean(0)
    assert abs(values.std() - 0.1) < 4 * 0.1 / np.sqrt(2 * values.size)
    assert np.abs(places - 0.5).max() < 5 * 0.5 / np.sqrt(2000)


def test_identity_and_constants():
    np.testing.assert_array_equal(init.identity(gain=0.5)(rng(), (2, 3)), [[0.5, 0, 0], [0, 0.5, 0]])
    kernel = init.identity(rng(), (3, 2, 3, 4))
    assert kernel.sum() == 2 and kernel[0, 0, 1, 2] == kernel[1, 1, 1, 2] == 1
    assert init.zeros(rng(), (3,)).sum() == 0 and init.ones(rng(), (3,)).sum() == 3


def test_biases_of_an_lstm():
    np.testing.assert_array_equal(init.forget_bias(rng(), (8,)), [0, 0, 1, 1, 0, 0, 0, 0])
    np.testing.assert_array_equal(init.forget_bias(2.5)(rng(), (4,)), [0, 2.5, 0, 0])
    b = init.chrono(100)(rng(), (4000,)).reshape(4, 1000)
    np.testing.assert_array_equal(b[0], -b[1])
    assert not b[2:].any()
    u = np.exp(b[1])
    assert u.min() >= 1 and u.max() <= 99
    assert abs(u.mean() - 50) < 4 * 98 / np.sqrt(12 * 1000)
    assert not init.chrono(2)(rng(), (4,)).any()


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: init.kaiming_normal(rng(), (3,)), "at least 2 axes"),
        (lambda: init.orthogonal(rng(), (3,)), "at least 2 axes"),
        (lambda: init.identity(rng(), ()), "at least 2 axes"),
        (lambda: init.kaiming_uniform(mode="fan")(rng(), (3, 3)), "unknown mode 'fan'"),
        (lambda: init.kaiming_uniform(nonlinearity="swish")(rng(), (3, 3)), "unknown nonlinearity 'swish'"),
        (lambda: init.sparse(rng(), (3, 3)), r"nonzeros must lie in 0..3"),
        (lambda: init.spectral_radius(0.9)(rng(), (3, 4)), "square"),
        (lambda: init.spectral_radius(-1)(rng(), (3, 3)), "radius"),
        (lambda: init.spectral_radius(0.9, np.triu(np.ones((3, 3)), 1))(rng(), (3, 3)), "all eigenvalues of the matrix are 0"),
        (lambda: init.spectral_radius(0.9, np.ones((2, 2)))(rng(), (3, 3)), r"the matrix has shape \(2, 2\)"),
        (lambda: init.spectral_radius(rng(), (3, 3)), "radius"),
        (lambda: init.orthogonal(spread=1.0), "spread"),
        (lambda: init.forget_bias(rng(), (6,)), r"\(4 H,\)"),
        (lambda: init.chrono(1.5)(rng(), (4,)), "t_max"),
        (lambda: tr.nn.Linear(2, 3, init="magic"), "unknown init 'magic'; expected one of default, normal"),
        (lambda: tr.nn.Linear(2, 3, init=3), "unknown init 3"),
        (
            lambda: tr.nn.Linear(2, 3, init=lambda rng, shape: np.zeros((2, 3))),
            r"asked for numbers of shape \(3, 2\) and returned float64 \(2, 3\)",
        ),
        (lambda: tr.nn.Linear(2, 3, init=lambda rng, shape: np.full(shape, "a")), "returned <U1"),
        (lambda: init.apply(tr.nn.Parameter(np.zeros((2, 2))), "default"), "unknown init 'default'"),
    ],
)
def test_wrong_use_is_told_plainly(call, match):
    with pytest.raises((ValueError, TypeError), match=match):
        call()


def test_layers_take_names_and_draws():
    for a, b in ((init.orthogonal, "orthogonal"), (init.normal, "normal"), (init.identity(), "identity")):
        for make in (lambda i: tr.nn.RNN(8, 8, 2, init=i, seed=0), lambda i: tr.nn.MLP(2, 4, init=i, seed=0)):
            for x, y in zip(make(a).parameters(), make(b).parameters(), strict=True):
                np.testing.assert_array_equal(x.value, y.value)
    rnn = tr.nn.RNN(3, 20, 2, init=init.spectral_radius(0.9), dtype="float64", seed=0)
    for w in (rnn.weight_hh_l0, rnn.weight_hh_l1):
        assert abs(np.linalg.eigvals(w.value)).max() == pytest.approx(0.9, abs=1e-12)
    untied = rnn.unroll(3).untie(seed=1).layers[2][1].hidden.weight.value
    assert abs(np.linalg.eigvals(untied)).max() == pytest.approx(0.9, abs=1e-12)
    ours = tr.nn.Linear(4, 2, init=lambda rng, shape: np.full(shape, 7), seed=0)
    assert ours.weight.dtype == np.float32 and np.all(ours.weight.value == 7)
    assert tr.nn.init is init


def test_apply_writes_in_place_and_reproducibly():
    p = tr.nn.Parameter(np.zeros((4, 4), np.float32))
    memory = p.value
    init.apply(p, init.orthogonal, 3)
    first = p.value.copy()
    assert p.value is memory and first.any()
    init.apply(p, "orthogonal", rng(3))
    np.testing.assert_array_equal(p.value, first)
    init.apply(p, init.ones)
    assert np.all(p.value == 1)


def test_draws_show_their_settings_and_can_be_copied():
    draw = init.kaiming_uniform(nonlinearity="tanh")
    assert repr(draw) == "kaiming_uniform(nonlinearity='tanh')"
    assert repr(draw(mode="fan_out")) == "kaiming_uniform(nonlinearity='tanh', mode='fan_out')"
    assert repr(init.orthogonal) == "orthogonal" and "orthonormal" in init.orthogonal.__doc__
    for twin in (copy.deepcopy(draw), pickle.loads(pickle.dumps(draw))):
        np.testing.assert_array_equal(twin(rng(), (2, 3)), draw(rng(), (2, 3)))


@pytest.mark.parametrize("name", [n for n, f in vars(init).items() if type(f) is type(init.normal)])
def test_pytorchs_habit_of_writing_to_a_parameter_is_refused(name):
    """A Draw with a parameter as its gain, or its mean, would be made and dropped."""
    p = tr.nn.Parameter(np.full((4, 4), 7.0))
    draw = getattr(init, name)
    for call in (lambda: draw(p), lambda: draw(p, 2.0), lambda: draw(gain=p), lambda: draw(tr.Tensor(np.ones((4, 4))))):
        with pytest.raises(
            TypeError, match=rf"init.{name}: got a \w+ \(4, 4\), .* use init.apply\(parameter, init.{name}, seed\)"
        ):
            call()
    if name not in ("zeros", "ones", "lecun_normal"):  # which have no settings to take an array for
        with pytest.raises(TypeError, match=f"init.{name}: got a ndarray"):
            draw(p.value)
    assert np.all(p.value == 7)


def test_a_bound_that_is_a_parameter_is_refused():
    with pytest.raises(TypeError, match="init.uniform: got a Tensor"):
        init.uniform_bound(tr.nn.Parameter(np.ones(3)))
