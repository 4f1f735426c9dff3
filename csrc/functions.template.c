/* More elementary functions on the exponential and the logarithm of elementary.template.c, and on odd polynomials; selects, no
 * branches. Largest errors found, in ulp, over some 10^6 points each (grids, and random ones of all magnitudes),
 * with and without fused multiply-adds:
 *
 *                 float  double                 float  double                 float  double
 *     exp2         0.98    1.07     cosh         1.07    1.09     arcsin       0.87    0.80
 *     expm1        1.63    1.57     arcsinh      1.18    1.22     arccos       0.90    0.89
 *     log1p        0.81    0.82     arccosh      0.83    0.81     arctan       1.21    1.44
 *     log2         0.78    0.79     arctanh      1.30    1.30     rsqrt        1.48    1.49
 *     log10        0.71    0.69     sin          1.49    0.80     softsign     1.43    1.43
 *     logsigmoid   1.56    1.54     cos          1.49    0.79
 *     sinh         1.10    1.13     tan          0.76    1.32
 *
 * Polynomials are minimax as in elementary.template.c; x + x z P(z) with z = x^2 where nothing else is said, so that the rounding
 * of the polynomial counts z-fold. */

#define PI_2 REAL(0x1.921fb6p0, 0x1.921fb54442d18p0)
#define PI_2_REST REAL(-4.371139000186241e-08, 6.123233995736766e-17)
#define PI_4_HIGH REAL(0x1.921fbp-1, 0x1.921fb54442d18p-1) /* its product with 0..4 is exact */
#define PI_4_LOW REAL(1.5695823663008923e-07, 3.061616997868383e-17)

/* ---- exponentials */

/* 2^x; the product with ln2 is rounded, which counts |x - m| ln2-fold */
static inline real FN(exp2_of)(real x)
{
    const real shifted = x + (ROUNDER + 2 * EXPONENT_BIAS), m = shifted - (ROUNDER + 2 * EXPONENT_BIAS);
    const real r = (x - m) * REAL(0.6931471805599453, 0.6931471805599453);
    real y = FN(times_power)(1 + (r + FN(exp_curve)(r)), FN(to_bits)(shifted));
    y = x < REAL(-151.0, -1076.0) ? 0 : y;
    return x >= REAL(128.0, 1024.0) ? (real)INFINITY : y;
}

/* exp(x) - 1 = 2^m (exp(r) - 1) + (2^m - 1), and exp(x) where that is all of it */
static inline real FN(expm1_of)(real x)
{
    bits exponent;
    const real p = FN(expm1_reduced)(x, 0, 2 * EXPONENT_BIAS, &exponent);
    const real power = FN(from_bits)((exponent - EXPONENT_BIAS) << MANTISSA_BITS), huge = FN(times_power)(1 + p, exponent);
    real y = power * p + (power - 1);
    y = x < REAL(-18.0, -40.0) ? -1 : y;
    y = x > REAL(40.0, 100.0) ? huge : y;
    y = x > REAL(89.0, 710.0) ? (real)INFINITY : y;
    return M(copysign)(y, x);
}

/* 2^(m-1) (exp(r) + sign 2^-2m exp(-r)) for |x| = m ln2 + r: cosh(x), and |sinh(x)| from 1 on; the 1 of exp(r) is added last */
static inline real FN(half_sum_of_exps)(real a, real sign)
{
    bits m;
    const real p = FN(expm1_reduced)(a, 0, 0, &m);
    real other = FN(from_bits)((EXPONENT_BIAS - 2 * m) << MANTISSA_BITS) / (1 + p);
    other = a > REAL(10.0, 22.0) ? 0 : other;
    const real y = FN(times_power)(1 + (p + sign * other), m + (2 * EXPONENT_BIAS - 1));
    return a > REAL(90.0, 711.0) ? (real)INFINITY : y;
}

static inline real FN(sinh_of)(real x)
{
    const real z = x * x, z2 = z * z;
#if TGR_DOUBLE /* error below 2^-73 */
    real p = (2.8482329225996935e-15 * z + 7.646482901419069e-13) * z2 + (1.6059050601122575e-10 * z + 2.5052108346510667e-08);
    p = p * z2 + (2.755731922411628e-06 * z + 0.000198412698412696);
    p = p * z2 + (0.008333333333333333 * z + 0.16666666666666666);
#else /* 2^-34 */
    const real p = (2.816888e-06f * z + 0.00019836174f) * z2 + (0.00833335f * z + 0.16666667f);
#endif
    const real a = M(fabs)(x), y = a < 1 ? a + a * (z * p) : FN(half_sum_of_exps)(a, -1);
    return M(copysign)(y, x);
}

