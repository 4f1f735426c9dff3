"""Values, every gradient and the first losses of training against PyTorch, where it is installed (the `parity` extra)."""

import numpy as np
import pytest

import tinygrad_rnn as tr

torch = pytest.importorskip("torch")

TOLERANCE = {"float64": 1e-10, "float32": 2e-5, "int64": 0}


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


TRIPLES = [*[(x, y, x) for x, y in PAIRS], *[(x, y, y) for x, y in PAIRS], *[(y, y, x) for x, y in PAIRS],
           ((3, 1), (1, 4), (2, 1, 1)), ((), (2, 1), (3,))]  # fmt: skip
GATES = {
    "addcmul": (tr.addcmul, torch.addcmul),
    **{f"addcmul value {v}": tuple(lambda *x, f=f, v=v: f(*x, value=v) for f in (tr.addcmul, torch.addcmul)) for v in (-0.7, 0, 2)},
    "lerp": (tr.lerp, torch.lerp),
    **{f"lerp {w}": tuple(lambda a, b, c, f=f, w=w: f(a, b, w) + 0 * c for f in (tr.lerp, torch.lerp)) for w in (0.3, 0, 1, 1.7)},
}  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", GATES)
def test_gates_broadcast(name, dtype):
    rng = np.random.default_rng(6)
    ours, theirs = GATES[name]
    for shapes in TRIPLES:
        arrays = [np.asarray(rng.uniform(-2, 2, s), dtype) for s in shapes]
        same_as_torch(ours, theirs, arrays, dtype, f"{name} {shapes}")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("ord", [-3, -1, -0.5, 0.3, 0.5, 1, 1.5, 2, 2.5, 7, np.inf, -np.inf])
def test_norms(ord, dtype):
    """At zeros too, but where PyTorch gives nan: a negative power of 0, times 0."""
    rng = np.random.default_rng(8)
    for shape in ((5,), (1,), (3, 4), (2, 1, 5)):
        x = rng.uniform(-2, 2, shape).round(1).astype(dtype)
        x[..., 0] = 0 if ord > 0 else 0.7
        if ord > 0:
            x[:1] = 0
        vector_norm = lambda v: torch.linalg.vector_norm(v, ord, -1)  # noqa: E731
        same_as_torch(lambda v: tr.norm(v, ord, -1), vector_norm, [x], dtype, f"norm {ord} {shape}")


@pytest.mark.parametrize("bounds", [(-0.5, 0.7), (None, 0.7), (-0.5, None), (1.0, -1.0)])
def test_clip(bounds):
    for shape in ODD:
        x = np.random.default_rng(5).uniform(-2, 2, shape).round(1)
        same_as_torch(
            lambda x: tr.clip(x, *bounds), lambda x: torch.clamp(x, *bounds), [np.asarray(x)], "float64", f"clip {shape}"
        )


TF = torch.nn.functional
ODD_SHAPES = [(), (1,), (7,), (33,), (0,), (2, 0), (1, 1), (3, 5), (5, 17), (64, 3), (1, 129), (2, 3, 4), (3, 1, 7), (2, 3, 5, 2),
              (1, 1, 1, 1), (4, 0, 2), (9, 9), (2, 31), (13, 2, 1), (100,), (1025,)]  # fmt: skip
ACTIVATIONS = {
    "erf": (tr.erf, torch.erf),
    "leaky_relu": (tr.leaky_relu, TF.leaky_relu),
    "leaky_relu 0.3": (lambda x: tr.leaky_relu(x, 0.3), lambda x: TF.leaky_relu(x, 0.3)),
    "elu": (tr.elu, TF.elu),
    "elu 1.7": (lambda x: tr.elu(x, 1.7), lambda x: TF.elu(x, 1.7)),
    "gelu": (tr.gelu, TF.gelu),
    "gelu tanh": (lambda x: tr.gelu(x, approximate="tanh"), lambda x: TF.gelu(x, approximate="tanh")),
    "silu": (tr.silu, TF.silu),
    "softplus": (tr.softplus, TF.softplus),
    "hardtanh": (tr.hardtanh, TF.hardtanh),
    "hardtanh -0.4..2": (lambda x: tr.hardtanh(x, -0.4, 2), lambda x: TF.hardtanh(x, -0.4, 2)),
}


