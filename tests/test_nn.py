"""Layers, their parameters, and the two readings of one net: recurrent and unrolled."""

import copy
import inspect

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_rnn as tr
from tinygrad_rnn.nn.init import INITS
from tinygrad_rnn.testing import check_grads

NONLINEARITIES = ("tanh", "relu", "sigmoid", "identity")
PHI = {"tanh": np.tanh, "relu": lambda z: np.maximum(z, 0), "sigmoid": lambda z: 1 / (1 + np.exp(-z)), "identity": lambda z: z}


def by_hand(rnn, x, h):
    """The recurrence in plain numpy; x (T, B, I), h (L, B, H)."""
    h, out = list(h), []
    for xt in x:
        below = xt
        for layer in range(rnn.num_layers):
            w_ih, w_hh = (getattr(rnn, f"weight_{n}_l{layer}").value for n in ("ih", "hh"))
            bias = sum(getattr(rnn, f"bias_{n}_l{layer}").value for n in ("ih", "hh")) if rnn.bias else 0
            below = h[layer] = PHI[rnn.nonlinearity](below @ w_ih.T + h[layer] @ w_hh.T + bias)
        out.append(below)
    return np.stack(out), np.stack(h)


@pytest.mark.parametrize("nonlinearity", NONLINEARITIES)
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("given_state", [True, False])
def test_rnn_is_the_recurrence(nonlinearity, layers, bias, given_state):
    rng = np.random.default_rng(0)
    rnn = tr.nn.RNN(3, 5, layers, nonlinearity, bias, dtype="float64", seed=1)
    x, h = rng.standard_normal((4, 2, 3)), rng.standard_normal((layers, 2, 5)) * given_state
    output, h_n = rnn(x, h) if given_state else rnn(x)
    expected, last = by_hand(rnn, x, h)
    np.testing.assert_allclose(output.value, expected, rtol=1e-12)
    np.testing.assert_allclose(h_n.value, last, rtol=1e-12)
    if nonlinearity != "relu":
        check_grads(lambda x, h: rnn(x, h), x, h)


def test_layouts_of_the_input():
    rng = np.random.default_rng(1)
    x = rng.standard_normal((4, 2, 3))
    plain, batch_first = (tr.nn.RNN(3, 5, 2, batch_first=b, dtype="float64", seed=1) for b in (False, True))
    output, h_n = plain(x)
    swapped, same = batch_first(np.ascontiguousarray(x.transpose(1, 0, 2)))
    np.testing.assert_array_equal(swapped.value, output.value.transpose(1, 0, 2))
    np.testing.assert_array_equal(same.value, h_n.value)
    for net in (plain, batch_first):  # without a batch axis the two agree
        alone, last = net(x[:, 0])
        np.testing.assert_allclose(alone.value, output.value[:, 0], rtol=1e-12)
        assert last.shape == (2, 5)


def test_default_initialisation_is_pytorchs():
    rnn = tr.nn.RNN(7, 400, 2, seed=0)
    for name, p in rnn.named_parameters():
        assert np.abs(p.value).max() <= 1 / np.sqrt(400), name
        assert np.abs(p.value).max() > 0.9 / np.sqrt(400), name
    linear = tr.nn.Linear(100, 30, seed=0)
    assert 0.09 < np.abs(linear.weight.value).max() <= 0.1
    assert 0.05 < np.abs(linear.bias.value).max() <= 0.1
    assert tr.nn.Embedding(2000, 10, seed=0).weight.value.std() == pytest.approx(1, abs=0.02)


def test_names_and_shapes_are_pytorchs():
    rnn = tr.nn.RNN(3, 5, 2)
    assert {n: p.shape for n, p in rnn.named_parameters()} == {
        "weight_ih_l0": (5, 3), "weight_hh_l0": (5, 5), "bias_ih_l0": (5,), "bias_hh_l0": (5,),
        "weight_ih_l1": (5, 5), "weight_hh_l1": (5, 5), "bias_ih_l1": (5,), "bias_hh_l1": (5,),
    }  # fmt: skip
    assert {n: p.shape for n, p in tr.nn.RNNCell(3, 5).named_parameters()} == {
        "weight_ih": (5, 3), "weight_hh": (5, 5), "bias_ih": (5,), "bias_hh": (5,),
    }  # fmt: skip
    assert [n for n, _ in tr.nn.RNN(3, 5, bias=False).named_parameters()] == ["weight_ih_l0", "weight_hh_l0"]


