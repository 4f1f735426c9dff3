"""Kernels and the state of threads: the floating-point control word, scratch memory, forks, signals."""

import contextlib
import ctypes
import ctypes.util
import os
import platform
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
from arrays import DTYPES

from tinygrad_rnn.backends import native

pytestmark = pytest.mark.kernels

LINUX_X86 = sys.platform == "linux" and platform.machine() == "x86_64"
posix = pytest.mark.skipif(not hasattr(os, "fork"), reason="POSIX only")
linux = pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS is kept by Linux")


def run(code, seconds=300, **environment):
    """The output of a Python script that has to end by itself, and well."""
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=seconds, env={**os.environ, **environment}
    )
    assert result.returncode == 0, f"exit {result.returncode}: {result.stderr}"
    return result.stdout


# ---- the floating-point control word

FLUSH = 0x8040  # results and operands below the normal numbers are 0


class Environment(ctypes.Structure):
    """fenv_t of glibc on x86-64."""

    _fields_ = [("x87", ctypes.c_uint32 * 7), ("mxcsr", ctypes.c_uint32)]


@contextlib.contextmanager
def control_word(bits):
    """Inside, this thread computes under a control word in which these bits are set."""
    libm = ctypes.CDLL(ctypes.util.find_library("m"))
    before, now = Environment(), Environment()
    libm.fegetenv(ctypes.byref(before))
    libm.fegetenv(ctypes.byref(now))
    now.mxcsr |= bits
    libm.fesetenv(ctypes.byref(now))
    try:
        yield
    finally:
        libm.fesetenv(ctypes.byref(before))


def shared_jobs(dtype):
    """Calls that are worth several threads, with results that depend on rounding and, of the first two, on subnormals."""
    rng = np.random.default_rng(0)
    tiny = dtype(np.finfo(dtype).tiny)
    a, b = (rng.standard_normal((300, 300)).astype(dtype) for _ in range(2))
    x = rng.standard_normal(3_000_000).astype(dtype)
    image, kernel = rng.standard_normal((8, 4, 40, 40)).astype(dtype), rng.standard_normal((8, 4, 3, 3)).astype(dtype)
    return {
        "subnormal product": lambda: native.matmul(a * (tiny * dtype(0.01)), b),
        "subnormal sigmoid": lambda: native.sigmoid(x * dtype(-np.log(tiny) / 2)),
        "product": lambda: native.matmul(a, b),
        "tanh": lambda: native.tanh(x),
        "softmax": lambda: native.softmax(x.reshape(-1, 100), 1),
        "convolution": lambda: native.conv2d(image, kernel, None, (1, 1), ((1, 1), (1, 1)), (1, 1), 1),
        "layer_norm": lambda: native.layer_norm(x.reshape(-1, 100), None, None, 1e-5),
    }


@pytest.mark.skipif(not LINUX_X86, reason="the layout of fenv_t is that of glibc on x86-64")
@pytest.mark.parametrize(
    "bits", [FLUSH, 0x8000, 0x0040, 0x2000, 0x4000, 0x6000], ids=["flush", "ftz", "daz", "down", "up", "to zero"]
)
@pytest.mark.parametrize("dtype", DTYPES)
def test_helpers_compute_under_the_control_word_of_their_caller(dtype, bits):
    """What is shared out has the bits that its caller alone would have computed: the helpers were there before the word changed."""
    jobs, before = shared_jobs(dtype), native.get_num_threads()

    def results(threads):
        native.set_num_threads(threads)
        return {name: job() for name, job in jobs.items()}

    def same(a, b):
        a, b = (v if isinstance(v, (tuple, list)) else (v,) for v in (a, b))
        return all(x.tobytes() == y.tobytes() for x, y in zip(a, b, strict=True))

    try:
        plain = results(3)
        with control_word(bits):
            alone = results(1)
            shared = [results(n) for n in (2, 3, 2, 3)]
        again = results(3)
    finally:
        native.set_num_threads(before)
    for name in jobs:
        assert all(same(alone[name], s[name]) for s in shared), f"{name} depends on the number of threads"
        assert same(plain[name], again[name]), f"{name}: a helper keeps the word of a caller"
    assert any(not same(plain[name], alone[name]) for name in jobs), "the word changes nothing here: it tests nothing"


