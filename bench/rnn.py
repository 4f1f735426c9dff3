"""Recurrent nets, compiled and eager, against PyTorch, JAX, autograd and DyNet.

A step is forward and backward of a tanh RNN (or LSTM, or GRU) over the whole sequence; the loss is the sum of the last state,
the gradients are those of all weights and biases. "ours" is tr.compile of that step, after which every node's value and
cotangent can be read; its peer in that is the loop over torch.nn.RNNCell that retains every state's gradient. "eager" is the
same step on a Tape, not compiled. With the environment variable BENCH_TORCH_COMPILE set, torch.compile of the loop takes part:
half a minute each."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import tinygrad_rnn as tr
from tinygrad_rnn.backends import native

from .peers import peer, torch_on_one_thread
from .timing import every_core, geometric_mean, ratio, seconds, shown, table

# (batch, steps, input features, hidden units)
GRID = [
    (1, 50, 1, 16),
    (1, 100, 32, 32),
    (16, 50, 32, 64),
    (32, 50, 64, 128),
    (32, 100, 128, 256),
    (64, 50, 256, 512),
    (64, 20, 512, 1024),
]
NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
PEERS = ("torch nn.RNN", "jax scan")
OTHERS = ("torch RNNCell loop", "autograd", "dynet", "torch.compile of a loop")


def run(quick: bool) -> tuple[str, dict]:
    """(printed tables, numbers)"""
    text, numbers = "", {}
    for name, part in (
        ("grid", grid),
        ("gated", gated),
        ("training", training),
        ("other nets", other_nets),
        ("threads", two_threads),
        ("costs", costs),
    ):
        printed, numbers[name] = part(quick)
        text += printed
    return text, numbers


def _inputs(batch: int, steps: int, features: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((steps, batch, features)).astype(np.float32)


def _verified(contenders: dict[str, Callable[[], Any]], where: str) -> None:
    """Raise unless all contenders return the same gradients as the first, to rounding."""
    expected = next(iter(contenders.values()))()
    for name, f in contenders.items():
        for ours, theirs in zip(expected, f(), strict=True):
            assert np.abs(ours - np.asarray(theirs)).max() <= 1e-4 * np.abs(ours).max(), f"{name} disagrees at {where}"


def _called(step: Callable[..., Any], grads: Callable[[], list], *arguments: Any) -> Callable[[], list]:
    """A contender: the step, captured and checked by now, and then the gradients it leaves."""

    def f() -> list:
        step(*arguments)
        return grads()

    f()
    step(*(0.5 * a for a in arguments))  # other values: nothing is left to check
    f()
    return f


def _summary(numbers: dict[str, dict[str, float]], pairs: list[tuple[str, str]]) -> str:
    lines = ""
    for ours, theirs in pairs:
        if all(theirs in t for t in numbers.values()):
            ratios = [t[theirs] / t[ours] for t in numbers.values()]
            lines += f"  {ours} vs {theirs}: geometric mean {geometric_mean(ratios):.2f}x, least {min(ratios):.2f}x\n"
    return lines


# ---- forward and backward


def grid(quick: bool) -> tuple[str, dict]:
    torch, jax, autograd, dynet = torch_on_one_thread(), peer("jax"), peer("autograd"), peer("dynet")
    rows, numbers = [], {}
    for shape in GRID[:2] if quick else GRID:
        batch, steps, features, hidden = shape
        rnn, x = tr.nn.RNN(features, hidden, seed=0), _inputs(batch, steps, features)
        contenders = {"ours": ours(rnn, x), "eager": eager(rnn, x)}
        if torch:
            contenders |= {"torch nn.RNN": torch_rnn(torch, rnn, x), "torch RNNCell loop": torch_cells(torch, rnn, x)}
            if os.environ.get("BENCH_TORCH_COMPILE"):
                contenders["torch.compile of a loop"] = torch_compiled(torch, rnn, x)
        if jax:
            contenders["jax scan"] = jax_scan(jax, rnn, x)
        if autograd:
            contenders["autograd"] = autograd_loop(rnn, x)
        if dynet:
            contenders["dynet"] = dynet_loop(dynet, rnn, x)
        label = str(shape)
        _verified(contenders, label)
        # those that are compared take turns with each other alone: a contender that heats the core, or fills the caches, slows
        # whoever comes after it
        peers = [p for p in PEERS if p in contenders]
        budget = 0.05 if quick else 2.0
        t = seconds({name: contenders[name] for name in ("ours", *peers)}, budget)
        rest = seconds({"ours": contenders["ours"]} | {k: f for k, f in contenders.items() if k not in t}, budget)
        fastest = min((t[p] for p in peers), default=None)
        rows.append([label, shown(t["ours"]), ratio(t["ours"], fastest), *(ratio(t["ours"], t.get(p)) for p in PEERS)])
        rows[-1] += [ratio(rest["ours"], rest.get(p)) for p in OTHERS]
        rows[-1].append(ratio(rest["eager"], rest.get("torch RNNCell loop")))
        numbers[label] = {**rest, "ours beside these": rest["ours"], **t}
    titles = ["(batch, steps, in, hidden)", "ours", "vs faster of nn.RNN, jax", *(f"vs {p}" for p in PEERS + OTHERS)]
    titles += ["eager vs RNNCell loop"]
    text = table("forward and backward of a tanh RNN, float32, one thread; every node readable", titles, rows)
    return text + _summary(numbers, [("ours", "torch nn.RNN"), ("ours", "jax scan"), ("eager", "torch RNNCell loop")]), numbers


def _grads(net: Any) -> Callable[[], list]:
    parameters = net.parameters()  # found once: looking for them takes as long as a small step
    return lambda: [p.grad for p in parameters]


def _last(state: Any) -> Any:
    """h_n; an LSTM returns (h_n, c_n)."""
    return state[0] if isinstance(state, tuple) else state


def _step(rnn: Any) -> Callable[[np.ndarray], Any]:
    def step(x: np.ndarray) -> Any:
        rnn.zero_grad()
        loss = _last(rnn(x)[1]).sum()
        loss.backward()
        return loss

    return step


def ours(rnn: Any, x: np.ndarray) -> Callable[[], list]:
    return _called(tr.compile(_step(rnn)), _grads(rnn), x)


def eager(rnn: Any, x: np.ndarray) -> Callable[[], list]:
    step, grads = _step(rnn), _grads(rnn)

    def f() -> list:
        with tr.Tape():
            step(x)
        return grads()

    return f


def torch_rnn(torch: Any, rnn: Any, x: np.ndarray) -> Callable[[], list]:
    net = getattr(torch.nn, type(rnn).__name__)(rnn.input_size, rnn.hidden_size, rnn.num_layers)
    net.load_state_dict({k: torch.from_numpy(v) for k, v in rnn.state_dict().items()})
    data = torch.from_numpy(x)

    def f() -> list:
        net.zero_grad(set_to_none=True)
        _last(net(data)[1]).sum().backward()
        return [getattr(net, name).grad.numpy() for name in rnn.state_dict()]

    return f


def _torch_cell(torch: Any, rnn: Any) -> Any:
    cell = torch.nn.RNNCell(rnn.input_size, rnn.hidden_size)
    cell.load_state_dict({k.removesuffix("_l0"): torch.from_numpy(v) for k, v in rnn.state_dict().items()})
    return cell


def torch_cells(torch: Any, rnn: Any, x: np.ndarray) -> Callable[[], list]:
    cell, data = _torch_cell(torch, rnn), torch.from_numpy(x)

    def f() -> list:
        cell.zero_grad(set_to_none=True)
        h, states = torch.zeros(x.shape[1], rnn.hidden_size), []
        for xt in data:
            h = cell(xt, h)
            h.retain_grad()
            states.append(h)
        h.sum().backward()
        return [getattr(cell, name).grad.numpy() for name in NAMES]

    return f


def torch_compiled(torch: Any, rnn: Any, x: np.ndarray) -> Callable[[], list]:
    cell, data = _torch_cell(torch, rnn), torch.from_numpy(x)

    @torch.compile
    def loss(data: Any) -> Any:
        h = torch.zeros(data.shape[1], rnn.hidden_size)
        for xt in data:
            h = cell(xt, h)
        return h.sum()

    def f() -> list:
        cell.zero_grad(set_to_none=True)
        loss(data).backward()
        return [getattr(cell, name).grad.numpy() for name in NAMES]

    return f


def _in_order(rnn: Any, convert: Callable[[np.ndarray], Any]) -> list:
    return [convert(rnn.state_dict()[f"{name}_l0"]) for name in NAMES]


def _jax_cell(jax: Any, kind: str) -> Callable[[Any, tuple, Any], tuple]:
    """(weights, state, input) -> state of one step."""
    jnp, sigmoid = jax.numpy, jax.nn.sigmoid

    def rnn(w: Any, state: tuple, x: Any) -> tuple:
        return (jnp.tanh(x @ w[0].T + w[2] + state[0] @ w[1].T + w[3]),)

    def lstm(w: Any, state: tuple, x: Any) -> tuple:
        i, f, g, o = jnp.split(x @ w[0].T + w[2] + state[0] @ w[1].T + w[3], 4, -1)
        c = sigmoid(f) * state[1] + sigmoid(i) * jnp.tanh(g)
        return sigmoid(o) * jnp.tanh(c), c

    def gru(w: Any, state: tuple, x: Any) -> tuple:
        of_x, of_h = (jnp.split(v, 3, -1) for v in (x @ w[0].T + w[2], state[0] @ w[1].T + w[3]))
        z = sigmoid(of_x[1] + of_h[1])
        n = jnp.tanh(of_x[2] + sigmoid(of_x[0] + of_h[0]) * of_h[2])
        return ((1 - z) * n + z * state[0],)

    return {"RNN": rnn, "LSTM": lstm, "GRU": gru}[kind]


def jax_scan(jax: Any, rnn: Any, x: np.ndarray) -> Callable[[], list]:
    jnp, cell = jax.numpy, _jax_cell(jax, type(rnn).__name__)

    def loss(w: Any, x: Any) -> Any:
        start = tuple(jnp.zeros((x.shape[1], rnn.hidden_size)) for _ in rnn.states)
        return jax.lax.scan(lambda state, xt: (cell(w, state, xt), None), start, x)[0][0].sum()

    step = jax.jit(jax.value_and_grad(loss))
    weights, data = _in_order(rnn, jnp.asarray), jnp.asarray(x)
    return lambda: jax.block_until_ready(step(weights, data))[1]


def autograd_loop(rnn: Any, x: np.ndarray) -> Callable[[], list]:
    import autograd.numpy as anp
    from autograd import value_and_grad

    def loss(w: Any) -> Any:
        h = anp.zeros((x.shape[1], rnn.hidden_size), np.float32)
        for xt in x:
            h = anp.tanh(anp.dot(xt, w[0].T) + w[2] + anp.dot(h, w[1].T) + w[3])
        return anp.sum(h)

    step, weights = value_and_grad(loss), _in_order(rnn, np.asarray)
    return lambda: step(weights)[1]


def dynet_loop(dynet: Any, rnn: Any, x: np.ndarray) -> Callable[[], list]:
    parameters = [dynet.ParameterCollection().parameters_from_numpy(w) for w in _in_order(rnn, np.asarray)]

    def f() -> list:
        dynet.renew_cg()
        w_ih, w_hh, b_ih, b_hh = map(dynet.parameter, parameters)
        h = dynet.zeros((rnn.hidden_size,), batch_size=x.shape[1])
        for xt in x:
            h = dynet.tanh(w_ih * dynet.inputTensor(xt.T, batched=True) + b_ih + w_hh * h + b_hh)
        dynet.sum_batches(dynet.sum_elems(h)).backward()
        return [p.grad_as_array() for p in parameters]

    return f


def gated(quick: bool) -> tuple[str, dict]:
    """The same for an LSTM and a GRU, against PyTorch's fused ones and JAX."""
    torch, jax = torch_on_one_thread(), peer("jax")
    text, numbers = "", {}
    for kind in ("LSTM", "GRU"):
        rows, of_kind = [], {}
        for shape in GRID[:1] if quick else GRID:
            batch, steps, features, hidden = shape
            net, x = getattr(tr.nn, kind)(features, hidden, seed=0), _inputs(batch, steps, features)
            contenders = {"ours": ours(net, x)}
            if torch:
                contenders["torch"] = torch_rnn(torch, net, x)
            if jax:
                contenders["jax scan"] = jax_scan(jax, net, x)
            _verified(contenders, f"{kind} {shape}")
            t = of_kind[str(shape)] = seconds(contenders, 0.05 if quick else 1.0)
            t["faster peer"] = min((v for name, v in t.items() if name != "ours"), default=float("nan"))
            rows.append(
                [str(shape), shown(t["ours"]), *(ratio(t["ours"], t.get(c)) for c in ("faster peer", "torch", "jax scan"))]
            )
        titles = ["(batch, steps, in, hidden)", "ours", "vs faster", "vs torch", "vs jax scan"]
        text += table(f"forward and backward of {kind}, float32, one thread; every gate readable", titles, rows)
        text += _summary(of_kind, [("ours", name) for name in ("faster peer", "torch", "jax scan")])
        numbers[kind] = of_kind
    return text, numbers


