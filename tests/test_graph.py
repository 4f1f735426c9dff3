"""Reading a graph: addresses, edges, paths, comparison, text; and the snapshot that it is."""

import threading
from itertools import product
from math import comb

import numpy as np
import pytest

import tinygrad_rnn as tr


def last_sum(output):
    return output[-1].sum()


@pytest.fixture
def rnn():
    return tr.nn.RNN(3, 4, 2, dtype="float64", seed=0)


@pytest.fixture
def x():
    return np.random.default_rng(0).standard_normal((6, 2, 3))


@pytest.fixture
def graph(rnn, x):
    return tr.trace(rnn, x, loss=last_sum)


def test_nodes_are_found_by_address(graph, rnn, x):
    node = graph[0, 3, "tanh"]
    assert (node.op, node.name, node.layer, node.t, node.shape) == ("tanh", "h", 0, 3, (2, 4))
    assert node == graph[0, 3, "h"]
    assert [n.op for n in node.inputs] == ["add"]
    assert {n.address for n in node.outputs} == {(0, 4), (1, 3)}
    assert [n.t for n in graph[1, 2:5, "h"]] == [2, 3, 4]
    assert graph[1, -1, "h"].t == 5
    assert graph[-1, ::2, "h"].value.shape == (3, 2, 4)
    assert len(graph[0, 3, "linear"]) == 2
    assert len(graph[0, 3]) == 4
    assert len(graph[:, 3]) == 9  # and the index that reads x[3], which has no layer
    assert len(graph[None, 3]) == 1
    assert len(graph["tanh"]) == 12
    assert graph["weight_hh_l1"].value.shape == (4, 4)
    assert graph["weight_hh_l1"].address == (1, None)
    np.testing.assert_array_equal(graph["x"].value, x)
    np.testing.assert_array_equal(graph[1, :, "h"].value, rnn(x)[0].value)
    assert graph[0, 3, "h"] != tr.trace(rnn, x, loss=last_sum)[0, 3, "h"]
    assert len({graph[0, 3, "h"], graph[0, 3, "tanh"]}) == 1


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ((0, 9, "tanh"), r"layers run over 0\.\.1 and steps over 0\.\.5"),
        ((0, 3, "relu"), "no node is called 'relu'; this graph has .*tanh"),
        ("weight", "no node is called 'weight'"),
        ((0, 1, "tanh", 2), "at most three"),
        ((0, 1, 2), "name of an op"),
    ],
)
def test_what_is_not_there_is_told(graph, key, message):
    with pytest.raises(KeyError, match=message):
        graph[key]


COORDINATES = [None, 0, 1, -1, -9, 9, np.int64(1), slice(None), slice(1, 3), slice(None, None, 2), slice(4, 0, -2), slice(3, 3)]


def test_keys_mean_what_a_search_through_all_nodes_finds(graph):
    def agrees(key, coordinate, size):
        if isinstance(key, slice):
            return key == slice(None) or (coordinate is not None and coordinate in range(*key.indices(size)))
        return coordinate == (key + size if key is not None and key < 0 else key)

    for layer, t, what in product(COORDINATES, COORDINATES, [slice(None), "h", "tanh", "linear", "index", "weight_hh_l0"]):
        expected = [
            n
            for n in graph
            if agrees(layer, n.layer, graph.layers) and agrees(t, n.t, graph.steps) and what in (slice(None), n.op, n.name)
        ]
        if not expected:
            with pytest.raises(KeyError, match="no node at"):
                graph[layer, t, what]
            continue
        found = graph[layer, t, what]
        assert (found if isinstance(found, list) else [found]) == expected
        alone = len(expected) == 1 and isinstance(what, str) and not isinstance(layer, slice) and not isinstance(t, slice)
        assert isinstance(found, tr.graph.NodeView) == alone


def test_a_key_looks_at_no_other_nodes(graph, monkeypatch):
    graph[0, 0, "h"]
    made = []
    monkeypatch.setattr(tr.graph.NodeView, "__init__", lambda self, *given: made.append(given))
    for key in ((0, 3, "h"), (0, slice(2, 4), "h"), (0, 2), "weight_hh_l0"):
        graph[key]
    assert len(made) == 1 + 2 + 4 + 1


def test_every_gradient_is_readable(graph, rnn, x):
    rnn(x)[0][-1].sum().backward()
    for name, p in rnn.named_parameters():
        np.testing.assert_allclose(graph[name].grad, p.grad, rtol=1e-12)
    assert all(n.grad is not None for n in graph if n.role != "constant" and n.outputs or n == graph.loss)
    assert graph["x"].grad.shape == x.shape
    assert graph.loss.grad == 1
    assert graph["h0"][0].grad is None
    with pytest.raises(ValueError, match="no grad at h0"):
        _ = graph["h0"].grad


