/* The matrix product as a kernel, and the right operand packed once for many products. */

typedef struct {
    void *const *p;
    const ptrdiff_t *n;
} FN(matmul_batch);

/* the products of one thread's share of the batch */
static void FN(matmul_some)(const void *context, int part, int parts)
{
    const FN(matmul_batch) *call = context;
    const ptrdiff_t *n = call->n, batch = n[0], rows = n[1], columns = n[2];
    for (ptrdiff_t i = batch * part / parts; i < batch * (part + 1) / parts; i++) {
        real *y = (real *)call->p[0] + i * rows * columns, *dy = call->p[1];
        const real *p3 = call->p[3]; /* NULL where b is packed */
        const FN(matrix) a = {(const real *)call->p[2] + i * n[4], n[5], n[6]}, b = {p3 ? p3 + i * n[7] : NULL, n[8], n[9]};
        FN(product) product = {
            .m = rows, .n = columns, .y = y, .dy = dy ? dy + i * rows * columns : NULL, .ldy = columns,
            .base = call->p[6], .ldbase = n[10], .bias = call->p[4], .activation = (tgr_activation)n[11], .width = columns,
            .scaled = call->p[7], .times = call->p[8],
            .count = 1, .terms = {{n[3], a, b, call->p[5]}},
        };
        if (columns == 1 && !product.bias && !product.terms[0].packed && (!product.base || n[10] == 1)) { /* y^T = b^T a^T, which has one row */
            product.m = 1, product.n = rows, product.ldy = product.ldbase = rows;
            product.terms[0].left = FN(transposed)(b), product.terms[0].right = FN(transposed)(a);
        }
        FN(multiply)(&product);
    }
}

/* y(batch, m, n) = f([base(m, n) +] a(batch, m, k) b(batch, k, n) [+ bias(n)]), dy(batch, m, n) = f' of the same; y and dy
 * contiguous; the rows of base, which may be y and is for a batch of one only, have unit column stride.
 * scaled(m, n) = y times, contiguous too, for a batch of one only.
 * p = {y, dy or NULL, a, b, bias or NULL, packed b or NULL, base or NULL, scaled or NULL, times or NULL}; `packed` stands for b in every product of the batch.
 * n = {batch, m, n, k, a_batch_stride, a_row_stride, a_column_stride, b_batch_stride, b_row_stride, b_column_stride,
 *      base_row_stride, activation} */
TGR_KERNEL(matmul)
{
    const FN(matmul_batch) call = {p, n};
    const ptrdiff_t one = n[1] * n[2] * (n[3] + 1);
    (void)c;
    if (n[0] == 1 && n[1] == 1 && n[3] > 0 && n[6] == 1 && (p[5] || n[9] == 1) && one < 2 * TGR_WORK_PER_THREAD) {
        /* a step of a net with one sequence: finding the path would take as long as the product */
        const FN(term) term = {n[3], {p[2], n[5], 1}, {p[3], n[8], n[9]}, p[5]};
        const tgr_activation activation = (tgr_activation)n[11];
        const int all = FN(in_registers)(activation) || (activation == TGR_IDENTITY && !p[1]); /* is the loop all there is to do? */
        FN(row_times)(&term, n[2], p[2], p[0], p[6], p[4], NULL, all ? activation : TGR_IDENTITY, p[1], all ? p[7] : NULL, p[8]);
        if (!all) FN(finish_run)(activation, 0, n[2], n[2], p[0], p[1], p[7], p[8]);
        return TGR_OK;
    }
    if (n[1] * n[2] == 0) return TGR_OK;
    if (!tgr_reserve()) return TGR_NO_MEMORY;
    if (n[0] > 1 && one < 4 * TGR_WORK_PER_THREAD)
        tgr_parallel(n[0] * one, n[0], FN(matmul_some), &call);
    else
        FN(matmul_some)(&call, 0, 1); /* each product is worth several threads of its own */
    return TGR_OK;
}

/* packed(ceil(n / NR) panels)[k][NR] = b(k, n), the last panel padded with zeros; n = {k, n, b_row_stride, b_column_stride} */
TGR_KERNEL(pack)
{
    const ptrdiff_t k = n[0], columns = n[1], group = FN(PANELS_TOGETHER) * NR;
    const FN(matrix) b = {p[1], n[2], n[3]};
    real *packed = p[0];
    ptrdiff_t j = 0;
    (void)c;
    if (k == 0) return TGR_OK;
    for (; b.cs == 1 && j + group <= columns; j += group) FN(pack_panels)(packed + j * k, FN(at)(b, 0, j), k, group);
    for (; j < columns; j += NR) FN(pack_panel)(packed + j * k, FN(at)(b, 0, j), k, columns - j < NR ? columns - j : NR);
    return TGR_OK;
}
