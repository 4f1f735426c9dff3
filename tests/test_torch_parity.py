"""Values, every gradient and the first losses of training against PyTorch, where it is installed (the `parity` extra)."""

import numpy as np
import pytest

import tinygrad_rnn as tr

torch = pytest.importorskip("torch")

TOLERANCE = {"float64": 1e-10, "float32": 2e-5}


def close(ours, theirs, dtype, what):
    theirs = theirs.detach().numpy() if isinstance(theirs, torch.Tensor) else theirs
    assert ours.shape == theirs.shape, what
    assert ours.dtype == theirs.dtype, what
    gap = np.abs(ours - theirs).max(initial=0)
    assert gap <= TOLERANCE[dtype] * max(np.abs(theirs).max(initial=0), 1e-30), f"{what}: {gap}"


def pair(layers, nonlinearity, bias, batch_first, dtype, features=3, hidden=5):
    ours = tr.nn.RNN(features, hidden, layers, nonlinearity, bias, batch_first, dtype=dtype, seed=0)
    theirs = torch.nn.RNN(features, hidden, layers, nonlinearity, bias, batch_first, dtype=getattr(torch, dtype))
    theirs.load_state_dict({k: torch.from_numpy(v) for k, v in ours.state_dict().items()})
    return ours, theirs


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("steps", [1, 2, 7, 50])
@pytest.mark.parametrize(
    ("bias", "batch_first", "given_state"), [(True, False, True), (False, True, True), (True, True, False)]
)
def test_stacked_rnn(dtype, nonlinearity, layers, steps, bias, batch_first, given_state):
    rng = np.random.default_rng(steps)
    ours, theirs = pair(layers, nonlinearity, bias, batch_first, dtype)
    x = rng.standard_normal((2, steps, 3) if batch_first else (steps, 2, 3)).astype(dtype)
    h = rng.standard_normal((layers, 2, 5)).astype(dtype)
    mine = [tr.Tensor(v, requires_grad=True) for v in ((x, h) if given_state else (x,))]
    other = [torch.tensor(v, requires_grad=True) for v in ((x, h) if given_state else (x,))]
    outputs, expected = ours(*mine), theirs(*other)
    g = [rng.standard_normal(o.shape).astype(dtype) for o in expected]
    ((outputs[0] * g[0]).sum() + (outputs[1] * g[1]).sum()).backward()
    torch.autograd.backward(expected, [torch.from_numpy(v) for v in g])
    for what, a, b in zip(("output", "h_n"), outputs, expected, strict=True):
        close(a.value, b, dtype, what)
    for what, a, b in zip(("x", "h_0"), mine, other, strict=False):
        close(a.grad, b.grad, dtype, f"gradient of {what}")
    for name, p in theirs.named_parameters():
        close(getattr(ours, name).grad, p.grad, dtype, f"gradient of {name}")
    # the deep MLP that it is has the same gradients
    twin_inputs = [tr.Tensor(v, requires_grad=True) for v in ((x, h) if given_state else (x,))]
    for p in ours.parameters():
        p.zero_grad()
    output, last = ours.unroll(steps)(*twin_inputs)
    ((output * g[0]).sum() + (last * g[1]).sum()).backward()
    for name, p in theirs.named_parameters():
        close(getattr(ours, name).grad, p.grad, dtype, f"gradient of {name} in the unrolled net")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
def test_cell(dtype, nonlinearity):
    ours = tr.nn.RNNCell(3, 5, nonlinearity=nonlinearity, dtype=dtype, seed=0)
    theirs = torch.nn.RNNCell(3, 5, nonlinearity=nonlinearity, dtype=getattr(torch, dtype))
    theirs.load_state_dict({k: torch.from_numpy(v) for k, v in ours.state_dict().items()})
    x, h = (np.random.default_rng(1).standard_normal(s).astype(dtype) for s in ((4, 3), (4, 5)))
    close(ours(tr.Tensor(x), tr.Tensor(h)).value, theirs(torch.tensor(x), torch.tensor(h)), dtype, "h'")
    close(ours(tr.Tensor(x)).value, theirs(torch.tensor(x)), dtype, "h' from zero")


