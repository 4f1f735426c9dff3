"""What a program consists of: calls of kernels on places in buffers, and what each call reads and writes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from math import prod
from typing import NamedTuple

import numpy as np

from ..backends import native

ALIGNMENT = 64  # bytes, of every buffer that a program allocates


def aligned(size: int) -> int:
    """The least multiple of ALIGNMENT that is not below a size in bytes."""
    return -(-size // ALIGNMENT) * ALIGNMENT


ITEM_SIZES = (4, 8)  # of dtype 0, float32, and 1, float64


class Buffer:
    """A piece of memory.

    size        in bytes
    array       what owns the memory, where it exists apart from the program (parameters, states of optimizers, inputs,
                constants); None where the program is to allocate it
    alias_of    the place that it has become a part of; None while it stands alone"""

    __slots__ = ("array", "alias_of", "size")

    def __init__(self, size: int, array: np.ndarray | None = None) -> None:
        self.size, self.array = size, array
        self.alias_of: Place | None = None

    def __repr__(self) -> str:
        return f"<{'outside ' if self.array is not None else ''}buffer of {self.size} bytes>"


class Place(NamedTuple):
    """Where an operand begins: `offset` bytes into `buffer`."""

    buffer: Buffer
    offset: int

    def resolved(self) -> Place:
        """The same place in the buffer that this one has become a part of."""
        place = self
        while place.buffer.alias_of is not None:
            alias_of = place.buffer.alias_of
            place = Place(alias_of.buffer, alias_of.offset + place.offset)
        return place


class Region(NamedTuple):
    """What a call touches from a place on: an array of `shape`, `strides` in elements of `item` bytes.

    low, high    first byte touched, relative to the place, and the one after the last; equal where the region is empty
    size         bytes of as many elements as it has, stored without gaps
    contiguous   whether the elements lie in order and without gaps"""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    item: int
    reads: bool
    writes: bool
    low: int
    high: int
    size: int
    contiguous: bool

    @classmethod
    def of(cls, shape: tuple[int, ...], strides: tuple[int, ...] | None, item: int, mode: str) -> Region:
        dense, step = [], 1
        for d in reversed(shape):
            dense.append(step)
            step *= d
        strides = tuple(reversed(dense)) if strides is None else strides
        contiguous = all(d == 1 or s == e for d, s, e in zip(reversed(shape), reversed(strides), dense, strict=True))
        low = sum(min(0, s * (d - 1)) for d, s in zip(shape, strides, strict=True)) * item
        high = (sum(max(0, s * (d - 1)) for d, s in zip(shape, strides, strict=True)) + 1) * item
        high = low if 0 in shape else high
        return cls(shape, strides, item, "r" in mode, "w" in mode, low, high, prod(shape) * item, contiguous)


class Instruction:
    """One call of a kernel.

    kernel   its name
    dtype    0 for float32, 1 for float64
    places   one for each pointer; None for NULL
    n, c     its sizes and constants, as its comment in csrc/ says"""

    __slots__ = ("c", "dtype", "kernel", "n", "places")

    def __init__(
        self, kernel: str, dtype: int, places: tuple[Place | None, ...], n: tuple[int, ...], c: tuple[float, ...] = ()
    ) -> None:
        self.kernel, self.dtype, self.places, self.n, self.c = kernel, dtype, places, n, c

    def place(self, slot: int) -> Place:
        """The place of a pointer that is not NULL."""
        place = self.places[slot]
        assert place is not None, f"{self.kernel} has no pointer {slot}"
        return place

    def copy(self) -> Instruction:
        return Instruction(self.kernel, self.dtype, self.places, self.n, self.c)

    def overlaps_itself(self) -> bool:
        """Whether it writes where it reads, or writes twice: what kernels may not do, but for a product's own addend."""
        spans = []
        for slot, (p, r) in enumerate(zip(self.places, self.regions, strict=True)):
            addend = self.kernel == "matmul" and slot == 6 and p == self.places[0] and self.n[10] == self.n[2]
            if p is not None and not addend:
                spans.append((p.buffer, p.offset + r.low, p.offset + r.high, r.writes))
        return conflict(spans)

    @property
    def regions(self) -> tuple[Region, ...]:
        """What is touched from each of `places` on."""
        return regions(self.kernel, self.dtype, self.n)

    def reads(self) -> Iterator[Place]:
        """The places that are read."""
        return (p for p, r in zip(self.places, self.regions, strict=True) if p is not None and r.reads)

    def writes(self) -> Iterator[Place]:
        """The places that are written."""
        return (p for p, r in zip(self.places, self.regions, strict=True) if p is not None and r.writes)

    def __repr__(self) -> str:
        return f"<{self.kernel} {self.n}>"


