"""Verdicts on nets as users write them: what a fresh pair of eyes once made the verdict say wrongly."""

import threading

import numpy as np
import pytest

import tinygrad_rnn as tr


def series(steps=50, batch=4, features=3, seed=0):
    return np.random.default_rng(seed).standard_normal((steps, batch, features))


def orthogonal(n, seed=0):
    return tr.nn.init.orthogonal(np.random.default_rng(seed), (n, n))


class Loop(tr.nn.Module):
    """step(net, t, x, states) -> state, all states so far at hand; the loss sees the last one."""

    def __init__(self, step, **parameters):
        self._step = step
        for name, value in parameters.items():
            setattr(self, name, tr.nn.Parameter(value))

    def forward(self, x):
        states = []
        for t in range(len(x)):
            with tr.scope(layer=0, t=t):
                h = self._step(self, t, x[t], states)
                h.name = "h"
                states.append(h)
        return states[-1]


def last(y):
    return y[-1].sum()


def total(h):
    return h.sum()


# ---- padding


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
@pytest.mark.parametrize("lengths", [[50, 40, 30, 20], [40, 30, 20, 10]])
def test_every_padded_sequence_is_followed_from_its_own_end(kind, lengths):
    net, x = getattr(tr.nn, kind)(3, 8, dtype="float64", seed=0), series()
    states = 1 if kind == "LSTM" else None

    def h_n(x, **options):
        state = net(x, **options)[1]
        return (state if states is None else state[0])[-1]

    gain = tr.trace(lambda x: h_n(x, lengths=np.array(lengths)), x, loss=total).gain()
    for row, length in enumerate(lengths):  # a sequence alone, cut to its length
        alone = tr.trace(lambda x: h_n(x), x[:length, row : row + 1].copy(), loss=total).gain()  # noqa: B023
        np.testing.assert_allclose(gain.rows[:length, row], alone.rows[:, 0], atol=1e-9)
        np.testing.assert_allclose(gain.total_rows[:length, row], alone.total_rows[:, 0], atol=1e-9)
        assert np.isnan(gain.rows[length:, row]).all()


def test_backwards_a_padded_sequence_begins_at_its_end():
    net, lengths = tr.nn.GRU(3, 8, bidirectional=True, dtype="float64", seed=0), [50, 40, 30, 20]
    graph = tr.trace(lambda x: net(x, lengths=np.array(lengths))[1], series(), loss=lambda s: s.sum())
    found = graph.why(advice=False)
    back = found.parts["backwards"]
    assert back.kind == "vanishing" and "nothing" not in back.cause
    for row, length in enumerate(lengths):
        last, first = (np.linalg.norm(graph[1, t, "h"].grad[row]) for t in (0, length - 1))
        mine = back.gain.rows[:, row]
        mine = mine[~np.isnan(mine)]
        assert len(mine) == length
        assert mine[-1] - mine[0] == pytest.approx(np.log(first / last), abs=1e-9)


# ---- edges that lead past steps


@pytest.mark.parametrize("k", [2, 7, 8, 9, 10])
@pytest.mark.parametrize("steps", [57, 58, 61, 64])
def test_a_skip_over_many_steps_keeps_what_it_carries(k, steps):
    def step(net, t, x, states):
        new = tr.tanh(tr.linear(x, net.w) * 1e-3)
        return states[-k] + new if len(states) >= k else new

    found = tr.trace(Loop(step, w=np.ones((6, 3))), series(steps), loss=total).why(advice=False)
    assert found.kind == "healthy", str(found)
    assert "another quantity" not in found.cause


@pytest.mark.parametrize("k", [1, 2, 5])
def test_only_every_kth_state_is_used(k):
    def step(net, t, x, states):
        new = tr.linear(x, net.w)
        return states[-k] * 0.9 + new if len(states) >= k else new

    graph = tr.trace(Loop(step, w=np.ones((6, 3))), series(), loss=total)
    found = graph.why(advice=False)
    steps = len(graph.gain().lags) - 1
    assert steps == 49 // k
    assert found.numbers["total_nats"] == pytest.approx(steps * np.log(0.9), abs=1e-9)


def test_a_second_net_that_reads_every_other_state():
    options = {"nonlinearity": "identity", "bias": False, "init": "orthogonal", "dtype": "float64"}
    a, b = tr.nn.RNN(3, 6, seed=0, **options), tr.nn.RNN(6, 6, seed=1, **options)
    found = tr.trace(lambda x: b(a(x)[0][::2])[0], series(), loss=last).why(advice=False)
    assert found.kind == "healthy", str(found)
    assert found.numbers["steps"] <= 49