def agree(ours, theirs, arrays, rng, what):
    """Values, and the gradients by every array, for a random cotangent."""
    dtype = str(arrays[0].dtype)
    mine, other = [tr.Tensor(v, requires_grad=True) for v in arrays], [torch.tensor(v, requires_grad=True) for v in arrays]
    y, z = ours(*mine), theirs(*other)
    close(y.value, z, dtype, what)
    g = np.asarray(rng.standard_normal(z.shape), dtype)
    y.backward(g)
    z.backward(torch.from_numpy(g))
    for i, (a, b) in enumerate(zip(mine, other, strict=True)):
        if b.grad is None or a.size == 0:
            assert a.grad is None or a.size == 0
        else:
            close(a.grad, b.grad, dtype, f"gradient {i} of {what}")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(name, dtype):
    rng = np.random.default_rng(5)
    for shape in ODD_SHAPES:
        x = np.asarray(rng.standard_normal(shape), dtype)  # in the tails, torch has no digits left
        if x.size > 3:
            x.flat[:3] = 0, -0.0, 1
        agree(*ACTIVATIONS[name], [x], rng, f"{name} {shape}")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_losses_of_classes(reduction, dtype):
    rng = np.random.default_rng(3)
    shapes = [(4, 3), (5,), (1,), (1, 1), (2, 3, 4), (2, 3, 2, 2), (7, 2), (1, 33), (129, 3), (3, 17), (2, 1, 5), (17, 5, 1)]
    for shape in shapes:
        x = rng.standard_normal(shape).astype(dtype)
        classes = shape[1] if len(shape) > 1 else shape[0]
        target = np.asarray(rng.integers(0, classes, shape[:1] + shape[2:] if len(shape) > 1 else ()))
        for ignored in (None, -100, 0):
            t = target.copy()
            if ignored is not None and t.size > 1:
                t.flat[::2] = ignored
                t.flat[1] = classes - 1
            keywords = {"reduction": reduction} | ({} if ignored is None or t.size < 2 else {"ignore_index": ignored})
            if t.size > 1 and np.all(t == ignored):
                continue  # nan in both, in other places of the gradient
            for name in ("cross_entropy", "nll_loss"):
                agree(
                    lambda x, n=name: getattr(tr, n)(x, t, **keywords),
                    lambda x, n=name: getattr(TF, n)(x, torch.tensor(t), **keywords),
                    [x],
                    rng,
                    f"{name} {shape} {keywords}",
                )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("mse_loss", {}),
        ("l1_loss", {}),
        ("huber_loss", {}),
        ("huber_loss", {"delta": 0.4}),
        ("smooth_l1_loss", {}),
        ("smooth_l1_loss", {"beta": 0.4}),
        ("smooth_l1_loss", {"beta": 0.0}),
        ("binary_cross_entropy_with_logits", {}),
    ],
)
def test_losses_of_pairs(name, settings, reduction, dtype):
    rng = np.random.default_rng(6)
    for shape in ODD_SHAPES:
        if 0 in shape:
            continue
        x, y = (np.asarray(rng.standard_normal(shape) * 2, dtype) for _ in range(2))
        if x.size > 3:
            y.flat[:2] = x.flat[:2]
        if name.startswith("binary"):
            y = np.asarray(rng.uniform(0, 1, shape).round(1), dtype)
        agree(
            lambda x, y: getattr(tr, name)(x, y, reduction=reduction, **settings),
            lambda x, y: getattr(TF, name)(x, y, reduction=reduction, **settings),
            [x, y],
            rng,
            f"{name} {shape}",
        )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("affine", [(), (0,), (0, 1), (1,)], ids=["plain", "weight", "weight and bias", "bias"])
def test_layer_norm_function(affine, dtype):
    rng = np.random.default_rng(7)
    shapes = [
        ((3, 4), 1),
        ((2, 3, 5), 1),
        ((2, 3, 5), 2),
        ((7,), 1),
        ((1, 17), 1),
        ((40, 33), 1),
        ((2, 600), 1),
        ((2, 3, 4, 5), 3),
    ]
    for shape, axes in shapes:
        x = (rng.standard_normal(shape) * 2 + 1).astype(dtype)
        given = [np.asarray(rng.standard_normal(shape[-axes:]), dtype) for _ in affine]

        def call(f, x, *given, shape=shape, axes=axes):
            weight_bias = dict(zip(affine, given, strict=True))
            return f(x, shape[-axes:], weight_bias.get(0), weight_bias.get(1))

        agree(lambda *a, c=call: c(tr.layer_norm, *a), lambda *a, c=call: c(TF.layer_norm, *a), [x, *given], rng, f"{shape}")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("training", [True, False])
