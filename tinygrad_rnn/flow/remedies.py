"""Changes to a net that may help its gradient. Each is tried on a copy before anybody is told of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from math import log
from typing import Any, TypeGuard

import numpy as np

from ..graph import Graph
from ..nn import MLP, RNN, LayerNorm, LeakyRNN, Linear, Module, Residual, Sequential, activation, init
from ..nn.layers import nonlinearity_of
from ..tape import scope
from ..tensor import Tensor, as_tensor
from .copies import Subject
from .roles import Gate, Roles, joined, roles_of
from .steps import Steps

LARGE = 1024  # rows or columns of a matrix


@dataclass(frozen=True)
class Remedy:
    """A change: its name, what it does to a copy, and how to write it here and in PyTorch."""

    name: str
    apply: Callable[[Subject], Any]
    code: str
    torch: str


def remedies_for(graph: Graph, ways: list[Steps], kind: str, subject: Subject) -> list[Remedy]:
    """Every remedy that this net can have. `ways` are its ways back, one for each direction; `subject` is a copy to look at."""
    roles, n = joined([roles_of(graph, steps) for steps in ways]), max(max(map(len, ways)) - 1, 1)
    relu = any(op is not None and op.name == "relu" for op in graph.ops)
    found = _of_matrices(graph, roles, kind, relu, subject)
    found += _of_gates(roles.gates, n, subject)
    found += _of_inputs(roles, subject) + _of_layers(subject.modules, n, relu)
    unique = {remedy.name: remedy for remedy in found}
    return list(unique.values())


# ---- matrices


def _blocks(w: np.ndarray) -> list[np.ndarray]:
    """The square blocks, one a gate, that a matrix of a gated cell is made of; itself otherwise."""
    rows, columns = w.shape[0], w.shape[1] if w.ndim == 2 else 0
    if w.ndim == 2 and rows > columns and rows % columns == 0:
        return [w[k : k + columns] for k in range(0, rows, columns)]
    return [w]


def _of_matrices(graph: Graph, roles: Roles, kind: str, relu: bool, subject: Subject) -> list[Remedy]:
    names = roles.recurrent or roles.crossed
    if not names:
        return []
    arrays = {name: graph.parameters[name].value for name in names}
    gates = {name: len(_blocks(w)) for name, w in arrays.items()}
    every = Written(subject, names, gates)
    largest = max(max(w.shape) for w in arrays.values())
    found = [
        Remedy(
            "orthogonal weights",
            _for_blocks(names, lambda w, seed: init.orthogonal(np.random.default_rng(seed), w.shape)),
            every.here("w[...] = tr.nn.init.orthogonal(np.random.default_rng(seed), w.shape)"),
            every.torch("torch.nn.init.orthogonal_(w)"),
        ),
    ]
    if largest <= LARGE:  # the singular values of a large matrix take long
        found.append(
            Remedy(
                "polar factor of the weights",
                _for_blocks(names, lambda w, seed: _polar(w)),
                every.here(
                    "u, _, vt = np.linalg.svd(w.reshape(len(w), -1), full_matrices=False); w[...] = (u @ vt).reshape(w.shape)"
                ),
                every.torch("u, _, vt = torch.linalg.svd(w.flatten(1), full_matrices=False); w.copy_((u @ vt).view_as(w))"),
            )
        )
    if kind in ("exploding", "vanishing and exploding"):
        found.append(
            Remedy(
                "weights of spectral norm 1",
                _for_blocks(names, lambda w, seed: w / max(np.linalg.norm(w.reshape(len(w), -1), 2), 1e-30)),
                every.here("w /= np.linalg.norm(w.reshape(len(w), -1), 2)"),
                every.torch("w.div_(torch.linalg.matrix_norm(w.flatten(1), 2))"),
            )
        )
    if not relu:
        return found
    he = init.kaiming_normal(nonlinearity="relu")
    found.append(
        Remedy(
            "He weights",
            _for_blocks(names, lambda w, seed: he(np.random.default_rng(seed), w.shape)),
            every.here('w[...] = tr.nn.init.kaiming_normal(nonlinearity="relu")(np.random.default_rng(seed), w.shape)'),
            every.torch('torch.nn.init.kaiming_normal_(w, nonlinearity="relu")'),
        )
    )
    if all(w.ndim == 2 and len(set(w.shape)) == 1 for w in arrays.values()):
        found.append(
            Remedy(
                "identity weights",
                _for_blocks(names, lambda w, seed: np.eye(len(w))),
                every.here("w[...] = np.eye(len(w))"),
                every.torch("torch.nn.init.eye_(w)"),
            )
        )
    return found


class Written:
    """One statement for every array of some parameters `net.NAME`, as code: the blocks of each gate count as arrays. Empty
    where a parameter has no such name, as in a function without a module."""

    def __init__(self, subject: Subject, names: list[str], gates: dict[str, int] | None = None) -> None:
        self._names = [subject.expression(name) for name in names]
        self._gates = [(gates or {}).get(name, 1) for name in names]

    def here(self, statement: str) -> str:
        """The statement about numpy arrays `w`, numbered by `seed`."""
        if not all(self._names):
            return ""
        arrays = self._listed(".value", lambda name, gates: f"*np.split({name}, {gates})")
        if len(self._names) == 1 and "*" not in arrays:
            return f"w = {arrays[1:-1]}; {statement.replace('(seed)', '(0)')}"
        return f"for seed, w in enumerate({arrays}): {statement}" if "seed" in statement else f"for w in {arrays}: {statement}"

    def torch(self, statement: str) -> str:
        """The statement about torch parameters `w`."""
        if not all(self._names):
            return ""
        arrays = self._listed("", lambda name, gates: f"*{name}.chunk({gates})")
        if len(self._names) == 1 and "*" not in arrays:
            return f"w = {arrays[1:-1]}; {statement}"
        return f"for w in {arrays}: {statement}"

    def _listed(self, suffix: str, split: Callable[[str, int], str]) -> str:
        if len(self._names) > 4 and set(self._gates) == {1} and (numbered := _numbered(self._names, suffix)):
            return numbered
        items = zip(self._names, self._gates, strict=True)
        return f"[{', '.join(split(name + suffix, gates) if gates > 1 else name + suffix for name, gates in items)}]"


def _numbered(expressions: list[str], suffix: str) -> str:
    """Expressions that differ in one number, which counts up, as a list comprehension; empty where they do not."""
    split = [re.split(r"(\d+)", expression) for expression in expressions]
    if len({len(parts) for parts in split}) > 1:
        return ""
    varying = [at for at, tokens in enumerate(zip(*split, strict=True)) if len(set(tokens)) > 1]
    if len(varying) != 1 or not split[0][varying[0]].isdecimal():
        return ""
    at = varying[0]
    numbers = [int(parts[at]) for parts in split]
    step = numbers[1] - numbers[0]
    if step < 1 or numbers != list(range(numbers[0], numbers[-1] + 1, step)):
        return ""
    before, after = "".join(split[0][:at]), "".join(split[0][at + 1 :])
    counted = f"range({numbers[0]}, {numbers[-1] + 1}{f', {step}' if step > 1 else ''})"
    if before.endswith("["):
        return f"[{before}k{after}{suffix} for k in {counted}]"
    owner, _, name = before.rpartition(".")
    return f'[getattr({owner}, f"{name}{{k}}"){suffix} for k in {counted}]' if not after else ""


def _polar(w: np.ndarray) -> np.ndarray:
    """The nearest matrix whose singular values are all 1."""
    flat = w.reshape(len(w), -1)
    u, _, vt = np.linalg.svd(flat, full_matrices=False)
    return (u @ vt).reshape(w.shape)


def _for_blocks(names: list[str], draw: Callable[[np.ndarray, int], np.ndarray]) -> Callable[[Subject], None]:
    def apply(subject: Subject) -> None:
        blocks = [block for name in names for block in _blocks(subject.value(name))]
        for seed, block in enumerate(blocks):
            block[...] = draw(block.astype(np.float64), seed)

    return apply


def _for_arrays(names: list[str], change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Subject], None]:
    def apply(subject: Subject) -> None:
        for name in names:
            subject.value(name)[...] = change(subject.value(name))

    return apply


# ---- biases and inputs


def _of_gates(gates: list[Gate], n: int, subject: Subject) -> list[Remedy]:
    """Biases with which the gates of the carry keep half of a state over all steps, and ones that spread over all scales
    (chrono), for every gate that keeps a state."""
    if not gates:
        return []
    half = round(log(n / log(2)) if n > 1 else 1.0, 1)
    which = "the gate that keeps" if len(gates) == 1 else f"the {len(gates)} gates that keep"

    def setting(value: Callable[[int], Any]) -> Callable[[Subject], None]:
        def apply(subject: Subject) -> None:
            for gate in gates:
                for name, at in gate.biases.items():
                    subject.value(name)[at] = gate.sign * value(len(at)) if name == _written_to(gate) else 0.0

        return apply

    def written(value: Callable[[int], str], array: str) -> str:
        lines, adds = [], False
        if not all(subject.expression(name) for gate in gates for name in gate.biases):
            return ""
        for gate in gates:
            first = _written_to(gate)
            minus = "-" if gate.sign < 0 else ""
            lines.append(
                f"{subject.expression(first)}{array}[{_span(gate.biases[first])}] = {minus}{value(len(gate.biases[first]))}"
            )
            others = [(name, at) for name, at in gate.biases.items() if name != first]
            lines += [f"{subject.expression(name)}{array}[{_span(at)}] = 0" for name, at in others]
            adds |= bool(others)
        return "; ".join(lines) + ("  # the two biases add up: write to one, set the other to 0" if adds else "")

    top = max(n, 2)
    return [
        Remedy(
            f"bias of {half:g} for {which}",
            setting(lambda size: half),
            written(lambda size: f"{half:g}", ".value"),
            written(lambda size: f"{half:g}", ""),
        ),
        Remedy(
            f"chrono bias for {which}",
            setting(lambda size: np.log(np.linspace(1, top, size))),
            written(lambda size: f"np.log(np.linspace(1, {top}, {size}))", ".value"),
            written(lambda size: f"torch.linspace(1, {top}, {size}).log()", ""),
        ),
    ]


def _written_to(gate: Gate) -> str:
    """Of biases that add up, the one to write to: that of the recurrent product, if it has one."""
    return next((name for name in gate.biases if "hh" in name), next(iter(gate.biases)))


def _span(entries: np.ndarray) -> str:
    low, high = int(entries[0]), int(entries[-1])
    return f"{low}:{high + 1}" if len(entries) == high - low + 1 else str(entries.tolist())


def _of_inputs(roles: Roles, subject: Subject) -> list[Remedy]:
    found = []
    if roles.inputs and roles.size > 0.5:
        scale = float(f"{0.3 / roles.size:.1g}")
        found.append(
            Remedy(
                f"input weights times {scale:g}",
                _for_arrays(roles.inputs, lambda w: w * scale),
                Written(subject, roles.inputs).here(f"w *= {scale:g}"),
                Written(subject, roles.inputs).torch(f"w.mul_({scale:g})"),
            )
        )
    plain = [name for name in roles.biases if not any(name in gate.biases for gate in roles.gates)]
    if plain:
        found.append(
            Remedy(
                "biases of 0",
                _for_arrays(plain, np.zeros_like),
                Written(subject, plain).here("w[...] = 0"),
                Written(subject, plain).torch("torch.nn.init.zeros_(w)"),
            )
        )
    return found


# ---- layers


def _for_modules(wanted: Callable[[Any], bool], change: Callable[[Any], None]) -> Callable[[Subject], None]:
    def apply(subject: Subject) -> None:
        for module in subject.modules:
            if wanted(module):
                change(module)

    return apply


def _is_tower(module: Any) -> TypeGuard[Sequential]:
    return isinstance(module, Sequential) and sum(isinstance(x, Linear) for x in module) > 2


def _of_layers(modules: list, n: int, relu: bool) -> list[Remedy]:
    found = []
    plain = [m for m in modules if type(m) is RNN]
    leaky = [m for m in modules if isinstance(m, LeakyRNN)]
    leak = float(f"{min(0.5, log(10) / n):.1g}")
    if plain:
        found.append(
            Remedy(
                f"leaky units, leak {leak:g}",
                _for_modules(lambda m: type(m) is RNN, lambda m: _become(m, LeakyRNN, leak=leak)),
                f"tr.nn.LeakyRNN(..., leak={leak:g}) in place of RNN",
                f"h = {1 - leak:g} * h + {leak:g} * cell(x, h)  # in place of h = cell(x, h)",
            )
        )
        if not relu:
            found.append(
                Remedy(
                    "relu and identity weights (IRNN)",
                    _for_modules(lambda m: type(m) is RNN, _irnn),
                    'tr.nn.RNN(..., nonlinearity="relu", init="identity") with biases of 0',
                    'torch.nn.RNN(..., nonlinearity="relu"), torch.nn.init.eye_(w) for its weight_hh, biases of 0',
                )
            )
    if any(m.leak != leak for m in leaky):
        found.append(
            Remedy(
                f"a leak of {leak:g}",
                _for_modules(lambda m: isinstance(m, LeakyRNN), lambda m: setattr(m, "leak", leak)),
                f"tr.nn.LeakyRNN(..., leak={leak:g})",
                f"h = {1 - leak:g} * h + {leak:g} * phi",
            )
        )
    return found + _of_depth(modules, n) + _of_activations(modules)


def _become(module: Any, cls: type, **attributes: Any) -> None:
    module.__class__ = cls
    vars(module).update(attributes)


def _irnn(rnn: RNN) -> None:
    rnn.nonlinearity = "relu"
    for layer in range(rnn.num_layers):
        for suffix in rnn._suffixes:
            _, w_hh, *biases = rnn.cell_parameters(layer, suffix)
            w_hh.value[...] = np.eye(len(w_hh.value))
            for b in biases:
                if b is not None:
                    b.value[...] = 0


class _ResidualMLP(MLP):
    """An MLP with a path around every layer that keeps the width."""

    scale = 1.0

    def forward(self, x: Tensor) -> Tensor:
        h, phi = as_tensor(x), nonlinearity_of(self.nonlinearity)
        for i, layer in enumerate(self.layers):
            with scope(layer=i):
                z = layer(h)
                new = phi(z)
                z.name = "z"
                h = h + new * self.scale if new.shape == h.shape else new
                h.name = "h"
        return h


def _of_depth(modules: list, n: int) -> list[Remedy]:
    found = []
    scale = float(f"{n**-0.5:.2g}")
    residual = [m for m in modules if isinstance(m, Residual)]
    towers = [m for m in modules if _is_tower(m)]
    mlps = [m for m in modules if type(m) is MLP]
    lists = [m for m in modules if type(m) is not MLP and _list_of_layers(m)]
    if residual and any(m.scale != scale for m in residual):
        found.append(
            Remedy(
                f"residual scale {scale:g}",
                _for_modules(lambda m: isinstance(m, Residual), lambda m: setattr(m, "scale", scale)),
                f"tr.nn.Residual(layer, scale={scale:g})",
                f"x + {scale:g} * layer(x)",
            )
        )
    if towers or mlps or lists:
        block, whole = (
            ("block", "a Linear with its activation") if towers or mlps else ("block", "an entry of the list of layers")
        )

        def paths(s: Subject) -> None:
            for m in s.modules:
                if type(m) is MLP:
                    _become(m, _ResidualMLP, scale=scale)
                elif _is_tower(m):
                    _rebuild(m, _with_paths(list(m), scale))
                elif _list_of_layers(m):
                    name = _list_of_layers(m)
                    setattr(m, name, [Residual(layer, scale) for layer in getattr(m, name)])

        found.append(
            Remedy(
                f"a residual path around every layer, scale {scale:g}",
                paths,
                f"tr.nn.Residual({'tr.nn.' if block != 'block' else ''}{block}, scale={scale:g})",
                f"x + {scale:g} * {block}(x)",
            )
        )
    if towers:
        found.append(
            Remedy(
                "layer normalisation before every activation",
                _for_modules(_is_tower, _normalise),
                "tr.nn.LayerNorm(features) after every Linear",
                "torch.nn.LayerNorm(features) after every Linear",
            )
        )
    return found


def _list_of_layers(module: Any) -> str:
    """The attribute of a user's module that lists at least three layers, none of them with a path around it; empty if none."""
    listed = [
        name
        for name, value in vars(module).items()
        if isinstance(value, list) and value and all(isinstance(x, Module) for x in value)
    ]
    if len(listed) != 1 or len(vars(module)[listed[0]]) < 3:
        return ""
    return "" if any(isinstance(x, Residual) for x in vars(module)[listed[0]]) else listed[0]