# ---- whole training steps


def training(quick: bool) -> tuple[str, dict]:
    torch = torch_on_one_thread()
    rows, numbers = [], {}
    for shape in GRID[:1] if quick else GRID:
        batch, steps, features, hidden = shape
        x = _inputs(batch, steps, features)
        contenders = {"ours": our_training(features, hidden, x)}
        if torch:
            contenders["torch"] = torch_training(torch, features, hidden, x)
        first = {name: [f() for _ in range(6)] for name, f in contenders.items()}
        for losses in first.values():
            np.testing.assert_allclose(losses, first["ours"], rtol=2e-4, err_msg=f"training disagrees at {shape}")
        t = numbers[str(shape)] = seconds(contenders, 0.05 if quick else 1.0)
        rows.append([str(shape), shown(t["ours"]), ratio(t["ours"], t.get("torch"))])
    titles = ["(batch, steps, in, hidden)", "ours", "vs torch nn.RNN"]
    text = table("a training step: mean squared error, clipping, Adam; its first losses agree", titles, rows)
    return text + _summary(numbers, [("ours", "torch")]), numbers


def our_training(features: int, hidden: int, x: np.ndarray) -> Callable[[], float]:
    rnn = tr.nn.RNN(features, hidden, seed=0)
    optimizer = tr.optim.Adam(rnn.parameters(), lr=1e-3)
    y = np.zeros((x.shape[1], hidden), np.float32) + 0.5

    def update(x: np.ndarray, y: np.ndarray) -> Any:
        loss = tr.mse_loss(rnn(x)[1][0], y)
        optimizer.zero_grad()
        loss.backward()
        tr.optim.clip_grad_norm_(rnn.parameters(), 1.0)
        optimizer.step()
        return loss

    step = tr.compile(update)
    return lambda: step(x, y).item()


