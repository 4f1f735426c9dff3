"""The same function written in several ways: what is said of a net is a property of the function, not of the lines.

SPELLINGS[family][spelling] is a function () -> model; all models of a family compute the same numbers from the same inputs, and
hold the same values in parameters of their own."""

import numpy as np
from net_models import Loop, Tower, orthogonal

import tinygrad_rnn as tr

HIDDEN, FEATURES, LEAK = 6, 3, 0.2


def values(gates=1, seed=0):
    """weight_ih, weight_hh, bias_ih and bias_hh of one cell."""
    rng = np.random.default_rng(seed)
    rows = gates * HIDDEN
    return {
        "w_ih": rng.standard_normal((rows, FEATURES)) * 0.5,
        "w_hh": rng.standard_normal((rows, HIDDEN)) / np.sqrt(HIDDEN),
        "b_ih": rng.standard_normal(rows) * 0.3,
        "b_hh": rng.standard_normal(rows) * 0.3,
    }


def packaged(make, gates):
    """A net of the package with those values."""

    def model():
        net = make(FEATURES, HIDDEN, dtype="float64")
        for name, value in values(gates).items():
            kind = {"w": "weight", "b": "bias"}[name[0]]
            getattr(net, f"{kind}_{name[2:]}_l0").value[...] = value
        return net

    return model


def padded(make, gates):
    """The same with lengths, which are those of the whole sequences."""
    return lambda: AllSteps(packaged(make, gates)())


class AllSteps(tr.nn.Module):
    """The last state h_n of a net that is told that every sequence has as many steps as the batch."""

    def __init__(self, net):
        self.net = net

    def forward(self, x):
        _, state = self.net(x, lengths=np.full(x.shape[1], len(x)))
        return state[0] if isinstance(state, tuple) else state


def looped(step, gates, states=1, pieces=None):
    """A Loop over `step` with those values; pieces(values) -> other parameters, unless None."""

    def model():
        start = tuple(np.zeros(HIDDEN) for _ in range(states))
        parameters = values(gates) if pieces is None else pieces(values(gates))
        return Loop(step, start if states > 1 else start[0], **parameters)

    return model


def both(net, x, h):
    return tr.linear(x, net.w_ih, net.b_ih) + tr.linear(h, net.w_hh, net.b_hh)


# ---- a leaky net


def phi(net, x, h):
    return tr.tanh(both(net, x, h))


def lines_swapped(net, t, x, h):
    new = phi(net, x, h) * LEAK
    old = h * (1 - LEAK)
    return new + old


def lines_as_read(net, t, x, h):
    old = h * (1 - LEAK)
    new = phi(net, x, h) * LEAK
    return old + new


def weights_scaled(net, t, x, h):
    return h - LEAK * h + LEAK * tr.tanh(x @ net.w_ih.T + h @ net.w_hh.T + (net.b_ih + net.b_hh))


LEAKY = {
    "nn.LeakyRNN": packaged(lambda *a, **k: tr.nn.LeakyRNN(*a, leak=LEAK, **k), 1),
    "(1-a) h + a phi": looped(lines_as_read, 1),
    "a phi + (1-a) h": looped(lines_swapped, 1),
    "h + a (phi - h)": looped(lambda net, t, x, h: h + LEAK * (phi(net, x, h) - h), 1),
    "h - a h + a phi": looped(weights_scaled, 1),
    "nn.LeakyRNN, lengths": padded(lambda *a, **k: tr.nn.LeakyRNN(*a, leak=LEAK, **k), 1),
    "lerp": looped(lambda net, t, x, h: tr.lerp(phi(net, x, h), h, np.full(h.shape, 1 - LEAK)), 1),
    "lerp by a number": looped(lambda net, t, x, h: tr.lerp(phi(net, x, h), h, 1 - LEAK), 1),
    "lerp by a row": looped(lambda net, t, x, h: tr.lerp(h, phi(net, x, h), np.full(HIDDEN, LEAK)), 1),
    "addcmul by a number": looped(lambda net, t, x, h: tr.addcmul(h * (1 - LEAK), phi(net, x, h), 1.0, value=LEAK), 1),
    "a state of gates that are numbers": looped(lambda net, t, x, h: tr.lstm_state(LEAK, 1 - LEAK, phi(net, x, h), h), 1),
    "lerp the other way": looped(lambda net, t, x, h: tr.lerp(h, phi(net, x, h), np.full(h.shape, LEAK)), 1),
    "arrays of constants": looped(lambda net, t, x, h: np.full(HIDDEN, 1 - LEAK) * h + np.full((1, HIDDEN), LEAK) * phi(net, x, h), 1),
    "a common factor": looped(lambda net, t, x, h: (h * ((1 - LEAK) / LEAK) + phi(net, x, h)) * LEAK, 1),
    "a division": looped(lambda net, t, x, h: (h * 4.0 + phi(net, x, h)) / 5.0, 1),
}  # fmt: skip


# ---- an LSTM, gates in the order i, f, g, o


def split(z, n):
    return [z[:, k * HIDDEN : (k + 1) * HIDDEN] for k in range(n)]


