# cython: language_level=3, boundscheck=False, wraparound=False
"""The way of a call that looks like the one before it: a replay, without the Python of compiled.py and call.py, which at tiny
sizes takes as long as the kernels do. What such a call is, call.py decides; here is only how it is recognised and repeated."""

cimport numpy as cnp
from libc.string cimport memcmp, memmove

cnp.import_array()

cdef extern from "Python.h":
    ctypedef struct PyTypeObject
    object PyType_GenericAlloc(PyTypeObject *kind, Py_ssize_t items)


cdef class Shortcut:
    """A call that a replay answered, as what later ones have to look like for the same to hold. Everything is taken from the
    captured call; see CapturedCall.shortcut.

    expected   for each argument (the program's array that takes its values, its type, the number of its dtype, what it has to be
               equal to, or None) where it is an array, or a tensor without a name that wants no gradient, of that dtype and
               shape; else (None, what it has to be, 0, None): this very object, or an equal string or integer
    mode       what `mode_of()` returns, its parts compared by identity
    changes    of `modes`, the counter of mode changes of all modules
    leaves     (leaf, its array, what its gradient has to be) for each; `anything` means that it may be anything
    grads      (leaf, the gradient it has afterwards)
    value      of which a copy is returned, in a new `kind`, a Node, filled by `initialise(node, array)`; where it is None, what
               `copied()` makes is returned"""

    cdef object mode_of, modes, anything, acquire, release, program, run, initialise, copied
    cdef tuple expected, mode, leaves, grads
    cdef type kind
    cdef cnp.ndarray value
    cdef Py_ssize_t changes, calls

    def __init__(self, *, mode_of, modes, lock, program, tuple expected, tuple leaves, tuple grads, anything,
                 cnp.ndarray value, type kind, initialise, copied):
        self.mode_of, self.mode = mode_of, mode_of()
        self.modes, self.changes = modes, modes.changes
        self.acquire, self.release = lock.acquire, lock.release
        self.program, self.run, self.calls = program, program.replay.run, program.replay.count
        self.expected = expected
        self.leaves, self.grads, self.anything = leaves, grads, anything
        self.value, self.kind, self.initialise, self.copied = value, kind, initialise, copied

    cdef bint fits(self, tuple arguments) except -1:
        """Whether a call with these arguments is the same replay, to be asked with the lock held."""
        cdef Py_ssize_t i
        cdef tuple mode = self.mode_of()
        for i in range(len(mode)):
            if mode[i] is not self.mode[i]:
                return False
        if len(arguments) != len(self.expected) or self.changes != self.modes.changes:
            return False
        for given, (own, known, number, first) in zip(arguments, self.expected):
            if own is None:
                if given is not known and not (type(given) is type(known) and type(given) in (str, int) and given == known):
                    return False
            elif type(given) is not known:
                return False
            elif known is cnp.ndarray:
                if not alike(given, own, number, first):
                    return False
            elif given.requires_grad or given.name is not None or not alike(given.value, own, number, first):
                return False
        for leaf, value, grad in self.leaves:
            if leaf.value is not value or (grad is not self.anything and leaf.grad is not grad):
                return False
        return True

    cdef object repeated(self, tuple arguments):
        """The results of a call that fits."""
        for given, (own, known, _, _) in zip(arguments, self.expected):
            if own is not None:
                take_over(own, given if known is cnp.ndarray else given.value)
        done = self.run()
        if done < self.calls:
            raise self.program.failure(done)
        for leaf, grad in self.grads:
            leaf.grad = grad
        if self.value is None:
            return self.copied()
        result = PyType_GenericAlloc(<PyTypeObject *>self.kind, 0)
        self.initialise(result, <cnp.ndarray>cnp.PyArray_NewCopy(self.value, cnp.NPY_CORDER))
        return result


cdef inline bint alike(cnp.ndarray given, cnp.ndarray own, int number, cnp.ndarray first) noexcept:
    """Whether an array has the shape of `own`, the type with this number, and the bytes of `first` where that is not None."""
    cdef int i
    if cnp.PyArray_TYPE(given) != number or cnp.PyArray_NDIM(given) != cnp.PyArray_NDIM(own):
        return False
    for i in range(cnp.PyArray_NDIM(own)):
        if cnp.PyArray_DIM(given, i) != cnp.PyArray_DIM(own, i):
            return False
    return first is None or (
        cnp.PyArray_TYPE(first) == number and cnp.PyArray_ISCARRAY_RO(first) and cnp.PyArray_ISCARRAY_RO(given)
        and memcmp(cnp.PyArray_DATA(given), cnp.PyArray_DATA(first), cnp.PyArray_NBYTES(first)) == 0
    )


cdef inline int take_over(cnp.ndarray own, cnp.ndarray given) except -1:
    """own[...] = given"""
    if (cnp.PyArray_TYPE(own) == cnp.PyArray_TYPE(given) and cnp.PyArray_ISCARRAY_RO(given) and cnp.PyArray_ISCARRAY(own)):
        memmove(cnp.PyArray_DATA(own), cnp.PyArray_DATA(given), cnp.PyArray_NBYTES(own))
        return 0
    return cnp.PyArray_CopyInto(own, given)


cdef class WithShortcut:
    """A callable that takes its shortcut where a call fits it, and calls its method `_call(arguments, keywords)` where not."""

    cdef public Shortcut _shortcut

    def __call__(self, *arguments, **keywords):
        cdef Shortcut shortcut = self._shortcut
        if shortcut is not None and not keywords and shortcut.acquire(False):
            try:
                if shortcut.fits(arguments):
                    return shortcut.repeated(arguments)
            finally:
                shortcut.release()
        return self._call(arguments, keywords)