def torch_training(torch: Any, features: int, hidden: int, x: np.ndarray) -> Callable[[], float]:
    net = torch.nn.RNN(features, hidden)
    net.load_state_dict({k: torch.from_numpy(v) for k, v in tr.nn.RNN(features, hidden, seed=0).state_dict().items()})
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3, fused=True)
    data, y = torch.from_numpy(x), torch.full((x.shape[1], hidden), 0.5)

    def f() -> float:
        loss = torch.nn.functional.mse_loss(net(data)[1][0], y)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        return loss.item()

    return f


# ---- other nets


def other_nets(quick: bool) -> tuple[str, dict]:
    torch = torch_on_one_thread()
    small = (1, 20, 8, 8) if quick else (16, 50, 32, 64)
    batch, steps, features, hidden = small
    x = _inputs(batch, steps, features)
    stacked = tr.nn.RNN(features, hidden, 2, seed=0)
    depth, width = (5, 8) if quick else (50, 128)
    mlp, rows_of_mlp = tr.nn.MLP(depth, width, seed=0), _inputs(1, 32, width)[:, 0]
    leak, wide = tr.nn.Linear(hidden, hidden, init="orthogonal", seed=0), _inputs(batch, steps, hidden)
    pairs: dict[str, dict[str, Callable[[], list]]] = {
        f"RNN of 2 layers {small}": {"ours": ours(stacked, x)},
        f"tanh MLP, depth {depth}, width {width}, batch 32": {
            "ours": _called(tr.compile(_sum_step(mlp)), _grads(mlp), rows_of_mlp)
        },
        f"leaky cell of one's own {(batch, steps, hidden, hidden)}": {
            "ours": _called(tr.compile(_leaky_step(leak)), _grads(leak), wide)
        },
    }
    if torch:
        for contenders, f in zip(
            pairs.values(),
            (torch_rnn(torch, stacked, x), torch_mlp(torch, mlp, rows_of_mlp), torch_leaky(torch, leak, wide)),
            strict=True,
        ):
            contenders["torch"] = f
    rows, numbers = [], {}
    for name, contenders in pairs.items():
        _verified(contenders, name)
        t = numbers[name] = seconds(contenders, 0.05 if quick else 1.0)
        rows.append([name, shown(t["ours"]), ratio(t["ours"], t.get("torch"))])
    return table("forward and backward of other nets", ["net", "ours", "vs torch"], rows), numbers