def lstm_of_ops(net, t, x, state):
    h, c = state
    i, f, g, o = split(both(net, x, h), 4)
    c = tr.sigmoid(f) * c + tr.sigmoid(i) * tr.tanh(g)
    return tr.sigmoid(o) * tr.tanh(c), c


def lstm_with_one_sigmoid(net, t, x, state):
    h, c = state
    z = both(net, x, h)
    i, f, o = split(tr.sigmoid(z[:, : 3 * HIDDEN]), 3)
    c = i * tr.tanh(z[:, 3 * HIDDEN :]) + c * f
    return tr.tanh(c) * o, c


def lstm_of_four(net, t, x, state):
    h, c = state
    i, f, g, o = (
        tr.linear(x, getattr(net, f"x_{k}"), getattr(net, f"b_{k}")) + tr.linear(h, getattr(net, f"h_{k}")) for k in "ifgo"
    )
    c = tr.sigmoid(f) * c + tr.sigmoid(i) * tr.tanh(g)
    return tr.sigmoid(o) * tr.tanh(c), c


def lstm_concatenated(net, t, x, state):
    h, c = state
    i, f, g, o = split(tr.concatenate([x, h], 1) @ net.w.T + net.b, 4)
    i, f, o = tr.sigmoid(i), tr.sigmoid(f), tr.sigmoid(o)
    c = tr.lstm_state(i, f, tr.tanh(g), c)
    return o * tr.tanh(c), c


def lstm_in_one_array(net, t, x, state):
    """The state is h and c side by side, (B, 2 H)."""
    h, c = lstm_of_ops(net, t, x, tuple(split(state, 2)))
    return tr.concatenate([h, c], 1)


def four_matrices(v):
    parts = {k: slice(n * HIDDEN, (n + 1) * HIDDEN) for n, k in enumerate("ifgo")}
    named = {}
    for k, rows in parts.items():
        named |= {f"x_{k}": v["w_ih"][rows], f"h_{k}": v["w_hh"][rows], f"b_{k}": (v["b_ih"] + v["b_hh"])[rows]}
    return named


def sigmoids_first(v):
    order = np.concatenate([np.arange(k * HIDDEN, (k + 1) * HIDDEN) for k in (0, 1, 3, 2)])
    return {name: value[order] for name, value in v.items()}


def side_by_side(v):
    return {"w": np.concatenate([v["w_ih"], v["w_hh"]], axis=1), "b": v["b_ih"] + v["b_hh"]}


class FirstHalf(tr.nn.Module):
    """The first HIDDEN entries of what a net returns."""

    def __init__(self, net):
        self.net = net

    def forward(self, x):
        return self.net(x)[..., :HIDDEN]


LSTMS = {
    "nn.LSTM": packaged(tr.nn.LSTM, 4),
    "nn.LSTM, lengths": padded(tr.nn.LSTM, 4),
    "single ops": looped(lstm_of_ops, 4, 2),
    "one sigmoid over three gates": looped(lstm_with_one_sigmoid, 4, 2, sigmoids_first),
    "four matrices": looped(lstm_of_four, 4, 2, four_matrices),
    "h and c in one array": lambda: FirstHalf(Loop(lstm_in_one_array, np.zeros(2 * HIDDEN), **values(4))),
    "one matrix over input and state": looped(lstm_concatenated, 4, 2, side_by_side),
}


# ---- a GRU, gates in the order r, z, n


def gru_gates(net, x, h):
    from_x, from_h = split(tr.linear(x, net.w_ih, net.b_ih), 3), split(tr.linear(h, net.w_hh, net.b_hh), 3)
    r, z = tr.sigmoid(from_x[0] + from_h[0]), tr.sigmoid(from_x[1] + from_h[1])
    return z, tr.tanh(from_x[2] + r * from_h[2])


def gru_spelled(join):
    def step(net, t, x, h):
        z, n = gru_gates(net, x, h)
        return join(z, n, h)

    return looped(step, 3)


def gru_gate_by_gate(net, t, x, h):
    rows = [slice(k * HIDDEN, (k + 1) * HIDDEN) for k in range(3)]
    r, z = (tr.sigmoid(tr.linear(x, net.w_ih[k], net.b_ih[k]) + tr.linear(h, net.w_hh[k], net.b_hh[k])) for k in rows[:2])
    inner = tr.linear(h, net.w_hh[rows[2]], net.b_hh[rows[2]])
    n = tr.tanh(tr.linear(x, net.w_ih[rows[2]], net.b_ih[rows[2]]) + inner * r)
    return h * z - n * z + n


GRUS = {
    "nn.GRU": packaged(tr.nn.GRU, 3),
    "nn.GRU, lengths": padded(tr.nn.GRU, 3),
    "n + z (h - n)": gru_spelled(lambda z, n, h: n + z * (h - n)),
    "z h + (1-z) n": gru_spelled(lambda z, n, h: z * h + (1 - z) * n),
    "h + (1-z) (n - h)": gru_spelled(lambda z, n, h: h + (1 - z) * (n - h)),
    "gate by gate": looped(gru_gate_by_gate, 3),
    "n - z n + z h": gru_spelled(lambda z, n, h: n - z * n + z * h),
}


