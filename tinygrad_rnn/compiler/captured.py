"""One captured call: what it was given, the program that repeats it, and what it leaves behind."""

from __future__ import annotations

import gc
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ..backends import native
from ..graph import owner
from ..nn.module import Module, Parameter
from ..tape import CaptureError, Node, Tape, use_backend
from ..tensor import Tensor
from .capture import Capture
from .checkpoint import recompute_segments
from .instruction import Buffer
from .live import LiveGraph, Skeleton
from .passes import ACROSS_STEPS, PASSES
from .program import Program, Slot

_INTEGERS = "integers"  # of any dtype: a program holds them as int64
# what a leaf's gradient has to be before a call, for the program to do the same as the function would
ANYTHING, NOTHING = "anything", "nothing"


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    if a.dtype.kind == "f":
        return a.shape == b.shape and a.dtype == b.dtype and np.array_equal(a, b, equal_nan=True)
    return a.shape == b.shape and np.array_equal(a, b)


class _Same:
    """An object as a part of a key: equal to itself only."""

    __slots__ = ("object",)

    def __init__(self, object: Any) -> None:
        self.object = object

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.object is self.object

    def __hash__(self) -> int:
        return id(self.object)


def key_of(x: Any, arrays: list[np.ndarray], tensors: list[Tensor]) -> Any:
    """What calls have to agree in to share a program; appends the arrays whose values may differ, and the tensors."""
    kind = type(x)
    if kind is np.ndarray:
        arrays.append(x)
        dtype = x.dtype
        return _INTEGERS if dtype.kind in "iu" else dtype, x.shape
    if kind is tuple or kind is list:
        return kind, tuple([key_of(y, arrays, tensors) for y in x])
    if isinstance(x, Tensor) and not isinstance(x, Parameter):
        if x.op is not None and x.requires_grad:
            raise CaptureError(
                f"compile: an argument is the result of {x.op.name!r} and wants a gradient, but no gradient passes a compiled "
                "function; pass x.detach(), or compute it inside"
            )
        arrays.append(x.value)
        tensors.append(x)
        return kind, x.dtype.char, x.shape, x.requires_grad, x.name
    if kind is dict:
        return kind, tuple([(name, key_of(y, arrays, tensors)) for name, y in x.items()])
    if x is None or kind in (bool, int, float, complex, str, bytes) or isinstance(x, np.generic):
        return kind, x
    return _Same(x)


def _rebuilt(x: Any, arrays: Iterator[np.ndarray], leaves: list[Tensor]) -> Any:
    """`x` with its arrays replaced, and its tensors by new ones, which are appended to `leaves`."""
    kind = type(x)
    if kind is np.ndarray:
        return next(arrays)
    if isinstance(x, Tensor) and not isinstance(x, Parameter):
        leaves.append(Tensor(next(arrays), x.requires_grad, name=x.name))
        return leaves[-1]
    if kind in (tuple, list):
        return kind(_rebuilt(y, arrays, leaves) for y in x)
    if kind is dict:
        return {name: _rebuilt(y, arrays, leaves) for name, y in x.items()}
    return x


def _mapped(x: Any, tensor: Callable[[Tensor], Any], array: Callable[[np.ndarray], Any]) -> Any:
    """A structure of results with its tensors and arrays replaced."""
    if isinstance(x, Tensor):
        return tensor(x)
    if isinstance(x, np.ndarray):
        return array(x)
    if isinstance(x, tuple) and hasattr(x, "_fields"):
        return type(x)(*(_mapped(y, tensor, array) for y in x))
    if type(x) in (tuple, list):
        return type(x)(_mapped(y, tensor, array) for y in x)
    if type(x) is dict:
        return {name: _mapped(y, tensor, array) for name, y in x.items()}
    return x


def _tensor(value: np.ndarray) -> Tensor:
    tensor = Tensor.__new__(Tensor)  # checks nothing: it comes from a tensor
    Node.__init__(tensor, value)
    return tensor


def _detached(x: Any) -> Any:
    """A structure of results with copies of its tensors and arrays, the tensors without their graphs."""
    return _mapped(x, lambda t: _tensor(t.value.copy()), np.copy)


