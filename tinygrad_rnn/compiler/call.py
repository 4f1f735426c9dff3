"""One captured call: what it was given, the program that repeats it, and what it leaves behind."""

from __future__ import annotations

import gc
import inspect
from collections.abc import Callable, Container
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from ..backends import native
from ..nn.module import CHANGES, Module, Parameter
from ..tape import CaptureError, Node, Tape, recording_mode, use_backend
from ..tensor import Tensor
from ..writes import Run, note_program, note_run, owner
from .arguments import detached, holds_others, mapped, others, plain_tensor, rebuilt
from .capture import Capture, Memory
from .comparison import check_results, compare_gradient, compare_nodes, compare_outside, compare_results, same_values
from .guards import Guards
from .instruction import Buffer, Instruction
from .live import LiveGraph, Skeleton
from .passes import ACROSS_STEPS, PASSES
from .program import Program, Slot
from .recompute import recompute_segments
from .shortcut import Shortcut

# what a leaf's gradient has to be before a call, for the program to do the same as the function would
ANYTHING, NOTHING = "anything", "nothing"
UNTOUCHED = "untouched"  # and after one


def eager_call(fn: Callable[..., Any], arguments: tuple, keywords: dict) -> Any:
    """The results of a call that is not captured, as those of a replay are: copies, without a graph."""
    with Tape():  # compiled functions that `fn` calls are a part of it
        return detached(fn(*arguments, **keywords))


class _Recorded(NamedTuple):
    """What a capture left, held until nothing is left to compare with it."""

    capture: Capture
    tape: Tape
    output: Any
    memory: Memory
    instructions: list[Instruction]

    def touched(self) -> Callable[[np.ndarray], bool]:
        """Whether the kernels read an array or write to it."""
        buffers = {p.buffer for i in self.instructions for p in i.places if p is not None}

        def is_touched(array: np.ndarray) -> bool:
            place = self.memory.place_of(array)
            return place is not None and place.buffer in buffers

        return is_touched


