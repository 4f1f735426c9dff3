"""The native functions never read past what they are given, and do nothing where there is nothing to do."""

import os
import subprocess
import sys
from pathlib import Path

import fuzz_arguments
import fuzz_native
import numpy as np
import pytest

from tinygrad_rnn.backends import native, reference

pytest.importorskip("tinygrad_rnn._native")

ROW = np.arange(8, dtype=np.float32)


def calls_of(f, *arguments):
    return native.recorded(f, arguments, {})[1]


VALID = {
    "exp": (native.exp, ROW),
    "add": (native.add, ROW.reshape(2, 4)[:, ::2], ROW[:2]),
    "matmul": (native.matmul, ROW.reshape(2, 4), ROW.reshape(4, 2)),
    "sum": (native.sum, ROW.reshape(2, 4), 1),
    "conv2d": (native.conv2d, ROW.reshape(1, 2, 2, 2), ROW.reshape(1, 2, 2, 2), None, (1, 1), ((0, 0),) * 2, (1, 1), 1),
    "max_pool2d": (native.max_pool2d, ROW.reshape(1, 2, 2, 2), (1, 1), (1, 1), (0, 0)),
    "elu": (native.elu, ROW, 1.0),
}


# what part i of a call (kernel, dtype, addresses, sizes, constants) is replaced by
@pytest.mark.parametrize(
    ("kernel", "part", "value", "error"),
    [
        ("exp", 0, "no_such_kernel", ValueError),
        ("exp", 0, None, ValueError),
        ("exp", 0, 7, TypeError),
        ("exp", 1, 2, ValueError),
        ("exp", 1, -1, ValueError),
        ("exp", 1, 10**6, ValueError),
        ("exp", 1, None, ValueError),
        ("exp", 2, lambda p: p[:1], ValueError),
        ("exp", 2, lambda p: (*p, p[0]), ValueError),
        ("exp", 2, (), ValueError),
        ("exp", 2, None, TypeError),
        ("exp", 2, lambda p: (None, p[1]), TypeError),
        ("exp", 2, lambda p: (1.5, p[1]), TypeError),
        ("exp", 2, lambda p: (-1, p[1]), OverflowError),
        ("exp", 2, lambda p: (2**64, p[1]), OverflowError),
        ("exp", 3, (), ValueError),
        ("exp", 3, (8, 1), ValueError),
        ("exp", 3, (None,), TypeError),
        ("exp", 3, (8.5,), TypeError),
        ("exp", 3, (float("nan"),), TypeError),
        ("exp", 3, (-1,), ValueError),
        ("exp", 3, (2**70,), ValueError),
        ("exp", 3, [8], TypeError),
        ("exp", 4, (1.0,), ValueError),
        ("exp", 4, None, TypeError),
        ("elu", 4, (None,), TypeError),
        ("elu", 4, ("x",), ValueError),
        ("add", 3, (), ValueError),
        ("add", 3, (0,), ValueError),
        ("add", 3, (-1, 2, 2), ValueError),
        ("add", 3, (65, *(1,) * 195), ValueError),
        ("add", 3, (10**6,), ValueError),
        ("add", 3, lambda n: n[:-1], ValueError),
        ("add", 3, lambda n: (n[0], -1, *n[2:]), ValueError),
        ("matmul", 3, lambda n: n[:-1], ValueError),
        ("matmul", 3, lambda n: (*n[:-1], 99), ValueError),
        ("matmul", 3, lambda n: (1, -1, *n[2:]), ValueError),
        ("sum", 3, (1, -1, 1), ValueError),
        ("conv2d", 3, lambda n: (*n[:-1], 0), ValueError),
        ("conv2d", 3, lambda n: (*n[:5], 0, *n[6:]), ValueError),
        ("max_pool2d", 3, lambda n: (*n[:7], 0, *n[8:]), ValueError),
    ],
)
def test_a_replay_takes_no_call_that_its_kernel_does_not(kernel, part, value, error):
    calls = calls_of(*VALID[kernel])
    assert native.Replay(calls).run() == len(calls)
    bad = list(calls[-1])
    assert bad[0] == kernel
    bad[part] = value(bad[part]) if callable(value) else value
    with pytest.raises(error):
        native.Replay([*calls, tuple(bad)])