static inline real FN(cosh_of)(real x) { return FN(half_sum_of_exps)(M(fabs)(x), 1); }

/* ---- logarithms */

/* log(a + b) + k ln2 for a > 0 and a b that is small beside it */
static inline real FN(log_of_sum)(real a, real b, real k)
{
    real own;
    const real u = FN(log_split)(a, &own);
    return FN(log_sum)(u, k + own, -b / a);
}

static inline real FN(log1p_of)(real x)
{
    real low;
    const real sum = FN(two_sum)(1, x, &low);
    real y = FN(log_of_sum)(sum, low, 0);
    y = x < (real)INFINITY ? y : x; /* inf and NaN */
    y = x == -1 ? -(real)INFINITY : y;
    y = x == 0 ? x : y; /* -0 too */
    return x < -1 ? (real)NAN : y;
}

/* log(x) / log(base) from 1 / log(base) and log(2) / log(base), both in two parts, the first of so few digits that its products
 * are exact (Ng, in fdlibm) */
static inline real FN(log_to_base)(real x, real inverse_high, real inverse_low, real two_high, real two_low)
{
    real k;
    const real u = FN(log_split)(x, &k), half = REAL(0.5, 0.5) * u * u;
    const real high = UPPER(u - half), low = (u - high) - half + FN(log_curve)(u, half);
    const real whole = k * two_high, part = high * inverse_high, sum = whole + part;
    return FN(log_elsewhere)(x, sum + ((((low + high) * inverse_low + low * inverse_high) + k * two_low) + ((whole - sum) + part)));
}

#define LOG2_OF(x) FN(log_to_base)(x, REAL(0x1.714p0, 0x1.71547p0), REAL(0x1.47652cp-12, 0x1.94ae0bf85ddf4p-22), 1, 0)
#define LOG10_OF(x) \
    FN(log_to_base)(x, REAL(0x1.bcap-2, 0x1.bcb7bp-2), REAL(0x1.7b1526p-14, 0x1.526e50e32a6abp-26), \
                    REAL(0x1.344p-2, 0x1.34413509f78p-2), REAL(0x1.3509f8p-18, 0x1.fef311f12b358p-46))

/* log(1 + exp(-d)) for d >= 0 */
static inline real FN(log1p_exp)(real d)
{
    real low;
    const real sum = FN(two_sum)(1, FN(exp_of)(-d), &low);
    return FN(log_of_sum)(sum, low, 0);
}

static inline real FN(logsigmoid_of)(real x) { return (x < 0 ? x : 0) - FN(log1p_exp)(M(fabs)(x)); }

/* log(exp(a) + exp(b)); equal infinities have no difference */
static inline real FN(logaddexp_of)(real a, real b)
{
    const real d = a == b ? 0 : M(fabs)(a - b);
    return (a > b ? a : b) + FN(log1p_exp)(d);
}

/* its derivative by a, exp(a) / (exp(a) + exp(b)) */
static inline real FN(logaddexp_slope)(real a, real b)
{
    real d;
    return FN(sigmoid_of)(a == b ? 0 : a - b, &d);
}

/* From 1/2 on log(1 + a + (sqrt(1 + a^2) - 1)), of which nothing is rounded until the logarithm but the last, small, term */
static inline real FN(arcsinh_of)(real x)
{
    const real a = M(fabs)(x), z = a * a, z2 = z * z;
#if TGR_DOUBLE /* error below 2^-60 */
    real p = (0.0017180705988600724 * z - 0.004747496016600749) * z2 + (0.00746559140653095 * z - 0.009534140248577313);
    p = p * z2 + (0.011512983725545956 * z - 0.013960232233377643);
    p = p * z2 + (0.017352386957291688 * z - 0.022372138358882004);
    p = p * z2 + (0.030381943716451566 * z - 0.04464285712783399);
    p = p * z2 + (0.07499999999984422 * z - 0.1666666666666661);
#else /* 2^-29 */
    real p = -0.013238688f * z2 + (0.028170392f * z - 0.04438494f);
    p = p * z2 + (0.07498658f * z - 0.16666643f);
#endif
    const int large = a > REAL(0x1p13, 0x1p28); /* log(2a) */
    real low, lower;
    const real one = FN(two_sum)(1, a, &low), sum = FN(two_sum)(one, z / (1 + M(sqrt)(1 + z)), &lower);
    real y = FN(log_of_sum)(large ? a : sum, large ? 0 : low + lower, large ? 1 : 0);
    y = a < REAL(0.5, 0.5) ? a + a * (z * p) : y;
    y = a < (real)INFINITY ? y : a; /* inf and NaN */
    return M(copysign)(y, x);
}

