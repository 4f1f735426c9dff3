"""Random training programs, compiled, eager, on the reference backend and in torch.

    python tests/fuzz_programs.py [--cases N] [--seconds S] [--seed S] [--only I] [--choose OP]

A program is a pool of tensors and some ops on them, loops over steps and views among these, a loss or two, backward, clipping and an
optimizer. It is run for some calls with other values: eagerly; compiled without passes, with exact ones, and with some of all,
with and without checkpoints, from one thread to three; on the reference backend; and, where torch is installed, there. Without
passes, and with exact ones, results, gradients and parameters have to have the bits of the eager run; elsewhere they agree within a
bound on rounding that grows with the largest number on the way. The seed is printed, and fresh unless given."""

import warnings

import fuzzing
import numpy as np

import tinygrad_rnn as tr
from tinygrad_rnn.backends import native
from tinygrad_rnn.compiler.passes import EXACT, PASSES

try:
    import torch
except ImportError:
    torch = None
else:
    torch.set_num_threads(1)

CALLS = 3


# ---- what an op is on tensors of the shape (B, H), written once for both libraries: f is the library, p what belongs to the program


class Torch:
    """The functions of numpy's names that the ops below use, on torch's tensors."""

    def __getattr__(self, name):
        return getattr(torch, name, None) or getattr(torch.nn.functional, name)

    def sum(self, x, axis=None, keepdims=False):
        return torch.sum(x) if axis is None else torch.sum(x, axis, keepdim=keepdims)

    def mean(self, x, axis=None, keepdims=False):
        return torch.mean(x) if axis is None else torch.mean(x, axis, keepdim=keepdims)

    def max(self, x, axis, keepdims=False):
        return torch.amax(x, axis, keepdim=keepdims)

    def logsumexp(self, x, axis, keepdims=False):
        return torch.logsumexp(x, axis, keepdim=keepdims)

    def var(self, x, axis, keepdims=False):
        return torch.var(x, axis, correction=0, keepdim=keepdims)

    def stack(self, parts, axis=0):
        return torch.stack(list(parts), axis)

    def concatenate(self, parts, axis=0):
        return torch.cat(list(parts), axis)

    def transpose(self, x, axes):
        return x.permute(axes)

    def flip(self, x, axis):
        return torch.flip(x, [axis])

    def roll(self, x, shift, axis):
        return torch.roll(x, shift, axis)

    def where(self, condition, x, y):
        return torch.where(torch.from_numpy(condition), x, y)

    def take(self, x, indices, axis):
        return torch.index_select(x, axis, torch.from_numpy(indices))

    def softmax(self, x, axis):
        return torch.softmax(x, axis)

    def log_softmax(self, x, axis):
        return torch.log_softmax(x, axis)

    def layer_norm(self, x, n, weight, bias, eps):
        return torch.nn.functional.layer_norm(x, (n,), weight, bias, eps)

    def batch_norm(self, x, weight, bias, eps):
        return torch.nn.functional.batch_norm(x, None, None, weight, bias, training=True, eps=eps)

    def clip(self, x, low, high):
        return torch.clamp(x, low, high)

    def broadcast_to(self, x, shape):
        return x.expand(shape)

    def addcmul(self, x, a, b):
        return torch.addcmul(x, a, b)

    def max_pool1d(self, x, k):
        return torch.nn.functional.max_pool1d(x, k, 1, k // 2)

    def avg_pool1d(self, x, k):
        return torch.nn.functional.avg_pool1d(x, k, 1, k // 2)

    def cross_entropy(self, x, target):
        return torch.nn.functional.cross_entropy(x, torch.from_numpy(target))

    def embedding(self, weight, index):
        return torch.nn.functional.embedding(torch.from_numpy(index), weight)

    def scope(self, **address):
        return warnings.catch_warnings()  # a context that does nothing here


class Own:
    """The same of this library, where names or arguments differ."""

    def __getattr__(self, name):
        return getattr(tr, name, None) or getattr(tr.functions, name)

    def batch_norm(self, x, weight, bias, eps):
        return tr.batch_norm(x, None, None, weight, bias, training=True, eps=eps)

    def max_pool1d(self, x, k):
        return tr.max_pool1d(x, k, 1, k // 2)

    def avg_pool1d(self, x, k):
        return tr.avg_pool1d(x, k, 1, k // 2)

    def cumsum(self, x, axis):
        return tr.cumsum(x, axis)


def _loop(f, p, u, v, n):
    """A recurrent layer over the steps, whose input is a tensor of the pool besides x(T, B, H)."""
    h = u
    for t in range(p.steps):
        with f.scope(layer=n % 2, t=t):
            h = f.tanh(f.linear(p.x[t], p.w["ih"], p.w["b"]) + f.linear(h, p.w["hh"]) + v * 0.1)
    return h


def _lstm(f, p, u, v, n):
    h, c, H = u, v, p.columns
    for t in range(min(p.steps, 3)):
        with f.scope(layer=n % 2, t=t):
            z = f.linear(p.x[t], p.w["ih4"], p.w["b4"]) + f.linear(h, p.w["hh4"])
            i, forget, g, o = (z[:, k * H : (k + 1) * H] for k in range(4))
            c = f.sigmoid(forget) * c + f.sigmoid(i) * f.tanh(g)
            h = f.sigmoid(o) * f.tanh(c)
    return h


def _gru(f, p, u, v, n):
    a, b, H = f.linear(u, p.w["ih4"]), f.linear(v, p.w["hh4"], p.w["b4"]), p.columns
    r, z = (f.sigmoid(a[:, k * H : (k + 1) * H] + b[:, k * H : (k + 1) * H]) for k in range(2))
    new = f.tanh(a[:, 2 * H : 3 * H] + r * b[:, 2 * H : 3 * H])
    return (1.0 - z) * new + z * v


def _conv(f, p, u, v, n):
    images = f.stack([u, v], 1)  # (B, 2, H)
    return f.tanh(f.conv1d(images, p.w["kernel"], None, padding=1))[:, n % 2]


def _several(f, p, u, v, n):
    """Products of stacks of matrices."""
    left = f.stack([u, v, u], 0)  # (3, B, H)
    return (left @ p.w["hh"])[n % 3] + f.sum(left @ f.transpose(left, (0, 2, 1)) @ left, 0) * 0.05


OPS = {
    "add": lambda f, p, u, v, n: u + v,
    "sub": lambda f, p, u, v, n: u - v * 0.5,
    "mul": lambda f, p, u, v, n: u * v,
    "div": lambda f, p, u, v, n: u / (1.5 + v * v),
    "neg": lambda f, p, u, v, n: -u,
    "square": lambda f, p, u, v, n: u**2 * 0.5,
    "power": lambda f, p, u, v, n: (1.0 + u * u) ** 0.3,
    "tanh": lambda f, p, u, v, n: f.tanh(u),
    "sigmoid": lambda f, p, u, v, n: f.sigmoid(u),
    "relu": lambda f, p, u, v, n: f.relu(u + p.noise),
    "gelu": lambda f, p, u, v, n: f.gelu(u),
    "silu": lambda f, p, u, v, n: f.silu(u),
    "softplus": lambda f, p, u, v, n: f.softplus(u),
    "elu": lambda f, p, u, v, n: f.elu(u),
    "erf": lambda f, p, u, v, n: f.erf(u),
    "sin": lambda f, p, u, v, n: f.sin(u) + f.cos(v),
    "exp": lambda f, p, u, v, n: f.exp(-(u * u)),
    "log": lambda f, p, u, v, n: f.log(1.0 + u * u),
    "sqrt": lambda f, p, u, v, n: f.sqrt(1.0 + u * u),
    "abs": lambda f, p, u, v, n: f.abs(u + p.noise),
    "maximum": lambda f, p, u, v, n: f.maximum(u + p.noise, v),
    "where": lambda f, p, u, v, n: f.where(p.condition, u, v * 2.0),
    "clip": lambda f, p, u, v, n: f.clip(u + p.noise, -0.61, 0.87),
    "linear": lambda f, p, u, v, n: f.linear(u, p.w["hh" if n % 2 else "ih"], p.w["b"] if n % 3 else None),
    "matmul": lambda f, p, u, v, n: u @ p.w["hh"],
    "outer": lambda f, p, u, v, n: (u @ v.T) @ v * 0.1,
    "several": _several,
    "bias": lambda f, p, u, v, n: u + p.w["b"],
    "row": lambda f, p, u, v, n: u[n % p.rows] + v * 0.1,
    "column": lambda f, p, u, v, n: u[:, n % p.columns : n % p.columns + 1] * v,
    "stack": lambda f, p, u, v, n: f.stack([u, v, u], n % 2)[(n % 3,) if n % 2 == 0 else (slice(None), n % 3)],
    "join": lambda f, p, u, v, n: f.concatenate([u, v], 0)[1 : 1 + p.rows],
    "flip": lambda f, p, u, v, n: f.flip(u, n % 2),
    "roll": lambda f, p, u, v, n: f.roll(u, n % 3, n % 2),
    "reshape": lambda f, p, u, v, n: f.reshape(f.reshape(u, (p.columns, p.rows)).T + 0.0, (p.rows, p.columns)),
    "turn": lambda f, p, u, v, n: (u.T * v.T).T,
    "broadcast": lambda f, p, u, v, n: f.broadcast_to(u[:1], (p.rows, p.columns)) * v,
    "take": lambda f, p, u, v, n: f.take(u, p.index, 0),
    "embedding": lambda f, p, u, v, n: f.embedding(p.w["hh"], p.tokens) + u,
    "sum": lambda f, p, u, v, n: u * f.sum(v, n % 2, keepdims=True) * 0.2,
    "mean": lambda f, p, u, v, n: u - f.mean(u, n % 2, keepdims=True),
    "max": lambda f, p, u, v, n: v + f.max(u + p.noise, n % 2, keepdims=True),
    "var": lambda f, p, u, v, n: v * f.var(u, n % 2, keepdims=True),
    "logsumexp": lambda f, p, u, v, n: v - f.logsumexp(u, n % 2, keepdims=True),
    "softmax": lambda f, p, u, v, n: f.softmax(u, n % 2),
    "log_softmax": lambda f, p, u, v, n: f.log_softmax(u, n % 2),
    "cumsum": lambda f, p, u, v, n: f.cumsum(u, n % 2) * 0.3,
    "layer_norm": lambda f, p, u, v, n: f.layer_norm(u, p.columns, p.w["b"], None, eps=0.1),
    "batch_norm": lambda f, p, u, v, n: f.batch_norm(u, p.w["b"], None, eps=0.1) if p.rows > 1 else u,
    "addcmul": lambda f, p, u, v, n: f.addcmul(u, v, v),
    "lerp": lambda f, p, u, v, n: f.lerp(u, v, f.sigmoid(u)),
    "conv": _conv,
    "max_pool": lambda f, p, u, v, n: f.max_pool1d((u + p.noise)[:, None], 3)[:, 0],
    "avg_pool": lambda f, p, u, v, n: f.avg_pool1d(u[:, None], 3)[:, 0],
    "loop": _loop,
    "lstm": _lstm,
    "gru": _gru,
}
GROWTH = {
    "outer": 3,
    "several": 3,
    "mul": 2,
    "square": 2,
    "column": 2,
    "broadcast": 2,
    "var": 3,
    "addcmul": 2,
    "turn": 2,
    "sum": 2,
}


class Program:
    """What is run: sizes, ops with the numbers that choose their operands, losses, and how parameters are updated."""

    def __init__(self, seed, number, chosen):
        rng = self.rng = np.random.default_rng([seed, number])
        self.dtype = np.dtype((np.float32, np.float64)[rng.integers(2)])
        self.rows, self.columns = int(rng.choice([1, 2, 3, 4, 7])), int(rng.choice([1, 2, 3, 4, 5, 8, 9, 17]))
        self.steps = int(rng.integers(1, 6))
        if rng.random() < 0.02:
            self.rows, self.columns = 70, 130  # worth several threads
        names = [str(n) for n in rng.choice(list(OPS), rng.integers(1, 11))]
        if chosen:
            names[rng.integers(len(names))] = chosen
        self.ops = [(name, *(int(i) for i in rng.integers(0, 1000, 3))) for name in names]
        self.losses = int(rng.integers(1, 3))
        self.optimizer = str(rng.choice(["SGD", "Adam", "AdamW", "RMSprop", "none"]))
        self.clips, self.scoped = bool(rng.random() < 0.4), bool(rng.random() < 0.7)
        self.passes = tuple(name for name in PASSES if rng.random() < 0.6)
        self.every = int(rng.integers(1, 4)) if rng.random() < 0.3 else None
        H = self.columns
        shapes = {
            "ih": (H, H),
            "hh": (H, H),
            "b": (H,),
            "ih4": (4 * H, H),
            "hh4": (4 * H, H),
            "b4": (4 * H,),
            "kernel": (2, 2, 3),
        }
        self.start = {n: (rng.standard_normal(s) / max(s[-1], 2) ** 0.5).astype(self.dtype) for n, s in shapes.items()}
        self.inputs = [rng.standard_normal((self.steps, self.rows, H)).astype(self.dtype) for _ in range(CALLS)]
        self.noise = rng.uniform(-0.5, 0.5, (self.rows, H)).astype(self.dtype)
        self.condition = rng.random((self.rows, H)) < 0.5
        self.index, self.tokens = rng.integers(0, self.rows, self.rows), rng.integers(0, H, self.rows)

    def evaluate(self, f, x, w, noise):
        """The losses, and some tensor of the pool, on x(steps, rows, columns)."""
        p = _Environment(self, x, w, noise)
        pool, bounds = [x[t] * w["b"] for t in range(self.steps)], [3.0] * self.steps
        for op, a, b, n in self.ops:
            at, other = -1 - a % min(len(pool), 4), -1 - b % len(pool)
            u, v = pool[at], pool[other]
            with f.scope(t=len(pool)) if self.scoped else f.scope():
                y = OPS[op](f, p, u, v, n)
                bound = (bounds[at] + bounds[other] + 1) ** GROWTH.get(op, 1)
                if bound > 40:
                    y, bound = f.tanh(y * 0.1), 1.0
            pool.append(y)
            bounds.append(bound)
        losses = [
            f.mean(f.tanh(pool[-1 - i])) + f.sum(pool[-1] * pool[-1 - i]) * 0.01 for i in range(min(self.losses, len(pool)))
        ]
        if self.columns > 1:
            losses[-1] = losses[-1] + f.cross_entropy(pool[-1], self.tokens)
        return losses, pool[len(self.ops) // 2]


class _Environment:
    def __init__(self, program, x, w, noise):
        self.__dict__.update(vars(program))
        self.x, self.w, self.noise = x, w, noise


def run_own(program, backend, compiled=None, threads=1):
    """(everything that the calls leave, largest number on the way), compiled with these options or eagerly."""
    parameters = {n: tr.nn.Parameter(v.copy(), name=n) for n, v in program.start.items()}
    kinds = {"SGD": {"momentum": 0.5}, "Adam": {"eps": 0.1}, "AdamW": {"eps": 0.1}, "RMSprop": {"eps": 0.1}}
    optimizer = None
    if program.optimizer != "none":
        optimizer = getattr(tr.optim, program.optimizer)(parameters.values(), lr=0.05, **kinds[program.optimizer])
    f, noise = Own(), tr.Tensor(program.noise)

    def step(x):
        for p in parameters.values():
            p.zero_grad()
        losses, some = program.evaluate(f, tr.Tensor(x), parameters, noise)
        for loss in losses:
            loss.backward(retain_graph=True)
        if program.clips:
            tr.optim.clip_grad_norm_([p for p in parameters.values() if p.grad is not None], 1.0)
        if optimizer is not None:
            optimizer.step()
        return losses, some

    trail, largest = [], 1.0
    native.set_num_threads(threads)
    with tr.use_backend(backend):
        call = step if compiled is None else tr.compile(step, **compiled)
        for x in program.inputs:
            if compiled is None and backend == "native":
                with tr.Tape() as tape:
                    losses, some = call(x)
                arrays = [a for node in tape.nodes for a in (node.value, node.grad) if a is not None]
                largest = max(largest, *(float(np.abs(a).max(initial=0)) for a in arrays))
            else:
                losses, some = call(x)
            trail.append({"loss": losses[0].value.copy(), "last loss": losses[-1].value.copy(), "a tensor": some.value.copy()})
            trail[-1] |= {n: p.value.copy() for n, p in parameters.items()}
            trail[-1] |= {f"gradient of {n}": p.grad.copy() for n, p in parameters.items() if p.grad is not None}
    return trail, largest


def run_torch(program):
    parameters = {n: torch.tensor(v, requires_grad=True) for n, v in program.start.items()}
    kinds = {"SGD": {"momentum": 0.5}, "Adam": {"eps": 0.1}, "AdamW": {"eps": 0.1}, "RMSprop": {"eps": 0.1}}
    optimizer = None
    if program.optimizer != "none":
        optimizer = getattr(torch.optim, program.optimizer)(parameters.values(), lr=0.05, **kinds[program.optimizer])
    f, noise, trail = Torch(), torch.from_numpy(program.noise), []
    for x in program.inputs:
        for p in parameters.values():
            p.grad = None
        losses, some = program.evaluate(f, torch.from_numpy(x), parameters, noise)
        for loss in losses:
            loss.backward(retain_graph=True)
        if program.clips:
            torch.nn.utils.clip_grad_norm_([p for p in parameters.values() if p.grad is not None], 1.0)
        if optimizer is not None:
            optimizer.step()
        numbers = {"loss": losses[0], "last loss": losses[-1], "a tensor": some, **parameters}
        numbers |= {f"gradient of {n}": p.grad for n, p in parameters.items() if p.grad is not None}
        trail.append({n: x.detach().numpy().copy() for n, x in numbers.items()})
    return trail


def difference(got, expected, bound):
    """How two runs differ, in words; bound None: in any bit."""
    for call, (a, b) in enumerate(zip(got, expected, strict=True)):
        if a.keys() != b.keys():
            return f"call {call} leaves {sorted(a.keys() ^ b.keys())} or not"
        for name in a:
            x, y = a[name], b[name]
            if x.shape != y.shape or x.dtype != y.dtype:
                return f"call {call}, {name}: {x.dtype} {x.shape} for {y.dtype} {y.shape}"
            if bound is None:
                if x.tobytes() != y.tobytes() and not np.array_equal(x, y, equal_nan=True):
                    return f"call {call}, {name}: other bits, by {np.max(np.abs(x - y)):.3g}"
            elif not np.all((np.abs(x - y) <= bound) | (np.isnan(x) & np.isnan(y)) | (x == y)):
                return f"call {call}, {name}: {np.max(np.abs(x - y)):.3g} apart, bound {bound:.3g}"
    return None


def check(seed, number, chosen):
    program = Program(seed, number, chosen)
    isa, threads = native.isa(), native.get_num_threads()
    native.set_isa(str(program.rng.choice(native.supported_isa_names())))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            wrong = _wrong(program)
    finally:
        native.set_isa(isa)
        native.set_num_threads(threads)
    text = f"{[name for name, *_ in program.ops]}, {program.dtype}, {program.rows} x {program.columns}, {program.optimizer}"
    return {name for name, *_ in program.ops}, "equal" if not wrong else "wrong", wrong and f"{wrong}\n    {text}"


def _wrong(program):
    """What of the runs differs from the eager one."""
    eager, largest = run_own(program, "native")
    bound = 2000 * largest * float(np.finfo(program.dtype).eps)
    exact = tuple(name for name in program.passes if name in EXACT)
    options = (
        ("without passes", {"passes": False, "checkpoint_every": program.every}, None),
        (f"with {exact}", {"passes": exact, "check": program.clips}, None),
        (f"with {program.passes}", {"passes": program.passes, "checkpoint_every": program.every}, bound),
        ("with all passes", {}, bound),
    )
    picked = program.rng.permutation(len(options))[:2]
    for text, compiled, allowed in (options[i] for i in picked):
        threads = int(program.rng.integers(1, 4))
        wrong = difference(run_own(program, "native", compiled, threads)[0], eager, allowed)
        if wrong:
            return f"compiled {text}, every {program.every}, {threads} threads, {native.isa()}: {wrong}"
    if program.rng.random() < 0.5:
        wrong = difference(run_own(program, "reference")[0], eager, bound)
        if wrong:
            return f"on the reference: {wrong}"
    if torch is not None and program.rng.random() < 0.5:
        wrong = difference(run_torch(program), eager, bound)
        if wrong:
            return f"in torch: {wrong}"
    return None


if __name__ == "__main__":
    fuzzing.main(__doc__, check, sorted(OPS))
