/* Convolution (in the sense of nets: cross-correlation) and its cotangents, as matrix products with unfolded inputs (Chellapilla,
 * Puri & Simard 2006). With R = C / groups KH KW rows and P = OH OW columns, `unfolded` of one sample and group holds at
 * (c kh kw, oh ow) the input x[c, oh SH + kh DH - PH, ow SW + kw DW - PW], 0 where that is padding. Then for each group
 *
 *   y(O, P) = w(O, R) unfolded(R, P) + bias(O),  dw(O, R) = sum over samples of dy(O, P) unfolded(R, P)^T,
 *   dx = fold(w(O, R)^T dy(O, P)), fold adding every entry to where `unfolded` has it from, which is the adjoint of unfolding.
 *
 * `unfolded` is KH KW times as large as the input, so it never exists as a whole: blocks of it that fit the cache are made, used
 * and forgotten, in TGR_COLUMNS_BYTES of each thread. Blocks, and the order in which they are summed, depend on the sizes alone.
 *
 * All arrays are contiguous. n = {N, C, H, W, O, KH, KW, OH, OW, SH, SW, PH, PW, DH, DW, groups}: sizes, strides, padding before
 * the first element (that behind the last follows from OH and OW), dilations. */

typedef struct {
    ptrdiff_t N, C, H, W, O, KH, KW, OH, OW, SH, SW, PH, PW, DH, DW, groups;
} FN(conv_sizes);

typedef struct {
    FN(conv_sizes) s;
    void *const *p;
    ptrdiff_t c, o, taps;      /* input and output channels of a group; KH KW */
    ptrdiff_t R, P;            /* rows and columns of `unfolded` */
    ptrdiff_t rows, columns;   /* of a block */
    ptrdiff_t channels;        /* of an item of work, whole ones: a block or, where one channel is taller than a block, several */
    ptrdiff_t strips, tiles;   /* items along R, blocks along P */
    int aligned;               /* are windows one step apart, and lines of the output as long as those of the input? */
    int direct;                /* is `unfolded` the input itself? */
} FN(conv);

static FN(conv) FN(conv_of)(void *const *p, const ptrdiff_t *n)
{
    FN(conv) v = {.p = p};
    const ptrdiff_t room = TGR_COLUMNS_BYTES / sizeof(real), tallest = 512; /* about the depth of a block of a product */
    memcpy(&v.s, n, sizeof v.s);
    v.c = v.s.C / v.s.groups, v.o = v.s.O / v.s.groups;
    v.taps = v.s.KH * v.s.KW;
    v.R = v.c * v.taps, v.P = v.s.OH * v.s.OW;
    v.channels = v.taps > tallest / 2 ? 1 : tallest / v.taps < v.c ? tallest / v.taps : v.c > 0 ? v.c : 1;
    v.rows = v.channels * v.taps < tallest ? v.channels * v.taps : tallest;
    v.strips = (v.c + v.channels - 1) / v.channels;
    const ptrdiff_t widest = room / v.rows / 16 * 16;
    v.tiles = (v.P + widest - 1) / widest;
    v.columns = v.tiles ? ((v.P + v.tiles - 1) / v.tiles + 15) / 16 * 16 : 0;
    v.aligned = v.s.SH == 1 && v.s.SW == 1 && v.s.OW == v.s.W;
    v.direct = v.taps == 1 && v.aligned && v.s.OH == v.s.H && !v.s.PH && !v.s.PW;
    return v;
}

/* y(n) = x(n). Runs are short, and a loop over what a vector leaves takes long: the last piece is copied up to the end of the run,
 * some of it again. */
INLINE void FN(copy_run)(real *restrict y, const real *restrict x, ptrdiff_t n)
{
    ptrdiff_t i = 0;
    for (; i + LANES <= n; i += LANES) STORE(y + i, LOAD(x + i));
    if (i == n) return;
#define PIECE(size) \
    if (n >= size) { \
        if (n < LANES) memcpy(y, x, size * sizeof(real)); \
        memcpy(y + n - size, x + n - size, size * sizeof(real)); \
        return; \
    }
    PIECE(LANES)
    PIECE(8)
    PIECE(4)
    PIECE(2)
#undef PIECE
    *y = *x;
}

