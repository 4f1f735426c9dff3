"""Compiled functions against the same functions run eagerly: results, gradients, every node, over passes and programs."""

import ctypes
import gc
import pathlib
import re
import threading
import weakref
from collections import namedtuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from op_cases import CASES

import tinygrad_rnn as tr
from tinygrad_rnn.backends import native, reference
from tinygrad_rnn.compiler import ACROSS_STEPS, EXACT, PASSES, CaptureError
from tinygrad_rnn.compiler.capture import Capture
from tinygrad_rnn.compiler.instruction import _SPECS, regions
from tinygrad_rnn.nn import cells

pytestmark = pytest.mark.kernels

ALL = tuple(PASSES)


def rnn_step(rnn, reduce=lambda rnn, x: rnn(x)[1].sum()):
    def step(x):
        rnn.zero_grad()
        loss = reduce(rnn, x)
        loss.backward()
        return loss

    return step


def eager_tape(fn, *arguments):
    """(results, tape) of a call of fn that is not compiled."""
    with tr.Tape() as tape:
        return fn(*arguments), tape


def assert_same_nodes(step, tape, exact, scale=1.0):
    """Every node of the program's graph against those of an eager run."""
    ops = [i for i, role in enumerate(step.graph.roles) if role == "op"]
    assert len(ops) == len(tape.nodes)
    for i, node in zip(ops, tape.nodes, strict=True):
        assert step.graph.ops[i] is node.op
        for mine, theirs in ((step.graph.values[i], node.value), (step.graph.grads[i], node.grad)):
            assert (mine is None) == (theirs is None)
            if mine is not None:
                close(mine, theirs, exact, scale, f"{node.op.name} at {node.address}")


def close(mine, theirs, exact, scale=1.0, what=""):
    if exact:
        np.testing.assert_array_equal(mine, theirs, err_msg=what)
    else:
        eps = np.finfo(theirs.dtype).eps
        # what cancels is as wrong as the numbers of size 1 that it is made of
        size = np.abs(theirs[np.isfinite(theirs)]).max(initial=1)
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=50 * size * eps * scale, err_msg=what)


def compare(fn, calls, passes, parameters=(), exact=None, scale=1.0, nodes=True, every=None, generator=None):
    """Call `fn` compiled and eagerly with each of `calls`, twice, from equal states."""
    generator = generator or tr.Generator(0)
    exact = set(passes) <= set(EXACT) if exact is None else exact
    step = tr.compile(fn, passes=passes, checkpoint_every=every)
    for n, arguments in enumerate([*calls, *calls]):
        state, chance = [p.value.copy() for p in parameters], generator.state.copy()
        expected, tape = eager_tape(fn, *arguments)
        drawn, generator.state[...] = generator.state.copy(), chance
        gradients, updated = [p.grad for p in parameters], [p.value.copy() for p in parameters]
        for p, value in zip(parameters, state, strict=True):
            p.value[...] = value
        got = step(*arguments)
        assert (step.program is None) == (n == 0) and np.array_equal(generator.state, drawn)
        for mine, theirs in zip(_flat(got), _flat(expected), strict=True):
            close(mine.value, theirs.value, exact, scale, "result")
        for p, g, value in zip(parameters, gradients, updated, strict=True):
            assert (p.grad is None) == (g is None)
            if g is not None:
                close(p.grad, g, exact, scale, f"gradient of {p.name}")
            close(p.value, value, exact, scale, f"value of {p.name}")
        if n > 0 and nodes:
            assert_same_nodes(step, tape, exact, scale)
    assert step.program.runs == 2 * len(calls) - 2
    return step


def _flat(x):
    return [y for part in x for y in _flat(part)] if isinstance(x, (tuple, list)) else [x]


PASS_SETS = [(), EXACT, ALL, *[(name,) for name in PASSES], *[tuple(n for n in ALL if n != name) for name in PASSES]]


# ---- nets


@pytest.mark.parametrize("passes", PASS_SETS, ids=lambda p: "+".join(p) or "none")
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("layers", [1, 2])
def test_a_net_over_a_sequence(passes, batch, layers):
    rng = np.random.default_rng(0)
    rnn = tr.nn.RNN(4, 5, layers, dtype=np.float64, seed=0)
    readout = tr.nn.Linear(5, 3, dtype=np.float64, seed=1)

    def step(x, target):
        rnn.zero_grad()
        readout.zero_grad()
        output, _ = rnn(x)
        loss = tr.cross_entropy(readout(output).reshape(-1, 3), target)
        loss.backward()
        return loss, output

    calls = [(rng.standard_normal((6, batch, 4)), rng.integers(0, 3, 6 * batch)) for _ in range(3)]
    compare(step, calls, passes, [*rnn.parameters(), *readout.parameters()])


@pytest.mark.parametrize("nonlinearity", ["tanh", "relu", "sigmoid", "identity"])
@pytest.mark.parametrize(("bias", "batch_first"), [(True, False), (False, True), (True, True)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("steps", "batch", "features", "hidden"), [(1, 1, 1, 1), (7, 1, 3, 17), (5, 4, 1, 33), (9, 2, 8, 16)])
def test_all_kinds_of_nets(nonlinearity, bias, batch_first, dtype, steps, batch, features, hidden):
    rng = np.random.default_rng(1)
    rnn = tr.nn.RNN(features, hidden, 2, nonlinearity, bias, batch_first, init="orthogonal", dtype=dtype, seed=3)
    shape = (batch, steps, features) if batch_first else (steps, batch, features)
    calls = [(rng.standard_normal(shape).astype(dtype),) for _ in range(2)]
    compare(rnn_step(rnn), calls, ALL, rnn.parameters())


def gated_step(net):
    def step(x, *more):
        net.zero_grad()
        output, last = net(x, **dict(zip(("lengths",), more, strict=False)))
        loss = (output * output).sum() + sum(s.sum() for s in (last if isinstance(last, tuple) else (last,)))
        loss.backward()
        return loss, output

    return step


@pytest.mark.parametrize("passes", PASS_SETS, ids=lambda p: "+".join(p) or "none")
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("kind", ["LSTM", "GRU", "LeakyRNN"])
def test_gated_nets(kind, batch, passes):
    rng = np.random.default_rng(2)
    net = getattr(tr.nn, kind)(4, 5, 2, dtype=np.float64, seed=0)
    compare(gated_step(net), [(rng.standard_normal((6, batch, 4)),) for _ in range(2)], passes, net.parameters())


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("steps", "batch", "features", "hidden"), [(1, 1, 1, 1), (7, 1, 3, 17), (5, 4, 1, 33), (9, 2, 8, 16)])
def test_both_directions_and_lengths(kind, dtype, steps, batch, features, hidden):
    rng = np.random.default_rng(3)
    net = getattr(tr.nn, kind)(features, hidden, 2, bidirectional=True, dtype=dtype, seed=3)
    draw = lambda: rng.standard_normal((steps, batch, features)).astype(dtype)  # noqa: E731
    compare(gated_step(net), [(draw(),) for _ in range(2)], ALL, net.parameters(), scale=4)
    calls = [(draw(), rng.integers(1, steps + 1, batch)) for _ in range(2)]
    compare(gated_step(net), calls, ALL, net.parameters(), scale=4)


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_gates_need_no_copies_of_their_gradients(kind):
    """The gradients of gates are computed where those of all of them lie side by side, but for one (of an LSTM), or those that two
    products share (of a GRU), and every gate can be read all the same."""
    net, steps = getattr(tr.nn, kind)(4, 8, seed=0), 40
    step, x = tr.compile(gated_step(net)), np.random.default_rng(0).standard_normal((40, 2, 4)).astype(np.float32)
    for scale in (1, 1, 0.5, 1):
        step((scale * x).astype(np.float32))
    names = [i.kernel for i in step.program]
    assert names.count("copy") <= (1 if kind == "LSTM" else 3) * steps + 20
    assert names.count("fill") <= 4 and names.count("accumulate") <= steps + 4
    with tr.Tape() as tape:
        net(x)
    eager = {(n.address, n.name): n.value for n in tape.nodes if n.name}
    for gate in "ifgoc" if kind == "LSTM" else "rzn":
        for t in (1, 7, steps - 1):  # at 0 there is nothing to forget
            node = step.graph[0, t, gate]
            np.testing.assert_allclose(node.value, eager[tr.Address(0, t), gate], atol=1e-6)
            assert node.grad.shape == (2, 8) and np.any(node.grad)


def test_gates_of_a_square_weight():
    """The second product is then as square as that of a plain cell, and becomes one call with the first, activation and all."""
    rng = np.random.default_rng(0)
    w, u = (tr.nn.Parameter(rng.standard_normal((n, 8)), name=f"w{n}") for n in (3, 8))

    def step(x, h):
        w.zero_grad()
        u.zero_grad()
        gates = tr.lstm_gates(x @ w + h @ u)
        (gates * gates).sum().backward()
        return gates

    for batch in (1, 3):
        calls = [(tr.Tensor(rng.standard_normal((batch, 3))), tr.Tensor(rng.standard_normal((batch, 8)))) for _ in range(2)]
        assert "rnn_cell" in [i.kernel for i in compare(step, calls, ALL, [w, u]).program]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("batch", "hidden", "features"), [(1, 720, 720), (40, 130, 130), (200, 100, 100), (3000, 20, 40)])
def test_gates_of_large_products(batch, hidden, features, dtype, isa):
    """Every thread knows which gates its part of the columns belongs to."""
    rng = np.random.default_rng(0)
    w = tr.Tensor((rng.standard_normal((4 * hidden, features)) / features**0.5).astype(dtype))
    x = rng.standard_normal((batch, features)).astype(dtype)
    expected, _ = reference.lstm_gates(x.astype("f8") @ w.value.T.astype("f8"))
    before, results = tr.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            tr.set_num_threads(threads)
            step = tr.compile(lambda x: tr.lstm_gates(tr.linear(x, w)))
            results.append([step(x).value for _ in range(3)][-1])
            assert [i.kernel for i in step.program] == ["matmul"]
    finally:
        tr.set_num_threads(before)
    close(results[0], expected.astype(dtype), False)
    for y in results[1:]:
        np.testing.assert_array_equal(y, results[0])


