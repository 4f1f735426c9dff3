"""Losses, with PyTorch's shapes and reductions: "mean" over the entries of the target that count, "sum", or "none"."""

from functools import partial
from math import prod

from .norm import log_softmax
from .op import Op, ShapeError, as_rows, from_rows

REDUCTIONS = ("mean", "sum", "none")


def _weight(k, g, reduction, count):
    """What the loss of every entry is multiplied with on the way back: g of its shape, or () where it was reduced."""
    return g if reduction == "none" else k.scale(g, _factor(reduction, count))


def _factor(reduction, count):
    """What every entry's loss is multiplied with. The mean of nothing is nan, as PyTorch's is."""
    return 1.0 if reduction == "sum" else 1 / count if count else float("nan")


def _reduce(k, losses, reduction):
    return losses if reduction == "none" else k.scale(k.sum(losses), _factor(reduction, losses.size))


def _reduced(name, shape, reduction):
    if reduction not in REDUCTIONS:
        raise ValueError(f"{name}: unknown reduction {reduction!r}; expected one of {', '.join(REDUCTIONS)}")
    return shape if reduction == "none" else ()


# ---- of classes: integers, of which one value may say that an entry does not count


def _classes(name, x, target_shape):
    """Number of classes of x, if it fits the target."""
    if not x or target_shape != ((x[:1] + x[2:]) if len(x) > 1 else ()):
        what = "logits" if name == "cross_entropy" else "log-probabilities"
        raise ShapeError(
            f"{name}: {what} {x} and target {target_shape} do not fit; expected (N, classes, ...) and (N, ...), or "
            "(classes,) and ()"
        )
    return x[1] if len(x) > 1 else x[0]


def _classes_shape(name, x, target, reduction, ignore_index):
    classes = _classes(name, x, target.shape)
    wrong = target[(target != ignore_index) & ((target < 0) | (target >= classes))]
    if wrong.size:
        raise IndexError(f"{name}: target {wrong.flat[0]} lies outside the {classes} classes 0..{classes - 1}")
    return _reduced(name, target.shape, reduction)


def _picked(k, log_probability, flat, target_shape, reduction, ignore_index):
    """The reduced loss, and the number of entries that count, where it is their mean."""
    losses = k.nll(log_probability, flat, ignore_index)
    if reduction == "none":
        return k.reshape(losses, target_shape), None
    if reduction == "sum":
        return k.sum(losses), None
    # counted by a kernel: the target of a replay may be another one
    counted = k.count_targets(flat, losses.dtype, ignore_index)
    return k.div(k.sum(losses), counted), counted


def _of_rows(k, g, counted, reduction, count):
    """The cotangent of each row's loss."""
    if reduction == "none":
        return k.reshape(g, (count,))
    return k.broadcast_to(g if counted is None else k.div(g, counted), (count,))


def _cross_entropy_forward(k, x, target, reduction, ignore_index):
    _classes("cross_entropy", x.shape, target.shape)
    _reduced("cross_entropy", target.shape, reduction)
    rows, last_shape = as_rows(k, x)
    flat = target.reshape(-1)
    log_probability = k.log_softmax(rows, 1)
    out, counted = _picked(k, log_probability, flat, target.shape, reduction, ignore_index)
    return out, (log_probability, flat, last_shape, counted)


def _cross_entropy_vjp(k, g, log_probability, flat, last_shape, counted, needs, target, reduction, ignore_index):
    g_rows = _of_rows(k, g, counted, reduction, target.size)
    return (from_rows(k, k.cross_entropy_vjp(g_rows, log_probability, flat, ignore_index), last_shape),)


def _nll_loss_forward(k, x, target, reduction, ignore_index):
    _classes("nll_loss", x.shape, target.shape)
    _reduced("nll_loss", target.shape, reduction)
    rows, last_shape = as_rows(k, x)
    flat = target.reshape(-1)
    out, counted = _picked(k, rows, flat, target.shape, reduction, ignore_index)
    return out, (flat, last_shape, counted)


