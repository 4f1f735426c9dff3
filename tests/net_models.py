"""Models and losses that the table of nets is built of: loops and towers as a user writes them, known cells, reads of a result."""

from contextlib import nullcontext

import numpy as np

import tinygrad_rnn as tr


def series(steps, batch=4, features=3, scale=1.0, seed=0, dtype="float64"):
    """Gaussian inputs (steps, batch, features)."""
    return (scale * np.random.default_rng(seed).standard_normal((steps, batch, features))).astype(dtype)


def orthogonal(n, seed=0, gain=1.0):
    """A Haar-distributed orthogonal matrix (n, n), times gain."""
    q, r = np.linalg.qr(np.random.default_rng(seed).standard_normal((n, n)))
    return gain * q * np.where(np.diag(r) < 0, -1.0, 1.0)


def logit(p):
    return np.log(p / (1 - p))


# ---- losses of an output (T, B, H)


def last(y):
    return y[-1].sum()


def last_unit(y):
    """The first unit of the last step, for nets in which the sum over units is a special direction."""
    return y[-1][..., 0].sum()


def mean_pooled(y):
    return y.mean(0).sum()


def every_step(y):
    return (y * y).sum() * 0.5


def attention_pooled(y):
    """A weighted mean over steps, the weights being a softmax of a fixed projection of the states themselves."""
    query = np.cos(np.arange(y.shape[-1]) + 1.0)
    scores = (y * query).sum(-1)
    weights = tr.softmax(scores, 0)
    return (y * tr.reshape(weights, (*weights.shape, 1))).sum()


def at_step(t):
    return lambda y: y[t].sum()


def total(y):
    return y.sum()


# ---- what a loss reads


class Reads(tr.nn.Module):
    """A net, and the part of its result that goes into the loss: pick(net(x, **options)).

    start   a number that every entry of the first state has; zero, the net's own, where None"""

    def __init__(self, net, pick, start=None, **options):
        self.net, self._pick, self._start, self._options = net, pick, start, options

    def forward(self, x):
        if self._start is None:
            return self._pick(self.net(x, **self._options))
        state = np.full((self.net.num_layers, x.shape[1], self.net.hidden_size), self._start)
        return self._pick(self.net(x, state, **self._options))


def c_n(result):
    return result[1][1]


def h_n(result):
    state = result[1]
    return state[0] if isinstance(state, tuple) else state


def both_ends(result):
    """Of two directions, each one's state after its last step."""
    output = result[0]
    hidden = output.shape[-1] // 2
    return tr.concatenate([output[-1, :, :hidden], output[0, :, hidden:]], -1)


# ---- loops and towers as users write them


class Loop(tr.nn.Module):
    """A loop over time: state = step(net, t, x_t, state), with `parameters` as attributes of net.

    start    the first state, an array (H,) or a tuple of them
    scoped   whether each step is recorded at (layer 0, t), as a careful user has it
    returns  (T, B, H), the first state of every step"""

    def __init__(self, step, start, scoped=True, **parameters):
        self._step, self._start, self._scoped = step, start, scoped
        for name, value in parameters.items():
            setattr(self, name, value if isinstance(value, tr.nn.Module) else tr.nn.Parameter(np.array(value, np.float64)))

    def forward(self, x):
        several = isinstance(self._start, tuple)
        state = tuple(tr.Tensor(np.tile(s, (x.shape[1], 1))) for s in (self._start if several else (self._start,)))
        outputs = []
        for t in range(len(x)):
            with tr.scope(layer=0, t=t) if self._scoped else nullcontext():
                new = self._step(self, t, x[t], state if several else state[0])
                state = new if several else (new,)
                for name, s in zip("hcde", state, strict=False):
                    if s.op is not None:
                        s.name = name
            outputs.append(state[0])
        return tr.stack(outputs)


class Tower(tr.nn.Module):
    """Layers one after the other: h = block(layer, h), with a scope each or without."""

    def __init__(self, layers, block=lambda layer, h: layer(h), scoped=True):
        self.layers, self._block, self._scoped = layers, block, scoped

    def forward(self, h):
        for i, layer in enumerate(self.layers):
            with tr.scope(layer=i) if self._scoped else nullcontext():
                h = self._block(layer, h)
                h.name = "h"
        return h


def linears(depth, width, seed=0, init="default", **options):
    rng = np.random.default_rng(seed)
    return [tr.nn.Linear(width, width, dtype="float64", init=init, seed=rng, **options) for _ in range(depth)]


# ---- nets of the package with parameters set by hand


def rnn(hidden=16, features=3, layers=1, seed=0, w=None, **options):
    """nn.RNN in float64; w, if given, is written into weight_hh_l0."""
    net = tr.nn.RNN(features, hidden, layers, dtype=options.pop("dtype", "float64"), seed=seed, **options)
    if w is not None:
        net.weight_hh_l0.value[...] = w
    return net


def linear_rnn(w, features=3, **options):
    """h' = W h + W_ih x."""
    return rnn(len(w), features, w=w, nonlinearity="identity", bias=False, **options)


def lstm(hidden=8, features=3, layers=1, seed=0, **options):
    return tr.nn.LSTM(features, hidden, layers, dtype="float64", seed=seed, **options)


