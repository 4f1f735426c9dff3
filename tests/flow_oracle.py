"""The way back through recurrent cells by explicit formulas in numpy: path classes, shares, the additive split, knock-outs.

A cell is a forward pass that keeps what its Jacobian needs, and `back(kept, d)`, which pulls a cotangent d (B, S) of the states
of one step back to the step before, apart by class: "carry" goes through no recurrent parameter, "recurrent" through one."""

from dataclasses import dataclass

import numpy as np


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def log_norm(d):
    """(B,) log |d| of each row."""
    with np.errstate(divide="ignore"):
        return np.log(np.linalg.norm(d, axis=1))


SLOPES = {
    "tanh": (np.tanh, lambda z: 1 / np.cosh(z) ** 2),
    "relu": (lambda z: np.maximum(z, 0), lambda z: (z > 0) * 1.0),
    "sigmoid": (sigmoid, lambda z: sigmoid(z) * (1 - sigmoid(z))),
    "identity": (lambda z: z, np.ones_like),
}


def weights_of(net):
    return [getattr(net, f"{name}_l0").value for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]


class Leaky:
    """h' = (1 - a) h + a phi(W_ih x + b_ih + W_hh h + b_hh); the plain RNN for a = 1, whose carry is 0."""

    def __init__(self, net, x):
        w_ih, self.w, b_ih, b_hh = weights_of(net)
        phi, slope = SLOPES[net.nonlinearity]
        self.a = getattr(net, "leak", 1.0)
        h, self.kept = np.zeros((x.shape[1], len(self.w))), []
        for x_t in x:
            z = x_t @ w_ih.T + b_ih + h @ self.w.T + b_hh
            h = (1 - self.a) * h + self.a * phi(z)
            self.kept.append(slope(z))
        self.end = np.ones_like(h)

    def back(self, slope, d):
        return {"carry": (1 - self.a) * d, "recurrent": self.a * (slope * d) @ self.w}

    def chains(self, slope, d):
        """The logs of the factors of each class, which are chains: {class: {part: (B,)}}."""
        passed = slope * d
        recurrent = {
            "saturation": log_norm(passed) - log_norm(d),
            "weights": log_norm(passed @ self.w) - log_norm(passed),
            "constants": np.full(len(d), np.log(self.a)),
        }
        return {"carry": {"constants": np.full(len(d), np.log1p(-self.a))} if self.a < 1 else {}, "recurrent": recurrent}


class Gru:
    """r, z, n and h' = (1 - z) n + z h, the reset gate after the product."""

    def __init__(self, net, x):
        w_ih, self.w, b_ih, b_hh = weights_of(net)
        n_hidden = net.hidden_size
        h, self.kept = np.zeros((x.shape[1], n_hidden)), []
        for x_t in x:
            from_x, from_h = np.split(x_t @ w_ih.T + b_ih, 3, axis=1), np.split(h @ self.w.T + b_hh, 3, axis=1)
            r, z = sigmoid(from_x[0] + from_h[0]), sigmoid(from_x[1] + from_h[1])
            n = np.tanh(from_x[2] + r * from_h[2])
            self.kept.append((r, z, n, h, from_h[2]))
            h = (1 - z) * n + z * h
        self.end = np.ones_like(h)

    def back(self, kept, d):
        r, z, n, h, from_h = kept
        d_n = d * (1 - z) * (1 - n * n)
        d_z = d * (h - n) * z * (1 - z)
        d_r = d_n * from_h * r * (1 - r)
        return {"carry": z * d, "recurrent": np.concatenate([d_r, d_z, d_n * r], axis=1) @ self.w}

    def chains(self, kept, d):
        return {"carry": {"gates": log_norm(kept[1] * d) - log_norm(d)}}


