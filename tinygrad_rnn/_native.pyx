# cython: language_level=3, boundscheck=True, wraparound=False, cdivision=True, initializedcheck=False
"""The native backend: every kernel of csrc/ as a function of numpy arrays.

Thin on purpose: it checks shapes and dtypes, allocates the output, and calls the C kernel; the mathematics is in csrc/.
`_reference.py` has the same functions in plain numpy, and a test holds the two together.

Every array is float32 or float64, of any strides; an input that a kernel needs contiguous is copied by the copy kernel.
Outputs are new C-contiguous arrays, except where a docstring says "view" or "in place". Mixed dtypes raise TypeError,
shapes that do not fit raise ValueError, an index out of range raises IndexError.
"""
import builtins
import operator
import os
import threading

import numpy as np
cimport numpy as cnp
from libc.stddef cimport ptrdiff_t
from libc.math cimport INFINITY
from libc.stdlib cimport calloc, free


cnp.import_array()

cdef extern from "pythread.h":
    unsigned long PyThread_get_thread_ident() noexcept nogil

cdef extern from "Python.h":
    int PyErr_CheckSignals() except -1

cdef extern from "tgr.h":
    ctypedef int (*tgr_kernel)(void *const *p, const ptrdiff_t *n, const double *c) noexcept nogil
    ctypedef struct tgr_isa:
        const char *name
        int vector_bytes
        int panel[2]
        int chains
        int (*supported)() noexcept nogil
        tgr_kernel kernels[2][256]
    int TGR_OK, TGR_BAD_INDEX, TGR_NO_MEMORY, TGR_TIME_IS_UP
    int TGR_F32, TGR_F64, TGR_KERNEL_COUNT, TGR_PER_AXIS
    ctypedef struct tgr_signature:
        const char *name
        int pointers, sizes, constants
    const tgr_signature *tgr_signature_of(int kernel) noexcept nogil
    ctypedef struct tgr_call:
        short kernel
        signed char dtype, is_long
        long long p_at, n_at, c_at
    int tgr_is_long(int kernel, const ptrdiff_t *n, const double *c) noexcept nogil
    int tgr_replay(const tgr_isa *isa, const tgr_call *calls, ptrdiff_t count, void *const *p, const ptrdiff_t *n,
                   const double *c, double seconds, ptrdiff_t *done) noexcept nogil
    int tgr_start() noexcept nogil
    int TGR_K_neg, TGR_K_exp, TGR_K_log, TGR_K_sqrt, TGR_K_tanh, TGR_K_sigmoid, TGR_K_relu, TGR_K_relu_vjp, TGR_K_scale
    int TGR_K_abs, TGR_K_square, TGR_K_reciprocal, TGR_K_rsqrt, TGR_K_sign, TGR_K_floor, TGR_K_ceil, TGR_K_exp2
    int TGR_K_expm1, TGR_K_sinh, TGR_K_cosh, TGR_K_log1p, TGR_K_log2, TGR_K_log10, TGR_K_logsigmoid, TGR_K_arcsinh
    int TGR_K_arccosh, TGR_K_arctanh, TGR_K_arcsin, TGR_K_arccos, TGR_K_arctan, TGR_K_softsign, TGR_K_sin, TGR_K_cos
    int TGR_K_tan, TGR_K_log1p_dx, TGR_K_arcsin_dx, TGR_K_arctan_dx, TGR_K_arcsinh_dx, TGR_K_arccosh_dx, TGR_K_arctanh_dx
    int TGR_K_softsign_dx, TGR_K_maximum, TGR_K_minimum, TGR_K_maximum_da, TGR_K_logaddexp, TGR_K_logaddexp_da
    int TGR_K_arctan2, TGR_K_hypot, TGR_K_div_or_zero, TGR_K_put_where_not, TGR_K_nonzero, TGR_K_clip, TGR_K_clip_vjp
    int TGR_K_add, TGR_K_sub, TGR_K_mul, TGR_K_div, TGR_K_pow, TGR_K_pow_dbase, TGR_K_pow_dexponent, TGR_K_equal
    int TGR_K_copy, TGR_K_accumulate, TGR_K_fill, TGR_K_matmul, TGR_K_sum, TGR_K_max, TGR_K_logsumexp
    int TGR_K_softmax, TGR_K_log_softmax, TGR_K_nll, TGR_K_cross_entropy_vjp, TGR_K_take, TGR_K_take_add
    int TGR_K_add_norm, TGR_K_clip_to_norm, TGR_K_clip_to_value, TGR_K_sgd, TGR_K_adam, TGR_K_rmsprop, TGR_K_keep_mask
    int TGR_K_erf, TGR_K_gelu, TGR_K_gelu_tanh, TGR_K_silu, TGR_K_softplus, TGR_K_elu, TGR_K_leaky_relu, TGR_K_hardtanh
    int TGR_K_huber, TGR_K_nll_vjp, TGR_K_count_targets, TGR_K_bce_with_logits
    int TGR_K_layer_norm, TGR_K_layer_norm_vjp, TGR_K_moments, TGR_K_batch_norm, TGR_K_batch_norm_vjp, TGR_K_track_moments
    int TGR_K_pack, TGR_K_rnn_cell, TGR_K_rnn_cell_vjp, TGR_K_multiply_adds
    int TGR_K_lstm_gates, TGR_K_lstm_state, TGR_K_lstm_state_vjp, TGR_K_addcmul, TGR_K_addcmul_vjp, TGR_K_lerp, TGR_K_lerp_vjp
    int TGR_K_select_steps, TGR_K_mask_steps
    int TGR_K_conv2d, TGR_K_conv2d_dx, TGR_K_conv2d_dw
    int TGR_K_max_pool2d, TGR_K_max_pool2d_vjp, TGR_K_avg_pool2d, TGR_K_avg_pool2d_vjp
    int TGR_K_min, TGR_K_prod, TGR_K_cumsum, TGR_K_cumprod, TGR_K_cumprod_vjp
    int TGR_IDENTITY, TGR_TANH, TGR_SIGMOID, TGR_RELU, TGR_LSTM_GATES
    ctypedef struct tgr_cache_sizes:
        ptrdiff_t l1, l2
    tgr_cache_sizes tgr_caches() noexcept nogil
    int tgr_threads() noexcept nogil
    void tgr_set_threads(int n) noexcept nogil
    int tgr_threads_running() noexcept nogil
    int tgr_isa_count() noexcept nogil
    const tgr_isa *tgr_isa_at(int i) noexcept nogil
    const tgr_isa *tgr_best_isa() noexcept nogil
    const char *tgr_compiler() noexcept nogil

cdef enum:
    MAX_DIMS = 64
    STRIDED_SIZES = 1 + 3 * MAX_DIMS  # ndim, dims and two sets of strides
    # Below this many elementary operations, releasing and taking the GIL costs more than it lets others gain.
    RELEASE_ABOVE = 4096

cdef const tgr_isa *active = NULL

if not tgr_start():
    raise ImportError("tinygrad_rnn: the system refused a key for memory of threads, or a handler of forks")


# ---- instruction sets ----------------------------------------------------------------------------------------------

def isa_names():
    """Names of the compiled instruction sets, slowest first."""
    return [tgr_isa_at(i).name.decode() for i in range(tgr_isa_count())]


def supported_isa_names():
    """Names of the compiled instruction sets that this CPU runs, slowest first."""
    return [tgr_isa_at(i).name.decode() for i in range(tgr_isa_count()) if tgr_isa_at(i).supported()]


def isa():
    """Name of the instruction set in use."""
    return active.name.decode()


def vector_bytes():
    """Width in bytes of a vector register of the instruction set in use."""
    return active.vector_bytes


def compiler():
    """Name and version of the compiler that built the kernels."""
    return tgr_compiler().decode()


def multiply_adds(dtype, Py_ssize_t steps):
    """Run `steps` steps of independent multiply-adds in registers and return how many floating-point operations that was: its
    time gives the peak that a benchmark of products is compared with."""
    cdef double result, c = steps
    cdef void *p = &result
    cdef int at
    if np.dtype(dtype) not in (np.float32, np.float64):
        raise TypeError(f"multiply_adds: expected float32 or float64, got {np.dtype(dtype)}")
    at = TGR_F32 if np.dtype(dtype) == np.float32 else TGR_F64
    run(TGR_K_multiply_adds, at, &p, NULL, &c, steps)
    return 2 * steps * active.chains * (active.vector_bytes // np.dtype(dtype).itemsize)


def set_isa(str name):
    """Use instruction set `name` from now on, in every thread. Raises ValueError if it is unknown or unsupported here."""
    global active
    for i in range(tgr_isa_count()):
        if tgr_isa_at(i).name.decode() == name and tgr_isa_at(i).supported():
            active = tgr_isa_at(i)
            return
    if name in isa_names():
        raise ValueError(f"instruction set {name!r} is not supported by this CPU, which runs "
                         f"{', '.join(supported_isa_names())}")
    raise ValueError(f"unknown instruction set {name!r}; this build has {', '.join(isa_names())}")


active = tgr_best_isa()
if os.environ.get("TGR_ISA"):
    try:
        set_isa(os.environ["TGR_ISA"])
    except ValueError as error:
        raise ImportError(f"TGR_ISA: {error}") from None


# ---- threads and caches ----------------------------------------------------------------------------------------------

def get_num_threads():
    """The most threads that one kernel uses; see set_num_threads."""
    return tgr_threads()


def set_num_threads(n):
    """Let a large kernel use at most n threads (256 at most), in the whole process, from its next call on.

    At first it is OMP_NUM_THREADS, or else the cores this process may use. Results have the same bits whatever n. Raises
    ValueError below 1, TypeError for what is not an integer. Without POSIX threads it stays 1."""
    cdef object count = operator.index(n)
    if count < 1:
        raise ValueError(f"set_num_threads: expected at least 1, got {n}")
    tgr_set_threads(<int>builtins.min(count, 256))


def _first_num_threads():
    """OMP_NUM_THREADS, whose first number counts, as everywhere; else the cores that this process may use."""
    try:
        return builtins.max(1, int(os.environ.get("OMP_NUM_THREADS", "").split(",")[0]))
    except ValueError:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


set_num_threads(_first_num_threads())


def threads_running():
    """Threads, the callers' own included, that work on a kernel that is shared out, at this moment."""
    return tgr_threads_running()


def cache_sizes():
    """Sizes in bytes of the L1 and L2 data caches that matrix products are blocked for."""
    return tgr_caches().l1, tgr_caches().l2


# ---- checks, allocation and the one call into C --------------------------------------------------------------------

cdef str name_of(int kernel):
    return tgr_signature_of(kernel).name.decode()


cdef int dtype_of(cnp.ndarray x, int kernel) except -1:
    cdef int kind = cnp.PyArray_TYPE(x)
    if cnp.PyArray_ISNOTSWAPPED(x):
        if kind == cnp.NPY_FLOAT:
            return TGR_F32
        if kind == cnp.NPY_DOUBLE:
            return TGR_F64
    raise TypeError(f"{name_of(kernel)}: expected float32 or float64, got {x.dtype}")


cdef int same_dtype(cnp.ndarray x, cnp.ndarray y, int kernel) except -1:
    cdef int dtype = dtype_of(x, kernel)
    if dtype_of(y, kernel) != dtype:
        raise TypeError(f"{name_of(kernel)}: {x.dtype} and {y.dtype} do not mix")
    return dtype


cdef inline bint is_plain(cnp.ndarray x) noexcept:
    """C-contiguous, aligned and in native byte order: what a kernel can read."""
    return cnp.PyArray_IS_C_CONTIGUOUS(x) and cnp.PyArray_ISBEHAVED_RO(x)


cdef int run(int kernel, int dtype, void **p, const ptrdiff_t *n, const double *c, ptrdiff_t work) except -1:
    cdef int status
    cdef tgr_kernel call = active.kernels[dtype][kernel]
    if work > RELEASE_ABOVE:
        with nogil:
            status = call(p, n, c)
    else:
        status = call(p, n, c)
    if status != TGR_OK:
        if status == TGR_NO_MEMORY:
            raise MemoryError(f"{name_of(kernel)}: no memory for the scratch of this thread")
        raise IndexError(f"{name_of(kernel)}: an index lies outside 0..{n[1] - 1}")
    if recording is not None and recording.thread == PyThread_get_thread_ident():
        recording.note(kernel, dtype, p, n, c)
    return 0


# ---- recording and replaying calls ---------------------------------------------------------------------------------

cdef class Recording:
    """The kernel calls of one thread: `calls`, a list of (kernel name, dtype 0 or 1, addresses, sizes, constants), and `made`,
    the arrays that were allocated for them."""
    cdef readonly list calls, made
    cdef unsigned long thread

    def __cinit__(self):
        self.calls, self.made = [], []
        self.thread = PyThread_get_thread_ident()

    cdef note(self, int kernel, int dtype, void **p, const ptrdiff_t *n, const double *c):
        cdef const tgr_signature *signature = tgr_signature_of(kernel)
        cdef ptrdiff_t sizes = 1 + 3 * n[0] if signature.sizes == TGR_PER_AXIS else signature.sizes
        self.calls.append((signature.name.decode(), dtype, tuple([<size_t>p[i] for i in range(signature.pointers)]),
                           tuple([n[i] for i in range(sizes)]), tuple([c[i] for i in range(signature.constants)])))


cdef Recording recording = None
_one_recording = threading.Lock()


def recorded(f, arguments, keywords):
    """(f(*arguments, **keywords), calls, made): what f returned, the kernel calls of this thread meanwhile and the arrays that
    were allocated for them, as `Recording` says."""
    global recording
    cdef Recording mine = Recording()
    if recording is not None and recording.thread == mine.thread:
        raise RuntimeError("recorded: this thread is recording already")
    with _one_recording:
        recording = mine
        try:
            result = f(*arguments, **keywords)
        finally:
            recording = None
    return result, mine.calls, mine.made


def _forget_recording():
    """In a forked child: the thread that recorded did not come along, and cannot give its lock back."""
    global recording, _one_recording
    if recording is None or recording.thread != PyThread_get_thread_ident():
        recording, _one_recording = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_recording)


def signature(str kernel):
    """(number, pointers, sizes, constants) of a kernel; sizes is None where it depends on the number of axes."""
    for i in range(TGR_KERNEL_COUNT):
        if tgr_signature_of(i).name.decode() == kernel:
            sizes = tgr_signature_of(i).sizes
            return i, tgr_signature_of(i).pointers, None if sizes == TGR_PER_AXIS else sizes, tgr_signature_of(i).constants
    raise ValueError(f"unknown kernel {kernel!r}")


def panel_columns(Py_ssize_t dtype):
    """Columns of a packed panel, for dtype 0 (float32) or 1 (float64), in the instruction set in use."""
    if not 0 <= dtype <= 1:
        raise ValueError(f"panel_columns: expected 0 (float32) or 1 (float64), got {dtype}")
    return active.panel[dtype]


LONGEST_SIZE = 1 << 60
cdef double SLICE = 0.04  # seconds that a replay runs before it asks for signals

# Which sizes of a kernel are divisors, or lengths of windows, and so at least 1.
_POSITIVE = {
    **dict.fromkeys(("conv2d", "conv2d_dx", "conv2d_dw"), (5, 6, 7, 8, 9, 10, 13, 14, 15)),
    **dict.fromkeys(("max_pool2d", "max_pool2d_vjp", "avg_pool2d", "avg_pool2d_vjp"), (1, 2, 3, 4, 5, 6, 7, 8)),
    **dict.fromkeys(("max", "min"), (1,)),
    "track_moments": (1,),
}
# Which are strides, or what an index is compared with, and so may be negative: from the first to the last of them.
_SIGNED = {
    "matmul": (4, 11), "pack": (2, 4), "rnn_cell": (4, 12), "rnn_cell_vjp": (4, 12), "nll": (2, 3), "nll_vjp": (2, 3),
    "cross_entropy_vjp": (2, 3), "count_targets": (1, 2), "lstm_state": (2, 7), "lstm_state_vjp": (2, 11), "addcmul": (2, 6),
    "addcmul_vjp": (2, 7), "lerp": (2, 6), "lerp_vjp": (2, 9), "select_steps": (2, 5), "mask_steps": (2, 4),
}