class CapturedCall:
    """A call of `fn` that was captured. It runs in the constructor, `results` being what it returned, without graphs.

    inputs   the arrays that stand for those among the arguments, in order
    unseen   indices of those that have had the same values in every call that was compared: what the function makes of others
             with numpy or Python has not shown yet
    leaves   (leaf, its array, what its gradient has to be before a call, and what it is after one), for each that wants a
             gradient or was there before the call
    guards   what the function reads beside its arguments"""

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
        self.inputs = [np.array(a, np.int64 if a.dtype.kind in "iu" else None, order="K") for a in arrays]
        self.bound: list[Tensor] = []
        self._first = [own.copy() for own in self.inputs]
        self.unseen = list(range(len(self.inputs)))
        self.compared = False
        arguments, keywords = rebuilt((arguments, keywords), iter(self.inputs), self.bound)
        start = Node(np.empty(0)).index  # nodes with smaller ones were there before
        had = {id(leaf): leaf.grad is not None for leaf in known}
        self._names = _Names(fn, arguments, keywords)
        self.guards = Guards(fn, others((*arguments, *keywords.values())))
        capture, tape = Capture(self.inputs), Tape()
        self._mode_changes, self._in_mode = CHANGES.modes, True
        with tape, use_backend(capture):
            output = fn(*arguments, **keywords)
        if tape.root is None and tape.nodes:
            tape.root = tape.nodes[-1]
        check_results(output)
        self._modes = [(module, mode) for module, mode in capture.modes.values() if mode is not None]
        memory = capture.memory()
        self._recorded: _Recorded | None = _Recorded(capture, tape, output, memory, capture.instructions(memory))
        self.guards.seal(self._recorded.touched())
        output = output, [value for _, value in self.guards.stores]
        self._recorded = self._recorded._replace(output=output)
        self.results: Any = self._delivered(output)
        self.program: Program | None = None
        self._graph: LiveGraph | None = None
        self.leaves: list[tuple[Node, np.ndarray, Any, Any]] = []
        for leaf in dict.fromkeys([*self._graph_leaves(), *capture.updated]):
            if leaf.index < start and leaf.requires_grad:
                before, writes = self._gradient_before(leaf, capture, had.get(id(leaf), False))
                self.leaves.append((leaf, leaf.value, before, leaf.grad if writes else UNTOUCHED))
            elif leaf.index < start:
                self.leaves.append((leaf, leaf.value, ANYTHING, UNTOUCHED))
        self._wanted = [leaf.requires_grad for leaf, *_ in self.leaves]
        forgotten = {id(leaf) for leaf in capture.forgotten}
        self._forgets = [id(x) in forgotten for x in self.bound]
        self._hand_over(tensors, self.bound)

    @staticmethod
    def _gradient_before(leaf: Node, capture: Capture, had: bool) -> tuple[Any, bool]:
        """What the gradient of a leaf has to be before a call, and whether the call leaves another one. had: whether there was
        one, where that is known."""
        if leaf in capture.forgotten:
            grad, calls = capture.forgotten[leaf]
            if grad is None:
                return ANYTHING, True
            if capture.made(grad):
                return NOTHING, True  # a backward pass found none before the gradient was dropped
            return (grad if capture.used(grad, calls) else ANYTHING), True
        if leaf.grad is None:  # an optimizer that finds none leaves the parameter alone
            return (NOTHING if leaf in capture.updated else ANYTHING), False
        if capture.made(leaf.grad):
            return (ANYTHING if had else NOTHING), True  # had: it was dropped in a way that leaves no trace
        return (leaf.grad, True) if capture.used(leaf.grad) else (ANYTHING, False)

    def _graph_leaves(self) -> list[Node]:
        nodes = self._recorded.tape.nodes if self._recorded else ()
        return list({x.index: x for node in nodes for x in node.inputs if x.op is None}.values())

    def fits(self) -> bool:
        """Whether the modules are in the mode they were in, the parameters where they were, and their gradients as the program
        supposes; and whether all else that the function reads is what it was."""
        if self._mode_changes != CHANGES.modes:
            self._mode_changes = CHANGES.modes
            self._in_mode = all(module._training is mode for module, mode in self._modes)
        if not self._in_mode:
            return False
        for (leaf, value, before, _), wanted in zip(self.leaves, self._wanted, strict=True):
            if leaf.value is not value or leaf.requires_grad != wanted:
                return False
            if before is not ANYTHING and leaf.grad is not (None if before is NOTHING else before):
                return False
        return self.guards.hold()

    # ---- the second call, and the first with other values of an argument

    @property
    def settled(self) -> bool:
        """Whether nothing is left to compare."""
        return self.compared and not self.unseen

    def to_check(self, arrays: list[np.ndarray]) -> bool:
        """Whether a call with these arrays should be compared with a replay: the second one, and those where an array differs
        for the first time."""
        if not self.compared:
            return True
        return any(not same_values(self._first[n], arrays[n]) for n in self.unseen)

    def checked(
        self, fn: Callable[..., Any], arguments: tuple, keywords: dict, arrays: list[np.ndarray], tensors: list[Tensor]
    ) -> Any:
        """Run `fn` again, compare that with a replay of the captured calls, bit by bit, and return its results."""
        recorded = self._recorded
        assert recorded is not None
        for own, given in zip(self.inputs, arrays, strict=True):
            own[...] = given
        self.unseen = [n for n in self.unseen if same_values(self._first[n], arrays[n])]
        changed, read = self._outside()
        before, read_before = [a.copy() for a in changed], [a.copy() for a in read]
        recorded.capture.changed = {id(a): old for a, old in zip(changed, before, strict=True)}
        replay = native.Replay(recorded.capture.calls)
        done = replay.run()
        after = [a.copy() for a in changed]
        for a, old in zip(changed, before, strict=True):
            a[...] = old
        bound: list[Tensor] = []
        # the function sees what it saw in the capture: copies, in that layout
        arguments, keywords = rebuilt((arguments, keywords), iter([own.copy(order="K") for own in self.inputs]), bound)
        guards = Guards(fn, others((*arguments, *keywords.values())))
        with Tape() as tape:
            output = fn(*arguments, **keywords)
        guards.seal(recorded.touched())
        kept = self.guards.settle(guards)
        recorded = self._recorded = recorded._replace(output=(recorded.output[0], [recorded.output[1][n] for n in kept]))
        output = output, [place.read() for place, _ in self.guards.stores]
        results = self._delivered(output)
        self._hand_over(tensors, bound)
        if done < replay.count:
            raise CaptureError(
                "compile: a replay of the captured calls met an index outside its axis, the function itself did not"
            )
        compare_nodes(recorded.tape.nodes, tape.nodes)
        read_pairs, written_pairs = (list(zip(*pair, strict=True)) for pair in ((read, read_before), (changed, after)))
        compare_outside(read_pairs, written_pairs, self._name_of)
        of_arguments = {id(leaf) for leaf in self.bound}  # == of tensors compares their entries
        for leaf, _, _, grad in self.leaves:
            if isinstance(grad, np.ndarray) and id(leaf) not in of_arguments:
                compare_gradient(grad, leaf.grad, self._names.parameters.get(leaf.index, leaf.name))
        compare_results(recorded.output, output)
        self.compared = True
        if self.program is not None:
            self.program.start_from(recorded.memory.contents(), recorded.capture.changed)
            self._let_go()
        return results

    def _outside(self) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Arrays from outside that the captured calls write to, and those that they only read, inputs apart."""
        recorded = self._recorded
        assert recorded is not None
        written = {p.buffer for i in recorded.instructions for p in i.writes()}
        inputs = {id(x) for x in self.inputs}
        read = {p.buffer for i in recorded.instructions for p in i.reads()} - written

        def outside(buffers: set[Buffer]) -> list[np.ndarray]:
            return [b.array for b in buffers if b.array is not None and id(b.array) not in inputs]

        return outside(written), outside(read)

    def _name_of(self, array: np.ndarray) -> str:
        """What an array from outside is, in words."""
        for leaf in self._graph_leaves():
            kind = "parameter" if leaf.requires_grad else "tensor"
            name = self._names.parameters.get(leaf.index, leaf.name) or f"{array.dtype} {array.shape}"
            if leaf.value is array:
                return f"the {kind} {name}"
            if leaf.grad is array:
                return f"the gradient of the {kind} {name}"
        return f"a {array.dtype} {array.shape} array (the state or the settings of an optimizer, for example)"

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
        recorded = self._recorded
        assert recorded is not None
        memory = recorded.memory

        def slot(array: np.ndarray) -> Slot:
            place = memory.place_of(array)
            return Slot(place, array.shape, array.strides, array.dtype, array if place is None else None)

        kept: set[Buffer] = set()

        def kept_slot(array: np.ndarray) -> Slot:
            found = slot(array)
            if found.place is not None and found.place.buffer.array is None:
                kept.add(found.place.buffer)
            return found

        mapped(recorded.output, lambda t: kept_slot(t.value), kept_slot)
        left = [(leaf, grad) for leaf, _, _, grad in self.leaves if not isinstance(grad, str)]
        grads = [(leaf, None if grad is None else kept_slot(grad)) for leaf, grad in left]
        skeleton = None
        if recorded.tape.root is not None:
            skeleton = Skeleton(recorded.tape.nodes, recorded.tape.root, recorded.tape.cotangents, slot)
        chosen = {name: PASSES[name] for name in passes}
        if checkpoint_every is not None and skeleton is not None:
            steps, cotangents = skeleton.steps(), skeleton.cotangent_buffers()
            chosen = {name: f for name, f in chosen.items() if name not in ACROSS_STEPS}
            chosen["checkpoint"] = lambda listing: recompute_segments(listing, steps, cotangents, checkpoint_every)
        parameters = skeleton.parameters() if skeleton else {}
        program = Program(recorded.instructions, kept, parameters, skeleton.labels() if skeleton else {}, chosen)

        def current(array: np.ndarray) -> np.ndarray:
            return program.current(slot(array))

        self._output, self._stored = mapped(recorded.output, lambda t: plain_tensor(current(t.value)), current)
        written = {p.buffer for i in recorded.instructions for p in i.writes()}
        places = [(value, memory.place_of(value)) for _, value, *_ in self.leaves]
        updated = [value for value, place in places if place is not None and place.buffer in written]
        run = Run()
        for value in updated:
            note_program(program, value, run)
        self._run = run if updated else None
        program.start_from(memory.contents(), recorded.capture.changed)
        # one that was there before the call stays the array that it is
        self._grads = [
            (leaf, grad if s is None or s.place is None or s.place.buffer.array is not None else program.current(s))
            for (leaf, grad), (_, s) in zip(left, grads, strict=True)
        ]
        self.program, self._skeleton = program, skeleton
        self._rereads = _reads_after_update(recorded.instructions, parameters)
        inputs = {id(owner(a)): name for name, a in self._names.arrays}
        self._input_names = {x.index: inputs[id(owner(x.value))] for x in self._graph_leaves() if id(owner(x.value)) in inputs}
        self._let_go()

    def _let_go(self) -> None:
        """Drop what the capture holds, once nothing is left to compare."""
        if not self._compares or self.settled:
            self._first, self._recorded = [], None

    def graph(self, lock: Any) -> LiveGraph:
        """The nodes of the function, with the values and cotangents of the last run. lock: what runs hold."""
        if self._graph is None:
            if self.program is None or self._skeleton is None:
                raise RuntimeError(
                    "compile: there is no program to read yet" if self.program is None else "nothing was recorded"
                )
            if self._rereads:
                raise RuntimeError(
                    "compile: this function computes with a parameter again after it has updated it, so that its nodes belong "
                    "to two versions of it; compile the steps as calls of their own to read their graphs"
                )
            self._graph = LiveGraph(self.program, self._skeleton, self._names.parameters, self._input_names, lock)
            self._graph.output = self._output
        return self._graph

    def replayed(self, arrays: list[np.ndarray], tensors: list[Tensor]) -> Any:
        """Run the program on other arrays and return the results."""
        program = self.program
        assert program is not None
        for own, given in zip(self.inputs, arrays):  # noqa: B905 (the key says that they are as many)
            own[...] = given
        if self._run is not None:
            note_run(self._run)
        program.run()
        for leaf, grad in self._grads:
            leaf.grad = grad
        if tensors:
            self._hand_over(tensors, self.bound)
        return self._delivered((self._output, self._stored))

    def _delivered(self, output: tuple[Any, list]) -> Any:
        """Copies of the results, without their graphs; such copies are put where the function stores something, too."""
        results, stored = output
        for (place, _), value in zip(self.guards.stores, stored, strict=True):
            place.write(detached(value))
        return plain_tensor(results.value.copy()) if type(results) is Tensor else detached(results)

    def shortcut(self, arguments: tuple, lock: Any) -> Any:
        """A replay of this call, for calls with such arguments as those of the last one, which a replay answered; None where
        more would have to be done than copying arrays."""
        assert self.program is not None
        plain = all(not x.requires_grad and x.name is None for x in self.bound)
        if self._compares and not self.compared or not plain or any(holds_others(x) for x in arguments):
            return None
        if self.guards.stores or self._mode_changes != CHANGES.modes or not self.guards.hold():
            return None
        unseen = self.unseen if self._compares else ()  # calls in which these differ are to be compared
        own = iter([(x, self._first[n] if n in unseen else None) for n, x in enumerate(self.inputs)])

        def expected(x: Any) -> tuple[Any, Any, int, Any]:
            if not isinstance(x, (np.ndarray, Tensor)) or isinstance(x, Parameter):
                return None, x, 0, None
            array, first = next(own)
            return array, type(x), x.dtype.num, first

        return Shortcut(
            mode_of=recording_mode,
            changes=CHANGES,
            outside=self.guards.outside,
            of_modules=self.guards.of_modules,
            lock=lock,
            program=self.program,
            expected=tuple(map(expected, arguments)),
            leaves=tuple(
                [
                    (leaf, value, None if before is NOTHING else before, wanted)
                    for (leaf, value, before, _), wanted in zip(self.leaves, self._wanted, strict=True)
                ]
            ),
            grads=tuple(self._grads),
            anything=ANYTHING,
            value=self._output.value if type(self._output) is Tensor else None,
            kind=Tensor,
            initialise=Node.__init__,  # checks nothing: the array comes from a tensor
            copied=partial(detached, self._output),
            running=None if self._run is None else partial(note_run, self._run),
        )

    def _hand_over(self, tensors: list[Tensor], bound: list[Tensor]) -> None:
        """Add the gradients of the tensors that stood for those among the arguments to theirs, or put them there where the
        function forgets what was there before."""
        for own, given, forgets in zip(bound, tensors, self._forgets, strict=True):
            if own.grad is not None or forgets:
                had = None if forgets else given.grad
                given.grad = had if own.grad is None else own.grad.copy() if had is None else had + own.grad
                own.grad = None


def _reads_after_update(instructions: list[Instruction], parameters: Container[Buffer]) -> bool:
    """Whether anything but an update reads a parameter after it was written."""
    written: set[Buffer] = set()
    for i in instructions:
        updates = [p.buffer for p in i.writes() if p.buffer in parameters]
        if not updates and any(p.buffer in written for p in i.reads()):
            return True
        written.update(updates)
    return False


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