def conflict(spans: Iterable[tuple[Buffer, int, int, bool]]) -> bool:
    """Whether, of spans (buffer, first byte, the one after the last, whether it is written), one that is written overlaps
    another."""
    of: dict[Buffer, list[tuple[int, int, bool]]] = {}
    for buffer, low, high, written in spans:
        of.setdefault(buffer, []).append((low, high, written))
    for of_one in of.values():
        end_read = end_written = -1
        for low, high, written in sorted(of_one):
            if low < end_written or written and low < end_read:
                return True
            end_read, end_written = max(end_read, high), max(end_written, high if written else -1)
    return False


# ---- what each kernel touches: for its pointers, in order, (mode, shape, strides). The mode is "w" for written, "r" for read,
# "rw" for both; strides None means contiguous; a fourth entry is the size of an element where it is not that of the dtype.

_Spec = tuple


def _flat(*modes: str) -> Callable[..., list[_Spec]]:
    """Pointers to n[0] contiguous elements each."""
    return lambda n, panel: [(mode, (n[0],), None) for mode in modes]


def _strided(*modes: str) -> Callable[..., list[_Spec]]:
    """Pointers to arrays of n[0] axes; the last two have strides of their own, what comes before is contiguous."""

    def specs(n: tuple[int, ...], panel: int) -> list[_Spec]:
        axes = n[0]
        dims, first, second = n[1 : 1 + axes], n[1 + axes : 1 + 2 * axes], n[1 + 2 * axes :]
        strides = [None] * (len(modes) - 2) + [first, second]
        return [(mode, dims, s) for mode, s in zip(modes, strides, strict=True)]

    return specs


def _put_where_not(n: tuple[int, ...], panel: int) -> list[_Spec]:
    y, condition, x = _strided("rw", "r", "r")(n, panel)
    return [y, (*condition, 1), x]


