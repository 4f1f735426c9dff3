/* Optimizer updates, in place on contiguous parameters. */

/* v(n) = momentum v + g;  w(n) -= rate v.  p = {w, v or NULL, g}, c = {rate, momentum} (Sutskever et al. 2013, as PyTorch) */
TGR_KERNEL(sgd)
{
    real *restrict w = p[0], *restrict v = p[1];
    const real *restrict g = p[2];
    const real rate = (real)c[0], momentum = (real)c[1];
    if (!v)
        for (ptrdiff_t i = 0; i < n[0]; i++) w[i] -= rate * g[i];
    else
        for (ptrdiff_t i = 0; i < n[0]; i++) {
            v[i] = momentum * v[i] + g[i];
            w[i] -= rate * v[i];
        }
    return TGR_OK;
}

/* m(n) = b1 m + (1 - b1) g;  v(n) = b2 v + (1 - b2) g^2;  w(n) -= step m / (sqrt(v) / root + eps)
 * p = {w, m, v, g}, c = {step = rate / (1 - b1^t), b1, b2, eps, root = sqrt(1 - b2^t)} (Kingma & Ba 2015) */
TGR_KERNEL(adam)
{
    real *restrict w = p[0], *restrict m = p[1], *restrict v = p[2];
    const real *restrict g = p[3];
    const real step = (real)c[0], b1 = (real)c[1], b2 = (real)c[2], eps = (real)c[3], root = (real)c[4];
    const real keep1 = (real)(1 - c[1]), keep2 = (real)(1 - c[2]);
    for (ptrdiff_t i = 0; i < n[0]; i++) {
        m[i] = b1 * m[i] + keep1 * g[i];
        v[i] = b2 * v[i] + keep2 * (g[i] * g[i]);
        w[i] -= step * m[i] / (M(sqrt)(v[i]) / root + eps);
    }
    return TGR_OK;
}