def test_batch_norm_function(training, dtype):
    rng = np.random.default_rng(8)
    shapes = [(3, 4), (4, 1), (17, 33), (40, 5), (2, 3, 5), (1, 3, 7), (5, 1, 3), (2, 130, 4), (3, 2, 4, 5), (129, 2)]
    for shape in shapes:
        x = (rng.standard_normal(shape) * 2 + 1).astype(dtype)
        vectors = [rng.uniform(0.5, 2, shape[1]).astype(dtype) for _ in range(4)]
        running = [v.copy() for v in vectors[:2]], [torch.tensor(v) for v in vectors[:2]]
        agree(
            lambda x, w, b, r=running[0]: tr.batch_norm(x, *r, w, b, training, 0.3),
            lambda x, w, b, r=running[1]: TF.batch_norm(x, *r, w, b, training, 0.3),
            [x, *vectors[2:]],
            rng,
            f"batch_norm {shape}",
        )
        for a, b in zip(*running, strict=True):
            close(a, b, dtype, f"running statistics {shape}")


def loaded(ours, theirs):
    """torch's module with the state of ours, which has the same names, shapes and dtypes."""
    state = ours.state_dict()
    assert {n: (v.shape, str(v.dtype)) for n, v in state.items()} == {
        n: (tuple(v.shape), str(v.dtype).removeprefix("torch.")) for n, v in theirs.state_dict().items()
    }
    theirs.load_state_dict({n: torch.from_numpy(v) for n, v in state.items()})
    return theirs


def same_module(ours, theirs, arrays, rng, dtype, what):
    """Outputs, the gradients of inputs and parameters, and what is left in the state, for one input after the other."""
    for x in arrays:
        ours.zero_grad()
        theirs.zero_grad()
        agree(ours, theirs, [x], rng, what)
        gradients = dict(theirs.named_parameters())
        for name, p in ours.named_parameters():
            close(p.grad, gradients[name].grad, dtype, f"gradient of {name} of {what}")
        for name, value in theirs.state_dict().items():
            close(ours.state_dict()[name], value, str(value.dtype).removeprefix("torch."), f"{name} of {what}")


def drawn(ours, rng):
    for p in ours.parameters():
        p.value[...] = rng.standard_normal(p.shape)
    return ours


LAYER_NORMS = [((3, 4), 1), ((1, 5), 1), ((5,), 1), ((2, 3, 5), 1), ((2, 3, 5), 2), ((2, 3, 5), 3), ((40, 33), 1), ((2, 600), 1), ((17, 3), 1),
               ((16, 16), 1), ((7, 31), 1), ((1, 129), 1), ((130, 8), 1), ((2, 2, 2, 9), 1), ((2, 2, 3, 3), 2), ((3, 1, 11), 1), ((1, 1, 64), 1),
               ((4, 65), 1), ((9, 127), 1), ((33, 12), 1), ((2, 1030), 1), ((6, 4, 10), 2)]  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("affine", "bias"), [(True, True), (True, False), (False, True)])
def test_layer_norm(affine, bias, dtype):
    rng = np.random.default_rng(9)
    for shape, axes in LAYER_NORMS:
        normalized = shape[-axes:] if axes > 1 else shape[-1]
        ours = drawn(tr.nn.LayerNorm(normalized, 1e-3, affine, bias, dtype=dtype), rng)
        theirs = loaded(ours, torch.nn.LayerNorm(normalized, 1e-3, affine, bias, dtype=getattr(torch, dtype)))
        same_module(ours, theirs, [(rng.standard_normal(shape) * 2 + 1).astype(dtype)], rng, dtype, f"LayerNorm {shape}")


