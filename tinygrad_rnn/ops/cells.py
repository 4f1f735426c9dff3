"""Steps of recurrent nets as one op each, and what gated ones do between their matrix products. `composed` is the same in the
ops it stands for: what a fused rule has to equal, and what to record where every node in between is to be read."""

from math import prod

from .linear import linear
from .op import Op, ShapeError, broadcast
from .pointwise import add, mul, relu, sigmoid, sub, tanh
from .shape import concatenate, index

ACTIVATIONS = {"tanh": tanh, "relu": relu, "sigmoid": sigmoid, "identity": None}


def _operands(inputs, projected):
    """(x, h, w_ih, w_hh, b_ih, b_hh) of the inputs, None for what is not there."""
    if projected:
        x, h, w_hh, b_hh = inputs if len(inputs) == 4 else (*inputs, None)
        return x, h, None, w_hh, None, b_hh
    return inputs if len(inputs) == 6 else (*inputs, None, None)


def _rnn_cell_shape(*shapes, activation, projected=False):
    counts = (3, 4) if projected else (4, 6)
    if len(shapes) not in counts:
        raise ShapeError(f"rnn_cell: {len(shapes)} inputs; expected {counts[0]}, or {counts[1]} with biases")
    if not isinstance(activation, str) or activation not in ACTIVATIONS:
        raise ValueError(f"rnn_cell: unknown activation {activation!r}; expected one of {', '.join(ACTIVATIONS)}")
    x, h, w_ih, w_hh, b_ih, b_hh = _operands(shapes, projected)
    if len(h) != 2 or len(x) != 2 or x[0] != h[0]:
        raise ShapeError(f"rnn_cell: input {x} and state {h} do not fit; expected (B, I) and (B, H)")
    hidden = h[1]
    given = {
        "weight_ih": w_ih,
        "weight_hh": w_hh,
        "bias_ih": b_ih,
        "bias_hh": b_hh,
        "input projection": x if projected else None,
    }
    expected = {"weight_ih": (hidden, x[1]), "weight_hh": (hidden, hidden), "input projection": h}
    for name, shape in given.items():
        if shape is not None and shape != expected.get(name, (hidden,)):
            what = f"input {x} and state {h}" if name == "weight_ih" else f"state {h}"
            raise ShapeError(f"rnn_cell: {name} {shape} does not fit {what}; expected {expected.get(name, (hidden,))}")
    return h


def _rnn_cell_forward(k, *inputs, activation, projected=False):
    x, h, w_ih, w_hh, b_ih, b_hh = _operands(inputs, projected)
    y, dy = k.rnn_cell(x, h, w_ih, w_hh, b_ih, b_hh, activation)
    return y, (dy, x, h, w_ih, w_hh)


def _rnn_cell_vjp(k, g, dy, x, h, w_ih, w_hh, needs, activation, projected=False):
    # y = f(x w_ih^T + b_ih + h w_hh^T + b_hh): gz = g f'; gx = gz w_ih, gw_ih = gz^T x, gb = the sum of gz over the batch
    *products, b_ih, b_hh = [bool(n) for n in _operands(needs, projected)]
    gx, gh, gw_ih, gw_hh, gb = k.rnn_cell_vjp(g, dy, x, h, w_ih, w_hh, (*products, b_ih or b_hh))
    if projected:
        return (gx, gh, gw_hh, gb)[: len(needs)]
    return (gx, gh, gw_ih, gw_hh, gb if b_ih else None, gb if b_hh else None)[: len(needs)]


def _rnn_cell_composed(apply, *inputs, activation, projected=False):
    x, h, w_ih, w_hh, b_ih, b_hh = _operands(inputs, projected)
    from_input = x if projected else apply(linear, *[v for v in (x, w_ih, b_ih) if v is not None])
    z = apply(add, from_input, apply(linear, *[v for v in (h, w_hh, b_hh) if v is not None]))
    f = ACTIVATIONS[activation]
    return z if f is None else apply(f, z)


rnn_cell = Op("rnn_cell", _rnn_cell_shape, _rnn_cell_forward, _rnn_cell_vjp, composed=_rnn_cell_composed)


# ---- gates. Kernels take equal rows (B, H); here any number of axes may come before H, and products of gates broadcast


def _alike(arrays):
    """Whether all have one shape."""
    shape = arrays[0].shape
    for x in arrays:  # noqa: SIM110 (a generator costs as much as a small kernel)
        if x.shape != shape:
            return False
    return True


