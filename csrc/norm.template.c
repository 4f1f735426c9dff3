/* Normalisations by mean and variance, in two passes over the data: the variance is the mean of squared differences from the
 * mean, and where it is no larger than the rounding of the mean, both are taken anew. Sums are pairwise, with the error bound of
 * reduce.template.c. */

/* sum of (x(n) - mean)^2, contiguous */
static real FN(sum_squares)(const real *restrict x, real mean, ptrdiff_t n)
{
    if (n > 512) {
        const ptrdiff_t half = n / 2 / 64 * 64;
        return FN(sum_squares)(x, mean, half) + FN(sum_squares)(x + half, mean, n - half);
    }
    real squares[512];
    for (ptrdiff_t i = 0; i < n; i++) squares[i] = (x[i] - mean) * (x[i] - mean);
    return FN(sum_contiguous)(squares, n);
}

/* the sum of x - mean, or of its square, over n entries that lie ldx apart */
static real FN(sum_about)(const real *x, real mean, int square, ptrdiff_t n, ptrdiff_t ldx)
{
    if (n > 16) {
        const ptrdiff_t half = n / 2;
        return FN(sum_about)(x, mean, square, half, ldx) + FN(sum_about)(x + half * ldx, mean, square, n - half, ldx);
    }
    real sum = 0;
    for (ptrdiff_t i = 0; i < n; i++) sum += square ? (x[i * ldx] - mean) * (x[i * ldx] - mean) : x[i * ldx] - mean;
    return sum;
}

/* whether all of a variance may be that of the mean's rounding: of 1024 units in the last place */
INLINE int FN(is_blurred)(real mean, real variance)
{
    const real rounding = mean * REAL(0x1p-13, 0x1p-42);
    return (mean != 0) & (variance <= rounding * rounding);
}

/* The mean of n entries that lie ldx apart to its last digit, and the variance about it, where it may be that of the mean's rounding:
 * equal entries have none, however large they are. */
static APART void FN(sharpen)(real *mean, real *variance, const real *x, ptrdiff_t n, ptrdiff_t ldx)
{
    if (!FN(is_blurred)(*mean, *variance)) return;
    *mean += FN(sum_about)(x, *mean, 0, n, ldx) / n;
    *variance = FN(sum_about)(x, *mean, 1, n, ldx) / n;
}

/* sum[0] = the sum of g(n) w(n), sum[1] = that of g w (x(n) - mean) rstd, contiguous; w NULL is 1 */
static void FN(sum_weighted)(real *restrict sum, const real *restrict g, const real *restrict x, const real *restrict w,
                             real mean, real rstd, ptrdiff_t n)
{
    if (n > 512) {
        const ptrdiff_t half = n / 2 / 64 * 64;
        real upper[2];
        FN(sum_weighted)(sum, g, x, w, mean, rstd, half);
        FN(sum_weighted)(upper, g + half, x + half, w ? w + half : w, mean, rstd, n - half);
        sum[0] += upper[0];
        sum[1] += upper[1];
        return;
    }
    real gw[512], products[512];
    for (ptrdiff_t i = 0; i < n; i++) gw[i] = w ? g[i] * w[i] : g[i];
    for (ptrdiff_t i = 0; i < n; i++) products[i] = gw[i] * ((x[i] - mean) * rstd);
    sum[0] = FN(sum_contiguous)(gw, n);
    sum[1] = FN(sum_contiguous)(products, n);
}

/* sum(columns) over rows of (x(rows, columns) - mean(columns))^2 with row stride ldx; columns <= COLUMNS */
static void FN(sum_squares_rows)(real *restrict sum, const real *restrict x, const real *restrict mean, ptrdiff_t rows,
                                 ptrdiff_t columns, ptrdiff_t ldx)
{
    if (rows > 16) {
        real lower[COLUMNS];
        FN(sum_squares_rows)(sum, x, mean, rows / 2, columns, ldx);
        FN(sum_squares_rows)(lower, x + rows / 2 * ldx, mean, rows - rows / 2, columns, ldx);
        for (ptrdiff_t j = 0; j < columns; j++) sum[j] += lower[j];
        return;
    }
    for (ptrdiff_t j = 0; j < columns; j++) sum[j] = 0;
    for (ptrdiff_t i = 0; i < rows; i++)
        for (ptrdiff_t j = 0; j < columns; j++) sum[j] += (x[i * ldx + j] - mean[j]) * (x[i * ldx + j] - mean[j]);
}

/* db(columns) = the sum over rows of g(rows, columns), dw(columns) = that of g (x - mean) rstd, with row stride ld; mean and rstd are
 * those of the row where by_row, else of the column; columns <= COLUMNS */
