/* exp, tanh, sigmoid, log, erf and what is made of them, as straight-line code that a compiler turns into vector instructions:
 * selects, no branches.
 *
 * Largest errors found, in units in the last place (ulp) of the true value where that is a normal number, with and without
 * fused multiply-adds; float over all its values (tanh and sigmoid: all between 2^-28 and 128, samples of the others),
 * double over some 7 10^7 for each function:
 *
 *                 exp    tanh  tanh'   sigmoid  sigmoid'   log
 *     float       0.91   1.45   2.48      1.85      2.42   0.84
 *     double      0.91   1.44   2.46      1.82      2.42   0.83
 *     by table           1.67   2.86      1.63      2.86          (float with AVX-512: lookup.template.c)
 *
 * and of some 5000 values each (gelu: 40 000, silu: 2 10^6) of
 *
 *                  erf   erf'  gelu  silu  softplus  softplus'   elu  elu'
 *     float       1.19   2.00  1.42  1.74      1.44       1.33  0.74  0.78
 *     double      1.12   1.51  1.99  1.74      1.47       1.51  0.95  0.78
 *
 * The derivatives of gelu and silu have a zero, near which only the absolute error is small: 2.1 and 1.3 eps everywhere. Subnormal
 * results are off by less than one unit. The coefficients are minimax in the relative error of the whole function: Remez' exchange
 * algorithm in 50 digits, where the leading coefficients are rounded to the type first and the others fitted again. The
 * approximation errors stated below are those with the rounded coefficients. */

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

/* the upper half of the digits: products of two such numbers are exact */
#define UPPER(x) FN(from_bits)(FN(to_bits)(x) & ~REAL_BITS(0xfff, 0xffffffff))
#define REAL_BITS(single, dbl) ((bits)(TGR_DOUBLE ? (dbl) : (single)))

/* a + b rounded, and what rounding lost (Knuth) */
static inline real FN(two_sum)(real a, real b, real *low)
{
    const real sum = a + b, part = sum - a;
    *low = (a - (sum - part)) + (b - part);
    return sum;
}

