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


# ---- numpy's reductions, shapes and products, over shapes that each leave another path

ODD = ((1,), (7,), (1, 1), (3, 5), (5, 1), (1, 33), (2, 3, 17), (4, 1, 9), (3, 2, 1, 5), (129, 3), (2, 2, 2, 2, 3))
MATRICES = ((1, 1), (3, 5), (5, 3), (1, 7), (9, 1), (2, 3, 4), (3, 1, 6), (2, 2, 5, 5), (17, 33), (1, 2, 3, 1))

ONE_INPUT = {
    "sum": (lambda m, x: m.sum(x, -1), ODD),
    "mean": (lambda m, x: m.mean(x, -1), ODD),
    "amax": (lambda m, x: x.max(-1) if m is tr else torch.amax(x, -1), ODD),
    "amin": (lambda m, x: x.min(-1) if m is tr else torch.amin(x, -1), ODD),
    "prod": (lambda m, x: m.prod(x, -1) * m.prod(x, 0).sum(), ODD),
    "prod of all": (lambda m, x: m.prod(x), ODD[:7]),
    "prod of two axes": (lambda m, x: x.prod((0, -1)) if m is tr else x.prod(-1).prod(0), MATRICES),
    "var": (lambda m, x: tr.var(x, -1) if m is tr else torch.var(x, -1, correction=0), ODD),
    "var of all": (lambda m, x: tr.var(x, ddof=1) if m is tr else torch.var(x), ODD[1:2] + ODD[3:]),
    "std": (lambda m, x: tr.std(x, (0, -1)) if m is tr else torch.std(x, (0, -1), correction=0), MATRICES[1:]),
    "norm": (lambda m, x: tr.norm(x, -1) if m is tr else torch.linalg.vector_norm(x, dim=-1), ODD),
    "norm of all": (lambda m, x: tr.norm(x) if m is tr else torch.linalg.vector_norm(x), ODD),
    "logsumexp": (lambda m, x: m.logsumexp(x, -1), ODD),
    "cumsum": (lambda m, x: m.cumsum(x, 0) * m.cumsum(x, -1), ODD),
    "cumprod": (lambda m, x: m.cumprod(x, 0) + m.cumprod(x, -1), ODD),
    "swapaxes": (lambda m, x: m.swapaxes(x, 0, -1), ODD),
    "moveaxis": (lambda m, x: m.moveaxis(x, 0, -1), ODD),
    "expand_dims": (lambda m, x: tr.expand_dims(x, (0, -1)) if m is tr else x[None, ..., None], ODD),
    "squeeze": (lambda m, x: m.squeeze(x), ODD),
    "broadcast_to": (lambda m, x: m.broadcast_to(x, (3, *x.shape)), ODD),
    "flip": (lambda m, x: m.flip(x, (0,)), ODD),
    "roll": (lambda m, x: m.roll(x, 2, -1) * m.roll(x, -1, 0), ODD),
    "repeat": (lambda m, x: x.repeat(3, 0) if m is tr else x.repeat_interleave(3, 0), ODD),
    "tile": (lambda m, x: m.tile(x, (2, 3)), ODD),
    "pad": (lambda m, x: tr.pad(x, ((0, 0),) * (x.ndim - 1) + ((2, 1),), constant_values=0.5) if m is tr
            else torch.nn.functional.pad(x, (2, 1), value=0.5), ODD),
    "tril": (lambda m, x: m.tril(x, 1), MATRICES),
    "triu": (lambda m, x: m.triu(x, -1), MATRICES),
    "diagonal": (lambda m, x: x.diagonal(1, -1, 0) if m is tr else torch.diagonal(x, 1, -1, 0), MATRICES),
    "trace": (lambda m, x: x.trace(0, 0, 1) if m is tr else torch.diagonal(x, 0, 0, 1).sum(-1), MATRICES),
    "take": (lambda m, x: tr.take(x, [0, -1, 0], 0) if m is tr else x[[0, -1, 0]], ODD),
    "split": (lambda m, x: (lambda p: p[0] * p[-1])(tr.split(x, len(x)) if m is tr else torch.split(x, 1)), ODD),
    "index": (lambda m, x: x[..., None, :1] * x[-1:, ..., None, :], MATRICES),
}  # fmt: skip

