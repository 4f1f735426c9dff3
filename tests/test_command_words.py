"""The words of the command that depend on its numbers: which sentence is said when, and when a difference is called clear."""

from types import SimpleNamespace

import numpy as np
import pytest

from tinygrad_rnn.experiment import Course, Draws, Estimate, growth, over_nets
from tinygrad_rnn.report import answer


def course(before, after, loss):
    return Course(np.array([0.0, before]), np.array([0.0, after]), [loss] * 20)


@pytest.mark.parametrize(
    ("after", "loss", "words"),
    [
        ((-5.0, -5.1, -5.2), (1.6, 1.61, 1.62), "Both are clearly better"),
        ((-5.0, -5.1, -5.2), (2.6, 2.61, 2.62), "a gradient that survives is not yet a net that learns"),
        ((-19.0, -21.0, -23.0), (1.7, 1.72, 1.71), "Training took most of the head start away."),
        ((-40.0, -40.1, -40.2), (1.6, 1.61, 1.62), "the gradient is worse, and the loss is better"),
        ((-5.0, -30.0, -12.0), (1.5, 1.9, 1.7), "the gradient is not clearly different, and the loss is not clearly different"),
    ],
)
def test_words_about_a_remedy(after, loss, words):
    plain = [course(-30.0, -20.0 - 0.3 * i, 1.7 + 0.011 * i) for i in range(3)]
    remedy = [course(-8.0 - 0.1 * i, a, x) for i, (a, x) in enumerate(zip(after, loss, strict=True))]
    found = answer._against(remedy, plain).text
    assert words in found
    assert ("head start" in found) == ("head start" in words or after[0] == -40.0 or after[1] == -30.0)
    assert "clear" not in answer._against(remedy[:1], plain[:1]).text  # one net has no standard error


@pytest.mark.parametrize(
    ("kept", "tying", "words"),
    [
        (
            [-2.2, -8.6, -7.1],
            [0.02, 0.09, -0.08],
            "3 nets, MLPs of its entries shuffled in every layer keep 5.97 ± 1.93 nats more on",
        ),
        (
            [-2.2, -8.6, -7.1],
            [0.02, 0.09, -0.08],
            "Structure does it, not tying: RNNs of the same entries, shuffled once, end within 0.09",
        ),
        (
            [2.2, 8.6, 7.1],
            [0.02, 0.09, -1.4],
            "keep 5.97 ± 1.93 nats less on average. RNNs of the same entries, shuffled once, end up to 1.40",
        ),
        ([-2.2], [0.1], "MLPs of its entries shuffled in every layer keep 2.20 nats more. Structure does it"),
        ([-2.2, 8.6], [0.1, 0.1], "differ from it by -3.20 ± 5.40 nats, in either direction."),
        ([-2.2, -np.inf], [0.1, 0.1], ""),
    ],
)
def test_words_about_the_order_of_the_entries(kept, tying, words):
    run = SimpleNamespace(structure=lambda: np.array(kept), tying=lambda: np.array(tying))
    found = answer._why_less(run).text
    assert words in found if words else not found


def settled(tied, untied):
    """A run whose fresh draws end there."""
    draws = {"tied": Draws(np.array([[0.0, x] for x in tied])), "untied": Draws(np.array([[0.0, x] for x in untied]))}
    return SimpleNamespace(before=SimpleNamespace(**draws, verdict=SimpleNamespace(kind="vanishing")))


@pytest.mark.parametrize(
    ("tied", "untied", "words"),
    [
        ([-30.0, -30.1, -30.2, -29.9], [-31.0, -31.1, -31.2], "tying alone loses nothing: the RNN keeps 1.05"),
        ([-33.0, -33.1, -33.2, -32.9], [-31.0, -31.1, -31.2], "So tying loses 1.95"),
        ([-30.0, -34.1, -32.2, -29.9], [-31.0, -31.1, -31.2], "is no clear one"),
        ([30.0, 30.1, 30.2, 29.9], [11.0, 11.1, 11.2], "So the RNN's gradient is 18.95 ±"),
        ([0.0, 1e-7, 0.0], [0.0, 0.0, -1e-6], "No two draws of a kind differ by more than 1e-06 nats."),
        ([-np.inf, -30.0, -30.1], [-31.0, -31.1, -31.2], ""),
    ],
)
def test_words_about_tying(tied, untied, words):
    found = answer._typical(settled(tied, untied)).text
    assert words in found if words else not found


def test_an_estimate_is_clear_beyond_its_error_alone():
    assert Estimate(1.0, 0.4).clear
    assert not Estimate(1.0, 0.6).clear
    assert not Estimate(1.0).clear
    # the mean of three must be further away than that of many
    assert not over_nets([1.0, 2.0, 3.5]).clear
    assert over_nets([1.0, 2.0, 3.5] * 4).clear
    assert f"{over_nets([1.0, 2.0, 3.0]):+.2f}" == "+2.00 ± 0.58"
    assert f"{Estimate(-0.001):+.2f}" == "+0.00"
    assert over_nets([-np.inf, -np.inf]).value == -np.inf
    assert np.isnan(over_nets([-np.inf, 1.0]).value)


def test_the_power_of_a_spread():
    rng = np.random.default_rng(0)
    steps = np.arange(101)
    independent = np.cumsum(rng.standard_normal((4000, 101)), axis=1)
    for draws, expected in ((independent, 0.5), (rng.standard_normal((4000, 1)) * steps, 1.0)):
        found = growth(Draws(draws - draws[:, :1]))
        assert abs(found.value - expected) < 4 * found.error + 1e-9
    # the error is what repeated experiments show
    many = [growth(Draws(independent[i : i + 40] - independent[i : i + 40, :1])) for i in range(0, 4000, 40)]
    assert np.mean([e.error for e in many]) == pytest.approx(np.std([e.value for e in many]), rel=0.2)
    assert growth(Draws(np.zeros((5, 10)))) is None
    assert growth(Draws(np.full((5, 10), -np.inf))) is None
    assert growth(Draws(independent[:5, :2])) is None
