"""The kernel backends that rules can be run on, by name: one set of functions, two implementations.

    native      the C kernels (`_native.pyx`): eager work
    reference   plain numpy (`_reference.py`): the oracle of the tests

A backend is anything with these functions; another one may wrap them, to record calls as they happen, for instance.
"""

from types import ModuleType

try:
    from . import _native as native  # type: ignore[attr-defined]  # compiled
except ImportError as error:
    if "TGR_ISA" in str(error):
        raise
    raise ImportError(
        f"tinygrad_rnn's compiled kernels cannot be loaded ({error}). Build them with `pip install -e .` in the checkout; "
        "that needs a C compiler and the Python headers (Debian: apt-get install gcc python3-dev)."
    ) from error
from . import _reference as reference

BACKENDS: dict[str, ModuleType] = {"native": native, "reference": reference}


get_num_threads, set_num_threads = native.get_num_threads, native.set_num_threads


def build_info() -> dict[str, object]:
    """What was compiled and what runs: `compiler`, `isa` in use, `isa_compiled` and `isa_supported` (slowest first),
    `vector_bytes`, the most `threads` one kernel uses, and `cache_sizes`, (L1, L2) in bytes, that matrix products are blocked
    for. The environment variable TGR_ISA, read at import, forces one of the supported instruction sets."""
    return {
        "compiler": native.compiler(),
        "isa": native.isa(),
        "isa_compiled": native.isa_names(),
        "isa_supported": native.supported_isa_names(),
        "vector_bytes": native.vector_bytes(),
        "threads": native.get_num_threads(),
        "cache_sizes": native.cache_sizes(),
    }
