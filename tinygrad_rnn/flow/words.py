"""Verdicts as sentences. Every sentence says what the numbers say, or is left out; a nat is a factor of e."""

from __future__ import annotations

from math import exp, isfinite, log
from typing import Any

import numpy as np

from ..graph import NodeView
from .steps import Steps

Numbers = dict[str, Any]
FACTOR = 100.0
ENOUGH = 0.05  # nats or shares below this are not spoken of


def cause(n: Numbers) -> str:
    """The sentences of a verdict, from its numbers."""
    by_share = n["kind"] not in ("healthy", "fading") and n["lost_from_lag"] is None and n["grown_from_lag"] is None
    first, last = (_for_whom(n), []) if by_share else ([], _for_whom(n))  # what the verdict rests on comes first
    lines = [*_cuts(n), *_depth(n), *first, *_beside(n), *_knocked_out(n), *_lead(n), *_split(n), *_place(n), *last]
    return " ".join([*lines, *_directions(n), *_state(n)])


# ---- numbers in words


def count(number: int, unit: str) -> str:
    return f"{number} {unit}" if number == 1 else f"{number} {unit}s"


def nats(x: float) -> str:
    """The size of a change, without its sign."""
    x = abs(x)
    shown = f"{x:.1f}" if x >= 0.95 else f"{x:.2f}"
    return f"{shown} nat" if shown == "1.0" else f"{shown} nats"


def times(x: float) -> str:
    """A factor e^x."""
    if not isfinite(x):
        return "0" if x < 0 else "without bound"
    return f"{exp(x):.2g}" if -6.9 < x < 6.9 else scientific(x)


def scientific(nats: float) -> str:
    """e ** nats with two digits and an exponent, also where a float would underflow or overflow; nats are finite."""
    digits = nats / log(10)
    whole = int(np.floor(digits))
    shown = f"{10 ** (digits - whole):.1f}"
    return f"1.0e{whole + 1:+03d}" if shown == "10.0" else f"{shown}e{whole:+03d}"


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _span(n: Numbers) -> str:
    return f"Over {count(n['steps'], n['unit'])} back"


def _changes(x: float) -> str:
    return f"loses {nats(x)}" if x < 0 else f"gains {nats(x)}"


# ---- what is cut, and where the depth loses it


def _cuts(n: Numbers) -> list[str]:
    out = []
    unit = "t" if n["axis"] == "t" else "layer"
    whole = [cut for cut in n["cuts"] if cut["whole"]]
    others = [cut for cut in n["cuts"] if not cut["whole"]]
    for cut in [*whole[:1], *others[:2]]:
        how = {"detach": "detach", "no_grad": "no_grad", "copy": "a copy of the numbers"}[cut["op"]]
        if cut["whole"]:
            out.append(f"No gradient passes back from {unit} = {cut['t']}: it is cut by {how}, after {cut['label']}.")
        else:
            where = f"at {unit} = {cut['t']}" if cut["times"] == 1 else f"at {count(cut['times'], n['unit'])}"
            out.append(f"One path is cut {where} by {how}, after {cut['label']}; other paths go on.")
    if len(whole) > 1:
        more = len(whole) - 1
        out.append(f"It is cut at {count(more, 'earlier ' + n['unit'])}, too.")
    if n["reached_by_none"]:
        first, last = n["reached_by_none"]
        steps = f"Step {last} gets" if first == last else f"Steps {first} to {last} get"
        out.append(f"{steps} no gradient at all.")
    if n["cuts"] and n["cuts"][0]["whole"]:
        out.append("What follows is about the steps after it.")
    return out


def _depth(n: Numbers) -> list[str]:
    layer = n["lost_layer"]
    if layer is None:
        return []
    logs = n["by_layer"]
    above = min(other for other in logs if other > layer)
    return [
        f"Through depth: the gradient at layer {layer} is {times(logs[layer] - logs[above])} times that at layer {above}, "
        "all steps together."
    ]


# ---- how much