def test_edges_and_counts(graph):
    assert (graph.layers, graph.steps) == (2, 6)
    assert len(graph.edges) == sum(len(n.inputs) for n in graph)
    assert all(a.position < b.position for a, b in graph.edges)
    assert len(list(graph)) == len(graph) == len(graph.nodes)


def test_the_graph_is_a_snapshot(graph, rnn, x):
    before = {n.position: n.value.copy() for n in graph}
    terms = graph.grad_terms("weight_hh_l0").sum()
    for p in rnn.parameters():
        p.value += 1
    x += 1
    for n in graph:
        np.testing.assert_array_equal(n.value, before[n.position])
    np.testing.assert_array_equal(graph.grad_terms("weight_hh_l0").sum(), terms)


def test_tracing_leaves_the_model_alone(rnn, x):
    values = [p.value for p in rnn.parameters()]
    rnn.weight_hh_l0.grad = marker = np.ones((4, 4))
    with tr.no_grad():  # and works here too
        tr.trace(rnn, x, loss=last_sum)
    with pytest.raises(ZeroDivisionError):
        tr.trace(rnn, x, loss=lambda y: 1 / 0)
    assert [p.value is v for p, v in zip(rnn.parameters(), values, strict=True)] == [True] * 8
    assert rnn.weight_hh_l0.grad is marker
    assert rnn.bias_hh_l0.grad is None


def test_what_trace_refuses(rnn, x):
    with pytest.raises(tr.ShapeError, match="must be a scalar"):
        tr.trace(lambda x: x, x)
    with pytest.raises(TypeError, match="must be a Tensor, got tuple"):
        tr.trace(rnn, x)
    with pytest.raises(RuntimeError, match="requires a gradient"):
        tr.trace(lambda i: tr.Tensor([1.0]).sum(), np.array([1]))


def test_trace_with_target_and_several_inputs(x):
    graph = tr.trace(lambda a, b: a * b, x, x + 1, loss=tr.mse_loss, target=np.zeros_like(x))
    np.testing.assert_allclose(graph["x1"].grad, 2 * x * (x + 1) * x / x.size, rtol=1e-12)
    assert graph.output.shape == x.shape


def test_a_users_own_cell_has_addresses():
    class Leaky(tr.nn.Module):
        def __init__(self):
            self.w = tr.nn.Linear(3, 3, dtype="float64", seed=0)

        def forward(self, x):
            h = x[0] * 0
            for t in range(len(x)):
                with tr.scope(layer=0, t=t):
                    h = h * 0.9 + tr.tanh(self.w(h + x[t])) * 0.1
                    h.name = "h"
            return h

    graph = tr.trace(Leaky(), np.ones((5, 3)), loss=lambda h: h.sum())
    assert graph[0, :, "h"].value.shape == (5, 3)
    assert graph[0, 2, "tanh"].grad is not None
    assert len(graph.grad_terms("w.weight")) == 5
    assert graph.gain().total < 0


def test_text(graph):
    text = repr(graph)
    assert "2 layers, 6 steps" in text
    assert "linear -> linear -> add -> tanh" in text
    assert "weight_hh_l0" in text
    assert len(text.splitlines()) < 25
    text = str(graph[0, 3, "tanh"])
    assert repr(graph[0, 3, "tanh"]) == "<tanh 'h' [layer=0, t=3] (2, 4)>"
    assert text.splitlines()[0] == "tanh 'h' [layer=0, t=3]  float64 (2, 4)"
    assert "linear [layer=1, t=3]" in text
    assert "nodes" in repr(graph["tanh"])
    assert "index=(3,)" in str(graph[None, 3, "index"])
    assert str(tr.trace(lambda x: x.sum(), np.zeros((0, 2)))["x"])


# ---- paths


@pytest.mark.parametrize(("layers", "steps"), [(1, 1), (1, 50), (3, 10), (2, 7), (4, 4)])
def test_paths_through_a_stacked_net(layers, steps):
    rnn = tr.nn.RNN(2, 2, layers, dtype="float64", seed=0)
    graph = tr.trace(rnn, np.ones((steps, 2)), loss=last_sum)
    paths = graph.paths((layers - 1, -1, "h"), (None, 0, "index"))
    assert paths.count == comb(steps + layers - 2, layers - 1)
    assert paths.longest == paths.shortest == steps + layers - 1
    crossed = [n.op for n in paths.nodes]
    assert crossed.count("linear") == crossed.count("tanh") == paths.longest
    # to the loss: the stack of all outputs is read at its last entry alone
    assert graph.paths(graph.loss, (None, 0, "index")).count == paths.count