BATCH_NORMS = [(3, 4), (4, 1), (17, 33), (40, 5), (2, 3, 5), (1, 3, 7), (5, 1, 3), (3, 130, 4), (129, 2), (64, 16), (3, 7), (9, 129), (16, 16, 2),
               (4, 3, 1), (33, 31), (5, 64), (6, 2, 9), (1, 1, 40), (8, 12, 3), (1000, 3), (31, 8, 2)]  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("momentum", "affine", "tracked"), [(0.1, True, True), (None, True, True), (0.4, False, True), (0.1, True, False)]
)
def test_batch_norm(momentum, affine, tracked, dtype):
    rng = np.random.default_rng(10)
    for shape in BATCH_NORMS:
        settings = (shape[1], 1e-3, momentum, affine, tracked)
        ours = drawn(tr.nn.BatchNorm1d(*settings, dtype=dtype), rng)
        theirs = loaded(ours, torch.nn.BatchNorm1d(*settings, dtype=getattr(torch, dtype)))
        arrays = [(rng.standard_normal(shape) * 2 + 1).astype(dtype) for _ in range(3)]
        same_module(ours, theirs, arrays, rng, dtype, f"BatchNorm1d {shape}")
        same_module(ours.eval(), theirs.eval(), arrays[:1], rng, dtype, f"BatchNorm1d {shape} in evaluation")
    with pytest.raises(ValueError, match="(?i)expected more than 1 value per channel when training"):
        theirs.train()(torch.ones(1, shape[1], dtype=getattr(torch, dtype)))
    with pytest.raises(ValueError, match="(?i)expected more than 1 value per channel when training"):
        ours.train()(np.ones((1, shape[1]), dtype))


class TorchResidual(torch.nn.Module):
    def __init__(self, module, scale):
        super().__init__()
        self.module, self.scale = module, scale

    def forward(self, x):
        return x + self.scale * self.module(x)


def net_of(nn, residual, width, out, **options):
    """The same net of our layers or of torch's."""
    return nn.Sequential(
        nn.Linear(width, 8, bias=False, **options),  # which the normalisation would take away: its gradient is 0
        nn.BatchNorm1d(8, **options),
        nn.LeakyReLU(0.1),
        residual(
            nn.Sequential(nn.LayerNorm(8, **options), nn.Linear(8, 8, **options), nn.GELU(), nn.Linear(8, 8, **options)), 0.5
        ),
        nn.SiLU(),
        residual(nn.Sequential(nn.Linear(8, 8, **options), nn.Softplus(), nn.Identity(), nn.ELU(0.7)), 1.0),
        nn.Hardtanh(-2, 2),
        nn.Dropout(0.0),
        nn.Flatten(),
        nn.Linear(8, out, **options),
        nn.Tanh(),
    )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_nets_of_everything(dtype):
    rng = np.random.default_rng(11)
    for n in range(20):
        batch, width, out = rng.integers((3, 1, 1), (20, 9, 6))
        ours = net_of(tr.nn, tr.nn.Residual, width, out, dtype=dtype)
        theirs = loaded(ours, net_of(torch.nn, TorchResidual, int(width), int(out), dtype=getattr(torch, dtype)))
        arrays = [rng.standard_normal((batch, width)).astype(dtype) for _ in range(2)]
        if dtype == "float64":
            same_module(ours, theirs, arrays, rng, dtype, f"net {n}")
        same_module(ours.eval(), theirs.eval(), arrays, rng, dtype, f"net {n} in evaluation")


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


# ---- convolution and pooling

