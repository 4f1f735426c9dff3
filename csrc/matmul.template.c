/* The matrix product, for any strides of its operands, after Goto & van de Geijn (2008) and BLIS: panels of A and B
 * are packed once per cache block, and a register-blocked microkernel multiplies one panel of each.
 *
 *   y(batch, m, n) = a(batch, m, k) b(batch, k, n) [+ bias(n)]
 *
 * A product with a vector skips the packing. Every path sums in an order that depends on the sizes and strides
 * alone, so equal inputs give equal bits. */

#define MR TGR_MR              /* rows of a tile */
#define NR (TGR_NRV * LANES)   /* columns of a tile */
#define KC 256                 /* depth of a packed block: a panel of A stays in L1 */
#define MC (MR * 16)           /* rows of a packed block of A: stays in L2 */
#define NC ((ptrdiff_t)(TGR_SCRATCH_BYTES * 2 / 3 / (KC * sizeof(real))) / NR * NR) /* columns of a packed block of B */

_Static_assert(MC * KC * sizeof(real) <= TGR_SCRATCH_BYTES / 3, "the packed block of A must fit its third of the scratch");

/* packed(panels of MR rows)[k][MR] = a(m, k), padded with zero rows */
static void FN(pack_a)(real *restrict packed, const real *a, ptrdiff_t m, ptrdiff_t k, ptrdiff_t rs, ptrdiff_t cs)
{
    for (ptrdiff_t i0 = 0; i0 < m; i0 += MR, packed += MR * k) {
        const ptrdiff_t rows = m - i0 < MR ? m - i0 : MR;
        const real *from = a + i0 * rs;
        if (rows == MR && rs == 1)
            for (ptrdiff_t l = 0; l < k; l++)
                for (ptrdiff_t i = 0; i < MR; i++) packed[l * MR + i] = from[l * cs + i];
        else {
            for (ptrdiff_t i = 0; i < rows; i++)
                for (ptrdiff_t l = 0; l < k; l++) packed[l * MR + i] = from[i * rs + l * cs];
            for (ptrdiff_t i = rows; i < MR; i++)
                for (ptrdiff_t l = 0; l < k; l++) packed[l * MR + i] = 0;
        }
    }
}

/* packed(panels of NR columns)[k][NR] = b(k, n), padded with zero columns */
static void FN(pack_b)(real *restrict packed, const real *b, ptrdiff_t k, ptrdiff_t n, ptrdiff_t rs, ptrdiff_t cs)
{
    for (ptrdiff_t j0 = 0; j0 < n; j0 += NR, packed += NR * k) {
        const ptrdiff_t columns = n - j0 < NR ? n - j0 : NR;
        const real *from = b + j0 * cs;
        if (columns == NR && cs == 1)
            for (ptrdiff_t l = 0; l < k; l++)
                for (ptrdiff_t j = 0; j < NR; j++) packed[l * NR + j] = from[l * rs + j];
        else if (columns == NR)
            for (ptrdiff_t l = 0; l < k; l++)
                for (ptrdiff_t j = 0; j < NR; j++) packed[l * NR + j] = from[l * rs + j * cs];
        else
            for (ptrdiff_t l = 0; l < k; l++) {
                for (ptrdiff_t j = 0; j < columns; j++) packed[l * NR + j] = from[l * rs + j * cs];
                for (ptrdiff_t j = columns; j < NR; j++) packed[l * NR + j] = 0;
            }
    }
}

/* y(MR, NR) [+]= panel of a (k, MR) times panel of b (k, NR). `start` is what an element begins with: NULL continues
 * from y, else NR values that every row starts from (the bias, or zeros). */