GATED = {"RNN": (), "LSTM": ("c_n",), "GRU": ()}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("steps", [1, 2, 7, 50])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize(("bias", "batch_first"), [(True, True), (True, False), (False, True), (False, False)])
@pytest.mark.parametrize("kind", GATED)
def test_recurrent_nets(kind, dtype, layers, steps, bidirectional, bias, batch_first):
    rng = np.random.default_rng(steps)
    options = {"bias": bias, "batch_first": batch_first, "bidirectional": bidirectional}
    ours = getattr(tr.nn, kind)(3, 5, layers, dtype=dtype, seed=0, **options)
    theirs = getattr(torch.nn, kind)(3, 5, layers, dtype=getattr(torch, dtype), **options)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    theirs.load_state_dict({k: torch.from_numpy(v) for k, v in ours.state_dict().items()})
    x = rng.standard_normal((2, steps, 3) if batch_first else (steps, 2, 3)).astype(dtype)
    parts = 2 if kind == "LSTM" else 1
    states = [rng.standard_normal((layers * (1 + bidirectional), 2, 5)).astype(dtype) for _ in range(parts)]
    mine = [tr.Tensor(v, requires_grad=True) for v in (x, *states)]
    other = [torch.tensor(v, requires_grad=True) for v in (x, *states)]
    outputs, expected = [], []
    for net, (data, *state), out in ((ours, mine, outputs), (theirs, other, expected)):
        output, last = net(data, tuple(state) if parts == 2 else state[0])
        out += [output, *(last if parts == 2 else [last])]
    g = [rng.standard_normal(o.shape).astype(dtype) for o in expected]
    sum((o * v).sum() for o, v in zip(outputs, g, strict=True)).backward()
    torch.autograd.backward(expected, [torch.from_numpy(v) for v in g])
    for what, a, b in zip(("output", "h_n", *GATED[kind]), outputs, expected, strict=True):
        close(a.value, b, dtype, what)
    for what, a, b in zip(("x", "h_0", "c_0"), mine, other, strict=False):
        close(a.grad, b.grad, dtype, f"gradient of {what}")
    for name, p in theirs.named_parameters():
        close(getattr(ours, name).grad, p.grad, dtype, f"gradient of {name}")


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("kind", GATED)
def test_sequences_of_different_lengths(kind, bidirectional):
    rng = np.random.default_rng(5)
    lengths, steps = np.array([3, 7, 1, 5]), 7
    ours = getattr(tr.nn, kind)(3, 5, 2, bidirectional=bidirectional, dtype="float64", seed=0)
    theirs = getattr(torch.nn, kind)(3, 5, 2, bidirectional=bidirectional, dtype=torch.float64)
    theirs.load_state_dict({k: torch.from_numpy(v) for k, v in ours.state_dict().items()})
    x = rng.standard_normal((steps, 4, 3))
    padded = x.copy()
    for row, length in enumerate(lengths):
        padded[length:, row] = np.nan  # nothing after the end may be looked at
    a, b = tr.Tensor(padded, requires_grad=True), torch.tensor(x, requires_grad=True)
    output, last = ours(a, lengths=lengths)
    packed = torch.nn.utils.rnn.pack_padded_sequence(b, torch.tensor(lengths), enforce_sorted=False)
    expected, other_last = theirs(packed)
    expected, _ = torch.nn.utils.rnn.pad_packed_sequence(expected, total_length=steps)
    outputs = [output, *(last if isinstance(last, tuple) else (last,))]
    others = [expected, *(other_last if isinstance(other_last, tuple) else (other_last,))]
    g = [rng.standard_normal(o.shape) for o in others]
    sum((o * v).sum() for o, v in zip(outputs, g, strict=True)).backward()
    torch.autograd.backward(others, [torch.from_numpy(v) for v in g])
    for what, o, e in zip(("output", "h_n", "c_n"), outputs, others, strict=False):
        close(o.value, e, "float64", what)
    for name, p in theirs.named_parameters():
        close(getattr(ours, name).grad, p.grad, "float64", f"gradient of {name}")


@pytest.mark.parametrize("kind", ["LSTMCell", "GRUCell"])
@pytest.mark.parametrize("batch", [(4,), ()])
def test_gated_cells(kind, batch):
    ours = getattr(tr.nn, kind)(3, 5, dtype="float64", seed=0)
    theirs = getattr(torch.nn, kind)(3, 5, dtype=torch.float64)
    theirs.load_state_dict({k: torch.from_numpy(v) for k, v in ours.state_dict().items()})
    rng = np.random.default_rng(1)
    x, *state = (rng.standard_normal((*batch, s)) for s in ((3, 5, 5) if kind == "LSTMCell" else (3, 5)))
    for given in (state, None):
        a = ours(x, None if given is None else tuple(given) if len(given) == 2 else given[0])
        t = None if given is None else tuple(map(torch.tensor, given))
        b = theirs(torch.tensor(x), t if t is None or len(t) == 2 else t[0])
        for u, v in zip(a if isinstance(a, tuple) else (a,), b if isinstance(b, tuple) else (b,), strict=True):
            close(u.value, v, "float64", kind)


