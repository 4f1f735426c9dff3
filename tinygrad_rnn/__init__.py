"""Reverse-mode autodiff whose graph can be read node by node: where does a gradient go on its way back, and why?

import tinygrad_rnn as tr

rnn = tr.nn.RNN(8, 32, seed=0)
graph = tr.trace(rnn, x, loss=lambda output: output[-1].sum())
graph[0, 3, "tanh"].grad      # any node, by layer, step and op
print(graph.why())            # vanishing, healthy or exploding; the cause; what to try
step = tr.compile(train_step) # from the third call on one call of C, with every node still to be read in step.graph
"""

import warnings

from . import backends, data, functions, nn, ops, optim, testing
from .backends import build_info, get_num_threads, set_num_threads
from .checkpoint import CheckpointError, load, load_into, load_metadata, save
from .compare import SameGraph, same_graph
from .compiler import CaptureError, Compiled, Program, compile
from .flow import Gain, GradTerms, Trace, Verdict, trace
from .functions import *  # noqa: F403 (every public op)
from .generator import Generator
from .graph import Graph, Nodes, NodeView, Paths
from .ops import ShapeError
from .tape import Address, Tape, no_grad, scope, use_backend
from .tensor import Tensor

if backends.missing:
    warnings.warn(
        f"tinygrad_rnn runs without its C kernels, in plain numpy, which is slow: {backends.missing}. To get them, install a "
        "wheel for this platform, or build with a C compiler and the Python headers (Debian: apt-get install gcc python3-dev). "
        "Meanwhile, compile() runs its function eagerly",
        RuntimeWarning,
        stacklevel=2,
    )

__version__ = "0.1.0"

__all__ = [
    "Address",
    "CaptureError",
    "CheckpointError",
    "Compiled",
    "Gain",
    "Generator",
    "GradTerms",
    "Graph",
    "NodeView",
    "Nodes",
    "Paths",
    "Program",
    "SameGraph",
    "ShapeError",
    "Tape",
    "Tensor",
    "Trace",
    "Verdict",
    "build_info",
    "compile",
    "data",
    "functions",
    "get_num_threads",
    "load",
    "load_into",
    "load_metadata",
    "nn",
    "no_grad",
    "ops",
    "optim",
    "same_graph",
    "save",
    "scope",
    "set_num_threads",
    "testing",
    "trace",
    "use_backend",
]
__all__ += functions.__all__