# ---- a plain RNN

RNNS = {
    "nn.RNN": packaged(tr.nn.RNN, 1),
    "nn.RNN, lengths": padded(tr.nn.RNN, 1),
    "two products": looped(lambda net, t, x, h: tr.tanh(x @ net.w_ih.T + net.b_ih + h @ net.w_hh.T + net.b_hh), 1),
    "one product": looped(lambda net, t, x, h: tr.tanh(tr.concatenate([h, x], 1) @ net.w.T + net.b), 1, 1, lambda v: {"w": np.concatenate([v["w_hh"], v["w_ih"]], axis=1), "b": v["b_ih"] + v["b_hh"]}),
    "a product by broadcasting": looped(lambda net, t, x, h: tr.tanh(tr.linear(x, net.w_ih, net.b_ih + net.b_hh) + (tr.reshape(h, (-1, 1, HIDDEN)) * net.w_hh).sum(-1)), 1),
    "a transpose": looped(lambda net, t, x, h: tr.tanh((net.w_ih @ x.T + net.w_hh @ h.T).T + (net.b_ih + net.b_hh)), 1),
    "unit by unit": looped(lambda net, t, x, h: tr.concatenate([tr.tanh(both(net, x, h))[:, k : k + 2] for k in (0, 2, 4)], 1), 1),
    "unrolled": lambda: RNNS["nn.RNN"]().unroll(STEPS),
    "the cell": looped(lambda net, t, x, h: tr.rnn_cell(x, h, net.w_ih, net.w_hh, net.b_ih, net.b_hh), 1),
}  # fmt: skip


# ---- residual towers

SCALE, DEPTH, WIDTH = 0.5, 12, 6


def tower(block, wrap=lambda layer: layer):
    def model():
        rng = np.random.default_rng(0)
        return Tower([wrap(tr.nn.Linear(WIDTH, WIDTH, dtype="float64", seed=rng)) for _ in range(DEPTH)], block)

    return model


def residual(layer):
    return tr.nn.Residual(tr.nn.Sequential(layer, tr.nn.Tanh()), SCALE)


TOWERS = {
    "h + s phi": tower(lambda layer, h: h + tr.tanh(layer(h)) * SCALE),
    "s phi + h": tower(lambda layer, h: SCALE * tr.tanh(h @ layer.weight.T + layer.bias) + h),
    "nn.Residual": tower(lambda layer, h: layer(h), residual),
    "(h / s + phi) s": tower(lambda layer, h: (h / SCALE + tr.tanh(layer(h))) * SCALE),
}


# ---- leaky units that see themselves alone: the same paths through a matrix that is diagonal, and through a vector


def leaky_diagonal(see_oneself):
    def step(net, t, x, h):
        return h * (1 - LEAK) + LEAK * tr.tanh(tr.linear(x, net.w_ih) + see_oneself(net, h))

    return step


def diagonal(v):
    return {"w_ih": v["w_ih"], "u": 3 * v["b_hh"]}


DIAGONAL = {
    "a diagonal matrix": looped(leaky_diagonal(lambda net, h: tr.linear(h, net.u)), 1, 1, lambda v: {"w_ih": v["w_ih"], "u": np.diag(3 * v["b_hh"])}),
    "a vector": looped(leaky_diagonal(lambda net, h: h * net.u), 1, 1, diagonal),
    "a vector first": looped(leaky_diagonal(lambda net, h: net.u * h), 1, 1, diagonal),
    "a matrix made of the vector": looped(leaky_diagonal(lambda net, h: tr.linear(h, net.u * np.eye(HIDDEN))), 1, 1, diagonal),
}  # fmt: skip


# ---- paths of one class that cancel

Q = orthogonal(HIDDEN, 5)


def keeps(net, t, x, h):
    return h * 0.9 + tr.linear(x, net.w_ih)


def keeps_with_a_detour(net, t, x, h):
    around = tr.linear(h, net.q)
    return (h + around - around) * 0.9 + tr.linear(x, net.w_ih)


def keeps_with_two_detours(net, t, x, h):
    return (h + tr.linear(h, net.q) - tr.linear(h, net.q)) * 0.9 + tr.linear(x, net.w_ih)


def with_q(v):
    return {"w_ih": v["w_ih"], "q": Q}


CANCELLED = {
    "h": looped(keeps, 1, 1, lambda v: {"w_ih": v["w_ih"]}),
    "h + Q h - Q h, one product": looped(keeps_with_a_detour, 1, 1, with_q),
    "h + Q h - Q h, two products": looped(keeps_with_two_detours, 1, 1, with_q),
}

STEPS = 15
SPELLINGS = {
    "leaky": LEAKY,
    "LSTM": LSTMS,
    "GRU": GRUS,
    "RNN": RNNS,
    "residual tower": TOWERS,
    "diagonal recurrence": DIAGONAL,
    "paths that cancel": CANCELLED,
}
