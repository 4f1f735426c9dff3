"""Nets over sequences beside what PyTorch's parity shows: leaky and deep-transition ones, dropout between layers, pieces of a
sequence, copies, and wrong use."""

import copy
import pickle

import numpy as np
import pytest

import tinygrad_rnn as tr
from tinygrad_rnn.testing import check_grads

NETS = ["RNN", "LSTM", "GRU", "LeakyRNN"]


def net_of(kind, *sizes, **options):
    return getattr(tr.nn, kind)(*sizes, **{"dtype": "float64", "seed": 0} | options)


def states_of(kind, rng, *shape):
    h, c = rng.standard_normal((2, *shape))
    return (h, c) if kind == "LSTM" else h


def flat(output, state):
    return [x.value for x in (output, *(state if isinstance(state, tuple) else (state,)))]


def gradients_agree(net, *inputs):
    """With a numerical derivative, for the inputs and every parameter."""
    parameters = net.parameters()

    def fn(*arrays):
        old = vars(net).copy()
        names = [name for name, _ in net.named_parameters()]
        vars(net).update(zip(names, arrays[len(inputs) :], strict=True))
        output, state = net(*arrays[: len(inputs)])
        vars(net).update(old)
        return output * 1.0 + state[-1] * 0.5  # of the top layer, at every step

    check_grads(fn, *inputs, *[p.value for p in parameters])


