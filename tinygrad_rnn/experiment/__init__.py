"""The founding question as an experiment: character RNNs on real text, and where their gradient goes.

The command (`cli.py`) prints and draws what is found here; nothing here prints."""

from .course import Course, Trained, compare, follow, signal
from .examination import Findings, controls, examine, last_character, near_lags
from .net import BATCH, CharNet, LastCharacter, Progress, Setting, build, train
from .remedies import Applied, Remedy, apply_remedy, choose_remedies
from .run import Run
from .statistics import FLAT, Draws, Estimate, gap, growth, over_nets, resampled

__all__ = [
    "BATCH",
    "FLAT",
    "Applied",
    "CharNet",
    "Course",
    "Draws",
    "Estimate",
    "Findings",
    "LastCharacter",
    "Progress",
    "Remedy",
    "Run",
    "Setting",
    "Trained",
    "apply_remedy",
    "build",
    "choose_remedies",
    "compare",
    "controls",
    "examine",
    "follow",
    "gap",
    "growth",
    "last_character",
    "near_lags",
    "over_nets",
    "resampled",
    "signal",
    "train",
]
