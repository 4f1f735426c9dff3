"""The libraries that are compared with, where they are installed."""

from __future__ import annotations

import importlib
import importlib.util
from importlib.metadata import version
from typing import Any


def peer(name: str) -> Any:
    """The module, or None where it is not installed."""
    return importlib.import_module(name) if importlib.util.find_spec(name) else None


def torch_on_one_thread() -> Any:
    """PyTorch limited to one thread, or None."""
    torch = peer("torch")
    if torch:
        torch.set_num_threads(1)
    return torch


def versions() -> dict[str, str]:
    """Versions of the peers that are there."""
    return {name: version(name) for name in ("numpy", "torch", "jax", "autograd") if importlib.util.find_spec(name)}