def _rebuild(sequential: Sequential, modules: list) -> None:
    for name in [name for name in vars(sequential) if name.isdecimal()]:
        del vars(sequential)[name]
    for i, module in enumerate(modules):
        vars(sequential)[str(i)] = module


def _with_paths(modules: list, scale: float) -> list:
    """Each square Linear and what follows it up to the next one as a block with a path around it."""
    out: list = []
    for module in modules:
        if isinstance(module, Linear):
            out.append([module])
        elif out and isinstance(out[-1], list):
            out[-1].append(module)
        else:
            out.append(module)
    blocks = []
    for group in out:
        if not isinstance(group, list):
            blocks.append(group)
        elif group[0].in_features == group[0].out_features:
            blocks.append(Residual(Sequential(*group), scale))
        else:
            blocks += group
    return blocks


def _normalise(tower: Any) -> None:
    _rebuild(tower, _with_norms(list(tower)))


def _with_norms(modules: list) -> list:
    out = []
    for i, module in enumerate(modules):
        out.append(module)
        last = i + 1 == len(modules)
        if isinstance(module, Linear) and not last and not isinstance(modules[i + 1], LayerNorm):
            out.append(LayerNorm(module.out_features, dtype=module.weight.dtype))
    return out


def _of_activations(modules: list) -> list[Remedy]:
    """Another non-linearity where the one there is is known to shrink: sigmoid, or relu units that are off."""
    named = {getattr(m, "nonlinearity", None) for m in modules}
    listed = [m for m in modules if isinstance(m, Sequential) and any(isinstance(x, activation.Sigmoid) for x in m)]
    found = []
    if "sigmoid" in named or listed:

        def tanh(m: Any) -> None:
            if isinstance(m, Sequential):
                _rebuild(m, [activation.Tanh() if isinstance(x, activation.Sigmoid) else x for x in m])
            else:
                m.nonlinearity = "tanh"

        other = _for_modules(lambda m: isinstance(m, Sequential) or getattr(m, "nonlinearity", None) == "sigmoid", tanh)
        found.append(Remedy("tanh for sigmoid", other, 'nonlinearity="tanh", or tr.nn.Tanh()', "torch.tanh for torch.sigmoid"))
    if "relu" in named:
        is_relu = _for_modules(
            lambda m: getattr(m, "nonlinearity", None) == "relu", lambda m: setattr(m, "nonlinearity", "leaky_relu")
        )
        found.append(
            Remedy(
                "leaky relu for relu",
                is_relu,
                'nonlinearity="leaky_relu"',
                "torch.nn.functional.leaky_relu for relu, in a loop of cells",
            )
        )
    return found
