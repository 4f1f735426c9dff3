# cython: language_level=3, boundscheck=False, wraparound=False
"""The way of a call that looks like the one before it: a replay, without the Python of compiled.py and call.py, which at tiny
sizes takes as long as the kernels do. What such a call is, call.py decides; here is only how it is recognised and repeated."""

cimport numpy as cnp
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memmove

cnp.import_array()

cdef extern from "Python.h":
    ctypedef struct PyObject
    ctypedef struct PyTypeObject
    object PyType_GenericAlloc(PyTypeObject *kind, Py_ssize_t items)
    PyObject *PyDict_GetItemWithError(object holder, object key) except? NULL
    int PyDict_Next(object holder, Py_ssize_t *at, PyObject **key, PyObject **value)
    PyObject *PyCell_GET(object cell)
    PyObject *_PyType_Lookup(PyTypeObject *cls, object name)
    ctypedef struct PyMemberDef:
        Py_ssize_t offset
    ctypedef struct PyMemberDescrObject:
        PyMemberDef *d_member

cdef extern from "structmember.h":
    pass


cdef Py_ssize_t offset_of(member) except -1:
    """Where objects hold what a name among their __slots__ refers to."""
    if type(member).__name__ != "member_descriptor":
        raise TypeError(f"expected a slot, got {member!r}")
    return (<PyMemberDescrObject *>member).d_member.offset


cdef inline PyObject *held(object x, Py_ssize_t offset) noexcept:
    """What such a slot refers to, found without a look-up."""
    return (<PyObject **>((<char *><void *>x) + offset))[0]


cdef class Watch:
    """Places outside a function, and the values that they had in the capture.

    alike        whether two values that are not one object are the same all the same
    same_values  the same of two arrays
    contents     a copy of the structure of a container
    missing      what stands for a value where there is none
    places       (kind, holder, key, value) as reach.Place has them
    arrays       (label, array, a copy of it)"""

    cdef tuple cells, entries, attributes, statics, classes, containers, arrays
    cdef object alike, same_values, contents, missing

    def __init__(self, alike, same_values, contents, missing, places, arrays=()):
        def of(*kinds):
            return tuple([tuple(place[1:]) for place in places if place[0] in kinds])

        self.alike, self.same_values, self.contents, self.missing = alike, same_values, contents, missing
        self.cells, self.entries = of("cell"), of("entry")
        self.attributes, self.containers = of("attribute"), of("contents")
        self.statics, self.classes = of("static"), of("class")
        self.arrays = tuple([(array, copy) for _, array, copy in arrays])

    cpdef bint same(self) except -1:
        """Whether all places hold the same values."""
        cdef PyObject *found
        cdef Py_ssize_t n
        for cell, _, value in self.cells:
            found = PyCell_GET(cell)
            if found != <PyObject *>value and (found == NULL or not self.alike(<object>found, value)):
                return False
        for holder, key, value in self.entries:
            found = PyDict_GetItemWithError(holder, key)
            if found != <PyObject *>value and not (value is self.missing if found == NULL else self.alike(<object>found, value)):
                return False
        for cls, name, value in self.statics:
            found = _PyType_Lookup(<PyTypeObject *>cls, name)
            if found != <PyObject *>value and not (value is self.missing if found == NULL else self.alike(<object>found, value)):
                return False
        for holder, _, cls in self.classes:
            if type(holder) is not cls:
                return False
        for holder, key, value in self.attributes:
            now = getattr(holder, key, self.missing)
            if now is not value and not self.alike(now, value):
                return False
        for holder, _, value in self.containers:
            if not self.contain(holder, value):
                return False
        for array, copy in self.arrays:
            if alike(<cnp.ndarray>array, <cnp.ndarray>copy, cnp.PyArray_TYPE(<cnp.ndarray>copy), <cnp.ndarray>copy):
                continue
            if cnp.PyArray_ISCARRAY_RO(<cnp.ndarray>array) or not self.same_values(array, copy):
                return False
        return True

    cdef bint contain(self, holder, tuple values) except -1:
        """Whether a container holds these values, in this order."""
        cdef PyObject *key
        cdef PyObject *found
        cdef Py_ssize_t n = 0, at = 0
        if type(holder) is list:
            if len(<list>holder) != len(values):
                return False
            for n in range(len(values)):
                if (<list>holder)[n] is not values[n] and not self.alike((<list>holder)[n], values[n]):
                    return False
            return True
        if type(holder) is not dict:
            return self.alike(self.contents(holder), values)
        if len(<dict>holder) != len(values):
            return False
        for name, old in values:
            if not PyDict_Next(holder, &at, &key, &found):
                return False
            if key != <PyObject *>name and not self.alike(<object>key, name):
                return False
            if found != <PyObject *>old and not self.alike(<object>found, old):
                return False
        return True


cdef struct Leaf:
    PyObject *leaf
    PyObject *value
    PyObject *grad
    PyObject *wanted


