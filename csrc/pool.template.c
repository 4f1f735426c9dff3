/* Pooling: the maximum or the mean of every window of planes x(planes, H, W), y(planes, OH, OW). All arrays are contiguous.
 * n = {planes, H, W, OH, OW, KH, KW, SH, SW, PH, PW}: sizes, the window's, strides, padding on both sides, which is at most half of
 * the window, so that each window holds an element. */

typedef struct {
    ptrdiff_t planes, H, W, OH, OW, KH, KW, SH, SW, PH, PW;
} FN(pool_sizes);

typedef struct {
    FN(pool_sizes) s;
    void *const *p;
    int padded; /* does padding count in a mean? */
} FN(pool);

/* rows h .. h_end - 1 and columns w .. w_end - 1 of a plane */
typedef struct {
    ptrdiff_t h, h_end, w, w_end;
} FN(window);

INLINE FN(window) FN(window_at)(const FN(pool_sizes) *s, ptrdiff_t oh, ptrdiff_t ow)
{
    const ptrdiff_t h = oh * s->SH - s->PH, w = ow * s->SW - s->PW;
    return (FN(window)){h < 0 ? 0 : h, s->H - h < s->KH ? s->H : h + s->KH, w < 0 ? 0 : w, s->W - w < s->KW ? s->W : w + s->KW};
}

/* where the maximum of a window of x(H, W) lies: the first of equal ones; NaN wins, and then the last, as in PyTorch */
INLINE ptrdiff_t FN(maximum_at)(const real *x, FN(window) v, ptrdiff_t W)
{
    ptrdiff_t at = v.h * W + v.w;
    real top = x[at];
    for (ptrdiff_t h = v.h; h < v.h_end; h++)
        for (ptrdiff_t i = h * W + v.w; i < h * W + v.w_end; i++)
            if (x[i] > top || x[i] != x[i]) top = x[i], at = i;
    return at;
}

/* the number by which the sum over a window is divided */
INLINE real FN(divisor)(const FN(pool) *v, FN(window) a)
{
    return v->padded ? (real)v->s.KH * (real)v->s.KW : (real)((a.h_end - a.h) * (a.w_end - a.w));
}

/* a kernel that visits every window: `y` and `x` are its planes of the outer arrays p[y_at] and p[x_at], `v` what is asked for,
 * `a` the window, `o` its place in y. Cotangents are zeroed first and then added to. */
#define POOL(name, y_at, x_at, zeroed, with_padding, body) \
    static void FN(name##_some)(const void *context, int part, int parts) \
    { \
        const FN(pool) *v = context; \
        const FN(pool_sizes) s = v->s; \
        for (ptrdiff_t i = s.planes * part / parts; i < s.planes * (part + 1) / parts; i++) { \
            real *y = (real *)v->p[y_at] + i * s.OH * s.OW, *x = (real *)v->p[x_at] + i * s.H * s.W; \
            if (zeroed) \
                for (ptrdiff_t j = 0; j < s.H * s.W; j++) x[j] = 0; \
            for (ptrdiff_t oh = 0, o = 0; oh < s.OH; oh++) \
                for (ptrdiff_t ow = 0; ow < s.OW; ow++, o++) { \
                    const FN(window) a = FN(window_at)(&s, oh, ow); \
                    body; \
                } \
        } \
    } \
    TGR_KERNEL(name) \
    { \
        FN(pool) v = {.p = p, .padded = with_padding}; \
        memcpy(&v.s, n, sizeof v.s); \
        (void)c; \
        tgr_parallel(4 * v.s.planes * (v.s.H * v.s.W + v.s.OH * v.s.OW), v.s.planes, FN(name##_some), &v); \
        return TGR_OK; \
    }

/* y = the maximum of each window; p = {y, x} */
POOL(max_pool2d, 0, 1, 0, 0, y[o] = x[FN(maximum_at)(x, a, s.W)])

/* dx = the sum of g over the windows whose maximum an element is; p = {dx, g, x}.  Inverts: y = max of windows of x */
POOL(max_pool2d_vjp, 1, 0, 1, 0, x[FN(maximum_at)((const real *)v->p[2] + i * s.H * s.W, a, s.W)] += y[o])

/* y = the sum of each window over its size, padding included where n[11] is not 0; p = {y, x} */
POOL(avg_pool2d, 0, 1, 0, n[11] != 0, {
    real sum = 0;
    for (ptrdiff_t h = a.h; h < a.h_end; h++)
        for (ptrdiff_t w = a.w; w < a.w_end; w++) sum += x[h * s.W + w];
    y[o] = sum / FN(divisor)(v, a);
})

/* dx = the sum of g / size over the windows that an element is in; p = {dx, g}, n as for avg_pool2d.  Inverts: y = mean of windows */
POOL(avg_pool2d_vjp, 1, 0, 1, n[11] != 0, {
    const real share = y[o] / FN(divisor)(v, a);
    for (ptrdiff_t h = a.h; h < a.h_end; h++)
        for (ptrdiff_t w = a.w; w < a.w_end; w++) x[h * s.W + w] += share;
})
#undef POOL
