"""A run as plain numbers, for --json: everything that the text rests on, and every statement with its own."""

from __future__ import annotations

from math import isfinite
from typing import Any

import numpy as np

from ..experiment import Course, Draws, Estimate, Findings, Run, Trained
from . import answer, text
from .said import Said


def as_json(run: Run) -> dict[str, Any]:
    """The whole run. What is not finite becomes None."""
    trained = bool(run.setting.updates)
    return {
        "before": _findings(run.before),
        **({"after": _findings(run.after)} if run.after else {}),
        "nets": [_trained(t) for t in run.trained] if trained else [_course(c) for c in run.courses],
        "remedies": {a.remedy.name: {"code": a.remedy.code, "nets": [_course(c) for c in a.courses]} for a in run.remedies},
        "said": {
            "nets": _said(answer.net_statements(run)) if trained else {},
            "remedies": _said(answer.remedy_statements(run)),
            "answer": _said(answer.answers(run)),
        },
    }


def _findings(f: Findings) -> dict[str, Any]:
    return {
        "loss": _number(f.loss),
        "lags": f.gain.lags.tolist(),
        "log_norm_by_lag": _numbers(f.gain.log_norm),
        "log_gain_by_lag": _numbers(f.gain.log_gain),
        "split": {part: _numbers(getattr(f.gain, part)) for part in PARTS if hasattr(f.gain, part)},
        "total_nats": _number(f.gain.total),
        "rate": _number(f.gain.rate),
        "half_life": _number(f.gain.half_life),
        "silent": _number(f.gain.silent),
        "terms": {
            "lags": f.terms.lags.tolist(),
            "norms": _numbers(f.terms.norms),
            "shares": _numbers(f.terms.shares),
            "norm_of_sum": _number(float(np.linalg.norm(f.terms.total.astype(np.float64)))),
            "horizon": f.terms.horizon(),
            "near": _number(f.near),
        },
        "identity": {
            "identical": f.same.identical,
            "difference": f.same.difference,
            "nodes": list(f.same.nodes),
            "edges": list(f.same.edges),
            "parameters": len(f.same.parameters),
            "tied": f.same.tied,
            "value_difference": _number(f.same.value_difference),
            "grad_difference": _number(f.same.grad_difference),
        },
        "untied": _draws(f.untied),
        "tied": _draws(f.tied),
        "path": {"count": str(f.path.count), "longest": f.path.longest, "shortest": f.path.shortest},
        "verdict": {"kind": f.verdict.kind, "cause": f.verdict.cause, "advice": f.verdict.advice},
        "said": _said(text.statements(f)),
    }


# the parts of a split that a Gain may have
PARTS = ("saturation", "weights", "gates", "constants", "other", "sums", "carry", "recurrent")


def _draws(d: Draws) -> dict[str, Any]:
    half = (d.log_gain.shape[1] - 1) // 2
    return {
        "total_nats": _numbers(d.ends),
        "half_way_nats": _numbers(d.log_gain[:, half]),
        "log_gain_by_lag": {f"q{int(100 * q):02d}": _numbers(d.band(q)) for q in (0.05, 0.5, 0.95)},
    }


def _course(c: Course) -> dict[str, Any]:
    return {
        "before": _number(c.before),
        "after": _number(c.after),
        "loss": _number(c.loss),
        "losses": [_number(x) for x in c.losses],
    }


def _trained(t: Trained) -> dict[str, Any]:
    shuffles = {"untied_total_nats": _numbers(t.untied.ends), "tied_total_nats": _numbers(t.tied.ends)}
    return {"seed": t.seed, **_course(t.course), "near": _number(t.near), **shuffles}


def _said(statements: dict[str, Said]) -> dict[str, Any]:
    def plain(x: Any) -> Any:
        if isinstance(x, Estimate):
            return {"value": _number(x.value), "standard_error": _number(x.error)}
        return _number(x) if isinstance(x, float) else x

    return {name: {"text": s.text, "numbers": {k: plain(v) for k, v in s.numbers.items()}} for name, s in statements.items()}


def _number(x: float) -> float | None:
    return float(x) if isfinite(x) else None


def _numbers(x: np.ndarray) -> list[float | None]:
    return [_number(float(v)) for v in x]
