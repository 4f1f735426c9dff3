/* What gated cells do beside their matrix products, element by element. A state is h(B, H); gates lie side by side in rows that may be
 * wider than H, so every pointer has a row stride of its own, in n after B and H, in the order of p. Columns are contiguous. */

/* For each of n[0] rows, or for all of them as one where none has a gap: an array of `type` named by its argument for p[i], and
 * `columns` to run over. */
#define ROWS_OF(pointers) \
    ptrdiff_t rows = n[0], columns = n[1]; \
    int dense = 1; \
    for (int i = 0; i < pointers; i++) dense &= n[2 + i] == columns; \
    if (dense || columns == 0) columns *= rows, rows = rows > 0; \
    (void)c; \
    for (ptrdiff_t r = 0; r < rows; r++)
#define OUT(name, i) real *restrict name = (real *)p[i] + r * n[2 + i]
#define IN(name, i) const real *restrict name = (const real *)p[i] + r * n[2 + i]
#define EACH TGR_INDEPENDENT for (ptrdiff_t j = 0; j < columns; j++) /* too many pointers to compare them all at run time */

/* y(B, 4H) = the gates i, f, g, o of z(B, 4H): sigmoid, sigmoid, tanh, sigmoid; dy their derivatives. All contiguous.
 * p = {y, dy, z}, n = {B, H} */
TGR_KERNEL(lstm_gates)
{
    const ptrdiff_t H = n[1];
    (void)c;
    for (ptrdiff_t at = 0; at < 4 * H * n[0]; at += 4 * H)
        FN(activate_part)(TGR_LSTM_GATES, 0, 4 * H, 4 * H, (real *)p[0] + at, (real *)p[1] + at, (const real *)p[2] + at);
    return TGR_OK;
}

/* y = f c + i g
 * p = {y, i, f, g, c}, all (B, H) */
TGR_KERNEL(lstm_state)
{
    ROWS_OF(5)
    {
        OUT(y, 0);
        IN(i, 1); IN(f, 2); IN(g, 3); IN(state, 4);
        EACH y[j] = f[j] * state[j] + i[j] * g[j];
    }
    return TGR_OK;
}

/* di = dy g, df = dy c, dg = dy i, dc = dy f
 * Inverts: y = f c + i g
 * p = {di, df, dg, dc, dy, i, f, g, c}, all (B, H) */
TGR_KERNEL(lstm_state_vjp)
{
    ROWS_OF(9)
    {
        OUT(di, 0); OUT(df, 1); OUT(dg, 2); OUT(dstate, 3);
        IN(dy, 4); IN(i, 5); IN(f, 6); IN(g, 7); IN(state, 8);
        EACH
        {
            di[j] = dy[j] * g[j];
            df[j] = dy[j] * state[j];
            dg[j] = dy[j] * i[j];
            dstate[j] = dy[j] * f[j];
        }
    }
    return TGR_OK;
}

/* y = x + a b
 * p = {y, x, a, b}, all (B, H) */
TGR_KERNEL(addcmul)
{
    ROWS_OF(4)
    {
        OUT(y, 0);
        IN(x, 1); IN(a, 2); IN(b, 3);
        EACH y[j] = x[j] + a[j] * b[j];
    }
    return TGR_OK;
}

/* da = g b, db = g a
 * Inverts: y = x + a b
 * p = {da, db, g, a, b}, all (B, H) */
TGR_KERNEL(addcmul_vjp)
{
    ROWS_OF(5)
    {
        OUT(da, 0); OUT(db, 1);
        IN(g, 2); IN(a, 3); IN(b, 4);
        EACH
        {
            da[j] = g[j] * b[j];
            db[j] = g[j] * a[j];
        }
    }
    return TGR_OK;
}

/* y = (1 - w) a + w b
 * p = {y, a, b, w}, all (B, H) */
TGR_KERNEL(lerp)
{
    ROWS_OF(4)
    {
        OUT(y, 0);
        IN(a, 1); IN(b, 2); IN(w, 3);
        EACH y[j] = (1 - w[j]) * a[j] + w[j] * b[j];
    }
    return TGR_OK;
}

/* da = g (1 - w), db = g w, dw = g (b - a)
 * Inverts: y = (1 - w) a + w b
 * p = {da, db, dw, g, a, b, w}, all (B, H) */
TGR_KERNEL(lerp_vjp)
{
    ROWS_OF(7)
    {
        OUT(da, 0); OUT(db, 1); OUT(dw, 2);
        IN(g, 3); IN(a, 4); IN(b, 5); IN(w, 6);
        EACH
        {
            da[j] = g[j] * (1 - w[j]);
            db[j] = g[j] * w[j];
            dw[j] = g[j] * (b[j] - a[j]);
        }
    }
    return TGR_OK;
}

#undef ROWS_OF

/* y = x in the rows b that have a step t, t < lengths(b), else old: the states of sequences that have ended stay
 * p = {y, x, old, lengths}, all but the last (B, H); lengths int64 (B,); n = {B, H, rs of y, x, old}; c = {t} */
TGR_KERNEL(select_steps)
{
    const int64_t *lengths = p[3];
    if (n[1] == 0) return TGR_OK;
    for (ptrdiff_t r = 0; r < n[0]; r++) {
        OUT(y, 0);
        const int there = c[0] < lengths[r];
        memcpy(y, (const real *)p[there ? 1 : 2] + r * n[there ? 3 : 4], n[1] * sizeof(real));
    }
    return TGR_OK;
}

/* y = x in the rows b for which (t < lengths(b)) == there, 0 in the others
 * p = {y, x, lengths}, n = {B, H, rs of y, x}; c = {t, there} */
TGR_KERNEL(mask_steps)
{
    const int64_t *lengths = p[2];
    if (n[1] == 0) return TGR_OK;
    for (ptrdiff_t r = 0; r < n[0]; r++) {
        OUT(y, 0);
        IN(x, 1);
        if ((c[0] < lengths[r]) == (c[1] != 0))
            memcpy(y, x, n[1] * sizeof(real));
        else
            memset(y, 0, n[1] * sizeof(real));
    }
    return TGR_OK;
}

#undef OUT
#undef IN
#undef EACH
