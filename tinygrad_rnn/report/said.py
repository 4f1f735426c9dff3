"""Statements: sentences that carry the numbers they rest on, and how numbers are written in them."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import exp, isfinite
from textwrap import fill
from typing import Any

from ..experiment import Estimate
from ..flow.words import scientific

WIDTH = 80


@dataclass(frozen=True)
class Said:
    """Sentences as they are printed, and their numbers by name. `a + b` says both; nothing said is false."""

    text: str = ""
    numbers: dict[str, Any] = field(default_factory=dict)

    def __add__(self, other: Said) -> Said:
        return Said(" ".join(t for t in (self.text, other.text) if t), {**self.numbers, **other.numbers})

    def __bool__(self) -> bool:
        return bool(self.text)


def say(template: str, **values: Any) -> Said:
    """template.format(**values), with those values that are numbers or estimates."""
    return Said(template.format(**values), {k: v for k, v in values.items() if not isinstance(v, str)})


def count(n: int, thing: str, things: str = "") -> str:
    """ "1 step", "2 steps"."""
    return f"{n:,} {thing if n == 1 else things or thing + 's'}"


def nearest(n: int) -> str:
    """ "term nearest to E makes", "10 terms nearest to E make"."""
    return "term nearest to E makes" if n == 1 else f"{n} terms nearest to E make"


def power(nats: float) -> str:
    """e ** nats in decimal notation, also where a float would underflow."""
    if not isfinite(nats):
        return "0" if nats < 0 else "inf" if nats > 0 else "nan"
    return f"{exp(nats):.3g}" if -6 < nats < 9 else scientific(nats)


def percent(share: float | Estimate) -> str:
    """A share of a whole, to a tenth of a per cent, without a minus before 0."""
    if isinstance(share, Estimate):
        return percent(share.value) + (f" ± {share.error:.1%}" if isfinite(share.error) else "")
    return f"{share + 0.0:.1%}".replace("-0.0%", "0.0%")


def wrapped(lines: list[str], hang: str = "    ") -> str:
    """Paragraphs, indented, that fit a terminal."""
    return "\n".join(fill(line, WIDTH, initial_indent="  ", subsequent_indent=hang) for line in lines if line)


def heading(title: str) -> str:
    """A title, underlined."""
    return f"{title}\n{'=' * len(title)}"
