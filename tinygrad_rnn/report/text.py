"""Findings as plain text: a table by lag, the split, the checks, the verdict, and the answer in short."""

from __future__ import annotations

from math import exp, inf, isfinite, log
from textwrap import fill
from typing import Any

import numpy as np

from ..experiment import Findings
from ..flow.gain import PART_NAMES

WIDTH = 80
LEGEND = (
    "E is the loss at the last character, lag counts the steps before it. Sizes of dE/dh are relative to lag 0. A term is what "
    "one step adds to dE/dW, W being the recurrent weights of layer 0: its size relative to the sum, and its share, the part "
    "of the sum that it makes (negative where it points away; shares add up to 100%). A nat is a factor of 2.72."
)


def shown_lags(n: int) -> list[int]:
    """A dozen lags at most, dense near 0, the last one included."""
    wanted = [0, 1, 2, 3, 5, 8, 12, 20, 30, 40, 50, 70, 100, 150, 200, 300, 500, 700, 1000]
    return sorted({lag for lag in wanted if lag < n - 1} | {n - 1})


def power(nats: float) -> str:
    """e ** nats in decimal notation, also where a float would underflow."""
    if not isfinite(nats):
        return "0" if nats < 0 else "inf" if nats > 0 else "nan"
    if -6 < nats < 9:
        return f"{exp(nats):.3g}"
    digits = nats / log(10)
    whole = int(np.floor(digits))
    shown = f"{10 ** (digits - whole):.1f}"
    return f"1.0e{whole + 1:+03d}" if shown == "10.0" else f"{shown}e{whole:+03d}"


def wrapped(lines: list[str], hang: str = "    ") -> str:
    """Paragraphs, indented, that fit a terminal."""
    return "\n".join(fill(line, WIDTH, initial_indent="  ", subsequent_indent=hang) for line in lines)


def findings(title: str, f: Findings) -> str:
    """One examination: what stands before and after training."""
    parts = [f"{title}\n{'=' * len(title)}"]
    if f.verdict.kind != "not finite":
        parts += [_table(f), wrapped([_split(f), _hidden(f), _depth(f), _identity(f), _untied(f)])]
    else:
        parts.append(wrapped([_depth(f), _identity(f)]))
    verdict = [f"{f.verdict.kind.upper()}: {f.verdict.cause}."]
    if f.verdict.advice:
        verdict.append(f"Try first: {f.verdict.advice}.")
    return "\n\n".join([*parts, wrapped(verdict, hang="  ")]) + "\n"


def _table(f: Findings) -> str:
    lines = [
        "   lag   |dE/dh|    of untied MLPs of equal depth      size of      share",
        "         of RNN     median    (5 % .. 95 %)            the term     of dE/dW",
    ]
    by_lag = dict(zip(f.terms.lags.tolist(), range(len(f.terms)), strict=True))
    size = np.linalg.norm(f.terms.total.astype(np.float64))
    for lag in shown_lags(len(f.gain.lags)):
        low, mid, high = (power(f.untied_band(q)[lag]) for q in (0.05, 0.5, 0.95))
        i = by_lag.get(lag)
        term = share = "-"
        if i is not None and f.terms.norms[i] > 0:
            term, share = power(log(f.terms.norms[i] / size)), f"{f.terms.shares[i] + 0.0:.1%}".replace("-0.0%", "0.0%")
        band = f"({low} .. {high})"
        lines.append(f"  {lag:>4}   {power(f.gain.log_gain[lag]):<9}  {mid:<8}  {band:<22}   {term:<9}  {share:>8}")
    return "\n".join(lines)


def _split(f: Findings) -> str:
    g, steps = f.gain, len(f.gain.lags) - 1
    if g.total == -inf:
        return f"Split: over {steps} steps the gradient is lost entirely."
    parts = [f"{name} {nats:+.2f}" for name, nats in g.parts().items()]
    way = f"{'fades' if g.total < 0 else 'grows'} by {abs(g.total):.2f} nats" if abs(g.total) > 5e-3 else "keeps its size"
    return f"Split: over {steps} steps the gradient {way}: {', '.join(parts)}."


