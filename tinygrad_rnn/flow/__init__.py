"""What a recorded graph says about its gradient: terms, Jacobians, the split of a decay, verdicts."""

from .gain import Gain
from .terms import GradTerms
from .trace import Trace, trace
from .verdict import Verdict

__all__ = ["Gain", "GradTerms", "Trace", "Verdict", "trace"]