cdef int check_sizes(str where, str kernel, sizes, tuple n) except -1:
    """Raises ValueError or TypeError unless n holds sizes that the kernel takes; `sizes` is how many, None if that depends on axes."""
    cdef int at
    cdef object least
    first = last = 0
    for x in n:
        operator.index(x)  # or TypeError
    if sizes is None:
        if not n or not 1 <= n[0] <= MAX_DIMS:
            raise ValueError(f"{where}: sizes {n} do not begin with a number of axes in 1..{MAX_DIMS}")
        first = 1 + n[0]
        sizes = last = 1 + 3 * n[0]
    else:
        first, last = _SIGNED.get(kernel, (0, 0))
    if len(n) != sizes:
        raise ValueError(f"{where} has {len(n)} sizes, expected {sizes}")
    for at in range(len(n)):
        least = 1 if at in _POSITIVE.get(kernel, ()) else -LONGEST_SIZE if first <= at < last else 0
        if not least <= n[at] <= LONGEST_SIZE:
            raise ValueError(f"{where}: size {at} of {n} is {n[at]}, expected {least}..{LONGEST_SIZE}")
    at = 11 if kernel == "matmul" else 3
    if kernel in ("matmul", "rnn_cell") and not 0 <= n[at] <= TGR_LSTM_GATES:
        raise ValueError(f"{where}: size {at} of {n} is no activation")
    return 0


cdef class Replay:
    """A list of calls, ready to be repeated any number of times in one C call, on the instruction set that was in use when it
    was made.

    calls   (kernel name, dtype 0 or 1, addresses, sizes, constants) each, the last three tuples. The memory behind the addresses
            must be there, and of the extents that the sizes say, at every run: whoever makes a Replay holds it.

    count is how many there are, and runs how often `run` was called. Raises TypeError or ValueError for what is no call of a kernel:
    another name, dtype or number of addresses, sizes or constants than it takes, or a size below zero or, of a divisor, zero."""
    cdef const tgr_isa *isa
    cdef tgr_call *calls
    cdef readonly ptrdiff_t count, runs
    cdef object pointers, sizes, constants  # numpy arrays that own the tables

    def __cinit__(self, list calls not None):
        cdef ptrdiff_t i, count = len(calls)
        cdef dict known = {}, at = {}
        cdef list pointers = [], sizes = [], constants = []
        cdef tuple call, addresses, n, c, of_kernel
        cdef dict seen
        cdef const ptrdiff_t *table
        cdef const double *numbers
        calls = calls[:]  # nobody else's
        self.isa = active
        self.calls = <tgr_call *>calloc(count + 1, sizeof(tgr_call))
        if self.calls == NULL:
            raise MemoryError()
        for i in range(count):
            if type(calls[i]) is not tuple or len(calls[i]) != 5:
                raise TypeError(f"Replay: call {i} is no (kernel, dtype, addresses, sizes, constants)")
            call = calls[i]
            kernel, dtype = call[0], call[1]
            of_kernel = known.get(kernel)
            if of_kernel is None:
                of_kernel = known[kernel] = *signature(kernel), {}
            number, n_pointers, n_sizes, n_constants, seen = of_kernel
            if type(call[2]) is not tuple or type(call[3]) is not tuple or type(call[4]) is not tuple:
                raise TypeError(f"Replay: call {i}, {kernel}: expected three tuples, of addresses, sizes and constants")
            addresses, n, c = call[2], call[3], call[4]
            if len(addresses) != n_pointers or len(c) != n_constants:
                raise ValueError(f"Replay: call {i}, {kernel}, has {len(addresses)} addresses and {len(c)} constants, expected "
                                 f"{n_pointers} and {n_constants}")
            if dtype != 0 and dtype != 1:
                raise ValueError(f"Replay: call {i}, {kernel}: expected dtype 0 (float32) or 1 (float64), got {dtype!r}")
            place = seen.get(n)
            if place is None:  # most calls have the sizes of others
                check_sizes(f"Replay: call {i}, {kernel}", kernel, n_sizes, n)
                place = seen[n] = at.setdefault(n, len(sizes))
                if place == len(sizes):
                    sizes += n
            for x in addresses:
                if type(x) is not int:
                    operator.index(x)  # or TypeError
            for x in c:
                if type(x) is not float:
                    float(x)  # or TypeError
            self.calls[i].kernel, self.calls[i].dtype = number, dtype
            self.calls[i].p_at, self.calls[i].n_at, self.calls[i].c_at = len(pointers), place, len(constants)
            pointers += addresses
            constants += c
        self.count = count
        self.pointers = np.array(pointers, np.uintp)
        self.sizes = np.array(sizes, np.intp)
        self.constants = np.array(constants, np.float64)
        table = <const ptrdiff_t *>cnp.PyArray_DATA(self.sizes)
        numbers = <const double *>cnp.PyArray_DATA(self.constants)
        for i in range(count):
            self.calls[i].is_long = tgr_is_long(self.calls[i].kernel, table + self.calls[i].n_at, numbers + self.calls[i].c_at)

    def __dealloc__(self):
        free(self.calls)

    def run(self, Py_ssize_t start=0, stop=None):
        """Repeat the calls start..stop - 1, the GIL released. Returns how many succeeded: fewer than asked for where one met an
        index out of range, which ended the run. Raises MemoryError where there is no memory for the scratch of this thread.

        In the main thread of Python, a long run asks for signals between two calls, every 40 ms at the most often: Ctrl-C ends it
        with KeyboardInterrupt. Then the calls before have written their outputs and those after have not: of an update, some
        parameters may be new and others old. The next run starts from the beginning. A single call is never interrupted."""
        cdef ptrdiff_t end = self.count if stop is None else stop, done = 0
        cdef void *const *p = <void *const *>cnp.PyArray_DATA(self.pointers)
        cdef const ptrdiff_t *n = <const ptrdiff_t *>cnp.PyArray_DATA(self.sizes)
        cdef const double *c = <const double *>cnp.PyArray_DATA(self.constants)
        cdef double seconds = SLICE
        cdef int status
        if not 0 <= start <= end <= self.count:
            raise ValueError(f"Replay: {start}..{end} lies outside the {self.count} calls")
        self.runs += 1
        end -= start
        while True:
            with nogil:
                status = tgr_replay(self.isa, self.calls + start, end, p, n, c, seconds, &done)
            start += done
            end -= done
            if status != TGR_TIME_IS_UP:
                break
            if PyThread_get_thread_ident() == threading.main_thread().ident:
                PyErr_CheckSignals()
            else:
                seconds = INFINITY  # signals are for the main thread
        if status == TGR_NO_MEMORY:
            raise MemoryError(f"Replay: call {start}, {name_of(self.calls[start].kernel)}: no memory for the scratch of this thread")
        return start


cdef object allocator = None


def set_allocator(f):
    """Let f(shape, dtype) make the output arrays, for tests that put sentinels around them; None for numpy's own."""
    global allocator
    allocator = f


cdef cnp.ndarray allocated(tuple shape, dtype):
    """What the allocator made, if it is an array of that kind."""
    made = allocator(shape, dtype)
    if not isinstance(made, np.ndarray) or made.shape != shape or made.dtype != dtype or not is_plain(made):
        raise TypeError(f"set_allocator: the allocator did not make a contiguous {dtype} array of shape {shape}")
    return made


cdef cnp.ndarray new(tuple shape, dtype):
    return noted(np.empty(shape, dtype) if allocator is None else allocated(shape, np.dtype(dtype)))


cdef inline cnp.ndarray empty(int ndim, cnp.npy_intp *dims, cnp.ndarray like):
    if allocator is not None:
        return noted(allocated(tuple([dims[i] for i in range(ndim)]), like.dtype))
    return noted(<cnp.ndarray>cnp.PyArray_EMPTY(ndim, dims, cnp.PyArray_TYPE(like), 0))


cdef inline cnp.ndarray noted(cnp.ndarray y):
    if recording is not None and recording.thread == PyThread_get_thread_ident():
        recording.made.append(y)
    return y


cdef inline cnp.ndarray empty_like(cnp.ndarray x):
    return empty(cnp.PyArray_NDIM(x), cnp.PyArray_DIMS(x), x)


cdef int element_strides(cnp.ndarray x, ptrdiff_t *strides, int kernel) except -1:
    cdef int i
    cdef cnp.npy_intp size = cnp.PyArray_ITEMSIZE(x)
    if not cnp.PyArray_ISBEHAVED_RO(x):
        raise ValueError(f"{name_of(kernel)}: array is unaligned or not in native byte order")
    for i in range(cnp.PyArray_NDIM(x)):
        if cnp.PyArray_DIMS(x)[i] <= 1:  # never used, and numpy may report anything
            strides[i] = 0
            continue
        if cnp.PyArray_STRIDES(x)[i] % size:
            raise ValueError(f"{name_of(kernel)}: stride of axis {i} is not a multiple of the item size")
        strides[i] = cnp.PyArray_STRIDES(x)[i] // size
    return 0


cdef int collapse(int ndim, const cnp.npy_intp *dims, const ptrdiff_t *s, const ptrdiff_t *t, ptrdiff_t *n) noexcept:
    """Write {ndim, dims, s, t} to n with axes merged wherever both operands allow it; returns the new ndim >= 1."""
    cdef ptrdiff_t d[MAX_DIMS]
    cdef ptrdiff_t a[MAX_DIMS]
    cdef ptrdiff_t b[MAX_DIMS]
    cdef int i, top = -1
    for i in range(ndim):
        if dims[i] == 1:
            continue
        if top >= 0 and a[top] == s[i] * dims[i] and b[top] == t[i] * dims[i]:
            d[top] *= dims[i]
        else:
            top += 1
            d[top] = dims[i]
        a[top] = s[i]
        b[top] = t[i]
    if top < 0:
        top, d[0], a[0], b[0] = 0, 1, 1, 1
    n[0] = top + 1
    for i in range(top + 1):
        n[1 + i] = d[i]
        n[1 + n[0] + i] = a[i]
        n[1 + 2 * n[0] + i] = b[i]
    return top + 1


cdef cnp.ndarray contiguous(cnp.ndarray x, int kernel):
    if is_plain(x):
        return x
    dtype_of(x, kernel)
    return copy(x)


cdef int strided(int kernel, cnp.ndarray y, cnp.ndarray x) except -1:
    """y[...] = x or y[...] += x for equal shapes, any strides."""
    cdef ptrdiff_t sx[MAX_DIMS]
    cdef ptrdiff_t sy[MAX_DIMS]
    cdef ptrdiff_t n[STRIDED_SIZES]
    cdef void *p[2]
    cdef int dtype = same_dtype(y, x, kernel)
    if not cnp.PyArray_SAMESHAPE(x, y):
        raise ValueError(f"{name_of(kernel)}: shapes {shape_of(y)} and {shape_of(x)} differ")
    if is_plain(x) and is_plain(y):
        n[0], n[1], n[2], n[3] = 1, cnp.PyArray_SIZE(x), 1, 1
    else:
        element_strides(x, sx, kernel)
        element_strides(y, sy, kernel)
        collapse(cnp.PyArray_NDIM(x), cnp.PyArray_DIMS(x), sy, sx, n)
    p[0] = cnp.PyArray_DATA(y)
    p[1] = cnp.PyArray_DATA(x)
    return run(kernel, dtype, p, n, NULL, cnp.PyArray_SIZE(x))


cdef tuple shape_of(cnp.ndarray x):
    return tuple([cnp.PyArray_DIMS(x)[i] for i in range(cnp.PyArray_NDIM(x))])


cdef tuple axes_of(axis, int ndim, str name):
    """Sorted non-negative axes; None means all."""
    if axis is None:
        return tuple(range(ndim))
    axes = axis if isinstance(axis, tuple) else (axis,)
    out = set()
    for a in axes:
        i = operator.index(a)
        i = i + ndim if i < 0 else i
        if not 0 <= i < ndim:
            raise ValueError(f"{name}: axis {a} is out of bounds for {ndim} dimensions")
        if i in out:
            raise ValueError(f"{name}: axis {a} is given twice")
        out.add(i)
    return tuple(sorted(out))


# ---- pointwise -----------------------------------------------------------------------------------------------------

cdef cnp.ndarray unary(int kernel, cnp.ndarray x_, const double *c=NULL):
    cdef cnp.ndarray x = contiguous(x_, kernel)
    cdef int dtype = dtype_of(x, kernel)
    cdef cnp.ndarray y = empty_like(x)
    cdef void *p[2]
    cdef ptrdiff_t n = cnp.PyArray_SIZE(x)
    p[0] = cnp.PyArray_DATA(y)
    p[1] = cnp.PyArray_DATA(x)
    run(kernel, dtype, p, &n, c, n)
    return y


cdef tuple with_derivative(int kernel, cnp.ndarray x_, const double *c=NULL):
    cdef cnp.ndarray x = contiguous(x_, kernel)
    cdef int dtype = dtype_of(x, kernel)
    cdef cnp.ndarray y = empty_like(x)
    cdef cnp.ndarray dy = empty_like(x)
    cdef void *p[3]
    cdef ptrdiff_t n = cnp.PyArray_SIZE(x)
    p[0] = cnp.PyArray_DATA(y)
    p[1] = cnp.PyArray_DATA(dy)
    p[2] = cnp.PyArray_DATA(x)
    run(kernel, dtype, p, &n, c, n)
    return y, dy


cdef cnp.ndarray binary(int kernel, cnp.ndarray a, cnp.ndarray b):
    cdef int dtype = same_dtype(a, b, kernel)
    cdef int na = cnp.PyArray_NDIM(a), nb = cnp.PyArray_NDIM(b), nd = na if na > nb else nb, i
    cdef cnp.npy_intp dims[MAX_DIMS]
    cdef ptrdiff_t raw[MAX_DIMS]
    cdef ptrdiff_t sa[MAX_DIMS]
    cdef ptrdiff_t sb[MAX_DIMS]
    cdef ptrdiff_t n[STRIDED_SIZES]
    cdef cnp.npy_intp da, db
    cdef cnp.ndarray y
    cdef void *p[3]
    if cnp.PyArray_SAMESHAPE(a, b) and is_plain(a) and is_plain(b):
        y = empty_like(a)
        n[0], n[1], n[2], n[3] = 1, cnp.PyArray_SIZE(a), 1, 1
    else:
        element_strides(a, raw, kernel)
        for i in range(nd):
            sa[i] = 0 if i < nd - na or cnp.PyArray_DIMS(a)[i - nd + na] == 1 else raw[i - nd + na]
        element_strides(b, raw, kernel)
        for i in range(nd):
            sb[i] = 0 if i < nd - nb or cnp.PyArray_DIMS(b)[i - nd + nb] == 1 else raw[i - nd + nb]
            da = 1 if i < nd - na else cnp.PyArray_DIMS(a)[i - nd + na]
            db = 1 if i < nd - nb else cnp.PyArray_DIMS(b)[i - nd + nb]
            if da != db and da != 1 and db != 1:
                raise ValueError(f"{name_of(kernel)}: shapes {shape_of(a)} and {shape_of(b)} do not broadcast")
            dims[i] = db if da == 1 else da
        y = empty(nd, dims, a)
        collapse(nd, dims, sa, sb, n)
    p[0] = cnp.PyArray_DATA(y)
    p[1] = cnp.PyArray_DATA(a)
    p[2] = cnp.PyArray_DATA(b)
    run(kernel, dtype, p, n, NULL, cnp.PyArray_SIZE(y))
    return y


