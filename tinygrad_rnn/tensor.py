"""Tensor: a node of the tape with Python's operators and numpy's protocols. No mathematics here."""

from __future__ import annotations

import math
import numbers
import operator
from collections.abc import Callable, Iterator
from functools import cache
from inspect import signature
from typing import Any

import numpy as np
from numpy.ma import MaskedArray

from . import ops
from .ops import ShapeError
from .ops.op import normal_axis, reduced_axes
from .tape import CaptureError, Node, backward, capturing, forget_gradients, record, refuse_in_capture
from .writes import note_write

DTYPES = (np.dtype(np.float32), np.dtype(np.float64))


class Tensor(Node):
    """A numpy array of float32 or float64 that records what is done to it.

    data            an array (its dtype is kept, its memory shared where numpy's layout allows), or numbers and nested
                    sequences of them (float32 unless `dtype` says otherwise)
    requires_grad   whether `.backward()` of something made from it leaves its gradient in `.grad`
    dtype           "float32" or "float64", or their numpy types; converts

    `.grad` is None or a numpy array of the same shape and dtype. Dtypes never mix and nothing is cast silently; a Python
    number takes the dtype of the tensor it meets. Raises TypeError for any other dtype."""

    __slots__ = ()

    def __init__(self, data: Any, requires_grad: bool = False, dtype: Any = None, name: str | None = None) -> None:
        super().__init__(_as_array(data, dtype), bool(requires_grad), name)

    # ---- reading

    @property
    def shape(self) -> tuple[int, ...]:
        return self.value.shape

    @property
    def dtype(self) -> np.dtype:
        return self.value.dtype

    @property
    def ndim(self) -> int:
        return self.value.ndim

    @property
    def size(self) -> int:
        return self.value.size

    @property
    def T(self) -> Tensor:
        return self.transpose()

    def numpy(self) -> np.ndarray:
        """The values as a numpy array that shares this tensor's memory."""
        return self.value

    def item(self) -> float:
        """The only value as a Python float; raises ValueError for any other size."""
        if self.value.size != 1:
            raise ValueError(f"item: expected exactly one value, this tensor has shape {self.shape}")
        refuse_in_capture("item() or float()", self)
        return self.value.item()

    def detach(self) -> Tensor:
        """The same values, shared, cut off from the graph."""
        return Tensor(self.value)

    def __len__(self) -> int:
        if not self.value.ndim:
            raise TypeError("len() of a 0-d tensor")
        return len(self.value)

    def __iter__(self) -> Iterator[Tensor]:
        return (self[i] for i in range(len(self)))

    def __float__(self) -> float:
        return self.item()

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if spec else repr(self)

    def __bool__(self) -> bool:
        if self.value.size != 1:
            raise ValueError(f"the truth of a tensor of shape {self.shape} is ambiguous")
        refuse_in_capture("the truth of a tensor", self)
        return bool(self.value)

    def __repr__(self) -> str:
        made = f", op={self.op.name!r}" if self.op else ", requires_grad=True" if self.requires_grad else ""
        named = f", name={self.name!r}" if self.name else ""
        values = np.array2string(self.value, separator=", ", prefix="Tensor(", threshold=60, precision=4)
        return f"Tensor({values}, dtype={self.dtype}{made}{named})"

    # ---- differentiating

    def backward(self, cotangent: Any = None, retain_graph: bool = False) -> None:
        """Add the gradient of this value to `.grad` of every leaf it was made from that requires one.

        cotangent      array of this shape and dtype that the gradient is weighted with; may be left out for a scalar (1)
        retain_graph   keep the graph for another backward pass; otherwise a second one raises RuntimeError"""
        refuse_masked("backward", cotangent)
        backward(self, cotangent.value if isinstance(cotangent, Tensor) else cotangent, retain_graph)

    def zero_grad(self) -> None:
        """Forget `.grad`."""
        forget_gradients([self])

    # ---- operators

    def __add__(self, other: Any) -> Tensor:
        return _binary(ops.add, self, other)

    def __radd__(self, other: Any) -> Tensor:
        return _binary(ops.add, self, other, swapped=True)

    def __sub__(self, other: Any) -> Tensor:
        return _binary(ops.sub, self, other)

    def __rsub__(self, other: Any) -> Tensor:
        return _binary(ops.sub, self, other, swapped=True)

    def __mul__(self, other: Any) -> Tensor:
        return _binary(ops.mul, self, other)

    def __rmul__(self, other: Any) -> Tensor:
        return _binary(ops.mul, self, other, swapped=True)

    def __truediv__(self, other: Any) -> Tensor:
        return _binary(ops.div, self, other)

    def __rtruediv__(self, other: Any) -> Tensor:
        return _binary(ops.div, self, other, swapped=True)

    def __pow__(self, other: Any) -> Tensor:
        return _binary(ops.pow, self, other)

    def __rpow__(self, other: Any) -> Tensor:
        return _binary(ops.pow, self, other, swapped=True)

    def __matmul__(self, other: Any) -> Tensor:
        return _binary(ops.matmul, self, other)

    def __rmatmul__(self, other: Any) -> Tensor:
        return _binary(ops.matmul, self, other, swapped=True)

    def __neg__(self) -> Tensor:
        return record(Tensor, ops.neg, (self,))

    def __abs__(self) -> Tensor:
        return record(Tensor, ops.abs, (self,))

    def __getitem__(self, index: Any) -> Tensor:
        """numpy's indexing: integers, slices, None and Ellipsis give a view; integer and boolean arrays a copy."""
        if type(index) is int:
            return record(Tensor, ops.index, (self,), {"index": (index,)})
        entries = _entries_of(index)
        if _is_basic(entries):
            return record(Tensor, ops.index, (self,), {"index": entries})
        try:
            positions = np.arange(self.value.size, dtype=np.int64).reshape(self.shape)[index]
        except IndexError as error:
            raise IndexError(f"index: {error}; shape {self.shape}") from None
        return record(Tensor, ops.take, (self,), {"positions": np.asarray(positions)})

    def __setitem__(self, index: Any, value: Any) -> None:
        """Write numbers in place, into memory that arrays and tensors may share.

        Only a leaf, the result of no op, can be written to. What is recorded from it later sees the numbers; `backward()`
        through what was recorded before raises RuntimeError where any of the memory was saved for it.

        Raises TypeError for the result of an op and for a value that wants a gradient, CaptureError inside a compiled function.
        What numpy writes to `.value`, or an optimizer to parameters, is not noticed."""
        if self.op is not None:
            raise TypeError(
                f"this tensor is the result of {self.op.name!r}, whose gradient would not know what is written to it; make "
                "another with concatenate, say, or write to x.detach()"
            )
        if isinstance(value, Tensor):
            if value.requires_grad:
                raise TypeError("a value that wants a gradient would be cut off from its graph; write value.detach()")
            value = value.value
        refuse_masked("a write in place", value)
        if isinstance(value, np.ndarray) and value.dtype != self.dtype:
            raise TypeError(f"a value of {value.dtype} does not go into a tensor of {self.dtype}: nothing is cast silently")
        if capturing():
            raise CaptureError("a write in place inside a compiled function: its later calls repeat kernels only")
        entries = _entries_of(index)
        self.value[index] = value
        note_write(self.value[entries if Ellipsis in entries else (*entries, ...)] if _is_basic(entries) else self.value)

    # ---- comparisons: numpy arrays of booleans, which nothing is recorded of

    def __eq__(self, other: Any) -> Any:
        return _compared(operator.eq, self, other)

    def __ne__(self, other: Any) -> Any:
        return _compared(operator.ne, self, other)

    def __lt__(self, other: Any) -> Any:
        return _compared(operator.lt, self, other)

    def __le__(self, other: Any) -> Any:
        return _compared(operator.le, self, other)

    def __gt__(self, other: Any) -> Any:
        return _compared(operator.gt, self, other)

    def __ge__(self, other: Any) -> Any:
        return _compared(operator.ge, self, other)

    __hash__ = object.__hash__

    # ---- methods, as numpy's and PyTorch's

    def exp(self) -> Tensor:
        return record(Tensor, ops.exp, (self,))

    def log(self) -> Tensor:
        return record(Tensor, ops.log, (self,))

    def sqrt(self) -> Tensor:
        return record(Tensor, ops.sqrt, (self,))

    def tanh(self) -> Tensor:
        return record(Tensor, ops.tanh, (self,))

    def sigmoid(self) -> Tensor:
        return record(Tensor, ops.sigmoid, (self,))

    def relu(self) -> Tensor:
        return record(Tensor, ops.relu, (self,))

    def clip(self, min: float | None = None, max: float | None = None) -> Tensor:
        """Within min..max, numbers or None for no bound; the gradient is 0 outside."""
        for bound in (min, max):
            if bound is not None and not isinstance(bound, numbers.Real):
                raise TypeError(f"clip: expected a number or None, got {type(bound).__name__}; for arrays use maximum, minimum")
        low, high = -math.inf if min is None else float(min), math.inf if max is None else float(max)
        return record(Tensor, ops.clip, (self,), {"low": low, "high": high})

    def sum(self, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> Tensor:
        return record(Tensor, ops.sum, (self,), {"axis": as_axis(axis), "keepdims": keepdims})

    def mean(self, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> Tensor:
        return record(Tensor, ops.mean, (self,), {"axis": as_axis(axis), "keepdims": keepdims})

    def max(self, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> Tensor:
        """Maximum; entries that tie share the gradient evenly."""
        return record(Tensor, ops.max, (self,), {"axis": as_axis(axis), "keepdims": keepdims})

    def min(self, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> Tensor:
        """Minimum; entries that tie share the gradient evenly."""
        return record(Tensor, ops.min, (self,), {"axis": as_axis(axis), "keepdims": keepdims})

    def prod(self, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> Tensor:
        return record(Tensor, ops.prod, (self,), {"axis": as_axis(axis), "keepdims": keepdims})

    def var(self, axis: int | tuple[int, ...] | None = None, ddof: float = 0, keepdims: bool = False) -> Tensor:
        return record(Tensor, ops.var, (self,), {"axis": as_axis(axis), "keepdims": keepdims, "ddof": ddof})

    def std(self, axis: int | tuple[int, ...] | None = None, ddof: float = 0, keepdims: bool = False) -> Tensor:
        """Standard deviation; its gradient is 0 where it is 0."""
        return record(Tensor, ops.std, (self,), {"axis": as_axis(axis), "keepdims": keepdims, "ddof": ddof})

    def cumsum(self, axis: int | None = None) -> Tensor:
        return _cumulative(ops.cumsum, self, axis)

    def cumprod(self, axis: int | None = None) -> Tensor:
        return _cumulative(ops.cumprod, self, axis)

    def argmax(self, axis: int | None = None, keepdims: bool = False) -> Any:
        """Where the maximum is, the first of several: integers of numpy, which have no gradient."""
        refuse_in_capture("argmax()", self)
        return np.argmax(self.value, axis, keepdims=keepdims)

    def argmin(self, axis: int | None = None, keepdims: bool = False) -> Any:
        """Where the minimum is, the first of several: integers of numpy, which have no gradient."""
        refuse_in_capture("argmin()", self)
        return np.argmin(self.value, axis, keepdims=keepdims)

    def reshape(self, *shape: Any) -> Tensor:
        """Another shape of the same size; one entry may be -1."""
        sizes = shape[0] if len(shape) == 1 and isinstance(shape[0], (tuple, list)) else shape
        return record(Tensor, ops.reshape, (self,), {"shape": _resolved(self.shape, tuple(map(operator.index, sizes)))})

    def transpose(self, *axes: Any) -> Tensor:
        """Permuted axes; reversed when none are given."""
        order = axes[0] if len(axes) == 1 and isinstance(axes[0], (tuple, list)) else axes
        order = tuple(range(self.ndim))[::-1] if not order or order == (None,) else order
        if any(not -self.ndim <= operator.index(a) < self.ndim for a in order):
            raise ShapeError(f"transpose: axes {tuple(order)} do not fit shape {self.shape}")
        return record(Tensor, ops.transpose, (self,), {"axes": tuple(operator.index(a) % self.ndim for a in order)})

    def swapaxes(self, axis1: int, axis2: int) -> Tensor:
        axes = list(range(self.ndim))
        i, j = (normal_axis("swapaxes", self.shape, a) for a in (axis1, axis2))
        axes[i], axes[j] = j, i
        return record(Tensor, ops.transpose, (self,), {"axes": tuple(axes)})

    def squeeze(self, axis: int | tuple[int, ...] | None = None) -> Tensor:
        """Without the axes of length 1, or those of them that are named; a view."""
        if axis is None:
            axes = tuple(i for i, n in enumerate(self.shape) if n == 1)
        else:
            axes = reduced_axes("squeeze", self.shape, as_axis(axis))
        if any(self.shape[i] != 1 for i in axes):
            raise ShapeError(f"squeeze: axis {axis} of shape {self.shape} has another length than 1")
        return self[tuple(0 if i in axes else slice(None) for i in range(self.ndim))]

    def diagonal(self, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Tensor:
        """The diagonals over two axes, which go last; a view."""
        params = {"offset": operator.index(offset), "axis1": axis1, "axis2": axis2}
        return record(Tensor, ops.diagonal, (self,), params)

    def trace(self, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Tensor:
        return self.diagonal(offset, axis1, axis2).sum(-1)

    def take(self, indices: Any, axis: int | None = None) -> Tensor:
        """The entries at integer indices along the axis, or of the flattened tensor; repeated ones add up in the gradient."""
        if axis is None:
            return self.reshape(-1).take(indices, 0)
        if isinstance(indices, Tensor):
            raise TypeError("take: a tensor is not an index; use an integer array")
        refuse_masked("take", indices)
        at = np.asarray(indices)
        if at.dtype.kind not in "iu" and at.size:
            raise TypeError(f"take: expected integers, got {at.dtype}")
        return self[(slice(None),) * normal_axis("take", self.shape, axis) + (at.astype(np.int64),)]

    def repeat(self, repeats: Any, axis: int | None = None) -> Tensor:
        """Every entry along the axis, or of the flattened tensor, as often as `repeats` says: one number, or one for each."""
        if axis is None:
            return self.reshape(-1).repeat(repeats, 0)
        axis = normal_axis("repeat", self.shape, axis)
        times = np.asarray(repeats)
        n = self.shape[axis]
        if times.dtype.kind not in "iu" or times.shape not in ((), (1,), (n,)) or times.min(initial=0) < 0:
            raise ShapeError(f"repeat: expected one number of at least 0, or one for each of {n} entries, got {repeats!r}")
        if times.size != 1:
            return self.take(np.repeat(np.arange(n), times), axis)
        before, after = self.shape[: axis + 1], self.shape[axis + 1 :]
        each = record(Tensor, ops.reshape, (self,), {"shape": (*before, 1, *after)})
        wide = record(Tensor, ops.broadcast_to, (each,), {"shape": (*before, int(times.item()), *after)})
        return record(Tensor, ops.reshape, (wide,), {"shape": (*before[:-1], n * int(times.item()), *after)})

    # ---- numpy's protocols

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.value, dtype=dtype, copy=copy)

    @property
    def _data(self) -> np.ndarray:
        """What operators of a masked array on the left ask for, which would compute without this tensor's graph."""
        raise TypeError(_MASKED.format("an operator"))

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Tensor:
        op = _UFUNCS.get(ufunc)
        if op is None or method != "__call__" or kwargs:
            raise TypeError(
                f"numpy.{ufunc.__name__}{'' if method == '__call__' else '.' + method} does not record on a Tensor"
                f"{' with ' + ', '.join(kwargs) if op and kwargs else ''}; use .numpy() for its values, or one of "
                f"{', '.join(sorted(u.__name__ for u in _UFUNCS))}"
            )
        like = next(x for x in inputs if isinstance(x, Tensor))
        return record(Tensor, op, tuple(lift(x, like) for x in inputs))

    def __array_function__(self, func: Callable, types: Any, args: tuple, kwargs: dict) -> Any:
        if func in (np.shape, np.ndim, np.size):
            return func(args[0].value, *args[1:], **kwargs)
        ours = NUMPY_FUNCTIONS.get(func)
        if ours is None:
            raise TypeError(
                f"numpy.{func.__name__} does not record on a Tensor; use the function of tinygrad_rnn where there is one, or "
                ".numpy() for its values"
            )
        taken, theirs = _parameters(ours, True), _parameters(func)
        if "operands" not in taken:
            # positions mean what they do in numpy, where dtype= and out= are in between
            kwargs, args = dict(zip(theirs, args, strict=False)) | kwargs, args[len(theirs) :]
        if "newshape" in kwargs:  # the name of reshape's `shape` in numpy 2.0
            kwargs["shape"] = kwargs.pop("newshape")
        unknown = ", ".join(name for name in kwargs if name not in taken)
        if unknown:
            raise TypeError(
                f"numpy.{func.__name__} does not record on a Tensor with {unknown}; tinygrad_rnn.{ours.__name__} takes "
                f"{', '.join(taken)}"
            )
        return ours(*args, **kwargs)


# numpy's functions and ours of the same names and arguments, which `functions.py` enters
NUMPY_FUNCTIONS: dict[Callable, Callable] = {}

_UFUNCS = {
    np.add: ops.add,
    np.subtract: ops.sub,
    np.multiply: ops.mul,
    np.true_divide: ops.div,
    np.power: ops.pow,
    np.negative: ops.neg,
    np.exp: ops.exp,
    np.log: ops.log,
    np.sqrt: ops.sqrt,
    np.tanh: ops.tanh,
    np.matmul: ops.matmul,
    np.absolute: ops.abs,
    np.square: ops.square,
    np.reciprocal: ops.reciprocal,
    np.sign: ops.sign,
    np.floor: ops.floor,
    np.ceil: ops.ceil,
    np.exp2: ops.exp2,
    np.expm1: ops.expm1,
    np.log1p: ops.log1p,
    np.log2: ops.log2,
    np.log10: ops.log10,
    np.sin: ops.sin,
    np.cos: ops.cos,
    np.tan: ops.tan,
    np.arcsin: ops.arcsin,
    np.arccos: ops.arccos,
    np.arctan: ops.arctan,
    np.sinh: ops.sinh,
    np.cosh: ops.cosh,
    np.arcsinh: ops.arcsinh,
    np.arccosh: ops.arccosh,
    np.arctanh: ops.arctanh,
    np.maximum: ops.maximum,
    np.minimum: ops.minimum,
    np.logaddexp: ops.logaddexp,
    np.arctan2: ops.arctan2,
    np.hypot: ops.hypot,
}


def _entries_of(index: Any) -> tuple:
    entries = index if isinstance(index, tuple) else (index,)
    if any(isinstance(e, (Tensor, MaskedArray)) for e in entries):
        for e in entries:
            refuse_masked("index", e)
        raise TypeError("index: a tensor is not an index; use an integer array")
    return entries


def _is_basic(entries: tuple) -> bool:
    """Whether an index gives a view: integers, slices, None and Ellipsis do."""
    return all(
        e is None or e is Ellipsis or isinstance(e, (slice, numbers.Integral)) and not isinstance(e, (bool, np.bool_))
        for e in entries
    )


def _binary(op: ops.Op, x: Tensor, other: Any, swapped: bool = False) -> Tensor:
    if type(other) is not Tensor and not isinstance(other, Tensor):
        if not isinstance(other, (numbers.Real, np.ndarray, np.generic)):
            return NotImplemented
        other = lift(other, x)
    return record(Tensor, op, (other, x) if swapped else (x, other))


@cache
def _parameters(f: Callable, keywords: bool = False) -> list[str]:
    """Names of the positional parameters of a function, and of its keywords; none where it is written in C and does not say."""
    try:
        return [name for name, p in signature(f).parameters.items() if keywords or p.kind is not p.KEYWORD_ONLY]
    except ValueError:
        return []


def _cumulative(op: ops.Op, x: Tensor, axis: int | None) -> Tensor:
    """numpy's rule: None stands for the flattened array, and a number is an array of one."""
    if axis is None or not x.ndim:
        x, axis = x.reshape(-1), 0 if axis is None else axis
    return record(Tensor, op, (x,), {"axis": axis})


def _compared(compare: Callable, x: Tensor, other: Any) -> Any:
    refuse_in_capture("comparing a tensor", x)
    refuse_masked("a comparison", other)
    return compare(x.value, np.asarray(other))


_MASKED = (
    "{}: a masked array, whose mask would be lost; fill the masked entries in, x.filled(0), and give the mask by itself, to "
    "where or as a factor"
)


def refuse_masked(what: str, x: Any) -> None:
    """Raise TypeError where x is a masked array of numpy: no op knows masks."""
    if isinstance(x, MaskedArray):
        raise TypeError(_MASKED.format(what))


def as_tensor(x: Any) -> Tensor:
    """x itself if it is a tensor, else a tensor of it."""
    return x if isinstance(x, Tensor) else Tensor(x)


def lift(x: Any, like: Tensor) -> Tensor:
    """x as a tensor to compute with `like`: a number takes its dtype, an array keeps its own."""
    if isinstance(x, Tensor):
        return x
    if isinstance(x, numbers.Real) or (isinstance(x, np.generic) and np.issubdtype(x.dtype, np.floating)):
        return Tensor(np.asarray(x, like.dtype))
    return Tensor(x)


def _as_array(data: Any, dtype: Any) -> np.ndarray:
    if dtype is not None and np.dtype(dtype) not in DTYPES:
        raise TypeError(f"Tensor: expected dtype float32 or float64, got {np.dtype(dtype)}")
    if isinstance(data, Tensor):
        data = data.value
    entries = list(_entries(data))
    for x in entries:
        refuse_masked("Tensor", x)
    if any(isinstance(x, Tensor) for x in entries):
        raise TypeError("Tensor: a list of tensors would be cut off from its graph; join them with stack or concatenate")
    array = np.asarray(data)
    # what comes from numpy has a dtype of its own; plain numbers have none
    keeps = any(isinstance(x, (np.ndarray, np.generic)) for x in entries)
    if dtype is None and not keeps and array.dtype.kind in "fiub":
        dtype = np.float32
    if dtype is None and array.dtype.newbyteorder("=") not in DTYPES:
        raise TypeError(
            f"Tensor: expected float32 or float64, got {array.dtype}; pass dtype= to convert, or keep it as a "
            "numpy array where integers are wanted (targets, indices)"
        )
    if array.dtype.kind not in "fiub":
        raise TypeError(f"Tensor: cannot make numbers of {array.dtype}")
    array = array.astype(dtype if dtype is not None else array.dtype.newbyteorder("="), copy=False)
    if not array.flags.aligned or any(s % array.itemsize for s in array.strides):
        array = array.copy()
    return array


def _entries(data: Any) -> Iterator[Any]:
    """What nested lists and tuples hold; anything else is its own only entry."""
    todo = [data]
    while todo:
        x = todo.pop()
        if isinstance(x, (list, tuple)):
            todo.extend(x)
        else:
            yield x


def as_axis(axis: Any) -> Any:
    return tuple(axis) if isinstance(axis, list) else axis


def _resolved(old: tuple[int, ...], new: tuple[int, ...]) -> tuple[int, ...]:
    """`new` with its -1 replaced."""
    if min(new, default=0) < -1:
        raise ShapeError(f"reshape: {new} has a negative length; only -1 stands for what is left")
    if -1 not in new:
        return new
    known = -int(np.prod(new, dtype=np.int64))
    size = int(np.prod(old, dtype=np.int64))
    if new.count(-1) > 1 or known <= 0 or size % known:
        raise ShapeError(f"reshape: shape {old} with {size} entries cannot become {new}")
    return tuple(size // known if s == -1 else s for s in new)
