"""Random calls, valid and not, of every function of the native backend, against the reference.

    python tests/fuzz_native.py [--cases N] [--seconds S] [--seed S] [--only I] [--choose FUNCTION]

Of each call, both backends get arguments drawn from the same numbers: arrays of both dtypes, any strides, empty ones, read-only
ones, between guard words; in a quarter of the calls one argument is replaced by what does not belong there. Both have to return
equal values, within a bound, and leave equal memory behind, guard words included; or the native one raises what the reference
raises. Some calls are recorded and replayed, and then have to give the same bits. Every call draws an instruction set, and 1 to 3
threads. The calls run in a process of their own: where that dies or hangs, the number of the call is printed, which --only
repeats. The seed is printed, and fresh unless given."""

import warnings

import fuzzing
import numpy as np
from arrays import guarded
from fuzz_arguments import ARGUMENTS, GUARD, GUARD_WORD, Draw, Pack

from tinygrad_rnn.backends import native, reference

DECLARED = (TypeError, ValueError, IndexError, OverflowError, MemoryError)  # what a wrapper raises for what it cannot take
IN_PLACE = {"accumulate", "take_add", "matmul_add", "add_norm", "keep_mask", "clip_to_norm", "clip_to_value", "track_moments"}
IN_PLACE |= {"sgd", "adam", "rmsprop"}
VIEWS = {
    "reshape",
    "transpose",
    "slice",
    "diagonal",
    "broadcast_to",
    "booleans",
    "integers",
    "zeros",
}  # of whatever numpy takes
POINTWISE = {name for name, f in ARGUMENTS.items() if f.__qualname__.startswith("_pointwise")}

# Arguments that belong nowhere; the last ones are made of the argument in whose place they come.
NONSENSE = (
    *(None, "x", 1.5, float("nan"), -1, 0, 7, 2**70, -(2**70), (), (1,), (None, None), (2**70, 2), (1.5, "x"), [], [None]),
    *(np.zeros(3, np.int32), np.zeros((2, 3), np.complex128), np.array([None]), np.zeros(2, [("a", "f4")]), np.float32(2)),
)


def other_dtype(x):
    return x.astype(np.float64 if x.dtype == np.float32 else np.float32)


def swapped(x):
    return x.astype(x.dtype.newbyteorder())


def unaligned(x):
    raw = np.zeros(x.nbytes + 1, np.uint8)
    y = raw[1:].view(np.uint8)[: x.nbytes].view(x.dtype).reshape(x.shape)
    y[...] = x
    return y


def read_only(x):
    y = x.view()
    y.flags.writeable = False
    return y


LAYOUTS = (swapped, unaligned)  # which the native backend may refuse
SPOILED = (
    *(*LAYOUTS, other_dtype, read_only, np.ndarray.tolist, np.ravel, lambda x: x.astype(np.float16)),
    *(lambda x: x[None], lambda x: x[..., :-1] if x.ndim else x[None], lambda x: np.concatenate([x, x]) if x.ndim else x[None]),
    *(lambda x: x[..., ::2] if x.ndim else x, lambda x: x[:0] if x.ndim else x),
)


def drawn(seed, number, only, spoils=True):
    """(function, arguments, kind, draw) of a call: kind is "valid", or what one argument is: of another "layout", "spoiled" in dtype
    or shape, or "nonsense"."""
    d = Draw([seed, number])
    name = only or str(d.rng.choice(sorted(ARGUMENTS)))
    arguments = ARGUMENTS[name](d)
    if d.large or not d.chance(0.25) or not spoils:
        return name, arguments, "valid", d
    at, kind = int(d.rng.integers(len(arguments))), "nonsense"
    x = arguments[at].b if isinstance(arguments[at], Pack) else arguments[at]
    if isinstance(x, np.ndarray) and d.chance(0.6):
        spoil = SPOILED[d.rng.integers(len(SPOILED))]
        kind = "layout" if spoil in LAYOUTS else "spoiled"
        with np.errstate(all="ignore"):
            arguments[at] = spoil(x)
    elif isinstance(x, tuple) and d.chance(0.6):
        arguments[at] = (
            (*x, *x) if d.chance(0.3) else x[:-1] if d.chance(0.5) else tuple(-i if isinstance(i, int) else i for i in x)
        )
    elif isinstance(x, bool):
        kind = "valid"  # everything is true or false
    else:
        arguments[at] = NONSENSE[d.rng.integers(len(NONSENSE))]
    return name, arguments, kind, d