def neg(cnp.ndarray x not None):
    """-x"""
    return unary(TGR_K_neg, x)


def exp(cnp.ndarray x not None):
    """e^x"""
    return unary(TGR_K_exp, x)


def log(cnp.ndarray x not None):
    """Natural logarithm."""
    return unary(TGR_K_log, x)


def sqrt(cnp.ndarray x not None):
    """Square root."""
    return unary(TGR_K_sqrt, x)


def relu(cnp.ndarray x not None):
    """max(x, 0); NaN stays NaN."""
    return unary(TGR_K_relu, x)


def abs(cnp.ndarray x not None):
    """|x|"""
    return unary(TGR_K_abs, x)


def square(cnp.ndarray x not None):
    """x^2"""
    return unary(TGR_K_square, x)


def reciprocal(cnp.ndarray x not None):
    """1 / x"""
    return unary(TGR_K_reciprocal, x)


def rsqrt(cnp.ndarray x not None):
    """1 / sqrt(x)"""
    return unary(TGR_K_rsqrt, x)


def sign(cnp.ndarray x not None):
    """-1, 0 or 1; NaN stays NaN."""
    return unary(TGR_K_sign, x)


def floor(cnp.ndarray x not None):
    """The integer not above x."""
    return unary(TGR_K_floor, x)


def ceil(cnp.ndarray x not None):
    """The integer not below x."""
    return unary(TGR_K_ceil, x)


def exp2(cnp.ndarray x not None):
    """2^x"""
    return unary(TGR_K_exp2, x)


def expm1(cnp.ndarray x not None):
    """e^x - 1, right near 0."""
    return unary(TGR_K_expm1, x)


def sinh(cnp.ndarray x not None):
    """Hyperbolic sine."""
    return unary(TGR_K_sinh, x)


def cosh(cnp.ndarray x not None):
    """Hyperbolic cosine."""
    return unary(TGR_K_cosh, x)


def log1p(cnp.ndarray x not None):
    """log(1 + x), right near 0."""
    return unary(TGR_K_log1p, x)


def log2(cnp.ndarray x not None):
    """Logarithm to base 2."""
    return unary(TGR_K_log2, x)


def log10(cnp.ndarray x not None):
    """Logarithm to base 10."""
    return unary(TGR_K_log10, x)


def logsigmoid(cnp.ndarray x not None):
    """log(1 / (1 + exp(-x))), right on both sides."""
    return unary(TGR_K_logsigmoid, x)


def arcsinh(cnp.ndarray x not None):
    """Inverse hyperbolic sine."""
    return unary(TGR_K_arcsinh, x)


def arccosh(cnp.ndarray x not None):
    """Inverse hyperbolic cosine."""
    return unary(TGR_K_arccosh, x)


def arctanh(cnp.ndarray x not None):
    """Inverse hyperbolic tangent."""
    return unary(TGR_K_arctanh, x)


def arcsin(cnp.ndarray x not None):
    """Inverse sine, in -pi/2..pi/2."""
    return unary(TGR_K_arcsin, x)


def arccos(cnp.ndarray x not None):
    """Inverse cosine, in 0..pi."""
    return unary(TGR_K_arccos, x)


def arctan(cnp.ndarray x not None):
    """Inverse tangent, in -pi/2..pi/2."""
    return unary(TGR_K_arctan, x)


def softsign(cnp.ndarray x not None):
    """x / (1 + |x|)"""
    return unary(TGR_K_softsign, x)


def sin(cnp.ndarray x not None):
    """Sine of radians."""
    return unary(TGR_K_sin, x)


def cos(cnp.ndarray x not None):
    """Cosine of radians."""
    return unary(TGR_K_cos, x)


def tan(cnp.ndarray x not None):
    """Tangent of radians."""
    return unary(TGR_K_tan, x)


def log1p_dx(cnp.ndarray x not None):
    """1 / (1 + x), the derivative of log1p."""
    return unary(TGR_K_log1p_dx, x)


def arcsin_dx(cnp.ndarray x not None):
    """1 / sqrt(1 - x^2), the derivative of arcsin, right near -1 and 1."""
    return unary(TGR_K_arcsin_dx, x)


def arctan_dx(cnp.ndarray x not None):
    """1 / (1 + x^2), the derivative of arctan."""
    return unary(TGR_K_arctan_dx, x)


def arcsinh_dx(cnp.ndarray x not None):
    """1 / sqrt(1 + x^2), the derivative of arcsinh."""
    return unary(TGR_K_arcsinh_dx, x)


def arccosh_dx(cnp.ndarray x not None):
    """1 / sqrt(x^2 - 1), the derivative of arccosh, right near 1."""
    return unary(TGR_K_arccosh_dx, x)


def arctanh_dx(cnp.ndarray x not None):
    """1 / (1 - x^2), the derivative of arctanh, right near -1 and 1."""
    return unary(TGR_K_arctanh_dx, x)


def softsign_dx(cnp.ndarray x not None):
    """1 / (1 + |x|)^2, the derivative of softsign."""
    return unary(TGR_K_softsign_dx, x)


def tanh(cnp.ndarray x not None):
    """(tanh(x), tanh'(x)), the derivative computed from x so that it is right in saturation."""
    return with_derivative(TGR_K_tanh, x)


def sigmoid(cnp.ndarray x not None):
    """(sigmoid(x), sigmoid'(x)), the derivative computed from x so that it is right in saturation."""
    return with_derivative(TGR_K_sigmoid, x)


def erf(cnp.ndarray x not None):
    """(erf(x), erf'(x)); the derivative is right in saturation."""
    return with_derivative(TGR_K_erf, x)


def gelu(cnp.ndarray x not None):
    """(y, y') of y = x Phi(x), Phi the normal distribution."""
    return with_derivative(TGR_K_gelu, x)


def gelu_tanh(cnp.ndarray x not None):
    """(y, y') of y = x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2."""
    return with_derivative(TGR_K_gelu_tanh, x)


def silu(cnp.ndarray x not None):
    """(y, y') of y = x sigmoid(x)."""
    return with_derivative(TGR_K_silu, x)


def softplus(cnp.ndarray x not None):
    """(log(1 + exp(x)), sigmoid(x))"""
    return with_derivative(TGR_K_softplus, x)


def elu(cnp.ndarray x not None, double alpha):
    """(y, y') of y = x for x > 0, else alpha (exp(x) - 1); y'(0) = alpha."""
    return with_derivative(TGR_K_elu, x, &alpha)


def leaky_relu(cnp.ndarray x not None, double negative_slope):
    """(y, y') of y = x for x > 0, else negative_slope x; y'(0) = negative_slope."""
    return with_derivative(TGR_K_leaky_relu, x, &negative_slope)


def hardtanh(cnp.ndarray x not None, double min_val, double max_val):
    """(y, y') of x cut off to min_val..max_val; y' is 0 at both; NaN stays NaN."""
    cdef double c[2]
    c[0], c[1] = min_val, max_val
    return with_derivative(TGR_K_hardtanh, x, c)


def huber(cnp.ndarray x not None, double delta, double factor):
    """(y, y') of y / factor = x^2 / 2 for |x| <= delta, else delta (|x| - delta / 2)."""
    cdef double c[2]
    c[0], c[1] = delta, factor
    return with_derivative(TGR_K_huber, x, c)


cdef cnp.ndarray paired(int kernel, cnp.ndarray g_, cnp.ndarray y_, const double *c=NULL):
    """A kernel of two arrays of equal shapes."""
    cdef cnp.ndarray g = contiguous(g_, kernel)
    cdef cnp.ndarray y = contiguous(y_, kernel)
    cdef int dtype = same_dtype(g, y, kernel)
    if not cnp.PyArray_SAMESHAPE(g, y):
        raise ValueError(f"{name_of(kernel)}: shapes {shape_of(g)} and {shape_of(y)} differ")
    cdef cnp.ndarray dx = empty_like(g)
    cdef void *p[3]
    cdef ptrdiff_t n = cnp.PyArray_SIZE(g)
    p[0] = cnp.PyArray_DATA(dx)
    p[1] = cnp.PyArray_DATA(g)
    p[2] = cnp.PyArray_DATA(y)
    run(kernel, dtype, p, &n, c, n)
    return dx


def relu_vjp(cnp.ndarray g not None, cnp.ndarray y not None):
    """g where y > 0, else 0; equal shapes."""
    return paired(TGR_K_relu_vjp, g, y)


def clip(cnp.ndarray x not None, double low, double high):
    """x within low..high; NaN stays NaN."""
    cdef double c[2]
    c[0], c[1] = low, high
    return unary(TGR_K_clip, x, c)


def clip_vjp(cnp.ndarray g not None, cnp.ndarray x not None, double low, double high):
    """g where low <= x <= high, else 0; equal shapes."""
    cdef double c[2]
    c[0], c[1] = low, high
    return paired(TGR_K_clip_vjp, g, x, c)


def scale(cnp.ndarray x not None, double factor):
    """factor * x"""
    return unary(TGR_K_scale, x, &factor)


def add(cnp.ndarray a not None, cnp.ndarray b not None):
    """a + b, broadcast."""
    return binary(TGR_K_add, a, b)


def sub(cnp.ndarray a not None, cnp.ndarray b not None):
    """a - b, broadcast."""
    return binary(TGR_K_sub, a, b)


def mul(cnp.ndarray a not None, cnp.ndarray b not None):
    """a * b, broadcast."""
    return binary(TGR_K_mul, a, b)


def mul_vjp(cnp.ndarray g not None, cnp.ndarray a not None, cnp.ndarray b not None, tuple needs):
    """(g * b, g * a), summed to the shapes of a and b; None where needs, two booleans, says so."""
    if len(needs) != 2:
        raise ValueError(f"mul_vjp: needs {needs}; expected two booleans")
    return (summed_like(binary(TGR_K_mul, g, b), a) if needs[0] else None,
            summed_like(binary(TGR_K_mul, g, a), b) if needs[1] else None)


def div(cnp.ndarray a not None, cnp.ndarray b not None):
    """a / b, broadcast."""
    return binary(TGR_K_div, a, b)


def pow(cnp.ndarray a not None, cnp.ndarray b not None):
    """a ** b, broadcast."""
    return binary(TGR_K_pow, a, b)


def pow_dbase(cnp.ndarray a not None, cnp.ndarray b not None):
    """d(a ** b)/da = b a ** (b - 1), 0 where b is 0; broadcast."""
    return binary(TGR_K_pow_dbase, a, b)


def pow_dexponent(cnp.ndarray a not None, cnp.ndarray b not None):
    """d(a ** b)/db = a ** b log(a), 0 where a is 0 and b >= 0; broadcast."""
    return binary(TGR_K_pow_dexponent, a, b)


def maximum(cnp.ndarray a not None, cnp.ndarray b not None):
    """The larger of a and b, broadcast; NaN where either is."""
    return binary(TGR_K_maximum, a, b)


def minimum(cnp.ndarray a not None, cnp.ndarray b not None):
    """The smaller of a and b, broadcast; NaN where either is."""
    return binary(TGR_K_minimum, a, b)


def maximum_da(cnp.ndarray a not None, cnp.ndarray b not None):
    """d max(a, b)/da, which is d min(a, b)/db: 1 where a > b, 1/2 where they are equal, 0 where a < b; broadcast."""
    return binary(TGR_K_maximum_da, a, b)


def logaddexp(cnp.ndarray a not None, cnp.ndarray b not None):
    """log(exp(a) + exp(b)), broadcast."""
    return binary(TGR_K_logaddexp, a, b)


def logaddexp_da(cnp.ndarray a not None, cnp.ndarray b not None):
    """d logaddexp(a, b)/da = exp(a) / (exp(a) + exp(b)), broadcast."""
    return binary(TGR_K_logaddexp_da, a, b)


def arctan2(cnp.ndarray a not None, cnp.ndarray b not None):
    """Angle of the points (b, a) with the axis of b > 0, in -pi..pi, broadcast."""
    return binary(TGR_K_arctan2, a, b)


def hypot(cnp.ndarray a not None, cnp.ndarray b not None):
    """sqrt(a^2 + b^2), broadcast."""
    return binary(TGR_K_hypot, a, b)


def div_or_zero(cnp.ndarray a not None, cnp.ndarray b not None):
    """a / b, 0 where b is 0; broadcast."""
    return binary(TGR_K_div_or_zero, a, b)


def equal(cnp.ndarray a not None, cnp.ndarray b not None):
    """1 where a == b, else 0, in the dtype of a; broadcast."""
    return binary(TGR_K_equal, a, b)


def where(cnp.ndarray condition not None, cnp.ndarray x not None, cnp.ndarray y not None):
    """x where the booleans `condition` are true, else y; broadcast."""
    cdef int kernel = TGR_K_put_where_not, dtype = same_dtype(x, y, kernel)
    cdef ptrdiff_t sc[MAX_DIMS]
    cdef ptrdiff_t sy[MAX_DIMS]
    cdef ptrdiff_t n[STRIDED_SIZES]
    cdef void *p[3]
    if cnp.PyArray_TYPE(condition) != cnp.NPY_BOOL:
        raise TypeError(f"where: expected a condition of booleans, got {condition.dtype}")
    try:
        shape = np.broadcast_shapes(shape_of(condition), shape_of(x), shape_of(y))
    except ValueError:
        raise ValueError(f"where: shapes {shape_of(condition)}, {shape_of(x)} and {shape_of(y)} do not broadcast") from None
    cdef cnp.ndarray c = np.broadcast_to(condition, shape), other = np.broadcast_to(y, shape)
    cdef cnp.ndarray out = copy(np.broadcast_to(x, shape))
    element_strides(c, sc, kernel)
    element_strides(other, sy, kernel)
    collapse(cnp.PyArray_NDIM(out), cnp.PyArray_DIMS(out), sc, sy, n)
    p[0], p[1], p[2] = cnp.PyArray_DATA(out), cnp.PyArray_DATA(c), cnp.PyArray_DATA(other)
    run(kernel, dtype, p, n, NULL, cnp.PyArray_SIZE(out))
    return out


def nonzero(cnp.ndarray x_ not None):
    """x != 0, as booleans; NaN is true."""
    cdef cnp.ndarray x = contiguous(x_, TGR_K_nonzero)
    cdef cnp.ndarray y = noted(np.empty(shape_of(x), np.bool_))
    cdef void *p[2]
    cdef ptrdiff_t n = cnp.PyArray_SIZE(x)
    p[0], p[1] = cnp.PyArray_DATA(y), cnp.PyArray_DATA(x)
    run(TGR_K_nonzero, dtype_of(x, TGR_K_nonzero), p, &n, NULL, n)
    return y


def booleans(x):
    """A new C-contiguous array with the values of x, booleans."""
    return np.array(x, np.bool_, order="C")


# ---- memory --------------------------------------------------------------------------------------------------------

def copy(cnp.ndarray x not None):
    """A new C-contiguous array with the values of x."""
    dtype_of(x, TGR_K_copy)
    cdef cnp.ndarray y = empty_like(x)
    strided(TGR_K_copy, y, x)
    return y


