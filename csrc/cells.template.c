/* Cells of recurrent nets: one step, forward and back, in one call each. */

/* y(B, H) = f(x(B, I) w_ih(H, I)^T + b_ih(H) + h(B, H) w_hh(H, H)^T + b_hh(H)), dy(B, H) = f' of the same; y and dy contiguous.
 * p = {y, dy, x, w_ih, b_ih or NULL, h, w_hh, b_hh or NULL, packed w_hh^T or NULL, which stands for w_hh}; where w_ih is NULL,
 * x(B, H) is the input projection itself, with unit column stride. n = {B, I, H, activation, x_rs, x_cs, w_ih_rs, w_ih_cs, h_rs, h_cs, w_hh_rs, w_hh_cs} */
TGR_KERNEL(rnn_cell)
{
    const ptrdiff_t B = n[0], I = n[1], H = n[2];
    const FN(matrix) x = {p[2], n[4], n[5]}, w_ih = {p[3], n[6], n[7]}, h = {p[5], n[8], n[9]}, w_hh = {p[6], n[10], n[11]};
    FN(product) product = {
        .m = B, .n = H, .y = p[0], .dy = p[1], .ldy = H, .bias = p[4], .bias2 = p[7],
        .activation = (tgr_activation)n[3], .width = H,
        .count = 1, .terms = {{H, h, FN(transposed)(w_hh), p[8]}},
    };
    (void)c;
    if (!tgr_reserve()) return TGR_NO_MEMORY;
    if (w_ih.at)
        product.terms[product.count++] = (FN(term)){I, x, FN(transposed)(w_ih), NULL};
    else
        product.base = x.at, product.ldbase = x.rs;
    FN(multiply)(&product);
    return TGR_OK;
}

/* dz(B, H) = g(B, H) dy(B, H), and from it, each where its pointer is not NULL: dx(B, I) = dz w_ih, dw_ih(H, I) = dz^T x,
 * dh(B, H) = dz w_hh, dw_hh(H, H) = dz^T h, db(H) = the sum of dz over the batch, which both biases have. All outputs contiguous.
 * Inverts: y = f(x w_ih^T + b_ih + h w_hh^T + b_hh), dy = f'
 * p = {dz, dx, dw_ih, dh, dw_hh, db, g, dy, x, w_ih, h, w_hh}; g and dy contiguous; n as for rnn_cell */
TGR_KERNEL(rnn_cell_vjp)
{
    const ptrdiff_t B = n[0], I = n[1], H = n[2];
    const FN(matrix) x = {p[8], n[4], n[5]}, w_ih = {p[9], n[6], n[7]}, h = {p[10], n[8], n[9]}, w_hh = {p[11], n[10], n[11]};
    const FN(matrix) dz = {p[0], H, 1};
    const struct {
        real *y;
        ptrdiff_t m, n, k;
        FN(matrix) left, right;
    } products[] = {
        {p[1], B, I, H, dz, w_ih},
        {p[2], H, I, B, FN(transposed)(dz), x},
        {p[3], B, H, H, dz, w_hh},
        {p[4], H, H, B, FN(transposed)(dz), h},
    };
    real *restrict to = p[0], *restrict db = p[5];
    const real *restrict g = p[6], *restrict dy = p[7];
    (void)c;
    if (!tgr_reserve()) return TGR_NO_MEMORY;
    for (ptrdiff_t i = 0; i < B * H; i++) to[i] = g[i] * dy[i];
    if (db)
        for (ptrdiff_t j = 0; j < H; j += COLUMNS)
            FN(sum_rows)(db + j, to + j, B, H - j < COLUMNS ? H - j : COLUMNS, H);
    for (int i = 0; i < 4; i++)
        if (products[i].y)
            FN(multiply)(&(FN(product)){
                .m = products[i].m, .n = products[i].n, .y = products[i].y, .ldy = products[i].n,
                .count = 1, .terms = {{products[i].k, products[i].left, products[i].right, NULL}},
            });
    return TGR_OK;
}