def test_seeds_reproduce_and_inits_hold():
    same = [tr.nn.RNN(3, 8, seed=5).state_dict() for _ in range(2)]
    for name, value in same[0].items():
        np.testing.assert_array_equal(value, same[1][name])
    assert not np.array_equal(tr.nn.RNN(3, 8, seed=6).weight_hh_l0.value, same[0]["weight_hh_l0"])
    w = tr.nn.RNN(3, 8, init="orthogonal", dtype="float64", seed=0).weight_hh_l0.value
    np.testing.assert_allclose(w @ w.T, np.eye(8), atol=1e-12)
    np.testing.assert_array_equal(tr.nn.RNN(3, 8, init="identity").weight_hh_l0.value, np.eye(8))
    for name in INITS:
        assert tr.nn.RNN(3, 8, init=name, seed=0).weight_hh_l0.shape == (8, 8), name
    tall = tr.nn.Linear(3, 6, init="orthogonal", dtype="float64").weight.value
    np.testing.assert_allclose(tall.T @ tall, np.eye(3), atol=1e-12)


def test_a_cell_steps_as_the_layer_does():
    rnn, cell = tr.nn.RNN(3, 5, seed=0), tr.nn.RNNCell(3, 5, seed=9)
    cell.load_state_dict({k.removesuffix("_l0"): v for k, v in rnn.state_dict().items()})
    x = np.random.default_rng(2).standard_normal((4, 2, 3)).astype(np.float32)
    h = None
    for t in range(4):
        h = cell(x[t], h)
    np.testing.assert_array_equal(h.value, rnn(x)[1].value[0])
    assert cell(x[0, 0]).shape == (5,)


# ---- modules


class Tied(tr.nn.Module):
    def __init__(self):
        self.first = tr.nn.Linear(2, 2, seed=0)
        self.rest = [self.first, (tr.nn.Linear(2, 2, seed=1), tr.nn.Embedding(3, 2, seed=2))]
        self.scale = tr.nn.Parameter([1.0])

    def forward(self, x):
        return self.first(x) * self.scale


def test_modules_find_their_parameters():
    model = Tied()
    assert [n for n, _ in model.named_parameters()] == [
        "scale", "first.weight", "first.bias", "rest.1.0.weight", "rest.1.0.bias", "rest.1.1.weight"
    ]  # fmt: skip
    assert "rest.0.weight" in model.state_dict()
    assert "Linear(2, 2)" in repr(model)


def test_state_dicts_round_trip_and_are_copies():
    a, b = Tied(), Tied()
    a.scale.value[0] = 7
    state = a.state_dict()
    b.load_state_dict(state)
    assert b.scale.value[0] == 7
    state["scale"][0] = 9
    assert a.scale.value[0] == b.scale.value[0] == 7


def test_a_wrong_state_dict_changes_nothing():
    model = Tied()
    before = model.state_dict()
    for change, error, message in (
        ({"scale": np.zeros(2, np.float32)}, ValueError, r"scale has shape \(1,\), the given array \(2,\)"),
        ({"scale": np.zeros(1)}, TypeError, "scale is float32, the given array float64"),
        ({"other": np.zeros(1)}, KeyError, "unexpected"),
    ):
        state = {k: v + 1 for k, v in before.items()} | change
        with pytest.raises(error, match=message):
            model.load_state_dict(state)
    with pytest.raises(KeyError, match="missing"):
        model.load_state_dict({})
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, before[name])
    model.load_state_dict({"scale": np.full(1, 3, np.float32)}, strict=False)
    assert model.scale.value[0] == 3


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: tr.nn.RNN(0, 5), ValueError, "input_size must be a positive integer, got 0"),
        (lambda: tr.nn.RNN(3, 5.0), ValueError, "hidden_size"),
        (lambda: tr.nn.RNN(3, 5, nonlinearity="swish"), ValueError, "unknown nonlinearity 'swish'; expected one of tanh"),
        (lambda: tr.nn.RNN(3, 5, init="magic"), ValueError, "unknown init 'magic'; expected one of default"),
        (lambda: tr.nn.RNN(3, 5, dtype="int32"), TypeError, "float32 or float64"),
        (
            lambda: tr.nn.RNN(3, 5)(np.zeros((4, 2, 7), np.float32)),
            tr.ShapeError,
            r"expected an input \(T, B, 3\).*got \(4, 2, 7\)",
        ),
        (lambda: tr.nn.RNN(3, 5)(np.zeros((0, 2, 3), np.float32)), tr.ShapeError, "at least one step"),
        (
            lambda: tr.nn.RNN(3, 5)(np.zeros((4, 2, 3), np.float32), np.zeros((1, 3, 5), np.float32)),
            tr.ShapeError,
            "initial state",
        ),
        (lambda: tr.nn.RNN(3, 5)(np.zeros((4, 2, 3))), TypeError, "do not mix.*layer=0, t=0"),
        (lambda: tr.nn.RNN(3, 5).unroll(0), ValueError, "steps must be a positive integer"),
        (lambda: tr.nn.RNN(3, 5).unroll(4)(np.zeros((3, 2, 3), np.float32)), ValueError, "4 layers.*the input has 3"),
        (lambda: tr.nn.RNN(3, 5).unroll(4).untie(0, "other"), ValueError, "unknown draw"),
        (lambda: tr.nn.MLP(0, 5), ValueError, "depth"),
        (lambda: tr.nn.Module()(1), TypeError, "defines no forward"),
    ],
)
def test_wrong_use_is_told_plainly(call, error, message):
    with pytest.raises(error, match=message):
        call()