OPS = {
    "tanh": (torch.tanh, tr.tanh),
    "sigmoid": (torch.sigmoid, tr.sigmoid),
    "relu": (torch.relu, tr.relu),
    "softmax": (lambda x: torch.softmax(x, -1), tr.softmax),
    "log_softmax": (lambda x: torch.log_softmax(x, 0), lambda x: tr.log_softmax(x, 0)),
    "amax": (lambda x: torch.amax(x, -1), lambda x: x.max(-1)),
    "pow": (lambda x: x**3, lambda x: x**3),
    "exp": (torch.exp, tr.exp),
}


@pytest.mark.parametrize("name", OPS)
@pytest.mark.parametrize("shape", [(1,), (3, 5), (2, 0), (2, 3, 17)])
def test_ops(name, shape):
    if 0 in shape and name == "amax":
        pytest.skip("the maximum of an empty axis is an error in both")
    rng = np.random.default_rng(2)
    theirs, ours = OPS[name]
    x, a, b = (v := rng.standard_normal(shape).round(1)), tr.Tensor(v, requires_grad=True), torch.tensor(v, requires_grad=True)
    y, z = ours(a), theirs(b)
    g = rng.standard_normal(z.shape)
    y.backward(g)
    z.backward(torch.from_numpy(g))
    close(y.value, z, "float64", name)
    close(a.grad, b.grad, "float64", f"gradient of {name} at {x}")


ODD = [(), (1,), (3,), (17,), (0,), (3, 5), (2, 0), (1, 1), (7, 1, 3), (2, 3, 17), (5, 33)]
PAIRS = [((), ()), ((3,), ()), ((), (2, 3)), ((17,), (17,)), ((1,), (7,)), ((2, 3), (3,)), ((3, 1), (1, 4)), ((2, 1, 5), (4, 1)),
         ((0,), (0,)), ((2, 0, 3), (1, 3)), ((5, 1, 1), (33,)), ((1, 1), (2, 3, 4))]  # fmt: skip
functional = torch.nn.functional
# torch's function and what is done to numbers in -4..4 before it; ties and zeros are among them
ELEMENTARY = {
    **{name: (getattr(torch, name), 1.0, 0.0) for name in ("abs", "exp2", "expm1", "square", "sign", "floor", "ceil")},
    **{name: (getattr(torch, name), 1.0, 0.0) for name in ("sin", "cos", "tan", "arctan", "sinh", "cosh", "arcsinh")},
    **{name: (getattr(torch, name), 0.24, 0.01) for name in ("arcsin", "arccos", "arctanh", "log1p")},
    **{name: (getattr(torch, name), 1.0, 4.05) for name in ("log2", "log10", "rsqrt", "reciprocal")},
    "arccosh": (torch.arccosh, 1.0, 5.1),
    "logsigmoid": (functional.logsigmoid, 9.0, 0.0),
    "softsign": (functional.softsign, 1.0, 0.0),
}


def same_as_torch(ours, theirs, arrays, dtype, what):
    mine, other = (
        [f(v) for v in arrays] for f in (lambda v: tr.Tensor(v, True), lambda v: torch.tensor(v, requires_grad=True))
    )
    y, z = ours(*mine), theirs(*other)
    g = np.random.default_rng(7).standard_normal(z.shape).astype(dtype)
    y.backward(np.asarray(g))
    z.backward(torch.tensor(g))
    close(y.value, z, dtype, what)
    for a, b in zip(mine, other, strict=True):
        close(a.grad, b.grad, dtype, f"gradient of {what}")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ELEMENTARY)
def test_elementary_functions(name, dtype):
    theirs, factor, shift = ELEMENTARY[name]
    for shape in ODD:
        x = np.random.default_rng(5).uniform(-4, 4, shape).round(1) * factor + shift
        same_as_torch(getattr(tr, name), theirs, [np.asarray(x, dtype)], dtype, f"{name} {shape}")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["maximum", "minimum", "logaddexp", "arctan2", "hypot", "where", "pow"])
