"""Copies of everything that has a state, by copy.deepcopy and pickle: they do the same, and leave their original alone."""

import copy
import inspect
import pickle

import numpy as np
import pytest

import tinygrad_rnn as tr
from tinygrad_rnn import nn, optim

COPIES = {
    "deepcopy": copy.deepcopy,
    **{f"pickle {p}": lambda x, p=p: pickle.loads(pickle.dumps(x, p)) for p in range(2, pickle.HIGHEST_PROTOCOL + 1)},
}
by_copy = pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
DTYPE = np.float64


def numbers(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype(DTYPE)


class Tied(nn.Module):
    """A weight that two parts share, in a list and in a dictionary, and a module that is no part."""

    _not_children = ("other",)

    def __init__(self):
        self.layers = [nn.Linear(3, 3, dtype=DTYPE, seed=0), nn.Linear(3, 3, dtype=DTYPE, seed=1)]
        self.layers[1].weight = self.layers[0].weight
        self.by_name = {"bias": nn.Parameter(numbers(3)), "seen": nn.Buffer(np.zeros(3))}
        self.other = self.layers[0]

    def forward(self, x):
        self.by_name["seen"].value[...] += x.value.sum(0)
        return self.layers[1](tr.tanh(self.layers[0](x))) + self.by_name["bias"]


ROWS, SERIES, IMAGES, LINES = numbers(4, 3), numbers(5, 4, 3), numbers(2, 3, 6, 6), numbers(2, 3, 8)
seeded = {"dtype": DTYPE, "seed": 0}
# by class: modules, with what they are called with
MODULES = {
    "Tied": [(Tied(), ROWS)],
    "Linear": [(nn.Linear(3, 2, **seeded), ROWS), (nn.Linear(3, 2, bias=False, init="orthogonal", **seeded), ROWS)],
    "MLP": [(nn.MLP(2, 4, 3, **seeded), ROWS)],
    "Sequential": [(nn.Sequential(nn.Linear(3, 3, **seeded), nn.ReLU(), nn.Residual(nn.Tanh())), ROWS)],
    "Residual": [(nn.Residual(nn.Linear(3, 3, **seeded), 0.5), ROWS)],
    "LayerNorm": [(nn.LayerNorm(3, dtype=DTYPE), ROWS)],
    "BatchNorm1d": [(nn.BatchNorm1d(3, dtype=DTYPE), ROWS), (nn.BatchNorm1d(3, momentum=None, dtype=DTYPE).eval(), ROWS)],
    "Dropout": [(nn.Dropout(0.5, seed=3), ROWS), (nn.Dropout(0.5, seed=3).eval(), ROWS)],
    "Embedding": [(nn.Embedding(5, 2, **seeded), np.array([0, 4, 4]))],
    "Flatten": [(nn.Flatten(), IMAGES)],
    "Identity": [(nn.Identity(), ROWS)],
    "Conv1d": [(nn.Conv1d(3, 2, 3, **seeded), LINES)],
    "Conv2d": [(nn.Conv2d(3, 2, 3, padding="same", **seeded), IMAGES)],
    **{name: [(getattr(nn, name)(2), LINES)] for name in ("MaxPool1d", "AvgPool1d")},
    **{name: [(getattr(nn, name)(2), IMAGES)] for name in ("MaxPool2d", "AvgPool2d")},
    **{name: [(getattr(nn, name)(3, 4, **seeded), ROWS)] for name in ("RNNCell", "LSTMCell", "GRUCell")},
    **{
        name: [
            (getattr(nn, name)(3, 4, 2, bidirectional=True, dropout=0.3, **seeded), SERIES),
            (getattr(nn, name)(3, 4, init=nn.init.orthogonal(gain=0.5), **seeded).eval(), SERIES),
        ]
        for name in ("RNN", "LSTM", "GRU")
    },
    "LeakyRNN": [(nn.LeakyRNN(3, 4, leak=0.2, **seeded), SERIES)],
    "DeepTransitionRNN": [(nn.DeepTransitionRNN(3, 4, depth=2, **seeded), SERIES)],
    "UnrolledRNN": [(nn.RNN(3, 4, 2, **seeded).unroll(5), SERIES)],
    **{name: [(getattr(nn, name)(), ROWS)] for name in ("ReLU", "Tanh", "Sigmoid", "GELU", "SiLU", "ELU", "LeakyReLU", "Softplus", "Hardtanh")},
}  # fmt: skip
CASES = [pytest.param(*case, id=f"{name} {i}") for name, cases in MODULES.items() for i, case in enumerate(cases)]


def test_every_module_is_here():
    classes = {name for name in nn.__all__ if inspect.isclass(x := getattr(nn, name)) and issubclass(x, nn.Module)}
    assert classes - {"Module", "Activation"} == set(MODULES) - {"Tied"}  # those have no forward


def results(module, x):
    """All that a call gives, and the gradients that it leaves."""
    module.zero_grad()
    x = tr.Tensor(x, requires_grad=True) if x.dtype == DTYPE else x
    out = module(x)
    flat, todo = [], [out]
    while todo:
        y = todo.pop()
        if isinstance(y, tuple):
            todo += y
        else:
            flat.append(y)
    total = sum((y * y).sum() for y in flat)
    if total.requires_grad:
        total.backward()
    grads = [p.grad for p in module.parameters()] + ([x.grad] if isinstance(x, tr.Tensor) else [])
    return [y.value.copy() for y in flat] + [None if g is None else g.copy() for g in grads]


def assert_same(ours, theirs):
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a, b)


