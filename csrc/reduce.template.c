/* Reductions. Sums are blocked and then pairwise: every element passes at most b + log2(n) additions, where a block of 512 that is
 * summed in 4 vectors of lanes takes b = 512 / (4 LANES) + LANES + 2 of them, and 16 rows take b = 16. So the error of a sum is at
 * most (b + log2(n)) eps sum |x|, against n eps sum |x| of a plain loop (Higham, SIAM J. Sci. Comput. 1993). */

/* sum of x(n), contiguous */
static real FN(sum_contiguous)(const real *restrict x, ptrdiff_t n)
{
    if (n > 512) {
        ptrdiff_t half = n / 2 / 64 * 64;
        return FN(sum_contiguous)(x, half) + FN(sum_contiguous)(x + half, n - half);
    }
    vec sum[4] = {{0}, {0}, {0}, {0}};
    ptrdiff_t i = 0;
    for (; i + 4 * LANES <= n; i += 4 * LANES)
        for (int u = 0; u < 4; u++) sum[u] += *(const unaligned_vec *)(x + i + u * LANES);
    sum[0] = (sum[0] + sum[1]) + (sum[2] + sum[3]);
    real total = 0;
    for (ptrdiff_t l = 0; l < LANES; l++) total += sum[0][l];
    for (; i < n; i++) total += x[i];
    return total;
}

#define COLUMNS 128 /* columns summed together, so that a partial sum fits the stack */

/* y(columns) = sum over rows of x(rows, columns) with row stride ldx; columns <= COLUMNS */
static void FN(sum_rows)(real *restrict y, const real *restrict x, ptrdiff_t rows, ptrdiff_t columns, ptrdiff_t ldx)
{
    if (rows > 16) {
        real upper[COLUMNS];
        FN(sum_rows)(y, x, rows / 2, columns, ldx);
        FN(sum_rows)(upper, x + rows / 2 * ldx, rows - rows / 2, columns, ldx);
        for (ptrdiff_t j = 0; j < columns; j++) y[j] += upper[j];
        return;
    }
    for (ptrdiff_t j = 0; j < columns; j++) y[j] = 0;
    for (ptrdiff_t i = 0; i < rows; i++)
        for (ptrdiff_t j = 0; j < columns; j++) y[j] += x[i * ldx + j];
}

/* y(outer, inner) = sum over the middle axis of x(outer, length, inner); n = {outer, length, inner} */
TGR_KERNEL(sum)
{
    const ptrdiff_t outer = n[0], length = n[1], inner = n[2];
    real *y = p[0];
    const real *x = p[1];
    (void)c;
    if (inner == 0) return TGR_OK; /* there may be very many rows of nothing */
    for (ptrdiff_t o = 0; o < outer; o++, x += length * inner, y += inner) {
        if (inner == 1)
            *y = FN(sum_contiguous)(x, length);
        else
            for (ptrdiff_t j = 0; j < inner; j += COLUMNS)
                FN(sum_rows)(y + j, x + j, length, inner - j < COLUMNS ? inner - j : COLUMNS, inner);
    }
    return TGR_OK;
}

/* max or min of x(n), contiguous, n >= 1; NaN wins. Lanes of a fixed number, which a compiler turns into vectors. And the same of
 * y(columns) over rows of x(rows, columns) with row stride ldx, rows >= 1. */