def test_a_composed_cell_becomes_one_call_a_step_and_direction():
    rnn = tr.nn.RNN(4, 8, seed=0)
    step = tr.compile(rnn_step(rnn))
    x = np.ones((40, 2, 4), np.float32)
    for _ in range(3):
        step(x)
    assert len(step.program) <= 2 * 40 + 16
    names = [i.kernel for i in step.program]
    assert names.count("pack") == 2 and names.count("sum") == 2
    assert "calls are replayed" in step.program.explain()
    assert "h' [layer=0, t=7]" in str(step.program)


def leaky(size, dtype):
    recurrent = tr.nn.Linear(size, size, init="orthogonal", dtype=dtype, seed=0)

    def step(x):
        recurrent.zero_grad()
        h = x[0] * 0
        for t in range(len(x)):
            with tr.scope(layer=0, t=t):
                h = h * 0.9 + tr.tanh(recurrent(h) + x[t]) * 0.1
                h.name = "h"
        loss = (h * h).sum()
        loss.backward()
        return loss

    return step, recurrent


@pytest.mark.parametrize("passes", [(), EXACT, ALL])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_cell_of_ones_own(passes, dtype):
    rng = np.random.default_rng(2)
    step, recurrent = leaky(9, dtype)
    compiled = compare(
        lambda x: step(tr.Tensor(x)),
        [(rng.standard_normal((6, 3, 9)).astype(dtype),) for _ in range(2)],
        passes,
        recurrent.parameters(),
    )
    assert compiled.graph[0, 3, "h"].value.shape == (3, 9)


def test_a_deep_mlp():
    rng = np.random.default_rng(3)
    mlp = tr.nn.MLP(12, 10, seed=0)
    compare(
        rnn_step(mlp, lambda mlp, x: mlp(x).sum()),
        [(rng.standard_normal((4, 10)).astype("f4"),) for _ in range(2)],
        ALL,
        mlp.parameters(),
    )


# ---- whole training steps


@pytest.mark.parametrize("passes", [(), EXACT, ALL])
@pytest.mark.parametrize("make", ["sgd", "momentum", "adam", "adamw", "rmsprop", "centered"])
def test_training_steps_with_clipping(passes, make):
    rng = np.random.default_rng(4)
    data = [(rng.standard_normal((5, 3, 4)), rng.standard_normal((3, 6))) for _ in range(6)]

    def run(compiled):
        rnn = tr.nn.RNN(4, 6, dtype=np.float64, seed=0)
        optimizer = {
            "sgd": lambda: tr.optim.SGD(rnn.parameters(), 0.1),
            "momentum": lambda: tr.optim.SGD(rnn.parameters(), 0.1, momentum=0.9),
            "adam": lambda: tr.optim.Adam(rnn.parameters(), 0.01),
            "adamw": lambda: tr.optim.AdamW(rnn.parameters(), 0.01),
            "rmsprop": lambda: tr.optim.RMSprop(rnn.parameters(), 0.01, eps=0.1),
            "centered": lambda: tr.optim.RMSprop(rnn.parameters(), 0.01, eps=0.1, momentum=0.5, centered=True),
        }[make]()

        def step(x, y):
            loss = tr.mse_loss(rnn(x)[1][0], y)
            optimizer.zero_grad()
            loss.backward()
            norm = tr.optim.clip_grad_norm_(rnn.parameters(), 0.3)
            optimizer.step()
            return loss, norm

        f = tr.compile(step, passes=passes) if compiled else step
        trail = []
        for n, (x, y) in enumerate(data):
            optimizer.lr *= 0.5 if n == 4 else 1.0  # seen by a replay
            loss, norm = f(x, y)
            trail += [
                loss.item(),
                norm.item(),
                *[p.value.copy() for p in rnn.parameters()],
                *[p.grad.copy() for p in rnn.parameters()],
            ]
        if compiled:
            assert f.program.runs == 4
        return trail

    for a, b in zip(run(True), run(False), strict=True):
        close(np.asarray(a), np.asarray(b), set(passes) <= set(EXACT))


def test_the_graph_shows_the_parameters_that_the_forward_pass_saw():
    layer = tr.nn.Linear(3, 2, dtype=np.float64, seed=0)
    optimizer = tr.optim.SGD(layer.parameters(), 0.5)

    @tr.compile
    def step(x):
        optimizer.zero_grad()
        loss = layer(x).sum()
        loss.backward()
        optimizer.step()
        return loss

    x = np.random.default_rng(0).standard_normal((4, 3))
    for _ in range(3):
        before = layer.weight.value.copy()
        step(x)
    np.testing.assert_array_equal(step.graph["weight"].value, before)
    np.testing.assert_array_equal(step.graph["linear"][0].value, x @ before.T + step.graph["bias"].value)
    assert not np.array_equal(layer.weight.value, before)
    assert step.graph["x"].role == "input"


def test_gradients_add_up_where_nothing_forgets_them():
    p = tr.nn.Parameter(np.array([1.0, 2.0]), name="p")

    def add(x):
        (p * x).sum().backward()

    step = tr.compile(add)
    x = np.array([3.0, 5.0])
    for n in range(1, 7):
        step(x)
        np.testing.assert_array_equal(p.grad, n * x)
    p.grad = None  # outside: the next call starts anew
    for n in range(1, 5):
        step(x)
        np.testing.assert_array_equal(p.grad, n * x)
    p.grad = np.array([100.0, 100.0])
    step(x)
    np.testing.assert_array_equal(p.grad, 100 + x)


def test_gradients_that_a_function_does_not_touch_stay():
    layer = tr.nn.Linear(2, 2, dtype=np.float64, seed=0)
    look = tr.compile(lambda x: layer(x[None]).sum())
    for n in range(6):
        layer.zero_grad()
        (layer(X[None]) * float(n)).sum().backward()
        grad = layer.weight.grad
        look(X * (n + 1))
        assert layer.weight.grad is grad
    assert len(look.programs) == 1 and look.program.runs == 4


def test_gradients_may_be_dropped_at_the_end():
    p = tr.nn.Parameter(np.array([1.0, 2.0]), name="p")
    optimizer = tr.optim.SGD([p], 0.1)

    def step(x):
        (p * x).sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    compiled = compare(step_returning_nothing(step), [(X,), (X * 2,), (X * 3,)], ALL, [p])
    assert len(compiled.programs) == 1
    p.grad = np.array([10.0, 10.0])  # the next call adds to it, in a program of its own
    before = p.value.copy()
    compiled(X)
    np.testing.assert_allclose(p.value, before - 0.1 * (10 + X), rtol=1e-14)


def step_returning_nothing(step):
    def f(x):
        step(x)
        return tr.Tensor(np.zeros(1))

    return f


def test_gradients_of_tensors_among_the_arguments_reach_the_caller():
    step = tr.compile(lambda t: (t * t).sum().backward())
    for n in range(4):
        t = tr.Tensor(np.array([1.0, n]), requires_grad=True)
        step(t)
        np.testing.assert_array_equal(t.grad, [2.0, 2.0 * n])
        step(t)
        np.testing.assert_array_equal(t.grad, [4.0, 4.0 * n])


def test_tensors_beside_parameters():
    """Whatever their shapes and entries, equal ones too."""
    p = tr.nn.Parameter(np.ones((3, 2)), name="p")

    def step(x, scale):
        p.zero_grad()
        loss = ((x @ p) * scale).sum()
        loss.backward()
        return loss

    for shape in ((4, 3), (1, 3), (2, 3, 3)):
        calls = [(tr.Tensor(np.full(shape, n)), tr.Tensor(np.array(n))) for n in (1.0, 2.0)]
        compare(step, calls, ALL, [p])
    compare(step, [(tr.Tensor(np.ones((2, 3)), requires_grad=True), tr.Tensor(np.ones(2)))] * 2, ALL, [p], nodes=False)


def test_dropout_draws_afresh_at_every_replay():
    def run(compiled):
        generator = tr.Generator(3)
        f = (tr.compile if compiled else lambda f: f)(lambda x: tr.dropout(x, 0.5, generator=generator).sum())
        return [f(np.ones(100)).item() for _ in range(6)]

    assert run(True) == run(False)
    assert len(set(run(True))) > 3


REPLAYED = [c for c in CASES if c.op not in ("dropout", "batch_norm")]  # these write to what their cases make anew in each call


