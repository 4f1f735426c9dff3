"""How much of a signal survives each step back, by which paths, and what took the rest."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import log
from typing import Any

import numpy as np

from ..graph import Graph
from .classes import CARRY, PARTS
from .cuts import Cut, find_cuts
from .paths import StepBack, Walker
from .pullback import Cotangents, pull
from .recorded import recorded_rows
from .rows import difference
from .steps import Axis, Steps, find_steps

GROUPS = ("carry", "recurrent")
PART_NAMES = (*PARTS, "sums", *GROUPS)


@dataclass(frozen=True, eq=False)
class Gain:
    """The backward signal of one loss by lag, in nats, by classes of paths and by parts.

    Paths from one step's states to those of the step before are of two kinds: the carry, which goes through no weights, and the
    recurrent ones, which do. Where a class of paths is one chain of ops its decay splits into parts.

    axis        "t" (back through time) or "layer" (back through depth)
    lags        (n + 1,) steps before the last one, 0..n; every sequence is counted from its own last step
    log_norm    (n + 1,) mean over the batch of log |dL/dh| at each lag, h being all states of that step together
    log_gain    (n + 1,) log_norm - log_norm[0]: the decay so far
    saturation  (n,) nats a step between lag i and i + 1 from activations: log(|D d| / |d|)
    weights     (n,) from matrices and other parameters: log(|W^T D d| / |D d|)
    gates       (n,) from products with another signal: a forget gate times a cell's state
    constants   (n,) from fixed factors: a leak, a residual scale
    other       (n,) from anything else: masks, normalisations, reductions
    sums        (n,) what parallel paths gain by adding up, negative where they cancel
    carry       (n,) of the carry where its ops are no chain, so that only its whole change is a property of the net
    recurrent   (n,) the same of the recurrent paths
    shares      by kind of path, (n,) its share of the signal, <v_q, v> / <v, v> = d log|v| / d log(strength); they sum to 1
    alone       by kind of path, (n + 1,) log norms of the way back with the other kind cut out; empty where a net has one
    carry_parts by part, (n,) the same parts along the carry alone
    rows        (n + 1, B) log |dL/dh| of every sequence along the signal of its last step; nan beyond its first step
    total_rows  (n + 1, B) the same for everything that reaches the states: all losses and all paths, as recorded
    cuts        places where values go on and gradients do not, last step first
    silent      share of the sequences whose signal becomes exactly 0 on the way

    The parts add up to the change of log_norm, to rounding: each class q adds s_q (log|v_q| - log|d_q|), d_q being what it
    reads and v_q what it hands on, and `sums` the rest. Means are of logarithms, over the sequences whose signal lives to
    the end.
    Sequences that the loss does not reach have -inf in `rows` and are left out. The signal is scaled to norm 1 after every
    step, in float64, so it underflows nowhere. Where the nodes on the way have no batch axis, B is 1."""

    axis: Axis
    lags: np.ndarray
    log_norm: np.ndarray
    saturation: np.ndarray
    weights: np.ndarray
    gates: np.ndarray
    constants: np.ndarray
    other: np.ndarray
    sums: np.ndarray
    carry: np.ndarray
    recurrent: np.ndarray
    shares: dict[str, np.ndarray]
    alone: dict[str, np.ndarray]
    carry_parts: dict[str, np.ndarray]
    rows: np.ndarray
    total_rows: np.ndarray
    cuts: tuple[Cut, ...]
    silent: float
    steps: Steps = field(repr=False)
    row_parts: dict[str, np.ndarray] = field(repr=False)  # by part, (n, B)
    row_alone: dict[str, np.ndarray] = field(repr=False)
    row_shares: dict[str, np.ndarray] = field(repr=False)
    row_carry_parts: dict[str, np.ndarray] = field(repr=False)
    last: np.ndarray = field(repr=False)  # (B,) the step at which each sequence starts

    @property
    def log_gain(self) -> np.ndarray:
        with np.errstate(invalid="ignore"):  # of a signal that is lost at lag 0
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


def gain(graph: Graph, of: int | None = None, axis: Axis | None = None, steps: Steps | None = None) -> Gain:
    """Follow the cotangent of node `of` (the loss unless given) from the states of the last step that it reaches to those of
    the first, each sequence from its own last step.

    Only what passes through that step's states is followed: losses injected on the way are left out, so this is d(of)/dh of
    one output however many the loss sums; `total_rows` has everything. Raises ValueError where there are no two steps."""
    steps = find_steps(graph, axis)[0] if steps is None else steps
    way = Way(graph, steps, graph.root if of is None else of)
    return way.gain()


class Way:
    """One way back through the steps of a net, followed row by row."""

    def __init__(self, graph: Graph, steps: Steps, of: int) -> None:
        self.graph, self.steps, self.of = graph, steps, of
        self.direct = pull(graph, {of: np.ones(graph.shape(of))}, [i for at in steps.at for i in at])
        # what reaches each step's states directly, not through those of a later step: the signal starts at the last of them
        starts = [n for n, at in enumerate(steps.at) if any(i in self.direct and self.direct[i].any() for i in at)]
        if not starts:  # nothing to follow: say so at the step that it could have started from
            starts = [n for n, at in enumerate(steps.at) if any(i in self.direct for i in at)]
        self.carry_split: list[dict[str, np.ndarray]] = []
        self.starts, self.last = starts, starts[-1] if starts else 0
        self.walker = Walker(graph, steps)
        if self.last == 0:
            raise ValueError("the gain along steps needs at least two steps that the loss depends on")
        self.walker.find_rows(self.last)
        self.rows = self.walker.rows
        self.begins, self.lengths = self._lengths()
        self.joined = [self.walker.joined(n) for n in range(1, len(steps))]
        self.first = next((n for n in range(self.last, 0, -1) if not self.joined[n - 1]), 0)

    # ---- signals

    def _seeded(self, n: int, signal: Cotangents, log_norm: np.ndarray) -> tuple[Cotangents, np.ndarray]:
        """The signal with the rows that start at step n: they get what the loss sends there directly, scaled to norm 1."""
        own = {i: self.direct[i] for i in self.steps.at[n] if i in self.direct}
        norms = self.walker.norms(own)
        new = ~np.isfinite(log_norm) & (norms != 0) & (self._ended > n)
        if not new.any():
            return signal, log_norm
        self._ended[new] = n
        out = dict(signal)
        for i, g in self.walker.scaled(own, norms).items():
            out[i] = out.get(i, 0) + g * self.walker.per_row(new.astype(float), g.ndim)
        return out, np.where(new, np.log(np.where(new, norms, 1.0)), log_norm)

    def follow(self, back) -> list[np.ndarray]:
        """[(rows,) log norm at each step from the last to the first]; back(n, signal) -> signal one step back."""
        signal: Cotangents = {}
        log_norm = np.full(self.rows, -np.inf)
        self._ended = np.full(self.rows, len(self.steps))  # the step at which each row started
        trail = []
        for n in range(self.last, self.first - 1, -1):
            signal, log_norm = self._seeded(n, signal, log_norm)
            trail.append(log_norm)
            if n > self.first:
                signal = self.held(n, signal, back(n, signal))
                norms = self.walker.norms(signal)
                with np.errstate(divide="ignore"):
                    log_norm = log_norm + np.log(norms)
                signal = self.walker.scaled(signal, norms)
        return trail

    def held(self, n: int, before: Cotangents, after: Cotangents) -> Cotangents:
        """The signal one step back, that of sequences for which step n is padding handed on as it is."""
        padded = self.lengths < n
        if not padded.any():
            return after
        out = {}
        for j in self.steps.at[n - 1]:
            kind = self._kind(j)
            i = next((i for i in self.steps.at[n] if self._kind(i) == kind), None)
            if i in before or j in after:
                new = after.get(j, np.zeros(self.graph.shape(j)))
                out[j] = np.where(self.walker.per_row(padded, new.ndim), before[i] if i in before else np.zeros_like(new), new)
        return out

    def _kind(self, i: int) -> tuple:
        return self.graph.ops[i], self.graph.records[i].name, self.graph.addresses[i].layer

    def gain(self) -> Gain:
        split: list[dict[str, np.ndarray]] = []
        shares: list[dict[str, np.ndarray]] = []

        def back(n: int, signal: Cotangents) -> Cotangents:
            found, parts, share = step_back(self.walker, n, signal)
            split.append(parts)
            shares.append(share)
            return found

        trail = np.stack(self.follow(back))
        started = self._ended.copy()
        align = _Alignment(self.last, np.maximum(self.first, self.begins), np.minimum(started, self.lengths))
        rows = align.points(trail)
        zero = np.zeros(self.rows)
        empty = np.zeros((len(split), self.rows))

        def by_lag(found: list[dict[str, np.ndarray]], part: str) -> np.ndarray:
            some = any(part in s for s in found)
            return align.steps(np.stack([s.get(part, zero) for s in found]) if some else empty)

        by_part = {part: by_lag(split, part) for part in PART_NAMES}
        by_kind = {kind: align.steps(np.stack([s[kind] for s in shares])) for kind in GROUPS}
        row_alone = self._alone(by_kind, align)
        carry_parts = {part: by_lag(self.carry_split, part) for part in PART_NAMES} if row_alone else {}
        total_rows = self._total(rows, align)
        mean, counted, silent = _averaged(rows, by_part)
        return Gain(
            axis=self.steps.axis,
            lags=np.arange(len(rows)),
            log_norm=mean,
            rows=rows,
            total_rows=total_rows,
            silent=silent,
            shares={kind: _mean(x, counted) for kind, x in by_kind.items()},
            alone={kind: _mean_of_points(x, counted) for kind, x in row_alone.items()},
            cuts=tuple(find_cuts(self.graph, self.steps, self.joined)),
            steps=self.steps,
            row_parts=by_part,
            row_alone=row_alone,
            row_shares=by_kind,
            row_carry_parts=carry_parts,
            carry_parts={part: _mean(x, counted) for part, x in carry_parts.items()},
            last=align.start,
            **{part: _mean(x, counted) for part, x in by_part.items()},
        )

    def _lengths(self) -> tuple[np.ndarray, np.ndarray]:
        """(rows,) the first and the last step that each sequence has, where lengths were given; backwards in time a sequence
        begins at its end. The first and last of all otherwise."""
        begins, ends = np.zeros(self.rows, int), np.full(self.rows, len(self.steps))
        for n in range(self.last, 0, -1):
            for i in (*self.steps.at[n], *self.walker.positions(n)):
                op = self.graph.ops[i]
                if op is not None and op.name == "select_steps":
                    params = self.graph.records[i].params
                    lengths, t = np.asarray(params["lengths"]), int(params["t"])
                    if lengths.shape != (self.rows,):
                        continue
                    if self.steps.name == "backwards":
                        return np.maximum(n + t - (lengths - 1), 0), ends
                    return begins, lengths + (n - t - 1)
        return begins, ends

    def _alone(self, shares: dict[str, np.ndarray], align: _Alignment) -> dict[str, np.ndarray]:
        if any(not np.nanmax(np.abs(shares[kind]), initial=0) > 0 for kind in GROUPS):
            return {}

        def without_carry(n: int, signal: Cotangents) -> Cotangents:
            arrived = self.walker.back(n, signal).arrived
            return _added([found for (key, _), found in arrived.items() if key != CARRY])

        def carried(n: int, signal: Cotangents) -> Cotangents:
            found, parts, _ = step_back(self.walker, n, signal, carry_alone=True)
            self.carry_split.append(parts)
            return found

        ways: dict[str, Any] = {"carry": carried, "recurrent": without_carry}
        return {kind: align.points(np.stack(self.follow(back))) for kind, back in ways.items()}

    def _total(self, rows: np.ndarray, align: _Alignment) -> np.ndarray:
        if self.of != self.graph.root:
            return rows
        alone = self.starts == [self.last] and not self.steps.skips
        if alone and not (self.first and self.graph.grads[self.steps.at[self.first - 1][0]] is not None):
            return rows
        trail = recorded_rows(self.graph, self.steps, self.walker, self.last)
        whole = _Alignment(self.last, self.begins, align.start)
        return whole.points(trail)


def step_back(
    walker: Walker, n: int, signal: Cotangents, carry_alone: bool = False
) -> tuple[Cotangents, dict[str, np.ndarray], dict[str, np.ndarray]]:
    """One step back from norm 1: the new signal, nats by part, and the share of each kind of path, (rows,) each."""
    rows, found = walker.rows, walker.back(n, signal, carry_alone)
    with np.errstate(divide="ignore", invalid="ignore"):
        return _accounted(walker, rows, found, signal)


def _accounted(walker: Walker, rows: int, found: StepBack, signal: Cotangents) -> Any:
    """What one step back did, told by part and by kind of path; see `step_back`."""
    zero = np.zeros(rows)
    classes = [one for one in found.read if one in found.arrived]
    arrived = _added([found.arrived[one] for one in classes])
    before, after = np.log(walker.norms(signal)), np.log(walker.norms(arrived))
    parts: dict[str, np.ndarray] = {}
    shares = dict.fromkeys(GROUPS, zero)

    def add(part: str, nats: np.ndarray) -> None:
        parts[part] = parts[part] + nats if part in parts else nats

    spoken_for = zero
    for one, share in _shares(walker, found.arrived, classes, arrived, after, before).items():
        kind = "carry" if one[0] == CARRY else "recurrent"
        shares[kind] = shares[kind] + share
        nats = _times(share, difference(found.ends[one], found.read[one]))
        if one in found.parts:
            for part, mine in found.parts[one].items():
                add(part, _times(share, mine))
        else:
            add(kind, nats)
        spoken_for = spoken_for + nats
    if len(classes) == 1 and np.allclose(found.read[classes[0]], before, rtol=0, atol=1e-14, equal_nan=True):
        return arrived, parts, shares
    whole = difference(after, before)
    rest = np.where(np.isneginf(whole), np.where(np.isneginf(spoken_for), 0.0, whole), whole - spoken_for)
    add("sums", rest)
    return arrived, parts, shares


def _shares(
    walker: Walker, arrived: dict, classes: list, whole: Cotangents, after: np.ndarray, before: np.ndarray
) -> dict[Any, np.ndarray]:
    """<v_q, v> / <v, v> by class and row; 0 where v is 0. One class alone has the share 1, unless there was nothing before."""
    if len(classes) == 1:
        return {classes[0]: np.where(np.isneginf(after) & np.isneginf(before), 0.0, 1.0)}
    out: dict[Any, np.ndarray] = {}
    for one in classes:
        out[one] = np.zeros(walker.rows)
        for i, g in arrived[one].items():
            out[one] = out[one] + np.vecdot(walker.by_state(g), walker.by_state(whole[i]))
    norms = np.exp(2 * after)
    if norms.size and norms.min() > 1e-280 and norms.max() < 1e280:
        return {one: x / norms for one, x in out.items()}
    scale = np.exp(-np.where(np.isfinite(after), after, 0.0))  # where squares leave the range of numbers
    for one in classes:
        found = [
            np.vecdot(walker.by_state(g) * scale[:, None], walker.by_state(whole[i]) * scale[:, None])
            for i, g in arrived[one].items()
        ]
        out[one] = np.where(np.isneginf(after), 0.0, sum(found))
    return out


def _times(share: np.ndarray, nats: np.ndarray) -> np.ndarray:
    """share * nats, 0 where the share is 0: a class without a share may have lost everything."""
    if np.isfinite(nats).all():
        return share * nats
    return np.where(share == 0, 0.0, share * np.where(share == 0, 0.0, nats))


def _added(parts: list[Cotangents]) -> Cotangents:
    if len(parts) == 1:
        return parts[0]
    out: Cotangents = {}
    for found in parts:
        for i, g in found.items():
            out[i] = out[i] + g if i in out else g
    return out


# ---- rows


class _Alignment:
    """Steps by lag: every row is counted from its own last step, and has nan beyond its first."""

    def __init__(self, last: int, first: np.ndarray | int, start: np.ndarray) -> None:
        self.start = np.where(start > last, last, start)  # rows that the loss never reaches count from the last step
        self.rows = len(start)
        self.shift = last - self.start
        self.spans = np.maximum(self.start - first, 0)
        self.count = int(self.spans.max(initial=0))

    def points(self, trail: np.ndarray) -> np.ndarray:
        """(steps, rows) from the last step on -> (lags, rows)."""
        return self._shifted(trail, 1)

    def steps(self, changes: np.ndarray) -> np.ndarray:
        return self._shifted(changes, 0)

    def _shifted(self, x: np.ndarray, more: int) -> np.ndarray:
        if not self.shift.any() and (self.spans == self.count).all():
            return x[: self.count + more]
        out = np.full((self.count + more, self.rows), np.nan)
        for row, (shift, span) in enumerate(zip(self.shift, self.spans, strict=True)):
            mine = x[shift : shift + span + more, row]
            out[: len(mine), row] = mine
        return out


def _averaged(rows: np.ndarray, parts: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray, float]:
    """The mean log norm by lag, the rows it is over, and the share of those that fall silent."""
    started = np.isfinite(rows[0])
    live = started & ~np.isneginf(rows).any(axis=0)
    # where every signal dies, the logarithm of nothing is the answer
    counted = live if live.any() else started if started.any() else np.ones(rows.shape[1], bool)
    mean = np.empty(len(rows))
    mean[0] = rows[0, counted].mean()
    with np.errstate(invalid="ignore"):
        changes = np.diff(rows[:, counted], axis=0)
        changes = np.where(np.isneginf(rows[1:, counted]) & np.isneginf(rows[:-1, counted]), 0.0, changes)
    for lag, change in enumerate(changes):
        there = ~np.isnan(change)
        mean[lag + 1] = mean[lag] + (change[there].mean() if there.any() else 0.0)
    return mean, counted, float((started & ~live).sum() / max(started.sum(), 1))


def _mean(x: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """(lags,) mean over the rows that have that lag."""
    mine = x[:, counted]
    there = ~np.isnan(mine)
    return np.where(there, mine, 0.0).sum(axis=1) / np.maximum(there.sum(axis=1), 1)


def _mean_of_points(x: np.ndarray, counted: np.ndarray) -> np.ndarray:
    return _averaged(x[:, counted], {})[0] if counted.any() else x.mean(axis=1)