/* y(n) += x(n) */
INLINE void FN(add_run)(real *restrict y, const real *restrict x, ptrdiff_t n)
{
    for (ptrdiff_t i = 0; i < n; i++) y[i] += x[i];
}

/* One row of `unfolded`, its columns q .. end - 1, for a tap whose windows begin at (h0, w0): written to u from the channel x(H, W)
 * or, going back, added to x from u. */
INLINE void FN(line_by_line)(const int back, const FN(conv_sizes) *s, real *restrict u, real *restrict x, ptrdiff_t h0, ptrdiff_t w0,
                             ptrdiff_t q, ptrdiff_t end)
{
    /* ow of which ow SW + w0 lies in 0 .. W - 1 */
    const ptrdiff_t first = w0 < 0 ? (s->SW - 1 - w0) / s->SW : 0, last = w0 < s->W ? (s->W - w0 + s->SW - 1) / s->SW : 0;
    ptrdiff_t oh = q / s->OW, ow = q % s->OW;
    for (ptrdiff_t left = end - q; left > 0; oh++, ow = 0) {
        const ptrdiff_t h = oh * s->SH + h0, stop = s->OW - ow < left ? s->OW : ow + left;
        ptrdiff_t a = first < ow ? ow : first, b = last < stop ? last : stop;
        if (h < 0 || h >= s->H || a >= b) a = b = stop;
        if (!back) {
            for (ptrdiff_t i = ow; i < a; i++) u[i - ow] = 0;
            for (ptrdiff_t i = b; i < stop; i++) u[i - ow] = 0;
        }
        if (a < b) {
            real *at = x + (h * s->W + a * s->SW + w0), *to = u + (a - ow);
            if (s->SW == 1)
                back ? FN(add_run)(at, to, b - a) : FN(copy_run)(to, at, b - a);
            else
                for (ptrdiff_t i = 0; i < b - a; i++)
                    if (back)
                        at[i * s->SW] += to[i];
                    else
                        to[i] = at[i * s->SW];
        }
        u += stop - ow;
        left -= stop - ow;
    }
}

/* The same where strides are 1 and OW is W: then it is the whole channel, moved, but for the ends of its lines. */
INLINE void FN(all_lines)(const int back, const FN(conv_sizes) *s, real *restrict u, real *restrict x, ptrdiff_t h0, ptrdiff_t w0,
                          ptrdiff_t q, ptrdiff_t end)
{
    const ptrdiff_t W = s->W, shift = h0 * W + w0;
    /* lines that lie in x, and of those what lies in x when moved */
    ptrdiff_t a = -h0 * W > -shift ? -h0 * W : -shift, b = (s->H - h0) * W < s->H * W - shift ? (s->H - h0) * W : s->H * W - shift;
    a = a < q ? q : a;
    b = b < end ? b : end;
    if (a >= b) a = b = end;
    if (!back) {
        for (ptrdiff_t i = q; i < a; i++) u[i - q] = 0;
        for (ptrdiff_t i = b; i < end; i++) u[i - q] = 0;
        FN(copy_run)(u + (a - q), x + (a < b ? a + shift : 0), b - a);
    }
    /* ow + w0 lies outside of 0 .. W - 1 for ow in from .. to - 1 */
    const ptrdiff_t from = w0 < 0 || w0 > W ? 0 : W - w0, to = w0 < 0 && -w0 < W ? -w0 : W;
    if (from < to)
        for (ptrdiff_t line = q / W * W; line < end; line += W)
            for (ptrdiff_t i = line + from < q ? q : line + from; i < line + to && i < end; i++) u[i - q] = 0;
    if (back) FN(add_run)(x + (a < b ? a + shift : 0), u + (a - q), b - a);
}