def test_functions_of_two_numbers(name, dtype):
    rng = np.random.default_rng(6)
    for shapes in PAIRS:
        x, y = (np.asarray(rng.uniform(-2, 2, s).round(1), dtype) for s in shapes)
        if name == "where":
            condition = rng.random(np.broadcast_shapes(*shapes)) < 0.5
            ours, theirs = (
                lambda *v, f=f, c=c: f(c, *v) for f, c in ((tr.where, condition), (torch.where, torch.tensor(condition)))
            )
        elif name == "pow":
            ours = theirs = lambda x, y: x**y  # noqa: E731
            x = np.abs(x) + x.dtype.type(0.1)
        else:
            ours, theirs = getattr(tr, name), getattr(torch, name)
            if name == "hypot":
                x += x.dtype.type(0.05)  # torch's gradient at (0, 0) is NaN
        same_as_torch(ours, theirs, [x, y], dtype, f"{name} {shapes}")


@pytest.mark.parametrize("bounds", [(-0.5, 0.7), (None, 0.7), (-0.5, None), (1.0, -1.0)])
def test_clip(bounds):
    for shape in ODD:
        x = np.random.default_rng(5).uniform(-2, 2, shape).round(1)
        same_as_torch(
            lambda x: tr.clip(x, *bounds), lambda x: torch.clamp(x, *bounds), [np.asarray(x)], "float64", f"clip {shape}"
        )


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("shape", [(4, 3), (5,), (2, 3, 4), (2, 3, 2, 2)])
def test_losses(shape, reduction):
    rng = np.random.default_rng(3)
    x = rng.standard_normal(shape)
    target = rng.integers(0, shape[1] if len(shape) > 1 else shape[0], shape[:1] + shape[2:] if len(shape) > 1 else ())
    for ours, theirs, goal in (
        (tr.cross_entropy, torch.nn.functional.cross_entropy, target),
        (tr.mse_loss, torch.nn.functional.mse_loss, rng.standard_normal(shape)),
    ):
        a, b = tr.Tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
        y, z = ours(a, goal, reduction=reduction), theirs(b, torch.tensor(goal), reduction=reduction)
        g = rng.standard_normal(z.shape)
        y.backward(np.asarray(g))
        z.backward(torch.tensor(g))
        close(y.value, z, "float64", ours.__name__)
        close(a.grad, b.grad, "float64", f"gradient of {ours.__name__}")


@pytest.mark.parametrize("optimizer", ["SGD", "momentum", "Adam"])
def test_the_first_losses_of_training_step_by_step(optimizer):
    rng = np.random.default_rng(4)
    x, target = rng.standard_normal((12, 4, 3)), rng.integers(0, 6, (12, 4))
    rnn, other_rnn = pair(2, "tanh", True, False, "float64")
    head, other_head = tr.nn.Linear(5, 6, dtype="float64", seed=1), torch.nn.Linear(5, 6, dtype=torch.float64)
    table, other_table = tr.nn.Embedding(6, 3, dtype="float64", seed=2), torch.nn.Embedding(6, 3, dtype=torch.float64)
    for a, b in ((head, other_head), (table, other_table)):
        b.load_state_dict({k: torch.from_numpy(v) for k, v in a.state_dict().items()})
    ours = [p for m in (rnn, head, table) for p in m.parameters()]
    theirs = [p for m in (other_rnn, other_head, other_table) for p in m.parameters()]
    if optimizer == "Adam":
        a, b = tr.optim.Adam(ours, 0.01), torch.optim.Adam(theirs, 0.01)
    else:
        momentum = 0.9 if optimizer == "momentum" else 0.0
        a, b = tr.optim.SGD(ours, 0.1, momentum), torch.optim.SGD(theirs, 0.1, momentum)
    for step in range(20):
        mine = tr.cross_entropy(head(rnn(table(target) + x)[0]).reshape(-1, 6), target.ravel())
        other = torch.nn.functional.cross_entropy(
            other_head(other_rnn(other_table(torch.tensor(target)) + torch.tensor(x))[0]).reshape(-1, 6),
            torch.tensor(target.ravel()),
        )
        assert mine.item() == pytest.approx(other.item(), abs=1e-11), step
        a.zero_grad()
        b.zero_grad()
        mine.backward()
        other.backward()
        norm = torch.nn.utils.clip_grad_norm_(theirs, 0.3)
        assert tr.optim.clip_grad_norm_(ours, 0.3) == pytest.approx(norm.item(), rel=1e-10)
        a.step()
        b.step()
