/* Moving between arrays of any layout: n = {ndim >= 1, dims[ndim], y_strides[ndim], x_strides[ndim]}. */

#define STRIDED(name, assign) \
    TGR_KERNEL(name) \
    { \
        const ptrdiff_t nd = n[0], *dims = n + 1, *sy = dims + nd, *sx = sy + nd; \
        const ptrdiff_t inner = dims[nd - 1], iy = sy[nd - 1], ix = sx[nd - 1]; \
        ptrdiff_t at[TGR_MAX_DIMS]; \
        real *restrict y = p[0]; \
        const real *restrict x = p[1]; \
        (void)c; \
        for (ptrdiff_t i = 0; i < nd; i++) { \
            if (dims[i] == 0) return TGR_OK; \
            at[i] = 0; \
        } \
        for (;;) { \
            if (iy == 1 && ix == 1) \
                for (ptrdiff_t i = 0; i < inner; i++) y[i] assign x[i]; \
            else \
                for (ptrdiff_t i = 0; i < inner; i++) y[i * iy] assign x[i * ix]; \
            ptrdiff_t d = nd - 2; \
            for (; d >= 0; d--) { \
                y += sy[d]; \
                x += sx[d]; \
                if (++at[d] < dims[d]) break; \
                y -= sy[d] * dims[d]; \
                x -= sx[d] * dims[d]; \
                at[d] = 0; \
            } \
            if (d < 0) return TGR_OK; \
        } \
    }

STRIDED(copy, =)        /* y(dims) = x(dims) */
STRIDED(accumulate, +=) /* y(dims) += x(dims), in place */
#undef STRIDED
