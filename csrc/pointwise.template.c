/* One element in, one element out. Contiguous arrays are seen as n[0] elements; binary kernels broadcast. */

/* A kernel over n[0] elements, its pointers and constants, for the threads that share it. Slices begin at multiples of 64, so that
 * vectors begin where they do in the whole. */
typedef struct {
    void *const *p;
    const double *c;
    ptrdiff_t n;
} FN(elements);

#define SLICE_FROM(e) (part ? (((e)->n + 63) / 64 * part / parts) * 64 : 0)
#define SLICE_TO(e) (part + 1 == parts ? (e)->n : (((e)->n + 63) / 64 * (part + 1) / parts) * 64)

/* `cost` of an element, in multiply-adds, decides what a thread is worth */
#define SHARED_KERNEL(name, cost) \
    TGR_KERNEL(name) \
    { \
        const FN(elements) all = {p, c, n[0]}; \
        tgr_parallel(n[0] * (cost), (n[0] + 63) / 64, FN(name##_slice), &all); \
        return TGR_OK; \
    }

/* y(n) = f(x(n)) without a product in a sum, which a compiler may fuse */
#define UNARY(name, cost, expression) \
    static void FN(name##_slice)(const void *context, int part, int parts) \
    { \
        const FN(elements) *e = context; \
        real *restrict y = e->p[0]; \
        const real *restrict x_ = e->p[1]; \
        const ptrdiff_t to = SLICE_TO(e); \
        for (ptrdiff_t i = SLICE_FROM(e); i < to; i++) { \
            const real x = x_[i]; \
            y[i] = (expression); \
        } \
    } \
    SHARED_KERNEL(name, cost)

UNARY(neg, 8, -x)
UNARY(sqrt, 16, M(sqrt)(x))
UNARY(relu, 8, x <= 0 ? 0 : x) /* NaN stays NaN */
UNARY(abs, 8, M(fabs)(x))
UNARY(square, 8, x *x)
UNARY(reciprocal, 16, 1 / x)
UNARY(rsqrt, 24, 1 / M(sqrt)(x))
UNARY(sign, 8, x > 0 ? 1 : x < 0 ? -1 : x == 0 ? 0 : x) /* NaN stays NaN */
UNARY(floor, 8, M(floor)(x))
UNARY(ceil, 8, M(ceil)(x))
#undef UNARY

/* Functions of products and sums. y, and dy where a kernel has a derivative, from x: all of whole vectors */
typedef void (*FN(on_vectors))(real *restrict y, real *restrict dy, const real *restrict x, ptrdiff_t vectors, const double *c);

/* f on a slice as whole vectors. The last one reaches back over entries that are done, or, where there is no whole one, is a vector of
 * its own, filled up with zeros: the scalar code that a compiler makes for the rest of a loop fuses other products and sums than its
 * vectors do, and the bits of an entry would depend on its place. */
static APART void FN(each_vector)(FN(on_vectors) f, const FN(elements) *e, int outputs, int part, int parts)
{
    const ptrdiff_t from = SLICE_FROM(e), n = SLICE_TO(e) - from;
    real *y = (real *)e->p[0] + from, *dy = outputs > 1 ? (real *)e->p[1] + from : NULL;
    const real *x = (const real *)e->p[outputs] + from;
    if (n >= LANES) {
        const ptrdiff_t last = n - LANES;
        f(y, dy, x, n / LANES, e->c);
        if (last % LANES) f(y + last, dy ? dy + last : NULL, x + last, 1, e->c);
    } else if (n > 0) {
        real one_y[LANES], one_dy[LANES], one_x[LANES];
        for (ptrdiff_t i = 0; i < LANES; i++) one_x[i] = i < n ? x[i] : 0;
        f(one_y, one_dy, one_x, 1, e->c);
        for (ptrdiff_t i = 0; i < LANES; i++)
            if (i < n) y[i] = one_y[i];
        for (ptrdiff_t i = 0; dy && i < LANES; i++)
            if (i < n) dy[i] = one_dy[i];
    }
}

/* the slices of a kernel with so many outputs, one `f` of whole vectors */
#define SLICES_OF_VECTORS(name, outputs) \
    static void FN(name##_slice)(const void *context, int part, int parts) \
    { \
        FN(each_vector)(FN(name##_on_vectors), context, outputs, part, parts); \
    }

/* y(n) = f(x(n)) */
#define FUNCTION(name, cost, expression) \
    static void FN(name##_on_vectors)(real *restrict y, real *restrict dy, const real *restrict x_, ptrdiff_t vectors, const double *c) \
    { \
        (void)dy, (void)c; \
        for (ptrdiff_t i = 0; i < vectors * LANES; i++) { \
            const real x = x_[i]; \
            y[i] = (expression); \
        } \
    } \
    SLICES_OF_VECTORS(name, 1) \
    SHARED_KERNEL(name, cost)

FUNCTION(exp, 32, FN(exp_of)(x))
FUNCTION(log, 32, FN(log_of)(x))
FUNCTION(exp2, 32, FN(exp2_of)(x))
FUNCTION(expm1, 48, FN(expm1_of)(x))
FUNCTION(sinh, 64, FN(sinh_of)(x))
FUNCTION(cosh, 64, FN(cosh_of)(x))
FUNCTION(log1p, 48, FN(log1p_of)(x))
FUNCTION(log2, 48, LOG2_OF(x))
FUNCTION(log10, 48, LOG10_OF(x))
FUNCTION(logsigmoid, 64, FN(logsigmoid_of)(x))
FUNCTION(arcsinh, 64, FN(arcsinh_of)(x))
FUNCTION(arccosh, 64, FN(arccosh_of)(x))
FUNCTION(arctanh, 64, FN(arctanh_of)(x))
FUNCTION(arcsin, 64, FN(arcsin_of)(x))
FUNCTION(arccos, 64, FN(arccos_of)(x))
FUNCTION(arctan, 64, FN(arctan_of)(x))
FUNCTION(softsign, 24, FN(softsign_of)(x))
/* derivatives */
FUNCTION(log1p_dx, 16, 1 / (1 + x))
FUNCTION(arcsin_dx, 32, 1 / M(sqrt)((1 - x) * (1 + x)))
FUNCTION(arctan_dx, 24, FN(arctan_derivative)(x))
FUNCTION(arcsinh_dx, 32, FN(arcsinh_derivative)(x))
FUNCTION(arccosh_dx, 32, 1 / (M(sqrt)(x - 1) * M(sqrt)(x + 1)))
FUNCTION(arctanh_dx, 16, 1 / ((1 - x) * (1 + x)))
FUNCTION(softsign_dx, 24, FN(softsign_derivative)(x))
#undef FUNCTION

/* y(n) = f(x(n)), `near` for |x| < FAR and `far`, of the C library, for the others: blocks that have any are gone through again */
#define PERIODIC(name, near, far) \
    static void FN(name##_slice)(const void *context, int part, int parts) \
    { \
        const FN(elements) *e = context; \
        real *restrict y = e->p[0]; \
        const real *restrict x_ = e->p[1]; \
        const ptrdiff_t to = SLICE_TO(e); \
        for (ptrdiff_t from = SLICE_FROM(e), end; from < to; from = end) { \
            bits any = 0; \
            end = from + 256 < to ? from + 256 : to; \
            for (ptrdiff_t i = from; i < end; i++) { \
                const real x = x_[i]; \
                any |= M(fabs)(x) < (real)FAR ? 0 : 1; \
                y[i] = (near); \
            } \
            if (any) \
                for (ptrdiff_t i = from; i < end; i++) { \
                    const real x = x_[i]; \
                    if (!(M(fabs)(x) < (real)FAR)) y[i] = (far); \
                } \
        } \
    } \
    SHARED_KERNEL(name, 64)

PERIODIC(sin, x == 0 ? x : FN(sin_of)(x, 0), M(sin)(x)) /* -0 stays -0 */
PERIODIC(cos, FN(sin_of)(x, 1), M(cos)(x))
PERIODIC(tan, x == 0 ? x : FN(tan_of)(x), M(tan)(x))
#undef PERIODIC
#undef FAR

/* y(n), dy(n) from x(n): the value and its derivative, which share one exponential. These may follow a product, too. */
#define ACTIVATION(name, cost, activation) \
    static void FN(name##_slice)(const void *context, int part, int parts) \
    { \
        const FN(elements) *e = context; \
        const ptrdiff_t from = SLICE_FROM(e); \
        FN(activate)(activation, SLICE_TO(e) - from, (real *)e->p[0] + from, (real *)e->p[1] + from, (const real *)e->p[2] + from); \
    } \
    SHARED_KERNEL(name, cost)

ACTIVATION(tanh, 48, TGR_TANH)
ACTIVATION(sigmoid, 48, TGR_SIGMOID)
#undef ACTIVATION

/* y(n), dy(n) from x(n) and as many constants, c0 and c1 */
#define WITH_DERIVATIVE(name, cost, constants, value, derivative) \
    static void FN(name##_on_vectors)(real *restrict y, real *restrict dy, const real *restrict x_, ptrdiff_t vectors, const double *c) \
    { \
        const real c0 = constants > 0 ? (real)c[0] : 0, c1 = constants > 1 ? (real)c[1] : 0; \
        (void)c0, (void)c1; \
        for (ptrdiff_t i = 0; i < vectors * LANES; i++) { \
            const real x = x_[i]; \
            real d; \
            (void)d; \
            y[i] = (value); \
            dy[i] = (derivative); \
        } \
    } \
    SLICES_OF_VECTORS(name, 2) \
    SHARED_KERNEL(name, cost)

WITH_DERIVATIVE(erf, 64, 0, FN(erf_of)(x, &d), d)
WITH_DERIVATIVE(gelu, 64, 0, FN(gelu_of)(x, &d), d)
WITH_DERIVATIVE(gelu_tanh, 48, 0, FN(gelu_tanh_of)(x, &d), d)
WITH_DERIVATIVE(silu, 48, 0, FN(silu_of)(x, &d), d)
WITH_DERIVATIVE(softplus, 64, 0, FN(softplus_of)(x, &d), d)
WITH_DERIVATIVE(elu, 32, 1, FN(elu_of)(x, c0, &d), d)
WITH_DERIVATIVE(leaky_relu, 8, 1, x > 0 ? x : c0 * x, x > 0 ? 1 : c0)
WITH_DERIVATIVE(hardtanh, 8, 2, x < c0 ? c0 : x > c1 ? c1 : x, (x > c0) & (x < c1)) /* NaN stays NaN */
/* c1 x^2 / 2 where |x| <= c0, beyond it the tangent (Huber 1964) */
WITH_DERIVATIVE(huber, 8, 2, c1 * (M(fabs)(x) <= c0 ? REAL(0.5, 0.5) * x * x : c0 * (M(fabs)(x) - REAL(0.5, 0.5) * c0)),
                c1 * (x < -c0 ? -c0 : x > c0 ? c0 : x))
#undef WITH_DERIVATIVE
#undef SLICES_OF_VECTORS
#undef SHARED_KERNEL
#undef SLICE_FROM
#undef SLICE_TO

/* dx(n) = g(n) where y(n) > 0, else 0.  Inverts: y = max(x, 0) */
TGR_KERNEL(relu_vjp)
{
    real *restrict dx = p[0];
    const real *restrict g = p[1], *restrict y = p[2];
    (void)c;
    for (ptrdiff_t i = 0; i < n[0]; i++) dx[i] = y[i] > 0 ? g[i] : 0;
    return TGR_OK;
}

/* y(n) = c[0] x(n); y may be x (in place) */
TGR_KERNEL(scale)
{
    real *y = p[0];
    const real *x = p[1];
    const real factor = (real)c[0];
    for (ptrdiff_t i = 0; i < n[0]; i++) y[i] = factor * x[i];
    return TGR_OK;
}

/* y(n) = c[0] */
TGR_KERNEL(fill)
{
    real *y = p[0];
    const real value = (real)c[0];
    for (ptrdiff_t i = 0; i < n[0]; i++) y[i] = value;
    return TGR_OK;
}

/* y(dims) = f(a(dims), b(dims)), y contiguous; n = {ndim >= 1, dims[ndim], a_strides[ndim], b_strides[ndim]},
 * a broadcast axis has stride 0; a is of type `left` */
#define BINARY(name, expression) BINARY_WITH(name, real, expression)
#define BINARY_WITH(name, left, expression) \
    TGR_KERNEL(name) \
    { \
        const ptrdiff_t nd = n[0], *dims = n + 1, *sa = dims + nd, *sb = sa + nd; \
        const ptrdiff_t inner = dims[nd - 1], ia = sa[nd - 1], ib = sb[nd - 1]; \
        ptrdiff_t at[TGR_MAX_DIMS]; \
        real *restrict y = p[0]; \
        const left *pa = p[1]; \
        const real *pb = p[2]; \
        (void)c; \
        for (ptrdiff_t i = 0; i < nd; i++) { \
            if (dims[i] == 0) return TGR_OK; \
            at[i] = 0; /* no more of it: clearing all would cost as much as a small kernel */ \
        } \
        for (;;) { \
            if (ia == 1 && ib == 1) \
                for (ptrdiff_t i = 0; i < inner; i++) { \
                    const left a = pa[i]; \
                    const real b = pb[i]; \
                    y[i] = (expression); \
                } \
            else if (ia == 1 && ib == 0) { \
                const real b = *pb; \
                for (ptrdiff_t i = 0; i < inner; i++) { \
                    const left a = pa[i]; \
                    y[i] = (expression); \
                } \
            } else if (ia == 0 && ib == 1) { \
                const left a = *pa; \
                for (ptrdiff_t i = 0; i < inner; i++) { \
                    const real b = pb[i]; \
                    y[i] = (expression); \
                } \
            } else \
                for (ptrdiff_t i = 0; i < inner; i++) { \
                    const left a = pa[i * ia]; \
                    const real b = pb[i * ib]; \
                    y[i] = (expression); \
                } \
            y += inner; \
            ptrdiff_t d = nd - 2; \
            for (; d >= 0; d--) { \
                pa += sa[d]; \
                pb += sb[d]; \
                if (++at[d] < dims[d]) break; \
                pa -= sa[d] * dims[d]; \
                pb -= sb[d] * dims[d]; \
                at[d] = 0; \
            } \
            if (d < 0) return TGR_OK; \
        } \
    }

BINARY(add, a + b)
BINARY(sub, a - b)
BINARY(mul, a *b)
BINARY(div, a / b)
BINARY(general_pow, FN(general_power)(a, b))
BINARY(general_pow_dbase, b == 0 ? 0 : b * FN(general_power)(a, b - 1))
BINARY(small_pow, b == 2 ? a * a : b == 1 ? a : a * a * a)
BINARY(small_pow_dbase, b == 2 ? 2 * a : b == 1 ? 1 : 3 * (a * a))
BINARY(pow_dexponent, a == 0 && b >= 0 ? 0 : FN(general_power)(a, b) * FN(log_of)(a)) /* d(a^b)/db; its limit 0 at a = 0 */
BINARY(equal, a == b)
BINARY(maximum, (a >= b) | (a != a) ? a : b) /* NaN where either is */
BINARY(minimum, (a <= b) | (a != a) ? a : b)
BINARY(maximum_da, a < b ? 0 : a == b ? REAL(0.5, 0.5) : 1) /* d max(a, b)/da, and d min(a, b)/db */
BINARY(logaddexp, FN(logaddexp_of)(a, b))
BINARY(logaddexp_da, FN(logaddexp_slope)(a, b)) /* d log(exp(a) + exp(b))/da */
BINARY(arctan2, FN(arctan2_of)(a, b))
BINARY(hypot, FN(hypot_of)(a, b))
BINARY(div_or_zero, b == 0 ? 0 : a / b)
BINARY_WITH(put_where_not, uint8_t, a ? y[i] : b) /* b where the bytes a are 0, y in place elsewhere */
#undef BINARY
#undef BINARY_WITH

/* Whether a binary kernel has one b for all, and it is an exponent that people write, for which a^b is a product: 1, 2 or 3. */
static int FN(small_exponent)(void *const *p, const ptrdiff_t *n)
{
    for (ptrdiff_t i = 0; i < n[0]; i++)
        if (n[1 + i] == 0 || n[1 + 2 * n[0] + i] != 0) return 0;
    const real b = *(const real *)p[2];
    return b == 1 || b == 2 || b == 3;
}

/* y = a^b; p and n as for the other binary kernels */
TGR_KERNEL(pow) { return FN(small_exponent)(p, n) ? FN(small_pow)(p, n, c) : FN(general_pow)(p, n, c); }

/* y = d(a^b)/da; a^0 is constant */
TGR_KERNEL(pow_dbase) { return FN(small_exponent)(p, n) ? FN(small_pow_dbase)(p, n, c) : FN(general_pow_dbase)(p, n, c); }

/* y(n) = x(n) within c[0]..c[1], c[0] below, c[1] above; NaN stays NaN */
TGR_KERNEL(clip)
{
    real *restrict y = p[0];
    const real *restrict x = p[1];
    const real low = (real)c[0], high = (real)c[1];
    for (ptrdiff_t i = 0; i < n[0]; i++) {
        const real raised = x[i] < low ? low : x[i];
        y[i] = raised > high ? high : raised;
    }
    return TGR_OK;
}

/* dx(n) = g(n) where c[0] <= x(n) <= c[1], else 0.  Inverts: y = min(max(x, c[0]), c[1]) */
TGR_KERNEL(clip_vjp)
{
    real *restrict dx = p[0];
    const real *restrict g = p[1], *restrict x = p[2];
    const real low = (real)c[0], high = (real)c[1];
    for (ptrdiff_t i = 0; i < n[0]; i++) dx[i] = (x[i] >= low) & (x[i] <= high) ? g[i] : 0;
    return TGR_OK;
}

/* bytes y(n) = x(n) != 0 */
TGR_KERNEL(nonzero)
{
    uint8_t *restrict y = p[0];
    const real *restrict x = p[1];
    (void)c;
    for (ptrdiff_t i = 0; i < n[0]; i++) y[i] = x[i] != 0;
    return TGR_OK;
}
