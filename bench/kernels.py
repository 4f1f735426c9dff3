"""Kernels against numpy and PyTorch: matrix products in GFLOP/s, pointwise and reductions in GB/s."""

from __future__ import annotations

import numpy as np

from tinygrad_rnn.backends import native, reference

from .peers import torch_on_one_thread
from .timing import geometric_mean, ratio, seconds, shown, table

SQUARES = [64, 128, 256, 512, 1024]
# (rows, columns, depth) of the state product (B x H)(H x H) and of the weight gradient (H x TB)(TB x H)
RECURRENT = [(b, h, h) for b in (1, 16, 64) for h in (16, 64, 256)] + [(64, 64, 800), (256, 256, 1600)]
POINTWISE = ["add", "mul", "exp", "tanh", "sigmoid", "relu", "log", "sqrt", "sum", "max"]
ACCURACY = {"float32": 2e-5, "float64": 1e-12}


def run(quick: bool) -> tuple[str, dict]:
    """(printed tables, numbers)"""
    torch = torch_on_one_thread()
    budget = 0.02 if quick else 0.3
    texts, numbers = [], {}
    for dtype in ("float32", "float64"):
        rows, found = _products(dtype, torch, budget, quick)
        texts.append(
            table(f"matrix product, {dtype}, one thread", ["m x n x k", "GFLOP/s", "ours", "vs numpy", "vs torch"], rows)
        )
        if found:
            mean = geometric_mean([v["numpy"] / v["ours"] for v in found.values()])
            texts.append(f"  geometric mean vs numpy {mean:.2f}x\n")
        numbers[f"product {dtype}"] = found
        rows, found = _pointwise(dtype, torch, budget, quick)
        texts.append(table(f"elements, {dtype}, one thread", ["kernel, n", "GB/s", "ours", "vs numpy", "vs torch"], rows))
        numbers[f"elements {dtype}"] = found
    return "\n".join(texts), numbers


def _products(dtype, torch, budget, quick):
    rng = np.random.default_rng(0)
    rows, numbers = [], {}
    shapes = [(n, n, n) for n in (SQUARES[:2] if quick else SQUARES)] + (RECURRENT[:4] if quick else RECURRENT)
    for m, n, k in shapes:
        a, b = rng.standard_normal((m, k)).astype(dtype), rng.standard_normal((k, n)).astype(dtype)
        y = native.matmul(a, b)
        bound = ACCURACY[dtype] * k**0.5 * 10
        assert np.abs(y - a.astype(np.float64) @ b.astype(np.float64)).max() < bound, f"wrong product {m, n, k}"
        contenders = {"ours": lambda a=a, b=b: native.matmul(a, b), "numpy": lambda a=a, b=b: a @ b}
        if torch:
            ta, tb = torch.from_numpy(a), torch.from_numpy(b)
            contenders["torch"] = lambda ta=ta, tb=tb: ta @ tb
        t = seconds(contenders, budget)
        name = f"{m} x {n} x {k}"
        speed = 2 * m * n * k / t["ours"] / 1e9
        rows.append([name, f"{speed:.1f}", shown(t["ours"]), ratio(t["ours"], t["numpy"]), ratio(t["ours"], t.get("torch"))])
        numbers[name] = t | {"gflops": speed}
    return rows, numbers


def _pointwise(dtype, torch, budget, quick):
    rng = np.random.default_rng(1)
    rows, numbers = [], {}
    for n in (1000,) if quick else (1000, 1_000_000):
        x = rng.uniform(0.1, 3, n).astype(dtype)
        for name in POINTWISE:
            arguments = (x, x) if name in ("add", "mul") else (x,)
            ours, plain = getattr(native, name), getattr(np, name, None)
            y, e = ours(*arguments), getattr(reference, name)(*arguments)
            for got, true in zip(y if isinstance(y, tuple) else (y,), e if isinstance(e, tuple) else (e,), strict=True):
                np.testing.assert_allclose(got, true, rtol=ACCURACY[dtype])
            contenders = {"ours": lambda f=ours, a=arguments: f(*a)}
            if plain:
                contenders["numpy"] = lambda f=plain, a=arguments: f(*a)
            if torch:
                f, tensors = getattr(torch, name), tuple(map(torch.from_numpy, arguments))
                contenders["torch"] = lambda f=f, a=tensors: f(*a)
            t = seconds(contenders, budget)
            moved = sum(v.nbytes for v in arguments) + sum(v.nbytes for v in (y if isinstance(y, tuple) else (y,)))
            both = " and its derivative" if isinstance(y, tuple) else ""
            label = f"{name}{both}, {n}"
            speed = moved / t["ours"] / 1e9
            rows.append([label, f"{speed:.1f}", shown(t["ours"]), *(ratio(t["ours"], t.get(p)) for p in ("numpy", "torch"))])
            numbers[label] = t | {"gigabytes_per_second": speed}
    return rows, numbers