def _knocked_out(n: Numbers) -> list[str]:
    """The way with one kind of path cut out, where a net has both."""
    if not n["alone"]:
        return []
    carry, both = n["alone"]["carry"], n["total_nats"]
    paths = f"the paths through {_names(n)}"
    if n["shares"]["recurrent"] < ENOUGH and abs(both - carry) < ENOUGH:
        return [f"The carry (paths that cross no weights) {_change(carry)}; {paths} change nothing."]
    if not isfinite(carry):
        return [f"{_span(n)} nothing comes through on the carry alone; with {paths} the gradient {_change(both)}."]
    difference = both - carry
    does = "bring back" if difference > 0 and carry < 0 else "add" if difference > 0 else "take"
    return [
        f"The carry alone (paths that cross no weights) {_change(carry)} over {count(n['steps'], n['unit'])}. "
        f"{paths[0].upper()}{paths[1:]} {does} {nats(difference)}."
    ]


def _change(x: float) -> str:
    if abs(x) < 5e-3:
        return "keeps its size"
    return _changes(x) if isfinite(x) else "loses everything"


def _names(n: Numbers) -> str:
    names = list(n["weights"])
    return _listed(names) if 0 < len(names) <= 2 else "weights"


def _lead(n: Numbers) -> list[str]:
    """Rate, half-life and reach where one rate describes the profile; the whole change otherwise."""
    unit, total = n["unit"], n["total_nats"]
    alone = f"the signal from {unit} to {unit}" if n["past"] else f"the signal of the last {unit} alone"
    who = "the gradient" if n["same"] else alone
    if not isfinite(total):
        if n["path_silent_share"] < 1:
            return [f"{_span(n)} nothing is left of {who} in the median one of {n['sequences']} {_rows(n)}."]
        return [f"{_span(n)} nothing is left of {who}: it becomes exactly 0."]
    out = []
    if n["same"] and n["even"] and n["steps"] > 2 and abs(n["rate"]) > 5e-4 and abs(total) > 0.1:
        way, half = ("loses", "halves") if n["rate"] < 0 else ("gains", "doubles")
        out.append(
            f"Each {unit} back {who} {way} {_small(n['rate'])}, a factor of {_factor(n['rate'])}: it {half} every "
            f"{_every(log(2) / abs(n['rate']), unit)}."
        )
    if n["same"] and n["reach"] is not None and n["steps"] > 2 and abs(total) > 0.1:
        out.append(_reach(n))
    out.append(f"{_span(n)} {_left(total, who, n['sequences'], _rows(n))}.")
    return out


def _reach(n: Numbers) -> str:
    """How far the gradient reaches: as measured, or at the measured rate."""
    lost = n["total_nats"] < 0
    if n["reached"]:
        is_left = "less than 1/100 is left" if lost else "it is more than 100 times as large"
        return f"From lag {n['reach']} on {is_left}; this net was given {n['lags']}."
    would = "1/100 would be left" if lost else "it would be 100 times as large"
    return f"At this rate {would} after {_plural(n['reach'], n['unit'])}; this net was given {n['lags']}."


def _left(total: float, who: str, sequences: int, rows: str = "sequences") -> str:
    """What is left of a gradient, or how it has grown."""
    middle = f" in the median one of {sequences} {rows}" if sequences > 1 else ""
    if abs(total) < 0.05:
        return f"{who} keeps its size{middle} ({total:+.2f} nats)"
    if total < 0:
        return f"{times(total)} of {who} is left{middle} ({total:+.1f} nats)"
    return f"{who} grows to {times(total)} times its size{middle} ({total:+.1f} nats)"


def _small(x: float) -> str:
    return f"{abs(x):.2f} nats" if abs(x) >= 0.095 else f"{abs(x):.2g} nats"


def _factor(rate: float) -> str:
    return f"{exp(rate):.3g}" if abs(rate) < 0.1 else f"{exp(rate):.2g}"


def _plural(x: float, unit: str) -> str:
    shown = _few(x)
    return f"{shown} {unit}" if shown == "1" else f"{shown} {unit}s"


def _every(x: float, unit: str) -> str:
    shown = _few(x)
    return unit if shown == "1" else f"{shown} {unit}s"


def _few(x: float) -> str:
    return f"{x:.0f}" if x >= 99.5 else f"{x:.2g}"