TWO_INPUTS = {
    "matmul": (lambda m, x, y: m.matmul(x, y), (
        ((3,), (3,)), ((3,), (3, 4)), ((2, 3), (3,)), ((3,), (5, 3, 2)), ((2, 4, 3), (3,)), ((1, 1), (1, 1)), ((2, 3), (3, 17)),
        ((2, 1, 3, 4), (5, 4, 2)), ((5, 1, 4), (4, 1)), ((7, 33), (33, 9)))),
    "inner": (lambda m, x, y: m.inner(x, y), (
        ((3,), (3,)), ((1,), (1,)), ((2, 3), (3,)), ((3,), (4, 3)), ((2, 3), (4, 3)), ((2, 5, 3), (4, 3)), ((2, 1), (3, 1)),
        ((2, 2, 2), (3, 3, 2)), ((), (3,)), ((17, 33), (5, 33)))),
    "outer": (lambda m, x, y: m.outer(x, y), tuple(((n,), (k,)) for n, k in (
        (1, 1), (1, 7), (7, 1), (2, 3), (3, 2), (5, 5), (17, 9), (33, 2), (4, 8), (16, 31)))),
    "tensordot": (lambda m, x, y: m.tensordot(x, y, ((0, -1), (1, 0))) if m is tr else
                  torch.tensordot(x, y, ([0, x.ndim - 1], [1, 0])), (
        ((2, 3), (3, 2)), ((2, 5, 3), (3, 2)), ((2, 3), (3, 2, 4)), ((1, 4, 1), (1, 1)), ((2, 2, 2), (2, 2, 2)), ((3, 1), (1, 3)),
        ((2, 4, 5, 3), (3, 2, 6)), ((7, 2, 1), (1, 7)), ((4, 3, 9), (9, 4)), ((5, 17), (17, 5, 3)))),
    "dot": (lambda m, x, y: m.dot(x, y), tuple(((n,), (n,)) for n in (1, 2, 3, 4, 5, 8, 15, 16, 33, 257))),
}  # fmt: skip

EINSUMS = {
    "ij,jk->ik": ((3, 4), (4, 5)), "ij,kj->ik": ((1, 4), (5, 4)), "bij,bjk->bik": ((2, 3, 4), (2, 4, 5)), "ii->i": ((5, 5),),
    "ii": ((4, 4),), "bhqd,bhkd->bhqk": ((2, 3, 4, 5), (2, 3, 6, 5)), "...i,...i": ((2, 3, 4), (3, 4)), "i,j,k->kji": ((2,), (3,), (4,)),
    "ij->": ((3, 7),), "ij->j": ((3, 7),), "ba": ((3, 7),), "ab,bc,cd,de->ae": ((2, 3), (3, 4), (4, 5), (5, 6)),
    "bn,anm,bm->ba": ((2, 3), (4, 3, 5), (2, 5)), "iij,jkk->ik": ((3, 3, 2), (2, 4, 4)), "a,a->a": ((9,), (9,)),
    "i...,i...->...": ((3, 2, 5), (3, 1, 5)), "ij,ij,ij->i": ((2, 5), (2, 5), (2, 5)),
}  # fmt: skip


def agree(ours, theirs, shapes, dtype, what):
    rng = np.random.default_rng(9)
    arrays = [rng.standard_normal(s).astype(dtype) for s in shapes]
    mine, other = (
        [f(v) for v in arrays] for f in (lambda v: tr.Tensor(v, True), lambda v: torch.tensor(v, requires_grad=True))
    )
    y, z = ours(*mine), theirs(*other)
    g = rng.standard_normal(tuple(z.shape)).astype(dtype)
    y.backward(g)
    z.backward(torch.tensor(g))
    close(y.value, z, dtype, what)
    for a, b in zip(mine, other, strict=True):
        close(a.grad, b.grad, dtype, f"gradient of {what}")


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", [*ONE_INPUT, *TWO_INPUTS])
def test_numpys_functions_over_odd_shapes(name, dtype):
    f, every = ONE_INPUT.get(name) or TWO_INPUTS[name]
    for shapes in every:
        shapes = (shapes,) if name in ONE_INPUT else shapes
        agree(lambda *x: f(tr, *x), lambda *x: f(torch, *x), shapes, dtype, f"{name} of {shapes}")


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("subscripts", EINSUMS)
def test_einsum(subscripts, dtype):
    agree(lambda *x: tr.einsum(subscripts, *x), lambda *x: torch.einsum(subscripts, *x), EINSUMS[subscripts], dtype, subscripts)