/* log(x + sqrt(x^2 - 1)), the root to twice the digits, on which all depends near 1 */
static inline real FN(arccosh_of)(real x)
{
    const int large = x > REAL(0x1p13, 0x1p28); /* log(2x) */
    const real t = x - 1;
    real square_low, low, lower;
    const real square = FN(two_sum)(2 * t, t * t, &square_low), root = M(sqrt)(square), high = UPPER(root);
    const real rest = ((square - high * high) + square_low) / (root + high);
    const real most = FN(two_sum)(x, high, &low), sum = FN(two_sum)(most, rest, &lower);
    real y = FN(log_of_sum)(large ? x : sum, large ? 0 : low + lower, large ? 1 : 0);
    y = x == 1 ? 0 : y;
    y = x < (real)INFINITY ? y : x; /* inf and NaN */
    return x < 1 ? (real)NAN : y;
}

/* From 1/2 on log((1 + a) / (1 - a)) / 2, where 1 - a is exact and the quotient at least 3 */
static inline real FN(arctanh_of)(real x)
{
    const real a = M(fabs)(x), z = a * a, z2 = z * z;
#if TGR_DOUBLE /* error below 2^-60 */
    real p = (0.2405733511277065 * z + -0.19520714459631522) * z2 + (0.17427503340460937 * z + -0.005051301913042833);
    p = p * z2 + (0.05948635160685354 * z + 0.05059499507175131);
    p = p * z2 + (0.059072335004073336 * z + 0.06664505127305884);
    p = p * z2 + (0.07692439278092822 * z + 0.09090903644656335);
    p = p * z2 + (0.11111111256685494 * z + 0.14285714283410095);
    p = p * z2 + (0.20000000000018434 * z + 0.3333333333333328);
#else /* 2^-29 */
    real p = (0.1763785f * z + 0.05160436f) * z2 + (0.11816386f * z + 0.14223786f);
    p = p * z2 + (0.20002453f * z + 0.33333302f);
#endif
    const real far = REAL(0.5, 0.5) * FN(log_of)((1 + a) / (1 - a));
    return M(copysign)(a < REAL(0.5, 0.5) ? a + a * (z * p) : far, x);
}

/* ---- powers */

#if TGR_DOUBLE
INLINE double FN(general_power)(double a, double b) { return pow(a, b); }
#else
static inline uint64_t double_bits(double x)
{
    uint64_t b;
    memcpy(&b, &x, sizeof b);
    return b;
}

static inline double double_from(uint64_t b)
{
    double x;
    memcpy(&x, &b, sizeof x);
    return x;
}

/* a^b as 2^(b log2 |a|) in double, with the cases of IEEE 754: an error of 0.53 ulp. With |a| = 2^k (1 + u), s = u / (2 + u) and
 * z = s^2, log2 |a| = k + s P(z); errors of P below 2^-37.8, of 2^r below 2^-29. All selects are between doubles, or the compiler
 * finds no vector code. */
