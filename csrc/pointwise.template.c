/* One element in, one element out. Contiguous arrays are seen as n[0] elements; binary kernels broadcast. */

/* y(n) = f(x(n)) */
#define UNARY(name, expression) \
    TGR_KERNEL(name) \
    { \
        real *restrict y = p[0]; \
        const real *restrict x_ = p[1]; \
        (void)c; \
        for (ptrdiff_t i = 0; i < n[0]; i++) { \
            const real x = x_[i]; \
            y[i] = (expression); \
        } \
        return TGR_OK; \
    }

UNARY(neg, -x)
UNARY(exp, FN(exp_of)(x))
UNARY(log, M(log)(x))
UNARY(sqrt, M(sqrt)(x))
UNARY(relu, x <= 0 ? 0 : x) /* NaN stays NaN */
#undef UNARY

/* y(n), dy(n) from x(n): the value and its derivative, which share one exponential */
#define WITH_DERIVATIVE(name) \
    TGR_KERNEL(name) \
    { \
        real *restrict y = p[0], *restrict dy = p[1]; \
        const real *restrict x = p[2]; \
        (void)c; \
        for (ptrdiff_t i = 0; i < n[0]; i++) { \
            real d; \
            y[i] = FN(name##_of)(x[i], &d); \
            dy[i] = d; \
        } \
        return TGR_OK; \
    }

WITH_DERIVATIVE(tanh)
WITH_DERIVATIVE(sigmoid)
#undef WITH_DERIVATIVE

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
        ptrdiff_t at[TGR_MAX_DIMS] = {0}; \
        real *restrict y = p[0]; \
        const real *pa = p[1], *pb = p[2]; \
        (void)c; \
        for (ptrdiff_t i = 0; i < nd; i++) \
            if (dims[i] == 0) return TGR_OK; \
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
