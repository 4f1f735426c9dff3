"""what_if(): a copy is changed and traced with the same batch; the model that was traced stays as it is."""

import copy
import functools

import numpy as np
import pytest

import tinygrad_rnn as tr
from tinygrad_rnn.flow.what_if import _under_no_grad


def batch(steps=30, features=3, dtype="float64", seed=0):
    return np.random.default_rng(seed).standard_normal((steps, 4, features)).astype(dtype)


def last_mean(y):
    return (y[-1] * y[-1]).mean()


class Everything(tr.nn.Module):
    """A net with a buffer, a generator and a parameter that is used twice."""

    def __init__(self):
        self.rnn = tr.nn.LSTM(3, 8, 2, dropout=0.5, dtype="float64", seed=0)
        self.norm = tr.nn.BatchNorm1d(8, dtype="float64")
        self.again = self.rnn.weight_ih_l0

    def forward(self, x):
        return self.norm(self.rnn(x)[0][-1]) * self.again.sum()


def snapshot(model):
    generators = [m.generator.state.copy() for _, m in model.named_modules() if getattr(m, "generator", None) is not None]
    return copy.deepcopy(model.state_dict()), [p.grad for p in model.parameters()], generators, model.training


def assert_same(model, before):
    state, grads, generators, training = before
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, state[name], err_msg=name)
    after = snapshot(model)
    assert all(a is b for a, b in zip(after[1], grads, strict=True))
    for a, b in zip(after[2], generators, strict=True):
        np.testing.assert_array_equal(a, b)
    assert after[3] == training


@pytest.mark.parametrize("make", [Everything, lambda: tr.nn.GRU(3, 8, dtype="float64", seed=0)])
def test_the_model_is_not_touched(make):
    model = make()
    graph = tr.trace(model, batch(), loss=lambda y: (y * y).mean())
    before = snapshot(model)
    graph.why()
    for name in graph.remedies():
        graph.what_if(name)
    graph.what_if(lambda net: [p.value.fill(0) for p in net.parameters()])
    assert_same(model, before)


def test_a_copy_has_the_weights_the_buffers_and_the_chance_of_the_trace():
    model = Everything()
    graph = tr.trace(model, batch(), loss=lambda y: (y * y).mean())
    for p in model.parameters():  # what happens to the model afterwards changes nothing
        p.value += 1
    model.rnn.generator.state[:] = 7
    model.norm.running_mean.value += 5
    same = graph.what_if(lambda net: None)
    assert same.loss_after == same.loss_before == graph.loss.value.item()
    np.testing.assert_array_equal(same.after.rows, same.before.rows)
    assert same.nats_after == same.nats_before


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU", "LeakyRNN"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_is_advised_was_better_and_is_what_the_code_does(kind, dtype):
    x = batch(60, dtype=dtype)

    def net():
        return getattr(tr.nn, kind)(3, 12, dtype=dtype, seed=0, **({"leak": 0.5} if kind == "LeakyRNN" else {}))

    found = tr.trace(net(), x, loss=last_mean).why()
    assert found.kind == "vanishing" and found.advice.startswith("Tried on a copy with the same batch")
    named = [trial for trial in found.tried if f"- {trial}" in found.advice]
    assert 1 <= len(named) <= 2
    for trial in named:
        assert abs(trial.nats_after) < abs(trial.nats_before) - 0.5
        assert trial.code in found.advice and trial.torch in found.advice
        if ";" not in trial.code:  # a layer of another kind: no statement
            continue
        carried_out = net()
        exec(trial.code, {"net": carried_out, "np": np, "tr": tr})
        after = tr.trace(carried_out, x, loss=last_mean).why(advice=False)
        assert after.numbers["total_nats"] == pytest.approx(trial.nats_after, abs=1e-3 if dtype == "float32" else 1e-9)


