/* softmax and what losses need of it. Axes: n = {outer, length, inner}, the middle one is normalised. The maximum is subtracted
 * first, so nothing overflows; the sums are pairwise, with the error bound of reduce.template.c. */

/* What one thread does of a kernel over n = {outer, length, inner}: whole rows where inner is 1, else whole (length, inner) blocks. */
typedef struct {
    real *y;
    const real *x;
    ptrdiff_t outer, length, inner;
    int logarithm; /* log_softmax? */
} FN(normalise);

/* y(length) = softmax or log_softmax of x(length), contiguous, length >= 1 */
static void FN(normalise_row)(real *restrict y, const real *restrict x, ptrdiff_t length, int logarithm)
{
    const real top = FN(max_contiguous)(x, length);
    for (ptrdiff_t i = 0; i < length; i++) y[i] = FN(exp_of)(x[i] - top);
    const real sum = FN(sum_contiguous)(y, length);
    const real log_sum = FN(log_of)(sum);
    if (logarithm)
        for (ptrdiff_t i = 0; i < length; i++) y[i] = (x[i] - top) - log_sum;
    else
        for (ptrdiff_t i = 0; i < length; i++) y[i] /= sum;
}

/* the same down `columns` <= COLUMNS columns of x(length, inner) */
static void FN(normalise_columns)(real *restrict y, const real *restrict x, ptrdiff_t length, ptrdiff_t inner, ptrdiff_t columns,
                                  int logarithm)
{
    real top[COLUMNS], sum[COLUMNS];
    FN(max_rows)(top, x, length, columns, inner);
    for (ptrdiff_t i = 0; i < length; i++)
        for (ptrdiff_t j = 0; j < columns; j++) y[i * inner + j] = FN(exp_of)(x[i * inner + j] - top[j]);
    FN(sum_rows)(sum, y, length, columns, inner);
    for (ptrdiff_t j = 0; logarithm && j < columns; j++) sum[j] = FN(log_of)(sum[j]);
    for (ptrdiff_t i = 0; i < length; i++)
        for (ptrdiff_t j = 0; j < columns; j++) {
            const ptrdiff_t at = i * inner + j;
            y[at] = logarithm ? (x[at] - top[j]) - sum[j] : y[at] / sum[j];
        }
}

static void FN(normalise_part)(const void *context, int part, int parts)
{
    const FN(normalise) *a = context;
    for (ptrdiff_t o = a->outer * part / parts; o < a->outer * (part + 1) / parts; o++) {
        real *y = a->y + o * a->length * a->inner;
        const real *x = a->x + o * a->length * a->inner;
        if (a->inner == 1)
            FN(normalise_row)(y, x, a->length, a->logarithm);
        else
            for (ptrdiff_t j = 0; j < a->inner; j += COLUMNS)
                FN(normalise_columns)(y + j, x + j, a->length, a->inner, a->inner - j < COLUMNS ? a->inner - j : COLUMNS, a->logarithm);
    }
}

/* y(outer, length, inner) = exp(x) / sum of exp(x) over the middle axis */
TGR_KERNEL(softmax)
{
    const FN(normalise) all = {p[0], p[1], n[0], n[1], n[2], 0};
    (void)c;
    if (n[1] > 0 && n[2] > 0) tgr_parallel(n[0] * n[1] * n[2] * 40, n[0], FN(normalise_part), &all);
    return TGR_OK;
}

/* y(outer, length, inner) = x - log(sum of exp(x) over the middle axis) */
TGR_KERNEL(log_softmax)
{
    const FN(normalise) all = {p[0], p[1], n[0], n[1], n[2], 1};
    (void)c;
    if (n[1] > 0 && n[2] > 0) tgr_parallel(n[0] * n[1] * n[2] * 40, n[0], FN(normalise_part), &all);
    return TGR_OK;
}

/* sum of exp(x(n) - top), contiguous */
static real FN(sum_exp)(const real *restrict x, real top, ptrdiff_t n)
{
    if (n > 512) {
        const ptrdiff_t half = n / 2 / 64 * 64;
        return FN(sum_exp)(x, top, half) + FN(sum_exp)(x + half, top, n - half);
    }
    real shifted[512];
    for (ptrdiff_t i = 0; i < n; i++) shifted[i] = FN(exp_of)(x[i] - top);
    return FN(sum_contiguous)(shifted, n);
}

/* sum(columns) over rows of exp(x(rows, columns) - top(columns)) with row stride ldx; columns <= COLUMNS */
static void FN(sum_exp_rows)(real *restrict sum, const real *restrict x, const real *restrict top, ptrdiff_t rows,
                             ptrdiff_t columns, ptrdiff_t ldx)
{
    if (rows > 16) {
        real lower[COLUMNS];
        FN(sum_exp_rows)(sum, x, top, rows / 2, columns, ldx);
        FN(sum_exp_rows)(lower, x + rows / 2 * ldx, top, rows - rows / 2, columns, ldx);
        for (ptrdiff_t j = 0; j < columns; j++) sum[j] += lower[j];
        return;
    }
    for (ptrdiff_t j = 0; j < columns; j++) sum[j] = 0;
    for (ptrdiff_t i = 0; i < rows; i++)
        for (ptrdiff_t j = 0; j < columns; j++) sum[j] += FN(exp_of)(x[i * ldx + j] - top[j]);
}

/* what is subtracted before exp: the maximum where it is finite, since inf - inf would be NaN */
INLINE real FN(finite_or_0)(real top) { return M(fabs)(top) == (real)INFINITY ? 0 : top; }