# ---- memory

WITHOUT_MEMORY = """
import resource, threading
import numpy as np
from tinygrad_rnn.backends import native

a = np.random.default_rng(0).standard_normal((48, 48))
image, kernel = np.ones((1, 2, 8, 8)), np.ones((2, 2, 3, 3))
jobs = {
    "matmul": lambda: native.matmul(a, a),
    "linear": lambda: native.linear(a, a),
    "rnn_cell": lambda: native.rnn_cell(a, a, a, a, None, None, "tanh"),
    "rnn_cell_vjp": lambda: native.rnn_cell_vjp(a, a, a, a, a, a, (True,) * 5),
    "conv2d": lambda: native.conv2d(image, kernel, None, (1, 1), ((1, 1), (1, 1)), (1, 1), 1),
    "conv2d_vjp": lambda: native.conv2d_vjp(image, image, kernel, (True, True), (1, 1), ((1, 1), (1, 1)), (1, 1), 1),
}
native.set_num_threads(1)
found = {}

def record():  # in a thread of its own, whose scratch goes with it
    found["calls"] = native.recorded(jobs["matmul"], (), {})

thread = threading.Thread(target=record)
thread.start()
thread.join()
result, calls, made = found["calls"]
replay = native.Replay(calls)
jobs["replay"] = replay.run

def without_memory():
    failed = []
    for name, job in jobs.items():
        try:
            job()
        except MemoryError as error:
            failed.append(name)
            assert name.split("_vjp")[0].replace("linear", "matmul") in str(error) or name == "replay", error
    return failed

def in_thread():
    go.wait()
    found["thread"] = without_memory()
    found["went"].set()
    limit_gone.wait()
    found["after"] = without_memory()

go, limit_gone = threading.Event(), threading.Event()
found["went"] = threading.Event()
thread = threading.Thread(target=in_thread)
thread.start()

pages = int(open("/proc/self/statm").read().split()[0])
before = resource.getrlimit(resource.RLIMIT_AS)
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (512 << 10), before[1]))
here = without_memory()
go.set()
found["went"].wait()
resource.setrlimit(resource.RLIMIT_AS, before)
limit_gone.set()
thread.join()
assert here == found["thread"] == list(jobs), (here, found["thread"])
assert not without_memory() and not found["after"]
assert np.array_equal(jobs["matmul"](), result)
print("done")
"""

WITHOUT_THREADS = """
import os, resource
import numpy as np
from tinygrad_rnn.backends import native

a = np.random.default_rng(0).standard_normal((400, 400))
native.set_num_threads(1)
expected = native.matmul(a, a)
room = np.empty_like(a)  # for a result
pages = int(open("/proc/self/statm").read().split()[0])
before = resource.getrlimit(resource.RLIMIT_AS)
native.set_num_threads(4)
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (6 << 20), before[1]))
del room
for _ in range(20):  # a thread takes a stack of some MB besides its scratch
    assert np.array_equal(native.matmul(a, a), expected)
print(len(os.listdir("/proc/self/task")), end=" ")
resource.setrlimit(resource.RLIMIT_AS, before)
for _ in range(20):
    assert np.array_equal(native.matmul(a, a), expected)
print(len(os.listdir("/proc/self/task")))
"""

# without this what was freed before could serve as scratch
NO_RESERVES = {
    "MALLOC_MMAP_THRESHOLD_": "65536",
    "MALLOC_TRIM_THRESHOLD_": "65536",
    "MALLOC_ARENA_MAX": "1",
    "OPENBLAS_NUM_THREADS": "1",
}


@linux
def test_no_memory_for_scratch_is_a_memory_error():
    """In the main thread and in others, of every kernel that needs scratch and of a replay; the process goes on."""
    assert run(WITHOUT_MEMORY, **NO_RESERVES) == "done\n"


@linux
def test_kernels_run_without_helpers_where_none_can_be_started():
    with_limit, without = map(int, run(WITHOUT_THREADS, **NO_RESERVES).split())
    assert with_limit == 1 and without == 4


