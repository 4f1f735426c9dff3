"""Truth about a traced net from its recorded cotangents and numpy alone: nothing here calls the package's analyses."""

import numpy as np

LOST, FADED = np.log(100), np.log(10)
SHARE = 0.25  # of the sequences


def log_norms(arrays):
    """(B,) log of the joint norm of each row of several arrays (B, ...)."""
    flat = np.concatenate([a.reshape(len(a), -1).astype(np.float64) for a in arrays], axis=1)
    size = np.abs(flat).max(axis=1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log(np.linalg.norm(flat / np.where(size > 0, size, 1), axis=1)) + np.log(size[:, 0])


def _by_step(graph, wanted, axis):
    """The cotangents of the wanted nodes, gathered by step; an entry is None where no node of the step has one."""
    steps = {}
    for node in graph:
        at = getattr(node.address, axis)
        if node.role == "op" and at is not None and wanted(node):
            steps.setdefault(at, []).append(node.grad)
    return [[g for g in steps[s] if g is not None] or None for s in sorted(steps)]


def named(*names, axis="t", layer=None, backwards=False):
    """The reader of the nodes of these names by step: reader(graph) -> cotangents from the first step to the last."""

    def read(graph):
        steps = _by_step(graph, lambda n: n.name in names and layer in (None, n.layer), axis)
        return steps[::-1] if backwards else steps

    return read


def in_order(what):
    """The reader of nets without addresses: every node of that op or name is a step of its own, in the order recorded."""
    return lambda graph: [None if n.grad is None else [n.grad] for n in graph if n.role == "op" and what in (n.op, n.name)]


def lstm_states(graph):
    """The reader of an LSTM of one layer on its states (h, c) as independent of each other: what reaches a cell through the h
    of its own step is taken away."""
    steps = []
    for t in range(graph.steps):
        h, c, o = (graph[0, t, name] for name in "hco")
        if c.grad is None:
            steps.append(None)
            continue
        d_h = np.zeros(h.shape) if h.grad is None else h.grad
        steps.append([d_h, c.grad - d_h * o.value * (1 - np.tanh(c.value) ** 2)])
    return steps


def profile(graph, read):
    """(n + 1, B) log norm of the signal of each sequence by lag, lag 0 being the last step that the loss reaches; -inf where
    nothing arrives."""
    steps = read(graph)
    batch = max((len(s[0]) for s in steps if s), default=1)
    while len(steps) > 1 and (steps[-1] is None or not any(np.any(g) for g in steps[-1])):
        steps.pop()
    return np.stack([np.full(batch, -np.inf) if s is None else log_norms(s) for s in steps[::-1]])


def kind_of(logs):
    """The kind of a profile (n + 1, B), by the share of sequences that fall or rise by a factor of 100 (fading: of 10)."""
    reached = np.isfinite(logs[0])
    if not reached.any():
        return "no signal"
    curves = logs[:, reached] - logs[0, reached]
    vanishes = (curves.min(axis=0) < -LOST).mean() >= SHARE
    explodes = (curves.max(axis=0) > LOST).mean() >= SHARE
    if vanishes and explodes:
        return "vanishing and exploding"
    if vanishes or explodes:
        return "vanishing" if vanishes else "exploding"
    return "fading" if (curves[-1] < -FADED).mean() >= SHARE else "healthy"


def total_of(logs):
    """Nats from lag 0 to the last lag: the mean over the sequences that are reached and live."""
    change = logs[-1] - logs[0]
    live = np.isfinite(change)
    return change[live].mean() if live.any() else -np.inf


def share_of(logs, kind):
    """Share of the sequences that do by themselves what the net does; of those that vanish, for a healthy net."""
    curves = logs - logs[0]
    if kind == "exploding":
        return float((curves.max(axis=0) > LOST).mean())
    return float((curves.min(axis=0) < -LOST).mean())


def cliff_of(logs, last):
    """(t, nats) of the largest change in one step, t being the step that the signal crosses: from the states of t to t - 1."""
    steps = np.median(np.diff(logs, axis=0), axis=1)
    lag = int(np.argmax(np.abs(steps)))
    return last - lag, steps[lag]


def chain_split(graph, w, steps=None):
    """Nats that activations and the recurrent matrix take on the way back through a plain RNN of one layer: the telescoping
    split, from the recorded cotangents of z and h. Means over the sequences."""
    saturation = weights = 0.0
    for t in range((steps or graph.steps) - 1, 0, -1):
        d, dz = graph[0, t, "h"].grad, graph[0, t, "z"].grad
        saturation += (log_norms([dz]) - log_norms([d])).mean()
        weights += (log_norms([dz @ w]) - log_norms([dz])).mean()
    return {"saturation": saturation, "weights": weights}
