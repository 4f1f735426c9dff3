"""Tasks that need a long memory or great depth: which nets learn them, and what the graph says before and after.

All nets of a task see the same batches, and as many of them: updates by Adam, compiled, gradients clipped to norm 1, the
learning rate falling to 0 along a cosine. Each is trained from several seeds, which draw its weights and its data."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

import tinygrad_rnn as tr
from tinygrad_rnn import nn
from tinygrad_rnn.data import Labelled, adding_problem, batches, digits

from .timing import table

LIMIT = 180.0  # seconds of training, after which a run ends early
DEPTH = 100

Net = Callable[[np.random.Generator], nn.Module]


@dataclass(frozen=True)
class Task:
    """What to learn, and the nets that try.

    data     of a generator: batches without end to train on, and what to test on
    loss     of output and targets, what is trained
    score    of output and targets as arrays, what is judged; `solved` of a score says how
    unit     what the score is, in words
    nets     by name, each with the learning rate it starts from"""

    name: str
    data: Callable[[np.random.Generator], tuple[Iterator[Labelled], Labelled]]
    loss: Callable[..., tr.Tensor]
    score: Callable[[np.ndarray, np.ndarray], float]
    solved: Callable[[float], bool]
    unit: str
    nets: dict[str, tuple[Net, float]]
    updates: int
    seeds: int = 3


def run(quick: bool) -> tuple[str, dict]:
    """(printed tables, numbers)"""
    texts, numbers = [], {}
    for task in (adding(quick), sequential_digits(quick), spirals(quick)):
        try:
            text, numbers[task.name] = outcome(task)
        except ImportError as missing:
            text = f"{task.name}: skipped; {missing}\n"
        texts.append(text)
    return "\n".join(texts), numbers


def outcome(task: Task) -> tuple[str, dict]:
    """Every net of a task, from every seed: a table, and under it the verdicts of the first seed in full."""
    rows, verdicts, numbers = [], "", {}
    for name, (make, lr) in task.nets.items():
        runs = [trained(task, make, lr, seed) for seed in range(task.seeds)]
        first, scores = runs[0], [r["score"] for r in runs]
        solved = sum(map(task.solved, scores))
        signals = [f"{first[at].kind} {first[at].numbers.get('total_nats', 0):+.1f}" for at in ("before", "after")]
        seconds = max(r["seconds"] for r in runs)
        rows.append([name, *signals, " ".join(f"{s:.4f}" for s in scores), f"{solved} of {task.seeds}", f"{seconds:.0f}"])
        for at in ("before", "after"):
            for line in f"{name}, {at}: {first[at]}".splitlines():  # the verdict, and what to try
                indent = "    " if line.startswith(("Tried", "-", " ")) else "  "
                verdicts += textwrap.fill(line, 120, initial_indent=indent, subsequent_indent="      ") + "\n"
        numbers[name] = [r | {at: str(r[at]) for at in ("before", "after")} for r in runs]
    columns = ["net", "signal before (nats)", "after", task.unit, "solved", "seconds"]
    return table(f"{task.name}, {task.updates} updates", columns, rows) + verdicts, numbers


def trained(task: Task, make: Net, lr: float, seed: int) -> dict[str, Any]:
    """Train a net from a seed; its score on data it has not seen, the seconds of training, and the verdicts on its first
    batch, before and after."""
    net = make(np.random.default_rng(seed))
    stream, test = task.data(np.random.default_rng(seed))
    optimizer = tr.optim.Adam(net.parameters(), lr=lr)
    schedule = tr.optim.CosineAnnealingLR(optimizer, task.updates)

    @tr.compile
    def update(x: np.ndarray, y: np.ndarray) -> tr.Tensor:
        loss = task.loss(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        tr.optim.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        return loss

    first = next(stream)

    def verdict() -> Any:
        return tr.trace(net, first.x, loss=task.loss, target=first.y).why()

    before, start = verdict(), time.perf_counter()
    for _ in range(task.updates):
        update(*next(stream))
        schedule.step()
        if time.perf_counter() - start > LIMIT:
            break
    seconds, after = time.perf_counter() - start, verdict()
    net.eval()
    with tr.no_grad():
        score = task.score(net(test.x).value, test.y)
    return {"score": score, "seconds": seconds, "before": before, "after": after}


def epochs(data: Labelled, size: int, rng: np.random.Generator) -> Iterator[Labelled]:
    """Batches of one epoch after the other."""
    while True:
        for rows in batches(len(data.y), size, rng):
            yield Labelled(data.x[rows], data.y[rows])


def accuracy(output: np.ndarray, labels: np.ndarray) -> float:
    return float((output.argmax(-1) == labels).mean())


# ---- memory


class LastState(nn.Module):
    """x(T, B, features), or (B, T, features) with batch_first, -> (B, outputs), linear in the last state of a recurrent net."""

    def __init__(self, rnn: Any, outputs: int, rng: np.random.Generator) -> None:
        self.rnn, self.head = rnn, nn.Linear(rnn.hidden_size, outputs, seed=rng)

    def forward(self, x: Any) -> tr.Tensor:
        states = self.rnn(x)[0]
        return self.head(states[:, -1] if self.rnn.batch_first else states[-1])


def adding(quick: bool) -> Task:
    """Add the two marked numbers among 100. All nets have 4400 to 4600 parameters. The IRNN is that of Le et al. (2015) but for
    its input weights, N(0, 0.1^2) here."""
    steps, batch = (10, 16) if quick else (100, 32)

    def data(rng: np.random.Generator) -> tuple[Iterator[Labelled], Labelled]:
        test = adding_problem(rng, steps, 1000)
        return iter(lambda: adding_problem(rng, steps, batch), None), test

    def lstm(rng: np.random.Generator) -> nn.Module:
        rnn = nn.LSTM(2, 32, seed=rng)
        nn.init.apply(rnn.bias_ih_l0, nn.init.chrono(steps), rng)
        nn.init.apply(rnn.bias_hh_l0, "zeros")
        return LastState(rnn, 1, rng)

    def irnn(rng: np.random.Generator) -> nn.Module:
        rnn = nn.RNN(2, 64, nonlinearity="relu", init="identity", seed=rng)
        nn.init.apply(rnn.weight_ih_l0, nn.init.normal(std=0.1), rng)
        for bias in (rnn.bias_ih_l0, rnn.bias_hh_l0):
            nn.init.apply(bias, "zeros")
        return LastState(rnn, 1, rng)

    return Task(
        f"adding problem over {steps} steps (who always answers 1 is wrong by 0.167)",
        data,
        tr.mse_loss,
        lambda output, y: float(np.square(output - y).mean()),
        lambda error: error < 0.005,
        "mean squared error of each seed",
        {
            "tanh RNN": (lambda rng: LastState(nn.RNN(2, 64, seed=rng), 1, rng), 2e-3),
            "IRNN: relu, identity": (irnn, 2e-3),
            "LSTM, chrono bias": (lstm, 1e-2),
        },
        updates=4 if quick else 3000,
        seeds=1 if quick else 3,
    )


def sequential_digits(quick: bool) -> Task:
    """Handwritten digits, read pixel by pixel. Raises ImportError without scikit-learn, once data are asked for."""

    def data(rng: np.random.Generator) -> tuple[Iterator[Labelled], Labelled]:
        train, test = digits(rng)
        return epochs(train, 32, rng), test

    return Task(
        "digits as sequences of 64 pixels",
        data,
        tr.cross_entropy,
        accuracy,
        lambda share: share > 0.93,
        "test accuracy of each seed",
        {"GRU": (lambda rng: LastState(nn.GRU(1, 96, batch_first=True, seed=rng), 10, rng), 7e-3)},
        updates=4 if quick else 2600,
        seeds=1 if quick else 3,
    )


# ---- depth


class Deep(nn.Module):
    """A first layer, blocks that are layers 0, 1, ... of the graph, and a last layer: x(B, inputs) -> (B, outputs)."""

    def __init__(self, inputs: int, blocks: list[nn.Module], outputs: int, width: int, rng: np.random.Generator) -> None:
        self.first, self.blocks, self.head = nn.Linear(inputs, width, seed=rng), blocks, nn.Linear(width, outputs, seed=rng)

    def forward(self, x: Any) -> tr.Tensor:
        h = self.first(x)
        for layer, block in enumerate(self.blocks):
            with tr.scope(layer=layer):
                h = block(h)
        return self.head(h)


def spirals(quick: bool) -> Task:
    """Two spirals wound about each other, through 100 layers of 32 units, with PyTorch's default weights unless said."""
    width = 32

    def points(rng: np.random.Generator, n: int) -> Labelled:
        labels, radius = rng.integers(0, 2, n), np.sqrt(rng.random(n))
        angle = 2 * np.pi * radius + np.pi * labels
        x = radius * np.stack([np.cos(angle), np.sin(angle)]) + 0.03 * rng.standard_normal((2, n))
        return Labelled(x.T.astype(np.float32), labels)

    def data(rng: np.random.Generator) -> tuple[Iterator[Labelled], Labelled]:
        test = points(rng, 1000)
        return iter(lambda: points(rng, 64), None), test

    def deep(block: Callable[[nn.Module], nn.Module], init: str = "default", lr: float = 1e-3) -> tuple[Net, float]:
        def make(rng: np.random.Generator) -> nn.Module:
            return Deep(2, [block(nn.Linear(width, width, init=init, seed=rng)) for _ in range(DEPTH)], 2, width, rng)

        return make, lr

    return Task(
        f"two spirals, tanh MLPs of depth {DEPTH}",
        data,
        tr.cross_entropy,
        accuracy,
        lambda share: share > 0.95,
        "test accuracy of each seed",
        {
            "plain": deep(lambda linear: nn.Sequential(linear, nn.Tanh())),
            "orthogonal, rate 1e-4": deep(lambda linear: nn.Sequential(linear, nn.Tanh()), "orthogonal", 1e-4),
            "LayerNorm": deep(lambda linear: nn.Sequential(linear, nn.LayerNorm(width), nn.Tanh())),
            "BatchNorm1d": deep(lambda linear: nn.Sequential(linear, nn.BatchNorm1d(width), nn.Tanh())),
            "residual, scale 0.1": deep(lambda linear: nn.Residual(nn.Sequential(linear, nn.Tanh()), DEPTH**-0.5)),
        },
        updates=4 if quick else 2000,
        seeds=1 if quick else 3,
    )
