"""Optimizers against their formulas, step by step; their settings and states; schedules."""

import numpy as np
import pytest

import tinygrad_rnn as tr
from tinygrad_rnn.optim import SGD, Adam, AdamW, RMSprop, clip_grad_norm_, clip_grad_value_

MAKERS = {
    "SGD": lambda p: SGD(p, 0.1),
    "momentum": lambda p: SGD(p, 0.1, momentum=0.9),
    "nesterov": lambda p: SGD(p, 0.05, momentum=0.9, weight_decay=0.1, nesterov=True),
    "Adam": lambda p: Adam(p, 0.05, weight_decay=0.1),
    "AdamW": lambda p: AdamW(p, 0.05, weight_decay=0.1),
    "RMSprop": lambda p: RMSprop(p, 0.01, weight_decay=0.1),
    "RMSprop with everything": lambda p: RMSprop(p, 0.01, alpha=0.9, weight_decay=0.1, momentum=0.5, centered=True),
}
every_optimizer = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


def quadratic(make, steps=5):
    p = tr.nn.Parameter(np.array([1.0, -2.0, 3.0]))
    optimizer = make([p])
    trail = []
    for _ in range(steps):
        optimizer.zero_grad()
        (p * p * 0.5).sum().backward()
        optimizer.step()
        trail.append(p.value.copy())
    return np.array(trail)


def test_sgd_shrinks_a_quadratic_exactly():
    np.testing.assert_allclose(quadratic(lambda p: SGD(p, 0.1))[-1], np.array([1, -2, 3]) * 0.9**5, rtol=1e-14)
    decayed = quadratic(lambda p: SGD(p, 0.1, weight_decay=0.5))
    np.testing.assert_allclose(decayed[-1], np.array([1, -2, 3]) * 0.85**5, rtol=1e-14)


def test_momentum_is_the_recurrence():
    for nesterov in (False, True):
        w, v, trail = np.array([1.0, -2.0, 3.0]), 0, []
        for _ in range(5):
            g = w
            v = 0.9 * v + g
            w = w - 0.1 * (g + 0.9 * v if nesterov else v)
            trail.append(w)
        np.testing.assert_allclose(quadratic(lambda p: SGD(p, 0.1, momentum=0.9, nesterov=nesterov)), trail, rtol=1e-13)


def test_adam_is_the_recurrence():
    for kind, l2, decay in ((Adam, 0, 0), (Adam, 0.3, 0), (AdamW, 0, 0.3)):
        w, m, v, trail = np.array([1.0, -2.0, 3.0]), 0, 0, []
        for n in range(1, 6):
            g = w + l2 * w
            m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
            w = w - 0.01 * decay * w - 0.01 * (m / (1 - 0.9**n)) / (np.sqrt(v / (1 - 0.999**n)) + 1e-8)
            trail.append(w)
        np.testing.assert_allclose(quadratic(lambda p: kind(p, 0.01, weight_decay=l2 + decay)), trail, rtol=1e-12)


def test_rmsprop_is_the_recurrence():
    w, v, m, b, trail = np.array([1.0, -2.0, 3.0]), 0, 0, 0, []
    for _ in range(5):
        v, m = 0.9 * v + 0.1 * w * w, 0.9 * m + 0.1 * w
        b = 0.5 * b + w / (np.sqrt(v - m * m) + 1e-3)
        w = w - 0.01 * b
        trail.append(w)
    made = quadratic(lambda p: RMSprop(p, 0.01, 0.9, 1e-3, momentum=0.5, centered=True))
    np.testing.assert_allclose(made, trail, rtol=1e-12)


