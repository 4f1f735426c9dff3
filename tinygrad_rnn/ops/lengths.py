"""Sequences of a batch that end at different steps: lengths (B,) of integers says how many steps each has."""

from .op import Op, ShapeError


def _fitting(name, x, lengths):
    if len(x) != 2 or lengths.shape != x[:1]:
        raise ShapeError(f"{name}: lengths {lengths.shape} do not fit states {x}; expected (B,) and (B, H)")
    return x


def _select_steps_shape(x, old, lengths, t):
    if x != old:
        raise ShapeError(f"select_steps: states {x} and {old} differ")
    return _fitting("select_steps", x, lengths)


def _select_steps_forward(k, x, old, lengths, t):
    return k.select_steps(x, old, lengths, t), ()


def _select_steps_vjp(k, g, needs, lengths, t):
    return (
        k.mask_steps(g, lengths, t, True) if needs[0] else None,
        k.mask_steps(g, lengths, t, False) if needs[1] else None,
    )


def _mask_steps_shape(x, lengths, t):
    return _fitting("mask_steps", x, lengths)


def _mask_steps_forward(k, x, lengths, t):
    return k.mask_steps(x, lengths, t, True), ()


def _mask_steps_vjp(k, g, needs, lengths, t):
    return (k.mask_steps(g, lengths, t, True),)


select_steps = Op("select_steps", _select_steps_shape, _select_steps_forward, _select_steps_vjp)
mask_steps = Op("mask_steps", _mask_steps_shape, _mask_steps_forward, _mask_steps_vjp)