def test_a_last_step_that_ends_with_another_op_is_a_step():
    def step(net, t, x, states):
        h = (states[-1] if states else tr.Tensor(np.zeros((4, 6)))) @ net.w + x @ net.v
        return h * 0.001 if t == 59 else h

    net = Loop(step, w=orthogonal(6), v=np.ones((3, 6)))
    found = tr.trace(net, series(60), loss=total).why(advice=False)
    assert (found.kind, found.where, found.numbers["steps"]) == ("vanishing", "read-out", 59)
    assert found.numbers["total_nats"] == pytest.approx(np.log(0.001), abs=1e-9)


# ---- cuts


@pytest.mark.parametrize("how", ["rows", "units", "reset"])
def test_a_part_of_the_state_is_cut(how):
    def step(net, t, x, states):
        h = states[-1] if states else tr.Tensor(np.zeros((4, 6)))
        if t == 25 and how == "rows":
            h = tr.concatenate([h[:2].detach(), h[2:]], 0)
        if t == 25 and how == "units":
            h = tr.concatenate([h[:, :3].detach(), h[:, 3:]], 1)
        if t == 25 and how == "reset":
            h = tr.concatenate([tr.Tensor(np.zeros((2, 6))), h[2:]], 0)
        return tr.linear(x, net.w_ih) + tr.linear(h, net.w_hh)

    found = tr.trace(Loop(step, w_ih=np.ones((6, 3)), w_hh=orthogonal(6)), series(), loss=total).why(advice=False)
    assert "Each step back" not in found.cause or how != "units", found.cause
    if how == "units":
        assert "One path is cut at t = 25 by detach" in found.cause
    else:
        assert found.kind == "vanishing" and found.numbers["at_t"] == 25
        assert "In 2 of 4 sequences nothing is left." in found.cause


@pytest.mark.parametrize("how", ["no_grad", "detach", "numpy"])
def test_a_burn_in_without_gradients_is_named(how):
    net, x = tr.nn.RNN(3, 6, nonlinearity="identity", bias=False, init="orthogonal", dtype="float64", seed=0), series()

    def model(x):
        if how == "no_grad":
            with tr.no_grad():
                _, h = net(x[:40])
        else:
            _, h = net(x[:40])
            h = h.detach() if how == "detach" else tr.Tensor(h.value.copy())
        return net(x[40:], h)[0]

    found = tr.trace(model, x, loss=last).why(advice=False)
    assert (found.kind, found.part) == ("vanishing", "cut"), str(found)
    assert found.numbers["cut"]["op"] == {"numpy": "copy"}.get(how, how)


# ---- one function, several spellings of its state


@pytest.mark.parametrize("rate", [0.9, 0.999])
def test_a_complex_state_is_two_arrays_or_one(rate):
    size, angle = 8, np.linspace(0.1, 3, 8)

    class LRU(tr.nn.Module):
        def __init__(self, pair):
            self.nu = tr.nn.Parameter(np.full(size, np.log(-np.log(rate))))
            self.w = tr.nn.Parameter(np.random.default_rng(1).standard_normal((size, 3)))
            self._pair = pair

        def forward(self, x):
            a = b = tr.Tensor(np.zeros((4, size)))
            q = tr.Tensor(np.zeros((4, 2 * size)))
            for t in range(len(x)):
                with tr.scope(layer=0, t=t):
                    r, u = tr.exp(-tr.exp(self.nu)), tr.linear(x[t], self.w)
                    c, d = r * np.cos(angle), r * np.sin(angle)
                    if self._pair:
                        a, b = c * a - d * b + u, d * a + c * b
                        a.name, b.name = "h", "c"
                    else:
                        swapped = tr.concatenate([q[:, size:], q[:, :size]], -1)
                        zero = tr.concatenate([u, u * 0.0], -1)
                        q = tr.concatenate([c, c], -1) * q + tr.concatenate([-d, d], -1) * swapped + zero
                        q.name, a = "q", q[:, :size]
            return a

    found = [tr.trace(LRU(pair), series(), loss=total).why(advice=False) for pair in (True, False)]
    for verdict in found:
        assert verdict.numbers["total_nats"] == pytest.approx(49 * np.log(rate), abs=1e-9)
        assert verdict.numbers["constants_nats"] == pytest.approx(49 * np.log(rate), abs=1e-9)
        assert verdict.numbers["sums_nats"] == pytest.approx(0, abs=1e-9)


# ---- directions


def test_two_directions_in_one_layer():
    w = orthogonal(6)

    def model(x):
        ahead, back = [x[0] * 1.0], [None] * 50
        for t in range(1, 50):
            with tr.scope(t=t):
                ahead.append(ahead[-1] @ w + x[t])
        back[49] = x[49] * 1.0
        for t in range(48, -1, -1):
            with tr.scope(t=t):
                back[t] = back[t + 1] * 0.5 + x[t]
        return ahead[-1].sum() + back[0].sum()

    found = tr.trace(model, series(features=6)).why(advice=False)
    assert {name: part.kind for name, part in found.parts.items()} == {"forwards": "healthy", "backwards": "vanishing"}