@every_optimizer
def test_parameters_without_gradient_stay(make):
    p = tr.nn.Parameter([1.0])
    optimizer = make([p])
    before = optimizer.state_dict()
    optimizer.step()
    assert p.value[0] == 1
    for name, x in optimizer.state_dict().items():
        np.testing.assert_array_equal(x, before[name])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_clipping(dtype):
    ps = [tr.nn.Parameter(np.zeros(2), dtype), tr.nn.Parameter(np.zeros(1), dtype), tr.nn.Parameter(np.zeros(3), dtype)]
    ps[0].grad, ps[1].grad = np.array([3.0, 0.0], dtype), np.array([4.0], dtype)
    assert clip_grad_norm_(ps, 10.0) == 5
    np.testing.assert_array_equal(ps[1].grad, [4])
    assert clip_grad_norm_([*ps, ps[0]], 1.0) == 5
    np.testing.assert_allclose(np.concatenate([p.grad for p in ps[:2]]), [0.6, 0, 0.8], rtol=1e-5)
    clip_grad_value_([*ps, ps[0]], 0.7)
    np.testing.assert_allclose(np.concatenate([p.grad for p in ps[:2]]), [0.6, 0, 0.7], rtol=1e-5)
    ps[0].grad[0] = np.inf
    assert clip_grad_norm_(ps, 1.0) == np.inf
    assert ps[1].grad[0] == 0
    assert clip_grad_norm_([], 1.0) == 0
    ps[1].grad = np.array([-4.0], dtype)
    assert clip_grad_norm_(ps[1], 1.0) == 4
    clip_grad_value_(ps[1], 0.5)
    assert ps[1].grad[0] == -0.5


def test_a_norm_whose_square_is_beyond_float64():
    p = tr.nn.Parameter(np.zeros(2))
    p.grad = np.array([3e200, -4e200])
    assert clip_grad_norm_([p], 10.0).item() == pytest.approx(5e200, rel=1e-14)
    np.testing.assert_allclose(p.grad, [6, -8], rtol=1e-14)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda p: SGD([], 0.1), "no parameters"),
        (lambda p: SGD([p], -0.1), "lr must be at least 0, got -0.1"),
        (lambda p: SGD([p], float("nan")), "lr must be at least 0"),
        (lambda p: SGD([p], 0.1, -0.5), "momentum"),
        (lambda p: SGD([p], 0.1, nesterov=True), "nesterov requires a momentum"),
        (lambda p: SGD([p], 0.1, weight_decay=-1.0), "weight_decay"),
        (lambda p: Adam([p], betas=(0.9, 1.0)), r"betas must lie in \[0, 1\)"),
        (lambda p: Adam([p], betas=(0.9, float("nan"))), "betas"),
        (lambda p: Adam([p], betas=0.9), "betas: expected shape"),
        (lambda p: AdamW([p], eps=-1.0), "eps"),
        (lambda p: RMSprop([p], alpha=1.5), "alpha"),
        (lambda p: SGD([tr.Tensor([1.0])], 0.1), "expected parameters, got Tensor"),
        (lambda p: setattr(SGD([p], 0.1), "momentum", 0.9), "momentum was 0"),
        (lambda p: setattr(SGD([p], 0.1, 0.9, nesterov=True), "momentum", 0.0), "nesterov"),
        (lambda p: setattr(Adam([p]), "lr", -1), "lr"),
        (lambda p: clip_grad_norm_([p], -1), "max_norm"),
        (lambda p: clip_grad_value_([p], float("nan")), "clip_value"),
        (lambda p: tr.optim.StepLR(SGD([p], 0.1), 0), r"step_size must lie in 1\.\.inf, got 0"),
        (lambda p: tr.optim.StepLR(SGD([p], 0.1), 1.5), "step_size"),
        (lambda p: tr.optim.ExponentialLR(SGD([p], 0.1), -1), "gamma"),
        (lambda p: tr.optim.CosineAnnealingLR(SGD([p], 0.1), 0), "T_max"),
        (lambda p: tr.optim.LinearLR(SGD([p], 0.1), 1.5), "start_factor"),
        (lambda p: tr.optim.ReduceLROnPlateau(SGD([p], 0.1), "best"), "mode"),
        (lambda p: tr.optim.ReduceLROnPlateau(SGD([p], 0.1), factor=1.0), "factor"),
    ],
)
def test_wrong_settings_raise(call, match):
    with pytest.raises((ValueError, TypeError), match=match):
        call(tr.nn.Parameter([1.0]))