class Lstm:
    """i, f, g, o, c' = f c + i g, h' = o tanh(c'); the state is (h, c), side by side in (B, 2 H)."""

    def __init__(self, net, x):
        w_ih, self.w, b_ih, b_hh = weights_of(net)
        hidden = net.hidden_size
        h, c, self.kept = np.zeros((x.shape[1], hidden)), np.zeros((x.shape[1], hidden)), []
        for x_t in x:
            i, f, g, o = np.split(x_t @ w_ih.T + b_ih + h @ self.w.T + b_hh, 4, axis=1)
            i, f, g, o = sigmoid(i), sigmoid(f), np.tanh(g), sigmoid(o)
            before, c = c, f * c + i * g
            h = o * np.tanh(c)
            self.kept.append((i, f, g, o, before, c))
        self.end = np.concatenate([np.ones_like(h), np.zeros_like(c)], axis=1)

    def back(self, kept, d):
        i, f, g, o, before, c = kept
        d_h, d_c = np.split(d, 2, axis=1)
        through = d_c + d_h * o * (1 - np.tanh(c) ** 2)
        gates = [
            through * g * i * (1 - i),
            through * before * f * (1 - f),
            through * i * (1 - g * g),
            d_h * np.tanh(c) * o * (1 - o),
        ]
        nothing = np.zeros_like(d_h)
        return {
            "carry": np.concatenate([nothing, f * through], axis=1),
            "recurrent": np.concatenate([np.concatenate(gates, axis=1) @ self.w, nothing], axis=1),
        }

    def chains(self, kept, d):
        """The carry, back from (d_h, d_c): d_h passes the output gate and tanh while d_c waits, the two join, and the forget gate
        takes both. Where no signal is in h, the forget gate is all there is."""
        _, f, _, o, _, c = kept
        d_h, d_c = np.split(d, 2, axis=1)
        gated, bent = o * d_h, o * d_h * (1 - np.tanh(c) ** 2)
        sizes = [log_norm(np.concatenate([x, d_c], axis=1)) for x in (d_h, gated, bent)]
        joined = log_norm(bent + d_c)
        gates = sizes[1] - sizes[0] + log_norm(f * (bent + d_c)) - joined
        return {"carry": {"gates": gates, "saturation": sizes[2] - sizes[1], "sums": joined - sizes[2]}}


CELLS = {"RNN": Leaky, "LeakyRNN": Leaky, "GRU": Gru, "LSTM": Lstm}


@dataclass(frozen=True)
class Way:
    """The whole way back, by lag: all means are over the sequences, of logs.

    log_norm   (n + 1,)
    shares     {class: (n,)} of <v_q, v> / <v, v>
    brackets   {class: (n,)} of s_q (log |v_q| - log |d|)
    sums       (n,) of sum_q s_q (log |v| - log |v_q|)
    chains     for each step {class: {part: nats}}, the brackets of classes that are chains, split
    alone      {class: (n + 1,)}, the way back with the other class cut everywhere"""

    log_norm: np.ndarray
    shares: dict
    brackets: dict
    sums: np.ndarray
    chains: dict
    alone: dict


def way_back(net, x, end=None):
    """The Way of the sum over the last state (`end`, a cotangent (B, S) of it, unless None) of a net of one layer."""
    cell = CELLS[type(net).__name__](net, x)
    end = cell.end if end is None else end
    d = end / np.linalg.norm(end, axis=1, keepdims=True)
    trail, shares, brackets, sums, chains = [log_norm(end)], [], [], [], []
    for kept in cell.kept[:0:-1]:
        v = cell.back(kept, d)
        whole = v["carry"] + v["recurrent"]
        share = {q: np.sum(v[q] * whole, axis=1) / np.sum(whole * whole, axis=1) for q in v}
        size = {q: np.where(v[q].any(axis=1), log_norm(v[q]), 0.0) for q in v}
        shares.append({q: share[q].mean() for q in v})
        brackets.append({q: (share[q] * (size[q] - log_norm(d))).mean() for q in v})
        sums.append(sum(share[q] * (log_norm(whole) - size[q]) for q in v).mean())
        split = cell.chains(kept, d)
        chains.append({q: {p: (share[q] * log).mean() for p, log in split[q].items()} for q in split})
        trail.append(trail[-1] + log_norm(whole))
        d = whole / np.linalg.norm(whole, axis=1, keepdims=True)
    return Way(
        np.stack(trail).mean(axis=1),
        {q: np.array([s[q] for s in shares]) for q in shares[0]},
        {q: np.array([b[q] for b in brackets]) for q in brackets[0]},
        np.array(sums),
        chains,
        {q: _alone(cell, end, q) for q in shares[0]},
    )


def _alone(cell, d, q):
    logs = [log_norm(d)]
    for kept in cell.kept[:0:-1]:
        norm = np.linalg.norm(d, axis=1, keepdims=True)
        d = cell.back(kept, d / np.where(norm > 0, norm, 1))[q]
        logs.append(logs[-1] + log_norm(d))
    return np.stack(logs).mean(axis=1)
