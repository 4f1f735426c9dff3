/* Optimizer updates, in place on contiguous parameters. What may change from step to step, the settings and the count of steps, is
 * read from memory, so that a replayed update sees it. */

/* x(n) *= min(max_norm / (norm + 1e-6), 1), in place; NaN where norm is
 * p = {x, norm}, norm a double, c = {max_norm} (Pascanu et al. 2013, in PyTorch's form) */
TGR_KERNEL(clip_to_norm)
{
    real *restrict x = p[0];
    const double factor = c[0] / (*(const double *)p[1] + 1e-6);
    if (factor >= 1) return TGR_OK;
    const real by = (real)factor;
    for (ptrdiff_t i = 0; i < n[0]; i++) x[i] *= by;
    return TGR_OK;
}

/* x(n) = min(max(x, -limit), limit), in place; NaN stays.  p = {x}, c = {limit} */
TGR_KERNEL(clip_to_value)
{
    real *restrict x = p[0];
    const real limit = (real)c[0];
    for (ptrdiff_t i = 0; i < n[0]; i++) {
        const real low = x[i] < -limit ? -limit : x[i];
        x[i] = low > limit ? limit : low;
    }
    return TGR_OK;
}

/* The gradient of what is minimised: g, and that of decay / 2 |w|^2. Without decay a w that is not finite leaves g alone. */
INLINE real FN(decayed)(real g, real w, real decay) { return decay != 0 ? g + decay * w : g; }

/* d = g + decay w;  v(n) = momentum v + d;  w(n) -= rate v, or rate (d + momentum v) where nesterov is not 0. v NULL: w(n) -= rate d
 * p = {w, v or NULL, g, settings}; settings are doubles {rate, momentum, decay, nesterov} (Sutskever et al. 2013, as PyTorch) */
TGR_KERNEL(sgd)
{
    real *restrict w = p[0], *restrict v = p[1];
    const real *restrict g = p[2];
    const double *settings = p[3];
    const real rate = (real)settings[0], momentum = (real)settings[1], decay = (real)settings[2];
    const int nesterov = settings[3] != 0;
    (void)c;
    if (!v)
        for (ptrdiff_t i = 0; i < n[0]; i++) w[i] -= rate * FN(decayed)(g[i], w[i], decay);
    else
        for (ptrdiff_t i = 0; i < n[0]; i++) {
            const real d = FN(decayed)(g[i], w[i], decay);
            v[i] = momentum * v[i] + d;
            w[i] -= rate * (nesterov ? d + momentum * v[i] : v[i]);
        }
    return TGR_OK;
}

/* t += 1;  w(n) *= 1 - rate decay;  d = g + l2 w;  m(n) = b1 m + (1 - b1) d;  v(n) = b2 v + (1 - b2) d^2;
 * w(n) -= rate / (1 - b1^t) m / (sqrt(v / (1 - b2^t)) + eps).  p = {w, m, v, t, g, settings}; t is a double, settings are doubles
 * {rate, b1, b2, eps, l2, decay}: l2 is the weight decay of Adam (Kingma & Ba 2015), decay that of AdamW (Loshchilov & Hutter 2019) */
TGR_KERNEL(adam)
{
    real *restrict w = p[0], *restrict m = p[1], *restrict v = p[2];
    const real *restrict g = p[4];
    const double *settings = p[5], t = *(double *)p[3] += 1;
    const real step = (real)(settings[0] / (1 - pow(settings[1], t))), root = (real)sqrt(1 - pow(settings[2], t));
    const real b1 = (real)settings[1], keep1 = (real)(1 - settings[1]), b2 = (real)settings[2], keep2 = (real)(1 - settings[2]);
    const real eps = (real)settings[3], l2 = (real)settings[4], shrink = (real)(1 - settings[0] * settings[5]);
    (void)c;
    for (ptrdiff_t i = 0; i < n[0]; i++) {
        const real u = shrink * w[i], d = FN(decayed)(g[i], u, l2);
        m[i] = b1 * m[i] + keep1 * d;
        v[i] = b2 * v[i] + keep2 * (d * d);
        w[i] = u - step * m[i] / (M(sqrt)(v[i]) / root + eps);
    }
    return TGR_OK;
}

/* d = g + decay w;  v(n) = alpha v + (1 - alpha) d^2;  mean(n) = alpha mean + (1 - alpha) d;  u = d / (sqrt(v - mean^2) + eps);
 * b(n) = momentum b + u;  w(n) -= rate b. mean NULL counts as 0, b NULL as u. The variance v - mean^2 is 0 where rounding makes it less.
 * p = {w, v, mean or NULL, b or NULL, g, settings}; settings are doubles {rate, alpha, eps, decay, momentum}
 * (Tieleman & Hinton 2012; centered: Graves 2013; as PyTorch) */
TGR_KERNEL(rmsprop)
{
    real *restrict w = p[0], *restrict v = p[1], *restrict mean = p[2], *restrict b = p[3];
    const real *restrict g = p[4];
    const double *settings = p[5];
    const real rate = (real)settings[0], alpha = (real)settings[1], keep = (real)(1 - settings[1]), eps = (real)settings[2];
    const real decay = (real)settings[3], momentum = (real)settings[4];
    (void)c;
    for (ptrdiff_t i = 0; i < n[0]; i++) {
        const real d = FN(decayed)(g[i], w[i], decay);
        real variance = v[i] = alpha * v[i] + keep * (d * d);
        if (mean) {
            mean[i] = alpha * mean[i] + keep * d;
            variance -= mean[i] * mean[i];
            variance = variance < 0 ? 0 : variance;
        }
        const real u = d / (M(sqrt)(variance) + eps);
        w[i] -= rate * (b ? b[i] = momentum * b[i] + u : u);
    }
    return TGR_OK;
}
