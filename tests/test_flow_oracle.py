"""The oracle against the recorded cotangents, and the split of the package against the oracle: classes, shares, knock-outs."""

import numpy as np
import pytest
from flow_oracle import CELLS, log_norm, way_back
from net_models import Reads, c_n, last, lstm_of_gates, series, total, with_bias
from net_truth import lstm_states, named, profile

import tinygrad_rnn as tr


def made(cell, seed=0, **options):
    return getattr(tr.nn, cell)(3, 6, dtype="float64", seed=seed, **options)


NETS = {
    "RNN": lambda: made("RNN"),
    "RNN, relu": lambda: with_bias(made("RNN", nonlinearity="relu"), "bias_ih_l0", 0, 1),
    "RNN, sigmoid": lambda: made("RNN", nonlinearity="sigmoid"),
    "RNN, linear": lambda: made("RNN", nonlinearity="identity"),
    "leaky, 0.01": lambda: made("LeakyRNN", leak=0.01),
    "leaky, 0.3": lambda: made("LeakyRNN", leak=0.3),
    "leaky, 0.7, orthogonal": lambda: made("LeakyRNN", leak=0.7, init="orthogonal"),
    "GRU": lambda: made("GRU"),
    "GRU, keeps": lambda: with_bias(made("GRU"), "bias_hh_l0", 1, 3),
    "GRU, orthogonal": lambda: made("GRU", init="orthogonal", seed=1),
    "LSTM": lambda: made("LSTM"),
    "LSTM, keeps": lambda: with_bias(made("LSTM"), "bias_ih_l0", 1, 3),
    "LSTM, forgets": lambda: with_bias(made("LSTM"), "bias_hh_l0", 1, -3),
    "LSTM, orthogonal": lambda: made("LSTM", init="orthogonal", seed=1),
}  # fmt: skip
CHAINS = {name for name in NETS if name.startswith("RNN")}
PARALLEL = {name: net for name, net in NETS.items() if name not in CHAINS}
BATCHES = (1, 3)

each_net = pytest.mark.parametrize("name", NETS)
each_parallel = pytest.mark.parametrize("name", PARALLEL)
each_batch = pytest.mark.parametrize("batch", BATCHES)


def both(name, batch, steps=20):
    """(Way of the oracle, trace) of the same net and batch."""
    net, x = NETS[name](), series(steps, batch, seed=2)
    return way_back(net, x), tr.trace(net, x, loss=last)


# ---- the oracle itself


@each_net
@each_batch
def test_the_oracle_is_the_recorded_way_back(name, batch):
    way, graph = both(name, batch)
    logs = profile(graph, lstm_states if name.startswith("LSTM") else named("h"))
    np.testing.assert_allclose(way.log_norm, logs.mean(axis=1), atol=1e-9)


@each_net
def test_the_parts_of_the_oracle_add_up(name):
    way, _ = both(name, 3)
    np.testing.assert_allclose(sum(way.shares.values()), 1, atol=1e-12)
    np.testing.assert_allclose(sum(way.brackets.values()) + way.sums, np.diff(way.log_norm), atol=1e-12)


@each_net
def test_a_share_is_the_derivative_by_the_strength_of_its_class(name):
    # one step of the way, with the recurrent weights' paths alone made 1e-6 stronger
    net, x = NETS[name](), series(5, 1)
    cell = CELLS[type(net).__name__](net, x)
    d = cell.end * np.cos(1 + np.arange(cell.end.size))
    v = cell.back(cell.kept[-1], d)
    whole = v["carry"] + v["recurrent"]
    share = np.sum(v["recurrent"] * whole) / np.sum(whole * whole)
    eps = 1e-6
    numeric = (log_norm(v["carry"] + v["recurrent"] * (1 + eps)) - log_norm(v["carry"] + v["recurrent"] * (1 - eps))) / (
        2 * eps
    )
    assert share == pytest.approx(numeric[0], abs=1e-8)


# ---- the package against the oracle


@each_net
@each_batch
def test_the_signal(name, batch):
    way, graph = both(name, batch)
    gain = graph.gain()
    np.testing.assert_allclose(gain.log_norm, way.log_norm, atol=1e-9)
    parts = (getattr(gain, p) for p in ("saturation", "weights", "gates", "constants", "other", "sums", "carry", "recurrent"))
    np.testing.assert_allclose(sum(parts), np.diff(gain.log_norm), atol=1e-9)


@each_parallel
@each_batch
def test_the_shares(name, batch):
    way, graph = both(name, batch)
    shares = graph.gain().shares
    for q in ("carry", "recurrent"):
        np.testing.assert_allclose(shares[q], way.shares[q], atol=1e-9)


