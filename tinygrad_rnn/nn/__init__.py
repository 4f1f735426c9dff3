"""Layers and models: stacking (depth) and unrolling (time), with PyTorch's names and shapes."""

from . import init
from .layers import MLP, Embedding, Linear
from .module import Module, Parameter
from .recurrent import RNN, RNNCell
from .unrolled import UnrolledRNN

__all__ = ["MLP", "RNN", "Embedding", "Linear", "Module", "Parameter", "RNNCell", "UnrolledRNN", "init"]