static inline void FN(tile)(ptrdiff_t k, const real *restrict a, const real *restrict b, real *restrict y, ptrdiff_t ldy,
                            const real *restrict start)
{
    vec sum[MR][TGR_NRV];
#pragma GCC unroll 16
    for (int i = 0; i < MR; i++)
#pragma GCC unroll 4
        for (int j = 0; j < TGR_NRV; j++) sum[i][j] = (vec){0};
    for (ptrdiff_t l = 0; l < k; l++, a += MR, b += NR) {
        vec right[TGR_NRV];
#pragma GCC unroll 4
        for (int j = 0; j < TGR_NRV; j++) right[j] = *(const unaligned_vec *)(b + j * LANES);
#pragma GCC unroll 16
        for (int i = 0; i < MR; i++)
#pragma GCC unroll 4
            for (int j = 0; j < TGR_NRV; j++) sum[i][j] += a[i] * right[j];
    }
#pragma GCC unroll 16
    for (int i = 0; i < MR; i++)
#pragma GCC unroll 4
        for (int j = 0; j < TGR_NRV; j++) {
            unaligned_vec *at = (unaligned_vec *)(y + i * ldy + j * LANES);
            *at = sum[i][j] + (start ? *(const unaligned_vec *)(start + j * LANES) : *at);
        }
}

/* y(m, n) = a(m, k) b(k, n) [+ bias(n)] through packed blocks; y has row stride n */
static void FN(matmul_packed)(real *y, const real *a, const real *b, const real *bias, ptrdiff_t m, ptrdiff_t n, ptrdiff_t k,
                              ptrdiff_t a_rs, ptrdiff_t a_cs, ptrdiff_t b_rs, ptrdiff_t b_cs)
{
    real *packed_a = tgr_scratch(), *packed_b = packed_a + MC * KC;
    for (ptrdiff_t j0 = 0; j0 < n; j0 += NC) {
        const ptrdiff_t nc = n - j0 < NC ? n - j0 : NC;
        for (ptrdiff_t l0 = 0; l0 < k; l0 += KC) {
            const ptrdiff_t kc = k - l0 < KC ? k - l0 : KC;
            FN(pack_b)(packed_b, b + l0 * b_rs + j0 * b_cs, kc, nc, b_rs, b_cs);
            for (ptrdiff_t i0 = 0; i0 < m; i0 += MC) {
                const ptrdiff_t mc = m - i0 < MC ? m - i0 : MC;
                FN(pack_a)(packed_a, a + i0 * a_rs + l0 * a_cs, mc, kc, a_rs, a_cs);
                for (ptrdiff_t j = 0; j < nc; j += NR) {
                    const ptrdiff_t columns = nc - j < NR ? nc - j : NR;
                    real start[NR];
                    for (ptrdiff_t jj = 0; jj < NR; jj++) start[jj] = bias && jj < columns ? bias[j0 + j + jj] : 0;
                    for (ptrdiff_t i = 0; i < mc; i += MR) {
                        const ptrdiff_t rows = mc - i < MR ? mc - i : MR;
                        const real *pa = packed_a + i * kc, *pb = packed_b + j * kc;
                        real *to = y + (i0 + i) * n + j0 + j;
                        if (rows == MR && columns == NR) {
                            FN(tile)(kc, pa, pb, to, n, l0 == 0 ? start : NULL);
                            continue;
                        }
                        real edge[MR * NR];
                        if (l0 > 0)
                            for (ptrdiff_t ii = 0; ii < rows; ii++)
                                for (ptrdiff_t jj = 0; jj < columns; jj++) edge[ii * NR + jj] = to[ii * n + jj];
                        FN(tile)(kc, pa, pb, edge, NR, l0 == 0 ? start : NULL);
                        for (ptrdiff_t ii = 0; ii < rows; ii++)
                            for (ptrdiff_t jj = 0; jj < columns; jj++) to[ii * n + jj] = edge[ii * NR + jj];
                    }
                }
            }
        }
    }
}