static void FN(sum_normalised_rows)(real *restrict dw, real *restrict db, const real *restrict g, const real *restrict x,
                                    const real *restrict mean, const real *restrict rstd, int by_row, ptrdiff_t rows,
                                    ptrdiff_t columns, ptrdiff_t ld)
{
    if (rows > 16) {
        const ptrdiff_t half = rows / 2, at = by_row ? half : 0;
        real dw_lower[COLUMNS], db_lower[COLUMNS];
        FN(sum_normalised_rows)(dw, db, g, x, mean, rstd, by_row, half, columns, ld);
        FN(sum_normalised_rows)(dw_lower, db_lower, g + half * ld, x + half * ld, mean + at, rstd + at, by_row, rows - half, columns, ld);
        for (ptrdiff_t j = 0; j < columns; j++) dw[j] += dw_lower[j];
        for (ptrdiff_t j = 0; j < columns; j++) db[j] += db_lower[j];
        return;
    }
    for (ptrdiff_t j = 0; j < columns; j++) dw[j] = db[j] = 0;
    for (ptrdiff_t i = 0; i < rows; i++, g += ld, x += ld) {
        if (by_row) {
            const real m = mean[i], r = rstd[i];
            for (ptrdiff_t j = 0; j < columns; j++) dw[j] += g[j] * ((x[j] - m) * r);
        } else
            for (ptrdiff_t j = 0; j < columns; j++) dw[j] += g[j] * ((x[j] - mean[j]) * rstd[j]);
        for (ptrdiff_t j = 0; j < columns; j++) db[j] += g[j];
    }
}

/* What the threads that share a kernel need of its call; n = {rows, columns, ...} */
typedef struct {
    void *const *p;
    const ptrdiff_t *n;
    const double *c;
} FN(norm);

/* the pieces of at most COLUMNS columns that a part takes: `for` over the first column j of each, `columns` in it */
#define EACH_PIECE(a) \
    for (ptrdiff_t pieces = ((a)->n[1] + COLUMNS - 1) / COLUMNS, piece = pieces * part / parts, j = piece * COLUMNS, \
                   columns = (a)->n[1] - j < COLUMNS ? (a)->n[1] - j : COLUMNS; \
         piece < pieces * (part + 1) / parts; \
         piece++, j = piece * COLUMNS, columns = (a)->n[1] - j < COLUMNS ? (a)->n[1] - j : COLUMNS)

#define SHARED_BY(name, cost, most) \
    { \
        const FN(norm) all = {p, n, c}; \
        tgr_parallel(n[0] * n[1] * (cost), most, FN(name), &all); \
    }

/* row i of layer_norm anew, if its mean is to be sharpened */
static APART void FN(layer_norm_again)(const FN(norm) *a, ptrdiff_t i)
{
    const ptrdiff_t columns = a->n[1];
    const real *w = a->p[4], *b = a->p[5], *x = (const real *)a->p[3] + i * columns;
    real *y = (real *)a->p[0] + i * columns, *mean = (real *)a->p[1] + i, *rstd = (real *)a->p[2] + i;
    real variance = FN(sum_about)(x, *mean, 1, columns, 1) / columns;
    if (!FN(is_blurred)(*mean, variance)) return;
    FN(sharpen)(mean, &variance, x, columns, 1);
    *rstd = 1 / M(sqrt)(variance + (real)a->c[0]);
    for (ptrdiff_t j = 0; j < columns; j++) y[j] = (x[j] - *mean) * *rstd * (w ? w[j] : 1) + (b ? b[j] : 0);
}

static void FN(layer_norm_part)(const void *context, int part, int parts)
{
    const FN(norm) *a = context;
    const ptrdiff_t columns = a->n[1], from = a->n[0] * part / parts, to = a->n[0] * (part + 1) / parts;
    const real *restrict w = a->p[4], *restrict b = a->p[5];
    int blurred = 0;
    for (ptrdiff_t i = from; i < to; i++) {
        real *restrict y = (real *)a->p[0] + i * columns;
        const real *restrict x = (const real *)a->p[3] + i * columns;
        const real mean = FN(sum_contiguous)(x, columns) / columns, variance = FN(sum_squares)(x, mean, columns) / columns;
        const real rstd = 1 / M(sqrt)(variance + (real)a->c[0]);
        blurred |= FN(is_blurred)(mean, variance);
        ((real *)a->p[1])[i] = mean;
        ((real *)a->p[2])[i] = rstd;
        for (ptrdiff_t j = 0; j < columns; j++) y[j] = (x[j] - mean) * rstd;
        if (w)
            for (ptrdiff_t j = 0; j < columns; j++) y[j] *= w[j];
        if (b)
            for (ptrdiff_t j = 0; j < columns; j++) y[j] += b[j];
    }
    for (ptrdiff_t i = from; blurred && i < to; i++) FN(layer_norm_again)(a, i);
}

