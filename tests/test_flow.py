"""What a graph says about its gradient: terms, Jacobians, the split, horizons, verdicts."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_rnn as tr
from tinygrad_rnn.flow.gain import PART_NAMES
from tinygrad_rnn.flow.paths import Walker
from tinygrad_rnn.graph import Graph


def last_sum(output):
    return output[-1].sum()


def traced(rnn, x, loss=last_sum):
    return tr.trace(rnn, x, loss=loss)


def whole(gain):
    """All parts together, by lag."""
    return sum(getattr(gain, part) for part in PART_NAMES)


def inputs(steps, batch, features, scale=1.0, dtype="float64", seed=0):
    return (scale * np.random.default_rng(seed).standard_normal((steps, batch, features))).astype(dtype)


def compiled_graph(model, x, loss=last_sum):
    """The graph of a compiled step, after its last call with x."""

    def run(x):
        model.zero_grad()
        output = model(x)
        loss(output[0] if isinstance(output, tuple) else output).backward()

    step = tr.compile(run)
    for n in range(3):
        step(x * n)
    step(x)
    return step.graph


# ---- gradient terms


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("batch", [1, 3, 40])
@pytest.mark.parametrize("name", ["weight_hh_l0", "weight_ih_l0", "bias_hh_l0", "weight_hh_l1", "bias_ih_l1"])
def test_terms_sum_to_the_gradient(name, batch, dtype):
    rnn = tr.nn.RNN(4, 6, 2, dtype=dtype, seed=0)
    graph = traced(rnn, inputs(9, batch, 4, dtype=dtype), lambda y: (y * y).mean())
    terms = graph.grad_terms(name)
    assert len(terms) == 9
    np.testing.assert_array_equal(terms.steps, range(9))
    np.testing.assert_array_equal(terms.lags, range(8, -1, -1))
    np.testing.assert_array_equal(terms.sum(), graph[name].grad)  # the same additions in the same order
    arrays = np.asarray(terms)
    assert arrays.dtype == dtype
    np.testing.assert_allclose(
        terms.norms, [np.linalg.norm(g.astype(np.float64)) for g in arrays], rtol=1e-5 if dtype == "float32" else 1e-12
    )
    assert terms.shares.sum() == pytest.approx(1, abs=1e-5)


def test_terms_are_delta_times_state():
    rnn = tr.nn.RNN(4, 6, dtype="float64", seed=0)
    graph = traced(rnn, inputs(5, 1, 4))
    for t, term in enumerate(graph.grad_terms("weight_hh_l0")):
        delta = graph[0, t, "z"].grad
        state = graph[0, t - 1, "h"].value if t else np.zeros((1, 6))
        np.testing.assert_allclose(term, delta.T @ state, rtol=1e-13)


def test_terms_through_a_transpose_made_once():
    class Cell(tr.nn.Module):
        def __init__(self):
            self.w = tr.nn.Parameter(np.random.default_rng(0).standard_normal((3, 3)) * 0.3)

        def forward(self, x):
            w, h = self.w.T, x[0]
            for t in range(4):
                with tr.scope(t=t):
                    h = tr.tanh(h @ w)
            return h

    graph = tr.trace(Cell(), inputs(1, 2, 3), loss=lambda h: h.sum())
    terms = graph.grad_terms("w")
    np.testing.assert_array_equal(terms.steps, range(4))
    np.testing.assert_allclose(terms.sum(), graph["w"].grad, rtol=1e-13)
    np.testing.assert_allclose(terms.norms, [np.linalg.norm(g) for g in terms], rtol=1e-13)


def test_terms_of_an_embedding_and_outside_steps():
    class Net(tr.nn.Module):
        def __init__(self):
            self.e = tr.nn.Embedding(5, 3, dtype="float64", seed=0)
            self.rnn = tr.nn.RNN(3, 4, dtype="float64", seed=0)

        def forward(self, i):
            return self.rnn(self.e(i))[0]

    graph = tr.trace(Net(), np.array([[0], [3], [0]]), loss=last_sum)
    terms = graph.grad_terms("e.weight")
    np.testing.assert_array_equal(terms.steps, [-1])
    np.testing.assert_allclose(terms.sum(), graph["e.weight"].grad)


class Effective(tr.nn.Module):
    """An RNN whose recurrent matrix is a function of its parameters, made once, or again in each step."""

    def __init__(self, matrix, again=False):
        rng = np.random.default_rng(0)
        self.w = tr.nn.Parameter(rng.standard_normal((4, 4)) * 0.4)
        self.v = tr.nn.Parameter(rng.standard_normal((4, 4)))
        self.g = tr.nn.Parameter(np.ones((4, 1)) * 0.7)
        self.mask = tr.Tensor(np.sign(rng.standard_normal(4)))
        self.matrix, self.again = matrix, again

    def forward(self, x):
        h, made = x[0] * 0, None if self.again else self.matrix(self)
        for t in range(len(x)):
            with tr.scope(layer=0, t=t):
                h = tr.tanh(tr.linear(h, self.matrix(self) if made is None else made) + x[t])
                h.name = "h"
        return h


MATRICES = {
    "mask": lambda m: m.w * m.mask,
    "dale": lambda m: tr.abs(m.w) * m.mask,
    "transposed": lambda m: tr.exp(m.w.T).T * 0.1,
    "weight norm": lambda m: m.g * m.v / (m.v * m.v).sum(axis=1, keepdims=True).sqrt(),
    "joined": lambda m: tr.abs(m.w) * tr.tanh(m.v) + m.w * m.g,
    "low rank": lambda m: m.w @ m.v.T * 0.2,
    "slice": lambda m: tr.concatenate([m.w[:2], m.v[2:] * 0.3]),
}


@pytest.mark.parametrize("how", [traced, pytest.param(compiled_graph, marks=pytest.mark.kernels)])
@pytest.mark.parametrize("matrix", MATRICES.values(), ids=MATRICES)
@pytest.mark.parametrize("again", [False, True])
def test_terms_through_a_function_of_parameters(matrix, again, how):
    model, steps, x = Effective(matrix, again), 6, inputs(6, 2, 4)
    graph = how(model, x, lambda h: (h * h).sum())
    assert graph.parameters
    for name, view in graph.parameters.items():
        terms = graph.grad_terms(name)
        np.testing.assert_array_equal(terms.steps, range(steps))
        np.testing.assert_allclose(terms.sum(), view.grad, rtol=1e-11, atol=1e-14)
        np.testing.assert_allclose(terms.norms, [np.linalg.norm(g) for g in terms], rtol=1e-11, atol=1e-15)
        assert terms.shares.sum() == pytest.approx(1)
        assert terms.norms[0] == 0 and terms.norms[1:].all()  # h is 0 before the first step
        parameter = next(p for _, p in model.named_parameters() if np.array_equal(p.value, view.value))
        for t in (2, 5):  # delta h^T of the step alone, pulled back
            model.zero_grad()
            matrix(model).backward(graph[0, t, "linear"].grad.T @ graph[0, t - 1, "h"].value)
            np.testing.assert_allclose(terms[t], parameter.grad, rtol=1e-11, atol=1e-14)


def test_terms_of_data_and_penalties_outside_steps():
    w = tr.nn.Parameter(np.random.default_rng(0).standard_normal((4, 4)) * 0.4, name="w")
    data = tr.Tensor(inputs(5, 2, 4))  # a constant of the trace

    def net(x):
        projected = tr.linear(data, w) if x.shape[0] == 1 else data * w[0]
        h = x[0] * 0
        for t in range(5):
            with tr.scope(t=t):
                h = tr.tanh(tr.linear(h + projected[t], tr.abs(w)))
        return h.sum() + (w * w).sum()

    for rows in (1, 2):
        graph = tr.trace(net, np.ones((rows, 2, 4)))
        terms = graph.grad_terms("w")
        np.testing.assert_array_equal(terms.steps, [-1, 0, 1, 2, 3, 4])  # the data and the penalty in one
        np.testing.assert_array_equal(terms.lags, [-1, 4, 3, 2, 1, 0])
        np.testing.assert_allclose(terms.sum(), graph["w"].grad, rtol=1e-12)
    alone = tr.trace(lambda x: tr.abs(w).sum(), np.ones(1)).grad_terms("w")
    np.testing.assert_array_equal(alone.steps, [-1])
    np.testing.assert_array_equal(alone.sum(), np.sign(w.value))


def test_terms_that_do_not_exist():
    graph = traced(tr.nn.RNN(3, 4, dtype="float64"), inputs(3, 1, 3))
    with pytest.raises(KeyError, match="no parameter is called 'W'; this graph has weight_ih_l0"):
        graph.grad_terms("W")
    used = tr.trace(lambda x: x * 2, np.ones(2), loss=lambda y: y.sum())
    with pytest.raises(KeyError, match="this graph has none"):
        used.grad_terms("w")


def halving(dtype, steps=100):
    """The trace of an identity net of one unit with W = 1/2 and inputs of 1: the terms of dL/dW halve from lag to lag."""
    rnn = tr.nn.RNN(1, 1, nonlinearity="identity", bias=False, dtype=dtype)
    rnn.weight_hh_l0.value[...] = 0.5
    rnn.weight_ih_l0.value[...] = 1
    return rnn, traced(rnn, np.ones((steps, 1, 1), dtype))


def test_horizon():
    rnn, graph = halving("float64")
    terms = graph.grad_terms("weight_hh_l0")
    states = np.array([2 - 0.5**t for t in range(100)])  # h_t
    expected = 0.5 ** (98 - np.arange(99)) * states[:99]
    np.testing.assert_allclose(terms.norms[1:], expected, rtol=1e-12)
    # h tends to 2 and the sum to 4 from below, where half a rounding unit is 2^-52: 2^-k 2 is more than that up to lag 52
    assert graph.horizon("weight_hh_l0") == 52
    # 2^-k 2 is above a tenth of 4 at lags 0, 1 and 2
    assert graph.horizon("weight_hh_l0", eps=0.1) == 2
    # in float32 h reaches 2: lag 24 is halfway between two numbers, and goes to the even one, 4
    assert halving("float32")[1].horizon("weight_hh_l0") == 24
    silent = traced(rnn, np.zeros((5, 1, 1)))
    assert silent.horizon("weight_hh_l0") == -1


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_no_entry_changes_without_the_terms_beyond_the_horizon(dtype):
    graph = traced(tr.nn.RNN(3, 6, dtype=dtype, seed=0), inputs(120, 4, 3).astype(dtype))
    terms = graph.grad_terms("weight_hh_l0")
    horizon, total = terms.horizon(), terms.sum()

    def without(lag):
        out = np.zeros_like(total)
        for term, at in zip(reversed(np.asarray(terms)), reversed(terms.lags), strict=True):
            if at < lag:
                out += term
        return out

    assert 0 < horizon < 118
    np.testing.assert_array_equal(total, terms.total)
    np.testing.assert_array_equal(without(horizon + 1), total)
    assert (without(horizon) != total).any()
    # the norm of a term falls below the rounding of the norm of the sum before its entries stop to count
    assert terms.horizon(np.finfo(dtype).eps) < horizon


# ---- Jacobians


def test_jacobians_of_every_kind_of_step():
    for nonlinearity in ("tanh", "relu", "sigmoid", "identity"):
        rnn = tr.nn.RNN(2, 3, nonlinearity=nonlinearity, dtype="float64", seed=0)
        graph = traced(rnn, inputs(4, 1, 2))
        w = rnn.weight_hh_l0.value
        z = graph[0, 2, "add"].value[0]
        slope = {
            "tanh": 1 - np.tanh(z) ** 2,
            "relu": (z > 0) * 1.0,
            "sigmoid": 1 / (2 + np.exp(z) + np.exp(-z)),
            "identity": z * 0 + 1,
        }[nonlinearity]
        step = graph.jacobian((0, 2, "h"), (0, 1, "h"))
        assert step.shape == (1, 3, 1, 3)
        np.testing.assert_allclose(step[0, :, 0], slope[:, None] * w, rtol=1e-12, atol=1e-15)


def test_long_jacobian_is_the_product_of_its_steps_also_for_stacks():
    rnn = tr.nn.RNN(2, 3, 2, dtype="float64", seed=0)
    graph = traced(rnn, inputs(5, 1, 2))

    def step(t):
        return np.block([[graph.jacobian((i, t, "h"), (j, t - 1, "h"))[0, :, 0] for j in range(2)] for i in range(2)])

    # within a step the upper layer sees the lower one: its Jacobian on the joint state goes through it
    product = step(4) @ step(3) @ step(2)
    direct = np.block([[graph.jacobian((i, 4, "h"), (j, 1, "h"))[0, :, 0] for j in range(2)] for i in range(2)])
    assert product.shape == direct.shape == (6, 6)
    lower = direct[:3, :3]
    np.testing.assert_allclose(product[:3, :3], lower, rtol=1e-12)
    np.testing.assert_array_equal(direct[:3, 3:], 0)


def test_jacobian_separates_the_sequences_of_a_batch():
    graph = traced(tr.nn.RNN(2, 3, dtype="float64", seed=0), inputs(3, 2, 2))
    j = graph.jacobian((0, 2, "h"), (0, 0, "h"))
    np.testing.assert_array_equal(j[0, :, 1], 0)
    assert np.abs(j[1, :, 1]).max() > 0
    np.testing.assert_array_equal(graph.jacobian((0, 0, "h"), (0, 2, "h")), 0)
    assert graph.jacobian(graph.loss, "x").shape == (3, 2, 2)
    np.testing.assert_allclose(graph.jacobian(graph.loss, "x"), graph["x"].grad, rtol=1e-12)


def test_jacobian_of_a_float32_graph_is_float64():
    graph = traced(tr.nn.RNN(2, 3, seed=0), inputs(3, 1, 2, dtype="float32"))
    assert graph.jacobian((0, 2, "h"), (0, 0, "h")).dtype == np.float64


# ---- the split


@given(
    st.sampled_from(["tanh", "relu", "sigmoid", "identity"]), st.integers(1, 3), st.integers(2, 12), st.integers(1, 4),
    st.integers(1, 6), st.integers(0, 1000),
)  # fmt: skip
def test_the_split_telescopes(nonlinearity, layers, steps, batch, hidden, seed):
    rnn = tr.nn.RNN(3, hidden, layers, nonlinearity, dtype="float64", seed=seed)
    gain = traced(rnn, inputs(steps, batch, 3, seed=seed)).gain()
    assert len(gain.lags) == steps
    finite = np.isfinite(gain.log_norm).all()
    if finite:
        np.testing.assert_allclose(np.cumsum(whole(gain)), gain.log_gain[1:], atol=1e-12 * steps * 10)
        np.testing.assert_allclose(gain.other, 0, atol=1e-12)
        if layers == 1:  # one chain: nothing adds up
            np.testing.assert_array_equal(gain.sums, 0)
    if nonlinearity == "identity":
        np.testing.assert_array_equal(gain.saturation, 0)


def test_the_split_is_the_definition():
    rnn = tr.nn.RNN(3, 5, dtype="float64", seed=0)
    graph = traced(rnn, inputs(6, 2, 3))
    gain = graph.gain()
    w = rnn.weight_hh_l0.value
    for lag in range(5):
        t = 5 - lag
        d = graph[0, t, "h"].grad
        slope = 1 - np.tanh(graph[0, t, "z"].value) ** 2
        saturation = np.log(np.linalg.norm(slope * d, axis=1) / np.linalg.norm(d, axis=1)).mean()
        weights = np.log(np.linalg.norm(slope * d @ w, axis=1) / np.linalg.norm(slope * d, axis=1)).mean()
        assert gain.saturation[lag] == pytest.approx(saturation, abs=1e-12)
        assert gain.weights[lag] == pytest.approx(weights, abs=1e-12)
        assert gain.log_norm[lag] == pytest.approx(np.log(np.linalg.norm(d, axis=1)).mean(), abs=1e-12)
    assert gain.rate == pytest.approx(gain.total / 5)
    assert gain.half_life == pytest.approx(np.log(2) / abs(gain.rate))


def test_losses_injected_on_the_way_are_left_out():
    rnn = tr.nn.RNN(3, 5, dtype="float64", seed=0)
    x = inputs(6, 2, 3)
    every, last = traced(rnn, x, lambda y: y.sum()).gain(), traced(rnn, x).gain()
    np.testing.assert_allclose(every.log_gain, last.log_gain, atol=1e-12)


def test_a_signal_below_the_smallest_float_is_followed():
    rnn = tr.nn.RNN(2, 4, nonlinearity="identity", bias=False, init="identity", seed=0)
    rnn.weight_hh_l0.value *= 0.5
    graph = traced(rnn, inputs(300, 1, 2, dtype="float32"))
    assert graph[0, 0, "h"].grad.max() == 0  # float32 has lost it
    np.testing.assert_allclose(graph.gain().log_gain, -np.arange(300) * np.log(2), rtol=1e-12)


def test_dead_sequences_are_counted_apart():
    rnn = tr.nn.RNN(1, 2, nonlinearity="relu", bias=False, dtype="float64", init="identity")
    rnn.weight_ih_l0.value[...] = 1
    x = np.ones((4, 2, 1))
    x[:, 1] = -1  # relu passes nothing on
    gain = traced(rnn, x).gain()
    assert gain.silent == 0.5
    np.testing.assert_allclose(gain.log_gain, 0, atol=1e-14)
    x[:] = -1
    dead = traced(rnn, x)
    assert dead.gain().silent == 1
    assert dead.why().kind == "vanishing"


def test_a_residual_path_is_a_part_of_its_own():
    class Residual(tr.nn.Module):
        def __init__(self):
            self.layers = [tr.nn.Linear(8, 8, dtype="float64", seed=i) for i in range(30)]

        def forward(self, h):
            for i, layer in enumerate(self.layers):
                with tr.scope(layer=i):
                    h = h + tr.tanh(layer(h))
            return h

    graph = tr.trace(Residual(), inputs(1, 2, 8)[0], loss=lambda h: h.sum())
    gain = graph.gain()
    assert gain.axis == "layer"
    np.testing.assert_array_equal(gain.other, 0)
    assert gain.sums.sum() > 1  # the path around the layer and the one through it add up
    np.testing.assert_allclose(gain.shares["carry"] + gain.shares["recurrent"], 1, atol=1e-12)
    np.testing.assert_allclose(gain.alone["carry"], gain.alone["carry"][0], atol=1e-12)
    np.testing.assert_allclose(np.cumsum(whole(gain)), gain.log_gain[1:], atol=1e-11)


def test_gain_from_a_node_and_along_depth():
    graph = traced(tr.nn.RNN(3, 5, 2, dtype="float64", seed=0), inputs(6, 2, 3))
    assert len(graph.gain(of=(1, 3, "h")).lags) == 4
    assert len(graph.gain(axis="layer").lags) == 2
    mlp = tr.trace(tr.nn.MLP(5, 4, dtype="float64", seed=0), inputs(1, 2, 4)[0], loss=lambda h: h.sum())
    assert mlp.gain().axis == "layer"
    assert len(mlp.gain().lags) == 5


def test_graphs_without_steps_are_told():
    flat = tr.trace(lambda x: x * 2, np.ones(3), loss=lambda y: y.sum())
    with pytest.raises(ValueError, match=r"record them inside scope\(t=...\)"):
        flat.gain()

    with pytest.raises(ValueError, match="no two time steps"):
        flat.gain(axis="t")


def test_an_edge_that_skips_a_step_is_followed():
    weights = [np.random.default_rng(i).standard_normal((3, 3)) / 2 for i in range(2)]

    def skipping(x):
        h = [x * 1.0]
        for t in range(8):
            with tr.scope(t=t):
                h.append(tr.tanh(h[-1] @ weights[0] + (h[-3] @ weights[1] if t > 1 else 0)))
        return h[-1]

    graph = tr.trace(skipping, inputs(1, 2, 3)[0], loss=lambda y: y.sum())
    gain = graph.gain()
    assert len(gain.lags) == 6  # the way ends where all states are there, at t = 2
    # the states of a step are those that later ones use: here of three steps, side by side
    last = np.log(np.linalg.norm(graph[None, 7, "tanh"].grad, axis=1))
    np.testing.assert_allclose(gain.total_rows[0], last, atol=1e-12)
    np.testing.assert_allclose(gain.total_rows, gain.rows, atol=1e-12)
    # by numpy: the last cotangent through h_t, h_t-1, h_t-2 to h_t-1, h_t-2, h_t-3, as far as t = 2
    d = [np.ones((2, 3)), np.zeros((2, 3)), np.zeros((2, 3))]
    for t in range(7, 2, -1):
        z = d[0] * (1 - graph[None, t, "tanh"].value ** 2)
        d = [d[1] + z @ weights[0].T, d[2], z @ weights[1].T]
    np.testing.assert_allclose(gain.rows[-1], np.log(np.sqrt(sum((g * g).sum(axis=1) for g in d))), atol=1e-12)


# ---- verdicts


def verdict(rnn, steps=50, scale=1.0, loss=last_sum):
    x = inputs(steps, 4, rnn.input_size, scale, rnn.dtype)
    return traced(rnn, x, loss).why()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("seed", range(5))
def test_healthy_nets_are_called_healthy(dtype, seed):
    for rnn, scale in (
        (tr.nn.RNN(3, 32, bias=False, init="orthogonal", dtype=dtype, seed=seed), 0.01),
        (tr.nn.RNN(3, 32, 3, bias=False, init="orthogonal", dtype=dtype, seed=seed), 0.01),
        (tr.nn.RNN(3, 16, nonlinearity="identity", init="identity", dtype=dtype, seed=seed), 1.0),
        (tr.nn.RNN(3, 16, nonlinearity="identity", init="orthogonal", dtype=dtype, seed=seed), 1.0),
    ):
        found = verdict(rnn, scale=scale)
        assert found.kind == "healthy", str(found)
        assert found.advice == ""


@pytest.mark.parametrize("seed", range(5))
def test_the_default_net_vanishes_by_its_weights(seed):
    found = verdict(tr.nn.RNN(3, 64, seed=seed))
    assert found.kind == "vanishing"
    n = found.numbers
    assert n["weights_nats"] < 3 * n["saturation_nats"] < 0
    assert n["weights"]["weight_hh_l0"]["spectral_norm"] > 1 > n["weights"]["weight_hh_l0"]["spectral_radius"]
    assert (found.part, found.where) == ("weights", "evenly")
    assert "The weights take" in found.cause
    assert any(trial.name == "orthogonal weights" and trial.nats_after > -15 for trial in found.tried)
    assert str(found).startswith("VANISHING: Each step back the gradient loses 0.5")


def test_saturation_is_named_where_it_is_the_cause():
    rnn = tr.nn.RNN(3, 32, init="orthogonal", dtype="float64", seed=0)
    rnn.weight_ih_l0.value *= 20
    found = verdict(rnn)
    assert found.kind == "vanishing"
    assert found.numbers["saturation_nats"] < -10
    assert abs(found.numbers["weights_nats"]) < 1e-9
    assert found.part == "saturation"
    assert "The activations take" in found.cause and "saturated" in found.cause
    assert any(trial.name.startswith("input weights times") and trial.nats_after > -15 for trial in found.tried)
    assert found.numbers["saturated_share"] > 0.3


def test_exploding():
    rnn = tr.nn.RNN(3, 16, nonlinearity="identity", init="orthogonal", dtype="float64", seed=0)
    rnn.weight_hh_l0.value *= 1.2
    found = verdict(rnn)
    assert found.kind == "exploding"
    assert found.numbers["total_nats"] == pytest.approx(49 * np.log(1.2), abs=1e-9)
    assert found.part == "weights"
    assert "orthogonal weights: +8.9 -> " in found.advice


def test_vanishing_and_exploding_at_different_lags():
    # a transient: the bidiagonal matrix of 0.9 grows by 1e13 before rho < 1 wins
    rnn = tr.nn.RNN(3, 16, nonlinearity="identity", bias=False, dtype="float64", seed=0)
    rnn.weight_hh_l0.value[...] = 0.9 * (np.eye(16) + np.eye(16, k=1))
    assert verdict(rnn, steps=60).kind == "exploding"
    found = verdict(rnn, steps=1500)
    assert found.kind == "vanishing and exploding"
    assert found.numbers["grown_from_lag"] < found.numbers["lost_from_lag"]


def test_no_signal_and_not_finite():
    rnn = tr.nn.RNN(3, 4, dtype="float64", seed=0)
    assert verdict(rnn, loss=lambda y: (y * 0.0).sum()).kind == "no signal"
    found = verdict(rnn, loss=lambda y: tr.log(y[-1] - y[-1]).sum())
    assert found.kind == "not finite"
    assert "log" in found.cause
    wild = tr.nn.RNN(3, 4, nonlinearity="identity", seed=0)
    wild.weight_hh_l0.value *= 1e6
    assert verdict(wild).kind == "not finite"


def test_deep_mlps_have_verdicts_too():
    x = inputs(1, 4, 32)[0]

    def found(**options):
        return tr.trace(tr.nn.MLP(60, 32, dtype="float64", seed=0, **options), x, loss=lambda h: h.sum()).why()

    assert found(init="default").kind == "vanishing"
    assert "layers back" in found(init="default").cause
    assert found(nonlinearity="identity", init="orthogonal").kind == "healthy"


# ---- which signals are followed, and over what they are averaged


@pytest.mark.parametrize("column", [True, False])
def test_columns_are_not_mistaken_for_a_batch(column):
    # the same recurrence in column and row convention: h is one vector either way
    p = tr.nn.Parameter(np.random.default_rng(0).standard_normal((8, 8)) / np.sqrt(8))

    def model(h):
        for t in range(20):
            with tr.scope(t=t):
                h = p @ h if column else h @ p.T
        return h

    start = np.random.default_rng(1).standard_normal((8, 1))
    gain = tr.trace(model, start if column else start.T.copy(), loss=lambda h: h.sum()).gain()
    signal = np.ones(8)
    norms = [np.linalg.norm(signal := p.value.T @ signal if lag else signal) for lag in range(20)]
    np.testing.assert_allclose(gain.log_gain, np.log(norms) - np.log(norms[0]), atol=1e-12)
    assert gain.rows.shape == (20, 1)


def test_a_loss_on_an_earlier_step_starts_there():
    rnn = tr.nn.RNN(3, 5, dtype="float64", seed=0)
    x = inputs(20, 2, 3)
    early, short = traced(rnn, x, lambda y: y[5].sum()), traced(rnn, x[:6])
    np.testing.assert_allclose(early.gain().log_norm, short.gain().log_norm, atol=1e-12)
    assert early.why().kind == short.why().kind
    assert early.horizon("weight_hh_l0") == short.horizon("weight_hh_l0")
    assert early.grad_terms("weight_hh_l0").lags[5] == 0


def gated(gates):
    """20 steps of h * gate, one gate for each sequence."""

    def model(h):
        for t in range(20):
            with tr.scope(t=t):
                h = h * np.array(gates)[:, None]
        return h

    return tr.trace(model, np.ones((len(gates), 3)), loss=lambda h: h.sum())


def test_sequences_that_go_apart_are_not_averaged_to_health():
    found = gated([2.0, 2.0, 0.5, 0.5]).why()
    assert found.kind == "vanishing and exploding"
    assert "It falls below 1/100 in 2 of 4 sequences. It rises above 100 times its size in 2 of 4 sequences." in found.cause
    assert gated([1.0, 1.0, 1.0, 0.5]).why().kind == "vanishing"
    assert gated([1.0, 1.0, 1.0, 2.0]).why().kind == "exploding"
    assert gated([1.0] * 9 + [0.5]).why().kind == "healthy"


def test_mostly_dead_sequences_are_not_healthy():
    rnn = tr.nn.RNN(1, 2, nonlinearity="relu", bias=False, dtype="float64", init="identity")
    rnn.weight_ih_l0.value[...] = 1
    x = -np.ones((10, 8, 1))
    x[:, 0] = 1
    # the loss reaches every last state, and dies on the way back in those that relu has switched off
    graph = tr.trace(lambda x: rnn(x)[0][-1] + x[-1] * 0, np.abs(x), loss=lambda y: y.sum())
    assert graph.why().kind == "healthy"
    x[-1] = 30  # all units on at the end, off before
    found = traced(rnn, x).why()
    assert found.kind == "vanishing"
    assert found.numbers["silent_share"] == 7 / 8


def test_no_signal_passes_where_gradients_are_off():
    rnn = tr.nn.RNNCell(2, 3, dtype="float64", seed=0)

    def model(x):
        h = None
        for t in range(6):
            with tr.scope(layer=0, t=t):
                if t == 3:
                    with tr.no_grad():
                        h = h * 1.0
                h = rnn(x[t], h)
        return h

    graph = tr.trace(model, inputs(6, 1, 2), loss=lambda h: h.sum())
    assert graph[0, 2, "h"].grad is None
    np.testing.assert_array_equal(graph.jacobian((0, 5, "h"), (0, 1, "h")), 0)
    assert len(graph.gain().lags) == 3


def test_a_mask_of_minus_infinity_is_in_order():
    rnn = tr.nn.RNN(3, 4, dtype="float64", seed=0)
    mask = np.array([0.0, -np.inf, 0.0, 0.0])
    found = tr.trace(rnn, inputs(6, 1, 3), loss=lambda y: tr.softmax(y[-1] + mask)[0, 0]).why()
    assert found.kind in ("healthy", "vanishing")


def test_words_fit_the_numbers():
    zeros = verdict(tr.nn.RNN(3, 8, init="zeros", dtype="float64", seed=0))
    assert zeros.kind == "vanishing"
    assert "nothing is left" in zeros.cause
    for bad in ("e-305", "every 0", "fade: ,", "inf nats"):
        assert bad not in zeros.cause
    relu = verdict(tr.nn.RNN(3, 32, nonlinearity="relu", init="orthogonal", dtype="float64", seed=0))
    assert "does not saturate" not in relu.advice

    def leaky(h):
        for t in range(30):
            with tr.scope(t=t):
                h = h * 0.95
        return h

    assert (
        "Constant factors (leak, decay, scale) take 1.5 nats"
        in tr.trace(leaky, np.ones((1, 3)), loss=lambda h: h.sum()).why().cause
    )


# ---- gated cells


def lstm_of_known_gates(steps, hidden=3, seed=0):
    """An LSTM without recurrent weights: its gates are known from the input, whatever the state."""
    net = tr.nn.LSTM(2, hidden, dtype="float64", seed=seed)
    net.weight_hh_l0.value[...] = 0
    return net, tr.trace(net, inputs(steps, 1, 2), loss=lambda y: y[-1].sum())


def test_the_jacobian_of_an_lstm_without_recurrent_weights_is_that_of_its_gates():
    # d(h', c')/d(h, c) = [[0, o tanh'(c') f], [0, f]], diagonal blocks
    net, graph = lstm_of_known_gates(6)
    state = lambda t: [(0, t, "h"), (0, t, "c")]  # noqa: E731
    for t in range(1, 6):
        j = graph.jacobian(state(t), state(t - 1))[0, :, 0]
        f, o, c = (graph[0, t, name].value[0] for name in "foc")
        expected = np.zeros((6, 6))
        expected[3:, 3:] = np.diag(f)
        expected[:3, 3:] = np.diag(o * (1 - np.tanh(c) ** 2) * f)
        np.testing.assert_allclose(j, expected, atol=1e-14)
    # the path of the cells alone is the product of the forget gates
    whole = graph.jacobian((0, 5, "c"), (0, 0, "c"))[0, :, 0]
    product = np.prod([graph[0, t, "f"].value[0] for t in range(1, 6)], axis=0)
    np.testing.assert_allclose(whole, np.diag(product), rtol=1e-12)


@pytest.mark.parametrize(("bias", "half_life"), [(0.0, 1.0), (1.0, 2.2)])
def test_the_half_life_of_a_cell_is_that_of_its_forget_gates(bias, half_life):
    net = tr.nn.LSTM(2, 4, dtype="float64", seed=0)
    for p in net.parameters():
        p.value[...] = 0
    net.bias_ih_l0.value[4:8] = bias
    graph = tr.trace(net, inputs(30, 2, 2), loss=lambda y: y[-1].sum())
    kept = graph.why().numbers["kept"]
    assert kept["mean"] == pytest.approx(1 / (1 + np.exp(-bias)))
    assert kept["half_life"] == pytest.approx(half_life, abs=0.02)
    net.bias_ih_l0.value[4:8] += [-2, -1, 1, 4]  # halves are of the product of the gates, not of their mean
    other = tr.trace(net, inputs(30, 2, 2), loss=lambda y: y[-1].sum()).why().numbers["kept"]
    gates = 1 / (1 + np.exp(-net.bias_ih_l0.value[4:8]))
    assert other["mean"] == pytest.approx(gates.mean())
    assert gates.prod() ** (other["half_life"] / 4) == pytest.approx(0.5)
    rate = graph.gain().log_gain[-1] - graph.gain().log_gain[1]  # from c to c, once the signal is in the cells
    assert rate / 28 == pytest.approx(-np.log(2) / kept["half_life"], abs=1e-9)


@given(
    st.sampled_from(["LSTM", "GRU"]),
    st.integers(1, 2),
    st.integers(2, 9),
    st.integers(1, 3),
    st.integers(1, 6),
    st.integers(0, 99),
)
def test_the_split_of_gated_nets_telescopes(kind, layers, steps, batch, hidden, seed):
    net = getattr(tr.nn, kind)(3, hidden, layers, dtype="float64", seed=seed)
    graph = traced(net, inputs(steps, batch, 3, seed=seed))
    gain = graph.gain()
    np.testing.assert_allclose(np.cumsum(whole(gain)), gain.log_gain[1:], atol=1e-10)
    assert np.any(gain.gates != 0)


def test_a_gate_that_a_user_writes_is_a_gate():
    class Gated(tr.nn.Module):
        def __init__(self):
            self.gate, self.new = (tr.nn.Linear(4, 4, dtype="float64", seed=s) for s in (0, 1))

        def forward(self, x):
            h = x[0]
            for t in range(len(x)):
                with tr.scope(layer=0, t=t):
                    h = tr.sigmoid(self.gate(h)) * h + tr.tanh(self.new(h) + x[t]) * 0.5
            return h

    gain = tr.trace(Gated(), inputs(8, 2, 4), loss=lambda h: h.sum()).gain()
    assert np.abs(gain.gates).max() > 0.1


def kept(net, steps=60):
    """The verdict on a net that may forget, and one after its best remedy was written into it as its code says."""
    x = inputs(steps, 4, 2, dtype="float32")
    found = tr.trace(net, x, loss=lambda y: y[-1].sum()).why()
    code = found.tried[0].code
    exec(code, {"net": net, "np": np, "tr": tr})
    return found, tr.trace(net, x, loss=lambda y: y[-1].sum()).why(advice=False)


@pytest.mark.parametrize(("kind", "gate"), [("LSTM", "forget"), ("GRU", "update")])
def test_what_to_try_for_a_net_that_forgets(kind, gate):
    found, after = kept(getattr(tr.nn, kind)(2, 8, seed=0))
    assert (found.kind, found.part) == ("vanishing", "gates")
    assert f"The {gate} gates keep 0.4" in found.cause or f"The {gate} gates keep 0.5" in found.cause
    assert "for the gate that keeps" in found.advice and "the two biases add up" in found.advice
    # the code, carried out, does what was said
    assert after.numbers["total_nats"] == pytest.approx(found.tried[0].nats_after, abs=1e-4)
    assert after.numbers["total_nats"] > found.numbers["total_nats"] / 4


def test_what_to_try_where_a_normalisation_makes_it_grow():
    class Deep(tr.nn.Module):
        def __init__(self, scale):
            rng = np.random.default_rng(0)
            blocks = [tr.nn.Sequential(tr.nn.Linear(16, 16, seed=rng), tr.nn.BatchNorm1d(16), tr.nn.Tanh()) for _ in range(60)]
            self.blocks = [tr.nn.Residual(block, scale) for block in blocks] if scale else blocks

        def forward(self, x):
            for layer, block in enumerate(self.blocks):
                with tr.scope(layer=layer):
                    x = block(x)
            return x

    found = [
        tr.trace(Deep(scale), inputs(1, 32, 16, dtype="float32")[0], loss=lambda y: y[:, 0].sum()).why() for scale in (0, 0.13)
    ]
    assert (found[0].kind, found[0].part) == ("exploding", "other")
    assert "other ops (batch_norm)" in found[0].cause
    assert "tr.nn.Residual(block, scale=0.13)" in found[0].advice
    assert found[1].kind == "healthy"


def test_nodes_that_do_not_join():
    _, graph = lstm_of_known_gates(2)
    with pytest.raises(ValueError, match="do not join along their last axis"):
        graph.jacobian([(0, 1, "h"), "sum"], (0, 0, "h"))


def test_a_deep_transition_is_as_deep_as_its_layers_times_its_steps():
    for depth, steps in ((1, 4), (3, 10)):
        net = tr.nn.DeepTransitionRNN(2, 3, depth, dtype="float64", seed=0)
        graph = tr.trace(net, inputs(steps, 1, 2), loss=lambda y: y[-1].sum())
        paths = graph.paths(graph[depth - 1, steps - 1, "h"], graph[0, 0, "h"])
        crossed = paths.longest
        stacked = tr.trace(tr.nn.RNN(2, 3, depth, dtype="float64", seed=0), inputs(steps, 1, 2), loss=lambda y: y[-1].sum())
        other = stacked.paths(stacked[depth - 1, steps - 1, "h"], stacked[0, 0, "h"])
        assert (paths.count, crossed) == (1, depth * steps - 1)
        assert other.longest == steps + depth - 2


def test_two_directions_have_a_verdict_each():
    x = inputs(60, 4, 2)
    net = tr.nn.GRU(2, 8, bidirectional=True, dtype="float64", seed=0)
    graph = tr.trace(net, x, loss=lambda y: y[-1, :, :8].sum() + y[0, :, 8:].sum())
    both = graph.why(advice=False)
    assert list(both.parts) == ["forwards", "backwards"]
    for side, (name, found) in enumerate(both.parts.items()):
        assert found.kind == "vanishing" and f"{name.capitalize()}, vanishing" in both.cause
        last, first = (graph[side, t, "h"].grad for t in ((59, 0) if side == 0 else (0, 59)))
        nats = np.log(np.linalg.norm(first, axis=1) / np.linalg.norm(last, axis=1))
        assert np.abs(nats - found.numbers["total_nats"]).min() < 1e-9


# ---- norms beyond the range of floating-point numbers


def scaled_identity(factor, dtype="float32"):
    rnn = tr.nn.RNN(2, 4, nonlinearity="identity", bias=False, init="identity", dtype=dtype, seed=0)
    rnn.weight_hh_l0.value *= factor
    return rnn


@pytest.mark.parametrize("how", [traced, pytest.param(compiled_graph, marks=pytest.mark.kernels)])
@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_log_norms_are_followed_to_any_depth(factor, how):
    steps = 3000
    graph = how(scaled_identity(factor), inputs(steps, 3, 2, 0.0, "float32"), last_sum)
    norms = graph.log_norms()
    assert norms.shape == (len(graph),) and norms.dtype == np.float64
    h = norms[[n.position for n in graph[0, :, "h"]]]
    np.testing.assert_allclose(h, np.log(12) / 2 + np.log(factor) * np.arange(steps)[::-1], rtol=1e-13)
    assert norms[graph.root] == 0
    assert norms[graph["h0"][0].position] == -np.inf
    words = {0.5: "underflowed: all 0 in float32, log norm -2076.", 2.0: "overflowed: not finite in float32, log norm 2078."}
    assert f"grad    {words[factor]}" in str(graph[0, 2, "h"])
    assert "norm 3.464e+00" in str(graph[0, -1, "h"])
    subnormal = graph[0, -150 if factor < 1 else -1, "h"]
    assert ("all subnormal in float32, log norm -102.0 nats" in str(subnormal)) == (factor < 1)


@pytest.mark.kernels
@pytest.mark.parametrize("cell", ["RNN", "GRU", "LSTM"])
@pytest.mark.parametrize("loss", [last_sum, lambda y: (y * y).sum(), lambda y: y[::3].mean() + y[[1, 1, 2]].sum()])
def test_log_norms_are_those_of_the_recorded_gradients(cell, loss):
    model = getattr(tr.nn, cell)(3, 5, 2, dtype="float64", seed=1)
    x = inputs(12, 2, 3)
    for graph in (traced(model, x, loss), compiled_graph(model, x, loss)):
        norms = graph.log_norms()
        for node in graph:
            expected = 0 if node.grad is None else np.linalg.norm(node.grad)
            np.testing.assert_allclose(np.exp(norms[node.position]), expected, rtol=1e-10, err_msg=repr(node))


def test_log_norms_of_other_nets():
    rng = np.random.default_rng(0)
    net = tr.nn.Sequential(
        tr.nn.Conv2d(1, 2, 3, dtype="float64", seed=0),
        tr.nn.MaxPool2d(2),
        tr.nn.Flatten(),
        tr.nn.Linear(18, 4, dtype="float64", seed=1),
    )
    embedding = tr.nn.Embedding(5, 3, dtype="float64", seed=0)

    def stopped(x):
        with tr.no_grad():
            y = tr.exp(x) * 2
        return (y * x).sum() + (tr.exp(x.detach()) * x).sum() + (x[1:] * x[[2, 2]]).sum()

    for graph in (
        tr.trace(net, rng.standard_normal((2, 1, 8, 8)), loss=lambda y: (y * y).sum()),
        tr.trace(lambda i: (embedding(i) ** 2).sum(), np.array([[0, 3, 0]])),
        tr.trace(stopped, rng.standard_normal(3)),
    ):
        norms = graph.log_norms()
        for node in graph:
            expected = 0 if node.grad is None else np.linalg.norm(node.grad)
            np.testing.assert_allclose(np.exp(norms[node.position]), expected, rtol=1e-12, err_msg=repr(node))


def test_log_norms_of_branches_that_rejoin():
    def chain(x, steps, factor):
        for _ in range(steps):
            x = x * factor
        return x

    def net(x):
        a = tr.exp(x)
        # two branches that fade alike, one that fades further, one that cancels exactly, and behind them a short one
        return (chain(a, 2000, 0.5) + 3 * chain(a, 2000, 0.5) + chain(a, 4000, 0.5) + chain(a - a, 3, 0.5)).sum() + (
            chain(x, 5000, 0.5).sum()
        )

    graph = tr.trace(net, np.zeros(4), loss=lambda y: y)
    norms = graph.log_norms()
    expected = np.log(2) + np.log(4) - 2000 * np.log(2)  # |ones(4)| is 2
    assert norms[graph["exp"][0].position] == pytest.approx(expected, rel=1e-14)
    assert norms[graph["x"].position] == pytest.approx(expected, rel=1e-14)
    assert graph["x"].grad.max() == 0


def test_log_norms_through_a_stack_of_steps_of_every_size():
    lower, upper = scaled_identity(0.5), tr.nn.RNN(4, 4, nonlinearity="identity", bias=False, init="identity", seed=0)
    upper.weight_hh_l0.value *= 0.25
    upper.weight_ih_l0.value[...] = np.eye(4)
    steps = 2000

    def net(x):
        y = lower(x)[0]
        return upper(tr.transpose(tr.transpose(y, (1, 0, 2)), (1, 0, 2)))[0]

    graph = tr.trace(net, inputs(steps, 1, 2, 0.0, "float32"), loss=last_sum)
    norms = graph.log_norms()
    lag = np.arange(steps)[::-1]
    # what reaches lag k of the lower layer: the sum over j <= k of 0.5^(k - j) 0.25^j = 0.5^k (2 - 0.5^k)
    found = norms[[n.position for n in graph[0, :, "h"][:steps]]]
    np.testing.assert_allclose(found, np.log(2) - lag * np.log(2) + np.log(2 - 0.5**lag), rtol=1e-12)


@pytest.mark.kernels
def test_log_norms_belong_to_the_last_run():
    rnn = tr.nn.RNN(3, 4, dtype="float64", seed=0)
    step = tr.compile(lambda x: (rnn.zero_grad(), rnn(x)[0][-1].sum().backward()))
    x = inputs(6, 2, 3)
    for _ in range(4):
        step(x)
    first = step.graph.log_norms()
    assert step.graph.log_norms() is first and not first.flags.writeable
    step(3 * x)
    second = step.graph.log_norms()
    assert second is not first
    h, reference = [n.position for n in step.graph["h"]], traced(rnn, 3 * x)
    np.testing.assert_allclose(second[h], reference.log_norms()[[n.position for n in reference["h"]]], rtol=1e-9, atol=1e-12)
    assert np.abs(second[h] - first[h]).max() > 0.1


def test_log_norms_of_what_is_not_finite():
    graph = tr.trace(lambda x: (tr.sqrt(x) * x).sum(), np.array([0.0, 1.0]))
    assert np.isnan(graph.log_norms()[graph["x"].position])
    assert "nan" in str(graph["x"])
    zero = tr.trace(lambda x: (tr.relu(x) * 1.0).sum(), -np.ones(9))
    assert zero.log_norms()[zero["x"].position] == -np.inf
    assert "grad    norm 0.000e+00" in str(zero["x"])


# ---- cost, counted: times are no test


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
@pytest.mark.parametrize("loss", [last_sum, lambda y: (y * y).mean()])
def test_the_cost_is_linear_in_the_steps(kind, loss, monkeypatch):
    """Pulled-back nodes of gain(), why() and a one-step Jacobian, for T and 2 T."""
    pulled = []
    vjp, multiply = Graph.vjp, Walker._through_matrix
    monkeypatch.setattr(Graph, "vjp", lambda self, *a, **k: (pulled.append(1), vjp(self, *a, **k))[1])
    monkeypatch.setattr(Walker, "_through_matrix", lambda self, *a: (pulled.append(1), multiply(self, *a))[1])
    counts = {}
    for steps in (60, 120):
        graph = traced(getattr(tr.nn, kind)(3, 4, 2, dtype="float64", seed=0), inputs(steps, 2, 3), loss)
        nodes = sum(role == "op" for role in graph.roles)
        for name, ask in (
            ("gain", graph.gain),
            ("why", lambda: graph.why(advice=False)),  # noqa: B023
            ("step", lambda: graph.jacobian((0, 30, "h"), (0, 29, "h"))),  # noqa: B023
        ):
            pulled.clear()
            ask()
            counts[name, steps] = len(pulled)
        assert counts["why", steps] < 16 * nodes
    assert counts["gain", 120] < 2.1 * counts["gain", 60]
    assert counts["why", 120] < 2.1 * counts["why", 60]
    assert counts["step", 120] == counts["step", 60]