def test_advice_is_for_both_directions():
    net = tr.nn.GRU(3, 8, bidirectional=True, dtype="float64", seed=0)
    graph = tr.trace(net, series(), loss=lambda y: y[-1, :, :8].sum() + y[0, :, 8:].sum())
    best = graph.why().tried[0]
    assert "_reverse" in best.code and best.nats_after > -2
    assert {part.kind for part in best.verdict.parts.values()} == {"healthy"}


# ---- what the numbers are about


def test_the_rate_is_that_of_the_sequence_that_is_spoken_of():
    def step(net, t, x, states):
        h = states[-1] if states else tr.linear(x, net.w)
        return h * np.array([1.0, 1.0, 0.5, 0.5])[:, None]

    n = tr.trace(Loop(step, w=np.ones((6, 3))), series(), loss=total).why(advice=False).numbers
    assert n["rate"] * n["steps"] == pytest.approx(n["total_nats"], abs=1e-9)
    plain = tr.trace(tr.nn.RNN(3, 16, dtype="float64", seed=0), 3 * series(), loss=last).why(advice=False).numbers
    assert plain["rate"] * plain["steps"] == pytest.approx(plain["total_nats"], abs=1e-9)


def test_a_list_of_outputs_reaches_the_loss_whole():
    net = tr.nn.RNNCell(3, 6, dtype="float64", seed=0)

    def model(x):
        states, h = [], None
        for t in range(len(x)):
            with tr.scope(layer=0, t=t):
                h = net(x[t], h)
                states.append(h)
        return states

    assert tr.trace(model, series(), loss=lambda states: states[-1].sum()).why(advice=False).numbers["steps"] == 49


def test_an_axis_that_there_is_not():
    graph = tr.trace(tr.nn.RNN(3, 6, dtype="float64", seed=0), series(), loss=last)
    for ask in (graph.why, graph.gain, lambda axis: graph.grad_terms("weight_hh_l0", axis)):
        with pytest.raises(ValueError, match='axis must be "t" \\(time\\) or "layer" \\(depth\\), got \'depth\''):
            ask(axis="depth")


# ---- what a copy may not do


def test_nothing_of_the_users_is_moved_by_advice():
    net, dice, chance, calls = tr.nn.RNN(3, 8, dtype="float64", seed=0), tr.Generator(1), np.random.default_rng(2), []

    def model(x):
        calls.append(len(calls))
        return net(tr.dropout(x, 0.1, generator=dice) + 1e-3 * chance.standard_normal(x.shape))[0]

    graph = tr.trace(model, series(), loss=last)
    before = dice.state.copy(), chance.bit_generator.state, list(calls)
    assert graph.why().advice
    np.testing.assert_array_equal(dice.state, before[0])
    assert chance.bit_generator.state == before[1]
    assert calls == before[2]


def test_a_model_that_cannot_be_copied_has_a_verdict_all_the_same():
    net = tr.nn.RNN(3, 8, dtype="float64", seed=0)
    net.lock = threading.Lock()
    graph = tr.trace(net, series(), loss=last)
    assert graph.why().kind == "vanishing" and graph.why().advice == ""
    with pytest.raises(ValueError, match="what_if: the model cannot be copied: cannot pickle"):
        graph.what_if("orthogonal weights")


def test_a_state_that_a_module_keeps_is_that_of_the_trace():
    class Keeps(tr.nn.Module):
        def __init__(self):
            self.net, self.h = tr.nn.RNN(3, 8, dtype="float64", seed=0), None

        def forward(self, x):
            out, self.h = self.net(x, self.h)
            return out

    graph = tr.trace(Keeps(), series(), loss=last)
    same = graph.what_if(lambda model: None)
    assert same.loss_after == same.loss_before


def test_peephole_weights_are_no_biases():
    class Peephole(tr.nn.Module):
        def __init__(self):
            self.x, self.h = tr.nn.Linear(3, 24, dtype="float64", seed=0), tr.nn.Linear(6, 24, dtype="float64", seed=1)
            self.peep = tr.nn.Parameter(np.full(6, 0.1))

        def forward(self, x):
            h = c = tr.Tensor(np.zeros((4, 6)))
            for t in range(len(x)):
                with tr.scope(layer=0, t=t):
                    z = self.x(x[t]) + self.h(h)
                    f = tr.sigmoid(z[:, 6:12] + self.peep * c)
                    c = f * c + tr.sigmoid(z[:, :6]) * tr.tanh(z[:, 12:18])
                    h = tr.sigmoid(z[:, 18:]) * tr.tanh(c)
                    h.name, c.name = "h", "c"
            return h

    found = tr.trace(Peephole(), series(), loss=total).why()
    gates = [trial for trial in found.tried if "for the gate" in trial.name]
    assert gates and all("peep" not in trial.code for trial in gates)
