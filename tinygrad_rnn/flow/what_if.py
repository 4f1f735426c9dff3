"""The same batch through a changed copy of a model: what a change does to the gradient, to the loss, and to training."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..graph import Graph
from .copies import Call, Subject
from .gain import Gain
from .remedies import Remedy, remedies_for
from .verdict import Verdict, why
from .words import times

Train = Callable[[Any], Sequence[float]]
SHOWN = 2  # remedies that a verdict names
WORTH = 0.5  # nats by which a remedy has to be better, and a tenth of what is wrong
LOSSES = {
    "cross_entropy", "nll_loss", "mse_loss", "l1_loss", "huber_loss", "smooth_l1_loss", "binary_cross_entropy_with_logits"
}  # fmt: skip
MOST = 1000.0  # nats: a signal that is lost altogether counts as having changed by this much


@dataclass(frozen=True, eq=False)
class WhatIf:
    """One change, tried on a copy with the same batch.

    name         of the remedy, or of the function
    before       the gain of the model as it was traced; after: of the changed copy, None where it has no way back
    verdict      on the changed copy; verdict_before: on the model
    loss_before  the loss of the batch; loss_after: of the changed copy, before any training
    trained      (losses of training an unchanged copy, losses of training the changed one), None unless train= was given
    code, torch  how to write the change here, and in PyTorch; empty for a function"""

    name: str
    before: Gain
    after: Gain | None
    verdict: Verdict = field(repr=False)
    verdict_before: Verdict = field(repr=False)
    loss_before: float = 0.0
    loss_after: float = 0.0
    trained: tuple[np.ndarray, np.ndarray] | None = field(default=None, repr=False)
    code: str = field(default="", repr=False)
    torch: str = field(default="", repr=False)

    @property
    def nats_before(self) -> float:
        """Nats from the last step to the first of the gradient that the verdict is on, in the middle of the batch."""
        return _left(self.verdict_before)

    @property
    def nats_after(self) -> float:
        return _left(self.verdict)

    def __repr__(self) -> str:
        return f"<WhatIf {self}>"

    def __str__(self) -> str:
        before, after = _nats(self.nats_before), _nats(self.nats_after)
        if before.endswith(" nats") and after.endswith(" nats"):
            before = before.removesuffix(" nats")
        factor = f" (a factor of {times(self.nats_after)})" if np.isfinite(self.nats_after) else ""
        text = f"{self.name}: {before} -> {after}{factor}, loss {self.loss_before:.4g} -> {self.loss_after:.4g}"
        if self.trained is not None:
            ends = [_end(losses) for losses in self.trained]
            text += f"; after {_updates(len(self.trained[0]))} {ends[0]:.4g} without it, {ends[1]:.4g} with it"
        return text


def _left(verdict: Verdict) -> float:
    n = verdict.numbers
    return n["total_nats" if n["same"] else "left"] if "same" in n else float("nan")


def _nats(x: float) -> str:
    return f"{x:+.1f} nats" if np.isfinite(x) else "nothing left" if x < 0 else "not finite"


def _updates(count: int) -> str:
    return "1 update" if count == 1 else f"{count} updates"


def _end(losses: np.ndarray) -> float:
    """The mean of the last tenth of the losses."""
    return float(np.mean(losses[-max(len(losses) // 10, 1) :]))


def what_if(graph: Graph, call: Call | None, trace: Callable, change: Any, train: Train | None = None) -> WhatIf:
    """Try one change. See Trace.what_if."""
    verdict = why(graph)
    if call is None:
        raise ValueError(
            "what_if: this graph was not made by tr.trace(model, ...), so there is no model to copy; trace the model"
        )
    if verdict.gain is None:
        raise ValueError(f"what_if: there is no way back to compare, {verdict.kind}: {verdict.cause}")
    remedy = _chosen(graph, call, verdict, change)
    found = tried(graph, call, trace, verdict, remedy)
    if train is None:
        return found
    losses = []
    for changed in (False, True):
        subject = Subject(graph, call)
        model = subject.model
        if changed:
            made = remedy.apply(subject)
            model = made if _is_model(made) else model
        told = train(model)
        losses.append(np.asarray([] if told is None else told, np.float64).reshape(-1))
    if not all(len(x) for x in losses):
        raise ValueError("what_if: train(model) must return the losses of its updates, got none")
    return WhatIf(**{**vars(found), "trained": (losses[0], losses[1])})


def _is_model(x: Any) -> bool:
    if x is None or callable(x) or isinstance(x, (bool, list, tuple)):  # what a lambda leaves behind
        return callable(x)
    raise TypeError(f"what_if: a change returns None or another model, which can be called; got {type(x).__name__}")


def _chosen(graph: Graph, call: Call, verdict: Verdict, change: Any) -> Remedy:
    if callable(change):
        name = getattr(change, "__name__", type(change).__name__)
        return Remedy(name, lambda subject: change(subject.model), "", "")
    known = remedies(graph, call, verdict)
    for remedy in known:
        if remedy.name == change:
            return remedy
    raise ValueError(
        f"what_if: this net has no remedy {change!r}; it has {', '.join(repr(r.name) for r in known) or 'none'}, or pass a "
        "function that changes the copy of the model it is given"
    )


def remedies(graph: Graph, call: Call, verdict: Verdict) -> list[Remedy]:
    """The remedies that this net can have."""
    if verdict.gain is None:
        return []
    ways = [v.gain.steps for v in verdict.parts.values() if v.gain is not None] or [verdict.gain.steps]
    return remedies_for(graph, ways, verdict.kind, Subject(graph, call))


def tried(graph: Graph, call: Call, trace: Callable, verdict: Verdict, remedy: Remedy) -> WhatIf:
    """One remedy applied to a copy, and the copy traced with the same batch."""
    subject = Subject(graph, call)
    made = remedy.apply(subject)
    model = made if _is_model(made) else subject.model
    after = trace(model, *subject.inputs, loss=subject.loss, target=subject.target)
    assert verdict.gain is not None
    try:
        found = why(after, verdict.gain.axis, details=False)
    except ValueError as error:
        found = Verdict("no signal", str(error), "", {}, None)
    if found.parts and verdict.gain.steps.name in found.parts:  # the direction that the verdict is on
        found = replace(found.parts[verdict.gain.steps.name], parts=found.parts)
    return WhatIf(
        remedy.name,
        verdict.gain,
        found.gain,
        found,
        verdict,
        float(graph.values[graph.root]),
        float(after.values[after.root]),
        None,
        remedy.code,
        remedy.torch,
    )


# ---- advice


def sickness(verdict: Verdict) -> float:
    """How far a gradient is from keeping its size, in nats: the largest change over the lags, mean over the sequences; of a net
    in which one direction alone survives, what the second loses."""
    if verdict.parts:
        return max(sickness(replace(part, parts={})) for part in verdict.parts.values())
    if verdict.gain is None:
        return float("inf")
    rows = verdict.gain.total_rows
    with np.errstate(invalid="ignore"):
        change = np.abs(rows - rows[0])
    change[:, ~np.isfinite(rows[0])] = np.nan
    known = ~np.isnan(change[0])
    if not known.any():
        return MOST
    worst = float(np.minimum(np.nanmax(change[:, known], axis=0), MOST).mean())
    kept = verdict.numbers.get("directions") or []
    return max(worst, -kept[1]) if len(kept) > 1 else worst


def advice_for(graph: Graph, call: Call | None, trace: Callable, verdict: Verdict) -> tuple[str, tuple[WhatIf, ...]]:
    """What was tried and helped, in words, and everything that was tried, the best first."""
    if call is None or verdict.part == "cut" or verdict.gain is None:
        return "", ()
    try:
        known = remedies(graph, call, verdict)
    except ValueError:  # a model that cannot be copied
        return "", ()
    ill = sickness(verdict)
    trials = []
    for remedy in known:
        try:
            with np.errstate(all="ignore"):
                trials.append(tried(graph, call, trace, verdict, remedy))
        except (TypeError, ValueError, RuntimeError, AttributeError):
            continue  # this net cannot have it: a layer that changes the shape cannot have a path around it
    trials.sort(key=lambda trial: sickness(trial.verdict))
    is_loss = _is_loss(graph)
    better = [trial for trial in trials if _is_better(trial, ill, is_loss)]
    return _told(better[:SHOWN], len(trials), is_loss), tuple(trials)


def _is_better(trial: WhatIf, ill: float, is_loss: bool) -> bool:
    if trial.after is None or not np.isfinite(trial.loss_after) or trial.verdict.kind in ("not finite", "no signal"):
        return False
    changes = [(trial.before.total, trial.after.total), (trial.nats_before, trial.nats_after)]
    smaller = all(np.isfinite(after) and abs(after) < abs(before) for before, after in changes)
    undone = is_loss and trial.loss_after > 2 * trial.loss_before + 1e-12  # what training had learned is gone
    return sickness(trial.verdict) < ill - max(WORTH, ill / 10) and smaller and not undone


def _is_loss(graph: Graph) -> bool:
    """Whether the traced number is a loss, which is better when it is smaller; a sum of outputs is none."""
    nodes = [graph.root, *graph.inputs_of[graph.root]]
    return any(_is_loss_op(graph, i) for i in nodes)


def _is_loss_op(graph: Graph, i: int) -> bool:
    """Whether node i is a loss, or a square, whose mean is one."""
    op = graph.ops[i]
    if op is None:
        return False
    squares = op.name == "mul" and graph.inputs_of[i][0] == graph.inputs_of[i][1]
    return op.name in LOSSES or op.name == "square" or squares


def _told(better: list[WhatIf], count: int, is_loss: bool) -> str:
    if not better:
        return ""
    tried = "1 remedy" if count == 1 else f"{count} remedies"
    lines = [f"Tried on a copy with the same batch, without training: {tried}. These left the gradient nearest to its size:"]
    for trial in better:
        worse = "; the loss is worse" if is_loss and trial.loss_after > 1.01 * trial.loss_before else ""
        still = f"; still {trial.verdict.kind}" if trial.verdict.kind != "healthy" else ""
        lines.append(f"- {trial}{worse}{still}.")
        lines += (
            [f"    here     {trial.code}", f"    PyTorch  {trial.torch}{_under_no_grad(trial.torch)}"] if trial.code else []
        )
    return "\n".join(lines)


def _under_no_grad(statement: str) -> str:
    """A note beside a PyTorch statement that writes into parameters. Beside another forward pass it would cut the gradient."""
    return "  (under no_grad)" if re.search(r"\w_\(|\] = ", statement) else ""