# ---- forks

FORKS = """
import os, signal, threading
import numpy as np
from tinygrad_rnn.backends import native

native.set_num_threads(2)
a = np.random.default_rng(0).standard_normal((200, 200))
expected = native.matmul(a, a)
_, calls, made = native.recorded(native.matmul, (a, a), {})
replay = native.Replay(calls)
stop = threading.Event()

def computes():
    while not stop.is_set():
        native.matmul(a, a)

def records():
    while not stop.is_set():
        native.recorded(native.matmul, (a, a), {})

def replays():
    while not stop.is_set():
        native.Replay(calls).run()

threads = [threading.Thread(target=f) for f in (computes, records, replays)]
for t in threads:
    t.start()
bad = []
for i in range(200):
    child = os.fork()
    if child == 0:
        signal.alarm(60)  # ends a child that hangs
        ok = np.array_equal(native.matmul(a, a), expected)
        result, got, made = native.recorded(native.matmul, (a, a), {})
        ok &= np.array_equal(result, expected) and len(got) == 1
        ok &= native.Replay(got).run() == 1 and native.threads_running() == 0
        other = threading.Thread(target=native.recorded, args=(native.matmul, (a, a), {}))
        other.start()
        other.join()
        os._exit(not ok)
    status = os.waitpid(child, 0)[1]
    if status:
        bad.append(status)
        break
stop.set()
for t in threads:
    t.join()
assert not bad, bad
print("done")
"""


@posix
def test_children_of_a_process_that_is_at_work_do_not_hang():
    """Whoever computes, records or replays in another thread at the moment of the fork does not come along."""
    assert run(FORKS) == "done\n"


# ---- signals


def many_calls(n, count):
    """A replay of `count` calls of exp on n elements, each with an output of its own, and these."""
    x, outputs = np.zeros(n, np.float32), np.full((count, 1), 7, np.float32)
    y = np.empty(n, np.float32)
    short = []
    for out in outputs:  # what the calls leave: a long one, and one that says that it ran
        short.append(("exp", 0, (y.ctypes.data, x.ctypes.data), (n,), ()))
        short.append(("exp", 0, (out.ctypes.data, x.ctypes.data), (1,), ()))
    return native.Replay(short), outputs, (x, y)


@posix
@pytest.mark.parametrize(("n", "count"), [(4_000_000, 3_000), (30_000, 400_000)], ids=["long calls", "short calls"])
def test_ctrl_c_ends_a_long_replay(n, count):
    """KeyboardInterrupt comes between two calls, some twenty seconds before the last of them; the replay can be run again."""
    replay, outputs, held = many_calls(n, count)
    main = threading.main_thread().ident
    timer = threading.Timer(0.2, lambda: signal.pthread_kill(main, signal.SIGINT))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            replay.run()
    finally:
        timer.join()
        signal.signal(signal.SIGINT, before)
    ran = outputs[:, 0] == 1
    assert ran[0] and not ran[-1] and np.all(outputs[~ran] == 7)
    assert np.array_equal(np.sort(ran)[::-1], ran), "a call ran before one that comes earlier"
    assert replay.run(0, 8) == 8 and replay.run(replay.count - 2) == replay.count
    assert outputs[-1, 0] == 1
    del held


@posix
def test_a_handler_that_returns_lets_the_replay_go_on():
    replay, outputs, held = many_calls(1_000_000, 400)
    main, seen = threading.main_thread().ident, []
    timer = threading.Timer(0.1, lambda: signal.pthread_kill(main, signal.SIGUSR1))
    before = signal.signal(signal.SIGUSR1, lambda *_: seen.append(int(np.sum(outputs[:, 0] == 1))))
    try:
        timer.start()
        assert replay.run() == replay.count
        timer.join()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert np.all(outputs == 1) and len(seen) == 1
    del held


def test_a_long_replay_in_another_thread_runs_to_its_end():
    replay, outputs, held = many_calls(1_000_000, 200)
    done = []
    thread = threading.Thread(target=lambda: done.append(replay.run()))
    thread.start()
    thread.join()
    assert done == [replay.count] and np.all(outputs == 1)
    del held
