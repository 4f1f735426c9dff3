"""The straight answer: is the gradient vanishing, healthy or exploding, by what, and what to try first."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import exp, log
from typing import Any, Literal

import numpy as np

from ..graph import Graph, NodeView
from .gain import PART_NAMES, Gain, gain
from .states import Axis, States, find_states
from .terms import grad_terms

Kind = Literal["vanishing", "healthy", "exploding", "vanishing and exploding", "no signal", "not finite"]

# A signal is called lost or exploding when it has changed by this factor anywhere along the recorded steps. A tenth of a
# per cent or a per cent per step are far from it over 50 steps; the default tanh RNN passes it after about 8.
FACTOR = 100.0
SHARE = 0.25  # of the sequences of a batch: where so many do it, the net does, whatever their mean says
SATURATED = 0.01  # a unit is saturated where phi' is below this


@dataclass(frozen=True)
class Verdict:
    """What `graph.why()` found.

    kind      "vanishing", "healthy", "exploding", "vanishing and exploding" (at different lags), "no signal" (the loss does
              not reach the last states) or "not finite"
    cause     which part does it, in words
    advice    the first thing to try; empty for a healthy net
    numbers   everything the words rest on, by name
    gain      the split itself, None where there is no signal to split"""

    kind: Kind
    cause: str
    advice: str
    numbers: dict[str, Any] = field(repr=False)
    gain: Gain | None = field(repr=False)

    def __str__(self) -> str:
        lines = [f"{self.kind.upper()}: {self.cause}"]
        if self.advice:
            lines.append(f"Try first: {self.advice}")
        return "\n".join(lines)


def why(graph: Graph, axis: Axis | None = None) -> Verdict:
    """The verdict on the backward signal along `axis` (time where there are steps, else depth).

    The signal that reaches the last states is followed to the first. It is vanishing where it falls below 1/100 of what it
    was, exploding where it rises above 100 times, on average over the batch or in a quarter of its sequences, and healthy
    otherwise, whatever the norms of the weights say."""
    bad = _not_finite(graph)
    if bad is not None:
        what = "gradient" if np.isfinite(graph.values[bad]).all() else "value"
        return Verdict(
            "not finite",
            f"the first {what} that is not finite is at {NodeView(graph, bad).label}",
            "look at that node's inputs; clip gradients, lower the learning rate, or keep logs and square roots off 0",
            {"node": NodeView(graph, bad)},
            None,
        )
    states = find_states(graph, axis)
    split = gain(graph, states=states)
    if not np.isfinite(split.log_norm[0]):
        return Verdict(
            "no signal",
            "the loss sends no gradient into the last states",
            "check that the loss depends on the last step, and that its own gradient there is not zero",
            {},
            split,
        )
    numbers = _numbers(graph, states, split)
    vanishes = numbers["lost_from_lag"] is not None or numbers["lost_share"] >= SHARE
    explodes = numbers["grown_from_lag"] is not None or numbers["grown_share"] >= SHARE
    if vanishes and explodes:
        kind: Kind = "vanishing and exploding"
    else:
        kind = "vanishing" if vanishes else "exploding" if explodes else "healthy"
    return Verdict(kind, _cause(kind, numbers), _advice(kind, numbers), numbers, split)


def _not_finite(graph: Graph) -> int | None:
    """Where it began that the loss or a cotangent is not finite: the first value, or else the first cotangent on the way
    back. Values that do neither (a mask of -inf before a softmax) are in order."""
    if not np.isfinite(graph.values[graph.root]).all():
        on_way = graph.ancestors([graph.root])
        return next(i for i in sorted(on_way) if not np.isfinite(graph.values[i]).all())
    for i in reversed(range(len(graph))):
        g = graph.grads[i]
        if g is not None and not np.isfinite(g).all():
            return i
    return None


def _numbers(graph: Graph, states: States, split: Gain) -> dict[str, Any]:
    # what the signal crosses; the first states are its end, and what made them is not crossed
    on_path = [i for i in graph.between(states.at[split.lags[-1]], states.at[0]) if i not in states.at[0]]
    slopes = [_slope(graph, i).ravel() for i in on_path if graph.kind(i) == "activation"]
    slope = np.concatenate(slopes) if slopes else np.ones(1)
    products = [i for i in on_path if graph.kind(i) == "weights"]
    crossed = {j for i in products for j in graph.inputs_of[i] if graph.roles[j] == "parameter" and graph.values[j].ndim == 2}
    recurrent = {}
    for j in sorted(crossed):
        w = graph.values[j].astype(np.float64)
        recurrent[graph.names[j]] = {
            "spectral_norm": float(np.linalg.norm(w, 2)),
            "spectral_radius": float(np.abs(np.linalg.eigvals(w)).max()) if w.shape[0] == w.shape[1] else float("nan"),
        }
    horizons = {}
    for name in recurrent:
        if graph.parameters[name].grad is not None and len(graph.outputs_of[graph.parameters[name].position]) > 1:
            horizons[name] = grad_terms(graph, name, states.axis).horizon()
    lost = np.flatnonzero(split.log_gain < -log(FACTOR))
    grown = np.flatnonzero(split.log_gain > log(FACTOR))
    curves = (split.rows - split.rows[0])[:, np.isfinite(split.rows[0])]
    return {
        "axis": states.axis,
        "steps": len(split.lags) - 1,
        "total_nats": split.total,
        "factor": exp(max(min(split.total, 700), -700)),
        "rate": split.rate,
        "half_life": split.half_life,
        "saturation_nats": float(split.saturation.sum()),
        "weights_nats": float(split.weights.sum()),
        "gates_nats": float(split.gates.sum()),
        "other_nats": float(split.other.sum()),
        "mean_slope": float(slope.mean()),
        "saturated_share": float((slope < SATURATED).mean()),
        "silent_share": split.silent,
        "lost_from_lag": int(lost[0]) if lost.size else None,
        "grown_from_lag": int(grown[0]) if grown.size else None,
        "lost_share": float((curves.min(axis=0) < -log(FACTOR)).mean()),
        "grown_share": float((curves.max(axis=0) > log(FACTOR)).mean()),
        "activations": sorted({str(NodeView(graph, i).op) for i in on_path if graph.kind(i) == "activation"}),
        "weights": recurrent,
        "horizon": horizons,
        "kept": _kept(graph, on_path),
    }


# where an op finds what share of a state a gate keeps, the position among its inputs, and whose gate that is
_KEEPING = {"lstm_state": (1, "LSTM"), "lerp": (2, "GRU")}


def _kept(graph: Graph, on_path: list[int]) -> dict[str, Any] | None:
    """Of the gates that keep a state (forget gates of an LSTM, update gates of a GRU): their mean, the half-life in steps
    along the path of the state alone, ln 2 / -mean(ln gate), and whose they are. None where there are none."""
    keeping = [(i, *_KEEPING[op.name]) for i in on_path if (op := graph.ops[i]) is not None and op.name in _KEEPING]
    if not keeping:
        return None
    every = np.concatenate([graph.values[graph.inputs_of[i][slot]].astype(np.float64).ravel() for i, slot, _ in keeping])
    with np.errstate(divide="ignore"):
        mean_log = float(np.log(every).mean())
    return {"mean": float(every.mean()), "half_life": log(2) / -mean_log if mean_log else float("inf"), "cell": keeping[0][2]}


def _slope(graph: Graph, i: int) -> np.ndarray:
    """phi' at every unit of activation node i."""
    return graph.vjp(i, np.ones(graph.values[i].shape), (True,))[0]