/* Rows r .. r + rows - 1 and columns q .. q + count - 1 of what is unfolded from x, the first channel of a sample and group: written
 * to u(rows, count), or, going back, added to x. */
INLINE void FN(unfold_or_fold)(const int back, const FN(conv) *v, real *u, real *x, ptrdiff_t r, ptrdiff_t rows, ptrdiff_t q,
                               ptrdiff_t count)
{
    const FN(conv_sizes) s = v->s;
    for (const ptrdiff_t end = r + rows; r < end; r++, u += count) {
        const ptrdiff_t h0 = r % v->taps / s.KW * s.DH - s.PH, w0 = r % s.KW * s.DW - s.PW;
        real *channel = x + r / v->taps * s.H * s.W;
        if (v->aligned)
            FN(all_lines)(back, &s, u, channel, h0, w0, q, q + count);
        else
            FN(line_by_line)(back, &s, u, channel, h0, w0, q, q + count);
    }
}

/* A block of what is unfolded from x, in the memory of this thread or in x itself. */
static FN(matrix) FN(unfolded)(const FN(conv) *v, const real *x, ptrdiff_t r, ptrdiff_t rows, ptrdiff_t q, ptrdiff_t count)
{
    if (v->direct) return (FN(matrix)){x + r * v->P + q, v->P, 1};
    real *u = tgr_columns();
    FN(unfold_or_fold)(0, v, u, (real *)x, r, rows, q, count);
    return (FN(matrix)){u, count, 1};
}

#define LEAST(a, b) ((a) < (b) ? (a) : (b))

/* y of one sample, group and tile at a time */
static void FN(conv2d_some)(const void *context, int part, int parts)
{
    const FN(conv) *v = context;
    const ptrdiff_t items = v->s.N * v->s.groups * v->tiles, plane = v->s.H * v->s.W;
    for (ptrdiff_t i = items * part / parts; i < items * (part + 1) / parts; i++) {
        const ptrdiff_t sample = i / v->tiles / v->s.groups, group = i / v->tiles % v->s.groups;
        const ptrdiff_t q = i % v->tiles * v->columns, count = LEAST(v->P - q, v->columns);
        const real *x = (const real *)v->p[1] + (sample * v->s.C + group * v->c) * plane;
        const real *w = (const real *)v->p[2] + group * v->o * v->R, *bias = v->p[3];
        real *y = (real *)v->p[0] + (sample * v->s.O + group * v->o) * v->P + q;
        for (ptrdiff_t j = 0; j < v->o; j++)
            for (ptrdiff_t l = 0; l < count; l++) y[j * v->P + l] = bias ? bias[group * v->o + j] : 0;
        for (ptrdiff_t r = 0; r < v->R; r += v->rows) {
            const ptrdiff_t rows = LEAST(v->R - r, v->rows);
            FN(multiply)(&(FN(product)){
                .m = v->o, .n = count, .y = y, .ldy = v->P, .base = y, .ldbase = v->P,
                .count = 1, .terms = {{rows, {w + r, v->R, 1}, FN(unfolded)(v, x, r, rows, q, count), NULL}},
            });
        }
    }
}

