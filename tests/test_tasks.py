"""The tasks of the benchmark, small."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1]))  # last: the package under test is the one that is installed
from bench import tasks  # noqa: E402


@pytest.mark.parametrize("net", ["LSTM, chrono bias", "IRNN: relu, identity"])
def test_the_adding_problem_is_learned(net):
    task = replace(tasks.adding(quick=True), updates=2000)
    found = tasks.trained(task, *task.nets[net], seed=0)
    assert found["score"] < 0.05  # 1/6 without learning
    assert {found["before"].kind, found["after"].kind} == {"healthy"}


def test_a_hundred_layers():
    updates = {"plain": 200, "orthogonal, rate 1e-4": 2, "LayerNorm": 2, "BatchNorm1d": 2, "residual, scale 0.1": 200}
    task = tasks.spirals(quick=True)
    assert updates.keys() == task.nets.keys()
    found = {name: tasks.trained(replace(task, updates=n), *task.nets[name], seed=0) for name, n in updates.items()}
    assert [r["before"].kind for r in found.values()] == ["vanishing", "vanishing", "healthy", "exploding", "healthy"]
    assert found["plain"]["score"] < 0.6 < 0.8 < found["residual, scale 0.1"]["score"]


def test_what_is_printed(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    text, numbers = tasks.run(quick=True)
    assert "digits as sequences of 64 pixels: skipped; digits: scikit-learn is missing" in text
    for expected in ("tanh RNN, before: VANISHING", "Tried on a copy", "residual, scale 0.1, after: HEALTHY", "solved"):
        assert expected in text
    assert max(map(len, text.splitlines())) <= 120
    assert [len(nets) for nets in numbers.values()] == [3, 5]


def test_digits_are_learned_a_little():
    pytest.importorskip("sklearn")
    task = replace(tasks.sequential_digits(quick=True), updates=60)
    assert tasks.trained(task, *task.nets["GRU"], seed=0)["score"] > 0.15  # 0.1 by chance