def outcome(backend, name, arguments, d):
    """(what a backend returned, the error that it raised)"""
    f = getattr(backend, name)
    try:
        given = [backend.pack(a.b) if isinstance(a, Pack) else a for a in arguments]
        with np.errstate(all="ignore"):
            return f(*given), None
    except Exception as error:
        return None, error


def fits(seed, number, only):
    """Whether the arguments of a call would do, were none of them spoiled: with two faults, either may be found first."""
    name, arguments, _, d = drawn(seed, number, only, spoils=False)
    return outcome(reference, name, arguments, d)[1] is None


def flat(result):
    if isinstance(result, (tuple, list)):
        return [x for part in result for x in flat(part)]
    return [getattr(result, "data", result) if type(result).__name__ == "Packed" else result]


def difference(name, got, expected):
    """How two results differ beyond the bound of rounding, in words; None where they do not."""
    a, b = flat(got), flat(expected)
    if len(a) != len(b):
        return f"{len(a)} results for {len(b)}"
    for i, (x, y) in enumerate(zip(a, b, strict=True)):
        if x is None or y is None:
            if x is not y:
                return f"result {i} is {x!r} for {y!r}"
            continue
        x, y = np.asarray(x), np.asarray(y)
        if name == "pack":
            continue  # a layout of its own
        if x.shape != y.shape or x.dtype != y.dtype:
            return f"result {i} is {x.dtype} {x.shape} for {y.dtype} {y.shape}"
        text = unequal(name, x, y)
        if text:
            return f"result {i}: {text}"
    return None


def unequal(name, x, y):
    if x.dtype.kind != "f":
        return None if np.array_equal(x, y) else "other values"
    x, y, real = x.astype(np.longdouble), y.astype(np.longdouble), np.finfo(x.dtype)
    bound = 1e-4 if real.bits == 32 else 1e-10
    with np.errstate(all="ignore"):
        finite = np.isfinite(x) & np.isfinite(y)
        top = np.max(np.abs(y), where=finite, initial=1)
        apart = np.abs(x - y) > bound * (np.abs(y) + (1e-3 if name in POINTWISE else top))
        edge = (
            (np.abs(x) > 0.99 * real.max) & (np.abs(y) > 0.99 * real.max) & (np.sign(x) == np.sign(y))
        )  # overflow, or just not
        wrong = np.where(finite, apart, ~((x == y) | (np.isnan(x) & np.isnan(y)))) & ~edge
    if not wrong.any():
        return None
    at = tuple(int(i) for i in np.argwhere(wrong)[0])
    return f"{x[at]} for {y[at]} at {at}, and {int(wrong.sum()) - 1} more"


def guards_hold(d):
    return all(
        np.all(m[:GUARD] == m.dtype.type(GUARD_WORD)) and np.all(m[len(m) - GUARD :] == m.dtype.type(GUARD_WORD))
        for m in d.memory
    )


