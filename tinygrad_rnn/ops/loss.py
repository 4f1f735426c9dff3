"""Losses, with PyTorch's shapes and reductions: "mean" over all entries of the target, "sum", or "none"."""

from math import prod

from .op import Op, ShapeError

REDUCTIONS = ("mean", "sum", "none")


def _factor(reduction, count):
    """What every entry's loss is multiplied with. The mean of nothing is nan, as PyTorch's is."""
    return 1.0 if reduction == "sum" else 1 / count if count else float("nan")


def _reduced(name, shape, reduction):
    if reduction not in REDUCTIONS:
        raise ValueError(f"{name}: unknown reduction {reduction!r}; expected one of {', '.join(REDUCTIONS)}")
    return shape if reduction == "none" else ()


def _classes(x, target_shape):
    """Number of classes of logits of shape x, if they fit the target."""
    if not x or target_shape != ((x[:1] + x[2:]) if len(x) > 1 else ()):
        raise ShapeError(
            f"cross_entropy: logits {x} and target {target_shape} do not fit; expected (N, classes, ...) and (N, ...), or "
            "(classes,) and ()"
        )
    return x[1] if len(x) > 1 else x[0]


def _cross_entropy_shape(x, target, reduction):
    classes = _classes(x, target.shape)
    if target.size and not 0 <= target.min() <= target.max() < classes:
        wrong = target.min() if target.min() < 0 else target.max()
        raise IndexError(f"cross_entropy: target {wrong} lies outside the {classes} classes 0..{classes - 1}")
    return _reduced("cross_entropy", target.shape, reduction)


def _cross_entropy_forward(k, x, target, reduction):
    _classes(x.shape, target.shape)
    _reduced("cross_entropy", target.shape, reduction)
    # rows of logits: the axis of the classes goes last
    last = k.transpose(x, (0, *range(2, x.ndim), 1)) if x.ndim > 2 else x
    rows = k.reshape(last, (target.size, last.shape[-1]))
    flat = target.reshape(-1)
    log_probability = k.log_softmax(rows, 1)
    losses = k.nll(log_probability, flat)
    if reduction == "none":
        return k.reshape(losses, target.shape), (log_probability, flat, last.shape)
    out = k.scale(k.sum(losses), _factor(reduction, target.size))
    return out, (log_probability, flat, last.shape)


def _cross_entropy_vjp(k, g, log_probability, flat, last_shape, needs, target, reduction):
    if reduction == "none":
        g_rows = k.reshape(g, (target.size,))
    else:
        g_rows = k.broadcast_to(k.scale(g, _factor(reduction, target.size)), (target.size,))
    gx = k.reshape(k.cross_entropy_vjp(g_rows, log_probability, flat), last_shape)
    n = len(last_shape)
    return (k.transpose(gx, (0, n - 1, *range(1, n - 1))) if n > 2 else gx,)


def _mse_loss_shape(x, y, reduction):
    if x != y:
        raise ShapeError(f"mse_loss: input {x} and target {y} differ; nothing is broadcast here")
    return _reduced("mse_loss", x, reduction)


def _mse_loss_forward(k, x, y, reduction):
    _mse_loss_shape(x.shape, y.shape, reduction)
    difference = k.sub(x, y)
    squares = k.mul(difference, difference)
    out = squares if reduction == "none" else k.scale(k.sum(squares), _factor(reduction, x.size))
    return out, (difference,)


def _mse_loss_vjp(k, g, difference, needs, reduction):
    factor = 1.0 if reduction == "none" else _factor(reduction, prod(difference.shape))
    gx = k.mul(k.scale(difference, 2 * factor), g)
    return (gx if needs[0] else None, k.neg(gx) if needs[1] else None)


cross_entropy = Op("cross_entropy", _cross_entropy_shape, _cross_entropy_forward, _cross_entropy_vjp)
mse_loss = Op("mse_loss", _mse_loss_shape, _mse_loss_forward, _mse_loss_vjp)
