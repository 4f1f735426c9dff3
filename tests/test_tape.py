"""The tape: reuse, freeing, addresses, errors; and random programs against a plain evaluator."""

import asyncio
import copy
import gc
import pickle
import subprocess
import sys
import threading
import weakref

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_rnn as tr
from tinygrad_rnn import writes
from tinygrad_rnn.backends import BACKENDS
from tinygrad_rnn.testing import check_grads
from tinygrad_rnn.writes import Span, _written, note_write, written_since


def leaf(*values):
    return tr.Tensor(np.array(values, np.float64), requires_grad=True)


def test_fan_out_and_diamonds_accumulate():
    x = leaf(2.0)
    y = x * x
    (y + y * x).sum().backward()  # x^2 + x^3
    np.testing.assert_allclose(x.grad, [4 + 12])


def test_the_same_tensor_twice_as_a_parent():
    x = leaf(3.0)
    (x * x).sum().backward()
    np.testing.assert_array_equal(x.grad, [6])
    x.zero_grad()
    tr.concatenate([x, x, x]).sum().backward()
    np.testing.assert_array_equal(x.grad, [3])


def test_unused_branches_get_no_gradient():
    x, y = leaf(1.0), leaf(1.0)
    unused = tr.exp(y)
    (x * 2).sum().backward()
    assert y.grad is None
    assert unused.grad is None


def test_gradients_of_several_passes_add_up():
    x = leaf(1.0, 2.0)
    for _ in range(3):
        (x * 2).sum().backward()
    np.testing.assert_array_equal(x.grad, [6, 6])


def test_a_leaf_owns_its_gradient():
    x, y = leaf(1.0, 2.0), leaf(3.0, 4.0)
    (x + y).backward(g := np.ones(2))
    x.grad *= 5
    np.testing.assert_array_equal(y.grad, [1, 1])
    np.testing.assert_array_equal(g, [1, 1])


def test_second_backward_needs_retain_graph():
    x = leaf(2.0)
    y = tr.exp(x).sum()
    y.backward(retain_graph=True)
    y.backward()
    np.testing.assert_allclose(x.grad, 2 * np.exp([2.0]))
    with pytest.raises(RuntimeError, match=r"'sum'.*second time.*retain_graph=True"):
        y.backward()


def test_freed_parts_are_found_from_a_new_head():
    x = leaf(2.0)
    h = tr.exp(x)
    (h * 2).sum().backward()
    with pytest.raises(RuntimeError, match="'exp'"):
        (h * 3).sum().backward()


def test_wrong_cotangents_raise():
    x = leaf(1.0, 2.0)
    y = x * 2
    with pytest.raises(tr.ShapeError, match="only a scalar needs no cotangent"):
        y.backward()
    with pytest.raises(tr.ShapeError, match=r"shape \(2,\), got \(3,\)"):
        y.backward(np.ones(3))
    with pytest.raises(TypeError, match="float64, got float32"):
        y.backward(np.ones(2, np.float32))
    with pytest.raises(RuntimeError, match="requires a gradient"):
        tr.Tensor([1.0]).sum().backward()


def test_no_grad_and_detach_cut():
    x = leaf(2.0)
    with tr.no_grad():
        y = x * 3
    assert not y.requires_grad
    assert y.op is None
    z = (x.detach() * x).sum()
    z.backward()
    np.testing.assert_array_equal(x.grad, [2])


@pytest.mark.parametrize("n", [100_000])
def test_long_chains_run_backward_and_are_freed(n):
    x = leaf(1.0)
    h = x
    for _ in range(n):
        h = -h
    h.backward(np.ones(1))
    np.testing.assert_array_equal(x.grad, [1])
    h = x
    for _ in range(n):
        h = -h
    del h  # without a backward pass that would have cut it


def test_a_graph_that_nobody_refers_to_is_freed_at_once():
    gc.disable()  # by reference counting alone
    try:
        x = leaf(1.0)
        h = tr.exp(x)
        watched = weakref.ref(h)
        y = h * 2
        del h
        assert watched() is not None
        del y
        assert watched() is None
    finally:
        gc.enable()


def test_a_tape_keeps_everything_and_backward_twice_is_allowed():
    x = leaf(1.0)
    with tr.Tape() as tape:
        y = tr.exp(x * 2).sum()
        y.backward()
        y.backward()
    assert [n.op.name for n in tape.nodes] == ["mul", "exp", "sum"]
    assert all(n.grad is not None for n in tape.nodes)
    np.testing.assert_allclose(x.grad, 4 * np.exp([2.0]))
    assert len(tape) == 3