/* y(rows, columns) = (x - mean) rstd w(columns) + b(columns), mean(rows) and rstd(rows) = 1 / sqrt(variance + c[0]) being those of
 * the row (Ba, Kiros & Hinton 2016).  p = {y, mean, rstd, x, w or NULL, b or NULL}, n = {rows, columns} */
TGR_KERNEL(layer_norm)
{
    SHARED_BY(layer_norm_part, 16, n[0])
    return TGR_OK;
}

static void FN(layer_norm_vjp_rows)(const void *context, int part, int parts)
{
    const FN(norm) *a = context;
    const ptrdiff_t columns = a->n[1];
    const real *restrict w = a->p[7];
    for (ptrdiff_t i = a->n[0] * part / parts; i < a->n[0] * (part + 1) / parts; i++) {
        real *restrict dx = (real *)a->p[0] + i * columns;
        const real *restrict g = (const real *)a->p[3] + i * columns, *restrict x = (const real *)a->p[4] + i * columns;
        const real mean = ((const real *)a->p[5])[i], rstd = ((const real *)a->p[6])[i];
        real sum[2];
        FN(sum_weighted)(sum, g, x, w, mean, rstd, columns);
        const real all = sum[0] / columns, along = sum[1] / columns;
        for (ptrdiff_t j = 0; j < columns; j++)
            dx[j] = rstd * ((w ? g[j] * w[j] : g[j]) - all - (x[j] - mean) * rstd * along);
        if (columns == 1) dx[0] = rstd * (sum[0] - all); /* fused with the difference, g w would not cancel with its own mean */
    }
}

static void FN(layer_norm_vjp_columns)(const void *context, int part, int parts)
{
    const FN(norm) *a = context;
    const real *g = a->p[3], *x = a->p[4];
    real dw[COLUMNS], db[COLUMNS];
    EACH_PIECE(a)
    {
        FN(sum_normalised_rows)(dw, db, g + j, x + j, a->p[5], a->p[6], 1, a->n[0], columns, a->n[1]);
        if (a->p[1]) memcpy((real *)a->p[1] + j, dw, (size_t)columns * sizeof(real));
        if (a->p[2]) memcpy((real *)a->p[2] + j, db, (size_t)columns * sizeof(real));
    }
}

/* Each where its pointer is not NULL: dx(rows, columns) = rstd (g w - mean of g w - z mean of g w z) with z = (x - mean) rstd and
 * means over the row; dw(columns) = the sum of g z over rows, db(columns) that of g.  Inverts: y = (x - mean) rstd w + b
 * p = {dx, dw, db, g, x, mean, rstd, w or NULL}, n = {rows, columns} */
TGR_KERNEL(layer_norm_vjp)
{
    if (p[0]) SHARED_BY(layer_norm_vjp_rows, 16, n[0])
    if (p[1] || p[2]) SHARED_BY(layer_norm_vjp_columns, 8, (n[1] + COLUMNS - 1) / COLUMNS)
    return TGR_OK;
}

static void FN(moments_part)(const void *context, int part, int parts)
{
    const FN(norm) *a = context;
    const real *x = a->p[2];
    EACH_PIECE(a)
    {
        real *mean = (real *)a->p[0] + j, *variance = (real *)a->p[1] + j;
        FN(sum_rows)(mean, x + j, a->n[0], columns, a->n[1]);
        for (ptrdiff_t l = 0; l < columns; l++) mean[l] /= a->n[0];
        FN(sum_squares_rows)(variance, x + j, mean, a->n[0], columns, a->n[1]);
        for (ptrdiff_t l = 0; l < columns; l++) variance[l] /= a->n[0];
        int blurred = 0;
        for (ptrdiff_t l = 0; a->n[0] > 1 && l < columns; l++) blurred |= FN(is_blurred)(mean[l], variance[l]);
        for (ptrdiff_t l = 0; blurred && l < columns; l++) FN(sharpen)(mean + l, variance + l, x + j + l, a->n[0], a->n[1]);
    }
}

/* mean(columns) and variance(columns) = the mean of (x - mean)^2, over the rows of x(rows, columns); n = {rows, columns} */
TGR_KERNEL(moments)
{
    SHARED_BY(moments_part, 8, (n[1] + COLUMNS - 1) / COLUMNS)
    return TGR_OK;
}

static void FN(batch_norm_part)(const void *context, int part, int parts)
{
    const FN(norm) *a = context;
    const real *w = a->p[4], *b = a->p[5];
    EACH_PIECE(a)
    {
        const real *restrict mean = (const real *)a->p[2] + j, *restrict variance = (const real *)a->p[3] + j;
        real rstd[COLUMNS], weight[COLUMNS], bias[COLUMNS];
        for (ptrdiff_t l = 0; l < columns; l++) {
            rstd[l] = 1 / M(sqrt)(variance[l] + (real)a->c[0]);
            weight[l] = w ? w[j + l] : 1;
            bias[l] = b ? b[j + l] : 0;
        }
        for (ptrdiff_t i = 0; i < a->n[0]; i++) {
            real *restrict y = (real *)a->p[0] + i * a->n[1] + j;
            const real *restrict x = (const real *)a->p[1] + i * a->n[1] + j;
            for (ptrdiff_t l = 0; l < columns; l++) y[l] = (x[l] - mean[l]) * rstd[l] * weight[l] + bias[l];
        }
    }
}

