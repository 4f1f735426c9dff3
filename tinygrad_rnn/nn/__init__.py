"""Layers and models: stacking (depth) and unrolling (time), with PyTorch's names and shapes."""

from .conv import AvgPool1d, AvgPool2d, Conv1d, Conv2d, MaxPool1d, MaxPool2d
from .layers import MLP, Embedding, Linear
from .module import Module, Parameter
from .recurrent import RNN, RNNCell
from .unrolled import UnrolledRNN

__all__ = [
    "MLP",
    "RNN",
    "AvgPool1d",
    "AvgPool2d",
    "Conv1d",
    "Conv2d",
    "Embedding",
    "Linear",
    "MaxPool1d",
    "MaxPool2d",
    "Module",
    "Parameter",
    "RNNCell",
    "UnrolledRNN",
]