#define EXTREMUM(name, beyond) \
    static real FN(name##_contiguous)(const real *restrict x, ptrdiff_t n) \
    { \
        real top[32]; \
        const ptrdiff_t whole = n / 32 * 32; \
        for (ptrdiff_t l = 0; l < 32; l++) top[l] = x[whole ? l : 0]; \
        for (ptrdiff_t i = 32; i < whole; i += 32) \
            for (ptrdiff_t l = 0; l < 32; l++) top[l] = x[i + l] beyond top[l] || x[i + l] != x[i + l] ? x[i + l] : top[l]; \
        for (ptrdiff_t i = whole; i < n; i++) top[0] = x[i] beyond top[0] || x[i] != x[i] ? x[i] : top[0]; \
        for (ptrdiff_t l = 1; l < 32; l++) top[0] = top[l] beyond top[0] || top[l] != top[l] ? top[l] : top[0]; \
        return top[0]; \
    } \
    static void FN(name##_rows)(real *restrict y, const real *restrict x, ptrdiff_t rows, ptrdiff_t columns, ptrdiff_t ldx) \
    { \
        for (ptrdiff_t j = 0; j < columns; j++) y[j] = x[j]; \
        for (ptrdiff_t i = 1; i < rows; i++) { \
            const real *restrict row = x + i * ldx; \
            for (ptrdiff_t j = 0; j < columns; j++) y[j] = row[j] beyond y[j] || row[j] != row[j] ? row[j] : y[j]; \
        } \
    } \
    TGR_KERNEL(name) \
    { \
        const ptrdiff_t outer = n[0], length = n[1], inner = n[2]; \
        real *restrict y = p[0]; \
        const real *restrict x = p[1]; \
        (void)c; \
        if (inner == 0) return TGR_OK; \
        for (ptrdiff_t o = 0; o < outer; o++, y += inner, x += length * inner) { \
            if (inner == 1) \
                *y = FN(name##_contiguous)(x, length); \
            else \
                FN(name##_rows)(y, x, length, inner, inner); \
        } \
        return TGR_OK; \
    }

/* y(outer, inner) = max or min over the middle axis of x(outer, length, inner); NaN wins; n = {outer, length >= 1, inner} */
EXTREMUM(max, >)
EXTREMUM(min, <)
#undef EXTREMUM

/* product of x(n), contiguous */
static real FN(prod_contiguous)(const real *restrict x, ptrdiff_t n)
{
    vec product[4] = {{0}, {0}, {0}, {0}};
    for (int u = 0; u < 4; u++) product[u] += 1;
    ptrdiff_t i = 0;
    for (; i + 4 * LANES <= n; i += 4 * LANES)
        for (int u = 0; u < 4; u++) product[u] *= *(const unaligned_vec *)(x + i + u * LANES);
    product[0] = (product[0] * product[1]) * (product[2] * product[3]);
    real total = 1;
    for (ptrdiff_t l = 0; l < LANES; l++) total *= product[0][l];
    for (; i < n; i++) total *= x[i];
    return total;
}

/* y(outer, inner) = product over the middle axis of x(outer, length, inner); n = {outer, length, inner} */
TGR_KERNEL(prod)
{
    const ptrdiff_t outer = n[0], length = n[1], inner = n[2];
    real *restrict y = p[0];
    const real *restrict x = p[1];
    (void)c;
    if (inner == 0) return TGR_OK;
    for (ptrdiff_t o = 0; o < outer; o++, y += inner, x += length * inner) {
        for (ptrdiff_t j = 0; j < inner; j++) y[j] = inner == 1 ? FN(prod_contiguous)(x, length) : 1;
        for (ptrdiff_t i = 0; i < length && inner > 1; i++)
            for (ptrdiff_t j = 0; j < inner; j++) y[j] *= x[i * inner + j];
    }
    return TGR_OK;
}

/* y(outer, length, inner) = sums or products of x(outer, length, inner) over the middle axis up to each entry, in its order;
 * n = {outer, length, inner} */
#define CUMULATIVE(name, op) \
    TGR_KERNEL(name) \
    { \
        const ptrdiff_t outer = n[0], length = n[1], inner = n[2]; \
        real *restrict y = p[0]; \
        const real *restrict x = p[1]; \
        (void)c; \
        if (length * inner == 0) return TGR_OK; \
        for (ptrdiff_t o = 0; o < outer; o++, x += length * inner, y += length * inner) { \
            real last = 0; \
            if (inner == 1) \
                for (ptrdiff_t i = 0; i < length; i++) y[i] = last = i ? last op x[i] : x[i]; \
            else \
                for (ptrdiff_t i = 0; i < length; i++) \
                    for (ptrdiff_t j = 0; j < inner; j++) \
                        y[i * inner + j] = i ? y[(i - 1) * inner + j] op x[i * inner + j] : x[j]; \
        } \
        return TGR_OK; \
    }

CUMULATIVE(cumsum, +)
CUMULATIVE(cumprod, *)
#undef CUMULATIVE

/* dx(outer, length, inner) from g, x and y = cumprod(x): dx[i] = y[i - 1] r[i], r[i] = g[i] + x[i + 1] r[i + 1]. No division, so
 * that it is right at zeros.  Inverts: y = cumprod(x).  n = {outer, length, inner} */
TGR_KERNEL(cumprod_vjp)
{
    const ptrdiff_t outer = n[0], length = n[1], inner = n[2], size = length * inner;
    real *restrict dx = p[0];
    const real *restrict g = p[1], *restrict x = p[2], *restrict y = p[3];
    (void)c;
    if (size == 0) return TGR_OK;
    for (ptrdiff_t o = 0; o < outer; o++, dx += size, g += size, x += size, y += size) {
        for (ptrdiff_t i = size - 1; i >= 0; i--) dx[i] = i + inner < size ? g[i] + x[i + inner] * dx[i + inner] : g[i];
        for (ptrdiff_t i = inner; i < size; i++) dx[i] *= y[i - inner];
    }
    return TGR_OK;
}

/* sum of (scale x(n))^2, in double whatever the type of x */
static double FN(sum_of_squares)(const real *restrict x, ptrdiff_t n, double scale)
{
    double sum[8] = {0};
    ptrdiff_t i = 0;
    for (; i + 8 <= n; i += 8)
        for (int u = 0; u < 8; u++) sum[u] += (scale * (double)x[i + u]) * (scale * (double)x[i + u]);
    for (; i < n; i++) sum[0] += (scale * (double)x[i]) * (scale * (double)x[i]);
    return ((sum[0] + sum[1]) + (sum[2] + sum[3])) + ((sum[4] + sum[5]) + (sum[6] + sum[7]));
}

/* norm() = sqrt(norm^2 + sum of x(n)^2), in place; norm is double whatever the type of x. Squares that leave the range of a double are
 * those of x times a power of two, so that only a norm that is itself beyond it overflows. p = {norm, x} */
TGR_KERNEL(add_norm)
{
    const real *restrict x = p[1];
    double *norm = p[0], total = FN(sum_of_squares)(x, n[0], 1), own = sqrt(total);
    (void)c;
    if (!(total > 0x1p-900 && total < (double)INFINITY) && total == total) {
        int exponent;
        double top = 0;
        for (ptrdiff_t i = 0; i < n[0]; i++) top = fabs((double)x[i]) > top ? fabs((double)x[i]) : top;
        own = top;
        if (top > 0 && top < (double)INFINITY) {
            frexp(top, &exponent);
            exponent = exponent < -1000 ? -1000 : exponent; /* the scale stays finite */
            own = ldexp(sqrt(FN(sum_of_squares)(x, n[0], ldexp(1, -exponent))), exponent);
        }
    }
    *norm = own != own || *norm != *norm ? (double)NAN : hypot(*norm, own); /* hypot(inf, NaN) is inf */
    return TGR_OK;
}