def _near(f: Findings) -> tuple[int, float]:
    """The last fifth of the steps, at least one, and the share of dE/dW that they make."""
    near = max(len(f.gain.lags) // 5, 1)
    return near, float(f.terms.shares[(f.terms.lags >= 0) & (f.terms.lags < near)].sum())


def _hidden(f: Findings) -> str:
    (near, share), last = _near(f), len(f.gain.lags) - 1
    horizon, reach = f.terms.horizon(), int(f.terms.lags[f.terms.norms > 0].max(initial=0))
    first = f"the {near} lags from 0 make" if near > 1 else "lag 0 alone makes"
    text = f"The sum: {first} {share:.1%} of dE/dW; "
    text += f"beyond lag {horizon} a term is below its rounding." if horizon < reach else "no term is below its rounding."
    return text + (f" (At lag {last}, W multiplies the zero initial state.)" if reach == last - 1 else "")


def _depth(f: Findings) -> str:
    n = f.path.count
    count = "one path" if n == 1 else f"{n:,} paths" if n < 10**6 else f"about 2^{n.bit_length() - 1} paths"
    return f"Depth: the first character reaches E over {count}; the longest crosses {f.path.longest} matrix products."


def _identity(f: Findings) -> str:
    s = f.same
    if not s.identical:
        return f"Identity: the RNN and its unrolled MLP DIFFER: {s.difference}."
    return (
        f"Identity: the RNN and its unrolled MLP are the same graph ({s.nodes[0]} nodes, {s.edges[0]} edges, "
        f"{len(s.parameters)} parameters{', tied' if s.tied else ''}); largest difference of values "
        f"{s.value_difference:g}, of gradients {s.grad_difference:g}."
    )


def _untied(f: Findings) -> str:
    ends = f.untied[:, -1] - f.untied[:, 0]
    own = "fresh weights" if f.tied is not None else "the trained entries in a random order"
    text = f"Untied: {len(ends)} MLPs of equal depth, {own} in every layer, end at {_spread(ends)}; "
    text += f"the RNN ends at {f.gain.total:+.2f}."
    if f.tied is not None:
        text += f" {len(f.tied)} RNNs with other random weights end at {_spread(f.tied[:, -1] - f.tied[:, 0])}."
    return text


def _spread(totals: np.ndarray) -> str:
    kept = totals[np.isfinite(totals)]
    if not kept.size:
        return "nothing (the signal is lost entirely)"
    lost = f", {len(totals) - len(kept)} lost entirely" if len(kept) < len(totals) else ""
    return f"{np.median(kept):+.2f} nats (standard deviation {kept.std():.2f}{lost})"


# ---- the answer in short: every sentence says what the numbers of this run say, or is left out


def answer(before: Findings, after: Findings | None) -> str:
    """The founding question, answered with this run's numbers."""
    last = after or before
    lines = [_is_a_deep_mlp(before), _suffers_more(before), _trained(after), _unseen(last)]
    if last.verdict.advice:
        lines.append(f"What to do? Try first: {last.verdict.advice}.")
    return "In short\n========\n\n" + wrapped([line for line in lines if line]) + "\n"


def _is_a_deep_mlp(f: Findings) -> str:
    if not f.same.identical or f.same.value_difference or f.same.grad_difference:
        return f"Is an RNN a deep MLP? Not here: {f.same.difference or 'the numbers differ'}."
    return (
        f"Is an RNN a deep MLP? Yes: unrolled over {len(f.gain.lags)} characters it is one, {f.path.longest} matrix products "
        "deep, with equal values and gradients to the last bit."
    )


def _suffers_more(f: Findings) -> str:
    if f.tied is None:
        return ""
    tied, untied = (d[:, -1] - d[:, 0] for d in (f.tied, f.untied))
    if not (np.isfinite(tied).all() and np.isfinite(untied).all()):
        return ""
    gap, noise = np.median(tied) - np.median(untied), max(tied.std(), untied.std())
    middle = f"{np.median(tied):+.1f} nats against {np.median(untied):+.1f}, medians of {len(tied)} random draws"
    if noise < 0.05:
        return f"Does it suffer more than an untied MLP of that depth? Not with these weights: {middle}, and no draw differs."
    more = "Hardly, for a typical draw" if abs(gap) < 2 * noise else "Less, typically" if gap > 0 else "Yes"
    text = f"Does it suffer more than an untied MLP of that depth? {more}: {middle}."
    if tied.std() > 1.5 * untied.std():
        text += (
            " But one matrix serves every step, so its luck adds up instead of averaging out: the standard deviation over the "
            f"draws is {tied.std():.2f} nats against {untied.std():.2f}."
        )
    return text


def _trained(f: Findings | None) -> str:
    if f is None or not isfinite(f.gain.total):
        return ""
    ends = f.untied[:, -1] - f.untied[:, 0]
    text = (
        f"And after training? The gradient ends at {f.gain.total:+.1f} nats (saturation {f.gain.saturation.sum():+.1f}, "
        f"weights {f.gain.weights.sum():+.1f})"
    )
    if np.isfinite(ends).all():
        gap = f.gain.total - np.median(ends)
        more = (
            f"{abs(gap):.1f} nats {'less' if gap < 0 else 'more'} is left than"
            if abs(gap) > 2 * ends.std()
            else "about as much as"
        )
        text += f": {more} in MLPs with its trained entries in another order in every layer ({np.median(ends):+.1f})"
    return text + "."


def _unseen(f: Findings) -> str:
    near, share = _near(f)
    if f.verdict.kind != "vanishing" or share < 0.5:
        return ""
    terms = f"{near} terms make" if near > 1 else "term makes"
    return f"Why does nobody see it? dE/dW is a sum over time, and its last {terms} {share:.0%} of it."


# ---- as numbers


def as_json(f: Findings) -> dict[str, Any]:
    """Everything the text rests on, as plain numbers; what is not finite becomes None."""
    quantiles = {f"q{int(100 * q):02d}": _numbers(f.untied_band(q)) for q in (0.05, 0.5, 0.95)}
    return {
        "loss": _number(f.loss),
        "lags": f.gain.lags.tolist(),
        "log_norm_by_lag": _numbers(f.gain.log_norm),
        "split": {part: _numbers(getattr(f.gain, part)) for part in PART_NAMES},
        "total_nats": _number(f.gain.total),
        "rate": _number(f.gain.rate),
        "half_life": _number(f.gain.half_life),
        "terms": {
            "lags": f.terms.lags.tolist(),
            "norms": _numbers(f.terms.norms),
            "shares": _numbers(f.terms.shares),
            "norm_of_sum": _number(float(np.linalg.norm(f.terms.total.astype(np.float64)))),
            "horizon": f.terms.horizon(),
        },
        "identity": {
            "identical": f.same.identical,
            "difference": f.same.difference,
            "nodes": list(f.same.nodes),
            "edges": list(f.same.edges),
            "tied": f.same.tied,
            "value_difference": _number(f.same.value_difference),
            "grad_difference": _number(f.same.grad_difference),
        },
        "untied_log_gain_by_lag": quantiles,
        "untied_total_nats": _numbers(f.untied[:, -1] - f.untied[:, 0]),
        "tied_total_nats": None if f.tied is None else _numbers(f.tied[:, -1] - f.tied[:, 0]),
        "path": {"count": str(f.path.count), "longest": f.path.longest, "shortest": f.path.shortest},
        "verdict": {"kind": f.verdict.kind, "cause": f.verdict.cause, "advice": f.verdict.advice},
    }


def _number(x: float) -> float | None:
    return float(x) if isfinite(x) else None


def _numbers(x: np.ndarray) -> list[float | None]:
    return [_number(float(v)) for v in x]