@pytest.mark.parametrize("case", REPLAYED, ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_op_is_replayed(case, dtype):
    """With other values than those captured, which decide about every branch that a rule could have taken."""
    rng = np.random.default_rng(7)
    shapes = max((s for s in case.shapes if all(0 not in x for x in s)), key=lambda s: sum(map(np.prod, s)))
    parameters = [tr.nn.Parameter(x, name=f"p{i}") for i, x in enumerate(case.inputs(rng, shapes, dtype))]
    mask = case.op == "take" and case.label == "mask"  # positions are data of the call

    def step(*arrays):
        for p in parameters:
            p.zero_grad()
        y = case.call(*[p * tr.Tensor(x) if case.op != "take" else p for p, x in zip(parameters, arrays, strict=True)])
        y.sum().backward()
        return y

    calls = [tuple(rng.uniform(0.5, 1.5, s).astype(dtype) for s in shapes) for _ in range(1 if mask else 3)]
    for passes in ((), ALL):
        compare(step, calls, passes, parameters, scale=10)


def test_targets_that_are_ignored_are_those_of_the_replay():
    x = tr.nn.Parameter(np.random.default_rng(0).standard_normal((5, 3)), name="x")

    def step(target):
        x.zero_grad()
        losses = [f(x, target) for f in (tr.cross_entropy, tr.nll_loss)]
        (losses[0] + losses[1]).backward()
        return losses

    calls = [(np.array(t),) for t in ([0, 1, 2, 0, 1], [-100, 1, -100, 0, 1], [-100] * 4 + [2], [0, -100, 0, 0, 0])]
    for passes in ((), ALL):
        compare(step, calls, passes, [x])


def test_running_statistics_are_updated_by_a_replay():
    rng = np.random.default_rng(1)
    calls = [rng.standard_normal((6, 3, 2)) for _ in range(5)]

    def run(compiled):
        mean, var, count, w = np.zeros(3), np.ones(3), np.zeros((), np.int64), tr.nn.Parameter(np.ones(3), name="w")

        def step(x):
            w.zero_grad()
            y = tr.batch_norm(x, mean, var, w, training=True, num_batches_tracked=count)
            ((y + tr.batch_norm(x, mean, var, w)) ** 2).sum().backward()
            return y

        f = tr.compile(step) if compiled else step
        out = []
        for x in calls:
            out += [f(x).value, w.grad.copy(), mean.copy(), var.copy(), count.copy()]
        assert count == 5
        return out

    for mine, theirs in zip(run(True), run(False), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("passes", [(), EXACT, ALL])
@pytest.mark.parametrize("every", [None, 2])
def test_training_a_net_with_buffers_and_chance(passes, every):
    """Weights, running statistics and masks after every step are those of the eager run, in evaluation mode too."""
    rng = np.random.default_rng(0)
    data = [(rng.standard_normal((7, 5)), rng.integers(-1, 3, 7)) for _ in range(6)]

    def run(compiled):
        options = {"dtype": np.float64}
        net = tr.nn.Sequential(
            tr.nn.Linear(5, 6, seed=0, **options),
            tr.nn.BatchNorm1d(6, **options),
            tr.nn.GELU(),
            tr.nn.Residual(
                tr.nn.Sequential(
                    tr.nn.LayerNorm(6, **options), tr.nn.Linear(6, 6, seed=1, **options), tr.nn.Dropout(0.4, seed=2)
                ),
                0.5,
            ),
            tr.nn.Linear(6, 3, seed=3, **options),
        )
        optimizer = tr.optim.Adam(net.parameters(), 0.01)

        def step(x, target):
            loss = tr.cross_entropy(net(x), target, ignore_index=-1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return loss

        def answer(x):
            return net(x)

        make = (lambda f: tr.compile(f, passes=passes, checkpoint_every=every)) if compiled else (lambda f: f)
        update = make(step)
        trail = []
        for x, target in data:
            trail.append(update(x, target).value)
            trail += [*net.state_dict().values(), *[p.grad.copy() for p in net.parameters()]]
            trail.append(net[3].module[2].generator.state.copy())
        net.eval()
        answer = make(answer)
        for x, _ in data[:4]:
            trail.append(answer(x).value)
        if compiled:
            assert (update.program.runs, answer.program.runs) == (4, 2)
            net[1].running_mean.value += 1.0  # what a later load_state_dict does
            np.testing.assert_allclose(answer(data[0][0]).value, net(data[0][0]).value, rtol=1e-12)
        return trail

    exact = set(passes) <= set(EXACT)
    for mine, theirs in zip(run(True), run(False), strict=True):
        close(mine, theirs, exact or theirs.dtype.kind in "iu")


def test_each_mode_has_a_program():
    """However the function reaches the modules, and for those modes alone that it looks up."""

    def run(compiled):
        net = tr.nn.Sequential(tr.nn.Linear(3, 4, seed=0), tr.nn.BatchNorm1d(4), tr.nn.Dropout(0.5, seed=1))
        nets, unmoved = {"all": [net]}, tr.nn.Dropout(0.5)  # in no place that names lead to, and not used

        def step(x):
            net.zero_grad()
            y = nets["all"][0](x)
            y.sum().backward()
            return y

        f = tr.compile(step) if compiled else step
        trail, rng = [], np.random.default_rng(0)
        for n in range(24):
            if n % 3 == 0:
                net.train(n % 2 == 0)
                unmoved.training = n % 4 == 0
            if n >= 18:
                net[2].training = False
            trail += [f(rng.standard_normal((5, 3)).astype("f4")).value, net[0].weight.grad.copy(), *net.state_dict().values()]
        if compiled:
            assert len(f.programs) == 3 and repr(f).startswith("<compiled step: 3 captures")
            assert sum(p.runs for p in f.programs) == 24 - 6
            net.train().eval()
            assert f(np.ones((5, 3), "f4")).value.shape == (5, 4) and len(f.programs) == 3
        return trail

    for mine, theirs in zip(run(True), run(False), strict=True):
        close(mine, theirs, theirs.dtype.kind in "iu", 4)


def test_a_mode_that_the_function_sets_itself_is_not_what_it_depends_on():
    net = tr.nn.LSTM(2, 3, 2, dropout=0.5, seed=0)

    @tr.compile
    def answer(x):
        net.eval()
        y = net(x)[0]
        net.train()
        return y

    x = np.ones((4, 1, 2), np.float32)
    first = answer(x).value
    for mode in (False, True, False):
        net.train(mode)
        np.testing.assert_allclose(answer(x).value, first, atol=1e-6)
    assert len(answer.programs) == 1 and answer.program.runs == 2


# ---- what instructions say that kernels touch


def updates():
    """Calls of the kernels that no op has."""
    w, v, g = (np.linspace(n, n + 1, 5) for n in range(3))
    for settings in np.array([[0.1, 0.9, 0.0, 0.0], [0.1, 0.9, 0.3, 1.0]]):
        yield native.sgd, (w, None, g, settings)
        yield native.sgd, (w, v, g, settings)
    for decay in ((0, 0), (0.3, 0), (0, 0.3)):
        yield native.adam, (w, v, v + 1, np.zeros(()), g, np.array([0.1, 0.9, 0.999, 1e-8, *decay]))
    for mean in (None, w / 10):
        for b in (None, w + 1):
            yield native.rmsprop, (w, v, mean, b, g, np.array([0.1, 0.9, 1e-8, 0.3, 0.9]))
    yield native.add_norm, (np.zeros(()), g)
    yield native.add_norm, (np.zeros(()), g * 1e200)
    yield native.clip_to_norm, (g, np.array(9.0), 0.5)
    yield native.clip_to_value, (g, 0.5)
    yield native.pack, (np.ones((7, 19)),)
    yield native.linear_activation, (np.ones((4, 7)), np.ones((3, 7)), np.ones(3), "tanh")
    yield native.matmul_add, (np.ones((4, 3)), np.ones((4, 7)), np.ones((7, 3)))


def touched(place, region):
    """Indices of the bytes of a buffer that a region touches."""
    at = np.full((), place.offset)
    for d, s in zip(region.shape, region.strides, strict=True):
        at = at[..., None] + np.arange(d) * s * region.item
    return (at[..., None] + np.arange(region.item)).ravel()


def check_what_is_touched(capture):
    """Each call again, alone, with everything poisoned that it is not said to read: it has to write the same, there alone."""
    memory = capture.memory()
    contents = {}
    for buffer, array in memory.contents():
        low, high = np.lib.array_utils.byte_bounds(array)
        contents[buffer] = np.frombuffer((ctypes.c_char * (high - low)).from_address(low), np.uint8).copy()
    for i in capture.instructions(memory):
        outcomes = []
        places = [(p, r) for p, r in zip(i.places, i.regions, strict=True) if p is not None and p.buffer in contents]
        reads, writes = {}, {}
        for p, r in places:
            for mode, found in ((r.reads, reads), (r.writes, writes)):
                if mode:
                    found.setdefault(p.buffer, np.zeros(len(contents[p.buffer]), bool))[touched(p, r)] = True
        for poison in (0xFF, 0x7B):
            own = {}
            for buffer in {p.buffer for p, _ in places}:
                seen = reads.get(buffer, np.zeros(len(contents[buffer]), bool))
                own[buffer] = np.where(seen, contents[buffer], np.uint8(poison))
            before = {b: x.copy() for b, x in own.items()}
            at = [0 if p is None else own[p.buffer].ctypes.data + p.offset if p.buffer in own else 64 for p in i.places]
            native.Replay([(i.kernel, i.dtype, tuple(at), i.n, i.c)]).run()
            for buffer, x in own.items():
                inside = writes.get(buffer, np.zeros(len(x), bool))
                assert np.array_equal(x[~inside], before[buffer][~inside]), f"{i.kernel} writes where it is not said to"
            outcomes.append({b: own[b][inside] for b, inside in writes.items()})
        for b, written in outcomes[0].items():
            assert np.array_equal(written, outcomes[1][b]), f"{i.kernel} reads where it is not said to, or writes less"
        yield i.kernel


def test_kernels_touch_what_instructions_say():
    seen = set()
    rng = np.random.default_rng(0)
    for case in CASES:
        for shapes in case.shapes:
            capture = Capture()
            with tr.Tape(), tr.use_backend(capture):
                tensors = [tr.Tensor(x, requires_grad=True) for x in case.inputs(rng, shapes)]
                out = case.call(*tensors)
                if out.requires_grad:
                    out.backward(rng.standard_normal(out.shape))
            seen.update(check_what_is_touched(capture))
    for f, arguments in updates():
        capture = Capture()
        getattr(capture, f.__name__)(*arguments)
        seen.update(check_what_is_touched(capture))
    assert seen == set(_SPECS), set(_SPECS) - seen


@pytest.mark.parametrize("passes", [EXACT, ALL], ids=["exact", "all"])
def test_a_condition_may_be_an_argument(passes):
    rng = np.random.default_rng(0)
    x, y = (tr.Tensor(rng.standard_normal(s), requires_grad=True, name=str(s)) for s in ((3, 4), (4,)))

    def step(condition, more):
        x.zero_grad()
        y.zero_grad()
        out = tr.where(condition, x * more, y) + tr.where(tr.relu(more), x, 1.0)
        (out * out).sum().backward()
        return out

    draw = lambda: (rng.random((4, 3)) < 0.5).T  # noqa: E731
    compare(step, [(draw(), tr.Tensor(rng.standard_normal((3, 4)))) for _ in range(3)], passes, [x, y])


def test_every_kernel_says_what_it_touches():
    header = (pathlib.Path(__file__).parent.parent / "csrc/tgr.h").read_text()
    names = set(re.findall(r"X\((\w+), \d", header)) - {"multiply_adds"}
    assert names == set(_SPECS)
    for name in names:
        _, pointers, sizes, _ = native.signature(name)
        n = (2, 3, 4, 4, 1, 4, 1) if sizes is None else (2,) * sizes
        assert len(regions(name, 0, n)) == pointers


# those have a generator, or statistics, that would not be new
WITHOUT_STATE = [c for c in CASES if c.op != "dropout" and not (c.op == "batch_norm" and "training" in c.label)]


@pytest.mark.parametrize("case", WITHOUT_STATE, ids=str)
def test_every_op_is_replayed_bit_by_bit(case):
    rng = np.random.default_rng(1)
    for shapes in case.shapes:
        g = rng.standard_normal(case.call(*map(tr.Tensor, case.inputs(rng, shapes))).shape)

        def step(*inputs, g=g):
            y = case.call(*inputs) * 1.0  # a node in any case: a shift by 0 is its input
            y.backward(g)
            return y

        compiled, arrays, results = tr.compile(step, passes=EXACT), case.inputs(rng, shapes), []
        for f in (step, compiled, compiled, compiled):
            inputs = [tr.Tensor(a, requires_grad=True) for a in arrays]
            results.append([f(*inputs).value, *(t.grad for t in inputs)])
        assert compiled.program.runs == 1  # the call after the one that is compared
        for replayed in results[1:]:
            for mine, theirs in zip(replayed, results[0], strict=True):
                np.testing.assert_array_equal(mine, theirs)


# ---- what each pass does to a list


def kernels(fn, passes, *arguments):
    """Names of the kernels of fn, compiled with some passes, in order; and the program."""
    step = tr.compile(fn, passes=passes)
    for _ in range(3):
        step(*arguments)
    return [i.kernel for i in step.program], step


ONES = np.ones((3, 4))


def test_dead_calls_are_left_out_and_can_be_read():
    names, step = kernels(lambda x: (tr.exp(x), tr.tanh(x) * 2.0)[0], ["dead"], ONES)
    assert names == ["exp"]
    np.testing.assert_allclose(step.graph["mul"][0].value, 2 * np.tanh(1.0), rtol=1e-15)


def test_what_is_computed_twice_is_shared():
    names, _ = kernels(lambda x: tr.exp(x) * tr.exp(x), ["share"], ONES)
    assert names == ["exp", "mul"]
    names, step = kernels(lambda x: (tr.exp(x), tr.exp(x)), ["share"], ONES)
    assert names == ["exp", "copy"]
    a, b = step(ONES)
    np.testing.assert_array_equal(a.value, b.value)


def test_the_same_after_a_write_is_not_shared():
    p = tr.nn.Parameter(ONES.copy())
    optimizer = tr.optim.SGD([p], 0.5)

    def fn():
        optimizer.zero_grad()
        before = p * 2.0
        before.sum().backward()
        optimizer.step()
        return before, p * 2.0

    compare(fn, [()] * 3, ["share"], [p], nodes=False)


def test_zeros_are_overwritten():
    def fn(x):
        p.zero_grad()
        h = p * x
        loss = (h[0] * h[1] + h[2]).sum()
        loss.backward()
        return loss

    p = tr.nn.Parameter(ONES.copy())
    before, _ = kernels(fn, [], ONES)
    after, _ = kernels(fn, ["overwrite"], ONES)
    assert before.count("fill") == 1 and before.count("accumulate") == 3
    assert after.count("fill") == 0 and after.count("accumulate") == 0
    compare(fn, [(ONES * 3,), (ONES * 5,)], ["overwrite"], [p])


@pytest.mark.parametrize(
    "parts",
    [
        [np.s_[:, :2], np.s_[:, 2:]],  # all there is
        [np.s_[:, :2], np.s_[:, 2:3]],
        [np.s_[:2, :2], np.s_[:2, 2:]],  # all columns, but not in every row
        [np.s_[1:, :2], np.s_[1:, 2:]],
        [np.s_[0], np.s_[:, :2]],  # a row, and columns of all
        [np.s_[0], np.s_[:, :4]],
        [np.s_[:, :2], np.s_[0], np.s_[:, 2:]],
        [np.s_[:, 1:3], np.s_[:, :2], np.s_[:, 2:]],  # some twice
        [np.s_[:, :3], np.s_[:, :2], np.s_[:, 3:]],
        [np.s_[:, ::2], np.s_[:, 1::2]],
        [np.s_[0, :1], np.s_[0], np.s_[:, 1:]],
        [np.s_[:, :2], np.s_[:, 2:], np.s_[:, :2]],
    ],
    ids=str,
)
@pytest.mark.parametrize("rows", [1, 3])
def test_zeros_are_overwritten_by_columns(parts, rows):
    """But never left out where something of them is seen."""
    p = tr.nn.Parameter(np.linspace(1, 2, 4 * rows).reshape(rows, 4))

    def fn(x):
        p.zero_grad()
        h = p * x
        first, *others = [tr.tanh(h[part]).sum() for part in reversed(parts)]
        loss = sum(others, first)
        loss.backward()
        return loss

    rng = np.random.default_rng(0)
    for passes in (["overwrite"], ALL):
        step = compare(fn, [(rng.standard_normal((rows, 4)),) for _ in range(2)], passes, [p])
        step.program._arena.view(np.uint8)[...] = 0xFF  # nan, wherever nothing is written
        p.value[...] = 1.0
        assert np.isfinite(step(np.ones((rows, 4))).value) and np.isfinite(p.grad).all()


@pytest.mark.parametrize("passes", [(), EXACT, ALL])
def test_rows_of_another_length_stay_apart(passes):
    """What lies in memory as the rows of a kernel do not: a product that is reshaped before its gates, a state before it is joined."""
    rng = np.random.default_rng(0)
    w, a, b, c = (tr.nn.Parameter(rng.standard_normal(s), name=f"p{s}") for s in ((3, 8), (2, 6), (2, 6), (2, 6)))

    def step(x):
        for p in (w, a, b, c):
            p.zero_grad()
        gates = tr.lstm_gates((x @ w).reshape(4, 4))
        joined = tr.concatenate([tr.functions.addcmul(a, b, c).reshape(4, 3), gates], axis=-1)
        (joined * joined).sum().backward()
        return gates, joined

    compare(step, [(tr.Tensor(rng.standard_normal((2, 3))),) for _ in range(2)], passes, [w, a, b, c])


@pytest.mark.parametrize("passes", [(), EXACT, ALL])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gates_that_broadcast(passes, dtype):
    """A leak for each unit, a peephole and a number, over steps: rows of stride 0, columns, and one entry for all."""
    rng = np.random.default_rng(0)
    shapes = {"w": (4, 4), "leak": (4,), "column": (3, 1), "peep": (1, 4), "one": ()}
    parameters = {n: tr.nn.Parameter(rng.uniform(0.2, 0.8, s).astype(dtype), name=n) for n, s in shapes.items()}

    def step(x):
        for p in parameters.values():
            p.zero_grad()
        w, leak, column, peep, one = parameters.values()
        h = c = x[0]
        for t in range(len(x)):
            c = tr.lstm_state(one, leak, tr.addcmul(x[t] @ w, peep, h, value=0.5), c)
            h = tr.lerp(tr.tanh(c), tr.lerp(h, 0.1, 0.2), column)
        (h * h).sum().backward()
        return h

    compare(step, [(rng.standard_normal((5, 3, 4)).astype(dtype),) for _ in range(3)], passes, [*parameters.values()], scale=4)


def test_copies_are_placed():
    names, step = kernels(lambda x: tr.stack([tr.exp(x), tr.tanh(x), tr.exp(x * 2.0)]), ["place"], ONES)
    assert "copy" not in names
    np.testing.assert_array_equal(step.graph["tanh"][0].value, np.tanh(ONES))
    # what is copied twice can lie in one place only; an input, in none
    names, step = kernels(lambda x: (lambda y: tr.stack([y, y, tr.functions.as_tensor(x)]))(tr.exp(x)), ["place"], ONES)
    assert names.count("copy") == 2
    np.testing.assert_array_equal(step(ONES * 2).value, np.stack([np.exp(ONES * 2)] * 2 + [ONES * 2]))


def test_products_with_one_weight_are_one():
    w = tr.nn.Parameter(np.arange(20.0).reshape(5, 4), name="w")

    def fn(x):
        return tr.stack([tr.tanh(tr.linear(x[t], w)) for t in range(len(x))])

    x = np.random.default_rng(0).standard_normal((6, 3, 4))
    names, _ = kernels(fn, ["order", "batch"], x)
    assert names.count("matmul") == 1
    compare(fn, [(x,), (x + 1,)], ["order", "batch"])

    def chain(x):  # each needs the one before
        h = x
        for _ in range(4):
            h = tr.tanh(tr.linear(h, v))
        return h

    v = tr.nn.Parameter(np.eye(4), name="v")
    assert kernels(chain, ["order", "batch"], ONES)[0].count("matmul") == 4


def test_a_step_of_a_net_is_one_call_when_its_input_is_not_batched():
    rnn = tr.nn.RNN(4, 5, dtype=np.float64, seed=0)
    names, _ = kernels(lambda x: rnn(x)[1], ["dead", "fuse", "pack"], np.ones((6, 2, 4)))
    assert names.count("rnn_cell") == 6 and names.count("matmul") == 0
    compare(lambda x: rnn(x)[1], [(np.random.default_rng(0).standard_normal((6, 2, 4)),)] * 2, ["dead", "fuse", "pack"])


def test_what_a_pass_folds_away_is_not_what_others_read():
    """Each of these reads an intermediate result that a careless fusion would drop."""
    w = tr.nn.Parameter(np.random.default_rng(0).standard_normal((4, 4)), name="w")
    for fn in (
        lambda x: (lambda z: (tr.tanh(z), z))(tr.linear(x, w)),
        lambda x: (lambda z: tr.tanh(z) * tr.sigmoid(z))(tr.linear(x, w)),
        lambda x: (lambda z: tr.linear(z, w) + z)(tr.linear(x, w)),
        lambda x: (lambda z: z + z)(tr.linear(x, w)),
        lambda x: (lambda z: tr.tanh(z[0] + z[1]))(tr.linear(x, w)),
        lambda x: (lambda y, z: tr.stack([y + z, y * z, z]))(tr.linear(x, w), tr.tanh(x)),
        lambda x: tr.tanh(tr.linear(x, w) + tr.linear(tr.mul(x, x), w)),
    ):
        compare(fn, [(ONES * 0.3,), (ONES * 0.7,)], ALL)


# ---- long sequences


@pytest.mark.parametrize("every", [1, 3, 7, 100])
@pytest.mark.parametrize("layers", [1, 2])
def test_recomputed_stretches_give_the_same_bits(every, layers):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((30, 2, 4)).astype(np.float32)
    across = [n for n in PASSES if n not in ACROSS_STEPS]
    trails = []
    for options in ({"passes": across}, {"checkpoint_every": every}):
        rnn = tr.nn.RNN(4, 8, layers, seed=0)
        step = tr.compile(rnn_step(rnn, lambda rnn, x: (rnn(x)[0] * 0.1).sum()), **options)
        trails.append([(step(x * n).item(), *[p.grad.copy() for p in rnn.parameters()]) for n in range(1, 5)])
    for a, b in zip(*trails, strict=True):
        for u, v in zip(a, b, strict=True):
            np.testing.assert_array_equal(u, v)
    reference = tr.trace(rnn, x * 4, loss=lambda output: (output * 0.1).sum())
    for t in (0, 11, 29):
        for what in ("h", "z"):
            close(step.graph[0, t, what].value, reference[0, t, what].value, False, 10)
            close(step.graph[0, t, what].grad, reference[0, t, what].grad, False, 10)


def test_memory_grows_with_the_root_of_the_steps():
    bytes_ = {}
    for steps in (64, 576):
        for every in (None, round(steps**0.5)):
            rnn = tr.nn.RNN(2, 16, seed=0)
            step = tr.compile(rnn_step(rnn), checkpoint_every=every)
            for _ in range(2):
                step(np.ones((steps, 4, 2), np.float32))
            bytes_[steps, every] = step.program.bytes
    assert bytes_[576, None] > 7 * bytes_[64, None]
    assert bytes_[576, 24] < 3.2 * bytes_[64, 8] and bytes_[576, 24] < bytes_[576, None] / 8


# ---- what is seen, and what is kept


def test_changes_from_outside_are_seen():
    layer = tr.nn.Linear(2, 2, dtype=np.float64, seed=0)
    step = tr.compile(lambda x: layer(x))
    x = np.array([[1.0, 2.0]])
    for _ in range(3):
        step(x)
    layer.weight.value[...] = 1
    layer.load_state_dict({"weight": layer.weight.value, "bias": np.array([1.0, 2.0])})
    np.testing.assert_array_equal(step(x).value, [[4, 5]])
    layer.weight.value = np.zeros((2, 2))  # another array: another program
    np.testing.assert_array_equal(step(x).value, [[1, 2]])
    constant = tr.Tensor(np.array([[3.0, 4.0]]))
    step = tr.compile(lambda x: constant * x)
    for _ in range(3):
        step(x)
    constant.value = np.array([[10.0, 10.0]])
    np.testing.assert_array_equal(step(x).value, [[10, 20]])


def test_results_are_copies_and_structures_stay():
    step = tr.compile(lambda x: {"a": (tr.Tensor(x) * 2.0, [None, 3]), "b": x})
    kept = [step(np.full(2, float(n))) for n in range(5)]
    for n, result in enumerate(kept):
        np.testing.assert_array_equal(result["a"][0].value, [2.0 * n] * 2)
        np.testing.assert_array_equal(result["b"], [n, n])
        assert result["a"][1] == [None, 3]


def test_one_program_for_each_shape_and_a_bounded_number():
    step = tr.compile(lambda x, k=1.0: tr.Tensor(x) * k, programs=3)
    for _ in range(3):
        for n in range(1, 4):
            np.testing.assert_array_equal(step(np.ones(n)).value, np.ones(n))
    assert len(step.programs) == 3
    for n in range(4, 9):
        step(np.ones(n))
        step(np.ones(n))
    assert len(step.programs) == 3
    np.testing.assert_array_equal(step(np.ones(2), k=2.0).value, [2, 2])
    with pytest.warns(UserWarning, match="pass what changes"):
        for n in range(20):
            step(np.ones(2), float(n))


def test_integers_of_any_dtype_and_layout():
    weight = tr.nn.Parameter(np.arange(12.0).reshape(6, 2), name="w")
    step = tr.compile(lambda i: tr.embedding(weight, i[:, ::2]))
    rng = np.random.default_rng(0)
    for dtype in (np.int64, np.int32, np.uint8):
        for _ in range(4):
            i = rng.integers(0, 6, (3, 5)).astype(dtype)
            np.testing.assert_array_equal(step(i).value, weight.value[i[:, ::2]])
    assert len(step.programs) == 1
    with pytest.raises(IndexError, match="outside"):
        step(np.full((3, 5), 6))


def test_elided_nodes_are_recomputed_when_read():
    rnn = tr.nn.RNN(3, 4, dtype=np.float64, seed=0)
    step = tr.compile(rnn_step(rnn))
    rng = np.random.default_rng(0)
    for _ in range(4):
        x = rng.standard_normal((5, 2, 3))
        step(x)
    z = step.graph[0, :, "z"].value
    np.testing.assert_allclose(np.tanh(z), step.graph[0, :, "h"].value, rtol=1e-13)
    step(x * 0.5)
    assert np.abs(step.graph[0, :, "z"].value - z).max() > 0.01  # not those of the run before
    np.testing.assert_allclose(step.graph.grad_terms("weight_hh_l0").sum(), rnn.weight_hh_l0.grad, rtol=1e-12)
    reference = tr.trace(rnn, x * 0.5, loss=lambda output: output[-1].sum())
    np.testing.assert_allclose(step.graph.gain().log_norm, reference.gain().log_norm, rtol=1e-9)
    assert step.graph.why().kind == reference.why().kind


@pytest.mark.parametrize("every", [None, 6])
def test_elided_nodes_are_recomputed_in_batches_of_bounded_size(every):
    rnn = tr.nn.LSTM(3, 4, 2, dtype=np.float64, seed=0)
    fn = rnn_step(rnn, lambda rnn, x: (rnn(x)[0] * 0.1).sum())
    step = tr.compile(fn, checkpoint_every=every)
    x = np.random.default_rng(0).standard_normal((40, 2, 3))
    for n in range(4):
        step(x * n)
    elided = step.program._elided_arrays

    def size():
        return sum(a.nbytes for a in elided._known.values())

    few = [step.graph[1, t, "linear"][-1].value for t in (30, 3, 17)]
    assert 0 < elided.batches <= len(few)
    if every is None:  # a few reads do not compute everything
        assert size() < 40 * few[0].nbytes
    _, tape = eager_tape(fn, x * 3)
    assert_same_nodes(step, tape, False)
    assert elided.batches < elided._reads / 20
    everything, elided._limit = size(), 0
    step(x * 3)
    assert_same_nodes(step, tape, False)  # in an order in which nothing can be kept for long
    assert size() < everything / 3
    ops = [i for i, role in enumerate(step.graph.roles) if role == "op"]
    for limit in (5000, everything):  # and in the opposite order
        elided._limit = limit
        step(x * 3)
        for i, node in zip(reversed(ops), reversed(tape.nodes), strict=True):
            close(step.graph.values[i], node.value, False)
    step(x)
    np.testing.assert_allclose(np.tanh(step.graph[0, 7, "c"].value), step.graph[0, 7, "tanh"].value, rtol=1e-12)


def test_inside_a_tape_or_another_compiled_function_it_simply_runs():
    inner = tr.compile(lambda x: tr.mul(x, x))
    outer = tr.compile(lambda x: inner(x) + 1.0)
    for n in range(4):
        np.testing.assert_array_equal(outer(np.array([float(n)])).value, [1.0 * n * n + 1])
    assert len(outer.program) == 2 and inner.program is None
    graph = tr.trace(lambda x: inner(x).sum(), np.ones(2))
    assert len(graph["mul"]) == 1


def test_it_lets_go_of_models():
    def make():
        rnn = tr.nn.RNN(2, 3, seed=0)
        step = tr.compile(rnn_step(rnn))
        for _ in range(3):
            step(np.ones((4, 1, 2), np.float32))
        return step, weakref.ref(rnn)

    step, alive = make()
    step(np.ones((4, 1, 2), np.float32))  # the function keeps its model
    del step
    gc.collect()
    assert alive() is None


def test_from_many_threads():
    rnn = tr.nn.RNN(3, 16, seed=0)
    with tr.no_grad():
        expected = {n: rnn(np.full((9, 2, 3), n, np.float32))[0].value for n in range(4)}
    step = tr.compile(lambda x: rnn(x)[0])
    wrong = []

    def work(n):
        for _ in range(30):
            if np.abs(step(np.full((9, 2, 3), n, np.float32)).value - expected[n]).max() > 1e-5:
                wrong.append(n)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


class _Subclass(np.ndarray):
    pass


class _Doubled:
    factor = 2.0


def test_calls_after_the_first_replay_take_the_shortcut_where_nothing_else_differs():
    layer = tr.nn.Sequential(tr.nn.Linear(3, 3, dtype=np.float64, seed=0), tr.nn.Dropout(0.5))
    layer.eval()
    p = layer[0].weight

    def fn(x, how="sum", scale=_Doubled, n=1):
        layer.zero_grad()
        y = layer(tr.Tensor(x) if isinstance(x, np.ndarray) else x) * (scale.factor if hasattr(scale, "factor") else scale)
        loss = y.sum() if how == "sum" else (y * y).sum()
        loss = loss * float(n)
        if how != "no gradient":
            loss.backward()
        return loss

    step, rng = tr.compile(fn), np.random.default_rng(0)
    ran = []
    call = step._call

    class Watched(type(step)):
        def _call(self, *arguments):
            ran.append(arguments)
            return call(*arguments)

    step.__class__ = Watched

    def check(*arguments, **keywords):
        ran.clear()
        got = step(*arguments, **keywords)
        direct, gradient = not ran, None if p.grad is None else p.grad.copy()
        expected = fn(*arguments, **keywords)
        np.testing.assert_allclose(got.value, expected.value, rtol=1e-12)
        np.testing.assert_allclose(gradient, p.grad, rtol=1e-12)
        return direct

    def settle(*arguments):
        for _ in range(4):
            check(rng.standard_normal((2, 3)), *arguments)
        assert check(rng.standard_normal((2, 3)), *arguments)

    settle()
    x = rng.standard_normal((3, 2)).T
    assert check(x) and check(x[::-1]) and check(np.asfortranarray(x)) and check(x.astype(">f8"))
    for other in (
        lambda: check(rng.standard_normal((3, 3))),  # another shape, and the same number of entries
        lambda: check(rng.standard_normal((2, 1, 3))),
        lambda: check(tr.Tensor(x)),
        lambda: check(x, "square"),
        lambda: check(x, how="sum"),
        lambda: check(x, "sum", 3.0),
        lambda: check(x, "sum", _Doubled, 7),
        lambda: check(x.view(_Subclass)),
    ):
        settle()
        assert not other()
    settle()
    p.value[...] *= 2  # in place: seen, and no reason to leave
    assert check(x)
    p.value = p.value.copy()
    assert not check(x)
    settle()
    layer.train()
    ran.clear()
    step(x)
    assert ran
    layer.eval()
    ran.clear()
    step(x)
    assert ran  # a mode was changed: the modules are looked at once
    settle()
    with tr.no_grad():
        ran.clear()
        step(x, "no gradient")
        assert ran
    settle()
    with tr.Tape() as tape:
        ran.clear()
        step(x)
        assert ran and tape.nodes
    settle()
    with tr.use_backend("reference"):
        ran.clear()
        step(x)
        assert ran
    settle()
    with pytest.raises(TypeError):
        step()
    with pytest.raises(TypeError):
        step(x, "sum", _Doubled, 1, 5)
    settle()


def test_the_shortcut_minds_gradients_and_arguments_that_are_equal():
    p = tr.Tensor(np.ones(3), requires_grad=True)

    def accumulate(x, name, n):
        (p * x).sum().backward()
        return x

    step = tr.compile(accumulate)
    names = ["".join(["na", "me"]) for _ in range(12)]  # equal, not the same
    total = np.zeros(3)
    for i in range(12):
        x = np.full(3, float(i))
        result = step(x, names[i], 1000 + 0 * i)
        assert result is not x
        np.testing.assert_array_equal(result, x)
        total += x
        np.testing.assert_array_equal(p.grad, total)
    assert step._shortcut is not None
    p.grad = np.full(3, 100.0)  # another array: what the program adds to must not be the old one
    step(np.ones(3), names[0], 1000)
    np.testing.assert_array_equal(p.grad, 101.0)
    p.grad = None
    step(np.ones(3), names[0], 1000)
    np.testing.assert_array_equal(p.grad, 1.0)


def test_shortcuts_to_results_of_every_form():
    """A field called value is not the value of a tensor."""
    Result = namedtuple("Result", "value loss")
    forms = (
        lambda y: y,
        lambda y: y.value,
        lambda y: Result(y.value, y.sum()),
        lambda y: [y, {"a": y.sum()}, (y.value,)],
        lambda y: None,
    )
    for form in forms:
        step = tr.compile(lambda x, form=form: form(tr.Tensor(x) * 2))
        for n in range(5):
            x = np.array([1.0, n])
            got, expected = step(x), form(tr.Tensor(x) * 2)
            assert type(got) is type(expected)
            for mine, theirs in zip(_flat(got), _flat(expected), strict=True):
                assert type(mine) is type(theirs) and repr(mine).split(", op")[0] == repr(theirs).split(", op")[0]
        assert step._shortcut is not None


@pytest.mark.parametrize("check", [True, False])
def test_the_shortcut_of_an_argument_that_has_not_differed_yet(check):
    """It is taken while that stays as it was; the first call with other values is compared with the function itself."""
    ran = []

    def fn(x, constant):
        ran.append(0)
        return (tr.Tensor(x) * constant).sum()

    step, constant = tr.compile(fn, check=check), np.array([1.0, 2.0])
    for n in range(6):
        assert step(np.array([n, 1.0]), constant.copy()).item() == n + 2
    assert step._shortcut is not None
    assert len(ran) == (2 if check else 1)
    ran.clear()
    assert step(np.ones(2), constant + 1).item() == 5
    assert len(ran) == check
    for n in range(4):
        assert step(np.ones(2), constant + n).item() == 3 + 2 * n
    assert len(ran) == check and step._shortcut is not None


def test_the_shortcut_holds_no_argument():
    step = tr.compile(lambda x: tr.Tensor(x).sum())
    x = np.arange(4.0)
    for n in range(5):
        x = np.arange(4.0) + n
        step(x)
    alive = weakref.ref(x)
    del x
    gc.collect()
    assert alive() is None


def test_an_index_outside_its_axis_in_a_shortcut():
    table = tr.Tensor(np.arange(6.0).reshape(3, 2))
    step = tr.compile(lambda i: tr.embedding(table, i).sum())
    for n in range(5):
        step(np.array([n % 3, 1]))
    assert step._shortcut is not None
    with pytest.raises(IndexError, match="outside its axis"):
        step(np.array([7, 1]))
    np.testing.assert_array_equal(step(np.array([2, 1])).value, 14.0)


# ---- what cannot be captured


def raises_capture_error(fn, calls, match):
    step = tr.compile(fn)
    with pytest.raises(CaptureError, match=match):
        for arguments in calls:
            step(*arguments)


X = np.array([1.0, 2.0])


def test_what_cannot_be_repeated_is_refused():
    layer = tr.nn.Linear(2, 2, dtype=np.float64, seed=0)
    counter = iter(range(100))
    kept = {}

    def stateful(x):
        h = kept.get("h", tr.Tensor(np.zeros(2)))
        kept["h"] = tr.tanh(h + x)
        return kept["h"]

    for fn, match in [
        (lambda x: tr.Tensor(x).sum().item(), "item"),
        (lambda x: layer(x[None]) if layer(x[None]).sum() > 0 else None, "comparing"),
        (lambda x: tr.Tensor(x) * float(layer(x[None]).sum()), "float"),
        (lambda x: tr.Tensor(np.tanh(x)) * 2.0, "mul"),
        (lambda x: tr.Tensor(x) * float(next(counter)), "constant"),
        (stateful, "add"),
        (lambda x: tr.Tensor(x[x > 0]).sum(), "constant"),
    ]:
        raises_capture_error(fn, [(X,), (-0.5 * X,), (X * 3,)], match)


def test_what_numpy_does_inside_is_found():
    layer = tr.nn.Linear(2, 2, dtype=np.float64, seed=0)
    optimizer = tr.optim.SGD(layer.parameters(), 0.1)

    def by_hand(x):
        layer.zero_grad()
        layer(x[None]).sum().backward()
        layer.weight.value -= 0.1 * layer.weight.grad

    def schedule(x):
        optimizer.lr = 0.1
        return layer(x[None])

    def clipped_by_numpy(x):
        layer.zero_grad()
        layer(x[None]).sum().backward()
        np.clip(layer.weight.grad, -0.1, 0.1, out=layer.weight.grad)
        optimizer.step()

    for fn, match in [
        (lambda x: float((tr.Tensor(x) * 2.0).sum().value), "number stays"),
        (lambda x: (tr.Tensor(x) * 2.0).sum().value * 1.0, "number stays"),
        (by_hand, "weight.* numpy"),
        (schedule, "lr"),
        (clipped_by_numpy, "weight"),
    ]:
        raises_capture_error(fn, [(X,), (-0.5 * X,), (X * 3,)], match)


def test_reading_the_graph_leaves_the_check_alone():
    counter = iter(range(100))
    step = tr.compile(lambda: tr.Tensor(np.array([float(next(counter))])) * 2.0)
    step()
    assert step.graph["mul"][0].value == 0
    with pytest.raises(CaptureError, match="constant"):
        step()


def test_arguments_of_many_kinds():
    Pair = namedtuple("Pair", "a b")

    class Holder:
        @tr.compile
        def add(self, pair, *, scale, offset):
            return tr.add(pair.a, pair.b) * scale + offset

    holder = Holder()
    for n in range(1, 4):
        kinds = ({"scale": 2.0, "offset": 1.0}, {"offset": 1.0, "scale": 2.0})[n % 2]
        pair = Pair(X * n, X.astype(np.float64) + (n > 1))
        np.testing.assert_array_equal(holder.add(pair, **kinds).value, 2 * (pair.a + pair.b) + 1)
    assert len(Holder.add.programs) == 1 and Holder.add.__name__ == "add"
    assert "1 captures, 1 programs kept, 1 runs of these" in repr(Holder.add)


def test_what_only_other_values_show_is_found_when_they_come():
    step = tr.compile(lambda x, y: tr.Tensor(np.tanh(x)) * 2.0 + y)
    for _ in range(3):
        step(X, X)
    np.testing.assert_array_equal(step(X, X * 5).value, np.tanh(X) * 2 + X * 5)
    with pytest.raises(CaptureError, match="a constant"):
        step(X * 2, X)
    assert step.programs == []
    np.testing.assert_array_equal(step(X * 2, X).value, np.tanh(X * 2) * 2 + X)  # a new capture


def test_without_checks_the_second_call_is_a_replay():
    calls = []
    step = tr.compile(lambda x: calls.append(1) or tr.mul(x, x), check=False)
    for n in range(4):
        np.testing.assert_array_equal(step(X * n).value, (X * n) ** 2)
        np.testing.assert_array_equal(step.graph["mul"][0].value, (X * n) ** 2)
    assert len(calls) == 1 and step.program.runs == 3


def test_a_graph_does_not_pass_through():
    step = tr.compile(lambda t: t * 2.0)
    with pytest.raises(CaptureError, match="detach"):
        step(tr.Tensor(X, requires_grad=True) * 2.0)
    for _ in range(3):
        with pytest.raises(RuntimeError, match="requires a gradient"):
            step(tr.Tensor(X)).sum().backward()


def test_an_error_inside_leaves_no_program():
    def fails(x):
        raise KeyError("mine")

    step = tr.compile(fails)
    with pytest.raises(KeyError, match="mine"):
        step(X)
    assert step.programs == [] and step.program is None
    with pytest.raises(RuntimeError, match="before the first call"):
        step.graph  # noqa: B018


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: tr.compile(3), TypeError),
        (lambda: tr.compile(lambda: 0, passes=["no such"]), ValueError),
        (lambda: tr.compile(lambda: 0, programs=0), ValueError),
        (lambda: tr.compile(lambda: 0, checkpoint_every=0), ValueError),
        (lambda: tr.compile(lambda: 0, checkpoint_every=True), ValueError),
        (lambda: tr.compile(lambda: 0, passes="fuse"), TypeError),
    ],
)
def test_wrong_settings_raise(call, error):
    with pytest.raises(error):
        call()


