"""One examination as plain text: a table by lag, what it means, and the verdict."""

from __future__ import annotations

from math import inf, log
from textwrap import fill

import numpy as np

from ..experiment import BATCH, Draws, Findings, gap, growth, near_lags
from .said import WIDTH, Said, count, heading, nearest, percent, power, say, wrapped

LEGEND = [
    "E is the loss at the last character, and lag counts the steps before it. W are the recurrent weights of layer 0.",
    f"|dE/dh| is relative to lag 0, and the geometric mean of {BATCH} windows of text. 1.0e-06 is one millionth.",
    "A nat is a factor of e = 2.72: a signal that loses 2.3 nats is down to a tenth. What follows ± is a standard error.",
    "A term is what one step adds to dE/dW. Its size is relative to the size of the sum. Its share is the part of the sum that "
    "it makes, negative where it points away.",
]


def shown_lags(n: int) -> list[int]:
    """A dozen lags at most, dense near 0, the last one included."""
    wanted = [0, 1, 2, 3, 5, 8, 12, 20, 30, 40, 50, 70, 100, 150, 200, 300, 500, 700, 1000]
    return sorted({lag for lag in wanted if lag < n - 1} | {n - 1})


def findings(title: str, f: Findings) -> str:
    """One examination: what stands before and after training."""
    table = [] if f.verdict.kind == "not finite" else [_table(f)]
    said = [s.text for s in statements(f).values()]
    return "\n\n".join([heading(title), *table, wrapped(said), _verdict(f)]) + "\n"


def statements(f: Findings) -> dict[str, Said]:
    """What is said of one examination, by subject."""
    said = {"depth": _depth(f), "identity": _identity(f)}
    if f.verdict.kind != "not finite":
        said = {"split": _split(f), "sum": _sum(f), **said, "untied": _untied(f), "tied": _tied(f), "spread": _spread(f)}
    return {name: s for name, s in said.items() if s}


def _verdict(f: Findings) -> str:
    """The verdict in sentences, and under it what was tried and helped."""
    lines = [wrapped([f"{f.verdict.kind.upper()}: {f.verdict.cause}"], hang="  ")]
    for line in f.verdict.advice.splitlines():
        hang = " " * (len(line) - len(line.lstrip(" -")) + 4)
        lines.append(fill(line, WIDTH, initial_indent="  ", subsequent_indent=hang, break_long_words=False))
    return "\n".join(lines)


def _table(f: Findings) -> str:
    lines = [
        "   lag   |dE/dh|    of untied MLPs of equal depth      size of      share",
        "         of RNN     median    (5 % .. 95 %)            the term     of dE/dW",
    ]
    by_lag = dict(zip(f.terms.lags.tolist(), range(len(f.terms)), strict=True))
    size = np.linalg.norm(f.terms.total.astype(np.float64))
    for lag in shown_lags(len(f.gain.lags)):
        low, mid, high = (power(f.untied.band(q)[lag]) for q in (0.05, 0.5, 0.95))
        i = by_lag.get(lag)
        term = share = "-"
        if i is not None and f.terms.norms[i] > 0:
            term, share = power(log(f.terms.norms[i] / size)), percent(float(f.terms.shares[i]))
        band = f"({low} .. {high})"
        lines.append(f"  {lag:>4}   {power(f.gain.log_gain[lag]):<9}  {mid:<8}  {band:<22}   {term:<9}  {share:>8}")
    return "\n".join(lines)


def _split(f: Findings) -> Said:
    g, steps = f.gain, len(f.gain.lags) - 1
    back = count(steps, "step")
    if g.total == -inf:
        said = say("Split: {back} back nothing is left of the gradient.", back=back)
        return said + Said("A geometric mean is 0 as soon as one window has lost all.", {"steps": steps})
    parts = g.parts()
    named = ", ".join(f"{name} {nats:+.2f}" for name, nats in parts.items())
    if abs(g.total) > 5e-3:
        way = "fades" if g.total < 0 else "grows"
        text = "Split: over {back} the gradient {way} by {nats:.2f} nats in the geometric mean of the windows"
        said = say(text, back=back, way=way, nats=abs(g.total))
    else:
        said = say("Split: over {back} the gradient keeps its size", back=back)
    said = Said(f"{said.text}: {named}.", {**said.numbers, "steps": steps, **parts})
    if g.silent:
        said += say("In {silent} of the windows it becomes exactly 0; the means leave them out.", silent=percent(g.silent))
        said.numbers["silent"] = g.silent
    return said


