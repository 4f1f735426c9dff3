"""The kernel backends that rules can be run on, by name: one set of functions, two implementations.

    native      the C kernels (`_native.pyx`): eager work
    reference   plain numpy (`_reference.py`): the oracle of the tests; eager work where the C kernels are not to be had

A backend is anything with these functions; another one may wrap them, to record calls as they happen, for instance.

native    the module of the C kernels; None where it is missing, which a RuntimeWarning says at import
default   the backend of eager work
missing   why there is no `native`, in words; None where there is one
"""

import operator
from importlib import import_module
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from types import ModuleType
from typing import Any

from . import _reference as reference


def compiled(name: str) -> tuple[Any, str | None]:
    """A compiled module of this package and None; or None and why it cannot be had. Raises ImportError where TGR_ISA names no
    instruction set that runs here.

    name   from this package on, as in "compiler._shortcut"
    """
    whole = f"{__package__}.{name}"
    try:
        return import_module(whole), None
    except Exception as error:  # a module for another numpy raises ValueError or RuntimeError
        if "TGR_ISA" in str(error):
            raise
        if not (isinstance(error, ModuleNotFoundError) and error.name == whole):
            return None, f"{whole} cannot be loaded: {type(error).__name__}: {error}"
    place = Path(__file__).parent.joinpath(*name.split("."))
    own = [f"{place.name}{suffix}" for suffix in EXTENSION_SUFFIXES] or [place.name]
    others = sorted(p.name for end in ("so", "pyd") for p in place.parent.glob(f"{place.name}.*{end}") if p.name not in own)
    if others:
        return None, f"{whole} is there as {', '.join(others)}, and this interpreter loads {own[0]}"
    return None, f"{whole} was not built"


native, missing = compiled("_native")
default: ModuleType = native or reference
BACKENDS: dict[str, ModuleType] = {"native": native, "reference": reference} if native else {"reference": reference}

if native:
    get_num_threads, set_num_threads = native.get_num_threads, native.set_num_threads
else:

    def get_num_threads() -> int:
        """The most threads that one kernel uses: 1, without the C kernels."""
        return 1

    def set_num_threads(n: int) -> None:
        """Let a large kernel use at most n threads: it stays 1, without the C kernels. Raises ValueError below 1, TypeError for
        what is not an integer."""
        if operator.index(n) < 1:
            raise ValueError(f"set_num_threads: expected at least 1, got {n}")


def build_info() -> dict[str, object]:
    """What was compiled and what runs: `backend` of eager work and why there is no other (`missing`, None as a rule),
    `compiler`, `isa` in use, `isa_compiled` and `isa_supported` (slowest first), `vector_bytes`, the most `threads` one kernel
    uses, and `cache_sizes`, (L1, L2) in bytes, that matrix products are blocked for. The environment variable TGR_ISA, read at
    import, forces one of the supported instruction sets. Without the C kernels, what they would say is None or empty."""
    return {
        "backend": "native" if native else "reference",
        "missing": missing,
        "compiler": native.compiler() if native else None,
        "isa": native.isa() if native else None,
        "isa_compiled": native.isa_names() if native else [],
        "isa_supported": native.supported_isa_names() if native else [],
        "vector_bytes": native.vector_bytes() if native else None,
        "threads": get_num_threads(),
        "cache_sizes": native.cache_sizes() if native else None,
    }