class CapturedCall:
    """A call of `fn` that was captured. It runs in the constructor, `results` being what it returned, without graphs.

    inputs   the arrays that stand for those among the arguments, in order
    unseen   indices of those that have had the same values in every call that was compared: what the function makes of others
             with numpy or Python has not shown yet
    leaves   (leaf, its array, what its gradient has to be before a call, its gradient after one) for each one that wants one"""

    def __init__(
        self,
        fn: Callable[..., Any],
        arguments: tuple,
        keywords: dict,
        arrays: list[np.ndarray],
        tensors: list[Tensor],
        known: list[Node],
        compares: bool,
    ) -> None:
        self._compares = compares
        self.inputs = [np.array(a, np.int64 if a.dtype.kind in "iu" else None, order="C") for a in arrays]
        self.bound: list[Tensor] = []
        self._first = [own.copy() for own in self.inputs]
        self.unseen = list(range(len(self.inputs)))
        arguments, keywords = _rebuilt((arguments, keywords), iter(self.inputs), self.bound)
        had = {id(leaf): leaf.grad is not None for leaf in known}
        self._names = _Names(fn, arguments, keywords)
        capture, tape = Capture(self.inputs), Tape()
        with use_backend(capture), tape:
            output = fn(*arguments, **keywords)
        if tape.root is None and tape.nodes:
            tape.root = tape.nodes[-1]
        self._capture, self._tape, self._captured_output = capture, tape, output
        self._memory = capture.memory()
        self._instructions = capture.instructions(self._memory)
        self.results: Any = _detached(output)
        self.program: Program | None = None
        self._graph: LiveGraph | None = None
        self.leaves: list[tuple[Node, np.ndarray, Any, np.ndarray | None]] = []
        for leaf in self._graph_leaves():
            if not leaf.requires_grad:
                continue
            grad, before = leaf.grad, ANYTHING  # type: Any, Any
            if grad is not None and not capture.made(grad):
                before = grad  # the call added to what was there
            elif grad is not None and leaf not in capture.forgotten and not had.get(id(leaf)):
                before = NOTHING
            self.leaves.append((leaf, leaf.value, before, grad))
        self._hand_over(tensors)

    def _graph_leaves(self) -> list[Node]:
        found = {x.index: x for node in self._tape.nodes for x in node.inputs if x.op is None}
        return list(found.values())

    def fits(self) -> bool:
        """Whether the parameters are where they were, and their gradients as the program supposes."""
        for leaf, value, before, _ in self.leaves:
            if leaf.value is not value:
                return False
            if before is not ANYTHING and leaf.grad is not (None if before is NOTHING else before):
                return False
        return True

    # ---- the second call, and the first with other values of an argument

    def to_check(self, arrays: list[np.ndarray]) -> bool:
        """Whether a call with these arrays should be compared with a replay: the second one, and those where an array differs
        for the first time."""
        if self.program is None:
            return True
        return any(not _same(self._first[n], arrays[n]) for n in self.unseen)

    def checked(self, fn: Callable[..., Any], arguments: tuple, keywords: dict, arrays: list[np.ndarray]) -> Any:
        """Run `fn` again, compare that with a replay of the captured calls, bit by bit, and return its results."""
        self._take(arrays)
        self.unseen = [n for n in self.unseen if _same(self._first[n], arrays[n])]
        changed = self._changed_outside()
        before = [a.copy() for a in changed]
        self._capture.changed = {id(a): old for a, old in zip(changed, before, strict=True)}
        replay = native.Replay(self._capture.calls)
        done = replay.run()
        after = [a.copy() for a in changed]
        for a, old in zip(changed, before, strict=True):
            a[...] = old
        with Tape() as tape:
            output = fn(*arguments, **keywords)
        results = _detached(output)
        if done < replay.count:
            raise CaptureError(
                "compile: a replay of the captured calls met an index outside its axis, the function itself did not"
            )
        self._compare(tape, output, list(zip(changed, after, strict=True)))
        if self.program is not None:
            self.program.start_from(self._memory.contents(), self._capture.changed)
            self._let_go()
        return results

    def _compare(self, tape: Tape, output: Any, outside: list[tuple[np.ndarray, np.ndarray]]) -> None:
        mine, other = self._tape.nodes, tape.nodes
        hint = (
            "so repeating its kernels is not enough: something is computed with numpy or Python, from the arguments, a counter "
            "or a random number, or kept in an attribute from one call to the next. Use tensors and tr's functions, pass "
            "arrays as arguments and return what the next call needs; or leave this function uncompiled"
        )
        for n, (a, b) in enumerate(zip(mine, other, strict=False)):
            what = f"{b.op.name if b.op else 'a leaf'}{f' {b.name!r}' if b.name else ''}, node {n} at {b.address}"
            if a.op is not b.op or a.value.shape != b.value.shape:
                raise CaptureError(f"compile: the second call took another path than the first, beginning with {what}, {hint}")
            if not _same(a.value, b.value):
                for x, y in zip(a.inputs, b.inputs, strict=True):
                    if x.op is None and not _same(x.value, y.value):
                        what = f"a constant {y.value.dtype} {y.value.shape} that goes into {what}"
                raise CaptureError(
                    f"compile: the second call computed something else than a replay of the first: {what}, {hint}"
                )
        if len(mine) != len(other):
            raise CaptureError(f"compile: the first call recorded {len(mine)} nodes, the second {len(other)}, {hint}")
        for a, b in zip(mine, other, strict=True):
            if (a.grad is None) != (b.grad is None) or a.grad is not None and b.grad is not None and not _same(a.grad, b.grad):
                name = b.op.name if b.op else "a leaf"
                raise CaptureError(
                    f"compile: the gradient of {name} at {b.address} is another than a replay of the first call's, {hint}"
                )
        for array, replayed in outside:
            if not _same(array, replayed):
                raise CaptureError(
                    f"compile: a {array.dtype} {array.shape} array that the function writes to, a parameter or the state of an "
                    f"optimizer for example, ends up with other values than in a replay, {hint}"
                )
        first: list[np.ndarray] = []
        second: list[np.ndarray] = []
        _mapped(self._captured_output, lambda t: first.append(t.value), first.append)
        _mapped(output, lambda t: second.append(t.value), second.append)
        if len(first) != len(second) or not all(map(_same, first, second)):
            raise CaptureError(f"compile: the second call returned something else than a replay of the first, {hint}")

    def _changed_outside(self) -> list[np.ndarray]:
        """Arrays from outside that the captured calls write to."""
        buffers = {p.buffer for i in self._instructions for p in i.writes()}
        return [b.array for b in buffers if b.array is not None]

    # ---- the program

    def build(self, passes: tuple[str, ...], checkpoint_every: int | None) -> None:
        """Make the program, and let go of what the capture needed."""
        collecting = gc.isenabled()
        gc.disable()  # many small objects are made, and none in cycles: looking for some takes as long as making them
        try:
            self._build(passes, checkpoint_every)
        finally:
            if collecting:
                gc.enable()

    def _build(self, passes: tuple[str, ...], checkpoint_every: int | None) -> None:
        memory = self._memory

        def slot(array: np.ndarray) -> Slot:
            place = memory.place_of(array)
            return Slot(place, array.shape, array.strides, array.dtype, array if place is None else None)

        kept: set[Buffer] = set()

        def kept_slot(array: np.ndarray) -> Slot:
            found = slot(array)
            if found.place is not None and found.place.buffer.array is None:
                kept.add(found.place.buffer)
            return found

        _mapped(self._captured_output, lambda t: kept_slot(t.value), kept_slot)
        grads = [(leaf, None if grad is None else kept_slot(grad)) for leaf, _, _, grad in self.leaves]
        skeleton = None
        if self._tape.root is not None:
            skeleton = Skeleton(self._tape.nodes, self._tape.root, self._tape.cotangents, slot)
        chosen = {name: PASSES[name] for name in passes}
        if checkpoint_every is not None and skeleton is not None:
            steps, cotangents = skeleton.steps(), skeleton.cotangent_buffers()
            chosen = {name: f for name, f in chosen.items() if name not in ACROSS_STEPS}
            chosen["checkpoint"] = lambda listing: recompute_segments(listing, steps, cotangents, checkpoint_every)
        program = Program(
            self._instructions, kept, skeleton.outside() if skeleton else (), skeleton.labels() if skeleton else {}, chosen
        )

        def current(array: np.ndarray) -> np.ndarray:
            return program.current(slot(array))

        self._output = _mapped(self._captured_output, lambda t: _tensor(current(t.value)), current)
        program.start_from(memory.contents(), self._capture.changed)
        self._grads = [(leaf, None if s is None else program.current(s)) for leaf, s in grads]
        self.leaves = [
            (leaf, value, before, mine) for (leaf, value, before, _), (_, mine) in zip(self.leaves, self._grads, strict=True)
        ]
        self.program, self._skeleton = program, skeleton
        inputs = {id(owner(a)): name for name, a in self._names.arrays}
        self._input_names = {x.index: inputs[id(owner(x.value))] for x in self._graph_leaves() if id(owner(x.value)) in inputs}
        self._let_go()

    def _let_go(self) -> None:
        """Drop what the capture holds, once nothing is left to compare."""
        if not self.unseen or not self._compares:
            self._first = []
            self.__dict__.pop("_capture", None)
            self.__dict__.pop("_tape", None)
            self.__dict__.pop("_captured_output", None)
            self.__dict__.pop("_memory", None)

    @property
    def graph(self) -> LiveGraph:
        """The nodes of the function, with the values and cotangents of the last run."""
        if self._graph is None:
            if self.program is None or self._skeleton is None:
                raise RuntimeError(
                    "compile: there is no program to read yet" if self.program is None else "nothing was recorded"
                )
            self._graph = LiveGraph(self.program, self._skeleton, self._names.parameters, self._input_names)
            self._graph.output = self._output
        return self._graph

    def _take(self, arrays: list[np.ndarray]) -> None:
        for own, given in zip(self.inputs, arrays, strict=True):
            own[...] = given

    def replayed(self, arrays: list[np.ndarray], tensors: list[Tensor]) -> Any:
        """Run the program on other arrays and return the results."""
        assert self.program is not None
        self._take(arrays)
        self.program.run()
        for leaf, grad in self._grads:
            leaf.grad = grad
        if tensors:
            self._hand_over(tensors)
        return _detached(self._output)

    def _hand_over(self, tensors: list[Tensor]) -> None:
        """Add the gradients of the tensors among the arguments to those of the caller's."""
        for own, given in zip(self.bound, tensors, strict=True):
            if own.grad is not None:
                given.grad = own.grad.copy() if given.grad is None else given.grad + own.grad
                own.grad = None


