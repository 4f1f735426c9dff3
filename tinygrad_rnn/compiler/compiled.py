"""compile(): a function of arrays, captured once, and then repeated without Python."""

from __future__ import annotations

import functools
import os
import sys
import threading
import warnings
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterable
from types import MethodType
from typing import Any

import numpy as np

from ..backends import native
from ..tape import recording_mode
from ..tensor import Tensor
from .arguments import key_of
from .call import CapturedCall, eager_call
from .live import LiveGraph
from .passes import PASSES
from .program import Program
from .shortcut import WithShortcut, missing

Passes = bool | Iterable[str]


def compile(
    fn: Callable[..., Any] | None = None,
    *,
    passes: Passes = True,
    check: bool = True,
    programs: int = 8,
    checkpoint_every: int | None = None,
) -> Any:
    """Make `fn` a function that repeats its kernels in one C call: forward, backward, clipping and optimizer steps alike.

        step = tr.compile(train_step)      # or @tr.compile
        loss = step(x, y)
        step.graph[0, 3, "tanh"].grad      # any node of the last call

    The first call with arguments of new shapes runs `fn` and writes down the kernels that it calls; the second runs it again
    and checks that repeating those kernels gives the same values; every later one repeats them, but for those in which an array
    among the arguments differs for the first time, which are checked too. What Python does besides, printing or counting,
    happens in these calls alone; but tensors and arrays that `fn` leaves in a variable, an attribute or an entry of a list or a
    dictionary are left there by every call, as copies without a graph. A value that Python branches on must not come from a
    tensor, not through `.value` or `.numpy()` either, which nothing can detect.

    What `fn` reads beside its arguments may change between calls, and is captured anew then: variables and attributes that its
    code names, or that of functions, methods and classes it uses, and these themselves; all attributes of modules; entries of
    lists, dictionaries and other collections (of up to 10,000); and arrays that numpy or Python reads (of up to 1 MiB). Each
    mode of modules, train() or eval(), has a program of its own, and so has each state that `fn` has met.

    Not seen is a change of what only an iterator, a file, the environment, a context variable, a clock or another library
    knows; of variables found by computed names, eval() or a `__getattribute__`; of attributes set past setattr; of
    classes that are registered or derived; of the entries of parameters, buffers and gradients or the settings of optimizers,
    where Python instead of an op reads them; or of which array `.grad` is. Programs keep alive what weak references hold.

    fn        takes arrays and tensors (which may differ from call to call in their values), numbers and strings (a program for
              each value), modules, optimizers and other objects, and lists, tuples and dictionaries of these; returns tensors,
              arrays or such structures of them. Parameters, optimizers and constants that it reaches otherwise are shared, not
              copied: a new learning rate, a loaded state_dict or a write in place is seen by the next call
    passes    True for all, False for none (then results have the very bits of an uncompiled call), or names of tinygrad_rnn.
              compiler.PASSES, applied in that order
    check     whether calls are compared; otherwise the second is a replay already, and what the first one itself sets is not
              watched
    programs  how many programs are kept, one for each combination of shapes; the one that was used longest ago goes first
    checkpoint_every   for long sequences: of the steps t that scopes name, the forward pass keeps what each stretch of so many
              hands on to the next, and computes the rest again when the backward pass comes to it. With the square root of the
              number of steps, memory grows with that root too. Passes that work across steps (ACROSS_STEPS) are left out; the
              bits are those of a program without them. Reading a node computes what leads to it again

    Results are copies, without a graph: call backward() inside. A parameter's `.grad` is written to in place by later calls.
    Inside a `Tape`, a trace or another compiled function, on another backend, and in a call from within a call of the same
    function (by a signal handler, say), `fn` simply runs; without the C kernels, too, where it returns copies as well. Raises
    CaptureError where `fn` does what cannot be repeated, and says where."""
    if fn is None:
        return lambda f: Compiled(f, passes, check, programs, checkpoint_every)
    return Compiled(fn, passes, check, programs, checkpoint_every)


