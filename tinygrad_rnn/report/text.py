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
    return f"{10 ** (digits - whole):.1f}e{whole:+03d}"


def findings(title: str, f: Findings) -> str:
    """One examination: what stands before and after training."""
    steps = len(f.gain.lags)
    untied = f.untied - f.untied[:, :1]
    size = np.linalg.norm(f.terms.total.astype(np.float64)) or 1.0
    lines = [title, "=" * len(title), ""]
    lines.append("  lag   |dE/dh| of the RNN   of untied MLPs, median (5 % .. 95 %)    term of dE/dW_hh   its share")
    lines.append("        relative to lag 0    relative to their lag 0                  relative to the sum")
    by_lag = dict(zip(f.terms.lags.tolist(), range(len(f.terms)), strict=True))
    for lag in shown_lags(steps):
        low, mid, high = (np.quantile(untied[:, lag], q) for q in (0.05, 0.5, 0.95))
        i = by_lag.get(lag)
        term, share = ("-", "-") if i is None else (f"{f.terms.norms[i] / size:.2g}", f"{f.terms.shares[i]:.2%}")
        lines.append(
            f"  {lag:>3}   {power(f.gain.log_gain[lag]):<19}  {power(mid):<9}({power(low)} .. {power(high)})".ljust(69)
            + f"{term:<20}{share:>8}"
        )
    lines += [""] + [fill(line, WIDTH, initial_indent="  ", subsequent_indent="    ") for line in _sentences(f, untied, steps)]
    lines += ["", fill(f"{f.verdict.kind.upper()}: {f.verdict.cause}.", WIDTH, initial_indent="  ", subsequent_indent="  ")]
    if f.verdict.advice:
        lines.append(fill(f"Try first: {f.verdict.advice}.", WIDTH, initial_indent="  ", subsequent_indent="  "))
    return "\n".join(lines) + "\n"


def _sentences(f: Findings, untied: np.ndarray, steps: int) -> list[str]:
    g, out = f.gain, []
    way = "fades" if g.total < 0 else "grows"
    out.append(
        f"Split: over {steps - 1} steps the gradient {way} by {abs(g.total):.2f} nats; saturation {g.saturation.sum():+.2f}, "
        f"weights {g.weights.sum():+.2f}" + (f", other {g.other.sum():+.2f}" if abs(g.other.sum()) > 5e-3 else "") + "."
    )
    near = f.terms.lags < max(steps // 5, 1)
    horizon, reach = f.terms.horizon(), int(f.terms.lags[f.terms.norms > 0].max(initial=0))
    end = (
        f"beyond lag {horizon} a term is smaller than the rounding of the sum"
        if horizon < reach
        else "no term is below the rounding of the sum"
    )
    out.append(
        f"Hidden by the sum: lags 0 to {max(steps // 5, 1) - 1} make {f.terms.shares[near].sum():.1%} of dE/dW_hh; {end}."
        + (f" (At lag {reach + 1}, W_hh multiplies the zero initial state.)" if reach == steps - 2 else "")
    )
    out.append(
        f"Depth: the first character reaches E_T over {_count(f.path.count)}; the longest crosses "
        f"{f.path.longest} matrix products."
    )
    s = f.same
    if s.identical:
        out.append(
            f"Identity: the RNN and its unrolled MLP are the same graph ({s.nodes[0]} nodes, {s.edges[0]} edges, "
            f"{len(s.parameters)} parameters, {'tied' if s.tied else 'untied'}); largest difference of values "
            f"{s.value_difference:g}, of gradients {s.grad_difference:g}."
        )
    else:
        out.append(f"Identity: the RNN and its unrolled MLP DIFFER: {s.difference}.")
    last = untied[:, -1]
    own = "fresh weights" if f.tied is not None else "the trained entries in a random order"
    text = (
        f"Untied: {len(last)} MLPs of equal depth, {own} in every layer, end at {np.median(last):+.2f} nats "
        f"(standard deviation {last.std(ddof=1):.2f}); the RNN ends at {g.total:+.2f}."
    )
    if f.tied is not None:
        ends = f.tied[:, -1] - f.tied[:, 0]
        text += (
            f" RNNs with other random weights end at {np.median(ends):+.2f} (standard deviation {ends.std(ddof=1):.2f}): "
            f"tying the weights multiplies the spread by {ends.std(ddof=1) / max(last.std(ddof=1), 1e-300):.1f}."
        )
    out.append(text)
    return out


def _count(n: int) -> str:
    return (
        "one path"
        if n == 1
        else f"{n} paths"
        if n < 10**6
        else f"{float(n):.1e} paths"
        if n < 10**300
        else f"{n.bit_length()}-bit many paths"
    )


def as_json(f: Findings) -> dict[str, Any]:
    """Everything the text rests on, as plain numbers; what is not finite becomes None."""
    quantiles = {f"q{int(100 * q):02d}": _numbers(np.quantile(f.untied, q, axis=0)) for q in (0.05, 0.5, 0.95)}
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
        "untied_log_norm_by_lag": quantiles,
        "untied_total_nats": _numbers(f.untied[:, -1] - f.untied[:, 0]),
        "tied_total_nats": None if f.tied is None else _numbers(f.tied[:, -1] - f.tied[:, 0]),
        "path": {"count": str(f.path.count), "longest": f.path.longest, "shortest": f.path.shortest},
        "verdict": {"kind": f.verdict.kind, "cause": f.verdict.cause, "advice": f.verdict.advice},
    }


def _number(x: float) -> float | None:
    return float(x) if isfinite(x) else None


def _numbers(x: np.ndarray) -> list[float | None]:
    return [_number(float(v)) for v in x]