@pytest.mark.parametrize("leak", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
def test_leaky_units(leak, nonlinearity):
    rng = np.random.default_rng(0)
    net = net_of("LeakyRNN", 3, 4, leak=leak, nonlinearity=nonlinearity)
    x, h = rng.standard_normal((6, 2, 3)), rng.standard_normal((1, 2, 4))
    output, last = net(x, h)
    w_ih, w_hh, b_ih, b_hh = [p.value for p in net.parameters()]
    phi = np.tanh if nonlinearity == "tanh" else lambda z: np.maximum(z, 0)
    expected, state = [], h[0]
    for t in range(6):
        state = (1 - leak) * state + leak * phi(x[t] @ w_ih.T + b_ih + state @ w_hh.T + b_hh)
        expected.append(state)
    np.testing.assert_allclose(output.value, expected, atol=1e-14)
    np.testing.assert_allclose(last.value, expected[-1:], atol=1e-14)
    gradients_agree(net_of("LeakyRNN", 3, 4, leak=leak), x, h)
    if leak == 1:
        plain = net_of("RNN", 3, 4, nonlinearity=nonlinearity)
        np.testing.assert_allclose(plain(x, h)[0].value, output.value, atol=1e-14)


@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("bias", [True, False])
def test_deep_transition(depth, bias):
    rng = np.random.default_rng(0)
    net = net_of("DeepTransitionRNN", 3, 4, depth, bias=bias)
    x, h = rng.standard_normal((5, 2, 3)), rng.standard_normal((2, 4))
    output, last = net(x, h)
    p, state, expected = net.state_dict(), h, []
    for t in range(5):
        for layer in range(depth):
            z = state @ p[f"weight_hh_l{layer}"].T + p.get(f"bias_hh_l{layer}", 0)
            state = np.tanh(z + (0 if layer else x[t] @ p["weight_ih_l0"].T + p.get("bias_ih_l0", 0)))
        expected.append(state)
    np.testing.assert_allclose(output.value, expected, atol=1e-14)
    np.testing.assert_array_equal(last.value, output.value[-1])
    gradients_agree(net, x, h)
    rows = net_of("DeepTransitionRNN", 3, 4, depth, bias=bias, batch_first=True)
    np.testing.assert_array_equal(rows(x.transpose(1, 0, 2), h)[0].value, output.value.transpose(1, 0, 2))
    alone = net(x[:, 1], h[1])
    np.testing.assert_allclose(alone[0].value, output.value[:, 1], atol=1e-14)
    np.testing.assert_array_equal(net(x)[0].value, net(x, np.zeros((2, 4)))[0].value)
    graph = tr.trace(net, x, loss=lambda y: y[-1].sum())
    assert [graph[layer, 4, "h"].value.shape for layer in range(depth)] == [(2, 4)] * depth


@pytest.mark.parametrize("kind", NETS)
@pytest.mark.parametrize("bidirectional", [False, True])
def test_dropout_between_layers(kind, bidirectional):
    """The output of every layer but the last, while training: as layers of their own with dropout between them."""
    rng, sides = np.random.default_rng(0), 2 if bidirectional else 1
    net = net_of(kind, 3, 4, 3, dropout=0.4, bidirectional=bidirectional)
    layers = [net_of(kind, 4 * sides if n else 3, 4, bidirectional=bidirectional) for n in range(3)]
    for n, layer in enumerate(layers):
        layer.load_state_dict({k: net.state_dict()[k.replace("_l0", f"_l{n}")] for k in layer.state_dict()})
    x = rng.standard_normal((5, 2, 3))
    for training in (True, False, True):
        net.train(training)
        generator, below = copy.deepcopy(net.generator), tr.Tensor(x)
        for n, layer in enumerate(layers):
            if n and training:
                below = tr.stack([tr.dropout(h, 0.4, generator=generator) for h in below])
            below = layer(below)[0]
        output, _ = net(x)
        np.testing.assert_allclose(output.value, below.value, atol=1e-14)
        assert np.array_equal(net.generator.state, generator.state)
        assert np.all(output.value != 0)
    one = net_of(kind, 3, 4, dropout=0.4)  # has no layer but the last
    np.testing.assert_array_equal(one(x)[0].value, net_of(kind, 3, 4)(x)[0].value)


@pytest.mark.parametrize("kind", NETS)
@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_sequence_that_ends_is_as_if_alone(kind, bidirectional):
    rng = np.random.default_rng(1)
    net = net_of(kind, 3, 4, 2, bidirectional=bidirectional)
    lengths, x = np.array([4, 1, 6, 3]), rng.standard_normal((6, 4, 3))
    state = states_of(kind, rng, 4 if bidirectional else 2, 4, 4)
    for b, length in enumerate(lengths):
        x[length:, b] = np.nan
    output, last = net(x, state, lengths=lengths)
    for b, length in enumerate(lengths):
        own = tuple(s[:, b : b + 1] for s in state) if kind == "LSTM" else state[:, b : b + 1]
        alone, alone_last = flat(*net(x[:length, b : b + 1], own)), flat(output, last)
        np.testing.assert_allclose(output.value[:length, b], alone[0][:, 0], atol=1e-14)
        assert not output.value[length:, b].any()
        for mine, theirs in zip(alone_last[1:], alone[1:], strict=True):
            np.testing.assert_allclose(mine[:, b], theirs[:, 0], atol=1e-14)


@pytest.mark.parametrize("kind", [*NETS, "DeepTransitionRNN"])
@pytest.mark.parametrize("layout", ["time first", "batch first", "no batch"])
def test_pieces_of_a_sequence(kind, layout):
    """Values as of the whole, gradients as of each piece from a state that is a constant."""
    rng, first = np.random.default_rng(2), layout == "batch first"
    net = net_of(kind, 3, 4, 2, batch_first=first)
    x = rng.standard_normal({"time first": (7, 2, 3), "batch first": (2, 7, 3), "no batch": (7, 3)}[layout])
    whole, whole_last = net(x)
    outputs, gradients, states = [], [], []
    for output, state in tr.nn.truncated(net, x, 3):
        net.zero_grad()
        (output * output).sum().backward()
        outputs.append(output.value)
        gradients.append([p.grad for p in net.parameters()])
        states.append(state)
    axis = 1 if first else 0
    assert [o.shape[axis] for o in outputs] == [3, 3, 1]
    np.testing.assert_allclose(np.concatenate(outputs, axis), whole.value, atol=1e-14)
    for mine, theirs in zip(flat(whole, states[-1]), flat(whole, whole_last), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-14)
    constant = tuple(s.value for s in states[0]) if kind == "LSTM" else states[0].value
    net.zero_grad()
    output, _ = net(x[:, 3:6] if first else x[3:6], constant)
    (output * output).sum().backward()
    for mine, p in zip(gradients[1], net.parameters(), strict=True):
        np.testing.assert_allclose(mine, p.grad, atol=1e-13)
    resumed = next(tr.nn.truncated(net, x[:, 3:] if first else x[3:], 3, constant))[0]
    np.testing.assert_allclose(resumed.value, outputs[1], atol=1e-14)


@pytest.mark.parametrize("kind", NETS)
def test_copies_go_on_by_themselves(kind):
    net = net_of(kind, 3, 4, 2, dropout=0.5)
    x = np.random.default_rng(3).standard_normal((5, 2, 3))
    net(x)
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        expected = copy.deepcopy(net)(x)[0].value
        np.testing.assert_array_equal(other(x)[0].value, expected)
        assert not np.array_equal(other(x)[0].value, expected)  # it has drawn on, the net has not
        other.weight_hh_l0.value[...] = 0
        other.eval()
        assert net.training and net.weight_hh_l0.value.any()


X, H = np.zeros((4, 2, 3), np.float32), np.zeros((1, 2, 5), np.float32)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: tr.nn.LSTM(3, 5, dropout=1.5), ValueError, "dropout must be a probability in 0..1, got 1.5"),
        (lambda: tr.nn.GRU(3, 5, 0), ValueError, "num_layers must be a positive integer"),
        (lambda: tr.nn.LSTM(3, 5)(None), TypeError, "LSTM: the input: .*float32 or float64, got object"),
        (lambda: tr.nn.LSTM(3, 5, batch_first=True)(X[..., :2]), tr.ShapeError, r"LSTM: .* \(B, T, 3\) or .*, got \(4, 2, 2\)"),
        (lambda: tr.nn.GRU(3, 5, batch_first=True)(X[:, :0]), tr.ShapeError, r"GRU: .* one step, got an input \(4, 0, 3\)"),
        (lambda: tr.nn.GRU(3, 5)([]), tr.ShapeError, r"GRU: expected an input .*, got \(0,\)"),
        (lambda: tr.nn.LSTM(3, 5)(X, H), tr.ShapeError, r"LSTM: expected an initial state h_0 and c_0 of shape \(1, 2, 5\)"),
        (lambda: tr.nn.LSTM(3, 5, 2)(X, (H, H)), tr.ShapeError, r"LSTM: .* \(2, 2, 5\), got \(1, 2, 5\), \(1, 2, 5\)"),
        (lambda: tr.nn.GRU(3, 5)(X, (H, H)), tr.ShapeError, "GRU: expected an initial state h_0 of shape"),
        (lambda: tr.nn.GRU(3, 5, bidirectional=True)(X, H), tr.ShapeError, r"GRU: .* h_0 of shape \(2, 2, 5\)"),
        (lambda: tr.nn.LSTM(3, 5)(X, (H, None)), TypeError, "LSTM: the state: "),
        (lambda: tr.nn.LSTM(3, 5)(X, (H, H.astype("f8"))), TypeError, "lstm_state: dtypes do not mix.*layer=0, t=0"),
        (lambda: tr.nn.LSTM(3, 5)(X, lengths=[1.0, 2.0]), tr.ShapeError, r"LSTM: expected integer lengths of shape \(2,\)"),
        (lambda: tr.nn.LSTM(3, 5)(X, lengths=[1]), tr.ShapeError, r"LSTM: expected integer lengths of shape \(2,\)"),
        (lambda: tr.nn.GRU(3, 5)(X, lengths=[0, 4]), ValueError, r"GRU: lengths must lie in 1..4, got 0..4"),
        (lambda: tr.nn.GRU(3, 5)(X, lengths=[1, 5]), ValueError, r"GRU: lengths must lie in 1..4, got 1..5"),
        (lambda: tr.nn.GRU(3, 5)(X[:, 0], lengths=[1]), tr.ShapeError, "GRU: lengths are for a batch"),
        (lambda: tr.nn.LSTMCell(3, 5)(X[0], H[0]), tr.ShapeError, r"LSTMCell: expected states h, c of shape \(2, 5\)"),
        (lambda: tr.nn.GRUCell(3, 5)(X), tr.ShapeError, r"GRUCell: expected an input \(batch, 3\)"),
        (lambda: tr.nn.GRUCell(3, 5)(None), TypeError, "GRUCell: the input: "),
        (lambda: tr.nn.LeakyRNN(3, 5, leak=1.5), ValueError, "leak must lie in 0..1, got 1.5"),
        (lambda: tr.nn.LeakyRNN(3, 5).unroll(4), TypeError, "only the plain RNN unrolls"),
        (lambda: tr.nn.RNN(3, 5, bidirectional=True).unroll(4), ValueError, "two directions"),
        (lambda: tr.nn.DeepTransitionRNN(3, 5, 0), ValueError, "depth must be a positive integer"),
        (lambda: tr.nn.DeepTransitionRNN(3, 5, 2)(X, H), tr.ShapeError, r"h_0 of shape \(2, 5\), got \(1, 2, 5\)"),
        (lambda: tr.nn.DeepTransitionRNN(3, 5, 2)(X, [H[0]] * 2), tr.ShapeError, r"h_0 of shape \(2, 5\), got \(2, 2, 5\)"),
        (lambda: next(tr.nn.truncated(tr.nn.GRU(3, 5), X, 0)), ValueError, "steps must be a positive integer"),
        (lambda: next(tr.nn.truncated(tr.nn.GRU(3, 5, bidirectional=True), X, 2)), ValueError, "truncated: GRU runs backwards"),
    ],
)
def test_wrong_use_is_told_plainly(call, error, message):
    with pytest.raises(error, match=message):
        call()
