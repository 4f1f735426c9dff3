/* Optimizer updates, in place on contiguous parameters. What may change from step to step, the settings and the count of steps, is
 * read from memory, so that a replayed update sees it. */

/* x(n) *= max_norm / (norm + 1e-6), norm = sqrt(total), where that is below 1 and the norm finite; in place
 * p = {x, total}, total a double, c = {max_norm} (Pascanu et al. 2013, in PyTorch's form) */
TGR_KERNEL(clip_to_norm)
{
    real *restrict x = p[0];
    const double norm = sqrt(*(const double *)p[1]), factor = c[0] / (norm + 1e-6);
    if (!(norm < (double)INFINITY) || !(factor < 1)) return TGR_OK;
    const real by = (real)factor;
    for (ptrdiff_t i = 0; i < n[0]; i++) x[i] *= by;
    return TGR_OK;
}

/* v(n) = momentum v + g;  w(n) -= rate v.  p = {w, v or NULL, g, settings}; settings are doubles {rate, momentum}
 * (Sutskever et al. 2013, as PyTorch) */
TGR_KERNEL(sgd)
{
    real *restrict w = p[0], *restrict v = p[1];
    const real *restrict g = p[2];
    const double *settings = p[3];
    const real rate = (real)settings[0], momentum = (real)settings[1];
    (void)c;
    if (!v)
        for (ptrdiff_t i = 0; i < n[0]; i++) w[i] -= rate * g[i];
    else
        for (ptrdiff_t i = 0; i < n[0]; i++) {
            v[i] = momentum * v[i] + g[i];
            w[i] -= rate * v[i];
        }
    return TGR_OK;
}

/* t += 1;  m(n) = b1 m + (1 - b1) g;  v(n) = b2 v + (1 - b2) g^2;  w(n) -= rate / (1 - b1^t) m / (sqrt(v / (1 - b2^t)) + eps)
 * p = {w, m, v, t, g, settings}; t is a double, settings are doubles {rate, b1, b2, eps} (Kingma & Ba 2015) */
TGR_KERNEL(adam)
{
    real *restrict w = p[0], *restrict m = p[1], *restrict v = p[2];
    const real *restrict g = p[4];
    const double *settings = p[5], t = *(double *)p[3] += 1;
    const real step = (real)(settings[0] / (1 - pow(settings[1], t))), root = (real)sqrt(1 - pow(settings[2], t));
    const real b1 = (real)settings[1], keep1 = (real)(1 - settings[1]), b2 = (real)settings[2], keep2 = (real)(1 - settings[2]);
    const real eps = (real)settings[3];
    (void)c;
    for (ptrdiff_t i = 0; i < n[0]; i++) {
        m[i] = b1 * m[i] + keep1 * g[i];
        v[i] = b2 * v[i] + keep2 * (g[i] * g[i]);
        w[i] -= step * m[i] / (M(sqrt)(v[i]) / root + eps);
    }
    return TGR_OK;
}