# ---- random programs


@st.composite
def programs(draw):
    """(kinds of ops with the places of their inputs, size of a pool of tensors)"""
    steps = draw(st.integers(1, 25))
    return [
        (draw(st.sampled_from(OPS)), draw(st.integers(0, 1000)), draw(st.integers(0, 1000)), draw(st.integers(0, 5)))
        for _ in range(steps)
    ]


ROWS, COLUMNS = 3, 4
OPS = [
    "add",
    "sub",
    "mul",
    "tanh",
    "sigmoid",
    "relu",
    "linear",
    "linear",
    "matmul",
    "row",
    "stack",
    "join",
    "mean",
    "softmax",
    "scale",
    "bias",
    "slice",
    "gelu",
    "layer_norm",
]


def evaluate(program, x, parameters):
    """The value of a random program on x(steps, ROWS, COLUMNS): all its tensors have the shape (ROWS, COLUMNS), and entries that
    do not grow without bound: two orders of adding agree to rounding of the largest number there was, whatever cancels later."""
    weights, biases = parameters[:2], parameters[2:]
    pool = [x[t] for t in range(len(x))]
    bounds = [4.0] * len(pool)
    for op, a, b, n in program:
        # mostly recent tensors, as in a net
        at, other = -1 - a % min(len(pool), 4), -1 - b % len(pool)
        u, v = pool[at], pool[other]
        bound = 2 * bounds[at] + bounds[other] + 1
        bound = bounds[at] * bounds[other] if op == "mul" else 2.0 if op in ("tanh", "sigmoid", "softmax") else bound
        with tr.scope(t=len(pool)):
            pool.append(
                {
                    "add": lambda u, v: u + v,
                    "sub": lambda u, v: u - v * 0.5,
                    "mul": lambda u, v: u * v,
                    "tanh": lambda u, v: tr.tanh(u),
                    "sigmoid": lambda u, v: tr.sigmoid(u),
                    "relu": lambda u, v: tr.relu(u),
                    "linear": lambda u, v: tr.linear(u, weights[n % 2], biases[0] if n % 3 else None),
                    "matmul": lambda u, v: u @ weights[n % 2],
                    "row": lambda u, v: u[n % ROWS] + v * 0.1,
                    "stack": lambda u, v: tr.stack([u, v, u])[n % 3],
                    "join": lambda u, v: tr.concatenate([u, v])[1 : 1 + ROWS],
                    "mean": lambda u, v: u - u.mean(axis=n % 2, keepdims=True),
                    "softmax": lambda u, v: tr.softmax(u, n % 2),
                    "scale": lambda u, v: u * 0.5,
                    "bias": lambda u, v: u + biases[1],
                    "slice": lambda u, v: u[::-1],
                    "gelu": lambda u, v: tr.gelu(u),
                    "layer_norm": lambda u, v: tr.layer_norm(u, COLUMNS, biases[n % 2], eps=0.1),
                }[op](u, v)
            )
            if bound > 1000:
                pool[-1], bound = tr.tanh(pool[-1]), 1.0
        bounds.append(bound)
    return sum((p * (1.0 + i) for i, p in enumerate(pool[-3:])), pool[-1] * 0.0).sum()


