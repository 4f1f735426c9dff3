"""The run as a whole in plain text: the trained nets, the remedies applied, and the answer in short."""

from __future__ import annotations

from math import inf, isfinite

import numpy as np

from ..experiment import FLAT, Applied, Course, Estimate, Run, gap, growth, near_lags, over_nets
from .said import Said, count, heading, nearest, percent, say, wrapped

KEEPS = 2.3  # nats: a gradient within a factor of ten of its size is called kept


# ---- the trained nets


def nets(run: Run) -> str:
    """The plain RNNs of every seed, each beside shuffles of its own entries."""
    n = len(run.trained)
    title = f"{count(n, 'net')}, {count(run.setting.updates, 'update')}{' each' if n > 1 else ''}"
    lines = [
        "             gradient, nats         untied MLPs,    RNNs,           loss, nats",
        "   seed    before       after       shuffled        shuffled        a character",
    ]
    for t in run.trained:
        ends = [_number(d.middle) for d in (t.untied, t.tied)]
        c = t.course
        cells = [_number(c.before), _number(c.after), *ends, _number(c.loss, _digits(c.loss))]
        lines.append("   {:<7} {:<12} {:<11} {:<15} {:<15} {}".format(t.seed, *cells).rstrip())
    return "\n\n".join([heading(title), "\n".join(lines), wrapped([s.text for s in net_statements(run).values()])]) + "\n"


def net_statements(run: Run) -> dict[str, Said]:
    """What is said of the trained nets."""
    loss = over_nets([c.loss for c in run.courses])
    return {
        "columns": Said(
            "Columns 4 and 5 are medians over shuffles of the entries: anew in every layer, or once for all steps."
        ),
        "training": _training(run),
        "loss": _reached(loss),
        "structure": _structure(run),
    }


def _reached(loss: Estimate) -> Said:
    if not isfinite(loss.value):
        return Said()
    return Said(f"The loss reached is {loss:{_digits(loss.value)}} nats a character.", {"loss": loss})


def _training(run: Run) -> Said:
    said = _moves("Training: the gradient goes from {begins} to {ends}.", run.courses)
    if not isfinite(said.numbers["after"].value) and said.numbers["before"] == said.numbers["after"]:
        said = Said(f"Training: before and after it, {_left([c.after for c in run.courses])} is left of the gradient.")
    stopped = sum(c.stopped for c in run.courses)
    if stopped:
        nets = f"{stopped} of {count(len(run.courses), 'net')}"
        said += say("In {nets} the loss was no longer finite, and training stopped.", nets=nets) + Said(
            "", {"stopped": stopped}
        )
    return said


def _moves(template: str, courses: list[Course], **values: str) -> Said:
    """The template with the gradients before and after training as {begins} and {ends}."""
    before, after = [c.before for c in courses], [c.after for c in courses]
    said = say(template, begins=_left(before), ends=_left(after), **values)
    return said + Said("", {"before": over_nets(before), "after": over_nets(after)})


def _left(nats: list[float]) -> str:
    """What is left of gradients, in words."""
    mean, n = over_nets(nats), len(nats)
    if isfinite(mean.value):
        return f"{mean:+.2f} nats"
    if mean.value == -inf:
        return "nothing"
    if mean.value == inf:
        return "nothing finite"
    lost = sum(x == -inf for x in nats)
    return f"nothing in {lost} of {n} nets" if lost else f"nothing finite in {sum(x == inf for x in nats)} of {n} nets"


def _structure(run: Run) -> Said:
    kept, tying = run.structure(), run.tying()
    if not (np.isfinite(kept).all() and np.isfinite(tying).all()):
        return Said()
    mean = over_nets(kept)
    said = say(
        "Structure: a trained RNN keeps {kept:.2f} nats {more} than MLPs of its shuffled entries.",
        kept=mean.size,
        more="more" if mean.value > 0 else "less",
    )
    return said + say("RNNs of its shuffled entries are within {most:.2f} nats of those MLPs.", most=float(np.abs(tying).max()))


