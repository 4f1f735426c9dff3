"""Steps of recurrent nets as one op each. `composed` is the same in the ops it stands for: what a fused rule has to equal, and
what to record where every node in between is to be read."""

from .linear import linear
from .op import Op, ShapeError
from .pointwise import add, relu, sigmoid, tanh

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