@given(programs(), st.lists(st.sampled_from(ALL), unique=True), st.integers(0, 3))
def test_random_programs(program, passes, seed):
    rng = np.random.default_rng(seed)
    parameters = [
        tr.nn.Parameter(rng.standard_normal(s) * 0.5, name=n)
        for n, s in (("w0", (4, 4)), ("w1", (4, 4)), ("b0", (4,)), ("b1", (4,)))
    ]

    def step(x):
        for p in parameters:
            p.zero_grad()
        loss = evaluate(program, tr.Tensor(x), parameters)
        if loss.requires_grad:
            loss.backward()
        return loss

    passes = tuple(n for n in ALL if n in passes)
    calls = [(rng.standard_normal((4, ROWS, COLUMNS)),) for _ in range(3)]
    for chosen in (passes, ALL, EXACT):
        compare(step, calls, chosen, parameters, scale=1e3)


# ---- random programs of gated cells: narrow tensors (B, H), and wide ones (B, 4 H), as rows of gates are

CELLS = {"rnn": (1, cells.rnn_step(tr.tanh)), "leaky": (1, cells.leaky_step(tr.relu, 0.3)), "lstm": (4, cells.lstm_step)}
CELLS["gru"] = 3, cells.gru_step
GATED_OPS = [*CELLS, *CELLS, "linear", "product", "square", "gates", "sigmoid", "tanh", "columns", "columns", "gate", "gate"]
GATED_OPS += ["join", "overlap", "lstm_state", "addcmul", "lerp", "mask", "select", "dropout", "add", "mul"]