/* dx of one sample, group and strip of channels at a time */
static void FN(conv2d_dx_some)(const void *context, int part, int parts)
{
    const FN(conv) *v = context;
    const ptrdiff_t items = v->s.N * v->s.groups * v->strips, plane = v->s.H * v->s.W;
    for (ptrdiff_t i = items * part / parts; i < items * (part + 1) / parts; i++) {
        const ptrdiff_t sample = i / v->strips / v->s.groups, group = i / v->strips % v->s.groups;
        const ptrdiff_t from = i % v->strips * v->channels, to = LEAST(v->c, from + v->channels);
        real *dx = (real *)v->p[0] + (sample * v->s.C + group * v->c) * plane, *u = tgr_columns();
        const real *g = (const real *)v->p[1] + (sample * v->s.O + group * v->o) * v->P;
        const real *w = (const real *)v->p[2] + group * v->o * v->R;
        for (ptrdiff_t j = from * plane; j < to * plane; j++) dx[j] = 0;
        for (ptrdiff_t q = 0; q < v->P; q += v->columns)
            for (ptrdiff_t r = from * v->taps; r < to * v->taps; r += v->rows) {
                const ptrdiff_t count = LEAST(v->P - q, v->columns), rows = LEAST(to * v->taps - r, v->rows);
                FN(multiply)(&(FN(product)){
                    .m = rows, .n = count, .y = v->direct ? dx + r * v->P + q : u, .ldy = v->direct ? v->P : count,
                    .count = 1, .terms = {{v->o, {w + r, 1, v->R}, {g + q, v->P, 1}, NULL}},
                });
                if (!v->direct) FN(unfold_or_fold)(1, v, u, dx, r, rows, q, count);
            }
    }
}

/* dw of one group and strip of channels at a time */
static void FN(conv2d_dw_some)(const void *context, int part, int parts)
{
    const FN(conv) *v = context;
    const ptrdiff_t items = v->s.groups * v->strips, plane = v->s.H * v->s.W;
    for (ptrdiff_t i = items * part / parts; i < items * (part + 1) / parts; i++) {
        const ptrdiff_t group = i / v->strips, from = i % v->strips * v->channels, to = LEAST(v->c, from + v->channels);
        real *dw = (real *)v->p[0] + group * v->o * v->R;
        for (ptrdiff_t j = 0; j < v->o; j++)
            for (ptrdiff_t r = from * v->taps; r < to * v->taps; r++) dw[j * v->R + r] = 0;
        for (ptrdiff_t sample = 0; sample < v->s.N; sample++) {
            const real *g = (const real *)v->p[1] + (sample * v->s.O + group * v->o) * v->P;
            const real *x = (const real *)v->p[2] + (sample * v->s.C + group * v->c) * plane;
            for (ptrdiff_t q = 0; q < v->P; q += v->columns)
                for (ptrdiff_t r = from * v->taps; r < to * v->taps; r += v->rows) {
                    const ptrdiff_t count = LEAST(v->P - q, v->columns), rows = LEAST(to * v->taps - r, v->rows);
                    const FN(matrix) u = FN(unfolded)(v, x, r, rows, q, count);
                    FN(multiply)(&(FN(product)){
                        .m = v->o, .n = rows, .y = dw + r, .ldy = v->R, .base = dw + r, .ldbase = v->R,
                        .count = 1, .terms = {{count, {g + q, v->P, 1}, FN(transposed)(u), NULL}},
                    });
                }
        }
    }
}
#undef LEAST

#define CONV(name, outputs, items) \
    TGR_KERNEL(name) \
    { \
        const FN(conv) v = FN(conv_of)(p, n); \
        (void)c; \
        if ((outputs) == 0) return TGR_OK; \
        if (!tgr_reserve()) return TGR_NO_MEMORY; \
        tgr_parallel(v.s.N * v.s.O * v.P * (v.R + 1), (items), FN(name##_some), &v); \
        return TGR_OK; \
    }

/* y(N, O, OH, OW) = the convolution of x(N, C, H, W) with w(O, C / groups, KH, KW), + bias(O); p = {y, x, w, bias or NULL} */
CONV(conv2d, v.s.N *v.s.O *v.P, v.s.N *v.s.groups *v.tiles)

/* dx(N, C, H, W) from g(N, O, OH, OW) and w; p = {dx, g, w}.  Inverts: y = x * w */
CONV(conv2d_dx, v.s.N *v.s.C *v.s.H *v.s.W, v.s.N *v.s.groups *v.strips)

/* dw(O, C / groups, KH, KW) from g(N, O, OH, OW) and x; p = {dw, g, x}.  Inverts: y = x * w */
CONV(conv2d_dw, v.s.O *v.R, v.s.groups *v.strips)
#undef CONV