def _matmul(n: tuple[int, ...], panel: int) -> list[_Spec]:
    batch, rows, columns, k = n[:4]
    whole = (batch, rows, columns)
    return [
        ("w", whole, None),
        ("w", whole, None),
        ("r", (batch, rows, k), n[4:7]),
        ("r", (batch, k, columns), n[7:10]),
        ("r", (columns,), None),
        ("r", (-(-columns // panel) * panel * k,), None),
        ("r", (rows, columns), (n[10], 1)),
        ("w", whole, None),
        ("r", whole, None),
    ]


def _pack(n: tuple[int, ...], panel: int) -> list[_Spec]:
    return [("w", (-(-n[1] // panel) * panel * n[0],), None), ("r", n[:2], n[2:])]


def _rnn_cell(n: tuple[int, ...], panel: int) -> list[_Spec]:
    batch, features, hidden = n[:3]
    state = (batch, hidden)
    return [
        ("w", state, None),
        ("w", state, None),
        # without strides for weight_ih, x is the input projection
        ("r", (batch, features) if n[6:8] != (0, 0) else state, n[4:6]),
        ("r", (hidden, features), n[6:8]),
        ("r", (hidden,), None),
        ("r", state, n[8:10]),
        ("r", (hidden, hidden), n[10:12]),
        ("r", (hidden,), None),
        ("r", (-(-hidden // panel) * panel * hidden,), None),
    ]


def _rnn_cell_vjp(n: tuple[int, ...], panel: int) -> list[_Spec]:
    batch, features, hidden = n[:3]
    state, inputs = (batch, hidden), ((batch, features) if n[6:8] != (0, 0) else (batch, hidden))
    outputs = [state, (batch, features), (hidden, features), state, (hidden, hidden), (hidden,)]
    return [("w", shape, None) for shape in outputs] + [
        ("r", state, None),
        ("r", state, None),
        ("r", inputs, n[4:6]),
        ("r", (hidden, features), n[6:8]),
        ("r", state, n[8:10]),
        ("r", (hidden, hidden), n[10:12]),
    ]


def _rows(*modes: str) -> Callable[..., list[_Spec]]:
    """Pointers to arrays (n[0], n[1]) of contiguous columns, each with a row stride of its own."""
    return lambda n, panel: [(mode, n[:2], (stride, 1)) for mode, stride in zip(modes, n[2:], strict=True)]


def _rows_with_lengths(*modes: str) -> Callable[..., list[_Spec]]:
    return lambda n, panel: [*_rows(*modes)(n, panel), ("r", n[:1], None, 8)]


def _conv(*operands: str) -> Callable[..., list[_Spec]]:
    """Pointers to the named arrays of a convolution, the first written."""

    def specs(n: tuple[int, ...], panel: int) -> list[_Spec]:
        shapes = {
            "x": n[:4],
            "w": (n[4], n[1] // n[15], *n[5:7]),
            "bias": n[4:5],
            "y": (n[0], n[4], *n[7:9]),
        }
        return [("r" if i else "w", shapes[name], None) for i, name in enumerate(operands)]

    return specs


def _pool(*operands: str) -> Callable[..., list[_Spec]]:
    """Pointers to the named arrays of a pooling, the first written."""
    return lambda n, panel: [
        ("r" if i else "w", n[:3] if name == "x" else (n[0], *n[3:5]), None) for i, name in enumerate(operands)
    ]


def _reduction(n: tuple[int, ...], panel: int) -> list[_Spec]:
    return [("w", (n[0], n[2]), None), ("r", n, None)]


def _along_axis(n: tuple[int, ...], panel: int) -> list[_Spec]:
    return [("w", n, None), ("r", n, None)]


_UNARY = (
    *("neg", "exp", "log", "sqrt", "relu", "scale", "abs", "square", "reciprocal", "rsqrt", "sign", "floor", "ceil", "clip"),
    *("exp2", "expm1", "sinh", "cosh", "log1p", "log2", "log10", "logsigmoid", "arcsinh", "arccosh", "arctanh"),
    *("sin", "cos", "tan", "arcsin", "arccos", "arctan", "softsign"),
    *("log1p_dx", "arcsin_dx", "arctan_dx", "arcsinh_dx", "arccosh_dx", "arctanh_dx", "softsign_dx"),
)
_BINARY = (
    *("add", "sub", "mul", "div", "pow", "pow_dbase", "pow_dexponent", "equal", "maximum", "minimum", "maximum_da"),
    *("logaddexp", "logaddexp_da", "arctan2", "hypot", "div_or_zero"),
)

_SPECS: dict[str, Callable[..., list[_Spec]]] = {
    **dict.fromkeys(_UNARY, _flat("w", "r")),
    **dict.fromkeys(
        (
            *("tanh", "sigmoid", "erf", "gelu", "gelu_tanh", "silu", "softplus", "elu", "leaky_relu", "hardtanh"),
            "huber",
        ),
        _flat("w", "w", "r"),
    ),
    **dict.fromkeys(("relu_vjp", "clip_vjp"), _flat("w", "r", "r")),
    "fill": _flat("w"),
    **dict.fromkeys(_BINARY, _strided("w", "r", "r")),
    "put_where_not": _put_where_not,
    "nonzero": lambda n, panel: [("w", n, None, 1), ("r", n, None)],
    "copy": _strided("w", "r"),
    "accumulate": _strided("rw", "r"),
    "matmul": _matmul,
    "pack": _pack,
    "rnn_cell": _rnn_cell,
    "rnn_cell_vjp": _rnn_cell_vjp,
    "lstm_gates": lambda n, panel: [(mode, (n[0], 4 * n[1]), None) for mode in "wwr"],
    "lstm_state": _rows(*"wrrrr"),
    "lstm_state_vjp": _rows(*"wwwwrrrrr"),
    "addcmul": _rows(*"wrrr"),
    "addcmul_vjp": _rows(*"wwrrr"),
    "lerp": _rows(*"wrrr"),
    "lerp_vjp": _rows(*"wwwrrrr"),
    "select_steps": _rows_with_lengths(*"wrr"),
    "mask_steps": _rows_with_lengths(*"wr"),
    "conv2d": _conv("y", "x", "w", "bias"),
    "conv2d_dx": _conv("x", "y", "w"),
    "conv2d_dw": _conv("w", "y", "x"),
    **dict.fromkeys(("max_pool2d", "avg_pool2d"), _pool("y", "x")),
    "max_pool2d_vjp": _pool("x", "y", "x"),
    "avg_pool2d_vjp": _pool("x", "y"),
    **dict.fromkeys(("sum", "max", "min", "prod", "logsumexp"), _reduction),
    **dict.fromkeys(("softmax", "log_softmax", "cumsum", "cumprod"), _along_axis),
    "cumprod_vjp": lambda n, panel: [("w", n, None), *[("r", n, None)] * 3],
    "nll": lambda n, panel: [("w", n[:1], None), ("r", n[:2], None), ("r", n[:1], None, 8)],
    "nll_vjp": lambda n, panel: [("w", n[:2], None), ("r", n[:1], None), ("r", n[:1], None, 8)],
    "cross_entropy_vjp": lambda n, panel: [
        ("w", n[:2], None),
        ("r", n[:1], None),
        ("r", n[:2], None),
        ("r", n[:1], None, 8),
    ],
    "count_targets": lambda n, panel: [("w", (), None), ("r", n[:1], None, 8)],
    "bce_with_logits": _flat("w", "w", "r", "r"),
    "layer_norm": lambda n, panel: [
        ("w", n, None),
        *[("w", n[:1], None)] * 2,
        ("r", n, None),
        *[("r", n[1:], None)] * 2,
    ],
    "layer_norm_vjp": lambda n, panel: [
        ("w", n, None),
        *[("w", n[1:], None)] * 2,
        *[("r", n, None)] * 2,
        *[("r", n[:1], None)] * 2,
        ("r", n[1:], None),
    ],
    "moments": lambda n, panel: [*[("w", n[1:], None)] * 2, ("r", n, None)],
    "batch_norm": lambda n, panel: [("w", n, None), ("r", n, None), *[("r", n[1:], None)] * 4],
    "batch_norm_vjp": lambda n, panel: [
        ("w", n[:2], None),
        *[("w", n[1:2], None)] * 2,
        *[("r", n[:2], None)] * 2,
        *[("r", n[1:2], None)] * 3,
    ],
    "track_moments": lambda n, panel: [
        *[("rw", n[:1], None)] * 2,
        ("rw", (), None, 8),
        *[("r", n[:1], None)] * 2,
    ],
    "take": lambda n, panel: [("w", (n[0], n[2]), None), ("r", n[1:], None), ("r", n[:1], None, 8)],
    "take_add": lambda n, panel: [("rw", n[1:], None), ("r", (n[0], n[2]), None), ("r", n[:1], None, 8)],
    "add_norm": lambda n, panel: [("rw", (), None, 8), ("r", n, None)],
    "clip_to_norm": lambda n, panel: [("rw", n, None), ("r", (), None, 8)],
    "clip_to_value": _flat("rw"),
    "sgd": lambda n, panel: [*[("rw", n, None)] * 2, ("r", n, None), ("r", (4,), None, 8)],
    "adam": lambda n, panel: [*[("rw", n, None)] * 3, ("rw", (), None, 8), ("r", n, None), ("r", (6,), None, 8)],
    "rmsprop": lambda n, panel: [*[("rw", n, None)] * 4, ("r", n, None), ("r", (5,), None, 8)],
    "keep_mask": lambda n, panel: [("w", n, None), ("rw", (2,), None, 8)],
}


def regions(kernel: str, dtype: int, n: tuple[int, ...]) -> tuple[Region, ...]:
    """What a call of `kernel` with sizes `n` touches from each of its pointers on, in the instruction set in use."""
    return _regions(kernel, dtype, n, native.panel_columns(dtype))


@lru_cache(maxsize=1 << 16)
def _regions(kernel: str, dtype: int, n: tuple[int, ...], panel: int) -> tuple[Region, ...]:
    return tuple(
        Region.of(shape, strides, item[0] if item else ITEM_SIZES[dtype], mode)
        for mode, shape, strides, *item in _SPECS[kernel](n, panel)
    )
