"""numpy's functions on tensors of 10^6 elements: forward against numpy, forward and backward against PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import tinygrad_rnn as tr

from .peers import torch_on_one_thread
from .timing import geometric_mean, ratio, seconds, shown, table

# where their arguments lie: any number, positive ones, those between -1 and 1, those above 1
DOMAINS = {
    "normal": "negative abs exp exp2 expm1 square sin cos tan arctan sinh cosh tanh arcsinh sign floor ceil reciprocal",
    "positive": "log log2 log10 log1p sqrt",
    "unit": "arcsin arccos arctanh",
    "above 1": "arccosh",
    "normal, positive": "add subtract multiply divide maximum minimum logaddexp arctan2 hypot",
    "positive, normal": "power",
}
TORCH_NAMES = {"negative": "neg", "subtract": "sub", "power": "pow"}
CONSTANT = ("sign", "floor", "ceil")  # their gradient is 0
ACTIVATIONS = ("sigmoid", "softplus", "silu", "gelu", "relu")


def run(quick: bool) -> tuple[str, dict]:
    """(printed tables, numbers)"""
    text, numbers = "", {}
    for dtype in (np.float32, np.float64):
        printed, numbers[dtype.__name__] = _one_dtype(np.dtype(dtype), quick)
        text += printed
    return text, numbers


def _one_dtype(dtype: np.dtype, quick: bool) -> tuple[str, dict]:
    torch, size, budget = torch_on_one_thread(), 10**4 if quick else 10**6, 0.01 if quick else 0.25
    rng, rows, numbers = np.random.default_rng(0), [], {}
    arguments = {
        "normal": rng.standard_normal(size),
        "positive": rng.uniform(0.1, 3, size),
        "unit": rng.uniform(-0.95, 0.95, size),
        "above 1": rng.uniform(1.05, 4, size),
    }
    cases = [(name, getattr(np, name), domain) for domain, names in DOMAINS.items() for name in names.split()]
    cases += [(name, getattr(tr, name), "normal") for name in ACTIVATIONS]
    for name, f, domain in cases:
        xs = [arguments[d].astype(dtype) for d in domain.split(", ")]
        t: dict[str, float] = {}
        if name not in ACTIVATIONS:
            tensors = [tr.Tensor(x) for x in xs]
            np.testing.assert_allclose(f(*tensors).value, f(*xs), rtol=1e-5, atol=1e-6, err_msg=name)
            t |= seconds({"ours": _called(f, tensors), "numpy": _called(f, xs)}, budget)
        if torch and name not in CONSTANT:
            other = getattr(torch.nn.functional if name in ACTIVATIONS else torch, TORCH_NAMES.get(name, name))
            both = {"both": _both_ours(f, xs), "torch": _both_torch(torch, other, xs)}
            for mine, theirs in zip(both["both"](), both["torch"](), strict=True):
                np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-4, err_msg=f"gradient of {name}")
            t |= seconds(both, budget)
        rows.append([name, *(shown(t[k]) if k in t else "-" for k in ("ours", "both"))])
        rows[-1] += [ratio(t["ours"], t["numpy"]) if "ours" in t else "-", ratio(t["both"], t["torch"]) if "both" in t else "-"]
        numbers[name] = t
    titles = ["function", "forward", "and backward", "forward vs numpy", "and backward vs torch"]
    text = table(f"functions of tensors of {size} elements, {dtype}, one thread", titles, rows)
    for ours, theirs, what in (("ours", "numpy", "forward vs numpy"), ("both", "torch", "forward and backward vs torch")):
        ratios = [t[theirs] / t[ours] for t in numbers.values() if theirs in t]
        if ratios:
            text += f"  {what}: geometric mean {geometric_mean(ratios):.2f}x of {len(ratios)}, least {min(ratios):.2f}x\n"
    return text, numbers


def _called(f: Callable[..., Any], arguments: list) -> Callable[[], Any]:
    return lambda: f(*arguments)


def _both_ours(f: Callable[..., Any], xs: list[np.ndarray]) -> Callable[[], list]:
    tensors, cotangent = [tr.Tensor(x, requires_grad=True) for x in xs], np.ones_like(xs[0])

    def step() -> list:
        for x in tensors:
            x.grad = None
        f(*tensors).backward(cotangent)
        return [x.grad for x in tensors]

    return step


def _both_torch(torch: Any, f: Callable[..., Any], xs: list[np.ndarray]) -> Callable[[], list]:
    tensors, cotangent = [torch.from_numpy(x.copy()).requires_grad_() for x in xs], torch.from_numpy(np.ones_like(xs[0]))

    def step() -> list:
        for x in tensors:
            x.grad = None
        f(*tensors).backward(cotangent)
        return [x.grad.numpy() for x in tensors]

    return step