INLINE float general_power_f32(float base, float exponent)
{
    const double a = base, b = exponent, size = fabs(a), rounder = 0x1.8p52, ulp_is_1 = 0x1p52;
    const uint64_t root = 0x3fe6a09e667f3bcd, one = 0x3ff0000000000000; /* sqrt(1/2) and 1 */
    const uint64_t from_root = double_bits(size) + (one - root); /* as log_split does, of a double, where every float is normal */
    const double k = double_from(from_root >> 52 | double_bits(ulp_is_1)) - (ulp_is_1 + 1023);
    const double u = double_from((from_root & 0xfffffffffffff) + root) - 1, s = u / (2 + u), z = s * s, z2 = z * z;
    double log2 = 0.340727991547096 * z2 + (0.41167282787748133 * z + 0.5770835832514131);
    log2 = k + s * (log2 * z2 + (0.9617966733501658 * z + 2.88539008179008));
    log2 = size < INFINITY ? log2 : size; /* inf and NaN */
    log2 = size == 0 ? -INFINITY : log2;
    double to = size == 1 ? 0 : b * log2;
    to = to < -300 ? -300 : to;
    to = to > 300 ? 300 : to;
    const double shifted = to + (rounder + 1023), r = to - (shifted - (rounder + 1023)), r2 = r * r;
    double y = (0.00015345882164735644 * r2 + (0.0013399928937628302 * r + 0.009618488650633987)) * r2;
    y = (y + (0.05550328784199874 * r + 0.2402264689427818)) * r2 + (0.6931472057326558 * r + 1.0000000005533751);
    y *= double_from(double_bits(shifted) << 52);
    /* a negative base: minus where b is odd, NaN where it is no integer; from 2^24 on, all floats are even */
    const double small = fabs(b) < 0x1p24 ? b : 0, integer = small + rounder;
    const double fraction = (integer - rounder) - small, whole = fraction == 0 ? integer : rounder;
    y = double_from(double_bits(y) ^ (double_bits(whole) << 63 & double_bits(a)));
    y = (fraction != 0) & (a < 0) & (a > -INFINITY) ? NAN : y;
    y = b != b ? b : y;
    y = b == 0 ? 1 : y;
    return (float)(a == 1 ? 1 : y);
}
#endif

/* ---- sine, cosine, tangent, for |x| < FAR */

/* x = n pi/2 + r with |r| <= pi/4 or little more, up to 0.79; *n has its lowest bits. Products of n < 2^20 with the first parts of
 * pi/2, of 33 digits, are exact, and so is the first difference; of a float, two parts leave 40 digits of r and more. */
#define FAR 1e5
static inline double FN(quadrant)(real x, double *low, bits *n)
{
    const real shifted = x * REAL(0.6366197723675814, 0.6366197723675814) + ROUNDER;
    const double m = shifted - ROUNDER, first = x - m * 0x1.921fb544p+0;
    *n = FN(to_bits)(shifted);
#if TGR_DOUBLE
    double low_2, low_3;
    const double second = FN(two_sum)(first, -(m * 0x1.0b4611a6p-34), &low_2);
    const double third = FN(two_sum)(second, -(m * 0x1.3198a2ep-69), &low_3);
    return FN(two_sum)(third, (low_2 + low_3) - m * 0x1.b839a252049c1p-104, low);
#else
    *low = 0;
    return first - m * 6.077100506506192e-11;
#endif
}

/* sin(x) for turn 0, cos(x) for 1 */
static inline real FN(sin_of)(real x, bits turn)
{
    bits n;
    double low;
    const real r = (real)FN(quadrant)(x, &low, &n), z = r * r, z2 = z * z, half = REAL(0.5, 0.5) * z, most = 1 - half;
#if TGR_DOUBLE /* error below 2^-57.9 of sin, 2^-64 of cos */
    double p = (1.589621100973655e-10 * z - 2.505074745982923e-08) * z2 + (2.7557313619649656e-06 * z - 0.00019841269829585278);
    p = p * z2 + (0.008333333333322115 * z - 0.1666666666666663);
    double q = (-1.135971455078223e-11 * z + 2.087572456532987e-09) * z2 + (-2.755731436173796e-07 * z + 2.4801587289513918e-05);
    q = q * z2 + (-0.0013888888888874172 * z + 0.0416666666666666);
    const double sine = r + (r * (z * p) + low * most), cosine = most + (((1 - most) - half) + (z2 * q - r * low));
#else /* 2^-27.7, 2^-33; r is rounded to float here */
    const float p = -0.00019503126f * z2 + (0.008332073f * z - 0.16666654f);
    const float q = 2.442509e-05f * z2 + (-0.0013887254f * z + 0.041666646f);
    const float sine = r + r * (z * p), cosine = most + (((1 - most) - half) + z2 * q);
#endif
    n += turn;
    const real y = n & 1 ? cosine : sine;
    return n & 2 ? -y : y;
}

/* tan(r), or -1 / tan(r) in odd quadrants: there tan(r) is taken in two parts, the first with half the digits, and 1 / tan(r) too
 * (Ng, in fdlibm); of a float sin / cos in double */