/* y(outer, inner) = log(sum of exp(x) over the middle axis of x(outer, length, inner)); -inf for an empty axis and for one of -inf,
 * inf where there is an inf and no NaN */
TGR_KERNEL(logsumexp)
{
    const ptrdiff_t outer = n[0], length = n[1], inner = n[2];
    real *y = p[0];
    const real *x = p[1];
    (void)c;
    if (inner == 0) return TGR_OK;
    for (ptrdiff_t o = 0; o < outer; o++, x += length * inner, y += inner) {
        if (length == 0) {
            for (ptrdiff_t j = 0; j < inner; j++) y[j] = -(real)INFINITY;
        } else if (inner == 1) {
            const real top = FN(finite_or_0)(FN(max_contiguous)(x, length));
            *y = top + FN(log_of)(FN(sum_exp)(x, top, length));
        } else
            for (ptrdiff_t j0 = 0; j0 < inner; j0 += COLUMNS) {
                const ptrdiff_t columns = inner - j0 < COLUMNS ? inner - j0 : COLUMNS;
                real top[COLUMNS], sum[COLUMNS];
                FN(max_rows)(top, x + j0, length, columns, inner);
                for (ptrdiff_t j = 0; j < columns; j++) top[j] = FN(finite_or_0)(top[j]);
                FN(sum_exp_rows)(sum, x + j0, top, length, columns, inner);
                for (ptrdiff_t j = 0; j < columns; j++) y[j0 + j] = top[j] + FN(log_of)(sum[j]);
            }
    }
    return TGR_OK;
}

/* y(rows) = -log_probability(rows, classes)[target(rows)], 0 where the target is n[2]; n = {rows, classes, what is ignored} */
TGR_KERNEL(nll)
{
    real *restrict y = p[0];
    const real *restrict log_probability = p[1];
    const int64_t *restrict target = p[2];
    (void)c;
    for (ptrdiff_t i = 0; i < n[0]; i++) {
        y[i] = 0;
        if (target[i] == n[2]) continue;
        if (target[i] < 0 || target[i] >= n[1]) return TGR_BAD_INDEX;
        y[i] = -log_probability[i * n[1] + target[i]];
    }
    return TGR_OK;
}

/* y() = how many of target(n[0]) are not n[1].  p = {y, target} */
TGR_KERNEL(count_targets)
{
    const int64_t *restrict target = p[1];
    ptrdiff_t count = 0;
    (void)c;
    for (ptrdiff_t i = 0; i < n[0]; i++) count += target[i] != n[1];
    *(real *)p[0] = (real)count;
    return TGR_OK;
}

/* dx(rows, classes) = -g(rows) onehot(target), 0 where the target is n[2].  Inverts: y = nll(x, target)
 * p = {dx, g, target}, n as for nll */
TGR_KERNEL(nll_vjp)
{
    real *restrict dx = p[0];
    const real *restrict g = p[1];
    const int64_t *restrict target = p[2];
    (void)c;
    memset(dx, 0, (size_t)(n[0] * n[1]) * sizeof(real));
    for (ptrdiff_t i = 0; i < n[0]; i++) {
        if (target[i] == n[2]) continue;
        if (target[i] < 0 || target[i] >= n[1]) return TGR_BAD_INDEX;
        dx[i * n[1] + target[i]] = -g[i];
    }
    return TGR_OK;
}

/* dx(rows, classes) = g(rows) (exp(log_probability) - onehot(target)), 0 where the target is n[2]; n as for nll
 * Inverts: y = nll(log_softmax(x), target) */
TGR_KERNEL(cross_entropy_vjp)
{
    const real *restrict g = p[1], *restrict log_probability = p[2];
    const int64_t *restrict target = p[3];
    (void)c;
    for (ptrdiff_t i = 0; i < n[0]; i++) {
        real *restrict dx = (real *)p[0] + i * n[1];
        const real *restrict row = log_probability + i * n[1];
        if (target[i] == n[2]) {
            for (ptrdiff_t j = 0; j < n[1]; j++) dx[j] = 0;
            continue;
        }
        if (target[i] < 0 || target[i] >= n[1]) return TGR_BAD_INDEX;
        for (ptrdiff_t j = 0; j < n[1]; j++) dx[j] = g[i] * FN(exp_of)(row[j]);
        dx[target[i]] = g[i] * (FN(exp_of)(row[target[i]]) - 1);
    }
    return TGR_OK;
}

/* y(n) = -t log(sigmoid(x)) - (1 - t) log(sigmoid(-x)) = |x| (1 - t where x > 0, else t) + log(1 + exp(-|x|)), all terms positive
 * for t in 0..1; dx(n) = sigmoid(x) - t, where 1 - t comes first for x > 0.  p = {y, dx, x, t} */
TGR_KERNEL(bce_with_logits)
{
    real *restrict y = p[0], *restrict dx = p[1];
    const real *restrict x = p[2], *restrict t = p[3];
    (void)c;
    for (ptrdiff_t i = 0; i < n[0]; i++) {
        const real a = M(fabs)(x[i]), other = 1 - t[i], wrong = x[i] > 0 ? other : t[i];
        real e;
        const real h = FN(sigmoid_tail)(x[i], &e);
        y[i] = (wrong == 0 ? 0 : a * wrong) + FN(log1p_of)(e); /* not NaN at a confident, right answer of infinite size */
        dx[i] = x[i] > 0 ? other - h : h - t[i];
    }
    return TGR_OK;
}
