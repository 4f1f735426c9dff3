"""Kernels against numpy and PyTorch, and against what the processor can do at most: products, cells and convolutions in GFLOP/s
and % of the multiply-add peak, the others in GB/s and % of the speed of a copy. Peak and copy take turns with the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import tinygrad_rnn as tr
from tinygrad_rnn.backends import native, reference

from .peers import torch_on_one_thread
from .timing import every_core, geometric_mean, ratio, seconds, shown, table

ACCURACY = {"float32": 2e-5, "float64": 1e-12}
CELLS = [(16, 64), (1, 16), (1, 64), (32, 128), (64, 512)]  # batch, hidden = input width
# N, C, (H, W), O, (KH, KW), padding; a sequence is an image of height 1
CONVOLUTIONS = [
    (16, 16, (28, 28), 32, (3, 3), 0),
    (32, 3, (32, 32), 16, (5, 5), 0),
    (16, 32, (1, 200), 64, (1, 5), 0),
    (16, 16, (28, 28), 32, (3, 3), 1),
    (64, 16, (8, 8), 16, (3, 3), 1),
    (8, 64, (32, 32), 64, (3, 3), 1),
]
ELEMENTS = [
    *("add", "mul", "maximum", "hypot", "logaddexp", "exp", "log", "sqrt", "relu"),
    *("expm1", "log1p", "log2", "sin", "cos", "tan", "arcsin", "arctan", "sinh", "arctanh", "logsigmoid"),
    *("copy", "sum", "max", "min", "prod"),
]
TWO_INPUTS = ("add", "mul", "maximum", "hypot", "logaddexp")
ACTIVATIONS = ["tanh", "sigmoid", "erf", "gelu", "silu", "softplus"]
AXES = [(64, 100), (32, 5000)]  # rows, classes


def run(quick: bool) -> tuple[str, dict]:
    """(printed tables, numbers)"""
    torch = torch_on_one_thread()
    budget = 0.01 if quick else 0.15
    before = native.get_num_threads()
    native.set_num_threads(1)
    try:
        return _tables(torch, budget, quick)
    finally:
        native.set_num_threads(before)


def _tables(torch: Any, budget: float, quick: bool) -> tuple[str, dict]:
    texts: list[str] = []
    numbers: dict[str, Any] = {}
    for dtype in ("float32", "float64"):
        for title, part in (
            ("products", _products),
            ("cells", _cells),
            ("convolutions", _convolutions),
            ("elements", _elements),
        ):
            text, numbers[f"{title} {dtype}"] = part(dtype, torch, budget, quick)
            texts.append(text)
    text, numbers["threads"] = _threads(budget, quick)
    texts.append(text)
    return "\n".join(texts), numbers


def multiply_add_peak(dtype: str, operations: int) -> tuple[Callable, int]:
    """(what to time, its floating-point operations): at least as many as asked for, multiply-adds that stay in the registers.
    As long as what it is compared with, it meets the same slow and fast moments of the machine; and never so short that the
    call itself counts."""
    steps = max(100_000, operations // native.multiply_adds(dtype, 1))
    return lambda: native.multiply_adds(dtype, steps), native.multiply_adds(dtype, steps)


# What a numpy user would write, where numpy has no such function.
def np_softmax(x: np.ndarray, axis: int) -> np.ndarray:
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def np_logsumexp(x: np.ndarray, axis: int) -> np.ndarray:
    top = x.max(axis, keepdims=True)
    return (top + np.log(np.exp(x - top).sum(axis, keepdims=True))).squeeze(axis)


def np_log_softmax(x: np.ndarray, axis: int) -> np.ndarray:
    return x - np.expand_dims(np_logsumexp(x, axis), axis)


NUMPY: dict[str, Callable] = {
    "mul": np.multiply,
    "relu": lambda x: np.maximum(x, 0),
    "logsigmoid": lambda x: -np.logaddexp(0, -x),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "softplus": lambda x: np.logaddexp(0, x),
    "layer_norm": lambda x, w, b, eps: (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + eps),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "softmax": np_softmax,
    "log_softmax": np_log_softmax,
    "logsumexp": np_logsumexp,
}


# ---- products


def product_shapes(quick: bool) -> Iterator[tuple[str, str, int, int, int]]:
    """(group, kind, m, n, k) of y(m, n) = a(m, k) b(k, n): squares; h W^T and g W of a batch of states or cotangents and a
    weight; g^T h over all steps, a weight's gradient. "t" is an operand that is the transpose of what lies in memory."""
    for n in (64, 128) if quick else (64, 128, 256, 512, 1024):
        yield "square", "nn", n, n, n
    for batch in (1, 16) if quick else (1, 16, 32, 64):
        for hidden in (16, 64) if quick else (16, 32, 64, 128, 256, 512, 1024):
            group = "one row" if batch == 1 else "batch"
            yield group, "nt", batch, hidden, hidden
            if batch != hidden or group == "one row":
                yield group, "nn", batch, hidden, hidden
    shapes = ((16, 50), (32, 100), (64, 800), (128, 1600), (256, 3200), (512, 3200), (1024, 1280))
    for hidden, rows in shapes[:2] if quick else shapes:
        yield "weight gradient", "tn", hidden, hidden, rows