/* x(k) . y(k) */
static inline real FN(dot)(const real *restrict x, const real *restrict y, ptrdiff_t k)
{
    vec sum[2] = {{0}, {0}};
    ptrdiff_t l = 0;
    for (; l + 2 * LANES <= k; l += 2 * LANES)
        for (int u = 0; u < 2; u++)
            sum[u] += *(const unaligned_vec *)(x + l + u * LANES) * *(const unaligned_vec *)(y + l + u * LANES);
    for (; l + LANES <= k; l += LANES) sum[0] += *(const unaligned_vec *)(x + l) * *(const unaligned_vec *)(y + l);
    sum[0] += sum[1];
    real total = 0;
    for (ptrdiff_t i = 0; i < LANES; i++) total += sum[0][i];
    for (; l < k; l++) total += x[l] * y[l];
    return total;
}

/* y(n) = x(k) b(k, n) [+ bias(n)], x contiguous, b with one unit stride */
static void FN(vector_matrix)(real *restrict y, const real *restrict x, const real *restrict b, const real *restrict bias,
                              ptrdiff_t n, ptrdiff_t k, ptrdiff_t b_rs, ptrdiff_t b_cs)
{
    if (b_rs == 1) {
        for (ptrdiff_t j = 0; j < n; j++) y[j] = (bias ? bias[j] : 0) + FN(dot)(x, b + j * b_cs, k);
        return;
    }
    for (ptrdiff_t j = 0; j < n; j++) y[j] = bias ? bias[j] : 0;
    ptrdiff_t l = 0;
    for (; l + 4 <= k; l += 4) {
        const real x0 = x[l], x1 = x[l + 1], x2 = x[l + 2], x3 = x[l + 3];
        const real *restrict b0 = b + l * b_rs, *restrict b1 = b0 + b_rs, *restrict b2 = b1 + b_rs, *restrict b3 = b2 + b_rs;
        for (ptrdiff_t j = 0; j < n; j++) y[j] += (x0 * b0[j] + x1 * b1[j]) + (x2 * b2[j] + x3 * b3[j]);
    }
    for (; l < k; l++)
        for (ptrdiff_t j = 0; j < n; j++) y[j] += x[l] * b[l * b_rs + j];
}

/* y(batch, m, n) = a(batch, m, k) b(batch, k, n) [+ bias(n)], y contiguous; p = {y, a, b, bias or NULL},
 * n = {batch, m, n, k, a_batch_stride, a_row_stride, a_column_stride, b_batch_stride, b_row_stride, b_column_stride} */
TGR_KERNEL(matmul)
{
    const ptrdiff_t batch = n[0], rows = n[1], columns = n[2], k = n[3];
    const ptrdiff_t a_bs = n[4], a_rs = n[5], a_cs = n[6], b_bs = n[7], b_rs = n[8], b_cs = n[9];
    const real *bias = p[3];
    (void)c;
    for (ptrdiff_t i = 0; i < batch; i++) {
        real *y = (real *)p[0] + i * rows * columns;
        const real *a = (const real *)p[1] + i * a_bs, *b = (const real *)p[2] + i * b_bs;
        if (k == 0)
            for (ptrdiff_t r = 0; r < rows; r++)
                for (ptrdiff_t j = 0; j < columns; j++) y[r * columns + j] = bias ? bias[j] : 0;
        else if (rows == 1 && a_cs == 1 && (b_rs == 1 || b_cs == 1))
            FN(vector_matrix)(y, a, b, bias, columns, k, b_rs, b_cs);
        else if (columns == 1 && !bias && b_rs == 1 && (a_rs == 1 || a_cs == 1)) /* y^T = b^T a^T */
            FN(vector_matrix)(y, b, a, NULL, rows, k, a_cs, a_rs);
        else if (k == 1 && !bias && b_cs == 1)
            for (ptrdiff_t r = 0; r < rows; r++)
                for (ptrdiff_t j = 0; j < columns; j++) y[r * columns + j] = a[r * a_rs] * b[j];
        else
            FN(matmul_packed)(y, a, b, bias, rows, columns, k, a_rs, a_cs, b_rs, b_cs);
    }
    return TGR_OK;
}

#undef MR
#undef NR
#undef KC
#undef MC
#undef NC
