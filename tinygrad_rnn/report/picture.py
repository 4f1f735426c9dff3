"""A run as a picture, with matplotlib (the `report` extra)."""

from __future__ import annotations

from math import isfinite
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np

from ..experiment import Course, Draws, Findings, Run, near_lags
from .files import replace_file
from .said import count, nearest, percent

INK, BLUE, ORANGE, GREY, GRID = "#1f2430", "#1f6fb4", "#d1661f", "#6b7484", "#e6e8ec"
OTHERS = ("#2f8f5b", "#8458b3", "#b0862a")  # remedies
LN10 = float(np.log(10))
Label = tuple[float, str, str]  # of a curve: the height of its end, its name and color
SMALL = 8.5
BAND = (0.05, 0.95)
LINE = 0.058  # height of a line of that size, in panels of height ratio 1


def draw(run: Run) -> Any:
    """One column before training and one after it, each of three panels: the gradient by lag with the remedies; the same as
    deviation from untied MLPs, in nats; the terms of dE/dW against their sum. Returns a matplotlib Figure."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    columns = [(run.before, False)] + ([(run.after, True)] if run.after else [])
    figure = Figure(figsize=(1.0 + 6.4 * len(columns), 11.0), layout="constrained")
    figure.get_layout_engine().set(h_pad=0.14, w_pad=0.08)
    axes = figure.subplots(3, len(columns), squeeze=False, sharex=True, sharey="row", height_ratios=(1.2, 1, 1))
    head = "\n".join(fill(line, 52 * len(columns)) for line in message(run))
    figure.suptitle(head, color=INK, fontsize=13, fontweight="bold", x=0.015, ha="left")
    labels = [
        (row[column], panel(row[column], run, f, trained))
        for row, panel in zip(axes, (_gradient, _deviation, _terms), strict=True)
        for column, (f, trained) in enumerate(columns)
    ]
    for ax in [*axes[0], *axes[2]]:
        # the data are exponents already: 50 steps can leave the range of a float
        ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"$10^{{{v:g}}}$"))
        ax.yaxis.set_major_locator(MaxNLocator(7, integer=True))
    for ax in axes.flat:
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(axis="y", color=GRID, linewidth=0.8)
        ax.set_axisbelow(True)
        ax.tick_params(colors=INK)
        ax.xaxis.set_major_locator(MaxNLocator(8, integer=True, steps=[1, 2, 5, 10]))
        ax.set_xlim(-0.02 * run.setting.steps, run.setting.steps - 1 + 0.02 * run.setting.steps)
    for ax, named in labels:
        _name_ends(ax, named)
    axes[0][0].set_ylabel("|dE/dh| relative to lag 0", color=INK)
    axes[1][0].set_ylabel("nats (factors of 2.72) above\nthe median untied MLP", color=INK)
    axes[2][0].set_ylabel("size of each term of dE/dW", color=INK)
    for ax in axes[2]:
        ax.set_xlabel("lag: steps before the last character", color=INK)
    return figure


def _name_ends(ax: Any, named: list[Label]) -> None:
    """Write the name of every curve beside its end; names that would overlap push each other apart."""
    low, high = ax.get_ylim()
    named = sorted((n for n in named if isfinite(n[0])), key=lambda n: n[0])
    at = np.array([(height - low) / (high - low) for height, _, _ in named])
    line = LINE / ax.get_subplotspec().get_gridspec().get_height_ratios()[ax.get_subplotspec().rowspan.start]
    sizes = np.array([line * (1 + text.count("\n")) for _, text, _ in named])
    apart = (sizes[1:] + sizes[:-1]) / 2
    for _ in range(200):
        overlap = np.maximum(apart - np.diff(at), 0) / 2
        at[:-1] -= overlap
        at[1:] += overlap
    for y, (_, text, color) in zip(at, named, strict=True):
        ax.text(1.015, y, text, color=color, fontsize=SMALL, va="center", linespacing=1.05, transform=ax.transAxes)


# ---- sentences, each from the numbers of the run


def message(run: Run) -> list[str]:
    """The answer in two sentences."""
    said = [f"The text made this net {run.setting.steps} layers deep, and one set of weights serves them all."]
    ends = [run.before.gain.total] + ([run.after.gain.total] if run.after else [])
    if all(map(isfinite, ends)):
        changes = [_change(ends[0]) + " before training"]
        if run.after:
            changes.append(_change(ends[1], "" if ends[0] * ends[1] > 0 else None) + " after it")
        said.append(f"Back to the first character, the gradient {' and '.join(changes)}.")
    return said


def _change(nats: float, verb: str | None = None) -> str:
    if abs(nats) < 5e-2:
        return "keeps its size"
    verb = ("loses " if nats < 0 else "gains ") if verb is None else verb
    return f"{verb}{abs(nats):.1f} nats"


def _title(ax: Any, text: str) -> None:
    ax.set_title(fill(text, 84), fontsize=10, color=INK, loc="left")


def _gradient_title(run: Run, f: Findings, trained: bool) -> str:
    when = f"After {count(len(run.courses[0].losses), 'update')}" if trained else "Before training"
    if f.verdict.kind == "not finite":
        return f"{when}: not finite"
    if not isfinite(f.gain.total):
        return f"{when}: {f.verdict.kind}, nothing is left"
    parts = ", ".join(f"{name} {nats:+.1f}" for name, nats in f.gain.parts().items())
    return f"{when}: {f.verdict.kind}, {f.gain.total:+.1f} nats ({parts})"


def _deviation_title(f: Findings) -> str:
    if not (f.tied.whole and f.untied.whole):
        return "Compared with untied MLPs: some draws end with no finite gradient"
    spread = f"standard deviation {f.tied.spread():.2f} nats tied, {f.untied.spread():.2f} untied"
    if f.fresh or not isfinite(f.gain.total):
        return f"Luck of the draw: {spread}"
    kept = f.gain.total - float(np.median(f.untied.ends))
    tying = float(np.median(f.tied.ends) - np.median(f.untied.ends))
    return f"Shuffling the trained entries: {-kept:+.1f} nats. Untying the layers then: {-tying:+.2f}"


# ---- panels


def _last(curve: np.ndarray) -> float:
    """The last finite value, nan where there is none."""
    there = curve[np.isfinite(curve)]
    return float(there[-1]) if there.size else float("nan")


def _curve(ax: Any, y: np.ndarray, name: str, color: str, **style: Any) -> Label:
    """Draw a curve by lag, without what is not finite; returns the label for its end."""
    y = np.where(np.isfinite(y), y, np.nan)
    ax.plot(np.arange(len(y)), y, color=color, **style)
    return _last(y), name, color


def _gradient(ax: Any, run: Run, f: Findings, trained: bool) -> list[Label]:
    _title(ax, _gradient_title(run, f, trained))
    named = []
    for applied, color in zip(run.remedies, OTHERS, strict=False):
        course = applied.courses[0]
        name = applied.remedy.name + (_loss(course) if trained else "")
        named.append(_curve(ax, (course.ends if trained else course.begins) / LN10, name, color, linewidth=1.6))
    if f.verdict.kind == "not finite":
        return named
    named.append(_curve(ax, f.untied.band(0.5) / LN10, "untied MLPs", ORANGE, linewidth=1.6))
    name = "RNN (dashed:\nunrolled)" + (_loss(run.courses[0]) if trained else "")
    named.append(_curve(ax, f.gain.log_gain / LN10, name, BLUE, linewidth=3.0))
    _curve(ax, f.twin.log_gain / LN10, "", INK, linewidth=1.1, linestyle=(0, (3, 4)))
    return named


def _loss(course: Course) -> str:
    return f"\nloss {course.loss:.2f}" if isfinite(course.loss) else "\nloss not finite"


def _deviation(ax: Any, run: Run, f: Findings, trained: bool) -> list[Label]:
    _title(ax, _deviation_title(f))
    middle, what = f.untied.band(0.5), "" if f.fresh else "shuffled "
    with np.errstate(invalid="ignore"):
        named = [
            _band(ax, f.tied, middle, f"{what}RNNs", BLUE, 0.2),
            _band(ax, f.untied, middle, "untied MLPs", ORANGE, 0.6),
        ]
        for t in run.trained[1:] if trained else []:
            name = f"RNN of seed {t.seed}"
            named.append(_curve(ax, t.course.ends - t.untied.band(0.5), name, BLUE, linewidth=1.2, alpha=0.75))
        if f.verdict.kind != "not finite":
            named.append(_curve(ax, f.gain.log_gain - middle, "the RNN", BLUE, linewidth=3.0))
    return named


def _band(ax: Any, draws: Draws, middle: np.ndarray, name: str, color: str, alpha: float) -> Label:
    low, high = (draws.band(q) - middle for q in BAND)
    inside = draws.rank(BAND[1]) - draws.rank(BAND[0]) + 1
    there = np.isfinite(low) & np.isfinite(high)
    ax.fill_between(np.arange(len(middle)), low, high, where=there, color=color, alpha=alpha, linewidth=0)
    return (
        _last(np.where(there, high if color == BLUE else (low + high) / 2, np.nan)),
        f"{inside} of {len(draws.ends)}\n{name}",
        color,
    )


def _terms(ax: Any, run: Run, f: Findings, trained: bool) -> list[Label]:
    n = near_lags(run.setting.steps)
    there = (f.terms.norms > 0) & np.isfinite(f.terms.norms)  # the first step's is exactly 0: W meets the zero initial state
    size = float(np.linalg.norm(f.terms.total.astype(np.float64)))
    if not (there.any() and size > 0 and isfinite(size)):
        _title(ax, "dE/dW is exactly 0" if size == 0 else "dE/dW is not finite")
        return []
    horizon = f.terms.horizon()
    beyond = f"; none beyond lag {horizon} changes it" if horizon < f.terms.lags[there].max() else ""
    _title(ax, f"The {nearest(n)} {percent(f.near)} of dE/dW{beyond}")
    lags, sizes = f.terms.lags[there], np.log10(f.terms.norms[there])
    ax.axvspan(-0.5, n - 0.5, color=BLUE, alpha=0.08, linewidth=0)
    ax.plot(lags, sizes, color=BLUE, linewidth=1.6, marker="o", markersize=3)
    ax.axhline(np.log10(size), color=INK, linewidth=1.6)
    if beyond:
        ax.axvline(horizon + 0.5, color=GREY, linewidth=1.0, linestyle="--")
    ax.margins(y=0.12)
    return [
        (float(np.log10(size)), "their sum, all an\noptimizer sees", INK),
        (float(sizes[lags.argmax()]), "term of\neach lag", BLUE),
    ]


def save(figure: Any, path: str) -> None:
    """Write the figure to `path` in the format of its suffix (PNG without one); see `replace_file`."""
    replace_file(path, lambda name: figure.savefig(name, dpi=110, format=Path(path).suffix[1:] or "png"))
