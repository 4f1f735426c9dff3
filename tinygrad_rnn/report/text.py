"""Findings as plain text: a table by lag, the split, the checks and the verdict."""

from __future__ import annotations

from math import exp, isfinite, log
from textwrap import fill
from typing import Any

import numpy as np

from ..experiment import Findings

WIDTH = 100


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


def findings(title: str, f: Findings) -> str:
    """One examination: what stands before and after training."""
    steps = len(f.gain.lags)
    size = np.linalg.norm(f.terms.total.astype(np.float64)) or 1.0
    lines = [title, "=" * len(title), ""]
    lines.append("  lag   |dE/dh| of the RNN   of untied MLPs, median (5 % .. 95 %)    term of dE/dW_hh   its share")
    lines.append("        relative to lag 0    relative to their lag 0                  relative to the sum")
    by_lag = dict(zip(f.terms.lags.tolist(), range(len(f.terms)), strict=True))
    for lag in shown_lags(steps):
        low, mid, high = (f.untied_band(q)[lag] for q in (0.05, 0.5, 0.95))
        i = by_lag.get(lag)
        term, share = ("-", "-") if i is None else (f"{f.terms.norms[i] / size:.2g}", f"{f.terms.shares[i]:.2%}")
        lines.append(
            f"  {lag:>3}   {power(f.gain.log_gain[lag]):<19}  {power(mid):<9}({power(low)} .. {power(high)})".ljust(69)
            + f"{term:<20}{share:>8}"
        )
    lines += [""] + [fill(line, WIDTH, initial_indent="  ", subsequent_indent="    ") for line in _sentences(f)]
    lines += ["", fill(f"{f.verdict.kind.upper()}: {f.verdict.cause}.", WIDTH, initial_indent="  ", subsequent_indent="  ")]
    if f.verdict.advice:
        lines.append(fill(f"Try first: {f.verdict.advice}.", WIDTH, initial_indent="  ", subsequent_indent="  "))
    return "\n".join(lines) + "\n"


def _sentences(f: Findings) -> list[str]:
    return [_split(f), _hidden(f), _depth(f), _identity(f), _untied(f)]


def _split(f: Findings) -> str:
    g, steps = f.gain, len(f.gain.lags) - 1
    if not isfinite(g.total):
        return f"Split: over {steps} steps the gradient is lost entirely."
    parts = [f"saturation {g.saturation.sum():+.2f}", f"weights {g.weights.sum():+.2f}"]
    if abs(g.other.sum()) > 5e-3:
        parts.append(f"other {g.other.sum():+.2f}")
    way = "fades" if g.total < 0 else "grows"
    return f"Split: over {steps} steps the gradient {way} by {abs(g.total):.2f} nats: {', '.join(parts)}."


