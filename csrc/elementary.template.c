/* exp, tanh, sigmoid and log as straight-line code that a compiler turns into vector instructions: selects, no branches.
 *
 * Largest errors found, in units in the last place (ulp) of the true value where that is a normal number, with and without
 * fused multiply-adds; float over all its values (tanh and sigmoid: all between 2^-28 and 128, samples of the others),
 * double over some 7 10^7 for each function:
 *
 *                 exp    tanh  tanh'   sigmoid  sigmoid'   log
 *     float       0.91   1.45   2.48      1.85      2.42   0.84
 *     double      0.91   1.44   2.46      1.82      2.42   0.83
 *
 * Subnormal results are off by less than one unit. The coefficients are minimax in the relative error of the whole
 * function: Remez' exchange algorithm in 50 digits, where the leading coefficients are rounded to the type first and
 * the others fitted again. The approximation errors stated below are those with the rounded coefficients. */

#if TGR_DOUBLE
#define MANTISSA_BITS 52
#define EXPONENT_BIAS 1023
#define LIFT 512
#else
#define MANTISSA_BITS 23
#define EXPONENT_BIAS 127
#define LIFT 64
#endif

#define ROUNDER REAL(0x1.8p23, 0x1.8p52) /* 1.5 * 2^MANTISSA_BITS: adding it rounds to an integer, in the lowest bits */
#define UP REAL(0x1p64, 0x1p512)         /* 2^LIFT */
#define DOWN REAL(0x1p-64, 0x1p-512)     /* 2^-LIFT */

/* ln 2 in two parts; the first has so few digits that its product with any exponent is exact */
#define LN2_HIGH REAL(0x1.62e4p-1, 0x1.62e42feep-1)
#define LN2_LOW REAL(1.4286068203094172e-6, 1.9082149292705877e-10)

static inline bits FN(to_bits)(real x)
{
    bits b;
    memcpy(&b, &x, sizeof b);
    return b;
}

static inline real FN(from_bits)(bits b)
{
    real x;
    memcpy(&x, &b, sizeof x);
    return x;
}

/* exp(r) - 1 - r for |r| <= ln2/2, as r^2 s(r); 1 + r + r^2 s(r) has an error below 2^-28.2 (float), 2^-57.8 (double). */
static inline real FN(exp_curve)(real r)
{
    const real r2 = r * r;
#if TGR_DOUBLE
    real s = 2.5018819390059915e-08 * r + 2.7630774629050355e-07;
    s = s * r2 + (2.7557534608044616e-06 * r + 2.4801491704210793e-05);
    s = s * r2 + (0.00019841269555971667 * r + 0.0013888888944889853);
    s = s * r2 + (0.008333333333475693 * r + 0.041666666666525735);
    s = s * r2 + (0.16666666666666435 * r + 0.5000000000000011);
#else
    real s = 0.0013838933f * r2 + (0.008369193f * r + 0.041668102f);
    s = s * r2 + (0.16666517f * r + 0.49999994f);
#endif
    return r2 * s;
}

/* exp(r) - 1 of x = m ln2 + r with integral m and |r| <= ln2/2, so that exp(x) = 2^m exp(r) (Cody & Waite 1980). The lowest
 * bits of *exponent are m + bias, to be shifted into the place of a number's exponent. */
static inline real FN(exp_reduced)(real x, real bias, bits *exponent)
{
    const real shifted = x * REAL(1.4426950408889634, 1.4426950408889634) + (ROUNDER + bias);
    const real m = shifted - (ROUNDER + bias);
    const real high = x - m * LN2_HIGH; /* exact */
    *exponent = FN(to_bits)(shifted);
    return high + (FN(exp_curve)(high - m * LN2_LOW) - m * LN2_LOW); /* the parts of r apart: their sum was rounded */
}

/* 2^m v, where the lowest bits of `exponent` are m + 2 EXPONENT_BIAS: in two halves, because 2^m alone may lie outside the type,
 * each with a bias of its own */
static inline real FN(times_power)(real v, bits exponent)
{
    const bits half = exponent >> 1;
    return (v * FN(from_bits)(half << MANTISSA_BITS)) * FN(from_bits)((exponent - half) << MANTISSA_BITS);
}

/* exp(x) over the whole range: inf above, gradual underflow below, NaN stays NaN. */
static inline real FN(exp_of)(real x)
{
    bits exponent;
    real y = 1 + FN(exp_reduced)(x, 2 * EXPONENT_BIAS, &exponent);
    y = FN(times_power)(y, exponent);
    y = x < REAL(-104.0, -746.0) ? 0 : y;
    return x > REAL(89.0, 710.0) ? (real)INFINITY : y;
}

/* 2^LIFT exp(-a) for a >= 0: a normal number even where exp(-a) is subnormal; 0 where 4 exp(-a) underflows to 0 */
static inline real FN(exp_lifted)(real a)
{
    bits exponent;
    const real v = 1 + FN(exp_reduced)(-a, EXPONENT_BIAS + LIFT, &exponent);
    const real y = v * FN(from_bits)(exponent << MANTISSA_BITS);
    return a > REAL(106.0, 748.0) ? 0 : y;
}