def _sum_step(net: Any) -> Callable[[np.ndarray], Any]:
    def step(x: np.ndarray) -> Any:
        net.zero_grad()
        loss = net(x).sum()
        loss.backward()
        return loss

    return step


def _leaky_step(recurrent: Any) -> Callable[[np.ndarray], Any]:
    def step(x: np.ndarray) -> Any:
        recurrent.zero_grad()
        h = tr.Tensor(np.zeros(x.shape[1:], x.dtype))
        for t in range(len(x)):
            with tr.scope(layer=0, t=t):
                h = h * 0.9 + tr.tanh(recurrent(h) + x[t]) * 0.1
        loss = h.sum()
        loss.backward()
        return loss

    return step


def torch_mlp(torch: Any, mlp: Any, x: np.ndarray) -> Callable[[], list]:
    layers = []
    for layer in mlp.layers:
        linear = torch.nn.Linear(layer.in_features, layer.out_features)
        linear.load_state_dict({k: torch.from_numpy(v) for k, v in layer.state_dict().items()})
        layers += [linear, torch.nn.Tanh()]
    net, data = torch.nn.Sequential(*layers), torch.from_numpy(x)

    def f() -> list:
        net.zero_grad(set_to_none=True)
        net(data).sum().backward()
        return [p.grad.numpy() for p in net.parameters()]

    return f