def _hidden(f: Findings) -> str:
    steps = len(f.gain.lags)
    near = max(steps // 5, 1)
    horizon, reach = f.terms.horizon(), int(f.terms.lags[f.terms.norms > 0].max(initial=0))
    text = f"Hidden by the sum: lags 0 to {near - 1} make {f.terms.shares[f.terms.lags < near].sum():.1%} of dE/dW_hh; "
    if horizon < reach:
        text += f"beyond lag {horizon} a term is smaller than the rounding of the sum."
    else:
        text += "no term is below the rounding of the sum."
    return text + (f" (At lag {steps - 1}, W_hh multiplies the zero initial state.)" if reach == steps - 2 else "")


def _depth(f: Findings) -> str:
    n = f.path.count
    count = "one path" if n == 1 else f"{n:,} paths" if n < 10**6 else f"about 2^{n.bit_length() - 1} paths"
    return f"Depth: the first character reaches E_T over {count}; the longest crosses {f.path.longest} matrix products."


def _identity(f: Findings) -> str:
    s = f.same
    if not s.identical:
        return f"Identity: the RNN and its unrolled MLP DIFFER: {s.difference}."
    return (
        f"Identity: the RNN and its unrolled MLP are the same graph ({s.nodes[0]} nodes, {s.edges[0]} edges, "
        f"{len(s.parameters)} parameters, {'tied' if s.tied else 'untied'}); largest difference of values "
        f"{s.value_difference:g}, of gradients {s.grad_difference:g}."
    )


def _untied(f: Findings) -> str:
    ends = f.untied[:, -1] - f.untied[:, 0]
    own = "fresh weights" if f.tied is not None else "the trained entries in a random order"
    text = f"Untied: {len(ends)} MLPs of equal depth, {own} in every layer, end at {_spread(ends)}; "
    text += f"the RNN ends at {f.gain.total:+.2f}."
    if f.tied is None:
        return text
    tied = f.tied[:, -1] - f.tied[:, 0]
    text += f" RNNs with other random weights end at {_spread(tied)}"
    if np.isfinite(tied).all() and np.isfinite(ends).all() and ends.std() > 1e-6:
        text += f": tying the weights multiplies the spread by {tied.std() / ends.std():.1f}"
    return text + "."


def _spread(totals: np.ndarray) -> str:
    kept = totals[np.isfinite(totals)]
    if not kept.size:
        return "nothing (the signal is lost entirely)"
    lost = f", {len(totals) - len(kept)} lost entirely" if len(kept) < len(totals) else ""
    return f"{np.median(kept):+.2f} nats (standard deviation {kept.std():.2f}{lost})"


def answer(before: Findings, after: Findings | None) -> str:
    """The founding question, answered with this run's numbers."""
    f, lines = before, []
    if f.same.identical and f.same.value_difference == f.same.grad_difference == 0:
        lines.append(
            f"Is an RNN a deep MLP? Yes: unrolled over {len(f.gain.lags)} characters it is one, {f.path.longest} matrix "
            "products deep, with equal values and gradients to the last bit."
        )
    ends = f.untied[:, -1] - f.untied[:, 0]
    if f.tied is not None and np.isfinite(f.tied).all() and np.isfinite(ends).all():
        tied = f.tied[:, -1] - f.tied[:, 0]
        lines.append(
            f"Does it suffer more than an MLP of that depth? Not on average at the start: {np.median(tied):+.1f} nats against "
            f"{np.median(ends):+.1f}. But one matrix serves every step, so its luck adds up instead of averaging out: the "
            f"standard deviation over random weights is {tied.std():.2f} nats against {ends.std():.2f}."
        )
    if after is not None and isfinite(after.gain.total):
        shuffled = after.untied[:, -1] - after.untied[:, 0]
        lines.append(
            f"And after training? It ends at {after.gain.total:+.1f} nats (saturation {after.gain.saturation.sum():+.1f}, "
            f"weights {after.gain.weights.sum():+.1f}); MLPs with its entries shuffled in every layer end at "
            f"{np.median(shuffled):+.1f}."
        )
    f = after or before
    near = max(len(f.gain.lags) // 5, 1)
    lines.append(
        f"Why does nobody see it? dL/dW is a sum over time, and its last {near} terms make "
        f"{f.terms.shares[f.terms.lags < near].sum():.0%} of it."
    )
    if f.verdict.advice:
        lines.append(f"What to do? {f.verdict.advice[0].upper()}{f.verdict.advice[1:]}.")
    wrapped = [fill(line, WIDTH, initial_indent="  ", subsequent_indent="    ") for line in lines]
    return "\n".join(["In short", "========", "", *wrapped]) + "\n"


def as_json(f: Findings) -> dict[str, Any]:
    """Everything the text rests on, as plain numbers; what is not finite becomes None."""
    quantiles = {f"q{int(100 * q):02d}": _numbers(f.untied_band(q)) for q in (0.05, 0.5, 0.95)}
    return {
        "loss": _number(f.loss),
        "lags": f.gain.lags.tolist(),
        "log_norm_by_lag": _numbers(f.gain.log_norm),
        "split": {part: _numbers(getattr(f.gain, part)) for part in ("saturation", "weights", "other")},
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
