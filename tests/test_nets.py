"""The table of nets against numpy: every row is built, and its truth is what the recorded cotangents say.

No analysis of the package is called here, so a wrong row cannot agree with a wrong verdict by accident."""

import numpy as np
import pytest
from net_truth import chain_split, cliff_of, kind_of, profile, share_of, total_of
from nets import BY_NAME, NETS

KINDS = {"vanishing", "narrow", "fading", "healthy", "exploding", "vanishing and exploding", "no signal", "not finite"}
READ = [net for net in NETS if net.read is not None]


def ids(nets):
    return [net.name for net in nets]


def as_set(x):
    return x if isinstance(x, set) else {x}


def read(net):
    with np.errstate(all="ignore"):
        graph = net.trace()
        return graph, profile(graph, net.read)


def test_names_are_distinct_and_kinds_are_known():
    assert len(BY_NAME) == len(NETS)
    for net in NETS:
        assert as_set(net.kind) <= KINDS, net.name


@pytest.mark.parametrize("net", NETS, ids=ids(NETS))
def test_a_row_is_built_and_traced(net):
    with np.errstate(all="ignore"):
        graph = net.trace()
    assert graph.values[graph.root].size == 1
    assert net.by_norm or net.read is None or "no signal" in as_set(net.kind) or np.isfinite(graph.loss.value)


@pytest.mark.parametrize("net", [n for n in READ if n.by_norm], ids=ids(n for n in READ if n.by_norm))
def test_the_kind_of_a_row_is_that_of_its_cotangents(net):
    _, logs = read(net)
    assert kind_of(logs) in as_set(net.kind)
    if net.nats is not None:
        assert total_of(logs) == pytest.approx(net.nats, abs=1e-9)
    if net.share is not None:
        assert share_of(logs, kind_of(logs)) == net.share


PLACED = [n for n in READ if n.where == "one step"]


@pytest.mark.parametrize("net", PLACED, ids=ids(PLACED))
def test_a_cliff_is_where_the_row_says(net):
    _, logs = read(net)
    last = len(logs) - 1
    with np.errstate(invalid="ignore"):
        steps = np.diff(logs, axis=0)
    if not np.isfinite(logs).all():
        lag = int(np.flatnonzero(~np.isfinite(steps).all(axis=1))[0])
        assert last - lag in as_set(net.at_t)
        return
    at, nats = cliff_of(logs, last)
    assert at in as_set(net.at_t)
    assert abs(nats) > 0.9 * np.abs(steps.sum(axis=0)).max()


READ_OUT = [n for n in READ if n.where == "read-out"]


@pytest.mark.parametrize("net", READ_OUT, ids=ids(READ_OUT))
def test_a_read_out_takes_most_at_lag_0(net):
    _, logs = read(net)
    assert (logs[1] - logs[0]).mean() < 0.9 * (logs[-1] - logs[0]).mean() < 0


EVEN = [n for n in READ if n.where == "evenly" and n.by_norm and "vanishing" in as_set(n.kind)]


@pytest.mark.parametrize("net", EVEN, ids=ids(EVEN))
def test_an_even_profile_has_no_cliff_and_no_phases(net):
    _, logs = read(net)
    own = (logs != logs[0]).cumsum(axis=0) > 0  # steps of padding change nothing
    with np.errstate(invalid="ignore"):
        steps = np.where(own[1:], np.diff(logs, axis=0), np.nan)
    steps = steps[np.isfinite(steps).any(axis=1)]
    if not len(steps):  # float32 loses it
        return
    mean = np.nanmean(steps, axis=1)
    mean = mean[np.isfinite(mean)]
    half = len(mean) // 2
    assert mean.min() > 0.35 * mean.sum() or len(mean) < 4
    if half > 4:
        assert 1 / 2.5 < mean[:half].mean() / mean[half:].mean() < 2.5


CUT = [n for n in READ if isinstance(n.cut, (int, set))]


@pytest.mark.parametrize("net", CUT, ids=ids(CUT))
def test_nothing_reaches_the_steps_before_a_cut(net):
    graph, _ = read(net)
    reached = [
        t for t in range(graph.steps) if any(n.name in ("h", "c") and n.grad is not None and n.grad.any() for n in graph[:, t])
    ]
    assert reached[0] in as_set(net.cut)


CHAINS = [n for n in NETS if n.chain]


@pytest.mark.parametrize("net", CHAINS, ids=ids(CHAINS))
def test_the_part_of_a_chain_is_that_of_the_telescoping_split(net):
    graph, logs = read(net)
    w = graph["weight_hh_l0"].value
    split = chain_split(graph, w)
    assert sum(split.values()) == pytest.approx(total_of(logs), abs=1e-9)
    if net.part:
        sign = np.sign(total_of(logs))
        assert max(split, key=lambda part: sign * split[part]) in as_set(net.part)


def test_one_direction_of_many_survives():
    for name, width in (("linear, one direction of 16 survives", 16), ("diagonal recurrence of 1 and 0.5", 8)):
        graph = BY_NAME[name].trace()
        grads = np.stack([graph[0, t, "h"].grad[0] for t in (0, 99)])
        assert (np.abs(grads[0]) > 1e-3 * np.abs(grads[1])).sum() == 1
        assert grads.shape[1] == width


def test_short_sequences_count_from_their_own_end():
    for name, lengths in (("padded, default", [100, 60, 40, 30]), ("padded, short sequences in a long batch", [20] * 4)):
        net = BY_NAME[name]
        _, logs = read(net)
        rates = (logs[-1] - logs[0]) / (np.array(lengths) - 1)
        assert np.median(rates) == pytest.approx(net.rate, rel=0.03), name