static inline real FN(tan_of)(real x)
{
    bits n;
    double low;
    const double r = FN(quadrant)(x, &low, &n), z = r * r, z2 = z * z;
#if TGR_DOUBLE /* error below 2^-60 */
    double p = 9.714622544599947e-06 * z2 + (-2.3895643188759493e-05 * z + 4.78744208068192e-05);
    p = p * z2 + (-2.4724253089132208e-05 * z + 6.650492036673809e-05);
    p = p * z2 + (8.395150161854177e-05 * z + 0.00024359808586429238);
    p = p * z2 + (0.0005889073347059179 * z + 0.001456037028654537);
    p = p * z2 + (0.0035921020714638247 * z + 0.008863237809276336);
    p = p * z2 + (0.021869488406253842 * z + 0.053968253972651585);
    p = p * z2 + (0.13333333333325803 * z + 0.33333333333333376);
    const double rest = r * (z * p) + low * (1 + z), t = r + rest, high = UPPER(t), lower = rest - (high - r);
    const double inverse = -1 / t, upper = UPPER(inverse);
    const double odd = upper + inverse * ((1 + upper * high) + upper * lower);
    return n & 1 ? odd : t;
#else
    const double p = (2.718120896428851e-06 * z - 0.00019839312263358118) * z2 + (0.008333329305095076 * z - 0.16666666640803332);
    const double q = (-2.7210386152423026e-07 * z + 2.4799522047004153e-05) * z2 + (-0.0013888883762042952 * z + 0.041666666622936714);
    const double sine = r + r * (z * p), cosine = (1 - 0.5 * z) + z2 * q;
    return (n & 1 ? -cosine : sine) / (n & 1 ? sine : cosine);
#endif
}

/* ---- their inverses */

/* arcsin(v) - v = v *p for v = |x| up to 1/2, beyond it for v = sqrt((1 - |x|) / 2), which is high + *rest to twice the digits */
static inline real FN(arcsin_curve)(real x, real *high, real *rest, real *p)
{
    const real a = M(fabs)(x), z = a > REAL(0.5, 0.5) ? (1 - a) * REAL(0.5, 0.5) : x * x, z2 = z * z, v = M(sqrt)(z);
#if TGR_DOUBLE /* error below 2^-59 */
    real q = 0.03262885568132578 * z2 + (-0.020999522783498027 * z + 0.021707836848597475);
    q = q * z2 + (0.003706221754532218 * z + 0.010780309357826931);
    q = q * z2 + (0.01139890090229567 * z + 0.013980822070812658);
    q = q * z2 + (0.01735161187709662 * z + 0.022372214995526003);
    q = q * z2 + (0.030381942707510847 * z + 0.044642857174616725);
    q = q * z2 + (0.07499999999970797 * z + 0.1666666666666676);
#else /* 2^-27.6 */
    real q = 0.042163674f * z2 + (0.024181154f * z + 0.04547002f);
    q = q * z2 + (0.074953005f * z + 0.16666752f);
#endif
    *p = z * q;
    *high = UPPER(v);
    *rest = v == 0 ? 0 : (z - *high * *high) / (v + *high);
    return v;
}

/* beyond 1/2: pi/2 - 2 arcsin(v) */
static inline real FN(arcsin_of)(real x)
{
    real high, rest, p;
    const real v = FN(arcsin_curve)(x, &high, &rest, &p), a = M(fabs)(x);
    const real beyond = PI_2 / 2 - ((2 * v * p - (PI_2_REST - 2 * rest)) - (PI_2 / 2 - 2 * high));
    const real y = a > REAL(0.5, 0.5) ? beyond : a + a * p;
    return M(copysign)(a == 1 ? PI_2 : y, x);
}

/* pi/2 - arcsin(x), or 2 arcsin(v) above 1/2, or pi - 2 arcsin(v) below -1/2 */
static inline real FN(arccos_of)(real x)
{
    real high, rest, p;
    const real v = FN(arcsin_curve)(x, &high, &rest, &p);
    const real above = 2 * (high + (v * p + rest)), below = 2 * (PI_2 - (v + (v * p - PI_2_REST)));
    const real y = PI_2 - (x - (PI_2_REST - x * p));
    return x > REAL(0.5, 0.5) ? above : x < REAL(-0.5, -0.5) ? below : y;
}