@pytest.mark.parametrize("calls", [[None], [()], [("exp",)], [["exp", 0, (), (), ()]], ["exp00"], None, 7, ({},)])
def test_a_replay_is_made_of_a_list_of_calls(calls):
    with pytest.raises((TypeError, ValueError)):
        native.Replay(calls)


def test_a_replay_is_made_once():
    replay = native.Replay(calls_of(native.exp, ROW))
    before = replay.count
    replay.__init__(calls_of(*VALID["add"]))  # of an object that another thread may be running
    assert replay.count == before and replay.run() == before
    with pytest.raises(TypeError):
        native.Replay.__new__(native.Replay)
    for start, stop in ((-1, None), (0, 2), (2, None), (1, 0)):
        with pytest.raises(ValueError, match="outside"):
            replay.run(start, stop)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: native.concatenate([], 0), ValueError),
        (lambda: native.concatenate((), 0), ValueError),
        (lambda: native.concatenate([None], 0), TypeError),
        (lambda: native.concatenate([ROW, None], 0), TypeError),
        (lambda: native.panel_columns(2), ValueError),
        (lambda: native.panel_columns(10**9), ValueError),
        (lambda: native.max_pool2d(ROW.reshape(1, 1, 2, 4), (1,), (1, 1), (0, 0)), ValueError),
        (lambda: native.max_pool2d(ROW.reshape(1, 1, 2, 4), (1, 1), (), (0, 0)), ValueError),
        (lambda: native.max_pool2d(ROW.reshape(1, 1, 2, 4), (1, 1), [], (0, 0)), ValueError),
        (lambda: native.conv2d(*VALID["conv2d"][1:3], None, (1,), ((0, 0),) * 2, (1, 1), 1), ValueError),
        (lambda: native.conv2d(*VALID["conv2d"][1:3], None, (1, 1), ((0,), ()), (1, 1), 1), ValueError),
        (lambda: native.conv2d(*VALID["conv2d"][1:3], None, (1, 1), [[0, 0]], (1, 1), 1), ValueError),
        (lambda: native.avg_pool2d_vjp(ROW.reshape(1, 2, 2, 2), (1, 2), (1, 1), (1, 1), (0, 0), True), ValueError),
        (lambda: native.Packed.__new__(native.Packed), TypeError),
        (lambda: native.Packed(), TypeError),
        (lambda: native.mul_vjp(ROW, ROW, ROW, None), TypeError),
        (lambda: native.mul_vjp(ROW, ROW, ROW, ()), ValueError),
        (lambda: native.sum_to(ROW, None), TypeError),
        (lambda: native.sum_to(ROW, ("x",)), TypeError),
        (lambda: native.cumsum(ROW, 0.5), TypeError),
        (lambda: native.signature(None), ValueError),
        (lambda: native.recorded(native.recorded, (native.exp, (ROW,), {}), {}), RuntimeError),
    ],
)
def test_private_functions_check_what_they_are_given(call, error):
    with pytest.raises(error):
        call()


def test_indices_of_another_byte_order_are_refused():
    """Their bytes would be read as other numbers."""
    swapped = np.array([1, 0], np.dtype(np.int64).newbyteorder())
    for call in (
        lambda: native.take(ROW, swapped),
        lambda: native.take_add(ROW.copy(), swapped, ROW[:2]),
        lambda: native.nll(ROW.reshape(2, 4), swapped),
        lambda: native.count_targets(swapped, np.float32),
    ):
        with pytest.raises(TypeError, match="int64"):
            call()


@pytest.mark.parametrize(
    "allocate",
    [
        lambda shape, dtype: None,
        lambda shape, dtype: np.empty((*shape, 1), dtype),
        lambda shape, dtype: np.empty(1, dtype),
        lambda shape, dtype: np.empty(shape, np.float16),
        lambda shape, dtype: np.empty((*shape[:-1], 2 * shape[-1]), dtype)[..., ::2],
    ],
)
def test_an_allocator_has_to_make_what_was_asked_for(allocate):
    native.set_allocator(allocate)
    try:
        for call in (lambda: native.exp(ROW), lambda: native.zeros((8,), np.float32)):
            with pytest.raises(TypeError, match="allocator"):
                call()
    finally:
        native.set_allocator(None)


# ---- arrays without elements

LONG = 10**12