def test_paths_of_deep_transition():
    # the top layer feeds the bottom layer of the next step: k n cells on one path
    layers, steps = 3, 10
    cells = [tr.nn.RNNCell(2, 2, dtype="float64", seed=i) for i in range(layers)]

    def model(x):
        h = x[0] * 0
        for t in range(steps):
            for layer, cell in enumerate(cells):
                with tr.scope(layer=layer, t=t):
                    h = cell(x[t], h)
        return h

    graph = tr.trace(model, np.ones((steps, 2)), loss=lambda h: h.sum())
    assert graph.paths((layers - 1, -1, "h"), (0, 0, "h")).longest == layers * steps - 1


def test_no_path(graph):
    paths = graph.paths((0, 0, "h"), (0, 3, "h"))
    assert (paths.count, paths.longest, len(paths.nodes)) == (0, 0, 0)
    with pytest.raises(ValueError, match="means 2 nodes"):
        graph.paths((0, 0, "linear"), (0, 0, "h"))


# ---- comparison


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("nonlinearity", ["tanh", "relu", "sigmoid", "identity"])
@pytest.mark.parametrize(
    ("layers", "steps", "bias", "batch_first"), [(1, 50, True, False), (3, 7, False, True), (2, 1, True, True)]
)
def test_an_rnn_is_its_unrolled_mlp_to_the_last_bit(dtype, nonlinearity, layers, steps, bias, batch_first):
    rnn = tr.nn.RNN(3, 6, layers, nonlinearity, bias, batch_first, dtype=dtype, seed=0)
    x = np.random.default_rng(1).standard_normal((2, steps, 3) if batch_first else (steps, 2, 3)).astype(dtype)
    loss = lambda y: (y * y).sum()  # noqa: E731
    a, b = tr.trace(rnn, x, loss=loss), tr.trace(rnn.unroll(steps), x, loss=loss)
    same = tr.same_graph(a, b)
    assert same, same.difference
    assert same.addresses_agree
    assert same.tied
    assert (same.value_difference, same.grad_difference) == (0, 0)
    assert same.nodes[0] == same.nodes[1]
    assert same.edges[0] == same.edges[1]
    # every layer with its own copy of the weights: the tied gradient is the sum of theirs, in the same order
    c = tr.trace(rnn.unroll(steps).untie(draw="copy"), x, loss=loss)
    same = tr.same_graph(a, c)
    assert same, same.difference
    assert same.tied == (steps == 1)
    assert len(same.parameters["weight_hh_l0"]) == steps
    assert (same.value_difference, same.grad_difference) == (0, 0)
    # and not by construction of the comparison
    d = tr.trace(rnn.unroll(steps).untie(seed=3), x, loss=loss)
    assert tr.same_graph(a, d).value_difference > 0


def test_the_first_difference_is_named(rnn, x, graph):
    other = tr.nn.RNN(3, 4, 2, "relu", dtype="float64", seed=0)
    same = tr.same_graph(graph, tr.trace(other, x, loss=last_sum))
    assert not same
    assert same.difference == "tanh 'h' [layer=0, t=0] against relu 'h' [layer=0, t=0]: op tanh against relu"
    assert np.isnan(same.value_difference)
    assert "first difference" in str(same)
    shorter = tr.same_graph(graph, tr.trace(rnn, x[:4], loss=last_sum))
    assert "x against x: shape (6, 2, 3) against (4, 2, 3)" in shorter.difference
    assert shorter.nodes[0] > shorter.nodes[1]
    wider = tr.same_graph(graph, tr.trace(tr.nn.RNN(3, 5, 2, dtype="float64"), x, loss=last_sum))
    assert "shape" in wider.difference
    single = tr.nn.RNN(3, 4, 2, dtype="float32", seed=0)
    assert "dtype" in tr.same_graph(graph, tr.trace(single, x.astype(np.float32), loss=last_sum)).difference


def compare(f, g, *values):
    a, b = (tr.trace(h, *values, loss=lambda y: y.sum()) for h in (f, g))
    return tr.same_graph(a, b)


def test_structures_that_only_look_alike():
    x = np.ones(3)
    assert compare(lambda x: tr.exp(x) * tr.exp(x), lambda x: tr.exp(x) * tr.exp(x), x)
    # one shared node against two equal ones
    assert not compare(lambda x: (lambda e: e * e)(tr.exp(x)), lambda x: tr.exp(x) * tr.exp(x), x)
    assert not compare(lambda x: tr.exp(x) * tr.exp(x), lambda x: (lambda e: e * e)(tr.exp(x)), x)
    # other static keywords
    assert "params" in compare(lambda x: x[:2], lambda x: x[1:], x).difference
    # a constant against the input
    assert "role" in compare(lambda x: x + x, lambda x: x + np.ones(3), x).difference
    # an extra branch that the loss does not see
    assert not compare(lambda x: x * 2, lambda x: (tr.exp(x), x * 2)[1], x)
    # swapped inputs
    assert not compare(lambda x: tr.exp(x) - x, lambda x: x - tr.exp(x), x)