PART_WORDS = {
    "weights": "the weights",
    "saturation": "the activations",
    "gates": "the gates",
    "constants": "constant factors (leak, decay, scale)",
    "carry": "the carry",
    "recurrent": "the paths through weights",
    "sums": "parallel paths together",
}


def _split(n: Numbers) -> list[str]:
    if not isfinite(n["total_nats"]):
        return []
    if n["alone"] and n["shares"]["carry"] >= 0.5 and isfinite(n["alone"]["carry"]):
        told = _told({part: x for part, x in n["carry_parts"].items() if part != "carry"}, n)
        return [f"On the carry {told}."] if told else []
    told = _told({part: n[f"{part}_nats"] for part in (*PART_WORDS, "other")}, n)
    return [f"{told[0].upper()}{told[1:]}."] if told else []


def _told(parts: dict[str, float], n: Numbers) -> str:
    """Who takes how many nats, and who gives some, the largest first."""
    names = PART_WORDS | {"other": _others(n)}
    shown = sorted(((part, x) for part, x in parts.items() if abs(x) > ENOUGH), key=lambda p: -abs(p[1]))
    said = []
    for verb, items in (("take", [p for p in shown if p[1] < 0]), ("give", [p for p in shown if p[1] > 0])):
        if items:
            (part, x), rest = items[0], items[1:]
            first = f"{names[part]} {verb}{'s' if part == 'carry' else ''} {nats(x)}"
            said.append(_listed([first, *[f"{names[other]} {nats(y)}" for other, y in rest]]))
    return "; ".join(said)


def _others(n: Numbers) -> str:
    ops = n["other_ops"]
    return f"other ops ({', '.join(ops[:3])})" if ops else "other ops"


# ---- where, beside what, for whom


def _place(n: Numbers) -> list[str]:
    place, unit = n["place"], n["unit"]
    at = "t" if n["axis"] == "t" else "layer"
    who = "the gradient" if n["same"] else "the gradient of all losses"
    if place.where == "one step":
        if not isfinite(place.nats[0]):
            return [f"{who.capitalize()} becomes exactly 0 from {at} = {n['at_t']} to the {unit} before."]
        return [f"{who.capitalize()} {_changes(place.nats[0])} at one {unit}: from {at} = {n['at_t']} to the {unit} before."]
    if place.where == "read-out" and not isfinite(place.nats[0]):
        return [f"{who.capitalize()} becomes exactly 0 at the first {unit} back, {at} = {n['at_t']}, next to the loss."]
    if place.where == "read-out":
        return [f"{who.capitalize()} {_changes(place.nats[0])} at the first {unit} back, {at} = {n['at_t']}, next to the loss."]
    if place.where == "two phases":
        first, second = place.nats
        return [f"It goes in two phases: {_rate(first)} nats a {unit} back to {at} = {n['at_t']}, {_rate(second)} before that."]
    if place.where == "unevenly" and place.nats:
        first, second = place.nats
        return [f"It goes unevenly: {_rate(first)} nats in the first half of the {unit}s back, {_rate(second)} in the second."]
    return []


def _rows(n: Numbers) -> str:
    return "sequences" if n["axis"] == "t" else "rows of the batch"


def _rate(x: float) -> str:
    return f"{x:+.2g}" if abs(x) > 5e-4 else "0"


def _beside(n: Numbers) -> list[str]:
    """The gradient of all losses, where the last step's own signal is another quantity."""
    if n["same"]:
        return []
    unit, left = n["unit"], n["left"]
    if not isfinite(left):
        return [f"{_span(n)} nothing is left of the gradient, all losses and paths together."]
    return [
        f"{_span(n)} {_left(left, 'the gradient of all losses and paths', 0)}.",
        f"Some paths lead past a {unit}. Beside it, the signal that goes from {unit} to {unit}:"
        if n["past"]
        else f"Beside it, the signal of the last {unit} alone:",
    ]