# ---- the deep MLP


def test_the_unrolled_net_has_the_same_parameters_or_its_own():
    rnn = tr.nn.RNN(3, 5, 2, seed=0)
    twin = rnn.unroll(4)
    assert {id(p) for p in twin.parameters()} == {id(p) for p in rnn.parameters()}
    untied = twin.untie(seed=1)
    assert len(untied.parameters()) == 4 * len(rnn.parameters())
    assert not untied.tied
    assert twin.tied
    assert np.abs(untied.layers[3][1].hidden.weight.value).max() <= 1 / np.sqrt(5)
    again = twin.untie(seed=1)
    for p, q in zip(untied.parameters(), again.parameters(), strict=True):
        np.testing.assert_array_equal(p.value, q.value)
    shuffled = twin.untie(2, "shuffle").layers[2][0].hidden.weight.value
    np.testing.assert_array_equal(np.sort(shuffled.ravel()), np.sort(rnn.weight_hh_l0.value.ravel()))
    assert not np.array_equal(shuffled, rnn.weight_hh_l0.value)
    assert "untied" in repr(untied)


def test_mlp_is_a_chain_of_layers():
    mlp = tr.nn.MLP(3, 4, input_size=2, dtype="float64", seed=0)
    x = np.random.default_rng(3).standard_normal((5, 2))
    h = x
    for layer in mlp.layers:
        h = np.tanh(h @ layer.weight.value.T + layer.bias.value)
    np.testing.assert_allclose(mlp(x).value, h, rtol=1e-12)
    check_grads(mlp, x)
    graph = tr.trace(mlp, x, loss=lambda y: y.sum())
    assert [n.layer for n in graph[:, :, "tanh"]] == [0, 1, 2]


def test_replaced_parameters_are_used():
    rnn = tr.nn.RNN(3, 5, dtype="float64", seed=0)
    x = np.ones((2, 1, 3))
    before = rnn(x)[0].value.copy()
    rnn.weight_hh_l0 = tr.nn.Parameter(np.zeros((5, 5)))
    output = rnn(x)[0]
    assert not np.array_equal(output.value, before)
    output.sum().backward()
    assert rnn.weight_hh_l0.grad is not None
    rnn.nonlinearity = "relu"
    assert rnn(x)[0].value.min() >= 0
    assert rnn.unroll(2).layers[0][0].hidden.weight is rnn.weight_hh_l0


@pytest.mark.parametrize(
    "value", [np.zeros((4, 3), np.float32), tr.Tensor(np.zeros((4, 3))), 0.0, tr.nn.Linear(3, 4), [1], "x"]
)
def test_a_parameter_gives_way_to_none_but_a_parameter(value):
    net = tr.nn.Linear(3, 4, seed=0)
    before = net.weight
    with pytest.raises(
        TypeError,
        match=rf"Linear: cannot assign a {type(value).__name__} to 'weight', a parameter float32 \(4, 3\); write .*weight.value\[...\] = array, or assign a Parameter or None",
    ):
        net.weight = value
    assert net.weight is before and net.parameters()[0] is before
    norm = tr.nn.BatchNorm1d(3)
    with pytest.raises(
        TypeError, match=r"BatchNorm1d: cannot assign .* to 'running_mean', a buffer .* or assign a Buffer or None"
    ):
        norm.running_mean = value