cdef bint may_overlap(cnp.ndarray x, cnp.ndarray y):
    """Whether the bounds of their memory overlap; numpy's own answer takes longer than a small kernel."""
    cdef char *at_x = cnp.PyArray_BYTES(x)
    cdef char *at_y = cnp.PyArray_BYTES(y)
    if cnp.PyArray_IS_C_CONTIGUOUS(x) and cnp.PyArray_IS_C_CONTIGUOUS(y):
        return at_x < at_y + cnp.PyArray_NBYTES(y) and at_y < at_x + cnp.PyArray_NBYTES(x)
    return np.may_share_memory(x, y)


def accumulate(cnp.ndarray y not None, cnp.ndarray x not None):
    """y += x in place, equal shapes; returns y."""
    if not cnp.PyArray_ISWRITEABLE(y):
        raise ValueError("accumulate: the output is read-only")
    if y is not x and may_overlap(y, x):
        x = copy(x)
    strided(TGR_K_accumulate, y, x)
    return y


def zeros(shape, dtype):
    """A new array of zeros."""
    cdef cnp.ndarray y = new(tuple(shape), dtype)
    cdef double value = 0
    cdef void *p = cnp.PyArray_DATA(y)
    cdef ptrdiff_t n = cnp.PyArray_SIZE(y)
    run(TGR_K_fill, dtype_of(y, TGR_K_fill), &p, &n, &value, n)
    return y


def reshape(cnp.ndarray x not None, shape):
    """x with another shape: a view where numpy (from 2.1 on) makes one, else a copy."""
    if is_plain(x):
        return x.reshape(shape)
    try:
        return x.reshape(shape, copy=False)
    except (TypeError, ValueError):
        return copy(x).reshape(shape)


def transpose(cnp.ndarray x not None, axes=None):
    """View of x with permuted axes, reversed by default."""
    if axes is None:
        return cnp.PyArray_Transpose(x, NULL)
    return x.transpose(axes)


def slice(cnp.ndarray x not None, index):
    """View x[index]; index holds integers, slices, None and Ellipsis."""
    return x[index if Ellipsis in index else index + (Ellipsis,)]


def diagonal(cnp.ndarray x not None, offset, axis1, axis2):
    """View of the diagonals of x over two axes, appended as the last axis; writeable where x is."""
    y = x.diagonal(offset, axis1, axis2)
    y.flags.writeable = x.flags.writeable
    return y


def broadcast_to(cnp.ndarray x not None, shape):
    """Read-only view of x repeated to the shape."""
    return np.broadcast_to(x, shape)


def concatenate(parts, Py_ssize_t axis):
    """The arrays joined along an existing axis >= 0."""
    cdef cnp.ndarray first, part, y
    if not parts:
        raise ValueError("concatenate: expected one array or more")
    for part in parts:
        if part is None:
            raise TypeError("concatenate: expected arrays, got None")
    first = parts[0]
    dtype_of(first, TGR_K_copy)
    if not 0 <= axis < cnp.PyArray_NDIM(first):
        raise ValueError(f"concatenate: axis {axis} is out of bounds for shape {shape_of(first)}")
    shape, start = list(shape_of(first)), 0
    for part in parts:
        other = list(shape_of(part))
        if len(other) != len(shape) or other[:axis] != shape[:axis] or other[axis + 1:] != shape[axis + 1:]:
            raise ValueError(f"concatenate: shapes {shape_of(first)} and {tuple(other)} differ beside axis {axis}")
        start += other[axis]
    shape[axis] = start
    y = new(tuple(shape), first.dtype)
    start = 0
    for part in parts:
        stop = start + cnp.PyArray_DIMS(part)[axis]
        strided(TGR_K_copy, y[(np.s_[:],) * axis + (np.s_[start:stop],)], part)
        start = stop
    return y


def take(cnp.ndarray x_ not None, cnp.ndarray index not None):
    """x[index] along axis 0; index is int64, its entries in 0..len(x) - 1."""
    if cnp.PyArray_NDIM(x_) < 1:
        raise ValueError("take: a 0-d array has no rows")
    cdef cnp.ndarray x = contiguous(x_, TGR_K_take)
    cdef cnp.ndarray i = as_index(index, "take")
    cdef cnp.ndarray y = new(shape_of(i) + shape_of(x)[1:], x.dtype)
    cdef void *p[3]
    cdef ptrdiff_t n[3]
    p[0], p[1], p[2] = cnp.PyArray_DATA(y), cnp.PyArray_DATA(x), cnp.PyArray_DATA(i)
    n[0], n[1], n[2] = cnp.PyArray_SIZE(i), cnp.PyArray_DIMS(x)[0], row_size(x)
    run(TGR_K_take, dtype_of(x, TGR_K_take), p, n, NULL, cnp.PyArray_SIZE(y))
    return y


def take_add(cnp.ndarray x not None, cnp.ndarray index not None, cnp.ndarray g_ not None):
    """x[index] += g along axis 0, in place, repeated entries accumulating; x contiguous; returns x."""
    cdef cnp.ndarray g = contiguous(g_, TGR_K_take_add)
    cdef cnp.ndarray i = as_index(index, "take_add")
    cdef int dtype = same_dtype(x, g, TGR_K_take_add)
    cdef void *p[3]
    cdef ptrdiff_t n[3]
    if cnp.PyArray_NDIM(x) < 1 or not is_plain(x) or not cnp.PyArray_ISWRITEABLE(x):
        raise ValueError("take_add: the output must be at least 1-D, contiguous and writeable")
    if shape_of(g) != shape_of(i) + shape_of(x)[1:]:
        raise ValueError(f"take_add: expected a cotangent of shape {shape_of(i) + shape_of(x)[1:]}, got {shape_of(g)}")
    p[0], p[1], p[2] = cnp.PyArray_DATA(x), cnp.PyArray_DATA(g), cnp.PyArray_DATA(i)
    n[0], n[1], n[2] = cnp.PyArray_SIZE(i), cnp.PyArray_DIMS(x)[0], row_size(x)
    run(TGR_K_take_add, dtype, p, n, NULL, cnp.PyArray_SIZE(g))
    return x


cdef ptrdiff_t row_size(cnp.ndarray x) noexcept:
    cdef ptrdiff_t size = 1
    for i in range(1, cnp.PyArray_NDIM(x)):
        size *= cnp.PyArray_DIMS(x)[i]
    return size


cdef cnp.ndarray as_index(cnp.ndarray index, str name):
    if cnp.PyArray_TYPE(index) != cnp.NPY_INT64 or not cnp.PyArray_ISNOTSWAPPED(index):
        raise TypeError(f"{name}: expected int64 indices, got {index.dtype}")
    return index if is_plain(index) else noted(np.array(index, order="C"))


def integers(x):
    """A new C-contiguous int64 array with the values of x, integers of any dtype."""
    return np.array(x, np.int64, order="C")


# ---- matrix product ------------------------------------------------------------------------------------------------

cdef enum:
    MATMUL_SIZES = 12

_ACTIVATIONS = {"identity": TGR_IDENTITY, "tanh": TGR_TANH, "sigmoid": TGR_SIGMOID, "relu": TGR_RELU}


cdef int activation_of(name, int kernel) except -1:
    try:
        return _ACTIVATIONS[name]
    except (KeyError, TypeError):
        raise ValueError(f"{name_of(kernel)}: unknown activation {name!r}; "
                         f"expected one of {', '.join(_ACTIVATIONS)}") from None


cdef int matrix_strides(cnp.ndarray x, ptrdiff_t *rs, ptrdiff_t *cs, int kernel) except -1:
    """Strides of the last two axes. That of an axis of length 1 is never used: a unit one lets the kernel take its fast paths."""
    cdef int nd = cnp.PyArray_NDIM(x)
    cdef ptrdiff_t s[MAX_DIMS]
    element_strides(x, s, kernel)
    rs[0], cs[0] = s[nd - 2], s[nd - 1]
    if cnp.PyArray_DIMS(x)[nd - 1] <= 1:
        cs[0] = 1
    elif cnp.PyArray_DIMS(x)[nd - 2] <= 1:
        rs[0] = 1 if cs[0] != 1 else cnp.PyArray_DIMS(x)[nd - 1]
    return 0


cdef cnp.ndarray product(cnp.ndarray y, cnp.ndarray dy, cnp.ndarray a, cnp.ndarray b, cnp.ndarray bias, cnp.ndarray packed,
                         cnp.ndarray base, ptrdiff_t *n, int dtype):
    """Runs the kernel; sizes and strides in n as its comment says."""
    cdef void *p[9]
    p[0], p[2] = cnp.PyArray_DATA(y), cnp.PyArray_DATA(a)
    p[1] = NULL if dy is None else cnp.PyArray_DATA(dy)
    p[3] = NULL if b is None else cnp.PyArray_DATA(b)
    p[4] = NULL if bias is None else cnp.PyArray_DATA(bias)
    p[5] = NULL if packed is None else cnp.PyArray_DATA(packed)
    p[6] = NULL if base is None else cnp.PyArray_DATA(base)
    p[7] = p[8] = NULL
    run(TGR_K_matmul, dtype, p, n, NULL, n[0] * n[1] * n[2] * (n[3] + 1))
    return y


cdef class Packed:
    """A right operand b(k, n) in the layout of the tiles of the instruction set in use: pack it once, multiply many times.
    `pack` makes it; `matmul` and `linear` take it in the place of b and of the weight b^T."""
    cdef readonly cnp.ndarray data
    cdef readonly Py_ssize_t k, n
    cdef const tgr_isa *isa

    def __init__(self):
        raise TypeError("Packed: made by pack(b) alone")

    def __cinit__(self):
        if not packing:
            raise TypeError("Packed: made by pack(b) alone")

    def __repr__(self):
        return f"<Packed ({self.k}, {self.n}) {self.data.dtype} for {self.isa.name.decode()}>"


cdef bint packing = False


cdef Packed empty_pack():
    global packing
    packing = True
    try:
        return Packed.__new__(Packed)
    finally:
        packing = False