class _Names:
    """What to call the leaves of a graph: parameters by node index, as the modules name them that the function reaches, and the
    arrays among the arguments as the signature does."""

    def __init__(self, fn: Callable[..., Any], arguments: tuple, keywords: dict) -> None:
        try:
            given = inspect.signature(fn).bind(*arguments, **keywords).arguments
        except (TypeError, ValueError):
            given = {f"x{i}": x for i, x in enumerate(arguments)} | keywords
        self.arrays: list[tuple[str, np.ndarray]] = []
        modules: dict[int, tuple[str, Module]] = {}
        reached = {**_reached(fn), **given}
        for name, x in given.items():
            self._add_arrays(name, x)
        for name, x in reached.items():
            if isinstance(x, Module):
                modules.setdefault(id(x), (name, x))
        parts = {id(m) for _, module in modules.values() for n, m in module.named_modules() if n}
        whole = [m for m in modules.values() if id(m[1]) not in parts]
        self.parameters = {
            p.index: f"{name}.{own}" if len(whole) > 1 else own
            for name, module in whole
            for own, p in module.named_parameters()
        }

    def _add_arrays(self, name: str, x: Any) -> None:
        if isinstance(x, np.ndarray):
            self.arrays.append((name, x))
        elif isinstance(x, Tensor):
            self.arrays.append((name, x.value))
        elif isinstance(x, (tuple, list)):
            for i, y in enumerate(x):
                self._add_arrays(f"{name}.{i}", y)
        elif isinstance(x, dict):
            for key, y in x.items():
                self._add_arrays(f"{name}.{key}", y)


def _reached(fn: Any) -> dict[str, Any]:
    """What a function refers to by name, its `self` included."""
    if isinstance(fn, Module):
        return {"self": fn}
    inner = inspect.unwrap(fn)
    found = {"self": inner.__self__} if hasattr(inner, "__self__") else {}
    inner = getattr(inner, "__func__", inner)
    if inspect.isfunction(inner):
        variables = inspect.getclosurevars(inner)
        found |= {**variables.globals, **variables.nonlocals}
    return found