def test_what_may_be_assigned():
    net = tr.nn.Linear(3, 4, seed=0)
    net.weight = tr.nn.Parameter(np.ones((4, 3), np.float32))
    net.weight.value[...] = 2
    net.bias = None
    assert [p.shape for p in net.parameters()] == [(4, 3)]
    net.bias = tr.nn.Parameter(np.ones(4, np.float32))
    np.testing.assert_array_equal(net(np.ones((1, 3), np.float32)).value, np.full((1, 4), 7))
    net.note = "text"
    net.note = 3
    norm = tr.nn.BatchNorm1d(3)
    norm.running_mean = type(norm.running_mean)(np.ones(3))
    del net.weight
    net.weight = 5  # nothing is there any more
    assert net.weight == 5


def test_wide_orthogonal_layers_train():
    layer = tr.nn.Linear(8, 4, init="orthogonal", seed=0)
    layer(np.ones((2, 8), np.float32)).sum().backward()
    tr.optim.Adam(layer.parameters()).step()
    given = np.ones((2, 3)).T
    p = tr.nn.Parameter(given)
    p.value[...] = 7
    assert given[0, 0] == 1


def test_modules_in_dictionaries_cycles_and_private_names():
    class Part(tr.nn.Module):
        pass

    a, b = Part(), Part()
    a._w = tr.nn.Parameter([1.0])
    a.parts = {"b": b}
    b.parent = a
    b.w = tr.nn.Parameter([2.0])
    assert [n for n, _ in a.named_parameters()] == ["_w", "parts.b.w"]


# ---- buffers, modes, layers without weights of their own


def test_buffers_are_saved_loaded_in_place_and_not_trained():
    net = tr.nn.Sequential(tr.nn.Linear(3, 4, seed=0), tr.nn.BatchNorm1d(4), tr.nn.ReLU())
    assert [n for n, _ in net.named_parameters()] == ["0.weight", "0.bias", "1.weight", "1.bias"]
    assert [n for n, _ in net.named_buffers()] == ["1.running_mean", "1.running_var", "1.num_batches_tracked"]
    assert len(net.buffers()) == 3
    net(np.random.default_rng(0).standard_normal((5, 3)).astype("f4"))
    state = net.state_dict()
    count = state["1.num_batches_tracked"]
    assert (count.dtype, count.shape, count) == (np.int64, (), 1)
    other = tr.nn.Sequential(tr.nn.Linear(3, 4, seed=1), tr.nn.BatchNorm1d(4), tr.nn.ReLU())
    arrays = [b.value for b in other.buffers()]
    other.load_state_dict(state)
    assert all(b.value is a for b, a in zip(other.buffers(), arrays, strict=True))
    for name, value in other.state_dict().items():
        np.testing.assert_array_equal(value, state[name])
    state["1.running_mean"] += 1
    assert not np.array_equal(net[1].running_mean.value, state["1.running_mean"])
    for change, error in (
        ({"1.num_batches_tracked": np.zeros((), np.int32)}, TypeError),
        ({"1.running_var": np.zeros(3, np.float32)}, ValueError),
    ):
        with pytest.raises(error, match="load_state_dict: 1"):
            other.load_state_dict(state | change)
    with pytest.raises(KeyError, match="running_mean"):
        other.load_state_dict({k: v for k, v in state.items() if k != "1.running_mean"})
    assert "running_mean: (4,)" in repr(net) and "num_batches_tracked: ()" in repr(net)
    twin = copy.deepcopy(net)
    assert np.array_equal(twin[1].running_mean.value, net[1].running_mean.value)
    assert twin[1].running_mean.value is not net[1].running_mean.value
    given = np.arange(6.0).reshape(2, 3).T
    buffer = tr.nn.Buffer(given)
    buffer.value[...] = 0
    assert given.sum() == 15 and buffer.value.flags.c_contiguous and "float64 (3, 2)" in repr(buffer)