@st.composite
def gated_programs(draw):
    """(ops with numbers that choose their inputs, how many losses there are, which tensors are results)"""
    number = st.integers(0, 1000)
    ops = draw(st.lists(st.tuples(st.sampled_from(GATED_OPS), number, number, number), min_size=1, max_size=12))
    return ops, draw(st.integers(1, 3)), draw(st.lists(number, max_size=3))


def evaluate_gated(program, x, lengths, weights, masks):
    """(losses, results) of a random program on x(T, B, H)."""
    ops, count, chosen = program
    hidden = x.shape[-1]
    narrow = [x[t] * weights["bi1"] for t in range(len(x))]
    wide = [tr.linear(x[0], weights["wide"], weights["bias"]) + tr.linear(x[-1], weights["wide"])]
    for n, (op, a, b, c) in enumerate(ops):
        u, v, w = narrow[-1 - a % min(len(narrow), 4)], narrow[b % len(narrow)], narrow[-1 - c % len(narrow)]
        z, y = wide[-1 - a % min(len(wide), 3)], wide[b % len(wide)]
        start = c % (3 * hidden + 1)
        with tr.scope(layer=a % 2, t=n):
            if op in CELLS:
                gates, step = CELLS[op]
                parameters = tuple(weights[f"{name}{gates}"] for name in ("ih", "hh", "bi", "bh"))
                narrow += step(u, (v, w) if gates == 4 else (v,), parameters)
            elif op in ("linear", "product", "square", "gates", "sigmoid", "tanh", "join", "overlap"):
                wide.append(
                    {
                        "linear": lambda: tr.linear(u, weights["wide"], weights["bias"]) + tr.linear(v, weights["ih4"]),
                        "product": lambda: u @ weights["ih4"].T,
                        "square": lambda: tr.linear(u, weights["wide"]) + tr.linear(z, weights["square"]),
                        "gates": lambda: tr.lstm_gates(z),
                        "sigmoid": lambda: tr.sigmoid(z),
                        "tanh": lambda: tr.tanh(z + y),
                        "join": lambda: tr.concatenate([u, v, w, u], axis=-1),
                        "overlap": lambda: tr.concatenate([z[..., start : start + hidden], y[..., : 3 * hidden]], axis=-1),
                    }[op]()
                )
            else:
                narrow.append(
                    {
                        "columns": lambda: z[..., start : start + hidden],
                        "gate": lambda: z[..., c % 4 * hidden : (c % 4 + 1) * hidden],
                        "lstm_state": lambda: tr.functions.lstm_state(u, z[..., :hidden], z[..., start : start + hidden], w),
                        "addcmul": lambda: tr.functions.addcmul(z[..., start : start + hidden], u, v),
                        "lerp": lambda: tr.functions.lerp(u, v, z[..., start : start + hidden]),
                        "mask": lambda: tr.functions.mask_steps(u, lengths, c % 3),
                        "select": lambda: tr.functions.select_steps(u, z[..., start : start + hidden], lengths, c % 3),
                        "dropout": lambda: tr.dropout(u, 0.5, generator=masks),
                        "add": lambda: u * 0.5 + v * 0.5,
                        "mul": lambda: u * tr.tanh(v),
                    }[op]()
                )
    pool = [*narrow, *wide]
    losses = [(tr.tanh(narrow[-1 - n % len(narrow)]) * (1.0 + n)).sum() + wide[-1 - n % len(wide)].mean() for n in range(count)]
    return losses, [pool[-1 - n % len(pool)] for n in chosen]


