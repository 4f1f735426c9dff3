/* One element in, one element out. Contiguous arrays are seen as n[0] elements; binary kernels broadcast. */

/* A kernel over n[0] elements, its pointers and constants, for the threads that share it. Slices begin at multiples of 64, so that
 * vectors begin where they do in the whole. */
typedef struct {
    void *const *p;
    const double *c;
    ptrdiff_t n;
} FN(elements);

#define SLICE_FROM(e) ((((e)->n + 63) / 64 * part / parts) * 64)
#define SLICE_TO(e) (part + 1 == parts ? (e)->n : (((e)->n + 63) / 64 * (part + 1) / parts) * 64)

/* `cost` of an element, in multiply-adds, decides what a thread is worth */
#define SHARED_KERNEL(name, cost) \
    TGR_KERNEL(name) \
    { \
        const FN(elements) all = {p, c, n[0]}; \
        tgr_parallel(n[0] * (cost), (n[0] + 63) / 64, FN(name##_slice), &all); \
        return TGR_OK; \
    }

/* y(n) = f(x(n)) */
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
UNARY(exp, 32, FN(exp_of)(x))
UNARY(log, 32, FN(log_of)(x))
UNARY(sqrt, 16, M(sqrt)(x))
UNARY(relu, 8, x <= 0 ? 0 : x) /* NaN stays NaN */
#undef UNARY

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
    static void FN(name##_slice)(const void *context, int part, int parts) \
    { \
        const FN(elements) *e = context; \
        real *restrict y = e->p[0], *restrict dy = e->p[1]; \
        const real *restrict x_ = e->p[2]; \
        const real c0 = constants > 0 ? (real)e->c[0] : 0, c1 = constants > 1 ? (real)e->c[1] : 0; \
        const ptrdiff_t to = SLICE_TO(e); \
        (void)c0, (void)c1; \
        for (ptrdiff_t i = SLICE_FROM(e); i < to; i++) { \
            const real x = x_[i]; \
            real d; \
            (void)d; \
            y[i] = (value); \
            dy[i] = (derivative); \
        } \
    } \
    SHARED_KERNEL(name, cost)

WITH_DERIVATIVE(erf, 64, 0, FN(erf_of)(x, &d), d)
WITH_DERIVATIVE(gelu, 64, 0, FN(gelu_of)(x, &d), d)
WITH_DERIVATIVE(gelu_tanh, 48, 0, FN(gelu_tanh_of)(x, &d), d)
WITH_DERIVATIVE(silu, 48, 0, FN(silu_of)(x, &d), d)
WITH_DERIVATIVE(softplus, 64, 0, FN(softplus_of)(x, &d), d)
WITH_DERIVATIVE(elu, 32, 1, FN(elu_of)(x, c0, &d), d)
WITH_DERIVATIVE(leaky_relu, 8, 1, x > 0 ? x : c0 * x, x > 0 ? 1 : c0)
WITH_DERIVATIVE(hardtanh, 8, 2, x < c0 ? c0 : x > c1 ? c1 : x, (x > c0) & (x < c1)) /* NaN stays NaN */
WITH_DERIVATIVE(absolute, 8, 0, M(fabs)(x), x > 0 ? 1 : x < 0 ? -1 : x)             /* 0 at 0, NaN at NaN */
/* c1 x^2 / 2 where |x| <= c0, beyond it the tangent (Huber 1964) */
WITH_DERIVATIVE(huber, 8, 2, c1 * (M(fabs)(x) <= c0 ? REAL(0.5, 0.5) * x * x : c0 * (M(fabs)(x) - REAL(0.5, 0.5) * c0)),
                c1 * (x < -c0 ? -c0 : x > c0 ? c0 : x))
#undef WITH_DERIVATIVE
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
 * a broadcast axis has stride 0 */
#define BINARY(name, expression) \
    TGR_KERNEL(name) \
    { \
        const ptrdiff_t nd = n[0], *dims = n + 1, *sa = dims + nd, *sb = sa + nd; \
        const ptrdiff_t inner = dims[nd - 1], ia = sa[nd - 1], ib = sb[nd - 1]; \
        ptrdiff_t at[TGR_MAX_DIMS]; \
        real *restrict y = p[0]; \
        const real *pa = p[1], *pb = p[2]; \
        (void)c; \
        for (ptrdiff_t i = 0; i < nd; i++) { \
            if (dims[i] == 0) return TGR_OK; \
            at[i] = 0; /* no more of it: clearing all would cost as much as a small kernel */ \
        } \
        for (;;) { \
            if (ia == 1 && ib == 1) \
                for (ptrdiff_t i = 0; i < inner; i++) { \
                    const real a = pa[i], b = pb[i]; \
                    y[i] = (expression); \
                } \
            else if (ia == 1 && ib == 0) { \
                const real b = *pb; \
                for (ptrdiff_t i = 0; i < inner; i++) { \
                    const real a = pa[i]; \
                    y[i] = (expression); \
                } \
            } else if (ia == 0 && ib == 1) { \
                const real a = *pa; \
                for (ptrdiff_t i = 0; i < inner; i++) { \
                    const real b = pb[i]; \
                    y[i] = (expression); \
                } \
            } else \
                for (ptrdiff_t i = 0; i < inner; i++) { \
                    const real a = pa[i * ia], b = pb[i * ib]; \
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
BINARY(pow, M(pow)(a, b))
BINARY(pow_dbase, b == 0 ? 0 : b * M(pow)(a, b - 1))                 /* d(a^b)/da; a^0 is constant */
BINARY(pow_dexponent, a == 0 && b >= 0 ? 0 : M(pow)(a, b) * M(log)(a)) /* d(a^b)/db; its limit 0 at a = 0 */
BINARY(equal, a == b)
#undef BINARY