# axes, N or None, in_channels, size, out_channels, kernel_size, settings
CONVOLUTIONS = [
    (1, 2, 3, (9,), 4, 3, {}),
    (1, None, 3, (9,), 4, 3, {}),
    (1, 1, 1, (1,), 1, 1, {}),
    (1, 0, 2, (6,), 3, 2, {}),
    (1, 2, 5, (7,), 4, 7, {}),
    (1, 3, 4, (40,), 6, 5, {"stride": 3}),
    (1, 3, 2, (17,), 3, 2, {"stride": 5}),
    (1, 2, 4, (31,), 8, 3, {"padding": 4, "dilation": 3}),
    (1, 2, 6, (20,), 4, 3, {"groups": 2, "padding": 1}),
    (1, 2, 6, (20,), 12, 4, {"groups": 6}),
    (1, 2, 3, (10,), 4, 5, {"padding": "same"}),
    (1, 2, 3, (11,), 4, 4, {"padding": "same", "dilation": 2}),
    (1, None, 3, (5,), 2, 4, {"padding": "same"}),
    (1, 2, 3, (11,), 4, 4, {"padding": "valid", "bias": False}),
    (1, 4, 32, (130,), 33, 5, {}),
    (1, 2, 3, (600,), 2, 550, {}),
    (1, 1, 70, (65,), 20, 1, {}),
    (1, 1, 65, (64,), 16, 9, {"padding": 4}),
    (1, 2, 2, (3,), 3, 3, {"padding": 3, "stride": 2}),
    (1, 5, 7, (13,), 1, 2, {"dilation": 6}),
    (2, 2, 3, (8, 9), 4, 3, {}),
    (2, None, 3, (8, 9), 4, (2, 5), {}),
    (2, 1, 1, (1, 1), 1, 1, {}),
    (2, 0, 2, (6, 5), 3, 2, {}),
    (2, 2, 3, (4, 7), 5, (4, 7), {}),
    (2, 2, 3, (13, 17), 4, 3, {"stride": (2, 3)}),
    (2, 2, 3, (13, 17), 4, (2, 1), {"stride": (4, 2)}),
    (2, 2, 3, (13, 17), 4, 3, {"padding": (2, 1), "dilation": (1, 3)}),
    (2, 2, 4, (10, 8), 6, 3, {"groups": 2, "padding": 1, "stride": 2}),
    (2, 2, 5, (10, 8), 5, (3, 2), {"groups": 5}),
    (2, 2, 3, (10, 8), 4, (5, 3), {"padding": "same"}),
    (2, 2, 3, (10, 8), 4, (4, 2), {"padding": "same", "dilation": (1, 3)}),
    (2, None, 2, (3, 3), 4, 2, {"padding": "same"}),
    (2, 2, 3, (10, 8), 4, 4, {"padding": "valid", "bias": False}),
    (2, 3, 16, (28, 28), 32, 3, {}),
    (2, 3, 3, (32, 32), 16, 5, {"padding": 2}),
    (2, 2, 65, (14, 15), 66, 1, {}),
    (2, 2, 64, (14, 15), 30, 1, {"stride": 2}),
    (2, 1, 100, (9, 9), 10, 3, {"padding": 1}),
    (2, 2, 2, (30, 31), 3, (27, 26), {}),
    (2, 2, 3, (1, 40), 2, (1, 5), {"padding": (0, 2)}),
    (2, 7, 3, (5, 5), 1, 3, {"padding": 3, "stride": 3}),
]


def against(ours, theirs, x, dtype, parameters=()):
    """Value and every gradient for a random cotangent."""
    a, b = tr.Tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    y, z = ours(a), theirs(b)
    g = np.random.default_rng(9).standard_normal(z.shape).astype(dtype)
    y.backward(g)
    z.backward(torch.from_numpy(g))
    close(y.value, z, dtype, "output")
    close(a.grad, b.grad, dtype, "gradient of x")
    for name, p in parameters:
        close(getattr(ours, name).grad, p.grad, dtype, f"gradient of {name}")


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("geometry", CONVOLUTIONS, ids=str)
def test_convolutions(geometry, dtype):
    axes, batch, inputs, size, outputs, kernel, settings = geometry
    name = f"Conv{axes}d"
    ours = getattr(tr.nn, name)(inputs, outputs, kernel, **settings, dtype=dtype, seed=0)
    theirs = getattr(torch.nn, name)(inputs, outputs, kernel, **settings, dtype=getattr(torch, dtype))
    theirs.load_state_dict({k: torch.from_numpy(v) for k, v in ours.state_dict().items()})
    x = np.random.default_rng(8).standard_normal((*(() if batch is None else (batch,)), inputs, *size)).astype(dtype)
    against(ours, theirs, x, dtype, list(theirs.named_parameters()))