def torch_leaky(torch: Any, recurrent: Any, x: np.ndarray) -> Callable[[], list]:
    linear, data = torch.nn.Linear(recurrent.in_features, recurrent.out_features), torch.from_numpy(x)
    linear.load_state_dict({k: torch.from_numpy(v) for k, v in recurrent.state_dict().items()})

    def f() -> list:
        linear.zero_grad(set_to_none=True)
        h = torch.zeros(x.shape[1:])
        for xt in data:
            h = h * 0.9 + torch.tanh(linear(h) + xt) * 0.1
        h.sum().backward()
        return [p.grad.numpy() for p in linear.parameters()]

    return f


# ---- threads


def two_threads(quick: bool) -> tuple[str, dict]:
    rows, numbers = [], {}
    with every_core() as cores:
        for shape in GRID[:1] if quick else [s for s in GRID if s[3] >= 128]:
            batch, steps, features, hidden = shape
            rnn, x = tr.nn.RNN(features, hidden, seed=0), _inputs(batch, steps, features)
            f = ours(rnn, x)

            def on(threads: int, f: Callable[[], list] = f) -> list:
                tr.set_num_threads(threads)
                return f()

            one, two = ([g.copy() for g in on(n)] for n in (1, 2))
            assert all(map(np.array_equal, one, two)), f"two threads give other bits at {shape}"
            t = numbers[str(shape)] = seconds({"1": lambda on=on: on(1), "2": lambda on=on: on(2)}, 0.05 if quick else 2.0)
            rows.append([str(shape), shown(t["1"]), shown(t["2"]), ratio(t["2"], t["1"])])
        tr.set_num_threads(1)
    return table(f"two threads on {cores} cores, same bits", ["(batch, steps, in, hidden)", "1", "2", "gain"], rows), numbers


