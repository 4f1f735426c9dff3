"""Module: parameters and submodules found by name, saved to and loaded from plain dictionaries of arrays."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

import numpy as np

from ..tape import forget_gradients, note_mode
from ..tensor import Tensor, refuse_masked
from ..writes import note_write

M = TypeVar("M", bound="Module")


class Parameter(Tensor):
    """A tensor that requires a gradient and that a Module finds by its attribute name. It holds a contiguous copy of the
    data, since optimizers write into it."""

    __slots__ = ()

    def __init__(self, data: Any, dtype: Any = None, name: str | None = None) -> None:
        super().__init__(data, requires_grad=True, dtype=dtype, name=name)
        self.value = np.array(self.value, order="C")


class Buffer:
    """An array that belongs to a module and is saved with it, but not trained: a running mean, for instance.

    `value` is a contiguous copy of the data in its own dtype. It stays the array it is and is written in place, by kernels if a
    replay has to do the same."""

    __slots__ = ("value",)

    def __init__(self, data: Any) -> None:
        refuse_masked("Buffer", data)
        self.value = np.array(data, order="C")

    def __setattr__(self, name: str, value: Any) -> None:
        CHANGES.attributes += 1
        super().__setattr__(name, value)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.value.shape

    @property
    def dtype(self) -> np.dtype:
        return self.value.dtype

    def __repr__(self) -> str:
        return f"<buffer {self.dtype} {self.shape}>"


class _Changes:
    """How often any module was put into another mode, and how often another attribute of any was set or deleted: who remembers
    the numbers knows whether to look again."""

    __slots__ = ("attributes", "modes")

    def __init__(self) -> None:
        self.modes = self.attributes = 0


CHANGES = _Changes()


class Module:
    """Base of layers and models. Assign parameters, buffers, modules, or lists, tuples and dictionaries of them as attributes;
    write `forward`. `_not_children` names attributes that hold modules which are not parts of this one. `training`, which
    `train()` and `eval()` set, is for layers that do something else in training (Dropout, BatchNorm1d).

    A parameter that several places share (tied weights) is one parameter: `parameters()` and `named_parameters()` give it
    once, under the first of its names; `state_dict()` has it under every name, as PyTorch's does."""

    _not_children: tuple[str, ...] = ()
    _training = True

    @property
    def training(self) -> bool:
        """Whether this module is in training mode, as at first, or in evaluation mode. May be set; train() and eval() set it
        for all parts as well."""
        note_mode(self, self._training)
        return self._training

    @training.setter
    def training(self, mode: bool) -> None:
        note_mode(self, None)
        if bool(mode) != self._training:
            self._training = bool(mode)
            CHANGES.modes += 1

    def __delattr__(self, name: str) -> None:
        CHANGES.attributes += 1
        super().__delattr__(name)

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute. Raises TypeError where a parameter, or a buffer, would give way to something else than another one
        or None: it would be neither trained nor saved."""
        old = vars(self).get(name)
        if isinstance(old, (Parameter, Buffer)) and value is not None and not isinstance(value, (type(old), Parameter)):
            kind = "parameter" if isinstance(old, Parameter) else "buffer"
            raise TypeError(
                f"{type(self).__name__}: cannot assign a {type(value).__name__} to {name!r}, a {kind} {old.dtype} {old.shape}; "
                f"write its numbers with {name}.value[...] = array, or assign a {kind.capitalize()} or None"
            )
        if name != "_training":
            CHANGES.attributes += 1
        super().__setattr__(name, value)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError(f"{type(self).__name__} defines no forward")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.forward(*args, **kwargs)

    def _children(self) -> Iterator[tuple[str, Any]]:
        """Parameters, buffers and modules held directly, named; lists contribute "name.0", dictionaries "name.key"."""
        stack = [(name, value) for name, value in reversed(vars(self).items()) if name not in self._not_children]
        while stack:
            name, value = stack.pop()
            if isinstance(value, (Parameter, Buffer, Module)):
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

    def _all_named(self, kind: Any) -> Iterator[tuple[str, Any]]:
        """(dotted name, what it names) for everything of that kind, under each of its names."""
        for prefix, module in self.named_modules():
            for name, value in module._children():
                if isinstance(value, kind):
                    yield f"{prefix}.{name}" if prefix else name, value

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """(dotted name, parameter), each parameter once."""
        return _once(self._all_named(Parameter))

    def parameters(self) -> list[Parameter]:
        """Every parameter, once."""
        return [p for _, p in self.named_parameters()]

    def named_buffers(self) -> Iterator[tuple[str, Buffer]]:
        """(dotted name, buffer), each buffer once."""
        return _once(self._all_named(Buffer))

    def buffers(self) -> list[Buffer]:
        """Every buffer, once."""
        return [b for _, b in self.named_buffers()]

    def train(self: M, mode: bool = True) -> M:
        """Put this module and all its parts into training or evaluation mode, and return it. A compiled function has a program
        for each mode that it was called in."""
        for _, module in self.named_modules():
            module.training = mode
        return self

    def eval(self: M) -> M:
        """The same as train(False)."""
        return self.train(False)

    def zero_grad(self) -> None:
        """Forget the gradients of all parameters."""
        forget_gradients(self.parameters())

    def state_dict(self) -> dict[str, np.ndarray]:
        """Copies of all parameters and buffers by dotted name."""
        return {name: x.value.copy() for name, x in self._all_named((Parameter, Buffer))}

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> None:
        """Write arrays (numpy's or anything np.asarray takes) into the parameters and buffers of the same names.

        strict   raise KeyError unless both sides have exactly the same names; otherwise load those that agree

        Raises ValueError on a wrong shape and TypeError on a wrong dtype; nothing is written unless everything fits."""
        own = dict(self._all_named((Parameter, Buffer)))
        missing, unexpected = [n for n in own if n not in state], [n for n in state if n not in own]
        if strict and (missing or unexpected):
            raise KeyError(f"load_state_dict: missing {missing}, unexpected {unexpected}; this model has {list(own)}")
        arrays: dict[str, np.ndarray] = {}
        for name in own:
            if name not in state:
                continue
            refuse_masked(f"load_state_dict: {name}", state[name])
            array, p = np.asarray(state[name]), own[name]
            if array.shape != p.shape:
                raise ValueError(f"load_state_dict: {name} has shape {p.shape}, the given array {array.shape}")
            if array.dtype != p.dtype:
                raise TypeError(f"load_state_dict: {name} is {p.dtype}, the given array {array.dtype}; convert it first")
            arrays[name] = array
        for name, array in arrays.items():
            note_write(own[name].value)
            own[name].value[...] = array

    def __repr__(self) -> str:
        lines = [f"{type(self).__name__}({self.extra_repr()})"]
        for name, value in self._children():
            body = repr(value).replace("\n", "\n  ") if isinstance(value, Module) else f"{tuple(value.shape)}"
            lines.append(f"  {name}: {body}")
        return "\n".join(lines)

    def extra_repr(self) -> str:
        """What `repr` shows in the parentheses."""
        return ""


def _once(named: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    """The pairs whose second entry has not come before."""
    seen: set[int] = set()
    for name, x in named:
        if id(x) not in seen:
            seen.add(id(x))
            yield name, x