@by_copy
@pytest.mark.parametrize(("module", "x"), CASES)
def test_a_copy_of_a_module_does_the_same_and_shares_nothing(module, x, copied):
    module = copy.deepcopy(module)  # cases are shared by tests
    results(module, x)  # running statistics, generators and gradients are on their way
    twin = copied(module)
    assert repr(twin) == repr(module) and list(twin.state_dict()) == list(module.state_dict())
    assert [m.training for _, m in twin.named_modules()] == [m.training for _, m in module.named_modules()]
    assert [(n, p.name, p.dtype, p.shape, p.requires_grad) for n, p in twin.named_parameters()] == [
        (n, p.name, p.dtype, p.shape, p.requires_grad) for n, p in module.named_parameters()
    ]
    before = module.state_dict()
    expected = results(twin, x)
    assert_same(module.state_dict().values(), before.values())  # calling the copy has moved nothing of the original
    assert_same(results(module, x), expected)
    assert_same(twin.state_dict().values(), module.state_dict().values())
    ours, theirs = ([*m.parameters(), *m.buffers()] for m in (twin, module))
    assert not {id(p) for p in ours} & {id(p) for p in theirs}
    assert not any(np.shares_memory(a.value, b.value) for a in ours for b in theirs)
    before = module.state_dict()
    for p in [*twin.parameters(), *twin.buffers()]:
        p.value[...] += 1
    assert_same(module.state_dict().values(), before.values())
    assert_same(results(copied(module), x), results(module, x))


@by_copy
def test_a_copy_keeps_what_is_shared_within_it(copied):
    net = copied(Tied())
    assert net.layers[0].weight is net.layers[1].weight and net.other is net.layers[0]
    assert len(net.parameters()) == 4


OPTIMIZERS = {
    "SGD": lambda p: optim.SGD(p, 0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    "plain SGD": lambda p: optim.SGD(p, 0.1),
    "Adam": lambda p: optim.Adam(p, 0.1),
    "AdamW": lambda p: optim.AdamW(p, 0.1),
    "RMSprop": lambda p: optim.RMSprop(p, 0.1, momentum=0.5, centered=True),
}
SCHEDULES = {
    "StepLR": lambda o: optim.StepLR(o, 2),
    "ExponentialLR": lambda o: optim.ExponentialLR(o, 0.9),
    "CosineAnnealingLR": lambda o: optim.CosineAnnealingLR(o, 10),
    "LinearLR": lambda o: optim.LinearLR(o, total_iters=5),
    "ReduceLROnPlateau": lambda o: optim.ReduceLROnPlateau(o, patience=1),
}


def test_every_optimizer_and_schedule_is_here():
    classes = {x for name in optim.__all__ if inspect.isclass(x := getattr(optim, name))} - {optim.Optimizer, optim.Schedule}
    there = {x for x in classes if issubclass(x, optim.Optimizer)}
    assert {name.split()[-1] for name in OPTIMIZERS} == {x.__name__ for x in there}
    assert set(SCHEDULES) == {x.__name__ for x in classes - there}


def train(run, steps):
    for n in range(steps):
        x = np.random.default_rng(n).standard_normal((4, 3)).astype(DTYPE)
        run["optimizer"].zero_grad()
        loss = (run["model"](tr.dropout(x, 0.2, generator=run["generator"])) ** 2).sum()
        loss.backward()
        run["optimizer"].step()
        run["schedule"].step(*([loss.item()] if isinstance(run["schedule"], optim.ReduceLROnPlateau) else []))


def states(run):
    return {f"{k}.{n}": np.array(x) for k, part in run.items() for n, x in part.state_dict().items()}


@by_copy
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_copy_of_a_training_goes_on_by_itself(optimizer, schedule, copied):
    model = nn.MLP(2, 4, 3, **seeded)
    run = {"model": model, "optimizer": OPTIMIZERS[optimizer](model.parameters())}
    run |= {"schedule": SCHEDULES[schedule](run["optimizer"]), "generator": tr.Generator(5)}
    train(run, 3)
    twin, before = copied(run), states(run)
    train(twin, 4)
    assert_same(states(run).values(), before.values())
    train(run, 4)
    assert_same(states(run).values(), states(twin).values())
    assert any(not np.array_equal(x, before[n]) for n, x in states(run).items() if n.startswith("model"))


@by_copy
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_copy_of_an_optimizer_alone_has_parameters_of_its_own(optimizer, copied):
    model = nn.Linear(3, 2, **seeded)
    original = OPTIMIZERS[optimizer](model.parameters())
    for p in model.parameters():
        p.grad = np.ones(p.shape)
    twin, before = copied(original), model.state_dict()
    twin.step()
    assert_same(model.state_dict().values(), before.values())
    original.step()
    assert_same([np.array(x) for x in original.state_dict().values()], [np.array(x) for x in twin.state_dict().values()])
