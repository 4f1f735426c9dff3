"""Small data to train on: text as windows of characters, handwritten digits as sequences, the adding problem, and batches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

# ---- text


def read_text(path: str | None) -> str:
    """A UTF-8 text, or the English reference text that ships inside CPython. Raises ValueError or OSError in one clear line."""
    if path is None:
        import pydoc_data.topics  # half a megabyte, for this alone

        return "\n\n".join(text for _, text in sorted(pydoc_data.topics.topics.items()))
    data = Path(path).read_bytes()
    if not data:
        raise ValueError(f"{path} is empty")
    if b"\0" in data:
        raise ValueError(f"{path} is not a text: it contains NUL bytes")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8: byte {data[error.start]:#04x} at position {error.start}") from None


@dataclass(frozen=True)
class Text:
    """A text as numbers: codes (n,) index into the sorted `alphabet`."""

    codes: np.ndarray
    alphabet: str

    @classmethod
    def of(cls, text: str, steps: int) -> Text:
        """Raises ValueError unless it holds a window of `steps` characters and its successor, and two different characters."""
        if len(text) < steps + 1:
            raise ValueError(f"the text has {len(text)} characters; a window of {steps} steps needs at least {steps + 1}")
        alphabet = "".join(sorted(set(text)))
        if len(alphabet) < 2:
            raise ValueError(f"the text repeats one character, {alphabet!r}: there is nothing to predict")
        points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
        table = np.frombuffer(alphabet.encode("utf-32-le", "surrogatepass"), np.uint32)
        return cls(np.searchsorted(table, points).astype(np.int64), alphabet)

    def windows(self, rng: np.random.Generator, steps: int, batch: int) -> tuple[np.ndarray, np.ndarray]:
        """Indices (steps, batch) at random places, and the character after each, (steps, batch)."""
        starts = rng.integers(0, len(self.codes) - steps, batch)
        rows = starts + np.arange(steps + 1)[:, None]
        window = self.codes[rows]
        return window[:-1], window[1:]


# ---- labelled sequences


class Labelled(NamedTuple):
    """Inputs x and their targets y, one for each row of x."""

    x: np.ndarray
    y: np.ndarray


class Split(NamedTuple):
    """What to train on, and what to test on."""

    train: Labelled
    test: Labelled


def digits(seed: int | np.random.Generator = 0, test_share: float = 0.2) -> Split:
    """The 1797 handwritten digits of 8 x 8 pixels that scikit-learn ships, read pixel by pixel, row by row: x (n, 64, 1),
    float32 in 0..1, and y (n,), int64 in 0..9.

    seed         of the shuffle before they are split
    test_share   of the test part, 0 <= test_share < 1

    Raises ImportError without scikit-learn, which the extra `data` installs; ValueError for another share."""
    if not 0 <= test_share < 1:
        raise ValueError(f"digits: expected a test_share of 0 or more, below 1, got {test_share}")
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError("digits: scikit-learn is missing; pip install 'tinygrad_rnn[data]'") from error
    pixels, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(labels))
    x, y = (pixels[order] / 16).astype(np.float32)[:, :, None], labels[order].astype(np.int64)
    tested = round(test_share * len(y))
    return Split(Labelled(x[tested:], y[tested:]), Labelled(x[:tested], y[:tested]))


def adding_problem(rng: np.random.Generator, steps: int, batch: int) -> Labelled:
    """Sequences of two numbers to remember and add (Hochreiter & Schmidhuber 1997, in the form of Le, Jaitly & Hinton 2015).

    x (steps, batch, 2), float32: x[..., 0] is uniform in 0..1; x[..., 1] is 1 at two steps, one in each half, and 0 elsewhere.
    y (batch, 1), float32: the sum of the two marked values. Who answers 1 always has a mean squared error of 1/6.

    Raises ValueError below two steps."""
    if steps < 2:
        raise ValueError(f"adding_problem: expected at least 2 steps, one for each number, got {steps}")
    x = np.zeros((steps, batch, 2), np.float32)
    x[..., 0] = rng.random((steps, batch), np.float32)
    half, rows = steps // 2, np.arange(batch)
    for first, last in ((0, half), (half, steps)):
        x[rng.integers(first, last, batch), rows, 1] = 1
    return Labelled(x, (x[..., 0] * x[..., 1]).sum(0)[:, None])


def batches(n: int, size: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Indices (size,) into n rows, in a random order, each at most once: one epoch. All batches are of one size, as a compiled
    function likes them: the n % size rows that are left over wait for the next epoch's order.

    Raises ValueError unless 1 <= size <= n."""
    if not 1 <= size <= n:
        raise ValueError(f"batches: expected a size in 1..{n}, the number of rows, got {size}")
    order = rng.permutation(n)
    return iter(order[: n // size * size].reshape(-1, size))