def test_tapes_and_scopes_nest_and_recover_from_errors():
    with tr.Tape() as outer:
        x = leaf(1.0)
        with tr.Tape() as inner:
            y = x * 2
        z = x * 3
    assert [n is y for n in inner.nodes] == [True]
    assert [n is z for n in outer.nodes] == [True]
    with pytest.raises(ZeroDivisionError), tr.scope(layer=1):
        raise ZeroDivisionError
    with tr.scope(layer=2), tr.scope(t=5):
        assert (x * 1).address == (2, 5)
    assert (x * 1).address == (None, None)
    again = tr.scope(t=1)
    with again, again:
        assert (x * 1).address == (None, 1)
    assert (x * 1).address == (None, None)


def test_scope_wants_integers():
    with pytest.raises(TypeError):
        tr.scope(layer="top")


def test_threads_record_on_their_own():
    x = leaf(1.0)
    seen = {}

    def work():
        seen["address"] = (x * 1).address
        seen["grad"] = (x * 1).requires_grad

    with tr.scope(t=3), tr.no_grad(), tr.Tape() as tape:
        t = threading.Thread(target=work)
        t.start()
        t.join()
    assert seen == {"address": (None, None), "grad": True}
    assert not tape.nodes


def test_unknown_backend():
    with pytest.raises(ValueError, match=f"expected one of {', '.join(BACKENDS)}"):
        tr.use_backend("cuda")


# ---- a rule made wrong on purpose must be found


@pytest.mark.parametrize(
    "wrong", [lambda g, y: g, lambda g, y: -g * y, lambda g, y: g * y * 1.0001, lambda g, y: (g * y)[::-1]]
)
def test_the_gradient_check_finds_a_wrong_rule(wrong):
    from tinygrad_rnn.ops import Op
    from tinygrad_rnn.tape import record

    bad = Op("bad", lambda x: x, lambda k, x: (k.exp(x), (k.exp(x),)), lambda k, g, y, needs: (wrong(g, y),))
    x = np.array([0.3, -0.7, 1.1])
    check_grads(tr.exp, x)
    with pytest.raises(AssertionError, match="numerical"):
        check_grads(lambda t: record(tr.Tensor, bad, (t,)), x)


def test_the_gradient_check_allows_for_entries_far_apart_in_size():
    # a step relative to the largest entry, 40, is a large part of the smallest, 0.07, where the angle bends
    x = np.linspace(-40, 40, 561) + 0.07
    y = np.array([0.074])
    for seed in range(30):
        check_grads(tr.arctan2, x, y, seed=seed)
        check_grads(tr.hypot, x, y, seed=seed)


def test_the_gradient_check_finds_a_wrong_shape():
    from tinygrad_rnn.ops import Op
    from tinygrad_rnn.tape import record

    bad = Op("bad", lambda x: (), lambda k, x: (k.sum(x), ()), lambda k, g, needs: (g,))
    with pytest.raises(AssertionError, match=r"float64 \(\), the input float64 \(3,\)"):
        check_grads(lambda t: record(tr.Tensor, bad, (t,)), np.ones(3))


# ---- random programs