def test_one_parameter_for_two_is_not_the_same():
    # b must not use one parameter where a has two
    class Two(tr.nn.Module):
        def __init__(self, shared):
            self.a = tr.nn.Linear(2, 2, seed=0)
            self.b = self.a if shared else tr.nn.Linear(2, 2, seed=0)

        def forward(self, x):
            return self.b(self.a(x))

    x = np.ones((1, 2), np.float32)
    two, one = (tr.trace(Two(s), x, loss=lambda y: y.sum()) for s in (False, True))
    assert "stands for both" in tr.same_graph(two, one).difference
    assert tr.same_graph(one, two)
    assert not tr.same_graph(one, two).tied


# ---- what a trace must survive


def test_a_trace_of_a_function_is_a_snapshot_too(rnn, x):
    graph = tr.trace(lambda x: rnn(x)[0][-1].sum(), x)
    assert set(graph.parameters) == {n for n, _ in rnn.named_parameters()}
    assert tr.same_graph(graph, tr.trace(rnn, x, loss=last_sum))
    jacobian, terms = graph.jacobian((0, -1, "h"), (0, 0, "h")), graph.grad_terms("weight_hh_l0").sum()
    for p in rnn.parameters():
        p.value *= 2
    np.testing.assert_array_equal(graph.jacobian((0, -1, "h"), (0, 0, "h")), jacobian)
    np.testing.assert_array_equal(graph.grad_terms("weight_hh_l0").sum(), terms)


def test_parameters_of_equal_name_are_kept_apart():
    a, b = tr.nn.Linear(2, 2, dtype="float64", seed=0), tr.nn.Linear(2, 2, dtype="float64", seed=1)
    graph = tr.trace(lambda x: b(a(x)), np.ones((1, 2)), loss=lambda y: y.sum())
    assert list(graph.parameters) == ["weight", "bias", "weight#2", "bias#2"]
    names = ["w", "w", "w#1", "w", "b", "w#1", "w#2#3"]
    leaves = [tr.Tensor([1.0], requires_grad=True, name=name) for name in names]
    graph = tr.trace(lambda x: sum(leaves, x), np.ones(1, np.float32))
    assert list(graph.parameters) == ["w", "w#2", "w#1", "w#4", "b", "w#1#2", "w#2#3"]
    both = tr.trace(lambda x, y: x * y, tr.Tensor([1.0], name="x"), tr.Tensor([2.0], name="x"))
    assert both["x"].grad == 2
    assert both["x1"].grad == 1


def test_backward_through_the_output_leaves_the_trace(graph):
    graph.output[0].sum().backward()
    assert graph.gain().total < 0
    assert graph.grad_terms("weight_hh_l0").horizon() > 0


def test_tracing_in_threads(rnn, x):
    values = [p.value for p in rnn.parameters()]
    threads = [threading.Thread(target=tr.trace, args=(rnn, x), kwargs={"loss": last_sum}) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert [p.value is v for p, v in zip(rnn.parameters(), values, strict=True)] == [True] * 8


def test_graphs_of_almost_nothing():
    graph = tr.trace(lambda x: x, np.array(1.0))
    assert len(graph) == 1
    assert graph.loss.grad == 1
    early = tr.Tensor([1.0], requires_grad=True) * 2
    with pytest.raises(ValueError, match="before the trace began"):
        tr.trace(lambda x: early, np.ones(1))


def test_kind_errors(graph, rnn):
    with pytest.raises(KeyError, match="layer and t are integers, slices or None, got 'tanh'"):
        graph[0, "tanh"]
    with pytest.raises(TypeError, match="compares two traces, got RNN"):
        tr.same_graph(rnn, graph)
    assert graph[0, :, "h"][1:3].grad.shape == (2, 2, 4)


@pytest.mark.parametrize(
    ("loss", "count"),
    [
        (lambda y: y[np.int64(-1)].sum(), 6),
        (lambda y: y[-1:].sum(), 6),
        (lambda y: y[[5]].sum(), 6),
        (lambda y: y.transpose(1, 0, 2)[:, -1].sum(), 6),
        (lambda y: y[()].sum(), 21),
        (lambda y: y[4:].sum(), 11),
    ],
)
def test_paths_go_through_the_entries_that_an_index_reads(graph, rnn, x, loss, count):
    graph = tr.trace(rnn, x, loss=loss)
    assert graph.paths(graph.loss, (0, 0, "h")).count == count
