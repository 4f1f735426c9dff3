"""What one node costs at tiny sizes, where the tape is all there is: microseconds a node, forward and backward."""

from __future__ import annotations

import numpy as np

import tinygrad_rnn as tr

from .peers import peer, torch_on_one_thread
from .timing import ratio, seconds, shown, table

LENGTH = 200
SHAPE = (1, 4)


def chains(f, w, b):
    """For each op, a chain of it, given a library's functions and its two parameters."""
    return {
        "add": lambda x: _repeat(x, lambda h: h + b),
        "mul": lambda x: _repeat(x, lambda h: h * b),
        "tanh": lambda x: _repeat(x, f["tanh"]),
        "linear": lambda x: _repeat(x, lambda h: f["linear"](h, w)),
    }


def _repeat(h, step):
    for _ in range(LENGTH):
        h = step(h)
    return h


def run(quick: bool) -> tuple[str, dict]:
    """(printed table, numbers)"""
    rng = np.random.default_rng(0)
    x, w, b = (rng.standard_normal(s).astype(np.float32) for s in (SHAPE, (4, 4), SHAPE))
    w /= np.linalg.norm(w, 2)
    libraries = {"ours": _ours(x, w, b)}
    torch, autograd = torch_on_one_thread(), peer("autograd")
    if torch:
        libraries["torch"] = _torch(torch, x, w, b)
    if autograd:
        libraries["autograd"] = _autograd(autograd, x, w, b)
    rows, numbers = [], {}
    for op in ("add", "mul", "tanh", "linear"):
        both, forward = ({name: library[kind][op] for name, library in libraries.items()} for kind in ("both", "forward"))
        gradients = {name: f() for name, f in both.items()}
        for name, g in gradients.items():
            np.testing.assert_allclose(g, gradients["ours"], rtol=1e-4, atol=1e-6, err_msg=f"{op}: {name} disagrees")
        # in turns with each other, or a slow moment would count as the difference between them
        turns = {("both", n): f for n, f in both.items()} | {("forward", n): f for n, f in forward.items()}
        t = seconds(turns, 0.05 if quick else 1.0)
        t_both, t_forward = ({n: t[kind, n] for n in libraries} for kind in ("both", "forward"))
        back = {name: t_both[name] - t_forward[name] for name in t_both}
        ours = t_forward["ours"] / LENGTH, back["ours"] / LENGTH
        rows.append(
            [op, shown(ours[0]), shown(ours[1]), *(ratio(t_both["ours"], t_both.get(p)) for p in ("torch", "autograd"))]
        )
        numbers[op] = {
            "forward": {n: t / LENGTH for n, t in t_forward.items()},
            "backward": {n: t / LENGTH for n, t in back.items()},
        }
    columns = ["op", "forward, a node", "backward, a node", "both, vs torch", "both, vs autograd"]
    return table(f"one node of shape {SHAPE}, in a chain of {LENGTH}, float32", columns, rows), numbers


def _ours(x, w, b):
    leaf, weight, bias = (tr.Tensor(v, requires_grad=True) for v in (x, w, b))
    f = {"tanh": tr.tanh, "linear": tr.linear}
    ones = np.ones(SHAPE, np.float32)

    def both(chain):
        leaf.grad = weight.grad = bias.grad = None
        chain(leaf).backward(ones)
        return leaf.grad

    every = chains(f, weight, bias)
    return {
        "both": {n: lambda c=c: both(c) for n, c in every.items()},
        "forward": {n: lambda c=c: c(leaf) for n, c in every.items()},
    }


def _torch(torch, x, w, b):
    leaf, weight, bias = (torch.tensor(v, requires_grad=True) for v in (x, w, b))
    f = {"tanh": torch.tanh, "linear": torch.nn.functional.linear}
    ones = torch.ones(SHAPE)

    def both(chain):
        leaf.grad = weight.grad = bias.grad = None
        chain(leaf).backward(ones)
        return leaf.grad.numpy()

    every = chains(f, weight, bias)
    return {
        "both": {n: lambda c=c: both(c) for n, c in every.items()},
        "forward": {n: lambda c=c: c(leaf) for n, c in every.items()},
    }


def _autograd(autograd, x, w, b):
    import autograd.numpy as anp
    from autograd import make_vjp

    f = {"tanh": anp.tanh, "linear": lambda h, w: anp.dot(h, w.T)}
    ones = np.ones(SHAPE, np.float32)

    def as_function(op):
        return lambda arguments: chains(f, arguments[1], arguments[2])[op](arguments[0])

    def both(op):
        return make_vjp(as_function(op))((x, w, b))[0](ones)[0]

    names = chains(f, w, b)
    return {
        "both": {n: lambda n=n: both(n) for n in names},
        # the forward pass as it records, without the walk back
        "forward": {n: lambda n=n: make_vjp(as_function(n))((x, w, b)) for n in names},
    }