def test_settings_are_attributes():
    p = tr.nn.Parameter([1.0])
    optimizer = AdamW([p, p], 0.5, eps=1e-3)
    assert len(optimizer.parameters) == 1
    assert (optimizer.lr, optimizer.betas, optimizer.eps, optimizer.weight_decay) == (0.5, (0.9, 0.999), 1e-3, 1e-2)
    optimizer.betas, optimizer.weight_decay = (0.5, 0.6), 0.25
    assert repr(optimizer) == "AdamW(1 parameters, lr=0.5, betas=(0.5, 0.6), eps=0.001, weight_decay=0.25)"
    with pytest.raises(ValueError):
        optimizer.betas = (0.5, 2.0)
    assert optimizer.betas == (0.5, 0.6)


# ---- states


def train(p, optimizer, steps, rng):
    for _ in range(steps):
        p.grad = rng.standard_normal(p.shape)
        optimizer.step()


@every_optimizer
def test_a_loaded_state_goes_on_as_the_saved_one(make):
    p = tr.nn.Parameter(np.linspace(-1, 1, 6).reshape(2, 3))
    optimizer = make([p])
    train(p, optimizer, 4, np.random.default_rng(0))
    optimizer.lr *= 0.5
    saved, value = optimizer.state_dict(), p.value.copy()
    train(p, optimizer, 5, np.random.default_rng(1))
    q = tr.nn.Parameter(value)
    other = make([q])
    other.load_state_dict(saved)
    assert other.lr == optimizer.lr
    train(q, other, 5, np.random.default_rng(1))
    np.testing.assert_array_equal(p.value, q.value)
    for name, x in optimizer.state_dict().items():
        np.testing.assert_array_equal(x, other.state_dict()[name])
    saved["lr"][...] = 7  # a copy
    assert optimizer.lr != 7


def test_names_of_states():
    p = tr.nn.Parameter([1.0])
    names = lambda optimizer: list(optimizer.state_dict())  # noqa: E731
    assert names(SGD([p])) == ["lr", "momentum", "weight_decay", "nesterov"]
    assert names(SGD([p], momentum=0.9))[4:] == ["0.momentum_buffer"]
    adam = ["lr", "betas", "eps", "weight_decay", "0.step", "0.exp_avg", "0.exp_avg_sq"]
    assert names(Adam([p])) == names(AdamW([p])) == adam
    full = RMSprop([p], momentum=0.9, centered=True)
    assert names(full)[5:] == ["0.square_avg", "0.grad_avg", "0.momentum_buffer"]


def test_a_state_that_does_not_fit_changes_nothing():
    p = tr.nn.Parameter(np.ones((2, 3)))
    optimizer = Adam([p])
    train(p, optimizer, 2, np.random.default_rng(0))
    before = optimizer.state_dict()
    for change, error, match in (
        (
            {"0.exp_avg": np.zeros((3, 2))},
            ValueError,
            r"load_state_dict of Adam: 0.exp_avg has shape \(2, 3\), the given array \(3, 2\)",
        ),
        ({"0.exp_avg_sq": np.zeros((2, 3), np.float32)}, TypeError, "0.exp_avg_sq is float64, the given array float32"),
        ({"1.exp_avg": np.zeros(3)}, KeyError, "unexpected"),
        ({"lr": np.array(-1.0)}, ValueError, "lr must be at least 0"),
        ({"betas": np.array([0.5, np.nan])}, ValueError, "betas"),
        ({"lr": np.array(1)}, TypeError, "lr is float64, the given array int64"),
    ):
        with pytest.raises(error, match=match):
            optimizer.load_state_dict({name: x * 2 if name[0] == "0" else x for name, x in before.items()} | change)
    with pytest.raises(KeyError, match="missing"):
        optimizer.load_state_dict(SGD([p]).state_dict())
    for name, x in optimizer.state_dict().items():
        np.testing.assert_array_equal(x, before[name])


# ---- captured


