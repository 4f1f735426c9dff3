"""A run as plain numbers, for --json: everything that the text rests on, and every statement with its own."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from math import isfinite
from typing import Any

import numpy as np

from ..experiment import Course, Draws, Estimate, Findings, Run, Trained, over_nets
from . import answer, text
from .said import Said


def as_json(run: Run) -> dict[str, Any]:
    """The whole run. What is not finite becomes None."""
    trained, corpus = bool(run.setting.updates), run.setting.text
    return {
        "text": {"characters": len(corpus.codes), "different": len(corpus.alphabet)},
        "parameters": run.parameters,
        "before": _findings(run.before),
        **({"after": _findings(run.after)} if run.after else {}),
        "nets": [_trained(t) for t in run.trained] if trained else [_course(c) for c in run.courses],
        "means": _means(run.courses),
        "remedies": {
            a.remedy.name: {"code": a.remedy.code, "nets": [_course(c) for c in a.courses], "means": _means(a.courses)}
            for a in run.remedies
        },
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
        "verdict": {
            "kind": f.verdict.kind,
            "cause": f.verdict.cause,
            "advice": f.verdict.advice,
            "tried": [
                {
                    "name": t.name,
                    "nats_before": _number(t.nats_before),
                    "nats_after": _number(t.nats_after),
                    "loss_before": _number(t.loss_before),
                    "loss_after": _number(t.loss_after),
                    "kind_after": t.verdict.kind,
                    "code": t.code,
                    "torch": t.torch,
                }
                for t in f.verdict.tried
            ],
            "numbers": _plain(f.verdict.numbers),
        },
        "said": _said(text.statements(f)),
    }


# the parts of a split that a Gain may have
PARTS = ("saturation", "weights", "gates", "constants", "other", "sums", "carry", "recurrent")


def _draws(d: Draws) -> dict[str, Any]:
    half = (d.log_gain.shape[1] - 1) // 2
    return {
        "total_nats": _numbers(d.ends),
        "median": _number(d.middle),
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


def _means(courses: list[Course]) -> dict[str, Any]:
    """Over the nets: of the gradients before and after training, and of the loss reached."""
    return {what: _plain(over_nets([getattr(c, what) for c in courses])) for what in ("before", "after", "loss")}


def _trained(t: Trained) -> dict[str, Any]:
    return {
        "seed": t.seed,
        **_course(t.course),
        "near": _number(t.near),
        "untied_total_nats": _numbers(t.untied.ends),
        "untied_median": _number(t.untied.middle),
        "tied_total_nats": _numbers(t.tied.ends),
        "tied_median": _number(t.tied.middle),
    }


def _said(statements: dict[str, Said]) -> dict[str, Any]:
    return {name: {"text": s.text, "numbers": _plain(s.numbers)} for name, s in statements.items()}


def _plain(x: Any) -> Any:
    """What JSON can hold: numbers, words, and lists and dictionaries of them; anything else by its name."""
    if isinstance(x, Estimate):
        return {"value": _number(x.value), "standard_error": _number(x.error)}
    if is_dataclass(x) and not isinstance(x, type):
        return _plain({field.name: getattr(x, field.name) for field in fields(x)})
    if isinstance(x, dict):
        return {str(k): _plain(v) for k, v in x.items()}
    if isinstance(x, (list, tuple, np.ndarray)):
        return [_plain(v) for v in x]
    if isinstance(x, (float, np.floating)):
        return _number(float(x))
    if isinstance(x, np.integer):
        return int(x)
    return x if x is None or isinstance(x, (bool, int, str)) else str(x)


def _number(x: float) -> float | None:
    return float(x) if isfinite(x) else None


def _numbers(x: np.ndarray) -> list[float | None]:
    return [_number(float(v)) for v in x]