def _nll_loss_vjp(k, g, flat, last_shape, counted, needs, target, reduction, ignore_index):
    g_rows = _of_rows(k, g, counted, reduction, target.size)
    return (from_rows(k, k.nll_vjp(g_rows, flat, last_shape[-1], ignore_index), last_shape),)


def _cross_entropy_composed(apply, x, **params):
    return apply(nll_loss, apply(log_softmax, x, axis=1 if x.ndim > 1 else 0), **params)


cross_entropy = Op(
    "cross_entropy",
    partial(_classes_shape, "cross_entropy"),
    _cross_entropy_forward,
    _cross_entropy_vjp,
    composed=_cross_entropy_composed,
)
nll_loss = Op("nll_loss", partial(_classes_shape, "nll_loss"), _nll_loss_forward, _nll_loss_vjp)


# ---- of two equal shapes, entry by entry


def _pair_shape(name, x, y, reduction, **params):
    if x != y:
        raise ShapeError(f"{name}: input {x} and target {y} differ; nothing is broadcast here")
    return _reduced(name, x, reduction)


def _mse_loss_forward(k, x, y, reduction):
    _pair_shape("mse_loss", x.shape, y.shape, reduction)
    difference = k.sub(x, y)
    return _reduce(k, k.mul(difference, difference), reduction), (difference,)


def _mse_loss_vjp(k, g, difference, needs, reduction):
    factor = 1.0 if reduction == "none" else _factor(reduction, prod(difference.shape))
    gx = k.mul(k.scale(difference, 2 * factor), g)
    return (gx if needs[0] else None, k.neg(gx) if needs[1] else None)


# the others keep the derivative of every entry's loss


def _absolute(k, difference):
    return k.abs(difference), k.sign(difference)


def _l1_loss_forward(k, x, y, reduction):
    _pair_shape("l1_loss", x.shape, y.shape, reduction)
    losses, slopes = _absolute(k, k.sub(x, y))
    return _reduce(k, losses, reduction), (slopes,)


def _huber_loss_forward(k, x, y, reduction, delta):
    _pair_shape("huber_loss", x.shape, y.shape, reduction)
    losses, slopes = k.huber(k.sub(x, y), delta, 1.0)
    return _reduce(k, losses, reduction), (slopes,)


def _smooth_l1_loss_forward(k, x, y, reduction, beta):
    _pair_shape("smooth_l1_loss", x.shape, y.shape, reduction)
    difference = k.sub(x, y)
    losses, slopes = k.huber(difference, beta, 1 / beta) if beta else _absolute(k, difference)
    return _reduce(k, losses, reduction), (slopes,)


def _slopes_vjp(k, g, slopes, needs, reduction, **params):
    gx = k.mul(slopes, _weight(k, g, reduction, prod(slopes.shape)))
    return (gx if needs[0] else None, k.neg(gx) if needs[1] else None)


def _bce_forward(k, x, target, reduction):
    _pair_shape("binary_cross_entropy_with_logits", x.shape, target.shape, reduction)
    losses, slopes = k.bce_with_logits(x, target)
    return _reduce(k, losses, reduction), (slopes, x)


def _bce_vjp(k, g, slopes, x, needs, reduction):
    # y = -t log(sigmoid(x)) - (1 - t) log(sigmoid(-x)): dy/dt = -x
    weight = _weight(k, g, reduction, prod(slopes.shape))
    return (k.mul(slopes, weight) if needs[0] else None, k.neg(k.mul(x, weight)) if needs[1] else None)


mse_loss = Op("mse_loss", partial(_pair_shape, "mse_loss"), _mse_loss_forward, _mse_loss_vjp)
l1_loss = Op("l1_loss", partial(_pair_shape, "l1_loss"), _l1_loss_forward, _slopes_vjp)
huber_loss = Op("huber_loss", partial(_pair_shape, "huber_loss"), _huber_loss_forward, _slopes_vjp)
smooth_l1_loss = Op("smooth_l1_loss", partial(_pair_shape, "smooth_l1_loss"), _smooth_l1_loss_forward, _slopes_vjp)
binary_cross_entropy_with_logits = Op(
    "binary_cross_entropy_with_logits", partial(_pair_shape, "binary_cross_entropy_with_logits"), _bce_forward, _bce_vjp
)