/* a b - product, product being a b rounded (Dekker 1971), where the parts do not underflow */
INLINE real FN(product_rest)(real a, real b, real product)
{
#if TGR_FMA
    return M(fma)(a, b, -product);
#else
    const real a_high = UPPER(a), b_high = UPPER(b), a_low = a - a_high, b_low = b - b_high;
    return ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low;
#endif
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

/* exp(r) - 1 of x - low = m ln2 + r with integral m and |r| <= ln2/2, so that exp(x - low) = 2^m exp(r) (Cody & Waite 1980); low
 * is what x lacks of its true value. The lowest bits of *exponent are m + bias, to be shifted into the place of a number's exponent. */
INLINE real FN(expm1_reduced)(real x, real low, real bias, bits *exponent)
{
    const real shifted = (x - low) * REAL(1.4426950408889634, 1.4426950408889634) + (ROUNDER + bias);
    const real m = shifted - (ROUNDER + bias);
    const real high = x - m * LN2_HIGH; /* exact */
    *exponent = FN(to_bits)(shifted);
    return high + (FN(exp_curve)(high - m * LN2_LOW - low) - m * LN2_LOW - low); /* the parts of r apart: their sum was rounded */
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
    real y = 1 + FN(expm1_reduced)(x, 0, 2 * EXPONENT_BIAS, &exponent);
    y = FN(times_power)(y, exponent);
    y = x < REAL(-104.0, -746.0) ? 0 : y;
    return x > REAL(89.0, 710.0) ? (real)INFINITY : y;
}

/* exp(r) - 1, where 2^LIFT exp(-a - low) = (1 + it) *power for a >= 0: a normal number even where exp(-a) is subnormal; *power is 0
 * where 4 exp(-a) underflows to 0. A product x (1 + it) has one rounding less as x + x it. */
INLINE real FN(exp_lifted_parts)(real a, real low, real *power)
{
    bits exponent;
    const real most = REAL(106.0, 748.0), p = FN(expm1_reduced)(a > most ? -most : -a, low, EXPONENT_BIAS + LIFT, &exponent);
    *power = a > most ? 0 : FN(from_bits)(exponent << MANTISSA_BITS);
    return p;
}

INLINE real FN(exp_lifted)(real a, real low)
{
    real power;
    const real p = FN(exp_lifted_parts)(a, low, &power);
    return (1 + p) * power;
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
    const real lifted = FN(exp_lifted)(2 * a, 0);
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

/* 2^LIFT h, where h = e / (1 + e) with *e = exp(-|x|) is the smaller of sigmoid(x) and sigmoid(-x): no cancellation on either side.
 * h is taken as e - e e / (1 + e), where the rounding of 1 + e counts e-fold, and is to be scaled down last. */
INLINE real FN(sigmoid_lifted)(real x, real *e)
{
    const real lifted = FN(exp_lifted)(M(fabs)(x), 0);
    *e = lifted * DOWN;
    return lifted - lifted * (*e / (1 + *e));
}

/* the smaller of sigmoid(x) and sigmoid(-x); *e = exp(-|x|) */
INLINE real FN(sigmoid_tail)(real x, real *e) { return FN(sigmoid_lifted)(x, e) * DOWN; }

/* y = 1 / (1 + exp(-x)), *dy = h (1 - h) */
static inline real FN(sigmoid_of)(real x, real *dy)
{
    real e;
    const real h_lifted = FN(sigmoid_lifted)(x, &e), h = h_lifted * DOWN;
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

/* k ln2 + log(1 + u) - low, where low is small; the first product is exact, and all that follows u is small */
static inline real FN(log_sum)(real u, real k, real low)
{
    const real half = REAL(0.5, 0.5) * u * u;
    return k * LN2_HIGH + (u - (half - (FN(log_curve)(u, half) + k * LN2_LOW - low)));
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
    return FN(log_elsewhere)(x, FN(log_sum)(u, k, 0));
}

/* log(1 + e) for 0 <= e <= 1; above sqrt(2) - 1, where k = 1, e - 1 may be rounded in its last bit */
static inline real FN(log1p_unit)(real e)
{
    const int below = e < REAL(0.41421356237309503, 0.41421356237309503);
    return FN(log_sum)(below ? e : REAL(0.5, 0.5) * (e - 1), below ? 0 : 1, 0);
}

/* y = log(1 + exp(x)) = max(x, 0) + log(1 + e), *dy = sigmoid(x) */
static inline real FN(softplus_of)(real x, real *dy)
{
    real e;
    const real h = FN(sigmoid_tail)(x, &e);
    *dy = x < 0 ? h : 1 - h;
    return (x > 0 ? x : 0) + FN(log1p_unit)(e);
}

/* y = x where x >= 0, else alpha (exp(x) - 1) = alpha (2^m (exp(r) - 1) + (2^m - 1)), which keeps its digits near 0;
 * *dy = 1 where x > 0, else alpha exp(x) (Clevert, Unterthiner & Hochreiter 2016) */
static inline real FN(elu_of)(real x, real alpha, real *dy)
{
    bits exponent;
    const real least = REAL(-106.0, -748.0), b = x < least ? least : x > 0 ? 0 : x;
    const real p = FN(expm1_reduced)(b, 0, EXPONENT_BIAS + LIFT, &exponent);
    const real power_lifted = FN(from_bits)(exponent << MANTISSA_BITS), power = power_lifted * DOWN;
    *dy = x > 0 ? 1 : alpha * ((power_lifted + power_lifted * p) * DOWN);
    return x < 0 ? alpha * (power * p + (power - 1)) : x;
}

/* where a sigmoid is 0 or 1, for any argument of this size or more */
#define FAR REAL(128.0, 1024.0)

INLINE real FN(not_far)(real x) { return x < -FAR ? -FAR : x > FAR ? FAR : x; }

/* x times the tail t of a distribution where x < 0, x - x t elsewhere, from x t = (most + rest) DOWN; also of x = -0 */
INLINE real FN(gated_by_tail)(real x, real most, real rest)
{
    const real scaled = most * DOWN, scaled_rest = rest * DOWN, difference = x - scaled;
    const real lost = x > FAR ? 0 : (x - difference) - scaled;
    return M(copysign)(x < 0 ? scaled + scaled_rest : difference + (lost - scaled_rest), x);
}

/* x (1 + p) power, and what rounding lost */
INLINE real FN(times_exp)(real x, real p, real power, real *rest)
{
    const real x_power = x * power, y = x_power + x_power * p;
    *rest = (x_power - y) + x_power * p;
    return y;
}

/* y = x s with s = sigmoid(w), *dy = s (1 + x (1 - s) w'): x gated by a function w of itself, of its sign. The tail is e / (1 + e),
 * e = exp(-|w|); a remainder makes good what its quotient lost. */
INLINE real FN(gated_of)(real x, real w, real dw, real *dy)
{
    real power, x_e_rest;
    const real p = FN(exp_lifted_parts)(M(fabs)(w), 0, &power), e_lifted = (1 + p) * power;
    const real sum = 1 + e_lifted * DOWN, inverse = 1 / sum, h_lifted = e_lifted * inverse, h = h_lifted * DOWN;
    const real x_e = FN(times_exp)(x > FAR ? FAR : x, p, power, &x_e_rest), quotient = x_e * inverse, product = quotient * sum;
    const real remainder = ((x_e - product) - FN(product_rest)(quotient, sum, product)) + x_e_rest;
    const real slope = 1 + FN(not_far)(x) * (x < 0 ? 1 - h : h) * dw;
    *dy = x < 0 ? h_lifted * slope * DOWN : (1 - h) * slope;
    return FN(gated_by_tail)(x, quotient, inverse * remainder);
}

/* y = x sigmoid(x) (Hendrycks & Gimpel 2016; Elfwing, Uchibe & Doya 2018) */
static inline real FN(silu_of)(real x, real *dy) { return FN(gated_of)(x, x, 1, dy); }

/* y = x (1 + tanh(w / 2)) / 2 = x sigmoid(w), w = sqrt(8 / pi) (x + 0.044715 x^3): the approximation of gelu. In the tail to the
 * left, the rounding of w makes an error of up to 2 |w| units in the last place. */
static inline real FN(gelu_tanh_of)(real x, real *dy)
{
    const real b = FN(not_far)(x), linear = REAL(1.5957691216057308, 1.5957691216057308);
    const real cubic = REAL(0.071354816272600245, 0.071354816272600245) * b * b;
    return FN(gated_of)(x, b * (linear + cubic), linear + 3 * cubic, dy);
}

/* exp_lifted_parts of exp(-c a^2) for a >= 0, c being 1 or 1/2. The square of the upper half of a's digits is exact; what is left of
 * a^2 counts on its own, since the rounding of a^2 would make an error of c a^2 units in the last place. */
INLINE real FN(gauss_parts)(real a, real c, real *power)
{
    const real b = a > REAL(32.0, 64.0) ? REAL(32.0, 64.0) : a;
    const real head = FN(from_bits)(FN(to_bits)(b) >> (MANTISSA_BITS + 2) / 2 << (MANTISSA_BITS + 2) / 2);
    return FN(exp_lifted_parts)(c * head * head, c * (b - head) * (b + head), power);
}

/* exp(z^2) erfc(z) for z >= 0: t P(t - 9/16) with t = K / (z + K), as Shepherd & Laframboise (Math. Comp. 1981) map the half-line,
 * K = 3 (float), 4 (double); a weighted least-squares fit at Chebyshev points, in 50 digits, where the first coefficients are
 * rounded before the others are fitted again. The error is below 2^-24.6 (float, z <= 11), 2^-56.8 (double, z <= 28). */
INLINE real FN(erfcx_of)(real z)
{
    const real K = REAL(3.0, 4.0), t = K / (z + K), u = t - REAL(0.5625, 0.5625), u2 = u * u;
#if TGR_DOUBLE
    real p = -0.0007802394435958202 * u + 0.0009874475569648519;
    p = p * u2 + (0.002507761159990939 * u + -0.002728067402329622);
    p = p * u2 + (-0.005213118694227727 * u + 0.004870161461947985);
    p = p * u2 + (0.010491140371096056 * u + -0.006653414545244044);
    p = p * u2 + (-0.02266391199794522 * u + 0.0025674168653583864);
    p = p * u2 + (0.04892602969270976 * u + 0.03283989643006914);
    p = p * u2 + (-0.0801399728872551 * u + -0.17674026422661845);
    p = p * u2 + (-0.05604095733669804 * u + 0.3872988813462881);
    p = p * u2 + (1.0406173721886405 * u + 1.6343937744477361);
    p = p * u2 + (1.9249846801187198 * u + 1.8376724945457894);
    p = p * u2 + (1.4733766496526532 * u + 1.0107421500723879);
    p = p * u2 + (0.5990076675876481 * u + 0.3078220955665328);
#else
    real p = -0.012422318f;
    p = p * u2 + (0.05823794f * u + -0.0046166186f);
    p = p * u2 + (-0.14515276f * u + -0.08789177f);
    p = p * u2 + (0.26534367f * u + 0.72432166f);
    p = p * u2 + (0.99826074f * u + 0.9578337f);
    p = p * u2 + (0.69764733f * u + 0.39809665f);
#endif
    return t * p;
}

/* y = erf(x), *dy = 2 / sqrt(pi) exp(-x^2). With a = |x|: a + a P(a^2) below 1, where P leaves an error below 2^-28 (float),
 * 2^-56.3 (double); 1 - erfc(a) above. */
static inline real FN(erf_of)(real x, real *dy)
{
    const real a = M(fabs)(x), z = a * a;
#if TGR_DOUBLE
    const real z2 = z * z;
    real p = 6.684615836563969e-11 * z2 + (-1.1830460332017383e-09 * z + 1.4786513982117005e-08);
    p = p * z2 + (-1.63706330642085e-07 * z + 1.6463086593162611e-06);
    p = p * z2 + (-1.492573847256115e-05 * z + 0.00012055337776491708);
    p = p * z2 + (-0.0008548327189571041 * z + 0.005223977629095071);
    p = p * z2 + (-0.026866170645619487 * z + 0.11283791670958743);
    p = p * z2 + (-0.37612638903183876 * z + 0.1283791670955126);
#else
    const real z2 = z * z;
    real p = 7.843058e-05f * z2 + (-0.0008007018f * z + 0.0051879864f);
    p = p * z2 + (-0.026853655f * z + 0.112835824f);
    p = p * z2 + (-0.37612626f * z + 0.12837917f);
#endif
    real power;
    const real p_of_gauss = FN(gauss_parts)(a, 1, &power), gauss_lifted = (1 + p_of_gauss) * power;
    *dy = REAL(1.1283791670955126, 1.1283791670955126) * gauss_lifted * DOWN;
    return M(copysign)(a < 1 ? a + a * p : 1 - gauss_lifted * DOWN * FN(erfcx_of)(a), x);
}

/* exp(a^2 / 2) Phi(-a) for 0 <= a <= 64, and its *rest: t P(t - c) with t = K / (a + K), as Shepherd & Laframboise (Math. Comp. 1981)
 * map the half-line. Each rounding that counts is made good to first order, with the derivative of P where it concerns t. P is
 * minimax in its relative error, 2^-28.6 (float, a <= 14.5), 2^-59 (double, a <= 39), but for the rounding of its coefficients. */
INLINE real FN(mills_of)(real a, real *rest)
{
    const real K = REAL(4.25, 5.5), center = REAL(0.625, 0.4375);
    real s_low, u_low;
    const real s = FN(two_sum)(a, K, &s_low), t = K / s, t_s = t * s;
    const real t_low = ((K - t_s) - FN(product_rest)(t, s, t_s) - t * s_low) * (t * (1 / K));
    const real u = FN(two_sum)(t, -center, &u_low), u2 = u * u;
#if TGR_DOUBLE
    const real first = 0.1265133669675588, first_low = -7.62903165581705e-18;
    real q = -0.0007097815301186783 * u2 + (0.0018627848786335751 * u + -0.0005655412026780371);
    q = q * u2 + (-0.0023852439408649532 * u + 0.0006635012222455016);
    q = q * u2 + (0.003611424236749151 * u + 0.00036701979875163136);
    q = q * u2 + (-0.0057631036878115745 * u + -0.003986219966770343);
    q = q * u2 + (0.0075427281644684 * u + 0.01382909902566073);
    q = q * u2 + (-0.0011672521806919765 * u + -0.03049427767345309);
    q = q * u2 + (-0.04022115458305953 * u + 0.006490887301968857);
    q = q * u2 + (0.1183477513409492 * u + 0.26528269022146866);
    q = q * u2 + (0.3957755624536978 * u + 0.46647520671076487);
    q = q * u2 + (0.46245376936495886 * u + 0.3979739115110957);
    q = q * u2 + (0.3028308985700267 * u + 0.20615040527676895);
    const real slope = ((((2.37 * u + 2.33) * u + 1.85) * u + 1.19) * u + 0.606) * u + 0.206; /* P' */
#else
    const real first = 0.22253485f, first_low = 0;
    real q = -0.007766514f * u2 + (0.0026224097f * u + 0.031969115f);
    q = q * u2 + (0.008868728f * u + -0.07252034f);
    q = q * u2 + (-0.07374491f * u + 0.11426399f);
    q = q * u2 + (0.40474263f * u + 0.59735066f);
    q = q * u2 + (0.58214253f * u + 0.41472456f);
    const real slope = (((0.571f * u + 1.62f) * u + 1.79f) * u + 1.16f) * u + 0.415f;
#endif
    real p_low;
    const real product = u * q, p = FN(two_sum)(first, product, &p_low), y = t * p;
    p_low += first_low + FN(product_rest)(u, q, product) + slope * (u_low + t_low);
    *rest = FN(product_rest)(t, p, y) + (t * p_low + t_low * p);
    return y;
}

/* y = x Phi(x), *dy = Phi(x) + x phi(x), of the normal distribution Phi and its density phi (Hendrycks & Gimpel 2016).
 * Phi(-a) = exp(-a^2/2) mills(a) keeps its digits down to where it underflows. */
static inline real FN(gelu_of)(real x, real *dy)
{
    real power, mills_rest, scaled_rest;
    const real a = M(fabs)(x), p = FN(gauss_parts)(a, REAL(0.5, 0.5), &power), gauss_lifted = (1 + p) * power;
    const real mills = FN(mills_of)(a > REAL(32.0, 64.0) ? REAL(32.0, 64.0) : a, &mills_rest), tail_lifted = gauss_lifted * mills;
    const real scaled = FN(times_exp)(x > FAR ? FAR : x, p, power, &scaled_rest), product = scaled * mills;
    const real rest = FN(product_rest)(scaled, mills, product) + (scaled * mills_rest + scaled_rest * mills);
    const real x_phi_lifted = FN(not_far)(x) * (gauss_lifted * REAL(0.3989422804014327, 0.3989422804014327));
    *dy = x < 0 ? (tail_lifted + x_phi_lifted) * DOWN : (1 - tail_lifted * DOWN) + x_phi_lifted * DOWN;
    return FN(gated_by_tail)(x, product, rest);
}

#undef FAR