def gru(hidden=8, features=3, layers=1, seed=0, **options):
    return tr.nn.GRU(features, hidden, layers, dtype="float64", seed=seed, **options)


def lstm_of_gates(f, hidden=8, o=0.5):
    """An LSTM without recurrent weights whose gates are f, o and 1/2 at every step, and whose cells stay at 0."""
    net = lstm(hidden)
    for p in net.parameters():
        p.value[...] = 0
    net.bias_ih_l0.value[hidden : 2 * hidden] = logit(f)
    net.bias_ih_l0.value[3 * hidden :] = logit(o)
    return net


def gru_of_gates(z, hidden=8):
    """A GRU without recurrent weights whose update gate, the share of the state that it keeps, is z at every step."""
    net = gru(hidden)
    for p in net.parameters():
        p.value[...] = 0
    net.weight_ih_l0.value[2 * hidden :] = np.random.default_rng(0).standard_normal((hidden, 3))
    net.bias_ih_l0.value[hidden : 2 * hidden] = logit(z)
    return net


def with_bias(net, name, gate, value):
    """The net with `value` added to the bias `name` of one gate (its number in the order of the cell)."""
    hidden = net.hidden_size
    getattr(net, name).value[gate * hidden : (gate + 1) * hidden] += value
    return net


def half_sigmoid_rnn(hidden=8):
    """A sigmoid RNN with an orthogonal matrix in which every pre-activation is 0, so that phi' = 1/4, for states of 1/2."""
    net = rnn(hidden, w=orthogonal(hidden), nonlinearity="sigmoid")
    net.weight_ih_l0.value[...] = 0
    net.bias_ih_l0.value[...] = -net.weight_hh_l0.value.sum(1) / 2
    net.bias_hh_l0.value[...] = 0
    return net


def relu_switch(hidden=2):
    """A relu RNN h' = relu(h + x), all of whose units are on while x is large and off while it is below -h."""
    net = rnn(hidden, 1, nonlinearity="relu", bias=False, w=np.eye(hidden))
    net.weight_ih_l0.value[...] = 1
    return net


# ---- steps for Loop: (net, t, x, state) -> state


def tanh_step(net, t, x, h):
    return tr.tanh(tr.linear(x, net.w_ih) + tr.linear(h, net.w_hh))


def linear_step(net, t, x, h):
    return tr.linear(x, net.w_ih) + tr.linear(h, net.w_hh)


def lstm_step(net, t, x, state):
    """An LSTM in four matrices for the input and four for the state, forget bias 0."""
    h, c = state
    i, f, o = (tr.sigmoid(getattr(net, f"x_{k}")(x) + getattr(net, f"h_{k}")(h)) for k in "ifo")
    g = tr.tanh(net.x_g(x) + net.h_g(h))
    c = f * c + i * g
    return o * tr.tanh(c), c


def gru_step(net, t, x, h):
    r, z = (tr.sigmoid(getattr(net, f"x_{k}")(x) + getattr(net, f"h_{k}")(h)) for k in "rz")
    n = tr.tanh(net.x_n(x) + r * net.h_n(h))
    return (1 - z) * n + z * h


def gates(names, hidden=8, features=3):
    """Linear layers x_k and h_k for the gates k of a user's cell, with PyTorch's bounds."""
    rng = np.random.default_rng(0)
    draw = tr.nn.init.uniform(-1 / np.sqrt(hidden), 1 / np.sqrt(hidden))
    return {
        f"{side}_{k}": tr.nn.Linear(size, hidden, init=draw, dtype="float64", seed=rng)
        for k in names
        for side, size in (("x", features), ("h", hidden))
    }


def loop(step, hidden=8, features=3, w_hh=None, scoped=True, start=0.0, **parameters):
    """A Loop with w_ih (H, I) of size 0.3 and w_hh (H, H), orthogonal unless given."""
    w_ih = 0.3 * np.random.default_rng(1).standard_normal((hidden, features))
    w_hh = orthogonal(hidden) if w_hh is None else w_hh
    return Loop(step, np.full(hidden, start), scoped, w_ih=w_ih, w_hh=w_hh, **parameters)


def cut_before(t_cut, cut, step=linear_step):
    """A step that hands its state through `cut` at step t_cut, before anything is computed from it."""

    def cutting(net, t, x, h):
        return step(net, t, x, cut(h) if t == t_cut else h)

    return cutting


def detached(h):
    return h.detach()


def rebuilt(h):
    """The state as a new tensor of the same numbers, as code that goes through numpy has it."""
    return tr.Tensor(h.value.copy())


def without_gradients(h):
    with tr.no_grad():
        return h * 1.0


class TwoNets(tr.nn.Module):
    """Two nets, joined by a function of both and the input."""

    def __init__(self, first, second, join):
        self.first, self.second, self._join = first, second, join

    def forward(self, x):
        return self._join(self.first, self.second, x)


class Pieces(tr.nn.Module):
    """Truncated backpropagation: the output of every piece of `steps` steps, all pieces side by side again."""

    def __init__(self, net, steps):
        self.net, self._steps = net, steps

    def forward(self, x):
        return tr.concatenate([output for output, _ in tr.nn.truncated(self.net, x, self._steps)])
