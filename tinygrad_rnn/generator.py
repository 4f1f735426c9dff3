"""Where random numbers of a network come from: a key and a position, in memory that a kernel reads and advances."""

from __future__ import annotations

import operator
import secrets
from collections.abc import Mapping
from typing import Any

import numpy as np

from .states import fitted


class Generator:
    """A stream of random numbers that a seed reproduces: the same on every machine, in both dtypes, for any number of threads.

    seed    an integer in 0..2^64 - 1, or None for one drawn from the system's entropy. Raises ValueError beyond, TypeError for
            what is not an integer
    state   uint64 (2,): {key, counter}. The key is the seed; the counter begins at 0 and advances by 1 for every four numbers.
            It is written in place: `saved = generator.state.copy()`, and `generator.state[:] = saved` draws the same again

    The numbers are those of Philox 4x32-10 (Salmon, Moraes, Dror & Shaw, SC 2011); different keys have independent streams.
    A copy, a pickled one too, goes on from the same state on its own. One generator is not for several threads at once."""

    __slots__ = ("_state",)

    def __init__(self, seed: int | None = None) -> None:
        key = secrets.randbits(64) if seed is None else operator.index(seed)
        if not 0 <= key < 2**64:
            raise ValueError(f"Generator: expected a seed in 0..2**64 - 1, got {seed}")
        self._state = np.array([key, 0], np.uint64)

    @property
    def state(self) -> np.ndarray:
        # cannot be replaced: whoever replays calls of kernels keeps its address
        return self._state

    def state_dict(self) -> dict[str, np.ndarray]:
        """A copy of the state, as "state"."""
        return {"state": self._state.copy()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave. Raises KeyError, ValueError or TypeError where it is not that."""
        self._state[:] = fitted("load_state_dict of Generator", {"state": self._state}, state)["state"]

    def __repr__(self) -> str:
        key, counter = self._state.tolist()
        return f"Generator(seed={key}, counter={counter})"

    def __reduce__(self) -> tuple:
        return _restored, tuple(self._state.tolist())


def _restored(key: int, counter: int) -> Generator:
    generator = Generator(key)
    generator.state[1] = counter
    return generator