def test_every_line_of_code_is_python():
    nets = [
        (tr.nn.LSTM(3, 4, 2, seed=0), batch(dtype="float32")),
        (tr.nn.RNN(3, 4, 5, nonlinearity="relu", seed=0), batch(dtype="float32")),
        (tr.nn.RNN(3, 4, nonlinearity="sigmoid", seed=0), 10 * batch(dtype="float32")),
        (
            tr.nn.Sequential(*[m for i in range(20) for m in (tr.nn.Linear(4, 4, seed=i), tr.nn.Sigmoid())]),
            batch(1, 4, "float32")[0],
        ),
    ]
    seen = 0
    for net, x in nets:
        for trial in tr.trace(net, x, loss=lambda y: y[-1].sum()).why().tried:
            for code in (trial.code, trial.torch):
                if "net." in code and "(...)" not in code:
                    compile(code, trial.name, "exec")
                    seen += 1
    assert seen > 20


def test_the_code_for_pytorch_does_the_same():
    torch = pytest.importorskip("torch")
    net = tr.nn.LSTM(3, 8, seed=0)
    found = tr.trace(net, batch(60, dtype="float32"), loss=last_mean).why()
    for trial in found.tried:
        if "bias" not in trial.name and "polar" not in trial.name:
            continue  # draws are not the same numbers
        here, there = copy.deepcopy(net), torch.nn.LSTM(3, 8)
        there.load_state_dict({k: torch.from_numpy(v) for k, v in net.state_dict().items()})
        exec(trial.code, {"net": here, "np": np, "tr": tr})
        with torch.no_grad():
            exec(trial.torch, {"net": there, "torch": torch})
        for name, value in here.state_dict().items():
            np.testing.assert_allclose(value, there.state_dict()[name].numpy(), atol=1e-5, err_msg=f"{trial.name}, {name}")


def test_only_what_writes_into_parameters_is_to_be_run_under_no_grad():
    notes = {}
    for net in (tr.nn.RNN(3, 8, seed=0), tr.nn.LSTM(3, 8, seed=0)):
        for trial in tr.trace(net, batch(60, dtype="float32"), loss=last_mean).why().tried:
            notes[trial.name.split(",")[0]] = _under_no_grad(trial.torch)
            writes = any(w in trial.torch for w in ("init.", ".copy_(", ".mul_(", ".div_(", "] = "))
            assert bool(_under_no_grad(trial.torch)) == writes, trial.torch
    assert notes["leaky units"] == ""  # a forward pass under no_grad has no gradient at all
    assert any(notes.values())


# ---- what was traced may be any function


READOUT = tr.nn.Linear(8, 2, dtype="float64", seed=1)


def through_a_global(net, x):
    return READOUT(net(x)[0][-1]).sum()


def test_functions_are_copied_with_what_they_refer_to():
    net = tr.nn.RNN(3, 8, dtype="float64", seed=0)
    before, readout = net.state_dict(), READOUT.state_dict()

    class Owner:
        def __init__(self):
            self.net = net

    functions = {
        "closure": lambda x: READOUT(net(x)[0][-1]).sum(),
        "partial": functools.partial(through_a_global, net),
        "method": tr.nn.Module.__call__.__get__(net),
        "default": lambda x, own=net: own(x)[0][-1].sum(),
        "list": (lambda nets: lambda x: nets[0](x)[0][-1].sum())([net]),
    }
    for name, f in functions.items():
        loss = (lambda y: y[-1].sum()) if name == "method" else None
        graph = tr.trace(f, batch(), loss=loss)
        found = graph.what_if("orthogonal weights")
        assert abs(found.nats_after) < abs(found.nats_before), name
        assert graph.why().advice, name
    for model, state in ((net, before), (READOUT, readout)):
        for key, value in model.state_dict().items():
            np.testing.assert_array_equal(value, state[key])


def test_a_loss_with_parameters_of_its_own_is_copied():
    net, head = tr.nn.RNN(3, 8, dtype="float64", seed=0), tr.nn.Linear(8, 1, dtype="float64", seed=1)
    graph = tr.trace(net, batch(), loss=lambda y: head(y[-1]).sum())
    before = head.state_dict()
    found = graph.what_if(lambda model: model.weight_hh_l0.value.fill(0))
    assert found.nats_after == -np.inf and "nothing left" in str(found)
    np.testing.assert_array_equal(head.weight.value, before["weight"])


