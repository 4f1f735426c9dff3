"""Arrays for tests: edge shapes, and one set of values in many memory layouts."""

import numpy as np
from hypothesis import strategies as st

DTYPES = (np.float32, np.float64)

# 0, 1, and the tails around vectors of 4, 8 and 16 elements
LENGTHS = (0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33)
SHAPES = [(), *[(n,) for n in LENGTHS], (2, 3), (3, 0, 2), (2, 3, 5), (1, 1, 4)]
PAIRS = [
    ((), ()),
    ((0,), (0,)),
    ((1,), (7,)),
    ((17,), (17,)),
    ((5,), ()),
    ((), (2, 3)),
    ((2, 3), (3,)),
    ((2, 3), (2, 1)),
    ((3, 1), (1, 4)),
    ((2, 0, 3), (1, 3)),
    ((2, 1, 3, 1), (4, 1, 5)),
]


def layouts(x):
    """(name, array) with the values of x: contiguous, reversed, transposed, strided, and read-only in Fortran order."""
    yield "contiguous", x.copy()
    if x.ndim and x.size:
        back = tuple(slice(None, None, -1) for _ in x.shape)
        yield "reversed", x[back].copy()[back]
        wide = np.zeros((*x.shape[:-1], 2 * x.shape[-1]), x.dtype)
        wide[..., ::2] = x
        yield "strided", wide[..., ::2]
        fortran = np.array(x, order="F")
        fortran.flags.writeable = False
        yield "fortran", fortran


SENTINEL = 12345.0


def guarded(shape, dtype):
    """(array, intact): an array of NaNs, aligned to its items but not to vectors, with sentinels on both sides, and the function
    that checks them."""
    size = int(np.prod(shape))
    whole = np.full(size + 133, SENTINEL, dtype)
    array = whole[67 : 67 + size].reshape(shape)
    array[...] = np.nan
    return array, lambda: bool(np.all(whole[:67] == SENTINEL) and np.all(whole[67 + size :] == SENTINEL))


def among_nans(x):
    """x between NaNs, which show where a kernel reads what it should not."""
    whole = np.full(x.size + 133, np.nan, x.dtype)
    whole[67 : 67 + x.size] = x.ravel()
    return whole[67 : 67 + x.size].reshape(x.shape)


def tolerance(dtype, single=2e-5, double=1e-12):
    return {"rtol": single, "atol": single} if dtype == np.float32 else {"rtol": double, "atol": double}


def draw(rng, shape, low, high, dtype=np.float64):
    return np.asarray(rng.uniform(low, high, shape), dtype)


shapes = st.lists(st.integers(0, 5), max_size=4).map(tuple)


@st.composite
def broadcast_pairs(draw_):
    """Two shapes that broadcast, in both directions at once."""
    full = draw_(shapes)
    out = []
    for _ in range(2):
        cut = draw_(st.integers(0, len(full)))
        out.append(tuple(1 if draw_(st.booleans()) else n for n in full[cut:]))
    return tuple(out)
