"""The straight answer: is the gradient vanishing, healthy or exploding, by what, where and for whom, and what helped."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from math import exp, log
from typing import Any, Literal

import numpy as np

from ..graph import Graph, NodeView
from . import words
from .cuts import Cut, find_cuts
from .directions import kept_directions
from .gain import PART_NAMES, Gain, Way
from .profile import Place, place_of
from .steps import Axis, Steps, checked_axis, find_steps

Kind = Literal["vanishing", "fading", "healthy", "narrow", "exploding", "vanishing and exploding", "no signal", "not finite"]

FACTOR = 100.0  # a gradient is called lost, or exploding, when it has changed by this factor anywhere along the steps
FADING = 10.0  # and fading from this factor on
STEEP = log(2) / 2  # nats a step: what halves in two steps is lost soon, however few steps were recorded
SHARE = 0.25  # of the sequences of a batch: where so many do it, the net does, whatever the median says
SATURATED = 0.01  # a unit is saturated where phi' is below this share of the largest phi' there is
LARGE = 1024  # rows of a matrix whose eigenvalues are looked at
SQUASHING = {  # activations whose slope says how open they are
    "tanh", "sigmoid", "relu", "erf", "leaky_relu", "elu", "gelu", "silu", "softplus", "hardtanh", "softsign", "logsigmoid",
    "lstm_gates", "floor", "ceil", "sign"
}  # fmt: skip
LARGEST_SLOPE = {"sigmoid": 0.25}


@dataclass(frozen=True)
class Verdict:
    """What `graph.why()` found.

    kind      "vanishing" (less than 1/100 is left, or a half is lost every two steps), "fading" (less than 1/10 is left),
              "healthy", "narrow" (the size is kept, in one direction only), "exploding", "vanishing and exploding" (at
              different lags or in different sequences), "no signal" (the loss depends on one step alone, or sends exactly 0
              into the states) or "not finite"
    part      the part that does most of it (see Gain), "cut" where no gradient passes a step; empty for a healthy net
    where     "evenly", "one step", "read-out", "two phases", "unevenly", "one layer", or "" where little changes
    cause     what was found, in sentences
    advice    what was tried on a copy and helped, in sentences; empty where nothing did, or nothing was tried
    tried     each remedy that was tried, with what came of it, the best first
    numbers   everything the sentences rest on, by name
    gain      the signal itself, None where there is none to follow
    parts     the verdicts on each direction of a net that also runs backwards, by name"""

    kind: Kind
    cause: str
    advice: str
    numbers: dict[str, Any] = field(repr=False)
    gain: Gain | None = field(repr=False)
    part: str = ""
    where: str = ""
    tried: tuple = field(default=(), repr=False)
    parts: dict[str, Verdict] = field(default_factory=dict, repr=False)

    def __str__(self) -> str:
        lines = [f"{self.kind.upper()}: {self.cause}"]
        if self.advice:
            lines.append(self.advice)
        elif self.tried:
            lines.append(f"Tried on a copy: {len(self.tried)} remedies, none left the gradient clearly nearer to its size.")
        return "\n".join(lines)


Try = Callable[[Graph, "Verdict"], "tuple[str, tuple]"]


def why(graph: Graph, axis: Axis | None = None, try_remedies: Try | None = None, details: bool = True) -> Verdict:
    """The verdict on the gradient along `axis` (time where there are steps, else depth).

    Its kind is that of the recorded cotangents, from every loss along every path, in the sequence in the middle of the batch;
    the signal of the last step alone stands beside it where the two differ.

    try_remedies   of a graph and its verdict: (advice, trials)
    details        look at matrices, gates and slopes as well, where the net is sick"""
    checked_axis(axis)
    found = _verdict(graph, axis, details)
    if try_remedies is None or found.kind in ("healthy", "no signal", "not finite"):
        return found
    advice, tried = try_remedies(graph, found)
    return replace(found, advice=advice, tried=tried)


def _verdict(graph: Graph, axis: Axis | None, details: bool) -> Verdict:
    bad = _not_finite(graph)
    if bad is not None:
        return bad
    try:
        ways = find_steps(graph, axis)
        found = {steps.name: _of_one_way(graph, steps, details) for steps in ways}
    except ValueError:
        recorded = graph.steps if axis != "layer" else graph.layers
        if not recorded:
            raise
        unit = "step" if axis != "layer" else "layer"
        return Verdict("no signal", words.one_step_only(_steps_reached(graph, unit), unit), "", {"axis": axis or "t"}, None)
    if len(found) == 1:
        (name, only), *_ = found.items()
        if not name:
            return only
        other = {"forwards": "Backwards", "backwards": "Forwards"}[name]
        cause = f"{name.capitalize()}: {only.cause} {other} the loss depends on one step alone."
        return replace(only, cause=cause, parts={name: only})
    order = ("not finite", "vanishing and exploding", "exploding", "vanishing", "narrow", "fading", "no signal", "healthy")
    worst = min(found.values(), key=lambda v: order.index(v.kind))
    cause = " ".join(f"{name.capitalize()}, {v.kind}: {v.cause}" for name, v in found.items())
    return replace(worst, cause=cause, parts=found)


def _steps_reached(graph: Graph, unit: str) -> list[int]:
    axis = 1 if unit == "step" else 0
    reached = set()
    for i, address in enumerate(graph.addresses):
        c = address[axis]
        if c is not None and c not in reached and graph.ops[i] is not None and (g := graph.grads[i]) is not None and g.any():
            reached.add(c)
    return sorted(reached)


def _not_finite(graph: Graph) -> Verdict | None:
    """The node at which it began that the loss or a cotangent is not finite: the first value, or else the first cotangent on
    the way back. Values that do neither (a mask of -inf before a softmax) are in order."""
    at, what = None, "value"
    if not np.isfinite(graph.values[graph.root]).all():
        on_way = graph.ancestors([graph.root])
        at = next(i for i in sorted(on_way) if not np.isfinite(graph.values[i]).all())
    else:
        for i in reversed(range(len(graph))):
            g = graph.grads[i]
            if g is not None and not np.isfinite(g).all():
                at, what = i, "gradient"
                break
    if at is None:
        return None
    view = NodeView(graph, at)
    array = np.asarray(view.value if what == "value" else view.grad)
    bad = np.argwhere(~np.isfinite(array))
    entry = tuple(int(k) for k in bad[0])
    numbers = {"node": view, "entry": entry, "count": len(bad), "step": view.t, "layer": view.layer}
    return Verdict("not finite", words.not_finite(view, what, array, entry, len(bad)), "", numbers, None)


# ---- one way back


def _of_one_way(graph: Graph, steps: Steps, details: bool) -> Verdict:
    way = Way(graph, steps, graph.root)
    if not way.first < way.last:
        cuts = find_cuts(graph, steps, way.joined)
        numbers = {"axis": steps.axis, "cut": _cut(cuts[0]) if cuts else None}
        return Verdict("vanishing", words.cut_at_once(way), "", numbers, None, "cut", "one step")
    found = way.gain()
    if not np.isfinite(found.rows[0]).any() and not np.isfinite(found.total_rows).any():
        return Verdict("no signal", words.no_signal(steps), "", {"axis": steps.axis}, found)
    return Judgement(graph, way, found, details).verdict()


def _cut(cut: Cut) -> dict[str, Any]:
    return {"t": cut.t, "op": cut.op, "label": cut.source, "whole": cut.whole, "times": cut.times}


class Judgement:
    """The numbers of one way back, and the words for them."""

    def __init__(self, graph: Graph, way: Way, found: Gain, details: bool) -> None:
        self.graph, self.way, self.gain = graph, way, found
        self.total = _relative(found.total_rows)
        self.path = _relative(found.rows)
        self.same = found.total_rows.shape == found.rows.shape and np.allclose(
            found.total_rows, found.rows, rtol=0, atol=1e-6, equal_nan=True
        )
        if self.same:
            self.total = self.path
        self.row = _middle(self.path)  # the sequence whose parts are told
        self.profile = _median(self.total)
        mine = _own(self.total, self.row if self.same else _middle(self.total))
        self.place: Place = place_of(mine if np.isfinite(mine).sum() > 1 else _own(self.path, self.row))
        self.left = float(mine[-1])
        self.numbers = self._numbers()
        if details and self._kind() != "healthy":
            self.numbers |= self._details()

    def verdict(self) -> Verdict:
        kind = self._kind()
        self.numbers["kind"] = kind
        part, where = self._part(kind), str(self.place.where)
        cuts = self.numbers["cuts"]
        whole = bool(cuts) and cuts[0]["whole"] and (self.same or not np.isfinite(self.profile[-1]))
        if whole and kind in ("healthy", "narrow", "fading", "vanishing"):
            kind, part, where = "vanishing", "cut", "one step"
        elif self.place.nats == (float("-inf"),) and any(cut["t"] == self.numbers["at_t"] for cut in cuts):
            part = "cut"  # what else passes there carries nothing
        if self.numbers["lost_layer"] is not None and kind in ("healthy", "fading", "narrow"):
            kind, where, part = "vanishing", "one layer", self._part("vanishing")
        if part == "cut":
            self.numbers["at_t"] = cuts[0]["t"]
        where = "" if kind == "healthy" else where
        self.numbers |= {"kind": kind, "part": part, "where": where}
        return Verdict(kind, words.cause(self.numbers), "", self.numbers, self.gain, part, where)

    # ---- kind

    def _kind(self) -> Kind:
        n = self.numbers
        vanishes = n["lost_from_lag"] is not None or n["lost_share"] >= SHARE
        explodes = n["grown_from_lag"] is not None or n["grown_share"] >= SHARE
        steep = n["steps"] >= 4 and self.place.where == "evenly" and self.place.rate is not None
        if steep and not (vanishes or explodes) and self.place.rate is not None:
            vanishes, explodes = self.place.rate < -STEEP, self.place.rate > STEEP
        if vanishes and explodes:
            return "vanishing and exploding"
        if vanishes or explodes:
            return "vanishing" if vanishes else "exploding"
        if n["median_left"] < -log(FADING):
            return "fading"
        return "narrow" if len(n["directions"]) > 1 and n["directions"][1] < -log(FACTOR) else "healthy"

    def _part(self, kind: Kind) -> str:
        if kind in ("healthy", "no signal", "not finite"):
            return ""
        sign = 1 if kind == "exploding" else -1
        n = self.numbers
        if n["lost_from_lag"] is None and n["grown_from_lag"] is None and kind != "fading":
            found = self._parts_of_the_sick(sign)
            return max(found, key=lambda part: sign * found[part])
        whole = n["alone"] and n["shares"]["carry"] >= 0.5 and np.isfinite(n["alone"]["carry"])
        carried = n["carry_parts"] if whole else None
        if carried and sum(carried.values()) * sign < 0.5 * n["total_nats"] * sign:
            carried = None
        if carried is None and self.place.where in ("one step", "read-out") and self.place.lag is not None and self.same:
            lag = self.place.lag
            found = {p: float(x[lag, self.row]) for p, x in self.gain.row_parts.items() if len(x) > lag}
        else:
            found = carried or {part: n[f"{part}_nats"] for part in PART_NAMES}
        pushing = {part: sign * nats for part, nats in found.items() if sign * nats > 0}
        return max(pushing, key=lambda part: pushing[part]) if pushing else ""

    def _parts_of_the_sick(self, sign: int) -> dict[str, float]:
        """Nats by part of a sequence in which the gradient is lost, or grows, though it does not in the middle of the batch."""
        ends = _ends(self.path)
        worst = [sign * self.path[end, row] for row, end in enumerate(ends)]
        row = int(np.nanargmax(worst))
        return {part: _sum(x[: ends[row], row]) for part, x in self.gain.row_parts.items()}

    # ---- numbers

    def _numbers(self) -> dict[str, Any]:
        graph, way, found, row = self.graph, self.way, self.gain, self.row
        ends = _ends(self.path)
        steps = int(ends[row])
        total = float(self.path[steps, row])
        at = way.steps.labels
        parts = {part: _sum(x[:steps, row]) for part, x in found.row_parts.items()}
        per_row = self.total[:, ~np.isnan(self.total[0])]
        lows, highs = np.nanmin(per_row, axis=0), np.nanmax(per_row, axis=0)
        worst, best = np.nanmin(self.profile), np.nanmax(self.profile)
        rate = self.place.rate if self.place.where in ("evenly", "") and self.place.rate is not None else None
        place_t = None if self.place.lag is None else at[max(int(found.last[row]) - self.place.lag, 0)]
        on_path = [i for n in range(way.first + 1, int(found.last[row]) + 1) for i in way.walker.positions(n)]
        shares = {kind: _mean(x[:steps, row]) for kind, x in found.row_shares.items()}
        everyone = ~np.isnan(self.total[0])
        numbers = {
            "axis": way.steps.axis,
            "unit": way.steps.unit,
            "steps": steps,
            "lags": len(found.lags) - 1,
            "last_t": at[int(found.last[row])],
            "first_t": at[way.first],
            "sequences": way.rows,
            "total_nats": total,
            "left": self.left,
            "median_left": float(self.profile[-1]),
            "factor": exp(max(min(total, 700), -700)),
            "rate": rate,
            "even": rate is not None,
            "half_life": log(2) / abs(rate) if rate else None,
            **_reach(self.path[: steps + 1, row], rate),
            **{f"{part}_nats": nats for part, nats in parts.items()},
            "shares": shares,
            "alone": {kind: _end(x, row, steps) for kind, x in found.row_alone.items()},
            "carry_parts": {part: _sum(x[:steps, row]) for part, x in found.row_carry_parts.items()},
            "place": self.place,
            "at_t": place_t,
            "silent_share": _silent(self.total),
            "path_silent_share": _silent(self.path),
            "unreached_share": float(1 - everyone.mean()),
            "lost_from_lag": _first(self.profile < -log(FACTOR)),
            "grown_from_lag": _first(self.profile > log(FACTOR)),
            "lowest": float(worst),
            "highest": float(best),
            "lost_share": float((lows < -log(FACTOR)).mean()) if lows.size else 0.0,
            "grown_share": float((highs > log(FACTOR)).mean()) if highs.size else 0.0,
            "same": self.same,
            "cut": _cut(found.cuts[0]) if found.cuts else None,
            "cuts": [_cut(c) for c in found.cuts],
            "reached_by_none": self._unreached(),
            "weights": dict.fromkeys(_crossed(way)),
            "kept": None,
            "slopes": None,
            "past": way.steps.skips and way.starts == [way.last],
            "other_ops": sorted({str(NodeView(graph, i).op) for i in on_path if _is_other(graph, i)}),
            **self._by_layer(),
        }
        alone = _median(self.path)
        quiet = bool(np.nanmin(alone) > -log(FACTOR) and np.nanmax(alone) < log(FACTOR))
        numbers["directions"] = kept_directions(way).tolist() if quiet and way.first < way.last else []
        return numbers

    def _details(self) -> dict[str, Any]:
        """What the matrices, the gates and the activations on the way are like."""
        graph, way, n = self.graph, self.way, self.numbers
        on_path = [i for at in range(way.first + 1, int(self.gain.last[self.row]) + 1) for i in way.walker.positions(at)]
        slopes = _slopes(graph, on_path) if n["saturation_nats"] or not self.gain.alone else None
        return {
            "weights": _matrices(graph, list(n["weights"])) if abs(n["weights_nats"]) > 0.05 else n["weights"],
            "kept": _kept(graph, on_path),
            "slopes": slopes,
            "mean_slope": slopes["mean"] if slopes else 1.0,
            "saturated_share": slopes["saturated"] if slopes else 0.0,
            "activations": slopes["ops"] if slopes else [],
        }

    def _unreached(self) -> tuple[int, int] | None:
        """First and last step, as recorded, that no gradient reaches, where a cut is the reason."""
        whole = [c for c in self.gain.cuts if c.whole]
        if not whole or self.way.steps.axis != "t":
            return None
        cut = whole[0].t
        reached = [t for t in _steps_reached(self.graph, "step") if t < cut]
        return None if reached or cut <= 0 else (0, cut - 1)

    def _by_layer(self) -> dict[str, Any]:
        """log norms of the recorded gradient of each layer's states, over all steps, and the layer that loses it."""
        nothing: dict[str, Any] = {"by_layer": {}, "lost_layer": None}
        if self.way.steps.axis != "t" or self.graph.layers < 2 or self.way.steps.name:
            return nothing
        squares: dict[int, float] = {}
        for at in self.way.steps.at:
            for i in at:
                layer, g = self.graph.addresses[i].layer, self.graph.grads[i]
                if layer is not None and g is not None:
                    squares[layer] = squares.get(layer, 0.0) + float(np.sum(np.square(g, dtype=np.float64)))
        with np.errstate(divide="ignore"):
            logs = {layer: float(0.5 * np.log(s)) for layer, s in sorted(squares.items())}
        order = sorted(logs, reverse=True)
        drops = {lower: logs[lower] - logs[upper] for upper, lower in zip(order, order[1:], strict=False)}
        lost = [layer for layer, nats in drops.items() if nats < -log(FACTOR)]
        return {"by_layer": logs, "lost_layer": min(lost, key=lambda layer: drops[layer]) if lost else None}