def _for_whom(n: Numbers) -> list[str]:
    whole, out = n["sequences"], []
    if whole < 2:
        return []

    def some(share: float) -> str:
        return f"{round(share * whole)} of {whole} {_rows(n)}"

    if n["unreached_share"]:
        out.append(f"The loss reaches no state of {some(n['unreached_share'])}.")
    silent = n["silent_share"]
    if 0 < silent < 1:
        out.append(f"In {some(silent)} nothing is left.")
    for share, what in ((n["lost_share"] - silent, "falls below 1/100"), (n["grown_share"], "rises above 100 times its size")):
        if 0.5 / whole < share < 1 - 0.5 / whole:
            out.append(f"It {what} in {some(share)}.")
    return out


def _directions(n: Numbers) -> list[str]:
    """How the second of some random directions fares, where it is lost and the first is not."""
    if n["kind"] != "narrow":
        return []
    return [
        "But one direction alone survives.",
        f"{len(n['directions'])} random gradients sent back together end parallel: their second direction shrinks to "
        f"{times(n['directions'][1])} of its size.",
    ]


def _state(n: Numbers) -> list[str]:
    """What the matrices, gates and activations are like."""
    out: list[str] = []
    if n["kind"] == "healthy":
        return out
    square = {name: w for name, w in n["weights"].items() if w and n["kind"] != "narrow"}
    if n["axis"] == "t" and n["shares"]["recurrent"] > ENOUGH and "weights" in _pushing(n):
        for name, w in list(square.items())[:2]:
            out.append(f"{name} has spectral norm {w['spectral_norm']:.2f} and spectral radius {w['spectral_radius']:.2f}.")
    kept = n["kept"]
    if kept:
        half = f": alone they halve it every {_every(kept['half_life'], n['unit'])}" if isfinite(kept["half_life"]) else ""
        out.append(
            f"The {' and '.join(kept['gates'])} gates keep {kept['mean']:.2f} of a state at each {n['unit']} in the mean{half}."
        )
    slopes = n["slopes"]
    if slopes and abs(n["saturation_nats"]) > ENOUGH and not kept:
        out.append(_slope_words(slopes))
    return out


def _pushing(n: Numbers) -> set[str]:
    """Parts that change the gradient enough to be spoken of."""
    return {part for part in PART_WORDS if abs(n[f"{part}_nats"]) > ENOUGH}


def _slope_words(slopes: dict[str, Any]) -> str:
    if slopes["ops"] == ["relu"]:
        return f"{slopes['saturated']:.0%} of the relu units are off."
    off = f"; {slopes['saturated']:.0%} of the units are saturated" if slopes["saturated"] >= 0.005 else ""
    most = f"; it can be {slopes['largest']:g} at most" if slopes["largest"] < 1 else ""
    return f"The mean slope of {_listed(slopes['ops'])} is {slopes['mean']:.2f}{most}{off}."


# ---- verdicts without a way back


def one_step_only(steps: list[int], unit: str) -> str:
    """Where the loss depends on one step at the most."""
    if not steps:
        return f"The loss depends on no {unit} of this graph."
    return f"The loss depends on {unit} {steps[-1]} alone, so no gradient goes back from one {unit} to another."


def no_signal(steps: Steps) -> str:
    """Where the loss sends nothing into the states."""
    return f"The loss sends no gradient into the states of any {steps.unit}: what reaches them is exactly 0."


def cut_at_once(way: Any) -> str:
    """Where no gradient leaves the last step."""
    n = way.last
    steps = way.steps
    return f"No gradient passes back from {steps.axis} = {steps.labels[n]}, the last {steps.unit} that the loss reaches."


def not_finite(view: NodeView, what: str, array: np.ndarray, entry: tuple[int, ...], bad: int) -> str:
    """The first entry that is not finite, and how many there are."""
    value = array[entry] if entry else array[()]
    axes = {2: ("row", "unit"), 3: ("step", "row", "unit")}.get(array.ndim, tuple(f"axis {a}" for a in range(array.ndim)))
    shown = "not a number" if np.isnan(value) else "infinite"
    place = ", ".join(f"{axis} {k}" for axis, k in zip(axes, entry, strict=True))
    of = f"; {bad} of {array.size} entries are not finite" if bad > 1 else ""
    return f"The first {what} that is not finite is at {view.label}" + (f", {place}" if place else "") + f": it is {shown}{of}."