def test_modes_reach_every_part():
    class Holder(tr.nn.Module):
        def __init__(self):
            self.parts = {"a": [tr.nn.Dropout(seed=0)], "b": tr.nn.Residual(tr.nn.Sequential(tr.nn.BatchNorm1d(2)))}

    net = Holder()
    modules = [m for _, m in net.named_modules()]
    assert len(modules) == 5 and all(m.training for m in modules)
    assert net.eval() is net and not any(m.training for m in modules)
    assert net.train() is net and all(m.training for m in modules)
    net.train(False)
    x = tr.Tensor(np.ones((4, 2), np.float32))
    assert net.parts["a"][0](x) is x
    fresh = Holder()
    assert all(m.training for _, m in fresh.named_modules())


def test_batch_norm_in_both_modes():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((6, 3, 4)) * 3 + 1
    norm = tr.nn.BatchNorm1d(3, dtype="float64")
    y = norm(x)
    np.testing.assert_allclose(y.value.mean((0, 2)), 0, atol=1e-12)
    np.testing.assert_allclose(norm.running_mean.value, 0.1 * x.mean((0, 2)), rtol=1e-12)
    np.testing.assert_allclose(norm.running_var.value, 0.9 + 0.1 * x.var((0, 2), ddof=1), rtol=1e-12)
    norm.eval()
    before = norm.state_dict()
    mean, var = (before[n][:, None] for n in ("running_mean", "running_var"))
    np.testing.assert_allclose(norm(x).value, (x - mean) / np.sqrt(var + 1e-5), rtol=1e-12)
    assert norm(x[:1, :, 0]).shape == (1, 3)  # a single value is enough here
    for name, value in norm.state_dict().items():
        np.testing.assert_array_equal(value, before[name])
    check_grads(lambda x, w, b: norm_with(norm, w, b)(x), x, rng.standard_normal(3), rng.standard_normal(3))
    norm.train()
    with pytest.raises(ValueError, match=r"more than 1 value per channel when training, got an input \(1, 3\)"):
        norm(x[:1, :, 0])
    untracked = tr.nn.BatchNorm1d(3, track_running_stats=False, affine=False, dtype="float64")
    assert not untracked.state_dict() and not untracked.parameters()
    np.testing.assert_allclose(untracked.eval()(x).value, y.value, rtol=1e-12)


def norm_with(norm, weight, bias):
    vars(norm).update(weight=weight, bias=bias)  # norm.weight = tensor is refused
    return norm


@pytest.mark.parametrize("shape", [(4, 5), (3,), (2, 3, 5)])
def test_activations_as_modules(shape):
    x = np.random.default_rng(0).standard_normal(shape)
    for module, function in (
        (tr.nn.Tanh(), tr.tanh),
        (tr.nn.Sigmoid(), tr.sigmoid),
        (tr.nn.ReLU(), tr.relu),
        (tr.nn.LeakyReLU(), tr.leaky_relu),
        (tr.nn.LeakyReLU(0.2), lambda x: tr.leaky_relu(x, 0.2)),
        (tr.nn.ELU(alpha=2), lambda x: tr.elu(x, 2)),
        (tr.nn.GELU(), tr.gelu),
        (tr.nn.GELU("tanh"), lambda x: tr.gelu(x, "tanh")),
        (tr.nn.SiLU(), tr.silu),
        (tr.nn.Softplus(), tr.softplus),
        (tr.nn.Hardtanh(-0.5, max_val=0.7), lambda x: tr.hardtanh(x, -0.5, 0.7)),
    ):
        np.testing.assert_array_equal(module(x).value, function(x).value)
        assert module.__doc__ and not module.parameters()
    assert repr(tr.nn.LeakyReLU(0.2)) == "LeakyReLU(negative_slope=0.2)"
    assert list(inspect.signature(tr.nn.Hardtanh).parameters) == ["min_val", "max_val"]

    class Own(tr.nn.Activation, function=lambda x, by=2.0: tr.tanh(x) * by):
        """Twice tanh."""

    np.testing.assert_array_equal(Own()(x).value, 2 * tr.tanh(x).value)


