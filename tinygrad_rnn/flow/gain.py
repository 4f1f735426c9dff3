"""How much of a signal survives each step back, and what took the rest: an exact split along the real backward signal."""

from __future__ import annotations

from dataclasses import dataclass
from math import log

import numpy as np

from ..graph import Graph
from .pullback import Cotangents, pull
from .states import Axis, States, batch_rows, find_states, row_norms

# by the kind of an op; every other kind is "other"
PARTS = {"activation": "saturation", "weights": "weights", "gates": "gates"}
PART_NAMES = ("saturation", "weights", "gates", "other")


@dataclass(frozen=True, eq=False)
class Gain:
    """The backward signal of one loss by lag, in nats, and the exact split of its decay.

    axis        "t" (back through time) or "layer" (back through depth)
    lags        (n + 1,) steps before the last one, 0..n
    log_norm    (n + 1,) mean over the batch of log |dL/dh| at each lag, h being all states of that step together
    log_gain    (n + 1,) log_norm - log_norm[0]: the decay so far
    saturation  (n,) nats a step between lag i and i + 1 from activations: log(|D d| / |d|)
    weights     (n,) the same from weight matrices: log(|W^T D d| / |D d|)
    gates       (n,) the same from products of two signals: a forget gate times a cell's state
    other       (n,) the same from anything else (sums of paths, scalings)
    rows        (n + 1, B) log |dL/dh| of every sequence of the batch

    saturation + weights + gates + other = the change of log_norm, to rounding: the parts telescope. Means are of logarithms,
    over the sequences whose signal lives to the end; `silent` is the share of those whose signal becomes exactly 0 on the way.
    Sequences that the loss does not reach at lag 0 have -inf in `rows` and are left out. The signal is scaled to norm 1 after
    every step, in float64, so it underflows nowhere. Where the nodes on the way have no batch axis, B is 1."""

    axis: Axis
    lags: np.ndarray
    log_norm: np.ndarray
    saturation: np.ndarray
    weights: np.ndarray
    gates: np.ndarray
    other: np.ndarray
    rows: np.ndarray
    silent: float

    @property
    def log_gain(self) -> np.ndarray:
        return self.log_norm - self.log_norm[0]

    @property
    def total(self) -> float:
        """Nats from the last step to the first."""
        return float(self.log_gain[-1])

    @property
    def rate(self) -> float:
        """Nats a step, on average over all lags; negative where the signal decays."""
        return self.total / max(len(self.lags) - 1, 1)

    @property
    def half_life(self) -> float:
        """Steps in which the signal halves (or doubles, if the rate is positive): ln 2 / |rate|."""
        return log(2) / abs(self.rate) if self.rate else float("inf")

    def parts(self) -> dict[str, float]:
        """Nats from the last step to the first by part: saturation and weights, and what else is not 0 to two digits."""
        sums = {name: float(getattr(self, name).sum()) for name in PART_NAMES}
        return {name: nats for name, nats in sums.items() if name in ("saturation", "weights") or abs(nats) > 5e-3}

    def __repr__(self) -> str:
        if not np.isfinite(self.total):
            return f"<Gain over {len(self.lags) - 1} steps of {self.axis}: {self.total} nats>"
        way = "halves" if self.rate < 0 else "doubles"
        parts = ", ".join(f"{name} {nats:+.2f}" for name, nats in self.parts().items())
        return (
            f"<Gain over {len(self.lags) - 1} steps of {self.axis}: {self.total:+.2f} nats "
            f"({parts}), "
            f"{self.rate:+.3f} a step, {way} in {self.half_life:.3g} steps>"
        )


def gain(graph: Graph, of: int | None = None, axis: Axis | None = None, states: States | None = None) -> Gain:
    """Follow the cotangent of node `of` (the loss unless given) from the states of the last step that it reaches to those of
    the first.

    Only what passes through that step's states is followed: losses injected on the way are left out, so this is d(of)/dh of
    one output however many the loss sums. Raises ValueError where there are no two steps."""
    states = find_states(graph, axis) if states is None else states
    of = graph.root if of is None else of
    # what reaches each step's states directly, not through those of a later step: the signal starts at the last of them
    direct = pull(graph, {of: np.ones(graph.values[of].shape)}, [i for at in states.at for i in at])
    starts = [c for c, at in enumerate(states.at) if any(i in direct and direct[i].any() for i in at)]
    if not starts:  # nothing to follow: say so at the step that it could have started from
        starts = [c for c, at in enumerate(states.at) if any(i in direct for i in at)]
    last = starts[-1] if starts else 0
    if last == 0:
        raise ValueError("the gain along steps needs at least two steps that the loss depends on")
    rows = batch_rows(graph, states, last)
    signal = {i: direct[i] for i in states.at[last] if i in direct}
    norms = row_norms(list(signal.values()), rows)
    with np.errstate(divide="ignore"):
        trail, splits = [np.log(norms)], []
    signal = _scaled(signal, norms, rows)
    for c in range(last, 0, -1):
        parts, signal, norms = _step(graph, signal, states.at[c - 1], rows)
        with np.errstate(divide="ignore"):
            trail.append(trail[-1] + np.log(norms))
        splits.append(parts)
        signal = _scaled(signal, norms, rows)
    log_rows = np.stack(trail)
    started = np.isfinite(log_rows[0])
    live = np.isfinite(log_rows).all(axis=0)
    # where every signal dies, the logarithm of nothing is the answer
    counted = live if live.any() else started if started.any() else np.ones(rows, bool)
    mean = {part: np.array([s[part][counted].mean() for s in splits]) for part in PART_NAMES}
    return Gain(
        axis=states.axis,
        lags=np.arange(last + 1),
        log_norm=log_rows[:, counted].mean(axis=1),
        rows=log_rows,
        silent=float((started & ~live).sum() / max(started.sum(), 1)),
        **mean,
    )


def _step(
    graph: Graph, signal: Cotangents, wrt: tuple[int, ...], rows: int
) -> tuple[dict[str, np.ndarray], Cotangents, np.ndarray]:
    """One step back, from norm 1: the parts of the log gain, the new signal, and its row norms."""
    parts = {part: np.zeros(rows) for part in PART_NAMES}
    before = np.ones(rows)

    def observe(i: int, frontier: Cotangents) -> None:
        nonlocal before
        after = row_norms(list(frontier.values()), rows)
        with np.errstate(divide="ignore", invalid="ignore"):
            change = np.log(after) - np.log(before)
        parts[_part(graph, i)] += np.where((after == 0) & (before == 0), 0.0, change)
        before = after

    signal = pull(graph, signal, wrt, observe)
    return parts, signal, before


def _part(graph: Graph, i: int) -> str:
    """Which part the change at node i belongs to. A sum of products with matrices is one product with the matrices side by
    side, so its copying of the cotangent counts with them; a product of two signals is a gate, one with a constant is not."""
    if i < 0:
        return "other"
    op, inputs = graph.ops[i], graph.inputs_of[i]
    if op is not None and op.name == "add" and all(graph.kind(j) == "weights" for j in inputs):
        return "weights"
    if op is not None and op.name == "mul" and all(graph.roles[j] == "op" for j in inputs):
        return "gates"
    return PARTS.get(graph.kind(i) or "", "other")


def _scaled(signal: Cotangents, norms: np.ndarray, rows: int) -> Cotangents:
    """Every row divided by its norm; rows of norm 0 stay."""
    safe = np.where(norms > 0, norms, 1.0)
    return {i: (g.reshape(rows, -1) / safe[:, None]).reshape(g.shape) for i, g in signal.items()}