STEPS = {
    "add": lambda f, x, y: x + y,
    "sub": lambda f, x, y: x - y,
    "mul": lambda f, x, y: x * y,
    "div": lambda f, x, y: x / (y * y + 1.0),
    "tanh": lambda f, x, y: f.tanh(x),
    "sigmoid": lambda f, x, y: f.sigmoid(x),
    "exp": lambda f, x, y: f.exp(f.tanh(x)),
    "log": lambda f, x, y: f.log(x * x + 1.0),
    "sqrt": lambda f, x, y: f.sqrt(y * y + 0.5),
    "matmul": lambda f, x, y: x @ f.transpose(y) @ y * 0.1,
    "sum": lambda f, x, y: x - f.sum(y, 0, True) * 0.1,
    "mean": lambda f, x, y: x * f.mean(y, 1, True),
    "reshape": lambda f, x, y: f.reshape(x, x.shape[::-1]).reshape(x.shape) + y,
    "index": lambda f, x, y: x[::-1] * y[:, :1],
    "take": lambda f, x, y: x[[0] * x.shape[0]] + y,
    "join": lambda f, x, y: f.concatenate([x, y], 0)[1 : 1 + x.shape[0]],
    "stack": lambda f, x, y: f.sum(f.stack([x, y, x], 1), 1) * 0.3,
    "softmax": lambda f, x, y: f.softmax(x) - y,
    "broadcast": lambda f, x, y: f.broadcast_to(x[:1], y.shape) * f.expand_dims(y, 0)[0],
    "flip": lambda f, x, y: f.flip(x, 1) + f.roll(y, 1, 0),
    "roll": lambda f, x, y: f.roll(x, (1, 2), (0, 1)) * f.flip(y),
    "swap": lambda f, x, y: f.swapaxes(f.moveaxis(f.stack([x, y]), 0, -1)[..., 1], 0, 1).T - x,
    "tile": lambda f, x, y: f.tile(x, (2, 1))[1 : 1 + x.shape[0]] - f.repeat(y, 2, 1)[:, ::2],
    "pad": lambda f, x, y: f.pad(x, ((1, 0), (0, 2)), constant_values=0.5)[: x.shape[0], 2:] + y,
    "triangles": lambda f, x, y: f.tril(x) - f.triu(y, 1),
    "diagonal": lambda f, x, y: x + f.diagonal(y)[:1] * f.squeeze(x[:1, :1]),
    "split": lambda f, x, y: f.concatenate(f.split(x, [1], 1)[::-1], 1) * y,
    "pick": lambda f, x, y: f.take(x, [0, -1, 0], 1)[:, 1:2] * y,
    "var": lambda f, x, y: x - f.var(y, 0, keepdims=True),
    "std": lambda f, x, y: x * f.std(f.concatenate([y, y * 0.5 + 2.0]), 0, ddof=1),
    "prod": lambda f, x, y: f.prod(f.tanh(x), 1, keepdims=True) + y,
    "cumsum": lambda f, x, y: f.cumsum(x, 0) * 0.3 - f.cumprod(f.tanh(y), 1),
    "norm": lambda f, x, y: (
        x / (f.norm(y, axis=1) + 1.0)[:, None] if f is tr else x / (np.linalg.norm(y, axis=1) + 1.0)[:, None]
    ),
    "einsum": lambda f, x, y: f.einsum("ij,kj,kl->il", x, y, x) * 0.1,
    "inner": lambda f, x, y: f.outer(f.inner(x, y)[0], f.dot(x, y.T)[:, 0])[:1, :1] * 0.1 + x,
    "tensordot": lambda f, x, y: f.tensordot(x, y, ((0, 1), (0, 1))) * 0.2 + y,
}


class Numpy:
    """The same names in plain numpy."""

    def __getattr__(self, name):
        return getattr(np, name)

    def sum(self, x, axis, keepdims=False):
        return np.sum(x, axis=axis, keepdims=keepdims)

    def mean(self, x, axis, keepdims=False):
        return np.mean(x, axis=axis, keepdims=keepdims)

    def sigmoid(self, x):
        return 1 / (1 + np.exp(-x))

    def softmax(self, x):
        e = np.exp(x - x.max(-1, keepdims=True))
        return e / e.sum(-1, keepdims=True)


programs = st.lists(st.tuples(st.sampled_from(sorted(STEPS)), st.integers(0, 40), st.integers(0, 40)), min_size=1, max_size=40)


def run(f, program, values):
    """Every step takes two of the values so far, so that subexpressions are shared and some are left unused."""
    values = list(values)
    for name, i, j in program:
        values.append(STEPS[name](f, values[i % len(values)], values[j % len(values)]))
    return values[-1]