/* y(rows, columns) = (x - mean(columns)) rstd w(columns) + b(columns), rstd = 1 / sqrt(variance(columns) + c[0]) (Ioffe & Szegedy
 * 2015).  p = {y, x, mean, variance, w or NULL, b or NULL}, n = {rows, columns} */
TGR_KERNEL(batch_norm)
{
    SHARED_BY(batch_norm_part, 4, (n[1] + COLUMNS - 1) / COLUMNS)
    return TGR_OK;
}

static void FN(batch_norm_vjp_part)(const void *context, int part, int parts)
{
    const FN(norm) *a = context;
    const real *w = a->p[7];
    const int of_batch = a->n[2] != 0;
    EACH_PIECE(a)
    {
        const real *restrict mean = (const real *)a->p[5] + j, *restrict variance = (const real *)a->p[6] + j;
        const real *g0 = (const real *)a->p[3] + j, *x0 = (const real *)a->p[4] + j;
        real rstd[COLUMNS], dw[COLUMNS], db[COLUMNS], all[COLUMNS], along[COLUMNS], factor[COLUMNS];
        for (ptrdiff_t l = 0; l < columns; l++) rstd[l] = 1 / M(sqrt)(variance[l] + (real)a->c[0]);
        FN(sum_normalised_rows)(dw, db, g0, x0, mean, rstd, 0, a->n[0], columns, a->n[1]);
        if (a->p[1]) memcpy((real *)a->p[1] + j, dw, (size_t)columns * sizeof(real));
        if (a->p[2]) memcpy((real *)a->p[2] + j, db, (size_t)columns * sizeof(real));
        if (!a->p[0]) continue;
        for (ptrdiff_t l = 0; l < columns; l++) {
            all[l] = of_batch ? db[l] / a->n[0] : 0;
            along[l] = of_batch ? dw[l] / a->n[0] : 0;
            factor[l] = w ? w[j + l] * rstd[l] : rstd[l];
        }
        for (ptrdiff_t i = 0; i < a->n[0]; i++) {
            real *restrict dx = (real *)a->p[0] + i * a->n[1] + j;
            const real *restrict g = g0 + i * a->n[1], *restrict x = x0 + i * a->n[1];
            for (ptrdiff_t l = 0; l < columns; l++)
                dx[l] = factor[l] * (g[l] - all[l] - (x[l] - mean[l]) * rstd[l] * along[l]);
        }
    }
}

/* Each where its pointer is not NULL: dw(columns) = the sum of g z over rows, z = (x - mean) rstd, db(columns) that of g, and
 * dx(rows, columns) = w rstd (g - mean of g - z mean of g z), means over rows; without them where n[2] is 0, since mean and
 * variance are then not those of x.  Inverts: y = (x - mean) rstd w + b
 * p = {dx, dw, db, g, x, mean, variance, w or NULL}, n = {rows, columns, n[2]}, c as for batch_norm */
TGR_KERNEL(batch_norm_vjp)
{
    SHARED_BY(batch_norm_vjp_part, 12, (n[1] + COLUMNS - 1) / COLUMNS)
    return TGR_OK;
}

#undef EACH_PIECE
#undef SHARED_BY

/* batches() += 1;  running_mean(n) = (1 - f) running_mean + f mean;  running_var(n) = (1 - f) running_var + f variance rows / (rows - 1),
 * all in place; f is c[0], or 1 / batches where that is negative (the mean of all batches).  n = {n, rows >= 2}
 * p = {running_mean, running_var, batches or NULL, mean, variance}, batches an int64 */
TGR_KERNEL(track_moments)
{
    real *restrict running_mean = p[0], *restrict running_var = p[1];
    int64_t *batches = p[2];
    const real *restrict mean = p[3], *restrict variance = p[4];
    if (batches) *batches += 1;
    const double f = c[0] < 0 && batches ? 1 / (double)*batches : c[0];
    const real gain = (real)f, keep = (real)(1 - f), unbiased = (real)(f * ((double)n[1] / (double)(n[1] - 1)));
    for (ptrdiff_t i = 0; i < n[0]; i++) {
        running_mean[i] = keep * running_mean[i] + gain * mean[i];
        running_var[i] = keep * running_var[i] + unbiased * variance[i];
    }
    return TGR_OK;
}
