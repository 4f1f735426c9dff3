/* softmax and what losses need of it. Axes: n = {outer, length, inner}, the middle one is normalised. */

/* max of x(length) with the given stride; NaN wins; -inf for an empty axis */
static inline real FN(max_strided)(const real *x, ptrdiff_t length, ptrdiff_t stride)
{
    real top = -(real)INFINITY;
    for (ptrdiff_t i = 0; i < length; i++) {
        const real v = x[i * stride];
        top = v > top || v != v ? v : top;
    }
    return top;
}

/* y(length) = exp(x(length) - shift); returns its sum. Sixteen lanes of partial sums keep the rounding error small. */
static inline real FN(exp_shifted)(real *y, const real *x, real shift, ptrdiff_t length, ptrdiff_t stride)
{
    real sum[16] = {0}, total = 0;
    for (ptrdiff_t i = 0; i < length; i++) y[i * stride] = FN(exp_of)(x[i * stride] - shift);
    for (ptrdiff_t i = 0; i < length; i++) sum[i % 16] += y[i * stride];
    for (int u = 0; u < 16; u++) total += sum[u];
    return total;
}

/* y(outer, length, inner) = exp(x) / sum of exp(x) over the middle axis */
TGR_KERNEL(softmax)
{
    (void)c;
    for (ptrdiff_t o = 0; o < n[0]; o++)
        for (ptrdiff_t j = 0; j < n[2]; j++) {
            real *y = (real *)p[0] + o * n[1] * n[2] + j;
            const real *x = (const real *)p[1] + o * n[1] * n[2] + j;
            const real sum = FN(exp_shifted)(y, x, FN(max_strided)(x, n[1], n[2]), n[1], n[2]);
            for (ptrdiff_t i = 0; i < n[1]; i++) y[i * n[2]] /= sum;
        }
    return TGR_OK;
}

/* y(outer, length, inner) = x - log(sum of exp(x) over the middle axis) */
TGR_KERNEL(log_softmax)
{
    (void)c;
    for (ptrdiff_t o = 0; o < n[0]; o++)
        for (ptrdiff_t j = 0; j < n[2]; j++) {
            real *y = (real *)p[0] + o * n[1] * n[2] + j;
            const real *x = (const real *)p[1] + o * n[1] * n[2] + j;
            const real top = FN(max_strided)(x, n[1], n[2]);
            const real log_sum = M(log)(FN(exp_shifted)(y, x, top, n[1], n[2]));
            for (ptrdiff_t i = 0; i < n[1]; i++) y[i * n[2]] = (x[i * n[2]] - top) - log_sum;
        }
    return TGR_OK;
}

/* y(rows) = -log_probability(rows, classes)[target(rows)]; n = {rows, classes} */
TGR_KERNEL(nll)
{
    real *restrict y = p[0];
    const real *restrict log_probability = p[1];
    const int64_t *restrict target = p[2];
    (void)c;
    for (ptrdiff_t i = 0; i < n[0]; i++) {
        if (target[i] < 0 || target[i] >= n[1]) return TGR_BAD_INDEX;
        y[i] = -log_probability[i * n[1] + target[i]];
    }
    return TGR_OK;
}

/* dx(rows, classes) = g(rows) (exp(log_probability) - onehot(target)).  Inverts: y = nll(log_softmax(x), target) */
TGR_KERNEL(cross_entropy_vjp)
{
    const real *restrict g = p[1], *restrict log_probability = p[2];
    const int64_t *restrict target = p[3];
    (void)c;
    for (ptrdiff_t i = 0; i < n[0]; i++) {
        real *restrict dx = (real *)p[0] + i * n[1];
        const real *restrict row = log_probability + i * n[1];
        if (target[i] < 0 || target[i] >= n[1]) return TGR_BAD_INDEX;
        for (ptrdiff_t j = 0; j < n[1]; j++) dx[j] = g[i] * FN(exp_of)(row[j]);
        dx[target[i]] = g[i] * (FN(exp_of)(row[target[i]]) - 1);
    }
    return TGR_OK;
}