def _parts(numbers: dict[str, Any], sign: int) -> list[tuple[str, float]]:
    """The parts that push in the direction of `sign`, largest first, with their share of that push."""
    names = {f"{part}_nats": part for part in PART_NAMES}
    pushing = {names[k]: sign * numbers[k] for k in names if sign * numbers[k] > 0}
    whole = sum(pushing.values()) or 1.0
    return sorted(((k, v / whole) for k, v in pushing.items()), key=lambda kv: -kv[1])


def _cause(kind: Kind, n: dict[str, Any]) -> str:
    unit = "step" if n["axis"] == "t" else "layer"
    span = f"{n['steps']} {unit}s back"
    if n["silent_share"] == 1:
        return f"{span} nothing is left: the gradient becomes exactly 0{_slopes(n)}"
    parts = f"weights {n['weights_nats']:+.2f}, saturation {n['saturation_nats']:+.2f}"
    for part in ("gates", "other"):
        if abs(n[f"{part}_nats"]) > 5e-3:
            parts += f", {part} {n[f'{part}_nats']:+.2f}"
    if kind == "healthy":
        times = f"{_times(n['factor'])} what it was at the last {unit}"
        return f"{span} the gradient is {times} ({n['total_nats']:+.2f} nats; {parts})"
    if kind == "vanishing and exploding":
        if n["lost_from_lag"] is None or n["grown_from_lag"] is None:
            return (
                f"it depends on the sequence: the gradient falls below 1/{FACTOR:g} in {n['lost_share']:.0%} of them and rises "
                f"above {FACTOR:g} times in {n['grown_share']:.0%}; on average {n['total_nats']:+.2f} nats {span} ({parts})"
            )
        order = "grows" if n["grown_from_lag"] < n["lost_from_lag"] else "fades"
        return (
            f"the gradient first {order} and then does the opposite: above {FACTOR:g} times from lag {n['grown_from_lag']}, "
            f"below 1/{FACTOR:g} from lag {n['lost_from_lag']}; over {span} {n['total_nats']:+.2f} nats ({parts})"
        )
    vanishing = kind == "vanishing"
    from_lag, share = (n["lost_from_lag"], n["lost_share"]) if vanishing else (n["grown_from_lag"], n["grown_share"])
    if from_lag is None:
        end = f"{n['silent_share']:.0%} of the sequences lose it entirely" if vanishing and n["silent_share"] else parts
        return (
            f"in {share:.0%} of the sequences the gradient {'falls below 1/' if vanishing else 'rises above '}{FACTOR:g} times "
            f"what it was, though on average {span} it is {_times(n['factor'])}; {end}"
        )
    text = f"{span} the gradient is {_times(n['factor'])} what it was ({n['total_nats']:+.1f} nats); "
    text += f"it {'halves' if n['rate'] < 0 else 'doubles'} every {n['half_life']:.2g} {unit}s"
    pushing = [f"{_words(name, unit)} {share:.0%}" for name, share in _parts(n, -1 if vanishing else 1) if share >= 0.005]
    text += f". Of what makes it {'fade' if vanishing else 'grow'}: {', '.join(pushing)}"
    for name, w in n["weights"].items():
        if n["axis"] == "t":
            text += f". {name} has spectral norm {w['spectral_norm']:.2f}"
            if np.isfinite(w["spectral_radius"]):
                text += f" and radius {w['spectral_radius']:.2f}"
    if n["kept"]:
        text += (
            f". The gates keep {n['kept']['mean']:.2f} of a state a step, half of it for {n['kept']['half_life']:.2g} {unit}s"
        )
    text += _slopes(n)
    if vanishing and n["horizon"]:
        name, reach = min(n["horizon"].items(), key=lambda kv: kv[1])
        if reach < n["steps"] - 1:
            text += f"; beyond lag {reach} no term of its sum changes {name} at all"
    return text


