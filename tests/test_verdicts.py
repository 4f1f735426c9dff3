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

# one of each kind of net, each cause and each remedy; all sick rows together would take minutes
ADVISED = [
    "tanh, default, 20 steps",
    "tanh, orthogonal",
    "tanh, large weights",
    "relu, all units off",
    "relu, orthogonal",
    "relu, grows",
    "sigmoid, phi' = 1/4",
    "linear, 0.93 times orthogonal",
    "linear, one direction of 16 survives",
    "linear, nilpotent",
    "tanh, deep transition of 3",
    "diagonal recurrence of 0.9",
    "signs by Dale's law, columns of sum 0.9",
    "LSTM, default",
    "LSTM, output gate shut",
    "LSTM, forget gate shut at t = 30",
    "LSTM, written by a user",
    "GRU, default",
    "GRU, biased to forget",
    "GRU, written by a user",
    "leaky, 0.5",
    "leaky, 0.2, a rotation of 90 degrees",
    "MLP, tanh, default",
    "MLP, relu, default",
    "MLP, linear, 1.3 times orthogonal",
    "Sequential, tanh, no addresses",
    "residual tower, Residual, scale 3",
    "residual tower whose branches cancel",
    "convolutions in Sequential, no addresses",
    "3 of 8 sequences die",
    "detach in a net that loses it anyway",
    "one step multiplies by 1e-6",
    "bidirectional, backwards decays",
    "padded, short sequences in a long batch",
]  # fmt: skip

advised = pytest.mark.parametrize("name", ADVISED)


@cache
def advice_on(name):
    with np.errstate(all="ignore"):
        return graph_of(name).why()


def printed(found):
    """The trials that the advice names, one to a line."""
    return [trial for trial in found.tried if f"- {trial.name}: " in found.advice]


@advised
def test_advice_that_is_printed_was_measured(name):
    found = advice_on(name)
    assert (found.kind, found.cause) == (verdict_on(name).kind, verdict_on(name).cause)
    assert bool(found.advice) == bool(printed(found))
    for trial in printed(found):
        again = graph_of(name).what_if(trial.name)
        before, after = again.before.total, again.after.total
        assert np.isfinite(after)
        assert abs(after) < abs(before), (trial.name, before, after)
        assert after == pytest.approx(trial.after.total, abs=1e-9)


def statement(code):
    """What `exec` takes: advice on many matrices, or on how to build a layer, is for people."""
    return "net." in code and "=" in code and " the " not in code


@advised
def test_the_code_of_an_advice_does_what_was_measured(name):
    for trial in printed(advice_on(name)):
        if statement(trial.code):
            model, inputs, keywords = BY_NAME[name].build()
            exec(trial.code, {"net": model, "np": np, "tr": tr})
            assert tr.trace(model, *inputs, **keywords).gain().total == pytest.approx(trial.after.total, abs=1e-9), trial.code


def test_advice_exists_where_something_is_known_to_help():
    for name in ("tanh, default, 20 steps", "LSTM, default", "GRU, default", "MLP, tanh, default", "relu, orthogonal"):
        assert advice_on(name).advice, name


@rows(lambda net: as_set(net.kind) == {"healthy"} and has_module(net))
def test_a_healthy_net_gets_no_advice(net):
    assert graph_of(net.name).why().advice == ""


def test_a_function_of_the_model_can_be_tried():
    graph = graph_of("linear, 0.9 times orthogonal")
    before = graph["weight_hh_l0"].value.copy()
    found = graph.what_if(lambda net: net.weight_hh_l0.value.__imul__(1 / 0.9) is None)
    assert found.before.total == pytest.approx(49 * np.log(0.9), abs=1e-9)
    assert found.after.total == pytest.approx(0, abs=1e-9)
    np.testing.assert_array_equal(graph["weight_hh_l0"].value, before)


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