def test_containers():
    rng = np.random.default_rng(0)
    first, second = tr.nn.Linear(3, 3, dtype="float64", seed=0), tr.nn.Linear(3, 3, dtype="float64", seed=1)
    net = tr.nn.Sequential(first, tr.nn.Tanh(), second)
    x = rng.standard_normal((4, 3))
    np.testing.assert_array_equal(net(x).value, second(tr.tanh(first(x))).value)
    assert len(net) == 3 and list(net) == [first, net[1], second] and net[-1] is second
    assert list(net[1:]) == [net[1], second] and list(net.state_dict()) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert list(tr.nn.Sequential(*[tr.nn.Identity()] * 12).named_modules())[11][0] == "10"
    assert tr.nn.Sequential()(x) is x
    for scale in (1.0, 0.5, 0):
        residual = tr.nn.Residual(net, scale)
        np.testing.assert_array_equal(residual(x).value, x + net(x).value * scale)
        check_grads(residual, x)
    assert [n for n, _ in residual.named_parameters()][0] == "module.0.weight"
    y = tr.Tensor(rng.standard_normal((2, 3, 4, 5)))
    assert tr.nn.Identity()(y) is y
    assert tr.nn.Flatten()(y).shape == (2, 60)
    assert tr.nn.Flatten(0)(y).shape == (120,)
    assert tr.nn.Flatten(1, -2)(y).shape == (2, 12, 5)
    assert tr.nn.Flatten()(np.zeros((0, 3, 2))).shape == (0, 6)