def _sum(f: Findings) -> Said:
    steps, last = len(f.gain.lags), len(f.gain.lags) - 1
    reach, horizon = int(f.terms.lags[f.terms.norms > 0].max(initial=-1)), f.terms.horizon()
    if reach < 0:
        return say("Sum: dE/dW is exactly 0.")
    n = near_lags(steps)
    said = say("Sum: the {which} {near} of dE/dW.", which=nearest(n), near=percent(f.near))
    if horizon < reach:
        said += say("Leaving out all terms beyond lag {horizon} changes no entry of dE/dW.", horizon=horizon)
    elif reach:
        said += say("The furthest term, at lag {horizon}, still changes some of its entries.", horizon=horizon)
    if reach == last - 1:
        said += say("At lag {last} there is none: W multiplies the initial state, which is 0.", last=last)
    return Said(said.text, {**said.numbers, "near_terms": n, "near": f.near})


def _depth(f: Findings) -> Said:
    n, longest = f.path.count, count(f.path.longest, "matrix product")
    numbers = {"paths": str(n), "longest": f.path.longest}
    if n == 1:
        return Said(f"Depth: the first character reaches E over one path, which crosses {longest}.", numbers)
    paths = count(n, "path") if n < 10**6 else f"about 2^{n.bit_length() - 1} paths"
    return Said(f"Depth: the first character reaches E over {paths}; the longest crosses {longest}.", numbers)


def _identity(f: Findings) -> Said:
    s = f.same
    if not s.identical:
        return Said(f"Identity: the RNN and its unrolled MLP DIFFER: {s.difference}.")
    return say(
        "Identity: the RNN and its unrolled MLP are the same graph of {nodes}, with {arrays}{tied}.",
        nodes=f"{count(s.nodes[0], 'node')} and {count(s.edges[0], 'edge')}",
        arrays=count(len(s.parameters), "parameter"),
        tied=" tied over the steps" if s.tied else "",
    ) + Said(
        f"The largest difference of values is {s.value_difference:g}, of gradients {s.grad_difference:g}.",
        {
            "nodes": s.nodes[0],
            "edges": s.edges[0],
            "parameters": len(s.parameters),
            "values": s.value_difference,
            "gradients": s.grad_difference,
        },
    )


def _untied(f: Findings) -> Said:
    weights = "fresh weights in every layer" if f.fresh else "the trained entries shuffled anew in every layer"
    return _ends(f"Untied: {len(f.untied.ends)} MLPs of equal depth, with {weights}", f.untied)


def _tied(f: Findings) -> Said:
    weights = "other fresh weights" if f.fresh else "the trained entries shuffled once for all steps"
    said = _ends(f"Tied: {len(f.tied.ends)} RNNs with {weights}", f.tied)
    if len(f.tied.kept) and len(f.untied.kept):
        said += say("Their median minus that of the MLPs is {gap:+.2f} nats.", gap=gap(f.tied, f.untied))
    return said


def _ends(who: str, draws: Draws) -> Said:
    """Where the draws end; what is lost or not finite is counted apart."""
    lost, burst = int((draws.ends == -inf).sum()), int((draws.ends == inf).sum())
    ends = say(": median {median:+.2f} nats.", median=draws.median()) if len(draws.kept) else Said(".")
    said = Said(who + ends.text, {"draws": len(draws.ends), **ends.numbers})
    for n, what in ((lost, "lose the gradient entirely"), (burst, "have none that is finite")):
        if n:
            said += say("Of these, {n} {what}.", n=n, what=what)
    return said


def _spread(f: Findings) -> Said:
    if not (len(f.tied.kept) > 1 and len(f.untied.kept) > 1):
        return Said()
    said = say(
        "Spread: the standard deviation over the draws is {untied:.2f} nats for the MLPs, {tied:.2f} for the RNNs.",
        untied=f.untied.spread(),
        tied=f.tied.spread(),
    )
    steps = len(f.gain.lags) - 1
    powers = growth(f.untied), growth(f.tied)
    if None in powers:
        return said
    return (
        said
        + say("From {half} to {steps} steps back it grows with a power of the steps.", half=steps // 2, steps=steps)
        + say(
            "That power is {untied_power:.2f} for the MLPs, {tied_power:.2f} for the RNNs.",
            untied_power=powers[0],
            tied_power=powers[1],
        )
    )
