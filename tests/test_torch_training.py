"""Updates, clipping, schedules and initial bounds against PyTorch, where it is installed (the `parity` extra)."""

import itertools

import numpy as np
import pytest

import tinygrad_rnn as tr

torch = pytest.importorskip("torch")

SHAPES = [(), (1,), (0,), (7,), (3, 5), (2, 3, 4), (17, 33)]


def grid(name, fixed=None, **options):
    """(name, keywords) for all combinations of options."""
    for values in itertools.product(*options.values()):
        yield name, (fixed or {}) | dict(zip(options, values, strict=True))


OPTIMIZERS = [
    ("SGD", {}),
    *grid("SGD", lr=[0.1], momentum=[0.0, 0.9], weight_decay=[0.0, 0.1]),
    *grid("SGD", lr=[0.1], momentum=[0.5, 0.9], weight_decay=[0.0, 0.1], nesterov=[True]),
    ("Adam", {}),
    *grid("Adam", lr=[0.02], betas=[(0.9, 0.999), (0.5, 0.7), (0.0, 0.0)], eps=[1e-8, 0.1], weight_decay=[0.0, 0.1]),
    ("AdamW", {}),
    *grid("AdamW", lr=[0.02], betas=[(0.9, 0.999), (0.5, 0.7)], eps=[1e-8, 0.1], weight_decay=[0.0, 0.3]),
    ("RMSprop", {}),
    *grid("RMSprop", lr=[0.02], alpha=[0.99, 0.5], eps=[1e-8, 0.1], weight_decay=[0.0, 0.1], momentum=[0.0, 0.9], centered=[False, True]),
]  # fmt: skip


def both(shapes, dtype, rng):
    ours = [tr.nn.Parameter(rng.standard_normal(s), dtype) for s in shapes]
    return ours, [torch.nn.Parameter(torch.tensor(p.value)) for p in ours]


def give_gradients(ours, theirs, rng, skip=None):
    for i, (p, q) in enumerate(zip(ours, theirs, strict=True)):
        g = rng.standard_normal(p.shape).astype(p.dtype) * 10.0 ** rng.uniform(-3, 1)
        p.grad, q.grad = (None, None) if i == skip else (np.asarray(g, p.dtype), torch.tensor(g, dtype=q.dtype))


@pytest.mark.parametrize(("name", "options"), OPTIMIZERS, ids=str)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_updates_step_by_step(name, options, dtype):
    rng = np.random.default_rng(0)
    ours, theirs = both(SHAPES, dtype, rng)
    a, b = getattr(tr.optim, name)(ours, **options), getattr(torch.optim, name)(theirs, **options)
    for step in range(25):
        if step == 12:  # a changed rate holds from then on
            a.lr *= 0.3
            b.param_groups[0]["lr"] *= 0.3
        give_gradients(ours, theirs, rng, skip=step % 4)  # parameters without a gradient stay, and count no step
        a.step()
        b.step()
        for p, q in zip(ours, theirs, strict=True):
            q = q.detach().numpy()
            bound = 1e-11 if dtype == "float64" else 2e-5
            assert np.abs(p.value - q).max(initial=0) <= bound * max(np.abs(q).max(initial=0), 1), (step, p.shape)
    state = a.state_dict()
    for i, q in enumerate(theirs):
        for key, x in b.state[q].items():
            if key == "step" and name == "RMSprop" or x is None:
                continue
            np.testing.assert_allclose(
                state[f"{i}.{key}"],
                x.numpy(),
                rtol=1e-10 if dtype == "float64" else 1e-3,
                atol=1e-12 if dtype == "float64" else 1e-5,
            )


def test_an_optimizer_takes_what_torchs_remembers():
    rng = np.random.default_rng(1)
    for name, options in OPTIMIZERS:
        ours, theirs = both(SHAPES, "float64", rng)
        a, b = getattr(tr.optim, name)(ours, **options), getattr(torch.optim, name)(theirs, **options)
        for _ in range(3):
            give_gradients(ours, theirs, rng)
            b.step()
        for p, q in zip(ours, theirs, strict=True):
            p.value[...] = q.detach().numpy()
        remembered = {
            f"{i}.{k}": np.asarray(x, np.float64) for i, q in enumerate(theirs) for k, x in b.state[q].items() if x is not None
        }
        own = a.state_dict()
        a.load_state_dict(own | {k: v for k, v in remembered.items() if k in own})
        give_gradients(ours, theirs, rng)
        a.step()
        b.step()
        for p, q in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(p.value, q.detach().numpy(), rtol=1e-11, atol=1e-11)


def test_a_centred_rms_of_constant_gradients_does_not_become_nan():
    p = tr.nn.Parameter([1.0, 2.0, 3.0], "float64")
    optimizer = tr.optim.RMSprop([p], alpha=0.5, centered=True)
    for _ in range(200):
        p.grad = np.array([0.1, 1e-3, 7e5])
        optimizer.step()
    assert np.isfinite(p.value).all()


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("size", [0.01, 1.0, 100.0, np.inf, np.nan])
def test_clipping(dtype, size):
    rng = np.random.default_rng(2)
    for limit in (0.0, 0.5, 3.0, np.inf):
        ours, theirs = both(SHAPES, dtype, rng)
        for clip in ("clip_grad_norm_", "clip_grad_value_"):
            give_gradients(ours, theirs, rng, skip=4)
            ours[3].grad[2], theirs[3].grad[2] = size, size
            a = getattr(tr.optim, clip)(ours, limit)
            b = getattr(torch.nn.utils, clip)(theirs, limit)
            if clip == "clip_grad_norm_":
                np.testing.assert_allclose(a.value, b.numpy(), rtol=1e-12 if dtype == "float64" else 1e-5)
            else:
                assert a is None
            for p, q in zip(ours, theirs, strict=True):
                assert (p.grad is None) == (q.grad is None)
                if p.grad is not None:
                    np.testing.assert_allclose(p.grad, q.grad.numpy(), rtol=1e-12 if dtype == "float64" else 2e-5)