cdef class Shortcut:
    """A call that a replay answered, as what later ones have to look like for the same to hold. Everything is taken from the
    captured call; see CapturedCall.shortcut.

    expected   for each argument (the program's array that takes its values, its type, the number of its dtype, what it has to be
               equal to, or None) where it is an array, or a tensor without a name that wants no gradient, of that dtype and
               shape; else (None, what it has to be, 0, None): this very object, or an equal string or integer
    mode       what `mode_of()` returns, its parts compared by identity
    changes    counts the changes of all modules: of their modes, and of what else their attributes are
    outside, of_modules   what is watched at every call, and when an attribute of any module has changed
    leaves     (leaf, its array, what its gradient has to be, whether it wants one) for each; where its gradient has to be
               `anything`, it may be anything
    grads      (leaf, the gradient it has afterwards)
    running    is called before the program writes to parameters; None where it does not
    value      of which a copy is returned, in a new `kind`, a Node, filled by `initialise(node, array)`; where it is None, what
               `copied()` makes is returned"""

    cdef object mode_of, changes, modes, attributes, anything, acquire, release, program, run, initialise, copied, running
    cdef Watch outside, of_modules
    cdef tuple expected, mode, leaves, grads
    cdef type kind
    cdef cnp.ndarray value
    cdef Py_ssize_t calls, at_value, at_grad, at_requires_grad, at_modes, at_attributes, count
    cdef Leaf *found  # the leaves again, as pointers, which a loop has at hand; NULL for a gradient that may be anything

    def __init__(self, *, mode_of, changes, Watch outside, Watch of_modules, lock, program, tuple expected, tuple leaves,
                 tuple grads, anything, cnp.ndarray value, type kind, initialise, copied, running):
        cdef Leaf *of_leaf
        self.mode_of, self.mode = mode_of, mode_of()
        self.changes, self.modes, self.attributes = changes, changes.modes, changes.attributes
        self.at_modes = offset_of(type(changes).modes)
        self.at_attributes = offset_of(type(changes).attributes)
        self.outside, self.of_modules = outside, of_modules
        self.acquire, self.release = lock.acquire, lock.release
        self.program, self.run, self.calls = program, program.replay.run, program.replay.count
        self.expected = expected
        self.leaves, self.grads, self.anything, self.running = leaves, grads, anything, running
        self.at_value, self.at_grad = offset_of(kind.value), offset_of(kind.grad)
        self.at_requires_grad = offset_of(kind.requires_grad)
        self.value, self.kind, self.initialise, self.copied = value, kind, initialise, copied
        self.found = <Leaf *>malloc(len(leaves) * sizeof(Leaf) + 1)
        if self.found == NULL:
            raise MemoryError("compile: no memory for a shortcut")
        for leaf, at, grad, wanted in leaves:
            of_leaf = self.found + self.count
            of_leaf.leaf, of_leaf.value, of_leaf.wanted = <PyObject *>leaf, <PyObject *>at, <PyObject *>wanted
            of_leaf.grad = NULL
            if grad is not anything:
                of_leaf.grad = <PyObject *>grad
            self.count += 1

    def __dealloc__(self):
        free(self.found)

    cdef bint fits(self, tuple arguments) except -1:
        """Whether a call with these arguments is the same replay, to be asked with the lock held."""
        cdef Py_ssize_t i
        cdef Leaf *leaf
        cdef tuple mode = self.mode_of()
        for i in range(len(mode)):
            if mode[i] is not self.mode[i]:
                return False
        if len(arguments) != len(self.expected) or held(self.changes, self.at_modes) != <PyObject *>self.modes:
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
        for i in range(self.count):
            leaf = self.found + i
            if held(<object>leaf.leaf, self.at_value) != leaf.value:
                return False
            if held(<object>leaf.leaf, self.at_requires_grad) != leaf.wanted:
                return False
            if leaf.grad != NULL and held(<object>leaf.leaf, self.at_grad) != leaf.grad:
                return False
        if held(self.changes, self.at_attributes) != <PyObject *>self.attributes:
            attributes = self.changes.attributes
            if not self.of_modules.same():
                return False
            self.attributes = attributes
        return self.outside.same()

    cdef object repeated(self, tuple arguments):
        """The results of a call that fits."""
        for given, (own, known, _, _) in zip(arguments, self.expected):
            if own is not None:
                take_over(own, given if known is cnp.ndarray else given.value)
        if self.running is not None:
            self.running()
        done = self.run()
        if done < self.calls:
            raise self.program.failure(done)
        for leaf, grad in self.grads:
            if held(leaf, self.at_grad) != <PyObject *>grad:
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
    cdef public bint _busy

    def __call__(self, *arguments, **keywords):
        cdef Shortcut shortcut = self._shortcut
        if shortcut is not None and not keywords and shortcut.acquire(False):
            try:
                if not self._busy:  # else a signal handler or a finalizer called it, between two steps of this very function
                    self._busy = True
                    try:
                        if shortcut.fits(arguments):
                            return shortcut.repeated(arguments)
                    finally:
                        self._busy = False
            finally:
                shortcut.release()
        return self._call(arguments, keywords)