@pytest.mark.kernels
@every_optimizer
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_captured_training_is_eager_training_while_settings_change(make, dtype):
    rng = np.random.default_rng(4)
    data = [(rng.standard_normal((5, 3, 4)).astype(dtype), rng.standard_normal((3, 6)).astype(dtype)) for _ in range(8)]

    def run(compiled):
        rnn = tr.nn.RNN(4, 6, dtype=dtype, seed=0)
        optimizer = make(rnn.parameters())
        warm_up = tr.optim.LinearLR(optimizer, total_iters=4)

        def step(x, y):
            loss = tr.mse_loss(rnn(x)[1][0], y)
            optimizer.zero_grad()
            loss.backward()
            clip_grad_value_(rnn.parameters(), 0.05)
            norm = clip_grad_norm_(rnn.parameters(), 0.1)
            optimizer.step()
            return loss, norm

        f = tr.compile(step, passes=False) if compiled else step
        trail, saved = [], None
        for n, (x, y) in enumerate(data):
            if n == 5:
                optimizer.load_state_dict(saved)  # in place, so that a replay sees it
            trail += [v.value.copy() for v in f(x, y)] + [p.value.copy() for p in rnn.parameters()]
            warm_up.step()
            optimizer.weight_decay *= 1.5
            saved = optimizer.state_dict() if n == 2 else saved
        assert not compiled or f.program.runs == 6
        return trail

    for a, b in zip(run(True), run(False), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.kernels
def test_schedules_do_not_step_inside_a_compiled_function():
    p = tr.nn.Parameter([1.0])
    schedule = tr.optim.ExponentialLR(SGD([p], 0.1), 0.5)
    with pytest.raises(tr.CaptureError, match="lr is set inside a compiled function"):
        tr.compile(lambda x: schedule.step())(np.ones(1))
    assert schedule.last_epoch == 0


# ---- schedules


def test_schedules_save_and_load_their_numbers():
    def make(optimizer):
        yield tr.optim.StepLR(optimizer, 2)
        yield tr.optim.ExponentialLR(optimizer, 0.9)
        yield tr.optim.CosineAnnealingLR(optimizer, 5, 0.01)
        yield tr.optim.LinearLR(optimizer)
        yield tr.optim.ReduceLROnPlateau(optimizer, patience=1, cooldown=1)

    metrics = [1.0, 1.0, 2.0, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.0]

    def advance(schedule, metrics):
        out = []
        for m in metrics:
            schedule.step(*[m] * isinstance(schedule, tr.optim.ReduceLROnPlateau))
            out.append(schedule.optimizer.lr)
        return out

    for n in range(5):
        a, b = SGD([tr.nn.Parameter([1.0])], 0.3), SGD([tr.nn.Parameter([1.0])], 0.7)
        first, second = list(make(a))[n], list(make(b))[n]
        a.lr = b.lr = 0.3  # what making the others did
        advance(first, metrics[:4])
        state = first.state_dict()
        assert all(x.shape == () and x.dtype in (np.int64, np.float64) for x in state.values())
        b.load_state_dict(a.state_dict())
        second.load_state_dict(state)
        assert repr(second) == repr(first)
        assert advance(first, metrics[4:]) == advance(second, metrics[4:])
        with pytest.raises(KeyError, match="missing"):
            second.load_state_dict({})
        for name in ("step_size", "gamma", "T_max", "total_iters", "factor"):
            if name in state:
                with pytest.raises(ValueError, match=f"{name} must lie in"):
                    second.load_state_dict(state | {name: state[name] * 0 - 1})
        assert repr(second) == repr(first)
        with pytest.raises(TypeError, match="last_epoch"):
            second.load_state_dict(state | {"last_epoch": np.array(1.0)})


@pytest.mark.parametrize("kind", [tr.optim.SGD, tr.optim.Adam])
def test_updates_before_a_backward_pass_are_found(kind):
    layer = tr.nn.Linear(2, 1, seed=0)
    optimizer = kind(layer.parameters(), lr=0.1)
    x = tr.Tensor(np.ones((3, 2), np.float32), requires_grad=True)
    first, second = layer(x).sum(), (layer(x) ** 2).sum()
    first.backward(retain_graph=True)
    optimizer.step()
    with pytest.raises(RuntimeError, match="'linear'.*written to in place afterwards.*an optimizer's step"):
        second.backward()
    layer(x).sum().backward()  # recorded afterwards
    state = layer.state_dict()
    third = layer(x).sum()
    layer.load_state_dict(state)
    with pytest.raises(RuntimeError, match="'linear'.*load_state_dict"):
        third.backward()