NOTHING = """
import sys
import numpy as np
from tinygrad_rnn.backends import native
from test_native_boundary import nothing_to_do

for name, arguments, shapes in nothing_to_do():
    result, calls, made = native.recorded(getattr(native, name), arguments, {})
    results = result if isinstance(result, tuple) else (result,)
    assert [r.shape for r in results if r is not None] == shapes, (name, [r.shape for r in results])
    assert native.Replay(calls).run() == len(calls)
    print(name, end=" ", flush=True)
"""


def nothing_to_do():
    """(function, arguments, shapes of the results): arrays without elements, and an axis that no loop comes to the end of."""
    for dtype in (np.float32, np.float64):

        def x(*shape, dtype=dtype):
            return np.empty(shape, dtype)

        for shape in ((0, LONG), (LONG, 0), (3, 0, LONG), (LONG, 0, 3), (0, LONG, 2)):
            a = x(*shape)
            for name in ("exp", "sin", "copy", "nonzero"):
                yield name, (a,), [shape]
            yield "tanh", (a,), [shape] * 2
            for name in ("add", "pow", "arctan2", "relu_vjp"):
                yield name, (a, a), [shape]
            yield "add", (a.T, a.T), [shape[::-1]]
            yield "accumulate", (a, a.copy()), [shape]
            yield "where", (x(*shape, dtype=np.bool_), a, a), [shape]
            yield "mul_vjp", (a, a, a, (True, True)), [shape] * 2
            for axis in range(len(shape)):
                for name in ("softmax", "log_softmax", "cumsum", "cumprod"):
                    yield name, (a, axis), [shape]
                yield "cumprod_vjp", (a, a, a, axis), [shape]
                left = shape[:axis] + shape[axis + 1 :]
                if LONG not in left or 0 in left:
                    for name in ("sum", "prod", "logsumexp", *(("max", "min") if shape[axis] else ())):
                        yield name, (a, axis), [left]
                        yield name, (a, (axis,), True), [(*shape[:axis], 1, *shape[axis + 1 :])]
            yield "sum", (a,), [()]
            yield "concatenate", ([a, a], shape.index(0)), [shape]
            yield "add_norm", (np.zeros(()), a), [()]
            yield "sgd", (a, a.copy(), a.copy(), np.zeros(4)), [shape]
        for name in ("sum", "prod", "logsumexp"):  # between the axes there would be very many elements
            yield name, (x(LONG, 5, 0), (0, 2)), [(5,)]
            yield name, (x(LONG, 5, 0), (0, 2), True), [(1, 5, 1)]
        yield "sum_to", (x(LONG, 5, 0), (5, 1)), [(5, 1)]
        yield "matmul", (x(LONG, 0, 3), x(3, 2)), [(LONG, 0, 2)]
        yield "matmul", (x(LONG, 0, 0), x(0, 0)), [(LONG, 0, 0)]
        yield "matmul", (x(0, LONG), x(LONG, 0)), [(0, 0)]
        yield "matmul", (x(2, 0), x(0, 3)), [(2, 3)]
        yield "linear", (x(LONG, 0, 3), x(2, 3)), [(LONG, 0, 2)]
        yield "linear_vjp", (x(LONG, 0, 2), x(LONG, 0, 3), x(2, 3), (True, True, True)), [(LONG, 0, 3), (2, 3), (2,)]
        for name, count, results in (("lstm_state", 4, 1), ("lstm_state_vjp", 5, 4), ("addcmul", 3, 1), ("lerp_vjp", 4, 3)):
            for shape in ((LONG, 0), (0, LONG)):
                yield name, (x(*shape),) * count, [shape] * results
        yield "lstm_gates", (x(LONG, 0),), [(LONG, 0)] * 2
        yield "rnn_cell", (x(LONG, 0), x(LONG, 0), x(0, 0), x(0, 0), None, None, "tanh"), [(LONG, 0)] * 2
        how = ((1, 1), ((1, 1), (1, 1)), (1, 1))
        yield "conv2d", (x(LONG, 0, 3, 3), x(0, 0, 2, 2), None, *how, 1), [(LONG, 0, 4, 4)]
        yield "conv2d", (x(LONG, 0, 3, 3), x(0, 0, 2, 2), None, *how, LONG), [(LONG, 0, 4, 4)]
        yield (
            "conv2d_vjp",
            (x(LONG, 0, 4, 4), x(LONG, 0, 3, 3), x(0, 0, 2, 2), (True, True), *how, 1),
            [(LONG, 0, 3, 3), (0, 0, 2, 2)],
        )
        yield "max_pool2d", (x(LONG, 0, 3, 3), (2, 2), (1, 1), (0, 0)), [(LONG, 0, 2, 2)]
        yield "avg_pool2d_vjp", (x(0, LONG, 2, 2), (0, LONG, 3, 3), (2, 2), (1, 1), (0, 0), True), [(0, LONG, 3, 3)]
        yield "moments", (x(LONG, 0),), [(0,)] * 2
        yield "batch_norm", (x(LONG, 0), x(0), x(0), x(0), x(0), 1e-5), [(LONG, 0)]
        yield "batch_norm_vjp", (x(LONG, 0), x(LONG, 0), x(0), x(0), x(0), 1e-5, True, (True,) * 3), [(LONG, 0), (0,), (0,)]
        yield "nll_vjp", (x(0), np.empty(0, np.int64), LONG), [(0, LONG)]
        yield "take", (x(LONG, 0), np.array([3, LONG - 1])), [(2, 0)]
        yield "keep_mask", ((0, LONG), np.dtype(dtype), np.zeros(2, np.uint64), 0.5), [(0, LONG)]


