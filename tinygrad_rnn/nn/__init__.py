"""Layers and models: stacking (depth) and unrolling (time), with PyTorch's names and shapes."""

from . import init
from .cells import GRUCell, LSTMCell, RNNCell
from .conv import AvgPool1d, AvgPool2d, Conv1d, Conv2d, MaxPool1d, MaxPool2d
from .layers import MLP, Embedding, Linear
from .module import Module, Parameter
from .recurrent import GRU, LSTM, RNN, DeepTransitionRNN, LeakyRNN, truncated
from .unrolled import UnrolledRNN

__all__ = [
    "AvgPool1d",
    "AvgPool2d",
    "Conv1d",
    "Conv2d",
    "DeepTransitionRNN",
    "Embedding",
    "GRU",
    "GRUCell",
    "LSTM",
    "LSTMCell",
    "LeakyRNN",
    "Linear",
    "MLP",
    "MaxPool1d",
    "MaxPool2d",
    "Module",
    "Parameter",
    "RNN",
    "RNNCell",
    "UnrolledRNN",
    "init",
    "truncated",
]
