"""Each edge that a gradient passes, by its effect: which part of a decay it belongs to.

The answer depends on the numbers that meet there, not on the spelling: a product with a constant, with a parameter or with
another signal are three things."""

from __future__ import annotations

from math import log

import numpy as np

from ..graph import Graph

CONSTANT, PARAMETER, SIGNAL = 0, 1, 2

PASS = "pass"  # sums and views: the cotangent goes on unchanged
# a product of two numbers, by op: for each input slot the slots of the factors that a cotangent is multiplied by
_FACTORS = {
    "mul": ((1,), (0,)),
    "lerp": ((2,), (2,), (0, 1)),
    "addcmul": ((), (2,), (1,)),
    "lstm_state": ((2,), (3,), (0,), (1,)),
}
_SUMS = {"add", "sub", "neg", "concatenate", "stack", "sum"}
_PADDING = {"select_steps", "mask_steps"}  # within the steps that a sequence has, these hand on what is new
_SQUASHING = {"sigmoid", "tanh", "exp", "softplus", "hardtanh", "clip"}
_UNARY_WITH_CONSTANT = {"pow", "maximum", "minimum", "logaddexp", "hypot", "arctan2"}


def origins(graph: Graph, signals: frozenset[int] | set[int] = frozenset()) -> list[int]:
    """By position: CONSTANT, PARAMETER (made from parameters and constants) or SIGNAL (depends on data). `signals` are
    positions that count as data whatever made them."""
    out: list[int] = []
    for i, role in enumerate(graph.roles):
        op = graph.ops[i]
        if op is None:
            kind = {"constant": CONSTANT, "parameter": PARAMETER}.get(role, SIGNAL)
        elif op.name in ("embedding", "dropout"):
            kind = SIGNAL
        else:
            kind = max((out[j] for j in graph.inputs_of[i]), default=CONSTANT)
        out.append(SIGNAL if i in signals else kind)
    return out


def part_of(graph: Graph, i: int, slot: int, origin: list[int]) -> str:
    """The part that the edge from node i to its input `slot` belongs to: "saturation", "weights", "gates", "constants",
    "other", or PASS."""
    op = graph.ops[i]
    assert op is not None
    inputs = graph.inputs_of[i]
    if op.kind == "activation":
        return "saturation"
    if op.kind == "weights":  # by whatever matrix: a fixed one mixes units as a trained one does
        return "gates" if len(inputs) > 1 and origin[inputs[1 - slot if slot < 2 else 0]] == SIGNAL else "weights"
    if op.kind == "view" or op.name in _SUMS or op.name in _PADDING:
        return PASS
    if op.name in _FACTORS:
        if op.name == "mul" and inputs[0] == inputs[1]:
            return "saturation"
        return _product(graph, [inputs[s] for s in _FACTORS[op.name][slot]], origin)
    if op.name == "div":
        return _product(graph, [inputs[1]], origin) if slot == 0 else "gates" if origin[inputs[0]] == SIGNAL else "saturation"
    if op.name in _UNARY_WITH_CONSTANT:
        return "other" if origin[inputs[1 - slot]] == SIGNAL and inputs[0] != inputs[1] else "saturation"
    return "step" if op.name == "rnn_cell" else "other"


def _product(graph: Graph, factors: list[int], origin: list[int]) -> str:
    """The part of a product, by the positions of its other factors."""
    if not factors:
        return PASS
    most = max(factors, key=lambda j: origin[j])
    if origin[most] == PARAMETER and _is_squashed(graph, most, origin):
        return "constants"
    return {CONSTANT: "constants", PARAMETER: "weights", SIGNAL: "gates"}[origin[most]]


def _is_squashed(graph: Graph, position: int, origin: list[int]) -> bool:
    """Whether a factor is a bounded function of a parameter, as a learned leak is."""
    todo = [position]
    while todo:
        at = todo.pop()
        op = graph.ops[at]
        if op is not None and op.name in _SQUASHING:
            return True
        todo += [j for j in graph.inputs_of[at] if origin[j] == PARAMETER]
    return False


def is_padding(graph: Graph, i: int, slot: int) -> bool:
    """Whether an edge hands on the old state of a sequence that has ended."""
    op = graph.ops[i]
    return op is not None and op.name == "select_steps" and slot == 1


def constant_inside(graph: Graph, i: int, slot: int) -> float:
    """log |c| of the numbers that the factor at a product contains: h * (0.5 z) passes a gate z and a constant 0.5."""
    op = graph.ops[i]
    if op is None or op.name != "mul":
        return 0.0
    at, found = graph.inputs_of[i][1 - slot], 0.0
    while (below := graph.ops[at]) is not None and below.name in ("mul", "div", "neg"):
        inputs = graph.inputs_of[at]
        if below.name == "neg":
            at = inputs[0]
            continue
        numbers = [s for s, j in enumerate(inputs) if graph.roles[j] == "constant" and graph.values[j].size == 1]
        if len(numbers) != 1 or (below.name == "div" and numbers[0] == 0):
            break
        c = abs(float(graph.values[inputs[numbers[0]]].reshape(())))
        if not c or not np.isfinite(c):
            break
        found += log(c) if below.name == "mul" else -log(c)
        at = inputs[1 - numbers[0]]
    return found