# shape of the input, kernel_size, stride, padding; of two axes unless kernel_size is a tuple of one
POOLINGS = [
    ((2, 3, 9), (3,), None, 0),
    ((3, 9), (2,), None, 0),
    ((1, 1, 1), (1,), None, 0),
    ((0, 2, 5), (2,), None, 0),
    ((2, 3, 9), (9,), None, 0),
    ((2, 3, 10), (4,), (1,), 0),
    ((2, 3, 10), (2,), (3,), 0),
    ((2, 3, 10), (3,), (2,), 1),
    ((2, 3, 7), (4,), (3,), 2),
    ((2, 3, 1), (3,), (1,), 1),
    ((4, 5, 65), (5,), (4,), 2),
    ((3, 2, 33), (7,), (7,), 3),
    ((1, 4, 12), (12,), (5,), 6),
    ((2, 2, 21), (2,), (1,), 1),
    ((6, 21), (5,), (9,), 0),
    ((2, 1, 8), (8,), (8,), 4),
    ((5, 2, 17), (3,), (1,), 0),
    ((2, 9, 4), (3,), (3,), 1),
    ((1, 2, 100), (11,), (6,), 5),
    ((7, 1, 3), (2,), (2,), 1),
    ((2, 3, 8, 8), 2, None, 0),
    ((3, 8, 8), 2, None, 0),
    ((1, 1, 1, 1), 1, None, 0),
    ((0, 2, 4, 4), 2, None, 0),
    ((2, 3, 5, 7), (5, 7), None, 0),
    ((2, 3, 9, 7), 3, 1, 0),
    ((2, 3, 9, 7), 3, 2, 1),
    ((2, 3, 9, 7), (2, 3), (3, 1), 0),
    ((2, 3, 9, 7), (2, 3), (1, 4), 1),
    ((2, 3, 9, 7), (4, 5), (3, 2), (2, 2)),
    ((2, 3, 1, 20), (1, 4), (1, 3), (0, 2)),
    ((4, 5, 28, 28), 2, 2, 0),
    ((2, 3, 17, 33), 5, 3, 2),
    ((1, 2, 3, 3), 3, 1, 1),
    ((6, 9, 7), (2, 2), (2, 1), (1, 0)),
    ((2, 2, 6, 6), 4, 5, 2),
    ((1, 3, 2, 2), 2, 2, 1),
    ((3, 1, 10, 4), (7, 1), (2, 2), (3, 0)),
    ((2, 8, 5, 5), 2, 4, 0),
    ((1, 1, 40, 3), (8, 3), 1, (4, 1)),
]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("kind", "settings"), [("Max", {}), ("Avg", {}), ("Avg", {"count_include_pad": False})], ids=["max", "avg", "avg of inside"]
)
@pytest.mark.parametrize("geometry", POOLINGS, ids=str)
def test_poolings(geometry, kind, settings, dtype):
    shape, *window = geometry
    name = f"{kind}Pool{1 if isinstance(window[0], tuple) and len(window[0]) == 1 else 2}d"
    x = np.random.default_rng(8).standard_normal(shape).round(1).astype(dtype)  # equal maxima included
    against(getattr(tr.nn, name)(*window, **settings), getattr(torch.nn, name)(*window, **settings), x, dtype)


def test_pooling_of_what_is_not_finite():
    rng = np.random.default_rng(9)
    for _ in range(20):
        x = rng.choice([1.0, 2.0, np.nan, np.inf, -np.inf], (2, 6, 7), p=[0.2, 0.2, 0.1, 0.1, 0.4])
        for ours, theirs in ((tr.max_pool2d, torch.nn.functional.max_pool2d), (tr.max_pool1d, torch.nn.functional.max_pool1d)):
            a, b = tr.Tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
            y, z = ours(a, 3, 2, 1), theirs(b, 3, 2, 1)
            np.testing.assert_array_equal(y.value, z.detach().numpy())
            y.sum().backward()
            z.sum().backward()
            np.testing.assert_array_equal(a.grad, b.grad.numpy())


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
    "norm": (lambda m, x: tr.norm(x, axis=-1) if m is tr else torch.linalg.vector_norm(x, dim=-1), ODD),
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


def agree_at(ours, theirs, shapes, dtype, what):
    rng = np.random.default_rng(9)
    agree(ours, theirs, [rng.standard_normal(s).astype(dtype) for s in shapes], rng, what)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", [*ONE_INPUT, *TWO_INPUTS])
def test_numpys_functions_over_odd_shapes(name, dtype):
    f, every = ONE_INPUT.get(name) or TWO_INPUTS[name]
    for shapes in every:
        shapes = (shapes,) if name in ONE_INPUT else shapes
        agree_at(lambda *x: f(tr, *x), lambda *x: f(torch, *x), shapes, dtype, f"{name} of {shapes}")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("subscripts", EINSUMS)
def test_einsum(subscripts, dtype):
    agree_at(
        lambda *x: tr.einsum(subscripts, *x), lambda *x: torch.einsum(subscripts, *x), EINSUMS[subscripts], dtype, subscripts
    )
