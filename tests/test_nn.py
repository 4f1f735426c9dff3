"""Layers, their parameters, and the two readings of one net: recurrent and unrolled."""

import numpy as np
import pytest

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
    assert set(INITS) == {"default", "normal", "orthogonal", "identity", "zeros"}
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
        (lambda: tr.nn.RNN(3, 5, nonlinearity="gelu"), ValueError, "unknown nonlinearity 'gelu'; expected one of tanh"),
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