# ---- small numbers


def _relative(rows: np.ndarray) -> np.ndarray:
    """Log norms relative to those at lag 0, by sequence; nan for those without a signal there, and beyond their first step."""
    with np.errstate(invalid="ignore"):
        out = rows - rows[0]
    out[:, ~np.isfinite(rows[0])] = np.nan
    return out


def _reach(profile: np.ndarray, rate: float | None) -> dict[str, Any]:
    """The lag from which on less than 1/100 is left, or more than 100 times: as measured, or at this rate."""
    there = _first(np.abs(profile) > log(FACTOR))
    return {"reach": there if there is not None else log(FACTOR) / abs(rate) if rate else None, "reached": there is not None}


def _own(rows: np.ndarray, row: int) -> np.ndarray:
    """(lags,) of one sequence, as far as it goes."""
    mine = rows[:, row]
    return mine[: int(np.flatnonzero(~np.isnan(mine)).max(initial=0)) + 1]


def _ends(rows: np.ndarray) -> np.ndarray:
    """(B,) the last lag that each sequence has."""
    there = ~np.isnan(rows)
    return np.where(there.any(axis=0), len(rows) - 1 - np.argmax(there[::-1], axis=0), 0)


def _middle(rows: np.ndarray) -> int:
    """The sequence whose rate lies in the middle of the batch; of an even number the lower one."""
    ends = _ends(rows)
    rates = np.array([rows[e, b] / max(e, 1) for b, e in enumerate(ends)])
    known = np.flatnonzero(~np.isnan(rates))
    if not known.size:
        return 0
    return int(known[np.argsort(rates[known], kind="stable")[(len(known) - 1) // 2]])


def _median(rows: np.ndarray) -> np.ndarray:
    """(lags,) median over the sequences that have the lag; of an even number the mean of the two, unless one is lost."""
    out = np.full(len(rows), np.nan)
    for lag, values in enumerate(rows):
        values = np.sort(values[~np.isnan(values)])
        if values.size:
            low, high = values[(len(values) - 1) // 2], values[len(values) // 2]
            out[lag] = low if np.isneginf(low) else (low + high) / 2
    return out[: int(np.flatnonzero(~np.isnan(out)).max(initial=0)) + 1]


def _sum(x: np.ndarray) -> float:
    return float(np.nansum(x)) if not np.isneginf(x).any() else float("-inf")


def _mean(x: np.ndarray) -> float:
    there = x[~np.isnan(x)]
    return float(there.mean()) if there.size else 0.0


def _end(rows: np.ndarray, row: int, steps: int) -> float:
    return float(rows[steps, row] - rows[0, row])


def _silent(rows: np.ndarray) -> float:
    known = rows[:, ~np.isnan(rows[0])]
    return float(np.isneginf(known).any(axis=0).mean()) if known.size else 0.0


def _first(where: np.ndarray) -> int | None:
    found = np.flatnonzero(where)
    return int(found[0]) if found.size else None


def _is_other(graph: Graph, i: int) -> bool:
    op = graph.ops[i]
    return op is not None and op.kind == "other" and op.name not in (
        "add", "sub", "mul", "div", "neg", "concatenate", "stack", "select_steps", "mask_steps", "rnn_cell"
    )  # fmt: skip


def _slopes(graph: Graph, on_path: list[int]) -> dict[str, Any] | None:
    """phi' at every unit of the activations on the way: its mean, the share that is saturated, the ops."""
    total, count, saturated, ops, largest = 0.0, 0, 0, set(), 0.0
    for i in on_path:
        op = graph.ops[i]
        if op is None or op.name not in SQUASHING:
            continue
        slope = np.abs(graph.vjp(i, np.ones(graph.shape(i)), (True,))[0])
        most = LARGEST_SLOPE.get(op.name, 1.0)
        total, count = total + float(slope.sum()), count + slope.size
        saturated += int((slope < SATURATED * most).sum())
        largest = max(largest, most)
        ops.add(op.name)
    if not count:
        return None
    return {"mean": total / count, "saturated": saturated / count, "ops": sorted(ops), "largest": largest}


def _crossed(way: Way) -> list[str]:
    """Names of the parameters whose matrices carry a signal from one step to another."""
    graph, crossed = way.graph, set()
    for n in range(way.first + 1, way.last + 1):
        order, layout = way.walker.local(n)
        for i, edges in zip(order, layout.edges, strict=False):
            if any(read is not None and min(read, default=0) < 0 for _, _, read, _ in edges):
                crossed |= {j for j in graph.inputs_of[i] if graph.roles[j] == "parameter" and len(graph.shape(j)) == 2}
    return [graph.names[j] for j in sorted(crossed)]


def _matrices(graph: Graph, names: list[str]) -> dict[str, dict[str, float] | None]:
    """Spectral norm and radius of square matrices by name; None for others, and for what would take long."""
    out: dict[str, dict[str, float] | None] = dict.fromkeys(names)
    for name in names[:8]:
        w = graph.parameters[name].value.astype(np.float64)
        if np.isfinite(w).all() and w.shape[0] == w.shape[1] <= LARGE:
            radius = float(np.abs(np.linalg.eigvals(w)).max())
            out[name] = {"spectral_norm": float(np.linalg.norm(w, 2)), "spectral_radius": radius}
    return out


# what an op that keeps a share of a state calls its gate, and where it finds it: the position among its inputs
_KEEPING = {"lstm_state": ("forget", 1), "lerp": ("update", 2)}


def _kept(graph: Graph, on_path: list[int]) -> dict[str, Any] | None:
    """Of the gates that keep a state (forget gates of an LSTM, update gates of a GRU): their names, their mean, and the
    half-life in steps on the path of the state alone, ln 2 / -mean(ln gate). None where there are none."""
    keeping = [(i, *_KEEPING[op.name]) for i in on_path if (op := graph.ops[i]) is not None and op.name in _KEEPING]
    if not keeping:
        return None
    every = np.concatenate([graph.values[graph.inputs_of[i][slot]].astype(np.float64).ravel() for i, _, slot in keeping])
    with np.errstate(divide="ignore"):
        mean_log = float(np.log(every).mean())
    half_life = log(2) / -mean_log if mean_log else float("inf")
    return {"gates": sorted({gate for _, gate, _ in keeping}), "mean": float(every.mean()), "half_life": half_life}
