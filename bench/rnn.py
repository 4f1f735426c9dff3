"""One training step of a tanh RNN, forward and backward, against PyTorch, JAX and autograd.

The loss is the sum of the last state; the gradients are those of all weights and biases. "readable" keeps the value and
cotangent of every node, as a Tape does; its peer is the loop over torch.nn.RNNCell that retains every state's gradient."""

from __future__ import annotations

import numpy as np

import tinygrad_rnn as tr

from .peers import peer, torch_on_one_thread
from .timing import geometric_mean, ratio, seconds, shown, table

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


def run(quick: bool) -> tuple[str, dict]:
    """(printed table, numbers)"""
    torch, jax, autograd = torch_on_one_thread(), peer("jax"), peer("autograd")
    rows, numbers = [], {}
    for batch, steps, features, hidden in GRID[:2] if quick else GRID:
        rnn = tr.nn.RNN(features, hidden, seed=0)
        x = np.random.default_rng(0).standard_normal((steps, batch, features)).astype(np.float32)
        contenders = {"ours": _ours(rnn, x), "readable": _readable(rnn, x)}
        if torch:
            contenders |= {"torch nn.RNN": _torch_rnn(torch, rnn, x), "torch RNNCell loop": _torch_cells(torch, rnn, x)}
        if jax:
            contenders["jax scan"] = _jax(jax, rnn, x)
        if autograd:
            contenders["autograd"] = _autograd(rnn, x)
        expected = contenders["ours"]()
        for name, f in contenders.items():
            for ours, theirs in zip(expected, f(), strict=True):
                scale = np.abs(ours).max()
                assert np.abs(ours - np.asarray(theirs)).max() <= 1e-4 * scale, (
                    f"{name} disagrees at {batch, steps, features, hidden}"
                )
        t = seconds(contenders, 0.05 if quick else 2.0)
        label = f"({batch}, {steps}, {features}, {hidden})"
        peers = ("torch nn.RNN", "jax scan", "autograd")
        rows.append(
            [label, shown(t["ours"]), shown(t["readable"]), ratio(t["readable"], t.get("torch RNNCell loop"))]
            + [ratio(t["ours"], t.get(p)) for p in peers]
        )
        numbers[label] = t
    columns = [
        "(batch, steps, in, hidden)",
        "ours",
        "readable",
        "readable vs RNNCell loop",
        "vs nn.RNN",
        "vs jax scan",
        "vs autograd",
    ]
    text = table("training step of a tanh RNN, float32, one thread, eager", columns, rows)
    for name, ours in (("torch RNNCell loop", "readable"), ("torch nn.RNN", "ours"), ("jax scan", "ours")):
        if all(name in t for t in numbers.values()):
            text += (
                f"  geometric mean of {ours} vs {name}: {geometric_mean([t[name] / t[ours] for t in numbers.values()]):.2f}x\n"
            )
    return text, numbers


def _grads(rnn):
    return [p.grad for p in rnn.parameters()]


def _ours(rnn, x):
    def step():
        rnn.zero_grad()
        rnn(x)[1].sum().backward()
        return _grads(rnn)

    return step


def _readable(rnn, x):
    def step():
        rnn.zero_grad()
        with tr.Tape():
            rnn(x)[1].sum().backward()
        return _grads(rnn)

    return step


def _torch_rnn(torch, rnn, x):
    net = torch.nn.RNN(rnn.input_size, rnn.hidden_size)
    net.load_state_dict({k: torch.from_numpy(v) for k, v in rnn.state_dict().items()})
    data = torch.from_numpy(x)

    def step():
        net.zero_grad(set_to_none=True)
        net(data)[1].sum().backward()
        return [p.grad.numpy() for p in (net.weight_ih_l0, net.weight_hh_l0, net.bias_ih_l0, net.bias_hh_l0)]

    return step


def _torch_cells(torch, rnn, x):
    cell = torch.nn.RNNCell(rnn.input_size, rnn.hidden_size)
    cell.load_state_dict({k.removesuffix("_l0"): torch.from_numpy(v) for k, v in rnn.state_dict().items()})
    data = torch.from_numpy(x)

    def step():
        cell.zero_grad(set_to_none=True)
        h, states = torch.zeros(x.shape[1], rnn.hidden_size), []
        for xt in data:
            h = cell(xt, h)
            h.retain_grad()
            states.append(h)
        h.sum().backward()
        return [p.grad.numpy() for p in (cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh)]

    return step


def _jax(jax, rnn, x):
    jnp = jax.numpy

    def loss(w, x):
        def cell(h, xt):
            return jnp.tanh(xt @ w[0].T + w[2] + h @ w[1].T + w[3]), None

        return jax.lax.scan(cell, jnp.zeros((x.shape[1], rnn.hidden_size)), x)[0].sum()

    step = jax.jit(jax.value_and_grad(loss))
    weights, data = _in_order(rnn, jnp.asarray), jnp.asarray(x)

    def run():
        return jax.block_until_ready(step(weights, data))[1]

    return run


def _autograd(rnn, x):
    import autograd.numpy as anp
    from autograd import value_and_grad

    def loss(w):
        h = anp.zeros((x.shape[1], rnn.hidden_size), np.float32)
        for xt in x:
            h = anp.tanh(anp.dot(xt, w[0].T) + w[2] + anp.dot(h, w[1].T) + w[3])
        return anp.sum(h)

    step, weights = value_and_grad(loss), _in_order(rnn, np.asarray)
    return lambda: step(weights)[1]


def _in_order(rnn, convert):
    return [convert(rnn.state_dict()[f"{n}_l0"]) for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