def compare(seed, number, only=None):
    """(function, kind, whether it was refused, what is wrong or None) of one call."""
    name, arguments, kind, d = drawn(seed, number, only)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _, twins, _, twin = drawn(seed, number, only)
    native.set_isa(str(d.rng.choice(native.supported_isa_names())))
    native.set_num_threads(int(d.rng.integers(1, 4)))
    made = []

    def allocate(shape, dtype):
        if dtype.kind not in "fiub":
            return np.empty(shape, dtype)
        array, intact = guarded(shape, dtype)
        made.append(intact)
        return array

    native.set_allocator(allocate if d.chance(0.7) else None)
    replays = name not in IN_PLACE and kind == "valid" and d.chance(0.3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected, refused = outcome(reference, name, twins, twin)
        if replays:
            (got, error), calls, held = native.recorded(outcome, (native, name, arguments, d), {})
        else:
            got, error = outcome(native, name, arguments, d)
    native.set_allocator(None)
    wrong = None
    if not all(intact() for intact in made) or not guards_hold(d):
        wrong = "guard words are gone"
    elif error is not None and not isinstance(error, (*DECLARED, *((AttributeError,) if name in VIEWS else ()))):
        wrong = f"raises {error!r}"
    elif error is not None and refused is None and kind == "valid":
        wrong = f"raises {error!r}, the reference does not"
    elif error is not None and refused is not None:
        places = isinstance(error, (ValueError, IndexError)) and isinstance(refused, (ValueError, IndexError))
        alike = places or isinstance(error, type(refused)) or isinstance(refused, type(error))
        if (
            kind == "spoiled"
            and isinstance(refused, DECLARED)
            and str(refused).startswith(name)
            and not alike
            and fits(seed, number, only)
        ):
            wrong = f"raises {error!r}, the reference {refused!r}"
    elif error is None and refused is not None:
        if not (kind == "nonsense" and isinstance(refused, OverflowError)):  # a number that is infinite in float32
            wrong = f"returns, the reference raises {refused!r}"
    elif error is None and kind != "nonsense":  # of bounds that cross, for instance, nothing is promised
        wrong = difference(name, got, expected)
        for a, b in zip(d.memory, twin.memory, strict=True):
            wrong = wrong or (text := unequal(name, a, b)) and f"memory: {text}"
        if replays and not wrong:
            wrong = replayed(got, calls, d)
    return (
        name,
        kind,
        error is not None,
        wrong and f"{wrong}\n    {described(arguments)}, {native.isa()}, {native.get_num_threads()} threads",
    )


def replayed(got, calls, d):
    """What is wrong about a replay of the calls: it has to leave the same bits, and no call that was spoiled may be taken."""
    results = [x for x in flat(got) if isinstance(x, np.ndarray)]
    before = [x.tobytes() for x in results]
    if native.Replay(calls).run() != len(calls):
        return "a replay ends early"
    if [x.tobytes() for x in results] != before:
        return "a replay has other bits"
    if not calls:
        return None
    call = list(calls[d.rng.integers(len(calls))])
    at = int(d.rng.integers(5))
    part = call[at]
    if at > 1 and part and d.chance(0.7):
        i = int(d.rng.integers(len(part)))
        value = NONSENSE[d.rng.integers(9)]
        call[at] = (*part[:i], value, *part[i + 1 :]) if d.chance(0.6) else part[:i] if d.chance(0.5) else (*part, value)
    else:
        call[at] = NONSENSE[d.rng.integers(len(NONSENSE))]
    spoiled = [*calls, tuple(call) if d.chance(0.9) else call]
    try:
        native.Replay(spoiled)  # some are what a kernel takes: another constant, another address
    except DECLARED:
        return None
    except Exception as error:
        return f"Replay raises {error!r} for {call}"
    if at == 2 and type(call[2]) is tuple and len(call[2]) == len(part) or at == 4 or call == list(calls[-1]):
        return None
    n = call[3]
    if (
        at == 1
        and call[1] in (0, 1)
        or at == 3
        and isinstance(n, tuple)
        and len(n) == len(part)
        and all(isinstance(x, int) for x in n)
    ):
        return None
    return f"Replay takes {call}"


def described(arguments):
    def one(a):
        if isinstance(a, Pack):
            return f"pack({one(a.b)})"
        if isinstance(a, np.ndarray):
            return f"{a.dtype}{list(a.shape)} strides {a.strides}" + (f" {a.tolist()}" if a.size < 9 else "")
        return repr(a)

    return ", ".join(map(one, arguments))


def check(seed, number, only):
    name, kind, refused, wrong = compare(seed, number, only)
    return (name,), f"{kind}, {'refused' if refused else 'equal'}", wrong and f"{name}, {kind}: {wrong}"


if __name__ == "__main__":
    fuzzing.main(__doc__, check, sorted(ARGUMENTS))