@given(
    gated_programs(),
    st.sampled_from([(1, 1), (1, 4), (2, 1), (3, 2), (2, 5), (5, 9)]),
    st.sampled_from([np.float32, np.float64]),
    st.lists(st.sampled_from(ALL), unique=True),
    st.sampled_from([None, 1, 2, 5]),
)
def test_random_gated_programs(program, shape, dtype, passes, every):
    batch, hidden = shape
    rng = np.random.default_rng(len(program[0]))
    draw = lambda *s: tr.nn.Parameter((rng.standard_normal(s) * 0.5).astype(dtype))  # noqa: E731
    weights = {"wide": draw(4 * hidden, hidden), "bias": draw(4 * hidden), "square": draw(4 * hidden, 4 * hidden)}
    for gates in (1, 3, 4):
        weights |= {f"ih{gates}": draw(gates * hidden, hidden), f"hh{gates}": draw(gates * hidden, hidden)}
        weights |= {f"bi{gates}": draw(gates * hidden), f"bh{gates}": draw(gates * hidden)}
    for name, p in weights.items():
        p.name = name
    masks = tr.Generator(0)

    def step(x, lengths):
        for p in weights.values():
            p.zero_grad()
        losses, results = evaluate_gated(program, tr.Tensor(x), lengths, weights, masks)
        for loss in losses[:-1]:
            loss.backward(retain_graph=True)
        losses[-1].backward()
        return losses, results

    passes = tuple(n for n in ALL if n in passes)
    calls = [(rng.standard_normal((3, batch, hidden)).astype(dtype), rng.integers(1, 4, batch)) for _ in range(2)]
    for chosen in (passes, ALL, EXACT):
        compare(step, calls, chosen, weights.values(), scale=20, every=every, generator=masks)