/* y = tanh(x), *dy = tanh'(x). With a = |x|, e = exp(-2a) and h = e / (1 + e):
 *
 *     a >= 0.625  y = 1 - 2h, where 2h < 0.45    dy = 4h (1 - h)    no cancellation: 1 - y^2 from a rounded y near 1
 *                                                                   would have lost every digit
 *     a <  0.625  y = a - a^3 P(a^2) / Q(a^2)    dy = 1 - y^2
 *
 * P/Q leaves an error below 2^-27.6 (float), 2^-59.3 (double) of y. */
static inline real FN(tanh_of)(real x, real *dy)
{
    const real a = M(fabs)(x), z = a * a;
#if TGR_DOUBLE
    const real p = (0.00019908855312394643 * z + 0.02049677805173374) * z + 0.33333333333333326;
    const real q = ((0.0002064379004282884 * z + 0.02328863741694283) * z + 0.46149033415518675) * z + 1;
#else
    const real p = 0.0015415573f * z + 0.33333308f;
    const real q = 0.40461218f * z + 1;
#endif
    const real lifted = FN(exp_lifted)(2 * a);
    const real e = lifted * DOWN, e4 = lifted * (4 * DOWN); /* e may be subnormal where 4e is not */
    const real numerator = a < REAL(0.625, 0.625) ? a * z * p : e;
    const real denominator = a < REAL(0.625, 0.625) ? q : 1 + e;
    const real t = numerator / denominator; /* of a^3 P/Q or h */
    const real inner = a - t;
    const real h4 = e4 - e4 * t; /* e / (1 + e) = e - e e / (1 + e): the rounding of 1 + e now counts e-fold */
    const real y = a < REAL(0.625, 0.625) ? inner : 1 - 2 * t;
    *dy = a < REAL(0.625, 0.625) ? 1 - inner * inner : h4 - h4 * t;
    return M(copysign)(y, x);
}

/* y = 1 / (1 + exp(-x)), *dy = h (1 - h) with e = exp(-|x|), h = e / (1 + e): no cancellation on either side.
 * h is taken as e - e e / (1 + e), where the rounding of 1 + e counts e-fold, and is scaled down last. */
static inline real FN(sigmoid_of)(real x, real *dy)
{
    const real lifted = FN(exp_lifted)(M(fabs)(x)), e = lifted * DOWN;
    const real h_lifted = lifted - lifted * (e / (1 + e)), h = h_lifted * DOWN;
    *dy = (h_lifted - h_lifted * h) * DOWN;
    return x < 0 ? h : 1 - h;
}

/* x = 2^k (1 + u) with sqrt(1/2) <= 1 + u < sqrt(2), for x > 0; u is exact */
static inline real FN(log_split)(real x, real *k)
{
    const real root = REAL(0.70710678118654752, 0.70710678118654752), ulp_is_1 = REAL(0x1p23, 0x1p52);
    const real normal = x < REAL(0x1p-126, 0x1p-1022) ? x * UP : x;
    const real lift = x < REAL(0x1p-126, 0x1p-1022) ? LIFT : 0;
    /* counted from the bits of sqrt(1/2), the mantissa bits are those of 1 + u, and above them stands k, biased */
    const bits b = FN(to_bits)(normal) + (FN(to_bits)(1) - FN(to_bits)(root));
    const bits mantissa = b & (((bits)1 << MANTISSA_BITS) - 1);
    *k = FN(from_bits)((b >> MANTISSA_BITS) | FN(to_bits)(ulp_is_1)) - (ulp_is_1 + EXPONENT_BIAS) - lift;
    return FN(from_bits)(mantissa + FN(to_bits)(root)) - 1;
}

/* log(1 + u) - u + u^2/2, with s = u / (2 + u), being
 *
 *     log(1 + u) = 2 atanh(s) = 2s + s^3 P(s^2) = u - (u^2/2 - s (u^2/2 + s^2 P(s^2))).
 *
 * P leaves an error below 2^-30.2 (float), 2^-59.4 (double) of log(1 + u). */
static inline real FN(log_curve)(real u, real half_u2)
{
    const real s = u / (2 + u), z = s * s, z2 = z * z;
#if TGR_DOUBLE
    real p = 0.1479593501510278 * z2 + (0.15314059541550837 * z + 0.18183563644429657);
    p = p * z2 + (0.22222198593666723 * z + 0.28571428742100746);
    p = p * z2 + (0.39999999999416486 * z + 0.6666666666666734);
#else
    const real p = 0.2987096f * z2 + (0.3997758f * z + 0.66666776f);
#endif
    return s * (half_u2 + z * p);
}

/* k ln2 + log(1 + u) + tail, where the tail is small; the first product is exact, and all that follows u is small */
static inline real FN(log_sum)(real u, real k, real tail)
{
    const real half = REAL(0.5, 0.5) * u * u;
    return k * LN2_HIGH + (u - (half - (FN(log_curve)(u, half) + tail)));
}

/* y = log(x) for positive numbers x, and what it is for others: -inf at 0, NaN below */
static inline real FN(log_elsewhere)(real x, real y)
{
    y = x < (real)INFINITY ? y : x; /* inf and NaN */
    y = x == 0 ? -(real)INFINITY : y;
    return x < 0 ? (real)NAN : y;
}

/* log(x); log(1) = +0 */
static inline real FN(log_of)(real x)
{
    real k;
    const real u = FN(log_split)(x, &k);
    return FN(log_elsewhere)(x, FN(log_sum)(u, k, k * LN2_LOW));
}
