/* exp, tanh and sigmoid as straight-line code that a compiler turns into vector instructions.
 *
 * All three share one reduction (Cody & Waite 1980): x = m ln2 + r with |r| <= ln2/2, so exp(x) = 2^m (1 + q),
 * q = expm1(r) from a polynomial. Keeping q apart from the 1 gives expm1(x) = 2^m q + (2^m - 1) without
 * cancellation, which is what tanh needs near 0, and exp(-2|x|) itself, which is what its derivative needs
 * in saturation: 1 - y*y from a rounded y has lost every digit there. */

#if TGR_DOUBLE
#define MANTISSA_BITS 52
#define EXPONENT_BIAS 1023
#else
#define MANTISSA_BITS 23
#define EXPONENT_BIAS 127
#endif

/* 2^m for integral m with m + EXPONENT_BIAS in [0, 2 EXPONENT_BIAS]: the sum with 1.5 * 2^MANTISSA_BITS leaves the
 * biased exponent in the lowest bits. */
static inline real FN(power_of_two)(real m)
{
    const real magic = REAL(12582912.0, 6755399441055744.0); /* 1.5 * 2^23, 1.5 * 2^52 */
    real shifted = m + (magic + (real)EXPONENT_BIAS);
    bits b;
    memcpy(&b, &shifted, sizeof b);
    b <<= MANTISSA_BITS;
    memcpy(&shifted, &b, sizeof b);
    return shifted;
}

/* m and q of x = m ln2 + r, q = expm1(r). The polynomial is Taylor's, cut where |r| <= 0.3466 leaves a relative
 * error below 2e-8 (float) and 2e-17 (double). */
static inline real FN(expm1_reduced)(real x, real *m_out)
{
    const real magic = REAL(12582912.0, 6755399441055744.0);
    real m = (x * REAL(1.44269504088896341, 1.44269504088896341) + magic) - magic;
    real r = x - m * REAL(0.693359375, 6.93147180369123816490e-01);
    r = r - m * REAL(-2.12194440e-4, 1.90821492927058770002e-10);
#if TGR_DOUBLE
    real s = 1.0 / 6227020800.0;
    s = s * r + 1.0 / 479001600.0;
    s = s * r + 1.0 / 39916800.0;
    s = s * r + 1.0 / 3628800.0;
    s = s * r + 1.0 / 362880.0;
    s = s * r + 1.0 / 40320.0;
    s = s * r + 1.0 / 5040.0;
#else
    real s = 1.0f / 5040.0f;
#endif
    s = s * r + REAL(1.0, 1.0) / REAL(720.0, 720.0);
    s = s * r + REAL(1.0, 1.0) / REAL(120.0, 120.0);
    s = s * r + REAL(1.0, 1.0) / REAL(24.0, 24.0);
    s = s * r + REAL(1.0, 1.0) / REAL(6.0, 6.0);
    s = s * r + REAL(0.5, 0.5);
    *m_out = m;
    return r + (r * r) * s;
}

/* exp(x) over the whole range: inf above, gradual underflow below, NaN stays NaN. The factor 2^m is applied in two
 * halves because 2^m alone may lie outside the type. */
static inline real FN(exp_of)(real x)
{
    const real magic = REAL(12582912.0, 6755399441055744.0);
    real m;
    x = x > REAL(89.0, 710.0) ? REAL(89.0, 710.0) : x;
    x = x < REAL(-104.0, -746.0) ? REAL(-104.0, -746.0) : x;
    real q = FN(expm1_reduced)(x, &m);
    real half = (m * REAL(0.5, 0.5) + magic) - magic;
    return ((1 + q) * FN(power_of_two)(half)) * FN(power_of_two)(m - half);
}

/* y = tanh(x), *dy = tanh'(x) = 4e / (1 + e)^2 with e = exp(-2|x|). */
static inline real FN(tanh_of)(real x, real *dy)
{
    const real magic = REAL(12582912.0, 6755399441055744.0);
    real a = M(fabs)(x), m;
    a = a > REAL(52.0, 373.0) ? REAL(52.0, 373.0) : a; /* e has underflowed to 0 */
    real q = FN(expm1_reduced)(-2 * a, &m);
    real half = (m * REAL(0.5, 0.5) + magic) - magic;
    real s1 = FN(power_of_two)(half), s2 = FN(power_of_two)(m - half);
    real e = ((1 + q) * s1) * s2;
    real s = s1 * s2;
    real expm1 = s * q + (s - 1);
    real d = 1 + e;
    *dy = ((4 * (1 + q) * s1) / (d * d)) * s2; /* s2 last: e may be subnormal where 4e is not */
    return M(copysign)(-expm1 / (2 + expm1), x);
}

/* y = 1 / (1 + exp(-x)), *dy = e / (1 + e)^2 with e = exp(-|x|): no cancellation on either side. */
static inline real FN(sigmoid_of)(real x, real *dy)
{
    real e = FN(exp_of)(-M(fabs)(x));
    real d = 1 + e;
    *dy = e / (d * d);
    return (x < 0 ? e : 1) / d;
}

#undef MANTISSA_BITS
#undef EXPONENT_BIAS