@given(programs, st.integers(1, 3), st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_random_programs(program, rows, columns, seed):
    values = np.random.default_rng(seed).uniform(-1, 1, (2, rows, columns))
    np.testing.assert_allclose(
        run(tr, program, map(tr.Tensor, values)).value, run(Numpy(), program, values), rtol=1e-9, atol=1e-9
    )
    if np.abs(run(Numpy(), program, values)).max() < 1e3:  # beyond, a numerical derivative says nothing
        check_grads(lambda *v: tr.tanh(run(tr, program, v)), *values, rtol=1e-5, atol=1e-7, step=2e-4)


# ---- copies


@pytest.mark.parametrize("copy_of", [copy.copy, copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_are_nodes_of_their_own(copy_of):
    a = tr.nn.Parameter(np.array([1.0, 2.0]))
    a.grad = np.array([5.0, 6.0])
    b = copy_of(a)
    assert type(b) is tr.nn.Parameter
    np.testing.assert_array_equal(b.grad, a.grad)
    a.grad = b.grad = None
    ((a * 2).sum() + (b * 5).sum()).backward()
    np.testing.assert_array_equal(a.grad, [2, 2])
    np.testing.assert_array_equal(b.grad, [5, 5])


def test_copied_models_train_apart():
    a = tr.nn.RNN(2, 3, dtype="float64", seed=0)
    b = copy.deepcopy(a)
    x = np.ones((4, 1, 2))
    (a(x)[0].sum() + b(x)[0].sum() * 2).backward()
    np.testing.assert_allclose(b.weight_hh_l0.grad, 2 * a.weight_hh_l0.grad, rtol=1e-13)
    assert b.weight_hh_l0 is b.cell_parameters(0)[1]


def test_results_are_not_copied():
    with pytest.raises(TypeError, match="only leaves can be copied.*'exp'"):
        copy.deepcopy(tr.exp(leaf(1.0)))


def test_a_taped_graph_outlives_a_backward_pass_outside():
    x = leaf(1.0)
    with tr.Tape() as tape:
        y = tr.exp(x).sum()
    y.backward()
    y.backward()
    assert all(n.residuals is not None for n in tape.nodes)


def test_indices_are_remembered_as_they_were():
    w = tr.Tensor(np.arange(6.0).reshape(3, 2), requires_grad=True)
    index = np.array([0, 2])
    y = tr.embedding(w, index).sum()
    index[:] = 1
    y.backward()
    np.testing.assert_array_equal(w.grad, [[1, 1], [0, 0], [1, 1]])


# ---- writes in place


def test_what_was_saved_and_then_written_to_is_found():
    x = leaf(1.0, 2.0, 3.0)
    with tr.scope(layer=1, t=4):
        y = x * x
    x[1:] = 5.0
    np.testing.assert_array_equal(x.value, [1, 5, 5])
    with pytest.raises(RuntimeError, match=r"'mul' at layer=1, t=4, which saved an array of shape \(3,\).*written to in place"):
        y.sum().backward()
    z = (x * x).sum()  # recorded later: it saw what was written
    z.backward()
    np.testing.assert_array_equal(x.grad, [2, 10, 10])


def test_harmless_writes_are_allowed():
    data = np.arange(6.0).reshape(2, 3)
    x, mask = tr.Tensor(data, requires_grad=True), tr.Tensor(np.ones(3))
    y = (x + mask).sum() + (x[0] * mask).sum()  # an addition saves nothing, the product the first row alone
    x[1] = -1.0
    x[1, 2] = 7
    np.testing.assert_array_equal(data[1], [-1, -1, 7])
    y.backward()
    np.testing.assert_array_equal(x.grad, [[2, 2, 2], [1, 1, 1]])
    y = (x[0] * mask).sum()
    y.backward(retain_graph=True)
    x[:, [0, 2]] = 0.0  # no view: the whole counts as written
    with pytest.raises(RuntimeError, match="'mul'"):
        y.backward()


def test_writes_before_recording_stay_harmless_after_others():
    x, other = leaf(1.0, 2.0), leaf(3.0)
    x[0] = 4.0
    y = (x * x).sum()
    other[0] = 5.0
    y.backward()
    np.testing.assert_array_equal(x.grad, [8, 4])


@pytest.mark.parametrize(
    "write",
    [
        lambda x, a: x.__setitem__(..., 0.0),
        lambda x, a: x.__setitem__(0, tr.Tensor(np.zeros(()))),
        lambda x, a: x.detach().__setitem__(slice(None), np.ones(2)),
        lambda x, a: x.__setitem__(x > 1, 0),
        lambda x, a: tr.Tensor(a[:1]).__setitem__(-1, 4),
        lambda x, a: x[::-1].detach().__setitem__(slice(1, 2), 4),
    ],
)
def test_writes_through_every_view_are_found(write):
    a = np.array([1.0, 2.0])
    x = tr.Tensor(a, requires_grad=True)
    y = tr.sqrt(x) * x
    write(x, a)
    with pytest.raises(RuntimeError, match="'mul'.*written to in place"):
        y.sum().backward()


def test_writes_that_would_be_lost_are_refused():
    x = leaf(1.0, 2.0)
    y = x * 2
    with pytest.raises(TypeError, match=r"result of 'mul', whose gradient would not know.*x.detach\(\)"):
        y[0] = 1.0
    with pytest.raises(TypeError, match="wants a gradient would be cut off"):
        x[0] = y[1]
    with pytest.raises(TypeError, match="float32 does not go into a tensor of float64"):
        x[:] = np.ones(2, np.float32)
    with pytest.raises(TypeError, match="not an index"):
        x[tr.Tensor([0.0])] = 1.0
    with pytest.raises(ValueError, match="read-only"):
        tr.broadcast_to(tr.Tensor(1.0), 3)[0] = 2.0
    np.testing.assert_array_equal(x.value, [1, 2])


@pytest.mark.kernels
def test_a_write_in_place_inside_a_compiled_function_is_refused():
    with pytest.raises(tr.CaptureError, match="write in place inside a compiled function"):
        tr.compile(lambda t: t.__setitem__(0, 1.0))(tr.Tensor([1.0]))


def test_writes_are_remembered_as_long_as_the_memory_is_there():
    before = len(_written)
    x = leaf(*range(100))
    for _ in range(3):
        for i in range(100):
            x[i] = 1.0
            leaf(2.0)
    assert len(_written) == before + 1
    spans = next(reversed(_written.values())).spans
    assert len(spans) == 100
    x[:] = 0.0
    assert len(spans) == 1
    for i in range(100):  # nothing is recorded in between: no walk can tell these writes apart
        x[i] = 1.0
    assert len(spans) == 1
    del x
    assert len(_written) == before


@given(
    st.lists(st.tuples(st.integers(0, 19), st.integers(1, 20), st.booleans()), max_size=30),
    st.integers(0, 19),
    st.integers(1, 20),
)
def test_what_was_written_when(written, low, length):
    """What every node can ask, against the time of the last write of every entry."""
    x, times, nodes = np.zeros(20), np.full(20, -1), [leaf(1.0)]
    for start, n, recorded in written:
        if recorded:
            nodes.append(leaf(1.0))
        note_write(x[start : start + n])
        times[start : start + n] = writes.last
    for node in [*nodes, leaf(1.0)]:
        expected = (times[low : low + length] > node.index).any()
        assert written_since(x[low : low + length], node.index) == expected


def test_the_time_of_a_write_does_not_grow_with_the_writes_before():
    """Counted in looks at spans, of which ten thousand single writes had to take some fifty million."""
    looks = 0

    class Counted(Span):
        __slots__ = ()

        def __getattribute__(self, name):
            nonlocal looks
            looks += 1
            return super().__getattribute__(name)

    x = tr.Tensor(np.zeros(20_000))
    for i in np.random.default_rng(0).permutation(10_000):
        x[2 * int(i)] = 1.0
        leaf(0.0)
    spans = next(reversed(_written.values())).spans
    assert len(spans) == 10_000
    spans[:] = [Counted(*span) for span in spans]
    x[10_001] = 1.0
    assert looks < 100


def test_a_later_array_in_the_same_memory_is_another():
    for _ in range(20):
        x = leaf(1.0, 2.0)
        x[0] = 5.0
        y = tr.Tensor(np.array([1.0, 2.0]), requires_grad=True)
        z = y * y
        del x
        w = tr.Tensor(np.zeros(2))
        w[:] = 1.0
        z.sum().backward()
        np.testing.assert_array_equal(y.grad, [2, 4])


# ---- asyncio, threads and forks


def test_tasks_record_each_in_a_state_of_its_own():
    async def quiet(ready, go):
        with tr.no_grad(), tr.scope(layer=7):
            ready.set()
            await go.wait()
            return leaf(1.0) * 2

    async def recording(ready, go):
        with tr.Tape() as tape:
            await ready.wait()
            y = leaf(1.0) * 2
            go.set()
            await asyncio.sleep(0)
            z = y * 3
        return tape.nodes, y, z

    async def both():
        ready, go = asyncio.Event(), asyncio.Event()
        with tr.scope(t=5):  # which both were made in
            return await asyncio.gather(quiet(ready, go), recording(ready, go))

    silent, (nodes, y, z) = asyncio.run(both())
    assert not silent.requires_grad and silent.address == (7, 5)
    assert nodes == [y, z] and y.requires_grad and y.address == (None, 5) and z.address == (None, 5)


def test_a_scope_that_is_left_out_of_turn_restores_its_own_part_alone():
    def steps():
        with tr.scope(layer=1):
            yield leaf(1.0) * 2
        yield leaf(1.0) * 2

    walk = steps()
    inside = next(walk)
    with tr.no_grad():
        outside = next(walk)
        assert not (leaf(1.0) * 2).requires_grad
    assert inside.address == (1, None) and outside.address == (None, None)
    assert (leaf(1.0) * 2).requires_grad


def test_writes_are_noted_in_a_forked_child():
    code = """
import os, threading, numpy as np, tinygrad_rnn as tr
x = tr.Tensor(np.zeros(1000))
def write():
    while True: x[0] = 1.0
threading.Thread(target=write, daemon=True).start()
for _ in range(100):
    child = os.fork()
    if not child:
        x[1] = 2.0
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
os._exit(0)
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, timeout=60)
