"""A character RNN in plain numpy, float64, written without the engine: forward, backward, gradient terms, Adam. What the command
prints is compared with it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

PHI = {
    "tanh": (np.tanh, lambda z: 1 - np.tanh(z) ** 2),
    "relu": (lambda z: np.maximum(z, 0), lambda z: (z > 0) * 1.0),
    "sigmoid": (lambda z: 1 / (1 + np.exp(-z)), lambda z: 1 / (2 + np.exp(z) + np.exp(-z))),
    "identity": (lambda z: z, lambda z: np.ones_like(z)),
}


@dataclass
class Net:
    """Embedding -> cells over time -> readout. A cell is (W_ih, W_hh, b_ih, b_hh); cells[t] is that of step t, all of them one
    tuple where they are tied. leak 1 is the plain RNN."""

    embedding: np.ndarray
    cells: list
    readout: tuple
    phi: str = "tanh"
    leak: float = 1.0

    @classmethod
    def of(cls, state, steps, phi="tanh", leak=1.0, dtype=np.float64):
        """From the arrays of a state_dict, tied."""
        state = {name: np.array(x, dtype) for name, x in state.items()}
        cell = [state[f"net.{name}_l0"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
        return cls(state["embedding.weight"], [cell] * steps, [state["readout.weight"], state["readout.bias"]], phi, leak)

    def with_cells(self, cells):
        return Net(self.embedding, cells, self.readout, self.phi, self.leak)

    def forward(self, x):
        """x (T, B) -> states h[0..T], h[0] being zero, and pre-activations z[0..T-1]."""
        h = [np.zeros((x.shape[1], len(self.cells[0][1])), self.embedding.dtype)]
        z = []
        for t in range(len(x)):
            w_ih, w_hh, b_ih, b_hh = self.cells[t]
            z.append(self.embedding[x[t]] @ w_ih.T + b_ih + h[-1] @ w_hh.T + b_hh)
            h.append((1 - self.leak) * h[-1] + self.leak * PHI[self.phi][0](z[-1]))
        return h, z

    def logits_gradient(self, h, y):
        """Cross-entropy of the state h against y, mean over the batch, and its gradient by the logits."""
        logits = h @ self.readout[0].T + self.readout[1]
        p = np.exp(logits - logits.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        rows = np.arange(len(y))
        loss = -np.log(p[rows, y]).mean()
        p[rows, y] -= 1
        return loss, p / len(y)


def look_back(net, x, y):
    """The gradient of E, the loss at the last character, by lag: a dictionary of log norms, split, terms and their sum."""
    h, z = net.forward(x)
    loss, g = net.logits_gradient(h[-1], y[-1])
    d = g @ net.readout[0]
    norms, saturation, weights, terms = [np.linalg.norm(d, axis=1)], [], [], []
    for t in reversed(range(len(x))):
        dz = net.leak * d * PHI[net.phi][1](z[t])
        terms.append(dz.T @ h[t])
        if t == 0:
            break
        back = dz @ net.cells[t][1]
        with np.errstate(divide="ignore", invalid="ignore"):
            saturation.append(np.log(np.linalg.norm(dz, axis=1) / norms[-1]))
            weights.append(np.log(np.linalg.norm(back, axis=1) / np.linalg.norm(dz, axis=1)))
        d = (1 - net.leak) * d + back
        norms.append(np.linalg.norm(d, axis=1))
    living = np.stack(norms).all(0)  # the windows whose signal lives to the end are those that count
    log_norm = np.log(np.stack(norms)[:, living]).mean(1)
    total = sum(terms)
    return {
        "loss": loss,
        "log_gain": log_norm - log_norm[0],
        "saturation": np.stack(saturation)[:, living].mean(1),
        "weights": np.stack(weights)[:, living].mean(1),
        "terms": np.stack(terms),  # by lag
        "sizes": np.array([np.linalg.norm(g) for g in terms]) / np.linalg.norm(total),
        "shares": np.array([np.sum(g * total) for g in terms]) / np.sum(total * total),
    }


def gradients(net, x, y):
    """The mean loss over all characters, and its gradient by every array: embedding, cell, readout."""
    h, z = net.forward(x)
    steps, d = len(x), np.zeros_like(h[0])
    d_embedding, d_cell, d_readout = np.zeros_like(net.embedding), [np.zeros_like(p) for p in net.cells[0]], [0.0, 0.0]
    losses = []
    for t in reversed(range(steps)):
        loss, g = net.logits_gradient(h[t + 1], y[t])
        g = g / steps
        losses.append(loss)
        d_readout[0], d_readout[1] = d_readout[0] + g.T @ h[t + 1], d_readout[1] + g.sum(0)
        d = d + g @ net.readout[0]
        dz = net.leak * d * PHI[net.phi][1](z[t])
        for i, part in enumerate((dz.T @ net.embedding[x[t]], dz.T @ h[t], dz.sum(0), dz.sum(0))):
            d_cell[i] = d_cell[i] + part
        np.add.at(d_embedding, x[t], dz @ net.cells[t][0])
        d = (1 - net.leak) * d + dz @ net.cells[t][1]
    return float(np.mean(losses)), [d_embedding, *d_cell, *d_readout]


def trained(net, windows, rate=3e-3, clip=1.0):
    """The tied net after an Adam update on each (x, y) of `windows`, clipped, and the losses before each."""
    steps = len(net.cells)
    arrays = [net.embedding.copy(), *(p.copy() for p in net.cells[0]), *(p.copy() for p in net.readout)]
    m, v = [np.zeros_like(a) for a in arrays], [np.zeros_like(a) for a in arrays]
    losses = []
    for n, (x, y) in enumerate(windows, 1):
        now = Net(arrays[0], [arrays[1:5]] * steps, arrays[5:], net.phi, net.leak)
        loss, grads = gradients(now, x, y)
        losses.append(loss)
        norm = np.sqrt(sum(np.sum(g * g) for g in grads))
        grads = [g * min(1.0, clip / (norm + 1e-6)) for g in grads]
        for i, g in enumerate(grads):
            m[i], v[i] = 0.9 * m[i] + 0.1 * g, 0.999 * v[i] + 0.001 * g * g
            arrays[i] = arrays[i] - rate * (m[i] / (1 - 0.9**n)) / (np.sqrt(v[i] / (1 - 0.999**n)) + 1e-8)
    return Net(arrays[0], [arrays[1:5]] * steps, arrays[5:], net.phi, net.leak), losses


def gated_gain(state, x, y):
    """Nats of the gradient of E from the last state of a GRU to its first, by complex steps: no backward pass at all."""
    state = {name: np.array(a, np.float64) for name, a in state.items()}
    w_ih, w_hh, b_ih, b_hh = (state[f"net.{name}_l0"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
    size, rows = w_hh.shape[1], np.arange(x.shape[1])

    def step(h, indices):
        a, b = state["embedding.weight"][indices] @ w_ih.T + b_ih, h @ w_hh.T + b_hh
        r, u = (1 / (1 + np.exp(-(a + b)[:, i * size : (i + 1) * size])) for i in (0, 1))
        n = np.tanh(a[:, 2 * size :] + r * b[:, 2 * size :])
        return (1 - u) * n + u * h

    def loss(h):
        logits = h @ state["readout.weight"].T + state["readout.bias"]
        return np.log(np.exp(logits).sum(1)) - logits[rows, y[-1]]

    def norm(h, rest):
        squares = 0.0
        for i in range(size):
            moved = h.astype(complex)
            moved[:, i] += 1e-30j
            for indices in rest:
                moved = step(moved, indices)
            squares = squares + (loss(moved).imag / 1e-30) ** 2
        return np.sqrt(squares)

    first = step(np.zeros((x.shape[1], size)), x[0])
    last = first
    for indices in x[1:]:
        last = step(last, indices)
    return float((np.log(norm(first, x[1:])) - np.log(norm(last, []))).mean())
