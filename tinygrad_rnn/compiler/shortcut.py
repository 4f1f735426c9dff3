"""The compiled part of the compiler (`_shortcut.pyx`); without it, or without the C kernels, a compiled function runs eagerly.

missing   why, in words; None where all is there"""

from __future__ import annotations

import warnings
from typing import Any

from .. import backends

_module, _missing = backends.compiled("compiler._shortcut")
missing = backends.missing or _missing


class _Eager:
    """A callable that calls its method `_call(arguments, keywords)`."""

    _shortcut: Any = None
    _busy = False

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        return self._call(arguments, keywords)  # type: ignore[attr-defined]


Shortcut: Any = getattr(_module, "Shortcut", None)
Watch: Any = getattr(_module, "Watch", None)
WithShortcut: Any = getattr(_module, "WithShortcut", _Eager)

if backends.native and _missing:
    warnings.warn(f"compile() runs its function eagerly: {_missing}", RuntimeWarning, stacklevel=2)