def test_arrays_without_elements_take_no_time():
    """Neither the functions nor their replays walk along an axis of 10^12 that holds nothing."""
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    result = subprocess.run(
        [sys.executable, "-c", NOTHING], capture_output=True, text=True, timeout=600, env={**os.environ, "PYTHONPATH": path}
    )
    assert result.returncode == 0, f"after {result.stdout.split()[-1:]}: {result.stderr}"
    assert len(result.stdout.split()) == sum(1 for _ in nothing_to_do())


def test_packing_nothing_takes_no_time():
    for shape in ((0, LONG), (LONG, 0)):
        assert native.pack(np.empty(shape, np.float32)).data.size == 0


# ---- the fuzz, whose long form is tests/fuzz_native.py


def test_the_fuzz_knows_every_function():
    public = {
        name for name, f in vars(reference).items() if not name.startswith("_") and callable(f) and not isinstance(f, type)
    }
    assert set(fuzz_arguments.ARGUMENTS) == public


def test_some_random_calls_agree_with_the_reference():
    seed = int(np.random.SeedSequence().entropy % 2**32)
    isa, threads = native.isa(), native.get_num_threads()
    try:
        for number in range(2000):
            *_, wrong = fuzz_native.check(seed, number, None)
            assert not wrong, f"python tests/fuzz_native.py --seed {seed} --only {number}: {wrong}"
    finally:
        native.set_isa(isa)
        native.set_num_threads(threads)


def test_the_fuzz_finds_what_is_wrong(monkeypatch):
    """Of a backend with wrong values, other errors, a write beside an array or a missing one."""

    def found(name, f):
        with monkeypatch.context() as m:
            m.setattr(fuzz_native, "native", Wrong(name, f))
            return any(fuzz_native.compare(1, number, name)[3] for number in range(150))

    class Wrong:
        def __init__(self, name, f):
            setattr(self, name, f)

        def __getattr__(self, name):
            return getattr(native, name)

    def beside(y, x):
        whole = y
        while isinstance(whole.base, np.ndarray):
            whole = whole.base
        whole[0] += 1
        return native.accumulate(y, x)

    isa, threads = native.isa(), native.get_num_threads()
    try:
        assert not found("exp", native.exp)
        assert found("exp", lambda x: native.exp(x) * np.asarray(1.001, x.dtype))
        assert found("exp", lambda x: native.exp(np.asarray(x)) if x is not None else None)
        assert found("exp", lambda x: native.exp(np.asarray(x, np.float32)))
        assert found("sum", lambda x, axis, keepdims: native.sum(x, axis))
        assert found("sgd", lambda w, *more: native.sgd(w.copy(), *more))
        assert found("accumulate", beside)
        assert found("add", lambda a, b: native.add(a, np.broadcast_to(b, a.shape)))
    finally:
        native.set_isa(isa)
        native.set_num_threads(threads)