# ---- remedies


def remedies(run: Run) -> str:
    """The remedies that were applied, beside the plain net."""
    trained = bool(run.setting.updates)
    lines = [
        "                        gradient, nats" + ("                   loss, nats" if trained else ""),
        "                        before" + ("          after         a character" if trained else " training"),
        _row("plain RNN", run.courses),
        *(_row(a.remedy.name, a.courses) for a in run.remedies),
    ]
    said = [s.text for s in remedy_statements(run).values()]
    return "\n\n".join([heading("Remedies, applied"), "\n".join(lines), wrapped(said)]) + "\n"


def _row(name: str, courses: list[Course]) -> str:
    cells = [_mean([c.before for c in courses])]
    if courses[0].losses:
        losses = [c.loss for c in courses]
        cells += [_mean([c.after for c in courses]), _mean(losses, _digits(max(losses)))]
    return f"   {name:<20} " + "  ".join(f"{cell:<14}" for cell in cells).rstrip()


def remedy_statements(run: Run) -> dict[str, Said]:
    """How the remedies were chosen, and how each is written."""
    chosen, n = len(run.remedies), len(run.courses)
    if not chosen:
        return {
            "chosen": say(
                "None of {known} remedies tried left the gradient nearer to its size before training.", known=run.known
            )
        }
    said = say("Means over {nets}.", nets=count(n, "net")) if n > 1 else Said()
    said += say(
        "Of {known} remedies tried, {these} the gradient nearest to its size before training.",
        known=run.known,
        these="this one left" if chosen == 1 else f"these {chosen} left",
    )
    if run.setting.updates:
        said += Said("For each seed, every net was trained with the same updates on the same windows.")
        said += Said("A gradient is called better where it is nearer to its size at lag 0.")
    codes = "; ".join(f"{a.remedy.name}, {a.remedy.code}" for a in run.remedies)
    return {"chosen": said, "codes": Said(f"Written as: {codes}.")}


def _mean(values: list[float], spec: str = "+.2f") -> str:
    finite = [v for v in values if isfinite(v)]
    if len(finite) == len(values):
        return format(over_nets(values), spec)
    if len({*values}) == 1:
        return _number(values[0])
    return f"{len(values) - len(finite)} of {len(values)} {'lost' if -inf in values else 'not finite'}"


def _number(x: float, spec: str = "+.2f") -> str:
    return format(Estimate(x), spec) if isfinite(x) else "lost" if x == -inf else "not finite"


# ---- the answer in short: every sentence says what the numbers of this run say, or is left out


def answer(run: Run) -> str:
    """The founding question, answered with this run's numbers."""
    return heading("In short") + "\n\n" + wrapped([s.text for s in answers(run).values()]) + "\n"


def answers(run: Run) -> dict[str, Said]:
    """The sentences of the answer, by subject, in the order in which they matter."""
    said = {"depth": _nobody_chose(run), "same": _same(run), "hidden": _hidden(run)}
    said["kept"] = _kept(run)
    said |= {"typical": _typical(run), "luck": _luck(run)}
    if run.trained:
        said |= {"training": _moved(run), "structure": _why_less(run)}
    said |= {a.remedy.name: _remedy(run, a) for a in run.remedies}
    return {name: s for name, s in said.items() if s}


def _nobody_chose(run: Run) -> Said:
    steps, layers = run.setting.steps, run.setting.layers
    said = say("Nobody chose {steps} layers: the text did, one for each character.", steps=steps)
    if not run.before.same.identical or not run.before.same.tied:
        return said
    if layers == 1:
        return said + say("One matrix W serves all {steps}, so no layer can be repaired alone.", steps=steps)
    return said + say(
        "The same {layers} matrices serve each of them, so no layer can be repaired alone.", layers=layers, steps=steps
    )


