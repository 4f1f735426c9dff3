"""One function, several spellings: the signal, its classes, its split and its knock-outs are the same for all of them."""

from functools import cache

import numpy as np
import pytest
from net_models import series
from spellings import FEATURES, SPELLINGS, STEPS, WIDTH

import tinygrad_rnn as tr

PAIRS = [(family, name) for family, spelled in SPELLINGS.items() for name in list(spelled)[1:]]
# one class of paths and nothing beside it, or a class that is 0 up to rounding: no knock-out to compare
CHAINS = {"RNN", "paths that cancel"}


@cache
def traced(family, name):
    deep = family == "residual tower"
    x = series(1, 3, WIDTH)[0] if deep else series(STEPS, 3, FEATURES)
    return tr.trace(SPELLINGS[family][name](), x, loss=lambda y: y.sum() if deep else y[-1].sum())


def pair(family, name):
    """The gains of a spelling and of the first one of its family."""
    return traced(family, name).gain(), traced(family, next(iter(SPELLINGS[family]))).gain()


each = pytest.mark.parametrize(("family", "name"), PAIRS, ids=[f"{f}: {n}" for f, n in PAIRS])


@each
def test_spellings_compute_the_same(family, name):
    first = traced(family, next(iter(SPELLINGS[family])))
    other = traced(family, name)
    assert float(other.loss.value) == pytest.approx(float(first.loss.value), abs=1e-12)
    np.testing.assert_allclose(other["x"].grad, first["x"].grad, atol=1e-12)


@each
def test_the_signal_is_the_same(family, name):
    gain, first = pair(family, name)
    np.testing.assert_allclose(gain.log_norm, first.log_norm, atol=1e-9)
    np.testing.assert_allclose(gain.total_rows, first.total_rows, atol=1e-9)


@each
def test_the_shares_are_the_same(family, name):
    gain, first = pair(family, name)
    assert set(gain.shares) == set(first.shares)
    for q in first.shares:
        np.testing.assert_allclose(gain.shares[q], first.shares[q], atol=1e-9)


@each
def test_the_parts_are_the_same(family, name):
    gain, first = pair(family, name)
    parts, expected = gain.parts(), first.parts()
    for part in parts.keys() | expected.keys():
        assert parts.get(part, 0.0) == pytest.approx(expected.get(part, 0.0), abs=1e-9), part


@each
def test_the_knock_outs_are_the_same(family, name):
    gain, first = pair(family, name)
    for q in first.alone if family not in CHAINS else ():
        np.testing.assert_allclose(gain.alone[q], first.alone[q], atol=1e-9)


@each
def test_the_verdicts_are_the_same(family, name):
    found, first = (traced(family, n).why(advice=False) for n in (name, next(iter(SPELLINGS[family]))))
    assert (found.kind, found.part, found.where) == (first.kind, first.part, first.where)
    assert found.numbers["total_nats"] == pytest.approx(first.numbers["total_nats"], abs=1e-9)
