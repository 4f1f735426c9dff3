"""Findings as a picture, with matplotlib (the `report` extra)."""

from __future__ import annotations

from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np

from ..experiment import Findings
from .files import replace_file

INK, BLUE, ORANGE, GREY = "#1f2430", "#1f6fb4", "#d1661f", "#8a93a3"
LN10 = float(np.log(10))


def draw(panels: list[tuple[str, Findings]], title: str) -> Any:
    """One column for each (name, findings): above the gradient by lag for the RNN, its unrolled twin and untied MLPs; below
    the terms of dE/dW against their sum. Returns a matplotlib Figure."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    figure = Figure(figsize=(5.6 * len(panels), 7.4), layout="constrained")
    axes = figure.subplots(2, len(panels), squeeze=False, sharex=True, sharey="row")
    figure.suptitle(fill(title, 60 * len(panels)), color=INK, fontsize=12)
    for column, (name, f) in enumerate(panels):
        _gradient_by_lag(axes[0][column], name, f)
        _terms_against_sum(axes[1][column], f)
    for ax in axes.flat:
        # the data are exponents already: 50 steps can leave the range of a float
        ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"$10^{{{v:g}}}$"))
        ax.yaxis.set_major_locator(MaxNLocator(8, integer=True))
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(axis="y", color="#e6e8ec", linewidth=0.8)
        ax.set_axisbelow(True)
        ax.tick_params(colors=INK)
    axes[0][0].set_ylabel("|dE/dh| relative to lag 0", color=INK)
    axes[1][0].set_ylabel("size of each term of dE/dW", color=INK)
    for ax in axes[1]:
        ax.set_xlabel("lag: steps before the last character", color=INK)
    return figure


def _gradient_by_lag(ax: Any, name: str, f: Findings) -> None:
    lags = f.gain.lags
    low, mid, high = (f.untied_band(q) / LN10 for q in (0.05, 0.5, 0.95))
    ax.fill_between(lags, low, high, color=ORANGE, alpha=0.22, linewidth=0)
    ax.plot(lags, mid, color=ORANGE, linewidth=1.6, label=f"untied MLPs of equal depth ({len(f.untied)} draws, 5-95 %)")
    if f.tied is not None:
        low, high = (f.tied_band(q) / LN10 for q in (0.05, 0.95))
        ax.fill_between(
            lags, low, high, color=BLUE, alpha=0.14, linewidth=0, label=f"RNNs of other weights ({len(f.tied)} draws, 5-95 %)"
        )
    ax.plot(lags, f.gain.log_gain / LN10, color=BLUE, linewidth=2.4, label="the RNN")
    ax.plot(lags, f.twin.log_gain / LN10, color=INK, linewidth=1.0, linestyle=(0, (4, 4)), label="its unrolled twin MLP")
    ax.set_title(
        f"{name}: {f.verdict.kind}, {f.gain.total:+.1f} nats\n"
        f"saturation {f.gain.saturation.sum():+.1f}, weights {f.gain.weights.sum():+.1f}",
        fontsize=10,
        color=INK,
    )
    ax.legend(frameon=False, fontsize=8.5, loc="lower left")


def _terms_against_sum(ax: Any, f: Findings) -> None:
    there = f.terms.norms > 0  # the first step's is exactly 0: W_hh multiplies the zero initial state
    size = max(float(np.linalg.norm(f.terms.total.astype(np.float64))), np.finfo(float).tiny)
    eps = np.finfo(f.terms.total.dtype).eps
    ax.plot(
        f.terms.lags[there],
        np.log10(f.terms.norms[there]),
        color=BLUE,
        linewidth=2.0,
        marker="o",
        markersize=2.6,
        label="the term of each lag",
    )
    ax.axhline(np.log10(size), color=INK, linewidth=1.4)
    ax.annotate(
        "their sum, which the optimizer sees",
        (1, np.log10(size)),
        xycoords=("axes fraction", "data"),
        xytext=(-2, 4),
        textcoords="offset points",
        fontsize=8.5,
        color=INK,
        ha="right",
    )
    ax.axhline(np.log10(size * eps), color=GREY, linewidth=1.0, linestyle="--")
    ax.annotate(
        "rounding of the sum",
        (0, np.log10(size * eps)),
        xycoords=("axes fraction", "data"),
        xytext=(4, -11),
        textcoords="offset points",
        fontsize=8.5,
        color=GREY,
    )
    ax.margins(y=0.12)


def save(figure: Any, path: str) -> None:
    """Write the figure to `path` in the format of its suffix (PNG without one); see `replace_file`."""
    replace_file(path, lambda name: figure.savefig(name, dpi=130, format=Path(path).suffix[1:] or "png"))
