"""Verdicts on nets of known truth: every row of nets.py, with its kind, its part, its place, its cut and its numbers."""

from functools import cache

import numpy as np
import pytest
from net_models import attention_pooled, every_step, last, mean_pooled, rnn, series
from net_truth import chain_split, log_norms, profile
from nets import BY_NAME, NETS

import tinygrad_rnn as tr


def as_set(x):
    return x if isinstance(x, (set, tuple)) else {x}


def rows(wanted):
    found = [net for net in NETS if wanted(net)]
    return pytest.mark.parametrize("net", found, ids=[net.name for net in found])


@cache
def graph_of(name):
    with np.errstate(all="ignore"):
        return BY_NAME[name].trace()


@cache
def verdict_on(name):
    return graph_of(name).why(advice=False)


def sick(net):
    return not {"healthy", "not finite", "no signal"} & as_set(net.kind)


def has_module(net):
    return isinstance(net.model(), tr.nn.Module)


# ---- what is wrong


@rows(lambda net: True)
def test_the_kind(net):
    found = verdict_on(net.name)
    assert found.kind in as_set(net.kind), str(found)


@rows(lambda net: net.part is not None)
def test_the_part(net):
    found = verdict_on(net.name)
    if found.kind == "healthy":
        assert found.part == "", str(found)
    else:
        assert found.part in as_set(net.part), (str(found), found.gain and found.gain.parts())


@rows(lambda net: net.where is not None)
def test_the_place(net):
    found = verdict_on(net.name)
    assert found.where in as_set(net.where), str(found)


@rows(lambda net: net.at_t is not None)
def test_the_step(net):
    assert verdict_on(net.name).numbers["at_t"] in as_set(net.at_t)


@rows(lambda net: net.cut != "free" and "not finite" not in as_set(net.kind) and net.read is not None)
def test_the_cut(net):
    cut = verdict_on(net.name).numbers.get("cut")
    if net.cut is None:
        assert cut is None
    else:
        assert cut is not None
        assert net.cut == "any" or cut["t"] in as_set(net.cut)


@rows(lambda net: net.nats is not None)
def test_the_total(net):
    found = verdict_on(net.name)
    assert found.numbers["total_nats"] == pytest.approx(net.nats, abs=1e-9)
    assert graph_of(net.name).gain().total == pytest.approx(net.nats, abs=1e-9)


@rows(lambda net: net.chain)
def test_the_split_of_a_chain(net):
    gain = graph_of(net.name).gain()
    np.testing.assert_allclose(gain.rows, profile(graph_of(net.name), net.read), atol=1e-9)
    for part, nats in chain_split(graph_of(net.name), graph_of(net.name)["weight_hh_l0"].value).items():
        assert getattr(gain, part).sum() == pytest.approx(nats, abs=1e-9)


@rows(lambda net: net.read is not None and "no signal" not in as_set(net.kind))
def test_the_shapes_of_a_gain(net):
    gain = verdict_on(net.name).gain
    if gain is None:  # cut at the last step
        return
    steps = len(gain.lags)
    if net.cut is None:  # the recorded cotangents of all losses go on behind a cut
        assert gain.rows.shape == gain.total_rows.shape
    assert len(gain.rows) == len(gain.log_norm) == steps
    assert all(len(a) == steps for a in gain.alone.values())
    for part in ("saturation", "weights", "gates", "constants", "other", "sums", "carry", "recurrent"):
        assert getattr(gain, part).shape == (steps - 1,)
    assert all(s.shape == (steps - 1,) for s in gain.shares.values())


@rows(lambda net: net.rate is not None)
def test_the_rate(net):
    found = verdict_on(net.name)
    assert found.numbers["rate"] == pytest.approx(net.rate, rel=0.05)
    assert found.numbers["half_life"] == pytest.approx(np.log(2) / abs(net.rate), rel=0.05)


@rows(lambda net: net.share is not None)
def test_the_share_of_the_sequences(net):
    gain = graph_of(net.name).gain()
    with np.errstate(invalid="ignore"):
        lost = (gain.rows[-1] - gain.rows[0] < -np.log(100)).mean()
    assert lost == net.share


@rows(lambda net: net.sides is not None)
def test_the_two_directions(net):
    parts = verdict_on(net.name).parts
    assert sorted(v.kind for v in parts.values()) == sorted(net.sides)


