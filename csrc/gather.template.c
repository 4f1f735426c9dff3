/* Rows picked by integer index, and their cotangents put back. n = {count, rows, width}; negative indices are the
 * caller's to resolve. */

/* y(count, width) = x(rows, width)[index(count)] */
TGR_KERNEL(take)
{
    real *restrict y = p[0];
    const real *restrict x = p[1];
    const int64_t *restrict index = p[2];
    const ptrdiff_t width = n[2];
    (void)c;
    for (ptrdiff_t i = 0; i < n[0]; i++) {
        if (index[i] < 0 || index[i] >= n[1]) return TGR_BAD_INDEX;
        for (ptrdiff_t j = 0; j < width; j++) y[i * width + j] = x[index[i] * width + j];
    }
    return TGR_OK;
}

/* dx(rows, width)[index(count)] += g(count, width), in place; a repeated index accumulates.  Inverts: y = x[index] */
TGR_KERNEL(take_add)
{
    real *restrict dx = p[0];
    const real *restrict g = p[1];
    const int64_t *restrict index = p[2];
    const ptrdiff_t width = n[2];
    (void)c;
    for (ptrdiff_t i = 0; i < n[0]; i++) {
        if (index[i] < 0 || index[i] >= n[1]) return TGR_BAD_INDEX;
        for (ptrdiff_t j = 0; j < width; j++) dx[index[i] * width + j] += g[i * width + j];
    }
    return TGR_OK;
}
