/* The activations that may follow a matrix product, each with its derivative. */

/* y(n) = f(x), dy(n) = f'(x) where dy is not NULL; y may be x (in place) */
static void FN(activate)(tgr_activation f, ptrdiff_t n, real *y, real *dy, const real *x)
{
#define EACH(value, derivative) \
    if (dy) { \
        TGR_INDEPENDENT \
        for (ptrdiff_t i = 0; i < n; i++) { \
            real d; \
            const real v = value; \
            (void)d, (void)v; \
            y[i] = v; \
            dy[i] = derivative; \
        } \
    } else { \
        TGR_INDEPENDENT \
        for (ptrdiff_t i = 0; i < n; i++) { \
            real d; \
            (void)d; \
            y[i] = value; \
        } \
    }
#if LOOKS_UP
    if (f == TGR_TANH || f == TGR_SIGMOID) {
        activate_by_table(f, n, y, dy, x);
        return;
    }
#endif
    switch (f) {
    case TGR_IDENTITY: EACH(x[i], 1) break;
    case TGR_TANH: EACH(FN(tanh_of)(x[i], &d), d) break;
    case TGR_SIGMOID: EACH(FN(sigmoid_of)(x[i], &d), d) break;
    case TGR_RELU: EACH((x[i] <= 0 ? 0 : x[i]), (v > 0 ? 1 : 0)) break; /* NaN stays NaN */
    case TGR_LSTM_GATES: __builtin_unreachable(); /* see activate_part */
    }
#undef EACH
}

/* The same for entries start .. start + n - 1 of a row that is `width` long: in rows of LSTM gates, every quarter has its own f. */
static void FN(activate_part)(tgr_activation f, ptrdiff_t start, ptrdiff_t width, ptrdiff_t n, real *y, real *dy, const real *x)
{
    if (f != TGR_LSTM_GATES) {
        FN(activate)(f, n, y, dy, x);
        return;
    }
    for (ptrdiff_t i = 0, end; i < n; i = end) {
        const ptrdiff_t gate = (start + i) / (width / 4), next = gate < 2 ? 2 : gate + 1; /* i and f are one run */
        end = next * (width / 4) - start < n ? next * (width / 4) - start : n;
        FN(activate)(gate == 2 ? TGR_TANH : TGR_SIGMOID, end - i, y + i, dy ? dy + i : NULL, x + i);
    }
}

/* Whether `activated` serves an activation: of a vector that is in a register already. */
INLINE int FN(in_registers)(tgr_activation f)
{
#if LOOKS_UP
    return f == TGR_TANH;
#else
    (void)f;
    return 0;
#endif
}

/* f(x) of such an activation; its derivative to dy where that is not NULL */
INLINE vec FN(activated)(vec x, real *dy)
{
#if LOOKS_UP
    const value_and_slope v = tanh_of_vector(x);
    if (dy) STORE(dy, v.dy);
    return v.y;
#else
    (void)dy;
    return x;
#endif
}
