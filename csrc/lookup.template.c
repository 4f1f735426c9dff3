/* tanh and sigmoid of a vector of floats by table, where one instruction looks up every lane in 32 entries: half the operations
 * of elementary.template.c, no division, and a third of the latency, which is what a step of a small recurrent net waits for. */
#if LOOKS_UP

#define TABLE_ENDS 7.875f /* below, all of |x| that the table serves */

/* y = tanh(a) and w = 1 - tanh(a) for 0 <= a < TABLE_ENDS; see tanh_table.py. The lowest bits of a + 1.5 2^21 are the number of
 * the multiple of 1/4 next to a. */
INLINE vec tanh_looked_up(vec a, vec *w)
{
    const vec d = (vec)_mm512_reduce_ps((__m512)a, 2 << 4 | _MM_FROUND_NO_EXC), d2 = d * d; /* a - round(4 a) / 4, ties to even */
    const __m512i at = _mm512_castps_si512((__m512)(a + 0x1.8p21f));
#define ENTRY(row) ((vec)_mm512_permutex2var_ps(_mm512_load_ps(tanh_table[row]), at, _mm512_load_ps(tanh_table[row] + 16)))
    const vec q = (ENTRY(2) + ENTRY(3) * d) + d2 * ((ENTRY(4) + ENTRY(5) * d) + d2 * (ENTRY(6) + ENTRY(7) * d));
    *w = ENTRY(1) - d * q;
    return ENTRY(0) + d * q;
#undef ENTRY
}

typedef struct {
    vec y, dy;
} value_and_slope;

/* y and dy, but where |x| is not below `end` what f makes of it */
static __attribute__((noinline)) value_and_slope beyond_table(float (*f)(float, float *), float end, vec x, vec y, vec dy)
{
    for (int i = 0; i < LANES; i++)
        if (!(fabsf(x[i]) < end)) {
            float slope;
            y[i] = f(x[i], &slope);
            dy[i] = slope;
        }
    return (value_and_slope){y, dy};
}

INLINE int all_below(vec a, float end) { return _mm512_cmp_ps_mask((__m512)a, _mm512_set1_ps(end), _CMP_LT_OQ) == 0xffff; }

INLINE vec absolute(vec x) { return (vec)_mm512_abs_ps((__m512)x); }

/* y = tanh(x), dy = tanh'(x) = w (2 - w), w being 1 - |y| to all digits */
INLINE value_and_slope tanh_of_vector(vec x)
{
    const vec a = absolute(x);
    vec w, y = tanh_looked_up(a, &w), dy = w * (2 - w);
    y = (vec)_mm512_or_ps((__m512)y, _mm512_and_ps((__m512)x, _mm512_set1_ps(-0.0f)));
    if (__builtin_expect(!all_below(a, TABLE_ENDS), 0)) return beyond_table(tanh_of_f32, TABLE_ENDS, x, y, dy);
    return (value_and_slope){y, dy};
}

/* y = sigmoid(x), dy = h (1 - h), h = (1 - tanh(|x| / 2)) / 2 being the smaller of sigmoid(x) and sigmoid(-x) */
INLINE value_and_slope sigmoid_of_vector(vec x)
{
    const vec a = absolute(x);
    vec w;
    tanh_looked_up(0.5f * a, &w);
    const vec h = 0.5f * w, rest = 1 - h, dy = h * rest;
    const vec y = (vec)_mm512_mask_blend_ps(_mm512_movepi32_mask(_mm512_castps_si512((__m512)x)), (__m512)rest, (__m512)h);
    if (__builtin_expect(!all_below(a, 2 * TABLE_ENDS), 0)) return beyond_table(sigmoid_of_f32, 2 * TABLE_ENDS, x, y, dy);
    return (value_and_slope){y, dy};
}

/* y(n) = f(x), dy(n) = f'(x) where dy is not NULL; f is tanh or sigmoid, and y may be x. */
static void activate_by_table(tgr_activation f, ptrdiff_t n, float *y, float *dy, const float *x)
{
#define EACH_VECTOR(f) \
    do { \
        value_and_slope v; \
        ptrdiff_t i = 0; \
        for (; i + LANES <= n; i += LANES) { \
            v = f(LOAD(x + i)); \
            STORE(y + i, v.y); \
            if (dy) STORE(dy + i, v.dy); \
        } \
        if (i < n) { \
            const __mmask16 there = (__mmask16)((1u << (n - i)) - 1); \
            v = f((vec)_mm512_maskz_loadu_ps(there, x + i)); \
            _mm512_mask_storeu_ps(y + i, there, (__m512)v.y); \
            if (dy) _mm512_mask_storeu_ps(dy + i, there, (__m512)v.dy); \
        } \
    } while (0)
    if (f == TGR_TANH)
        EACH_VECTOR(tanh_of_vector);
    else
        EACH_VECTOR(sigmoid_of_vector);
#undef EACH_VECTOR
}

#endif
