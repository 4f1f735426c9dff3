"""Timing on a noisy machine: contenders take turns, so that a slow moment hits all of them; medians are reported."""

from __future__ import annotations

import contextlib
import gc
import os
import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from statistics import median
from typing import TypeVar

Contender = Callable[[], object]
Name = TypeVar("Name", bound=Hashable)


def seconds(contenders: Mapping[Name, Contender], budget: float) -> dict[Name, float]:
    """Median seconds of one call for each contender. Each gets about `budget` seconds, in at least five rounds of a
    millisecond's worth of calls, so that the caches it finds are mostly its own."""
    calls = {}
    for name, f in contenders.items():
        f()  # caches, lazy initialisation
        once = min(_time(f, 1) for _ in range(2))
        calls[name] = max(1, int(1e-3 / max(once, 1e-9)))
    slowest = max(_time(f, calls[name]) for name, f in contenders.items())
    rounds = max(5, min(200, int(budget / max(slowest, 1e-9))))
    samples: dict[Name, list[float]] = {name: [] for name in contenders}
    collecting = gc.isenabled()
    gc.disable()
    try:
        for _ in range(rounds):
            for name, f in contenders.items():
                samples[name].append(_time(f, calls[name]) / calls[name])
    finally:
        if collecting:
            gc.enable()
    return {name: median(s) for name, s in samples.items()}


def _time(f: Contender, calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        f()
    return time.perf_counter() - start


CORES = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))


def one_core() -> None:
    """Keep this process on one core, where the system lets it."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(CORES)})


@contextlib.contextmanager
def every_core() -> Iterator[int]:
    """Give this thread, and those it starts, all the cores the process had at first; says how many."""
    if hasattr(os, "sched_setaffinity"):
        now = os.sched_getaffinity(0)
        os.sched_setaffinity(0, CORES)
        try:
            yield len(CORES)
        finally:
            os.sched_setaffinity(0, now)
    else:
        yield len(CORES)


def table(title: str, columns: list[str], rows: list[list[str]]) -> str:
    """Aligned text; the first column is left-justified."""
    widths = [max(len(r[i]) for r in [columns, *rows]) for i in range(len(columns))]
    lines = [title]
    for row in [columns, *rows]:
        lines.append(
            "  " + row[0].ljust(widths[0]) + "".join("  " + c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))
        )
    return "\n".join(lines) + "\n"


def shown(t: float | None) -> str:
    """A time with a fitting unit."""
    if t is None:
        return "-"
    return f"{t * 1e9:.0f} ns" if t < 1e-6 else f"{t * 1e6:.1f} us" if t < 1e-3 else f"{t * 1e3:.2f} ms"


def ratio(ours: float, theirs: float | None) -> str:
    """How many times as fast as the peer."""
    return "-" if theirs is None else f"{theirs / ours:.2f}x"


def geometric_mean(values: list[float]) -> float:
    """The mean that treats 2x and 0.5x alike."""
    product = 1.0
    for v in values:
        product *= v ** (1 / len(values))
    return product