def _same(run: Run) -> Said:
    s = run.before.same
    if not s.identical or s.value_difference or s.grad_difference:
        return Said(f"The RNN and its unrolled MLP differ here: {s.difference or 'in their numbers'}.")
    return say(
        "Unrolled, the RNN is an MLP, {deep} deep: all values and gradients are equal to the last bit.",
        deep=count(run.before.path.longest, "matrix product"),
    ) + Said("", {"longest": run.before.path.longest})


def _hidden(run: Run) -> Said:
    steps = run.setting.steps
    near = over_nets([t.near for t in run.trained]) if run.trained else Estimate(run.before.near)
    end = over_nets([c.after for c in run.courses])
    if not (near.value > 0.5 and end.value < -KEEPS) or (isfinite(end.error) and not end.clear):
        return Said()
    n = near_lags(steps)
    at = Said("", {"lag": steps - 1, "near": near, "near_terms": n})
    said = say("The sum dE/dW does not show what is lost: the {which} {share} of it.", which=nearest(n), share=percent(near))
    if end.value == -inf:
        return said + say("At lag {lag}, nothing is left of dE/dh.", lag=steps - 1) + at
    fall = Estimate(-end.value, end.error)
    return said + say("At lag {lag}, dE/dh is {fall:.2f} nats smaller than at lag 0.", lag=steps - 1, fall=fall) + at


def _kept(run: Run) -> Said:
    f, steps = run.last, run.setting.steps
    if f.verdict.kind == "not finite":
        return Said("The gradient of this net is not finite, so nothing can be said of its size.")
    if abs(f.gain.total) < KEEPS:
        return say(
            "Here the gradient stays within a factor of ten: {total:+.2f} nats over {back}.",
            total=f.gain.total,
            back=count(steps - 1, "step"),
        )
    return Said()


def _typical(run: Run) -> Said:
    tied, untied = run.before.tied, run.before.untied
    if not (tied.whole and untied.whole) or run.before.verdict.kind == "not finite":
        return Said()
    said = say(
        "Before training, the median RNN ends at {tied:+.2f} nats, the median untied MLP at {untied:+.2f}.",
        tied=tied.median(),
        untied=untied.median(),
    ) + Said("", {"draws": len(tied.ends)})
    apart = gap(tied, untied)
    most = max(abs(apart.value), tied.width, untied.width)
    if most < FLAT:
        return said + say("No two draws of a kind differ by more than {most:.1g} nats.", most=max(tied.width, untied.width))
    if not apart.clear:
        return said + say("The difference, {gap:+.2f} nats, is no clear one.", gap=apart)
    if untied.middle > 0 or tied.middle > 0:
        more = "more" if apart.value > 0 else "less"
        return said + say("So the RNN's gradient is {gap:.2f} nats {more}.", gap=apart.size, more=more)
    if apart.value > 0:
        return said + say("So tying alone loses nothing: the RNN keeps {gap:.2f} nats more.", gap=apart)
    return said + say("So tying loses {gap:.2f} nats.", gap=apart.size)


def _luck(run: Run) -> Said:
    tied, untied = growth(run.before.tied), growth(run.before.untied)
    if tied is None or untied is None or run.before.verdict.kind == "not finite":
        return Said()
    apart = Estimate(tied.value - untied.value, float(np.hypot(tied.error, untied.error)))
    start = "Tied luck adds up" if apart.clear and apart.value > 0 else "Luck"
    return (
        say(
            "{start}: the spread of the RNNs grows like steps to the power {tied:.2f}, of the MLPs {untied:.2f}.",
            start=start,
            tied=tied,
            untied=untied,
        )
        + Said("Luck that is new at every step has the power 0.5, one luck repeated the power 1.")
        + say(
            "At the first character the standard deviations are {tied_sd:.2f} and {untied_sd:.2f} nats.",
            tied_sd=run.before.tied.spread(),
            untied_sd=run.before.untied.spread(),
        )
    )