def _listed(changes: list[str]) -> str:
    return "; ".join(dict.fromkeys(changes[-3:]))


class Compiled(WithShortcut):
    """A compiled function; see compile(). It can be copied and pickled as the function can: a copy has no programs yet.

    program   the program of the last call; None where that ran `fn` itself
    graph     its nodes as a graph (see Trace), holding the values and cotangents of the last call
    programs  all programs that are kept"""

    __name__: str
    _busy: bool  # a call of it is going on, in the thread that has the lock

    def __init__(
        self,
        fn: Callable[..., Any],
        passes: Passes = True,
        check: bool = True,
        programs: int = 8,
        checkpoint_every: int | None = None,
    ) -> None:
        if not callable(fn):
            raise TypeError(f"compile: expected a function, got {type(fn).__name__}")
        if programs < 1:
            raise ValueError(f"compile: programs must be at least 1, got {programs}")
        if checkpoint_every is not None and (type(checkpoint_every) is not int or checkpoint_every < 1):
            raise ValueError(f"compile: checkpoint_every must be a positive integer, got {checkpoint_every!r}")
        if isinstance(passes, str):
            raise TypeError(f"compile: passes must be True, False or a list of names, got the string {passes!r}")
        names = tuple(PASSES) if passes is True else () if passes is False else tuple(passes)
        for name in names:
            if name not in PASSES:
                raise ValueError(f"compile: unknown pass {name!r}; expected some of {', '.join(PASSES)}")
        self._fn, self._passes, self._check, self._most = fn, names, check, programs
        self._checkpoint_every = checkpoint_every
        self._captured: OrderedDict[Any, list[CapturedCall]] = OrderedDict()
        self._last: CapturedCall | None = None
        self._last_key: Any = None
        self._last_candidates: list[CapturedCall] = []
        self._lock: Any = threading.RLock()
        _ALL.add(self)
        self._captures = 0
        functools.update_wrapper(self, fn, updated=())
        self.__name__ = getattr(fn, "__name__", type(fn).__name__)

    def __reduce__(self) -> Any:
        name, found = getattr(self._fn, "__qualname__", ""), sys.modules.get(getattr(self._fn, "__module__", None) or "")
        for part in name.split("."):
            found = getattr(found, part, None)
        if found is self:  # a decorated function
            return name
        return type(self), (self._fn, self._passes, self._check, self._most, self._checkpoint_every)

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else MethodType(self, instance)

    def _call(self, arguments: tuple, keywords: dict) -> Any:
        """Every call but those that are the replay of the one before; see _shortcut.pyx."""
        backend, tape, wanted = recording_mode()
        if missing or backend is not native or tape is not None:
            return eager_call(self._fn, arguments, keywords) if missing and tape is None else self._fn(*arguments, **keywords)
        arrays: list[np.ndarray] = []
        tensors: list[Tensor] = []
        if keywords:
            keywords = dict(sorted(keywords.items()))
        given = tuple([key_of(x, arrays, tensors) for x in arguments])
        key = wanted, given, key_of(keywords, arrays, tensors) if keywords else None
        with self._lock:
            if self._busy:  # called from within itself, by a signal handler or a finalizer
                return self._fn(*arguments, **keywords)
            try:
                self._busy = True
                return self._found(key, arguments, keywords, arrays, tensors)
            finally:
                self._busy = False

    def _found(self, key: Any, arguments: tuple, keywords: dict, arrays: list[np.ndarray], tensors: list[Tensor]) -> Any:
        """The results of a call, by a program that fits it or by the function."""
        if key == self._last_key:  # as a rule; comparing is faster than hashing
            candidates = self._last_candidates
        else:
            candidates = self._last_candidates = self._captured.get(key, [])
            self._last_key = key
            if candidates:
                self._captured.move_to_end(key)
        self._shortcut = None
        for captured in candidates:
            if captured.fits():
                self._last = captured
                if captured.settled or not (self._check and captured.to_check(arrays)):
                    results = captured.replayed(arrays, tensors)
                    if not keywords:
                        self._shortcut = captured.shortcut(arguments, self._lock)
                    return results
                return self._checked(captured, key, arguments, keywords, arrays, tensors)
        return self._capture(key, arguments, keywords, arrays, tensors)

    def _capture(self, key: Any, arguments: tuple, keywords: dict, arrays: list[np.ndarray], tensors: list[Tensor]) -> Any:
        known = [leaf for of_one in self._captured.values() for c in of_one for leaf, *_ in c.leaves]
        captured = CapturedCall(self._fn, arguments, keywords, arrays, tensors, known, self._check)
        self._captures += 1
        if self._captures == 4 * self._most:
            changes = [change for of_one in self._captured.values() for c in of_one if (change := c.guards.change())]
            warnings.warn(
                f"{self.__name__} was captured {self._captures} times. A program belongs to the shapes of the arguments, to "
                "every number, string and other object among them, to the very arrays of the parameters, and to the variables "
                "and attributes that the function reads: pass what changes from call to call as an array, and write to "
                f"parameters in place{f'. Since the last captures: {_listed(changes)}' if changes else ''}",
                stacklevel=4,
            )
        self._last_candidates = self._captured.setdefault(key, [])
        self._last_candidates.append(captured)
        self._captured.move_to_end(key)
        while sum(map(len, self._captured.values())) > self._most:
            oldest = next(iter(self._captured))
            self._captured[oldest].pop(0)
            if not self._captured[oldest]:
                del self._captured[oldest]
        self._last = captured
        if not self._check:
            captured.build(self._passes, self._checkpoint_every)
        results, captured.results = captured.results, None
        return results

    def _checked(
        self,
        captured: CapturedCall,
        key: Any,
        arguments: tuple,
        keywords: dict,
        arrays: list[np.ndarray],
        tensors: list[Tensor],
    ) -> Any:
        try:
            results = captured.checked(self._fn, arguments, keywords, arrays, tensors)
        except BaseException:
            self._captured[key].remove(captured)  # it cannot be trusted, or was not checked to the end
            raise
        if captured.program is None:
            captured.build(self._passes, self._checkpoint_every)
        return results

    @property
    def program(self) -> Program | None:
        """The program that the last call ran; None where it ran the function itself. Raises RuntimeError without the C kernels,
        which programs consist of."""
        self._needs_kernels("program")
        return None if self._last is None else self._last.program

    @property
    def programs(self) -> list[Program]:
        """The programs that are kept, the one whose shapes were met last at the end."""
        return [c.program for of_one in self._captured.values() for c in of_one if c.program is not None]

    @property
    def graph(self) -> LiveGraph:
        """The nodes of the last call, by address; see Trace. Values and cotangents are read when asked for, and are those of
        the last call then. Raises RuntimeError before the first call, and without the C kernels."""
        self._needs_kernels("graph")
        with self._lock:
            if self._last is None:
                raise RuntimeError("compile: there is no graph before the first call")
            if self._last.program is None:
                self._last.build(self._passes, self._checkpoint_every)
            return self._last.graph(self._lock)

    @staticmethod
    def _needs_kernels(what: str) -> None:
        if missing:
            raise RuntimeError(
                f"compile: there is no {what} without the C kernels, for the function runs eagerly; tr.trace records its graph "
                f"({missing})"
            )

    def __repr__(self) -> str:
        runs = sum(p.runs for p in self.programs)
        return (
            f"<compiled {self.__name__}: {self._captures} captures, {len(self.programs)} programs kept, {runs} runs of these>"
        )


_ALL: weakref.WeakSet[Compiled] = weakref.WeakSet()


def _after_fork() -> None:
    """Make the locks of compiled functions anew in a child, where nobody releases those that threads of the parent held."""
    for compiled in list(_ALL):
        compiled._lock._at_fork_reinit()  # in place: graphs and shortcuts have it, too
        compiled._busy = False


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