# ---- what it costs to begin, to hold and to call

_FIRST_GRADIENT = {
    "ours": """
import numpy as np, tinygrad_rnn as tr
rnn, x = tr.nn.RNN(32, 64, seed=0), np.ones((50, 16, 32), np.float32)
@tr.compile
def step(x):
    rnn.zero_grad(); rnn(x)[1].sum().backward()
step(x)
""",
    "torch": """
import torch
net, x = torch.nn.RNN(32, 64), torch.ones(50, 16, 32)
net(x)[1].sum().backward()
""",
    "jax": """
import jax, jax.numpy as jnp
w = [jnp.ones((64, 32)), jnp.ones((64, 64)), jnp.ones(64)]
def loss(w, x):
    return jax.lax.scan(lambda h, xt: (jnp.tanh(xt @ w[0].T + h @ w[1].T + w[2]), None), jnp.zeros((16, 64)), x)[0].sum()
jax.block_until_ready(jax.jit(jax.value_and_grad(loss))(w, jnp.ones((50, 16, 32))))
""",
}


def costs(quick: bool) -> tuple[str, dict]:
    numbers: dict[str, Any] = {}
    one = np.ones(1, np.float32)
    _, calls, made = native.recorded(native.add, (one, one), {})
    replay = native.Replay(calls * 1000)
    numbers["replayed instruction"] = seconds({"add": replay.run}, 0.1)["add"] / 1000
    del made  # held the result until now
    rows = [["a replayed addition of one number", shown(numbers["replayed instruction"]), "", ""]]
    for name, code in _FIRST_GRADIENT.items():
        if name != "ours" and not peer(name):
            continue
        runs = [_process(code) for _ in range(1 if quick else 5)]
        t, memory = sorted(runs)[len(runs) // 2]
        numbers[f"first gradient, {name}"] = {"seconds": t, "peak bytes": memory}
        rows.append([f"process to first gradient, {name}", shown(t), f"{memory / 1e6:.0f} MB", ""])
    rnn, steps = tr.nn.RNN(4, 16, seed=0), 200 if quick else 2000
    step, x = tr.compile(_step(rnn)), _inputs(1, steps, 4)
    start = time.perf_counter()
    step(x)
    step(x)
    numbers["capture"] = {"steps": steps, "seconds": time.perf_counter() - start, "bytes": step.program.bytes}
    rows.append(
        [
            f"capture, check and passes of {steps} steps (1, {steps}, 4, 16)",
            shown(numbers["capture"]["seconds"]),
            f"{step.program.bytes / 1e6:.1f} MB",
            f"{step.program.bytes / steps:.0f} bytes a step",
        ]
    )
    return table("costs", ["what", "time", "peak memory", ""], rows), numbers


def _process(code: str) -> tuple[float, float]:
    """Seconds and peak bytes of a Python process; 0 bytes where the system does not tell a process its own."""
    probe = """
import pathlib
status = pathlib.Path("/proc/self/status")
lines = status.read_text().splitlines() if status.exists() else []
print(sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")))
"""
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code + probe], capture_output=True, text=True, check=True)
    return time.perf_counter() - start, float(done.stdout.split()[-1])