/* arctan(numerator / denominator), where that is 0.66 at most, and eighths of the circle */
static inline real FN(turned)(real numerator, real denominator, real eighths)
{
    const real t = numerator / denominator, z = t * t, z2 = z * z;
#if TGR_DOUBLE /* error below 2^-63 */
    real p = (0.001477734034795146 * z - 0.007035016540698203) * z2 + (0.01672342208662088 * z - 0.027321356576587144);
    p = p * z2 + (0.03591696906468053 * z - 0.042164153745635334);
    p = p * z2 + (0.04729592227687113 * z - 0.05257119646207256);
    p = p * z2 + (0.05881503992048019 * z - 0.06666578335715027);
    p = p * z2 + (0.07692301060171812 * z - 0.09090908744860955);
    p = p * z2 + (0.1111111109926062 * z - 0.14285714285471185);
    p = p * z2 + (0.19999999999997461 * z - 0.33333333333333326);
#else /* 2^-30 */
    real p = -0.017824091f * z2 + (0.05163695f * z - 0.08306395f);
    p = p * z2 + (0.10968809f * z - 0.14271481f);
    p = p * z2 + (0.19999315f * z - 0.33333322f);
#endif
    return eighths * PI_4_HIGH + ((t + t * (z * p)) + eighths * PI_4_LOW);
}

/* pi/4 + arctan((a - 1) / (a + 1)) for a = |x| from 0.66 on, pi/2 - arctan(1/a) from 1 / 0.66 on */
static inline real FN(arctan_of)(real x)
{
    const real a = M(fabs)(x), most = REAL(0.66, 0.66);
    const real numerator = a > 1 / most ? -1 : a > most ? a - 1 : a, denominator = a > 1 / most ? a : a > most ? a + 1 : 1;
    return M(copysign)(FN(turned)(numerator, denominator, a > 1 / most ? 2 : a > most ? 1 : 0), x);
}

/* The angle of (x, y) with the axis of x > 0, with n and d the smaller and the larger of |x| and |y|: arctan(n/d), or
 * pi/4 + arctan((n - d) / (n + d)) where n/d > 0.66, or the difference from pi/2 where |y| is larger, or that from pi where x < 0 */
static inline real FN(arctan2_of)(real y, real x)
{
    const real ax = M(fabs)(x), ay = M(fabs)(y);
    const int steep = ay > ax, back = M(copysign)(1, x) < 0;
    const real larger = steep ? ay : ax, scale = larger > REAL(0x1p50, 0x1p100) ? REAL(0.5, 0.5) : 1; /* n + d stays finite */
    const real n = scale * (steep ? ax : ay), d = scale * larger;
    const int near = n > REAL(0.66, 0.66) * d, same = (n == d) & !near; /* zeros or infinities */
    real numerator = near ? n - d : n, eighths = near | (same & (d > 0)) ? 1 : 0;
    numerator = same ? 0 : steep != back ? -numerator : numerator;
    eighths = steep ? 2 - eighths : eighths;
    return M(copysign)(FN(turned)(numerator, near ? n + d : same ? 1 : d, back ? 4 - eighths : eighths), y);
}

/* sqrt(a^2 + b^2), scaled by a power of 2 where squares would leave the range; inf where either is, even beside NaN */
static inline real FN(hypot_of)(real a, real b)
{
    a = M(fabs)(a), b = M(fabs)(b);
    const real most = a > b ? a : b;
    const int large = most > REAL(0x1p60, 0x1p500), small = most < REAL(0x1p-40, 0x1p-450);
    const real up = large ? REAL(0x1p-70, 0x1p-600) : small ? REAL(0x1p100, 0x1p600) : 1;
    const real down = large ? REAL(0x1p70, 0x1p600) : small ? REAL(0x1p-100, 0x1p-600) : 1;
    const real y = M(sqrt)((a * up) * (a * up) + (b * up) * (b * up)) * down;
    return (a == (real)INFINITY) | (b == (real)INFINITY) ? (real)INFINITY : y;
}

/* ---- one more function, and derivatives that are quotients, computed from x; large |x| apart where a square would overflow */

static inline real FN(softsign_of)(real x)
{
    const real a = M(fabs)(x);
    return M(copysign)(a == (real)INFINITY ? 1 : a / (1 + a), x);
}

static inline real FN(softsign_derivative)(real x)
{
    const real y = 1 / (1 + M(fabs)(x));
    return y * y;
}

static inline real FN(arctan_derivative)(real x)
{
    return M(fabs)(x) > REAL(1e10, 1e10) ? (1 / x) / x : 1 / (1 + x * x);
}

static inline real FN(arcsinh_derivative)(real x)
{
    return 1 / (M(fabs)(x) > REAL(1e10, 1e10) ? M(fabs)(x) : M(sqrt)(1 + x * x));
}

#undef MANTISSA_BITS
#undef EXPONENT_BIAS
#undef LIFT
#undef ROUNDER
#undef UP
#undef DOWN
#undef LN2_HIGH
#undef LN2_LOW
#undef REAL_BITS