def _on_rows(k, kernel, *arrays):
    """The results of a kernel on rows, in the shape that the arrays have, or broadcast to."""
    if not _alike(arrays):
        shape = broadcast(kernel.__name__, *[x.shape for x in arrays])
        arrays = [k.broadcast_to(x, shape) for x in arrays]
    shape = arrays[0].shape
    if len(shape) == 2:
        return kernel(*arrays)
    rows = (prod(shape[:-1]), shape[-1]) if shape else (1, 1)
    out = kernel(*[k.reshape(x, rows) for x in arrays])
    return tuple([k.reshape(y, shape) for y in out]) if isinstance(out, tuple) else k.reshape(out, shape)


def _vjp_on_rows(k, kernel, g, inputs, needs):
    """The cotangents that a kernel makes of g and the inputs, where they are needed, each summed back to its input's shape."""
    cotangents = _on_rows(k, kernel, g, *inputs)
    if False not in needs and _alike(inputs) and inputs[0].shape == g.shape:
        return cotangents
    pairs = zip(cotangents, inputs, needs, strict=True)
    return tuple([k.sum_to(gx, x.shape) if need else None for gx, x, need in pairs])


def _lstm_gates_shape(z):
    if not z or z[-1] % 4:
        raise ShapeError(f"lstm_gates: pre-activations {z}; expected (..., 4 H)")
    return z


def _lstm_gates_forward(k, z):
    y, dy = _on_rows(k, k.lstm_gates, z)
    return y, (dy,)


def _lstm_gates_vjp(k, g, dy, needs):
    return (k.mul(g, dy),)


def _lstm_gates_composed(apply, z):
    hidden, (*before, _) = z.shape[-1] // 4, z.shape
    parts = [apply(index, z, index=(..., slice(n * hidden, (n + 1) * hidden))) for n in range(4)]
    gates = [apply(f, part) for f, part in zip((sigmoid, sigmoid, tanh, sigmoid), parts, strict=True)]
    return apply(concatenate, *gates, axis=len(before))


def _lstm_state_shape(i, f, g, c):
    return broadcast("lstm_state", i, f, g, c)


def _lstm_state_forward(k, i, f, g, c):
    return _on_rows(k, k.lstm_state, i, f, g, c), (i, f, g, c)


def _lstm_state_vjp(k, gy, i, f, g, c, needs):
    return _vjp_on_rows(k, k.lstm_state_vjp, gy, (i, f, g, c), needs)


def _lstm_state_composed(apply, i, f, g, c):
    return apply(add, apply(mul, f, c), apply(mul, i, g))


def _addcmul_shape(x, a, b):
    return broadcast("addcmul", x, a, b)


def _addcmul_forward(k, x, a, b):
    return _on_rows(k, k.addcmul, x, a, b), (x.shape, a, b)


def _addcmul_vjp(k, g, x_shape, a, b, needs):
    gx = (g if g.shape == x_shape else k.sum_to(g, x_shape)) if needs[0] else None
    return (gx, *_vjp_on_rows(k, k.addcmul_vjp, g, (a, b), needs[1:]))


def _addcmul_composed(apply, x, a, b):
    return apply(add, x, apply(mul, a, b))


def _lerp_shape(a, b, w):
    return broadcast("lerp", a, b, w)


def _lerp_forward(k, a, b, w):
    return _on_rows(k, k.lerp, a, b, w), (a, b, w)


def _lerp_vjp(k, g, a, b, w, needs):
    return _vjp_on_rows(k, k.lerp_vjp, g, (a, b, w), needs)


def _lerp_composed(apply, a, b, w):
    return apply(add, apply(sub, a, apply(mul, w, a)), apply(mul, w, b))


lstm_gates = Op(
    "lstm_gates", _lstm_gates_shape, _lstm_gates_forward, _lstm_gates_vjp, kind="activation", composed=_lstm_gates_composed
)
lstm_state = Op(
    "lstm_state", _lstm_state_shape, _lstm_state_forward, _lstm_state_vjp, kind="gates", composed=_lstm_state_composed
)
addcmul = Op("addcmul", _addcmul_shape, _addcmul_forward, _addcmul_vjp, kind="gates", composed=_addcmul_composed)
lerp = Op("lerp", _lerp_shape, _lerp_forward, _lerp_vjp, kind="gates", composed=_lerp_composed)