def test_a_function_may_return_another_model():
    graph = tr.trace(tr.nn.RNN(3, 8, dtype="float64", seed=0), batch(), loss=lambda y: y[-1].sum())
    found = graph.what_if(lambda net: tr.nn.LeakyRNN(3, 8, leak=0.02, dtype="float64", seed=0))
    assert found.name == "<lambda>"
    assert found.after.alone["carry"][-1] - found.after.alone["carry"][0] == pytest.approx(29 * np.log(0.98), abs=1e-9)


# ---- what training does


def test_training_starts_from_two_copies():
    x, y = batch(dtype="float32"), np.ones((4, 8), "float32")
    net = tr.nn.RNN(3, 8, seed=0)
    starts = []

    def train(model):
        starts.append(model.state_dict())
        optimizer, losses = tr.optim.Adam(model.parameters(), lr=1e-2), []
        for _ in range(20):
            loss = tr.mse_loss(model(x)[0][-1], y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        return losses

    before = snapshot(net)
    graph = tr.trace(net, x, loss=lambda out: tr.mse_loss(out[-1], y))
    found = graph.what_if("orthogonal weights", train=train)
    assert_same(net, before)
    plain, changed = found.trained
    assert len(plain) == len(changed) == 20
    assert plain[0] == pytest.approx(found.loss_before, rel=1e-6)
    assert changed[0] == pytest.approx(found.loss_after, rel=1e-6)
    np.testing.assert_array_equal(starts[0]["weight_hh_l0"], net.weight_hh_l0.value)
    w = starts[1]["weight_hh_l0"]
    np.testing.assert_allclose(w @ w.T, np.eye(8), atol=1e-5)
    assert f"after 20 updates {plain[-2:].mean():.4g} without it, {changed[-2:].mean():.4g} with it" in str(found)
    with pytest.raises(ValueError, match="must return the losses of its updates, got none"):
        graph.what_if("orthogonal weights", train=lambda model: [])


# ---- bad requests


def test_a_remedy_that_a_net_cannot_have():
    graph = tr.trace(tr.nn.RNN(3, 8, dtype="float64", seed=0), batch(), loss=lambda y: y[-1].sum())
    with pytest.raises(ValueError, match="this net has no remedy 'forget bias'; it has 'orthogonal weights', 'polar factor"):
        graph.what_if("forget bias")


@pytest.mark.kernels
def test_graphs_without_a_model_say_so():
    net = tr.nn.RNN(3, 8, seed=0)
    step = tr.compile(lambda x: (net.zero_grad(), net(x)[0][-1].sum().backward()))
    for _ in range(3):
        step(batch(dtype="float32"))
    assert step.graph.why().kind == "vanishing" and step.graph.why().advice == ""
    assert step.graph.remedies() == []
    with pytest.raises(ValueError, match=r"was not made by tr\.trace\(model, \.\.\.\), so there is no model to copy"):
        step.graph.what_if("orthogonal weights")


def test_parameters_that_nothing_leads_to():
    class Holder:
        w = tr.nn.Parameter(np.eye(3) * 0.5, name="w")

    def model(x):
        h = x[0]
        for t in range(20):
            with tr.scope(t=t):
                h = tr.tanh(h @ Holder.w.T)
        return h

    graph = tr.trace(model, batch(), loss=lambda h: h.sum())
    assert graph.why().kind == "vanishing" and graph.why().advice == ""
    with pytest.raises(ValueError, match="the parameter 'w' is held by no Module that the traced function refers to"):
        graph.what_if(lambda net: None)


def test_where_there_is_no_way_back():
    graph = tr.trace(tr.nn.RNN(3, 8, dtype="float64", seed=0), batch(), loss=lambda y: y[0].sum())
    assert graph.why().kind == "no signal"
    assert graph.why().cause == "The loss depends on step 0 alone, so no gradient goes back from one step to another."
    with pytest.raises(ValueError, match="there is no way back to compare, no signal"):
        graph.what_if(lambda net: None)
