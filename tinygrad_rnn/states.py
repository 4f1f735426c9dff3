"""What is saved and loaded again: mappings of names to arrays, and whether one fits another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np


def fitted(what: str, own: Mapping[str, np.ndarray], given: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The arrays that `given` (numpy's, or anything np.asarray takes) has for the names of `own`.

    what   who asks, for the message. Raises KeyError unless both have the same names, ValueError on a shape and TypeError on a
           dtype that differs"""
    missing, unexpected = [n for n in own if n not in given], [n for n in given if n not in own]
    if missing or unexpected:
        raise KeyError(f"{what}: missing {missing}, unexpected {unexpected}; expected {list(own)}")
    out = {}
    for name, mine in own.items():
        array = np.asarray(given[name])
        if array.shape != mine.shape:
            raise ValueError(f"{what}: {name} has shape {mine.shape}, the given array {array.shape}")
        if array.dtype != mine.dtype:
            raise TypeError(f"{what}: {name} is {mine.dtype}, the given array {array.dtype}; convert it first")
        out[name] = array
    return out
