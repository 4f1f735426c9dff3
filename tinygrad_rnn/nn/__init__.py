"""Layers and models: stacking (depth) and unrolling (time), with PyTorch's names and shapes."""

from .activation import ELU, GELU, Activation, Hardtanh, LeakyReLU, ReLU, Sigmoid, SiLU, Softplus, Tanh
from .container import Flatten, Identity, Residual, Sequential
from .layers import MLP, Dropout, Embedding, Linear
from .module import Buffer, Module, Parameter
from .norm import BatchNorm1d, LayerNorm
from .recurrent import RNN, RNNCell
from .unrolled import UnrolledRNN

__all__ = [
    "ELU",
    "GELU",
    "MLP",
    "RNN",
    "Activation",
    "BatchNorm1d",
    "Buffer",
    "Dropout",
    "Embedding",
    "Flatten",
    "Hardtanh",
    "Identity",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "Module",
    "Parameter",
    "RNNCell",
    "ReLU",
    "Residual",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "Softplus",
    "Tanh",
    "UnrolledRNN",
]