def _slopes(n: dict[str, Any]) -> str:
    if not n["activations"]:
        return ""
    state = "off" if n["activations"] == ["relu"] else "saturated"
    return f"; mean phi' {n['mean_slope']:.2f}, {n['saturated_share']:.0%} of the units {state}"


def _words(part: str, unit: str) -> str:
    return {"weights": "the weights", "saturation": "saturation", "gates": "the gates", "other": f"the other ops of a {unit}"}[
        part
    ]


def _times(factor: float) -> str:
    return f"{factor:.2f} times" if 0.01 <= factor <= 1000 else f"{factor:.1e} times"


def _advice(kind: Kind, n: dict[str, Any]) -> str:
    recurrent, parts = n["axis"] == "t", _parts(n, -1)
    if kind == "healthy":
        return ""
    if kind in ("exploding", "vanishing and exploding"):
        if recurrent:
            return (
                'clip_grad_norm_ before every update; then start from init="orthogonal" (or scale the recurrent weights), so '
                "that their spectral norm is about 1"
            )
        return 'init="orthogonal", or smaller weights: every layer should keep the mean square of its signal'
    if "relu" in n["activations"] and (n["silent_share"] or (parts and parts[0][0] == "saturation")):
        return (
            'units that are off pass nothing back: init="identity" keeps them on while inputs are positive; smaller negative '
            "biases and a lower learning rate keep them from dying"
        )
    if n["kept"] and n["kept"]["half_life"] < n["steps"]:
        lags = f"lags of up to {n['steps']} steps"
        if n["kept"]["cell"] == "GRU":
            return f"gates that keep more: a positive bias of the update gates, up to log({n['steps']}) for {lags}"
        return f"gates that keep more: a forget bias (nn.init.forget_bias, or nn.init.chrono({max(n['steps'], 2)}) for {lags})"
    if parts and parts[0][0] == "saturation":
        if n["saturated_share"] > 0.3:
            return (
                "smaller inputs or input weights (the units are driven into saturation), or an activation that does not "
                'saturate: nonlinearity="relu" with init="identity"'
            )
        if n["weights_nats"] > log(FACTOR):
            return (
                "keep the weights small while training, or give memory a path around the non-linearity (leaky or gated units): "
                "the weights amplify and the units pay for it with saturation, which no initialisation prevents"
            )
        return "smaller weights and inputs, so that phi' stays near 1; if that costs too much, a leaky, gated or residual path"
    if recurrent and all(abs(log(max(w["spectral_norm"], 1e-300))) < 0.01 for w in n["weights"].values()):
        return "a path around the non-linearity (leaky or gated units): no recurrent matrix of this size loses less"
    if recurrent:
        return (
            'init="orthogonal": recurrent weights that keep the length of what they carry; if the task needs longer memory '
            "still, a path around the non-linearity (leaky or gated units)"
        )
    return 'init="orthogonal", or a residual path around every layer'
