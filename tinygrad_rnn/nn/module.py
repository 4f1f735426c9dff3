"""Module: parameters and submodules found by name, saved to and loaded from plain dictionaries of arrays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ..tape import forget_gradients
from ..tensor import Tensor


class Parameter(Tensor):
    """A tensor that requires a gradient and that a Module finds by its attribute name. It holds a contiguous copy of the
    data, since optimizers write into it."""

    __slots__ = ()

    def __init__(self, data: Any, dtype: Any = None, name: str | None = None) -> None:
        super().__init__(data, requires_grad=True, dtype=dtype, name=name)
        self.value = np.array(self.value, order="C")


class Module:
    """Base of layers and models. Assign parameters, modules, or lists, tuples and dictionaries of them as attributes; write
    `forward`. `_not_children` names attributes that hold modules which are not parts of this one.

    A parameter that several places share (tied weights) is one parameter: `parameters()` and `named_parameters()` give it
    once, under the first of its names; `state_dict()` has it under every name, as PyTorch's does."""

    _not_children: tuple[str, ...] = ()
    training = True

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError(f"{type(self).__name__} defines no forward")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.forward(*args, **kwargs)

    def _children(self) -> Iterator[tuple[str, Any]]:
        """Parameters and modules held directly, named; lists contribute "name.0", dictionaries "name.key"."""
        stack = [(name, value) for name, value in reversed(vars(self).items()) if name not in self._not_children]
        while stack:
            name, value = stack.pop()
            if isinstance(value, (Parameter, Module)):
                yield name, value
            elif isinstance(value, (list, tuple)):
                stack += [(f"{name}.{i}", v) for i, v in reversed(list(enumerate(value)))]
            elif isinstance(value, dict):
                stack += [(f"{name}.{key}", v) for key, v in reversed(value.items())]

    def named_modules(self) -> Iterator[tuple[str, Module]]:
        """(dotted name, module), this one first under the empty name. A module that holds one it is part of is not entered
        again."""
        stack: list[tuple[str, Module, tuple[int, ...]]] = [("", self, ())]
        while stack:
            prefix, module, above = stack.pop()
            yield prefix, module
            dot, above = f"{prefix}." if prefix else "", (*above, id(module))
            parts = [(dot + name, v, above) for name, v in module._children() if isinstance(v, Module) and id(v) not in above]
            stack += reversed(parts)

    def _all_named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        for prefix, module in self.named_modules():
            for name, value in module._children():
                if isinstance(value, Parameter):
                    yield f"{prefix}.{name}" if prefix else name, value

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """(dotted name, parameter), each parameter once."""
        seen: set[int] = set()
        for name, p in self._all_named_parameters():
            if id(p) not in seen:
                seen.add(id(p))
                yield name, p

    def parameters(self) -> list[Parameter]:
        """Every parameter, once."""
        return [p for _, p in self.named_parameters()]

    def zero_grad(self) -> None:
        """Forget the gradients of all parameters."""
        forget_gradients(self.parameters())

    def state_dict(self) -> dict[str, np.ndarray]:
        """Copies of all parameters by dotted name."""
        return {name: p.value.copy() for name, p in self._all_named_parameters()}

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> None:
        """Write arrays (numpy's or anything np.asarray takes) into the parameters of the same names.

        strict   raise KeyError unless both sides have exactly the same names; otherwise load those that agree

        Raises ValueError on a wrong shape and TypeError on a wrong dtype; nothing is written unless everything fits."""
        own = dict(self._all_named_parameters())
        missing, unexpected = [n for n in own if n not in state], [n for n in state if n not in own]
        if strict and (missing or unexpected):
            raise KeyError(f"load_state_dict: missing {missing}, unexpected {unexpected}; this model has {list(own)}")
        arrays: dict[str, np.ndarray] = {}
        for name in own:
            if name not in state:
                continue
            array, p = np.asarray(state[name]), own[name]
            if array.shape != p.shape:
                raise ValueError(f"load_state_dict: {name} has shape {p.shape}, the given array {array.shape}")
            if array.dtype != p.dtype:
                raise TypeError(f"load_state_dict: {name} is {p.dtype}, the given array {array.dtype}; convert it first")
            arrays[name] = array
        for name, array in arrays.items():
            own[name].value[...] = array

    def __repr__(self) -> str:
        lines = [f"{type(self).__name__}({self.extra_repr()})"]
        for name, value in self._children():
            body = f"{tuple(value.shape)}" if isinstance(value, Parameter) else repr(value).replace("\n", "\n  ")
            lines.append(f"  {name}: {body}")
        return "\n".join(lines)

    def extra_repr(self) -> str:
        """What `repr` shows in the parentheses."""
        return ""