def test_dropout_as_a_module():
    x = np.ones((30, 7), np.float32)
    a, b = (tr.nn.Dropout(0.3, seed=4) for _ in range(2))
    first = a(x).value
    np.testing.assert_array_equal(first, b(x).value)
    assert not np.array_equal(first, a(x).value)
    np.testing.assert_array_equal(first, tr.dropout(x, 0.3, generator=tr.Generator(4)).value)
    shared = tr.Generator(5)
    net = tr.nn.Sequential(tr.nn.Dropout(generator=shared), tr.nn.Dropout(generator=shared))
    net(x)
    assert shared.state[1] == 2 * 53
    np.testing.assert_array_equal(net.eval()(x).value, x)
    assert shared.state[1] == 2 * 53 and repr(a) == "Dropout(p=0.3)"


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: tr.nn.Dropout(1.5), ValueError, "Dropout: expected a probability p in 0..1, got 1.5"),
        (lambda: tr.nn.Dropout(generator=tr.Generator(0), seed=1), TypeError, "a tr.Generator or a seed"),
        (lambda: tr.nn.Dropout(generator=np.random.default_rng(0)), TypeError, "a tr.Generator or a seed"),
        (lambda: tr.nn.Sequential(tr.tanh), TypeError, "Sequential: expected modules, got function at 0"),
        (
            lambda: tr.nn.Residual(tr.nn.Linear(3, 4))(np.ones((2, 3), np.float32)),
            tr.ShapeError,
            r"Residual: Linear made \(2, 4\) of \(2, 3\); expected the same shape",
        ),
        (lambda: tr.nn.LayerNorm(0), ValueError, r"normalized_shape\[0\] must be a positive integer"),
        (lambda: tr.nn.LayerNorm((3, 4))(np.ones((2, 4), np.float32)), tr.ShapeError, "layer_norm: the last axes"),
        (lambda: tr.nn.LayerNorm(3)(np.ones((2, 3))), TypeError, "do not mix"),
        (lambda: tr.nn.LayerNorm(3, dtype="int8"), TypeError, "float32 or float64"),
        (lambda: tr.nn.BatchNorm1d(0), ValueError, "num_features must be a positive integer"),
        (lambda: tr.nn.BatchNorm1d(3)(np.ones((2, 4), np.float32)), tr.ShapeError, r"BatchNorm1d: expected an input \(N, 3\)"),
        (lambda: tr.nn.BatchNorm1d(3)(np.ones((2, 3, 1, 1), np.float32)), tr.ShapeError, "BatchNorm1d: expected"),
        (lambda: tr.nn.BatchNorm1d(3)(np.ones((2, 3))), TypeError, "do not mix"),
        (lambda: tr.nn.Flatten(2, 1)(np.ones((2, 3, 4))), tr.ShapeError, "Flatten: axis 2 comes after axis 1"),
        (lambda: tr.nn.Flatten()(np.ones(())), tr.ShapeError, "Flatten: axis 1 is out of bounds"),
        (lambda: tr.nn.Tanh(3), TypeError, "too many positional arguments"),
        (lambda: tr.nn.GELU("erf")(np.ones(2)), ValueError, "gelu: expected approximate"),
    ],
)
def test_wrong_use_of_layers_is_told_plainly(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("nonlinearity", ["erf", "leaky_relu", "elu", "gelu", "silu", "softplus", "hardtanh"])
def test_every_activation_serves_nets_and_the_split(nonlinearity):
    rng = np.random.default_rng(0)
    phi = getattr(tr, nonlinearity)
    mlp = tr.nn.MLP(4, 6, nonlinearity=nonlinearity, init="orthogonal", dtype="float64", seed=0)
    x = rng.standard_normal((3, 6))
    h = x
    for layer in mlp.layers:
        h = phi(h @ layer.weight.value.T + layer.bias.value).value
    np.testing.assert_allclose(mlp(x).value, h, rtol=1e-12, atol=1e-14)
    graph = tr.trace(mlp, x, loss=lambda y: y.sum())
    assert len(graph[:, :, nonlinearity]) == 4
    split = graph.gain()
    np.testing.assert_allclose(split.total, split.saturation.sum() + split.weights.sum() + split.other.sum(), atol=1e-9)
    assert np.abs(split.saturation).max() > 0
    assert graph.why()
    rnn = tr.nn.RNN(3, 5, nonlinearity=nonlinearity, dtype="float64", seed=0)
    sequence = rng.standard_normal((4, 2, 3))
    twin = tr.trace(rnn.unroll(4), sequence, loss=lambda y: y[-1].sum())
    assert tr.same_graph(tr.trace(rnn, sequence, loss=lambda y: y[-1].sum()), twin).identical
    with pytest.raises(ValueError, match="rnn_cell: unknown activation"):
        tr.rnn_cell(x, x, np.eye(6), np.eye(6), activation=nonlinearity)


# ---- what a person would not think of


@given(
    st.sampled_from(["RNN", "LSTM", "GRU", "LeakyRNN"]), st.integers(1, 2), st.integers(1, 5), st.integers(1, 3), st.integers(1, 4),
    st.integers(1, 6), st.booleans(), st.booleans(), st.booleans(), st.data(),
)  # fmt: skip
def test_gradients_of_recurrent_nets(kind, layers, steps, batch, features, hidden, bias, both, uneven, data):
    net = getattr(tr.nn, kind)(features, hidden, layers, bias=bias, bidirectional=both, dtype="float64", seed=0)
    lengths = np.array(data.draw(st.lists(st.integers(1, steps), min_size=batch, max_size=batch))) if uneven else None
    rng = np.random.default_rng(1)
    x = rng.standard_normal((steps, batch, features))
    shape = (layers * (1 + both), batch, hidden)
    state = [rng.standard_normal(shape) for _ in net.states]
    values = [p.value.copy() for p in net.parameters()]

    def f(x, *more):
        given, weights = more[: len(state)], more[len(state) :]
        for name, weight in zip(names, weights, strict=True):
            vars(net)[name] = weight  # net.name = tensor is refused
        output, last = net(x, given if len(given) > 1 else given[0], lengths=lengths)
        return [output, *(last if isinstance(last, tuple) else (last,))]

    names = [name for name, _ in net.named_parameters()]
    check_grads(f, x, *state, *values)


@given(
    st.sampled_from(["RNNCell", "LSTMCell", "GRUCell", "Linear", "LayerNorm", "BatchNorm1d", "Residual"]),
    st.integers(2, 5), st.integers(2, 5), st.integers(1, 6),
)  # fmt: skip
def test_gradients_of_layers(kind, batch, features, hidden):
    options = {"dtype": "float64", "seed": 0}
    layer = {
        "Linear": lambda: tr.nn.Linear(features, hidden, **options),
        "LayerNorm": lambda: tr.nn.LayerNorm(features, dtype="float64"),
        "BatchNorm1d": lambda: tr.nn.BatchNorm1d(features, dtype="float64"),
        "Residual": lambda: tr.nn.Residual(tr.nn.Sequential(tr.nn.Linear(features, features, **options), tr.nn.Tanh()), 0.5),
    }.get(kind, lambda: getattr(tr.nn, kind)(features, hidden, **options))()
    x = np.random.default_rng(2).standard_normal((batch, features))
    check_grads(lambda x: layer(x), x)