def followed(net):
    return not {"not finite", "no signal"} & as_set(net.kind)


@rows(followed)
def test_the_numbers(net):
    found = verdict_on(net.name)
    if found.gain is None:  # cut at the last step: nothing to count
        return
    assert {"rate", "half_life", "reach", "lags", "total_nats", "cut", "at_t"} <= set(found.numbers)
    if found.where in ("one step", "read-out", "two phases"):
        assert found.numbers["at_t"] is not None


@pytest.mark.parametrize(("name", "base"), [("linear, 0.9 times orthogonal", 0.9), ("linear, 1.2 times orthogonal", 1.2)])
def test_a_rate_a_half_life_and_a_reach(name, base):
    numbers = verdict_on(name).numbers
    assert numbers["lags"] == 49
    assert numbers["rate"] == pytest.approx(np.log(base), abs=1e-9)
    assert numbers["half_life"] == pytest.approx(np.log(2) / abs(np.log(base)))
    assert numbers["reach"] == pytest.approx(np.log(100) / abs(np.log(base)), abs=1)


# ---- what it says


@rows(lambda net: True)
def test_the_words(net):
    found = verdict_on(net.name)
    assert found.cause
    assert found.advice == ""
    for bad in ("nan", "inf nats", "e-305", "None", *net.never):
        assert bad not in found.cause.replace("not a number", ""), found.cause


def test_the_first_number_that_is_not_finite_is_named():
    cause = verdict_on("an input is nan").cause
    assert "10" in cause and "x" in cause, cause
    assert "log" in verdict_on("the logarithm of 0 in the loss").cause


def test_a_net_cut_short_is_the_same_net():
    found = [verdict_on(f"tanh, default, {steps} steps") for steps in (8, 9, 20)]
    assert len({v.part for v in found}) == 1
    rates = [v.numbers["rate"] for v in found]
    assert min(rates) > 1.25 * max(rates)  # both are negative


def test_the_second_spelling_of_a_bias_is_the_same_net():
    first, second = (verdict_on(f"LSTM, forget bias -3 in bias_{side}") for side in ("ih", "hh"))
    assert first.numbers["total_nats"] == pytest.approx(second.numbers["total_nats"], abs=1e-9)
    assert (first.kind, first.part, first.where) == (second.kind, second.part, second.where)


# ---- advice is a measurement


@rows(lambda net: sick(net) and has_module(net))
def test_advice_that_is_printed_was_measured(net):
    graph = graph_of(net.name)
    found = graph.why()
    assert found.kind == verdict_on(net.name).kind
    if not found.advice:
        return
    printed = [trial for trial in found.tried if trial.name in found.advice or trial.code in found.advice]
    assert printed, found.advice
    for trial in printed:
        again = graph.what_if(trial.name)
        before, after = again.before.total, again.after.total
        assert np.isfinite(after)
        assert abs(after) < abs(before), (trial.name, before, after)


@rows(lambda net: as_set(net.kind) == {"healthy"} and has_module(net))
def test_a_healthy_net_gets_no_advice(net):
    assert graph_of(net.name).why().advice == ""


# ---- the gradient is what was recorded


@pytest.mark.parametrize("loss", [last, mean_pooled, attention_pooled, every_step])
@pytest.mark.parametrize("net", [rnn, lambda: tr.nn.GRU(3, 8, dtype="float64", seed=0), lambda: rnn(init="orthogonal")])
def test_total_rows_are_the_recorded_cotangents(net, loss):
    graph = tr.trace(net(), series(30), loss=loss)
    recorded = np.stack([log_norms([graph[0, t, "h"].grad]) for t in range(29, -1, -1)])
    rows = graph.gain().total_rows
    np.testing.assert_allclose(np.exp(rows - recorded), 1, atol=1e-6)


@pytest.mark.parametrize("loss", [mean_pooled, attention_pooled, every_step])
def test_the_signal_of_the_last_step_is_another_quantity(loss):
    graph = tr.trace(rnn(), series(50), loss=loss)
    gain = graph.gain()
    assert (gain.rows[-1] - gain.rows[0]).max() < -20
    assert (gain.total_rows[-1] - gain.total_rows[0]).min() > -3
