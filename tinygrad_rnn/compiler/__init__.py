"""Capture a function once, repeat it in C: compile(), its passes and programs."""

from ..tape import CaptureError
from .compiled import Compiled, compile
from .passes import ACROSS_STEPS, EXACT, PASSES
from .program import Program

__all__ = ["ACROSS_STEPS", "EXACT", "PASSES", "CaptureError", "Compiled", "Program", "compile"]