SCHEDULES = [
    ("StepLR", {"step_size": 3}),
    ("StepLR", {"step_size": 1, "gamma": 0.7}),
    ("StepLR", {"step_size": 10, "gamma": 1.5}),
    ("ExponentialLR", {"gamma": 0.9}),
    ("ExponentialLR", {"gamma": 1.0}),
    ("CosineAnnealingLR", {"T_max": 10}),
    ("CosineAnnealingLR", {"T_max": 1}),
    ("CosineAnnealingLR", {"T_max": 7, "eta_min": 0.01}),
    ("CosineAnnealingLR", {"T_max": 60, "eta_min": 0.9}),
    ("LinearLR", {}),
    ("LinearLR", {"start_factor": 0.01, "total_iters": 20}),
    ("LinearLR", {"start_factor": 1.0, "end_factor": 0.0, "total_iters": 13}),
]


@pytest.mark.parametrize(("name", "options"), SCHEDULES, ids=str)
def test_schedules(name, options):
    (p,), (q,) = both([(2,)], "float64", np.random.default_rng(3))
    a, b = tr.optim.SGD([p], 0.3), torch.optim.SGD([q], 0.3)
    ours, theirs = getattr(tr.optim, name)(a, **options), getattr(torch.optim.lr_scheduler, name)(b, **options)
    b.step()
    for epoch in range(50):
        assert a.lr == pytest.approx(b.param_groups[0]["lr"], rel=1e-11, abs=1e-14), epoch
        assert ours.last_epoch == theirs.last_epoch == epoch
        ours.step()
        theirs.step()


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("threshold_mode", ["rel", "abs"])
@pytest.mark.parametrize("rest", [{}, {"patience": 0}, {"patience": 2, "cooldown": 3, "factor": 0.5}, {"patience": 1, "threshold": 0.2, "min_lr": 1e-3}, {"patience": 1, "eps": 0.01}, {"threshold": 0.0, "patience": 1, "factor": 0.9}], ids=str)  # fmt: skip
def test_reducing_on_plateaus(mode, threshold_mode, rest):
    for seed in range(6):
        rng = np.random.default_rng(seed)
        (p,), (q,) = both([(2,)], "float64", rng)
        a, b = tr.optim.SGD([p], 0.3), torch.optim.SGD([q], 0.3)
        options = {"mode": mode, "threshold_mode": threshold_mode} | rest
        ours = tr.optim.ReduceLROnPlateau(a, **options)
        theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(b, **options)
        for step in range(80):
            metric = round(rng.standard_normal(), 1) * 2.0 ** -(step // 10) if seed % 2 else 5.0 * 0.99**step
            metric = np.nan if step == 40 else metric
            ours.step(tr.Tensor(np.array(metric)) if step % 2 else metric)
            theirs.step(metric)
            assert a.lr == pytest.approx(b.param_groups[0]["lr"], rel=1e-11)
            assert (ours.best, ours.num_bad_epochs, ours.cooldown_counter) == (
                theirs.best,
                theirs.num_bad_epochs,
                theirs.cooldown_counter,
            )


@pytest.mark.parametrize("shape", [(3, 5), (7, 2), (6, 4, 3), (5, 3, 2, 4)])
def test_bounds_of_initial_values(shape):
    """The largest of many uniform entries is as near their bound as one likes."""
    init = tr.nn.init
    assert init.fans(shape) == torch.nn.init._calculate_fan_in_and_fan_out(torch.empty(shape))
    for ours, theirs in (
        *((init.xavier_uniform(gain=g), lambda w, g=g: torch.nn.init.xavier_uniform_(w, g)) for g in (1.0, 5 / 3)),
        *(
            (init.kaiming_uniform(a, mode, f), lambda w, a=a, mode=mode, f=f: torch.nn.init.kaiming_uniform_(w, a, mode, f))
            for a in (0, 0.3)
            for mode in ("fan_in", "fan_out")
            for f in ("leaky_relu", "relu", "tanh", "linear", "selu")
        ),
    ):
        a = np.abs([ours(np.random.default_rng(seed), shape) for seed in range(200)]).max()
        b = torch.stack([theirs(torch.empty(shape, dtype=torch.float64)).abs().max() for _ in range(200)]).max().item()
        assert a == pytest.approx(b, rel=0.01)


def test_gains():
    for name in ("linear", "sigmoid", "tanh", "relu", "leaky_relu", "selu"):
        assert tr.nn.init.calculate_gain(name) == torch.nn.init.calculate_gain(name)
    assert tr.nn.init.calculate_gain("leaky_relu", 0.3) == torch.nn.init.calculate_gain("leaky_relu", 0.3)
