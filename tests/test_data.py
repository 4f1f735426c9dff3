"""Loaders of small data."""

import subprocess
import sys

import numpy as np
import pytest

import tinygrad_rnn as tr
from tinygrad_rnn.data import Text, adding_problem, batches, digits, read_text


def test_text_as_numbers():
    text = Text.of("hällo wörld 😀" * 3, 5)
    assert "".join(text.alphabet[i] for i in text.codes) == "hällo wörld 😀" * 3
    x, y = text.windows(np.random.default_rng(0), 5, 7)
    assert x.shape == y.shape == (5, 7)
    np.testing.assert_array_equal(x[1:], y[:-1])
    assert len(Text.of("ab" * 3, 5).windows(np.random.default_rng(0), 5, 4)[0]) == 5  # exactly one window
    assert len(read_text(None)) > 100_000


def test_digits_are_split_shuffled_and_scaled():
    datasets = pytest.importorskip("sklearn.datasets")
    split = digits(seed=3)
    (x, y), (x_test, y_test) = split
    assert x.shape == (1438, 64, 1)
    assert x_test.shape == (359, 64, 1)
    assert (x.dtype, y.dtype) == (x_test.dtype, y_test.dtype) == (np.float32, np.int64)
    assert (y.shape, y_test.shape) == ((1438,), (359,))
    assert x.min() == 0
    assert x.max() == 1
    # every digit is there once, in reading order, with its label
    pixels, labels = datasets.load_digits(return_X_y=True)
    ours = sorted((*(16 * row[:, 0]).tolist(), label) for part in split for row, label in zip(*part, strict=True))
    assert ours == sorted((*row, label) for row, label in zip(pixels.tolist(), labels.tolist(), strict=True))
    for a, b in zip((*split.train, *split.test), (*digits(3).train, *digits(3).test), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(y, digits(4).train.y)
    assert len(digits(test_share=0).test.y) == 0
    assert len(digits(test_share=0.5).train.y) in (898, 899)


def test_digits_need_scikit_learn_and_a_share():
    with pytest.raises(ValueError, match="expected a test_share of 0 or more, below 1, got 1"):
        digits(test_share=1)
    code = (
        "import sys; sys.modules['sklearn'] = None\n"
        "import tinygrad_rnn as tr\n"
        "try: tr.data.digits()\n"
        "except ImportError as error: print(error)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "scikit-learn is missing; pip install 'tinygrad_rnn[data]'" in run.stdout


@pytest.mark.parametrize("steps", [2, 3, 10, 51])
def test_the_adding_problem(steps):
    x, y = adding_problem(np.random.default_rng(0), steps, 400)
    assert x.shape == (steps, 400, 2)
    assert y.shape == (400, 1)
    assert x.dtype == y.dtype == np.float32
    values, marks = x[..., 0], x[..., 1]
    assert np.all((values >= 0) & (values < 1))
    assert values.mean() == pytest.approx(0.5, abs=0.05)
    assert set(np.unique(marks)) <= {0, 1}
    np.testing.assert_array_equal(marks[: steps // 2].sum(0), 1)
    np.testing.assert_array_equal(marks[steps // 2 :].sum(0), 1)
    assert np.all(marks.sum(1) > 0)  # every step is marked somewhere
    for b in range(400):
        first, second = values[marks[:, b] == 1, b]
        assert y[b, 0] == first + second
    assert np.mean((y - 1) ** 2) == pytest.approx(1 / 6, abs=0.03)
    again = adding_problem(np.random.default_rng(0), steps, 400)
    np.testing.assert_array_equal(x, again.x)


def test_sequences_of_one_step_cannot_hold_two_numbers():
    with pytest.raises(ValueError, match="at least 2 steps, one for each number, got 1"):
        adding_problem(np.random.default_rng(0), 1, 3)


def test_batches_are_one_shuffled_epoch():
    rng = np.random.default_rng(0)
    first, second = (list(batches(10, 3, rng)) for _ in range(2))
    for epoch in (first, second):
        assert [b.shape for b in epoch] == [(3,)] * 3
        assert len(np.unique(epoch)) == 9
        assert np.all(np.isin(epoch, np.arange(10)))
    assert not np.array_equal(first, second)
    assert sorted(np.concatenate(list(batches(6, 2, rng)))) == list(range(6))
    for size in (0, 11):
        with pytest.raises(ValueError, match=f"expected a size in 1..10, the number of rows, got {size}"):
            batches(10, size, rng)


def test_a_net_learns_digits_from_their_pixels():
    pytest.importorskip("sklearn")
    train, test = digits(0)
    first, second = tr.nn.Conv2d(1, 8, 3, padding="same", seed=0), tr.nn.Conv2d(8, 16, 3, padding="same", seed=1)
    readout = tr.nn.Linear(16 * 4, 10, seed=2)
    parameters = [p for layer in (first, second, readout) for p in layer.parameters()]
    optimizer = tr.optim.Adam(parameters, lr=3e-3)

    def net(x):
        h = tr.max_pool2d(tr.relu(first(x.reshape(-1, 1, 8, 8))), 2)
        return readout(tr.max_pool2d(tr.relu(second(h)), 2).reshape(-1, 64))

    @tr.compile
    def update(x, y):
        loss = tr.cross_entropy(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    rng = np.random.default_rng(3)
    for _ in range(8):
        for rows in batches(len(train.y), 64, rng):
            update(train.x[rows], train.y[rows])
    right = net(tr.Tensor(test.x)).value.argmax(1) == test.y
    assert right.mean() > 0.93
