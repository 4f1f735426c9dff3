"""Layers and models: stacking (depth) and unrolling (time), with PyTorch's names and shapes."""

from . import init
from .cells import GRUCell, LSTMCell, RNNCell
from .layers import MLP, Embedding, Linear
from .module import Module, Parameter
from .recurrent import GRU, LSTM, RNN, DeepTransitionRNN, LeakyRNN, truncated
from .unrolled import UnrolledRNN

__all__ = [
    "GRU",
    "LSTM",
    "MLP",
    "RNN",
    "DeepTransitionRNN",
    "Embedding",
    "GRUCell",
    "LSTMCell",
    "LeakyRNN",
    "Linear",
    "Module",
    "Parameter",
    "RNNCell",
    "UnrolledRNN",
    "init",
    "truncated",
]
