"""Layers without time: Linear, Embedding, Dropout, and the deep MLP that a recurrent net is compared with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import functions as F
from ..generator import Generator
from ..tape import scope
from ..tensor import Tensor, as_tensor
from .init import Init, checked_dtype, generator, resolve, uniform_bound
from .module import Module, Parameter

Seed = int | np.random.Generator | None

NONLINEARITIES: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": F.tanh,
    "relu": F.relu,
    "sigmoid": F.sigmoid,
    "identity": lambda x: x,
    "erf": F.erf,
    "leaky_relu": F.leaky_relu,
    "elu": F.elu,
    "gelu": F.gelu,
    "silu": F.silu,
    "softplus": F.softplus,
    "hardtanh": F.hardtanh,
}


def nonlinearity_of(name: str) -> Callable[[Tensor], Tensor]:
    """The activation of that name. Raises ValueError with the names there are."""
    if name not in NONLINEARITIES:
        raise ValueError(f"unknown nonlinearity {name!r}; expected one of {', '.join(NONLINEARITIES)}")
    return NONLINEARITIES[name]


def positive(**sizes: int) -> None:
    """Raise ValueError unless every size is a positive integer."""
    for name, size in sizes.items():
        if not isinstance(size, (int, np.integer)) or isinstance(size, bool) or size < 1:
            raise ValueError(f"{name} must be a positive integer, got {size!r}")


class Linear(Module):
    """x(..., in_features) -> x weight^T + bias, (..., out_features).

    weight (out_features, in_features) and bias (out_features,) start uniform in +-1 / sqrt(in_features), PyTorch's default;
    `init` names another draw for the weight."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        init: Init = "default",
        dtype: Any = np.float32,
        seed: Seed = None,
    ) -> None:
        positive(in_features=in_features, out_features=out_features)
        rng, dtype = generator(seed), checked_dtype(dtype)
        default = uniform_bound(1 / np.sqrt(in_features))
        self.in_features, self.out_features = in_features, out_features
        self.weight = Parameter(resolve(init, default)(rng, (out_features, in_features)), dtype, "weight")
        self.bias = Parameter(default(rng, (out_features,)), dtype, "bias") if bias else None

    @classmethod
    def of(cls, weight: Parameter, bias: Parameter | None) -> Linear:
        """The layer with these very parameters, shared with whoever else holds them."""
        layer = cls.__new__(cls)
        layer.out_features, layer.in_features = weight.shape
        layer.weight, layer.bias = weight, bias
        return layer

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}"


class Embedding(Module):
    """Integers (...) in 0..num_embeddings - 1 -> rows of weight(num_embeddings, embedding_dim); weight starts N(0, 1),
    PyTorch's default, or as `init` draws it."""

    def __init__(
        self, num_embeddings: int, embedding_dim: int, *, init: Init = "default", dtype: Any = np.float32, seed: Seed = None
    ) -> None:
        positive(num_embeddings=num_embeddings, embedding_dim=embedding_dim)
        draw = resolve(init, lambda rng, shape: rng.standard_normal(shape))
        self.weight = Parameter(draw(generator(seed), (num_embeddings, embedding_dim)), checked_dtype(dtype), "weight")

    def forward(self, index: Any) -> Tensor:
        return F.embedding(self.weight, index)

    def extra_repr(self) -> str:
        return f"{self.weight.shape[0]}, {self.weight.shape[1]}"


class Dropout(Module):
    """In training mode x with every entry set to 0 with probability p and multiplied by 1 / (1 - p) otherwise, else x itself.

    The random numbers come from `generator`, a tr.Generator that several layers may share, or from one of its own that `seed`
    makes reproducible. Raises ValueError for p outside 0..1, TypeError for both of them or another generator."""

    def __init__(self, p: float = 0.5, *, generator: Generator | None = None, seed: int | None = None) -> None:
        if not 0 <= p <= 1:
            raise ValueError(f"Dropout: expected a probability p in 0..1, got {p}")
        if generator is not None and (seed is not None or not isinstance(generator, Generator)):
            raise TypeError(f"Dropout: expected a tr.Generator or a seed, got {type(generator).__name__} and seed {seed}")
        self.p = p
        self.generator = Generator(seed) if generator is None else generator

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.p, generator=self.generator) if self.training else as_tensor(x)

    def extra_repr(self) -> str:
        return f"p={self.p}"


class MLP(Module):
    """A deep multilayer perceptron of one width: `depth` layers h = phi(Linear(h)), each with weights of its own.

    x(..., input_size) -> (..., width); input_size is `width` unless given. Nodes of layer l have the address layer=l.
    `init` names the draw of the weights: "normal" (variance 1 / fan_in) unless given; biases start at 0."""

    def __init__(
        self,
        depth: int,
        width: int,
        input_size: int | None = None,
        *,
        nonlinearity: str = "tanh",
        bias: bool = True,
        init: Init = "normal",
        dtype: Any = np.float32,
        seed: Seed = None,
    ) -> None:
        positive(depth=depth, width=width)
        rng = generator(seed)
        nonlinearity_of(nonlinearity)
        self.nonlinearity = nonlinearity
        sizes = [width if input_size is None else input_size] + [width] * depth
        self.layers = [Linear(sizes[i], sizes[i + 1], bias, init=init, dtype=dtype, seed=rng) for i in range(depth)]
        for layer in self.layers:
            if layer.bias is not None:
                layer.bias.value[...] = 0

    def forward(self, x: Tensor) -> Tensor:
        h, phi = as_tensor(x), nonlinearity_of(self.nonlinearity)
        for i, layer in enumerate(self.layers):
            with scope(layer=i):
                z = layer(h)
                h = phi(z)
                z.name, h.name = "z", "h"
        return h

    def extra_repr(self) -> str:
        return f"depth={len(self.layers)}, nonlinearity={self.nonlinearity!r}"