@each_parallel
@each_batch
def test_the_knock_outs(name, batch):
    way, graph = both(name, batch)
    alone = graph.gain().alone
    for q in ("carry", "recurrent"):
        np.testing.assert_allclose(alone[q], way.alone[q], atol=1e-9)


@each_parallel
@each_batch
def test_what_paths_gain_by_adding_up(name, batch):
    # between classes, and inside the carry of an LSTM, where the signal in h joins that in c
    way, graph = both(name, batch)
    inside = np.array([c["carry"].get("sums", 0.0) for c in way.chains])
    np.testing.assert_allclose(graph.gain().sums, way.sums + inside, atol=1e-9)


@pytest.mark.parametrize("name", sorted(CHAINS))
def test_a_chain_has_the_telescoping_split(name):
    way, graph = both(name, 3)
    gain = graph.gain()
    for part in ("saturation", "weights"):
        np.testing.assert_allclose(getattr(gain, part), [c["recurrent"][part] for c in way.chains], atol=1e-9)
    for part in ("gates", "constants", "other", "sums", "carry", "recurrent"):
        np.testing.assert_allclose(getattr(gain, part), 0, atol=1e-9)
    assert not gain.alone


@pytest.mark.parametrize("name", [n for n in PARALLEL if n.startswith("leaky")])
def test_the_classes_of_a_leaky_net(name):
    # its carry is a chain of constants; its recurrent paths are one as well, which may be given split or as a total
    way, graph = both(name, 3)
    gain = graph.gain()
    np.testing.assert_allclose(gain.carry + gain.gates + gain.other, 0, atol=1e-9)
    carry = np.array([c["carry"]["constants"] for c in way.chains])
    if np.abs(gain.recurrent).max() > 1e-9:
        np.testing.assert_allclose(gain.recurrent, way.brackets["recurrent"], atol=1e-9)
        np.testing.assert_allclose(gain.constants, carry, atol=1e-9)
        return
    for part in ("saturation", "weights"):
        np.testing.assert_allclose(getattr(gain, part), [c["recurrent"][part] for c in way.chains], atol=1e-9)
    np.testing.assert_allclose(gain.constants, carry + [c["recurrent"]["constants"] for c in way.chains], atol=1e-9)


@pytest.mark.parametrize("name", [n for n in PARALLEL if n.startswith("GRU")])
def test_the_classes_of_a_gru(name):
    # its carry is a chain of one gate; its recurrent paths are three and no chain
    way, graph = both(name, 3)
    gain = graph.gain()
    np.testing.assert_allclose(gain.gates + gain.carry, way.brackets["carry"], atol=1e-9)
    np.testing.assert_allclose(gain.gates, [c["carry"]["gates"] for c in way.chains], atol=1e-9)
    np.testing.assert_allclose(gain.recurrent, way.brackets["recurrent"], atol=1e-9)


@pytest.mark.parametrize("name", [n for n in PARALLEL if n.startswith("LSTM")])
def test_the_classes_of_an_lstm(name):
    way, graph = both(name, 3)
    gain = graph.gain()
    for part in ("gates", "saturation"):
        np.testing.assert_allclose(getattr(gain, part), [c["carry"][part] for c in way.chains], atol=1e-9)
    np.testing.assert_allclose(gain.recurrent, way.brackets["recurrent"], atol=1e-9)
    for part in ("weights", "constants", "other", "carry"):
        np.testing.assert_allclose(getattr(gain, part), 0, atol=1e-9)


def test_an_lstm_of_known_gates_loses_by_its_gates_alone():
    net = lstm_of_gates(0.5, hidden=6)
    x = series(30, 3)
    graph = tr.trace(Reads(net, c_n), x, loss=total)
    way = way_back(net, x, np.concatenate([np.zeros((3, 6)), np.ones((3, 6))], axis=1))
    gain = graph.gain()
    np.testing.assert_allclose(gain.log_norm, way.log_norm, atol=1e-9)
    np.testing.assert_allclose(gain.gates, -np.log(2), atol=1e-9)
    np.testing.assert_allclose(np.diff(gain.log_norm), gain.gates, atol=1e-9)
    assert [part for part, nats in gain.parts().items() if abs(nats) > 1e-9] == ["gates"]


def test_gates_that_differ_from_unit_to_unit_are_gates_alone():
    net, x = made("LSTM"), series(30, 3)
    net.weight_hh_l0.value[...] = 0
    graph = tr.trace(Reads(net, c_n), x, loss=total)
    way = way_back(net, x, np.concatenate([np.zeros((3, 6)), np.ones((3, 6))], axis=1))
    np.testing.assert_allclose(graph.gain().gates, [c["carry"]["gates"] for c in way.chains], atol=1e-9)
    np.testing.assert_allclose(graph.gain().gates, np.diff(way.log_norm), atol=1e-9)