def _moved(run: Run) -> Said:
    n, said = len(run.courses), _training(run)
    if n == 1 or "from" not in said.text:
        return said
    return Said(said.text.replace(" nats.", f" nats, means of {n} nets.", 1), said.numbers)


def _why_less(run: Run) -> Said:
    kept, tying = run.structure(), run.tying()
    if not (np.isfinite(kept).all() and np.isfinite(tying).all()):
        return Said()
    n, mean, most = len(kept), over_nets(kept), float(np.abs(tying).max())
    if len({*np.sign(kept)}) > 1:
        return say(
            "MLPs of its entries, shuffled in every layer, differ from it by {kept:+.2f} nats, in either direction.",
            kept=Estimate(-mean.value, mean.error),
        )
    said = say(
        "{each}MLPs of its entries shuffled in every layer keep {kept:.2f} nats {more}{mean}.",
        each=f"In each of {n} nets, " if n > 1 else "",
        kept=mean.size,
        more="less" if mean.value > 0 else "more",
        mean=" on average" if n > 1 else "",
    )
    if most < np.abs(kept).min() / 2:
        return said + say(
            "Structure does it, not tying: RNNs of the same entries, shuffled once, end within {most:.2f} nats of those MLPs.",
            most=most,
        )
    return said + say("RNNs of the same entries, shuffled once, end up to {most:.2f} nats from those MLPs.", most=most)


def _remedy(run: Run, applied: Applied) -> Said:
    courses, name = applied.courses, applied.remedy.name.capitalize()
    if not run.setting.updates:
        start = [c.before for c in courses]
        return say("{name}: {left} before training.", name=name, left=_left(start)) + Said("", {"before": over_nets(start)})
    loss = over_nets([c.loss for c in courses])
    said = _moves("{name}: the gradient goes from {begins} to {ends}{loss}.", courses, name=name, loss=_loss(loss))
    return said + Said("", {"loss": loss}) + _against(courses, run.courses)


def _loss(loss: Estimate) -> str:
    return f", the loss to {loss:{_digits(loss.value)}}" if isfinite(loss.value) else ", and the loss is not finite"


def _digits(loss: float) -> str:
    """The format of a loss: three decimals, or three digits where it is huge."""
    return ".3f" if loss < 1000 else ".3g"


def _against(courses: list[Course], plain: list[Course]) -> Said:
    """Both after training, seed by seed: how much nearer to its size the gradient is, and how much lower the loss."""
    pairs = list(zip(courses, plain, strict=True))
    start = over_nets([abs(p.before) - abs(c.before) for c, p in pairs])
    nearer = over_nets([abs(p.after) - abs(c.after) for c, p in pairs])
    lower = over_nets([p.loss - c.loss for c, p in pairs])
    if not all(isfinite(x.value) for x in (nearer, lower)):
        return Said()
    numbers = {"nearer": nearer, "lower": lower}
    if len(pairs) == 1:
        own = {"plain_after": plain[0].after, "plain_loss": plain[0].loss}
        return say("The plain net ends at {plain_after:+.2f} nats and a loss of {plain_loss:.3f}.", **own)
    gradient, loss = _compared(nearer), _compared(lower)
    if (gradient, loss) == ("better", "better"):
        return Said("Both are clearly better than the plain net's.", numbers)
    if (gradient, loss) == ("better", "worse"):
        return Said(
            "The loss is clearly worse than the plain net's: a gradient that survives is not yet a net that learns.", numbers
        )
    said = Said(f"Against the plain net's, the gradient is {gradient}, and the loss is {loss}.", numbers)
    if start.clear and start.value > 0 and gradient != "better" and nearer.value < start.value / 2:
        said += Said("Training took most of the head start away.")
    return said


def _compared(difference: Estimate) -> str:
    return "not clearly different" if not difference.clear else "better" if difference.value > 0 else "worse"