@given(programs(), programs(), st.lists(st.sampled_from(ALL), unique=True), st.sampled_from([None, 1, 2, 5]), st.integers(0, 3))
def test_random_training(first, second, passes, every, seed):
    """Two random programs, each with a backward pass, and between them clipping and an update."""

    def run(compiled):
        rng = np.random.default_rng(seed)
        shapes = (("w0", (4, 4)), ("w1", (4, 4)), ("b0", (4,)), ("b1", (4,)))
        parameters = [tr.nn.Parameter(rng.standard_normal(s) * 0.5, name=n) for n, s in shapes]
        optimizer = tr.optim.Adam(parameters, lr=0.05, eps=1e-2) if seed % 2 else tr.optim.SGD(parameters, 0.01, momentum=0.5)

        def step(x):
            optimizer.zero_grad()
            losses = []
            for n, program in enumerate((first, second)):
                loss = evaluate(program, tr.Tensor(x), parameters)
                losses.append(loss)
                if loss.requires_grad:
                    loss.backward(retain_graph=True)
                tr.optim.clip_grad_norm_(parameters[n:], 1.0)
                if n == 0:
                    if loss.requires_grad and seed > 1:
                        loss.backward()  # a second time, onto gradients that were clipped
                    optimizer.step()
            optimizer.step()
            return losses

        chosen = tuple(n for n in ALL if n in passes)
        f = tr.compile(step, passes=chosen or True, checkpoint_every=every) if compiled else lambda x: eager_tape(step, x)
        trail, largest = [], 1.0
        for _ in range(4):
            losses = f(rng.standard_normal((4, ROWS, COLUMNS)))
            if not compiled:
                losses, tape = losses
                arrays = [a for node in tape.nodes for a in (node.value, node.grad) if a is not None]
                largest = max(largest, *[np.abs(a).max() for a in arrays])
            trail += [loss.value for loss in losses]
            trail += [p.value.copy() for p in parameters] + [p.grad.copy() for p in parameters if p.grad is not None]
        return trail, largest

    (trail, _), (expected, largest) = run(True), run(False)
    for mine, theirs in zip(trail, expected, strict=True):
        close(mine, theirs, False, 1e2 * largest)  # of the largest number on the way, and what Adam makes of it


def test_operands_that_are_overwritten_stay_apart():
    """Products whose sum goes where one of their operands lies, and summands that change before they are added."""
    rng = np.random.default_rng(0)
    w, b = tr.nn.Parameter(rng.standard_normal((5, 5)), name="w"), tr.nn.Parameter(rng.standard_normal(5), name="b")

    def gradient_as_operand(x):
        w.zero_grad()
        loss = tr.tanh(tr.Tensor(x) @ w).sum()
        loss.backward()
        again = ((w @ tr.Tensor(w.grad)) * 0.1).sum()
        again.backward()
        return again

    def shared_cotangent(x):
        w.zero_grad()
        b.zero_grad()
        first = ((x0 @ w) * (x1 @ w) * (w + b)).sum()
        first.backward()
        tr.optim.clip_grad_norm_([b], 0.01)
        second = ((x1 @ w) * x0 * tr.Tensor(x)).sum()
        second.backward()
        return second

    x0, x1 = (tr.Tensor(rng.standard_normal((5, 5))) for _ in range(2))
    for fn in (gradient_as_operand, shared_cotangent):
        compare(fn, [(rng.standard_normal((5, 5)),) for _ in range(3)], ALL, [w, b], scale=1e2, nodes=False)


def test_a_weight_that_changes_between_a_product_and_what_follows_it():
    w = tr.nn.Parameter(np.random.default_rng(0).standard_normal((4, 4)), name="w")
    optimizer = tr.optim.SGD([w], 0.3)

    def step(x):
        optimizer.zero_grad()
        first, second = tr.linear(x, w), tr.linear(x * 2.0, w)  # each is used once, after the update
        y = [tr.linear(x, w) * float(n) for n in range(4)]
        (w * w).sum().backward()
        optimizer.step()
        return tr.tanh(first), second + x, tr.linear(x, w), tr.tanh(sum(y[1:], y[0])), [tr.linear(h, w) for h in y]

    for passes in (ALL, ("fuse",), ("order", "batch"), ("pack",), ("share",)):
        compare(lambda x: step(tr.Tensor(x)), [(ONES * n,) for n in (0.1, 0.2, 0.3)], passes, [w], scale=1e2, nodes=False)


def test_the_graph_keeps_the_parameters_of_its_run():
    rnn = tr.nn.RNN(3, 4, dtype=np.float64, seed=0)
    step = tr.compile(rnn_step(rnn))
    rng = np.random.default_rng(0)
    for _ in range(4):
        step(rng.standard_normal((5, 2, 3)))
    rnn.weight_hh_l0.value *= 5
    np.testing.assert_allclose(np.tanh(step.graph[0, :, "z"].value), step.graph[0, :, "h"].value, rtol=1e-12)
    trained = tr.optim.SGD(rnn.parameters(), 0.1)

    @tr.compile
    def twice(x):
        for _ in range(2):
            trained.zero_grad()
            loss = rnn(x)[1].sum()
            loss.backward()
            trained.step()
        return loss

    for _ in range(3):
        twice(rng.standard_normal((5, 2, 3)))
    with pytest.raises(RuntimeError, match="two versions"):
        twice.graph  # noqa: B018


def test_another_instruction_set():
    before = native.isa()
    try:
        for name in tr.build_info()["isa_supported"]:
            native.set_isa(name)
            rnn = tr.nn.RNN(3, 21, seed=0)
            calls = [(np.random.default_rng(n).standard_normal((6, 2, 3)).astype("f4"),) for n in range(3)]
            compare(rnn_step(rnn), calls, ALL, rnn.parameters())
    finally:
        native.set_isa(before)


def test_what_an_optimizer_alone_is_given():
    p, q = tr.nn.Parameter(X.copy(), name="p"), tr.nn.Parameter(X.copy(), name="q")
    optimizer = tr.optim.SGD([p, q], 0.1)
    update = tr.compile(optimizer.step)
    expected = [X.copy(), X.copy()]
    for n in range(6):
        p.grad, q.grad = X * n, (X if n > 2 else None)
        update()
        for value, g in zip(expected, (p.grad, q.grad), strict=True):
            value -= 0 if g is None else 0.1 * g
        np.testing.assert_allclose(p.value, expected[0], rtol=1e-14)
        np.testing.assert_allclose(q.value, expected[1], rtol=1e-14)


def test_closed_over_indices_and_layouts_and_zeros():
    w, index = tr.nn.Parameter(np.arange(8.0).reshape(4, 2)), np.array([0, 1])
    step = tr.compile(lambda x: tr.embedding(w, index) * x)
    for _ in range(3):
        step(X)
    index[...] = 3
    np.testing.assert_array_equal(step(X).value, [[6, 14], [6, 14]])
    rng = np.random.default_rng(0)
    product = tr.compile(lambda x, y: tr.matmul(x, y))
    for _ in range(4):
        x, y = rng.standard_normal((1, 170)).astype("f4"), rng.standard_normal((50, 170)).astype("f4").T
        close(product(x, y).value, x @ y, False)
    divide = tr.compile(lambda x, k: tr.div(tr.functions.as_tensor(x), k))
    for _ in range(3):
        assert divide(X, 0.0).value[0] == np.inf and divide(X, -0.0).value[0] == -np.inf


def test_results_that_cannot_be_returned_again_and_tapes_inside():
    raises_capture_error(lambda x: {1, 2}, [(X,)], "returned a set")
    with tr.Tape():
        np.testing.assert_array_equal(tr.compile(lambda x: tr.mul(x, x))(X).value, X * X)  # on a tape it simply runs

    def inner(x):
        with tr.Tape():
            return tr.mul(x, x)

    raises_capture_error(inner, [(X,)], "Tape")