def pack(cnp.ndarray b not None):
    """b(k, n) packed for products a(..., k) b; a copy: later changes of b are not seen."""
    cdef int dtype = dtype_of(b, TGR_K_pack)
    cdef Packed out = empty_pack()
    cdef ptrdiff_t n[4]
    cdef ptrdiff_t panel = active.panel[dtype]
    cdef void *p[2]
    if cnp.PyArray_NDIM(b) != 2:
        raise ValueError(f"pack: expected (k, n), got shape {shape_of(b)}")
    n[0], n[1] = cnp.PyArray_DIMS(b)[0], cnp.PyArray_DIMS(b)[1]
    matrix_strides(b, &n[2], &n[3], TGR_K_pack)
    out.k, out.n, out.isa = n[0], n[1], active
    out.data = new(((n[1] + panel - 1) // panel * panel * n[0],), b.dtype)
    p[0], p[1] = cnp.PyArray_DATA(out.data), cnp.PyArray_DATA(b)
    run(TGR_K_pack, dtype, p, n, NULL, n[0] * n[1])
    return out


cdef int check_packed(Packed w, cnp.ndarray x, str name) except -1:
    cdef int nd = cnp.PyArray_NDIM(x)
    if w.isa != active:
        raise ValueError(f"{name}: the operand was packed for {w.isa.name.decode()}, but {active.name.decode()} is in use")
    if nd < 1 or cnp.PyArray_DIMS(x)[nd - 1] != w.k:
        raise ValueError(f"{name}: shape {shape_of(x)} does not fit the packed ({w.k}, {w.n}); expected (..., {w.k})")
    return 0


cdef object rows_product(cnp.ndarray x, w, bint transposed, cnp.ndarray bias, int activation, bint derivative, str name):
    """f(x(..., k) b(k, n) + bias(n)), b being w, or w^T where transposed; with f' in a tuple where asked for."""
    cdef cnp.ndarray plain = None, packed = None, y, dy = None
    cdef int nd = cnp.PyArray_NDIM(x), i, dtype
    cdef ptrdiff_t n[MATMUL_SIZES]
    cdef cnp.npy_intp dims[MAX_DIMS]
    if type(w) is Packed:
        check_packed(<Packed>w, x, name)
        packed = (<Packed>w).data
        dtype = same_dtype(x, packed, TGR_K_matmul)
        n[2], n[3] = (<Packed>w).n, (<Packed>w).k
        n[8], n[9] = 1, 1
    else:
        plain = w
        dtype = same_dtype(x, plain, TGR_K_matmul)
        if nd < 1 or cnp.PyArray_NDIM(plain) != 2 or cnp.PyArray_DIMS(x)[nd - 1] != cnp.PyArray_DIMS(plain)[1 if transposed else 0]:
            raise ValueError(f"{name}: input {shape_of(x)} and weight {shape_of(plain)} do not fit (..., I) and (O, I)")
        n[2], n[3] = cnp.PyArray_DIMS(plain)[0], cnp.PyArray_DIMS(plain)[1]
        matrix_strides(plain, &n[8], &n[9], TGR_K_matmul)
        if transposed:
            n[8], n[9] = n[9], n[8]
        else:
            n[2], n[3] = n[3], n[2]
    if bias is not None:
        same_dtype(x, bias, TGR_K_matmul)
        if cnp.PyArray_NDIM(bias) != 1 or cnp.PyArray_DIMS(bias)[0] != n[2]:
            raise ValueError(f"{name}: bias {shape_of(bias)} does not fit the weight {(n[2], n[3])}; expected ({n[2]},)")
        bias = contiguous(bias, TGR_K_matmul)
    if nd == 2:
        matrix_strides(x, &n[5], &n[6], TGR_K_matmul)
    else:
        x = contiguous(x, TGR_K_matmul)
        n[5], n[6] = n[3], 1
    n[0], n[1], n[4], n[7], n[10], n[11] = 1, 1, 0, 0, 0, activation
    for i in range(nd - 1):
        dims[i] = cnp.PyArray_DIMS(x)[i]
        n[1] *= dims[i]
    dims[nd - 1] = n[2]
    y = empty(nd, dims, x)
    if derivative:
        dy = empty(nd, dims, x)
    product(y, dy, x, plain, bias, packed, None, n, dtype)
    return (y, dy) if derivative else y


def matmul(cnp.ndarray a not None, b not None):
    """a(..., m, k) b(..., k, n) -> (..., m, n), batch axes broadcast; both at least 2-D, any strides. b may be Packed (k, n)."""
    cdef cnp.ndarray y
    cdef int dtype, na = cnp.PyArray_NDIM(a), nb
    cdef ptrdiff_t n[MATMUL_SIZES]
    cdef ptrdiff_t sa[MAX_DIMS]
    cdef ptrdiff_t sb[MAX_DIMS]
    cdef ptrdiff_t ta[MAX_DIMS]
    cdef ptrdiff_t tb[MAX_DIMS]
    cdef ptrdiff_t batch[STRIDED_SIZES]
    cdef cnp.npy_intp dims[MAX_DIMS]
    cdef cnp.npy_intp da, db
    cdef int nd, i
    cdef bint nothing = False
    cdef cnp.ndarray right
    if type(b) is Packed:
        if na < 2:
            raise ValueError(f"matmul: shape {shape_of(a)} does not fit (..., m, k)")
        return rows_product(a, b, False, None, TGR_IDENTITY, False, "matmul")
    right = b
    nb = cnp.PyArray_NDIM(right)
    dtype = same_dtype(a, right, TGR_K_matmul)
    nd = na if na > nb else nb
    if na < 2 or nb < 2 or cnp.PyArray_DIMS(a)[na - 1] != cnp.PyArray_DIMS(right)[nb - 2]:
        raise ValueError(f"matmul: shapes {shape_of(a)} and {shape_of(right)} do not fit (..., m, k) and (..., k, n)")
    n[0], n[4], n[7], n[10], n[11] = 1, 0, 0, 0, TGR_IDENTITY
    if nd > 2:
        element_strides(a, sa, TGR_K_matmul)
        element_strides(right, sb, TGR_K_matmul)
        for i in range(nd - 2):
            da = 1 if i < nd - na else cnp.PyArray_DIMS(a)[i - nd + na]
            db = 1 if i < nd - nb else cnp.PyArray_DIMS(right)[i - nd + nb]
            if da != db and da != 1 and db != 1:
                raise ValueError(f"matmul: batch axes of shapes {shape_of(a)} and {shape_of(right)} do not broadcast")
            ta[i] = 0 if da == 1 else sa[i - nd + na]
            tb[i] = 0 if db == 1 else sb[i - nd + nb]
            dims[i] = db if da == 1 else da
            nothing |= dims[i] == 0
        if nothing:
            batch[1], batch[2], batch[3] = 0, 0, 0
        elif collapse(nd - 2, dims, ta, tb, batch) > 1:
            # no single batch stride reaches every matrix: lay the operands out so that one does
            whole = tuple([dims[i] for i in range(nd - 2)])
            return matmul(copy(np.broadcast_to(a, whole + shape_of(a)[na - 2:])),
                          copy(np.broadcast_to(right, whole + shape_of(right)[nb - 2:])))
        n[0], n[4], n[7] = batch[1], batch[2], batch[3]
    dims[nd - 2], dims[nd - 1] = cnp.PyArray_DIMS(a)[na - 2], cnp.PyArray_DIMS(right)[nb - 1]
    n[1], n[2], n[3] = dims[nd - 2], dims[nd - 1], cnp.PyArray_DIMS(a)[na - 1]
    matrix_strides(a, &n[5], &n[6], TGR_K_matmul)
    matrix_strides(right, &n[8], &n[9], TGR_K_matmul)
    y = empty(nd, dims, a)
    return product(y, None, a, right, None, None, None, n, dtype)


def matmul_add(cnp.ndarray y not None, cnp.ndarray a not None, cnp.ndarray b not None):
    """y(m, n) += a(m, k) b(k, n) in place, y contiguous; returns y."""
    cdef int dtype = same_dtype(a, b, TGR_K_matmul)
    cdef ptrdiff_t n[MATMUL_SIZES]
    same_dtype(a, y, TGR_K_matmul)
    if (cnp.PyArray_NDIM(a) != 2 or cnp.PyArray_NDIM(b) != 2 or shape_of(a)[1] != shape_of(b)[0]
            or shape_of(y) != (shape_of(a)[0], shape_of(b)[1])):
        raise ValueError(f"matmul_add: shapes {shape_of(y)}, {shape_of(a)} and {shape_of(b)} do not fit (m, n), (m, k) and (k, n)")
    if not is_plain(y) or not cnp.PyArray_ISWRITEABLE(y):
        raise ValueError("matmul_add: the output must be contiguous and writeable")
    if np.may_share_memory(y, a) or np.may_share_memory(y, b):
        raise ValueError("matmul_add: the output may not share memory with an operand")
    n[0], n[1], n[2], n[3] = 1, cnp.PyArray_DIMS(a)[0], cnp.PyArray_DIMS(b)[1], cnp.PyArray_DIMS(a)[1]
    n[4], n[7], n[10], n[11] = 0, 0, n[2], TGR_IDENTITY
    matrix_strides(a, &n[5], &n[6], TGR_K_matmul)
    matrix_strides(b, &n[8], &n[9], TGR_K_matmul)
    return product(y, None, a, b, None, None, y, n, dtype)


def linear(cnp.ndarray x not None, w not None, cnp.ndarray b=None):
    """x(..., I) w(O, I)^T [+ b(O)] -> (..., O). w may be Packed, from pack(w.T)."""
    return rows_product(x, w, True, b, TGR_IDENTITY, False, "linear")


def linear_vjp(cnp.ndarray g_ not None, cnp.ndarray x_ not None, cnp.ndarray w not None, tuple needs):
    """(gx, gw) or, where needs has three booleans and not two, (gx, gw, gb) of linear for the cotangent g(..., O): g w, g^T x and
    the sum of g over its rows; None where needs says so."""
    cdef cnp.ndarray x = x_, gx = None, gw = None, gb = None
    cdef int dtype = same_dtype(g_, x, TGR_K_matmul), nd = cnp.PyArray_NDIM(x), i
    cdef cnp.ndarray g = g_ if nd == 2 else contiguous(g_, TGR_K_matmul)  # once, for all that is made of it
    cdef ptrdiff_t n[MATMUL_SIZES]
    cdef bint fit = nd >= 1 and cnp.PyArray_NDIM(g) == nd and cnp.PyArray_NDIM(w) == 2
    if not 2 <= len(needs) <= 3:
        raise ValueError(f"linear_vjp: needs {needs}; expected two booleans, or three with a bias")
    same_dtype(x, w, TGR_K_matmul)
    if fit:
        n[0], n[1], n[2], n[3] = 1, cnp.PyArray_DIMS(w)[0], cnp.PyArray_DIMS(w)[1], 1
        for i in range(nd - 1):
            fit &= cnp.PyArray_DIMS(g)[i] == cnp.PyArray_DIMS(x)[i]
            n[3] *= cnp.PyArray_DIMS(x)[i]
        fit &= cnp.PyArray_DIMS(g)[nd - 1] == n[1] and cnp.PyArray_DIMS(x)[nd - 1] == n[2]
    if not fit:
        raise ValueError(f"linear_vjp: cotangent {shape_of(g)}, input {shape_of(x)} and weight {shape_of(w)} do not fit "
                         "(..., O), (..., I) and (O, I)")
    if needs[0]:
        gx = rows_product(g, w, False, None, TGR_IDENTITY, False, "linear_vjp")
    if needs[1]:
        if nd == 2:
            matrix_strides(g, &n[6], &n[5], TGR_K_matmul)
            matrix_strides(x, &n[8], &n[9], TGR_K_matmul)
        else:
            x = contiguous(x, TGR_K_matmul)
            n[5], n[6], n[8], n[9] = 1, n[1], n[2], 1
        n[4], n[7], n[10], n[11] = 0, 0, 0, TGR_IDENTITY
        gw = empty(2, cnp.PyArray_DIMS(w), g)
        product(gw, None, g, x, None, None, None, n, dtype)
    if len(needs) == 2:
        return gx, gw
    if needs[2]:
        gb = reduce_run(TGR_K_sum, g, 0, nd - 2, False, "linear_vjp")
    return gx, gw, gb


def linear_activation(cnp.ndarray x not None, w not None, cnp.ndarray b, activation):
    """(f(x w^T [+ b]), f' of the same): linear and its activation, a name, in one pass over the output."""
    return rows_product(x, w, True, b, activation_of(activation, TGR_K_matmul), True, "linear_activation")


# ---- cells ---------------------------------------------------------------------------------------------------------

cdef int check_matrix(cnp.ndarray x, cnp.npy_intp rows, cnp.npy_intp columns, cnp.ndarray like, str name, str what) except -1:
    same_dtype(like, x, TGR_K_rnn_cell)
    if cnp.PyArray_NDIM(x) != 2 or cnp.PyArray_DIMS(x)[0] != rows or cnp.PyArray_DIMS(x)[1] != columns:
        raise ValueError(f"{name}: {what} has shape {shape_of(x)}, expected ({rows}, {columns})")
    return 0


cdef int cell_sizes(cnp.ndarray x, cnp.ndarray h, cnp.ndarray w_ih, cnp.ndarray w_hh, ptrdiff_t *n, str name) except -1:
    """Checks the operands of an RNN cell and writes the sizes and strides that its kernels take; n[3] is left alone."""
    cdef int nd = cnp.PyArray_NDIM(w_hh)
    if nd != 2 or cnp.PyArray_NDIM(x) != 2:
        raise ValueError(f"{name}: expected 2-D arrays, got an input {shape_of(x)} and a recurrent weight {shape_of(w_hh)}")
    n[0], n[1], n[2] = cnp.PyArray_DIMS(x)[0], cnp.PyArray_DIMS(x)[1], cnp.PyArray_DIMS(w_hh)[0]
    check_matrix(w_hh, n[2], n[2], x, name, "weight_hh")
    check_matrix(h, n[0], n[2], x, name, "the state")
    if w_ih is None:
        check_matrix(x, n[0], n[2], x, name, "the input projection")
        n[6], n[7] = 0, 0
    else:
        check_matrix(w_ih, n[2], n[1], x, name, "weight_ih")
        matrix_strides(w_ih, &n[6], &n[7], TGR_K_rnn_cell)
    matrix_strides(x, &n[4], &n[5], TGR_K_rnn_cell)
    matrix_strides(h, &n[8], &n[9], TGR_K_rnn_cell)
    matrix_strides(w_hh, &n[10], &n[11], TGR_K_rnn_cell)
    return 0


cdef cnp.ndarray cell_bias(cnp.ndarray b, ptrdiff_t H, cnp.ndarray like):
    if b is None:
        return None
    same_dtype(like, b, TGR_K_rnn_cell)
    if cnp.PyArray_NDIM(b) != 1 or cnp.PyArray_DIMS(b)[0] != H:
        raise ValueError(f"rnn_cell: a bias has shape {shape_of(b)}, expected ({H},)")
    return contiguous(b, TGR_K_rnn_cell)


def rnn_cell(cnp.ndarray x_ not None, cnp.ndarray h not None, cnp.ndarray w_ih, cnp.ndarray w_hh not None,
             cnp.ndarray b_ih, cnp.ndarray b_hh, activation):
    """(y, dy) = f and f' of x(B, I) w_ih(H, I)^T + b_ih(H) + h(B, H) w_hh(H, H)^T + b_hh(H). Where w_ih is None, x(B, H) is the
    input projection itself. Biases may be None; f is named."""
    cdef cnp.ndarray x = x_, y, dy, b1, b2
    cdef int dtype = dtype_of(x_, TGR_K_rnn_cell)
    cdef ptrdiff_t n[12]
    cdef cnp.npy_intp dims[2]
    cdef void *p[9]
    if w_ih is None:
        x = contiguous(x_, TGR_K_rnn_cell)
    cell_sizes(x, h, w_ih, w_hh, n, "rnn_cell")
    n[3] = activation_of(activation, TGR_K_rnn_cell)
    b1, b2 = cell_bias(b_ih, n[2], x), cell_bias(b_hh, n[2], x)
    dims[0], dims[1] = n[0], n[2]
    y, dy = empty(2, dims, x), empty(2, dims, x)
    p[0], p[1], p[2], p[5], p[6] = (cnp.PyArray_DATA(y), cnp.PyArray_DATA(dy), cnp.PyArray_DATA(x), cnp.PyArray_DATA(h),
                                    cnp.PyArray_DATA(w_hh))
    p[3] = NULL if w_ih is None else cnp.PyArray_DATA(w_ih)
    p[4] = NULL if b1 is None else cnp.PyArray_DATA(b1)
    p[7] = NULL if b2 is None else cnp.PyArray_DATA(b2)
    p[8] = NULL
    run(TGR_K_rnn_cell, dtype, p, n, NULL, n[0] * n[2] * (n[2] + n[1]))
    return y, dy


def rnn_cell_vjp(cnp.ndarray g_ not None, cnp.ndarray dy not None, cnp.ndarray x not None, cnp.ndarray h not None,
                 cnp.ndarray w_ih, cnp.ndarray w_hh not None, tuple needs):
    """(gx, gh, gw_ih, gw_hh, gb) of rnn_cell for the cotangent g(B, H); None where needs, five booleans, says so. gb is the
    cotangent of either bias."""
    cdef cnp.ndarray g = contiguous(g_, TGR_K_rnn_cell_vjp), dz, gx = None, gh = None, gw_ih = None, gw_hh = None, gb = None
    cdef int dtype = dtype_of(x, TGR_K_rnn_cell_vjp)
    cdef ptrdiff_t n[12]
    cdef cnp.npy_intp dims[2]
    cdef void *p[12]
    cell_sizes(x, h, w_ih, w_hh, n, "rnn_cell_vjp")
    n[3] = 0
    if len(needs) != 5 or (needs[2] and w_ih is None):
        raise ValueError(f"rnn_cell_vjp: needs {needs}; expected five booleans, the third False without weight_ih")
    check_matrix(g, n[0], n[2], x, "rnn_cell_vjp", "the cotangent")
    check_matrix(dy, n[0], n[2], x, "rnn_cell_vjp", "the derivative")
    dy = contiguous(dy, TGR_K_rnn_cell_vjp)
    dz = empty_like(g)
    if needs[0]:
        gx = dz if w_ih is None else empty(2, cnp.PyArray_DIMS(x), x)
    if needs[1]:
        gh = empty(2, cnp.PyArray_DIMS(h), x)
    if needs[2]:
        gw_ih = empty(2, cnp.PyArray_DIMS(w_ih), x)
    if needs[3]:
        gw_hh = empty(2, cnp.PyArray_DIMS(w_hh), x)
    if needs[4]:
        gb = empty(1, cnp.PyArray_DIMS(w_hh), x)
    p[0] = cnp.PyArray_DATA(dz)
    p[1] = NULL if gx is None or gx is dz else cnp.PyArray_DATA(gx)
    p[2] = NULL if gw_ih is None else cnp.PyArray_DATA(gw_ih)
    p[3] = NULL if gh is None else cnp.PyArray_DATA(gh)
    p[4] = NULL if gw_hh is None else cnp.PyArray_DATA(gw_hh)
    p[5] = NULL if gb is None else cnp.PyArray_DATA(gb)
    p[6], p[7], p[8], p[10], p[11] = (cnp.PyArray_DATA(g), cnp.PyArray_DATA(dy), cnp.PyArray_DATA(x), cnp.PyArray_DATA(h),
                                      cnp.PyArray_DATA(w_hh))
    p[9] = NULL if w_ih is None else cnp.PyArray_DATA(w_ih)
    run(TGR_K_rnn_cell_vjp, dtype, p, n, NULL, n[0] * n[2] * (n[2] + n[1]))
    return gx, gh, gw_ih, gw_hh, gb


# ---- gates: arrays (B, H) whose rows may be parts of wider ones ----------------------------------------------------

def lstm_gates(cnp.ndarray z_ not None):
    """(y, dy): the gates i, f, g, o of z(B, 4H), sigmoid, sigmoid, tanh, sigmoid, and their derivatives."""
    cdef cnp.ndarray z = contiguous(z_, TGR_K_lstm_gates)
    cdef int dtype = dtype_of(z, TGR_K_lstm_gates)
    if cnp.PyArray_NDIM(z) != 2 or cnp.PyArray_DIMS(z)[1] % 4:
        raise ValueError(f"lstm_gates: pre-activations have shape {shape_of(z)}, expected (B, 4 H)")
    cdef cnp.ndarray y = empty_like(z)
    cdef cnp.ndarray dy = empty_like(z)
    cdef void *p[3]
    cdef ptrdiff_t n[2]
    p[0], p[1], p[2] = cnp.PyArray_DATA(y), cnp.PyArray_DATA(dy), cnp.PyArray_DATA(z)
    n[0], n[1] = cnp.PyArray_DIMS(z)[0], cnp.PyArray_DIMS(z)[1] // 4
    run(TGR_K_lstm_gates, dtype, p, n, NULL, cnp.PyArray_SIZE(z))
    return y, dy


DEF MOST_ROWS = 9  # pointers of a kernel on rows


cdef tuple rows(int kernel, int outputs, tuple inputs, cnp.ndarray lengths=None, const double *c=NULL):
    """New arrays (B, H) from inputs of that shape, for a kernel that takes the row stride of each."""
    cdef cnp.ndarray first = inputs[0], x
    cdef int dtype = dtype_of(first, kernel), i, count = len(inputs)
    cdef ptrdiff_t n[2 + MOST_ROWS]
    cdef ptrdiff_t s[MAX_DIMS]
    cdef void *p[MOST_ROWS + 1]
    cdef list out = [], held = []
    if cnp.PyArray_NDIM(first) != 2:
        raise ValueError(f"{name_of(kernel)}: an array has shape {shape_of(first)}, expected (B, H)")
    n[0], n[1] = cnp.PyArray_DIMS(first)[0], cnp.PyArray_DIMS(first)[1]
    for i in range(outputs):
        x = empty(2, cnp.PyArray_DIMS(first), first)
        out.append(x)
        p[i], n[2 + i] = cnp.PyArray_DATA(x), n[1]
    for i in range(count):
        x = inputs[i]
        same_dtype(first, x, kernel)
        if not cnp.PyArray_SAMESHAPE(first, x):
            raise ValueError(f"{name_of(kernel)}: shapes {shape_of(first)} and {shape_of(x)} differ")
        element_strides(x, s, kernel)
        if s[1] != 1 and n[1] > 1:
            x = copy(x)
            s[0] = n[1]
        elif n[0] <= 1:
            s[0] = n[1]  # of one row the stride is never used: this lets the kernel see an array without gaps
        held.append(x)
        p[outputs + i], n[2 + outputs + i] = cnp.PyArray_DATA(x), s[0]
    if lengths is not None:
        if cnp.PyArray_NDIM(lengths) != 1 or cnp.PyArray_DIMS(lengths)[0] != n[0]:
            raise ValueError(f"{name_of(kernel)}: lengths {shape_of(lengths)} do not fit {shape_of(first)}; expected ({n[0]},)")
        p[outputs + count] = cnp.PyArray_DATA(lengths)
    run(kernel, dtype, p, n, c, n[0] * n[1])
    return tuple(out)


def lstm_state(i not None, f not None, g not None, c not None):
    """f c + i g, the next cell state."""
    return rows(TGR_K_lstm_state, 1, (i, f, g, c))[0]


def lstm_state_vjp(dy not None, i not None, f not None, g not None, c not None):
    """(gi, gf, gg, gc) of lstm_state."""
    return rows(TGR_K_lstm_state_vjp, 4, (dy, i, f, g, c))


def addcmul(x not None, a not None, b not None):
    """x + a b"""
    return rows(TGR_K_addcmul, 1, (x, a, b))[0]


def addcmul_vjp(g not None, a not None, b not None):
    """(ga, gb) of addcmul; gx is g."""
    return rows(TGR_K_addcmul_vjp, 2, (g, a, b))


def lerp(a not None, b not None, w not None):
    """(1 - w) a + w b"""
    return rows(TGR_K_lerp, 1, (a, b, w))[0]


def lerp_vjp(g not None, a not None, b not None, w not None):
    """(ga, gb, gw) of lerp."""
    return rows(TGR_K_lerp_vjp, 3, (g, a, b, w))


def select_steps(x not None, old not None, cnp.ndarray lengths not None, Py_ssize_t t):
    """x in the rows whose int64 lengths(B,) exceed t, old in the others."""
    cdef double c = t
    return rows(TGR_K_select_steps, 1, (x, old), as_index(lengths, "select_steps"), &c)[0]


def mask_steps(x not None, cnp.ndarray lengths not None, Py_ssize_t t, bint there):
    """x in the rows for which (t < lengths) is `there`, 0 in the others."""
    cdef double c[2]
    c[0], c[1] = t, there
    return rows(TGR_K_mask_steps, 1, (x,), as_index(lengths, "mask_steps"), c)[0]


# ---- reductions ----------------------------------------------------------------------------------------------------

cdef cnp.ndarray reduce_run(int kernel, cnp.ndarray x_, int first, int last, bint keepdims, str name):
    """Reduced over the adjacent axes first..last, in one call of the kernel."""
    cdef cnp.ndarray x = contiguous(x_, kernel)
    cdef int i, nd = 0
    cdef ptrdiff_t n[3]
    cdef cnp.npy_intp dims[MAX_DIMS]
    cdef cnp.npy_intp size
    cdef cnp.ndarray y
    cdef void *p[2]
    n[0], n[1], n[2] = 1, 1, 1
    for i in range(cnp.PyArray_NDIM(x)):
        size = cnp.PyArray_DIMS(x)[i]
        n[0 if i < first else 1 if i <= last else 2] *= size
        if keepdims or not first <= i <= last:
            dims[nd] = 1 if first <= i <= last else size
            nd += 1
    if (kernel == TGR_K_max or kernel == TGR_K_min) and n[1] == 0:
        raise ValueError(f"{name}: the {name}imum of an empty axis does not exist (shape {shape_of(x)})")
    y = empty(nd, dims, x)
    p[0], p[1] = cnp.PyArray_DATA(y), cnp.PyArray_DATA(x)
    run(kernel, dtype_of(x, kernel), p, n, NULL, n[0] * n[1] * n[2])
    return y


cdef cnp.ndarray reduce(int kernel, cnp.ndarray x, tuple axes, bint keepdims, str name):
    """Reduced over the sorted axes, last run of adjacent ones first."""
    cdef int first, last, at = len(axes) - 1
    cdef cnp.ndarray y
    if at < 0:
        return copy(x)
    if at > 0 and cnp.PyArray_SIZE(x) == 0 and kernel != TGR_K_max and kernel != TGR_K_min:
        # over all axes at once: between one and the next there could be more elements than at the end
        shape = shape_of(x)
        kept = [d for i, d in enumerate(shape) if i not in axes]
        y = reduce_run(kernel, x.reshape([*kept, 0]), len(kept), len(kept), False, name)
        return y.reshape([1 if i in axes else d for i, d in enumerate(shape)]) if keepdims else y
    while at >= 0:
        last = first = axes[at]
        while at > 0 and axes[at - 1] == first - 1:
            at -= 1
            first = axes[at]
        at -= 1
        x = reduce_run(kernel, x, first, last, keepdims, name)
    return x


cdef cnp.ndarray reduced(int kernel, cnp.ndarray x, axis, bint keepdims, str name):
    cdef int one, nd = cnp.PyArray_NDIM(x)
    if type(axis) is int:  # the common cases need no list of axes
        one = axis + nd if axis < 0 else axis
        if 0 <= one < nd:
            return reduce_run(kernel, x, one, one, keepdims, name)
    elif axis is None and nd:
        return reduce_run(kernel, x, 0, nd - 1, keepdims, name)
    return reduce(kernel, x, axes_of(axis, nd, name), keepdims, name)


def sum(cnp.ndarray x not None, axis=None, keepdims=False):
    """Sum over an axis, a tuple of axes, or all (None)."""
    return reduced(TGR_K_sum, x, axis, keepdims, "sum")


def max(cnp.ndarray x not None, axis=None, keepdims=False):
    """Maximum over an axis, a tuple of axes, or all (None); NaN wins."""
    return reduced(TGR_K_max, x, axis, keepdims, "max")


def min(cnp.ndarray x not None, axis=None, keepdims=False):
    """Minimum over an axis, a tuple of axes, or all (None); NaN wins."""
    return reduced(TGR_K_min, x, axis, keepdims, "min")


def prod(cnp.ndarray x not None, axis=None, keepdims=False):
    """Product over an axis, a tuple of axes, or all (None); 1 for an empty axis."""
    return reduced(TGR_K_prod, x, axis, keepdims, "prod")


def logsumexp(cnp.ndarray x not None, axis=None, keepdims=False):
    """log(sum(exp(x))) over an axis, a tuple of axes, or all (None); -inf for an empty axis."""
    return reduced(TGR_K_logsumexp, x, axis, keepdims, "logsumexp")


cdef cnp.ndarray summed_like(cnp.ndarray g, cnp.ndarray x):
    return g if cnp.PyArray_SAMESHAPE(g, x) else sum_to(g, shape_of(x))


def sum_to(cnp.ndarray g not None, tuple shape):
    """g summed over the axes along which `shape` was broadcast to the shape of g; g itself where none was."""
    cdef int nd = len(shape), extra = cnp.PyArray_NDIM(g) - nd, i
    cdef list axes
    dtype_of(g, TGR_K_sum)
    if extra == 0:
        for i in range(nd):
            if <cnp.npy_intp>shape[i] != cnp.PyArray_DIMS(g)[i]:
                break
        else:
            return g
    if extra < 0:
        raise ValueError(f"sum_to: {shape} does not broadcast to {shape_of(g)}")
    axes = list(range(extra))
    for i in range(nd):
        if <cnp.npy_intp>shape[i] != cnp.PyArray_DIMS(g)[i + extra]:
            if shape[i] != 1:
                raise ValueError(f"sum_to: {shape} does not broadcast to {shape_of(g)}")
            axes.append(i + extra)
    return reduce(TGR_K_sum, g, tuple(axes), True, "sum_to").reshape(shape)


def add_norm(cnp.ndarray norm not None, cnp.ndarray x_ not None):
    """norm = sqrt(norm ** 2 + the sum of x ** 2), in place; norm is float64 (), x float32 or float64; returns norm."""
    cdef cnp.ndarray x = contiguous(x_, TGR_K_add_norm)
    cdef void *p[2]
    cdef ptrdiff_t n = cnp.PyArray_SIZE(x)
    check_doubles("add_norm", "the norm", norm, 0, 1, True)
    p[0], p[1] = cnp.PyArray_DATA(norm), cnp.PyArray_DATA(x)
    run(TGR_K_add_norm, dtype_of(x, TGR_K_add_norm), p, &n, NULL, n)
    return norm


cdef int check_doubles(str name, str what, cnp.ndarray x, int ndim, ptrdiff_t size, bint written) except -1:
    if (cnp.PyArray_TYPE(x) != cnp.NPY_DOUBLE or cnp.PyArray_NDIM(x) != ndim or cnp.PyArray_SIZE(x) != size or not is_plain(x)
            or (written and not cnp.PyArray_ISWRITEABLE(x))):
        raise ValueError(f"{name}: {what} must be {'a writeable ' if written else ''}float64 of {size} entries, "
                         f"got {x.dtype} {shape_of(x)}")
    return 0


# ---- convolution and pooling ---------------------------------------------------------------------------------------

cdef int spatial_sizes(str name, cnp.ndarray x, kernel, stride, padding, dilation, ptrdiff_t *size, ptrdiff_t *window,
                       ptrdiff_t *out, ptrdiff_t *step, ptrdiff_t *before, ptrdiff_t *spread) except -1:
    """Checks windows over the last two axes of x and writes, for each: its size, the window's, the output's, stride, padding
    before, and, where not NULL, dilation. In Python's integers, so that nothing overflows."""
    cdef int i
    for what in (kernel, stride, padding, dilation):
        if len(what) != 2:
            raise ValueError(f"{name}: expected pairs, got windows {kernel}, stride {stride}, padding {padding}, dilation {dilation}")
    for i in range(2):
        if len(padding[i]) != 2:
            raise ValueError(f"{name}: padding {padding} is no pair of pairs")
        length, first, last = int(cnp.PyArray_DIMS(x)[2 + i]), operator.index(padding[i][0]), operator.index(padding[i][1])
        k, s, d = operator.index(kernel[i]), operator.index(stride[i]), operator.index(dilation[i])
        room = length + first + last - d * (k - 1) - 1
        if length < 1 or k < 1 or s < 1 or d < 1 or first < 0 or last < 0 or room < 0 or room + d * k >= LONGEST_SIZE:
            raise ValueError(f"{name}: windows of {k} with stride {s}, dilation {d} and padding {(first, last)} do not fit an axis "
                             f"of {length}")
        size[i], window[i], before[i], out[i] = length, k, first, room // s + 1
        step[i] = builtins.min(s, room + 1)  # where that is less there is one window
        if spread != NULL:
            spread[i] = d if k > 1 else 1
    return 0


cdef int conv_sizes(str name, cnp.ndarray x, cnp.ndarray w, stride, padding, dilation, groups, ptrdiff_t *n) except -1:
    """Checks what a convolution is given and writes the sizes that its kernels take."""
    same_dtype(x, w, TGR_K_conv2d)
    fit = cnp.PyArray_NDIM(x) == cnp.PyArray_NDIM(w) == 4 and operator.index(groups) >= 1
    if (not fit or shape_of(x)[1] != shape_of(w)[1] * groups or shape_of(w)[0] % groups):
        raise ValueError(f"{name}: input {shape_of(x)}, weight {shape_of(w)} and groups={groups} do not fit (N, C, H, W) and "
                         "(O, C / groups, KH, KW)")
    n[0], n[1], n[4], n[15] = cnp.PyArray_DIMS(x)[0], cnp.PyArray_DIMS(x)[1], cnp.PyArray_DIMS(w)[0], groups
    spatial_sizes(name, x, shape_of(w)[2:], stride, padding, dilation, &n[2], &n[5], &n[7], &n[9], &n[11], &n[13])
    return 0


cdef enum:
    CONV_SIZES = 16
    POOL_SIZES = 12


cdef ptrdiff_t conv_work(const ptrdiff_t *n) noexcept:
    return n[0] * n[4] * n[7] * n[8] * (n[1] // n[15] * n[5] * n[6] + 1)


def conv2d(cnp.ndarray x_ not None, cnp.ndarray w_ not None, cnp.ndarray b, stride, padding, dilation, groups):
    """The cross-correlation of x(N, C, H, W) with w(O, C / groups, KH, KW) [+ b(O)] -> (N, O, OH, OW).

    stride, dilation   a pair of integers each; padding: a pair of pairs, zeros before and behind each axis"""
    cdef ptrdiff_t n[CONV_SIZES]
    cdef cnp.npy_intp dims[4]
    cdef void *p[4]
    conv_sizes("conv2d", x_, w_, stride, padding, dilation, groups, n)
    cdef cnp.ndarray x = contiguous(x_, TGR_K_conv2d), w = contiguous(w_, TGR_K_conv2d), bias = None, y
    if b is not None:
        same_dtype(x, b, TGR_K_conv2d)
        if cnp.PyArray_NDIM(b) != 1 or cnp.PyArray_DIMS(b)[0] != n[4]:
            raise ValueError(f"conv2d: bias {shape_of(b)} does not fit the weight {shape_of(w)}; expected ({n[4]},)")
        bias = contiguous(b, TGR_K_conv2d)
    dims[0], dims[1], dims[2], dims[3] = n[0], n[4], n[7], n[8]
    y = empty(4, dims, x)
    p[0], p[1], p[2] = cnp.PyArray_DATA(y), cnp.PyArray_DATA(x), cnp.PyArray_DATA(w)
    p[3] = NULL if bias is None else cnp.PyArray_DATA(bias)
    run(TGR_K_conv2d, dtype_of(x, TGR_K_conv2d), p, n, NULL, conv_work(n))
    return y


def conv2d_vjp(cnp.ndarray g_ not None, cnp.ndarray x_ not None, cnp.ndarray w_ not None, tuple needs, stride, padding, dilation,
               groups):
    """(gx, gw) or, where needs has three booleans and not two, (gx, gw, gb) of conv2d for the cotangent g(N, O, OH, OW); None
    where needs says so."""
    cdef ptrdiff_t n[CONV_SIZES]
    cdef void *p[3]
    cdef cnp.ndarray gx = None, gw = None, gb = None
    if not 2 <= len(needs) <= 3:
        raise ValueError(f"conv2d_vjp: needs {needs}; expected two booleans, or three with a bias")
    conv_sizes("conv2d_vjp", x_, w_, stride, padding, dilation, groups, n)
    cdef int dtype = same_dtype(g_, x_, TGR_K_conv2d)
    if shape_of(g_) != (n[0], n[4], n[7], n[8]):
        raise ValueError(f"conv2d_vjp: expected a cotangent of shape {(n[0], n[4], n[7], n[8])}, got {shape_of(g_)}")
    cdef cnp.ndarray g = contiguous(g_, TGR_K_conv2d), x, w
    p[1] = cnp.PyArray_DATA(g)
    if needs[0]:
        w, gx = contiguous(w_, TGR_K_conv2d_dx), empty_like(x_)
        p[0], p[2] = cnp.PyArray_DATA(gx), cnp.PyArray_DATA(w)
        run(TGR_K_conv2d_dx, dtype, p, n, NULL, conv_work(n))
    if needs[1]:
        x, gw = contiguous(x_, TGR_K_conv2d_dw), empty_like(w_)
        p[0], p[2] = cnp.PyArray_DATA(gw), cnp.PyArray_DATA(x)
        run(TGR_K_conv2d_dw, dtype, p, n, NULL, conv_work(n))
    if len(needs) == 2:
        return gx, gw
    if needs[2]:
        gb = reduce(TGR_K_sum, g, (0, 2, 3), False, "conv2d_vjp")
    return gx, gw, gb


cdef int pool_sizes(str name, cnp.ndarray x, kernel, stride, padding, ptrdiff_t *n) except -1:
    """Checks what a pooling is given and writes the sizes that its kernels take."""
    if cnp.PyArray_NDIM(x) != 4:
        raise ValueError(f"{name}: expected (N, C, H, W), got {shape_of(x)}")
    if len(kernel) != 2 or len(padding) != 2:
        raise ValueError(f"{name}: expected pairs, got windows {kernel} and padding {padding}")
    for size, pad in zip(kernel, padding):
        if 2 * pad > size:
            raise ValueError(f"{name}: padding {padding} is more than half of the window {kernel}")
    n[0] = cnp.PyArray_DIMS(x)[0] * cnp.PyArray_DIMS(x)[1]
    spatial_sizes(name, x, kernel, stride, [(pad, pad) for pad in padding], (1, 1), &n[1], &n[5], &n[3], &n[7], &n[9], NULL)
    return 0


cdef cnp.ndarray pooled(int kernel, cnp.ndarray x_, ptrdiff_t *n):
    """What the kernel makes of the windows of x, with sizes as its comment says."""
    cdef cnp.npy_intp dims[4]
    cdef cnp.ndarray x = contiguous(x_, kernel), y
    cdef void *p[2]
    cdef int dtype = dtype_of(x, kernel)
    dims[0], dims[1], dims[2], dims[3] = cnp.PyArray_DIMS(x)[0], cnp.PyArray_DIMS(x)[1], n[3], n[4]
    y = empty(4, dims, x)
    p[0], p[1] = cnp.PyArray_DATA(y), cnp.PyArray_DATA(x)
    run(kernel, dtype, p, n, NULL, cnp.PyArray_SIZE(x))
    return y


def max_pool2d(cnp.ndarray x not None, kernel, stride, padding):
    """The maximum of every window of x(N, C, H, W) -> (N, C, OH, OW); NaN wins. All three are pairs of integers; padding, at most
    half of the window, is never the maximum."""
    cdef ptrdiff_t n[POOL_SIZES]
    pool_sizes("max_pool2d", x, kernel, stride, padding, n)
    return pooled(TGR_K_max_pool2d, x, n)


def max_pool2d_vjp(cnp.ndarray g_ not None, cnp.ndarray x_ not None, kernel, stride, padding):
    """gx of max_pool2d for the cotangent g(N, C, OH, OW): each window's goes to the first of its maxima, or its last NaN."""
    cdef ptrdiff_t n[POOL_SIZES]
    cdef void *p[3]
    pool_sizes("max_pool2d_vjp", x_, kernel, stride, padding, n)
    cdef int dtype = same_dtype(g_, x_, TGR_K_max_pool2d_vjp)
    if shape_of(g_) != shape_of(x_)[:2] + (n[3], n[4]):
        raise ValueError(f"max_pool2d_vjp: expected a cotangent of shape {shape_of(x_)[:2] + (n[3], n[4])}, got {shape_of(g_)}")
    cdef cnp.ndarray g = contiguous(g_, TGR_K_max_pool2d_vjp), x = contiguous(x_, TGR_K_max_pool2d_vjp), gx = empty_like(x_)
    p[0], p[1], p[2] = cnp.PyArray_DATA(gx), cnp.PyArray_DATA(g), cnp.PyArray_DATA(x)
    run(TGR_K_max_pool2d_vjp, dtype, p, n, NULL, cnp.PyArray_SIZE(x))
    return gx


def avg_pool2d(cnp.ndarray x not None, kernel, stride, padding, bint count_include_pad):
    """The mean of every window of x(N, C, H, W) -> (N, C, OH, OW), over the elements alone or, with count_include_pad, the zeros of
    the padding too. kernel, stride and padding are pairs of integers; padding is at most half of the window."""
    cdef ptrdiff_t n[POOL_SIZES]
    pool_sizes("avg_pool2d", x, kernel, stride, padding, n)
    n[11] = count_include_pad
    return pooled(TGR_K_avg_pool2d, x, n)


def avg_pool2d_vjp(cnp.ndarray g_ not None, tuple shape, kernel, stride, padding, bint count_include_pad):
    """gx of avg_pool2d for x of a shape and the cotangent g(N, C, OH, OW)."""
    cdef ptrdiff_t n[POOL_SIZES]
    cdef void *p[2]
    pool_sizes("avg_pool2d_vjp", np.broadcast_to(np.False_, shape), kernel, stride, padding, n)
    n[11] = count_include_pad
    if shape_of(g_) != shape[:2] + (n[3], n[4]):
        raise ValueError(f"avg_pool2d_vjp: expected a cotangent of shape {shape[:2] + (n[3], n[4])}, got {shape_of(g_)}")
    cdef cnp.ndarray g = contiguous(g_, TGR_K_avg_pool2d_vjp)
    cdef int dtype = dtype_of(g, TGR_K_avg_pool2d_vjp)
    cdef cnp.ndarray gx = new(shape, g.dtype)
    p[0], p[1] = cnp.PyArray_DATA(gx), cnp.PyArray_DATA(g)
    run(TGR_K_avg_pool2d_vjp, dtype, p, n, NULL, cnp.PyArray_SIZE(gx))
    return gx


# ---- losses --------------------------------------------------------------------------------------------------------

cdef int middle_axis(cnp.ndarray x, Py_ssize_t axis, ptrdiff_t *n, str name) except -1:
    """n = {outer, length, inner}: x seen with all that comes before the axis as one, and all that comes after it."""
    cdef int i, at = axes_of(axis, cnp.PyArray_NDIM(x), name)[0]
    n[0], n[1], n[2] = 1, 1, 1
    for i in range(cnp.PyArray_NDIM(x)):
        n[0 if i < at else 1 if i == at else 2] *= cnp.PyArray_DIMS(x)[i]
    return 0


cdef cnp.ndarray along_axis(int kernel, cnp.ndarray x_, Py_ssize_t axis, str name):
    cdef cnp.ndarray x = contiguous(x_, kernel)
    cdef int dtype = dtype_of(x, kernel)
    cdef cnp.ndarray y = empty_like(x)
    cdef ptrdiff_t n[3]
    cdef void *p[2]
    middle_axis(x, axis, n, name)
    p[0], p[1] = cnp.PyArray_DATA(y), cnp.PyArray_DATA(x)
    run(kernel, dtype, p, n, NULL, cnp.PyArray_SIZE(x))
    return y


def cumsum(cnp.ndarray x not None, Py_ssize_t axis):
    """Sums along the axis up to each entry."""
    return along_axis(TGR_K_cumsum, x, axis, "cumsum")


def cumprod(cnp.ndarray x not None, Py_ssize_t axis):
    """Products along the axis up to each entry."""
    return along_axis(TGR_K_cumprod, x, axis, "cumprod")


def cumprod_vjp(cnp.ndarray g_ not None, cnp.ndarray x_ not None, cnp.ndarray y_ not None, Py_ssize_t axis):
    """gx of y = cumprod(x) along the axis, right at zeros; equal shapes."""
    cdef cnp.ndarray g = contiguous(g_, TGR_K_cumprod_vjp), x = contiguous(x_, TGR_K_cumprod_vjp)
    cdef cnp.ndarray y = contiguous(y_, TGR_K_cumprod_vjp), dx
    cdef int dtype = same_dtype(g, x, TGR_K_cumprod_vjp)
    cdef ptrdiff_t n[3]
    cdef void *p[4]
    same_dtype(g, y, TGR_K_cumprod_vjp)
    if not (cnp.PyArray_SAMESHAPE(g, x) and cnp.PyArray_SAMESHAPE(g, y)):
        raise ValueError(f"cumprod_vjp: shapes {shape_of(g)}, {shape_of(x)} and {shape_of(y)} differ")
    middle_axis(x, axis, n, "cumprod_vjp")
    dx = empty_like(x)
    p[0], p[1], p[2], p[3] = cnp.PyArray_DATA(dx), cnp.PyArray_DATA(g), cnp.PyArray_DATA(x), cnp.PyArray_DATA(y)
    run(TGR_K_cumprod_vjp, dtype, p, n, NULL, cnp.PyArray_SIZE(x))
    return dx


def softmax(cnp.ndarray x not None, Py_ssize_t axis):
    """exp(x) / sum(exp(x)) along the axis."""
    return along_axis(TGR_K_softmax, x, axis, "softmax")


def log_softmax(cnp.ndarray x not None, Py_ssize_t axis):
    """x - log(sum(exp(x))) along the axis."""
    return along_axis(TGR_K_log_softmax, x, axis, "log_softmax")


cdef int check_rows(cnp.ndarray x, cnp.ndarray target, str name) except -1:
    if cnp.PyArray_NDIM(x) != 2 or shape_of(target) != shape_of(x)[:1]:
        raise ValueError(f"{name}: expected (rows, classes) and (rows,), got {shape_of(x)} and {shape_of(target)}")
    return 0


def nll(cnp.ndarray log_probability_ not None, cnp.ndarray target_ not None, Py_ssize_t ignore=-100):
    """-log_probability[i, target[i]] for every row i of (rows, classes), 0 where target[i] is `ignore`; target is int64."""
    cdef cnp.ndarray x = contiguous(log_probability_, TGR_K_nll)
    cdef cnp.ndarray target = as_index(target_, "nll")
    check_rows(x, target, "nll")
    cdef cnp.ndarray y = empty(1, cnp.PyArray_DIMS(x), x)
    cdef void *p[3]
    cdef ptrdiff_t n[3]
    p[0], p[1], p[2] = cnp.PyArray_DATA(y), cnp.PyArray_DATA(x), cnp.PyArray_DATA(target)
    n[0], n[1], n[2] = cnp.PyArray_DIMS(x)[0], cnp.PyArray_DIMS(x)[1], ignore
    run(TGR_K_nll, dtype_of(x, TGR_K_nll), p, n, NULL, n[0])
    return y


def nll_vjp(cnp.ndarray g_ not None, cnp.ndarray target_ not None, Py_ssize_t classes, Py_ssize_t ignore=-100):
    """-g(rows) onehot(target), (rows, classes), 0 where target is `ignore`: the cotangent of x in nll(x, target)."""
    cdef cnp.ndarray g = contiguous(g_, TGR_K_nll_vjp)
    cdef cnp.ndarray target = as_index(target_, "nll_vjp")
    cdef cnp.ndarray y
    cdef void *p[3]
    cdef ptrdiff_t n[3]
    if cnp.PyArray_NDIM(g) != 1 or not cnp.PyArray_SAMESHAPE(g, target) or classes < 0:
        raise ValueError(f"nll_vjp: expected (rows,) and (rows,), got {shape_of(g)} and {shape_of(target)}, {classes} classes")
    n[0], n[1], n[2] = cnp.PyArray_DIMS(g)[0], classes, ignore
    y = new((n[0], n[1]), g.dtype)
    p[0], p[1], p[2] = cnp.PyArray_DATA(y), cnp.PyArray_DATA(g), cnp.PyArray_DATA(target)
    run(TGR_K_nll_vjp, dtype_of(g, TGR_K_nll_vjp), p, n, NULL, n[0] * n[1])
    return y


def cross_entropy_vjp(cnp.ndarray g_ not None, cnp.ndarray log_probability_ not None, cnp.ndarray target_ not None,
                      Py_ssize_t ignore=-100):
    """g(rows) (exp(log_probability) - onehot(target)), 0 where target is `ignore`: the cotangent of x in
    nll(log_softmax(x), target)."""
    cdef cnp.ndarray g = contiguous(g_, TGR_K_cross_entropy_vjp)
    cdef cnp.ndarray x = contiguous(log_probability_, TGR_K_cross_entropy_vjp)
    cdef cnp.ndarray target = as_index(target_, "cross_entropy_vjp")
    check_rows(x, target, "cross_entropy_vjp")
    check_rows(x, g, "cross_entropy_vjp")
    cdef int dtype = same_dtype(g, x, TGR_K_cross_entropy_vjp)
    cdef cnp.ndarray y = empty_like(x)
    cdef void *p[4]
    cdef ptrdiff_t n[3]
    p[0], p[1], p[2], p[3] = cnp.PyArray_DATA(y), cnp.PyArray_DATA(g), cnp.PyArray_DATA(x), cnp.PyArray_DATA(target)
    n[0], n[1], n[2] = cnp.PyArray_DIMS(x)[0], cnp.PyArray_DIMS(x)[1], ignore
    run(TGR_K_cross_entropy_vjp, dtype, p, n, NULL, cnp.PyArray_SIZE(x))
    return y


def count_targets(cnp.ndarray target_ not None, dtype, Py_ssize_t ignore=-100):
    """How many entries of target, int64, are not `ignore`: a number () of that dtype."""
    cdef cnp.ndarray target = as_index(target_, "count_targets")
    cdef cnp.ndarray y = new((), dtype)
    cdef void *p[2]
    cdef ptrdiff_t n[2]
    p[0], p[1] = cnp.PyArray_DATA(y), cnp.PyArray_DATA(target)
    n[0], n[1] = cnp.PyArray_SIZE(target), ignore
    run(TGR_K_count_targets, dtype_of(y, TGR_K_count_targets), p, n, NULL, n[0])
    return y


def bce_with_logits(cnp.ndarray x_ not None, cnp.ndarray target_ not None):
    """(y, dy/dx) of y = -t log(sigmoid(x)) - (1 - t) log(sigmoid(-x)), t the target; equal shapes."""
    cdef cnp.ndarray x = contiguous(x_, TGR_K_bce_with_logits), target = contiguous(target_, TGR_K_bce_with_logits)
    cdef int dtype = same_dtype(x, target, TGR_K_bce_with_logits)
    if not cnp.PyArray_SAMESHAPE(x, target):
        raise ValueError(f"bce_with_logits: shapes {shape_of(x)} and {shape_of(target)} differ")
    cdef cnp.ndarray y = empty_like(x), dx = empty_like(x)
    cdef void *p[4]
    cdef ptrdiff_t n = cnp.PyArray_SIZE(x)
    p[0], p[1], p[2], p[3] = cnp.PyArray_DATA(y), cnp.PyArray_DATA(dx), cnp.PyArray_DATA(x), cnp.PyArray_DATA(target)
    run(TGR_K_bce_with_logits, dtype, p, &n, NULL, n)
    return y, dx


# ---- normalisations ------------------------------------------------------------------------------------------------

cdef inline void *data_of(cnp.ndarray x) noexcept:
    return NULL if x is None else cnp.PyArray_DATA(x)


cdef cnp.ndarray vector_of(cnp.ndarray x, cnp.npy_intp size, cnp.ndarray like, int kernel, str what):
    """x, contiguous, if it has the shape (size,) and the dtype of `like`; None is None."""
    if x is None:
        return None
    same_dtype(like, x, kernel)
    if cnp.PyArray_NDIM(x) != 1 or cnp.PyArray_DIMS(x)[0] != size:
        raise ValueError(f"{name_of(kernel)}: {what} has shape {shape_of(x)}, expected ({size},)")
    return contiguous(x, kernel)


cdef cnp.ndarray rows_of(cnp.ndarray x, int kernel):
    if cnp.PyArray_NDIM(x) != 2:
        raise ValueError(f"{name_of(kernel)}: expected (rows, columns), got {shape_of(x)}")
    return contiguous(x, kernel)


cdef tuple norm_vjp(int kernel, cnp.ndarray g_, cnp.ndarray x_, cnp.ndarray mean_, cnp.ndarray spread_, int stat_axis,
                    cnp.ndarray w_, bint of_batch, const double *c, tuple needs):
    """(gx, gw, gb) of layer_norm and batch_norm; mean and spread are of axis `stat_axis`."""
    cdef cnp.ndarray x = rows_of(x_, kernel), g = rows_of(g_, kernel), gx = None, gw = None, gb = None
    cdef int dtype = same_dtype(g, x, kernel)
    cdef cnp.npy_intp *dims = cnp.PyArray_DIMS(x)
    cdef cnp.ndarray mean = vector_of(mean_, dims[stat_axis], x, kernel, "the mean")
    cdef cnp.ndarray spread = vector_of(spread_, dims[stat_axis], x, kernel, "the variance, or what stands for it,")
    cdef cnp.ndarray w = vector_of(w_, dims[1], x, kernel, "the weight")
    cdef void *p[8]
    cdef ptrdiff_t n[3]
    if not cnp.PyArray_SAMESHAPE(g, x) or len(needs) != 3 or mean is None or spread is None:
        raise ValueError(f"{name_of(kernel)}: cotangent {shape_of(g)}, input {shape_of(x)} and needs {needs} do not fit (rows, "
                         "columns), (rows, columns) and three booleans")
    if needs[0]:
        gx = empty_like(x)
    if needs[1]:
        gw = empty(1, dims + 1, x)
    if needs[2]:
        gb = empty(1, dims + 1, x)
    p[0], p[1], p[2], p[3], p[4], p[5], p[6], p[7] = (data_of(gx), data_of(gw), data_of(gb), data_of(g), data_of(x), data_of(mean),
                                                      data_of(spread), data_of(w))
    n[0], n[1], n[2] = dims[0], dims[1], of_batch
    run(kernel, dtype, p, n, c, cnp.PyArray_SIZE(x))
    return gx, gw, gb


def layer_norm(cnp.ndarray x_ not None, cnp.ndarray w, cnp.ndarray b, double eps):
    """(y, mean, rstd): y = (x - mean) rstd w(columns) + b(columns) of x(rows, columns), mean and rstd(rows) = 1 / sqrt(variance + eps)
    being those of the row; w and b may be None."""
    cdef cnp.ndarray x = rows_of(x_, TGR_K_layer_norm)
    cdef int dtype = dtype_of(x, TGR_K_layer_norm)
    cdef cnp.npy_intp *dims = cnp.PyArray_DIMS(x)
    cdef cnp.ndarray weight = vector_of(w, dims[1], x, TGR_K_layer_norm, "the weight")
    cdef cnp.ndarray bias = vector_of(b, dims[1], x, TGR_K_layer_norm, "the bias")
    cdef cnp.ndarray y = empty_like(x), mean = empty(1, dims, x), rstd = empty(1, dims, x)
    cdef void *p[6]
    cdef ptrdiff_t n[2]
    p[0], p[1], p[2], p[3], p[4], p[5] = data_of(y), data_of(mean), data_of(rstd), data_of(x), data_of(weight), data_of(bias)
    n[0], n[1] = dims[0], dims[1]
    run(TGR_K_layer_norm, dtype, p, n, &eps, cnp.PyArray_SIZE(x))
    return y, mean, rstd


def layer_norm_vjp(cnp.ndarray g not None, cnp.ndarray x not None, cnp.ndarray mean not None, cnp.ndarray rstd not None,
                   cnp.ndarray w, tuple needs):
    """(gx, gw, gb) of layer_norm for the cotangent g(rows, columns); None where needs, three booleans, says so."""
    return norm_vjp(TGR_K_layer_norm_vjp, g, x, mean, rstd, 0, w, True, NULL, needs)


def moments(cnp.ndarray x_ not None):
    """(mean, variance) of the columns of x(rows, columns), the variance being the mean of (x - mean)^2."""
    cdef cnp.ndarray x = rows_of(x_, TGR_K_moments)
    cdef int dtype = dtype_of(x, TGR_K_moments)
    cdef cnp.npy_intp *dims = cnp.PyArray_DIMS(x)
    cdef cnp.ndarray mean = empty(1, dims + 1, x), variance = empty(1, dims + 1, x)
    cdef void *p[3]
    cdef ptrdiff_t n[2]
    p[0], p[1], p[2] = data_of(mean), data_of(variance), data_of(x)
    n[0], n[1] = dims[0], dims[1]
    run(TGR_K_moments, dtype, p, n, NULL, cnp.PyArray_SIZE(x))
    return mean, variance


def batch_norm(cnp.ndarray x_ not None, cnp.ndarray mean not None, cnp.ndarray variance not None, cnp.ndarray w, cnp.ndarray b,
               double eps):
    """(x - mean) / sqrt(variance + eps) w + b of x(rows, columns), all others (columns,); w and b may be None."""
    cdef cnp.ndarray x = rows_of(x_, TGR_K_batch_norm)
    cdef int dtype = dtype_of(x, TGR_K_batch_norm), i
    cdef cnp.npy_intp *dims = cnp.PyArray_DIMS(x)
    cdef list others = [vector_of(v, dims[1], x, TGR_K_batch_norm, what) for v, what in
                        ((mean, "the mean"), (variance, "the variance"), (w, "the weight"), (b, "the bias"))]
    cdef cnp.ndarray y = empty_like(x)
    cdef void *p[6]
    cdef ptrdiff_t n[2]
    p[0], p[1] = data_of(y), data_of(x)
    for i in range(4):
        p[2 + i] = data_of(others[i])
    n[0], n[1] = dims[0], dims[1]
    run(TGR_K_batch_norm, dtype, p, n, &eps, cnp.PyArray_SIZE(x))
    return y


def batch_norm_vjp(cnp.ndarray g not None, cnp.ndarray x not None, cnp.ndarray mean not None, cnp.ndarray variance not None,
                   cnp.ndarray w, double eps, of_batch, tuple needs):
    """(gx, gw, gb) of batch_norm for the cotangent g(rows, columns); None where needs, three booleans, says so. of_batch: whether
    mean and variance are those of x, and so depend on it."""
    return norm_vjp(TGR_K_batch_norm_vjp, g, x, mean, variance, 1, w, of_batch, &eps, needs)


def track_moments(cnp.ndarray running_mean not None, cnp.ndarray running_var not None, batches, cnp.ndarray mean_ not None,
                  cnp.ndarray variance_ not None, Py_ssize_t rows, double momentum):
    """running = (1 - momentum) running + momentum (mean, or variance rows / (rows - 1)), batches += 1, in place: of an int64 (), or
    None. A negative momentum is 1 / batches. All others have the shape (columns,). Returns running_mean."""
    cdef cnp.ndarray mean = contiguous(mean_, TGR_K_track_moments), variance = contiguous(variance_, TGR_K_track_moments)
    cdef cnp.ndarray count = batches
    cdef void *p[5]
    cdef ptrdiff_t n[2]
    check_update("track_moments", running_mean, [running_var], mean)
    check_update("track_moments", running_var, [], variance)
    if not (cnp.PyArray_ISWRITEABLE(running_mean) and cnp.PyArray_ISWRITEABLE(running_var)) or rows < 2:
        raise ValueError(f"track_moments: expected writeable statistics and at least 2 rows, got {rows}")
    if count is None:
        if momentum < 0:
            raise ValueError("track_moments: a negative momentum needs the number of batches")
    elif (cnp.PyArray_TYPE(count) != cnp.NPY_INT64 or cnp.PyArray_NDIM(count) or not is_plain(count)
          or not cnp.PyArray_ISWRITEABLE(count)):
        raise ValueError(f"track_moments: the number of batches must be a writeable int64 (), got {count.dtype} {shape_of(count)}")
    p[0], p[1], p[2], p[3], p[4] = data_of(running_mean), data_of(running_var), data_of(count), data_of(mean), data_of(variance)
    n[0], n[1] = cnp.PyArray_SIZE(mean), rows
    run(TGR_K_track_moments, dtype_of(mean, TGR_K_track_moments), p, n, &momentum, n[0])
    return running_mean


# ---- random numbers ------------------------------------------------------------------------------------------------

def keep_mask(shape, dtype, cnp.ndarray state not None, double p):
    """A new array that is 0 with probability p, 0 <= p <= 1, and else 1 / (1 - p); state, uint64 (2,): {key, counter}, advances
    by one for every four elements."""
    cdef cnp.ndarray y
    cdef void *pointers[2]
    cdef ptrdiff_t n
    if (cnp.PyArray_TYPE(state) not in (cnp.NPY_ULONG, cnp.NPY_ULONGLONG) or cnp.PyArray_ITEMSIZE(state) != 8
            or shape_of(state) != (2,) or not is_plain(state) or not cnp.PyArray_ISWRITEABLE(state)):
        raise ValueError(f"keep_mask: the state must be a writeable uint64 (2,), got {state.dtype} {shape_of(state)}")
    if not 0 <= p <= 1:
        raise ValueError(f"keep_mask: expected a probability in 0..1, got {p}")
    y = new(tuple(shape), dtype)
    pointers[0], pointers[1] = cnp.PyArray_DATA(y), cnp.PyArray_DATA(state)
    n = cnp.PyArray_SIZE(y)
    run(TGR_K_keep_mask, dtype_of(y, TGR_K_keep_mask), pointers, &n, &p, n)
    return y


# ---- updates, in place ---------------------------------------------------------------------------------------------

cdef int check_update(str name, cnp.ndarray w, list states, g) except -1:
    """w and those of `states` that are not None are written in place; g, where given, is read."""
    cdef cnp.ndarray other
    for x in [w, *states, g]:
        if x is None:
            continue
        other = x
        if not cnp.PyArray_SAMESHAPE(w, other) or cnp.PyArray_TYPE(w) != cnp.PyArray_TYPE(other):
            raise ValueError(f"{name}: parameter {w.dtype} {shape_of(w)} and {other.dtype} {shape_of(other)} differ")
        if not is_plain(other) or (other is not g and not cnp.PyArray_ISWRITEABLE(other)):
            raise ValueError(f"{name}: parameter and state must be contiguous and writeable")
    return 0


def clip_to_norm(cnp.ndarray x not None, cnp.ndarray norm not None, double max_norm):
    """x *= max_norm / (norm + 1e-6) in place, unless that is 1 or more; norm is float64 (), x contiguous; returns x."""
    cdef void *p[2]
    cdef ptrdiff_t n = cnp.PyArray_SIZE(x)
    check_update("clip_to_norm", x, [], None)
    check_doubles("clip_to_norm", "the norm", norm, 0, 1, False)
    p[0], p[1] = cnp.PyArray_DATA(x), cnp.PyArray_DATA(norm)
    run(TGR_K_clip_to_norm, dtype_of(x, TGR_K_clip_to_norm), p, &n, &max_norm, n)
    return x


def clip_to_value(cnp.ndarray x not None, double limit):
    """Every element of x into -limit..limit, in place; x contiguous; returns x."""
    cdef void *p[1]
    cdef ptrdiff_t n = cnp.PyArray_SIZE(x)
    check_update("clip_to_value", x, [], None)
    p[0] = cnp.PyArray_DATA(x)
    run(TGR_K_clip_to_value, dtype_of(x, TGR_K_clip_to_value), p, &n, &limit, n)
    return x


def sgd(cnp.ndarray w not None, velocity, cnp.ndarray g_ not None, cnp.ndarray settings not None):
    """d = g + decay w; velocity = momentum velocity + d; w -= rate velocity, or rate (d + momentum velocity) with nesterov, in place;
    velocity None means plain w -= rate d. settings is float64 (4,): rate, momentum, decay, and 1 for nesterov."""
    cdef cnp.ndarray g = contiguous(g_, TGR_K_sgd)
    check_update("sgd", w, [velocity], g)
    check_doubles("sgd", "settings", settings, 1, 4, False)
    cdef void *p[4]
    cdef ptrdiff_t n = cnp.PyArray_SIZE(w)
    p[0], p[2], p[3] = cnp.PyArray_DATA(w), cnp.PyArray_DATA(g), cnp.PyArray_DATA(settings)
    p[1] = NULL if velocity is None else cnp.PyArray_DATA(<cnp.ndarray>velocity)
    run(TGR_K_sgd, dtype_of(w, TGR_K_sgd), p, &n, NULL, n)
    return w


def adam(cnp.ndarray w not None, cnp.ndarray m not None, cnp.ndarray v not None, cnp.ndarray t not None, cnp.ndarray g_ not None,
         cnp.ndarray settings not None):
    """One update of Adam in place: t += 1; w *= 1 - rate decay; d = g + l2 w; m, v are moving averages of d and d ** 2;
    w -= rate m' / (sqrt(v') + eps), m' and v' being m / (1 - b1 ** t) and v / (1 - b2 ** t). t is float64 (), settings float64 (6,):
    rate, b1, b2, eps, l2, decay."""
    cdef cnp.ndarray g = contiguous(g_, TGR_K_adam)
    check_update("adam", w, [m, v], g)
    check_doubles("adam", "the count of steps", t, 0, 1, True)
    check_doubles("adam", "settings", settings, 1, 6, False)
    cdef void *p[6]
    cdef ptrdiff_t n = cnp.PyArray_SIZE(w)
    p[0], p[1], p[2] = cnp.PyArray_DATA(w), cnp.PyArray_DATA(m), cnp.PyArray_DATA(v)
    p[3], p[4], p[5] = cnp.PyArray_DATA(t), cnp.PyArray_DATA(g), cnp.PyArray_DATA(settings)
    run(TGR_K_adam, dtype_of(w, TGR_K_adam), p, &n, NULL, n)
    return w


def rmsprop(cnp.ndarray w not None, cnp.ndarray v not None, mean, b, cnp.ndarray g_ not None, cnp.ndarray settings not None):
    """One update of RMSprop in place: d = g + decay w; v and mean are moving averages of d ** 2 and d; u = d / (sqrt(v - mean ** 2)
    + eps); b = momentum b + u; w -= rate b. mean None counts as 0, b None as u. settings is float64 (5,): rate, alpha, eps, decay,
    momentum."""
    cdef cnp.ndarray g = contiguous(g_, TGR_K_rmsprop)
    check_update("rmsprop", w, [v, mean, b], g)
    check_doubles("rmsprop", "settings", settings, 1, 5, False)
    cdef void *p[6]
    cdef ptrdiff_t n = cnp.PyArray_SIZE(w)
    p[0], p[1], p[4], p[5] = cnp.PyArray_DATA(w), cnp.PyArray_DATA(v), cnp.PyArray_DATA(g), cnp.PyArray_DATA(settings)
    p[2] = NULL if mean is None else cnp.PyArray_DATA(<cnp.ndarray>mean)
    p[3] = NULL if b is None else cnp.PyArray_DATA(<cnp.ndarray>b)
    run(TGR_K_rmsprop, dtype_of(w, TGR_K_rmsprop), p, &n, NULL, n)
    return w
