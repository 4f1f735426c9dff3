"""Everything that one run of the command finds."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from .course import Course, Trained
from .examination import Findings
from .net import Setting
from .remedies import Applied


@dataclass(eq=False)
class Run:
    """What was asked for, and what was found, in the order in which it is found.

    seed       of the first net
    before     the examination of the first net before training; `after`: the same after it, None without updates
    courses    of the plain nets, one for each seed
    trained    the same nets beside shuffles of their entries; empty without updates
    known      how many remedies were tried before training
    remedies   those of them that were trained
    parameters of a plain net: how many numbers it learns"""

    setting: Setting
    seed: int
    before: Findings
    after: Findings | None = None
    courses: list[Course] = field(default_factory=list)
    trained: list[Trained] = field(default_factory=list)
    known: int = 0
    remedies: list[Applied] = field(default_factory=list)
    parameters: int = 0

    @property
    def last(self) -> Findings:
        """The last examination of the first net."""
        return self.after or self.before

    def structure(self) -> np.ndarray:
        """(nets,) nats that each trained RNN keeps beyond MLPs of its entries shuffled in every layer, by their median."""
        with np.errstate(invalid="ignore"):
            return np.array([t.course.after - t.untied.middle for t in self.trained])

    def tying(self) -> np.ndarray:
        """(nets,) nats that RNNs of once shuffled entries keep beyond those MLPs, by medians."""
        with np.errstate(invalid="ignore"):
            return np.array([t.tied.middle - t.untied.middle for t in self.trained])