def _operands(rng: np.random.Generator, kind: str, m: int, n: int, k: int, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    a, b = (
        rng.standard_normal(size[:: -1 if turned == "t" else 1]).astype(dtype)
        for size, turned in zip(((m, k), (k, n)), kind, strict=True)
    )
    return a.T if kind[0] == "t" else a, b.T if kind[1] == "t" else b


def _products(dtype: str, torch: Any, budget: float, quick: bool) -> tuple[str, dict]:
    rng = np.random.default_rng(0)
    rows, numbers = [], {}
    groups: dict[str, list[str]] = {"all": []}
    for group, kind, m, n, k in product_shapes(quick):
        a, b = _operands(rng, kind, m, n, k, dtype)
        packed = native.pack(b)
        peak, operations = multiply_add_peak(dtype, 2 * m * n * k)
        a64, b64 = a.astype(np.float64), b.astype(np.float64)
        for y in (native.matmul(a, b), native.matmul(a, packed)):
            bound = 4 * np.finfo(dtype).eps * (np.abs(a64) @ np.abs(b64))
            assert np.all(np.abs(y - a64 @ b64) <= bound), f"wrong product {kind, m, n, k}"
        contenders: dict[str, Callable] = {
            "ours": lambda a=a, b=b: native.matmul(a, b),
            "peak": peak,
            "packed": lambda a=a, p=packed: native.matmul(a, p),
            "numpy": lambda a=a, b=b: a @ b,
        }
        if torch:
            ta, tb = torch.from_numpy(a), torch.from_numpy(b)
            contenders["torch"] = lambda a=ta, b=tb: a @ b
        t = seconds(contenders, budget)
        speed, top = 2 * m * n * k / t["ours"], operations / t["peak"]
        name = f"{kind} {m} x {n} x {k}"
        for g in ("all", group):
            groups.setdefault(g, []).append(name)
        ratios = (ratio(t["ours"], t["numpy"]), ratio(t["ours"], t.get("torch")), ratio(t["packed"], t["ours"]))
        rows.append([name, f"{speed / 1e9:.1f}", f"{speed / top:.0%}", shown(t["ours"]), *ratios])
        numbers[name] = t | {"gflops": speed / 1e9, "of_peak": speed / top}
    columns = ["kind m x n x k", "GFLOP/s", "of peak", "ours", "vs numpy", "vs torch", "b kept packed"]
    text = table(f"matrix product, {dtype}, one thread", columns, rows)
    peers = ["numpy", "torch"] if torch else ["numpy"]
    values = {name: min(t[p] for p in peers) / t["ours"] for name, t in numbers.items()}
    text += f"  vs the faster of {' and '.join(peers)}, geometric mean and least:\n"
    for group, names in groups.items():
        worst = min(names, key=lambda name: values[name])
        mean = geometric_mean([values[name] for name in names])
        text += f"    {group} ({len(names)} shapes): {mean:.2f}x, {values[worst]:.2f}x ({worst})\n"
    return text, numbers


# ---- cells


def _cells(dtype: str, torch: Any, budget: float, quick: bool) -> tuple[str, dict]:
    rng = np.random.default_rng(2)
    rows, numbers = [], {}
    for batch, hidden in CELLS[:2] if quick else CELLS:
        shapes = ((batch, hidden), (batch, hidden), (hidden, hidden), (hidden, hidden), (hidden,), (hidden,), (batch, hidden))
        x, h, w_ih, w_hh, b_ih, b_hh, g = (np.asarray(rng.standard_normal(s) / hidden**0.5, dtype) for s in shapes)

        work = 2 * batch * hidden * hidden
        peak, operations = multiply_add_peak(dtype, 6 * work)

        def step(k, x=x, h=h, w_ih=w_ih, w_hh=w_hh, b_ih=b_ih, b_hh=b_hh, g=g):
            y, dy = k.rnn_cell(x, h, w_ih, w_hh, b_ih, b_hh, "tanh")
            return y, *k.rnn_cell_vjp(g, dy, x, h, w_ih, w_hh, (True,) * 5)

        for ours, true in zip(step(native), step(reference), strict=True):
            np.testing.assert_allclose(ours, true, rtol=0, atol=ACCURACY[dtype] * batch**0.5)

        def plain(x=x, h=h, w_ih=w_ih, w_hh=w_hh, b_ih=b_ih, b_hh=b_hh, g=g):
            y = np.tanh(x @ w_ih.T + b_ih + h @ w_hh.T + b_hh)
            z = g * (1 - y * y)
            return y, z @ w_ih, z @ w_hh, z.T @ x, z.T @ h, z.sum(0)

        leaves = [tr.Tensor(v, requires_grad=True) for v in (x, h, w_ih, w_hh, b_ih, b_hh)]

        def recorded(leaves=leaves, g=g):
            for leaf in leaves:
                leaf.grad = None
            tr.rnn_cell(*leaves).backward(g)

        contenders = {
            "ours": lambda step=step: step(native),
            "recorded": recorded,
            "peak": peak,
            "numpy": plain,
            "product": lambda h=h, w=w_hh: native.matmul(h, w.T),
        }
        if torch:
            tensors = [torch.from_numpy(v).requires_grad_() for v in (x, h, w_ih, w_hh, b_ih, b_hh)]
            cotangent = torch.from_numpy(g)
            contenders["torch"] = lambda v=tensors, g=cotangent: torch.autograd.grad(torch.rnn_tanh_cell(*v), v, g)
        t = seconds(contenders, budget)
        speed, product = 6 * work / t["ours"], work / t["product"]  # two products forward, four back
        top = operations / t["peak"]
        name = f"{batch} x {hidden}"
        share = f"{speed / product:.0%}" if t["product"] > 2e-6 else "-"  # below, both are calls and little else
        rows.append(
            [name, f"{speed / 1e9:.1f}", f"{speed / top:.0%}", share, shown(t["ours"]), ratio(t["ours"], t["numpy"])]
            + [shown(t["recorded"]), ratio(t["recorded"], t.get("torch"))]
        )
        numbers[name] = t | {"gflops": speed / 1e9, "of_peak": speed / top, "of_product": speed / product}
    columns = [
        "batch x hidden",
        "GFLOP/s",
        "of peak",
        "of the product h W^T",
        "kernels",
        "vs numpy",
        "recorded",
        "vs torch autograd",
    ]
    return table(f"rnn_cell and its vjp, input as wide as the state, tanh, {dtype}", columns, rows), numbers


# ---- convolutions


def _convolutions(dtype: str, torch: Any, budget: float, quick: bool) -> tuple[str, dict]:
    rng = np.random.default_rng(4)
    rows, numbers = [], {}
    for N, C, size, O, kernel, padding in CONVOLUTIONS[:1] if quick else CONVOLUTIONS:  # noqa: E741 (the sizes' usual letters)
        x, w, b = (np.asarray(rng.standard_normal(s), dtype) for s in ((N, C, *size), (O, C, *kernel), (O,)))
        pads = tuple(padding if k > 1 else 0 for k in kernel)
        settings = (1, 1), tuple((p, p) for p in pads), (1, 1), 1
        g = np.asarray(rng.standard_normal(native.conv2d(x, w, b, *settings).shape), dtype)

        def step(k, x=x, w=w, b=b, g=g, settings=settings):
            return k.conv2d(x, w, b, *settings), *k.conv2d_vjp(g, x, w, (True,) * 3, *settings)

        for ours, true in zip(step(native), step(reference), strict=True):
            np.testing.assert_allclose(ours, true, rtol=0, atol=ACCURACY[dtype] * np.abs(true).max())
        work = 2 * g.size * C * kernel[0] * kernel[1]
        peak, operations = multiply_add_peak(dtype, 3 * work)
        contenders: dict[str, Callable] = {
            "forward": lambda x=x, w=w, b=b, settings=settings: native.conv2d(x, w, b, *settings),
            "ours": lambda step=step: step(native),
            "peak": peak,
        }
        if torch:
            leaves = [torch.from_numpy(v).requires_grad_() for v in (x, w, b)]
            plain, cotangent = [v.detach() for v in leaves], torch.from_numpy(g)
            contenders["torch forward"] = lambda v=plain, p=pads: torch.conv2d(*v, padding=p)
            contenders["torch"] = lambda v=leaves, g=cotangent, p=pads: torch.autograd.grad(torch.conv2d(*v, padding=p), v, g)
        t = seconds(contenders, budget)
        speed, top = 3 * work / t["ours"], operations / t["peak"]
        name = f"({N}, {C}, {size[0]}, {size[1]}) -> {O}, {kernel[0]} x {kernel[1]}" + (", padded" if padding else "")
        rows.append(
            [name, f"{speed / 1e9:.1f}", f"{speed / top:.0%}", shown(t["forward"]), ratio(t["forward"], t.get("torch forward"))]
        )
        rows[-1] += [shown(t["ours"]), ratio(t["ours"], t.get("torch"))]
        numbers[name] = t | {"gflops": speed / 1e9, "of_peak": speed / top}
    columns = ["(N, C, H, W) -> O, window", "GFLOP/s", "of peak", "forward", "vs torch", "forward and back", "vs torch"]
    return table(f"convolution with a bias and its cotangents, {dtype}, one thread", columns, rows), numbers


# ---- elements and reductions


def _element_calls(rng: np.random.Generator, dtype: str, quick: bool) -> Iterator[tuple[str, str, tuple, dict, dict]]:
    """(label, function, arrays, keywords, keywords of torch)"""
    for n in (1000,) if quick else (1000, 1_000_000):
        x, y = (rng.uniform(0.1, 3, n).astype(dtype) for _ in range(2))
        for name in ELEMENTS + ACTIVATIONS:
            arrays = (x, y) if name in TWO_INPUTS else (x / 4,) if name in ("arcsin", "arctanh") else (x,)
            yield f"{name}, {n}", name, arrays, {}, {}
    for rows, classes in AXES[:1] if quick else AXES:
        x = rng.standard_normal((rows, classes)).astype(dtype)
        for name in ("softmax", "log_softmax", "logsumexp", "cumsum", "cumprod"):
            yield f"{name}, {rows} x {classes}", name, (x,), {"axis": 1}, {"dim": 1}
        plain = {"w": None, "b": None, "eps": 1e-5}
        yield f"layer_norm, {rows} x {classes}", "layer_norm", (x,), plain, {"normalized_shape": (classes,)}


def _elements(dtype: str, torch: Any, budget: float, quick: bool) -> tuple[str, dict]:
    rng = np.random.default_rng(1)
    rows, numbers = [], {}
    for label, name, arrays, keywords, torch_keywords in _element_calls(rng, dtype, quick):
        ours, twin = getattr(native, name), getattr(reference, name)
        plain = NUMPY.get(name) or getattr(np, name, None)
        y, true = ours(*arrays, **keywords), twin(*arrays, **keywords)
        outputs = y if isinstance(y, tuple) else (y,)
        for got, expected in zip(outputs, true if isinstance(true, tuple) else (true,), strict=True):
            np.testing.assert_allclose(got, expected, rtol=ACCURACY[dtype], atol=ACCURACY[dtype])
        target = np.empty_like(arrays[0])
        contenders: dict[str, Callable] = {
            "ours": lambda f=ours, a=arrays, k=keywords: f(*a, **k),
            "copy": lambda x=arrays[0]: native.copy(x),
            "copyto": lambda y=target, x=arrays[0]: np.copyto(y, x),
        }
        if plain:
            contenders["numpy"] = lambda f=plain, a=arrays, k=keywords: f(*a, **k)
        if torch:
            of_nets = torch.nn.functional if name in (*ACTIVATIONS[3:], "logsigmoid", "layer_norm") else torch
            f, tensors = getattr(of_nets, "clone" if name == "copy" else name), tuple(map(torch.from_numpy, arrays))
            contenders["torch"] = lambda f=f, a=tensors, k=torch_keywords: f(*a, **k)
        t = seconds(contenders, budget)
        speed = sum(v.nbytes for v in (*arrays, *outputs)) / t["ours"]
        copy = 2 * target.nbytes / min(t["copy"], t["copyto"])
        label += " and its derivative" if name in ACTIVATIONS else ""
        rows.append(
            # the copy of a small array is a call and little else
            [label, f"{speed / 1e9:.1f}", f"{speed / copy:.0%}" if target.size > 10_000 else "-", shown(t["ours"])]
            + [ratio(t["ours"], t.get(p)) for p in ("numpy", "torch")]
        )
        numbers[label] = t | {"gigabytes_per_second": speed / 1e9, "of_copy": speed / copy}
    columns = ["kernel, elements", "GB/s", "of a copy", "ours", "vs numpy", "vs torch"]
    return table(f"elements and reductions, {dtype}, one thread; each call makes a new output", columns, rows), numbers


# ---- threads


def _threads(budget: float, quick: bool) -> tuple[str, dict]:
    rng = np.random.default_rng(3)
    rows, numbers = [], {}
    with every_core() as cores:
        if cores < 2:
            return "threads: this process may use one core only\n", {}
        for dtype in ("float32", "float64"):
            for n in (64, 256) if quick else (64, 128, 256, 512, 1024):
                a, b = (rng.standard_normal((n, n)).astype(dtype) for _ in range(2))

                # so many that a sample takes some 50 ms: the system needs some to give a woken thread a core of its own
                repeats = 1 if quick else max(1, int(2e9 / n**3))

                def products(threads, a=a, b=b, repeats=repeats):
                    native.set_num_threads(threads)
                    for _ in range(repeats):
                        y = native.matmul(a, b)
                    return y

                assert np.array_equal(products(1), products(2)), "the bits depend on the number of threads"
                t = seconds({1: lambda f=products: f(1), 2: lambda f=products: f(2)}, 3 * budget)
                t = {threads: v / repeats for threads, v in t.items()}
                rows.append([f"{dtype} {n} x {n} x {n}", shown(t[1]), shown(t[2]), ratio(t[2], t[1])])
                numbers[f"{dtype} {n}"] = t
    return table("two threads, products in a row", ["product", "one", "two", "speed-up"], rows), numbers
