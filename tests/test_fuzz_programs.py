"""Some programs of tests/fuzz_programs.py, and that it finds what is wrong."""

import fuzz_programs
import numpy as np
import pytest

import tinygrad_rnn as tr
from tinygrad_rnn.backends import native
from tinygrad_rnn.compiler import passes


def test_some_random_programs_agree():
    seed = int(np.random.SeedSequence().entropy % 2**32)
    for number in range(40):
        *_, wrong = fuzz_programs.check(seed, number, None)
        assert not wrong, f"python tests/fuzz_programs.py --seed {seed} --only {number}: {wrong}"


def nothing_left_of_the_last(listing):
    """A pass that is wrong: it drops the last call."""
    listing.instructions = listing.instructions[:-1]
    return "wrong"


def found(monkeypatch, change, programs=12):
    with monkeypatch.context() as m:
        change(m)
        return any(fuzz_programs.check(1, number, None)[2] for number in range(programs))


@pytest.mark.parametrize("name", ["share", "fuse"])
def test_a_wrong_pass_is_found(monkeypatch, name):
    assert found(monkeypatch, lambda m: m.setitem(passes.PASSES, name, nothing_left_of_the_last), 300)
    assert not found(monkeypatch, lambda m: None)


def test_a_wrong_kernel_is_found(monkeypatch):
    """By the reference, and, where it is installed, by torch: the compiled program repeats the mistake."""
    right = native.linear_vjp

    def wrong(*arguments):
        gx, gw, *gb = right(*arguments)
        return gx, None if gw is None else native.scale(gw, 1.01), *gb

    # not every program has a product, and a generator of random numbers is another one in another numpy
    assert found(monkeypatch, lambda m: m.setattr(native, "linear_vjp", wrong), 300)
    assert tr.functions.linear(np.ones((1, 1)), tr.Tensor(np.ones((1, 1)))).value == 1
