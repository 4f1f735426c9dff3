"""Without the compiled modules: one warning, and everything but programs works in plain numpy."""

import os
import shutil
import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import numpy as np
import pytest

import tinygrad_rnn as tr

HERE, PACKAGE = Path(__file__).parent, Path(tr.__file__).parent


def run(code, folder):
    """A Python of its own, run in a folder, with tests/ in its path, so that `import without_kernels` blocks the compiled modules."""
    path = [str(HERE), str(PACKAGE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(path)}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, cwd=folder)


WORK = """
import sys, warnings
import without_kernels
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import tinygrad_rnn as tr
assert [w.category for w in caught] == [RuntimeWarning], caught
print(caught[0].message)
import numpy as np

info = tr.build_info()
assert (info["backend"], info["isa"], tr.get_num_threads()) == ("reference", None, 1), info
print(info["missing"])

rng = np.random.default_rng(0)
x, y = rng.standard_normal((20, 4, 3)).astype("float32"), np.ones((4, 8), "float32")
net = tr.nn.RNN(3, 8, seed=0)
optimizer = tr.optim.Adam(net.parameters(), lr=1e-2)

def update(x, y):
    loss = tr.mse_loss(net(x)[1][0], y)
    optimizer.zero_grad()
    loss.backward()
    tr.optim.clip_grad_norm_(net.parameters(), 1.0)
    optimizer.step()
    return loss

inner = tr.compile(lambda h: h * 2)
step = tr.compile(lambda x, y: update(x, y) + inner(net.weight_hh_l0).sum() * 0)
losses = [step(x, y) for _ in range(30)]
assert losses[-1].item() < losses[0].item() / 2 and losses[0].op is None
for name in ("graph", "program"):
    try:
        getattr(step, name)
    except RuntimeError as error:
        print(error)
assert step.programs == []

w = tr.Tensor([1.0, 2.0], requires_grad=True)  # inside a tape, a compiled function is a part of it
with tr.Tape():
    inner(w).sum().backward()
assert w.grad.tolist() == [2, 2]

graph = tr.trace(net, x, loss=lambda output: output[-1].sum())
print(graph.why())
assert tr.same_graph(graph, tr.trace(net.unroll(20), x, loss=lambda output: output[-1].sum())).identical
print(graph.what_if("orthogonal weights"))
graph.gain()

for file in ("run.npz", "run.safetensors"):
    tr.save(file, {"model": net, "optimizer": optimizer})
    other = tr.nn.RNN(3, 8, seed=1)
    tr.load_into(file, {"model": other, "optimizer": tr.optim.Adam(other.parameters())})
    np.testing.assert_array_equal(other.weight_hh_l0.value, net.weight_hh_l0.value)
try:
    tr.use_backend("native")
except RuntimeError as error:
    print(error)
"""


def test_work_goes_on_in_plain_numpy(tmp_path):
    done = run(WORK, tmp_path)
    assert done.returncode == 0, done.stderr
    out = done.stdout
    assert out.startswith(
        "tinygrad_rnn runs without its C kernels, in plain numpy, which is slow: tinygrad_rnn._native was not"
    )
    assert "compile: there is no graph without the C kernels, for the function runs eagerly" in out
    assert "compile: there is no program without the C kernels" in out
    assert "VANISHING" in out and "orthogonal weights" in out
    assert "the backend 'native' is not to be had: tinygrad_rnn._native was not built" in out


def test_the_command_runs_in_plain_numpy(tmp_path):
    (tmp_path / "text.txt").write_text("the quick brown fox jumps over the lazy dog. " * 60)
    options = ["--updates", "2", "--steps", "6", "--hidden", "8", "--nets", "2", "--draws", "2", "--text", "text.txt"]
    done = run(f"import sys, without_kernels; from tinygrad_rnn.cli import main; sys.exit(main({options}))", tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("RuntimeWarning") == 1
    done = run("import without_kernels; from tinygrad_rnn.cli import main; main(['--version'])", tmp_path)
    assert "(reference kernels)" in done.stdout


def test_gradients_without_kernels_are_those_with_them(tmp_path):
    code = """
import numpy as np, tinygrad_rnn as tr
x = np.random.default_rng(0).standard_normal((9, 2, 3))
for kind in (tr.nn.RNN, tr.nn.LSTM, tr.nn.GRU):
    net = kind(3, 5, seed=0, dtype="float64")
    tr.compile(lambda x: tr.square(net(x)[0]).sum().backward())(x)
    print([float(np.abs(p.grad).sum()) for p in net.parameters()])
"""
    found = [run(first + code, tmp_path) for first in ("", "import without_kernels")]
    assert all(f.returncode == 0 for f in found), found
    np.testing.assert_allclose(*[np.array(eval(f.stdout.replace("\n", "+")[:-1])) for f in found], rtol=1e-12)


@pytest.fixture
def copied(tmp_path):
    """A copy of the package without its compiled modules, in a folder of its own."""
    shutil.copytree(PACKAGE, tmp_path / "tinygrad_rnn", ignore=shutil.ignore_patterns("*.so", "*.pyd", "__pycache__"))
    return tmp_path


SAY = "import tinygrad_rnn as tr; print(tr.__file__); print(tr.build_info()['missing'])"


def test_a_module_that_does_not_load_says_why(copied):
    (copied / "tinygrad_rnn" / f"_native{EXTENSION_SUFFIXES[0]}").write_bytes(b"not a module")
    done = run(SAY, copied)
    assert done.returncode == 0 and str(copied) in done.stdout, done.stderr
    assert "tinygrad_rnn._native cannot be loaded: ImportError: " in done.stdout
    assert "tinygrad_rnn._native cannot be loaded: ImportError: " in done.stderr


def test_a_module_that_fails_while_it_is_imported_says_why(copied):
    (copied / "tinygrad_rnn" / "_native.py").write_text("raise ValueError('numpy.dtype size changed')")
    done = run(SAY, copied)
    assert "tinygrad_rnn._native cannot be loaded: ValueError: numpy.dtype size changed" in done.stdout, done.stderr


def test_a_module_of_another_interpreter_is_named(copied):
    (copied / "tinygrad_rnn" / "_native.cpython-27-other.so").write_bytes(b"")
    done = run("import without_kernels; " + SAY, copied)
    assert "is there as _native.cpython-27-other.so, and this interpreter loads _native." in done.stdout, done.stderr


def test_an_instruction_set_that_does_not_run_is_an_error(copied):
    (copied / "tinygrad_rnn" / "_native.py").write_text("raise ImportError(\"TGR_ISA: unknown instruction set 'x'\")")
    done = run(SAY, copied)
    assert done.returncode == 1 and "ImportError: TGR_ISA: unknown instruction set 'x'" in done.stderr


@pytest.mark.kernels
def test_without_the_compiled_part_of_the_compiler_functions_run_eagerly(tmp_path):
    code = """
import without_kernels
without_kernels.COMPILED = ("tinygrad_rnn.compiler._shortcut",)
import numpy as np, tinygrad_rnn as tr
f = tr.compile(lambda x: (x * 2).sum())
print([f(tr.Tensor([float(i)] * 3)).item() for i in range(6)], tr.build_info()["backend"])
"""
    done = run(code, tmp_path)
    assert done.stdout == "[0.0, 6.0, 12.0, 18.0, 24.0, 30.0] native\n", done.stderr
    assert done.stderr.count("RuntimeWarning") == 1 and "compile() runs its function eagerly" in done.stderr
