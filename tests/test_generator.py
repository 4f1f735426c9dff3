"""The state that random numbers come from."""

import copy
import pickle

import numpy as np
import pytest

import tinygrad_rnn as tr


def draw(generator):
    return tr.dropout(np.ones(100), generator=generator).value


def test_a_seed_reproduces():
    first, second = tr.Generator(5), tr.Generator(5)
    for _ in range(3):
        np.testing.assert_array_equal(draw(first), draw(second))
    assert first.state.dtype == np.uint64
    assert first.state.tolist() == second.state.tolist() == [5, 75]
    assert not np.array_equal(draw(tr.Generator(6)), draw(tr.Generator(5)))
    assert tr.Generator(np.int64(2**62)).state.tolist() == [2**62, 0]
    assert tr.Generator(2**64 - 1).state.tolist() == [2**64 - 1, 0]


def test_no_seed_draws_one():
    assert len({int(tr.Generator().state[0]) for _ in range(4)} | {int(tr.Generator(None).state[0])}) == 5


def test_a_saved_state_draws_the_same_again():
    generator = tr.Generator(1)
    draw(generator)
    saved = generator.state.copy()
    first = draw(generator)
    generator.state[:] = saved
    np.testing.assert_array_equal(draw(generator), first)
    other = tr.Generator(2)
    other.load_state_dict({"state": saved})
    np.testing.assert_array_equal(draw(other), first)
    with pytest.raises(TypeError, match="state is uint64, the given array int64"):
        other.load_state_dict({"state": saved.astype(np.int64)})
    assert generator.state_dict()["state"].tolist() == [1, 50]
    with pytest.raises(AttributeError):  # its address is what a replay knows
        generator.state = saved


@pytest.mark.parametrize("copy_of", [copy.copy, copy.deepcopy, lambda g: pickle.loads(pickle.dumps(g))])
def test_copies_go_on_by_themselves(copy_of):
    generator = tr.Generator(2**63)
    draw(generator)
    other = copy_of(generator)
    assert repr(other) == repr(generator) == f"Generator(seed={2**63}, counter=25)"
    np.testing.assert_array_equal(draw(other), draw(generator))
    draw(other)
    assert [g.state[1] for g in (other, generator)] == [75, 50]


def test_wrong_seeds_raise():
    for seed in (-1, 2**64):
        with pytest.raises(ValueError, match=f"Generator: expected a seed in 0..2\\*\\*64 - 1, got {seed}"):
            tr.Generator(seed)
    for seed in (0.5, "0", [1]):
        with pytest.raises(TypeError):
            tr.Generator(seed)
