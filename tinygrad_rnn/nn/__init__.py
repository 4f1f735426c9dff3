"""Layers and models: stacking (depth) and unrolling (time), with PyTorch's names and shapes."""

from . import init
from .activation import ELU, GELU, Activation, Hardtanh, LeakyReLU, ReLU, Sigmoid, SiLU, Softplus, Tanh
from .cells import GRUCell, LSTMCell, RNNCell
from .container import Flatten, Identity, Residual, Sequential
from .conv import AvgPool1d, AvgPool2d, Conv1d, Conv2d, MaxPool1d, MaxPool2d
from .layers import MLP, Dropout, Embedding, Linear
from .module import Buffer, Module, Parameter
from .norm import BatchNorm1d, LayerNorm
from .recurrent import GRU, LSTM, RNN, DeepTransitionRNN, LeakyRNN, truncated
from .unrolled import UnrolledRNN

__all__ = [
    "Activation",
    "AvgPool1d",
    "AvgPool2d",
    "BatchNorm1d",
    "Buffer",
    "Conv1d",
    "Conv2d",
    "DeepTransitionRNN",
    "Dropout",
    "ELU",
    "Embedding",
    "Flatten",
    "GELU",
    "GRU",
    "GRUCell",
    "Hardtanh",
    "Identity",
    "LSTM",
    "LSTMCell",
    "LayerNorm",
    "LeakyRNN",
    "LeakyReLU",
    "Linear",
    "MLP",
    "MaxPool1d",
    "MaxPool2d",
    "Module",
    "Parameter",
    "RNN",
    "RNNCell",
    "ReLU",
    "Residual",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "Softplus",
    "Tanh",
    "UnrolledRNN",
    "init",
    "truncated",
]
